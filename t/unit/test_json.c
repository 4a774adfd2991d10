/* OTLP as JSON, and a collector's answers in it. */

#include "unit_json.h"
#include "unit_otlp.h"

#include <math.h>

static void
span(void **state)
{
    EsOtlp__Span *span = unit_span("GET /", ES_KIND_SERVER);
    EsOtlp__Event *event = unit_event(span, "try");

    (void) state;
    unit_parent(span);
    unit_status(span, 2, "e");
    unit_link(span);
    span->trace_state = UNIT_TEXT("a=b");
    span->flags = 0x303;
    span->dropped_attributes_count = 1;
    UNIT_ATTRIBUTES(span, unit_attribute("s", unit_string("\xc3\xbc\"\\\n\xf0\x9f\x98\x80")),
                    unit_attribute("empty", unit_string("")),
                    unit_attribute("i", unit_int(INT64_MIN)), unit_attribute("zero", unit_int(0)),
                    unit_attribute("d", unit_double(0.5)), unit_attribute("nan", unit_double(NAN)),
                    unit_attribute("inf", unit_double(INFINITY)),
                    unit_attribute("f", unit_bool(false)),
                    unit_attribute("b", unit_bytes("\xff\xfe and more than an id takes", 29)),
                    unit_attribute("a", UNIT_ARRAY(unit_string("x"), unit_int(1))));
    UNIT_ATTRIBUTES(event, unit_attribute("t", unit_bool(true)));
    unit_assert_json(
        unit_encode(&es_format_otlp_json, span),
        "{\"resourceSpans\":[{\"resource\":{\"attributes\":["
        "{\"key\":\"service.name\",\"value\":{\"stringValue\":\"shop\"}},"
        "{\"key\":\"service.namespace\",\"value\":{\"stringValue\":\"ns\"}}]},"
        "\"scopeSpans\":[{\"scope\":{\"name\":\"edgespan\",\"version\":\"1\"},\"spans\":[{"
        "\"traceId\":\"fff92f3577b34da6a3ce929d0e0e4736\",\"spanId\":\"00f067aa0ba902b7\","
        "\"traceState\":\"a=b\",\"parentSpanId\":\"b7ad6b7169203331\",\"name\":\"GET /\","
        "\"kind\":2,\"startTimeUnixNano\":\"1700000000000001234\","
        "\"endTimeUnixNano\":\"1700000000001235801\",\"attributes\":["
        "{\"key\":\"s\",\"value\":{\"stringValue\":\"\xc3\xbc\\\"\\\\\\n\xf0\x9f\x98\x80\"}},"
        "{\"key\":\"empty\",\"value\":{\"stringValue\":\"\"}},"
        "{\"key\":\"i\",\"value\":{\"intValue\":\"-9223372036854775808\"}},"
        "{\"key\":\"zero\",\"value\":{\"intValue\":\"0\"}},"
        "{\"key\":\"d\",\"value\":{\"doubleValue\":0.5}},"
        "{\"key\":\"nan\",\"value\":{\"doubleValue\":\"NaN\"}},"
        "{\"key\":\"inf\",\"value\":{\"doubleValue\":\"Infinity\"}},"
        "{\"key\":\"f\",\"value\":{\"boolValue\":false}},"
        "{\"key\":\"b\",\"value\":{\"bytesValue\":\"//4gYW5kIG1vcmUgdGhhbiBhbiBpZCB0YWtlcwA=\"}},"
        "{\"key\":\"a\",\"value\":{\"arrayValue\":{\"values\":[{\"stringValue\":\"x\"},"
        "{\"intValue\":\"1\"}]}}}],\"droppedAttributesCount\":1,"
        "\"events\":[{\"timeUnixNano\":\"1700000000000006234\",\"name\":\"try\",\"attributes\":["
        "{\"key\":\"t\",\"value\":{\"boolValue\":true}}]}],"
        "\"links\":[{\"traceId\":\"fff92f3577b34da6a3ce929d0e0e4736\","
        "\"spanId\":\"b7ad6b7169203331\"}],"
        "\"status\":{\"message\":\"e\",\"code\":2},\"flags\":771}]}]}]}");
}

static void
answers(void **state)
{
    static const struct {
        const char *body;
        bool ok;
        uint64_t rejected;
        const char *message;
    } cases[] = {
        {"{}", true, 0, ""},
        {"", true, 0, ""},
        {"<html>", true, 0, ""},
        {"[1]", true, 0, ""},
        {"{\"partialSuccess\":{}}", true, 0, ""},
        {"{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"x\"}}", true, 3, "x"},
        {"{\"partialSuccess\":{\"rejectedSpans\":3}}", true, 3, ""},
        {"{\"partialSuccess\":{\"rejectedSpans\":\"0\",\"errorMessage\":\"slow\"}}", true, 0,
         "slow"},
        {"{\"partialSuccess\":{\"rejectedSpans\":\"-1\"}}", true, 0, ""},
        {"{\"partialSuccess\":{\"rejectedSpans\":-1}}", true, 0, ""},
        {"{\"partialSuccess\":{\"rejectedSpans\":\"many\"}}", true, 0, ""},
        {"{\"partialSuccess\":{\"rejectedSpans\":null,\"errorMessage\":7}}", true, 0, ""},
        {"{\"code\":3,\"message\":\"bad\"}", false, 0, "bad"},
        {"{\"partialSuccess\":{\"rejectedSpans\":\"3\"}}", false, 0, ""},
        {"Bad Gateway", false, 0, ""},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        es_str_t body = unit_exact(es_cstr(cases[i].body));
        es_result_t result = {.outcome = ES_DELIVERED};

        es_format_otlp_json.read_answer(body, cases[i].ok, &result);
        assert_int_equal(result.rejected, cases[i].rejected);
        unit_assert_str(es_cstr(result.message), cases[i].message);
        unit_free(body);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(span, unit_otlp_free),
        cmocka_unit_test(answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
