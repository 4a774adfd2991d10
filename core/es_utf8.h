/* es_utf8.h: valid UTF-8 out of any bytes. Pure functions. */

#ifndef ES_UTF8_H
#define ES_UTF8_H

#include "edgespan.h"

/* How `s` is sent: at most `max_characters` of it, each byte that is part of no
 * valid sequence as U+FFFD. */
typedef struct es_utf8 {
    es_str_t source; /* cut to whole characters */
    size_t size;     /* of the result; equal to source.len if nothing is replaced */
} es_utf8_t;

es_utf8_t es_utf8_measure(es_str_t s, size_t max_characters);

/* Copies `s` and tells whether all of it was ASCII; if not, what was written is
 * of no use. */
static inline bool
es_ascii_copy(uint8_t *out, es_str_t s)
{
    uint64_t word, seen = 0;
    uint32_t half;
    size_t i = 0;

    /* Whole words, the last of them overlapping the one before. */
    if (s.len >= sizeof(word)) {
        for (; i + sizeof(word) < s.len; i += sizeof(word)) {
            memcpy(&word, s.data + i, sizeof(word));
            memcpy(out + i, &word, sizeof(word));
            seen |= word;
        }
        i = s.len - sizeof(word);
        memcpy(&word, s.data + i, sizeof(word));
        memcpy(out + i, &word, sizeof(word));
        seen |= word;
    } else if (s.len >= sizeof(half)) {
        memcpy(&half, s.data, sizeof(half));
        memcpy(out, &half, sizeof(half));
        seen = half;
        i = s.len - sizeof(half);
        memcpy(&half, s.data + i, sizeof(half));
        memcpy(out + i, &half, sizeof(half));
        seen |= half;
    } else {
        for (; i < s.len; i++) {
            out[i] = (uint8_t) s.data[i];
            seen |= out[i];
        }
    }
    return (seen & UINT64_C(0x8080808080808080)) == 0;
}

/* Writes text.size bytes. */
void es_utf8_write(uint8_t *out, es_utf8_t text);

#endif
