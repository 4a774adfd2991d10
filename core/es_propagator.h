/* es_propagator.h: header formats that carry a span context.
 *
 * A format is one file es_propagator_<name>.c with one row in the table of
 * es_propagator.c, and its header names in that file's list of fields.
 * Everything here is reentrant and allocates from the request's pool only. */

#ifndef ES_PROPAGATOR_H
#define ES_PROPAGATOR_H

#include "edgespan.h"

/* Headers that are read, or that ours take the place of. */
typedef enum es_field {
    ES_FIELD_TRACEPARENT,
    ES_FIELD_TRACESTATE,
    ES_FIELD_BAGGAGE,
    ES_FIELD_B3,
    ES_FIELD_B3_TRACE_ID,
    ES_FIELD_B3_SPAN_ID,
    ES_FIELD_B3_PARENT_SPAN_ID,
    ES_FIELD_B3_SAMPLED,
    ES_FIELD_B3_FLAGS,
    ES_FIELD_JAEGER,
    ES_FIELD_XRAY,
    ES_FIELDS,
} es_field_t;

#define ES_FIELD_BIT(field) (UINT32_C(1) << (field))

/* What a caller says: ids and a wish, ids alone (the decision is ours), a trace id
 * without a span, or a wish alone. Without a span id there is no parent. */
typedef struct es_extracted {
    es_span_context_t context; /* zeroed but for what there is */
    es_wish_t wish;
    bool has_trace_id, has_span_id;
} es_extracted_t;

/* The wish, and the sampled flag that follows from it. */
void es_extracted_wish(es_extracted_t *extracted, es_wish_t wish);

typedef struct es_propagator {
    const char *name; /* as in OTEL_PROPAGATORS */
    uint32_t fields;  /* ES_FIELD_BIT: those it reads, and replaces */
    bool timed_ids;   /* its trace ids begin with the time */

    /* False: nothing valid, and no promise about the result, which came zeroed.
     * NULL: it carries no ids. */
    bool (*extract)(const es_carrier_t *carrier, const es_pool_t *pool, es_extracted_t *extracted);

    /* Appends its headers; `text` is for values that need writing: text_size bytes,
     * and room for the trace's baggage if it filters that. */
    size_t text_size;
    bool filters_baggage;
    unsigned (*inject)(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN], char *text,
                       es_header_t *headers);
} es_propagator_t;

extern const es_propagator_t es_propagator_tracecontext;
extern const es_propagator_t es_propagator_baggage;
extern const es_propagator_t es_propagator_b3;
extern const es_propagator_t es_propagator_b3multi;
extern const es_propagator_t es_propagator_jaeger;
extern const es_propagator_t es_propagator_xray;

extern const es_propagator_t *const es_propagators[];
extern const unsigned es_propagators_count;

es_str_t es_field_name(es_field_t field);

/* Is this a header of any context format, also of those that are not configured? */
bool es_is_context_header(es_str_t name);

/* The header of this name; ES_FIELDS: none of ours. Without case. */
es_field_t es_field_find(es_str_t name);

/* The first header of this field, without blanks around it. A server may have joined
 * several by commas, which no format but the W3C's has in a value: the first counts.
 * False: there is none. */
bool es_carrier_first(const es_carrier_t *carrier, es_field_t field, es_str_t *value);

/* The first propagator that finds ids of a span wins; if none does, the first that
 * finds anything. Nobody found anything: zeroed. */
void es_propagators_extract(const es_propagation_t *propagation, const es_carrier_t *carrier,
                            const es_pool_t *pool, es_extracted_t *extracted);

/* Is the caller's wish for debugging to be sent on? */
bool es_trace_debug(const es_trace_t *trace);

/* ---- es_propagation.c */

/* What counts where neither a directive nor the environment says anything. */
es_propagation_t es_propagation_default(void);

/* What `propagation` says, or else the config's default. */
const es_propagation_t *es_propagation_of(const es_trace_t *trace,
                                          const es_propagation_t *propagation);

#endif
