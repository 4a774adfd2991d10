
/*
 * What the files of the nginx module share.  The core's functions are in
 * core/edgespan.h; the module translates between the two and nothing more.
 *
 *   ngx_http_edgespan_module.c       the module and its directives
 *   ngx_http_edgespan_merge.c        its configurations, what a level inherits
 *   ngx_http_edgespan_conf.c         what the directives take
 *   ngx_http_edgespan_propagation.c  those of the context, whom to believe
 *   ngx_http_edgespan_sampling.c     those of sampling, a rate that varies
 *   ngx_http_edgespan_attributes.c   those of attributes, what they say
 *   ngx_http_edgespan_compat.c       otel_compat
 *   ngx_http_edgespan_process.c      shared zones, start and stop of a process
 *   ngx_http_edgespan_log.c          messages of the exporter thread
 *   ngx_http_edgespan_request.c      phase handlers: a request's way
 *   ngx_http_edgespan_ctx.c          a request's state, kept over redirects
 *   ngx_http_edgespan_filter.c       the response on its way out
 *   ngx_http_edgespan_subrequest.c   subrequests: the INTERNAL spans
 *   ngx_http_edgespan_headers.c      headers sent to upstreams
 *   ngx_http_edgespan_upstream.c     which upstreams are wrapped
 *   ngx_http_edgespan_response.c     cache status, status of gRPC
 *   ngx_http_edgespan_peer.c         a try of an upstream, its id and times
 *   ngx_http_edgespan_error_log.c    lines of the error log: ids, events
 *   ngx_http_edgespan_span.c         what a finished request says in its span
 *   ngx_http_edgespan_client.c       and in those of its upstreams
 *   ngx_http_edgespan_variables.c    $otel_*
 *   ngx_http_edgespan_status.c       otel_status
 */


#ifndef _NGX_HTTP_EDGESPAN_H_INCLUDED_
#define _NGX_HTTP_EDGESPAN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "edgespan.h"


typedef struct {
    ngx_str_t                       key;
    ngx_http_complex_value_t        value;
    es_attribute_type_t             type;
} ngx_http_edgespan_attr_t;


/* a header that becomes an attribute */

typedef struct {
    es_capture_t                    capture;
    ngx_int_t                       index;  /* of a response's variable */
} ngx_http_edgespan_capture_t;


/* an upstream{} or an implicit one, and its initialization before ours */

typedef struct {
    ngx_http_upstream_srv_conf_t   *upstream;
    ngx_http_upstream_init_peer_pt  init;
} ngx_http_edgespan_peer_init_t;


typedef struct {
    es_config_t                    *config;
    es_generation_t                *generation;
    es_provider_t                  *provider;    /* of this process */
    ngx_conf_t                     *cf;          /* while it is being read */
    ngx_core_conf_t                *core;
    ngx_shm_zone_t                 *queue_zone;
    ngx_shm_zone_t                 *stats_zone;

    /* sorted by address: an implicit upstream has no srv_conf for it */
    ngx_array_t                     peer_inits;

    /* of the realip module, if this nginx has it */
    ngx_uint_t                      realip_ctx_index;
    ngx_int_t                       realip_addr_index;
    ngx_int_t                       realip_port_index;

    ngx_str_t                       service_name;

    /* some place asks for us: otherwise no handler is registered */
    unsigned                        used:1;

    /* some place records spans */
    unsigned                        traced:1;

    /* some place shows the status */
    unsigned                        status:1;

    /* some server does not believe its clients, be they traced or not */
    unsigned                        strangers:1;

    unsigned                        override:1;
    unsigned                        hash_key:1;
    unsigned                        semconv:1;

    /* otel_compat ngx_otel_module */
    unsigned                        compat:1;
} ngx_http_edgespan_main_conf_t;


typedef struct {
    es_propagation_t                propagation;
    ngx_uint_t                      trust;           /* ES_TRUST_... */
    ngx_http_complex_value_t       *trust_variable;  /* instead, or NULL */
    ngx_str_t                       trace_url;
} ngx_http_edgespan_srv_conf_t;


typedef struct {
    ngx_http_complex_value_t       *trace;           /* NULL is off */
    ngx_http_complex_value_t       *sample_rate;     /* NULL: does not vary */
    es_sampling_t                   sampling;
    ngx_uint_t                      context;         /* ES_CONTEXT_..., unset */
    ngx_uint_t                      response_header; /* ES_RESPONSE_... */
    es_names_t                      baggage_attrs;
    ngx_http_complex_value_t       *span_name;
    ngx_array_t                    *attrs;           /* of ..._attr_t */
    ngx_array_t                    *captures;        /* of ..._capture_t */
    es_redaction_t                  redaction;
    ngx_flag_t                      upstream_span;
    ngx_flag_t                      subrequest_span;
    ngx_flag_t                      error_events;
    ngx_http_handler_pt             handler;         /* behind ours */
    ngx_str_t                       route;
    ngx_http_complex_value_t       *route_value;     /* otel_route, or NULL */

    /* otel_status; a format that is not given is the request's to choose */
    ngx_uint_t                      status_format;
    unsigned                        status:1;
} ngx_http_edgespan_loc_conf_t;


/*
 * One way to an upstream: a request has several when an internal redirect
 * follows an upstream's response.
 */

typedef struct {
    u_char                          span_id[ES_SPAN_ID_LEN];   /* last try's */
    u_char                          header_id[ES_SPAN_ID_LEN]; /* injected */
    ngx_uint_t                      first_state;  /* in r->upstream_states */
    uint64_t                        created;      /* before its first try */
    uint64_t                        end;          /* resolved at run time */

    /* what is sent, as far as it is known */
    ngx_http_upstream_t            *upstream;     /* NULL: it is not */
    ngx_str_t                       method;
    ngx_str_t                       schema;       /* "http://" */
    ngx_str_t                       host;
    ngx_str_t                       uri;
    in_port_t                       port;

    unsigned                        span:1;       /* otel_upstream_span */
    unsigned                        injected:1;
    unsigned                        http2:1;
} ngx_http_edgespan_leg_t;


/* times as in es_http_try_t */

typedef struct {
    ngx_uint_t                      state;        /* in r->upstream_states */
    u_char                          span_id[ES_SPAN_ID_LEN];
    uint64_t                        start;
    uint64_t                        connected;
    uint64_t                        secured;
    uint64_t                        first_byte;
    uint64_t                        end;
    unsigned                        span:1;       /* of its own */
    unsigned                        reused:1;
    unsigned                        ready:1;      /* the connection was */
    unsigned                        no_peer:1;    /* none was live */
} ngx_http_edgespan_try_t;


typedef struct ngx_http_edgespan_peer_s  ngx_http_edgespan_peer_t;
typedef struct ngx_http_edgespan_ctx_s  ngx_http_edgespan_ctx_t;
typedef struct ngx_http_edgespan_lines_s  ngx_http_edgespan_lines_t;

struct ngx_http_edgespan_ctx_s {
    ngx_http_request_t             *request;
    es_trace_t                     *trace;        /* the main request's */
    ngx_http_edgespan_ctx_t        *main;         /* the main request's */
    ngx_http_edgespan_ctx_t        *parent;       /* NULL: the main request */
    ngx_http_edgespan_ctx_t        *next;         /* a subrequest's */
    ngx_http_edgespan_ctx_t        *last;         /* of the main request */
    ngx_str_t                       path;         /* before any rewrite */
    ngx_str_t                       args;         /* a subrequest's, likewise */

    /* where the decision was taken, if it could not differ the next time */
    ngx_http_edgespan_loc_conf_t   *decided;

    /* of the location before any redirect */
    ngx_str_t                       route;
    ngx_http_complex_value_t       *route_value;
    const es_redaction_t           *redaction;

    ngx_uint_t                      first_state;  /* of a leg to come */
    ngx_http_edgespan_leg_t        *leg;          /* under way, or to come */
    ngx_array_t                     legs;         /* of ..._leg_t * */
    ngx_array_t                     tries;        /* of ..._try_t */
    ngx_http_edgespan_peer_t       *peer;         /* the upstream's, wrapped */

    /* monotonic ns; 0 where nobody has waited, or it is not known */

    uint64_t                        header_read;  /* it came slowly */
    uint64_t                        body_wanted;  /* it was not all there */
    uint64_t                        body_read;
    uint64_t                        first_byte;   /* when a header was sent */
    time_t                          date;         /* likewise */
    uint64_t                        upgraded;     /* to another protocol */
    uint64_t                        blocked;      /* the client takes no more */
    uint64_t                        drained;      /* and took it, at last */
    uint64_t                        waited;       /* ns between, in sum */
    uint64_t                        last_byte;    /* of a complete response */

    /* of the main request: r->log_handler before ours */
    ngx_http_log_handler_pt         log_handler;
    ngx_http_edgespan_lines_t      *lines;        /* otel_error_events */

    /* a subrequest's own span */

    u_char                          span_id[ES_SPAN_ID_LEN];
    uint64_t                        start;
    uint64_t                        end;
    ngx_http_post_subrequest_t      post;         /* ours */
    ngx_http_post_subrequest_t     *next_post;    /* whose place it took */

    unsigned                        span:1;       /* otel_subrequest_span */
    unsigned                        suppressed:1; /* otel_trace off */
    unsigned                        background:1; /* the client does not wait */
    unsigned                        trust:2;      /* ES_TRUST_... */
    unsigned                        trust_known:1;
    unsigned                        redirected:1;
    unsigned                        last_buf:1;   /* the response is complete */
    unsigned                        pending:1;    /* but not yet sent */
    unsigned                        idle:1;       /* has ids, takes no part */
    unsigned                        logging:1;    /* memory may be short */
};


/* the exporter of this process; NULL: it does not trace */
extern es_provider_t  *ngx_http_edgespan_provider;

extern ngx_module_t  ngx_http_edgespan_module;


char *ngx_http_edgespan_exporter(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_service_name(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_resource_attr(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_trace(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_trace_context(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_semconv(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_trace_url(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_compat(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_edgespan_init_compat(ngx_conf_t *cf,
    ngx_http_edgespan_main_conf_t *mcf);
void ngx_http_edgespan_set_compat(ngx_http_request_t *r, es_http_t *http);
char *ngx_http_edgespan_status(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

char *ngx_http_edgespan_propagators(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_trust_context(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_baggage_attr(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_baggage_allow(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_response_header(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
es_trust_t ngx_http_edgespan_trust(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);

char *ngx_http_edgespan_sampler(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_sample_rate(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_sample_target(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_sample_limit(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_sample_keep(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_override(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_span_attr(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_span_header(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_redact(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_edgespan_hash_key(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
ngx_int_t ngx_http_edgespan_set_attrs(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, es_http_t *http);

void ngx_http_edgespan_wrap_log(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);
void ngx_http_edgespan_set_events(ngx_http_edgespan_ctx_t *ctx,
    es_http_t *http);

uint64_t ngx_http_edgespan_threshold(ngx_http_request_t *r,
    ngx_http_edgespan_loc_conf_t *lcf);

/* what a directive handler returns for an error of the core */
char *ngx_http_edgespan_refuse(ngx_conf_t *cf, es_error_t *error);

/* the arguments of the directive that is being read; NULL: no memory */
es_str_t *ngx_http_edgespan_words(ngx_conf_t *cf, unsigned *count);

ngx_http_complex_value_t *ngx_http_edgespan_compile(ngx_conf_t *cf,
    ngx_str_t *value);

void *ngx_http_edgespan_create_main_conf(ngx_conf_t *cf);
char *ngx_http_edgespan_init_main_conf(ngx_conf_t *cf, void *conf);
void *ngx_http_edgespan_create_srv_conf(ngx_conf_t *cf);
char *ngx_http_edgespan_merge_srv_conf(ngx_conf_t *cf, void *parent,
    void *child);
void *ngx_http_edgespan_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_edgespan_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);

ngx_int_t ngx_http_edgespan_add_zones(ngx_conf_t *cf,
    ngx_http_edgespan_main_conf_t *mcf);
ngx_int_t ngx_http_edgespan_init_process(ngx_cycle_t *cycle);
ngx_int_t ngx_http_edgespan_init_module(ngx_cycle_t *cycle);
void ngx_http_edgespan_exit_process(ngx_cycle_t *cycle);

extern const ngx_uint_t  ngx_http_edgespan_log_levels[];

ngx_int_t ngx_http_edgespan_log_init(ngx_cycle_t *cycle);
void ngx_http_edgespan_log_write(void *data, es_log_level_t level,
    const char *text);
void ngx_http_edgespan_log_done(ngx_cycle_t *cycle);

ngx_int_t ngx_http_edgespan_add_handlers(ngx_conf_t *cf);
ngx_http_edgespan_ctx_t *ngx_http_edgespan_find_ctx(ngx_http_request_t *r);
ngx_http_edgespan_ctx_t *ngx_http_edgespan_kept_ctx(ngx_http_request_t *r);
es_pool_t ngx_http_edgespan_pool(ngx_pool_t *pool);

/* what somebody asks of a trace; ids are there also where nothing is traced */

#define NGX_HTTP_EDGESPAN_ASKS_IDS       0
#define NGX_HTTP_EDGESPAN_ASKS_CONTEXT   1
#define NGX_HTTP_EDGESPAN_ASKS_DECISION  2

ngx_http_edgespan_ctx_t *ngx_http_edgespan_joined_ctx(ngx_http_request_t *r,
    ngx_uint_t asks);
void ngx_http_edgespan_decide(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);
ngx_int_t ngx_http_edgespan_complex(ngx_http_request_t *r,
    ngx_http_complex_value_t *value, es_str_t *result);

void ngx_http_edgespan_add_filters(void);

ngx_int_t ngx_http_edgespan_precontent(ngx_http_request_t *r);
ngx_uint_t ngx_http_edgespan_is_on(ngx_http_request_t *r,
    ngx_http_complex_value_t *value);

void ngx_http_edgespan_wrap_content(ngx_conf_t *cf,
    ngx_http_edgespan_loc_conf_t *prev, ngx_http_edgespan_loc_conf_t *conf);
void ngx_http_edgespan_enter_subrequest(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);
void ngx_http_edgespan_await_subrequest(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);
void ngx_http_edgespan_redirect_subrequest(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);
void ngx_http_edgespan_end_subrequests(ngx_http_edgespan_ctx_t *main,
    es_http_t *server, uint64_t now, es_timeline_t *timeline);

/* the span on which what a (sub)request did hangs; NULL: the SERVER span */
const uint8_t *ngx_http_edgespan_parent_id(ngx_http_edgespan_ctx_t *ctx);

ngx_int_t ngx_http_edgespan_inject(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);
ngx_int_t ngx_http_edgespan_strip(ngx_http_request_t *r);
ngx_http_edgespan_leg_t *ngx_http_edgespan_get_leg(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);

/* writes another id over the one before; returns how often that was there */
ngx_uint_t ngx_http_edgespan_rewrite(ngx_http_upstream_t *u, u_char *from,
    u_char *to);

void ngx_http_edgespan_leave_leg(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);
void ngx_http_edgespan_wrap_peer(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);
ngx_int_t ngx_http_edgespan_wrap_upstreams(ngx_conf_t *cf,
    ngx_http_edgespan_main_conf_t *mcf);

void ngx_http_edgespan_end_request(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);

/*
 * The CLIENT spans of a (sub)request whose span is "http".  "timeline" is NULL
 * where the client did not wait for them.
 */
void ngx_http_edgespan_end_upstreams(ngx_http_edgespan_ctx_t *ctx,
    es_http_t *http, es_timeline_t *timeline);

/* one event, which tells when the connection became another protocol's */
void ngx_http_edgespan_set_upgrade(ngx_http_edgespan_ctx_t *ctx,
    es_http_t *http, es_http_event_t *event);

/* what nginx's cache said, "HIT" and so on; empty: it was not asked */
es_str_t ngx_http_edgespan_cache_status(ngx_http_request_t *r);

/* the content type is that of a call of gRPC */
ngx_uint_t ngx_http_edgespan_is_grpc(ngx_http_request_t *r);

/* returns how many of that name there are; the first n go to values */
ngx_uint_t ngx_http_edgespan_find_headers(ngx_list_t *list, es_str_t name,
    es_str_t *values, ngx_uint_t n);

/* "grpc-status", a decimal number; empty: none came */
es_str_t ngx_http_edgespan_grpc_status(ngx_list_t *trailers,
    ngx_list_t *headers);

/* grpc and grpc_status, as answered to the client */
void ngx_http_edgespan_set_grpc(ngx_http_request_t *r, es_http_t *http);

ngx_int_t ngx_http_edgespan_add_variables(ngx_conf_t *cf);

ngx_int_t ngx_http_edgespan_init_status(ngx_conf_t *cf);


/* the context of a request or a subrequest; NULL: no memory */

static ngx_inline ngx_http_edgespan_ctx_t *
ngx_http_edgespan_get_ctx(ngx_http_request_t *r)
{
    ngx_http_edgespan_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_edgespan_module);

    return ctx != NULL ? ctx : ngx_http_edgespan_find_ctx(r);
}


static ngx_inline ngx_uint_t
ngx_http_edgespan_context(ngx_http_edgespan_loc_conf_t *lcf,
    ngx_uint_t takes_part)
{
    if (lcf->context != NGX_CONF_UNSET_UINT) {
        return lcf->context;
    }

    return takes_part ? ES_CONTEXT_PROPAGATE : ES_CONTEXT_IGNORE;
}


/* how many tries of upstreams there were, separators among them */

static ngx_inline ngx_uint_t
ngx_http_edgespan_states(ngx_http_request_t *r)
{
    return r->upstream_states != NULL ? r->upstream_states->nelts : 0;
}


static ngx_inline es_str_t
ngx_http_edgespan_str(ngx_str_t *s)
{
    return es_str(s->data, s->len);
}


#endif /* _NGX_HTTP_EDGESPAN_H_INCLUDED_ */
