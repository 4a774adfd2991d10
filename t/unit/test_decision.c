/* What is decided for a request, and what is said of it. */

#include "unit_decision.h"

/* --------------------------------------------------------------- deciding --- */

/* The sampler's table, for each wish of a caller. */
static void
wishes(void **state)
{
    static const struct {
        const char *sampler, *rate;
        const char *none, *deny, *accept; /* what is decided */
    } rows[] = {
        {NULL, NULL, "always_on", "drop parent", "parent"},
        {NULL, "1", "ratio=1 (f:2)", "drop parent", "parent"},
        {NULL, "0", "drop ratio=0 (f:2)", "drop parent", "parent"},
        {"parentbased_always_on", NULL, "always_on (f:1)", "drop parent", "parent"},
        {"parentbased_always_off", NULL, "drop always_off (f:1)", "drop parent", "parent"},
        {"parentbased_traceidratio", NULL, "ratio=1 (f:1)", "drop parent", "parent"},
        {"parentbased_traceidratio", "0", "drop ratio=0 (f:2)", "drop parent", "parent"},
        {"always_on", NULL, "always_on (f:1)", "always_on (f:1)", "always_on (f:1)"},
        {"always_off", NULL, "drop always_off (f:1)", "drop always_off (f:1)",
         "drop always_off (f:1)"},
        {"traceidratio", NULL, "ratio=1 (f:1)", "ratio=1 (f:1)", "ratio=1 (f:1)"},
        {"traceidratio", "0", "drop ratio=0 (f:2)", "drop ratio=0 (f:2)", "drop ratio=0 (f:2)"},
    };
    static const struct {
        const char *b3;
        unsigned wish; /* 0: none, 1: deny, 2: accept */
    } callers[] = {
        {"", 0},
        {"0", 1},
        {"1", 2},
        {"d", 2},
        {ID "-00f067aa0ba902b7", 0},
        {ID "-00f067aa0ba902b7-0", 1},
        {ID "-00f067aa0ba902b7-1", 2},
        {ID "-00f067aa0ba902b7-d", 2},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_sampling_t sampling = place(rows[i].sampler, rows[i].rate);

        for (size_t k = 0; k < UNIT_COUNT(callers); k++) {
            const char *const expected[] = {rows[i].none, rows[i].deny, rows[i].accept};
            const char *words = expected[callers[k].wish];
            es_trace_t trace = b3_request(callers[k].b3);

            decide(&trace, &sampling);
            assert_decision(&trace, words);
            assert_int_equal(es_trace_sampled(&trace), strncmp(words, "drop", 4) != 0);
            assert_int_equal(trace.span.flags & ES_FLAG_SAMPLED, es_trace_sampled(&trace));
            unit_release(NULL);
        }
    }
}

/* Where no place says anything, the environment does; it is outside of all. */
static void
environment(void **state)
{
    es_sampling_t nothing = {0}, some = rate("0"), ratio = sampler("traceidratio");
    es_trace_t trace;

    (void) state;
    unit_config.sampling = sampler("always_off");
    unit_config.sampling.places[0] = NULL;
    trace = request(SAMPLED, NULL);
    decide(&trace, &nothing);
    assert_decision(&trace, "drop always_off");
    decide(&trace, &some);
    assert_decision(&trace, "drop ratio=0 (f:2)");
    decide(&trace, &ratio);
    assert_decision(&trace, "ratio=1 (f:1)");

    unit_config.sampling = of_name_and_rate("parentbased_traceidratio", "0");
    decide(&trace, &nothing);
    assert_decision(&trace, "parent");
    decide(&trace, &ratio);
    assert_decision(&trace, "drop ratio=0 (f:1)");
    trace = request(NULL, NULL);
    decide(&trace, &nothing);
    assert_decision(&trace, "drop ratio=0");
}

static void
variable_rates(void **state)
{
    es_sampling_t varies = rate(NULL), always = sampler("always_on"), target = {0};
    es_trace_t trace = request(NULL, NULL);
    es_error_t error;

    (void) state;
    es_trace_decide(&trace, &varies, ES_THRESHOLD_NEVER, ES_STR("/"));
    assert_decision(&trace, "drop ratio=0 (f:2)");
    es_trace_decide(&trace, &varies, 0, ES_STR("/"));
    assert_decision(&trace, "ratio=1 (f:2)");

    /* Of a place that says something else it does not count. */
    es_trace_decide(&trace, &always, ES_THRESHOLD_NEVER, ES_STR("/"));
    assert_decision(&trace, "always_on (f:1)");
    assert_true(es_sampling_target(&unit_config, &target, &ES_STR("5r/s"), 1, "f:3", &error));
    es_trace_decide(&trace, &target, ES_THRESHOLD_NEVER, ES_STR("/"));
    assert_decision(&trace, "target=1 (f:3)");
}

/* R is rv, or else the trace id's. Sampled if and only if R >= T. */
static void
randomness(void **state)
{
    static const struct {
        const char *tracestate;
        uint64_t threshold;
        bool sampled;
    } rows[] = {
        {NULL, 0, true},
        {NULL, UINT64_C(0x80000000000000), true},
        {NULL, UINT64_C(0xc0000000000000), true},
        {NULL, UINT64_C(0xcccd0000000000), true},
        {NULL, UINT64_C(0xce929d0e0e4736), true},
        {NULL, UINT64_C(0xce929d0e0e4737), false},
        {NULL, UINT64_C(0xe6660000000000), false},
        {"ot=rv:00000000000000", 0, true},
        {"ot=rv:00000000000000", 1, false},
        {"ot=rv:ffffffffffffff", UINT64_C(0xffffffffffffff), true},
        {"a=b,ot=x:y;rv:ce929d0e0e4737", UINT64_C(0xce929d0e0e4737), true},
        {"ot=rv:0", UINT64_C(0xce929d0e0e4736), true},
    };
    es_sampling_t sampling = of_name_and_rate("traceidratio", NULL);

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_trace_t trace = request(UNSAMPLED, rows[i].tracestate);

        es_trace_decide(&trace, &sampling, rows[i].threshold, ES_STR("/"));
        if (es_trace_sampled(&trace) != rows[i].sampled) {
            fail_msg("row %zu", i);
        }
        unit_release(NULL);
    }
}

/* --------------------------------------------------------------- redirects --- */

static void
redirects(void **state)
{
    es_sampling_t on = rate("1"), off = rate("0"), keeps = rate("0"), keeps_more = rate("0");
    es_trace_t trace;
    es_error_t error;

    (void) state;
    assert_true(es_sampling_keep(&unit_config, &keeps, &ES_STR("error"), 1, "f:5", &error));
    assert_true(es_sampling_keep(&unit_config, &keeps_more, &ES_STR("slow=1s"), 1, "f:6", &error));

    /* On, never off. */
    trace = request(NULL, NULL);
    decide(&trace, &off);
    es_trace_redirected(&trace);
    decide(&trace, &on);
    assert_true(es_trace_sampled(&trace));
    decide(&trace, &off);
    es_trace_decide_off(&trace);
    es_trace_leave(&trace);
    assert_true(es_trace_sampled(&trace));

    /* Another location of the same request may do either. */
    trace = request(NULL, NULL);
    decide(&trace, &on);
    decide(&trace, &off);
    assert_false(es_trace_sampled(&trace));
    decide(&trace, &keeps);
    assert_ptr_equal(trace.keeping, &keeps);
    decide(&trace, &off);
    assert_null(trace.keeping);
    decide(&trace, &on);
    es_trace_leave(&trace);
    assert_false(trace.decided);

    /* What is kept survives, too, and is replaced only by other rules. */
    decide(&trace, &keeps);
    assert_true(es_trace_recording(&trace));
    es_trace_redirected(&trace);
    decide(&trace, &off);
    assert_ptr_equal(trace.keeping, &keeps);
    es_trace_decide_off(&trace);
    es_trace_leave(&trace);
    assert_true(es_trace_recording(&trace));
    assert_decision(&trace, "drop ratio=0 (f:2)");
    decide(&trace, &keeps_more);
    assert_ptr_equal(trace.keeping, &keeps_more);

    /* Sealed is sealed, but for what happens at the end. */
    es_trace_seal(&trace);
    decide(&trace, &on);
    es_trace_decide_off(&trace);
    es_trace_leave(&trace);
    assert_decision(&trace, "drop ratio=0 (f:2)");
    assert_ptr_equal(trace.keeping, &keeps_more);

    /* Switched off by its condition, nothing is kept. */
    trace = request(NULL, NULL);
    decide(&trace, &keeps);
    es_trace_decide_off(&trace);
    assert_false(es_trace_recording(&trace));
    assert_decision(&trace, "drop off");

    /* Nor behind a redirect, by the rules of a place that did not count. */
    es_trace_redirected(&trace);
    decide(&trace, &off);
    assert_false(es_trace_recording(&trace));
    trace = request(NULL, NULL);
    decide(&trace, &keeps);
    es_trace_leave(&trace);
    es_trace_redirected(&trace);
    decide(&trace, &off);
    assert_false(es_trace_recording(&trace));

    trace = request(NULL, NULL);
    assert_decision(&trace, "");
}

/* ----------------------------------------------------------------- telling --- */

static void
texts(void **state)
{
    char longest[400], text[ES_DECISION_TEXT];
    es_sampling_t sampling = rate("0");
    es_trace_t trace = request(NULL, NULL);
    es_str_t told;

    (void) state;
    memset(longest, 'x', sizeof(longest) - 1);
    strcpy(longest + sizeof(longest) - 8, "conf:42");
    sampling.places[__builtin_ctz(ES_GIVEN_RATE)] = longest;
    decide(&trace, &sampling);
    told = es_trace_decision(&trace, text);
    assert_int_equal(told.len, ES_DECISION_TEXT);
    assert_memory_equal(told.data, "drop ratio=0 (xxx", 17);
    assert_memory_equal(told.data + told.len - 9, "xconf:42)", 9);

    trace.decision = ES_DECISION_OVERRIDE_SAMPLED;
    trace.threshold = 0;
    trace.override_line = 3;
    assert_decision(&trace, "override=1 (override:3)");
    trace.decision = ES_DECISION_OVERRIDE_UNSAMPLED;
    trace.threshold = ES_THRESHOLD_NEVER;
    trace.override_line = UINT32_MAX;
    assert_decision(&trace, "drop override=0 (override:4294967295)");
}

/* A fixed seed: within three sigma is what one run in four hundred is not. */
static void
share(void **state)
{
    static const char *const rates[] = {"50%", "10%", "1%", "0.9", "0.001"};
    enum { REQUESTS = 100000 };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rates); i++) {
        es_sampling_t sampling = rate(rates[i]);
        double mean = REQUESTS * es_threshold_probability(sampling.threshold);
        double variance = mean * (1 - mean / REQUESTS), difference;
        unsigned sampled = 0;

        unit_provider.ids = (es_id_generator_t){.counter = 40 + i, .key = {0x5eed, 0xfeed}};
        for (unsigned k = 0; k < REQUESTS; k++) {
            es_trace_t trace;

            es_trace_init(&trace, &unit_provider, &unit_pool);
            es_trace_join(&trace, &propagation, ES_TRUST_ON, NULL);
            decide(&trace, &sampling);
            sampled += es_trace_sampled(&trace);
        }
        difference = sampled - mean;
        print_message("# %s: %u of %d\n", rates[i], sampled, REQUESTS);
        assert_true(difference * difference <= 9 * variance);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(wishes),    TEST(environment), TEST(variable_rates), TEST(randomness),
        TEST(redirects), TEST(texts),       TEST(share),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
