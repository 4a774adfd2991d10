
/*
 * What the user wants to see in spans, and what nobody is to see: the
 * directives, and the attributes of a request that has ended.
 */


#include "ngx_http_edgespan.h"


static ngx_int_t ngx_http_edgespan_capture(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, ngx_http_edgespan_capture_t *capture,
    es_http_t *http, es_attribute_t *attr);
static ngx_int_t ngx_http_edgespan_own_header(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, ngx_http_edgespan_capture_t *capture,
    es_str_t *value);


char *
ngx_http_edgespan_span_attr(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_loc_conf_t *lcf = conf;

    es_str_t                        key, word;
    ngx_str_t                      *value;
    es_error_t                      error;
    ngx_uint_t                      i;
    es_attribute_type_t             type;
    ngx_http_complex_value_t       *cv;
    ngx_http_edgespan_attr_t       *attr;
    ngx_http_edgespan_main_conf_t  *mcf;

    value = cf->args->elts;
    key = ngx_http_edgespan_str(&value[1]);
    word = cf->args->nelts == 4 ? ngx_http_edgespan_str(&value[3])
                                : ES_STR_NONE;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_edgespan_module);

    if (!es_check_attribute_key(key, &error)
        || !es_attribute_type(mcf->config, key, word, &type, &error))
    {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    if (lcf->attrs == NULL) {
        lcf->attrs = ngx_array_create(cf->pool, 4,
                                      sizeof(ngx_http_edgespan_attr_t));
        if (lcf->attrs == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    cv = ngx_http_edgespan_compile(cf, &value[2]);
    if (cv == NULL) {
        return NGX_CONF_ERROR;
    }

    /* a span has each key once: the last one counts */

    attr = lcf->attrs->elts;

    for (i = 0; i < lcf->attrs->nelts; i++) {
        if (attr[i].key.len == value[1].len
            && ngx_strncmp(attr[i].key.data, value[1].data, value[1].len) == 0)
        {
            attr[i].value = *cv;
            attr[i].type = type;
            return NGX_CONF_OK;
        }
    }

    attr = ngx_array_push(lcf->attrs);
    if (attr == NULL) {
        return NGX_CONF_ERROR;
    }

    attr->key = value[1];
    attr->value = *cv;
    attr->type = type;

    return NGX_CONF_OK;
}


/* nginx keeps some headers of a response apart: its variables know where */

static ngx_int_t
ngx_http_edgespan_sent_variable(ngx_conf_t *cf, es_str_t header)
{
    size_t     i;
    u_char    *p;
    ngx_str_t  name;

    static ngx_str_t  prefix = ngx_string("sent_http_");

    name.len = prefix.len + header.len;
    name.data = ngx_pnalloc(cf->pool, name.len);
    if (name.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(name.data, prefix.data, prefix.len);

    for (i = 0; i < header.len; i++) {
        *p++ = header.data[i] == '-' ? '_' : header.data[i];
    }

    return ngx_http_get_variable_index(cf, &name);
}


char *
ngx_http_edgespan_span_header(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_loc_conf_t *lcf = conf;

    es_pool_t                     pool;
    ngx_str_t                    *value;
    es_error_t                    error;
    ngx_uint_t                    i, response;
    ngx_http_edgespan_capture_t  *capture;

    value = cf->args->elts;

    response = ngx_strcmp(value[1].data, "response") == 0;

    if (!response && ngx_strcmp(value[1].data, "request") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"%V\" directive, "
                           "it must be \"request\" or \"response\"",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (lcf->captures == NULL) {
        lcf->captures = ngx_array_create(cf->pool, 4,
                                         sizeof(ngx_http_edgespan_capture_t));
        if (lcf->captures == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    pool = ngx_http_edgespan_pool(cf->pool);

    for (i = 2; i < cf->args->nelts; i++) {

        capture = ngx_array_push(lcf->captures);
        if (capture == NULL) {
            return NGX_CONF_ERROR;
        }

        if (!es_capture_set(&capture->capture, response,
                            ngx_http_edgespan_str(&value[i]), &pool, &error))
        {
            return ngx_http_edgespan_refuse(cf, &error);
        }

        if (!response) {
            continue;
        }

        capture->index = ngx_http_edgespan_sent_variable(cf,
                                                       capture->capture.name);
        if (capture->index == NGX_ERROR) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


char *
ngx_http_edgespan_redact(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_loc_conf_t *lcf = conf;

    es_str_t    *words;
    unsigned     count;
    es_error_t   error;

    if (lcf->redaction.given) {
        return "is duplicate";
    }

    words = ngx_http_edgespan_words(cf, &count);
    if (words == NULL) {
        return NGX_CONF_ERROR;
    }

    if (!es_redaction_set(&lcf->redaction, words, count, &error)) {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    return NGX_CONF_OK;
}


char *
ngx_http_edgespan_hash_key(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_main_conf_t *mcf = conf;

    ngx_str_t   *value;
    es_error_t   error;

    if (mcf->hash_key) {
        return "is duplicate";
    }

    mcf->hash_key = 1;

    value = cf->args->elts;

    if (!es_config_directory(mcf->config,
                             ngx_http_edgespan_str(&cf->cycle->conf_prefix),
                             &error)
        || !es_config_hash_key(mcf->config, ngx_http_edgespan_str(&value[1]),
                               &error))
    {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    return NGX_CONF_OK;
}


/*
 * Those of otel_span_attr, of otel_span_header, of baggage: the first of a key
 * counts.
 */

ngx_int_t
ngx_http_edgespan_set_attrs(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, es_http_t *http)
{
    ngx_uint_t                     i, j, n, captures;
    es_attribute_t                *attrs;
    ngx_http_edgespan_attr_t      *attr;
    ngx_http_edgespan_capture_t   *capture;
    ngx_http_edgespan_loc_conf_t  *lcf;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_edgespan_module);

    n = lcf->attrs != NULL ? lcf->attrs->nelts : 0;
    captures = lcf->captures != NULL ? lcf->captures->nelts : 0;

    if (n + captures + lcf->baggage_attrs.count == 0) {
        return NGX_OK;
    }

    attrs = ngx_pcalloc(r->pool, (n + captures + lcf->baggage_attrs.count)
                                 * sizeof(es_attribute_t));
    if (attrs == NULL) {
        return NGX_ERROR;
    }

    attr = n != 0 ? lcf->attrs->elts : NULL;

    for (i = 0; i < n; i++) {
        attrs[i].key = ngx_http_edgespan_str(&attr[i].key);
        attrs[i].type = attr[i].type;

        if (ngx_http_edgespan_complex(r, &attr[i].value, &attrs[i].value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    capture = captures != 0 ? lcf->captures->elts : NULL;

    for (i = 0; i < captures; i++) {

        for (j = 0; j < n; j++) {
            if (attrs[j].key.len == capture[i].capture.key.len
                && ngx_memcmp(attrs[j].key.data, capture[i].capture.key.data,
                              attrs[j].key.len)
                   == 0)
            {
                break;
            }
        }

        if (j == n
            && ngx_http_edgespan_capture(r, ctx, &capture[i], http, &attrs[n])
               == NGX_OK)
        {
            n++;
        }
    }

    http->attributes = attrs;
    http->attributes_count = es_trace_baggage_attributes(ctx->trace,
                                                         &lcf->baggage_attrs,
                                                         attrs, n);

    return NGX_OK;
}


/* NGX_DECLINED: the message has no such header */

static ngx_int_t
ngx_http_edgespan_capture(ngx_http_request_t *r, ngx_http_edgespan_ctx_t *ctx,
    ngx_http_edgespan_capture_t *capture, es_http_t *http,
    es_attribute_t *attr)
{
    es_str_t     own, *values;
    ngx_list_t  *list;
    ngx_uint_t   n;

    own = ES_STR_NONE;

    if (capture->capture.response) {
        if (!r->header_sent) {
            return NGX_DECLINED;
        }

        list = &r->headers_out.headers;

    } else {
        list = &r->headers_in.headers;
    }

    n = ngx_http_edgespan_find_headers(list, capture->capture.name, NULL, 0);

    if (n == 0) {
        if (!capture->capture.response
            || ngx_http_edgespan_own_header(r, ctx, capture, &own) != NGX_OK)
        {
            return NGX_DECLINED;
        }

        n = 1;
    }

    values = ngx_palloc(r->pool, n * sizeof(es_str_t));
    if (values == NULL) {
        return NGX_ERROR;
    }

    if (own.data != NULL) {
        values[0] = own;

    } else {
        (void) ngx_http_edgespan_find_headers(list, capture->capture.name,
                                              values, n);
    }

    *attr = es_capture_attribute(&capture->capture, http->redaction, values, n);

    return NGX_OK;
}


/* a header of the response that is in no list: nginx makes it while it sends */

static ngx_int_t
ngx_http_edgespan_own_header(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx, ngx_http_edgespan_capture_t *capture,
    es_str_t *value)
{
    u_char                     *p;
    es_str_t                    name;
    ngx_http_core_loc_conf_t   *clcf;
    ngx_http_variable_value_t  *vv;

    name = capture->capture.name;

    if (name.len == 4 && ngx_memcmp(name.data, "date", 4) == 0) {
        p = ngx_pnalloc(r->pool, sizeof("Mon, 28 Sep 1970 06:00:00 GMT") - 1);
        if (p == NULL) {
            return NGX_ERROR;
        }

        *value = es_str(p, ngx_http_time(p, ctx->date) - p);
        return NGX_OK;
    }

    if (name.len == 6 && ngx_memcmp(name.data, "server", 6) == 0) {
        clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

        switch (clcf->server_tokens) {

        case NGX_HTTP_SERVER_TOKENS_ON:
            *value = ES_STR(NGINX_VER);
            break;

        case NGX_HTTP_SERVER_TOKENS_BUILD:
            *value = ES_STR(NGINX_VER_BUILD);
            break;

        default:
            *value = ES_STR("nginx");
        }

        return NGX_OK;
    }

    vv = ngx_http_get_flushed_variable(r, capture->index);

    if (vv == NULL || vv->not_found || vv->len == 0) {
        return NGX_DECLINED;
    }

    *value = es_str(vv->data, vv->len);

    return NGX_OK;
}
