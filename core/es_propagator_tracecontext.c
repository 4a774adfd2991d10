/* W3C Trace Context level 2: traceparent and tracestate. */

#include "es_context.h"
#include "es_propagator.h"
#include "es_tracestate.h"

/* Several tracestate fields are one list in field order (RFC 9110, 5.3). One
 * field, the usual case, is borrowed as it came; an illegal list is dropped as
 * a whole. */
static es_str_t
combine_tracestate(const es_carrier_t *carrier, const es_pool_t *pool)
{
    es_str_t combined = ES_STR_NONE;
    size_t total = 0;
    unsigned count = 0, members;

    for (unsigned i = 0; i < carrier->count; i++) {
        if (carrier->fields[i] == ES_FIELD_TRACESTATE) {
            combined = carrier->values[i];
            total += combined.len + 1;
            count++;
        }
    }

    if (count == 0 || total > ES_TRACESTATE_MAX) {
        return ES_STR_NONE;
    }

    if (count > 1) {
        char *text = pool->alloc(pool->pool, total);
        size_t at = 0;

        if (text == NULL) {
            return ES_STR_NONE;
        }
        for (unsigned i = 0; i < carrier->count; i++) {
            es_str_t value = carrier->values[i];

            if (carrier->fields[i] == ES_FIELD_TRACESTATE && value.len != 0) {
                memcpy(text + at, value.data, value.len);
                at += value.len;
                text[at++] = ',';
            }
        }
        combined = es_str(text, at != 0 ? at - 1 : 0);
    }

    combined = es_str_trim(combined);
    return es_tracestate_valid(combined, &members) && members != 0 ? combined : ES_STR_NONE;
}

static bool
extract(const es_carrier_t *carrier, const es_pool_t *pool, es_extracted_t *extracted)
{
    es_span_context_t *context = &extracted->context;
    unsigned count = 0, at = 0;

    for (unsigned i = 0; i < carrier->count; i++) {
        if (carrier->fields[i] == ES_FIELD_TRACEPARENT) {
            at = i;
            count++;
        }
    }

    /* Two traceparent fields are no valid parent, and without one the
     * tracestate is not even to be parsed. */
    if (count != 1 || !es_traceparent_parse(carrier->values[at], context)) {
        return false;
    }

    context->tracestate = combine_tracestate(carrier, pool);
    extracted->has_trace_id = extracted->has_span_id = true;
    es_extracted_wish(extracted, context->flags & ES_FLAG_SAMPLED ? ES_WISH_ACCEPT : ES_WISH_DENY);
    return true;
}

static unsigned
inject(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN], char *text,
       es_header_t *headers)
{
    es_traceparent_format(text, trace->span.trace_id, span_id, trace->span.flags);
    headers[0].name = es_field_name(ES_FIELD_TRACEPARENT);
    headers[0].value = es_str(text, ES_TRACEPARENT_LEN);
    if (trace->span.tracestate.len == 0) {
        return 1;
    }
    headers[1].name = es_field_name(ES_FIELD_TRACESTATE);
    headers[1].value = trace->span.tracestate;
    return 2;
}

const es_propagator_t es_propagator_tracecontext = {
    .name = "tracecontext",
    .fields = ES_FIELD_BIT(ES_FIELD_TRACEPARENT) | ES_FIELD_BIT(ES_FIELD_TRACESTATE),
    .extract = extract,
    .text_size = ES_TRACEPARENT_LEN,
    .inject = inject,
};
