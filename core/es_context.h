/* es_context.h: W3C Trace Context level 2, the syntax of traceparent.
 * Pure functions; results borrow their input. */

#ifndef ES_CONTEXT_H
#define ES_CONTEXT_H

#include "es_str.h"

/* Parses one traceparent field value (OWS around it allowed). Versions above 00
 * are read as far as 00 goes, ff and all-zero ids are refused. Fills the ids and
 * flags; the tracestate becomes empty. */
bool es_traceparent_parse(es_str_t value, es_span_context_t *context) ES_MUST_CHECK;

/* Version 00, no NUL. */
void es_traceparent_format(char out[ES_TRACEPARENT_LEN], const uint8_t trace_id[ES_TRACE_ID_LEN],
                           const uint8_t span_id[ES_SPAN_ID_LEN], uint8_t flags);

#endif
