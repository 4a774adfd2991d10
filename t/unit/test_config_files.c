/* The files and directories that the exporter's options name. */

#define _GNU_SOURCE /* nftw */

#include "unit_config.h"

#include <fcntl.h>

#define CERTIFICATE "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
#define KEY "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n"

static const char *
file(const char *name, const void *content, size_t size)
{
    static char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", root, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, size), size);
    close(fd);
    return path;
}

/* -------------------------------------------------------------- files --- */

static void
certificates(void **state)
{
    es_exporter_config_t *e;
    char big[256];
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
    assert_null(strstr(unit_said, "warn"));

    assert_non_null(exporter("endpoint=http://h:4318", "trusted_certificate=ca.pem", NULL));
    unit_is_said(
        "warn: \"trusted_certificate\" has no effect: http://h:4318/v1/traces is not reached "
        "by https://");
    assert_non_null(exporter("endpoint=" URL, "ssl_verify=off", NULL));
    unit_is_said("warn: \"ssl_verify off\"");

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

/* What the last file made of it. */
static char header[128];

static bool
header_from(const char *content, size_t size)
{
    es_exporter_config_t *e;

    file("token", content, size);
    assert_true(es_config_exporter(config, &e, &why));
    if (!es_exporter_header_file(e, ES_STR("Authorization"), ES_STR("token"), &why)) {
        return false;
    }
    snprintf(header, sizeof(header), "%s", e->headers[0]);
    return true;
}

static void
header_files(void **state)
{
    es_exporter_config_t *e;

    (void) state;
    assert_true(header_from("Bearer s3cret\n", 14));
    assert_string_equal(header, "Authorization: Bearer s3cret");
    assert_true(header_from("s3cret\r\n", 8));
    assert_string_equal(header, "Authorization: s3cret");
    assert_true(header_from("s3cret", 6));
    assert_string_equal(header, "Authorization: s3cret");

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

/* -------------------------------------------------------- directories --- */

static void
directories(void **state)
{
    char path[256];
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
    char path[256];
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
    char path[256], link[256];
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(certificates),          TEST(header_files),     TEST(directories),
        TEST(directories_of_others), TEST(linked_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
