
/*
 * The shared zones of a configuration, and the exporter of each process.
 */


#include "ngx_http_edgespan.h"


static ngx_int_t ngx_http_edgespan_init_stats_zone(ngx_shm_zone_t *zone,
    void *data);
static ngx_int_t ngx_http_edgespan_init_queue_zone(ngx_shm_zone_t *zone,
    void *data);


/*
 * nginx formats every zone as a slab pool and, when a process dies, looks for
 * its locks there: so the queue begins behind the pool's header.
 */

#define NGX_HTTP_EDGESPAN_QUEUE_OFFSET                                       \
    ngx_align(sizeof(ngx_slab_pool_t), 64)


#define NGX_HTTP_EDGESPAN_TERM_NS   UINT64_C(1000000000)


es_provider_t  *ngx_http_edgespan_provider;


/*
 * Areas come from nginx's zones, whose failure rolls a reload back: a failing
 * init_module would kill the master.
 */

ngx_int_t
ngx_http_edgespan_add_zones(ngx_conf_t *cf, ngx_http_edgespan_main_conf_t *mcf)
{
    size_t     size;

    static ngx_str_t  stats = ngx_string("edgespan_stats");
    static ngx_str_t  queue = ngx_string("edgespan_queue");

    /* the statistics: kept over reloads, and initialized before the queue */

    size = es_stats_area_size() + 8 * ngx_pagesize;

    mcf->stats_zone = ngx_shared_memory_add(cf, &stats,
                                            ngx_align(size, ngx_pagesize),
                                            &ngx_http_edgespan_module);
    if (mcf->stats_zone == NULL) {
        return NGX_ERROR;
    }

    mcf->stats_zone->init = ngx_http_edgespan_init_stats_zone;
    mcf->stats_zone->data = mcf;

    /* the queue: of this configuration alone */

    size = NGX_HTTP_EDGESPAN_QUEUE_OFFSET + es_queue_area_size(mcf->config);

    mcf->queue_zone = ngx_shared_memory_add(cf, &queue,
                                            ngx_align(size, ngx_pagesize),
                                            &ngx_http_edgespan_module);
    if (mcf->queue_zone == NULL) {
        return NGX_ERROR;
    }

    mcf->queue_zone->init = ngx_http_edgespan_init_queue_zone;
    mcf->queue_zone->data = mcf;
    mcf->queue_zone->noreuse = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_edgespan_init_stats_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_slab_pool_t  *pool;

    pool = (ngx_slab_pool_t *) zone->shm.addr;

    if (data != NULL || zone->shm.exists) {
        return NGX_OK;
    }

    pool->data = ngx_slab_calloc(pool, es_stats_area_size());

    return pool->data != NULL ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_edgespan_init_queue_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_http_edgespan_main_conf_t  *mcf = zone->data;

    es_error_t        error;
    ngx_slab_pool_t  *stats;

    stats = (ngx_slab_pool_t *) mcf->stats_zone->shm.addr;

    /* without privileges "user" is unset, and means nothing */

    if (!es_config_directories(mcf->config, mcf->core->user, mcf->core->group,
                               &error)
        || !es_generation_create(&mcf->generation, mcf->config,
                             zone->shm.addr + NGX_HTTP_EDGESPAN_QUEUE_OFFSET,
                             stats->data, &error))
    {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0, "edgespan: %s",
                      error.text);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_edgespan_init_process(ngx_cycle_t *cycle)
{
    es_log_t                        log;
    es_error_t                      error;
    ngx_http_edgespan_main_conf_t  *mcf;

    /* the cache manager and the cache loader serve no requests */

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_edgespan_module);

    if (mcf == NULL || mcf->generation == NULL) {
        return NGX_OK;
    }

    if (ngx_http_edgespan_log_init(cycle) != NGX_OK) {
        return NGX_OK;
    }

    log.write = ngx_http_edgespan_log_write;
    log.data = NULL;

    /* the master became a daemon after it had read its configuration */

    if (!es_config_pid(mcf->config,
                       ngx_process == NGX_PROCESS_WORKER ? getppid() : ngx_pid,
                       &error)
        || !es_provider_start(&mcf->provider, mcf->generation, &log, &error))
    {

        /* the worker serves all the same */

        ngx_log_error(NGX_LOG_ERR, cycle->log, 0,
                      "edgespan: this process does not trace: %s", error.text);
        mcf->provider = NULL;
        ngx_http_edgespan_log_done(cycle);
    }

    ngx_http_edgespan_provider = mcf->provider;

    return NGX_OK;
}


/*
 * With "master_process off" a reload runs neither exit_process nor
 * init_process, but this; the old zones go right after it.  Requests that are
 * under way keep the old provider, which stays as long as their configuration.
 */

ngx_int_t
ngx_http_edgespan_init_module(ngx_cycle_t *cycle)
{
    if (ngx_process == NGX_PROCESS_SINGLE && ngx_http_edgespan_provider != NULL)
    {
        ngx_http_edgespan_exit_process(cycle);
        return ngx_http_edgespan_init_process(cycle);
    }

    return NGX_OK;
}


void
ngx_http_edgespan_exit_process(ngx_cycle_t *cycle)
{
    if (ngx_http_edgespan_provider != NULL) {

        /* on TERM the master kills what is there after a second and a half */

        es_provider_stopping(ngx_http_edgespan_provider,
                             ngx_terminate ? NGX_HTTP_EDGESPAN_TERM_NS
                                           : UINT64_MAX);
        es_provider_stop(ngx_http_edgespan_provider);
        ngx_http_edgespan_provider = NULL;
        ngx_http_edgespan_log_done(cycle);
    }
}
