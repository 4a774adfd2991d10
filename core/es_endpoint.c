/* What an endpoint means. Without "protocol": a host and port, or a URL without
 * a path, is gRPC's form, except on the ports of other protocols; a URL with a
 * path is taken verbatim, as OTLP/HTTP unless the path is another protocol's. */

#include "es_http_sender.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>

#define UNIX "unix:"

/* The longest path of a unix socket. */
#define UNIX_MAX (sizeof(((struct sockaddr_un *) NULL)->sun_path) - 1)

typedef struct es_endpoint {
    es_str_t scheme;      /* empty: none was given */
    es_str_t authority;   /* host[:port] */
    es_str_t path;        /* with what follows it; empty if there is none */
    es_str_t unix_socket; /* of unix:/path and unix:/path:/uri: then the rest is the URI's */
} es_endpoint_t;

static es_endpoint_t
split(es_str_t text)
{
    es_endpoint_t endpoint = {ES_STR_NONE, ES_STR_NONE, ES_STR_NONE, ES_STR_NONE};
    size_t colon = es_str_find(text, ':'), slash;

    if (es_str_starts(text, ES_STR(UNIX))) {
        text = es_str_from(text, sizeof(UNIX) - 1);
        colon = es_str_find(text, ':');
        endpoint.unix_socket = es_str(text.data, colon);
        endpoint.path = es_str_from(text, colon < text.len ? colon + 1 : colon);
        return endpoint;
    }
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
ends_with(es_str_t s, es_str_t end)
{
    return s.len >= end.len && es_str_eq(es_str_from(s, s.len - end.len), end);
}

static bool
is_stream(es_str_t endpoint)
{
    return es_str_eq(endpoint, ES_STR("stdout")) || es_str_eq(endpoint, ES_STR("stderr"));
}

static bool
authority_valid(es_str_t authority)
{
    static const char forbidden[] = " \t\"<>\\^`{|}?#";
    size_t end, at;
    uint64_t port;

    for (size_t i = 0; i < authority.len; i++) {
        if ((unsigned char) authority.data[i] <= 0x20 || authority.data[i] == 0x7f
            || strchr(forbidden, authority.data[i]) != NULL) {
            return false;
        }
    }
    while ((at = es_str_find(authority, '@')) < authority.len) {
        authority = es_str_from(authority, at + 1);
    }

    /* The colons of an IPv6 address are within brackets (RFC 3986, 3.2.2). */
    end = es_str_find(authority, ':');
    if (es_str_starts(authority, ES_STR("["))) {
        end = es_str_find(authority, ']');
        if (end == authority.len || end == 1) {
            return false;
        }
        end++;
    }
    authority = es_str_from(authority, end);
    return end != 0
           && (authority.len == 0
               || (authority.data[0] == ':' && es_parse_uint(es_str_from(authority, 1), &port)
                   && port != 0 && port <= 65535));
}

bool
es_endpoint_is_url(es_str_t text)
{
    es_endpoint_t endpoint = split(text);

    if (endpoint.unix_socket.data != NULL) {
        return true;
    }
    return (endpoint.scheme.len == 0 || es_str_eq(endpoint.scheme, ES_STR("http"))
            || es_str_eq(endpoint.scheme, ES_STR("https")))
           && authority_valid(endpoint.authority);
}

/* What people may read of "http://user:password@host/path?api-key=...": keys are in
 * queries as often as not. Of a URL that is none nobody knows where its password
 * ends: all up to the last "@" goes. */
static char *
readable(const char *url, bool valid)
{
    const char *authority = strstr(url, "://"), *end, *at;
    char *copy = malloc(strlen(url) + sizeof("..."));

    if (copy == NULL) {
        return NULL;
    }
    authority = authority != NULL ? authority + 3 : url;
    end = authority + (valid ? strcspn(authority, "/?#") : strlen(authority));
    for (at = end; at > authority && at[-1] != '@'; at--) {
    }
    memcpy(copy, url, (size_t) (authority - url));
    strcpy(copy + (authority - url), at);

    if (url[0] != '/' && (at = strchr(copy, '?')) != NULL) {
        strcpy(copy + (at - copy) + 1, "...");
    }
    return copy;
}

static bool
refuse(const es_target_t *target, const char *what, es_error_t *error)
{
    char *endpoint = readable(target->endpoint, false);

    es_fail(error,
            "endpoint \"%.160s\" %s: give http://host:4318/v1/traces (protocol http/protobuf), "
            "host:4317 (grpc), unix:/path or file:///path",
            endpoint != NULL ? endpoint : "", what);
    free(endpoint);
    return false;
}

/* ----------------------------------------------------------- resolving --- */

static bool
set_target(es_target_t *target, const char *format, es_str_t a, es_str_t b, es_error_t *error)
{
    char text[4096];
    int len = snprintf(text, sizeof(text), format, (int) a.len, a.data, (int) b.len, b.data);

    if (len < 0 || (size_t) len >= sizeof(text)) {
        return es_fail(error, "the endpoint is longer than %zu bytes", sizeof(text));
    }
    target->url = es_str_dup(es_cstr(text));
    target->name = readable(text, true);
    return (target->url != NULL && target->name != NULL) || es_fail(error, "no memory");
}

static bool
resolve_file(es_target_t *target, const es_endpoint_t *endpoint, es_error_t *error)
{
    es_str_t text = es_cstr(target->endpoint);
    struct stat status;

    if (is_stream(text)) {
        return set_target(target, "%.*s%.*s", text, ES_STR_NONE, error);
    }
    if (!es_str_eq(endpoint->scheme, ES_STR("file")) || endpoint->authority.len != 0
        || endpoint->path.len < 2) {
        return refuse(target, "is no file", error);
    }
    if (stat(endpoint->path.data, &status) == 0 && S_ISDIR(status.st_mode)) {
        return refuse(target, "is a directory", error);
    }
    return set_target(target, "%.*s%.*s", endpoint->path, ES_STR_NONE, error);
}

static bool
is_grpc(const es_protocol_t *protocol)
{
    return protocol->rules->http2;
}

static bool
resolve_unix(es_target_t *target, const es_protocol_t *protocol, const es_endpoint_t *endpoint,
             es_error_t *error)
{
    es_str_t path = endpoint->path.len > 1 ? endpoint->path : es_cstr(protocol->path);
    es_str_t socket = endpoint->unix_socket;
    char name[sizeof(UNIX) + UNIX_MAX];

    if (socket.len < 2 || socket.len > UNIX_MAX || socket.data[0] != '/') {
        return refuse(target, "has no absolute path of a socket", error);
    }
    if (path.data[0] != '/') {
        return refuse(target, "has no path behind its second colon", error);
    }
    if (!set_target(target, "http://localhost%.*s%.*s", path, ES_STR_NONE, error)) {
        return false;
    }
    snprintf(name, sizeof(name), UNIX "%.*s", (int) socket.len, socket.data);
    free(target->name);
    target->name = es_str_dup(es_cstr(name));
    target->unix_socket = es_str_dup(socket);
    return (target->name != NULL && target->unix_socket != NULL) || es_fail(error, "no memory");
}

static bool
resolve_http(es_target_t *target, const es_protocol_t *protocol, const es_endpoint_t *endpoint,
             bool verbatim, es_error_t *error)
{
    es_str_t text = es_cstr(target->endpoint);
    bool has_path = endpoint->path.len > 1 || verbatim;
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

static bool
resolve(const es_config_t *config, es_target_t *target, const es_protocol_t *protocol,
        bool verbatim, es_error_t *error)
{
    es_str_t text = es_cstr(target->endpoint);
    es_endpoint_t endpoint = split(text);

    if (es_str_find(text, '$') < text.len) {
        return refuse(target, "holds a \"$\": variables have no meaning in it", error);
    }
    if (protocol->rules == NULL) {
        return resolve_file(target, &endpoint, error);
    }
    if (es_str_eq(endpoint.scheme, ES_STR("file")) || is_stream(text)) {
        return refuse(target, "is a file and no URL to post to", error);
    }
    /* OTLP/gRPC has one path of its own. */
    if (is_grpc(protocol) && endpoint.path.len > 1
        && !es_str_eq(endpoint.path, es_cstr(protocol->path))) {
        return refuse(target, "has a path, which protocol grpc has no use for", error);
    }
    if (is_grpc(protocol) && ends_with(endpoint.authority, ES_STR(":4318"))) {
        es_config_log(config, ES_LOG_WARN,
                      "port 4318 speaks HTTP as a rule: \"protocol http/protobuf\" is missing?");
    }
    return endpoint.unix_socket.data != NULL
               ? resolve_unix(target, protocol, &endpoint, error)
               : resolve_http(target, protocol, &endpoint, verbatim, error);
}

/* ------------------------------------------------------------ choosing --- */

es_str_t
es_endpoint_infer(const es_target_t *target, bool *open)
{
    es_endpoint_t endpoint = split(es_cstr(target->endpoint));
    es_str_t path = es_str(endpoint.path.data, es_str_find(endpoint.path, '?'));

    *open = false;
    if (es_str_eq(endpoint.scheme, ES_STR("file")) || is_stream(es_cstr(target->endpoint))) {
        return ES_STR("file");
    }
    if (path.len > 1) {
        return ends_with(path, ES_STR("/api/v2/spans")) ? ES_STR("zipkin")
               : ends_with(path, ES_STR("/api/traces")) ? ES_STR("jaeger")
                                                        : ES_STR("http/protobuf");
    }
    if (ends_with(endpoint.authority, ES_STR(":4318"))) {
        return ES_STR("http/protobuf");
    }
    if (ends_with(endpoint.authority, ES_STR(":9411"))) {
        return ES_STR("zipkin");
    }
    if (ends_with(endpoint.authority, ES_STR(":14268"))) {
        return ES_STR("jaeger");
    }
    *open = true;
    return ES_STR("grpc");
}

static bool
find_protocol(es_exporter_config_t *exporter, es_str_t name, es_error_t *error)
{
    char names[128], what[160];

    if ((exporter->protocol = es_protocol_find(name)) != NULL) {
        return true;
    }
    if (exporter->protocol_name == NULL) {
        snprintf(what, sizeof(what), "means protocol %.*s, which is not spoken by this version",
                 ES_ARG(name));
        return refuse(&exporter->targets[0], what, error);
    }
    es_protocol_names(names, sizeof(names));
    return es_fail(error, "unknown protocol \"%.*s\": there are %s", ES_ARG(name), names);
}

static bool
choose_protocol(es_exporter_config_t *exporter, es_error_t *error)
{
    bool open;
    es_str_t name = exporter->protocol_name != NULL
                        ? es_cstr(exporter->protocol_name)
                        : es_endpoint_infer(&exporter->targets[0], &open);

    for (unsigned i = 1; i < exporter->targets_count && exporter->protocol_name == NULL; i++) {
        es_str_t other = es_endpoint_infer(&exporter->targets[i], &open);

        if (!es_str_eq(other, name)) {
            char what[160];

            snprintf(what, sizeof(what),
                     "means protocol %.*s, and the one before it %.*s: the endpoints of one "
                     "exporter speak the same",
                     ES_ARG(other), ES_ARG(name));
            return refuse(&exporter->targets[i], what, error);
        }
    }
    return find_protocol(exporter, name, error);
}

bool
es_endpoint_resolve(es_exporter_config_t *exporter, es_error_t *error)
{
    if (!choose_protocol(exporter, error)) {
        return false;
    }
    if (exporter->protocol->rules == NULL && exporter->targets_count > 1) {
        return es_fail(error, "protocol %s takes one endpoint", exporter->protocol->name);
    }
    for (unsigned i = 0; i < exporter->targets_count; i++) {
        es_target_t *target = &exporter->targets[i];
        char *given;

        if (!resolve(exporter->config, target, exporter->protocol, exporter->verbatim, error)) {
            return false;
        }
        if (exporter->variable == NULL && !es_exporter_given(exporter, "protocol")) {
            given = readable(target->endpoint, true);
            es_config_log(exporter->config, ES_LOG_NOTICE, "endpoint \"%s\": spans go to %s as %s",
                          given != NULL ? given : "", target->name, exporter->protocol->name);
            free(given);
        }
    }
    return true;
}
