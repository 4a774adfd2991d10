/* OTLP/gRPC without a network: frames, and what a response means; and what a
 * response of somebody else's protocol tells. */

#include "unit.h"

#include "es_clock.h"
#include "es_http_sender.h"

#include "es_otlp.pb-c.h"

static const es_protocol_t *grpc;

/* ---------------------------------------------------------------- frames --- */

static void
frames(void **state)
{
    static const uint8_t expected[] = {0, 0, 0, 0, 3, 'a', 'b', 'c'};
    es_exporter_config_t exporter = {.gzip = false};
    es_buffer_t framed = {NULL, 0};
    static char large[70000];

    (void) state;
    assert_true(grpc->sender->needs_transport);
    assert_true(es_http_rules_grpc.frame(&exporter, ES_STR("abc"), &framed));
    assert_int_equal(framed.size, sizeof(expected));
    assert_memory_equal(framed.data, expected, sizeof(expected));
    es_buffer_free(&framed);

    assert_true(es_http_rules_grpc.frame(&exporter, es_str(large, sizeof(large)), &framed));
    assert_memory_equal(framed.data, "\0\0\x01\x11\x70", 5);
    es_buffer_free(&framed);

    exporter.gzip = true;
    assert_true(es_http_rules_grpc.frame(&exporter, es_str(large, sizeof(large)), &framed));
    assert_int_equal(framed.data[0], 1);
    assert_int_equal(
        framed.data[1] << 24 | framed.data[2] << 16 | framed.data[3] << 8 | framed.data[4],
        framed.size - 5);
    assert_memory_equal(framed.data + 5, "\x1f\x8b", 2);
    es_buffer_free(&framed);
}

/* ------------------------------------------------------------- responses --- */

static es_result_t
read_response(unsigned status, const char *headers, es_str_t body, int stream_error)
{
    es_response_t response = {
        .status = status,
        .headers = es_cstr(headers),
        .body = body,
        .stream_error = stream_error,
        .failure = "it failed",
    };
    es_result_t result = {.outcome = ES_RETRY};

    es_http_rules_grpc.read(grpc, &response, &result);
    return result;
}

static es_result_t
read_status(const char *headers)
{
    return read_response(200, headers, ES_STR_NONE, -1);
}

static void
codes(void **state)
{
    /* RESOURCE_EXHAUSTED (8) has no RetryInfo here. */
    static const bool retried[] = {
        [1] = true, [4] = true, [10] = true, [11] = true, [14] = true, [15] = true};

    (void) state;
    for (unsigned code = 1; code < 20; code++) {
        char headers[64];
        es_result_t result;

        snprintf(headers, sizeof(headers), "HTTP/2 200 \r\ngrpc-status: %u\r\n", code);
        result = read_status(headers);
        assert_int_equal(result.outcome,
                         code < UNIT_COUNT(retried) && retried[code] ? ES_RETRY : ES_REJECTED);
        assert_int_equal(result.retry_after_ns, 0);
    }
    assert_int_equal(read_status("grpc-status: 0\r\n").outcome, ES_DELIVERED);
    assert_int_equal(read_status("Grpc-Status:0").outcome, ES_DELIVERED);
    assert_int_equal(read_status("grpc-status: what\r\n").outcome, ES_REJECTED);
    assert_int_equal(read_status("grpc-status: 99999999999999999999\r\n").outcome, ES_REJECTED);
    assert_int_equal(read_status("grpc-status:\r\n").outcome, ES_REJECTED);

    /* Trailers come behind headers. */
    assert_int_equal(read_status("grpc-status: 0\r\n\r\ngrpc-status: 14\r\n").outcome, ES_RETRY);
}

static void
http_statuses(void **state)
{
    static const struct {
        unsigned status;
        const char *code;
        es_outcome_t outcome;
    } cases[] = {
        {400, "13 INTERNAL", ES_REJECTED},         {401, "16 UNAUTHENTICATED", ES_REJECTED},
        {403, "7 PERMISSION_DENIED", ES_REJECTED}, {404, "12 UNIMPLEMENTED", ES_REJECTED},
        {429, "14 UNAVAILABLE", ES_RETRY},         {431, "13 INTERNAL", ES_REJECTED},
        {500, "2 UNKNOWN", ES_REJECTED},           {502, "14 UNAVAILABLE", ES_RETRY},
        {503, "14 UNAVAILABLE", ES_RETRY},         {504, "14 UNAVAILABLE", ES_RETRY},
        {200, "2 UNKNOWN", ES_REJECTED},           {302, "2 UNKNOWN", ES_REJECTED},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        es_result_t result = read_response(cases[i].status, "", ES_STR_NONE, -1);
        char expected[128];

        snprintf(expected, sizeof(expected),
                 "HTTP %u without a gRPC status, taken as gRPC status %s", cases[i].status,
                 cases[i].code);
        assert_string_equal(result.message, expected);
        assert_int_equal(result.outcome, cases[i].outcome);
    }
}

static void
resets(void **state)
{
    (void) state;
    for (int error = 0; error < 14; error++) {
        es_result_t result = read_response(0, "", ES_STR_NONE, error);

        assert_int_equal(result.outcome, error == 7 || error == 8 ? ES_RETRY : ES_REJECTED);
    }
    /* A status that came before counts. */
    assert_int_equal(read_response(0, "grpc-status: 3\r\n", ES_STR_NONE, 8).outcome, ES_REJECTED);
    assert_int_equal(read_response(0, "grpc-status: 14\r\n", ES_STR_NONE, 0).outcome, ES_RETRY);

    /* No connection, no answer, a timeout. */
    assert_int_equal(read_response(0, "", ES_STR_NONE, -1).outcome, ES_RETRY);
    assert_string_equal(read_response(0, "", ES_STR_NONE, -1).message, "it failed");
}

static void
messages(void **state)
{
    static const struct {
        const char *header, *expected;
    } cases[] = {
        {"grpc-message: a%20b%2Cc\r\n", "gRPC status 3 INVALID_ARGUMENT: a b,c"},
        {"grpc-message: %C3%A9\r\n", "gRPC status 3 INVALID_ARGUMENT: \xc3\xa9"},
        {"grpc-message: 100%\r\n", "gRPC status 3 INVALID_ARGUMENT: 100%"},
        {"grpc-message: 5%zz%4\r\n", "gRPC status 3 INVALID_ARGUMENT: 5%zz%4"},
        {"grpc-message: %+1% 1%-1\r\n", "gRPC status 3 INVALID_ARGUMENT: %+1% 1%-1"},
        {"grpc-message: a%00b\r\n", "gRPC status 3 INVALID_ARGUMENT: a%00b"},
        {"grpc-message:\r\n", "gRPC status 3 INVALID_ARGUMENT"},
        {"", "gRPC status 3 INVALID_ARGUMENT"},
    };
    char headers[5000];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        snprintf(headers, sizeof(headers), "grpc-status: 3\r\n%s", cases[i].header);
        assert_string_equal(read_status(headers).message, cases[i].expected);
    }
    snprintf(headers, sizeof(headers), "grpc-status: 3\r\ngrpc-message: %04000d\r\n", 0);
    assert_true(strlen(read_status(headers).message) < sizeof(((es_result_t *) 0)->message));
}

/* -------------------------------------------------------------- RetryInfo --- */

static void
base64(const uint8_t *bytes, size_t length, bool padded, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    unsigned count = 0;

    for (size_t i = 0; i < length; i++) {
        bits = bits << 8 | bytes[i];
        for (count += 8; count >= 6; count -= 6) {
            *out++ = digits[bits >> (count - 6) & 63];
        }
    }
    if (count != 0) {
        *out++ = digits[bits << (6 - count) & 63];
    }
    while (padded && length++ % 3 != 0) {
        *out++ = '=';
    }
    *out = '\0';
}

/* grpc-status 8 with that delay; `noise` bytes of another detail before it. */
static es_result_t
read_delay(int64_t seconds, int32_t nanos, size_t noise, bool padded)
{
    static uint8_t zeros[64];
    EsOtlp__Duration delay = ES_OTLP__DURATION__INIT;
    EsOtlp__RetryInfo info = ES_OTLP__RETRY_INFO__INIT;
    EsOtlp__Any details[2] = {ES_OTLP__ANY__INIT, ES_OTLP__ANY__INIT};
    EsOtlp__Any *list[] = {&details[0], &details[1]};
    EsOtlp__RpcStatus status = ES_OTLP__RPC_STATUS__INIT;
    uint8_t value[64], packed[512];
    char headers[1024] = "grpc-status: 8\r\ngrpc-status-details-bin: ";

    delay.seconds = seconds;
    delay.nanos = nanos;
    info.retry_delay = &delay;
    details[0].type_url = (char *) "type.googleapis.com/google.rpc.DebugInfo";
    details[0].value = (ProtobufCBinaryData){noise, zeros};
    details[1].type_url = (char *) "type.googleapis.com/google.rpc.RetryInfo";
    details[1].value = (ProtobufCBinaryData){es_otlp__retry_info__pack(&info, value), value};
    status.code = 8;
    status.n_details = 2;
    status.details = list;
    base64(packed, es_otlp__rpc_status__pack(&status, packed), padded, headers + strlen(headers));
    return read_status(headers);
}

static void
retry_info(void **state)
{
    (void) state;
    /* Every length modulo 3, with and without padding. */
    for (size_t noise = 0; noise < 6; noise++) {
        for (int padded = 0; padded < 2; padded++) {
            es_result_t result = read_delay(2, 500000000, noise, padded != 0);

            assert_int_equal(result.outcome, ES_RETRY);
            assert_int_equal(result.retry_after_ns, 2500 * ES_MS);
        }
    }
    assert_int_equal(read_delay(0, 0, 0, true).outcome, ES_RETRY);
    assert_int_equal(read_delay(-5, 0, 0, true).retry_after_ns, 0);
    assert_int_equal(read_delay(5, -1, 0, true).retry_after_ns, 0);
    assert_int_equal(read_delay(INT64_MAX, 0, 0, true).retry_after_ns, 86400 * ES_SECOND);

    /* What is no RetryInfo is none. */
    assert_int_equal(read_status("grpc-status: 8\r\ngrpc-status-details-bin: !\r\n").outcome,
                     ES_REJECTED);
    assert_int_equal(read_status("grpc-status: 8\r\ngrpc-status-details-bin:\r\n").outcome,
                     ES_REJECTED);
    assert_int_equal(read_status("grpc-status: 8\r\ngrpc-status-details-bin: CAg\r\n").outcome,
                     ES_REJECTED);
    assert_int_equal(read_status("grpc-status: 8\r\ngrpc-status-details-bin: ////\r\n").outcome,
                     ES_REJECTED);
}

/* No header whatever makes it read beyond its end. */
static void
damaged(void **state)
{
    unit_random_t random = unit_random_init();

    (void) state;
    for (unsigned round = 0; round < 20000; round++) {
        static const char alphabet[] = "CAgqKBo2ABCDEF/+=grpc-status: \r\n%08";
        char text[200] = "grpc-status: 8\r\ngrpc-status-details-bin: ";
        size_t length = strlen(text) + unit_random_below(&random, 150);
        char *headers = malloc(length + 1);
        es_response_t response = {.status = 200, .stream_error = -1};
        es_result_t result = {.outcome = ES_RETRY};

        for (size_t i = strlen(text); i < length; i++) {
            text[i] = alphabet[unit_random_below(&random, sizeof(alphabet) - 1)];
        }
        assert_non_null(headers);
        memcpy(headers, text, length);
        response.headers = es_str(headers, length);
        response.body = es_str(headers, unit_random_below(&random, (uint32_t) length));
        es_http_rules_grpc.read(grpc, &response, &result);
        assert_true(memchr(result.message, '\0', sizeof(result.message)) != NULL);
        free(headers);
    }
}

/* --------------------------------------------------------- the one message --- */

static void
partial_success(void **state)
{
    static const char ok[] = "content-type: application/grpc\r\n\r\ngrpc-status: 0\r\n";
    /* rejected_spans 3, error_message "why" */
    es_str_t body = ES_STR("\0\0\0\0\x09\x0a\x07\x08\x03\x12\x03why");
    es_result_t result = read_response(200, ok, body, -1);

    (void) state;
    assert_int_equal(result.outcome, ES_DELIVERED);
    assert_int_equal(result.rejected, 3);
    assert_string_equal(result.message, "why");

    /* Empty, compressed without being asked, cut off: delivered, and no more. */
    assert_int_equal(read_response(200, ok, ES_STR("\0\0\0\0\0"), -1).rejected, 0);
    assert_int_equal(read_response(200, ok, ES_STR("\x01\0\0\0\x09\x0a\x07\x08\x03"), -1).rejected,
                     0);
    for (size_t length = 0; length < body.len; length++) {
        result = read_response(200, ok, es_str(body.data, length), -1);
        assert_int_equal(result.outcome, ES_DELIVERED);
        assert_int_equal(result.rejected, 0);
    }
}

/* A whole message without trailers: libcurl 7.88 and a GOAWAY. */
static void
lost_trailers(void **state)
{
    static const char headers[] = "HTTP/2 200 \r\ncontent-type: application/grpc+proto\r\n";

    (void) state;
    assert_int_equal(read_response(200, headers, ES_STR("\0\0\0\0\0"), -1).outcome, ES_DELIVERED);
    assert_int_equal(read_response(200, headers, ES_STR("\0\0\0\0\x01"), -1).outcome, ES_REJECTED);
    assert_int_equal(read_response(200, headers, ES_STR_NONE, -1).outcome, ES_REJECTED);
    assert_int_equal(
        read_response(200, "content-type: text/plain\r\n", ES_STR("\0\0\0\0\0"), -1).outcome,
        ES_REJECTED);
}

/* -------------------------------------------------------------- other peers --- */

static void
headers(void **state)
{
    es_response_t response = {
        .headers =
            ES_STR("HTTP/2 200 \r\nA: 1\r\nb:2\r\n\r\nempty:\r\na:  3 \r\nno colon\r\nlast: x")};

    (void) state;
    assert_true(es_str_eq(es_response_header(&response, ES_STR("a")), ES_STR("3")));
    assert_true(es_str_eq(es_response_header(&response, ES_STR("b")), ES_STR("2")));
    assert_true(es_str_eq(es_response_header(&response, ES_STR("last")), ES_STR("x")));
    assert_int_equal(es_response_header(&response, ES_STR("empty")).len, 0);
    assert_non_null(es_response_header(&response, ES_STR("empty")).data);
    assert_null(es_response_header(&response, ES_STR("no colon")).data);
    assert_null(es_response_header(&response, ES_STR("c")).data);
    response.headers = ES_STR_NONE;
    assert_null(es_response_header(&response, ES_STR("a")).data);
}

static void
mismatches(void **state)
{
    es_response_t response = {.failure = "Recv failure", .stream_error = -1};
    char words[256];

    (void) state;
    assert_false(es_response_mismatch(&response, true, false, words, sizeof(words)));
    response.peer = ES_PEER_SILENT;
    assert_true(es_response_mismatch(&response, false, true, words, sizeof(words)));
    assert_string_equal(words, "Recv failure; who asks for a certificate needs client_certificate, "
                               "a gRPC receiver (port 4317 by default) would need protocol grpc");

    /* Every one fits. */
    for (int peer = ES_PEER_SILENT; peer <= ES_PEER_HTTP2; peer++) {
        static char longest[300];

        memset(longest, 'x', sizeof(longest) - 1);
        response.failure = longest;
        response.peer = (es_peer_t) peer;
        for (int i = 0; i < 4; i++) {
            assert_true(
                es_response_mismatch(&response, (i & 1) != 0, (i & 2) != 0, words, sizeof(words)));
            assert_true(strlen(words) < sizeof(words) - 1);
        }
    }

    /* A port for TLS that answers in plain words, and one that only quotes them. */
    response = (es_response_t){.status = 400, .stream_error = -1};
    response.body = ES_STR("Client sent an HTTP request to an HTTPS server.\n");
    assert_true(es_response_mismatch(&response, false, false, words, sizeof(words)));
    assert_false(es_response_mismatch(&response, false, true, words, sizeof(words)));
    response.status = 200;
    assert_false(es_response_mismatch(&response, false, false, words, sizeof(words)));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames),        cmocka_unit_test(codes),
        cmocka_unit_test(http_statuses), cmocka_unit_test(resets),
        cmocka_unit_test(messages),      cmocka_unit_test(retry_info),
        cmocka_unit_test(damaged),       cmocka_unit_test(partial_success),
        cmocka_unit_test(lost_trailers), cmocka_unit_test(headers),
        cmocka_unit_test(mismatches),
    };

    grpc = es_protocol_find(ES_STR("grpc"));
    assert_non_null(grpc);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
