/* The span writer in buffers that are too small: whatever is left out is counted,
 * and nothing is written behind the end. */

#include "unit_span_model.h"

/* Writes a model into exactly `size` bytes with canaries on both sides. Whatever
 * is left out is counted, what is there is whole and valid. */
static void
check_full(unit_random_t *random, const model_t *m, size_t size)
{
    enum { CANARY = 4096 };
    static uint8_t memory[CANARY + ES_SPAN_SIZE_MAX + CANARY];
    uint8_t *buffer = memory + CANARY;
    EsOtlp__Span *decoded;
    es_str_t written;
    size_t offered;

    memset(memory, 0xa5, sizeof(memory));
    written = write_model(m, buffer, size);
    for (size_t i = 0; i < CANARY; i++) {
        unit_assert(random, memory[i] == 0xa5);
        unit_assert(random, buffer[size + i] == 0xa5);
    }
    unit_assert(random, written.len <= size);

    decoded = es_otlp__span__unpack(NULL, written.len, (const uint8_t *) written.data);
    unit_assert(random, decoded != NULL);
    unit_assert(random,
                decoded->n_attributes + decoded->dropped_attributes_count == m->attributes_count);
    unit_assert(random, decoded->n_events + decoded->dropped_events_count == m->events_count);
    unit_assert(random, decoded->n_links + decoded->dropped_links_count == m->links_count);
    unit_assert(random, memcmp(decoded->trace_id.data, m->trace_id, 16) == 0);
    unit_assert(random, strlen(decoded->trace_state) == m->span.tracestate.len
                            || decoded->trace_state[0] == '\0');
    unit_assert(random, (decoded->name[0] != '\0') == (m->span.name.len != 0));
    unit_assert(random, decoded->flags == m->span.flags);
    unit_assert(random, decoded->end_time_unix_nano == m->span.end_ns);
    unit_assert(random, decoded->base.n_unknown_fields == 0);
    for (size_t i = 0; i < decoded->n_attributes; i++) {
        EsOtlp__AnyValue *value = decoded->attributes[i]->value;

        unit_assert(random, value->value_case != ES_OTLP__ANY_VALUE__VALUE__NOT_SET);
        if (value->value_case == ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE) {
            unit_assert(random, unit_utf8_valid(es_cstr(value->string_value)));
        }
    }
    offered = 0;
    for (size_t i = 0; i < decoded->n_events; i++) {
        /* The events that are there are the first ones, or some of them. */
        while (offered < m->events_count
               && m->events[offered].time_ns != decoded->events[i]->time_unix_nano) {
            offered++;
        }
        unit_assert(random, offered < m->events_count);
        unit_assert(random,
                    decoded->events[i]->n_attributes + decoded->events[i]->dropped_attributes_count
                        == m->events[offered].count);
    }
    unit_assert(random, (decoded->status != NULL) == (m->code != ES_STATUS_UNSET));
    es_otlp__span__free_unpacked(decoded, NULL);
}

static void
full_buffers(void **state)
{
    unit_random_t random = unit_random_init();
    model_t *m = malloc(sizeof(*m));

    (void) state;
    assert_non_null(m);
    for (unsigned i = 0; i < 4000; i++) {
        size_t size;

        arena_at = 0;
        random_model(&random, m);
        for (unsigned k = 0; k < 8; k++) {
            size = k == 0   ? LEAST
                   : k == 1 ? ES_SPAN_SIZE_MAX
                            : LEAST + unit_random_below(&random, 1 << (4 + k));
            check_full(&random, m, size);
        }
    }
    free(m);
}

/* A tracestate beside the longest name: whole or left out. */
static void
long_head(void **state)
{
    unit_random_t random = unit_random_init();
    static char tracestate[2 * LEAST], name[4 * 300];
    model_t *m = malloc(sizeof(*m));

    (void) state;
    assert_non_null(m);
    memset(tracestate, 't', sizeof(tracestate));
    for (size_t i = 0; i < sizeof(name); i += 4) {
        memcpy(name + i, "\xf0\x9f\x8c\x8d", 4);
    }
    for (size_t len = 0; len < sizeof(tracestate); len++) {
        memset(m, 0, sizeof(*m));
        memset(m->trace_id, 1, 16);
        m->span = plain_span();
        m->span.trace_id = m->trace_id;
        m->span.name = es_str(name, sizeof(name));
        m->span.tracestate = es_str(tracestate, len);
        m->code = ES_STATUS_ERROR;
        m->message = es_str(name, sizeof(name));
        m->attributes_count = 3;
        strcpy(m->attributes[0].key, "k");
        check_full(&random, m, LEAST);
    }
    free(m);
}

/* Each way to end exactly at the limit: attributes, then a stage that writes its
 * dropped count, then more. */
static void
brims(void **state)
{
    unit_random_t random = unit_random_init();
    static char filler[LEAST];
    model_t *m = malloc(sizeof(*m));

    (void) state;
    assert_non_null(m);
    memset(filler, 'x', sizeof(filler));
    for (unsigned len = 0; len < LEAST; len++) {
        for (unsigned variant = 0; variant < 4; variant++) {
            arena_at = 0;
            memset(m, 0, sizeof(*m));
            memset(m->trace_id, 1, 16);
            m->span = plain_span();
            m->span.trace_id = m->trace_id;
            m->code = ES_STATUS_ERROR;
            m->message = es_str(filler, 64);

            if (variant < 2) {
                m->attributes_count = OFFERED;
                for (unsigned i = 0; i < OFFERED; i++) {
                    attribute_t *a = &m->attributes[i];

                    a->key[0] = 'k';
                    a->kind = STRING;
                    a->string = es_str(filler, i == 0 ? len : 10);
                    if (variant == 1) {
                        a->known = (es_key_t) ES_KEY("k");
                    }
                }
            }
            m->events_count = variant == 1 ? 1 : OFFERED;
            for (unsigned i = 0; i < m->events_count; i++) {
                m->events[i].name = ES_STR("e");
                m->events[i].time_ns = i + 1;
                if (variant >= 2) {
                    m->events[i].count = OFFERED;
                    m->events[i].attributes = take(OFFERED * sizeof(attribute_t));
                    for (unsigned k = 0; k < OFFERED; k++) {
                        m->events[i].attributes[k] =
                            (attribute_t){.key = "k",
                                          .kind = STRING,
                                          .string = es_str(filler, k == 0 ? len : variant)};
                    }
                }
            }
            m->links_count = OFFERED;
            for (unsigned i = 0; i < OFFERED; i++) {
                m->links[i].context.trace_id[0] = m->links[i].context.span_id[0] = 1;
            }
            check_full(&random, m, LEAST + variant);
        }
    }
    free(m);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_buffers),
        cmocka_unit_test(long_head),
        cmocka_unit_test(brims),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
