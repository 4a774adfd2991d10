/* W3C Baggage. Without a filter the client's header passes as it came, and nothing
 * is written; with one, what is left of it takes its place. */

#include "es_baggage.h"
#include "es_propagator.h"

/* Blanks in a member are between its parts only, and mean nothing. */
static size_t
copy(char *out, es_str_t member)
{
    size_t len = 0;

    for (size_t i = 0; i < member.len; i++) {
        if (member.data[i] != ' ' && member.data[i] != '\t') {
            out[len++] = member.data[i];
        }
    }
    return len;
}

static unsigned
inject(const es_trace_t *trace, const uint8_t span_id[ES_SPAN_ID_LEN], char *text,
       es_header_t *headers)
{
    es_str_t list = trace->allow != NULL ? trace->baggage : ES_STR_NONE;
    es_member_t member;
    size_t at = 0;

    (void) span_id;
    while (es_baggage_next(&list, &member)) {
        if (es_names_have(trace->allow, member.key)) {
            if (at != 0) {
                text[at++] = ',';
            }
            at += copy(text + at, member.text);
        }
    }
    headers[0] = (es_header_t){es_field_name(ES_FIELD_BAGGAGE), es_str(text, at)};
    return at != 0;
}

const es_propagator_t es_propagator_baggage = {
    .name = "baggage",
    .fields = ES_FIELD_BIT(ES_FIELD_BAGGAGE),
    .filters_baggage = true,
    .inject = inject,
};
