/* es_call.h: one request through libcurl: what the transport asks of a handle,
 * and what it makes of the outcome. Belongs to the transport. */

#ifndef ES_CALL_H
#define ES_CALL_H

#include "es_transport.h"

#include <curl/curl.h>

/* Bytes up to a ceiling; the memory is kept for the next call. */
typedef struct es_kept {
    char *data;
    size_t length, room;
} es_kept_t;

struct es_call {
    es_call_t *next;
    CURL *easy;
    struct curl_slist *headers_sent;
    es_request_t request;
    es_kept_t headers, body;
    uint64_t received; /* bytes of the body */
    bool too_large;
    es_peer_t peer; /* as its first bytes told */
    char error[CURL_ERROR_SIZE];
};

/* NULL: no memory. */
es_call_t *es_call_create(void);
void es_call_destroy(es_call_t *call);

/* Sets the handle up for a request; false: no memory. Either way es_call_reset()
 * is due in the end. */
bool es_call_prepare(es_call_t *call, const es_request_t *request) ES_MUST_CHECK;

/* Back to a handle without a request; memory is kept, and TLS sessions are where one
 * handle is good for more than one request. */
void es_call_reset(es_call_t *call);

/* The outcome, valid until es_call_reset(). */
es_response_t es_call_response(const es_call_t *call, CURLcode code);

#endif
