/* es_http_sender.h: what the protocols over HTTP differ in. */

#ifndef ES_HTTP_SENDER_H
#define ES_HTTP_SENDER_H

#include "es_protocol.h"
#include "es_transport.h"

typedef struct es_http_rules {
    bool http2;               /* and nothing less */
    const char *content_type; /* NULL: the format's */
    const char *compressed;   /* the header that goes with a compressed body */
    const char *constant;     /* a header that every request has, or NULL */

    /* es_sender_t's frame(). */
    bool (*frame)(const es_exporter_config_t *exporter, es_str_t body, es_buffer_t *framed);

    /* What a response means; the outcome is preset to ES_RETRY. Called for
     * whatever came or did not come, but for a response that is too large or of a
     * peer that speaks something else. */
    void (*read)(const es_protocol_t *protocol, const es_response_t *response, es_result_t *result);
} es_http_rules_t;

/* OTLP/HTTP and its likes (OTLP specification, "OTLP/HTTP Response"). */
extern const es_http_rules_t es_http_rules_otlp;

/* OTLP/gRPC: es_grpc.c. */
extern const es_http_rules_t es_http_rules_grpc;

#endif
