#include "es_context.h"

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
