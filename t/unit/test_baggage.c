/* W3C Baggage: what is read of it, what is shown, and what passes a filter. */

#include "unit_propagation.h"

#include "es_baggage.h"

static es_propagation_t
propagation_of(const char *allow)
{
    static es_str_t words[8];
    es_propagation_t propagation = unit_propagation("baggage");
    es_error_t error;

    if (allow != NULL) {
        unsigned count = unit_words(allow, words, UNIT_COUNT(words));

        assert_true(es_propagation_allow(&propagation, words, count, &error));
    }
    return propagation;
}

/* The members as "a=1,b=2", decoded. */
static const char *
members_of(const es_trace_t *trace)
{
    static char text[65536];
    es_attribute_t member;
    size_t at = 0, len = 0;

    text[0] = '\0';
    while (es_trace_baggage_next(trace, &at, &member)) {
        len += (size_t) snprintf(text + len, sizeof(text) - len, "%s%.*s=%.*s", len != 0 ? "," : "",
                                 (int) member.key.len, member.key.data, (int) member.value.len,
                                 member.value.data);
    }
    return text;
}

/* What is sent on, "" if there is no header. */
static const char *
sent(const es_trace_t *trace)
{
    static const uint8_t span_id[ES_SPAN_ID_LEN] = {1};
    static char text[16384];
    es_header_t headers[ES_INJECT_MAX];
    unsigned count = es_trace_inject(trace, span_id, headers);

    assert_true(count <= 1);
    text[0] = '\0';
    if (count != 0) {
        unit_assert_str(headers[0].name, "baggage");
        snprintf(text, sizeof(text), "%.*s", (int) headers[0].value.len, headers[0].value.data);
    }
    return text;
}

/* --------------------------------------------------------------- members --- */

#define B(value)             \
    {                        \
        {                    \
            "baggage", value \
        }                    \
    }
#define FFFD "\xef\xbf\xbd"

static void
members(void **state)
{
    /* clang-format off */
    static const struct {
        const char *about;
        unit_field_t fields[3];
        const char *members;
    } rows[] = {
        {"the specification's", B("userId=Am%C3%A9lie,serverNode=DF%2028;meta=1,isProduction=false"),
         "userId=Am\xc3\xa9lie,serverNode=DF 28,isProduction=false"},
        {"whitespace", B(" a \t= 1\t;\tp = 2 ; q\t,\t b=2 "), "a=1,b=2"},
        {"properties", B("a=1;p;q=2;r=%20,b=2;x"), "a=1,b=2"},
        {"empty value", B("a=,b= ;p"), "a=,b="},
        {"= in a value", B("a=b=c"), "a=b=c"},
        {"each byte of a value", B("a=!#$%&'()*+-./:<=>?@[]^_`{|}~"),
         "a=!#$%&'()*+-./:<=>?@[]^_`{|}~"},
        {"each byte of a key", B("!#$%&'*+-.^_`|~0aZ=1"), "!#$%&'*+-.^_`|~0aZ=1"},
        {"a key is not decoded", B("a%20b=1"), "a%20b=1"},
        {"keys have a case", B("a=1,A=2"), "a=1,A=2"},
        {"plus is a plus", B("a=b+c"), "a=b+c"},
        {"encoded", B("a=%61%2c%3B%3d%25%22"), "a=a,;=%\""},
        {"a percent that encodes nothing", B("a=100%,b=%4,c=%zz%41"), "a=100%,b=%4,c=%zzA"},
        {"no UTF-8", B("a=x%ffy,b=%C3,c=%ED%A0%80"),
         "a=x" FFFD "y,b=" FFFD ",c=" FFFD FFFD FFFD},
        {"a NUL ends no string", B("a=x%00y"), "a=x" FFFD "y"},
        {"a line's end begins no header", B("a=x%0d%0aX-Admin:%20y,b=%09%1F%7f%20"),
         "a=x" FFFD FFFD "X-Admin: y,b=" FFFD FFFD FFFD " "},
        {"several fields", {{"baggage", "a=1"}, {"Baggage", "b=2,c=3"}, {"BAGGAGE", "d=4"}},
         "a=1,b=2,c=3,d=4"},
        {"several, empty ones", {{"baggage", ""}, {"baggage", "b=2"}, {"baggage", " "}}, "b=2"},
        {"joined by httpd", B("a=1, b=2,c=3"), "a=1,b=2,c=3"},
        {"one key again", B("a=1,b=2,a=3"), "a=1,b=2,a=3"},
        {"one key again", {{"baggage", "a=1;p"}, {"baggage", "a=2"}, {"baggage", "aa=3,a=4"}},
         "a=1,a=2,aa=3,a=4"},
        {"empty members", B(",, a=1 ,\t,b=2,"), "a=1,b=2"},
        {"no value", B("a,b=2"), "b=2"},
        {"no key", B("=1,b=2"), "b=2"},
        {"no such key", B("a b=1,b=2,c\"=3,d/=4"), "b=2"},
        {"no such value", B("a=1 2,b=2,c=\"3\",d=\\,e=\x7f,f=\x01,g=\xc3\xa9"), "b=2"},
        {"no such property", B("a=1;,b=2,c=3;=4,d=4;p=1 2,e=5;p;\xc3"), "b=2"},
        {"a bad one hides no good one", B("a=1,a=\"2\""), "a=1"},
        {"empty", B(""), ""},
        {"nothing", {{NULL, NULL}}, ""},
    };
    /* clang-format on */
    const es_propagation_t propagation = propagation_of(NULL);

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_trace_t trace;

        unit_release(NULL);
        trace = unit_join(&propagation, ES_TRUST_ON, rows[i].fields, 3);
        if (strcmp(members_of(&trace), rows[i].members) != 0) {
            fail_msg("%s: \"%s\" instead of \"%s\"", rows[i].about, members_of(&trace),
                     rows[i].members);
        }
        assert_string_equal(sent(&trace), "");
    }
}

/* One field is borrowed, as long as it is within the limits. */
static void
borrowed(void **state)
{
    const es_propagation_t propagation = propagation_of(NULL);
    const unit_field_t field = {"baggage", "a=1, b=2"};
    es_trace_t trace;

    (void) state;
    unit_release(NULL);
    trace = unit_join(&propagation, ES_TRUST_ON, &field, 1);
    assert_ptr_equal(trace.baggage.data, unit_copies[0].data);
    assert_string_equal(members_of(&trace), "a=1,b=2");
    assert_int_equal(unit_allocated, 0);
}

/* ---------------------------------------------------------------- limits --- */

static unsigned
count_of(const char *members)
{
    unsigned count = members[0] != '\0';

    for (; *members != '\0'; members++) {
        count += *members == ',';
    }
    return count;
}

/* 64 members of all fields together; what is no member does not count. */
static void
limit_of_members(void **state)
{
    const es_propagation_t propagation = propagation_of(NULL);
    char text[2][1024] = {"", ""};

    (void) state;
    for (unsigned total = 62; total <= 70; total++) {
        for (unsigned split = 0; split <= 40; split += 20) {
            unit_field_t fields[2] = {{"baggage", text[0]}, {"baggage", text[1]}};
            es_trace_t trace;

            text[0][0] = text[1][0] = '\0';
            for (unsigned i = 0; i < total; i++) {
                char *part = text[i >= split];

                snprintf(part + strlen(part), 16, "k%02u=%u,%s", i, i, i % 8 == 0 ? "bad," : "");
            }
            unit_release(NULL);
            trace = unit_join(&propagation, ES_TRUST_ON, fields, 2);
            assert_int_equal(count_of(members_of(&trace)), total < 64 ? total : 64);
            assert_memory_equal(members_of(&trace), "k00=0,", 6);
        }
    }
}

/* 8192 bytes, commas counted, and never a part of a member. */
static void
limit_of_bytes(void **state)
{
    enum { FIRST = 8000 };
    static const struct {
        size_t second;
        bool fits;
    } rows[] = {{189, true}, {190, true}, {191, true}, {192, false}, {8000, false}};
    const es_propagation_t propagation = propagation_of(NULL), filter = propagation_of("b");
    static char text[2 * ES_BAGGAGE_MAX + 2], second[ES_BAGGAGE_MAX];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        unit_field_t one = {"baggage", text}, two[] = {{"baggage", text}, {"baggage", second}};
        es_trace_t trace;

        memset(text, 'x', FIRST);
        memcpy(text, "a=", 2);
        memset(second, 'y', rows[i].second);
        memcpy(second, "b=", 2);
        second[rows[i].second] = '\0';

        text[FIRST] = '\0';
        unit_release(NULL);
        trace = unit_join(&propagation, ES_TRUST_ON, two, 2);
        assert_int_equal(trace.baggage.len, rows[i].fits ? FIRST + 1 + rows[i].second : FIRST);
        assert_int_equal(count_of(members_of(&trace)), rows[i].fits ? 2 : 1);

        snprintf(text + FIRST, sizeof(text) - FIRST, ",%s", second);
        trace = unit_join(&propagation, ES_TRUST_ON, &one, 1);
        assert_int_equal(trace.baggage.len, rows[i].fits ? FIRST + 1 + rows[i].second : FIRST);
        assert_int_equal(count_of(members_of(&trace)), rows[i].fits ? 2 : 1);

        trace = unit_join(&filter, ES_TRUST_ON, &one, 1);
        assert_string_equal(sent(&trace), rows[i].fits ? second : "");
    }
}

/* A comma behind the last byte that fits. */
static void
limit_and_comma(void **state)
{
    static char text[ES_BAGGAGE_MAX + 2];
    const es_propagation_t propagation = propagation_of(NULL);
    const unit_field_t fields[] = {{"baggage", text}, {"baggage", "b=2"}};

    (void) state;
    for (size_t len = ES_BAGGAGE_MAX - 6; len <= ES_BAGGAGE_MAX; len++) {
        bool fits = len + 2 + strlen("b=2") <= ES_BAGGAGE_MAX;
        es_trace_t trace;

        memset(text, 'x', len);
        memcpy(text, "a=", 2);
        strcpy(text + len, ",");
        unit_release(NULL);
        trace = unit_join(&propagation, ES_TRUST_ON, fields, 2);
        assert_true(trace.baggage.len <= ES_BAGGAGE_MAX);
        assert_int_equal(count_of(members_of(&trace)), fits ? 2 : 1);
    }
}

/* As many headers as a carrier holds, each as large as a server takes: what is kept
 * and what is written stays within the limits. */
static void
flood(void **state)
{
    enum { SIZE = 8192 };
    static const char *const texts[] = {"a=1,", ",", "a", "a=%ff", "a=1;p=2,", "=", "\xff"};
    static char value[SIZE + 16];
    const es_propagation_t propagation = propagation_of("a");

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(texts); i++) {
        unit_field_t fields[ES_CARRIER_MAX];
        es_trace_t trace;

        for (size_t at = 0; at < SIZE; at += strlen(texts[i])) {
            strcpy(value + at, texts[i]);
        }
        for (unsigned k = 0; k < ES_CARRIER_MAX; k++) {
            fields[k] = (unit_field_t){"baggage", value};
        }
        unit_release(NULL);
        trace = unit_join(&propagation, ES_TRUST_ON, fields, ES_CARRIER_MAX);
        assert_true(trace.baggage.len <= ES_BAGGAGE_MAX);
        assert_true(count_of(members_of(&trace)) <= ES_BAGGAGE_MEMBERS_MAX);
        assert_true(strlen(sent(&trace)) <= ES_BAGGAGE_MAX);
        assert_true(count_of(sent(&trace)) <= ES_BAGGAGE_MEMBERS_MAX);
    }
}

/* ---------------------------------------------------------------- filter --- */

static void
filter(void **state)
{
    static const struct {
        const char *allow;
        unit_field_t fields[2];
        const char *sent;
    } rows[] = {
        {"a", B("a=1,b=2"), "a=1"},
        {"b", B("a=1,b=2"), "b=2"},
        {"a c", B("a=1,b=2,c=3"), "a=1,c=3"},
        {"c a", B("a=1,b=2,c=3"), "a=1,c=3"},
        {"A", B("a=1"), ""},
        {"none", B("a=1,none=2"), ""},
        {"x", B("a=1"), ""},
        {"a", B(""), ""},

        /* As it came, but for blanks. */
        {"a", B(" a = %41%ff ;\tp = 1;q , b=2"), "a=%41%ff;p=1;q"},
        {"a", B("a=1,a=2"), "a=1,a=2"},

        /* What is no member does not pass. */
        {"a", B("a=1,a=\"2\",a"), "a=1"},

        /* One header of several. */
        {"a b", {{"baggage", "a=1,x=1"}, {"baggage", "y=1,b=2"}}, "a=1,b=2"},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        const es_propagation_t propagation = propagation_of(rows[i].allow);
        es_trace_t trace;

        unit_release(NULL);
        trace = unit_join(&propagation, ES_TRUST_ON, rows[i].fields, 2);
        if (strcmp(sent(&trace), rows[i].sent) != 0) {
            fail_msg("%s of \"%s\": \"%s\"", rows[i].allow, rows[i].fields[0].value, sent(&trace));
        }
        assert_true(es_trace_removes(&trace, ES_STR("Baggage")));
    }
}

/* The filter writes into the same memory as the other formats. */
static void
filter_beside_others(void **state)
{
    static const char *const names[] = {"b3 baggage jaeger", "baggage b3 jaeger"};
    const unit_field_t fields[] = {{"b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"},
                                   {"baggage", "a=1,b=2,c=3"}};
    static const uint8_t span_id[ES_SPAN_ID_LEN] = {1};
    static const es_str_t keys[] = {{"a", 1}, {"b", 1}, {"c", 1}};

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(names); i++) {
        es_propagation_t propagation = unit_propagation(names[i]);
        es_header_t headers[ES_INJECT_MAX];
        es_error_t error;
        es_trace_t trace;

        assert_true(es_propagation_allow(&propagation, keys, UNIT_COUNT(keys), &error));
        unit_release(NULL);
        trace = unit_join(&propagation, ES_TRUST_ON, fields, 2);
        assert_int_equal(es_trace_inject(&trace, span_id, headers), 3);
        unit_assert_str(headers[i == 0].value, "a=1,b=2,c=3");
        unit_assert_str(headers[i != 0].value,
                        "80f198ee56343ba864fe8b2a57d3eff7-0100000000000000-1");
        unit_assert_str(headers[2].value, "80f198ee56343ba864fe8b2a57d3eff7:0100000000000000:0:1");
        assert_int_equal(unit_allocated, 1);
    }
}

/* ------------------------------------------------- variables, attributes --- */

static void
variables(void **state)
{
    static const struct {
        const char *baggage, *name, *value; /* NULL: there is none */
    } rows[] = {
        {"userId=7", "userid", "7"},
        {"userId=7", "USERID", "7"},
        {"userId=7", "user", NULL},
        {"userId=7", "userid2", NULL},
        {"user.id=7", "user_id", "7"},
        {"user-id=7", "USER_ID", "7"},
        {"user_id=7", "user_id", "7"},
        {"userxid=7", "user_id", NULL},
        {"a=1,b=2", "b", "2"},
        {"a=1,b=2,a=3", "a", "3"},
        {"a.b=1,a-b=2", "a_b", "2"},
        {"a=", "a", ""},
        {"a=x%20y;p", "a", "x y"},
        {"a=%ff", "a", FFFD},
        {"", "a", NULL},
        {"a=1", "", NULL},
    };
    const es_propagation_t propagation = propagation_of("x");

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        const unit_field_t field = {"baggage", rows[i].baggage};
        es_str_t value = ES_STR_NONE;
        es_trace_t trace;

        unit_release(NULL);
        trace = unit_join(&propagation, ES_TRUST_ON, &field, 1);
        assert_int_equal(es_trace_baggage_variable(&trace, es_cstr(rows[i].name), &value),
                         rows[i].value != NULL);
        unit_assert_str(value, rows[i].value != NULL ? rows[i].value : "");
    }
}

static void
attributes(void **state)
{
    static const es_str_t words[] = {{"tenant", 6}, {"user", 4}, {"plan", 4}, {"tenant", 6}};
    static const es_names_t keys = {words, UNIT_COUNT(words)}, none = {NULL, 0};
    const es_propagation_t propagation = propagation_of("other");
    const unit_field_t field = {"baggage", "user=1,Tenant=x,tenant=a%20b,plan=p,user=2,other=3"};
    es_attribute_t list[2 + UNIT_COUNT(words)];
    es_trace_t trace;

    (void) state;
    unit_release(NULL);

    /* What is behind those that are there may be any memory. */
    memset(list, 0xa5, sizeof(list));
    list[0] = (es_attribute_t){.key = ES_STR("plan"), .value = ES_STR("mine")};
    list[1] = (es_attribute_t){.key = ES_STR("x"), .value = ES_STR("y")};
    trace = unit_join(&propagation, ES_TRUST_ON, &field, 1);
    assert_int_equal(es_trace_baggage_attributes(&trace, &none, list, 2), 2);
    assert_int_equal(es_trace_baggage_attributes(&trace, &keys, list, 2), 4);
    unit_assert_str(list[0].value, "mine");
    unit_assert_str(list[1].value, "y");
    unit_assert_str(list[2].key, "user");
    unit_assert_str(list[2].value, "2");
    unit_assert_str(list[3].key, "tenant");
    unit_assert_str(list[3].value, "a b");
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(list[i].type, ES_ATTRIBUTE_STRING);
    }
}

/* Without memory a value that needs writing is not there, and nothing else happens. */
static void
no_memory(void **state)
{
    const es_propagation_t propagation = propagation_of(NULL);
    const unit_field_t fields[] = {{"baggage", "a=%41,b=2,c=%ff"}, {"baggage", "d=4"}};
    static const es_str_t words[] = {{"a", 1}, {"b", 1}};
    static const es_names_t keys = {words, 2};
    es_attribute_t list[2];
    es_str_t value;
    es_trace_t trace;

    (void) state;
    unit_release(NULL);
    trace = unit_join(&propagation, ES_TRUST_ON, fields, 1);
    unit_allocations_left = 0;
    assert_string_equal(members_of(&trace), "b=2");
    assert_false(es_trace_baggage_variable(&trace, ES_STR("a"), &value));
    assert_true(es_trace_baggage_variable(&trace, ES_STR("b"), &value));
    assert_int_equal(es_trace_baggage_attributes(&trace, &keys, list, 0), 1);
    unit_assert_str(list[0].key, "b");

    /* The second of the two that an invalid value needs. */
    unit_allocations_left = 1;
    assert_false(es_trace_baggage_variable(&trace, ES_STR("c"), &value));

    unit_allocations_left = 0;
    trace = unit_join(&propagation, ES_TRUST_ON, fields, 2);
    assert_int_equal(trace.baggage.len, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members),          cmocka_unit_test(borrowed),
        cmocka_unit_test(limit_of_members), cmocka_unit_test(limit_of_bytes),
        cmocka_unit_test(limit_and_comma),  cmocka_unit_test(flood),
        cmocka_unit_test(filter),           cmocka_unit_test(filter_beside_others),
        cmocka_unit_test(variables),        cmocka_unit_test(attributes),
        cmocka_unit_test(no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, unit_release);
}
