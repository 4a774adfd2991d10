/* What the core writes of a subrequest, with arrays and an event, in the formats that are
 * made of decoded spans. */

#define _GNU_SOURCE /* memmem */

#include "unit_http.h"
#include "unit_json.h"
#include "unit_otlp.h"

static EsOtlp__Span *
subrequest(void)
{
    static const es_str_t words[] = {ES_STR("a"), ES_STR("\"b\"")};
    static const es_attribute_t of_span[] = {
        {.key = ES_STR("words"), .type = ES_ATTRIBUTE_STRINGS, .values = words, .values_count = 2},
        {.key = ES_STR("none"), .type = ES_ATTRIBUTE_STRINGS, .values = words},
    };
    static const es_attribute_t of_event[] = {
        {.key = ES_STR("words"), .type = ES_ATTRIBUTE_STRINGS, .values = words, .values_count = 2},
        {.key = ES_STR("n"), .value = ES_STR("7"), .type = ES_ATTRIBUTE_INT},
        {.key = ES_STR("half"), .value = ES_STR(".5"), .type = ES_ATTRIBUTE_DOUBLE},
        {.key = ES_STR("yes"), .value = ES_STR("on"), .type = ES_ATTRIBUTE_BOOL},
    };
    static const es_http_event_t event = {.name = ES_STR("edgespan.log"),
                                          .mono_ns = 5000,
                                          .attributes = of_event,
                                          .attributes_count = UNIT_COUNT(of_event)};
    const es_http_t http = {.kind = ES_KIND_INTERNAL,
                            .background = true,
                            .events = &event,
                            .events_count = 1,
                            .attributes = of_span,
                            .attributes_count = UNIT_COUNT(of_span)};

    write_span(&http, UINT64_C(1700000000000000000));
    return decoded;
}

#define IDS(trace, span, parent)                                                        \
    trace ":\"01000000000000000000000000000000\"," span ":\"0200000000000000\"," parent \
          ":\"0300000000000000\","

static void
otlp_json(void **state)
{
    json_t *json, *span;
    es_str_t body = unit_encode(&es_format_otlp_json, subrequest());
    char *text;

    (void) state;
    json = json_loadb(body.data, body.len, 0, NULL);
    assert_non_null(json);
    span = json_array_get(
        json_object_get(
            json_array_get(
                json_object_get(json_array_get(json_object_get(json, "resourceSpans"), 0),
                                "scopeSpans"),
                0),
            "spans"),
        0);
    text = json_dumps(span, 0);
    unit_assert_json(
        es_cstr(text),
        "{" IDS(
            "\"traceId\"", "\"spanId\"",
            "\"parentSpanId\"") "\"name\":\"subrequest\",\"kind\":1,\"startTimeUnixNano\":"
                                "\"1700000000000001000\","
                                "\"endTimeUnixNano\":\"1700000000000002000\",\"flags\":257,"
                                "\"attributes\":["
                                "{\"key\":\"edgespan.background\",\"value\":{\"boolValue\":true}},"
                                "{\"key\":\"words\",\"value\":{\"arrayValue\":{\"values\":[{"
                                "\"stringValue\":\"a\"},"
                                "{\"stringValue\":\"\\\"b\\\"\"}]}}},"
                                "{\"key\":\"none\",\"value\":{\"arrayValue\":{}}}],"
                                "\"events\":[{\"timeUnixNano\":\"1700000000000005000\",\"name\":"
                                "\"edgespan.log\","
                                "\"attributes\":["
                                "{\"key\":\"words\",\"value\":{\"arrayValue\":{\"values\":[{"
                                "\"stringValue\":\"a\"},"
                                "{\"stringValue\":\"\\\"b\\\"\"}]}}},"
                                "{\"key\":\"n\",\"value\":{\"intValue\":\"7\"}},"
                                "{\"key\":\"half\",\"value\":{\"doubleValue\":0.5}},"
                                "{\"key\":\"yes\",\"value\":{\"boolValue\":true}}]}]}");
    free(text);
    json_decref(json);
}

static void
zipkin(void **state)
{
    (void) state;
    unit_assert_json(
        unit_encode(&es_format_zipkin, subrequest()),
        "[{" IDS(
            "\"traceId\"", "\"id\"",
            "\"parentId\"") "\"name\":\"subrequest\",\"timestamp\":1700000000000001,\"duration\":1,"
                            "\"localEndpoint\":{\"serviceName\":\"shop\"},\"tags\":{"
                            "\"otel.scope.name\":\"edgespan\",\"otel.scope.version\":\"1\","
                            "\"otel.library.name\":\"edgespan\",\"otel.library.version\":\"1\","
                            "\"service.namespace\":\"ns\",\"edgespan.background\":\"true\","
                            "\"words\":\"[\\\"a\\\",\\\"\\\\\\\"b\\\\\\\"\\\"]\",\"none\":\"[]\"},"
                            "\"annotations\":[{\"timestamp\":1700000000000005,\"value\":"
                            "\"\\\"edgespan.log\\\":{\\\"words\\\":[\\\"a\\\","
                            "\\\"\\\\\\\"b\\\\\\\"\\\"],"
                            "\\\"n\\\":7,\\\"half\\\":0.5,\\\"yes\\\":true}\"}]}]");
}

/* How often some bytes are in a body. */
static unsigned
count_of(es_str_t body, const char *bytes, size_t len)
{
    unsigned count = 0;
    const char *at;

    while ((at = memmem(body.data, body.len, bytes, len)) != NULL) {
        size_t behind = (size_t) (at - body.data) + len;

        body = es_str(body.data + behind, body.len - behind);
        count++;
    }
    return count;
}

#define HAS(body, literal) count_of(body, literal, sizeof(literal) - 1)

/* Tags of their types; arrays are the same text in the tag and in the log's field. */
static void
jaeger(void **state)
{
    es_str_t body = unit_encode(&es_format_jaeger, subrequest());

    (void) state;
    assert_int_equal(HAS(body, "span.kind"), 0);
    assert_int_equal(HAS(body, "\0\0\0\x05words\x08\0\x02\0\0\0\0\x0b\0\x03"
                               "\0\0\0\x0d[\"a\",\"\\\"b\\\"\"]\0"),
                     2);
    assert_int_equal(HAS(body, "\0\0\0\x04none\x08\0\x02\0\0\0\0\x0b\0\x03\0\0\0\x02[]\0"), 1);
    assert_int_equal(HAS(body, "edgespan.background\x08\0\x02\0\0\0\x02\x02\0\x05\x01\0"), 1);
    assert_int_equal(HAS(body, "\0\0\0\x05"
                               "event\x08\0\x02\0\0\0\0\x0b\0\x03\0\0\0\x0c"
                               "edgespan.log\0"),
                     1);
    assert_int_equal(HAS(body, "\x01n\x08\0\x02\0\0\0\x03\x0a\0\x06\0\0\0\0\0\0\0\x07\0"), 1);
    assert_int_equal(HAS(body, "half\x08\0\x02\0\0\0\x01\x04\0\x04\x3f\xe0\0\0\0\0\0\0\0"), 1);
    assert_int_equal(HAS(body, "yes\x08\0\x02\0\0\0\x02\x02\0\x05\x01\0"), 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(otlp_json, unit_otlp_free),
        cmocka_unit_test_teardown(zipkin, unit_otlp_free),
        cmocka_unit_test_teardown(jaeger, unit_otlp_free),
    };

    return cmocka_run_group_tests(tests, NULL, clear);
}
