/* es_pipeline.h: one exporter's way from the queue to its destination.
 *
 * The leader's thread turns every pipeline in its loop. Batches are built from
 * the queue in order and answered in any order; the cursors in the queue move
 * only when the oldest batch is settled, so that a leader's death loses nothing
 * that was not acknowledged. While the destination fails, one batch at a time
 * probes it, with exponential back-off and jitter; the others wait. */

#ifndef ES_PIPELINE_H
#define ES_PIPELINE_H

#include "es_batch.h"
#include "es_failover.h"

/* What a turn may do. */
typedef enum es_turn {
    ES_TURN_NORMAL, /* full batches at once, the rest when the interval is over */
    ES_TURN_DRAIN,  /* everything at once: the last process is about to end */
    ES_TURN_FINISH, /* nothing new: wait for answers */
} es_turn_t;

/* Private fields. */
typedef struct es_pipeline {
    es_provider_t *provider;
    const es_exporter_config_t *config;
    es_exporter_stats_t *stats;
    unsigned index;
    void *sender;
    es_reader_t reader;
    es_failover_t failover;

    es_batch_t *first, **last; /* oldest first */
    unsigned waiting;          /* batches to be sent (again) */
    unsigned in_flight;        /* batches at the destination */
    uint64_t held;             /* bytes of the queue that batches stand for */
    uint64_t flush_at;         /* when an incomplete batch is sent, too */
    bool unfinished;           /* the last turn left something to do */
    bool exhausted;            /* it found nothing (more) that could be sent */

    bool failing; /* at every target */
    uint64_t failing_since;
    uint64_t retry_at;
    uint64_t backoff_ns;

    bool failure_told; /* the log says that it fails */

    es_spool_t *spool;  /* or NULL */
    unsigned replaying; /* batches in memory that were read from it */
    unsigned spooled_meanwhile;
    bool spool_told; /* the log says that it is in use */
    uint64_t spool_retry_at;
    uint64_t spool_given_up, spool_torn; /* counted so far */
} es_pipeline_t;

bool es_pipeline_open(es_pipeline_t *pipeline, es_provider_t *provider, unsigned index,
                      struct es_transport *transport, es_error_t *error) ES_MUST_CHECK;

/* Builds and sends what there is to send. No request outlives `deadline_ns`
 * unless it is 0. */
void es_pipeline_turn(es_pipeline_t *pipeline, es_turn_t turn, uint64_t deadline_ns);

/* When the pipeline next has something to do by itself, monotonic. */
uint64_t es_pipeline_due(const es_pipeline_t *pipeline);

/* Nothing under way; and, if `drained`, nothing left in the queue either. */
bool es_pipeline_idle(const es_pipeline_t *pipeline, bool drained);

/* Moves all that was not delivered to the spool, if there is one and as far as
 * there is time. */
void es_pipeline_save(es_pipeline_t *pipeline, uint64_t deadline_ns);

/* Gives up all that is in the queue or under way, and counts it; an answer that
 * came all the same would be counted, too, so the next is to close. */
void es_pipeline_abandon(es_pipeline_t *pipeline, es_drop_t reason);

/* Gives up the oldest chunk that other exporters are done with. False: none. */
bool es_pipeline_give_up_oldest(es_pipeline_t *pipeline);

/* One line about what was done since the server's start. */
void es_pipeline_report(const es_pipeline_t *pipeline);

/* ---- for es_spooling.c */

/* Makes a batch of the queue's spans and puts it at the end of the line. False:
 * there is none. */
bool es_pipeline_build(es_pipeline_t *pipeline, bool flush);

/* Moves the queue's cursors behind what is settled or on the disk. */
void es_pipeline_settle(es_pipeline_t *pipeline);

/* Lets go of everything; what was not settled stays in the queue. */
void es_pipeline_close(es_pipeline_t *pipeline);

#endif
