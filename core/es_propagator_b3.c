/* B3 (openzipkin/b3-propagation): one header, or one for each value. Either name
 * reads both forms, as OpenTelemetry asks for. */

#include "es_propagator.h"
#include "es_str.h"

#define B3_FIELDS                                                            \
    (ES_FIELD_BIT(ES_FIELD_B3) | ES_FIELD_BIT(ES_FIELD_B3_TRACE_ID)          \
     | ES_FIELD_BIT(ES_FIELD_B3_SPAN_ID) | ES_FIELD_BIT(ES_FIELD_B3_SAMPLED) \
     | ES_FIELD_BIT(ES_FIELD_B3_FLAGS) | ES_FIELD_BIT(ES_FIELD_B3_PARENT_SPAN_ID))

enum { TRACE_LEN = 2 * ES_TRACE_ID_LEN, SPAN_LEN = 2 * ES_SPAN_ID_LEN };

/* --------------------------------------------------------------- extract --- */

/* 64 bits of a trace id are its right half (W3C Trace Context, "trace-id"). */
static bool
parse_ids(es_str_t trace_id, es_str_t span_id, es_extracted_t *extracted)
{
    es_span_context_t *context = &extracted->context;
    size_t left = trace_id.len == TRACE_LEN / 2 ? ES_TRACE_ID_LEN / 2 : 0;

    if ((left == 0 && trace_id.len != TRACE_LEN) || span_id.len != SPAN_LEN
        || !es_unhex(context->trace_id + left, trace_id.data, trace_id.len / 2)
        || !es_unhex(context->span_id, span_id.data, ES_SPAN_ID_LEN)) {
        return false;
    }
    extracted->has_trace_id = !es_all_zero(context->trace_id, ES_TRACE_ID_LEN);
    extracted->has_span_id = !es_all_zero(context->span_id, ES_SPAN_ID_LEN);
    return extracted->has_trace_id && extracted->has_span_id;
}

static bool
parse_state(es_str_t state, es_extracted_t *extracted)
{
    es_wish_t wish = es_str_eq(state, ES_STR("1"))   ? ES_WISH_ACCEPT
                     : es_str_eq(state, ES_STR("0")) ? ES_WISH_DENY
                     : es_str_eq(state, ES_STR("d")) ? ES_WISH_DEBUG
                                                     : ES_WISH_NONE;

    es_extracted_wish(extracted, wish);
    return wish != ES_WISH_NONE;
}

/* {trace}-{span}[-{state}[-{parent}]], or a state alone. The parent's id is read for
 * its form only: it is our caller's business. */
static bool
extract_single(es_str_t value, es_extracted_t *extracted)
{
    es_str_t parts[4];
    unsigned count = es_str_split(value, '-', parts, 4);
    uint8_t parent[ES_SPAN_ID_LEN];

    if (count == 1) {
        return parse_state(parts[0], extracted);
    }
    return count <= 4 && parse_ids(parts[0], parts[1], extracted)
           && (count < 3 || parse_state(parts[2], extracted))
           && (count < 4
               || (parts[3].len == SPAN_LEN && es_unhex(parent, parts[3].data, ES_SPAN_ID_LEN)));
}

/* What is neither yes nor no leaves the decision to us. */
static es_wish_t
wish_of(const es_carrier_t *carrier)
{
    es_str_t value;

    if (es_carrier_first(carrier, ES_FIELD_B3_FLAGS, &value) && es_str_eq(value, ES_STR("1"))) {
        return ES_WISH_DEBUG;
    }
    if (!es_carrier_first(carrier, ES_FIELD_B3_SAMPLED, &value)) {
        return ES_WISH_NONE;
    }
    if (es_str_eq(value, ES_STR("1")) || es_str_ieq(value, ES_STR("true"))) {
        return ES_WISH_ACCEPT;
    }
    return es_str_eq(value, ES_STR("0")) || es_str_ieq(value, ES_STR("false")) ? ES_WISH_DENY
                                                                               : ES_WISH_NONE;
}

static bool
extract_multi(const es_carrier_t *carrier, es_extracted_t *extracted)
{
    es_str_t trace_id = ES_STR_NONE, span_id = ES_STR_NONE;
    bool has_trace_id = es_carrier_first(carrier, ES_FIELD_B3_TRACE_ID, &trace_id);
    bool has_span_id = es_carrier_first(carrier, ES_FIELD_B3_SPAN_ID, &span_id);

    es_extracted_wish(extracted, wish_of(carrier));
    if (!has_trace_id && !has_span_id) {
        return extracted->wish != ES_WISH_NONE;
    }
    return parse_ids(trace_id, span_id, extracted);
}

static bool
extract(const es_carrier_t *carrier, const es_pool_t *pool, es_extracted_t *extracted)
{
    es_str_t value;

    (void) pool;
    if (es_carrier_first(carrier, ES_FIELD_B3, &value) && extract_single(value, extracted)) {
        return true;
    }
    *extracted = (es_extracted_t){0};
    return extract_multi(carrier, extracted);
}

/* ---------------------------------------------------------------- inject --- */

/* No parent's id: it is not ours to tell (OpenTelemetry, "B3 Inject"). */
static const char form[] = "00000000000000000000000000000000-0000000000000000-0";

enum { AT_SPAN = TRACE_LEN + 1, AT_STATE = AT_SPAN + SPAN_LEN + 1 };

static unsigned
inject_single(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN], char *text,
              es_header_t *headers)
{
    bool sampled = trace->span.flags & ES_FLAG_SAMPLED;

    memcpy(text, form, sizeof(form) - 1);
    es_hex(text, trace->span.trace_id, ES_TRACE_ID_LEN);
    es_hex(text + AT_SPAN, span_id, ES_SPAN_ID_LEN);
    text[AT_STATE] = es_trace_debug(trace) ? 'd' : sampled ? '1' : '0';
    headers[0] = (es_header_t){es_field_name(ES_FIELD_B3), es_str(text, sizeof(form) - 1)};
    return 1;
}

static unsigned
inject_multi(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN], char *text,
             es_header_t *headers)
{
    bool sampled = trace->span.flags & ES_FLAG_SAMPLED;

    es_hex(text, trace->span.trace_id, ES_TRACE_ID_LEN);
    es_hex(text + TRACE_LEN, span_id, ES_SPAN_ID_LEN);
    headers[0].name = es_field_name(ES_FIELD_B3_TRACE_ID);
    headers[0].value = es_str(text, TRACE_LEN);
    headers[1].name = es_field_name(ES_FIELD_B3_SPAN_ID);
    headers[1].value = es_str(text + TRACE_LEN, SPAN_LEN);

    /* Debug implies that it is sampled, which is then not to be said. */
    if (es_trace_debug(trace)) {
        headers[2].name = es_field_name(ES_FIELD_B3_FLAGS);
        headers[2].value = ES_STR("1");
    } else {
        headers[2].name = es_field_name(ES_FIELD_B3_SAMPLED);
        headers[2].value = sampled ? ES_STR("1") : ES_STR("0");
    }
    return 3;
}

const es_propagator_t es_propagator_b3 = {
    .name = "b3",
    .fields = B3_FIELDS,
    .extract = extract,
    .text_size = sizeof(form) - 1,
    .inject = inject_single,
};

const es_propagator_t es_propagator_b3multi = {
    .name = "b3multi",
    .fields = B3_FIELDS,
    .extract = extract,
    .text_size = TRACE_LEN + SPAN_LEN,
    .inject = inject_multi,
};
