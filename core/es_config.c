#include "es_config.h"

#include "es_clock.h"
#include "es_hash.h"
#include "es_override.h"
#include "es_propagator.h"
#include "es_queue.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* A process holds an open chunk while the leader drains a sealed one. */
#define CHUNKS_PER_PROCESS 2
#define QUEUE_SIZE_MIN (16 * ES_CHUNK_SIZE)

es_config_t *
es_config_create(const char *product, const es_log_t *log)
{
    es_config_t *config = calloc(1, sizeof(*config));

    if (config == NULL || (config->product = es_str_dup(es_cstr(product))) == NULL) {
        free(config);
        return NULL;
    }
    config->log = *log;
    config->resources_count = 1;
    config->span_limits = es_span_limits;
    config->propagation = es_propagation_default();
    return config;
}

static void
exporter_destroy(es_exporter_config_t *exporter)
{
    for (unsigned i = 0; i < exporter->headers_count; i++) {
        free(exporter->headers[i]);
    }
    for (unsigned i = 0; i < exporter->targets_count; i++) {
        free(exporter->targets[i].endpoint);
        free(exporter->targets[i].url);
        free(exporter->targets[i].unix_socket);
        free(exporter->targets[i].name);
    }
    free(exporter->protocol_name);
    free(exporter->spool);
    es_buffer_free(&exporter->tls.trusted_certificate);
    es_buffer_free(&exporter->tls.client_certificate);
    es_buffer_free(&exporter->tls.client_certificate_key);
    free(exporter);
}

void
es_config_drop_exporter(es_config_t *config)
{
    exporter_destroy(config->exporters[--config->exporters_count]);
}

void
es_config_destroy(es_config_t *config)
{
    for (unsigned i = 0; i < config->exporters_count; i++) {
        exporter_destroy(config->exporters[i]);
    }
    es_resources_dispose(config);
    es_environment_dispose(config);
    es_hash_key_dispose(config);
    free(config->product);
    free(config->version);
    free(config->identity);
    free(config->directory);
    free(config->override);
    free(config);
}

bool
es_config_server(es_config_t *config, const es_server_t *server, es_error_t *error)
{
    free(config->version);
    free(config->identity);
    config->version = es_str_dup(es_cstr(server->version));
    config->identity = es_str_dup(es_cstr(server->identity));
    return (config->version != NULL && config->identity != NULL) || es_fail(error, "no memory");
}

bool
es_config_directory(es_config_t *config, es_str_t directory, es_error_t *error)
{
    free(config->directory);
    config->directory = es_str_dup(directory);
    return config->directory != NULL || es_fail(error, "no memory");
}

bool
es_config_semconv(es_config_t *config, es_str_t word, es_error_t *error)
{
    static const char *const words[] = {
        [ES_SEMCONV_STABLE] = "stable",
        [ES_SEMCONV_OLD] = "old",
        [ES_SEMCONV_BOTH] = "both",
    };

    for (unsigned i = 0; i < ES_COUNT(words); i++) {
        if (es_str_eq(word, es_cstr(words[i]))) {
            config->semconv = (es_semconv_t) i;
            config->semconv_given = true;
            return true;
        }
    }
    return es_fail(error, "\"%.*s\" is not \"stable\", \"old\" or \"both\"", ES_ARG(word));
}

void
es_log_write(const es_log_t *log, es_log_level_t level, const char *format, va_list args)
{
    char text[1024];

    vsnprintf(text, sizeof(text), format, args);
    es_make_printable(text);
    log->write(log->data, level, text);
}

void
es_config_log(const es_config_t *config, es_log_level_t level, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    es_log_write(&config->log, level, format, args);
    va_end(args);
}

bool
es_config_enabled(es_config_t *config)
{
    es_environment_read(config);
    if (config->variables.disabled) {
        es_config_log(config, ES_LOG_NOTICE,
                      "OTEL_SDK_DISABLED is true: there are no spans, and context headers pass as "
                      "they came");
    }
    return !config->variables.disabled;
}

unsigned
es_config_exporters(const es_config_t *config)
{
    return config->exporters_count;
}

bool
es_config_exporter(es_config_t *config, es_exporter_config_t **exporter, es_error_t *error)
{
    if (config->exporters_count == ES_EXPORTERS_MAX) {
        return es_fail(error, "more than %d exporters", ES_EXPORTERS_MAX);
    }
    if ((*exporter = calloc(1, sizeof(**exporter))) == NULL) {
        return es_fail(error, "no memory");
    }

    **exporter = (es_exporter_config_t){
        .config = config,
        .interval_ns = 5 * ES_SECOND,
        .timeout_ns = 10 * ES_SECOND,
        .shutdown_timeout_ns = 1 * ES_SECOND,
        .batch_size = 512,
        .tls.verify = true,
        .spool_max = ES_SPOOL_MAX_DEFAULT,
    };
    config->exporters[config->exporters_count++] = *exporter;
    return true;
}

bool
es_config_finish(es_config_t *config, unsigned processes, es_error_t *error)
{
    uint64_t least = (uint64_t) processes * CHUNKS_PER_PROCESS * ES_CHUNK_SIZE, given = 0;

    if (processes > ES_SLOTS_MAX) {
        return es_fail(error, "%u serving processes: tracing knows at most %u", processes,
                       ES_SLOTS_MAX);
    }

    if (config->hashes && config->hash_key == NULL) {
        return es_fail(error, "an attribute of type \"hash\" without a file that has its key "
                              "(\"otel_hash_key\", \"OtelHashKey\")");
    }

    es_environment_read(config);
    es_environment_exporters(config);

    config->shutdown_timeout_ns = 0;
    for (unsigned i = 0; i < config->exporters_count; i++) {
        const es_exporter_config_t *exporter = config->exporters[i];

        if (exporter->queue_size > given) {
            given = exporter->queue_size;
        }
        if (exporter->shutdown_timeout_ns > config->shutdown_timeout_ns) {
            config->shutdown_timeout_ns = exporter->shutdown_timeout_ns;
        }
    }
    if (least < QUEUE_SIZE_MIN) {
        least = QUEUE_SIZE_MIN;
    }
    if (given != 0 && given < least) {
        return es_fail(error,
                       "queue_size %lluk is too small for %u serving processes: it takes %lluk "
                       "or more, %u chunks of %uk each",
                       (unsigned long long) given >> 10, processes,
                       (unsigned long long) least >> 10, CHUNKS_PER_PROCESS, ES_CHUNK_SIZE >> 10);
    }
    config->queue_size = given != 0 ? given : ES_QUEUE_SIZE_DEFAULT;
    if (config->queue_size < least) {
        config->queue_size = least;
    }
    return es_resources_finish(config, error);
}

size_t
es_queue_area_size(const es_config_t *config)
{
    return es_queue_size(config->queue_size) + es_override_area_size(config);
}
