/* OpenTelemetry's HTTP conventions: the name and the attributes of a span. */

#include "unit_http.h"

static void
server_span(void **state)
{
    es_http_t http = server_get();

    (void) state;
    http.protocol_version = ES_STR("1.1");
    http.route = ES_STR("/a/*");
    http.user_agent = ES_STR("curl/8");
    http.client_address = ES_STR("192.0.2.7");
    http.peer_address = ES_STR("10.0.0.1");
    http.peer_port = 4711;
    http.server_port = 8080;
    http.request_body_size = 0;
    http.response_body_size = 12345678901;
    write_span(&http, 0);

    assert_string_equal(decoded->name, "GET /a/*");
    has_string("http.request.method", "GET");
    has_string("url.path", "/a");
    has_string("url.query", "b=c");
    has_string("url.scheme", "http");
    has_string("http.route", "/a/*");
    has_string("server.address", "example.org");
    has_int("server.port", 8080);
    has_string("network.protocol.version", "1.1");
    has_string("client.address", "192.0.2.7");
    has_string("network.peer.address", "10.0.0.1");
    has_int("network.peer.port", 4711);
    has_string("user_agent.original", "curl/8");
    has_int("http.response.status_code", 200);
    has_int("http.request.body.size", 0);
    has_int("http.response.body.size", 12345678901);
    assert_int_equal(decoded->n_attributes, 15);
    assert_null(decoded->status);
    assert_int_equal(decoded->start_time_unix_nano, 1000);
    assert_int_equal(decoded->end_time_unix_nano, 2000);
    assert_int_equal(decoded->flags, 0x101);
    assert_memory_equal(decoded->parent_span_id.data, parent_id, 8);
}

/* What is unknown is left out. */
static void
sparse_span(void **state)
{
    es_http_t http = {.kind = ES_KIND_SERVER, .request_body_size = -1, .response_body_size = -1};

    (void) state;
    write_span(&http, 0);
    assert_string_equal(decoded->name, "HTTP");
    assert_int_equal(decoded->n_attributes, 0);
    assert_null(decoded->status);

    /* A port without an address means nothing. */
    http.peer_port = 1;
    http.server_port = 2;
    write_span(&http, 0);
    has_not("network.peer.port");
    has_not("server.port");
    http.peer_address = ES_STR("unix:");
    http.peer_port = 0;
    write_span(&http, 0);
    has_string("network.peer.address", "unix:");
    has_not("network.peer.port");
}

static void
client_span(void **state)
{
    es_http_t http = client_get();

    (void) state;
    http.target = ES_STR("/a?q=1&sig=secret");
    http.host = ES_STR("backend:8080");
    http.route = ES_STR("/not/here");
    write_span(&http, 0);

    assert_string_equal(decoded->name, "GET");
    has_string("url.full", "http://backend:8080/a?q=1&sig=REDACTED");
    has_string("server.address", "backend");
    has_int("server.port", 8080);
    has_not("url.path");
    has_not("url.query");
    has_not("http.route");

    /* The port that the host does not name, unless it is the scheme's. */
    http.target = ES_STR("/");
    http.host = ES_STR("backend");
    http.server_port = 65535;
    write_span(&http, 0);
    has_string("url.full", "http://backend:65535/");
    has_int("server.port", 65535);
    http.server_port = 80;
    write_span(&http, 0);
    has_string("url.full", "http://backend/");
    http.host = ES_STR("backend:81");
    write_span(&http, 0);
    has_string("url.full", "http://backend:81/");
    has_int("server.port", 81);

    http.server_port = 0;
    http.host = ES_STR("[2001:db8::1]");
    http.scheme = ES_STR("https");
    write_span(&http, 0);
    has_string("url.full", "https://[2001:db8::1]/");
    has_string("server.address", "2001:db8::1");
    has_int("server.port", 443);
}

static void
server_query_is_redacted(void **state)
{
    es_http_t http = server_get();

    (void) state;
    http.target = ES_STR("/a?X-Amz-Credential=x&b=1");
    write_span(&http, 0);
    has_string("url.query", "X-Amz-Credential=REDACTED&b=1");
    http.target = ES_STR("http://other/p?a=1&sig=x");
    write_span(&http, 0);
    has_string("url.path", "/p");
    has_string("url.query", "a=1&sig=REDACTED");
}

/* A secret behind 4096 bytes of something else. */
static void
long_query(void **state)
{
    static char target[12000];
    es_http_t http = server_get();
    size_t len;

    (void) state;
    for (size_t before = 4000; before < 4200; before++) {
        memset(target, 'x', before);
        memcpy(target, "/a?q=", 5);
        strcpy(target + before, "&sig=SECRET&z=1");
        http.target = es_cstr(target);
        for (http.kind = ES_KIND_SERVER; http.kind <= ES_KIND_CLIENT; http.kind++) {
            const EsOtlp__AnyValue *value;

            write_span(&http, 0);
            value = find(http.kind == ES_KIND_SERVER ? "url.query" : "url.full");
            if (value != NULL) {
                assert_null(strstr(value->string_value, "SECRET"));
                len = strlen(value->string_value);
                assert_true(len <= ES_SPAN_VALUE_MAX);
            }
        }
    }
}

static void
server_ports(void **state)
{
    static const struct {
        const char *host, *scheme;
        unsigned server_port;
        const char *address;
        int port;
    } rows[] = {
        {"h", "http", 0, "h", 80},
        {"h", "https", 0, "h", 443},
        {"h", "http", 8080, "h", 8080},
        {"h:81", "http", 8080, "h", 81},
        {"h:81", "https", 0, "h", 81},
        {"[::1]:82", "http", 0, "::1", 82},
        {"[::1]", "http", 0, "::1", 80},
        {"h:x", "http", 0, "h", 80},
        {"10.0.0.1:1", "http", 0, "10.0.0.1", 1},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_http_t http = server_get();

        http.host = es_cstr(rows[i].host);
        http.scheme = es_cstr(rows[i].scheme);
        http.server_port = rows[i].server_port;
        write_span(&http, 0);
        has_string("server.address", rows[i].address);
        has_int("server.port", rows[i].port);
    }
}

static void
methods(void **state)
{
    static const char *const known[] = {"GET",   "HEAD",    "POST",    "PUT",   "DELETE",
                                        "PATCH", "OPTIONS", "CONNECT", "TRACE", "QUERY"};
    static const char *const unknown[] = {"get", "GETX", "GE", "PROPFIND", "PURGE", "\xff\xfe"};

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(known); i++) {
        es_http_t http = server_get();

        http.method = es_cstr(known[i]);
        write_span(&http, 0);
        has_string("http.request.method", known[i]);
        has_not("http.request.method_original");
        assert_string_equal(decoded->name, known[i]);
    }
    for (size_t i = 0; i < UNIT_COUNT(unknown); i++) {
        es_http_t http = server_get();

        http.method = es_cstr(unknown[i]);
        write_span(&http, 0);
        has_string("http.request.method", "_OTHER");
        has_string("http.request.method_original",
                   i == UNIT_COUNT(unknown) - 1 ? "\xef\xbf\xbd\xef\xbf\xbd" : unknown[i]);
        assert_string_equal(decoded->name, "HTTP");

        http.route = ES_STR("/r");
        write_span(&http, 0);
        assert_string_equal(decoded->name, "HTTP /r");
    }
}

static void
names(void **state)
{
    static char route[400];
    es_http_t http = server_get();

    (void) state;
    write_span(&http, 0);
    assert_string_equal(decoded->name, "GET");

    http.name = ES_STR("my name");
    http.route = ES_STR("/r");
    write_span(&http, 0);
    assert_string_equal(decoded->name, "my name");

    /* Around the 256 characters of a name. */
    http.name = ES_STR_NONE;
    memset(route, 'r', sizeof(route));
    for (size_t len = 240; len < 270; len++) {
        http.route = es_str(route, len);
        write_span(&http, 0);
        assert_int_equal(strlen(decoded->name), len + 4 <= 256 ? len + 4 : 3);
        assert_int_equal(strlen(find("http.route")->string_value), len);
    }

    http = client_get();
    http.name = ES_STR("upstream");
    write_span(&http, 0);
    assert_string_equal(decoded->name, "upstream");
}

/* The user's attribute of a key of ours is the only one of that key. */
static void
user_attributes(void **state)
{
    static const char *const ours[] = {
        "http.request.method",
        "url.path",
        "url.query",
        "url.scheme",
        "http.route",
        "server.address",
        "server.port",
        "network.protocol.version",
        "client.address",
        "network.peer.address",
        "network.peer.port",
        "user_agent.original",
        "http.response.status_code",
        "http.request.body.size",
        "http.response.body.size",
        "error.type",
        "edgespan.reason",
    };
    es_attribute_t attributes[UNIT_COUNT(ours) + 2];
    es_http_t http = server_get();
    size_t n = UNIT_COUNT(ours);

    (void) state;
    http.status = 500;
    http.route = ES_STR("/r");
    http.protocol_version = ES_STR("2");
    http.client_address = http.peer_address = ES_STR("192.0.2.1");
    http.peer_port = 1;
    http.user_agent = ES_STR("ua");
    http.reason = ES_STR("why");
    http.request_body_size = http.response_body_size = 1;
    write_span(&http, 0);
    assert_int_equal(decoded->n_attributes, n);

    for (size_t i = 0; i < n; i++) {
        attributes[i] = (es_attribute_t){.key = es_cstr(ours[i]), .value = ES_STR("mine")};
    }
    attributes[n] = (es_attribute_t){.key = ES_STR("tenant"), .value = ES_STR("blue")};
    attributes[n + 1] = (es_attribute_t){.key = ES_STR("empty"), .value = ES_STR_NONE};
    http.attributes = attributes;
    http.attributes_count = (unsigned) n + 2;
    write_span(&http, 0);
    assert_int_equal(decoded->n_attributes, n + 2);
    for (size_t i = 0; i < n; i++) {
        has_string(ours[i], "mine");
    }
    has_string("tenant", "blue");
    has_string("empty", "");

    /* The status is still the exchange's. */
    assert_int_equal(decoded->status->code, ES_STATUS_ERROR);

    http = client_get();
    http.method = ES_STR("PURGE");
    attributes[0] = (es_attribute_t){.key = ES_STR("url.full"), .value = ES_STR("mine")};
    attributes[1] =
        (es_attribute_t){.key = ES_STR("http.request.method_original"), .value = ES_STR("mine")};
    http.attributes = attributes;
    http.attributes_count = 2;
    write_span(&http, 0);
    has_string("url.full", "mine");
    has_string("http.request.method_original", "mine");
}

/* Everything as long as a client and a configuration can make it. */
static void
huge(void **state)
{
    unit_random_t random = unit_random_init();
    enum { LEN = 20000 };
    static char bytes[LEN];
    es_attribute_t attributes[150];
    es_http_try_t list[200];

    (void) state;
    for (unsigned i = 0; i < 300; i++) {
        es_http_t http = i % 2 == 0 ? server_get() : client_get();
        es_str_t *const strings[] = {
            &http.method,     &http.target,     &http.scheme,       &http.host,
            &http.route,      &http.user_agent, &http.peer_address, &http.client_address,
            &http.error_type, &http.reason,     &http.name,         &http.protocol_version,
        };

        unit_random_bytes(&random, bytes, sizeof(bytes));
        for (size_t k = 0; k < LEN; k++) {
            bytes[k] = bytes[k] == 0 ? 'x' : bytes[k];
        }
        for (size_t k = 0; k < UNIT_COUNT(strings); k++) {
            *strings[k] = es_str(bytes, unit_random_below(&random, i % 5 == 0 ? LEN + 1 : 3000));
        }
        for (size_t k = 0; k < UNIT_COUNT(attributes); k++) {
            attributes[k] = (es_attribute_t){
                .key = ES_STR("k"), .value = es_str(bytes, unit_random_below(&random, 200))};
        }
        for (size_t k = 0; k < UNIT_COUNT(list); k++) {
            list[k] = (es_http_try_t){.peer_address = es_str(bytes, unit_random_below(&random, 60)),
                                      .error_type = es_str(bytes, unit_random_below(&random, 60)),
                                      .peer_port = 1,
                                      .status = 1,
                                      .end_mono_ns = 1};
        }
        http.attributes = attributes;
        http.attributes_count = unit_random_below(&random, UNIT_COUNT(attributes) + 1);
        http.tries = list;
        http.tries_count = unit_random_below(&random, UNIT_COUNT(list) + 1);
        write_span(&http, 0);

        unit_assert(&random, unit_utf8_valid(es_cstr(decoded->name)));
        for (size_t k = 0; k < decoded->n_attributes; k++) {
            EsOtlp__AnyValue *value = decoded->attributes[k]->value;

            if (value->value_case == ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE) {
                unit_assert(&random, unit_utf8_valid(es_cstr(value->string_value)));
            }
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(server_span),     cmocka_unit_test(sparse_span),
        cmocka_unit_test(client_span),     cmocka_unit_test(server_query_is_redacted),
        cmocka_unit_test(long_query),      cmocka_unit_test(server_ports),
        cmocka_unit_test(methods),         cmocka_unit_test(names),
        cmocka_unit_test(user_attributes), cmocka_unit_test(huge),
    };

    return cmocka_run_group_tests(tests, NULL, clear);
}
