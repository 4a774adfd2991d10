/* Whatever an HTTP exchange brings along, its span unpacks, and collectors take it.
 *
 * A line each: method, target, scheme, host, version, route, user agent, client,
 * peer, name, error type, reason; then numbers, "key=value" attributes and tries
 * as the bytes say; then what a span has in depth: lines of gRPC's status, the cache's
 * and what is redacted, times, types, events. */

#include "fuzz_server.h"

#include "es_http.h"

#define ATTRIBUTES_MAX 160
#define TRIES_MAX 160
#define EVENTS_MAX 160
#define WORDS_MAX 8

static es_config_t config;

static uint64_t
number(fuzz_t *fuzz)
{
    unsigned bytes = fuzz_byte(fuzz) % 9;
    uint64_t value = 0;

    while (bytes-- != 0) {
        value = value << 8 | fuzz_byte(fuzz);
    }
    return value;
}

/* No more of them than bytes that tell them: what is not there is nothing. */
static unsigned
how_many(fuzz_t *fuzz, unsigned max)
{
    unsigned n = fuzz_byte(fuzz);

    return fuzz_more(fuzz) ? (n < max ? n : max) : 0;
}

/* What a request waited for adds up to its duration. */
static void
check_times(const EsOtlp__Span *span)
{
    double duration = (double) (span->end_time_unix_nano - span->start_time_unix_nano) / 1e9;
    double sum = 0;

    for (size_t i = 0; i < span->n_attributes; i++) {
        if (es_str_starts(es_cstr(span->attributes[i]->key), ES_STR("edgespan.time."))) {
            fuzz_assert(span->attributes[i]->value->double_value > 0);
            sum += span->attributes[i]->value->double_value;
        }
    }
    fuzz_assert(sum >= duration * (1 - 1e-12) && sum <= duration * (1 + 1e-12));
}

static void
check_unique(EsOtlp__KeyValue **attributes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            fuzz_assert(strcmp(attributes[j]->key, attributes[i]->key) != 0);
        }
    }
}

/* As C text: protobuf-c ends it at a NUL. */
static bool
has_key(const es_http_t *http, es_str_t key)
{
    bool has = memchr(key.data, '\0', key.len) != NULL;

    for (unsigned i = 0; i < http->attributes_count && !has; i++) {
        has = es_str_eq(http->attributes[i].key, key);
    }
    return has;
}

static void
check(const es_http_t *http, es_str_t bytes, const es_span_limits_t *limits)
{
    EsOtlp__Span *span = fuzz_unpack_span(bytes);

    fuzz_assert(span->kind == (int32_t) http->kind);
    fuzz_assert(span->n_attributes <= limits->count[ES_STAGE_ATTRIBUTES]);
    fuzz_assert(span->n_events <= limits->count[ES_STAGE_EVENTS]);
    for (size_t i = 0; i < span->n_attributes; i++) {
        const EsOtlp__KeyValue *attribute = span->attributes[i];

        fuzz_assert(attribute->value != NULL);
        if (attribute->value->value_case == ES_OTLP__ANY_VALUE__VALUE_STRING_VALUE) {
            fuzz_assert(strlen(attribute->value->string_value) <= 4 * (size_t) limits->value);
        }
    }
    check_unique(span->attributes, span->n_attributes);
    for (size_t i = 0; i < span->n_events; i++) {
        check_unique(span->events[i]->attributes, span->events[i]->n_attributes);
    }
    if (http->timeline != NULL && http->attributes_count == 0
        && span->dropped_attributes_count == 0) {
        check_times(span);
    }
    es_otlp__span__free_unpacked(span, NULL);
}

/* How far a request's parts went, its attributes' types, and events that share them. */
typedef struct depth {
    es_timeline_t timeline;
    es_redaction_t redaction;
    es_http_event_t events[EVENTS_MAX];
    es_str_t words[WORDS_MAX], hidden[WORDS_MAX];
} depth_t;

static void
go_deeper(fuzz_t *fuzz, es_http_t *http, es_attribute_t *attributes, es_http_try_t *tries,
          depth_t *depth)
{
    uint8_t how;
    es_error_t error;
    unsigned count;

    http->grpc_status = fuzz_line(fuzz);
    http->cache_status = fuzz_line(fuzz);
    count = fuzz_words(fuzz, fuzz_line(fuzz), depth->hidden, WORDS_MAX);
    how = fuzz_byte(fuzz);
    http->grpc = (how & 1) != 0;
    http->background = (how & 2) != 0;
    config.semconv = (how >> 2) % 3;
    if ((how & 16) != 0) {
        http->timeline = &depth->timeline;
    }
    if (es_redaction_set(&depth->redaction, depth->hidden, count, &error)) {
        http->redaction = &depth->redaction;
    } else {
        fuzz_check_error(&error);
    }
    http->resend_count = (unsigned) number(fuzz);

    for (unsigned left = how_many(fuzz, 2 * ES_TIMELINE_MAX); left != 0; left--) {
        es_phase_t phase = fuzz_byte(fuzz) % ES_PHASES;
        uint64_t from = number(fuzz);

        es_timeline_add(&depth->timeline, phase, from, number(fuzz));
    }
    for (unsigned i = 0; i < http->tries_count && fuzz_more(fuzz); i++) {
        tries[i].connected_mono_ns = number(fuzz);
        tries[i].secured_mono_ns = number(fuzz);
        tries[i].first_byte_mono_ns = number(fuzz);
        tries[i].reused = (fuzz_byte(fuzz) & 1) != 0;
        tries[i].unconnected = (fuzz_byte(fuzz) & 1) != 0;
        es_timeline_try(&depth->timeline, &tries[i]);
    }
    count = fuzz_words(fuzz, fuzz_line(fuzz), depth->words, WORDS_MAX);
    for (unsigned i = 0; i < http->attributes_count && fuzz_more(fuzz); i++) {
        attributes[i].type = fuzz_byte(fuzz) % (ES_ATTRIBUTE_STRINGS + 1);
        attributes[i].values = depth->words;
        attributes[i].values_count = count;
    }
    http->log_dropped = (unsigned) number(fuzz);
    for (unsigned left = how_many(fuzz, EVENTS_MAX); left != 0; left--) {
        es_http_event_t *event = &depth->events[http->events_count++];

        event->name = fuzz_line(fuzz);
        event->mono_ns = number(fuzz);
        event->attributes = attributes;
        event->attributes_count = fuzz_byte(fuzz) % (http->attributes_count + 1);
    }
    http->events = depth->events;
}

static void
fuzz(fuzz_t *fuzz)
{
    static const uint8_t id[ES_TRACE_ID_LEN] = {1};
    static depth_t depth;
    es_attribute_t attributes[ATTRIBUTES_MAX];
    es_http_try_t tries[TRIES_MAX];
    es_span_limits_t limits = es_span_limits;
    uint8_t how = fuzz_byte(fuzz);
    es_http_t http = {
        .kind = (how & 8) != 0   ? ES_KIND_INTERNAL
                : (how & 1) != 0 ? ES_KIND_CLIENT
                                 : ES_KIND_SERVER,
        .span_id = id,
        .attributes = attributes,
        .tries = tries,
    };
    es_str_t *const texts[] = {
        &http.method,     &http.target,     &http.scheme,       &http.host,
        &http.route,      &http.user_agent, &http.peer_address, &http.client_address,
        &http.error_type, &http.reason,     &http.name,         &http.protocol_version,
    };
    es_span_t span = {
        .trace_id = id,
        .span_id = id,
        .parent_span_id = (how & 2) != 0 ? id : NULL,
        .kind = http.kind,
        .limits = &limits,
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        *texts[i] = fuzz_line(fuzz);
    }
    http.status = (unsigned) number(fuzz);
    http.peer_port = (unsigned) number(fuzz);
    http.server_port = (unsigned) number(fuzz);
    http.request_body_size = (int64_t) number(fuzz);
    http.response_body_size = (int64_t) number(fuzz);
    if ((how & 4) != 0) {
        limits.count[ES_STAGE_ATTRIBUTES] = fuzz_byte(fuzz) % 129;
        limits.count[ES_STAGE_EVENTS] = fuzz_byte(fuzz) % 129;
        limits.item_attributes[ES_STAGE_EVENTS] = fuzz_byte(fuzz) % 129;
        limits.value = fuzz_byte(fuzz);
    }

    /* The configuration has checked the keys of the user's, and that they are unlike. */
    for (unsigned left = how_many(fuzz, ATTRIBUTES_MAX); left != 0; left--) {
        es_attribute_t *attribute = &attributes[http.attributes_count];
        es_error_t error;

        *attribute = (es_attribute_t){.value = fuzz_line(fuzz)};
        attribute->key = fuzz_until(fuzz, &attribute->value, '=');
        http.attributes_count +=
            es_check_attribute_key(attribute->key, &error) && !has_key(&http, attribute->key);
    }
    for (unsigned left = how_many(fuzz, TRIES_MAX); left != 0; left--) {
        tries[http.tries_count++] = (es_http_try_t){
            .peer_address = fuzz_line(fuzz),
            .error_type = fuzz_line(fuzz),
            .start_mono_ns = number(fuzz),
            .end_mono_ns = number(fuzz),
            .status = (unsigned) number(fuzz),
        };
    }
    depth = (depth_t){.events = {{.mono_ns = 0}}};
    go_deeper(fuzz, &http, attributes, tries, &depth);
    span.end_ns = number(fuzz);
    check(&http,
          es_http_write_span(fuzz_alloc(fuzz, ES_SPAN_SIZE_MAX), &span, &http,
                             &(es_http_trace_t){.config = &config}),
          &limits);
}
