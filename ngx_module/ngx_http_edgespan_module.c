
/*
 * Distributed tracing: the module and its directives.
 */


#include "ngx_http_edgespan.h"


static ngx_int_t ngx_http_edgespan_init(ngx_conf_t *cf);


#define NGX_HTTP_EDGESPAN_EVERYWHERE                                         \
    NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_HTTP_LIF_CONF


static ngx_command_t  ngx_http_edgespan_commands[] = {

    { ngx_string("otel_exporter"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_NOARGS,
      ngx_http_edgespan_exporter,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_service_name"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_edgespan_service_name,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_resource_attr"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE2,
      ngx_http_edgespan_resource_attr,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_trace"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_TAKE1,
      ngx_http_edgespan_trace,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_sampler"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_TAKE1,
      ngx_http_edgespan_sampler,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_sample_rate"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_TAKE1,
      ngx_http_edgespan_sample_rate,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_sample_target"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_1MORE,
      ngx_http_edgespan_sample_target,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_sample_limit"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_CONF_1MORE,
      ngx_http_edgespan_sample_limit,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_sample_keep"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_1MORE,
      ngx_http_edgespan_sample_keep,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_override"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_edgespan_override,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_trace_context"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_TAKE1,
      ngx_http_edgespan_trace_context,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_propagators"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_CONF_1MORE,
      ngx_http_edgespan_propagators,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_trust_context"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_CONF_TAKE1,
      ngx_http_edgespan_trust_context,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_baggage_attr"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_edgespan_baggage_attr,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_baggage_allow"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_CONF_1MORE,
      ngx_http_edgespan_baggage_allow,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_response_header"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_edgespan_response_header,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_span_name"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_TAKE1,
      ngx_http_set_complex_value_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_edgespan_loc_conf_t, span_name),
      NULL },

    { ngx_string("otel_route"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_TAKE1,
      ngx_http_set_complex_value_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_edgespan_loc_conf_t, route_value),
      NULL },

    { ngx_string("otel_span_attr"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_TAKE23,
      ngx_http_edgespan_span_attr,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_span_header"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_2MORE,
      ngx_http_edgespan_span_header,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_redact"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_1MORE,
      ngx_http_edgespan_redact,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_hash_key"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_edgespan_hash_key,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_semconv"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_edgespan_semconv,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_trace_url"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_CONF_TAKE1,
      ngx_http_edgespan_trace_url,
      NGX_HTTP_SRV_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_error_events"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_edgespan_loc_conf_t, error_events),
      NULL },

    { ngx_string("otel_compat"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_edgespan_compat,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("otel_upstream_span"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_edgespan_loc_conf_t, upstream_span),
      NULL },

    { ngx_string("otel_subrequest_span"),
      NGX_HTTP_EDGESPAN_EVERYWHERE|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_edgespan_loc_conf_t, subrequest_span),
      NULL },

    { ngx_string("otel_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS|NGX_CONF_TAKE1,
      ngx_http_edgespan_status,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_edgespan_module_ctx = {
    ngx_http_edgespan_add_variables,       /* preconfiguration */
    ngx_http_edgespan_init,                /* postconfiguration */

    ngx_http_edgespan_create_main_conf,    /* create main configuration */
    ngx_http_edgespan_init_main_conf,      /* init main configuration */

    ngx_http_edgespan_create_srv_conf,     /* create server configuration */
    ngx_http_edgespan_merge_srv_conf,      /* merge server configuration */

    ngx_http_edgespan_create_loc_conf,     /* create location configuration */
    ngx_http_edgespan_merge_loc_conf       /* merge location configuration */
};


ngx_module_t  ngx_http_edgespan_module = {
    NGX_MODULE_V1,
    &ngx_http_edgespan_module_ctx,         /* module context */
    ngx_http_edgespan_commands,            /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_edgespan_init_module,         /* init module */
    ngx_http_edgespan_init_process,        /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_edgespan_exit_process,        /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


/* realip replaces the address of the peer and keeps the real one for itself */

static ngx_int_t
ngx_http_edgespan_find_realip(ngx_conf_t *cf,
    ngx_http_edgespan_main_conf_t *mcf)
{
    ngx_uint_t  i;

    static ngx_str_t  addr = ngx_string("realip_remote_addr");
    static ngx_str_t  port = ngx_string("realip_remote_port");

    for (i = 0; cf->cycle->modules[i]; i++) {

        if (ngx_strcmp(cf->cycle->modules[i]->name, "ngx_http_realip_module")
            != 0)
        {
            continue;
        }

        mcf->realip_ctx_index = cf->cycle->modules[i]->ctx_index;
        mcf->realip_addr_index = ngx_http_get_variable_index(cf, &addr);
        mcf->realip_port_index = ngx_http_get_variable_index(cf, &port);

        if (mcf->realip_addr_index == NGX_ERROR
            || mcf->realip_port_index == NGX_ERROR)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_edgespan_init(ngx_conf_t *cf)
{
    ngx_http_edgespan_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_edgespan_module);

    if (!mcf->used) {

        /* whoever is not believed is not with OTEL_SDK_DISABLED, either */

        return mcf->strangers ? ngx_http_edgespan_add_handlers(cf) : NGX_OK;
    }

    if (ngx_http_edgespan_find_realip(cf, mcf) != NGX_OK
        || ngx_http_edgespan_add_zones(cf, mcf) != NGX_OK
        || ngx_http_edgespan_wrap_upstreams(cf, mcf) != NGX_OK
        || ngx_http_edgespan_init_status(cf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_edgespan_add_handlers(cf);
}
