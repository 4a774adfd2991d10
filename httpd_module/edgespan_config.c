/* Directives. Values are checked by the core, in the same words for both
 * servers; httpd adds the file and the line. */

#include "mod_edgespan.h"

#include "apr_fnmatch.h"
#include "http_main.h"

#define EXPR_PREFIX "expr="

void *
edgespan_create_dir_config(apr_pool_t *p, char *path)
{
    edgespan_dir_conf_t *conf = apr_pcalloc(p, sizeof(*conf));

    (void) path;
    conf->context = EDGESPAN_UNSET;
    conf->upstream_span = EDGESPAN_UNSET;
    conf->threshold = ES_THRESHOLD_DEFAULT;
    return conf;
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
    if (!add->rate_set) {
        conf->rate_set = base->rate_set;
        conf->threshold = base->threshold;
        conf->rate_expr = base->rate_expr;
    }
    if (add->context == EDGESPAN_UNSET) {
        conf->context = base->context;
    }
    if (add->span_name == NULL) {
        conf->span_name = base->span_name;
    }
    if (add->attributes == NULL) {
        conf->attributes = base->attributes;
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

    return apr_pmemdup(p, add->resource_set ? add : base, sizeof(*add));
}

/* -------------------------------------------------------------- common --- */

static const char *
refuse(cmd_parms *cmd, const es_error_t *error)
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

/* What every directive of a directory does first. */
static const char *
enter(cmd_parms *cmd, edgespan_dir_conf_t *conf)
{
    const char *route = location_route(cmd);

    if (route != NULL) {
        conf->route = route;
    }
    return ap_check_cmd_context(cmd, NOT_IN_LIMIT);
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

static const char *
compile_string(cmd_parms *cmd, const char *text, ap_expr_info_t **expr)
{
    return compile(cmd, text, AP_EXPR_FLAG_STRING_RESULT, expr);
}

/* -------------------------------------------------------------- server --- */

static const char *
set_exporter_header(cmd_parms *cmd, es_exporter_config_t *exporter, const char *header, int file)
{
    const char *colon = strchr(header, ':'), *value;
    es_error_t error;
    es_str_t name;
    bool ok;

    /* The text may hold a secret: it is not shown. */
    if (colon == NULL) {
        return file ? "OtelExporter: \"header_file\" takes Name:path"
                    : "OtelExporter: \"header\" takes Name:value";
    }
    for (value = colon + 1; *value == ' '; value++) {
    }
    name = es_str(header, (size_t) (colon - header));
    ok = file ? es_exporter_header_file(exporter, name, es_cstr(value), &error)
              : es_exporter_header(exporter, name, es_cstr(value), &error);
    return ok ? NULL : refuse(cmd, &error);
}

/* Is it the rest of a header's value that lacks quotes, "header=Name:Bearer" and
 * "t0ken"? Options have other names: only what begins like one of them is shown. */
static int
is_cut_off(const char *arg, int behind_header)
{
    return behind_header && arg[strspn(arg, "abcdefghijklmnopqrstuvwxyz_")] != '=';
}

static const char *
set_exporter(cmd_parms *cmd, void *dummy, int argc, char *const argv[])
{
    const char *problem = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    es_exporter_config_t *exporter;
    int behind_header = 0;
    es_error_t error;

    (void) dummy;
    if (problem != NULL) {
        return problem;
    }
    if (argc == 0) {
        return "OtelExporter takes a URL and any number of key=value";
    }
    if (!es_config_directory(edgespan_process.config, es_cstr(ap_server_root), &error)
        || !es_config_exporter(edgespan_process.config, &exporter, &error)
        || !es_exporter_option(exporter, ES_STR("endpoint"), es_cstr(argv[0]), &error)) {
        return refuse(cmd, &error);
    }
    for (int i = 1; i < argc; i++) {
        const char *equals = strchr(argv[i], '=');
        int file, header;

        if (is_cut_off(argv[i], behind_header)) {
            return "OtelExporter: a header with blanks takes quotes: \"header=Name:a value\"";
        }
        if (equals == NULL) {
            return apr_psprintf(cmd->pool, "OtelExporter: \"%s\" is not key=value", argv[i]);
        }
        file = strncmp(argv[i], "header_file=", sizeof("header_file=") - 1) == 0;
        header = strncmp(argv[i], "header=", sizeof("header=") - 1) == 0;
        behind_header = header;
        if (file || header) {
            if ((problem = set_exporter_header(cmd, exporter, equals + 1, file)) != NULL) {
                return problem;
            }
        } else if (!es_exporter_option(exporter, es_str(argv[i], (size_t) (equals - argv[i])),
                                       es_cstr(equals + 1), &error)) {
            return refuse(cmd, &error);
        }
    }
    return es_exporter_finish(exporter, &error) ? NULL : refuse(cmd, &error);
}

static const char *
set_service_name(cmd_parms *cmd, void *dummy, const char *name)
{
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_DIR_CONTEXT);
    edgespan_server_conf_t *conf =
        ap_get_module_config(cmd->server->module_config, &edgespan_module);
    es_error_t error;
    bool ok;

    (void) dummy;
    if (problem != NULL) {
        return problem;
    }
    ok = cmd->server->is_virtual
             ? es_config_resource(edgespan_process.config, es_cstr(name), &conf->resource, &error)
             : es_config_service_name(edgespan_process.config, es_cstr(name), &error);
    conf->resource_set = 1;
    return ok ? NULL : refuse(cmd, &error);
}

static const char *
set_resource_attr(cmd_parms *cmd, void *dummy, const char *name, const char *value)
{
    const char *problem = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    es_error_t error;

    (void) dummy;
    if (problem != NULL) {
        return problem;
    }
    if (!es_config_resource_attribute(edgespan_process.config, es_cstr(name), es_cstr(value),
                                      &error)) {
        return refuse(cmd, &error);
    }
    return NULL;
}

/* ----------------------------------------------------------- directory --- */

/* A lone %{variable} is a value; whatever else has an operator in it. */
static int
is_variable(const char *text)
{
    const char *end = strchr(text, '}');

    return strncmp(text, "%{", 2) == 0 && end != NULL && end[1] == '\0';
}

static const char *
set_trace(cmd_parms *cmd, void *dir_conf, const char *arg)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = enter(cmd, conf);

    if (problem != NULL) {
        return problem;
    }
    if (strcasecmp(arg, "Off") == 0) {
        conf->trace = EDGESPAN_TRACE_OFF;
        return NULL;
    }
    if (strcasecmp(arg, "On") == 0) {
        conf->trace = EDGESPAN_TRACE_ON;
    } else if (strncmp(arg, EXPR_PREFIX, sizeof(EXPR_PREFIX) - 1) == 0) {
        arg += sizeof(EXPR_PREFIX) - 1;
        conf->trace = is_variable(arg) ? EDGESPAN_TRACE_VALUE : EDGESPAN_TRACE_CONDITION;
        problem = conf->trace == EDGESPAN_TRACE_VALUE ? compile_string(cmd, arg, &conf->trace_expr)
                                                      : compile(cmd, arg, 0, &conf->trace_expr);
    } else {
        return apr_psprintf(cmd->pool,
                            "OtelTrace: invalid value \"%s\": it is \"On\", \"Off\" or \"expr=\" "
                            "with an expression",
                            arg);
    }
    edgespan_process.used = 1;
    edgespan_process.traced = 1;
    return problem;
}

static const char *
set_sample_rate(cmd_parms *cmd, void *dir_conf, const char *arg)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = enter(cmd, conf);
    es_error_t error;

    if (problem != NULL) {
        return problem;
    }
    conf->rate_set = 1;
    conf->rate_expr = NULL;
    if (strncmp(arg, EXPR_PREFIX, sizeof(EXPR_PREFIX) - 1) == 0) {
        return compile_string(cmd, arg + sizeof(EXPR_PREFIX) - 1, &conf->rate_expr);
    }
    return es_parse_sample_rate(es_cstr(arg), &conf->threshold, &error) ? NULL
                                                                        : refuse(cmd, &error);
}

static const char *
set_trace_context(cmd_parms *cmd, void *dir_conf, const char *arg)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = enter(cmd, conf);
    es_error_t error;
    unsigned mode;

    if (problem != NULL) {
        return problem;
    }
    if (!es_parse_trace_context(es_cstr(arg), &mode, &error)) {
        return refuse(cmd, &error);
    }
    conf->context = (int) mode;
    if (mode != ES_CONTEXT_IGNORE) {
        edgespan_process.used = 1;
    }
    return NULL;
}

static const char *
set_span_name(cmd_parms *cmd, void *dir_conf, const char *arg)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = enter(cmd, conf);

    return problem != NULL ? problem : compile_string(cmd, arg, &conf->span_name);
}

/* The list of a section replaces its parent's; in one section the last value of
 * a key counts. */
static const char *
set_span_attr(cmd_parms *cmd, void *dir_conf, const char *key, const char *value)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = enter(cmd, conf);
    edgespan_attribute_t *attribute;
    es_error_t error;

    if (problem != NULL) {
        return problem;
    }
    if (!es_check_attribute_key(es_cstr(key), &error)) {
        return refuse(cmd, &error);
    }
    if (conf->attributes == NULL) {
        conf->attributes = apr_array_make(cmd->pool, 4, sizeof(edgespan_attribute_t));
    }
    for (int i = 0; i < conf->attributes->nelts; i++) {
        attribute = &APR_ARRAY_IDX(conf->attributes, i, edgespan_attribute_t);
        if (strcmp(attribute->key, key) == 0) {
            return compile_string(cmd, value, &attribute->value);
        }
    }
    attribute = apr_array_push(conf->attributes);
    attribute->key = key;
    return compile_string(cmd, value, &attribute->value);
}

static const char *
set_upstream_span(cmd_parms *cmd, void *dir_conf, int on)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = enter(cmd, conf);

    conf->upstream_span = on;
    return problem;
}

#define ANYWHERE (RSRC_CONF | ACCESS_CONF)

const command_rec edgespan_commands[] = {
    AP_INIT_TAKE_ARGV("OtelExporter", set_exporter, NULL, RSRC_CONF,
                      "where spans go: a URL, then any of endpoint=, protocol=, interval=, "
                      "batch_size=, queue_size=, timeout=, shutdown_timeout=, compression=, "
                      "header=Name:value, header_file=Name:path, trusted_certificate=, "
                      "client_certificate=, client_certificate_key=, ssl_verify=, spool=, "
                      "spool_max="),
    AP_INIT_TAKE1("OtelServiceName", set_service_name, NULL, RSRC_CONF,
                  "the service.name of this server's spans"),
    AP_INIT_TAKE2("OtelResourceAttr", set_resource_attr, NULL, RSRC_CONF,
                  "the name and the value of an attribute of every resource"),
    AP_INIT_TAKE1("OtelTrace", set_trace, NULL, ANYWHERE,
                  "trace requests: On, Off (the default) or expr= and an expression"),
    AP_INIT_TAKE1("OtelSampleRate", set_sample_rate, NULL, ANYWHERE,
                  "the share of requests to record, as 0.1 or 10%, or expr= and an expression"),
    AP_INIT_TAKE1("OtelTraceContext", set_trace_context, NULL, ANYWHERE,
                  "trace context headers: propagate, extract, inject or ignore"),
    AP_INIT_TAKE1("OtelSpanName", set_span_name, NULL, ANYWHERE,
                  "the span's name instead of \"{method} {route}\", with %{variables}"),
    AP_INIT_TAKE2("OtelSpanAttr", set_span_attr, NULL, ANYWHERE,
                  "the name and the value of a span attribute, with %{variables}"),
    AP_INIT_FLAG("OtelUpstreamSpan", set_upstream_span, NULL, ANYWHERE,
                 "a span for the upstream of a proxied request: On (the default) or Off"),

    /* Beside core's: httpd calls both. */
    AP_INIT_RAW_ARGS("SetHandler", edgespan_set_handler, NULL, OR_FILEINFO,
                     EDGESPAN_STATUS_HANDLER ": what tracing did so far"),
    {NULL},
};
