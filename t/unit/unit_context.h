/* unit_context.h: the form of the vectors of w3c/trace-context, test/test.py. */

#ifndef UNIT_CONTEXT_H
#define UNIT_CONTEXT_H

#include "unit_propagation.h"

#include "es_context.h"

#define T "12345678901234567890123456789012"
#define P "1234567890123456"
#define B0 "00-" T "-" P "-00"
#define B1 "00-" T "-" P "-01"

static const uint8_t trace_id[] = {0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56,
                                   0x78, 0x90, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12};
static const uint8_t span_id[] = {0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56};

/* ------------------------------------------------------------- helpers --- */

#define FIELDS_MAX 6

/* The propagation outlives the trace. */
static es_trace_t
joined(const unit_field_t *fields, size_t count)
{
    static es_propagation_t propagation;

    unit_release(NULL);
    propagation = unit_propagation("tracecontext");
    return unit_join(&propagation, ES_TRUST_ON, fields, count);
}

/* A tracestate's members as "a=1,b=2", without the optional whitespace. */
static void
members_of(es_str_t tracestate, char *out, size_t size)
{
    size_t at = 0, begin = 0;

    for (size_t i = 0; i <= tracestate.len; i++) {
        if (i == tracestate.len || tracestate.data[i] == ',') {
            size_t from = begin, to = i;

            while (from < to && strchr(" \t", tracestate.data[from]) != NULL) {
                from++;
            }
            while (to > from && strchr(" \t", tracestate.data[to - 1]) != NULL) {
                to--;
            }
            if (to > from) {
                assert_true(at + (to - from) + 2 < size);
                if (at != 0) {
                    out[at++] = ',';
                }
                memcpy(out + at, tracestate.data + from, to - from);
                at += to - from;
            }
            begin = i + 1;
        }
    }
    out[at] = '\0';
}

typedef struct vector {
    const char *name;
    bool keep;              /* the trace goes on; else a new one begins */
    const char *tracestate; /* its members */
    unit_field_t fields[FIELDS_MAX];
} vector_t;

/* What is sent, in every case: one traceparent of version 00 with ids that are not
 * zero, the upstream's own among them, and the caller's tracestate or none. */
static void
check_sent(const es_trace_t *trace)
{
    es_header_t headers[ES_INJECT_MAX];
    es_span_context_t context;
    uint8_t child[ES_SPAN_ID_LEN];
    unsigned count;

    es_trace_new_span_id(trace, child);
    count = es_trace_inject(trace, child, headers);
    assert_int_equal(count, trace->parent.tracestate.len != 0 ? 2 : 1);
    unit_assert_str(headers[0].name, "traceparent");
    assert_int_equal(headers[0].value.len, ES_TRACEPARENT_LEN);
    assert_memory_equal(headers[0].value.data, "00-", 3);
    assert_true(es_traceparent_parse(headers[0].value, &context));
    assert_memory_equal(context.trace_id, trace->span.trace_id, ES_TRACE_ID_LEN);
    assert_memory_equal(context.span_id, child, ES_SPAN_ID_LEN);
    assert_memory_not_equal(child, span_id, ES_SPAN_ID_LEN);
    assert_int_equal(context.flags, trace->has_parent ? trace->parent.flags : ES_FLAG_RANDOM);
    if (count == 2) {
        unit_assert_str(headers[1].name, "tracestate");
        assert_ptr_equal(headers[1].value.data, trace->parent.tracestate.data);
        assert_int_equal(headers[1].value.len, trace->parent.tracestate.len);
    }
}

static void
check(const vector_t *v)
{
    char members[40000];
    es_trace_t trace = joined(v->fields, FIELDS_MAX);

    if (trace.has_parent != v->keep) {
        fail_msg("%s: %s \"%s\"", v->name, v->keep ? "refused" : "taken", v->fields[0].value);
    }
    check_sent(&trace);
    if (!v->keep) {
        assert_memory_not_equal(trace.span.trace_id, trace_id, sizeof(trace_id));
        return;
    }
    assert_memory_equal(trace.span.trace_id, trace_id, sizeof(trace_id));
    assert_memory_equal(trace.parent.span_id, span_id, sizeof(span_id));
    members_of(trace.parent.tracestate, members, sizeof(members));
    assert_int_equal(trace.parent.tracestate.len == 0, v->tracestate[0] == '\0');
    if (strcmp(members, v->tracestate) != 0) {
        fail_msg("%s: tracestate \"%s\" instead of \"%s\"", v->name, members, v->tracestate);
    }
}

#endif
