/* Jaeger's own format: uber-trace-id: {trace}:{span}:{parent}:{flags}. */

#include "es_propagator.h"
#include "es_str.h"

enum { FLAG_SAMPLED = 0x01, FLAG_DEBUG = 0x02 };

/* The longest that is legal, with each of its colons percent-encoded. */
#define VALUE_MAX (32 + 16 + 16 + 2 + 3 * 3)

/* Some senders encode the whole value, as they do with baggage's. */
static es_str_t
decode(es_str_t value, char text[VALUE_MAX])
{
    size_t len = 0;

    if (value.len > VALUE_MAX || es_str_find(value, ':') != value.len) {
        return value;
    }
    while (value.len != 0) {
        uint8_t byte = (uint8_t) value.data[0];

        value = es_str_from(value, es_percent_byte(value, &byte) ? 3 : 1);
        text[len++] = (char) byte;
    }
    return es_str(text, len);
}

/* Shorter ids are padded with zeros, hex digits are of either case, and the parent is
 * no longer looked at (Jaeger, "Propagation Format"). */
static bool
extract(const es_carrier_t *carrier, const es_pool_t *pool, es_extracted_t *extracted)
{
    es_span_context_t *context = &extracted->context;
    char text[VALUE_MAX];
    es_str_t value, parts[4];
    uint8_t flags;

    (void) pool;
    if (!es_carrier_first(carrier, ES_FIELD_JAEGER, &value)
        || es_str_split(decode(value, text), ':', parts, 4) != 4
        || !es_unhex_padded(context->trace_id, ES_TRACE_ID_LEN, parts[0])
        || !es_unhex_padded(context->span_id, ES_SPAN_ID_LEN, parts[1])
        || !es_unhex_padded(&flags, 1, parts[3]) || es_all_zero(context->trace_id, ES_TRACE_ID_LEN)
        || es_all_zero(context->span_id, ES_SPAN_ID_LEN)) {
        return false;
    }

    extracted->has_trace_id = extracted->has_span_id = true;
    es_extracted_wish(extracted, !(flags & FLAG_SAMPLED) ? ES_WISH_DENY
                                 : flags & FLAG_DEBUG    ? ES_WISH_DEBUG
                                                         : ES_WISH_ACCEPT);
    return true;
}

static const char form[] = "00000000000000000000000000000000:0000000000000000:0:0";

enum { AT_SPAN = 33, AT_FLAGS = 52 };

static unsigned
inject(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN], char *text,
       es_header_t *headers)
{
    unsigned flags = trace->span.flags & ES_FLAG_SAMPLED ? FLAG_SAMPLED : 0;

    if (es_trace_debug(trace)) {
        flags |= FLAG_DEBUG;
    }
    memcpy(text, form, sizeof(form) - 1);
    es_hex(text, trace->span.trace_id, ES_TRACE_ID_LEN);
    es_hex(text + AT_SPAN, span_id, ES_SPAN_ID_LEN);
    text[AT_FLAGS] = (char) ('0' + flags);
    headers[0] = (es_header_t){es_field_name(ES_FIELD_JAEGER), es_str(text, sizeof(form) - 1)};
    return 1;
}

const es_propagator_t es_propagator_jaeger = {
    .name = "jaeger",
    .fields = ES_FIELD_BIT(ES_FIELD_JAEGER),
    .extract = extract,
    .text_size = sizeof(form) - 1,
    .inject = inject,
};
