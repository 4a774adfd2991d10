/* The span writer: what it writes of a span, and where it cuts. */

#include "unit_span.h"

/* The span of conformance vector K, made with protoc, without its array
 * attribute: that is the one which is dropped here. */
static void
golden(void **state)
{
    static const char expected[] =
        "0a104bf92f3577b34da6a3ce929d0e0e4736120800f067aa0ba902b71a076f743d74683a302208b7ad6b7169"
        "2033312a0347455430023900002a36fe9c97174140423936fe9c97174a200a19687474702e726573706f6e73"
        "652e7374617475735f636f6465120318c80150017a05120165180285010303"
        "0000";
    es_span_t span = plain_span();
    es_span_writer_t writer;
    uint8_t buffer[LEAST];
    char hex[2 * sizeof(buffer) + 1];
    es_str_t bytes;

    (void) state;
    es_span_begin(&writer, buffer, sizeof(buffer), &span);
    es_span_int(&writer, ES_STR("http.response.status_code"), 200);
    es_span_string(&writer, ES_STR_NONE, ES_STR("dropped"));
    bytes = es_span_end(&writer, ES_STATUS_ERROR, ES_STR("e"));

    es_hex(hex, (const uint8_t *) bytes.data, bytes.len);
    hex[2 * bytes.len] = '\0';
    assert_string_equal(hex, expected);
}

/* Lower ones than ours, on the fast way and on the other. */
static void
lowered_limits(void **state)
{
    static const es_span_limits_t low = {
        .count = {3, 1, 0}, .item_attributes = {0, 1, 0}, .value = 4};
    static const es_key_t key = ES_KEY("a.key");
    es_span_t span = plain_span();
    es_span_writer_t writer;
    uint8_t buffer[LEAST];
    EsOtlp__Span *m;

    (void) state;
    span.limits = &low;
    es_span_begin(&writer, buffer, sizeof(buffer), &span);
    es_span_key_string(&writer, &key, ES_STR("short"));
    es_span_string(&writer, ES_STR("b"), ES_STR("\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f!"));
    es_span_key_int(&writer, &key, 12345);
    es_span_key_int(&writer, &key, 4);
    es_span_string(&writer, ES_STR("c"), ES_STR("c"));
    for (int i = 0; i < 3; i++) {
        es_span_event(&writer, ES_STR("event"), 1);
        es_span_int(&writer, ES_STR("one"), 1);
        es_span_int(&writer, ES_STR("two"), 2);
    }
    es_span_link(&writer, &(es_span_context_t){.trace_id = {1}, .span_id = {1}}, false);

    m = unpack(es_span_end(&writer, ES_STATUS_UNSET, ES_STR_NONE));
    assert_int_equal(m->n_attributes, 3);
    assert_int_equal(m->dropped_attributes_count, 2);
    assert_string_equal(m->attributes[0]->value->string_value, "shor");
    assert_string_equal(m->attributes[1]->value->string_value, "\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f");
    assert_int_equal(m->attributes[2]->value->int_value, 12345);
    assert_int_equal(m->n_events, 1);
    assert_int_equal(m->dropped_events_count, 2);
    assert_int_equal(m->events[0]->n_attributes, 1);
    assert_int_equal(m->events[0]->dropped_attributes_count, 1);
    assert_int_equal(m->n_links, 0);
    assert_int_equal(m->dropped_links_count, 1);
    es_otlp__span__free_unpacked(m, NULL);
}

static void
limits(void **state)
{
    es_span_t span = plain_span();
    es_span_context_t context = {.trace_id = {1}, .span_id = {2}};
    static uint8_t buffer[ES_SPAN_SIZE_MAX];
    es_span_writer_t writer;
    EsOtlp__Span *decoded;
    char key[16];

    (void) state;
    es_span_begin(&writer, buffer, sizeof(buffer), &span);
    for (int i = 0; i < 130; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        es_span_int(&writer, es_cstr(key), i);
    }
    for (int i = 0; i < 131; i++) {
        es_span_event(&writer, ES_STR("e"), 1);
        if (i == 0 || i == 130) {
            for (int k = 0; k < 133; k++) {
                es_span_bool(&writer, ES_STR("b"), true);
            }
        }
    }
    for (int i = 0; i < 132; i++) {
        es_span_link(&writer, &context, true);
        if (i == 1 || i == 131) {
            for (int k = 0; k < 134; k++) {
                es_span_bool(&writer, ES_STR("b"), true);
            }
        }
    }
    decoded = unpack(es_span_end(&writer, ES_STATUS_UNSET, ES_STR_NONE));

    assert_int_equal(decoded->n_attributes, 128);
    assert_int_equal(decoded->dropped_attributes_count, 2);
    assert_string_equal(decoded->attributes[127]->key, "k127");
    assert_int_equal(decoded->n_events, 128);
    assert_int_equal(decoded->dropped_events_count, 3);
    assert_int_equal(decoded->events[0]->n_attributes, 128);
    assert_int_equal(decoded->events[0]->dropped_attributes_count, 5);
    assert_int_equal(decoded->events[127]->n_attributes, 0);
    assert_int_equal(decoded->n_links, 128);
    assert_int_equal(decoded->dropped_links_count, 4);
    assert_int_equal(decoded->links[1]->n_attributes, 128);
    assert_int_equal(decoded->links[1]->dropped_attributes_count, 6);
    assert_int_equal(decoded->links[127]->n_attributes, 0);
    es_otlp__span__free_unpacked(decoded, NULL);
}

static void
value_length(void **state)
{
    static char ascii[5000], wide[3 * 5000], bad[5000];
    static uint8_t buffer[ES_SPAN_SIZE_MAX];
    es_span_t span = plain_span();
    es_span_writer_t writer;
    EsOtlp__Span *decoded;

    (void) state;
    memset(ascii, 'x', sizeof(ascii));
    memset(bad, 0xff, sizeof(bad));
    for (size_t i = 0; i < sizeof(wide); i += 3) {
        memcpy(wide + i, "\xe2\x82\xac", 3);
    }
    es_span_begin(&writer, buffer, sizeof(buffer), &span);
    es_span_string(&writer, ES_STR("most"), es_str(ascii, 4096));
    es_span_string(&writer, ES_STR("more"), es_str(ascii, 4097));
    es_span_string(&writer, ES_STR("wide"), es_str(wide, sizeof(wide)));
    es_span_string(&writer, ES_STR("bad"), es_str(bad, 100));
    es_span_string(&writer, ES_STR("empty"), ES_STR_NONE);
    decoded = unpack(es_span_end(&writer, ES_STATUS_UNSET, ES_STR_NONE));

    assert_int_equal(decoded->n_attributes, 5);
    assert_int_equal(strlen(decoded->attributes[0]->value->string_value), 4096);
    assert_int_equal(strlen(decoded->attributes[1]->value->string_value), 4096);
    assert_int_equal(strlen(decoded->attributes[2]->value->string_value), 3 * 4096);
    assert_int_equal(strlen(decoded->attributes[3]->value->string_value), 300);
    assert_true(unit_utf8_valid(es_cstr(decoded->attributes[3]->value->string_value)));
    assert_int_equal(decoded->attributes[4]->value->value_case,
                     ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE);
    assert_int_equal(strlen(decoded->attributes[4]->value->string_value), 0);
    assert_int_equal(decoded->dropped_attributes_count, 0);
    es_otlp__span__free_unpacked(decoded, NULL);

    /* As a name, an event's name and a message. */
    span.name = es_str(wide, sizeof(wide));
    es_span_begin(&writer, buffer, sizeof(buffer), &span);
    es_span_event(&writer, es_str(bad, 300), 1);
    decoded = unpack(es_span_end(&writer, ES_STATUS_ERROR, es_str(wide, sizeof(wide))));
    assert_int_equal(strlen(decoded->name), 3 * NAME_CHARACTERS);
    assert_int_equal(strlen(decoded->events[0]->name), 3 * NAME_CHARACTERS);
    assert_int_equal(strlen(decoded->status->message), 3 * MESSAGE_CHARACTERS);
    es_otlp__span__free_unpacked(decoded, NULL);
}

/* The fast way for known keys, at the lengths where it begins and ends. */
static void
known_keys(void **state)
{
    static const es_key_t shortest = ES_KEY("k");
    static const es_key_t longest = ES_KEY("k.2345678901234567890123456789012345.8");
    static const int64_t numbers[] = {0,        1,        127, 128,       16383,    16384,
                                      0x1fffff, 0x200000, -1,  INT64_MIN, INT64_MAX};
    char value[200];
    uint8_t fast[LEAST], slow[LEAST];
    es_span_t span = plain_span();
    es_span_writer_t f, s;

    (void) state;
    for (unsigned k = 0; k < 2; k++) {
        const es_key_t *key = k == 0 ? &shortest : &longest;

        for (size_t len = 0; len < sizeof(value); len++) {
            for (size_t wide = 0; wide <= len; wide++) { /* at `wide` unless at the end */
                es_str_t a, b;

                memset(value, 'x', sizeof(value));
                value[wide] = (char) 0xff;
                es_span_begin(&f, fast, sizeof(fast), &span);
                es_span_begin(&s, slow, sizeof(slow), &span);
                es_span_key_string(&f, key, es_str(value, len));
                es_span_string(&s, es_key_str(key), es_str(value, len));
                a = es_span_end(&f, ES_STATUS_UNSET, ES_STR_NONE);
                b = es_span_end(&s, ES_STATUS_UNSET, ES_STR_NONE);
                assert_int_equal(a.len, b.len);
                assert_memory_equal(a.data, b.data, a.len);
            }
        }
        for (size_t i = 0; i < UNIT_COUNT(numbers); i++) {
            es_str_t a, b;

            es_span_begin(&f, fast, sizeof(fast), &span);
            es_span_begin(&s, slow, sizeof(slow), &span);
            es_span_key_int(&f, key, numbers[i]);
            es_span_int(&s, es_key_str(key), numbers[i]);
            a = es_span_end(&f, ES_STATUS_UNSET, ES_STR_NONE);
            b = es_span_end(&s, ES_STATUS_UNSET, ES_STR_NONE);
            assert_int_equal(a.len, b.len);
            assert_memory_equal(a.data, b.data, a.len);
        }
    }
}

static void
status(void **state)
{
    static uint8_t buffer[LEAST];
    es_span_t span = plain_span();
    es_span_writer_t writer;

    (void) state;
    for (es_status_code_t code = ES_STATUS_UNSET; code <= ES_STATUS_ERROR; code++) {
        EsOtlp__Span *decoded;

        es_span_begin(&writer, buffer, sizeof(buffer), &span);
        decoded = unpack(es_span_end(&writer, code, ES_STR("why")));
        if (code == ES_STATUS_UNSET) {
            assert_null(decoded->status);
        } else {
            assert_int_equal(decoded->status->code, code);
            assert_string_equal(decoded->status->message, code == ES_STATUS_ERROR ? "why" : "");
        }
        es_otlp__span__free_unpacked(decoded, NULL);
    }
}

/* What comes too late is left out, and goes nowhere else. */
static void
out_of_order(void **state)
{
    static uint8_t buffer[4096];
    es_span_t span = plain_span();
    es_span_context_t context = {.trace_id = {1}, .span_id = {2}};
    es_span_writer_t writer;
    EsOtlp__Span *decoded;

    (void) state;
    es_span_begin(&writer, buffer, sizeof(buffer), &span);
    es_span_int(&writer, ES_STR("span"), 1);
    es_span_link(&writer, &context, false);
    es_span_int(&writer, ES_STR("link"), 1);
    es_span_event(&writer, ES_STR("late"), 1);
    es_span_int(&writer, ES_STR("of the late event"), 1);
    decoded = unpack(es_span_end(&writer, ES_STATUS_UNSET, ES_STR_NONE));

    assert_int_equal(decoded->n_attributes, 1);
    assert_int_equal(decoded->n_events, 0);
    assert_int_equal(decoded->n_links, 1);
    assert_int_equal(decoded->links[0]->n_attributes, 1);
    assert_string_equal(decoded->links[0]->attributes[0]->key, "link");
    es_otlp__span__free_unpacked(decoded, NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),         cmocka_unit_test(known_keys),   cmocka_unit_test(limits),
        cmocka_unit_test(lowered_limits), cmocka_unit_test(value_length), cmocka_unit_test(status),
        cmocka_unit_test(out_of_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
