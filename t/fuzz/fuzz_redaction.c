/* otel_redact, otel_span_header, otel_trace_url, otel_span_attr: on the first lines their
 * words, on the others what spans would show: keys and headers and addresses. */

#include "fuzz_server.h"

#include "es_redaction.h"

#include <arpa/inet.h>

#define WORDS_MAX 40

static void *
alloc(void *pool, size_t size)
{
    return fuzz_alloc(pool, size);
}

static bool
parses(es_str_t text, int family)
{
    char address[ES_ADDRESS_TEXT + 1];
    uint8_t bytes[16];

    snprintf(address, sizeof(address), "%.*s", (int) text.len, text.data);
    return strlen(address) == text.len && inet_pton(family, address, bytes) == 1;
}

/* Masked it is an address, and masking it again changes nothing. */
static void
mask(const es_redaction_t *redaction, es_str_t address)
{
    char text[ES_ADDRESS_TEXT], more[ES_ADDRESS_TEXT];
    es_str_t shown = es_redaction_address(redaction, address, text);

    if (shown.data == address.data || shown.len == 0) {
        return;
    }
    fuzz_assert(fuzz_is_within(shown, es_str(text, sizeof(text))));
    fuzz_assert(parses(shown, AF_INET) || parses(shown, AF_INET6));
    fuzz_assert(es_str_eq(es_redaction_address(redaction, shown, more), shown));
}

static void
capture(const es_redaction_t *redaction, es_str_t name, const es_pool_t *pool)
{
    es_str_t values[] = {name, ES_STR("value")};
    es_capture_t capture;
    es_attribute_t attribute;
    es_error_t error;

    if (!es_capture_set(&capture, name.len % 2 != 0, name, pool, &error)) {
        fuzz_check_error(&error);
        return;
    }
    fuzz_assert(capture.name.len == name.len && fuzz_is_printable(capture.key));
    fuzz_assert(fuzz_is_within(capture.name, capture.key));
    attribute = es_capture_attribute(&capture, redaction, values, 2);
    fuzz_assert(es_str_eq(attribute.values[1], es_redaction_hides_header(redaction, name)
                                                   ? ES_REDACTED
                                                   : ES_STR("value")));
}

static void
trace_url(es_str_t pattern, const es_pool_t *pool)
{
    es_trace_t trace = {.pool = *pool, .decided = true, .span.flags = ES_FLAG_SAMPLED};
    bool fine;
    es_error_t error;
    es_str_t url;

    fine = es_check_trace_url(pattern, &error);
    url = es_trace_url(&trace, pattern);
    fuzz_assert(url.len >= pattern.len);
    if (fine) {
        fuzz_assert(fuzz_is_printable(url) && es_str_find(url, '{') == url.len);
    } else {
        fuzz_check_error(&error);
    }
}

static void
attribute_type(es_str_t word)
{
    es_config_t *config = fuzz_config();
    es_attribute_type_t type;
    es_error_t error;

    fuzz_assert(es_attribute_type(config, word, ES_STR_NONE, &type, &error));
    fuzz_assert(type == ES_ATTRIBUTE_STRING || type == ES_ATTRIBUTE_STRINGS);
    if (!es_attribute_type(config, ES_STR("key"), word, &type, &error)) {
        fuzz_check_error(&error);
    }
    es_config_destroy(config);
}

static bool
read_words(fuzz_t *fuzz, es_redaction_t *redaction)
{
    es_str_t line = fuzz_line(fuzz), *words = fuzz_alloc(fuzz, WORDS_MAX * sizeof(*words));
    unsigned count = fuzz_words(fuzz, line, words, WORDS_MAX);
    es_error_t error;

    if (!es_redaction_set(redaction, words, count, &error)) {
        fuzz_check_error(&error);
        return false;
    }
    return true;
}

static void
fuzz(fuzz_t *fuzz)
{
    es_redaction_t inner, outer, before;
    const es_pool_t pool = {alloc, fuzz};

    if (!read_words(fuzz, &outer) || !read_words(fuzz, &inner)) {
        return;
    }
    before = inner;
    es_redaction_inherit(&inner, &outer);
    while (fuzz_more(fuzz)) {
        es_str_t text = fuzz_line(fuzz);
        bool hidden = es_redaction_hides_query(&inner, text);

        /* One of the two levels says it. */
        fuzz_assert(hidden == es_redaction_hides_query(&before, text)
                    || hidden == es_redaction_hides_query(&outer, text));
        mask(&inner, text);
        capture(&inner, text, &pool);
        trace_url(text, &pool);
        attribute_type(text);
    }
}
