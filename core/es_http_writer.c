/* Attributes under the names they are to have, and the user's of all types. */

#include "es_http_writer.h"

#include "es_hash.h"
#include "es_number.h"

#define NAMES_MAX 2

static bool
is_replaced(const es_http_writer_t *writer, es_str_t key)
{
    for (unsigned i = 0; i < writer->replacing_count; i++) {
        if (es_str_eq(writer->replacing[i].key, key)) {
            return true;
        }
    }
    return false;
}

static unsigned
keys_of(const es_http_writer_t *writer, const es_http_name_t *name, es_str_t keys[NAMES_MAX])
{
    es_semconv_t semconv = writer->trace->config->semconv;
    es_str_t stable = es_key_str(&name->stable), old = es_key_str(&name->old);
    unsigned count = 0;

    if (semconv != ES_SEMCONV_OLD && stable.len != 0 && !is_replaced(writer, stable)) {
        keys[count++] = stable;
    }
    if (semconv != ES_SEMCONV_STABLE && old.len != 0
        && !(semconv == ES_SEMCONV_BOTH && es_str_eq(old, stable)) && !is_replaced(writer, old)) {
        keys[count++] = old;
    }
    return count;
}

void
es_http_name_string(es_http_writer_t *writer, const es_http_name_t *name, es_str_t value)
{
    es_str_t keys[NAMES_MAX];

    for (unsigned count = keys_of(writer, name, keys), i = 0; i < count; i++) {
        es_span_string(&writer->span, keys[i], value);
    }
}

void
es_http_name_int(es_http_writer_t *writer, const es_http_name_t *name, int64_t value)
{
    es_str_t keys[NAMES_MAX];

    for (unsigned count = keys_of(writer, name, keys), i = 0; i < count; i++) {
        es_span_int(&writer->span, keys[i], value);
    }
}

void
es_http_name_double(es_http_writer_t *writer, const es_http_name_t *name, double value)
{
    es_str_t keys[NAMES_MAX];

    for (unsigned count = keys_of(writer, name, keys), i = 0; i < count; i++) {
        es_span_double(&writer->span, keys[i], value);
    }
}

void
es_http_name_bool(es_http_writer_t *writer, const es_http_name_t *name, bool value)
{
    es_str_t keys[NAMES_MAX];

    for (unsigned count = keys_of(writer, name, keys), i = 0; i < count; i++) {
        es_span_bool(&writer->span, keys[i], value);
    }
}

/* ----------------------------------------------------------- the user's --- */

static bool
put_int(es_span_writer_t *span, const es_attribute_t *attribute)
{
    int64_t value;

    if (!es_parse_int(attribute->value, &value)) {
        return false;
    }
    es_span_int(span, attribute->key, value);
    return true;
}

static bool
put_double(es_span_writer_t *span, const es_attribute_t *attribute)
{
    double value;

    if (!es_parse_double(attribute->value, &value)) {
        return false;
    }
    es_span_double(span, attribute->key, value);
    return true;
}

static bool
put_bool(es_span_writer_t *span, const es_attribute_t *attribute)
{
    static const es_str_t no[] = {{"off", 3}, {"0", 1}, {"false", 5}};
    bool yes = es_is_true(attribute->value), known = yes;

    for (size_t i = 0; i < ES_COUNT(no) && !known; i++) {
        known = es_str_ieq(attribute->value, no[i]);
    }
    if (known) {
        es_span_bool(span, attribute->key, yes);
    }
    return known;
}

/* Of nothing there is nothing to be told apart. */
static bool
put_hash(es_span_writer_t *span, const es_config_t *config, const es_attribute_t *attribute)
{
    char text[ES_HASH_TEXT];
    es_str_t hash = ES_STR_NONE;

    if (attribute->value.len != 0) {
        hash = es_hash(config, attribute->value, text);
        if (hash.len == 0) {
            return false;
        }
    }
    es_span_string(span, attribute->key, hash);
    return true;
}

/* False: its value is none of its type. */
static bool
put_attribute(es_http_writer_t *writer, const es_attribute_t *attribute)
{
    es_span_writer_t *span = &writer->span;

    switch (attribute->type) {
    case ES_ATTRIBUTE_INT:
        return put_int(span, attribute);
    case ES_ATTRIBUTE_DOUBLE:
        return put_double(span, attribute);
    case ES_ATTRIBUTE_BOOL:
        return put_bool(span, attribute);
    case ES_ATTRIBUTE_HASH:
        return put_hash(span, writer->trace->config, attribute);
    case ES_ATTRIBUTE_STRINGS:
        if (attribute->values != NULL) {
            es_span_strings(span, attribute->key, attribute->values, attribute->values_count);
        } else {
            es_span_strings(span, attribute->key, &attribute->value, 1);
        }
        return true;
    default:
        es_span_string(span, attribute->key, attribute->value);
        return true;
    }
}

void
es_http_put_attributes(es_http_writer_t *writer, const es_attribute_t *attributes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (!put_attribute(writer, &attributes[i])) {
            es_span_drop(&writer->span);
        }
    }
}
