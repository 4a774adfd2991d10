/* What is not to be seen in spans: otel_redact, and the headers of otel_span_header. */

#include "unit.h"

#include "es_redaction.h"

#include <arpa/inet.h>

#define WORDS_MAX 8

static es_error_t why;

/* The words of one directive; they are borrowed for as long as a test lasts. */
static bool
set(es_redaction_t *redaction, const char *text)
{
    static char copies[8][256];
    static es_str_t words[8][WORDS_MAX];
    static unsigned next;
    char *copy = copies[next % 8], *rest;
    es_str_t *list = words[next++ % 8];
    unsigned count = 0;

    snprintf(copy, sizeof(copies[0]), "%s", text);
    for (char *word = strtok_r(copy, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        assert_true(count < WORDS_MAX);
        list[count++] = es_cstr(word);
    }
    return es_redaction_set(redaction, list, count, &why);
}

static es_redaction_t
redaction(const char *text)
{
    es_redaction_t made;

    if (!set(&made, text)) {
        fail_msg("\"%s\" is refused: %s", text, why.text);
    }
    return made;
}

#define hides_query(redaction, key) es_redaction_hides_query(redaction, ES_STR(key))
#define hides_header(redaction, name) es_redaction_hides_header(redaction, ES_STR(name))

/* --------------------------------------------------------------- queries --- */

static void
query_defaults(void **state)
{
    static const char *const keys[] = {
        "AWSAccessKeyId",       "Signature",        "sig",
        "X-Amz-Signature",      "X-Goog-Signature", "X-Amz-Credential",
        "X-Amz-Security-Token",
    };
    es_redaction_t zeroed = {0}, other = redaction("header=x-secret client_address=/24,/48");

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(keys); i++) {
        assert_true(es_redaction_hides_query(NULL, es_cstr(keys[i])));
        assert_true(es_redaction_hides_query(&zeroed, es_cstr(keys[i])));
        assert_true(es_redaction_hides_query(&other, es_cstr(keys[i])));
    }
    assert_false(hides_query(NULL, "signature"));
    assert_false(hides_query(NULL, "si"));
    assert_false(hides_query(NULL, "sign"));
    assert_false(hides_query(NULL, ""));
}

/* Nobody gets a secret into a span by writing its key in another way. */
static void
query_encoded(void **state)
{
    es_redaction_t token = redaction("query=to%ken query=a=b");

    (void) state;
    assert_true(hides_query(NULL, "%73ig"));
    assert_true(hides_query(NULL, "s%69%67"));
    assert_true(hides_query(NULL, "X%2DAmz%2dSignature"));
    assert_false(hides_query(NULL, "%53ig"));
    assert_false(hides_query(NULL, "sig%"));
    assert_false(hides_query(NULL, "sig%0"));
    assert_false(hides_query(NULL, "%7"));
    assert_false(hides_query(NULL, "sig%00"));
    assert_true(hides_query(&token, "to%25ken"));
    assert_true(hides_query(&token, "to%ken"));
    assert_true(hides_query(&token, "a%3Db"));
}

static void
query_given(void **state)
{
    es_redaction_t two = redaction("query=token query=sid"), all = redaction("query=*"),
                   none = redaction("query=");

    (void) state;
    assert_true(hides_query(&two, "token") && hides_query(&two, "sid"));
    assert_false(hides_query(&two, "sig") || hides_query(&two, "Token"));
    assert_false(hides_query(&two, ""));
    assert_true(hides_query(&all, "anything") && hides_query(&all, ""));
    assert_false(hides_query(&none, "sig") || hides_query(&none, ""));
    assert_true(hides_header(&all, "cookie") && hides_header(&none, "cookie"));
    assert_false(hides_header(&all, "accept"));
}

/* --------------------------------------------------------------- headers --- */

static void
headers(void **state)
{
    es_redaction_t given = redaction("header=X-Token"), all = redaction("header=*"),
                   none = redaction("header= query=*");

    (void) state;
    assert_true(hides_header(NULL, "authorization") && hides_header(NULL, "Set-Cookie"));
    assert_true(hides_header(NULL, "COOKIE") && hides_header(NULL, "proxy-authorization"));
    assert_true(hides_header(NULL, "x-api-key"));
    assert_false(hides_header(NULL, "accept") || hides_header(NULL, "cookie2"));
    assert_true(hides_header(&given, "x-token") && hides_header(&given, "X-TOKEN"));
    assert_false(hides_header(&given, "cookie"));
    assert_true(hides_header(&all, "accept"));
    assert_false(hides_header(&none, "cookie") || hides_header(&none, "accept"));
}

static void *
allocate(void *pool, size_t size)
{
    return pool != NULL ? malloc(size) : NULL;
}

static const es_pool_t pool = {allocate, &why};

static void
captures(void **state)
{
    const es_pool_t empty = {allocate, NULL};
    es_capture_t request, response;
    es_str_t values[] = {ES_STR("one"), ES_STR("two")};
    es_redaction_t none = redaction("header=");
    es_attribute_t attribute;

    (void) state;
    assert_true(es_capture_set(&request, false, ES_STR("X-Request-Id"), &pool, &why));
    unit_assert_str(request.name, "x-request-id");
    unit_assert_str(request.key, "http.request.header.x-request-id");
    assert_false(request.response);
    attribute = es_capture_attribute(&request, NULL, values, 2);
    unit_assert_str(attribute.key, "http.request.header.x-request-id");
    assert_int_equal(attribute.type, ES_ATTRIBUTE_STRINGS);
    assert_int_equal(attribute.values_count, 2);
    unit_assert_str(attribute.values[0], "one");
    unit_assert_str(attribute.values[1], "two");

    assert_true(es_capture_set(&response, true, ES_STR("SET-Cookie"), &pool, &why));
    unit_assert_str(response.key, "http.response.header.set-cookie");
    assert_true(response.response);
    attribute = es_capture_attribute(&response, &none, values, 1);
    unit_assert_str(attribute.values[0], "one");
    attribute = es_capture_attribute(&response, NULL, values, 2);
    unit_assert_str(attribute.values[0], "REDACTED");
    unit_assert_str(attribute.values[1], "REDACTED");
    unit_free(request.key);
    unit_free(response.key);

    assert_false(es_capture_set(&request, false, ES_STR("no name"), &pool, &why));
    assert_string_equal(why.text, "invalid header \"no name\": it takes the name of a header");
    assert_false(es_capture_set(&request, false, ES_STR(""), &pool, &why));
    assert_false(es_capture_set(&request, false, ES_STR("a:"), &pool, &why));
    assert_false(es_capture_set(&request, false, ES_STR("accept"), &empty, &why));
    assert_string_equal(why.text, "no memory");
}

/* ----------------------------------------------------------- inheritance --- */

static void
inheritance(void **state)
{
    es_redaction_t outer = redaction("query=token header=* client_address=/16,/32");
    es_redaction_t inner = redaction("query=sid"), off = redaction("client_address=off"),
                   nothing = {0}, unset = {0};
    char text[ES_ADDRESS_TEXT];

    (void) state;
    es_redaction_inherit(&inner, &outer);
    assert_true(hides_query(&inner, "sid") && hides_header(&inner, "accept"));
    assert_false(hides_query(&inner, "token"));
    unit_assert_str(es_redaction_address(&inner, ES_STR("192.0.2.1"), text), "192.0.0.0");

    es_redaction_inherit(&off, &outer);
    assert_true(hides_query(&off, "token"));
    unit_assert_str(es_redaction_address(&off, ES_STR("192.0.2.1"), text), "192.0.2.1");

    es_redaction_inherit(&nothing, &outer);
    assert_true(hides_query(&nothing, "token") && hides_header(&nothing, "accept"));
    unit_assert_str(es_redaction_address(&nothing, ES_STR("2001:db8:1::1"), text), "2001:db8::");

    es_redaction_inherit(&outer, &unset);
    assert_true(hides_query(&outer, "token"));
    assert_false(hides_query(&outer, "sig"));
    es_redaction_inherit(&unset, &unset);
    assert_true(hides_query(&unset, "sig"));
}

/* ------------------------------------------------------------- addresses --- */

static void
addresses(void **state)
{
    static const struct {
        const char *address, *shown;
    } vectors[] = {
        {"192.0.2.129", "192.0.2.0"},
        {"2001:db8:aaaa:bbbb::1", "2001:db8:aaaa::"},
        {"2001:DB8:0:1::", "2001:db8::"},
        {"::ffff:192.0.2.129", "::ffff:192.0.2.0"},
        {"::ffff:c000:281", "::ffff:192.0.2.0"},
        {"fe80::1%eth0", "fe80::"},
        {"::1", "::"},
        {"unix:", "unix:"},
        {"unix:/run/client", "unix:/run/client"},
        {"", ""},
        {"client.example", ""},
        {"192.0.2.1.5", ""},
        {"192.0.2.129:8080", ""},
        {"[2001:db8::1]", ""},
        {"%eth0", ""},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc", ""},
    };
    es_redaction_t masked = redaction("client_address=/24,/48"),
                   whole = redaction("client_address=/32,/128"),
                   nothing = redaction("client_address=/0,/0");
    char text[ES_ADDRESS_TEXT];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(vectors); i++) {
        es_str_t address = unit_exact(es_cstr(vectors[i].address));

        unit_assert_str(es_redaction_address(&masked, address, text), vectors[i].shown);
        unit_assert_str(es_redaction_address(&whole, address, text), vectors[i].address);
        unit_assert_str(es_redaction_address(NULL, address, text), vectors[i].address);
        unit_free(address);
    }
    unit_assert_str(es_redaction_address(&nothing, ES_STR("192.0.2.1"), text), "0.0.0.0");
    unit_assert_str(es_redaction_address(&nothing, ES_STR("2001:db8::1"), text), "::");
}

/* Every length of prefix, bit by bit. */
static void
prefixes(void **state)
{
    unit_random_t random = unit_random_init();

    (void) state;
    for (unsigned bits = 0; bits <= 128; bits++) {
        char words[64], address[INET6_ADDRSTRLEN], text[ES_ADDRESS_TEXT], shown[64];
        unsigned bits_v4 = bits < 32 ? bits : 32;
        uint8_t v6[16], v4[4], got[16];
        es_redaction_t masked;
        es_str_t result;

        unit_random_bytes(&random, v6, sizeof(v6));
        unit_random_bytes(&random, v4, sizeof(v4));
        v6[0] |= 1; /* not IPv4-mapped */
        snprintf(words, sizeof(words), "client_address=/%u,/%u", bits_v4, bits);
        masked = redaction(words);

        inet_ntop(AF_INET6, v6, address, sizeof(address));
        result = es_redaction_address(&masked, es_cstr(address), text);
        snprintf(shown, sizeof(shown), "%.*s", (int) result.len, result.data);
        unit_assert(&random, inet_pton(AF_INET6, shown, got) == 1);
        for (unsigned bit = 0; bit < 128; bit++) {
            unsigned was = bit < bits ? v6[bit / 8] >> (7 - bit % 8) & 1 : 0;

            unit_assert(&random, (got[bit / 8] >> (7 - bit % 8) & 1u) == was);
        }

        inet_ntop(AF_INET, v4, address, sizeof(address));
        result = es_redaction_address(&masked, es_cstr(address), text);
        snprintf(shown, sizeof(shown), "%.*s", (int) result.len, result.data);
        unit_assert(&random, inet_pton(AF_INET, shown, got) == 1);
        for (unsigned bit = 0; bit < 32; bit++) {
            unsigned was = bit < bits_v4 ? v4[bit / 8] >> (7 - bit % 8) & 1 : 0;

            unit_assert(&random, (got[bit / 8] >> (7 - bit % 8) & 1u) == was);
        }
    }
}

/* ---------------------------------------------------------------- errors --- */

static void
errors(void **state)
{
    static const struct {
        const char *words, *error;
    } vectors[] = {
        {"token", "unknown word \"token\": there are \"query=key\", \"header=name\" and "
                  "\"client_address=/24,/48\""},
        {"query=a query=*",
         "\"query=*\" is not alone: \"query=*\" hides all and \"query=\" nothing, so that no "
         "other \"query=\" can be beside it"},
        {"query=* query=a", "\"query=a\" is not alone"},
        {"query= query=", "\"query=\" is not alone"},
        {"header=a header=", "\"header=\" is not alone"},
        {"query=sess*", "invalid \"query=sess*\": it takes a whole name, or \"*\" for all"},
        {"header=x-*", "invalid \"header=x-*\": it takes a whole name"},
        {"header=a:b", "invalid \"header=a:b\": it takes the name of a header"},
        {"client_address=/24",
         "invalid \"client_address=/24\": it takes the bits that are kept of an IPv4 and of an "
         "IPv6 address, as in \"client_address=/24,/48\", or \"off\""},
        {"client_address=", "invalid \"client_address=\""},
        {"client_address=/33,/48", "invalid \"client_address=/33,/48\""},
        {"client_address=/24,/129", "invalid \"client_address=/24,/129\""},
        {"client_address=24,48", "invalid \"client_address=24,48\""},
        {"client_address=/24,/48,/64", "invalid \"client_address=/24,/48,/64\""},
        {"client_address=off client_address=/8,/8",
         "\"client_address=/8,/8\" is the second \"client_address=\""},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(vectors); i++) {
        es_redaction_t refused;

        if (set(&refused, vectors[i].words)) {
            fail_msg("\"%s\" is taken", vectors[i].words);
        }
        if (strstr(why.text, vectors[i].error) == NULL) {
            fail_msg("\"%s\" is not in \"%s\"", vectors[i].error, why.text);
        }
    }
}

/* Whatever one of two places hides. */
static void
both_places(void **state)
{
    es_redaction_t asked = redaction("query=token header=x-a client_address=/16,/48"),
                   answered = redaction("query=sid header= client_address=/24,/32"),
                   off = redaction("query= header= client_address=off"), plain = {0}, both;
    char text[ES_ADDRESS_TEXT];

    (void) state;
    both = answered;
    es_redaction_join(&both, &asked);
    assert_true(hides_query(&both, "token"));
    assert_true(hides_query(&both, "sid"));
    assert_false(hides_query(&both, "sig"));
    assert_true(hides_header(&both, "x-a"));
    assert_false(hides_header(&both, "cookie"));
    unit_assert_str(es_redaction_address(&both, ES_STR("192.0.2.1"), text), "192.0.0.0");
    unit_assert_str(es_redaction_address(&both, ES_STR("2001:db8:1::1"), text), "2001:db8::");

    /* One of them says nothing, so that it hides what is hidden by default. */
    both = plain;
    es_redaction_join(&both, &off);
    assert_true(hides_query(&both, "sig"));
    assert_true(hides_header(&both, "cookie"));
    unit_assert_str(es_redaction_address(&both, ES_STR("192.0.2.1"), text), "192.0.2.1");
    both = off;
    es_redaction_join(&both, &plain);
    assert_true(hides_query(&both, "sig"));
    unit_assert_str(es_redaction_address(&both, ES_STR("192.0.2.1"), text), "192.0.2.1");
    both = plain;
    es_redaction_join(&both, &asked);
    unit_assert_str(es_redaction_address(&both, ES_STR("192.0.2.1"), text), "192.0.0.0");
    both = asked;
    es_redaction_join(&both, &plain);
    unit_assert_str(es_redaction_address(&both, ES_STR("192.0.2.1"), text), "192.0.0.0");
    both = off;
    es_redaction_join(&both, &off);
    assert_false(hides_query(&both, "sig"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(query_defaults), cmocka_unit_test(query_encoded),
        cmocka_unit_test(query_given),    cmocka_unit_test(headers),
        cmocka_unit_test(captures),       cmocka_unit_test(inheritance),
        cmocka_unit_test(addresses),      cmocka_unit_test(prefixes),
        cmocka_unit_test(errors),         cmocka_unit_test(both_places),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
