/* es_gzip.h: compressed bodies (RFC 1952). */

#ifndef ES_GZIP_H
#define ES_GZIP_H

#include "es_str.h"

/* One gzip stream of `body`, behind `headroom` bytes that are the caller's to
 * fill. False: no memory. */
bool es_gzip(es_str_t body, size_t headroom, es_buffer_t *out) ES_MUST_CHECK;

#endif
