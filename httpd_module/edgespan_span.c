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
    http->redaction = &edgespan_dir_conf(r)->redaction;

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
set_result(const request_rec *last, es_http_t *http)
{
    const edgespan_request_t *request = edgespan_request_of(last);

    if (!request->unanswered && header_was_sent(last)) {
        http->status = (unsigned) last->status;
        http->response_body_size =
            last->header_only || AP_STATUS_IS_HEADER_ONLY(last->status) ? 0 : last->bytes_sent;
    }

    if (last->connection->aborted) {
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
    const edgespan_request_t *initial = edgespan_request_of(r);
    es_http_t http = {
        .kind = ES_KIND_SERVER,
        .resource = edgespan_server_conf(r)->resource,
        .first_byte_mono_ns = initial->first_byte_mono_ns,
        .end_mono_ns = es_mono_ns(),
        .request_body_size = -1,
        .response_body_size = -1,
    };

    set_result(last, &http);
    if (!es_trace_sampled(trace) && !is_kept(last, trace, &http)) {
        return;
    }
    set_request(r, &http);
    edgespan_set_attributes(r, last, trace, &http);
    if (conf->span_name != NULL) {
        http.name = es_cstr(edgespan_evaluate(last, conf->span_name));
    }
    es_trace_http(trace, &http);
    edgespan_end_upstream_spans(initial);
}
