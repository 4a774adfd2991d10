/* What directives say about propagation: the functions of edgespan.h. */

#include "es_propagator.h"
#include "es_provider.h"

#include <stdio.h>

/* ----------------------------------------------------------- propagators --- */

static void
add(es_propagation_t *propagation, unsigned index)
{
    const es_propagator_t *propagator = es_propagators[index];
    es_fields_t *fields = &propagation->fields;

    for (unsigned i = 0; i < propagation->count; i++) {
        if (propagation->propagators[i] == index) {
            return;
        }
    }
    propagation->propagators[propagation->count++] = (uint8_t) index;
    propagation->timed_ids |= propagator->timed_ids;
    fields->which |= propagator->fields;
    for (unsigned field = 0; field < ES_FIELDS; field++) {
        if (propagator->fields & ES_FIELD_BIT(field)) {
            es_str_t name = es_field_name(field);

            fields->lengths |= UINT32_C(1) << name.len;
            fields->initials |= UINT32_C(1) << (name.data[0] & 31);
        }
    }
}

static unsigned
find(es_str_t name)
{
    unsigned i;

    for (i = 0; i < es_propagators_count; i++) {
        if (es_str_ieq(name, es_cstr(es_propagators[i]->name))) {
            break;
        }
    }
    return i;
}

es_propagation_t
es_propagation_default(void)
{
    es_propagation_t propagation = {0};

    add(&propagation, find(ES_STR("tracecontext")));
    add(&propagation, find(ES_STR("baggage")));
    return propagation;
}

static bool
unknown(es_str_t name, es_error_t *error)
{
    char names[128] = "";
    size_t at = 0;

    for (unsigned i = 0; i < es_propagators_count; i++) {
        at +=
            (size_t) snprintf(names + at, sizeof(names) - at, "\"%s\", ", es_propagators[i]->name);
    }
    return es_fail(error, "unknown propagator \"%.*s\": there are %s\"none\"", ES_ARG(name), names);
}

/* "none" that is not alone says two things at once. */
static bool
is_none(const es_str_t *words, unsigned count, bool *none, es_error_t *error)
{
    *none = false;
    for (unsigned i = 0; i < count; i++) {
        if (es_str_ieq(words[i], ES_STR("none"))) {
            *none = true;
        }
    }
    return !*none || count == 1 || es_fail(error, "\"none\" stands alone, without other names");
}

bool
es_propagation_set(es_propagation_t *propagation, const es_str_t *words, unsigned count,
                   es_error_t *error)
{
    es_propagation_t set = {.given = true};
    bool none;

    if (!is_none(words, count, &none, error)) {
        return false;
    }
    for (unsigned i = 0; i < count && !none; i++) {
        unsigned index = find(words[i]);

        if (index == es_propagators_count) {
            return unknown(words[i], error);
        }
        add(&set, index);
    }
    set.allow_given = propagation->allow_given;
    set.allow = propagation->allow;
    *propagation = set;
    return true;
}

bool
es_propagation_allow(es_propagation_t *propagation, const es_str_t *words, unsigned count,
                     es_error_t *error)
{
    bool none;

    if (!is_none(words, count, &none, error)) {
        return false;
    }
    for (unsigned i = 0; i < count && !none; i++) {
        if (!es_check_baggage_key(words[i], error)) {
            return false;
        }
    }
    propagation->allow_given = true;
    propagation->allow = (es_names_t){words, none ? 0 : count};
    return true;
}

void
es_propagation_inherit(es_propagation_t *propagation, const es_propagation_t *outer)
{
    bool own_allow = propagation->allow_given;
    es_names_t allow = propagation->allow;

    if (!propagation->given) {
        *propagation = *outer;
    }
    propagation->allow_given = own_allow || outer->allow_given;
    propagation->allow = own_allow ? allow : outer->allow;
}

const es_propagation_t *
es_propagation_of(const es_trace_t *trace, const es_propagation_t *propagation)
{
    return propagation->given ? propagation : &trace->provider->generation->config->propagation;
}

/* ----------------------------------------------- trust, response headers --- */

bool
es_parse_trust(es_str_t text, es_trust_t *trust, es_error_t *error)
{
    static const char *const words[] = {
        [ES_TRUST_ON] = "on",
        [ES_TRUST_OFF] = "off",
        [ES_TRUST_LINK] = "link",
    };

    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (es_str_ieq(text, es_cstr(words[i]))) {
            *trust = (es_trust_t) i;
            return true;
        }
    }
    return es_fail(error, "\"%.*s\" is not \"on\", \"off\" or \"link\"", ES_ARG(text));
}

bool
es_parse_response_header(es_str_t text, es_response_header_t *header, es_error_t *error)
{
    static const char *const words[] = {
        [ES_RESPONSE_NONE] = "off",
        [ES_RESPONSE_TRACERESPONSE] = "traceresponse",
        [ES_RESPONSE_SERVER_TIMING] = "server-timing",
    };

    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (es_str_ieq(text, es_cstr(words[i]))) {
            *header = (es_response_header_t) i;
            return true;
        }
    }
    return es_fail(error, "\"%.*s\" is not \"off\", \"traceresponse\" or \"server-timing\"",
                   ES_ARG(text));
}

es_header_t
es_trace_response(const es_trace_t *trace, es_response_header_t kind, char text[ES_RESPONSE_TEXT])
{
    es_str_t name = ES_STR("traceresponse"), before = ES_STR("");

    if (kind == ES_RESPONSE_NONE) {
        return (es_header_t){ES_STR_NONE, ES_STR_NONE};
    }
    if (kind == ES_RESPONSE_SERVER_TIMING) {
        name = ES_STR("server-timing");
        before = ES_STR("trace;desc=");
    }
    memcpy(text, before.data, before.len);
    es_trace_traceparent(trace, trace->span.span_id, text + before.len);
    return (es_header_t){name, es_str(text, before.len + ES_TRACEPARENT_LEN)};
}
