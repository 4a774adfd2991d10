
/*
 * Subrequests: auth_request, mirror, SSI, addition, slice, the background
 * update of the cache, whatever calls ngx_http_subrequest().
 */


#include "ngx_http_edgespan.h"


const uint8_t *
ngx_http_edgespan_parent_id(ngx_http_edgespan_ctx_t *ctx)
{
    for ( /* void */ ; ctx != NULL; ctx = ctx->parent) {
        if (ctx->span) {
            return ctx->span_id;
        }
    }

    return NULL;
}
