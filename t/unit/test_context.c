/* tracestate: the vectors of the specification's own test suite
 * (w3c/trace-context, test/test.py), by the names they have there, and what it
 * does not cover. */

#include "unit_context.h"

#include "es_tracestate.h"

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

    vector.fields[5] = (unit_field_t){"tracestate", parts[4]};
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
    vector.fields[2] = (unit_field_t){"tracestate", all + 16 * (MEMBER + 1)};
    check(&vector);
}

/* Without memory the trace goes on, without its tracestate. */
static void
no_memory(void **state)
{
    const unit_field_t fields[] = {
        {"traceparent", B1}, {"tracestate", "a=1"}, {"tracestate", "b=1"}};
    const es_propagation_t propagation = unit_propagation("tracecontext");
    es_trace_t trace;

    (void) state;
    unit_release(NULL);
    unit_allocations_left = 0;
    trace = unit_join(&propagation, ES_TRUST_ON, fields, 2);
    unit_assert_str(trace.parent.tracestate, "a=1");

    trace = unit_join(&propagation, ES_TRUST_ON, fields, 3);
    assert_true(trace.has_parent);
    assert_int_equal(trace.parent.tracestate.len, 0);
}

/* One field is borrowed as it came, not copied. */
static void
borrowed(void **state)
{
    const unit_field_t fields[] = {{"tracestate", " a=1 , b=2 "}, {"traceparent", B1}};
    const es_propagation_t propagation = unit_propagation("tracecontext");
    es_trace_t trace;

    (void) state;
    unit_release(NULL);
    trace = unit_join(&propagation, ES_TRUST_ON, fields, 2);
    assert_ptr_equal(trace.parent.tracestate.data, unit_copies[0].data + 1);
    unit_assert_str(trace.parent.tracestate, "a=1 , b=2");
    assert_int_equal(unit_allocated, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tracestate_vectors),
        cmocka_unit_test(tracestate_parser),
        cmocka_unit_test(tracestate_all_allowed_characters),
        cmocka_unit_test(tracestate_member_count_limit),
        cmocka_unit_test(tracestate_length_limits),
        cmocka_unit_test(tracestate_longest),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(borrowed),
    };

    return cmocka_run_group_tests(tests, NULL, unit_release);
}
