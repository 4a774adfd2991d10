/* es_override.h: rates for an incident, of a file that may change at any time
 * (otel_override). A line is "<path> <rate> until <time>".
 *
 * The leader's thread looks at the file once a second and publishes what it says
 * in shared memory, behind the queue of its generation, for the requests of all
 * processes. Two tables take turns: the leader writes the one that is not in force
 * and then changes over by one store. Who dies before that has published nothing.
 * A reader that finds another table in force when it is done begins again; the
 * second time it finds none rather than half of one.
 *
 * An entry ends by itself: readers compare the time. */

#ifndef ES_OVERRIDE_H
#define ES_OVERRIDE_H

#include "edgespan.h"
#include "es_stats.h"

#define ES_OVERRIDE_MAX 64
#define ES_OVERRIDE_PATH_MAX 127

/* A path and what is below it. */
typedef struct es_override_entry {
    uint64_t threshold;
    uint64_t until_ns;                   /* wall clock */
    uint32_t line;                       /* of the file, from 1 */
    uint32_t length;                     /* of the path, without slashes at its end: 0 means all */
    char path[ES_OVERRIDE_PATH_MAX + 1]; /* zeros behind it */
} es_override_entry_t;

typedef struct es_override {
    es_override_entry_t entries[ES_OVERRIDE_MAX]; /* the longest path first */
    unsigned count;
} es_override_t;

/* ---- es_override_parse.c */

/* The words of a file that was written at `mtime_ns`, times in the zone of the
 * process. False: *line is the one with the error, and nothing of the file counts. */
bool es_override_parse(es_str_t text, uint64_t mtime_ns, es_override_t *override, unsigned *line,
                       es_error_t *error) ES_MUST_CHECK;

/* ---- es_override.c */

#define ES_OVERRIDE_WORDS (sizeof(es_override_entry_t) / sizeof(uint64_t))

/* An entry as it is in shared memory. */
typedef struct es_override_words {
    _Atomic uint64_t words[ES_OVERRIDE_WORDS];
} es_override_words_t;

typedef struct es_override_shared {
    _Atomic uint64_t current; /* the number of the table in force, and its entries: see there */
    _Atomic uint64_t told;    /* the file that the log speaks of; 0: none */
    es_log_limit_t unreadable;
    _Alignas(64) es_override_words_t tables[2][ES_OVERRIDE_MAX];
} es_override_shared_t;

/* Bytes behind the queue, 0 without an override; the table that begins there, NULL
 * likewise. */
size_t es_override_area_size(const es_config_t *config);
es_override_shared_t *es_override_open(const es_config_t *config, void *area);

/* Puts another table into force. One writer at a time: the leader. */
void es_override_publish(es_override_shared_t *shared, const es_override_t *override);

/* The table in force, with entries that have expired. Any process. */
void es_override_read(const es_override_shared_t *shared, es_override_t *override);

/* The rate of a path: the longest that has not expired. False: there is none. On the
 * way of every request: one load where there is no override. */
bool es_override_find(const es_generation_t *generation, es_str_t path, uint64_t now_wall_ns,
                      uint64_t *threshold, unsigned *line);

/* What a leader knows of the file; zeroed at first. */
typedef struct es_override_watch {
    uint64_t look_at; /* monotonic */
    uint64_t seen;    /* the file that was read; 0: none */
} es_override_watch_t;

/* Looks at the file, if it is time, publishes and logs. */
void es_override_look(es_override_watch_t *watch, const es_provider_t *provider);

/* When it is time, monotonic; UINT64_MAX: never. */
uint64_t es_override_due(const es_override_watch_t *watch, const es_provider_t *provider);

#endif
