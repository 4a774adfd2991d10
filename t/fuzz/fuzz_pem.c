/* A certificate's or a key's file, and a header's: what is taken is of that kind. */

#define _GNU_SOURCE /* memfd_create(), memmem() */

#include "fuzz_server.h"

#include <sys/mman.h>
#include <unistd.h>

static void
check_pem(const char *path, es_pem_t kind, es_str_t bytes)
{
    es_str_t begin = ES_STR("-----BEGIN ");
    es_buffer_t pem = {NULL, 0};
    es_error_t error;

    if (!es_pem_read(path, kind, &pem, &error)) {
        fuzz_check_error(&error);
        fuzz_assert(pem.data == NULL);
        return;
    }
    fuzz_assert(es_str_eq(es_str(pem.data, pem.size), bytes) && pem.data[pem.size] == '\0');
    fuzz_assert(memmem(bytes.data, bytes.len, begin.data, begin.len) != NULL);
    es_buffer_free(&pem);
}

static void
check_header(const char *path)
{
    es_config_t *config = fuzz_config();
    es_exporter_config_t *exporter;
    es_error_t error;

    fuzz_assert(es_config_exporter(config, &exporter, &error));
    if (es_exporter_header_file(exporter, ES_STR("Authorization"), es_cstr(path), &error)) {
        es_str_t line = es_cstr(exporter->headers[0]);

        fuzz_assert(es_str_starts(line, ES_STR("Authorization: ")));
        fuzz_assert(es_str_find(line, '\n') == line.len && es_str_find(line, '\r') == line.len);
    } else {
        fuzz_check_error(&error);
    }
    es_config_destroy(config);
}

static void
fuzz(fuzz_t *fuzz)
{
    es_str_t bytes = fuzz_rest(fuzz);
    int fd = memfd_create("pem", MFD_CLOEXEC);
    char path[64];

    fuzz_assert(fd >= 0 && write(fd, bytes.data, bytes.len) == (ssize_t) bytes.len);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    check_pem(path, ES_PEM_CERTIFICATE, bytes);
    check_pem(path, ES_PEM_PRIVATE_KEY, bytes);
    check_header(path);
    close(fd);
}
