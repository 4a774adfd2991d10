/* The events of a span: tries of upstreams, and what the module tells. */

#include "es_http_writer.h"

static const es_http_name_t name_duration = ES_NAME("edgespan.upstream.duration");

/* What a single CLIENT span over several tries would hide. */
static void
put_try(es_http_writer_t *writer, const es_http_try_t *http_try)
{
    es_span_event(&writer->span, ES_STR("edgespan.upstream.try"),
                  http_try->start_mono_ns + writer->trace->wall_offset_ns);
    es_http_put_string(writer, &es_name_peer_address, http_try->peer_address);
    if (http_try->peer_port != 0) {
        es_http_put_int(writer, &es_name_peer_port, http_try->peer_port);
    }
    if (http_try->status != 0) {
        es_http_put_int(writer, &es_name_status_code, http_try->status);
    }
    es_http_put_string(writer, &es_name_error_type, http_try->error_type);
    if (http_try->end_mono_ns > http_try->start_mono_ns) {
        es_http_put_seconds(writer, &name_duration,
                            http_try->end_mono_ns - http_try->start_mono_ns);
    }
    es_http_put_try(writer, http_try);
}

void
es_http_put_events(es_http_writer_t *writer)
{
    const es_http_t *http = writer->http;

    writer->replacing_count = 0; /* the user's are the span's */

    /* One try is told by the span itself. */
    for (unsigned i = 0; i < http->tries_count && http->tries_count > 1; i++) {
        put_try(writer, &http->tries[i]);
    }
    for (unsigned i = 0; i < http->events_count; i++) {
        const es_http_event_t *event = &http->events[i];

        es_span_event(&writer->span, event->name, event->mono_ns + writer->trace->wall_offset_ns);
        es_http_put_attributes(writer, event->attributes, event->attributes_count);
    }
}
