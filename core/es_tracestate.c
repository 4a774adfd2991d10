#include "es_tracestate.h"

#define KEY_MAX 256
#define VALUE_MAX 256
#define OT_MAX 256
#define HEX_DIGITS 14

static bool
key_valid(es_str_t key)
{
    if (key.len == 0 || key.len > KEY_MAX) {
        return false;
    }
    for (size_t i = 0; i < key.len; i++) {
        char c = key.data[i];
        bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

        if (!alphanumeric && (i == 0 || memchr("_-*/@", c, 5) == NULL)) {
            return false;
        }
    }
    return true;
}

/* The trailing spaces are gone already, they are OWS; leading ones belong to
 * the value. */
static bool
value_valid(es_str_t value)
{
    if (value.len == 0 || value.len > VALUE_MAX) {
        return false;
    }
    for (size_t i = 0; i < value.len; i++) {
        char c = value.data[i];

        if (c < 0x20 || c > 0x7e || c == ',' || c == '=') {
            return false;
        }
    }
    return true;
}

bool
es_tracestate_valid(es_str_t value, unsigned *members)
{
    unsigned count = 0;

    /* The specification lets us drop a bad member or the whole header; its test
     * suite demands the whole header. */
    while (value.len != 0) {
        es_str_t member = es_str_trim(es_str_take(&value, ','));

        if (member.len != 0) {
            size_t equals = es_str_find(member, '=');

            if (equals == member.len || ++count > ES_TRACESTATE_MEMBERS_MAX
                || !key_valid(es_str(member.data, equals))
                || !value_valid(es_str_from(member, equals + 1))) {
                return false;
            }
        }
    }

    *members = count;
    return true;
}

/* ------------------------------------------------------------------ ot --- */

static bool
is_ot(es_str_t member)
{
    return es_str_starts(member, ES_STR("ot="));
}

static bool
is_th(es_str_t pair)
{
    return es_str_starts(pair, ES_STR("th:"));
}

/* The value of the first `ot`, whose data is NULL if there is none; *count: how many
 * there are. */
static es_str_t
find_ot(es_str_t tracestate, unsigned *count)
{
    es_str_t value = ES_STR_NONE;

    *count = 0;
    while (tracestate.len != 0) {
        es_str_t member = es_str_trim(es_str_take(&tracestate, ','));

        if (is_ot(member) && ++*count == 1) {
            value = es_str_from(member, sizeof("ot=") - 1);
        }
    }
    return value;
}

/* `least` to 14 lowercase digits; those that are not there are zeros. */
static bool
parse_hex(es_str_t text, size_t least, uint64_t *value)
{
    char digits[HEX_DIGITS + 1];
    uint8_t bytes[HEX_DIGITS / 2];

    if (text.len < least || text.len > HEX_DIGITS) {
        return false;
    }
    memset(digits, '0', sizeof(digits));
    memcpy(digits, text.data, text.len);
    if (!es_unhex(bytes, digits, sizeof(bytes))) {
        return false;
    }
    *value = 0;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        *value = *value << 8 | bytes[i];
    }
    return true;
}

/* A blank at the end of a pair is legal inside of the value, not at its end, where it goes:
 * so it counts for nothing. */
static es_str_t
take_pair(es_str_t *ot)
{
    es_str_t pair = es_str_take(ot, ';');

    while (pair.len != 0 && pair.data[pair.len - 1] == ' ') {
        pair.len--;
    }
    return pair;
}

es_ot_t
es_tracestate_ot(es_str_t tracestate)
{
    unsigned count;
    es_str_t value = find_ot(tracestate, &count);
    es_ot_t ot = {0};

    while (value.len != 0) {
        es_str_t pair = take_pair(&value);

        if (is_th(pair) && !ot.names_th) {
            ot.names_th = true;
            ot.has_th = parse_hex(es_str_from(pair, 3), 1, &ot.th);
        } else if (es_str_starts(pair, ES_STR("rv:")) && !ot.has_rv) {
            ot.has_rv = parse_hex(es_str_from(pair, 3), HEX_DIGITS, &ot.rv);
        }
    }
    return ot;
}

/* "th:fd70a": without the zeros at the right, but for the only one. */
static es_str_t
format_th(uint64_t threshold, char text[3 + HEX_DIGITS])
{
    size_t len = 3 + HEX_DIGITS;
    uint8_t bytes[HEX_DIGITS / 2];

    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t) (threshold >> (8 * (sizeof(bytes) - 1 - i)));
    }
    memcpy(text, "th:", 3);
    es_hex(text + 3, bytes, sizeof(bytes));
    while (len > 4 && text[len - 1] == '0') {
        len--;
    }
    return es_str(text, len);
}

/* Does `ot` say this `th` (empty: none) once, as it is to be said? */
static bool
says(es_str_t ot, es_str_t th)
{
    unsigned found = 0;

    while (ot.len != 0) {
        es_str_t pair = es_str_take(&ot, ';');

        if (is_th(pair)) {
            if (!es_str_eq(pair, th)) {
                return false;
            }
            found++;
        }
    }
    return found == (th.len != 0);
}

typedef struct es_text {
    char *data;
    size_t len;
} es_text_t;

static void
append(es_text_t *text, es_str_t part, char separator)
{
    if (text->len != 0) {
        text->data[text->len++] = separator;
    }
    memcpy(text->data + text->len, part.data, part.len);
    text->len += part.len;
}

/* `th` and the rest of `ot`; `out` is of OT_MAX + 4 + HEX_DIGITS bytes at least. */
static es_str_t
write_ot(es_str_t ot, es_str_t th, char *out)
{
    es_text_t text = {out, 0};

    if (th.len != 0) {
        append(&text, th, ';');
    }
    while (ot.len != 0) {
        es_str_t pair = take_pair(&ot);

        if (pair.len != 0 && !is_th(pair)) {
            append(&text, pair, ';');
        }
    }
    return es_str(out, text.len);
}

es_str_t
es_tracestate_with_th(es_str_t tracestate, uint64_t threshold, const es_pool_t *pool)
{
    char digits[3 + HEX_DIGITS], list[OT_MAX + 4 + HEX_DIGITS];
    es_str_t th = threshold < ES_THRESHOLD_NEVER ? format_th(threshold, digits) : ES_STR_NONE;
    unsigned count, members = 0;
    es_str_t ot = find_ot(tracestate, &count), value;
    es_text_t text = {NULL, 0};

    /* A second `ot` could say another one: only the first stays. */
    if (count <= 1 && says(ot, th)) {
        return tracestate;
    }
    value = write_ot(ot, th, list);
    if (value.len > OT_MAX) {
        if (count <= 1 && says(ot, ES_STR_NONE)) {
            return tracestate;
        }
        value = write_ot(ot, ES_STR_NONE, list);
    }

    text.data = pool->alloc(pool->pool, sizeof("ot=,") + value.len + tracestate.len);
    if (text.data == NULL) {
        return ES_STR_NONE;
    }
    if (value.len != 0) {
        memcpy(text.data, "ot=", 3);
        memcpy(text.data + 3, value.data, value.len);
        text.len = 3 + value.len;
        members = 1;
    }
    while (tracestate.len != 0 && members < ES_TRACESTATE_MEMBERS_MAX) {
        es_str_t member = es_str_trim(es_str_take(&tracestate, ','));

        if (member.len != 0 && !is_ot(member)) {
            append(&text, member, ',');
            members++;
        }
    }
    return es_str(text.data, text.len);
}
