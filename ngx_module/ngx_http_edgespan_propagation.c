
/*
 * The directives of the context, and whom to believe.
 */


#include "ngx_http_edgespan.h"


typedef bool (*ngx_http_edgespan_propagation_pt)(es_propagation_t *propagation,
    const es_str_t *words, unsigned count, es_error_t *error);


static char *
ngx_http_edgespan_set_propagation(ngx_conf_t *cf, es_propagation_t *propagation,
    ngx_uint_t given, ngx_http_edgespan_propagation_pt set)
{
    es_str_t    *words;
    unsigned     count;
    es_error_t   error;

    if (given) {
        return "is duplicate";
    }

    words = ngx_http_edgespan_words(cf, &count);
    if (words == NULL) {
        return NGX_CONF_ERROR;
    }

    if (!set(propagation, words, count, &error)) {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    return NGX_CONF_OK;
}


char *
ngx_http_edgespan_propagators(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_srv_conf_t *scf = conf;

    return ngx_http_edgespan_set_propagation(cf, &scf->propagation,
                                             scf->propagation.given,
                                             es_propagation_set);
}


char *
ngx_http_edgespan_baggage_allow(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_srv_conf_t *scf = conf;

    return ngx_http_edgespan_set_propagation(cf, &scf->propagation,
                                             scf->propagation.allow_given,
                                             es_propagation_allow);
}


char *
ngx_http_edgespan_baggage_attr(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_loc_conf_t *lcf = conf;

    es_str_t    *words;
    unsigned     count;
    es_error_t   error;
    ngx_uint_t   i;

    if (lcf->baggage_attrs.count != 0) {
        return "is duplicate";
    }

    words = ngx_http_edgespan_words(cf, &count);
    if (words == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < count; i++) {
        if (!es_check_baggage_key(words[i], &error)) {
            return ngx_http_edgespan_refuse(cf, &error);
        }
    }

    lcf->baggage_attrs.names = words;
    lcf->baggage_attrs.count = count;

    return NGX_CONF_OK;
}


char *
ngx_http_edgespan_response_header(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_edgespan_loc_conf_t *lcf = conf;

    ngx_str_t             *value;
    es_error_t             error;
    es_response_header_t   header;

    if (lcf->response_header != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (!es_parse_response_header(ngx_http_edgespan_str(&value[1]), &header,
                                  &error))
    {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    lcf->response_header = header;

    return NGX_CONF_OK;
}


char *
ngx_http_edgespan_trust_context(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_srv_conf_t *scf = conf;

    ngx_str_t                      *value;
    es_error_t                      error;
    es_trust_t                      trust;
    ngx_http_edgespan_main_conf_t  *mcf;

    if (scf->trust != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_http_script_variables_count(&value[1]) != 0) {
        scf->trust_variable = ngx_http_edgespan_compile(cf, &value[1]);
        if (scf->trust_variable == NULL) {
            return NGX_CONF_ERROR;
        }

        trust = ES_TRUST_OFF;

    } else if (!es_parse_trust(ngx_http_edgespan_str(&value[1]), &trust,
                               &error))
    {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    scf->trust = trust;

    /* what is not believed is removed, whether a place is traced or not */

    if (trust != ES_TRUST_ON) {
        mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_edgespan_module);
        mcf->used = 1;
        mcf->strangers = 1;
    }

    return NGX_CONF_OK;
}


static es_trust_t
ngx_http_edgespan_evaluate_trust(ngx_http_request_t *r,
    ngx_http_edgespan_srv_conf_t *scf)
{
    es_str_t    text;
    es_trust_t  trust;
    es_error_t  error;

    if (scf->trust_variable == NULL) {
        return scf->trust;
    }

    if (ngx_http_edgespan_complex(r, scf->trust_variable, &text) == NGX_OK
        && es_parse_trust(text, &trust, &error))
    {
        return trust;
    }

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "edgespan: the variable of \"otel_trust_context\" is neither "
                  "\"on\", \"off\" nor \"link\", the caller is not believed");

    return ES_TRUST_OFF;
}


/*
 * Whether the caller is believed.  That does not change while a request lasts,
 * whatever becomes of a variable.  Without a context it is only looked at.
 */

es_trust_t
ngx_http_edgespan_trust(ngx_http_request_t *r, ngx_http_edgespan_ctx_t *ctx)
{
    ngx_http_edgespan_srv_conf_t  *scf;

    scf = ngx_http_get_module_srv_conf(r, ngx_http_edgespan_module);

    if (ctx == NULL) {
        return ngx_http_edgespan_evaluate_trust(r, scf);
    }

    if (ctx->trace->joined) {
        return ctx->trace->trust;
    }

    ctx = ctx->main;

    if (!ctx->trust_known) {
        ctx->trust = ngx_http_edgespan_evaluate_trust(r, scf);
        ctx->trust_known = 1;
    }

    return ctx->trust;
}
