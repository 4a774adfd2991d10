/* AWS X-Ray: X-Amzn-Trace-Id: Root=1-{time}-{rest};Parent={span};Sampled={0|1}. Time
 * and rest, 8 and 24 hex digits, are the trace id. */

#include "es_propagator.h"
#include "es_str.h"

enum { TIME_LEN = 4, REST_LEN = ES_TRACE_ID_LEN - TIME_LEN };

typedef struct members {
    es_str_t root, parent, sampled;
} members_t;

/* In any order, with blanks around them, others in between ("Self", "Lineage"); of
 * equal ones the first counts. What is no member voids the header. */
static bool
parse_members(es_str_t value, members_t *members)
{
    while (value.len != 0) {
        es_str_t member = es_str_trim(es_str_take(&value, ';')), name, text;
        size_t equals = es_str_find(member, '=');
        es_str_t *known = NULL;

        if (member.len == 0) {
            continue;
        }
        if (equals == member.len) {
            return false;
        }
        name = es_str_trim(es_str(member.data, equals));
        text = es_str_trim(es_str_from(member, equals + 1));
        if (es_str_ieq(name, ES_STR("Root"))) {
            known = &members->root;
        } else if (es_str_ieq(name, ES_STR("Parent"))) {
            known = &members->parent;
        } else if (es_str_ieq(name, ES_STR("Sampled"))) {
            known = &members->sampled;
        }
        if (known != NULL && known->data == NULL) {
            *known = text;
        }
    }
    return true;
}

/* The time may have lost the zeros at its left. */
static bool
parse_root(es_str_t root, uint8_t trace_id[ES_TRACE_ID_LEN])
{
    es_str_t parts[3];

    return es_str_split(root, '-', parts, 3) == 3 && es_str_eq(parts[0], ES_STR("1"))
           && es_unhex_padded(trace_id, TIME_LEN, parts[1]) && parts[2].len == 2 * REST_LEN
           && es_unhex_padded(trace_id + TIME_LEN, REST_LEN, parts[2])
           && !es_all_zero(trace_id, ES_TRACE_ID_LEN);
}

static bool
parse_sampled(es_str_t sampled, es_wish_t *wish)
{
    *wish = es_str_eq(sampled, ES_STR("1"))   ? ES_WISH_ACCEPT
            : es_str_eq(sampled, ES_STR("0")) ? ES_WISH_DENY
                                              : ES_WISH_NONE;

    /* "?" asks us to decide, and so does who says nothing. */
    return *wish != ES_WISH_NONE || sampled.len == 0 || es_str_eq(sampled, ES_STR("?"));
}

/* A load balancer sends Root alone: a trace without a span. */
static bool
extract(const es_carrier_t *carrier, const es_pool_t *pool, es_extracted_t *extracted)
{
    es_span_context_t *context = &extracted->context;
    members_t members = {0};
    es_wish_t wish;
    es_str_t value;

    (void) pool;
    if (!es_carrier_first(carrier, ES_FIELD_XRAY, &value) || !parse_members(value, &members)
        || !parse_sampled(members.sampled, &wish)) {
        return false;
    }
    es_extracted_wish(extracted, wish);
    if (members.root.data == NULL) {
        return members.parent.data == NULL && wish != ES_WISH_NONE;
    }
    if (!parse_root(members.root, context->trace_id)) {
        return false;
    }
    extracted->has_trace_id = true;
    if (members.parent.data == NULL) {
        return true;
    }
    extracted->has_span_id = members.parent.len == 2 * ES_SPAN_ID_LEN
                             && es_unhex_padded(context->span_id, ES_SPAN_ID_LEN, members.parent)
                             && !es_all_zero(context->span_id, ES_SPAN_ID_LEN);
    return extracted->has_span_id;
}

static const char form[] =
    "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0";

enum { AT_TIME = 7, AT_REST = 16, AT_PARENT = 48, AT_SAMPLED = 73 };

static unsigned
inject(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN], char *text,
       es_header_t *headers)
{
    memcpy(text, form, sizeof(form) - 1);
    es_hex(text + AT_TIME, trace->span.trace_id, TIME_LEN);
    es_hex(text + AT_REST, trace->span.trace_id + TIME_LEN, REST_LEN);
    es_hex(text + AT_PARENT, span_id, ES_SPAN_ID_LEN);
    text[AT_SAMPLED] = trace->span.flags & ES_FLAG_SAMPLED ? '1' : '0';
    headers[0] = (es_header_t){es_field_name(ES_FIELD_XRAY), es_str(text, sizeof(form) - 1)};
    return 1;
}

const es_propagator_t es_propagator_xray = {
    .name = "xray",
    .fields = ES_FIELD_BIT(ES_FIELD_XRAY),
    .timed_ids = true,
    .extract = extract,
    .text_size = sizeof(form) - 1,
    .inject = inject,
};
