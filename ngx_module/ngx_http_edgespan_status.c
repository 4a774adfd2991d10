
/*
 * otel_status: what tracing did so far.
 *
 * It answers only who is on this machine, unless an access rule lets others in.
 * Which rules there are is not asked (a lone "deny" of some crawler in http{}
 * opens nothing), but whether one of nginx's access handlers says yes to this
 * very request.
 */


#include "ngx_http_edgespan.h"


static ngx_int_t ngx_http_edgespan_status_handler(ngx_http_request_t *r);


/* in the order in which the access phase runs them */

static struct {
    const char           *name;
    ngx_http_handler_pt   handler;     /* NULL: this nginx has it not */
    ngx_uint_t            ctx_index;

    /* without a context it would ask its subrequest */
    ngx_uint_t            needs_ctx;

} ngx_http_edgespan_access[] = {
    { "ngx_http_access_module", NULL, 0, 0 },
    { "ngx_http_auth_basic_module", NULL, 0, 0 },
    { "ngx_http_auth_request_module", NULL, 0, 1 },
    { NULL, NULL, 0, 0 }
};


char *
ngx_http_edgespan_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_loc_conf_t *lcf = conf;

    ngx_str_t                      *value;
    es_error_t                      error;
    es_status_format_t              format;
    ngx_http_core_loc_conf_t       *clcf;
    ngx_http_edgespan_main_conf_t  *mcf;

    if (lcf->status) {
        return "is duplicate";
    }

    if (cf->args->nelts == 2) {
        value = cf->args->elts;

        if (!es_parse_status_format(ngx_http_edgespan_str(&value[1]), &format,
                                    &error))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", error.text);
            return NGX_CONF_ERROR;
        }

        lcf->status_format = format;
    }

    lcf->status = 1;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_edgespan_status_handler;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_edgespan_module);
    mcf->used = 1;
    mcf->status = 1;

    return NGX_CONF_OK;
}


/*
 * The handlers are private to their modules, which only give them to the access
 * phase: they are made to give them once more, and that is taken back.
 */

ngx_int_t
ngx_http_edgespan_init_status(ngx_conf_t *cf)
{
    ngx_uint_t                      i, n, count;
    ngx_array_t                    *handlers;
    ngx_module_t                  **modules;
    ngx_http_module_t              *module;
    ngx_http_handler_pt            *h;
    ngx_http_core_main_conf_t      *cmcf;
    ngx_http_edgespan_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_edgespan_module);

    if (!mcf->status) {
        return NGX_OK;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    handlers = &cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers;
    modules = cf->cycle->modules;

    for (n = 0; ngx_http_edgespan_access[n].name; n++) {

        ngx_http_edgespan_access[n].handler = NULL;

        for (i = 0; modules[i]; i++) {

            if (ngx_strcmp(modules[i]->name, ngx_http_edgespan_access[n].name)
                != 0)
            {
                continue;
            }

            module = modules[i]->ctx;
            count = handlers->nelts;

            if (module->postconfiguration(cf) != NGX_OK) {
                return NGX_ERROR;
            }

            if (handlers->nelts == count + 1) {
                h = handlers->elts;
                ngx_http_edgespan_access[n].handler = h[count];
                ngx_http_edgespan_access[n].ctx_index = modules[i]->ctx_index;
            }

            handlers->nelts = count;
        }
    }

    return NGX_OK;
}


/*
 * The access phase has let this request pass.  Did a rule say so?  The handlers
 * are asked again, as the phase does it; they only look.
 */

static ngx_uint_t
ngx_http_edgespan_access_granted(ngx_http_request_t *r)
{
    ngx_uint_t            i;
    ngx_table_elt_t      *h;
    ngx_http_handler_pt   handler;

    /* the phase does not check subrequests */

    if (r != r->main) {
        return 0;
    }

    for (i = 0; ngx_http_edgespan_access[i].name; i++) {

        handler = ngx_http_edgespan_access[i].handler;

        if (handler == NULL
            || (ngx_http_edgespan_access[i].needs_ctx
                && r->ctx[ngx_http_edgespan_access[i].ctx_index] == NULL))
        {
            continue;
        }

        if (handler(r) == NGX_OK) {

            /* "satisfy any": another one may have asked for a password */

            h = r->headers_out.www_authenticate;

            if (h != NULL) {
                h->hash = 0;
            }

            return 1;
        }
    }

    return 0;
}


/* realip keeps the real peer for itself, and says only its text */

static ngx_uint_t
ngx_http_edgespan_is_local_realip(ngx_http_request_t *r)
{
    ngx_addr_t                      addr;
    ngx_http_variable_value_t      *v;
    ngx_http_edgespan_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_edgespan_module);

    if (mcf->realip_addr_index == NGX_ERROR) {
        return 1;
    }

    v = ngx_http_get_indexed_variable(r, mcf->realip_addr_index);

    if (v == NULL || v->not_found) {
        return 0;
    }

    if (v->len >= 5 && ngx_strncmp(v->data, "unix:", 5) == 0) {
        return 1;
    }

    return ngx_parse_addr(r->pool, &addr, v->data, v->len) == NGX_OK
           && es_is_local_peer(addr.sockaddr);
}


/* A peer on this machine that asks for itself, and not for another. */

static ngx_uint_t
ngx_http_edgespan_is_local(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *header;

    if (!es_is_local_peer(r->connection->sockaddr)
        || r->connection->proxy_protocol != NULL
        || !ngx_http_edgespan_is_local_realip(r))
    {
        return 0;
    }

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        header = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (es_is_forwarding_header(ngx_http_edgespan_str(&header[i].key)))
            {
                return 0;
            }
        }
    }

    return 1;
}


static es_status_format_t
ngx_http_edgespan_status_format(ngx_http_request_t *r)
{
    es_str_t                       query;
    ngx_uint_t                     i;
    ngx_list_part_t               *part;
    ngx_table_elt_t               *header;
    es_status_format_t             format;
    ngx_http_edgespan_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);

    if (lcf->status_format != NGX_CONF_UNSET_UINT) {
        return lcf->status_format;
    }

    query = ngx_http_edgespan_str(&r->args);
    format = es_status_choose(query, ES_STR_NONE);

    /*
     * nginx knows "Accept" only where it was built with the image filter.
     * Several of them are one list: any may name JSON.
     */

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        header = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (format != ES_STATUS_JSON
                && header[i].key.len == 6
                && ngx_strncasecmp(header[i].key.data, (u_char *) "Accept", 6)
                   == 0)
            {
                format = es_status_choose(query,
                                      ngx_http_edgespan_str(&header[i].value));
            }
        }
    }

    return format;
}


static ngx_int_t
ngx_http_edgespan_status_handler(ngx_http_request_t *r)
{
    char                           *text;
    size_t                          len;
    ngx_int_t                       rc;
    ngx_buf_t                      *b;
    ngx_chain_t                     out;
    ngx_table_elt_t                *h;
    es_status_format_t              format;
    ngx_http_edgespan_main_conf_t  *mcf;

    if (!ngx_http_edgespan_is_local(r) && !ngx_http_edgespan_access_granted(r))
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "edgespan: \"otel_status\" is only for this machine, "
                      "unless \"allow\" or \"auth_...\" let others in");
        return NGX_HTTP_FORBIDDEN;
    }

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);

    if (rc != NGX_OK) {
        return rc;
    }

    /*
     * Not the configuration of the request: with "master_process off" a reload
     * frees its zones, and its connections live on.
     */

    mcf = ngx_http_cycle_get_module_main_conf(ngx_cycle,
                                              ngx_http_edgespan_module);

    if (mcf == NULL || mcf->generation == NULL) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "edgespan: \"otel_status\" has nothing to show: "
                      "tracing did not begin");
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    format = ngx_http_edgespan_status_format(r);

    text = es_status(mcf->generation, format, &len);
    if (text == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    b = ngx_create_temp_buf(r->pool, len);
    if (b != NULL) {
        b->last = ngx_cpymem(b->last, text, len);
    }

    free(text);

    h = ngx_list_push(&r->headers_out.headers);

    if (b == NULL || h == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));
    h->hash = 1;
    ngx_str_set(&h->key, "Cache-Control");
    ngx_str_set(&h->value, "no-store");

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = len;
    r->headers_out.content_type.data = (u_char *)
                                       es_status_content_type(format);
    r->headers_out.content_type.len =
                                 ngx_strlen(r->headers_out.content_type.data);
    r->headers_out.content_type_len = r->headers_out.content_type.len;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b->last_buf = (r == r->main);
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}
