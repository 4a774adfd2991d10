/* Keyed hashes: the vectors of RFC 4231; keys of any length. */

#define _GNU_SOURCE /* nftw */

#include "unit_config.h"

#include "es_hash.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

static void
file(const char *name, const void *content, size_t size)
{
    char path[256];
    FILE *stream;

    snprintf(path, sizeof(path), "%s/%s", root, name);
    stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(content, 1, size, stream), size);
    assert_int_equal(fclose(stream), 0);
}

static void
key(const void *content, size_t size)
{
    file("key", content, size);
    if (!es_config_hash_key(config, ES_STR("key"), &why)) {
        fail_msg("%s", why.text);
    }
}

static void
vectors(void **state)
{
    char bytes[131], text[ES_HASH_TEXT];

    (void) state;
    memset(bytes, 0x0b, 20);
    key(bytes, 20);
    unit_assert_str(es_hash(config, ES_STR("Hi There"), text), "b0344c61d8db38535ca8afceaf0bf12b");
    memset(bytes, 0xaa, sizeof(bytes));
    key(bytes, sizeof(bytes));
    unit_assert_str(
        es_hash(config, ES_STR("Test Using Larger Than Block-Size Key - Hash Key First"), text),
        "60e431591ee0b67f0d8a26aacbf5b77f");
}

/* All of what is in the file counts. */
static void
whole_key(void **state)
{
    unit_random_t random = unit_random_init();

    (void) state;
    for (size_t len = 16; len <= 1024; len += len < 130 ? 1 : 149) {
        uint8_t secret[1024], value[300], digest[EVP_MAX_MD_SIZE];
        char text[ES_HASH_TEXT], expected[ES_HASH_TEXT + 1] = "";
        size_t size = unit_random_below(&random, sizeof(value) + 1);
        unsigned digest_size;

        unit_random_bytes(&random, secret, len);
        unit_random_bytes(&random, value, size);
        secret[len - 1] |= 0x80; /* no newline */
        key(secret, len);
        assert_non_null(HMAC(EVP_sha256(), secret, (int) len, value, size, digest, &digest_size));
        es_hex(expected, digest, 16);
        unit_assert_str(es_hash(config, es_str(value, size), text), expected);
        assert_int_equal(es_hash(config, ES_STR_NONE, text).len, ES_HASH_TEXT);
    }
}

static void
newline(void **state)
{
    char plain[ES_HASH_TEXT], text[ES_HASH_TEXT];
    es_str_t expected;

    (void) state;
    key("0123456789abcdef", 16);
    expected = es_hash(config, ES_STR("value"), plain);
    key("0123456789abcdef\n", 17);
    assert_memory_equal(es_hash(config, ES_STR("value"), text).data, expected.data, ES_HASH_TEXT);
    key("0123456789abcdef\r\n", 18);
    assert_memory_equal(es_hash(config, ES_STR("value"), text).data, expected.data, ES_HASH_TEXT);
    key("0123456789abcdef\n\n", 18);
    assert_memory_not_equal(es_hash(config, ES_STR("value"), text).data, expected.data,
                            ES_HASH_TEXT);
}

static void
refused_keys(void **state)
{
    static const char much[1030];
    char text[ES_HASH_TEXT];

    (void) state;
#define refused_key(words, name)                                         \
    do {                                                                 \
        assert_false(es_config_hash_key(config, es_cstr(name), &why));   \
        if (strstr(why.text, words) == NULL) {                           \
            fail_msg("\"%s\" is not in \"%s\"", words, why.text);        \
        }                                                                \
        assert_int_equal(es_hash(config, ES_STR("value"), text).len, 0); \
    } while (0)

    key("0123456789abcdef", 16);
    refused_key("/missing cannot be read: No such file or directory", "missing");
    refused_key("is no regular file", "/");
    file("short", "0123456789abcde\n", 16);
    refused_key("/short holds a key of 15 bytes: it takes 16 to 1024, as \"openssl rand -hex 32\"",
                "short");
    file("empty", "", 0);
    refused_key("/empty holds a key of 0 bytes", "empty");
    file("newline", "\r\n", 2);
    refused_key("/newline holds a key of 0 bytes", "newline");
    file("long", much, 1025);
    refused_key("/long holds a key of 1025 bytes", "long");
    file("longer", much, sizeof(much));
    refused_key("/longer is larger than", "longer");
}

/* ----------------------------------------------------------------- types --- */

static const es_str_t any = {"a", 1};

static void
types(void **state)
{
    static const struct {
        const char *word;
        es_attribute_type_t type;
    } words[] = {
        {"string", ES_ATTRIBUTE_STRING}, {"int", ES_ATTRIBUTE_INT},
        {"double", ES_ATTRIBUTE_DOUBLE}, {"bool", ES_ATTRIBUTE_BOOL},
        {"HASH", ES_ATTRIBUTE_HASH},
    };
    static const es_str_t headers[] = {
        {"http.request.header.x", 21},   {"http.response.header.x-y", 24},
        {"http.request.headers", 20},    {"http.request.method", 19},
        {"x.http.request.header.x", 23},
    };
    es_attribute_type_t type;

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(words); i++) {
        assert_true(es_attribute_type(config, headers[0], es_cstr(words[i].word), &type, &why));
        assert_int_equal(type, words[i].type);
    }
    for (size_t i = 0; i < UNIT_COUNT(headers); i++) {
        assert_true(es_attribute_type(config, headers[i], ES_STR_NONE, &type, &why));
        assert_int_equal(type, i < 2 ? ES_ATTRIBUTE_STRINGS : ES_ATTRIBUTE_STRING);
    }
    assert_false(es_attribute_type(config, any, ES_STR("number"), &type, &why));
    assert_string_equal(why.text, "invalid attribute type \"number\": it is \"string\", \"int\", "
                                  "\"double\", \"bool\" or \"hash\"");
    assert_false(es_attribute_type(config, any, ES_STR(""), &type, &why));
}

static void
needs_key(void **state)
{
    es_attribute_type_t type;

    (void) state;
    assert_true(es_attribute_type(config, any, ES_STR("int"), &type, &why));
    assert_true(es_config_finish(config, 1, &why));
    again();
    assert_true(es_attribute_type(config, any, ES_STR("hash"), &type, &why));
    assert_false(es_config_finish(config, 1, &why));
    assert_string_equal(why.text, "an attribute of type \"hash\" without a file that has its key "
                                  "(\"otel_hash_key\", \"OtelHashKey\")");
    key("0123456789abcdef", 16);
    assert_true(es_config_finish(config, 1, &why));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(vectors),      TEST(whole_key), TEST(newline),
        TEST(refused_keys), TEST(types),     TEST(needs_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
