/* A request's way: where it joins a trace, where it is decided, where its
 * context is sent on, where its span ends.
 *
 *   header_parser    the location is known: joins, so that the error log can
 *                    name the trace from here on
 *   fixups           all conditions can be evaluated: decides, injects; again
 *                    after each internal redirect
 *   insert_filter    a handler is about to run, or an error to be told: decides what did
 *                    not come so far. A subrequest begins: most only look something up
 *                    and never come here
 *   log_transaction  ends the span; the authority for whatever came without the
 *                    hooks before (a malformed request, a 403, a cached answer)
 *
 * Nothing is kept for a request until a place that takes part is reached: the
 * span begins at r->request_time all the same. */

#include "mod_edgespan.h"

/* ---------------------------------------------------------------- state --- */

/* The request as the client sent it. */
request_rec *
edgespan_initial_request(request_rec *r)
{
    while (r->main != NULL || r->prev != NULL) {
        r = r->main != NULL ? r->main : r->prev;
    }
    return r;
}

edgespan_request_t *
edgespan_initial(request_rec *r)
{
    return edgespan_request_of(edgespan_initial_request(r));
}

/* NULL as long as no place of this exchange took part. */
static es_trace_t *
trace_of(request_rec *r)
{
    const edgespan_request_t *initial = edgespan_initial(r);

    return initial != NULL ? initial->trace : NULL;
}

static void *
pool_alloc(void *pool, size_t size)
{
    return apr_palloc(pool, size);
}

es_pool_t
edgespan_pool(apr_pool_t *p)
{
    return (es_pool_t){pool_alloc, p};
}

static es_trace_t *
start_trace(const request_rec *r)
{
    const es_pool_t pool = edgespan_pool(r->pool);
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
    initial = edgespan_initial_request(r);
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
    return conf->trace == 1;
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

const char *
edgespan_choose(request_rec *r, const edgespan_choice_t *choice)
{
    const char *error = NULL;
    int result;

    if (!choice->condition) {
        return edgespan_evaluate(r, choice->expr);
    }
    result = ap_expr_exec(r, choice->expr, &error);
    report(r, error);
    return result > 0 ? "on" : "off";
}

static bool
is_on(request_rec *r, const edgespan_dir_conf_t *conf)
{
    return records(conf)
           && (conf->trace_choice.expr == NULL
               || es_is_true(es_cstr(edgespan_choose(r, &conf->trace_choice))));
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
                  "edgespan: the expression of OtelSampleRate gives no rate: it counts as 0");
    return ES_THRESHOLD_NEVER;
}

/* ------------------------------------------------------ joining, deciding --- */

static void
join(request_rec *r, es_trace_t *trace, unsigned mode)
{
    if (!trace->joined) {
        edgespan_join(r, trace, edgespan_trust(r), mode);
    }
}

/* The place takes no part, but a client that is not believed shall not get its
 * headers past it. The ids are fixed with that: an internal redirect may lead to
 * where they are needed, and by then the headers are gone. */
static void
join_stranger(request_rec *r)
{
    const es_trace_t *trace = trace_of(r);
    es_trust_t trust;

    if ((trace == NULL || !trace->joined) && (trust = edgespan_trust(r)) != ES_TRUST_ON) {
        edgespan_join(r, enter(r)->trace, trust, ES_CONTEXT_EXTRACT);
    }
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

    /* What is kept at the end may change until then. */
    if (trace->sealed && !(conf->sampling.given & ES_GIVEN_KEEP)) {
        return request;
    }
    if (is_on(r, conf)) {
        /* The path that the client asked for, whatever it was rewritten to. */
        es_trace_decide(trace, &conf->sampling,
                        trace->sealed ? ES_THRESHOLD_DEFAULT : threshold(r, conf),
                        es_cstr(edgespan_initial_request(r)->parsed_uri.path));
    } else {
        es_trace_decide_off(trace);
    }
    return request;
}

/* mod_rewrite in a directory: it ends this request_rec by an internal redirect, before
 * anybody sees the headers or the environment. */
static bool
is_rewritten(const request_rec *r)
{
    return r->handler != NULL && strcmp(r->handler, "redirect-handler") == 0;
}

bool
edgespan_injects(const request_rec *r)
{
    return (context_mode(edgespan_dir_conf(r), 1) & ES_CONTEXT_INJECT) != 0;
}

/* A subrequest is about to run. Its headers are its parent's, which is to keep its own
 * id in them. */
static void
enter_subrequest(request_rec *r, es_trace_t *trace)
{
    edgespan_request_t *request = attach(r, trace);
    const uint8_t *id;

    if (request->decided) {
        return;
    }
    request->decided = 1;
    edgespan_begin_subrequest(r, request);
    if (is_rewritten(r)) {
        return;
    }
    id = edgespan_is_proxied(r) ? edgespan_upstream_id(r, request) : edgespan_parent_id(r);
    if (id != NULL && edgespan_injects(r)) {
        es_trace_seal(trace);
        r->headers_in = apr_table_copy(r->pool, r->headers_in);
        edgespan_inject(r, trace, id);
        edgespan_show_traceparent(r, trace, id);
    }
}

/* ---------------------------------------------------------------- hooks --- */

int
edgespan_header_parser(request_rec *r)
{
    const edgespan_dir_conf_t *conf = edgespan_dir_conf(r);
    edgespan_request_t *request;

    if (edgespan_process.provider == NULL) {
        if (edgespan_trust(r) != ES_TRUST_ON) {
            edgespan_remove_context(r);
        }
    } else if (takes_part(conf)) {
        request = enter(r);
        request->asked = conf;
        join(r, request->trace, context_mode(conf, records(conf)));
        edgespan_show_ids(r, request);
        edgespan_renew_log_id(r, request);
    } else {
        join_stranger(r);
    }
    return DECLINED;
}

int
edgespan_fixups(request_rec *r)
{
    const uint8_t *upstream_id = NULL;
    edgespan_request_t *request;
    es_trace_t *trace;

    if (edgespan_process.provider == NULL || r->main != NULL) {
        return DECLINED;
    }
    trace = trace_of(r);
    if (takes_part(edgespan_dir_conf(r))) {
        request = join_and_decide(r);
        trace = request->trace;
    } else if (trace != NULL && trace->decided) {
        request = attach(r, trace); /* redirected: tracing is never switched off */
    } else {
        return DECLINED;
    }
    if (is_rewritten(r)) {
        return DECLINED;
    }

    if (edgespan_is_proxied(r)) {
        upstream_id = edgespan_upstream_id(r, request);
    }
    edgespan_show_ids(r, request);
    edgespan_show_decision(r, request, upstream_id);
    if (edgespan_injects(r)) {
        edgespan_inject(r, trace, upstream_id != NULL ? upstream_id : trace->span.span_id);
    }
    return DECLINED;
}

/* Also for what came without fixups, an error or a cached answer. */
void
edgespan_insert_filter(request_rec *r)
{
    const edgespan_request_t *request;
    es_trace_t *trace;

    if (edgespan_process.provider == NULL) {
        return;
    }
    request = edgespan_request_of(r);
    if (r->main == NULL && (request == NULL || !request->decided)
        && takes_part(edgespan_dir_conf(r))) {
        join_and_decide(r);
    }
    trace = trace_of(r);
    if (trace == NULL || !trace->decided) {
        return;
    }
    if (r->prev != NULL) {
        edgespan_upstream_redirected(r->prev);
    }
    if (r->main != NULL) {
        enter_subrequest(r, trace);
        return;
    }
    if (es_trace_recording(trace)) {
        edgespan_start_clock(r, edgespan_initial(r));
    }
    edgespan_tell_client(r, trace);
}

/* A process that ends destroys the requests that are left, behind its last span. */
static void
count_missed(request_rec *r)
{
    const es_trace_t *trace = trace_of(r);

    if (edgespan_process.generation != NULL && trace != NULL && es_trace_sampled(trace)) {
        es_generation_missed(edgespan_process.generation);
    }
}

/* `r` is the request as the client sent it. */
int
edgespan_log_transaction(request_rec *r)
{
    edgespan_request_t *request;
    request_rec *last = r;
    es_trace_t *trace;

    if (edgespan_process.provider == NULL) {
        count_missed(r);
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
        edgespan_show_ids(last, request);
        edgespan_show_decision(last, request, NULL);
    }
    if (es_trace_recording(trace)) {
        edgespan_end_server_span(r, last, trace);
    }
    return DECLINED;
}
