/* The names that attributes had before the conventions were stable, instead of the stable
 * ones or beside them. */

#include "unit_http.h"

static void
semconv(const char *word)
{
    es_error_t error;

    if (!es_config_semconv(&http_config, es_cstr(word), &error)) {
        fail_msg("%s", error.text);
    }
}

static int
stable(void **state)
{
    semconv("stable");
    return clear(state);
}

static es_http_t
server_request(void)
{
    es_http_t http = server_get();

    http.target = ES_STR("/a?b=c&sig=secret");
    http.route = ES_STR("/a/*");
    http.protocol_version = ES_STR("1.1");
    http.user_agent = ES_STR("curl/8");
    http.client_address = ES_STR("192.0.2.7");
    http.peer_address = ES_STR("10.0.0.1");
    http.peer_port = 4711;
    http.server_port = 8080;
    http.status = 500;
    http.request_body_size = 17;
    http.response_body_size = 42;
    http.cache_status = ES_STR("MISS");
    return http;
}

/* What ngx_otel_module gives, in its types, and what the old conventions knew besides. */
static void
has_old_of_server(void)
{
    has_string("http.method", "GET");
    has_string("http.target", "/a?b=c&sig=REDACTED");
    has_string("http.scheme", "http");
    has_string("http.flavor", "1.1");
    has_string("http.user_agent", "curl/8");
    has_int("http.request_content_length", 17);
    has_int("http.response_content_length", 42);
    has_int("http.status_code", 500);
    has_string("net.host.name", "example.org");
    has_int("net.host.port", 8080);
    has_string("net.sock.peer.addr", "10.0.0.1");
    has_int("net.sock.peer.port", 4711);
    has_string("http.client_ip", "192.0.2.7");
}

#define OLD_OF_SERVER 13

/* The same in both, or known to one only. */
static void
has_common(void)
{
    has_string("http.route", "/a/*");
    has_string("error.type", "500");
    has_string("edgespan.cache.status", "MISS");
}

#define COMMON 3

static void
has_stable_of_server(void)
{
    has_string("http.request.method", "GET");
    has_string("url.path", "/a");
    has_string("url.query", "b=c&sig=REDACTED");
    has_string("url.scheme", "http");
    has_string("network.protocol.version", "1.1");
    has_string("user_agent.original", "curl/8");
    has_int("http.request.body.size", 17);
    has_int("http.response.body.size", 42);
    has_int("http.response.status_code", 500);
    has_string("server.address", "example.org");
    has_int("server.port", 8080);
    has_string("network.peer.address", "10.0.0.1");
    has_int("network.peer.port", 4711);
    has_string("client.address", "192.0.2.7");
}

#define STABLE_OF_SERVER 14

static void
server_span(void **state)
{
    es_http_t http = server_request();

    (void) state;
    semconv("old");
    write_span(&http, 0);
    has_old_of_server();
    has_common();
    assert_int_equal(decoded->n_attributes, OLD_OF_SERVER + COMMON);
    assert_string_equal(decoded->name, "GET /a/*");
    assert_int_equal(decoded->status->code, ES_STATUS_ERROR);

    semconv("both");
    write_span(&http, 0);
    has_old_of_server();
    has_stable_of_server();
    has_common();
    assert_int_equal(decoded->n_attributes, OLD_OF_SERVER + STABLE_OF_SERVER + COMMON);

    semconv("stable");
    write_span(&http, 0);
    has_stable_of_server();
    has_common();
    assert_int_equal(decoded->n_attributes, STABLE_OF_SERVER + COMMON);
}

/* Values that the old conventions told in another way. */
static void
old_values(void **state)
{
    static const char *const versions[][2] = {
        {"0.9", "0.9"}, {"1.0", "1.0"}, {"1.1", "1.1"}, {"2", "2.0"}, {"3", "3.0"},
    };
    static char path[5000];
    es_http_t http = server_request();

    (void) state;
    semconv("old");
    for (size_t i = 0; i < UNIT_COUNT(versions); i++) {
        http.protocol_version = es_cstr(versions[i][0]);
        write_span(&http, 0);
        has_string("http.flavor", versions[i][1]);
    }

    /* Any method as it is; a port only if it is not the scheme's; lengths always. */
    http.method = ES_STR("PURGE");
    http.server_port = 80;
    http.request_body_size = http.response_body_size = -1;
    http.target = ES_STR("/a");
    write_span(&http, 0);
    has_string("http.method", "PURGE");
    has_not("http.request.method_original");
    has_not("net.host.port");
    has_int("http.request_content_length", 0);
    has_int("http.response_content_length", 0);
    has_string("http.target", "/a");

    /* Long ones, about the longest value. */
    memset(path, 'p', sizeof(path));
    path[0] = '/';
    for (size_t len = ES_SPAN_VALUE_MAX - 10; len < ES_SPAN_VALUE_MAX + 10; len++) {
        path[len] = '?';
        http.target = es_str(path, sizeof(path));
        write_span(&http, 0);
        assert_int_equal(strlen(find("http.target")->string_value), ES_SPAN_VALUE_MAX);
        http.target = es_str(path, len + 2);
        write_span(&http, 0);
        assert_int_equal(strlen(find("http.target")->string_value),
                         len + 2 < ES_SPAN_VALUE_MAX ? len + 2 : ES_SPAN_VALUE_MAX);
        path[len] = 'p';
    }
}

static void
client_span(void **state)
{
    es_http_try_t tries[2] = {{.peer_address = ES_STR("10.0.0.2"), .peer_port = 81, .status = 502},
                              {.start_mono_ns = 1}};
    es_http_t http = client_get();
    const EsOtlp__Event *event;

    (void) state;
    http.host = ES_STR("backend:8080");
    http.protocol_version = ES_STR("1.1");
    http.peer_address = ES_STR("10.0.0.2");
    http.peer_port = 81;
    http.resend_count = 1;
    semconv("old");
    write_span(&http, 0);
    has_string("http.method", "GET");
    has_string("http.url", "http://backend:8080/a?b=c");
    has_string("net.peer.name", "backend");
    has_int("net.peer.port", 8080);
    has_string("net.sock.peer.addr", "10.0.0.2");
    has_int("net.sock.peer.port", 81);
    has_string("http.flavor", "1.1");
    has_int("http.status_code", 200);
    has_int("http.resend_count", 1);
    assert_int_equal(decoded->n_attributes, 9);

    http.tries = tries;
    http.tries_count = 2;
    write_span(&http, 0);
    event = decoded->events[0];
    assert_int_equal(event->n_attributes, 3);
    check_string(find_in(event->attributes, 3, "net.sock.peer.addr"), "peer", "10.0.0.2");
    check_int(find_in(event->attributes, 3, "net.sock.peer.port"), "port", 81);
    check_int(find_in(event->attributes, 3, "http.status_code"), "status", 502);
}

static void
subrequest(void **state)
{
    es_http_t http = server_request();

    (void) state;
    http.kind = ES_KIND_INTERNAL;
    semconv("old");
    write_span(&http, 0);
    assert_string_equal(decoded->name, "subrequest /a/*");
    has_string("http.method", "GET");
    has_string("http.target", "/a?b=c&sig=REDACTED");
    has_int("http.status_code", 500);
    has_common();
    assert_int_equal(decoded->n_attributes, 3 + COMMON);
}

/* They replace ours of the same key, whichever of the two it is. */
static void
user_attributes(void **state)
{
    const es_attribute_t attributes[] = {
        {.key = ES_STR("http.status_code"), .value = ES_STR("mine")},
        {.key = ES_STR("http.target"), .value = ES_STR("mine")},
        {.key = ES_STR("url.scheme"), .value = ES_STR("mine")},
        {.key = ES_STR("http.route"), .value = ES_STR("mine")},
    };
    es_http_t http = server_request();

    (void) state;
    http.attributes = attributes;
    http.attributes_count = UNIT_COUNT(attributes);
    semconv("both");
    write_span(&http, 0);
    has_string("http.status_code", "mine");
    has_int("http.response.status_code", 500);
    has_string("http.target", "mine");
    has_string("url.scheme", "mine");
    has_string("http.scheme", "http");
    has_string("http.route", "mine");
    assert_int_equal(decoded->n_attributes, OLD_OF_SERVER + STABLE_OF_SERVER + COMMON);
}

static void
words(void **state)
{
    static const char *const bad[] = {"", "Stable", "http/dup", "new", "both "};
    es_error_t error;

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        char expected[80];

        assert_false(es_config_semconv(&http_config, es_cstr(bad[i]), &error));
        snprintf(expected, sizeof(expected), "\"%s\" is not \"stable\", \"old\" or \"both\"",
                 bad[i]);
        assert_string_equal(error.text, expected);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(server_span),     cmocka_unit_test(old_values),
        cmocka_unit_test(client_span),     cmocka_unit_test(subrequest),
        cmocka_unit_test(user_attributes), cmocka_unit_test(words),
    };

    return cmocka_run_group_tests(tests, NULL, stable);
}
