/* What a request waited for on its client's side.
 *
 *   post_read_request   a header that took its time to come
 *   input filter        reading a body
 *   output filter       the first byte of the response; how long the client's connection
 *                       took to take what it was given
 *
 * The filters are next to the connection, below what makes and reads HTTP: what
 * others do above is no waiting for the client. They stay when an error or a redirect
 * begins the response anew. */

#include "mod_edgespan.h"

#include "http_connection.h"

#define HEADER_KEY "edgespan_header"

/* Reads that follow within that time are one: what is done with what was read. */
#define GAP_NS UINT64_C(1000000)

/* Of all intervals that fit into a timeline; upstreams have the rest. */
#define READS_MAX 8

static ap_filter_rec_t *read_handle, *write_handle;

/* -------------------------------------------------------------- upload --- */

/* Nobody knows yet whether the request takes part, so only a slow header is
 * remembered. A stream of HTTP/2 has waited for a thread, not for its client. */
int
edgespan_post_read_request(request_rec *r)
{
    if (edgespan_process.provider != NULL && edgespan_process.traced && r->main == NULL
        && r->prev == NULL && r->connection->master == NULL && r->request_time != 0
        && (uint64_t) (apr_time_now() - r->request_time) * 1000 > GAP_NS) {
        uint64_t *complete = apr_palloc(r->pool, sizeof(*complete));

        *complete = es_mono_ns();
        apr_pool_userdata_setn(complete, HEADER_KEY, NULL, r->pool);
    }
    return OK;
}

static void
add_read(request_rec *r, edgespan_clock_t *clock, uint64_t from, uint64_t to)
{
    if (clock->reads != 0 && (from - clock->read_to < GAP_NS || clock->reads == READS_MAX)) {
        clock->read_to = to;
        return;
    }
    if (clock->reads++ != 0) {
        es_timeline_add(edgespan_timeline(r), ES_PHASE_UPLOAD, clock->read_from, clock->read_to);
    }
    clock->read_from = from;
    clock->read_to = to;
}

static apr_status_t
read_filter(ap_filter_t *filter, apr_bucket_brigade *brigade, ap_input_mode_t mode,
            apr_read_type_e block, apr_off_t bytes)
{
    uint64_t from = es_mono_ns();
    apr_status_t status = ap_get_brigade(filter->next, brigade, mode, block, bytes);

    add_read(filter->r, filter->ctx, from, es_mono_ns());
    return status;
}

/* A stream of HTTP/2 need not say that it has one. */
static bool
may_have_body(const request_rec *r)
{
    return apr_table_get(r->headers_in, "Content-Length") != NULL
           || apr_table_get(r->headers_in, "Transfer-Encoding") != NULL
           || (r->connection->master != NULL && r->method_number != M_GET);
}

/* ------------------------------------------------------------ download --- */

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

static bool
ends_response(apr_bucket_brigade *brigade)
{
    apr_bucket *bucket;

    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade);
         bucket = APR_BUCKET_NEXT(bucket)) {
        if (APR_BUCKET_IS_EOS(bucket)) {
            return true;
        }
    }
    return false;
}

static apr_status_t
write_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    edgespan_clock_t *clock = filter->ctx;
    bool last = filter->c->master != NULL && ends_response(brigade);
    uint64_t from = es_mono_ns();
    apr_status_t status;

    if (clock->first_byte_mono_ns == 0 && begins_response(brigade)) {
        clock->first_byte_mono_ns = from;
    }
    status = ap_pass_brigade(filter->next, brigade);
    clock->written_mono_ns = es_mono_ns();
    clock->writing_ns += clock->written_mono_ns - from;
    clock->stream_complete |= last && status == APR_SUCCESS;
    return status;
}

/* mod_http2 aborts the connection of a stream that its client has all of, too. */
bool
edgespan_client_left(request_rec *r)
{
    return r->connection->aborted && !edgespan_initial(r)->clock.stream_complete;
}

/* --------------------------------------------------------------- hooks --- */

void
edgespan_start_clock(request_rec *r, edgespan_request_t *initial)
{
    if (initial->timed) {
        return;
    }
    initial->timed = 1;
    ap_add_output_filter_handle(write_handle, &initial->clock, r, r->connection);
    if (may_have_body(r)) {
        ap_add_input_filter_handle(read_handle, &initial->clock, r, r->connection);
    }
}

/* What was blocked while the response was made counts at its end: there are as many
 * moments as one likes, and only their sum matters. Behind that the connection sends
 * what it still has. */
void
edgespan_stop_clock(const request_rec *r, const edgespan_request_t *initial,
                    es_timeline_t *timeline, uint64_t end)
{
    const edgespan_clock_t *clock = &initial->clock;
    void *complete = NULL;

    apr_pool_userdata_get(&complete, HEADER_KEY, r->pool);
    if (complete != NULL) {
        es_timeline_add(timeline, ES_PHASE_UPLOAD, initial->trace->start_mono_ns,
                        *(uint64_t *) complete);
    }
    es_timeline_add(timeline, ES_PHASE_UPLOAD, clock->read_from, clock->read_to);
    if (clock->written_mono_ns != 0) {
        es_timeline_add(timeline, ES_PHASE_DOWNLOAD, clock->written_mono_ns - clock->writing_ns,
                        end);
    }
}

void
edgespan_clock_filters(void)
{
    read_handle =
        ap_register_input_filter("EDGESPAN_READ_CLOCK", read_filter, NULL, AP_FTYPE_TRANSCODE);
    write_handle =
        ap_register_output_filter("EDGESPAN_WRITE_CLOCK", write_filter, NULL, AP_FTYPE_TRANSCODE);
}
