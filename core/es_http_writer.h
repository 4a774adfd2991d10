/* es_http_writer.h: what the files that write an exchange's attributes (es_http*.c) share:
 * the names that an attribute has, and which of them are written.
 *
 * An attribute of the user's replaces ours of the same key. */

#ifndef ES_HTTP_WRITER_H
#define ES_HTTP_WRITER_H

#include "es_config.h"
#include "es_http.h"
#include "es_span_key.h"
#include "es_str.h"

/* Its name in the stable conventions and the one it had before; empty: none there. */
typedef struct es_http_name {
    es_key_t stable, old;
} es_http_name_t;

/* The same in both; another one; only in the stable ones, only in the old. */
#define ES_NAME(name)              \
    {                              \
        ES_KEY(name), ES_KEY(name) \
    }
#define ES_NAME_WAS(name, was)    \
    {                             \
        ES_KEY(name), ES_KEY(was) \
    }
#define ES_NAME_NEW(name) \
    {                     \
        ES_KEY(name),     \
        {                 \
            0             \
        }                 \
    }
#define ES_NAME_OLD(was) \
    {                    \
        {0}, ES_KEY(was) \
    }

/* Those that spans and events of tries share. */
static const es_http_name_t es_name_error_type = ES_NAME("error.type");
static const es_http_name_t es_name_peer_address =
    ES_NAME_WAS("network.peer.address", "net.sock.peer.addr");
static const es_http_name_t es_name_peer_port =
    ES_NAME_WAS("network.peer.port", "net.sock.peer.port");
static const es_http_name_t es_name_status_code =
    ES_NAME_WAS("http.response.status_code", "http.status_code");

typedef struct es_http_writer {
    es_span_writer_t span;
    const es_http_t *http;
    const es_http_trace_t *trace;
    const es_attribute_t *replacing; /* the user's */
    unsigned replacing_count;
    bool plain; /* none of these, and none but the stable names */
} es_http_writer_t;

/* Under each name it is to have. */
void es_http_name_string(es_http_writer_t *writer, const es_http_name_t *name, es_str_t value);
void es_http_name_int(es_http_writer_t *writer, const es_http_name_t *name, int64_t value);
void es_http_name_double(es_http_writer_t *writer, const es_http_name_t *name, double value);
void es_http_name_bool(es_http_writer_t *writer, const es_http_name_t *name, bool value);

/* The fast ways of the same; what is empty is left out. */
ES_INLINE void
es_http_put_string(es_http_writer_t *writer, const es_http_name_t *name, es_str_t value)
{
    if (value.len != 0) {
        if (writer->plain) {
            es_span_key_string(&writer->span, &name->stable, value);
        } else {
            es_http_name_string(writer, name, value);
        }
    }
}

ES_INLINE void
es_http_put_int(es_http_writer_t *writer, const es_http_name_t *name, int64_t value)
{
    if (writer->plain) {
        es_span_key_int(&writer->span, &name->stable, value);
    } else {
        es_http_name_int(writer, name, value);
    }
}

/* False is left out, too: it is what nearly all are. */
ES_INLINE void
es_http_put_bool(es_http_writer_t *writer, const es_http_name_t *name, bool value)
{
    if (value) {
        if (writer->plain) {
            es_span_key_bool(&writer->span, &name->stable, true);
        } else {
            es_http_name_bool(writer, name, true);
        }
    }
}

ES_INLINE void
es_http_put_seconds(es_http_writer_t *writer, const es_http_name_t *name, uint64_t ns)
{
    if (ns != 0) {
        if (writer->plain) {
            es_span_key_double(&writer->span, &name->stable, (double) ns / 1e9);
        } else {
            es_http_name_double(writer, name, (double) ns / 1e9);
        }
    }
}

/* The user's, to the span or to the event that is open. */
void es_http_put_attributes(es_http_writer_t *writer, const es_attribute_t *attributes,
                            unsigned count);

static inline unsigned
es_http_default_port(es_str_t scheme)
{
    return es_str_eq(scheme, ES_STR("https")) ? 443 : 80;
}

/* ---- es_http_times.c: how long what took */

/* edgespan.time.* of a SERVER span between these monotonic moments. */
void es_http_put_timeline(es_http_writer_t *writer, uint64_t from, uint64_t to);

/* edgespan.time.* of a try, to the CLIENT span or to the event that is open. */
void es_http_put_try(es_http_writer_t *writer, const es_http_try_t *http_try);

/* ---- es_http_events.c */

/* After the attributes: several tries, then the events. */
void es_http_put_events(es_http_writer_t *writer);

/* ---- es_http_rpc.c: the conventions of RPC, for gRPC */

void es_http_put_rpc(es_http_writer_t *writer, es_str_t path);

/* error.type by the status of the call; empty: it does not fail the span. */
es_str_t es_http_rpc_error(const es_http_t *http);

/* ---- es_http_old.c */

typedef struct es_http_old {
    es_str_t path, query; /* redacted */
    unsigned port;        /* of the server; 0: unknown */
} es_http_old_t;

/* What the old conventions tell in another way than the stable ones. */
void es_http_put_old(es_http_writer_t *writer, const es_http_old_t *old);

#endif
