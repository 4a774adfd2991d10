
/*
 * What a finished request says: nginx's view of it in the core's terms.
 */


#include "ngx_http_edgespan.h"


static void ngx_http_edgespan_set_request_line(ngx_http_request_t *r,
    es_http_t *http);
static void ngx_http_edgespan_set_host(ngx_http_request_t *r, es_http_t *http);
static void ngx_http_edgespan_set_peer(ngx_http_request_t *r, es_http_t *http);
static void ngx_http_edgespan_set_sizes(ngx_http_request_t *r,
    es_http_t *http);
static int64_t ngx_http_edgespan_request_body_size(ngx_http_request_t *r);
static void ngx_http_edgespan_set_outcome(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, es_http_t *http);
static es_str_t ngx_http_edgespan_limited(ngx_http_request_t *r);
static void ngx_http_edgespan_set_timeline(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, es_http_t *http, es_timeline_t *timeline);
static void ngx_http_edgespan_set_names(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, es_http_t *http);


void
ngx_http_edgespan_end_request(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx)
{
    uint64_t                        now;
    es_http_t                       http;
    es_timeline_t                   timeline;
    es_redaction_t                  redaction;
    es_http_event_t                 upgrade;
    ngx_http_edgespan_ctx_t        *sub;
    ngx_http_edgespan_loc_conf_t   *lcf;
    ngx_http_edgespan_main_conf_t  *mcf;

    now = es_mono_ns();

    ngx_memzero(&http, sizeof(es_http_t));

    http.kind = ES_KIND_SERVER;
    http.end_mono_ns = now;

    /* what nobody waits for prolongs the request, but not for its client */

    for (sub = ctx->next; sub; sub = sub->next) {
        if (sub->background && ctx->last_byte != 0) {
            http.end_mono_ns = ctx->last_byte;
            break;
        }
    }

    ngx_http_edgespan_set_outcome(r, ctx, &http);
    ngx_http_edgespan_set_grpc(r, &http);

    if (!es_trace_sampled(ctx->trace) && !es_trace_keep(ctx->trace, &http)) {
        return;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);

    http.redaction = &lcf->redaction;

    if (ctx->redaction != NULL && ctx->redaction != http.redaction) {
        redaction = lcf->redaction;
        es_redaction_join(&redaction, ctx->redaction);
        http.redaction = &redaction;
    }

    ngx_http_edgespan_set_names(r, ctx, &http);
    ngx_http_edgespan_set_request_line(r, &http);

#if (NGX_HTTP_SSL)
    http.scheme = r->connection->ssl ? ES_STR("https") : ES_STR("http");
#else
    http.scheme = ES_STR("http");
#endif

    ngx_http_edgespan_set_host(r, &http);

    if (r->headers_in.user_agent != NULL) {
        http.user_agent =
                        ngx_http_edgespan_str(&r->headers_in.user_agent->value);
    }

    http.client_address = ngx_http_edgespan_str(&r->connection->addr_text);

    ngx_http_edgespan_set_peer(r, &http);
    ngx_http_edgespan_set_sizes(r, &http);

    if (ctx->upgraded != 0) {
        ngx_http_edgespan_set_upgrade(ctx, &http, &upgrade);
    }

    ngx_http_edgespan_set_events(ctx, &http);

    if (ngx_http_edgespan_set_attrs(r, ctx, &http) != NGX_OK) {
        http.attributes_count = 0;
    }

    http.cache_status = ngx_http_edgespan_cache_status(r);

    timeline.count = 0;

    ngx_http_edgespan_set_timeline(r, ctx, &http, &timeline);
    http.timeline = &timeline;

    ngx_http_edgespan_end_subrequests(ctx, &http, now, &timeline);
    ngx_http_edgespan_end_upstreams(ctx, &http, &timeline);

    mcf = ngx_http_get_module_main_conf(r, ngx_http_edgespan_module);

    if (mcf->compat && !mcf->semconv) {
        ngx_http_edgespan_set_compat(r, &http);
    }

    es_trace_http(ctx->trace, &http);
}


/* What the client let us wait for. */

static void
ngx_http_edgespan_set_timeline(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, es_http_t *http, es_timeline_t *timeline)
{
    uint64_t  end, waited;

    es_timeline_add(timeline, ES_PHASE_UPLOAD, ctx->trace->start_mono_ns,
                    ctx->header_read);

    /* an answer may come before all of the body has */

    end = ctx->first_byte != 0 ? ctx->first_byte : http->end_mono_ns;

    es_timeline_add(timeline, ES_PHASE_UPLOAD, ctx->body_wanted,
                    ctx->body_read != 0 ? ctx->body_read : end);

    /* the rest of it is read away, or the client is waited for to close */

    if (r->lingering_time != 0) {
        es_timeline_add(timeline,
                        ctx->body_read != 0 ? ES_PHASE_DOWNLOAD
                                            : ES_PHASE_UPLOAD,
                        ctx->last_byte, http->end_mono_ns);
    }

    /* of many short waits only the sum matters: it counts at their end */

    end = ctx->drained;
    waited = ctx->waited;

    if (ctx->blocked != 0 && ctx->blocked < http->end_mono_ns) {
        end = http->end_mono_ns;
        waited += end - ctx->blocked;
    }

    es_timeline_add(timeline, ES_PHASE_DOWNLOAD, end - waited, end);
}


/*
 * The route is of the location before any redirect.  What otel_route says is
 * looked at only now: it may come from the upstream's response.
 */

static void
ngx_http_edgespan_set_names(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, es_http_t *http)
{
    ngx_http_edgespan_loc_conf_t  *lcf;

    if (ctx->route_value != NULL) {
        (void) ngx_http_edgespan_complex(r, ctx->route_value, &http->route);
    }

    if (http->route.len == 0) {
        http->route = ngx_http_edgespan_str(&ctx->route);
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);

    if (lcf->span_name != NULL) {
        (void) ngx_http_edgespan_complex(r, lcf->span_name, &http->name);
    }
}


/*
 * From the request line as the client sent it: an internal redirect changes the
 * method and the URI, and the absolute form names the host that counts.
 */

static void
ngx_http_edgespan_set_request_line(ngx_http_request_t *r, es_http_t *http)
{
    u_char  *p, *last, *space;

    http->method = ngx_http_edgespan_str(&r->method_name);
    http->target = ngx_http_edgespan_str(&r->unparsed_uri);

    p = r->request_line.data;
    last = p + r->request_line.len;
    space = ngx_strlchr(p, last, ' ');

    if (space != NULL) {
        http->method = es_str(p, space - p);

        p = space + 1;
        space = ngx_strlchr(p, last, ' ');

        http->target = es_str(p, (space ? space : last) - p);
    }

    switch (r->http_version) {

    case NGX_HTTP_VERSION_9:
        http->protocol_version = ES_STR("0.9");
        break;

    case NGX_HTTP_VERSION_10:
        http->protocol_version = ES_STR("1.0");
        break;

    case NGX_HTTP_VERSION_11:
        http->protocol_version = ES_STR("1.1");
        break;

    case NGX_HTTP_VERSION_20:
        http->protocol_version = ES_STR("2");
        break;

#ifdef NGX_HTTP_VERSION_30
    case NGX_HTTP_VERSION_30:
        http->protocol_version = ES_STR("3");
        break;
#endif
    }
}


/* nginx makes no Host of HTTP/3's :authority, as it does of HTTP/2's */

static void
ngx_http_edgespan_set_host(ngx_http_request_t *r, es_http_t *http)
{
    if (r->headers_in.host != NULL) {
        http->host = ngx_http_edgespan_str(&r->headers_in.host->value);
        return;
    }

#ifdef NGX_HTTP_VERSION_30

    if (r->http_version == NGX_HTTP_VERSION_30 && r->host_start != NULL) {
        http->host = es_str(r->host_start, r->host_end - r->host_start);
    }

#endif
}


/* the real peer: the realip module keeps it where it has replaced it */

static void
ngx_http_edgespan_set_peer(ngx_http_request_t *r, es_http_t *http)
{
    ngx_int_t                       port;
    ngx_http_variable_value_t      *addr, *text;
    ngx_http_edgespan_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_edgespan_module);

    http->peer_address = http->client_address;
    http->peer_port = ngx_inet_get_port(r->connection->sockaddr);

    /* without a context realip has replaced nothing; a redirect may hide it */

    if (mcf->realip_addr_index == NGX_ERROR
        || (r->ctx[mcf->realip_ctx_index] == NULL && !r->internal))
    {
        return;
    }

    addr = ngx_http_get_indexed_variable(r, mcf->realip_addr_index);

    if (addr == NULL || addr->not_found
        || (addr->len == http->client_address.len
            && ngx_memcmp(addr->data, http->client_address.data, addr->len)
               == 0))
    {
        return;
    }

    http->peer_address = es_str(addr->data, addr->len);
    http->peer_port = 0;

    text = ngx_http_get_indexed_variable(r, mcf->realip_port_index);

    if (text != NULL && !text->not_found) {
        port = ngx_atoi(text->data, text->len);
        http->peer_port = port > 0 ? port : 0;
    }
}


static void
ngx_http_edgespan_set_sizes(ngx_http_request_t *r, es_http_t *http)
{
    off_t  sent;

    http->request_body_size = ngx_http_edgespan_request_body_size(r);
    http->response_body_size = -1;

    if (r->header_sent) {
        sent = r->connection->sent - r->header_size;
        http->response_body_size = sent > 0 ? sent : 0;
    }
}


/*
 * The header says it best: content_length_n becomes what is left of a body that
 * is discarded.
 */

static int64_t
ngx_http_edgespan_request_body_size(ngx_http_request_t *r)
{
    ngx_table_elt_t  *header;

    header = r->headers_in.content_length;

    if (header != NULL) {
        return ngx_atoof(header->value.data, header->value.len);
    }

    return r->headers_in.content_length_n > 0 ? r->headers_in.content_length_n
                                              : -1;
}


/*
 * Status and how it ended.  499 and 444 were never sent: they are the reason
 * and no status.  A response that was cut short is an error although it said
 * 200, unless the client left.
 */

static void
ngx_http_edgespan_set_outcome(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, es_http_t *http)
{
    ngx_uint_t         status;
    ngx_connection_t  *c;

    c = r->connection;
    status = r->err_status ? r->err_status : r->headers_out.status;

    if (!r->header_sent) {
        http->status = 0;

        /* what came in place of another answer had its status before */

        switch (r->headers_out.status ? r->headers_out.status : status) {

        case NGX_HTTP_BAD_REQUEST:  /* closed within the header */
        case NGX_HTTP_CLIENT_CLOSED_REQUEST:
            http->reason = ES_REASON_CLIENT_CLOSED;
            break;

        case NGX_HTTP_CLOSE:
            http->reason = ES_REASON_SERVER_CLOSED;
            break;

        case NGX_HTTP_REQUEST_TIME_OUT:
            http->reason = ES_REASON_REQUEST_TIMEOUT;
            break;

        default:

            /* a QUIC connection ends its streams without any code */

            if (c->read->error) {
                http->reason = ES_REASON_CLIENT_CLOSED;
            }
        }

        return;
    }

    http->status = status;
    http->first_byte_mono_ns = ctx->first_byte;
    http->reason = ngx_http_edgespan_limited(r);

#ifdef NGX_HTTP_VERSION_30

    /* nginx resets the stream whose header it refuses, before it answers */

    if (r->http_version == NGX_HTTP_VERSION_30 && r->phase_handler == 0) {
        return;
    }

#endif

    /* a tunnel ends without a last buffer, too */

    if ((ctx->last_buf && !ctx->pending)
        || r->header_only
        || (r->upstream != NULL && r->upstream->upgrade))
    {
        return;
    }

    if (c->error || c->timedout || c->read->error || c->write->error
        || c->read->pending_eof)
    {
        http->reason = ES_REASON_CLIENT_CLOSED;

    } else if (r->upstream != NULL) {
        http->error_type = ES_ERROR_TRUNCATED;
    }
}


/*
 * nginx keeps the codes to the modules that set them: these are what
 * $limit_req_status and $limit_conn_status call REJECTED.
 */

static es_str_t
ngx_http_edgespan_limited(ngx_http_request_t *r)
{
#if (nginx_version >= 1017006)

    if (r->limit_req_status == 3) {
        return ES_STR("limit_req");
    }

    if (r->limit_conn_status == 2) {
        return ES_STR("limit_conn");
    }

#endif

    return ES_STR_NONE;
}
