/* Every format in and out: what a trace is made of, and what an upstream gets. */

#include "unit_propagation.h"

#define T "80f198ee56343ba864fe8b2a57d3eff7"
#define T64 "64fe8b2a57d3eff7"
#define T64P "000000000000000064fe8b2a57d3eff7"
#define P "e457b5a2e4d86bd1"
#define NO "-"

/* ----------------------------------------------------------------- in --- */

typedef struct row {
    const char *propagators;
    unit_field_t fields[4];
    const char *trace_id, *span_id; /* NO: none */
    es_wish_t wish;
} row_t;

#define MULTI(id, span, more) {"X-B3-TraceId", id}, {"X-B3-SpanId", span}, more
#define W(wish) ES_WISH_##wish

static const row_t rows[] = {
    {"b3", {{"b3", T "-" P "-1"}}, T, P, ES_WISH_ACCEPT},
};

static void
in(void **state)
{
    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        const es_propagation_t propagation = unit_propagation(rows[i].propagators);
        es_trace_t trace;
        char id[2 * ES_TRACE_ID_LEN + 1] = "", span[2 * ES_SPAN_ID_LEN + 1] = "";

        unit_release(NULL);
        trace = unit_join(&propagation, ES_TRUST_ON, rows[i].fields, UNIT_COUNT(rows[i].fields));
        es_hex(id, trace.span.trace_id, ES_TRACE_ID_LEN);
        es_hex(span, trace.parent.span_id, ES_SPAN_ID_LEN);
        assert_string_equal(id, rows[i].trace_id);
        assert_string_equal(span, rows[i].span_id);
        assert_int_equal(trace.wish, rows[i].wish);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in),
    };

    return cmocka_run_group_tests(tests, NULL, unit_release);
}
