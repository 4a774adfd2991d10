
/*
 * The request's body on its way in and the response on its way out: when they
 * made us wait, whether the client got all of it, and what it is told of its
 * trace.
 */


#include "ngx_http_edgespan.h"


static ngx_int_t ngx_http_edgespan_header_filter(ngx_http_request_t *r);
static void ngx_http_edgespan_tell_client(ngx_http_request_t *r,
    es_trace_t *trace, es_response_header_t kind);
static void ngx_http_edgespan_clear_header(ngx_http_request_t *r,
    es_header_t *header, ngx_uint_t ours);
static ngx_int_t ngx_http_edgespan_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static void ngx_http_edgespan_sent(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);
static ngx_int_t ngx_http_edgespan_request_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;
static ngx_http_request_body_filter_pt   ngx_http_next_request_body_filter;


void
ngx_http_edgespan_add_filters(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_edgespan_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_edgespan_body_filter;

    ngx_http_next_request_body_filter = ngx_http_top_request_body_filter;
    ngx_http_top_request_body_filter = ngx_http_edgespan_request_body_filter;
}


static ngx_int_t
ngx_http_edgespan_header_filter(ngx_http_request_t *r)
{
    ngx_int_t                      rc;
    es_trace_t                    *trace;
    ngx_http_edgespan_ctx_t       *ctx;
    ngx_http_edgespan_loc_conf_t  *lcf;

    if (ngx_http_edgespan_provider == NULL) {
        return ngx_http_next_header_filter(r);
    }

    ctx = ngx_http_edgespan_get_ctx(r);
    if (ctx == NULL) {
        return ngx_http_next_header_filter(r);
    }

    if (r != r->main) {
        ngx_http_edgespan_enter_subrequest(r, ctx);

        rc = ngx_http_next_header_filter(r);

        ngx_http_edgespan_await_subrequest(r, ctx);

        return rc;
    }

    trace = ctx->trace;

    /* an error page, "return" in server{} */

    if (!trace->decided) {
        ngx_http_edgespan_decide(r, ctx);
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);

    if (lcf->response_header != ES_RESPONSE_NONE && trace->decided) {
        ngx_http_edgespan_tell_client(r, trace, lcf->response_header);
    }

    ctx->date = ngx_time();

    /* also of what is sampled: a limit may say at the end that it is not */

    if (trace->keeping != NULL || ctx->body_wanted != 0) {
        ctx->first_byte = es_mono_ns();
    }

    if (r->upstream != NULL && r->upstream->upgrade) {
        ctx->upgraded = es_mono_ns();
    }

    rc = ngx_http_next_header_filter(r);

    if (r->header_only) {
        ngx_http_edgespan_sent(r, ctx);
    }

    return rc;
}


static void
ngx_http_edgespan_tell_client(ngx_http_request_t *r, es_trace_t *trace,
    es_response_header_t kind)
{
    char             *text;
    es_header_t       header;
    ngx_table_elt_t  *h;

    text = ngx_pnalloc(r->pool, ES_RESPONSE_TEXT);
    if (text == NULL) {
        return;
    }

    es_trace_seal(trace);

    header = es_trace_response(trace, kind, text);

    /*
     * Server-Timing is a list, to which the upstream has its own to say.  Ours
     * is there already where a filter behind this one refused the response.
     */

    ngx_http_edgespan_clear_header(r, &header,
                                   kind == ES_RESPONSE_SERVER_TIMING);

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->hash = 1;
    h->key.data = (u_char *) header.name.data;
    h->key.len = header.name.len;
    h->value.data = (u_char *) header.value.data;
    h->value.len = header.value.len;
    h->lowcase_key = h->key.data;
}


/* of that name; "ours": and of that value */

static void
ngx_http_edgespan_clear_header(ngx_http_request_t *r, es_header_t *header,
    ngx_uint_t ours)
{
    es_str_t          name, value;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    name = header->name;
    value = header->value;

    for (part = &r->headers_out.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != name.len
                || ngx_strncasecmp(h[i].key.data, (u_char *) name.data,
                                   name.len)
                   != 0)
            {
                continue;
            }

            if (ours
                && (h[i].value.len != value.len
                    || ngx_memcmp(h[i].value.data, value.data, value.len) != 0))
            {
                continue;
            }

            h[i].hash = 0;
        }
    }
}


static ngx_int_t
ngx_http_edgespan_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_int_t                 rc;
    ngx_chain_t              *cl;
    ngx_http_edgespan_ctx_t  *ctx;

    if (ngx_http_edgespan_provider == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    ctx = ngx_http_edgespan_get_ctx(r->main);
    if (ctx == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    if (r == r->main) {
        for (cl = in; cl; cl = cl->next) {
            if (cl->buf->last_buf) {
                ctx->last_buf = 1;
                break;
            }
        }
    }

    rc = ngx_http_next_body_filter(r, in);

    /* what fails at once is not buffered */

    ctx->pending = (r->connection->buffered != 0 || r->connection->error);

    if (ctx->pending) {

        /* not with limit_rate, which is our own doing */

        if (ctx->blocked == 0 && !r->connection->write->delayed) {
            ctx->blocked = es_mono_ns();
        }

    } else {

        if (ctx->blocked != 0) {
            ctx->drained = es_mono_ns();
            ctx->waited += ctx->drained - ctx->blocked;
            ctx->blocked = 0;
        }

        /* the last buffer may have to wait for a subrequest's */

        if (ctx->last_byte == 0 && ctx->last_buf && !r->main->buffered
            && r->main->postponed == NULL)
        {
            ngx_http_edgespan_sent(r->main, ctx);
        }
    }

    return rc;
}


/*
 * The client has its response.  As a rule the request ends here, too, unless it
 * is held: by a background subrequest, by what is left of its own body, by a
 * client that is to close the connection.
 */

static void
ngx_http_edgespan_sent(ngx_http_request_t *r, ngx_http_edgespan_ctx_t *ctx)
{
    if (r->count > 1 || !r->keepalive || r->headers_in.content_length_n > 0
        || r->headers_in.chunked)
    {
        ctx->last_byte = es_mono_ns();
    }
}


/*
 * Called at once when the body is asked for, with what came with the header,
 * and then with what is read.
 */

static ngx_int_t
ngx_http_edgespan_request_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_chain_t              *cl;
    ngx_http_edgespan_ctx_t  *ctx;

    ctx = NULL;

    if (ngx_http_edgespan_provider != NULL) {
        ctx = ngx_http_edgespan_get_ctx(r);
    }

    if (ctx != NULL && ctx->body_read == 0) {

        for (cl = in; cl && !cl->buf->last_buf; cl = cl->next) { /* void */ }

        if (cl == NULL && ctx->body_wanted == 0) {
            ctx->body_wanted = es_mono_ns();

        } else if (cl != NULL) {
            ctx->body_read = es_mono_ns();
        }
    }

    return ngx_http_next_request_body_filter(r, in);
}
