#define _GNU_SOURCE /* CPU sets */

#include "es_provider.h"

#include "es_clock.h"
#include "es_leader.h"
#include "es_str.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

/* The exporter thread's: TLS handshakes need the most of it. Only touched pages
 * count, so a parked thread costs a fraction. */
#define STACK_SIZE ((size_t) 512 << 10)

/* How long past the deadline a stop may wait for the thread. */
#define GRACE (200 * ES_MS)

/* --------------------------------------------------------- generation --- */

bool
es_generation_create(es_generation_t **result, const es_config_t *config, void *queue_area,
                     void *stats_area, es_error_t *error)
{
    es_generation_t *generation = calloc(1, sizeof(*generation));

    if (generation == NULL) {
        return es_fail(error, "no memory");
    }
    generation->config = config;
    generation->stats = stats_area;
    generation->created_ns = es_wall_ns();
    generation->locks = es_locks_create();
    generation->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (generation->locks < 0 || generation->wake < 0) {
        es_fail(error, "%s failed: %s", generation->locks < 0 ? "memfd_create()" : "eventfd()",
                strerror(errno));
        es_generation_destroy(generation);
        return false;
    }

    if (!es_stats_open(generation->stats)) {
        es_fail(error, "the area of the statistics is of another version");
        es_generation_destroy(generation);
        return false;
    }

    generation->has_affinity =
        sched_getaffinity(0, sizeof(generation->affinity), &generation->affinity) == 0;
    generation->priority = getpriority(PRIO_PROCESS, 0);

    es_queue_init(&generation->queue, queue_area, config->queue_size, config->exporters_count);
    generation->override =
        es_override_open(config, (uint8_t *) queue_area + es_queue_size(config->queue_size));
    *result = generation;
    return true;
}

void
es_generation_destroy(es_generation_t *generation)
{
    if (generation->locks >= 0) {
        close(generation->locks);
    }
    if (generation->wake >= 0) {
        close(generation->wake);
    }
    free(generation);
}

void
es_generation_missed(es_generation_t *generation)
{
    es_stats_add(&generation->stats->stripes[0].dropped[ES_DROP_SHUTDOWN], 1);
}

/* ----------------------------------------------------------- provider --- */

/* Without an exporter nothing is recorded (es_trace_http); without an override
 * either there is nothing for a thread to do. */
static bool
has_thread(const es_provider_t *provider)
{
    const es_config_t *config = provider->generation->config;

    return config->exporters_count != 0 || config->override != NULL;
}

static bool
start_thread(es_provider_t *provider)
{
    size_t stack =
        STACK_SIZE > (size_t) PTHREAD_STACK_MIN ? STACK_SIZE : (size_t) PTHREAD_STACK_MIN;
    pthread_attr_t attributes;
    sigset_t blocked, before;
    int code;

    /* The server's signals are for its own threads; faults stay where they are. */
    sigfillset(&blocked);
    sigdelset(&blocked, SIGILL);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    code = pthread_create(&provider->thread, &attributes, es_exporter_run, provider);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);

    errno = code;
    return code == 0;
}

static void
provider_free(es_provider_t *provider)
{
    if (provider->stop >= 0) {
        close(provider->stop);
    }
    if (provider->ended >= 0) {
        close(provider->ended);
    }
    free(provider);
}

bool
es_provider_start(es_provider_t **result, es_generation_t *generation, const es_log_t *log,
                  es_error_t *error)
{
    es_provider_t *provider = calloc(1, sizeof(*provider));
    int slot;

    if (provider == NULL) {
        return es_fail(error, "no memory");
    }
    provider->generation = generation;
    provider->log = *log;
    provider->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    provider->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (provider->stop < 0 || provider->ended < 0) {
        es_fail(error, "eventfd() failed: %s", strerror(errno));
        provider_free(provider);
        return false;
    }
    if (!es_id_generator_init(&provider->ids)) {
        es_fail(error, "getrandom() failed: %s", strerror(errno));
        provider_free(provider);
        return false;
    }
    if ((slot = es_slot_take(generation->locks, ES_SLOTS_MAX)) < 0) {
        es_fail(error, "all %u slots are taken", ES_SLOTS_MAX);
        provider_free(provider);
        return false;
    }
    provider->slot = (unsigned) slot;
    provider->stripe = &generation->stats->stripes[provider->slot % ES_STRIPES];
    es_producer_init(&provider->producer, &generation->queue, provider->slot);

    if (has_thread(provider) && !start_thread(provider)) {
        es_fail(error, "the exporter thread cannot be started: %s", strerror(errno));
        es_producer_dispose(&provider->producer);
        es_slot_release(generation->locks, provider->slot);
        provider_free(provider);
        return false;
    }
    *result = provider;
    return true;
}

void
es_provider_stopping(es_provider_t *provider, uint64_t at_most_ns)
{
    uint64_t none = 0, one = 1;
    uint64_t budget = provider->generation->config->shutdown_timeout_ns;
    uint64_t deadline = es_mono_ns() + (budget < at_most_ns ? budget : at_most_ns);
    int saved = errno;

    if (atomic_compare_exchange_strong(&provider->stop_at, &none, deadline)) {
        /* A full counter would be readable all the same. */
        (void) !write(provider->stop, &one, sizeof(one));
    }
    errno = saved;
}

void
es_provider_wait(es_provider_t *provider)
{
    uint64_t until = atomic_load(&provider->stop_at) + GRACE, now;
    struct pollfd ended = {.fd = provider->ended, .events = POLLIN};
    int saved = errno;

    if (!has_thread(provider)) {
        return;
    }
    while ((now = es_mono_ns()) < until
           && poll(&ended, 1, (int) ((until - now) / ES_MS) + 1) <= 0) {
    }
    errno = saved;
}

void
es_provider_stop(es_provider_t *provider)
{
    uint64_t value;

    es_provider_stopping(provider, UINT64_MAX);
    if (!has_thread(provider)) {
        es_slot_release(provider->generation->locks, provider->slot);
        return;
    }
    es_provider_wait(provider);
    if (read(provider->ended, &value, sizeof(value)) < 0) {
        /* Stuck in spite of all deadlines: the process is to end now, so the
         * thread keeps what it uses rather than the server waits. */
        provider->stuck = true;
        pthread_detach(provider->thread);
    } else {
        pthread_join(provider->thread, NULL);
    }
}

void
es_provider_destroy(es_provider_t *provider)
{
    if (!provider->stuck) {
        es_producer_dispose(&provider->producer);
        provider_free(provider);
    }
}

void
es_provider_push(es_provider_t *provider, es_span_kind_t kind, uint16_t resource, es_str_t span)
{
    uint64_t one = 1;
    bool wake;

    switch (es_producer_push(&provider->producer, resource, span, &wake)) {
    case ES_PUSH_OK:
        es_stats_add(&provider->stripe->queued[kind - 1], 1);
        break;
    case ES_PUSH_FULL:
        es_stats_add(&provider->stripe->dropped[ES_DROP_QUEUE_FULL], 1);
        break;
    case ES_PUSH_CLOSED:
        es_stats_add(&provider->stripe->dropped[ES_DROP_SHUTDOWN], 1);
        break;
    }
    if (wake) {
        (void) !write(provider->generation->wake, &one, sizeof(one));
    }
}

void
es_provider_log(const es_provider_t *provider, es_log_level_t level, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    es_log_write(&provider->log, level, format, args);
    va_end(args);
}
