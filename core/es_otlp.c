/* OTLP as protobuf: the envelope around spans that are encoded already, and the
 * collector's answers. */

#include "es_otlp.h"

#include "es_protocol.h"

#include <stdio.h>
#include <stdlib.h>

/* What the attributes' names mean. */
#define SCHEMA_URL "https://opentelemetry.io/schemas/1.44.0"

/* One per service name; the usual case is one in all. */
typedef struct es_group {
    EsOtlp__ResourceSpansEnvelope resource_spans;
    EsOtlp__ScopeSpansEnvelope scope_spans;
    EsOtlp__ScopeSpansEnvelope *scope_spans_list[1];
    uint16_t resource;
} es_group_t;

static char scope_name[] = "edgespan";
static char scope_version[] = EDGESPAN_VERSION;
static char schema_url[] = SCHEMA_URL;

static void
group_init(es_group_t *group, const es_config_t *config, uint16_t resource,
           EsOtlp__InstrumentationScope *scope)
{
    const es_resource_t *r = &config->resources[resource];

    group->resource = resource;
    es_otlp__scope_spans_envelope__init(&group->scope_spans);
    group->scope_spans.scope = scope;
    group->scope_spans_list[0] = &group->scope_spans;

    es_otlp__resource_spans_envelope__init(&group->resource_spans);
    group->resource_spans.resource.data = r->packed;
    group->resource_spans.resource.len = r->packed_size;
    group->resource_spans.scope_spans = group->scope_spans_list;
    group->resource_spans.n_scope_spans = 1;
    group->resource_spans.schema_url = schema_url;
}

/* An index beyond the list can only come from a damaged record. */
static uint16_t
resource_of(const es_config_t *config, const es_record_t *record)
{
    return record->resource < config->resources_count ? record->resource : 0;
}

/* Which group a record is in: the same as the one before it, most of the time. */
static unsigned
find_group(const es_group_t *groups, unsigned count, unsigned last, uint16_t resource)
{
    if (last < count && groups[last].resource == resource) {
        return last;
    }
    for (unsigned i = 0; i < count; i++) {
        if (groups[i].resource == resource) {
            return i;
        }
    }
    return count;
}

static bool
pack(const EsOtlp__ExportTraceServiceRequest *request, es_buffer_t *out)
{
    out->size = es_otlp__export_trace_service_request__get_packed_size(request);
    if ((out->data = malloc(out->size)) == NULL) {
        return false;
    }
    es_otlp__export_trace_service_request__pack(request, out->data);
    return true;
}

bool
es_otlp_pack(const es_config_t *config, const es_record_t *records, unsigned count,
             es_buffer_t *out)
{
    EsOtlp__ExportTraceServiceRequest request = ES_OTLP__EXPORT_TRACE_SERVICE_REQUEST__INIT;
    EsOtlp__InstrumentationScope scope = ES_OTLP__INSTRUMENTATION_SCOPE__INIT;
    unsigned most = count < config->resources_count ? count : config->resources_count;
    es_group_t *groups = calloc(most, sizeof(*groups));
    EsOtlp__ResourceSpansEnvelope **list = calloc(most, sizeof(EsOtlp__ResourceSpansEnvelope *));
    ProtobufCBinaryData *spans = calloc(count, sizeof(*spans)), *next = spans;
    unsigned used = 0, at = 0;
    bool ok = false;

    if (groups == NULL || list == NULL || spans == NULL) {
        goto done;
    }
    scope.name = scope_name;
    scope.version = scope_version;

    for (unsigned i = 0; i < count; i++) {
        uint16_t resource = resource_of(config, &records[i]);

        at = find_group(groups, used, at, resource);
        if (at == used) {
            group_init(&groups[used++], config, resource, &scope);
        }
        groups[at].scope_spans.n_spans++;
    }

    /* Each group's part of `spans`, filled in the records' order. */
    for (unsigned i = 0; i < used; i++) {
        groups[i].scope_spans.spans = next;
        next += groups[i].scope_spans.n_spans;
        groups[i].scope_spans.n_spans = 0;
        list[i] = &groups[i].resource_spans;
    }
    for (unsigned i = 0; i < count; i++) {
        uint16_t resource = resource_of(config, &records[i]);
        EsOtlp__ScopeSpansEnvelope *scope_spans;

        at = find_group(groups, used, at, resource);
        scope_spans = &groups[at].scope_spans;
        scope_spans->spans[scope_spans->n_spans++] = (ProtobufCBinaryData){
            .len = records[i].span.len, .data = (uint8_t *) records[i].span.data};
    }

    request.resource_spans = list;
    request.n_resource_spans = used;
    ok = pack(&request, out);

done:
    free(spans);
    free(list);
    free(groups);
    return ok;
}

static void
read_answer(es_str_t body, bool ok, es_result_t *result)
{
    const uint8_t *bytes = (const uint8_t *) body.data;

    if (ok) {
        EsOtlp__ExportTraceServiceResponse *response =
            es_otlp__export_trace_service_response__unpack(NULL, body.len, bytes);

        if (response != NULL && response->partial_success != NULL) {
            const EsOtlp__ExportTracePartialSuccess *partial = response->partial_success;

            result->rejected = partial->rejected_spans > 0 ? (uint64_t) partial->rejected_spans : 0;
            snprintf(result->message, sizeof(result->message), "%s", partial->error_message);
        }
        if (response != NULL) {
            es_otlp__export_trace_service_response__free_unpacked(response, NULL);
        }
        return;
    }

    EsOtlp__RpcStatus *status = es_otlp__rpc_status__unpack(NULL, body.len, bytes);

    if (status != NULL) {
        snprintf(result->message, sizeof(result->message), "%s", status->message);
        es_otlp__rpc_status__free_unpacked(status, NULL);
    }
}

const es_format_t es_format_otlp = {
    .content_type = "application/x-protobuf",
    .read_answer = read_answer,
};
