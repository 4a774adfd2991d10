/* edgespan_request.h, a part of edgespan.h: one request's trace: its ids, its decision,
 * the headers it came with and those it sends on. Its spans: edgespan_span.h. */

#ifndef EDGESPAN_REQUEST_H
#define EDGESPAN_REQUEST_H

#include "edgespan_sampling.h"
#include "edgespan_server.h"
#include "edgespan_span.h"

/* ----------------------------------------------------------- requests --- */

#define ES_TRACE_ID_LEN 16
#define ES_SPAN_ID_LEN 8
#define ES_TRACEPARENT_LEN 55
#define ES_FLAG_SAMPLED 0x01u
#define ES_FLAG_RANDOM 0x02u

/* Writes 2 * len lowercase hex digits, no NUL. */
void es_hex(char *out, const uint8_t *bytes, size_t len);

/* A span context (OpenTelemetry trace API, "SpanContext"). `tracestate` borrows
 * the header it came from. */
typedef struct es_span_context {
    uint8_t trace_id[ES_TRACE_ID_LEN];
    uint8_t span_id[ES_SPAN_ID_LEN];
    uint8_t flags;
    es_str_t tracestate;
} es_span_context_t;

/* Why a trace is recorded or not. */
typedef enum es_decision {
    ES_DECISION_PARENT_SAMPLED,
    ES_DECISION_PARENT_UNSAMPLED,
    ES_DECISION_ALWAYS_ON,
    ES_DECISION_ALWAYS_OFF,
    ES_DECISION_RATIO_SAMPLED,
    ES_DECISION_RATIO_UNSAMPLED,
    ES_DECISION_TARGET_SAMPLED, /* a ratio that follows the load */
    ES_DECISION_TARGET_UNSAMPLED,
    ES_DECISION_OVERRIDE_SAMPLED, /* a ratio of the override file */
    ES_DECISION_OVERRIDE_UNSAMPLED,
    ES_DECISION_LIMIT, /* sampled by another, over the limit */
    ES_DECISION_OFF,   /* the condition of the place said no */
    ES_DECISIONS,
} es_decision_t;

/* Why a request that was not sampled is recorded all the same. */
typedef enum es_keep {
    ES_KEEP_NOT,
    ES_KEEP_ERROR,
    ES_KEEP_SLOW,
    ES_KEEP_STATUS,
    ES_KEEP_LIMIT, /* it would be, but for the limit */
    ES_KEEPS,
} es_keep_t;

/* What a caller wishes (B3 "sampling state"; traceparent knows the two in the
 * middle). */
typedef enum es_wish {
    ES_WISH_NONE,
    ES_WISH_DENY,
    ES_WISH_ACCEPT,
    ES_WISH_DEBUG, /* accept, and say so to all others */
} es_wish_t;

/* The trace of one request. Read the fields, change them by the functions. */
typedef struct es_trace {
    es_provider_t *provider;
    es_pool_t pool;
    es_span_context_t parent;            /* meaningful if has_parent or has_link */
    es_span_context_t span;              /* the SERVER span's own */
    es_str_t baggage;                    /* the caller's, one list; empty if it is not believed */
    uint64_t start_ns;                   /* wall clock */
    uint64_t start_mono_ns;              /* monotonic, of the same moment */
    const es_propagation_t *propagation; /* once joined */
    const es_names_t *allow;             /* keys of baggage to send on; NULL: as it came */
    const es_sampling_t *sampling;       /* of the place that decided */
    const es_sampling_t *keeping;        /* of the place whose keep rules count; NULL: none */
    uint64_t threshold;                  /* of a decision by probability */
    unsigned override_line;              /* of the override file, where that decided */
    es_decision_t decision;              /* meaningful if decided */
    es_keep_t keep;                      /* set by es_trace_keep() */
    es_trust_t trust;
    es_wish_t wish;
    bool has_parent;
    bool has_link;   /* `parent` is not the parent but what a link leads to */
    bool joined;     /* the ids are fixed */
    bool decided;    /* the place takes part */
    bool redirected; /* an internal redirect may switch sampling on, never off */
    bool sealed;     /* the decision was shown outside and is fixed */
} es_trace_t;

/* Starts the clock. The trace has no ids yet. */
void es_trace_init(es_trace_t *trace, es_provider_t *provider, const es_pool_t *pool);

/* Moves the start back to the wall-clock moment `wall_ns`, when the server
 * knows that the request began earlier than es_trace_init() saw it. */
void es_trace_started_at(es_trace_t *trace, uint64_t wall_ns);

/* The headers of a request that its propagators read. Feed every header of the
 * request, in order; names are compared without case, others are passed over. Where
 * there are more than ES_CARRIER_MAX, none counts. */
#define ES_CARRIER_MAX 64

typedef struct es_carrier {
    es_fields_t wanted;
    unsigned count;
    bool overflow;
    uint8_t fields[ES_CARRIER_MAX];
    es_str_t values[ES_CARRIER_MAX];
} es_carrier_t;

void es_carrier_init(es_carrier_t *carrier, const es_trace_t *trace,
                     const es_propagation_t *propagation);

void es_carrier_add_field(es_carrier_t *carrier, es_str_t name, es_str_t value);

static inline void
es_carrier_add(es_carrier_t *carrier, es_str_t name, es_str_t value)
{
    if (es_fields_may_have(&carrier->wanted, name)) {
        es_carrier_add_field(carrier, name, value);
    }
}

/* Fixes the ids: continues the context in `carrier` or, if it is NULL or holds
 * none or is not believed, starts a new trace (W3C Trace Context level 2,
 * "processing model"). Does nothing when the ids are fixed already. `propagation`
 * is borrowed until the request's last span. */
void es_trace_join(es_trace_t *trace, const es_propagation_t *propagation, es_trust_t trust,
                   const es_carrier_t *carrier);

/* Decides as the place says; later calls decide again until the trace is sealed.
 * `threshold` is that of a rate that varies (ES_THRESHOLD_DEFAULT: the place's own);
 * `path` is the request's, for the override file. `sampling` is borrowed until the
 * request's last span. */
void es_trace_decide(es_trace_t *trace, const es_sampling_t *sampling, uint64_t threshold,
                     es_str_t path);

/* Likewise: the condition of the place said no. Takes part, not sampled. */
void es_trace_decide_off(es_trace_t *trace);

/* Takes back what was decided: the place turned out to be another, and that one
 * takes no part. */
void es_trace_leave(es_trace_t *trace);

/* An internal redirect: what comes may switch sampling on, never off. */
void es_trace_redirected(es_trace_t *trace);

/* Fixes the decision and counts it: call before it is shown outside, and when
 * the request ends. Here the place's limit is asked, and `ot=th` is written into the
 * tracestate or taken out (OpenTelemetry, "TraceState: Probability Sampling"). */
void es_trace_seal(es_trace_t *trace);

static inline bool
es_trace_sampled(const es_trace_t *trace)
{
    return trace->decided && (trace->span.flags & ES_FLAG_SAMPLED);
}

/* May spans of it be exported, so that what they need is to be remembered? */
static inline bool
es_trace_recording(const es_trace_t *trace)
{
    return es_trace_sampled(trace)
           || (trace->decided && trace->keeping != NULL && trace->decision != ES_DECISION_OFF);
}

/* Why, in a few words: "ratio=0.01 (nginx.conf:42)", "drop ratio=0.01", "parent",
 * "limit", "keep slow", ... (docs/sampling.md). Borrows `text`. */
#define ES_DECISION_TEXT 160
es_str_t es_trace_decision(const es_trace_t *trace, char text[ES_DECISION_TEXT]);

/* A fresh span id. */
void es_trace_new_span_id(const es_trace_t *trace, uint8_t span_id[ES_SPAN_ID_LEN]);

/* traceparent, version 00, with `span_id` as the parent-id; no NUL. */
void es_trace_traceparent(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN],
                          char out[ES_TRACEPARENT_LEN]);

typedef struct es_header {
    es_str_t name; /* static, lowercase, with a NUL behind */
    es_str_t value;
} es_header_t;

/* The headers to send upstream under `span_id`, for a trace that is joined; seal it
 * before. Values are the trace's pool's or borrow the carrier's. Returns how many: none
 * if memory is short. */
#define ES_INJECT_MAX 12
unsigned es_trace_inject(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN],
                         es_header_t headers[ES_INJECT_MAX]);

/* Is a header of the client to be kept from upstreams, because ours takes its place
 * or because the client is not believed? For a trace that is joined, or for NULL: a
 * client that is not believed where nothing is traced. */
bool es_trace_removes(const es_trace_t *trace, es_str_t name);

/* The header that tells the client: traceresponse of W3C Trace Context level 2, or the
 * metric "trace" of Server-Timing, which took its place in the drafts of level 3.
 * `text` is of ES_RESPONSE_TEXT bytes. */
#define ES_RESPONSE_TEXT 80
es_header_t es_trace_response(const es_trace_t *trace, es_response_header_t kind,
                              char text[ES_RESPONSE_TEXT]);

/* ------------------------------------------------------------ baggage --- */

/* The members of the caller's baggage (W3C Baggage) one by one, percent-decoded (U+FFFD for control
 * characters and what is no UTF-8); *at is 0 at first. One key may come again: then
 * the last counts. False: no more. */
bool es_trace_baggage_next(const es_trace_t *trace, size_t *at, es_attribute_t *member);

/* The member that a variable of this name means: without case, and any character
 * that a variable cannot have is an underscore. False: there is none. */
bool es_trace_baggage_variable(const es_trace_t *trace, es_str_t name, es_str_t *value);

/* Appends the members of these keys to the attributes of a span that are there
 * already, but for those whose key is there. Returns how many there are now: at most
 * keys->count more. */
unsigned es_trace_baggage_attributes(const es_trace_t *trace, const es_names_t *keys,
                                     es_attribute_t *attributes, unsigned count);

/* -------------------------------------------------------------- spans --- */

/* A request that was not sampled has ended: is it to be recorded all the same, by
 * otel_sample_keep? Call it once, where es_trace_recording() and not
 * es_trace_sampled(); it reads kind, status, error_type, grpc, grpc_status,
 * first_byte_mono_ns and end_mono_ns of the SERVER span. */
bool es_trace_keep(es_trace_t *trace, const es_http_t *http);

/* Ends a span: writes it and puts it into the queue. Only for traces that are
 * sampled or kept. A span that does not fit is dropped and counted. */
void es_trace_http(const es_trace_t *trace, const es_http_t *http);

/* The page of a trace in a backend, of a template that es_check_trace_url() accepted, in
 * the trace's pool: "{trace_id}" and "{span_id}" (the SERVER span's) are replaced. Empty
 * where nothing would be there to see: the trace is not sampled. Seal it before. */
es_str_t es_trace_url(const es_trace_t *trace, es_str_t pattern);

#endif
