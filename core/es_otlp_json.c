/* OTLP as JSON: the batch's own protobuf bytes, decoded and walked by their
 * descriptors, in proto3's JSON mapping with OTLP's two differences: ids are
 * hex, enums are numbers. */

#include "es_otlp_walk.h"

#include <stdio.h>
#include <stdlib.h>

static json_t *message_json(const ProtobufCMessage *message);

/* dropped_events_count -> droppedEventsCount */
static void
camel_case(const char *name, char *out, size_t size)
{
    size_t at = 0;
    bool upper = false;

    for (; *name != '\0' && at + 1 < size; name++) {
        if (*name == '_') {
            upper = true;
            continue;
        }
        out[at++] = (char) (upper ? *name - 'a' + 'A' : *name);
        upper = false;
    }
    out[at] = '\0';
}

/* Ids are hex. Other bytes are base64, as in all of proto3's JSON. */
static json_t *
bytes_json(const ProtobufCFieldDescriptor *field, const ProtobufCBinaryData *bytes)
{
    json_t *json;
    char *text;

    if (strcmp(field->name, "bytes_value") != 0) {
        return es_otlp_hex(bytes);
    }
    text = es_otlp_base64(bytes);
    json = text != NULL ? json_string(text) : NULL;
    free(text);
    return json;
}

/* 64-bit numbers are decimal strings: a JavaScript number would round them. */
static json_t *
decimal_json(uint64_t value, bool is_signed)
{
    char text[24];

    if (is_signed) {
        snprintf(text, sizeof(text), "%lld", (long long) value);
    } else {
        snprintf(text, sizeof(text), "%llu", (unsigned long long) value);
    }
    return json_string(text);
}

static json_t *
value_json(const ProtobufCFieldDescriptor *field, const void *value)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
        return json_integer(*(const int32_t *) value);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(*(const uint32_t *) value);
    case PROTOBUF_C_TYPE_INT64:
        return decimal_json(*(const uint64_t *) value, true);
    case PROTOBUF_C_TYPE_FIXED64:
        return decimal_json(*(const uint64_t *) value, false);
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *) value);
    case PROTOBUF_C_TYPE_DOUBLE:
        return es_otlp_double(*(const double *) value);
    case PROTOBUF_C_TYPE_STRING:
        return json_string(*(char *const *) value);
    case PROTOBUF_C_TYPE_BYTES:
        return bytes_json(field, value);
    case PROTOBUF_C_TYPE_MESSAGE:
        return message_json(*(ProtobufCMessage *const *) value);
    default:
        return NULL; /* the .proto has no other type */
    }
}

static size_t
value_size(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
    case PROTOBUF_C_TYPE_STRING:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return sizeof(uint32_t);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    default:
        return sizeof(uint64_t);
    }
}

static bool
is_default(const ProtobufCFieldDescriptor *field, const void *value)
{
    static const uint8_t zeros[sizeof(uint64_t)];

    switch (field->type) {
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(void *const *) value == NULL;
    case PROTOBUF_C_TYPE_STRING:
        return (*(char *const *) value)[0] == '\0';
    case PROTOBUF_C_TYPE_BYTES:
        return ((const ProtobufCBinaryData *) value)->len == 0;
    default:
        return memcmp(value, zeros, value_size(field)) == 0;
    }
}

static json_t *
array_json(const ProtobufCFieldDescriptor *field, const uint8_t *items, size_t count)
{
    json_t *array = json_array();

    for (size_t i = 0; i < count; i++) {
        if (json_array_append_new(array, value_json(field, items + i * value_size(field))) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

/* Is there anything to write of this field? */
static bool
is_present(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const uint8_t *base = (const uint8_t *) message;
    const void *quantifier = base + field->quantifier_offset;

    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        return *(const uint32_t *) quantifier == field->id;
    }
    return field->label == PROTOBUF_C_LABEL_REPEATED ? *(const size_t *) quantifier != 0
                                                     : !is_default(field, base + field->offset);
}

static json_t *
field_json(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const uint8_t *base = (const uint8_t *) message;
    const void *value = base + field->offset;

    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        return array_json(field, *(uint8_t *const *) value,
                          *(const size_t *) (base + field->quantifier_offset));
    }
    return value_json(field, value);
}

/* NULL: no memory for all of it. */
static json_t *
message_json(const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    json_t *object = json_object();

    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        char name[64];

        if (!is_present(message, field)) {
            continue;
        }
        camel_case(field->name, name, sizeof(name));
        if (json_object_set_new(object, name, field_json(message, field)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static bool
encode(const EsOtlp__TracesData *data, es_buffer_t *body)
{
    json_t *json = message_json(&data->base);
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);
    if (text == NULL) {
        return false;
    }
    *body = (es_buffer_t){(uint8_t *) text, strlen(text)};
    return true;
}

/* ------------------------------------------------------------- answers --- */

static void
read_answer(es_str_t body, bool ok, es_result_t *result)
{
    json_t *answer = json_loadb(body.data, body.len, 0, NULL);
    const json_t *partial = json_object_get(answer, "partialSuccess"), *number;
    const char *message;
    long long rejected;

    if (!ok) {
        /* google.rpc.Status */
        message = json_string_value(json_object_get(answer, "message"));
    } else {
        /* A 64-bit number may come as either (proto3 JSON mapping). */
        number = json_object_get(partial, "rejectedSpans");
        rejected = json_is_string(number) ? strtoll(json_string_value(number), NULL, 10)
                                          : json_integer_value(number);
        result->rejected = rejected > 0 ? (uint64_t) rejected : 0;
        message = json_string_value(json_object_get(partial, "errorMessage"));
    }
    snprintf(result->message, sizeof(result->message), "%s", message != NULL ? message : "");
    json_decref(answer);
}

const es_format_t es_format_otlp_json = {
    .content_type = "application/json",
    .encode = encode,
    .read_answer = read_answer,
};
