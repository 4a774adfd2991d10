/*
 * edgespan.h: everything a server module needs from the tracing core.
 *
 * The core knows no server. A module fills an es_config_t while it reads its
 * configuration, makes one es_generation_t in the parent before the fork, one
 * es_provider_t in every serving process after the fork, and one es_trace_t
 * per request.
 *
 * Threads: configuration and generation functions belong to the single thread
 * that reads the configuration. A provider may be used by any number of
 * request threads at once; a trace belongs to one request.
 *
 * Ownership: an es_str_t is a view and never owns. Functions that keep a
 * string copy it, unless their comment says that they borrow.
 *
 * Errors: functions marked ES_MUST_CHECK return false and fill the es_error_t.
 * Nothing here ends the process, and nothing below "requests" allocates, waits
 * or fails the request: what cannot be recorded is dropped and counted.
 */

#ifndef EDGESPAN_H
#define EDGESPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include <sys/socket.h>

#define EDGESPAN_VERSION "0.1.0"

#define ES_MUST_CHECK __attribute__((warn_unused_result))

/* ------------------------------------------------------------ strings --- */

/* A borrowed run of bytes; not NUL-terminated, may be empty (len 0). */
typedef struct es_str {
    const char *data;
    size_t len;
} es_str_t;

#define ES_STR(literal) ((es_str_t){(literal), sizeof(literal) - 1})
#define ES_STR_NONE ((es_str_t){NULL, 0})

static inline es_str_t
es_str(const void *data, size_t len)
{
    return (es_str_t){(const char *) data, len};
}

/* A view of a NUL-terminated string; NULL gives the empty view. */
static inline es_str_t
es_cstr(const char *s)
{
    return (es_str_t){s, s != NULL ? strlen(s) : 0};
}

/* One sentence for a person: the place is the caller's to add, the value and
 * what would be right are in the text. */
typedef struct es_error {
    char text[512];
} es_error_t;

/* ---------------------------------------------------------------- log --- */

/* Ordered like syslog, so that a server maps them by one small table. */
typedef enum es_log_level {
    ES_LOG_ERROR,
    ES_LOG_WARN,
    ES_LOG_NOTICE,
    ES_LOG_INFO,
} es_log_level_t;

/* Where messages go. `write` gets one line without a newline; after
 * es_provider_start() it is called on the exporter thread. */
typedef struct es_log {
    void (*write)(void *data, es_log_level_t level, const char *text);
    void *data;
} es_log_t;

/* ------------------------------------------------------ configuration --- */

#define ES_EXPORTERS_MAX 4
#define ES_RESOURCES_MAX 1024

typedef struct es_config es_config_t;
typedef struct es_exporter_config es_exporter_config_t;

/* `product` ("nginx", "httpd") makes the default service name
 * "unknown_service:<product>"; it and `log` are copied, log->data is borrowed for
 * the config's life. NULL when memory is short. */
es_config_t *es_config_create(const char *product, const es_log_t *log);

/* After the generations that borrow it. */
void es_config_destroy(es_config_t *config);

/* What the core is to know of the server that it is in. */
typedef struct es_server {
    const char *version; /* "1.22.1" */

    /* Tells the servers of one host apart, and is the same after a restart. */
    const char *identity;
} es_server_t;

/* Both strings are copied; without them what follows from them is not said. */
bool es_config_server(es_config_t *config, const es_server_t *server,
                      es_error_t *error) ES_MUST_CHECK;

/* Where relative paths of the exporters that follow begin. */
bool es_config_directory(es_config_t *config, es_str_t directory, es_error_t *error) ES_MUST_CHECK;

/* The resource with this service.name; the same name gives the same index.
 * Index 0 is the default resource and always exists: an empty name means it. */
bool es_config_resource(es_config_t *config, es_str_t service_name, uint16_t *index,
                        es_error_t *error) ES_MUST_CHECK;

/* service.name of the default resource. It beats OTEL_SERVICE_NAME. */
bool es_config_service_name(es_config_t *config, es_str_t name, es_error_t *error) ES_MUST_CHECK;

/* One attribute of every resource; it beats OTEL_RESOURCE_ATTRIBUTES. */
bool es_config_resource_attribute(es_config_t *config, es_str_t key, es_str_t value,
                                  es_error_t *error) ES_MUST_CHECK;

/* A new exporter, owned by the config, to be filled by the next three. */
bool es_config_exporter(es_config_t *config, es_exporter_config_t **exporter,
                        es_error_t *error) ES_MUST_CHECK;

/* Sets one option by the name and in the words of the documentation:
 * es_exporter_option(e, "interval", "5s"). Times take ms, s, m, h (a bare
 * number is seconds), sizes k, m, g, t. "endpoint" may be repeated: the next is
 * for when those before fail. Files are read here. */
bool es_exporter_option(es_exporter_config_t *exporter, es_str_t name, es_str_t value,
                        es_error_t *error) ES_MUST_CHECK;

/* One header of every export request. The value is never logged. */
bool es_exporter_header(es_exporter_config_t *exporter, es_str_t name, es_str_t value,
                        es_error_t *error) ES_MUST_CHECK;

/* A header whose value is the content of a file, without the newline at its end. */
bool es_exporter_header_file(es_exporter_config_t *exporter, es_str_t name, es_str_t file,
                             es_error_t *error) ES_MUST_CHECK;

/* Ends an exporter: checks that it has what it needs and infers the protocol
 * from the endpoint. */
bool es_exporter_finish(es_exporter_config_t *exporter, es_error_t *error) ES_MUST_CHECK;

/* False, with a notice: OTEL_SDK_DISABLED asks for a server without tracing. */
bool es_config_enabled(es_config_t *config);

/* Ends the configuration: what the OTEL_* variables give where no directive does,
 * what can be found out about the process and the host, and a queue that serves
 * `processes` processes. */
bool es_config_finish(es_config_t *config, unsigned processes, es_error_t *error) ES_MUST_CHECK;

/* Makes the directories that the exporters write to, for the user of the serving
 * processes: in the privileged parent, right before es_generation_create(). */
bool es_config_directories(es_config_t *config, uid_t uid, gid_t gid,
                           es_error_t *error) ES_MUST_CHECK;

/* The id of the server's main process, where that became another one after
 * es_config_finish() (a daemon): in a serving process, before
 * es_provider_start(). */
bool es_config_pid(es_config_t *config, pid_t pid, es_error_t *error) ES_MUST_CHECK;

/* How many exporters were configured: with none, spans have no destination. */
unsigned es_config_exporters(const es_config_t *config);

/* A sampling probability, "0.1" or "10%", as the rejection threshold of
 * OpenTelemetry's consistent probability sampling (2^56 * (1 - p), so that 0
 * samples everything and ES_THRESHOLD_NEVER nothing). */
#define ES_THRESHOLD_NEVER (UINT64_C(1) << 56)
#define ES_THRESHOLD_DEFAULT UINT64_MAX /* what OTEL_TRACES_SAMPLER says, else everything */
bool es_parse_sample_rate(es_str_t text, uint64_t *threshold, es_error_t *error) ES_MUST_CHECK;

/* Which context headers are read and written at a place. */
enum {
    ES_CONTEXT_IGNORE = 0,
    ES_CONTEXT_EXTRACT = 1,
    ES_CONTEXT_INJECT = 2,
    ES_CONTEXT_PROPAGATE = ES_CONTEXT_EXTRACT | ES_CONTEXT_INJECT,
};

/* A key of an attribute: not empty, valid UTF-8. */
bool es_check_attribute_key(es_str_t key, es_error_t *error) ES_MUST_CHECK;

/* "propagate", "extract", "inject" or "ignore". */
bool es_parse_trace_context(es_str_t text, unsigned *mode, es_error_t *error) ES_MUST_CHECK;

/* What a condition evaluated at run time means: "on", "1" and "true" are yes
 * (case-insensitive), all else is no. */
bool es_is_true(es_str_t text);

/* -------------------------------------------- generation and provider --- */

typedef struct es_generation es_generation_t;
typedef struct es_provider es_provider_t;

/* Bytes of the two shared areas. The queue's lives with its generation, the
 * statistics' with the server: it is to survive reloads. */
size_t es_queue_area_size(const es_config_t *config);
size_t es_stats_area_size(void);

/* Can an area that was kept go on being used? Not if another build of the core
 * laid it out: a server that loads a new one begins a new, zeroed area. */
bool es_stats_area_fits(const void *stats_area);

/* What the processes of one configuration share. Called in the parent before
 * any fork. `queue_area` is shared memory of es_queue_area_size() bytes,
 * aligned to 64, its content of no matter; `stats_area` is of
 * es_stats_area_size() bytes, aligned to 64, zeroed when the server started.
 * Both and the config are borrowed for the generation's life. */
bool es_generation_create(es_generation_t **generation, const es_config_t *config, void *queue_area,
                          void *stats_area, es_error_t *error) ES_MUST_CHECK;

/* Closes this process's descriptors of the generation. In the parent any time;
 * in a serving process only after es_provider_stop(). */
void es_generation_destroy(es_generation_t *generation);

/* Starts tracing in a serving process: takes a slot, seeds the id generator
 * and starts the exporter thread (all signals blocked, the CPU affinity saved
 * by es_generation_create). `log` is copied. */
bool es_provider_start(es_provider_t **provider, es_generation_t *generation, const es_log_t *log,
                       es_error_t *error) ES_MUST_CHECK;

/* Asks the exporter to stop and takes the absolute deadline: shutdown_timeout
 * from now, but no more than `at_most_ns`, which is what the server leaves a
 * process before it kills it. Async-signal-safe; later calls change nothing. */
void es_provider_stopping(es_provider_t *provider, uint64_t at_most_ns);

/* Waits until the exporter has ended (the deadline plus at most 0.2 s). Spans of
 * requests that end later are counted as dropped. Calls es_provider_stopping()
 * itself, which changes nothing where that was called before. */
void es_provider_stop(es_provider_t *provider);

/* Frees a stopped provider. No request may use it any more. */
void es_provider_destroy(es_provider_t *provider);

/* Waits likewise, but only waits: async-signal-safe, for a server that ends
 * its processes inside a signal handler (httpd's prefork). */
void es_provider_wait(es_provider_t *provider);

/* ------------------------------------------------------------- status --- */

typedef enum es_status_format {
    ES_STATUS_TEXT, /* one fact per line */
    ES_STATUS_JSON,
} es_status_format_t;

/* What the generation and the server did so far, as a page of *length bytes;
 * malloc()ed, not NUL-terminated. NULL: no memory. Any process, any thread, with or
 * without a provider, as long as both areas are there. */
char *es_status(const es_generation_t *generation, es_status_format_t format, size_t *length);

/* "text" or "json". */
bool es_parse_status_format(es_str_t text, es_status_format_t *format,
                            es_error_t *error) ES_MUST_CHECK;

/* What a request asks for: "format=json" in its query, or else application/json
 * in its Accept; text unless one of the two says so. */
es_status_format_t es_status_choose(es_str_t query, es_str_t accept);

const char *es_status_content_type(es_status_format_t format);

/* Is the peer on this machine: a loopback address or a unix socket? */
bool es_is_local_peer(const struct sockaddr *address);

/* A header that a proxy adds for whom it asks ("X-Forwarded-For", ...): then the
 * peer is not who wants to know. */
bool es_is_forwarding_header(es_str_t name);

/* ----------------------------------------------------------- requests --- */

#define ES_TRACE_ID_LEN 16
#define ES_SPAN_ID_LEN 8
#define ES_TRACEPARENT_LEN 55
#define ES_FLAG_SAMPLED 0x01u
#define ES_FLAG_RANDOM 0x02u

/* Writes 2 * len lowercase hex digits, no NUL. */
void es_hex(char *out, const uint8_t *bytes, size_t len);

/* The headers of a request that any propagator reads. Feed every header of the
 * request, in order; names are compared without case, others are passed over. */
#define ES_CARRIER_MAX 32

typedef struct es_carrier {
    unsigned count;
    bool overflow;
    uint8_t fields[ES_CARRIER_MAX];
    es_str_t values[ES_CARRIER_MAX];
} es_carrier_t;

static inline void
es_carrier_init(es_carrier_t *carrier)
{
    carrier->count = 0;
    carrier->overflow = false;
}

void es_carrier_add_field(es_carrier_t *carrier, es_str_t name, es_str_t value);

/* Bit n: some context header has a name of n bytes. */
extern const uint32_t es_context_header_lengths;

static inline void
es_carrier_add(es_carrier_t *carrier, es_str_t name, es_str_t value)
{
    /* Nearly every header of a request is told apart by its length alone. */
    if (name.len < 32 && (es_context_header_lengths >> name.len & 1)) {
        es_carrier_add_field(carrier, name, value);
    }
}

/* Is this one of the headers that a propagator writes? (Such a header of the
 * client is never to reach an upstream beside ours.) */
bool es_is_context_header(es_str_t name);

/* A span context (OpenTelemetry trace API, "SpanContext"). `tracestate` borrows
 * the header it came from. */
typedef struct es_span_context {
    uint8_t trace_id[ES_TRACE_ID_LEN];
    uint8_t span_id[ES_SPAN_ID_LEN];
    uint8_t flags;
    es_str_t tracestate;
} es_span_context_t;

/* The request's memory; its strings must live until the request's last span. */
typedef struct es_pool {
    void *(*alloc)(void *pool, size_t size);
    void *pool;
} es_pool_t;

/* Why a trace is recorded or not. */
typedef enum es_decision {
    ES_DECISION_PARENT_SAMPLED,
    ES_DECISION_PARENT_UNSAMPLED,
    ES_DECISION_RATIO_SAMPLED,
    ES_DECISION_RATIO_UNSAMPLED,
    ES_DECISION_OFF, /* the condition of the place said no */
    ES_DECISIONS,
} es_decision_t;

/* The trace of one request. Read the fields, change them by the functions. */
typedef struct es_trace {
    es_provider_t *provider;
    es_span_context_t parent; /* meaningful if has_parent */
    es_span_context_t span;   /* the SERVER span's own */
    uint64_t start_ns;        /* wall clock */
    uint64_t start_mono_ns;   /* monotonic, of the same moment */
    es_decision_t decision;   /* meaningful if decided */
    bool has_parent;
    bool joined;  /* the ids are fixed */
    bool decided; /* the place takes part */
    bool kept;    /* a place before an internal redirect sampled it */
    bool sealed;  /* the decision was shown outside and is fixed */
} es_trace_t;

/* Starts the clock. The trace has no ids yet. */
void es_trace_init(es_trace_t *trace, es_provider_t *provider);

/* Moves the start back to the wall-clock moment `wall_ns`, when the server
 * knows that the request began earlier than es_trace_init() saw it. */
void es_trace_started_at(es_trace_t *trace, uint64_t wall_ns);

/* Fixes the ids: continues the context in `carrier` or, if it is NULL or holds
 * none, starts a new trace (W3C Trace Context level 2, "processing model").
 * Does nothing when the ids are fixed already. */
void es_trace_join(es_trace_t *trace, const es_carrier_t *carrier, const es_pool_t *pool);

/* Decides by the sampler; later calls decide again until the trace is sealed.
 * `on` false: take part, not sampled. */
void es_trace_decide(es_trace_t *trace, bool on, uint64_t threshold);

/* Takes back what was decided: the place turned out to be another, and that one
 * takes no part. */
void es_trace_leave(es_trace_t *trace);

/* An internal redirect: what comes may switch sampling on, never off. */
void es_trace_redirected(es_trace_t *trace);

/* Fixes the decision and counts it: call before it is shown outside, and when
 * the request ends. */
void es_trace_seal(es_trace_t *trace);

static inline bool
es_trace_sampled(const es_trace_t *trace)
{
    return trace->decided && (trace->span.flags & ES_FLAG_SAMPLED);
}

/* A fresh span id. */
void es_trace_new_span_id(const es_trace_t *trace, uint8_t span_id[ES_SPAN_ID_LEN]);

/* traceparent, version 00, with `span_id` as the parent-id; no NUL. */
void es_trace_traceparent(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN],
                          char out[ES_TRACEPARENT_LEN]);

/* The headers to send upstream under `span_id`. An empty value means that the
 * header is to be removed. Names are static and lowercase; values borrow `text`
 * or the trace. Returns how many. */
#define ES_INJECT_MAX 2
#define ES_INJECT_TEXT 64

typedef struct es_header {
    es_str_t name;
    es_str_t value;
} es_header_t;

unsigned es_trace_inject(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN],
                         char text[ES_INJECT_TEXT], es_header_t headers[ES_INJECT_MAX]);

/* -------------------------------------------------------------- spans --- */

/* The numbers are OTLP's (Span.SpanKind). */
typedef enum es_span_kind {
    ES_KIND_INTERNAL = 1,
    ES_KIND_SERVER = 2,
    ES_KIND_CLIENT = 3,
} es_span_kind_t;

typedef struct es_attribute {
    es_str_t key;
    es_str_t value;
} es_attribute_t;

/* error.type where no status tells it, in the same words for both servers. */
#define ES_ERROR_CONNECTION_FAILED ES_STR("connection_failed")
#define ES_ERROR_TIMEOUT ES_STR("timeout")
#define ES_ERROR_NO_RESPONSE ES_STR("no_response")
#define ES_ERROR_TRUNCATED ES_STR("upstream_response_truncated")

/* edgespan.reason: why an exchange ended so, where that is no error. */
#define ES_REASON_CLIENT_CLOSED ES_STR("client_closed_request")
#define ES_REASON_SERVER_CLOSED ES_STR("connection_closed_without_response")
#define ES_REASON_REQUEST_TIMEOUT ES_STR("request_timeout")

/* One try of an upstream. Times are monotonic ns; 0 means unknown. */
typedef struct es_http_try {
    es_str_t peer_address;
    es_str_t error_type; /* empty: the try was answered */
    uint64_t start_mono_ns;
    uint64_t end_mono_ns;
    unsigned peer_port; /* 0: none (a unix socket) */
    unsigned status;    /* 0: no response */
} es_http_try_t;

/* One HTTP exchange, as every server sees it: es_trace_http() makes of it the
 * attributes, the name and the status of OpenTelemetry's HTTP semantic
 * conventions (stable since 1.23). Empty strings, zero numbers and negative
 * sizes mean unknown. Everything is borrowed for the call. */
typedef struct es_http {
    es_span_kind_t kind;
    uint16_t resource;
    const uint8_t *span_id;   /* of a CLIENT span; a SERVER span has the trace's */
    const uint8_t *parent_id; /* of a CLIENT span: NULL for the SERVER span */

    uint64_t start_mono_ns; /* of a CLIENT span */
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
    es_str_t reason;     /* edgespan.reason: why it ended so, where it is no error */

    const es_attribute_t *attributes; /* the user's; they replace ours of the same key */
    unsigned attributes_count;
    const es_http_try_t *tries; /* of a CLIENT span, in order */
    unsigned tries_count;
} es_http_t;

/* Splits "host", "host:port", "[v6]:port" and "unix:/path" as servers write
 * addresses; 0: no port. Brackets and "unix:" go. Results borrow the input. */
void es_http_split_host(es_str_t authority, es_str_t *host, unsigned *port);

/* Ends a span: writes it and puts it into the queue. Only for sampled traces.
 * A span that does not fit is dropped and counted. */
void es_trace_http(const es_trace_t *trace, const es_http_t *http);

/* Monotonic clock, ns. */
uint64_t es_mono_ns(void);

#endif
