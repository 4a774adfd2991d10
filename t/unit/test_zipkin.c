/* What Zipkin's JSON has of a span. */

#include "unit_json.h"
#include "unit_otlp.h"

#include <math.h>

#define IDS                                                                         \
    "\"traceId\":\"fff92f3577b34da6a3ce929d0e0e4736\",\"id\":\"00f067aa0ba902b7\"," \
    "\"timestamp\":1700000000000001,\"localEndpoint\":{\"serviceName\":\"shop\"}"
#define TAGS                                                                               \
    "\"otel.scope.name\":\"edgespan\",\"otel.scope.version\":\"1\",\"otel.library.name\":" \
    "\"edgespan\",\"otel.library.version\":\"1\",\"service.namespace\":\"ns\""

static void
assert_span(EsOtlp__Span *span, const char *expected)
{
    unit_assert_json(unit_encode(&es_format_zipkin, span), expected);
}

static void
server(void **state)
{
    EsOtlp__Span *span = unit_span("GET /Users/*", ES_KIND_SERVER);

    (void) state;
    UNIT_ATTRIBUTES(span, unit_attribute("http.route", unit_string("/Users/*")),
                    unit_attribute("server.address", unit_string("example.org")),
                    unit_attribute("network.peer.address", unit_string("10.0.0.1")));
    assert_span(span, "[{" IDS ",\"name\":\"GET /Users/*\",\"kind\":\"SERVER\",\"duration\":1234,"
                      "\"tags\":{" TAGS ",\"http.route\":\"/Users/*\",\"server.address\":"
                      "\"example.org\",\"network.peer.address\":\"10.0.0.1\"}}]");
}

static void
values(void **state)
{
    EsOtlp__Span *span = unit_span("n", ES_KIND_INTERNAL);

    (void) state;
    UNIT_ATTRIBUTES(
        span, unit_attribute("s", unit_string("\xc3\xbc \"\\\n\x01 \xf0\x9f\x98\x80")),
        unit_attribute("empty", unit_string("")), unit_attribute("i", unit_int(INT64_MIN)),
        unit_attribute("j", unit_int(INT64_MAX)), unit_attribute("d", unit_double(0.1)),
        unit_attribute("nan", unit_double(NAN)), unit_attribute("inf", unit_double(-INFINITY)),
        unit_attribute("t", unit_bool(true)), unit_attribute("f", unit_bool(false)),
        unit_attribute("none", unit_any(ES_OTLP__ANY_VALUE__VALUE__NOT_SET)),
        unit_attribute("b1", unit_bytes("a", 1)), unit_attribute("b2", unit_bytes("ab", 2)),
        unit_attribute("b5", unit_bytes("\xff\xfe\x00gh", 5)),
        unit_attribute("a", UNIT_ARRAY(unit_string("x\""), unit_int(1), unit_bool(false),
                                       unit_double(0.25), unit_any(0))));
    span->end_time_unix_nano = span->start_time_unix_nano;
    assert_span(span, "[{" IDS ",\"name\":\"n\",\"duration\":1,\"tags\":{" TAGS
                      ",\"s\":\"\xc3\xbc \\\"\\\\\\n\\u0001 \xf0\x9f\x98\x80\",\"empty\":\"\","
                      "\"i\":\"-9223372036854775808\",\"j\":\"9223372036854775807\",\"d\":\"0.1\","
                      "\"nan\":\"NaN\",\"inf\":\"-Infinity\",\"t\":\"true\",\"f\":\"false\","
                      "\"none\":\"\",\"b1\":\"YQ==\",\"b2\":\"YWI=\",\"b5\":\"//4AZ2g=\","
                      "\"a\":\"[\\\"x\\\\\\\"\\\",1,false,0.25,null]\"}}]");
}

static void
client(void **state)
{
    EsOtlp__Span *span = unit_span("GET", ES_KIND_CLIENT);
    EsOtlp__Event *event = unit_event(span, "a \"try\"");

    (void) state;
    unit_parent(span);
    unit_status(span, 2, "");
    span->trace_state = UNIT_TEXT("a=b");
    span->dropped_attributes_count = 3;
    span->dropped_events_count = 2;
    span->dropped_links_count = 1;
    UNIT_ATTRIBUTES(span, unit_attribute("network.peer.port", unit_int(8080)),
                    unit_attribute("network.peer.address", unit_string("10.0.0.1")),
                    unit_attribute("server.address", unit_string("users")),
                    unit_attribute("error", unit_bool(false)));
    UNIT_ATTRIBUTES(event, unit_attribute("port", unit_int(80)),
                    unit_attribute("seconds", unit_double(0.012)));
    assert_span(span,
                "[{" IDS ",\"parentId\":\"b7ad6b7169203331\",\"name\":\"GET\",\"kind\":\"CLIENT\","
                "\"duration\":1234,\"remoteEndpoint\":{\"serviceName\":\"users\",\"ipv4\":"
                "\"10.0.0.1\",\"port\":8080},\"tags\":{" TAGS ",\"network.peer.port\":\"8080\","
                "\"network.peer.address\":\"10.0.0.1\",\"server.address\":\"users\","
                "\"w3c.tracestate\":\"a=b\",\"otel.status_code\":\"ERROR\",\"error\":\"\","
                "\"otel.dropped_attributes_count\":\"3\",\"otel.dropped_events_count\":\"2\","
                "\"otel.dropped_links_count\":\"1\"},\"annotations\":[{\"timestamp\":"
                "1700000000000006,\"value\":\"\\\"a \\\\\\\"try\\\\\\\"\\\":{\\\"port\\\":80,"
                "\\\"seconds\\\":0.012}\"}]}]");
}

/* Whom it asked, by what the span knows. */
static void
remote(void **state)
{
    static const struct {
        const char *service, *address, *peer;
        int64_t port;
        const char *expected;
    } cases[] = {
        {"billing", "b.example", "::1", 443,
         "{\"serviceName\":\"billing\",\"ipv6\":\"::1\",\"port\":443}"},
        {"", "b.example", "", 0, "{\"serviceName\":\"b.example\"}"},
        {"", "", "10.0.0.1", 0, "{\"serviceName\":\"10.0.0.1\",\"ipv4\":\"10.0.0.1\"}"},
        {"", "b", "/run/up.sock", 65536, "{\"serviceName\":\"b\"}"},
        {"", "", "", 0, NULL},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        EsOtlp__Span *span = unit_span("GET", ES_KIND_CLIENT);
        es_str_t body;
        json_t *json, *endpoint;
        char *text;

        UNIT_ATTRIBUTES(span, unit_attribute("peer.service", unit_string(cases[i].service)),
                        unit_attribute("server.address", unit_string(cases[i].address)),
                        unit_attribute("network.peer.address", unit_string(cases[i].peer)),
                        unit_attribute("network.peer.port", unit_int(cases[i].port)));
        body = unit_encode(&es_format_zipkin, span);
        json = json_loadb(body.data, body.len, 0, NULL);
        endpoint = json_object_get(json_array_get(json, 0), "remoteEndpoint");
        assert_true((endpoint != NULL) == (cases[i].expected != NULL));
        if (endpoint != NULL) {
            text = json_dumps(endpoint, 0);
            unit_assert_json(es_cstr(text), cases[i].expected);
            free(text);
        }
        json_decref(json);
    }
}

/* By the names of otel_semconv old. */
static void
remote_by_old_names(void **state)
{
    EsOtlp__Span *span = unit_span("GET", ES_KIND_CLIENT);
    es_str_t body;
    json_t *json;
    char *text;

    (void) state;
    UNIT_ATTRIBUTES(span, unit_attribute("net.peer.name", unit_string("b.example")),
                    unit_attribute("net.sock.peer.addr", unit_string("10.0.0.1")),
                    unit_attribute("net.sock.peer.port", unit_int(81)));
    body = unit_encode(&es_format_zipkin, span);
    json = json_loadb(body.data, body.len, 0, NULL);
    text = json_dumps(json_object_get(json_array_get(json, 0), "remoteEndpoint"), 0);
    unit_assert_json(es_cstr(text),
                     "{\"serviceName\":\"b.example\",\"ipv4\":\"10.0.0.1\",\"port\":81}");
    free(text);
    json_decref(json);
}

/* An attribute that says the contrary must not mark a span as failed. */
static void
error_tag(void **state)
{
    static const struct {
        int32_t code;
        const char *message, *attribute, *expected;
    } cases[] = {
        {0, "", "false", NULL},        {0, "", "FALSE", NULL},       {1, "", "false", NULL},
        {0, "", "timeout", "timeout"}, {2, "boom", "false", "boom"}, {2, "boom", "x", "boom"},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        EsOtlp__Span *span = unit_span("GET", ES_KIND_SERVER);
        es_str_t body;
        json_t *json;
        const json_t *tags;
        const char *error, *code;

        unit_status(span, cases[i].code, cases[i].message);
        UNIT_ATTRIBUTES(span, unit_attribute("error", unit_string(cases[i].attribute)));
        body = unit_encode(&es_format_zipkin, span);
        json = json_loadb(body.data, body.len, 0, NULL);
        tags = json_object_get(json_array_get(json, 0), "tags");
        error = json_string_value(json_object_get(tags, "error"));
        code = json_string_value(json_object_get(tags, "otel.status_code"));
        unit_assert_str(es_cstr(error), cases[i].expected != NULL ? cases[i].expected : "");
        assert_true((error != NULL) == (cases[i].expected != NULL));
        unit_assert_str(es_cstr(code), cases[i].code == 0   ? ""
                                       : cases[i].code == 1 ? "OK"
                                                            : "ERROR");
        json_decref(json);
    }
}

/* Spans of several services are one array; empty members are left out. */
static void
several(void **state)
{
    EsOtlp__ResourceSpans *list[] = {unit_resource_spans("a", unit_span("1", ES_KIND_SERVER)),
                                     unit_resource_spans("b", unit_span("2", ES_KIND_INTERNAL))};
    EsOtlp__TracesData data = unit_traces(list, 2);
    es_buffer_t body = {NULL, 0};

    (void) state;
    list[1]->scope_spans[0]->scope = NULL;
    list[1]->resource = NULL;
    unit_event(list[1]->scope_spans[0]->spans[0], "alone");
    assert_true(es_format_zipkin.encode(&data, &body));
    unit_assert_json(
        es_str(body.data, body.size),
        "[{\"traceId\":\"fff92f3577b34da6a3ce929d0e0e4736\",\"id\":\"00f067aa0ba902b7\","
        "\"name\":\"1\",\"kind\":\"SERVER\",\"timestamp\":1700000000000001,\"duration\":1234,"
        "\"localEndpoint\":{\"serviceName\":\"a\"},\"tags\":{" TAGS "}},"
        "{\"traceId\":\"fff92f3577b34da6a3ce929d0e0e4736\",\"id\":\"00f067aa0ba902b7\","
        "\"name\":\"2\",\"timestamp\":1700000000000001,\"duration\":1234,"
        "\"localEndpoint\":{\"serviceName\":\"unknown_service\"},"
        "\"annotations\":[{\"timestamp\":1700000000000006,\"value\":\"alone\"}]}]");
    free(body.data);
}

static void
answers(void **state)
{
    es_result_t result = {.message = ""};

    (void) state;
    es_format_zipkin.read_answer(ES_STR("ok"), true, &result);
    unit_assert_str(es_cstr(result.message), "");
    es_format_zipkin.read_answer(ES_STR("Cannot decode spans"), false, &result);
    unit_assert_str(es_cstr(result.message), "Cannot decode spans");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(server, unit_otlp_free),
        cmocka_unit_test_teardown(values, unit_otlp_free),
        cmocka_unit_test_teardown(client, unit_otlp_free),
        cmocka_unit_test_teardown(remote, unit_otlp_free),
        cmocka_unit_test_teardown(remote_by_old_names, unit_otlp_free),
        cmocka_unit_test_teardown(error_tag, unit_otlp_free),
        cmocka_unit_test_teardown(several, unit_otlp_free),
        cmocka_unit_test(answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
