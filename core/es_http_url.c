/* The parts of what a request asks for, and what is not to be seen of them. */

#include "es_http.h"

#include "es_redaction.h"
#include "es_str.h"

void
es_http_split_target(es_str_t target, es_str_t *authority, es_str_t *path, es_str_t *query)
{
    size_t question;

    *authority = ES_STR_NONE;

    /* Absolute form: the path begins at the first slash behind the authority. */
    if (target.len != 0 && target.data[0] != '/' && target.data[0] != '*') {
        size_t scheme = es_str_find(target, ':');
        bool absolute = es_str_starts(es_str_from(target, scheme), ES_STR("://"));
        es_str_t rest = absolute ? es_str_from(target, scheme + 3) : target;
        size_t slash = es_str_find(rest, '/'), mark = es_str_find(rest, '?');
        size_t end = slash < mark ? slash : mark, at;

        if (absolute || end == rest.len) {
            *authority = es_str(rest.data, end);
            for (at = es_str_find(*authority, '@'); at < authority->len;
                 at = es_str_find(*authority, '@')) {
                *authority = es_str_from(*authority, at + 1); /* credentials */
            }
            target = es_str_from(rest, end);
        }
        if (!absolute && end == rest.len) {
            *path = *query = ES_STR_NONE;
            return;
        }
    }

    question = es_str_find(target, '?');
    *path = es_str(target.data, question);
    *query = question < target.len ? es_str_from(target, question + 1) : ES_STR_NONE;

    if (path->len == 0) {
        *path = ES_STR("/");
    }
}

void
es_http_split_host(es_str_t authority, es_str_t *host, unsigned *port)
{
    size_t end = es_str_find(authority, ':');
    uint64_t number;

    *port = 0;

    if (es_str_starts(authority, ES_STR("unix:"))) {
        *host = es_str_from(authority, sizeof("unix:") - 1);
        return;
    }
    if (authority.len != 0 && authority.data[0] == '[') {
        size_t bracket = es_str_find(authority, ']');

        if (bracket == authority.len) {
            *host = authority;
            return;
        }
        *host = es_str(authority.data + 1, bracket - 1);
        end = bracket + 1;
    } else {
        *host = es_str(authority.data, end);
    }

    if (end < authority.len && authority.data[end] == ':'
        && es_parse_uint(es_str_from(authority, end + 1), &number) && number <= 65535) {
        *port = (unsigned) number;
    }
}

/* Where in a pair the first value begins that is not to be seen. Some servers take a ';' for
 * a separator, too (HTML 4.01, B.2.2), so that a pair may be several; it may be part of a
 * value as well, so all behind it goes. False: there is none. */
static bool
find_hidden(const es_redaction_t *redaction, es_str_t pair, size_t *at)
{
    size_t begin = 0;

    for (;;) {
        es_str_t rest = es_str_from(pair, begin);
        size_t end = es_str_find(rest, ';'), equals = es_str_find(es_str(rest.data, end), '=');
        size_t value = equals < end ? equals + 1 : 0;

        if (end != 0
            && es_redaction_hides_query(redaction, es_str(rest.data, value != 0 ? equals : 0))) {
            *at = begin + value;
            return true;
        }
        if (end == rest.len) {
            return false;
        }
        begin += end + 1;
    }
}

es_str_t
es_http_redact_query(const es_redaction_t *redaction, es_str_t query, char *out, size_t size)
{
    es_str_t left = query;
    size_t at = 0;
    bool changed = false;

    while (left.len != 0) {
        size_t end = es_str_find(left, '&');
        es_str_t pair = es_str(left.data, end), value = ES_STR_NONE;

        if (find_hidden(redaction, pair, &pair.len)) {
            value = ES_REDACTED;
            changed = true;
        }
        end += end < left.len;

        /* Nothing is copied until the first secret: what went before is. */
        if (changed) {
            if (at == 0) {
                at = (size_t) (left.data - query.data);
                if (at > size) {
                    return es_str(query.data, at);
                }
                memcpy(out, query.data, at);
            }
            if (pair.len + value.len + 1 > size - at) {
                break;
            }
            memcpy(out + at, pair.data, pair.len);
            at += pair.len;
            if (value.len != 0) {
                memcpy(out + at, value.data, value.len);
                at += value.len;
            }
            if (left.data[end - 1] == '&') {
                out[at++] = '&';
            }
        }
        left = es_str_from(left, end);
    }
    return changed ? es_str(out, at) : query;
}
