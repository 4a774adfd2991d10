/* Files and directories that the configuration names: read and made by the
 * privileged parent. */

#define _GNU_SOURCE /* memmem */

#include "es_config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PEM_MAX ((size_t) 1 << 20)

char *
es_config_path(const es_config_t *config, es_str_t path)
{
    es_str_t base = path.len != 0 && path.data[0] == '/' ? ES_STR_NONE : es_cstr(config->directory);
    char *full;

    while (path.len > 1 && path.data[path.len - 1] == '/') {
        path.len--;
    }
    if (base.len == 0) {
        return es_str_dup(path);
    }
    while (base.len != 0 && base.data[base.len - 1] == '/') {
        base.len--;
    }
    if ((full = malloc(base.len + 1 + path.len + 1)) != NULL) {
        memcpy(full, base.data, base.len);
        full[base.len] = '/';
        memcpy(full + base.len + 1, path.data, path.len);
        full[base.len + 1 + path.len] = '\0';
    }
    return full;
}

/* ------------------------------------------------------------- reading --- */

/* One byte more than `max` shows that there is more. */
static ssize_t
read_all(int fd, uint8_t *data, size_t max)
{
    size_t size = 0;
    ssize_t n;

    do {
        n = read(fd, data + size, max + 1 - size);
        size += n > 0 ? (size_t) n : 0;
    } while (n > 0 && size <= max);
    return n < 0 ? -1 : (ssize_t) size;
}

bool
es_file_read(const char *path, size_t max, es_buffer_t *content, es_error_t *error)
{
    /* O_NONBLOCK: a FIFO must not hold the server's start. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    ssize_t size;

    *content = (es_buffer_t){NULL, 0};
    if (fd < 0) {
        return es_fail(error, "%.256s cannot be read: %s", path, strerror(errno));
    }
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return es_fail(error, "%.256s is no regular file", path);
    }
    if ((content->data = malloc(max + 2)) == NULL) {
        close(fd);
        return es_fail(error, "no memory");
    }
    size = read_all(fd, content->data, max);
    close(fd);
    if (size < 0 || (size_t) size > max) {
        es_buffer_free(content);
        return size < 0 ? es_fail(error, "%.256s cannot be read: %s", path, strerror(errno))
                        : es_fail(error, "%.256s is larger than %zu bytes", path, max);
    }
    content->data[size] = '\0';
    content->size = (size_t) size;

    uint8_t *exact = realloc(content->data, content->size + 1);

    content->data = exact != NULL ? exact : content->data;
    return true;
}

/* ----------------------------------------------------------------- PEM --- */

static bool
contains(const es_buffer_t *text, es_str_t what)
{
    return memmem(text->data, text->size, what.data, what.len) != NULL;
}

/* The label of an armoured block, "-----BEGIN <label>-----", that ends so (RFC
 * 7468): "CERTIFICATE", "TRUSTED CERTIFICATE"; "PRIVATE KEY", "EC PRIVATE KEY". */
static bool
has_label(const es_buffer_t *text, es_str_t end)
{
    static const char begin[] = "-----BEGIN ";
    es_str_t left = es_str(text->data, text->size);
    const char *at;

    while (left.len != 0 && (at = memmem(left.data, left.len, begin, sizeof(begin) - 1)) != NULL) {
        es_str_t label = es_str_from(left, (size_t) (at - left.data) + sizeof(begin) - 1);

        left = label;
        label.len = es_str_find(label, '\n');
        if (label.len != 0 && label.data[label.len - 1] == '\r') {
            label.len--;
        }
        if (label.len >= end.len && es_str_eq(es_str_from(label, label.len - end.len), end)) {
            return true;
        }
    }
    return false;
}

bool
es_pem_read(const char *path, es_pem_t kind, es_buffer_t *pem, es_error_t *error)
{
    bool certificate = kind == ES_PEM_CERTIFICATE;

    if (!es_file_read(path, PEM_MAX, pem, error)) {
        return false;
    }
    if (!has_label(pem, certificate ? ES_STR("CERTIFICATE-----") : ES_STR("PRIVATE KEY-----"))) {
        es_fail(error, "%.256s holds no %s in PEM form (\"-----BEGIN %s-----\")", path,
                certificate ? "certificate" : "private key",
                certificate ? "CERTIFICATE" : "PRIVATE KEY");
    } else if (!certificate
               && (contains(pem, ES_STR("BEGIN ENCRYPTED"))
                   || contains(pem, ES_STR(",ENCRYPTED")))) {
        /* OpenSSL would ask for it on the terminal, from the exporter's thread. */
        es_fail(error, "%.256s is encrypted: a key without a passphrase is needed", path);
    } else {
        return true;
    }
    es_buffer_free(pem);
    return false;
}

/* ---------------------------------------------------------- directories --- */

static bool
is_empty(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *directory = copy >= 0 ? fdopendir(copy) : NULL;
    unsigned entries = 0;

    if (directory == NULL) {
        if (copy >= 0) {
            close(copy);
        }
        return false;
    }
    while (entries <= 2 && readdir(directory) != NULL) {
        entries++; /* "." and ".." are the first two */
    }
    closedir(directory);
    return entries <= 2;
}

/* What others have filled is not taken from them: somebody meant another path. Nor
 * is what a link leads to: who may write to the parent would choose what root gives
 * him. */
static bool
give_to(int fd, const char *path, uid_t uid, gid_t gid, es_error_t *error)
{
    struct stat status, named;

    if (fstat(fd, &status) != 0) {
        return es_fail(error, "\"spool\" %.256s: %s", path, strerror(errno));
    }
    if (geteuid() != 0) {
        return access(path, W_OK | X_OK) == 0
               || es_fail(error, "\"spool\" %.256s cannot be written to: %s", path,
                          strerror(errno));
    }
    if (status.st_uid == uid) {
        return true;
    }
    if (lstat(path, &named) != 0 || named.st_dev != status.st_dev
        || named.st_ino != status.st_ino) {
        return es_fail(error,
                       "\"spool\" %.256s is a link to a directory of user id %u: it takes one of "
                       "user id %u, or no link",
                       path, (unsigned) status.st_uid, (unsigned) uid);
    }
    if (!is_empty(fd)) {
        return es_fail(error,
                       "\"spool\" %.256s is not empty and belongs to user id %u: it takes a new or "
                       "empty directory, or one of user id %u",
                       path, (unsigned) status.st_uid, (unsigned) uid);
    }
    return (fchown(fd, uid, gid) == 0 && fchmod(fd, 0700) == 0)
           || es_fail(error, "\"spool\" %.256s cannot be given to user id %u: %s", path,
                      (unsigned) uid, strerror(errno));
}

static bool
make_directory(const char *path, uid_t uid, gid_t gid, es_error_t *error)
{
    bool ok;
    int fd;

    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return es_fail(error, "\"spool\" %.256s cannot be made: %s", path, strerror(errno));
    }
    if ((fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        return errno == ENOTDIR
                   ? es_fail(error, "\"spool\" %.256s is no directory", path)
                   : es_fail(error, "\"spool\" %.256s cannot be opened: %s", path, strerror(errno));
    }
    ok = give_to(fd, path, uid, gid, error);
    close(fd);
    return ok;
}

static bool
is_same(const char *one, const char *other)
{
    struct stat a, b;

    return stat(one, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev
           && a.st_ino == b.st_ino;
}

bool
es_config_directories(es_config_t *config, uid_t uid, gid_t gid, es_error_t *error)
{
    for (unsigned i = 0; i < config->exporters_count; i++) {
        const char *path = config->exporters[i]->spool;

        if (path == NULL) {
            continue;
        }
        if (!make_directory(path, uid, gid, error)) {
            return false;
        }
        /* One directory may have several names. */
        for (unsigned j = 0; j < i; j++) {
            const char *other = config->exporters[j]->spool;

            if (other != NULL && is_same(path, other)) {
                return es_fail(error, "the \"spool\" %.200s is the directory of another exporter",
                               path);
            }
        }
    }
    return true;
}
