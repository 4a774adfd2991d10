/* The words of every value. */

#include "es_clock.h"
#include "es_config.h"
#include "es_redaction.h"
#include "es_utf8.h"

typedef struct es_unit {
    const char *name;
    uint64_t factor;
} es_unit_t;

static bool
parse_units(es_str_t text, const es_unit_t *units, uint64_t *value)
{
    size_t digits = 0;
    es_str_t unit;

    while (digits < text.len && text.data[digits] >= '0' && text.data[digits] <= '9') {
        digits++;
    }
    if (!es_parse_uint(es_str(text.data, digits), value)) {
        return false;
    }
    unit = es_str_from(text, digits);

    for (; units->name != NULL; units++) {
        if (es_str_ieq(unit, es_cstr(units->name))) {
            return !__builtin_mul_overflow(*value, units->factor, value);
        }
    }
    return false;
}

bool
es_parse_time(es_str_t text, uint64_t *ns)
{
    static const es_unit_t units[] = {
        {"", ES_SECOND},       {"ms", ES_MS},           {"s", ES_SECOND},
        {"m", 60 * ES_SECOND}, {"h", 3600 * ES_SECOND}, {NULL, 0},
    };

    return parse_units(text, units, ns);
}

bool
es_parse_size(es_str_t text, uint64_t *bytes)
{
    static const es_unit_t units[] = {
        {"", 1},
        {"k", UINT64_C(1) << 10},
        {"m", UINT64_C(1) << 20},
        {"g", UINT64_C(1) << 30},
        {"t", UINT64_C(1) << 40},
        {NULL, 0},
    };

    return parse_units(text, units, bytes);
}

bool
es_is_true(es_str_t text)
{
    return es_str_eq(text, ES_STR("1")) || es_str_ieq(text, ES_STR("on"))
           || es_str_ieq(text, ES_STR("true"));
}

bool
es_check_attribute_key(es_str_t key, es_error_t *error)
{
    if (key.len == 0 || es_utf8_measure(key, key.len).size != key.len) {
        return es_fail(error,
                       "invalid attribute \"%.*s\": its name is to be valid UTF-8, not empty",
                       ES_ARG(key));
    }
    return true;
}

bool
es_parse_trace_context(es_str_t text, unsigned *mode, es_error_t *error)
{
    static const struct {
        es_str_t name;
        unsigned mode;
    } modes[] = {
        {{"propagate", 9}, ES_CONTEXT_PROPAGATE},
        {{"extract", 7}, ES_CONTEXT_EXTRACT},
        {{"inject", 6}, ES_CONTEXT_INJECT},
        {{"ignore", 6}, ES_CONTEXT_IGNORE},
    };

    for (size_t i = 0; i < ES_COUNT(modes); i++) {
        if (es_str_ieq(text, modes[i].name)) {
            *mode = modes[i].mode;
            return true;
        }
    }
    return es_fail(error,
                   "invalid trace context mode \"%.*s\": it is \"propagate\", \"extract\", "
                   "\"inject\" or \"ignore\"",
                   ES_ARG(text));
}

bool
es_attribute_type(es_config_t *config, es_str_t key, es_str_t word, es_attribute_type_t *type,
                  es_error_t *error)
{
    static const struct {
        es_str_t name;
        es_attribute_type_t type;
    } types[] = {
        {{"string", 6}, ES_ATTRIBUTE_STRING}, {{"int", 3}, ES_ATTRIBUTE_INT},
        {{"double", 6}, ES_ATTRIBUTE_DOUBLE}, {{"bool", 4}, ES_ATTRIBUTE_BOOL},
        {{"hash", 4}, ES_ATTRIBUTE_HASH},
    };

    if (word.data == NULL) {
        bool header =
            es_str_starts(key, ES_REQUEST_HEADER) || es_str_starts(key, ES_RESPONSE_HEADER);

        *type = header ? ES_ATTRIBUTE_STRINGS : ES_ATTRIBUTE_STRING;
        return true;
    }
    for (size_t i = 0; i < ES_COUNT(types); i++) {
        if (es_str_ieq(word, types[i].name)) {
            *type = types[i].type;
            config->hashes |= *type == ES_ATTRIBUTE_HASH;
            return true;
        }
    }
    return es_fail(error,
                   "invalid attribute type \"%.*s\": it is \"string\", \"int\", \"double\", "
                   "\"bool\" or \"hash\"",
                   ES_ARG(word));
}
