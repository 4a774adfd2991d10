/* The sender of protocol "file": one line for each batch, to a file or to the
 * server's own stdout or stderr.
 *
 * A path is opened by the exporter thread, and again when it means another file
 * than before (rotated, removed). A regular file gets a line by one write, or
 * nothing of it. Anything else (a pipe, a terminal) takes what it has room for,
 * and a line is gone on with where it ended: nobody may be reading there, so no
 * write waits longer than it is told. */

#define _GNU_SOURCE /* pwritev2 */

#include "es_clock.h"
#include "es_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>
#include <zlib.h>

/* A batch may hold up the thread for so long where it is read slowly, and no
 * longer where nothing of it is read for a while. */
#define SLOW_MAX (500 * ES_MS)
#define STUCK_MAX (100 * ES_MS)

typedef struct es_file {
    const char *path; /* or "stdout", "stderr" */
    int fd;           /* -1: closed */
    bool standard;    /* the server's own, not ours to close */
    bool regular;
    dev_t device;
    ino_t inode;

    /* A line that is not complete: what there is of it, and which it is. */
    size_t written;
    size_t begun_len;
    uLong begun_crc;
    bool torn; /* it never will be: the next one begins with a newline */
} es_file_t;

static void *
file_open(const es_exporter_config_t *exporter, struct es_transport *transport, es_error_t *error)
{
    const char *path = exporter->targets[0].url; /* protocol "file" takes one */
    es_file_t *file = calloc(1, sizeof(*file));

    (void) transport;
    if (file == NULL) {
        es_fail(error, "no memory");
        return NULL;
    }
    file->path = path;
    file->fd = strcmp(path, "stdout") == 0   ? STDOUT_FILENO
               : strcmp(path, "stderr") == 0 ? STDERR_FILENO
                                             : -1;
    file->standard = file->fd >= 0;
    return file;
}

/* One JSON object per line (OTLP file exporter, "JSON Lines"). */
static bool
file_frame(const es_exporter_config_t *exporter, es_str_t body, es_buffer_t *framed)
{
    (void) exporter;
    if ((framed->data = malloc(body.len + 1)) == NULL) {
        return false;
    }
    memcpy(framed->data, body.data, body.len);
    framed->data[body.len] = '\n';
    framed->size = body.len + 1;
    return true;
}

static void
file_shut(es_file_t *file)
{
    if (file->fd >= 0 && !file->standard) {
        close(file->fd);
        file->fd = -1;
        file->written = 0;
        file->torn = false;
    }
}

/* False with errno. */
static bool
follow_path(es_file_t *file)
{
    struct stat status;

    if (!file->standard && file->fd >= 0
        && (stat(file->path, &status) != 0 || status.st_dev != file->device
            || status.st_ino != file->inode)) {
        file_shut(file);
    }
    if (file->fd < 0) {
        /* O_NONBLOCK so that opening a FIFO without a reader fails, not hangs. */
        file->fd = open(file->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
    }
    if (file->fd < 0 || fstat(file->fd, &status) != 0) {
        return false;
    }
    file->device = status.st_dev;
    file->inode = status.st_ino;
    file->regular = S_ISREG(status.st_mode);
    return true;
}

/* What a server that runs as a daemon has for a stdout. */
static bool
is_null(const es_file_t *file)
{
    struct stat status;

    return file->standard && fstat(file->fd, &status) == 0 && S_ISCHR(status.st_mode)
           && status.st_rdev == makedev(1, 3);
}

/* -------------------------------------------------------- regular files --- */

/* Takes back what a short write left, unless another process has appended since:
 * then it stays, and is kept apart from the next line. */
static void
undo(es_file_t *file, size_t written)
{
    off_t at = lseek(file->fd, 0, SEEK_CUR), end = lseek(file->fd, 0, SEEK_END);

    file->torn |= at != end || ftruncate(file->fd, end - (off_t) written) != 0
                  || lseek(file->fd, end - (off_t) written, SEEK_SET) < 0;
}

static bool
append(es_file_t *file, es_str_t line)
{
    char newline = '\n';
    struct iovec parts[] = {
        {&newline, file->torn},
        {(void *) (uintptr_t) line.data, line.len},
    };
    size_t size = file->torn + line.len;
    ssize_t written;

    do {
        written = writev(file->fd, parts, 2);
    } while (written < 0 && errno == EINTR);

    if (written == (ssize_t) size) {
        file->torn = false;
        return true;
    }
    if (written > 0) {
        undo(file, (size_t) written);
        errno = ENOSPC; /* what a short write means */
    }
    return false;
}

/* ------------------------------------------------------------ all others --- */

/* As much as there is room for, by one call where the kernel can do that without
 * waiting: then no other writer of the same pipe gets between. */
static ssize_t
write_some(int fd, const char *bytes, size_t len)
{
#ifdef RWF_NOWAIT
    struct iovec part = {(void *) (uintptr_t) bytes, len};
    ssize_t written = pwritev2(fd, &part, 1, -1, RWF_NOWAIT);

    if (written >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS)) {
        return written;
    }
#endif
    /* So much has room in a pipe that poll() calls writable. */
    struct pollfd room = {.fd = fd, .events = POLLOUT};

    if (poll(&room, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(fd, bytes, len < PIPE_BUF ? len : PIPE_BUF);
}

/* False with errno: EAGAIN if nobody read what is there. *written grows. */
static bool
write_all(int fd, es_str_t bytes, size_t *written, uint64_t deadline_ns)
{
    uint64_t slow = es_mono_ns() + SLOW_MAX, now;

    deadline_ns = slow < deadline_ns ? slow : deadline_ns;
    while (*written < bytes.len) {
        ssize_t n = write_some(fd, bytes.data + *written, bytes.len - *written);
        struct pollfd room = {.fd = fd, .events = POLLOUT};

        if (n > 0) {
            *written += (size_t) n;
            continue;
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        now = es_mono_ns();
        if (errno != EAGAIN || now >= deadline_ns) {
            return false;
        }
        now = deadline_ns - now;
        if (poll(&room, 1, (int) ((now < STUCK_MAX ? now : STUCK_MAX) / ES_MS) + 1) == 0) {
            errno = EAGAIN;
            return false;
        }
    }
    return true;
}

static bool
stream(es_file_t *file, const es_delivery_t *delivery)
{
    es_str_t line = delivery->body;
    size_t newline = 0;

    if (file->written != 0
        && (file->begun_len != line.len
            || file->begun_crc != crc32_z(0, (const Bytef *) line.data, line.len))) {
        file->torn = true;
        file->written = 0;
    }
    if (file->torn && !write_all(file->fd, ES_STR("\n"), &newline, delivery->deadline_ns)) {
        return false;
    }
    file->torn = false;
    if (!write_all(file->fd, line, &file->written, delivery->deadline_ns)) {
        file->begun_len = line.len;
        file->begun_crc = crc32_z(0, (const Bytef *) line.data, line.len);
        return false;
    }
    file->written = 0;
    return true;
}

/* ---------------------------------------------------------------- sender --- */

static const char *
reason(const es_file_t *file)
{
    if (!file->regular && file->fd >= 0 && errno == EAGAIN) {
        return "it is full, and nobody reads it";
    }
    return errno == ENXIO || errno == EPIPE ? "nobody reads it" : strerror(errno);
}

static void
file_send(void *sender, es_delivery_t *delivery)
{
    es_file_t *file = sender;
    es_result_t result = {.outcome = ES_DELIVERED};

    if (is_null(file)) {
        result.outcome = ES_REJECTED;
        snprintf(result.message, sizeof(result.message),
                 "it is /dev/null, as in every server that runs as a daemon: run it in the "
                 "foreground (nginx: \"daemon off\", httpd: -DFOREGROUND)");
    } else if (!follow_path(file)
               || !(file->regular ? append(file, delivery->body) : stream(file, delivery))) {
        result.outcome = ES_RETRY;
        snprintf(result.message, sizeof(result.message), "%s", reason(file));
    }
    delivery->done(delivery, &result);
}

static void
file_close(void *sender)
{
    file_shut(sender);
    free(sender);
}

const es_sender_t es_sender_file = {file_open, file_frame, file_send, file_close, false};
