
/*
 * What nginx knows of a response: what its cache had to do with it, how a call
 * of gRPC ended, whether the connection became another protocol's.
 */


#include "ngx_http_edgespan.h"


es_str_t
ngx_http_edgespan_cache_status(ngx_http_request_t *r)
{
#if (NGX_HTTP_CACHE)

    if (r->upstream != NULL && r->upstream->cache_status != 0) {
        return ngx_http_edgespan_str(
                        &ngx_http_cache_status[r->upstream->cache_status - 1]);
    }

#endif

    return ES_STR_NONE;
}


ngx_uint_t
ngx_http_edgespan_is_grpc(ngx_http_request_t *r)
{
    ngx_table_elt_t  *type;

    type = r->headers_in.content_type;

    return type != NULL && es_is_grpc(ngx_http_edgespan_str(&type->value));
}


ngx_uint_t
ngx_http_edgespan_find_headers(ngx_list_t *list, es_str_t name,
    es_str_t *values, ngx_uint_t n)
{
    ngx_uint_t        i, found;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *header;

    found = 0;

    /* HTTP/0.9 and a request that failed early have no list at all */

    if (list->last == NULL) {
        return 0;
    }

    for (part = &list->part; part; part = part->next) {
        header = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (header[i].hash == 0 || header[i].key.len != name.len
                || ngx_strncasecmp(header[i].key.data, (u_char *) name.data,
                                   name.len)
                   != 0)
            {
                continue;
            }

            if (found < n) {
                values[found] = ngx_http_edgespan_str(&header[i].value);
            }

            found++;
        }
    }

    return found;
}


/* in the header where there is no body ("Trailers-Only") */

es_str_t
ngx_http_edgespan_grpc_status(ngx_list_t *trailers, ngx_list_t *headers)
{
    es_str_t  name, status;

    name = ES_STR("grpc-status");
    status = ES_STR_NONE;

    if (ngx_http_edgespan_find_headers(trailers, name, &status, 1) == 0
        || status.len == 0)
    {
        (void) ngx_http_edgespan_find_headers(headers, name, &status, 1);
    }

    return status;
}


void
ngx_http_edgespan_set_grpc(ngx_http_request_t *r, es_http_t *http)
{
    http->grpc = ngx_http_edgespan_is_grpc(r);

    if (http->grpc) {
        http->grpc_status = ngx_http_edgespan_grpc_status(
                                                      &r->headers_out.trailers,
                                                      &r->headers_out.headers);
    }
}


void
ngx_http_edgespan_set_upgrade(ngx_http_edgespan_ctx_t *ctx, es_http_t *http,
    es_http_event_t *event)
{
    ngx_memzero(event, sizeof(es_http_event_t));

    event->name = ES_EVENT_UPGRADE;
    event->mono_ns = ctx->upgraded;

    http->events = event;
    http->events_count = 1;
}
