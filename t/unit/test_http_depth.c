/* What a request went through: subrequests, tries of upstreams, caches, what it waited for,
 * and events. */

#include "unit_http.h"

static const uint64_t wall_offset_ns = UINT64_C(1700000000000000000);

static void
subrequest(void **state)
{
    es_http_t http = server_get();

    (void) state;
    http.kind = ES_KIND_INTERNAL;
    http.target = ES_STR("/auth?user=1&sig=secret");
    http.route = ES_STR("/auth");
    http.status = 204;
    http.user_agent = ES_STR("curl/8");
    http.client_address = http.peer_address = ES_STR("192.0.2.1");
    http.peer_port = 1;
    http.protocol_version = ES_STR("1.1");
    http.request_body_size = http.response_body_size = 7;
    write_span(&http, 0);

    assert_string_equal(decoded->name, "subrequest /auth");
    has_string("http.request.method", "GET");
    has_string("url.path", "/auth");
    has_string("url.query", "user=1&sig=REDACTED");
    has_string("http.route", "/auth");
    has_int("http.response.status_code", 204);
    assert_int_equal(decoded->n_attributes, 5);
    assert_null(decoded->status);

    /* Failed as a server's span is. */
    http.status = 404;
    write_span(&http, 0);
    has_not("error.type");
    assert_null(decoded->status);
    http.status = 500;
    http.background = true;
    http.cache_status = ES_STR("EXPIRED");
    write_span(&http, 0);
    has_string("error.type", "500");
    has_bool("edgespan.background", true);
    has_string("edgespan.cache.status", "EXPIRED");
    assert_int_equal(decoded->status->code, ES_STATUS_ERROR);

    http.route = ES_STR_NONE;
    write_span(&http, 0);
    assert_string_equal(decoded->name, "subrequest");
    http.name = ES_STR("mine");
    write_span(&http, 0);
    assert_string_equal(decoded->name, "mine");
}

static void
resends_and_caches(void **state)
{
    es_http_t http = client_get();

    (void) state;
    write_span(&http, 0);
    has_not("http.request.resend_count");
    has_not("edgespan.cache.status");
    has_not("edgespan.background");
    http.resend_count = 2;
    write_span(&http, 0);
    has_int("http.request.resend_count", 2);

    http = server_get();
    http.cache_status = ES_STR("HIT");
    http.log_dropped = 3;
    write_span(&http, 0);
    has_string("edgespan.cache.status", "HIT");
    has_int("edgespan.log.dropped", 3);
}

static void
has_seconds(const char *key, uint64_t ns)
{
    if (ns == 0) {
        has_not(key);
    } else {
        has_double(key, (double) ns / 1e9);
    }
}

/* The span is from 1000 to 2000. */
static void
who_was_slow(void **state)
{
    es_timeline_t timeline = {0};
    es_http_t http = server_get();
    double sum = 0;

    (void) state;
    write_span(&http, wall_offset_ns);
    has_not("edgespan.time.server");

    http.timeline = &timeline;
    write_span(&http, wall_offset_ns);
    has_double("edgespan.time.server", 1000e-9);

    es_timeline_add(&timeline, ES_PHASE_UPLOAD, 500, 1100);
    es_timeline_add(&timeline, ES_PHASE_CONNECT, 1090, 1200);
    es_timeline_add(&timeline, ES_PHASE_FIRST_BYTE, 1250, 1500);
    es_timeline_add(&timeline, ES_PHASE_BODY, 1500, 1800);
    es_timeline_add(&timeline, ES_PHASE_DOWNLOAD, 1700, 9000);
    write_span(&http, wall_offset_ns);
    has_seconds("edgespan.time.client_upload", 100);
    has_seconds("edgespan.time.upstream_connect", 100);
    has_seconds("edgespan.time.upstream_first_byte", 250);
    has_seconds("edgespan.time.upstream_body", 200);
    has_seconds("edgespan.time.client_download", 300);
    has_seconds("edgespan.time.server", 50);
    for (size_t i = 0; i < decoded->n_attributes; i++) {
        if (strncmp(decoded->attributes[i]->key, "edgespan.time.", 14) == 0) {
            sum += decoded->attributes[i]->value->double_value;
        }
    }
    assert_true(sum > 999.999e-9 && sum < 1000.001e-9);

    /* Nothing is left for the server, and of a phase of nothing there is none. */
    timeline.count = 0;
    es_timeline_add(&timeline, ES_PHASE_DOWNLOAD, 1, 9000);
    write_span(&http, wall_offset_ns);
    has_seconds("edgespan.time.client_download", 1000);
    has_not("edgespan.time.server");
    has_not("edgespan.time.client_upload");
}

static const struct {
    es_http_try_t http_try;
    uint64_t connect, tls, first_byte, body;
} try_rows[] = {
    {{.start_mono_ns = 100,
      .connected_mono_ns = 110,
      .secured_mono_ns = 130,
      .first_byte_mono_ns = 200,
      .end_mono_ns = 250},
     10,
     20,
     70,
     50},
    {{.start_mono_ns = 100,
      .connected_mono_ns = 110,
      .first_byte_mono_ns = 200,
      .end_mono_ns = 250},
     10,
     0,
     90,
     50},
    {{.start_mono_ns = 100, .first_byte_mono_ns = 200, .end_mono_ns = 200, .reused = true},
     0,
     0,
     100,
     0},
    {{.start_mono_ns = 100, .secured_mono_ns = 130, .first_byte_mono_ns = 200, .end_mono_ns = 250},
     30,
     0,
     70,
     50},
    {{.start_mono_ns = 100, .connected_mono_ns = 110, .end_mono_ns = 250}, 10, 0, 0, 0},
    {{.start_mono_ns = 100, .end_mono_ns = 250, .unconnected = true}, 150, 0, 0, 0},
    {{.start_mono_ns = 100, .connected_mono_ns = 110, .end_mono_ns = 250, .unconnected = true},
     10,
     140,
     0,
     0},
    {{.start_mono_ns = 100, .end_mono_ns = 250}, 0, 0, 0, 0},
    {{.start_mono_ns = 0}, 0, 0, 0, 0},
};

static void
one_try(void **state)
{
    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(try_rows); i++) {
        es_http_t http = client_get();

        http.tries = &try_rows[i].http_try;
        http.tries_count = 1;
        write_span(&http, wall_offset_ns);
        assert_int_equal(decoded->n_events, 0);
        has_seconds("edgespan.time.upstream_connect", try_rows[i].connect);
        has_seconds("edgespan.time.upstream_tls", try_rows[i].tls);
        has_seconds("edgespan.time.upstream_first_byte", try_rows[i].first_byte);
        has_seconds("edgespan.time.upstream_body", try_rows[i].body);
        if (try_rows[i].http_try.reused) {
            has_bool("edgespan.upstream.reused", true);
        } else {
            has_not("edgespan.upstream.reused");
        }
    }
}

static void
several_tries(void **state)
{
    es_http_try_t tries[] = {try_rows[0].http_try, try_rows[2].http_try};
    es_http_t http = client_get();
    const EsOtlp__Event *event;

    (void) state;
    http.tries = tries;
    http.tries_count = 2;
    write_span(&http, wall_offset_ns);
    has_not("edgespan.time.upstream_connect");
    has_not("edgespan.upstream.reused");
    assert_int_equal(decoded->n_events, 2);

    event = decoded->events[0];
    assert_int_equal(event->n_attributes, 5);
    check_double(find_in(event->attributes, 5, "edgespan.upstream.duration"), "duration", 150e-9);
    check_double(find_in(event->attributes, 5, "edgespan.time.upstream_connect"), "connect", 10e-9);
    check_double(find_in(event->attributes, 5, "edgespan.time.upstream_tls"), "tls", 20e-9);
    check_double(find_in(event->attributes, 5, "edgespan.time.upstream_first_byte"), "first byte",
                 70e-9);
    check_double(find_in(event->attributes, 5, "edgespan.time.upstream_body"), "body", 50e-9);
    event = decoded->events[1];
    assert_int_equal(event->n_attributes, 3);
    check_bool(find_in(event->attributes, 3, "edgespan.upstream.reused"), "reused", true);
}

/* After the tries; their attributes are not the span's. */
static void
events(void **state)
{
    const es_http_try_t tries[2] = {{.start_mono_ns = 1900, .error_type = ES_ERROR_TIMEOUT},
                                    {.start_mono_ns = 1950}};
    const es_str_t words[] = {ES_STR("a"), ES_STR("b")};
    const es_attribute_t attributes[] = {
        {.key = ES_EVENT_LOG_SEVERITY, .value = ES_STR("error")},
        {.key = ES_STR("n"), .value = ES_STR("17"), .type = ES_ATTRIBUTE_INT},
        {.key = ES_STR("bad"), .value = ES_STR("x"), .type = ES_ATTRIBUTE_INT},
        {.key = ES_STR("error.type"), .value = ES_STR("theirs")},
        {.key = ES_STR("words"), .type = ES_ATTRIBUTE_STRINGS, .values = words, .values_count = 2},
    };
    const es_attribute_t users = {.key = ES_STR("error.type"), .value = ES_STR("mine")};
    const es_http_event_t list[] = {
        {.name = ES_EVENT_UPGRADE, .mono_ns = 1200},
        {.name = ES_EVENT_LOG,
         .mono_ns = 1300,
         .attributes = attributes,
         .attributes_count = UNIT_COUNT(attributes)},
    };
    es_http_t http = client_get();
    EsOtlp__Event *event;

    (void) state;
    http.status = 502;
    http.events = list;
    http.events_count = 2;
    http.tries = tries;
    http.tries_count = 2;
    http.attributes = &users;
    http.attributes_count = 1;
    write_span(&http, wall_offset_ns);
    has_string("error.type", "mine");
    assert_int_equal(decoded->n_events, 4);
    assert_string_equal(decoded->events[1]->name, "edgespan.upstream.try");
    event = decoded->events[0];
    check_string(find_in(event->attributes, event->n_attributes, "error.type"), "error.type",
                 "timeout");

    event = decoded->events[2];
    assert_string_equal(event->name, "edgespan.upgrade");
    assert_int_equal(event->time_unix_nano, wall_offset_ns + 1200);
    assert_int_equal(event->n_attributes, 0);

    event = decoded->events[3];
    assert_string_equal(event->name, "edgespan.log");
    assert_int_equal(event->time_unix_nano, wall_offset_ns + 1300);
    assert_int_equal(event->n_attributes, 4);
    assert_int_equal(event->dropped_attributes_count, 1);
    assert_int_equal(decoded->dropped_attributes_count, 0);
    check_string(find_in(event->attributes, 4, "log.severity"), "severity", "error");
    check_int(find_in(event->attributes, 4, "n"), "n", 17);
    check_string(find_in(event->attributes, 4, "error.type"), "error.type", "theirs");
    assert_int_equal(find_in(event->attributes, 4, "words")->array_value->n_values, 2);

    /* Without tries, too. */
    http.tries_count = 0;
    write_span(&http, wall_offset_ns);
    assert_int_equal(decoded->n_events, 2);
}

/* The peer is masked where it is the client, and only there. */
static void
masked_clients(void **state)
{
    const es_str_t words[] = {ES_STR("client_address=/24,/48"), ES_STR("query=token")};
    es_http_t http = server_get();
    es_redaction_t redaction;
    es_error_t error;

    (void) state;
    assert_true(es_redaction_set(&redaction, words, 2, &error));
    http.redaction = &redaction;
    http.target = ES_STR("/a?token=1&sig=2");
    http.client_address = http.peer_address = ES_STR("192.0.2.77");
    http.peer_port = 1;
    write_span(&http, 0);
    has_string("client.address", "192.0.2.0");
    has_string("network.peer.address", "192.0.2.0");
    has_int("network.peer.port", 1);
    has_string("url.query", "token=REDACTED&sig=2");

    http.peer_address = ES_STR("198.51.100.9");
    write_span(&http, 0);
    has_string("client.address", "192.0.2.0");
    has_string("network.peer.address", "198.51.100.9");

    http.client_address = ES_STR_NONE;
    write_span(&http, 0);
    has_not("client.address");
    has_string("network.peer.address", "198.51.100.0");

    http_config.semconv = ES_SEMCONV_BOTH;
    http.client_address = http.peer_address = ES_STR("192.0.2.77");
    write_span(&http, 0);
    has_string("net.sock.peer.addr", "192.0.2.0");
    has_string("http.client_ip", "192.0.2.0");
    has_string("http.target", "/a?token=REDACTED&sig=2");
    http_config.semconv = ES_SEMCONV_STABLE;

    http = client_get();
    http.redaction = &redaction;
    http.target = ES_STR("/a?token=1");
    http.peer_address = ES_STR("10.0.0.7");
    write_span(&http, 0);
    has_string("network.peer.address", "10.0.0.7");
    has_string("url.full", "http://example.org/a?token=REDACTED");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(subrequest),     cmocka_unit_test(resends_and_caches),
        cmocka_unit_test(who_was_slow),   cmocka_unit_test(one_try),
        cmocka_unit_test(several_tries),  cmocka_unit_test(events),
        cmocka_unit_test(masked_clients),
    };

    return cmocka_run_group_tests(tests, NULL, clear);
}
