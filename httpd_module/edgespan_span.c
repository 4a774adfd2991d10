/* What a finished request says: httpd's view of it in the core's terms. */

#include "mod_edgespan.h"

#include "mod_core.h" /* ap_http_header_filter_handle */

/* A request line that httpd could not read passes for HTTP/1.0. */
static es_str_t
protocol_version(const request_rec *r)
{
    const char *word = strrchr(r->the_request, ' ');

    if (r->assbackwards) {
        return ES_STR("0.9");
    }
    if (word == NULL || strncmp(word, " HTTP/", 6) != 0) {
        return ES_STR_NONE;
    }
    switch (r->proto_num) {
    case HTTP_VERSION(1, 0):
        return ES_STR("1.0");
    case HTTP_VERSION(1, 1):
        return ES_STR("1.1");
    case HTTP_VERSION(2, 0):
        return ES_STR("2");
    default:
        return ES_STR_NONE;
    }
}

/* ------------------------------------------------------- what is common --- */

es_timeline_t *
edgespan_timeline(request_rec *r)
{
    request_rec *first = edgespan_initial_request(r);
    edgespan_request_t *initial = edgespan_request_of(first);

    if (initial->timeline == NULL) {
        initial->timeline = apr_palloc(first->pool, sizeof(*initial->timeline));
        initial->timeline->count = 0;
    }
    return initial->timeline;
}

/* It says so by setting one text twice: as what it did last, and by its kind. */
es_str_t
edgespan_cache_status(const request_rec *r)
{
    static const struct {
        const char *name;
        es_str_t status;
    } kinds[] = {
        {"cache-hit", {"HIT", 3}},
        {"cache-miss", {"MISS", 4}},
        {"cache-revalidate", {"REVALIDATED", 11}},
        {"cache-invalidate", {"INVALIDATED", 11}},
    };

    for (; r != NULL; r = r->next) {
        const char *text = apr_table_get(r->subprocess_env, "cache-status");

        if (text != NULL && strstr(text, "stale content returned") != NULL) {
            return ES_STR("STALE");
        }
        for (size_t i = 0; text != NULL && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
            if (apr_table_get(r->subprocess_env, kinds[i].name) == text) {
                return kinds[i].status;
            }
        }
    }
    return ES_STR_NONE;
}

static bool
is_grpc(const request_rec *r)
{
    return es_is_grpc(es_cstr(apr_table_get(r->headers_in, "Content-Type")));
}

/* A trailer, or in the header of a response that has nothing else. */
static const char *
grpc_status(const request_rec *r)
{
    const char *status = apr_table_get(r->trailers_out, "grpc-status");

    return status != NULL ? status : apr_table_get(r->headers_out, "grpc-status");
}

void
edgespan_see_trailers(const request_rec *r, edgespan_request_t *request)
{
    if (is_grpc(r)) {
        request->grpc_status = grpc_status(r);
    }
}

void
edgespan_set_rpc(const request_rec *r, const request_rec *last, es_http_t *http)
{
    const edgespan_request_t *request = edgespan_request_of(last);

    if (is_grpc(r)) {
        http->grpc = true;
        http->grpc_status =
            es_cstr(request->grpc_status != NULL ? request->grpc_status : grpc_status(last));
    }
}

/* ------------------------------------------------ spans below the first --- */

static es_str_t
copy(apr_pool_t *p, es_str_t text)
{
    return es_str(apr_pmemdup(p, text.data, text.len), text.len);
}

static const es_http_try_t *
copy_try(apr_pool_t *p, const es_http_t *http)
{
    es_http_try_t *try = apr_pmemdup(p, http->tries, sizeof(*try));

    try->peer_address = copy(p, try->peer_address);
    return try;
}

static void
remember(apr_pool_t *p, edgespan_request_t *initial, const es_http_t *http)
{
    es_http_t *span;

    if (initial->spans == NULL) {
        initial->spans = apr_array_make(p, 1, sizeof(es_http_t));
    }
    span = apr_array_push(initial->spans);
    *span = *http;
    span->span_id = apr_pmemdup(p, http->span_id, ES_SPAN_ID_LEN);
    if (http->parent_id != NULL) {
        span->parent_id = apr_pmemdup(p, http->parent_id, ES_SPAN_ID_LEN);
    }
    span->method = copy(p, http->method);
    span->target = copy(p, http->target);
    span->scheme = copy(p, http->scheme);
    span->host = copy(p, http->host);
    span->route = copy(p, http->route);
    span->peer_address = copy(p, http->peer_address);
    span->grpc_status = copy(p, http->grpc_status);
    span->redaction = apr_pmemdup(p, http->redaction, sizeof(*http->redaction));
    if (http->tries_count != 0) {
        span->tries = copy_try(p, http);
    }
    if (http->events_count != 0) {
        span->events = apr_pmemdup(p, http->events, sizeof(*http->events));
    }
}

void
edgespan_end_span(request_rec *r, const es_http_t *http)
{
    const request_rec *first = edgespan_initial_request(r);
    edgespan_request_t *initial = edgespan_request_of(first);

    if (edgespan_process.provider == NULL) {
        return;
    }
    if (es_trace_sampled(initial->trace)) {
        es_trace_http(initial->trace, http);
    } else {
        remember(first->pool, initial, http);
    }
}

static void
end_kept_spans(const edgespan_request_t *initial)
{
    for (int i = 0; initial->spans != NULL && i < initial->spans->nelts; i++) {
        es_trace_http(initial->trace, &APR_ARRAY_IDX(initial->spans, i, es_http_t));
    }
}

/* -------------------------------------------------------- the SERVER span --- */

/* The request line and headers, as far as they were read. */
static void
set_request(request_rec *r, es_http_t *http)
{
    const char *length = apr_table_get(r->headers_in, "Content-Length");
    const conn_rec *c = r->connection;
    char *end;

    if (r->the_request != NULL) {
        http->method = es_cstr(r->method);
        http->protocol_version = protocol_version(r);
    }
    if (r->method_number != M_CONNECT) {
        http->target = es_cstr(r->unparsed_uri); /* of a CONNECT, it is no path */
    }
    http->scheme = es_cstr(ap_http_scheme(r));
    http->host = es_cstr(apr_table_get(r->headers_in, "Host"));
    http->user_agent = es_cstr(apr_table_get(r->headers_in, "User-Agent"));
    http->route = edgespan_route(r);

    /* mod_remoteip changes the first, never the second. */
    http->client_address = es_cstr(r->useragent_ip);
    http->peer_address = es_cstr(c->client_ip);
    http->peer_port = c->client_addr->port;

    if (length != NULL) {
        http->request_body_size = apr_strtoi64(length, &end, 10);
        if (*end != '\0') {
            http->request_body_size = -1;
        }
    } else if (r->read_length != 0) {
        http->request_body_size = r->read_length;
    }
}

/* The filter that writes the header leaves its chain when it has done so. */
static int
header_was_sent(const request_rec *r)
{
    const ap_filter_t *filter;

    for (filter = r->output_filters; filter != NULL; filter = filter->next) {
        if (filter->frec == ap_http_header_filter_handle) {
            return 0;
        }
    }
    return 1;
}

/* Status, size, and how it ended. What was never sent is no status. A response
 * that was cut short is an error although it said 200, unless the client left. */
static void
set_result(request_rec *last, es_http_t *http)
{
    const edgespan_request_t *request = edgespan_request_of(last);

    if (!request->unanswered && header_was_sent(last)) {
        http->status =
            request->tunnel_status != 0 ? request->tunnel_status : (unsigned) last->status;
        http->response_body_size =
            last->header_only || AP_STATUS_IS_HEADER_ONLY(last->status) ? 0 : last->bytes_sent;
    }

    if (edgespan_client_left(last)) {
        http->reason = ES_REASON_CLIENT_CLOSED;
    } else if (request->unanswered) {
        http->error_type = ES_ERROR_NO_RESPONSE;
    } else if (request->truncated) {
        http->error_type = ES_ERROR_TRUNCATED;
    } else if (http->status == 0 && last->status == HTTP_REQUEST_TIME_OUT) {
        http->reason = ES_REASON_REQUEST_TIMEOUT;
    }
}

/* What the head dropped may be kept for how it ended. */
static bool
is_kept(request_rec *last, es_trace_t *trace, es_http_t *http)
{
    bool kept;

    /* A tunnel's first byte goes past the filters of the request. That it was open
     * for long does not make it slow. */
    if (http->first_byte_mono_ns == 0 && http->status != 0) {
        http->first_byte_mono_ns = trace->start_mono_ns;
    }
    kept = es_trace_keep(trace, http);
    if (trace->keep != ES_KEEP_NOT) {
        edgespan_show_why(last, trace);
    }
    return kept;
}

void
edgespan_end_server_span(request_rec *r, request_rec *last, es_trace_t *trace)
{
    const edgespan_dir_conf_t *conf = edgespan_dir_conf(last);
    edgespan_request_t *initial = edgespan_request_of(r);
    uint64_t end = es_mono_ns();
    const es_http_event_t upgrade = {.name = ES_EVENT_UPGRADE,
                                     .mono_ns = initial->upgraded_mono_ns};
    es_timeline_t alone, *timeline = initial->timeline;
    es_http_t http = {
        .kind = ES_KIND_SERVER,
        .resource = edgespan_server_conf(r)->resource,
        .first_byte_mono_ns = initial->clock.first_byte_mono_ns,
        .end_mono_ns = end,
        .request_body_size = -1,
        .response_body_size = -1,
        .events = &upgrade,
        .events_count = upgrade.mono_ns != 0,
    };

    edgespan_end_subrequests(initial);
    set_result(last, &http);
    if (!es_trace_sampled(trace) && !is_kept(last, trace, &http)) {
        return;
    }
    if (timeline == NULL) {
        timeline = &alone;
        timeline->count = 0;
    }
    edgespan_stop_clock(r, initial, timeline, end);
    http.timeline = timeline;
    set_request(r, &http);
    http.redaction = edgespan_redaction(last);
    http.cache_status = edgespan_cache_status(r);
    edgespan_set_rpc(r, last, &http);
    edgespan_set_attributes(r, last, trace, &http);
    if (conf->span_name != NULL) {
        http.name = es_cstr(edgespan_evaluate(last, conf->span_name));
    }
    es_trace_http(trace, &http);
    end_kept_spans(initial);
}
