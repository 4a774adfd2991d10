#include "unit.h"

#include "es_clock.h"
#include "es_transport.h"

#include <sys/un.h>
#include <unistd.h>

/* A collector within this thread: it says `answer` to whoever connects, and is
 * gone. */
typedef struct collector {
    char directory[32], path[64];
    int listener;
    es_transport_t *transport;
} collector_t;

static collector_t
collector_start(void)
{
    collector_t collector = {.directory = "/tmp/edgespan-unit-XXXXXX"};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    es_error_t error;

    assert_non_null(mkdtemp(collector.directory));
    snprintf(collector.path, sizeof(collector.path), "%s/socket", collector.directory);
    memcpy(address.sun_path, collector.path, sizeof(collector.path));
    collector.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(collector.listener, (struct sockaddr *) &address, sizeof(address)), 0);
    assert_int_equal(listen(collector.listener, 8), 0);
    collector.transport = es_transport_create(&error);
    assert_non_null(collector.transport);
    return collector;
}

static void
collector_stop(const collector_t *collector)
{
    es_transport_destroy(collector->transport);
    close(collector->listener);
    unlink(collector->path);
    rmdir(collector->directory);
}

static void
done(void *data, const es_response_t *response)
{
    *(int *) data = (int) response->status;
    assert_true((response->status == 0) == (response->failure != NULL));
}

/* The status that one request gets, 0: none. */
static int
status_of(const collector_t *collector, const char *answer)
{
    static const es_tls_t tls = {.verify = true};
    uint64_t until = es_mono_ns() + 10 * ES_SECOND;
    char request[1024];
    int status = -1;

    assert_non_null(
        es_transport_post(collector->transport, &(es_request_t){
                                                    .url = "http://localhost/v1/traces",
                                                    .unix_socket = collector->path,
                                                    .tls = &tls,
                                                    .content_type = "application/x-protobuf",
                                                    .body = ES_STR("spans"),
                                                    .timeout_ns = 5 * ES_SECOND,
                                                    .done = done,
                                                    .data = &status,
                                                }));
    while (status < 0 && es_mono_ns() < until) {
        struct pollfd fds[] = {{.fd = collector->listener, .events = POLLIN}};
        int fd;

        es_transport_wait(collector->transport, fds, 1, 1000);
        while ((fd = accept(collector->listener, NULL, NULL)) >= 0) {
            assert_int_equal(send(fd, answer, strlen(answer), MSG_NOSIGNAL), strlen(answer));
            shutdown(fd, SHUT_WR);
            while (recv(fd, request, sizeof(request), MSG_DONTWAIT) > 0) {
            }
            close(fd); /* with nothing unread, which would be a reset */
        }
    }
    assert_true(status >= 0);
    return status;
}

#define FOLDED_FIRST "HTTP/1.1 503 Busy\r\n Retry-After: 1\r\nContent-Length: 0\r\n\r\n"

/* Before 8.1.1, libcurl continued the last header of the handle's last response,
 * which was freed (curl's issue 11101). */
static void
folded_first_header(void **state)
{
    collector_t collector = collector_start();
    int first, second;

    (void) state;
    first = status_of(&collector, FOLDED_FIRST);
    assert_int_equal(status_of(&collector, "HTTP/1.1 200 OK\r\nX-Long: " FOLDED_FIRST), 200);
    second = status_of(&collector, FOLDED_FIRST);
    assert_int_equal(first, second);
    collector_stop(&collector);
}

static void
no_status(void **state)
{
    collector_t collector = collector_start();

    (void) state;
    assert_int_equal(status_of(&collector, "HTTP/200 OK\r\nx"), 0);
    assert_int_equal(status_of(&collector, "SSH-2.0-OpenSSH\r\n"), 0);
    assert_int_equal(status_of(&collector, ""), 0);
    collector_stop(&collector);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folded_first_header),
        cmocka_unit_test(no_status),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
