#include "es_number.h"

#include "es_str.h"

#include <math.h>

static bool
take_sign(es_str_t *text)
{
    bool negative = es_str_starts(*text, ES_STR("-"));

    if (negative || es_str_starts(*text, ES_STR("+"))) {
        *text = es_str_from(*text, 1);
    }
    return negative;
}

static bool
is_digit(es_str_t text)
{
    return text.len != 0 && text.data[0] >= '0' && text.data[0] <= '9';
}

bool
es_parse_int(es_str_t text, int64_t *value)
{
    bool negative = take_sign(&text);
    uint64_t most = (uint64_t) INT64_MAX + negative, number = 0;

    if (text.len == 0) {
        return false;
    }
    for (; text.len != 0; text = es_str_from(text, 1)) {
        uint64_t digit = (uint64_t) (text.data[0] - '0');

        if (!is_digit(text) || number > (most - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    *value = (int64_t) (negative ? 0 - number : number);
    return true;
}

/* ------------------------------------------------------------ fractions --- */

/* More digits than a double can tell; those beyond only count for the exponent. */
#define DIGITS_MAX UINT64_C(1000000000000000000)

/* Beyond any double, with digits enough before it. */
#define EXPONENT_MAX 100000

typedef struct es_decimal {
    uint64_t digits;
    int64_t exponent;
} es_decimal_t;

/* Returns how many there were. `fraction` is 1 behind the point. */
static size_t
take_digits(es_str_t *text, es_decimal_t *decimal, int fraction)
{
    size_t before = text->len;

    for (; is_digit(*text); *text = es_str_from(*text, 1)) {
        if (decimal->digits < DIGITS_MAX) {
            decimal->digits = decimal->digits * 10 + (uint64_t) (text->data[0] - '0');
            decimal->exponent -= fraction;
        } else {
            decimal->exponent += 1 - fraction;
        }
    }
    return before - text->len;
}

static bool
take_exponent(es_str_t *text, es_decimal_t *decimal)
{
    int64_t exponent = 0;
    bool negative;

    *text = es_str_from(*text, 1);
    negative = take_sign(text);
    if (!is_digit(*text)) {
        return false;
    }
    for (; is_digit(*text); *text = es_str_from(*text, 1)) {
        if (exponent < EXPONENT_MAX) {
            exponent = exponent * 10 + (text->data[0] - '0');
        }
    }
    decimal->exponent += negative ? -exponent : exponent;
    return true;
}

/* Powers up to 22 are exact, and so is one product of exact numbers; what takes more is
 * off by a few units in the last place. */
static double
scale(double value, int64_t exponent)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

    for (; exponent > 22 && value != 0 && isfinite(value); exponent -= 22) {
        value *= 1e22;
    }
    for (; exponent < -22 && value != 0; exponent += 22) {
        value /= 1e22;
    }
    if (value == 0 || !isfinite(value)) {
        return value;
    }
    return exponent < 0 ? value / powers[-exponent] : value * powers[exponent];
}

bool
es_parse_double(es_str_t text, double *value)
{
    bool negative = take_sign(&text);
    es_decimal_t decimal = {0, 0};
    size_t digits = take_digits(&text, &decimal, 0);

    if (es_str_starts(text, ES_STR("."))) {
        text = es_str_from(text, 1);
        digits += take_digits(&text, &decimal, 1);
    }
    if (digits == 0) {
        return false;
    }
    if (text.len != 0 && (text.data[0] | 0x20) == 'e' && !take_exponent(&text, &decimal)) {
        return false;
    }
    *value = scale((double) decimal.digits, decimal.exponent);
    if (negative) {
        *value = -*value;
    }
    return text.len == 0 && isfinite(*value);
}
