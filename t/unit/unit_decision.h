/* unit_decision.h: requests of one process that decides, with statistics of its own for
 * each test. */

#ifndef UNIT_DECISION_H
#define UNIT_DECISION_H

#include "unit_propagation.h"

#include "es_clock.h"
#include "es_sampler.h"

#define ID "4bf92f3577b34da6a3ce929d0e0e4736" /* R is ce929d0e0e4736 */
#define SAMPLED "00-" ID "-00f067aa0ba902b7-01"
#define UNSAMPLED "00-" ID "-00f067aa0ba902b7-00"

static es_stats_t *stats;
static es_propagation_t propagation;

static inline int
unit_setup(void **state)
{
    (void) state;
    stats = aligned_alloc(64, sizeof(*stats));
    if (stats == NULL) {
        return 1;
    }
    memset(stats, 0, sizeof(*stats));
    unit_generation.stats = stats;
    unit_provider.stripe = &stats->stripes[0];
    unit_config.limits_count = unit_config.targets_count = 0;
    unit_config.sampling = (es_sampling_t){0};
    propagation = unit_propagation("tracecontext b3");
    return 0;
}

static inline int
unit_teardown(void **state)
{
    free(stats);
    return unit_release(state);
}

static inline es_trace_t
request(const char *traceparent, const char *tracestate)
{
    const unit_field_t fields[] = {
        {traceparent != NULL ? "traceparent" : NULL, traceparent},
        {tracestate != NULL ? "tracestate" : NULL, tracestate},
    };

    return unit_join(&propagation, ES_TRUST_ON, fields, UNIT_COUNT(fields));
}

static inline es_trace_t
b3_request(const char *b3)
{
    return unit_join(&propagation, ES_TRUST_ON, &(unit_field_t){"b3", b3}, 1);
}

static inline void
decide(es_trace_t *trace, const es_sampling_t *sampling)
{
    es_trace_decide(trace, sampling, ES_THRESHOLD_DEFAULT, ES_STR("/"));
}

static inline es_sampling_t
sampler(const char *name)
{
    es_sampling_t sampling = {0};
    es_error_t error;

    assert_true(es_sampling_sampler(&sampling, es_cstr(name), "f:1", &error));
    return sampling;
}

static inline es_sampling_t
rate(const char *text)
{
    es_sampling_t sampling = {0};
    es_error_t error;

    assert_true(es_sampling_rate(&sampling, es_cstr(text), "f:2", &error));
    return sampling;
}

static inline es_sampling_t
of_name_and_rate(const char *name, const char *text)
{
    es_sampling_t sampling = sampler(name);
    es_error_t error;

    assert_true(es_sampling_rate(&sampling, es_cstr(text), "f:2", &error));
    return sampling;
}

/* Of a sampler's name, a rate, both or none of them. */
static inline es_sampling_t
place(const char *name, const char *text)
{
    return name != NULL && text != NULL ? of_name_and_rate(name, text)
           : name != NULL               ? sampler(name)
           : text != NULL               ? rate(text)
                                        : (es_sampling_t){0};
}

#define assert_decision(trace, expected)                            \
    do {                                                            \
        char text_[ES_DECISION_TEXT];                               \
        unit_assert_str(es_trace_decision(trace, text_), expected); \
    } while (0)

#define TEST(function) cmocka_unit_test_setup_teardown(function, unit_setup, unit_teardown)

#endif
