/* es_response.h: what came back for a request, or did not.
 *
 * Everything in it is valid only in the callback that gets it. */

#ifndef ES_RESPONSE_H
#define ES_RESPONSE_H

#include "es_str.h"

/* The ceilings. What is beyond the first is not given to the caller; beyond the
 * others the request fails. */
#define ES_RESPONSE_KEPT ((size_t) 64 << 10)
#define ES_RESPONSE_MAX (UINT64_C(4) << 20)
#define ES_RESPONSE_HEADERS_MAX ((size_t) 64 << 10) /* trailers count, too */

/* A day: whoever asks for more is asked again tomorrow. */
#define ES_RETRY_AFTER_MAX UINT64_C(86400)

/* What a peer gives away about itself where it cannot be talked to. */
typedef enum es_peer {
    ES_PEER_UNKNOWN,
    ES_PEER_SILENT, /* took a new connection and ended it without an answer */
    ES_PEER_PLAIN,  /* does not speak the TLS that was begun */
    ES_PEER_TLS,    /* speaks TLS where none was begun */
    ES_PEER_HTTP1,  /* answered HTTP/1 where HTTP/2 was asked for */
    ES_PEER_HTTP2,  /* answered HTTP/2 where HTTP/1 was asked for */
} es_peer_t;

typedef struct es_response {
    unsigned status; /* 0: none, see `failure` */
    es_str_t headers;
    es_str_t body;
    bool too_large;
    uint64_t retry_after_ns; /* Retry-After in either of its forms, 0: none */
    const char *failure;     /* in words, if status is 0 */
    int stream_error;        /* the code of HTTP/2's RST_STREAM; -1: none */
    es_peer_t peer;
} es_response_t;

/* The value of the last header or trailer of that name (lowercase); its data is
 * NULL if there is none. */
es_str_t es_response_header(const es_response_t *response, es_str_t name);

/* A peer that speaks something else than we do: says into `words` what it is and
 * which directive would be right. `http2`, `tls`: what was asked of it. */
bool es_response_mismatch(const es_response_t *response, bool http2, bool tls, char *words,
                          size_t size);

#endif
