#include "es_propagator.h"

#include "es_str.h"

static const es_propagator_t *const propagators[] = {
    &es_propagator_tracecontext,
};

#define PROPAGATORS (sizeof(propagators) / sizeof(propagators[0]))

/* The headers of all propagators. */
#define EACH_FIELD(row) \
    row(ES_FIELD_TRACEPARENT, "traceparent") row(ES_FIELD_TRACESTATE, "tracestate")

#define NAME_ROW(field, name) [field] = {name, sizeof(name) - 1},
#define LENGTH_BIT(field, name) | 1u << (sizeof(name) - 1)

static const es_str_t fields[ES_FIELDS] = {EACH_FIELD(NAME_ROW)};

const uint32_t es_context_header_lengths = 0 EACH_FIELD(LENGTH_BIT);

es_str_t
es_field_name(es_field_t field)
{
    return fields[field];
}

/* The index in `fields`, or ES_FIELDS. */
static unsigned
field_of(es_str_t name)
{
    unsigned i;

    for (i = 0; i < ES_FIELDS; i++) {
        if (name.len == fields[i].len && es_str_ieq(name, fields[i])) {
            break;
        }
    }
    return i;
}

bool
es_is_context_header(es_str_t name)
{
    return field_of(name) != ES_FIELDS;
}

void
es_carrier_add_field(es_carrier_t *carrier, es_str_t name, es_str_t value)
{
    unsigned field = field_of(name);

    if (field == ES_FIELDS) {
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
es_propagators_extract(const es_carrier_t *carrier, const es_pool_t *pool,
                       es_span_context_t *context)
{
    /* More context headers than any client sends: an attack or a loop. */
    if (carrier->overflow) {
        return false;
    }
    for (size_t i = 0; i < PROPAGATORS; i++) {
        if (propagators[i]->extract(carrier, pool, context)) {
            return true;
        }
    }
    return false;
}

unsigned
es_propagators_inject(const es_span_context_t *context, char *text, es_header_t *headers)
{
    unsigned count = 0;

    for (size_t i = 0; i < PROPAGATORS; i++) {
        count += propagators[i]->inject(context, text, headers + count);
    }
    return count;
}
