/* What the variables mean for exporters. */

#include "es_environment.h"

#include "es_clock.h"
#include "es_protocol.h"

#include <stdio.h>
#include <stdlib.h>

#define HTTP_PROTOBUF ES_STR("http/protobuf")
#define GRPC ES_STR("grpc")

#define TRACES_EXPORTER "OTEL_TRACES_EXPORTER"
#define ZIPKIN_ENDPOINT "OTEL_EXPORTER_ZIPKIN_ENDPOINT"

static const char *
endpoint_variable(bool of_signal)
{
    return of_signal ? "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" : "OTEL_EXPORTER_OTLP_ENDPOINT";
}

static bool
is_otlp(es_str_t protocol)
{
    return es_str_eq(protocol, HTTP_PROTOBUF) || es_str_eq(protocol, ES_STR("http/json"))
           || es_str_eq(protocol, GRPC);
}

static bool
set_protocol(es_exporter_config_t *exporter, es_str_t name, es_error_t *error)
{
    char *copy = es_str_dup(name); /* it may be a view of the old one */

    free(exporter->protocol_name);
    exporter->protocol_name = copy;
    return copy != NULL || es_fail(error, "no memory");
}

static bool
add_target(es_exporter_config_t *exporter, const char *variable, const char *url, bool verbatim,
           es_error_t *error)
{
    exporter->variable = variable;
    exporter->verbatim = verbatim;
    exporter->targets[0].endpoint = es_str_dup(es_cstr(url));
    exporter->targets_count = 1;
    return exporter->targets[0].endpoint != NULL || es_fail(error, "no memory");
}

/* ------------------------------------------------------------ endpoints --- */

/* OTLP/HTTP: the signal's URL as it is, the general one as the base of it; both
 * have a scheme (OTLP exporter, "Endpoint URLs for OTLP/HTTP"). */
static bool
add_http_endpoint(es_exporter_config_t *exporter, es_error_t *error)
{
    const char *endpoint = exporter->config->variables.endpoint;
    bool of_signal = exporter->config->variables.endpoint_of_signal;
    size_t len = strlen(endpoint), room = len + sizeof("/v1/traces");
    const char *authority = strstr(endpoint, "://");
    bool bare = authority != NULL && strchr(authority + 3, '/') == NULL;
    char *url = malloc(room);
    bool ok;

    if (url == NULL) {
        return es_fail(error, "no memory");
    }
    snprintf(url, room, "%s%s%s", endpoint,
             of_signal                  ? bare ? "/" : ""
             : endpoint[len - 1] == '/' ? ""
                                        : "/",
             of_signal ? "" : "v1/traces");
    ok = add_target(exporter, endpoint_variable(of_signal), url, true, error);
    free(url);
    return ok;
}

/* OTLP/gRPC: only scheme, host and port count; what has no scheme is secure
 * unless OTEL_EXPORTER_OTLP_INSECURE says otherwise. */
static bool
add_grpc_endpoint(es_exporter_config_t *exporter, es_error_t *error)
{
    const es_environment_t *v = &exporter->config->variables;
    const char *endpoint = v->endpoint;
    const char *authority = strstr(endpoint, "://");
    const char *scheme = authority != NULL || strncmp(endpoint, "unix:", 5) == 0 ? ""
                         : v->insecure                                           ? "http://"
                                                                                 : "https://";
    size_t room = strlen(scheme) + strlen(endpoint) + 1;
    char *url = malloc(room), *path;
    bool ok;

    if (url == NULL) {
        return es_fail(error, "no memory");
    }
    snprintf(url, room, "%s%s", scheme, endpoint);
    authority = strstr(url, "://");
    path = authority != NULL ? strchr(authority + 3, '/') : NULL;
    if (path != NULL) {
        if (path[1] != '\0') {
            es_config_log(exporter->config, ES_LOG_WARN,
                          "the path in %s is ignored: protocol grpc has no use for it",
                          endpoint_variable(v->endpoint_of_signal));
        }
        *path = '\0';
    }
    ok = add_target(exporter, endpoint_variable(v->endpoint_of_signal), url, false, error);
    free(url);
    return ok;
}

/* An exporter without an endpoint gets the environment's, if it has one. */
static bool
add_endpoint(es_exporter_config_t *exporter, es_error_t *error)
{
    const es_environment_t *v = &exporter->config->variables;
    es_str_t name =
        es_cstr(exporter->protocol_name != NULL ? exporter->protocol_name : v->protocol);

    if (es_str_eq(name, ES_STR("zipkin"))) {
        return v->zipkin_endpoint == NULL
               || add_target(exporter, ZIPKIN_ENDPOINT, v->zipkin_endpoint, true, error);
    }
    if (name.len == 0) {
        name = HTTP_PROTOBUF;
    }
    if (v->endpoint == NULL || !is_otlp(name)) {
        return true;
    }
    if (es_str_eq(name, GRPC)) {
        return set_protocol(exporter, GRPC, error) && add_grpc_endpoint(exporter, error);
    }
    if (strstr(v->endpoint, "://") == NULL) {
        es_config_log(exporter->config, ES_LOG_WARN,
                      "%s is ignored: for protocol %.*s it takes an http:// or https:// URL",
                      endpoint_variable(v->endpoint_of_signal), ES_ARG(name));
        return true;
    }
    return set_protocol(exporter, name, error) && add_http_endpoint(exporter, error);
}

/* Where the endpoint leaves it open, OTEL_EXPORTER_OTLP_PROTOCOL decides: between
 * the two of OTLP/HTTP, or all three where there is only a host and a port. */
static bool
choose_protocol(es_exporter_config_t *exporter, es_str_t *name, es_error_t *error)
{
    const char *wanted = exporter->config->variables.protocol;
    bool open, http;

    if (exporter->protocol_name == NULL && exporter->targets_count != 0) {
        *name = es_endpoint_infer(&exporter->targets[0], &open);
        http = es_str_eq(*name, HTTP_PROTOBUF);
        if (wanted != NULL && (open || (http && !es_str_eq(es_cstr(wanted), GRPC)))
            && !set_protocol(exporter, es_cstr(wanted), error)) {
            return false;
        }
    }
    if (exporter->protocol_name != NULL) {
        *name = es_cstr(exporter->protocol_name);
    }
    return true;
}

/* ------------------------------------------------------------- defaults --- */

static bool
copy_pem(es_buffer_t *out, const es_buffer_t *pem, es_error_t *error)
{
    if (pem->size == 0) {
        return true;
    }
    if ((out->data = malloc(pem->size)) == NULL) {
        return es_fail(error, "no memory");
    }
    memcpy(out->data, pem->data, pem->size);
    out->size = pem->size;
    return true;
}

/* Credentials count like any other option; where they go is said, because it need
 * not be where the variable's author meant. */
static bool
set_credentials(es_exporter_config_t *exporter, es_error_t *error)
{
    const es_environment_t *v = &exporter->config->variables;
    es_tls_t *tls = &exporter->tls;

    if (!es_exporter_given(exporter, "trusted_certificate")
        && !copy_pem(&tls->trusted_certificate, &v->certificate, error)) {
        return false;
    }
    if (!es_exporter_given(exporter, "client_certificate")
        && !es_exporter_given(exporter, "client_certificate_key") && v->client_key.size != 0) {
        if (!copy_pem(&tls->client_certificate, &v->client_certificate, error)
            || !copy_pem(&tls->client_certificate_key, &v->client_key, error)) {
            return false;
        }
        exporter->environment_credentials = true;
    }
    if (exporter->headers_count == 0 && v->headers_count != 0) {
        for (unsigned i = 0; i < v->headers_count; i++) {
            if (!es_exporter_header(exporter, es_cstr(v->headers[i].name),
                                    es_cstr(v->headers[i].value), error)) {
                return false;
            }
        }
        exporter->environment_credentials = true;
    }
    return true;
}

static void
set_numbers(es_exporter_config_t *exporter, bool otlp, bool zipkin)
{
    const es_environment_t *v = &exporter->config->variables;
    uint64_t timeout = otlp ? v->timeout_ns : zipkin ? v->zipkin_timeout_ns : 0;

    if (v->schedule_delay_ns != 0 && !es_exporter_given(exporter, "interval")) {
        exporter->interval_ns = v->schedule_delay_ns;
    }
    if (v->batch_size != 0 && !es_exporter_given(exporter, "batch_size")) {
        exporter->batch_size = v->batch_size;
        exporter->batch_size_given = true;
    }
    if (es_exporter_given(exporter, "timeout")) {
        return;
    }
    if (timeout != 0) {
        exporter->timeout_ns = timeout;
    }

    /* The processor's limit holds for whatever exporter it has. */
    if (v->export_timeout_ns != 0 && v->export_timeout_ns < exporter->timeout_ns) {
        exporter->timeout_ns = v->export_timeout_ns;
    }
}

bool
es_environment_defaults(es_exporter_config_t *exporter, es_error_t *error)
{
    const es_environment_t *v = &exporter->config->variables;
    es_str_t name = ES_STR_NONE;

    es_environment_read(exporter->config);
    if ((exporter->targets_count == 0 && !add_endpoint(exporter, error))
        || !choose_protocol(exporter, &name, error)) {
        return false;
    }
    set_numbers(exporter, is_otlp(name), es_str_eq(name, ES_STR("zipkin")));
    if (!is_otlp(name)) {
        return true;
    }
    if (!es_exporter_given(exporter, "compression")) {
        exporter->gzip = v->gzip;
    }
    return set_credentials(exporter, error);
}

void
es_environment_tell(const es_exporter_config_t *exporter)
{
    const es_target_t *target = &exporter->targets[0];

    if (exporter->variable != NULL) {
        es_config_log(exporter->config, ES_LOG_NOTICE, "%s: spans go to %s as %s",
                      exporter->variable, target->name, exporter->protocol->name);
    } else if (exporter->environment_credentials) {
        es_config_log(exporter->config, ES_LOG_NOTICE,
                      "headers or the client certificate of OTEL_EXPORTER_OTLP_... go to %s",
                      target->name);
    }
}

/* ------------------------------------------------------------ exporters --- */

/* Endpoint NULL: that of the OTLP variables. */
static void
add_exporter(es_config_t *config, es_str_t protocol, const char *variable, const char *endpoint,
             bool verbatim)
{
    es_exporter_config_t *exporter;
    es_error_t error;
    bool told = false;

    if (es_config_exporter(config, &exporter, &error)) {
        if (set_protocol(exporter, protocol, &error)
            && (endpoint == NULL || add_target(exporter, variable, endpoint, verbatim, &error))
            && es_exporter_finish(exporter, &error)) {
            return;
        }
        /* Why there is none was said by add_endpoint(). */
        told = exporter->targets_count == 0;
        es_config_drop_exporter(config);
    }
    if (told) {
        return;
    }
    es_config_log(config, ES_LOG_WARN, "%s is ignored: %s", variable, error.text);
}

static void
add_otlp(es_config_t *config)
{
    const es_environment_t *v = &config->variables;
    es_str_t protocol = v->protocol != NULL ? es_cstr(v->protocol) : HTTP_PROTOBUF;
    bool grpc = es_str_eq(protocol, GRPC);

    if (v->endpoint != NULL) {
        add_exporter(config, protocol, endpoint_variable(v->endpoint_of_signal), NULL, false);
    } else {
        add_exporter(config, protocol, TRACES_EXPORTER,
                     grpc ? "http://localhost:4317" : "http://localhost:4318", false);
    }
}

void
es_environment_exporters(es_config_t *config)
{
    const es_environment_t *v = &config->variables;

    if (config->exporters_count != 0 || (!v->exporters_given && v->endpoint == NULL)) {
        return;
    }
    if (v->otlp || !v->exporters_given) {
        add_otlp(config);
    }
    if (v->zipkin && v->zipkin_endpoint != NULL) {
        add_exporter(config, ES_STR("zipkin"), ZIPKIN_ENDPOINT, v->zipkin_endpoint, true);
    } else if (v->zipkin) {
        add_exporter(config, ES_STR("zipkin"), TRACES_EXPORTER,
                     "http://localhost:9411/api/v2/spans", true);
    }
    if (v->console) {
        add_exporter(config, ES_STR("file"), TRACES_EXPORTER, "stdout", false);
    }
}
