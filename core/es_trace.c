/* One request's trace: the functions of edgespan.h, "requests" and "spans". */

#include "es_clock.h"
#include "es_context.h"
#include "es_http.h"
#include "es_propagator.h"
#include "es_provider.h"
#include "es_sampler.h"

void
es_trace_init(es_trace_t *trace, es_provider_t *provider)
{
    memset(trace, 0, sizeof(*trace));
    trace->provider = provider;
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
es_trace_join(es_trace_t *trace, const es_carrier_t *carrier, const es_pool_t *pool)
{
    es_id_generator_t *ids = &trace->provider->ids;

    if (trace->joined) {
        return;
    }
    trace->joined = true;

    es_span_id_new(ids, trace->span.span_id);
    if (carrier != NULL && es_propagators_extract(carrier, pool, &trace->parent)) {
        trace->has_parent = true;
        memcpy(trace->span.trace_id, trace->parent.trace_id, ES_TRACE_ID_LEN);

        /* The random flag is the starter's to give; the sampled flag stays as it
         * came as long as nothing is decided here. */
        trace->span.flags = trace->parent.flags;
        trace->span.tracestate = trace->parent.tracestate;
    } else {
        es_trace_id_new(ids, trace->span.trace_id);
        trace->span.flags = ES_FLAG_RANDOM;
    }
}

void
es_trace_decide(es_trace_t *trace, bool on, uint64_t threshold)
{
    if (trace->sealed || trace->kept) {
        return;
    }
    if (threshold == ES_THRESHOLD_DEFAULT) {
        threshold = trace->provider->generation->config->threshold;
    }
    trace->decision =
        on ? es_sampler_parentbased_traceidratio(trace->has_parent ? &trace->parent : NULL,
                                                 trace->span.trace_id, threshold)
           : ES_DECISION_OFF;
    trace->decided = true;
    trace->span.flags &= (uint8_t) ~ES_FLAG_SAMPLED;
    if (es_decisions[trace->decision].sampled) {
        trace->span.flags |= ES_FLAG_SAMPLED;
    }
}

void
es_trace_leave(es_trace_t *trace)
{
    if (!trace->sealed && !trace->kept) {
        trace->decided = false;
    }
}

void
es_trace_redirected(es_trace_t *trace)
{
    trace->kept = es_trace_sampled(trace);
}

void
es_trace_seal(es_trace_t *trace)
{
    if (trace->decided && !trace->sealed) {
        es_stats_add(&trace->provider->stripe->decisions[trace->decision], 1);
    }
    trace->sealed = true;
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

unsigned
es_trace_inject(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN],
                char text[ES_INJECT_TEXT], es_header_t headers[ES_INJECT_MAX])
{
    es_span_context_t context = trace->span;

    memcpy(context.span_id, span_id, ES_SPAN_ID_LEN);
    return es_propagators_inject(&context, text, headers);
}

void
es_trace_http(const es_trace_t *trace, const es_http_t *http)
{
    bool server = http->kind == ES_KIND_SERVER;
    bool remote_parent = server && trace->has_parent;
    uint64_t start_mono_ns = server ? trace->start_mono_ns : http->start_mono_ns;
    uint64_t wall_offset_ns = trace->start_ns - trace->start_mono_ns;
    uint8_t buffer[ES_SPAN_SIZE_MAX];
    es_span_t span;

    if (!es_trace_sampled(trace) || trace->provider->generation->config->exporters_count == 0) {
        return;
    }

    span = (es_span_t){
        .trace_id = trace->span.trace_id,
        .span_id = server ? trace->span.span_id : http->span_id,
        .tracestate = trace->span.tracestate,
        .kind = http->kind,
        .start_ns = start_mono_ns + wall_offset_ns,
        .end_ns = http->end_mono_ns + wall_offset_ns,
        .flags = trace->span.flags | ES_SPAN_FLAG_HAS_IS_REMOTE
                 | (remote_parent ? ES_SPAN_FLAG_IS_REMOTE : 0),
        .limits = &trace->provider->generation->config->span_limits,
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
                     es_http_write_span(buffer, &span, http, wall_offset_ns));
}
