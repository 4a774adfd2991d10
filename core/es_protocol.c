#include "es_protocol.h"

#include "es_http_sender.h"

#include <stdio.h>

const es_protocol_t es_protocol_http_protobuf = {
    "http/protobuf", &es_format_otlp, &es_sender_http, &es_http_rules_otlp, "/v1/traces",
};

static const es_protocol_t grpc = {
    "grpc",
    &es_format_otlp,
    &es_sender_http,
    &es_http_rules_grpc,
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
};

static const es_protocol_t http_json = {
    "http/json", &es_format_otlp_json, &es_sender_http, &es_http_rules_otlp, "/v1/traces",
};

static const es_protocol_t zipkin = {
    "zipkin", &es_format_zipkin, &es_sender_http, &es_http_rules_otlp, "/api/v2/spans",
};

static const es_protocol_t jaeger = {
    "jaeger",
    &es_format_jaeger,
    &es_sender_http,
    &es_http_rules_otlp,
    "/api/traces?format=jaeger.thrift",
};

const es_protocol_t es_protocol_file = {
    "file", &es_format_otlp_json, &es_sender_file, NULL, NULL,
};

static const es_protocol_t *const protocols[] = {
    &es_protocol_http_protobuf, &grpc, &http_json, &zipkin, &jaeger, &es_protocol_file,
};

#define PROTOCOLS (sizeof(protocols) / sizeof(protocols[0]))

const es_protocol_t *
es_protocol_find(es_str_t name)
{
    for (size_t i = 0; i < PROTOCOLS; i++) {
        if (es_str_eq(name, es_cstr(protocols[i]->name))) {
            return protocols[i];
        }
    }
    return NULL;
}

void
es_protocol_names(char *out, size_t size)
{
    size_t at = 0;

    out[0] = '\0';
    for (size_t i = 0; i < PROTOCOLS && at < size; i++) {
        at +=
            (size_t) snprintf(out + at, size - at, "%s%s", i != 0 ? ", " : "", protocols[i]->name);
    }
}
