#define _GNU_SOURCE /* PTHREAD_MUTEX_ADAPTIVE_NP */

#include "es_queue.h"

/* A chunk's state word: state in the low bits, the owner's slot above, so that
 * one CAS claims both. */
enum { STATE_FREE = 0, STATE_OPEN = 1, STATE_SEALED = 2, STATE_BITS = 2 };

#define STATE_MASK ((1u << STATE_BITS) - 1)

static uint32_t
state_word(uint32_t state, uint32_t slot)
{
    return state | slot << STATE_BITS;
}

static uint32_t
state_of(const es_queue_t *queue, uint32_t chunk)
{
    return atomic_load_explicit(&queue->states[chunk], memory_order_acquire) & STATE_MASK;
}

/* ------------------------------------------------------------- layout --- */

static size_t
aligned(size_t size)
{
    return (size + 63) & ~(size_t) 63;
}

static uint32_t
chunk_count(size_t queue_size)
{
    return (uint32_t) (queue_size / ES_CHUNK_SIZE);
}

static size_t
states_offset(void)
{
    return aligned(sizeof(es_queue_shared_t));
}

static size_t
chunks_offset(uint32_t chunks)
{
    return states_offset() + aligned(chunks * sizeof(uint32_t));
}

static size_t
data_offset(uint32_t chunks)
{
    return chunks_offset(chunks) + chunks * sizeof(es_chunk_t);
}

size_t
es_queue_size(size_t queue_size)
{
    uint32_t chunks = chunk_count(queue_size);

    return data_offset(chunks) + (size_t) chunks * ES_CHUNK_SIZE;
}

void
es_queue_init(es_queue_t *queue, void *area, size_t queue_size, unsigned exporters)
{
    uint32_t chunks = chunk_count(queue_size);
    uint8_t *base = area;

    /* Only the control words: the data pages stay untouched until used. */
    memset(area, 0, data_offset(chunks));

    queue->shared = area;
    queue->states = (void *) (base + states_offset());
    queue->chunks = (void *) (base + chunks_offset(chunks));
    queue->data = base + data_offset(chunks);

    queue->shared->chunks = chunks;
    queue->shared->exporters = exporters;
}

/* ---------------------------------------------------------- producers --- */

void
es_producer_init(es_producer_t *producer, es_queue_t *queue, uint32_t slot)
{
    uint32_t open = state_word(STATE_OPEN, slot);
    pthread_mutexattr_t attributes;

    producer->queue = queue;
    producer->slot = slot;
    producer->chunk = ES_NO_CHUNK;
    producer->closed = false;

    /* Spins a little before it sleeps: the lock is held for one copy. */
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&producer->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);

    for (uint32_t i = 0; i < es_queue_used(queue); i++) {
        if (atomic_load_explicit(&queue->states[i], memory_order_acquire) != open) {
            continue;
        }
        if (producer->chunk == ES_NO_CHUNK) {
            producer->chunk = i;
        } else {
            /* Its holder died between the claim of this and the seal of that. */
            atomic_store_explicit(&queue->states[i], state_word(STATE_SEALED, slot),
                                  memory_order_release);
        }
    }
}

void
es_producer_dispose(es_producer_t *producer)
{
    pthread_mutex_destroy(&producer->lock);
}

bool
es_producer_close(es_producer_t *producer)
{
    if (pthread_mutex_trylock(&producer->lock) != 0) {
        return false;
    }
    producer->closed = true;
    pthread_mutex_unlock(&producer->lock);
    return true;
}

/* Lowest index first, so that a light load touches little memory. */
static uint32_t
claim(es_producer_t *producer)
{
    es_queue_t *queue = producer->queue;

    for (uint32_t i = 0; i < queue->shared->chunks; i++) {
        uint32_t expected = STATE_FREE;

        if (atomic_load_explicit(&queue->states[i], memory_order_relaxed) == STATE_FREE
            && atomic_compare_exchange_strong_explicit(
                &queue->states[i], &expected, state_word(STATE_OPEN, producer->slot),
                memory_order_acquire, memory_order_relaxed)) {
            uint32_t used = atomic_load_explicit(&queue->shared->used, memory_order_relaxed);

            while (used <= i
                   && !atomic_compare_exchange_weak_explicit(&queue->shared->used, &used, i + 1,
                                                             memory_order_release,
                                                             memory_order_relaxed)) {
            }
            return i;
        }
    }
    return ES_NO_CHUNK;
}

/* True if the leader sleeps: then this call is the one that is to wake it. */
static bool
seal(es_producer_t *producer)
{
    es_queue_shared_t *shared = producer->queue->shared;
    es_chunk_t *chunk = &producer->queue->chunks[producer->chunk];

    atomic_store_explicit(&chunk->sealed, atomic_load(&shared->seals), memory_order_relaxed);
    atomic_store_explicit(&producer->queue->states[producer->chunk],
                          state_word(STATE_SEALED, producer->slot), memory_order_release);
    producer->chunk = ES_NO_CHUNK;

    /* Sequentially consistent, both here and in the leader: it sets `sleeping`
     * and then looks at `seals`, we do it the other way round, so that one of
     * the two notices the other. */
    atomic_fetch_add(&shared->seals, 1);
    return atomic_load(&shared->sleeping) != 0 && atomic_exchange(&shared->sleeping, 0) != 0;
}

es_push_t
es_producer_push(es_producer_t *producer, uint16_t resource, es_str_t span, bool *wake_leader)
{
    es_record_head_t head = {
        .length = (uint16_t) span.len,
        .check = (uint16_t) ~span.len,
        .resource = resource,
    };
    uint32_t size = (uint32_t) (sizeof(head) + span.len);
    es_push_t result = ES_PUSH_OK;

    *wake_leader = false;
    pthread_mutex_lock(&producer->lock);

    for (;;) {
        if (producer->closed) {
            result = ES_PUSH_CLOSED;
            break;
        }
        if (producer->chunk == ES_NO_CHUNK) {
            producer->chunk = claim(producer);
            if (producer->chunk == ES_NO_CHUNK) {
                result = ES_PUSH_FULL;
                break;
            }
        }

        es_chunk_t *chunk = &producer->queue->chunks[producer->chunk];
        uint64_t position = atomic_load_explicit(&chunk->head, memory_order_relaxed);
        uint32_t offset = (uint32_t) (position % ES_CHUNK_SIZE);
        uint8_t *at = producer->queue->data + (size_t) producer->chunk * ES_CHUNK_SIZE + offset;

        /* The last byte stays unused: a head at the very end of its lap could
         * not be told from one at the start of the next. */
        if (offset + size >= ES_CHUNK_SIZE) {
            *wake_leader |= seal(producer);
            continue;
        }

        memcpy(at, &head, sizeof(head));
        memcpy(at + sizeof(head), span.data, span.len);
        atomic_store_explicit(&chunk->head, position + size, memory_order_release);
        break;
    }

    pthread_mutex_unlock(&producer->lock);
    return result;
}

/* ------------------------------------------------------------- leader --- */

es_range_t
es_queue_pending(const es_queue_t *queue, uint32_t chunk, unsigned exporter)
{
    es_chunk_t *c = &queue->chunks[chunk];
    es_range_t range = {.chunk = chunk};

    range.from = atomic_load_explicit(&c->tail[exporter], memory_order_relaxed);
    range.to = state_of(queue, chunk) == STATE_FREE
                   ? range.from
                   : atomic_load_explicit(&c->head, memory_order_acquire);
    return range;
}

uint64_t
es_queue_pending_bytes(const es_queue_t *queue, unsigned exporter)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < es_queue_used(queue); i++) {
        es_range_t range = es_queue_pending(queue, i, exporter);

        bytes += range.from < range.to ? range.to - range.from : 0;
    }
    return bytes;
}

uint32_t
es_queue_taken(const es_queue_t *queue)
{
    uint32_t taken = 0;

    for (uint32_t i = 0; i < es_queue_used(queue); i++) {
        taken += state_of(queue, i) != STATE_FREE;
    }
    return taken;
}

bool
es_queue_read(const es_queue_t *queue, es_range_t *range, es_record_t *record, uint64_t *corrupt)
{
    uint64_t offset = range->from % ES_CHUNK_SIZE, left = range->to - range->from;
    const uint8_t *at = queue->data + (size_t) range->chunk * ES_CHUNK_SIZE + offset;
    es_record_head_t head;

    if (range->from >= range->to) {
        return false;
    }
    if (left <= ES_CHUNK_SIZE - offset && left >= sizeof(head)) {
        memcpy(&head, at, sizeof(head));

        if ((head.length ^ head.check) == UINT16_MAX && head.length <= left - sizeof(head)) {
            record->span = es_str(at + sizeof(head), head.length);
            record->resource = head.resource;
            range->from += sizeof(head) + head.length;
            return true;
        }
    }

    /* Where the next record begins cannot be known any more. */
    range->from = range->to;
    ++*corrupt;
    return false;
}

void
es_queue_acknowledge(es_queue_t *queue, uint32_t chunk, unsigned exporter, uint64_t to)
{
    _Atomic uint64_t *tail = &queue->chunks[chunk].tail[exporter];

    if (atomic_load_explicit(tail, memory_order_relaxed) < to) {
        atomic_store_explicit(tail, to, memory_order_release);
    }
}

static bool
drained(const es_queue_t *queue, const es_chunk_t *chunk)
{
    uint64_t head = atomic_load_explicit(&chunk->head, memory_order_acquire);

    for (unsigned e = 0; e < queue->shared->exporters; e++) {
        if (atomic_load_explicit(&chunk->tail[e], memory_order_acquire) < head) {
            return false;
        }
    }
    return true;
}

bool
es_queue_laggard(const es_queue_t *queue, unsigned exporter, const uint64_t *read,
                 es_range_t *range)
{
    uint32_t seals = atomic_load_explicit(&queue->shared->seals, memory_order_relaxed);
    uint32_t oldest = 0;
    bool found = false;

    for (uint32_t i = 0; i < es_queue_used(queue); i++) {
        const es_chunk_t *chunk = &queue->chunks[i];
        uint64_t head = atomic_load_explicit(&chunk->head, memory_order_acquire);
        uint64_t tail = atomic_load_explicit(&chunk->tail[exporter], memory_order_relaxed);
        uint32_t age = seals - atomic_load_explicit(&chunk->sealed, memory_order_relaxed);
        bool done_elsewhere = false;

        if (state_of(queue, i) != STATE_SEALED || tail >= head || read[i] > tail) {
            continue;
        }
        for (unsigned e = 0; e < queue->shared->exporters; e++) {
            done_elsewhere |= atomic_load_explicit(&chunk->tail[e], memory_order_relaxed) >= head;
        }
        if (done_elsewhere && (!found || age > oldest)) {
            *range = (es_range_t){.chunk = i, .from = tail, .to = head};
            oldest = age;
            found = true;
        }
    }
    return found;
}

unsigned
es_queue_free(const es_queue_t *queue)
{
    uint32_t used = es_queue_used(queue);
    unsigned free = queue->shared->chunks - used;

    for (uint32_t i = 0; i < used; i++) {
        free += state_of(queue, i) == STATE_FREE;
    }
    return free;
}

uint64_t
es_queue_share(const es_queue_t *queue)
{
    uint64_t bytes = (uint64_t) queue->shared->chunks * ES_CHUNK_SIZE;

    return queue->shared->exporters > 1 ? bytes / (2 * queue->shared->exporters) : UINT64_MAX;
}

unsigned
es_queue_reclaim(es_queue_t *queue)
{
    uint32_t used = es_queue_used(queue);
    unsigned free = queue->shared->chunks - used;

    for (uint32_t i = 0; i < used; i++) {
        es_chunk_t *chunk = &queue->chunks[i];
        uint64_t head, lap;

        if (state_of(queue, i) == STATE_FREE) {
            free++;
            continue;
        }
        if (state_of(queue, i) != STATE_SEALED || !drained(queue, chunk)) {
            continue;
        }

        /* On to the next lap: positions only ever grow. The cursors go first: a
         * leader that dies here leaves a sealed chunk whose head is behind its
         * cursors, which is drained all the same. */
        head = atomic_load_explicit(&chunk->head, memory_order_relaxed);
        lap = (head + ES_CHUNK_SIZE - 1) / ES_CHUNK_SIZE * ES_CHUNK_SIZE;
        for (unsigned e = 0; e < queue->shared->exporters; e++) {
            atomic_store_explicit(&chunk->tail[e], lap, memory_order_relaxed);
        }
        atomic_store_explicit(&chunk->head, lap, memory_order_relaxed);
        atomic_store_explicit(&queue->states[i], STATE_FREE, memory_order_release);
        free++;
    }
    return free;
}
