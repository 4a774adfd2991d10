/* Who reads the chunk pool: what it acknowledges, takes for damaged, frees, and
 * gives up for a laggard. */

#include "unit_queue.h"

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledge_never_goes_back),
        cmocka_unit_test(open_chunks_stay),
        cmocka_unit_test(corrupt_records),
        cmocka_unit_test(corrupt_ranges),
        cmocka_unit_test(reclaim_interrupted),
        cmocka_unit_test(laggard),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
