/* Levels of the configuration, and the table of directives. */

#include "edgespan_directives.h"

#include "apr_fnmatch.h"

void *
edgespan_create_dir_config(apr_pool_t *p, char *path)
{
    edgespan_dir_conf_t *conf = apr_pcalloc(p, sizeof(*conf));

    (void) path;
    conf->context = EDGESPAN_UNSET;
    conf->upstream_span = EDGESPAN_UNSET;
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

    if (add->trace == EDGESPAN_TRACE_UNSET) {
        conf->trace = base->trace;
        conf->trace_expr = base->trace_expr;
    }
    es_sampling_inherit(&conf->sampling, &base->sampling);
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
    if (add->baggage_keys == NULL) {
        conf->baggage_keys = base->baggage_keys;
    }
    if (add->response == EDGESPAN_UNSET) {
        conf->response = base->response;
    }
    if (add->upstream_span == EDGESPAN_UNSET) {
        conf->upstream_span = base->upstream_span;
    }
    if (add->route == NULL) {
        conf->route = base->route;
    }
    if (add->status == EDGESPAN_STATUS_UNSET) {
        conf->status = base->status;
    }
    return conf;
}

void *
edgespan_create_server_config(apr_pool_t *p, server_rec *s)
{
    (void) s;
    return apr_pcalloc(p, sizeof(edgespan_server_conf_t));
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
    if (add->trusted == EDGESPAN_TRUST_UNSET) {
        conf->trusted = base->trusted;
        conf->trust = base->trust;
        conf->trust_expr = base->trust_expr;
    }
    return conf;
}

/* -------------------------------------------------------------- common --- */

const char *
edgespan_refuse(cmd_parms *cmd, const es_error_t *error)
{
    return apr_pstrcat(cmd->pool, cmd->cmd->name, ": ", error->text, NULL);
}

/* <Location "/api"> as a route, "/api/" and a star: it matches what is below,
 * too. A pattern stands for itself. NULL outside of <Location>. */
static const char *
location_route(const cmd_parms *cmd)
{
    const ap_directive_t *section = cmd->directive->parent;
    const char *args, *path;
    apr_size_t len;

    while (section != NULL && strcasecmp(section->directive, "<Location") != 0
           && strcasecmp(section->directive, "<LocationMatch") != 0) {
        section = section->parent;
    }
    if (section == NULL) {
        return NULL;
    }

    len = strlen(section->args);
    args = apr_pstrmemdup(cmd->pool, section->args,
                          len != 0 && section->args[len - 1] == '>' ? len - 1 : len);
    path = ap_getword_conf(cmd->pool, &args);

    if (strcasecmp(section->directive, "<LocationMatch") == 0) {
        return path;
    }
    if (strcmp(path, "~") == 0) {
        return ap_getword_conf(cmd->pool, &args);
    }
    if (apr_fnmatch_test(path)) {
        return path;
    }
    len = strlen(path);
    return apr_pstrcat(cmd->pool, path, len != 0 && path[len - 1] == '/' ? "*" : "/*", NULL);
}

const char *
edgespan_enter(cmd_parms *cmd, edgespan_dir_conf_t *conf)
{
    const char *route = location_route(cmd);

    if (route != NULL) {
        conf->route = route;
    }
    return ap_check_cmd_context(cmd, NOT_IN_LIMIT);
}

const char *
edgespan_expression(const char *arg)
{
    static const char prefix[] = "expr=";

    return strncmp(arg, prefix, sizeof(prefix) - 1) == 0 ? arg + sizeof(prefix) - 1 : NULL;
}

int
edgespan_is_variable(const char *text)
{
    const char *end = strchr(text, '}');

    return strncmp(text, "%{", 2) == 0 && end != NULL && end[1] == '\0';
}

static const char *
compile(cmd_parms *cmd, const char *text, unsigned int flags, ap_expr_info_t **expr)
{
    const char *error = NULL;

    *expr = ap_expr_parse_cmd(cmd, text, flags | AP_EXPR_FLAG_DONT_VARY, &error, NULL);
    if (error == NULL) {
        return NULL;
    }
    return apr_psprintf(cmd->pool, "%s: invalid expression \"%s\": %s", cmd->cmd->name, text,
                        error);
}

const char *
edgespan_compile(cmd_parms *cmd, const char *text, ap_expr_info_t **expr)
{
    return compile(cmd, text, 0, expr);
}

const char *
edgespan_compile_string(cmd_parms *cmd, const char *text, ap_expr_info_t **expr)
{
    return compile(cmd, text, AP_EXPR_FLAG_STRING_RESULT, expr);
}

const char *
edgespan_words(cmd_parms *cmd, const char *args, apr_array_header_t **words)
{
    *words = apr_array_make(cmd->pool, 4, sizeof(es_str_t));
    while (*args != '\0') {
        *(es_str_t *) apr_array_push(*words) = es_cstr(ap_getword_conf(cmd->pool, &args));
    }
    if ((*words)->nelts == 0) {
        return apr_pstrcat(cmd->pool, cmd->cmd->name,
                           " takes at least one argument: ", cmd->cmd->errmsg, NULL);
    }
    return NULL;
}

/* ---------------------------------------------------------- directives --- */

#define ANYWHERE (RSRC_CONF | ACCESS_CONF)

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
    AP_INIT_TAKE1("OtelOverride", edgespan_set_override, NULL, RSRC_CONF,
                  "a file of rates for incidents, looked at once a second"),
    AP_INIT_RAW_ARGS("OtelPropagators", edgespan_set_propagators, NULL, RSRC_CONF,
                     "formats of context headers, in order: tracecontext, baggage, b3, b3multi, "
                     "jaeger, xray; or none"),
    AP_INIT_RAW_ARGS("OtelBaggageAllow", edgespan_set_baggage_allow, NULL, RSRC_CONF,
                     "keys of baggage that are sent on, or none"),
    AP_INIT_TAKE1("OtelTrustContext", edgespan_set_trust_context, NULL, RSRC_CONF,
                  "whose context is believed: On (the default), Off, Link or expr= and an "
                  "expression"),
    AP_INIT_TAKE1("OtelTrace", edgespan_set_trace, NULL, ANYWHERE,
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
    AP_INIT_TAKE1("OtelSpanName", edgespan_set_span_name, NULL, ANYWHERE,
                  "the span's name instead of \"{method} {route}\", with %{variables}"),
    AP_INIT_TAKE2("OtelSpanAttr", edgespan_set_span_attr, NULL, ANYWHERE,
                  "the name and the value of a span attribute, with %{variables}"),
    AP_INIT_RAW_ARGS("OtelBaggageAttr", edgespan_set_baggage_attr, NULL, ANYWHERE,
                     "keys of the caller's baggage that become span attributes"),
    AP_INIT_TAKE1("OtelResponseHeader", edgespan_set_response_header, NULL, ANYWHERE,
                  "tell the client its trace: Off (the default), traceresponse or server-timing"),
    AP_INIT_FLAG("OtelUpstreamSpan", edgespan_set_upstream_span, NULL, ANYWHERE,
                 "a span for the upstream of a proxied request: On (the default) or Off"),

    /* Beside core's: httpd calls both. */
    AP_INIT_RAW_ARGS("SetHandler", edgespan_set_handler, NULL, OR_FILEINFO,
                     EDGESPAN_STATUS_HANDLER ": what tracing did so far"),
    {NULL},
};
