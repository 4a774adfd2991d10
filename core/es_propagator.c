/* The propagators, and headers in and out: the functions of edgespan.h. */

#include "es_propagator.h"

#include "es_str.h"

/* In the order in which messages list them. */
const es_propagator_t *const es_propagators[] = {
    &es_propagator_tracecontext, &es_propagator_baggage, &es_propagator_b3,
    &es_propagator_b3multi,      &es_propagator_jaeger,  &es_propagator_xray,
};

const unsigned es_propagators_count = sizeof(es_propagators) / sizeof(es_propagators[0]);

_Static_assert(sizeof(es_propagators) / sizeof(es_propagators[0]) <= ES_PROPAGATORS_MAX,
               "a propagation has room for all of them");

/* ---------------------------------------------------------------- fields --- */

#define NAME(text)             \
    {                          \
        text, sizeof(text) - 1 \
    }

static const es_str_t fields[ES_FIELDS] = {
    [ES_FIELD_TRACEPARENT] = NAME("traceparent"),
    [ES_FIELD_TRACESTATE] = NAME("tracestate"),
    [ES_FIELD_BAGGAGE] = NAME("baggage"),
    [ES_FIELD_B3] = NAME("b3"),
    [ES_FIELD_B3_TRACE_ID] = NAME("x-b3-traceid"),
    [ES_FIELD_B3_SPAN_ID] = NAME("x-b3-spanid"),
    [ES_FIELD_B3_PARENT_SPAN_ID] = NAME("x-b3-parentspanid"),
    [ES_FIELD_B3_SAMPLED] = NAME("x-b3-sampled"),
    [ES_FIELD_B3_FLAGS] = NAME("x-b3-flags"),
    [ES_FIELD_JAEGER] = NAME("uber-trace-id"),
    [ES_FIELD_XRAY] = NAME("x-amzn-trace-id"),
};

es_str_t
es_field_name(es_field_t field)
{
    return fields[field];
}

es_field_t
es_field_find(es_str_t name)
{
    unsigned i;

    for (i = 0; i < ES_FIELDS; i++) {
        if (es_str_ieq(name, fields[i])) {
            break;
        }
    }
    return (es_field_t) i;
}

/* --------------------------------------------------------------- carrier --- */

void
es_carrier_init(es_carrier_t *carrier, const es_trace_t *trace, const es_propagation_t *propagation)
{
    carrier->wanted = es_propagation_of(trace, propagation)->fields;
    carrier->count = 0;
    carrier->overflow = false;
}

void
es_carrier_add_field(es_carrier_t *carrier, es_str_t name, es_str_t value)
{
    es_field_t field = es_field_find(name);

    if (field == ES_FIELDS || !(carrier->wanted.which & ES_FIELD_BIT(field))) {
        return;
    }
    if (carrier->count == ES_CARRIER_MAX) {
        carrier->overflow = true;
        return;
    }
    carrier->fields[carrier->count] = (uint8_t) field;
    carrier->values[carrier->count] = value;
    carrier->count++;
}

bool
es_carrier_first(const es_carrier_t *carrier, es_field_t field, es_str_t *value)
{
    for (unsigned i = 0; i < carrier->count; i++) {
        if (carrier->fields[i] == field) {
            es_str_t text = carrier->values[i];

            *value = es_str_trim(es_str(text.data, es_str_find(text, ',')));
            return true;
        }
    }
    return false;
}

/* --------------------------------------------------------------- extract --- */

void
es_extracted_wish(es_extracted_t *extracted, es_wish_t wish)
{
    extracted->wish = wish;
    if (wish == ES_WISH_ACCEPT || wish == ES_WISH_DEBUG) {
        extracted->context.flags |= ES_FLAG_SAMPLED;
    }
}

void
es_propagators_extract(const es_propagation_t *propagation, const es_carrier_t *carrier,
                       const es_pool_t *pool, es_extracted_t *extracted)
{
    bool any = false;

    *extracted = (es_extracted_t){0};

    /* More context headers than any client sends: an attack or a loop. */
    if (carrier->overflow) {
        return;
    }
    for (unsigned i = 0; i < propagation->count; i++) {
        const es_propagator_t *propagator = es_propagators[propagation->propagators[i]];
        es_extracted_t found = {0};

        if (propagator->extract == NULL || !propagator->extract(carrier, pool, &found)) {
            continue;
        }
        if (found.has_trace_id && found.has_span_id) {
            *extracted = found;
            return;
        }
        if (!any) {
            *extracted = found;
            any = true;
        }
    }
}

/* ---------------------------------------------------------------- inject --- */

bool
es_trace_debug(const es_trace_t *trace)
{
    return trace->wish == ES_WISH_DEBUG && (trace->span.flags & ES_FLAG_SAMPLED);
}

static size_t
text_size(const es_propagator_t *propagator, const es_trace_t *trace)
{
    bool filters = propagator->filters_baggage && trace->allow != NULL;

    return propagator->text_size + (filters ? trace->baggage.len : 0);
}

unsigned
es_trace_inject(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN],
                es_header_t headers[ES_INJECT_MAX])
{
    const es_propagation_t *propagation = trace->propagation;
    size_t size = 0;
    unsigned count = 0;
    char *text;

    for (unsigned i = 0; i < propagation->count; i++) {
        size += text_size(es_propagators[propagation->propagators[i]], trace);
    }
    if (size == 0 || (text = trace->pool.alloc(trace->pool.pool, size)) == NULL) {
        return 0;
    }
    for (unsigned i = 0; i < propagation->count; i++) {
        const es_propagator_t *propagator = es_propagators[propagation->propagators[i]];

        count += propagator->inject(trace, span_id, text, headers + count);
        text += text_size(propagator, trace);
    }
    return count;
}
