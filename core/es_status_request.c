/* Requests for the status: in which format, and from where. */

#include "es_str.h"

#include <netinet/in.h>

bool
es_parse_status_format(es_str_t text, es_status_format_t *format, es_error_t *error)
{
    if (es_str_eq(text, ES_STR("text"))) {
        *format = ES_STATUS_TEXT;
        return true;
    }
    if (es_str_eq(text, ES_STR("json"))) {
        *format = ES_STATUS_JSON;
        return true;
    }
    return es_fail(error, "invalid format \"%.*s\": it is \"text\" or \"json\"", ES_ARG(text));
}

/* Cuts the part of *rest up to `separator` off. False: there is none left. */
static bool
next_part(es_str_t *rest, char separator, es_str_t *part)
{
    if (rest->len == 0) {
        return false;
    }
    *part = es_str_trim(es_str_take(rest, separator));
    return true;
}

/* Is application/json in the list, and not with "q=0"? */
static bool
accepts_json(es_str_t accept)
{
    es_str_t range, part;

    while (next_part(&accept, ',', &range)) {
        bool json = next_part(&range, ';', &part) && es_str_ieq(part, ES_STR("application/json"));

        while (json && next_part(&range, ';', &part)) {
            json = !(es_str_ieq(part, ES_STR("q=0")) || es_str_ieq(part, ES_STR("q=0.0"))
                     || es_str_ieq(part, ES_STR("q=0.00")) || es_str_ieq(part, ES_STR("q=0.000")));
        }
        if (json) {
            return true;
        }
    }
    return false;
}

es_status_format_t
es_status_choose(es_str_t query, es_str_t accept)
{
    const es_str_t name = ES_STR("format=");
    es_status_format_t format;
    es_str_t part;
    es_error_t error;

    while (next_part(&query, '&', &part)) {
        if (es_str_starts(part, name)
            && es_parse_status_format(es_str_from(part, name.len), &format, &error)) {
            return format;
        }
    }
    return accepts_json(accept) ? ES_STATUS_JSON : ES_STATUS_TEXT;
}

const char *
es_status_content_type(es_status_format_t format)
{
    return format == ES_STATUS_JSON ? "application/json" : "text/plain; charset=utf-8";
}

bool
es_is_local_peer(const struct sockaddr *address)
{
    const struct sockaddr_in *in = (const void *) address;
    const struct sockaddr_in6 *in6 = (const void *) address;

    switch (address->sa_family) {
    case AF_UNIX:
        return true;
    case AF_INET:
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    case AF_INET6:
        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr)
               || (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) && in6->sin6_addr.s6_addr[12] == 127);
    default:
        return false;
    }
}

bool
es_is_forwarding_header(es_str_t name)
{
    static const char *const names[] = {"Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (es_str_ieq(name, es_cstr(names[i]))) {
            return true;
        }
    }
    return false;
}
