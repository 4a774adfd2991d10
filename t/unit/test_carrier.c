/* Which headers of a client are read, and which are kept from upstreams. */

#include "unit_propagation.h"

#define T "80f198ee56343ba864fe8b2a57d3eff7"
#define P "e457b5a2e4d86bd1"
#define ALL "tracecontext baggage b3 b3multi jaeger xray"

static const es_propagation_t nothing_said;

/* --------------------------------------------------------------- removed --- */

static const char *const known[] = {
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "x-b3-whatever",
    "uber-trace-id",
    "uberctx-user",
    "jaeger-baggage",
    "jaeger-debug-id",
    "x-amzn-trace-id",
    "ot-tracer-traceid",
    "ot-tracer-spanid",
    "ot-tracer-sampled",
    "ot-baggage-a",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-origin",
    "x-datadog-tags",
    "grpc-trace-bin",
    "x-cloud-trace-context",
    "sw8",
    "sw8-correlation",
    "sw8-x",
    "elastic-apm-traceparent",
    "sentry-trace",
    "newrelic",
};

static const char *const others[] = {
    "",
    "trace-parent",
    "traceparents",
    "traceparen",
    "b",
    "b33",
    "b4",
    "x-b3",
    "x-b4-sampled",
    "uber-trace",
    "jaeger",
    "baggages",
    "x-trace-id",
    "x-request-id",
    "x-datadogs",
    "sw7",
    "host",
    "x-amzn-trace-ids",
    "user-agent",
    "accept-encoding",
    "sec-fetch-dest",
    "traceparent ",
    "_traceparent",
};

/* "a-b" to "a_b": a CGI program cannot tell them apart. */
static es_str_t
underscored(const char *name, char *text)
{
    size_t i;

    for (i = 0; name[i] != '\0'; i++) {
        text[i] = (char) (name[i] == '-' ? '_' : name[i]);
    }
    return es_str(text, i);
}

/* "a-b" to "A-B". */
static es_str_t
upper(const char *name, char *text)
{
    size_t i;

    for (i = 0; name[i] != '\0'; i++) {
        text[i] = (char) (name[i] >= 'a' && name[i] <= 'z' ? name[i] & ~0x20 : name[i]);
    }
    return es_str(text, i);
}

static void
context_headers(void **state)
{
    char text[64];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(known); i++) {
        if (!es_is_context_header(es_cstr(known[i])) || !es_is_context_header(upper(known[i], text))
            || !es_is_context_header(underscored(known[i], text))) {
            fail_msg("\"%s\" is none", known[i]);
        }
    }
    for (size_t i = 0; i < UNIT_COUNT(others); i++) {
        if (es_is_context_header(es_cstr(others[i]))
            || es_is_context_header(upper(others[i], text))) {
            fail_msg("\"%s\" is one", others[i]);
        }
    }
    assert_false(es_is_context_header(ES_STR_NONE));
}

static void
removed(void **state)
{
#define B3 "b3 x-b3-traceid x-b3-spanid x-b3-parentspanid x-b3-sampled x-b3-flags"
    static const struct {
        const char *propagators;
        bool filter;
        const char *names;
    } rows[] = {
        {NULL, false, "traceparent tracestate"},
        {NULL, true, "traceparent tracestate baggage"},
        {"tracecontext", false, "traceparent tracestate"},
        {"tracecontext", true, "traceparent tracestate"},
        {"baggage", false, ""},
        {"baggage", true, "baggage"},
        {"b3", false, B3},
        {"b3multi", false, B3},
        {"jaeger", false, "uber-trace-id"},
        {"xray", true, "x-amzn-trace-id"},
        {"none", true, ""},
        {"none", false, ""},
    };
    static const es_str_t key = {"a", 1};

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_propagation_t propagation =
            rows[i].propagators != NULL ? unit_propagation(rows[i].propagators) : nothing_said;
        es_error_t error;
        es_trace_t traces[3];

        if (rows[i].filter) {
            assert_true(es_propagation_allow(&propagation, &key, 1, &error));
        }
        unit_release(NULL);
        for (unsigned trust = ES_TRUST_ON; trust <= ES_TRUST_LINK; trust++) {
            traces[trust] = unit_join(&propagation, (es_trust_t) trust, NULL, 0);
        }
        for (size_t k = 0; k < UNIT_COUNT(known); k++) {
            es_str_t words[8];
            es_names_t names = {words, unit_words(rows[i].names, words, 8)};
            bool listed = false;
            char text[64];

            for (unsigned w = 0; w < names.count; w++) {
                listed |= strlen(known[k]) == words[w].len
                          && memcmp(known[k], words[w].data, words[w].len) == 0;
            }
            if (es_trace_removes(&traces[ES_TRUST_ON], upper(known[k], text)) != listed
                || es_trace_removes(&traces[ES_TRUST_ON], underscored(known[k], text)) != listed) {
                fail_msg("%s: \"%s\"", rows[i].propagators, known[k]);
            }

            /* Of a stranger nothing passes, whatever is configured. */
            assert_true(es_trace_removes(&traces[ES_TRUST_OFF], es_cstr(known[k])));
            assert_true(es_trace_removes(&traces[ES_TRUST_LINK], es_cstr(known[k])));
        }
        for (size_t k = 0; k < UNIT_COUNT(others); k++) {
            for (unsigned trust = ES_TRUST_ON; trust <= ES_TRUST_LINK; trust++) {
                assert_false(es_trace_removes(&traces[trust], es_cstr(others[k])));
            }
        }
    }
}

/* --------------------------------------------------------------- carrier --- */

/* What browsers and proxies send is told apart without comparing names. */
static void
carrier_is_cheap(void **state)
{
    static const char *const usual[] = {
        "Host",
        "Connection",
        "Cache-Control",
        "Pragma",
        "sec-ch-ua",
        "sec-ch-ua-mobile",
        "sec-ch-ua-platform",
        "Upgrade-Insecure-Requests",
        "User-Agent",
        "Accept",
        "Referer",
        "Sec-Fetch-Site",
        "Sec-Fetch-Mode",
        "Sec-Fetch-User",
        "Sec-Fetch-Dest",
        "Accept-Encoding",
        "Accept-Language",
        "Cookie",
        "If-None-Match",
        "If-Modified-Since",
        "Origin",
        "DNT",
        "Priority",
        "Content-Type",
        "Content-Length",
        "Authorization",
        "Range",
        "TE",
        "Via",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "X-Real-IP",
        "X-Requested-With",
        "X-Request-ID",
    };
    const es_propagation_t all = unit_propagation(ALL);
    unsigned compared[2] = {0, 0};
    es_trace_t trace = unit_trace();
    es_carrier_t carriers[2];

    (void) state;
    es_carrier_init(&carriers[0], &trace, &nothing_said);
    es_carrier_init(&carriers[1], &trace, &all);
    for (size_t i = 0; i < UNIT_COUNT(usual); i++) {
        for (unsigned k = 0; k < 2; k++) {
            es_carrier_add(&carriers[k], es_cstr(usual[i]), ES_STR("1"));
            compared[k] += es_fields_may_have(&carriers[k].wanted, es_cstr(usual[i]));
            assert_int_equal(carriers[k].count, 0);
        }
    }
    assert_int_equal(compared[0], 0);

    /* With B3 and X-Ray configured, some of those that begin with "X-" are. */
    if (compared[1] > UNIT_COUNT(usual) / 6) {
        fail_msg("%u of %zu names compared", compared[1], UNIT_COUNT(usual));
    }
}

/* Each name is found by itself, in any case. */
static void
carrier_finds(void **state)
{
    const es_propagation_t propagation = unit_propagation(ALL);
    es_trace_t trace = unit_trace();
    char text[64];

    (void) state;
    for (unsigned field = 0; field < ES_FIELDS; field++) {
        es_str_t name = es_field_name((es_field_t) field);
        es_carrier_t carrier;

        es_carrier_init(&carrier, &trace, &propagation);
        es_carrier_add(&carrier, name, ES_STR("1"));
        es_carrier_add(&carrier, upper(name.data, text), ES_STR("2"));
        assert_int_equal(carrier.count, 2);
        assert_int_equal(carrier.fields[0], field);
        assert_int_equal(carrier.fields[1], field);
        assert_true(es_is_context_header(name));
    }
}

/* More than any client sends: nothing of it counts. */
static void
carrier_overflow(void **state)
{
    es_trace_t trace = unit_trace(), more;
    es_carrier_t carrier;

    (void) state;
    es_carrier_init(&carrier, &trace, &nothing_said);
    es_carrier_add(&carrier, ES_STR("traceparent"), ES_STR("00-" T "-" P "-01"));
    es_carrier_add(&carrier, ES_STR("baggage"), ES_STR("a=1"));
    for (unsigned i = 0; i < ES_CARRIER_MAX - 2; i++) {
        es_carrier_add(&carrier, ES_STR("tracestate"), i == 0 ? ES_STR("a=1") : ES_STR(""));
    }
    es_carrier_add(&carrier, ES_STR("x-other"), ES_STR("not counted"));
    unit_release(NULL);
    more = trace;
    es_trace_join(&trace, &nothing_said, ES_TRUST_ON, &carrier);
    assert_true(trace.has_parent);
    unit_assert_str(trace.span.tracestate, "a=1");
    unit_assert_str(trace.baggage, "a=1");

    es_carrier_add(&carrier, ES_STR("tracestate"), ES_STR("b=1"));
    es_trace_join(&more, &nothing_said, ES_TRUST_ON, &carrier);
    assert_false(more.has_parent);
    assert_int_equal(more.span.tracestate.len, 0);
    assert_int_equal(more.baggage.len, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(context_headers),  cmocka_unit_test(removed),
        cmocka_unit_test(carrier_is_cheap), cmocka_unit_test(carrier_finds),
        cmocka_unit_test(carrier_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, unit_release);
}
