/* es_stats.h: counters in shared memory that live with the server and survive
 * reloads. Every addition is one relaxed atomic.
 *
 * What requests count is striped by process, so that no cache line goes to and
 * fro between workers; who reads sums the stripes up. What the leader counts is
 * once per exporter: by its place in the configuration, so an exporter that takes
 * another's place goes on with its counters. During a reload the leaders of two
 * generations may write at once. */

#ifndef ES_STATS_H
#define ES_STATS_H

#include "es_limit.h"
#include "es_target.h"

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

#define ES_SPAN_KINDS 3

/* One line a minute at most per cause: each cause has its own of these, zeroed.
 * Some are in shared memory, so that a reload does not begin anew. */
typedef struct es_log_limit {
    _Atomic uint64_t logged_at; /* monotonic, 0: never */
} es_log_limit_t;

/* Is it time for a line? Then it counts as written. */
bool es_log_limit_take(es_log_limit_t *limit);

/* What is told about an exporter. */
typedef enum es_failure {
    ES_FAILURE_RETRY,
    ES_FAILURE_REJECTED,
    ES_FAILURE_PARTIAL,
    ES_FAILURE_SPOOLED,
    ES_FAILURE_SPOOL,
    ES_FAILURES,
} es_failure_t;

/* What the processes of some slots count. */
typedef struct es_stripe {
    _Alignas(64) _Atomic uint64_t decisions[ES_DECISIONS]; /* requests that took part */
    _Atomic uint64_t kept[ES_KEEPS];                       /* of those, at the end */
    _Atomic uint64_t queued[ES_SPAN_KINDS];                /* spans, by kind - 1 */
    _Alignas(64) _Atomic uint64_t dropped[ES_DROPS];       /* for every exporter */
} es_stripe_t;

#define ES_STRIPES 64

/* What went wrong last. Two may write at once and one may die while it does: the
 * check tells a reader whether the rest belongs together. */
#define ES_LAST_ERROR_SIZE 640

typedef struct es_last_error {
    _Atomic uint64_t check;
    _Atomic uint64_t time_ns; /* wall clock; 0: never */
    _Atomic uint64_t text[ES_LAST_ERROR_SIZE / sizeof(uint64_t)];
} es_last_error_t;

/* What the leader counts of one exporter. */
typedef struct es_exporter_stats {
    _Alignas(64) _Atomic uint64_t sent; /* spans acknowledged */
    _Atomic uint64_t batches;           /* acknowledged */
    _Atomic uint64_t bytes;             /* bodies acknowledged, as they were on the wire */
    _Atomic uint64_t retried;           /* batches sent once more */
    _Atomic uint64_t spooled;           /* spans put into the spool */
    _Atomic uint64_t dropped[ES_DROPS];
    _Atomic uint64_t succeeded_ns; /* the last acknowledgement, wall clock; 0: never */
    es_last_error_t last_error;
    es_log_limit_t limits[ES_FAILURES];
} es_exporter_stats_t;

typedef struct es_stats {
    _Atomic uint64_t layout;     /* 0: fresh memory */
    _Atomic uint64_t started_ns; /* when the first generation began, wall clock */
    es_exporter_stats_t exporters[ES_EXPORTERS_MAX];
    _Alignas(64) _Atomic uint64_t cpu_ns;   /* of the exporter threads */
    es_limit_state_t limits[ES_LIMITS_MAX]; /* by the place of the directive, too */
    es_target_state_t targets[ES_TARGETS_MAX];
    es_stripe_t stripes[ES_STRIPES];
} es_stats_t;

/* Begins to count in fresh memory, goes on in kept memory. False: it was laid out
 * by another build. */
bool es_stats_open(es_stats_t *stats) ES_MUST_CHECK;

/* "queue full", ...: in words, for the log. */
const char *es_drop_name(es_drop_t reason);

/* "queue_full", ...: for programs. */
const char *es_drop_token(es_drop_t reason);

/* Sum over the processes and all exporters. */
uint64_t es_stats_dropped(const es_stats_t *stats, es_drop_t reason);

/* Keeps a line, cut to what fits, with the time. */
void es_last_error_set(es_last_error_t *error, const char *text);

/* False: there is none, or it is being written. `text` is NUL-terminated. */
bool es_last_error_get(const es_last_error_t *error, uint64_t *time_ns,
                       char text[ES_LAST_ERROR_SIZE]) ES_MUST_CHECK;

static inline void
es_stats_add(_Atomic uint64_t *counter, uint64_t n)
{
    if (n != 0) {
        atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
    }
}

static inline uint64_t
es_stats_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
