/* The OTEL_* variables, "NAME=value" a line: a bad value costs a line of the log
 * and refuses nothing. */

#include "fuzz_server.h"

static void
check_percent(fuzz_t *fuzz, es_str_t value)
{
    char *text = fuzz_cstr(fuzz, value);
    size_t before = strlen(text);

    if (es_percent_decode(text)) {
        fuzz_assert(strlen(text) <= before);
    }
}

static void
check(const es_config_t *config)
{
    const es_environment_t *v = &config->variables;

    fuzz_assert(config->sampling.threshold <= ES_THRESHOLD_NEVER);
    fuzz_assert(v->headers_count <= ES_ENVIRONMENT_HEADERS_MAX);
    for (unsigned i = 0; i < v->headers_count; i++) {
        fuzz_assert(es_header_valid(es_cstr(v->headers[i].name), es_cstr(v->headers[i].value)));
    }
    for (unsigned i = 0; i < ES_STAGE_END; i++) {
        fuzz_assert(config->span_limits.count[i] <= es_span_limits.count[i]);
    }
    for (unsigned i = 0; i < config->resources_count; i++) {
        EsOtlp__Resource *resource = es_otlp__resource__unpack(
            NULL, config->resources[i].packed_size, config->resources[i].packed);

        fuzz_assert(resource != NULL && fuzz_has_utf8(&resource->base));
        es_otlp__resource__free_unpacked(resource, NULL);
    }
}

static void
fuzz(fuzz_t *fuzz)
{
    es_config_t *config;
    es_error_t error;

    clearenv();
    while (fuzz_more(fuzz)) {
        es_str_t value = fuzz_line(fuzz), name = fuzz_until(fuzz, &value, '=');

        check_percent(fuzz, value);
        if (es_str_starts(name, ES_STR("OTEL_"))) {
            setenv(fuzz_cstr(fuzz, name), fuzz_cstr(fuzz, value), 1);
        }
    }
    config = fuzz_config();
    fuzz_assert(es_config_enabled(config) || config->variables.disabled);
    fuzz_assert(es_config_finish(config, 1, &error));
    check(config);
    es_config_destroy(config);
}
