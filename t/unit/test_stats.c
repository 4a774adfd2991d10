/* What is counted in the shared area: spans and what became of them, exporters'
 * last errors, lines that are logged now and then. */

#include "unit_status.h"

#include "es_clock.h"
#include "es_sampler.h"

#include <pthread.h>

/* -------------------------------------------------------------- spans --- */

/* A value of the JSON status by its path, "spans.queued.server"; -1: none. */
static json_int_t
fact(const server_t *server, const char *path)
{
    size_t length;
    char *text = es_status(server->generation, ES_STATUS_JSON, &length), *copy = strdup(path);
    json_t *root, *at;
    json_int_t value = -1;
    char *rest = copy;

    assert_non_null(text);
    root = json_loadb(text, length, 0, NULL);
    assert_non_null(root);
    at = root;
    for (char *key; (key = strsep(&rest, ".")) != NULL;) {
        at = json_is_array(at) ? json_array_get(at, (size_t) atoi(key)) : json_object_get(at, key);
    }
    if (json_is_integer(at)) {
        value = json_integer_value(at);
    }
    json_decref(root);
    free(copy);
    free(text);
    return value;
}

static void *
pool_alloc(void *pool, size_t size)
{
    static _Alignas(16) uint8_t memory[4096];
    static size_t used;
    void *block = memory + used;

    (void) pool;
    used += (size + 15) & ~(size_t) 15;
    assert_true(used <= sizeof(memory));
    return block;
}

/* A request whose caller sent this traceparent, NULL: none. */
static es_trace_t
request(es_provider_t *provider, const char *traceparent)
{
    static const es_propagation_t propagation;
    const es_pool_t pool = {pool_alloc, NULL};
    es_carrier_t carrier;
    es_trace_t trace;

    es_trace_init(&trace, provider, &pool);
    es_carrier_init(&carrier, &trace, &propagation);
    if (traceparent != NULL) {
        es_carrier_add(&carrier, ES_STR("traceparent"), es_cstr(traceparent));
    }
    es_trace_join(&trace, &propagation, ES_TRUST_ON, &carrier);
    return trace;
}

/* As a place does; NULL: its condition says no. */
static void
decide(es_trace_t *trace, const es_sampling_t *sampling)
{
    if (sampling != NULL) {
        es_trace_decide(trace, sampling, ES_THRESHOLD_DEFAULT, ES_STR("/"));
    } else {
        es_trace_decide_off(trace);
    }
}

#define SAMPLED_PARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
#define UNSAMPLED_PARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"

static void
decisions(void **state)
{
    void *stats = unit_area(es_stats_area_size());
    server_t server = configure(stats, NULL);
    es_provider_t *provider;
    es_error_t error;
    es_trace_t trace;

    (void) state;
    assert_true(es_provider_start(&provider, server.generation, &unit_log, &error));

    static const es_sampling_t nothing;
    static const es_sampling_t all = {.given = ES_GIVEN_RATE};
    static const es_sampling_t none = {.given = ES_GIVEN_RATE, .threshold = ES_THRESHOLD_NEVER};
    static const struct {
        const char *parent;
        const es_sampling_t *sampling, *later;
        unsigned times;
        const char *path;
    } rows[] = {
        {SAMPLED_PARENT, &none, NULL, 1, "spans.decided.parent_sampled"},
        {UNSAMPLED_PARENT, &all, NULL, 2, "spans.decided.parent_unsampled"},
        {NULL, &all, NULL, 3, "spans.decided.ratio_sampled"},
        {NULL, &none, &all, 4, "spans.decided.ratio_unsampled"},
        {SAMPLED_PARENT, NULL, &all, 5, "spans.decided.off_unsampled"},
        {NULL, &nothing, &none, 6, "spans.decided.always_on_sampled"},
    };
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        for (unsigned n = 0; n < rows[i].times; n++) {
            trace = request(provider, rows[i].parent);
            decide(&trace, rows[i].sampling);
            assert_int_equal(fact(&server, rows[i].path), n);
            es_trace_seal(&trace);
            decide(&trace, rows[i].later);
            es_trace_seal(&trace);
        }
        assert_int_equal(fact(&server, rows[i].path), rows[i].times);
    }
    assert_int_equal(fact(&server, "spans.started"), 21);
    assert_int_equal(fact(&server, "spans.sampled"), 10);

    /* Of several decisions the last one counts, once. */
    trace = request(provider, NULL);
    decide(&trace, NULL);
    decide(&trace, &none);
    decide(&trace, &all);
    es_trace_redirected(&trace);
    decide(&trace, NULL);
    es_trace_seal(&trace);
    assert_int_equal(fact(&server, "spans.started"), 22);
    assert_int_equal(fact(&server, "spans.decided.ratio_sampled"), 4);

    /* Whoever leaves again was never there. */
    trace = request(provider, NULL);
    decide(&trace, &all);
    es_trace_leave(&trace);
    es_trace_seal(&trace);
    assert_int_equal(fact(&server, "spans.started"), 22);

    es_provider_stop(provider);
    es_provider_destroy(provider);
    dispose(&server);
    free(stats);
}

static void
queued(void **state)
{
    void *stats = unit_area(es_stats_area_size());
    server_t server = configure(stats, "http://127.0.0.1:4318"), reloaded;
    es_stripe_t *stripe = &((es_stats_t *) stats)->stripes[0];
    es_provider_t provider = {.generation = server.generation, .stripe = stripe};

    (void) state;
    assert_int_equal((uintptr_t) stripe % 64, 0);
    assert_int_equal(sizeof(*stripe) % 64, 0);
    assert_int_equal(fact(&server, "exporters.0.queued_bytes"), 0);

    es_producer_init(&provider.producer, &server.generation->queue, 0);
    es_provider_push(&provider, ES_KIND_SERVER, 0, ES_STR("a span"));
    es_provider_push(&provider, ES_KIND_CLIENT, 0, ES_STR("a span"));
    es_provider_push(&provider, ES_KIND_CLIENT, 0, ES_STR("a span"));
    assert_true(es_producer_close(&provider.producer));
    es_provider_push(&provider, ES_KIND_SERVER, 0, ES_STR("too late"));

    assert_int_equal(fact(&server, "spans.queued.server"), 1);
    assert_int_equal(fact(&server, "spans.queued.client"), 2);
    assert_int_equal(fact(&server, "spans.queued.internal"), 0);
    assert_int_equal(fact(&server, "spans.dropped.shutdown_timeout"), 1);
    assert_int_equal(fact(&server, "exporters.0.dropped.shutdown_timeout"), 0);
    assert_int_equal(fact(&server, "exporters.0.queued_bytes"),
                     3 * (sizeof(es_record_head_t) + strlen("a span")));
    assert_int_equal(fact(&server, "queue.chunks") - fact(&server, "queue.chunks_free"), 1);
    es_producer_dispose(&provider.producer);

    /* A reload: another queue, the same counters. */
    reloaded = configure(stats, "http://127.0.0.1:4318");
    assert_int_equal(fact(&reloaded, "spans.queued.client"), 2);
    assert_int_equal(fact(&reloaded, "spans.dropped.shutdown_timeout"), 1);
    assert_int_equal(fact(&reloaded, "exporters.0.queued_bytes"), 0);
    dispose(&reloaded);
    dispose(&server);
    free(stats);
}

static void
another_layout(void **state)
{
    es_stats_t *stats = unit_area(es_stats_area_size());
    server_t server;
    es_generation_t *generation;
    es_error_t error;

    (void) state;
    assert_true(es_stats_area_fits(stats));
    server = configure(stats, NULL);
    assert_true(es_stats_area_fits(stats));

    stats->layout++;
    assert_false(es_stats_area_fits(stats));
    assert_false(
        es_generation_create(&generation, server.config, server.queue_area, stats, &error));
    assert_string_equal(error.text, "the area of the statistics is of another version");
    dispose(&server);
    free(stats);
}

/* ------------------------------------------------------------- errors --- */

static void
last_error(void **state)
{
    char longest[ES_LAST_ERROR_SIZE + 100], text[ES_LAST_ERROR_SIZE];
    es_last_error_t error = {0};
    uint64_t time_ns, from = es_wall_ns();

    (void) state;
    assert_false(es_last_error_get(&error, &time_ns, text));
    es_last_error_set(&error, "first");
    es_last_error_set(&error, "2nd");
    assert_true(es_last_error_get(&error, &time_ns, text));
    assert_string_equal(text, "2nd");
    assert_true(time_ns >= from && time_ns <= es_wall_ns());

    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    es_last_error_set(&error, longest);
    assert_true(es_last_error_get(&error, &time_ns, text));
    assert_int_equal(strlen(text), ES_LAST_ERROR_SIZE - 1);

    /* A writer that died in the middle; the next one makes it good. */
    error.text[3] ^= 1;
    assert_false(es_last_error_get(&error, &time_ns, text));
    es_last_error_set(&error, "again");
    assert_true(es_last_error_get(&error, &time_ns, text));
    assert_string_equal(text, "again");
}

typedef struct shared_error {
    es_last_error_t error;
    atomic_bool stop;
} shared_error_t;

/* Writes lines of one letter. */
static void *
write_errors(void *data)
{
    static atomic_uint writers;
    shared_error_t *shared = data;
    char text[200] = "", letter = (char) ('a' + atomic_fetch_add(&writers, 1));

    while (!atomic_load(&shared->stop)) {
        memset(text, letter, sizeof(text) - 1);
        es_last_error_set(&shared->error, text);
    }
    return NULL;
}

static void
two_writers(void **state)
{
    shared_error_t shared = {0};
    char text[ES_LAST_ERROR_SIZE];
    unsigned whole = 0, torn = 0;
    pthread_t writers[2];
    uint64_t time_ns, until = es_mono_ns() + 10 * ES_SECOND;

    (void) state;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&writers[i], NULL, write_errors, &shared), 0);
    }
    while (whole < 2000 && es_mono_ns() < until) {
        if (!es_last_error_get(&shared.error, &time_ns, text)) {
            torn++;
            continue;
        }
        whole++;
        for (const char *c = text; *c != '\0'; c++) {
            assert_int_equal(*c, text[0]);
        }
    }
    atomic_store(&shared.stop, true);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(writers[i], NULL);
    }
    print_message("# %u read, %u seen in the making\n", whole, torn);
    assert_true(whole > 0);
}

static void
log_limits(void **state)
{
    es_log_limit_t one = {0}, other = {0};

    (void) state;
    assert_true(es_log_limit_take(&one));
    assert_false(es_log_limit_take(&one));
    assert_true(es_log_limit_take(&other));
    one.logged_at -= 61 * ES_SECOND;
    assert_true(es_log_limit_take(&one));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decisions),      cmocka_unit_test(queued),
        cmocka_unit_test(another_layout), cmocka_unit_test(last_error),
        cmocka_unit_test(two_writers),    cmocka_unit_test(log_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
