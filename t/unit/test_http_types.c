/* The user's attributes of all types. */

#include "unit_http.h"

#include "es_hash.h"

#include <unistd.h>

static uint32_t
put(es_attribute_type_t type, const char *value)
{
    const es_attribute_t attribute = {.key = ES_STR("a"), .value = es_cstr(value), .type = type};
    es_http_t http = server_get();

    http.attributes = &attribute;
    http.attributes_count = 1;
    write_span(&http, 0);
    return decoded->dropped_attributes_count;
}

static void
values(void **state)
{
    static const char *const yes[] = {"on", "1", "true", "ON", "True"};
    static const char *const no[] = {"off", "0", "false", "Off", "FALSE"};

    (void) state;
    put(ES_ATTRIBUTE_STRING, "17");
    has_string("a", "17");
    put(ES_ATTRIBUTE_INT, "-17");
    has_int("a", -17);
    put(ES_ATTRIBUTE_DOUBLE, "0.25");
    has_double("a", 0.25);
    put(ES_ATTRIBUTE_DOUBLE, "3");
    has_double("a", 3);
    for (size_t i = 0; i < UNIT_COUNT(yes); i++) {
        put(ES_ATTRIBUTE_BOOL, yes[i]);
        has_bool("a", true);
    }
    for (size_t i = 0; i < UNIT_COUNT(no); i++) {
        put(ES_ATTRIBUTE_BOOL, no[i]);
        has_bool("a", false);
    }
}

/* Left out, and counted; what is ours of that key stays replaced. */
static void
no_values(void **state)
{
    static const struct {
        es_attribute_type_t type;
        const char *value;
    } rows[] = {
        {ES_ATTRIBUTE_INT, ""},       {ES_ATTRIBUTE_INT, "-"},       {ES_ATTRIBUTE_INT, "1.5"},
        {ES_ATTRIBUTE_DOUBLE, ""},    {ES_ATTRIBUTE_DOUBLE, "fast"}, {ES_ATTRIBUTE_BOOL, ""},
        {ES_ATTRIBUTE_BOOL, "maybe"}, {ES_ATTRIBUTE_HASH, "x"}, /* no key */
    };
    const es_attribute_t status = {.key = ES_STR("http.response.status_code"),
                                   .value = ES_STR("fine"),
                                   .type = ES_ATTRIBUTE_INT};
    es_http_t http = server_get();

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        assert_int_equal(put(rows[i].type, rows[i].value), 1);
        has_not("a");
        has_int("http.response.status_code", 200);
    }
    assert_int_equal(put(ES_ATTRIBUTE_INT, "1"), 0);

    http.attributes = &status;
    http.attributes_count = 1;
    write_span(&http, 0);
    has_not("http.response.status_code");
    assert_int_equal(decoded->dropped_attributes_count, 1);
}

static void
has_strings(const char *key, unsigned count, const char *const *expected)
{
    const EsOtlp__AnyValue *value = find(key);

    assert_non_null(value);
    assert_int_equal(value->value_case, ES_OTLP__ANY_VALUE__VALUE_ARRAY_VALUE);
    assert_int_equal(value->array_value->n_values, count);
    for (unsigned i = 0; i < count; i++) {
        check_string(value->array_value->values[i], key, expected[i]);
    }
}

static void
arrays(void **state)
{
    static const es_str_t words[] = {{"a", 1}, {"", 0}, {"\xff", 1}};
    static const char *const expected[] = {"a", "", "\xef\xbf\xbd"};
    static es_str_t many[600];
    static char kilobytes[10000];
    es_attribute_t attribute = {
        .key = ES_STR("http.request.header.x"), .type = ES_ATTRIBUTE_STRINGS, .values = words};
    es_http_t http = server_get();

    (void) state;
    http.attributes = &attribute;
    http.attributes_count = 1;
    for (attribute.values_count = 0; attribute.values_count <= 3; attribute.values_count++) {
        write_span(&http, 0);
        has_strings("http.request.header.x", attribute.values_count, expected);
    }

    /* Without an array, of the one value. */
    attribute.values = NULL;
    attribute.value = words[0];
    write_span(&http, 0);
    has_strings("http.request.header.x", 1, expected);

    /* Values have a limit each; an array that has no room is left out as a whole. */
    memset(kilobytes, 'x', sizeof(kilobytes));
    for (size_t i = 0; i < UNIT_COUNT(many); i++) {
        many[i] = es_str(kilobytes, sizeof(kilobytes));
    }
    attribute.values = many;
    attribute.values_count = 2;
    write_span(&http, 0);
    assert_int_equal(strlen(find("http.request.header.x")->array_value->values[1]->string_value),
                     ES_SPAN_VALUE_MAX);
    attribute.values_count = UNIT_COUNT(many);
    write_span(&http, 0);
    has_not("http.request.header.x");
    assert_int_equal(decoded->dropped_attributes_count, 1);
}

/* The same value, the same 32 digits; nothing has no hash. */
static void
hashes(void **state)
{
    char path[] = "/tmp/test_http_types.XXXXXX", first[64];
    int fd = mkstemp(path);
    es_error_t error;

    (void) state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "0123456789abcdef", 16), 16);
    close(fd);
    assert_true(es_config_hash_key(&http_config, es_cstr(path), &error));
    unlink(path);

    assert_int_equal(put(ES_ATTRIBUTE_HASH, "alice"), 0);
    snprintf(first, sizeof(first), "%s", find("a")->string_value);
    assert_int_equal(strlen(first), 32);
    assert_int_equal(strspn(first, "0123456789abcdef"), 32);
    put(ES_ATTRIBUTE_HASH, "bob");
    assert_string_not_equal(find("a")->string_value, first);
    put(ES_ATTRIBUTE_HASH, "alice");
    has_string("a", first);
    put(ES_ATTRIBUTE_HASH, "");
    has_string("a", "");
    es_hash_key_dispose(&http_config);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(no_values),
        cmocka_unit_test(arrays),
        cmocka_unit_test(hashes),
    };

    return cmocka_run_group_tests(tests, NULL, clear);
}
