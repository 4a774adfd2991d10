/* Every format in and out: what a request's headers make of its trace, and what an
 * upstream gets. */

#include "unit_propagation.h"

#define T "80f198ee56343ba864fe8b2a57d3eff7"
#define P "e457b5a2e4d86bd1"
#define T64 "64fe8b2a57d3eff7"
#define PADDED "0000000000000000" T64
#define ZERO "0000000000000000"

/* -------------------------------------------------------------------- in --- */

#define FIELDS_MAX 5

/* What is taken of a caller. */
typedef struct row {
    const char *about, *propagators;
    unit_field_t fields[FIELDS_MAX];
    const char *trace_id; /* NULL: a new trace */
    const char *span_id;  /* NULL: no parent */
    es_wish_t wish;
} row_t;

#define NOTHING NULL, NULL, ES_WISH_NONE
#define ALONE(wish) NULL, NULL, ES_WISH_##wish
#define IDS(wish) T, P, ES_WISH_##wish
#define IDS64(wish) PADDED, P, ES_WISH_##wish
#define ROOT(wish) T, NULL, ES_WISH_##wish

/* clang-format off */
static const row_t b3[] = {
    {"the README's", "b3", {{"b3", T "-" P "-1-05e3ac9a4f6e3b90"}}, IDS(ACCEPT)},
    {"accept", "b3", {{"b3", T "-" P "-1"}}, IDS(ACCEPT)},
    {"deny", "b3", {{"B3", T "-" P "-0"}}, IDS(DENY)},
    {"debug", "b3", {{"b3", T "-" P "-d"}}, IDS(DEBUG)},
    {"defer", "b3", {{"b3", T "-" P}}, IDS(NONE)},
    {"64 bits", "b3", {{"b3", T64 "-" P "-1"}}, IDS64(ACCEPT)},
    {"64 bits, defer", "b3", {{"b3", T64 "-" P}}, IDS64(NONE)},
    {"128 bits whose left is zero", "b3", {{"b3", PADDED "-" P "-1"}}, IDS64(ACCEPT)},
    {"deny alone", "b3", {{"b3", "0"}}, ALONE(DENY)},
    {"accept alone", "b3", {{"b3", "1"}}, ALONE(ACCEPT)},
    {"debug alone", "b3", {{"b3", "d"}}, ALONE(DEBUG)},
    {"whitespace around it", "b3", {{"b3", " \t" T "-" P "-1\t "}}, IDS(ACCEPT)},
    {"whitespace in it", "b3", {{"b3", T " -" P "-1"}}, NOTHING},
    {"the first of two", "b3", {{"b3", T "-" P "-0"}, {"b3", "1"}}, IDS(DENY)},
    {"the first of two, joined", "b3", {{"b3", T "-" P "-0, 1"}}, IDS(DENY)},
    {"uppercase", "b3", {{"b3", "80F198EE56343BA864FE8B2A57D3EFF7-" P "-1"}}, NOTHING},
    {"uppercase", "b3", {{"b3", T "-E457B5A2E4D86BD1-1"}}, NOTHING},
    {"uppercase", "b3", {{"b3", T "-" P "-D"}}, NOTHING},
    {"no such state", "b3", {{"b3", T "-" P "-2"}}, NOTHING},
    {"no such state", "b3", {{"b3", T "-" P "-"}}, NOTHING},
    {"no such state", "b3", {{"b3", T "-" P "-true"}}, NOTHING},
    {"no such state", "b3", {{"b3", "true"}}, NOTHING},
    {"no such parent", "b3", {{"b3", T "-" P "-1-05e3ac9a4f6e3b9"}}, NOTHING},
    {"no such parent", "b3", {{"b3", T "-" P "-1-05e3ac9a4f6e3b9g"}}, NOTHING},
    {"no such parent", "b3", {{"b3", T "-" P "-1-"}}, NOTHING},
    {"a parent in place of the state", "b3", {{"b3", T "-" P "-05e3ac9a4f6e3b90"}}, NOTHING},
    {"one part more", "b3", {{"b3", T "-" P "-1-05e3ac9a4f6e3b90-1"}}, NOTHING},
    {"trace id of 31", "b3", {{"b3", "0f198ee56343ba864fe8b2a57d3eff7-" P "-1"}}, NOTHING},
    {"trace id of 33", "b3", {{"b3", T "0-" P "-1"}}, NOTHING},
    {"trace id of 15", "b3", {{"b3", "4fe8b2a57d3eff7-" P "-1"}}, NOTHING},
    {"trace id of 0", "b3", {{"b3", "-" P "-1"}}, NOTHING},
    {"span id of 15", "b3", {{"b3", T "-457b5a2e4d86bd1-1"}}, NOTHING},
    {"span id of 17", "b3", {{"b3", T "-" P "0-1"}}, NOTHING},
    {"no span id", "b3", {{"b3", T}}, NOTHING},
    {"all zero", "b3", {{"b3", ZERO ZERO "-" P "-1"}}, NOTHING},
    {"all zero", "b3", {{"b3", ZERO "-" P "-1"}}, NOTHING},
    {"all zero", "b3", {{"b3", T "-" ZERO "-1"}}, NOTHING},
    {"empty", "b3", {{"b3", ""}}, NOTHING},
    {"not configured", "tracecontext", {{"b3", T "-" P "-1"}}, NOTHING},
};

#define MULTI(trace_id, span_id) {"X-B3-TraceId", trace_id}, {"X-B3-SpanId", span_id}
#define SAMPLED(value) {"X-B3-Sampled", value}
#define FLAGS(value) {"X-B3-Flags", value}
#define BAD_B3 {"b3", T "-" P "-2"}

static const row_t b3multi[] = {
    {"accept", "b3multi", {MULTI(T, P), SAMPLED("1")}, IDS(ACCEPT)},
    {"deny", "b3multi", {MULTI(T, P), SAMPLED("0")}, IDS(DENY)},
    {"defer", "b3multi", {MULTI(T, P)}, IDS(NONE)},
    {"debug", "b3multi", {MULTI(T, P), FLAGS("1")}, IDS(DEBUG)},
    {"debug beats deny", "b3multi", {MULTI(T, P), SAMPLED("0"), FLAGS("1")}, IDS(DEBUG)},
    {"flags 0", "b3multi", {MULTI(T, P), SAMPLED("1"), FLAGS("0")}, IDS(ACCEPT)},
    {"flags 3", "b3multi", {MULTI(T, P), FLAGS("3")}, IDS(NONE)},
    {"lenient", "b3multi", {MULTI(T, P), SAMPLED("true")}, IDS(ACCEPT)},
    {"lenient", "b3multi", {MULTI(T, P), SAMPLED("False")}, IDS(DENY)},
    {"d is of the other form", "b3multi", {MULTI(T, P), SAMPLED("d")}, IDS(NONE)},
    {"a parent", "b3multi",
     {MULTI(T, P), SAMPLED("1"), {"X-B3-ParentSpanId", "05e3ac9a4f6e3b90"}}, IDS(ACCEPT)},
    {"64 bits", "b3multi", {MULTI(T64, P), SAMPLED("1")}, IDS64(ACCEPT)},
    {"other case, other order", "b3multi",
     {{"x-b3-sampled", "1"}, {"x-b3-spanid", P}, {"X-B3-TRACEID", T}}, IDS(ACCEPT)},
    {"whitespace", "b3multi", {MULTI(" " T "\t", "\t" P), SAMPLED(" 1 ")}, IDS(ACCEPT)},
    {"the first of two", "b3multi", {MULTI(T, P), {"X-B3-TraceId", PADDED}, SAMPLED("1")},
     IDS(ACCEPT)},
    {"the first of two, joined", "b3multi", {MULTI(T ", " PADDED, P ", " ZERO), SAMPLED("1, 0")},
     IDS(ACCEPT)},
    {"deny alone", "b3multi", {SAMPLED("0")}, ALONE(DENY)},
    {"accept alone", "b3multi", {SAMPLED("1")}, ALONE(ACCEPT)},
    {"debug alone", "b3multi", {FLAGS("1")}, ALONE(DEBUG)},
    {"nothing", "b3multi", {SAMPLED("x")}, NOTHING},
    {"no span id", "b3multi", {{"X-B3-TraceId", T}, SAMPLED("1")}, NOTHING},
    {"no trace id", "b3multi", {{"X-B3-SpanId", P}, SAMPLED("1")}, NOTHING},
    {"uppercase", "b3multi", {MULTI("80F198EE56343BA864FE8B2A57D3EFF7", P), SAMPLED("1")}, NOTHING},
    {"all zero", "b3multi", {MULTI(ZERO, P), SAMPLED("1")}, NOTHING},
    {"all zero", "b3multi", {MULTI(T, ZERO), SAMPLED("1")}, NOTHING},
    {"too long", "b3multi", {MULTI(T T64, P)}, NOTHING},
    {"empty", "b3multi", {MULTI("", "")}, NOTHING},
    {"single wins", "b3multi", {MULTI(PADDED, P), SAMPLED("0"), {"b3", T "-" P "-1"}}, IDS(ACCEPT)},
    {"single wins", "b3", {{"b3", "0"}, MULTI(T, P), SAMPLED("1")}, ALONE(DENY)},
    {"a bad single does not", "b3", {BAD_B3, MULTI(T, P), SAMPLED("0")}, IDS(DENY)},
    {"a bad single leaves nothing", "b3", {BAD_B3, SAMPLED("1")}, ALONE(ACCEPT)},
    {"b3 reads both", "b3", {MULTI(T, P), SAMPLED("1")}, IDS(ACCEPT)},
    {"b3multi reads both", "b3multi", {{"b3", T "-" P "-d"}}, IDS(DEBUG)},
};

#define J(value) {{"uber-trace-id", value}}

static const row_t jaeger[] = {
    {"sampled", "jaeger", J(T ":" P ":0:1"), IDS(ACCEPT)},
    {"not sampled", "jaeger", J(T ":" P ":0:0"), IDS(DENY)},
    {"debug", "jaeger", J(T ":" P ":0:3"), IDS(DEBUG)},
    {"debug only with sampled", "jaeger", J(T ":" P ":0:2"), IDS(DENY)},
    {"firehose", "jaeger", J(T ":" P ":0:9"), IDS(ACCEPT)},
    {"flags are hex", "jaeger", J(T ":" P ":0:0b"), IDS(DEBUG)},
    {"flags are hex", "jaeger", J(T ":" P ":0:10"), IDS(DENY)},
    {"a parent", "jaeger", J(T ":" P ":05e3ac9a4f6e3b90:1"), IDS(ACCEPT)},
    {"a parent that is none", "jaeger", J(T ":" P "::1"), IDS(ACCEPT)},
    {"64 bits", "jaeger", J(T64 ":" P ":0:1"), IDS64(ACCEPT)},
    {"one digit", "jaeger", J("7:1:0:1"), "00000000000000000000000000000007", "0000000000000001",
     ES_WISH_ACCEPT},
    {"odd digits", "jaeger", J("abc:def:0:1"), "00000000000000000000000000000abc",
     "0000000000000def", ES_WISH_ACCEPT},
    {"uppercase", "jaeger", J("80F198EE56343BA864FE8B2A57D3EFF7:E457B5A2E4D86BD1:0:1"),
     IDS(ACCEPT)},
    {"encoded", "jaeger", J(T "%3A" P "%3a0%3A1"), IDS(ACCEPT)},
    {"encoded, the longest", "jaeger", J(T "%3A" P "%3A05e3ac9a4f6e3b90%3A01"), IDS(ACCEPT)},
    {"half encoded", "jaeger", J(T "%3A" P ":0:1"), NOTHING},
    {"encoded, too long", "jaeger", J(T T T "%3A" P "%3A0%3A1"), NOTHING},
    {"badly encoded", "jaeger", J(T "%3A" P "%3A0%3"), NOTHING},
    {"whitespace", "jaeger", J("\t" T ":" P ":0:1 "), IDS(ACCEPT)},
    {"another case", "jaeger", {{"Uber-Trace-ID", T ":" P ":0:1"}}, IDS(ACCEPT)},
    {"the first of two", "jaeger", {{"uber-trace-id", T ":" P ":0:1"}, {"uber-trace-id", "1:1:0:0"}},
     IDS(ACCEPT)},
    {"the first of two, joined", "jaeger", J(T ":" P ":0:1, 1:1:0:0"), IDS(ACCEPT)},
    {"all zero", "jaeger", J("0:" P ":0:1"), NOTHING},
    {"all zero", "jaeger", J(T ":" ZERO ":0:1"), NOTHING},
    {"33 digits", "jaeger", J("0" T ":" P ":0:1"), NOTHING},
    {"17 digits", "jaeger", J(T ":0" P ":0:1"), NOTHING},
    {"no digits", "jaeger", J(":" P ":0:1"), NOTHING},
    {"no digits", "jaeger", J(T "::0:1"), NOTHING},
    {"no flags", "jaeger", J(T ":" P ":0:"), NOTHING},
    {"no flags", "jaeger", J(T ":" P ":0"), NOTHING},
    {"long flags", "jaeger", J(T ":" P ":0:001"), NOTHING},
    {"not hex", "jaeger", J("g:" P ":0:1"), NOTHING},
    {"one part more", "jaeger", J(T ":" P ":0:1:"), NOTHING},
    {"empty", "jaeger", J(""), NOTHING},
};

#define X(value) {{"X-Amzn-Trace-Id", value}}
#define DASHED "1-80f198ee-56343ba864fe8b2a57d3eff7"

static const row_t xray[] = {
    {"golden", "xray", X("Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=00f067aa0ba902b7;Sampled=1"),
     "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", ES_WISH_ACCEPT},
    {"not sampled", "xray", X("Root=" DASHED ";Parent=" P ";Sampled=0"), IDS(DENY)},
    {"asked to decide", "xray", X("Root=" DASHED ";Parent=" P ";Sampled=?"), IDS(NONE)},
    {"nothing said", "xray", X("Root=" DASHED ";Parent=" P), IDS(NONE)},
    {"nothing said", "xray", X("Root=" DASHED ";Parent=" P ";Sampled="), IDS(NONE)},
    {"no such word", "xray", X("Root=" DASHED ";Parent=" P ";Sampled=2"), NOTHING},
    {"any order, blanks", "xray", X(" Sampled=1 ; Parent=" P "\t; Root=" DASHED " "), IDS(ACCEPT)},
    {"others between", "xray", X("Self=1-67891234-12456789abcdef012345678;Root=" DASHED
                                 ";Parent=" P ";Sampled=1;Lineage=a87bd80c:1|68fd508a:5"),
     IDS(ACCEPT)},
    {"uppercase", "xray", X("root=1-80F198EE-56343BA864FE8B2A57D3EFF7;PARENT=E457B5A2E4D86BD1;"
                            "sampled=1"), IDS(ACCEPT)},
    {"a semicolon more", "xray", X("Root=" DASHED ";;Parent=" P ";Sampled=1;"), IDS(ACCEPT)},
    {"the time without its zeros", "xray", X("Root=1-f35-77b34da6a3ce929d0e0e4736;Parent=" P),
     "00000f3577b34da6a3ce929d0e0e4736", P, ES_WISH_NONE},
    {"the first of equal members", "xray", X("Root=" DASHED ";Root=1-1-0;Parent=" P ";Sampled=1;"
                                             "Sampled=0"), IDS(ACCEPT)},
    {"the first of two, joined", "xray", X("Root=" DASHED ";Parent=" P ";Sampled=1, Root=1-1-1"),
     IDS(ACCEPT)},
    {"a load balancer's", "xray", X("Root=" DASHED), ROOT(NONE)},
    {"a load balancer's", "xray", X("Self=1-67891234-12456789abcdef012345678;Root=" DASHED),
     ROOT(NONE)},
    {"Root and Sampled", "xray", X("Root=" DASHED ";Sampled=1"), ROOT(ACCEPT)},
    {"Sampled alone", "xray", X("Sampled=0"), ALONE(DENY)},
    {"Sampled=? alone", "xray", X("Sampled=?"), NOTHING},
    {"Parent without Root", "xray", X("Parent=" P ";Sampled=1"), NOTHING},
    {"no member", "xray", X("Root=" DASHED ";Parent=" P ";Sampled=1;what"), NOTHING},
    {"another version", "xray", X("Root=2-80f198ee-56343ba864fe8b2a57d3eff7;Parent=" P), NOTHING},
    {"no dashes", "xray", X("Root=" T ";Parent=" P), NOTHING},
    {"a dash more", "xray", X("Root=" DASHED "-1;Parent=" P), NOTHING},
    {"time of 9", "xray", X("Root=1-080f198ee-56343ba864fe8b2a57d3eff7;Parent=" P), NOTHING},
    {"no time", "xray", X("Root=1--56343ba864fe8b2a57d3eff7;Parent=" P), NOTHING},
    {"rest of 23", "xray", X("Root=1-80f198ee-6343ba864fe8b2a57d3eff7;Parent=" P), NOTHING},
    {"not hex", "xray", X("Root=1-80f198eg-56343ba864fe8b2a57d3eff7;Parent=" P), NOTHING},
    {"all zero", "xray", X("Root=1-00000000-000000000000000000000000;Parent=" P), NOTHING},
    {"all zero", "xray", X("Root=" DASHED ";Parent=" ZERO), NOTHING},
    {"parent of 15", "xray", X("Root=" DASHED ";Parent=457b5a2e4d86bd1"), NOTHING},
    {"empty", "xray", X(""), NOTHING},
};

#define W3C {"traceparent", "00-" T "-" P "-00"}

/* Which format wins. */
static const row_t order[] = {
    {"the first", "tracecontext b3", {W3C, {"b3", PADDED "-" P "-1"}}, IDS(DENY)},
    {"the first", "b3 tracecontext", {W3C, {"b3", PADDED "-" P "-1"}}, IDS64(ACCEPT)},
    {"not the order of fields", "jaeger b3", {{"b3", PADDED "-" P "-1"}, {"uber-trace-id",
     T ":" P ":0:0"}}, IDS(DENY)},
    {"the first that is valid", "tracecontext b3", {{"traceparent", "00-x"}, {"b3", T "-" P "-1"}},
     IDS(ACCEPT)},
    {"not with the other's tracestate", "tracecontext b3", {{"traceparent", "00-x"},
     {"tracestate", "a=1"}, {"b3", T "-" P "-1"}}, IDS(ACCEPT)},
    {"ids of a span beat a wish", "b3 tracecontext", {{"b3", "1"}, W3C}, IDS(DENY)},
    {"ids of a span beat a root", "xray jaeger", {{"x-amzn-trace-id", "Root=1-1-"
     "77b34da6a3ce929d0e0e4736"}, {"uber-trace-id", T ":" P ":0:1"}}, IDS(ACCEPT)},
    {"else the first of what there is", "b3 xray", {{"x-amzn-trace-id", "Root=" DASHED},
     {"b3", "0"}}, ALONE(DENY)},
    {"else the first of what there is", "xray b3", {{"x-amzn-trace-id", "Root=" DASHED},
     {"b3", "0"}}, ROOT(NONE)},
    {"baggage is none", "baggage", {W3C, {"baggage", "a=1"}}, NOTHING},
    {"none", "none", {W3C, {"b3", "1"}}, NOTHING},
    {"nothing there", "tracecontext b3 b3multi jaeger xray", {{NULL, NULL}}, NOTHING},
};
/* clang-format on */

static void
check(const row_t *row)
{
    const es_propagation_t propagation = unit_propagation(row->propagators);
    bool accepted = row->wish == ES_WISH_ACCEPT || row->wish == ES_WISH_DEBUG;
    char trace_id[2 * ES_TRACE_ID_LEN + 1] = "", span_id[2 * ES_SPAN_ID_LEN + 1] = "";
    es_trace_t trace;

    unit_release(NULL);
    trace = unit_join(&propagation, ES_TRUST_ON, row->fields, FIELDS_MAX);
    es_hex(trace_id, trace.span.trace_id, ES_TRACE_ID_LEN);
    es_hex(span_id, trace.parent.span_id, ES_SPAN_ID_LEN);

    if (trace.wish != row->wish || trace.has_parent != (row->span_id != NULL)
        || (row->trace_id != NULL && strcmp(trace_id, row->trace_id) != 0)
        || (row->span_id != NULL && strcmp(span_id, row->span_id) != 0)) {
        fail_msg("%s, %s: \"%s\": %s, %s, wish %d", row->propagators, row->about,
                 row->fields[0].value, trace_id, trace.has_parent ? span_id : "-", trace.wish);
    }
    assert_false(trace.has_link);
    assert_int_equal(trace.span.tracestate.len, 0);

    /* Only who begins a trace says that its id is random. */
    if (row->trace_id != NULL) {
        assert_int_equal(trace.span.flags, accepted ? ES_FLAG_SAMPLED : 0);
    } else {
        assert_int_equal(trace.span.flags, ES_FLAG_RANDOM);
        assert_null(strstr(trace_id, T64));
        assert_false(es_all_zero(trace.span.trace_id, ES_TRACE_ID_LEN));
    }
    assert_memory_not_equal(trace.span.span_id, trace.parent.span_id, ES_SPAN_ID_LEN);
    assert_false(es_all_zero(trace.span.span_id, ES_SPAN_ID_LEN));
}

#define TEST_IN(table)                                   \
    static void in_##table(void **state)                 \
    {                                                    \
        (void) state;                                    \
        for (size_t i = 0; i < UNIT_COUNT(table); i++) { \
            check(&table[i]);                            \
        }                                                \
    }

TEST_IN(b3)
TEST_IN(b3multi)
TEST_IN(jaeger)
TEST_IN(xray)
TEST_IN(order)

/* ------------------------------------------------------------------- out --- */

static const uint8_t child[] = {0x05, 0xe3, 0xac, 0x9a, 0x4f, 0x6e, 0x3b, 0x90};

#define C "05e3ac9a4f6e3b90"
#define ALL "tracecontext baggage b3 b3multi jaeger xray"

/* What an upstream gets, one "name: value" per line. */
static const char *
sent(const es_trace_t *trace)
{
    static char text[4096];
    es_header_t headers[ES_INJECT_MAX];
    unsigned count = es_trace_inject(trace, child, headers);
    size_t at = 0;

    text[0] = '\0';
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(headers[i].name.data[headers[i].name.len], '\0');
        at += (size_t) snprintf(text + at, sizeof(text) - at, "%s: %.*s\n", headers[i].name.data,
                                (int) headers[i].value.len, headers[i].value.data);
    }
    return text;
}

static void
out_all(void **state)
{
    static const struct {
        const char *propagators;
        unit_field_t in;
        bool sampled;
        const char *out;
    } out[] = {
        {"tracecontext", W3C, true, "traceparent: 00-" T "-" C "-01\n"},
        {"b3", {"b3", T "-" P}, true, "b3: " T "-" C "-1\n"},
        {"b3", {"b3", T "-" P "-1"}, false, "b3: " T "-" C "-0\n"},
        {"b3", {"b3", T64 "-" P "-1"}, true, "b3: " PADDED "-" C "-1\n"},
        {"b3", {"b3", T "-" P "-d"}, true, "b3: " T "-" C "-d\n"},
        {"b3", {"b3", T "-" P "-d"}, false, "b3: " T "-" C "-0\n"},
        {"b3multi",
         {"b3", T "-" P "-1"},
         true,
         "x-b3-traceid: " T "\nx-b3-spanid: " C "\nx-b3-sampled: 1\n"},
        {"b3multi",
         {"b3", T "-" P "-d"},
         true,
         "x-b3-traceid: " T "\nx-b3-spanid: " C "\nx-b3-flags: 1\n"},
        {"b3multi",
         {"b3", T "-" P "-d"},
         false,
         "x-b3-traceid: " T "\nx-b3-spanid: " C "\nx-b3-sampled: 0\n"},
        {"jaeger", {"uber-trace-id", T ":" P ":1:1"}, true, "uber-trace-id: " T ":" C ":0:1\n"},
        {"jaeger", {"uber-trace-id", T ":" P ":1:1"}, false, "uber-trace-id: " T ":" C ":0:0\n"},
        {"jaeger", {"uber-trace-id", T64 ":1:1:3"}, true, "uber-trace-id: " PADDED ":" C ":0:3\n"},
        {"xray",
         {"X-Amzn-Trace-Id", "Root=" DASHED ";Lineage=1"},
         true,
         "x-amzn-trace-id: Root=" DASHED ";Parent=" C ";Sampled=1\n"},
        {"xray",
         {"X-Amzn-Trace-Id", "Root=" DASHED ";Parent=" P ";Sampled=1"},
         false,
         "x-amzn-trace-id: Root=" DASHED ";Parent=" C ";Sampled=0\n"},
        {"none", W3C, true, ""},
        {"baggage", {"baggage", "a=1"}, true, ""},
        {"jaeger b3",
         {"b3", T "-" P "-d"},
         true,
         "uber-trace-id: " T ":" C ":0:3\nb3: " T "-" C "-d\n"},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(out); i++) {
        const es_propagation_t propagation = unit_propagation(out[i].propagators);
        es_trace_t trace;

        unit_release(NULL);
        trace = unit_join(&propagation, ES_TRUST_ON, &out[i].in, 1);
        trace.span.flags = out[i].sampled ? ES_FLAG_SAMPLED : 0;
        assert_string_equal(sent(&trace), out[i].out);
        assert_true(unit_allocated <= 1);
    }
}

/* Each format in, all out. */
static void
one_in_all_out(void **state)
{
    static const unit_field_t in[] = {
        {"traceparent", "00-" T "-" P "-01"},
        {"b3", T "-" P "-1"},
        {"uber-trace-id", T ":" P ":0:1"},
        {"X-Amzn-Trace-Id", "Root=" DASHED ";Parent=" P ";Sampled=1"},
    };
    const es_propagation_t propagation = unit_propagation(ALL);

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(in); i++) {
        es_trace_t trace;

        unit_release(NULL);
        trace = unit_join(&propagation, ES_TRUST_ON, &in[i], 1);
        assert_true(trace.has_parent);
        assert_string_equal(sent(&trace),
                            "traceparent: 00-" T "-" C "-01\n"
                            "b3: " T "-" C "-1\n"
                            "x-b3-traceid: " T "\n"
                            "x-b3-spanid: " C "\n"
                            "x-b3-sampled: 1\n"
                            "uber-trace-id: " T ":" C ":0:1\n"
                            "x-amzn-trace-id: Root=" DASHED ";Parent=" C ";Sampled=1\n");
        assert_int_equal(unit_allocated, 1);
    }
}

/* What one server writes the next one reads, in each format. */
static void
out_and_in(void **state)
{
    static const char *const names[] = {"tracecontext", "b3", "b3multi", "jaeger", "xray"};

    (void) state;
    for (size_t i = 0; i < 2 * UNIT_COUNT(names); i++) {
        const es_propagation_t propagation = unit_propagation(names[i / 2]);
        es_header_t headers[ES_INJECT_MAX];
        unit_field_t fields[ES_INJECT_MAX];
        char text[ES_INJECT_MAX][128];
        es_trace_t first, second;
        unsigned count;

        unit_release(NULL);
        first = unit_join(&propagation, ES_TRUST_ON, NULL, 0);
        first.span.flags |= i % 2;
        count = es_trace_inject(&first, child, headers);
        for (unsigned k = 0; k < count; k++) {
            snprintf(text[k], sizeof(text[k]), "%.*s", (int) headers[k].value.len,
                     headers[k].value.data);
            fields[k] = (unit_field_t){headers[k].name.data, text[k]};
        }
        second = unit_join(&propagation, ES_TRUST_ON, fields, count);
        assert_true(second.has_parent);
        assert_memory_equal(second.span.trace_id, first.span.trace_id, ES_TRACE_ID_LEN);
        assert_memory_equal(second.parent.span_id, child, ES_SPAN_ID_LEN);
        assert_int_equal(second.wish, i % 2 ? ES_WISH_ACCEPT : ES_WISH_DENY);
    }
}

/* Where X-Ray is to read them, new ids begin with the time of the request. */
static void
ids_with_time(void **state)
{
    static const char *const names[] = {"xray", "tracecontext xray", "tracecontext"};
    static const uint64_t start_ns = UINT64_C(1700000000123456789);

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(names); i++) {
        const es_propagation_t propagation = unit_propagation(names[i]);
        es_trace_t traces[2];

        unit_release(NULL);
        for (unsigned k = 0; k < 2; k++) {
            traces[k] = unit_trace();
            es_trace_started_at(&traces[k], start_ns);
            es_trace_join(&traces[k], &propagation, ES_TRUST_ON, NULL);
            assert_int_equal(traces[k].span.flags, ES_FLAG_RANDOM);
            assert_int_equal(memcmp(traces[k].span.trace_id, "\x65\x53\xf1\x00", 4) == 0, i < 2);
        }
        assert_memory_not_equal(traces[0].span.trace_id + 4, traces[1].span.trace_id + 4, 12);
    }
}

/* Without memory nothing is sent, rather than a part. */
static void
no_memory(void **state)
{
    const es_propagation_t propagation = unit_propagation(ALL);
    es_trace_t trace;

    (void) state;
    unit_release(NULL);
    trace = unit_join(&propagation, ES_TRUST_ON, NULL, 0);
    unit_allocations_left = 0;
    assert_string_equal(sent(&trace), "");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_b3),          cmocka_unit_test(in_b3multi),
        cmocka_unit_test(in_jaeger),      cmocka_unit_test(in_xray),
        cmocka_unit_test(in_order),       cmocka_unit_test(out_all),
        cmocka_unit_test(one_in_all_out), cmocka_unit_test(out_and_in),
        cmocka_unit_test(ids_with_time),  cmocka_unit_test(no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, unit_release);
}
