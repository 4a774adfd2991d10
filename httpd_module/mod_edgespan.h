/* mod_edgespan.h: what the files of the httpd module share. The module
 * translates between httpd and the core (core/edgespan.h) and nothing more.
 *
 *   mod_edgespan.c          the module record and its hooks
 *   edgespan_config*.c      directives (edgespan_directives.h)
 *   edgespan_process.c      shared memory, start and stop of tracing in a child
 *   edgespan_request.c      a request's way: join, decide, inject, end
 *   edgespan_context.c      headers of the context, and whom to believe
 *   edgespan_attributes.c   what the directives add to a span
 *   edgespan_environment.c  OTEL_... in the environment and in the notes
 *   edgespan_log.c          %L
 *   edgespan_response.c     the header that tells the client
 *   edgespan_clock.c        when, on the client's side
 *   edgespan_proxy.c        mod_proxy: the tries of an upstream (edgespan_upstream.h)
 *   edgespan_try.c          a try, and its CLIENT span
 *   edgespan_subrequest.c   the INTERNAL span of a subrequest
 *   edgespan_span.c         what a request says in its SERVER span
 *   edgespan_status.c       SetHandler otel-status, mod_status
 *
 * Threads: a request may end on another thread than the one that handled it
 * (HTTP/2, event's write completion). All of its state is in its pool. */

#ifndef MOD_EDGESPAN_H
#define MOD_EDGESPAN_H

#include "httpd.h"

#include "ap_expr.h"
#include "apr_strings.h"
#include "http_config.h"
#include "http_core.h"
#include "http_log.h"
#include "http_protocol.h"
#include "http_request.h"

#include "edgespan.h"

APLOG_USE_MODULE(edgespan);

/* ------------------------------------------------------ configuration --- */

#define EDGESPAN_UNSET (-1)

/* A word that varies: of a lone %{variable} its value, of a condition "on" or "off". */
typedef struct {
    ap_expr_info_t *expr; /* NULL: it does not vary */
    bool condition;
} edgespan_choice_t;

typedef enum {
    EDGESPAN_STATUS_UNSET,
    EDGESPAN_STATUS_OFF,   /* SetHandler says something else */
    EDGESPAN_STATUS_LOCAL, /* no rule says who may see it */
    EDGESPAN_STATUS_RULES  /* its section has access rules */
} edgespan_status_e;

#define EDGESPAN_STATUS_HANDLER "otel-status"

typedef struct {
    const char *key;
    ap_expr_info_t *value;
    es_attribute_type_t type;
} edgespan_attribute_t;

/* Per directory. */
typedef struct {
    int trace; /* 0, 1, or EDGESPAN_UNSET */
    edgespan_choice_t trace_choice;
    int context; /* ES_CONTEXT_..., or EDGESPAN_UNSET */
    es_sampling_t sampling;
    es_redaction_t redaction;
    ap_expr_info_t *rate_expr;        /* NULL: it is constant */
    ap_expr_info_t *span_name;        /* NULL: unset */
    ap_expr_info_t *route;            /* NULL: unset */
    const char *location;             /* the innermost <Location> as a route; NULL: none */
    apr_array_header_t *attributes;   /* of edgespan_attribute_t; NULL: unset */
    apr_array_header_t *captures;     /* of es_capture_t; NULL: unset */
    apr_array_header_t *baggage_keys; /* of es_str_t; NULL: unset */
    int response;                     /* es_response_header_t, or EDGESPAN_UNSET */
    int upstream_span;                /* 0, 1, or EDGESPAN_UNSET */
    int subrequest_span;              /* likewise */
    edgespan_status_e status;         /* SetHandler otel-status */
} edgespan_dir_conf_t;

/* Per server. */
typedef struct {
    uint16_t resource;
    int resource_set;
    es_propagation_t propagation;
    int trust; /* es_trust_t, or EDGESPAN_UNSET */
    edgespan_choice_t trust_choice;
    const char *trace_url; /* a template; NULL: unset */
} edgespan_server_conf_t;

extern const command_rec edgespan_commands[];

void *edgespan_create_dir_config(apr_pool_t *p, char *path);
void *edgespan_merge_dir_config(apr_pool_t *p, void *base, void *add);
void *edgespan_create_server_config(apr_pool_t *p, server_rec *s);
void *edgespan_merge_server_config(apr_pool_t *p, void *base, void *add);

/* Makes every <Location> of all servers known as a route, whatever stands in it. */
void edgespan_name_locations(apr_pool_t *p, const server_rec *s);

static inline const edgespan_dir_conf_t *
edgespan_dir_conf(const request_rec *r)
{
    return ap_get_module_config(r->per_dir_config, &edgespan_module);
}

static inline const edgespan_server_conf_t *
edgespan_server_conf(const request_rec *r)
{
    return ap_get_module_config(r->server->module_config, &edgespan_module);
}

/* ------------------------------------------------------------- process --- */

/* Reset by each pass over the configuration: with "nodelete" a restart does not
 * reset it. */
typedef struct {
    es_config_t *config;
    unsigned int used : 1;     /* some place takes part in tracing */
    unsigned int traced : 1;   /* some place records spans */
    unsigned int threaded : 1; /* the MPM has threads */

    /* The parent's. */
    es_generation_t *generation;
    void *queue_area;
    apr_size_t queue_area_size;
    pid_t pid;

    es_provider_t *provider; /* the child's; NULL: it does not trace */
} edgespan_process_t;

extern edgespan_process_t edgespan_process;

int edgespan_pre_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp);
int edgespan_check_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);
int edgespan_post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);
void edgespan_child_init(apr_pool_t *pchild, server_rec *s);

/* ------------------------------------------------------------ requests --- */

typedef struct edgespan_upstream edgespan_upstream_t;
typedef struct edgespan_subrequest edgespan_subrequest_t;

/* What the client's side of an exchange took. Monotonic ns; 0: it never came to that. */
typedef struct {
    uint64_t first_byte_mono_ns; /* of the response */
    uint64_t written_mono_ns;    /* the connection took what it was given last */
    uint64_t writing_ns;         /* how long all that it was given took */
    uint64_t read_from, read_to; /* the body was read, for the last time so far */
    unsigned reads;
    bool stream_complete; /* mod_http2 has all of the response */
} edgespan_clock_t;

/* One request_rec's part in tracing. An internal redirect and a subrequest have
 * their own; the trace is the one of the request that the client sent. */
typedef struct {
    es_trace_t *trace;
    edgespan_upstream_t *upstream;     /* NULL: not proxied */
    edgespan_subrequest_t *subrequest; /* NULL: it is none, or not recorded */
    const char *trace_id;        /* the ids are in its tables, OTEL_TRACE_ID ...; NULL: not yet */
    unsigned int decided : 1;    /* its configuration was asked */
    unsigned int shown : 1;      /* and the decision, OTEL_SAMPLED ... */
    unsigned int adds : 1;       /* what is shown now was not there before */
    unsigned int added : 8;      /* so many of them */
    unsigned int handled : 1;    /* its handlers run, or did */
    unsigned int truncated : 1;  /* the upstream ended before its response */
    unsigned int unanswered : 1; /* httpd closed the connection instead of a response */

    const char *grpc_status; /* that its upstream sent; NULL: none */
    unsigned tunnel_status;  /* of an upgrade that httpd knows nothing of; 0: none */

    /* Of the request as the client sent it. */
    const edgespan_dir_conf_t *asked; /* its place, which mod_dir may change into that of the
                                         file that stands in; NULL: it was not known */
    unsigned int timed : 1;           /* its clock runs */
    edgespan_clock_t clock;
    es_timeline_t *timeline;            /* NULL: empty */
    uint64_t upgraded_mono_ns;          /* the connection became another protocol's; 0: no */
    edgespan_subrequest_t *subrequests; /* those that run */
    apr_array_header_t *spans;          /* of es_http_t, until it is known whether they are
                                           kept; NULL: none */
} edgespan_request_t;

/* NULL: it has none. */
static inline edgespan_request_t *
edgespan_request_of(const request_rec *r)
{
    return ap_get_module_config(r->request_config, &edgespan_module);
}

int edgespan_header_parser(request_rec *r);
int edgespan_fixups(request_rec *r);
void edgespan_insert_filter(request_rec *r);
int edgespan_log_transaction(request_rec *r);

/* The request as the client sent it. */
request_rec *edgespan_initial_request(request_rec *r);

/* The part that it has. Only where there is a trace. */
edgespan_request_t *edgespan_initial(request_rec *r);

/* Has the client gone before it had all of the response? */
bool edgespan_client_left(request_rec *r);

/* Is the context sent on from here, where a trace is decided? */
bool edgespan_injects(const request_rec *r);

es_pool_t edgespan_pool(apr_pool_t *p);

/* NULL if it cannot be evaluated. */
const char *edgespan_evaluate(request_rec *r, const ap_expr_info_t *expr);
const char *edgespan_choose(request_rec *r, const edgespan_choice_t *choice);

/* ------------------------------------------------------------- context --- */

es_trust_t edgespan_trust(request_rec *r);

/* Fixes the ids. `mode` is of ES_CONTEXT_...; a client that is not believed loses
 * its headers. */
void edgespan_join(request_rec *r, es_trace_t *trace, es_trust_t trust, unsigned mode);

/* Headers of all formats. */
void edgespan_remove_context(request_rec *r);

/* The decision is sealed already. */
void edgespan_inject(request_rec *r, const es_trace_t *trace, const uint8_t *span_id);

/* --------------------------------------------------------- environment --- */

void edgespan_show_ids(request_rec *r, edgespan_request_t *request);

/* Seals the decision. `upstream_id` is NULL if there is no upstream. */
void edgespan_show_decision(request_rec *r, edgespan_request_t *request,
                            const uint8_t *upstream_id);

/* Of a try. */
void edgespan_show_upstream(request_rec *r, const es_trace_t *trace, const uint8_t *upstream_id);

/* Of whatever `r` hands its context to. */
void edgespan_show_traceparent(request_rec *r, const es_trace_t *trace, const uint8_t *span_id);

/* OTEL_DECISION, again when the request was kept at its end. */
void edgespan_show_why(request_rec *r, const es_trace_t *trace);

/* ---------------------------------------------------------- attributes --- */

/* Of the place where the request came in. Empty: none. */
es_str_t edgespan_route(request_rec *r);

/* What is hidden of it: as the place says that was asked, and the one it came to. */
const es_redaction_t *edgespan_redaction(request_rec *r);

/* What the user adds to the SERVER span of `r`; `last` is where internal redirects
 * led. */
void edgespan_set_attributes(const request_rec *r, request_rec *last, const es_trace_t *trace,
                             es_http_t *http);

/* ----------------------------------------------------------------- log --- */

/* %L of a request that shows its ids is its trace id. */
int edgespan_generate_log_id(const conn_rec *c, const request_rec *r, const char **id);

/* From here on, if something was logged before. */
void edgespan_renew_log_id(request_rec *r, const edgespan_request_t *request);

/* ------------------------------------------------------------ response --- */

void edgespan_response_filters(void);

/* For a request that is decided, if its place says that the client is told. */
void edgespan_tell_client(request_rec *r, es_trace_t *trace);

/* --------------------------------------------------------------- clock --- */

void edgespan_clock_filters(void);
int edgespan_post_read_request(request_rec *r);

/* For a request that is recorded, once. */
void edgespan_start_clock(request_rec *r, edgespan_request_t *initial);

/* Adds what it measured. */
void edgespan_stop_clock(const request_rec *r, const edgespan_request_t *initial,
                         es_timeline_t *timeline, uint64_t end);

/* ----------------------------------------------------------- upstreams --- */

/* Hooks of mod_proxy, where that is loaded. */
void edgespan_proxy_hooks(void);
void edgespan_proxy_filters(void);

/* Is this request for mod_proxy? */
int edgespan_is_proxied(const request_rec *r);

/* The span id that the upstream is to see as its parent. Called again, it gives
 * the same. */
const uint8_t *edgespan_upstream_id(request_rec *r, edgespan_request_t *request);

/* `r` goes elsewhere by an internal redirect. */
void edgespan_upstream_redirected(const request_rec *r);

/* --------------------------------------------------------- subrequests --- */

void edgespan_subrequest_filters(void);

/* `r` begins to run. */
void edgespan_begin_subrequest(request_rec *r, edgespan_request_t *request);

int edgespan_subrequest_handler(request_rec *r);

/* Those that still run when the exchange ends. */
void edgespan_end_subrequests(edgespan_request_t *initial);

/* The span that what `r` does hangs on. NULL: the SERVER span. */
const uint8_t *edgespan_parent_id(const request_rec *r);

/* -------------------------------------------------------------- status --- */

/* Reads along with core's SetHandler. */
const char *edgespan_set_handler(cmd_parms *cmd, void *dir_conf, const char *args);

int edgespan_status_handler(request_rec *r);

/* The page of mod_status, where that is loaded. */
int edgespan_server_status(request_rec *r, int flags);

/* --------------------------------------------------------------- spans --- */

/* Of the exchange that `r` belongs to, for its tries and what its client did. */
es_timeline_t *edgespan_timeline(request_rec *r);

/* Ends a CLIENT or an INTERNAL span. Copies it if it is not known yet whether the
 * request is kept: the memory of a subrequest goes before that. */
void edgespan_end_span(request_rec *r, const es_http_t *http);

/* What mod_cache did, of `r` or where it was redirected to. Empty: it did nothing. */
es_str_t edgespan_cache_status(const request_rec *r);

/* All of an upstream's response is there. mod_http2 clears its trailers when they are sent. */
void edgespan_see_trailers(const request_rec *r, edgespan_request_t *request);

/* If it is gRPC; `last` has the response. */
void edgespan_set_rpc(const request_rec *r, const request_rec *last, es_http_t *http);

/* Ends the SERVER span of `r`, the request as the client sent it; `last` is
 * where internal redirects led, `r` itself without one. If it was not sampled: only
 * if it is kept, and with it the others. */
void edgespan_end_server_span(request_rec *r, request_rec *last, es_trace_t *trace);

#endif
