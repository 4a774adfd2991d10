#include "es_limit.h"

#include "es_clock.h"
#include "es_str.h"

/* Others may be ahead of our reading of the clock, but no further than that: a
 * time beyond it is of another limit that was here before a reload. */
#define SLACK ES_SECOND

#define REFUSING (10 * ES_SECOND)

/* So many are ahead of us at most: nobody waits here. */
#define TRIES 64

bool
es_parse_rate(es_str_t text, uint64_t *count, uint64_t *seconds)
{
    if (text.len < 4) {
        return false;
    }
    es_str_t unit = es_str_from(text, text.len - 3);

    if (es_str_eq(unit, ES_STR("r/s"))) {
        *seconds = 1;
    } else if (es_str_eq(unit, ES_STR("r/m"))) {
        *seconds = 60;
    } else {
        return false;
    }
    return es_parse_uint(es_str(text.data, text.len - 3), count) && *count != 0
           && *count <= ES_RATE_MAX * *seconds;
}

void
es_limit_init(es_limit_t *limit, uint64_t count, uint64_t seconds, uint64_t burst,
              const char *place)
{
    if (burst == 0) {
        burst = count / (10 * seconds);
    }
    limit->place = place;
    limit->per_second = (double) count / (double) seconds;
    limit->interval_ns = seconds * ES_SECOND / count;
    limit->tolerance_ns = burst > 1 ? (burst - 1) * limit->interval_ns : 0;
}

bool
es_limit_take(const es_limit_t *limit, es_limit_state_t *state, uint64_t now_ns)
{
    uint64_t next = atomic_load_explicit(&state->next_ns, memory_order_relaxed);
    uint64_t latest = now_ns + limit->tolerance_ns;

    for (unsigned i = 0; i < TRIES; i++) {
        uint64_t due = next > latest + limit->interval_ns + SLACK ? latest : next;

        if (due > latest) {
            break;
        }
        if (due < now_ns) {
            due = now_ns;
        }
        if (atomic_compare_exchange_weak_explicit(&state->next_ns, &next, due + limit->interval_ns,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            return true;
        }
    }
    atomic_store_explicit(&state->refused_ns, now_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&state->refused, 1, memory_order_relaxed);
    return false;
}

bool
es_limit_refuses(const es_limit_state_t *state, uint64_t now_ns)
{
    uint64_t refused_ns = atomic_load_explicit(&state->refused_ns, memory_order_relaxed);

    return refused_ns != 0 && now_ns < refused_ns + REFUSING;
}
