/* es_environment.h: what OpenTelemetry's OTEL_* variables say about tracing
 * (specification, "Environment Variable Specification" and "OTLP Exporter
 * Configuration").
 *
 * They are read once, by the process that reads the configuration: servers clear
 * or change the environment of their workers. Every option has its own order: a
 * directive, the variable of the signal (..._OTLP_TRACES_...), the general one,
 * the default. A bad value costs one line of the log and is then no value; it
 * never refuses a start. */

#ifndef ES_ENVIRONMENT_H
#define ES_ENVIRONMENT_H

#include "es_str.h"

struct es_config;
struct es_exporter_config;

#define ES_ENVIRONMENT_HEADERS_MAX 32

typedef struct es_environment_header {
    char *name;
    char *value;
} es_environment_header_t;

/* NULL, 0 and false mean that there is no (valid) value, unless said otherwise. */
typedef struct es_environment {
    bool read;
    bool disabled; /* OTEL_SDK_DISABLED */

    /* OTEL_TRACES_EXPORTER */
    bool exporters_given;
    bool otlp, zipkin, console;

    /* OTEL_EXPORTER_OTLP_[TRACES_]... */
    char *endpoint;
    bool endpoint_of_signal; /* then no path is added */
    bool insecure;
    char *protocol;
    es_environment_header_t headers[ES_ENVIRONMENT_HEADERS_MAX];
    unsigned headers_count;
    uint64_t timeout_ns;
    bool gzip;
    es_buffer_t certificate, client_certificate, client_key;

    char *zipkin_endpoint;
    uint64_t zipkin_timeout_ns;

    /* OTEL_BSP_... */
    uint64_t schedule_delay_ns, export_timeout_ns, batch_size;
} es_environment_t;

/* The value of a variable without blanks around it; empty is the same as unset. */
es_str_t es_environment_get(const char *name);

/* Reads the variables, the first time. */
void es_environment_read(struct es_config *config);
void es_environment_dispose(struct es_config *config);

/* "%2C" to ",", in place. False: no such encoding, or it holds a NUL. */
bool es_percent_decode(char *text) ES_MUST_CHECK;

/* ---- es_environment_exporter.c */

/* Sets what no directive set of an exporter: before its endpoints are resolved. */
bool es_environment_defaults(struct es_exporter_config *exporter, es_error_t *error) ES_MUST_CHECK;

/* Says what of it came from the environment. */
void es_environment_tell(const struct es_exporter_config *exporter);

/* The exporters that the environment asks for, where no directive made one. */
void es_environment_exporters(struct es_config *config);

#endif
