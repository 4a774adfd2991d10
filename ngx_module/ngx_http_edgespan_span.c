
/*
 * What a finished request says: nginx's view of it in the core's terms.
 */


#include "ngx_http_edgespan.h"


static void ngx_http_edgespan_set_request_line(ngx_http_request_t *r,
    es_http_t *http);
static void ngx_http_edgespan_set_peer(ngx_http_request_t *r, es_http_t *http);
static int64_t ngx_http_edgespan_request_body_size(ngx_http_request_t *r);
static void ngx_http_edgespan_set_result(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, es_http_t *http);
static ngx_int_t ngx_http_edgespan_set_attrs(ngx_http_request_t *r,
    ngx_http_edgespan_loc_conf_t *lcf, es_http_t *http);
static void ngx_http_edgespan_end_upstreams(ngx_http_edgespan_ctx_t *ctx,
    es_http_t *server);
static uint64_t ngx_http_edgespan_end_leg(ngx_http_edgespan_ctx_t *ctx,
    ngx_http_edgespan_leg_t *leg, ngx_uint_t end, uint64_t time,
    es_http_t *server);
static uint64_t ngx_http_edgespan_set_try(ngx_http_edgespan_ctx_t *ctx,
    ngx_uint_t n, uint64_t earliest, uint64_t end, es_http_try_t *try);


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
    http.route = ngx_http_edgespan_str(&ctx->route);

    ngx_http_edgespan_set_request_line(r, &http);

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
    ngx_http_edgespan_set_result(r, ctx, &http);

    if (ngx_http_edgespan_set_attrs(r, lcf, &http) != NGX_OK) {
        http.attributes_count = 0;
    }

    if (lcf->span_name != NULL) {
        (void) ngx_http_edgespan_complex(r, lcf->span_name, &http.name);
    }

    es_trace_http(ctx->trace, &http);

    for (sub = ctx; sub; sub = sub->next) {
        ngx_http_edgespan_end_upstreams(sub, &http);
    }
}


/*
 * From the request line as the client sent it: an internal redirect changes the
 * method and the URI, and the absolute form names the host that counts.
 */

static void
ngx_http_edgespan_set_request_line(ngx_http_request_t *r, es_http_t *http)
{
    u_char  *p, *last, *space;

    http->method = ngx_http_edgespan_str(&r->method_name);
    http->target = ngx_http_edgespan_str(&r->unparsed_uri);

    p = r->request_line.data;
    last = p + r->request_line.len;
    space = ngx_strlchr(p, last, ' ');

    if (space != NULL) {
        http->method = es_str(p, space - p);

        p = space + 1;
        space = ngx_strlchr(p, last, ' ');

        http->target = es_str(p, (space ? space : last) - p);
    }

    switch (r->http_version) {

    case NGX_HTTP_VERSION_9:
        http->protocol_version = ES_STR("0.9");
        break;

    case NGX_HTTP_VERSION_10:
        http->protocol_version = ES_STR("1.0");
        break;

    case NGX_HTTP_VERSION_11:
        http->protocol_version = ES_STR("1.1");
        break;

    case NGX_HTTP_VERSION_20:
        http->protocol_version = ES_STR("2");
        break;

#ifdef NGX_HTTP_VERSION_30
    case NGX_HTTP_VERSION_30:
        http->protocol_version = ES_STR("3");
        break;
#endif
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

/*
 * The header says it best: content_length_n becomes what is left of a body that
 * is discarded.
 */

static int64_t
ngx_http_edgespan_request_body_size(ngx_http_request_t *r)
{
    ngx_table_elt_t  *header;

    header = r->headers_in.content_length;

    if (header != NULL) {
        return ngx_atoof(header->value.data, header->value.len);
    }

    return r->headers_in.content_length_n > 0 ? r->headers_in.content_length_n
                                              : -1;
}


static void
ngx_http_edgespan_set_result(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, es_http_t *http)
{
    off_t              sent;
    ngx_uint_t         status;
    ngx_connection_t  *c;

    c = r->connection;
    status = r->err_status ? r->err_status : r->headers_out.status;

    http->request_body_size = ngx_http_edgespan_request_body_size(r);
    http->response_body_size = -1;

    if (!r->header_sent) {
        http->status = 0;

        switch (status) {

        case NGX_HTTP_BAD_REQUEST:  /* closed within the header */
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

    /* a tunnel ends without a last buffer, too */

    if (ctx->last_buf || r->header_only
        || (r->upstream != NULL && r->upstream->upgrade))
    {
        return;
    }

    if (c->error || c->timedout || c->read->error || c->write->error
        || c->read->pending_eof)
    {
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


/*
 * A CLIENT span for each leg on which a try began.  Backwards, because where
 * only nginx's own times are known, a try ended when the next one began.
 */

static void
ngx_http_edgespan_end_upstreams(ngx_http_edgespan_ctx_t *ctx,
    es_http_t *server)
{
    uint64_t                   time;
    ngx_uint_t                 i, end;
    ngx_http_request_t        *r;
    ngx_http_edgespan_leg_t  **legs;

    r = ctx->request;

    /* resolved at run time, and no header was to be sent */

    if (ctx->legs.nelts == 0 && ngx_http_edgespan_states(r) != 0
        && ngx_http_edgespan_get_leg(r, ctx) != NULL)
    {
        ctx->leg->created = ctx->trace->start_mono_ns;
    }

    legs = ctx->legs.elts;
    end = ngx_http_edgespan_states(r);
    time = server->end_mono_ns;

    for (i = ctx->legs.nelts; i-- > 0; end = legs[i]->first_state) {

        if (!legs[i]->span || legs[i]->first_state >= end) {
            continue;
        }

        if (legs[i]->host.len == 0 && r->upstream != NULL) {
            ngx_http_edgespan_set_upstream(r, legs[i]);
        }

        time = ngx_http_edgespan_end_leg(ctx, legs[i], end, time, server);
    }
}


/* returns when it began */

static uint64_t
ngx_http_edgespan_end_leg(ngx_http_edgespan_ctx_t *ctx,
    ngx_http_edgespan_leg_t *leg, ngx_uint_t end, uint64_t time,
    es_http_t *server)
{
    es_http_t            http;
    ngx_uint_t           i, n;
    es_http_try_t       *tries, *last;
    ngx_http_request_t  *r;

    r = ctx->request;

    n = end - leg->first_state;

    tries = ngx_pcalloc(r->pool, n * sizeof(es_http_try_t));
    if (tries == NULL) {
        return time;
    }

    last = &tries[n];

    for (i = end; i-- > leg->first_state; /* void */ ) {
        time = ngx_http_edgespan_set_try(ctx, i, leg->created, time, last - 1);

        if ((last - 1)->start_mono_ns != 0) {
            last--;
        }
    }

    n -= last - tries;
    tries = last;

    if (n == 0) {
        return time;
    }

    last = &tries[n - 1];

    /* the end of the last leg is that of the response to the client */

    if (end == ngx_http_edgespan_states(r) && r == r->main) {

        if (server->error_type.len != 0 && last->status != 0) {
            last->error_type = server->error_type;

        } else if (server->reason.len != 0 && last->status == 0) {
            last->error_type = ES_STR_NONE;
        }
    }

    ngx_memzero(&http, sizeof(es_http_t));

    http.kind = ES_KIND_CLIENT;
    http.span_id = leg->span_id;
    http.start_mono_ns = tries[0].start_mono_ns;
    http.end_mono_ns = last->end_mono_ns;
    http.method = ngx_http_edgespan_str(&leg->method);
    http.target = leg->uri.len ? ngx_http_edgespan_str(&leg->uri)
                               : ngx_http_edgespan_str(&r->unparsed_uri);
    http.scheme = leg->schema.len > 3
                  ? es_str(leg->schema.data, leg->schema.len - 3)
                  : ES_STR("http");
    http.host = ngx_http_edgespan_str(&leg->host);
    http.server_port = leg->port;
    http.peer_address = last->peer_address;
    http.peer_port = last->peer_port;
    http.status = last->status;
    http.error_type = last->error_type;
    http.reason = server->reason;
    http.request_body_size = -1;
    http.response_body_size = -1;
    http.tries = tries;
    http.tries_count = n;

    es_trace_http(ctx->trace, &http);

    return tries[0].start_mono_ns;
}


/*
 * One state of r->upstream_states; returns when it began.  A state without a
 * peer and without a try is the separator that nginx puts between two legs.
 */

static uint64_t
ngx_http_edgespan_set_try(ngx_http_edgespan_ctx_t *ctx, ngx_uint_t n,
    uint64_t earliest, uint64_t end, es_http_try_t *try)
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

        /* whole milliseconds may reach back before the leg */

        try->start_mono_ns = ngx_max(end - (uint64_t) state->response_time
                                           * 1000000,
                                     earliest);

    } else {
        try->start_mono_ns = end;
    }

    /* "no live upstreams" carries the name of the upstream */

    if (state->peer != NULL && !(i < ctx->tries.nelts && timed[i].no_peer)) {
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
