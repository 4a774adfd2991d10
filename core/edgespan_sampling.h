/* edgespan_sampling.h, a part of edgespan.h: whom a server believes, which
 * headers it reads and writes, and what a place records.
 *
 * The structures belong to the module, one per level of its configuration; zeroed
 * they say nothing. The functions fill in one directive each, once per level;
 * `words` are its arguments. ..._inherit() adds what an outer level says. Strings
 * are borrowed for the life of the config.
 *
 * `place` is where the directive stands ("nginx.conf:42"), for $otel_decision;
 * NULL: nowhere. */

#ifndef EDGESPAN_SAMPLING_H
#define EDGESPAN_SAMPLING_H

#include "edgespan.h"

/* -------------------------------------------------------- propagation --- */

typedef struct es_names {
    const es_str_t *names;
    unsigned count;
} es_names_t;

#define ES_PROPAGATORS_MAX 8

/* Some of the headers that the core knows. Nearly every other header of a request
 * is told apart by its length and its first letter. */
typedef struct es_fields {
    uint32_t which;    /* bit n: field n */
    uint32_t lengths;  /* bit n: the name of one has n bytes */
    uint32_t initials; /* bit n: the name of one begins with the n-th letter */
} es_fields_t;

static inline bool
es_fields_may_have(const es_fields_t *fields, es_str_t name)
{
    return name.len < 32 && (fields->lengths >> name.len & 1)
           && (fields->initials >> (name.data[0] & 31) & 1);
}

/* Which context headers are read, in which order, and written. Private fields. */
typedef struct es_propagation {
    bool given, allow_given;
    bool timed_ids; /* new trace ids begin with the time */
    uint8_t count;
    uint8_t propagators[ES_PROPAGATORS_MAX];
    es_fields_t fields; /* of all of them */
    es_names_t allow;
} es_propagation_t;

/* otel_propagators: names as in OTEL_PROPAGATORS ("tracecontext", "baggage", "b3",
 * "b3multi", "jaeger", "xray"), or "none" alone. */
bool es_propagation_set(es_propagation_t *propagation, const es_str_t *words, unsigned count,
                        es_error_t *error) ES_MUST_CHECK;

/* otel_baggage_allow: the keys that are sent on, or "none" alone. `words` is borrowed,
 * too. */
bool es_propagation_allow(es_propagation_t *propagation, const es_str_t *words, unsigned count,
                          es_error_t *error) ES_MUST_CHECK;

void es_propagation_inherit(es_propagation_t *propagation, const es_propagation_t *outer);

/* A key of baggage: a token (W3C Baggage, "key"). */
bool es_check_baggage_key(es_str_t key, es_error_t *error) ES_MUST_CHECK;

/* Whose context is believed. */
typedef enum es_trust {
    ES_TRUST_ON,   /* the caller's trace goes on */
    ES_TRUST_OFF,  /* a new one begins, nothing of the caller's is sent on */
    ES_TRUST_LINK, /* likewise, with a span link to the caller's */
} es_trust_t;

/* "on", "off" or "link". */
bool es_parse_trust(es_str_t text, es_trust_t *trust, es_error_t *error) ES_MUST_CHECK;

/* Which header tells the client about its trace. */
typedef enum es_response_header {
    ES_RESPONSE_NONE,
    ES_RESPONSE_TRACERESPONSE,
    ES_RESPONSE_SERVER_TIMING,
} es_response_header_t;

/* "off", "traceresponse" or "server-timing". */
bool es_parse_response_header(es_str_t text, es_response_header_t *header,
                              es_error_t *error) ES_MUST_CHECK;

/* ----------------------------------------------------------- sampling --- */

/* A sampling probability, "0.1" or "10%", as the rejection threshold of
 * OpenTelemetry's consistent probability sampling (2^56 * (1 - p), so that 0
 * samples everything and ES_THRESHOLD_NEVER nothing), rounded to the four
 * significant digits that `ot=th` has by default. */
#define ES_THRESHOLD_NEVER (UINT64_C(1) << 56)
#define ES_THRESHOLD_DEFAULT UINT64_MAX /* of es_trace_decide(): the place's own */
bool es_parse_sample_rate(es_str_t text, uint64_t *threshold, es_error_t *error) ES_MUST_CHECK;

enum {
    ES_GIVEN_SAMPLER = 1,
    ES_GIVEN_RATE = 2,
    ES_GIVEN_TARGET = 4,
    ES_GIVEN_LIMIT = 8,
    ES_GIVEN_KEEP = 16,
    ES_GIVEN_COUNT = 5,
};

/* What requests a place records. Private fields. */
typedef struct es_sampling {
    uint8_t given;                      /* ES_GIVEN_..., here or at an outer level */
    uint8_t sampler;                    /* a row of es_sampler.c */
    uint8_t keep;                       /* ES_KEEP_... */
    uint16_t target, limit, keep_limit; /* of the config's, from 1; 0: none */
    uint64_t threshold;                 /* of a constant rate */
    uint64_t slow_ns;
    uint64_t statuses[8];               /* bit n: status 100 + n */
    const char *places[ES_GIVEN_COUNT]; /* of each that is given */
} es_sampling_t;

/* otel_sampler: a name of OTEL_TRACES_SAMPLER. */
bool es_sampling_sampler(es_sampling_t *sampling, es_str_t name, const char *place,
                         es_error_t *error) ES_MUST_CHECK;

/* otel_sample_rate. ES_STR_NONE: the rate varies, and es_trace_decide() is told each
 * request's. */
bool es_sampling_rate(es_sampling_t *sampling, es_str_t text, const char *place,
                      es_error_t *error) ES_MUST_CHECK;

/* otel_sample_target 50r/s [min=rate] [max=rate]: a probability that follows the
 * load. Its state is shared by all processes. */
bool es_sampling_target(es_config_t *config, es_sampling_t *sampling, const es_str_t *words,
                        unsigned count, const char *place, es_error_t *error) ES_MUST_CHECK;

/* otel_sample_limit 100r/s [burst=n]: no more than that, whoever decided. One
 * budget for all processes and all places that inherit it. */
bool es_sampling_limit(es_config_t *config, es_sampling_t *sampling, const es_str_t *words,
                       unsigned count, const char *place, es_error_t *error) ES_MUST_CHECK;

/* otel_sample_keep off | error slow=1s status=429 limit=20r/s: what is recorded
 * after all when the request has ended. */
bool es_sampling_keep(es_config_t *config, es_sampling_t *sampling, const es_str_t *words,
                      unsigned count, const char *place, es_error_t *error) ES_MUST_CHECK;

void es_sampling_inherit(es_sampling_t *sampling, const es_sampling_t *outer);

/* otel_override: a file of rates for incidents, looked at once a second (see
 * es_override.h). It need not exist. Relative paths begin at
 * es_config_directory(). */
bool es_config_override(es_config_t *config, es_str_t path, es_error_t *error) ES_MUST_CHECK;

#endif
