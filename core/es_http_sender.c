/* The sender of the protocols over HTTP: OTLP/HTTP's rules of what an answer
 * means (OTLP specification, "OTLP/HTTP Response"). */

#include "es_clock.h"
#include "es_protocol.h"
#include "es_transport.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct es_http_sender es_http_sender_t;

/* A delivery under way; free if call is NULL. */
typedef struct es_http_slot {
    es_http_sender_t *sender;
    es_delivery_t *delivery;
    es_call_t *call;
} es_http_slot_t;

struct es_http_sender {
    const es_exporter_config_t *exporter;
    es_transport_t *transport;
    es_http_slot_t slots[ES_IN_FLIGHT_MAX];
};

static void *
http_open(const es_exporter_config_t *exporter, es_transport_t *transport, es_error_t *error)
{
    es_http_sender_t *sender = calloc(1, sizeof(*sender));

    if (sender == NULL) {
        es_fail(error, "no memory");
        return NULL;
    }
    sender->exporter = exporter;
    sender->transport = transport;
    for (unsigned i = 0; i < ES_IN_FLIGHT_MAX; i++) {
        sender->slots[i].sender = sender;
    }
    return sender;
}

static bool
is_retryable(unsigned status)
{
    return status == 429 || status == 502 || status == 503 || status == 504;
}

static void
answered(void *data, const es_response_t *response)
{
    es_http_slot_t *slot = data;
    const es_format_t *format = slot->sender->exporter->protocol->format;
    es_delivery_t *delivery = slot->delivery;
    es_result_t result = {.outcome = ES_RETRY};
    bool ok = response->status >= 200 && response->status < 300;

    if (response->too_large) {
        result.outcome = ES_REJECTED;
        snprintf(result.message, sizeof(result.message), "its answer is larger than 4 MiB");
    } else if (response->status == 0) {
        snprintf(result.message, sizeof(result.message), "%s", response->failure);
    } else {
        result.outcome = ok                               ? ES_DELIVERED
                         : is_retryable(response->status) ? ES_RETRY
                                                          : ES_REJECTED;
        result.retry_after_ns = response->retry_after_ns;
        format->read_answer(response->body, ok, &result);
        if (!ok) {
            char words[sizeof(result.message)];

            snprintf(words, sizeof(words), "%s", result.message);
            snprintf(result.message, sizeof(result.message), "HTTP %u%s%.200s", response->status,
                     words[0] != '\0' ? ": " : "", words);
        }
    }

    slot->call = NULL;
    delivery->done(delivery, &result);
}

static void
http_send(void *data, es_delivery_t *delivery)
{
    es_http_sender_t *sender = data;
    const es_exporter_config_t *exporter = sender->exporter;
    uint64_t now = es_mono_ns();
    es_result_t result = {.outcome = ES_RETRY, .message = "no memory"};

    for (unsigned i = 0; i < ES_IN_FLIGHT_MAX; i++) {
        es_http_slot_t *slot = &sender->slots[i];

        if (slot->call != NULL) {
            continue;
        }
        slot->delivery = delivery;
        slot->call = es_transport_post(
            sender->transport,
            &(es_request_t){
                .url = exporter->target,
                .headers = exporter->headers,
                .headers_count = exporter->headers_count,
                .content_type = exporter->protocol->format->content_type,
                .body = delivery->body,
                .size = delivery->size,
                .timeout_ns =
                    delivery->deadline_ns > now + ES_MS ? delivery->deadline_ns - now : ES_MS,
                .done = answered,
                .data = slot,
            });
        if (slot->call != NULL) {
            return;
        }
        break;
    }
    delivery->done(delivery, &result);
}

static void
http_close(void *data)
{
    es_http_sender_t *sender = data;

    for (unsigned i = 0; i < ES_IN_FLIGHT_MAX; i++) {
        if (sender->slots[i].call != NULL) {
            es_transport_cancel(sender->transport, sender->slots[i].call);
        }
    }
    free(sender);
}

const es_sender_t es_sender_http = {http_open, http_send, http_close, true};
