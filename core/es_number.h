/* es_number.h: numbers as text, whatever the process's locale. */

#ifndef ES_NUMBER_H
#define ES_NUMBER_H

#include "edgespan.h"

/* "-42": decimal digits, of 64 bits with sign. */
bool es_parse_int(es_str_t text, int64_t *value) ES_MUST_CHECK;

/* "0.25", "-1", "6e-3": digits, with a point and an exponent or without. Of up to 15
 * digits it is the nearest; a number that is too large for a double is none. */
bool es_parse_double(es_str_t text, double *value) ES_MUST_CHECK;

#endif
