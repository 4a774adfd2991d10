/* The parts of a URL, and what of a query is no one's business. */

#define _GNU_SOURCE /* memmem */

#include "unit.h"

#include "es_http.h"

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
        {"a=1;sig=secret", "a=1;sig=REDACTED"},
        {"a=1;b;sig=secret;c=2&d=3", "a=1;b;sig=REDACTED&d=3"},
        {"sig=sec;ret&q=1;r=2;;", "sig=REDACTED&q=1;r=2;;"},
        {";sig=1", ";sig=REDACTED"},
        {"q;sig;=sig;", "q;sig;=sig;"},
        {"sig=secret#sig=1", "sig=REDACTED"},
        {"s%69g=secret&%73%69%67=1", "s%69g=REDACTED&%73%69%67=REDACTED"},
    };
    char out[256];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_str_t query = unit_exact(es_cstr(rows[i][0]));
        es_str_t result = es_http_redact_query(NULL, query, out, sizeof(out));

        unit_assert_str(result, rows[i][1]);
        if (strcmp(rows[i][0], rows[i][1]) == 0) {
            assert_ptr_equal(result.data, query.data);
        }
        unit_free(query);
    }
}

/* All that could be a secret, whether it has a key or not. */
static void
redaction_of_all(void **state)
{
    static const char *const rows[][2] = {
        {"", ""},
        {"a=1&b=2", "a=REDACTED&b=REDACTED"},
        {"token", "REDACTED"},
        {"&token&&=x&a=", "&REDACTED&&=REDACTED&a=REDACTED"},
        {"token;x=1&a=1;b=2&;&;c=3", "REDACTED&a=REDACTED&;&;c=REDACTED"},
    };
    const es_str_t all = ES_STR("query=*"), key = ES_STR("query=token");
    es_redaction_t redaction;
    es_error_t error;
    char out[256];

    (void) state;
    assert_true(es_redaction_set(&redaction, &all, 1, &error));
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        unit_assert_str(es_http_redact_query(&redaction, es_cstr(rows[i][0]), out, sizeof(out)),
                        rows[i][1]);
    }

    /* A key that is named has a value, or there is nothing to hide. */
    assert_true(es_redaction_set(&redaction, &key, 1, &error));
    unit_assert_str(
        es_http_redact_query(&redaction, ES_STR("token&token=1&sig=2"), out, sizeof(out)),
        "token&token=REDACTED&sig=2");
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
        result = es_http_redact_query(NULL, ES_STR(query), out, size);
        if (size < sizeof("first=1&") - 1) {
            unit_assert_str(result, "first=1&");
        } else {
            assert_true(result.len <= size);
        }
        for (size_t i = size; i < sizeof(out); i++) {
            assert_int_equal(out[i], '#');
        }
        assert_null(memmem(result.data, result.len, "SECRET", 6));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets),        cmocka_unit_test(hosts),
        cmocka_unit_test(redaction),      cmocka_unit_test(redaction_of_all),
        cmocka_unit_test(redaction_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
