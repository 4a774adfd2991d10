/* mod_edgespan: distributed tracing. The module record and its hooks. */

#include "mod_edgespan.h"

#include "mod_status.h"

static void
register_hooks(apr_pool_t *p)
{
    /* Who may still change where a request goes: mod_dir by a fast redirect,
     * mod_rewrite by [P]; mod_headers what is sent upstream: our headers are the last
     * word on the context. */
    static const char *const fixups_before[] = {"mod_dir.c", "mod_rewrite.c", "mod_headers.c",
                                                NULL};

    /* The MPM computes its limits in the same hook. */
    static const char *const check_before[] = {"event.c", "worker.c", "prefork.c", NULL};

    /* Who gives each request an id of its own, which is no trace's. */
    static const char *const log_id_before[] = {"mod_unique_id.c", NULL};

    (void) p;
    ap_hook_pre_config(edgespan_pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(edgespan_check_config, check_before, NULL, APR_HOOK_LAST);
    ap_hook_post_config(edgespan_post_config, NULL, NULL, APR_HOOK_MIDDLE);

    /* What is set up first goes last: whoever has threads that end requests, as
     * mod_http2 has, stops them before tracing stops. */
    ap_hook_child_init(edgespan_child_init, NULL, NULL, APR_HOOK_REALLY_FIRST);

    ap_hook_post_read_request(edgespan_post_read_request, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_header_parser(edgespan_header_parser, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_fixups(edgespan_fixups, fixups_before, NULL, APR_HOOK_REALLY_LAST);

    ap_hook_insert_filter(edgespan_insert_filter, NULL, NULL, APR_HOOK_LAST);
    ap_hook_insert_error_filter(edgespan_insert_filter, NULL, NULL, APR_HOOK_LAST);

    ap_hook_handler(edgespan_subrequest_handler, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_handler(edgespan_status_handler, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ap, status_hook, edgespan_server_status, NULL, NULL, APR_HOOK_MIDDLE);

    ap_hook_generate_log_id(edgespan_generate_log_id, NULL, log_id_before, APR_HOOK_MIDDLE);

    /* Before mod_log_config, which is to find OTEL_... in place. */
    ap_hook_log_transaction(edgespan_log_transaction, NULL, NULL, APR_HOOK_REALLY_FIRST);

    edgespan_proxy_filters();
    edgespan_subrequest_filters();
    edgespan_clock_filters();
    edgespan_response_filters();
}

module AP_MODULE_DECLARE_DATA edgespan_module = {
    STANDARD20_MODULE_STUFF,
    edgespan_create_dir_config,
    edgespan_merge_dir_config,
    edgespan_create_server_config,
    edgespan_merge_server_config,
    edgespan_commands,
    register_hooks,
#ifdef AP_MODULE_HAS_FLAGS
    AP_MODULE_FLAG_NONE,
#endif
};
