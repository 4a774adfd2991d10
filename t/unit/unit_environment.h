/* unit_environment.h: a configuration of OTEL_* variables. */

#ifndef UNIT_ENVIRONMENT_H
#define UNIT_ENVIRONMENT_H

#include "unit_exporter.h"

#define O "OTEL_EXPORTER_OTLP_"
#define URL "http://block.example:4318/v1/traces"
#define MS UINT64_C(1000000)

extern char **environ;

static es_config_t *config;

static inline void
begin(void)
{
    unit_said[0] = '\0';
    config = es_config_create("test", &unit_log);
    assert_non_null(config);
}

static inline void
end(void)
{
    es_config_destroy(config);
    config = NULL;
}

static inline int
clear(void **state)
{
    (void) state;
    if (config != NULL) {
        end();
    }
    for (char **entry = environ; *entry != NULL;) {
        char name[64];

        if (strncmp(*entry, "OTEL_", 5) != 0) {
            entry++;
            continue;
        }
        snprintf(name, sizeof(name), "%.*s", (int) strcspn(*entry, "="), *entry);
        unsetenv(name);
        entry = environ;
    }
    return 0;
}

/* "NAME=value" pairs are the environment, up to NULL. */
static inline void
given(const char *first, ...)
{
    va_list args;

    clear(NULL);
    va_start(args, first);
    for (const char *pair = first; pair != NULL; pair = va_arg(args, const char *)) {
        assert_int_equal(putenv((char *) (uintptr_t) pair), 0);
    }
    va_end(args);
    begin();
}

static inline void
finish(void)
{
    es_error_t error;

    if (!es_config_finish(config, 1, &error)) {
        fail_msg("%s", error.text);
    }
}

/* The only exporter of an environment. */
static inline const es_exporter_config_t *
alone(void)
{
    finish();
    if (config->exporters_count != 1) {
        fail_msg("%u exporters: %s", config->exporters_count, unit_said);
    }
    return config->exporters[0];
}

/* An exporter of directives beside it. */
static inline const es_exporter_config_t *
block(const char *first, ...)
{
    const es_exporter_config_t *made;
    es_error_t error = {""};
    va_list args;

    va_start(args, first);
    made = unit_exporter(config, first, args, &error);
    va_end(args);
    if (made == NULL) {
        fail_msg("%s", error.text);
    }
    return made;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, clear, clear)

#endif
