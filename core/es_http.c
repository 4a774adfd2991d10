#include "es_http.h"

#include "es_span_key.h"
#include "es_str.h"

#define REDACTED "REDACTED"
#define NAME_MAX_SIZE 256

/* The methods of RFC 9110 and RFC 5789, and QUERY: the conventions' list. */
static const es_str_t known_methods[] = {
    {"GET", 3},     {"POST", 4},  {"PUT", 3},     {"HEAD", 4},  {"DELETE", 6},
    {"OPTIONS", 7}, {"PATCH", 5}, {"CONNECT", 7}, {"TRACE", 5}, {"QUERY", 5},
};

/* The conventions' default list of sensitive query keys, case-sensitive. */
static const es_str_t secret_keys[] = {
    {"AWSAccessKeyId", 14},       {"Signature", 9},        {"sig", 3},
    {"X-Goog-Signature", 16},     {"X-Amz-Signature", 15}, {"X-Amz-Credential", 16},
    {"X-Amz-Security-Token", 20},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The conventions' names, and ours (edgespan.*). */
static const es_key_t key_client_address = ES_KEY("client.address");
static const es_key_t key_edgespan_reason = ES_KEY("edgespan.reason");
static const es_key_t key_edgespan_sampling_reason = ES_KEY("edgespan.sampling.reason");
static const es_key_t key_edgespan_upstream_duration = ES_KEY("edgespan.upstream.duration");
static const es_key_t key_error_type = ES_KEY("error.type");
static const es_key_t key_http_request_body_size = ES_KEY("http.request.body.size");
static const es_key_t key_http_request_method = ES_KEY("http.request.method");
static const es_key_t key_http_request_method_original = ES_KEY("http.request.method_original");
static const es_key_t key_http_response_body_size = ES_KEY("http.response.body.size");
static const es_key_t key_http_response_status_code = ES_KEY("http.response.status_code");
static const es_key_t key_http_route = ES_KEY("http.route");
static const es_key_t key_network_peer_address = ES_KEY("network.peer.address");
static const es_key_t key_network_peer_port = ES_KEY("network.peer.port");
static const es_key_t key_network_protocol_version = ES_KEY("network.protocol.version");
static const es_key_t key_server_address = ES_KEY("server.address");
static const es_key_t key_server_port = ES_KEY("server.port");
static const es_key_t key_url_full = ES_KEY("url.full");
static const es_key_t key_url_path = ES_KEY("url.path");
static const es_key_t key_url_query = ES_KEY("url.query");
static const es_key_t key_url_scheme = ES_KEY("url.scheme");
static const es_key_t key_user_agent_original = ES_KEY("user_agent.original");

static bool
listed(es_str_t s, const es_str_t *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (es_str_eq(s, list[i])) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------ parts of a URL --- */

void
es_http_split_target(es_str_t target, es_str_t *authority, es_str_t *path, es_str_t *query)
{
    size_t question;

    *authority = ES_STR_NONE;

    /* Absolute form: the path begins at the first slash behind the authority. */
    if (target.len != 0 && target.data[0] != '/' && target.data[0] != '*') {
        size_t scheme = es_str_find(target, ':');
        bool absolute = es_str_starts(es_str_from(target, scheme), ES_STR("://"));
        es_str_t rest = absolute ? es_str_from(target, scheme + 3) : target;
        size_t slash = es_str_find(rest, '/'), mark = es_str_find(rest, '?');
        size_t end = slash < mark ? slash : mark, at;

        if (absolute || end == rest.len) {
            *authority = es_str(rest.data, end);
            for (at = es_str_find(*authority, '@'); at < authority->len;
                 at = es_str_find(*authority, '@')) {
                *authority = es_str_from(*authority, at + 1); /* credentials */
            }
            target = es_str_from(rest, end);
        }
        if (!absolute && end == rest.len) {
            *path = *query = ES_STR_NONE;
            return;
        }
    }

    question = es_str_find(target, '?');
    *path = es_str(target.data, question);
    *query = question < target.len ? es_str_from(target, question + 1) : ES_STR_NONE;

    if (path->len == 0) {
        *path = ES_STR("/");
    }
}

void
es_http_split_host(es_str_t authority, es_str_t *host, unsigned *port)
{
    size_t end = es_str_find(authority, ':');
    uint64_t number;

    *port = 0;

    if (es_str_starts(authority, ES_STR("unix:"))) {
        *host = es_str_from(authority, sizeof("unix:") - 1);
        return;
    }
    if (authority.len != 0 && authority.data[0] == '[') {
        size_t bracket = es_str_find(authority, ']');

        if (bracket == authority.len) {
            *host = authority;
            return;
        }
        *host = es_str(authority.data + 1, bracket - 1);
        end = bracket + 1;
    } else {
        *host = es_str(authority.data, end);
    }

    if (end < authority.len && authority.data[end] == ':'
        && es_parse_uint(es_str_from(authority, end + 1), &number) && number <= 65535) {
        *port = (unsigned) number;
    }
}

es_str_t
es_http_redact_query(es_str_t query, char *out, size_t size)
{
    es_str_t left = query;
    size_t at = 0;
    bool changed = false;

    while (left.len != 0) {
        size_t end = es_str_find(left, '&');
        es_str_t pair = es_str(left.data, end), value = ES_STR_NONE;
        size_t equals = es_str_find(pair, '=');

        if (equals < pair.len
            && listed(es_str(pair.data, equals), secret_keys, COUNT(secret_keys))) {
            pair.len = equals + 1;
            value = ES_STR(REDACTED);
            changed = true;
        }
        end += end < left.len;

        /* Nothing is copied until the first secret: what went before is. */
        if (changed) {
            if (at == 0) {
                at = (size_t) (left.data - query.data);
                if (at > size) {
                    return es_str(query.data, 0);
                }
                memcpy(out, query.data, at);
            }
            if (pair.len + value.len + 1 > size - at) {
                break;
            }
            memcpy(out + at, pair.data, pair.len);
            at += pair.len;
            if (value.len != 0) {
                memcpy(out + at, value.data, value.len);
                at += value.len;
            }
            if (left.data[end - 1] == '&') {
                out[at++] = '&';
            }
        }
        left = es_str_from(left, end);
    }
    return changed ? es_str(out, at) : query;
}

/* -------------------------------------------------- writing attributes --- */

/* The user's attributes replace ours, so each of ours asks first. */
typedef struct es_http_writer {
    es_span_writer_t span;
    const es_http_t *http;
} es_http_writer_t;

static __attribute__((noinline)) bool
listed_by_user(const es_http_writer_t *writer, const es_key_t *key)
{
    const es_http_t *http = writer->http;

    for (unsigned i = 0; i < http->attributes_count; i++) {
        if (es_str_eq(http->attributes[i].key, es_key_str(key))) {
            return true;
        }
    }
    return false;
}

ES_INLINE bool
replaced(const es_http_writer_t *writer, const es_key_t *key)
{
    return writer->http->attributes_count != 0 && listed_by_user(writer, key);
}

ES_INLINE void
put_string(es_http_writer_t *writer, const es_key_t *key, es_str_t value)
{
    if (value.len != 0 && !replaced(writer, key)) {
        es_span_key_string(&writer->span, key, value);
    }
}

ES_INLINE void
put_int(es_http_writer_t *writer, const es_key_t *key, int64_t value)
{
    if (!replaced(writer, key)) {
        es_span_key_int(&writer->span, key, value);
    }
}

static void
put_method(es_http_writer_t *writer, bool known)
{
    es_str_t method = writer->http->method;

    if (known) {
        put_string(writer, &key_http_request_method, method);
    } else if (method.len != 0) {
        put_string(writer, &key_http_request_method, ES_STR("_OTHER"));
        put_string(writer, &key_http_request_method_original, method);
    }
}

static void
put_peer(es_http_writer_t *writer, es_str_t address, unsigned port)
{
    if (address.len != 0) {
        put_string(writer, &key_network_peer_address, address);
        if (port != 0) {
            put_int(writer, &key_network_peer_port, port);
        }
    }
}

static void
put_size(es_http_writer_t *writer, const es_key_t *key, int64_t size)
{
    if (size >= 0) {
        put_int(writer, key, size);
    }
}

static unsigned
default_port(es_str_t scheme)
{
    return es_str_eq(scheme, ES_STR("https")) ? 443 : 80;
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
put_url(es_http_writer_t *writer, es_str_t authority, unsigned port, es_str_t path, es_str_t query)
{
    const es_http_t *http = writer->http;
    char url[ES_SPAN_VALUE_MAX], digits[PORT_SUFFIX_MAX];
    es_str_t port_text = ES_STR_NONE;

    if (authority.len == 0 || http->scheme.len == 0) {
        return;
    }
    if (port == 0 && http->server_port != 0 && http->server_port != default_port(http->scheme)) {
        port_text = port_suffix(http->server_port, digits);
    }

    const es_str_t parts[] = {
        http->scheme, ES_STR("://"), authority,
        port_text,    path,          query.len != 0 ? ES_STR("?") : ES_STR_NONE,
        query,
    };
    size_t at = 0;

    for (size_t i = 0; i < COUNT(parts); i++) {
        size_t room = sizeof(url) - at, len = parts[i].len < room ? parts[i].len : room;

        if (len != 0) {
            memcpy(url + at, parts[i].data, len);
            at += len;
        }
    }
    put_string(writer, &key_url_full, es_str(url, at));
}

static void
put_server_address(es_http_writer_t *writer, es_str_t host, unsigned port)
{
    const es_http_t *http = writer->http;

    if (host.len == 0) {
        return;
    }
    if (port == 0) {
        port = http->server_port != 0 ? http->server_port : default_port(http->scheme);
    }
    put_string(writer, &key_server_address, host);
    put_int(writer, &key_server_port, port);
}

/* Each try as an event: what a single CLIENT span over several tries would
 * hide. One try is told by the span itself. */
static void
put_tries(es_http_writer_t *writer, uint64_t wall_offset_ns)
{
    const es_http_t *http = writer->http;

    for (unsigned i = 0; i < http->tries_count && http->tries_count > 1; i++) {
        const es_http_try_t *try = &http->tries[i];
        es_span_writer_t *span = &writer->span;

        es_span_event(span, ES_STR("edgespan.upstream.try"), try->start_mono_ns + wall_offset_ns);
        if (try->peer_address.len != 0) {
            es_span_string(span, es_key_str(&key_network_peer_address), try->peer_address);
        }
        if (try->peer_port != 0) {
            es_span_int(span, es_key_str(&key_network_peer_port), try->peer_port);
        }
        if (try->status != 0) {
            es_span_int(span, es_key_str(&key_http_response_status_code), try->status);
        }
        if (try->error_type.len != 0) {
            es_span_string(span, es_key_str(&key_error_type), try->error_type);
        }
        if (try->end_mono_ns > try->start_mono_ns) {
            es_span_double(span, es_key_str(&key_edgespan_upstream_duration),
                           (double) (try->end_mono_ns - try->start_mono_ns) / 1e9);
        }
    }
}

/* ------------------------------------------------- name, status, span --- */

/* "{method} {route}", or the method alone; never the path, which has too many
 * values. */
static es_str_t
default_name(const es_http_t *http, bool known_method, char *buffer)
{
    es_str_t method = known_method ? http->method : ES_STR("HTTP");
    es_str_t route = http->route;

    if (route.len == 0 || http->kind != ES_KIND_SERVER
        || method.len + 1 + route.len > NAME_MAX_SIZE) {
        return method;
    }
    memcpy(buffer, method.data, method.len);
    buffer[method.len] = ' ';
    memcpy(buffer + method.len + 1, route.data, route.len);
    return es_str(buffer, method.len + 1 + route.len);
}

/* error.type, empty if the exchange did not fail: 5xx is an error on both
 * sides, 4xx only to the client. `digits` holds four bytes. */
static es_str_t
error_type(const es_http_t *http, char *digits)
{
    unsigned fails_from = http->kind == ES_KIND_CLIENT ? 400 : 500;

    if (http->error_type.len != 0) {
        return http->error_type;
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

static void
put_attributes(es_http_writer_t *writer, bool known_method, es_str_t failure,
               es_str_t sampling_reason)
{
    const es_http_t *http = writer->http;
    bool server = http->kind == ES_KIND_SERVER;
    char redacted[ES_SPAN_VALUE_MAX];
    es_str_t authority = ES_STR_NONE, path = ES_STR_NONE, query = ES_STR_NONE, host;
    unsigned port;

    if (http->target.len != 0) {
        es_http_split_target(http->target, &authority, &path, &query);
        query = es_http_redact_query(query, redacted, sizeof(redacted));
    }
    if (authority.len == 0) {
        authority = http->host;
    }
    es_http_split_host(authority, &host, &port);

    put_method(writer, known_method);
    if (server) {
        put_string(writer, &key_url_path, path);
        put_string(writer, &key_url_query, query);
        put_string(writer, &key_url_scheme, http->scheme);
        put_string(writer, &key_http_route, http->route);
    } else {
        put_url(writer, authority, port, path, query);
    }
    put_server_address(writer, host, port);
    put_string(writer, &key_network_protocol_version, http->protocol_version);
    put_string(writer, &key_client_address, http->client_address);
    put_peer(writer, http->peer_address, http->peer_port);
    put_string(writer, &key_user_agent_original, http->user_agent);

    if (http->status != 0) {
        put_int(writer, &key_http_response_status_code, http->status);
    }
    put_size(writer, &key_http_request_body_size, http->request_body_size);
    put_size(writer, &key_http_response_body_size, http->response_body_size);
    put_string(writer, &key_error_type, failure);
    put_string(writer, &key_edgespan_reason, http->reason);
    put_string(writer, &key_edgespan_sampling_reason, sampling_reason);

    for (unsigned i = 0; i < http->attributes_count; i++) {
        es_span_string(&writer->span, http->attributes[i].key, http->attributes[i].value);
    }
}

es_str_t
es_http_write_span(void *buffer, es_span_t *span, const es_http_t *http,
                   const es_http_trace_t *trace)
{
    bool known_method = listed(http->method, known_methods, COUNT(known_methods));
    char name[NAME_MAX_SIZE], digits[4];
    es_http_writer_t writer;
    es_str_t failure = error_type(http, digits);

    writer.http = http;

    span->name = http->name.len != 0 ? http->name : default_name(http, known_method, name);

    es_span_begin(&writer.span, buffer, ES_SPAN_SIZE_MAX, span);
    put_attributes(&writer, known_method, failure, trace->sampling_reason);
    put_tries(&writer, trace->wall_offset_ns);
    if (trace->link != NULL) {
        es_span_link(&writer.span, trace->link, true);
    }
    return es_span_end(&writer.span, failure.len != 0 ? ES_STATUS_ERROR : ES_STATUS_UNSET,
                       ES_STR_NONE);
}
