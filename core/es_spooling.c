#include "es_spooling.h"

#include "es_clock.h"

#include <stdlib.h>

/* A collector that restarts is back before this. */
#define STAYS_AWAY (5 * ES_SECOND)

#define REPLAYING_MAX (ES_IN_FLIGHT_MAX / 2)

#define STORED_AT_ONCE 16

/* After the disk refused, it is left alone for so long. */
#define DISK_RETRY ES_SECOND

void
es_spooling_open(es_pipeline_t *pipeline)
{
    const es_exporter_config_t *config = pipeline->config;
    es_error_t error;

    if (config->spool == NULL) {
        return;
    }
    pipeline->spool = es_spool_open(config->spool, config->spool_max, &error);
    if (pipeline->spool == NULL) {
        es_provider_log(pipeline->provider, ES_LOG_ERROR,
                        "exporting to %s: there is no spool, spans wait in memory only: %s",
                        config->targets[0].name, error.text);
    }
}

bool
es_spooling_due(const es_pipeline_t *pipeline)
{
    const es_queue_t *queue = &pipeline->provider->generation->queue;
    uint64_t now = es_mono_ns();

    if (pipeline->spool == NULL || now < pipeline->spool_retry_at) {
        return false;
    }
    return (pipeline->failing && now - pipeline->failing_since >= STAYS_AWAY)
           || es_queue_free(queue) < queue->shared->chunks / 2;
}

/* Tells the statistics what the spool counted since the last time. */
static void
count(es_pipeline_t *pipeline)
{
    es_spool_counts_t counts = es_spool_counts(pipeline->spool);
    es_exporter_stats_t *stats = pipeline->stats;
    es_exporter_gauges_t *gauges =
        &pipeline->provider->generation->queue.shared->gauges[pipeline->index];

    es_stats_add(&stats->dropped[ES_DROP_SPOOL_FULL], counts.given_up - pipeline->spool_given_up);
    es_stats_add(&stats->dropped[ES_DROP_SPOOL_TORN], counts.torn - pipeline->spool_torn);
    pipeline->spool_given_up = counts.given_up;
    pipeline->spool_torn = counts.torn;
    atomic_store(&gauges->spool_bytes, counts.bytes);
    atomic_store(&gauges->spool_spans, counts.spans);

    if (counts.bytes == 0 && pipeline->spool_told) {
        pipeline->spool_told = false;
        es_provider_log(pipeline->provider, ES_LOG_NOTICE, "exporting to %s: the spool is empty",
                        pipeline->config->targets[0].name);
    }
}

void
es_spooling_close(es_pipeline_t *pipeline)
{
    if (pipeline->spool != NULL) {
        for (const es_batch_t *batch = pipeline->first; batch != NULL; batch = batch->next) {
            if (batch->state != ES_BATCH_SETTLED && batch->spooled != ES_SPOOLED_NOT) {
                es_spool_give_back(pipeline->spool, &batch->record);
            }
        }
        count(pipeline);
        es_spool_close(pipeline->spool);
        pipeline->spool = NULL;
    }
}

static bool
append(es_pipeline_t *pipeline, es_batch_t *batch, es_spooled_t *taken)
{
    es_str_t otlp = es_str(batch->otlp.data, batch->otlp.size);
    es_error_t error;

    if (es_spool_append(pipeline->spool, otlp, batch->spans, taken, &error)) {
        es_stats_add(&pipeline->stats->spooled, batch->spans);
        if (es_log_limit_take(&pipeline->stats->limits[ES_FAILURE_SPOOLED])) {
            pipeline->spool_told = true;
            es_provider_log(pipeline->provider, ES_LOG_NOTICE,
                            "exporting to %s: spans go to the spool %s for now",
                            pipeline->config->targets[0].name, pipeline->config->spool);
        }
        return true;
    }
    pipeline->spool_retry_at = es_mono_ns() + DISK_RETRY;
    if (es_log_limit_take(&pipeline->stats->limits[ES_FAILURE_SPOOL])) {
        es_provider_log(pipeline->provider, ES_LOG_WARN,
                        "exporting to %s: the spool takes nothing, spans wait in memory: %s",
                        pipeline->config->targets[0].name, error.text);
    }
    return false;
}

/* False: the spool takes nothing more. */
static bool
store(es_pipeline_t *pipeline, es_batch_t *batch)
{
    switch (batch->state) {
    case ES_BATCH_WAITING:
        if (!append(pipeline, batch, NULL)) {
            return false;
        }
        batch->state = ES_BATCH_SETTLED;
        pipeline->waiting--;
        return true;

    case ES_BATCH_SENT:
        if (!append(pipeline, batch, &batch->record)) {
            return false;
        }
        batch->spooled = ES_SPOOLED_MEANWHILE;
        pipeline->spooled_meanwhile++;
        return true;

    case ES_BATCH_SETTLED:
        break;
    }
    return true;
}

bool
es_spooling_store(es_pipeline_t *pipeline, bool flush)
{
    bool more = true;

    for (unsigned i = 0; more && i < STORED_AT_ONCE; i++) {
        for (es_batch_t *batch = pipeline->first; more && batch != NULL; batch = batch->next) {
            more = batch->spooled != ES_SPOOLED_NOT || store(pipeline, batch);
        }
        es_pipeline_settle(pipeline);
        more = more && es_pipeline_build(pipeline, flush);
    }
    count(pipeline);
    return more;
}

es_batch_t *
es_spooling_next(es_pipeline_t *pipeline)
{
    es_spooled_t record;
    es_batch_t *batch = NULL;

    /* What is under way and on the disk must not be sent by way of the disk, too,
     * before its answer came. */
    if (pipeline->spool == NULL || pipeline->replaying >= REPLAYING_MAX
        || pipeline->spooled_meanwhile != 0) {
        return NULL;
    }
    if (es_spool_take(pipeline->spool, &record)) {
        batch = calloc(1, sizeof(*batch));
        if (batch != NULL) {
            batch->spooled = ES_SPOOLED_TAKEN;
            batch->spans = record.spans;
            batch->otlp = record.otlp;
            batch->record = record;
            pipeline->replaying++;
        } else {
            es_buffer_free(&record.otlp); /* its next reader is the next to open */
        }
    }
    count(pipeline);
    return batch;
}

void
es_spooling_settled(es_pipeline_t *pipeline, es_batch_t *batch)
{
    if (batch->spooled == ES_SPOOLED_NOT) {
        return;
    }
    es_spool_settle(pipeline->spool, &batch->record);
    if (batch->spooled == ES_SPOOLED_TAKEN) {
        pipeline->replaying--;
    } else {
        pipeline->spooled_meanwhile--;
    }
    count(pipeline);
}

bool
es_spooling_failed(es_pipeline_t *pipeline, const es_batch_t *batch)
{
    if (batch->spooled != ES_SPOOLED_MEANWHILE) {
        return false;
    }
    es_spool_give_back(pipeline->spool, &batch->record);
    pipeline->spooled_meanwhile--;
    count(pipeline);
    return true;
}
