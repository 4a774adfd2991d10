/* mod_proxy: when a request is tried at an upstream, and what shows of that.
 *
 *   pre_request          the try before, if any, had failed
 *   scheme_handler       a try begins, with an id of its own in the headers from which
 *                        the handlers of all schemes make what they send
 *   pre_connection       it has a new connection
 *   proxy_post_handshake which is secured
 *   create_req           the request is sent
 *   http_scheme          likewise of FastCGI and SCGI, whose connections no hook sees: the
 *                        environment is made that they send
 *   request filter       likewise of AJP: a body is asked for, be there one or not
 *   input filters        the first byte of the answer, and its status
 *   output filter        the answer is complete, or the upstream breaks off
 *   request_status       the last try ended
 *
 * A balancer that finds no worker to try makes no span. mod_proxy_http sends a request
 * again where its "100-continue" ping failed, mod_proxy_ajp likewise: that is one try,
 * of which the upstream saw nothing before. */

#include "edgespan_upstream.h"

#include "http_connection.h"

#include <dlfcn.h>

static ap_filter_rec_t *request_handle, *response_handle, *first_byte_handle, *tunnel_handle;

/* A handler runs on one thread from its beginning to its end, and the hooks of its
 * connections on the same. So this says whose connection it is, which they do not tell.
 * A subrequest in the midst of a response puts its own in front. */
static _Thread_local edgespan_upstream_t *current;

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
        const uint8_t *parent_id = edgespan_parent_id(r);

        upstream = request->upstream = apr_pcalloc(r->pool, sizeof(*upstream));
        upstream->r = r;
        upstream->request = request;
        upstream->has_span = edgespan_dir_conf(r)->upstream_span != 0;
        if (upstream->has_span) {
            es_trace_new_span_id(request->trace, upstream->span_id);
        } else {
            memcpy(upstream->span_id, parent_id != NULL ? parent_id : request->trace->span.span_id,
                   ES_SPAN_ID_LEN);
        }
    }
    return upstream;
}

const uint8_t *
edgespan_upstream_id(request_rec *r, edgespan_request_t *request)
{
    return upstream_of(r, request)->span_id;
}

/* --------------------------------------------------------------- tries --- */

/* NULL: nothing of this request is recorded. */
static edgespan_request_t *
recorded_request(const request_rec *r)
{
    edgespan_request_t *request = edgespan_process.provider != NULL ? edgespan_request_of(r) : NULL;

    return request != NULL && es_trace_recording(request->trace) ? request : NULL;
}

/* NULL: none that goes on. Tracing may have stopped since it began. */
static edgespan_upstream_t *
trying(const request_rec *r)
{
    const edgespan_request_t *request = edgespan_request_of(r);

    return request != NULL && request->upstream != NULL && request->upstream->trying
               ? request->upstream
               : NULL;
}

static void
end_try(edgespan_upstream_t *upstream, int status)
{
    current = upstream->around;
    edgespan_end_try(upstream, status);
}

static int
proxy_pre_request(proxy_worker **worker, proxy_balancer **balancer, request_rec *r,
                  proxy_server_conf *conf, char **url)
{
    edgespan_upstream_t *upstream = trying(r);

    (void) worker;
    (void) balancer;
    (void) conf;
    (void) url;
    if (upstream != NULL) {
        end_try(upstream, HTTP_SERVICE_UNAVAILABLE);
    }
    return DECLINED;
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
        upstream->filtered = true;
        ap_add_output_filter_handle(response_handle, upstream, r, r->connection);
        if (strncasecmp(url, "ajp:", 4) == 0) {
            ap_add_input_filter_handle(request_handle, upstream, r, r->connection);
        }
    }
    if (upstream->trying) {
        end_try(upstream, HTTP_SERVICE_UNAVAILABLE); /* at a ProxyRemote */
    }
    edgespan_begin_try(upstream, worker, url, proxyhost, proxyport);
    upstream->around = current;
    current = upstream;
    return DECLINED;
}

static int
proxy_request_status(int *status, request_rec *r)
{
    edgespan_upstream_t *upstream = trying(r);

    if (upstream != NULL) {
        if (*status == AP_FILTER_ERROR) {
            upstream->request->truncated = 1; /* mod_proxy_fcgi says so by this */
        }
        end_try(upstream, *status);
    }
    return DECLINED;
}

/* mod_proxy_fcgi shows an error page from within its handler, which may ask others. */
void
edgespan_upstream_redirected(const request_rec *r)
{
    edgespan_upstream_t *upstream = trying(r);

    if (upstream != NULL && upstream->complete_mono_ns == 0) {
        upstream->complete_mono_ns = es_mono_ns();
    }
}

/* --------------------------------------------------------- connections --- */

static void
see_first_byte(edgespan_upstream_t *upstream)
{
    if (upstream->trying && upstream->http_try.first_byte_mono_ns == 0) {
        upstream->http_try.first_byte_mono_ns = es_mono_ns();
    }
}

/* A second connection of one try: mod_proxy_http2 asks again, with headers that it makes
 * anew. It found the first one closed. */
static int
pre_connection(conn_rec *c, void *socket)
{
    edgespan_upstream_t *upstream = current;

    (void) socket;
    if (upstream == NULL || c->master != NULL) {
        return DECLINED;
    }
    if (upstream->http_try.connected_mono_ns != 0 && upstream->version.len != 0) {
        edgespan_end_try(upstream, HTTP_BAD_GATEWAY);
        edgespan_begin_again(upstream);
    }
    edgespan_body_was_read(upstream);
    upstream->http_try.connected_mono_ns = es_mono_ns();
    upstream->http_try.secured_mono_ns = 0;
    edgespan_set_peer(upstream, c);
    if (strncasecmp(upstream->scheme.data != NULL ? upstream->scheme.data : "", "ws", 2) == 0) {
        ap_add_input_filter_handle(tunnel_handle, NULL, NULL, c);
    }
    return DECLINED;
}

/* mod_ssl's, without its header, which asks for OpenSSL's. */
typedef int ssl_HOOK_proxy_post_handshake_t(conn_rec *c, void *ssl);

static int
proxy_post_handshake(conn_rec *c, void *ssl)
{
    (void) c;
    (void) ssl;
    if (current != NULL) {
        current->http_try.secured_mono_ns = es_mono_ns();
    }
    return DECLINED;
}

/* Whoever asks for the scheme of `r` while its handler runs, makes an environment, which
 * mod_proxy_fcgi and mod_proxy_scgi do as soon as they are connected. */
static const char *
http_scheme(const request_rec *r)
{
    if (current != NULL && current->r == r) {
        edgespan_see_connected(current);
    }
    return NULL;
}

/* What mod_proxy_http reads of a body before it asks. */
#define READ_AHEAD 16384

static bool
is_read_ahead(const request_rec *r)
{
    const char *length = apr_table_get(r->headers_in, "Content-Length");

    return length != NULL && apr_atoi64(length) < READ_AHEAD;
}

/* mod_proxy_http and mod_proxy_uwsgi sent the request and are about to read the response
 * from `backend`. */
static int
proxy_create_req(request_rec *r, request_rec *backend)
{
    edgespan_upstream_t *upstream = trying(r);

    if (upstream != NULL) {
        upstream->asked = true;
        upstream->http_try.reused = upstream->http_try.connected_mono_ns == 0;
        if (upstream->http_try.reused && is_read_ahead(r)) {
            edgespan_body_was_read(upstream);
        }
        edgespan_set_peer(upstream, backend->connection);
        ap_add_input_filter_handle(first_byte_handle, upstream, backend, backend->connection);
    }
    return OK;
}

/* ------------------------------------------------------------- filters --- */

/* mod_proxy_ajp reads a body when it is connected and has sent the header. */
static apr_status_t
request_filter(ap_filter_t *filter, apr_bucket_brigade *brigade, ap_input_mode_t mode,
               apr_read_type_e block, apr_off_t bytes)
{
    edgespan_see_connected(filter->ctx);
    return ap_get_brigade(filter->next, brigade, mode, block, bytes);
}

/* Of a line of status; 0: it is none. */
static unsigned
status_of_line(apr_bucket_brigade *brigade)
{
    char line[] = "HTTP/1.1 101";
    apr_size_t len = sizeof(line) - 1;

    if (apr_brigade_flatten(brigade, line, &len) != APR_SUCCESS || len != sizeof(line) - 1
        || memcmp(line, "HTTP/", 5) != 0 || line[8] != ' ') {
        return 0;
    }
    return (unsigned) atoi(line + 9);
}

/* What mod_proxy_http makes of it need not be the same: an error page keeps the status
 * of the error. */
static apr_status_t
first_byte_filter(ap_filter_t *filter, apr_bucket_brigade *brigade, ap_input_mode_t mode,
                  apr_read_type_e block, apr_off_t bytes)
{
    apr_status_t status = ap_get_brigade(filter->next, brigade, mode, block, bytes);
    edgespan_upstream_t *upstream = filter->ctx;

    if (status == APR_SUCCESS && !APR_BRIGADE_EMPTY(brigade)
        && !APR_BUCKET_IS_EOS(APR_BRIGADE_FIRST(brigade))) {
        see_first_byte(upstream);
        upstream->status = status_of_line(brigade);
        if (upstream->status >= HTTP_OK || upstream->status == HTTP_SWITCHING_PROTOCOLS) {
            ap_remove_input_filter(filter);
        }
    }
    return status;
}

/* mod_proxy_wstunnel passes on what the upstream sends without a look at it. */
static apr_status_t
tunnel_filter(ap_filter_t *filter, apr_bucket_brigade *brigade, ap_input_mode_t mode,
              apr_read_type_e block, apr_off_t bytes)
{
    apr_status_t status = ap_get_brigade(filter->next, brigade, mode, block, bytes);
    edgespan_upstream_t *upstream = current;

    if (status != APR_SUCCESS || APR_BRIGADE_EMPTY(brigade)) {
        return status;
    }
    ap_remove_input_filter(filter);
    if (upstream != NULL && !upstream->asked) {
        see_first_byte(upstream);
        upstream->request->tunnel_status = status_of_line(brigade);
    }
    return status;
}

/* mod_proxy sends a "502" after what it has of a response that breaks off. With an
 * end-of-connection it closes the client's connection instead of an answer. */
static apr_status_t
response_filter(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    edgespan_upstream_t *upstream = filter->ctx;
    apr_bucket *bucket;

    if (upstream->status == 0) {
        upstream->status = (unsigned) filter->r->status;
    }
    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != APR_BRIGADE_SENTINEL(brigade);
         bucket = APR_BUCKET_NEXT(bucket)) {
        if (AP_BUCKET_IS_ERROR(bucket)
            && ((ap_bucket_error *) bucket->data)->status == HTTP_BAD_GATEWAY) {
            upstream->request->truncated = 1;
        } else if (AP_BUCKET_IS_EOC(bucket)) {
            upstream->request->unanswered = 1;
        } else if (APR_BUCKET_IS_EOS(bucket)) {
            upstream->complete_mono_ns = es_mono_ns();
            edgespan_see_trailers(upstream->r, upstream->request);
        }
    }
    see_first_byte(upstream);
    return ap_pass_brigade(filter->next, brigade);
}

/* Those of an upstream's connection are next to it, behind TLS. */
void
edgespan_proxy_filters(void)
{
    request_handle = ap_register_input_filter("EDGESPAN_UPSTREAM_REQUEST", request_filter, NULL,
                                              AP_FTYPE_CONTENT_SET);
    response_handle =
        ap_register_output_filter("EDGESPAN_UPSTREAM", response_filter, NULL, AP_FTYPE_RESOURCE);
    first_byte_handle = ap_register_input_filter("EDGESPAN_UPSTREAM_FIRST_BYTE", first_byte_filter,
                                                 NULL, AP_FTYPE_TRANSCODE);
    tunnel_handle = ap_register_input_filter("EDGESPAN_UPSTREAM_TUNNEL", tunnel_filter, NULL,
                                             AP_FTYPE_CONNECTION);
}

/* Two hooks of mod_proxy are no optional ones: their registering functions are looked for
 * when all modules are loaded. httpd sorts the hooks once more after this. */
void
edgespan_proxy_hooks(void)
{
    __typeof__(proxy_hook_scheme_handler) *hook_scheme_handler;
    __typeof__(proxy_hook_pre_request) *hook_pre_request;

    *(void **) &hook_scheme_handler = dlsym(RTLD_DEFAULT, "proxy_hook_scheme_handler");
    *(void **) &hook_pre_request = dlsym(RTLD_DEFAULT, "proxy_hook_pre_request");
    if (hook_scheme_handler == NULL || hook_pre_request == NULL) {
        return;
    }
    hook_pre_request(proxy_pre_request, NULL, NULL, APR_HOOK_REALLY_FIRST);
    hook_scheme_handler(proxy_scheme_handler, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_pre_connection(pre_connection, NULL, NULL, APR_HOOK_LAST);
    APR_OPTIONAL_HOOK(ssl, proxy_post_handshake, proxy_post_handshake, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(proxy, create_req, proxy_create_req, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_http_scheme(http_scheme, NULL, NULL, APR_HOOK_REALLY_FIRST);

    /* Before mod_proxy_scgi, which goes elsewhere from there (X-Sendfile). */
    APR_OPTIONAL_HOOK(proxy, request_status, proxy_request_status, NULL, NULL,
                      APR_HOOK_REALLY_FIRST);
}
