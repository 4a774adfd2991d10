/* The table of the override file that all processes see: what is in force for a
 * path, while others write and die. */

#define _GNU_SOURCE /* strptime, pipe2, MAP_ANONYMOUS */

#include "unit_child.h"
#include "unit_override.h"

#include "es_provider.h"

#include <pthread.h>
#include <sys/mman.h>

static es_override_shared_t *
shared_table(void)
{
    void *memory = mmap(NULL, sizeof(es_override_shared_t), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(memory != MAP_FAILED);
    return memory;
}

/* ------------------------------------------------------------ finding --- */

/* The line that a path has at that moment; 0: none. */
static unsigned
line_of(es_override_shared_t *shared, const char *path, const char *now)
{
    es_generation_t generation = {.override = shared};
    es_str_t exact = unit_exact(es_cstr(path));
    uint64_t threshold;
    unsigned line = 0;

    if (!es_override_find(&generation, exact, moment(now), &threshold, &line)) {
        assert_int_equal(line, 0);
    }
    unit_free(exact);
    return line;
}

static void
find(void **state)
{
    static const struct {
        const char *path;
        unsigned line;
    } rows[] = {
        {"/checkout", 1},
        {"/checkout/", 1},
        {"/checkout/x", 1},
        {"/checkouts", 3},
        {"/checkou", 3},
        {"/checkout/cart", 2},
        {"/checkout/cart/1", 2},
        {"/checkout/carts", 1},
        {"/", 3},
        {"/x", 3},
        {"/Checkout", 3},
        {"", 3},
        {"*", 3},
        {"/12345678", 4},
        {"/12345678/", 4},
        {"/12345679", 3},
        {"/123456789", 3},
    };
    es_override_shared_t *shared = shared_table();
    es_override_t override;

    (void) state;
    zone("UTC");
    assert_int_equal(line_of(NULL, "/checkout", MTIME), 0);
    assert_int_equal(line_of(shared, "/checkout", MTIME), 0);

    parse("/checkout 1 until 12:00\n/checkout/cart 1 until 11:00\n/ 0 until 13:00\n"
          "/12345678 1 until 14:00",
          MTIME, &override);
    es_override_publish(shared, &override);
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        unsigned line = line_of(shared, rows[i].path, MTIME);

        if (line != rows[i].line) {
            fail_msg("%s: line %u, not %u", rows[i].path, line, rows[i].line);
        }
    }

    /* What has expired leaves its paths to the next shorter one. */
    assert_int_equal(line_of(shared, "/checkout/cart", "2026-11-21T10:59:59"), 2);
    assert_int_equal(line_of(shared, "/checkout/cart", "2026-11-21T11:00:00"), 1);
    assert_int_equal(line_of(shared, "/checkout/cart", "2026-11-21T12:00:00"), 3);
    assert_int_equal(line_of(shared, "/checkout/cart", "2026-11-21T13:00:00"), 0);

    override.count = 0;
    es_override_publish(shared, &override);
    assert_int_equal(line_of(shared, "/checkout", MTIME), 0);
    munmap(shared, sizeof(*shared));
}

/* ------------------------------------------------ writers and readers --- */

/* A table of which every entry tells which table it belongs to. */
static void
make_table(es_override_t *override, unsigned mark)
{
    memset(override, 0, sizeof(*override));
    override->count = 1 + mark % ES_OVERRIDE_MAX;
    for (unsigned i = 0; i < override->count; i++) {
        es_override_entry_t *entry = &override->entries[i];

        entry->threshold = mark;
        entry->line = mark;
        entry->until_ns = UINT64_MAX;
        entry->length = 2 * (ES_OVERRIDE_MAX - 1 - i) + 1;
        memset(entry->path, 'a' + (int) (mark % 26), entry->length);
        entry->path[0] = '/';
    }
}

/* Looks once each way; true if there was a table, all of one piece. */
static bool
is_whole(es_override_shared_t *shared, unsigned *mark)
{
    es_generation_t generation = {.override = shared};
    es_override_t seen, expected;
    uint64_t threshold;
    unsigned line;

    es_override_read(shared, &seen);
    if (seen.count != 0) {
        make_table(&expected, seen.entries[0].line);
        assert_int_equal(seen.count, expected.count);
        assert_memory_equal(seen.entries, expected.entries, seen.count * sizeof(seen.entries[0]));
        if (es_override_find(
                &generation,
                es_str(seen.entries[seen.count - 1].path, seen.entries[seen.count - 1].length), 1,
                &threshold, &line)) {
            assert_int_equal(threshold, line);
            *mark = line;
        }
    }
    return seen.count != 0;
}

typedef struct writer {
    es_override_shared_t *shared;
    _Atomic bool done;
} writer_t;

static void *
write_tables(void *data)
{
    writer_t *writer = data;
    es_override_t override;

    for (unsigned mark = 1; mark <= 20000; mark++) {
        make_table(&override, mark);
        es_override_publish(writer->shared, &override);
    }
    atomic_store(&writer->done, true);
    return NULL;
}

static void
threads(void **state)
{
    writer_t writer = {.shared = shared_table()};
    unsigned mark = 0, before = 0;
    pthread_t thread;

    (void) state;
    assert_int_equal(pthread_create(&thread, NULL, write_tables, &writer), 0);
    while (!atomic_load(&writer.done)) {
        is_whole(writer.shared, &mark);
        assert_true(mark >= before);
        before = mark;
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(is_whole(writer.shared, &mark));
    munmap(writer.shared, sizeof(*writer.shared));
}

/* Writers that are killed wherever they are just now; the next one goes on. */
static void
killed_writers(void **state)
{
    es_override_shared_t *shared = shared_table();
    unit_random_t random = unit_random_init();
    es_override_t override;
    unsigned mark = 0;

    (void) state;
    make_table(&override, 1);
    es_override_publish(shared, &override);
    for (unsigned round = 1; round <= 60; round++) {
        struct timespec life = {.tv_nsec = 20000 + unit_random_below(&random, 2000000)};
        unsigned after;
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
            alarm(30); /* should the parent be gone */
            for (unsigned i = round * 1000000;; i++) {
                make_table(&override, i);
                es_override_publish(shared, &override);
            }
        }
        while (mark < round * 1000000) {
            assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
            is_whole(shared, &mark);
        }
        nanosleep(&life, NULL);
        process_kill(pid, SIGKILL);

        unit_assert(&random, is_whole(shared, &mark));
        after = mark;
        unit_assert(&random, is_whole(shared, &mark) && mark == after);
    }
    munmap(shared, sizeof(*shared));
}

/* Half of a table is in none that counts, whatever it says. */
static void
torn_table(void **state)
{
    es_override_shared_t *shared = shared_table();
    es_override_t override;
    unsigned mark = 0;

    (void) state;
    make_table(&override, 63);
    for (unsigned turn = 0; turn < 2; turn++) {
        es_override_publish(shared, &override);
        /* The table that is not in force: the count's byte is below its number. */
        memset(shared->tables[(atomic_load(&shared->current) >> 8 & 1) ^ 1], 0xff,
               sizeof(shared->tables[0]));
        assert_true(is_whole(shared, &mark));
        assert_int_equal(mark, 63);
    }
    munmap(shared, sizeof(*shared));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(find),
        cmocka_unit_test(threads),
        cmocka_unit_test(killed_writers),
        cmocka_unit_test(torn_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
