/* edgespan_span.h, a part of edgespan.h: what a module says of an exchange, from which the
 * core makes a span: es_trace_http() of edgespan_request.h. */

#ifndef EDGESPAN_SPAN_H
#define EDGESPAN_SPAN_H

#include "edgespan_sampling.h"

/* The numbers are OTLP's (Span.SpanKind). */
typedef enum es_span_kind {
    ES_KIND_INTERNAL = 1,
    ES_KIND_SERVER = 2,
    ES_KIND_CLIENT = 3,
} es_span_kind_t;

/* error.type where no status tells it, in the same words for both servers. */
#define ES_ERROR_CONNECTION_FAILED ES_STR("connection_failed")
#define ES_ERROR_TIMEOUT ES_STR("timeout")
#define ES_ERROR_NO_RESPONSE ES_STR("no_response")
#define ES_ERROR_TRUNCATED ES_STR("upstream_response_truncated")

/* edgespan.reason: why an exchange ended so, where that is no error. */
#define ES_REASON_CLIENT_CLOSED ES_STR("client_closed_request")
#define ES_REASON_SERVER_CLOSED ES_STR("connection_closed_without_response")
#define ES_REASON_REQUEST_TIMEOUT ES_STR("request_timeout")

/* --------------------------------------------------------- attributes --- */

typedef enum es_attribute_type {
    ES_ATTRIBUTE_STRING,
    ES_ATTRIBUTE_INT,
    ES_ATTRIBUTE_DOUBLE,
    ES_ATTRIBUTE_BOOL,
    ES_ATTRIBUTE_HASH,    /* keyed: whoever has the key can tell whose it is */
    ES_ATTRIBUTE_STRINGS, /* an array: of `values`, or of `value` alone where they are NULL */
} es_attribute_type_t;

/* An attribute of the user's. A value is text; one that is none of the type is left out and
 * counted in the span's dropped_attributes_count. */
typedef struct es_attribute {
    es_str_t key;
    es_str_t value;
    es_attribute_type_t type;
    unsigned values_count;
    const es_str_t *values;
} es_attribute_t;

/* "string", "int", "double", "bool" or "hash", the third word of otel_span_attr. Without it
 * (ES_STR_NONE) what the conventions have for the key: an array for a header
 * ("http.request.header.<name>", "http.response.header.<name>"), else a string.
 * es_config_finish() refuses "hash" without otel_hash_key. */
bool es_attribute_type(es_config_t *config, es_str_t key, es_str_t word, es_attribute_type_t *type,
                       es_error_t *error) ES_MUST_CHECK;

/* otel_hash_key: a file with 16 to 1024 bytes, read here, in the privileged parent. */
bool es_config_hash_key(es_config_t *config, es_str_t file, es_error_t *error) ES_MUST_CHECK;

/* otel_semconv: "stable", "old" or "both": names of attributes. Without the directive
 * OTEL_SEMCONV_STABILITY_OPT_IN may ask for both ("http/dup"). */
bool es_config_semconv(es_config_t *config, es_str_t word, es_error_t *error) ES_MUST_CHECK;

/* ---------------------------------------------------------- redaction --- */

/* What is not to be seen in spans. Private fields; zeroed it is the default. */
typedef struct es_redaction {
    const es_str_t *query, *headers; /* the words of the directive that gave them */
    unsigned query_count, headers_count;
    const struct es_redaction *also; /* what that hides is hidden as well */
    uint8_t given;
    uint8_t prefix_v4, prefix_v6; /* bits of a client's address that are kept */
} es_redaction_t;

/* otel_redact: words of "query=key" (repeated; "query=*" all, "query=" none), "header=name"
 * (likewise) and "client_address=/24,/48". Keys and names replace the default ones.
 * `words` is borrowed for the config's life. */
bool es_redaction_set(es_redaction_t *redaction, const es_str_t *words, unsigned count,
                      es_error_t *error) ES_MUST_CHECK;

/* What the level above says of kinds that this one does not name. */
void es_redaction_inherit(es_redaction_t *redaction, const es_redaction_t *outer);

/* Of a request that came to one place and was answered by another: hides what either of
 * them hides. `other` is borrowed. */
void es_redaction_join(es_redaction_t *redaction, const es_redaction_t *other);

/* A header that becomes an attribute (otel_span_header). */
typedef struct es_capture {
    es_str_t name; /* lowercase */
    es_str_t key;  /* "http.request.header.<name>" */
    bool response;
} es_capture_t;

/* One name of a header, a token; the strings are the pool's. */
bool es_capture_set(es_capture_t *capture, bool response, es_str_t name, const es_pool_t *pool,
                    es_error_t *error) ES_MUST_CHECK;

/* The attribute of a header's values, as they came; `values` is borrowed, and overwritten
 * where they are not to be seen. `redaction` may be NULL. */
es_attribute_t es_capture_attribute(const es_capture_t *capture, const es_redaction_t *redaction,
                                    es_str_t *values, unsigned count);

/* A template of es_trace_url(): "{trace_id}" has to be in it. */
bool es_check_trace_url(es_str_t pattern, es_error_t *error) ES_MUST_CHECK;

/* ----------------------------------------------------------- timeline --- */

/* What a request waited for. A moment counts for the first of these that was under way
 * then; what is left is the server's own time: so all of them add up to the span. */
typedef enum es_phase {
    ES_PHASE_UPLOAD,     /* reading the request from the client */
    ES_PHASE_CONNECT,    /* an upstream: to be connected, TLS included */
    ES_PHASE_FIRST_BYTE, /* until its response began */
    ES_PHASE_DOWNLOAD,   /* the client taking the response, for which an upstream may wait */
    ES_PHASE_BODY,       /* until the upstream's response was complete */
    ES_PHASES,
} es_phase_t;

/* Zeroed it is empty. Monotonic ns. Private fields. */
#define ES_TIMELINE_MAX 128

typedef struct es_timeline {
    unsigned count;
    struct {
        uint64_t from, to;
        es_phase_t phase;
    } intervals[ES_TIMELINE_MAX];
} es_timeline_t;

/* Passes over what is empty, or has an end that is unknown (0). Intervals may overlap. Those
 * beyond ES_TIMELINE_MAX count as the server's own time. */
void es_timeline_add(es_timeline_t *timeline, es_phase_t phase, uint64_t from, uint64_t to);

/* ---------------------------------------------------------- exchanges --- */

/* One try of an upstream. Times are monotonic ns; 0 means unknown. */
typedef struct es_http_try {
    es_str_t peer_address;
    es_str_t error_type; /* empty: the try was answered */
    uint64_t start_mono_ns;
    uint64_t connected_mono_ns;  /* 0 too where the connection had been used before */
    uint64_t secured_mono_ns;    /* the TLS handshake was done; 0 too: there was none */
    uint64_t first_byte_mono_ns; /* of the response */
    uint64_t end_mono_ns;
    unsigned peer_port;
    unsigned status;  /* 0: no response */
    bool reused;      /* the connection had been used before */
    bool unconnected; /* it ended before there was a connection, TLS included */
} es_http_try_t;

/* Adds what a try spent its time on. */
void es_timeline_try(es_timeline_t *timeline, const es_http_try_t *http_try);

/* An event of a span. */
typedef struct es_http_event {
    es_str_t name;
    uint64_t mono_ns;
    const es_attribute_t *attributes;
    unsigned attributes_count;
} es_http_event_t;

/* A line of the server's error log: names of its event and of the attributes. */
#define ES_EVENT_LOG ES_STR("edgespan.log")
#define ES_EVENT_LOG_SEVERITY ES_STR("log.severity")
#define ES_EVENT_LOG_MESSAGE ES_STR("log.message")

/* The connection became another protocol's (101, CONNECT). */
#define ES_EVENT_UPGRADE ES_STR("edgespan.upgrade")

/* One HTTP exchange, as every server sees it: es_trace_http() makes of it the
 * attributes, the name and the status of OpenTelemetry's HTTP semantic
 * conventions (stable since 1.23). Empty strings, zero numbers and negative
 * sizes mean unknown. Everything is borrowed for the call. */
typedef struct es_http {
    es_span_kind_t kind;
    uint16_t resource;
    const uint8_t *span_id;   /* not of a SERVER span, which has the trace's */
    const uint8_t *parent_id; /* likewise; NULL for the SERVER span */

    uint64_t start_mono_ns;      /* not of a SERVER span */
    uint64_t first_byte_mono_ns; /* of a SERVER span's response; 0: none was sent */
    uint64_t end_mono_ns;

    es_str_t method;
    es_str_t target; /* as in the request line: /path?query, absolute form, ... */
    es_str_t scheme;
    es_str_t host; /* the Host value or :authority, with or without a port; a
                      target in absolute form has its own, which counts */
    es_str_t protocol_version;
    es_str_t route;
    es_str_t user_agent;
    es_str_t client_address;
    es_str_t peer_address;
    unsigned peer_port;
    unsigned server_port; /* used when `host` is empty or has none */
    unsigned status;      /* 0 when no response was sent (received) */
    int64_t request_body_size;
    int64_t response_body_size;

    es_str_t name;       /* instead of "{method} {route}" */
    es_str_t error_type; /* a failure that the status does not tell */
    bool no_error_type;  /* error.type is not written, the status of the span is */
    es_str_t reason;     /* edgespan.reason: why it ended so, where it is no error */

    unsigned resend_count; /* of a CLIENT span: http.request.resend_count */
    unsigned log_dropped;  /* lines of the error log beyond its events */
    es_str_t cache_status; /* edgespan.cache.status: "HIT", "MISS", ... */
    bool background;       /* of an INTERNAL span: nobody waits for it */
    bool grpc;             /* its content type is of gRPC (rpc.*) */
    es_str_t grpc_status;  /* of the trailer, a decimal number; empty: none came */

    const es_timeline_t *timeline;   /* of a SERVER span; NULL: unknown */
    const es_redaction_t *redaction; /* NULL: the default */

    const es_http_event_t *events; /* in order of time */
    unsigned events_count;
    const es_attribute_t *attributes; /* the user's, each key once; they replace ours */
    unsigned attributes_count;
    const es_http_try_t *tries; /* of a CLIENT span, in order; it has no timeline */
    unsigned tries_count;
} es_http_t;

/* "application/grpc", with "+proto" or a parameter (gRPC over HTTP/2, "Requests"); grpc-web
 * is something else. */
bool es_is_grpc(es_str_t content_type);

/* Splits "host", "host:port", "[v6]:port" and "unix:/path" as servers write
 * addresses; 0: no port. Brackets and "unix:" go. Results borrow the input. */
void es_http_split_host(es_str_t authority, es_str_t *host, unsigned *port);

/* Monotonic clock, ns. */
uint64_t es_mono_ns(void);

#endif
