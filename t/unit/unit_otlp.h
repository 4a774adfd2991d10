/* unit_otlp.h: decoded OTLP, as the formats get it, built by hand. What is built
 * lives until unit_otlp_free(). */

#ifndef UNIT_OTLP_H
#define UNIT_OTLP_H

#include "unit.h"

#include "es_protocol.h"

static void *unit_otlp_kept[1024];
static size_t unit_otlp_count;

static inline void *
unit_otlp_keep(const void *bytes, size_t size)
{
    void *copy = malloc(size);

    assert_true(copy != NULL && unit_otlp_count < UNIT_COUNT(unit_otlp_kept));
    memcpy(copy, bytes, size);
    return unit_otlp_kept[unit_otlp_count++] = copy;
}

static inline int
unit_otlp_free(void **state)
{
    (void) state;
    while (unit_otlp_count != 0) {
        free(unit_otlp_kept[--unit_otlp_count]);
    }
    return 0;
}

#define UNIT_TEXT(s) ((char *) unit_otlp_keep(s, strlen(s) + 1))

/* A list of pointers to messages. */
#define UNIT_LIST(type, ...) \
    unit_otlp_keep((type *[]){__VA_ARGS__}, sizeof((type *[]){__VA_ARGS__}))
#define UNIT_LENGTH(type, ...) UNIT_COUNT(((type *[]){__VA_ARGS__}))

static inline EsOtlp__AnyValue *
unit_any(EsOtlp__AnyValue__ValueCase type)
{
    EsOtlp__AnyValue value = ES_OTLP__ANY_VALUE__INIT;

    value.value_case = type;
    return unit_otlp_keep(&value, sizeof(value));
}

static inline EsOtlp__AnyValue *
unit_string(const char *text)
{
    EsOtlp__AnyValue *value = unit_any(ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE);

    value->string_value = UNIT_TEXT(text);
    return value;
}

static inline EsOtlp__AnyValue *
unit_int(int64_t number)
{
    EsOtlp__AnyValue *value = unit_any(ES_OTLP__ANY_VALUE__VALUE_INT_VALUE);

    value->int_value = number;
    return value;
}

static inline EsOtlp__AnyValue *
unit_double(double number)
{
    EsOtlp__AnyValue *value = unit_any(ES_OTLP__ANY_VALUE__VALUE_DOUBLE_VALUE);

    value->double_value = number;
    return value;
}

static inline EsOtlp__AnyValue *
unit_bool(bool yes)
{
    EsOtlp__AnyValue *value = unit_any(ES_OTLP__ANY_VALUE__VALUE_BOOL_VALUE);

    value->bool_value = yes;
    return value;
}

static inline EsOtlp__AnyValue *
unit_bytes(const void *bytes, size_t len)
{
    EsOtlp__AnyValue *value = unit_any(ES_OTLP__ANY_VALUE__VALUE_BYTES_VALUE);

    value->bytes_value = (ProtobufCBinaryData){len, unit_otlp_keep(bytes, len)};
    return value;
}

static inline EsOtlp__AnyValue *
unit_array(EsOtlp__AnyValue **values, size_t count)
{
    EsOtlp__AnyValue *value = unit_any(ES_OTLP__ANY_VALUE__VALUE_ARRAY_VALUE);
    EsOtlp__ArrayValue array = ES_OTLP__ARRAY_VALUE__INIT;

    array.values = values;
    array.n_values = count;
    value->array_value = unit_otlp_keep(&array, sizeof(array));
    return value;
}

#define UNIT_ARRAY(...) \
    unit_array(UNIT_LIST(EsOtlp__AnyValue, __VA_ARGS__), UNIT_LENGTH(EsOtlp__AnyValue, __VA_ARGS__))

static inline EsOtlp__KeyValue *
unit_attribute(const char *key, EsOtlp__AnyValue *value)
{
    EsOtlp__KeyValue attribute = ES_OTLP__KEY_VALUE__INIT;

    attribute.key = UNIT_TEXT(key);
    attribute.value = value;
    return unit_otlp_keep(&attribute, sizeof(attribute));
}

/* Sets `attributes` of a message. */
#define UNIT_ATTRIBUTES(message, ...)                                  \
    ((message)->attributes = UNIT_LIST(EsOtlp__KeyValue, __VA_ARGS__), \
     (message)->n_attributes = UNIT_LENGTH(EsOtlp__KeyValue, __VA_ARGS__))

static const uint8_t unit_trace_id[] = {0xff, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6,
                                        0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36};
static const uint8_t unit_span_id[] = {0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7};
static const uint8_t unit_parent_id[] = {0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31};

/* From 1700000000.000001234 for 1234567 ns. */
static inline EsOtlp__Span *
unit_span(const char *name, es_span_kind_t kind)
{
    EsOtlp__Span span = ES_OTLP__SPAN__INIT;

    span.trace_id = (ProtobufCBinaryData){16, unit_otlp_keep(unit_trace_id, 16)};
    span.span_id = (ProtobufCBinaryData){8, unit_otlp_keep(unit_span_id, 8)};
    span.name = UNIT_TEXT(name);
    span.kind = kind;
    span.start_time_unix_nano = UINT64_C(1700000000000001234);
    span.end_time_unix_nano = span.start_time_unix_nano + 1234567;
    return unit_otlp_keep(&span, sizeof(span));
}

static inline void
unit_parent(EsOtlp__Span *span)
{
    span->parent_span_id = (ProtobufCBinaryData){8, unit_otlp_keep(unit_parent_id, 8)};
}

static inline void
unit_status(EsOtlp__Span *span, int32_t code, const char *message)
{
    EsOtlp__Status status = ES_OTLP__STATUS__INIT;

    status.code = code;
    status.message = UNIT_TEXT(message);
    span->status = unit_otlp_keep(&status, sizeof(status));
}

/* Adds one. */
static inline EsOtlp__Event *
unit_event(EsOtlp__Span *span, const char *name)
{
    EsOtlp__Event event = ES_OTLP__EVENT__INIT, *kept;

    event.time_unix_nano = span->start_time_unix_nano + 5000;
    event.name = UNIT_TEXT(name);
    kept = unit_otlp_keep(&event, sizeof(event));
    span->events = UNIT_LIST(EsOtlp__Event, kept);
    span->n_events = 1;
    return kept;
}

static inline void
unit_link(EsOtlp__Span *span)
{
    EsOtlp__Link link = ES_OTLP__LINK__INIT;

    link.trace_id = span->trace_id;
    link.span_id = (ProtobufCBinaryData){8, unit_otlp_keep(unit_parent_id, 8)};
    span->links = UNIT_LIST(EsOtlp__Link, unit_otlp_keep(&link, sizeof(link)));
    span->n_links = 1;
}

/* One resource "shop" with one span. */
static inline EsOtlp__ResourceSpans *
unit_resource_spans(const char *service, EsOtlp__Span *span)
{
    EsOtlp__InstrumentationScope scope = ES_OTLP__INSTRUMENTATION_SCOPE__INIT;
    EsOtlp__ScopeSpans scope_spans = ES_OTLP__SCOPE_SPANS__INIT;
    EsOtlp__ResourceSpans resource_spans = ES_OTLP__RESOURCE_SPANS__INIT;
    EsOtlp__Resource resource = ES_OTLP__RESOURCE__INIT;

    scope.name = UNIT_TEXT("edgespan");
    scope.version = UNIT_TEXT("1");
    scope_spans.scope = unit_otlp_keep(&scope, sizeof(scope));
    scope_spans.spans = UNIT_LIST(EsOtlp__Span, span);
    scope_spans.n_spans = 1;
    UNIT_ATTRIBUTES(&resource, unit_attribute("service.name", unit_string(service)),
                    unit_attribute("service.namespace", unit_string("ns")));
    resource_spans.resource = unit_otlp_keep(&resource, sizeof(resource));
    resource_spans.scope_spans =
        UNIT_LIST(EsOtlp__ScopeSpans, unit_otlp_keep(&scope_spans, sizeof(scope_spans)));
    resource_spans.n_scope_spans = 1;
    return unit_otlp_keep(&resource_spans, sizeof(resource_spans));
}

static inline EsOtlp__TracesData
unit_traces(EsOtlp__ResourceSpans **list, size_t count)
{
    EsOtlp__TracesData data = ES_OTLP__TRACES_DATA__INIT;

    data.resource_spans = list;
    data.n_resource_spans = count;
    return data;
}

/* The body of one span of service "shop". Freed by unit_otlp_free(). */
static inline es_str_t
unit_encode(const es_format_t *format, EsOtlp__Span *span)
{
    EsOtlp__ResourceSpans *list[] = {unit_resource_spans("shop", span)};
    EsOtlp__TracesData data = unit_traces(list, 1);
    es_buffer_t body = {NULL, 0};
    es_str_t text;

    assert_true(format->encode(&data, &body));
    text = es_str(unit_otlp_keep(body.data, body.size), body.size);
    free(body.data);
    return text;
}

#endif
