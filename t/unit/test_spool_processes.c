/* The spool of several processes: one replays, all append, any may be killed at
 * any moment.
 *
 * SPOOL_SECONDS sets the length of the storm. */

#define _GNU_SOURCE /* nftw, pipe2, MAP_ANONYMOUS */

#include "unit_child.h"
#include "unit_spool.h"

#include <stdatomic.h>
#include <sys/mman.h>

/* ----------------------------------------------------------- children --- */

typedef struct opened {
    const char *path;
    uint64_t max;
} opened_t;

static void
child_run(const child_t *self, const void *data)
{
    const opened_t *opened = data;
    es_spool_t *spool = spool_open(opened->path, opened->max);
    int64_t answer = 0;
    es_spooled_t record;
    order_t order;

    while (child_reads(self, &order)) {
        switch (order.letter) {
        case 'a':
            answer = spool_append(spool, order.id, 1000);
            break;
        case 't':
            answer = spool_take(spool, &record);
            break;
        case 's':
            es_spool_settle(spool, &record);
            break;
        case 'g':
            answer = (int64_t) es_spool_counts(spool).given_up;
            break;
        default:
            _exit(1);
        }
        child_answers(self, answer);
    }
    es_spool_close(spool);
}

static child_t
spool_child(const char *path, uint64_t max)
{
    return child_start(child_run, &(opened_t){path, max});
}

/* -------------------------------------------------------------- tests --- */

/* One replays. What it had taken when it is killed comes again, elsewhere. */
static void
one_replays(void **state)
{
    char *path = unit_directory();
    child_t first = spool_child(path, SPOOL_MAX), second;
    uint64_t id = 0;

    (void) state;
    for (uint32_t i = 1; i <= 3; i++) {
        assert_int_equal(ask(&first, 'a', i), true);
    }
    assert_int_equal(ask(&first, 't', 0), 1);
    second = spool_child(path, SPOOL_MAX);
    assert_int_equal(ask(&second, 't', 0), 0);
    assert_int_equal(ask(&first, 's', 0), 1);
    assert_int_equal(ask(&first, 't', 0), 2);
    assert_int_equal(ask(&second, 't', 0), 0);
    child_end(&first, SIGKILL);

    SPOOL_AWAIT((id = ask(&second, 't', 0)) != 0);
    assert_int_equal(id, 2);
    ask(&second, 's', 0);
    assert_int_equal(ask(&second, 't', 0), 3);
    ask(&second, 's', 0);
    assert_int_equal(ask(&second, 't', 0), 0);
    child_end(&second, 0);
    unit_directory_remove(path);
}

/* The same for two servers in one process. */
static void
two_in_a_process(void **state)
{
    char *path = unit_directory();
    es_spool_t *first = spool_open(path, SPOOL_MAX), *second = spool_open(path, SPOOL_MAX);
    uint32_t id = 0;

    (void) state;
    assert_true(spool_append(first, 1, 10));
    assert_true(spool_append(second, 2, 10));
    assert_int_equal(spool_take(second, NULL), 0);
    assert_int_equal(spool_take_and_settle(first), 1);

    /* A segment passes to who replays when nobody has written to it for a while,
     * not before. */
    assert_int_equal(spool_take(first, NULL), 0);
    SPOOL_AWAIT((assert_int_equal(spool_take(second, NULL), 0), id = spool_take_and_settle(first)));
    assert_int_equal(id, 2);

    assert_true(spool_append(first, 3, 10));
    es_spool_close(first);
    SPOOL_AWAIT((id = spool_take_and_settle(second)) != 0);
    assert_int_equal(id, 3);
    es_spool_close(second);
    unit_directory_remove(path);
}

/* Who begins to replay looks at its own segments anew: another one has replayed
 * from them. */
static void
taken_over(void **state)
{
    char *path = unit_directory();
    es_spool_t *first = spool_open(path, SPOOL_MAX), *second = spool_open(path, SPOOL_MAX);
    es_spooled_t record;
    uint32_t id = 0;

    (void) state;
    for (uint32_t i = 1; i <= 3; i++) {
        assert_true(spool_append(second, i, 10));
    }
    SPOOL_AWAIT((assert_int_equal(spool_take(second, NULL), 0), id = spool_take_and_settle(first)));
    assert_int_equal(id, 1);
    assert_int_equal(spool_take(first, &record), 2);
    es_spool_close(first);

    SPOOL_AWAIT((id = spool_take(second, &record)) != 0);
    assert_int_equal(id, 2);
    assert_int_equal(es_spool_counts(second).spans, spool_spans(2, 3));
    es_spool_settle(second, &record);
    assert_int_equal(spool_take_and_settle(second), 3);
    assert_int_equal(es_spool_counts(second).spans, 0);
    assert_int_equal(es_spool_counts(second).bytes, 0);
    es_spool_close(second);
    unit_directory_remove(path);
}

/* A new generation appends while the old one replays, in the order of age. */
static void
append_beside(void **state)
{
    enum { RECORDS = 500 };
    char *path = unit_directory();
    es_spool_t *spool = spool_open(path, SPOOL_MAX);
    child_t child = spool_child(path, SPOOL_MAX);
    uint32_t expected = 1, id;

    (void) state;
    for (id = 1; id <= RECORDS; id++) {
        uint32_t got = spool_take_and_settle(spool);

        assert_int_equal(ask(&child, 'a', id), true);
        if (got != 0) {
            assert_int_equal(got, expected++);
        }
    }
    child_end(&child, 0);
    while (expected <= RECORDS) {
        SPOOL_AWAIT((id = spool_take_and_settle(spool)) != 0);
        assert_int_equal(id, expected++);
    }
    assert_int_equal(spool_take(spool, NULL), 0);
    assert_int_equal(es_spool_counts(spool).bytes, 0);
    es_spool_close(spool);
    unit_directory_remove(path);
}

/* Who does not replay makes room, too, but not of what another one works on. */
static void
full_beside(void **state)
{
    enum { RECORDS = 64, SMALL = 64 * 1024 };
    char *path = unit_directory();
    child_t old = spool_child(path, SMALL), new;
    uint64_t given_up;

    (void) state;
    for (uint32_t id = 1; id <= RECORDS; id++) {
        assert_int_equal(ask(&old, 'a', id), true);
    }
    assert_int_equal(ask(&old, 't', 0), 1);
    ask(&old, 's', 0);
    assert_int_equal(ask(&old, 't', 0), 2);

    /* Segments are of 8 records: the first is being replayed, the second goes. */
    new = spool_child(path, SMALL);
    for (uint32_t id = RECORDS + 1; (given_up = ask(&new, 'g', 0)) == 0; id++) {
        assert_true(id < 2 * RECORDS);
        assert_int_equal(ask(&new, 'a', id), true);
    }
    assert_int_equal(given_up, spool_spans(9, 16));
    for (uint32_t id = 3; id <= 8; id++) {
        assert_int_equal(ask(&old, 't', 0), id);
    }
    assert_int_equal(ask(&old, 't', 0), 17);
    child_end(&old, 0);
    child_end(&new, 0);
    unit_directory_remove(path);
}

/* -------------------------------------------------------------- storm --- */

enum { PROCESSES = 4, IDS_MAX = 4 << 20, BACKLOG_MAX = 20000 };

/* In shared memory, so that it outlives whoever wrote it. */
typedef struct storm {
    _Atomic uint32_t last_id, finished, wrong, replayers;
    _Atomic uint8_t began[IDS_MAX], appended[IDS_MAX], settling[IDS_MAX], settled[IDS_MAX];
} storm_t;

static storm_t *storm;

static void
storm_process(const char *path)
{
    enum { TAKEN_MAX = 8 };
    unit_random_t random = {0, (uint64_t) getpid() * 0x9e3779b97f4a7c15u};
    es_spool_t *spool = spool_open(path, 256 * SPOOL_MAX);
    es_spooled_t taken[TAKEN_MAX];
    uint32_t ids[TAKEN_MAX], out = 0, id;
    bool replayed = false;

    alarm(120);
    for (;;) {
        uint32_t dice = unit_random_below(&random, 4);

        if (dice == 0) {
            if (atomic_load(&storm->last_id) - atomic_load(&storm->finished) > BACKLOG_MAX) {
                usleep(100);
                continue;
            }
            id = atomic_fetch_add(&storm->last_id, 1) + 1;
            if (id >= IDS_MAX) {
                _exit(0);
            }
            atomic_store(&storm->began[id], 1);
            if (spool_append(spool, id, unit_random_below(&random, 8000))) {
                atomic_store(&storm->appended[id], 1);
            } else {
                atomic_fetch_add(&storm->wrong, 1);
            }
        } else if (dice < 3 && out < TAKEN_MAX) {
            if ((id = spool_take(spool, &taken[out])) == 0) {
                continue;
            }
            if (id >= IDS_MAX || !atomic_load(&storm->began[id])
                || atomic_load(&storm->settled[id])) {
                atomic_fetch_add(&storm->wrong, 1);
                continue;
            }
            atomic_fetch_add(&storm->replayers, !replayed);
            replayed = true;
            ids[out++] = id;
        } else if (dice == 3 && out != 0) {
            uint32_t which = unit_random_below(&random, out);

            id = ids[which];
            atomic_store(&storm->settling[id], 1);
            es_spool_settle(spool, &taken[which]);
            atomic_store(&storm->settled[id], 1);
            atomic_fetch_add(&storm->finished, 1);
            ids[which] = ids[--out];
            taken[which] = taken[out];
        }
    }
}

static pid_t
storm_start(const char *path)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        storm_process(path);
    }
    return pid;
}

/* Whatever was appended and not settled is there when all are dead, once, and
 * nothing else is. */
static void
storm_of_kills(void **state)
{
    const char *seconds = getenv("SPOOL_SECONDS");
    unit_random_t random = unit_random_init();
    char *path = unit_directory();
    pid_t children[PROCESSES];
    uint64_t end = es_mono_ns() + (seconds != NULL ? strtoull(seconds, NULL, 10) : 4) * ES_SECOND;
    uint32_t kills = 0, settled = 0, id;
    uint8_t *came = calloc(1, IDS_MAX);
    es_spool_t *spool;

    (void) state;
    assert_non_null(came);
    storm = mmap(NULL, sizeof(*storm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(storm, MAP_FAILED);
    for (unsigned i = 0; i < PROCESSES; i++) {
        children[i] = storm_start(path);
    }
    while (es_mono_ns() < end || atomic_load(&storm->replayers) < 5) {
        unsigned which = unit_random_below(&random, PROCESSES);

        usleep(1000 * unit_random_below(&random, 50));
        process_kill(children[which], SIGKILL);
        children[which] = storm_start(path);
        kills++;
        unit_assert(&random, es_mono_ns() < end + 60 * ES_SECOND);
    }
    for (unsigned i = 0; i < PROCESSES; i++) {
        process_kill(children[i], SIGKILL);
    }
    unit_assert(&random, atomic_load(&storm->last_id) < IDS_MAX - 1);
    unit_assert(&random, atomic_load(&storm->wrong) == 0);

    spool = spool_open(path, 256 * SPOOL_MAX);
    while ((id = spool_take_and_settle(spool)) != 0) {
        unit_assert(&random, id < IDS_MAX);
        came[id]++;
    }
    for (id = 0; id < IDS_MAX; id++) {
        settled += atomic_load(&storm->settled[id]);
        unit_assert(&random, came[id] <= atomic_load(&storm->began[id]));
        if (atomic_load(&storm->settled[id])) {
            unit_assert(&random, came[id] == 0);
        } else if (atomic_load(&storm->appended[id]) && !atomic_load(&storm->settling[id])) {
            unit_assert(&random, came[id] == 1);
        }
    }
    print_message("# %u records, %u of them settled, %u kills, %u processes replayed, %llu torn\n",
                  atomic_load(&storm->last_id), settled, kills, atomic_load(&storm->replayers),
                  (unsigned long long) es_spool_counts(spool).torn_records);
    unit_assert(&random, settled != 0);
    unit_assert(&random, es_spool_counts(spool).given_up == 0);
    unit_assert(&random, es_spool_counts(spool).bytes == 0);
    es_spool_close(spool);
    munmap(storm, sizeof(*storm));
    free(came);
    unit_directory_remove(path);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_replays), cmocka_unit_test(two_in_a_process),
        cmocka_unit_test(taken_over),  cmocka_unit_test(append_beside),
        cmocka_unit_test(full_beside), cmocka_unit_test(storm_of_kills),
    };

    return cmocka_run_group_tests_name("spool of several processes", tests, NULL, NULL);
}
