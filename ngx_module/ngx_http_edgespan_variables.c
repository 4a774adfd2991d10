
/*
 * $otel_trace_id and the like.  None is cacheable: subrequests share the
 * variables of their parent.
 */


#include "ngx_http_edgespan.h"


enum {
    NGX_HTTP_EDGESPAN_TRACE_ID,
    NGX_HTTP_EDGESPAN_SPAN_ID,
    NGX_HTTP_EDGESPAN_PARENT_ID,
    NGX_HTTP_EDGESPAN_PARENT_SAMPLED,
    NGX_HTTP_EDGESPAN_SAMPLED,
    NGX_HTTP_EDGESPAN_TRACE_FLAGS,
    NGX_HTTP_EDGESPAN_TRACEPARENT,
    NGX_HTTP_EDGESPAN_UPSTREAM_SPAN_ID
};


#define NGX_HTTP_EDGESPAN_BAGGAGE  "otel_baggage_"


static ngx_int_t ngx_http_edgespan_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_edgespan_decision_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_edgespan_url_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_edgespan_location_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_edgespan_baggage_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);


static ngx_http_variable_t  ngx_http_edgespan_vars[] = {

    { ngx_string("otel_trace_id"), NULL, ngx_http_edgespan_variable,
      NGX_HTTP_EDGESPAN_TRACE_ID, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("otel_span_id"), NULL, ngx_http_edgespan_variable,
      NGX_HTTP_EDGESPAN_SPAN_ID, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("otel_parent_id"), NULL, ngx_http_edgespan_variable,
      NGX_HTTP_EDGESPAN_PARENT_ID, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("otel_parent_sampled"), NULL, ngx_http_edgespan_variable,
      NGX_HTTP_EDGESPAN_PARENT_SAMPLED, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("otel_sampled"), NULL, ngx_http_edgespan_variable,
      NGX_HTTP_EDGESPAN_SAMPLED, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("otel_trace_flags"), NULL, ngx_http_edgespan_variable,
      NGX_HTTP_EDGESPAN_TRACE_FLAGS, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("otel_traceparent"), NULL, ngx_http_edgespan_variable,
      NGX_HTTP_EDGESPAN_TRACEPARENT, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("otel_upstream_span_id"), NULL, ngx_http_edgespan_variable,
      NGX_HTTP_EDGESPAN_UPSTREAM_SPAN_ID, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("otel_decision"), NULL, ngx_http_edgespan_decision_variable,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("otel_trace_url"), NULL, ngx_http_edgespan_url_variable,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("otel_location"), NULL, ngx_http_edgespan_location_variable,
      0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string(NGX_HTTP_EDGESPAN_BAGGAGE), NULL,
      ngx_http_edgespan_baggage_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE|NGX_HTTP_VAR_PREFIX, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_edgespan_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_edgespan_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_edgespan_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    u_char                   *p;
    es_trace_t               *trace;
    ngx_uint_t                asks;
    ngx_http_edgespan_ctx_t  *ctx;
    ngx_http_edgespan_leg_t  *leg;

    switch (data) {

    case NGX_HTTP_EDGESPAN_SAMPLED:
    case NGX_HTTP_EDGESPAN_TRACE_FLAGS:
    case NGX_HTTP_EDGESPAN_TRACEPARENT:
        asks = NGX_HTTP_EDGESPAN_ASKS_DECISION;
        break;

    case NGX_HTTP_EDGESPAN_UPSTREAM_SPAN_ID:
        asks = NGX_HTTP_EDGESPAN_ASKS_CONTEXT;
        break;

    default:
        asks = NGX_HTTP_EDGESPAN_ASKS_IDS;
    }

    ctx = ngx_http_edgespan_joined_ctx(r, asks);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    trace = ctx->trace;
    leg = NULL;

    p = ngx_pnalloc(r->pool, ES_TRACEPARENT_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = p;

    if (data == NGX_HTTP_EDGESPAN_TRACEPARENT
        || data == NGX_HTTP_EDGESPAN_UPSTREAM_SPAN_ID)
    {
        leg = ngx_http_edgespan_get_leg(r, ctx);
        if (leg == NULL) {
            return NGX_ERROR;
        }
    }

    switch (data) {

    case NGX_HTTP_EDGESPAN_TRACE_ID:
        v->len = 2 * ES_TRACE_ID_LEN;
        es_hex((char *) p, trace->span.trace_id, ES_TRACE_ID_LEN);
        break;

    case NGX_HTTP_EDGESPAN_SPAN_ID:
        v->len = 2 * ES_SPAN_ID_LEN;
        es_hex((char *) p, trace->span.span_id, ES_SPAN_ID_LEN);
        break;

    case NGX_HTTP_EDGESPAN_PARENT_ID:
        if (!trace->has_parent) {
            v->valid = 0;
            v->not_found = 1;
            break;
        }

        v->len = 2 * ES_SPAN_ID_LEN;
        es_hex((char *) p, trace->parent.span_id, ES_SPAN_ID_LEN);
        break;

    case NGX_HTTP_EDGESPAN_PARENT_SAMPLED:
        v->len = 1;
        *p = trace->has_parent && (trace->parent.flags & ES_FLAG_SAMPLED)
             ? '1' : '0';
        break;

    case NGX_HTTP_EDGESPAN_SAMPLED:
        es_trace_seal(trace);
        v->len = 1;
        *p = es_trace_sampled(trace) ? '1' : '0';
        break;

    case NGX_HTTP_EDGESPAN_TRACE_FLAGS:
        es_trace_seal(trace);
        v->len = 2;
        es_hex((char *) p, &trace->span.flags, 1);
        break;

    case NGX_HTTP_EDGESPAN_TRACEPARENT:
        es_trace_seal(trace);
        v->len = ES_TRACEPARENT_LEN;
        es_trace_traceparent(trace, leg->span_id, (char *) p);
        break;

    default: /* NGX_HTTP_EDGESPAN_UPSTREAM_SPAN_ID */
        v->len = 2 * ES_SPAN_ID_LEN;
        es_hex((char *) p, leg->span_id, ES_SPAN_ID_LEN);
        break;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_edgespan_decision_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    char                     *text;
    es_str_t                  decision;
    ngx_http_edgespan_ctx_t  *ctx;

    ctx = ngx_http_edgespan_joined_ctx(r, NGX_HTTP_EDGESPAN_ASKS_DECISION);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    text = ngx_pnalloc(r->pool, ES_DECISION_TEXT);
    if (text == NULL) {
        return NGX_ERROR;
    }

    es_trace_seal(ctx->trace);

    decision = es_trace_decision(ctx->trace, text);

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = decision.len;
    v->data = (u_char *) decision.data;

    return NGX_OK;
}


/* empty where there would be nothing to see */

static ngx_int_t
ngx_http_edgespan_url_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    es_str_t                       url;
    ngx_http_edgespan_ctx_t       *ctx;
    ngx_http_edgespan_srv_conf_t  *scf;

    scf = ngx_http_get_module_srv_conf(r, ngx_http_edgespan_module);
    ctx = NULL;

    if (scf->trace_url.len != 0) {
        ctx = ngx_http_edgespan_joined_ctx(r, NGX_HTTP_EDGESPAN_ASKS_DECISION);
    }

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    es_trace_seal(ctx->trace);

    url = es_trace_url(ctx->trace, ngx_http_edgespan_str(&scf->trace_url));

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = url.len;
    v->data = (u_char *) url.data;

    return NGX_OK;
}


/* what ngx_otel_module calls its spans */

static ngx_int_t
ngx_http_edgespan_location_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = clcf->name.len;
    v->data = clcf->name.data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_edgespan_baggage_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t *name = (ngx_str_t *) data;

    size_t                    prefix;
    es_str_t                  value;
    ngx_http_edgespan_ctx_t  *ctx;

    prefix = sizeof(NGX_HTTP_EDGESPAN_BAGGAGE) - 1;

    ctx = ngx_http_edgespan_joined_ctx(r, NGX_HTTP_EDGESPAN_ASKS_CONTEXT);

    if (ctx == NULL
        || !es_trace_baggage_variable(ctx->trace,
                                      es_str(name->data + prefix,
                                             name->len - prefix),
                                      &value))
    {
        v->not_found = 1;
        return NGX_OK;
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->len = value.len;
    v->data = (u_char *) value.data;

    return NGX_OK;
}
