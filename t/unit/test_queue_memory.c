/* Where the chunk pool lies, and how much memory it touches. */

#define _GNU_SOURCE /* mincore */

#include "unit_queue.h"

#include <unistd.h>

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout),
        cmocka_unit_test(used),
        cmocka_unit_test(untouched_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
