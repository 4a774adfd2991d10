/* Whether and why a trace is recorded: the functions of edgespan.h that decide,
 * fix the decision and tell it. */

#include "es_clock.h"
#include "es_keep.h"
#include "es_override.h"
#include "es_provider.h"
#include "es_sampler.h"
#include "es_tracestate.h"

#include <stdio.h>

static void
set_decision(es_trace_t *trace, es_decision_t decision)
{
    trace->decision = decision;
    trace->decided = true;
    trace->span.flags &= (uint8_t) ~ES_FLAG_SAMPLED;
    if (es_decisions[decision].sampled) {
        trace->span.flags |= ES_FLAG_SAMPLED;
    }
}

/* -------------------------------------------------------------- deciding --- */

/* rv of the tracestate, or else the trace id's. */
static __attribute__((noinline)) uint64_t
shared_randomness(const es_span_context_t *context)
{
    es_ot_t ot = es_tracestate_ot(context->tracestate);

    return ot.has_rv ? ot.rv : es_randomness(context->trace_id);
}

static inline uint64_t
randomness(const es_span_context_t *context)
{
    return context->tracestate.len != 0 ? shared_randomness(context)
                                        : es_randomness(context->trace_id);
}

/* Nobody decided yet: by the words of the place, else by those of the environment. */
static es_decision_t
decide_root(es_trace_t *trace, es_root_t root, uint64_t threshold, es_str_t path)
{
    const es_generation_t *generation = trace->provider->generation;
    const es_config_t *config = generation->config;
    const es_sampling_t *sampling = trace->sampling;
    es_ratio_t ratio = ES_RATIO_RATE;

    if (generation->override != NULL
        && es_override_find(generation, path, trace->start_ns, &trace->threshold,
                            &trace->override_line)) {
        root = ES_ROOT_RATIO;
        ratio = ES_RATIO_OVERRIDE;
    } else if (root == ES_ROOT_RATIO) {
        if (sampling->given & ES_GIVEN_TARGET) {
            ratio = ES_RATIO_TARGET;
            threshold = es_target_threshold(&config->targets[sampling->target - 1],
                                            &generation->stats->targets[sampling->target - 1]);
        } else if (!(sampling->given & ES_GIVEN_RATE)) {
            threshold = config->sampling.threshold;
        } else if (threshold == ES_THRESHOLD_DEFAULT) {
            threshold = sampling->threshold;
        }
        trace->threshold = threshold;
    }
    return es_sampler_root(root, ratio, trace->threshold,
                           root == ES_ROOT_RATIO ? randomness(&trace->span) : 0);
}

void
es_trace_decide(es_trace_t *trace, const es_sampling_t *sampling, uint64_t threshold, es_str_t path)
{
    const es_sampling_t *environment = &trace->provider->generation->config->sampling;
    const es_sampler_t *sampler;
    es_root_t root;

    /* What is kept at the end survives a redirect to a place that keeps nothing. */
    if (sampling->keep != 0) {
        trace->keeping = sampling;
    } else if (!trace->redirected && !trace->sealed) {
        trace->keeping = NULL;
    }

    if (trace->sealed || (trace->redirected && es_trace_sampled(trace))) {
        return;
    }
    trace->sampling = sampling;

    if (sampling->given & ES_GIVEN_SAMPLER) {
        sampler = &es_samplers[sampling->sampler];
        root = sampler->root;
    } else {
        sampler = &es_samplers[environment->sampler];
        root = sampling->given & (ES_GIVEN_RATE | ES_GIVEN_TARGET) ? ES_ROOT_RATIO : sampler->root;
    }

    if (sampler->parent_based && trace->wish != ES_WISH_NONE) {
        set_decision(trace, trace->wish == ES_WISH_DENY ? ES_DECISION_PARENT_UNSAMPLED
                                                        : ES_DECISION_PARENT_SAMPLED);
    } else {
        set_decision(trace, decide_root(trace, root, threshold, path));
    }
}

/* A redirect leads to places that may switch recording on, never off. */
static bool
stays_on(const es_trace_t *trace)
{
    return trace->sealed || (trace->redirected && es_trace_recording(trace));
}

void
es_trace_decide_off(es_trace_t *trace)
{
    if (!stays_on(trace)) {
        trace->keeping = NULL;
        set_decision(trace, ES_DECISION_OFF);
    }
}

void
es_trace_leave(es_trace_t *trace)
{
    if (!stays_on(trace)) {
        trace->keeping = NULL;
        trace->decided = false;
    }
}

void
es_trace_redirected(es_trace_t *trace)
{
    trace->redirected = true;
}

/* --------------------------------------------------------------- sealing --- */

/* The place has a limit: may it be sampled? *unknown: with a probability that nobody
 * knows. */
static bool
take_limit(const es_trace_t *trace, bool *unknown)
{
    const es_generation_t *generation = trace->provider->generation;
    unsigned limit = trace->sampling->limit - 1u;
    es_limit_state_t *state = &generation->stats->limits[limit];
    uint64_t now = es_mono_ns();

    if (!es_limit_take(&generation->config->limits[limit], state, now)) {
        return false;
    }
    *unknown = es_limit_refuses(state, now);
    return true;
}

static void
count_target(const es_trace_t *trace)
{
    const es_generation_t *generation = trace->provider->generation;
    unsigned target = trace->sampling->target;

    es_target_count(&generation->config->targets[target - 1],
                    &generation->stats->targets[target - 1], es_mono_ns());
}

/* `ot=th` says with which probability a trace was sampled, where that is known. The
 * parent's is of what sampled it: so it stays ours, unless it contradicts itself. */
static void
say_threshold(es_trace_t *trace, bool unknown)
{
    es_str_t *tracestate = &trace->span.tracestate;
    bool sampled = es_trace_sampled(trace) && !unknown;
    es_ot_t ot;

    if (sampled && es_decisions[trace->decision].ratio) {
        *tracestate = es_tracestate_with_th(*tracestate, trace->threshold, &trace->pool);
        return;
    }
    ot = es_tracestate_ot(*tracestate);
    if (ot.names_th
        && !(sampled && trace->decision == ES_DECISION_PARENT_SAMPLED && ot.has_th
             && randomness(&trace->span) >= ot.th)) {
        *tracestate = es_tracestate_with_th(*tracestate, ES_THRESHOLD_NEVER, &trace->pool);
    }
}

/* What only some places ask for. */
static __attribute__((noinline)) void
seal_more(es_trace_t *trace)
{
    bool unknown = false;

    if (trace->decision == ES_DECISION_TARGET_SAMPLED
        || trace->decision == ES_DECISION_TARGET_UNSAMPLED) {
        count_target(trace);
    }
    if (es_trace_sampled(trace) && trace->sampling->limit != 0 && !take_limit(trace, &unknown)) {
        set_decision(trace, ES_DECISION_LIMIT);
    }
    say_threshold(trace, unknown);
}

void
es_trace_seal(es_trace_t *trace)
{
    if (trace->sealed) {
        return;
    }
    trace->sealed = true;
    if (!trace->decided) {
        return;
    }
    if (trace->span.tracestate.len != 0
        || (es_trace_sampled(trace)
                ? es_decisions[trace->decision].ratio || trace->sampling->limit != 0
                : trace->decision == ES_DECISION_TARGET_UNSAMPLED)) {
        seal_more(trace);
    }
    es_stats_add(&trace->provider->stripe->decisions[trace->decision], 1);
}

/* --------------------------------------------------------------- telling --- */

typedef struct es_words {
    char *text;
    size_t len;
} es_words_t;

/* Cut to what is left but for `spare` bytes. */
static void
say(es_words_t *words, es_str_t part, size_t spare)
{
    size_t room = ES_DECISION_TEXT - words->len - spare;

    if (part.len > room) {
        part.len = room;
    }
    if (part.len != 0) {
        memcpy(words->text + words->len, part.data, part.len);
        words->len += part.len;
    }
}

/* " (nginx.conf:42)"; of a long place its end. */
static void
say_place(es_words_t *words, const char *place)
{
    es_str_t text = es_cstr(place);
    size_t room = ES_DECISION_TEXT - words->len - 3;

    if (text.len != 0) {
        say(words, ES_STR(" ("), 1);
        say(words, text.len > room ? es_str_from(text, text.len - room) : text, 1);
        say(words, ES_STR(")"), 0);
    }
}

/* Where the rule is that decided. */
static const char *
place_of(const es_trace_t *trace, char line[32])
{
    const es_sampling_t *sampling = trace->sampling;
    unsigned given;

    switch (trace->decision) {
    case ES_DECISION_ALWAYS_ON:
    case ES_DECISION_ALWAYS_OFF:
        given = ES_GIVEN_SAMPLER;
        break;
    case ES_DECISION_RATIO_SAMPLED:
    case ES_DECISION_RATIO_UNSAMPLED:
        given = sampling->given & ES_GIVEN_RATE ? ES_GIVEN_RATE : ES_GIVEN_SAMPLER;
        break;
    case ES_DECISION_TARGET_SAMPLED:
    case ES_DECISION_TARGET_UNSAMPLED:
        given = ES_GIVEN_TARGET;
        break;
    case ES_DECISION_OVERRIDE_SAMPLED:
    case ES_DECISION_OVERRIDE_UNSAMPLED:
        snprintf(line, 32, "override:%u", trace->override_line);
        return line;
    case ES_DECISION_LIMIT:
        given = ES_GIVEN_LIMIT;
        break;
    default:
        return NULL;
    }
    return sampling->given & given ? sampling->places[__builtin_ctz(given)] : NULL;
}

es_str_t
es_trace_decision(const es_trace_t *trace, char text[ES_DECISION_TEXT])
{
    const es_decision_info_t *decision = &es_decisions[trace->decision];
    char digits[ES_PROBABILITY_TEXT], line[32];
    es_words_t words = {text, 0};

    if (!trace->decided) {
        return ES_STR_NONE;
    }
    if (trace->keep != ES_KEEP_NOT) {
        say(&words, trace->keep == ES_KEEP_LIMIT ? ES_STR("drop keep limit") : ES_STR("keep "), 0);
        say(&words, es_keep_reason(trace->keep), 0);
        say_place(&words, trace->keeping->places[__builtin_ctz(ES_GIVEN_KEEP)]);
        return es_str(text, words.len);
    }
    if (!decision->sampled && trace->decision != ES_DECISION_LIMIT) {
        say(&words, ES_STR("drop "), 0);
    }
    say(&words, es_cstr(decision->token), 0);
    if (decision->ratio) {
        say(&words, ES_STR("="), 0);
        say(&words, es_str(digits, es_probability_text(trace->threshold, digits)), 0);
    }
    say_place(&words, place_of(trace, line));
    return es_str(text, words.len);
}
