/* unit_config.h: a configuration with an exporter, and a directory for the files
 * that its options name. */

#ifndef UNIT_CONFIG_H
#define UNIT_CONFIG_H

#include "unit_directory.h"
#include "unit_exporter.h"

#define URL "https://collector.example/v1/traces"

static char *root;
static es_config_t *config;

static inline int
begin(void **state)
{
    es_error_t error;

    (void) state;
    root = unit_directory();
    unit_said[0] = '\0';
    config = es_config_create("test", &unit_log);
    assert_non_null(config);
    assert_true(es_config_directory(config, es_cstr(root), &error));
    return 0;
}

static inline int
end(void **state)
{
    (void) state;
    es_config_destroy(config);
    unit_directory_remove(root);
    return 0;
}

/* Why exporter() returned NULL. */
static es_error_t why;

static inline es_exporter_config_t *
exporter(const char *first, ...)
{
    es_exporter_config_t *made;
    va_list args;

    va_start(args, first);
    made = unit_exporter(config, first, args, &why);
    va_end(args);
    return made;
}

/* Every test has room for four exporters. */
static inline void
again(void)
{
    end(NULL);
    begin(NULL);
}

#define refused(words, ...)                                       \
    do {                                                          \
        again();                                                  \
        assert_null(exporter(__VA_ARGS__, NULL));                 \
        if (strstr(why.text, words) == NULL) {                    \
            fail_msg("\"%s\" is not in \"%s\"", words, why.text); \
        }                                                         \
    } while (0)

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

#endif
