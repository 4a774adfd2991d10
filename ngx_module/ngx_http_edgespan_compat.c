
/*
 * otel_compat: what is not said is as in ngx_otel_module.
 */


#include "ngx_http_edgespan.h"


char *
ngx_http_edgespan_compat(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_main_conf_t *mcf = conf;

    ngx_str_t  *value;

    if (mcf->compat) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "ngx_otel_module") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"%V\" directive, "
                           "it must be \"ngx_otel_module\"",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    mcf->compat = 1;

    return NGX_CONF_OK;
}


/*
 * As if http{} said it: spans have the names of locations, the context of
 * callers is left alone, their decision does not count, and there are no spans
 * but those of requests.
 */

ngx_int_t
ngx_http_edgespan_init_compat(ngx_conf_t *cf,
    ngx_http_edgespan_main_conf_t *mcf)
{
    es_str_t                       sampler;
    es_error_t                     error;
    ngx_http_edgespan_loc_conf_t  *lcf;

    static ngx_str_t  name = ngx_string("$otel_location");

    lcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_edgespan_module);

    if (lcf->span_name == NULL) {
        lcf->span_name = ngx_http_edgespan_compile(cf, &name);
        if (lcf->span_name == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_conf_init_uint_value(lcf->context, ES_CONTEXT_IGNORE);
    ngx_conf_init_value(lcf->upstream_span, 0);
    ngx_conf_init_value(lcf->subrequest_span, 0);

    if (!(lcf->sampling.given & ES_GIVEN_SAMPLER)) {
        sampler = lcf->sampling.given & (ES_GIVEN_RATE|ES_GIVEN_TARGET)
                  ? ES_STR("traceidratio") : ES_STR("always_on");

        if (!es_sampling_sampler(&lcf->sampling, sampler, NULL, &error)) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", error.text);
            return NGX_ERROR;
        }
    }

    if (!mcf->semconv
        && !es_config_semconv(mcf->config, ES_STR("old"), &error))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", error.text);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * The old names do not do it alone: it asks other places of nginx for some of
 * the values, and has nothing of ours.
 */

void
ngx_http_edgespan_set_compat(ngx_http_request_t *r, es_http_t *http)
{
    off_t                          sent;
    ngx_connection_t              *c;
    ngx_http_core_loc_conf_t      *clcf;
    ngx_http_core_srv_conf_t      *cscf;
    ngx_http_edgespan_loc_conf_t  *lcf;

    c = r->connection;
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);
    cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);
    lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);

    http->method = ngx_http_edgespan_str(&r->method_name);
    http->target = ngx_http_edgespan_str(&r->unparsed_uri);

    if (lcf->route_value == NULL) {
        http->route = ngx_http_edgespan_str(&clcf->name);
    }

    if (r->http_protocol.len == 0) {
        http->protocol_version = ES_STR_NONE;
    }

    http->host = ngx_http_edgespan_str(cscf->server_name.len
                                       ? &cscf->server_name
                                       : &r->headers_in.server);

    if (ngx_connection_local_sockaddr(c, NULL, 0) == NGX_OK) {
        http->server_port = ngx_inet_get_port(c->local_sockaddr);
    }

    http->client_address = ES_STR_NONE;
    http->peer_address = ngx_http_edgespan_str(&c->addr_text);
    http->peer_port = ngx_inet_get_port(c->sockaddr);

    http->request_body_size = r->headers_in.content_length_n;

    sent = c->sent - (off_t) r->header_size;
    http->response_body_size = sent > 0 ? sent : 0;

    http->status = r->err_status ? r->err_status : r->headers_out.status;

    http->error_type = ES_STR_NONE;
    http->no_error_type = true;
    http->reason = ES_STR_NONE;
    http->cache_status = ES_STR_NONE;
    http->grpc = false;
    http->timeline = NULL;
}
