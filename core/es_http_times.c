/* How long what took: edgespan.time.* of a request and of the tries of upstreams. */

#include "es_http_writer.h"

#include "es_timeline.h"

static const es_http_name_t name_phases[ES_PHASES] = {
    [ES_PHASE_UPLOAD] = ES_NAME("edgespan.time.client_upload"),
    [ES_PHASE_CONNECT] = ES_NAME("edgespan.time.upstream_connect"),
    [ES_PHASE_FIRST_BYTE] = ES_NAME("edgespan.time.upstream_first_byte"),
    [ES_PHASE_DOWNLOAD] = ES_NAME("edgespan.time.client_download"),
    [ES_PHASE_BODY] = ES_NAME("edgespan.time.upstream_body"),
};
static const es_http_name_t name_server = ES_NAME("edgespan.time.server");
static const es_http_name_t name_tls = ES_NAME("edgespan.time.upstream_tls");
static const es_http_name_t name_reused = ES_NAME("edgespan.upstream.reused");

void
es_http_put_timeline(es_http_writer_t *writer, uint64_t from, uint64_t to)
{
    uint64_t sums[ES_PHASES], server = to - from;

    es_timeline_sum(writer->http->timeline, from, to, sums);
    for (unsigned phase = 0; phase < ES_PHASES; phase++) {
        es_http_put_seconds(writer, &name_phases[phase], sums[phase]);
        server -= sums[phase];
    }
    es_http_put_seconds(writer, &name_server, server);
}

/* Nothing where one of the two is unknown. */
static void
put_between(es_http_writer_t *writer, const es_http_name_t *name, uint64_t from, uint64_t to)
{
    es_http_put_seconds(writer, name, from != 0 && to > from ? to - from : 0);
}

void
es_http_put_try(es_http_writer_t *writer, const es_http_try_t *http_try)
{
    uint64_t ready = es_try_ready(http_try), connected = ready;

    if (http_try->connected_mono_ns != 0) {
        connected = http_try->connected_mono_ns;
    }
    put_between(writer, &name_phases[ES_PHASE_CONNECT], http_try->start_mono_ns, connected);
    put_between(writer, &name_tls, connected, ready);
    put_between(writer, &name_phases[ES_PHASE_FIRST_BYTE], ready, http_try->first_byte_mono_ns);
    put_between(writer, &name_phases[ES_PHASE_BODY], http_try->first_byte_mono_ns,
                http_try->end_mono_ns);
    es_http_put_bool(writer, &name_reused, http_try->reused);
}
