/* An exchange as a span: its attributes, its name, its status. */

#include "es_http_writer.h"

#include "es_redaction.h"

#define NAME_MAX_SIZE 256

/* The methods of RFC 9110 and RFC 5789, and QUERY: the conventions' list. */
static const es_str_t known_methods[] = {
    {"GET", 3},     {"POST", 4},  {"PUT", 3},     {"HEAD", 4},  {"DELETE", 6},
    {"OPTIONS", 7}, {"PATCH", 5}, {"CONNECT", 7}, {"TRACE", 5}, {"QUERY", 5},
};

/* The conventions' names, and ours (edgespan.*). */
static const es_http_name_t name_background = ES_NAME("edgespan.background");
static const es_http_name_t name_cache_status = ES_NAME("edgespan.cache.status");
static const es_http_name_t name_client_address = ES_NAME_WAS("client.address", "http.client_ip");
static const es_http_name_t name_log_dropped = ES_NAME("edgespan.log.dropped");
static const es_http_name_t name_method = ES_NAME_NEW("http.request.method");
static const es_http_name_t name_method_original = ES_NAME_NEW("http.request.method_original");
static const es_http_name_t name_protocol_version = ES_NAME_NEW("network.protocol.version");
static const es_http_name_t name_reason = ES_NAME("edgespan.reason");
static const es_http_name_t name_request_body_size = ES_NAME_NEW("http.request.body.size");
static const es_http_name_t name_resend_count =
    ES_NAME_WAS("http.request.resend_count", "http.resend_count");
static const es_http_name_t name_response_body_size = ES_NAME_NEW("http.response.body.size");
static const es_http_name_t name_route = ES_NAME("http.route");
static const es_http_name_t name_sampling_reason = ES_NAME("edgespan.sampling.reason");
static const es_http_name_t name_scheme = ES_NAME_WAS("url.scheme", "http.scheme");
static const es_http_name_t name_server_address = ES_NAME_WAS("server.address", "net.host.name");
static const es_http_name_t name_server_port = ES_NAME_NEW("server.port");
static const es_http_name_t name_upstream_address = ES_NAME_WAS("server.address", "net.peer.name");
static const es_http_name_t name_url_full = ES_NAME_WAS("url.full", "http.url");
static const es_http_name_t name_url_path = ES_NAME_NEW("url.path");
static const es_http_name_t name_url_query = ES_NAME_NEW("url.query");
static const es_http_name_t name_user_agent = ES_NAME_WAS("user_agent.original", "http.user_agent");

/* Where it came from and what it asks for, taken apart. */
typedef struct es_http_url {
    es_str_t authority, host, path, query;
    unsigned port; /* 0: not in the authority */
} es_http_url_t;

static bool
is_known(es_str_t method)
{
    for (size_t i = 0; i < ES_COUNT(known_methods); i++) {
        if (es_str_eq(method, known_methods[i])) {
            return true;
        }
    }
    return false;
}

static void
put_method(es_http_writer_t *writer, bool known)
{
    es_str_t method = writer->http->method;

    if (known) {
        es_http_put_string(writer, &name_method, method);
    } else if (method.len != 0) {
        es_http_put_string(writer, &name_method, ES_STR("_OTHER"));
        es_http_put_string(writer, &name_method_original, method);
    }
}

/* The client, and the peer: where the client is masked, the peer is, if it is that or if
 * nobody else is known. */
static void
put_peer(es_http_writer_t *writer)
{
    const es_http_t *http = writer->http;
    es_str_t client = http->client_address, peer = http->peer_address;
    char text[ES_ADDRESS_TEXT];

    if (http->redaction != NULL && http->kind == ES_KIND_SERVER) {
        bool same = client.len == 0 || es_str_eq(peer, client);
        es_str_t shown = es_redaction_address(http->redaction, same ? peer : client, text);

        peer = same ? shown : peer;
        client = client.len != 0 ? shown : client;
    }
    es_http_put_string(writer, &name_client_address, client);
    if (peer.len != 0) {
        es_http_put_string(writer, &es_name_peer_address, peer);
        if (http->peer_port != 0) {
            es_http_put_int(writer, &es_name_peer_port, http->peer_port);
        }
    }
}

static void
put_size(es_http_writer_t *writer, const es_http_name_t *name, int64_t size)
{
    if (size >= 0) {
        es_http_put_int(writer, name, size);
    }
}

#define PORT_SUFFIX_MAX 12

/* ":8080" */
static es_str_t
port_suffix(unsigned port, char buffer[PORT_SUFFIX_MAX])
{
    char *end = buffer + PORT_SUFFIX_MAX, *at = end;

    do {
        *--at = (char) ('0' + port % 10);
        port /= 10;
    } while (port != 0);
    *--at = ':';
    return es_str(at, (size_t) (end - at));
}

/* url.full of a CLIENT span. There are no credentials in it: a gateway puts
 * none into the target it sends. */
static void
put_url(es_http_writer_t *writer, const es_http_url_t *url)
{
    const es_http_t *http = writer->http;
    char text[ES_SPAN_VALUE_MAX], digits[PORT_SUFFIX_MAX];
    es_str_t port = ES_STR_NONE;

    if (url->authority.len == 0 || http->scheme.len == 0) {
        return;
    }
    if (url->port == 0 && http->server_port != 0
        && http->server_port != es_http_default_port(http->scheme)) {
        port = port_suffix(http->server_port, digits);
    }

    const es_str_t parts[] = {
        http->scheme, ES_STR("://"), url->authority,
        port,         url->path,     url->query.len != 0 ? ES_STR("?") : ES_STR_NONE,
        url->query,
    };
    size_t at = 0;

    for (size_t i = 0; i < ES_COUNT(parts); i++) {
        size_t room = sizeof(text) - at, len = parts[i].len < room ? parts[i].len : room;

        if (len != 0) {
            memcpy(text + at, parts[i].data, len);
            at += len;
        }
    }
    es_http_put_string(writer, &name_url_full, es_str(text, at));
}

/* The server's port as it is told; 0: neither is its name. */
static unsigned
put_server(es_http_writer_t *writer, const es_http_url_t *url)
{
    const es_http_t *http = writer->http;
    unsigned port = url->port;

    if (url->host.len == 0) {
        return 0;
    }
    if (port == 0) {
        port = http->server_port != 0 ? http->server_port : es_http_default_port(http->scheme);
    }
    if (http->kind == ES_KIND_CLIENT) {
        es_http_put_string(writer, &name_upstream_address, url->host);
    } else {
        es_http_put_string(writer, &name_server_address, url->host);
    }
    es_http_put_int(writer, &name_server_port, port);
    return port;
}

/* ------------------------------------------------- name, status, span --- */

/* "{method} {route}", or the method alone; never the path, which has too many
 * values. Of a subrequest, whose method says little, "subrequest {route}". */
static es_str_t
default_name(const es_http_t *http, bool known_method, char *buffer)
{
    es_str_t first = known_method ? http->method : ES_STR("HTTP");
    es_str_t route = http->route;

    if (http->kind == ES_KIND_INTERNAL) {
        first = ES_STR("subrequest");
    }
    if (route.len == 0 || http->kind == ES_KIND_CLIENT
        || first.len + 1 + route.len > NAME_MAX_SIZE) {
        return first;
    }
    memcpy(buffer, first.data, first.len);
    buffer[first.len] = ' ';
    memcpy(buffer + first.len + 1, route.data, route.len);
    return es_str(buffer, first.len + 1 + route.len);
}

/* error.type, empty if the exchange did not fail: 5xx is an error on both
 * sides, 4xx only to the client. `digits` holds four bytes. */
ES_INLINE es_str_t
error_type(const es_http_t *http, char *digits)
{
    unsigned fails_from = http->kind == ES_KIND_CLIENT ? 400 : 500;

    if (http->error_type.len != 0) {
        return http->error_type;
    }
    if (http->grpc) {
        es_str_t status = es_http_rpc_error(http);

        if (status.len != 0) {
            return status;
        }
    }
    if (http->status < fails_from || http->status > 999) {
        return ES_STR_NONE;
    }
    digits[0] = (char) ('0' + http->status / 100);
    digits[1] = (char) ('0' + http->status / 10 % 10);
    digits[2] = (char) ('0' + http->status % 10);
    return es_str(digits, 3);
}

bool
es_http_failed(const es_http_t *http)
{
    char digits[4];

    return error_type(http, digits).len != 0;
}

/* How it ended. */
static void
put_outcome(es_http_writer_t *writer, es_str_t failure)
{
    const es_http_t *http = writer->http;

    if (http->status != 0) {
        es_http_put_int(writer, &es_name_status_code, http->status);
    }
    if (!http->no_error_type) {
        es_http_put_string(writer, &es_name_error_type, failure);
    }
    es_http_put_string(writer, &name_reason, http->reason);
    es_http_put_string(writer, &name_sampling_reason, writer->trace->sampling_reason);
    es_http_put_string(writer, &name_cache_status, http->cache_status);
    es_http_put_bool(writer, &name_background, http->background);
    if (http->log_dropped != 0) {
        es_http_put_int(writer, &name_log_dropped, http->log_dropped);
    }
    if (http->resend_count != 0) {
        es_http_put_int(writer, &name_resend_count, http->resend_count);
    }
}

static void
put_attributes(es_http_writer_t *writer, bool known_method, es_str_t failure)
{
    const es_http_t *http = writer->http;
    bool internal = http->kind == ES_KIND_INTERNAL;
    char redacted[ES_SPAN_VALUE_MAX];
    es_http_url_t url = {0};
    unsigned port = 0;

    if (http->target.len != 0) {
        es_http_split_target(http->target, &url.authority, &url.path, &url.query);
        url.query = es_http_redact_query(http->redaction, url.query, redacted, sizeof(redacted));
    }

    put_method(writer, known_method);
    if (http->kind != ES_KIND_CLIENT) {
        es_http_put_string(writer, &name_url_path, url.path);
        es_http_put_string(writer, &name_url_query, url.query);
        es_http_put_string(writer, &name_route, http->route);
    }
    if (!internal) {
        if (url.authority.len == 0) {
            url.authority = http->host;
        }
        es_http_split_host(url.authority, &url.host, &url.port);
        if (http->kind == ES_KIND_CLIENT) {
            put_url(writer, &url);
        } else {
            es_http_put_string(writer, &name_scheme, http->scheme);
        }
        port = put_server(writer, &url);
        es_http_put_string(writer, &name_protocol_version, http->protocol_version);
        put_peer(writer);
        es_http_put_string(writer, &name_user_agent, http->user_agent);
        put_size(writer, &name_request_body_size, http->request_body_size);
        put_size(writer, &name_response_body_size, http->response_body_size);
    }
    put_outcome(writer, failure);
    if (http->grpc && !internal) {
        es_http_put_rpc(writer, url.path);
    }
    if (writer->trace->config->semconv != ES_SEMCONV_STABLE) {
        es_http_put_old(writer, &(es_http_old_t){url.path, url.query, port});
    }
}

es_str_t
es_http_write_span(void *buffer, es_span_t *span, const es_http_t *http,
                   const es_http_trace_t *trace)
{
    bool known_method = is_known(http->method);
    char name[NAME_MAX_SIZE], digits[4];
    es_str_t failure = error_type(http, digits);
    es_http_writer_t writer;

    writer.http = http;
    writer.trace = trace;
    writer.replacing = http->attributes;
    writer.replacing_count = http->attributes_count;
    writer.plain = http->attributes_count == 0 && trace->config->semconv == ES_SEMCONV_STABLE;

    span->name = http->name.len != 0 ? http->name : default_name(http, known_method, name);

    es_span_begin(&writer.span, buffer, ES_SPAN_SIZE_MAX, span);
    put_attributes(&writer, known_method, failure);
    if (http->timeline != NULL) {
        es_http_put_timeline(&writer, span->start_ns - trace->wall_offset_ns,
                             span->end_ns - trace->wall_offset_ns);
    } else if (http->tries_count == 1) {
        es_http_put_try(&writer, http->tries);
    }
    if (http->attributes_count != 0) {
        es_http_put_attributes(&writer, http->attributes, http->attributes_count);
    }
    if (http->tries_count > 1 || http->events_count != 0) {
        es_http_put_events(&writer);
    }
    if (trace->link != NULL) {
        es_span_link(&writer.span, trace->link, true);
    }
    return es_span_end(&writer.span, failure.len != 0 ? ES_STATUS_ERROR : ES_STATUS_UNSET,
                       ES_STR_NONE);
}
