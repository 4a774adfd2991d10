/* A collector's answer: whatever it is, the batch gets a verdict and the log one
 * line.
 *
 * The first line is the protocol and the status, the headers follow, then an empty
 * line and the body. */

#include "fuzz_server.h"

#include "es_clock.h"
#include "es_http_sender.h"

static fuzz_server_t server;

/* The words go to the log and to the status page. */
static void
check_words(const es_result_t *result)
{
    es_last_error_t *last = &server.generation->stats->exporters[0].last_error;
    char text[ES_LAST_ERROR_SIZE];
    json_t *root;
    uint64_t time_ns;
    size_t length;
    char *page;

    es_provider_log(&server.provider, ES_LOG_WARN, "fuzz: %s", result->message);
    es_last_error_set(last, result->message);
    fuzz_assert(es_last_error_get(last, &time_ns, text));

    page = es_status(server.generation, ES_STATUS_JSON, &length);
    fuzz_assert(page != NULL && (root = json_loadb(page, length, 0, NULL)) != NULL);
    json_decref(root);
    free(page);
}

static void
fuzz(fuzz_t *fuzz)
{
    es_str_t line = fuzz_line(fuzz), name = fuzz_until(fuzz, &line, ' ');
    const es_protocol_t *protocol = es_protocol_find(name);
    es_result_t result = {.outcome = ES_RETRY};
    char words[256] = "", *headers;
    es_response_t response = {.failure = "refused", .stream_error = -1};
    uint64_t status;
    size_t length = 0;

    if (server.config == NULL) {
        fuzz_server_config(&server);
        fuzz_server_generate(&server);
    }
    if (protocol == NULL || protocol->rules == NULL) {
        return;
    }
    /* Below 100 is HTTP/2's RST_STREAM. */
    response.status = es_parse_uint(line, &status) ? (unsigned) (status % 1000) : 0;
    if (response.status < 100) {
        response.stream_error = (int) response.status;
        response.status = 0;
    }
    response.peer = (es_peer_t) (fuzz->rest.len % (ES_PEER_HTTP2 + 1));
    headers = fuzz_alloc(fuzz, fuzz->rest.len + 1);
    while ((line = fuzz_line(fuzz)).len != 0) {
        memcpy(headers + length, line.data, line.len);
        length += line.len;
        headers[length++] = '\n';
    }
    response.headers = fuzz_copy(fuzz, es_str(headers, length));
    response.body = fuzz_rest(fuzz);

    fuzz_assert(
        fuzz_is_within(es_response_header(&response, ES_STR("grpc-status")), response.headers));
    protocol->rules->read(protocol, &response, &result);
    fuzz_assert(result.outcome <= ES_REJECTED);
    fuzz_assert(memchr(result.message, '\0', sizeof(result.message)) != NULL);
    fuzz_assert(result.retry_after_ns <= ES_RETRY_AFTER_MAX * ES_SECOND);
    fuzz_assert(result.outcome != ES_DELIVERED || (response.status / 100 == 2)
                || es_response_header(&response, ES_STR("grpc-status")).data != NULL);
    check_words(&result);

    if (es_response_mismatch(&response, response.status & 1, response.status & 2, words,
                             sizeof(words))) {
        fuzz_assert(words[0] != '\0' && memchr(words, '\0', sizeof(words)) != NULL);
    }
}
