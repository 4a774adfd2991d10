/* What directives say about propagation, whom to believe, and what a client is told. */

#include "unit_propagation.h"

#define T "80f198ee56343ba864fe8b2a57d3eff7"
#define P "e457b5a2e4d86bd1"
#define ALL "tracecontext baggage b3 b3multi jaeger xray"

static const es_propagation_t nothing_said;

/* ------------------------------------------------------------ directives --- */

/* "b3 jaeger; a b": the propagators and the keys that pass, "*" for all. */
static const char *
text_of(const es_propagation_t *propagation)
{
    static char text[256];
    size_t at = 0;

    text[0] = '\0';
    for (unsigned i = 0; i < propagation->count; i++) {
        at += (size_t) snprintf(text + at, sizeof(text) - at, "%s ",
                                es_propagators[propagation->propagators[i]]->name);
    }
    at += (size_t) snprintf(text + at, sizeof(text) - at, ";%s",
                            propagation->allow_given ? "" : " *");
    for (unsigned i = 0; i < propagation->allow.count; i++) {
        at += (size_t) snprintf(text + at, sizeof(text) - at, " %.*s",
                                (int) propagation->allow.names[i].len,
                                propagation->allow.names[i].data);
    }
    return text;
}

static void
set(void **state)
{
    static const struct {
        const char *words, *text, *error;
    } rows[] = {
        {"tracecontext", "tracecontext ; *", NULL},
        {ALL, ALL " ; *", NULL},
        {"xray B3Multi", "xray b3multi ; *", NULL},
        {"b3 jaeger b3", "b3 jaeger ; *", NULL},
        {"none", "; *", NULL},
        {"b3 none", NULL, "\"none\" stands alone, without other names"},
        {"none none", NULL, "\"none\" stands alone, without other names"},
        {"b3 w3c", NULL,
         "unknown propagator \"w3c\": there are \"tracecontext\", \"baggage\", \"b3\", "
         "\"b3multi\", \"jaeger\", \"xray\", \"none\""},
        {"tracecontext,baggage", NULL, "unknown propagator \"tracecontext,baggage\": there are "},
    };
    es_str_t words[8];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_propagation_t propagation = nothing_said;
        unsigned count = unit_words(rows[i].words, words, UNIT_COUNT(words));
        es_error_t error = {""};

        assert_int_equal(es_propagation_set(&propagation, words, count, &error),
                         rows[i].error == NULL);
        if (rows[i].error == NULL) {
            assert_true(propagation.given);
            assert_string_equal(text_of(&propagation), rows[i].text);
        } else {
            assert_memory_equal(error.text, rows[i].error, strlen(rows[i].error));
            assert_memory_equal(&propagation, &nothing_said, sizeof(propagation));
        }
    }
}

static void
allow(void **state)
{
    static const struct {
        const char *words, *text, *error;
    } rows[] = {
        {"tenant userId", "; tenant userId", NULL},
        {"!#$%&'*+-.^_`|~0aZ", "; !#$%&'*+-.^_`|~0aZ", NULL},
        {"none", ";", NULL},
        {"a none", NULL, "\"none\" stands alone, without other names"},
        {"a b=c", NULL,
         "\"b=c\" is no key of baggage: it takes letters, digits and !#$%&'*+-.^_`|~"},
        {"\xc3\xa4", NULL, "\"\xc3\xa4\" is no key of baggage"},
    };
    es_str_t words[8];
    es_error_t error = {""};

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_propagation_t propagation = nothing_said;
        unsigned count = unit_words(rows[i].words, words, UNIT_COUNT(words));

        assert_int_equal(es_propagation_allow(&propagation, words, count, &error),
                         rows[i].error == NULL);
        if (rows[i].error == NULL) {
            assert_string_equal(text_of(&propagation), rows[i].text);
        } else {
            assert_memory_equal(error.text, rows[i].error, strlen(rows[i].error));
        }
    }
    assert_false(es_check_baggage_key(ES_STR(""), &error));
    assert_false(es_check_baggage_key(ES_STR("a b"), &error));
    assert_true(es_check_baggage_key(ES_STR("a.b"), &error));
}

/* Formats and filter come from different levels. */
static void
inherit(void **state)
{
    static const struct {
        const char *outer, *outer_allow, *inner, *inner_allow, *text;
    } rows[] = {
        {NULL, NULL, NULL, NULL, "; *"},           {"b3", "a", NULL, NULL, "b3 ; a"},
        {"b3", "a", "jaeger", NULL, "jaeger ; a"}, {"b3", "a", NULL, "c d", "b3 ; c d"},
        {"b3", "a", NULL, "none", "b3 ;"},         {"b3", "a", "none", "c", "; c"},
        {NULL, NULL, "xray", "c", "xray ; c"},     {"b3", NULL, "xray", NULL, "xray ; *"},
        {NULL, "a", "xray", NULL, "xray ; a"},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        const char *texts[2][2] = {{rows[i].outer, rows[i].outer_allow},
                                   {rows[i].inner, rows[i].inner_allow}};
        es_propagation_t levels[2] = {nothing_said, nothing_said}, expected = nothing_said;
        es_str_t words[2][8];
        es_error_t error;

        for (unsigned k = 0; k < 2; k++) {
            if (texts[k][0] != NULL) {
                levels[k] = unit_propagation(texts[k][0]);
                expected = levels[k];
            }
            if (texts[k][1] != NULL) {
                unsigned count = unit_words(texts[k][1], words[k], 8);

                assert_true(es_propagation_allow(&levels[k], words[k], count, &error));
            }
        }
        es_propagation_inherit(&levels[1], &levels[0]);
        assert_string_equal(text_of(&levels[1]), rows[i].text);
        assert_int_equal(levels[1].given, expected.given);
        assert_int_equal(levels[1].timed_ids, expected.timed_ids);
        assert_memory_equal(&levels[1].fields, &expected.fields, sizeof(expected.fields));
    }
}

static void
words(void **state)
{
    es_response_header_t header;
    es_error_t error;
    es_trust_t trust;

    (void) state;
    assert_true(es_parse_trust(ES_STR("on"), &trust, &error));
    assert_int_equal(trust, ES_TRUST_ON);
    assert_true(es_parse_trust(ES_STR("Off"), &trust, &error));
    assert_int_equal(trust, ES_TRUST_OFF);
    assert_true(es_parse_trust(ES_STR("link"), &trust, &error));
    assert_int_equal(trust, ES_TRUST_LINK);
    assert_false(es_parse_trust(ES_STR("1"), &trust, &error));
    assert_string_equal(error.text, "\"1\" is not \"on\", \"off\" or \"link\"");
    assert_false(es_parse_trust(ES_STR_NONE, &trust, &error));

    assert_true(es_parse_response_header(ES_STR("off"), &header, &error));
    assert_int_equal(header, ES_RESPONSE_NONE);
    assert_true(es_parse_response_header(ES_STR("traceresponse"), &header, &error));
    assert_int_equal(header, ES_RESPONSE_TRACERESPONSE);
    assert_true(es_parse_response_header(ES_STR("Server-Timing"), &header, &error));
    assert_int_equal(header, ES_RESPONSE_SERVER_TIMING);
    assert_false(es_parse_response_header(ES_STR("on"), &header, &error));
    assert_string_equal(error.text,
                        "\"on\" is not \"off\", \"traceresponse\" or \"server-timing\"");
}

/* ----------------------------------------------------------------- trust --- */

static const unit_field_t stranger[] = {
    {"traceparent", "00-" T "-" P "-01"},
    {"tracestate", "ot=th:0,bad=1"},
    {"baggage", "a=1"},
    {"b3", T "-" P "-d"},
};

static void
trust(void **state)
{
    static const struct {
        const char *propagators;
        es_trust_t trust;
        bool parent, link, baggage;
    } rows[] = {
        {"tracecontext baggage", ES_TRUST_ON, true, false, true},
        {"tracecontext baggage", ES_TRUST_OFF, false, false, false},
        {"tracecontext baggage", ES_TRUST_LINK, false, true, false},
        {"tracecontext", ES_TRUST_ON, true, false, false},
        {"b3", ES_TRUST_LINK, false, true, false},
        {"jaeger", ES_TRUST_LINK, false, false, false},
        {"none", ES_TRUST_LINK, false, false, false},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        const es_propagation_t propagation = unit_propagation(rows[i].propagators);
        char id[2 * ES_TRACE_ID_LEN + 1] = "", parent[2 * ES_TRACE_ID_LEN + 1] = "";
        es_trace_t trace;

        unit_release(NULL);
        trace = unit_join(&propagation, rows[i].trust, stranger, UNIT_COUNT(stranger));
        assert_int_equal(trace.trust, rows[i].trust);
        assert_int_equal(trace.has_parent, rows[i].parent);
        assert_int_equal(trace.has_link, rows[i].link);
        unit_assert_str(trace.baggage, rows[i].baggage ? "a=1" : "");

        es_hex(id, trace.span.trace_id, ES_TRACE_ID_LEN);
        assert_int_equal(strcmp(id, T) == 0, rows[i].parent);
        es_hex(parent, trace.parent.trace_id, ES_TRACE_ID_LEN);
        assert_int_equal(strcmp(parent, T) == 0, rows[i].parent || rows[i].link);
        unit_assert_str(trace.span.tracestate, rows[i].parent ? "ot=th:0,bad=1" : "");
        if (!rows[i].parent) {
            assert_int_equal(trace.wish, ES_WISH_NONE);
            assert_int_equal(trace.span.flags, ES_FLAG_RANDOM);
            assert_int_equal(trace.parent.tracestate.len, 0);
        }
    }
}

/* A trace without a span is nothing to link to, and nothing to believe. */
static void
trust_and_less(void **state)
{
    static const unit_field_t root = {"X-Amzn-Trace-Id",
                                      "Root=1-80f198ee-56343ba864fe8b2a57d3eff7"};
    static const unit_field_t wish = {"b3", "1"};
    const es_propagation_t propagation = unit_propagation("b3 xray");
    es_trace_t trace;

    (void) state;
    unit_release(NULL);
    trace = unit_join(&propagation, ES_TRUST_LINK, &root, 1);
    assert_false(trace.has_link);
    assert_memory_not_equal(trace.span.trace_id + 4, "\x56\x34\x3b\xa8", 4);
    trace = unit_join(&propagation, ES_TRUST_LINK, &wish, 1);
    assert_int_equal(trace.wish, ES_WISH_NONE);
    trace = unit_join(&propagation, ES_TRUST_OFF, &wish, 1);
    assert_int_equal(trace.wish, ES_WISH_NONE);
}

/* -------------------------------------------------------------- response --- */

static void
response(void **state)
{
    const unit_field_t field = {"traceparent", "00-" T "-" P "-03"};
    char text[ES_RESPONSE_TEXT], span[2 * ES_SPAN_ID_LEN + 1] = "", expected[ES_RESPONSE_TEXT];
    es_header_t header;
    es_trace_t trace;

    (void) state;
    unit_release(NULL);
    trace = unit_join(&nothing_said, ES_TRUST_ON, &field, 1);
    es_hex(span, trace.span.span_id, ES_SPAN_ID_LEN);

    header = es_trace_response(&trace, ES_RESPONSE_TRACERESPONSE, text);
    snprintf(expected, sizeof(expected), "00-" T "-%s-03", span);
    unit_assert_str(header.name, "traceresponse");
    unit_assert_str(header.value, expected);

    header = es_trace_response(&trace, ES_RESPONSE_SERVER_TIMING, text);
    snprintf(expected, sizeof(expected), "trace;desc=00-" T "-%s-03", span);
    unit_assert_str(header.name, "server-timing");
    unit_assert_str(header.value, expected);

    header = es_trace_response(&trace, ES_RESPONSE_NONE, text);
    assert_int_equal(header.name.len, 0);
    assert_int_equal(header.value.len, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set),      cmocka_unit_test(allow), cmocka_unit_test(inherit),
        cmocka_unit_test(words),    cmocka_unit_test(trust), cmocka_unit_test(trust_and_less),
        cmocka_unit_test(response),
    };

    return cmocka_run_group_tests(tests, NULL, unit_release);
}
