/* Headers of the context: read, sent on, kept from upstreams.
 *
 * What CGI, FastCGI and mod_proxy send is made of headers_in, which subrequests and
 * internal redirects share. A client that is not believed has its headers taken out
 * as soon as it is known which server it is for: whatever runs from there on, be it
 * RequestHeader or an authorizer, finds none of them. */

#include "mod_edgespan.h"

/* --------------------------------------------------------------- trust --- */

static es_trust_t
trust_by_value(request_rec *r, const char *value)
{
    es_trust_t trust;
    es_error_t error;

    if (value != NULL && es_parse_trust(es_cstr(value), &trust, &error)) {
        return trust;
    }
    ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                  "edgespan: the variable of OtelTrustContext gives \"%s\", which is none of "
                  "\"on\", \"off\" and \"link\": the client is not believed",
                  value != NULL ? ap_escape_logitem(r->pool, value) : "");
    return ES_TRUST_OFF;
}

es_trust_t
edgespan_trust(request_rec *r)
{
    const edgespan_server_conf_t *conf = edgespan_server_conf(r);

    if (conf->trust_choice.expr != NULL) {
        return trust_by_value(r, edgespan_choose(r, &conf->trust_choice));
    }
    return conf->trust == EDGESPAN_UNSET ? ES_TRUST_ON : (es_trust_t) conf->trust;
}

/* ------------------------------------------------------------- removing --- */

/* NULL: those of all formats. The table stays the same, because others share it. It
 * is built anew: to take out one by one would take the square of their number. */
static void
remove_headers(request_rec *r, const es_trace_t *trace)
{
    const apr_array_header_t *headers = apr_table_elts(r->headers_in);
    int i;

    for (i = 0; i < headers->nelts; i++) {
        if (es_trace_removes(trace, es_cstr(APR_ARRAY_IDX(headers, i, apr_table_entry_t).key))) {
            break;
        }
    }
    if (i == headers->nelts) {
        return;
    }
    headers = apr_array_copy(r->pool, headers);
    apr_table_clear(r->headers_in);
    for (i = 0; i < headers->nelts; i++) {
        const apr_table_entry_t *header = &APR_ARRAY_IDX(headers, i, apr_table_entry_t);

        if (!es_trace_removes(trace, es_cstr(header->key))) {
            apr_table_addn(r->headers_in, header->key, header->val);
        }
    }
}

void
edgespan_remove_context(request_rec *r)
{
    remove_headers(r, NULL);
}

/* -------------------------------------------------------------- joining --- */

static void
read_headers(const request_rec *r, es_carrier_t *carrier)
{
    const apr_array_header_t *headers = apr_table_elts(r->headers_in);

    for (int i = 0; i < headers->nelts; i++) {
        const apr_table_entry_t *header = &APR_ARRAY_IDX(headers, i, apr_table_entry_t);

        es_carrier_add(carrier, es_cstr(header->key), es_cstr(header->val));
    }
}

void
edgespan_join(request_rec *r, es_trace_t *trace, es_trust_t trust, unsigned mode)
{
    const es_propagation_t *propagation = &edgespan_server_conf(r)->propagation;
    es_carrier_t carrier;

    if (trust != ES_TRUST_OFF && (mode & ES_CONTEXT_EXTRACT)) {
        es_carrier_init(&carrier, trace, propagation);
        read_headers(r, &carrier);
        es_trace_join(trace, propagation, trust, &carrier);
    } else {
        es_trace_join(trace, propagation, trust, NULL);
    }
    if (trust != ES_TRUST_ON) {
        edgespan_remove_context(r);
    }
}

/* ------------------------------------------------------------ injecting --- */

/* The next name of a list; NULL: no more. */
static const char *
next_name(const char *list, size_t *len)
{
    list += strspn(list, ", \t");
    *len = strcspn(list, ", \t");
    return *len != 0 ? list : NULL;
}

static bool
has_header(const es_header_t *headers, unsigned count, const char *name, size_t len)
{
    for (unsigned i = 0; i < count; i++) {
        if (headers[i].name.len == len && strncasecmp(headers[i].name.data, name, len) == 0) {
            return true;
        }
    }
    return false;
}

/* mod_proxy takes out what the client's Connection names. That means the headers
 * which came from there, not ours of the same name. */
static void
remove_from_connection(request_rec *r, const es_header_t *headers, unsigned count)
{
    const char *list = apr_table_get(r->headers_in, "Connection"), *name;
    char *rest, *end;
    size_t len;

    for (name = list; name != NULL && (name = next_name(name, &len)) != NULL; name += len) {
        if (has_header(headers, count, name, len)) {
            break;
        }
    }
    if (name == NULL) {
        return;
    }
    rest = end = apr_palloc(r->pool, strlen(list) + 1);
    for (name = list; (name = next_name(name, &len)) != NULL; name += len) {
        if (!has_header(headers, count, name, len)) {
            if (end != rest) {
                *end++ = ',';
            }
            memcpy(end, name, len);
            end += len;
        }
    }
    *end = '\0';
    apr_table_setn(r->headers_in, "Connection", rest);
}

void
edgespan_inject(request_rec *r, const es_trace_t *trace, const uint8_t *span_id)
{
    es_header_t headers[ES_INJECT_MAX];
    unsigned count = es_trace_inject(trace, span_id, headers);

    remove_headers(r, trace);
    remove_from_connection(r, headers, count);
    for (unsigned i = 0; i < count; i++) {
        apr_table_setn(r->headers_in, headers[i].name.data,
                       apr_pstrmemdup(r->pool, headers[i].value.data, headers[i].value.len));
    }
}
