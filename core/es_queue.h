/* es_queue.h: finished spans on their way from every process to the exporter.
 *
 * A pool of 64-KiB chunks in shared memory. A producer owns at most one open
 * chunk and appends records to it; the leader drains every chunk that is not
 * free, whether or not its owner lives, with one cursor per exporter. All
 * positions are monotonic 64-bit byte counts; a position modulo the chunk size
 * is an offset in the chunk. Records never wrap.
 *
 *   free --claim, one CAS--> open --full--> sealed --every cursor at head--> free
 *
 * A record becomes visible by a release-store of the head: a producer killed in
 * the middle of a write has published nothing. A slot that is taken again goes
 * on in the chunk that its last holder left open.
 *
 * Full: the newest span is dropped and counted; nothing ever waits. Resident
 * memory follows the load and ends at the area's size. Trust: only a leader
 * reads records, and it believes no length that its neighbour contradicts. */

#ifndef ES_QUEUE_H
#define ES_QUEUE_H

#include "edgespan.h"
#include "es_span.h"

#include <pthread.h>
#include <stdatomic.h>

#define ES_CHUNK_SIZE 65536u
#define ES_SLOTS_MAX 4096u

/* A record: this head and `length` bytes. `check` is the complement of length,
 * so that garbage is noticed. */
typedef struct es_record_head {
    uint16_t length;
    uint16_t check;
    uint16_t resource;
} es_record_head_t;

typedef struct es_chunk {
    _Alignas(64) _Atomic uint64_t head;
    _Atomic uint64_t tail[ES_EXPORTERS_MAX];
    _Atomic uint32_t sealed; /* which seal it was: tells the oldest chunk */
} es_chunk_t;

/* How an exporter stands; the leader's to write. */
typedef struct es_exporter_gauges {
    _Atomic uint32_t in_flight; /* batches at the destination */
    _Atomic uint32_t waiting;   /* batches to be sent (again) */
    _Atomic uint32_t failing;   /* every endpoint fails */
    _Atomic uint64_t spool_bytes;
    _Atomic uint64_t spool_spans;
} es_exporter_gauges_t;

/* The area's beginning; the states, the chunks and the data follow it. */
typedef struct es_queue_shared {
    uint32_t chunks;
    uint32_t exporters;
    _Atomic uint32_t sleeping; /* the leader waits for its wake-up */
    _Atomic uint32_t seals;    /* chunks sealed so far, wraps */
    _Atomic uint32_t used;     /* no chunk from here on was ever claimed */

    /* Leadership; see es_leader.h. The leader writes here at every turn, so it is
     * not in the line that producers read. */
    _Alignas(64) _Atomic uint32_t leading; /* set by a leader, cleared when it leaves in order */
    _Atomic uint32_t leader_deaths;        /* in a row, without an acknowledgement between */
    _Atomic uint32_t leader_pid;           /* 0: nobody leads */
    _Atomic uint64_t heartbeat_ns;         /* when it last turned, monotonic */
    es_exporter_gauges_t gauges[ES_EXPORTERS_MAX];
} es_queue_shared_t;

/* A process's view of the area. */
typedef struct es_queue {
    es_queue_shared_t *shared;
    _Atomic uint32_t *states;
    es_chunk_t *chunks;
    uint8_t *data;
} es_queue_t;

/* Bytes of an area with room for `queue_size` bytes of chunks. */
size_t es_queue_size(size_t queue_size);

/* Lays out fresh memory (parent, before the fork). */
void es_queue_init(es_queue_t *queue, void *area, size_t queue_size, unsigned exporters);

/* --------------------------------------------------------- producers --- */

typedef enum es_push {
    ES_PUSH_OK,
    ES_PUSH_FULL,
    ES_PUSH_CLOSED,
} es_push_t;

/* One per process; `lock` orders its threads and is the only lock of the
 * request path. It is never held across anything but a copy. */
typedef struct es_producer {
    es_queue_t *queue;
    pthread_mutex_t lock;
    uint32_t slot;
    uint32_t chunk; /* the open one, or ES_NO_CHUNK */
    bool closed;    /* the slot is another's to take */
} es_producer_t;

#define ES_NO_CHUNK UINT32_MAX

/* Adopts what the slot's last holder left open. */
void es_producer_init(es_producer_t *producer, es_queue_t *queue, uint32_t slot);
void es_producer_dispose(es_producer_t *producer);

/* No push after this returned true; then the slot may be released. False: a
 * thread is in the middle of one, try again. Never waits. */
bool es_producer_close(es_producer_t *producer) ES_MUST_CHECK;

/* Any thread. `span` is at most ES_SPAN_SIZE_MAX bytes. *wake_leader: a chunk
 * was sealed and the leader sleeps; whoever is told so has to wake it. */
es_push_t es_producer_push(es_producer_t *producer, uint16_t resource, es_str_t span,
                           bool *wake_leader);

/* ------------------------------------------------------------ leader --- */

/* Bytes [from, to) of a chunk, in positions. */
typedef struct es_range {
    uint32_t chunk;
    uint64_t from, to;
} es_range_t;

typedef struct es_record {
    es_str_t span; /* in the chunk: valid until the range is acknowledged */
    uint16_t resource;
} es_record_t;

/* How many chunks there are to look at: the lowest are claimed first, so that a
 * light load leaves most of a large pool alone. */
static inline uint32_t
es_queue_used(const es_queue_t *queue)
{
    return atomic_load_explicit(&queue->shared->used, memory_order_acquire);
}

/* What exporter `e` has not had of a chunk: [tail, head), empty if from >= to
 * (a leader died while it reclaimed the chunk). */
es_range_t es_queue_pending(const es_queue_t *queue, uint32_t chunk, unsigned exporter);

/* Sum of the above over all chunks, in bytes. */
uint64_t es_queue_pending_bytes(const es_queue_t *queue, unsigned exporter);

/* How many chunks are not free. */
uint32_t es_queue_taken(const es_queue_t *queue);

/* Reads the record at range->from and moves from behind it. False at the end,
 * and at a contradiction: then from becomes `to` and *corrupt grows by one. */
bool es_queue_read(const es_queue_t *queue, es_range_t *range, es_record_t *record,
                   uint64_t *corrupt);

/* Moves the cursor forward, never back. */
void es_queue_acknowledge(es_queue_t *queue, uint32_t chunk, unsigned exporter, uint64_t to);

/* Frees the sealed chunks that every exporter is done with; returns how many
 * chunks are free. */
unsigned es_queue_reclaim(es_queue_t *queue);

/* How many chunks are free. */
unsigned es_queue_free(const es_queue_t *queue);

/* Bytes that one of several exporters may hold in batches, which nobody can give
 * up: half of the queue is the others'. UINT64_MAX: there is but one. */
uint64_t es_queue_share(const es_queue_t *queue);

/* The oldest sealed chunk that `exporter` has not begun, though another exporter
 * is done with it: what a laggard gives up when chunks run short. `read` holds
 * how far the exporter has read each chunk. False: there is none. */
bool es_queue_laggard(const es_queue_t *queue, unsigned exporter, const uint64_t *read,
                      es_range_t *range);

#endif
