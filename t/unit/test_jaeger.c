/* The bytes of a Batch, as jaeger.thrift and Thrift's binary protocol have them. */

#define _GNU_SOURCE /* memmem */

#include "unit_otlp.h"

/* ------------------------------------------------------- thrift, by hand --- */

static char wanted[65536];
static size_t wanted_len;

static void
raw(const void *bytes, size_t len)
{
    assert_true(wanted_len + len <= sizeof(wanted));
    memcpy(wanted + wanted_len, bytes, len);
    wanted_len += len;
}

#define RAW(literal) raw(literal, sizeof(literal) - 1)

static void
text(const char *s)
{
    size_t len = strlen(s);
    char size[] = {0, 0, (char) (len >> 8), (char) len};

    raw(size, 4);
    raw(s, len);
}

/* A tag whose value is a field of these bytes. */
#define TAG(key, type, field) \
    (RAW("\x0b\x00\x01"), text(key), RAW("\x08\x00\x02\x00\x00\x00" type field "\x00"))

static void
string_tag(const char *key, const char *value)
{
    RAW("\x0b\x00\x01");
    text(key);
    RAW("\x08\x00\x02\x00\x00\x00\x00\x0b\x00\x03");
    text(value);
    RAW("\x00");
}

static void
process(const char *service)
{
    wanted_len = 0;
    RAW("\x0c\x00\x01"
        "\x0b\x00\x01");
    text(service);
    RAW("\x0f\x00\x02\x0c\x00\x00\x00\x01");
    string_tag("service.namespace", "ns");
    RAW("\x00");
}

static void
ids(const char *parent)
{
    RAW("\x0a\x00\x01\xa3\xce\x92\x9d\x0e\x0e\x47\x36"
        "\x0a\x00\x02\xff\xf9\x2f\x35\x77\xb3\x4d\xa6"
        "\x0a\x00\x03\x00\xf0\x67\xaa\x0b\xa9\x02\xb7"
        "\x0a\x00\x04");
    raw(parent, 8);
}

/* 1700000000000001 and 1234 microseconds. */
static void
times(void)
{
    RAW("\x08\x00\x07\x00\x00\x00\x01"
        "\x0a\x00\x08\x00\x06\x0a\x24\x18\x1e\x40\x01"
        "\x0a\x00\x09\x00\x00\x00\x00\x00\x00\x04\xd2");
}

static void
scope_tags(void)
{
    string_tag("otel.scope.name", "edgespan");
    string_tag("otel.scope.version", "1");
    string_tag("otel.library.name", "edgespan");
    string_tag("otel.library.version", "1");
}

static void
assert_wanted(es_str_t body)
{
    for (size_t i = 0; i < body.len && i < wanted_len; i++) {
        if (body.data[i] != wanted[i]) {
            fail_msg("byte %zu is 0x%02x, not 0x%02x; before it: %.*s", i, (uint8_t) body.data[i],
                     (uint8_t) wanted[i], i < 40 ? (int) i : 40, body.data + (i < 40 ? 0 : i - 40));
        }
    }
    assert_int_equal(body.len, wanted_len);
}

/* ----------------------------------------------------------------- tests --- */

static void
root(void **state)
{
    EsOtlp__Span *span = unit_span("GET /", ES_KIND_SERVER);

    (void) state;
    process("shop");
    RAW("\x0f\x00\x02\x0c\x00\x00\x00\x01");
    ids("\0\0\0\0\0\0\0\0");
    RAW("\x0b\x00\x05");
    text("GET /");
    times();
    RAW("\x0f\x00\x0a\x0c\x00\x00\x00\x05");
    string_tag("span.kind", "server");
    scope_tags();
    RAW("\x00\x00");
    assert_wanted(unit_encode(&es_format_jaeger, span));
}

static void
values(void **state)
{
    EsOtlp__Span *span = unit_span("n", ES_KIND_INTERNAL);

    (void) state;
    UNIT_ATTRIBUTES(span, unit_attribute("s", unit_string("\xc3\xbc\xf0\x9f\x98\x80")),
                    unit_attribute("empty", unit_string("")), unit_attribute("i", unit_int(-2)),
                    unit_attribute("d", unit_double(-1.5)), unit_attribute("t", unit_bool(true)),
                    unit_attribute("f", unit_bool(false)),
                    unit_attribute("b", unit_bytes("\xff\x00", 2)),
                    unit_attribute("none", unit_any(ES_OTLP__ANY_VALUE__VALUE__NOT_SET)),
                    unit_attribute("a", UNIT_ARRAY(unit_string("x"), unit_int(1))));
    process("shop");
    RAW("\x0f\x00\x02\x0c\x00\x00\x00\x01");
    ids("\0\0\0\0\0\0\0\0");
    RAW("\x0b\x00\x05");
    text("n");
    times();
    RAW("\x0f\x00\x0a\x0c\x00\x00\x00\x0d");
    string_tag("s", "\xc3\xbc\xf0\x9f\x98\x80");
    string_tag("empty", "");
    TAG("i", "\x03", "\x0a\x00\x06\xff\xff\xff\xff\xff\xff\xff\xfe");
    TAG("d", "\x01", "\x04\x00\x04\xbf\xf8\x00\x00\x00\x00\x00\x00");
    TAG("t", "\x02", "\x02\x00\x05\x01");
    TAG("f", "\x02", "\x02\x00\x05\x00");
    TAG("b", "\x04", "\x0b\x00\x07\x00\x00\x00\x02\xff\x00");
    string_tag("none", "");
    string_tag("a", "[\"x\",1]");
    scope_tags();
    RAW("\x00\x00");
    assert_wanted(unit_encode(&es_format_jaeger, span));
}

static void
client(void **state)
{
    EsOtlp__Span *span = unit_span("GET", ES_KIND_CLIENT);
    EsOtlp__Event *event = unit_event(span, "try");

    (void) state;
    unit_parent(span);
    unit_status(span, 2, "boom");
    unit_link(span);
    span->trace_state = UNIT_TEXT("a=b");
    span->dropped_links_count = 7;
    UNIT_ATTRIBUTES(event, unit_attribute("k", unit_string("v")));
    process("shop");
    RAW("\x0f\x00\x02\x0c\x00\x00\x00\x01");
    ids("\xb7\xad\x6b\x71\x69\x20\x33\x31");
    RAW("\x0b\x00\x05");
    text("GET");
    RAW("\x0f\x00\x06\x0c\x00\x00\x00\x01"
        "\x08\x00\x01\x00\x00\x00\x01"
        "\x0a\x00\x02\xa3\xce\x92\x9d\x0e\x0e\x47\x36"
        "\x0a\x00\x03\xff\xf9\x2f\x35\x77\xb3\x4d\xa6"
        "\x0a\x00\x04\xb7\xad\x6b\x71\x69\x20\x33\x31"
        "\x00");
    times();
    RAW("\x0f\x00\x0a\x0c\x00\x00\x00\x0a");
    string_tag("span.kind", "client");
    scope_tags();
    string_tag("w3c.tracestate", "a=b");
    string_tag("otel.status_code", "ERROR");
    TAG("otel.dropped_links_count", "\x03", "\x0a\x00\x06\x00\x00\x00\x00\x00\x00\x00\x07");
    TAG("error", "\x02", "\x02\x00\x05\x01");
    string_tag("otel.status_description", "boom");
    RAW("\x0f\x00\x0b\x0c\x00\x00\x00\x01"
        "\x0a\x00\x01\x00\x06\x0a\x24\x18\x1e\x40\x06"
        "\x0f\x00\x02\x0c\x00\x00\x00\x02");
    string_tag("event", "try");
    string_tag("k", "v");
    RAW("\x00\x00\x00");
    assert_wanted(unit_encode(&es_format_jaeger, span));
}

/* An attribute "event" goes before the event's name. */
static void
event_attribute(void **state)
{
    EsOtlp__Span *span = unit_span("GET", ES_KIND_INTERNAL);
    EsOtlp__Event *event = unit_event(span, "name");

    (void) state;
    UNIT_ATTRIBUTES(event, unit_attribute("event", unit_string("attribute")));
    process("shop");
    RAW("\x0f\x00\x02\x0c\x00\x00\x00\x01");
    ids("\0\0\0\0\0\0\0\0");
    RAW("\x0b\x00\x05");
    text("GET");
    times();
    RAW("\x0f\x00\x0a\x0c\x00\x00\x00\x04");
    scope_tags();
    RAW("\x0f\x00\x0b\x0c\x00\x00\x00\x01"
        "\x0a\x00\x01\x00\x06\x0a\x24\x18\x1e\x40\x06"
        "\x0f\x00\x02\x0c\x00\x00\x00\x01");
    string_tag("event", "attribute");
    RAW("\x00\x00\x00");
    assert_wanted(unit_encode(&es_format_jaeger, span));
}

/* No batch of ours is like this: still nothing of it is lost. */
static void
two_resources(void **state)
{
    EsOtlp__ResourceSpans *list[] = {unit_resource_spans("a", unit_span("1", ES_KIND_INTERNAL)),
                                     unit_resource_spans("b", unit_span("2", ES_KIND_INTERNAL))};
    EsOtlp__TracesData data = unit_traces(list, 2);
    es_buffer_t body = {NULL, 0};

    (void) state;
    process("a");
    RAW("\x0f\x00\x02\x0c\x00\x00\x00\x02");
    ids("\0\0\0\0\0\0\0\0");
    RAW("\x0b\x00\x05");
    text("1");
    times();
    RAW("\x0f\x00\x0a\x0c\x00\x00\x00\x04");
    scope_tags();
    RAW("\x00");
    ids("\0\0\0\0\0\0\0\0");
    RAW("\x0b\x00\x05");
    text("2");
    times();
    RAW("\x0f\x00\x0a\x0c\x00\x00\x00\x06");
    string_tag("service.name", "b");
    string_tag("service.namespace", "ns");
    scope_tags();
    RAW("\x00\x00");
    assert_true(es_format_jaeger.encode(&data, &body));
    assert_wanted(es_str(body.data, body.size));
    free(body.data);
}

/* Larger than what the buffer begins with, by one byte more each time. */
static void
growth(void **state)
{
    static char name[20000];
    size_t least = 0;

    (void) state;
    for (size_t len = 3500; len < sizeof(name) - 1; len += len < 4500 ? 1 : 997) {
        es_str_t body;

        memset(name, 'x', len);
        name[len] = '\0';
        body = unit_encode(&es_format_jaeger, unit_span(name, ES_KIND_SERVER));
        least = least != 0 ? least : body.len - len;
        assert_int_equal(body.len, least + len);
        assert_non_null(memmem(body.data, body.len, name, len));
        unit_otlp_free(NULL);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(root, unit_otlp_free),
        cmocka_unit_test_teardown(values, unit_otlp_free),
        cmocka_unit_test_teardown(client, unit_otlp_free),
        cmocka_unit_test_teardown(event_attribute, unit_otlp_free),
        cmocka_unit_test_teardown(two_resources, unit_otlp_free),
        cmocka_unit_test_teardown(growth, unit_otlp_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
