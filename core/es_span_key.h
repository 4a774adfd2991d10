/* es_span_key.h: the fast way for attributes whose key is known when the program
 * is written and whose value is short ASCII, which is nearly all of them.
 *
 * Everything is inlined into the caller, so that a key becomes a few constant
 * stores. What is longer or not ASCII takes es_span.h's general way. */

#ifndef ES_SPAN_KEY_H
#define ES_SPAN_KEY_H

#include "es_span.h"
#include "es_utf8.h"

/* Laid out as it is sent. Copying all of it costs less than a call that copies
 * just its length, so there has to be room for that. */
typedef struct es_key {
    uint8_t tag; /* of KeyValue.key */
    uint8_t len;
    char name[38];
} es_key_t;

#define ES_KEY(literal)                    \
    {                                      \
        0x0a, sizeof(literal) - 1, literal \
    }

static inline es_str_t
es_key_str(const es_key_t *key)
{
    return es_str(key->name, key->len);
}

/* The longest value of the fast way: every length in the attribute is then one
 * byte. */
#define ES_SHORT_MAX 80
#define ES_SHORT_SIZE (2 + sizeof(es_key_t) + 4 + ES_SHORT_MAX)

_Static_assert(2 + 38 + 4 + ES_SHORT_MAX < 128, "a length would need two bytes");

/* gcc's measure of inlining is the size of the code; ours is the hot path. */
#define ES_INLINE static inline __attribute__((always_inline))

ES_INLINE bool
es_short_fits(const es_span_writer_t *writer, size_t len)
{
    return len <= writer->short_max && writer->stage == ES_STAGE_ATTRIBUTES
           && writer->count[ES_STAGE_ATTRIBUTES] < writer->limits->count[ES_STAGE_ATTRIBUTES]
           && ES_SHORT_SIZE <= (size_t) (writer->limit - writer->at);
}

/* Writes Span.attributes up to KeyValue.value; returns where the AnyValue's
 * length is to go. */
ES_INLINE uint8_t *
es_short_begin(uint8_t *at, const es_key_t *key)
{
    at[0] = 9 << 3 | 2;
    memcpy(at + 2, key, sizeof(*key));
    at += 4 + key->len;
    *at = 2 << 3 | 2;
    return at + 1;
}

ES_INLINE void
es_short_end(es_span_writer_t *writer, uint8_t *end)
{
    writer->at[1] = (uint8_t) (end - writer->at - 2);
    writer->at = end;
    writer->count[ES_STAGE_ATTRIBUTES]++;
}

/* To the span itself, before any event. */
ES_INLINE void
es_span_key_string(es_span_writer_t *writer, const es_key_t *key, es_str_t value)
{
    if (es_short_fits(writer, value.len)) {
        uint8_t *at = es_short_begin(writer->at, key);

        at[0] = (uint8_t) (2 + value.len);
        at[1] = 1 << 3 | 2; /* AnyValue.string_value */
        at[2] = (uint8_t) value.len;
        if (es_ascii_copy(at + 3, value)) {
            es_short_end(writer, at + 3 + value.len);
            return;
        }
    }
    es_span_string(writer, es_key_str(key), value);
}

/* Numbers below 2^21: ports, status codes, most sizes. */
ES_INLINE void
es_span_key_int(es_span_writer_t *writer, const es_key_t *key, int64_t value)
{
    if (value >= 0 && value < 1 << 21 && es_short_fits(writer, 3)) {
        uint8_t *at = es_short_begin(writer->at, key);
        unsigned more = (value >= 1 << 7) + (value >= 1 << 14);

        /* A varint of one to three bytes; those beyond are overwritten. */
        at[0] = (uint8_t) (2 + more);
        at[1] = 3 << 3; /* AnyValue.int_value */
        at[2] = (uint8_t) ((value & 0x7f) | (more > 0) << 7);
        at[3] = (uint8_t) ((value >> 7 & 0x7f) | (more > 1) << 7);
        at[4] = (uint8_t) (value >> 14);
        es_short_end(writer, at + 3 + more);
        return;
    }
    es_span_int(writer, es_key_str(key), value);
}

ES_INLINE void
es_span_key_bool(es_span_writer_t *writer, const es_key_t *key, bool value)
{
    if (es_short_fits(writer, 0)) {
        uint8_t *at = es_short_begin(writer->at, key);

        at[0] = 2;
        at[1] = 2 << 3; /* AnyValue.bool_value */
        at[2] = value;
        es_short_end(writer, at + 3);
        return;
    }
    es_span_bool(writer, es_key_str(key), value);
}

ES_INLINE void
es_span_key_double(es_span_writer_t *writer, const es_key_t *key, double value)
{
    if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && es_short_fits(writer, 0)) {
        uint8_t *at = es_short_begin(writer->at, key);

        at[0] = 1 + sizeof(value);
        at[1] = 4 << 3 | 1; /* AnyValue.double_value */
        memcpy(at + 2, &value, sizeof(value));
        es_short_end(writer, at + 2 + sizeof(value));
        return;
    }
    es_span_double(writer, es_key_str(key), value);
}

#endif
