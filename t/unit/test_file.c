/* The sender of protocol "file": lines stay whole, whatever a write does. */

#define _GNU_SOURCE /* memfd_create */

#include "unit.h"

#include "es_clock.h"
#include "es_protocol.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static es_exporter_config_t exporter;
static void *sender;
static es_result_t last;
static unsigned answers;

static void
done(es_delivery_t *delivery, const es_result_t *result)
{
    (void) delivery;
    last = *result;
    answers++;
}

static void
open_sender(const char *path)
{
    es_error_t error;

    exporter = (es_exporter_config_t){.targets_count = 1};
    exporter.targets[0].url = (char *) (uintptr_t) path;
    sender = es_sender_file.open(&exporter, NULL, &error);
    assert_non_null(sender);
}

static es_outcome_t
send_line(es_delivery_t *delivery, const char *line, size_t len)
{
    *delivery = (es_delivery_t){.body = es_str(line, len), .done = done};
    delivery->deadline_ns = es_mono_ns() + 10 * ES_SECOND;
    answers = 0;
    es_sender_file.send(sender, delivery);
    assert_int_equal(answers, 1);
    return last.outcome;
}

static void
file_limit(size_t bytes)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void
assert_content(int fd, const char *expected)
{
    char content[256];
    ssize_t len = pread(fd, content, sizeof(content), 0);

    assert_true(len >= 0);
    unit_assert_str(es_str(content, (size_t) len), expected);
}

/* A file of memory, and a path that opens it. */
static int
memory_file(char path[64], unsigned seals)
{
    int fd = memfd_create("file", MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static void
short_write(void **state)
{
    es_delivery_t delivery;
    char path[64];
    int fd = memory_file(path, 0);

    (void) state;
    open_sender(path);
    assert_int_equal(send_line(&delivery, "one\n", 4), ES_DELIVERED);
    file_limit(6);
    assert_int_equal(send_line(&delivery, "second\n", 7), ES_RETRY);
    unit_assert_str(es_cstr(last.message), "No space left on device");
    assert_content(fd, "one\n");
    file_limit(4);
    assert_int_equal(send_line(&delivery, "second\n", 7), ES_RETRY);
    unit_assert_str(es_cstr(last.message), "File too large");
    file_limit(RLIM_INFINITY);
    assert_int_equal(send_line(&delivery, "second\n", 7), ES_DELIVERED);
    assert_content(fd, "one\nsecond\n");
    es_sender_file.close(sender);
    close(fd);
}

/* What cannot be taken back is kept apart, also where that takes two tries. */
static void
torn(void **state)
{
    es_delivery_t delivery;
    char path[64];
    int fd = memory_file(path, F_SEAL_SHRINK);

    (void) state;
    open_sender(path);
    assert_int_equal(send_line(&delivery, "one\n", 4), ES_DELIVERED);
    file_limit(6);
    assert_int_equal(send_line(&delivery, "second\n", 7), ES_RETRY);
    assert_content(fd, "one\nse");
    file_limit(8);
    assert_int_equal(send_line(&delivery, "second\n", 7), ES_RETRY);
    assert_content(fd, "one\nse\ns");
    file_limit(RLIM_INFINITY);
    assert_int_equal(send_line(&delivery, "second\n", 7), ES_DELIVERED);
    assert_int_equal(send_line(&delivery, "third\n", 6), ES_DELIVERED);
    assert_content(fd, "one\nse\ns\nsecond\nthird\n");
    es_sender_file.close(sender);
    close(fd);
}

/* -------------------------------------------------------------- a pipe --- */

enum { LINE = 300000 };

static char line[LINE], received[4 * LINE];
static size_t received_len;

static void
drain(int fd)
{
    ssize_t len;

    while ((len = read(fd, received + received_len, sizeof(received) - received_len)) > 0) {
        received_len += (size_t) len;
    }
}

static int
open_pipe(char path[64])
{
    int fds[2];

    received_len = 0;
    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    snprintf(path, 64, "/proc/self/fd/%d", fds[1]);
    open_sender(path);
    return fds[0];
}

static void
fill_line(char c)
{
    memset(line, c, LINE - 1);
    line[LINE - 1] = '\n';
}

/* Tries until it is delivered, and reads meanwhile. */
static void
deliver(es_delivery_t *delivery, int fd)
{
    for (unsigned i = 0; send_line(delivery, line, LINE) != ES_DELIVERED; i++) {
        assert_int_equal(last.outcome, ES_RETRY);
        assert_true(i < 20);
        drain(fd);
    }
    drain(fd);
}

static void
unread(void **state)
{
    es_delivery_t first, second;
    char path[64];
    int fd = open_pipe(path);
    uint64_t from;
    size_t broken;

    (void) state;
    fill_line('a');
    from = es_mono_ns();
    assert_int_equal(send_line(&first, line, LINE), ES_RETRY);
    assert_true(es_mono_ns() - from < 10 * ES_SECOND);
    unit_assert_str(es_cstr(last.message), "it is full, and nobody reads it");

    /* Gone on with, as often as it takes. */
    deliver(&first, fd);
    assert_int_equal(received_len, LINE);
    assert_memory_equal(received, line, LINE);

    /* One that is given up, and another in its place: at the same address, of
     * the same length. */
    received_len = 0;
    assert_int_equal(send_line(&first, line, LINE), ES_RETRY);
    drain(fd);
    broken = received_len;
    assert_true(broken != 0 && broken < LINE);
    fill_line('b');
    deliver(&first, fd);
    assert_int_equal(received_len, broken + 1 + LINE);
    assert_int_equal(received[broken - 1], 'a');
    assert_int_equal(received[broken], '\n');
    assert_memory_equal(received + broken + 1, line, LINE);

    received_len = 0;
    fill_line('c');
    deliver(&second, fd);
    assert_int_equal(received_len, LINE);

    close(fd);
    assert_int_equal(send_line(&second, line, LINE), ES_RETRY);
    unit_assert_str(es_cstr(last.message), "nobody reads it");
    es_sender_file.close(sender);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_write),
        cmocka_unit_test(torn),
        cmocka_unit_test(unread),
    };

    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
