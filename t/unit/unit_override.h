/* unit_override.h: what the tests of the override file share: moments, and a file
 * that has to be right. */

#ifndef UNIT_OVERRIDE_H
#define UNIT_OVERRIDE_H

#include "unit.h"

#include "es_clock.h"
#include "es_override.h"

#define MTIME "2026-11-21T10:00:00"

/* "2026-11-21T10:00:00" in UTC. */
static inline uint64_t
moment(const char *text)
{
    struct tm tm = {0};

    assert_non_null(strptime(text, "%Y-%m-%dT%H:%M:%S", &tm));
    return (uint64_t) timegm(&tm) * ES_SECOND;
}

static inline void
zone(const char *name)
{
    setenv("TZ", name, 1);
    tzset();
}

static inline void
parse(const char *text, const char *mtime, es_override_t *override)
{
    es_str_t exact = unit_exact(es_cstr(text));
    es_error_t error = {""};
    unsigned line;

    if (!es_override_parse(exact, moment(mtime), override, &line, &error)) {
        fail_msg("\"%s\", line %u: %s", text, line, error.text);
    }
    unit_free(exact);
}

#endif
