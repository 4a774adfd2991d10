/* es_span.h: writes one finished span as OTLP protobuf bytes (opentelemetry.
 * proto.trace.v1.Span), byte for byte what protobuf-c packs for the same span.
 *
 * This is the hot path: one pass into a caller's buffer, no allocation, no lock,
 * no system call. Order matters on the wire: begin, then attributes, then
 * events, then links, then end. What comes too late or exceeds a limit is left
 * out and counted in the span's own dropped_*_count.
 *
 * Strings are sent as valid UTF-8: each bad byte becomes U+FFFD. */

#ifndef ES_SPAN_H
#define ES_SPAN_H

#include "edgespan.h"

/* OpenTelemetry's span limits (trace SDK, "Span Limits"). It leaves a value's
 * length unlimited; ours ends where no header of a sane request does. */
#define ES_SPAN_ATTRIBUTES_MAX 128
#define ES_SPAN_EVENTS_MAX 128
#define ES_SPAN_LINKS_MAX 128
#define ES_SPAN_ITEM_ATTRIBUTES_MAX 128
#define ES_SPAN_VALUE_MAX 4096 /* characters */

/* The largest span; the queue's records and the writer's buffer follow it. */
#define ES_SPAN_SIZE_MAX 32768

typedef enum es_status_code {
    ES_STATUS_UNSET = 0,
    ES_STATUS_OK = 1,
    ES_STATUS_ERROR = 2,
} es_status_code_t;

/* OTLP Span.flags beyond the W3C byte. */
#define ES_SPAN_FLAG_HAS_IS_REMOTE 0x100u
#define ES_SPAN_FLAG_IS_REMOTE 0x200u

typedef enum es_span_stage {
    ES_STAGE_ATTRIBUTES,
    ES_STAGE_EVENTS,
    ES_STAGE_LINKS,
    ES_STAGE_END,
} es_span_stage_t;

/* They can be lowered, to 0, too; not raised. */
typedef struct es_span_limits {
    uint32_t count[ES_STAGE_END];           /* of attributes, events and links */
    uint32_t item_attributes[ES_STAGE_END]; /* of an event, of a link */
    uint32_t value;                         /* characters of an attribute's value */
} es_span_limits_t;

/* The ones above. */
extern const es_span_limits_t es_span_limits;

/* What is written before the attributes. */
typedef struct es_span {
    const uint8_t *trace_id;
    const uint8_t *span_id;
    const uint8_t *parent_span_id; /* NULL: a root */
    es_str_t tracestate;
    es_str_t name;
    es_span_kind_t kind;
    uint64_t start_ns;
    uint64_t end_ns;
    uint32_t flags;
    const es_span_limits_t *limits; /* NULL: es_span_limits */
} es_span_t;

/* Private fields. */
typedef struct es_span_writer {
    uint8_t *begin, *at, *limit;
    uint8_t *item; /* the open event or link: its length byte; NULL if none */
    es_span_stage_t stage;
    uint32_t flags, link_flags;
    uint32_t count[ES_STAGE_END];   /* of attributes, events and links */
    uint32_t dropped[ES_STAGE_END]; /* likewise */
    uint32_t item_count, item_dropped;
    const es_span_limits_t *limits;
    uint32_t short_max; /* see es_span_key.h */
} es_span_writer_t;

/* `size` bytes at `buffer`, at least 2048. */
void es_span_begin(es_span_writer_t *writer, void *buffer, size_t size, const es_span_t *span);

/* To the span, or to the event or link that is open. The caller sees to it that
 * keys are unique. */
void es_span_string(es_span_writer_t *writer, es_str_t key, es_str_t value);
void es_span_int(es_span_writer_t *writer, es_str_t key, int64_t value);
void es_span_double(es_span_writer_t *writer, es_str_t key, double value);
void es_span_bool(es_span_writer_t *writer, es_str_t key, bool value);
void es_span_strings(es_span_writer_t *writer, es_str_t key, const es_str_t *values,
                     unsigned count);

/* One that could not be written counts as dropped. */
void es_span_drop(es_span_writer_t *writer);

/* Opens an event or a link; the next one, or the end, closes it. */
void es_span_event(es_span_writer_t *writer, es_str_t name, uint64_t time_ns);
void es_span_link(es_span_writer_t *writer, const es_span_context_t *context, bool remote);

/* Closes the span: its bytes, in the buffer given to es_span_begin(). The
 * message is written for ES_STATUS_ERROR only, 64 characters of it at most. */
es_str_t es_span_end(es_span_writer_t *writer, es_status_code_t code, es_str_t message);

#endif
