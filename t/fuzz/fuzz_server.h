/* fuzz_server.h: what a server around the core would be: a generation and the
 * provider of its only process, made once, with a queue that the target reads
 * instead of an exporter's thread. */

#ifndef FUZZ_SERVER_H
#define FUZZ_SERVER_H

#include "fuzz.h"

#include "es_provider.h"

#include <protobuf-c/protobuf-c.h>

/* ----------------------------------------------------------------- log --- */

/* A line of the log is one line. */
static inline void
fuzz_log_line(void *data, es_log_level_t level, const char *text)
{
    (void) data;
    fuzz_assert(level <= ES_LOG_INFO && text[0] != '\0');
    for (; *text != '\0'; text++) {
        fuzz_assert((unsigned char) *text >= 0x20 && *text != 0x7f);
    }
}

static const es_log_t fuzz_log = {.write = fuzz_log_line};

static inline es_config_t *
fuzz_config(void)
{
    es_config_t *config = es_config_create("fuzz", &fuzz_log);

    fuzz_assert(config != NULL);
    return config;
}

/* -------------------------------------------------------------- server --- */

typedef struct fuzz_server {
    es_config_t *config;
    es_generation_t *generation;
    es_provider_t provider;
} fuzz_server_t;

static inline void *
fuzz_area(size_t size)
{
    void *area = aligned_alloc(64, (size + 63) & ~(size_t) 63);

    fuzz_assert(area != NULL);
    return memset(area, 0, size);
}

static inline void
fuzz_server_generate(fuzz_server_t *server)
{
    es_error_t error;
    void *queue;

    fuzz_assert(es_config_finish(server->config, 1, &error));
    queue = fuzz_area(es_queue_area_size(server->config));
    fuzz_assert(es_generation_create(&server->generation, server->config, queue,
                                     fuzz_area(es_stats_area_size()), &error));
    server->provider = (es_provider_t){
        .generation = server->generation,
        .log = fuzz_log,
        .stripe = &server->generation->stats->stripes[0],
    };
    es_producer_init(&server->provider.producer, &server->generation->queue, 0);
}

/* A config with one exporter, to be finished by fuzz_server_generate(). */
static inline void
fuzz_server_config(fuzz_server_t *server)
{
    es_exporter_config_t *exporter;
    es_error_t error;

    server->config = fuzz_config();
    fuzz_assert(es_config_exporter(server->config, &exporter, &error));
    fuzz_assert(
        es_exporter_option(exporter, ES_STR("endpoint"), ES_STR("file:///dev/null"), &error));
    fuzz_assert(es_exporter_option(exporter, ES_STR("queue_size"), ES_STR("1m"), &error));
    fuzz_assert(es_exporter_finish(exporter, &error));
}

/* The same ids for the same input. */
static inline void
fuzz_server_rewind(fuzz_server_t *server)
{
    server->provider.ids = (es_id_generator_t){.key = {1, 2}};
}

/* Takes all spans out of the queue; returns how many there were. */
static inline unsigned
fuzz_server_spans(fuzz_server_t *server, void (*check)(es_str_t span))
{
    es_queue_t *queue = &server->generation->queue;
    unsigned spans = 0;
    uint64_t corrupt = 0;
    es_record_t record;

    for (uint32_t chunk = 0; chunk < es_queue_used(queue); chunk++) {
        es_range_t range = es_queue_pending(queue, chunk, 0);

        while (range.from < range.to && es_queue_read(queue, &range, &record, &corrupt)) {
            check(record.span);
            spans++;
        }
        es_queue_acknowledge(queue, chunk, 0, range.to);
    }
    es_queue_reclaim(queue);
    fuzz_assert(corrupt == 0);
    return spans;
}

/* ------------------------------------------------------------ requests --- */

/* The request's pool: bounded, so that short memory is met, too. */
static inline void *
fuzz_pool_alloc(void *data, size_t size)
{
    fuzz_t *fuzz = data;

    if (size > fuzz->left) {
        return NULL;
    }
    fuzz->left -= size;
    return fuzz_alloc(fuzz, size);
}

/* ------------------------------------------------------------ messages --- */

/* Is every string of a message, and of those within it, valid UTF-8? One that is
 * not makes a collector refuse the whole batch. */
static inline bool
fuzz_has_utf8(const ProtobufCMessage *message)
{
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const char *at = (const char *) message + field->offset;
        const void *quantifier = (const char *) message + field->quantifier_offset;
        bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
        size_t count = repeated ? *(const size_t *) quantifier : 1;

        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0
            && *(const uint32_t *) quantifier != field->id) {
            continue;
        }
        if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE) {
            continue;
        }
        for (size_t n = 0; n < count; n++) {
            const void *item = repeated ? (*(void *const *const *) at)[n] : *(void *const *) at;

            if (item != NULL
                && !(field->type == PROTOBUF_C_TYPE_STRING ? fuzz_is_utf8(es_cstr(item))
                                                           : fuzz_has_utf8(item))) {
                return false;
            }
        }
    }
    return true;
}

/* One span as it is in the queue. To be freed by es_otlp__span__free_unpacked(). */
static inline EsOtlp__Span *
fuzz_unpack_span(es_str_t bytes)
{
    EsOtlp__Span *span = es_otlp__span__unpack(NULL, bytes.len, (const uint8_t *) bytes.data);

    fuzz_assert(span != NULL && span->trace_id.len == ES_TRACE_ID_LEN);
    fuzz_assert(span->span_id.len == ES_SPAN_ID_LEN && span->name != NULL);
    fuzz_assert(span->end_time_unix_nano >= span->start_time_unix_nano);
    fuzz_assert(bytes.len <= ES_SPAN_SIZE_MAX);
    fuzz_assert(fuzz_has_utf8(&span->base));
    return span;
}

#endif
