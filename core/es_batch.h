/* es_batch.h: spans that go to a destination together, read out of the queue.
 *
 * A batch copies its bytes out of the queue and remembers which ranges they came
 * from, so that the cursors can follow when it is settled. */

#ifndef ES_BATCH_H
#define ES_BATCH_H

#include "es_protocol.h"
#include "es_provider.h"
#include "es_spool.h"

typedef enum es_batch_state {
    ES_BATCH_WAITING,
    ES_BATCH_SENT,
    ES_BATCH_SETTLED, /* delivered or given up */
} es_batch_state_t;

/* Is it on the disk, whatever becomes of this copy? */
typedef enum es_spooled_how {
    ES_SPOOLED_NOT,
    ES_SPOOLED_TAKEN,     /* this copy was read from there */
    ES_SPOOLED_MEANWHILE, /* it went there while it was under way */
} es_spooled_how_t;

typedef struct es_batch {
    es_delivery_t delivery; /* first: `done` gets back to the batch */
    struct es_batch *next;
    void *owner;
    es_batch_state_t state;
    unsigned spans;
    unsigned failed_to_prepare; /* how often */
    es_buffer_t otlp;           /* the spans as OTLP protobuf */
    es_buffer_t wire;           /* what is sent, if that is anything else */
    es_spooled_how_t spooled;
    es_spooled_t record;
    unsigned ranges_count;
    es_range_t ranges[];
} es_batch_t;

/* Makes delivery.body: once, whatever the number of tries. False: no memory. */
bool es_batch_prepare(es_batch_t *batch, const es_exporter_config_t *exporter) ES_MUST_CHECK;

void es_batch_free(es_batch_t *batch);

/* One exporter's reading of the queue: ahead of its cursors by what was
 * collected for batches. */
typedef struct es_reader {
    es_generation_t *generation;
    unsigned index; /* the exporter's */
    unsigned spans_min, spans_max;
    size_t bytes_max;     /* of the spans of a batch */
    bool one_resource;    /* per batch */
    uint64_t *read;       /* per chunk: how far records were collected */
    es_range_t *ranges;   /* that they came from, one per chunk at most */
    es_record_t *records; /* spans_max of them */
    unsigned ranges_count, records_count;
    unsigned next_record; /* the first that is in no batch yet */
    uint32_t next_chunk;  /* where to begin, so that no chunk starves */
} es_reader_t;

/* False: no memory. */
bool es_reader_open(es_reader_t *reader, es_generation_t *generation, unsigned index) ES_MUST_CHECK;
void es_reader_close(es_reader_t *reader);

/* What of a chunk is neither settled nor in a batch; empty if from >= to. */
es_range_t es_reader_unread(const es_reader_t *reader, uint32_t chunk);

/* The next batch, or NULL: there is nothing, less than a batch's worth and no
 * `flush`, or no memory: a later turn tries again. *corrupt grows by the runs
 * of bytes that could not be read. A batch of nothing but such runs has no spans
 * and is settled from the beginning.
 *
 * What was collected for a format of one resource becomes a batch for each. The
 * last of them has the ranges of all, so that, settled in order, no cursor ever
 * passes a span of another. */
es_batch_t *es_reader_next(es_reader_t *reader, bool flush, uint64_t *corrupt);

/* More batches are to come of what was collected. */
static inline bool
es_reader_midway(const es_reader_t *reader)
{
    return reader->next_record < reader->records_count;
}

#endif
