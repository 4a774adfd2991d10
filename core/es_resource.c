/* The resources: who made the spans (OpenTelemetry, "Resource"). */

#include "es_detect.h"
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

#define NAME_RIGHT "a service name has 1 to 255 characters of valid UTF-8"

static bool
is_name(es_str_t name)
{
    return name.len != 0 && name.len <= 255 && is_utf8(name);
}

static bool
set_name(char **field, es_str_t name, es_error_t *error)
{
    if (!is_name(name)) {
        return es_fail(error, NAME_RIGHT);
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
    es_detected_dispose(config);
}

void
es_detected_dispose(es_config_t *config)
{
    for (unsigned i = 0; i < config->detected_count; i++) {
        free(config->detected[i].key);
        free(config->detected[i].value);
    }
    memset(config->detected, 0, sizeof(config->detected));
    config->detected_count = 0;
}

/* ------------------------------------------------------- environment --- */

/* One pass checks, a second one adds: any error discards the whole variable
 * (OpenTelemetry resource SDK, "Specifying resource information via an
 * environment variable"). */
static bool
each_environment_attribute(es_config_t *config, bool add, es_error_t *error)
{
    es_str_t left = es_environment_get("OTEL_RESOURCE_ATTRIBUTES");

    while (left.len != 0) {
        es_str_t pair = es_str_trim(es_str_take(&left, ','));
        size_t equals = es_str_find(pair, '=');
        char *name = es_str_dup(es_str_trim(es_str(pair.data, equals)));
        es_str_t key = name != NULL && es_percent_decode(name) ? es_cstr(name) : ES_STR_NONE;
        bool ok = pair.len == 0;

        if (key.len != 0 && equals < pair.len) {
            char *value = es_str_dup(es_str_trim(es_str_from(pair, equals + 1)));

            ok = value != NULL && es_percent_decode(value) && is_utf8(es_cstr(value))
                 && is_utf8(key);
            if (ok && add && find_attribute(config, key) == NULL) {
                ok = es_config_resource_attribute(config, key, es_cstr(value), error);
            }
            free(value);
        }
        free(name);
        if (!ok) {
            return false;
        }
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
    if (!each_environment_attribute(config, true, error)) {
        es_config_log(config, ES_LOG_WARN, "OTEL_RESOURCE_ATTRIBUTES is cut short: %s",
                      error->text);
    }
    return true;
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
        name = es_environment_get("OTEL_SERVICE_NAME");
        if (name.len != 0 && !is_name(name)) {
            es_config_log(config, ES_LOG_WARN, "OTEL_SERVICE_NAME is ignored: " NAME_RIGHT);
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

#define PAIRS_MAX (6 + ES_RESOURCE_ATTRIBUTES_MAX + ES_DETECTED_MAX)

typedef struct es_pairs {
    EsOtlp__KeyValue pairs[PAIRS_MAX];
    EsOtlp__AnyValue values[PAIRS_MAX];
    EsOtlp__KeyValue *list[PAIRS_MAX];
    size_t count;
} es_pairs_t;

static void
add_pair(es_pairs_t *pairs, const es_resource_attribute_t *attribute)
{
    EsOtlp__KeyValue *pair = &pairs->pairs[pairs->count];
    EsOtlp__AnyValue *value = &pairs->values[pairs->count];

    es_otlp__key_value__init(pair);
    es_otlp__any_value__init(value);
    if (attribute->value != NULL) {
        value->value_case = ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE;
        value->string_value = attribute->value;
    } else {
        value->value_case = ES_OTLP__ANY_VALUE__VALUE_INT_VALUE;
        value->int_value = attribute->number;
    }
    pair->key = attribute->key;
    pair->value = value;
    pairs->list[pairs->count++] = pair;
}

/* What nobody else has given. */
static void
add_pairs(const es_config_t *config, es_pairs_t *pairs, const es_resource_attribute_t *attributes,
          size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (find_attribute(config, es_cstr(attributes[i].key)) == NULL) {
            add_pair(pairs, &attributes[i]);
        }
    }
}

static bool
pack(const es_config_t *config, es_resource_t *resource)
{
    EsOtlp__Resource message = ES_OTLP__RESOURCE__INIT;
    const es_resource_attribute_t name = {SERVICE_NAME, resource->service_name, 0};
    const es_resource_attribute_t own[] = {
        {"telemetry.sdk.name", "edgespan", 0},
        {"telemetry.sdk.language", "c", 0},
        {"telemetry.sdk.version", EDGESPAN_VERSION, 0},
        {"telemetry.distro.name", "edgespan", 0},
        {"telemetry.distro.version", EDGESPAN_VERSION, 0},
    };
    es_pairs_t pairs;
    uint8_t *packed;

    pairs.count = 0;
    add_pair(&pairs, &name);
    add_pairs(config, &pairs, own, sizeof(own) / sizeof(own[0]));
    for (unsigned i = 0; i < config->attributes_count; i++) {
        if (strcmp(config->attributes[i].key, SERVICE_NAME) != 0) {
            add_pair(&pairs, &config->attributes[i]);
        }
    }
    add_pairs(config, &pairs, config->detected, config->detected_count);
    message.attributes = pairs.list;
    message.n_attributes = pairs.count;

    resource->packed_size = es_otlp__resource__get_packed_size(&message);
    if ((packed = malloc(resource->packed_size)) == NULL) {
        return false;
    }
    es_otlp__resource__pack(&message, packed);
    free(resource->packed);
    resource->packed = packed;
    return true;
}

static bool
pack_all(es_config_t *config, es_error_t *error)
{
    for (unsigned i = 0; i < config->resources_count; i++) {
        if (!pack(config, &config->resources[i])) {
            return es_fail(error, "no memory");
        }
    }
    return true;
}

bool
es_resources_finish(es_config_t *config, es_error_t *error)
{
    if (!choose_name(config, error)) {
        return false;
    }
    es_detect(config, "");
    return pack_all(config, error);
}

bool
es_config_pid(es_config_t *config, pid_t pid, es_error_t *error)
{
    for (unsigned i = 0; i < config->detected_count; i++) {
        if (strcmp(config->detected[i].key, "process.pid") == 0) {
            config->detected[i].number = pid;
        }
    }
    return pack_all(config, error);
}
