/* es_sampler.h: is this trace recorded? Pure functions.
 *
 * The probability is decided by OpenTelemetry's consistent threshold on the low
 * 56 bits of the trace id (R >= T), which every service of a trace computes
 * alike. */

#ifndef ES_SAMPLER_H
#define ES_SAMPLER_H

#include "edgespan.h"

/* R of a trace id: its low 56 bits. */
uint64_t es_randomness(const uint8_t trace_id[ES_TRACE_ID_LEN]);

/* parentbased_traceidratio: a parent (NULL: none) decides, else the threshold. */
bool es_sampler_parentbased_traceidratio(const es_span_context_t *parent,
                                         const uint8_t trace_id[ES_TRACE_ID_LEN],
                                         uint64_t threshold);

#endif
