/* Jaeger's Thrift over HTTP: a body is one Batch of jaeger.thrift in Thrift's
 * binary protocol, without a message around it. The mapping is OpenTelemetry's
 * ("OpenTelemetry to Jaeger Transformation").
 *
 * The writer is our own: Thrift's C library brings GLib along, for what is a
 * handful of big-endian numbers. */

#include "es_otlp_walk.h"
#include "es_span.h"

#include <stdlib.h>

/* A batch of 2 MiB of OTLP becomes several times that at the very most. */
#define BODY_MAX ((size_t) 64 << 20)

#define FLAG_SAMPLED 1
#define REFERENCE_FOLLOWS_FROM 1

/* --------------------------------------------------------------- thrift --- */

typedef enum es_thrift_type {
    THRIFT_STOP = 0,
    THRIFT_BOOL = 2,
    THRIFT_DOUBLE = 4,
    THRIFT_I32 = 8,
    THRIFT_I64 = 10,
    THRIFT_STRING = 11,
    THRIFT_STRUCT = 12,
    THRIFT_LIST = 15,
} es_thrift_type_t;

/* Fails once and for all when memory is short. */
typedef struct es_thrift {
    uint8_t *data;
    size_t size, room;
    bool failed;
} es_thrift_t;

static void
put_bytes(es_thrift_t *thrift, const void *bytes, size_t len)
{
    size_t room = thrift->room != 0 ? thrift->room : 4096;
    uint8_t *data;

    if (thrift->failed || len > BODY_MAX - thrift->size) {
        thrift->failed = true;
        return;
    }
    while (room - thrift->size < len) {
        room *= 2;
    }
    if (room != thrift->room) {
        if ((data = realloc(thrift->data, room)) == NULL) {
            thrift->failed = true;
            return;
        }
        thrift->data = data;
        thrift->room = room;
    }
    if (len != 0) {
        memcpy(thrift->data + thrift->size, bytes, len);
        thrift->size += len;
    }
}

static void
put_number(es_thrift_t *thrift, uint64_t value, unsigned size)
{
    uint8_t bytes[sizeof(value)];

    for (unsigned i = 0; i < size; i++) {
        bytes[i] = (uint8_t) (value >> 8 * (size - 1 - i));
    }
    put_bytes(thrift, bytes, size);
}

static void
put_field(es_thrift_t *thrift, unsigned id, es_thrift_type_t type)
{
    put_number(thrift, type, 1);
    put_number(thrift, id, 2);
}

static void
put_stop(es_thrift_t *thrift)
{
    put_number(thrift, THRIFT_STOP, 1);
}

static void
put_i32(es_thrift_t *thrift, unsigned id, uint32_t value)
{
    put_field(thrift, id, THRIFT_I32);
    put_number(thrift, value, 4);
}

static void
put_i64(es_thrift_t *thrift, unsigned id, uint64_t value)
{
    put_field(thrift, id, THRIFT_I64);
    put_number(thrift, value, 8);
}

static void
put_binary(es_thrift_t *thrift, unsigned id, const void *bytes, size_t len)
{
    put_field(thrift, id, THRIFT_STRING);
    put_number(thrift, len, 4);
    put_bytes(thrift, bytes, len);
}

static void
put_string(es_thrift_t *thrift, unsigned id, const char *text)
{
    put_binary(thrift, id, text, strlen(text));
}

/* A list whose length is told by end_list(): where that will be written. */
static size_t
begin_list(es_thrift_t *thrift, unsigned id)
{
    put_field(thrift, id, THRIFT_LIST);
    put_number(thrift, THRIFT_STRUCT, 1);
    put_number(thrift, 0, 4);
    return thrift->size - 4;
}

static void
end_list(es_thrift_t *thrift, size_t at, uint32_t count)
{
    for (unsigned i = 0; i < 4 && !thrift->failed; i++) {
        thrift->data[at + i] = (uint8_t) (count >> 8 * (3 - i));
    }
}

/* ----------------------------------------------------------------- tags --- */

enum { TAG_STRING = 0, TAG_DOUBLE = 1, TAG_BOOL = 2, TAG_LONG = 3, TAG_BINARY = 4 };

typedef struct es_tags {
    es_thrift_t *thrift;
    uint32_t count;
} es_tags_t;

static void
begin_tag(es_tags_t *tags, const char *key, uint32_t type)
{
    tags->count++;
    put_string(tags->thrift, 1, key);
    put_i32(tags->thrift, 2, type);
}

static void
put_string_tag(es_tags_t *tags, const char *key, const char *text)
{
    begin_tag(tags, key, TAG_STRING);
    put_string(tags->thrift, 3, text);
    put_stop(tags->thrift);
}

static void
put_bool_tag(es_tags_t *tags, const char *key, bool value)
{
    begin_tag(tags, key, TAG_BOOL);
    put_field(tags->thrift, 5, THRIFT_BOOL);
    put_number(tags->thrift, value, 1);
    put_stop(tags->thrift);
}

/* Arrays, maps: JSON text. */
static void
put_text_tag(es_tags_t *tags, const char *key, const EsOtlp__AnyValue *value)
{
    char *text = es_otlp_text(value);

    if (text == NULL) {
        tags->thrift->failed = true;
    } else {
        put_string_tag(tags, key, text);
    }
    free(text);
}

static bool
put_tag(void *data, const char *key, const EsOtlp__AnyValue *value)
{
    es_tags_t *tags = data;
    es_thrift_t *thrift = tags->thrift;
    uint64_t bits;

    switch (value != NULL ? value->value_case : ES_OTLP__ANY_VALUE__VALUE__NOT_SET) {
    case ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE:
        put_string_tag(tags, key, value->string_value);
        break;

    case ES_OTLP__ANY_VALUE__VALUE_BOOL_VALUE:
        put_bool_tag(tags, key, value->bool_value);
        break;

    case ES_OTLP__ANY_VALUE__VALUE_DOUBLE_VALUE:
        begin_tag(tags, key, TAG_DOUBLE);
        put_field(thrift, 4, THRIFT_DOUBLE);
        memcpy(&bits, &value->double_value, sizeof(bits));
        put_number(thrift, bits, 8);
        put_stop(thrift);
        break;

    case ES_OTLP__ANY_VALUE__VALUE_INT_VALUE:
        begin_tag(tags, key, TAG_LONG);
        put_i64(thrift, 6, (uint64_t) value->int_value);
        put_stop(thrift);
        break;

    case ES_OTLP__ANY_VALUE__VALUE_BYTES_VALUE:
        begin_tag(tags, key, TAG_BINARY);
        put_binary(thrift, 7, value->bytes_value.data, value->bytes_value.len);
        put_stop(thrift);
        break;

    default:
        put_text_tag(tags, key, value);
    }
    return !thrift->failed;
}

/* A process's name is told elsewhere. */
static void
put_resource(es_tags_t *tags, const EsOtlp__Resource *resource, bool with_name)
{
    for (size_t i = 0; resource != NULL && i < resource->n_attributes; i++) {
        const EsOtlp__KeyValue *attribute = resource->attributes[i];

        if (with_name || strcmp(attribute->key, "service.name") != 0) {
            put_tag(tags, attribute->key, attribute->value);
        }
    }
}

/* ---------------------------------------------------------------- spans --- */

static uint64_t
big_endian(const uint8_t *bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < sizeof(value); i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

/* Zero, which is no id, for one that has not its length. */
static uint64_t
id_half(const ProtobufCBinaryData *id, size_t len, size_t offset)
{
    return id->len == len ? big_endian(id->data + offset) : 0;
}

static void
put_links(es_thrift_t *thrift, const EsOtlp__Span *span)
{
    size_t list;

    if (span->n_links == 0) {
        return;
    }
    list = begin_list(thrift, 6);
    for (size_t i = 0; i < span->n_links; i++) {
        const EsOtlp__Link *link = span->links[i];

        put_i32(thrift, 1, REFERENCE_FOLLOWS_FROM);
        put_i64(thrift, 2, id_half(&link->trace_id, ES_TRACE_ID_LEN, 8));
        put_i64(thrift, 3, id_half(&link->trace_id, ES_TRACE_ID_LEN, 0));
        put_i64(thrift, 4, id_half(&link->span_id, ES_SPAN_ID_LEN, 0));
        put_stop(thrift);
    }
    end_list(thrift, list, (uint32_t) span->n_links);
}

static void
put_span_tags(es_thrift_t *thrift, const EsOtlp__Resource *foreign,
              const EsOtlp__ScopeSpans *scope_spans, const EsOtlp__Span *span)
{
    /* By OTLP's numbers; INTERNAL has no tag. */
    static const char *const kinds[] = {NULL, NULL, "server", "client", "producer", "consumer"};
    const EsOtlp__Status *status = span->status;
    es_tags_t tags = {.thrift = thrift};
    size_t list = begin_list(thrift, 10);

    if (span->kind >= 0 && span->kind < (int32_t) (sizeof(kinds) / sizeof(kinds[0]))
        && kinds[span->kind] != NULL) {
        put_string_tag(&tags, "span.kind", kinds[span->kind]);
    }
    put_resource(&tags, foreign, true);
    if (!es_otlp_tags(scope_spans, span, put_tag, &tags)) {
        thrift->failed = true;
    }
    if (status != NULL && status->code == ES_STATUS_ERROR) {
        put_bool_tag(&tags, "error", true);
        if (status->message[0] != '\0') {
            put_string_tag(&tags, "otel.status_description", status->message);
        }
    }
    end_list(thrift, list, tags.count);
}

static void
put_events(es_thrift_t *thrift, const EsOtlp__Span *span)
{
    size_t list;

    if (span->n_events == 0) {
        return;
    }
    list = begin_list(thrift, 11);
    for (size_t i = 0; i < span->n_events; i++) {
        const EsOtlp__Event *event = span->events[i];
        es_tags_t fields = {.thrift = thrift};
        size_t fields_list;

        put_i64(thrift, 1, event->time_unix_nano / 1000);
        fields_list = begin_list(thrift, 2);
        if (es_otlp_find(event->attributes, event->n_attributes, "event") == NULL) {
            put_string_tag(&fields, "event", event->name);
        }
        for (size_t j = 0; j < event->n_attributes; j++) {
            put_tag(&fields, event->attributes[j]->key, event->attributes[j]->value);
        }
        end_list(thrift, fields_list, fields.count);
        put_stop(thrift);
    }
    end_list(thrift, list, (uint32_t) span->n_events);
}

static void
put_span(es_thrift_t *thrift, const EsOtlp__Resource *foreign,
         const EsOtlp__ScopeSpans *scope_spans, const EsOtlp__Span *span)
{
    put_i64(thrift, 1, id_half(&span->trace_id, ES_TRACE_ID_LEN, 8));
    put_i64(thrift, 2, id_half(&span->trace_id, ES_TRACE_ID_LEN, 0));
    put_i64(thrift, 3, id_half(&span->span_id, ES_SPAN_ID_LEN, 0));
    put_i64(thrift, 4, id_half(&span->parent_span_id, ES_SPAN_ID_LEN, 0));
    put_string(thrift, 5, span->name);
    put_links(thrift, span);
    put_i32(thrift, 7, FLAG_SAMPLED);
    put_i64(thrift, 8, span->start_time_unix_nano / 1000);
    put_i64(thrift, 9, (uint64_t) es_otlp_duration_us(span));
    put_span_tags(thrift, foreign, scope_spans, span);
    put_events(thrift, span);
    put_stop(thrift);
}

/* The first resource's is the process. Batches are made of one resource's spans;
 * where a batch is not, the other resources are told by tags of their spans. */
static void
put_batch(es_thrift_t *thrift, const EsOtlp__TracesData *data)
{
    const EsOtlp__Resource *process =
        data->n_resource_spans != 0 ? data->resource_spans[0]->resource : NULL;
    es_tags_t tags = {.thrift = thrift};
    uint32_t spans = 0;
    size_t list;

    put_field(thrift, 1, THRIFT_STRUCT);
    put_string(thrift, 1, es_otlp_service_name(process));
    list = begin_list(thrift, 2);
    put_resource(&tags, process, false);
    end_list(thrift, list, tags.count);
    put_stop(thrift);

    list = begin_list(thrift, 2);
    for (size_t i = 0; i < data->n_resource_spans; i++) {
        const EsOtlp__ResourceSpans *resource_spans = data->resource_spans[i];

        for (size_t j = 0; j < resource_spans->n_scope_spans; j++) {
            const EsOtlp__ScopeSpans *scope_spans = resource_spans->scope_spans[j];

            for (size_t k = 0; k < scope_spans->n_spans; k++, spans++) {
                put_span(thrift, i != 0 ? resource_spans->resource : NULL, scope_spans,
                         scope_spans->spans[k]);
            }
        }
    }
    end_list(thrift, list, spans);
    put_stop(thrift);
}

static bool
encode(const EsOtlp__TracesData *data, es_buffer_t *body)
{
    es_thrift_t thrift = {NULL, 0, 0, false};

    put_batch(&thrift, data);
    if (thrift.failed) {
        free(thrift.data);
        return false;
    }
    *body = (es_buffer_t){thrift.data, thrift.size};
    return true;
}

const es_format_t es_format_jaeger = {
    .content_type = "application/vnd.apache.thrift.binary",
    .one_resource = true,
    .encode = encode,
    .read_answer = es_otlp_read_words,
};
