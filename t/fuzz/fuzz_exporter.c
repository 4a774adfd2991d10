/* The options of exporters, a line each, "exporter" begins another: what is taken
 * is an exporter that can be used, what is refused says why. Names of files in the
 * input are read, so they had better be of this directory. */

#include "fuzz_server.h"

#include "es_clock.h"
#include "es_protocol.h"

static void
check(const es_exporter_config_t *exporter)
{
    fuzz_assert(exporter->protocol != NULL && exporter->targets_count != 0);
    for (unsigned i = 0; i < exporter->targets_count; i++) {
        const es_target_t *target = &exporter->targets[i];

        fuzz_assert(target->url != NULL && target->name != NULL);

        /* The name is for the log: no query, and no credentials. */
        if (exporter->protocol->rules != NULL && target->unix_socket == NULL) {
            const char *query = strchr(target->name, '?'), *at = strstr(target->name, "://");

            fuzz_assert(query == NULL || strcmp(query, "?...") == 0);
            fuzz_assert(at != NULL && memchr(at + 3, '@', strcspn(at + 3, "/?#")) == NULL);
        }
    }
    for (unsigned i = 0; i < exporter->headers_count; i++) {
        for (const char *c = exporter->headers[i]; *c != '\0'; c++) {
            fuzz_assert((unsigned char) *c >= 0x20 || *c == '\t');
        }
    }
    fuzz_assert(exporter->batch_size >= 1 && exporter->batch_size <= ES_BATCH_SIZE_MAX);
    fuzz_assert(exporter->timeout_ns >= ES_TIMEOUT_MIN && exporter->timeout_ns <= ES_TIMEOUT_MAX);
}

static void
fuzz(fuzz_t *fuzz)
{
    es_config_t *config = fuzz_config();
    es_exporter_config_t *exporter = NULL;
    es_error_t error;
    bool ok = true;

    while (ok && fuzz_more(fuzz)) {
        es_str_t value = fuzz_line(fuzz), name = fuzz_until(fuzz, &value, ' ');

        if (exporter == NULL || es_str_eq(name, ES_STR("exporter"))) {
            ok = exporter == NULL || es_exporter_finish(exporter, &error);
            if (ok && exporter != NULL) {
                check(exporter);
            }
            ok = ok && es_config_exporter(config, &exporter, &error);
        }
        if (!ok || es_str_eq(name, ES_STR("exporter"))) {
            continue;
        }
        if (es_str_eq(name, ES_STR("header"))) {
            es_str_t field = fuzz_until(fuzz, &value, ' ');

            ok = es_exporter_header(exporter, field, value, &error);
        } else if (es_str_eq(name, ES_STR("service"))) {
            ok = es_config_service_name(config, value, &error);
        } else if (es_str_eq(name, ES_STR("attribute"))) {
            es_str_t key = fuzz_until(fuzz, &value, ' ');

            ok = es_config_resource_attribute(config, key, value, &error);
        } else {
            ok = es_exporter_option(exporter, name, value, &error);
        }
    }
    if (ok && exporter != NULL && es_exporter_finish(exporter, &error)) {
        check(exporter);
    } else if (!ok) {
        fuzz_check_error(&error);
    }
    es_config_destroy(config);
}
