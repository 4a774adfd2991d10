/* The directives of a directory, but for those of sampling. */

#include "edgespan_directives.h"

/* A .htaccess may say Off and no more: what the administrator records is not its to
 * raise. */
const char *
edgespan_set_trace(cmd_parms *cmd, void *dir_conf, const char *arg)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_LIMIT);
    const char *expression = edgespan_expression(arg);

    if (problem != NULL) {
        return problem;
    }
    conf->trace_choice.expr = NULL;
    conf->trace = strcasecmp(arg, "Off") != 0;
    if (!conf->trace) {
        return NULL;
    }
    if (edgespan_in_htaccess(cmd)) {
        return apr_psprintf(cmd->pool, "OtelTrace: invalid value \"%s\": here it is \"Off\"", arg);
    }
    if (expression == NULL && strcasecmp(arg, "On") != 0) {
        return apr_psprintf(cmd->pool,
                            "OtelTrace: invalid value \"%s\": it is \"On\", \"Off\" or \"expr=\" "
                            "with an expression",
                            arg);
    }
    edgespan_process.used = 1;
    edgespan_process.traced = 1;
    return expression != NULL ? edgespan_compile_choice(cmd, expression, &conf->trace_choice)
                              : NULL;
}

const char *
edgespan_set_trace_context(cmd_parms *cmd, void *dir_conf, const char *arg)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_LIMIT);
    es_error_t error;
    unsigned mode;

    if (problem != NULL) {
        return problem;
    }
    if (!es_parse_trace_context(es_cstr(arg), &mode, &error)) {
        return edgespan_check(cmd, false, &error);
    }
    conf->context = (int) mode;
    if (mode != ES_CONTEXT_IGNORE) {
        edgespan_process.used = 1;
    }
    return NULL;
}

const char *
edgespan_set_response_header(cmd_parms *cmd, void *dir_conf, const char *arg)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_LIMIT);
    es_response_header_t header;
    es_error_t error;

    if (problem != NULL) {
        return problem;
    }
    if (!es_parse_response_header(es_cstr(arg), &header, &error)) {
        return edgespan_check(cmd, false, &error);
    }
    conf->response = (int) header;
    return NULL;
}

/* ---------------------------------------------------------- attributes --- */

static edgespan_attribute_t *
attribute_of(cmd_parms *cmd, edgespan_dir_conf_t *conf, const char *key)
{
    edgespan_attribute_t *attribute;

    if (conf->attributes == NULL) {
        conf->attributes = apr_array_make(cmd->pool, 4, sizeof(*attribute));
    }
    for (int i = 0; i < conf->attributes->nelts; i++) {
        attribute = &APR_ARRAY_IDX(conf->attributes, i, edgespan_attribute_t);
        if (strcmp(attribute->key, key) == 0) {
            return attribute;
        }
    }
    attribute = apr_array_push(conf->attributes);
    attribute->key = key;
    return attribute;
}

/* The core asks at the end of the configuration whether there is a key for hashes: too
 * late for a .htaccess. */
static const char *
parse_type(cmd_parms *cmd, const char *key, const char *word, es_attribute_type_t *type)
{
    es_error_t error;

    if (word != NULL && strcasecmp(word, "hash") == 0 && edgespan_in_htaccess(cmd)) {
        return "OtelSpanAttr: the type \"hash\" is not for a .htaccess file";
    }
    return edgespan_check(
        cmd, es_attribute_type(edgespan_process.config, es_cstr(key), es_cstr(word), type, &error),
        &error);
}

/* The list of a section replaces its parent's; in one section the last value of
 * a key counts. */
const char *
edgespan_set_span_attr(cmd_parms *cmd, void *dir_conf, const char *key, const char *value,
                       const char *type)
{
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_LIMIT);
    edgespan_attribute_t *attribute;
    es_error_t error;

    if (problem != NULL) {
        return problem;
    }
    if (!es_check_attribute_key(es_cstr(key), &error)) {
        return edgespan_check(cmd, false, &error);
    }
    attribute = attribute_of(cmd, dir_conf, key);
    problem = parse_type(cmd, key, type, &attribute->type);
    return problem != NULL ? problem : edgespan_compile_string(cmd, value, &attribute->value);
}

/* ---------------------------------------------------- lists of words --- */

/* Likewise, but that the words of one section add up. */
static const char *
enter_list(cmd_parms *cmd, const char *args, apr_array_header_t **list, int size,
           apr_array_header_t **words)
{
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_LIMIT);

    if (problem == NULL) {
        problem = edgespan_words(cmd, args, words);
    }
    if (problem == NULL && *list == NULL) {
        *list = apr_array_make(cmd->pool, 4, size);
    }
    return problem;
}

const char *
edgespan_set_baggage_attr(cmd_parms *cmd, void *dir_conf, const char *args)
{
    edgespan_dir_conf_t *conf = dir_conf;
    apr_array_header_t *words;
    const char *problem = enter_list(cmd, args, &conf->baggage_keys, sizeof(es_str_t), &words);
    es_error_t error;

    for (int i = 0; problem == NULL && i < words->nelts; i++) {
        problem = edgespan_check(
            cmd, es_check_baggage_key(APR_ARRAY_IDX(words, i, es_str_t), &error), &error);
    }
    if (problem == NULL) {
        apr_array_cat(conf->baggage_keys, words);
    }
    return problem;
}

const char *
edgespan_set_span_header(cmd_parms *cmd, void *dir_conf, const char *args)
{
    const char *side = ap_getword_conf(cmd->pool, &args);
    const bool response = strcasecmp(side, "response") == 0;
    const es_pool_t pool = edgespan_pool(cmd->pool);
    edgespan_dir_conf_t *conf = dir_conf;
    apr_array_header_t *names;
    const char *problem = enter_list(cmd, args, &conf->captures, sizeof(es_capture_t), &names);
    es_error_t error;

    if (!response && strcasecmp(side, "request") != 0) {
        return apr_psprintf(cmd->pool, "OtelSpanHeader: \"%s\" is not \"request\" or \"response\"",
                            side);
    }
    for (int i = 0; problem == NULL && i < names->nelts; i++) {
        problem = edgespan_check(cmd,
                                 es_capture_set(apr_array_push(conf->captures), response,
                                                APR_ARRAY_IDX(names, i, es_str_t), &pool, &error),
                                 &error);
    }
    return problem;
}

/* Of several lines the last that names a kind counts for it. */
const char *
edgespan_set_redact(cmd_parms *cmd, void *dir_conf, const char *args)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const es_redaction_t before = conf->redaction;
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_LIMIT);
    apr_array_header_t *words;
    es_error_t error;

    if (problem != NULL || (problem = edgespan_words(cmd, args, &words)) != NULL) {
        return problem;
    }
    memset(&conf->redaction, 0, sizeof(conf->redaction));
    problem = edgespan_check(cmd, es_redaction_set(&conf->redaction, EDGESPAN_WORDS(words), &error),
                             &error);
    es_redaction_inherit(&conf->redaction, &before);
    return problem;
}
