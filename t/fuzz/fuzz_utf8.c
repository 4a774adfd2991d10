/* Any bytes as UTF-8: valid, bounded, and the same when done twice. */

#include "fuzz.h"

#include "es_utf8.h"

static void
fuzz(fuzz_t *fuzz)
{
    size_t max = fuzz_byte(fuzz);
    es_str_t bytes = fuzz_rest(fuzz);
    es_utf8_t text, again;
    uint8_t *out, *copy;
    bool ascii;

    text = es_utf8_measure(bytes, max != 0 ? max : SIZE_MAX);
    fuzz_assert(fuzz_is_within(text.source, bytes));
    fuzz_assert(text.size >= text.source.len && text.size <= 3 * text.source.len);

    out = fuzz_alloc(fuzz, text.size);
    es_utf8_write(out, text);
    fuzz_assert(fuzz_is_utf8(es_str(out, text.size)));

    again = es_utf8_measure(es_str(out, text.size), max != 0 ? max : SIZE_MAX);
    fuzz_assert(again.size == text.size && again.source.len == text.size);
    if (max == 0) {
        fuzz_assert(text.source.len == bytes.len);
        fuzz_assert(fuzz_is_utf8(bytes) == (text.size == bytes.len));
    }

    copy = fuzz_alloc(fuzz, bytes.len);
    ascii = es_ascii_copy(copy, bytes);
    for (size_t i = 0; i < bytes.len; i++) {
        fuzz_assert(!ascii
                    || ((uint8_t) bytes.data[i] < 0x80 && copy[i] == (uint8_t) bytes.data[i]));
    }
}
