/* Which endpoint a batch goes to. */

#include "unit.h"

#include "es_clock.h"
#include "es_failover.h"

static es_failover_t
with(unsigned targets)
{
    es_failover_t failover;

    es_failover_init(&failover, targets);
    return failover;
}

static void
test_single(void **state)
{
    es_failover_t failover = with(1);

    (void) state;
    assert_int_equal(es_failover_choose(&failover, 0), 0);
    assert_false(es_failover_result(&failover, 0, false, 1));
    assert_int_equal(es_failover_choose(&failover, 60 * ES_SECOND), 0);
    assert_true(es_failover_result(&failover, 0, true, 2));
}

static void
test_next_and_round(void **state)
{
    es_failover_t failover = with(3);

    (void) state;
    assert_true(es_failover_result(&failover, 0, false, 1));
    assert_int_equal(es_failover_choose(&failover, 1), 1);
    assert_true(es_failover_result(&failover, 1, false, 1));
    assert_int_equal(es_failover_choose(&failover, 1), 2);

    /* All have failed: time to wait, and to begin anew. */
    assert_false(es_failover_result(&failover, 2, false, 1));
    assert_int_equal(es_failover_choose(&failover, 1), 0);

    /* A second round takes as long. */
    assert_true(es_failover_result(&failover, 0, false, 1));
    assert_true(es_failover_result(&failover, 1, false, 1));
    assert_false(es_failover_result(&failover, 2, false, 1));
}

/* Several batches in flight fail together: that is one failure. */
static void
test_late_failures(void **state)
{
    es_failover_t failover = with(3);

    (void) state;
    assert_true(es_failover_result(&failover, 0, false, 1));
    assert_true(es_failover_result(&failover, 0, false, 1));
    assert_true(es_failover_result(&failover, 0, false, 1));
    assert_int_equal(es_failover_choose(&failover, 1), 1);
}

static void
test_back_home(void **state)
{
    es_failover_t failover = with(2);
    uint64_t now = ES_SECOND, later = now + ES_FAILOVER_HOME_AFTER_NS;

    (void) state;
    assert_true(es_failover_result(&failover, 0, false, now));
    assert_int_equal(es_failover_choose(&failover, later - 1), 1);

    /* One batch asks, the others stay away until it was answered. */
    assert_int_equal(es_failover_choose(&failover, later), 0);
    assert_int_equal(es_failover_choose(&failover, later), 1);
    assert_true(es_failover_result(&failover, 0, false, later));
    assert_int_equal(es_failover_choose(&failover, later + 1), 1);

    now = later;
    later = now + ES_FAILOVER_HOME_AFTER_NS;
    assert_int_equal(es_failover_choose(&failover, later), 0);
    assert_true(es_failover_result(&failover, 0, true, later));
    assert_int_equal(es_failover_choose(&failover, later), 0);
    assert_int_equal(es_failover_choose(&failover, later), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single),
        cmocka_unit_test(test_next_and_round),
        cmocka_unit_test(test_late_failures),
        cmocka_unit_test(test_back_home),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
