/* es_spool.h: batches on disk while their destination stays away.
 *
 * A directory of segment files that only grow, each written by one generation of
 * one server; a record is a head and an OTLP request. Whoever delivered a record
 * marks it in its place; a segment whose records are all marked is removed. One
 * process at a time replays: it holds the directory's lock (flock(), so that a
 * dead process lets go). A segment that another generation still writes is left
 * alone until that one is done.
 *
 * Nothing is synced to the disk: what was spooled survives the death of every
 * process, not that of the machine. All of it runs on the exporter thread. */

#ifndef ES_SPOOL_H
#define ES_SPOOL_H

#include "es_str.h"

typedef struct es_spool es_spool_t;

/* What the caller has to count and tell; all but `bytes` and `spans` only grow. */
typedef struct es_spool_counts {
    uint64_t bytes;    /* of all segments */
    uint64_t spans;    /* not delivered yet, as far as this process knows */
    uint64_t given_up; /* spans removed with the oldest segment to make room */
    uint64_t torn;     /* spans in records that cannot be read; a record whose
                          head is unreadable counts as one */
    uint64_t torn_records;
} es_spool_counts_t;

/* A record that was taken out, to be delivered. */
typedef struct es_spooled {
    es_buffer_t otlp; /* the taker's to free */
    uint32_t spans;
    uint64_t segment; /* private, as `offset` */
    uint64_t offset;
} es_spooled_t;

/* NULL with the error filled: the directory cannot be used. `max` bounds the
 * bytes of all segments. */
es_spool_t *es_spool_open(const char *directory, uint64_t max, es_error_t *error);

/* What was taken and not settled is there again for the next that opens. */
void es_spool_close(es_spool_t *spool);

/* Appends one batch by one write. Makes room by removing the oldest segment, if
 * this process holds the lock. False with the error filled: the disk is full,
 * the batch is larger than the spool ...; nothing of it is left in the file. */
bool es_spool_append(es_spool_t *spool, es_str_t otlp, uint32_t spans,
                     es_error_t *error) ES_MUST_CHECK;

/* Takes the oldest record that was not taken yet. False: there is none, another
 * process replays, or no memory. Torn records on the way are passed over and
 * counted. Looks for the segments of others again once a second at most. */
bool es_spool_take(es_spool_t *spool, es_spooled_t *record) ES_MUST_CHECK;

/* Marks a record that was taken: it is delivered, or given up for good. */
void es_spool_settle(es_spool_t *spool, const es_spooled_t *record);

const es_spool_counts_t *es_spool_counts(const es_spool_t *spool);

#endif
