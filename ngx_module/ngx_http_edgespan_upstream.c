
/*
 * When each try of an upstream began and ended: the functions by which nginx
 * gets and frees a peer are wrapped, as the keepalive module does.  Upstreams
 * resolved at run time ("proxy_pass $variable") do not come by here; for them
 * ngx_http_edgespan_client.c takes nginx's own times, which are milliseconds.
 */


#include "ngx_http_edgespan.h"


typedef struct {
    ngx_http_request_t               *request;
    ngx_http_edgespan_ctx_t          *ctx;

    void                             *data;
    ngx_event_get_peer_pt             get;
    ngx_event_free_peer_pt            free;
    ngx_event_notify_peer_pt          notify;

#if (NGX_HTTP_SSL)
    ngx_event_set_peer_session_pt     set_session;
    ngx_event_save_peer_session_pt    save_session;
#endif
} ngx_http_edgespan_peer_t;


static int ngx_libc_cdecl ngx_http_edgespan_cmp_inits(const void *one,
    const void *two);
static ngx_int_t ngx_http_edgespan_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_http_edgespan_get_peer(ngx_peer_connection_t *pc,
    void *data);
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


ngx_int_t
ngx_http_edgespan_wrap_upstreams(ngx_conf_t *cf,
    ngx_http_edgespan_main_conf_t *mcf)
{
    ngx_uint_t                       i;
    ngx_http_edgespan_peer_init_t   *pi;
    ngx_http_upstream_srv_conf_t   **uscfp;
    ngx_http_upstream_main_conf_t   *umcf;

    umcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_upstream_module);
    uscfp = umcf->upstreams.elts;

    if (ngx_array_init(&mcf->peer_inits, cf->pool, umcf->upstreams.nelts + 1,
                       sizeof(ngx_http_edgespan_peer_init_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < umcf->upstreams.nelts; i++) {

        if (uscfp[i]->peer.init == NULL) {
            continue;
        }

        pi = ngx_array_push(&mcf->peer_inits);
        if (pi == NULL) {
            return NGX_ERROR;
        }

        pi->upstream = uscfp[i];
        pi->init = uscfp[i]->peer.init;

        uscfp[i]->peer.init = ngx_http_edgespan_init_peer;
    }

    ngx_qsort(mcf->peer_inits.elts, mcf->peer_inits.nelts,
              sizeof(ngx_http_edgespan_peer_init_t),
              ngx_http_edgespan_cmp_inits);

    return NGX_OK;
}


static int ngx_libc_cdecl
ngx_http_edgespan_cmp_inits(const void *one, const void *two)
{
    const ngx_http_edgespan_peer_init_t  *first = one, *second = two;

    if (first->upstream == second->upstream) {
        return 0;
    }

    return (uintptr_t) first->upstream < (uintptr_t) second->upstream ? -1 : 1;
}


static ngx_http_upstream_init_peer_pt
ngx_http_edgespan_find_init(ngx_http_edgespan_main_conf_t *mcf,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_uint_t                      low, high, middle;
    ngx_http_edgespan_peer_init_t  *pi;

    pi = mcf->peer_inits.elts;
    low = 0;
    high = mcf->peer_inits.nelts;

    while (low < high) {
        middle = (low + high) / 2;

        if (pi[middle].upstream == us) {
            return pi[middle].init;
        }

        if ((uintptr_t) pi[middle].upstream < (uintptr_t) us) {
            low = middle + 1;

        } else {
            high = middle;
        }
    }

    /* another module copied the structure */

    return ngx_http_upstream_init_round_robin_peer;
}


/*
 * What is about to be sent, and to whom: r->upstream is another one after an
 * internal redirect.  proxy writes "METHOD URI ..." into its buffer and keeps
 * the place of the URI.
 */

void
ngx_http_edgespan_set_upstream(ngx_http_request_t *r,
    ngx_http_edgespan_leg_t *leg)
{
    u_char               *start;
    ngx_http_upstream_t  *u;

    u = r->upstream;

    leg->schema = u->schema;
    leg->uri = u->uri;
    leg->method = u->method.len ? u->method : r->method_name;

    if (u->request_bufs != NULL && u->uri.len != 0) {
        start = u->request_bufs->buf->start;

        if (u->uri.data > start && u->uri.data < u->request_bufs->buf->last) {
            leg->method.data = start;
            leg->method.len = u->uri.data - start - 1;
        }
    }

    if (u->upstream != NULL) {
        leg->host = u->upstream->host;
        leg->port = u->upstream->port;

    } else if (u->resolved != NULL) {
        leg->host = u->resolved->host;
        leg->port = u->resolved->port;
    }
}


/*
 * A background update of the cache is a clone, which comes by no phase: what it
 * sends is the header of the main request, whose own way ended at the cache.
 * So that one's span is the update's.
 */

static ngx_http_edgespan_ctx_t *
ngx_http_edgespan_upstream_ctx(ngx_http_request_t *r)
{
    ngx_http_edgespan_ctx_t  *ctx, *main;
    ngx_http_edgespan_leg_t  *leg;

    ctx = ngx_http_get_module_ctx(r, ngx_http_edgespan_module);

    if (ctx != NULL || !r->background) {
        return ctx;
    }

    main = ngx_http_edgespan_get_ctx(r->main);

    if (main == NULL || main->leg == NULL || !main->leg->span
        || main->leg->first_state != ngx_http_edgespan_states(r->main))
    {
        return NULL;
    }

    ctx = ngx_http_edgespan_get_ctx(r);
    if (ctx == NULL) {
        return NULL;
    }

    leg = ngx_http_edgespan_get_leg(r, ctx);
    if (leg == NULL) {
        return NULL;
    }

    ngx_memcpy(leg->span_id, main->leg->span_id, ES_SPAN_ID_LEN);
    main->leg->span = 0;

    return ctx;
}


static ngx_int_t
ngx_http_edgespan_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_int_t                       rc;
    ngx_peer_connection_t          *pc;
    ngx_http_edgespan_ctx_t        *ctx;
    ngx_http_edgespan_peer_t       *peer;
    ngx_http_edgespan_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_edgespan_module);

    rc = ngx_http_edgespan_find_init(mcf, us)(r, us);
    if (rc != NGX_OK) {
        return rc;
    }

    ctx = ngx_http_edgespan_upstream_ctx(r);

    if (ctx == NULL || !es_trace_recording(ctx->trace)) {
        return NGX_OK;
    }

    /* what fails here costs the exact times, never the request */

    if (ngx_http_edgespan_get_leg(r, ctx) == NULL) {
        return NGX_OK;
    }

    ngx_http_edgespan_set_upstream(r, ctx->leg);

    if (ctx->tries.elts == NULL
        && ngx_array_init(&ctx->tries, r->pool, 1,
                          sizeof(ngx_http_edgespan_try_t))
           != NGX_OK)
    {
        return NGX_OK;
    }

    peer = ngx_palloc(r->pool, sizeof(ngx_http_edgespan_peer_t));
    if (peer == NULL) {
        return NGX_OK;
    }

    pc = &r->upstream->peer;

    peer->request = r;
    peer->ctx = ctx;
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

    return NGX_OK;
}


static ngx_int_t
ngx_http_edgespan_get_peer(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_edgespan_peer_t  *peer = data;

    ngx_int_t                 rc;
    ngx_http_edgespan_try_t  *try;

    try = ngx_array_push(&peer->ctx->tries);

    if (try != NULL) {
        ngx_memzero(try, sizeof(ngx_http_edgespan_try_t));

        try->state = peer->request->upstream_states->nelts - 1;
        try->start = es_mono_ns();
    }

    rc = peer->get(pc, peer->data);

    if (try != NULL && rc == NGX_BUSY) {
        try->no_peer = 1;
    }

    return rc;
}


static void
ngx_http_edgespan_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_edgespan_peer_t  *peer = data;

    ngx_http_edgespan_try_t  *try;

    if (peer->ctx->tries.nelts != 0) {
        try = peer->ctx->tries.elts;
        try[peer->ctx->tries.nelts - 1].end = es_mono_ns();
    }

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

    return peer->set_session(pc, peer->data);
}


static void
ngx_http_edgespan_save_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_edgespan_peer_t  *peer = data;

    peer->save_session(pc, peer->data);
}

#endif
