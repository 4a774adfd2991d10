/* The override file on the disk, and the leader who looks at it. */

#define _GNU_SOURCE /* nftw, strptime */

#include "unit_directory.h"
#include "unit_override.h"

#include "es_provider.h"

#include <fcntl.h>

static char *root, path[256];

typedef struct server {
    es_config_t *config;
    void *queue_area, *stats_area;
    es_generation_t *generation;
    es_provider_t leader;
    es_override_watch_t watch;
} server_t;

/* Without an exporter: an override is worth a leader all the same. */
static server_t
server_start(const char *file)
{
    server_t server = {.config = es_config_create("unit", &unit_log)};
    es_error_t error;

    assert_non_null(server.config);
    assert_true(es_config_directory(server.config, es_cstr(root), &error));
    assert_true(es_config_override(server.config, es_cstr(file), &error));
    assert_true(es_config_finish(server.config, 1, &error));
    server.queue_area = unit_area(es_queue_area_size(server.config));
    server.stats_area = unit_area(es_stats_area_size());
    assert_true(es_generation_create(&server.generation, server.config, server.queue_area,
                                     server.stats_area, &error));
    server.leader.generation = server.generation;
    server.leader.log = unit_log;
    unit_said[0] = '\0';
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
    unit_said[0] = '\0';
    server->watch.look_at = 0;
    es_override_look(&server->watch, &server->leader);
    if (expected[0] == '\0' ? unit_said[0] != '\0' : strstr(unit_said, expected) == NULL) {
        fail_msg("\"%s\" is not said, but \"%s\"", expected, unit_said);
    }
    if (unit_said[0] != '\0' && strchr(unit_said, '\n')[1] != '\0') {
        fail_msg("more than a line: %s", unit_said);
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
    root = unit_directory();
    snprintf(path, sizeof(path), "%s/override", root);
    return 0;
}

static int
end(void **state)
{
    (void) state;
    unit_directory_remove(root);
    return 0;
}

/* -------------------------------------------------------------- tests --- */

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

    server.config = es_config_create("unit", &unit_log);
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
    char text[128], word[32], expected[512];
    time_t now = time(NULL), past = now - 2, future = now + 4;
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
    uint64_t changed;

    (void) state;
    do {
        server_end(&server);
        server = server_start("override");
        write_file("/a 1 until 2200-01-01T00:00Z\n", 0);
        changed = es_mono_ns();
        assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
        unit_said[0] = '\0';
        es_override_look(&server.watch, &server.leader);
    } while (es_mono_ns() - changed > 100 * ES_MS); /* the machine was too late to see it */
    assert_string_equal(unit_said, "");
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
    es_provider_t *provider;
    uint64_t deadline = es_mono_ns() + 20 * ES_SECOND;
    es_error_t error;

    (void) state;
    write_file("/a 1 until 2200-01-01T00:00Z\n", 10);
    assert_true(es_provider_start(&provider, server.generation, &unit_log, &error));
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(directive),           TEST(changes),    TEST(expiry),
        TEST(odd_mtimes),          TEST(unreadable), TEST(settling),
        TEST(looks_once_a_second), TEST(thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
