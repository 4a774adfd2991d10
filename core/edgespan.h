/*
 * edgespan.h: everything a server module needs from the tracing core.
 *
 * The core knows no server. A module fills an es_config_t while it reads its
 * configuration, makes one es_generation_t in the parent before the fork, one
 * es_provider_t in every serving process after the fork, and one es_trace_t
 * per request.
 *
 * Threads: configuration and generation functions belong to the single thread
 * that reads the configuration. A provider may be used by any number of
 * request threads at once; a trace belongs to one request.
 *
 * Ownership: an es_str_t is a view and never owns. Functions that keep a
 * string copy it, unless their comment says that they borrow.
 *
 * Errors: functions marked ES_MUST_CHECK return false and fill the es_error_t.
 * Nothing here ends the process, and nothing below "requests" allocates, waits
 * or fails the request: what cannot be recorded is dropped and counted.
 */

#ifndef EDGESPAN_H
#define EDGESPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

#define EDGESPAN_VERSION "0.1.0"

#define ES_MUST_CHECK __attribute__((warn_unused_result))

/* ------------------------------------------------------------ strings --- */

/* A borrowed run of bytes; not NUL-terminated, may be empty (len 0). */
typedef struct es_str {
    const char *data;
    size_t len;
} es_str_t;

#define ES_STR(literal) ((es_str_t){(literal), sizeof(literal) - 1})
#define ES_STR_NONE ((es_str_t){NULL, 0})

static inline es_str_t
es_str(const void *data, size_t len)
{
    return (es_str_t){(const char *) data, len};
}

/* A view of a NUL-terminated string; NULL gives the empty view. */
static inline es_str_t
es_cstr(const char *s)
{
    return (es_str_t){s, s != NULL ? strlen(s) : 0};
}

/* One sentence for a person: the place is the caller's to add, the value and
 * what would be right are in the text. */
typedef struct es_error {
    char text[512];
} es_error_t;

/* ------------------------------------------------------------- memory --- */

/* Of a request: its strings must live until the request's last span. Of a
 * configuration: as long as that. */
typedef struct es_pool {
    void *(*alloc)(void *pool, size_t size); /* NULL: none left */
    void *pool;
} es_pool_t;

/* ---------------------------------------------------------------- log --- */

/* Ordered like syslog, so that a server maps them by one small table. */
typedef enum es_log_level {
    ES_LOG_ERROR,
    ES_LOG_WARN,
    ES_LOG_NOTICE,
    ES_LOG_INFO,
} es_log_level_t;

/* Where messages go. `write` gets one line without a newline; after
 * es_provider_start() it is called on the exporter thread. */
typedef struct es_log {
    void (*write)(void *data, es_log_level_t level, const char *text);
    void *data;
} es_log_t;

/* The rest, by who needs it when. A module includes this file only. */
#include "edgespan_config.h"
#include "edgespan_request.h"
#include "edgespan_sampling.h"
#include "edgespan_server.h"
#include "edgespan_span.h"

#endif
