/* What a request waited for, as intervals that may overlap. */

#include "es_timeline.h"

/* In order of their beginnings, in which they nearly always come. */
void
es_timeline_add(es_timeline_t *timeline, es_phase_t phase, uint64_t from, uint64_t to)
{
    unsigned at = timeline->count;

    if (from == 0 || to <= from || at == ES_TIMELINE_MAX) {
        return;
    }
    for (; at > 0 && timeline->intervals[at - 1].from > from; at--) {
        timeline->intervals[at] = timeline->intervals[at - 1];
    }
    timeline->intervals[at].from = from;
    timeline->intervals[at].to = to;
    timeline->intervals[at].phase = phase;
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

/* The phases under way, a bit each, and until when. */
typedef struct es_running {
    unsigned phases;
    uint64_t until[ES_PHASES];
} es_running_t;

/* Time goes on to `to`. No phase begins on the way, so the first of those that are under
 * way counts until it ends. */
static uint64_t
pass(uint64_t now, uint64_t to, es_running_t *running, uint64_t sums[ES_PHASES])
{
    while (running->phases != 0 && now < to) {
        int phase = __builtin_ctz(running->phases);
        uint64_t end = running->until[phase] < to ? running->until[phase] : to;

        if (end > now) {
            sums[phase] += end - now;
            now = end;
        }
        if (running->until[phase] <= now) {
            running->phases &= running->phases - 1;
        }
    }
    return now < to ? to : now;
}

void
es_timeline_sum(const es_timeline_t *timeline, uint64_t from, uint64_t to, uint64_t sums[ES_PHASES])
{
    es_running_t running = {0};
    uint64_t now = from;

    memset(sums, 0, ES_PHASES * sizeof(*sums));
    for (unsigned i = 0; i < timeline->count; i++) {
        uint64_t begin = timeline->intervals[i].from, end = timeline->intervals[i].to;
        es_phase_t phase = timeline->intervals[i].phase;

        now = pass(now, begin < to ? begin : to, &running, sums);
        running.phases |= 1u << phase;
        if (end > running.until[phase]) {
            running.until[phase] = end;
        }
    }
    pass(now, to, &running, sums);
}
