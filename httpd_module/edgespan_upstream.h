/* edgespan_upstream.h: what mod_proxy's hooks (edgespan_proxy.c) and the tries that they
 * tell of (edgespan_try.c) share. */

#ifndef EDGESPAN_UPSTREAM_H
#define EDGESPAN_UPSTREAM_H

#include "mod_edgespan.h"

#include "mod_proxy.h"

/* A proxied request_rec, and its current or last try. */
struct edgespan_upstream {
    request_rec *r;
    edgespan_request_t *request;
    uint8_t span_id[ES_SPAN_ID_LEN]; /* what the upstream sees */
    bool has_span;                   /* else that is the id of the span above */
    bool filtered;

    bool trying;
    bool asked;  /* the request was sent, or as good as that */
    bool hidden; /* its connection is the handler's own: no hook sees it */
    bool kept;   /* which may have been used before */
    unsigned tries;
    es_str_t scheme, host, target, version;
    unsigned port;
    es_http_try_t http_try;
    unsigned status;             /* as it answered, before mod_cache makes a 200 of a 304 */
    uint64_t complete_mono_ns;   /* all of the response was there; 0: not yet */
    edgespan_upstream_t *around; /* whose handler called this one: a subrequest's */
};

void edgespan_begin_try(edgespan_upstream_t *upstream, const proxy_worker *worker, const char *url,
                        const char *proxyhost, apr_port_t proxyport);

/* At the same place, where the scheme's handler tries again by itself. */
void edgespan_begin_again(edgespan_upstream_t *upstream);

/* `status` is what the scheme's handler returned. */
void edgespan_end_try(edgespan_upstream_t *upstream, int status);

/* What was read from the client since its beginning, was read before the upstream was
 * asked: it begins behind that. */
void edgespan_body_was_read(edgespan_upstream_t *upstream);

/* The handler goes on behind a connection that is hidden. */
void edgespan_see_connected(edgespan_upstream_t *upstream);

/* Whom it speaks to, now that there is a connection. */
void edgespan_set_peer(edgespan_upstream_t *upstream, const conn_rec *c);

#endif
