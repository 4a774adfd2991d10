/* es_timeline.h: how long a span waited for what. */

#ifndef ES_TIMELINE_H
#define ES_TIMELINE_H

#include "edgespan.h"

/* The ns of each phase between two monotonic moments; together at most the time between
 * them. */
void es_timeline_sum(const es_timeline_t *timeline, uint64_t from, uint64_t to,
                     uint64_t sums[ES_PHASES]);

/* When the try had a connection to send its request on, as far as that is known. */
uint64_t es_try_ready(const es_http_try_t *http_try);

#endif
