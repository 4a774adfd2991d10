
/*
 * What a finished request says: nginx's view of it in the core's terms.
 */


#include "ngx_http_edgespan.h"


static es_str_t ngx_http_edgespan_version(ngx_http_request_t *r);
static void ngx_http_edgespan_set_peer(ngx_http_request_t *r, es_http_t *http);
static void ngx_http_edgespan_set_result(ngx_http_request_t *r,
    es_http_t *http);
static ngx_int_t ngx_http_edgespan_set_attrs(ngx_http_request_t *r,
    ngx_http_edgespan_loc_conf_t *lcf, es_http_t *http);
static void ngx_http_edgespan_end_upstreams(ngx_http_edgespan_ctx_t *ctx);
static void ngx_http_edgespan_end_leg(ngx_http_edgespan_ctx_t *ctx,
    ngx_http_edgespan_leg_t *leg, ngx_uint_t end);
static uint64_t ngx_http_edgespan_set_try(ngx_http_edgespan_ctx_t *ctx,
    ngx_uint_t n, uint64_t end, es_http_try_t *try);
static void ngx_http_edgespan_set_upstream_url(ngx_http_request_t *r,
    es_http_t *http);


void
ngx_http_edgespan_end_request(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx)
{
    es_http_t                      http;
    ngx_http_edgespan_ctx_t       *sub;
    ngx_http_edgespan_loc_conf_t  *lcf;

    ngx_memzero(&http, sizeof(es_http_t));

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);

    http.kind = ES_KIND_SERVER;
    http.end_mono_ns = es_mono_ns();

    http.method = ngx_http_edgespan_str(&r->method_name);
    http.target = ngx_http_edgespan_str(&r->unparsed_uri);
    http.protocol_version = ngx_http_edgespan_version(r);
    http.route = ngx_http_edgespan_str(&ctx->route);

#if (NGX_HTTP_SSL)
    http.scheme = r->connection->ssl ? ES_STR("https") : ES_STR("http");
#else
    http.scheme = ES_STR("http");
#endif

    if (r->headers_in.host != NULL) {
        http.host = ngx_http_edgespan_str(&r->headers_in.host->value);
    }

    if (r->headers_in.user_agent != NULL) {
        http.user_agent =
                        ngx_http_edgespan_str(&r->headers_in.user_agent->value);
    }

    http.client_address = ngx_http_edgespan_str(&r->connection->addr_text);

    ngx_http_edgespan_set_peer(r, &http);
    ngx_http_edgespan_set_result(r, &http);

    if (ngx_http_edgespan_set_attrs(r, lcf, &http) != NGX_OK) {
        http.attributes_count = 0;
    }

    if (lcf->span_name != NULL) {
        (void) ngx_http_edgespan_complex(r, lcf->span_name, &http.name);
    }

    es_trace_http(ctx->trace, &http);

    for (sub = ctx; sub; sub = sub->next) {
        ngx_http_edgespan_end_upstreams(sub);
    }
}


static es_str_t
ngx_http_edgespan_version(ngx_http_request_t *r)
{
    switch (r->http_version) {

    case NGX_HTTP_VERSION_9:
        return ES_STR("0.9");

    case NGX_HTTP_VERSION_10:
        return ES_STR("1.0");

    case NGX_HTTP_VERSION_11:
        return ES_STR("1.1");

    case NGX_HTTP_VERSION_20:
        return ES_STR("2");

#ifdef NGX_HTTP_VERSION_30
    case NGX_HTTP_VERSION_30:
        return ES_STR("3");
#endif

    default:
        return ES_STR_NONE;
    }
}


/* the real peer: the realip module keeps it where it has replaced it */

static void
ngx_http_edgespan_set_peer(ngx_http_request_t *r, es_http_t *http)
{
    ngx_int_t                       port;
    ngx_http_variable_value_t      *addr, *text;
    ngx_http_edgespan_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_edgespan_module);

    http->peer_address = http->client_address;
    http->peer_port = ngx_inet_get_port(r->connection->sockaddr);

    /* without a context realip has replaced nothing; a redirect may hide it */

    if (mcf->realip_addr_index == NGX_ERROR
        || (r->ctx[mcf->realip_ctx_index] == NULL && !r->internal))
    {
        return;
    }

    addr = ngx_http_get_indexed_variable(r, mcf->realip_addr_index);

    if (addr == NULL || addr->not_found
        || (addr->len == http->client_address.len
            && ngx_memcmp(addr->data, http->client_address.data, addr->len)
               == 0))
    {
        return;
    }

    http->peer_address = es_str(addr->data, addr->len);
    http->peer_port = 0;

    text = ngx_http_get_indexed_variable(r, mcf->realip_port_index);

    if (text != NULL && !text->not_found) {
        port = ngx_atoi(text->data, text->len);
        http->peer_port = port > 0 ? port : 0;
    }
}


/*
 * Status, sizes, and how it ended.  499 and 444 were never sent: they are the
 * reason and no status.  A response that was cut short is an error although it
 * said 200, unless the client left.
 */

static void
ngx_http_edgespan_set_result(ngx_http_request_t *r, es_http_t *http)
{
    off_t              sent;
    ngx_uint_t         status;
    ngx_connection_t  *c;

    c = r->connection;
    status = r->err_status ? r->err_status : r->headers_out.status;

    http->request_body_size = r->headers_in.content_length_n;
    http->response_body_size = -1;

    if (!r->header_sent) {
        http->status = 0;

        switch (status) {

        case NGX_HTTP_CLIENT_CLOSED_REQUEST:
            http->reason = ES_REASON_CLIENT_CLOSED;
            break;

        case NGX_HTTP_CLOSE:
            http->reason = ES_REASON_SERVER_CLOSED;
            break;

        case NGX_HTTP_REQUEST_TIME_OUT:
            http->reason = ES_REASON_REQUEST_TIMEOUT;
            break;
        }

        return;
    }

    http->status = status;

    sent = c->sent - r->header_size;
    http->response_body_size = sent > 0 ? sent : 0;

    if (r->request_complete) {
        return;
    }

    if (c->error || c->timedout || c->read->error || c->write->error) {
        http->reason = ES_REASON_CLIENT_CLOSED;

    } else if (r->upstream != NULL) {
        http->error_type = ES_ERROR_TRUNCATED;
    }
}


static ngx_int_t
ngx_http_edgespan_set_attrs(ngx_http_request_t *r,
    ngx_http_edgespan_loc_conf_t *lcf, es_http_t *http)
{
    ngx_uint_t                 i;
    es_attribute_t            *attrs;
    ngx_http_edgespan_attr_t  *attr;

    if (lcf->attrs == NULL) {
        return NGX_OK;
    }

    attrs = ngx_palloc(r->pool, lcf->attrs->nelts * sizeof(es_attribute_t));
    if (attrs == NULL) {
        return NGX_ERROR;
    }

    attr = lcf->attrs->elts;

    for (i = 0; i < lcf->attrs->nelts; i++) {
        attrs[i].key = ngx_http_edgespan_str(&attr[i].key);

        if (ngx_http_edgespan_complex(r, &attr[i].value, &attrs[i].value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    http->attributes = attrs;
    http->attributes_count = lcf->attrs->nelts;

    return NGX_OK;
}


/* a CLIENT span for each leg on which a try began */

static void
ngx_http_edgespan_end_upstreams(ngx_http_edgespan_ctx_t *ctx)
{
    ngx_uint_t                 i, end;
    ngx_http_request_t        *r;
    ngx_http_edgespan_leg_t  **legs;

    r = ctx->request;

    /* resolved at run time, and no header was to be sent */

    if (ctx->legs.nelts == 0 && ngx_http_edgespan_states(r) != 0
        && ngx_http_edgespan_get_leg(r, ctx) != NULL)
    {
        ctx->leg->first_state = 0;
    }

    legs = ctx->legs.elts;

    for (i = 0; i < ctx->legs.nelts; i++) {
        end = i + 1 < ctx->legs.nelts ? legs[i + 1]->first_state
                                      : ngx_http_edgespan_states(r);

        if (legs[i]->span && legs[i]->first_state < end) {
            ngx_http_edgespan_end_leg(ctx, legs[i], end);
        }
    }
}


static void
ngx_http_edgespan_end_leg(ngx_http_edgespan_ctx_t *ctx,
    ngx_http_edgespan_leg_t *leg, ngx_uint_t end)
{
    uint64_t             now;
    es_http_t            http;
    ngx_uint_t           i, n;
    es_http_try_t       *tries, *last;
    ngx_http_request_t  *r;

    r = ctx->request;

    tries = ngx_pcalloc(r->pool,
                        (end - leg->first_state) * sizeof(es_http_try_t));
    if (tries == NULL) {
        return;
    }

    /*
     * Backwards, because where only nginx's own times are known, a try ended
     * when the next one began; then into order.
     */

    n = end - leg->first_state;
    now = es_mono_ns();
    last = &tries[n];

    for (i = end; i-- > leg->first_state; /* void */ ) {
        now = ngx_http_edgespan_set_try(ctx, i, now, last - 1);

        if ((last - 1)->start_mono_ns != 0) {
            last--;
        }
    }

    n -= last - tries;
    tries = last;

    if (n == 0) {
        return;
    }

    last = &tries[n - 1];

    ngx_memzero(&http, sizeof(es_http_t));

    http.kind = ES_KIND_CLIENT;
    http.span_id = leg->span_id;
    http.start_mono_ns = tries[0].start_mono_ns;
    http.end_mono_ns = last->end_mono_ns;
    http.method = ngx_http_edgespan_str(&r->method_name);
    http.peer_address = last->peer_address;
    http.peer_port = last->peer_port;
    http.status = last->status;
    http.error_type = last->error_type;
    http.request_body_size = -1;
    http.response_body_size = -1;
    http.tries = tries;
    http.tries_count = n;

    ngx_http_edgespan_set_upstream_url(r, &http);

    es_trace_http(ctx->trace, &http);
}


/*
 * One state of r->upstream_states; returns when it began.  A state without a
 * peer and without a try is the separator that nginx puts between two legs.
 */

static uint64_t
ngx_http_edgespan_set_try(ngx_http_edgespan_ctx_t *ctx, ngx_uint_t n,
    uint64_t end, es_http_try_t *try)
{
    ngx_uint_t                  i;
    ngx_http_edgespan_try_t    *timed;
    ngx_http_upstream_state_t  *state;

    state = ctx->request->upstream_states->elts;
    state += n;
    timed = ctx->tries.elts;

    for (i = 0; i < ctx->tries.nelts && timed[i].state != n; i++) { /* void */ }

    if (i == ctx->tries.nelts && state->peer == NULL) {
        return end;
    }

    try->end_mono_ns = end;

    if (i < ctx->tries.nelts) {
        try->start_mono_ns = timed[i].start;
        try->end_mono_ns = timed[i].end != 0 ? timed[i].end : timed[i].start;

    } else if (state->response_time != (ngx_msec_t) -1) {
        try->start_mono_ns = end - (uint64_t) state->response_time * 1000000;

    } else {
        try->start_mono_ns = end;
    }

    if (state->peer != NULL) {
        es_http_split_host(ngx_http_edgespan_str(state->peer),
                           &try->peer_address, &try->peer_port);
    }

    if (state->header_time != (ngx_msec_t) -1) {
        try->status = state->status;

    } else if (state->status == NGX_HTTP_GATEWAY_TIME_OUT) {
        try->error_type = ES_ERROR_TIMEOUT;

    } else if (state->connect_time == (ngx_msec_t) -1) {
        try->error_type = ES_ERROR_CONNECTION_FAILED;

    } else {
        try->error_type = ES_ERROR_NO_RESPONSE;
    }

    return try->start_mono_ns;
}


/*
 * The name of the upstream as the configuration has it, and the URI that was
 * sent to it.
 */

static void
ngx_http_edgespan_set_upstream_url(ngx_http_request_t *r, es_http_t *http)
{
    ngx_str_t             *host;
    ngx_http_upstream_t   *u;

    u = r->upstream;

    http->target = ngx_http_edgespan_str(&r->unparsed_uri);
    http->scheme = ES_STR("http");

    if (u == NULL) {
        return;
    }

    if (u->uri.len != 0) {
        http->target = ngx_http_edgespan_str(&u->uri);
    }

    /* "http://" */

    if (u->schema.len > 3) {
        http->scheme = es_str(u->schema.data, u->schema.len - 3);
    }

    host = NULL;

    if (u->upstream != NULL) {
        host = &u->upstream->host;
        http->server_port = u->upstream->port;

    } else if (u->resolved != NULL) {
        host = &u->resolved->host;
        http->server_port = u->resolved->port;
    }

    if (host != NULL) {
        http->host = ngx_http_edgespan_str(host);
    }
}
