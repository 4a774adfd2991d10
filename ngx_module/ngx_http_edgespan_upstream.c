
/*
 * Which upstreams are wrapped, and what is about to be sent to one.
 */


#include "ngx_http_edgespan.h"


/* HTTP/2 begins with it */
#define NGX_HTTP_EDGESPAN_PREFACE  "PRI * HTTP/2.0"


static int ngx_libc_cdecl ngx_http_edgespan_cmp_inits(const void *one,
    const void *two);
static ngx_int_t ngx_http_edgespan_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static void ngx_http_edgespan_set_upstream(ngx_http_request_t *r,
    ngx_http_edgespan_leg_t *leg);
static void ngx_http_edgespan_own_id(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);


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

static void
ngx_http_edgespan_set_upstream(ngx_http_request_t *r,
    ngx_http_edgespan_leg_t *leg)
{
    size_t                len;
    u_char               *start, *last;
    ngx_http_upstream_t  *u;

    u = r->upstream;

    leg->upstream = u;
    leg->schema = u->schema;
    leg->uri = u->uri;
    leg->method = u->method.len ? u->method : r->method_name;

    if (u->request_bufs != NULL) {
        start = u->request_bufs->buf->start;
        last = u->request_bufs->buf->last;

        len = sizeof(NGX_HTTP_EDGESPAN_PREFACE) - 1;

        if ((size_t) (last - start) > len
            && ngx_memcmp(start, NGX_HTTP_EDGESPAN_PREFACE, len) == 0)
        {
            leg->http2 = 1;

        } else if (u->uri.data > start && u->uri.data < last) {
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
 * A leg is over, on which there were tries.  Of upstreams that are resolved at
 * run time this is all that we see.  The client may have taken longer than its
 * last try; the cached time, in which nginx counts, is monotonic as ours is.
 */

void
ngx_http_edgespan_leave_leg(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx)
{
    ngx_msec_t                  since;
    ngx_http_upstream_t        *u;
    ngx_http_upstream_state_t  *state;

    /* nothing was injected */

    if (ctx->leg == NULL) {

        if (ngx_http_edgespan_get_leg(r, ctx) == NULL) {
            return;
        }

        ctx->leg->created = ctx->trace->start_mono_ns;
    }

    u = r->upstream;

    if (ctx->leg->upstream != NULL || u == NULL) {
        return;
    }

    ngx_http_edgespan_set_upstream(r, ctx->leg);

    state = r->upstream_states->elts;
    state += r->upstream_states->nelts - 1;

    if (state->response_time != (ngx_msec_t) -1) {
        since = ngx_current_msec - u->start_time - state->response_time;
        ctx->leg->end = es_mono_ns() - (uint64_t) since * 1000000;
    }
}


static ngx_int_t
ngx_http_edgespan_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_int_t                       rc;
    ngx_http_edgespan_ctx_t        *ctx;
    ngx_http_edgespan_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_edgespan_module);

    rc = ngx_http_edgespan_find_init(mcf, us)(r, us);
    if (rc != NGX_OK) {
        return rc;
    }

    ctx = ngx_http_get_module_ctx(r, ngx_http_edgespan_module);

    if (ctx == NULL || ctx->suppressed || !es_trace_recording(ctx->trace)
        || ngx_http_edgespan_get_leg(r, ctx) == NULL)
    {
        return NGX_OK;
    }

    if (r != r->main && !ctx->leg->injected) {
        ngx_http_edgespan_own_id(r, ctx);
    }

    ngx_http_edgespan_set_upstream(r, ctx->leg);
    ngx_http_edgespan_wrap_peer(r, ctx);

    return NGX_OK;
}


/* Where nothing is injected, a subrequest sends the headers of its parent. */

static void
ngx_http_edgespan_own_id(ngx_http_request_t *r, ngx_http_edgespan_ctx_t *ctx)
{
    ngx_http_edgespan_ctx_t  *parent;

    for (parent = ctx->parent; parent; parent = parent->parent) {

        if (parent->leg != NULL && parent->leg->injected) {
            (void) ngx_http_edgespan_rewrite(r->upstream,
                                             parent->leg->header_id,
                                             ctx->leg->span_id);
            return;
        }
    }
}
