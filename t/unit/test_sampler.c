#include "unit.h"

#include "es_id.h"
#include "es_sampler.h"

static bool
sampled_by(const uint8_t trace_id[ES_TRACE_ID_LEN], uint64_t t)
{
    es_decision_t decision =
        es_sampler_root(ES_ROOT_RATIO, ES_RATIO_RATE, t, es_randomness(trace_id));

    assert_string_equal(es_decisions[decision].token, "ratio");
    return es_decisions[decision].sampled;
}

static uint64_t
threshold(const char *rate)
{
    es_error_t error;
    uint64_t value = 0;

    if (!es_parse_sample_rate(es_cstr(rate), &value, &error)) {
        fail_msg("\"%s\" is refused: %s", rate, error.text);
    }
    return value;
}

/* T in hexadecimal without the zeros at the right. */
static const char *
hex(uint64_t t, char out[16])
{
    snprintf(out, 16, "%014llx", (unsigned long long) t);
    for (size_t len = 14; len > 1 && out[len - 1] == '0'; len--) {
        out[len - 1] = '\0';
    }
    return out;
}

static void
rates(void **state)
{
    static const struct {
        const char *rate, *th;
    } rows[] = {
        {"1", "0"},
        {"0.5", "8"},
        {"0.3333333333333333", "aaab"},
        {"0.25", "c"},
        {"0.2", "cccd"},
        {"0.125", "e"},
        {"0.1", "e666"},
        {"0.0625", "f"},
        {"0.01", "fd70a"},
        {"0.001", "ffbe77"},
        {"0.0001", "fff9724"},
        {"0.00001", "ffff583a"},
        {"0.000001", "ffffef39"},
        {"100%", "0"},
        {"50%", "8"},
        {"25%", "c"},
        {"20%", "cccd"},
        {"10%", "e666"},
        {"6.25%", "f"},
        {"1%", "fd70a"},
        {"0.1%", "ffbe77"},
        {"0.01%", "fff9724"},
    };
    static const struct {
        const char *rate;
        uint64_t threshold;
    } exact[] = {
        {"1", 0},
        {"1.0", 0},
        {"1.", 0},
        {"001", 0},
        {"100.0%", 0},
        {"0", ES_THRESHOLD_NEVER},
        {"0.0", ES_THRESHOLD_NEVER},
        {"0%", ES_THRESHOLD_NEVER},
        {".0%", ES_THRESHOLD_NEVER},
        {"0.1", UINT64_C(0xe6660000000000)},
        {"10%", UINT64_C(0xe6660000000000)},
        {".5", UINT64_C(0x80000000000000)},
        {"0.75", UINT64_C(0x40000000000000)},
        /* A little above 2^-56, and a little below. */
        {"0.0000000000000000138778", UINT64_C(0xffffffffffffff)},
        {"0.0000000000000000138777", ES_THRESHOLD_NEVER},
    };
    char th[16];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        assert_string_equal(hex(threshold(rows[i].rate), th), rows[i].th);
    }
    for (size_t i = 0; i < UNIT_COUNT(exact); i++) {
        assert_int_equal(threshold(exact[i].rate), exact[i].threshold);
    }
}

/* A higher rate samples all that a lower one does. */
static void
rates_are_monotone(void **state)
{
    uint64_t before = ES_THRESHOLD_NEVER + 1;
    char rate[16];

    (void) state;
    for (unsigned i = 0; i <= 10000; i++) {
        snprintf(rate, sizeof(rate), "%u.%02u%%", i / 100, i % 100);
        assert_true(threshold(rate) < before);
        before = threshold(rate);
    }
    assert_int_equal(before, 0);
}

static void
bad_rates(void **state)
{
    static const char *const rows[] = {
        "",      "%",    ".",    ".%",    "-1",  "-0",   "+0.5", "1.1",    "2",
        "100",   "101%", "1e-3", "0x1",   "inf", "nan",  "0,5",  "0.5 ",   " 0.5",
        "0.5%%", "10 %", "%10",  "1.2.3", "on",  "0.5x", "1/10", "100.1%", "0.5\n",
    };
    static const char hint[] = ": it is a number from 0 to 1, or a percentage from 0% to 100%";
    uint64_t value = 42;
    es_error_t error;
    char expected[256], digits[1000];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        if (es_parse_sample_rate(es_cstr(rows[i]), &value, &error)) {
            fail_msg("\"%s\" is taken", rows[i]);
        }
        snprintf(expected, sizeof(expected), "invalid sample rate \"%s\"%s", rows[i], hint);
        assert_string_equal(error.text, expected);
        assert_int_equal(value, 42);
    }

    assert_false(es_parse_sample_rate(ES_STR("0.5\0"), &value, &error));
    memset(digits, '9', sizeof(digits));
    assert_false(es_parse_sample_rate(es_str(digits, sizeof(digits)), &value, &error));
    assert_non_null(strstr(error.text, hint));

    /* Both sides of the point are too long for a double. */
    digits[0] = '0';
    digits[1] = '.';
    assert_false(es_parse_sample_rate(es_str(digits, sizeof(digits)), &value, &error));
}

static void
randomness(void **state)
{
    static const uint8_t id[] = {0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6,
                                 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36};
    static const struct {
        uint64_t threshold;
        bool sampled;
    } rows[] = {
        {0, true},
        {UINT64_C(0x80000000000000), true},
        {UINT64_C(0xc0000000000000), true},
        {UINT64_C(0xcccd0000000000), true},
        {UINT64_C(0xce929d0e0e4735), true},
        {UINT64_C(0xce929d0e0e4736), true},
        {UINT64_C(0xce929d0e0e4737), false},
        {UINT64_C(0xe6660000000000), false},
        {UINT64_C(0xffffffffffffff), false},
        {ES_THRESHOLD_NEVER, false},
    };
    uint8_t least[ES_TRACE_ID_LEN], most[ES_TRACE_ID_LEN];

    (void) state;
    assert_int_equal(es_randomness(id), UINT64_C(0xce929d0e0e4736));
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        assert_int_equal(sampled_by(id, rows[i].threshold), rows[i].sampled);
    }

    /* Only the low 56 bits count. */
    memset(least, 0xff, sizeof(least));
    memset(least + 9, 0, 7);
    memset(most, 0, sizeof(most));
    memset(most + 9, 0xff, 7);
    assert_int_equal(es_randomness(least), 0);
    assert_int_equal(es_randomness(most), UINT64_C(0xffffffffffffff));
    assert_true(sampled_by(least, 0));
    assert_false(sampled_by(least, 1));
    assert_true(sampled_by(most, UINT64_C(0xffffffffffffff)));
    assert_false(sampled_by(most, ES_THRESHOLD_NEVER));
}

/* A fixed seed: within three sigma is what one run in four hundred is not. */
static void
share(void **state)
{
    static const struct {
        const char *rate;
        double p;
    } rows[] = {{"0.5", 0.5}, {"10%", 0.1}, {"1%", 0.01}, {"0.9", 0.9}, {"0.1%", 0.001}};
    enum { IDS = 100000 };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_id_generator_t ids = {.counter = 20 + i, .key = {0x5eed, 0xfeed}};
        uint64_t t = threshold(rows[i].rate);
        double mean = IDS * rows[i].p, variance = mean * (1 - rows[i].p), difference;
        unsigned sampled = 0;

        for (unsigned k = 0; k < IDS; k++) {
            uint8_t id[ES_TRACE_ID_LEN];

            es_trace_id_new(&ids, id);
            sampled += sampled_by(id, t);
        }
        difference = sampled - mean;
        if (difference * difference > 9 * variance) {
            fail_msg("%u of %u at %s", sampled, IDS, rows[i].rate);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates),     cmocka_unit_test(rates_are_monotone),
        cmocka_unit_test(bad_rates), cmocka_unit_test(randomness),
        cmocka_unit_test(share),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
