#include "es_pipeline.h"

#include "es_clock.h"

#include <stdlib.h>

/* A body stays below what collectors take by default (4 MiB). */
#define BATCH_BYTES_MAX ((size_t) 1 << 20)

#define BACKOFF_FIRST (100 * ES_MS)
#define BACKOFF_MAX (1500 * ES_MS)
#define BACKOFF_DRAINING (50 * ES_MS)

/* One line a minute about a destination that fails. */
#define LOG_PERIOD (60 * ES_SECOND)

typedef enum es_batch_state {
    BATCH_WAITING,
    BATCH_SENT,
    BATCH_SETTLED, /* delivered or given up */
} es_batch_state_t;

struct es_batch {
    es_delivery_t delivery; /* first: `done` gets back to the batch */
    es_batch_t *next;
    es_pipeline_t *pipeline;
    es_batch_state_t state;
    uint8_t *body;
    unsigned spans;
    unsigned ranges_count;
    es_range_t ranges[];
};

static es_queue_t *
queue_of(const es_pipeline_t *pipeline)
{
    return &pipeline->provider->generation->queue;
}

static es_stats_t *
stats_of(const es_pipeline_t *pipeline)
{
    return pipeline->provider->generation->stats;
}

static void
free_buffers(es_pipeline_t *pipeline)
{
    free(pipeline->read);
    free(pipeline->ranges);
    free(pipeline->records);
}

bool
es_pipeline_open(es_pipeline_t *pipeline, es_provider_t *provider, unsigned index,
                 struct es_transport *transport, es_error_t *error)
{
    const es_exporter_config_t *config = provider->generation->config->exporters[index];
    uint32_t chunks = provider->generation->queue.shared->chunks;

    *pipeline = (es_pipeline_t){
        .provider = provider,
        .config = config,
        .index = index,
        .flush_at = es_mono_ns() + config->interval_ns,
    };
    pipeline->last = &pipeline->first;
    pipeline->read = calloc(chunks, sizeof(*pipeline->read));
    pipeline->ranges = calloc(chunks, sizeof(*pipeline->ranges));
    pipeline->records = calloc(config->batch_size, sizeof(*pipeline->records));

    if (pipeline->read == NULL || pipeline->ranges == NULL || pipeline->records == NULL) {
        es_fail(error, "no memory");
    } else {
        pipeline->sender = config->protocol->sender->open(config, transport, error);
    }
    if (pipeline->sender == NULL) {
        free_buffers(pipeline);
        return false;
    }
    return true;
}

static void
batch_free(es_batch_t *batch)
{
    free(batch->body);
    free(batch);
}

void
es_pipeline_close(es_pipeline_t *pipeline)
{
    es_batch_t *batch;

    pipeline->config->protocol->sender->close(pipeline->sender);
    while ((batch = pipeline->first) != NULL) {
        pipeline->first = batch->next;
        batch_free(batch);
    }
    free_buffers(pipeline);
}

/* ------------------------------------------------------------ building --- */

/* What exporter has neither settled nor in a batch of this pipeline. */
static es_range_t
unread(es_pipeline_t *pipeline, uint32_t chunk)
{
    es_range_t range = es_queue_pending(queue_of(pipeline), chunk, pipeline->index);

    if (pipeline->read[chunk] > range.from) {
        range.from = pipeline->read[chunk];
    }
    return range;
}

typedef struct es_collected {
    unsigned spans, ranges;
    uint64_t corrupt;
    bool full;
} es_collected_t;

/* Collects up to batch_size records into the pipeline's buffers. The read
 * positions move only when a batch is made of them. */
static es_collected_t
collect(es_pipeline_t *pipeline)
{
    es_queue_t *queue = queue_of(pipeline);
    uint32_t chunks = es_queue_used(queue);
    es_collected_t result = {0};
    size_t bytes = 0;

    for (uint32_t i = 0; i < chunks && !result.full; i++) {
        es_range_t range = unread(pipeline, (pipeline->next_chunk + i) % chunks), *kept;

        if (range.from >= range.to) {
            continue;
        }
        kept = &pipeline->ranges[result.ranges++];
        *kept = range;
        while (!result.full
               && es_queue_read(queue, &range, &pipeline->records[result.spans], &result.corrupt)) {
            bytes += pipeline->records[result.spans].span.len;
            result.spans++;
            result.full = result.spans == pipeline->config->batch_size || bytes >= BATCH_BYTES_MAX;
        }
        kept->to = range.from;
    }
    return result;
}

static void settle(es_pipeline_t *pipeline);
static void done(es_delivery_t *delivery, const es_result_t *result);

/* Makes one batch and puts it at the end of the line. False: there is nothing
 * (worth it) yet, or no memory: a later turn tries again. */
static bool
build(es_pipeline_t *pipeline, bool flush)
{
    const es_config_t *config = pipeline->provider->generation->config;
    const es_format_t *format = pipeline->config->protocol->format;
    es_collected_t found = collect(pipeline);
    es_batch_t *batch;

    if (found.ranges == 0 || (!found.full && !flush)) {
        return false;
    }
    batch = calloc(1, sizeof(*batch) + found.ranges * sizeof(batch->ranges[0]));
    if (batch == NULL) {
        return false;
    }
    batch->pipeline = pipeline;
    batch->spans = found.spans;
    batch->ranges_count = found.ranges;
    memcpy(batch->ranges, pipeline->ranges, found.ranges * sizeof(batch->ranges[0]));

    if (found.spans == 0) {
        batch->state = BATCH_SETTLED; /* nothing readable in these ranges */
    } else if (!format->encode(config, pipeline->records, found.spans, &batch->body,
                               &batch->delivery.size)) {
        free(batch);
        return false;
    } else {
        batch->delivery.body = batch->body;
        batch->delivery.done = done;
        pipeline->waiting++;
    }

    for (unsigned i = 0; i < found.ranges; i++) {
        pipeline->read[batch->ranges[i].chunk] = batch->ranges[i].to;
    }
    pipeline->next_chunk = batch->ranges[found.ranges - 1].chunk;
    es_stats_drop(stats_of(pipeline), ES_DROP_CORRUPT, found.corrupt);
    *pipeline->last = batch;
    pipeline->last = &batch->next;
    settle(pipeline);
    return true;
}

/* ------------------------------------------------------------ settling --- */

/* Moves the cursors behind every settled batch at the head of the line. */
static void
settle(es_pipeline_t *pipeline)
{
    es_batch_t *batch;

    while ((batch = pipeline->first) != NULL && batch->state == BATCH_SETTLED) {
        for (unsigned i = 0; i < batch->ranges_count; i++) {
            es_queue_acknowledge(queue_of(pipeline), batch->ranges[i].chunk, pipeline->index,
                                 batch->ranges[i].to);
        }
        if ((pipeline->first = batch->next) == NULL) {
            pipeline->last = &pipeline->first;
        }
        batch_free(batch);
    }
}

static void
log_failure(es_pipeline_t *pipeline, const char *what, const char *message)
{
    uint64_t now = es_mono_ns();

    if (pipeline->logged_at != 0 && now - pipeline->logged_at < LOG_PERIOD) {
        return;
    }
    pipeline->logged_at = now;
    es_provider_log(pipeline->provider, ES_LOG_WARN, "exporting to %s: %s%s%s",
                    pipeline->config->name, what, message[0] != '\0' ? ": " : "", message);
}

static void
back_off(es_pipeline_t *pipeline, uint64_t at_least_ns)
{
    uint64_t wait = pipeline->backoff_ns == 0 ? BACKOFF_FIRST : pipeline->backoff_ns * 2;

    if (wait > BACKOFF_MAX) {
        wait = BACKOFF_MAX;
    }
    pipeline->backoff_ns = wait;

    /* Full waits less up to a third: many gateways must not come back at once. */
    wait -= es_random(&pipeline->provider->ids) % (wait / 3);
    pipeline->failing = true;
    pipeline->retry_at = es_mono_ns() + (wait > at_least_ns ? wait : at_least_ns);
}

static void
recovered(es_pipeline_t *pipeline)
{
    if (pipeline->failing) {
        es_provider_log(pipeline->provider, ES_LOG_NOTICE, "exporting to %s: works again",
                        pipeline->config->name);
    }
    pipeline->failing = false;
    pipeline->backoff_ns = 0;
}

static void
done(es_delivery_t *delivery, const es_result_t *result)
{
    es_batch_t *batch = (es_batch_t *) delivery;
    es_pipeline_t *pipeline = batch->pipeline;
    uint64_t rejected = result->rejected < batch->spans ? result->rejected : batch->spans;

    pipeline->in_flight--;

    switch (result->outcome) {
    case ES_RETRY:
        batch->state = BATCH_WAITING;
        pipeline->waiting++;
        es_stats_add(&stats_of(pipeline)->retried, 1);
        log_failure(pipeline, "it failed and is tried again", result->message);
        back_off(pipeline, result->retry_after_ns);
        return;

    case ES_REJECTED:
        rejected = batch->spans;
        log_failure(pipeline, "a batch was rejected", result->message);
        break;

    case ES_DELIVERED:
        if (result->message[0] != '\0' || rejected != 0) {
            log_failure(pipeline, "a part of a batch was rejected", result->message);
        }
        break;
    }

    /* An answer, even a refusal, shows that exporting kills nobody. */
    atomic_store(&queue_of(pipeline)->shared->leader_deaths, 0);
    es_stats_drop(stats_of(pipeline), ES_DROP_REJECTED, rejected);
    es_stats_add(&stats_of(pipeline)->sent, batch->spans - rejected);
    recovered(pipeline);
    batch->state = BATCH_SETTLED;
    settle(pipeline);
}

/* -------------------------------------------------------------- turning --- */

static void
send_batch(es_pipeline_t *pipeline, es_batch_t *batch, uint64_t deadline_ns)
{
    uint64_t deadline = es_mono_ns() + pipeline->config->timeout_ns;

    batch->delivery.deadline_ns =
        deadline_ns != 0 && deadline_ns < deadline ? deadline_ns : deadline;
    batch->state = BATCH_SENT;
    pipeline->waiting--;
    pipeline->in_flight++;
    pipeline->config->protocol->sender->send(pipeline->sender, &batch->delivery);
}

static es_batch_t *
first_waiting(const es_pipeline_t *pipeline)
{
    es_batch_t *batch = pipeline->first;

    while (batch != NULL && batch->state != BATCH_WAITING) {
        batch = batch->next;
    }
    return batch;
}

void
es_pipeline_turn(es_pipeline_t *pipeline, es_turn_t turn, uint64_t deadline_ns)
{
    uint64_t now = es_mono_ns();
    bool flush = turn == ES_TURN_DRAIN || now >= pipeline->flush_at;

    if (turn == ES_TURN_DRAIN && pipeline->retry_at > now + BACKOFF_DRAINING) {
        pipeline->retry_at = now + BACKOFF_DRAINING;
    }

    for (;;) {
        bool may_send =
            turn != ES_TURN_FINISH && pipeline->in_flight < ES_IN_FLIGHT_MAX
            && (!pipeline->failing || (pipeline->in_flight == 0 && now >= pipeline->retry_at));

        if (!may_send) {
            break;
        }
        if (pipeline->waiting != 0) {
            send_batch(pipeline, first_waiting(pipeline), deadline_ns);
        } else if (!build(pipeline, flush)) {
            /* The queue is empty but for an incomplete batch. */
            if (flush) {
                pipeline->flush_at = now + pipeline->config->interval_ns;
            }
            break;
        }
        now = es_mono_ns();
    }
}

uint64_t
es_pipeline_due(const es_pipeline_t *pipeline)
{
    if (pipeline->in_flight != 0
        && (pipeline->failing || pipeline->in_flight == ES_IN_FLIGHT_MAX)) {
        return UINT64_MAX; /* an answer comes first */
    }
    return pipeline->failing ? pipeline->retry_at : pipeline->flush_at;
}

bool
es_pipeline_idle(const es_pipeline_t *pipeline, bool drained)
{
    const es_queue_t *queue = queue_of(pipeline);

    if (pipeline->in_flight != 0) {
        return false;
    }
    for (uint32_t i = 0; drained && i < es_queue_used(queue); i++) {
        es_range_t range = es_queue_pending(queue, i, pipeline->index);

        if (range.from < range.to) {
            return false;
        }
    }
    return true;
}

/* ------------------------------------------------------------ giving up --- */

static void
give_up(es_pipeline_t *pipeline, es_range_t range, es_drop_t reason)
{
    uint64_t spans = 0, corrupt = 0;
    es_record_t record;

    while (es_queue_read(queue_of(pipeline), &range, &record, &corrupt)) {
        spans++;
    }
    es_stats_drop(stats_of(pipeline), reason, spans);
    es_stats_drop(stats_of(pipeline), ES_DROP_CORRUPT, corrupt);
    es_queue_acknowledge(queue_of(pipeline), range.chunk, pipeline->index, range.to);
    if (pipeline->read[range.chunk] < range.to) {
        pipeline->read[range.chunk] = range.to;
    }
}

void
es_pipeline_abandon(es_pipeline_t *pipeline, es_drop_t reason)
{
    const es_queue_t *queue = queue_of(pipeline);

    for (uint32_t i = 0; i < es_queue_used(queue); i++) {
        es_range_t range = es_queue_pending(queue, i, pipeline->index);

        if (range.from < range.to) {
            give_up(pipeline, range, reason);
        }
    }
}

bool
es_pipeline_give_up_oldest(es_pipeline_t *pipeline)
{
    es_range_t range;

    if (!es_queue_laggard(queue_of(pipeline), pipeline->index, pipeline->read, &range)) {
        return false;
    }
    give_up(pipeline, range, ES_DROP_LAGGING);
    return true;
}
