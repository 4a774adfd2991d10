/* The directives of a directory, but for those of sampling. */

#include "edgespan_directives.h"

const char *
edgespan_set_trace(cmd_parms *cmd, void *dir_conf, const char *arg)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = edgespan_enter(cmd, conf);
    const char *expression = edgespan_expression(arg);

    if (problem != NULL) {
        return problem;
    }
    if (strcasecmp(arg, "Off") == 0) {
        conf->trace = EDGESPAN_TRACE_OFF;
        return NULL;
    }
    if (strcasecmp(arg, "On") == 0) {
        conf->trace = EDGESPAN_TRACE_ON;
    } else if (expression != NULL && edgespan_is_variable(expression)) {
        conf->trace = EDGESPAN_TRACE_VALUE;
        problem = edgespan_compile_string(cmd, expression, &conf->trace_expr);
    } else if (expression != NULL) {
        conf->trace = EDGESPAN_TRACE_CONDITION;
        problem = edgespan_compile(cmd, expression, &conf->trace_expr);
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

const char *
edgespan_set_trace_context(cmd_parms *cmd, void *dir_conf, const char *arg)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = edgespan_enter(cmd, conf);
    es_error_t error;
    unsigned mode;

    if (problem != NULL) {
        return problem;
    }
    if (!es_parse_trace_context(es_cstr(arg), &mode, &error)) {
        return edgespan_refuse(cmd, &error);
    }
    conf->context = (int) mode;
    if (mode != ES_CONTEXT_IGNORE) {
        edgespan_process.used = 1;
    }
    return NULL;
}

const char *
edgespan_set_span_name(cmd_parms *cmd, void *dir_conf, const char *arg)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = edgespan_enter(cmd, conf);

    return problem != NULL ? problem : edgespan_compile_string(cmd, arg, &conf->span_name);
}

/* The list of a section replaces its parent's; in one section the last value of
 * a key counts. */
const char *
edgespan_set_span_attr(cmd_parms *cmd, void *dir_conf, const char *key, const char *value)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = edgespan_enter(cmd, conf);
    edgespan_attribute_t *attribute;
    es_error_t error;

    if (problem != NULL) {
        return problem;
    }
    if (!es_check_attribute_key(es_cstr(key), &error)) {
        return edgespan_refuse(cmd, &error);
    }
    if (conf->attributes == NULL) {
        conf->attributes = apr_array_make(cmd->pool, 4, sizeof(edgespan_attribute_t));
    }
    for (int i = 0; i < conf->attributes->nelts; i++) {
        attribute = &APR_ARRAY_IDX(conf->attributes, i, edgespan_attribute_t);
        if (strcmp(attribute->key, key) == 0) {
            return edgespan_compile_string(cmd, value, &attribute->value);
        }
    }
    attribute = apr_array_push(conf->attributes);
    attribute->key = key;
    return edgespan_compile_string(cmd, value, &attribute->value);
}

const char *
edgespan_set_upstream_span(cmd_parms *cmd, void *dir_conf, int on)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = edgespan_enter(cmd, conf);

    conf->upstream_span = on;
    return problem;
}

/* Likewise, but that the keys of one section add up. */
const char *
edgespan_set_baggage_attr(cmd_parms *cmd, void *dir_conf, const char *args)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = edgespan_enter(cmd, conf);
    apr_array_header_t *words;
    es_error_t error;

    if (problem != NULL || (problem = edgespan_words(cmd, args, &words)) != NULL) {
        return problem;
    }
    for (int i = 0; i < words->nelts; i++) {
        if (!es_check_baggage_key(APR_ARRAY_IDX(words, i, es_str_t), &error)) {
            return edgespan_refuse(cmd, &error);
        }
    }
    if (conf->baggage_keys == NULL) {
        conf->baggage_keys = words;
    } else {
        apr_array_cat(conf->baggage_keys, words);
    }
    return NULL;
}

const char *
edgespan_set_response_header(cmd_parms *cmd, void *dir_conf, const char *arg)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = edgespan_enter(cmd, conf);
    es_response_header_t header;
    es_error_t error;

    if (problem != NULL) {
        return problem;
    }
    if (!es_parse_response_header(es_cstr(arg), &header, &error)) {
        return edgespan_refuse(cmd, &error);
    }
    conf->response = (int) header;
    return NULL;
}
