/* mod_proxy: the CLIENT span of a proxied request.
 *
 *   scheme_handler   a try begins; the one before, if any, had failed
 *   output filter    sees the upstream break off
 *   request_status   the last try ended, and the span with it
 *
 * A balancer that finds no worker to try makes no span. A response is passed on
 * before request_status: the span lasts until the last byte of it was taken. */

#include "mod_edgespan.h"

#include "mod_proxy.h"

#include <dlfcn.h>

#define FILTER_NAME "EDGESPAN_UPSTREAM"

struct edgespan_upstream {
    uint8_t span_id[ES_SPAN_ID_LEN]; /* what is injected */
    int has_span;                    /* else that is the SERVER span's */
    es_str_t scheme, host, target, version;
    unsigned port;
    apr_array_header_t *tries;  /* of es_http_try_t; NULL: none is to be ended */
    unsigned int connected : 1; /* the current try has a connection */
    unsigned int filtered : 1;
};

static ap_filter_rec_t *filter_handle;

int
edgespan_is_proxied(const request_rec *r)
{
    const char *where = r->proxyreq != PROXYREQ_NONE ? r->filename : r->handler;

    return where != NULL && strncmp(where, "proxy:", 6) == 0;
}

static edgespan_upstream_t *
upstream_of(request_rec *r, edgespan_request_t *request)
{
    edgespan_upstream_t *upstream = request->upstream;

    if (upstream == NULL) {
        upstream = request->upstream = apr_pcalloc(r->pool, sizeof(*upstream));
        upstream->has_span = edgespan_dir_conf(r)->upstream_span != 0;
        if (upstream->has_span) {
            es_trace_new_span_id(request->trace, upstream->span_id);
        } else {
            memcpy(upstream->span_id, request->trace->span.span_id, ES_SPAN_ID_LEN);
        }
    }
    return upstream;
}

const uint8_t *
edgespan_upstream_id(request_rec *r, edgespan_request_t *request)
{
    return upstream_of(r, request)->span_id;
}

/* --------------------------------------------------------------- a try --- */

/* h2 and h2c are mod_proxy's names for a version, not schemes of a URL. */
static void
set_scheme(edgespan_upstream_t *upstream, es_str_t scheme)
{
    upstream->scheme = scheme;
    upstream->version = ES_STR_NONE;
    if (scheme.len >= 2 && strncasecmp(scheme.data, "h2", 2) == 0) {
        upstream->scheme = scheme.len == 2 ? ES_STR("https") : ES_STR("http");
        upstream->version = ES_STR("2");
    }
}

/* `url` is what mod_proxy hands to the scheme's handler, and stays as it is. A
 * CONNECT has only an authority. */
static void
set_url(edgespan_upstream_t *upstream, const char *url)
{
    const char *authority = strstr(url, "://"), *end, *at;

    set_scheme(upstream, authority != NULL ? es_str(url, (size_t) (authority - url)) : ES_STR_NONE);
    authority = authority != NULL ? authority + 3 : url;
    end = authority + strcspn(authority, "/?#");
    upstream->target = es_cstr(end);

    /* Credentials never show. */
    while ((at = memchr(authority, '@', (size_t) (end - authority))) != NULL) {
        authority = at + 1;
    }
    upstream->host = es_str(authority, (size_t) (end - authority));
}

static es_http_try_t *
current_try(const edgespan_upstream_t *upstream)
{
    return &APR_ARRAY_IDX(upstream->tries, upstream->tries->nelts - 1, es_http_try_t);
}

/* A literal address needs no resolving; most names look different. */
static int
is_address(es_str_t host)
{
    return host.len != 0
           && (memchr(host.data, ':', host.len) != NULL
               || strspn(host.data, "0123456789.") >= host.len);
}

/* Whom a try is about to speak to, as far as that can be told before there is a
 * connection: a socket's path or a literal address. */
static void
expect_peer(request_rec *r, const proxy_worker *worker, es_str_t authority, es_http_try_t *try)
{
    const char *path =
        *worker->s->uds_path != '\0' ? worker->s->uds_path : apr_table_get(r->notes, "uds_path");
    es_str_t host;
    unsigned port;

    es_http_split_host(authority, &host, &port);
    if (path != NULL) {
        try->peer_address = es_cstr(path);
    } else if (is_address(host)) {
        try->peer_address = host;
        try->peer_port = port != 0 ? port : worker->s->port;
    }
}

static void
begin_try(request_rec *r, edgespan_upstream_t *upstream, const proxy_worker *worker,
          const char *url, const char *proxyhost, apr_port_t proxyport)
{
    es_str_t authority;
    es_http_try_t *try;

    set_url(upstream, url);
    upstream->port = worker->s->port;
    upstream->connected = 0;
    authority = upstream->host;
    if (proxyhost != NULL) {
        authority =
            es_cstr(apr_psprintf(r->pool, strchr(proxyhost, ':') != NULL ? "[%s]:%u" : "%s:%u",
                                 proxyhost, (unsigned) proxyport));
    }

    if (upstream->tries == NULL) {
        upstream->tries = apr_array_make(r->pool, 1, sizeof(es_http_try_t));
    }
    try = apr_array_push(upstream->tries); /* zeroed */
    try->start_mono_ns = es_mono_ns();
    expect_peer(r, worker, authority, try);
}

/* `status` is what the scheme's handler returned. That r->status and not a
 * failure of its own tells the answer, mod_proxy says by OK or DONE, or by a
 * note when an error page is to replace the answer. */
static void
end_try(const request_rec *r, const edgespan_request_t *request, int status)
{
    es_http_try_t *try = current_try(request->upstream);
    int overridden = apr_table_get(r->notes, "proxy-error-override") != NULL;

    try->end_mono_ns = es_mono_ns();

    if (request->unanswered) {
        try->error_type = ES_ERROR_NO_RESPONSE;
    } else if (status == OK || status == DONE || status == AP_FILTER_ERROR || overridden) {
        try->status = (unsigned) (overridden && status > 0 ? status : r->status);
        if (request->truncated && !r->connection->aborted) {
            try->error_type = ES_ERROR_TRUNCATED;
        }
    } else if (r->connection->aborted) {
        return; /* the client left before there was an answer */
    } else if (status == HTTP_GATEWAY_TIME_OUT
               || apr_table_get(r->notes, "proxy_timedout") != NULL) {
        try->error_type = ES_ERROR_TIMEOUT;
    } else if (request->upstream->connected || status == HTTP_BAD_GATEWAY) {
        try->error_type = ES_ERROR_NO_RESPONSE;
    } else if (status == HTTP_SERVICE_UNAVAILABLE) {
        try->error_type = ES_ERROR_CONNECTION_FAILED;
    } else {
        try->error_type = ES_STR("_OTHER");
    }
}

static es_str_t
copy(apr_pool_t *p, es_str_t text)
{
    return es_str(apr_pmemdup(p, text.data, text.len), text.len);
}

/* Until the request ends and it is known whether it is kept. A subrequest's memory
 * goes before that. */
static void
remember_client_span(request_rec *r, const es_http_t *http)
{
    const request_rec *initial = edgespan_initial_request(r);
    edgespan_request_t *request = edgespan_request_of(initial);
    apr_pool_t *p = initial->pool;
    es_http_t *span;

    if (request->upstream_spans == NULL) {
        request->upstream_spans = apr_array_make(p, 1, sizeof(es_http_t));
    }
    span = apr_array_push(request->upstream_spans);
    *span = *http;
    if (r->main != NULL) {
        es_http_try_t *tries = apr_pmemdup(p, http->tries, http->tries_count * sizeof(*tries));

        for (unsigned i = 0; i < http->tries_count; i++) {
            tries[i].peer_address = copy(p, tries[i].peer_address);
        }
        span->tries = tries;
        span->span_id = apr_pmemdup(p, http->span_id, ES_SPAN_ID_LEN);
        span->method = copy(p, http->method);
        span->target = copy(p, http->target);
        span->scheme = copy(p, http->scheme);
        span->host = copy(p, http->host);
        span->peer_address = copy(p, http->peer_address);
    }
}

void
edgespan_end_upstream_spans(const edgespan_request_t *initial)
{
    const apr_array_header_t *spans = initial->upstream_spans;

    for (int i = 0; spans != NULL && i < spans->nelts; i++) {
        es_trace_http(initial->trace, &APR_ARRAY_IDX(spans, i, es_http_t));
    }
}

static void
end_client_span(request_rec *r, const edgespan_request_t *request)
{
    const edgespan_upstream_t *upstream = request->upstream;
    const es_http_try_t *tries = (const es_http_try_t *) upstream->tries->elts;
    const es_http_try_t *last = current_try(upstream);
    const es_http_t http = {
        .kind = ES_KIND_CLIENT,
        .resource = edgespan_server_conf(r)->resource,
        .span_id = upstream->span_id,
        .start_mono_ns = tries[0].start_mono_ns,
        .end_mono_ns = last->end_mono_ns,
        .method = es_cstr(r->method),
        .target = upstream->target,
        .scheme = upstream->scheme,
        .host = upstream->host,
        .server_port = upstream->port,
        .protocol_version = upstream->version,
        .peer_address = last->peer_address,
        .peer_port = last->peer_port,
        .status = last->status,
        .error_type = last->error_type,
        .reason = r->connection->aborted ? ES_REASON_CLIENT_CLOSED : ES_STR_NONE,
        .request_body_size = -1,
        .response_body_size = -1,
        .tries = tries,
        .tries_count = (unsigned) upstream->tries->nelts,
    };

    if (es_trace_sampled(request->trace)) {
        es_trace_http(request->trace, &http);
    } else {
        remember_client_span(r, &http);
    }
}

/* --------------------------------------------------------------- hooks --- */

/* NULL: nothing of this request is recorded. */
static edgespan_request_t *
recorded_request(const request_rec *r)
{
    edgespan_request_t *request = edgespan_process.provider != NULL ? edgespan_request_of(r) : NULL;

    return request != NULL && es_trace_recording(request->trace) ? request : NULL;
}

static int
proxy_scheme_handler(request_rec *r, proxy_worker *worker, proxy_server_conf *conf, char *url,
                     const char *proxyhost, apr_port_t proxyport)
{
    edgespan_request_t *request = recorded_request(r);
    edgespan_upstream_t *upstream;

    (void) conf;
    if (request == NULL) {
        return DECLINED;
    }
    upstream = upstream_of(r, request);
    if (!upstream->filtered) {
        upstream->filtered = 1;
        ap_add_output_filter_handle(filter_handle, request, r, r->connection);
    }
    if (upstream->has_span) {
        if (upstream->tries != NULL) {
            end_try(r, request, HTTP_SERVICE_UNAVAILABLE);
        }
        begin_try(r, upstream, worker, url, proxyhost, proxyport);
    }
    return DECLINED;
}

static edgespan_request_t *
request_with_try(const request_rec *r)
{
    edgespan_request_t *request = recorded_request(r);

    return request != NULL && request->upstream != NULL && request->upstream->tries != NULL
               ? request
               : NULL;
}

/* mod_proxy_http is about to read a response from `backend`: the one place that
 * shows the connection, be it new or used before. */
static int
proxy_create_req(request_rec *r, request_rec *backend)
{
    edgespan_request_t *request = request_with_try(r);
    const conn_rec *c = backend->connection;
    es_http_try_t *try;

    if (request != NULL) {
        request->upstream->connected = 1;
        try = current_try(request->upstream);
        if (c->client_addr->family != APR_UNIX) {
            try->peer_address = es_cstr(apr_pstrdup(r->pool, c->client_ip));
            try->peer_port = c->client_addr->port;
        }
    }
    return OK;
}

static int
proxy_request_status(int *status, request_rec *r)
{
    edgespan_request_t *request = request_with_try(r);

    if (request != NULL) {
        if (*status == AP_FILTER_ERROR) {
            request->truncated = 1; /* mod_proxy_fcgi says so by this */
        }
        end_try(r, request, *status);
        end_client_span(r, request);
        request->upstream->tries = NULL;
    }
    return DECLINED;
}

/* mod_proxy sends a "502" after what it has of a response that breaks off. With
 * an end-of-connection it closes the client's connection instead of an answer. */
static apr_status_t
upstream_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    edgespan_request_t *request = filter->ctx;
    apr_bucket *bucket;

    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade);
         bucket = APR_BUCKET_NEXT(bucket)) {
        if (AP_BUCKET_IS_ERROR(bucket)
            && ((ap_bucket_error *) bucket->data)->status == HTTP_BAD_GATEWAY) {
            request->truncated = 1;
        } else if (AP_BUCKET_IS_EOC(bucket)) {
            request->unanswered = 1;
        }
    }
    return ap_pass_brigade(filter->next, brigade);
}

void
edgespan_proxy_filters(void)
{
    filter_handle =
        ap_register_output_filter(FILTER_NAME, upstream_filter, NULL, AP_FTYPE_RESOURCE);
}

/* scheme_handler is no optional hook: its registering function is looked for
 * when all modules are loaded. httpd sorts the hooks once more after this. */
void
edgespan_proxy_hooks(void)
{
    __typeof__(proxy_hook_scheme_handler) *hook_scheme_handler;

    *(void **) &hook_scheme_handler = dlsym(RTLD_DEFAULT, "proxy_hook_scheme_handler");
    if (hook_scheme_handler == NULL) {
        return;
    }
    hook_scheme_handler(proxy_scheme_handler, NULL, NULL, APR_HOOK_REALLY_FIRST);
    APR_OPTIONAL_HOOK(proxy, create_req, proxy_create_req, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(proxy, request_status, proxy_request_status, NULL, NULL, APR_HOOK_MIDDLE);
}
