/* A file of a spool. The first line is a file's name, the rest its bytes: all of
 * them as they are behind "raw", else records of ours, some bytes of which were
 * changed. */

#define _GNU_SOURCE /* memfd_create() */

#include "fuzz.h"

#include "es_segment.h"

#include <sys/mman.h>
#include <unistd.h>

static void
check_name(fuzz_t *fuzz, es_str_t line)
{
    es_segment_t segment = {0}, again = {0};
    const char *name = fuzz_cstr(fuzz, line);

    if (es_segment_parse(&segment, name)) {
        fuzz_assert(es_segment_parse(&again, name) && es_segment_compare(&segment, &again) == 0);
        fuzz_assert(strchr(name, '/') == NULL && name[0] != '.');
    }
}

/* A byte of how many records, for each its length and its bytes; then position and
 * value of what is changed. */
static void
write_records(fuzz_t *fuzz, es_segment_t *segment)
{
    unsigned count = fuzz_byte(fuzz) % 8;

    for (unsigned i = 0; i < count; i++) {
        size_t len = fuzz_byte(fuzz);
        es_str_t otlp =
            fuzz_copy(fuzz, es_str(fuzz->rest.data, len < fuzz->rest.len ? len : fuzz->rest.len));

        fuzz->rest = es_str_from(fuzz->rest, otlp.len);
        fuzz_assert(es_segment_append(segment, otlp, (uint32_t) len));
    }
    while (fuzz_more(fuzz) && segment->size != 0) {
        uint64_t at = fuzz_byte(fuzz) << 8;
        uint8_t value;

        at = (at | fuzz_byte(fuzz)) % segment->size;
        value = fuzz_byte(fuzz);
        fuzz_assert(pwrite(segment->fd, &value, 1, (off_t) at) == 1);
    }
}

/* Reads what is there, as the spool does. Returns the spans of what is readable. */
static uint64_t
replay(es_segment_t *segment)
{
    uint64_t spans = 0, least = segment->offset;
    es_segment_record_t record;

    while (segment->offset < segment->end) {
        fuzz_assert(es_segment_head(segment, &record));
        fuzz_assert(record.offset == segment->offset && record.next <= segment->size);
        fuzz_assert(record.next == record.offset + ES_SEGMENT_HEAD + record.length);

        uint8_t *body = malloc(record.length != 0 ? record.length : 1);

        fuzz_assert(body != NULL && record.offset >= least);
        spans += !record.settled && es_segment_body(segment, &record, body) ? record.spans : 0;
        free(body);
        segment->offset = record.next;
    }
    return spans;
}

static void
fuzz(fuzz_t *fuzz)
{
    es_segment_t segment = {.fd = -1};
    es_str_t name = fuzz_line(fuzz);
    unsigned heads = 0, heads_again = 0;
    uint64_t spans;
    bool whole;

    check_name(fuzz, name);
    segment.fd = memfd_create("segment", MFD_CLOEXEC);
    fuzz_assert(segment.fd >= 0);
    if (es_str_eq(name, ES_STR("raw"))) {
        segment.size = fuzz->rest.len;
        fuzz_assert(write(segment.fd, fuzz->rest.data, segment.size) == (ssize_t) segment.size);
    } else {
        write_records(fuzz, &segment);
    }

    whole = es_segment_scan(&segment, &heads);
    fuzz_assert(segment.end <= segment.size && segment.offset <= segment.end);
    fuzz_assert(heads <= segment.end / ES_SEGMENT_HEAD + 1);
    spans = segment.spans;
    fuzz_assert(replay(&segment) <= spans);

    /* What could not be read is cut off: counted once. */
    fuzz_assert(es_segment_scan(&segment, &heads_again) && heads_again + !whole == heads);
    fuzz_assert(segment.spans == spans && segment.end == segment.size);

    fuzz_assert(es_segment_append(&segment, ES_STR("abc"), 7));
    fuzz_assert(es_segment_scan(&segment, &heads) && segment.spans == spans + 7);
    close(segment.fd);
}
