
/*
 * The headers of the context, put among those that the client sent: proxy,
 * grpc, fastcgi, uwsgi and scgi all send that list on.
 */


#include "ngx_http_edgespan.h"


typedef struct {
    ngx_table_elt_t        *first;
    ngx_uint_t              count;
} ngx_http_edgespan_found_t;


static ngx_uint_t ngx_http_edgespan_find(ngx_http_request_t *r,
    es_header_t *headers, ngx_uint_t n, ngx_http_edgespan_found_t *found);
static ngx_int_t ngx_http_edgespan_copy_list(ngx_http_request_t *r,
    ngx_uint_t n);
static ngx_int_t ngx_http_edgespan_push(ngx_http_request_t *r,
    es_header_t *header);


/*
 * The leg under way, or else the next one: its span id is the parent of what
 * the upstream does.  With "otel_upstream_span off" that is the SERVER span's.
 */

ngx_http_edgespan_leg_t *
ngx_http_edgespan_get_leg(ngx_http_request_t *r, ngx_http_edgespan_ctx_t *ctx)
{
    ngx_http_edgespan_leg_t        *leg, **slot;
    ngx_http_edgespan_loc_conf_t   *lcf;

    if (ctx->leg != NULL) {
        return ctx->leg;
    }

    if (ctx->legs.elts == NULL
        && ngx_array_init(&ctx->legs, r->pool, 1,
                          sizeof(ngx_http_edgespan_leg_t *))
           != NGX_OK)
    {
        return NULL;
    }

    leg = ngx_pcalloc(r->pool, sizeof(ngx_http_edgespan_leg_t));
    if (leg == NULL) {
        return NULL;
    }

    slot = ngx_array_push(&ctx->legs);
    if (slot == NULL) {
        return NULL;
    }

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);

    leg->span = lcf->upstream_span;
    leg->first_state = ctx->first_state;
    leg->created = es_mono_ns();

    if (leg->span) {
        es_trace_new_span_id(ctx->trace, leg->span_id);

    } else {
        ngx_memcpy(leg->span_id, ctx->trace->span.span_id, ES_SPAN_ID_LEN);
    }

    *slot = leg;
    ctx->leg = leg;

    return leg;
}


ngx_int_t
ngx_http_edgespan_inject(ngx_http_request_t *r, ngx_http_edgespan_ctx_t *ctx)
{
    ngx_uint_t                  i, n, rebuild;
    es_header_t                 headers[ES_INJECT_MAX];
    ngx_http_edgespan_leg_t    *leg;
    ngx_http_edgespan_found_t   found[ES_INJECT_MAX];

    leg = ngx_http_edgespan_get_leg(r, ctx);
    if (leg == NULL) {
        return NGX_ERROR;
    }

    es_trace_seal(ctx->trace);

    n = es_trace_inject(ctx->trace, leg->span_id, leg->text, headers);

    ngx_memzero(found, sizeof(found));
    rebuild = ngx_http_edgespan_find(r, headers, n, found);

    /*
     * A subrequest has a shallow copy of its parent's list: "last" can point at
     * the parent's part, and the elements are shared, too.
     */

    if (rebuild || r != r->main || r->headers_in.headers.last == NULL) {
        if (ngx_http_edgespan_copy_list(r, n) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_memzero(found, sizeof(found));
    }

    for (i = 0; i < n; i++) {
        if (headers[i].value.len == 0) {
            continue;
        }

        if (found[i].count != 0) {
            found[i].first->value.data = (u_char *) headers[i].value.data;
            found[i].first->value.len = headers[i].value.len;
            continue;
        }

        if (ngx_http_edgespan_push(r, &headers[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* True if there is a header to be removed: duplicates, an invalid value. */

static ngx_uint_t
ngx_http_edgespan_find(ngx_http_request_t *r, es_header_t *headers,
    ngx_uint_t n, ngx_http_edgespan_found_t *found)
{
    ngx_uint_t        i, k, rebuild;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *header;

    if (r->headers_in.headers.last == NULL) {
        return 0;
    }

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        header = part->elts;

        for (i = 0; i < part->nelts; i++) {
            for (k = 0; k < n; k++) {

                if (header[i].key.len != headers[k].name.len
                    || ngx_strncasecmp(header[i].key.data,
                                       (u_char *) headers[k].name.data,
                                       headers[k].name.len)
                       != 0)
                {
                    continue;
                }

                if (found[k].count++ == 0) {
                    found[k].first = &header[i];
                }
            }
        }
    }

    rebuild = 0;

    for (k = 0; k < n; k++) {
        rebuild |= found[k].count > (headers[k].value.len != 0 ? 1U : 0U);
    }

    return rebuild;
}


/*
 * A list of the request's own without any header of the context.  Elements are
 * never moved within a list: r->headers_in.host and the like point at them.
 */

static ngx_int_t
ngx_http_edgespan_copy_list(ngx_http_request_t *r, ngx_uint_t n)
{
    ngx_list_t        list;
    ngx_uint_t        i, size;
    ngx_list_part_t  *part, *first;
    ngx_table_elt_t  *header, *h;

    size = n;
    first = r->headers_in.headers.last ? &r->headers_in.headers.part : NULL;

    for (part = first; part; part = part->next) {
        size += part->nelts;
    }

    if (ngx_list_init(&list, r->pool, size, sizeof(ngx_table_elt_t)) != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (part = first; part; part = part->next) {
        header = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (es_is_context_header(ngx_http_edgespan_str(&header[i].key))) {
                continue;
            }

            h = ngx_list_push(&list);
            if (h == NULL) {
                return NGX_ERROR;
            }

            *h = header[i];
        }
    }

    r->headers_in.headers = list;

    /* with a single part "last" points into the structure just copied */

    if (list.last == &list.part) {
        r->headers_in.headers.last = &r->headers_in.headers.part;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_edgespan_push(ngx_http_request_t *r, es_header_t *header)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_in.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));

    h->key.data = (u_char *) header->name.data;
    h->key.len = header->name.len;
    h->value.data = (u_char *) header->value.data;
    h->value.len = header->value.len;

    /* names are lowercase; proxy and grpc look them up by the hash */

    h->lowcase_key = h->key.data;
    h->hash = ngx_hash_key(h->key.data, h->key.len);

    return NGX_OK;
}
