/* The exporter's options as one table, and what an exporter needs to be whole. */

#include "es_clock.h"
#include "es_http_sender.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define HEADER_FILE_MAX ((size_t) 64 << 10)

/* -------------------------------------------------------------- options --- */

typedef enum es_option_type {
    OPTION_STRING,
    OPTION_ENDPOINT,
    OPTION_TIME,
    OPTION_SIZE,
    OPTION_COUNT,
    OPTION_SWITCH,
    OPTION_PATH,
    OPTION_CERTIFICATE,
    OPTION_KEY,
    OPTION_IGNORED,
} es_option_type_t;

typedef struct es_option {
    const char *name;
    es_option_type_t type;
    size_t offset; /* in es_exporter_config_t */
    uint64_t min, max;
    const char *right; /* what would be right */
    const char *on;    /* of a switch: the word that sets it */
    const char *off;   /* and one that clears it, beside "off"; or NULL */
} es_option_t;

#define AT(field) offsetof(es_exporter_config_t, field)

static const es_option_t options[] = {
    {"endpoint", OPTION_ENDPOINT, 0, 0, 0, "a URL", NULL, NULL},
    {"protocol", OPTION_STRING, AT(protocol_name), 0, 0, "a protocol", NULL, NULL},
    {"compression", OPTION_SWITCH, AT(gzip), 0, 0, "\"off\" or \"gzip\"", "gzip", "none"},
    {"trusted_certificate", OPTION_CERTIFICATE, AT(tls.trusted_certificate), 0, 0, "a PEM file",
     NULL, NULL},
    {"client_certificate", OPTION_CERTIFICATE, AT(tls.client_certificate), 0, 0, "a PEM file", NULL,
     NULL},
    {"client_certificate_key", OPTION_KEY, AT(tls.client_certificate_key), 0, 0, "a PEM file", NULL,
     NULL},
    {"ssl_verify", OPTION_SWITCH, AT(tls.verify), 0, 0, "\"on\" or \"off\"", "on", NULL},
    {"spool", OPTION_PATH, AT(spool), 0, 0, "a directory", NULL, NULL},
    {"spool_max", OPTION_SIZE, AT(spool_max), 1 << 20, UINT64_C(1) << 40, "a size from 1m to 1t",
     NULL, NULL},
    {"interval", OPTION_TIME, AT(interval_ns), ES_INTERVAL_MIN, ES_INTERVAL_MAX,
     "a time from 1ms to 1h", NULL, NULL},
    {"timeout", OPTION_TIME, AT(timeout_ns), ES_TIMEOUT_MIN, ES_TIMEOUT_MAX,
     "a time from 10ms to 10m", NULL, NULL},
    {"shutdown_timeout", OPTION_TIME, AT(shutdown_timeout_ns), 0, 60 * ES_SECOND,
     "a time from 0 to 60s", NULL, NULL},
    {"batch_size", OPTION_COUNT, AT(batch_size), 1, ES_BATCH_SIZE_MAX,
     "a number of spans from 1 to 65536", NULL, NULL},
    {"queue_size", OPTION_SIZE, AT(queue_size), 1 << 20, UINT64_C(64) << 30,
     "a size from 1m to 64g", NULL, NULL},
    {"batch_count", OPTION_IGNORED, 0, 0, 0, "", NULL, NULL},
};

#define OPTIONS (sizeof(options) / sizeof(options[0]))

static bool
set_string(char **field, const es_option_t *option, es_str_t value, es_error_t *error)
{
    if (value.len == 0) {
        return es_fail(error, "empty \"%s\": it takes %s", option->name, option->right);
    }
    free(*field);
    if ((*field = es_str_dup(value)) == NULL) {
        return es_fail(error, "no memory");
    }
    return true;
}

/* The only option that may be repeated: the next is for when those before fail. */
static bool
add_endpoint(es_exporter_config_t *exporter, const es_option_t *option, es_str_t value,
             es_error_t *error)
{
    if (exporter->targets_count == ES_ENDPOINTS_MAX) {
        return es_fail(error, "more than %d endpoints in one exporter", ES_ENDPOINTS_MAX);
    }
    char **endpoint = &exporter->targets[exporter->targets_count].endpoint;

    if (!set_string(endpoint, option, value, error)) {
        return false;
    }

    /* A scheme is the same in any case (RFC 3986, section 3.1). */
    if (strstr(*endpoint, "://") != NULL) {
        for (char *c = *endpoint; *c != ':'; c++) {
            *c = *c >= 'A' && *c <= 'Z' ? (char) (*c | 0x20) : *c;
        }
    }
    exporter->targets_count++;
    return true;
}

static bool
set_number(uint64_t *field, const es_option_t *option, es_str_t value, es_error_t *error)
{
    uint64_t number;
    bool ok = option->type == OPTION_TIME   ? es_parse_time(value, &number)
              : option->type == OPTION_SIZE ? es_parse_size(value, &number)
                                            : es_parse_uint(value, &number);

    if (!ok || number < option->min || number > option->max) {
        return es_fail(error, "invalid value \"%.*s\" of \"%s\": it takes %s", ES_ARG(value),
                       option->name, option->right);
    }
    *field = number;
    return true;
}

static bool
set_switch(bool *field, const es_option_t *option, es_str_t value, es_error_t *error)
{
    *field = es_str_ieq(value, es_cstr(option->on));
    if (*field || es_str_ieq(value, ES_STR("off"))
        || (option->off != NULL && es_str_ieq(value, es_cstr(option->off)))) {
        return true;
    }
    return es_fail(error, "invalid value \"%.*s\" of \"%s\": it takes %s", ES_ARG(value),
                   option->name, option->right);
}

static bool
set_path(es_config_t *config, char **field, const es_option_t *option, es_str_t value,
         es_error_t *error)
{
    if (value.len == 0) {
        return es_fail(error, "empty \"%s\": it takes %s", option->name, option->right);
    }
    return (*field = es_config_path(config, value)) != NULL || es_fail(error, "no memory");
}

static bool
set_pem(es_config_t *config, es_buffer_t *field, const es_option_t *option, es_str_t value,
        es_error_t *error)
{
    es_pem_t kind = option->type == OPTION_KEY ? ES_PEM_PRIVATE_KEY : ES_PEM_CERTIFICATE;
    es_error_t why;
    char *path = NULL;
    bool ok = set_path(config, &path, option, value, error);

    if (ok && !es_pem_read(path, kind, field, &why)) {
        ok = es_fail(error, "\"%s\": %s", option->name, why.text);
    }
    free(path);
    return ok;
}

static bool
set_option(es_exporter_config_t *exporter, const es_option_t *option, es_str_t value,
           es_error_t *error)
{
    void *field = (char *) exporter + option->offset;

    switch (option->type) {
    case OPTION_ENDPOINT:
        return add_endpoint(exporter, option, value, error);
    case OPTION_STRING:
        return set_string(field, option, value, error);
    case OPTION_SWITCH:
        return set_switch(field, option, value, error);
    case OPTION_PATH:
        return set_path(exporter->config, field, option, value, error);
    case OPTION_CERTIFICATE:
    case OPTION_KEY:
        return set_pem(exporter->config, field, option, value, error);
    case OPTION_TIME:
    case OPTION_SIZE:
    case OPTION_COUNT:
        return set_number(field, option, value, error);
    case OPTION_IGNORED:
        break;
    }
    es_config_log(exporter->config, ES_LOG_NOTICE,
                  "\"%s\" is accepted and ignored: the queue is bounded by \"queue_size\" alone",
                  option->name);
    return true;
}

bool
es_exporter_option(es_exporter_config_t *exporter, es_str_t name, es_str_t value, es_error_t *error)
{
    char known[320] = "";
    size_t at = 0;

    for (size_t i = 0; i < OPTIONS; i++) {
        const es_option_t *option = &options[i];

        at += (size_t) snprintf(known + at, sizeof(known) - at, "%s, ", option->name);
        if (!es_str_eq(name, es_cstr(option->name))) {
            continue;
        }
        if (option->type != OPTION_ENDPOINT && exporter->given & 1u << i) {
            return es_fail(error, "\"%s\" is given twice in one exporter", option->name);
        }
        exporter->given |= 1u << i;
        return set_option(exporter, option, value, error);
    }
    return es_fail(error, "unknown exporter option \"%.*s\": there are %sheader and header_file",
                   ES_ARG(name), known);
}

bool
es_exporter_given(const es_exporter_config_t *exporter, const char *name)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        if (strcmp(options[i].name, name) == 0) {
            return (exporter->given & 1u << i) != 0;
        }
    }
    return false;
}

/* -------------------------------------------------------------- headers --- */

static bool
is_field_value(es_str_t s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char) s.data[i] < 0x20 && s.data[i] != '\t') {
            return false;
        }
    }
    return true;
}

bool
es_header_valid(es_str_t name, es_str_t value)
{
    return es_is_token(name) && is_field_value(value);
}

/* The value may have got into the name ("Authorization: Bearer ..."): only what may
 * be one is shown. */
static bool
refuse_header(es_str_t name, es_error_t *error)
{
    size_t len = es_token_len(name);

    return es_fail(error,
                   "invalid header \"%.*s%s\": it takes a header name and a value without "
                   "control characters",
                   ES_ARG(es_str(name.data, len)), len < name.len ? "..." : "");
}

bool
es_exporter_header(es_exporter_config_t *exporter, es_str_t name, es_str_t value, es_error_t *error)
{
    char *line;

    if (!es_header_valid(name, value)) {
        return refuse_header(name, error);
    }
    if (exporter->headers_count == ES_EXPORTER_HEADERS_MAX) {
        return es_fail(error, "more than %d headers", ES_EXPORTER_HEADERS_MAX);
    }
    if ((line = malloc(name.len + value.len + 3)) == NULL) {
        return es_fail(error, "no memory");
    }

    /* curl takes "Name;" for a header with an empty value. */
    if (value.len == 0) {
        sprintf(line, "%.*s;", (int) name.len, name.data);
    } else {
        sprintf(line, "%.*s: %.*s", (int) name.len, name.data, (int) value.len, value.data);
    }
    exporter->headers[exporter->headers_count++] = line;
    return true;
}

bool
es_exporter_header_file(es_exporter_config_t *exporter, es_str_t name, es_str_t file,
                        es_error_t *error)
{
    es_buffer_t content = {NULL, 0};
    es_error_t why;
    es_str_t value;
    char *path;
    bool ok;

    if (!es_header_valid(name, ES_STR_NONE)) {
        return refuse_header(name, error);
    }
    path = es_config_path(exporter->config, file);
    ok = path != NULL && es_file_read(path, HEADER_FILE_MAX, &content, &why);
    if (!ok) {
        es_fail(error, "header_file \"%.*s\": %s", ES_ARG(name),
                path != NULL ? why.text : "no memory");
    }
    value = es_str(content.data, content.size);
    while (value.len != 0
           && (value.data[value.len - 1] == '\n' || value.data[value.len - 1] == '\r')) {
        value.len--;
    }
    if (ok && (value.len == 0 || !is_field_value(value))) {
        ok = es_fail(error,
                     "header_file \"%.*s\": %s is to hold one line, the header's value, without "
                     "control characters",
                     ES_ARG(name), path);
    }
    ok = ok && es_exporter_header(exporter, name, value, error);
    es_buffer_free(&content);
    free(path);
    return ok;
}

/* -------------------------------------------------------------- the end --- */

/* Options that the protocol has no use for. */
static bool
check_protocol(const es_exporter_config_t *exporter, es_error_t *error)
{
    static const char *const tls_options[] = {"trusted_certificate", "client_certificate",
                                              "client_certificate_key", "ssl_verify"};
    const es_protocol_t *protocol = exporter->protocol;
    bool https = false;

    if (exporter->gzip && (protocol->rules == NULL || protocol->rules->compressed == NULL)) {
        return es_fail(error, "\"compression gzip\" is not possible with protocol %s",
                       protocol->name);
    }
    if (protocol->rules == NULL && exporter->headers_count != 0) {
        return es_fail(error, "protocol %s sends no headers", protocol->name);
    }
    if (protocol->rules == NULL && exporter->spool != NULL) {
        return es_fail(error, "\"spool\" is not possible with protocol %s", protocol->name);
    }
    for (unsigned i = 0; i < exporter->targets_count; i++) {
        https = https || es_str_starts(es_cstr(exporter->targets[i].url), ES_STR("https:"));
    }
    for (size_t i = 0; i < sizeof(tls_options) / sizeof(tls_options[0]); i++) {
        if (!es_exporter_given(exporter, tls_options[i])) {
            continue;
        }
        if (protocol->rules == NULL) {
            return es_fail(error, "\"%s\" is not possible with protocol %s", tls_options[i],
                           protocol->name);
        }
        if (!https) {
            es_config_log(exporter->config, ES_LOG_WARN,
                          "\"%s\" has no effect: %s is not reached by https://", tls_options[i],
                          exporter->targets[0].name);
        }
    }
    if (https && !exporter->tls.verify) {
        es_config_log(exporter->config, ES_LOG_WARN,
                      "\"ssl_verify off\": whoever answers as %s gets the spans and headers",
                      exporter->targets[0].name);
    }
    return true;
}

static bool
check_spool(const es_exporter_config_t *exporter, es_error_t *error)
{
    const es_config_t *config = exporter->config;

    if (exporter->spool == NULL) {
        return !es_exporter_given(exporter, "spool_max")
               || es_fail(error, "a spool's maximum without a \"spool\"");
    }
    for (unsigned i = 0; i < config->exporters_count; i++) {
        const es_exporter_config_t *other = config->exporters[i];

        if (other != exporter && other->spool != NULL
            && strcmp(other->spool, exporter->spool) == 0) {
            return es_fail(error, "two exporters with the \"spool\" %s: each takes its own",
                           exporter->spool);
        }
    }
    return true;
}

bool
es_exporter_finish(es_exporter_config_t *exporter, es_error_t *error)
{
    exporter->batch_size_given = es_exporter_given(exporter, "batch_size");
    if (!es_environment_defaults(exporter, error)) {
        return false;
    }
    if (exporter->targets_count == 0) {
        return es_fail(error, "the exporter has no \"endpoint\": give one, as "
                              "http://127.0.0.1:4318/v1/traces or file:///var/log/spans.jsonl");
    }
    if ((exporter->tls.client_certificate.size != 0)
        != (exporter->tls.client_certificate_key.size != 0)) {
        return es_fail(error, "\"client_certificate\" and \"client_certificate_key\" go together: "
                              "one is missing");
    }
    if (!es_endpoint_resolve(exporter, error) || !check_protocol(exporter, error)
        || !check_spool(exporter, error)) {
        return false;
    }
    es_environment_tell(exporter);
    return true;
}
