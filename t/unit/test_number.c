/* Numbers as text. */

#include "unit.h"

#include "es_number.h"

#include <math.h>

static void
integers(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } rows[] = {
        {"0", 0},
        {"-0", 0},
        {"+7", 7},
        {"0042", 42},
        {"-42", -42},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
        {"00000000000000000000000000000001", 1},
    };
    static const char *const bad[] = {
        "",
        "-",
        "+",
        " 1",
        "1 ",
        "1.0",
        "0x1",
        "1e3",
        "-",
        "--1",
        "+-1",
        "1,2",
        "a",
        "1a",
        "4\xc3",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551617",
        "99999999999999999999",
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_str_t text = unit_exact(es_cstr(rows[i].text));
        int64_t value = 99;

        assert_true(es_parse_int(text, &value));
        assert_int_equal(value, rows[i].value);
        unit_free(text);
    }
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        es_str_t text = unit_exact(es_cstr(bad[i]));
        int64_t value;

        if (es_parse_int(text, &value)) {
            fail_msg("\"%s\" is %lld", bad[i], (long long) value);
        }
        unit_free(text);
    }
}

static void
no_fractions(void **state)
{
    static const char *const bad[] = {
        "",
        "-",
        ".",
        "-.",
        "e1",
        "1e",
        "1e+",
        "1e-",
        " 1",
        "1 ",
        "1,5",
        "1..2",
        "1.2.",
        "1e1.0",
        "1e1e1",
        "nan",
        "inf",
        "Infinity",
        "0x1p3",
        "1f",
        "1e309",
        "-1e309",
        "1e99999999999999999999",
        "1_000",
        "0.1 : 0.2",
        "0.1, 0.2",
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        es_str_t text = unit_exact(es_cstr(bad[i]));
        double value;

        if (es_parse_double(text, &value)) {
            fail_msg("\"%s\" is %g", bad[i], value);
        }
        unit_free(text);
    }
}

static void
same_as_strtod(const char *text, double tolerance)
{
    es_str_t exact = unit_exact(es_cstr(text));
    double value = -1, expected = strtod(text, NULL);

    if (!es_parse_double(exact, &value) || !(fabs(value - expected) <= tolerance * fabs(expected))
        || signbit(value) != signbit(expected)) {
        fail_msg("%s is %.17g instead of %.17g", text, value, expected);
    }
    unit_free(exact);
}

static void
fractions(void **state)
{
    static const char *const exact[] = {
        "0",
        "-0",
        "0.0",
        "1",
        "-1",
        "1.5",
        ".5",
        "5.",
        "0.001",
        "12.25",
        "1e3",
        "1E-3",
        "1.5e+2",
        "0.1",
        "0.123456789012345",
        "1e-400",
        "0e999999999999",
        "-1e-999999",
        "1e22",
        "1e-22",
        "123456789012345e7",
        "000000000000000000000000000000.5",
        "0.00000000000000000000000000",
    };
    static const char *const near[] = {
        "1e308",
        "1.7976931348623157e308",
        "1e-300",
        "12345678901234567890123456789012345678901",
        "0.12345678901234567890123456789",
        "1e-100",
        "0.0000000000000000000000000000000000123",
        "123456789012345678901234567890e-20",
    };
    unit_random_t random = unit_random_init();
    char text[64];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(exact); i++) {
        same_as_strtod(exact[i], 0);
    }
    for (size_t i = 0; i < UNIT_COUNT(near); i++) {
        same_as_strtod(near[i], 1e-14);
    }
    for (unsigned i = 0; i < 20000; i++) {
        /* What a server writes: up to 15 digits. */
        snprintf(
            text, sizeof(text), "%.*f", (int) unit_random_below(&random, 7),
            (double) (int64_t) (unit_random_u64(&random) >> (24 + unit_random_below(&random, 40)))
                / 1000);
        same_as_strtod(text, 1e-15);
        snprintf(text, sizeof(text), "%llu.%06ue%d",
                 (unsigned long long) (unit_random_u64(&random) >> unit_random_below(&random, 64)),
                 unit_random_below(&random, 1000000), (int) unit_random_below(&random, 500) - 250);
        same_as_strtod(text, 1e-14);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers),
        cmocka_unit_test(no_fractions),
        cmocka_unit_test(fractions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
