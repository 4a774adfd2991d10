/* fuzz.h: what the fuzz targets share. Each fuzz_<what>.c is a libFuzzer program
 * of its own that links the core; it has one function, fuzz(), which is given one
 * input, and fuzz_assert()s what has to be true of whatever the core made of it.
 *
 * Inputs are text as far as possible, one field a line, so that seeds can be read
 * and written by hand: t/fuzz/corpus/<what>/. What the core gets is always a copy
 * without a byte to spare, so that AddressSanitizer sees each byte read behind it. */

#ifndef FUZZ_H
#define FUZZ_H

#include "es_str.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

/* Memory of one input, freed behind it. Each block is its own malloc(), again for
 * AddressSanitizer's sake. */
typedef struct fuzz_block {
    _Alignas(16) struct fuzz_block *next;
    uint8_t bytes[];
} fuzz_block_t;

typedef struct fuzz {
    es_str_t rest; /* of the input */
    fuzz_block_t *blocks;
    size_t left; /* of what the core's pool may have, see fuzz_pool() */
} fuzz_t;

static void fuzz(fuzz_t *fuzz);

#define fuzz_assert(condition)                                                        \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                  \
        }                                                                             \
    } while (0)

/* -------------------------------------------------------------- memory --- */

static inline void *
fuzz_alloc(fuzz_t *fuzz, size_t size)
{
    fuzz_block_t *block = malloc(sizeof(*block) + size);

    fuzz_assert(block != NULL);
    block->next = fuzz->blocks;
    fuzz->blocks = block;
    return block->bytes;
}

static inline es_str_t
fuzz_copy(fuzz_t *fuzz, es_str_t s)
{
    char *copy = fuzz_alloc(fuzz, s.len);

    if (s.len != 0) {
        memcpy(copy, s.data, s.len);
    }
    return es_str(copy, s.len);
}

static inline char *
fuzz_cstr(fuzz_t *fuzz, es_str_t s)
{
    char *copy = fuzz_alloc(fuzz, s.len + 1);

    if (s.len != 0) {
        memcpy(copy, s.data, s.len);
    }
    copy[s.len] = '\0';
    return copy;
}

/* ------------------------------------------------------------- reading --- */

/* The next byte, 0 behind the end. */
static inline uint8_t
fuzz_byte(fuzz_t *fuzz)
{
    uint8_t byte = 0;

    if (fuzz->rest.len != 0) {
        byte = (uint8_t) fuzz->rest.data[0];
        fuzz->rest = es_str_from(fuzz->rest, 1);
    }
    return byte;
}

/* What is left, as it is. */
static inline es_str_t
fuzz_rest(fuzz_t *fuzz)
{
    es_str_t rest = fuzz_copy(fuzz, fuzz->rest);

    fuzz->rest.len = 0;
    return rest;
}

/* The next line, empty behind the end. */
static inline es_str_t
fuzz_line(fuzz_t *fuzz)
{
    size_t end = es_str_find(fuzz->rest, '\n');
    es_str_t line = fuzz_copy(fuzz, es_str(fuzz->rest.data, end));

    fuzz->rest = es_str_from(fuzz->rest, end < fuzz->rest.len ? end + 1 : end);
    return line;
}

static inline bool
fuzz_more(const fuzz_t *fuzz)
{
    return fuzz->rest.len != 0;
}

/* Takes a line's part before the first `separator`, or all of it. */
static inline es_str_t
fuzz_until(fuzz_t *fuzz, es_str_t *line, char separator)
{
    size_t end = es_str_find(*line, separator);
    es_str_t part = fuzz_copy(fuzz, es_str(line->data, end));

    *line = es_str_from(*line, end < line->len ? end + 1 : end);
    return part;
}

/* The words of a line, as a directive's arguments. Returns how many. */
static inline unsigned
fuzz_words(fuzz_t *fuzz, es_str_t line, es_str_t *words, unsigned max)
{
    unsigned count = 0;

    while (line.len != 0 && count < max) {
        es_str_t word = fuzz_until(fuzz, &line, ' ');

        if (word.len != 0) {
            words[count++] = word;
        }
    }
    return count;
}

/* -------------------------------------------------------------- checks --- */

/* By jansson's idea of UTF-8, which is not ours. */
static inline bool
fuzz_is_utf8(es_str_t s)
{
    json_t *string = json_stringn_nocheck("", 0);
    bool valid = json_string_setn(string, s.data != NULL ? s.data : "", s.len) == 0;

    json_decref(string);
    return valid;
}

/* Is `part` empty or within `whole`? */
static inline bool
fuzz_is_within(es_str_t part, es_str_t whole)
{
    return part.len == 0
           || ((uintptr_t) part.data >= (uintptr_t) whole.data
               && (uintptr_t) part.data + part.len <= (uintptr_t) whole.data + whole.len);
}

/* May it be a header's value: bytes of printable ASCII? */
static inline bool
fuzz_is_printable(es_str_t s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < 0x20 || s.data[i] > 0x7e) {
            return false;
        }
    }
    return true;
}

/* An error has to be one line of words. */
static inline void
fuzz_check_error(const es_error_t *error)
{
    size_t length = strnlen(error->text, sizeof(error->text));

    fuzz_assert(length > 0 && length < sizeof(error->text));
}

/* --------------------------------------------------------------- input --- */

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_t input = {.rest = es_str(data, size), .left = 65536};

    fuzz(&input);
    for (fuzz_block_t *block = input.blocks, *next; block != NULL; block = next) {
        next = block->next;
        free(block);
    }
    return 0;
}

#endif
