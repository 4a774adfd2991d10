
/*
 * What a finished request says of its upstreams: the CLIENT spans.
 */


#include "ngx_http_edgespan.h"


/* the tries of a leg, for as long as its spans are made */

typedef struct {
    ngx_http_edgespan_ctx_t        *ctx;
    ngx_http_edgespan_leg_t        *leg;
    es_http_t                      *http;         /* the span above */
    es_timeline_t                  *timeline;
    es_http_try_t                  *tries;
    ngx_uint_t                      n;
    ngx_uint_t                      state;        /* of the first */
    unsigned                        last:1;       /* no leg came after it */
} ngx_http_edgespan_tries_t;


static uint64_t ngx_http_edgespan_end_leg(ngx_http_edgespan_ctx_t *ctx,
    ngx_http_edgespan_leg_t *leg, ngx_uint_t end, uint64_t time,
    es_http_t *http, es_timeline_t *timeline);
static void ngx_http_edgespan_end_client(ngx_http_edgespan_tries_t *tries,
    ngx_uint_t first, ngx_uint_t n);
static ngx_uint_t ngx_http_edgespan_set_try(ngx_http_edgespan_ctx_t *ctx,
    ngx_http_edgespan_leg_t *leg, ngx_uint_t state, uint64_t end,
    es_http_try_t *try);
static void ngx_http_edgespan_set_times(ngx_http_edgespan_leg_t *leg,
    ngx_http_upstream_state_t *us, uint64_t end, es_http_try_t *try);
static uint64_t ngx_http_edgespan_after(es_http_try_t *try, ngx_msec_t msec);
static ngx_http_edgespan_try_t *ngx_http_edgespan_find_try(
    ngx_http_edgespan_ctx_t *ctx, ngx_uint_t state);


/*
 * Backwards, because where only nginx's own times are known, a try ended when
 * the next one began.
 */

void
ngx_http_edgespan_end_upstreams(ngx_http_edgespan_ctx_t *ctx,
    es_http_t *http, es_timeline_t *timeline)
{
    uint64_t                   time;
    ngx_uint_t                 i, end;
    ngx_http_request_t        *r;
    ngx_http_edgespan_leg_t  **legs;

    r = ctx->request;

    if (ngx_http_edgespan_states(r) != ctx->first_state) {
        ngx_http_edgespan_leave_leg(r, ctx);
    }

    legs = ctx->legs.elts;
    end = ngx_http_edgespan_states(r);
    time = http->end_mono_ns;

    for (i = ctx->legs.nelts; i-- > 0; end = legs[i]->first_state) {

        if (legs[i]->span && legs[i]->first_state < end) {
            time = ngx_http_edgespan_end_leg(ctx, legs[i], end, time, http,
                                             timeline);
        }
    }
}


/* returns when it began */

static uint64_t
ngx_http_edgespan_end_leg(ngx_http_edgespan_ctx_t *ctx,
    ngx_http_edgespan_leg_t *leg, ngx_uint_t end, uint64_t time,
    es_http_t *http, es_timeline_t *timeline)
{
    uint64_t                    begun;
    ngx_uint_t                  i, n, first;
    ngx_http_edgespan_try_t    *timed;
    ngx_http_edgespan_tries_t   tries;

    n = end - leg->first_state;

    tries.tries = ngx_pcalloc(ctx->request->pool, n * sizeof(es_http_try_t));
    if (tries.tries == NULL) {
        return time;
    }

    tries.tries += n;

    begun = leg->end != 0 ? ngx_min(leg->end, time) : time;

    for (i = end; i-- > leg->first_state; /* void */ ) {

        if (!ngx_http_edgespan_set_try(ctx, leg, i, begun, tries.tries - 1)) {
            break;
        }

        tries.tries--;
        begun = tries.tries->start_mono_ns;
    }

    tries.ctx = ctx;
    tries.leg = leg;
    tries.http = http;
    tries.timeline = timeline;
    tries.state = i + 1;
    tries.n = end - tries.state;
    tries.last = (end == ngx_http_edgespan_states(ctx->request));

    /* each try that had an id of its own is a span of its own */

    for (first = 0, i = 1; i <= tries.n; i++) {
        timed = ngx_http_edgespan_find_try(ctx, tries.state + i);

        if (i == tries.n || (timed != NULL && timed->span)) {
            ngx_http_edgespan_end_client(&tries, first, i - first);
            first = i;
        }
    }

    return tries.n != 0 ? begun : time;
}


static void
ngx_http_edgespan_end_client(ngx_http_edgespan_tries_t *tries,
    ngx_uint_t first, ngx_uint_t n)
{
    es_http_t                 client;
    ngx_uint_t                i, last_span;
    es_http_try_t            *try, *last;
    es_http_event_t           upgrade;
    ngx_http_request_t       *r;
    ngx_http_upstream_t      *u;
    ngx_http_edgespan_ctx_t  *ctx;
    ngx_http_edgespan_leg_t  *leg;
    ngx_http_edgespan_try_t  *timed;

    ctx = tries->ctx;
    leg = tries->leg;
    r = ctx->request;
    u = leg->upstream;

    try = &tries->tries[first];
    last = &try[n - 1];
    last_span = (first + n == tries->n);
    timed = ngx_http_edgespan_find_try(ctx, tries->state + first);

    /* the end of the last leg is that of the response */

    if (tries->last && last_span) {

        if (tries->http->error_type.len != 0 && last->status != 0) {
            last->error_type = tries->http->error_type;

        } else if (tries->http->reason.len != 0 && last->status == 0) {
            last->error_type = ES_STR_NONE;
        }
    }

    ngx_memzero(&client, sizeof(es_http_t));

    client.kind = ES_KIND_CLIENT;
    client.span_id = timed != NULL ? timed->span_id : leg->span_id;
    client.parent_id = ngx_http_edgespan_parent_id(ctx);
    client.start_mono_ns = try->start_mono_ns;
    client.end_mono_ns = last->end_mono_ns;
    client.method = ngx_http_edgespan_str(&leg->method);
    client.target = leg->uri.len ? ngx_http_edgespan_str(&leg->uri)
                                 : ngx_http_edgespan_str(&r->unparsed_uri);
    client.scheme = leg->schema.len > 3
                    ? es_str(leg->schema.data, leg->schema.len - 3)
                    : ES_STR("http");
    client.host = ngx_http_edgespan_str(&leg->host);
    client.server_port = leg->port;
    client.peer_address = last->peer_address;
    client.peer_port = last->peer_port;
    client.status = last->status;
    client.error_type = last->error_type;
    client.reason = tries->last && last_span ? tries->http->reason
                                             : ES_STR_NONE;
    client.redaction = tries->http->redaction;
    client.request_body_size = -1;
    client.response_body_size = -1;
    client.resend_count = first;
    client.tries = try;
    client.tries_count = n;

    client.grpc = ngx_http_edgespan_is_grpc(r);

    if (client.grpc && last_span && last->status != 0 && u != NULL) {
        client.grpc_status = ngx_http_edgespan_grpc_status(
                                                    &u->headers_in.trailers,
                                                    &u->headers_in.headers);
    }

    if (u != NULL && u->upgrade && last_span && ctx->upgraded != 0) {
        ngx_http_edgespan_set_upgrade(ctx, &client, &upgrade);
    }

    es_trace_http(ctx->trace, &client);

    if (tries->timeline != NULL) {
        for (i = 0; i < n; i++) {
            es_timeline_try(tries->timeline, &try[i]);
        }
    }
}


/*
 * One state of r->upstream_states.  False: without a peer and without a try it
 * is the separator that nginx puts between two legs.
 */

static ngx_uint_t
ngx_http_edgespan_set_try(ngx_http_edgespan_ctx_t *ctx,
    ngx_http_edgespan_leg_t *leg, ngx_uint_t state, uint64_t end,
    es_http_try_t *try)
{
    ngx_http_edgespan_try_t    *timed;
    ngx_http_upstream_state_t  *us;

    us = ctx->request->upstream_states->elts;
    us += state;
    timed = ngx_http_edgespan_find_try(ctx, state);

    if (timed != NULL) {
        try->start_mono_ns = timed->start;
        try->connected_mono_ns = timed->connected;
        try->secured_mono_ns = timed->secured;
        try->first_byte_mono_ns = timed->first_byte;
        try->end_mono_ns = timed->end != 0 ? timed->end : timed->start;
        try->reused = timed->reused;
        try->unconnected = !timed->ready;

    } else if (us->peer != NULL) {
        ngx_http_edgespan_set_times(leg, us, end, try);

    } else {
        return 0;
    }

    /* "no live upstreams" carries the name of the upstream */

    if (us->peer != NULL && !(timed != NULL && timed->no_peer)) {
        es_http_split_host(ngx_http_edgespan_str(us->peer),
                           &try->peer_address, &try->peer_port);
    }

    if (us->header_time != (ngx_msec_t) -1) {
        try->status = us->status;

    } else if (us->status == NGX_HTTP_GATEWAY_TIME_OUT) {
        try->error_type = ES_ERROR_TIMEOUT;

    } else if (try->unconnected) {
        try->error_type = ES_ERROR_CONNECTION_FAILED;

    } else {
        try->error_type = ES_ERROR_NO_RESPONSE;
    }

    return 1;
}


/* nginx's own times: whole milliseconds, which may reach back before the leg */

static void
ngx_http_edgespan_set_times(ngx_http_edgespan_leg_t *leg,
    ngx_http_upstream_state_t *us, uint64_t end, es_http_try_t *try)
{
    uint64_t  ready;

    try->start_mono_ns = end;
    try->end_mono_ns = end;

    if (us->response_time != (ngx_msec_t) -1) {
        try->start_mono_ns = ngx_max(end - (uint64_t) us->response_time
                                           * 1000000,
                                     leg->created);
    }

    try->unconnected = (us->connect_time == (ngx_msec_t) -1);

    /* nginx counts the TLS handshake, too */

    ready = ngx_http_edgespan_after(try, us->connect_time);

    if (leg->upstream != NULL && leg->upstream->ssl) {
        try->secured_mono_ns = ready;

    } else {
        try->connected_mono_ns = ready;
    }

    try->first_byte_mono_ns = ngx_http_edgespan_after(try, us->header_time);
}


static uint64_t
ngx_http_edgespan_after(es_http_try_t *try, ngx_msec_t msec)
{
    if (msec == (ngx_msec_t) -1) {
        return 0;
    }

    return ngx_min(try->start_mono_ns + (uint64_t) msec * 1000000,
                   try->end_mono_ns);
}


/* they are in order of their states, and may be many */

static ngx_http_edgespan_try_t *
ngx_http_edgespan_find_try(ngx_http_edgespan_ctx_t *ctx, ngx_uint_t state)
{
    ngx_uint_t                low, high, middle;
    ngx_http_edgespan_try_t  *timed;

    timed = ctx->tries.elts;
    low = 0;
    high = ctx->tries.nelts;

    while (low < high) {
        middle = (low + high) / 2;

        if (timed[middle].state == state) {
            return &timed[middle];
        }

        if (timed[middle].state < state) {
            low = middle + 1;

        } else {
            high = middle;
        }
    }

    return NULL;
}
