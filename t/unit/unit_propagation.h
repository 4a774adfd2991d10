/* unit_propagation.h: a request's trace from its headers, as a server joins it, with
 * no more of a process than that needs. */

#ifndef UNIT_PROPAGATION_H
#define UNIT_PROPAGATION_H

#include "unit.h"

#include "es_propagator.h"
#include "es_provider.h"

typedef struct unit_field {
    const char *name, *value;
} unit_field_t;

static es_config_t unit_config;
static es_generation_t unit_generation = {.config = &unit_config};
static es_provider_t unit_provider = {.generation = &unit_generation};

/* What the trace borrows: freed by the next join. */
static void *unit_allocations[256];
static es_str_t unit_copies[64];
static unsigned unit_allocated, unit_copied, unit_allocations_left = UINT_MAX;

/* Without a byte to spare, and none when unit_allocations_left says so. */
static void *
unit_pool_alloc(void *pool, size_t size)
{
    (void) pool;
    if (unit_allocations_left == 0) {
        return NULL;
    }
    unit_allocations_left--;
    assert_true(unit_allocated < UNIT_COUNT(unit_allocations));
    return unit_allocations[unit_allocated++] = malloc(size);
}

static const es_pool_t unit_pool = {unit_pool_alloc, NULL};

static inline int
unit_release(void **state)
{
    (void) state;
    while (unit_allocated != 0) {
        free(unit_allocations[--unit_allocated]);
    }
    while (unit_copied != 0) {
        unit_free(unit_copies[--unit_copied]);
    }
    unit_allocations_left = UINT_MAX;
    return 0;
}

/* Words with blanks between them, of static life. Returns how many. */
static inline unsigned
unit_words(const char *text, es_str_t *words, unsigned max)
{
    unsigned count = 0;

    for (size_t at = 0; text[at += strspn(text + at, " ")] != '\0';) {
        size_t len = strcspn(text + at, " ");

        assert_true(count < max);
        words[count++] = es_str(text + at, len);
        at += len;
    }
    return count;
}

static inline es_propagation_t
unit_propagation(const char *propagators)
{
    es_propagation_t propagation = {0};
    es_str_t words[8];
    es_error_t error;

    if (!es_propagation_set(&propagation, words, unit_words(propagators, words, 8), &error)) {
        fail_msg("%s", error.text);
    }
    return propagation;
}

static inline void
unit_carrier_add(es_carrier_t *carrier, const char *name, const char *value)
{
    assert_true(unit_copied < UNIT_COUNT(unit_copies));
    unit_copies[unit_copied] = unit_exact(es_cstr(value));
    es_carrier_add(carrier, es_cstr(name), unit_copies[unit_copied++]);
}

static inline es_trace_t
unit_trace(void)
{
    es_trace_t trace;

    if (unit_provider.ids.key[0] == 0) {
        assert_true(es_id_generator_init(&unit_provider.ids));
        unit_config.propagation = es_propagation_default();
    }
    es_trace_init(&trace, &unit_provider, &unit_pool);
    return trace;
}

/* `propagation` must outlive the trace. A field without a name ends the list. */
static inline es_trace_t
unit_join(const es_propagation_t *propagation, es_trust_t trust, const unit_field_t *fields,
          size_t count)
{
    es_carrier_t carrier;
    es_trace_t trace = unit_trace();

    es_carrier_init(&carrier, &trace, propagation);
    es_carrier_add(&carrier, ES_STR("Host"), ES_STR("example.org"));
    for (size_t i = 0; i < count && fields[i].name != NULL; i++) {
        unit_carrier_add(&carrier, fields[i].name, fields[i].value);
    }
    es_carrier_add(&carrier, ES_STR("tracestates"), ES_STR("no=1"));
    es_trace_join(&trace, propagation, trust, &carrier);
    return trace;
}

#endif
