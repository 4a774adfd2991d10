#include "es_otlp_walk.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const EsOtlp__AnyValue *
es_otlp_find(EsOtlp__KeyValue *const *attributes, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(attributes[i]->key, key) == 0) {
            return attributes[i]->value;
        }
    }
    return NULL;
}

const char *
es_otlp_find_string(EsOtlp__KeyValue *const *attributes, size_t count, const char *key)
{
    const EsOtlp__AnyValue *value = es_otlp_find(attributes, count, key);

    return value != NULL && value->value_case == ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE
                   && value->string_value[0] != '\0'
               ? value->string_value
               : NULL;
}

const char *
es_otlp_service_name(const EsOtlp__Resource *resource)
{
    const char *name = resource != NULL ? es_otlp_find_string(
                           resource->attributes, resource->n_attributes, "service.name")
                                        : NULL;

    return name != NULL ? name : "unknown_service";
}

/* --------------------------------------------------------------- values --- */

json_t *
es_otlp_hex(const ProtobufCBinaryData *id)
{
    char text[2 * ES_TRACE_ID_LEN];
    size_t len = id->len <= ES_TRACE_ID_LEN ? id->len : 0;

    es_hex(text, id->data, len);
    return json_stringn(text, 2 * len);
}

char *
es_otlp_base64(const ProtobufCBinaryData *bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = malloc((bytes->len + 2) / 3 * 4 + 1), *at = text;

    if (text == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < bytes->len; i += 3) {
        size_t left = bytes->len - i;
        uint32_t group = (uint32_t) bytes->data[i] << 16
                         | (left > 1 ? (uint32_t) bytes->data[i + 1] << 8 : 0)
                         | (left > 2 ? bytes->data[i + 2] : 0);

        *at++ = digits[group >> 18];
        *at++ = digits[group >> 12 & 63];
        *at++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *at++ = left > 2 ? digits[group & 63] : '=';
    }
    *at = '\0';
    return text;
}

json_t *
es_otlp_double(double value)
{
    if (isnan(value)) {
        return json_string("NaN");
    }
    if (isinf(value)) {
        return json_string(value > 0 ? "Infinity" : "-Infinity");
    }
    return json_real(value);
}

static json_t *
array_json(const EsOtlp__ArrayValue *list)
{
    json_t *array = json_array();

    for (size_t i = 0; i < list->n_values; i++) {
        if (json_array_append_new(array, es_otlp_json(list->values[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

json_t *
es_otlp_json_object(EsOtlp__KeyValue *const *attributes, size_t count)
{
    json_t *object = json_object();

    for (size_t i = 0; i < count; i++) {
        if (json_object_set_new(object, attributes[i]->key, es_otlp_json(attributes[i]->value))
            != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

json_t *
es_otlp_json(const EsOtlp__AnyValue *value)
{
    json_t *json;
    char *text;

    switch (value != NULL ? value->value_case : ES_OTLP__ANY_VALUE__VALUE__NOT_SET) {
    case ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE:
        return json_string(value->string_value);
    case ES_OTLP__ANY_VALUE__VALUE_BOOL_VALUE:
        return json_boolean(value->bool_value);
    case ES_OTLP__ANY_VALUE__VALUE_INT_VALUE:
        return json_integer(value->int_value);
    case ES_OTLP__ANY_VALUE__VALUE_DOUBLE_VALUE:
        return es_otlp_double(value->double_value);
    case ES_OTLP__ANY_VALUE__VALUE_ARRAY_VALUE:
        return array_json(value->array_value);
    case ES_OTLP__ANY_VALUE__VALUE_KVLIST_VALUE:
        return es_otlp_json_object(value->kvlist_value->values, value->kvlist_value->n_values);
    case ES_OTLP__ANY_VALUE__VALUE_BYTES_VALUE:
        text = es_otlp_base64(&value->bytes_value);
        json = text != NULL ? json_string(text) : NULL;
        free(text);
        return json;
    default:
        return json_null();
    }
}

char *
es_otlp_dump(const json_t *json)
{
    return json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
}

char *
es_otlp_text(const EsOtlp__AnyValue *value)
{
    json_t *json = es_otlp_json(value);
    char *text;

    if (json_is_string(json)) {
        text = es_str_dup(es_cstr(json_string_value(json)));
    } else if (json_is_null(json)) {
        text = es_str_dup(ES_STR_NONE); /* an attribute without a value */
    } else {
        text = es_otlp_dump(json);
    }
    json_decref(json);
    return text;
}

/* ----------------------------------------------------------------- tags --- */

/* A tag of our own, unless it would be empty. */
static bool
put_string(es_otlp_put_t *put, void *data, const char *key, const char *text)
{
    EsOtlp__AnyValue value = ES_OTLP__ANY_VALUE__INIT;

    value.value_case = ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE;
    value.string_value = (char *) (uintptr_t) text;
    return text[0] == '\0' || put(data, key, &value);
}

static bool
put_count(es_otlp_put_t *put, void *data, const char *key, uint32_t count)
{
    EsOtlp__AnyValue value = ES_OTLP__ANY_VALUE__INIT;

    value.value_case = ES_OTLP__ANY_VALUE__VALUE_INT_VALUE;
    value.int_value = count;
    return count == 0 || put(data, key, &value);
}

bool
es_otlp_tags(const EsOtlp__ScopeSpans *scope_spans, const EsOtlp__Span *span, es_otlp_put_t *put,
             void *data)
{
    const EsOtlp__InstrumentationScope *scope = scope_spans->scope;
    int32_t code = span->status != NULL ? span->status->code : 0;

    for (size_t i = 0; i < span->n_attributes; i++) {
        if (!put(data, span->attributes[i]->key, span->attributes[i]->value)) {
            return false;
        }
    }
    /* Under the old names, too: older backends know no others. */
    if (scope != NULL
        && (!put_string(put, data, "otel.scope.name", scope->name)
            || !put_string(put, data, "otel.scope.version", scope->version)
            || !put_string(put, data, "otel.library.name", scope->name)
            || !put_string(put, data, "otel.library.version", scope->version))) {
        return false;
    }
    /* The name that the OpenTelemetry Collector gives it and takes it from. */
    return put_string(put, data, "w3c.tracestate", span->trace_state)
           && put_string(put, data, "otel.status_code",
                         code == 1   ? "OK"
                         : code == 2 ? "ERROR"
                                     : "")
           && put_count(put, data, "otel.dropped_attributes_count", span->dropped_attributes_count)
           && put_count(put, data, "otel.dropped_events_count", span->dropped_events_count)
           && put_count(put, data, "otel.dropped_links_count", span->dropped_links_count);
}

int64_t
es_otlp_duration_us(const EsOtlp__Span *span)
{
    uint64_t from = span->start_time_unix_nano, to = span->end_time_unix_nano;
    uint64_t us = to > from ? (to - from) / 1000 : 0;

    return us != 0 ? (int64_t) us : 1;
}

void
es_otlp_read_words(es_str_t body, bool ok, es_result_t *result)
{
    if (!ok) {
        snprintf(result->message, sizeof(result->message), "%.*s", ES_ARG(body));
    }
}
