#include "es_gzip.h"

#include <stdlib.h>
#include <zlib.h>

/* Spans are repetitive: the fastest level finds nearly all that there is. */
#define LEVEL 1

/* The gzip wrapper instead of zlib's own (zlib.h, deflateInit2). */
#define WINDOW_BITS (15 + 16)
#define MEMORY_LEVEL 8

bool
es_gzip(es_str_t body, size_t headroom, es_buffer_t *out)
{
    z_stream stream = {0};
    size_t room;
    bool ok;

    if (deflateInit2(&stream, LEVEL, Z_DEFLATED, WINDOW_BITS, MEMORY_LEVEL, Z_DEFAULT_STRATEGY)
        != Z_OK) {
        return false;
    }
    room = deflateBound(&stream, body.len);
    if ((out->data = malloc(headroom + room)) == NULL) {
        deflateEnd(&stream);
        return false;
    }
    stream.next_in = (Bytef *) body.data;
    stream.avail_in = (uInt) body.len;
    stream.next_out = out->data + headroom;
    stream.avail_out = (uInt) room;
    ok = deflate(&stream, Z_FINISH) == Z_STREAM_END;
    out->size = headroom + stream.total_out;
    deflateEnd(&stream);
    if (!ok) {
        es_buffer_free(out);
    }
    return ok;
}
