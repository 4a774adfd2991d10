/* es_id.h: trace and span ids.
 *
 * One generator per process, seeded by getrandom() after the fork, so that no
 * two processes share a sequence. Drawing is one atomic addition and a mixing
 * function: any number of threads may draw at once. Ids are unpredictable
 * enough not to collide, they are no secrets. */

#ifndef ES_ID_H
#define ES_ID_H

#include "edgespan.h"

#include <stdatomic.h>

typedef struct es_id_generator {
    _Atomic uint64_t counter;
    uint64_t key[2];
} es_id_generator_t;

/* False when the kernel gives no random bytes. */
bool es_id_generator_init(es_id_generator_t *ids) ES_MUST_CHECK;

/* Never all zero; the low 56 bits are uniformly random (W3C Trace Context
 * level 2, random flag). */
void es_trace_id_new(es_id_generator_t *ids, uint8_t id[ES_TRACE_ID_LEN]);

/* Likewise, but it begins with the seconds since the epoch, as X-Ray asks for. */
void es_trace_id_new_at(es_id_generator_t *ids, uint64_t wall_ns, uint8_t id[ES_TRACE_ID_LEN]);

void es_span_id_new(es_id_generator_t *ids, uint8_t id[ES_SPAN_ID_LEN]);

/* 64 random bits, for jitter. */
uint64_t es_random(es_id_generator_t *ids);

#endif
