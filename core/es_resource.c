/* The resources: who made the spans (OpenTelemetry, "Resource"). */

#include "es_config.h"
#include "es_utf8.h"

#include <stdlib.h>

#define SERVICE_NAME "service.name"

/* ----------------------------------------------------- configuration --- */

/* What a person writes is refused where what a client sends is mended. */
static bool
is_utf8(es_str_t s)
{
    return es_utf8_measure(s, s.len).size == s.len;
}

static bool
set_name(char **field, es_str_t name, es_error_t *error)
{
    if (name.len == 0 || name.len > 255 || !is_utf8(name)) {
        return es_fail(error, "a service name has 1 to 255 characters of valid UTF-8");
    }
    free(*field);
    *field = es_str_dup(name);
    return *field != NULL || es_fail(error, "no memory");
}

bool
es_config_service_name(es_config_t *config, es_str_t name, es_error_t *error)
{
    return set_name(&config->resources[0].service_name, name, error);
}

bool
es_config_resource(es_config_t *config, es_str_t service_name, uint16_t *index, es_error_t *error)
{
    unsigned i;

    *index = 0;
    if (service_name.len == 0) {
        return true;
    }
    for (i = 0; i < config->resources_count; i++) {
        if (es_str_eq(service_name, es_cstr(config->resources[i].service_name))) {
            *index = (uint16_t) i;
            return true;
        }
    }
    if (i == ES_RESOURCES_MAX) {
        return es_fail(error, "more than %d service names", ES_RESOURCES_MAX);
    }
    if (!set_name(&config->resources[i].service_name, service_name, error)) {
        return false;
    }
    *index = (uint16_t) i;
    config->resources_count++;
    return true;
}

static const es_resource_attribute_t *
find_attribute(const es_config_t *config, es_str_t key)
{
    for (unsigned i = 0; i < config->attributes_count; i++) {
        if (es_str_eq(key, es_cstr(config->attributes[i].key))) {
            return &config->attributes[i];
        }
    }
    return NULL;
}

bool
es_config_resource_attribute(es_config_t *config, es_str_t key, es_str_t value, es_error_t *error)
{
    es_resource_attribute_t *attribute = (es_resource_attribute_t *) find_attribute(config, key);
    char *copy;

    if (key.len == 0 || !is_utf8(key) || !is_utf8(value)) {
        return es_fail(error, "a resource attribute takes a name and a value of valid UTF-8");
    }
    if (attribute == NULL && config->attributes_count == ES_RESOURCE_ATTRIBUTES_MAX) {
        return es_fail(error, "more than %d resource attributes", ES_RESOURCE_ATTRIBUTES_MAX);
    }
    if ((copy = es_str_dup(value)) == NULL) {
        return es_fail(error, "no memory");
    }
    if (attribute == NULL) {
        attribute = &config->attributes[config->attributes_count];
        if ((attribute->key = es_str_dup(key)) == NULL) {
            free(copy);
            return es_fail(error, "no memory");
        }
        config->attributes_count++;
    }
    free(attribute->value);
    attribute->value = copy;
    return true;
}

void
es_resources_dispose(es_config_t *config)
{
    for (unsigned i = 0; i < config->resources_count; i++) {
        free(config->resources[i].service_name);
        free(config->resources[i].packed);
    }
    for (unsigned i = 0; i < config->attributes_count; i++) {
        free(config->attributes[i].key);
        free(config->attributes[i].value);
    }
}

/* ------------------------------------------------------- environment --- */

/* Percent-decodes in place; false on a bad escape. */
static bool
percent_decode(char *text)
{
    char *out = text;

    for (const char *in = text; *in != '\0'; in++) {
        if (*in != '%') {
            *out++ = *in;
            continue;
        }
        char digits[2];
        uint8_t byte;

        for (int i = 0; i < 2; i++) {
            if ((digits[i] = in[i + 1]) == '\0') {
                return false;
            }
            if (digits[i] >= 'A' && digits[i] <= 'F') {
                digits[i] = (char) (digits[i] - 'A' + 'a');
            }
        }
        if (!es_unhex(&byte, digits, 1) || byte == 0) {
            return false;
        }
        *out++ = (char) byte;
        in += 2;
    }
    *out = '\0';
    return true;
}

/* One pass checks, a second one adds: any error discards the whole variable
 * (OpenTelemetry resource SDK, "Specifying resource information via an
 * environment variable"). */
static bool
each_environment_attribute(es_config_t *config, bool add, es_error_t *error)
{
    es_str_t left = es_cstr(getenv("OTEL_RESOURCE_ATTRIBUTES"));

    while (left.len != 0) {
        size_t comma = es_str_find(left, ',');
        es_str_t pair = es_str_trim(es_str(left.data, comma));
        size_t equals = es_str_find(pair, '=');
        es_str_t key = es_str_trim(es_str(pair.data, equals));
        bool ok = pair.len == 0;

        if (key.len != 0 && equals < pair.len) {
            char *value = es_str_dup(es_str_trim(es_str_from(pair, equals + 1)));

            ok = value != NULL && percent_decode(value) && is_utf8(es_cstr(value)) && is_utf8(key);
            if (ok && add && find_attribute(config, key) == NULL) {
                ok = es_config_resource_attribute(config, key, es_cstr(value), error);
            }
            free(value);
        }
        if (!ok) {
            return false;
        }
        left = es_str_from(left, comma < left.len ? comma + 1 : comma);
    }
    return true;
}

static bool
add_environment(es_config_t *config, es_error_t *error)
{
    if (!each_environment_attribute(config, false, error)) {
        es_config_log(config, ES_LOG_WARN,
                      "OTEL_RESOURCE_ATTRIBUTES is ignored: it takes key=value pairs with commas "
                      "between them, values percent-encoded");
        return true;
    }
    return each_environment_attribute(config, true, error);
}

/* The directive, then its attribute form, then the environment in the same
 * order, then the default. */
static bool
choose_name(es_config_t *config, es_error_t *error)
{
    const es_resource_attribute_t *attribute = find_attribute(config, ES_STR(SERVICE_NAME));
    es_str_t name = es_cstr(config->resources[0].service_name);
    char fallback[300] = "unknown_service:";

    if (name.len == 0 && attribute != NULL) {
        name = es_cstr(attribute->value);
    }
    if (name.len == 0) {
        name = es_cstr(getenv("OTEL_SERVICE_NAME"));
        if (!is_utf8(name)) {
            es_config_log(config, ES_LOG_WARN, "OTEL_SERVICE_NAME is ignored: it is no UTF-8");
            name = ES_STR_NONE;
        }
    }
    if (!add_environment(config, error)) {
        return false;
    }
    if (name.len == 0 && (attribute = find_attribute(config, ES_STR(SERVICE_NAME))) != NULL) {
        name = es_cstr(attribute->value);
    }
    if (name.len == 0) {
        name = es_cstr(strncat(fallback, config->product, 255));
    }

    char *copy = es_str_dup(name);

    free(config->resources[0].service_name);
    config->resources[0].service_name = copy;
    return copy != NULL || es_fail(error, "no memory");
}

/* ------------------------------------------------------------ packing --- */

static bool
pack(const es_config_t *config, es_resource_t *resource)
{
    EsOtlp__KeyValue pairs[ES_RESOURCE_ATTRIBUTES_MAX + 4];
    EsOtlp__AnyValue values[ES_RESOURCE_ATTRIBUTES_MAX + 4];
    EsOtlp__KeyValue *list[ES_RESOURCE_ATTRIBUTES_MAX + 4];
    EsOtlp__Resource message = ES_OTLP__RESOURCE__INIT;
    const es_resource_attribute_t own[] = {
        {SERVICE_NAME, resource->service_name},
        {"telemetry.sdk.name", "edgespan"},
        {"telemetry.sdk.language", "c"},
        {"telemetry.sdk.version", EDGESPAN_VERSION},
    };
    size_t own_count = sizeof(own) / sizeof(own[0]), n = 0;

    for (size_t i = 0; i < own_count + config->attributes_count; i++) {
        const es_resource_attribute_t *attribute =
            i < own_count ? &own[i] : &config->attributes[i - own_count];

        /* service.name is chosen already; the rest of ours yields to the user's. */
        if (i >= own_count ? strcmp(attribute->key, SERVICE_NAME) == 0
                           : i > 0 && find_attribute(config, es_cstr(attribute->key)) != NULL) {
            continue;
        }
        es_otlp__key_value__init(&pairs[n]);
        es_otlp__any_value__init(&values[n]);
        values[n].value_case = ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE;
        values[n].string_value = attribute->value;
        pairs[n].key = attribute->key;
        pairs[n].value = &values[n];
        list[n] = &pairs[n];
        n++;
    }
    message.attributes = list;
    message.n_attributes = n;

    resource->packed_size = es_otlp__resource__get_packed_size(&message);
    if ((resource->packed = malloc(resource->packed_size)) == NULL) {
        return false;
    }
    es_otlp__resource__pack(&message, resource->packed);
    return true;
}

bool
es_resources_finish(es_config_t *config, es_error_t *error)
{
    if (!choose_name(config, error)) {
        return false;
    }
    for (unsigned i = 0; i < config->resources_count; i++) {
        if (!pack(config, &config->resources[i])) {
            return es_fail(error, "no memory");
        }
    }
    return true;
}
