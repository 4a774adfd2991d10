#include "es_keep.h"

#include "es_http.h"
#include "es_provider.h"

es_str_t
es_keep_reason(es_keep_t keep)
{
    static const es_str_t reasons[ES_KEEPS] = {
        [ES_KEEP_ERROR] = {"error", 5},
        [ES_KEEP_SLOW] = {"slow", 4},
        [ES_KEEP_STATUS] = {"status", 6},
    };

    return reasons[keep];
}

static bool
keeps(const es_sampling_t *sampling, es_keep_t reason)
{
    return sampling->keep >> reason & 1;
}

/* A large response is not slow: what counts is how long nothing came. */
static bool
is_slow(const es_sampling_t *sampling, const es_http_t *http, uint64_t begin_mono_ns)
{
    uint64_t until = http->first_byte_mono_ns != 0 ? http->first_byte_mono_ns : http->end_mono_ns;

    return until > begin_mono_ns && until - begin_mono_ns >= sampling->slow_ns;
}

static bool
is_listed(const es_sampling_t *sampling, unsigned status)
{
    unsigned bit = status - 100; /* 0 wraps and is far beyond */

    return bit / 64 < 8 && (sampling->statuses[bit / 64] >> bit % 64 & 1);
}

es_keep_t
es_keep_why(const es_sampling_t *sampling, const es_http_t *http, uint64_t begin_mono_ns)
{
    if (keeps(sampling, ES_KEEP_ERROR) && es_http_failed(http)) {
        return ES_KEEP_ERROR;
    }
    if (keeps(sampling, ES_KEEP_SLOW) && is_slow(sampling, http, begin_mono_ns)) {
        return ES_KEEP_SLOW;
    }
    return keeps(sampling, ES_KEEP_STATUS) && is_listed(sampling, http->status) ? ES_KEEP_STATUS
                                                                                : ES_KEEP_NOT;
}

bool
es_trace_keep(es_trace_t *trace, const es_http_t *http)
{
    const es_generation_t *generation = trace->provider->generation;
    unsigned limit = trace->keeping->keep_limit;
    es_keep_t keep = es_keep_why(trace->keeping, http, trace->start_mono_ns);

    if (keep == ES_KEEP_NOT) {
        return false;
    }
    if (limit != 0
        && !es_limit_take(&generation->config->limits[limit - 1],
                          &generation->stats->limits[limit - 1], es_mono_ns())) {
        keep = ES_KEEP_LIMIT;
    }
    es_stats_add(&trace->provider->stripe->kept[keep], 1);
    trace->keep = keep;
    return keep != ES_KEEP_LIMIT;
}
