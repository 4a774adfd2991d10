/* %L of LogFormat and ErrorLogFormat: httpd makes up an id for a request when it first
 * logs something of it. Of a request that shows its ids (edgespan_environment.c) that is
 * the trace id, so that lines and traces find each other. Before its place is known no
 * ids are fixed for that: what httpd logs until then has httpd's id. */

#include "mod_edgespan.h"

int
edgespan_generate_log_id(const conn_rec *c, const request_rec *r, const char **id)
{
    (void) c;

    /* What logs may be at an internal redirect whose place is not known yet. */
    for (; r != NULL; r = r->prev) {
        const edgespan_request_t *request = edgespan_request_of(r);

        if (request != NULL && request->trace_id != NULL) {
            *id = request->trace_id;
            return OK;
        }
    }
    return DECLINED;
}
