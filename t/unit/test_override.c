/* The override file: what a line says, and until when. */

#define _GNU_SOURCE /* strptime */

#include "unit_override.h"

/* -------------------------------------------------------------- words --- */

static void
words(void **state)
{
    static const char text[] = "# an incident\r\n"
                               "\r\n"
                               "/checkout/ \t 100% until 11:30 # all\r\n"
                               "\t/checkout/cart 0.25\tuntil 2026-11-22T00:00Z\r\n"
                               "   # the rest\n"
                               "/ 0 until 2026-11-21T10:00:01Z";
    es_override_t override;

    (void) state;
    zone("UTC");
    parse(text, MTIME, &override);
    assert_int_equal(override.count, 3);

    assert_string_equal(override.entries[0].path, "/checkout/cart");
    assert_int_equal(override.entries[0].length, strlen("/checkout/cart"));
    assert_int_equal(override.entries[0].threshold, ES_THRESHOLD_NEVER / 4 * 3);
    assert_int_equal(override.entries[0].until_ns, moment("2026-11-22T00:00:00"));
    assert_int_equal(override.entries[0].line, 4);

    assert_string_equal(override.entries[1].path, "/checkout");
    assert_int_equal(override.entries[1].threshold, 0);
    assert_int_equal(override.entries[1].until_ns, moment("2026-11-21T11:30:00"));
    assert_int_equal(override.entries[1].line, 3);

    assert_int_equal(override.entries[2].length, 0);
    assert_int_equal(override.entries[2].threshold, ES_THRESHOLD_NEVER);
    assert_int_equal(override.entries[2].until_ns, moment("2026-11-21T10:00:01"));
    assert_int_equal(override.entries[2].line, 6);

    parse("", MTIME, &override);
    assert_int_equal(override.count, 0);
    parse("\n# nothing\n\r\n \t", MTIME, &override);
    assert_int_equal(override.count, 0);
}

#define BYTES16 "0123456789abcdef"
#define BYTES112 BYTES16 BYTES16 BYTES16 BYTES16 BYTES16 BYTES16 BYTES16

static void
bounds(void **state)
{
    char text[ES_OVERRIDE_MAX * 32] = "";
    es_override_t override;

    (void) state;
    parse("/" BYTES112 "0123456789abcd 1 until 12:00", MTIME, &override);
    assert_int_equal(override.entries[0].length, ES_OVERRIDE_PATH_MAX);
    for (unsigned i = 0; i < ES_OVERRIDE_MAX; i++) {
        sprintf(text + strlen(text), "/%u 1 until 12:00\n", i);
    }
    parse(text, MTIME, &override);
    assert_int_equal(override.count, ES_OVERRIDE_MAX);
}

static void
errors(void **state)
{
    static char many[(ES_OVERRIDE_MAX + 1) * 32];
    const struct {
        const char *text;
        unsigned line;
        const char *why;
    } rows[] = {
        {"checkout 1 until 12:00", 1, "invalid path \"checkout\": it begins with a slash"},
        {"until 12:00", 1, "invalid path \"until\": it begins with a slash"},
        {"/a?b 1 until 12:00", 1, "invalid path \"/a?b\": it has no query"},
        {"/" BYTES112 "0123456789abcde 1 until 12:00", 1, "it has 127 bytes at most"},
        {"# one\n\n/a", 3, "\"/a\" has no rate: a line is \"<path> <rate> until <time>\""},
        {"/a # 1 until 12:00", 1, "\"/a\" has no rate"},
        {"/a until 12:00", 1, "invalid sample rate \"until\""},
        {"/a 101% until 12:00", 1, "invalid sample rate \"101%\""},
        {"/a 1,5 until 12:00", 1, "invalid sample rate \"1,5\""},
        {"/a 1", 1, "\"/a\" has no end: a line is \"<path> <rate> until <time>\""},
        {"/b 1 until 12:00\r\n/a 1\r\n", 2, "\"/a\" has no end"},
        {"/a 1 till 12:00", 1,
         "\"till\" is not \"until\": a line is \"<path> <rate> until <time>\""},
        {"/a 1 until", 1, "\"until\" has no time: a line is \"<path> <rate> until <time>\""},
        {"/a 1 until 12:00 UTC", 1,
         "\"UTC\" is too much: a line is \"<path> <rate> until <time>\""},
        {"/a 1 until 12:00\n/b 1 until 12:00\n/a/ 0 until 13:00", 3, "\"/a\" is in line 1 already"},
        {"/ 1 until 12:00\n/// 1 until 12:00", 2, "\"/\" is in line 1 already"},
        {many, ES_OVERRIDE_MAX + 1, "more than 64 paths"},
    };
    static const char *const times[] = {
        "noon",
        "12",
        "12:",
        "1:00",
        "12:0",
        "12:000",
        "24:00",
        "12:60",
        "12:00:60",
        "12:00:0",
        "12:00:00.5",
        "12:00Z",
        "-1:00",
        "+1:00",
        "2026-11-21",
        "2026-11-21 12:00",
        "2026-11-21T",
        "2026-11-21T12",
        "2026-11-21T12:00z",
        "2026-11-21T12:00ZZ",
        "2026-11-21T12:00+01:00",
        "2026-11-21t12:00",
        "2026-02-29T12:00",
        "2026-04-31T12:00",
        "2026-13-01T12:00",
        "2026-00-01T12:00",
        "2026-01-00T12:00",
        "2026-1-1T12:00",
        "26-11-21T12:00",
    };

    (void) state;
    for (unsigned i = 0; i <= ES_OVERRIDE_MAX; i++) {
        sprintf(many + strlen(many), "/%u 1 until 12:00\n", i);
    }
    for (size_t i = 0; i < UNIT_COUNT(rows) + UNIT_COUNT(times); i++) {
        char line_of_time[64], why[256];
        const char *text = line_of_time, *expected = why;
        unsigned expected_line = 1, line;
        es_override_t override;
        es_error_t error = {""};
        es_str_t exact;

        if (i < UNIT_COUNT(rows)) {
            text = rows[i].text;
            expected = rows[i].why;
            expected_line = rows[i].line;
        } else {
            const char *time = times[i - UNIT_COUNT(rows)];

            snprintf(line_of_time, sizeof(line_of_time), "/a 1 until %s", time);
            snprintf(why, sizeof(why), "invalid time \"%.*s\": it is HH:MM, HH:MM:SS or",
                     (int) strcspn(time, " "), time);
            if (strchr(time, ' ') != NULL) {
                snprintf(why, sizeof(why), "invalid time \"2026-11-21\"");
            }
        }
        exact = unit_exact(es_cstr(text));
        if (es_override_parse(exact, moment(MTIME), &override, &line, &error)) {
            fail_msg("\"%s\" is taken", text);
        }
        if (strstr(error.text, expected) == NULL || line != expected_line) {
            fail_msg("\"%s\", line %u: %s", text, line, error.text);
        }
        unit_free(exact);
    }
}

/* -------------------------------------------------------------- times --- */

#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"
#define DUBLIN "IST-1GMT0,M10.5.0,M3.5.0/1"        /* its winter is the special time */
#define SANTIAGO "<-04>4<-03>,M9.1.6/24,M4.1.6/24" /* changes at midnight */

static void
times(void **state)
{
    static const struct {
        const char *zone, *mtime, *time, *until;
    } rows[] = {
        {"UTC", "2026-11-21T10:00:00", "10:01", "2026-11-21T10:01:00"},
        {"UTC", "2026-11-21T10:00:00", "10:00:07", "2026-11-21T10:00:07"},
        {"UTC", "2026-12-31T23:30:00", "00:10", "2027-01-01T00:10:00"},
        {"UTC", "2028-02-28T12:00:00", "11:00", "2028-02-29T11:00:00"},

        /* After the file was written, not at that moment. */
        {BERLIN, "2026-11-21T10:59:59", "12:00", "2026-11-21T11:00:00"},
        {BERLIN, "2026-11-21T11:00:00", "12:00", "2026-11-22T11:00:00"},
        {BERLIN, "2026-11-21T11:00:01", "12:00", "2026-11-22T11:00:00"},
        {"IST-5:30", "2026-11-21T06:00:00", "12:00", "2026-11-21T06:30:00"},
        {"EST5", "2026-11-22T03:00:00", "23:00", "2026-11-22T04:00:00"},

        /* The night of 23 hours, at its end and in the middle of the gap. */
        {BERLIN, "2026-03-28T11:30:00", "12:00", "2026-03-29T10:00:00"},
        {BERLIN, "2026-03-28T23:30:00", "02:30", "2026-03-29T01:30:00"},
        {BERLIN, "2026-03-28T23:30:00", "03:00", "2026-03-29T01:00:00"},
        {BERLIN, "2026-03-29T01:40:00", "02:30", "2026-03-30T00:30:00"},
        {DUBLIN, "2026-03-29T00:30:00", "01:30", "2026-03-29T01:30:00"},
        {SANTIAGO, "2026-09-06T03:00:00", "00:30", "2026-09-06T04:30:00"},

        /* The night of 25 hours: either of the two, whichever is next. */
        {BERLIN, "2026-10-24T10:30:00", "12:00", "2026-10-25T11:00:00"},
        {BERLIN, "2026-10-24T22:00:00", "02:30", "2026-10-25T00:30:00"},
        {BERLIN, "2026-10-25T00:45:00", "02:30", "2026-10-25T01:30:00"},
        {BERLIN, "2026-10-25T01:45:00", "02:30", "2026-10-26T01:30:00"},
        {DUBLIN, "2026-10-25T00:00:00", "01:30", "2026-10-25T00:30:00"},
        {DUBLIN, "2026-10-25T00:45:00", "01:30", "2026-10-25T01:30:00"},

        /* With a date the file's time does not matter. */
        {BERLIN, "2030-01-01T00:00:00", "2026-11-21T12:00", "2026-11-21T11:00:00"},
        {BERLIN, "2026-11-21T10:00:00", "2026-07-01T12:00:59", "2026-07-01T10:00:59"},
        {BERLIN, "2026-11-21T10:00:00", "2026-07-01T12:00Z", "2026-07-01T12:00:00"},
        {BERLIN, "2026-11-21T10:00:00", "2026-07-01T12:00:05Z", "2026-07-01T12:00:05"},
        {BERLIN, "2026-11-21T10:00:00", "2026-10-25T02:30", "2026-10-25T00:30:00"},
        {BERLIN, "2026-11-21T10:00:00", "2026-03-29T02:30", "2026-03-29T01:30:00"},
        {"UTC", "2026-11-21T10:00:00", "1969-12-31T23:59Z", "1970-01-01T00:00:00"},
    };
    es_override_t override;

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        char text[128];

        zone(rows[i].zone);
        snprintf(text, sizeof(text), "/ 1 until %s", rows[i].time);
        parse(text, rows[i].mtime, &override);
        if (override.entries[0].until_ns != moment(rows[i].until)) {
            fail_msg("%s, written %s, until %s: %llu is not %s", rows[i].zone, rows[i].mtime,
                     rows[i].time, (unsigned long long) override.entries[0].until_ns / ES_SECOND,
                     rows[i].until);
        }
    }
    zone("UTC");
    parse("/ 1 until 9999-12-31T23:59Z", MTIME, &override);
    assert_true(override.entries[0].until_ns == UINT64_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(bounds),
        cmocka_unit_test(errors),
        cmocka_unit_test(times),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
