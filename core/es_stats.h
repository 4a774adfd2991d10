/* es_stats.h: counters in shared memory that live with the server and survive
 * reloads. Every addition is one relaxed atomic; none is on the path of a span
 * that goes well. */

#ifndef ES_STATS_H
#define ES_STATS_H

#include "edgespan.h"

#include <stdatomic.h>

/* Why a span did not arrive. */
typedef enum es_drop {
    ES_DROP_QUEUE_FULL, /* no free chunk when it ended */
    ES_DROP_LAGGING,    /* its exporter was too slow and gave it up */
    ES_DROP_REJECTED,   /* the collector refused its batch for good, or a part of it */
    ES_DROP_CORRUPT,    /* unreadable in the queue (counted by runs, not spans) */
    ES_DROP_POISON,     /* pending when leader after leader died */
    ES_DROP_SHUTDOWN,   /* not delivered before the deadline of the stop */
    ES_DROP_SPOOL_FULL, /* the oldest in the spool, to make room */
    ES_DROP_SPOOL_TORN, /* unreadable in the spool */
    ES_DROPS,
} es_drop_t;

/* What the leader counts of one exporter. */
typedef struct es_exporter_stats {
    _Atomic uint64_t sent;    /* spans acknowledged */
    _Atomic uint64_t bytes;   /* bodies acknowledged, as they were on the wire */
    _Atomic uint64_t retried; /* batches sent once more */
    _Atomic uint64_t spooled; /* spans put into the spool */
    _Atomic uint64_t dropped[ES_DROPS];
} es_exporter_stats_t;

typedef struct es_stats {
    _Atomic uint64_t dropped[ES_DROPS]; /* by the processes: for every exporter */
    es_exporter_stats_t exporters[ES_EXPORTERS_MAX];
} es_stats_t;

/* "queue full", ... */
const char *es_drop_name(es_drop_t reason);

/* Sum over the processes and all exporters. */
uint64_t es_stats_dropped(const es_stats_t *stats, es_drop_t reason);

static inline void
es_stats_add(_Atomic uint64_t *counter, uint64_t n)
{
    if (n != 0) {
        atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
    }
}

#endif
