/* %L of LogFormat and ErrorLogFormat: httpd makes up an id for a request when it first
 * logs something of it. Of a request that shows its ids (edgespan_environment.c) that is
 * the trace id, so that lines and traces find each other.
 *
 * Before its place is known no ids are fixed for that: what is logged until then has
 * httpd's id. A request that never comes to a place keeps it, so that the access log
 * has the id that all of its lines in the error log have. */

#include "mod_edgespan.h"

int
edgespan_generate_log_id(const conn_rec *c, const request_rec *r, const char **id)
{
    (void) c;

    /* What logs may be an internal redirect whose place is not known yet. */
    for (; r != NULL; r = r->prev) {
        const edgespan_request_t *request = edgespan_request_of(r);

        if (request != NULL && request->trace_id != NULL) {
            *id = request->trace_id;
            return OK;
        }
    }
    return DECLINED;
}

void
edgespan_renew_log_id(request_rec *r, const edgespan_request_t *request)
{
    if (r->log_id != NULL) {
        r->log_id = request->trace_id;
    }
}
