/* The span writer against protobuf-c: the same random span, once through
 * es_span_*(), once as an EsOtlp__Span, has to give the same bytes. */

#include "unit_span_model.h"

/* A string as it has to be sent; never the static empty one, which protobuf-c
 * takes for "not set" in a oneof. */
static char *
text(es_str_t s, size_t max_characters)
{
    size_t size;
    char *clean = unit_utf8_sanitize(s, max_characters, &size), *copy = take(size + 1);

    memcpy(copy, clean, size);
    free(clean);
    return copy;
}

static EsOtlp__ArrayValue *
tree_array(const es_str_t *words, unsigned count)
{
    EsOtlp__ArrayValue *array = take(sizeof(*array));

    es_otlp__array_value__init(array);
    array->n_values = count;
    array->values = take(count * sizeof(*array->values) + 1);
    for (unsigned i = 0; i < count; i++) {
        EsOtlp__AnyValue *value = array->values[i] = take(sizeof(*value));

        es_otlp__any_value__init(value);
        value->value_case = ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE;
        value->string_value = text(words[i], ES_SPAN_VALUE_MAX);
    }
    return array;
}

/* The first 128 with a key; the others are the return value. */
static uint32_t
tree_attributes(const attribute_t *from, unsigned offered, size_t *count,
                EsOtlp__KeyValue ***attributes)
{
    *attributes = take(offered * sizeof(**attributes) + 1);
    *count = 0;
    for (unsigned i = 0; i < offered; i++) {
        const attribute_t *a = &from[i];
        EsOtlp__KeyValue *pair;
        EsOtlp__AnyValue *value;

        if (a->key[0] == '\0' || *count == 128) {
            continue;
        }
        pair = take(sizeof(*pair));
        value = take(sizeof(*value));
        es_otlp__key_value__init(pair);
        es_otlp__any_value__init(value);
        pair->key = (char *) (uintptr_t) a->key;
        pair->value = value;
        switch (a->kind) {
        case STRING:
            value->value_case = ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE;
            value->string_value = text(a->string, ES_SPAN_VALUE_MAX);
            break;
        case INT:
            value->value_case = ES_OTLP__ANY_VALUE__VALUE_INT_VALUE;
            value->int_value = a->number;
            break;
        case DOUBLE:
            value->value_case = ES_OTLP__ANY_VALUE__VALUE_DOUBLE_VALUE;
            value->double_value = a->real;
            break;
        case STRINGS:
            value->value_case = ES_OTLP__ANY_VALUE__VALUE_ARRAY_VALUE;
            value->array_value = tree_array(a->words, a->words_count);
            break;
        default:
            value->value_case = ES_OTLP__ANY_VALUE__VALUE_BOOL_VALUE;
            value->bool_value = a->number & 1;
        }
        (*attributes)[(*count)++] = pair;
    }
    return (uint32_t) (offered - *count);
}

static ProtobufCBinaryData
binary(const uint8_t *bytes, size_t len)
{
    return (ProtobufCBinaryData){len, (uint8_t *) (uintptr_t) bytes};
}

static EsOtlp__Span *
tree(const model_t *m)
{
    EsOtlp__Span *span = take(sizeof(*span));

    es_otlp__span__init(span);
    span->trace_id = binary(m->trace_id, 16);
    span->span_id = binary(m->span_id, 8);
    if (m->span.parent_span_id != NULL) {
        span->parent_span_id = binary(m->span.parent_span_id, 8);
    }
    span->trace_state = text(m->span.tracestate, SIZE_MAX);
    span->name = text(m->span.name, NAME_CHARACTERS);
    span->kind = (int32_t) m->span.kind;
    span->start_time_unix_nano = m->span.start_ns;
    span->end_time_unix_nano = m->span.end_ns;
    span->flags = m->span.flags;
    span->dropped_attributes_count =
        tree_attributes(m->attributes, m->attributes_count, &span->n_attributes, &span->attributes);

    span->n_events = m->events_count < 128 ? m->events_count : 128;
    span->dropped_events_count = m->events_count - (uint32_t) span->n_events;
    span->events = take(span->n_events * sizeof(*span->events) + 1);
    for (size_t i = 0; i < span->n_events; i++) {
        EsOtlp__Event *event = span->events[i] = take(sizeof(*event));

        es_otlp__event__init(event);
        event->time_unix_nano = m->events[i].time_ns;
        event->name = text(m->events[i].name, NAME_CHARACTERS);
        event->dropped_attributes_count = tree_attributes(
            m->events[i].attributes, m->events[i].count, &event->n_attributes, &event->attributes);
    }

    span->n_links = m->links_count < 128 ? m->links_count : 128;
    span->dropped_links_count = m->links_count - (uint32_t) span->n_links;
    span->links = take(span->n_links * sizeof(*span->links) + 1);
    for (size_t i = 0; i < span->n_links; i++) {
        EsOtlp__Link *link = span->links[i] = take(sizeof(*link));
        const es_span_context_t *context = &m->links[i].context;

        es_otlp__link__init(link);
        link->trace_id = binary(context->trace_id, 16);
        link->span_id = binary(context->span_id, 8);
        link->trace_state = text(context->tracestate, SIZE_MAX);
        link->flags = context->flags | 0x100u | (m->links[i].remote ? 0x200u : 0);
        link->dropped_attributes_count = tree_attributes(m->links[i].attributes, m->links[i].count,
                                                         &link->n_attributes, &link->attributes);
    }

    if (m->code != ES_STATUS_UNSET) {
        EsOtlp__Status *status = span->status = take(sizeof(*status));

        es_otlp__status__init(status);
        status->code = (int32_t) m->code;
        if (m->code == ES_STATUS_ERROR) {
            status->message = text(m->message, MESSAGE_CHARACTERS);
        }
    }
    return span;
}

#define BUFFER ((size_t) 8 << 20) /* any model fits */

static void
same_as_protobuf_c(void **state)
{
    unit_random_t random = unit_random_init();
    uint8_t *buffer = malloc(BUFFER), *packed = malloc(BUFFER);
    model_t *m = malloc(sizeof(*m));

    (void) state;
    assert_true(buffer != NULL && packed != NULL && m != NULL);
    for (unsigned i = 0; i < 5000; i++) {
        EsOtlp__Span *span;
        es_str_t written;
        size_t size;

        arena_at = 0;
        random_model(&random, m);
        written = write_model(m, buffer, BUFFER);
        span = tree(m);
        size = es_otlp__span__get_packed_size(span);
        unit_assert(&random, size < BUFFER);
        es_otlp__span__pack(span, packed);
        unit_assert(&random, written.data == (char *) buffer);
        unit_assert(&random, written.len == size);
        unit_assert(&random, memcmp(written.data, packed, size) == 0);
    }
    free(m);
    free(packed);
    free(buffer);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_protobuf_c),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
