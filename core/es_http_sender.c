/* The sender of the protocols over HTTP. */

#include "es_http_sender.h"

#include "es_clock.h"
#include "es_gzip.h"

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
    const char *headers[ES_EXPORTER_HEADERS_MAX + 2];
    unsigned headers_count;
    es_http_slot_t slots[ES_IN_FLIGHT_MAX];
};

static void *
http_open(const es_exporter_config_t *exporter, es_transport_t *transport, es_error_t *error)
{
    const es_http_rules_t *rules = exporter->protocol->rules;
    const char *lacks = es_transport_lacks(rules->http2, &exporter->tls);
    es_http_sender_t *sender;

    if (lacks != NULL) {
        es_fail(error, "libcurl lacks %s", lacks);
        return NULL;
    }
    if ((sender = calloc(1, sizeof(*sender))) == NULL) {
        es_fail(error, "no memory");
        return NULL;
    }
    sender->exporter = exporter;
    sender->transport = transport;
    for (unsigned i = 0; i < ES_IN_FLIGHT_MAX; i++) {
        sender->slots[i].sender = sender;
    }

    for (unsigned i = 0; i < exporter->headers_count; i++) {
        sender->headers[sender->headers_count++] = exporter->headers[i];
    }
    if (exporter->gzip) {
        sender->headers[sender->headers_count++] = rules->compressed;
    }
    if (rules->constant != NULL) {
        sender->headers[sender->headers_count++] = rules->constant;
    }
    return sender;
}

static bool
http_frame(const es_exporter_config_t *exporter, es_str_t body, es_buffer_t *framed)
{
    return exporter->protocol->rules->frame(exporter, body, framed);
}

static void
answered(void *data, const es_response_t *response)
{
    es_http_slot_t *slot = data;
    const es_exporter_config_t *exporter = slot->sender->exporter;
    const es_protocol_t *protocol = exporter->protocol;
    es_delivery_t *delivery = slot->delivery;
    bool tls = es_str_starts(es_cstr(exporter->targets[delivery->target].url), ES_STR("https:"));
    es_result_t result = {.outcome = ES_RETRY};

    if (es_response_mismatch(response, protocol->rules->http2, tls, result.message,
                             sizeof(result.message))) {
        /* Nothing is lost while somebody mends the configuration. */
    } else if (response->too_large) {
        result.outcome = ES_REJECTED;
        snprintf(result.message, sizeof(result.message), "its answer is too large");
    } else {
        protocol->rules->read(protocol, response, &result);
    }
    slot->call = NULL;
    delivery->done(delivery, &result);
}

static void
http_send(void *data, es_delivery_t *delivery)
{
    es_http_sender_t *sender = data;
    const es_exporter_config_t *exporter = sender->exporter;
    const es_target_t *target = &exporter->targets[delivery->target];
    const es_http_rules_t *rules = exporter->protocol->rules;
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
                .url = target->url,
                .unix_socket = target->unix_socket,
                .http2 = rules->http2,
                .tls = &exporter->tls,
                .headers = sender->headers,
                .headers_count = sender->headers_count,
                .content_type = rules->content_type != NULL
                                    ? rules->content_type
                                    : exporter->protocol->format->content_type,
                .body = delivery->body,
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

const es_sender_t es_sender_http = {http_open, http_frame, http_send, http_close, true};

/* ------------------------------------------------------------ OTLP/HTTP --- */

static bool
otlp_frame(const es_exporter_config_t *exporter, es_str_t body, es_buffer_t *framed)
{
    return !exporter->gzip || es_gzip(body, 0, framed);
}

static bool
is_retryable(unsigned status)
{
    return status == 429 || status == 502 || status == 503 || status == 504;
}

static void
otlp_read(const es_protocol_t *protocol, const es_response_t *response, es_result_t *result)
{
    const es_format_t *format = protocol->format;
    bool ok = response->status >= 200 && response->status < 300;
    char words[sizeof(result->message)];

    if (response->status == 0) {
        snprintf(result->message, sizeof(result->message), "%s", response->failure);
        return;
    }
    if (!is_retryable(response->status)) {
        result->outcome = ok ? ES_DELIVERED : ES_REJECTED;
    }
    result->retry_after_ns = response->retry_after_ns;
    if (format->read_answer != NULL) {
        format->read_answer(response->body, ok, result);
    }
    if (!ok) {
        snprintf(words, sizeof(words), "%s", result->message);
        snprintf(result->message, sizeof(result->message), "HTTP %u%s%.200s", response->status,
                 words[0] != '\0' ? ": " : "", words);
    }
}

const es_http_rules_t es_http_rules_otlp = {
    .compressed = "Content-Encoding: gzip",
    .frame = otlp_frame,
    .read = otlp_read,
};
