/* OTLP/gRPC: unary calls over HTTP/2 (grpc/doc/PROTOCOL-HTTP2.md), and what their
 * status means for a batch (OTLP specification, "OTLP/gRPC Response"). */

#include "es_clock.h"
#include "es_gzip.h"
#include "es_http_sender.h"

#include <stdio.h>
#include <stdlib.h>

/* A message's prefix: is it compressed, and its length, big-endian. */
#define PREFIX 5

typedef enum es_grpc_code {
    GRPC_OK = 0,
    GRPC_CANCELLED = 1,
    GRPC_UNKNOWN = 2,
    GRPC_DEADLINE_EXCEEDED = 4,
    GRPC_PERMISSION_DENIED = 7,
    GRPC_RESOURCE_EXHAUSTED = 8,
    GRPC_ABORTED = 10,
    GRPC_OUT_OF_RANGE = 11,
    GRPC_UNIMPLEMENTED = 12,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14,
    GRPC_DATA_LOSS = 15,
    GRPC_UNAUTHENTICATED = 16,
} es_grpc_code_t;

static const char *const code_names[] = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

#define CODES (sizeof(code_names) / sizeof(code_names[0]))

/* -------------------------------------------------------------- sending --- */

static bool
grpc_frame(const es_exporter_config_t *exporter, es_str_t body, es_buffer_t *framed)
{
    size_t length;

    if (exporter->gzip) {
        if (!es_gzip(body, PREFIX, framed)) {
            return false;
        }
    } else {
        framed->size = PREFIX + body.len;
        if ((framed->data = malloc(framed->size)) == NULL) {
            return false;
        }
        memcpy(framed->data + PREFIX, body.data, body.len);
    }
    length = framed->size - PREFIX;
    framed->data[0] = exporter->gzip;
    framed->data[1] = (uint8_t) (length >> 24);
    framed->data[2] = (uint8_t) (length >> 16);
    framed->data[3] = (uint8_t) (length >> 8);
    framed->data[4] = (uint8_t) length;
    return true;
}

/* --------------------------------------------------------------- details --- */

/* Base64 (RFC 4648, 4), with or without its padding. 0: it is not. */
static size_t
unbase64(es_str_t text, uint8_t *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    size_t length = 0;

    while (text.len != 0 && text.data[text.len - 1] == '=') {
        text.len--;
    }
    for (size_t i = 0; i < text.len; i++) {
        const char *digit = text.data[i] != '\0' ? strchr(digits, text.data[i]) : NULL;

        if (digit == NULL) {
            return 0;
        }
        bits = bits << 6 | (uint32_t) (digit - digits);
        if (i % 4 != 0) {
            out[length++] = (uint8_t) (bits >> (6 - 2 * (i % 4)));
        }
    }
    return length;
}

static uint64_t
nanoseconds(const EsOtlp__Duration *duration)
{
    if (duration == NULL || duration->seconds < 0 || duration->nanos < 0) {
        return 0;
    }
    if ((uint64_t) duration->seconds >= ES_RETRY_AFTER_MAX) {
        return ES_RETRY_AFTER_MAX * ES_SECOND;
    }
    return (uint64_t) duration->seconds * ES_SECOND + (uint64_t) duration->nanos;
}

/* False: it is no RetryInfo. */
static bool
read_detail(const EsOtlp__Any *detail, uint64_t *delay_ns)
{
    const char *type = strrchr(detail->type_url, '/');
    EsOtlp__RetryInfo *info;

    if (type == NULL || strcmp(type, "/google.rpc.RetryInfo") != 0) {
        return false;
    }
    info = es_otlp__retry_info__unpack(NULL, detail->value.len, detail->value.data);
    if (info == NULL) {
        return false;
    }
    *delay_ns = nanoseconds(info->retry_delay);
    es_otlp__retry_info__free_unpacked(info, NULL);
    return true;
}

/* Does the response say when to come again? */
static bool
read_retry_info(const es_response_t *response, uint64_t *delay_ns)
{
    es_str_t text = es_response_header(response, ES_STR("grpc-status-details-bin"));
    uint8_t *bytes = text.len != 0 ? malloc(text.len) : NULL;
    EsOtlp__RpcStatus *status;
    bool found = false;

    if (bytes == NULL) {
        return false;
    }
    status = es_otlp__rpc_status__unpack(NULL, unbase64(text, bytes), bytes);
    for (size_t i = 0; status != NULL && i < status->n_details && !found; i++) {
        found = read_detail(status->details[i], delay_ns);
    }
    if (status != NULL) {
        es_otlp__rpc_status__free_unpacked(status, NULL);
    }
    free(bytes);
    return found;
}

/* --------------------------------------------------------------- reading --- */

/* grpc/doc/http-grpc-status-mapping.md: for what is not of gRPC's making. */
static es_grpc_code_t
code_of_http(unsigned status)
{
    switch (status) {
    case 400:
    case 431:
        return GRPC_INTERNAL;
    case 401:
        return GRPC_UNAUTHENTICATED;
    case 403:
        return GRPC_PERMISSION_DENIED;
    case 404:
        return GRPC_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return GRPC_UNAVAILABLE;
    default:
        return GRPC_UNKNOWN;
    }
}

/* PROTOCOL-HTTP2.md, "Errors": what RST_STREAM means (RFC 9113, 7). */
static es_grpc_code_t
code_of_reset(int error)
{
    switch (error) {
    case 0x7: /* REFUSED_STREAM */
        return GRPC_UNAVAILABLE;
    case 0x8: /* CANCEL */
        return GRPC_CANCELLED;
    case 0xb: /* ENHANCE_YOUR_CALM */
        return GRPC_RESOURCE_EXHAUSTED;
    case 0xc: /* INADEQUATE_SECURITY */
        return GRPC_PERMISSION_DENIED;
    default:
        return GRPC_INTERNAL;
    }
}

static bool
is_retryable(uint64_t code, bool has_retry_info)
{
    switch (code) {
    case GRPC_CANCELLED:
    case GRPC_DEADLINE_EXCEEDED:
    case GRPC_ABORTED:
    case GRPC_OUT_OF_RANGE:
    case GRPC_UNAVAILABLE:
    case GRPC_DATA_LOSS:
        return true;
    case GRPC_RESOURCE_EXHAUSTED:
        return has_retry_info;
    default:
        return false;
    }
}

/* grpc-message is percent-encoded; what is not stays as it is. */
static void
decode_percent(es_str_t text, char *out, size_t size)
{
    size_t length = 0;

    while (text.len != 0 && length + 1 < size) {
        char digits[3] = {0};
        char *end = digits;
        unsigned long value = 0;

        if (text.data[0] == '%' && text.len >= 3) {
            memcpy(digits, text.data + 1, 2);
            value = digits[0] != '+' && digits[0] != '-' && digits[0] != ' '
                        ? strtoul(digits, &end, 16)
                        : 0;
        }
        if (end == digits + 2 && value != 0) {
            out[length++] = (char) value;
            text = es_str_from(text, 3);
        } else {
            out[length++] = text.data[0];
            text = es_str_from(text, 1);
        }
    }
    out[length] = '\0';
}

/* The answer's one message, if all of it is there; a compressed one was not asked
 * for. NULL data: none. */
static es_str_t
message_of(es_str_t body)
{
    const uint8_t *bytes = (const uint8_t *) body.data;
    size_t length;

    if (body.len < PREFIX || bytes[0] != 0) {
        return ES_STR_NONE;
    }
    length = (size_t) bytes[1] << 24 | (size_t) bytes[2] << 16 | (size_t) bytes[3] << 8 | bytes[4];
    return length <= body.len - PREFIX ? es_str(bytes + PREFIX, length) : ES_STR_NONE;
}

/* libcurl 7.88 loses the trailers if a GOAWAY comes along with them. A message is
 * sent only by a server that took the batch. */
static bool
lost_trailers(const es_response_t *response)
{
    return response->status == 200
           && es_str_starts(es_response_header(response, ES_STR("content-type")),
                            ES_STR("application/grpc"))
           && message_of(response->body).data != NULL;
}

static void
set_code(uint64_t code, const char *where, es_str_t words, const es_response_t *response,
         es_result_t *result)
{
    bool has_retry_info = read_retry_info(response, &result->retry_after_ns);
    char text[160];

    result->outcome = is_retryable(code, has_retry_info) ? ES_RETRY : ES_REJECTED;
    decode_percent(words, text, sizeof(text));
    snprintf(result->message, sizeof(result->message), "%sgRPC status %llu%s%s%s%s", where,
             (unsigned long long) code, code < CODES ? " " : "",
             code < CODES ? code_names[code] : "", text[0] != '\0' ? ": " : "", text);
}

static void
grpc_read(const es_protocol_t *protocol, const es_response_t *response, es_result_t *result)
{
    es_str_t status = es_response_header(response, ES_STR("grpc-status"));
    es_str_t words = es_response_header(response, ES_STR("grpc-message"));
    uint64_t code;
    char where[64];

    if (status.data == NULL && lost_trailers(response)) {
        status = ES_STR("0");
    }

    /* A status counts even if the stream was reset behind it: a server may end a
     * call before it has read all of it. */
    if (status.data != NULL) {
        if (!es_parse_uint(status, &code)) {
            code = GRPC_UNKNOWN;
        }
        if (code == GRPC_OK) {
            result->outcome = ES_DELIVERED;
            protocol->format->read_answer(message_of(response->body), true, result);
        } else {
            set_code(code, "", words, response, result);
        }
    } else if (response->stream_error >= 0) {
        set_code(code_of_reset(response->stream_error), "", es_cstr(response->failure), response,
                 result);
    } else if (response->status == 0) {
        snprintf(result->message, sizeof(result->message), "%s", response->failure);
    } else {
        snprintf(where, sizeof(where), "HTTP %u without a gRPC status, taken as ",
                 response->status);
        set_code(code_of_http(response->status), where, ES_STR_NONE, response, result);
    }
}

const es_http_rules_t es_http_rules_grpc = {
    .http2 = true,
    .content_type = "application/grpc",
    .compressed = "grpc-encoding: gzip",
    .constant = "te: trailers",
    .frame = grpc_frame,
    .read = grpc_read,
};
