/* The bytes that a collector sends, through libcurl: whatever they are, the call
 * ends, and what comes of it is bounded. The first byte's lowest bit asks for
 * HTTP/2, which takes its frames. */

#include "fuzz_server.h"

#include "es_clock.h"
#include "es_http_sender.h"

#include <sys/un.h>
#include <unistd.h>

#define SOCKET "collector.sock"

static es_transport_t *transport;
static int listener = -1;

static void
setup(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET};
    es_error_t error;

    if (transport == NULL) {
        unlink(SOCKET);
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        fuzz_assert(bind(listener, (struct sockaddr *) &address, sizeof(address)) == 0);
        fuzz_assert(listen(listener, 16) == 0);
        fuzz_assert((transport = es_transport_create(&error)) != NULL);
    }
}

typedef struct call {
    bool http2, done;
} call_t;

static void
check(void *data, const es_response_t *response)
{
    call_t *call = data;
    const es_protocol_t *protocol =
        es_protocol_find(call->http2 ? ES_STR("grpc") : ES_STR("http/json"));
    es_result_t result = {.outcome = ES_RETRY};

    fuzz_assert((response->status == 0) == (response->failure != NULL));
    fuzz_assert(response->status <= 999 && response->headers.len <= ES_RESPONSE_HEADERS_MAX);
    fuzz_assert(response->body.len <= ES_RESPONSE_KEPT);
    fuzz_assert(response->retry_after_ns <= ES_RETRY_AFTER_MAX * ES_SECOND);
    protocol->rules->read(protocol, response, &result);
    call->done = true;
}

static void
fuzz(fuzz_t *fuzz)
{
    static const es_tls_t tls = {.verify = true};
    call_t call = {.http2 = fuzz_byte(fuzz) & 1};
    es_str_t answer = fuzz_rest(fuzz);
    unsigned turns = 0;

    setup();
    fuzz_assert(es_transport_post(transport,
                                  &(es_request_t){
                                      .url = "http://localhost/v1/traces",
                                      .unix_socket = SOCKET,
                                      .http2 = call.http2,
                                      .tls = &tls,
                                      .content_type = "application/x-protobuf",
                                      .body = ES_STR("spans"),
                                      .timeout_ns = ES_SECOND,
                                      .done = check,
                                      .data = &call,
                                  })
                != NULL);
    while (!call.done) {
        struct pollfd fds[] = {{.fd = listener, .events = POLLIN}};
        int fd;

        /* All that the collector ever says, and then it is gone. */
        es_transport_wait(transport, fds, 1, 100);
        while ((fd = accept(listener, NULL, NULL)) >= 0) {
            (void) !send(fd, answer.data, answer.len, MSG_NOSIGNAL | MSG_DONTWAIT);
            shutdown(fd, SHUT_WR);
            while (recv(fd, (char[4096]){0}, 4096, MSG_DONTWAIT) > 0) {
            }
            close(fd);
        }
        fuzz_assert(++turns < 100);
    }
}
