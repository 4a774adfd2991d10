/* The directives of a server. */

#include "edgespan_directives.h"

#include "http_main.h"

static edgespan_server_conf_t *
server_conf(const cmd_parms *cmd)
{
    return ap_get_module_config(cmd->server->module_config, &edgespan_module);
}

/* -------------------------------------------------- exporters, resource --- */

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
    return edgespan_check(cmd, ok, &error);
}

/* Is it the rest of a header's value that lacks quotes, "header=Name:Bearer" and
 * "t0ken"? Options have other names: only what begins like one of them is shown. */
static int
is_cut_off(const char *arg, int behind_header)
{
    return behind_header && arg[strspn(arg, "abcdefghijklmnopqrstuvwxyz_")] != '=';
}

const char *
edgespan_set_exporter(cmd_parms *cmd, void *dummy, int argc, char *const argv[])
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
        return edgespan_check(cmd, false, &error);
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
            return edgespan_check(cmd, false, &error);
        }
    }
    return edgespan_check(cmd, es_exporter_finish(exporter, &error), &error);
}

const char *
edgespan_set_service_name(cmd_parms *cmd, void *dummy, const char *name)
{
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_DIR_CONTEXT);
    edgespan_server_conf_t *conf = server_conf(cmd);
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
    return edgespan_check(cmd, ok, &error);
}

const char *
edgespan_set_resource_attr(cmd_parms *cmd, void *dummy, const char *name, const char *value)
{
    const char *problem = ap_check_cmd_context(cmd, GLOBAL_ONLY);
    es_error_t error;

    (void) dummy;
    if (problem != NULL) {
        return problem;
    }
    return edgespan_check(cmd,
                          es_config_resource_attribute(edgespan_process.config, es_cstr(name),
                                                       es_cstr(value), &error),
                          &error);
}

/* -------------------------------------------------------------- context --- */

typedef bool (*set_words_pt)(es_propagation_t *propagation, const es_str_t *words, unsigned count,
                             es_error_t *error);

static const char *
set_words(cmd_parms *cmd, const char *args, set_words_pt set)
{
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_DIR_CONTEXT);
    apr_array_header_t *words;
    es_error_t error;

    if (problem != NULL || (problem = edgespan_words(cmd, args, &words)) != NULL) {
        return problem;
    }
    return edgespan_check(cmd, set(&server_conf(cmd)->propagation, EDGESPAN_WORDS(words), &error),
                          &error);
}

const char *
edgespan_set_propagators(cmd_parms *cmd, void *dummy, const char *args)
{
    (void) dummy;
    return set_words(cmd, args, es_propagation_set);
}

const char *
edgespan_set_baggage_allow(cmd_parms *cmd, void *dummy, const char *args)
{
    (void) dummy;
    return set_words(cmd, args, es_propagation_allow);
}

const char *
edgespan_set_trust_context(cmd_parms *cmd, void *dummy, const char *arg)
{
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_DIR_CONTEXT);
    const char *expression = edgespan_expression(arg);
    edgespan_server_conf_t *conf = server_conf(cmd);
    es_trust_t trust = ES_TRUST_OFF;
    es_error_t error;

    (void) dummy;
    if (problem != NULL) {
        return problem;
    }
    if (expression == NULL && !es_parse_trust(es_cstr(arg), &trust, &error)) {
        return apr_psprintf(cmd->pool,
                            "%s: invalid value \"%s\": it is \"On\", \"Off\", \"Link\" or "
                            "\"expr=\" with an expression",
                            cmd->cmd->name, arg);
    }
    conf->trust = (int) trust;
    conf->trust_choice.expr = NULL;
    return expression != NULL ? edgespan_compile_choice(cmd, expression, &conf->trust_choice)
                              : NULL;
}

/* ---------------------------------------------------------------- logs --- */

const char *
edgespan_set_trace_url(cmd_parms *cmd, void *dummy, const char *arg)
{
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_DIR_CONTEXT);
    es_error_t error;

    (void) dummy;
    if (problem != NULL) {
        return problem;
    }
    server_conf(cmd)->trace_url = arg;
    return edgespan_check(cmd, es_check_trace_url(es_cstr(arg), &error), &error);
}
