/* The status of a server, for people and programs: one tree of facts, written as
 * JSON or as lines of "path value", so that both have the same names. */

#include "es_status.h"
#include "es_clock.h"
#include "es_keep.h"
#include "es_protocol.h"
#include "es_provider.h"
#include "es_sampler.h"
#include "es_str.h"
#include "es_utf8.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---------------------------------------------------------------- facts --- */

/* Jansson takes NULL for a value and reports it: one failure of all is enough to
 * know that the page would lack something. */
typedef struct es_page {
    const es_generation_t *generation;
    uint64_t wall_ns, mono_ns;
    bool failed;
} es_page_t;

static void
put(es_page_t *page, json_t *object, const char *key, json_t *value)
{
    page->failed |= json_object_set_new(object, key, value) != 0;
}

/* An object or an array to be filled; NULL if that failed. */
static json_t *
put_new(es_page_t *page, json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0) {
        page->failed = true;
        return NULL;
    }
    return value;
}

static json_t *
put_object(es_page_t *page, json_t *object, const char *key)
{
    return put_new(page, object, key, json_object());
}

static json_t *
put_array(es_page_t *page, json_t *object, const char *key)
{
    return put_new(page, object, key, json_array());
}

static void
append(es_page_t *page, json_t *array, json_t *value)
{
    page->failed |= json_array_append_new(array, value) != 0;
}

static void
put_number(es_page_t *page, json_t *object, const char *key, uint64_t value)
{
    put(page, object, key, json_integer((json_int_t) value));
}

static void
put_counter(es_page_t *page, json_t *object, const char *key, const _Atomic uint64_t *counter)
{
    put_number(page, object, key, es_stats_get(counter));
}

/* To the millisecond. */
static void
put_seconds(es_page_t *page, json_t *object, const char *key, uint64_t ns)
{
    put(page, object, key, json_real((double) (ns / ES_MS) / 1000));
}

/* RFC 3339, UTC, milliseconds; 0 is null. */
static void
put_time(es_page_t *page, json_t *object, const char *key, uint64_t wall_ns)
{
    time_t seconds = (time_t) (wall_ns / ES_SECOND);
    char date[32], text[64];
    struct tm tm;

    if (wall_ns == 0 || gmtime_r(&seconds, &tm) == NULL) {
        put(page, object, key, json_null());
        return;
    }
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, sizeof(text), "%s.%03uZ", date, (unsigned) (wall_ns % ES_SECOND / ES_MS));
    put(page, object, key, json_string(text));
}

/* Others' words: one line of valid UTF-8. NULL: no memory. */
static json_t *
text_json(const char *text)
{
    es_utf8_t utf8 = es_utf8_measure(es_cstr(text), SIZE_MAX);
    char *clean = malloc(utf8.size + 1);
    json_t *json;

    if (clean == NULL) {
        return NULL;
    }
    es_utf8_write((uint8_t *) clean, utf8);
    clean[utf8.size] = '\0';
    es_make_printable(clean);
    json = json_string(clean);
    free(clean);
    return json;
}

static void
put_text(es_page_t *page, json_t *object, const char *key, const char *text)
{
    put(page, object, key, text_json(text));
}

static uint64_t
since(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

static void
put_server(es_page_t *page, json_t *root)
{
    const es_stats_t *stats = page->generation->stats;
    uint64_t started_ns = es_stats_get(&stats->started_ns);
    json_t *server = put_object(page, root, "server");

    put_text(page, server, "product", page->generation->config->product);
    put(page, server, "version", json_string(EDGESPAN_VERSION));
    put_time(page, server, "time", page->wall_ns);
    put_time(page, server, "started", started_ns);
    put_seconds(page, server, "uptime_seconds", since(started_ns, page->wall_ns));
    put_time(page, server, "configured", page->generation->created_ns);
}

static void
put_leader(es_page_t *page, json_t *root)
{
    const es_generation_t *generation = page->generation;
    const es_queue_shared_t *shared = generation->queue.shared;
    uint64_t heartbeat_ns = es_stats_get(&shared->heartbeat_ns);
    uint32_t pid = atomic_load_explicit(&shared->leader_pid, memory_order_relaxed);
    json_t *leader = put_object(page, root, "leader");

    put(page, leader, "pid", pid != 0 ? json_integer(pid) : json_null());
    if (heartbeat_ns != 0) {
        put_seconds(page, leader, "heartbeat_age_seconds", since(heartbeat_ns, page->mono_ns));
    } else {
        put(page, leader, "heartbeat_age_seconds", json_null());
    }
    put_number(page, leader, "deaths_in_a_row", atomic_load(&shared->leader_deaths));
    put_seconds(page, leader, "cpu_seconds", es_stats_get(&generation->stats->cpu_ns));
}

static void
put_drops(es_page_t *page, json_t *object, const es_exporter_stats_t *exporter)
{
    json_t *dropped = put_object(page, object, "dropped");

    for (unsigned i = 0; i < ES_DROPS; i++) {
        put_number(page, dropped, es_drop_token((es_drop_t) i),
                   exporter != NULL ? es_stats_get(&exporter->dropped[i])
                                    : es_stats_dropped(page->generation->stats, (es_drop_t) i));
    }
}

static uint64_t
sum_decisions(const es_stats_t *stats, es_decision_t decision)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < ES_STRIPES; i++) {
        sum += es_stats_get(&stats->stripes[i].decisions[decision]);
    }
    return sum;
}

static uint64_t
sum_kept(const es_stats_t *stats, es_keep_t keep)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < ES_STRIPES; i++) {
        sum += es_stats_get(&stats->stripes[i].kept[keep]);
    }
    return sum;
}

static uint64_t
sum_queued(const es_stats_t *stats, es_span_kind_t kind)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < ES_STRIPES; i++) {
        sum += es_stats_get(&stats->stripes[i].queued[kind - 1]);
    }
    return sum;
}

static void
put_spans(es_page_t *page, json_t *root)
{
    const es_stats_t *stats = page->generation->stats;
    json_t *spans = put_object(page, root, "spans"), *decided, *kept, *queued;
    uint64_t counts[ES_DECISIONS], started = 0, sampled = 0;

    for (unsigned i = 0; i < ES_DECISIONS; i++) {
        counts[i] = sum_decisions(stats, (es_decision_t) i);
        started += counts[i];
        sampled += es_decisions[i].sampled ? counts[i] : 0;
    }
    put_number(page, spans, "started", started);
    put_number(page, spans, "sampled", sampled);

    decided = put_object(page, spans, "decided");
    for (unsigned i = 0; i < ES_DECISIONS; i++) {
        char key[64];

        snprintf(key, sizeof(key), "%s_%s", es_decisions[i].token,
                 es_decisions[i].sampled ? "sampled" : "unsampled");
        put_number(page, decided, key, counts[i]);
    }

    kept = put_object(page, spans, "kept");
    for (unsigned i = 0; i < ES_KEEPS; i++) {
        es_str_t reason = es_keep_reason((es_keep_t) i);

        if (reason.len != 0) {
            put_number(page, kept, reason.data, sum_kept(stats, (es_keep_t) i));
        }
    }
    put_number(page, spans, "keep_limited", sum_kept(stats, ES_KEEP_LIMIT));

    queued = put_object(page, spans, "queued");
    put_number(page, queued, "server", sum_queued(stats, ES_KIND_SERVER));
    put_number(page, queued, "client", sum_queued(stats, ES_KIND_CLIENT));
    put_number(page, queued, "internal", sum_queued(stats, ES_KIND_INTERNAL));
    put_drops(page, spans, NULL);
}

static void
put_queue(es_page_t *page, json_t *root)
{
    const es_queue_t *queue = &page->generation->queue;
    uint32_t chunks = queue->shared->chunks, taken = es_queue_taken(queue);
    json_t *object = put_object(page, root, "queue");

    put_number(page, object, "size_bytes", (uint64_t) chunks * ES_CHUNK_SIZE);
    put_number(page, object, "chunks", chunks);
    put_number(page, object, "chunks_free", chunks - taken);
    put_number(page, object, "fill_percent", chunks != 0 ? (uint64_t) taken * 100 / chunks : 0);
}

/* To four digits, as it was given: a threshold is nearly that. */
static void
put_probability(es_page_t *page, json_t *object, const char *key, uint64_t threshold)
{
    char text[32];

    snprintf(text, sizeof(text), "%.4g", es_threshold_probability(threshold));
    put(page, object, key, json_real(strtod(text, NULL)));
}

/* What is in force now; an empty list without an override, too. */
static void
put_override(es_page_t *page, json_t *root)
{
    const es_override_shared_t *shared = page->generation->override;
    json_t *list = put_array(page, root, "override");
    es_override_t override;

    if (shared == NULL) {
        return;
    }
    es_override_read(shared, &override);
    for (unsigned i = 0; i < override.count; i++) {
        const es_override_entry_t *entry = &override.entries[i];
        json_t *object;

        if (entry->until_ns > page->wall_ns) {
            object = json_object();
            put_text(page, object, "path", entry->length != 0 ? entry->path : "/");
            put_probability(page, object, "probability", entry->threshold);
            put_time(page, object, "until", entry->until_ns);
            append(page, list, object);
        }
    }
}

static void
put_limits(es_page_t *page, json_t *root)
{
    const es_generation_t *generation = page->generation;
    json_t *list = put_array(page, root, "limits");

    for (unsigned i = 0; i < generation->config->limits_count; i++) {
        const es_limit_t *limit = &generation->config->limits[i];
        const es_limit_state_t *state = &generation->stats->limits[i];
        json_t *object = json_object();

        put_text(page, object, "place", limit->place != NULL ? limit->place : "");
        put(page, object, "of", json_string(limit->of_kept ? "kept" : "sampled"));
        put(page, object, "per_second", json_real(limit->per_second));
        put_counter(page, object, "refused", &state->refused);
        put(page, object, "state",
            json_string(es_limit_refuses(state, page->mono_ns) ? "refusing" : "open"));
        append(page, list, object);
    }
}

static void
put_targets(es_page_t *page, json_t *root)
{
    const es_generation_t *generation = page->generation;
    json_t *list = put_array(page, root, "targets");

    for (unsigned i = 0; i < generation->config->targets_count; i++) {
        const es_sample_target_t *target = &generation->config->targets[i];
        json_t *object = json_object();

        put_text(page, object, "place", target->place != NULL ? target->place : "");
        put(page, object, "per_second", json_real(target->per_second));
        put_probability(page, object, "probability",
                        es_target_threshold(target, &generation->stats->targets[i]));
        append(page, list, object);
    }
}

static const char *
state_of(const es_exporter_gauges_t *gauges, const es_exporter_stats_t *stats)
{
    if (atomic_load_explicit(&gauges->failing, memory_order_relaxed)) {
        return "failing";
    }
    return es_stats_get(&stats->succeeded_ns) != 0 ? "working" : "idle";
}

static json_t *
exporter_facts(es_page_t *page, unsigned index)
{
    const es_generation_t *generation = page->generation;
    const es_exporter_config_t *config = generation->config->exporters[index];
    const es_exporter_gauges_t *gauges = &generation->queue.shared->gauges[index];
    const es_exporter_stats_t *stats = &generation->stats->exporters[index];
    json_t *exporter = json_object(), *endpoints, *last_error, *spool;
    char text[ES_LAST_ERROR_SIZE] = "";
    uint64_t error_ns;

    endpoints = put_array(page, exporter, "endpoints");
    for (unsigned i = 0; i < config->targets_count; i++) {
        append(page, endpoints, text_json(config->targets[i].name));
    }
    put(page, exporter, "protocol", json_string(config->protocol->name));
    put(page, exporter, "state", json_string(state_of(gauges, stats)));
    put_number(page, exporter, "queued_bytes", es_queue_pending_bytes(&generation->queue, index));
    put_number(page, exporter, "waiting_batches", atomic_load(&gauges->waiting));
    put_number(page, exporter, "in_flight_batches", atomic_load(&gauges->in_flight));
    put_counter(page, exporter, "sent_spans", &stats->sent);
    put_counter(page, exporter, "sent_batches", &stats->batches);
    put_counter(page, exporter, "sent_bytes", &stats->bytes);
    put_counter(page, exporter, "retried_batches", &stats->retried);
    put_drops(page, exporter, stats);

    spool = put_object(page, exporter, "spool");
    put_counter(page, spool, "bytes", &gauges->spool_bytes);
    put_counter(page, spool, "spans", &gauges->spool_spans);
    put_counter(page, spool, "spooled_spans", &stats->spooled);

    put_time(page, exporter, "last_success", es_stats_get(&stats->succeeded_ns));
    last_error = put_object(page, exporter, "last_error");
    if (!es_last_error_get(&stats->last_error, &error_ns, text)) {
        error_ns = 0;
    }
    put_time(page, last_error, "time", error_ns);
    put_text(page, last_error, "message", text);
    return exporter;
}

static json_t *
facts(es_page_t *page)
{
    json_t *root = json_object(), *exporters;

    put_server(page, root);
    put_leader(page, root);
    put_spans(page, root);
    put_limits(page, root);
    put_targets(page, root);
    put_override(page, root);
    put_queue(page, root);
    exporters = put_array(page, root, "exporters");
    for (unsigned i = 0; i < page->generation->config->exporters_count; i++) {
        append(page, exporters, exporter_facts(page, i));
    }
    if (page->failed) {
        json_decref(root);
        return NULL;
    }
    return root;
}

/* ------------------------------------------------------------------ page --- */

char *
es_status(const es_generation_t *generation, es_status_format_t format, size_t *length)
{
    es_page_t page = {
        .generation = generation,
        .wall_ns = es_wall_ns(),
        .mono_ns = es_mono_ns(),
    };
    json_t *root = facts(&page);
    char *text = NULL;
    FILE *out = root != NULL ? open_memstream(&text, length) : NULL;
    bool ok;

    if (out == NULL) {
        json_decref(root);
        return NULL;
    }
    if (format == ES_STATUS_JSON) {
        page.failed = json_dumpf(root, out, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) != 0;
        fputc('\n', out);
    } else {
        es_status_write_text(out, root);
    }
    json_decref(root);

    ok = !page.failed && !ferror(out);
    if (fclose(out) != 0 || !ok) {
        free(text);
        return NULL;
    }
    return text;
}
