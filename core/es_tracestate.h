/* es_tracestate.h: W3C Trace Context level 2, the syntax of tracestate, and
 * OpenTelemetry's own member of it, "ot=th:...;rv:..." (trace, "TraceState
 * Handling"). Results borrow their input or are a pool's. */

#ifndef ES_TRACESTATE_H
#define ES_TRACESTATE_H

#include "es_str.h"

#define ES_TRACESTATE_MEMBERS_MAX 32

/* The most that 32 members of 256 + 1 + 256 bytes and their commas can need. */
#define ES_TRACESTATE_MAX (ES_TRACESTATE_MEMBERS_MAX * 514)

/* Is this combined tracestate value legal as a whole? Counts its members, empty
 * ones not among them. */
bool es_tracestate_valid(es_str_t value, unsigned *members) ES_MUST_CHECK;

/* What `ot` says; of a tracestate that is valid. */
typedef struct es_ot {
    bool names_th; /* well or badly */
    bool has_th, has_rv;
    uint64_t th; /* the threshold with which it was sampled */
    uint64_t rv; /* the randomness that replaces the trace id's */
} es_ot_t;

es_ot_t es_tracestate_ot(es_str_t tracestate);

/* With this `th` in `ot`, which then is the first member; ES_THRESHOLD_NEVER:
 * without. Other members and other keys of `ot` stay as they are, but for what
 * exceeds 32 members at the right; a `th` that `ot` has no room for is left out. The
 * same bytes come back where nothing changes. Without memory nothing is left: no
 * word is better than a wrong one. */
es_str_t es_tracestate_with_th(es_str_t tracestate, uint64_t threshold, const es_pool_t *pool);

#endif
