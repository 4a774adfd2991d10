#include "unit.h"

#include "es_utf8.h"

#define FFFD "\xef\xbf\xbd"

/* Measures and writes into exactly the size announced, with canaries. */
static void
check(es_str_t bytes, size_t max, const char *expected, size_t expected_size)
{
    es_str_t exact = unit_exact(bytes);
    es_utf8_t text = es_utf8_measure(exact, max);
    uint8_t *out = malloc(text.size + 2);

    assert_non_null(out);
    memset(out, 0xa5, text.size + 2);
    es_utf8_write(out + 1, text);
    assert_int_equal(out[0], 0xa5);
    assert_int_equal(out[text.size + 1], 0xa5);

    unit_assert_str_at(es_str(out + 1, text.size), es_str(expected, expected_size), __FILE__,
                       __LINE__);
    assert_ptr_equal(text.source.data, exact.data);
    assert_true(text.source.len <= bytes.len);
    assert_true(text.size >= text.source.len);
    free(out);
    unit_free(exact);
}

#define CHECK(bytes, expected) check(ES_STR(bytes), SIZE_MAX, expected, sizeof(expected) - 1)
#define CHECK_MAX(bytes, max, expected) check(ES_STR(bytes), max, expected, sizeof(expected) - 1)

static void
valid(void **state)
{
    (void) state;
    CHECK("", "");
    CHECK("plain", "plain");
    CHECK("a\0b", "a\0b");
    CHECK("\x7f\xc2\x80\xdf\xbf", "\x7f\xc2\x80\xdf\xbf");
    CHECK("\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf",
          "\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf");
    CHECK("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
    CHECK("Gr\xc3\xbc\xc3\x9f"
          "e \xe2\x82\xac \xf0\x9f\x8c\x8d",
          "Gr\xc3\xbc\xc3\x9f"
          "e \xe2\x82\xac \xf0\x9f\x8c\x8d");

    es_utf8_t none = es_utf8_measure(ES_STR_NONE, 10);
    assert_int_equal(none.size, 0);
    es_utf8_write(NULL, none);
}

static void
overlong(void **state)
{
    (void) state;
    CHECK("\xc0\x80", FFFD FFFD);
    CHECK("\xc1\xbf", FFFD FFFD);
    CHECK("\xe0\x80\x80", FFFD FFFD FFFD);
    CHECK("\xe0\x9f\xbf", FFFD FFFD FFFD);
    CHECK("\xf0\x80\x80\x80", FFFD FFFD FFFD FFFD);
    CHECK("\xf0\x8f\xbf\xbf", FFFD FFFD FFFD FFFD);
}

static void
surrogates_and_beyond(void **state)
{
    (void) state;
    CHECK("\xed\xa0\x80", FFFD FFFD FFFD);
    CHECK("\xed\xbf\xbf", FFFD FFFD FFFD);
    CHECK("\xed\xa0\xbd\xed\xb8\x80", FFFD FFFD FFFD FFFD FFFD FFFD);
    CHECK("\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD);
    CHECK("\xf5\x80\x80\x80", FFFD FFFD FFFD FFFD);
    CHECK("\xfe\xff", FFFD FFFD);
}

static void
truncated(void **state)
{
    (void) state;
    CHECK("\xc3", FFFD);
    CHECK("\xe2\x82", FFFD FFFD);
    CHECK("\xf0\x9f\x8c", FFFD FFFD FFFD);
    CHECK("\x80", FFFD);
    CHECK("a\xc3"
          "b",
          "a" FFFD "b");
    CHECK("\xe2\x82"
          "a",
          FFFD FFFD "a");
    CHECK("\xe2\xe2\x82\xac", FFFD "\xe2\x82\xac");
    CHECK("\xf0\x9f\x8c\xc3\xbc", FFFD FFFD FFFD "\xc3\xbc");
}

static void
limits(void **state)
{
    (void) state;
    CHECK_MAX("abc", 0, "");
    CHECK_MAX("abc", 2, "ab");
    CHECK_MAX("abc", 3, "abc");
    CHECK_MAX("abc", 4, "abc");
    CHECK_MAX("\xc3\xbc\xe2\x82\xac\xf0\x9f\x8c\x8dx", 1, "\xc3\xbc");
    CHECK_MAX("\xc3\xbc\xe2\x82\xac\xf0\x9f\x8c\x8dx", 2, "\xc3\xbc\xe2\x82\xac");
    CHECK_MAX("\xc3\xbc\xe2\x82\xac\xf0\x9f\x8c\x8dx", 3, "\xc3\xbc\xe2\x82\xac\xf0\x9f\x8c\x8d");
    CHECK_MAX("\xff\xff\xff", 2, FFFD FFFD);
    CHECK_MAX("0123456789abcdef0123", 16, "0123456789abcdef");
    CHECK_MAX("0123456789abcdef0123", 15, "0123456789abcde");
    CHECK_MAX("01234567\xc3\xbc"
              "9",
              9, "01234567\xc3\xbc");
}

/* Something wide or bad at each place around the 8-byte steps, at each limit. */
static void
steps(void **state)
{
    static const es_str_t odd[] = {
        {"\xc3\xbc", 2}, {"\xe2\x82\xac", 3}, {"\xf0\x9f\x8c\x8d", 4}, {"\xff", 1}, {"\xe2\x82", 2},
    };
    char bytes[64];

    (void) state;
    for (size_t o = 0; o < UNIT_COUNT(odd); o++) {
        for (size_t len = 0; len <= 34; len++) {
            for (size_t at = 0; at <= len; at++) {
                size_t total = len + odd[o].len;

                memset(bytes, 'a', sizeof(bytes));
                memcpy(bytes + at, odd[o].data, odd[o].len);
                for (size_t max = 0; max <= total + 1; max++) {
                    size_t size;
                    char *expected = unit_utf8_sanitize(es_str(bytes, total), max, &size);

                    check(es_str(bytes, total), max, expected, size);
                    free(expected);
                }
            }
        }
    }
}

/* Every length, with one byte beyond ASCII at every place or nowhere. */
static void
ascii_copy(void **state)
{
    char bytes[64];

    (void) state;
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        for (size_t at = 0; at <= len; at++) {
            uint8_t out[sizeof(bytes) + 2];
            es_str_t exact;

            for (size_t i = 0; i < len; i++) {
                bytes[i] = (char) (i == at ? 0x80 : 'a' + i % 26);
            }
            exact = unit_exact(es_str(bytes, len));
            memset(out, 0xa5, sizeof(out));
            assert_int_equal(es_ascii_copy(out + 1, exact), at == len);
            assert_int_equal(out[0], 0xa5);
            assert_int_equal(out[len + 1], 0xa5);
            if (at == len) {
                assert_memory_equal(out + 1, exact.data, len);
            }
            unit_free(exact);
        }
    }
    assert_true(es_ascii_copy(NULL, ES_STR_NONE));
}

/* Each first byte with each second one, and with what decides of the others. */
static void
all_sequences(void **state)
{
    static const uint8_t others[] = {0x00, 0x7f, 0x80, 0xbf, 0xc0, 0xff};
    uint8_t s[4], out[12];

    (void) state;
    for (unsigned first = 0; first < 256 * 256; first++) {
        for (unsigned i = 0; i < 6 * 6; i++) {
            es_str_t bytes = es_str(s, 4);
            es_utf8_t text;
            uint32_t code;
            size_t size = 0;

            s[0] = (uint8_t) (first >> 8);
            s[1] = (uint8_t) first;
            s[2] = others[i / 6];
            s[3] = others[i % 6];
            text = es_utf8_measure(bytes, SIZE_MAX);

            for (size_t at = 0; at < sizeof(s);) {
                size_t n = unit_utf8_decode(s + at, sizeof(s) - at, &code);

                size += n != 0 ? n : 3;
                at += n != 0 ? n : 1;
            }
            if (text.size != size || text.source.len != sizeof(s)) {
                fail_msg("%02x %02x %02x %02x", s[0], s[1], s[2], s[3]);
            }
            es_utf8_write(out, text);
            if (!unit_utf8_valid(es_str(out, text.size))) {
                fail_msg("%02x %02x %02x %02x is written invalid", s[0], s[1], s[2], s[3]);
            }
        }
    }
}

static void
random_bytes(void **state)
{
    unit_random_t random = unit_random_init();
    uint8_t bytes[80];

    (void) state;
    for (unsigned i = 0; i < 50000; i++) {
        size_t len = unit_random_below(&random, sizeof(bytes) + 1);
        size_t max = unit_random_below(&random, 90), size;
        es_str_t s = es_str(bytes, len);
        es_utf8_t text;
        uint8_t out[3 * sizeof(bytes)];
        char *expected;

        unit_random_bytes(&random, bytes, len);
        for (size_t k = 0; k < len; k++) {
            if (unit_random_below(&random, 4) != 0) {
                bytes[k] &= 0x7f;
            }
        }
        expected = unit_utf8_sanitize(s, max, &size);
        text = es_utf8_measure(s, max);
        unit_assert(&random, text.size == size);
        es_utf8_write(out, text);
        unit_assert(&random, memcmp(out, expected, size) == 0);
        free(expected);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid),        cmocka_unit_test(overlong),
        cmocka_unit_test(truncated),    cmocka_unit_test(surrogates_and_beyond),
        cmocka_unit_test(limits),       cmocka_unit_test(steps),
        cmocka_unit_test(ascii_copy),   cmocka_unit_test(all_sequences),
        cmocka_unit_test(random_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
