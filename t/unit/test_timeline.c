/* How long a request waited for what: intervals that overlap, against counting moment by
 * moment. */

#include "unit.h"

#include "es_timeline.h"

#define MOMENTS 200

/* Each moment counts for the first phase that was under way then. */
static void
count_moments(const es_timeline_t *timeline, uint64_t from, uint64_t to, uint64_t sums[ES_PHASES])
{
    memset(sums, 0, ES_PHASES * sizeof(*sums));
    for (uint64_t at = from; at < to; at++) {
        unsigned first = ES_PHASES;

        for (unsigned i = 0; i < timeline->count; i++) {
            if (timeline->intervals[i].from <= at && at < timeline->intervals[i].to
                && timeline->intervals[i].phase < first) {
                first = timeline->intervals[i].phase;
            }
        }
        if (first < ES_PHASES) {
            sums[first]++;
        }
    }
}

static void
same_as_counted(void **state)
{
    unit_random_t random = unit_random_init();

    (void) state;
    for (unsigned run = 0; run < 20000; run++) {
        uint64_t from = 1 + unit_random_below(&random, MOMENTS),
                 to = unit_random_below(&random, MOMENTS), sums[ES_PHASES], counted[ES_PHASES],
                 all = 0;
        unsigned offered = unit_random_below(&random, ES_TIMELINE_MAX + 8);
        es_timeline_t timeline = {0};

        for (unsigned i = 0; i < offered; i++) {
            es_timeline_add(&timeline, unit_random_below(&random, ES_PHASES),
                            unit_random_below(&random, MOMENTS),
                            unit_random_below(&random, MOMENTS));
        }
        es_timeline_sum(&timeline, from, to, sums);
        count_moments(&timeline, from, to, counted);
        for (unsigned phase = 0; phase < ES_PHASES; phase++) {
            unit_assert(&random, sums[phase] == counted[phase]);
            all += sums[phase];
        }
        unit_assert(&random, all <= (to > from ? to - from : 0));
    }
}

static void
what_is_no_interval(void **state)
{
    es_timeline_t timeline = {0};
    uint64_t sums[ES_PHASES];

    (void) state;
    es_timeline_add(&timeline, ES_PHASE_UPLOAD, 0, 10);
    es_timeline_add(&timeline, ES_PHASE_UPLOAD, 10, 0);
    es_timeline_add(&timeline, ES_PHASE_UPLOAD, 10, 10);
    es_timeline_add(&timeline, ES_PHASE_UPLOAD, 10, 9);
    assert_int_equal(timeline.count, 0);
    es_timeline_sum(&timeline, 5, 100, sums);
    for (unsigned phase = 0; phase < ES_PHASES; phase++) {
        assert_int_equal(sums[phase], 0);
    }

    /* What is beyond the most there are is not counted. */
    for (unsigned i = 0; i < ES_TIMELINE_MAX; i++) {
        es_timeline_add(&timeline, ES_PHASE_BODY, 10, 20);
    }
    es_timeline_add(&timeline, ES_PHASE_UPLOAD, 10, 20);
    es_timeline_sum(&timeline, 5, 100, sums);
    assert_int_equal(sums[ES_PHASE_UPLOAD], 0);
    assert_int_equal(sums[ES_PHASE_BODY], 10);
}

static void
tries(void **state)
{
    static const struct {
        es_http_try_t http_try;
        uint64_t connect, first_byte, body;
    } rows[] = {
        {{.start_mono_ns = 100,
          .connected_mono_ns = 110,
          .secured_mono_ns = 130,
          .first_byte_mono_ns = 200,
          .end_mono_ns = 250},
         30,
         70,
         50},
        {{.start_mono_ns = 100,
          .connected_mono_ns = 110,
          .first_byte_mono_ns = 200,
          .end_mono_ns = 250},
         10,
         90,
         50},
        {{.start_mono_ns = 100, .secured_mono_ns = 130, .end_mono_ns = 250}, 30, 120, 0},
        {{.start_mono_ns = 100, .first_byte_mono_ns = 200, .end_mono_ns = 250, .reused = true},
         0,
         100,
         50},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_timeline_t timeline = {0};
        uint64_t sums[ES_PHASES];

        es_timeline_try(&timeline, &rows[i].http_try);
        es_timeline_sum(&timeline, 1, 1000, sums);
        assert_int_equal(sums[ES_PHASE_UPLOAD], 0);
        assert_int_equal(sums[ES_PHASE_CONNECT], rows[i].connect);
        assert_int_equal(sums[ES_PHASE_FIRST_BYTE], rows[i].first_byte);
        assert_int_equal(sums[ES_PHASE_BODY], rows[i].body);
        assert_int_equal(sums[ES_PHASE_DOWNLOAD], 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_as_counted),
        cmocka_unit_test(what_is_no_interval),
        cmocka_unit_test(tries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
