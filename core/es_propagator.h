/* es_propagator.h: header formats that carry a span context.
 *
 * A format is one file es_propagator_<name>.c with one row in the table of
 * es_propagator.c, and its header names in that file's list of fields.
 * Everything here is reentrant and allocates from the request's pool only. */

#ifndef ES_PROPAGATOR_H
#define ES_PROPAGATOR_H

#include "edgespan.h"

typedef enum es_field {
    ES_FIELD_TRACEPARENT,
    ES_FIELD_TRACESTATE,
    ES_FIELDS,
} es_field_t;

typedef struct es_propagator {
    const char *name; /* as in OTEL_PROPAGATORS */

    /* True and a whole context, or false and no promise about it. */
    bool (*extract)(const es_carrier_t *carrier, const es_pool_t *pool, es_span_context_t *context);

    /* Appends its headers, at most ES_INJECT_MAX of all propagators together.
     * `text` is ES_INJECT_TEXT bytes for values that need writing. */
    unsigned (*inject)(const es_span_context_t *context, char *text, es_header_t *headers);
} es_propagator_t;

extern const es_propagator_t es_propagator_tracecontext;

es_str_t es_field_name(es_field_t field);

/* The first propagator that finds a valid context wins. */
bool es_propagators_extract(const es_carrier_t *carrier, const es_pool_t *pool,
                            es_span_context_t *context) ES_MUST_CHECK;

unsigned es_propagators_inject(const es_span_context_t *context, char *text, es_header_t *headers);

#endif
