#define _GNU_SOURCE /* O_DIRECTORY */

#include "es_segment_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

bool
es_segment_list_init(es_segment_list_t *list)
{
    *list = (es_segment_list_t){.items = calloc(ES_SEGMENTS_MAX, sizeof(*list->items))};
    return list->items != NULL;
}

void
es_segment_list_dispose(es_segment_list_t *list)
{
    while (list->count != 0) {
        es_segment_list_remove(list, list->items[list->count - 1]);
    }
    free(list->items);
}

/* Where it is, or belongs. */
static unsigned
position(const es_segment_list_t *list, const es_segment_t *segment)
{
    unsigned from = 0, to = list->count;

    while (from < to) {
        unsigned middle = from + (to - from) / 2;

        if (es_segment_compare(list->items[middle], segment) < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

/* The youngest that may leave the list: nothing of it is open. */
static es_segment_t *
youngest_idle(const es_segment_list_t *list)
{
    for (unsigned i = list->count; i-- != 0;) {
        if (list->items[i]->fd < 0) {
            return list->items[i];
        }
    }
    return NULL;
}

es_segment_t *
es_segment_list_add(es_segment_list_t *list, const es_segment_t *segment)
{
    es_segment_t *copy;
    unsigned at;

    if (list->count == ES_SEGMENTS_MAX) {
        es_segment_t *youngest = youngest_idle(list);

        if (youngest == NULL || (segment->fd < 0 && es_segment_compare(youngest, segment) < 0)) {
            return NULL;
        }
        list->unlisted += youngest->size;
        es_segment_list_remove(list, youngest);
    }
    if ((copy = malloc(sizeof(*copy))) == NULL) {
        return NULL;
    }
    *copy = *segment;
    copy->id = ++list->last_id;
    copy->listed = true;
    at = position(list, copy);
    memmove(list->items + at + 1, list->items + at, (list->count - at) * sizeof(*list->items));
    list->items[at] = copy;
    list->count++;
    if (copy->made_ms > list->newest_ms) {
        list->newest_ms = copy->made_ms;
    }
    return copy;
}

void
es_segment_list_remove(es_segment_list_t *list, es_segment_t *segment)
{
    unsigned at = position(list, segment);

    list->count--;
    memmove(list->items + at, list->items + at + 1, (list->count - at) * sizeof(*list->items));
    es_segment_release(segment);
    free(segment);
}

es_segment_t *
es_segment_list_find(const es_segment_list_t *list, uint64_t id)
{
    for (unsigned i = 0; i < list->count; i++) {
        if (list->items[i]->id == id) {
            return list->items[i];
        }
    }
    return NULL;
}

static void
note(es_segment_list_t *list, const es_segment_t *found)
{
    unsigned at = position(list, found);

    if (at < list->count && es_segment_compare(list->items[at], found) == 0) {
        list->items[at]->listed = true;
        list->items[at]->size = found->size;
    } else if (es_segment_list_add(list, found) == NULL) {
        list->unlisted += found->size;
    }
}

bool
es_segment_list_read(es_segment_list_t *list, int directory)
{
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), code;
    DIR *entries = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;
    struct stat status;

    if (entries == NULL) {
        code = errno;
        if (fd >= 0) {
            close(fd);
        }
        errno = code;
        return false;
    }
    list->unlisted = 0;
    for (unsigned i = 0; i < list->count; i++) {
        list->items[i]->listed = false;
    }
    while (errno = 0, (entry = readdir(entries)) != NULL) {
        es_segment_t found = {.fd = -1};

        if (es_segment_parse(&found, entry->d_name)
            && fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0
            && S_ISREG(status.st_mode)) {
            found.size = (uint64_t) status.st_size;
            note(list, &found);
        }
    }
    code = errno;
    closedir(entries);

    for (unsigned i = list->count; i-- != 0;) {
        es_segment_t *segment = list->items[i];

        if (code != 0) {
            segment->listed = true; /* who knows */
        } else if (!segment->listed && segment->fd < 0) {
            es_segment_list_remove(list, segment);
        } else if (!segment->listed) {
            segment->size = 0;
        }
    }
    errno = code;
    return code == 0;
}

uint64_t
es_segment_list_bytes(const es_segment_list_t *list)
{
    uint64_t bytes = list->unlisted;

    for (unsigned i = 0; i < list->count; i++) {
        bytes += list->items[i]->size;
    }
    return bytes;
}
