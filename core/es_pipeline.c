#include "es_pipeline.h"

#include "es_clock.h"
#include "es_spooling.h"

#include <stdio.h>
#include <stdlib.h>

#define BACKOFF_FIRST (100 * ES_MS)
#define BACKOFF_MAX (1500 * ES_MS)
#define BACKOFF_DRAINING (50 * ES_MS)

/* Turns in which a batch may lack memory before it is the batch that is wrong. */
#define PREPARE_TRIES 20

/* Batches built and sent in one turn, and when it ends all the same: encoding and
 * compressing, or a pipe that is read slowly, take their time for each. */
#define STEPS_MAX (2 * ES_IN_FLIGHT_MAX)
#define TURN_MAX (50 * ES_MS)

static es_queue_t *
queue_of(const es_pipeline_t *pipeline)
{
    return &pipeline->provider->generation->queue;
}

bool
es_pipeline_open(es_pipeline_t *pipeline, es_provider_t *provider, unsigned index,
                 struct es_transport *transport, es_error_t *error)
{
    es_generation_t *generation = provider->generation;
    const es_exporter_config_t *config = generation->config->exporters[index];

    *pipeline = (es_pipeline_t){
        .provider = provider,
        .config = config,
        .stats = &generation->stats->exporters[index],
        .index = index,
        .flush_at = es_mono_ns() + config->interval_ns,
    };
    pipeline->last = &pipeline->first;
    es_failover_init(&pipeline->failover, config->targets_count);

    if (!es_reader_open(&pipeline->reader, generation, index)) {
        return es_fail(error, "no memory");
    }
    pipeline->sender = config->protocol->sender->open(config, transport, error);
    if (pipeline->sender == NULL) {
        es_reader_close(&pipeline->reader);
        return false;
    }
    es_spooling_open(pipeline);
    return true;
}

void
es_pipeline_close(es_pipeline_t *pipeline)
{
    es_batch_t *batch;

    pipeline->config->protocol->sender->close(pipeline->sender);
    es_spooling_close(pipeline);
    while ((batch = pipeline->first) != NULL) {
        pipeline->first = batch->next;
        es_batch_free(batch);
    }
    es_reader_close(&pipeline->reader);
}

/* ------------------------------------------------------------ settling --- */

/* In order, because two batches may have parts of one chunk. */
void
es_pipeline_settle(es_pipeline_t *pipeline)
{
    es_batch_t **link = &pipeline->first, *batch;

    while ((batch = *link) != NULL
           && (batch->state == ES_BATCH_SETTLED || batch->spooled != ES_SPOOLED_NOT)) {
        for (unsigned i = 0; i < batch->ranges_count; i++) {
            es_queue_acknowledge(queue_of(pipeline), batch->ranges[i].chunk, pipeline->index,
                                 batch->ranges[i].to);
            pipeline->held -= batch->ranges[i].to - batch->ranges[i].from;
        }
        batch->ranges_count = 0;

        if (batch->state != ES_BATCH_SETTLED) {
            link = &batch->next;
            continue;
        }
        if ((*link = batch->next) == NULL) {
            pipeline->last = link;
        }
        es_batch_free(batch);
    }
}

static es_exporter_gauges_t *
gauges_of(const es_pipeline_t *pipeline)
{
    return &queue_of(pipeline)->shared->gauges[pipeline->index];
}

/* To the status at once, to the log once a minute and cause. True: to both. */
static bool
log_failure(es_pipeline_t *pipeline, unsigned target, es_failure_t failure, const char *message)
{
    static const char *const causes[ES_FAILURES] = {
        [ES_FAILURE_RETRY] = "it failed and is tried again",
        [ES_FAILURE_REJECTED] = "a batch was rejected",
        [ES_FAILURE_PARTIAL] = "a part of a batch was rejected",
    };
    char text[ES_LAST_ERROR_SIZE];

    snprintf(text, sizeof(text), "%s: %s%s%s", pipeline->config->targets[target].name,
             causes[failure], message[0] != '\0' ? ": " : "", message);
    es_last_error_set(&pipeline->stats->last_error, text);
    if (!es_log_limit_take(&pipeline->stats->limits[failure])) {
        return false;
    }
    es_provider_log(pipeline->provider, ES_LOG_WARN, "exporting to %s", text);
    return true;
}

static void
back_off(es_pipeline_t *pipeline, uint64_t at_least_ns)
{
    uint64_t now = es_mono_ns(), wait;

    if (!pipeline->failing) {
        pipeline->failing = true;
        pipeline->failing_since = now;
        pipeline->backoff_ns = BACKOFF_FIRST;
    } else if (now >= pipeline->retry_at) {
        pipeline->backoff_ns =
            pipeline->backoff_ns * 2 < BACKOFF_MAX ? pipeline->backoff_ns * 2 : BACKOFF_MAX;
    } else if (at_least_ns == 0) {
        return; /* it was under way when the failure began: the same one */
    }

    /* Full waits less up to a third: many gateways must not come back at once. */
    wait = pipeline->backoff_ns - es_random(&pipeline->provider->ids) % (pipeline->backoff_ns / 3);
    atomic_store(&gauges_of(pipeline)->failing, 1);
    pipeline->retry_at = now + (wait > at_least_ns ? wait : at_least_ns);
}

static void
recovered(es_pipeline_t *pipeline, unsigned target)
{
    /* Only if the log said that it failed: it may do both many times a minute. */
    if (pipeline->failure_told) {
        es_provider_log(pipeline->provider, ES_LOG_NOTICE, "exporting to %s: works again",
                        pipeline->config->targets[target].name);
        pipeline->failure_told = false;
    }
    pipeline->failing = false;
    pipeline->backoff_ns = 0;
    atomic_store(&gauges_of(pipeline)->failing, 0);
    atomic_store(&pipeline->stats->succeeded_ns, es_wall_ns());
}

static void
try_again(es_pipeline_t *pipeline, es_batch_t *batch, const es_result_t *result)
{
    unsigned target = batch->delivery.target;
    bool others_left = es_failover_result(&pipeline->failover, target, false, es_mono_ns());

    if (es_spooling_failed(pipeline, batch)) {
        batch->state = ES_BATCH_SETTLED;
    } else {
        batch->state = ES_BATCH_WAITING;
        pipeline->waiting++;
        es_stats_add(&pipeline->stats->retried, 1);
    }
    pipeline->failure_told |= log_failure(pipeline, target, ES_FAILURE_RETRY, result->message);
    if (!others_left) {
        back_off(pipeline, result->retry_after_ns);
    }
    es_pipeline_settle(pipeline);
}

static void
done(es_delivery_t *delivery, const es_result_t *result)
{
    es_batch_t *batch = (es_batch_t *) delivery;
    es_pipeline_t *pipeline = batch->owner;
    uint64_t rejected = result->rejected < batch->spans ? result->rejected : batch->spans;

    pipeline->in_flight--;

    switch (result->outcome) {
    case ES_RETRY:
        try_again(pipeline, batch, result);
        return;

    case ES_REJECTED:
        rejected = batch->spans;
        log_failure(pipeline, delivery->target, ES_FAILURE_REJECTED, result->message);
        break;

    case ES_DELIVERED:
        es_stats_add(&pipeline->stats->batches, 1);
        es_stats_add(&pipeline->stats->bytes, delivery->body.len);
        if (result->message[0] != '\0' || rejected != 0) {
            log_failure(pipeline, delivery->target, ES_FAILURE_PARTIAL, result->message);
        }
        break;
    }

    /* An answer, even a refusal, shows that exporting kills nobody. */
    atomic_store(&queue_of(pipeline)->shared->leader_deaths, 0);
    es_stats_add(&pipeline->stats->dropped[ES_DROP_REJECTED], rejected);
    es_stats_add(&pipeline->stats->sent, batch->spans - rejected);
    es_failover_result(&pipeline->failover, delivery->target, true, es_mono_ns());
    recovered(pipeline, delivery->target);
    batch->state = ES_BATCH_SETTLED;
    es_spooling_settled(pipeline, batch);
    es_pipeline_settle(pipeline);
}

/* -------------------------------------------------------------- turning --- */

static void
add(es_pipeline_t *pipeline, es_batch_t *batch)
{
    batch->owner = pipeline;
    batch->delivery.done = done;
    pipeline->waiting += batch->state == ES_BATCH_WAITING;
    *pipeline->last = batch;
    pipeline->last = &batch->next;
}

bool
es_pipeline_build(es_pipeline_t *pipeline, bool flush)
{
    uint64_t corrupt = 0;
    es_batch_t *batch = es_reader_next(&pipeline->reader, flush, &corrupt);

    es_stats_add(&pipeline->stats->dropped[ES_DROP_CORRUPT], corrupt);
    if (batch == NULL) {
        return false;
    }
    for (unsigned i = 0; i < batch->ranges_count; i++) {
        pipeline->held += batch->ranges[i].to - batch->ranges[i].from;
    }
    add(pipeline, batch);
    es_pipeline_settle(pipeline);
    return true;
}

static bool
replay(es_pipeline_t *pipeline)
{
    es_batch_t *batch = es_spooling_next(pipeline);

    if (batch == NULL) {
        return false;
    }
    add(pipeline, batch);
    return true;
}

/* A batch that waits. */
static void
drop(es_pipeline_t *pipeline, es_batch_t *batch, es_drop_t reason)
{
    es_stats_add(&pipeline->stats->dropped[reason], batch->spans);
    pipeline->waiting--;
    batch->state = ES_BATCH_SETTLED;
    es_spooling_settled(pipeline, batch);
    es_pipeline_settle(pipeline);
}

/* False: no memory for its body, or it cannot be decoded for a format that is not
 * OTLP's own; then trying is of no use for ever. */
static bool
send_batch(es_pipeline_t *pipeline, es_batch_t *batch, uint64_t deadline_ns)
{
    uint64_t now = es_mono_ns(), deadline = now + pipeline->config->timeout_ns;

    if (!es_batch_prepare(batch, pipeline->config)) {
        if (++batch->failed_to_prepare == PREPARE_TRIES) {
            drop(pipeline, batch, ES_DROP_CORRUPT);
        }
        return false;
    }
    batch->delivery.deadline_ns =
        deadline_ns != 0 && deadline_ns < deadline ? deadline_ns : deadline;
    batch->delivery.target = es_failover_choose(&pipeline->failover, now);
    batch->state = ES_BATCH_SENT;
    pipeline->waiting--;
    pipeline->in_flight++;
    pipeline->config->protocol->sender->send(pipeline->sender, &batch->delivery);
    return true;
}

static es_batch_t *
first_waiting(const es_pipeline_t *pipeline)
{
    es_batch_t *batch = pipeline->first;

    while (batch != NULL && batch->state != ES_BATCH_WAITING) {
        batch = batch->next;
    }
    return batch;
}

/* Spans of one resource may have been delivered out of records that others come
 * from, too. Left like this, the next leader would send them again. */
static bool
half_sent(const es_pipeline_t *pipeline)
{
    return es_reader_midway(&pipeline->reader)
           || (pipeline->reader.one_resource && pipeline->waiting != 0);
}

/* Where several share the queue: what is in a batch is not given up when chunks
 * run short, so a destination that hangs must not get all of it into batches. */
static bool
has_its_share(const es_pipeline_t *pipeline)
{
    return pipeline->waiting == 0 && pipeline->held != 0
           && pipeline->held >= es_queue_share(queue_of(pipeline));
}

/* One batch at a time asks a destination that fails. */
static bool
may_send(const es_pipeline_t *pipeline, es_turn_t turn)
{
    return (turn != ES_TURN_FINISH || half_sent(pipeline)) && pipeline->in_flight < ES_IN_FLIGHT_MAX
           && !has_its_share(pipeline)
           && (!pipeline->failing
               || (pipeline->in_flight == 0 && es_mono_ns() >= pipeline->retry_at));
}

/* False: there is nothing to send, or no memory for it. */
static bool
send_next(es_pipeline_t *pipeline, es_turn_t turn, bool flush, uint64_t deadline_ns)
{
    if (pipeline->waiting != 0) {
        return send_batch(pipeline, first_waiting(pipeline), deadline_ns);
    }
    return (turn == ES_TURN_NORMAL && replay(pipeline)) || es_pipeline_build(pipeline, flush);
}

void
es_pipeline_turn(es_pipeline_t *pipeline, es_turn_t turn, uint64_t deadline_ns)
{
    uint64_t now = es_mono_ns();
    bool flush = turn == ES_TURN_DRAIN || now >= pipeline->flush_at;
    bool store = turn == ES_TURN_NORMAL && es_spooling_due(pipeline);
    bool more_to_store = store && es_spooling_store(pipeline, flush), more = true;
    uint64_t until = es_mono_ns() + TURN_MAX;

    if (turn == ES_TURN_DRAIN && pipeline->retry_at > now + BACKOFF_DRAINING) {
        pipeline->retry_at = now + BACKOFF_DRAINING;
    }

    /* No turn without an end: others wait for theirs, also where spans come as
     * fast as this destination takes them. */
    for (unsigned steps = 0;
         more && steps < STEPS_MAX && es_mono_ns() < until && may_send(pipeline, turn); steps++) {
        more = send_next(pipeline, turn, flush, deadline_ns);
    }
    if (flush && (store || !more)) {
        pipeline->flush_at = now + pipeline->config->interval_ns;
    }
    pipeline->unfinished = more_to_store || (more && may_send(pipeline, turn));
    pipeline->exhausted = !more;
    atomic_store_explicit(&gauges_of(pipeline)->in_flight, pipeline->in_flight,
                          memory_order_relaxed);
    atomic_store_explicit(&gauges_of(pipeline)->waiting, pipeline->waiting, memory_order_relaxed);
}

uint64_t
es_pipeline_due(const es_pipeline_t *pipeline)
{
    if (pipeline->unfinished) {
        return 0;
    }
    if (pipeline->in_flight != 0
        && (pipeline->failing || pipeline->in_flight == ES_IN_FLIGHT_MAX
            || has_its_share(pipeline))) {
        return UINT64_MAX; /* an answer comes first */
    }

    /* What fails has nothing to try with where it is all in a spool that another
     * process replays. */
    return pipeline->failing && !pipeline->exhausted ? pipeline->retry_at : pipeline->flush_at;
}

bool
es_pipeline_idle(const es_pipeline_t *pipeline, bool drained)
{
    const es_queue_t *queue = queue_of(pipeline);

    if (pipeline->in_flight != 0 || (half_sent(pipeline) && !pipeline->failing)) {
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
    es_stats_add(&pipeline->stats->dropped[reason], spans);
    es_stats_add(&pipeline->stats->dropped[ES_DROP_CORRUPT], corrupt);
    es_queue_acknowledge(queue_of(pipeline), range.chunk, pipeline->index, range.to);
    if (pipeline->reader.read[range.chunk] < range.to) {
        pipeline->reader.read[range.chunk] = range.to;
    }
}

void
es_pipeline_save(es_pipeline_t *pipeline, uint64_t deadline_ns)
{
    while (pipeline->spool != NULL && es_spooling_store(pipeline, true)
           && es_mono_ns() < deadline_ns) {
    }
}

void
es_pipeline_abandon(es_pipeline_t *pipeline, es_drop_t reason)
{
    const es_queue_t *queue = queue_of(pipeline);

    /* What is in batches and not settled, or was collected for one. */
    for (es_batch_t *batch = pipeline->first; batch != NULL; batch = batch->next) {
        if (batch->state != ES_BATCH_SETTLED && batch->spooled == ES_SPOOLED_NOT) {
            es_stats_add(&pipeline->stats->dropped[reason], batch->spans);
        }
    }
    es_stats_add(&pipeline->stats->dropped[reason],
                 pipeline->reader.records_count - pipeline->reader.next_record);
    for (uint32_t i = 0; i < es_queue_used(queue); i++) {
        es_range_t range = es_reader_unread(&pipeline->reader, i);

        if (range.from < range.to) {
            give_up(pipeline, range, reason);
        } else {
            es_queue_acknowledge(queue_of(pipeline), i, pipeline->index, range.to);
        }
    }
}

bool
es_pipeline_give_up_oldest(es_pipeline_t *pipeline)
{
    es_range_t range;

    if (!es_queue_laggard(queue_of(pipeline), pipeline->index, pipeline->reader.read, &range)) {
        return false;
    }
    give_up(pipeline, range, ES_DROP_LAGGING);
    return true;
}

void
es_pipeline_report(const es_pipeline_t *pipeline)
{
    const es_exporter_stats_t *stats = pipeline->stats;

    es_provider_log(pipeline->provider, ES_LOG_INFO,
                    "exporting to %s: %llu spans sent, %llu batches sent again (since the server's "
                    "start)",
                    pipeline->config->targets[0].name,
                    (unsigned long long) atomic_load(&stats->sent),
                    (unsigned long long) atomic_load(&stats->retried));
}
