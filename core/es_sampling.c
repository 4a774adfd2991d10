/* The directives of sampling, one level at a time. */

#include "es_config.h"
#include "es_sampler.h"

static void
give(es_sampling_t *sampling, unsigned what, const char *place)
{
    sampling->given |= (uint8_t) what;
    sampling->places[__builtin_ctz(what)] = place;
}

/* ------------------------------------------------------------- who decides --- */

/* On one level nothing overrides anything. */
static bool
check(const es_sampling_t *level, es_error_t *error)
{
    const es_sampler_t *sampler = &es_samplers[level->sampler];
    unsigned ratios = level->given & (ES_GIVEN_RATE | ES_GIVEN_TARGET);

    if (ratios == (ES_GIVEN_RATE | ES_GIVEN_TARGET)) {
        return es_fail(error, "a rate and a target exclude each other: one of them is to go");
    }
    if (ratios != 0 && (level->given & ES_GIVEN_SAMPLER) && sampler->root != ES_ROOT_RATIO) {
        es_str_t right = es_samplers[es_sampler_ratio(level->sampler)].name;

        return es_fail(error,
                       "sampler \"%.*s\" and a %s exclude each other: \"%.*s\" is the sampler "
                       "that has one",
                       ES_ARG(sampler->name), ratios == ES_GIVEN_RATE ? "rate" : "target",
                       ES_ARG(right));
    }
    return true;
}

bool
es_sampling_sampler(es_sampling_t *sampling, es_str_t name, const char *place, es_error_t *error)
{
    es_sampling_t level = *sampling;

    if (!es_sampler_find(name, &level.sampler, error)) {
        return false;
    }
    give(&level, ES_GIVEN_SAMPLER, place);
    if (!check(&level, error)) {
        return false;
    }
    *sampling = level;
    return true;
}

bool
es_sampling_rate(es_sampling_t *sampling, es_str_t text, const char *place, es_error_t *error)
{
    es_sampling_t level = *sampling;

    give(&level, ES_GIVEN_RATE, place);
    if ((text.data != NULL && !es_parse_sample_rate(text, &level.threshold, error))
        || !check(&level, error)) {
        return false;
    }
    *sampling = level;
    return true;
}

void
es_sampling_inherit(es_sampling_t *sampling, const es_sampling_t *outer)
{
    unsigned ratios = ES_GIVEN_RATE | ES_GIVEN_TARGET;
    unsigned missing = outer->given & ~(unsigned) sampling->given;

    if (sampling->given & ratios) {
        missing &= ~ratios;
    }
    if (missing & ES_GIVEN_SAMPLER) {
        /* The innermost word counts: here, that there is a probability. */
        sampling->sampler =
            sampling->given & ratios ? es_sampler_ratio(outer->sampler) : outer->sampler;
    }
    if (missing & ES_GIVEN_RATE) {
        sampling->threshold = outer->threshold;
    }
    if (missing & ES_GIVEN_TARGET) {
        sampling->target = outer->target;
    }
    if (missing & ES_GIVEN_LIMIT) {
        sampling->limit = outer->limit;
    }
    if (missing & ES_GIVEN_KEEP) {
        sampling->keep = outer->keep;
        sampling->keep_limit = outer->keep_limit;
        sampling->slow_ns = outer->slow_ns;
        memcpy(sampling->statuses, outer->statuses, sizeof(sampling->statuses));
    }
    for (unsigned i = 0; i < ES_GIVEN_COUNT; i++) {
        if (missing >> i & 1) {
            sampling->places[i] = outer->places[i];
        }
    }
    sampling->given |= (uint8_t) missing;
}

/* ------------------------------------------------------- limits and targets --- */

static bool
twice(es_str_t word, es_error_t *error)
{
    return es_fail(error, "parameter \"%.*s\" is given twice: once is right", ES_ARG(word));
}

/* The value of "name=value"; its data is NULL where the word is another. */
static es_str_t
value_of(es_str_t word, es_str_t name)
{
    return es_str_starts(word, name) ? es_str_from(word, name.len) : ES_STR_NONE;
}

static bool
parse_rate(es_str_t text, uint64_t *count, uint64_t *seconds, es_error_t *error)
{
    return es_parse_rate(text, count, seconds)
           || es_fail(error,
                      "invalid rate \"%.*s\": it is \"<number>r/s\" or \"<number>r/m\", from 1r/m "
                      "to %ur/s",
                      ES_ARG(text), (unsigned) ES_RATE_MAX);
}

/* The number of a new limit. */
static bool
add_limit(es_config_t *config, es_str_t rate, uint64_t burst, const char *place, uint16_t *number,
          es_error_t *error)
{
    uint64_t count, seconds;

    if (!parse_rate(rate, &count, &seconds, error)) {
        return false;
    }
    if (config->limits_count == ES_LIMITS_MAX) {
        return es_fail(error, "more than %d limits in one configuration", ES_LIMITS_MAX);
    }
    es_limit_init(&config->limits[config->limits_count++], count, seconds, burst, place);
    *number = (uint16_t) config->limits_count;
    return true;
}

bool
es_sampling_target(es_config_t *config, es_sampling_t *sampling, const es_str_t *words,
                   unsigned count, const char *place, es_error_t *error)
{
    es_sample_target_t target = {.place = place, .max = 1};
    es_sampling_t level = *sampling;
    bool has_min = false, has_max = false;
    uint64_t rate, seconds;

    if (!parse_rate(count != 0 ? words[0] : ES_STR_NONE, &rate, &seconds, error)) {
        return false;
    }
    target.per_second = (double) rate / (double) seconds;
    for (unsigned i = 1; i < count; i++) {
        es_str_t min = value_of(words[i], ES_STR("min="));
        es_str_t max = value_of(words[i], ES_STR("max="));

        if (min.data == NULL && max.data == NULL) {
            return es_fail(error, "invalid parameter \"%.*s\": it is \"min=\" or \"max=\"",
                           ES_ARG(words[i]));
        }
        if (min.data != NULL ? has_min : has_max) {
            return twice(words[i], error);
        }
        has_min |= min.data != NULL;
        has_max |= max.data != NULL;
        if (!es_parse_probability(min.data != NULL ? min : max,
                                  min.data != NULL ? &target.min : &target.max, error)) {
            return false;
        }
    }
    if (target.min > target.max) {
        return es_fail(error, "its min is more than its max: no probability is between them");
    }
    give(&level, ES_GIVEN_TARGET, place);
    if (!check(&level, error)) {
        return false;
    }
    if (config->targets_count == ES_TARGETS_MAX) {
        return es_fail(error, "more than %d targets in one configuration", ES_TARGETS_MAX);
    }
    config->targets[config->targets_count++] = target;
    level.target = (uint16_t) config->targets_count;
    *sampling = level;
    return true;
}

bool
es_sampling_limit(es_config_t *config, es_sampling_t *sampling, const es_str_t *words,
                  unsigned count, const char *place, es_error_t *error)
{
    uint64_t burst = 0;

    for (unsigned i = 1; i < count; i++) {
        es_str_t value = value_of(words[i], ES_STR("burst="));

        if (burst != 0) {
            return twice(words[i], error);
        }
        if (value.data == NULL || !es_parse_uint(value, &burst) || burst == 0
            || burst > ES_RATE_MAX) {
            return es_fail(error, "invalid parameter \"%.*s\": it is \"burst=\" and 1 to %u",
                           ES_ARG(words[i]), (unsigned) ES_RATE_MAX);
        }
    }
    if (!add_limit(config, count != 0 ? words[0] : ES_STR_NONE, burst, place, &sampling->limit,
                   error)) {
        return false;
    }
    give(sampling, ES_GIVEN_LIMIT, place);
    return true;
}

/* -------------------------------------------------------------------- keep --- */

/* "429", or "5xx" for all of them. */
static bool
parse_status(es_str_t text, uint64_t statuses[8])
{
    unsigned hundred, first, last;
    uint64_t status;

    if (text.len != 3 || text.data[0] < '1' || text.data[0] > '5') {
        return false;
    }
    hundred = (unsigned) (text.data[0] - '0') * 100;
    if (es_str_ieq(es_str_from(text, 1), ES_STR("xx"))) {
        first = hundred;
        last = hundred + 99;
    } else if (es_parse_uint(text, &status)) {
        first = last = (unsigned) status;
    } else {
        return false;
    }
    for (unsigned i = first - 100; i <= last - 100; i++) {
        statuses[i / 64] |= UINT64_C(1) << i % 64;
    }
    return true;
}

static bool
parse_keep(es_sampling_t *level, es_str_t word, es_error_t *error)
{
    es_str_t slow = value_of(word, ES_STR("slow="));
    es_str_t status = value_of(word, ES_STR("status="));

    if (es_str_eq(word, ES_STR("error"))) {
        level->keep |= 1 << ES_KEEP_ERROR;
    } else if (slow.data != NULL) {
        if (level->keep >> ES_KEEP_SLOW & 1) {
            return twice(word, error);
        }
        if (!es_parse_time(slow, &level->slow_ns) || level->slow_ns == 0) {
            return es_fail(error, "invalid time \"%.*s\": it is like \"500ms\" or \"1s\"",
                           ES_ARG(slow));
        }
        level->keep |= 1 << ES_KEEP_SLOW;
    } else if (status.data != NULL) {
        if (!parse_status(status, level->statuses)) {
            return es_fail(error, "invalid status \"%.*s\": it is like \"429\" or \"5xx\"",
                           ES_ARG(status));
        }
        level->keep |= 1 << ES_KEEP_STATUS;
    } else {
        return es_fail(error,
                       "invalid parameter \"%.*s\": it is \"error\", \"slow=\", \"status=\" or "
                       "\"limit=\", or \"off\" alone",
                       ES_ARG(word));
    }
    return true;
}

bool
es_sampling_keep(es_config_t *config, es_sampling_t *sampling, const es_str_t *words,
                 unsigned count, const char *place, es_error_t *error)
{
    bool off = count == 1 && es_str_eq(words[0], ES_STR("off"));
    es_sampling_t level = *sampling;
    es_str_t limit = ES_STR_NONE;

    for (unsigned i = 0; i < count && !off; i++) {
        es_str_t value = value_of(words[i], ES_STR("limit="));

        if (value.data != NULL && limit.data != NULL) {
            return twice(words[i], error);
        }
        if (value.data != NULL) {
            limit = value;
        } else if (!parse_keep(&level, words[i], error)) {
            return false;
        }
    }
    if (level.keep == 0 && !off) {
        return es_fail(error,
                       "nothing to keep: it takes \"error\", \"slow=\" or \"status=\", or \"off\"");
    }
    if (limit.data != NULL) {
        if (!add_limit(config, limit, 0, place, &level.keep_limit, error)) {
            return false;
        }
        config->limits[level.keep_limit - 1].of_kept = true;
    }
    give(&level, ES_GIVEN_KEEP, place);
    *sampling = level;
    return true;
}
