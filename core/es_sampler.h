/* es_sampler.h: is this trace recorded, and why? Pure functions.
 *
 * A sampler is one row of a table: does it ask the caller first, and what does it
 * do with a trace that nobody decided yet? A probability is OpenTelemetry's
 * consistent one (R >= T), which every service of a trace computes alike. */

#ifndef ES_SAMPLER_H
#define ES_SAMPLER_H

#include "edgespan.h"

/* What a sampler does with a root. */
typedef enum es_root {
    ES_ROOT_ON,
    ES_ROOT_OFF,
    ES_ROOT_RATIO,
} es_root_t;

typedef struct es_sampler {
    es_str_t name; /* as in OTEL_TRACES_SAMPLER */
    bool parent_based;
    es_root_t root;
    const char *refused; /* why it is known, but not there; NULL: it is */
} es_sampler_t;

/* es_sampling_t.sampler is a row; row 0 is the default, parentbased_always_on. */
extern const es_sampler_t es_samplers[];

/* The row of a name, without case. */
bool es_sampler_find(es_str_t name, uint8_t *row, es_error_t *error) ES_MUST_CHECK;

/* The ratio sampler of the same family: it asks the caller if this one does. */
uint8_t es_sampler_ratio(uint8_t row);

/* Who sets a probability: the decision of what it samples. */
typedef enum es_ratio {
    ES_RATIO_RATE = ES_DECISION_RATIO_SAMPLED,
    ES_RATIO_TARGET = ES_DECISION_TARGET_SAMPLED,
    ES_RATIO_OVERRIDE = ES_DECISION_OVERRIDE_SAMPLED,
} es_ratio_t;

/* The root's decision; the last three are a ratio's. */
es_decision_t es_sampler_root(es_root_t root, es_ratio_t ratio, uint64_t threshold,
                              uint64_t randomness);

/* R of a trace id: its low 56 bits. */
uint64_t es_randomness(const uint8_t trace_id[ES_TRACE_ID_LEN]);

/* ------------------------------------------------------- probabilities --- */

/* T of a probability from 0 to 1, and back. */
uint64_t es_threshold_of(double probability);
double es_threshold_probability(uint64_t threshold);

/* T rounded to so many significant hexadecimal digits: what is decided is what
 * `ot=th` says. Digits f at the left are not significant, nor are zeros (they are
 * those of probabilities near 0 and near 1). */
#define ES_THRESHOLD_DIGITS 4
uint64_t es_threshold_round(uint64_t threshold, unsigned digits);

/* A sample rate, "0.1" or "10%", from 0 to 1. */
bool es_parse_probability(es_str_t text, double *probability, es_error_t *error) ES_MUST_CHECK;

/* "0.01", four significant digits; no NUL. Returns the length. */
#define ES_PROBABILITY_TEXT 32
size_t es_probability_text(uint64_t threshold, char text[ES_PROBABILITY_TEXT]);

/* ----------------------------------------------------------- decisions --- */

/* What each decision means. */
typedef struct es_decision_info {
    const char *token; /* who decided: "parent", "ratio", "limit", ... */
    bool sampled;
    bool ratio; /* a probability did: `ot=th` says which */
} es_decision_info_t;

extern const es_decision_info_t es_decisions[ES_DECISIONS];

#endif
