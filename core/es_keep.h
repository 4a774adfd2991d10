/* es_keep.h: what is recorded after all when a request has ended. */

#ifndef ES_KEEP_H
#define ES_KEEP_H

#include "es_config.h"

/* The first reason of the place to record this request, or ES_KEEP_NOT; without
 * its limit. `begin_mono_ns`: when the request began. */
es_keep_t es_keep_why(const es_sampling_t *sampling, const es_http_t *http, uint64_t begin_mono_ns);

/* "error", "slow", "status": edgespan.sampling.reason. Empty: it is not kept. */
es_str_t es_keep_reason(es_keep_t keep);

#endif
