#include "es_str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned char
lower(char c)
{
    return (unsigned char) (c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

bool
es_str_ieq(es_str_t a, es_str_t b)
{
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (lower(a.data[i]) != lower(b.data[i])) {
            return false;
        }
    }
    return true;
}

size_t
es_str_find(es_str_t s, char c)
{
    const char *hit = s.len != 0 ? memchr(s.data, c, s.len) : NULL;

    return hit != NULL ? (size_t) (hit - s.data) : s.len;
}

es_str_t
es_str_take(es_str_t *rest, char c)
{
    size_t end = es_str_find(*rest, c);
    es_str_t part = es_str(rest->data, end);

    *rest = es_str_from(*rest, end < rest->len ? end + 1 : end);
    return part;
}

unsigned
es_str_split(es_str_t s, char c, es_str_t *parts, unsigned max)
{
    unsigned count = 0;

    for (;;) {
        size_t end = es_str_find(s, c);

        if (count++ == max) {
            return count;
        }
        parts[count - 1] = es_str(s.data, end);
        if (end == s.len) {
            return count;
        }
        s = es_str_from(s, end + 1);
    }
}

es_str_t
es_str_trim(es_str_t s)
{
    while (s.len != 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s = es_str_from(s, 1);
    }
    while (s.len != 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

size_t
es_token_len(es_str_t s)
{
    size_t i;

    for (i = 0; i < s.len; i++) {
        char c = s.data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
            && memchr("!#$%&'*+-.^_`|~", c, 15) == NULL) {
            break;
        }
    }
    return i;
}

char *
es_str_dup(es_str_t s)
{
    char *copy = malloc(s.len + 1);

    if (copy != NULL) {
        if (s.len != 0) {
            memcpy(copy, s.data, s.len);
        }
        copy[s.len] = '\0';
    }
    return copy;
}

/* "000102...fdfeff" */
/* clang-format off */
#define PAIRS(high)                                                                    \
    high "0" high "1" high "2" high "3" high "4" high "5" high "6" high "7" high "8"   \
    high "9" high "a" high "b" high "c" high "d" high "e" high "f"

static const char pairs[] =
    PAIRS("0") PAIRS("1") PAIRS("2") PAIRS("3") PAIRS("4") PAIRS("5") PAIRS("6") PAIRS("7")
    PAIRS("8") PAIRS("9") PAIRS("a") PAIRS("b") PAIRS("c") PAIRS("d") PAIRS("e") PAIRS("f");
/* clang-format on */

void
es_hex(char *out, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        memcpy(out + 2 * i, pairs + 2 * bytes[i], 2);
    }
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
es_unhex(uint8_t *out, const char *digits, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(digits[2 * i]), low = hex_digit(digits[2 * i + 1]);

        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t) (high << 4 | low);
    }
    return true;
}

bool
es_unhex_padded(uint8_t *out, size_t len, es_str_t digits)
{
    if (digits.len == 0 || digits.len > 2 * len) {
        return false;
    }
    memset(out, 0, len);
    for (size_t i = 0; i < digits.len; i++) {
        int digit = hex_digit((char) lower(digits.data[digits.len - 1 - i]));

        if (digit < 0) {
            return false;
        }
        out[len - 1 - i / 2] |= (uint8_t) (digit << 4 * (i % 2));
    }
    return true;
}

bool
es_percent_byte(es_str_t s, uint8_t *byte)
{
    uint8_t value;

    if (s.len < 3 || s.data[0] != '%' || !es_unhex_padded(&value, 1, es_str(s.data + 1, 2))) {
        return false;
    }
    *byte = value;
    return true;
}

bool
es_all_zero(const uint8_t *bytes, size_t len)
{
    uint8_t any = 0;

    for (size_t i = 0; i < len; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

bool
es_parse_uint(es_str_t s, uint64_t *value)
{
    uint64_t n = 0;

    if (s.len == 0 || s.len > 18) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9') {
            return false;
        }
        n = n * 10 + (uint64_t) (s.data[i] - '0');
    }
    *value = n;
    return true;
}

bool
es_fail(es_error_t *error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(error->text, sizeof(error->text), format, args);
    va_end(args);
    return false;
}

void
es_make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char) *text < 0x20 || *text == 0x7f) {
            *text = ' ';
        }
    }
}

void
es_buffer_free(es_buffer_t *buffer)
{
    free(buffer->data);
    *buffer = (es_buffer_t){NULL, 0};
}
