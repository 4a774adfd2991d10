/* es_transport.h: HTTP requests, several at once, on one thread. The only user
 * of libcurl.
 *
 * Every request has a deadline, every response a ceiling. Nothing blocks but
 * es_transport_wait(), and that no longer than it is told. Connections are kept
 * alive between requests, and shared by those over HTTP/2; no proxy of the
 * environment is used. */

#ifndef ES_TRANSPORT_H
#define ES_TRANSPORT_H

#include "es_config.h"
#include "es_response.h"

#include <poll.h>

typedef struct es_transport es_transport_t;
typedef struct es_call es_call_t;

/* Everything is borrowed until `done` was called. */
typedef struct es_request {
    const char *url;
    const char *unix_socket; /* connect here, whatever the URL says; or NULL */
    bool http2;              /* and nothing less: without TLS by prior knowledge */
    const es_tls_t *tls;
    const char *const *headers; /* "Name: value" */
    unsigned headers_count;
    const char *content_type;
    es_str_t body;
    uint64_t timeout_ns;
    void (*done)(void *data, const es_response_t *response);
    void *data;
} es_request_t;

/* What of this the libcurl in use cannot do, in words; NULL: nothing. */
const char *es_transport_lacks(bool http2, const es_tls_t *tls);

/* NULL with the error filled. */
es_transport_t *es_transport_create(es_error_t *error);

/* Gives up what is under way; nothing is called back. Never waits for a name
 * server. */
void es_transport_destroy(es_transport_t *transport);

/* A POST. NULL: no memory, and nothing is called back. */
es_call_t *es_transport_post(es_transport_t *transport, const es_request_t *request);

/* Gives up one call that is not done. */
void es_transport_cancel(es_transport_t *transport, es_call_t *call);

/* Moves all requests on, and waits for them or for `fds`, at most timeout_ms. */
void es_transport_wait(es_transport_t *transport, struct pollfd *fds, unsigned count,
                       int timeout_ms);

#endif
