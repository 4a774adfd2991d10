#include "unit.h"

#include "es_clock.h"
#include "es_id.h"
#include "es_sampler.h"
#include "es_target.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Time goes on by what is asked of it: a state, its requests and what of them was
 * sampled. */
typedef struct simulation {
    es_sample_target_t target;
    es_target_state_t state;
    es_id_generator_t ids;
    uint64_t now;
} simulation_t;

static simulation_t
simulation(double per_second, double min, double max)
{
    return (simulation_t){
        .target = {.per_second = per_second, .min = min, .max = max},
        .ids = {.counter = 7, .key = {0x5eed, 0xfeed}},
        .now = 1000 * ES_SECOND,
    };
}

static double
probability(const simulation_t *s)
{
    return es_threshold_probability(es_target_threshold(&s->target, &s->state));
}

/* `load` requests a second for a while, unevenly spaced; how many were sampled. */
static unsigned
run(simulation_t *s, double load, double seconds)
{
    uint64_t end = s->now + (uint64_t) (seconds * (double) ES_SECOND);
    unsigned sampled = 0;

    for (;;) {
        uint64_t gap = (uint64_t) (2 * (double) ES_SECOND / load);
        uint8_t id[ES_TRACE_ID_LEN];

        s->now += es_random(&s->ids) % gap;
        if (s->now >= end) {
            s->now = end;
            return sampled;
        }
        es_trace_id_new(&s->ids, id);
        sampled += es_randomness(id) >= es_target_threshold(&s->target, &s->state);
        es_target_count(&s->target, &s->state, s->now);
    }
}

/* Second by second; the one from which on it stays within a fifth of `right`. */
static unsigned
curve(simulation_t *s, double load, unsigned seconds, double right)
{
    unsigned settled = 0;

    for (unsigned i = 1; i <= seconds; i++) {
        unsigned sampled = run(s, load, 1);
        double p = probability(s);

        print_message("# %4.0f r/s, second %2u: probability %.4f, %u sampled\n", load, i, p,
                      sampled);
        if (p < right * 0.8 || p > right * 1.2) {
            settled = i;
        }
    }
    return settled + 1;
}

/* ------------------------------------------------------------------ tests --- */

static void
steps(void **state)
{
    simulation_t s = simulation(50, 0, 1);
    unsigned sampled;

    (void) state;
    assert_true(curve(&s, 500, 10, 0.1) <= 3);
    assert_true(curve(&s, 5000, 10, 0.01) <= 5);
    sampled = run(&s, 5000, 20);
    assert_true(sampled > 800 && sampled < 1200);
    assert_true(curve(&s, 500, 10, 0.1) <= 5);
    sampled = run(&s, 500, 20);
    assert_true(sampled > 800 && sampled < 1200);
}

/* Wherever in a window the step is, up and down. */
/* A load of less than twice the target is no step from the maximum, but what was
 * never measured is not smoothed. */
static void
start(void **state)
{
    simulation_t s = simulation(50, 0, 1);

    (void) state;
    assert_in_range(curve(&s, 90, 10, 50.0 / 90), 1, 3);
}

static void
every_phase(void **state)
{
    unsigned worst = 0;

    (void) state;
    for (unsigned phase = 0; phase < 20; phase++) {
        for (unsigned up = 0; up < 2; up++) {
            simulation_t s = simulation(50, 0, 1);
            double after = up ? 5000 : 500;
            unsigned settled = 0;

            run(&s, up ? 500 : 5000, 20 + phase / 20.0);
            for (unsigned i = 1; i <= 15; i++) {
                run(&s, after, 1);
                if (probability(&s) * after < 40 || probability(&s) * after > 60) {
                    settled = i;
                }
            }
            worst = settled + 1 > worst ? settled + 1 : worst;
        }
    }
    print_message("# a tenfold step is met after %u s at worst\n", worst);
    assert_true(worst <= 4);
}

/* Few requests: a window waits for enough of them, but not for ever. */
static void
few(void **state)
{
    simulation_t s = simulation(1, 0, 1);

    (void) state;
    run(&s, 8, 60);
    assert_true(probability(&s) > 1 / 8.0 * 0.6 && probability(&s) < 1 / 8.0 * 1.6);

    s = simulation(1, 0, 1);
    run(&s, 2, 60);
    assert_true(probability(&s) > 0.3 && probability(&s) < 0.8);

    /* Below the target all are sampled. */
    s = simulation(50, 0, 1);
    assert_int_equal(es_target_threshold(&s.target, &s.state), 0);
    run(&s, 20, 30);
    assert_int_equal(es_target_threshold(&s.target, &s.state), 0);
}

static void
bounds(void **state)
{
    simulation_t s = simulation(50, 0.05, 0.5);

    (void) state;
    assert_true(probability(&s) == 0.5);
    run(&s, 10, 20);
    assert_true(probability(&s) == 0.5);
    run(&s, 20000, 10);
    assert_true(probability(&s) > 0.0499 && probability(&s) < 0.0501);

    /* Another directive's, after a reload. */
    s.target.max = 0.01;
    s.target.min = 0;
    assert_true(probability(&s) > 0.0099 && probability(&s) < 0.0101);
    s.target.max = 1;
    s.target.min = 0.75;
    assert_true(probability(&s) == 0.75);
}

static void
pauses(void **state)
{
    simulation_t s = simulation(50, 0, 1);

    (void) state;
    run(&s, 5000, 10);
    s.now += 3600 * ES_SECOND;
    run(&s, 5000, 0.1);
    assert_int_equal(es_target_threshold(&s.target, &s.state), 0);
    run(&s, 5000, 3);
    assert_true(probability(&s) < 0.012);

    /* A clock that is read a little late is before the window. */
    s.now -= ES_MS;
    run(&s, 5000, 3);
    assert_true(probability(&s) > 0.008 && probability(&s) < 0.012);
}

/* What is decided is what is written: four digits. */
static void
precision(void **state)
{
    simulation_t s = simulation(33, 0, 1);

    (void) state;
    for (unsigned i = 0; i < 50; i++) {
        uint64_t t;

        run(&s, 100 + 200 * i, 1);
        t = es_target_threshold(&s.target, &s.state);
        assert_int_equal(t, es_threshold_round(t, ES_THRESHOLD_DIGITS));
    }
}

/* ------------------------------------------------------------- processes --- */

typedef struct shared {
    es_target_state_t state;
    _Atomic uint64_t ticks;
} shared_t;

/* Many meet the end of a window at once: one of them sets the probability, and the
 * load is that of all. Their clock is one, of 4000 requests a second. */
static void
processes(void **state)
{
    enum { PROCESSES = 4, LOAD = 4000, REQUESTS = 200000 };
    es_sample_target_t target = {.per_second = 100, .max = 1};
    shared_t *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    double p;

    (void) state;
    assert_ptr_not_equal(shared, MAP_FAILED);
    for (unsigned i = 0; i < PROCESSES; i++) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
            for (unsigned k = 0; k < REQUESTS; k++) {
                uint64_t tick = atomic_fetch_add(&shared->ticks, 1);

                es_target_count(&target, &shared->state, ES_SECOND + tick * (ES_SECOND / LOAD));
            }
            _exit(0);
        }
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        int status;

        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    p = es_threshold_probability(es_target_threshold(&target, &shared->state));
    print_message("# %d processes: probability %.4f\n", PROCESSES, p);
    assert_true(p > 0.0245 && p < 0.0255);
    munmap(shared, sizeof(*shared));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps),     cmocka_unit_test(start),     cmocka_unit_test(every_phase),
        cmocka_unit_test(few),       cmocka_unit_test(bounds),    cmocka_unit_test(pauses),
        cmocka_unit_test(precision), cmocka_unit_test(processes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
