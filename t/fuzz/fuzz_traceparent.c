/* One traceparent field value: what is read is what is written again. */

#include "fuzz.h"

#include "es_context.h"

static void
fuzz(fuzz_t *fuzz)
{
    es_str_t value = fuzz_rest(fuzz), trimmed = es_str_trim(value);
    es_span_context_t context, again;
    char text[ES_TRACEPARENT_LEN];

    fuzz_assert(fuzz_is_within(trimmed, value));
    if (!es_traceparent_parse(value, &context)) {
        return;
    }
    fuzz_assert(!es_all_zero(context.trace_id, ES_TRACE_ID_LEN));
    fuzz_assert(!es_all_zero(context.span_id, ES_SPAN_ID_LEN));
    fuzz_assert(context.tracestate.len == 0);

    es_traceparent_format(text, context.trace_id, context.span_id, context.flags);
    fuzz_assert(es_traceparent_parse(es_str(text, sizeof(text)), &again));
    fuzz_assert(memcmp(again.trace_id, context.trace_id, ES_TRACE_ID_LEN) == 0);
    fuzz_assert(memcmp(again.span_id, context.span_id, ES_SPAN_ID_LEN) == 0);
    fuzz_assert(again.flags == context.flags);

    /* But for the version and what a later one may have behind; the flags that
     * nobody knows yet are not sent on. */
    fuzz_assert(trimmed.len >= ES_TRACEPARENT_LEN);
    fuzz_assert(memcmp(text + 2, trimmed.data + 2, ES_TRACEPARENT_LEN - 4) == 0);
    fuzz_assert((context.flags & ~(ES_FLAG_SAMPLED | ES_FLAG_RANDOM)) == 0);
    fuzz_assert(es_str_starts(trimmed, ES_STR("00")) ? trimmed.len == ES_TRACEPARENT_LEN
                                                     : !es_str_starts(trimmed, ES_STR("ff")));
}
