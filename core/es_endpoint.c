/* Which protocol an endpoint means. Without "protocol": a host and port, or a
 * URL without a path, is gRPC's form, except on port 4318, which is OTLP/HTTP's;
 * a URL with a path is OTLP/HTTP, taken verbatim; file:///path is a file. */

#include "es_protocol.h"

#include <stdio.h>
#include <stdlib.h>

#define TRACES_PATH "/v1/traces"

typedef struct es_endpoint {
    es_str_t scheme;    /* empty: none was given */
    es_str_t authority; /* host[:port] */
    es_str_t path;      /* with what follows it; empty if there is none */
} es_endpoint_t;

static es_endpoint_t
split(es_str_t text)
{
    es_endpoint_t endpoint = {ES_STR_NONE, ES_STR_NONE, ES_STR_NONE};
    size_t colon = es_str_find(text, ':'), slash;

    if (es_str_starts(es_str_from(text, colon), ES_STR("://"))) {
        endpoint.scheme = es_str(text.data, colon);
        text = es_str_from(text, colon + 3);
    }
    slash = es_str_find(text, '/');
    endpoint.authority = es_str(text.data, slash);
    endpoint.path = es_str_from(text, slash);
    return endpoint;
}

static bool
authority_valid(es_str_t authority)
{
    static const char forbidden[] = " \t\"<>\\^`{|}?#";
    size_t colon = authority.len;
    uint64_t port;

    for (size_t i = 0; i < authority.len; i++) {
        if ((unsigned char) authority.data[i] <= 0x20 || authority.data[i] == 0x7f
            || strchr(forbidden, authority.data[i]) != NULL) {
            return false;
        }
        if (authority.data[i] == ':') {
            colon = i;
        }
        if (authority.data[i] == ']') {
            colon = authority.len;
        }
    }
    if (colon < authority.len
        && (!es_parse_uint(es_str_from(authority, colon + 1), &port) || port == 0
            || port > 65535)) {
        return false;
    }
    return authority.len != 0 && colon != 0;
}

/* "http://user:password@host/" without what is nobody's business. */
static char *
without_credentials(const char *url)
{
    const char *authority = strstr(url, "://"), *end, *at;
    char *copy = es_str_dup(es_cstr(url));

    authority = authority != NULL ? authority + 3 : url;
    end = authority + strcspn(authority, "/?#");
    for (at = end; at > authority && at[-1] != '@'; at--) {
    }
    if (copy != NULL) {
        strcpy(copy + (authority - url), at);
    }
    return copy;
}

static bool
set_target(es_exporter_config_t *exporter, const char *format, es_str_t a, es_str_t b,
           es_error_t *error)
{
    char text[4096];
    int len = snprintf(text, sizeof(text), format, (int) a.len, a.data, (int) b.len, b.data);

    if (len < 0 || (size_t) len >= sizeof(text)) {
        return es_fail(error, "the endpoint is longer than %zu bytes", sizeof(text));
    }
    free(exporter->target);
    free(exporter->name);
    exporter->target = es_str_dup(es_cstr(text));
    exporter->name = without_credentials(text);
    return (exporter->target != NULL && exporter->name != NULL) || es_fail(error, "no memory");
}

static bool
refuse(const es_exporter_config_t *exporter, const char *what, es_error_t *error)
{
    char *endpoint = without_credentials(exporter->endpoint);

    es_fail(error,
            "endpoint \"%.200s\" %s: give http://host:4318" TRACES_PATH
            " (protocol http/protobuf) or file:///path",
            endpoint != NULL ? endpoint : "", what);
    free(endpoint);
    return false;
}

static bool
resolve_file(es_exporter_config_t *exporter, const es_endpoint_t *endpoint, es_error_t *error)
{
    if (!es_str_eq(endpoint->scheme, ES_STR("file")) || endpoint->authority.len != 0
        || endpoint->path.len < 2) {
        return refuse(exporter, "is no file", error);
    }
    exporter->protocol = &es_protocol_file;
    return set_target(exporter, "%.*s%.*s", endpoint->path, ES_STR_NONE, error);
}

static bool
resolve_http(es_exporter_config_t *exporter, const es_endpoint_t *endpoint, es_error_t *error)
{
    es_str_t text = es_cstr(exporter->endpoint);
    bool has_path = endpoint->path.len > 1;
    es_str_t path = has_path ? ES_STR_NONE : ES_STR(TRACES_PATH);

    /* "http://host:4318/" is as good as without the slash. */
    if (!has_path && endpoint->path.len == 1) {
        text.len--;
    }
    return set_target(exporter, endpoint->scheme.len != 0 ? "%.*s%.*s" : "http://%.*s%.*s", text,
                      path, error);
}

bool
es_endpoint_resolve(es_exporter_config_t *exporter, es_error_t *error)
{
    es_endpoint_t endpoint = split(es_cstr(exporter->endpoint));
    es_str_t name = es_cstr(exporter->protocol_name);
    bool http = es_str_eq(endpoint.scheme, ES_STR("http"))
                || es_str_eq(endpoint.scheme, ES_STR("https")) || endpoint.scheme.len == 0;
    bool inferred = exporter->protocol_name == NULL;
    char *given;
    es_str_t port;

    if (strchr(exporter->endpoint, '$') != NULL) {
        return refuse(exporter, "holds a \"$\": variables have no meaning in it", error);
    }
    if (es_str_eq(name, ES_STR("grpc"))) {
        return es_fail(error, "protocol \"grpc\" is not spoken by this version: use \"http/"
                              "protobuf\" with port 4318");
    }
    if (!inferred && (exporter->protocol = es_protocol_find(name)) == NULL) {
        char names[128];

        es_protocol_names(names, sizeof(names));
        return es_fail(error, "unknown protocol \"%.*s\": there are %s", ES_ARG(name), names);
    }
    if (exporter->protocol == &es_protocol_file || es_str_eq(endpoint.scheme, ES_STR("file"))) {
        if (!inferred && exporter->protocol != &es_protocol_file) {
            return refuse(exporter, "is a file and no URL to post to", error);
        }
        return resolve_file(exporter, &endpoint, error);
    }
    if (es_str_starts(es_cstr(exporter->endpoint), ES_STR("unix:"))) {
        return refuse(exporter, "is a unix socket, which is not supported by this version", error);
    }
    if (!http) {
        return refuse(exporter, "has no scheme of ours", error);
    }
    if (!authority_valid(endpoint.authority)) {
        return refuse(exporter, "has no valid host and port", error);
    }

    if (inferred) {
        size_t end = endpoint.authority.len;

        port = end >= 5 ? es_str_from(endpoint.authority, end - 5) : ES_STR_NONE;
        if (endpoint.path.len <= 1 && !es_str_eq(port, ES_STR(":4318"))) {
            return refuse(exporter, "means protocol grpc, which is not spoken by this version",
                          error);
        }
        exporter->protocol = &es_protocol_http_protobuf;
        if (!resolve_http(exporter, &endpoint, error)) {
            return false;
        }
        given = without_credentials(exporter->endpoint);
        es_config_log(exporter->config, ES_LOG_NOTICE, "endpoint \"%s\": spans go to %s as %s",
                      given != NULL ? given : "", exporter->name, exporter->protocol->name);
        free(given);
        return true;
    }
    return resolve_http(exporter, &endpoint, error);
}
