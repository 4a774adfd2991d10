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

/* Several batches fit into any spool, and into the share of any queue. */
static size_t
bytes_max(const es_exporter_config_t *config, const es_queue_t *queue)
{
    uint64_t spool = config->spool != NULL ? config->spool_max / 8 : BATCH_BYTES_MAX;
    uint64_t share = es_queue_share(queue) / 2, most = spool < share ? spool : share;

    return most < BATCH_BYTES_MAX ? (size_t) most : BATCH_BYTES_MAX;
}

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
        .bytes_max = bytes_max(config, &generation->queue),
        .one_resource = config->protocol->format->one_resource,
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

es_range_t
es_reader_unread(const es_reader_t *reader, uint32_t chunk)
{
    es_range_t range = es_queue_pending(&reader->generation->queue, chunk, reader->index);

    if (reader->read[chunk] > range.from) {
        range.from = reader->read[chunk];
    }
    return range;
}

static int
by_resource(const void *a, const void *b)
{
    return ((const es_record_t *) a)->resource - ((const es_record_t *) b)->resource;
}

/* Collects records into the reader's buffers. False, and nothing is collected:
 * there is nothing, or it is not enough for a batch and no `flush`. */
static bool
collect(es_reader_t *reader, bool flush, uint64_t *corrupt)
{
    es_queue_t *queue = &reader->generation->queue;
    uint32_t chunks = es_queue_used(queue);
    unsigned spans = 0, ranges = 0;
    uint64_t unreadable = 0;
    size_t bytes = 0;
    bool full = false;

    for (uint32_t i = 0; i < chunks && !full; i++) {
        es_range_t range = es_reader_unread(reader, (reader->next_chunk + i) % chunks), *kept;

        if (range.from >= range.to) {
            continue;
        }
        kept = &reader->ranges[ranges++];
        *kept = range;
        while (!full && es_queue_read(queue, &range, &reader->records[spans], &unreadable)) {
            bytes += reader->records[spans].span.len;
            spans++;
            full = spans == reader->spans_max || bytes >= reader->bytes_max;
        }
        kept->to = range.from;
    }
    if (ranges == 0 || (!full && spans < reader->spans_min && !flush)) {
        return false;
    }

    for (unsigned i = 0; i < ranges; i++) {
        reader->read[reader->ranges[i].chunk] = reader->ranges[i].to;
    }
    reader->next_chunk = reader->ranges[ranges - 1].chunk;
    reader->ranges_count = ranges;
    reader->records_count = spans;
    reader->next_record = 0;
    *corrupt += unreadable;
    if (reader->one_resource) {
        qsort(reader->records, spans, sizeof(reader->records[0]), by_resource);
    }
    return true;
}

/* How many of the collected records are the next batch's. */
static unsigned
batch_spans(const es_reader_t *reader)
{
    unsigned from = reader->next_record, to = from;

    while (to < reader->records_count
           && (!reader->one_resource
               || reader->records[to].resource == reader->records[from].resource)) {
        to++;
    }
    return to - from;
}

es_batch_t *
es_reader_next(es_reader_t *reader, bool flush, uint64_t *corrupt)
{
    es_batch_t *batch;
    unsigned spans, ranges;

    /* Ranges are left where there was no memory for the batch that has them. */
    if (reader->ranges_count == 0 && !collect(reader, flush, corrupt)) {
        return NULL;
    }
    spans = batch_spans(reader);
    ranges = reader->next_record + spans == reader->records_count ? reader->ranges_count : 0;

    batch = calloc(1, sizeof(*batch) + ranges * sizeof(batch->ranges[0]));
    if (batch == NULL) {
        return NULL;
    }
    batch->spans = spans;
    batch->ranges_count = ranges;
    memcpy(batch->ranges, reader->ranges, ranges * sizeof(batch->ranges[0]));

    if (spans == 0) {
        batch->state = ES_BATCH_SETTLED;
    } else if (!es_otlp_pack(reader->generation->config, &reader->records[reader->next_record],
                             spans, &batch->otlp)) {
        free(batch);
        return NULL;
    }
    reader->next_record += spans;
    reader->ranges_count -= ranges;
    return batch;
}
