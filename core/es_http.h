/* es_http.h: OpenTelemetry's HTTP semantic conventions (spans; stable, and as they were
 * before): the one place that turns an exchange into attributes, span name and status. */

#ifndef ES_HTTP_H
#define ES_HTTP_H

#include "es_span.h"

/* What a span needs to know of its trace beyond what is in es_span_t. */
typedef struct es_http_trace {
    const es_config_t *config;
    uint64_t wall_offset_ns;       /* turns monotonic times into wall times */
    const es_span_context_t *link; /* a remote context; NULL: none */
    es_str_t sampling_reason;      /* edgespan.sampling.reason; empty: none */
} es_http_trace_t;

/* Writes the whole span into `buffer` of ES_SPAN_SIZE_MAX bytes. `span` has
 * everything but the name, which is built here. */
es_str_t es_http_write_span(void *buffer, es_span_t *span, const es_http_t *http,
                            const es_http_trace_t *trace);

/* Is the status of its span Error? */
bool es_http_failed(const es_http_t *http);

/* ---- es_http_url.c */

/* Splits a request target in any of its forms (RFC 9112, 3.2). The authority is
 * that of the absolute and the authority form, the query is without its '?'. */
void es_http_split_target(es_str_t target, es_str_t *authority, es_str_t *path, es_str_t *query);

/* Redacts values of a query: "q=1&sig=REDACTED". Writes at most `size` bytes to `out`
 * and returns the result, which is `query` itself where nothing had to be hidden, and its
 * beginning where `out` ends before the first that has. */
es_str_t es_http_redact_query(const es_redaction_t *redaction, es_str_t query, char *out,
                              size_t size);

#endif
