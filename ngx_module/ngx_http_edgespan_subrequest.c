
/*
 * Subrequests: auth_request, mirror, SSI, addition, slice, the background
 * update of the cache, whatever else calls ngx_http_subrequest().  Each has an
 * INTERNAL span below that of the request that made it.
 */


#include "ngx_http_edgespan.h"


static ngx_int_t ngx_http_edgespan_content(ngx_http_request_t *r);
static ngx_int_t ngx_http_edgespan_subrequest_done(ngx_http_request_t *r,
    void *data, ngx_int_t rc);
static void ngx_http_edgespan_end_subrequest(ngx_http_edgespan_ctx_t *ctx,
    es_http_t *server, uint64_t now, es_timeline_t *timeline);
static es_str_t ngx_http_edgespan_target(ngx_http_edgespan_ctx_t *ctx);


/*
 * A slice and a background update are clones: they go on where the request that
 * made them was, which is its content handler.  There is no earlier place to
 * give them headers of their own.
 */

void
ngx_http_edgespan_wrap_content(ngx_conf_t *cf,
    ngx_http_edgespan_loc_conf_t *prev, ngx_http_edgespan_loc_conf_t *conf)
{
    ngx_http_core_loc_conf_t       *clcf;
    ngx_http_edgespan_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_edgespan_module);
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (mcf->used && clcf->handler != NULL) {
        conf->handler = clcf->handler;
        clcf->handler = ngx_http_edgespan_content;

    } else {

        /* "if" without a handler of its own keeps that of its location */

        conf->handler = prev->handler;
    }
}


static ngx_int_t
ngx_http_edgespan_content(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    ngx_http_edgespan_loc_conf_t  *lcf;

    if (r != r->main
        && ngx_http_get_module_ctx(r, ngx_http_edgespan_module) == NULL)
    {
        rc = ngx_http_edgespan_precontent(r);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);

    return lcf->handler(r);
}


/*
 * The location is known.  It may suppress what would be recorded, no more: the
 * main request has decided.
 */

void
ngx_http_edgespan_enter_subrequest(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx)
{
    ngx_http_edgespan_loc_conf_t  *lcf;

    /* where a redirect leads to says as little as it does of a request's */

    if (ctx->redirected || ctx->legs.nelts != 0) {
        return;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);

    ctx->route = lcf->route;
    ctx->suppressed = ctx->parent->suppressed
                      || !ngx_http_edgespan_is_on(r, lcf->trace);
    ctx->span = lcf->subrequest_span && !ctx->suppressed;
}


const uint8_t *
ngx_http_edgespan_parent_id(ngx_http_edgespan_ctx_t *ctx)
{
    for ( /* void */ ; ctx != NULL; ctx = ctx->parent) {
        if (ctx->span) {
            return ctx->span_id;
        }
    }

    return NULL;
}


/*
 * Puts our handler before the one that waits for the subrequest; again where it
 * stepped aside for that, not where somebody else has put his before ours.
 */

void
ngx_http_edgespan_await_subrequest(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx)
{
    if (ctx->post.handler != NULL && r->post_subrequest != ctx->next_post) {
        return;
    }

    ctx->post.handler = ngx_http_edgespan_subrequest_done;
    ctx->post.data = ctx;
    ctx->next_post = r->post_subrequest;

    r->post_subrequest = &ctx->post;
}


/*
 * After a redirect lua knows its own subrequests by the handler alone, until it
 * has seen their header.
 */

void
ngx_http_edgespan_redirect_subrequest(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx)
{
    if (r->post_subrequest == &ctx->post && !r->subrequest_in_memory) {
        r->post_subrequest = ctx->next_post;
    }
}


/*
 * Called again when an error page follows, which is more to do, and when what
 * came before in the response has been sent, which is not.
 */

static ngx_int_t
ngx_http_edgespan_subrequest_done(ngx_http_request_t *r, void *data,
    ngx_int_t rc)
{
    ngx_http_edgespan_ctx_t *ctx = data;

    uint64_t                  now;
    ngx_http_edgespan_ctx_t  *parent;

    now = es_mono_ns();

    if (ctx->next_post != NULL) {
        rc = ctx->next_post->handler(r, ctx->next_post->data, rc);
    }

    if (ctx->end != 0 || rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return rc;
    }

    ctx->end = now;

    /* whoever waits for it has not ended, although nothing else is to do */

    for (parent = ctx->parent;
         parent->end != 0 && parent->background == ctx->background;
         parent = parent->parent)
    {
        parent->end = now;
    }

    return rc;
}


void
ngx_http_edgespan_end_subrequests(ngx_http_edgespan_ctx_t *main,
    es_http_t *server, uint64_t now, es_timeline_t *timeline)
{
    ngx_http_edgespan_ctx_t  *ctx;

    for (ctx = main->next; ctx; ctx = ctx->next) {

        if (!ctx->suppressed) {
            ngx_http_edgespan_end_subrequest(ctx, server, now,
                                          ctx->background ? NULL : timeline);
        }
    }
}


static void
ngx_http_edgespan_end_subrequest(ngx_http_edgespan_ctx_t *ctx,
    es_http_t *server, uint64_t now, es_timeline_t *timeline)
{
    es_http_t            http;
    ngx_http_request_t  *r;

    r = ctx->request;

    ngx_memzero(&http, sizeof(es_http_t));

    http.kind = ES_KIND_INTERNAL;
    http.span_id = ctx->span_id;
    http.parent_id = ngx_http_edgespan_parent_id(ctx->parent);
    http.start_mono_ns = ctx->start;
    http.end_mono_ns = ctx->end;
    http.method = ngx_http_edgespan_str(&r->method_name);
    http.target = ngx_http_edgespan_target(ctx);
    http.route = ngx_http_edgespan_str(&ctx->route);
    http.status = r->err_status ? r->err_status : r->headers_out.status;
    http.request_body_size = -1;
    http.response_body_size = -1;
    http.cache_status = ngx_http_edgespan_cache_status(r);
    http.background = ctx->background;
    http.redaction = server->redaction;

    if (ctx->end == 0) {
        http.end_mono_ns = now;

        /* it went down with the request */

        if (!r->done) {
            http.reason = server->reason;
        }
    }

    ngx_http_edgespan_end_upstreams(ctx, &http, timeline);

    if (ctx->span) {
        es_trace_http(ctx->trace, &http);
    }
}


static es_str_t
ngx_http_edgespan_target(ngx_http_edgespan_ctx_t *ctx)
{
    u_char  *target;
    size_t   len;

    len = ctx->path.len + 1 + ctx->args.len;

    target = ctx->args.len != 0 ? ngx_pnalloc(ctx->request->pool, len) : NULL;

    if (target == NULL) {
        return ngx_http_edgespan_str(&ctx->path);
    }

    ngx_sprintf(target, "%V?%V", &ctx->path, &ctx->args);

    return es_str(target, len);
}
