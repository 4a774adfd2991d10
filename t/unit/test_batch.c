/* Batches out of a queue whose records are of several resources: none is lost,
 * none comes twice, and no cursor passes what is not settled. */

#include "unit.h"

#include "es_pipeline.h"
#include "es_provider.h"

enum { SERVICES = 4, IDS = 60000, PRODUCERS = 4 };

static uint64_t next_id;
static uint16_t resource_of[IDS];
static uint8_t delivered[IDS]; /* how often */
static uint8_t settled[IDS];   /* the cursors are behind it */

static es_config_t *
make_config(const char *protocol, const char *batch_size)
{
    es_config_t *config = es_config_create("batch", &unit_log);
    es_exporter_config_t *exporter;
    es_error_t error;

    assert_non_null(config);
    assert_true(es_config_exporter(config, &exporter, &error));
    assert_true(es_exporter_option(exporter, ES_STR("endpoint"), ES_STR("http://h:1/x"), &error));
    assert_true(es_exporter_option(exporter, ES_STR("protocol"), es_cstr(protocol), &error));
    assert_true(es_exporter_option(exporter, ES_STR("batch_size"), es_cstr(batch_size), &error));
    assert_true(es_exporter_finish(exporter, &error));
    for (unsigned i = 1; i < SERVICES; i++) {
        char name[] = {'s', (char) ('0' + i)};
        uint16_t index;

        assert_true(es_config_resource(config, es_str(name, 2), &index, &error));
        assert_int_equal(index, i);
    }
    assert_true(es_config_service_name(config, ES_STR("s0"), &error));
    assert_true(es_config_finish(config, 1, &error));
    return config;
}

/* A span that has its number for an id. */
static bool
push(es_producer_t *producer, uint16_t resource)
{
    EsOtlp__Span span = ES_OTLP__SPAN__INIT;
    uint8_t bytes[64];
    bool wake;

    span.span_id = (ProtobufCBinaryData){sizeof(next_id), (uint8_t *) &next_id};
    if (es_producer_push(producer, resource, es_str(bytes, es_otlp__span__pack(&span, bytes)),
                         &wake)
        != ES_PUSH_OK) {
        return false;
    }
    resource_of[next_id++] = resource;
    return true;
}

/* Counts a batch's spans as delivered; says how many resources there were. */
static void
deliver(unit_random_t *random, const es_batch_t *batch, bool one_resource)
{
    EsOtlp__TracesData *data =
        es_otlp__traces_data__unpack(NULL, batch->otlp.size, batch->otlp.data);
    unsigned spans = 0;

    assert_non_null(data);
    unit_assert(random, !one_resource || data->n_resource_spans == 1);
    for (size_t i = 0; i < data->n_resource_spans; i++) {
        const EsOtlp__ResourceSpans *resource_spans = data->resource_spans[i];
        const EsOtlp__ScopeSpans *scope_spans = resource_spans->scope_spans[0];
        const char *service = NULL;

        for (size_t j = 0; j < resource_spans->resource->n_attributes; j++) {
            const EsOtlp__KeyValue *attribute = resource_spans->resource->attributes[j];

            if (strcmp(attribute->key, "service.name") == 0) {
                service = attribute->value->string_value;
            }
        }
        assert_non_null(service);
        for (size_t j = 0; j < scope_spans->n_spans; j++) {
            uint64_t id;

            memcpy(&id, scope_spans->spans[j]->span_id.data, sizeof(id));
            unit_assert(random, id < next_id);
            unit_assert(random, settled[id] == 0);
            /* A record with an index that is none is the default resource's. */
            unit_assert(random,
                        service[1] == '0' + (resource_of[id] < SERVICES ? resource_of[id] : 0));
            delivered[id]++;
            spans++;
        }
    }
    unit_assert(random, spans == batch->spans);
    es_otlp__traces_data__free_unpacked(data, NULL);
}

/* What lies behind the cursors is never read again. */
static void
acknowledge(es_queue_t *queue, es_batch_t *batch)
{
    for (unsigned i = 0; i < batch->ranges_count; i++) {
        es_range_t range = batch->ranges[i], left = range;
        es_record_t record;
        uint64_t corrupt = 0;

        while (es_queue_read(queue, &left, &record, &corrupt)) {
            EsOtlp__Span *span =
                es_otlp__span__unpack(NULL, record.span.len, (const uint8_t *) record.span.data);
            uint64_t id;

            assert_non_null(span);
            memcpy(&id, span->span_id.data, sizeof(id));
            assert_true(delivered[id] != 0);
            settled[id] = 1;
            es_otlp__span__free_unpacked(span, NULL);
        }
        es_queue_acknowledge(queue, range.chunk, 0, range.to);
    }
    es_batch_free(batch);
}

typedef struct run {
    unit_random_t random;
    es_generation_t *generation;
    es_reader_t reader;
    es_batch_t *line[64]; /* oldest first */
    unsigned count;
    bool one_resource;
    unsigned batches, splits, deaths;
} run_t;

/* Reads a batch and takes it for delivered; settles some from the head. */
static bool
turn(run_t *run, bool flush)
{
    uint64_t corrupt = 0;
    es_batch_t *batch =
        run->count < UNIT_COUNT(run->line) ? es_reader_next(&run->reader, flush, &corrupt) : NULL;
    unsigned settle = unit_random_below(&run->random, run->count + 2);

    unit_assert(&run->random, corrupt == 0);
    if (batch != NULL) {
        deliver(&run->random, batch, run->one_resource);
        run->line[run->count++] = batch;
        run->batches++;
        run->splits += batch->ranges_count == 0;
    }
    settle = settle < run->count ? settle : run->count;
    for (unsigned i = 0; i < settle; i++) {
        acknowledge(&run->generation->queue, run->line[i]);
    }
    run->count -= settle;
    memmove(run->line, run->line + settle, run->count * sizeof(run->line[0]));
    return batch != NULL || run->count != 0;
}

/* A leader that dies forgets all; the next begins at the cursors. */
static void
die(run_t *run)
{
    for (unsigned i = 0; i < run->count; i++) {
        es_batch_free(run->line[i]);
    }
    run->count = 0;
    run->deaths++;
    es_reader_close(&run->reader);
    assert_true(es_reader_open(&run->reader, run->generation, 0));
}

static void
mixed(const char *protocol, const char *batch_size, bool one_resource, bool deaths)
{
    es_config_t *config = make_config(protocol, batch_size);
    void *queue_area = aligned_alloc(64, es_queue_area_size(config));
    void *stats_area = calloc(1, es_stats_area_size());
    run_t run = {.random = unit_random_init(), .one_resource = one_resource};
    es_producer_t producers[PRODUCERS];
    unsigned doubled = 0, since_death = 0;
    es_error_t error;

    assert_true(es_generation_create(&run.generation, config, queue_area, stats_area, &error));
    assert_true(es_reader_open(&run.reader, run.generation, 0));
    next_id = 0;
    memset(delivered, 0, sizeof(delivered));
    memset(settled, 0, sizeof(settled));
    for (unsigned i = 0; i < PRODUCERS; i++) {
        es_producer_init(&producers[i], &run.generation->queue, i);
    }

    while (next_id < IDS) {
        unsigned burst = unit_random_below(&run.random, 400);

        for (unsigned i = 0; i < burst && next_id < IDS; i++) {
            unsigned resource = unit_random_below(&run.random, SERVICES);

            /* Rarely an index that is none. */
            if (unit_random_below(&run.random, 1000) == 0) {
                resource = 60000 + resource;
            }
            push(&producers[unit_random_below(&run.random, PRODUCERS)], (uint16_t) resource);
        }
        for (unsigned i = unit_random_below(&run.random, 12); i != 0; i--) {
            turn(&run, unit_random_below(&run.random, 2) != 0);
        }
        /* With batches on their way. */
        if (deaths && ++since_death > 20 && run.count != 0) {
            die(&run);
            since_death = 0;
        }
        es_queue_reclaim(&run.generation->queue);
    }
    while (turn(&run, true)) {
    }

    for (uint32_t i = 0; i < es_queue_used(&run.generation->queue); i++) {
        es_range_t left = es_queue_pending(&run.generation->queue, i, 0);

        unit_assert(&run.random, left.from >= left.to);
    }
    for (unsigned id = 0; id < IDS; id++) {
        unit_assert(&run.random, delivered[id] != 0 && settled[id] == 1);
        doubled += delivered[id] > 1;
    }
    unit_assert(&run.random, deaths == (doubled != 0));
    unit_assert(&run.random, deaths == (run.deaths != 0));
    unit_assert(&run.random, one_resource == (run.splits != 0));
    /* Split by service, not span by span. */
    unit_assert(&run.random, deaths || IDS / run.batches > 5);

    es_reader_close(&run.reader);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        es_producer_dispose(&producers[i]);
    }
    es_generation_destroy(run.generation);
    es_config_destroy(config);
    free(queue_area);
    free(stats_area);
}

static void
one_resource(void **state)
{
    (void) state;
    mixed("jaeger", "100", true, false);
    mixed("jaeger", "512", true, false);
}

static void
one_resource_and_deaths(void **state)
{
    (void) state;
    mixed("jaeger", "100", true, true);
}

static void
all_together(void **state)
{
    (void) state;
    mixed("zipkin", "100", false, false);
    mixed("http/protobuf", "100", false, true);
}

/* ----------------------------------------------------- a leader that stops --- */

enum { RESOURCES = 40 };

static es_delivery_t *under_way[RESOURCES];
static unsigned under_way_count, sent;

static void *
hold_open(const es_exporter_config_t *exporter, struct es_transport *transport, es_error_t *error)
{
    (void) exporter;
    (void) transport;
    (void) error;
    return under_way;
}

static bool
hold_frame(const es_exporter_config_t *exporter, es_str_t body, es_buffer_t *framed)
{
    (void) exporter;
    (void) body;
    (void) framed;
    return true;
}

static void
hold_send(void *sender, es_delivery_t *delivery)
{
    (void) sender;
    assert_true(under_way_count < ES_IN_FLIGHT_MAX);
    under_way[under_way_count++] = delivery;
    sent++;
}

static void
hold_close(void *sender)
{
    (void) sender;
}

static void
answer_all(void)
{
    es_result_t result = {.outcome = ES_DELIVERED};
    unsigned count = under_way_count;

    under_way_count = 0;
    while (count != 0) {
        es_delivery_t *delivery = under_way[--count];

        delivery->done(delivery, &result);
    }
}

/* It has sent a part of what it collected: it sends the rest, or the next leader
 * would send that part again; and nothing that it has not collected. */
static void
stop_midway(void **state)
{
    static const es_sender_t sender = {hold_open, hold_frame, hold_send, hold_close, false};
    static const es_format_t format = {.content_type = "x", .one_resource = true};
    static const es_protocol_t protocol = {"hold", &format, &sender, NULL, NULL};
    es_config_t *config = make_config("jaeger", "40");
    void *queue_area = aligned_alloc(64, es_queue_area_size(config));
    void *stats_area = calloc(1, es_stats_area_size());
    es_provider_t provider = {.log = unit_log};
    es_producer_t producer;
    es_pipeline_t pipeline;
    es_range_t left;
    es_error_t error;

    (void) state;
    config->exporters[0]->protocol = &protocol;
    assert_true(es_generation_create(&provider.generation, config, queue_area, stats_area, &error));
    es_producer_init(&producer, &provider.generation->queue, 0);
    assert_true(es_pipeline_open(&pipeline, &provider, 0, NULL, &error));

    next_id = 0;
    for (unsigned i = 0; i < RESOURCES; i++) {
        assert_true(push(&producer, (uint16_t) i));
    }
    es_pipeline_turn(&pipeline, ES_TURN_NORMAL, 0);
    assert_int_equal(sent, ES_IN_FLIGHT_MAX);
    assert_true(push(&producer, 0)); /* for the next leader */
    left = es_queue_pending(&provider.generation->queue, 0, 0);

    for (unsigned expected = ES_IN_FLIGHT_MAX; expected < RESOURCES;) {
        assert_false(es_pipeline_idle(&pipeline, false));
        answer_all();
        assert_false(es_pipeline_idle(&pipeline, false));
        assert_true(es_queue_pending(&provider.generation->queue, 0, 0).from == left.from);
        es_pipeline_turn(&pipeline, ES_TURN_FINISH, 0);
        expected =
            expected + ES_IN_FLIGHT_MAX < RESOURCES ? expected + ES_IN_FLIGHT_MAX : RESOURCES;
        assert_int_equal(sent, expected);
    }
    answer_all();
    assert_true(es_pipeline_idle(&pipeline, false));
    es_pipeline_turn(&pipeline, ES_TURN_FINISH, 0);
    assert_int_equal(sent, RESOURCES);
    left.from = es_queue_pending(&provider.generation->queue, 0, 0).from;
    assert_true(left.from < left.to);

    es_pipeline_close(&pipeline);
    es_producer_dispose(&producer);
    es_generation_destroy(provider.generation);
    es_config_destroy(config);
    free(queue_area);
    free(stats_area);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_resource),
        cmocka_unit_test(one_resource_and_deaths),
        cmocka_unit_test(all_together),
        cmocka_unit_test(stop_midway),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
