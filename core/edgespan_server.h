/* edgespan_server.h, a part of edgespan.h: the processes of a server and what they did. */

#ifndef EDGESPAN_SERVER_H
#define EDGESPAN_SERVER_H

#include "edgespan.h"

/* -------------------------------------------- generation and provider --- */

typedef struct es_generation es_generation_t;
typedef struct es_provider es_provider_t;

/* Bytes of the two shared areas. The queue's lives with its generation, the
 * statistics' with the server: it is to survive reloads. */
size_t es_queue_area_size(const es_config_t *config);
size_t es_stats_area_size(void);

/* Can an area that was kept go on being used? Not if another build of the core
 * laid it out: a server that loads a new one begins a new, zeroed area. */
bool es_stats_area_fits(const void *stats_area);

/* What the processes of one configuration share. Called in the parent before
 * any fork. `queue_area` is shared memory of es_queue_area_size() bytes,
 * aligned to 64, its content of no matter; `stats_area` is of
 * es_stats_area_size() bytes, aligned to 64, zeroed when the server started.
 * Both and the config are borrowed for the generation's life. */
bool es_generation_create(es_generation_t **generation, const es_config_t *config, void *queue_area,
                          void *stats_area, es_error_t *error) ES_MUST_CHECK;

/* Closes this process's descriptors of the generation. In the parent any time;
 * in a serving process only after es_provider_stop(). */
void es_generation_destroy(es_generation_t *generation);

/* Counts a span of a request that ended when its process traced no more. In a serving
 * process any time; async-signal-safe. */
void es_generation_missed(es_generation_t *generation);

/* Starts tracing in a serving process: takes a slot, seeds the id generator
 * and starts the exporter thread (all signals blocked, the CPU affinity saved
 * by es_generation_create). `log` is copied. */
bool es_provider_start(es_provider_t **provider, es_generation_t *generation, const es_log_t *log,
                       es_error_t *error) ES_MUST_CHECK;

/* Asks the exporter to stop and takes the absolute deadline: shutdown_timeout
 * from now, but no more than `at_most_ns`, which is what the server leaves a
 * process before it kills it. Async-signal-safe; later calls change nothing. */
void es_provider_stopping(es_provider_t *provider, uint64_t at_most_ns);

/* Waits until the exporter has ended (the deadline plus at most 0.2 s). Spans of
 * requests that end later are counted as dropped. Calls es_provider_stopping()
 * itself, which changes nothing where that was called before. */
void es_provider_stop(es_provider_t *provider);

/* Frees a stopped provider. No request may use it any more. */
void es_provider_destroy(es_provider_t *provider);

/* Waits likewise, but only waits: async-signal-safe, for a server that ends
 * its processes inside a signal handler (httpd's prefork). */
void es_provider_wait(es_provider_t *provider);

/* ------------------------------------------------------------- status --- */

typedef enum es_status_format {
    ES_STATUS_TEXT, /* one fact per line */
    ES_STATUS_JSON,
} es_status_format_t;

/* What the generation and the server did so far, as a page of *length bytes;
 * malloc()ed, not NUL-terminated. NULL: no memory. Any process, any thread, with or
 * without a provider, as long as both areas are there. */
char *es_status(const es_generation_t *generation, es_status_format_t format, size_t *length);

/* "text" or "json". */
bool es_parse_status_format(es_str_t text, es_status_format_t *format,
                            es_error_t *error) ES_MUST_CHECK;

/* What a request asks for: "format=json" in its query, or else application/json
 * in its Accept; text unless one of the two says so. */
es_status_format_t es_status_choose(es_str_t query, es_str_t accept);

const char *es_status_content_type(es_status_format_t format);

/* Is the peer on this machine: a loopback address or a unix socket? */
bool es_is_local_peer(const struct sockaddr *address);

/* A header that a proxy adds for whom it asks ("X-Forwarded-For", ...): then the
 * peer is not who wants to know. */
bool es_is_forwarding_header(es_str_t name);

#endif
