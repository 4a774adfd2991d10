#include "es_context.h"

#define MEMBERS_MAX 32
#define KEY_MAX 256
#define VALUE_MAX 256

/* Offsets in "00-<32>-<16>-<2>". */
enum { AT_TRACE_ID = 3, AT_SPAN_ID = 36, AT_FLAGS = 53 };

bool
es_traceparent_parse(es_str_t value, es_span_context_t *context)
{
    uint8_t version, flags;

    value = es_str_trim(value);

    if (value.len < ES_TRACEPARENT_LEN || !es_unhex(&version, value.data, 1) || version == 0xff) {
        return false;
    }

    /* Only version 00 has a known end; a later one may go on after a dash. */
    if (value.len > ES_TRACEPARENT_LEN && (version == 0 || value.data[ES_TRACEPARENT_LEN] != '-')) {
        return false;
    }

    if (value.data[AT_TRACE_ID - 1] != '-' || value.data[AT_SPAN_ID - 1] != '-'
        || value.data[AT_FLAGS - 1] != '-') {
        return false;
    }

    if (!es_unhex(context->trace_id, value.data + AT_TRACE_ID, ES_TRACE_ID_LEN)
        || !es_unhex(context->span_id, value.data + AT_SPAN_ID, ES_SPAN_ID_LEN)
        || !es_unhex(&flags, value.data + AT_FLAGS, 1)) {
        return false;
    }

    if (es_all_zero(context->trace_id, ES_TRACE_ID_LEN)
        || es_all_zero(context->span_id, ES_SPAN_ID_LEN)) {
        return false;
    }

    /* Reserved bits are sent on as 0, whatever came. */
    context->flags = flags & (ES_FLAG_SAMPLED | ES_FLAG_RANDOM);
    context->tracestate = ES_STR_NONE;
    return true;
}

void
es_traceparent_format(char out[ES_TRACEPARENT_LEN], const uint8_t trace_id[ES_TRACE_ID_LEN],
                      const uint8_t span_id[ES_SPAN_ID_LEN], uint8_t flags)
{
    memcpy(out, "00-", 3);
    es_hex(out + AT_TRACE_ID, trace_id, ES_TRACE_ID_LEN);
    out[AT_SPAN_ID - 1] = '-';
    es_hex(out + AT_SPAN_ID, span_id, ES_SPAN_ID_LEN);
    out[AT_FLAGS - 1] = '-';
    es_hex(out + AT_FLAGS, &flags, 1);
}

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
    for (;;) {
        size_t comma = es_str_find(value, ',');
        es_str_t member = es_str_trim(es_str(value.data, comma));

        if (member.len != 0) {
            size_t equals = es_str_find(member, '=');

            if (equals == member.len || ++count > MEMBERS_MAX
                || !key_valid(es_str(member.data, equals))
                || !value_valid(es_str_from(member, equals + 1))) {
                return false;
            }
        }
        if (comma == value.len) {
            break;
        }
        value = es_str_from(value, comma + 1);
    }

    *members = count;
    return true;
}
