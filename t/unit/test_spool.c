/* The spool, with real files: what was appended comes out in order, whatever
 * happens to processes and bytes in between. See test_spool_processes.c for
 * several processes. */

#define _GNU_SOURCE /* nftw, unshare */

#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define MAX (UINT64_C(1) << 20)

/* What is in the directory beside the lock. */
static unsigned
segments_of(const char *path)
{
    DIR *entries = opendir(path);
    unsigned count = 0;

    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        count += entry->d_name[0] != '.' && strcmp(entry->d_name, "lock") != 0;
    }
    closedir(entries);
    return count;
}

static uint64_t
bytes_of(const char *path)
{
    DIR *entries = opendir(path);
    struct stat status;
    uint64_t bytes = 0;

    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (strstr(entry->d_name, ".spool") != NULL) {
            assert_int_equal(fstatat(dirfd(entries), entry->d_name, &status, 0), 0);
            bytes += (uint64_t) status.st_size;
        }
    }
    closedir(entries);
    return bytes;
}

/* The path of the only segment. */
static char *
only_segment(const char *path)
{
    DIR *entries = opendir(path);
    char *found = NULL;

    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (strstr(entry->d_name, ".spool") != NULL) {
            assert_null(found);
            assert_true(asprintf(&found, "%s/%s", path, entry->d_name) > 0);
        }
    }
    closedir(entries);
    assert_non_null(found);
    return found;
}

static es_buffer_t
read_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    es_buffer_t file;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    file.size = (size_t) status.st_size;
    assert_non_null(file.data = malloc(file.size + 1));
    assert_int_equal(read(fd, file.data, file.size), (ssize_t) file.size);
    close(fd);
    return file;
}

static void
write_file(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), (ssize_t) size);
    close(fd);
}

static void
assert_empty(es_spool_t *spool, const char *path)
{
    assert_int_equal(spool_take(spool, NULL), 0);
    assert_int_equal(es_spool_counts(spool).bytes, 0);
    assert_int_equal(es_spool_counts(spool).spans, 0);
    assert_int_equal(segments_of(path), 0);
}

/* ----------------------------------------------------------------- order --- */

static void
order(void **state)
{
    char *path = spool_directory();
    es_spool_t *spool = spool_open(path, MAX);

    (void) state;
    assert_empty(spool, path);
    for (uint32_t id = 1; id <= 300; id++) {
        assert_true(spool_append(spool, id, 2000));
    }
    assert_true(segments_of(path) > 3);
    assert_int_equal(es_spool_counts(spool).bytes, bytes_of(path));
    assert_int_equal(es_spool_counts(spool).spans, spool_spans(1, 300));
    for (uint32_t id = 1; id <= 300; id++) {
        assert_int_equal(spool_take_and_settle(spool), id);
    }
    assert_empty(spool, path);
    es_spool_close(spool);
    spool_remove(path);
}

/* Taken and appended in turn, settled in any order. */
static void
mixed(void **state)
{
    unit_random_t random = unit_random_init();
    char *path = spool_directory();
    es_spool_t *spool = spool_open(path, MAX);
    es_spooled_t taken[8];
    uint32_t appended = 0, came = 0, out = 0;

    (void) state;
    for (unsigned i = 0; i < 5000; i++) {
        uint32_t dice = unit_random_below(&random, 3);

        if (dice == 0 && appended - came < 60) {
            unit_assert(&random, spool_append(spool, appended + 1, 40 * (appended % 100)));
            appended++;
        } else if (dice == 1 && out < UNIT_COUNT(taken)) {
            uint32_t id = spool_take(spool, &taken[out]);

            unit_assert(&random, id == (came < appended ? came + 1 : 0));
            out += id != 0;
            came += id != 0;
        } else if (dice == 2 && out != 0) {
            uint32_t which = unit_random_below(&random, out);

            es_spool_settle(spool, &taken[which]);
            taken[which] = taken[--out];
        }
    }
    while (out != 0) {
        es_spool_settle(spool, &taken[--out]);
    }
    while (came < appended) {
        unit_assert(&random, spool_take_and_settle(spool) == ++came);
    }
    assert_empty(spool, path);
    assert_int_equal(es_spool_counts(spool).given_up, 0);
    assert_int_equal(es_spool_counts(spool).torn_records, 0);
    es_spool_close(spool);
    spool_remove(path);
}

static void
restart(void **state)
{
    char *path = spool_directory();
    es_spool_t *spool = spool_open(path, MAX);
    es_spooled_t taken[10];

    (void) state;
    for (uint32_t id = 1; id <= 100; id++) {
        assert_true(spool_append(spool, id, 3000));
    }
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(spool_take(spool, &taken[i]), i + 1);
    }
    /* 1, 3, 5, 7 and 9 are delivered; the others were only on their way. */
    for (uint32_t i = 0; i < 10; i += 2) {
        es_spool_settle(spool, &taken[i]);
    }
    es_spool_close(spool);

    spool = spool_open(path, MAX);
    assert_int_equal(es_spool_counts(spool).bytes, bytes_of(path));
    assert_int_equal(es_spool_counts(spool).spans, spool_spans(1, 100) - spool_spans(1, 1)
                                                       - spool_spans(3, 3) - spool_spans(5, 5)
                                                       - spool_spans(7, 7) - spool_spans(9, 9));
    assert_true(spool_append(spool, 101, 10));
    for (uint32_t id = 2; id <= 101; id += id < 10 ? 2 : 1) {
        assert_int_equal(spool_take_and_settle(spool), id);
    }
    assert_empty(spool, path);
    es_spool_close(spool);
    spool_remove(path);
}

/* A spool whose records are all delivered has no file, although it goes on. */
static void
quiet(void **state)
{
    char *path = spool_directory();
    es_spool_t *spool = spool_open(path, MAX);

    (void) state;
    for (uint32_t id = 1; id <= 20; id++) {
        assert_true(spool_append(spool, id, 100));
        assert_int_equal(segments_of(path), 1);
        assert_int_equal(spool_take_and_settle(spool), id);
        assert_empty(spool, path);
    }
    es_spool_close(spool);
    spool_remove(path);
}

/* More files than are looked at, as a server leaves them whose processes die all
 * the time. */
static void
many_segments(void **state)
{
    enum { FILES = 4200 };
    char *path = spool_directory(), *segment, name[300];
    es_spool_t *spool = spool_open(path, 16 * MAX);
    es_buffer_t file;
    uint32_t id = 0;

    (void) state;
    assert_true(spool_append(spool, 1, 10));
    es_spool_close(spool);
    segment = only_segment(path);
    file = read_file(segment);
    for (unsigned i = 1; i < FILES; i++) {
        snprintf(name, sizeof(name), "%s/%020u-1-0.spool", path, i);
        write_file(name, file.data, file.size);
    }

    spool = spool_open(path, 16 * MAX);
    assert_int_equal(es_spool_counts(spool).bytes, FILES * file.size);
    assert_true(spool_append(spool, 2, 10));
    for (unsigned i = 0; i < FILES; i++) {
        SPOOL_AWAIT((id = spool_take_and_settle(spool)) != 0);
        assert_true(id == 1 || i >= 4000);
    }
    SPOOL_AWAIT(segments_of(path) == 0 || spool_take_and_settle(spool) != 0);
    assert_empty(spool, path);
    es_spool_close(spool);
    es_buffer_free(&file);
    free(segment);
    spool_remove(path);
}

/* ------------------------------------------------------------------ full --- */

static void
full(void **state)
{
    enum { SMALL = 64 << 10, RECORDS = 1000 };
    unit_random_t random = unit_random_init();
    char *path = spool_directory();
    es_spool_t *spool = spool_open(path, SMALL);
    uint64_t given_up;
    uint32_t id;

    (void) state;
    for (id = 1; id <= RECORDS; id++) {
        unit_assert(&random, spool_append(spool, id, unit_random_below(&random, 12000)));
        unit_assert(&random, bytes_of(path) <= SMALL);
        unit_assert(&random, es_spool_counts(spool).bytes == bytes_of(path));
        unit_assert(&random, es_spool_counts(spool).given_up + es_spool_counts(spool).spans
                                 == spool_spans(1, id));
    }
    /* Three quarters are in use: a segment at a time is given up. */
    unit_assert(&random, bytes_of(path) > SMALL / 2);

    given_up = es_spool_counts(spool).given_up;
    id = spool_take_and_settle(spool);
    unit_assert(&random, id > 1 && spool_spans(1, id - 1) == given_up);
    while (id++ < RECORDS) {
        unit_assert(&random, spool_take_and_settle(spool) == id);
    }
    assert_empty(spool, path);
    es_spool_close(spool);
    spool_remove(path);
}

static void
too_large(void **state)
{
    char *path = spool_directory();
    es_spool_t *spool = spool_open(path, 10000);
    es_error_t error = {""};
    char *bytes = calloc(1, 10001);

    (void) state;
    assert_non_null(bytes);
    assert_false(es_spool_append(spool, es_str(bytes, 10001), 1, NULL, &error));
    assert_non_null(strstr(error.text, "10001 bytes"));
    assert_non_null(strstr(error.text, "max=10000"));
    assert_true(es_spool_append(spool, es_str(bytes, 10000 - 24), 3, NULL, &error));
    assert_int_equal(bytes_of(path), 10000);

    /* The next of that size has the place of this one. */
    assert_true(es_spool_append(spool, es_str(bytes, 10000 - 24), 4, NULL, &error));
    assert_int_equal(bytes_of(path), 10000);
    assert_int_equal(es_spool_counts(spool).given_up, 3);
    assert_int_equal(es_spool_counts(spool).spans, 4);
    es_spool_close(spool);
    free(bytes);
    spool_remove(path);
}

/* What is out for delivery goes last, and is not given up: the taker has it. */
static void
full_while_taken(void **state)
{
    enum { SMALL = 8 * 1024, EIGHTH = 1024 - 24 };
    char *path = spool_directory();
    es_spool_t *spool = spool_open(path, SMALL);
    es_spooled_t first, second;

    (void) state;
    for (uint32_t id = 1; id <= 8; id++) {
        assert_true(spool_append(spool, id, EIGHTH));
    }
    assert_int_equal(segments_of(path), 8);
    assert_int_equal(spool_take(spool, &first), 1);
    assert_true(spool_append(spool, 9, EIGHTH));
    assert_int_equal(es_spool_counts(spool).given_up, spool_spans(2, 2));
    assert_int_equal(spool_take(spool, &second), 3);
    es_spool_settle(spool, &second);

    for (uint32_t id = 10; id <= 30; id++) {
        assert_true(spool_append(spool, id, EIGHTH));
    }
    assert_int_equal(spool_take(spool, &second), 24);

    /* Only what is taken is left, and there has to be room. */
    assert_true(spool_append(spool, 31, SMALL - 24));
    assert_int_equal(segments_of(path), 1);
    assert_int_equal(es_spool_counts(spool).given_up,
                     spool_spans(2, 2) + spool_spans(4, 23) + spool_spans(25, 30));
    es_spool_settle(spool, &first);
    es_spool_settle(spool, &second);
    assert_int_equal(es_spool_counts(spool).spans, spool_spans(31, 31));
    assert_int_equal(spool_take_and_settle(spool), 31);
    assert_empty(spool, path);
    es_spool_close(spool);
    spool_remove(path);
}

/* ------------------------------------------------------------------ torn --- */

/* The file ends anywhere in the last record: as a process leaves it that was
 * killed while it wrote. */
static void
torn_tail(void **state)
{
    enum { RECORDS = 3 };
    char *path = spool_directory(), *segment;
    es_spool_t *spool = spool_open(path, MAX);
    es_buffer_t file;
    size_t whole;

    (void) state;
    for (uint32_t id = 1; id <= RECORDS; id++) {
        assert_true(spool_append(spool, id, 100));
    }
    es_spool_close(spool);
    segment = only_segment(path);
    file = read_file(segment);
    whole = file.size / RECORDS * (RECORDS - 1);

    for (size_t size = whole; size < file.size; size++) {
        bool torn = size != whole;

        write_file(segment, file.data, size);
        for (unsigned again = 0; again < 2; again++) {
            spool = spool_open(path, MAX);
            assert_int_equal(es_spool_counts(spool).torn_records, again == 0 && torn);
            assert_int_equal(es_spool_counts(spool).torn, again == 0 && torn);
            assert_int_equal(es_spool_counts(spool).spans, spool_spans(1, RECORDS - 1));
            assert_true(spool_append(spool, RECORDS, 10));
            for (uint32_t id = 1; id <= RECORDS; id++) {
                es_spooled_t record;

                assert_int_equal(spool_take(spool, &record), id);
                if (again != 0 || id == RECORDS) {
                    es_spool_settle(spool, &record);
                }
            }
            assert_int_equal(spool_take(spool, NULL), 0);
            es_spool_close(spool);
        }
        assert_int_equal(segments_of(path), 0);
    }
    es_buffer_free(&file);
    free(segment);
    spool_remove(path);
}

/* One byte anywhere is another: every record before it comes, its own never in a
 * wrong form, and those behind it unless it was in a head. */
static void
corrupt_byte(void **state)
{
    enum { RECORDS = 12, HEAD = 24, STATE = 4 };
    unit_random_t random = unit_random_init();

    (void) state;
    for (unsigned round = 0; round < 2000; round++) {
        char *path = spool_directory(), *segment;
        es_spool_t *spool = spool_open(path, MAX);
        size_t starts[RECORDS + 2] = {0}, at;
        uint32_t hit = 1, expected = 1, id;
        bool in_head, in_state, while_open = unit_random_below(&random, 2);
        es_buffer_t file;
        int fd;

        for (id = 1; id <= RECORDS; id++) {
            size_t length = unit_random_below(&random, 60);

            unit_assert(&random, spool_append(spool, id, length));
            starts[id + 1] = bytes_of(path);
        }
        segment = only_segment(path);
        file = read_file(segment);
        at = unit_random_below(&random, (uint32_t) file.size);
        while (starts[hit + 1] <= at) {
            hit++;
        }
        in_state = at - starts[hit] < HEAD && at - starts[hit] >= HEAD - STATE;
        in_head = at - starts[hit] < HEAD - STATE;
        file.data[at] ^= (uint8_t) (1 + unit_random_below(&random, 255));

        if (!while_open) {
            es_spool_close(spool);
        }
        fd = open(segment, O_WRONLY | O_CLOEXEC);
        unit_assert(&random, pwrite(fd, file.data + at, 1, (off_t) at) == 1);
        close(fd);
        if (!while_open) {
            spool = spool_open(path, MAX);
        }

        while ((id = spool_take_and_settle(spool)) != 0) {
            expected += expected == hit && !in_state;
            unit_assert(&random, id == expected);
            expected++;
        }
        unit_assert(&random, in_state         ? expected == RECORDS + 1
                             : in_head        ? expected == hit
                             : hit == RECORDS ? expected == hit
                                              : expected == RECORDS + 1);
        unit_assert(&random, es_spool_counts(spool).torn_records == !in_state);
        unit_assert(&random, es_spool_counts(spool).torn
                                 == (in_state     ? 0
                                     : !in_head   ? spool_spans(hit, hit)
                                     : while_open ? spool_spans(hit, RECORDS)
                                                  : 1));
        assert_empty(spool, path);
        es_spool_close(spool);
        es_buffer_free(&file);
        free(segment);
        spool_remove(path);
    }
}

/* Many bytes at once, cut off anywhere, in several segments. */
static void
garbage(void **state)
{
    enum { RECORDS = 40 };
    unit_random_t random = unit_random_init();

    (void) state;
    for (unsigned round = 0; round < 200; round++) {
        char *path = spool_directory();
        es_spool_t *spool = spool_open(path, 64 << 10);
        uint32_t id, last = 0;
        DIR *entries;

        for (id = 1; id <= RECORDS; id++) {
            unit_assert(&random, spool_append(spool, id, unit_random_below(&random, 1500)));
        }
        es_spool_close(spool);
        entries = opendir(path);
        unit_assert(&random, entries != NULL);
        for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
            int fd = openat(dirfd(entries), entry->d_name, O_RDWR | O_CLOEXEC);
            struct stat status;

            if (fd < 0) {
                continue; /* . and .. */
            }
            unit_assert(&random, fstat(fd, &status) == 0);
            for (unsigned i = unit_random_below(&random, 8); i != 0 && status.st_size != 0; i--) {
                uint8_t bytes[16];

                unit_random_bytes(&random, bytes, sizeof(bytes));
                unit_assert(&random,
                            pwrite(fd, bytes, 1 + unit_random_below(&random, sizeof(bytes)),
                                   unit_random_below(&random, (uint32_t) status.st_size))
                                > 0);
            }
            if (unit_random_below(&random, 4) == 0 && status.st_size != 0) {
                unit_assert(
                    &random,
                    ftruncate(fd, unit_random_below(&random, (uint32_t) status.st_size)) == 0);
            }
            close(fd);
        }
        closedir(entries);

        /* spool_take() checks each byte. */
        spool = spool_open(path, 64 << 10);
        while ((id = spool_take_and_settle(spool)) != 0) {
            unit_assert(&random, id > last);
            last = id;
        }
        assert_empty(spool, path);
        es_spool_close(spool);
        spool_remove(path);
    }
}

/* ------------------------------------------------------------- full disk --- */

enum { RECORD = 3000 };

/* Appends until it fails; the number of appended records. */
static uint32_t
append_until(es_spool_t *spool, const char *why)
{
    es_error_t error = {""};
    uint32_t appended = 0;

    while (appended < 100000 && spool_append_or(spool, appended + 1, RECORD, &error)) {
        appended++;
    }
    if (strstr(error.text, why) == NULL) {
        print_error("expected: %s, got: %s\n", why, error.text);
        return 0;
    }
    return appended;
}

/* All of it is there, in order, and no more. */
static bool
holds(const char *path, uint32_t first, uint32_t last)
{
    es_spool_t *spool = spool_open(path, 64 * MAX);
    bool whole = true;

    while (first <= last && whole) {
        whole = spool_take_and_settle(spool) == first++;
    }
    whole = whole && spool_take(spool, NULL) == 0 && es_spool_counts(spool).torn_records == 0;
    es_spool_close(spool);
    return whole;
}

static int
exit_status(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* No file may grow any more: the next segment still can. In a process of its own,
 * as the next one. */
static void
file_limit(void **state)
{
    char *path = spool_directory();
    pid_t child = fork();

    (void) state;
    if (child == 0) {
        es_spool_t *spool = spool_open(path, 64 * MAX);
        struct rlimit limit;
        uint32_t last;

        alarm(60);
        signal(SIGXFSZ, SIG_IGN);
        getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = 10 * RECORD;
        setrlimit(RLIMIT_FSIZE, &limit);
        last = append_until(spool, "File too large");
        if (last != 9 || !spool_append(spool, ++last, RECORD)) {
            _exit(2);
        }
        es_spool_close(spool);
        _exit(holds(path, 1, last) ? 0 : 3);
    }
    assert_int_equal(exit_status(child), 0);
    spool_remove(path);
}

static int
fill_disk(const char *path)
{
    char name[300], *ballast = calloc(1, 200000);
    es_error_t error = {""};
    es_spool_t *spool;
    uint32_t last, first;

    snprintf(name, sizeof(name), "%s/ballast", path);
    write_file(name, ballast, 200000);
    free(ballast);
    spool = spool_open(path, 64 * MAX);
    last = append_until(spool, "No space left on device");

    /* Nothing of what failed is left; and it fails alike again. */
    if (last < 300 || spool_append_or(spool, last + 1, RECORD, &error)
        || bytes_of(path) != (uint64_t) last * (RECORD + 24)) {
        return 2;
    }
    /* A full disk is no reason not to replay. */
    for (first = 1; first <= 10; first++) {
        if (spool_take_and_settle(spool) != first) {
            return 3;
        }
    }
    unlink(name);
    for (unsigned i = 0; i < 5; i++) {
        if (!spool_append(spool, ++last, RECORD)) {
            return 4;
        }
    }
    es_spool_close(spool);
    return holds(path, first, last) ? 0 : 5;
}

static void
full_disk(void **state)
{
    enum { NOT_ALLOWED = 77 };
    char *path = spool_directory();
    pid_t child = fork();
    int status;

    (void) state;
    if (child == 0) {
        alarm(60);
        /* The mount is gone with the child. */
        if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0
            || mount("tmpfs", path, "tmpfs", 0, "size=2m") != 0) {
            _exit(NOT_ALLOWED);
        }
        _exit(fill_disk(path));
    }
    status = exit_status(child);
    spool_remove(path);
    if (status == NOT_ALLOWED) {
        /* cmocka's TAP calls what is skipped "not ok". */
        print_message("# a full disk is not tried: mounting one takes root, and no chroot\n");
        return;
    }
    assert_int_equal(status, 0);
}

/* ------------------------------------------------------------- directory --- */

/* Whatever is not a segment by its name and nature is left as it is. */
static void
foreign_files(void **state)
{
    static const char *const names[] = {
        "readme",
        "00000000000000000001-1-0.spool~",
        "00000000000000000001-1-0.spool.bak",
        "0000000000000000001-1-0.spool",
        "00000000000000000001-01-0.spool",
        "00000000000000000001--1-0.spool",
        "00000000000000000001-1.spool",
        "99999999999999999999-1-0.spool",
        "+0000000000000000001-1-0.spool",
        " 0000000000000000001-1-0.spool",
        "00000000000000000001-1-4294967296.spool",
    };
    char *path = spool_directory(), name[300], target[300];
    es_spool_t *spool, *other;
    struct stat status;

    (void) state;
    for (unsigned i = 0; i < UNIT_COUNT(names); i++) {
        snprintf(name, sizeof(name), "%s/%s", path, names[i]);
        write_file(name, names[i], strlen(names[i]));
    }
    snprintf(target, sizeof(target), "%s/readme", path);
    snprintf(name, sizeof(name), "%s/00000000000000000001-1-1.spool", path);
    assert_int_equal(symlink(target, name), 0);
    snprintf(name, sizeof(name), "%s/00000000000000000001-1-2.spool", path);
    assert_int_equal(mkdir(name, 0700), 0);
    snprintf(name, sizeof(name), "%s/00000000000000000001-1-3.spool", path);
    assert_int_equal(mkfifo(name, 0600), 0);

    spool = spool_open(path, 20000);
    other = spool_open(path, 20000);
    assert_int_equal(es_spool_counts(other).bytes, 0);
    es_spool_close(other);
    for (uint32_t id = 1; id <= 50; id++) {
        assert_true(spool_append(spool, id, 2000));
    }
    while (spool_take_and_settle(spool) != 0) {
    }
    assert_int_equal(es_spool_counts(spool).bytes, 0);
    assert_int_equal(es_spool_counts(spool).torn_records, 0);
    es_spool_close(spool);

    assert_int_equal(segments_of(path), UNIT_COUNT(names) + 3);
    for (unsigned i = 0; i < UNIT_COUNT(names); i++) {
        es_buffer_t file;

        snprintf(name, sizeof(name), "%s/%s", path, names[i]);
        file = read_file(name);
        unit_assert_str(es_str(file.data, file.size), names[i]);
        es_buffer_free(&file);
    }
    snprintf(name, sizeof(name), "%s/00000000000000000001-1-1.spool", path);
    assert_int_equal(lstat(name, &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    spool_remove(path);
}

/* The lock is nobody's way to write elsewhere. */
static void
lock_is_a_link(void **state)
{
    char *path = spool_directory(), name[300];
    es_error_t error = {""};

    (void) state;
    snprintf(name, sizeof(name), "%s/lock", path);
    assert_int_equal(symlink("elsewhere", name), 0);
    assert_null(es_spool_open(path, MAX, &error));
    assert_non_null(strstr(error.text, name));
    spool_remove(path);
}

static void
unusable(void **state)
{
    char *path = spool_directory(), name[300];
    es_error_t error = {""};

    (void) state;
    snprintf(name, sizeof(name), "%s/missing", path);
    assert_null(es_spool_open(name, MAX, &error));
    assert_non_null(strstr(error.text, name));
    assert_non_null(strstr(error.text, "No such file or directory"));

    snprintf(name, sizeof(name), "%s/file", path);
    write_file(name, "", 0);
    assert_null(es_spool_open(name, MAX, &error));
    assert_non_null(strstr(error.text, name));
    assert_non_null(strstr(error.text, "Not a directory"));
    spool_remove(path);
}

/* Removed by hand while in use: no crash, and what is appended next is kept. */
static void
removed_by_hand(void **state)
{
    char *path = spool_directory(), *segment;
    es_spool_t *spool = spool_open(path, MAX);

    (void) state;
    assert_true(spool_append(spool, 1, 10));
    segment = only_segment(path);
    assert_int_equal(unlink(segment), 0);
    free(segment);
    SPOOL_AWAIT(spool_append(spool, 2, 10) && segments_of(path) == 1);
    assert_int_equal(spool_take_and_settle(spool), 1);
    while (spool_take_and_settle(spool) == 2) {
    }
    assert_empty(spool, path);
    es_spool_close(spool);
    spool_remove(path);
}

/* Files of the future, as a clock leaves them that was set back. */
static void
clock_set_back(void **state)
{
    char *path = spool_directory(), *segment, name[300];
    es_spool_t *spool = spool_open(path, MAX);

    (void) state;
    assert_true(spool_append(spool, 1, 10));
    es_spool_close(spool);
    segment = only_segment(path);
    snprintf(name, sizeof(name), "%s/%020llu-1-0.spool", path, 1ull << 60);
    assert_int_equal(rename(segment, name), 0);
    free(segment);
    for (uint32_t id = 2; id <= 5; id++) {
        spool = spool_open(path, MAX);
        assert_true(spool_append(spool, id, 10));
        es_spool_close(spool);
    }
    spool = spool_open(path, MAX);
    for (uint32_t id = 1; id <= 5; id++) {
        assert_int_equal(spool_take_and_settle(spool), id);
    }
    assert_empty(spool, path);
    es_spool_close(spool);
    spool_remove(path);
}

/* Delivered after all, before anybody took them; or not. */
static void
taken_at_once(void **state)
{
    char *path = spool_directory();
    es_spool_t *spool = spool_open(path, MAX);
    es_spooled_t records[4];
    es_error_t error;

    (void) state;
    assert_true(spool_append(spool, 1, 10));
    for (unsigned i = 0; i < 4; i++) {
        assert_true(es_spool_append(spool, ES_STR("under way"), 5, &records[i], &error));
        assert_int_equal(records[i].spans, 5);
        assert_null(records[i].otlp.data);
    }
    assert_true(spool_append(spool, 2, 10));
    es_spool_settle(spool, &records[1]);
    es_spool_settle(spool, &records[0]);
    es_spool_give_back(spool, &records[3]);
    es_spool_settle(spool, &records[2]);
    assert_int_equal(es_spool_counts(spool).spans, spool_spans(1, 2) + 5);
    assert_int_equal(spool_take_and_settle(spool), 1);
    assert_true(es_spool_take(spool, &records[0]));
    assert_memory_equal(records[0].otlp.data, "under way", 9);
    es_buffer_free(&records[0].otlp);
    es_spool_settle(spool, &records[0]);
    assert_int_equal(spool_take_and_settle(spool), 2);
    assert_empty(spool, path);
    es_spool_close(spool);
    spool_remove(path);
}

/* Nobody replays what is under way elsewhere, however quiet its segment is. */
static void
taken_at_once_elsewhere(void **state)
{
    char *path = spool_directory();
    es_spool_t *replays = spool_open(path, MAX), *other = spool_open(path, MAX);
    es_spooled_t records[2];
    es_error_t error;

    (void) state;
    for (unsigned i = 0; i < 2; i++) {
        assert_true(es_spool_append(other, ES_STR("under way"), 5, &records[i], &error));
    }
    assert_true(spool_append(other, 1, 10));
    for (unsigned i = 0; i < 5; i++) {
        usleep(500000);
        assert_int_equal(spool_take(other, NULL), 0);
        assert_int_equal(spool_take(replays, NULL), 0);
    }
    es_spool_settle(other, &records[0]);
    es_spool_settle(other, &records[1]);
    SPOOL_AWAIT(spool_take_and_settle(replays) == 1);
    assert_empty(replays, path);
    es_spool_close(other);
    es_spool_close(replays);
    spool_remove(path);
}

/* Removed to make room while it is under way: given up only if that fails. */
static void
taken_at_once_removed(void **state)
{
    char *path = spool_directory();
    es_spool_t *spool = spool_open(path, 10000);
    static uint8_t bytes[10000 - 24];
    es_spooled_t record;
    es_error_t error;

    (void) state;
    for (uint32_t failed = 0; failed < 2; failed++) {
        uint64_t before;

        assert_true(es_spool_append(spool, es_str(bytes, sizeof(bytes)), 5, &record, &error));
        before = es_spool_counts(spool).given_up;
        assert_true(es_spool_append(spool, es_str(bytes, sizeof(bytes)), 3, NULL, &error));
        assert_int_equal(es_spool_counts(spool).given_up, before);
        if (failed) {
            es_spool_give_back(spool, &record);
        } else {
            es_spool_settle(spool, &record);
        }
        assert_int_equal(es_spool_counts(spool).given_up, before + 5 * failed);
        assert_int_equal(es_spool_counts(spool).spans, 3);
    }
    es_spool_close(spool);
    spool_remove(path);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order),
        cmocka_unit_test(mixed),
        cmocka_unit_test(restart),
        cmocka_unit_test(quiet),
        cmocka_unit_test(many_segments),
        cmocka_unit_test(full),
        cmocka_unit_test(too_large),
        cmocka_unit_test(full_while_taken),
        cmocka_unit_test(torn_tail),
        cmocka_unit_test(corrupt_byte),
        cmocka_unit_test(garbage),
        cmocka_unit_test(file_limit),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(foreign_files),
        cmocka_unit_test(lock_is_a_link),
        cmocka_unit_test(unusable),
        cmocka_unit_test(removed_by_hand),
        cmocka_unit_test(clock_set_back),
        cmocka_unit_test(taken_at_once),
        cmocka_unit_test(taken_at_once_elsewhere),
        cmocka_unit_test(taken_at_once_removed),
    };

    return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
