/* The exporter's options: what they take, refuse and become. */

#define _GNU_SOURCE /* nftw */

#include "unit.h"

#include "es_config.h"
#include "es_protocol.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#define CERTIFICATE "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
#define KEY "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"
#define URL "https://collector.example/v1/traces"

static char root[64];
static char said[8192];
static es_config_t *config;

static void
remember(void *data, es_log_level_t level, const char *text)
{
    static const char *const levels[] = {"error", "warn", "notice", "info"};
    size_t len = strlen(said);

    (void) data;
    snprintf(said + len, sizeof(said) - len, "%s: %s\n", levels[level], text);
}

static const char *
file(const char *name, const void *content, size_t size)
{
    static char path[128];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", root, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, size), size);
    close(fd);
    return path;
}

static int
begin(void **state)
{
    const es_log_t log = {remember, NULL};
    es_error_t error;

    (void) state;
    strcpy(root, "/tmp/edgespan-unit-XXXXXX");
    assert_non_null(mkdtemp(root));
    said[0] = '\0';
    config = es_config_create("test", &log);
    assert_non_null(config);
    assert_true(es_config_directory(config, es_cstr(root), &error));
    return 0;
}

static int
remove_one(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    (void) status;
    (void) type;
    (void) ftw;
    return remove(path);
}

static int
end(void **state)
{
    (void) state;
    es_config_destroy(config);
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* "name=value" pairs, then NULL. Returns NULL and fills `why` where one of them
 * or the whole is refused. */
static es_error_t why;

static es_exporter_config_t *
exporter(const char *first, ...)
{
    es_exporter_config_t *made;
    va_list args;
    bool ok;

    if (!es_config_exporter(config, &made, &why)) {
        return NULL;
    }
    va_start(args, first);
    ok = true;
    for (const char *pair = first; ok && pair != NULL; pair = va_arg(args, const char *)) {
        const char *equals = strchr(pair, '=');

        ok = es_exporter_option(made, es_str(pair, (size_t) (equals - pair)), es_cstr(equals + 1),
                                &why);
    }
    va_end(args);
    return ok && es_exporter_finish(made, &why) ? made : NULL;
}

/* Every test has room for four exporters. */
static void
again(void)
{
    end(NULL);
    begin(NULL);
}

#define refused(words, ...)                                       \
    do {                                                          \
        again();                                                  \
        assert_null(exporter(__VA_ARGS__, NULL));                 \
        if (strstr(why.text, words) == NULL) {                    \
            fail_msg("\"%s\" is not in \"%s\"", words, why.text); \
        }                                                         \
    } while (0)

static void
is_said(const char *words)
{
    if (strstr(said, words) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", words, said);
    }
}

/* --------------------------------------------------------------- options --- */

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
    assert_string_equal(said,
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

/* ------------------------------------------------------------- endpoints --- */

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
    is_said(protocol);
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
        said[0] = '\0';
        e = exporter(good[i], NULL);
        if (e == NULL || strstr(e->targets[0].name, "s3") != NULL || strstr(said, "s3") != NULL) {
            fail_msg("%s: %s, %s", good[i], e != NULL ? e->targets[0].name : why.text, said);
        }
    }
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        refused("endpoint \"", bad[i]);
        if (strstr(why.text, "s3") != NULL || strstr(said, "s3") != NULL) {
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
        said[0] = '\0';
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

            /* No credentials in what is logged. */
            if (authority != NULL) {
                size_t end = strcspn(authority + 3, "/?#");

                unit_assert(&random, memchr(authority + 3, '@', end) == NULL);
            }
        }
        unit_free(exact);
        es_config_drop_exporter(config);
    }
}

/* ----------------------------------------------------------------- files --- */

static void
certificates(void **state)
{
    es_exporter_config_t *e;
    char big[128];
    static char much[(1 << 20) + 1];

    (void) state;
    file("ca.pem", CERTIFICATE, sizeof(CERTIFICATE) - 1);
    file("key.pem", KEY, sizeof(KEY) - 1);
    e = exporter("endpoint=" URL, "trusted_certificate=ca.pem", "client_certificate=ca.pem",
                 "client_certificate_key=key.pem", NULL);
    assert_non_null(e);
    assert_memory_equal(e->tls.trusted_certificate.data, CERTIFICATE, sizeof(CERTIFICATE) - 1);
    assert_int_equal(e->tls.client_certificate.size, sizeof(CERTIFICATE) - 1);
    assert_memory_equal(e->tls.client_certificate_key.data, KEY, sizeof(KEY) - 1);
    assert_null(strstr(said, "warn"));

    assert_non_null(exporter("endpoint=http://h:4318", "trusted_certificate=ca.pem", NULL));
    is_said("warn: \"trusted_certificate\" has no effect: http://h:4318/v1/traces is not reached "
            "by https://");
    assert_non_null(exporter("endpoint=" URL, "ssl_verify=off", NULL));
    is_said("warn: \"ssl_verify off\"");

#define refused_file(words, content, option)                                                      \
    do {                                                                                          \
        char line[256];                                                                           \
        again();                                                                                  \
        file("ca.pem", CERTIFICATE, sizeof(CERTIFICATE) - 1);                                     \
        snprintf(line, sizeof(line), option "%s", file("bad.pem", content, sizeof(content) - 1)); \
        assert_null(exporter("endpoint=" URL, line, NULL));                                       \
        if (strstr(why.text, words) == NULL) {                                                    \
            fail_msg("\"%s\" is not in \"%s\"", words, why.text);                                 \
        }                                                                                         \
    } while (0)

    refused_file("bad.pem holds no certificate in PEM form", KEY, "trusted_certificate=");
    refused_file("bad.pem holds no certificate in PEM form", "", "client_certificate=");
    refused_file("bad.pem holds no private key in PEM form (\"-----BEGIN PRIVATE KEY-----\")",
                 CERTIFICATE, "client_certificate_key=");
    refused_file("bad.pem is encrypted: a key without a passphrase is needed",
                 "-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "client_certificate_key=");
    refused_file("bad.pem is encrypted",
                 "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
                 "client_certificate_key=");
    refused_file("\"client_certificate\" and \"client_certificate_key\" go together",
                 "\r\n-----BEGIN EC PRIVATE KEY-----\r\n", "client_certificate_key=");

    refused("\"trusted_certificate\": /nonexistent/ca.pem cannot be read: No such file",
            "endpoint=" URL, "trusted_certificate=/nonexistent/ca.pem");
    refused("is no regular file", "endpoint=" URL, "trusted_certificate=/");
    refused("\"ssl_verify\" is not possible with protocol file", "endpoint=file:///x",
            "ssl_verify=off");
    again();
    snprintf(big, sizeof(big), "trusted_certificate=%s", file("big.pem", much, sizeof(much)));
    assert_null(exporter("endpoint=" URL, big, NULL));
    assert_non_null(strstr(why.text, "big.pem is larger than 1048576 bytes"));
}

static bool
header_from(const char *content, size_t size)
{
    es_exporter_config_t *e;

    file("token", content, size);
    assert_true(es_config_exporter(config, &e, &why));
    if (!es_exporter_header_file(e, ES_STR("Authorization"), ES_STR("token"), &why)) {
        return false;
    }
    snprintf(said, sizeof(said), "%s", e->headers[0]);
    return true;
}

static void
header_files(void **state)
{
    es_exporter_config_t *e;

    (void) state;
    assert_true(header_from("Bearer s3cret\n", 14));
    assert_string_equal(said, "Authorization: Bearer s3cret");
    assert_true(header_from("s3cret\r\n", 8));
    assert_string_equal(said, "Authorization: s3cret");
    assert_true(header_from("s3cret", 6));
    assert_string_equal(said, "Authorization: s3cret");

    again();
    assert_false(header_from("s3cret\nmore\n", 12));
    assert_non_null(strstr(why.text, "header_file \"Authorization\": "));
    assert_non_null(strstr(why.text, "/token is to hold one line"));
    assert_null(strstr(why.text, "s3cret"));
    assert_false(header_from("\n", 1));
    assert_false(header_from("s3cret\0x", 8));

    again();
    assert_true(es_config_exporter(config, &e, &why));
    assert_false(es_exporter_header_file(e, ES_STR("A"), ES_STR("none"), &why));
    assert_non_null(strstr(why.text, "/none cannot be read: No such file or directory"));
}

/* ----------------------------------------------------------- directories --- */

static void
directories(void **state)
{
    char path[128];
    struct stat status;
    uid_t uid = geteuid() == 0 ? 65534 : geteuid();

    (void) state;
    assert_string_equal(exporter("endpoint=" URL, "spool=/a/b//", NULL)->spool, "/a/b");
    again();

    snprintf(path, sizeof(path), "%s/spool", root);
    assert_string_equal(exporter("endpoint=" URL, "spool=spool/", NULL)->spool, path);
    assert_true(es_config_directories(config, uid, (gid_t) -1, &why));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    assert_int_equal(status.st_uid, uid);
    assert_true(es_config_directories(config, uid, (gid_t) -1, &why)); /* a reload */

    assert_null(exporter("endpoint=" URL, "spool=spool", NULL));
    assert_non_null(strstr(why.text, "two exporters with the \"spool\" "));

    again();
    snprintf(path, sizeof(path), "%s/other", root);
    assert_int_equal(symlink("spool", path), 0);
    assert_non_null(exporter("endpoint=" URL, "spool=spool", NULL));
    assert_non_null(exporter("endpoint=" URL, "spool=other", NULL));
    assert_false(es_config_directories(config, uid, (gid_t) -1, &why));
    assert_non_null(strstr(why.text, "is the directory of another exporter"));

    again();
    file("plain", "", 0);
    assert_non_null(exporter("endpoint=" URL, "spool=plain", NULL));
    assert_false(es_config_directories(config, uid, (gid_t) -1, &why));
    assert_non_null(strstr(why.text, "/plain is no directory"));

    again();
    assert_non_null(exporter("endpoint=" URL, "spool=no/parent", NULL));
    assert_false(es_config_directories(config, uid, (gid_t) -1, &why));
    assert_non_null(strstr(why.text, "/no/parent cannot be made: No such file or directory"));
}

/* "spool /var" would hand the directory of everybody to the server's user. */
static void
directories_of_others(void **state)
{
    char path[128];
    struct stat status;

    (void) state;
    if (geteuid() != 0) {
        return;
    }
    snprintf(path, sizeof(path), "%s/spool", root);
    assert_int_equal(mkdir(path, 0755), 0);
    assert_non_null(exporter("endpoint=" URL, "spool=spool", NULL));
    file("spool/x", "", 0);
    assert_false(es_config_directories(config, 65534, 65534, &why));
    assert_non_null(strstr(why.text, "is not empty and belongs to user id 0"));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_uid, 0);

    strcat(path, "/x");
    assert_int_equal(unlink(path), 0);
    assert_true(es_config_directories(config, 65534, 65534, &why));
    path[strlen(path) - 2] = '\0';
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_uid, 65534);
    assert_int_equal(status.st_mode & 07777, 0700);
}

/* Who may write to the parent does not choose what root gives away. */
static void
linked_directory(void **state)
{
    char path[128], link[128];
    struct stat status;

    (void) state;
    if (geteuid() != 0) {
        return;
    }
    snprintf(path, sizeof(path), "%s/roots", root);
    snprintf(link, sizeof(link), "%s/spool", root);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(symlink(path, link), 0);
    assert_non_null(exporter("endpoint=" URL, "spool=spool", NULL));
    assert_false(es_config_directories(config, 65534, 65534, &why));
    assert_non_null(strstr(why.text, "is a link to a directory of user id 0"));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_uid, 0);

    /* What is his already may be linked to. */
    assert_int_equal(chown(path, 65534, 65534), 0);
    assert_true(es_config_directories(config, 65534, 65534, &why));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(values),           TEST(several_endpoints), TEST(inference),
        TEST(unix_sockets),     TEST(addresses),         TEST(secrets_of_endpoints),
        TEST(grpc_has_no_path), TEST(any_endpoint),      TEST(certificates),
        TEST(header_files),     TEST(directories),       TEST(directories_of_others),
        TEST(linked_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
