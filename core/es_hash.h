/* es_hash.h: values that only whoever has the key can tell (attributes of type "hash"). */

#ifndef ES_HASH_H
#define ES_HASH_H

#include "edgespan.h"

#define ES_HASH_SIZE 16 /* bytes of HMAC-SHA256 that are shown */
#define ES_HASH_TEXT (2 * ES_HASH_SIZE)

/* HMAC-SHA256 (RFC 2104): 32 lowercase hex digits in `out`, no NUL. Empty where the
 * configuration has no key, or memory is short: OpenSSL allocates some. Any thread; 1.5 us,
 * of 64 KiB 40 us. */
es_str_t es_hash(const es_config_t *config, es_str_t value, char out[ES_HASH_TEXT]);

/* The key's memory is wiped. */
void es_hash_key_dispose(es_config_t *config);

#endif
