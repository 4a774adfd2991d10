/* unit_status.h: a generation that says nothing, for the tests of its counters and
 * of the pages that show them. */

#ifndef UNIT_STATUS_H
#define UNIT_STATUS_H

#include "unit.h"

#include "es_provider.h"

#include <jansson.h>

typedef struct server {
    es_config_t *config;
    void *queue_area, *stats_area;
    es_generation_t *generation;
} server_t;

/* A generation that counts in `stats_area`; `endpoint` NULL: it exports nothing. */
static inline server_t
configure(void *stats_area, const char *endpoint)
{
    server_t server = {.config = es_config_create("unit", &unit_log), .stats_area = stats_area};
    es_exporter_config_t *exporter;
    es_error_t error;

    if (endpoint != NULL) {
        assert_true(es_config_exporter(server.config, &exporter, &error));
        assert_true(es_exporter_option(exporter, ES_STR("endpoint"), es_cstr(endpoint), &error));
        assert_true(es_exporter_header(exporter, ES_STR("Authorization"), ES_STR("Bearer hunter2"),
                                       &error));
        assert_true(es_exporter_finish(exporter, &error));
    }
    assert_true(es_config_finish(server.config, 1, &error));
    server.queue_area = unit_area(es_queue_area_size(server.config));
    assert_true(es_generation_create(&server.generation, server.config, server.queue_area,
                                     stats_area, &error));
    return server;
}

static inline void
dispose(server_t *server)
{
    es_generation_destroy(server->generation);
    es_config_destroy(server->config);
    free(server->queue_area);
}

#endif
