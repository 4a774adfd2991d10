/* es_protocol.h: what an exporter can speak.
 *
 * A protocol is a format, that makes a body of a batch, and a sender, that
 * brings it to its destination. A new one is a row in es_protocol.c and a file
 * for what is new of the two. All of it runs on the exporter thread. */

#ifndef ES_PROTOCOL_H
#define ES_PROTOCOL_H

#include "es_config.h"

struct es_transport;
struct es_http_rules;

/* Deliveries under way per exporter. */
#define ES_IN_FLIGHT_MAX 16

/* What became of a delivery. */
typedef enum es_outcome {
    ES_DELIVERED,
    ES_RETRY,    /* try again, not before retry_after_ns if that is not 0 */
    ES_REJECTED, /* do not try again */
} es_outcome_t;

typedef struct es_result {
    es_outcome_t outcome;
    uint64_t retry_after_ns;
    uint64_t rejected; /* spans refused though delivered */
    char message[256]; /* for the log; empty if there is nothing to say */
} es_result_t;

/* One batch on its way; the owner keeps it until `done` was called, once, from
 * within send() or later from the transport's turn. */
typedef struct es_delivery {
    es_str_t body;
    unsigned target;      /* which of the exporter's targets */
    uint64_t deadline_ns; /* monotonic */
    void (*done)(struct es_delivery *delivery, const es_result_t *result);
} es_delivery_t;

typedef struct es_format {
    const char *content_type;
    bool one_resource; /* a body has spans of one resource only */

    /* Makes the body of a batch. False: no memory. NULL: the batch's own OTLP
     * protobuf is the body. */
    bool (*encode)(const EsOtlp__TracesData *data, es_buffer_t *body);

    /* Reads an answer of status 2xx (ok) or another: partial success, words.
     * NULL: its answers have no meaning beyond their status. */
    void (*read_answer)(es_str_t body, bool ok, es_result_t *result);
} es_format_t;

typedef struct es_sender {
    /* NULL with the error filled. `transport` is NULL unless needs_transport. */
    void *(*open)(const es_exporter_config_t *exporter, struct es_transport *transport,
                  es_error_t *error);

    /* What goes onto the wire instead of `body`: framed, compressed; `framed`
     * stays empty where that is the body itself. Once per batch. False: no memory. */
    bool (*frame)(const es_exporter_config_t *exporter, es_str_t body, es_buffer_t *framed);

    void (*send)(void *sender, es_delivery_t *delivery);

    /* Gives up what is under way: nothing is called back any more. */
    void (*close)(void *sender);
    bool needs_transport;
} es_sender_t;

struct es_protocol {
    const char *name;
    const es_format_t *format;
    const es_sender_t *sender;
    const struct es_http_rules *rules; /* of es_sender_http: see es_http_sender.h */
    const char *path;                  /* added to an endpoint that has none */
};

extern const es_format_t es_format_otlp;
extern const es_format_t es_format_otlp_json;
extern const es_format_t es_format_zipkin;
extern const es_format_t es_format_jaeger;
extern const es_sender_t es_sender_http;
extern const es_sender_t es_sender_file;

extern const es_protocol_t es_protocol_http_protobuf;
extern const es_protocol_t es_protocol_file;

/* NULL: not one of ours. */
const es_protocol_t *es_protocol_find(es_str_t name);

/* All names, for messages: "http/protobuf, file". */
void es_protocol_names(char *out, size_t size);

#endif
