/* The queue's shared memory, as a process that went wild may leave it: reading it
 * ends, within the chunk. Two bytes of the tail's, two of the head's position, one
 * that says how, then the bytes of the chunk. */

#include "fuzz_server.h"

static fuzz_server_t server;

static void
fuzz(fuzz_t *fuzz)
{
    uint64_t tail = fuzz_byte(fuzz) << 8, head, corrupt = 0, spans = 0;
    es_chunk_t *chunk;
    es_record_t record;
    es_range_t range;
    es_queue_t *queue;
    uint8_t how, *data;
    bool wake;

    if (server.config == NULL) {
        fuzz_server_config(&server);
        fuzz_server_generate(&server);
        fuzz_assert(es_producer_push(&server.provider.producer, 0, ES_STR("x"), &wake)
                    == ES_PUSH_OK);
    }
    tail |= fuzz_byte(fuzz);
    head = fuzz_byte(fuzz) << 8;
    head |= fuzz_byte(fuzz);
    how = fuzz_byte(fuzz);
    tail += (uint64_t) (how & 3) * ES_CHUNK_SIZE;
    head += (uint64_t) (how >> 2 & 3) * ES_CHUNK_SIZE;
    head -= how & 128 ? 1 : 0;

    queue = &server.generation->queue;
    chunk = &queue->chunks[0];
    data = queue->data;
    memset(data, how, ES_CHUNK_SIZE);
    for (size_t i = 0; i < fuzz->rest.len; i++) {
        data[(tail + i) % ES_CHUNK_SIZE] = (uint8_t) fuzz->rest.data[i];
    }
    atomic_store(&chunk->head, head);
    atomic_store(&chunk->tail[0], tail);

    range = es_queue_pending(queue, 0, 0);
    while (es_queue_read(queue, &range, &record, &corrupt)) {
        fuzz_assert(fuzz_is_within(record.span, es_str(data, ES_CHUNK_SIZE)));
        fuzz_assert(range.from <= range.to && ++spans <= ES_CHUNK_SIZE);
    }
    fuzz_assert(corrupt <= 1);
    (void) es_queue_pending_bytes(queue, 0);
}
