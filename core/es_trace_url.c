/* The page of a trace in a backend: otel_trace_url. */

#include "es_str.h"

#define PATTERN_MAX 2048

/* A placeholder at the beginning of `s` ("{trace_id}"); empty: there is none. */
static es_str_t
placeholder(es_str_t s)
{
    size_t end;

    if (s.len == 0 || s.data[0] != '{' || (end = es_str_find(s, '}')) == s.len) {
        return ES_STR_NONE;
    }
    return es_str(s.data, end + 1);
}

/* Somewhere to go to: http(s), or a path of the server that is asked. */
static bool
has_place(es_str_t pattern)
{
    size_t scheme = es_str_find(pattern, ':');
    es_str_t name = es_str(pattern.data, scheme), rest = es_str_from(pattern, scheme);

    if (pattern.len != 0 && pattern.data[0] == '/') {
        return true;
    }
    return (es_str_ieq(name, ES_STR("https")) || es_str_ieq(name, ES_STR("http")))
           && es_str_starts(rest, ES_STR("://")) && rest.len > 3 && rest.data[3] != '/';
}

/* What may be in a URL (RFC 3986), so that the result can be put into a header or, between
 * quotes, into a page. */
static bool
is_url_character(char c)
{
    return c > 0x20 && c < 0x7f && memchr("\"'<>\\^`{|}", c, 10) == NULL;
}

bool
es_check_trace_url(es_str_t pattern, es_error_t *error)
{
    bool traces = false;
    es_str_t left;

    if (pattern.len > PATTERN_MAX) {
        return es_fail(error, "a trace URL of %zu bytes: at most %d are possible", pattern.len,
                       PATTERN_MAX);
    }
    if (!has_place(pattern)) {
        return es_fail(
            error,
            "invalid trace URL \"%.*s\": it begins with \"https://\", \"http://\" or, on "
            "this server, with \"/\"",
            ES_ARG(pattern));
    }
    for (left = pattern; left.len != 0;) {
        es_str_t name = placeholder(left);

        if (es_str_eq(name, ES_STR("{trace_id}")) || es_str_eq(name, ES_STR("{span_id}"))) {
            traces |= es_str_eq(name, ES_STR("{trace_id}"));
            left = es_str_from(left, name.len);
        } else if (name.len != 0) {
            return es_fail(error,
                           "unknown \"%.*s\" in a trace URL: there are \"{trace_id}\" and "
                           "\"{span_id}\"; any other brace is written as \"%%7B\" or \"%%7D\"",
                           ES_ARG(name));
        } else if (!is_url_character(left.data[0])) {
            return es_fail(error,
                           "invalid trace URL \"%.*s\": its character %zu is to be "
                           "percent-encoded, as \"%%%02X\"",
                           ES_ARG(pattern), (size_t) (left.data - pattern.data) + 1,
                           (unsigned) (unsigned char) left.data[0]);
        } else {
            left = es_str_from(left, 1);
        }
    }
    return traces
           || es_fail(error, "invalid trace URL \"%.*s\": \"{trace_id}\" is to be in it",
                      ES_ARG(pattern));
}

/* Writes what `pattern` gives, or counts only where `out` is NULL. */
static size_t
expand(const es_trace_t *trace, es_str_t pattern, char *out)
{
    size_t at = 0;

    while (pattern.len != 0) {
        es_str_t name = placeholder(pattern);
        bool trace_id = es_str_eq(name, ES_STR("{trace_id}"));

        if (trace_id || es_str_eq(name, ES_STR("{span_id}"))) {
            size_t len = trace_id ? ES_TRACE_ID_LEN : ES_SPAN_ID_LEN;

            if (out != NULL) {
                es_hex(out + at, trace_id ? trace->span.trace_id : trace->span.span_id, len);
            }
            at += 2 * len;
            pattern = es_str_from(pattern, name.len);
        } else {
            if (out != NULL) {
                out[at] = pattern.data[0];
            }
            at++;
            pattern = es_str_from(pattern, 1);
        }
    }
    return at;
}

es_str_t
es_trace_url(const es_trace_t *trace, es_str_t pattern)
{
    char *url;

    if (!es_trace_sampled(trace)
        || (url = trace->pool.alloc(trace->pool.pool, expand(trace, pattern, NULL))) == NULL) {
        return ES_STR_NONE;
    }
    return es_str(url, expand(trace, pattern, url));
}
