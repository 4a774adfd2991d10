/* Which headers of a client are kept from upstreams. */

#include "es_propagator.h"

/* Of every format in use, by its own documentation. A name that ends in "*" is a
 * prefix. */
static const char *const names[] = {
    "traceparent", /* W3C */
    "tracestate",
    "baggage",
    "b3", /* B3 */
    "x-b3-*",
    "uber-trace-id", /* Jaeger */
    "uberctx-*",
    "jaeger-baggage",
    "jaeger-debug-id",
    "x-amzn-trace-id", /* X-Ray */
    "ot-tracer-*",     /* OpenTracing */
    "ot-baggage-*",
    "x-ot-span-context", /* LightStep */
    "grpc-trace-bin",    /* OpenCensus */
    "grpc-tags-bin",
    "x-cloud-trace-context", /* Google Cloud */
    "x-datadog-*",
    "sw8*", /* SkyWalking */
    "elastic-apm-traceparent",
    "sentry-trace",
    "newrelic",
    "pinpoint-*",
    "x-newrelic-*",
    "x-dynatrace*",
    "x-instana-*",
    "correlation-context", /* Azure, before W3C Baggage */
};

/* CGI makes underscores of hyphens, and so its programs cannot tell them apart. */
static bool
matches(es_str_t name, es_str_t row)
{
    if (row.data[row.len - 1] == '*') {
        row.len--;
        name.len = name.len > row.len ? row.len : name.len;
    }
    for (size_t i = 0; i < row.len && name.len == row.len; i++) {
        char c = name.data[i];

        if (row.data[i] != (c == '_' ? '-' : c >= 'A' && c <= 'Z' ? c | 0x20 : c)) {
            return false;
        }
    }
    return name.len == row.len;
}

bool
es_is_context_header(es_str_t name)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        /* The first letter tells nearly all of a request's headers apart. */
        if (name.len != 0 && (name.data[0] | 0x20) == names[i][0]
            && matches(name, es_cstr(names[i]))) {
            return true;
        }
    }
    return false;
}

bool
es_trace_removes(const es_trace_t *trace, es_str_t name)
{
    const es_fields_t *fields;

    if (trace == NULL || trace->trust != ES_TRUST_ON) {
        return es_is_context_header(name);
    }
    fields = &trace->propagation->fields;
    if (!es_fields_may_have(fields, name)) {
        return false;
    }
    for (unsigned i = 0; i < ES_FIELDS; i++) {
        if ((fields->which & ES_FIELD_BIT(i)) && matches(name, es_field_name((es_field_t) i))) {
            return i != ES_FIELD_BAGGAGE || trace->allow != NULL; /* it passes as it came */
        }
    }
    return false;
}
