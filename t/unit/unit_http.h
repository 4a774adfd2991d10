/* unit_http.h: an exchange, the span that es_http_write_span() makes of it, and
 * what is in that, read back with protobuf-c. */

#ifndef UNIT_HTTP_H
#define UNIT_HTTP_H

#include "unit.h"

#include "es_config.h"
#include "es_http.h"
#include "es_otlp.pb-c.h"

#define CANARY 4096

static const uint8_t trace_id[16] = {1}, span_id[8] = {2}, parent_id[8] = {3};

/* Stable names, no key for hashes. */
static es_config_t http_config;

/* The decoded span; freed by the next call. */
static EsOtlp__Span *decoded;

static inline int
clear(void **state)
{
    (void) state;
    if (decoded != NULL) {
        es_otlp__span__free_unpacked(decoded, NULL);
    }
    decoded = NULL;
    return 0;
}

static inline es_http_t
server_get(void)
{
    return (es_http_t){
        .kind = ES_KIND_SERVER,
        .method = ES_STR("GET"),
        .target = ES_STR("/a?b=c"),
        .scheme = ES_STR("http"),
        .host = ES_STR("example.org"),
        .status = 200,
        .request_body_size = -1,
        .response_body_size = -1,
    };
}

static inline es_http_t
client_get(void)
{
    es_http_t http = server_get();

    http.kind = ES_KIND_CLIENT;
    http.span_id = span_id;
    return http;
}

static inline void
write_span(const es_http_t *http, uint64_t wall_offset_ns)
{
    static uint8_t memory[CANARY + ES_SPAN_SIZE_MAX + CANARY];
    es_span_t span = {
        .trace_id = trace_id,
        .span_id = span_id,
        .parent_span_id = parent_id,
        .kind = http->kind,
        .start_ns = 1000 + wall_offset_ns,
        .end_ns = 2000 + wall_offset_ns,
        .flags = 0x101,
    };
    es_str_t bytes;

    clear(NULL);
    memset(memory, 0xa5, sizeof(memory));
    bytes = es_http_write_span(
        memory + CANARY, &span, http,
        &(es_http_trace_t){.config = &http_config, .wall_offset_ns = wall_offset_ns});
    for (size_t i = 0; i < CANARY; i++) {
        assert_int_equal(memory[i], 0xa5);
        assert_int_equal(memory[CANARY + ES_SPAN_SIZE_MAX + i], 0xa5);
    }
    assert_true(bytes.len <= ES_SPAN_SIZE_MAX);
    decoded = es_otlp__span__unpack(NULL, bytes.len, (const uint8_t *) bytes.data);
    assert_non_null(decoded);
    assert_int_equal(decoded->base.n_unknown_fields, 0);
    assert_int_equal(decoded->kind, http->kind);
}

static inline const EsOtlp__AnyValue *
find_in(EsOtlp__KeyValue **attributes, size_t count, const char *key)
{
    const EsOtlp__AnyValue *found = NULL;

    for (size_t i = 0; i < count; i++) {
        if (strcmp(attributes[i]->key, key) == 0) {
            if (found != NULL) {
                fail_msg("%s is there twice", key);
            }
            found = attributes[i]->value;
        }
    }
    return found;
}

static inline const EsOtlp__AnyValue *
find(const char *key)
{
    return find_in(decoded->attributes, decoded->n_attributes, key);
}

static inline void
check_string(const EsOtlp__AnyValue *value, const char *key, const char *expected)
{
    if (value == NULL || value->value_case != ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE
        || strcmp(value->string_value, expected) != 0) {
        fail_msg("%s is \"%s\" instead of \"%s\"", key,
                 value == NULL                                                 ? "absent"
                 : value->value_case == ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE ? value->string_value
                                                                               : "no string",
                 expected);
    }
}

static inline void
check_int(const EsOtlp__AnyValue *value, const char *key, int64_t expected)
{
    if (value == NULL || value->value_case != ES_OTLP__ANY_VALUE__VALUE_INT_VALUE
        || value->int_value != expected) {
        fail_msg("%s is not %lld but %lld", key, (long long) expected,
                 value == NULL ? -1LL : (long long) value->int_value);
    }
}

static inline void
check_double(const EsOtlp__AnyValue *value, const char *key, double expected)
{
    double off = value != NULL ? value->double_value - expected : 1;

    if (value == NULL || value->value_case != ES_OTLP__ANY_VALUE__VALUE_DOUBLE_VALUE || off > 1e-12
        || off < -1e-12) {
        fail_msg("%s is not %.12f but %.12f", key, expected,
                 value == NULL ? -1.0 : value->double_value);
    }
}

static inline void
check_bool(const EsOtlp__AnyValue *value, const char *key, bool expected)
{
    if (value == NULL || value->value_case != ES_OTLP__ANY_VALUE__VALUE_BOOL_VALUE
        || value->bool_value != expected) {
        fail_msg("%s is not %s", key, expected ? "true" : "false");
    }
}

#define has_double(key, expected) check_double(find(key), key, expected)
#define has_bool(key, expected) check_bool(find(key), key, expected)
#define has_string(key, expected) check_string(find(key), key, expected)
#define has_int(key, expected) check_int(find(key), key, expected)

static inline void
has_not(const char *key)
{
    if (find(key) != NULL) {
        fail_msg("%s is there", key);
    }
}

#endif
