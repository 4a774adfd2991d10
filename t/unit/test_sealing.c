/* A decision is fixed: what it costs budgets, and what upstreams are told of it. */

#include "unit_decision.h"

#define AT_HALF "8"

/* What upstreams are told in tracestate. */
static void
tracestates(void **state)
{
    static const struct {
        const char *sampler, *rate; /* NULL: nothing is said */
        const char *traceparent, *before, *after;
    } rows[] = {
        /* Decided by a probability: it says so. */
        {NULL, "1", NULL, NULL, "ot=th:0"},
        {"traceidratio", "50%", SAMPLED, "a=1", "ot=th:" AT_HALF ",a=1"},
        {"traceidratio", "50%", UNSAMPLED, "a=1,ot=th:c;rv:ffffffffffffff",
         "ot=th:" AT_HALF ";rv:ffffffffffffff,a=1"},
        {"traceidratio", "50%", SAMPLED, "ot=th:8,a=1", "ot=th:8,a=1"},

        /* Not sampled. */
        {"traceidratio", "10%", SAMPLED, "a=1,ot=th:8", "a=1"},
        {"traceidratio", "10%", SAMPLED, "ot=rv:00000000000000;th:0", "ot=rv:00000000000000"},
        {NULL, NULL, UNSAMPLED, "ot=th:8,a=1", "a=1"},
        {NULL, "0", NULL, NULL, ""},
        {"always_off", NULL, SAMPLED, "ot=th:8", ""},

        /* Sampled, but not by a probability. */
        {NULL, NULL, NULL, NULL, ""},
        {"always_on", NULL, SAMPLED, "ot=th:8,a=1", "a=1"},
        {"always_on", NULL, SAMPLED, "a=1", "a=1"},

        /* By the parent: its own is still true, unless it contradicts itself. */
        {NULL, NULL, SAMPLED, NULL, ""},
        {NULL, "1%", SAMPLED, "ot=th:8,a=1", "ot=th:8,a=1"},
        {NULL, "1%", SAMPLED, "a=1, ot=th:80", "a=1, ot=th:80"},
        {NULL, "1%", SAMPLED, "ot=th:ce929d0e0e4736", "ot=th:ce929d0e0e4736"},
        {NULL, "1%", SAMPLED, "ot=th:ce929d0e0e4737,a=1", "a=1"},
        {NULL, "1%", SAMPLED, "ot=th:e666;x:y", "ot=x:y"},
        {NULL, "1%", SAMPLED, "ot=th:8;rv:00000000000000", "ot=rv:00000000000000"},
        {NULL, "1%", SAMPLED, "ot=th:nonsense,a=1", "a=1"},
        {NULL, "1%", SAMPLED, "a=1", "a=1"},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_trace_t trace = request(rows[i].traceparent, rows[i].before);
        es_sampling_t sampling = place(rows[i].sampler, rows[i].rate);
        es_str_t before = trace.span.tracestate;

        decide(&trace, &sampling);
        assert_ptr_equal(trace.span.tracestate.data, before.data);
        es_trace_seal(&trace);
        unit_assert_str(trace.span.tracestate, rows[i].after);
        unit_release(NULL);
    }
}

/* The usual request costs no memory; what costs some does without it. */
static void
memory(void **state)
{
    static const char *const rows[][3] = {
        {NULL, NULL, ""},
        {SAMPLED, NULL, ""},
        {SAMPLED, "a=1,b=2", "a=1,b=2"},
        {UNSAMPLED, "a=1,b=2", "a=1,b=2"},
        {SAMPLED, "a=1,ot=th:8", "a=1,ot=th:8"},
        {UNSAMPLED, "a=1,ot=th:8", ""},
    };
    es_sampling_t nothing = {0}, all = rate("100%");
    es_trace_t trace;

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        trace = request(rows[i][0], rows[i][1]);
        unit_allocations_left = 0;
        decide(&trace, &nothing);
        es_trace_seal(&trace);
        unit_assert_str(trace.span.tracestate, rows[i][2]);
        unit_release(NULL);
    }
    trace = request(NULL, NULL);
    unit_allocations_left = 0;
    decide(&trace, &all);
    es_trace_seal(&trace);
    assert_true(es_trace_sampled(&trace));
    unit_assert_str(trace.span.tracestate, "");
}

static uint64_t
decided(es_decision_t decision)
{
    return es_stats_get(&stats->stripes[0].decisions[decision]);
}

/* One budget for all that inherit it, spent once a request. */
static void
limits(void **state)
{
    es_sampling_t all = rate("50%"), inherits = {0}, never = sampler("always_off");
    es_str_t words[] = {ES_STR("1r/m"), ES_STR("burst=3")};
    es_limit_state_t *shared = &stats->limits[0];
    es_trace_t trace;
    es_error_t error;

    (void) state;
    all.sampler = sampler("traceidratio").sampler;
    all.given |= ES_GIVEN_SAMPLER;
    assert_true(es_sampling_limit(&unit_config, &all, words, 2, "f:7", &error));
    es_sampling_inherit(&inherits, &all);
    es_sampling_inherit(&never, &all);

    /* Who is not sampled spends nothing, nor does who only might be. */
    for (unsigned i = 0; i < 10; i++) {
        trace = request(SAMPLED, NULL);
        decide(&trace, &never);
        es_trace_seal(&trace);
        trace = request(SAMPLED, NULL);
        decide(&trace, &all);
    }
    for (unsigned i = 0; i < 2; i++) {
        trace = request(SAMPLED, "ot=th:4,a=1");
        decide(&trace, i == 0 ? &all : &inherits);
        es_trace_seal(&trace);
        es_trace_seal(&trace);
        assert_decision(&trace, "ratio=0.5 (f:2)");
        unit_assert_str(trace.span.tracestate, "ot=th:8,a=1");
    }
    for (unsigned i = 0; i < 3; i++) {
        trace = request(SAMPLED, "ot=th:4,a=1");
        decide(&trace, i == 0 ? &all : &inherits);
        assert_true(es_trace_sampled(&trace));
        es_trace_seal(&trace);
        if (i > 0) {
            assert_decision(&trace, "limit (f:7)");
            assert_false(es_trace_sampled(&trace));
            assert_int_equal(trace.span.flags & ES_FLAG_SAMPLED, 0);
            unit_assert_str(trace.span.tracestate, "a=1");
        }
    }
    assert_int_equal(decided(ES_DECISION_RATIO_SAMPLED), 3);
    assert_int_equal(decided(ES_DECISION_LIMIT), 2);
    assert_int_equal(decided(ES_DECISION_ALWAYS_OFF), 10);
    assert_int_equal(shared->refused, 2);

    /* While it refuses, the share of what it lets through is not known. */
    es_limit_init(&unit_config.limits[0], 1000, 1, 100, "f:7");
    shared->next_ns = 0;
    trace = request(SAMPLED, "ot=th:4,a=1");
    decide(&trace, &all);
    es_trace_seal(&trace);
    assert_decision(&trace, "ratio=0.5 (f:2)");
    unit_assert_str(trace.span.tracestate, "a=1");
    shared->refused_ns -= 11 * ES_SECOND;
    trace = request(SAMPLED, "ot=th:4,a=1");
    decide(&trace, &all);
    es_trace_seal(&trace);
    unit_assert_str(trace.span.tracestate, "ot=th:8,a=1");
}

/* Also for who was sampled by the caller: nobody forces a flood. */
static void
limited_parents(void **state)
{
    es_sampling_t sampling = {0};
    es_str_t words[] = {ES_STR("1r/m"), ES_STR("burst=1")};
    es_trace_t trace;
    es_error_t error;

    (void) state;
    assert_true(es_sampling_limit(&unit_config, &sampling, words, 2, NULL, &error));
    trace = request(SAMPLED, "ot=th:8");
    decide(&trace, &sampling);
    es_trace_seal(&trace);
    assert_decision(&trace, "parent");
    unit_assert_str(trace.span.tracestate, "ot=th:8");
    trace = request(SAMPLED, "ot=th:8");
    decide(&trace, &sampling);
    es_trace_seal(&trace);
    assert_decision(&trace, "limit");
    unit_assert_str(trace.span.tracestate, "");
}

/* Counted is what the probability took, when it is fixed. */
static void
targets(void **state)
{
    es_sampling_t sampling = {0};
    es_target_state_t *shared = &stats->targets[0];
    es_str_t words[] = {ES_STR("5r/s"), ES_STR("max=50%")};
    es_trace_t trace;
    es_error_t error;

    (void) state;
    assert_true(es_sampling_target(&unit_config, &sampling, words, 2, "f:3", &error));
    shared->window_ns = es_mono_ns();

    trace = request(SAMPLED, NULL);
    decide(&trace, &sampling);
    es_trace_seal(&trace);
    assert_decision(&trace, "parent");
    assert_int_equal(shared->count, 0);

    sampling.sampler = sampler("traceidratio").sampler;
    sampling.given |= ES_GIVEN_SAMPLER;
    trace = request(SAMPLED, NULL);
    decide(&trace, &sampling);
    decide(&trace, &sampling);
    assert_int_equal(shared->count, 0);
    es_trace_seal(&trace);
    es_trace_seal(&trace);
    assert_decision(&trace, "target=0.5 (f:3)");
    unit_assert_str(trace.span.tracestate, "ot=th:8");
    assert_int_equal(shared->count, 1);

    trace = request(SAMPLED, "ot=rv:00000000000000");
    decide(&trace, &sampling);
    es_trace_seal(&trace);
    assert_decision(&trace, "drop target=0.5 (f:3)");
    assert_int_equal(shared->count, 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(tracestates), TEST(memory), TEST(limits), TEST(limited_parents), TEST(targets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
