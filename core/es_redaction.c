/* What is not to be seen in spans: otel_redact. */

#include "es_redaction.h"

#include "es_str.h"

#include <arpa/inet.h>

/* es_redaction_t.given: the kinds that a directive named, so that they do not come from
 * the level above, and what is hidden altogether. */
enum {
    GIVEN_QUERY = 1,
    GIVEN_HEADERS = 2,
    GIVEN_ADDRESS = 4,
    ALL_QUERY = 8,
    ALL_HEADERS = 16,
};

/* The conventions' default list of sensitive query keys, case-sensitive. */
static const es_str_t default_query[] = {
    {"AWSAccessKeyId", 14},       {"Signature", 9},        {"sig", 3},
    {"X-Goog-Signature", 16},     {"X-Amz-Signature", 15}, {"X-Amz-Credential", 16},
    {"X-Amz-Security-Token", 20},
};

static const es_str_t default_headers[] = {
    {"authorization", 13},       {"cookie", 6},    {"set-cookie", 10},
    {"proxy-authorization", 19}, {"x-api-key", 9},
};

/* ------------------------------------------------------------- the words --- */

typedef struct es_redaction_kind {
    es_str_t prefix;
    uint8_t given, all;
} es_redaction_kind_t;

static const es_redaction_kind_t query_kind = {{"query=", 6}, GIVEN_QUERY, ALL_QUERY};
static const es_redaction_kind_t headers_kind = {{"header=", 7}, GIVEN_HEADERS, ALL_HEADERS};

static const es_str_t address_prefix = {"client_address=", 15};

/* One word of `kind`; `before` are those of its kind that stand before it. */
static bool
add_word(es_redaction_t *redaction, const es_redaction_kind_t *kind, es_str_t word, bool *alone,
         unsigned before, es_error_t *error)
{
    es_str_t name = es_str_from(word, kind->prefix.len);
    bool all = es_str_eq(name, ES_STR("*"));

    if ((all || name.len == 0) ? before != 0 : *alone) {
        return es_fail(error,
                       "\"%.*s\" is not alone: \"%s*\" hides all and \"%s\" nothing, so that no "
                       "other \"%s\" can be beside it",
                       ES_ARG(word), kind->prefix.data, kind->prefix.data, kind->prefix.data);
    }
    if (!all && kind == &headers_kind && name.len != 0 && !es_is_token(name)) {
        return es_fail(error, "invalid \"%.*s\": it takes the name of a header", ES_ARG(word));
    }
    if (!all && es_str_find(name, '*') < name.len) {
        return es_fail(error, "invalid \"%.*s\": it takes a whole name, or \"*\" for all",
                       ES_ARG(word));
    }
    *alone = all || name.len == 0;
    redaction->given |= (uint8_t) (kind->given | (all ? kind->all : 0));
    return true;
}

static bool
prefix_length(es_str_t text, unsigned max, uint8_t *bits)
{
    uint64_t number;

    if (text.len < 2 || text.data[0] != '/' || !es_parse_uint(es_str_from(text, 1), &number)
        || number > max) {
        return false;
    }
    *bits = (uint8_t) number;
    return true;
}

static bool
set_address(es_redaction_t *redaction, es_str_t word, es_error_t *error)
{
    es_str_t value = es_str_from(word, address_prefix.len), parts[2];

    if (redaction->given & GIVEN_ADDRESS) {
        return es_fail(error, "\"%.*s\" is the second \"client_address=\"", ES_ARG(word));
    }
    redaction->given |= GIVEN_ADDRESS;
    if (es_str_eq(value, ES_STR("off"))) {
        redaction->prefix_v4 = 32;
        redaction->prefix_v6 = 128;
        return true;
    }
    return (es_str_split(value, ',', parts, 2) == 2
            && prefix_length(parts[0], 32, &redaction->prefix_v4)
            && prefix_length(parts[1], 128, &redaction->prefix_v6))
           || es_fail(error,
                      "invalid \"%.*s\": it takes the bits that are kept of an IPv4 and of an "
                      "IPv6 address, as in \"client_address=/24,/48\", or \"off\"",
                      ES_ARG(word));
}

bool
es_redaction_set(es_redaction_t *redaction, const es_str_t *words, unsigned count,
                 es_error_t *error)
{
    bool query_alone = false, headers_alone = false, ok = true;
    unsigned queries = 0, headers = 0;

    *redaction = (es_redaction_t){.query = words, .headers = words};
    for (unsigned i = 0; ok && i < count; i++) {
        es_str_t word = words[i];

        if (es_str_starts(word, query_kind.prefix)) {
            ok = add_word(redaction, &query_kind, word, &query_alone, queries++, error);
        } else if (es_str_starts(word, headers_kind.prefix)) {
            ok = add_word(redaction, &headers_kind, word, &headers_alone, headers++, error);
        } else if (es_str_starts(word, address_prefix)) {
            ok = set_address(redaction, word, error);
        } else {
            ok = es_fail(error,
                         "unknown word \"%.*s\": there are \"query=key\", \"header=name\" and "
                         "\"client_address=/24,/48\"",
                         ES_ARG(word));
        }
    }
    redaction->query_count = queries != 0 ? count : 0;
    redaction->headers_count = headers != 0 ? count : 0;
    return ok;
}

void
es_redaction_inherit(es_redaction_t *redaction, const es_redaction_t *outer)
{
    if (!(redaction->given & GIVEN_QUERY)) {
        redaction->query = outer->query;
        redaction->query_count = outer->query_count;
        redaction->given |= outer->given & (GIVEN_QUERY | ALL_QUERY);
    }
    if (!(redaction->given & GIVEN_HEADERS)) {
        redaction->headers = outer->headers;
        redaction->headers_count = outer->headers_count;
        redaction->given |= outer->given & (GIVEN_HEADERS | ALL_HEADERS);
    }
    if (!(redaction->given & GIVEN_ADDRESS)) {
        redaction->prefix_v4 = outer->prefix_v4;
        redaction->prefix_v6 = outer->prefix_v6;
        redaction->given |= outer->given & GIVEN_ADDRESS;
    }
}

static uint8_t
fewer(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

void
es_redaction_join(es_redaction_t *redaction, const es_redaction_t *other)
{
    redaction->also = other;
    if (!(redaction->given & GIVEN_ADDRESS)) {
        redaction->prefix_v4 = other->prefix_v4;
        redaction->prefix_v6 = other->prefix_v6;
    } else if (other->given & GIVEN_ADDRESS) {
        redaction->prefix_v4 = fewer(redaction->prefix_v4, other->prefix_v4);
        redaction->prefix_v6 = fewer(redaction->prefix_v6, other->prefix_v6);
    }
    redaction->given |= other->given & GIVEN_ADDRESS;
}

/* ------------------------------------------------------------- questions --- */

/* Is `key`, percent-decoded, the same as `name`? */
static bool
same_decoded(es_str_t key, es_str_t name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t byte = 0;
        bool encoded = es_percent_byte(key, &byte);

        if (key.len == 0 || (encoded ? (char) byte : key.data[0]) != name.data[i]) {
            return false;
        }
        key = es_str_from(key, encoded ? 3 : 1);
    }
    return key.len == 0;
}

/* Most keys are told from a name, which is not empty, by a glance. */
static inline bool
same_key(es_str_t key, es_str_t name)
{
    return key.len >= name.len && (key.data[0] == name.data[0] || key.data[0] == '%')
           && same_decoded(key, name);
}

static bool
hides_query(const es_redaction_t *redaction, es_str_t key)
{
    if (redaction == NULL || !(redaction->given & GIVEN_QUERY)) {
        for (size_t i = 0; i < ES_COUNT(default_query); i++) {
            if (same_key(key, default_query[i])) {
                return true;
            }
        }
        return false;
    }
    if (redaction->given & ALL_QUERY) {
        return true;
    }
    for (unsigned i = 0; i < redaction->query_count; i++) {
        es_str_t word = redaction->query[i];

        if (word.len > query_kind.prefix.len && es_str_starts(word, query_kind.prefix)
            && same_key(key, es_str_from(word, query_kind.prefix.len))) {
            return true;
        }
    }
    return false;
}

static bool
hides_header(const es_redaction_t *redaction, es_str_t name)
{
    if (redaction == NULL || !(redaction->given & GIVEN_HEADERS)) {
        for (size_t i = 0; i < ES_COUNT(default_headers); i++) {
            if (es_str_ieq(name, default_headers[i])) {
                return true;
            }
        }
        return false;
    }
    if (redaction->given & ALL_HEADERS) {
        return true;
    }
    for (unsigned i = 0; i < redaction->headers_count; i++) {
        es_str_t word = redaction->headers[i];

        if (es_str_starts(word, headers_kind.prefix)
            && es_str_ieq(name, es_str_from(word, headers_kind.prefix.len))) {
            return true;
        }
    }
    return false;
}

bool
es_redaction_hides_query(const es_redaction_t *redaction, es_str_t key)
{
    return hides_query(redaction, key)
           || (redaction != NULL && redaction->also != NULL && hides_query(redaction->also, key));
}

bool
es_redaction_hides_header(const es_redaction_t *redaction, es_str_t name)
{
    return hides_header(redaction, name)
           || (redaction != NULL && redaction->also != NULL && hides_header(redaction->also, name));
}

/* ------------------------------------------------------------- addresses --- */

static void
clear_bits(uint8_t *bytes, size_t size, unsigned kept)
{
    for (size_t i = 0; i < size; i++) {
        unsigned before = (unsigned) i * 8;

        if (kept <= before) {
            bytes[i] = 0;
        } else if (kept - before < 8) {
            bytes[i] &= (uint8_t) (0xff00u >> (kept - before));
        }
    }
}

es_str_t
es_redaction_address(const es_redaction_t *redaction, es_str_t address, char out[ES_ADDRESS_TEXT])
{
    char text[ES_ADDRESS_TEXT];
    struct in6_addr v6;
    struct in_addr v4;
    es_str_t digits;

    if (redaction == NULL || !(redaction->given & GIVEN_ADDRESS)
        || (redaction->prefix_v4 == 32 && redaction->prefix_v6 == 128)
        || es_str_starts(address, ES_STR("unix:"))) {
        return address;
    }

    digits = es_str(address.data, es_str_find(address, '%'));
    if (digits.len == 0 || digits.len >= sizeof(text)) {
        return ES_STR_NONE;
    }
    memcpy(text, digits.data, digits.len);
    text[digits.len] = '\0';

    if (inet_pton(AF_INET, text, &v4) == 1) {
        clear_bits((uint8_t *) &v4, sizeof(v4), redaction->prefix_v4);
        return es_cstr(inet_ntop(AF_INET, &v4, out, ES_ADDRESS_TEXT));
    }
    if (inet_pton(AF_INET6, text, &v6) != 1) {
        return ES_STR_NONE;
    }
    if (IN6_IS_ADDR_V4MAPPED(&v6)) {
        clear_bits(v6.s6_addr + 12, 4, redaction->prefix_v4);
    } else {
        clear_bits(v6.s6_addr, sizeof(v6.s6_addr), redaction->prefix_v6);
    }
    return es_cstr(inet_ntop(AF_INET6, &v6, out, ES_ADDRESS_TEXT));
}
