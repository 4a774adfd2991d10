/* How many spans per second go through the queue and the exporter to a collector
 * that takes a given time to answer, and how many are lost.
 *
 *   throughput [-p producers] [-r spans/s of all, 0: as fast as they can]
 *              [-d ms until the collector answers] [-s seconds] [-z span bytes]
 *
 * Producers are processes as a server's workers are; one of them exports, over
 * real HTTP. The collector, a thread of the parent, reads and counts the spans
 * and throws them away. */

#define _GNU_SOURCE /* accept4() */

#include "edgespan.h"
#include "es_clock.h"
#include "es_provider.h"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PRODUCERS_MAX = 64, CONNECTIONS_MAX = 256, HEAD_MAX = 4096 };

static struct {
    unsigned producers, seconds, size;
    uint64_t rate, delay_ms;
} options = {1, 5, 450, 150000, 0};

typedef struct shared {
    _Atomic uint64_t made;
    _Atomic bool stop;
} shared_t;

static shared_t *shared;
static es_generation_t *generation;

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

/* ------------------------------------------------------------ collector --- */

typedef struct connection {
    int fd;
    char *data;
    size_t used, room;
    size_t request;     /* bytes of the request, 0: its head is not here yet */
    size_t head;        /* of them its head */
    uint64_t answer_at; /* 0: not read yet */
} connection_t;

static connection_t connections[CONNECTIONS_MAX];
static unsigned connections_count;
static _Atomic uint64_t received, requests;
static int listener;

static uint64_t
varint(const uint8_t **p)
{
    uint64_t value = 0;
    unsigned shift = 0;

    do {
        value |= (uint64_t) (**p & 0x7f) << shift;
        shift += 7;
    } while (*(*p)++ & 0x80);
    return value;
}

/* Spans in an ExportTraceServiceRequest: fields 1, 2, 2 from the outside in. */
static uint64_t
count_spans(const uint8_t *p, const uint8_t *end, unsigned depth)
{
    static const unsigned wanted[] = {1, 2, 2};
    uint64_t spans = 0;

    while (p < end) {
        unsigned field = (unsigned) (varint(&p) >> 3);
        uint64_t size = varint(&p);

        if (field == wanted[depth]) {
            spans += depth == 2 ? 1 : count_spans(p, p + size, depth + 1);
        }
        p += size;
    }
    return spans;
}

static void
read_head(connection_t *c)
{
    const char *end = memmem(c->data, c->used, "\r\n\r\n", 4), *length;

    if (end == NULL) {
        return;
    }
    c->head = (size_t) (end - c->data) + 4;
    length = memmem(c->data, c->head, "Content-Length: ", 16);
    c->request = c->head + (length != NULL ? strtoul(length + 16, NULL, 10) : 0);
    if (c->request > c->room) {
        c->data = realloc(c->data, c->request);
        c->room = c->request;
    }
}

/* Reads what there is of one request; false when the connection is gone. */
static bool
read_request(connection_t *c)
{
    ssize_t n;

    while (c->answer_at == 0) {
        size_t wanted = c->request != 0 ? c->request : HEAD_MAX;

        n = read(c->fd, c->data + c->used, wanted - c->used);
        if (n <= 0) {
            return n < 0 && errno == EAGAIN;
        }
        c->used += (size_t) n;
        if (c->request == 0) {
            read_head(c);
        }
        if (c->request != 0 && c->used >= c->request) {
            c->answer_at = es_mono_ns() + options.delay_ms * ES_MS;
        }
    }
    return true;
}

static void
answer(connection_t *c)
{
    static const char text[] =
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
    const uint8_t *body = (const uint8_t *) c->data + c->head;

    atomic_fetch_add(&received, count_spans(body, (uint8_t *) c->data + c->request, 0));
    atomic_fetch_add(&requests, 1);
    (void) !write(c->fd, text, sizeof(text) - 1);
    c->used = 0;
    c->request = 0;
    c->answer_at = 0;
}

static void *
collect(void *data)
{
    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[64];

    (void) data;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);

    for (;;) {
        int n = epoll_wait(poller, events, 64, 1);
        uint64_t now = es_mono_ns();

        for (int i = 0; i < n; i++) {
            connection_t *c = events[i].data.ptr;

            if (c == NULL) {
                int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

                if (fd < 0 || connections_count == CONNECTIONS_MAX) {
                    continue;
                }
                c = &connections[connections_count++];
                *c = (connection_t){.fd = fd, .data = malloc(HEAD_MAX), .room = HEAD_MAX};
                event = (struct epoll_event){.events = EPOLLIN | EPOLLET, .data.ptr = c};
                epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
            }
            if (!read_request(c)) {
                close(c->fd);
            }
        }
        for (unsigned i = 0; i < connections_count; i++) {
            if (connections[i].answer_at != 0 && connections[i].answer_at <= now) {
                answer(&connections[i]);
            }
        }
    }
    return NULL;
}

static unsigned
listen_somewhere(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);

    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *) &address, length) != 0
        || listen(listener, 64) != 0
        || getsockname(listener, (struct sockaddr *) &address, &length) != 0) {
        die("listen");
    }
    return ntohs(address.sin_port);
}

/* ------------------------------------------------------------ producers --- */

static void
log_line(void *data, es_log_level_t level, const char *text)
{
    (void) data;
    if (level <= ES_LOG_WARN) {
        fprintf(stderr, "%d: %s\n", (int) getpid(), text);
    }
}

static const es_log_t log_stderr = {log_line, NULL};

/* A name and nothing else: what a span holds is of no matter here. */
static size_t
write_span(uint8_t *span, size_t size)
{
    size_t name = size - 3;

    memset(span, 'x', size);
    span[0] = 5 << 3 | 2;
    span[1] = (uint8_t) (name | 0x80);
    span[2] = (uint8_t) (name >> 7);
    return size;
}

static void
produce(void)
{
    uint64_t begin = es_mono_ns(), made = 0, rate = options.rate / options.producers;
    uint8_t span[ES_SPAN_SIZE_MAX];
    es_str_t view = es_str(span, write_span(span, options.size));
    es_provider_t *provider;
    es_error_t error;

    if (!es_provider_start(&provider, generation, &log_stderr, &error)) {
        fprintf(stderr, "%s\n", error.text);
        _exit(1);
    }
    while (!atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
        /* In steps of a millisecond, as requests come in bursts, too. */
        uint64_t due = rate != 0 ? (es_mono_ns() - begin) * rate / ES_SECOND : made + 1000;

        for (; made < due; made++) {
            es_provider_push(provider, ES_KIND_SERVER, 0, view);
        }
        if (rate != 0) {
            usleep(1000);
        }
    }
    atomic_fetch_add(&shared->made, made);
    es_provider_stop(provider);
    es_provider_destroy(provider);
    _exit(0);
}

static void *
area(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        die("mmap");
    }
    return memory;
}

static void
configure(es_config_t **config)
{
    char endpoint[64];
    es_exporter_config_t *exporter;
    es_error_t error;

    snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u/v1/traces", listen_somewhere());
    *config = es_config_create("throughput", &log_stderr);
    if (*config == NULL || !es_config_exporter(*config, &exporter, &error)
        || !es_exporter_option(exporter, ES_STR("endpoint"), es_cstr(endpoint), &error)
        || !es_exporter_option(exporter, ES_STR("shutdown_timeout"), ES_STR("20s"), &error)
        || !es_exporter_finish(exporter, &error)
        || !es_config_finish(*config, options.producers, &error)) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
}

static double
seconds(struct timeval t)
{
    return (double) t.tv_sec + (double) t.tv_usec / 1e6;
}

static void
run(void)
{
    es_config_t *config;
    es_stats_t *stats;
    es_error_t error;
    pthread_t thread;
    struct rusage used;
    uint64_t begin;
    double lasted;

    configure(&config);
    stats = area(es_stats_area_size());
    if (!es_generation_create(&generation, config, area(es_queue_area_size(config)), stats,
                              &error)) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
    begin = es_mono_ns();
    for (unsigned i = 0; i < options.producers; i++) {
        if (fork() == 0) {
            produce();
        }
    }
    pthread_create(&thread, NULL, collect, NULL);
    sleep(options.seconds);
    atomic_store(&shared->stop, true);
    lasted = (double) (es_mono_ns() - begin) / 1e9;
    while (wait(NULL) > 0) {
    }

    uint64_t made = atomic_load(&shared->made), lost = 0;

    for (unsigned i = 0; i < ES_DROPS; i++) {
        lost += es_stats_dropped(stats, (es_drop_t) i);
    }
    getrusage(RUSAGE_CHILDREN, &used);
    printf("%u producers, answers after %llu ms: %llu spans made (%.0f/s), %llu received in %llu "
           "requests, %llu dropped; CPU of producers and exporter %.0f ns per span, %ld MiB\n",
           options.producers, (unsigned long long) options.delay_ms, (unsigned long long) made,
           (double) made / lasted, (unsigned long long) atomic_load(&received),
           (unsigned long long) atomic_load(&requests), (unsigned long long) lost,
           (seconds(used.ru_utime) + seconds(used.ru_stime)) * 1e9 / (double) made,
           used.ru_maxrss >> 10);
    exit(made == atomic_load(&received) + lost ? 0 : 1);
}

int
main(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "p:r:d:s:z:")) != -1) {
        uint64_t value = optarg != NULL ? strtoull(optarg, NULL, 10) : 0;

        switch (option) {
        case 'p':
            options.producers = (unsigned) value;
            break;
        case 'r':
            options.rate = value;
            break;
        case 'd':
            options.delay_ms = value;
            break;
        case 's':
            options.seconds = (unsigned) value;
            break;
        case 'z':
            options.size = (unsigned) value;
            break;
        default:
            fprintf(stderr, "usage: see the file's head\n");
            return 2;
        }
    }
    if (options.producers == 0 || options.producers > PRODUCERS_MAX || options.size < 130
        || options.size > 4000) {
        fprintf(stderr, "1 to %d producers, spans of 130 to 4000 bytes\n", PRODUCERS_MAX);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    shared = area(sizeof(*shared));
    run();
}
