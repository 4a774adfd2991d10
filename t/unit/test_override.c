/* The override file: its words, the table that all processes see, and the leader
 * who looks at it. */

#define _GNU_SOURCE /* nftw, MAP_ANONYMOUS */

#include "unit.h"

#include "es_clock.h"
#include "es_override.h"
#include "es_provider.h"

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MTIME "2026-11-21T10:00:00"

/* "2026-11-21T10:00:00" in UTC. */
static uint64_t
moment(const char *text)
{
    struct tm tm = {0};

    assert_non_null(strptime(text, "%Y-%m-%dT%H:%M:%S", &tm));
    return (uint64_t) timegm(&tm) * ES_SECOND;
}

static void
zone(const char *name)
{
    setenv("TZ", name, 1);
    tzset();
}

static void
parse(const char *text, const char *mtime, es_override_t *override)
{
    es_str_t exact = unit_exact(es_cstr(text));
    es_error_t error = {""};
    unsigned line;

    if (!es_override_parse(exact, moment(mtime), override, &line, &error)) {
        fail_msg("\"%s\", line %u: %s", text, line, error.text);
    }
    unit_free(exact);
}

/* ---------------------------------------------------------------- words --- */

static void
words(void **state)
{
    static const char text[] = "# an incident\r\n"
                               "\r\n"
                               "/checkout/ \t 100% until 11:30 # all\r\n"
                               "\t/checkout/cart 0.25\tuntil 2026-11-22T00:00Z\r\n"
                               "   # the rest\n"
                               "/ 0 until 2026-11-21T10:00:01Z";
    es_override_t override;

    (void) state;
    zone("UTC");
    parse(text, MTIME, &override);
    assert_int_equal(override.count, 3);

    assert_string_equal(override.entries[0].path, "/checkout/cart");
    assert_int_equal(override.entries[0].length, strlen("/checkout/cart"));
    assert_int_equal(override.entries[0].threshold, ES_THRESHOLD_NEVER / 4 * 3);
    assert_int_equal(override.entries[0].until_ns, moment("2026-11-22T00:00:00"));
    assert_int_equal(override.entries[0].line, 4);

    assert_string_equal(override.entries[1].path, "/checkout");
    assert_int_equal(override.entries[1].threshold, 0);
    assert_int_equal(override.entries[1].until_ns, moment("2026-11-21T11:30:00"));
    assert_int_equal(override.entries[1].line, 3);

    assert_int_equal(override.entries[2].length, 0);
    assert_int_equal(override.entries[2].threshold, ES_THRESHOLD_NEVER);
    assert_int_equal(override.entries[2].until_ns, moment("2026-11-21T10:00:01"));
    assert_int_equal(override.entries[2].line, 6);

    parse("", MTIME, &override);
    assert_int_equal(override.count, 0);
    parse("\n# nothing\n\r\n \t", MTIME, &override);
    assert_int_equal(override.count, 0);
}

#define BYTES16 "0123456789abcdef"
#define BYTES112 BYTES16 BYTES16 BYTES16 BYTES16 BYTES16 BYTES16 BYTES16

static void
bounds(void **state)
{
    char text[ES_OVERRIDE_MAX * 32] = "";
    es_override_t override;

    (void) state;
    parse("/" BYTES112 "0123456789abcd 1 until 12:00", MTIME, &override);
    assert_int_equal(override.entries[0].length, ES_OVERRIDE_PATH_MAX);
    for (unsigned i = 0; i < ES_OVERRIDE_MAX; i++) {
        sprintf(text + strlen(text), "/%u 1 until 12:00\n", i);
    }
    parse(text, MTIME, &override);
    assert_int_equal(override.count, ES_OVERRIDE_MAX);
}

static void
errors(void **state)
{
    static char many[(ES_OVERRIDE_MAX + 1) * 32];
    const struct {
        const char *text;
        unsigned line;
        const char *why;
    } rows[] = {
        {"checkout 1 until 12:00", 1, "invalid path \"checkout\": it begins with a slash"},
        {"until 12:00", 1, "invalid path \"until\": it begins with a slash"},
        {"/a?b 1 until 12:00", 1, "invalid path \"/a?b\": it has no query"},
        {"/" BYTES112 "0123456789abcde 1 until 12:00", 1, "it has 127 bytes at most"},
        {"# one\n\n/a", 3, "\"/a\" has no rate: a line is \"<path> <rate> until <time>\""},
        {"/a # 1 until 12:00", 1, "\"/a\" has no rate"},
        {"/a until 12:00", 1, "invalid sample rate \"until\""},
        {"/a 101% until 12:00", 1, "invalid sample rate \"101%\""},
        {"/a 1,5 until 12:00", 1, "invalid sample rate \"1,5\""},
        {"/a 1", 1, "\"/a\" has no end: a line is \"<path> <rate> until <time>\""},
        {"/b 1 until 12:00\r\n/a 1\r\n", 2, "\"/a\" has no end"},
        {"/a 1 till 12:00", 1,
         "\"till\" is not \"until\": a line is \"<path> <rate> until <time>\""},
        {"/a 1 until", 1, "\"until\" has no time: a line is \"<path> <rate> until <time>\""},
        {"/a 1 until 12:00 UTC", 1,
         "\"UTC\" is too much: a line is \"<path> <rate> until <time>\""},
        {"/a 1 until 12:00\n/b 1 until 12:00\n/a/ 0 until 13:00", 3, "\"/a\" is in line 1 already"},
        {"/ 1 until 12:00\n/// 1 until 12:00", 2, "\"/\" is in line 1 already"},
        {many, ES_OVERRIDE_MAX + 1, "more than 64 paths"},
    };
    static const char *const times[] = {
        "noon",
        "12",
        "12:",
        "1:00",
        "12:0",
        "12:000",
        "24:00",
        "12:60",
        "12:00:60",
        "12:00:0",
        "12:00:00.5",
        "12:00Z",
        "-1:00",
        "+1:00",
        "2026-11-21",
        "2026-11-21 12:00",
        "2026-11-21T",
        "2026-11-21T12",
        "2026-11-21T12:00z",
        "2026-11-21T12:00ZZ",
        "2026-11-21T12:00+01:00",
        "2026-11-21t12:00",
        "2026-02-29T12:00",
        "2026-04-31T12:00",
        "2026-13-01T12:00",
        "2026-00-01T12:00",
        "2026-01-00T12:00",
        "2026-1-1T12:00",
        "26-11-21T12:00",
    };

    (void) state;
    for (unsigned i = 0; i <= ES_OVERRIDE_MAX; i++) {
        sprintf(many + strlen(many), "/%u 1 until 12:00\n", i);
    }
    for (size_t i = 0; i < UNIT_COUNT(rows) + UNIT_COUNT(times); i++) {
        char line_of_time[64], why[256];
        const char *text = line_of_time, *expected = why;
        unsigned expected_line = 1, line;
        es_override_t override;
        es_error_t error = {""};
        es_str_t exact;

        if (i < UNIT_COUNT(rows)) {
            text = rows[i].text;
            expected = rows[i].why;
            expected_line = rows[i].line;
        } else {
            const char *time = times[i - UNIT_COUNT(rows)];

            snprintf(line_of_time, sizeof(line_of_time), "/a 1 until %s", time);
            snprintf(why, sizeof(why), "invalid time \"%.*s\": it is HH:MM, HH:MM:SS or",
                     (int) strcspn(time, " "), time);
            if (strchr(time, ' ') != NULL) {
                snprintf(why, sizeof(why), "invalid time \"2026-11-21\"");
            }
        }
        exact = unit_exact(es_cstr(text));
        if (es_override_parse(exact, moment(MTIME), &override, &line, &error)) {
            fail_msg("\"%s\" is taken", text);
        }
        if (strstr(error.text, expected) == NULL || line != expected_line) {
            fail_msg("\"%s\", line %u: %s", text, line, error.text);
        }
        unit_free(exact);
    }
}

/* ---------------------------------------------------------------- times --- */

#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"
#define DUBLIN "IST-1GMT0,M10.5.0,M3.5.0/1"        /* its winter is the special time */
#define SANTIAGO "<-04>4<-03>,M9.1.6/24,M4.1.6/24" /* changes at midnight */

static void
times(void **state)
{
    static const struct {
        const char *zone, *mtime, *time, *until;
    } rows[] = {
        {"UTC", "2026-11-21T10:00:00", "10:01", "2026-11-21T10:01:00"},
        {"UTC", "2026-11-21T10:00:00", "10:00:07", "2026-11-21T10:00:07"},
        {"UTC", "2026-12-31T23:30:00", "00:10", "2027-01-01T00:10:00"},
        {"UTC", "2028-02-28T12:00:00", "11:00", "2028-02-29T11:00:00"},

        /* After the file was written, not at that moment. */
        {BERLIN, "2026-11-21T10:59:59", "12:00", "2026-11-21T11:00:00"},
        {BERLIN, "2026-11-21T11:00:00", "12:00", "2026-11-22T11:00:00"},
        {BERLIN, "2026-11-21T11:00:01", "12:00", "2026-11-22T11:00:00"},
        {"IST-5:30", "2026-11-21T06:00:00", "12:00", "2026-11-21T06:30:00"},
        {"EST5", "2026-11-22T03:00:00", "23:00", "2026-11-22T04:00:00"},

        /* The night of 23 hours, at its end and in the middle of the gap. */
        {BERLIN, "2026-03-28T11:30:00", "12:00", "2026-03-29T10:00:00"},
        {BERLIN, "2026-03-28T23:30:00", "02:30", "2026-03-29T01:30:00"},
        {BERLIN, "2026-03-28T23:30:00", "03:00", "2026-03-29T01:00:00"},
        {BERLIN, "2026-03-29T01:40:00", "02:30", "2026-03-30T00:30:00"},
        {DUBLIN, "2026-03-29T00:30:00", "01:30", "2026-03-29T01:30:00"},
        {SANTIAGO, "2026-09-06T03:00:00", "00:30", "2026-09-06T04:30:00"},

        /* The night of 25 hours: either of the two, whichever is next. */
        {BERLIN, "2026-10-24T10:30:00", "12:00", "2026-10-25T11:00:00"},
        {BERLIN, "2026-10-24T22:00:00", "02:30", "2026-10-25T00:30:00"},
        {BERLIN, "2026-10-25T00:45:00", "02:30", "2026-10-25T01:30:00"},
        {BERLIN, "2026-10-25T01:45:00", "02:30", "2026-10-26T01:30:00"},
        {DUBLIN, "2026-10-25T00:00:00", "01:30", "2026-10-25T00:30:00"},
        {DUBLIN, "2026-10-25T00:45:00", "01:30", "2026-10-25T01:30:00"},

        /* With a date the file's time does not matter. */
        {BERLIN, "2030-01-01T00:00:00", "2026-11-21T12:00", "2026-11-21T11:00:00"},
        {BERLIN, "2026-11-21T10:00:00", "2026-07-01T12:00:59", "2026-07-01T10:00:59"},
        {BERLIN, "2026-11-21T10:00:00", "2026-07-01T12:00Z", "2026-07-01T12:00:00"},
        {BERLIN, "2026-11-21T10:00:00", "2026-07-01T12:00:05Z", "2026-07-01T12:00:05"},
        {BERLIN, "2026-11-21T10:00:00", "2026-10-25T02:30", "2026-10-25T00:30:00"},
        {BERLIN, "2026-11-21T10:00:00", "2026-03-29T02:30", "2026-03-29T01:30:00"},
        {"UTC", "2026-11-21T10:00:00", "1969-12-31T23:59Z", "1970-01-01T00:00:00"},
    };
    es_override_t override;

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        char text[128];

        zone(rows[i].zone);
        snprintf(text, sizeof(text), "/ 1 until %s", rows[i].time);
        parse(text, rows[i].mtime, &override);
        if (override.entries[0].until_ns != moment(rows[i].until)) {
            fail_msg("%s, written %s, until %s: %llu is not %s", rows[i].zone, rows[i].mtime,
                     rows[i].time, (unsigned long long) override.entries[0].until_ns / ES_SECOND,
                     rows[i].until);
        }
    }
    zone("UTC");
    parse("/ 1 until 9999-12-31T23:59Z", MTIME, &override);
    assert_true(override.entries[0].until_ns == UINT64_MAX);
}

/* --------------------------------------------------------------- finding --- */

static es_override_shared_t *
shared_table(void)
{
    void *memory = mmap(NULL, sizeof(es_override_shared_t), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(memory != MAP_FAILED);
    return memory;
}

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

/* -------------------------------------------------- writers and readers --- */

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
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

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

/* ----------------------------------------------------------------- leader --- */

static char root[64], path[128], said[8192];

static void
remember(void *data, es_log_level_t level, const char *text)
{
    static const char *const levels[] = {"error", "warn", "notice", "info"};
    size_t len = strlen(said);

    (void) data;
    snprintf(said + len, sizeof(said) - len, "%s: %s\n", levels[level], text);
}

typedef struct server {
    es_config_t *config;
    void *queue_area, *stats_area;
    es_generation_t *generation;
    es_provider_t leader;
    es_override_watch_t watch;
} server_t;

static void *
area(size_t size)
{
    void *memory = aligned_alloc(64, (size + 63) & ~(size_t) 63);

    assert_non_null(memory);
    return memset(memory, 0, size);
}

/* Without an exporter: an override is worth a leader all the same. */
static server_t
server_start(const char *file)
{
    const es_log_t log = {remember, NULL};
    server_t server = {.config = es_config_create("unit", &log)};
    es_error_t error;

    assert_non_null(server.config);
    assert_true(es_config_directory(server.config, es_cstr(root), &error));
    assert_true(es_config_override(server.config, es_cstr(file), &error));
    assert_true(es_config_finish(server.config, 1, &error));
    server.queue_area = area(es_queue_area_size(server.config));
    server.stats_area = area(es_stats_area_size());
    assert_true(es_generation_create(&server.generation, server.config, server.queue_area,
                                     server.stats_area, &error));
    server.leader.generation = server.generation;
    server.leader.log = log;
    said[0] = '\0';
    return server;
}

static void
server_end(server_t *server)
{
    es_generation_destroy(server->generation);
    es_config_destroy(server->config);
    free(server->queue_area);
    free(server->stats_area);
}

/* Replaces the file by one that was written some seconds ago. */
static void
write_file(const char *text, unsigned seconds_ago)
{
    struct timespec times[2] = {{0}, {0}};
    FILE *out = fopen(path, "w");

    assert_non_null(out);
    fputs(text, out);
    assert_int_equal(fclose(out), 0);
    times[0].tv_sec = times[1].tv_sec = time(NULL) - (time_t) seconds_ago;
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Looks now, and checks all that is logged. */
static void
look(server_t *server, const char *expected)
{
    said[0] = '\0';
    server->watch.look_at = 0;
    es_override_look(&server->watch, &server->leader);
    if (expected[0] == '\0' ? said[0] != '\0' : strstr(said, expected) == NULL) {
        fail_msg("\"%s\" is not said, but \"%s\"", expected, said);
    }
    if (said[0] != '\0' && strchr(said, '\n')[1] != '\0') {
        fail_msg("more than a line: %s", said);
    }
}

static unsigned
line_now(const server_t *server, const char *at)
{
    uint64_t threshold;
    unsigned line = 0;

    return es_override_find(server->generation, es_cstr(at), es_wall_ns(), &threshold, &line) ? line
                                                                                              : 0;
}

static int
begin(void **state)
{
    (void) state;
    zone("UTC");
    strcpy(root, "/tmp/edgespan-unit-XXXXXX");
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof(path), "%s/override", root);
    return 0;
}

static int
remove_one(const char *name, const struct stat *status, int type, struct FTW *ftw)
{
    (void) status;
    (void) type;
    (void) ftw;
    return remove(name);
}

static int
end(void **state)
{
    (void) state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void
directive(void **state)
{
    server_t server = server_start("override");
    es_error_t error;

    (void) state;
    assert_string_equal(server.config->override, path);
    assert_false(es_config_override(server.config, ES_STR("other"), &error));
    assert_string_equal(error.text, "is given already");
    server_end(&server);

    server.config = es_config_create("unit", &(es_log_t){remember, NULL});
    assert_int_equal(es_override_area_size(server.config), 0);
    assert_null(es_override_open(server.config, NULL));
    assert_false(es_config_override(server.config, ES_STR(""), &error));
    assert_non_null(strstr(error.text, "invalid path \"\""));
    es_config_destroy(server.config);
}

static void
changes(void **state)
{
    server_t server = server_start("override");
    char expected[512];

    (void) state;
    look(&server, "");
    write_file("/a 1 until 2200-01-01T00:00Z\n", 50);
    snprintf(expected, sizeof(expected),
             "notice: override: 1 entry of %s, until 2200-01-01T00:00:00+0000\n", path);
    look(&server, expected);
    assert_int_equal(line_now(&server, "/a"), 1);
    assert_int_equal(line_now(&server, "/b"), 0);
    look(&server, "");

    write_file("# more\n/a 1 until 2200-01-01T00:00Z\n/b 0 until 2100-01-01T00:00Z\n", 40);
    snprintf(expected, sizeof(expected),
             "notice: override: 2 entries of %s, until 2200-01-01T00:00:00+0000 at the latest\n",
             path);
    look(&server, expected);
    assert_int_equal(line_now(&server, "/a"), 2);
    assert_int_equal(line_now(&server, "/b"), 3);

    /* Broken: as a whole, once. */
    write_file("/a 1 until 2200-01-01T00:00Z\n/c 2 until 12:00\n", 30);
    snprintf(expected, sizeof(expected),
             "warn: override: %s:2: invalid sample rate \"2\": it is a number from 0 to 1, or a "
             "percentage from 0%% to 100%%; nothing of the file counts (in force: 2 entries)\n",
             path);
    look(&server, expected);
    look(&server, "");
    assert_int_equal(line_now(&server, "/a"), 2);
    assert_int_equal(line_now(&server, "/c"), 0);

    /* Another leader sees the same file and has nothing to say. */
    server.watch = (es_override_watch_t){0};
    look(&server, "");
    assert_int_equal(line_now(&server, "/b"), 3);

    write_file("/c 1 until 2200-01-01T00:00Z\n", 20);
    look(&server, "notice: override: 1 entry of ");
    server.watch = (es_override_watch_t){0};
    look(&server, "");
    assert_int_equal(line_now(&server, "/a"), 0);
    assert_int_equal(line_now(&server, "/c"), 1);

    assert_int_equal(unlink(path), 0);
    snprintf(expected, sizeof(expected), "notice: override: %s is gone, its 1 entry ended\n", path);
    look(&server, expected);
    look(&server, "");
    assert_int_equal(line_now(&server, "/c"), 0);

    /* Emptied, it ends likewise. */
    write_file("/c 1 until 2200-01-01T00:00Z\n", 20);
    look(&server, "1 entry of ");
    write_file("# over\n", 20);
    snprintf(expected, sizeof(expected), "notice: override: %s has no entry any more\n", path);
    look(&server, expected);
    look(&server, "");
    assert_int_equal(line_now(&server, "/c"), 0);
    server_end(&server);
}

/* HH:MM counts from when the file was written, so that a reload or another leader
 * does not make it a day longer. */
static void
expiry(void **state)
{
    server_t server = server_start("override");
    char text[128], word[32], expected[256];
    time_t now = time(NULL), past = now - 2, future = now + 2;
    struct tm tm;

    (void) state;
    strftime(word, sizeof(word), "%H:%M:%S", gmtime_r(&past, &tm));
    snprintf(text, sizeof(text), "/a 1 until %s\n", word);
    write_file(text, 10);
    snprintf(expected, sizeof(expected), "notice: override: all of %s has expired\n", path);
    look(&server, expected);
    look(&server, "");
    assert_int_equal(line_now(&server, "/a"), 0);

    strftime(word, sizeof(word), "%H:%M:%S", gmtime_r(&future, &tm));
    snprintf(text, sizeof(text), "/a 1 until %s\n/ 1 until 2200-01-01T00:00Z\n", word);
    write_file(text, 10);
    look(&server, "2 entries of ");
    assert_int_equal(line_now(&server, "/a"), 1);
    while (es_wall_ns() < (uint64_t) future * ES_SECOND) {
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    assert_int_equal(line_now(&server, "/a"), 2); /* at once: nobody has looked */
    snprintf(expected, sizeof(expected), "notice: override: 1 entry of %s expired, 1 left\n", path);
    look(&server, expected);
    look(&server, "");
    server.watch = (es_override_watch_t){0};
    look(&server, "");
    assert_int_equal(line_now(&server, "/a"), 2);
    server_end(&server);
}

/* Of a clock that was wrong, or of a tool: no override is a year longer for it. */
static void
odd_mtimes(void **state)
{
    const time_t mtimes[] = {time(NULL) + 400 * 86400, -315619200};
    server_t server = server_start("override");

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(mtimes); i++) {
        const struct timespec times[2] = {{.tv_sec = mtimes[i]}, {.tv_sec = mtimes[i]}};
        es_override_t override;

        write_file("/a 1 until 12:00\n", 0);
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
        look(&server, "1 entry of ");
        es_override_read(server.generation->override, &override);
        assert_int_equal(override.count, 1);
        assert_in_range(override.entries[0].until_ns, es_wall_ns(),
                        es_wall_ns() + 86400 * ES_SECOND);
    }
    server_end(&server);
}

static void
unreadable(void **state)
{
    static char large[(64 << 10) + 2];
    const struct timespec long_ago[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    uid_t user = geteuid();
    server_t server = server_start("override");
    char expected[512];

    (void) state;
    write_file("/a 1 until 2200-01-01T00:00Z\n", 10);
    look(&server, "1 entry of ");
    write_file("/b 1 until 2200-01-01T00:00Z\n", 9);
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(chmod(root, 0755), 0);
    if (user == 0) { /* who may read all */
        assert_int_equal(seteuid(65534), 0);
    }
    snprintf(expected, sizeof(expected),
             "warn: override: %s cannot be read by user id %u: Permission denied\n", path,
             (unsigned) geteuid());
    look(&server, expected);
    look(&server, ""); /* once a minute */
    assert_int_equal(line_now(&server, "/a"), 1);
    assert_int_equal(seteuid(user), 0);
    assert_int_equal(chmod(path, 0644), 0);
    look(&server, "1 entry of ");
    assert_int_equal(line_now(&server, "/b"), 1);

    /* No file at all, too large a one: each has its own words. */
    memset(large, '\n', sizeof(large) - 1);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(remove(path), 0);
        if (i == 0) {
            assert_int_equal(mkfifo(path, 0600), 0);
        } else if (i == 1) {
            assert_int_equal(mkdir(path, 0700), 0);
        } else {
            write_file(large, 0);
        }
        assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
        atomic_store(&server.generation->override->unreadable.logged_at, 0);
        look(&server, i < 2 ? "override is no regular file\n" : "is larger than 65536 bytes\n");
        assert_int_equal(line_now(&server, "/b"), 1);
    }
    server_end(&server);
}

/* Right after a change the writer is perhaps not done. */
static void
settling(void **state)
{
    server_t server = server_start("override");

    (void) state;
    write_file("/a 1 until 2200-01-01T00:00Z\n", 0);
    assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
    look(&server, "");
    assert_int_equal(line_now(&server, "/a"), 0);
    nanosleep(&(struct timespec){.tv_nsec = 110000000}, NULL);
    look(&server, "1 entry of ");
    assert_int_equal(line_now(&server, "/a"), 1);
    server_end(&server);
}

/* Is asked often and looks once a second. */
static void
looks_once_a_second(void **state)
{
    server_t server = server_start("override");

    (void) state;
    assert_int_equal(es_override_due(&server.watch, &server.leader), 0);
    look(&server, "");
    assert_in_range(es_override_due(&server.watch, &server.leader), es_mono_ns(),
                    es_mono_ns() + ES_SECOND);
    write_file("/a 1 until 2200-01-01T00:00Z\n", 10);
    es_override_look(&server.watch, &server.leader);
    assert_int_equal(line_now(&server, "/a"), 0);
    look(&server, "1 entry of ");
    server_end(&server);
}

/* The leader's own thread, without an exporter. */
static void
thread(void **state)
{
    server_t server = server_start("override");
    const es_log_t log = {remember, NULL};
    es_provider_t *provider;
    uint64_t deadline = es_mono_ns() + 20 * ES_SECOND;
    es_error_t error;

    (void) state;
    write_file("/a 1 until 2200-01-01T00:00Z\n", 10);
    assert_true(es_provider_start(&provider, server.generation, &log, &error));
    while (line_now(&server, "/a") == 0 && es_mono_ns() < deadline) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_int_equal(line_now(&server, "/a"), 1);
    write_file("/b 1 until 2200-01-01T00:00Z\n", 5);
    while (line_now(&server, "/b") == 0 && es_mono_ns() < deadline) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    assert_int_equal(line_now(&server, "/b"), 1);

    es_provider_stop(provider);
    assert_false(provider->stuck);
    es_provider_destroy(provider);
    server_end(&server);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(bounds),
        cmocka_unit_test(errors),
        cmocka_unit_test(times),
        cmocka_unit_test(find),
        cmocka_unit_test(threads),
        cmocka_unit_test(killed_writers),
        cmocka_unit_test(torn_table),
        cmocka_unit_test_setup_teardown(directive, begin, end),
        cmocka_unit_test_setup_teardown(changes, begin, end),
        cmocka_unit_test_setup_teardown(expiry, begin, end),
        cmocka_unit_test_setup_teardown(odd_mtimes, begin, end),
        cmocka_unit_test_setup_teardown(unreadable, begin, end),
        cmocka_unit_test_setup_teardown(settling, begin, end),
        cmocka_unit_test_setup_teardown(looks_once_a_second, begin, end),
        cmocka_unit_test_setup_teardown(thread, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
