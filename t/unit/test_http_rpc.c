/* OpenTelemetry's RPC conventions, for gRPC beside HTTP. */

#include "unit_http.h"

static es_http_t
call(es_span_kind_t kind, const char *status)
{
    es_http_t http = kind == ES_KIND_CLIENT ? client_get() : server_get();

    http.kind = kind;
    http.method = ES_STR("POST");
    http.target = ES_STR("/shop.Cart/Add");
    http.route = ES_STR("/shop.Cart/*");
    http.grpc = true;
    http.grpc_status = es_cstr(status);
    return http;
}

static void
statuses(void **state)
{
    static const struct {
        const char *text, *name;
        bool fails_server;
    } rows[] = {
        {"0", "OK", false},
        {"1", "CANCELLED", false},
        {"2", "UNKNOWN", true},
        {"3", "INVALID_ARGUMENT", false},
        {"4", "DEADLINE_EXCEEDED", true},
        {"5", "NOT_FOUND", false},
        {"6", "ALREADY_EXISTS", false},
        {"7", "PERMISSION_DENIED", false},
        {"8", "RESOURCE_EXHAUSTED", false},
        {"9", "FAILED_PRECONDITION", false},
        {"10", "ABORTED", false},
        {"11", "OUT_OF_RANGE", false},
        {"12", "UNIMPLEMENTED", true},
        {"13", "INTERNAL", true},
        {"14", "UNAVAILABLE", true},
        {"15", "DATA_LOSS", true},
        {"16", "UNAUTHENTICATED", false},

        /* What is none. */
        {"17", "UNKNOWN", true},
        {"-1", "UNKNOWN", true},
        {"OK", "UNKNOWN", true},
        {"0 ", "UNKNOWN", true},
        {"99999999999999999999", "UNKNOWN", true},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        for (es_span_kind_t kind = ES_KIND_SERVER; kind <= ES_KIND_CLIENT; kind++) {
            es_http_t http = call(kind, rows[i].text);
            bool fails =
                kind == ES_KIND_CLIENT ? strcmp(rows[i].name, "OK") != 0 : rows[i].fails_server;

            write_span(&http, 0);
            has_string("rpc.system.name", "grpc");
            has_string("rpc.response.status_code", rows[i].name);
            has_int("http.response.status_code", 200);
            assert_int_equal(es_http_failed(&http), fails);
            if (fails) {
                has_string("error.type", rows[i].name);
                assert_int_equal(decoded->status->code, ES_STATUS_ERROR);
            } else {
                has_not("error.type");
                assert_null(decoded->status);
            }
        }
    }
}

static void
methods(void **state)
{
    es_http_t http = call(ES_KIND_SERVER, "0");

    (void) state;
    write_span(&http, 0);
    assert_string_equal(decoded->name, "POST /shop.Cart/*");
    has_string("rpc.method", "shop.Cart/Add");
    has_not("rpc.method_original");

    http.grpc_status = ES_STR("12");
    write_span(&http, 0);
    has_string("rpc.method", "_OTHER");
    has_string("rpc.method_original", "shop.Cart/Add");

    http.target = ES_STR("http://shop/shop.Cart/Add?x=1");
    http.grpc_status = ES_STR("5");
    write_span(&http, 0);
    has_string("rpc.method", "shop.Cart/Add");
}

/* No trailer came: only HTTP tells how it ended. */
static void
without_status(void **state)
{
    es_http_t http = call(ES_KIND_CLIENT, "");

    (void) state;
    write_span(&http, 0);
    has_string("rpc.method", "shop.Cart/Add");
    has_not("rpc.response.status_code");
    has_not("error.type");
    http.status = 502;
    write_span(&http, 0);
    has_string("error.type", "502");

    /* The cause, then what the call said, then HTTP. */
    http.grpc_status = ES_STR("14");
    write_span(&http, 0);
    has_string("error.type", "UNAVAILABLE");
    http.error_type = ES_ERROR_TIMEOUT;
    write_span(&http, 0);
    has_string("error.type", "timeout");
    has_string("rpc.response.status_code", "UNAVAILABLE");
}

/* A subrequest has the headers of a call, but is none. */
static void
subrequests(void **state)
{
    es_http_t http = call(ES_KIND_INTERNAL, "14");

    (void) state;
    write_span(&http, 0);
    has_not("rpc.system.name");
    has_not("error.type");
    assert_null(decoded->status);
}

static void
content_types(void **state)
{
    static const char *const grpc[] = {"application/grpc", "application/grpc+proto",
                                       "application/grpc;a=b", "Application/GRPC ; a=b",
                                       "application/grpc\t"};
    static const char *const others[] = {"",
                                         "application/grp",
                                         "application/grpc-web",
                                         "application/grpc-web+proto",
                                         "application/grpcs",
                                         "xapplication/grpc",
                                         "application/json"};

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(grpc); i++) {
        es_str_t type = unit_exact(es_cstr(grpc[i]));

        assert_true(es_is_grpc(type));
        unit_free(type);
    }
    for (size_t i = 0; i < UNIT_COUNT(others); i++) {
        es_str_t type = unit_exact(es_cstr(others[i]));

        assert_false(es_is_grpc(type));
        unit_free(type);
    }
    assert_false(es_is_grpc(ES_STR_NONE));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statuses),       cmocka_unit_test(methods),
        cmocka_unit_test(without_status), cmocka_unit_test(subrequests),
        cmocka_unit_test(content_types),
    };

    return cmocka_run_group_tests(tests, NULL, clear);
}
