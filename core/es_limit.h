/* es_limit.h: a token bucket that all processes share (GCRA: the virtual
 * scheduling algorithm of ITU-T I.371). No lock: one compare-and-swap. */

#ifndef ES_LIMIT_H
#define ES_LIMIT_H

#include "edgespan.h"

#include <stdatomic.h>

/* "100r/s", "30r/m"; no more than a million a second. */
#define ES_RATE_MAX UINT64_C(1000000)

/* One for each directive that has a limit. */
#define ES_LIMITS_MAX 256

/* A directive's, read-only after the fork. */
typedef struct es_limit {
    const char *place; /* NULL: nowhere */
    bool of_kept;      /* of what is kept at the end */
    double per_second;
    uint64_t interval_ns;  /* between two at the full rate */
    uint64_t tolerance_ns; /* (burst - 1) intervals */
} es_limit_t;

/* In shared memory, zeroed. Times are monotonic. */
typedef struct es_limit_state {
    _Alignas(64) _Atomic uint64_t next_ns; /* when the next one would be due */
    _Atomic uint64_t refused_ns;           /* the last refusal; 0: never */
    _Atomic uint64_t refused;              /* how many */
} es_limit_state_t;

/* "100r/s": how many in how many seconds. */
bool es_parse_rate(es_str_t text, uint64_t *count, uint64_t *seconds) ES_MUST_CHECK;

/* `burst` 0: a tenth of a second's worth, at least 1. */
void es_limit_init(es_limit_t *limit, uint64_t count, uint64_t seconds, uint64_t burst,
                   const char *place);

/* Takes one, or refuses and counts it. */
bool es_limit_take(const es_limit_t *limit, es_limit_state_t *state, uint64_t now_ns);

/* Was anything refused in the last 10 s? Then what is let through is a share that
 * nobody knows. */
bool es_limit_refuses(const es_limit_state_t *state, uint64_t now_ns);

#endif
