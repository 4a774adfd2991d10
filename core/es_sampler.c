#include "es_sampler.h"

#include "es_str.h"

#include <endian.h>

uint64_t
es_randomness(const uint8_t trace_id[ES_TRACE_ID_LEN])
{
    uint64_t value;

    memcpy(&value, trace_id + ES_TRACE_ID_LEN - sizeof(value), sizeof(value));
    return be64toh(value) & (ES_THRESHOLD_NEVER - 1);
}

es_decision_t
es_sampler_parentbased_traceidratio(const es_span_context_t *parent,
                                    const uint8_t trace_id[ES_TRACE_ID_LEN], uint64_t threshold)
{
    if (parent != NULL) {
        return (parent->flags & ES_FLAG_SAMPLED) != 0 ? ES_DECISION_PARENT_SAMPLED
                                                      : ES_DECISION_PARENT_UNSAMPLED;
    }
    return es_randomness(trace_id) >= threshold ? ES_DECISION_RATIO_SAMPLED
                                                : ES_DECISION_RATIO_UNSAMPLED;
}

const es_decision_info_t es_decisions[ES_DECISIONS] = {
    [ES_DECISION_PARENT_SAMPLED] = {"parent", true},
    [ES_DECISION_PARENT_UNSAMPLED] = {"parent", false},
    [ES_DECISION_RATIO_SAMPLED] = {"ratio", true},
    [ES_DECISION_RATIO_UNSAMPLED] = {"ratio", false},
    [ES_DECISION_OFF] = {"off", false},
};

bool
es_parse_sample_rate(es_str_t text, uint64_t *threshold, es_error_t *error)
{
    /* By hand: strtod() would take "inf", hex floats and the locale's comma. */
    es_str_t number = text;
    double divisor = 1, value = 0, place = 1;
    bool percent = text.len != 0 && text.data[text.len - 1] == '%';
    bool fraction = false, any = false;

    if (percent) {
        number.len--;
        divisor = 100;
    }
    for (size_t i = 0; i < number.len; i++) {
        char c = number.data[i];

        if (c == '.' && !fraction) {
            fraction = true;
        } else if (c >= '0' && c <= '9') {
            any = true;
            value = value * 10 + (c - '0');
            if (fraction) {
                place *= 10;
            }
        } else {
            goto invalid;
        }
    }
    value = value / place / divisor;
    if (!any || !(value <= 1)) { /* nor is it one: so many digits are no number */
        goto invalid;
    }

    *threshold = (uint64_t) ((1 - value) * (double) ES_THRESHOLD_NEVER);

    /* The least probability with a threshold is 2^-56; a double near 1 is too
     * coarse to say so. Below it is never. */
    if (*threshold == ES_THRESHOLD_NEVER && value * (double) ES_THRESHOLD_NEVER >= 1) {
        *threshold = ES_THRESHOLD_NEVER - 1;
    }
    return true;

invalid:
    return es_fail(error,
                   "invalid sample rate \"%.*s\": it is a number from 0 to 1, or a "
                   "percentage from 0%% to 100%%",
                   ES_ARG(text));
}
