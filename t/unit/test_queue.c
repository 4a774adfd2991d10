/* The chunk pool in one process, as a whole: whatever is pushed comes out once.
 * Producers and the leader are called in turn, and from threads (run this one
 * under ThreadSanitizer, too). */

#include "unit_queue.h"

#include <pthread.h>
#include <unistd.h>

/* --------------------------------------------------------- round trip --- */

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

/* ------------------------------------------------------------ threads --- */

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
        cmocka_unit_test(round_trips),
        cmocka_unit_test(threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
