/* The directives of sampling. */

#include "edgespan_directives.h"

#include "apr_lib.h"

/* "httpd.conf:42", for OTEL_DECISION. */
static const char *
place(const cmd_parms *cmd)
{
    return apr_psprintf(cmd->pool, "%s:%d", apr_filepath_name_get(cmd->directive->filename),
                        cmd->directive->line_num);
}

const char *
edgespan_set_sampler(cmd_parms *cmd, void *dir_conf, const char *name)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_LIMIT);
    es_error_t error;

    if (problem != NULL) {
        return problem;
    }
    return edgespan_check(
        cmd, es_sampling_sampler(&conf->sampling, es_cstr(name), place(cmd), &error), &error);
}

const char *
edgespan_set_sample_rate(cmd_parms *cmd, void *dir_conf, const char *arg)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_LIMIT);
    const char *expression = edgespan_expression(arg);
    es_error_t error;

    if (problem != NULL) {
        return problem;
    }
    conf->rate_expr = NULL;
    if (!es_sampling_rate(&conf->sampling, es_cstr(expression == NULL ? arg : NULL), place(cmd),
                          &error)) {
        return edgespan_check(cmd, false, &error);
    }
    return expression != NULL ? edgespan_compile_string(cmd, expression, &conf->rate_expr) : NULL;
}

typedef bool (*set_words_pt)(es_config_t *config, es_sampling_t *sampling, const es_str_t *words,
                             unsigned count, const char *place, es_error_t *error);

static const char *
set_words(cmd_parms *cmd, edgespan_dir_conf_t *conf, const char *args, set_words_pt set)
{
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_LIMIT);
    apr_array_header_t *words;
    es_error_t error;

    if (problem != NULL || (problem = edgespan_words(cmd, args, &words)) != NULL) {
        return problem;
    }
    return edgespan_check(
        cmd,
        set(edgespan_process.config, &conf->sampling, EDGESPAN_WORDS(words), place(cmd), &error),
        &error);
}

const char *
edgespan_set_sample_target(cmd_parms *cmd, void *dir_conf, const char *args)
{
    return set_words(cmd, dir_conf, args, es_sampling_target);
}

const char *
edgespan_set_sample_limit(cmd_parms *cmd, void *dir_conf, const char *args)
{
    const char *problem = ap_check_cmd_context(cmd, NOT_IN_DIR_CONTEXT);

    return problem != NULL ? problem : set_words(cmd, dir_conf, args, es_sampling_limit);
}

/* Of several lines the last counts, as everywhere in httpd; to the core they would
 * add up. */
const char *
edgespan_set_sample_keep(cmd_parms *cmd, void *dir_conf, const char *args)
{
    edgespan_dir_conf_t *conf = dir_conf;
    const es_sampling_t before = conf->sampling;
    const char *problem;

    memset(&conf->sampling, 0, sizeof(conf->sampling));
    problem = set_words(cmd, conf, args, es_sampling_keep);
    es_sampling_inherit(&conf->sampling, &before);
    return problem;
}
