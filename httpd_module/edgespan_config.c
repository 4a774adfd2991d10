/* Levels of the configuration, and the table of directives. */

#include "edgespan_directives.h"

#include "http_main.h"

void *
edgespan_create_dir_config(apr_pool_t *p, char *path)
{
    edgespan_dir_conf_t *conf = apr_pcalloc(p, sizeof(*conf));

    (void) path;
    conf->trace = EDGESPAN_UNSET;
    conf->context = EDGESPAN_UNSET;
    conf->upstream_span = EDGESPAN_UNSET;
    conf->subrequest_span = EDGESPAN_UNSET;
    conf->response = EDGESPAN_UNSET;
    return conf;
}

/* An expression goes with the rate that it is: it counts where that does. */
static ap_expr_info_t *
varying_rate(const edgespan_dir_conf_t *conf, const edgespan_dir_conf_t *base,
             const edgespan_dir_conf_t *add)
{
    if (!(conf->sampling.given & ES_GIVEN_RATE)) {
        return NULL;
    }
    return add->sampling.given & ES_GIVEN_RATE ? add->rate_expr : base->rate_expr;
}

void *
edgespan_merge_dir_config(apr_pool_t *p, void *base_conf, void *add_conf)
{
    const edgespan_dir_conf_t *base = base_conf, *add = add_conf;
    edgespan_dir_conf_t *conf = apr_pmemdup(p, add, sizeof(*add));

    if (add->trace == EDGESPAN_UNSET) {
        conf->trace = base->trace;
        conf->trace_choice = base->trace_choice;
    }
    es_sampling_inherit(&conf->sampling, &base->sampling);
    es_redaction_inherit(&conf->redaction, &base->redaction);
    conf->rate_expr = varying_rate(conf, base, add);
    if (add->context == EDGESPAN_UNSET) {
        conf->context = base->context;
    }
    if (add->span_name == NULL) {
        conf->span_name = base->span_name;
    }
    if (add->attributes == NULL) {
        conf->attributes = base->attributes;
    }
    if (add->captures == NULL) {
        conf->captures = base->captures;
    }
    if (add->baggage_keys == NULL) {
        conf->baggage_keys = base->baggage_keys;
    }
    if (add->response == EDGESPAN_UNSET) {
        conf->response = base->response;
    }
    if (add->upstream_span == EDGESPAN_UNSET) {
        conf->upstream_span = base->upstream_span;
    }
    if (add->subrequest_span == EDGESPAN_UNSET) {
        conf->subrequest_span = base->subrequest_span;
    }
    if (add->route == NULL) {
        conf->route = base->route;
    }
    if (add->location == NULL) {
        conf->location = base->location;
    }
    if (add->status == EDGESPAN_STATUS_UNSET) {
        conf->status = base->status;
    }
    return conf;
}

void *
edgespan_create_server_config(apr_pool_t *p, server_rec *s)
{
    edgespan_server_conf_t *conf = apr_pcalloc(p, sizeof(*conf));

    (void) s;
    conf->trust = EDGESPAN_UNSET;
    return conf;
}

void *
edgespan_merge_server_config(apr_pool_t *p, void *base_conf, void *add_conf)
{
    const edgespan_server_conf_t *base = base_conf, *add = add_conf;
    edgespan_server_conf_t *conf = apr_pmemdup(p, add, sizeof(*add));

    if (!add->resource_set) {
        conf->resource = base->resource;
    }
    es_propagation_inherit(&conf->propagation, &base->propagation);
    if (add->trust == EDGESPAN_UNSET) {
        conf->trust = base->trust;
        conf->trust_choice = base->trust_choice;
    }
    if (add->trace_url == NULL) {
        conf->trace_url = base->trace_url;
    }
    return conf;
}

/* -------------------------------------------------------------- routes --- */

/* <Location "/api"> as a route, "/api/" and a star: it matches what is below, too. A
 * pattern stands for itself. */
static const char *
route_of(apr_pool_t *p, const core_dir_config *section)
{
    apr_size_t len = strlen(section->d);

    if (section->r != NULL || section->d_is_fnmatch) {
        return section->d;
    }
    return apr_pstrcat(p, section->d, len != 0 && section->d[len - 1] == '/' ? "*" : "/*", NULL);
}

/* httpd gives a section our part only if one of our directives stands in it. A virtual
 * host's list has the sections of the main server, too. */
void
edgespan_name_locations(apr_pool_t *p, const server_rec *s)
{
    for (; s != NULL; s = s->next) {
        const core_server_config *core = ap_get_core_module_config(s->module_config);

        for (int i = 0; i < core->sec_url->nelts; i++) {
            ap_conf_vector_t *section = APR_ARRAY_IDX(core->sec_url, i, ap_conf_vector_t *);
            edgespan_dir_conf_t *conf = ap_get_module_config(section, &edgespan_module);

            if (conf == NULL) {
                conf = edgespan_create_dir_config(p, NULL);
                ap_set_module_config(section, &edgespan_module, conf);
            }
            if (conf->location == NULL) {
                conf->location = route_of(p, ap_get_core_module_config(section));
            }
        }
    }
}

/* -------------------------------------------------------------- common --- */

const char *
edgespan_check(cmd_parms *cmd, bool ok, const es_error_t *error)
{
    return ok ? NULL : apr_pstrcat(cmd->pool, cmd->cmd->name, ": ", error->text, NULL);
}

const char *
edgespan_expression(const char *arg)
{
    static const char prefix[] = "expr=";

    return strncmp(arg, prefix, sizeof(prefix) - 1) == 0 ? arg + sizeof(prefix) - 1 : NULL;
}

/* A .htaccess is not to read files that its author cannot. */
static const char *
compile(cmd_parms *cmd, const char *text, unsigned int flags, ap_expr_info_t **expr)
{
    const char *error = NULL;

    if (edgespan_in_htaccess(cmd)) {
        flags |= AP_EXPR_FLAG_RESTRICTED;
    }
    *expr = ap_expr_parse_cmd(cmd, text, flags | AP_EXPR_FLAG_DONT_VARY, &error, NULL);
    if (error == NULL) {
        return NULL;
    }
    return apr_psprintf(cmd->pool, "%s: invalid expression \"%s\": %s", cmd->cmd->name, text,
                        error);
}

const char *
edgespan_compile_string(cmd_parms *cmd, const char *text, ap_expr_info_t **expr)
{
    return compile(cmd, text, AP_EXPR_FLAG_STRING_RESULT, expr);
}

/* A lone %{variable} is a value; whatever else has an operator in it. */
static int
is_variable(const char *text)
{
    const char *end = strchr(text, '}');

    return strncmp(text, "%{", 2) == 0 && end != NULL && end[1] == '\0';
}

const char *
edgespan_compile_choice(cmd_parms *cmd, const char *text, edgespan_choice_t *choice)
{
    choice->condition = !is_variable(text);
    return compile(cmd, text, choice->condition ? 0 : AP_EXPR_FLAG_STRING_RESULT, &choice->expr);
}

const char *
edgespan_words(cmd_parms *cmd, const char *args, apr_array_header_t **words)
{
    *words = apr_array_make(cmd->pool, 4, sizeof(es_str_t));
    while (*args != '\0') {
        APR_ARRAY_PUSH(*words, es_str_t) = es_cstr(ap_getword_conf(cmd->pool, &args));
    }
    if ((*words)->nelts == 0) {
        return apr_pstrcat(cmd->pool, cmd->cmd->name,
                           " takes at least one argument: ", cmd->cmd->errmsg, NULL);
    }
    return NULL;
}

/* --------------------------------------------------------------- kinds --- */

static void *
field(const cmd_parms *cmd, void *dir_conf)
{
    return (char *) dir_conf + (apr_size_t) cmd->info;
}

const char *
edgespan_set_flag(cmd_parms *cmd, void *dir_conf, int on)
{
    *(int *) field(cmd, dir_conf) = on;
    return ap_check_cmd_context(cmd, NOT_IN_LIMIT);
}

/* Unlike httpd's own way with one argument, this takes an empty one: as it is without
 * the directive. */
const char *
edgespan_set_string(cmd_parms *cmd, void *dir_conf, const char *args)
{
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_LIMIT);
    const int given = *args != '\0';
    const char *arg = ap_getword_conf(cmd->pool, &args);

    if (problem != NULL) {
        return problem;
    }
    if (!given || *args != '\0') {
        return apr_pstrcat(cmd->pool, cmd->cmd->name, " takes one argument, ", cmd->cmd->errmsg,
                           NULL);
    }
    return edgespan_compile_string(cmd, arg, field(cmd, dir_conf));
}

const char *
edgespan_set_word(cmd_parms *cmd, void *dummy, const char *word)
{
    const char *problem = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    edgespan_word_pt set = (edgespan_word_pt) cmd->info;
    es_config_t *config = edgespan_process.config;
    es_error_t error;

    (void) dummy;
    if (problem != NULL) {
        return problem;
    }
    return edgespan_check(cmd,
                          es_config_directory(config, es_cstr(ap_server_root), &error)
                              && set(config, es_cstr(word), &error),
                          &error);
}

/* ---------------------------------------------------------- directives --- */

#define ANYWHERE (RSRC_CONF | ACCESS_CONF)

/* What a span of the place says is its author's, in a .htaccess, too. What raises the
 * number of spans, says where they go, whom to believe or what is hidden, is the
 * administrator's. */
#define ALSO_IN_HTACCESS (ANYWHERE | OR_FILEINFO)

#define FIELD(name) (void *) APR_OFFSETOF(edgespan_dir_conf_t, name)

const command_rec edgespan_commands[] = {
    AP_INIT_TAKE_ARGV("OtelExporter", edgespan_set_exporter, NULL, RSRC_CONF,
                      "where spans go: a URL, then any of endpoint=, protocol=, interval=, "
                      "batch_size=, queue_size=, timeout=, shutdown_timeout=, compression=, "
                      "header=Name:value, header_file=Name:path, trusted_certificate=, "
                      "client_certificate=, client_certificate_key=, ssl_verify=, spool=, "
                      "spool_max="),
    AP_INIT_TAKE1("OtelServiceName", edgespan_set_service_name, NULL, RSRC_CONF,
                  "the service.name of this server's spans"),
    AP_INIT_TAKE2("OtelResourceAttr", edgespan_set_resource_attr, NULL, RSRC_CONF,
                  "the name and the value of an attribute of every resource"),
    AP_INIT_TAKE1("OtelOverride", edgespan_set_word, (void *) es_config_override, RSRC_CONF,
                  "a file of rates for incidents, looked at once a second"),
    AP_INIT_TAKE1("OtelHashKey", edgespan_set_word, (void *) es_config_hash_key, RSRC_CONF,
                  "a file with the key of attributes of the type hash"),
    AP_INIT_TAKE1("OtelSemconv", edgespan_set_word, (void *) es_config_semconv, RSRC_CONF,
                  "names of attributes: stable (the default), old or both"),
    AP_INIT_RAW_ARGS("OtelPropagators", edgespan_set_propagators, NULL, RSRC_CONF,
                     "formats of context headers, in order: tracecontext, baggage, b3, b3multi, "
                     "jaeger, xray; or none"),
    AP_INIT_RAW_ARGS("OtelBaggageAllow", edgespan_set_baggage_allow, NULL, RSRC_CONF,
                     "keys of baggage that are sent on, or none"),
    AP_INIT_TAKE1("OtelTrustContext", edgespan_set_trust_context, NULL, RSRC_CONF,
                  "whose context is believed: On (the default), Off, Link or expr= and an "
                  "expression"),
    AP_INIT_TAKE1("OtelTraceUrl", edgespan_set_trace_url, NULL, RSRC_CONF,
                  "the page of a trace for OTEL_TRACE_URL, with {trace_id}, {span_id}"),
    AP_INIT_TAKE1("OtelTrace", edgespan_set_trace, NULL, ALSO_IN_HTACCESS,
                  "trace requests: On, Off (the default) or expr= and an expression"),
    AP_INIT_TAKE1("OtelSampleRate", edgespan_set_sample_rate, NULL, ANYWHERE,
                  "the share of requests to record, as 0.1 or 10%, or expr= and an expression"),
    AP_INIT_TAKE1("OtelSampler", edgespan_set_sampler, NULL, ANYWHERE,
                  "who decides, by the names of OTEL_TRACES_SAMPLER"),
    AP_INIT_RAW_ARGS("OtelSampleTarget", edgespan_set_sample_target, NULL, ANYWHERE,
                     "a rate that follows the load: 50r/s, then any of min=1% and max=100%"),
    AP_INIT_RAW_ARGS("OtelSampleLimit", edgespan_set_sample_limit, NULL, RSRC_CONF,
                     "no more than that: 100r/s, then burst=10 if need be"),
    AP_INIT_RAW_ARGS("OtelSampleKeep", edgespan_set_sample_keep, NULL, ANYWHERE,
                     "recorded at the end after all: off, or any of error, slow=1s, status=429 "
                     "and limit=20r/s"),
    AP_INIT_TAKE1("OtelTraceContext", edgespan_set_trace_context, NULL, ANYWHERE,
                  "trace context headers: propagate, extract, inject or ignore"),
    AP_INIT_RAW_ARGS("OtelSpanName", edgespan_set_string, FIELD(span_name), ALSO_IN_HTACCESS,
                     "the span's name instead of \"{method} {route}\", with %{variables}"),
    AP_INIT_RAW_ARGS("OtelRoute", edgespan_set_string, FIELD(route), ALSO_IN_HTACCESS,
                     "the route instead of the path of <Location>, with %{variables}"),
    AP_INIT_TAKE23("OtelSpanAttr", edgespan_set_span_attr, NULL, ALSO_IN_HTACCESS,
                   "the name and the value of a span attribute, with %{variables}, then its "
                   "type: string (the default), int, double, bool or hash"),
    AP_INIT_RAW_ARGS("OtelSpanHeader", edgespan_set_span_header, NULL, ALSO_IN_HTACCESS,
                     "request or response, then names of headers that become span attributes"),
    AP_INIT_RAW_ARGS("OtelRedact", edgespan_set_redact, NULL, ANYWHERE,
                     "what is hidden: any of query=key, header=name and "
                     "client_address=/24,/48"),
    AP_INIT_RAW_ARGS("OtelBaggageAttr", edgespan_set_baggage_attr, NULL, ALSO_IN_HTACCESS,
                     "keys of the caller's baggage that become span attributes"),
    AP_INIT_TAKE1("OtelResponseHeader", edgespan_set_response_header, NULL, ANYWHERE,
                  "tell the client its trace: Off (the default), traceresponse or server-timing"),
    AP_INIT_FLAG("OtelUpstreamSpan", edgespan_set_flag, FIELD(upstream_span), ANYWHERE,
                 "a span for each try of an upstream: On (the default) or Off"),
    AP_INIT_FLAG("OtelSubrequestSpan", edgespan_set_flag, FIELD(subrequest_span), ANYWHERE,
                 "a span for each subrequest that runs: On (the default) or Off"),

    /* Beside core's: httpd calls both. */
    AP_INIT_RAW_ARGS("SetHandler", edgespan_set_handler, NULL, OR_FILEINFO,
                     EDGESPAN_STATUS_HANDLER ": what tracing did so far"),
    {NULL},
};
