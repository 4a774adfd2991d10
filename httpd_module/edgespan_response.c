/* Filters of a response: when its first byte went, and the header that tells the
 * client about its trace. Both leave the chain when they have done that. */

#include "mod_edgespan.h"

#include "http_connection.h"

static ap_filter_rec_t *clock_handle, *header_handle;

/* ---------------------------------------------------------- first byte --- */

/* Headers are data in HTTP/1 and a bucket of mod_http2's own kind in HTTP/2. An
 * end-of-connection takes the place of a response. */
static bool
begins_response(apr_bucket_brigade *brigade)
{
    apr_bucket *bucket;

    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade);
         bucket = APR_BUCKET_NEXT(bucket)) {
        if (AP_BUCKET_IS_EOC(bucket)) {
            return false;
        }
        if (!APR_BUCKET_IS_FLUSH(bucket) && !APR_BUCKET_IS_EOS(bucket)
            && !AP_BUCKET_IS_ERROR(bucket)) {
            return true;
        }
    }
    return false;
}

static apr_status_t
clock_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    edgespan_request_t *initial = filter->ctx;

    if (begins_response(brigade)) {
        initial->first_byte_mono_ns = es_mono_ns();
        ap_remove_output_filter(filter);
    }
    return ap_pass_brigade(filter->next, brigade);
}

/* --------------------------------------------------------------- header --- */

/* The place says what is told, or else the one that led here by a redirect. */
static es_response_header_t
header_kind(const request_rec *r)
{
    for (; r != NULL; r = r->prev) {
        int kind = edgespan_dir_conf(r)->response;

        if (kind != EDGESPAN_UNSET) {
            return (es_response_header_t) kind;
        }
    }
    return ES_RESPONSE_NONE;
}

/* Not in err_headers_out from the start: mod_cache would store it and give it to
 * others. An upstream's traceresponse speaks of a span of its own; timings add up. */
static apr_status_t
header_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    const es_trace_t *trace = filter->ctx;
    request_rec *r = filter->r;
    es_response_header_t kind = header_kind(r);
    char text[ES_RESPONSE_TEXT];
    es_header_t header = es_trace_response(trace, kind, text);
    const char *value = apr_pstrmemdup(r->pool, header.value.data, header.value.len);

    ap_remove_output_filter(filter);
    if (kind == ES_RESPONSE_TRACERESPONSE) {
        apr_table_unset(r->err_headers_out, header.name.data);
        apr_table_setn(r->headers_out, header.name.data, value);
    } else {
        apr_table_addn(r->headers_out, header.name.data, value);
    }
    return ap_pass_brigade(filter->next, brigade);
}

/* ---------------------------------------------------------------- hooks --- */

void
edgespan_add_filters(request_rec *r, edgespan_request_t *initial)
{
    es_trace_t *trace = initial->trace;

    if (!initial->timed && es_trace_recording(trace) && !es_trace_sampled(trace)) {
        initial->timed = 1;
        ap_add_output_filter_handle(clock_handle, initial, r, r->connection);
    }
    if (header_kind(r) != ES_RESPONSE_NONE) {
        es_trace_seal(trace);
        ap_add_output_filter_handle(header_handle, trace, r, r->connection);
    }
}

/* The clock is behind what makes bytes of a response's headers. It belongs to the
 * protocol's filters, which stay when an error or a redirect begins the response
 * anew. The header comes last before them, behind mod_cache and mod_headers. */
void
edgespan_response_filters(void)
{
    clock_handle =
        ap_register_output_filter("EDGESPAN_FIRST_BYTE", clock_filter, NULL, AP_FTYPE_TRANSCODE);
    header_handle = ap_register_output_filter("EDGESPAN_RESPONSE_HEADER", header_filter, NULL,
                                              AP_FTYPE_PROTOCOL - 1);
}
