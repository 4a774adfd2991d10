/* The sender of protocol "file": appends each batch by one write. Opened by the
 * exporter thread, and again when the path means another file than before
 * (rotated, removed). */

#include "es_protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct es_file {
    const char *path;
    int fd; /* -1: closed */
    dev_t device;
    ino_t inode;
} es_file_t;

static void *
file_open(const es_exporter_config_t *exporter, struct es_transport *transport, es_error_t *error)
{
    es_file_t *file = calloc(1, sizeof(*file));

    (void) transport;
    if (file == NULL) {
        es_fail(error, "no memory");
        return NULL;
    }
    file->path = exporter->targets[0].url;
    file->fd = -1;
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

static bool
follow_path(es_file_t *file)
{
    struct stat status;

    if (file->fd >= 0
        && (stat(file->path, &status) != 0 || status.st_dev != file->device
            || status.st_ino != file->inode)) {
        close(file->fd);
        file->fd = -1;
    }
    if (file->fd < 0) {
        /* O_NONBLOCK so that opening a FIFO without a reader fails, not hangs. */
        file->fd = open(file->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
        if (file->fd < 0 || fstat(file->fd, &status) != 0) {
            return false;
        }
        file->device = status.st_dev;
        file->inode = status.st_ino;
    }
    return true;
}

/* Takes back what a short write left, so that the next batch does not continue
 * a broken line; unless another process has appended since. */
static void
undo(es_file_t *file, ssize_t written)
{
    off_t at = lseek(file->fd, 0, SEEK_CUR), end = lseek(file->fd, 0, SEEK_END);

    if (written > 0 && at == end && ftruncate(file->fd, end - written) != 0) {
        close(file->fd);
        file->fd = -1;
    }
}

static void
file_send(void *sender, es_delivery_t *delivery)
{
    es_file_t *file = sender;
    es_result_t result = {.outcome = ES_DELIVERED};
    ssize_t written = -1;

    if (follow_path(file)) {
        do {
            written = write(file->fd, delivery->body.data, delivery->body.len);
        } while (written < 0 && errno == EINTR);
    }

    if (written != (ssize_t) delivery->body.len) {
        const char *why = written < 0 ? strerror(errno) : "short write";

        undo(file, written);
        result.outcome = ES_RETRY;
        snprintf(result.message, sizeof(result.message), "%s", why);
    }
    delivery->done(delivery, &result);
}

static void
file_close(void *sender)
{
    es_file_t *file = sender;

    if (file->fd >= 0) {
        close(file->fd);
    }
    free(file);
}

const es_sender_t es_sender_file = {file_open, file_frame, file_send, file_close, false};
