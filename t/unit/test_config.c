/* The exporter's options: what they take, refuse and become. */

#define _GNU_SOURCE /* nftw */

#include "unit_config.h"

#include "es_protocol.h"

/* ------------------------------------------------------------ options --- */

static void
values(void **state)
{
    es_exporter_config_t *e;

    (void) state;
    e = exporter("endpoint=" URL, NULL);
    assert_non_null(e);
    assert_false(e->gzip);
    assert_true(e->tls.verify);
    assert_null(e->spool);
    assert_int_equal(e->spool_max, 64 << 20);
    assert_false(e->batch_size_given);
    assert_string_equal(unit_said,
                        "notice: endpoint \"" URL "\": spans go to " URL " as http/protobuf\n");

    e = exporter("endpoint=" URL, "compression=gzip", "batch_size=7", "spool=a", "spool_max=1t",
                 NULL);
    assert_non_null(e);
    assert_true(e->gzip);
    assert_true(e->batch_size_given);
    assert_int_equal(e->batch_size, 7);
    assert_int_equal(e->spool_max, UINT64_C(1) << 40);

    assert_false(exporter("endpoint=" URL, "compression=off", NULL)->gzip);
    assert_false(exporter("endpoint=" URL, "compression=none", NULL)->gzip);

    refused("invalid value \"zstd\" of \"compression\": it takes \"off\" or \"gzip\"",
            "endpoint=" URL, "compression=zstd");
    refused("invalid value \"\" of \"compression\"", "endpoint=" URL, "compression=");
    refused("invalid value \"none\" of \"ssl_verify\": it takes \"on\" or \"off\"", "endpoint=" URL,
            "ssl_verify=none");
    refused("it takes a size from 1m to 1t", "endpoint=" URL, "spool=a", "spool_max=1023k");
    refused("it takes a size from 1m to 1t", "endpoint=" URL, "spool=a", "spool_max=2t");
    refused("\"compression\" is given twice", "endpoint=" URL, "compression=off",
            "compression=gzip");
    refused("\"compression gzip\" is not possible with protocol file", "endpoint=file:///x",
            "compression=gzip");
    refused("\"spool\" is not possible with protocol file", "endpoint=file:///x", "spool=a");
    refused("a spool's maximum without a \"spool\"", "endpoint=" URL, "spool_max=2m");
    refused("empty \"spool\": it takes a directory", "endpoint=" URL, "spool=");
}

static void
several_endpoints(void **state)
{
    es_exporter_config_t *e;

    (void) state;
    e = exporter("endpoint=http://a:4318", "endpoint=b:4318", "endpoint=http://c/x",
                 "endpoint=http://d/y", NULL);
    assert_non_null(e);
    assert_int_equal(e->targets_count, 4);
    assert_string_equal(e->targets[1].url, "http://b:4318/v1/traces");
    assert_string_equal(e->targets[3].url, "http://d/y");

    refused("more than 4 endpoints in one exporter", "endpoint=a:4318", "endpoint=a:4318",
            "endpoint=a:4318", "endpoint=a:4318", "endpoint=a:4318");
    refused("\"file:///x\" means protocol file, and the one before it http/protobuf",
            "endpoint=a:4318", "endpoint=file:///x");
    refused("protocol file takes one endpoint", "endpoint=file:///x", "endpoint=file:///y");
}

/* ---------------------------------------------------------- endpoints --- */

/* An endpoint of a protocol that this build does not speak is refused by name. */
static void
means(const char *endpoint, const char *protocol, const char *url, const char *unix_socket)
{
    char option[256], words[64];
    es_exporter_config_t *e;

    again();
    snprintf(option, sizeof(option), "endpoint=%s", endpoint);
    e = exporter(option, NULL);
    if (es_protocol_find(es_cstr(protocol)) == NULL) {
        assert_null(e);
        snprintf(words, sizeof(words), "means protocol %s, which is not spoken", protocol);
        assert_non_null(strstr(why.text, words));
        return;
    }
    if (e == NULL) {
        fail_msg("%s: %s", endpoint, why.text);
        return;
    }
    assert_string_equal(e->protocol->name, protocol);
    if (url != NULL) {
        assert_string_equal(e->targets[0].url, url);
    }
    if (unix_socket != NULL) {
        assert_string_equal(e->targets[0].unix_socket, unix_socket);
    } else {
        assert_null(e->targets[0].unix_socket);
    }
    unit_is_said(protocol);
}

static void
inference(void **state)
{
    (void) state;
    means("host:4317", "grpc", NULL, NULL);
    means("http://host:4317/", "grpc", NULL, NULL);
    means("https://host", "grpc", NULL, NULL);
    means("host:4318", "http/protobuf", "http://host:4318/v1/traces", NULL);
    means("https://host:4318/", "http/protobuf", "https://host:4318/v1/traces", NULL);
    means("http://user:pass@host:4318", "http/protobuf", "http://user:pass@host:4318/v1/traces",
          NULL);
    means("http://u:p@host/a", "http/protobuf", "http://u:p@host/a", NULL);
    means("http://host/a/b?c=/api/traces", "http/protobuf", "http://host/a/b?c=/api/traces", NULL);
    means("http://host:9411", "zipkin", "http://host:9411/api/v2/spans", NULL);
    means("https://host/zip/api/v2/spans", "zipkin", "https://host/zip/api/v2/spans", NULL);
    means("host:14268", "jaeger", NULL, NULL);
    means("http://host:14268/api/traces?format=jaeger.thrift", "jaeger",
          "http://host:14268/api/traces?format=jaeger.thrift", NULL);
    means("[::1]:4318", "http/protobuf", "http://[::1]:4318/v1/traces", NULL);
    means("http://[::1]/a", "http/protobuf", "http://[::1]/a", NULL);
    means("file:///var/log/a", "file", "/var/log/a", NULL);
    means("stdout", "file", "stdout", NULL);
    means("stderr", "file", "stderr", NULL);
    means("unix:/run/otel.sock", "grpc", NULL, "/run/otel.sock");
}

static void
unix_sockets(void **state)
{
    char option[200] = "endpoint=unix:/";
    es_exporter_config_t *e;

    (void) state;
    e = exporter("endpoint=unix:/run/a.sock",
                 "endpoint=unix:/run/b.sock:", "endpoint=unix:/run/c.sock:/x/y",
                 "protocol=http/protobuf", NULL);
    assert_non_null(e);
    assert_string_equal(e->targets[0].url, "http://localhost/v1/traces");
    assert_string_equal(e->targets[0].unix_socket, "/run/a.sock");
    assert_string_equal(e->targets[0].name, "unix:/run/a.sock");
    assert_string_equal(e->targets[1].url, "http://localhost/v1/traces");
    assert_string_equal(e->targets[1].unix_socket, "/run/b.sock");
    assert_string_equal(e->targets[2].url, "http://localhost/x/y");
    assert_string_equal(e->targets[2].unix_socket, "/run/c.sock");

    refused("has no absolute path of a socket", "endpoint=unix:run/a.sock",
            "protocol=http/protobuf");
    refused("has no absolute path of a socket", "endpoint=unix:", "protocol=http/protobuf");
    refused("has no path behind its second colon", "endpoint=unix:/a:b/c",
            "protocol=http/protobuf");
    memset(option + strlen(option), 'x', 107);
    refused("has no absolute path of a socket", option, "protocol=http/protobuf");
    option[strlen(option) - 1] = '\0'; /* 107 bytes fit into sun_path */
    again();
    assert_non_null(exporter(option, "protocol=http/protobuf", NULL));
}

static void
addresses(void **state)
{
    static const char *const bad[] = {
        "endpoint=::1:4318",           "endpoint=http://::1/a",     "endpoint=http://[::1/a",
        "endpoint=http://[::1:4318/a", "endpoint=http://[]:4318/a", "endpoint=http://[::1]4318/a",
        "endpoint=http://[::1]:x/a",   "endpoint=http://h:1:2/a",
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        refused("has no valid host and port", bad[i]);
    }
}

/* Neither in what is logged and shown, nor in what is refused. */
static void
secrets_of_endpoints(void **state)
{
    static const char *const good[] = {
        "endpoint=http://u:s3cret@h/a",     "endpoint=u:s3cret@h:4318",
        "endpoint=http://h/a?key=s3cret",   "endpoint=http://u:s3@cret@h/a?b=c",
        "endpoint=http://h/@a?key=@s3cret",
    };
    static const char *const bad[] = {
        "endpoint=http:/u:s3cret@h/a",   "endpoint=http://u:s3/cret@h/a",
        "endpoint=http://u:s3?cret@h/a", "endpoint=http://u:s3#cret@h:/a",
        "endpoint=u:s3cret@h:port/",     "endpoint=http://h?key=s3cret",
        "endpoint=ftp://h/a?key=s3cret", "endpoint=http://h/$a?key=s3cret",
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(good); i++) {
        es_exporter_config_t *e;

        again();
        unit_said[0] = '\0';
        e = exporter(good[i], NULL);
        if (e == NULL || strstr(e->targets[0].name, "s3") != NULL
            || strstr(unit_said, "s3") != NULL) {
            fail_msg("%s: %s, %s", good[i], e != NULL ? e->targets[0].name : why.text, unit_said);
        }
    }
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        refused("endpoint \"", bad[i]);
        if (strstr(why.text, "s3") != NULL || strstr(unit_said, "s3") != NULL) {
            fail_msg("%s: %s", bad[i], why.text);
        }
    }
}

static void
grpc_has_no_path(void **state)
{
    (void) state;
    if (es_protocol_find(ES_STR("grpc")) == NULL) {
        return;
    }
    refused("has a path, which protocol grpc has no use for", "endpoint=http://h:4317/v1/traces",
            "protocol=grpc");
    again();
    assert_non_null(exporter("endpoint=http://h:4317/", "protocol=grpc", NULL));
}

/* Whatever is accepted is a URL or a path, and nothing reads past its end. */
static void
any_endpoint(void **state)
{
    static const char *const parts[] = {
        "http", "https", "file", "unix", "stdout", ":",    "//",    "/",     "@",      "[::1]",
        "host", "4318",  "4317", "9411", "0",      "?a=b", "/api/", "user:", "traces", "\xff",
    };
    static const char *const protocols[] = {NULL, "http/protobuf", "http/json", "file"};
    unit_random_t random = unit_random_init();

    (void) state;
    for (int round = 0; round < 20000; round++) {
        const char *protocol = protocols[unit_random_below(&random, UNIT_COUNT(protocols))];
        es_exporter_config_t *made;
        es_str_t exact;
        char text[128] = "";
        bool open;

        for (uint32_t n = unit_random_below(&random, 8); n != 0; n--) {
            strcat(text, parts[unit_random_below(&random, UNIT_COUNT(parts))]);
        }
        exact = unit_exact(es_cstr(text));
        es_endpoint_is_url(exact);
        unit_said[0] = '\0';
        assert_true(es_config_exporter(config, &made, &why));
        if (es_exporter_option(made, ES_STR("endpoint"), exact, &why)
            && (protocol == NULL
                || es_exporter_option(made, ES_STR("protocol"), es_cstr(protocol), &why))
            && es_exporter_finish(made, &why)) {
            const char *url = made->targets[0].url;

            es_endpoint_infer(&made->targets[0], &open);
            unit_assert(&random, strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0
                                     || (made->protocol->rules == NULL
                                         && (url[0] == '/' || strcmp(url, "stdout") == 0)));

            const char *authority = strstr(made->targets[0].name, "://");

            /* No credentials in what is logged; a socket's path has none, and may have
             * an "@". */
            if (authority != NULL && made->targets[0].unix_socket == NULL) {
                size_t end = strcspn(authority + 3, "/?#");

                unit_assert(&random, memchr(authority + 3, '@', end) == NULL);
            }
        }
        unit_free(exact);
        es_config_drop_exporter(config);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(values),    TEST(several_endpoints),    TEST(inference),        TEST(unix_sockets),
        TEST(addresses), TEST(secrets_of_endpoints), TEST(grpc_has_no_path), TEST(any_endpoint),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
