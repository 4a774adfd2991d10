/* es_str.h: small operations on views, and text into bounded buffers. */

#ifndef ES_STR_H
#define ES_STR_H

#include "edgespan.h"

#define ES_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Inline: against a literal it is one comparison of a number or two. */
static inline bool
es_str_eq(es_str_t a, es_str_t b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* ASCII only: header names, keywords. */
bool es_str_ieq(es_str_t a, es_str_t b);

static inline bool
es_str_starts(es_str_t s, es_str_t prefix)
{
    return s.len >= prefix.len && es_str_eq(es_str(s.data, prefix.len), prefix);
}

/* Position of the first `c`, or s.len. */
size_t es_str_find(es_str_t s, char c);

/* The view without its first n bytes (n <= len). */
static inline es_str_t
es_str_from(es_str_t s, size_t n)
{
    return es_str(s.data + n, s.len - n);
}

/* Takes what is before the first `c`, or all there is, off *rest, which goes on behind
 * that `c`. */
es_str_t es_str_take(es_str_t *rest, char c);

/* Splits at each `c` into at most `max` parts. Returns how many there are, max + 1 if
 * more. */
unsigned es_str_split(es_str_t s, char c, es_str_t *parts, unsigned max);

/* Without the SP and HTAB around it (RFC 9110, OWS). */
es_str_t es_str_trim(es_str_t s);

/* How much of `s` is a token (RFC 9110, 5.6.2): a header's name, a key of baggage. */
size_t es_token_len(es_str_t s);

static inline bool
es_is_token(es_str_t s)
{
    return s.len != 0 && es_token_len(s) == s.len;
}

/* A NUL-terminated copy; NULL when memory is short. */
char *es_str_dup(es_str_t s);

/* Reads 2 * len lowercase hex digits; false on any other character. */
bool es_unhex(uint8_t *out, const char *digits, size_t len) ES_MUST_CHECK;

/* Reads 1 to 2 * len hex digits of either case; zeros are put before them. */
bool es_unhex_padded(uint8_t *out, size_t len, es_str_t digits) ES_MUST_CHECK;

/* Reads the encoded byte ("%2C") at the beginning of `s`; false, and nothing written, if
 * there is none. */
bool es_percent_byte(es_str_t s, uint8_t *byte) ES_MUST_CHECK;

bool es_all_zero(const uint8_t *bytes, size_t len);

/* Decimal digits only, at most 18 of them. */
bool es_parse_uint(es_str_t s, uint64_t *value) ES_MUST_CHECK;

/* Formats the error and returns false, so that a caller can return it. */
bool es_fail(es_error_t *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Control characters become blanks: nobody else writes lines of our log. */
void es_make_printable(char *text);

/* For "%.*s" of a value in a message: never more than 128 bytes of it. */
#define ES_ARG(s) (int) ((s).len < 128 ? (s).len : 128), (s).data != NULL ? (s).data : ""

/* Bytes of malloc(); empty: {NULL, 0}. */
typedef struct es_buffer {
    uint8_t *data;
    size_t size;
} es_buffer_t;

void es_buffer_free(es_buffer_t *buffer);

#endif
