/* One request's trace: the functions of edgespan.h, "requests" and "spans". */

#include "es_baggage.h"
#include "es_clock.h"
#include "es_context.h"
#include "es_http.h"
#include "es_keep.h"
#include "es_propagator.h"
#include "es_provider.h"

void
es_trace_init(es_trace_t *trace, es_provider_t *provider, const es_pool_t *pool)
{
    memset(trace, 0, sizeof(*trace));
    trace->provider = provider;
    trace->pool = *pool;
    trace->start_ns = es_wall_ns();
    trace->start_mono_ns = es_mono_ns();
}

void
es_trace_started_at(es_trace_t *trace, uint64_t wall_ns)
{
    if (wall_ns < trace->start_ns) {
        trace->start_mono_ns -= trace->start_ns - wall_ns;
        trace->start_ns = wall_ns;
    }
}

void
es_trace_join(es_trace_t *trace, const es_propagation_t *propagation, es_trust_t trust,
              const es_carrier_t *carrier)
{
    es_id_generator_t *ids = &trace->provider->ids;
    es_extracted_t caller = {0};

    if (trace->joined) {
        return;
    }
    trace->joined = true;
    trace->trust = trust;
    trace->propagation = es_propagation_of(trace, propagation);
    trace->allow = propagation->allow_given ? &propagation->allow : NULL;

    es_span_id_new(ids, trace->span.span_id);
    if (carrier != NULL && carrier->count == 0) {
        carrier = NULL; /* most requests: nothing to look through */
    }
    if (carrier != NULL && trust != ES_TRUST_OFF) {
        es_propagators_extract(trace->propagation, carrier, &trace->pool, &caller);
    }
    if (trust == ES_TRUST_ON) {
        trace->wish = caller.wish;
        if (carrier != NULL) {
            trace->baggage = es_baggage_combine(carrier, &trace->pool);
        }
        if (caller.has_trace_id) {
            trace->has_parent = caller.has_span_id;
            trace->parent = caller.context;
            memcpy(trace->span.trace_id, trace->parent.trace_id, ES_TRACE_ID_LEN);

            /* The random flag is the starter's to give; the sampled flag stays as
             * it came as long as nothing is decided here. */
            trace->span.flags = trace->parent.flags;
            trace->span.tracestate = trace->parent.tracestate;
            return;
        }
    } else if (caller.has_trace_id && caller.has_span_id) {
        trace->has_link = true;
        trace->parent = caller.context;
        trace->parent.tracestate = ES_STR_NONE; /* a stranger's bytes */
    }

    if (trace->propagation->timed_ids) {
        es_trace_id_new_at(ids, trace->start_ns, trace->span.trace_id);
    } else {
        es_trace_id_new(ids, trace->span.trace_id);
    }
    trace->span.flags = ES_FLAG_RANDOM;
}

void
es_trace_new_span_id(const es_trace_t *trace, uint8_t span_id[ES_SPAN_ID_LEN])
{
    es_span_id_new(&trace->provider->ids, span_id);
}

void
es_trace_traceparent(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN],
                     char out[ES_TRACEPARENT_LEN])
{
    es_traceparent_format(out, trace->span.trace_id, span_id, trace->span.flags);
}

void
es_trace_http(const es_trace_t *trace, const es_http_t *http)
{
    bool server = http->kind == ES_KIND_SERVER;
    bool remote_parent = server && trace->has_parent;
    uint64_t start_mono_ns = server ? trace->start_mono_ns : http->start_mono_ns;
    const es_http_trace_t context = {
        .config = trace->provider->generation->config,
        .wall_offset_ns = trace->start_ns - trace->start_mono_ns,
        .link = server && trace->has_link ? &trace->parent : NULL,
        .sampling_reason = es_keep_reason(trace->keep),
    };
    uint8_t buffer[ES_SPAN_SIZE_MAX];
    es_span_t span;

    if ((!es_trace_sampled(trace) && context.sampling_reason.len == 0)
        || context.config->exporters_count == 0) {
        return;
    }

    span = (es_span_t){
        .trace_id = trace->span.trace_id,
        .span_id = server ? trace->span.span_id : http->span_id,
        .tracestate = trace->span.tracestate,
        .kind = http->kind,
        .start_ns = start_mono_ns + context.wall_offset_ns,
        .end_ns = http->end_mono_ns + context.wall_offset_ns,
        .flags = trace->span.flags | ES_SPAN_FLAG_HAS_IS_REMOTE
                 | (remote_parent ? ES_SPAN_FLAG_IS_REMOTE : 0),
        .limits = &context.config->span_limits,
    };
    if (!server) {
        span.parent_span_id = http->parent_id != NULL ? http->parent_id : trace->span.span_id;
    } else if (trace->has_parent) {
        span.parent_span_id = trace->parent.span_id;
    }
    if (span.end_ns < span.start_ns) {
        span.end_ns = span.start_ns;
    }

    es_provider_push(trace->provider, http->kind, http->resource,
                     es_http_write_span(buffer, &span, http, &context));
}
