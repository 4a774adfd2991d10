/* unit_span_model.h: a span as a model, random or made, and written by
 * es_span_*(). */

#ifndef UNIT_SPAN_MODEL_H
#define UNIT_SPAN_MODEL_H

#include "unit_span.h"

typedef enum kind { STRING, INT, DOUBLE, BOOL, STRINGS, KINDS } kind_t;

#define WORDS_MAX 6

typedef struct attribute {
    char key[40];
    es_key_t known; /* the same key, if it is to be written as a known one */
    kind_t kind;
    es_str_t string;
    int64_t number;
    double real;
    es_str_t *words;
    unsigned words_count;
} attribute_t;

#define ITEM_ATTRIBUTES 140

typedef struct item {
    es_str_t name; /* of an event */
    uint64_t time_ns;
    es_span_context_t context; /* of a link */
    bool remote;
    unsigned count;
    attribute_t *attributes;
} item_t;

#define OFFERED 140

typedef struct model {
    es_span_t span;
    uint8_t trace_id[16], span_id[8], parent_id[8];
    unsigned attributes_count, events_count, links_count;
    attribute_t attributes[OFFERED];
    item_t events[OFFERED], links[OFFERED];
    es_status_code_t code;
    es_str_t message;
} model_t;

/* All strings of a model, and all of a protobuf-c tree. */
static char arena[16 << 20];
static size_t arena_at;

static inline void *
take(size_t size)
{
    void *memory = arena + arena_at;

    arena_at += (size + 15) & ~(size_t) 15;
    assert_true(arena_at <= sizeof(arena));
    memset(memory, 0, size);
    return memory;
}

/* ---------------------------------------------------------- at random --- */

/* Text of all kinds; without NUL, which protobuf-c's strings cannot hold. */
static inline es_str_t
random_text(unit_random_t *random, unsigned most)
{
    static const char *const wide[] = {"\xc3\xbc", "\xe2\x82\xac", "\xf0\x9f\x8c\x8d"};
    size_t len = unit_random_below(random, most + 1), at = 0;
    unsigned style = unit_random_below(random, 4);
    char *text = take(len + 4);

    while (at < len) {
        unsigned draw = unit_random_below(random, 100);

        if (style == 0 || (style == 1 && draw < 80)) {
            text[at++] = (char) (0x20 + unit_random_below(random, 0x5f));
        } else if (style < 3) {
            const char *c = wide[draw % 3];

            memcpy(text + at, c, strlen(c));
            at += strlen(c);
        } else {
            text[at++] = (char) (1 + unit_random_below(random, 255));
        }
    }
    return es_str(text, len); /* may cut a wide character: invalid at the end */
}

/* Mostly short, sometimes around the limits of `most` characters. */
static inline es_str_t
random_value(unit_random_t *random, unsigned most)
{
    switch (unit_random_below(random, 20)) {
    case 0:
        return ES_STR_NONE;
    case 1:
        return random_text(random, 5 * most);
    case 2:
        return random_text(random, most + 8);
    default:
        return random_text(random, unit_random_below(random, 8) == 0 ? 300 : 100);
    }
}

static inline int64_t
random_int(unit_random_t *random)
{
    int64_t value = (int64_t) (unit_random_u64(random) >> unit_random_below(random, 64));

    return unit_random_below(random, 3) == 0 ? -value : value;
}

static inline void
random_attribute(unit_random_t *random, attribute_t *a, bool brief)
{
    /* Now and then an empty key, which is refused. */
    unsigned len = unit_random_below(random, 40);

    memset(a, 0, sizeof(*a));
    for (unsigned i = 0; i < len; i++) {
        a->key[i] = (char) ('a' + unit_random_below(random, 26));
    }
    if (len != 0 && len <= sizeof(a->known.name) && unit_random_below(random, 2) == 0) {
        a->known = (es_key_t){.tag = 0x0a, .len = (uint8_t) len};
        memcpy(a->known.name, a->key, len);
    }
    a->kind = unit_random_below(random, KINDS);
    a->string = brief ? random_text(random, 20) : random_value(random, ES_SPAN_VALUE_MAX);
    a->number = random_int(random);
    a->real = (double) random_int(random) / 1000;
    if (a->kind == STRINGS) {
        a->words_count = unit_random_below(random, brief ? 2 : WORDS_MAX + 1);
        a->words = take(a->words_count * sizeof(*a->words) + 1);
        for (unsigned i = 0; i < a->words_count; i++) {
            a->words[i] = brief ? random_text(random, 20) : random_value(random, ES_SPAN_VALUE_MAX);
        }
    }
}

static inline unsigned
random_count(unit_random_t *random)
{
    switch (unit_random_below(random, 8)) {
    case 0:
        return 120 + unit_random_below(random, OFFERED - 120 + 1);
    case 1:
        return unit_random_below(random, OFFERED + 1);
    default:
        return unit_random_below(random, 6);
    }
}

static inline void
random_item(unit_random_t *random, item_t *item)
{
    memset(item, 0, sizeof(*item));
    item->name = random_value(random, NAME_CHARACTERS);
    if (item->name.len == 0) {
        item->name = ES_STR("e");
    }
    item->time_ns = unit_random_u64(random) | 1;
    unit_random_bytes(random, item->context.trace_id, sizeof(item->context.trace_id));
    unit_random_bytes(random, item->context.span_id, sizeof(item->context.span_id));
    item->context.flags = (uint8_t) unit_random_below(random, 4);
    if (unit_random_below(random, 2) == 0) {
        item->context.tracestate = ES_STR("vendor=value,other=1");
    }
    item->remote = unit_random_below(random, 2) == 0;
    item->count = unit_random_below(random, 30) == 0
                      ? ITEM_ATTRIBUTES - unit_random_below(random, 20)
                      : unit_random_below(random, 4);
    item->attributes = take(item->count * sizeof(attribute_t));
    for (unsigned i = 0; i < item->count; i++) {
        random_attribute(random, &item->attributes[i], item->count > 4);
    }
}

static inline void
random_model(unit_random_t *random, model_t *m)
{
    memset(m, 0, sizeof(*m));
    unit_random_bytes(random, m->trace_id, sizeof(m->trace_id));
    unit_random_bytes(random, m->span_id, sizeof(m->span_id));
    unit_random_bytes(random, m->parent_id, sizeof(m->parent_id));
    m->span = (es_span_t){
        .trace_id = m->trace_id,
        .span_id = m->span_id,
        .parent_span_id = unit_random_below(random, 2) == 0 ? m->parent_id : NULL,
        .tracestate = unit_random_below(random, 2) == 0 ? ES_STR("a=1,b=2") : ES_STR_NONE,
        .name = random_value(random, NAME_CHARACTERS),
        .kind = 1 + unit_random_below(random, 3),
        .start_ns = unit_random_u64(random) | 1,
        .end_ns = unit_random_u64(random) | 1,
        .flags = ES_SPAN_FLAG_HAS_IS_REMOTE | unit_random_below(random, 4),
    };
    m->attributes_count = random_count(random);
    m->events_count = random_count(random);
    m->links_count = random_count(random);
    for (unsigned i = 0; i < m->attributes_count; i++) {
        random_attribute(random, &m->attributes[i], m->attributes_count > 20);
    }
    for (unsigned i = 0; i < m->events_count; i++) {
        random_item(random, &m->events[i]);
    }
    for (unsigned i = 0; i < m->links_count; i++) {
        random_item(random, &m->links[i]);
    }
    m->code = unit_random_below(random, 3);
    m->message = random_value(random, MESSAGE_CHARACTERS);
}

/* ------------------------------------------------------------ written --- */

static inline void
write_attribute(es_span_writer_t *writer, const attribute_t *a)
{
    es_str_t key = es_cstr(a->key);
    bool known = a->known.len != 0;

    switch (a->kind) {
    case STRING:
        known ? es_span_key_string(writer, &a->known, a->string)
              : es_span_string(writer, key, a->string);
        break;
    case INT:
        known ? es_span_key_int(writer, &a->known, a->number) : es_span_int(writer, key, a->number);
        break;
    case DOUBLE:
        known ? es_span_key_double(writer, &a->known, a->real)
              : es_span_double(writer, key, a->real);
        break;
    case STRINGS:
        es_span_strings(writer, key, a->words, a->words_count);
        break;
    default:
        es_span_bool(writer, key, a->number & 1);
    }
}

static inline es_str_t
write_model(const model_t *m, void *buffer, size_t size)
{
    es_span_writer_t writer;

    es_span_begin(&writer, buffer, size, &m->span);
    for (unsigned i = 0; i < m->attributes_count; i++) {
        write_attribute(&writer, &m->attributes[i]);
    }
    for (unsigned i = 0; i < m->events_count; i++) {
        es_span_event(&writer, m->events[i].name, m->events[i].time_ns);
        for (unsigned k = 0; k < m->events[i].count; k++) {
            write_attribute(&writer, &m->events[i].attributes[k]);
        }
    }
    for (unsigned i = 0; i < m->links_count; i++) {
        es_span_link(&writer, &m->links[i].context, m->links[i].remote);
        for (unsigned k = 0; k < m->links[i].count; k++) {
            write_attribute(&writer, &m->links[i].attributes[k]);
        }
    }
    return es_span_end(&writer, m->code, m->message);
}

#endif
