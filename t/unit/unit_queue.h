/* unit_queue.h: what the tests of the chunk pool share. A record says who it is,
 * so that each byte can be checked. */

#ifndef UNIT_QUEUE_H
#define UNIT_QUEUE_H

#include "unit.h"

#include "es_queue.h"

#include <sys/mman.h>

static inline void *
area_map(size_t size)
{
    void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(area != MAP_FAILED);
    return area;
}

static inline void *
queue_map(es_queue_t *queue, unsigned chunks, unsigned exporters)
{
    size_t size = (size_t) chunks * ES_CHUNK_SIZE;
    void *area = area_map(es_queue_size(size));

    memset(area, 0x5a, 512); /* its content is of no matter */
    es_queue_init(queue, area, size, exporters);
    assert_int_equal(queue->shared->chunks, chunks);
    return area;
}

static inline void
queue_unmap(void *area, unsigned chunks)
{
    munmap(area, es_queue_size((size_t) chunks * ES_CHUNK_SIZE));
}

/* ------------------------------------------------------------ records --- */

/* A record says who it is; the other bytes follow from that. */
static inline uint8_t
filler(uint32_t id, size_t at)
{
    return (uint8_t) (id * 31 + at * 7);
}

static inline es_str_t
record_make(uint8_t *buffer, uint32_t id, size_t len)
{
    memcpy(buffer, &id, sizeof(id));
    for (size_t i = sizeof(id); i < len; i++) {
        buffer[i] = filler(id, i);
    }
    return es_str(buffer, len);
}

/* The id, or UINT32_MAX if anything is wrong with the record. */
static inline uint32_t
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

static inline es_push_t
push(es_producer_t *producer, uint32_t id, size_t len)
{
    uint8_t buffer[ES_SPAN_SIZE_MAX];
    bool wake;

    return es_producer_push(producer, (uint16_t) id, record_make(buffer, id, len), &wake);
}

/* Reads and acknowledges all that a chunk has for an exporter; the ids have to
 * be first, first + 1, ... Returns how many. */
static inline unsigned
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

#endif
