/* es_target.h: a probability that follows the load, so that about so many requests
 * a second are sampled. All processes count into one state; the first request
 * behind the end of a window sets the probability for the next one. No lock: one
 * compare-and-swap a window. */

#ifndef ES_TARGET_H
#define ES_TARGET_H

#include "edgespan.h"

#include <stdatomic.h>

/* One for each directive. */
#define ES_TARGETS_MAX 256

/* A directive's, read-only after the fork. */
typedef struct es_sample_target {
    const char *place; /* NULL: nowhere */
    double per_second;
    double min, max; /* probabilities */
} es_sample_target_t;

/* In shared memory, zeroed. */
typedef struct es_target_state {
    _Alignas(64) _Atomic uint64_t window_ns; /* when it began, monotonic; 0: never */
    _Atomic uint64_t count;                  /* requests in it */
    _Atomic uint64_t probability;            /* a double's bits; 0: not known yet */
    _Atomic uint64_t jumped;                 /* the load of the last window was another */
} es_target_state_t;

/* The probability of now, as a threshold that is rounded for `ot=th`. */
uint64_t es_target_threshold(const es_sample_target_t *target, const es_target_state_t *state);

/* One more request, sampled or not. */
void es_target_count(const es_sample_target_t *target, es_target_state_t *state, uint64_t now_ns);

#endif
