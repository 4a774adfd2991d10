#include "es_segment.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <zlib.h>

#define MAGIC 0x31525345u   /* "ESR1" */
#define SETTLED 0x656e6f64u /* "done": no other record's state with one bit flipped */

/* As in the file. */
typedef struct head {
    uint32_t magic, length, spans, body_crc;
    uint32_t head_crc;
    uint32_t state;
} head_t;

_Static_assert(sizeof(head_t) == ES_SEGMENT_HEAD, "the head has no padding");

/* ---------------------------------------------------------------- name --- */

enum { NAME_SIZE = 64 };

static const char *
name_of(const es_segment_t *segment, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "%020llu-%u-%u.spool", (unsigned long long) segment->made_ms,
             segment->pid, segment->number);
    return name;
}

bool
es_segment_parse(es_segment_t *segment, const char *name)
{
    char again[NAME_SIZE], *end;

    segment->made_ms = strtoull(name, &end, 10);
    if (*end != '-' || segment->made_ms > INT64_MAX) {
        return false;
    }
    segment->pid = (uint32_t) strtoul(end + 1, &end, 10);
    if (*end != '-') {
        return false;
    }
    segment->number = (uint32_t) strtoul(end + 1, &end, 10);

    /* Whatever else strtoul() takes (signs, blanks) is not what we write. */
    return strcmp(name_of(segment, again), name) == 0;
}

int
es_segment_compare(const es_segment_t *a, const es_segment_t *b)
{
    if (a->made_ms != b->made_ms) {
        return a->made_ms < b->made_ms ? -1 : 1;
    }
    if (a->pid != b->pid) {
        return a->pid < b->pid ? -1 : 1;
    }
    return a->number == b->number ? 0 : a->number < b->number ? -1 : 1;
}

/* ------------------------------------------------------------ claiming --- */

/* A claim counts only while the file has its name: another process may have
 * removed it between open() and flock(). */
static bool
claim(es_segment_t *segment, int fd)
{
    struct stat status;
    int code = 0;

    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || fstat(fd, &status) != 0) {
        code = errno;
    } else if (status.st_nlink == 0 || !S_ISREG(status.st_mode)) {
        code = ENOENT;
    } else {
        segment->fd = fd;
        segment->size = (uint64_t) status.st_size;
        return true;
    }
    close(fd);
    errno = code;
    return false;
}

bool
es_segment_create(es_segment_t *segment, int directory)
{
    char name[NAME_SIZE];
    int fd = openat(directory, name_of(segment, name),
                    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0) {
        return false;
    }
    if (claim(segment, fd)) {
        segment->scanned = true;
        return true;
    }
    if (errno == EWOULDBLOCK || errno == ENOENT) {
        /* Somebody found it, empty as it is, and removes it. */
        errno = EEXIST;
    } else {
        int code = errno;

        unlinkat(directory, name, 0);
        errno = code;
    }
    return false;
}

bool
es_segment_claim(es_segment_t *segment, int directory)
{
    char name[NAME_SIZE];
    /* O_NONBLOCK so that a FIFO of that name does no harm. */
    int fd =
        openat(directory, name_of(segment, name), O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        if (errno == ELOOP || errno == EISDIR || errno == ENXIO) {
            errno = ENOENT;
        }
        return false;
    }
    return claim(segment, fd);
}

void
es_segment_release(es_segment_t *segment)
{
    if (segment->fd >= 0) {
        flock(segment->fd, LOCK_UN); /* whatever children have inherited */
        close(segment->fd);
        segment->fd = -1;
    }
}

bool
es_segment_unlink(const es_segment_t *segment, int directory)
{
    char name[NAME_SIZE];

    return unlinkat(directory, name_of(segment, name), 0) == 0 || errno == ENOENT;
}

/* ------------------------------------------------------------- reading --- */

/* All of it, or false. */
static bool
read_at(int fd, void *out, size_t size, uint64_t offset)
{
    size_t have = 0;

    while (have < size) {
        ssize_t n = pread(fd, (char *) out + have, size - have, (off_t) (offset + have));

        if (n == 0 || (n < 0 && errno != EINTR)) {
            return false;
        }
        have += n > 0 ? (size_t) n : 0;
    }
    return true;
}

static uint32_t
head_crc(const head_t *head)
{
    return (uint32_t) crc32(0, (const Bytef *) head, offsetof(head_t, head_crc));
}

bool
es_segment_head(const es_segment_t *segment, es_segment_record_t *record)
{
    uint64_t left = segment->end - segment->offset;
    head_t head;

    if (left < sizeof(head) || !read_at(segment->fd, &head, sizeof(head), segment->offset)
        || le32toh(head.magic) != MAGIC || le32toh(head.head_crc) != head_crc(&head)
        || le32toh(head.length) > left - sizeof(head)) {
        return false;
    }
    *record = (es_segment_record_t){
        .offset = segment->offset,
        .next = segment->offset + sizeof(head) + le32toh(head.length),
        .length = le32toh(head.length),
        .spans = le32toh(head.spans),
        .crc = le32toh(head.body_crc),
        .settled = le32toh(head.state) == SETTLED,
    };
    return true;
}

bool
es_segment_body(const es_segment_t *segment, const es_segment_record_t *record, uint8_t *out)
{
    return read_at(segment->fd, out, record->length, record->offset + ES_SEGMENT_HEAD)
           && (uint32_t) crc32(0, out, record->length) == record->crc;
}

bool
es_segment_scan(es_segment_t *segment, unsigned *heads_read)
{
    uint64_t first = UINT64_MAX;
    es_segment_record_t record;
    bool whole = true;

    segment->scanned = true;
    segment->spans = segment->offset = 0;
    segment->end = segment->size;
    while (segment->offset < segment->end) {
        ++*heads_read;
        if (!es_segment_head(segment, &record)) {
            whole = false;
            segment->end = segment->offset;
            if (ftruncate(segment->fd, (off_t) segment->end) == 0) {
                segment->size = segment->end;
            }
            break;
        }
        if (!record.settled) {
            segment->spans += record.spans;
            first = record.offset < first ? record.offset : first;
        }
        segment->offset = record.next;
    }
    segment->offset = first < segment->end ? first : segment->end;
    return whole;
}

/* ------------------------------------------------------------- writing --- */

/* One pwritev(), and more only to learn why the first was short. */
static bool
write_at(int fd, struct iovec parts[2], uint64_t offset)
{
    while (parts[0].iov_len + parts[1].iov_len != 0) {
        ssize_t n = pwritev(fd, parts, 2, (off_t) offset);

        if (n == 0) {
            errno = ENOSPC;
        }
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return false;
        }
        for (int i = 0; n > 0 && i < 2; i++) {
            size_t step = (size_t) n < parts[i].iov_len ? (size_t) n : parts[i].iov_len;

            parts[i].iov_base = (char *) parts[i].iov_base + step;
            parts[i].iov_len -= step;
            offset += step;
            n -= (ssize_t) step;
        }
    }
    return true;
}

bool
es_segment_append(es_segment_t *segment, es_str_t otlp, uint32_t spans)
{
    head_t head = {
        .magic = htole32(MAGIC),
        .length = htole32((uint32_t) otlp.len),
        .spans = htole32(spans),
        .body_crc = htole32((uint32_t) crc32(0, (const Bytef *) otlp.data, (uInt) otlp.len)),
    };
    struct iovec parts[] = {
        {.iov_base = &head, .iov_len = sizeof(head)},
        {.iov_base = (void *) (uintptr_t) otlp.data, .iov_len = otlp.len},
    };

    head.head_crc = htole32(head_crc(&head));
    if (!write_at(segment->fd, parts, segment->end)) {
        int code = errno;

        /* Where this fails, what is behind the end is a torn tail. */
        (void) !ftruncate(segment->fd, (off_t) segment->end);
        errno = code;
        return false;
    }
    segment->end += sizeof(head) + otlp.len;
    segment->size = segment->end;
    segment->spans += spans;
    return true;
}

void
es_segment_settle(es_segment_t *segment, uint64_t offset, uint32_t spans)
{
    uint32_t state = htole32(SETTLED);

    segment->spans -= spans;
    (void) !pwrite(segment->fd, &state, sizeof(state), (off_t) (offset + offsetof(head_t, state)));
}
