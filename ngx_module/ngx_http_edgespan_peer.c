
/*
 * When each try of an upstream began, was connected, got its first byte and
 * ended: what of an upstream's state shows that is wrapped, as the keepalive
 * module does.  Upstreams resolved at run time ("proxy_pass $variable") do not
 * come by here; for them ngx_http_edgespan_client.c takes nginx's own times,
 * which are milliseconds.
 *
 *   peer.get           a try begins; of a retry, its id is written over the
 *                      one before
 *   peer.set_session   the connection is there, the TLS handshake begins
 *   output_filter      its first call: the connection is ready
 *   process_header     its first call after that: the response begins
 *   peer.free          the try is over
 */


#include "ngx_http_edgespan.h"


struct ngx_http_edgespan_peer_s {
    ngx_http_upstream_t              *upstream;
    ngx_http_request_t               *request;
    ngx_http_edgespan_ctx_t          *ctx;
    ngx_http_edgespan_leg_t          *leg;

    void                             *data;
    ngx_event_get_peer_pt             get;
    ngx_event_free_peer_pt            free;
    ngx_event_notify_peer_pt          notify;

#if (NGX_HTTP_SSL)
    ngx_event_set_peer_session_pt     set_session;
    ngx_event_save_peer_session_pt    save_session;
#endif

    /* NULL: ours is not in its place */

    void                             *filter_ctx;
    ngx_output_chain_filter_pt        output_filter;
    ngx_int_t                       (*process_header)(ngx_http_request_t *r);

    unsigned                          tried:1;
};


static ngx_int_t ngx_http_edgespan_get_peer(ngx_peer_connection_t *pc,
    void *data);
static ngx_http_edgespan_try_t *ngx_http_edgespan_begin_try(
    ngx_http_edgespan_peer_t *peer);
static void ngx_http_edgespan_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state);
static void ngx_http_edgespan_notify_peer(ngx_peer_connection_t *pc,
    void *data, ngx_uint_t type);
#if (NGX_HTTP_SSL)
static ngx_int_t ngx_http_edgespan_set_session(ngx_peer_connection_t *pc,
    void *data);
static void ngx_http_edgespan_save_session(ngx_peer_connection_t *pc,
    void *data);
#endif
static void ngx_http_edgespan_wrap_header(ngx_http_edgespan_peer_t *peer);
static ngx_uint_t ngx_http_edgespan_unwrap_filter(
    ngx_http_edgespan_peer_t *peer);
static ngx_uint_t ngx_http_edgespan_unwrap_header(
    ngx_http_edgespan_peer_t *peer);
static ngx_int_t ngx_http_edgespan_output_filter(void *data, ngx_chain_t *in);
static ngx_int_t ngx_http_edgespan_process_header(ngx_http_request_t *r);


/* what fails here costs the exact times, never the request */

void
ngx_http_edgespan_wrap_peer(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx)
{
    ngx_peer_connection_t     *pc;
    ngx_http_edgespan_peer_t  *peer;

    if (ctx->tries.elts == NULL
        && ngx_array_init(&ctx->tries, r->pool, 1,
                          sizeof(ngx_http_edgespan_try_t))
           != NGX_OK)
    {
        return;
    }

    peer = ngx_pcalloc(r->pool, sizeof(ngx_http_edgespan_peer_t));
    if (peer == NULL) {
        return;
    }

    pc = &r->upstream->peer;

    peer->upstream = r->upstream;
    peer->request = r;
    peer->ctx = ctx;
    peer->leg = ctx->leg;

    peer->data = pc->data;
    peer->get = pc->get;
    peer->free = pc->free;
    peer->notify = pc->notify;

    pc->data = peer;
    pc->get = ngx_http_edgespan_get_peer;
    pc->free = ngx_http_edgespan_free_peer;

    if (pc->notify != NULL) {
        pc->notify = ngx_http_edgespan_notify_peer;
    }

#if (NGX_HTTP_SSL)
    peer->set_session = pc->set_session;
    peer->save_session = pc->save_session;

    if (pc->set_session != NULL) {
        pc->set_session = ngx_http_edgespan_set_session;
        pc->save_session = ngx_http_edgespan_save_session;
    }
#endif

    ctx->peer = peer;
}


static ngx_http_edgespan_try_t *
ngx_http_edgespan_last_try(ngx_http_edgespan_peer_t *peer)
{
    ngx_http_edgespan_try_t  *try;

    if (peer->ctx->tries.nelts == 0) {
        return NULL;
    }

    try = peer->ctx->tries.elts;

    return &try[peer->ctx->tries.nelts - 1];
}


static ngx_int_t
ngx_http_edgespan_get_peer(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_edgespan_peer_t  *peer = data;

    ngx_int_t                 rc;
    ngx_http_upstream_t      *u;
    ngx_http_edgespan_try_t  *try;

    try = ngx_http_edgespan_begin_try(peer);

    rc = peer->get(pc, peer->data);

    if (try == NULL) {
        return rc;
    }

    if (rc == NGX_BUSY) {
        try->no_peer = 1;
        return rc;
    }

    try->reused = (rc == NGX_DONE);
    try->ready = try->reused;

    u = peer->upstream;

    if (peer->output_filter == NULL) {
        peer->output_filter = u->output.output_filter;
        peer->filter_ctx = u->output.filter_ctx;

        u->output.output_filter = ngx_http_edgespan_output_filter;
        u->output.filter_ctx = peer;
    }

    return rc;
}


/*
 * The request was made once, for all tries: a retry finds the id of the try
 * before in it.  Where it is not to be found, the tries share a span.
 */

static ngx_http_edgespan_try_t *
ngx_http_edgespan_begin_try(ngx_http_edgespan_peer_t *peer)
{
    u_char                    span_id[ES_SPAN_ID_LEN];
    ngx_uint_t                retry;
    ngx_http_edgespan_leg_t  *leg;
    ngx_http_edgespan_try_t  *try;

    leg = peer->leg;
    retry = peer->tried;
    peer->tried = 1;

    try = ngx_array_push(&peer->ctx->tries);
    if (try == NULL) {
        return NULL;
    }

    ngx_memzero(try, sizeof(ngx_http_edgespan_try_t));

    try->state = peer->request->upstream_states->nelts - 1;

    if (!retry) {
        try->span = 1;

    } else if (leg->span) {
        es_trace_new_span_id(peer->ctx->trace, span_id);

        if (ngx_http_edgespan_rewrite(peer->upstream, leg->span_id, span_id)) {
            ngx_memcpy(leg->span_id, span_id, ES_SPAN_ID_LEN);
            try->span = 1;
        }
    }

    ngx_memcpy(try->span_id, leg->span_id, ES_SPAN_ID_LEN);

    try->start = es_mono_ns();

    return try;
}


static void
ngx_http_edgespan_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_edgespan_peer_t  *peer = data;

    ngx_http_edgespan_try_t  *try;

    try = ngx_http_edgespan_last_try(peer);

    if (try != NULL) {
        try->end = es_mono_ns();
    }

    /* a file of the cache may be read by process_header next */

    (void) ngx_http_edgespan_unwrap_filter(peer);
    (void) ngx_http_edgespan_unwrap_header(peer);

    peer->free(pc, peer->data, state);
}


static void
ngx_http_edgespan_notify_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t type)
{
    ngx_http_edgespan_peer_t  *peer = data;

    peer->notify(pc, peer->data, type);
}


#if (NGX_HTTP_SSL)

static ngx_int_t
ngx_http_edgespan_set_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_edgespan_peer_t  *peer = data;

    ngx_http_edgespan_try_t  *try;

    try = ngx_http_edgespan_last_try(peer);

    if (try != NULL) {
        try->connected = es_mono_ns();
    }

    return peer->set_session(pc, peer->data);
}


static void
ngx_http_edgespan_save_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_edgespan_peer_t  *peer = data;

    peer->save_session(pc, peer->data);
}

#endif


static void
ngx_http_edgespan_wrap_header(ngx_http_edgespan_peer_t *peer)
{
    ngx_http_upstream_t  *u;

    u = peer->upstream;

    if (peer->process_header == NULL) {
        peer->process_header = u->process_header;
        u->process_header = ngx_http_edgespan_process_header;
    }
}


/* False: another module put its own before ours, and goes on calling ours. */

static ngx_uint_t
ngx_http_edgespan_unwrap_filter(ngx_http_edgespan_peer_t *peer)
{
    ngx_http_upstream_t  *u;

    u = peer->upstream;

    if (u->output.output_filter != ngx_http_edgespan_output_filter) {
        return 0;
    }

    u->output.output_filter = peer->output_filter;
    u->output.filter_ctx = peer->filter_ctx;

    peer->output_filter = NULL;

    return 1;
}


static ngx_uint_t
ngx_http_edgespan_unwrap_header(ngx_http_edgespan_peer_t *peer)
{
    ngx_http_upstream_t  *u;

    u = peer->upstream;

    if (u->process_header != ngx_http_edgespan_process_header) {
        return 0;
    }

    u->process_header = peer->process_header;

    peer->process_header = NULL;

    return 1;
}


/*
 * With "proxy_ssl_session_reuse off" nobody tells when the TLS handshake began:
 * then it is known when it ended only.
 */

static ngx_int_t
ngx_http_edgespan_output_filter(void *data, ngx_chain_t *in)
{
    ngx_http_edgespan_peer_t  *peer = data;

    void                        *filter_ctx;
    ngx_http_edgespan_try_t     *try;
    ngx_output_chain_filter_pt   output_filter;

    output_filter = peer->output_filter;
    filter_ctx = peer->filter_ctx;

    if (!ngx_http_edgespan_unwrap_filter(peer)) {
        return output_filter(filter_ctx, in);
    }

    try = ngx_http_edgespan_last_try(peer);

    if (!try->reused) {
        try->ready = 1;

        if (peer->upstream->ssl) {
            try->secured = es_mono_ns();

        } else {
            try->connected = es_mono_ns();
        }
    }

    /* not before: reinit_request() of a retry sets it */

    ngx_http_edgespan_wrap_header(peer);

    return output_filter(filter_ctx, in);
}


static ngx_int_t
ngx_http_edgespan_process_header(ngx_http_request_t *r)
{
    ngx_int_t                  rc, (*process_header)(ngx_http_request_t *r);
    ngx_http_edgespan_ctx_t   *ctx;
    ngx_http_edgespan_try_t   *try;
    ngx_http_edgespan_peer_t  *peer;

    ctx = ngx_http_edgespan_get_ctx(r);

    /* cannot be: what would forget our state ends the upstream */

    if (ctx == NULL || ctx->peer == NULL
        || ctx->peer->upstream != r->upstream)
    {
        return NGX_ERROR;
    }

    peer = ctx->peer;
    process_header = peer->process_header;

    if (!ngx_http_edgespan_unwrap_header(peer)) {
        return process_header(r);
    }

    try = ngx_http_edgespan_last_try(peer);
    try->first_byte = es_mono_ns();

    rc = process_header(r);

    /* what an HTTP/2 connection begins with is no response */

    if (rc == NGX_AGAIN && peer->leg->http2) {
        try->first_byte = 0;

        ngx_http_edgespan_wrap_header(peer);
    }

    return rc;
}
