/* A try of an upstream, from its beginning to its CLIENT span. */

#include "edgespan_upstream.h"

/* ------------------------------------------------------------- to whom --- */

/* h2 and h2c are mod_proxy's names for a version, ws and wss for what is HTTP until
 * it is upgraded: no schemes of a URL that was asked for. */
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

/* `url` is copied: mod_proxy_uwsgi unescapes its own. A CONNECT has only an
 * authority. */
static void
set_url(edgespan_upstream_t *upstream, const char *url)
{
    const char *authority, *end, *at;

    url = apr_pstrdup(upstream->r->pool, url);
    authority = strstr(url, "://");
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

/* A literal address needs no resolving; most names look different. */
static bool
is_address(es_str_t host)
{
    return host.len != 0
           && (memchr(host.data, ':', host.len) != NULL
               || strspn(host.data, "0123456789.") >= host.len);
}

/* Whom a try is about to speak to, as far as that can be told before there is a
 * connection: a socket's path or a literal address. */
static void
expect_peer(edgespan_upstream_t *upstream, const proxy_worker *worker, es_str_t authority)
{
    const char *path = *worker->s->uds_path != '\0' ? worker->s->uds_path
                                                    : apr_table_get(upstream->r->notes, "uds_path");
    es_str_t host;
    unsigned port;

    es_http_split_host(authority, &host, &port);
    if (path != NULL) {
        upstream->http_try.peer_address = es_cstr(path);
    } else if (is_address(host)) {
        upstream->http_try.peer_address = host;
        upstream->http_try.peer_port = port != 0 ? port : worker->s->port;
    }
}

void
edgespan_set_peer(edgespan_upstream_t *upstream, const conn_rec *c)
{
    if (c->client_addr->family != APR_UNIX) {
        upstream->http_try.peer_address = es_cstr(apr_pstrdup(upstream->r->pool, c->client_ip));
        upstream->http_try.peer_port = c->client_addr->port;
    }
}

/* --------------------------------------------------------------- begin --- */

static bool
has_scheme(const edgespan_upstream_t *upstream, es_str_t scheme)
{
    return upstream->scheme.len == scheme.len
           && strncasecmp(upstream->scheme.data, scheme.data, scheme.len) == 0;
}

/* Which keeps connections by itself, which if it is told so, which never. */
static void
set_connection(edgespan_upstream_t *upstream, const proxy_worker *worker)
{
    const bool ajp = has_scheme(upstream, ES_STR("ajp")),
               fcgi = has_scheme(upstream, ES_STR("fcgi"));

    upstream->hidden = ajp || fcgi || has_scheme(upstream, ES_STR("scgi"));
    upstream->kept = (ajp && !worker->s->disablereuse)
                     || (fcgi && worker->s->disablereuse_set && !worker->s->disablereuse);
}

/* An id of its own, in the headers and in the environment, from which each handler
 * makes the request anew. */
static void
renew_id(edgespan_upstream_t *upstream)
{
    request_rec *r = upstream->r;
    const es_trace_t *trace = upstream->request->trace;

    es_trace_new_span_id(trace, upstream->span_id);
    if (r->main == NULL) {
        edgespan_show_upstream(r, trace, upstream->span_id);
    }
    if (edgespan_injects(r)) {
        edgespan_inject(r, trace, upstream->span_id);
    }
}

static void
start(edgespan_upstream_t *upstream, uint64_t now)
{
    if (upstream->tries++ != 0 && upstream->has_span) {
        renew_id(upstream);
    }
    upstream->trying = true;
    upstream->asked = false;
    upstream->complete_mono_ns = 0;
    upstream->status = 0;
    upstream->http_try = (es_http_try_t){.start_mono_ns = now};
}

void
edgespan_begin_try(edgespan_upstream_t *upstream, const proxy_worker *worker, const char *url,
                   const char *proxyhost, apr_port_t proxyport)
{
    es_str_t authority;

    start(upstream, es_mono_ns());
    set_url(upstream, url);
    set_connection(upstream, worker);
    upstream->port = worker->s->port;
    authority = upstream->host;
    if (proxyhost != NULL) {
        authority = es_cstr(apr_psprintf(upstream->r->pool,
                                         strchr(proxyhost, ':') != NULL ? "[%s]:%u" : "%s:%u",
                                         proxyhost, (unsigned) proxyport));
    }
    expect_peer(upstream, worker, authority);
}

void
edgespan_begin_again(edgespan_upstream_t *upstream)
{
    start(upstream, upstream->http_try.end_mono_ns);
}

void
edgespan_body_was_read(edgespan_upstream_t *upstream)
{
    uint64_t read = edgespan_initial(upstream->r)->clock.read_to;

    if (read > upstream->http_try.start_mono_ns) {
        upstream->http_try.start_mono_ns = read;
    }
}

void
edgespan_see_connected(edgespan_upstream_t *upstream)
{
    if (!upstream->trying || !upstream->hidden || upstream->asked) {
        return;
    }
    upstream->asked = true;
    edgespan_body_was_read(upstream);
    if (!upstream->kept) {
        upstream->http_try.connected_mono_ns = es_mono_ns();
    }
}

/* ----------------------------------------------------------------- end --- */

static bool
is_tls(const edgespan_upstream_t *upstream)
{
    return has_scheme(upstream, ES_STR("https")) || has_scheme(upstream, ES_STR("wss"));
}

static bool
was_connected(const edgespan_upstream_t *upstream)
{
    const es_http_try_t *try = &upstream->http_try;

    return upstream->asked
           || (try->connected_mono_ns != 0 && (!is_tls(upstream) || try->secured_mono_ns != 0));
}

/* An error page is to replace the answer, whose status is returned. mod_proxy says so
 * by a note, mod_proxy_uwsgi by nothing. */
static bool
is_overridden(const edgespan_upstream_t *upstream, int status)
{
    if (apr_table_get(upstream->r->notes, "proxy-error-override") != NULL) {
        return true;
    }
    return has_scheme(upstream, ES_STR("uwsgi")) && upstream->http_try.first_byte_mono_ns != 0
           && ap_is_HTTP_ERROR(status) && status != HTTP_BAD_GATEWAY;
}

/* The client has what the upstream answered, or wants none of it: what mod_proxy_scgi and
 * mod_proxy_uwsgi return is httpd's own answer to conditions of the request. */
static bool
is_condition(const edgespan_upstream_t *upstream, int status)
{
    return (status == HTTP_NOT_MODIFIED || status == HTTP_PRECONDITION_FAILED) && upstream->asked;
}

/* The client's request turned out to be none, most likely while its body was read. */
static bool
is_clients_fault(int status)
{
    return status == HTTP_BAD_REQUEST || status == HTTP_REQUEST_TIME_OUT
           || status == HTTP_REQUEST_ENTITY_TOO_LARGE;
}

/* mod_proxy_http and mod_proxy_fcgi read what they can of the body before they ask anybody. */
static bool
was_asked(const edgespan_upstream_t *upstream, int status)
{
    return !is_clients_fault(status) || upstream->asked || upstream->http_try.connected_mono_ns != 0
           || !(has_scheme(upstream, ES_STR("http")) || has_scheme(upstream, ES_STR("https"))
                || has_scheme(upstream, ES_STR("fcgi")));
}

/* That r->status and not a failure of its own tells the answer, mod_proxy says by OK or
 * DONE. */
static void
set_result(edgespan_upstream_t *upstream, int status)
{
    const edgespan_request_t *request = upstream->request;
    es_http_try_t *try = &upstream->http_try;
    request_rec *r = upstream->r;
    bool overridden = is_overridden(upstream, status);

    if (request->unanswered) {
        try->error_type = ES_ERROR_NO_RESPONSE;
    } else if (status == OK || status == DONE || status == AP_FILTER_ERROR || overridden
               || is_condition(upstream, status)) {
        try->status = request->tunnel_status;
        if (try->status == 0) {
            try->status = overridden && status > 0 ? (unsigned) status
                          : upstream->status != 0  ? upstream->status
                                                   : (unsigned) r->status;
        }
        if (request->truncated && !edgespan_client_left(r)) {
            try->error_type = ES_ERROR_TRUNCATED;
        }
    } else if (edgespan_client_left(r) || is_clients_fault(status)) {
        return; /* the client left, or as good as that, before there was an answer */
    } else if (status == HTTP_GATEWAY_TIME_OUT
               || apr_table_get(r->notes, "proxy_timedout") != NULL) {
        try->error_type = ES_ERROR_TIMEOUT;
        try->unconnected = try->connected_mono_ns != 0 && !was_connected(upstream);
    } else if (was_connected(upstream) || status == HTTP_BAD_GATEWAY) {
        try->error_type = ES_ERROR_NO_RESPONSE;
    } else if (status == HTTP_SERVICE_UNAVAILABLE || try->connected_mono_ns != 0) {
        try->error_type = ES_ERROR_CONNECTION_FAILED;
        try->unconnected = true;
    } else {
        try->error_type = ES_STR("_OTHER");
    }
}

/* When the connection became another protocol's: by a 101, or as soon as there was one
 * for a CONNECT. 0: it did not. */
static uint64_t
upgraded_at(const edgespan_upstream_t *upstream)
{
    const es_http_try_t *try = &upstream->http_try;

    if (try->status == HTTP_SWITCHING_PROTOCOLS) {
        return try->first_byte_mono_ns != 0 ? try->first_byte_mono_ns : try->end_mono_ns;
    }
    return upstream->r->method_number == M_CONNECT && try->status == HTTP_OK
               ? try->connected_mono_ns
               : 0;
}

static void
end_client_span(edgespan_upstream_t *upstream, uint64_t upgraded)
{
    const es_http_try_t *try = &upstream->http_try;
    request_rec *r = upstream->r;
    const es_http_event_t upgrade = {.name = ES_EVENT_UPGRADE, .mono_ns = upgraded};
    es_http_t http = {
        .kind = ES_KIND_CLIENT,
        .resource = edgespan_server_conf(r)->resource,
        .span_id = upstream->span_id,
        .parent_id = edgespan_parent_id(r),
        .start_mono_ns = try->start_mono_ns,
        .end_mono_ns = try->end_mono_ns,
        .method = es_cstr(r->method),
        .target = upstream->target,
        .scheme = upstream->scheme,
        .host = upstream->host,
        .server_port = upstream->port,
        .protocol_version = upstream->version,
        .peer_address = try->peer_address,
        .peer_port = try->peer_port,
        .status = try->status,
        .error_type = try->error_type,
        .reason = edgespan_client_left(r) ? ES_REASON_CLIENT_CLOSED : ES_STR_NONE,
        .request_body_size = -1,
        .response_body_size = -1,
        .resend_count = upstream->tries - 1,
        .redaction = edgespan_redaction(r),
        .events = &upgrade,
        .events_count = upgraded != 0,
        .tries = try,
        .tries_count = 1,
    };

    edgespan_set_rpc(r, r, &http);
    edgespan_end_span(r, &http);
}

void
edgespan_end_try(edgespan_upstream_t *upstream, int status)
{
    es_http_try_t *try = &upstream->http_try;
    uint64_t upgraded;

    upstream->trying = false;
    if (!was_asked(upstream, status)) {
        return;
    }
    try->end_mono_ns = upstream->complete_mono_ns != 0 ? upstream->complete_mono_ns : es_mono_ns();
    set_result(upstream, status);
    if (try->status == 0) {
        try->first_byte_mono_ns = 0;
    }
    es_timeline_try(edgespan_timeline(upstream->r), &upstream->http_try);
    upgraded = upgraded_at(upstream);
    if (upgraded != 0) {
        edgespan_initial(upstream->r)->upgraded_mono_ns = upgraded;
    }
    if (upstream->has_span) {
        end_client_span(upstream, upgraded);
    }
}
