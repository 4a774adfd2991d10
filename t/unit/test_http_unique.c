/* Whatever a request brings along and whatever the user adds: a span has each key once
 * (OTLP, KeyValue), and where the key is one of the user's, the value is. */

#include "unit_http.h"

#define KEYS_MAX 96
#define ATTRIBUTES_MAX 12
#define ROUNDS 20000

static uint32_t seed = 1;

/* Below `n`: Marsaglia's xorshift. */
static unsigned
any(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed % n;
}

/* Every key that a span of ours ever had. */
static char keys[KEYS_MAX][64];
static unsigned keys_count;

static void
remember(const char *key)
{
    for (unsigned i = 0; i < keys_count; i++) {
        if (strcmp(keys[i], key) == 0) {
            return;
        }
    }
    assert_true(keys_count < KEYS_MAX);
    snprintf(keys[keys_count++], sizeof(keys[0]), "%s", key);
}

static es_str_t
word(void)
{
    static const char *const words[] = {
        NULL,
        "",
        "GET",
        "BREW",
        "/a/b?sig=1&b=2",
        "http://u@h:1/p?q",
        "https",
        "http",
        "h:80",
        "unix:/x",
        "192.0.2.1",
        "2001:db8::1",
        "/shop.Cart/A",
        "12",
        "2",
        "::ffff:1.2.3.4",
        "HIT",
        "timeout",
        "*",
        "caf\xc3\xa9",
        "\xff\xfe",
        "/a#b;sig=1",
        "14",
        "1.1",
    };

    return es_cstr(words[any(UNIT_COUNT(words))]);
}

static int64_t
size(void)
{
    static const int64_t sizes[] = {-1, 0, 1, INT64_MAX};

    return sizes[any(UNIT_COUNT(sizes))];
}

static es_http_t
any_request(void)
{
    static const es_span_kind_t kinds[] = {ES_KIND_SERVER, ES_KIND_CLIENT, ES_KIND_INTERNAL};
    es_http_t http = {
        .kind = kinds[any(3)],
        .peer_port = any(2) * 80,
        .server_port = any(3) * 443,
        .status = any(7) * 100,
        .request_body_size = size(),
        .response_body_size = size(),
        .no_error_type = any(4) == 0,
        .resend_count = any(2),
        .log_dropped = any(2),
        .background = any(2),
        .grpc = any(2),
    };
    es_str_t *const texts[] = {
        &http.method,      &http.target,       &http.scheme,       &http.host,
        &http.route,       &http.user_agent,   &http.peer_address, &http.client_address,
        &http.error_type,  &http.reason,       &http.name,         &http.protocol_version,
        &http.grpc_status, &http.cache_status,
    };

    for (size_t i = 0; i < UNIT_COUNT(texts); i++) {
        *texts[i] = word();
    }
    return http;
}

static es_http_try_t
any_try(void)
{
    return (es_http_try_t){
        .peer_address = word(),
        .error_type = word(),
        .start_mono_ns = any(2000),
        .connected_mono_ns = any(2) * any(2000),
        .secured_mono_ns = any(2) * any(2000),
        .first_byte_mono_ns = any(2) * any(2000),
        .end_mono_ns = any(2000),
        .peer_port = any(2),
        .status = any(3) * 200,
        .reused = any(2),
        .unconnected = any(2),
    };
}

static void
check_unique(EsOtlp__KeyValue **attributes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void) find_in(attributes, count, attributes[i]->key);
    }
}

/* A request with these attributes of the user's, unlike each other. */
static void
write_any(const es_attribute_t *attributes, unsigned count)
{
    es_http_t http = any_request();
    es_timeline_t timeline = {0};
    es_http_try_t tries[3];
    const es_attribute_t line[] = {
        {.key = ES_EVENT_LOG_SEVERITY, .value = word()},
        {.key = ES_EVENT_LOG_MESSAGE, .value = word()},
    };
    const es_http_event_t event = {ES_EVENT_LOG, 1500, line, UNIT_COUNT(line)};

    for (unsigned i = any(4); i != 0; i--) {
        tries[http.tries_count] = any_try();
        es_timeline_try(&timeline, &tries[http.tries_count++]);
    }
    es_timeline_add(&timeline, ES_PHASE_UPLOAD, any(2000), any(2000));
    es_timeline_add(&timeline, ES_PHASE_DOWNLOAD, any(2000), any(2000));
    http.tries = tries;
    http.timeline = any(2) != 0 ? &timeline : NULL;
    http.events = &event;
    http.events_count = any(2);
    http.attributes = attributes;
    http.attributes_count = count;
    http_config.semconv = (es_semconv_t) any(3);
    write_span(&http, 0);

    check_unique(decoded->attributes, decoded->n_attributes);
    for (size_t i = 0; i < decoded->n_events; i++) {
        check_unique(decoded->events[i]->attributes, decoded->events[i]->n_attributes);
    }
}

static void
ours(void **state)
{
    (void) state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        write_any(NULL, 0);
        for (size_t i = 0; i < decoded->n_attributes; i++) {
            remember(decoded->attributes[i]->key);
        }
    }
    assert_true(keys_count > 40);
}

/* Of the keys of ours that were seen. */
static void
with_the_users(void **state)
{
    (void) state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        es_attribute_t attributes[ATTRIBUTES_MAX];
        unsigned count = any(ATTRIBUTES_MAX + 1), first = any(keys_count);

        for (unsigned i = 0; i < count; i++) {
            attributes[i] = (es_attribute_t){
                .key = es_cstr(keys[(first + 7 * i) % keys_count]),
                .value = ES_STR("mine"),
            };
            for (unsigned j = 0; j < i; j++) {
                if (strcmp(attributes[j].key.data, attributes[i].key.data) == 0) {
                    count = i;
                }
            }
        }
        write_any(attributes, count);
        for (unsigned i = 0; i < count; i++) {
            has_string(attributes[i].key.data, "mine");
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ours),
        cmocka_unit_test(with_the_users),
    };

    return cmocka_run_group_tests(tests, NULL, clear);
}
