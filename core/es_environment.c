/* The variables and their values. */

#include "es_environment.h"

#include "es_clock.h"
#include "es_protocol.h"
#include "es_sampler.h"
#include "es_span.h"

#include <stdio.h>
#include <stdlib.h>

#define OTLP "OTEL_EXPORTER_OTLP_"

/* Names in OTEL_PROPAGATORS, equal ones counted. */
#define PROPAGATORS_MAX 16

es_str_t
es_environment_get(const char *name)
{
    return es_str_trim(es_cstr(getenv(name)));
}

bool
es_percent_decode(char *text)
{
    es_str_t in = es_cstr(text);

    while (in.len != 0) {
        uint8_t byte = (uint8_t) in.data[0];
        bool encoded = byte == '%';

        if (encoded && (!es_percent_byte(in, &byte) || byte == 0)) {
            return false;
        }
        *text++ = (char) byte;
        in = es_str_from(in, encoded ? 3 : 1);
    }
    *text = '\0';
    return true;
}

/* --------------------------------------------------------------- values --- */

/* One variable's value into *out; false, after a warning, if it is bad. */
typedef bool (*es_parser_t)(es_config_t *config, const char *name, es_str_t value, void *out);

static bool
ignored(const es_config_t *config, const char *name, es_str_t value, const char *right)
{
    es_config_log(config, ES_LOG_WARN, "%s \"%.*s\" is ignored: it takes %s", name, ES_ARG(value),
                  right);
    return false;
}

/* Of a value that may hold a secret. */
static bool
ignored_secret(const es_config_t *config, const char *name, const char *right)
{
    es_config_log(config, ES_LOG_WARN, "%s is ignored: it takes %s", name, right);
    return false;
}

static bool
parse_bool(es_config_t *config, const char *name, es_str_t value, void *out)
{
    bool *field = out;

    *field = es_str_ieq(value, ES_STR("true"));
    if (!*field && !es_str_ieq(value, ES_STR("false"))) {
        ignored(config, name, value, "\"true\" or \"false\"");
    }
    return true;
}

static bool
parse_ms(es_config_t *config, const char *name, es_str_t value, uint64_t min_ns, uint64_t max_ns,
         uint64_t *ns)
{
    char right[80];
    uint64_t ms;

    if (es_parse_uint(value, &ms) && ms <= max_ns / ES_MS && ms >= min_ns / ES_MS) {
        *ns = ms * ES_MS;
        return true;
    }
    snprintf(right, sizeof(right), "milliseconds from %llu to %llu",
             (unsigned long long) (min_ns / ES_MS), (unsigned long long) (max_ns / ES_MS));
    return ignored(config, name, value, right);
}

/* 0 means that there is no limit: ours is the largest. */
static bool
parse_timeout(es_config_t *config, const char *name, es_str_t value, void *out)
{
    uint64_t *ns = out, ms;

    if (es_parse_uint(value, &ms) && ms == 0) {
        *ns = ES_TIMEOUT_MAX;
        return true;
    }
    return parse_ms(config, name, value, ES_TIMEOUT_MIN, ES_TIMEOUT_MAX, ns);
}

static bool
parse_interval(es_config_t *config, const char *name, es_str_t value, void *out)
{
    return parse_ms(config, name, value, ES_INTERVAL_MIN, ES_INTERVAL_MAX, out);
}

static bool
parse_batch_size(es_config_t *config, const char *name, es_str_t value, void *out)
{
    uint64_t *size = out, number;

    if (!es_parse_uint(value, &number) || number == 0 || number > ES_BATCH_SIZE_MAX) {
        return ignored(config, name, value, "a number of spans from 1 to 65536");
    }
    *size = number;
    return true;
}

static bool
keep(char **field, es_str_t value)
{
    free(*field);
    *field = es_str_dup(value);
    return *field != NULL;
}

static bool
parse_endpoint(es_config_t *config, const char *name, es_str_t value, void *out)
{
    return es_endpoint_is_url(value) ? keep(out, value)
                                     : ignored_secret(config, name, "an http:// or https:// URL");
}

static bool
parse_protocol(es_config_t *config, const char *name, es_str_t value, void *out)
{
    static const char *const names[] = {"grpc", "http/protobuf", "http/json"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (es_str_ieq(value, es_cstr(names[i])) && es_protocol_find(es_cstr(names[i])) != NULL) {
            return keep(out, es_cstr(names[i]));
        }
    }
    return ignored(config, name, value, "\"grpc\", \"http/protobuf\" or \"http/json\"");
}

static bool
parse_compression(es_config_t *config, const char *name, es_str_t value, void *out)
{
    bool *gzip = out;

    *gzip = es_str_ieq(value, ES_STR("gzip"));
    return *gzip || es_str_ieq(value, ES_STR("none"))
           || ignored(config, name, value, "\"gzip\" or \"none\"");
}

static bool
parse_pem(es_config_t *config, const char *name, es_str_t value, es_pem_t kind, es_buffer_t *out)
{
    char *path = es_str_dup(value);
    es_error_t why;
    bool ok = path != NULL && es_pem_read(path, kind, out, &why);

    if (!ok && path != NULL) {
        es_config_log(config, ES_LOG_WARN, "%s is ignored: %s", name, why.text);
    }
    free(path);
    return ok;
}

static bool
parse_certificate(es_config_t *config, const char *name, es_str_t value, void *out)
{
    return parse_pem(config, name, value, ES_PEM_CERTIFICATE, out);
}

static bool
parse_key(es_config_t *config, const char *name, es_str_t value, void *out)
{
    return parse_pem(config, name, value, ES_PEM_PRIVATE_KEY, out);
}

static void
forget_headers(es_environment_t *variables)
{
    for (unsigned i = 0; i < variables->headers_count; i++) {
        free(variables->headers[i].name);
        free(variables->headers[i].value);
    }
    variables->headers_count = 0;
}

static bool
add_header(es_environment_t *variables, es_str_t pair)
{
    size_t equals = es_str_find(pair, '=');
    es_environment_header_t *header = &variables->headers[variables->headers_count];
    es_str_t name = es_str_trim(es_str(pair.data, equals));

    if (equals == pair.len || variables->headers_count == ES_ENVIRONMENT_HEADERS_MAX) {
        return false;
    }
    header->name = es_str_dup(name);
    header->value = es_str_dup(es_str_trim(es_str_from(pair, equals + 1)));
    variables->headers_count++;
    return header->name != NULL && header->value != NULL && es_percent_decode(header->value)
           && es_header_valid(name, es_cstr(header->value));
}

static bool
parse_headers(es_config_t *config, const char *name, es_str_t value, void *out)
{
    es_environment_t *variables = out;

    while (value.len != 0) {
        es_str_t pair = es_str_trim(es_str_take(&value, ','));

        if (pair.len != 0 && !add_header(variables, pair)) {
            forget_headers(variables);
            return ignored_secret(config, name,
                                  "name=value pairs with commas between them, values "
                                  "percent-encoded");
        }
    }
    return true;
}

/* ------------------------------------------------------------ variables --- */

static bool
read_one(es_config_t *config, const char *name, es_parser_t parse, void *out)
{
    es_str_t value = es_environment_get(name);

    return value.len != 0 && parse(config, name, value, out);
}

/* The signal's variable, or the general one. True: *out is the signal's. */
static bool
read_otlp(es_config_t *config, const char *what, es_parser_t parse, void *out)
{
    char name[64];

    snprintf(name, sizeof(name), OTLP "TRACES_%s", what);
    if (read_one(config, name, parse, out)) {
        return true;
    }
    snprintf(name, sizeof(name), OTLP "%s", what);
    read_one(config, name, parse, out);
    return false;
}

/* The key and its certificate are of no use without each other. */
static void
pair_client_certificate(es_config_t *config)
{
    es_environment_t *variables = &config->variables;

    if ((variables->client_certificate.size != 0) != (variables->client_key.size != 0)) {
        es_config_log(config, ES_LOG_WARN,
                      OTLP "CLIENT_CERTIFICATE and " OTLP "CLIENT_KEY are ignored: one is missing");
        es_buffer_free(&variables->client_certificate);
        es_buffer_free(&variables->client_key);
    }
}

static bool
parse_exporters(es_config_t *config, const char *name, es_str_t value, void *out)
{
    es_environment_t *variables = out;
    bool none = false;

    while (value.len != 0) {
        es_str_t word = es_str_trim(es_str_take(&value, ','));

        if (es_str_ieq(word, ES_STR("otlp"))) {
            variables->otlp = true;
        } else if (es_str_ieq(word, ES_STR("zipkin"))
                   && es_protocol_find(ES_STR("zipkin")) != NULL) {
            variables->zipkin = true;
        } else if (es_str_ieq(word, ES_STR("console")) || es_str_ieq(word, ES_STR("otlp/stdout"))) {
            variables->console = true;
        } else if (es_str_ieq(word, ES_STR("none"))) {
            none = true;
        } else {
            ignored(config, name, word, "\"otlp\", \"zipkin\", \"console\" or \"none\"");
        }
    }
    variables->exporters_given = none || variables->otlp || variables->zipkin || variables->console;
    return true;
}

static bool
parse_sampler(es_config_t *config, const char *name, es_str_t value, void *out)
{
    es_sampling_t *sampling = out;
    const char *argument_name = "OTEL_TRACES_SAMPLER_ARG";
    es_str_t argument = es_environment_get(argument_name);
    es_error_t why;

    if (!es_sampling_sampler(sampling, value, NULL, &why)) {
        es_config_log(config, ES_LOG_WARN, "%s is ignored: %s", name, why.text);
        return false;
    }
    if (argument.len != 0 && es_samplers[sampling->sampler].root == ES_ROOT_RATIO
        && (es_str_find(argument, '%') < argument.len
            || !es_sampling_rate(sampling, argument, NULL, &why))) {
        ignored(config, argument_name, argument, "a number from 0 to 1");
    }
    return true;
}

/* What is no propagator is left out; the rest counts. */
static bool
parse_propagators(es_config_t *config, const char *name, es_str_t value, void *out)
{
    es_propagation_t given = {0}, one = {0};
    es_str_t words[PROPAGATORS_MAX];
    unsigned count = 0;
    es_error_t error;

    while (value.len != 0) {
        es_str_t word = es_str_trim(es_str_take(&value, ','));

        if (word.len != 0 && !es_propagation_set(&one, &word, 1, &error)) {
            es_config_log(config, ES_LOG_WARN, "%s: %s", name, error.text);
        } else if (word.len != 0 && count < PROPAGATORS_MAX) {
            words[count++] = word;
        }
    }
    if (count == 0) {
        return false;
    }
    if (!es_propagation_set(&given, words, count, &error)) {
        es_config_log(config, ES_LOG_WARN, "%s is ignored: %s", name, error.text);
        return false;
    }
    *(es_propagation_t *) out = given;
    return true;
}

/* The words of other instrumentations are in it, too. */
static bool
parse_semconv(es_config_t *config, const char *name, es_str_t value, void *out)
{
    es_semconv_t *semconv = out;

    (void) config;
    (void) name;
    while (value.len != 0) {
        if (es_str_eq(es_str_trim(es_str_take(&value, ',')), ES_STR("http/dup"))) {
            *semconv = ES_SEMCONV_BOTH;
        }
    }
    return true;
}

/* What is there and does nothing is not passed over in silence. */
static void
tell_unsupported(const es_config_t *config)
{
    static const struct {
        const char *name, *why;
    } unsupported[] = {
        {"OTEL_CONFIG_FILE", "the configuration is the server's"},
        {"OTEL_BSP_MAX_QUEUE_SIZE", "the queue is bounded in bytes, by \"queue_size\""},
    };

    for (size_t i = 0; i < sizeof(unsupported) / sizeof(unsupported[0]); i++) {
        if (es_environment_get(unsupported[i].name).len != 0) {
            es_config_log(config, ES_LOG_NOTICE, "%s has no effect: %s", unsupported[i].name,
                          unsupported[i].why);
        }
    }
}

/* --------------------------------------------------------------- limits --- */

/* *out is the largest that there is. */
static bool
parse_limit(es_config_t *config, const char *name, es_str_t value, void *out)
{
    uint32_t *limit = out;
    uint64_t number;

    if (!es_parse_uint(value, &number)) {
        return ignored(config, name, value, "a number from 0");
    }
    if (number > *limit) {
        es_config_log(config, ES_LOG_NOTICE, "%s \"%.*s\": %u is the largest that there is", name,
                      ES_ARG(value), *limit);
        return true;
    }
    *limit = (uint32_t) number;
    return true;
}

/* The limit by name, else the general one. */
static void
read_limit(es_config_t *config, const char *name, uint32_t general, uint32_t *limit)
{
    if (!read_one(config, name, parse_limit, limit)) {
        *limit = general;
    }
}

static void
read_limits(es_config_t *config)
{
    es_span_limits_t *limits = &config->span_limits;
    uint32_t attributes = ES_SPAN_ATTRIBUTES_MAX, value = ES_SPAN_VALUE_MAX;

    read_one(config, "OTEL_ATTRIBUTE_COUNT_LIMIT", parse_limit, &attributes);
    read_one(config, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", parse_limit, &value);

    read_limit(config, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", attributes,
               &limits->count[ES_STAGE_ATTRIBUTES]);
    read_limit(config, "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", value, &limits->value);
    read_limit(config, "OTEL_SPAN_EVENT_COUNT_LIMIT", ES_SPAN_EVENTS_MAX,
               &limits->count[ES_STAGE_EVENTS]);
    read_limit(config, "OTEL_SPAN_LINK_COUNT_LIMIT", ES_SPAN_LINKS_MAX,
               &limits->count[ES_STAGE_LINKS]);
    read_limit(config, "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", attributes,
               &limits->item_attributes[ES_STAGE_EVENTS]);
    read_limit(config, "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", attributes,
               &limits->item_attributes[ES_STAGE_LINKS]);
}

void
es_environment_read(es_config_t *config)
{
    es_environment_t *v = &config->variables;

    if (v->read) {
        return;
    }
    v->read = true;
    read_one(config, "OTEL_SDK_DISABLED", parse_bool, &v->disabled);
    read_one(config, "OTEL_TRACES_EXPORTER", parse_exporters, v);
    read_one(config, "OTEL_TRACES_SAMPLER", parse_sampler, &config->sampling);
    read_one(config, "OTEL_PROPAGATORS", parse_propagators, &config->propagation);
    if (!config->semconv_given) {
        read_one(config, "OTEL_SEMCONV_STABILITY_OPT_IN", parse_semconv, &config->semconv);
    }

    v->endpoint_of_signal = read_otlp(config, "ENDPOINT", parse_endpoint, &v->endpoint);
    read_otlp(config, "INSECURE", parse_bool, &v->insecure);
    read_otlp(config, "PROTOCOL", parse_protocol, &v->protocol);
    read_otlp(config, "HEADERS", parse_headers, v);
    read_otlp(config, "TIMEOUT", parse_timeout, &v->timeout_ns);
    read_otlp(config, "COMPRESSION", parse_compression, &v->gzip);
    read_otlp(config, "CERTIFICATE", parse_certificate, &v->certificate);
    read_otlp(config, "CLIENT_CERTIFICATE", parse_certificate, &v->client_certificate);
    read_otlp(config, "CLIENT_KEY", parse_key, &v->client_key);
    pair_client_certificate(config);

    read_one(config, "OTEL_EXPORTER_ZIPKIN_ENDPOINT", parse_endpoint, &v->zipkin_endpoint);
    read_one(config, "OTEL_EXPORTER_ZIPKIN_TIMEOUT", parse_timeout, &v->zipkin_timeout_ns);

    read_one(config, "OTEL_BSP_SCHEDULE_DELAY", parse_interval, &v->schedule_delay_ns);
    read_one(config, "OTEL_BSP_EXPORT_TIMEOUT", parse_timeout, &v->export_timeout_ns);
    read_one(config, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", parse_batch_size, &v->batch_size);
    read_limits(config);
    tell_unsupported(config);
}

void
es_environment_dispose(es_config_t *config)
{
    es_environment_t *variables = &config->variables;

    forget_headers(variables);
    free(variables->endpoint);
    free(variables->protocol);
    free(variables->zipkin_endpoint);
    es_buffer_free(&variables->certificate);
    es_buffer_free(&variables->client_certificate);
    es_buffer_free(&variables->client_key);
}
