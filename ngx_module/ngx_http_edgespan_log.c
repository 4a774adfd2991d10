
/*
 * Messages of the exporter thread.  They are written by the event loop: when
 * the log is reopened, nginx closes its descriptor, and a thread that was just
 * about to write would do so to whatever got that number next.
 */


#include "ngx_http_edgespan.h"

#include <pthread.h>
#include <sys/eventfd.h>


#define NGX_HTTP_EDGESPAN_LOG_LINES  32
#define NGX_HTTP_EDGESPAN_LOG_LEN    512


typedef struct {
    es_log_level_t      level;
    char                text[NGX_HTTP_EDGESPAN_LOG_LEN];
} ngx_http_edgespan_log_line_t;


static void ngx_http_edgespan_log_handler(ngx_event_t *ev);
static void ngx_http_edgespan_log_flush(ngx_log_t *log);


/* by es_log_level_t */

const ngx_uint_t  ngx_http_edgespan_log_levels[] = {
    NGX_LOG_ERR, NGX_LOG_WARN, NGX_LOG_NOTICE, NGX_LOG_INFO
};


static pthread_mutex_t               ngx_http_edgespan_log_lock =
                                         PTHREAD_MUTEX_INITIALIZER;

/* all under the lock */
static ngx_http_edgespan_log_line_t
                     ngx_http_edgespan_log_lines[NGX_HTTP_EDGESPAN_LOG_LINES];
static ngx_uint_t                    ngx_http_edgespan_log_count;
static ngx_uint_t                    ngx_http_edgespan_log_lost;

static ngx_connection_t             *ngx_http_edgespan_log_conn;
static int                           ngx_http_edgespan_log_fd;


ngx_int_t
ngx_http_edgespan_log_init(ngx_cycle_t *cycle)
{
    int                fd;
    ngx_event_t       *rev;
    ngx_connection_t  *c;

    fd = eventfd(0, EFD_CLOEXEC|EFD_NONBLOCK);
    if (fd == -1) {
        ngx_log_error(NGX_LOG_ERR, cycle->log, ngx_errno,
                      "edgespan: this process does not trace: "
                      "eventfd() failed");
        return NGX_ERROR;
    }

    c = ngx_get_connection(fd, cycle->log);
    if (c == NULL) {
        (void) close(fd);
        return NGX_ERROR;
    }

    c->log = cycle->log;

    rev = c->read;
    rev->log = cycle->log;
    rev->handler = ngx_http_edgespan_log_handler;

    /* no connection of a client, so that none is waited for at the exit */
    rev->channel = 1;

    if (ngx_add_event(rev, NGX_READ_EVENT, 0) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, cycle->log, 0,
                      "edgespan: this process does not trace: "
                      "its log event cannot be added");
        ngx_free_connection(c);
        (void) close(fd);
        return NGX_ERROR;
    }

    ngx_http_edgespan_log_conn = c;
    ngx_http_edgespan_log_fd = fd;

    return NGX_OK;
}


/* called by the exporter thread */

void
ngx_http_edgespan_log_write(void *data, es_log_level_t level, const char *text)
{
    uint64_t                       one = 1;
    ngx_http_edgespan_log_line_t  *line;

    (void) pthread_mutex_lock(&ngx_http_edgespan_log_lock);

    if (ngx_http_edgespan_log_count == NGX_HTTP_EDGESPAN_LOG_LINES) {
        ngx_http_edgespan_log_lost++;

    } else {
        line = &ngx_http_edgespan_log_lines[ngx_http_edgespan_log_count++];
        line->level = level;
        ngx_cpystrn((u_char *) line->text, (u_char *) text,
                    NGX_HTTP_EDGESPAN_LOG_LEN);
    }

    (void) pthread_mutex_unlock(&ngx_http_edgespan_log_lock);

    (void) !write(ngx_http_edgespan_log_fd, &one, sizeof(uint64_t));
}


static void
ngx_http_edgespan_log_handler(ngx_event_t *ev)
{
    uint64_t  count;

    (void) !read(ngx_http_edgespan_log_fd, &count, sizeof(uint64_t));

    ngx_http_edgespan_log_flush(ngx_cycle->log);
}


static void
ngx_http_edgespan_log_flush(ngx_log_t *log)
{
    ngx_uint_t                     i;
    ngx_http_edgespan_log_line_t  *line;

    (void) pthread_mutex_lock(&ngx_http_edgespan_log_lock);

    for (i = 0; i < ngx_http_edgespan_log_count; i++) {
        line = &ngx_http_edgespan_log_lines[i];
        ngx_log_error(ngx_http_edgespan_log_levels[line->level], log, 0,
                      "edgespan: %s", line->text);
    }

    if (ngx_http_edgespan_log_lost != 0) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "edgespan: %ui messages were not logged",
                      ngx_http_edgespan_log_lost);
    }

    ngx_http_edgespan_log_count = 0;
    ngx_http_edgespan_log_lost = 0;

    (void) pthread_mutex_unlock(&ngx_http_edgespan_log_lock);
}


/* after the thread has ended */

void
ngx_http_edgespan_log_done(ngx_cycle_t *cycle)
{
    ngx_http_edgespan_log_flush(cycle->log);

    ngx_close_connection(ngx_http_edgespan_log_conn);
}
