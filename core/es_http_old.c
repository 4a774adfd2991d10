/* What the HTTP conventions before 1.23 tell in another way than the stable ones. */

#include "es_http_writer.h"

static const es_http_name_t name_flavor = ES_NAME_OLD("http.flavor");
static const es_http_name_t name_host_port = ES_NAME_OLD("net.host.port");
static const es_http_name_t name_method = ES_NAME_OLD("http.method");
static const es_http_name_t name_peer_port = ES_NAME_OLD("net.peer.port");
static const es_http_name_t name_request_length = ES_NAME_OLD("http.request_content_length");
static const es_http_name_t name_response_length = ES_NAME_OLD("http.response_content_length");
static const es_http_name_t name_target = ES_NAME_OLD("http.target");

/* "2.0" and "3.0": a minor version that HTTP has given up. */
static es_str_t
flavor(es_str_t version)
{
    if (es_str_eq(version, ES_STR("2"))) {
        return ES_STR("2.0");
    }
    return es_str_eq(version, ES_STR("3")) ? ES_STR("3.0") : version;
}

/* Path and query in one. */
static void
put_target(es_http_writer_t *writer, es_str_t path, es_str_t query)
{
    char target[ES_SPAN_VALUE_MAX];
    size_t at = path.len < sizeof(target) ? path.len : sizeof(target), room, len;

    if (query.len == 0) {
        es_http_put_string(writer, &name_target, path);
        return;
    }
    if (at != 0) {
        memcpy(target, path.data, at);
    }
    if (at < sizeof(target)) {
        target[at++] = '?';
    }
    room = sizeof(target) - at;
    len = query.len < room ? query.len : room;
    memcpy(target + at, query.data, len);
    es_http_name_string(writer, &name_target, es_str(target, at + len));
}

void
es_http_put_old(es_http_writer_t *writer, const es_http_old_t *old)
{
    const es_http_t *http = writer->http;
    bool client = http->kind == ES_KIND_CLIENT;

    es_http_put_string(writer, &name_method, http->method);
    if (!client) {
        put_target(writer, old->path, old->query);
    }
    if (http->kind == ES_KIND_INTERNAL) {
        return;
    }
    es_http_put_string(writer, &name_flavor, flavor(http->protocol_version));
    if (old->port != 0 && old->port != es_http_default_port(http->scheme)) {
        es_http_name_int(writer, client ? &name_peer_port : &name_host_port, old->port);
    }

    /* Of a request they are always there. */
    if (!client || http->request_body_size > 0) {
        es_http_name_int(writer, &name_request_length,
                         http->request_body_size > 0 ? http->request_body_size : 0);
    }
    if (!client || http->response_body_size > 0) {
        es_http_name_int(writer, &name_response_length,
                         http->response_body_size > 0 ? http->response_body_size : 0);
    }
}
