
/*
 * The response on its way out: when its header left, whether all of it did, and
 * what the client is told of its trace.
 */


#include "ngx_http_edgespan.h"


static ngx_int_t ngx_http_edgespan_header_filter(ngx_http_request_t *r);
static void ngx_http_edgespan_tell_client(ngx_http_request_t *r,
    es_trace_t *trace, es_response_header_t kind);
static void ngx_http_edgespan_clear_header(ngx_http_request_t *r,
    es_header_t *header, ngx_uint_t ours);
static ngx_int_t ngx_http_edgespan_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


void
ngx_http_edgespan_add_filters(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_edgespan_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_edgespan_body_filter;
}


static ngx_int_t
ngx_http_edgespan_header_filter(ngx_http_request_t *r)
{
    es_trace_t                    *trace;
    ngx_http_edgespan_ctx_t       *ctx;
    ngx_http_edgespan_loc_conf_t  *lcf;

    if (ngx_http_edgespan_provider == NULL || r != r->main) {
        return ngx_http_next_header_filter(r);
    }

    ctx = ngx_http_edgespan_get_ctx(r);
    if (ctx == NULL) {
        return ngx_http_next_header_filter(r);
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

    /* also of what is sampled: a limit may say at the end that it is not */

    if (trace->keeping != NULL) {
        ctx->first_byte = es_mono_ns();
    }

    if (r->upstream != NULL && r->upstream->upgrade) {
        ctx->upgraded = es_mono_ns();
    }

    return ngx_http_next_header_filter(r);
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
    ngx_chain_t              *cl;
    ngx_http_edgespan_ctx_t  *ctx;

    for (cl = in; cl; cl = cl->next) {

        if (cl->buf->last_buf && r == r->main
            && ngx_http_edgespan_provider != NULL)
        {
            ctx = ngx_http_edgespan_get_ctx(r);

            if (ctx != NULL) {
                ctx->last_buf = 1;
            }

            break;
        }
    }

    return ngx_http_next_body_filter(r, in);
}
