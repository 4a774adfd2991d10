/* The span writer against protobuf-c: the same random span, once through
 * es_span_*(), once as an EsOtlp__Span, has to give the same bytes. */

#include "unit.h"

#include "es_otlp.pb-c.h"
#include "es_span_key.h"

#define LEAST 2048 /* the smallest buffer */
#define NAME_CHARACTERS 256
#define MESSAGE_CHARACTERS 64

/* ------------------------------------------------- a span as a model --- */

typedef enum kind { STRING, INT, DOUBLE, BOOL, KINDS } kind_t;

typedef struct attribute {
    char key[40];
    es_key_t known; /* the same key, if it is to be written as a known one */
    kind_t kind;
    es_str_t string;
    int64_t number;
    double real;
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

static void *
take(size_t size)
{
    void *memory = arena + arena_at;

    arena_at += (size + 15) & ~(size_t) 15;
    assert_true(arena_at <= sizeof(arena));
    memset(memory, 0, size);
    return memory;
}

/* Text of all kinds; without NUL, which protobuf-c's strings cannot hold. */
static es_str_t
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
static es_str_t
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

static int64_t
random_int(unit_random_t *random)
{
    int64_t value = (int64_t) (unit_random_u64(random) >> unit_random_below(random, 64));

    return unit_random_below(random, 3) == 0 ? -value : value;
}

static void
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
}

static unsigned
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

static void
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

static void
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

/* ------------------------------------------------------- both writers --- */

static void
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
        es_span_double(writer, key, a->real);
        break;
    default:
        es_span_bool(writer, key, a->number & 1);
    }
}

static es_str_t
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

/* A string as it has to be sent; never the static empty one, which protobuf-c
 * takes for "not set" in a oneof. */
static char *
text(es_str_t s, size_t max_characters)
{
    size_t size;
    char *clean = unit_utf8_sanitize(s, max_characters, &size), *copy = take(size + 1);

    memcpy(copy, clean, size);
    free(clean);
    return copy;
}

/* The first 128 with a key; the others are the return value. */
static uint32_t
tree_attributes(const attribute_t *from, unsigned offered, size_t *count,
                EsOtlp__KeyValue ***attributes)
{
    *attributes = take(offered * sizeof(**attributes) + 1);
    *count = 0;
    for (unsigned i = 0; i < offered; i++) {
        const attribute_t *a = &from[i];
        EsOtlp__KeyValue *pair;
        EsOtlp__AnyValue *value;

        if (a->key[0] == '\0' || *count == 128) {
            continue;
        }
        pair = take(sizeof(*pair));
        value = take(sizeof(*value));
        es_otlp__key_value__init(pair);
        es_otlp__any_value__init(value);
        pair->key = (char *) (uintptr_t) a->key;
        pair->value = value;
        switch (a->kind) {
        case STRING:
            value->value_case = ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE;
            value->string_value = text(a->string, ES_SPAN_VALUE_MAX);
            break;
        case INT:
            value->value_case = ES_OTLP__ANY_VALUE__VALUE_INT_VALUE;
            value->int_value = a->number;
            break;
        case DOUBLE:
            value->value_case = ES_OTLP__ANY_VALUE__VALUE_DOUBLE_VALUE;
            value->double_value = a->real;
            break;
        default:
            value->value_case = ES_OTLP__ANY_VALUE__VALUE_BOOL_VALUE;
            value->bool_value = a->number & 1;
        }
        (*attributes)[(*count)++] = pair;
    }
    return (uint32_t) (offered - *count);
}

static ProtobufCBinaryData
binary(const uint8_t *bytes, size_t len)
{
    return (ProtobufCBinaryData){len, (uint8_t *) (uintptr_t) bytes};
}

static EsOtlp__Span *
tree(const model_t *m)
{
    EsOtlp__Span *span = take(sizeof(*span));

    es_otlp__span__init(span);
    span->trace_id = binary(m->trace_id, 16);
    span->span_id = binary(m->span_id, 8);
    if (m->span.parent_span_id != NULL) {
        span->parent_span_id = binary(m->span.parent_span_id, 8);
    }
    span->trace_state = text(m->span.tracestate, SIZE_MAX);
    span->name = text(m->span.name, NAME_CHARACTERS);
    span->kind = (int32_t) m->span.kind;
    span->start_time_unix_nano = m->span.start_ns;
    span->end_time_unix_nano = m->span.end_ns;
    span->flags = m->span.flags;
    span->dropped_attributes_count =
        tree_attributes(m->attributes, m->attributes_count, &span->n_attributes, &span->attributes);

    span->n_events = m->events_count < 128 ? m->events_count : 128;
    span->dropped_events_count = m->events_count - (uint32_t) span->n_events;
    span->events = take(span->n_events * sizeof(*span->events) + 1);
    for (size_t i = 0; i < span->n_events; i++) {
        EsOtlp__Event *event = span->events[i] = take(sizeof(*event));

        es_otlp__event__init(event);
        event->time_unix_nano = m->events[i].time_ns;
        event->name = text(m->events[i].name, NAME_CHARACTERS);
        event->dropped_attributes_count = tree_attributes(
            m->events[i].attributes, m->events[i].count, &event->n_attributes, &event->attributes);
    }

    span->n_links = m->links_count < 128 ? m->links_count : 128;
    span->dropped_links_count = m->links_count - (uint32_t) span->n_links;
    span->links = take(span->n_links * sizeof(*span->links) + 1);
    for (size_t i = 0; i < span->n_links; i++) {
        EsOtlp__Link *link = span->links[i] = take(sizeof(*link));
        const es_span_context_t *context = &m->links[i].context;

        es_otlp__link__init(link);
        link->trace_id = binary(context->trace_id, 16);
        link->span_id = binary(context->span_id, 8);
        link->trace_state = text(context->tracestate, SIZE_MAX);
        link->flags = context->flags | 0x100u | (m->links[i].remote ? 0x200u : 0);
        link->dropped_attributes_count = tree_attributes(m->links[i].attributes, m->links[i].count,
                                                         &link->n_attributes, &link->attributes);
    }

    if (m->code != ES_STATUS_UNSET) {
        EsOtlp__Status *status = span->status = take(sizeof(*status));

        es_otlp__status__init(status);
        status->code = (int32_t) m->code;
        if (m->code == ES_STATUS_ERROR) {
            status->message = text(m->message, MESSAGE_CHARACTERS);
        }
    }
    return span;
}

/* --------------------------------------------------------------- tests --- */

#define BUFFER ((size_t) 8 << 20) /* any model fits */

static void
same_as_protobuf_c(void **state)
{
    unit_random_t random = unit_random_init();
    uint8_t *buffer = malloc(BUFFER), *packed = malloc(BUFFER);
    model_t *m = malloc(sizeof(*m));

    (void) state;
    assert_true(buffer != NULL && packed != NULL && m != NULL);
    for (unsigned i = 0; i < 5000; i++) {
        EsOtlp__Span *span;
        es_str_t written;
        size_t size;

        arena_at = 0;
        random_model(&random, m);
        written = write_model(m, buffer, BUFFER);
        span = tree(m);
        size = es_otlp__span__get_packed_size(span);
        unit_assert(&random, size < BUFFER);
        es_otlp__span__pack(span, packed);
        unit_assert(&random, written.data == (char *) buffer);
        unit_assert(&random, written.len == size);
        unit_assert(&random, memcmp(written.data, packed, size) == 0);
    }
    free(m);
    free(packed);
    free(buffer);
}

static es_span_t
plain_span(void)
{
    static const uint8_t trace_id[] = {0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6,
                                       0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36};
    static const uint8_t span_id[] = {0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7};
    static const uint8_t parent_id[] = {0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31};

    return (es_span_t){
        .trace_id = trace_id,
        .span_id = span_id,
        .parent_span_id = parent_id,
        .tracestate = ES_STR("ot=th:0"),
        .name = ES_STR("GET"),
        .kind = ES_KIND_SERVER,
        .start_ns = UINT64_C(1700000000000000000),
        .end_ns = UINT64_C(1700000000001000000),
        .flags = 0x303,
    };
}

/* The span of conformance vector K, made with protoc, without its array
 * attribute: that is the one which is dropped here. */
static void
golden(void **state)
{
    static const char expected[] =
        "0a104bf92f3577b34da6a3ce929d0e0e4736120800f067aa0ba902b71a076f743d74683a302208b7ad6b7169"
        "2033312a0347455430023900002a36fe9c97174140423936fe9c97174a200a19687474702e726573706f6e73"
        "652e7374617475735f636f6465120318c80150017a05120165180285010303"
        "0000";
    es_span_t span = plain_span();
    es_span_writer_t writer;
    uint8_t buffer[LEAST];
    char hex[2 * sizeof(buffer) + 1];
    es_str_t bytes;

    (void) state;
    es_span_begin(&writer, buffer, sizeof(buffer), &span);
    es_span_int(&writer, ES_STR("http.response.status_code"), 200);
    es_span_string(&writer, ES_STR_NONE, ES_STR("dropped"));
    bytes = es_span_end(&writer, ES_STATUS_ERROR, ES_STR("e"));

    es_hex(hex, (const uint8_t *) bytes.data, bytes.len);
    hex[2 * bytes.len] = '\0';
    assert_string_equal(hex, expected);
}

static EsOtlp__Span *
unpack(es_str_t bytes)
{
    EsOtlp__Span *span = es_otlp__span__unpack(NULL, bytes.len, (const uint8_t *) bytes.data);

    assert_non_null(span);
    return span;
}

/* Lower ones than ours, on the fast way and on the other. */
static void
lowered_limits(void **state)
{
    static const es_span_limits_t low = {
        .count = {3, 1, 0}, .item_attributes = {0, 1, 0}, .value = 4};
    static const es_key_t key = ES_KEY("a.key");
    es_span_t span = plain_span();
    es_span_writer_t writer;
    uint8_t buffer[LEAST];
    EsOtlp__Span *m;

    (void) state;
    span.limits = &low;
    es_span_begin(&writer, buffer, sizeof(buffer), &span);
    es_span_key_string(&writer, &key, ES_STR("short"));
    es_span_string(&writer, ES_STR("b"), ES_STR("\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f!"));
    es_span_key_int(&writer, &key, 12345);
    es_span_key_int(&writer, &key, 4);
    es_span_string(&writer, ES_STR("c"), ES_STR("c"));
    for (int i = 0; i < 3; i++) {
        es_span_event(&writer, ES_STR("event"), 1);
        es_span_int(&writer, ES_STR("one"), 1);
        es_span_int(&writer, ES_STR("two"), 2);
    }
    es_span_link(&writer, &(es_span_context_t){.trace_id = {1}, .span_id = {1}}, false);

    m = unpack(es_span_end(&writer, ES_STATUS_UNSET, ES_STR_NONE));
    assert_int_equal(m->n_attributes, 3);
    assert_int_equal(m->dropped_attributes_count, 2);
    assert_string_equal(m->attributes[0]->value->string_value, "shor");
    assert_string_equal(m->attributes[1]->value->string_value, "\xc3\xa4\xc3\xb6\xc3\xbc\xc3\x9f");
    assert_int_equal(m->attributes[2]->value->int_value, 12345);
    assert_int_equal(m->n_events, 1);
    assert_int_equal(m->dropped_events_count, 2);
    assert_int_equal(m->events[0]->n_attributes, 1);
    assert_int_equal(m->events[0]->dropped_attributes_count, 1);
    assert_int_equal(m->n_links, 0);
    assert_int_equal(m->dropped_links_count, 1);
    es_otlp__span__free_unpacked(m, NULL);
}

static void
limits(void **state)
{
    es_span_t span = plain_span();
    es_span_context_t context = {.trace_id = {1}, .span_id = {2}};
    static uint8_t buffer[ES_SPAN_SIZE_MAX];
    es_span_writer_t writer;
    EsOtlp__Span *decoded;
    char key[16];

    (void) state;
    es_span_begin(&writer, buffer, sizeof(buffer), &span);
    for (int i = 0; i < 130; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        es_span_int(&writer, es_cstr(key), i);
    }
    for (int i = 0; i < 131; i++) {
        es_span_event(&writer, ES_STR("e"), 1);
        if (i == 0 || i == 130) {
            for (int k = 0; k < 133; k++) {
                es_span_bool(&writer, ES_STR("b"), true);
            }
        }
    }
    for (int i = 0; i < 132; i++) {
        es_span_link(&writer, &context, true);
        if (i == 1 || i == 131) {
            for (int k = 0; k < 134; k++) {
                es_span_bool(&writer, ES_STR("b"), true);
            }
        }
    }
    decoded = unpack(es_span_end(&writer, ES_STATUS_UNSET, ES_STR_NONE));

    assert_int_equal(decoded->n_attributes, 128);
    assert_int_equal(decoded->dropped_attributes_count, 2);
    assert_string_equal(decoded->attributes[127]->key, "k127");
    assert_int_equal(decoded->n_events, 128);
    assert_int_equal(decoded->dropped_events_count, 3);
    assert_int_equal(decoded->events[0]->n_attributes, 128);
    assert_int_equal(decoded->events[0]->dropped_attributes_count, 5);
    assert_int_equal(decoded->events[127]->n_attributes, 0);
    assert_int_equal(decoded->n_links, 128);
    assert_int_equal(decoded->dropped_links_count, 4);
    assert_int_equal(decoded->links[1]->n_attributes, 128);
    assert_int_equal(decoded->links[1]->dropped_attributes_count, 6);
    assert_int_equal(decoded->links[127]->n_attributes, 0);
    es_otlp__span__free_unpacked(decoded, NULL);
}

static void
value_length(void **state)
{
    static char ascii[5000], wide[3 * 5000], bad[5000];
    static uint8_t buffer[ES_SPAN_SIZE_MAX];
    es_span_t span = plain_span();
    es_span_writer_t writer;
    EsOtlp__Span *decoded;

    (void) state;
    memset(ascii, 'x', sizeof(ascii));
    memset(bad, 0xff, sizeof(bad));
    for (size_t i = 0; i < sizeof(wide); i += 3) {
        memcpy(wide + i, "\xe2\x82\xac", 3);
    }
    es_span_begin(&writer, buffer, sizeof(buffer), &span);
    es_span_string(&writer, ES_STR("most"), es_str(ascii, 4096));
    es_span_string(&writer, ES_STR("more"), es_str(ascii, 4097));
    es_span_string(&writer, ES_STR("wide"), es_str(wide, sizeof(wide)));
    es_span_string(&writer, ES_STR("bad"), es_str(bad, 100));
    es_span_string(&writer, ES_STR("empty"), ES_STR_NONE);
    decoded = unpack(es_span_end(&writer, ES_STATUS_UNSET, ES_STR_NONE));

    assert_int_equal(decoded->n_attributes, 5);
    assert_int_equal(strlen(decoded->attributes[0]->value->string_value), 4096);
    assert_int_equal(strlen(decoded->attributes[1]->value->string_value), 4096);
    assert_int_equal(strlen(decoded->attributes[2]->value->string_value), 3 * 4096);
    assert_int_equal(strlen(decoded->attributes[3]->value->string_value), 300);
    assert_true(unit_utf8_valid(es_cstr(decoded->attributes[3]->value->string_value)));
    assert_int_equal(decoded->attributes[4]->value->value_case,
                     ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE);
    assert_int_equal(strlen(decoded->attributes[4]->value->string_value), 0);
    assert_int_equal(decoded->dropped_attributes_count, 0);
    es_otlp__span__free_unpacked(decoded, NULL);

    /* As a name, an event's name and a message. */
    span.name = es_str(wide, sizeof(wide));
    es_span_begin(&writer, buffer, sizeof(buffer), &span);
    es_span_event(&writer, es_str(bad, 300), 1);
    decoded = unpack(es_span_end(&writer, ES_STATUS_ERROR, es_str(wide, sizeof(wide))));
    assert_int_equal(strlen(decoded->name), 3 * NAME_CHARACTERS);
    assert_int_equal(strlen(decoded->events[0]->name), 3 * NAME_CHARACTERS);
    assert_int_equal(strlen(decoded->status->message), 3 * MESSAGE_CHARACTERS);
    es_otlp__span__free_unpacked(decoded, NULL);
}

/* The fast way for known keys, at the lengths where it begins and ends. */
static void
known_keys(void **state)
{
    static const es_key_t shortest = ES_KEY("k");
    static const es_key_t longest = ES_KEY("k.2345678901234567890123456789012345.8");
    static const int64_t numbers[] = {0,        1,        127, 128,       16383,    16384,
                                      0x1fffff, 0x200000, -1,  INT64_MIN, INT64_MAX};
    char value[200];
    uint8_t fast[LEAST], slow[LEAST];
    es_span_t span = plain_span();
    es_span_writer_t f, s;

    (void) state;
    for (unsigned k = 0; k < 2; k++) {
        const es_key_t *key = k == 0 ? &shortest : &longest;

        for (size_t len = 0; len < sizeof(value); len++) {
            for (size_t wide = 0; wide <= len; wide++) { /* at `wide` unless at the end */
                es_str_t a, b;

                memset(value, 'x', sizeof(value));
                value[wide] = (char) 0xff;
                es_span_begin(&f, fast, sizeof(fast), &span);
                es_span_begin(&s, slow, sizeof(slow), &span);
                es_span_key_string(&f, key, es_str(value, len));
                es_span_string(&s, es_key_str(key), es_str(value, len));
                a = es_span_end(&f, ES_STATUS_UNSET, ES_STR_NONE);
                b = es_span_end(&s, ES_STATUS_UNSET, ES_STR_NONE);
                assert_int_equal(a.len, b.len);
                assert_memory_equal(a.data, b.data, a.len);
            }
        }
        for (size_t i = 0; i < UNIT_COUNT(numbers); i++) {
            es_str_t a, b;

            es_span_begin(&f, fast, sizeof(fast), &span);
            es_span_begin(&s, slow, sizeof(slow), &span);
            es_span_key_int(&f, key, numbers[i]);
            es_span_int(&s, es_key_str(key), numbers[i]);
            a = es_span_end(&f, ES_STATUS_UNSET, ES_STR_NONE);
            b = es_span_end(&s, ES_STATUS_UNSET, ES_STR_NONE);
            assert_int_equal(a.len, b.len);
            assert_memory_equal(a.data, b.data, a.len);
        }
    }
}

static void
status(void **state)
{
    static uint8_t buffer[LEAST];
    es_span_t span = plain_span();
    es_span_writer_t writer;

    (void) state;
    for (es_status_code_t code = ES_STATUS_UNSET; code <= ES_STATUS_ERROR; code++) {
        EsOtlp__Span *decoded;

        es_span_begin(&writer, buffer, sizeof(buffer), &span);
        decoded = unpack(es_span_end(&writer, code, ES_STR("why")));
        if (code == ES_STATUS_UNSET) {
            assert_null(decoded->status);
        } else {
            assert_int_equal(decoded->status->code, code);
            assert_string_equal(decoded->status->message, code == ES_STATUS_ERROR ? "why" : "");
        }
        es_otlp__span__free_unpacked(decoded, NULL);
    }
}

/* What comes too late is left out, and goes nowhere else. */
static void
out_of_order(void **state)
{
    static uint8_t buffer[4096];
    es_span_t span = plain_span();
    es_span_context_t context = {.trace_id = {1}, .span_id = {2}};
    es_span_writer_t writer;
    EsOtlp__Span *decoded;

    (void) state;
    es_span_begin(&writer, buffer, sizeof(buffer), &span);
    es_span_int(&writer, ES_STR("span"), 1);
    es_span_link(&writer, &context, false);
    es_span_int(&writer, ES_STR("link"), 1);
    es_span_event(&writer, ES_STR("late"), 1);
    es_span_int(&writer, ES_STR("of the late event"), 1);
    decoded = unpack(es_span_end(&writer, ES_STATUS_UNSET, ES_STR_NONE));

    assert_int_equal(decoded->n_attributes, 1);
    assert_int_equal(decoded->n_events, 0);
    assert_int_equal(decoded->n_links, 1);
    assert_int_equal(decoded->links[0]->n_attributes, 1);
    assert_string_equal(decoded->links[0]->attributes[0]->key, "link");
    es_otlp__span__free_unpacked(decoded, NULL);
}

/* --- buffers that are too small --- */

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
        cmocka_unit_test(golden),         cmocka_unit_test(same_as_protobuf_c),
        cmocka_unit_test(known_keys),     cmocka_unit_test(limits),
        cmocka_unit_test(lowered_limits), cmocka_unit_test(value_length),
        cmocka_unit_test(status),         cmocka_unit_test(out_of_order),
        cmocka_unit_test(full_buffers),   cmocka_unit_test(long_head),
        cmocka_unit_test(brims),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
