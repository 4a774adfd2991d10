#define _GNU_SOURCE /* O_DIRECTORY */

#include "es_spool.h"

#include "es_clock.h"
#include "es_segment_list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

/* A segment is complete at an eighth of the spool, which is what making room
 * costs, but no more than this; unless there were too many segments then. */
#define SEGMENT_SIZE (UINT64_C(8) << 20)
#define SEGMENTS_FULL (ES_SEGMENTS_MAX / 4)

/* How often the directory is looked at. */
#define LOOK_PERIOD ES_SECOND

/* Heads read ahead at a look, to know what waits: a few milliseconds. */
#define HEADS_PER_LOOK 4096u

#define CREATE_TRIES 100u

struct es_spool {
    int directory, lock;
    bool replays; /* the lock is ours */
    uint64_t max, segment_max;
    uint64_t looked_at, appended_at;
    es_segment_list_t list;
    es_segment_t *current; /* the one of them that is appended to, or NULL */
    es_spool_counts_t counts;
};

/* ------------------------------------------------------------- segments --- */

static void
forget(es_spool_t *spool, es_segment_t *segment)
{
    if (spool->current == segment) {
        spool->current = NULL;
    }
    es_segment_list_remove(&spool->list, segment);
}

static void
count_torn(es_spool_t *spool, uint64_t spans)
{
    spool->counts.torn += spans;
    spool->counts.torn_records++;
}

static void
scan(es_spool_t *spool, es_segment_t *segment, unsigned *heads_read)
{
    if (!es_segment_scan(segment, heads_read)) {
        count_torn(spool, 1);
    }
}

/* Claims it, if it is not ours already. False: another process has it, or it is
 * gone and no longer on the list. */
static bool
claim(es_spool_t *spool, es_segment_t *segment)
{
    if (segment->fd >= 0) {
        return true;
    }
    if (segment->busy) {
        return false;
    }
    if (es_segment_claim(segment, spool->directory)) {
        return true;
    }
    segment->busy = true;
    if (errno == ENOENT) {
        forget(spool, segment);
    }
    return false;
}

/* Nothing of it is left to deliver. */
static bool
is_done(const es_segment_t *segment)
{
    return segment->scanned && segment->taken == 0 && segment->offset >= segment->end;
}

/* A claimed segment. A file that cannot be removed stays on the list, so that it
 * is not taken for a new one. */
static bool
remove_segment(es_spool_t *spool, es_segment_t *segment)
{
    if (!es_segment_unlink(segment, spool->directory)) {
        return false;
    }
    forget(spool, segment);
    return true;
}

/* Lets go of a claimed segment, unless it is in use: for good, if it is done. */
static void
put_back(es_spool_t *spool, es_segment_t *segment)
{
    bool done = is_done(segment);

    if (segment->taken != 0 || (segment == spool->current && !done)
        || (done && remove_segment(spool, segment))) {
        return;
    }
    if (segment == spool->current) {
        spool->current = NULL;
    }
    es_segment_release(segment);
}

static void
seal(es_spool_t *spool)
{
    es_segment_t *segment = spool->current;

    spool->current = NULL;
    put_back(spool, segment);
}

/* The one behind `segment`, which may be gone by now; `at` is where it was. */
static unsigned
step(const es_spool_t *spool, unsigned at, const es_segment_t *segment)
{
    return at + (at < spool->list.count && spool->list.items[at] == segment);
}

/* -------------------------------------------------------------- looking --- */

/* Another process may have replayed from all but our current segment. */
static void
begin_to_replay(es_spool_t *spool)
{
    spool->replays = true;
    for (unsigned i = 0; i < spool->list.count; i++) {
        spool->list.items[i]->scanned = spool->list.items[i] == spool->current;
    }
}

/* False with errno: the directory or the lock cannot be used at all. */
static bool
look(es_spool_t *spool)
{
    uint64_t now = es_mono_ns();
    unsigned heads_read = 0;

    if (spool->looked_at != 0 && now - spool->looked_at < LOOK_PERIOD) {
        return true;
    }
    spool->looked_at = now;
    if (!spool->replays) {
        if (flock(spool->lock, LOCK_EX | LOCK_NB) == 0) {
            begin_to_replay(spool);
        } else if (errno != EWOULDBLOCK) {
            return false;
        }
    }
    if (!es_segment_list_read(&spool->list, spool->directory)) {
        return false;
    }
    if (spool->current != NULL && !spool->current->listed) {
        /* Removed by hand. What is in it can still be read. */
        spool->current = NULL;
    }
    if (!spool->replays && spool->current != NULL && now - spool->appended_at >= LOOK_PERIOD) {
        seal(spool);
    }
    for (unsigned i = 0; i < spool->list.count;) {
        es_segment_t *segment = spool->list.items[i];

        segment->busy = false;
        if (spool->replays && segment->fd < 0 && (!segment->scanned || is_done(segment))
            && heads_read < HEADS_PER_LOOK && claim(spool, segment)) {
            if (!segment->scanned) {
                scan(spool, segment, &heads_read);
            }
            put_back(spool, segment);
        }
        i = step(spool, i, segment);
    }
    return true;
}

/* ------------------------------------------------------ open and close --- */

es_spool_t *
es_spool_open(const char *directory, uint64_t max, es_error_t *error)
{
    es_spool_t *spool = calloc(1, sizeof(*spool));
    uint64_t size = max / 8 < SEGMENT_SIZE ? max / 8 : SEGMENT_SIZE;

    if (spool == NULL || !es_segment_list_init(&spool->list)) {
        free(spool);
        es_fail(error, "no memory");
        return NULL;
    }
    spool->max = max;
    spool->segment_max = max / SEGMENTS_FULL > size ? max / SEGMENTS_FULL : size;
    spool->lock = -1;
    spool->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (spool->directory < 0) {
        es_fail(error, "the spool directory \"%s\" cannot be opened: %s", directory,
                strerror(errno));
        goto failed;
    }
    spool->lock = openat(spool->directory, "lock",
                         O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    if (spool->lock < 0) {
        es_fail(error, "the spool's lock \"%s/lock\" cannot be opened for writing: %s", directory,
                strerror(errno));
        goto failed;
    }
    if (!look(spool)) {
        es_fail(error, "the spool directory \"%s\" cannot be locked and read: %s", directory,
                strerror(errno));
        goto failed;
    }
    return spool;

failed:
    es_spool_close(spool);
    return NULL;
}

void
es_spool_close(es_spool_t *spool)
{
    es_segment_list_dispose(&spool->list);
    if (spool->lock >= 0) {
        flock(spool->lock, LOCK_UN); /* whatever children have inherited */
        close(spool->lock);
    }
    if (spool->directory >= 0) {
        close(spool->directory);
    }
    free(spool);
}

es_spool_counts_t
es_spool_counts(const es_spool_t *spool)
{
    es_spool_counts_t counts = spool->counts;

    counts.bytes = es_segment_list_bytes(&spool->list);
    for (unsigned i = 0; i < spool->list.count; i++) {
        counts.spans += spool->list.items[i]->spans;
    }
    return counts;
}

/* ------------------------------------------------------------ appending --- */

/* Removes one segment, whatever is in it. */
static bool
give_up(es_spool_t *spool, es_segment_t *segment)
{
    unsigned heads_read = 0;
    uint64_t spans;

    if (!claim(spool, segment)) {
        return false;
    }
    /* Who does not replay does not know what has been delivered of it. */
    if (!segment->scanned || (!spool->replays && segment != spool->current)) {
        scan(spool, segment, &heads_read);
    }
    spans = segment->spans - segment->taken_spans;
    if (!remove_segment(spool, segment)) {
        put_back(spool, segment);
        return false;
    }
    spool->counts.given_up += spans;
    return true;
}

static bool
give_up_oldest(es_spool_t *spool)
{
    enum { IDLE, SEALED, ANY, PASSES };

    for (unsigned pass = IDLE; pass < PASSES; pass++) {
        for (unsigned i = 0; i < spool->list.count;) {
            es_segment_t *segment = spool->list.items[i];
            bool may = pass == ANY
                       || (segment != spool->current && (pass == SEALED || segment->taken == 0));

            if (may && segment->size != 0 && give_up(spool, segment)) {
                return true;
            }
            i = step(spool, i, segment);
        }
    }
    return false;
}

/* False with errno. */
static bool
create(es_spool_t *spool)
{
    uint64_t now_ms = es_wall_ns() / ES_MS, newest_ms = spool->list.newest_ms;
    es_segment_t segment = {.pid = (uint32_t) getpid(), .fd = -1};

    /* Behind all others, even if the clock was set back. */
    segment.made_ms = now_ms > newest_ms ? now_ms : newest_ms + 1;
    while (!es_segment_create(&segment, spool->directory)) {
        if (errno != EEXIST || ++segment.number == CREATE_TRIES) {
            return false;
        }
    }
    if ((spool->current = es_segment_list_add(&spool->list, &segment)) == NULL) {
        (void) !es_segment_unlink(&segment, spool->directory);
        es_segment_release(&segment);
        errno = ENOMEM;
        return false;
    }
    return true;
}

bool
es_spool_append(es_spool_t *spool, es_str_t otlp, uint32_t spans, es_spooled_t *taken,
                es_error_t *error)
{
    uint64_t need = ES_SEGMENT_HEAD + (uint64_t) otlp.len, bytes, offset;

    if (need > spool->max || otlp.len > UINT32_MAX) {
        return es_fail(error, "a batch of %zu bytes is larger than the whole spool, max=%llu",
                       otlp.len, (unsigned long long) spool->max);
    }
    look(spool);
    if (spool->current != NULL && spool->current->end + need > spool->segment_max) {
        seal(spool);
    }
    while ((bytes = es_segment_list_bytes(&spool->list)) + need > spool->max) {
        if (!give_up_oldest(spool)) {
            return es_fail(error,
                           "the spool is full (%llu bytes, max=%llu), and nothing in it can be "
                           "removed now",
                           (unsigned long long) bytes, (unsigned long long) spool->max);
        }
    }
    if (spool->current == NULL && !create(spool)) {
        return es_fail(error, "a segment of the spool cannot be created: %s", strerror(errno));
    }
    offset = spool->current->end;
    if (!es_segment_append(spool->current, otlp, spans)) {
        es_fail(error, "writing to the spool failed: %s", strerror(errno));
        seal(spool);
        return false;
    }
    if (taken != NULL) {
        *taken = (es_spooled_t){.spans = spans, .segment = spool->current->id, .offset = offset};
        spool->current->taken++;
        spool->current->taken_spans += spans;
    }
    spool->appended_at = es_mono_ns();
    return true;
}

/* --------------------------------------------------------------- taking --- */

typedef enum taken { TAKEN, NONE, NO_MEMORY } taken_t;

/* The rest of a segment whose heads were readable when it was scanned. */
static void
lose_rest(es_spool_t *spool, es_segment_t *segment)
{
    uint64_t rest = segment->spans - segment->taken_spans;

    count_torn(spool, rest != 0 ? rest : 1);
    segment->spans -= rest;
    segment->end = segment->offset;
    if (segment == spool->current) {
        spool->current = NULL;
    }
}

static taken_t
take_from(es_spool_t *spool, es_segment_t *segment, es_spooled_t *out)
{
    es_segment_record_t record;

    while (segment->offset < segment->end) {
        uint8_t *body;

        if (!es_segment_head(segment, &record)) {
            lose_rest(spool, segment);
            break;
        }
        if (record.settled) {
            segment->offset = record.next;
            continue;
        }
        if ((body = malloc(record.length != 0 ? record.length : 1)) == NULL) {
            return NO_MEMORY;
        }
        segment->offset = record.next;
        if (es_segment_body(segment, &record, body)) {
            segment->taken++;
            segment->taken_spans += record.spans;
            *out = (es_spooled_t){.otlp = {.data = body, .size = record.length},
                                  .spans = record.spans,
                                  .segment = segment->id,
                                  .offset = record.offset};
            return TAKEN;
        }
        free(body);
        count_torn(spool, record.spans);
        es_segment_settle(segment, record.offset, record.spans);
    }
    return NONE;
}

bool
es_spool_take(es_spool_t *spool, es_spooled_t *record)
{
    unsigned heads_read = 0;

    look(spool);
    for (unsigned i = 0; spool->replays && i < spool->list.count;) {
        es_segment_t *segment = spool->list.items[i];
        taken_t taken = NONE;

        if ((!segment->scanned || segment->offset < segment->end) && claim(spool, segment)) {
            if (!segment->scanned) {
                scan(spool, segment, &heads_read);
            }
            taken = take_from(spool, segment, record);
            if (taken == NONE) {
                put_back(spool, segment);
            }
        }
        if (taken != NONE) {
            return taken == TAKEN;
        }
        i = step(spool, i, segment);
    }
    return false;
}

void
es_spool_settle(es_spool_t *spool, const es_spooled_t *record)
{
    es_segment_t *segment = es_segment_list_find(&spool->list, record->segment);

    if (segment == NULL) {
        return; /* removed to make room */
    }
    segment->taken--;
    segment->taken_spans -= record->spans;
    es_segment_settle(segment, record->offset, record->spans);
    put_back(spool, segment);
}

void
es_spool_give_back(es_spool_t *spool, const es_spooled_t *record)
{
    es_segment_t *segment = es_segment_list_find(&spool->list, record->segment);

    if (segment == NULL) {
        spool->counts.given_up += record->spans;
        return;
    }
    segment->taken--;
    segment->taken_spans -= record->spans;
    if (segment->offset <= record->offset) {
        put_back(spool, segment);
    }
}
