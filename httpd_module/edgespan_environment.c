/* What is shown of a trace: OTEL_... in the environment and in the notes, for
 * LogFormat, ErrorLogFormat, expressions and scripts. Each request_rec has its own:
 * an internal redirect renames what is in the environment. */

#include "mod_edgespan.h"

static void
show(request_rec *r, const char *name, const char *value)
{
    edgespan_request_t *request = edgespan_request_of(r);

    if (request->adds) {
        apr_table_addn(r->subprocess_env, name, value);
        apr_table_addn(r->notes, name, value);
        request->added++;
    } else {
        apr_table_setn(r->subprocess_env, name, value);
        apr_table_setn(r->notes, name, value);
    }
}

static bool
has_others(const apr_table_t *table, unsigned ours)
{
    const apr_array_header_t *entries = apr_table_elts(table);
    unsigned count = 0;

    for (int i = 0; i < entries->nelts; i++) {
        count += strncasecmp(APR_ARRAY_IDX(entries, i, apr_table_entry_t).key, "OTEL_", 5) == 0;
    }
    return count != ours;
}

/* A table compares a name that it is to set with all that begin with the same four letters,
 * as ours do. Names that are not there yet are added without that: whoever calls this shows
 * each of them once, and has_others() looks for those of SetEnv and of clients' baggage. */
static void
begin_adding(const request_rec *r, edgespan_request_t *request)
{
    request->adds =
        !has_others(r->subprocess_env, request->added) && !has_others(r->notes, request->added);
}

/* Some who read the environment fall over a NULL in it. */
static void
show_text(request_rec *r, const char *name, es_str_t text)
{
    show(r, name, text.len != 0 ? apr_pstrmemdup(r->pool, text.data, text.len) : "");
}

static char *
hex(apr_pool_t *p, const uint8_t *bytes, size_t len)
{
    char *text = apr_palloc(p, 2 * len + 1);

    es_hex(text, bytes, len);
    text[2 * len] = '\0';
    return text;
}

/* "user-id" is OTEL_BAGGAGE_USER_ID: a shell can name that. Keys are ASCII. */
static const char *
baggage_name(apr_pool_t *p, es_str_t key)
{
    static const char prefix[] = "OTEL_BAGGAGE_";
    char *name = apr_palloc(p, sizeof(prefix) + key.len);
    char *end = name + sizeof(prefix) - 1;

    memcpy(name, prefix, sizeof(prefix) - 1);
    for (size_t i = 0; i < key.len; i++) {
        char c = key.data[i];

        if (c >= 'a' && c <= 'z') {
            c -= 'a' - 'A';
        } else if (!(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9')) {
            c = '_';
        }
        *end++ = c;
    }
    *end = '\0';
    return name;
}

/* Of one key's values the last stays in the tables. */
static void
show_baggage(request_rec *r, const es_trace_t *trace)
{
    es_attribute_t member;
    size_t at = 0;

    while (es_trace_baggage_next(trace, &at, &member)) {
        show_text(r, baggage_name(r->pool, member.key), member.value);
    }
}

void
edgespan_show_ids(request_rec *r, edgespan_request_t *request)
{
    const es_trace_t *trace = request->trace;
    bool parent_sampled = trace->has_parent && (trace->parent.flags & ES_FLAG_SAMPLED);

    if (request->trace_id != NULL) {
        return;
    }
    request->trace_id = hex(r->pool, trace->span.trace_id, ES_TRACE_ID_LEN);

    begin_adding(r, request);
    show(r, "OTEL_TRACE_ID", request->trace_id);
    show(r, "OTEL_SPAN_ID", hex(r->pool, trace->span.span_id, ES_SPAN_ID_LEN));
    show(r, "OTEL_PARENT_SAMPLED", parent_sampled ? "1" : "0");
    if (trace->has_parent) {
        show(r, "OTEL_PARENT_ID", hex(r->pool, trace->parent.span_id, ES_SPAN_ID_LEN));
    }
    request->adds = 0;
    show_baggage(r, trace);
}

void
edgespan_show_why(request_rec *r, const es_trace_t *trace)
{
    char text[ES_DECISION_TEXT];

    show_text(r, "OTEL_DECISION", es_trace_decision(trace, text));
}

void
edgespan_show_traceparent(request_rec *r, const es_trace_t *trace, const uint8_t *span_id)
{
    char *traceparent = apr_palloc(r->pool, ES_TRACEPARENT_LEN + 1);

    es_trace_traceparent(trace, span_id, traceparent);
    traceparent[ES_TRACEPARENT_LEN] = '\0';
    show(r, "OTEL_TRACEPARENT", traceparent);
}

void
edgespan_show_upstream(request_rec *r, const es_trace_t *trace, const uint8_t *upstream_id)
{
    edgespan_show_traceparent(r, trace, upstream_id);
    show(r, "OTEL_UPSTREAM_SPAN_ID", hex(r->pool, upstream_id, ES_SPAN_ID_LEN));
}

void
edgespan_show_decision(request_rec *r, edgespan_request_t *request, const uint8_t *upstream_id)
{
    const char *template = edgespan_server_conf(r)->trace_url;
    es_trace_t *trace = request->trace;

    es_trace_seal(trace);
    begin_adding(r, request);
    show(r, "OTEL_SAMPLED", es_trace_sampled(trace) ? "1" : "0");
    show(r, "OTEL_TRACE_FLAGS", hex(r->pool, &trace->span.flags, 1));
    if (upstream_id != NULL) {
        edgespan_show_upstream(r, trace, upstream_id);
    } else {
        edgespan_show_traceparent(r, trace, trace->span.span_id);
    }
    if (template != NULL) {
        show_text(r, "OTEL_TRACE_URL", es_trace_url(trace, es_cstr(template)));
    }
    edgespan_show_why(r, trace);
    request->adds = 0;
    request->shown = 1;
}
