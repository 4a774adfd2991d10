/* Spans of any content in every format: where their strings are UTF-8, as ours are,
 * each format takes them, and its result is well-formed. */

#include "fuzz_server.h"

#include "es_protocol.h"

/* -------------------------------------------------------------- thrift --- */

enum { STOP = 0, BOOL = 2, BYTE = 3, DOUBLE = 4, I16 = 6, I32 = 8, I64 = 10, STRING = 11 };
enum { STRUCT = 12, MAP = 13, SET = 14, LIST = 15 };

static es_str_t
skip(es_str_t bytes, size_t count)
{
    fuzz_assert(count <= bytes.len);
    return es_str_from(bytes, count);
}

static size_t
length(es_str_t bytes)
{
    fuzz_assert(bytes.len >= 4);

    const uint8_t *at = (const uint8_t *) bytes.data;

    return (size_t) at[0] << 24 | (size_t) at[1] << 16 | (size_t) at[2] << 8 | at[3];
}

/* Takes one value of Thrift's binary protocol. */
static es_str_t
thrift(es_str_t bytes, uint8_t type)
{
    switch (type) {
    case BOOL:
    case BYTE:
        return skip(bytes, 1);
    case I16:
        return skip(bytes, 2);
    case I32:
        return skip(bytes, 4);
    case DOUBLE:
    case I64:
        return skip(bytes, 8);
    case STRING:
        return skip(bytes, 4 + length(bytes));
    case LIST: {
        uint8_t of = (uint8_t) skip(bytes, 0).data[0];
        size_t count = length(skip(bytes, 1));

        for (bytes = skip(bytes, 5); count != 0; count--) {
            bytes = thrift(bytes, of);
        }
        return bytes;
    }
    case STRUCT:
        while ((type = (uint8_t) *skip(bytes, 0).data) != STOP) {
            bytes = thrift(skip(bytes, 3), type);
        }
        return skip(bytes, 1);
    default:
        fuzz_assert(!"a type that Jaeger's model has");
        return bytes;
    }
}

/* ---------------------------------------------------------------- JSON --- */

static void
check_json(const es_buffer_t *body, bool lines)
{
    es_str_t text = es_str(body->data, body->size);
    json_error_t error;
    json_t *root = json_loadb(text.data, text.len, 0, &error);

    fuzz_assert(fuzz_is_utf8(text));
    fuzz_assert(root != NULL || json_error_code(&error) == json_error_stack_overflow);
    fuzz_assert(!lines || es_str_find(text, '\n') >= text.len - 1);
    json_decref(root);
}

/* --------------------------------------------------------------- input --- */

static void
fuzz(fuzz_t *fuzz)
{
    static const es_format_t *const formats[] = {
        &es_format_otlp_json,
        &es_format_zipkin,
        &es_format_jaeger,
    };
    es_str_t bytes = fuzz_rest(fuzz);
    EsOtlp__TracesData *data =
        es_otlp__traces_data__unpack(NULL, bytes.len, (const uint8_t *) bytes.data);
    bool utf8;

    if (data == NULL) {
        return;
    }
    utf8 = fuzz_has_utf8(&data->base);
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        es_buffer_t body = {NULL, 0};
        bool ok = formats[i]->encode(data, &body);

        fuzz_assert(ok || !utf8);
        if (ok && formats[i] == &es_format_jaeger) {
            fuzz_assert(thrift(es_str(body.data, body.size), STRUCT).len == 0);
        } else if (ok) {
            check_json(&body, formats[i] == &es_format_otlp_json);
        }
        es_buffer_free(&body);
    }
    es_otlp__traces_data__free_unpacked(data, NULL);
}
