#include "es_utf8.h"

#define REPLACEMENT "\xef\xbf\xbd"
#define HIGH_BITS UINT64_C(0x8080808080808080)

/* Length of the valid sequence at s (RFC 3629: no overlong forms, surrogates or
 * code points above U+10FFFF), 0 if there is none. */
static size_t
sequence(const uint8_t *s, size_t left)
{
    uint8_t c = s[0], low = 0x80, high = 0xbf;
    size_t n;

    if (c < 0x80) {
        return 1;
    }
    if (c >= 0xc2 && c <= 0xdf) {
        n = 2;
    } else if (c >= 0xe0 && c <= 0xef) {
        n = 3;
        low = c == 0xe0 ? 0xa0 : low;
        high = c == 0xed ? 0x9f : high;
    } else if (c >= 0xf0 && c <= 0xf4) {
        n = 4;
        low = c == 0xf0 ? 0x90 : low;
        high = c == 0xf4 ? 0x8f : high;
    } else {
        return 0;
    }
    if (left < n || s[1] < low || s[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return n;
}

/* Length of the pure ASCII run at the beginning, in steps of 8. */
static size_t
ascii_run(const char *data, size_t len)
{
    size_t i = 0;
    uint64_t word;

    for (; i + sizeof(word) <= len; i += sizeof(word)) {
        memcpy(&word, data + i, sizeof(word));
        if (word & HIGH_BITS) {
            break;
        }
    }
    return i;
}

es_utf8_t
es_utf8_measure(es_str_t s, size_t max_characters)
{
    const uint8_t *bytes = (const uint8_t *) s.data;
    size_t most = s.len < max_characters ? s.len : max_characters;
    size_t at = ascii_run(s.data, most), characters = at, size = at;

    while (at < s.len && characters < max_characters) {
        size_t n = bytes[at] < 0x80 ? 1 : sequence(bytes + at, s.len - at);

        size += n != 0 ? n : sizeof(REPLACEMENT) - 1;
        at += n != 0 ? n : 1;
        characters++;
    }
    return (es_utf8_t){es_str(s.data, at), size};
}

void
es_utf8_write(uint8_t *out, es_utf8_t text)
{
    const uint8_t *bytes = (const uint8_t *) text.source.data;
    size_t len = text.source.len;

    /* A replaced byte always makes the result longer. */
    if (text.size == len) {
        if (len != 0) {
            memcpy(out, bytes, len);
        }
        return;
    }
    for (size_t at = 0; at < len;) {
        size_t n = sequence(bytes + at, len - at);

        if (n != 0) {
            memcpy(out, bytes + at, n);
            out += n;
            at += n;
        } else {
            memcpy(out, REPLACEMENT, sizeof(REPLACEMENT) - 1);
            out += sizeof(REPLACEMENT) - 1;
            at++;
        }
    }
}
