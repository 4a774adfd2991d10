/* es_spool.h: batches on disk while their destination stays away.
 *
 * A directory of segments (es_segment.h), each written by one generation of one
 * server and replayed oldest first. Whoever delivered a record marks it in its
 * place; a segment whose records are all marked is removed. One process at a time
 * replays: it holds the directory's lock (flock(), so that a dead process lets
 * go). A segment that another process still writes is left alone until that one
 * is done with it.
 *
 * Nothing is synced to the disk: what was spooled survives the death of every
 * process, not that of the machine. All of it runs on the exporter thread. */

#ifndef ES_SPOOL_H
#define ES_SPOOL_H

#include "es_str.h"

typedef struct es_spool es_spool_t;

/* What the caller has to count and tell; all but `bytes` and `spans` only grow. */
typedef struct es_spool_counts {
    uint64_t bytes;    /* of all segments, whoever writes them */
    uint64_t spans;    /* not delivered yet, as far as this process has looked */
    uint64_t given_up; /* spans removed with the oldest segment to make room */
    uint64_t torn;     /* spans in records that cannot be read; the rest of a
                          segment behind an unreadable head counts as one */
    uint64_t torn_records;
} es_spool_counts_t;

/* A record that was taken out, to be delivered. */
typedef struct es_spooled {
    es_buffer_t otlp; /* the taker's to free */
    uint32_t spans;
    uint64_t segment; /* private, as `offset` */
    uint64_t offset;
} es_spooled_t;

/* NULL with the error filled: the directory cannot be used. It is not created.
 * `max` bounds the bytes of all segments; several processes that append at once
 * learn of each other once a second, and may go beyond it by so much. */
es_spool_t *es_spool_open(const char *directory, uint64_t max, es_error_t *error);

/* What was taken and not settled is there again for the next that opens. */
void es_spool_close(es_spool_t *spool);

/* Appends one batch. Makes room by removing the oldest segment that no other
 * process works on; one with a taken record goes last, and what is taken does not
 * count as given up. False with the error filled: the disk is full, the batch is
 * larger than the spool ...; nothing of it is left then. `taken`, if it is not
 * NULL, gets the record without its bytes: it counts as taken, because its batch
 * is under way, and is to be settled or given back before the next is taken. */
bool es_spool_append(es_spool_t *spool, es_str_t otlp, uint32_t spans, es_spooled_t *taken,
                     es_error_t *error) ES_MUST_CHECK;

/* Takes the oldest record that was not taken yet. False: there is none, another
 * process replays, or no memory. Torn records on the way are passed over and
 * counted. Looks for the segments of others, and for the lock, once a second at
 * most; a caller that spools is to ask now and then even if it does not replay,
 * so that a quiet segment passes to the process that does. A segment with taken
 * records keeps a descriptor open. */
bool es_spool_take(es_spool_t *spool, es_spooled_t *record) ES_MUST_CHECK;

/* Marks a record that was taken: it is delivered, or given up for good. */
void es_spool_settle(es_spool_t *spool, const es_spooled_t *record);

/* It was not delivered: who opens the spool next has it, and, if it was taken as
 * it was appended, who takes next. Where it was removed meanwhile to make room it
 * is given up now. */
void es_spool_give_back(es_spool_t *spool, const es_spooled_t *record);

es_spool_counts_t es_spool_counts(const es_spool_t *spool);

#endif
