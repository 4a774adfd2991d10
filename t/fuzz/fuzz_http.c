/* What servers hand over of a request's address: host, target, query, and what
 * the status page is asked for. */

#include "fuzz.h"

#include "es_http.h"
#include "es_propagator.h"

static void
host(es_str_t authority)
{
    es_str_t name, again;
    unsigned port, none;

    es_http_split_host(authority, &name, &port);
    fuzz_assert(fuzz_is_within(name, authority) && port <= 65535);
    es_http_split_host(name, &again, &none);
    fuzz_assert(fuzz_is_within(again, name));
}

static void
target(fuzz_t *fuzz, es_str_t text)
{
    es_str_t authority, path, query, redacted;
    size_t size = fuzz_byte(fuzz);
    char *out = fuzz_alloc(fuzz, size);

    es_http_split_target(text, &authority, &path, &query);
    fuzz_assert(fuzz_is_within(authority, text));
    fuzz_assert(fuzz_is_within(path, text) || es_str_eq(path, ES_STR("/")));
    fuzz_assert(fuzz_is_within(query, text));
    host(authority);

    /* Nothing to hide any more where all was hidden. */
    redacted = es_http_redact_query(NULL, query, out, size);
    fuzz_assert(fuzz_is_within(redacted, query) || fuzz_is_within(redacted, es_str(out, size)));
    if (redacted.len < size || fuzz_is_within(redacted, query)) {
        char *more = fuzz_alloc(fuzz, redacted.len + 1);
        es_str_t again = es_http_redact_query(NULL, redacted, more, redacted.len + 1);

        fuzz_assert(es_str_eq(again, redacted));
    }
}

static void
fuzz(fuzz_t *fuzz)
{
    es_str_t text = fuzz_line(fuzz), accept = fuzz_line(fuzz);
    es_status_format_t format = es_status_choose(text, accept), parsed;
    es_error_t error;

    fuzz_assert(es_status_content_type(format) != NULL);
    if (!es_parse_status_format(text, &parsed, &error)) {
        fuzz_check_error(&error);
    }
    (void) es_is_forwarding_header(text);
    (void) es_is_context_header(text);
    host(text);
    target(fuzz, text);
}
