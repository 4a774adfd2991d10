/* The header of a response that tells the client about its trace. */

#include "mod_edgespan.h"

static ap_filter_rec_t *header_handle;

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

void
edgespan_tell_client(request_rec *r, es_trace_t *trace)
{
    if (header_kind(r) != ES_RESPONSE_NONE) {
        es_trace_seal(trace);
        ap_add_output_filter_handle(header_handle, trace, r, r->connection);
    }
}

/* The header comes last before those who make bytes of headers, behind mod_cache and
 * mod_headers. */
void
edgespan_response_filters(void)
{
    header_handle = ap_register_output_filter("EDGESPAN_RESPONSE_HEADER", header_filter, NULL,
                                              AP_FTYPE_PROTOCOL - 1);
}
