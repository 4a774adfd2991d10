/* traceparent: the vectors of the specification's own test suite
 * (w3c/trace-context, test/test.py), by the names they have there, and what it
 * does not cover. */

#include "unit_context.h"

#define TP(value)                \
    {                            \
        {                        \
            "traceparent", value \
        }                        \
    }

static const vector_t traceparents[] = {
    {"both_traceparent_and_tracestate_missing", false, "", {{NULL, NULL}}},
    {"traceparent_included_tracestate_missing", true, "", TP(B1)},
    {"traceparent_duplicated",
     false,
     "",
     {{"traceparent", "00-12345678901234567890123456789011-" P "-01"}, {"traceparent", B1}}},
    {"traceparent_duplicated, equal", false, "", {{"traceparent", B1}, {"traceparent", B1}}},
    {"traceparent_duplicated, joined by httpd", false, "", TP(B1 ", " B1)},
    {"traceparent_duplicated, joined, later version", false, "",
     TP("cc-" T "-" P "-01, cc-" T "-" P "-01")},
    {"traceparent_header_name", false, "", {{"trace-parent", B1}}},
    {"traceparent_header_name", false, "", {{"trace.parent", B1}}},
    {"traceparent_header_name", false, "", {{"traceparen", B1}}},
    {"traceparent_header_name_valid_casing", true, "", {{"TraceParent", B1}}},
    {"traceparent_header_name_valid_casing", true, "", {{"TrAcEpArEnT", B1}}},
    {"traceparent_header_name_valid_casing", true, "", {{"TRACEPARENT", B1}}},
    {"traceparent_version_0x00", false, "", TP(B1 ".")},
    {"traceparent_version_0x00", false, "", TP(B1 "-what-the-future-will-be-like")},
    {"traceparent_version_0x00", false, "", TP(B1 "-")},
    {"traceparent_version_0xcc", true, "", TP("cc-" T "-" P "-01")},
    {"traceparent_version_0xcc", true, "", TP("cc-" T "-" P "-01-what-the-future-will-be-like")},
    {"traceparent_version_0xcc", true, "", TP("cc-" T "-" P "-01-")},
    {"traceparent_version_0xcc", false, "", TP("cc-" T "-" P "-01.what-the-future-will-be-like")},
    {"version 01", true, "", TP("01-" T "-" P "-01")},
    {"version fe", true, "", TP("fe-" T "-" P "-01-x")},
    {"traceparent_version_0xff", false, "", TP("ff-" T "-" P "-01")},
    {"traceparent_version_0xff", false, "", TP("ff-" T "-" P "-01-x")},
    {"traceparent_version_illegal_characters", false, "", TP(".0-" T "-" P "-01")},
    {"traceparent_version_illegal_characters", false, "", TP("0.-" T "-" P "-01")},
    {"traceparent_version_too_long", false, "", TP("000-" T "-" P "-01")},
    {"traceparent_version_too_long", false, "", TP("0000-" T "-" P "-01")},
    {"traceparent_version_too_short", false, "", TP("0-" T "-" P "-01")},
    {"traceparent_trace_id_all_zero", false, "",
     TP("00-00000000000000000000000000000000-" P "-01")},
    {"traceparent_trace_id_illegal_characters", false, "",
     TP("00-.2345678901234567890123456789012-" P "-01")},
    {"traceparent_trace_id_illegal_characters", false, "",
     TP("00-1234567890123456789012345678901.-" P "-01")},
    {"traceparent_trace_id_too_long", false, "", TP("00-" T "3-" P "-01")},
    {"traceparent_trace_id_too_long, later version", false, "", TP("cc-" T "3-" P "-01")},
    {"traceparent_trace_id_too_short", false, "",
     TP("00-1234567890123456789012345678901-" P "-01")},
    {"traceparent_parent_id_all_zero", false, "", TP("00-" T "-0000000000000000-01")},
    {"traceparent_parent_id_illegal_characters", false, "", TP("00-" T "-.234567890123456-01")},
    {"traceparent_parent_id_illegal_characters", false, "", TP("00-" T "-123456789012345.-01")},
    {"traceparent_parent_id_too_long", false, "", TP("00-" T "-" P "7-01")},
    {"traceparent_parent_id_too_short", false, "", TP("00-" T "-123456789012345-01")},
    {"traceparent_trace_flags_illegal_characters", false, "", TP("00-" T "-" P "-.0")},
    {"traceparent_trace_flags_illegal_characters", false, "", TP("00-" T "-" P "-0.")},
    {"traceparent_trace_flags_too_long", false, "", TP("00-" T "-" P "-001")},
    {"traceparent_trace_flags_too_long, later version", false, "", TP("cc-" T "-" P "-001")},
    {"traceparent_trace_flags_too_short", false, "", TP("00-" T "-" P "-1")},
    {"traceparent_ows_handling", true, "", TP(" " B1)},
    {"traceparent_ows_handling", true, "", TP("\t" B1)},
    {"traceparent_ows_handling", true, "", TP(B1 " ")},
    {"traceparent_ows_handling", true, "", TP(B1 "\t")},
    {"traceparent_ows_handling", true, "", TP("\t " B1 " \t")},
    {"inner whitespace", false, "", TP("00 -" T "-" P "-01")},
    {"inner whitespace", false, "", TP("00-" T "- 123456789012345-01")},
    {"other separators", false, "", TP("00_" T "-" P "-01")},
    {"other separators", false, "", TP("00-" T "_" P "-01")},
    {"other separators", false, "", TP("00-" T "-" P "_01")},
    {"uppercase hex", false, "", TP("00-1234567890123456789012345678901A-" P "-01")},
    {"uppercase hex", false, "", TP("00-" T "-123456789012345F-01")},
    {"uppercase hex", false, "", TP("00-" T "-" P "-0A")},
    {"uppercase hex", false, "", TP("CC-" T "-" P "-01")},
    {"not hex", false, "", TP("00-1234567890123456789012345678901g-" P "-01")},
    {"not hex", false, "", TP("00-1234567890123456789012345678901/-" P "-01")},
    {"not hex", false, "", TP("00-1234567890123456789012345678901:-" P "-01")},
    {"not hex", false, "", TP("00-1234567890123456789012345678901`-" P "-01")},
    {"empty", false, "", TP("")},
    {"empty", false, "", TP(" \t ")},
    {"no trace id", false, "", TP("00--" P "-01")},
};

static void
traceparent_vectors(void **state)
{
    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(traceparents); i++) {
        check(&traceparents[i]);
    }
}

/* The same through the parser alone; and no prefix of a good one is good. */
static void
traceparent_parser(void **state)
{
    es_span_context_t context;

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(traceparents); i++) {
        const vector_t *v = &traceparents[i];

        if (v->fields[0].name != NULL && v->fields[1].name == NULL
            && strcmp(v->fields[0].name, "traceparent") == 0) {
            es_str_t value = unit_exact(es_cstr(v->fields[0].value));

            if (es_traceparent_parse(value, &context) != v->keep) {
                fail_msg("%s: \"%s\"", v->name, v->fields[0].value);
            }
            unit_free(value);
        }
    }
    for (size_t len = 0; len < ES_TRACEPARENT_LEN; len++) {
        es_str_t value = unit_exact(es_str(B1, len));

        assert_false(es_traceparent_parse(value, &context));
        unit_free(value);
    }
}

/* One wrong byte of any value at any place refuses it, or changes what it says. */
static void
traceparent_mutations(void **state)
{
    (void) state;
    for (size_t at = 0; at < ES_TRACEPARENT_LEN; at++) {
        for (unsigned c = 0; c < 256; c++) {
            char value[] = B1;
            bool dash = B1[at] == '-', hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
            es_span_context_t context;

            value[at] = (char) c;
            if (at < 2 && hex && (value[0] != '0' || value[1] != '0')) {
                hex = value[0] != 'f' || value[1] != 'f';
            }
            if (es_traceparent_parse(es_str(value, ES_TRACEPARENT_LEN), &context)
                != (dash ? c == '-' : hex)) {
                fail_msg("byte %zu is 0x%02x", at, c);
            }
        }
    }
}

/* Sampled and random come through as they are (propagates_random_flag), neither is
 * invented, and the reserved bits are not sent on. */
static void
flags(void **state)
{
    char value[] = B1;

    (void) state;
    for (unsigned all = 0; all < 256; all++) {
        const unit_field_t field = {"traceparent", value};
        es_trace_t trace;

        snprintf(value + ES_TRACEPARENT_LEN - 2, 3, "%02x", all);
        trace = joined(&field, 1);
        assert_true(trace.has_parent);
        assert_int_equal(trace.span.flags, all & 3);
        assert_int_equal(trace.wish, all & 1 ? ES_WISH_ACCEPT : ES_WISH_DENY);
        check_sent(&trace);
    }
}

/* multiple_requests_with_valid_traceparent, ..._without_traceparent and
 * ..._with_illegal_traceparent: one trace, each request with a parent of its own. */
static void
multiple_requests(void **state)
{
    static const char *const values[] = {B1, NULL, "00-00000000000000000000000000000000-" P "-01"};

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(values); i++) {
        const unit_field_t field = {values[i] != NULL ? "traceparent" : NULL, values[i]};
        es_trace_t trace = joined(&field, 1);
        es_header_t headers[3][ES_INJECT_MAX];
        uint8_t ids[3][ES_SPAN_ID_LEN];

        for (unsigned k = 0; k < 3; k++) {
            es_trace_new_span_id(&trace, ids[k]);
            assert_int_equal(es_trace_inject(&trace, ids[k], headers[k]), 1);
            for (unsigned j = 0; j < k; j++) {
                assert_memory_equal(headers[j][0].value.data, headers[k][0].value.data, 35);
                assert_memory_not_equal(headers[j][0].value.data + 36,
                                        headers[k][0].value.data + 36, 16);
            }
        }
        assert_int_equal(memcmp(headers[0][0].value.data, B1, 35) == 0, i == 0);
    }
}

static void
hex(void **state)
{
    uint8_t bytes[256], back[256];
    char out[2 + 2 * 256], expected[3];

    (void) state;
    for (unsigned i = 0; i < 256; i++) {
        bytes[i] = (uint8_t) i;
    }
    memset(out, '#', sizeof(out));
    es_hex(out + 1, bytes, sizeof(bytes));
    assert_true(out[0] == '#' && out[1 + 2 * 256] == '#');
    for (unsigned i = 0; i < 256; i++) {
        snprintf(expected, sizeof(expected), "%02x", i);
        assert_memory_equal(out + 1 + 2 * i, expected, 2);
    }
    assert_true(es_unhex(back, out + 1, sizeof(back)));
    assert_memory_equal(back, bytes, sizeof(bytes));
}

static void
format(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {B0, B0},
        {B1, B1},
        {"00-" T "-" P "-02", "00-" T "-" P "-02"},
        {"00-" T "-" P "-ff", "00-" T "-" P "-03"},
        {"00-" T "-" P "-fe", "00-" T "-" P "-02"},
        {"cc-" T "-" P "-01-what-the-future-will-be-like", B1},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
         "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"},
    };
    char out[ES_TRACEPARENT_LEN + 2];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_span_context_t context;

        assert_true(es_traceparent_parse(es_cstr(rows[i].in), &context));
        memset(out, '#', sizeof(out));
        es_traceparent_format(out + 1, context.trace_id, context.span_id, context.flags);
        assert_true(out[0] == '#' && out[ES_TRACEPARENT_LEN + 1] == '#');
        unit_assert_str(es_str(out + 1, ES_TRACEPARENT_LEN), rows[i].out);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traceparent_vectors),
        cmocka_unit_test(traceparent_parser),
        cmocka_unit_test(traceparent_mutations),
        cmocka_unit_test(flags),
        cmocka_unit_test(multiple_requests),
        cmocka_unit_test(hex),
        cmocka_unit_test(format),
    };

    return cmocka_run_group_tests(tests, NULL, unit_release);
}
