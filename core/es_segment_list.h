/* es_segment_list.h: the segments of a directory that this process knows, oldest
 * first. Bounded: of too many, the oldest. */

#ifndef ES_SEGMENT_LIST_H
#define ES_SEGMENT_LIST_H

#include "es_segment.h"

#define ES_SEGMENTS_MAX 4096u

typedef struct es_segment_list {
    es_segment_t **items;
    unsigned count;
    uint64_t newest_ms; /* of all that were ever on the list */
    uint64_t last_id;
    uint64_t unlisted; /* bytes in segments that are too many */
} es_segment_list_t;

/* False: no memory. */
bool es_segment_list_init(es_segment_list_t *list) ES_MUST_CHECK;
void es_segment_list_dispose(es_segment_list_t *list);

/* Puts a copy in its place. NULL: no memory, or enough that are older; a claimed
 * one is on the list in any case. */
es_segment_t *es_segment_list_add(es_segment_list_t *list, const es_segment_t *segment);

/* Releases and frees it; the file stays. */
void es_segment_list_remove(es_segment_list_t *list, es_segment_t *segment);

/* NULL: it is gone. */
es_segment_t *es_segment_list_find(const es_segment_list_t *list, uint64_t id);

/* Brings list and sizes in step with the directory. A claimed segment whose file
 * somebody removed stays, not `listed`. False with errno: it cannot be read. */
bool es_segment_list_read(es_segment_list_t *list, int directory);

uint64_t es_segment_list_bytes(const es_segment_list_t *list);

#endif
