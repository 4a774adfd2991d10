
/*
 * A request's state, which an internal redirect makes nginx forget.
 */


#include "ngx_http_edgespan.h"


static ngx_http_edgespan_ctx_t *ngx_http_edgespan_create_ctx(
    ngx_http_request_t *r);
static void ngx_http_edgespan_start_time(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);


/* Only marks the context in the list of the pool's cleanups, see below. */

static void
ngx_http_edgespan_ctx_cleanup(void *data)
{
}


static void *
ngx_http_edgespan_alloc(void *pool, size_t size)
{
    return ngx_pnalloc(pool, size);
}


es_pool_t
ngx_http_edgespan_pool(ngx_pool_t *pool)
{
    es_pool_t  core;

    core.alloc = ngx_http_edgespan_alloc;
    core.pool = pool;

    return core;
}


/*
 * An internal redirect zeroes the contexts of all modules: ours is found again
 * among the cleanups of the pool, which subrequests share.  What is found
 * nowhere begins here: a subrequest, or what never came to POST_READ.
 */

ngx_http_edgespan_ctx_t *
ngx_http_edgespan_find_ctx(ngx_http_request_t *r)
{
    ngx_http_edgespan_ctx_t  *ctx;

    /* every redirect takes one of these; subrequests begin as internal */

    if (r->uri_changes != NGX_HTTP_MAX_URI_CHANGES + 1 || r->filter_finalize) {

        ctx = ngx_http_edgespan_kept_ctx(r);

        if (ctx != NULL) {
            ctx->redirected = 1;
            ctx->decided = NULL;

            if (r == r->main) {
                es_trace_redirected(ctx->trace);

            } else {
                ngx_http_edgespan_redirect_subrequest(r, ctx);
            }

            ngx_http_set_ctx(r, ctx, ngx_http_edgespan_module);

            return ctx;
        }
    }

    ctx = ngx_http_edgespan_create_ctx(r);

    if (ctx != NULL && r == r->main && r->internal) {
        ctx->redirected = 1;
    }

    return ctx;
}


/* changes nothing; NULL: there is none yet */

ngx_http_edgespan_ctx_t *
ngx_http_edgespan_kept_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t       *cln;
    ngx_http_edgespan_ctx_t  *ctx;

    for (cln = r->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler != ngx_http_edgespan_ctx_cleanup) {
            continue;
        }

        ctx = cln->data;

        if (ctx->request == r) {
            return ctx;
        }
    }

    return NULL;
}


static ngx_http_edgespan_ctx_t *
ngx_http_edgespan_create_ctx(ngx_http_request_t *r)
{
    es_pool_t                 pool;
    ngx_pool_cleanup_t       *cln;
    ngx_http_edgespan_ctx_t  *ctx, *parent;

    parent = NULL;

    if (r != r->main) {
        parent = ngx_http_edgespan_get_ctx(r->parent);
        if (parent == NULL) {
            return NULL;
        }
    }

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_edgespan_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;

    ngx_memzero(ctx, sizeof(ngx_http_edgespan_ctx_t));

    if (parent == NULL) {
        ctx->trace = ngx_palloc(r->pool, sizeof(es_trace_t));
        if (ctx->trace == NULL) {
            return NULL;
        }

        pool = ngx_http_edgespan_pool(r->pool);

        es_trace_init(ctx->trace, ngx_http_edgespan_provider, &pool);
        ngx_http_edgespan_start_time(r, ctx);

        ctx->main = ctx;
        ctx->last = ctx;

    } else {
        ctx->main = parent->main;
        ctx->parent = parent;
        ctx->trace = parent->trace;
        ctx->main->last->next = ctx;
        ctx->main->last = ctx;

        /* njs has its subrequests in the background and waits for them */

        ctx->background = parent->background
                          || (r->background && r->post_subrequest == NULL);

        ctx->start = es_mono_ns();
        ctx->args = r->args;
        es_trace_new_span_id(ctx->trace, ctx->span_id);

        ngx_http_edgespan_await_subrequest(r, ctx);
    }

    if (parent == NULL) {
        ngx_http_edgespan_wrap_log(r, ctx);
    }

    ctx->path = r->uri;
    ctx->request = r;
    cln->handler = ngx_http_edgespan_ctx_cleanup;
    ngx_http_set_ctx(r, ctx, ngx_http_edgespan_module);

    return ctx;
}


/*
 * $request_time counts from r->start_sec and r->start_msec, which are taken
 * from the cached time when the first byte came; the header may have taken long
 * to arrive since.  If it did not, our own clock is the better one.
 */

static void
ngx_http_edgespan_start_time(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    if (r->start_sec == tp->sec && r->start_msec == tp->msec) {
        return;
    }

    ctx->header_read = ctx->trace->start_mono_ns;

    es_trace_started_at(ctx->trace,
                        (uint64_t) r->start_sec * 1000000000
                        + (uint64_t) r->start_msec * 1000000);
}
