/* Who pushes into the chunk pool: room, wake-ups, and chunks whose holder died or
 * was closed. */

#include "unit_queue.h"

#include <pthread.h>

/* ------------------------------------------------------------ pushing --- */

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

/* ------------------------------------------------------------ holders --- */

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(brim),     cmocka_unit_test(empty_record),
        cmocka_unit_test(full),     cmocka_unit_test(wake_up),
        cmocka_unit_test(adoption), cmocka_unit_test(second_open_chunk),
        cmocka_unit_test(closed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
