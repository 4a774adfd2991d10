/* unit.h: what the unit tests share. Each test_*.c is a cmocka program of its
 * own that links the core.
 *
 * Random tests take their seed from the clock and print it when they fail;
 * UNIT_SEED=<seed> in the environment repeats a run. */

#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "edgespan.h"

#define UNIT_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ------------------------------------------------------------- random --- */

typedef struct unit_random {
    uint64_t seed, state;
} unit_random_t;

static inline unit_random_t
unit_random_init(void)
{
    const char *given = getenv("UNIT_SEED");
    struct timespec now;
    uint64_t seed;

    clock_gettime(CLOCK_REALTIME, &now);
    seed = given != NULL ? strtoull(given, NULL, 0)
                         : (uint64_t) now.tv_sec * 1000000007u + (uint64_t) now.tv_nsec;
    return (unit_random_t){seed, seed};
}

/* xorshift64*, a generator unlike the one that is tested. */
static inline uint64_t
unit_random_u64(unit_random_t *random)
{
    uint64_t x = random->state != 0 ? random->state : 88172645463325252u;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return x * UINT64_C(2685821657736338717);
}

/* 0 .. below - 1. */
static inline uint32_t
unit_random_below(unit_random_t *random, uint32_t below)
{
    return (uint32_t) ((unit_random_u64(random) >> 32) % below);
}

static inline void
unit_random_bytes(unit_random_t *random, void *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        ((uint8_t *) out)[i] = (uint8_t) (unit_random_u64(random) >> 56);
    }
}

/* assert_true() that says how to repeat the run. */
#define unit_assert(random, condition)                                                    \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fail_msg("UNIT_SEED=%llu: not true: %s", (unsigned long long) (random)->seed, \
                     #condition);                                                         \
        }                                                                                 \
    } while (0)

/* ------------------------------------------------------------ strings --- */

#define unit_assert_str(actual, expected) \
    unit_assert_str_at(actual, es_cstr(expected), __FILE__, __LINE__)

static inline void
unit_assert_str_at(es_str_t actual, es_str_t expected, const char *file, int line)
{
    if (actual.len != expected.len
        || (actual.len != 0 && memcmp(actual.data, expected.data, actual.len) != 0)) {
        print_error("\"%.*s\" is not \"%.*s\"\n", (int) actual.len,
                    actual.data != NULL ? actual.data : "", (int) expected.len,
                    expected.data != NULL ? expected.data : "");
        _fail(file, line);
    }
}

/* A copy without a byte to spare, so that AddressSanitizer sees each byte read
 * behind it. */
static inline es_str_t
unit_exact(es_str_t s)
{
    char *copy = malloc(s.len != 0 ? s.len : 1);

    assert_non_null(copy);
    if (s.len != 0) {
        memcpy(copy, s.data, s.len);
    }
    return es_str(copy, s.len);
}

static inline void
unit_free(es_str_t s)
{
    free((void *) (uintptr_t) s.data);
}

/* ---------------------------------------------------- a configuration --- */

/* What was logged since it was emptied, a line each: "warn: ...". */
static char unit_said[16384];

static inline void
unit_remember(void *data, es_log_level_t level, const char *text)
{
    static const char *const levels[] = {"error", "warn", "notice", "info"};
    size_t len = strlen(unit_said);

    (void) data;
    snprintf(unit_said + len, sizeof(unit_said) - len, "%s: %s\n", levels[level], text);
}

static const es_log_t unit_log = {unit_remember, NULL};

static inline void
unit_is_said(const char *words)
{
    if (strstr(unit_said, words) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", words, unit_said);
    }
}

static inline void
unit_is_not_said(const char *words)
{
    if (strstr(unit_said, words) != NULL) {
        fail_msg("\"%s\" is in \"%s\"", words, unit_said);
    }
}

/* As a server maps it for the queue and the statistics. */
static inline void *
unit_area(size_t size)
{
    void *memory = aligned_alloc(64, (size + 63) & ~(size_t) 63);

    assert_non_null(memory);
    return memset(memory, 0, size);
}

/* -------------------------------------------------------------- UTF-8 --- */

/* The code point at s, by the bit patterns of RFC 3629 and then its ranges; the
 * length, or 0 if nothing valid begins there. Written unlike the core's, so that
 * the two can be compared. */
static inline size_t
unit_utf8_decode(const uint8_t *s, size_t left, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = s[0] < 0x80         ? 1
               : (s[0] >> 5) == 6  ? 2
               : (s[0] >> 4) == 14 ? 3
               : (s[0] >> 3) == 30 ? 4
                                   : 0;

    if (n <= 1) {
        *code = s[0];
        return n;
    }
    if (n > left) {
        return 0;
    }
    *code = s[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] >> 6) != 2) {
            return 0;
        }
        *code = *code << 6 | (s[i] & 0x3fu);
    }
    if (*code < least[n] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff)) {
        return 0;
    }
    return n;
}

/* What is to be sent for `s`, NUL-terminated; the caller frees it. */
static inline char *
unit_utf8_sanitize(es_str_t s, size_t max_characters, size_t *size)
{
    char *out = malloc(3 * s.len + 1);
    size_t at = 0, len = 0;

    assert_non_null(out);
    for (size_t i = 0; i < max_characters && at < s.len; i++) {
        uint32_t code;
        size_t n = unit_utf8_decode((const uint8_t *) s.data + at, s.len - at, &code);

        memcpy(out + len, n != 0 ? s.data + at : "\xef\xbf\xbd", n != 0 ? n : 3);
        len += n != 0 ? n : 3;
        at += n != 0 ? n : 1;
    }
    out[len] = '\0';
    if (size != NULL) {
        *size = len;
    }
    return out;
}

static inline bool
unit_utf8_valid(es_str_t s)
{
    uint32_t code;

    for (size_t at = 0, n; at < s.len; at += n) {
        n = unit_utf8_decode((const uint8_t *) s.data + at, s.len - at, &code);
        if (n == 0) {
            return false;
        }
    }
    return true;
}

#endif
