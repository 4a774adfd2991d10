/* A request's way: where it joins a trace, where it is decided, where its
 * context is sent on, where its span ends.
 *
 *   header_parser    the location is known: joins, so that the error log can
 *                    name the trace from here on
 *   fixups           all conditions can be evaluated: decides, injects; again
 *                    after each internal redirect
 *   log_transaction  ends the span; the authority for whatever came without the
 *                    hooks before (a malformed request, a 403, a cached answer)
 *
 * Nothing is kept for a request until a place that takes part is reached: the
 * span begins at r->request_time all the same. */

#include "mod_edgespan.h"

/* ---------------------------------------------------------------- state --- */

/* The request as the client sent it. */
static request_rec *
initial_request(request_rec *r)
{
    while (r->main != NULL || r->prev != NULL) {
        r = r->main != NULL ? r->main : r->prev;
    }
    return r;
}

/* NULL as long as no place of this exchange took part. */
static es_trace_t *
trace_of(request_rec *r)
{
    const edgespan_request_t *initial = edgespan_request_of(initial_request(r));

    return initial != NULL ? initial->trace : NULL;
}

static void *
pool_alloc(void *pool, size_t size)
{
    return apr_palloc(pool, size);
}

static es_trace_t *
start_trace(const request_rec *r)
{
    const es_pool_t pool = {pool_alloc, r->pool};
    es_trace_t *trace = apr_palloc(r->pool, sizeof(*trace));

    es_trace_init(trace, edgespan_process.provider, &pool);
    if (r->request_time != 0) {
        es_trace_started_at(trace, (uint64_t) r->request_time * 1000);
    }
    return trace;
}

static edgespan_request_t *
attach(request_rec *r, es_trace_t *trace)
{
    edgespan_request_t *request = edgespan_request_of(r);

    if (request == NULL) {
        request = apr_pcalloc(r->pool, sizeof(*request));
        request->trace = trace;
        ap_set_module_config(r->request_config, &edgespan_module, request);
    }
    return request;
}

/* The state of `r`; begins the trace if need be. */
static edgespan_request_t *
enter(request_rec *r)
{
    edgespan_request_t *request = edgespan_request_of(r);
    request_rec *initial;

    if (request != NULL) {
        return request;
    }
    initial = initial_request(r);
    request = edgespan_request_of(initial);
    if (request == NULL) {
        request = attach(initial, start_trace(initial));
    }
    return attach(r, request->trace);
}

/* ------------------------------------------------------------ the place --- */

static int
records(const edgespan_dir_conf_t *conf)
{
    return conf->trace != EDGESPAN_TRACE_UNSET && conf->trace != EDGESPAN_TRACE_OFF;
}

static unsigned
context_mode(const edgespan_dir_conf_t *conf, int taking_part)
{
    if (conf->context != EDGESPAN_UNSET) {
        return (unsigned) conf->context;
    }
    return taking_part ? ES_CONTEXT_PROPAGATE : ES_CONTEXT_IGNORE;
}

/* Where tracing is off and nothing is said about the context, requests pass as
 * they came. */
static int
takes_part(const edgespan_dir_conf_t *conf)
{
    if (conf->status > EDGESPAN_STATUS_OFF) {
        return 0; /* to look does not change what is seen */
    }
    return records(conf) || context_mode(conf, 0) != ES_CONTEXT_IGNORE;
}

static void
report(const request_rec *r, const char *error)
{
    if (error != NULL) {
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "edgespan: cannot evaluate an expression: %s",
                      error);
    }
}

const char *
edgespan_evaluate(request_rec *r, const ap_expr_info_t *expr)
{
    const char *error = NULL, *value = ap_expr_str_exec(r, expr, &error);

    report(r, error);
    return error == NULL ? value : NULL;
}

static bool
is_true(request_rec *r, const ap_expr_info_t *condition)
{
    const char *error = NULL;
    int result = ap_expr_exec(r, condition, &error);

    report(r, error);
    return result > 0;
}

static bool
is_on(request_rec *r, const edgespan_dir_conf_t *conf)
{
    switch (conf->trace) {
    case EDGESPAN_TRACE_ON:
        return true;
    case EDGESPAN_TRACE_CONDITION:
        return is_true(r, conf->trace_expr);
    case EDGESPAN_TRACE_VALUE:
        return es_is_true(es_cstr(edgespan_evaluate(r, conf->trace_expr)));
    default:
        return false;
    }
}

static uint64_t
threshold(request_rec *r, const edgespan_dir_conf_t *conf)
{
    const char *rate;
    uint64_t value;
    es_error_t error;

    if (conf->rate_expr == NULL) {
        return ES_THRESHOLD_DEFAULT;
    }
    rate = edgespan_evaluate(r, conf->rate_expr);
    if (rate != NULL && es_parse_sample_rate(es_cstr(rate), &value, &error)) {
        return value;
    }
    ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                  "edgespan: the expression of OtelSampleRate gives no rate, nothing is sampled");
    return ES_THRESHOLD_NEVER;
}

/* ------------------------------------------------------ joining, deciding --- */

static void
join(request_rec *r, es_trace_t *trace, unsigned mode)
{
    const apr_array_header_t *headers = apr_table_elts(r->headers_in);
    const es_propagation_t *propagation = &edgespan_server_conf(r)->propagation;
    es_carrier_t carrier;

    if (trace->joined || !(mode & ES_CONTEXT_EXTRACT)) {
        es_trace_join(trace, propagation, ES_TRUST_ON, NULL);
        return;
    }
    es_carrier_init(&carrier, trace, propagation);
    for (int i = 0; i < headers->nelts; i++) {
        const apr_table_entry_t *header = &APR_ARRAY_IDX(headers, i, apr_table_entry_t);

        es_carrier_add(&carrier, es_cstr(header->key), es_cstr(header->val));
    }
    es_trace_join(trace, propagation, ES_TRUST_ON, &carrier);
}

static edgespan_request_t *
join_and_decide(request_rec *r)
{
    const edgespan_dir_conf_t *conf = edgespan_dir_conf(r);
    edgespan_request_t *request = enter(r);
    es_trace_t *trace = request->trace;

    request->decided = 1;
    if (r->prev != NULL) {
        es_trace_redirected(trace);
    }
    join(r, trace, context_mode(conf, records(conf)));
    if (!trace->sealed) {
        if (is_on(r, conf)) {
            es_trace_decide(trace, &conf->sampling, threshold(r, conf), es_cstr(r->uri));
        } else {
            es_trace_decide_off(trace);
        }
    }
    return request;
}

/* -------------------------------------------------------------- showing --- */

static void
show(request_rec *r, const char *name, const char *value)
{
    apr_table_setn(r->subprocess_env, name, value);
    apr_table_setn(r->notes, name, value);
}

static char *
hex(apr_pool_t *p, const uint8_t *bytes, size_t len)
{
    char *text = apr_palloc(p, 2 * len + 1);

    es_hex(text, bytes, len);
    text[2 * len] = '\0';
    return text;
}

/* For LogFormat, ErrorLogFormat, expressions and scripts. Again for each
 * request_rec: an internal redirect renames what is in the environment. */
static void
show_ids(request_rec *r, edgespan_request_t *request)
{
    const es_trace_t *trace = request->trace;
    bool parent_sampled = trace->has_parent && (trace->parent.flags & ES_FLAG_SAMPLED);

    if (request->named) {
        return;
    }
    request->named = 1;

    show(r, "OTEL_TRACE_ID", hex(r->pool, trace->span.trace_id, ES_TRACE_ID_LEN));
    show(r, "OTEL_SPAN_ID", hex(r->pool, trace->span.span_id, ES_SPAN_ID_LEN));
    show(r, "OTEL_PARENT_SAMPLED", parent_sampled ? "1" : "0");
    if (trace->has_parent) {
        show(r, "OTEL_PARENT_ID", hex(r->pool, trace->parent.span_id, ES_SPAN_ID_LEN));
    }
}

/* `upstream_id` is NULL if there is no upstream. */
static void
show_decision(request_rec *r, edgespan_request_t *request, const uint8_t *upstream_id)
{
    const es_trace_t *trace = request->trace;
    char *traceparent = apr_palloc(r->pool, ES_TRACEPARENT_LEN + 1);

    es_trace_traceparent(trace, upstream_id != NULL ? upstream_id : trace->span.span_id,
                         traceparent);
    traceparent[ES_TRACEPARENT_LEN] = '\0';

    show(r, "OTEL_SAMPLED", es_trace_sampled(trace) ? "1" : "0");
    show(r, "OTEL_TRACE_FLAGS", hex(r->pool, &trace->span.flags, 1));
    show(r, "OTEL_TRACEPARENT", traceparent);
    if (upstream_id != NULL) {
        show(r, "OTEL_UPSTREAM_SPAN_ID", hex(r->pool, upstream_id, ES_SPAN_ID_LEN));
    }
    request->shown = 1;
}

/* ------------------------------------------------------------ injecting --- */

/* What CGI, FastCGI and mod_proxy send is made of headers_in. The decision is
 * shown and fixed with that. */
static void
inject(request_rec *r, es_trace_t *trace, const uint8_t *span_id)
{
    es_header_t headers[ES_INJECT_MAX];
    unsigned count;

    es_trace_seal(trace);
    count = es_trace_inject(trace, span_id, headers);

    for (unsigned i = 0; i < count; i++) {
        const char *name = apr_pstrmemdup(r->pool, headers[i].name.data, headers[i].name.len);

        if (headers[i].value.len == 0) {
            apr_table_unset(r->headers_in, name);
        } else {
            apr_table_setn(r->headers_in, name,
                           apr_pstrmemdup(r->pool, headers[i].value.data, headers[i].value.len));
        }
    }
}

/* A subrequest has no span of its own: it only matters when it is proxied. Its
 * headers are its parent's, which is to keep its own id in them. */
static void
inject_subrequest(request_rec *r, es_trace_t *trace)
{
    edgespan_request_t *request;

    if (!trace->decided || !edgespan_is_proxied(r)) {
        return;
    }
    request = attach(r, trace);
    if (context_mode(edgespan_dir_conf(r), 1) & ES_CONTEXT_INJECT) {
        r->headers_in = apr_table_copy(r->pool, r->headers_in);
        inject(r, trace, edgespan_upstream_id(r, request));
    }
}

/* ---------------------------------------------------------------- hooks --- */

int
edgespan_header_parser(request_rec *r)
{
    const edgespan_dir_conf_t *conf;
    edgespan_request_t *request;

    if (edgespan_process.provider == NULL || !takes_part(conf = edgespan_dir_conf(r))) {
        return DECLINED;
    }
    request = enter(r);
    join(r, request->trace, context_mode(conf, records(conf)));
    show_ids(r, request);
    return DECLINED;
}

int
edgespan_fixups(request_rec *r)
{
    const uint8_t *upstream_id = NULL;
    edgespan_request_t *request;
    es_trace_t *trace;

    if (edgespan_process.provider == NULL) {
        return DECLINED;
    }
    trace = trace_of(r);
    if (r->main != NULL) {
        if (trace != NULL) {
            inject_subrequest(r, trace);
        }
        return DECLINED;
    }
    if (takes_part(edgespan_dir_conf(r))) {
        request = join_and_decide(r);
        trace = request->trace;
    } else if (trace != NULL && trace->decided) {
        request = attach(r, trace); /* redirected: tracing is never switched off */
    } else {
        return DECLINED;
    }

    if (edgespan_is_proxied(r)) {
        upstream_id = edgespan_upstream_id(r, request);
    }
    show_ids(r, request);
    show_decision(r, request, upstream_id);
    if (context_mode(edgespan_dir_conf(r), 1) & ES_CONTEXT_INJECT) {
        inject(r, trace, upstream_id != NULL ? upstream_id : trace->span.span_id);
    }
    return DECLINED;
}

/* `r` is the request as the client sent it. */
int
edgespan_log_transaction(request_rec *r)
{
    edgespan_request_t *request;
    request_rec *last = r;
    es_trace_t *trace;

    if (edgespan_process.provider == NULL) {
        return DECLINED;
    }
    for (request_rec *step = r; step != NULL; step = step->next) {
        request = edgespan_request_of(step);
        if ((request == NULL || !request->decided) && takes_part(edgespan_dir_conf(step))) {
            join_and_decide(step);
        }
        last = step;
    }
    trace = trace_of(r);
    if (trace == NULL || !trace->decided) {
        return DECLINED;
    }
    es_trace_seal(trace);
    request = attach(last, trace);
    if (!request->shown) {
        show_ids(last, request);
        show_decision(last, request, NULL);
    }
    if (es_trace_sampled(trace)) {
        edgespan_end_server_span(r, last, trace);
    }
    return DECLINED;
}
