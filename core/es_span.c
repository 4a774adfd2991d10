#include "es_span.h"

#include "es_span_key.h"
#include "es_utf8.h"

/* Tags: field number << 3 | wire type (0 varint, 1 fixed64, 2 length-delimited,
 * 5 fixed32). The numbers are those of opentelemetry/proto/trace/v1/trace.proto
 * and common/v1/common.proto. */
enum {
    SPAN_TRACE_ID = 1 << 3 | 2,
    SPAN_SPAN_ID = 2 << 3 | 2,
    SPAN_TRACE_STATE = 3 << 3 | 2,
    SPAN_PARENT_SPAN_ID = 4 << 3 | 2,
    SPAN_NAME = 5 << 3 | 2,
    SPAN_KIND = 6 << 3,
    SPAN_START = 7 << 3 | 1,
    SPAN_END = 8 << 3 | 1,
    SPAN_ATTRIBUTES = 9 << 3 | 2,
    SPAN_DROPPED_ATTRIBUTES = 10 << 3,
    SPAN_EVENTS = 11 << 3 | 2,
    SPAN_DROPPED_EVENTS = 12 << 3,
    SPAN_LINKS = 13 << 3 | 2,
    SPAN_DROPPED_LINKS = 14 << 3,
    SPAN_STATUS = 15 << 3 | 2,
    SPAN_FLAGS = 16 << 3 | 5, /* two bytes as a varint */

    EVENT_TIME = 1 << 3 | 1,
    EVENT_NAME = 2 << 3 | 2,
    EVENT_ATTRIBUTES = 3 << 3 | 2,
    EVENT_DROPPED_ATTRIBUTES = 4 << 3,

    LINK_TRACE_ID = 1 << 3 | 2,
    LINK_SPAN_ID = 2 << 3 | 2,
    LINK_TRACE_STATE = 3 << 3 | 2,
    LINK_ATTRIBUTES = 4 << 3 | 2,
    LINK_DROPPED_ATTRIBUTES = 5 << 3,
    LINK_FLAGS = 6 << 3 | 5,

    STATUS_MESSAGE = 2 << 3 | 2,
    STATUS_CODE = 3 << 3,

    KEY_VALUE_KEY = 1 << 3 | 2,
    KEY_VALUE_VALUE = 2 << 3 | 2,
    VALUE_STRING = 1 << 3 | 2,
    VALUE_BOOL = 2 << 3,
    VALUE_INT = 3 << 3,
    VALUE_DOUBLE = 4 << 3 | 1,
    VALUE_ARRAY = 5 << 3 | 2,
    ARRAY_VALUES = 1 << 3 | 2,
};

#define STATUS_MESSAGE_MAX 256 /* bytes: 64 characters of four */
#define VARINT_MAX 10
#define NAME_MAX 256 /* characters */

/* Ids, name, kind and times with their tags: the head of a span. */
#define HEAD_MAX (18 + 2 * 10 + 3 + 4 * NAME_MAX + 2 + 2 * 9)

/* Kept free for what es_span_end() writes: three counters, the flags, and the
 * status with its message; and for what closes an open item: its counter, its
 * flags and two more bytes of its length. */
#define ITEM_TAIL_MAX (1 + VARINT_MAX + 5 + 2)
#define STATUS_MAX (1 + 2 + 1 + 2 + STATUS_MESSAGE_MAX + 2)
#define TAIL_MAX (3 * (1 + VARINT_MAX) + 2 + 4 + STATUS_MAX + ITEM_TAIL_MAX)

static size_t
varint_size(uint64_t value)
{
    size_t size = 1;

    while (value >= 0x80) {
        value >>= 7;
        size++;
    }
    return size;
}

static uint8_t *
put_varint(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t) (value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t) value;
    return at;
}

/* Fixed-width numbers are little-endian on the wire whatever the machine. */
static uint8_t *
put_fixed(uint8_t *at, uint64_t value, size_t size)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(at, &value, size);
    return at + size;
#else
    for (size_t i = 0; i < size; i++) {
        *at++ = (uint8_t) (value >> (8 * i));
    }
    return at;
#endif
}

static uint8_t *
put_bytes(uint8_t *at, unsigned tag, const void *bytes, size_t len)
{
    *at++ = (uint8_t) tag;
    at = put_varint(at, len);
    memcpy(at, bytes, len);
    return at + len;
}

static uint8_t *
put_text(uint8_t *at, unsigned tag, es_utf8_t text)
{
    *at++ = (uint8_t) tag;
    at = put_varint(at, text.size);
    es_utf8_write(at, text);
    return at + text.size;
}

/* proto3 leaves zero scalars out. */
static uint8_t *
put_count(uint8_t *at, unsigned tag, uint64_t count)
{
    if (count != 0) {
        *at++ = (uint8_t) tag;
        at = put_varint(at, count);
    }
    return at;
}

/* What closes an item or a stage may lie behind the limit already. */
static bool
fits(const es_span_writer_t *writer, size_t size)
{
    return writer->at <= writer->limit && size <= (size_t) (writer->limit - writer->at);
}

static uint8_t *
put_name(uint8_t *at, es_str_t name)
{
    es_utf8_t text;

    if (name.len == 0) {
        return at;
    }
    if (name.len < 128 && es_ascii_copy(at + 2, name)) {
        at[0] = SPAN_NAME;
        at[1] = (uint8_t) name.len;
        return at + 2 + name.len;
    }
    text = es_utf8_measure(name, NAME_MAX);
    return put_text(at, SPAN_NAME, text);
}

const es_span_limits_t es_span_limits = {
    .count = {ES_SPAN_ATTRIBUTES_MAX, ES_SPAN_EVENTS_MAX, ES_SPAN_LINKS_MAX},
    .item_attributes = {0, ES_SPAN_ITEM_ATTRIBUTES_MAX, ES_SPAN_ITEM_ATTRIBUTES_MAX},
    .value = ES_SPAN_VALUE_MAX,
};

void
es_span_begin(es_span_writer_t *writer, void *buffer, size_t size, const es_span_t *span)
{
    const es_span_limits_t *limits = span->limits != NULL ? span->limits : &es_span_limits;
    uint8_t *at = buffer;

    *writer = (es_span_writer_t){
        .begin = buffer,
        .limit = (uint8_t *) buffer + size - TAIL_MAX,
        .flags = span->flags,
        .limits = limits,
        .short_max = limits->value < ES_SHORT_MAX ? limits->value : ES_SHORT_MAX,
    };

    at = put_bytes(at, SPAN_TRACE_ID, span->trace_id, ES_TRACE_ID_LEN);
    at = put_bytes(at, SPAN_SPAN_ID, span->span_id, ES_SPAN_ID_LEN);

    /* A tracestate that would leave no room for the rest is left out. */
    if (span->tracestate.len != 0
        && span->tracestate.len + HEAD_MAX < (size_t) (writer->limit - at)) {
        at = put_bytes(at, SPAN_TRACE_STATE, span->tracestate.data, span->tracestate.len);
    }
    if (span->parent_span_id != NULL) {
        at = put_bytes(at, SPAN_PARENT_SPAN_ID, span->parent_span_id, ES_SPAN_ID_LEN);
    }
    at = put_name(at, span->name);
    *at++ = SPAN_KIND;
    *at++ = (uint8_t) span->kind;
    *at++ = SPAN_START;
    at = put_fixed(at, span->start_ns, 8);
    *at++ = SPAN_END;
    at = put_fixed(at, span->end_ns, 8);

    writer->at = at;
}

/* Writes a KeyValue up to its AnyValue, whose `value_size` bytes the caller
 * writes next. False: it is left out. */
static bool
begin_attribute(es_span_writer_t *writer, es_str_t key, size_t value_size)
{
    size_t body = 1 + varint_size(key.len) + key.len + 1 + varint_size(value_size) + value_size;
    uint32_t *count = &writer->count[ES_STAGE_ATTRIBUTES];
    uint32_t *dropped = &writer->dropped[ES_STAGE_ATTRIBUTES];
    uint32_t most = writer->limits->count[ES_STAGE_ATTRIBUTES];
    unsigned tag = SPAN_ATTRIBUTES;
    uint8_t *at = writer->at;

    if (writer->item != NULL) {
        count = &writer->item_count;
        dropped = &writer->item_dropped;
        most = writer->limits->item_attributes[writer->stage];
        tag = writer->stage == ES_STAGE_EVENTS ? EVENT_ATTRIBUTES : LINK_ATTRIBUTES;
    } else if (writer->stage != ES_STAGE_ATTRIBUTES) {
        return false;
    }

    if (*count == most || key.len == 0 || !fits(writer, 1 + varint_size(body) + body)) {
        ++*dropped;
        return false;
    }
    ++*count;

    *at++ = (uint8_t) tag;
    at = put_varint(at, body);
    at = put_bytes(at, KEY_VALUE_KEY, key.data, key.len);
    *at++ = KEY_VALUE_VALUE;
    writer->at = put_varint(at, value_size);
    return true;
}

/* Of an AnyValue that is a string. */
static size_t
string_size(es_utf8_t text)
{
    return 1 + varint_size(text.size) + text.size;
}

void
es_span_string(es_span_writer_t *writer, es_str_t key, es_str_t value)
{
    es_utf8_t text = es_utf8_measure(value, writer->limits->value);

    if (begin_attribute(writer, key, string_size(text))) {
        writer->at = put_text(writer->at, VALUE_STRING, text);
    }
}

void
es_span_int(es_span_writer_t *writer, es_str_t key, int64_t value)
{
    if (begin_attribute(writer, key, 1 + varint_size((uint64_t) value))) {
        *writer->at++ = VALUE_INT;
        writer->at = put_varint(writer->at, (uint64_t) value);
    }
}

void
es_span_double(es_span_writer_t *writer, es_str_t key, double value)
{
    uint64_t bits;

    if (begin_attribute(writer, key, 1 + sizeof(bits))) {
        memcpy(&bits, &value, sizeof(bits));
        *writer->at++ = VALUE_DOUBLE;
        writer->at = put_fixed(writer->at, bits, sizeof(bits));
    }
}

void
es_span_bool(es_span_writer_t *writer, es_str_t key, bool value)
{
    if (begin_attribute(writer, key, 2)) {
        *writer->at++ = VALUE_BOOL;
        *writer->at++ = value;
    }
}

void
es_span_strings(es_span_writer_t *writer, es_str_t key, const es_str_t *values, unsigned count)
{
    size_t size = 0;

    for (unsigned i = 0; i < count; i++) {
        size_t one = string_size(es_utf8_measure(values[i], writer->limits->value));

        size += 1 + varint_size(one) + one;
    }
    if (!begin_attribute(writer, key, 1 + varint_size(size) + size)) {
        return;
    }
    *writer->at++ = VALUE_ARRAY;
    writer->at = put_varint(writer->at, size);
    for (unsigned i = 0; i < count; i++) {
        es_utf8_t text = es_utf8_measure(values[i], writer->limits->value);

        *writer->at++ = ARRAY_VALUES;
        writer->at = put_varint(writer->at, string_size(text));
        writer->at = put_text(writer->at, VALUE_STRING, text);
    }
}

void
es_span_drop(es_span_writer_t *writer)
{
    if (writer->item != NULL) {
        writer->item_dropped++;
    } else if (writer->stage == ES_STAGE_ATTRIBUTES) {
        writer->dropped[ES_STAGE_ATTRIBUTES]++;
    }
}

/* An item's length is known only at its end: one byte is kept for it, and the
 * body moves if it needs more. */
static void
close_item(es_span_writer_t *writer)
{
    bool event = writer->stage == ES_STAGE_EVENTS;
    size_t len, extra;
    uint8_t *body;

    if (writer->item == NULL) {
        return;
    }
    writer->at = put_count(writer->at, event ? EVENT_DROPPED_ATTRIBUTES : LINK_DROPPED_ATTRIBUTES,
                           writer->item_dropped);
    if (!event) {
        *writer->at++ = LINK_FLAGS;
        writer->at = put_fixed(writer->at, writer->link_flags, 4);
    }

    body = writer->item + 1;
    len = (size_t) (writer->at - body);
    extra = varint_size(len) - 1;
    if (extra != 0) {
        memmove(body + extra, body, len);
        writer->at += extra;
    }
    put_varint(writer->item, len);
    writer->item = NULL;
}

/* Leaves the stages before `stage`; each has its dropped count behind its items. */
static void
advance(es_span_writer_t *writer, es_span_stage_t stage)
{
    static const unsigned dropped_tags[ES_STAGE_END] = {
        [ES_STAGE_ATTRIBUTES] = SPAN_DROPPED_ATTRIBUTES,
        [ES_STAGE_EVENTS] = SPAN_DROPPED_EVENTS,
        [ES_STAGE_LINKS] = SPAN_DROPPED_LINKS,
    };

    close_item(writer);
    for (; writer->stage < stage; writer->stage++) {
        writer->at =
            put_count(writer->at, dropped_tags[writer->stage], writer->dropped[writer->stage]);
    }
}

/* Opens an item of at most `size` bytes before its attributes. False: it is
 * left out; attributes that follow are then ignored, being out of order. */
static bool
begin_item(es_span_writer_t *writer, es_span_stage_t stage, unsigned tag, size_t size)
{
    uint32_t most = writer->limits->count[stage];

    if (writer->stage > stage) {
        close_item(writer); /* what follows is not the open item's */
        return false;
    }
    advance(writer, stage);

    if (writer->count[stage] == most || !fits(writer, 2 + size + ITEM_TAIL_MAX)) {
        writer->dropped[stage]++;
        return false;
    }
    writer->count[stage]++;
    writer->item_count = 0;
    writer->item_dropped = 0;

    *writer->at++ = (uint8_t) tag;
    writer->item = writer->at++;
    return true;
}

void
es_span_event(es_span_writer_t *writer, es_str_t name, uint64_t time_ns)
{
    es_utf8_t text = es_utf8_measure(name, NAME_MAX);

    if (begin_item(writer, ES_STAGE_EVENTS, SPAN_EVENTS, 16 + text.size)) {
        *writer->at++ = EVENT_TIME;
        writer->at = put_fixed(writer->at, time_ns, 8);
        writer->at = put_text(writer->at, EVENT_NAME, text);
    }
}

void
es_span_link(es_span_writer_t *writer, const es_span_context_t *context, bool remote)
{
    es_str_t tracestate = context->tracestate;

    if (!begin_item(writer, ES_STAGE_LINKS, SPAN_LINKS, 64 + tracestate.len)) {
        return;
    }
    writer->link_flags =
        context->flags | ES_SPAN_FLAG_HAS_IS_REMOTE | (remote ? ES_SPAN_FLAG_IS_REMOTE : 0);
    writer->at = put_bytes(writer->at, LINK_TRACE_ID, context->trace_id, ES_TRACE_ID_LEN);
    writer->at = put_bytes(writer->at, LINK_SPAN_ID, context->span_id, ES_SPAN_ID_LEN);
    if (tracestate.len != 0) {
        writer->at = put_bytes(writer->at, LINK_TRACE_STATE, tracestate.data, tracestate.len);
    }
}

es_str_t
es_span_end(es_span_writer_t *writer, es_status_code_t code, es_str_t message)
{
    es_utf8_t text = {ES_STR_NONE, 0};
    uint8_t *at;

    advance(writer, ES_STAGE_END);
    at = writer->at;

    if (code == ES_STATUS_ERROR && message.len != 0) {
        text = es_utf8_measure(message, STATUS_MESSAGE_MAX / 4);
    }
    if (code != ES_STATUS_UNSET) {
        size_t len = text.size != 0 ? 2 + varint_size(text.size) - 1 + text.size : 0;

        *at++ = SPAN_STATUS;
        at = put_varint(at, len + 2);
        if (text.size != 0) {
            at = put_text(at, STATUS_MESSAGE, text);
        }
        *at++ = STATUS_CODE;
        *at++ = (uint8_t) code;
    }

    at = put_varint(at, SPAN_FLAGS);
    at = put_fixed(at, writer->flags, 4);
    return es_str(writer->begin, (size_t) (at - writer->begin));
}
