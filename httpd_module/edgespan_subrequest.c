/* The INTERNAL span of a subrequest that runs.
 *
 *   insert_filter   it begins to run; most only look something up and never do
 *   handler         what its handler returns, which httpd does not show
 *   output filter   the end of what it had to say, which comes for sure: httpd adds it
 *                   where a handler does not
 *   cleanup         it is destroyed without that, or the request ends. mod_include never
 *                   destroys its subrequests, so they live as long as the request
 *
 * Its headers are its parent's, which is to keep its own id in them. */

#include "mod_edgespan.h"

struct edgespan_subrequest {
    uint8_t span_id[ES_SPAN_ID_LEN];
    request_rec *r; /* where internal redirects led so far */
    uint64_t start_mono_ns;
    uint64_t answered_mono_ns; /* its parent had what came of it by then; 0: nothing came */
    unsigned failure;          /* what its handler returned; 0: no error */
    unsigned inner;            /* subrequests of its own that have not ended */
    bool has_span;
    bool ended;
    edgespan_subrequest_t *outer;
    edgespan_subrequest_t *next; /* of those of the exchange that have not ended */
};

static ap_filter_rec_t *end_handle, *answer_handle;

/* The one that `r` belongs to, by itself, by whom it was redirected from or by whom it is
 * a subrequest of. */
static edgespan_subrequest_t *
subrequest_of(const request_rec *r)
{
    while (r != NULL) {
        const edgespan_request_t *request = edgespan_request_of(r);

        if (request != NULL && request->subrequest != NULL) {
            return request->subrequest;
        }
        r = r->prev != NULL ? r->prev : r->main;
    }
    return NULL;
}

static const uint8_t *
span_id(const edgespan_subrequest_t *subrequest)
{
    while (subrequest != NULL && !subrequest->has_span) {
        subrequest = subrequest->outer;
    }
    return subrequest != NULL ? subrequest->span_id : NULL;
}

const uint8_t *
edgespan_parent_id(const request_rec *r)
{
    return span_id(subrequest_of(r));
}

/* ----------------------------------------------------------------- end --- */

static void
end_span(const edgespan_subrequest_t *subrequest, uint64_t end)
{
    request_rec *r = subrequest->r;
    const es_http_t http = {
        .kind = ES_KIND_INTERNAL,
        .resource = edgespan_server_conf(r)->resource,
        .span_id = subrequest->span_id,
        .parent_id = span_id(subrequest->outer),
        .start_mono_ns = subrequest->start_mono_ns,
        .end_mono_ns = end,
        .method = es_cstr(r->method),
        .target = es_cstr(r->unparsed_uri != NULL ? r->unparsed_uri : r->uri),
        .route = edgespan_route(r),
        .status = subrequest->failure != 0 ? subrequest->failure : (unsigned) r->status,
        .request_body_size = -1,
        .response_body_size = -1,
        .cache_status = edgespan_cache_status(r),
        .redaction = edgespan_redaction(r),
    };

    edgespan_end_span(r, &http);
}

static void
end_subrequest(edgespan_subrequest_t *subrequest, uint64_t end)
{
    edgespan_subrequest_t **link = &edgespan_initial(subrequest->r)->subrequests;

    subrequest->ended = true;
    if (subrequest->outer != NULL) {
        subrequest->outer->inner--;
    }
    while (*link != NULL && *link != subrequest) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = subrequest->next;
    }
    if (subrequest->has_span) {
        end_span(subrequest, end);
    }
}

static void
end_late(edgespan_subrequest_t *subrequest)
{
    end_subrequest(subrequest,
                   subrequest->answered_mono_ns != 0 ? subrequest->answered_mono_ns : es_mono_ns());
}

static apr_status_t
cleanup(void *data)
{
    edgespan_subrequest_t *subrequest = data;

    if (!subrequest->ended) {
        end_late(subrequest);
    }
    return APR_SUCCESS;
}

void
edgespan_end_subrequests(edgespan_request_t *initial)
{
    while (initial->subrequests != NULL) {
        end_late(initial->subrequests);
    }
}

/* ------------------------------------------------------------- handler --- */

/* The first of all handlers: it runs the others and tells what they say. */
int
edgespan_subrequest_handler(request_rec *r)
{
    edgespan_request_t *request = r->main != NULL ? edgespan_request_of(r) : NULL;
    int status;

    if (request == NULL || request->subrequest == NULL || request->handled) {
        return DECLINED;
    }
    request->handled = 1;
    status = ap_run_handler(r);
    if (status == DECLINED || ap_is_HTTP_ERROR(status)) {
        request->subrequest->failure =
            status == DECLINED ? HTTP_INTERNAL_SERVER_ERROR : (unsigned) status;
    }
    return status;
}

/* ------------------------------------------------------------- filters --- */

/* A subrequest of its own sends its end by the same way. */
static apr_status_t
end_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    edgespan_subrequest_t *subrequest = filter->ctx;
    bool last = subrequest->inner == 0 && !APR_BRIGADE_EMPTY(brigade)
                && APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(brigade));
    apr_status_t status = ap_pass_brigade(filter->next, brigade);

    if (last && !subrequest->ended) {
        end_subrequest(subrequest, es_mono_ns());
    }
    return status;
}

/* mod_cache takes the filter before this one away when it answers itself. */
static apr_status_t
answer_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    edgespan_subrequest_t *subrequest = filter->ctx;
    apr_bucket *bucket = APR_BRIGADE_FIRST(brigade);
    bool answer;
    apr_status_t status;

    while (bucket != APR_BRIGADE_SENTINEL(brigade) && APR_BUCKET_IS_METADATA(bucket)) {
        bucket = APR_BUCKET_NEXT(bucket);
    }
    answer = bucket != APR_BRIGADE_SENTINEL(brigade);
    status = ap_pass_brigade(filter->next, brigade);
    if (answer) {
        subrequest->answered_mono_ns = es_mono_ns();
    }
    return status;
}

void
edgespan_subrequest_filters(void)
{
    end_handle = ap_register_output_filter("EDGESPAN_SUBREQUEST_END", end_filter, NULL,
                                           AP_FTYPE_CONTENT_SET - 1);
    answer_handle = ap_register_output_filter("EDGESPAN_SUBREQUEST_ANSWER", answer_filter, NULL,
                                              AP_FTYPE_CONTENT_SET);
}

/* --------------------------------------------------------------- begin --- */

/* The one of the request_rec that was redirected to `r`. */
static edgespan_subrequest_t *
redirected_from(const request_rec *r)
{
    for (r = r->prev; r != NULL; r = r->prev) {
        const edgespan_request_t *request = edgespan_request_of(r);

        if (request != NULL && request->subrequest != NULL) {
            return request->subrequest;
        }
    }
    return NULL;
}

/* What its place says may only suppress its span. */
static edgespan_subrequest_t *
start(request_rec *r, const es_trace_t *trace)
{
    const edgespan_dir_conf_t *conf = edgespan_dir_conf(r);
    edgespan_request_t *initial = edgespan_initial(r);
    edgespan_subrequest_t *subrequest = apr_pcalloc(r->pool, sizeof(*subrequest));

    es_trace_new_span_id(trace, subrequest->span_id);
    subrequest->has_span = conf->trace != 0 && conf->subrequest_span != 0;
    subrequest->outer = subrequest_of(r->main);
    if (subrequest->outer != NULL) {
        subrequest->outer->inner++;
    }
    subrequest->start_mono_ns = es_mono_ns();
    subrequest->next = initial->subrequests;
    initial->subrequests = subrequest;
    apr_pool_pre_cleanup_register(r->pool, subrequest, cleanup);
    return subrequest;
}

void
edgespan_begin_subrequest(request_rec *r, edgespan_request_t *request)
{
    const es_trace_t *trace = request->trace;
    edgespan_subrequest_t *subrequest = redirected_from(r);

    if (subrequest == NULL && es_trace_recording(trace)) {
        subrequest = start(r, trace);
    }
    if (subrequest != NULL && !subrequest->ended) {
        request->subrequest = subrequest;
        subrequest->r = r;
        ap_add_output_filter_handle(end_handle, subrequest, r, r->connection);
        ap_add_output_filter_handle(answer_handle, subrequest, r, r->connection);
    }
}
