/* es_http.h: OpenTelemetry's HTTP semantic conventions (stable, spans): the
 * one place that turns an exchange into attributes, span name and status. */

#ifndef ES_HTTP_H
#define ES_HTTP_H

#include "es_span.h"

/* Redacts values of well-known secrets in a query: "q=1&sig=REDACTED". Writes
 * at most `size` bytes to `out` and returns the result, which is `query` itself
 * where nothing had to be hidden. */
es_str_t es_http_redact_query(es_str_t query, char *out, size_t size);

/* Splits a request target in any of its forms (RFC 9112, 3.2). The authority is
 * that of the absolute and the authority form, the query is without its '?'. */
void es_http_split_target(es_str_t target, es_str_t *authority, es_str_t *path, es_str_t *query);

/* Writes the whole span into `buffer` of ES_SPAN_SIZE_MAX bytes. `span` has
 * everything but the name, which is built here. `wall_offset_ns` turns the
 * tries' monotonic times into wall times. */
es_str_t es_http_write_span(void *buffer, es_span_t *span, const es_http_t *http,
                            uint64_t wall_offset_ns);

#endif
