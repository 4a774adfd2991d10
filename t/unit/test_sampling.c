/* What a place says about sampling: its words, what excludes what, and what it has
 * of the places around it. */

#include "unit_propagation.h"

#include "es_clock.h"
#include "es_sampler.h"

static es_config_t *config;

/* Directives are borrowed until the test ends. */
static char arena[65536];
static size_t arena_used;

static int
setup(void **state)
{
    (void) state;
    config = es_config_create("unit", &unit_log);
    return config == NULL;
}

static int
teardown(void **state)
{
    (void) state;
    es_config_destroy(config);
    arena_used = 0;
    return 0;
}

/* One directive, "sampler always_on". False: refused, and nothing has changed. */
static bool
say(es_sampling_t *sampling, const char *directive, const char *place, es_error_t *error)
{
    es_sampling_t before = *sampling;
    es_str_t words[16];
    unsigned count = unit_words(directive, words, 16) - 1;
    es_str_t name = words[0], first = count != 0 ? words[1] : ES_STR_NONE;
    bool taken;

    taken = es_str_eq(name, ES_STR("sampler")) ? es_sampling_sampler(sampling, first, place, error)
            : es_str_eq(name, ES_STR("rate"))  ? es_sampling_rate(sampling, first, place, error)
            : es_str_eq(name, ES_STR("target"))
                ? es_sampling_target(config, sampling, words + 1, count, place, error)
            : es_str_eq(name, ES_STR("limit"))
                ? es_sampling_limit(config, sampling, words + 1, count, place, error)
                : es_sampling_keep(config, sampling, words + 1, count, place, error);
    if (!taken) {
        assert_memory_equal(sampling, &before, sizeof(before));
    }
    return taken;
}

/* Directives with semicolons between them. */
static es_sampling_t
level(const char *directives)
{
    es_sampling_t sampling = {0};
    char *rest = arena + arena_used;
    size_t size = strlen(directives) + 1;
    es_error_t error;

    assert_true(arena_used + size <= sizeof(arena));
    arena_used += size;
    memcpy(rest, directives, size);
    for (char *one; (one = strsep(&rest, ";")) != NULL;) {
        one += strspn(one, " ");
        if (*one != '\0' && !say(&sampling, one, one, &error)) {
            fail_msg("%s: %s", directives, error.text);
        }
    }
    return sampling;
}

/* ----------------------------------------------------------------- words --- */

static void
words(void **state)
{
    es_sampling_t s;

    (void) state;
    s = level("limit 100r/s");
    assert_int_equal(s.given, ES_GIVEN_LIMIT);
    assert_int_equal(config->limits[s.limit - 1].interval_ns, ES_SECOND / 100);
    assert_int_equal(config->limits[s.limit - 1].tolerance_ns, 9 * ES_SECOND / 100);
    assert_string_equal(config->limits[s.limit - 1].place, "limit 100r/s");
    assert_false(config->limits[s.limit - 1].of_kept);

    s = level("limit 30r/m burst=3");
    assert_int_equal(s.limit, 2);
    assert_int_equal(config->limits[1].interval_ns, 2 * ES_SECOND);
    assert_int_equal(config->limits[1].tolerance_ns, 4 * ES_SECOND);

    s = level("target 50r/s");
    assert_int_equal(s.given, ES_GIVEN_TARGET);
    assert_true(config->targets[0].per_second == 50);
    assert_true(config->targets[0].min == 0 && config->targets[0].max == 1);

    s = level("target 30r/m max=50% min=0.1");
    assert_int_equal(s.target, 2);
    assert_true(config->targets[1].per_second == 0.5);
    assert_true(config->targets[1].min == 0.1 && config->targets[1].max == 0.5);

    s = level("keep error slow=1500ms status=429 status=5xx limit=20r/s");
    assert_int_equal(s.given, ES_GIVEN_KEEP);
    assert_int_equal(s.keep, 1 << ES_KEEP_ERROR | 1 << ES_KEEP_SLOW | 1 << ES_KEEP_STATUS);
    assert_int_equal(s.slow_ns, 1500 * ES_MS);
    assert_int_equal(config->limits[s.keep_limit - 1].interval_ns, ES_SECOND / 20);
    assert_true(config->limits[s.keep_limit - 1].of_kept);

    s = level("keep off");
    assert_int_equal(s.given, ES_GIVEN_KEEP);
    assert_int_equal(s.keep, 0);

    /* A rate that varies. */
    s = level("rate");
    assert_int_equal(s.given, ES_GIVEN_RATE);
}

static void
bad_words(void **state)
{
#define RATE_IS ": it is \"<number>r/s\" or \"<number>r/m\", from 1r/m to 1000000r/s"
#define KEEP_IS ": it is \"error\", \"slow=\", \"status=\" or \"limit=\", or \"off\" alone"
    static const char *const rows[][2] = {
        {"sampler sometimes", "invalid sampler \"sometimes\": "},
        {"sampler xray", "sampler \"xray\" is not supported: "},
        {"rate 2", "invalid sample rate \"2\": "},
        {"limit", "invalid rate \"\"" RATE_IS},
        {"limit 100", "invalid rate \"100\"" RATE_IS},
        {"limit 0r/s", "invalid rate \"0r/s\"" RATE_IS},
        {"limit 1r/s burst", "invalid parameter \"burst\": it is \"burst=\" and 1 to 1000000"},
        {"limit 1r/s burst=0", "invalid parameter \"burst=0\": it is \"burst=\" and 1 to 1000000"},
        {"limit 1r/s burst=1000001", "invalid parameter \"burst=1000001\""},
        {"limit 1r/s max=1", "invalid parameter \"max=1\""},
        {"target", "invalid rate \"\"" RATE_IS},
        {"target 10%", "invalid rate \"10%\"" RATE_IS},
        {"target 1r/s mean=1", "invalid parameter \"mean=1\": it is \"min=\" or \"max=\""},
        {"target 1r/s min=2", "invalid sample rate \"2\""},
        {"target 1r/s max=", "invalid sample rate \"\""},
        {"target 1r/s min=50% max=10%", "its min is more than its max"},
        {"target 1r/s min=1% max=2% min=3%", "parameter \"min=3%\" is given twice: once is right"},
        {"limit 1r/s burst=2 burst=3", "parameter \"burst=3\" is given twice"},
        {"keep slow=1s slow=2s", "parameter \"slow=2s\" is given twice"},
        {"keep error limit=1r/s limit=2r/s", "parameter \"limit=2r/s\" is given twice"},
        {"keep", "nothing to keep: it takes \"error\", \"slow=\" or \"status=\", or \"off\""},
        {"keep limit=5r/s", "nothing to keep: "},
        {"keep off error", "invalid parameter \"off\"" KEEP_IS},
        {"keep error off", "invalid parameter \"off\"" KEEP_IS},
        {"keep errors", "invalid parameter \"errors\"" KEEP_IS},
        {"keep slow", "invalid parameter \"slow\"" KEEP_IS},
        {"keep slow=", "invalid time \"\": it is like \"500ms\" or \"1s\""},
        {"keep slow=0", "invalid time \"0\": "},
        {"keep slow=soon", "invalid time \"soon\": "},
        {"keep status=", "invalid status \"\": it is like \"429\" or \"5xx\""},
        {"keep status=42", "invalid status \"42\": "},
        {"keep status=600", "invalid status \"600\": "},
        {"keep status=099", "invalid status \"099\": "},
        {"keep status=5xy", "invalid status \"5xy\": "},
        {"keep status=x00", "invalid status \"x00\": "},
        {"keep status=4294967725", "invalid status \"4294967725\": "},
        {"keep error limit=20", "invalid rate \"20\"" RATE_IS},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_sampling_t sampling = {0};
        es_error_t error;

        if (say(&sampling, rows[i][0], NULL, &error)) {
            fail_msg("%s is taken", rows[i][0]);
        }
        if (strncmp(error.text, rows[i][1], strlen(rows[i][1])) != 0) {
            fail_msg("%s: %s", rows[i][0], error.text);
        }
    }
    assert_int_equal(config->limits_count, 0);
    assert_int_equal(config->targets_count, 0);

    /* "" is no rate, and not one that varies. */
    assert_false(es_sampling_rate(&(es_sampling_t){0}, ES_STR(""), NULL, &(es_error_t){0}));
}

static void
ceilings(void **state)
{
    es_sampling_t sampling = {0};
    es_error_t error;

    (void) state;
    for (unsigned i = 0; i < ES_LIMITS_MAX; i++) {
        assert_true(say(&sampling, i % 2 ? "limit 1r/s" : "keep error limit=1r/s", NULL, &error));
        assert_int_equal(i % 2 ? sampling.limit : sampling.keep_limit, i + 1);
    }
    assert_false(say(&sampling, "limit 1r/s", NULL, &error));
    assert_string_equal(error.text, "more than 256 limits in one configuration");
    assert_false(say(&sampling, "keep error limit=1r/s", NULL, &error));

    for (unsigned i = 0; i < ES_TARGETS_MAX; i++) {
        assert_true(say(&sampling, "target 1r/s", NULL, &error));
        assert_int_equal(sampling.target, i + 1);
    }
    assert_false(say(&sampling, "target 1r/s", NULL, &error));
    assert_string_equal(error.text, "more than 256 targets in one configuration");
}

/* ------------------------------------------------------------- one level --- */

static void
conflicts(void **state)
{
#define EXCLUDE(sampler, what, right)                                                          \
    "sampler \"" sampler "\" and a " what " exclude each other: \"" right "\" is the sampler " \
    "that has one"
#define BOTH "a rate and a target exclude each other: one of them is to go"
    static const char *const rows[][3] = {
        {"sampler always_on", "rate 1%", EXCLUDE("always_on", "rate", "traceidratio")},
        {"sampler always_off", "rate", EXCLUDE("always_off", "rate", "traceidratio")},
        {"sampler always_off", "target 1r/s", EXCLUDE("always_off", "target", "traceidratio")},
        {"sampler parentbased_always_on", "rate 1",
         EXCLUDE("parentbased_always_on", "rate", "parentbased_traceidratio")},
        {"sampler parentbased_always_off", "target 1r/s",
         EXCLUDE("parentbased_always_off", "target", "parentbased_traceidratio")},
        {"rate 1%", "target 1r/s", BOTH},
        {"rate", "target 1r/s", BOTH},
        {"sampler traceidratio", "rate 1%", NULL},
        {"sampler parentbased_traceidratio", "target 1r/s", NULL},
        {"sampler always_on", "limit 1r/s", NULL},
        {"sampler always_off", "keep error", NULL},
        {"limit 1r/s", "keep error", NULL},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        for (unsigned order = 0; order < 2; order++) {
            es_sampling_t sampling = level(rows[i][order]);
            es_error_t error;
            bool taken = say(&sampling, rows[i][1 - order], NULL, &error);

            if (taken != (rows[i][2] == NULL)) {
                fail_msg("%s, %s", rows[i][order], rows[i][1 - order]);
            }
            if (!taken) {
                assert_string_equal(error.text, rows[i][2]);
            }
        }
    }
}

/* ------------------------------------------------------------ inheritance --- */

/* What counts in the end, in words: "traceidratio rate=0.1 limit keep". */
static void
tell(const es_sampling_t *s, char out[160])
{
    char digits[ES_PROBABILITY_TEXT];
    size_t len = es_probability_text(s->threshold, digits);
    const es_sampler_t *sampler = &es_samplers[s->sampler];
    bool ratio = !(s->given & ES_GIVEN_SAMPLER) || sampler->root == ES_ROOT_RATIO;

    *out = '\0';
    if (s->given & ES_GIVEN_SAMPLER) {
        strcat(out, sampler->name.data);
    }
    if (ratio && (s->given & ES_GIVEN_RATE)) {
        sprintf(out + strlen(out), " rate=%.*s", (int) len, digits);
    }
    if (ratio && (s->given & ES_GIVEN_TARGET)) {
        sprintf(out + strlen(out), " target=%.0f", config->targets[s->target - 1].per_second);
    }
    if (s->given & ES_GIVEN_LIMIT) {
        sprintf(out + strlen(out), " limit=%.0f", config->limits[s->limit - 1].per_second);
    }
    if (s->given & ES_GIVEN_KEEP) {
        sprintf(out + strlen(out), " keep=%u", s->keep);
        if (s->keep_limit != 0) {
            sprintf(out + strlen(out), ",%.0f", config->limits[s->keep_limit - 1].per_second);
        }
    }
}

static void
inheritance(void **state)
{
    static const struct {
        const char *outer, *inner, *result;
    } rows[] = {
        {"", "", ""},
        {"rate 10%", "", " rate=0.1"},
        {"", "rate 10%", " rate=0.1"},
        {"rate 10%", "rate 20%", " rate=0.2"},
        {"target 5r/s", "", " target=5"},
        {"target 5r/s", "rate 10%", " rate=0.1"},
        {"rate 10%", "target 5r/s", " target=5"},
        {"sampler always_on", "", "always_on"},
        {"sampler always_on", "rate 10%", "traceidratio rate=0.1"},
        {"sampler always_off", "target 5r/s", "traceidratio target=5"},
        {"sampler parentbased_always_on", "rate 10%", "parentbased_traceidratio rate=0.1"},
        {"sampler parentbased_always_off", "target 5r/s", "parentbased_traceidratio target=5"},
        {"sampler traceidratio", "rate 10%", "traceidratio rate=0.1"},
        {"rate 10%", "sampler always_on", "always_on"},
        {"target 5r/s", "sampler parentbased_always_off", "parentbased_always_off"},
        {"rate 10%", "sampler traceidratio", "traceidratio rate=0.1"},
        {"sampler traceidratio; rate 10%", "sampler parentbased_traceidratio",
         "parentbased_traceidratio rate=0.1"},
        {"sampler always_on", "sampler parentbased_traceidratio; rate 1%",
         "parentbased_traceidratio rate=0.01"},
        {"limit 100r/s", "rate 10%", " rate=0.1 limit=100"},
        {"limit 100r/s", "limit 5r/s", " limit=5"},
        {"keep error", "rate 0", " rate=0 keep=2"},
        {"keep error limit=7r/s", "", " keep=2,7"},
        {"keep error limit=7r/s", "keep slow=1s", " keep=4"},
        {"keep error slow=1s", "keep off", " keep=0"},
        {"keep off", "keep status=429", " keep=8"},
    };
    char told[160];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_sampling_t outer = level(rows[i].outer), inner = level(rows[i].inner);

        es_sampling_inherit(&inner, &outer);
        tell(&inner, told);
        if (strcmp(told, rows[i].result) != 0) {
            fail_msg("\"%s\" in \"%s\": %s, not %s", rows[i].inner, rows[i].outer, told,
                     rows[i].result);
        }
    }
}

/* Places are kept with what they are of. */
static void
places(void **state)
{
    es_sampling_t outer = level("sampler always_on; limit 1r/s"), inner = level("rate 10%");

    (void) state;
    es_sampling_inherit(&inner, &outer);
    assert_string_equal(inner.places[__builtin_ctz(ES_GIVEN_RATE)], "rate 10%");
    assert_string_equal(inner.places[__builtin_ctz(ES_GIVEN_LIMIT)], "limit 1r/s");
    assert_string_equal(inner.places[__builtin_ctz(ES_GIVEN_SAMPLER)], "sampler always_on");
}

/* Servers merge sections in an order of their own: (a, b), c is a, (b, c). */
static void
associative(void **state)
{
    static const char *const levels[] = {
        "",
        "rate 10%",
        "rate",
        "target 5r/s",
        "sampler always_on",
        "sampler always_off",
        "sampler traceidratio",
        "sampler traceidratio; rate 20%",
        "sampler parentbased_always_on",
        "sampler parentbased_traceidratio",
        "sampler parentbased_traceidratio; target 7r/s",
        "limit 9r/s",
        "keep error limit=3r/s",
        "keep off",
    };
    enum { N = UNIT_COUNT(levels) };
    es_sampling_t all[N];

    (void) state;
    for (unsigned i = 0; i < N; i++) {
        all[i] = level(levels[i]);
    }
    for (unsigned i = 0; i < N * N * N; i++) {
        const es_sampling_t *a = &all[i / N / N], *b = &all[i / N % N], *c = &all[i % N];
        es_sampling_t left = *b, right = *c;
        es_sampling_t left_inner = *c;

        es_sampling_inherit(&left, a);
        es_sampling_inherit(&left_inner, &left);
        es_sampling_inherit(&right, b);
        es_sampling_inherit(&right, a);
        if (memcmp(&left_inner, &right, sizeof(right)) != 0) {
            fail_msg("\"%s\", \"%s\", \"%s\"", levels[i / N / N], levels[i / N % N], levels[i % N]);
        }
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(words),       TEST(bad_words), TEST(ceilings),    TEST(conflicts),
        TEST(inheritance), TEST(places),    TEST(associative),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
