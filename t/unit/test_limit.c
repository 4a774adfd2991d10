#include "unit.h"

#include "es_clock.h"
#include "es_limit.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* How many of the requests that come every `every_ns` from *now are let through. */
static unsigned
take(const es_limit_t *limit, es_limit_state_t *state, uint64_t *now, unsigned requests,
     uint64_t every_ns)
{
    unsigned taken = 0;

    for (unsigned i = 0; i < requests; i++) {
        taken += es_limit_take(limit, state, *now);
        *now += every_ns;
    }
    return taken;
}

static void
rates(void **state)
{
    static const struct {
        const char *text;
        uint64_t count, seconds; /* 0: refused */
    } rows[] = {
        {"100r/s", 100, 1},
        {"1r/s", 1, 1},
        {"30r/m", 30, 60},
        {"1r/m", 1, 60},
        {"1000000r/s", 1000000, 1},
        {"60000000r/m", 60000000, 60},
        {"0r/s", 0, 0},
        {"r/s", 0, 0},
        {"", 0, 0},
        {"100", 0, 0},
        {"100r/h", 0, 0},
        {"-1r/s", 0, 0},
        {"1.5r/s", 0, 0},
        {"100 r/s", 0, 0},
        {"100R/S", 0, 0},
        {"1000001r/s", 0, 0},
        {"60000001r/m", 0, 0},
        {"99999999999999999999r/s", 0, 0},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_str_t text = unit_exact(es_cstr(rows[i].text));
        uint64_t count, seconds;

        if (es_parse_rate(text, &count, &seconds) != (rows[i].count != 0)) {
            fail_msg("%s", rows[i].text);
        }
        if (rows[i].count != 0) {
            assert_int_equal(count, rows[i].count);
            assert_int_equal(seconds, rows[i].seconds);
        }
        unit_free(text);
    }
}

/* What comes at once is the burst; then it is the rate. */
static void
bursts(void **state)
{
    static const struct {
        uint64_t count, seconds, burst;
        unsigned at_once, in_ten_seconds;
    } rows[] = {
        {100, 1, 0, 10, 1000}, {100, 1, 1, 1, 1000},  {100, 1, 250, 250, 1000},
        {5, 1, 0, 1, 50},      {30, 60, 0, 1, 5},     {1, 60, 3, 3, 0},
        {3, 1, 2, 2, 30},      {999, 1, 0, 99, 9990},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_limit_state_t shared = {0};
        uint64_t now = 5000 * ES_SECOND;
        unsigned taken;
        es_limit_t limit;

        es_limit_init(&limit, rows[i].count, rows[i].seconds, rows[i].burst, NULL);
        assert_int_equal(take(&limit, &shared, &now, 1000, 0), rows[i].at_once);
        assert_int_equal(shared.refused, 1000 - rows[i].at_once);

        taken = take(&limit, &shared, &now, 1000000, 10 * ES_SECOND / 1000000);
        if (taken + 1 < rows[i].in_ten_seconds || taken > rows[i].in_ten_seconds + 1) {
            fail_msg("row %zu: %u in ten seconds", i, taken);
        }

        /* After a pause the burst is there again, and no more. */
        now += 3600 * ES_SECOND;
        assert_int_equal(take(&limit, &shared, &now, 1000, 0), rows[i].at_once);
    }
}

/* Who stays below it does not notice it. */
static void
below(void **state)
{
    es_limit_state_t shared = {0};
    uint64_t now = ES_SECOND;
    es_limit_t limit;

    (void) state;
    es_limit_init(&limit, 100, 1, 0, NULL);
    assert_int_equal(take(&limit, &shared, &now, 10000, ES_SECOND / 99), 10000);
    assert_int_equal(shared.refused, 0);
    assert_false(es_limit_refuses(&shared, now));
}

static void
refusing(void **state)
{
    es_limit_state_t shared = {0};
    uint64_t now = 100 * ES_SECOND;
    es_limit_t limit;

    (void) state;
    es_limit_init(&limit, 1, 1, 1, NULL);
    assert_true(es_limit_take(&limit, &shared, now));
    assert_false(es_limit_refuses(&shared, now));
    assert_false(es_limit_take(&limit, &shared, now));
    assert_true(es_limit_refuses(&shared, now));
    assert_true(es_limit_refuses(&shared, now + 10 * ES_SECOND - 1));
    assert_false(es_limit_refuses(&shared, now + 10 * ES_SECOND));
}

/* A reload puts another directive's limit where a slow one was: it is not for
 * that one's minutes that it refuses. A clock that is read a little late does no harm. */
static void
another_limit(void **state)
{
    es_limit_state_t shared = {0};
    uint64_t now = 1000 * ES_SECOND;
    es_limit_t slow, fast;

    (void) state;
    es_limit_init(&slow, 1, 60, 10, NULL);
    es_limit_init(&fast, 100, 1, 0, NULL);
    assert_int_equal(take(&slow, &shared, &now, 100, 0), 10);
    assert_int_equal(take(&fast, &shared, &now, 100, 0), 1);
    now += ES_SECOND;
    assert_int_equal(take(&fast, &shared, &now, 100, 0), 10);
    now -= ES_MS;
    assert_int_equal(take(&fast, &shared, &now, 100, 0), 0);
}

/* ------------------------------------------------------------- processes --- */

/* The burst is what all of them may be without a processor: a second. */
enum { PROCESSES = 4, RATE = 5000, BURST = RATE };

typedef struct shared {
    es_limit_state_t state;
    _Atomic unsigned ready;
    _Atomic uint64_t taken;
    _Atomic uint64_t tried;
} shared_t;

static void
compete(shared_t *shared, const es_limit_t *limit)
{
    uint64_t taken = 0, tried = 0, until;

    atomic_fetch_add(&shared->ready, 1);
    while (atomic_load(&shared->ready) < PROCESSES) {
        usleep(100);
    }
    until = es_mono_ns() + ES_SECOND;
    while (es_mono_ns() < until) {
        for (unsigned i = 0; i < 100; i++) {
            taken += es_limit_take(limit, &shared->state, es_mono_ns());
            tried++;
        }
    }
    atomic_fetch_add(&shared->taken, taken);
    atomic_fetch_add(&shared->tried, tried);
}

static void
processes(void **state)
{
    shared_t *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pids[PROCESSES];
    es_limit_t limit;
    uint64_t began, seconds_ns, most;

    (void) state;
    assert_ptr_not_equal(shared, MAP_FAILED);
    es_limit_init(&limit, RATE, 1, BURST, NULL);
    began = es_mono_ns();
    for (unsigned i = 0; i < PROCESSES; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            compete(shared, &limit);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        int status;

        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    seconds_ns = es_mono_ns() - began;
    most = RATE * seconds_ns / ES_SECOND + BURST;
    print_message("# %llu of %llu taken by %u processes in %.3f s\n",
                  (unsigned long long) shared->taken, (unsigned long long) shared->tried, PROCESSES,
                  (double) seconds_ns / 1e9);

    assert_true(shared->taken <= most);
    assert_true(shared->taken >= (RATE + BURST) * 0.95);
    assert_int_equal(shared->state.refused, shared->tried - shared->taken);
    munmap(shared, sizeof(*shared));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates),    cmocka_unit_test(bursts),        cmocka_unit_test(below),
        cmocka_unit_test(refusing), cmocka_unit_test(another_limit), cmocka_unit_test(processes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
