/* OpenTelemetry's HTTP conventions: what es_http_write_span() makes of an
 * exchange, read back with protobuf-c. */

#define _GNU_SOURCE /* memmem */

#include "unit.h"

#include "es_http.h"
#include "es_otlp.pb-c.h"

#define CANARY 4096

static const uint8_t trace_id[16] = {1}, span_id[8] = {2}, parent_id[8] = {3};

/* The decoded span; freed by the next call. */
static EsOtlp__Span *decoded;

static int
clear(void **state)
{
    (void) state;
    if (decoded != NULL) {
        es_otlp__span__free_unpacked(decoded, NULL);
    }
    decoded = NULL;
    return 0;
}

static es_http_t
server_get(void)
{
    return (es_http_t){
        .kind = ES_KIND_SERVER,
        .method = ES_STR("GET"),
        .target = ES_STR("/a?b=c"),
        .scheme = ES_STR("http"),
        .host = ES_STR("example.org"),
        .status = 200,
        .request_body_size = -1,
        .response_body_size = -1,
    };
}

static es_http_t
client_get(void)
{
    es_http_t http = server_get();

    http.kind = ES_KIND_CLIENT;
    http.span_id = span_id;
    return http;
}

static void
write_span(const es_http_t *http, uint64_t wall_offset_ns)
{
    static uint8_t memory[CANARY + ES_SPAN_SIZE_MAX + CANARY];
    es_span_t span = {
        .trace_id = trace_id,
        .span_id = span_id,
        .parent_span_id = parent_id,
        .kind = http->kind,
        .start_ns = 1000,
        .end_ns = 2000,
        .flags = 0x101,
    };
    es_str_t bytes;

    clear(NULL);
    memset(memory, 0xa5, sizeof(memory));
    bytes = es_http_write_span(memory + CANARY, &span, http,
                               &(es_http_trace_t){.wall_offset_ns = wall_offset_ns});
    for (size_t i = 0; i < CANARY; i++) {
        assert_int_equal(memory[i], 0xa5);
        assert_int_equal(memory[CANARY + ES_SPAN_SIZE_MAX + i], 0xa5);
    }
    assert_true(bytes.len <= ES_SPAN_SIZE_MAX);
    decoded = es_otlp__span__unpack(NULL, bytes.len, (const uint8_t *) bytes.data);
    assert_non_null(decoded);
    assert_int_equal(decoded->base.n_unknown_fields, 0);
    assert_int_equal(decoded->kind, http->kind);
}

static const EsOtlp__AnyValue *
find_in(EsOtlp__KeyValue **attributes, size_t count, const char *key)
{
    const EsOtlp__AnyValue *found = NULL;

    for (size_t i = 0; i < count; i++) {
        if (strcmp(attributes[i]->key, key) == 0) {
            if (found != NULL) {
                fail_msg("%s is there twice", key);
            }
            found = attributes[i]->value;
        }
    }
    return found;
}

static const EsOtlp__AnyValue *
find(const char *key)
{
    return find_in(decoded->attributes, decoded->n_attributes, key);
}

static void
check_string(const EsOtlp__AnyValue *value, const char *key, const char *expected)
{
    if (value == NULL || value->value_case != ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE
        || strcmp(value->string_value, expected) != 0) {
        fail_msg("%s is \"%s\" instead of \"%s\"", key,
                 value == NULL                                                 ? "absent"
                 : value->value_case == ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE ? value->string_value
                                                                               : "no string",
                 expected);
    }
}

static void
check_int(const EsOtlp__AnyValue *value, const char *key, int64_t expected)
{
    if (value == NULL || value->value_case != ES_OTLP__ANY_VALUE__VALUE_INT_VALUE
        || value->int_value != expected) {
        fail_msg("%s is not %lld but %lld", key, (long long) expected,
                 value == NULL ? -1LL : (long long) value->int_value);
    }
}

#define has_string(key, expected) check_string(find(key), key, expected)
#define has_int(key, expected) check_int(find(key), key, expected)

static void
has_not(const char *key)
{
    if (find(key) != NULL) {
        fail_msg("%s is there", key);
    }
}

/* ---------------------------------------------------- parts of a URL --- */

static void
targets(void **state)
{
    static const struct {
        const char *target, *path, *query, *authority;
    } rows[] = {
        {"/", "/", "", ""},
        {"/a/b", "/a/b", "", ""},
        {"/a?b=c", "/a", "b=c", ""},
        {"/a?", "/a", "", ""},
        {"/a?b?c=/d", "/a", "b?c=/d", ""},
        {"/?q", "/", "q", ""},
        {"//a//b", "//a//b", "", ""},
        {"/a:b", "/a:b", "", ""},
        {"/go?to=http://other/path?x", "/go", "to=http://other/path?x", ""},
        {"/http://other/path?x", "/http://other/path", "x", ""},
        {"http://example.org/a/b?c=d", "/a/b", "c=d", "example.org"},
        {"https://example.org:8443/a", "/a", "", "example.org:8443"},
        {"http://[2001:db8::1]:80/a?b", "/a", "b", "[2001:db8::1]:80"},
        {"http://user:secret@example.org/a", "/a", "", "example.org"},
        {"http://user:s@cret@example.org/a", "/a", "", "example.org"},
        {"http://example.org", "/", "", "example.org"},
        {"http://example.org/", "/", "", "example.org"},
        {"http://example.org?b=/c", "/", "b=/c", "example.org"},
        {"http://", "/", "", ""},
        {"*", "*", "", ""},
        {"?b=c", "/", "b=c", ""},
        {"example.org:443", "", "", "example.org:443"},
        {"a", "", "", "a"},
        {"a:/", "a:/", "", ""},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_str_t target = unit_exact(es_cstr(rows[i].target)), authority, path, query;

        es_http_split_target(target, &authority, &path, &query);
        unit_assert_str(authority, rows[i].authority);
        unit_assert_str(path, rows[i].path);
        unit_assert_str(query, rows[i].query);
        unit_free(target);
    }
}

static void
hosts(void **state)
{
    static const struct {
        const char *authority, *host;
        unsigned port;
    } rows[] = {
        {"example.org", "example.org", 0},
        {"example.org:8080", "example.org", 8080},
        {"example.org:", "example.org", 0},
        {"example.org:65535", "example.org", 65535},
        {"example.org:65536", "example.org", 0},
        {"example.org:99999999999999999999", "example.org", 0},
        {"example.org:80x", "example.org", 0},
        {"example.org:-1", "example.org", 0},
        {"192.0.2.1:443", "192.0.2.1", 443},
        {"unix:/run/app.sock", "/run/app.sock", 0},
        {"[2001:db8::1]", "2001:db8::1", 0},
        {"[2001:db8::1]:8080", "2001:db8::1", 8080},
        {"[::1]:", "::1", 0},
        {"[::1]8080", "::1", 0},
        {"[]:1", "", 1},
        {"[::1", "[::1", 0},
        {"[", "[", 0},
        {":80", "", 80},
        {"", "", 0},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_str_t authority = unit_exact(es_cstr(rows[i].authority)), host;
        unsigned port = 7;

        es_http_split_host(authority, &host, &port);
        unit_assert_str(host, rows[i].host);
        assert_int_equal(port, rows[i].port);
        unit_free(authority);
    }
}

static void
redaction(void **state)
{
    static const char *const rows[][2] = {
        {"q=1", "q=1"},
        {"", ""},
        {"sig=secret", "sig=REDACTED"},
        {"sig=secret&q=1", "sig=REDACTED&q=1"},
        {"a=1&sig=secret&q=1", "a=1&sig=REDACTED&q=1"},
        {"a=1&q=1&sig=secret", "a=1&q=1&sig=REDACTED"},
        {"sig=", "sig=REDACTED"},
        {"sig=&q=1", "sig=REDACTED&q=1"},
        {"sig", "sig"},
        {"sig&q", "sig&q"},
        {"Sig=1&SIG=2", "Sig=1&SIG=2"},
        {"sigx=1&xsig=2", "sigx=1&xsig=2"},
        {"q=sig=1", "q=sig=1"},
        {"sig=a=b=c&q", "sig=REDACTED&q"},
        {"sig=1&sig=2&sig=3", "sig=REDACTED&sig=REDACTED&sig=REDACTED"},
        {"&&sig=1&&", "&&sig=REDACTED&&"},
        {"&sig=1", "&sig=REDACTED"},
        {"=sig", "=sig"},
        {"X-Amz-Signature=1", "X-Amz-Signature=REDACTED"},
        {"X-Amz-Credential=1", "X-Amz-Credential=REDACTED"},
        {"X-Amz-Security-Token=1", "X-Amz-Security-Token=REDACTED"},
        {"X-Goog-Signature=1", "X-Goog-Signature=REDACTED"},
        {"AWSAccessKeyId=1&Signature=2", "AWSAccessKeyId=REDACTED&Signature=REDACTED"},
    };
    char out[256];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_str_t query = unit_exact(es_cstr(rows[i][0]));
        es_str_t result = es_http_redact_query(query, out, sizeof(out));

        unit_assert_str(result, rows[i][1]);
        if (strcmp(rows[i][0], rows[i][1]) == 0) {
            assert_ptr_equal(result.data, query.data);
        }
        unit_free(query);
    }
}

/* Whatever the room: never a byte too many, never a secret. */
static void
redaction_room(void **state)
{
    static const char query[] = "first=1&sig=SECRET&second=2&Signature=SECRET&third=3&sig=SECRET";
    char out[128];

    (void) state;
    for (size_t size = 0; size < 100; size++) {
        es_str_t result;

        memset(out, '#', sizeof(out));
        result = es_http_redact_query(ES_STR(query), out, size);
        assert_true(result.len <= size || result.len == 0);
        for (size_t i = size; i < sizeof(out); i++) {
            assert_int_equal(out[i], '#');
        }
        assert_null(memmem(result.data, result.len, "SECRET", 6));
    }
}

/* ---------------------------------------------------------------- spans --- */

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
        attributes[i] = (es_attribute_t){es_cstr(ours[i]), ES_STR("mine")};
    }
    attributes[n] = (es_attribute_t){ES_STR("tenant"), ES_STR("blue")};
    attributes[n + 1] = (es_attribute_t){ES_STR("empty"), ES_STR_NONE};
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
    attributes[0] = (es_attribute_t){ES_STR("url.full"), ES_STR("mine")};
    attributes[1] = (es_attribute_t){ES_STR("http.request.method_original"), ES_STR("mine")};
    http.attributes = attributes;
    http.attributes_count = 2;
    write_span(&http, 0);
    has_string("url.full", "mine");
    has_string("http.request.method_original", "mine");
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
            attributes[k] =
                (es_attribute_t){ES_STR("k"), es_str(bytes, unit_random_below(&random, 200))};
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
        cmocka_unit_test(targets),
        cmocka_unit_test(hosts),
        cmocka_unit_test(redaction),
        cmocka_unit_test(redaction_room),
        cmocka_unit_test(server_span),
        cmocka_unit_test(sparse_span),
        cmocka_unit_test(client_span),
        cmocka_unit_test(server_query_is_redacted),
        cmocka_unit_test(long_query),
        cmocka_unit_test(server_ports),
        cmocka_unit_test(methods),
        cmocka_unit_test(names),
        cmocka_unit_test(statuses),
        cmocka_unit_test(failures),
        cmocka_unit_test(user_attributes),
        cmocka_unit_test(tries),
        cmocka_unit_test(huge),
    };

    return cmocka_run_group_tests(tests, NULL, clear);
}
