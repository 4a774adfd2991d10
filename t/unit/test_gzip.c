/* Compressed bodies: what zlib itself makes of them again. */

#include "unit.h"

#include "es_gzip.h"

#include <zlib.h>

enum { HEADROOM = 5 };

static void
assert_round_trip(const void *body, size_t length, size_t headroom)
{
    uint8_t *plain = malloc(length + 1);
    es_buffer_t out = {NULL, 0};
    z_stream stream = {0};

    assert_non_null(plain);
    assert_true(es_gzip(es_str(body, length), headroom, &out));
    assert_true(out.size > headroom);

    assert_int_equal(inflateInit2(&stream, 15 + 16), Z_OK); /* gzip and nothing else */
    stream.next_in = out.data + headroom;
    stream.avail_in = (uInt) (out.size - headroom);
    stream.next_out = plain;
    stream.avail_out = (uInt) length + 1;
    assert_int_equal(inflate(&stream, Z_FINISH), Z_STREAM_END);
    assert_int_equal(stream.avail_in, 0); /* one stream, and all of it */
    assert_int_equal(stream.total_out, length);
    assert_memory_equal(plain, body, length);
    inflateEnd(&stream);

    free(plain);
    es_buffer_free(&out);
}

static void
sizes(void **state)
{
    unit_random_t random = unit_random_init();
    static uint8_t noise[300000];
    static const size_t lengths[] = {0, 1, 2, 100, 65535, 65536, sizeof(noise)};

    (void) state;
    for (size_t i = 0; i < sizeof(noise); i++) {
        noise[i] = (uint8_t) unit_random_u64(&random);
    }
    for (size_t i = 0; i < UNIT_COUNT(lengths); i++) {
        assert_round_trip(noise, lengths[i], 0);
        assert_round_trip(noise, lengths[i], HEADROOM);
    }
}

static void
repetitive(void **state)
{
    static char body[1 << 20];
    es_buffer_t out = {NULL, 0};

    (void) state;
    for (size_t i = 0; i < sizeof(body); i++) {
        body[i] = "http.request.method GET "[i % 24];
    }
    assert_round_trip(body, sizeof(body), HEADROOM);
    assert_true(es_gzip(es_str(body, sizeof(body)), HEADROOM, &out));
    assert_true(out.size < sizeof(body) / 20);
    es_buffer_free(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(repetitive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
