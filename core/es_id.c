#include "es_id.h"

#include "es_clock.h"

#include <sys/random.h>

/* 2^64 divided by the golden ratio, odd: the counter visits all 2^64 states. */
#define STEP UINT64_C(0x9e3779b97f4a7c15)

/* The finaliser of SplitMix64 (Steele, Lea, Flood 2014, Stafford's variant 13):
 * a bijection, so that one process repeats nothing in 2^64 draws. */
static uint64_t
mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

bool
es_id_generator_init(es_id_generator_t *ids)
{
    uint64_t seed[3];

    if (getrandom(seed, sizeof(seed), 0) != (ssize_t) sizeof(seed)) {
        return false;
    }

    atomic_init(&ids->counter, seed[0]);
    ids->key[0] = seed[1];
    ids->key[1] = seed[2];
    return true;
}

static uint64_t
draw(es_id_generator_t *ids)
{
    return atomic_fetch_add_explicit(&ids->counter, STEP, memory_order_relaxed);
}

uint64_t
es_random(es_id_generator_t *ids)
{
    return mix(draw(ids) ^ ids->key[0]);
}

void
es_trace_id_new(es_id_generator_t *ids, uint8_t id[ES_TRACE_ID_LEN])
{
    uint64_t state, half[2];

    /* Two keys make two independent sequences of one counter. Only the first
     * can be zero together with the second by a 2^-128 chance; a zero id is
     * invalid, so even that is drawn again. */
    do {
        state = draw(ids);
        half[0] = mix(state ^ ids->key[0]);
        half[1] = mix(state ^ ids->key[1]);
    } while ((half[0] | half[1]) == 0);

    memcpy(id, half, sizeof(half));
}

void
es_trace_id_new_at(es_id_generator_t *ids, uint64_t wall_ns, uint8_t id[ES_TRACE_ID_LEN])
{
    uint32_t seconds = (uint32_t) (wall_ns / ES_SECOND);

    es_trace_id_new(ids, id);
    for (unsigned i = 0; i < 4; i++) {
        id[i] = (uint8_t) (seconds >> (24 - 8 * i));
    }
}

void
es_span_id_new(es_id_generator_t *ids, uint8_t id[ES_SPAN_ID_LEN])
{
    uint64_t bits;

    do {
        bits = es_random(ids);
    } while (bits == 0);

    memcpy(id, &bits, sizeof(bits));
}
