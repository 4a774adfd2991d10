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
set_target(es_target_t *target, const char *format, es_str_t a, es_str_t b, es_error_t *error)
{
    char text[4096];
    int len = snprintf(text, sizeof(text), format, (int) a.len, a.data, (int) b.len, b.data);

    if (len < 0 || (size_t) len >= sizeof(text)) {
        return es_fail(error, "the endpoint is longer than %zu bytes", sizeof(text));
    }
    target->url = es_str_dup(es_cstr(text));
    target->name = without_credentials(text);
    return (target->url != NULL && target->name != NULL) || es_fail(error, "no memory");
}

static bool
refuse(const es_target_t *target, const char *what, es_error_t *error)
{
    char *endpoint = without_credentials(target->endpoint);

    es_fail(error,
            "endpoint \"%.200s\" %s: give http://host:4318" TRACES_PATH
            " (protocol http/protobuf) or file:///path",
            endpoint != NULL ? endpoint : "", what);
    free(endpoint);
    return false;
}

static bool
resolve_file(es_target_t *target, const es_endpoint_t *endpoint, es_error_t *error)
{
    if (!es_str_eq(endpoint->scheme, ES_STR("file")) || endpoint->authority.len != 0
        || endpoint->path.len < 2) {
        return refuse(target, "is no file", error);
    }
    return set_target(target, "%.*s%.*s", endpoint->path, ES_STR_NONE, error);
}

static bool
resolve_http(es_target_t *target, const es_protocol_t *protocol, const es_endpoint_t *endpoint,
             es_error_t *error)
{
    es_str_t text = es_cstr(target->endpoint);
    bool has_path = endpoint->path.len > 1;
    es_str_t path = has_path ? ES_STR_NONE : es_cstr(protocol->path);

    if (!es_str_eq(endpoint->scheme, ES_STR("http"))
        && !es_str_eq(endpoint->scheme, ES_STR("https")) && endpoint->scheme.len != 0) {
        return refuse(target, "has no scheme of ours", error);
    }
    if (!authority_valid(endpoint->authority)) {
        return refuse(target, "has no valid host and port", error);
    }

    /* "http://host:4318/" is as good as without the slash. */
    if (!has_path && endpoint->path.len == 1) {
        text.len--;
    }
    return set_target(target, endpoint->scheme.len != 0 ? "%.*s%.*s" : "http://%.*s%.*s", text,
                      path, error);
}

/* What an endpoint means by itself. */
static bool
infer(const es_target_t *target, const es_protocol_t **protocol, es_error_t *error)
{
    es_endpoint_t endpoint = split(es_cstr(target->endpoint));
    size_t end = endpoint.authority.len;
    es_str_t port = end >= 5 ? es_str_from(endpoint.authority, end - 5) : ES_STR_NONE;

    if (es_str_eq(endpoint.scheme, ES_STR("file"))) {
        *protocol = &es_protocol_file;
    } else if (endpoint.path.len <= 1 && !es_str_eq(port, ES_STR(":4318"))) {
        return refuse(target, "means protocol grpc, which is not spoken by this version", error);
    } else {
        *protocol = &es_protocol_http_protobuf;
    }
    return true;
}

static bool
choose_protocol(es_exporter_config_t *exporter, es_error_t *error)
{
    es_str_t name = es_cstr(exporter->protocol_name);
    char names[128];

    if (exporter->protocol_name == NULL) {
        return infer(&exporter->targets[0], &exporter->protocol, error);
    }
    if ((exporter->protocol = es_protocol_find(name)) == NULL) {
        es_protocol_names(names, sizeof(names));
        return es_fail(error, "unknown protocol \"%.*s\": there are %s", ES_ARG(name), names);
    }
    return true;
}

static bool
resolve(es_target_t *target, const es_protocol_t *protocol, es_error_t *error)
{
    es_endpoint_t endpoint = split(es_cstr(target->endpoint));

    if (strchr(target->endpoint, '$') != NULL) {
        return refuse(target, "holds a \"$\": variables have no meaning in it", error);
    }
    if (protocol == &es_protocol_file) {
        return resolve_file(target, &endpoint, error);
    }
    if (es_str_eq(endpoint.scheme, ES_STR("file"))) {
        return refuse(target, "is a file and no URL to post to", error);
    }
    if (es_str_starts(es_cstr(target->endpoint), ES_STR("unix:"))) {
        return refuse(target, "is a unix socket, which is not supported by this version", error);
    }
    return resolve_http(target, protocol, &endpoint, error);
}

bool
es_endpoint_resolve(es_exporter_config_t *exporter, es_error_t *error)
{
    if (!choose_protocol(exporter, error)) {
        return false;
    }
    for (unsigned i = 0; i < exporter->targets_count; i++) {
        es_target_t *target = &exporter->targets[i];
        char *given;

        if (!resolve(target, exporter->protocol, error)) {
            return false;
        }
        if (exporter->protocol_name == NULL) {
            given = without_credentials(target->endpoint);
            es_config_log(exporter->config, ES_LOG_NOTICE, "endpoint \"%s\": spans go to %s as %s",
                          given != NULL ? given : "", target->name, exporter->protocol->name);
            free(given);
        }
    }
    return true;
}
