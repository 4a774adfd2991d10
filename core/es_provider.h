/* es_provider.h: what the core's files share of a generation and of a process
 * in it. The functions are in edgespan.h. */

#ifndef ES_PROVIDER_H
#define ES_PROVIDER_H

#include "es_config.h"
#include "es_id.h"
#include "es_override.h"
#include "es_queue.h"
#include "es_stats.h"

#include <pthread.h>
#include <sched.h>

/* Made in the parent, read-only after the fork. */
struct es_generation {
    const es_config_t *config;
    uint64_t created_ns; /* wall clock */
    es_queue_t queue;
    es_override_shared_t *override; /* NULL: there is none */
    es_stats_t *stats;
    int locks;          /* memfd, see es_leader.h */
    int wake;           /* eventfd: a chunk was sealed while the leader slept */
    cpu_set_t affinity; /* the parent's: a server may pin its workers */
    bool has_affinity;
    int priority;
};

struct es_provider {
    es_generation_t *generation;
    es_log_t log;
    es_id_generator_t ids;
    es_producer_t producer;
    unsigned slot;
    es_stripe_t *stripe; /* of the counters */
    pthread_t thread;
    bool stuck;               /* the thread did not end and goes on using all this */
    int stop;                 /* eventfd: readable once the process is to stop */
    int ended;                /* eventfd: readable once the thread has ended */
    _Atomic uint64_t stop_at; /* the absolute deadline, 0: not stopping */
};

/* Puts a finished span into the queue, or counts it. Any thread. */
void es_provider_push(es_provider_t *provider, es_span_kind_t kind, uint16_t resource,
                      es_str_t span);

/* One line to the server's log, control characters made harmless. */
void es_provider_log(const es_provider_t *provider, es_log_level_t level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- es_exporter.c */

/* The exporter thread; `data` is the provider. */
void *es_exporter_run(void *data);

#endif
