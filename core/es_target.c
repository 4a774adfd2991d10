#include "es_target.h"

#include "es_clock.h"
#include "es_sampler.h"

/* A window is a second, or longer until there is enough to count. */
#define WINDOW ES_SECOND
#define WINDOW_MAX (5 * ES_SECOND)
#define ENOUGH 20

/* Noise of few requests is smoothed, a step is not. */
#define STEP 2
#define WEIGHT 0.25

static double
get_probability(const es_sample_target_t *target, const es_target_state_t *state)
{
    uint64_t bits = atomic_load_explicit(&state->probability, memory_order_relaxed);
    double probability;

    if (bits == 0) {
        return target->max;
    }
    memcpy(&probability, &bits, sizeof(probability));

    /* A reload may have put another target here. */
    return probability < target->min   ? target->min
           : probability > target->max ? target->max
                                       : probability;
}

static void
set_probability(es_target_state_t *state, double probability)
{
    uint64_t bits;

    memcpy(&bits, &probability, sizeof(bits));
    atomic_store_explicit(&state->probability, bits, memory_order_relaxed);
}

uint64_t
es_target_threshold(const es_sample_target_t *target, const es_target_state_t *state)
{
    return es_threshold_round(es_threshold_of(get_probability(target, state)), ES_THRESHOLD_DIGITS);
}

/* `load` is in requests a second. */
static void
adapt(const es_sample_target_t *target, es_target_state_t *state, double load)
{
    double now = get_probability(target, state), right = target->per_second / load;
    bool known = atomic_load_explicit(&state->probability, memory_order_relaxed) != 0;
    bool step;

    right = right < target->min ? target->min : right > target->max ? target->max : right;
    step = !known || right > now * STEP || right < now / STEP;

    /* The window of a step is partly of the load before it: the one behind it
     * tells. */
    if (step || atomic_load_explicit(&state->jumped, memory_order_relaxed)) {
        now = right;
    } else {
        now += (right - now) * WEIGHT;
    }
    atomic_store_explicit(&state->jumped, step, memory_order_relaxed);
    set_probability(state, now);
}

void
es_target_count(const es_sample_target_t *target, es_target_state_t *state, uint64_t now_ns)
{
    uint64_t began = atomic_load_explicit(&state->window_ns, memory_order_relaxed);
    uint64_t count = atomic_fetch_add_explicit(&state->count, 1, memory_order_relaxed) + 1;

    /* Another process may have begun a window in our future. */
    if (began != 0
        && (now_ns < began + WINDOW || (count < ENOUGH && now_ns < began + WINDOW_MAX))) {
        return;
    }
    if (!atomic_compare_exchange_strong_explicit(&state->window_ns, &began, now_ns,
                                                 memory_order_relaxed, memory_order_relaxed)) {
        return;
    }
    count = atomic_exchange_explicit(&state->count, 0, memory_order_relaxed);
    if (began != 0 && count != 0) {
        adapt(target, state, (double) count * (double) ES_SECOND / (double) (now_ns - began));
    }
}
