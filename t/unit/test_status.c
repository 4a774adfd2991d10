#include "unit.h"

#include "es_clock.h"
#include "es_provider.h"
#include "es_sampler.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <pthread.h>
#include <sys/un.h>

/* ------------------------------------------------------------- a server --- */

static void
ignore(void *data, es_log_level_t level, const char *text)
{
    (void) data;
    (void) level;
    (void) text;
}

static const es_log_t silent = {.write = ignore};

typedef struct server {
    es_config_t *config;
    void *queue_area, *stats_area;
    es_generation_t *generation;
} server_t;

static void *
area(size_t size)
{
    void *memory = aligned_alloc(64, (size + 63) & ~(size_t) 63);

    assert_non_null(memory);
    return memset(memory, 0, size);
}

/* A generation that counts in `stats_area`; `endpoint` NULL: it exports nothing. */
static server_t
configure(void *stats_area, const char *endpoint)
{
    server_t server = {.config = es_config_create("unit", &silent), .stats_area = stats_area};
    es_exporter_config_t *exporter;
    es_error_t error;

    if (endpoint != NULL) {
        assert_true(es_config_exporter(server.config, &exporter, &error));
        assert_true(es_exporter_option(exporter, ES_STR("endpoint"), es_cstr(endpoint), &error));
        assert_true(es_exporter_header(exporter, ES_STR("Authorization"), ES_STR("Bearer hunter2"),
                                       &error));
        assert_true(es_exporter_finish(exporter, &error));
    }
    assert_true(es_config_finish(server.config, 1, &error));
    server.queue_area = area(es_queue_area_size(server.config));
    assert_true(es_generation_create(&server.generation, server.config, server.queue_area,
                                     stats_area, &error));
    return server;
}

static void
dispose(server_t *server)
{
    es_generation_destroy(server->generation);
    es_config_destroy(server->config);
    free(server->queue_area);
}

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

/* -------------------------------------------------------------- counting --- */

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
    void *stats = area(es_stats_area_size());
    server_t server = configure(stats, NULL);
    es_provider_t *provider;
    es_error_t error;
    es_trace_t trace;

    (void) state;
    assert_true(es_provider_start(&provider, server.generation, &silent, &error));

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
    void *stats = area(es_stats_area_size());
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
    es_stats_t *stats = area(es_stats_area_size());
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

/* ------------------------------------------------------------ last error --- */

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

/* ------------------------------------------------------------------ pages --- */

/* Lines of the tree, in order: "path" or "path value" for what does not change. */
static void
check_lines(const char **text, const char *path, json_t *value)
{
    char below[128];
    const char *key, *end;
    json_t *member;
    size_t i;

    if (json_is_object(value)) {
        json_object_foreach(value, key, member)
        {
            snprintf(below, sizeof(below), "%s%s%s", path, *path != '\0' ? "." : "", key);
            check_lines(text, below, member);
        }
        return;
    }
    if (json_is_array(value)) {
        json_array_foreach(value, i, member)
        {
            snprintf(below, sizeof(below), "%s.%zu", path, i);
            check_lines(text, below, member);
        }
        return;
    }
    *text += **text == '\n';
    end = strchr(*text, '\n');
    assert_non_null(end);
    assert_int_equal(strncmp(*text, path, strlen(path)), 0);
    assert_int_equal((*text)[strlen(path)], ' ');
    if (json_is_integer(value)) {
        assert_int_equal(strtoll(*text + strlen(path), NULL, 10), json_integer_value(value));
    }
    *text = end + 1;
}

static char *
page(const server_t *server, es_status_format_t format)
{
    size_t length;
    char *text = es_status(server->generation, format, &length), *copy;

    assert_non_null(text);
    copy = strndup(text, length);
    free(text);
    return copy;
}

static void
pages(void **state)
{
    void *stats = area(es_stats_area_size());
    server_t server = configure(stats, "http://user:hunter2@127.0.0.1:4318/tr\xe4"
                                       "ces\n?api-key=hunter2");
    es_exporter_stats_t *exporter = &((es_stats_t *) stats)->exporters[0];
    char *json, *text;
    const char *at;
    json_t *root;

    (void) state;
    es_last_error_set(&exporter->last_error, "their words: \"no\"\r\n\x1b[31m \xff and \xc3\xa9");
    es_stats_add(&exporter->sent, 123456789012345);
    es_stats_add(&exporter->dropped[ES_DROP_REJECTED], 7);

    json = page(&server, ES_STATUS_JSON);
    text = page(&server, ES_STATUS_TEXT);
    root = json_loads(json, 0, NULL);
    assert_non_null(root);
    at = text;
    check_lines(&at, "", root);
    assert_int_equal(*at, '\0');

    assert_non_null(strstr(text, "their words: \"no\"   [31m \xef\xbf\xbd and \xc3\xa9\n"));
    assert_non_null(strstr(text, "exporters.0.sent_spans                   123456789012345\n"));
    assert_non_null(strstr(text, "spans.dropped.rejected                   7\n"));
    assert_non_null(strstr(text, "leader.pid                               -\n"));
    assert_null(strstr(text, "hunter2"));
    assert_null(strstr(json, "hunter2"));

    json_decref(root);
    free(json);
    free(text);
    dispose(&server);
    free(stats);
}

/* -------------------------------------------------------------- requests --- */

static void
formats(void **state)
{
    static const struct {
        const char *query, *accept;
        es_status_format_t format;
    } rows[] = {
        {NULL, NULL, ES_STATUS_TEXT},
        {"", "*/*", ES_STATUS_TEXT},
        {"format=json", NULL, ES_STATUS_JSON},
        {"x=1&format=json", "text/plain", ES_STATUS_JSON},
        {"format=text", "application/json", ES_STATUS_TEXT},
        {"format=xml", NULL, ES_STATUS_TEXT},
        {"format=xml", "application/json", ES_STATUS_JSON},
        {"xformat=json", NULL, ES_STATUS_TEXT},
        {"&&", NULL, ES_STATUS_TEXT},
        {NULL, "application/json", ES_STATUS_JSON},
        {NULL, "Application/JSON; charset=utf-8", ES_STATUS_JSON},
        {NULL, "application/json, text/plain, */*", ES_STATUS_JSON},
        {NULL, "text/html,application/xhtml+xml,*/*;q=0.8", ES_STATUS_TEXT},
        {NULL, "application/json;q=0, */*", ES_STATUS_TEXT},
        {NULL, "application/json ; q=0.000", ES_STATUS_TEXT},
        {NULL, "application/json;q=0.5", ES_STATUS_JSON},
        {NULL, "application/jsonx", ES_STATUS_TEXT},
        {NULL, ",;,", ES_STATUS_TEXT},
    };
    es_status_format_t format;
    es_error_t error;

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_str_t query = unit_exact(es_cstr(rows[i].query));
        es_str_t accept = unit_exact(es_cstr(rows[i].accept));

        if (es_status_choose(query, accept) != rows[i].format) {
            fail_msg("row %zu", i);
        }
        unit_free(query);
        unit_free(accept);
    }
    assert_true(es_parse_status_format(ES_STR("json"), &format, &error));
    assert_int_equal(format, ES_STATUS_JSON);
    assert_false(es_parse_status_format(ES_STR("xml"), &format, &error));
    assert_string_equal(error.text, "invalid format \"xml\": it is \"text\" or \"json\"");
}

static void
peers(void **state)
{
    static const struct {
        int family;
        const char *address;
        bool local;
    } rows[] = {
        {AF_INET, "127.0.0.1", true},
        {AF_INET, "127.255.0.9", true},
        {AF_INET, "128.0.0.1", false},
        {AF_INET, "10.0.0.1", false},
        {AF_INET, "0.0.0.0", false},
        {AF_INET6, "::1", true},
        {AF_INET6, "::", false},
        {AF_INET6, "fe80::1", false},
        {AF_INET6, "::ffff:127.0.0.1", true},
        {AF_INET6, "::ffff:10.0.0.1", false},
        {AF_INET6, "::127.0.0.1", false},
    };
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr none = {.sa_family = AF_UNSPEC};

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        struct sockaddr_in in = {.sin_family = AF_INET};
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
        bool v4 = rows[i].family == AF_INET;

        assert_int_equal(inet_pton(rows[i].family, rows[i].address,
                                   v4 ? (void *) &in.sin_addr : (void *) &in6.sin6_addr),
                         1);
        if (es_is_local_peer(v4 ? (struct sockaddr *) &in : (struct sockaddr *) &in6)
            != rows[i].local) {
            fail_msg("%s", rows[i].address);
        }
    }
    assert_true(es_is_local_peer((struct sockaddr *) &un));
    assert_false(es_is_local_peer(&none));

    assert_true(es_is_forwarding_header(ES_STR("x-forwarded-FOR")));
    assert_true(es_is_forwarding_header(ES_STR("forwarded")));
    assert_false(es_is_forwarding_header(ES_STR("X-Forwarded-Fo")));
    assert_false(es_is_forwarding_header(ES_STR("Host")));
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
        cmocka_unit_test(two_writers),    cmocka_unit_test(pages),
        cmocka_unit_test(formats),        cmocka_unit_test(peers),
        cmocka_unit_test(log_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
