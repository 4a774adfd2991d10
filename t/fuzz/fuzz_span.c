/* Whatever an HTTP exchange brings along, its span unpacks, and collectors take it.
 *
 * A line each: method, target, scheme, host, version, route, user agent, client,
 * peer, name, error type, reason; then numbers, "key=value" attributes and tries
 * as the bytes say. */

#include "fuzz_server.h"

#include "es_http.h"

static es_config_t config;

#define ATTRIBUTES_MAX 160
#define TRIES_MAX 160

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
        for (size_t j = 0; j < i && http->attributes_count == 0; j++) {
            fuzz_assert(strcmp(span->attributes[j]->key, attribute->key) != 0);
        }
    }
    es_otlp__span__free_unpacked(span, NULL);
}

static void
fuzz(fuzz_t *fuzz)
{
    static const uint8_t id[ES_TRACE_ID_LEN] = {1};
    es_attribute_t attributes[ATTRIBUTES_MAX];
    es_http_try_t tries[TRIES_MAX];
    es_span_limits_t limits = es_span_limits;
    uint8_t how = fuzz_byte(fuzz);
    es_http_t http = {
        .kind = (how & 1) != 0 ? ES_KIND_CLIENT : ES_KIND_SERVER,
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

    /* The configuration has checked the keys of the user's. */
    for (unsigned left = how_many(fuzz, ATTRIBUTES_MAX); left != 0; left--) {
        es_attribute_t *attribute = &attributes[http.attributes_count];
        es_error_t error;

        attribute->value = fuzz_line(fuzz);
        attribute->key = fuzz_until(fuzz, &attribute->value, '=');
        http.attributes_count += es_check_attribute_key(attribute->key, &error);
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
    check(&http,
          es_http_write_span(fuzz_alloc(fuzz, ES_SPAN_SIZE_MAX), &span, &http,
                             &(es_http_trace_t){.config = &config}),
          &limits);
}
