/* The files that tell about host, container and pod: whatever is in them, the
 * resource gets bounded plain text.
 *
 * "@<path>" is a line before each file; a path that is none of ours is passed over. */

#include "fuzz_server.h"

#include "es_detect.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const files[] = {
    "/etc/machine-id",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/podinfo/name",
    "/etc/podinfo/uid",
    "/etc/podinfo/namespace",
    "/proc/self/mountinfo",
    "/proc/self/cgroup",
    "/usr/lib/os-release",
    "/var/lib/dbus/machine-id",
    "/var/run/secrets/kubernetes.io/serviceaccount/namespace",
};

#define FILES (sizeof(files) / sizeof(files[0]))
#define ROOT "root"

/* Makes the directories and the empty file. */
static int
open_file(const char *file)
{
    char path[256];
    int fd;

    snprintf(path, sizeof(path), ROOT "%s", file);
    for (char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        fuzz_assert(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    fuzz_assert(fd >= 0);
    return fd;
}

static void
write_files(fuzz_t *fuzz)
{
    static int fds[FILES];
    int fd = -1;

    for (size_t i = 0; i < FILES; i++) {
        if (fds[i] == 0) {
            fds[i] = open_file(files[i]);
        }
        fuzz_assert(ftruncate(fds[i], 0) == 0 && lseek(fds[i], 0, SEEK_SET) == 0);
    }
    while (fuzz_more(fuzz)) {
        es_str_t line = fuzz_line(fuzz);

        if (es_str_starts(line, ES_STR("@"))) {
            fd = -1;
            for (size_t i = 0; i < FILES; i++) {
                fd = es_str_eq(es_str_from(line, 1), es_cstr(files[i])) ? fds[i] : fd;
            }
        } else if (fd >= 0) {
            fuzz_assert(write(fd, line.data, line.len) == (ssize_t) line.len);
            fuzz_assert(!fuzz_more(fuzz) || write(fd, "\n", 1) == 1);
        }
    }
}

static void
fuzz(fuzz_t *fuzz)
{
    es_config_t *config = fuzz_config();

    write_files(fuzz);
    es_detect(config, ROOT);
    fuzz_assert(config->detected_count <= ES_DETECTED_MAX);
    for (unsigned i = 0; i < config->detected_count; i++) {
        es_str_t value = es_cstr(config->detected[i].value);

        fuzz_assert(value.len <= ES_DETECT_VALUE_MAX && fuzz_is_utf8(value));
        for (size_t c = 0; c < value.len; c++) {
            fuzz_assert((unsigned char) value.data[c] >= 0x20 && value.data[c] != 0x7f);
        }
        for (unsigned j = 0; j < i; j++) {
            fuzz_assert(strcmp(config->detected[i].key, config->detected[j].key) != 0);
        }
    }
    es_config_destroy(config);
}
