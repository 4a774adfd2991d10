/* A request from its headers to what is sent on: whoever sends what, upstreams get
 * legal headers only, and the exporter valid spans.
 *
 * The input is what a place says, a word or a directive a line; an empty line; the
 * headers of the request. */

#include "fuzz_server.h"

#include "es_clock.h"
#include "es_context.h"
#include "es_propagator.h"
#include "es_sampler.h"
#include "es_tracestate.h"

#define WORDS_MAX 12

/* --------------------------------------------------------------- places --- */

/* What a place can say about sampling: line "place 3". What needs the shared area
 * is made once, as a server does. */
static const char *const places[][2] = {
    {"", ""},
    {"rate", "0.25"},
    {"rate", "100%"},
    {"rate", "0"},
    {"sampler", "always_on"},
    {"sampler", "always_off"},
    {"sampler", "parentbased_always_off"},
    {"sampler", "traceidratio"},
    {"target", "5r/s min=0.1 max=50%"},
    {"limit", "1r/s burst=2"},
    {"keep", "error slow=1s status=404 limit=20r/s"},
};

#define PLACES (sizeof(places) / sizeof(places[0]))

static fuzz_server_t server;
static es_sampling_t samplings[PLACES];

/* What the place refuses is not said. */
static void
make_place(es_sampling_t *sampling, es_str_t directive, es_str_t text)
{
    es_sampling_t made = {0};
    es_str_t words[WORDS_MAX];
    es_error_t error;
    unsigned count = 0;

    while (text.len != 0 && count < WORDS_MAX) {
        size_t end = es_str_find(text, ' ');

        words[count++] = es_str(text.data, end);
        text = es_str_from(text, end < text.len ? end + 1 : end);
    }
    if (es_str_eq(directive, ES_STR("rate")) ? es_sampling_rate(&made, words[0], "fuzz:1", &error)
        : es_str_eq(directive, ES_STR("sampler"))
            ? es_sampling_sampler(&made, words[0], "fuzz:2", &error)
        : es_str_eq(directive, ES_STR("target"))
            ? es_sampling_target(server.config, &made, words, count, "fuzz:3", &error)
        : es_str_eq(directive, ES_STR("limit"))
            ? es_sampling_limit(server.config, &made, words, count, "fuzz:4", &error)
            : es_str_eq(directive, ES_STR("keep"))
                  && es_sampling_keep(server.config, &made, words, count, NULL, &error)) {
        *sampling = made;
    }
}

static void
setup(void)
{
    if (server.config != NULL) {
        return;
    }
    fuzz_server_config(&server);
    for (size_t i = 0; i < PLACES; i++) {
        make_place(&samplings[i], es_cstr(places[i][0]), es_cstr(places[i][1]));
    }
    fuzz_server_generate(&server);
}

typedef struct place {
    es_propagation_t propagation;
    es_trust_t trust;
    es_response_header_t response;
    const es_sampling_t *sampling;
    uint64_t threshold;
    bool off, redirected;
} place_t;

/* Lines up to the empty one; what is not understood is not said. */
static place_t
read_place(fuzz_t *fuzz)
{
    place_t place = {.sampling = &samplings[0], .threshold = ES_THRESHOLD_DEFAULT};
    es_str_t line, *words;
    es_error_t error;
    unsigned count;

    while ((line = fuzz_line(fuzz)).len != 0) {
        es_str_t directive = fuzz_until(fuzz, &line, ' ');

        words = fuzz_alloc(fuzz, WORDS_MAX * sizeof(*words));
        count = fuzz_words(fuzz, line, words, WORDS_MAX);
        error.text[0] = 'x', error.text[1] = '\0';
        if (es_str_eq(directive, ES_STR("off"))) {
            place.off = true;
        } else if (es_str_eq(directive, ES_STR("redirected"))) {
            place.redirected = true;
        } else if (count == 0) {
            continue;
        } else if (es_str_eq(directive, ES_STR("propagators"))) {
            (void) !es_propagation_set(&place.propagation, words, count, &error);
        } else if (es_str_eq(directive, ES_STR("allow"))) {
            (void) !es_propagation_allow(&place.propagation, words, count, &error);
        } else if (es_str_eq(directive, ES_STR("trust"))) {
            (void) !es_parse_trust(words[0], &place.trust, &error);
        } else if (es_str_eq(directive, ES_STR("response"))) {
            (void) !es_parse_response_header(words[0], &place.response, &error);
        } else if (es_str_eq(directive, ES_STR("rate"))) {
            (void) !es_parse_sample_rate(words[0], &place.threshold, &error);
        } else if (es_str_eq(directive, ES_STR("place"))) {
            uint64_t n;

            place.sampling = &samplings[es_parse_uint(words[0], &n) ? n % PLACES : 0];
        }
        fuzz_check_error(&error);
    }
    return place;
}

/* --------------------------------------------------------------- checks --- */

static void
check_span(es_str_t bytes)
{
    EsOtlp__Span *span = fuzz_unpack_span(bytes);
    es_str_t tracestate = es_cstr(span->trace_state);
    unsigned members;

    /* What is kept at the end has no probability. */
    fuzz_assert(es_tracestate_valid(tracestate, &members));
    fuzz_assert((span->flags & ES_FLAG_SAMPLED) || !es_tracestate_ot(tracestate).has_th);
    for (size_t i = 0; i < span->n_links; i++) {
        fuzz_assert(span->links[i]->trace_id.len == ES_TRACE_ID_LEN);
        fuzz_assert(span->links[i]->span_id.len == ES_SPAN_ID_LEN);
    }
    es_otlp__span__free_unpacked(span, NULL);
}

/* The same propagators read out of our headers what we are. */
static void
check_again(fuzz_t *fuzz, const es_trace_t *trace, const es_propagation_t *propagation,
            const uint8_t *span_id, const es_header_t *headers, unsigned count)
{
    es_carrier_t carrier;
    es_trace_t again;

    es_trace_init(&again, &server.provider, &(es_pool_t){fuzz_pool_alloc, fuzz});
    es_carrier_init(&carrier, &again, propagation);
    for (unsigned i = 0; i < count; i++) {
        es_carrier_add(&carrier, headers[i].name, headers[i].value);
    }
    es_trace_join(&again, propagation, ES_TRUST_ON, &carrier);

    for (unsigned i = 0; i < count; i++) {
        if (!es_str_eq(headers[i].name, ES_STR("baggage"))
            && !es_str_eq(headers[i].name, ES_STR("tracestate"))) {
            fuzz_assert(memcmp(again.span.trace_id, trace->span.trace_id, ES_TRACE_ID_LEN) == 0);
            fuzz_assert(again.has_parent);
            fuzz_assert(memcmp(again.parent.span_id, span_id, ES_SPAN_ID_LEN) == 0);
            fuzz_assert((again.wish != ES_WISH_DENY && again.wish != ES_WISH_NONE)
                        == es_trace_sampled(trace));
        }
    }
}

/* Who says `th` was sampled by it, as everybody else can compute. */
static void
check_tracestate(const es_trace_t *trace, es_str_t value)
{
    es_ot_t ot = es_tracestate_ot(value);
    unsigned members;

    fuzz_assert(es_tracestate_valid(value, &members) && members != 0);
    fuzz_assert(value.len <= ES_TRACESTATE_MAX);
    if (ot.has_th) {
        fuzz_assert(es_trace_sampled(trace));
        fuzz_assert((ot.has_rv ? ot.rv : es_randomness(trace->span.trace_id)) >= ot.th);
    }
}

static void
check_headers(const es_trace_t *trace, const es_header_t *headers, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        es_str_t name = headers[i].name, value = headers[i].value;
        es_span_context_t context;

        fuzz_assert(es_is_context_header(name) && es_trace_removes(trace, name));
        fuzz_assert(name.data[name.len] == '\0' && value.len != 0 && fuzz_is_printable(value));
        for (unsigned j = 0; j < i; j++) {
            fuzz_assert(!es_str_eq(headers[j].name, name));
        }
        if (es_str_eq(name, ES_STR("traceparent"))) {
            fuzz_assert(value.len == ES_TRACEPARENT_LEN && es_traceparent_parse(value, &context));
        } else if (es_str_eq(name, ES_STR("tracestate"))) {
            check_tracestate(trace, value);
        }
    }
}

/* ---------------------------------------------------------------- input --- */

static void
decide(es_trace_t *trace, const place_t *place)
{
    if (place->off) {
        es_trace_decide_off(trace);
    } else {
        es_trace_decide(trace, place->sampling, place->threshold, ES_STR("/a/b"));
    }
}

static void
end(es_trace_t *trace, const uint8_t *span_id)
{
    uint64_t now = es_mono_ns();
    es_http_t http = {
        .kind = ES_KIND_CLIENT,
        .span_id = span_id,
        .method = ES_STR("GET"),
        .start_mono_ns = now,
        .end_mono_ns = now,
        .status = 404,
        .request_body_size = -1,
        .response_body_size = -1,
    };
    bool kept = es_trace_sampled(trace);
    unsigned spans;

    if (kept) {
        es_trace_http(trace, &http);
    }
    http.kind = ES_KIND_SERVER;
    if (!kept && es_trace_recording(trace)) {
        kept = es_trace_keep(trace, &http);
    }
    if (kept) {
        es_trace_http(trace, &http);
    }
    spans = fuzz_server_spans(&server, check_span);
    fuzz_assert(kept ? spans == 1 + es_trace_sampled(trace) : spans == 0);
}

/* One request up to what is sent upstream; returns how many headers. */
static unsigned
serve(fuzz_t *fuzz, const place_t *place, const es_carrier_t *carrier, es_trace_t *trace,
      uint8_t *span_id, es_header_t *headers)
{
    fuzz_server_rewind(&server);
    es_trace_init(trace, &server.provider, &(es_pool_t){fuzz_pool_alloc, fuzz});
    trace->start_ns = 1700000000 * ES_SECOND; /* which ids of X-Ray begin with */
    es_trace_join(trace, &place->propagation, place->trust, carrier);
    decide(trace, place);
    if (place->redirected) {
        bool sampled = es_trace_sampled(trace);

        es_trace_redirected(trace);
        decide(trace, place);
        fuzz_assert(es_trace_sampled(trace) || !sampled);
    }
    es_trace_seal(trace);
    es_trace_new_span_id(trace, span_id);
    return es_trace_inject(trace, span_id, headers);
}

/* What a stranger sends changes nothing of what upstreams get. */
static void
check_stranger(fuzz_t *fuzz, const place_t *place, const es_header_t *headers, unsigned count)
{
    es_header_t others[ES_INJECT_MAX];
    uint8_t span_id[ES_SPAN_ID_LEN];
    es_trace_t trace;

    /* A limit has no memory of who asked. */
    if (place->trust != ES_TRUST_ON && place->sampling->limit == 0
        && place->sampling->target == 0) {
        fuzz_assert(serve(fuzz, place, NULL, &trace, span_id, others) == count);
        for (unsigned i = 0; i < count; i++) {
            fuzz_assert(es_str_eq(others[i].name, headers[i].name));
            fuzz_assert(es_str_eq(others[i].value, headers[i].value));
        }
    }
}

static void
fuzz(fuzz_t *fuzz)
{
    char decision[ES_DECISION_TEXT], response[ES_RESPONSE_TEXT];
    es_header_t headers[ES_INJECT_MAX], told;
    uint8_t span_id[ES_SPAN_ID_LEN];
    es_carrier_t carrier;
    es_trace_t trace;
    unsigned count;
    place_t place;

    setup();
    place = read_place(fuzz);
    es_trace_init(&trace, &server.provider, &(es_pool_t){fuzz_pool_alloc, fuzz});
    es_carrier_init(&carrier, &trace, &place.propagation);
    while (fuzz_more(fuzz)) {
        es_str_t value = fuzz_line(fuzz), name = fuzz_until(fuzz, &value, ':');

        es_carrier_add(&carrier, name, es_str_trim(value));
    }
    fuzz_assert(carrier.count <= ES_CARRIER_MAX);

    count = serve(fuzz, &place, &carrier, &trace, span_id, headers);
    fuzz_assert(count <= ES_INJECT_MAX && trace.threshold <= ES_THRESHOLD_NEVER);
    fuzz_assert(!es_all_zero(trace.span.trace_id, ES_TRACE_ID_LEN));
    fuzz_assert(!es_all_zero(trace.span.span_id, ES_SPAN_ID_LEN));
    fuzz_assert(!trace.has_parent || (place.trust == ES_TRUST_ON && !trace.has_link));
    fuzz_assert(fuzz_is_printable(es_trace_decision(&trace, decision)));

    check_headers(&trace, headers, count);
    check_again(fuzz, &trace, &place.propagation, span_id, headers, count);
    check_stranger(fuzz, &place, headers, count);

    told = es_trace_response(&trace, place.response, response);
    fuzz_assert(fuzz_is_printable(told.value) && fuzz_is_printable(told.name));
    end(&trace, span_id);
}
