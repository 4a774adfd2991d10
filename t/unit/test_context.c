/* W3C Trace Context: the vectors of the specification's own test suite
 * (w3c/trace-context, test/test.py), by the names they have there, and what it
 * does not cover. */

#include "unit.h"

#include "es_context.h"
#include "es_propagator.h"

#define T "12345678901234567890123456789012"
#define P "1234567890123456"
#define B0 "00-" T "-" P "-00"
#define B1 "00-" T "-" P "-01"

static const uint8_t trace_id[] = {0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56,
                                   0x78, 0x90, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12};
static const uint8_t span_id[] = {0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56};

/* ------------------------------------------------------------- helpers --- */

/* The pool's allocations, freed by the next extract(). */
static void *allocations[8];
static unsigned allocated;

static void *
pool_alloc(void *pool, size_t size)
{
    (void) pool;
    assert_true(allocated < UNIT_COUNT(allocations));
    return allocations[allocated++] = malloc(size);
}

static void *
pool_empty(void *pool, size_t size)
{
    (void) pool;
    (void) size;
    return NULL;
}

static const es_pool_t pool = {pool_alloc, NULL};

static void
pool_clear(void)
{
    while (allocated != 0) {
        free(allocations[--allocated]);
    }
}

/* Copies of the values without a byte to spare. */
static es_str_t copies[64];
static unsigned copied;

static void
copies_clear(void)
{
    while (copied != 0) {
        unit_free(copies[--copied]);
    }
}

typedef struct field {
    const char *name, *value;
} field_t;

#define FIELDS_MAX 6

static bool
extract(const field_t *fields, size_t count, es_span_context_t *context)
{
    es_carrier_t carrier;

    pool_clear();
    copies_clear();
    es_carrier_init(&carrier);
    es_carrier_add(&carrier, ES_STR("Host"), ES_STR("example.org"));
    for (size_t i = 0; i < count && fields[i].name != NULL; i++) {
        copies[copied] = unit_exact(es_cstr(fields[i].value));
        es_carrier_add(&carrier, es_cstr(fields[i].name), copies[copied++]);
    }
    es_carrier_add(&carrier, ES_STR("tracestates"), ES_STR("no=1"));
    return es_propagators_extract(&carrier, &pool, context);
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
    field_t fields[FIELDS_MAX];
} vector_t;

static void
check(const vector_t *v)
{
    char members[40000];
    es_span_context_t context = {.flags = 0xff};
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

/* --------------------------------------------------------- traceparent --- */

#define TP(value)                \
    {                            \
        {                        \
            "traceparent", value \
        }                        \
    }

static const vector_t traceparents[] = {
    {"both_traceparent_and_tracestate_missing", false, "", {{NULL, NULL}}},
    {"traceparent_included_tracestate_missing", true, "", TP(B1)},
    {"traceparent_duplicated",
     false,
     "",
     {{"traceparent", "00-12345678901234567890123456789011-" P "-01"}, {"traceparent", B1}}},
    {"traceparent_duplicated, equal", false, "", {{"traceparent", B1}, {"traceparent", B1}}},
    {"traceparent_duplicated, joined by httpd", false, "", TP(B1 ", " B1)},
    {"traceparent_duplicated, joined, later version", false, "",
     TP("cc-" T "-" P "-01, cc-" T "-" P "-01")},
    {"traceparent_header_name", false, "", {{"trace-parent", B1}}},
    {"traceparent_header_name", false, "", {{"trace.parent", B1}}},
    {"traceparent_header_name", false, "", {{"traceparen", B1}}},
    {"traceparent_header_name_valid_casing", true, "", {{"TraceParent", B1}}},
    {"traceparent_header_name_valid_casing", true, "", {{"TrAcEpArEnT", B1}}},
    {"traceparent_header_name_valid_casing", true, "", {{"TRACEPARENT", B1}}},
    {"traceparent_version_0x00", false, "", TP(B1 ".")},
    {"traceparent_version_0x00", false, "", TP(B1 "-what-the-future-will-be-like")},
    {"traceparent_version_0x00", false, "", TP(B1 "-")},
    {"traceparent_version_0xcc", true, "", TP("cc-" T "-" P "-01")},
    {"traceparent_version_0xcc", true, "", TP("cc-" T "-" P "-01-what-the-future-will-be-like")},
    {"traceparent_version_0xcc", true, "", TP("cc-" T "-" P "-01-")},
    {"traceparent_version_0xcc", false, "", TP("cc-" T "-" P "-01.what-the-future-will-be-like")},
    {"version 01", true, "", TP("01-" T "-" P "-01")},
    {"version fe", true, "", TP("fe-" T "-" P "-01-x")},
    {"traceparent_version_0xff", false, "", TP("ff-" T "-" P "-01")},
    {"traceparent_version_0xff", false, "", TP("ff-" T "-" P "-01-x")},
    {"traceparent_version_illegal_characters", false, "", TP(".0-" T "-" P "-01")},
    {"traceparent_version_illegal_characters", false, "", TP("0.-" T "-" P "-01")},
    {"traceparent_version_too_long", false, "", TP("000-" T "-" P "-01")},
    {"traceparent_version_too_long", false, "", TP("0000-" T "-" P "-01")},
    {"traceparent_version_too_short", false, "", TP("0-" T "-" P "-01")},
    {"traceparent_trace_id_all_zero", false, "",
     TP("00-00000000000000000000000000000000-" P "-01")},
    {"traceparent_trace_id_illegal_characters", false, "",
     TP("00-.2345678901234567890123456789012-" P "-01")},
    {"traceparent_trace_id_illegal_characters", false, "",
     TP("00-1234567890123456789012345678901.-" P "-01")},
    {"traceparent_trace_id_too_long", false, "", TP("00-" T "3-" P "-01")},
    {"traceparent_trace_id_too_long, later version", false, "", TP("cc-" T "3-" P "-01")},
    {"traceparent_trace_id_too_short", false, "",
     TP("00-1234567890123456789012345678901-" P "-01")},
    {"traceparent_parent_id_all_zero", false, "", TP("00-" T "-0000000000000000-01")},
    {"traceparent_parent_id_illegal_characters", false, "", TP("00-" T "-.234567890123456-01")},
    {"traceparent_parent_id_illegal_characters", false, "", TP("00-" T "-123456789012345.-01")},
    {"traceparent_parent_id_too_long", false, "", TP("00-" T "-" P "7-01")},
    {"traceparent_parent_id_too_short", false, "", TP("00-" T "-123456789012345-01")},
    {"traceparent_trace_flags_illegal_characters", false, "", TP("00-" T "-" P "-.0")},
    {"traceparent_trace_flags_illegal_characters", false, "", TP("00-" T "-" P "-0.")},
    {"traceparent_trace_flags_too_long", false, "", TP("00-" T "-" P "-001")},
    {"traceparent_trace_flags_too_long, later version", false, "", TP("cc-" T "-" P "-001")},
    {"traceparent_trace_flags_too_short", false, "", TP("00-" T "-" P "-1")},
    {"traceparent_ows_handling", true, "", TP(" " B1)},
    {"traceparent_ows_handling", true, "", TP("\t" B1)},
    {"traceparent_ows_handling", true, "", TP(B1 " ")},
    {"traceparent_ows_handling", true, "", TP(B1 "\t")},
    {"traceparent_ows_handling", true, "", TP("\t " B1 " \t")},
    {"inner whitespace", false, "", TP("00 -" T "-" P "-01")},
    {"inner whitespace", false, "", TP("00-" T "- 123456789012345-01")},
    {"other separators", false, "", TP("00_" T "-" P "-01")},
    {"other separators", false, "", TP("00-" T "_" P "-01")},
    {"other separators", false, "", TP("00-" T "-" P "_01")},
    {"uppercase hex", false, "", TP("00-1234567890123456789012345678901A-" P "-01")},
    {"uppercase hex", false, "", TP("00-" T "-123456789012345F-01")},
    {"uppercase hex", false, "", TP("00-" T "-" P "-0A")},
    {"uppercase hex", false, "", TP("CC-" T "-" P "-01")},
    {"not hex", false, "", TP("00-1234567890123456789012345678901g-" P "-01")},
    {"not hex", false, "", TP("00-1234567890123456789012345678901/-" P "-01")},
    {"not hex", false, "", TP("00-1234567890123456789012345678901:-" P "-01")},
    {"not hex", false, "", TP("00-1234567890123456789012345678901`-" P "-01")},
    {"empty", false, "", TP("")},
    {"empty", false, "", TP(" \t ")},
    {"no trace id", false, "", TP("00--" P "-01")},
};

static void
traceparent_vectors(void **state)
{
    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(traceparents); i++) {
        check(&traceparents[i]);
    }
}

/* The same through the parser alone; and no prefix of a good one is good. */
static void
traceparent_parser(void **state)
{
    es_span_context_t context;

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(traceparents); i++) {
        const vector_t *v = &traceparents[i];

        if (v->fields[0].name != NULL && v->fields[1].name == NULL
            && strcmp(v->fields[0].name, "traceparent") == 0) {
            es_str_t value = unit_exact(es_cstr(v->fields[0].value));

            if (es_traceparent_parse(value, &context) != v->keep) {
                fail_msg("%s: \"%s\"", v->name, v->fields[0].value);
            }
            unit_free(value);
        }
    }
    for (size_t len = 0; len < ES_TRACEPARENT_LEN; len++) {
        es_str_t value = unit_exact(es_str(B1, len));

        assert_false(es_traceparent_parse(value, &context));
        unit_free(value);
    }
}

/* One wrong byte of any value at any place refuses it, or changes what it says. */
static void
traceparent_mutations(void **state)
{
    (void) state;
    for (size_t at = 0; at < ES_TRACEPARENT_LEN; at++) {
        for (unsigned c = 0; c < 256; c++) {
            char value[] = B1;
            bool dash = B1[at] == '-', hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
            es_span_context_t context;

            value[at] = (char) c;
            if (at < 2 && hex && (value[0] != '0' || value[1] != '0')) {
                hex = value[0] != 'f' || value[1] != 'f';
            }
            if (es_traceparent_parse(es_str(value, ES_TRACEPARENT_LEN), &context)
                != (dash ? c == '-' : hex)) {
                fail_msg("byte %zu is 0x%02x", at, c);
            }
        }
    }
}

/* Sampled and random come through as they are, the reserved bits do not. */
static void
flags(void **state)
{
    char value[] = B1;

    (void) state;
    for (unsigned all = 0; all < 256; all++) {
        field_t fields[1] = {{"traceparent", value}};
        es_span_context_t context;

        snprintf(value + ES_TRACEPARENT_LEN - 2, 3, "%02x", all);
        assert_true(extract(fields, 1, &context));
        assert_int_equal(context.flags, all & 3);
    }
}

static void
hex(void **state)
{
    uint8_t bytes[256], back[256];
    char out[2 + 2 * 256], expected[3];

    (void) state;
    for (unsigned i = 0; i < 256; i++) {
        bytes[i] = (uint8_t) i;
    }
    memset(out, '#', sizeof(out));
    es_hex(out + 1, bytes, sizeof(bytes));
    assert_true(out[0] == '#' && out[1 + 2 * 256] == '#');
    for (unsigned i = 0; i < 256; i++) {
        snprintf(expected, sizeof(expected), "%02x", i);
        assert_memory_equal(out + 1 + 2 * i, expected, 2);
    }
    assert_true(es_unhex(back, out + 1, sizeof(back)));
    assert_memory_equal(back, bytes, sizeof(bytes));
}

static void
format(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {B0, B0},
        {B1, B1},
        {"00-" T "-" P "-02", "00-" T "-" P "-02"},
        {"00-" T "-" P "-ff", "00-" T "-" P "-03"},
        {"00-" T "-" P "-fe", "00-" T "-" P "-02"},
        {"cc-" T "-" P "-01-what-the-future-will-be-like", B1},
        {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
         "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"},
    };
    char out[ES_TRACEPARENT_LEN + 2];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_span_context_t context;

        assert_true(es_traceparent_parse(es_cstr(rows[i].in), &context));
        memset(out, '#', sizeof(out));
        es_traceparent_format(out + 1, context.trace_id, context.span_id, context.flags);
        assert_true(out[0] == '#' && out[ES_TRACEPARENT_LEN + 1] == '#');
        unit_assert_str(es_str(out + 1, ES_TRACEPARENT_LEN), rows[i].out);
    }
}

/* ---------------------------------------------------------- tracestate --- */

#define TS(value)               \
    {                           \
        {"traceparent", B0},    \
        {                       \
            "tracestate", value \
        }                       \
    }

static const vector_t tracestates[] = {
    {"tracestate_included_traceparent_missing", false, "", {{"tracestate", "foo=1"}}},
    {"tracestate_included_traceparent_missing", false, "", {{"tracestate", "foo=1,bar=2"}}},
    {"tracestate_included_traceparent_included", true, "foo=1,bar=2", TS("foo=1,bar=2")},
    {"before the traceparent", true, "foo=1", {{"tracestate", "foo=1"}, {"traceparent", B1}}},
    {"tracestate_header_name", true, "", {{"traceparent", B0}, {"trace-state", "foo=1"}}},
    {"tracestate_header_name", true, "", {{"traceparent", B0}, {"trace.state", "foo=1"}}},
    {"tracestate_header_name_valid_casing",
     true,
     "foo=1",
     {{"traceparent", B0}, {"TraceState", "foo=1"}}},
    {"tracestate_header_name_valid_casing",
     true,
     "foo=1",
     {{"traceparent", B0}, {"TrAcEsTaTe", "foo=1"}}},
    {"tracestate_header_name_valid_casing",
     true,
     "foo=1",
     {{"traceparent", B0}, {"TRACESTATE", "foo=1"}}},
    {"tracestate_empty_header", true, "", TS("")},
    {"tracestate_empty_header",
     true,
     "foo=1",
     {{"traceparent", B0}, {"tracestate", "foo=1"}, {"tracestate", ""}}},
    {"tracestate_empty_header",
     true,
     "foo=1",
     {{"traceparent", B0}, {"tracestate", ""}, {"tracestate", "foo=1"}}},
    {"several empty", true, "", {{"traceparent", B0}, {"tracestate", ""}, {"tracestate", " "}}},
    {"empty members", true, "foo=1,bar=2", TS(",foo=1,, ,\t,bar=2,")},
    {"only empty members", true, "", TS(" ,, ,")},
    {"tracestate_multiple_headers_different_keys",
     true,
     "foo=1,bar=2,rojo=1,congo=2,baz=3",
     {{"traceparent", B0},
      {"tracestate", "foo=1,bar=2"},
      {"tracestate", "rojo=1,congo=2"},
      {"tracestate", "baz=3"}}},
    {"tracestate_duplicated_keys", true, "foo=1,foo=1", TS("foo=1,foo=1")},
    {"tracestate_duplicated_keys", true, "foo=1,foo=2", TS("foo=1,foo=2")},
    {"tracestate_duplicated_keys",
     true,
     "foo=1,foo=1",
     {{"traceparent", B0}, {"tracestate", "foo=1"}, {"tracestate", "foo=1"}}},
    {"tracestate_duplicated_keys",
     true,
     "foo=1,foo=2",
     {{"traceparent", B0}, {"tracestate", "foo=1"}, {"tracestate", "foo=2"}}},
    {"tracestate_ows_handling", true, "foo=1,bar=2,baz=3", TS("foo=1 \t , \t bar=2, \t baz=3")},
    {"tracestate_ows_handling", true, "foo=1,bar=2,baz=3", TS("foo=1\t \t,\t \tbar=2,\t \tbaz=3")},
    {"tracestate_ows_handling", true, "foo=1", TS(" foo=1")},
    {"tracestate_ows_handling", true, "foo=1", TS("\tfoo=1")},
    {"tracestate_ows_handling", true, "foo=1", TS("foo=1 ")},
    {"tracestate_ows_handling", true, "foo=1", TS("foo=1\t")},
    {"tracestate_ows_handling", true, "foo=1", TS("\t foo=1 \t")},
    {"tracestate_key_illegal_characters", true, "", TS("foo =1")},
    {"tracestate_key_illegal_characters", true, "", TS("FOO=1")},
    {"tracestate_key_illegal_characters", true, "", TS("foo.bar=1")},
    {"key begins with", true, "", TS("_foo=1")},
    {"key begins with", true, "", TS("-foo=1")},
    {"key begins with", true, "", TS("*foo=1")},
    {"key begins with", true, "", TS("/foo=1")},
    {"key begins with", true, "1foo=1", TS("1foo=1")},
    {"tracestate_key_illegal_vendor_format", true, "foo@=1,bar=2", TS("foo@=1,bar=2")},
    {"tracestate_key_illegal_vendor_format", true, "", TS("@foo=1,bar=2")},
    {"tracestate_key_illegal_vendor_format", true, "foo@@bar=1,bar=2", TS("foo@@bar=1,bar=2")},
    {"tracestate_key_illegal_vendor_format", true, "foo@bar@baz=1,bar=2",
     TS("foo@bar@baz=1,bar=2")},
    {"tracestate_value_illegal_characters", true, "", TS("foo=bar=baz")},
    {"tracestate_value_illegal_characters", true, "", TS("foo=,bar=3")},
    {"value only of spaces", true, "", TS("foo=  ,bar=3")},
    {"no value", true, "", TS("foo")},
    {"no key", true, "", TS("=1")},
    {"a bad one drops the good ones", true, "", TS("bar=3,foo")},
    {"a bad one drops the good ones",
     true,
     "",
     {{"traceparent", B0}, {"tracestate", "bar=3"}, {"tracestate", "FOO=1"}}},
    {"control character", true, "", TS("foo=a\tb")},
    {"control character", true, "", TS("foo=a\x1f")},
    {"control character", true, "", TS("foo=a\x7f")},
    {"not ASCII", true, "", TS("foo=\xc3\xbc")},
    {"not ASCII", true, "", TS("f\xc3\xbc=1")},
    {"leading space of a value", true, "foo= 1,bar=  2", TS("foo= 1,bar=  2")},
    {"discarded with a bad traceparent",
     false,
     "",
     {{"traceparent", "00-" T "-" P "-0"}, {"tracestate", "foo=1"}}},
    {"discarded with two traceparents",
     false,
     "",
     {{"traceparent", B1}, {"traceparent", B1}, {"tracestate", "foo=1"}}},
};

static void
tracestate_vectors(void **state)
{
    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(tracestates); i++) {
        check(&tracestates[i]);
    }
}

/* The same through es_tracestate_valid() alone, and its count. */
static void
tracestate_parser(void **state)
{
    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(tracestates); i++) {
        const vector_t *v = &tracestates[i];
        const char *value = v->fields[1].value;
        unsigned expected = v->tracestate[0] != '\0', members = 99;
        es_str_t exact;
        bool empty;

        if (!v->keep || v->fields[2].name != NULL || v->fields[1].name == NULL
            || strcmp(v->fields[1].name, "tracestate") != 0) {
            continue;
        }
        for (const char *c = v->tracestate; *c != '\0'; c++) {
            expected += *c == ',';
        }
        empty = value[strspn(value, " \t,")] == '\0';
        exact = unit_exact(es_cstr(value));
        if (es_tracestate_valid(exact, &members) != (expected != 0 || empty)) {
            fail_msg("%s: \"%s\"", v->name, value);
        }
        assert_int_equal(members, expected != 0 || empty ? expected : 99);
        unit_free(exact);
    }
}

static void
tracestate_all_allowed_characters(void **state)
{
    static const char key[] = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
    char v[128], value[256];
    vector_t vector = {"tracestate_all_allowed_characters", true, value, TS(value)};
    size_t len = 0;

    (void) state;
    for (char c = 0x20; c <= 0x7e; c++) {
        if (c != ',' && c != '=') {
            v[len++] = c;
        }
    }
    v[len] = '\0';
    snprintf(value, sizeof(value), "%s=%s", key, v);
    check(&vector);
    snprintf(value, sizeof(value), "%s@a-z0-9_-*/=%s", key, v);
    check(&vector);

    /* Each byte by itself, in the middle of a key and of a value. */
    for (unsigned c = 1; c < 256; c++) {
        bool in_key = strchr(key, (int) c) != NULL || c == '@' || c == '=';
        bool in_value = c >= 0x20 && c <= 0x7e && c != '=';

        if (c == ',') {
            continue; /* two members then, and neither is whole */
        }
        snprintf(value, sizeof(value), "a%cb=1", (char) c);
        vector.tracestate = in_key && c != '=' ? value : "";
        check(&vector);
        snprintf(value, sizeof(value), "a=1%cb", (char) c);
        vector.tracestate = in_value ? value : "";
        check(&vector);
    }
}

static void
tracestate_member_count_limit(void **state)
{
    char parts[5][512] = {"", "", "", "", "bar33=33"}, all[2048] = "";
    vector_t vector = {"tracestate_member_count_limit",
                       true,
                       all,
                       {{"traceparent", B0},
                        {"tracestate", parts[0]},
                        {"tracestate", parts[1]},
                        {"tracestate", parts[2]},
                        {"tracestate", parts[3]}}};

    (void) state;
    for (unsigned i = 1; i <= 32; i++) {
        char member[32], *part = parts[(i - 1) / 8];

        snprintf(member, sizeof(member), "%sbar%02u=%02u", part[0] != '\0' ? "," : "", i, i);
        strcat(part, member);
        snprintf(member, sizeof(member), "%sbar%02u=%02u", i > 1 ? "," : "", i, i);
        strcat(all, member);
    }
    check(&vector);

    /* Empty members do not count. */
    strcat(parts[3], ",, ,");
    check(&vector);

    vector.fields[5] = (field_t){"tracestate", parts[4]};
    vector.tracestate = "";
    check(&vector);
}

static void
tracestate_length_limits(void **state)
{
    static const struct {
        unsigned key, tenant, vendor, value;
        bool valid;
    } rows[] = {
        {256, 0, 0, 1, true},  {257, 0, 0, 1, false},  {0, 241, 14, 1, true},
        {0, 242, 1, 1, true},  {0, 1, 15, 1, true},    {1, 0, 0, 256, true},
        {1, 0, 0, 257, false}, {256, 0, 0, 256, true}, {0, 242, 14, 1, false},
    };
    char key[600], value[600], member[1300], all[1400];
    vector_t vector = {"tracestate_key_length_limit",
                       true,
                       all,
                       {{"traceparent", B0}, {"tracestate", "foo=1"}, {"tracestate", member}}};

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        memset(key, 'z', rows[i].key);
        key[rows[i].key] = '\0';
        if (rows[i].tenant != 0) {
            memset(key, 't', rows[i].tenant);
            key[rows[i].tenant] = '@';
            memset(key + rows[i].tenant + 1, 'v', rows[i].vendor);
            key[rows[i].tenant + 1 + rows[i].vendor] = '\0';
        }
        memset(value, 'x', rows[i].value);
        value[rows[i].value] = '\0';
        snprintf(member, sizeof(member), "%s=%s", key, value);
        snprintf(all, sizeof(all), "foo=1,%s", member);
        vector.tracestate = rows[i].valid ? all : "";
        check(&vector);
    }
}

/* The longest legal list: 32 members of 256 + 1 + 256 bytes, in one field and in
 * two. At least 512 characters are to be passed on. */
static void
tracestate_longest(void **state)
{
    enum { MEMBER = 513, LIST = 32 * (MEMBER + 1) };
    static char all[LIST + 1], first[LIST + 1];
    vector_t vector = {"longest", true, all, TS(all)};

    (void) state;
    for (unsigned i = 0; i < 32; i++) {
        char *member = all + i * (MEMBER + 1);

        memset(member, 'a' + (int) i % 26, MEMBER);
        member[256] = '=';
        member[MEMBER] = ',';
    }
    all[LIST - 1] = '\0';
    check(&vector);

    memcpy(first, all, 16 * (MEMBER + 1) - 1);
    vector.fields[1].value = first;
    vector.fields[2] = (field_t){"tracestate", all + 16 * (MEMBER + 1)};
    check(&vector);
}

/* ------------------------------------------------------------- carrier --- */

static void
carrier_overflow(void **state)
{
    es_carrier_t carrier;
    es_span_context_t context;

    (void) state;
    es_carrier_init(&carrier);
    es_carrier_add(&carrier, ES_STR("traceparent"), ES_STR(B1));
    for (unsigned i = 0; i < ES_CARRIER_MAX - 1; i++) {
        es_carrier_add(&carrier, ES_STR("tracestate"), i == 0 ? ES_STR("a=1") : ES_STR(""));
    }
    pool_clear();
    assert_true(es_propagators_extract(&carrier, &pool, &context));
    unit_assert_str(context.tracestate, "a=1");

    es_carrier_add(&carrier, ES_STR("x-other"), ES_STR("not counted"));
    assert_true(es_propagators_extract(&carrier, &pool, &context));
    es_carrier_add(&carrier, ES_STR("tracestate"), ES_STR("b=1"));
    assert_false(es_propagators_extract(&carrier, &pool, &context));
}

/* Without memory the trace goes on, without its tracestate. */
static void
no_memory(void **state)
{
    const es_pool_t empty = {pool_empty, NULL};
    es_carrier_t carrier;
    es_span_context_t context;

    (void) state;
    es_carrier_init(&carrier);
    es_carrier_add(&carrier, ES_STR("traceparent"), ES_STR(B1));
    es_carrier_add(&carrier, ES_STR("tracestate"), ES_STR("a=1"));
    assert_true(es_propagators_extract(&carrier, &empty, &context));
    unit_assert_str(context.tracestate, "a=1");

    es_carrier_add(&carrier, ES_STR("tracestate"), ES_STR("b=1"));
    assert_true(es_propagators_extract(&carrier, &empty, &context));
    assert_int_equal(context.tracestate.len, 0);
    assert_true(es_propagators_extract(&carrier, NULL, &context));
    assert_int_equal(context.tracestate.len, 0);
}

/* One field is borrowed as it came, not copied. */
static void
borrowed(void **state)
{
    static const char value[] = " a=1 , b=2 ";
    es_carrier_t carrier;
    es_span_context_t context;

    (void) state;
    es_carrier_init(&carrier);
    es_carrier_add(&carrier, ES_STR("tracestate"), es_cstr(value));
    es_carrier_add(&carrier, ES_STR("traceparent"), ES_STR(B1));
    assert_true(es_propagators_extract(&carrier, NULL, &context));
    assert_ptr_equal(context.tracestate.data, value + 1);
    unit_assert_str(context.tracestate, "a=1 , b=2");
}

static void
header_names(void **state)
{
    (void) state;
    assert_true(es_is_context_header(ES_STR("traceparent")));
    assert_true(es_is_context_header(ES_STR("TraceParent")));
    assert_true(es_is_context_header(ES_STR("TRACESTATE")));
    assert_false(es_is_context_header(ES_STR("trace-parent")));
    assert_false(es_is_context_header(ES_STR("traceparents")));
    assert_false(es_is_context_header(ES_STR("traceparen")));
    assert_false(es_is_context_header(ES_STR("")));
    assert_false(es_is_context_header(ES_STR_NONE));
}

static void
inject(void **state)
{
    es_span_context_t context = {.flags = 1, .tracestate = {"a=1,b=2", 7}};
    es_header_t headers[ES_INJECT_MAX];
    char text[ES_INJECT_TEXT];

    (void) state;
    memcpy(context.trace_id, trace_id, sizeof(trace_id));
    memcpy(context.span_id, span_id, sizeof(span_id));

    assert_int_equal(es_propagators_inject(&context, text, headers), 2);
    unit_assert_str(headers[0].name, "traceparent");
    unit_assert_str(headers[0].value, B1);
    unit_assert_str(headers[1].name, "tracestate");
    unit_assert_str(headers[1].value, "a=1,b=2");

    /* Empty: to be removed, the client's is not to pass. */
    context.tracestate = ES_STR_NONE;
    assert_int_equal(es_propagators_inject(&context, text, headers), 2);
    unit_assert_str(headers[1].name, "tracestate");
    assert_int_equal(headers[1].value.len, 0);
}

static int
clear(void **state)
{
    (void) state;
    pool_clear();
    copies_clear();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traceparent_vectors),
        cmocka_unit_test(traceparent_parser),
        cmocka_unit_test(traceparent_mutations),
        cmocka_unit_test(flags),
        cmocka_unit_test(hex),
        cmocka_unit_test(format),
        cmocka_unit_test(tracestate_vectors),
        cmocka_unit_test(tracestate_parser),
        cmocka_unit_test(tracestate_all_allowed_characters),
        cmocka_unit_test(tracestate_member_count_limit),
        cmocka_unit_test(tracestate_length_limits),
        cmocka_unit_test(tracestate_longest),
        cmocka_unit_test(carrier_overflow),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(borrowed),
        cmocka_unit_test(header_names),
        cmocka_unit_test(inject),
    };

    return cmocka_run_group_tests(tests, NULL, clear);
}
