/* es_sampler.h: is this trace recorded, and why? Pure functions.
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
es_decision_t es_sampler_parentbased_traceidratio(const es_span_context_t *parent,
                                                  const uint8_t trace_id[ES_TRACE_ID_LEN],
                                                  uint64_t threshold);

/* What each decision means. */
typedef struct es_decision_info {
    const char *token; /* who decided: "parent", "ratio" or "off" */
    bool sampled;
} es_decision_info_t;

extern const es_decision_info_t es_decisions[ES_DECISIONS];

#endif
