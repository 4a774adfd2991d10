/* The caller's baggage, a header field a line; the first line has the keys that are
 * sent on and copied. What is shown of it is decoded, valid and bounded, what is sent
 * on is what was allowed. */

#include "fuzz_server.h"

#include "es_baggage.h"

#define KEYS_MAX 16
#define ATTRIBUTES_MAX (1 + ES_BAGGAGE_MEMBERS_MAX)

static fuzz_server_t server;

/* As a server's variable has it. */
static es_str_t
variable_of(fuzz_t *fuzz, es_str_t key)
{
    char *name = fuzz_cstr(fuzz, key);

    for (char *c = name; *c != '\0'; c++) {
        if (!(*c >= '0' && *c <= '9') && !(*c >= 'a' && *c <= 'z') && !(*c >= 'A' && *c <= 'Z')) {
            *c = '_';
        }
    }
    return es_cstr(name);
}

static bool
has_control(es_str_t text)
{
    for (size_t i = 0; i < text.len; i++) {
        if ((uint8_t) text.data[i] < 0x20 || text.data[i] == 0x7f) {
            return true;
        }
    }
    return false;
}

static void
check_members(fuzz_t *fuzz, const es_trace_t *trace)
{
    es_attribute_t member;
    unsigned members = 0;
    es_error_t error;
    es_str_t value;
    size_t at = 0;

    while (es_trace_baggage_next(trace, &at, &member)) {
        fuzz_assert(es_check_baggage_key(member.key, &error));
        fuzz_assert(fuzz_is_within(member.key, trace->baggage) && at <= trace->baggage.len);
        fuzz_assert(fuzz_is_utf8(member.value) && !has_control(member.value));
        fuzz_assert(fuzz->left == 0 || ++members <= ES_BAGGAGE_MEMBERS_MAX);
        if (es_trace_baggage_variable(trace, variable_of(fuzz, member.key), &value)) {
            fuzz_assert(fuzz_is_utf8(value) && !has_control(value));
        }
    }
}

static void
check_attributes(const es_trace_t *trace, const es_names_t *keys)
{
    es_attribute_t attributes[ATTRIBUTES_MAX] = {{.key = ES_STR("first"), .value = ES_STR("mine")}};
    unsigned count = es_trace_baggage_attributes(trace, keys, attributes, 1);

    fuzz_assert(count >= 1 && count <= 1 + keys->count);
    fuzz_assert(es_str_eq(attributes[0].value, ES_STR("mine")));
    for (unsigned i = 1; i < count; i++) {
        fuzz_assert(es_names_have(keys, attributes[i].key) && fuzz_is_utf8(attributes[i].value));
        for (unsigned j = 0; j < i; j++) {
            fuzz_assert(!es_str_eq(attributes[i].key, attributes[j].key));
        }
    }
}

/* But for blanks. */
static bool
same_text(es_str_t mine, es_str_t theirs)
{
    for (size_t i = 0; i < theirs.len; i++) {
        if (theirs.data[i] != ' ' && theirs.data[i] != '\t') {
            if (mine.len == 0 || mine.data[0] != theirs.data[i]) {
                return false;
            }
            mine = es_str_from(mine, 1);
        }
    }
    return mine.len == 0;
}

/* Member by member what the caller sent, and nothing else. */
static void
check_sent(const es_trace_t *trace, const es_names_t *allowed)
{
    static const uint8_t span_id[ES_SPAN_ID_LEN] = {1};
    es_str_t sent, list = trace->baggage;
    es_header_t headers[ES_INJECT_MAX];
    es_member_t mine, theirs;

    if (es_trace_inject(trace, span_id, headers) == 0) {
        return;
    }
    sent = headers[0].value;
    fuzz_assert(es_str_eq(headers[0].name, ES_STR("baggage")) && fuzz_is_printable(sent));
    fuzz_assert(sent.len <= ES_BAGGAGE_MAX);
    while (es_baggage_next(&list, &theirs)) {
        if (es_names_have(allowed, theirs.key)) {
            fuzz_assert(es_baggage_next(&sent, &mine) && same_text(mine.text, theirs.text));
        }
    }
    fuzz_assert(sent.len == 0);
}

static void
fuzz(fuzz_t *fuzz)
{
    es_str_t words[KEYS_MAX], propagator = ES_STR("baggage");
    es_propagation_t propagation = {0};
    es_carrier_t carrier;
    es_trace_t trace;
    es_error_t error;
    es_names_t keys;

    if (server.config == NULL) {
        fuzz_server_config(&server);
        fuzz_server_generate(&server);
    }
    keys = (es_names_t){words, fuzz_words(fuzz, fuzz_line(fuzz), words, KEYS_MAX)};
    fuzz_assert(es_propagation_set(&propagation, &propagator, 1, &error));
    (void) !es_propagation_allow(&propagation, words, keys.count, &error);

    es_trace_init(&trace, &server.provider, &(es_pool_t){fuzz_pool_alloc, fuzz});
    es_carrier_init(&carrier, &trace, &propagation);
    while (fuzz_more(fuzz)) {
        es_carrier_add(&carrier, ES_STR("Baggage"), fuzz_line(fuzz));
    }
    es_trace_join(&trace, &propagation, ES_TRUST_ON, &carrier);
    fuzz_assert(trace.baggage.len <= ES_BAGGAGE_MAX);
    check_members(fuzz, &trace);
    check_attributes(&trace, &keys);
    check_sent(&trace, trace.allow != NULL ? trace.allow : &(es_names_t){0});
}
