/* An override file: a line with the time zone's number and the seconds when the file
 * was written, a line with a request's path, then the file. */

#include "fuzz.h"

#include "es_clock.h"
#include "es_override.h"
#include "es_provider.h"

#include <time.h>

static es_override_shared_t shared;

static void
choose_zone(unsigned number)
{
    static const char *const zones[] = {
        "UTC",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "IST-1GMT0,M10.5.0,M3.5.0/1",
        "<-04>4<-03>,M9.1.6/24,M4.1.6/24",
        "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45",
    };
    static unsigned chosen = UINT32_MAX;

    number %= sizeof(zones) / sizeof(zones[0]);
    if (number != chosen) {
        setenv("TZ", zones[number], 1);
        tzset();
        chosen = number;
    }
}

static es_str_t
path_of(const es_override_entry_t *entry)
{
    return es_str(entry->path, entry->length);
}

/* Does the path begin with all of the entry's segments? */
static bool
is_below(es_str_t path, es_str_t above)
{
    return above.len == 0
           || (es_str_starts(path, above)
               && (path.len == above.len || path.data[above.len] == '/'));
}

/* By another way than the core's: the best of all, whatever their order. */
static const es_override_entry_t *
best(const es_override_t *override, es_str_t path, uint64_t now_ns)
{
    const es_override_entry_t *found = NULL;

    for (unsigned i = 0; i < override->count; i++) {
        const es_override_entry_t *entry = &override->entries[i];

        if (entry->until_ns > now_ns && is_below(path, path_of(entry))
            && (found == NULL || entry->length > found->length)) {
            found = entry;
        }
    }
    return found;
}

static void
check_find(const es_override_t *override, es_str_t path, uint64_t now_ns)
{
    const es_override_entry_t *expected = best(override, path, now_ns);
    es_generation_t generation = {.override = &shared};
    uint64_t threshold;
    unsigned line;

    if (es_override_find(&generation, path, now_ns, &threshold, &line)) {
        fuzz_assert(expected != NULL);
        fuzz_assert(expected->line == line && expected->threshold == threshold);
    } else {
        fuzz_assert(expected == NULL);
    }
}

static void
fuzz(fuzz_t *fuzz)
{
    es_str_t first = fuzz_line(fuzz), zone = fuzz_until(fuzz, &first, ' ');
    es_str_t path = fuzz_line(fuzz), text = fuzz_rest(fuzz);
    uint64_t number = 0, mtime = 0;
    unsigned line, lines = 1;
    es_override_t override, read;
    es_error_t error;

    if (!es_parse_uint(zone, &number) || !es_parse_uint(first, &mtime)
        || mtime > UINT64_MAX / ES_SECOND) {
        return;
    }
    choose_zone((unsigned) number);
    for (size_t i = 0; i < text.len; i++) {
        lines += text.data[i] == '\n';
    }
    if (!es_override_parse(text, mtime * ES_SECOND, &override, &line, &error)) {
        fuzz_check_error(&error);
        fuzz_assert(line >= 1 && line <= lines);
        return;
    }

    fuzz_assert(override.count <= ES_OVERRIDE_MAX && override.count <= lines);
    es_override_publish(&shared, &override);
    es_override_read(&shared, &read);
    fuzz_assert(read.count == override.count);
    fuzz_assert(memcmp(read.entries, override.entries, read.count * sizeof(read.entries[0])) == 0);
    for (unsigned i = 0; i < override.count; i++) {
        const es_override_entry_t *entry = &override.entries[i];

        fuzz_assert(entry->line >= 1 && entry->line <= lines);
        fuzz_assert(entry->threshold <= ES_THRESHOLD_NEVER);
        fuzz_assert(entry->length <= ES_OVERRIDE_PATH_MAX);
        fuzz_assert(es_all_zero((const uint8_t *) entry->path + entry->length,
                                sizeof(entry->path) - entry->length));
        fuzz_assert(entry->length == 0
                    || (entry->path[0] == '/' && entry->path[entry->length - 1] != '/'));
        fuzz_assert(i == 0 || entry->length <= entry[-1].length);
        for (unsigned j = 0; j < i; j++) {
            fuzz_assert(!es_str_eq(path_of(entry), path_of(&override.entries[j])));
        }
        check_find(&override, fuzz_copy(fuzz, path_of(entry)), 0);
        check_find(&override, path, entry->until_ns);
    }
    check_find(&override, path, mtime * ES_SECOND);
}
