/* edgespan_config.h, a part of edgespan.h: what a module fills in while it reads its
 * configuration. */

#ifndef EDGESPAN_CONFIG_H
#define EDGESPAN_CONFIG_H

#include "edgespan.h"

/* ------------------------------------------------------ configuration --- */

#define ES_EXPORTERS_MAX 4
#define ES_RESOURCES_MAX 1024

typedef struct es_config es_config_t;
typedef struct es_exporter_config es_exporter_config_t;

/* `product` ("nginx", "httpd") makes the default service name
 * "unknown_service:<product>"; it and `log` are copied, log->data is borrowed for
 * the config's life. NULL when memory is short. */
es_config_t *es_config_create(const char *product, const es_log_t *log);

/* After the generations that borrow it. */
void es_config_destroy(es_config_t *config);

/* What the core is to know of the server that it is in. */
typedef struct es_server {
    const char *version; /* "1.22.1" */

    /* Tells the servers of one host apart, and is the same after a restart. */
    const char *identity;
} es_server_t;

/* Both strings are copied; without them what follows from them is not said. */
bool es_config_server(es_config_t *config, const es_server_t *server,
                      es_error_t *error) ES_MUST_CHECK;

/* Where relative paths of the exporters that follow begin. */
bool es_config_directory(es_config_t *config, es_str_t directory, es_error_t *error) ES_MUST_CHECK;

/* The resource with this service.name; the same name gives the same index.
 * Index 0 is the default resource and always exists: an empty name means it. */
bool es_config_resource(es_config_t *config, es_str_t service_name, uint16_t *index,
                        es_error_t *error) ES_MUST_CHECK;

/* service.name of the default resource. It beats OTEL_SERVICE_NAME. */
bool es_config_service_name(es_config_t *config, es_str_t name, es_error_t *error) ES_MUST_CHECK;

/* One attribute of every resource; it beats OTEL_RESOURCE_ATTRIBUTES. */
bool es_config_resource_attribute(es_config_t *config, es_str_t key, es_str_t value,
                                  es_error_t *error) ES_MUST_CHECK;

/* A new exporter, owned by the config, to be filled by the next three. */
bool es_config_exporter(es_config_t *config, es_exporter_config_t **exporter,
                        es_error_t *error) ES_MUST_CHECK;

/* Sets one option by the name and in the words of the documentation:
 * es_exporter_option(e, "interval", "5s"). Times take ms, s, m, h (a bare
 * number is seconds), sizes k, m, g, t. "endpoint" may be repeated: the next is
 * for when those before fail. Files are read here. */
bool es_exporter_option(es_exporter_config_t *exporter, es_str_t name, es_str_t value,
                        es_error_t *error) ES_MUST_CHECK;

/* One header of every export request. The value is never logged. */
bool es_exporter_header(es_exporter_config_t *exporter, es_str_t name, es_str_t value,
                        es_error_t *error) ES_MUST_CHECK;

/* A header whose value is the content of a file, without the newline at its end. */
bool es_exporter_header_file(es_exporter_config_t *exporter, es_str_t name, es_str_t file,
                             es_error_t *error) ES_MUST_CHECK;

/* Ends an exporter: checks that it has what it needs and infers the protocol
 * from the endpoint. */
bool es_exporter_finish(es_exporter_config_t *exporter, es_error_t *error) ES_MUST_CHECK;

/* False, with a notice: OTEL_SDK_DISABLED asks for a server without tracing. */
bool es_config_enabled(es_config_t *config);

/* Ends the configuration: what the OTEL_* variables give where no directive does,
 * what can be found out about the process and the host, and a queue that serves
 * `processes` processes. */
bool es_config_finish(es_config_t *config, unsigned processes, es_error_t *error) ES_MUST_CHECK;

/* Makes the directories that the exporters write to, for the user of the serving
 * processes: in the privileged parent, right before es_generation_create(). */
bool es_config_directories(es_config_t *config, uid_t uid, gid_t gid,
                           es_error_t *error) ES_MUST_CHECK;

/* The id of the server's main process, where that became another one after
 * es_config_finish() (a daemon): in a serving process, before
 * es_provider_start(). */
bool es_config_pid(es_config_t *config, pid_t pid, es_error_t *error) ES_MUST_CHECK;

/* How many exporters were configured: with none, spans have no destination. */
unsigned es_config_exporters(const es_config_t *config);

/* Which context headers are read and written at a place. */
enum {
    ES_CONTEXT_IGNORE = 0,
    ES_CONTEXT_EXTRACT = 1,
    ES_CONTEXT_INJECT = 2,
    ES_CONTEXT_PROPAGATE = ES_CONTEXT_EXTRACT | ES_CONTEXT_INJECT,
};

/* A key of an attribute: not empty, valid UTF-8. */
bool es_check_attribute_key(es_str_t key, es_error_t *error) ES_MUST_CHECK;

/* "propagate", "extract", "inject" or "ignore". */
bool es_parse_trace_context(es_str_t text, unsigned *mode, es_error_t *error) ES_MUST_CHECK;

/* What a condition evaluated at run time means: "on", "1" and "true" are yes
 * (case-insensitive), all else is no. */
bool es_is_true(es_str_t text);

#endif
