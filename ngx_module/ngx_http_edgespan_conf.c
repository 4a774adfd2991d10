
/*
 * The directives' handlers.  Values that httpd has, too, are checked by the
 * core: both servers refuse them in the same words.
 */


#include "ngx_http_edgespan.h"


char *
ngx_http_edgespan_refuse(ngx_conf_t *cf, es_error_t *error)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", error->text);
    return NGX_CONF_ERROR;
}


es_str_t *
ngx_http_edgespan_words(ngx_conf_t *cf, unsigned *count)
{
    es_str_t    *words;
    ngx_str_t   *args;
    ngx_uint_t   i;

    args = cf->args->elts;
    *count = cf->args->nelts - 1;

    words = ngx_palloc(cf->pool, *count * sizeof(es_str_t));
    if (words == NULL) {
        return NULL;
    }

    for (i = 0; i < *count; i++) {
        words[i] = ngx_http_edgespan_str(&args[i + 1]);
    }

    return words;
}


/*
 * What an exporter{} block holds: "name value;", and what takes a second value:
 * "header name value;", "header_file name path;", "spool path max=size;".
 */

static char *
ngx_http_edgespan_exporter_option(ngx_conf_t *cf, ngx_command_t *dummy,
    void *conf)
{
    es_exporter_config_t  *exporter = conf;

    es_str_t     name, value, more;
    ngx_str_t   *args;
    ngx_uint_t   header, file, spool, ok;
    es_error_t   error;

    args = cf->args->elts;

    header = ngx_strcmp(args[0].data, "header") == 0;
    file = ngx_strcmp(args[0].data, "header_file") == 0;
    spool = ngx_strcmp(args[0].data, "spool") == 0;

    if (cf->args->nelts != (ngx_uint_t) (header || file ? 3 : 2)
        && !(spool && cf->args->nelts == 3))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid number of parameters of \"%V\": "
                           "it takes %s", &args[0],
                           header || file ? "2" : spool ? "1 or 2" : "1");
        return NGX_CONF_ERROR;
    }

    name = ngx_http_edgespan_str(&args[0]);
    value = ngx_http_edgespan_str(&args[1]);
    more = ES_STR_NONE;

    if (cf->args->nelts == 3) {
        more = ngx_http_edgespan_str(&args[2]);
    }

    if (header) {
        ok = es_exporter_header(exporter, value, more, &error);

    } else if (file) {
        ok = es_exporter_header_file(exporter, value, more, &error);

    } else {
        ok = es_exporter_option(exporter, name, value, &error);
    }

    if (ok && spool && cf->args->nelts == 3) {

        if (ngx_strncmp(args[2].data, "max=", 4) != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of \"spool\": "
                               "it takes a directory and \"max=\" with a size",
                               &args[2]);
            return NGX_CONF_ERROR;
        }

        ok = es_exporter_option(exporter, ES_STR("spool_max"),
                                es_str(args[2].data + 4, args[2].len - 4),
                                &error);
    }

    return ok ? NGX_CONF_OK : ngx_http_edgespan_refuse(cf, &error);
}


char *
ngx_http_edgespan_exporter(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_main_conf_t *mcf = conf;

    char                  *rv;
    ngx_conf_t             save;
    es_error_t             error;
    es_exporter_config_t  *exporter;

    if (!es_config_directory(mcf->config,
                             ngx_http_edgespan_str(&cf->cycle->conf_prefix),
                             &error)
        || !es_config_exporter(mcf->config, &exporter, &error))
    {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    save = *cf;
    cf->handler = ngx_http_edgespan_exporter_option;
    cf->handler_conf = (void *) exporter;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (!es_exporter_finish(exporter, &error)) {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    return NGX_CONF_OK;
}


char *
ngx_http_edgespan_service_name(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_main_conf_t *mcf = conf;

    ngx_str_t   *value;
    es_error_t   error;

    if (mcf->service_name.data != NULL) {
        return "is duplicate";
    }

    value = cf->args->elts;
    mcf->service_name = value[1];

    if (!es_config_service_name(mcf->config, ngx_http_edgespan_str(&value[1]),
                                &error))
    {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    return NGX_CONF_OK;
}


char *
ngx_http_edgespan_resource_attr(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_edgespan_main_conf_t *mcf = conf;

    ngx_str_t   *value;
    es_error_t   error;

    value = cf->args->elts;

    if (!es_config_resource_attribute(mcf->config,
                                      ngx_http_edgespan_str(&value[1]),
                                      ngx_http_edgespan_str(&value[2]),
                                      &error))
    {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    return NGX_CONF_OK;
}


ngx_http_complex_value_t *
ngx_http_edgespan_compile(ngx_conf_t *cf, ngx_str_t *value)
{
    ngx_http_complex_value_t          *cv;
    ngx_http_compile_complex_value_t   ccv;

    cv = ngx_palloc(cf->pool, sizeof(ngx_http_complex_value_t));
    if (cv == NULL) {
        return NULL;
    }

    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = value;
    ccv.complex_value = cv;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NULL;
    }

    return cv;
}


char *
ngx_http_edgespan_trace(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_loc_conf_t *lcf = conf;

    ngx_str_t                      *value;
    ngx_http_edgespan_main_conf_t  *mcf;

    if (lcf->trace != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcasecmp(value[1].data, (u_char *) "off") == 0
        || ngx_strcmp(value[1].data, "0") == 0)
    {
        lcf->trace = NULL;
        return NGX_CONF_OK;
    }

    if (ngx_strcasecmp(value[1].data, (u_char *) "on") != 0
        && ngx_strcmp(value[1].data, "1") != 0
        && ngx_http_script_variables_count(&value[1]) == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"%V\" directive, "
                           "it must be \"on\", \"off\" or a variable",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    lcf->trace = ngx_http_edgespan_compile(cf, &value[1]);
    if (lcf->trace == NULL) {
        return NGX_CONF_ERROR;
    }

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_edgespan_module);
    mcf->used = 1;
    mcf->traced = 1;

    return NGX_CONF_OK;
}


char *
ngx_http_edgespan_trace_context(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf)
{
    ngx_http_edgespan_loc_conf_t *lcf = conf;

    unsigned                        mode;
    ngx_str_t                      *value;
    es_error_t                      error;
    ngx_http_edgespan_main_conf_t  *mcf;

    if (lcf->context != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (!es_parse_trace_context(ngx_http_edgespan_str(&value[1]), &mode,
                                &error))
    {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    lcf->context = mode;

    if (mode != ES_CONTEXT_IGNORE) {
        mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_edgespan_module);
        mcf->used = 1;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_edgespan_semconv(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_main_conf_t *mcf = conf;

    ngx_str_t   *value;
    es_error_t   error;

    if (mcf->semconv) {
        return "is duplicate";
    }

    mcf->semconv = 1;

    value = cf->args->elts;

    if (!es_config_semconv(mcf->config, ngx_http_edgespan_str(&value[1]),
                           &error))
    {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    return NGX_CONF_OK;
}


char *
ngx_http_edgespan_trace_url(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_edgespan_srv_conf_t *scf = conf;

    ngx_str_t   *value;
    es_error_t   error;

    if (scf->trace_url.data != NULL) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (!es_check_trace_url(ngx_http_edgespan_str(&value[1]), &error)) {
        return ngx_http_edgespan_refuse(cf, &error);
    }

    scf->trace_url = value[1];

    return NGX_CONF_OK;
}
