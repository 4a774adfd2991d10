/* What is recorded after all when a request has ended, and how it is exported. */

#include "unit_propagation.h"

#include "es_clock.h"
#include "es_keep.h"

#define UNSAMPLED "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
#define SAMPLED "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

/* ------------------------------------------------------------- a process --- */

static es_config_t *config;
static es_generation_t *generation;
static es_provider_t provider;
static void *queue, *stats;
static es_propagation_t propagation;
static EsOtlp__Span *span;

/* With an exporter that nobody runs. */
static int
setup(void **state)
{
    es_exporter_config_t *exporter;
    es_error_t error;

    (void) state;
    config = es_config_create("unit", &unit_log);
    assert_true(es_config_exporter(config, &exporter, &error));
    assert_true(
        es_exporter_option(exporter, ES_STR("endpoint"), ES_STR("http://127.0.0.1:4318"), &error));
    assert_true(es_exporter_finish(exporter, &error));
    assert_true(es_config_finish(config, 1, &error));
    queue = unit_area(es_queue_area_size(config));
    stats = unit_area(es_stats_area_size());
    assert_true(es_generation_create(&generation, config, queue, stats, &error));
    provider.generation = generation;
    provider.stripe = &generation->stats->stripes[0];
    assert_true(es_id_generator_init(&provider.ids));
    es_producer_init(&provider.producer, &generation->queue, 0);
    propagation = unit_propagation("tracecontext");
    return 0;
}

static int
teardown(void **state)
{
    if (span != NULL) {
        es_otlp__span__free_unpacked(span, NULL);
        span = NULL;
    }
    es_producer_dispose(&provider.producer);
    es_generation_destroy(generation);
    es_config_destroy(config);
    free(queue);
    free(stats);
    return unit_release(state);
}

static es_sampling_t
keep(const char *words)
{
    es_sampling_t sampling = {0};
    es_str_t list[8];
    es_error_t error;

    if (!es_sampling_keep(config, &sampling, list, unit_words(words, list, 8), "f:5", &error)) {
        fail_msg("%s: %s", words, error.text);
    }
    return sampling;
}

static es_trace_t
request(es_trust_t trust, const char *traceparent, const char *tracestate)
{
    es_carrier_t carrier;
    es_trace_t trace;

    es_trace_init(&trace, &provider, &unit_pool);
    es_carrier_init(&carrier, &trace, &propagation);
    unit_carrier_add(&carrier, "traceparent", traceparent);
    unit_carrier_add(&carrier, "tracestate", tracestate);
    es_trace_join(&trace, &propagation, trust, &carrier);
    return trace;
}

/* One that the caller did not sample. */
static es_trace_t
dropped(const es_sampling_t *sampling)
{
    es_trace_t trace = request(ES_TRUST_ON, UNSAMPLED, "ot=th:8,a=1");

    es_trace_decide(&trace, sampling, ES_THRESHOLD_DEFAULT, ES_STR("/"));
    es_trace_seal(&trace);
    assert_false(es_trace_sampled(&trace));
    return trace;
}

/* The span that is in the queue now; NULL if there is none. */
static const EsOtlp__Span *
exported(void)
{
    es_range_t range;
    es_record_t record;
    uint64_t corrupt = 0;

    if (span != NULL) {
        es_otlp__span__free_unpacked(span, NULL);
        span = NULL;
    }
    if (es_queue_used(&generation->queue) == 0) {
        return NULL;
    }
    range = es_queue_pending(&generation->queue, 0, 0);
    if (range.from < range.to && es_queue_read(&generation->queue, &range, &record, &corrupt)) {
        span = es_otlp__span__unpack(NULL, record.span.len, (const uint8_t *) record.span.data);
        assert_non_null(span);
        es_queue_acknowledge(&generation->queue, 0, 0, range.from);
    }
    assert_int_equal(corrupt, 0);
    return span;
}

static const char *
attribute(const char *key)
{
    for (size_t i = 0; i < span->n_attributes; i++) {
        if (strcmp(span->attributes[i]->key, key) == 0) {
            return span->attributes[i]->value->string_value;
        }
    }
    return NULL;
}

static es_http_t
server_span(const es_trace_t *trace, unsigned status)
{
    return (es_http_t){
        .kind = ES_KIND_SERVER,
        .method = ES_STR("GET"),
        .target = ES_STR("/"),
        .status = status,
        .request_body_size = -1,
        .response_body_size = -1,
        .first_byte_mono_ns = trace->start_mono_ns + ES_MS,
        .end_mono_ns = trace->start_mono_ns + 2 * ES_MS,
    };
}

/* ------------------------------------------------------------------ rules --- */

static void
rules(void **state)
{
    static const struct {
        const char *words;
        unsigned status;
        const char *error_type;
        unsigned first_byte_ms, end_ms; /* since the begin; 0: none was sent */
        es_keep_t why;
    } rows[] = {
        {"error", 200, "", 1, 2, ES_KEEP_NOT},
        {"error", 404, "", 1, 2, ES_KEEP_NOT},
        {"error", 500, "", 1, 2, ES_KEEP_ERROR},
        {"error", 599, "", 1, 2, ES_KEEP_ERROR},
        {"error", 200, "upstream_response_truncated", 1, 2, ES_KEEP_ERROR},
        {"error", 0, "", 0, 2, ES_KEEP_NOT},

        /* Until the first byte; until the end where none came. */
        {"slow=1s", 200, "", 999, 5000, ES_KEEP_NOT},
        {"slow=1s", 200, "", 1000, 5000, ES_KEEP_SLOW},
        {"slow=1s", 0, "", 0, 999, ES_KEEP_NOT},
        {"slow=1s", 0, "", 0, 1000, ES_KEEP_SLOW},
        {"slow=20ms", 200, "", 20, 20, ES_KEEP_SLOW},

        {"status=429", 429, "", 1, 2, ES_KEEP_STATUS},
        {"status=429", 428, "", 1, 2, ES_KEEP_NOT},
        {"status=429", 0, "", 0, 2, ES_KEEP_NOT},
        {"status=429 status=404", 404, "", 1, 2, ES_KEEP_STATUS},
        {"status=4xx", 399, "", 1, 2, ES_KEEP_NOT},
        {"status=4xx", 400, "", 1, 2, ES_KEEP_STATUS},
        {"status=4xx", 499, "", 1, 2, ES_KEEP_STATUS},
        {"status=4xx", 500, "", 1, 2, ES_KEEP_NOT},
        {"status=1XX", 100, "", 1, 2, ES_KEEP_STATUS},
        {"status=5xx", 599, "", 1, 2, ES_KEEP_STATUS},
        {"status=5xx", 600, "", 1, 2, ES_KEEP_NOT},
        {"status=5xx", 999, "", 1, 2, ES_KEEP_NOT},
        {"status=5xx", 99, "", 1, 2, ES_KEEP_NOT},

        /* The first of them says why. */
        {"status=5xx slow=1s error", 503, "", 2000, 2000, ES_KEEP_ERROR},
        {"status=5xx slow=1s", 503, "", 2000, 2000, ES_KEEP_SLOW},
        {"status=5xx slow=1s", 503, "", 1, 2, ES_KEEP_STATUS},
        {"status=429 slow=1s error", 200, "", 1, 2, ES_KEEP_NOT},
        {"off", 500, "", 2000, 2000, ES_KEEP_NOT},
    };
    const uint64_t begin = 100 * ES_SECOND;

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_sampling_t sampling = keep(rows[i].words);
        es_http_t http = {
            .kind = ES_KIND_SERVER,
            .status = rows[i].status,
            .error_type = es_cstr(rows[i].error_type),
            .first_byte_mono_ns = rows[i].first_byte_ms ? begin + rows[i].first_byte_ms * ES_MS : 0,
            .end_mono_ns = begin + rows[i].end_ms * ES_MS,
        };

        if (es_keep_why(&sampling, &http, begin) != rows[i].why) {
            fail_msg("row %zu: %s", i, rows[i].words);
        }
    }
}

/* ----------------------------------------------------------------- export --- */

static void
kept(void **state)
{
    es_sampling_t sampling = keep("error slow=1s status=429");
    es_trace_t trace = dropped(&sampling);
    es_http_t http = server_span(&trace, 200), client = http;
    char text[ES_DECISION_TEXT];
    const uint8_t client_id[ES_SPAN_ID_LEN] = {7};

    (void) state;
    assert_true(es_trace_recording(&trace));
    assert_false(es_trace_keep(&trace, &http));
    es_trace_http(&trace, &http);
    assert_null(exported());
    unit_assert_str(es_trace_decision(&trace, text), "drop parent");

    http.status = 429;
    assert_true(es_trace_keep(&trace, &http));
    unit_assert_str(es_trace_decision(&trace, text), "keep status (f:5)");
    assert_int_equal(provider.stripe->kept[ES_KEEP_STATUS], 1);

    es_trace_http(&trace, &http);
    assert_non_null(exported());
    assert_string_equal(attribute("edgespan.sampling.reason"), "status");
    assert_int_equal(span->flags, 0x300);
    assert_string_equal(span->trace_state, "a=1");
    assert_int_equal(span->n_links, 0);

    client.kind = ES_KIND_CLIENT;
    client.span_id = client_id;
    client.start_mono_ns = trace.start_mono_ns;
    es_trace_http(&trace, &client);
    assert_non_null(exported());
    assert_int_equal(span->kind, ES_KIND_CLIENT);
    assert_string_equal(attribute("edgespan.sampling.reason"), "status");
    assert_int_equal(span->flags, 0x100);

    /* Who was sampled has no such reason. */
    trace = request(ES_TRUST_ON, SAMPLED, "a=1");
    es_trace_decide(&trace, &sampling, ES_THRESHOLD_DEFAULT, ES_STR("/"));
    es_trace_seal(&trace);
    http = server_span(&trace, 500);
    es_trace_http(&trace, &http);
    assert_non_null(exported());
    assert_null(attribute("edgespan.sampling.reason"));
    assert_int_equal(span->flags, 0x301);
}

static void
limited(void **state)
{
    es_sampling_t sampling = keep("error limit=1r/m");
    es_trace_t trace = dropped(&sampling);
    es_http_t http = server_span(&trace, 500);
    char text[ES_DECISION_TEXT];

    (void) state;
    assert_true(es_trace_keep(&trace, &http));
    trace = dropped(&sampling);
    http.status = 200;
    assert_false(es_trace_keep(&trace, &http));
    assert_int_equal(generation->stats->limits[0].refused, 0);

    http.status = 500;
    assert_false(es_trace_keep(&trace, &http));
    unit_assert_str(es_trace_decision(&trace, text), "drop keep limit (f:5)");
    es_trace_http(&trace, &http);
    assert_null(exported());
    assert_int_equal(provider.stripe->kept[ES_KEEP_ERROR], 1);
    assert_int_equal(provider.stripe->kept[ES_KEEP_LIMIT], 1);
}

/* What a limit dropped is kept as well; what the condition of its place switched off
 * is not. */
static void
who(void **state)
{
    es_sampling_t sampling = keep("error"), nothing = {0};
    es_str_t words[] = {ES_STR("1r/m")};
    es_trace_t trace;
    es_error_t error;

    (void) state;
    assert_true(es_sampling_limit(config, &sampling, words, 1, NULL, &error));
    for (unsigned i = 0; i < 2; i++) {
        trace = request(ES_TRUST_ON, SAMPLED, "");
        es_trace_decide(&trace, &sampling, ES_THRESHOLD_DEFAULT, ES_STR("/"));
        es_trace_seal(&trace);
    }
    assert_int_equal(trace.decision, ES_DECISION_LIMIT);
    assert_true(es_trace_recording(&trace));

    trace = request(ES_TRUST_ON, UNSAMPLED, "");
    es_trace_decide(&trace, &sampling, ES_THRESHOLD_DEFAULT, ES_STR("/"));
    es_trace_decide_off(&trace);
    assert_false(es_trace_recording(&trace));

    trace = dropped(&nothing);
    assert_false(es_trace_recording(&trace));
}

/* A stranger's context is led to by a link of the SERVER span. */
static void
links(void **state)
{
    es_sampling_t nothing = {0};
    es_trace_t trace = request(ES_TRUST_LINK, SAMPLED, "a=1");
    es_http_t http = server_span(&trace, 200);
    const uint8_t client_id[ES_SPAN_ID_LEN] = {7};

    (void) state;
    es_trace_decide(&trace, &nothing, ES_THRESHOLD_DEFAULT, ES_STR("/"));
    es_trace_seal(&trace);
    es_trace_http(&trace, &http);
    assert_non_null(exported());
    assert_int_equal(span->parent_span_id.len, 0);
    assert_int_equal(span->n_links, 1);
    assert_memory_equal(span->links[0]->trace_id.data, trace.parent.trace_id, ES_TRACE_ID_LEN);
    assert_memory_equal(span->links[0]->span_id.data, trace.parent.span_id, ES_SPAN_ID_LEN);
    assert_int_equal(span->links[0]->flags, 0x301);
    assert_string_equal(span->links[0]->trace_state, "");
    assert_memory_not_equal(span->trace_id.data, trace.parent.trace_id, ES_TRACE_ID_LEN);

    http.kind = ES_KIND_CLIENT;
    http.span_id = client_id;
    es_trace_http(&trace, &http);
    assert_non_null(exported());
    assert_int_equal(span->n_links, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rules), TEST(kept), TEST(limited), TEST(who), TEST(links),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
