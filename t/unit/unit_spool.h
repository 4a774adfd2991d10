/* unit_spool.h: what the tests of the spool share. A record's body begins with its
 * id and is made of it, so that each byte can be checked. */

#ifndef UNIT_SPOOL_H
#define UNIT_SPOOL_H

#include "unit_directory.h"

#include "es_clock.h"
#include "es_spool.h"

#include <dirent.h>
#include <fcntl.h>

#define SPOOL_MAX (UINT64_C(1) << 20)

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

/* -------------------------------------------------------------- files --- */

/* What is in the directory beside the lock. */
static inline unsigned
segments_of(const char *path)
{
    DIR *entries = opendir(path);
    unsigned count = 0;

    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        count += entry->d_name[0] != '.' && strcmp(entry->d_name, "lock") != 0;
    }
    closedir(entries);
    return count;
}

static inline uint64_t
bytes_of(const char *path)
{
    DIR *entries = opendir(path);
    struct stat status;
    uint64_t bytes = 0;

    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (strstr(entry->d_name, ".spool") != NULL) {
            assert_int_equal(fstatat(dirfd(entries), entry->d_name, &status, 0), 0);
            bytes += (uint64_t) status.st_size;
        }
    }
    closedir(entries);
    return bytes;
}

/* The path of the only segment. */
static inline char *
only_segment(const char *path)
{
    DIR *entries = opendir(path);
    char *found = NULL;

    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (strstr(entry->d_name, ".spool") != NULL) {
            assert_null(found);
            assert_true(asprintf(&found, "%s/%s", path, entry->d_name) > 0);
        }
    }
    closedir(entries);
    assert_non_null(found);
    return found;
}

static inline es_buffer_t
read_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    es_buffer_t file;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    file.size = (size_t) status.st_size;
    assert_non_null(file.data = malloc(file.size + 1));
    assert_int_equal(read(fd, file.data, file.size), (ssize_t) file.size);
    close(fd);
    return file;
}

static inline void
write_file(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), (ssize_t) size);
    close(fd);
}

static inline void
assert_empty(es_spool_t *spool, const char *path)
{
    assert_int_equal(spool_take(spool, NULL), 0);
    assert_int_equal(es_spool_counts(spool).bytes, 0);
    assert_int_equal(es_spool_counts(spool).spans, 0);
    assert_int_equal(segments_of(path), 0);
}

#endif
