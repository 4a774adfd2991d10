/* What lives longer than a request: the configuration of a pass, the shared
 * memory of a generation, the provider of a child.
 *
 * A restart clears pconf in the parent, and with it the parent's part of a
 * generation. The children of that generation keep theirs until they end, beside
 * those of the next. */

#include "mod_edgespan.h"

#include "ap_mpm.h"
#include "mpm_common.h"
#include "unixd.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

edgespan_process_t edgespan_process;

/* ----------------------------------------------------------------- log --- */

static const int log_levels[] = {
    [ES_LOG_ERROR] = APLOG_ERR,
    [ES_LOG_WARN] = APLOG_WARNING,
    [ES_LOG_NOTICE] = APLOG_NOTICE,
    [ES_LOG_INFO] = APLOG_INFO,
};

/* Remarks on the configuration. There is no error log yet: httpd sends them to
 * where stderr goes. */
static void
log_config(void *data, es_log_level_t level, const char *text)
{
    (void) data;

    /* A starting server reads its configuration twice. */
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG
        && ap_state_query(AP_SQ_RUN_MODE) == AP_SQ_RM_NORMAL) {
        return;
    }
    ap_log_error(APLOG_MARK, log_levels[level], 0, NULL, "edgespan: %s", text);
}

/* Called on the exporter thread: ap_log_error() formats on the stack and writes
 * once. */
static void
log_server(void *data, es_log_level_t level, const char *text)
{
    const server_rec *s = data;

    ap_log_error(APLOG_MARK, log_levels[level], 0, s, "edgespan: %s", text);
}

/* -------------------------------------------------------- shared memory --- */

/* Not apr_shm_create(): its cleanup would also run in a child that exits, under
 * an exporter thread that may outlive a stop. */
static void *
shared_area(apr_size_t size, es_error_t *error)
{
    void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (area == MAP_FAILED) {
        apr_snprintf(error->text, sizeof(error->text),
                     "%" APR_SIZE_T_FMT " bytes of shared memory cannot be had: %s", size,
                     strerror(errno));
        return NULL;
    }
    return area;
}

/* The statistics survive restarts. A restart may also load another build of the
 * module, that lays them out differently: then they begin anew, and the old ones
 * stay for the children that still count there. */
static void *
stats_area(es_error_t *error)
{
    static const char key[] = "edgespan-stats";
    void **retained = ap_retained_data_get(key);

    if (retained == NULL) {
        retained = ap_retained_data_create(key, sizeof(*retained));
    }
    if (*retained == NULL || !es_stats_area_fits(*retained)) {
        *retained = shared_area(es_stats_area_size(), error);
    }
    return *retained;
}

/* ------------------------------------------------------- configuration --- */

static apr_status_t
forget_generation(void *data)
{
    edgespan_process_t *process = data;

    /* A child that exits destroys pconf, too. */
    if (process->generation != NULL && process->pid != getpid()) {
        return APR_SUCCESS;
    }
    if (process->generation != NULL) {
        es_generation_destroy(process->generation);
        process->generation = NULL;
    }
    if (process->queue_area != NULL) {
        munmap(process->queue_area, process->queue_area_size);
        process->queue_area = NULL;
    }
    es_config_destroy(process->config);
    process->config = NULL;
    return APR_SUCCESS;
}

int
edgespan_pre_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    static const es_log_t log = {log_config, NULL};

    (void) plog;
    (void) ptemp;
    memset(&edgespan_process, 0, sizeof(edgespan_process));
    edgespan_process.config = es_config_create("httpd", &log);
    if (edgespan_process.config == NULL) {
        ap_log_error(APLOG_MARK, APLOG_EMERG | APLOG_STARTUP, 0, NULL, "edgespan: no memory");
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    apr_pool_cleanup_register(pconf, &edgespan_process, forget_generation, apr_pool_cleanup_null);
    edgespan_proxy_hooks();
    return OK;
}

/* Here and not in post_config, so that "httpd -t" says what is wrong. */
int
edgespan_check_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    ap_version_t revision;
    es_server_t server;
    es_error_t error;
    int processes;

    (void) plog;
    if (!edgespan_process.used) {
        return OK;
    }
    if (!es_config_enabled(edgespan_process.config)) {
        edgespan_process.used = 0;
        return OK;
    }
    edgespan_name_locations(pconf, s);
    if (ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &processes) != APR_SUCCESS || processes < 1) {
        processes = 1;
    }

    /* No two servers have one pid file. */
    ap_get_server_revision(&revision);
    server.version =
        apr_psprintf(ptemp, "%d.%d.%d", revision.major, revision.minor, revision.patch);
    server.identity = ap_runtime_dir_relative(ptemp, ap_pid_fname);
    if (!es_config_server(edgespan_process.config, &server, &error)
        || !es_config_finish(edgespan_process.config, (unsigned) processes, &error)) {
        ap_log_error(APLOG_MARK, APLOG_EMERG | APLOG_STARTUP, 0, NULL, "edgespan: %s", error.text);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    return OK;
}

static bool
create_generation(edgespan_process_t *process, es_error_t *error)
{
    void *stats = stats_area(error);

    process->pid = getpid();
    process->queue_area_size = es_queue_area_size(process->config);
    return stats != NULL
           && (process->queue_area = shared_area(process->queue_area_size, error)) != NULL
           && es_config_directories(process->config, ap_unixd_config.user_id,
                                    ap_unixd_config.group_id, error)
           && es_generation_create(&process->generation, process->config, process->queue_area,
                                   stats, error);
}

int
edgespan_post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    int threaded = AP_MPMQ_NOT_SUPPORTED;
    es_error_t error;

    (void) pconf;
    (void) plog;
    (void) ptemp;
    if (!edgespan_process.used || ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) {
        return OK;
    }
    if (edgespan_process.traced && es_config_exporters(edgespan_process.config) == 0) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "edgespan: OtelTrace is on, but there is no OtelExporter: spans go nowhere");
    }
    ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded);
    edgespan_process.threaded = threaded != AP_MPMQ_NOT_SUPPORTED;

    if (create_generation(&edgespan_process, &error)) {
        return OK;
    }

    /* A start is refused. A restart cannot be: httpd would end, so it goes on
     * without tracing. */
    ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s, "edgespan: tracing cannot begin: %s", error.text);
    return ap_state_query(AP_SQ_CONFIG_GEN) > 1 ? OK : HTTP_INTERNAL_SERVER_ERROR;
}

/* --------------------------------------------------------------- child --- */

/* The parent kills a child that does not end within nine seconds. */
#define STOP_AT_MOST_NS UINT64_C(8000000000)

/* Prefork runs this inside its SIGTERM handler, which may have interrupted
 * anything, a push included: there it only waits. Requests that end from here
 * on, when their pools go, are counted. */
static apr_status_t
stop_provider(void *data)
{
    es_provider_t *provider = data;

    edgespan_process.provider = NULL;
    es_provider_stopping(provider, STOP_AT_MOST_NS);
    if (edgespan_process.threaded) {
        es_provider_stop(provider);
        es_provider_destroy(provider);
    } else {
        es_provider_wait(provider);
    }
    return APR_SUCCESS;
}

void
edgespan_child_init(apr_pool_t *pchild, server_rec *s)
{
    const es_log_t log = {log_server, s};
    es_error_t error;

    if (edgespan_process.generation == NULL) {
        return;
    }
    if (!es_provider_start(&edgespan_process.provider, edgespan_process.generation, &log, &error)) {
        edgespan_process.provider = NULL;
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, s, "edgespan: this process does not trace: %s",
                     error.text);
        return;
    }

    /* Before the pools of connections go, which a thread may still log for. */
    apr_pool_pre_cleanup_register(pchild, edgespan_process.provider, stop_provider);
}
