/* es_baggage.h: W3C Baggage, the syntax of the header.
 *
 * What is no member by the grammar is passed over. Of all header fields together
 * 64 members and 8192 bytes count, what a platform must send on; of what is beyond
 * nothing is read or written. Results borrow their input. */

#ifndef ES_BAGGAGE_H
#define ES_BAGGAGE_H

#include "edgespan.h"

#define ES_BAGGAGE_MAX 8192
#define ES_BAGGAGE_MEMBERS_MAX 64

typedef struct es_member {
    es_str_t text; /* all of it, properties, too */
    es_str_t key;
    es_str_t value; /* percent-encoded */
} es_member_t;

/* Takes the next member off the list; false: there is no more. */
bool es_baggage_next(es_str_t *list, es_member_t *member);

/* The members that count as one list: borrowed, unless there are several fields. */
es_str_t es_baggage_combine(const es_carrier_t *carrier, const es_pool_t *pool);

bool es_names_have(const es_names_t *names, es_str_t name);

#endif
