
/*
 * What a place records: the directives, and a rate that is each request's own.
 */


#include "ngx_http_edgespan.h"


/* "nginx.conf:42": where the directive stands that is being read */

static char *
ngx_http_edgespan_place(ngx_conf_t *cf)
{
    u_char     *place, *p;
    ngx_str_t   name;

    name = cf->conf_file->file.name;

    for (p = name.data + name.len; p > name.data && p[-1] != '/'; p--) {
        /* void */
    }

    name.len -= p - name.data;
    name.data = p;

    place = ngx_pnalloc(cf->pool, name.len + 1 + NGX_INT_T_LEN + 1);
    if (place == NULL) {
        return NULL;
    }

    ngx_sprintf(place, "%V:%ui%Z", &name, cf->conf_file->line);

    return (char *) place;
}


char *
ngx_http_edgespan_sampler(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_loc_conf_t *lcf = conf;

    ngx_str_t   *value;
    es_error_t   error;

    if (lcf->sampling.given & ES_GIVEN_SAMPLER) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (!es_sampling_sampler(&lcf->sampling, ngx_http_edgespan_str(&value[1]),
                             ngx_http_edgespan_place(cf), &error))
    {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    return NGX_CONF_OK;
}


char *
ngx_http_edgespan_sample_rate(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_loc_conf_t *lcf = conf;

    es_str_t     text;
    ngx_str_t   *value;
    es_error_t   error;

    if (lcf->sampling.given & ES_GIVEN_RATE) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_http_script_variables_count(&value[1]) != 0) {
        lcf->sample_rate = ngx_http_edgespan_compile(cf, &value[1]);
        if (lcf->sample_rate == NULL) {
            return NGX_CONF_ERROR;
        }

        text = ES_STR_NONE;

    } else {
        text = ngx_http_edgespan_str(&value[1]);
    }

    if (!es_sampling_rate(&lcf->sampling, text, ngx_http_edgespan_place(cf),
                          &error))
    {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    return NGX_CONF_OK;
}


typedef bool (*ngx_http_edgespan_sampling_pt)(es_config_t *config,
    es_sampling_t *sampling, const es_str_t *words, unsigned count,
    const char *place, es_error_t *error);


static char *
ngx_http_edgespan_set_sampling(ngx_conf_t *cf, es_sampling_t *sampling,
    ngx_uint_t given, ngx_http_edgespan_sampling_pt set)
{
    es_str_t                       *words;
    unsigned                        count;
    es_error_t                      error;
    ngx_http_edgespan_main_conf_t  *mcf;

    if (sampling->given & given) {
        return "is duplicate";
    }

    words = ngx_http_edgespan_words(cf, &count);
    if (words == NULL) {
        return NGX_CONF_ERROR;
    }

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_edgespan_module);

    if (!set(mcf->config, sampling, words, count, ngx_http_edgespan_place(cf),
             &error))
    {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    return NGX_CONF_OK;
}


char *
ngx_http_edgespan_sample_target(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_edgespan_loc_conf_t *lcf = conf;

    return ngx_http_edgespan_set_sampling(cf, &lcf->sampling, ES_GIVEN_TARGET,
                                          es_sampling_target);
}


char *
ngx_http_edgespan_sample_limit(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_loc_conf_t *lcf = conf;

    return ngx_http_edgespan_set_sampling(cf, &lcf->sampling, ES_GIVEN_LIMIT,
                                          es_sampling_limit);
}


char *
ngx_http_edgespan_sample_keep(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_loc_conf_t *lcf = conf;

    return ngx_http_edgespan_set_sampling(cf, &lcf->sampling, ES_GIVEN_KEEP,
                                          es_sampling_keep);
}


char *
ngx_http_edgespan_override(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_main_conf_t *mcf = conf;

    ngx_str_t   *value;
    es_error_t   error;

    if (mcf->override) {
        return "is duplicate";
    }

    mcf->override = 1;

    value = cf->args->elts;

    if (!es_config_directory(mcf->config,
                             ngx_http_edgespan_str(&cf->cycle->conf_prefix),
                             &error)
        || !es_config_override(mcf->config, ngx_http_edgespan_str(&value[1]),
                               &error))
    {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    return NGX_CONF_OK;
}


uint64_t
ngx_http_edgespan_threshold(ngx_http_request_t *r,
    ngx_http_edgespan_loc_conf_t *lcf)
{
    es_str_t    text;
    uint64_t    threshold;
    es_error_t  error;

    if (lcf->sample_rate == NULL) {
        return ES_THRESHOLD_DEFAULT;
    }

    if (ngx_http_edgespan_complex(r, lcf->sample_rate, &text) == NGX_OK
        && es_parse_sample_rate(text, &threshold, &error))
    {
        return threshold;
    }

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "edgespan: the variable of \"otel_sample_rate\" is no rate, "
                  "nothing is sampled");

    return ES_THRESHOLD_NEVER;
}
