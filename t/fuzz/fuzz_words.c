/* The words of directives, one directive a line: what is taken is within its
 * bounds, what is refused says why. */

#include "fuzz_server.h"

#define WORDS_MAX 40

static void
values(es_str_t word)
{
    es_response_header_t header;
    uint64_t value, threshold;
    es_error_t error;
    es_trust_t trust;
    unsigned mode;

    if (es_parse_time(word, &value)) {
        fuzz_assert(word.len != 0);
    }
    if (es_parse_size(word, &value) || es_parse_uint(word, &value)) {
        fuzz_assert(word.len != 0 && word.data[0] >= '0' && word.data[0] <= '9');
    }
    if (es_parse_sample_rate(word, &threshold, &error)) {
        fuzz_assert(threshold <= ES_THRESHOLD_NEVER);
    } else {
        fuzz_check_error(&error);
    }
    if (!es_parse_trace_context(word, &mode, &error)) {
        fuzz_check_error(&error);
    }
    if (!es_parse_trust(word, &trust, &error)) {
        fuzz_check_error(&error);
    }
    if (!es_parse_response_header(word, &header, &error)) {
        fuzz_check_error(&error);
    }
    if (!es_check_baggage_key(word, &error)) {
        fuzz_check_error(&error);
    } else {
        fuzz_assert(word.len != 0 && fuzz_is_printable(word));
    }
    if (!es_check_attribute_key(word, &error)) {
        fuzz_check_error(&error);
    } else {
        fuzz_assert(word.len != 0 && fuzz_is_utf8(word));
    }
    (void) es_is_true(word);
}

/* False with an error, or the directive is known and fine. */
static bool
directive(es_config_t *config, es_sampling_t *sampling, es_propagation_t *propagation,
          es_str_t name, const es_str_t *words, unsigned count, es_error_t *error)
{
    if (es_str_eq(name, ES_STR("otel_propagators"))) {
        return es_propagation_set(propagation, words, count, error);
    }
    if (es_str_eq(name, ES_STR("otel_baggage_allow"))) {
        return es_propagation_allow(propagation, words, count, error);
    }
    if (es_str_eq(name, ES_STR("otel_sample_target"))) {
        return es_sampling_target(config, sampling, words, count, "fuzz:1", error);
    }
    if (es_str_eq(name, ES_STR("otel_sample_limit"))) {
        return es_sampling_limit(config, sampling, words, count, "fuzz:2", error);
    }
    if (es_str_eq(name, ES_STR("otel_sample_keep"))) {
        return es_sampling_keep(config, sampling, words, count, "fuzz:3", error);
    }
    if (es_str_eq(name, ES_STR("otel_sampler"))) {
        return es_sampling_sampler(sampling, words[0], "fuzz:4", error);
    }
    if (es_str_eq(name, ES_STR("otel_sample_rate"))) {
        return es_sampling_rate(sampling, words[0], "fuzz:5", error);
    }
    return true;
}

static void
fuzz(fuzz_t *fuzz)
{
    es_config_t *config = fuzz_config();
    es_propagation_t propagation = {0}, outer = {0};
    es_sampling_t sampling = {0}, outside = {0};

    while (fuzz_more(fuzz)) {
        es_str_t line = fuzz_line(fuzz), *words = fuzz_alloc(fuzz, WORDS_MAX * sizeof(*words));
        es_str_t name = fuzz_until(fuzz, &line, ' ');
        unsigned count = fuzz_words(fuzz, line, words, WORDS_MAX);
        es_error_t error;

        for (unsigned i = 0; i < count; i++) {
            values(words[i]);
        }
        if (es_str_eq(name, ES_STR("}"))) {
            outside = sampling, outer = propagation;
            sampling = (es_sampling_t){0}, propagation = (es_propagation_t){0};
        } else if (count != 0
                   && !directive(config, &sampling, &propagation, name, words, count, &error)) {
            fuzz_check_error(&error);
        }
    }
    es_sampling_inherit(&sampling, &outside);
    es_propagation_inherit(&propagation, &outer);
    fuzz_assert(sampling.threshold <= ES_THRESHOLD_NEVER);
    fuzz_assert(propagation.count <= ES_PROPAGATORS_MAX);
    es_config_destroy(config);
}
