#include "es_response.h"

#include <stdio.h>

#define GRPC_RECEIVER "a gRPC receiver (port 4317 by default)"
#define OTLP_HTTP_RECEIVER "an OTLP/HTTP receiver (port 4318 by default)"
#define TLS_RECEIVER ", one with TLS an https:// endpoint"

es_str_t
es_response_header(const es_response_t *response, es_str_t name)
{
    es_str_t rest = response->headers, value = ES_STR_NONE;

    while (rest.len != 0) {
        es_str_t line = es_str_take(&rest, '\n');
        size_t colon = es_str_find(line, ':');

        if (line.len != 0 && line.data[line.len - 1] == '\r') {
            line.len--;
        }
        if (colon < line.len && es_str_ieq(es_str(line.data, colon), name)) {
            value = es_str_trim(es_str_from(line, colon + 1));
        }
    }
    return value;
}

static bool
contains(es_str_t text, es_str_t what)
{
    for (; text.len >= what.len; text = es_str_from(text, 1)) {
        if (es_str_starts(text, what)) {
            return true;
        }
    }
    return false;
}

/* How nginx, Go's servers and httpd answer plain HTTP at a port for TLS, even if
 * the answer is cut off in the end. */
static bool
is_tls_port(const es_response_t *response)
{
    return (response->status == 400 || response->status == 0)
           && (contains(response->body, ES_STR("to HTTPS port"))
               || contains(response->body, ES_STR("to an HTTPS server"))
               || contains(response->body, ES_STR("SSL-enabled server port")));
}

bool
es_response_mismatch(const es_response_t *response, bool http2, bool tls, char *words, size_t size)
{
    es_peer_t peer = !tls && is_tls_port(response) ? ES_PEER_TLS : response->peer;

    switch (peer) {
    case ES_PEER_UNKNOWN:
        return false;

    case ES_PEER_SILENT:
        snprintf(words, size, "%.100s; %s%s would need protocol %s%s", response->failure,
                 tls ? "who asks for a certificate needs client_certificate, " : "",
                 http2 ? OTLP_HTTP_RECEIVER : GRPC_RECEIVER, http2 ? "http/protobuf" : "grpc",
                 tls ? "" : TLS_RECEIVER);
        break;

    case ES_PEER_PLAIN:
        snprintf(words, size, "it does not speak TLS: set an http:// endpoint");
        break;

    case ES_PEER_TLS:
        snprintf(words, size, "it speaks TLS only: set an https:// endpoint");
        break;

    case ES_PEER_HTTP1:
        snprintf(words, size,
                 "it answers HTTP/1.1, and protocol grpc needs HTTP/2: " OTLP_HTTP_RECEIVER
                 " would need protocol http/protobuf%s",
                 tls ? "" : TLS_RECEIVER);
        break;

    case ES_PEER_HTTP2:
        snprintf(words, size,
                 "it speaks HTTP/2 only, as " GRPC_RECEIVER " does: set protocol grpc");
        break;
    }
    return true;
}
