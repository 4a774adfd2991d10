/* The spool, with real files: what was appended comes out in order, up to what it
 * may hold. See test_spool_processes.c for several processes. */

#define _GNU_SOURCE /* nftw */

#include "unit_spool.h"

/* -------------------------------------------------------------- order --- */

static void
order(void **state)
{
    char *path = unit_directory();
    es_spool_t *spool = spool_open(path, SPOOL_MAX);

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
    unit_directory_remove(path);
}

/* Taken and appended in turn, settled in any order. */
static void
mixed(void **state)
{
    unit_random_t random = unit_random_init();
    char *path = unit_directory();
    es_spool_t *spool = spool_open(path, SPOOL_MAX);
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
    unit_directory_remove(path);
}

static void
restart(void **state)
{
    char *path = unit_directory();
    es_spool_t *spool = spool_open(path, SPOOL_MAX);
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

    spool = spool_open(path, SPOOL_MAX);
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
    unit_directory_remove(path);
}

/* A spool whose records are all delivered has no file, although it goes on. */
static void
quiet(void **state)
{
    char *path = unit_directory();
    es_spool_t *spool = spool_open(path, SPOOL_MAX);

    (void) state;
    for (uint32_t id = 1; id <= 20; id++) {
        assert_true(spool_append(spool, id, 100));
        assert_int_equal(segments_of(path), 1);
        assert_int_equal(spool_take_and_settle(spool), id);
        assert_empty(spool, path);
    }
    es_spool_close(spool);
    unit_directory_remove(path);
}

/* More files than are looked at, as a server leaves them whose processes die all
 * the time. */
static void
many_segments(void **state)
{
    enum { FILES = 4200 };
    char *path = unit_directory(), *segment, name[300];
    es_spool_t *spool = spool_open(path, 16 * SPOOL_MAX);
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

    spool = spool_open(path, 16 * SPOOL_MAX);
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
    unit_directory_remove(path);
}

/* --------------------------------------------------------------- full --- */

static void
full(void **state)
{
    enum { SMALL = 64 << 10, RECORDS = 1000 };
    unit_random_t random = unit_random_init();
    char *path = unit_directory();
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
    unit_directory_remove(path);
}

static void
too_large(void **state)
{
    char *path = unit_directory();
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
    unit_directory_remove(path);
}

/* What is out for delivery goes last, and is not given up: the taker has it. */
static void
full_while_taken(void **state)
{
    enum { SMALL = 8 * 1024, EIGHTH = 1024 - 24 };
    char *path = unit_directory();
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
    unit_directory_remove(path);
}

/* ------------------------------------------------------ taken at once --- */

/* Delivered after all, before anybody took them; or not. */
static void
taken_at_once(void **state)
{
    char *path = unit_directory();
    es_spool_t *spool = spool_open(path, SPOOL_MAX);
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
    unit_directory_remove(path);
}

/* Nobody replays what is under way elsewhere, however quiet its segment is. */
static void
taken_at_once_elsewhere(void **state)
{
    char *path = unit_directory();
    es_spool_t *replays = spool_open(path, SPOOL_MAX), *other = spool_open(path, SPOOL_MAX);
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
    unit_directory_remove(path);
}

/* Removed to make room while it is under way: given up only if that fails. */
static void
taken_at_once_removed(void **state)
{
    char *path = unit_directory();
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
    unit_directory_remove(path);
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
        cmocka_unit_test(taken_at_once),
        cmocka_unit_test(taken_at_once_elsewhere),
        cmocka_unit_test(taken_at_once_removed),
    };

    return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
