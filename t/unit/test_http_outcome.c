/* OpenTelemetry's HTTP conventions: how an exchange ended, and its tries before. */

#include "unit_http.h"

static void
statuses(void **state)
{
    (void) state;
    for (unsigned status = 100; status < 600; status++) {
        for (es_span_kind_t kind = ES_KIND_SERVER; kind <= ES_KIND_CLIENT; kind++) {
            es_http_t http = kind == ES_KIND_SERVER ? server_get() : client_get();
            bool error = status >= (kind == ES_KIND_SERVER ? 500 : 400);
            char digits[16];

            http.status = status;
            write_span(&http, 0);
            has_int("http.response.status_code", status);
            if (error) {
                snprintf(digits, sizeof(digits), "%u", status);
                has_string("error.type", digits);
                assert_non_null(decoded->status);
                assert_int_equal(decoded->status->code, ES_STATUS_ERROR);
                assert_string_equal(decoded->status->message, "");
            } else {
                has_not("error.type");
                assert_null(decoded->status);
            }
        }
    }
}

static void
failures(void **state)
{
    es_http_t http = server_get();

    (void) state;
    /* Failed in spite of a good status. */
    http.error_type = ES_STR("upstream_aborted");
    write_span(&http, 0);
    has_string("error.type", "upstream_aborted");
    has_int("http.response.status_code", 200);
    assert_int_equal(decoded->status->code, ES_STATUS_ERROR);

    /* The cause beats the number. */
    http.status = 504;
    http.error_type = ES_STR("timeout");
    write_span(&http, 0);
    has_string("error.type", "timeout");

    /* For those who know no error.type the status tells it all the same. */
    http.no_error_type = true;
    write_span(&http, 0);
    has_not("error.type");
    assert_int_equal(decoded->status->code, ES_STATUS_ERROR);

    /* No response at all, and no error of ours. */
    http = server_get();
    http.status = 0;
    http.reason = ES_STR("client_closed");
    write_span(&http, 0);
    has_not("http.response.status_code");
    has_not("error.type");
    has_string("edgespan.reason", "client_closed");
    assert_null(decoded->status);

    http = client_get();
    http.status = 0;
    http.error_type = ES_STR("connect_timeout");
    write_span(&http, 0);
    has_not("http.response.status_code");
    assert_int_equal(decoded->status->code, ES_STATUS_ERROR);
}

static void
tries(void **state)
{
    const es_http_try_t list[] = {
        {.peer_address = ES_STR("10.0.0.1"),
         .peer_port = 80,
         .error_type = ES_STR("timeout"),
         .start_mono_ns = 100,
         .end_mono_ns = 500000100},
        {.peer_address = ES_STR("unix:/s"), .status = 502, .start_mono_ns = 600},
        {.status = 200, .start_mono_ns = 700, .end_mono_ns = 700},
    };
    es_http_t http = client_get();
    EsOtlp__Event *event;

    (void) state;
    http.tries = list;
    http.tries_count = 1;
    write_span(&http, 1000000);
    assert_int_equal(decoded->n_events, 0);

    http.tries_count = 3;
    write_span(&http, 1000000);
    assert_int_equal(decoded->n_events, 3);

    event = decoded->events[0];
    assert_string_equal(event->name, "edgespan.upstream.try");
    assert_int_equal(event->time_unix_nano, 1000100);
    assert_int_equal(event->n_attributes, 4);
    check_string(find_in(event->attributes, 4, "network.peer.address"), "peer", "10.0.0.1");
    check_int(find_in(event->attributes, 4, "network.peer.port"), "port", 80);
    check_string(find_in(event->attributes, 4, "error.type"), "error.type", "timeout");
    assert_true(find_in(event->attributes, 4, "edgespan.upstream.duration")->double_value == 0.5);

    event = decoded->events[1];
    assert_int_equal(event->n_attributes, 2);
    check_string(find_in(event->attributes, 2, "network.peer.address"), "peer", "unix:/s");
    check_int(find_in(event->attributes, 2, "http.response.status_code"), "status", 502);

    assert_int_equal(decoded->events[2]->n_attributes, 1);
    assert_int_equal(decoded->events[2]->time_unix_nano, 1000700);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statuses),
        cmocka_unit_test(failures),
        cmocka_unit_test(tries),
    };

    return cmocka_run_group_tests(tests, NULL, clear);
}
