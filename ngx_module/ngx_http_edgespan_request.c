
/*
 * A request's way: where its trace begins, where it is decided, where its
 * context is sent on, where its spans are made.
 *
 *   POST_READ    starts the clock
 *   REWRITE      the location is known: joins the caller's trace and decides;
 *                again after each "rewrite ... last" and internal redirect
 *   PRECONTENT   the location is final ("if", "set"): decides again; then the
 *                context is about to leave: seals and injects
 *   CONTENT      what ngx_http_edgespan_subrequest.c has to do for clones
 *   LOG          ends the spans; the authority for whatever came without the
 *                phases before (a malformed request, "return" in server{} ...)
 */


#include "ngx_http_edgespan.h"


static ngx_int_t ngx_http_edgespan_post_read_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_edgespan_rewrite_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_edgespan_log_handler(ngx_http_request_t *r);

static ngx_uint_t ngx_http_edgespan_begin_leg(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);
static ngx_uint_t ngx_http_edgespan_join(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);
static void ngx_http_edgespan_fix_ids(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, ngx_uint_t context);
static void ngx_http_edgespan_decide_here(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);


typedef struct {
    ngx_http_phases       phase;
    ngx_http_handler_pt   handler;
} ngx_http_edgespan_handler_t;


static ngx_http_edgespan_handler_t  ngx_http_edgespan_handlers[] = {
    { NGX_HTTP_POST_READ_PHASE, ngx_http_edgespan_post_read_handler },
    { NGX_HTTP_REWRITE_PHASE, ngx_http_edgespan_rewrite_handler },
    { NGX_HTTP_PRECONTENT_PHASE, ngx_http_edgespan_precontent },
    { NGX_HTTP_LOG_PHASE, ngx_http_edgespan_log_handler }
};


ngx_int_t
ngx_http_edgespan_add_handlers(ngx_conf_t *cf)
{
    ngx_uint_t                  i, n;
    ngx_array_t                *handlers;
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    n = sizeof(ngx_http_edgespan_handlers)
        / sizeof(ngx_http_edgespan_handlers[0]);

    for (i = 0; i < n; i++) {
        h = ngx_array_push(
              &cmcf->phases[ngx_http_edgespan_handlers[i].phase].handlers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        *h = ngx_http_edgespan_handlers[i].handler;
    }

    /*
     * The LOG phase runs in this order: a line in the access log shall mean
     * that its span is in the queue, even if the process is killed in between.
     */

    handlers = &cmcf->phases[NGX_HTTP_LOG_PHASE].handlers;
    h = handlers->elts;

    ngx_memmove(&h[1], &h[0], (handlers->nelts - 1) * sizeof(*h));
    h[0] = ngx_http_edgespan_log_handler;

    ngx_http_edgespan_add_filters();

    return NGX_OK;
}


static ngx_int_t
ngx_http_edgespan_post_read_handler(ngx_http_request_t *r)
{
    if (ngx_http_edgespan_provider != NULL) {
        (void) ngx_http_edgespan_get_ctx(r);
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_edgespan_rewrite_handler(ngx_http_request_t *r)
{
    ngx_http_edgespan_ctx_t        *ctx;
    ngx_http_edgespan_main_conf_t  *mcf;

    if (ngx_http_edgespan_provider == NULL) {
        return NGX_DECLINED;
    }

    ctx = ngx_http_edgespan_get_ctx(r);
    mcf = ngx_http_get_module_main_conf(r, ngx_http_edgespan_module);

    if (ctx == NULL) {
        return NGX_DECLINED;
    }

    if (r != r->main) {
        ngx_http_edgespan_enter_subrequest(r, ctx);

    } else if (!(mcf->compat && r->internal)) {
        ngx_http_edgespan_decide_here(r, ctx);
    }

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_edgespan_precontent(ngx_http_request_t *r)
{
    ngx_http_edgespan_ctx_t  *ctx;

    ctx = NULL;

    if (ngx_http_edgespan_provider != NULL) {
        ctx = ngx_http_edgespan_get_ctx(r);
    }

    /*
     * Without the headers the request is served all the same.  Where files are
     * served there is nobody to see them: what try_files or error_page leads to
     * may still decide.
     */

    if (ctx != NULL
        && (ngx_http_edgespan_begin_leg(r, ctx) & ES_CONTEXT_INJECT)
        && r->content_handler != NULL
        && ngx_http_edgespan_inject(r, ctx) == NGX_OK)
    {
        return NGX_DECLINED;
    }

    /* what a stranger sent goes no further, also where nothing is traced */

    if (ngx_http_edgespan_trust(r, ctx) != ES_TRUST_ON
        && ngx_http_edgespan_strip(r) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return NGX_DECLINED;
}


/* returns what is to be done with the headers of the context: ES_CONTEXT_... */

static ngx_uint_t
ngx_http_edgespan_begin_leg(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx)
{
    ngx_http_edgespan_loc_conf_t  *lcf;

    if (r == r->main) {
        ngx_http_edgespan_decide(r, ctx);

    } else {
        ngx_http_edgespan_enter_subrequest(r, ctx);
    }

    if (!ctx->trace->decided) {
        return ES_CONTEXT_IGNORE;
    }

    /* an upstream answered with a redirect: what comes now is another leg */

    if (ctx->first_state != ngx_http_edgespan_states(r)) {
        if (es_trace_recording(ctx->trace)) {
            ngx_http_edgespan_leave_leg(r, ctx);
        }

        ctx->first_state = ngx_http_edgespan_states(r);
        ctx->leg = NULL;
    }

    /* the location of a subrequest may suppress, that of a redirect may not */

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);

    return ngx_http_edgespan_context(lcf, !ctx->suppressed);
}


static ngx_int_t
ngx_http_edgespan_log_handler(ngx_http_request_t *r)
{
    ngx_http_edgespan_ctx_t  *ctx;

    if (ngx_http_edgespan_provider == NULL || r != r->main) {
        return NGX_OK;
    }

    ctx = ngx_http_edgespan_get_ctx(r);
    if (ctx == NULL) {
        return NGX_OK;
    }

    ngx_http_edgespan_decide(r, ctx);
    es_trace_seal(ctx->trace);

    if (es_trace_recording(ctx->trace)) {
        ngx_http_edgespan_end_request(r, ctx);
    }

    return NGX_OK;
}


/*
 * The context for who is about to show the trace.  To show an id is to fix the
 * ids; what depends on the decision needs that, too.
 */

ngx_http_edgespan_ctx_t *
ngx_http_edgespan_joined_ctx(ngx_http_request_t *r, ngx_uint_t asks)
{
    es_trace_t                    *trace;
    ngx_http_edgespan_ctx_t       *ctx;
    ngx_http_edgespan_loc_conf_t  *lcf;

    if (ngx_http_edgespan_provider == NULL) {
        return NULL;
    }

    ctx = ngx_http_edgespan_get_ctx(r);
    if (ctx == NULL) {
        return NULL;
    }

    trace = ctx->trace;

    if (asks == NGX_HTTP_EDGESPAN_ASKS_DECISION) {

        if (r == r->main) {
            ngx_http_edgespan_decide(r, ctx);
        }

        return trace->joined && trace->decided ? ctx : NULL;
    }

    if (r == r->main) {
        (void) ngx_http_edgespan_join(r, ctx);
    }

    if (!trace->joined && asks == NGX_HTTP_EDGESPAN_ASKS_IDS) {

        /* a place that takes no part sends on what came, and so reads it */

        lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);
        ngx_http_edgespan_fix_ids(r, ctx, ngx_http_edgespan_context(lcf, 1));
        ctx->main->idle = 1;
    }

    if (asks == NGX_HTTP_EDGESPAN_ASKS_CONTEXT && ctx->main->idle) {
        return NULL;
    }

    return trace->joined ? ctx : NULL;
}


/* False: this place takes no part. */

static ngx_uint_t
ngx_http_edgespan_join(ngx_http_request_t *r, ngx_http_edgespan_ctx_t *ctx)
{
    ngx_uint_t                     context;
    ngx_http_edgespan_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);
    context = ngx_http_edgespan_context(lcf, lcf->trace != NULL);

    if (lcf->trace == NULL && context == ES_CONTEXT_IGNORE) {
        return 0;
    }

    if (!ctx->trace->joined) {
        ngx_http_edgespan_fix_ids(r, ctx, context);
    }

    ctx->main->idle = 0;

    return 1;
}


static void
ngx_http_edgespan_fix_ids(ngx_http_request_t *r, ngx_http_edgespan_ctx_t *ctx,
    ngx_uint_t context)
{
    es_trust_t                     trust;
    es_trace_t                    *trace;
    ngx_uint_t                     i;
    es_carrier_t                   carrier;
    ngx_list_part_t               *part;
    ngx_table_elt_t               *header;
    ngx_http_edgespan_srv_conf_t  *scf;

    trace = ctx->trace;
    scf = ngx_http_get_module_srv_conf(r, ngx_http_edgespan_module);
    trust = ngx_http_edgespan_trust(r, ctx);

    /* HTTP/0.9 and a request that failed early have no list at all */

    if (!(context & ES_CONTEXT_EXTRACT) || trust == ES_TRUST_OFF
        || r->headers_in.headers.last == NULL)
    {
        es_trace_join(trace, &scf->propagation, trust, NULL);
        return;
    }

    es_carrier_init(&carrier, trace, &scf->propagation);

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        header = part->elts;

        for (i = 0; i < part->nelts; i++) {
            es_carrier_add(&carrier, ngx_http_edgespan_str(&header[i].key),
                           ngx_http_edgespan_str(&header[i].value));
        }
    }

    es_trace_join(trace, &scf->propagation, trust, &carrier);
}


ngx_int_t
ngx_http_edgespan_complex(ngx_http_request_t *r,
    ngx_http_complex_value_t *value, es_str_t *result)
{
    ngx_str_t  s;

    if (ngx_http_complex_value(r, value, &s) != NGX_OK) {
        *result = ES_STR_NONE;
        return NGX_ERROR;
    }

    *result = ngx_http_edgespan_str(&s);

    return NGX_OK;
}


/* a value without variables can only be "on" */

ngx_uint_t
ngx_http_edgespan_is_on(ngx_http_request_t *r, ngx_http_complex_value_t *value)
{
    es_str_t  text;

    if (value == NULL || value->lengths == NULL) {
        return value != NULL;
    }

    return ngx_http_edgespan_complex(r, value, &text) == NGX_OK
           && es_is_true(text);
}


/* ngx_otel_module decides in the REWRITE phase and nowhere else */

void
ngx_http_edgespan_decide(ngx_http_request_t *r, ngx_http_edgespan_ctx_t *ctx)
{
    ngx_http_edgespan_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_edgespan_module);

    if (!mcf->compat) {
        ngx_http_edgespan_decide_here(r, ctx);
    }
}


/*
 * Takes part in tracing as the current location says, if it says so; again
 * wherever another location, or another value of a variable, may have come up.
 */

static void
ngx_http_edgespan_decide_here(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx)
{
    es_trace_t                    *trace;
    ngx_http_edgespan_loc_conf_t  *lcf;

    trace = ctx->trace;
    lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);

    /* the target of an error_page or of a redirect is no route of the API */

    if (!ctx->redirected) {
        ctx->route = lcf->route;
        ctx->route_value = lcf->route_value;
        ctx->redaction = &lcf->redaction;
    }

    if (ctx->decided == lcf) {
        return;
    }

    if (!ngx_http_edgespan_join(r, ctx)) {
        es_trace_leave(trace);

    } else if (ngx_http_edgespan_is_on(r, lcf->trace)) {

        /* of what is sealed a place may still say what is kept at the end */

        es_trace_decide(trace, &lcf->sampling,
                        trace->sealed ? ES_THRESHOLD_DEFAULT
                                      : ngx_http_edgespan_threshold(r, lcf),
                        ngx_http_edgespan_str(&ctx->path));

    } else {
        es_trace_decide_off(trace);
    }

    if (trace->sealed
        || ((lcf->trace == NULL || lcf->trace->lengths == NULL)
            && lcf->sample_rate == NULL))
    {
        ctx->decided = lcf;
    }
}
