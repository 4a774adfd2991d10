#include "es_batch.h"

#include "es_otlp.h"

#include <stdlib.h>

/* A body stays below what collectors take by default (4 MiB). */
#define BATCH_BYTES_MAX ((size_t) 2 << 20)

/* While more spans wait than a batch takes, a batch grows up to so many times
 * the default size: requests that take long are to be few and large. */
#define BATCH_GROWTH 8

/* ------------------------------------------------------------- the body --- */

static es_str_t
view(const es_buffer_t *buffer)
{
    return es_str(buffer->data, buffer->size);
}

static bool
encode(es_batch_t *batch, const es_format_t *format)
{
    EsOtlp__TracesData *data;
    bool ok;

    if (format->encode == NULL) {
        return true;
    }
    data = es_otlp__traces_data__unpack(NULL, batch->otlp.size, batch->otlp.data);
    ok = data != NULL && format->encode(data, &batch->wire);
    if (data != NULL) {
        es_otlp__traces_data__free_unpacked(data, NULL);
    }
    return ok;
}

bool
es_batch_prepare(es_batch_t *batch, const es_exporter_config_t *exporter)
{
    const es_protocol_t *protocol = exporter->protocol;
    es_buffer_t framed = {NULL, 0};
    es_str_t body;

    if (batch->delivery.body.len != 0) {
        return true;
    }
    if (!encode(batch, protocol->format)) {
        return false;
    }
    body = view(batch->wire.data != NULL ? &batch->wire : &batch->otlp);
    if (!protocol->sender->frame(exporter, body, &framed)) {
        es_buffer_free(&batch->wire);
        return false;
    }
    if (framed.data != NULL) {
        es_buffer_free(&batch->wire);
        batch->wire = framed;
        body = view(&framed);
    }
    batch->delivery.body = body;
    return true;
}

void
es_batch_free(es_batch_t *batch)
{
    es_buffer_free(&batch->otlp);
    es_buffer_free(&batch->wire);
    free(batch);
}

/* -------------------------------------------------------------- reading --- */

bool
es_reader_open(es_reader_t *reader, es_generation_t *generation, unsigned index)
{
    const es_exporter_config_t *config = generation->config->exporters[index];
    uint32_t chunks = generation->queue.shared->chunks;

    *reader = (es_reader_t){
        .generation = generation,
        .index = index,
        .spans_min = (unsigned) config->batch_size,
        .spans_max = (unsigned) config->batch_size * (config->batch_size_given ? 1 : BATCH_GROWTH),
    };
    reader->read = calloc(chunks, sizeof(*reader->read));
    reader->ranges = calloc(chunks, sizeof(*reader->ranges));
    reader->records = calloc(reader->spans_max, sizeof(*reader->records));

    if (reader->read == NULL || reader->ranges == NULL || reader->records == NULL) {
        es_reader_close(reader);
        return false;
    }
    return true;
}

void
es_reader_close(es_reader_t *reader)
{
    free(reader->read);
    free(reader->ranges);
    free(reader->records);
}

/* What the exporter has neither settled nor in a batch. */
static es_range_t
unread(const es_reader_t *reader, uint32_t chunk)
{
    es_range_t range = es_queue_pending(&reader->generation->queue, chunk, reader->index);

    if (reader->read[chunk] > range.from) {
        range.from = reader->read[chunk];
    }
    return range;
}

typedef struct es_collected {
    unsigned spans, ranges;
    uint64_t corrupt;
    bool enough; /* for a batch that need not wait for more */
} es_collected_t;

/* Collects records into the reader's buffers. The read positions move only when
 * a batch is made of them. */
static es_collected_t
collect(es_reader_t *reader)
{
    es_queue_t *queue = &reader->generation->queue;
    uint32_t chunks = es_queue_used(queue);
    es_collected_t found = {0};
    size_t bytes = 0;
    bool full = false;

    for (uint32_t i = 0; i < chunks && !full; i++) {
        es_range_t range = unread(reader, (reader->next_chunk + i) % chunks), *kept;

        if (range.from >= range.to) {
            continue;
        }
        kept = &reader->ranges[found.ranges++];
        *kept = range;
        while (!full
               && es_queue_read(queue, &range, &reader->records[found.spans], &found.corrupt)) {
            bytes += reader->records[found.spans].span.len;
            found.spans++;
            full = found.spans == reader->spans_max || bytes >= BATCH_BYTES_MAX;
        }
        kept->to = range.from;
    }
    found.enough = full || found.spans >= reader->spans_min;
    return found;
}

es_batch_t *
es_reader_next(es_reader_t *reader, bool flush, uint64_t *corrupt)
{
    es_collected_t found = collect(reader);
    es_batch_t *batch;

    if (found.ranges == 0 || (!found.enough && !flush)) {
        return NULL;
    }
    batch = calloc(1, sizeof(*batch) + found.ranges * sizeof(batch->ranges[0]));
    if (batch == NULL) {
        return NULL;
    }
    batch->spans = found.spans;
    batch->ranges_count = found.ranges;
    memcpy(batch->ranges, reader->ranges, found.ranges * sizeof(batch->ranges[0]));

    if (found.spans == 0) {
        batch->state = ES_BATCH_SETTLED;
    } else if (!es_otlp_pack(reader->generation->config, reader->records, found.spans,
                             &batch->otlp)) {
        free(batch);
        return NULL;
    }
    for (unsigned i = 0; i < found.ranges; i++) {
        reader->read[batch->ranges[i].chunk] = batch->ranges[i].to;
    }
    reader->next_chunk = batch->ranges[found.ranges - 1].chunk;
    *corrupt += found.corrupt;
    return batch;
}
