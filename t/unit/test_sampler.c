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

/* Conformance of OpenTelemetry's own rounding: at other precisions, and none at all. */
static void
precisions(void **state)
{
    static const struct {
        double probability;
        unsigned digits;
        const char *th;
    } rows[] = {
        {1.0, 4, "0"},
        {1.0 / 2, 4, "8"},
        {1.0 / 3, 4, "aaab"},
        {1.0 / 4, 4, "c"},
        {1.0 / 5, 4, "cccd"},
        {1.0 / 8, 4, "e"},
        {1.0 / 10, 4, "e666"},
        {1.0 / 16, 4, "f"},
        {1.0 / 100, 4, "fd70a"},
        {1.0 / 1000, 4, "ffbe77"},
        {1.0 / 10000, 4, "fff9724"},
        {1.0 / 100000, 4, "ffff583a"},
        {1.0 / 1000000, 4, "ffffef39"},
        {1.0 / 10, 3, "e66"},
        {1.0 / 100, 3, "fd71"},
        {1.0 / 1000, 3, "ffbe7"},
        {1.0 / 10, 5, "e6666"},
        {1.0 / 100, 5, "fd70a4"},
        {1.0 / 1000, 5, "ffbe76d"},
        {0.1, 14, "e6666666666668"},
        {1 / 72057594037927936.0, 14, "ffffffffffffff"},
        {1 / 72057594037927936.0, 4, "ffffffffffffff"},

        /* Near 1 the digits that count are behind the zeros. */
        {0.99, 4, "028f6"},
        {0.9999, 4, "00068dc"},
        {0.9, 4, "199a"},
    };
    char th[16];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        uint64_t t = es_threshold_round(es_threshold_of(rows[i].probability), rows[i].digits);

        assert_string_equal(hex(t, th), rows[i].th);
        assert_int_equal(es_threshold_round(t, rows[i].digits), t);
    }
    assert_int_equal(es_threshold_round(ES_THRESHOLD_NEVER, 4), ES_THRESHOLD_NEVER);
    assert_int_equal(es_threshold_of(0), ES_THRESHOLD_NEVER);

    for (unsigned left = 0; left < 56; left++) {
        uint64_t t = (ES_THRESHOLD_NEVER - 1) >> left;

        assert_true(es_threshold_round(t, 4) <= ES_THRESHOLD_NEVER);
        assert_true(es_threshold_round(ES_THRESHOLD_NEVER - t, 4) <= ES_THRESHOLD_NEVER);
    }
}

static void
texts(void **state)
{
    static const struct {
        const char *rate, *text;
    } rows[] = {
        {"1", "1"},          {"0", "0"},           {"0.5", "0.5"},       {"10%", "0.1"},
        {"1%", "0.01"},      {"0.1%", "0.001"},    {"0.034", "0.034"},   {"0.3333333333", "0.3333"},
        {"0.2", "0.2"},      {"0.9999", "0.9999"}, {"0.99999999", "1"},  {"0.000001", "0.000001"},
        {"12.5%", "0.125"},  {"0.99", "0.99"},     {"0.0625", "0.0625"}, {"0.09999999", "0.1"},
        {"0.75%", "0.0075"},
    };
    char text[ES_PROBABILITY_TEXT];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        size_t len = es_probability_text(threshold(rows[i].rate), text);

        unit_assert_str(es_str(text, len), rows[i].text);
    }
    unit_assert_str(es_str(text, es_probability_text(ES_THRESHOLD_NEVER - 1, text)),
                    "0.00000000000000001388");
}

static void
names(void **state)
{
    static const struct {
        const char *name;
        bool parent_based;
        es_root_t root;
    } rows[] = {
        {"always_on", false, ES_ROOT_ON},
        {"always_off", false, ES_ROOT_OFF},
        {"traceidratio", false, ES_ROOT_RATIO},
        {"parentbased_always_on", true, ES_ROOT_ON},
        {"parentbased_always_off", true, ES_ROOT_OFF},
        {"parentbased_traceidratio", true, ES_ROOT_RATIO},
        {"Parentbased_TraceIdRatio", true, ES_ROOT_RATIO},
    };
    static const struct {
        const char *name, *error;
    } bad[] = {
        {"jaeger_remote", "sampler \"jaeger_remote\" is not supported: it asks a Jaeger collector"},
        {"parentbased_jaeger_remote", "sampler \"parentbased_jaeger_remote\" is not supported: "},
        {"xray", "sampler \"xray\" is not supported: it asks AWS X-Ray"},
        {"", "invalid sampler \"\": it is \"always_on\", \"always_off\", \"traceidratio\", or "},
        {"always", "invalid sampler \"always\": "},
        {"always_on ", "invalid sampler \"always_on \": "},
        {"parentbased_", "invalid sampler \"parentbased_\": "},
    };
    es_error_t error;
    uint8_t row = 99;

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        const es_sampler_t *ratio;

        assert_true(es_sampler_find(es_cstr(rows[i].name), &row, &error));
        assert_int_equal(es_samplers[row].parent_based, rows[i].parent_based);
        assert_int_equal(es_samplers[row].root, rows[i].root);
        ratio = &es_samplers[es_sampler_ratio(row)];
        unit_assert_str(ratio->name,
                        rows[i].parent_based ? "parentbased_traceidratio" : "traceidratio");
    }
    row = 99;
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        assert_false(es_sampler_find(es_cstr(bad[i].name), &row, &error));
        assert_memory_equal(error.text, bad[i].error, strlen(bad[i].error));
        assert_int_equal(row, 99);
    }
    unit_assert_str(es_samplers[0].name, "parentbased_always_on");
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
        cmocka_unit_test(rates),      cmocka_unit_test(rates_are_monotone),
        cmocka_unit_test(bad_rates),  cmocka_unit_test(randomness),
        cmocka_unit_test(precisions), cmocka_unit_test(texts),
        cmocka_unit_test(names),      cmocka_unit_test(share),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
