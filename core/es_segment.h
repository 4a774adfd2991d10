/* es_segment.h: one file of a spool: its name, its records, who may touch it.
 *
 * Records one behind the other, each a head and an OTLP request:
 *
 *   magic "ESR1", length, spans, CRC-32 of the request, CRC-32 of these four,
 *   state (settled or anything else): 32 bits each, little-endian.
 *
 * A file is written by whoever created it and by nobody afterwards, but for
 * states. Whoever has it claimed (flock()) is alone with it: its writer, or who
 * replays or removes it. Functions that fail leave errno. */

#ifndef ES_SEGMENT_H
#define ES_SEGMENT_H

#include "es_str.h"

#define ES_SEGMENT_HEAD 24u

typedef struct es_segment {
    uint64_t id;      /* in this process, never used again */
    uint64_t made_ms; /* wall clock; with the next two the name and the age */
    uint32_t pid, number;
    uint64_t size; /* of the file */

    int fd;      /* -1: not claimed */
    bool listed; /* for the spool: the directory has it */
    bool busy;   /* likewise: not to be had for the moment */

    bool scanned;         /* what follows is known */
    uint64_t end;         /* behind the last readable record */
    uint64_t offset;      /* of the first record that is neither taken nor settled */
    uint64_t spans;       /* not settled */
    uint64_t taken_spans; /* some of these */
    unsigned taken;       /* records */
} es_segment_t;

typedef struct es_segment_record {
    uint64_t offset, next;
    uint32_t length, spans, crc;
    bool settled;
} es_segment_record_t;

/* False: a file of that name is none of ours. Sets nothing but the name. */
bool es_segment_parse(es_segment_t *segment, const char *name);

/* Older first. */
int es_segment_compare(const es_segment_t *a, const es_segment_t *b);

/* Makes the file of that name, empty and claimed. EEXIST: the name is taken. */
bool es_segment_create(es_segment_t *segment, int directory) ES_MUST_CHECK;

/* ENOENT: it is gone, or not a file; any other error may pass. */
bool es_segment_claim(es_segment_t *segment, int directory) ES_MUST_CHECK;
void es_segment_release(es_segment_t *segment);
bool es_segment_unlink(const es_segment_t *segment, int directory) ES_MUST_CHECK;

/* The rest is for claimed segments. Reads all heads, no more; what is behind an
 * unreadable one is cut off, so that it is counted once. False: there was one. */
bool es_segment_scan(es_segment_t *segment, unsigned *heads_read);

/* False: nothing of it is left in the file, or it can be read by nobody. */
bool es_segment_append(es_segment_t *segment, es_str_t otlp, uint32_t spans) ES_MUST_CHECK;

/* The record at segment->offset < segment->end; false if its head is torn. */
bool es_segment_head(const es_segment_t *segment, es_segment_record_t *record) ES_MUST_CHECK;

/* Its record->length bytes; false if they are torn. */
bool es_segment_body(const es_segment_t *segment, const es_segment_record_t *record,
                     uint8_t *out) ES_MUST_CHECK;

/* Marks a record. Where this fails, it is delivered once more after a restart. */
void es_segment_settle(es_segment_t *segment, uint64_t offset, uint32_t spans);

#endif
