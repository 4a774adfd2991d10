/* The words of an override file. */

#include "es_clock.h"
#include "es_override.h"
#include "es_str.h"

#include <stdlib.h>
#include <time.h>

#define FORM "a line is \"<path> <rate> until <time>\""

/* --------------------------------------------------------------- times --- */

/* Exactly so many digits, and what follows them if it is not NUL. */
static bool
take_number(es_str_t *text, size_t digits, char end, int *value)
{
    uint64_t number;

    if (text->len < digits + (end != '\0') || !es_parse_uint(es_str(text->data, digits), &number)
        || (end != '\0' && text->data[digits] != end)) {
        return false;
    }
    *value = (int) number;
    *text = es_str_from(*text, digits + (end != '\0'));
    return true;
}

/* The first moment after `after` at which the clocks here show this. A time that
 * they jump over is meant as if they had not (as RFC 5545, 3.3.5); one that they
 * show twice has two moments. -1: none on that day. */
static time_t
local_moment(const struct tm *shown, time_t after)
{
    time_t first = -1, jumped = -1;
    bool exists = false;

    for (int dst = 0; dst <= 1; dst++) {
        struct tm tm = *shown;
        time_t moment;

        tm.tm_isdst = dst;
        moment = mktime(&tm);
        if (tm.tm_hour != shown->tm_hour || tm.tm_min != shown->tm_min
            || tm.tm_sec != shown->tm_sec) {
            jumped = moment > jumped ? moment : jumped;
            continue;
        }
        exists = true;
        if (moment > after && (first < 0 || moment < first)) {
            first = moment;
        }
    }
    if (exists) {
        return first;
    }
    return jumped > after ? jumped : -1;
}

/* The days are there for a time that was over today, and a day that a zone left
 * out. */
static time_t
next_moment(const struct tm *clock, time_t after)
{
    time_t moment = -1;
    struct tm today;

    for (int days = 0; days <= 2 && moment < 0 && localtime_r(&after, &today) != NULL; days++) {
        struct tm tm = *clock;

        tm.tm_year = today.tm_year;
        tm.tm_mon = today.tm_mon;
        tm.tm_mday = today.tm_mday + days;
        moment = local_moment(&tm, after);
    }
    return moment;
}

static bool
is_date(const struct tm *tm)
{
    struct tm same = *tm;

    timegm(&same);
    return same.tm_mon == tm->tm_mon && same.tm_mday == tm->tm_mday;
}

/* HH:MM[:SS], or with YYYY-MM-DDT before and perhaps a Z behind it. */
static bool
parse_until(es_str_t text, uint64_t mtime_ns, uint64_t *until_ns, es_error_t *error)
{
    bool dated = text.len > 4 && text.data[4] == '-', utc;
    struct tm tm = {.tm_mday = 1};
    es_str_t rest = text;
    time_t moment;

    if (dated) {
        if (!take_number(&rest, 4, '-', &tm.tm_year) || !take_number(&rest, 2, '-', &tm.tm_mon)
            || !take_number(&rest, 2, 'T', &tm.tm_mday)) {
            goto invalid;
        }
        tm.tm_year -= 1900;
        tm.tm_mon--;
    }
    if (!take_number(&rest, 2, ':', &tm.tm_hour) || !take_number(&rest, 2, '\0', &tm.tm_min)) {
        goto invalid;
    }
    if (rest.len != 0 && rest.data[0] == ':') {
        rest = es_str_from(rest, 1);
        if (!take_number(&rest, 2, '\0', &tm.tm_sec)) {
            goto invalid;
        }
    }
    utc = dated && es_str_eq(rest, ES_STR("Z"));
    if ((rest.len != 0 && !utc) || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59
        || (dated && !is_date(&tm))) {
        goto invalid;
    }

    if (!dated) {
        moment = next_moment(&tm, (time_t) (mtime_ns / ES_SECOND));
    } else {
        moment = utc ? timegm(&tm) : local_moment(&tm, -1);
    }
    /* Before 1970 is over as well, and 2554 is late enough. */
    if (moment < 0) {
        *until_ns = 0;
    } else if (__builtin_mul_overflow((uint64_t) moment, ES_SECOND, until_ns)) {
        *until_ns = UINT64_MAX;
    }
    return true;

invalid:
    return es_fail(error,
                   "invalid time \"%.*s\": it is HH:MM, HH:MM:SS or, with a date, "
                   "YYYY-MM-DDTHH:MM or YYYY-MM-DDTHH:MM:SS, with a Z behind it in UTC",
                   ES_ARG(text));
}

/* --------------------------------------------------------------- lines --- */

/* The next word; empty at the end and at a comment. */
static es_str_t
take_word(es_str_t *line)
{
    es_str_t word;

    *line = es_str_trim(*line);
    word = *line;
    if (word.len != 0 && word.data[0] == '#') {
        return ES_STR_NONE;
    }
    word.len = es_str_find(es_str(word.data, es_str_find(word, '\t')), ' ');
    *line = es_str_from(*line, word.len);
    return word;
}

static bool
parse_path(es_str_t text, es_override_entry_t *entry, es_error_t *error)
{
    if (text.data[0] != '/') {
        return es_fail(error, "invalid path \"%.*s\": it begins with a slash", ES_ARG(text));
    }
    if (es_str_find(text, '?') != text.len) {
        return es_fail(error, "invalid path \"%.*s\": it has no query", ES_ARG(text));
    }
    while (text.len != 0 && text.data[text.len - 1] == '/') {
        text.len--;
    }
    if (text.len > ES_OVERRIDE_PATH_MAX) {
        return es_fail(error, "invalid path \"%.*s...\": it has %d bytes at most", ES_ARG(text),
                       ES_OVERRIDE_PATH_MAX);
    }
    entry->length = (uint32_t) text.len;
    memcpy(entry->path, text.data, text.len);
    return true;
}

static bool
parse_entry(es_str_t path, es_str_t line, uint64_t mtime_ns, es_override_entry_t *entry,
            es_error_t *error)
{
    es_str_t rate = take_word(&line), until = take_word(&line), time = take_word(&line);
    es_str_t more = take_word(&line);

    if (!parse_path(path, entry, error)) {
        return false;
    }
    if (rate.len == 0) {
        return es_fail(error, "\"%.*s\" has no rate: " FORM, ES_ARG(path));
    }
    if (!es_parse_sample_rate(rate, &entry->threshold, error)) {
        return false;
    }
    if (until.len == 0) {
        return es_fail(error, "\"%.*s\" has no end: " FORM, ES_ARG(path));
    }
    if (!es_str_eq(until, ES_STR("until"))) {
        return es_fail(error, "\"%.*s\" is not \"until\": " FORM, ES_ARG(until));
    }
    if (time.len == 0) {
        return es_fail(error, "\"until\" has no time: " FORM);
    }
    if (!parse_until(time, mtime_ns, &entry->until_ns, error)) {
        return false;
    }
    return more.len == 0 || es_fail(error, "\"%.*s\" is too much: " FORM, ES_ARG(more));
}

static bool
add(es_override_t *override, const es_override_entry_t *entry, es_error_t *error)
{
    for (unsigned i = 0; i < override->count; i++) {
        const es_override_entry_t *other = &override->entries[i];

        if (memcmp(other->path, entry->path, sizeof(entry->path)) == 0) {
            return es_fail(error, "\"%s\" is in line %u already",
                           entry->length != 0 ? entry->path : "/", (unsigned) other->line);
        }
    }
    if (override->count == ES_OVERRIDE_MAX) {
        return es_fail(error, "more than %d paths", ES_OVERRIDE_MAX);
    }
    override->entries[override->count++] = *entry;
    return true;
}

static int
longest_first(const void *one, const void *other)
{
    const es_override_entry_t *a = one, *b = other;

    return a->length != b->length ? (a->length < b->length ? 1 : -1)
                                  : memcmp(a->path, b->path, sizeof(a->path));
}

bool
es_override_parse(es_str_t text, uint64_t mtime_ns, es_override_t *override, unsigned *line,
                  es_error_t *error)
{
    override->count = 0;

    for (*line = 1; text.len != 0; ++*line) {
        es_str_t words = es_str_take(&text, '\n'), path;
        es_override_entry_t entry = {.line = *line};

        if (words.len != 0 && words.data[words.len - 1] == '\r') {
            words.len--;
        }
        path = take_word(&words);
        if (path.len == 0) {
            continue;
        }
        if (!parse_entry(path, words, mtime_ns, &entry, error) || !add(override, &entry, error)) {
            return false;
        }
    }
    qsort(override->entries, override->count, sizeof(override->entries[0]), longest_first);
    return true;
}
