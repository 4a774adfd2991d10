/* spool.h: what the tests of the spool share. A record's body begins with its id
 * and is made of it, so that each byte can be checked. */

#ifndef SPOOL_H
#define SPOOL_H

#include "unit.h"

#include "es_clock.h"
#include "es_spool.h"

#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

/* Asks again until it is so. */
#define SPOOL_AWAIT(condition)                                   \
    do {                                                         \
        uint64_t spool_deadline = es_mono_ns() + 60 * ES_SECOND; \
                                                                 \
        while (!(condition)) {                                   \
            if (es_mono_ns() > spool_deadline) {                 \
                fail_msg("did not come true: %s", #condition);   \
            }                                                    \
            usleep(2000);                                        \
        }                                                        \
    } while (0)

static inline char *
spool_directory(void)
{
    const char *base = getenv("TMPDIR");
    char *path = NULL;

    assert_true(asprintf(&path, "%s/edgespan-spool-XXXXXX", base != NULL ? base : "/tmp") > 0);
    assert_non_null(mkdtemp(path));
    return path;
}

static inline int
spool_remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void) status;
    (void) type;
    (void) walk;
    return remove(path);
}

static inline void
spool_remove(char *path)
{
    assert_int_equal(nftw(path, spool_remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
    free(path);
}

static inline es_spool_t *
spool_open(const char *path, uint64_t max)
{
    es_error_t error = {""};
    es_spool_t *spool = es_spool_open(path, max, &error);

    if (spool == NULL) {
        fail_msg("%s", error.text);
    }
    return spool;
}

/* The spans of the records from `first` to `last`. */
static inline uint64_t
spool_spans(uint32_t first, uint32_t last)
{
    uint64_t spans = 0;

    for (uint32_t id = first; id <= last; id++) {
        spans += 1 + id % 7;
    }
    return spans;
}

static inline uint8_t
spool_byte(uint32_t id, size_t at)
{
    return at < sizeof(id) ? (uint8_t) (id >> 8 * at) : (uint8_t) (id * 31u + at * 7u + (at >> 8));
}

/* Never shorter than the id. */
static inline bool
spool_append_or(es_spool_t *spool, uint32_t id, size_t length, es_error_t *error)
{
    uint8_t *body;
    bool ok;

    length = length > sizeof(id) ? length : sizeof(id);
    if ((body = malloc(length)) == NULL) {
        return es_fail(error, "no memory");
    }
    for (size_t i = 0; i < length; i++) {
        body[i] = spool_byte(id, i);
    }
    ok = es_spool_append(spool, es_str(body, length), (uint32_t) spool_spans(id, id), NULL, error);
    free(body);
    return ok;
}

static inline bool
spool_append(es_spool_t *spool, uint32_t id, size_t length)
{
    es_error_t error = {""};

    if (!spool_append_or(spool, id, length, &error)) {
        print_error("%s\n", error.text);
        return false;
    }
    return true;
}

/* The id of the record, 0: none, UINT32_MAX: not as it was appended. Its body is
 * freed. */
static inline uint32_t
spool_take(es_spool_t *spool, es_spooled_t *record)
{
    es_spooled_t unused;
    uint32_t id = 0;

    record = record != NULL ? record : &unused;
    if (!es_spool_take(spool, record)) {
        return 0;
    }
    for (size_t i = 0; i < sizeof(id) && i < record->otlp.size; i++) {
        id |= (uint32_t) record->otlp.data[i] << 8 * i;
    }
    if (record->otlp.size < sizeof(id) || record->spans != spool_spans(id, id)) {
        id = UINT32_MAX;
    }
    for (size_t i = 0; i < record->otlp.size; i++) {
        id = record->otlp.data[i] == spool_byte(id, i) ? id : UINT32_MAX;
    }
    es_buffer_free(&record->otlp);
    return id;
}

static inline uint32_t
spool_take_and_settle(es_spool_t *spool)
{
    es_spooled_t record;
    uint32_t id = spool_take(spool, &record);

    if (id != 0) {
        es_spool_settle(spool, &record);
    }
    return id;
}

#endif
