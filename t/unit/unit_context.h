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

static bool
extract(const unit_field_t *fields, size_t count, es_span_context_t *context)
{
    static es_propagation_t propagation;
    es_trace_t trace;

    unit_release(NULL);
    propagation = unit_propagation("tracecontext");
    trace = unit_join(&propagation, ES_TRUST_ON, fields, count);
    *context = trace.parent;
    return trace.has_parent;
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

static void
check(const vector_t *v)
{
    char members[40000];
    es_span_context_t context;
    bool keep = extract(v->fields, FIELDS_MAX, &context);

    if (keep != v->keep) {
        fail_msg("%s: %s \"%s\"", v->name, keep ? "taken" : "refused", v->fields[0].value);
    }
    if (!keep) {
        return;
    }
    assert_memory_equal(context.trace_id, trace_id, sizeof(trace_id));
    assert_memory_equal(context.span_id, span_id, sizeof(span_id));
    members_of(context.tracestate, members, sizeof(members));
    assert_int_equal(context.tracestate.len == 0, v->tracestate[0] == '\0');
    if (strcmp(members, v->tracestate) != 0) {
        fail_msg("%s: tracestate \"%s\" instead of \"%s\"", v->name, members, v->tracestate);
    }
}

#endif
