/* The exporter's options as one table, and the words of every value. */

#include "es_clock.h"
#include "es_config.h"
#include "es_utf8.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

/* --------------------------------------------------------------- values --- */

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
        {"", 1},   {"k", UINT64_C(1) << 10}, {"m", UINT64_C(1) << 20}, {"g", UINT64_C(1) << 30},
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

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
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

/* -------------------------------------------------------------- options --- */

typedef enum es_option_type {
    OPTION_STRING,
    OPTION_ENDPOINT,
    OPTION_TIME,
    OPTION_SIZE,
    OPTION_COUNT,
    OPTION_IGNORED,
} es_option_type_t;

typedef struct es_option {
    const char *name;
    es_option_type_t type;
    size_t offset; /* in es_exporter_config_t */
    uint64_t min, max;
    const char *right; /* what would be right */
} es_option_t;

#define AT(field) offsetof(es_exporter_config_t, field)

static const es_option_t options[] = {
    {"endpoint", OPTION_ENDPOINT, 0, 0, 0, "a URL"},
    {"protocol", OPTION_STRING, AT(protocol_name), 0, 0, "a protocol"},
    {"interval", OPTION_TIME, AT(interval_ns), 10 * ES_MS, 3600 * ES_SECOND,
     "a time from 10ms to 1h"},
    {"timeout", OPTION_TIME, AT(timeout_ns), 10 * ES_MS, 600 * ES_SECOND,
     "a time from 10ms to 10m"},
    {"shutdown_timeout", OPTION_TIME, AT(shutdown_timeout_ns), 0, 60 * ES_SECOND,
     "a time from 0 to 60s"},
    {"batch_size", OPTION_COUNT, AT(batch_size), 1, 65536, "a number of spans from 1 to 65536"},
    {"queue_size", OPTION_SIZE, AT(queue_size), 1 << 20, UINT64_C(64) << 30,
     "a size from 1m to 64g"},
    {"batch_count", OPTION_IGNORED, 0, 0, 0, ""},
};

static bool
set_string(char **field, const es_option_t *option, es_str_t value, es_error_t *error)
{
    if (value.len == 0) {
        return es_fail(error, "empty \"%s\": it takes %s", option->name, option->right);
    }
    free(*field);
    if ((*field = es_str_dup(value)) == NULL) {
        return es_fail(error, "no memory");
    }
    return true;
}

/* The only option that may be repeated: the next is for when those before fail. */
static bool
add_endpoint(es_exporter_config_t *exporter, const es_option_t *option, es_str_t value,
             es_error_t *error)
{
    if (exporter->targets_count == ES_ENDPOINTS_MAX) {
        return es_fail(error, "more than %d endpoints in one exporter", ES_ENDPOINTS_MAX);
    }
    if (!set_string(&exporter->targets[exporter->targets_count].endpoint, option, value, error)) {
        return false;
    }
    exporter->targets_count++;
    return true;
}

static bool
set_number(uint64_t *field, const es_option_t *option, es_str_t value, es_error_t *error)
{
    uint64_t number;
    bool ok = option->type == OPTION_TIME   ? es_parse_time(value, &number)
              : option->type == OPTION_SIZE ? es_parse_size(value, &number)
                                            : es_parse_uint(value, &number);

    if (!ok || number < option->min || number > option->max) {
        return es_fail(error, "invalid value \"%.*s\" of \"%s\": it takes %s", ES_ARG(value),
                       option->name, option->right);
    }
    *field = number;
    return true;
}

bool
es_exporter_option(es_exporter_config_t *exporter, es_str_t name, es_str_t value, es_error_t *error)
{
    char known[256] = "";
    size_t at = 0;

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        const es_option_t *option = &options[i];
        void *field = (char *) exporter + option->offset;

        at += (size_t) snprintf(known + at, sizeof(known) - at, "%s%s", i != 0 ? ", " : "",
                                option->name);
        if (!es_str_eq(name, es_cstr(option->name))) {
            continue;
        }
        if (option->type == OPTION_ENDPOINT) {
            return add_endpoint(exporter, option, value, error);
        }
        if (exporter->given & 1u << i) {
            return es_fail(error, "\"%s\" is given twice in one exporter", option->name);
        }
        exporter->given |= 1u << i;

        if (option->type == OPTION_IGNORED) {
            es_config_log(exporter->config, ES_LOG_NOTICE,
                          "\"%s\" is accepted and ignored: the queue is bounded by "
                          "\"queue_size\" alone",
                          option->name);
            return true;
        }
        return option->type == OPTION_STRING ? set_string(field, option, value, error)
                                             : set_number(field, option, value, error);
    }
    return es_fail(error, "unknown exporter option \"%.*s\": there are %s and header", ES_ARG(name),
                   known);
}

/* RFC 9110, 5.6.2. */
static bool
is_token(es_str_t s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
              || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL))) {
            return false;
        }
    }
    return s.len != 0;
}

static bool
is_field_value(es_str_t s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char) s.data[i] < 0x20 && s.data[i] != '\t') {
            return false;
        }
    }
    return true;
}

bool
es_exporter_header(es_exporter_config_t *exporter, es_str_t name, es_str_t value, es_error_t *error)
{
    char *line;

    if (!is_token(name) || !is_field_value(value)) {
        return es_fail(error,
                       "invalid header \"%.*s\": it takes a header name and a value without "
                       "control characters",
                       ES_ARG(name));
    }
    if (exporter->headers_count == ES_EXPORTER_HEADERS_MAX) {
        return es_fail(error, "more than %d headers", ES_EXPORTER_HEADERS_MAX);
    }
    if ((line = malloc(name.len + value.len + 3)) == NULL) {
        return es_fail(error, "no memory");
    }

    /* curl takes "Name;" for a header with an empty value. */
    if (value.len == 0) {
        sprintf(line, "%.*s;", (int) name.len, name.data);
    } else {
        sprintf(line, "%.*s: %.*s", (int) name.len, name.data, (int) value.len, value.data);
    }
    exporter->headers[exporter->headers_count++] = line;
    return true;
}

static bool
was_given(const es_exporter_config_t *exporter, const char *name)
{
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (strcmp(options[i].name, name) == 0) {
            return (exporter->given & 1u << i) != 0;
        }
    }
    return false;
}

bool
es_exporter_finish(es_exporter_config_t *exporter, es_error_t *error)
{
    exporter->batch_size_given = was_given(exporter, "batch_size");
    if (exporter->targets_count == 0) {
        return es_fail(error, "the exporter has no \"endpoint\": give one, as "
                              "http://127.0.0.1:4318/v1/traces or file:///var/log/spans.jsonl");
    }
    return es_endpoint_resolve(exporter, error);
}
