/* es_redaction.h: what the writing of a span asks of an es_redaction_t, which may be NULL:
 * then it is the default. Pure functions. */

#ifndef ES_REDACTION_H
#define ES_REDACTION_H

#include "edgespan.h"

#define ES_REDACTED ES_STR("REDACTED")

/* What keys of headers begin with. */
#define ES_REQUEST_HEADER ES_STR("http.request.header.")
#define ES_RESPONSE_HEADER ES_STR("http.response.header.")

/* Is the value of this key of a query not to be seen? The key is as it came, maybe
 * percent-encoded. With "query=*" no key's is: nor is a part of a query without a '='. */
bool es_redaction_hides_query(const es_redaction_t *redaction, es_str_t key);

/* Likewise a header's; names are compared without case. */
bool es_redaction_hides_header(const es_redaction_t *redaction, es_str_t name);

/* A client's address (IPv4, IPv6, IPv4-mapped IPv6; a zone goes) as it is to be seen: as it
 * is, or with its last bits zero, in `text`; empty if it is none and all are to be masked.
 * "unix:" and what is behind it is no client's own and stays. */
#define ES_ADDRESS_TEXT 48
es_str_t es_redaction_address(const es_redaction_t *redaction, es_str_t address,
                              char text[ES_ADDRESS_TEXT]);

#endif
