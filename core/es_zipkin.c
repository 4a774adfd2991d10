/* Zipkin's JSON, version 2 (zipkin2-api.yaml): an array of spans. The mapping is
 * OpenTelemetry's ("OpenTelemetry to Zipkin Transformation"). Of a resource there
 * is only the service's name and namespace: Zipkin has no place for the rest. */

#include "es_otlp_walk.h"
#include "es_span.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <strings.h>

/* Takes the value; NULL, which is short memory, makes it false. */
static bool
put(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0;
}

/* Empty members are left out. */
static bool
put_unless_empty(json_t *object, const char *key, json_t *value)
{
    if (value == NULL) {
        return false;
    }
    if (json_object_size(value) + json_array_size(value) == 0) {
        json_decref(value);
        return true;
    }
    return put(object, key, value);
}

/* Of a span that was not made in full. */
static json_t *
complete(json_t *json, bool ok)
{
    if (!ok) {
        json_decref(json);
        return NULL;
    }
    return json;
}

/* ----------------------------------------------------------------- tags --- */

static bool
put_tag(void *data, const char *key, const EsOtlp__AnyValue *value)
{
    json_t *tags = data;
    char *text = es_otlp_text(value);
    bool ok = text != NULL;

    /* To Zipkin any "error" means that the span failed, "false" as well. */
    if (ok && !(strcmp(key, "error") == 0 && strcasecmp(text, "false") == 0)) {
        ok = put(tags, key, json_string(text));
    }
    free(text);
    return ok;
}

static json_t *
tags_json(const EsOtlp__Resource *resource, const EsOtlp__ScopeSpans *scope_spans,
          const EsOtlp__Span *span)
{
    json_t *tags = json_object();
    const char *space = resource != NULL ? es_otlp_find_string(
                            resource->attributes, resource->n_attributes, "service.namespace")
                                         : NULL;
    bool ok = es_otlp_tags(scope_spans, span, put_tag, tags);

    if (ok && space != NULL) {
        ok = put(tags, "service.namespace", json_string(space));
    }
    if (ok && span->status != NULL && span->status->code == ES_STATUS_ERROR) {
        ok = put(tags, "error", json_string(span->status->message));
    }
    return complete(tags, ok);
}

/* ------------------------------------------------------------ endpoints --- */

static json_t *
local_endpoint(const EsOtlp__Resource *resource)
{
    json_t *endpoint = json_object();

    return complete(endpoint,
                    put(endpoint, "serviceName", json_string(es_otlp_service_name(resource))));
}

/* By the stable name, or else by the one before (otel_semconv old). */
static const EsOtlp__AnyValue *
find_either(const EsOtlp__Span *span, const char *stable, const char *old)
{
    const EsOtlp__AnyValue *value = es_otlp_find(span->attributes, span->n_attributes, stable);

    return value != NULL ? value : es_otlp_find(span->attributes, span->n_attributes, old);
}

static bool
put_address(json_t *endpoint, const EsOtlp__Span *span)
{
    const EsOtlp__AnyValue *peer = find_either(span, "network.peer.address", "net.sock.peer.addr");
    const EsOtlp__AnyValue *port = find_either(span, "network.peer.port", "net.sock.peer.port");
    const char *address = peer != NULL && peer->value_case == ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE
                              ? peer->string_value
                              : NULL;
    uint8_t binary[sizeof(struct in6_addr)];
    bool ok = true;

    if (address != NULL && inet_pton(AF_INET, address, binary) == 1) {
        ok = put(endpoint, "ipv4", json_string(address));
    } else if (address != NULL && inet_pton(AF_INET6, address, binary) == 1) {
        ok = put(endpoint, "ipv6", json_string(address));
    }
    if (ok && port != NULL && port->value_case == ES_OTLP__ANY_VALUE__VALUE_INT_VALUE
        && port->int_value > 0 && port->int_value <= 65535) {
        ok = put(endpoint, "port", json_integer(port->int_value));
    }
    return ok;
}

/* Whom a CLIENT span asked; of the others the tags say it. */
static json_t *
remote_endpoint(const EsOtlp__Span *span)
{
    static const char *const names[] = {"peer.service",         "service.peer.name",
                                        "server.address",       "net.peer.name",
                                        "network.peer.address", "net.sock.peer.addr"};
    json_t *endpoint = json_object();
    bool ok = endpoint != NULL;

    if (span->kind != ES_KIND_CLIENT) {
        return endpoint;
    }
    for (size_t i = 0; ok && i < sizeof(names) / sizeof(names[0]); i++) {
        const char *name = es_otlp_find_string(span->attributes, span->n_attributes, names[i]);

        if (name != NULL) {
            ok = put(endpoint, "serviceName", json_string(name));
            break;
        }
    }
    return complete(endpoint, ok && put_address(endpoint, span));
}

/* ---------------------------------------------------------------- spans --- */

/* "name":{"key":"value"} */
static json_t *
annotation_value(const EsOtlp__Event *event)
{
    json_t *attributes, *name, *value = NULL;
    char *name_text, *attributes_text;

    if (event->n_attributes == 0) {
        return json_string(event->name);
    }
    name = json_string(event->name);
    attributes = es_otlp_json_object(event->attributes, event->n_attributes);
    name_text = es_otlp_dump(name);
    attributes_text = es_otlp_dump(attributes);
    if (name_text != NULL && attributes_text != NULL) {
        value = json_sprintf("%s:%s", name_text, attributes_text);
    }
    free(name_text);
    free(attributes_text);
    json_decref(name);
    json_decref(attributes);
    return value;
}

static json_t *
annotations_json(const EsOtlp__Span *span)
{
    json_t *annotations = json_array();
    bool ok = annotations != NULL;

    for (size_t i = 0; ok && i < span->n_events; i++) {
        const EsOtlp__Event *event = span->events[i];
        json_t *annotation = json_object();

        ok = put(annotation, "timestamp", json_integer((json_int_t) (event->time_unix_nano / 1000)))
             && put(annotation, "value", annotation_value(event));
        ok = json_array_append_new(annotations, annotation) == 0 && ok;
    }
    return complete(annotations, ok);
}

/* By OTLP's numbers; INTERNAL is none of Zipkin's. */
static const char *
kind_name(int32_t kind)
{
    static const char *const names[] = {NULL, NULL, "SERVER", "CLIENT", "PRODUCER", "CONSUMER"};

    return kind >= 0 && kind < (int32_t) (sizeof(names) / sizeof(names[0])) ? names[kind] : NULL;
}

static json_t *
span_json(const EsOtlp__Resource *resource, const EsOtlp__ScopeSpans *scope_spans,
          const EsOtlp__Span *span)
{
    json_t *json = json_object();
    const char *kind = kind_name(span->kind);
    int64_t start = (int64_t) (span->start_time_unix_nano / 1000);

    return complete(json,
                    put(json, "traceId", es_otlp_hex(&span->trace_id))
                        && put(json, "id", es_otlp_hex(&span->span_id))
                        && (span->parent_span_id.len == 0
                            || put(json, "parentId", es_otlp_hex(&span->parent_span_id)))
                        && put(json, "name", json_string(span->name))
                        && (kind == NULL || put(json, "kind", json_string(kind)))
                        && put(json, "timestamp", json_integer(start != 0 ? start : 1))
                        && put(json, "duration", json_integer(es_otlp_duration_us(span)))
                        && put(json, "localEndpoint", local_endpoint(resource))
                        && put_unless_empty(json, "remoteEndpoint", remote_endpoint(span))
                        && put_unless_empty(json, "tags", tags_json(resource, scope_spans, span))
                        && put_unless_empty(json, "annotations", annotations_json(span)));
}

static json_t *
spans_json(const EsOtlp__TracesData *data)
{
    json_t *spans = json_array();

    for (size_t i = 0; i < data->n_resource_spans; i++) {
        const EsOtlp__ResourceSpans *resource_spans = data->resource_spans[i];

        for (size_t j = 0; j < resource_spans->n_scope_spans; j++) {
            const EsOtlp__ScopeSpans *scope_spans = resource_spans->scope_spans[j];

            for (size_t k = 0; k < scope_spans->n_spans; k++) {
                json_t *span =
                    span_json(resource_spans->resource, scope_spans, scope_spans->spans[k]);

                if (json_array_append_new(spans, span) != 0) {
                    json_decref(spans);
                    return NULL;
                }
            }
        }
    }
    return spans;
}

static bool
encode(const EsOtlp__TracesData *data, es_buffer_t *body)
{
    json_t *spans = spans_json(data);
    char *text = spans != NULL ? json_dumps(spans, JSON_COMPACT) : NULL;

    json_decref(spans);
    if (text == NULL) {
        return false;
    }
    *body = (es_buffer_t){(uint8_t *) text, strlen(text)};
    return true;
}

const es_format_t es_format_zipkin = {
    .content_type = "application/json",
    .encode = encode,
    .read_answer = es_otlp_read_words,
};
