
/*
 * The headers of the context, put among those that the client sent: proxy,
 * grpc, fastcgi, uwsgi and scgi all send that list on.
 */


#include "ngx_http_edgespan.h"


/* the header that takes the place of one of ours, by the index of that */

typedef struct {
    ngx_table_elt_t        *header[ES_INJECT_MAX];
} ngx_http_edgespan_places_t;


static ngx_uint_t ngx_http_edgespan_find(ngx_http_request_t *r,
    es_trace_t *trace, es_header_t *headers, ngx_uint_t n,
    ngx_http_edgespan_places_t *places);
static ngx_int_t ngx_http_edgespan_copy_list(ngx_http_request_t *r,
    es_trace_t *trace, ngx_uint_t n);
static ngx_int_t ngx_http_edgespan_push(ngx_http_request_t *r,
    es_header_t *header);
static u_char *ngx_http_edgespan_search(u_char *p, u_char *last, u_char *what,
    size_t len);


/*
 * The leg under way, or else the next one: its span id is the parent of what
 * the upstream does.  With "otel_upstream_span off" that is the span's above.
 */

ngx_http_edgespan_leg_t *
ngx_http_edgespan_get_leg(ngx_http_request_t *r, ngx_http_edgespan_ctx_t *ctx)
{
    const uint8_t                  *parent_id;
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

    leg->span = lcf->upstream_span && !ctx->suppressed;
    leg->first_state = ctx->first_state;
    leg->created = es_mono_ns();

    if (leg->span) {
        es_trace_new_span_id(ctx->trace, leg->span_id);

    } else {
        parent_id = ngx_http_edgespan_parent_id(ctx);

        ngx_memcpy(leg->span_id,
                   parent_id ? parent_id : ctx->trace->span.span_id,
                   ES_SPAN_ID_LEN);
    }

    *slot = leg;
    ctx->leg = leg;

    return leg;
}


ngx_int_t
ngx_http_edgespan_inject(ngx_http_request_t *r, ngx_http_edgespan_ctx_t *ctx)
{
    ngx_uint_t                   i, n;
    es_header_t                  headers[ES_INJECT_MAX];
    ngx_http_edgespan_leg_t     *leg;
    ngx_http_edgespan_places_t   places;

    leg = ngx_http_edgespan_get_leg(r, ctx);
    if (leg == NULL) {
        return NGX_ERROR;
    }

    es_trace_seal(ctx->trace);

    n = es_trace_inject(ctx->trace, leg->span_id, headers);

    ngx_memzero(&places, sizeof(ngx_http_edgespan_places_t));

    /*
     * A subrequest has a shallow copy of its parent's list: "last" can point at
     * the parent's part, and the elements are shared, too.
     */

    if (r != r->main || r->headers_in.headers.last == NULL
        || ngx_http_edgespan_find(r, ctx->trace, headers, n, &places) != 0)
    {
        if (ngx_http_edgespan_copy_list(r, ctx->trace, n) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_memzero(&places, sizeof(ngx_http_edgespan_places_t));
    }

    for (i = 0; i < n; i++) {

        if (places.header[i] != NULL) {
            places.header[i]->value.data = (u_char *) headers[i].value.data;
            places.header[i]->value.len = headers[i].value.len;
            continue;
        }

        if (ngx_http_edgespan_push(r, &headers[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    ngx_memcpy(leg->header_id, leg->span_id, ES_SPAN_ID_LEN);
    leg->injected = 1;

    return NGX_OK;
}


/*
 * In a request that was made already: in the buffer of its header, which a
 * retry sends again, and never in a body, be it that of proxy_set_body.  Every
 * format that we inject has the id as 16 hex digits.
 */

ngx_uint_t
ngx_http_edgespan_rewrite(ngx_http_upstream_t *u, u_char *from, u_char *to)
{
    u_char      *p, *last, *end, old[2 * ES_SPAN_ID_LEN],
                 new[2 * ES_SPAN_ID_LEN];
    ngx_buf_t   *b;
    ngx_uint_t   n;

    if (u->request_bufs == NULL || !u->request_bufs->buf->temporary) {
        return 0;
    }

    b = u->request_bufs->buf;
    p = b->start;
    last = b->last;

    if (u->schema.len > 4 && ngx_strncmp(u->schema.data, "http", 4) == 0) {
        end = ngx_http_edgespan_search(p, last, (u_char *) CRLF CRLF, 4);

        if (end != NULL) {
            last = end;
        }
    }

    es_hex((char *) old, from, ES_SPAN_ID_LEN);
    es_hex((char *) new, to, ES_SPAN_ID_LEN);

    for (n = 0; /* void */ ; n++) {
        p = ngx_http_edgespan_search(p, last, old, sizeof(old));

        if (p == NULL) {
            return n;
        }

        p = ngx_cpymem(p, new, sizeof(new));
    }
}


static u_char *
ngx_http_edgespan_search(u_char *p, u_char *last, u_char *what, size_t len)
{
    while ((size_t) (last - p) >= len) {
        p = ngx_strlchr(p, last - len + 1, what[0]);

        if (p == NULL || ngx_memcmp(p, what, len) == 0) {
            return p;
        }

        p++;
    }

    return NULL;
}


/* Removes every header of a context where none of ours is sent. */

ngx_int_t
ngx_http_edgespan_strip(ngx_http_request_t *r)
{
    if (r->headers_in.headers.last == NULL
        || ngx_http_edgespan_find(r, NULL, NULL, 0, NULL) == 0)
    {
        return NGX_OK;
    }

    return ngx_http_edgespan_copy_list(r, NULL, 0);
}


/* Returns how many there are to be removed that none of ours can replace. */

static ngx_uint_t
ngx_http_edgespan_find(ngx_http_request_t *r, es_trace_t *trace,
    es_header_t *headers, ngx_uint_t n, ngx_http_edgespan_places_t *places)
{
    ngx_uint_t        i, k, stale;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *header;

    stale = 0;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        header = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (!es_trace_removes(trace,
                                  ngx_http_edgespan_str(&header[i].key)))
            {
                continue;
            }

            for (k = 0; k < n; k++) {
                if (header[i].key.len == headers[k].name.len
                    && ngx_strncasecmp(header[i].key.data,
                                       (u_char *) headers[k].name.data,
                                       headers[k].name.len)
                       == 0)
                {
                    break;
                }
            }

            if (k == n || places->header[k] != NULL) {
                stale++;
                continue;
            }

            places->header[k] = &header[i];
        }
    }

    return stale;
}


/*
 * A list of the request's own without what is to be removed, with room for n
 * more.  Elements are never moved within a list: r->headers_in.host and the
 * like point at them.
 */

static ngx_int_t
ngx_http_edgespan_copy_list(ngx_http_request_t *r, es_trace_t *trace,
    ngx_uint_t n)
{
    ngx_list_t        list;
    ngx_uint_t        i, size;
    ngx_list_part_t  *part, *first;
    ngx_table_elt_t  *header, *h;

    size = n + 1;
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
            if (es_trace_removes(trace,
                                 ngx_http_edgespan_str(&header[i].key)))
            {
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
