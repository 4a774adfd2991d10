/* What a spool finds around it: a disk that is full, files of others, none of its
 * own any more. */

#define _GNU_SOURCE /* nftw, unshare */

#include "unit_spool.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* ---------------------------------------------------------- full disk --- */

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
    es_spool_t *spool = spool_open(path, 64 * SPOOL_MAX);
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
    char *path = unit_directory();
    pid_t child = fork();

    (void) state;
    if (child == 0) {
        es_spool_t *spool = spool_open(path, 64 * SPOOL_MAX);
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
    unit_directory_remove(path);
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
    spool = spool_open(path, 64 * SPOOL_MAX);
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
    char *path = unit_directory();
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
    unit_directory_remove(path);
    if (status == NOT_ALLOWED) {
        /* cmocka's TAP calls what is skipped "not ok". */
        print_message("# a full disk is not tried: mounting one takes root, and no chroot\n");
        return;
    }
    assert_int_equal(status, 0);
}

/* ---------------------------------------------------------- directory --- */

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
    char *path = unit_directory(), name[300], target[300];
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
    unit_directory_remove(path);
}

/* The lock is nobody's way to write elsewhere. */
static void
lock_is_a_link(void **state)
{
    char *path = unit_directory(), name[300];
    es_error_t error = {""};

    (void) state;
    snprintf(name, sizeof(name), "%s/lock", path);
    assert_int_equal(symlink("elsewhere", name), 0);
    assert_null(es_spool_open(path, SPOOL_MAX, &error));
    assert_non_null(strstr(error.text, name));
    unit_directory_remove(path);
}

static void
unusable(void **state)
{
    char *path = unit_directory(), name[300];
    es_error_t error = {""};

    (void) state;
    snprintf(name, sizeof(name), "%s/missing", path);
    assert_null(es_spool_open(name, SPOOL_MAX, &error));
    assert_non_null(strstr(error.text, name));
    assert_non_null(strstr(error.text, "No such file or directory"));

    snprintf(name, sizeof(name), "%s/file", path);
    write_file(name, "", 0);
    assert_null(es_spool_open(name, SPOOL_MAX, &error));
    assert_non_null(strstr(error.text, name));
    assert_non_null(strstr(error.text, "Not a directory"));
    unit_directory_remove(path);
}

/* Removed by hand while in use: no crash, and what is appended next is kept. */
static void
removed_by_hand(void **state)
{
    char *path = unit_directory(), *segment;
    es_spool_t *spool = spool_open(path, SPOOL_MAX);

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
    unit_directory_remove(path);
}

/* Files of the future, as a clock leaves them that was set back. */
static void
clock_set_back(void **state)
{
    char *path = unit_directory(), *segment, name[300];
    es_spool_t *spool = spool_open(path, SPOOL_MAX);

    (void) state;
    assert_true(spool_append(spool, 1, 10));
    es_spool_close(spool);
    segment = only_segment(path);
    snprintf(name, sizeof(name), "%s/%020llu-1-0.spool", path, 1ull << 60);
    assert_int_equal(rename(segment, name), 0);
    free(segment);
    for (uint32_t id = 2; id <= 5; id++) {
        spool = spool_open(path, SPOOL_MAX);
        assert_true(spool_append(spool, id, 10));
        es_spool_close(spool);
    }
    spool = spool_open(path, SPOOL_MAX);
    for (uint32_t id = 1; id <= 5; id++) {
        assert_int_equal(spool_take_and_settle(spool), id);
    }
    assert_empty(spool, path);
    es_spool_close(spool);
    unit_directory_remove(path);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_limit),     cmocka_unit_test(full_disk),
        cmocka_unit_test(foreign_files),  cmocka_unit_test(lock_is_a_link),
        cmocka_unit_test(unusable),       cmocka_unit_test(removed_by_hand),
        cmocka_unit_test(clock_set_back),
    };

    return cmocka_run_group_tests_name("spool's directory", tests, NULL, NULL);
}
