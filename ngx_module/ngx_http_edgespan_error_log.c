
/*
 * Lines of the error log that are written while a request is served: they say
 * of which trace they are, and may become events of its span.
 *
 * Who writes a line is not asked for its level: only writers see that.  So a
 * log of ours stands in the chain, right behind the connection's, of the same
 * level, because a chain ends at the first log that does not want the line.
 * The connection's log lives longer than the request, and nginx replaces what
 * follows it with each location: it is looked after line by line.
 */


#include "ngx_http_edgespan.h"


#define NGX_HTTP_EDGESPAN_LINES      16
#define NGX_HTTP_EDGESPAN_LINE_LEN   512

#define NGX_HTTP_EDGESPAN_TRACE_ID   ", trace_id: "
#define NGX_HTTP_EDGESPAN_SPAN_ID    ", span_id: "
#define NGX_HTTP_EDGESPAN_CLIENT     ", client: "

#define NGX_HTTP_EDGESPAN_IDS_LEN                                            \
    (sizeof(NGX_HTTP_EDGESPAN_TRACE_ID) - 1 + 2 * ES_TRACE_ID_LEN            \
     + sizeof(NGX_HTTP_EDGESPAN_SPAN_ID) - 1 + 2 * ES_SPAN_ID_LEN            \
     + NGX_LINEFEED_SIZE)


typedef struct {
    uint64_t                   time;
    ngx_uint_t                 level;
    ngx_str_t                  message;
} ngx_http_edgespan_line_t;


struct ngx_http_edgespan_lines_s {
    ngx_http_edgespan_ctx_t   *ctx;
    ngx_log_t                 *head;     /* the connection's */
    ngx_log_t                  log;      /* ours */
    u_char                    *end;      /* of a message; NULL: not wanted */
    ngx_uint_t                 lost;
    ngx_uint_t                 n;
    ngx_http_edgespan_line_t   lines[NGX_HTTP_EDGESPAN_LINES];
};


static u_char *ngx_http_edgespan_log_error(ngx_http_request_t *r,
    ngx_http_request_t *sr, u_char *buf, size_t len);
static void ngx_http_edgespan_watch_log(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx);
static void ngx_http_edgespan_unlink_log(void *data);
static void ngx_http_edgespan_log_writer(ngx_log_t *log, ngx_uint_t level,
    u_char *buf, size_t len);


/* as in the error log */

static const es_str_t  ngx_http_edgespan_severities[] = {
    { NULL, 0 },
    { "emerg", 5 },
    { "alert", 5 },
    { "crit", 4 },
    { "error", 5 },
    { "warn", 4 }
};


void
ngx_http_edgespan_wrap_log(ngx_http_request_t *r, ngx_http_edgespan_ctx_t *ctx)
{
    ctx->log_handler = r->log_handler;
    r->log_handler = ngx_http_edgespan_log_error;
}


/*
 * What nginx adds to a line.  The room for the ids is taken from the rest: of a
 * long line they are what must not be lost.
 */

static u_char *
ngx_http_edgespan_log_error(ngx_http_request_t *r, ngx_http_request_t *sr,
    u_char *buf, size_t len)
{
    u_char                        *p;
    const uint8_t                 *span_id;
    ngx_http_edgespan_ctx_t       *ctx, *sub;
    ngx_http_edgespan_loc_conf_t  *lcf;

    ctx = ngx_http_edgespan_kept_ctx(r);

    if (ctx == NULL) {
        return buf;
    }

    /* another place of the request may have wanted its lines */

    if (ctx->lines != NULL) {
        ctx->lines->end = NULL;
    }

    lcf = ngx_http_get_module_loc_conf(sr, ngx_http_edgespan_module);

    if (lcf->error_events && !ctx->logging
        && (!ctx->trace->decided || es_trace_recording(ctx->trace)))
    {
        ctx->logging = 1;
        ngx_http_edgespan_watch_log(r, ctx);
        ctx->logging = 0;

        if (ctx->lines != NULL) {
            ctx->lines->end = buf - r->connection->addr_text.len
                              - (sizeof(NGX_HTTP_EDGESPAN_CLIENT) - 1);
        }
    }

    if (!ctx->trace->joined || len < NGX_HTTP_EDGESPAN_IDS_LEN) {
        return ctx->log_handler(r, sr, buf, len);
    }

    p = ctx->log_handler(r, sr, buf, len - NGX_HTTP_EDGESPAN_IDS_LEN);

    sub = sr != r ? ngx_http_edgespan_kept_ctx(sr) : NULL;
    span_id = ngx_http_edgespan_parent_id(sub);

    p = ngx_cpymem(p, NGX_HTTP_EDGESPAN_TRACE_ID,
                   sizeof(NGX_HTTP_EDGESPAN_TRACE_ID) - 1);
    es_hex((char *) p, ctx->trace->span.trace_id, ES_TRACE_ID_LEN);
    p += 2 * ES_TRACE_ID_LEN;

    p = ngx_cpymem(p, NGX_HTTP_EDGESPAN_SPAN_ID,
                   sizeof(NGX_HTTP_EDGESPAN_SPAN_ID) - 1);
    es_hex((char *) p, span_id != NULL ? span_id : ctx->trace->span.span_id,
           ES_SPAN_ID_LEN);

    return p + 2 * ES_SPAN_ID_LEN;
}


/* sees to it that the line that is being written gets to our log */

static void
ngx_http_edgespan_watch_log(ngx_http_request_t *r,
    ngx_http_edgespan_ctx_t *ctx)
{
    ngx_log_t                  *log;
    ngx_pool_cleanup_t         *cln;
    ngx_http_edgespan_lines_t  *lines;

    lines = ctx->lines;

    if (lines == NULL) {
        cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_edgespan_lines_t));
        if (cln == NULL) {
            return;
        }

        lines = cln->data;

        ngx_memzero(lines, sizeof(ngx_http_edgespan_lines_t));

        lines->ctx = ctx;
        lines->head = r->connection->log;
        lines->log.writer = ngx_http_edgespan_log_writer;
        lines->log.wdata = lines;

        cln->handler = ngx_http_edgespan_unlink_log;
        ctx->lines = lines;
    }

    for (log = lines->head->next; log; log = log->next) {
        if (log == &lines->log) {
            return;
        }
    }

    lines->log.log_level = lines->head->log_level;
    lines->log.next = lines->head->next;
    lines->head->next = &lines->log;
}


static void
ngx_http_edgespan_unlink_log(void *data)
{
    ngx_http_edgespan_lines_t  *lines = data;

    ngx_log_t  *log;

    for (log = lines->head; log->next; log = log->next) {
        if (log->next == &lines->log) {
            log->next = lines->log.next;
            return;
        }
    }
}


/* the message alone: without the time, the process and the connection */

static es_str_t
ngx_http_edgespan_message(u_char *p, u_char *last, u_char *end)
{
    u_char  *start;
    size_t   client;

    client = sizeof(NGX_HTTP_EDGESPAN_CLIENT) - 1;

    if (end < p
        || end + client > last
        || ngx_memcmp(end, NGX_HTTP_EDGESPAN_CLIENT, client) != 0)
    {
        end = last;
    }

    while (end > p && (end[-1] == LF || end[-1] == CR)) {
        end--;
    }

    start = ngx_strlchr(p, end, '#');

    if (start != NULL) {
        start = ngx_strlchr(start, end, ' ');
    }

    if (start != NULL) {
        p = start + 1;
    }

    if (p < end && *p == '*') {
        start = ngx_strlchr(p, end, ' ');

        if (start != NULL) {
            p = start + 1;
        }
    }

    return es_str(p, ngx_min(end - p, NGX_HTTP_EDGESPAN_LINE_LEN));
}


/*
 * Not for what nginx writes for debugging, maybe from another thread.  What was
 * wanted is this line and no later one: lines follow that nobody asked us
 * about, of a request that gives its memory back.
 */

static void
ngx_http_edgespan_log_writer(ngx_log_t *log, ngx_uint_t level, u_char *buf,
    size_t len)
{
    u_char                     *p, *end;
    es_str_t                    message;
    ngx_http_edgespan_line_t   *line;
    ngx_http_edgespan_lines_t  *lines;

    if (level == NGX_LOG_DEBUG) {
        return;
    }

    lines = log->wdata;

    end = lines->end;
    lines->end = NULL;

    if (end == NULL || level > NGX_LOG_WARN || level == NGX_LOG_STDERR) {
        return;
    }

    if (lines->n == NGX_HTTP_EDGESPAN_LINES) {
        lines->lost++;
        return;
    }

    message = ngx_http_edgespan_message(buf, buf + len, end);

    lines->ctx->logging = 1;
    p = ngx_pnalloc(lines->ctx->request->pool, message.len);
    lines->ctx->logging = 0;

    if (p == NULL) {
        lines->lost++;
        return;
    }

    ngx_memcpy(p, message.data, message.len);

    line = &lines->lines[lines->n++];

    line->time = es_mono_ns();
    line->level = level;
    line->message.data = p;
    line->message.len = message.len;
}


/* the lines among the events that are there already, in order of time */

void
ngx_http_edgespan_set_events(ngx_http_edgespan_ctx_t *ctx, es_http_t *http)
{
    ngx_uint_t                  i, j, n;
    es_http_event_t            *events;
    es_attribute_t             *attrs;
    ngx_http_edgespan_line_t   *line;
    ngx_http_edgespan_lines_t  *lines;

    lines = ctx->lines;

    if (lines == NULL) {
        return;
    }

    http->log_dropped = lines->lost;

    if (lines->n == 0) {
        return;
    }

    n = lines->n + http->events_count;

    events = ngx_palloc(ctx->request->pool, n * sizeof(es_http_event_t));
    attrs = ngx_pcalloc(ctx->request->pool,
                        2 * lines->n * sizeof(es_attribute_t));

    if (events == NULL || attrs == NULL) {
        http->log_dropped += lines->n;
        return;
    }

    for (i = 0, j = 0; i + j < n; /* void */ ) {

        line = &lines->lines[i];

        if (i == lines->n
            || (j < http->events_count
                && http->events[j].mono_ns <= line->time))
        {
            events[i + j] = http->events[j];
            j++;
            continue;
        }

        attrs[2 * i].key = ES_EVENT_LOG_SEVERITY;
        attrs[2 * i].value = ngx_http_edgespan_severities[line->level];
        attrs[2 * i + 1].key = ES_EVENT_LOG_MESSAGE;
        attrs[2 * i + 1].value = ngx_http_edgespan_str(&line->message);

        events[i + j].name = ES_EVENT_LOG;
        events[i + j].mono_ns = line->time;
        events[i + j].attributes = &attrs[2 * i];
        events[i + j].attributes_count = 2;
        i++;
    }

    http->events = events;
    http->events_count = n;
}
