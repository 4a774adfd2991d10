/* es_otlp_walk.h: what the formats that are made of decoded spans share: values
 * as text and as JSON, and the tags that stand for what a format has no field
 * for (OpenTelemetry specification, "Mapping to non-OTLP").
 *
 * Exporter thread. What is returned is the caller's; NULL and false mean that
 * memory is short. */

#ifndef ES_OTLP_WALK_H
#define ES_OTLP_WALK_H

#include "es_protocol.h"

#include <jansson.h>

/* The attribute's value, or NULL. */
const EsOtlp__AnyValue *es_otlp_find(EsOtlp__KeyValue *const *attributes, size_t count,
                                     const char *key);

/* The same if it is a string and not empty, or NULL. */
const char *es_otlp_find_string(EsOtlp__KeyValue *const *attributes, size_t count, const char *key);

/* A resource's service.name. */
const char *es_otlp_service_name(const EsOtlp__Resource *resource);

/* An id as lowercase hex; one that is too long for an id is empty. */
json_t *es_otlp_hex(const ProtobufCBinaryData *id);

/* NUL-terminated, to be freed. */
char *es_otlp_base64(const ProtobufCBinaryData *bytes);

/* A number, which JSON may be unable to hold: then it is a string, as proto3's
 * JSON mapping has it. */
json_t *es_otlp_double(double value);

/* In JSON's own types; bytes as base64. */
json_t *es_otlp_json(const EsOtlp__AnyValue *value);
json_t *es_otlp_json_object(EsOtlp__KeyValue *const *attributes, size_t count);

/* For people, numbers of 15 digits. To be freed. */
char *es_otlp_dump(const json_t *json);

/* A string as it is, all else as JSON has it. To be freed. */
char *es_otlp_text(const EsOtlp__AnyValue *value);

/* Calls put() for each attribute of the span, and then for its tracestate, scope,
 * status code and what was dropped of it. False as soon as put() says so. */
typedef bool es_otlp_put_t(void *data, const char *key, const EsOtlp__AnyValue *value);
bool es_otlp_tags(const EsOtlp__ScopeSpans *scope_spans, const EsOtlp__Span *span,
                  es_otlp_put_t *put, void *data) ES_MUST_CHECK;

/* Microseconds from the start to the end, at least 1. */
int64_t es_otlp_duration_us(const EsOtlp__Span *span);

/* es_format_t's read_answer() where an answer that refuses is plain words. */
void es_otlp_read_words(es_str_t body, bool ok, es_result_t *result);

#endif
