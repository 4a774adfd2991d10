
/*
 * The configurations: how they begin, and what a level inherits.
 */


#include "ngx_http_edgespan.h"


static void
ngx_http_edgespan_conf_log(void *data, es_log_level_t level, const char *text)
{
    ngx_http_edgespan_main_conf_t  *mcf = data;

    ngx_conf_log_error(ngx_http_edgespan_log_levels[level], mcf->cf, 0,
                       "edgespan: %s", text);
}


static void
ngx_http_edgespan_cleanup(void *data)
{
    ngx_http_edgespan_main_conf_t  *mcf = data;

    if (mcf->provider != NULL) {
        es_provider_destroy(mcf->provider);
    }

    if (mcf->generation != NULL) {
        es_generation_destroy(mcf->generation);
    }

    es_config_destroy(mcf->config);
}


void *
ngx_http_edgespan_create_main_conf(ngx_conf_t *cf)
{
    es_log_t                        log;
    ngx_pool_cleanup_t             *cln;
    ngx_http_edgespan_main_conf_t  *mcf;

    mcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_edgespan_main_conf_t));
    if (mcf == NULL) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    mcf->cf = cf;
    mcf->realip_addr_index = NGX_ERROR;

    log.write = ngx_http_edgespan_conf_log;
    log.data = mcf;

    mcf->config = es_config_create("nginx", &log);
    if (mcf->config == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_edgespan_cleanup;
    cln->data = mcf;

    return mcf;
}


char *
ngx_http_edgespan_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_edgespan_main_conf_t *mcf = conf;

    u_char           *identity;
    ngx_int_t         processes;
    es_error_t        error;
    es_server_t       server;
    ngx_core_conf_t  *ccf;

    if (mcf->compat && ngx_http_edgespan_init_compat(cf, mcf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    if (!mcf->used) {
        return NGX_CONF_OK;
    }

    if (!es_config_enabled(mcf->config)) {
        mcf->used = 0;
        return NGX_CONF_OK;
    }

    /* no two servers have both in common */

    identity = ngx_pnalloc(cf->pool, cf->cycle->prefix.len + 1
                                     + cf->cycle->conf_file.len + 1);
    if (identity == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_sprintf(identity, "%V %V%Z", &cf->cycle->prefix,
                &cf->cycle->conf_file);

    server.version = NGINX_VERSION;
    server.identity = (char *) identity;

    ccf = (ngx_core_conf_t *) ngx_get_conf(cf->cycle->conf_ctx,
                                           ngx_core_module);
    mcf->core = ccf;

    /* "worker_processes" may follow http{}; what it is by then is not known */

    processes = ccf->worker_processes != NGX_CONF_UNSET ? ccf->worker_processes
                                                        : ngx_ncpu;

    if (!es_config_server(mcf->config, &server, &error)
        || !es_config_finish(mcf->config, processes, &error))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s", error.text);
        return NGX_CONF_ERROR;
    }

    if (mcf->traced && es_config_exporters(mcf->config) == 0) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"otel_trace\" without \"otel_exporter\": "
                           "spans have no destination");
    }

    return NGX_CONF_OK;
}


void *
ngx_http_edgespan_create_srv_conf(ngx_conf_t *cf)
{
    ngx_http_edgespan_srv_conf_t  *scf;

    scf = ngx_pcalloc(cf->pool, sizeof(ngx_http_edgespan_srv_conf_t));
    if (scf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     scf->propagation = { 0 };
     *     scf->trust_variable = NULL;
     *     scf->trace_url = { 0, NULL };
     */

    scf->trust = NGX_CONF_UNSET_UINT;

    return scf;
}


char *
ngx_http_edgespan_merge_srv_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_edgespan_srv_conf_t *prev = parent;
    ngx_http_edgespan_srv_conf_t *conf = child;

    es_propagation_inherit(&conf->propagation, &prev->propagation);

    /* the trust is either a variable or the value */

    if (conf->trust == NGX_CONF_UNSET_UINT) {
        conf->trust_variable = prev->trust_variable;
    }

    ngx_conf_merge_uint_value(conf->trust, prev->trust, ES_TRUST_ON);
    ngx_conf_merge_str_value(conf->trace_url, prev->trace_url, "");

    return NGX_CONF_OK;
}


void *
ngx_http_edgespan_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_edgespan_loc_conf_t  *lcf;

    lcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_edgespan_loc_conf_t));
    if (lcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     lcf->sampling = { 0 };
     *     lcf->sample_rate = NULL;
     *     lcf->baggage_attrs = { NULL, 0 };
     *     lcf->span_name = NULL;
     *     lcf->attrs = NULL;
     *     lcf->captures = NULL;
     *     lcf->redaction = { 0 };
     *     lcf->route_value = NULL;
     *     lcf->handler = NULL;
     *     lcf->status = 0;
     */

    lcf->trace = NGX_CONF_UNSET_PTR;
    lcf->context = NGX_CONF_UNSET_UINT;
    lcf->response_header = NGX_CONF_UNSET_UINT;
    lcf->upstream_span = NGX_CONF_UNSET;
    lcf->subrequest_span = NGX_CONF_UNSET;
    lcf->error_events = NGX_CONF_UNSET;
    lcf->status_format = NGX_CONF_UNSET_UINT;

    return lcf;
}


/*
 * http.route: the pattern of the location.  A prefix gets an asterisk, an exact
 * location is itself, a regular expression is its text; named locations are no
 * part of a URL.
 */

static ngx_int_t
ngx_http_edgespan_set_route(ngx_conf_t *cf, ngx_http_edgespan_loc_conf_t *prev,
    ngx_http_edgespan_loc_conf_t *lcf)
{
    u_char                    *p;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->named || clcf->name.len == 0) {
        return NGX_OK;
    }

    if (clcf->noname) {
        /* "if" and "limit_except" are no places of their own */
        lcf->route = prev->route;
        return NGX_OK;
    }

    lcf->route = clcf->name;

#if (NGX_PCRE)
    if (clcf->regex) {
        return NGX_OK;
    }
#endif

    if (clcf->exact_match) {
        return NGX_OK;
    }

    p = ngx_pnalloc(cf->pool, clcf->name.len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    lcf->route.data = p;
    lcf->route.len = clcf->name.len + 1;

    p = ngx_cpymem(p, clcf->name.data, clcf->name.len);
    *p = '*';

    return NGX_OK;
}


char *
ngx_http_edgespan_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_edgespan_loc_conf_t *prev = parent;
    ngx_http_edgespan_loc_conf_t *conf = child;

    ngx_uint_t  own_rate;

    ngx_conf_merge_ptr_value(conf->trace, prev->trace, NULL);
    ngx_conf_merge_value(conf->upstream_span, prev->upstream_span, 1);
    ngx_conf_merge_value(conf->subrequest_span, prev->subrequest_span, 1);
    ngx_conf_merge_value(conf->error_events, prev->error_events, 0);

    /* stays unset if nobody says a word: the default depends on the tracing */

    if (conf->context == NGX_CONF_UNSET_UINT) {
        conf->context = prev->context;
    }

    /* an outer variable counts where an outer rate does */

    own_rate = conf->sampling.given & ES_GIVEN_RATE;

    es_sampling_inherit(&conf->sampling, &prev->sampling);

    if (!own_rate && (conf->sampling.given & ES_GIVEN_RATE)) {
        conf->sample_rate = prev->sample_rate;
    }

    ngx_conf_merge_uint_value(conf->response_header, prev->response_header,
                              ES_RESPONSE_NONE);

    if (conf->baggage_attrs.count == 0) {
        conf->baggage_attrs = prev->baggage_attrs;
    }

    if (conf->span_name == NULL) {
        conf->span_name = prev->span_name;
    }

    if (conf->attrs == NULL) {
        conf->attrs = prev->attrs;
    }

    if (conf->captures == NULL) {
        conf->captures = prev->captures;
    }

    if (conf->route_value == NULL) {
        conf->route_value = prev->route_value;
    }

    es_redaction_inherit(&conf->redaction, &prev->redaction);

    /* to look does not change what is seen */

    if (conf->status) {
        conf->trace = NULL;
        conf->context = ES_CONTEXT_IGNORE;
    }

    ngx_http_edgespan_wrap_content(cf, prev, conf);

    if (ngx_http_edgespan_set_route(cf, prev, conf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
