/* What a request waited for, as intervals that may overlap. */

#include "es_timeline.h"

void
es_timeline_add(es_timeline_t *timeline, es_phase_t phase, uint64_t from, uint64_t to)
{
    if (from == 0 || to <= from || timeline->count == ES_TIMELINE_MAX) {
        return;
    }
    timeline->intervals[timeline->count].from = from;
    timeline->intervals[timeline->count].to = to;
    timeline->intervals[timeline->count].phase = phase;
    timeline->count++;
}

uint64_t
es_try_ready(const es_http_try_t *http_try)
{
    if (http_try->unconnected) {
        return http_try->end_mono_ns;
    }
    if (http_try->secured_mono_ns != 0) {
        return http_try->secured_mono_ns;
    }
    return http_try->connected_mono_ns != 0 ? http_try->connected_mono_ns : http_try->start_mono_ns;
}

void
es_timeline_try(es_timeline_t *timeline, const es_http_try_t *http_try)
{
    uint64_t ready = es_try_ready(http_try), first_byte = http_try->first_byte_mono_ns;

    es_timeline_add(timeline, ES_PHASE_CONNECT, http_try->start_mono_ns, ready);
    es_timeline_add(timeline, ES_PHASE_FIRST_BYTE, ready,
                    first_byte != 0 ? first_byte : http_try->end_mono_ns);
    es_timeline_add(timeline, ES_PHASE_BODY, first_byte, http_try->end_mono_ns);
}

/* The intervals' places in order of their beginnings; modules add them nearly so. */
static void
sort(const es_timeline_t *timeline, uint8_t order[ES_TIMELINE_MAX])
{
    for (unsigned i = 0; i < timeline->count; i++) {
        unsigned at = i;

        for (; at > 0 && timeline->intervals[order[at - 1]].from > timeline->intervals[i].from;
             at--) {
            order[at] = order[at - 1];
        }
        order[at] = (uint8_t) i;
    }
}

/* Time goes on to `to`; a phase is under way before until[phase]. No phase begins on the
 * way, so the first that is under way is so until it ends. */
static uint64_t
pass(uint64_t now, uint64_t to, const uint64_t until[ES_PHASES], uint64_t sums[ES_PHASES])
{
    for (unsigned phase = 0; phase < ES_PHASES && now < to; phase++) {
        uint64_t end = until[phase] < to ? until[phase] : to;

        if (end > now) {
            sums[phase] += end - now;
            now = end;
        }
    }
    return now < to ? to : now;
}

void
es_timeline_sum(const es_timeline_t *timeline, uint64_t from, uint64_t to, uint64_t sums[ES_PHASES])
{
    uint64_t until[ES_PHASES] = {0}, now = from;
    uint8_t order[ES_TIMELINE_MAX];

    memset(sums, 0, ES_PHASES * sizeof(*sums));
    sort(timeline, order);
    for (unsigned i = 0; i < timeline->count; i++) {
        uint64_t begin = timeline->intervals[order[i]].from, end = timeline->intervals[order[i]].to;
        es_phase_t phase = timeline->intervals[order[i]].phase;

        now = pass(now, begin < to ? begin : to, until, sums);
        if (end > until[phase]) {
            until[phase] = end;
        }
    }
    pass(now, to, until, sums);
}
