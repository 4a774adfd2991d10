/* The chunk pool in one process: producers and the leader are called in turn,
 * and from threads (run this one under ThreadSanitizer, too). */

#define _GNU_SOURCE /* mincore */

#include "unit.h"

#include "es_queue.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

static void *
area_map(size_t size)
{
    void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(area != MAP_FAILED);
    return area;
}

static void *
queue_map(es_queue_t *queue, unsigned chunks, unsigned exporters)
{
    size_t size = (size_t) chunks * ES_CHUNK_SIZE;
    void *area = area_map(es_queue_size(size));

    memset(area, 0x5a, 512); /* its content is of no matter */
    es_queue_init(queue, area, size, exporters);
    assert_int_equal(queue->shared->chunks, chunks);
    return area;
}

static void
queue_unmap(void *area, unsigned chunks)
{
    munmap(area, es_queue_size((size_t) chunks * ES_CHUNK_SIZE));
}

/* ------------------------------------------------------------- records --- */

/* A record says who it is; the other bytes follow from that. */
static uint8_t
filler(uint32_t id, size_t at)
{
    return (uint8_t) (id * 31 + at * 7);
}

static es_str_t
record_make(uint8_t *buffer, uint32_t id, size_t len)
{
    memcpy(buffer, &id, sizeof(id));
    for (size_t i = sizeof(id); i < len; i++) {
        buffer[i] = filler(id, i);
    }
    return es_str(buffer, len);
}

/* The id, or UINT32_MAX if anything is wrong with the record. */
static uint32_t
record_check(const es_record_t *record)
{
    uint32_t id;

    if (record->span.len < sizeof(id)) {
        return UINT32_MAX;
    }
    memcpy(&id, record->span.data, sizeof(id));
    for (size_t i = sizeof(id); i < record->span.len; i++) {
        if ((uint8_t) record->span.data[i] != filler(id, i)) {
            return UINT32_MAX;
        }
    }
    return record->resource == (uint16_t) id ? id : UINT32_MAX;
}

static es_push_t
push(es_producer_t *producer, uint32_t id, size_t len)
{
    uint8_t buffer[ES_SPAN_SIZE_MAX];
    bool wake;

    return es_producer_push(producer, (uint16_t) id, record_make(buffer, id, len), &wake);
}

/* Reads and acknowledges all that a chunk has for an exporter; the ids have to
 * be first, first + 1, ... Returns how many. */
static unsigned
drain(es_queue_t *queue, uint32_t chunk, unsigned exporter, uint32_t first)
{
    es_range_t range = es_queue_pending(queue, chunk, exporter);
    es_record_t record;
    uint64_t corrupt = 0;
    unsigned count = 0;

    while (es_queue_read(queue, &range, &record, &corrupt)) {
        assert_int_equal(record_check(&record), first + count);
        count++;
    }
    assert_int_equal(corrupt, 0);
    assert_true(range.from == range.to);
    es_queue_acknowledge(queue, chunk, exporter, range.to);
    return count;
}

/* ---------------------------------------------------------- round trip --- */

enum { IDS = 200000, PRODUCERS = 5 };

static uint8_t seen[ES_EXPORTERS_MAX][IDS];

static size_t
random_len(unit_random_t *random)
{
    switch (unit_random_below(random, 10)) {
    case 0:
        return ES_SPAN_SIZE_MAX - unit_random_below(random, 3);
    case 1:
        return 4 + unit_random_below(random, ES_SPAN_SIZE_MAX - 3);
    case 2:
        return 4;
    default:
        return 4 + unit_random_below(random, 900);
    }
}

static void
leader_turn(unit_random_t *random, es_queue_t *queue, unsigned exporter, bool everything)
{
    for (uint32_t chunk = 0; chunk < queue->shared->chunks; chunk++) {
        es_range_t range = es_queue_pending(queue, chunk, exporter);
        unsigned most = everything ? UINT32_MAX : unit_random_below(random, 200);
        es_record_t record;
        uint64_t corrupt = 0;

        unit_assert(random, range.from <= range.to);
        unit_assert(random, range.to - range.from <= ES_CHUNK_SIZE);
        while (most-- != 0 && es_queue_read(queue, &range, &record, &corrupt)) {
            uint32_t id = record_check(&record);

            unit_assert(random, id < IDS);
            unit_assert(random, seen[exporter][id] == 0);
            seen[exporter][id] = 1;
        }
        unit_assert(random, corrupt == 0);
        es_queue_acknowledge(queue, chunk, exporter, range.from);
    }
}

/* Returns how often the pool was full. */
static unsigned
round_trip(unit_random_t *random, unsigned chunks, unsigned exporters, uint64_t first_lap)
{
    es_producer_t producers[PRODUCERS];
    unsigned count = 1 + unit_random_below(random, PRODUCERS), open = 0, full = 0;
    uint32_t next = 0;
    es_queue_t queue;
    void *area = queue_map(&queue, chunks, exporters);

    memset(seen, 0, sizeof(seen));
    for (unsigned i = 0; i < chunks; i++) {
        atomic_store(&queue.chunks[i].head, first_lap * ES_CHUNK_SIZE);
        for (unsigned e = 0; e < exporters; e++) {
            atomic_store(&queue.chunks[i].tail[e], first_lap * ES_CHUNK_SIZE);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        es_producer_init(&producers[i], &queue, i * 7);
    }

    for (unsigned step = 0; step < 20000; step++) {
        if (unit_random_below(random, 100) < 95) {
            es_producer_t *producer = &producers[unit_random_below(random, count)];
            es_push_t result = push(producer, next, random_len(random));

            if (result == ES_PUSH_OK) {
                next++;
            } else {
                unit_assert(random, result == ES_PUSH_FULL);
                full++;
                for (unsigned i = 0; i < chunks; i++) {
                    unit_assert(random, atomic_load(&queue.states[i]) != 0);
                }
            }
        } else {
            leader_turn(random, &queue, unit_random_below(random, exporters), false);
            unit_assert(random, es_queue_reclaim(&queue) <= chunks);
        }
    }

    for (unsigned e = 0; e < exporters; e++) {
        leader_turn(random, &queue, e, true);
        for (uint32_t id = 0; id < IDS; id++) {
            unit_assert(random, seen[e][id] == (id < next));
        }
    }
    for (unsigned i = 0; i < count; i++) {
        open += producers[i].chunk != ES_NO_CHUNK;
        es_producer_dispose(&producers[i]);
    }
    unit_assert(random, es_queue_reclaim(&queue) == chunks - open);

    /* Many laps. */
    unit_assert(random, next > 1000);
    unit_assert(random, atomic_load(&queue.chunks[0].head) >= (first_lap + 2) * ES_CHUNK_SIZE);
    queue_unmap(area, chunks);
    return full;
}

static void
round_trips(void **state)
{
    unit_random_t random = unit_random_init();
    unsigned full = 0;

    (void) state;
    for (unsigned exporters = 1; exporters <= ES_EXPORTERS_MAX; exporters++) {
        full += round_trip(&random, PRODUCERS, exporters, 0);
        full += round_trip(&random, PRODUCERS + unit_random_below(&random, 12), exporters,
                           UINT64_C(1) << 40);
    }
    unit_assert(&random, full > 0);
}

/* ---------------------------------------------------------------- pushing --- */

/* Up to the last byte but one of a chunk. */
static void
brim(void **state)
{
    const size_t head = sizeof(es_record_head_t), half = ES_SPAN_SIZE_MAX - head;
    es_queue_t queue;
    void *area = queue_map(&queue, 3, 1);
    es_producer_t producer;

    (void) state;
    es_producer_init(&producer, &queue, 0);
    assert_int_equal(push(&producer, 0, half), ES_PUSH_OK);
    assert_int_equal(push(&producer, 1, half - 1), ES_PUSH_OK);
    assert_int_equal(producer.chunk, 0);
    assert_int_equal(atomic_load(&queue.chunks[0].head), ES_CHUNK_SIZE - 1);
    assert_int_equal(push(&producer, 2, half), ES_PUSH_OK);
    assert_int_equal(producer.chunk, 1);
    assert_int_equal(push(&producer, 3, half), ES_PUSH_OK);
    assert_int_equal(producer.chunk, 2);

    assert_int_equal(drain(&queue, 0, 0, 0), 2);
    assert_int_equal(drain(&queue, 1, 0, 2), 1);
    assert_int_equal(drain(&queue, 2, 0, 3), 1);
    assert_int_equal(es_queue_reclaim(&queue), 2);
    es_producer_dispose(&producer);
    queue_unmap(area, 3);
}

static void
empty_record(void **state)
{
    es_queue_t queue;
    void *area = queue_map(&queue, 1, 1);
    es_producer_t producer;
    es_range_t range;
    es_record_t record;
    uint64_t corrupt = 0;
    bool wake;

    (void) state;
    es_producer_init(&producer, &queue, 0);
    assert_int_equal(es_producer_push(&producer, 9, ES_STR(""), &wake), ES_PUSH_OK);
    range = es_queue_pending(&queue, 0, 0);
    assert_true(es_queue_read(&queue, &range, &record, &corrupt));
    assert_int_equal(record.span.len, 0);
    assert_int_equal(record.resource, 9);
    assert_false(es_queue_read(&queue, &range, &record, &corrupt));
    assert_int_equal(corrupt, 0);
    es_producer_dispose(&producer);
    queue_unmap(area, 1);
}

static void
full(void **state)
{
    es_queue_t queue;
    void *area = queue_map(&queue, 2, 2);
    es_producer_t one, other;
    uint32_t count = 0;

    (void) state;
    es_producer_init(&one, &queue, 0);
    es_producer_init(&other, &queue, 1);
    assert_int_equal(push(&other, 1000, 100), ES_PUSH_OK);
    while (push(&one, count, 1000) == ES_PUSH_OK) {
        count++;
    }
    assert_int_equal(count, (ES_CHUNK_SIZE - 1) / (1000 + sizeof(es_record_head_t)));
    assert_int_equal(push(&one, count, 4), ES_PUSH_FULL);
    assert_int_equal(push(&one, count, 1000), ES_PUSH_FULL);

    /* The other's open chunk still has room. */
    assert_int_equal(push(&other, 1001, 1000), ES_PUSH_OK);

    /* One exporter is not enough to free a chunk. */
    assert_int_equal(drain(&queue, 1, 0, 0), count);
    assert_int_equal(es_queue_reclaim(&queue), 0);
    assert_int_equal(push(&one, count, 4), ES_PUSH_FULL);
    assert_int_equal(drain(&queue, 1, 1, 0), count);
    assert_int_equal(es_queue_reclaim(&queue), 1);
    assert_int_equal(push(&one, count, 4), ES_PUSH_OK);
    assert_int_equal(drain(&queue, 1, 1, count), 1);

    es_producer_dispose(&one);
    es_producer_dispose(&other);
    queue_unmap(area, 2);
}

/* Whoever seals a chunk while the leader sleeps is told, once; also if its own
 * record then found no room. */
static void
wake_up(void **state)
{
    static uint8_t bytes[1000];
    es_queue_t queue;
    void *area = queue_map(&queue, 2, 1);
    es_producer_t producer;
    bool wake;

    (void) state;
    es_producer_init(&producer, &queue, 0);
    for (unsigned lap = 0; lap < 4; lap++) {
        uint32_t seals = atomic_load(&queue.shared->seals), count = 0;
        bool sleeping = lap % 2 == 0;
        es_push_t result;

        atomic_store(&queue.shared->sleeping, sleeping);
        do {
            result = es_producer_push(&producer, 0, es_str(bytes, sizeof(bytes)), &wake);
            count++;
            if (atomic_load(&queue.shared->seals) == seals) {
                assert_false(wake);
            }
        } while (atomic_load(&queue.shared->seals) == seals);

        assert_true(count > 1);
        assert_int_equal(atomic_load(&queue.shared->seals), seals + 1);
        assert_int_equal(wake, sleeping);
        assert_int_equal(atomic_load(&queue.shared->sleeping), 0);

        /* The second lap of the two chunks finds none free. */
        assert_int_equal(result, lap % 2 == 0 ? ES_PUSH_OK : ES_PUSH_FULL);
        if (result == ES_PUSH_FULL) {
            atomic_store(&queue.shared->sleeping, 1);
            result = es_producer_push(&producer, 0, es_str(bytes, sizeof(bytes)), &wake);
            assert_int_equal(result, ES_PUSH_FULL);
            assert_false(wake);
            for (uint32_t i = 0; i < 2; i++) {
                es_queue_acknowledge(&queue, i, 0, es_queue_pending(&queue, i, 0).to);
            }
            assert_int_equal(es_queue_reclaim(&queue), 2);
        }
    }

    /* Full and asleep at once. */
    atomic_store(&queue.shared->sleeping, 0);
    while (producer.chunk != 1) {
        assert_int_equal(es_producer_push(&producer, 0, es_str(bytes, 1000), &wake), ES_PUSH_OK);
    }
    atomic_store(&queue.shared->sleeping, 1);
    while (es_producer_push(&producer, 0, es_str(bytes, 1000), &wake) == ES_PUSH_OK) {
        assert_false(wake);
    }
    assert_true(wake);
    assert_int_equal(atomic_load(&queue.shared->sleeping), 0);
    es_producer_dispose(&producer);
    queue_unmap(area, 2);
}

/* ---------------------------------------------------------------- holders --- */

static void
adoption(void **state)
{
    es_queue_t queue;
    void *area = queue_map(&queue, 4, 1);
    es_producer_t first, other, next;

    (void) state;
    es_producer_init(&first, &queue, 3);
    assert_int_equal(first.chunk, ES_NO_CHUNK);
    for (uint32_t id = 0; id < 5; id++) {
        assert_int_equal(push(&first, id, 100), ES_PUSH_OK);
    }
    assert_int_equal(first.chunk, 0);

    /* Killed: nothing of it is called any more. Another slot leaves its chunk
     * alone, the leader drains it all the same, the same slot goes on in it. */
    es_producer_init(&other, &queue, 2);
    assert_int_equal(other.chunk, ES_NO_CHUNK);
    assert_int_equal(push(&other, 100, 100), ES_PUSH_OK);
    assert_int_equal(other.chunk, 1);
    assert_int_equal(drain(&queue, 0, 0, 0), 5);
    assert_int_equal(es_queue_reclaim(&queue), 2);

    es_producer_init(&next, &queue, 3);
    assert_int_equal(next.chunk, 0);
    for (uint32_t id = 5; id < 9; id++) {
        assert_int_equal(push(&next, id, 100), ES_PUSH_OK);
    }
    assert_int_equal(drain(&queue, 0, 0, 5), 4);
    assert_int_equal(drain(&queue, 1, 0, 100), 1);

    es_producer_dispose(&first);
    es_producer_dispose(&other);
    es_producer_dispose(&next);
    queue_unmap(area, 4);
}

/* A holder that died with two open chunks: the next one goes on in one of them
 * and seals the other, whose records are not lost. */
static void
second_open_chunk(void **state)
{
    es_queue_t queue;
    void *area = queue_map(&queue, 4, 1);
    es_producer_t a, b, next;

    (void) state;
    es_producer_init(&a, &queue, 3);
    es_producer_init(&b, &queue, 3);
    assert_int_equal(push(&a, 0, 100), ES_PUSH_OK);
    assert_int_equal(push(&b, 10, 100), ES_PUSH_OK);
    assert_int_equal(a.chunk, 0);
    assert_int_equal(b.chunk, 1);

    es_producer_init(&next, &queue, 3);
    assert_int_equal(next.chunk, 0);
    assert_int_equal(push(&next, 1, 100), ES_PUSH_OK);
    assert_int_equal(drain(&queue, 0, 0, 0), 2);
    assert_int_equal(es_queue_reclaim(&queue), 2);
    assert_int_equal(drain(&queue, 1, 0, 10), 1);
    assert_int_equal(es_queue_reclaim(&queue), 3);

    es_producer_dispose(&a);
    es_producer_dispose(&b);
    es_producer_dispose(&next);
    queue_unmap(area, 4);
}

static void
closed(void **state)
{
    es_queue_t queue;
    void *area = queue_map(&queue, 2, 1);
    es_producer_t producer, next;
    bool wake = true;

    (void) state;
    es_producer_init(&producer, &queue, 0);
    assert_int_equal(push(&producer, 0, 100), ES_PUSH_OK);
    assert_true(es_producer_close(&producer));
    assert_int_equal(es_producer_push(&producer, 0, ES_STR("late"), &wake), ES_PUSH_CLOSED);
    assert_false(wake);

    es_producer_init(&next, &queue, 0);
    assert_int_equal(push(&next, 1, 100), ES_PUSH_OK);
    assert_int_equal(push(&producer, 9, 100), ES_PUSH_CLOSED);
    assert_int_equal(drain(&queue, 0, 0, 0), 2);

    /* In the middle of a push. */
    pthread_mutex_lock(&next.lock);
    assert_false(es_producer_close(&next));
    pthread_mutex_unlock(&next.lock);
    assert_int_equal(push(&next, 2, 100), ES_PUSH_OK);

    es_producer_dispose(&producer);
    es_producer_dispose(&next);
    queue_unmap(area, 2);
}

/* ----------------------------------------------------------------- leader --- */

static void
acknowledge_never_goes_back(void **state)
{
    es_queue_t queue;
    void *area = queue_map(&queue, 1, 2);
    es_producer_t producer;

    (void) state;
    es_producer_init(&producer, &queue, 0);
    assert_int_equal(push(&producer, 0, 100), ES_PUSH_OK);
    es_queue_acknowledge(&queue, 0, 1, 106);
    es_queue_acknowledge(&queue, 0, 1, 50);
    assert_int_equal(es_queue_pending(&queue, 0, 1).from, 106);
    assert_int_equal(es_queue_pending(&queue, 0, 1).to, 106);
    assert_int_equal(es_queue_pending(&queue, 0, 0).from, 0);
    es_producer_dispose(&producer);
    queue_unmap(area, 1);
}

/* An open chunk is never freed, drained or not. */
static void
open_chunks_stay(void **state)
{
    es_queue_t queue;
    void *area = queue_map(&queue, 2, 1);
    es_producer_t producer;

    (void) state;
    es_producer_init(&producer, &queue, 0);
    assert_int_equal(es_queue_reclaim(&queue), 2);
    assert_int_equal(push(&producer, 0, 100), ES_PUSH_OK);
    assert_int_equal(es_queue_reclaim(&queue), 1);
    assert_int_equal(drain(&queue, 0, 0, 0), 1);
    assert_int_equal(es_queue_reclaim(&queue), 1);
    assert_int_equal(push(&producer, 1, 100), ES_PUSH_OK);
    assert_int_equal(drain(&queue, 0, 0, 1), 1);
    es_producer_dispose(&producer);
    queue_unmap(area, 2);
}

static void
corrupt_records(void **state)
{
    static const struct {
        es_record_head_t head;
        const char *what;
    } rows[] = {
        {{101, (uint16_t) ~100u, 0}, "length"},
        {{100, 0, 0}, "check"},
        {{0, 0, 0}, "zeros"},
        {{0xffff, 0xffff, 0xffff}, "ones"},
        {{60000, (uint16_t) ~60000u, 0}, "a length beyond the head"},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_queue_t queue;
        void *area = queue_map(&queue, 2, 2);
        es_producer_t producer;
        es_range_t range;
        es_record_t record;
        uint64_t corrupt = 0;
        uint8_t *second;

        es_producer_init(&producer, &queue, 0);
        for (uint32_t id = 0; id < 4; id++) {
            assert_int_equal(push(&producer, id, 100), ES_PUSH_OK);
        }
        second = queue.data + sizeof(es_record_head_t) + 100;
        memcpy(second, &rows[i].head, sizeof(rows[i].head));

        range = es_queue_pending(&queue, 0, 0);
        assert_true(es_queue_read(&queue, &range, &record, &corrupt));
        assert_int_equal(record_check(&record), 0);
        if (es_queue_read(&queue, &range, &record, &corrupt)) {
            fail_msg("%s is believed", rows[i].what);
        }
        assert_int_equal(corrupt, 1);
        assert_int_equal(range.from, range.to);
        assert_false(es_queue_read(&queue, &range, &record, &corrupt));
        assert_int_equal(corrupt, 1);
        es_queue_acknowledge(&queue, 0, 0, range.from);

        /* What comes later is not lost; the other exporter skips the same. */
        assert_int_equal(push(&producer, 4, 100), ES_PUSH_OK);
        assert_int_equal(drain(&queue, 0, 0, 4), 1);
        range = es_queue_pending(&queue, 0, 1);
        assert_true(es_queue_read(&queue, &range, &record, &corrupt));
        assert_false(es_queue_read(&queue, &range, &record, &corrupt));
        assert_int_equal(corrupt, 2);
        es_producer_dispose(&producer);
        queue_unmap(area, 2);
    }
}

/* A range whose ends are garbage: nothing outside of the chunk is read. */
static void
corrupt_ranges(void **state)
{
    static const struct {
        uint64_t from, to;
        bool corrupt;
    } rows[] = {
        {0, 3, true},
        {0, 5, true},
        {ES_CHUNK_SIZE - 10, ES_CHUNK_SIZE + 96, true},
        {ES_CHUNK_SIZE - 3, ES_CHUNK_SIZE, true},
        {0, ES_CHUNK_SIZE * UINT64_C(5), true},
        {0, UINT64_MAX, true},
        {ES_CHUNK_SIZE - 1, UINT64_MAX, true},
        {10, 10, false},
        {20, 10, false},
        {UINT64_MAX, 0, false},
    };
    es_queue_t queue;
    void *area = queue_map(&queue, 1, 1);
    es_producer_t producer;

    (void) state;
    es_producer_init(&producer, &queue, 0);
    for (uint32_t id = 0; id < 700; id++) {
        if (push(&producer, id, 100) != ES_PUSH_OK) {
            break;
        }
    }
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_range_t range = {.chunk = 0, .from = rows[i].from, .to = rows[i].to};
        es_record_t record;
        uint64_t corrupt = 0;

        assert_false(es_queue_read(&queue, &range, &record, &corrupt));
        assert_int_equal(corrupt, rows[i].corrupt);
        assert_true(range.from >= range.to);
    }
    es_producer_dispose(&producer);
    queue_unmap(area, 1);
}

/* A leader that dies in the middle of freeing a chunk, between any two stores. */
static void
reclaim_interrupted(void **state)
{
    enum { EXPORTERS = 3 };

    (void) state;
    for (unsigned moved = 1; moved <= EXPORTERS; moved++) {
        es_queue_t queue;
        void *area = queue_map(&queue, 2, EXPORTERS);
        es_producer_t producer;
        es_record_t record;
        uint64_t corrupt = 0;
        uint32_t count = 0;

        es_producer_init(&producer, &queue, 0);
        while (producer.chunk != 1) {
            assert_int_equal(push(&producer, count++, 1000), ES_PUSH_OK);
        }
        for (unsigned e = 0; e < EXPORTERS; e++) {
            assert_int_equal(drain(&queue, 0, e, 0), count - 1);
            if (e < moved) {
                atomic_store(&queue.chunks[0].tail[e], ES_CHUNK_SIZE);
            }
        }

        for (unsigned e = 0; e < EXPORTERS; e++) {
            es_range_t range = es_queue_pending(&queue, 0, e);

            assert_false(es_queue_read(&queue, &range, &record, &corrupt));
            assert_int_equal(corrupt, 0);
        }
        assert_int_equal(es_queue_reclaim(&queue), 1);
        assert_int_equal(atomic_load(&queue.chunks[0].head), ES_CHUNK_SIZE);
        while (producer.chunk == 1) {
            assert_int_equal(push(&producer, count++, 1000), ES_PUSH_OK);
        }
        assert_int_equal(producer.chunk, 0);
        for (unsigned e = 0; e < EXPORTERS; e++) {
            assert_int_equal(drain(&queue, 0, e, count - 1), 1);
        }
        es_producer_dispose(&producer);
        queue_unmap(area, 2);
    }
}

static void
laggard(void **state)
{
    static const uint64_t nothing[4];
    uint64_t read[4] = {0};
    es_queue_t queue;
    void *area = queue_map(&queue, 4, 2);
    es_producer_t producer;
    es_range_t range;
    uint32_t count = 0;

    (void) state;
    es_producer_init(&producer, &queue, 0);
    assert_false(es_queue_laggard(&queue, 0, nothing, &range));
    while (producer.chunk != 3) {
        assert_int_equal(push(&producer, count++, 1000), ES_PUSH_OK);
    }

    /* Nobody is done with anything; then exporter 0 with the younger two, and
     * with the open one, which does not count. */
    assert_false(es_queue_laggard(&queue, 1, nothing, &range));
    for (uint32_t i = 1; i < 4; i++) {
        es_queue_acknowledge(&queue, i, 0, es_queue_pending(&queue, i, 0).to);
    }
    assert_false(es_queue_laggard(&queue, 0, nothing, &range));
    assert_true(es_queue_laggard(&queue, 1, nothing, &range));
    assert_int_equal(range.chunk, 1);
    assert_int_equal(range.from, 0);
    assert_int_equal(range.to, es_queue_pending(&queue, 1, 1).to);

    /* What it has in flight is not given up. */
    read[1] = 1006;
    assert_true(es_queue_laggard(&queue, 1, read, &range));
    assert_int_equal(range.chunk, 2);
    read[2] = 1006;
    assert_false(es_queue_laggard(&queue, 1, read, &range));

    /* Chunk 1 is used again and is then the youngest. */
    for (unsigned e = 0; e < 2; e++) {
        es_queue_acknowledge(&queue, 0, e, es_queue_pending(&queue, 0, e).to);
    }
    es_queue_acknowledge(&queue, 1, 1, es_queue_pending(&queue, 1, 1).to);
    assert_int_equal(es_queue_reclaim(&queue), 2);
    while (producer.chunk == 3) {
        assert_int_equal(push(&producer, count++, 1000), ES_PUSH_OK);
    }
    while (producer.chunk == 0) {
        assert_int_equal(push(&producer, count++, 1000), ES_PUSH_OK);
    }
    es_queue_acknowledge(&queue, 0, 0, es_queue_pending(&queue, 0, 0).to);
    assert_true(es_queue_laggard(&queue, 1, nothing, &range));
    assert_int_equal(range.chunk, 2);

    es_producer_dispose(&producer);
    queue_unmap(area, 4);
}

/* --------------------------------------------------------------- memory --- */

static size_t
resident(void *area, size_t size)
{
    size_t page = (size_t) sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page, count = 0;
    unsigned char *map = malloc(pages);

    assert_non_null(map);
    assert_int_equal(mincore(area, size, map), 0);
    for (size_t i = 0; i < pages; i++) {
        count += map[i] & 1;
    }
    free(map);
    return count * page;
}

/* Resident memory follows the load: the lowest chunks are used again and again,
 * the others are never touched. */
static void
untouched_memory(void **state)
{
    enum { CHUNKS = 512 };
    size_t queue_size = (size_t) CHUNKS * ES_CHUNK_SIZE, size = es_queue_size(queue_size);
    void *area = area_map(size);
    es_producer_t producer;
    es_queue_t queue;
    size_t control;
    uint32_t count = 0;

    (void) state;
    assert_int_equal(resident(area, size), 0);
    es_queue_init(&queue, area, queue_size, 1);
    control = resident(area, size);
    assert_true(control <= size - queue_size + 2 * 4096);

    es_producer_init(&producer, &queue, 0);
    for (; count < 10; count++) {
        assert_int_equal(push(&producer, count, 100), ES_PUSH_OK);
    }
    assert_true(resident(area, size) <= control + 4096);

    for (; count < 20000; count++) {
        assert_int_equal(push(&producer, count, 1000), ES_PUSH_OK);
        for (uint32_t i = 0; i < 4; i++) {
            es_queue_acknowledge(&queue, i, 0, es_queue_pending(&queue, i, 0).to);
        }
        es_queue_reclaim(&queue);
    }
    assert_true(resident(area, size) <= control + 3 * ES_CHUNK_SIZE);

    es_producer_dispose(&producer);
    munmap(area, size);
}

/* Only the chunks that were ever claimed have to be looked at. */
static void
used(void **state)
{
    es_queue_t queue;
    void *area = queue_map(&queue, 8, 1);
    es_producer_t a, b;
    uint32_t count = 0;

    (void) state;
    assert_int_equal(es_queue_used(&queue), 0);
    assert_int_equal(es_queue_reclaim(&queue), 8);
    es_producer_init(&a, &queue, 0);
    es_producer_init(&b, &queue, 1);
    assert_int_equal(es_queue_used(&queue), 0);
    assert_int_equal(push(&a, count++, 1000), ES_PUSH_OK);
    assert_int_equal(es_queue_used(&queue), 1);
    assert_int_equal(push(&b, 1000, 1000), ES_PUSH_OK);
    assert_int_equal(es_queue_used(&queue), 2);
    while (a.chunk == 0) {
        assert_int_equal(push(&a, count++, 1000), ES_PUSH_OK);
    }
    assert_int_equal(es_queue_used(&queue), 3);

    /* The freed one is taken again before a new one. */
    assert_int_equal(drain(&queue, 0, 0, 0), count - 1);
    assert_int_equal(es_queue_reclaim(&queue), 6);
    while (a.chunk == 2) {
        assert_int_equal(push(&a, count++, 1000), ES_PUSH_OK);
    }
    assert_int_equal(a.chunk, 0);
    assert_int_equal(es_queue_used(&queue), 3);
    es_producer_dispose(&a);
    es_producer_dispose(&b);
    queue_unmap(area, 8);
}

static void
layout(void **state)
{
    (void) state;
    for (unsigned chunks = 1; chunks < 600; chunks += 7) {
        size_t size = es_queue_size((size_t) chunks * ES_CHUNK_SIZE);
        es_queue_t queue;
        uint8_t *area = queue_map(&queue, chunks, 1);

        assert_true((uint8_t *) queue.states >= area + sizeof(es_queue_shared_t));
        assert_true((uint8_t *) queue.chunks >= (uint8_t *) (queue.states + chunks));
        assert_true(queue.data >= (uint8_t *) (queue.chunks + chunks));
        assert_ptr_equal(queue.data + (size_t) chunks * ES_CHUNK_SIZE, area + size);
        assert_int_equal((uintptr_t) queue.chunks % 64, 0);
        assert_int_equal((uintptr_t) queue.data % 64, 0);
        queue_unmap(area, chunks);
    }
    /* A part of a chunk is none. */
    assert_int_equal(es_queue_size(3 * ES_CHUNK_SIZE + 1), es_queue_size(3 * ES_CHUNK_SIZE));
}

/* -------------------------------------------------------------- threads --- */

enum { THREADS = 3, PER_THREAD = 20000 };

typedef struct pusher {
    es_producer_t *producer;
    uint32_t first;
    _Atomic uint32_t *left;
} pusher_t;

/* Waits for room, so that nothing may be missing in the end. */
static void *
push_all(void *data)
{
    pusher_t *pusher = data;

    for (uint32_t i = 0; i < PER_THREAD; i++) {
        uint32_t id = pusher->first + i;

        while (push(pusher->producer, id, 4 + id % 300) != ES_PUSH_OK) {
            usleep(50);
        }
    }
    atomic_fetch_sub(pusher->left, 1);
    return NULL;
}

/* Three threads share a producer, three another one; the leader drains for two
 * exporters at the same time. */
static void
threads(void **state)
{
    enum { EXPORTERS = 2, ALL = 2 * THREADS };
    static uint8_t got[EXPORTERS][ALL * PER_THREAD];
    _Atomic uint32_t left = ALL;
    es_producer_t producers[2];
    pusher_t pushers[ALL];
    pthread_t handles[ALL];
    es_queue_t queue;
    void *area = queue_map(&queue, 8, EXPORTERS);
    uint64_t corrupt = 0;
    bool last;

    (void) state;
    memset(got, 0, sizeof(got));
    es_producer_init(&producers[0], &queue, 0);
    es_producer_init(&producers[1], &queue, 1);
    for (unsigned i = 0; i < ALL; i++) {
        pushers[i] = (pusher_t){&producers[i % 2], i * PER_THREAD, &left};
        assert_int_equal(pthread_create(&handles[i], NULL, push_all, &pushers[i]), 0);
    }
    do {
        last = atomic_load(&left) == 0;
        for (unsigned e = 0; e < EXPORTERS; e++) {
            for (uint32_t chunk = 0; chunk < 8; chunk++) {
                es_range_t range = es_queue_pending(&queue, chunk, e);
                es_record_t record;

                while (es_queue_read(&queue, &range, &record, &corrupt)) {
                    uint32_t id = record_check(&record);

                    assert_true(id < UNIT_COUNT(got[e]));
                    got[e][id]++;
                }
                es_queue_acknowledge(&queue, chunk, e, range.to);
            }
        }
        es_queue_reclaim(&queue);
    } while (!last);

    for (unsigned i = 0; i < ALL; i++) {
        pthread_join(handles[i], NULL);
    }
    assert_int_equal(corrupt, 0);
    for (unsigned e = 0; e < EXPORTERS; e++) {
        for (size_t id = 0; id < UNIT_COUNT(got[e]); id++) {
            assert_int_equal(got[e][id], 1);
        }
    }
    es_producer_dispose(&producers[0]);
    es_producer_dispose(&producers[1]);
    queue_unmap(area, 8);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout),
        cmocka_unit_test(used),
        cmocka_unit_test(round_trips),
        cmocka_unit_test(brim),
        cmocka_unit_test(empty_record),
        cmocka_unit_test(full),
        cmocka_unit_test(wake_up),
        cmocka_unit_test(adoption),
        cmocka_unit_test(second_open_chunk),
        cmocka_unit_test(closed),
        cmocka_unit_test(acknowledge_never_goes_back),
        cmocka_unit_test(open_chunks_stay),
        cmocka_unit_test(corrupt_records),
        cmocka_unit_test(corrupt_ranges),
        cmocka_unit_test(reclaim_interrupted),
        cmocka_unit_test(laggard),
        cmocka_unit_test(untouched_memory),
        cmocka_unit_test(threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
