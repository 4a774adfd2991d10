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

/* Writes text.size bytes. */
void es_utf8_write(uint8_t *out, es_utf8_t text);

#endif
