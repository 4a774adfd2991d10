/* Headers that become attributes: otel_span_header. */

#include "es_redaction.h"
#include "es_str.h"

bool
es_capture_set(es_capture_t *capture, bool response, es_str_t name, const es_pool_t *pool,
               es_error_t *error)
{
    es_str_t prefix = response ? ES_RESPONSE_HEADER : ES_REQUEST_HEADER;
    char *key;

    if (!es_is_token(name)) {
        return es_fail(error, "invalid header \"%.*s\": it takes the name of a header",
                       ES_ARG(name));
    }
    if ((key = pool->alloc(pool->pool, prefix.len + name.len)) == NULL) {
        return es_fail(error, "no memory");
    }
    memcpy(key, prefix.data, prefix.len);
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];

        key[prefix.len + i] = c >= 'A' && c <= 'Z' ? (char) (c | 0x20) : c;
    }
    *capture = (es_capture_t){
        .name = es_str(key + prefix.len, name.len),
        .key = es_str(key, prefix.len + name.len),
        .response = response,
    };
    return true;
}

es_attribute_t
es_capture_attribute(const es_capture_t *capture, const es_redaction_t *redaction, es_str_t *values,
                     unsigned count)
{
    if (es_redaction_hides_header(redaction, capture->name)) {
        for (unsigned i = 0; i < count; i++) {
            values[i] = ES_REDACTED;
        }
    }
    return (es_attribute_t){
        .key = capture->key,
        .type = ES_ATTRIBUTE_STRINGS,
        .values = values,
        .values_count = count,
    };
}
