/* A spool whose bytes are not what was written: whatever is whole comes out. */

#define _GNU_SOURCE /* nftw */

#include "unit_spool.h"

/* The file ends anywhere in the last record: as a process leaves it that was
 * killed while it wrote. */
static void
torn_tail(void **state)
{
    enum { RECORDS = 3 };
    char *path = unit_directory(), *segment;
    es_spool_t *spool = spool_open(path, SPOOL_MAX);
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
            spool = spool_open(path, SPOOL_MAX);
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
    unit_directory_remove(path);
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
        char *path = unit_directory(), *segment;
        es_spool_t *spool = spool_open(path, SPOOL_MAX);
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
            spool = spool_open(path, SPOOL_MAX);
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
        unit_directory_remove(path);
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
        char *path = unit_directory();
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
        unit_directory_remove(path);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torn_tail),
        cmocka_unit_test(corrupt_byte),
        cmocka_unit_test(garbage),
    };

    return cmocka_run_group_tests_name("torn spool", tests, NULL, NULL);
}
