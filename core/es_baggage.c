#include "es_baggage.h"

#include "es_propagator.h"
#include "es_str.h"
#include "es_utf8.h"

/* ---------------------------------------------------------------- syntax --- */

static bool
is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* W3C Baggage, "value": it may be empty. */
static bool
is_value(es_str_t s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.data[i];

        if (c <= 0x20 || c > 0x7e || c == '"' || c == ',' || c == ';' || c == '\\') {
            return false;
        }
    }
    return true;
}

/* "key=value", or a key alone: then value->data is NULL. */
static bool
parse_pair(es_str_t text, es_str_t *key, es_str_t *value)
{
    size_t equals = es_str_find(text, '=');

    *key = es_str_trim(es_str(text.data, equals));
    *value = equals < text.len ? es_str_trim(es_str_from(text, equals + 1)) : ES_STR_NONE;
    return es_is_token(*key) && is_value(*value);
}

static bool
parse_member(es_str_t text, es_member_t *member)
{
    size_t end = es_str_find(text, ';');

    member->text = es_str_trim(text);
    if (!parse_pair(es_str(text.data, end), &member->key, &member->value)
        || member->value.data == NULL) {
        return false;
    }
    while (end != text.len) {
        es_str_t key, value;

        text = es_str_from(text, end + 1);
        end = es_str_find(text, ';');
        if (!parse_pair(es_str(text.data, end), &key, &value)) {
            return false;
        }
    }
    return true;
}

bool
es_baggage_next(es_str_t *list, es_member_t *member)
{
    while (list->len != 0) {
        if (parse_member(es_str_take(list, ','), member)) {
            return true;
        }
    }
    return false;
}

bool
es_check_baggage_key(es_str_t key, es_error_t *error)
{
    return es_is_token(key)
           || es_fail(error,
                      "\"%.*s\" is no key of baggage: it takes letters, digits and "
                      "!#$%%&'*+-.^_`|~",
                      ES_ARG(key));
}

/* --------------------------------------------------------------- combine --- */

/* The beginning of the list that is no more than `size` bytes and, with the *members
 * that there were before, no more members than count. */
static es_str_t
whole_members(es_str_t list, size_t size, unsigned *members)
{
    es_str_t rest = list;
    size_t len = 0;

    while (rest.len != 0) {
        es_str_t text = es_str_take(&rest, ',');
        size_t end = (size_t) (text.data + text.len - list.data);
        es_member_t member;

        if (end > size || (parse_member(text, &member) && ++*members > ES_BAGGAGE_MEMBERS_MAX)) {
            return es_str(list.data, len);
        }
        len = end;
    }
    return es_str(list.data, list.len <= size ? list.len : len);
}

es_str_t
es_baggage_combine(const es_carrier_t *carrier, const es_pool_t *pool)
{
    es_str_t list = ES_STR_NONE;
    unsigned fields = 0, members = 0;
    size_t total = 0, at = 0;
    char *text;

    for (unsigned i = 0; i < carrier->count && !carrier->overflow; i++) {
        if (carrier->fields[i] == ES_FIELD_BAGGAGE && carrier->values[i].len != 0) {
            list = carrier->values[i];
            total += list.len + 1;
            fields++;
        }
    }
    if (fields <= 1) {
        return whole_members(list, ES_BAGGAGE_MAX, &members);
    }

    /* A comma behind each, of which the last is not part of the list. */
    total = total < ES_BAGGAGE_MAX + 1 ? total : ES_BAGGAGE_MAX + 1;
    if ((text = pool->alloc(pool->pool, total)) == NULL) {
        return ES_STR_NONE;
    }
    for (unsigned i = 0; i < carrier->count && at < ES_BAGGAGE_MAX; i++) {
        if (carrier->fields[i] == ES_FIELD_BAGGAGE) {
            list = whole_members(carrier->values[i], ES_BAGGAGE_MAX - at, &members);
            if (list.len != 0) {
                memcpy(text + at, list.data, list.len);
                at += list.len;
                text[at++] = ',';
            }
            if (list.len != carrier->values[i].len) {
                break;
            }
        }
    }
    return es_str(text, at != 0 ? at - 1 : 0);
}

/* ---------------------------------------------------------------- values --- */

/* A byte that no text of ours is to have: what is decoded goes into headers and logs,
 * where a line's end would begin another one. */
static bool
is_control(uint8_t byte)
{
    return byte < 0x20 || byte == 0x7f;
}

/* Percent-decoded, and valid UTF-8: what is not becomes U+FFFD. So does a control
 * character. A "%" that encodes nothing stays. */
static bool
decode(const es_trace_t *trace, es_str_t value, es_str_t *decoded)
{
    const es_pool_t *pool = &trace->pool;
    char *text, *valid;
    size_t len = 0;
    es_utf8_t utf8;

    if (es_str_find(value, '%') == value.len) {
        *decoded = value;
        return true;
    }
    if ((text = pool->alloc(pool->pool, value.len)) == NULL) {
        return false;
    }
    while (value.len != 0) {
        uint8_t byte = (uint8_t) value.data[0];

        value = es_str_from(value, es_percent_byte(value, &byte) ? 3 : 1);
        text[len++] = (char) (is_control(byte) ? 0xff : byte);
    }

    utf8 = es_utf8_measure(es_str(text, len), len);
    if (utf8.size != len) {
        if ((valid = pool->alloc(pool->pool, utf8.size)) == NULL) {
            return false;
        }
        es_utf8_write((uint8_t *) valid, utf8);
        text = valid;
    }
    *decoded = es_str(text, utf8.size);
    return true;
}

bool
es_trace_baggage_next(const es_trace_t *trace, size_t *at, es_attribute_t *attribute)
{
    es_str_t list = trace->baggage;
    es_member_t member;

    if (*at != 0) {
        list = es_str_from(list, *at);
    }
    while (es_baggage_next(&list, &member)) {
        es_str_t value;

        *at = trace->baggage.len - list.len;
        if (decode(trace, member.value, &value)) {
            *attribute = (es_attribute_t){.key = member.key, .value = value};
            return true;
        }
    }
    return false;
}

static char
in_variable(char c)
{
    return (char) (!is_alphanumeric(c) ? '_' : c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

static bool
is_variable(es_str_t key, es_str_t name)
{
    if (key.len != name.len) {
        return false;
    }
    for (size_t i = 0; i < key.len; i++) {
        if (in_variable(key.data[i]) != in_variable(name.data[i])) {
            return false;
        }
    }
    return true;
}

bool
es_trace_baggage_variable(const es_trace_t *trace, es_str_t name, es_str_t *value)
{
    es_str_t list = trace->baggage, last = ES_STR_NONE;
    es_member_t member;

    while (es_baggage_next(&list, &member)) {
        if (is_variable(member.key, name)) {
            last = member.value;
        }
    }
    return last.data != NULL && decode(trace, last, value);
}

bool
es_names_have(const es_names_t *names, es_str_t name)
{
    for (unsigned i = 0; i < names->count; i++) {
        if (es_str_eq(names->names[i], name)) {
            return true;
        }
    }
    return false;
}

unsigned
es_trace_baggage_attributes(const es_trace_t *trace, const es_names_t *keys,
                            es_attribute_t *attributes, unsigned count)
{
    es_str_t list = keys->count != 0 ? trace->baggage : ES_STR_NONE;
    unsigned before = count, i;
    es_member_t member;

    while (es_baggage_next(&list, &member)) {
        es_str_t value;

        if (!es_names_have(keys, member.key)) {
            continue;
        }
        for (i = 0; i < count && !es_str_eq(attributes[i].key, member.key); i++) {
        }
        if (i < before || !decode(trace, member.value, &value)) {
            continue;
        }
        attributes[i] = (es_attribute_t){.key = member.key, .value = value};
        count += i == count;
    }
    return count;
}
