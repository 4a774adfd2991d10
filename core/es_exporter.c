#define _GNU_SOURCE /* CPU sets */

/* The exporter thread of every serving process. One of all, the leader, drains
 * the queue; the others wait for its end. */

#include "es_clock.h"
#include "es_leader.h"
#include "es_pipeline.h"
#include "es_transport.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* The longest sleep: nobody wakes the leader to report what was dropped. */
#define SLEEP_MAX ES_SECOND

/* Without pidfd_open() the holder is looked after once a second. */
#define WATCH_MS 1000
#define RETRY_MS 5

/* A leader that lived this long was not killed by what it read. */
#define PROVEN (10 * ES_SECOND)
#define DEATHS_UNTIL_DROP 3u
#define DEATHS_UNTIL_END 5u

/* So long before the deadline of a stop nothing new is sent. */
#define QUIESCE_MAX (100 * ES_MS)

/* How far beyond the deadline it may be saved to the disk; less than es_provider.c
 * waits in the end. */
#define SAVE_LATE (100 * ES_MS)

/* How long beyond the deadline the last process waits for a leader that is just
 * leaving and counts on it. */
#define LEAVING_MAX (50 * ES_MS)

/* How often the thread's processor time is counted: asking is a system call. */
#define CPU_PERIOD ES_SECOND

typedef struct es_exporter {
    es_provider_t *provider;
    es_generation_t *generation;
    es_transport_t *transport; /* NULL if no pipeline needs one */
    es_pipeline_t pipelines[ES_EXPORTERS_MAX];
    unsigned count; /* pipelines that are open */

    bool slot_released;
    uint32_t seals_seen;
    uint64_t reported[ES_DROPS];
    es_log_limit_t report_limits[ES_DROPS];
    es_log_limit_t opening_limit;
    es_override_watch_t override;

    uint64_t cpu_counted_ns; /* of this thread's processor time */
    uint64_t cpu_counted_at;
} es_exporter_t;

/* ------------------------------------------------------------ dropping --- */

static void
remember_drops(es_exporter_t *exporter)
{
    for (unsigned i = 0; i < ES_DROPS; i++) {
        exporter->reported[i] = es_stats_dropped(exporter->generation->stats, (es_drop_t) i);
    }
}

/* Nothing is lost silently: one line a minute and reason, and a last one. */
static void
report_drops(es_exporter_t *exporter, bool last)
{
    for (unsigned i = 0; i < ES_DROPS; i++) {
        uint64_t total = es_stats_dropped(exporter->generation->stats, (es_drop_t) i);

        if (total == exporter->reported[i]
            || !(es_log_limit_take(&exporter->report_limits[i]) || last)) {
            continue;
        }
        es_provider_log(exporter->provider, ES_LOG_WARN,
                        "%llu spans dropped: %s (%llu since the start)",
                        (unsigned long long) (total - exporter->reported[i]),
                        es_drop_name((es_drop_t) i), (unsigned long long) total);
        exporter->reported[i] = total;
    }
}

/* When chunks run short, who lags behind another exporter gives up its oldest,
 * so that a dead destination does not starve a live one. */
static void
reclaim(es_exporter_t *exporter)
{
    es_queue_t *queue = &exporter->generation->queue;
    unsigned chunks = queue->shared->chunks;
    unsigned free_chunks = es_queue_reclaim(queue);
    bool gave_up = exporter->count > 1;

    while (gave_up && free_chunks < chunks / 4) {
        gave_up = false;
        for (unsigned i = 0; i < exporter->count; i++) {
            gave_up |= es_pipeline_give_up_oldest(&exporter->pipelines[i]);
        }
        free_chunks = es_queue_reclaim(queue);
    }
}

static void
save(es_exporter_t *exporter, uint64_t deadline_ns)
{
    for (unsigned i = 0; i < exporter->count; i++) {
        es_pipeline_save(&exporter->pipelines[i], deadline_ns);
    }
}

static void
abandon(es_exporter_t *exporter, es_drop_t reason)
{
    for (unsigned i = 0; i < exporter->count; i++) {
        es_pipeline_abandon(&exporter->pipelines[i], reason);
    }
    es_queue_reclaim(&exporter->generation->queue);
}

/* ------------------------------------------------------------- opening --- */

static void
close_pipelines(es_exporter_t *exporter)
{
    while (exporter->count != 0) {
        es_pipeline_close(&exporter->pipelines[--exporter->count]);
    }
    if (exporter->transport != NULL) {
        es_transport_destroy(exporter->transport);
        exporter->transport = NULL;
    }
}

static bool
open_pipelines(es_exporter_t *exporter)
{
    const es_config_t *config = exporter->generation->config;
    es_error_t error;

    for (unsigned i = 0; i < config->exporters_count; i++) {
        if (config->exporters[i]->protocol->sender->needs_transport && exporter->transport == NULL
            && (exporter->transport = es_transport_create(&error)) == NULL) {
            goto failed;
        }
        if (!es_pipeline_open(&exporter->pipelines[i], exporter->provider, i, exporter->transport,
                              &error)) {
            goto failed;
        }
        exporter->count++;
    }
    return true;

failed:
    if (es_log_limit_take(&exporter->opening_limit)) {
        es_provider_log(exporter->provider, ES_LOG_ERROR, "exporting cannot begin: %s", error.text);
    }
    close_pipelines(exporter);
    return false;
}

/* ------------------------------------------------------------ stopping --- */

static uint64_t
stop_at(const es_exporter_t *exporter)
{
    return atomic_load(&exporter->provider->stop_at);
}

/* A slot is given back only when no thread of ours can push any more: whoever
 * takes it goes on in our open chunk. */
static void
release_slot(es_exporter_t *exporter)
{
    if (!exporter->slot_released && es_producer_close(&exporter->provider->producer)) {
        es_slot_release(exporter->generation->locks, exporter->provider->slot);
        exporter->slot_released = true;
    }
}

static bool
is_alone(const es_exporter_t *exporter)
{
    return !es_slots_others(exporter->generation->locks, ES_SLOTS_MAX);
}

/* ------------------------------------------------------------- leading --- */

static void
count_cpu(es_exporter_t *exporter)
{
    uint64_t used = es_thread_cpu_ns();

    es_stats_add(&exporter->generation->stats->cpu_ns, used - exporter->cpu_counted_ns);
    exporter->cpu_counted_ns = used;
}

/* For the status: this process leads, and it lives. */
static void
beat(es_exporter_t *exporter)
{
    es_queue_shared_t *shared = exporter->generation->queue.shared;
    uint64_t now = es_mono_ns();

    atomic_store_explicit(&shared->leader_pid, (uint32_t) getpid(), memory_order_relaxed);
    atomic_store_explicit(&shared->heartbeat_ns, now, memory_order_relaxed);
    if (now - exporter->cpu_counted_at >= CPU_PERIOD) {
        exporter->cpu_counted_at = now;
        count_cpu(exporter);
    }
}

static bool
is_idle(const es_exporter_t *exporter, bool drained)
{
    for (unsigned i = 0; i < exporter->count; i++) {
        if (!es_pipeline_idle(&exporter->pipelines[i], drained)) {
            return false;
        }
    }
    return true;
}

static void
turn_all(es_exporter_t *exporter, es_turn_t turn, uint64_t deadline_ns)
{
    for (unsigned i = 0; i < exporter->count; i++) {
        es_pipeline_turn(&exporter->pipelines[i], turn, deadline_ns);
    }
}

/* One turn of a leader that is to stop; true when it may leave. While others
 * serve, it only waits for the answers to what is under way: one of them leads
 * next. The last process drains the queue. */
static bool
stopping_turn(es_exporter_t *exporter)
{
    uint64_t deadline = stop_at(exporter), now = es_mono_ns();
    uint64_t budget = exporter->generation->config->shutdown_timeout_ns;
    uint64_t quiesce = budget / 5 < QUIESCE_MAX ? budget / 5 : QUIESCE_MAX;
    bool alone;

    release_slot(exporter);
    alone = is_alone(exporter);

    if (now >= deadline) {
        if (alone) {
            /* Nobody saved it before: there was no time at all, or the last turn
             * took it. */
            save(exporter, now + SAVE_LATE);
            abandon(exporter, ES_DROP_SHUTDOWN);
        }
        return true;
    }
    if (alone && now + quiesce < deadline) {
        turn_all(exporter, ES_TURN_DRAIN, deadline);
    } else {
        if (alone) {
            save(exporter, deadline);
        }
        turn_all(exporter, ES_TURN_FINISH, deadline);
    }
    return is_idle(exporter, alone);
}

static int
milliseconds_until(uint64_t due, uint64_t now, uint64_t most_ns)
{
    uint64_t wait = due > now ? due - now : 0;

    return (int) (((wait < most_ns ? wait : most_ns) + ES_MS - 1) / ES_MS);
}

/* Sleeps until there is something to do. */
static void
wait_for_work(es_exporter_t *exporter)
{
    es_queue_shared_t *shared = exporter->generation->queue.shared;
    bool stopping = stop_at(exporter) != 0;
    uint64_t now = es_mono_ns(), due, value;
    struct pollfd fds[] = {
        {.fd = exporter->generation->wake, .events = POLLIN},
        {.fd = exporter->provider->stop, .events = POLLIN},
    };
    unsigned count = stopping ? 1 : 2;
    int timeout;

    due = es_override_due(&exporter->override, exporter->provider);
    for (unsigned i = 0; i < exporter->count; i++) {
        uint64_t pipeline_due = es_pipeline_due(&exporter->pipelines[i]);

        due = pipeline_due < due ? pipeline_due : due;
    }
    timeout = stopping ? RETRY_MS : milliseconds_until(due, now, SLEEP_MAX);

    /* Announce the sleep, then look once more; see es_queue.c, seal(). */
    atomic_store(&shared->sleeping, 1);
    if (atomic_load(&shared->seals) != exporter->seals_seen) {
        timeout = 0;
    }
    if (exporter->transport != NULL) {
        es_transport_wait(exporter->transport, fds, count, timeout);
    } else {
        poll(fds, count, timeout);
    }
    atomic_store(&shared->sleeping, 0);

    if (fds[0].revents != 0) {
        (void) !read(exporter->generation->wake, &value, sizeof(value));
    }
}

/* A record that kills whoever reads it would kill leader after leader. False:
 * this generation is to export no more. */
static bool
survive_poison(es_exporter_t *exporter)
{
    es_queue_shared_t *shared = exporter->generation->queue.shared;
    uint32_t deaths = 0;

    if (atomic_exchange(&shared->leading, 1) != 0) {
        deaths = atomic_fetch_add(&shared->leader_deaths, 1) + 1;
    }
    if (deaths >= DEATHS_UNTIL_END) {
        es_provider_log(exporter->provider, ES_LOG_ERROR,
                        "%u exporting processes died in a row: nothing is exported any more until "
                        "the next reload",
                        deaths);
        return false;
    }
    if (deaths >= DEATHS_UNTIL_DROP) {
        es_provider_log(exporter->provider, ES_LOG_ERROR,
                        "%u exporting processes died in a row: what is in the queue is dropped",
                        deaths);
        abandon(exporter, ES_DROP_POISON);
    }
    return true;
}

static void
wait_for_stop(es_exporter_t *exporter, int timeout_ms)
{
    struct pollfd stop = {.fd = exporter->provider->stop, .events = POLLIN};

    poll(&stop, 1, timeout_ms);
}

/* Leads until this process is to stop. */
static void
lead(es_exporter_t *exporter)
{
    es_queue_shared_t *shared = exporter->generation->queue.shared;
    uint64_t leads_since;
    bool stopping = false;

    /* First of all: the first requests are here already. */
    es_override_look(&exporter->override, exporter->provider);
    while (!open_pipelines(exporter)) {
        beat(exporter);
        es_override_look(&exporter->override, exporter->provider);
        wait_for_stop(exporter, WATCH_MS);
        if (stop_at(exporter) != 0) {
            return;
        }
    }
    remember_drops(exporter);
    if (!survive_poison(exporter)) {
        while (stop_at(exporter) == 0) {
            es_override_look(&exporter->override, exporter->provider);
            wait_for_stop(exporter, WATCH_MS);
        }
        release_slot(exporter);
        if (is_alone(exporter)) {
            abandon(exporter, ES_DROP_POISON);
            report_drops(exporter, true);
        }
        close_pipelines(exporter);
        return;
    }

    leads_since = es_mono_ns();
    while (!stopping) {
        beat(exporter);
        if (es_mono_ns() - leads_since > PROVEN) {
            atomic_store_explicit(&shared->leader_deaths, 0, memory_order_relaxed);
        }

        es_override_look(&exporter->override, exporter->provider);
        exporter->seals_seen = atomic_load(&shared->seals);
        if (stop_at(exporter) != 0) {
            stopping = stopping_turn(exporter);
        } else {
            turn_all(exporter, ES_TURN_NORMAL, 0);
        }
        reclaim(exporter);
        report_drops(exporter, false);

        if (!stopping) {
            wait_for_work(exporter);
        }
    }
    for (unsigned i = 0; i < exporter->count; i++) {
        es_pipeline_report(&exporter->pipelines[i]);
    }
    close_pipelines(exporter);
    report_drops(exporter, true);
    atomic_store(&shared->leading, 0);
}

/* -------------------------------------------------------------- waiting --- */

/* Waits for the leader's end or our own stop. The pid is only a hint: the lock
 * is asked again after the watch began, because pids are used again. */
static void
watch_leader(es_exporter_t *exporter, int timeout_ms)
{
    int locks = exporter->generation->locks;
    pid_t holder = es_leadership_holder(locks);
    struct pollfd fds[] = {
        {.fd = -1, .events = POLLIN},
        {.fd = stop_at(exporter) == 0 ? exporter->provider->stop : -1, .events = POLLIN},
    };

    if (holder > 0) {
        fds[0].fd = es_process_watch(holder);
    }
    if (holder <= 0 || es_leadership_holder(locks) != holder) {
        timeout_ms = 1; /* just changing hands */
    } else if (fds[0].fd < 0 && timeout_ms < 0) {
        timeout_ms = WATCH_MS;
    }
    poll(fds, 2, timeout_ms);
    if (fds[0].fd >= 0) {
        close(fds[0].fd);
    }
}

/* Undoes what the thread inherited of a worker: it is to run where and as the
 * parent did. Failing is harmless. */
static void
restore_scheduling(const es_generation_t *generation)
{
    if (generation->has_affinity) {
        pthread_setaffinity_np(pthread_self(), sizeof(generation->affinity), &generation->affinity);
    }
    setpriority(PRIO_PROCESS, (id_t) gettid(), generation->priority);
}

void *
es_exporter_run(void *data)
{
    es_provider_t *provider = data;
    es_exporter_t *exporter = calloc(1, sizeof(*exporter));
    uint64_t one = 1;

    restore_scheduling(provider->generation);

    if (exporter == NULL) {
        es_provider_log(provider, ES_LOG_ERROR, "the exporter cannot begin: no memory");
    } else {
        exporter->provider = provider;
        exporter->generation = provider->generation;
    }

    while (exporter != NULL) {
        if (es_leadership_take(provider->generation->locks)) {
            lead(exporter);
            count_cpu(exporter);
            atomic_store(&provider->generation->queue.shared->leader_pid, 0);
            es_leadership_release(provider->generation->locks);
            break;
        }
        if (stop_at(exporter) == 0) {
            watch_leader(exporter, -1);
            continue;
        }

        /* While others serve, one of them leads. The last one waits for the
         * leader to leave, and drains. */
        release_slot(exporter);
        if (exporter->slot_released && !is_alone(exporter)) {
            break;
        }
        if (es_mono_ns() >= stop_at(exporter) + LEAVING_MAX) {
            break;
        }
        watch_leader(exporter, RETRY_MS);
    }

    free(exporter);
    (void) !write(provider->ended, &one, sizeof(one));
    return NULL;
}
