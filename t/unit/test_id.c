#include "unit.h"

#include "es_id.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DRAWS = 1000000 };

static es_id_generator_t
fixed_generator(void)
{
    return (es_id_generator_t){.counter = 1, .key = {2, 3}};
}

static int
compare(const void *a, const void *b)
{
    return memcmp(a, b, ES_TRACE_ID_LEN);
}

static int
compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

    return (x > y) - (x < y);
}

static void
assert_unique_u64(uint64_t *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare_u64);
    for (size_t i = 0; i < count; i++) {
        assert_int_not_equal(values[i], 0);
        assert_true(i == 0 || values[i] != values[i - 1]);
    }
}

static void
unique(void **state)
{
    static uint8_t traces[DRAWS][ES_TRACE_ID_LEN];
    static uint64_t spans[DRAWS], low[DRAWS];
    static const uint8_t zero[ES_TRACE_ID_LEN];
    es_id_generator_t ids;

    (void) state;
    assert_true(es_id_generator_init(&ids));
    for (size_t i = 0; i < DRAWS; i++) {
        es_trace_id_new(&ids, traces[i]);
        es_span_id_new(&ids, (uint8_t *) &spans[i]);
        assert_true(memcmp(traces[i], zero, sizeof(zero)) != 0);
        memcpy(&low[i], traces[i] + 8, 8);
    }
    assert_unique_u64(spans, DRAWS);
    assert_unique_u64(low, DRAWS);
    qsort(traces, DRAWS, sizeof(traces[0]), compare);
    for (size_t i = 1; i < DRAWS; i++) {
        assert_true(compare(traces[i], traces[i - 1]) != 0);
    }
}

/* The mixing function maps one state to zero: the id drawn there is skipped. */
static void
never_zero(void **state)
{
    es_id_generator_t ids = {.counter = 0, .key = {0, 0}};
    uint8_t trace[ES_TRACE_ID_LEN], span[ES_SPAN_ID_LEN];
    static const uint8_t zero[ES_TRACE_ID_LEN];

    (void) state;
    es_trace_id_new(&ids, trace);
    assert_true(memcmp(trace, zero, sizeof(trace)) != 0);
    ids = (es_id_generator_t){.counter = 0, .key = {0, 0}};
    es_span_id_new(&ids, span);
    assert_true(memcmp(span, zero, sizeof(span)) != 0);
}

/* 255 degrees of freedom: the mean is 255, the deviation 22.6; six of them. */
static void
assert_uniform(const uint32_t *bins, const char *what, size_t which)
{
    double expected = DRAWS / 256.0, sum = 0;

    for (unsigned i = 0; i < 256; i++) {
        sum += (bins[i] - expected) * (bins[i] - expected) / expected;
    }
    if (sum > 391 || sum < 119) {
        fail_msg("%s %zu: chi-square %f", what, which, sum);
    }
}

static void
uniform(void **state)
{
    static uint32_t bytes[ES_TRACE_ID_LEN][256], spans[ES_SPAN_ID_LEN][256];
    es_id_generator_t ids = fixed_generator();
    uint32_t flips[64] = {0};
    uint64_t last = 0;

    (void) state;
    for (size_t i = 0; i < DRAWS; i++) {
        uint8_t trace[ES_TRACE_ID_LEN], span[ES_SPAN_ID_LEN];
        uint64_t low;

        es_trace_id_new(&ids, trace);
        es_span_id_new(&ids, span);
        for (size_t k = 0; k < sizeof(trace); k++) {
            bytes[k][trace[k]]++;
        }
        for (size_t k = 0; k < sizeof(span); k++) {
            spans[k][span[k]]++;
        }
        memcpy(&low, trace + 8, 8);
        for (unsigned bit = 0; bit < 64; bit++) {
            flips[bit] += ((low ^ last) >> bit) & 1;
        }
        last = low;
    }
    for (size_t k = 0; k < ES_TRACE_ID_LEN; k++) {
        assert_uniform(bytes[k], "byte of the trace id", k);
    }
    for (size_t k = 0; k < ES_SPAN_ID_LEN; k++) {
        assert_uniform(spans[k], "byte of the span id", k);
    }

    /* Each bit changes from one id to the next, or does not, as a coin falls: the
     * deviation is half the root of the draws. */
    for (unsigned bit = 0; bit < 64; bit++) {
        assert_in_range(flips[bit], DRAWS / 2 - 6 * 500, DRAWS / 2 + 6 * 500);
    }
}

/* Each process seeds its own generator after the fork. */
static void
children_differ(void **state)
{
    enum { CHILDREN = 8, IDS = 1000 };
    static uint64_t all[CHILDREN * IDS];

    (void) state;
    for (size_t child = 0; child < CHILDREN; child++) {
        int ends[2], status;
        uint64_t *mine = all + child * IDS;
        pid_t pid;

        assert_int_equal(pipe(ends), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            es_id_generator_t ids;
            bool ok = es_id_generator_init(&ids);

            for (size_t i = 0; i < IDS; i++) {
                es_span_id_new(&ids, (uint8_t *) &mine[i]);
            }
            ok = ok && write(ends[1], mine, IDS * sizeof(*mine)) == (ssize_t) (IDS * sizeof(*mine));
            _exit(ok ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(read(ends[0], mine, IDS * sizeof(*mine)), IDS * sizeof(*mine));
        close(ends[0]);
        close(ends[1]);
    }
    assert_unique_u64(all, UNIT_COUNT(all));
}

enum { THREADS = 4, PER_THREAD = 100000 };

typedef struct drawer {
    es_id_generator_t *ids;
    uint64_t spans[PER_THREAD];
} drawer_t;

static void *
draw(void *data)
{
    drawer_t *drawer = data;

    for (size_t i = 0; i < PER_THREAD; i++) {
        es_span_id_new(drawer->ids, (uint8_t *) &drawer->spans[i]);
    }
    return NULL;
}

static void
threads(void **state)
{
    static drawer_t drawers[THREADS];
    static uint64_t all[THREADS * PER_THREAD];
    pthread_t handles[THREADS];
    es_id_generator_t ids;

    (void) state;
    assert_true(es_id_generator_init(&ids));
    for (size_t i = 0; i < THREADS; i++) {
        drawers[i].ids = &ids;
        assert_int_equal(pthread_create(&handles[i], NULL, draw, &drawers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(handles[i], NULL);
        memcpy(all + i * PER_THREAD, drawers[i].spans, sizeof(drawers[i].spans));
    }
    assert_unique_u64(all, UNIT_COUNT(all));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unique),          cmocka_unit_test(never_zero), cmocka_unit_test(uniform),
        cmocka_unit_test(children_differ), cmocka_unit_test(threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
