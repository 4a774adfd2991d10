
/*
 * What a finished request says of its upstreams: the CLIENT spans.
 */


#include "ngx_http_edgespan.h"


static uint64_t ngx_http_edgespan_end_leg(ngx_http_edgespan_ctx_t *ctx,
    ngx_http_edgespan_leg_t *leg, ngx_uint_t end, uint64_t time,
    es_http_t *server);
static uint64_t ngx_http_edgespan_set_try(ngx_http_edgespan_ctx_t *ctx,
    ngx_uint_t n, uint64_t earliest, uint64_t end, es_http_try_t *try);


/*
 * A CLIENT span for each leg on which a try began.  Backwards, because where
 * only nginx's own times are known, a try ended when the next one began.
 */

void
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
