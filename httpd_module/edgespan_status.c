/* What tracing did so far: SetHandler otel-status, and a few lines in mod_status' page.
 *
 * The handler answers only who is on this machine, unless the section that sets the
 * handler says who may see it. Rules from elsewhere do not count: nearly every
 * DocumentRoot says "Require all granted", and means its files. */

#include "mod_edgespan.h"

#include "mod_status.h"

#include <stdlib.h>

/* ------------------------------------------------------- configuration --- */

static int
is_access_rule(const char *directive)
{
    static const char *const rules[] = {"Require", "<RequireAll", "<RequireAny"};

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (strcasecmp(directive, rules[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

/* mod_access_compat lets everybody in whom no line names, unless one of these two
 * says otherwise: "Allow" alone closes nothing. */
static int
closes(const ap_directive_t *directive)
{
    return (strcasecmp(directive->directive, "Order") == 0
            && strcasecmp(directive->args, "allow,deny") == 0)
           || (strcasecmp(directive->directive, "Deny") == 0
               && strcasecmp(directive->args, "from all") == 0);
}

/* Whole sections are read before their directives are carried out. */
static int
section_has_rules(const ap_directive_t *section)
{
    const ap_directive_t *directive = section != NULL ? section->first_child : NULL;
    int allow = 0, closed = 0;

    for (; directive != NULL; directive = directive->next) {
        if (is_access_rule(directive->directive)) {
            return 1;
        }
        allow |= strcasecmp(directive->directive, "Allow") == 0;
        closed |= closes(directive);
    }
    return allow && closed;
}

const char *
edgespan_set_handler(cmd_parms *cmd, void *dir_conf, const char *args)
{
    edgespan_dir_conf_t *conf = dir_conf;

    if (strcasecmp(ap_getword_conf(cmd->temp_pool, &args), EDGESPAN_STATUS_HANDLER) != 0) {
        conf->status = EDGESPAN_STATUS_OFF;
        return NULL;
    }
    conf->status =
        section_has_rules(cmd->directive->parent) ? EDGESPAN_STATUS_RULES : EDGESPAN_STATUS_LOCAL;
    if (ap_check_cmd_context(cmd, NOT_IN_HTACCESS) == NULL) {
        edgespan_process.used = 1;
    }
    return NULL;
}

/* -------------------------------------------------------------- request --- */

static int
is_local_address(const apr_sockaddr_t *address)
{
    return es_is_local_peer((const struct sockaddr *) &address->sa);
}

/* A peer on this machine that asks for itself, and not for another. mod_remoteip
 * changes the second address, never the first. */
static int
is_local(const request_rec *r)
{
    const apr_array_header_t *headers = apr_table_elts(r->headers_in);

    if (!is_local_address(r->connection->client_addr) || !is_local_address(r->useragent_addr)) {
        return 0;
    }
    for (int i = 0; i < headers->nelts; i++) {
        if (es_is_forwarding_header(es_cstr(APR_ARRAY_IDX(headers, i, apr_table_entry_t).key))) {
            return 0;
        }
    }
    return 1;
}

int
edgespan_status_handler(request_rec *r)
{
    es_status_format_t format;
    size_t length;
    char *text;

    if (r->handler == NULL || strcmp(r->handler, EDGESPAN_STATUS_HANDLER) != 0) {
        return DECLINED;
    }

    /* httpd itself has asked the rules; those of a subrequest are its parent's. */
    if (edgespan_dir_conf(r)->status != EDGESPAN_STATUS_RULES && !is_local(r)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "edgespan: " EDGESPAN_STATUS_HANDLER " is only for this machine, unless "
                      "its section says by Require who may see it");
        return HTTP_FORBIDDEN;
    }
    r->allowed |= AP_METHOD_BIT << M_GET;
    if (r->method_number != M_GET) {
        return HTTP_METHOD_NOT_ALLOWED;
    }
    if (edgespan_process.generation == NULL) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "edgespan: " EDGESPAN_STATUS_HANDLER " has nothing to show: tracing did not "
                      "begin, or nothing in the server's configuration asks for it");
        return HTTP_SERVICE_UNAVAILABLE;
    }

    format = es_status_choose(es_cstr(r->args), es_cstr(apr_table_get(r->headers_in, "Accept")));
    text = es_status(edgespan_process.generation, format, &length);
    if (text == NULL) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    ap_set_content_type(r, es_status_content_type(format));
    ap_set_content_length(r, (apr_off_t) length);
    apr_table_setn(r->headers_out, "Cache-Control", "no-store");
    if (!r->header_only) {
        ap_rwrite(text, (int) length, r);
    }
    free(text);
    return OK;
}

/* ---------------------------------------------------------- mod_status --- */

/* The facts that tell whether all is well; the others are what the handler is for. */
static bool
is_short(const char *name)
{
    static const char *const names[] = {"spans.started", "spans.sampled", "spans.dropped.",
                                        "queue.fill_percent"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strncmp(name, names[i], strlen(names[i])) == 0) {
            return true;
        }
    }
    return strncmp(name, "exporters.", sizeof("exporters.") - 1) == 0
           && (strstr(name, ".state") != NULL || strstr(name, ".sent_spans") != NULL);
}

/* Whoever may see mod_status' page may see this. */
int
edgespan_server_status(request_rec *r, int flags)
{
    const int machine = flags & AP_STATUS_SHORT;
    char *text, *line, *next;
    size_t length;

    if (edgespan_process.generation == NULL
        || (text = es_status(edgespan_process.generation, ES_STATUS_TEXT, &length)) == NULL) {
        return OK;
    }
    if (!machine) {
        ap_rputs("<hr />\n<h2>Edgespan</h2>\n<table border=\"0\">\n", r);
    }
    for (line = apr_pstrmemdup(r->pool, text, length); (next = strchr(line, '\n')) != NULL;
         line = next + 1) {
        char *value = strchr(line, ' ');

        *next = '\0';
        if (value == NULL || !is_short(line)) {
            continue;
        }
        *value++ = '\0';
        value += strspn(value, " ");
        if (machine) {
            ap_rprintf(r, "edgespan.%s: %s\n", line, value);
        } else {
            ap_rprintf(r, "<tr><td>%s</td><td>%s</td></tr>\n", line,
                       ap_escape_html(r->pool, value));
        }
    }
    if (!machine) {
        ap_rputs("</table>\n", r);
    }
    free(text);
    return OK;
}
