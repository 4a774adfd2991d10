#include "es_sampler.h"

#include "es_str.h"

#include <endian.h>

/* The rates of the remote ones come from outside, and here they are the server's. */
#define REMOTE "a rate, a target and an override file say it here"

const es_sampler_t es_samplers[] = {
    {{"parentbased_always_on", 21}, true, ES_ROOT_ON, NULL},
    {{"parentbased_always_off", 22}, true, ES_ROOT_OFF, NULL},
    {{"parentbased_traceidratio", 24}, true, ES_ROOT_RATIO, NULL},
    {{"always_on", 9}, false, ES_ROOT_ON, NULL},
    {{"always_off", 10}, false, ES_ROOT_OFF, NULL},
    {{"traceidratio", 12}, false, ES_ROOT_RATIO, NULL},
    {{"jaeger_remote", 13}, false, ES_ROOT_RATIO, "it asks a Jaeger collector: " REMOTE},
    {{"parentbased_jaeger_remote", 25}, true, ES_ROOT_RATIO, "it asks a Jaeger collector: " REMOTE},
    {{"xray", 4}, false, ES_ROOT_RATIO, "it asks AWS X-Ray: " REMOTE},
};

#define SAMPLERS (sizeof(es_samplers) / sizeof(es_samplers[0]))

bool
es_sampler_find(es_str_t name, uint8_t *row, es_error_t *error)
{
    for (size_t i = 0; i < SAMPLERS; i++) {
        if (!es_str_ieq(name, es_samplers[i].name)) {
            continue;
        }
        if (es_samplers[i].refused != NULL) {
            return es_fail(error, "sampler \"%.*s\" is not supported: %s", ES_ARG(name),
                           es_samplers[i].refused);
        }
        *row = (uint8_t) i;
        return true;
    }
    return es_fail(error,
                   "invalid sampler \"%.*s\": it is \"always_on\", \"always_off\", "
                   "\"traceidratio\", or one of them with \"parentbased_\" before it",
                   ES_ARG(name));
}

uint8_t
es_sampler_ratio(uint8_t row)
{
    uint8_t i = 0;

    while (es_samplers[i].root != ES_ROOT_RATIO
           || es_samplers[i].parent_based != es_samplers[row].parent_based) {
        i++;
    }
    return i;
}

es_decision_t
es_sampler_root(es_root_t root, es_ratio_t ratio, uint64_t threshold, uint64_t randomness)
{
    switch (root) {
    case ES_ROOT_ON:
        return ES_DECISION_ALWAYS_ON;
    case ES_ROOT_OFF:
        return ES_DECISION_ALWAYS_OFF;
    default:
        return (es_decision_t) ratio + (randomness < threshold);
    }
}

uint64_t
es_randomness(const uint8_t trace_id[ES_TRACE_ID_LEN])
{
    uint64_t value;

    memcpy(&value, trace_id + ES_TRACE_ID_LEN - sizeof(value), sizeof(value));
    return be64toh(value) & (ES_THRESHOLD_NEVER - 1);
}

const es_decision_info_t es_decisions[ES_DECISIONS] = {
    [ES_DECISION_PARENT_SAMPLED] = {"parent", true, false},
    [ES_DECISION_PARENT_UNSAMPLED] = {"parent", false, false},
    [ES_DECISION_ALWAYS_ON] = {"always_on", true, false},
    [ES_DECISION_ALWAYS_OFF] = {"always_off", false, false},
    [ES_DECISION_RATIO_SAMPLED] = {"ratio", true, true},
    [ES_DECISION_RATIO_UNSAMPLED] = {"ratio", false, true},
    [ES_DECISION_TARGET_SAMPLED] = {"target", true, true},
    [ES_DECISION_TARGET_UNSAMPLED] = {"target", false, true},
    [ES_DECISION_OVERRIDE_SAMPLED] = {"override", true, true},
    [ES_DECISION_OVERRIDE_UNSAMPLED] = {"override", false, true},
    [ES_DECISION_LIMIT] = {"limit", false, false},
    [ES_DECISION_OFF] = {"off", false, false},
};

/* ------------------------------------------------------- probabilities --- */

#define HEX_DIGITS 14 /* of T */

uint64_t
es_threshold_of(double probability)
{
    uint64_t threshold = (uint64_t) ((1 - probability) * (double) ES_THRESHOLD_NEVER);

    /* The least probability with a threshold is 2^-56; a double near 1 is too
     * coarse to say so. Below it is never. */
    if (threshold == ES_THRESHOLD_NEVER && probability * (double) ES_THRESHOLD_NEVER >= 1) {
        return ES_THRESHOLD_NEVER - 1;
    }
    return threshold;
}

double
es_threshold_probability(uint64_t threshold)
{
    return (double) (ES_THRESHOLD_NEVER - threshold) / (double) ES_THRESHOLD_NEVER;
}

uint64_t
es_threshold_round(uint64_t threshold, unsigned digits)
{
    unsigned first = threshold >> (4 * (HEX_DIGITS - 1)), left = 0;
    uint64_t unit;

    if (threshold == ES_THRESHOLD_NEVER || threshold == 0) {
        return threshold;
    }
    while ((first == 0 || first == 15) && left < HEX_DIGITS
           && ((threshold >> (4 * (HEX_DIGITS - 1 - left))) & 15) == first) {
        left++;
    }
    if (digits + left >= HEX_DIGITS) {
        return threshold;
    }
    unit = UINT64_C(1) << 4 * (HEX_DIGITS - digits - left);
    return (threshold + unit / 2) / unit * unit;
}

/* By hand: printf() would take the locale's comma. */
size_t
es_probability_text(uint64_t threshold, char text[ES_PROBABILITY_TEXT])
{
    double value = es_threshold_probability(threshold);
    unsigned zeros = 0, digits;
    size_t len;

    if (threshold >= ES_THRESHOLD_NEVER) {
        text[0] = '0';
        return 1;
    }
    while (value < 0.1) {
        value *= 10;
        zeros++;
    }
    digits = (unsigned) (value * 10000 + 0.5);
    if (digits == 10000 && zeros == 0) {
        text[0] = '1';
        return 1;
    }
    if (digits == 10000) {
        digits = 1000;
        zeros--;
    }
    memset(text, '0', 2 + zeros);
    text[1] = '.';
    len = 2 + zeros;
    for (unsigned unit = 1000; digits != 0; unit /= 10) {
        text[len++] = (char) ('0' + digits / unit);
        digits %= unit;
    }
    return len;
}

bool
es_parse_probability(es_str_t text, double *probability, es_error_t *error)
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
    *probability = value;
    return true;

invalid:
    return es_fail(error,
                   "invalid sample rate \"%.*s\": it is a number from 0 to 1, or a "
                   "percentage from 0%% to 100%%",
                   ES_ARG(text));
}

bool
es_parse_sample_rate(es_str_t text, uint64_t *threshold, es_error_t *error)
{
    double probability;

    if (!es_parse_probability(text, &probability, error)) {
        return false;
    }
    *threshold = es_threshold_round(es_threshold_of(probability), ES_THRESHOLD_DIGITS);
    return true;
}
