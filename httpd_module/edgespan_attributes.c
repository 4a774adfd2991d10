/* What the directives add to a span: attributes, headers, members of baggage, another
 * route. Values are evaluated when the request has ended. */

#include "mod_edgespan.h"

/* Its place before any redirect. */
static const edgespan_dir_conf_t *
asked_conf(const request_rec *r)
{
    const edgespan_request_t *request = edgespan_request_of(r);

    return request != NULL && request->asked != NULL ? request->asked : edgespan_dir_conf(r);
}

es_str_t
edgespan_route(request_rec *r)
{
    const edgespan_dir_conf_t *conf = asked_conf(r);
    const char *route = conf->route != NULL ? edgespan_evaluate(r, conf->route) : NULL;

    return es_cstr(route != NULL && *route != '\0' ? route : conf->location);
}

const es_redaction_t *
edgespan_redaction(request_rec *r)
{
    const es_redaction_t *asked = &asked_conf(edgespan_initial_request(r))->redaction;
    const es_redaction_t *here = &edgespan_dir_conf(r)->redaction;
    es_redaction_t *both;

    if (here == asked) {
        return here;
    }
    both = apr_pmemdup(r->pool, here, sizeof(*both));
    es_redaction_join(both, asked);
    return both;
}

/* Of a header with several lines each value: httpd joins those of a request, not those
 * of a response. */
static apr_array_header_t *
values_of(apr_pool_t *p, const apr_table_t *table, es_str_t name)
{
    const apr_array_header_t *headers = apr_table_elts(table);
    apr_array_header_t *values = apr_array_make(p, 1, sizeof(es_str_t));

    for (int i = 0; i < headers->nelts; i++) {
        const apr_table_entry_t *header = &APR_ARRAY_IDX(headers, i, apr_table_entry_t);

        if (strncasecmp(header->key, name.data, name.len) == 0 && header->key[name.len] == '\0') {
            APR_ARRAY_PUSH(values, es_str_t) = es_cstr(header->val);
        }
    }
    return values;
}

/* Until the header is sent, what also goes with errors is in a table of its own, and
 * the type in none. */
static apr_array_header_t *
response_values(const request_rec *last, es_str_t name)
{
    apr_array_header_t *values = values_of(last->pool, last->headers_out, name);

    if (values->nelts == 0) {
        values = values_of(last->pool, last->err_headers_out, name);
    }
    if (values->nelts == 0 && last->content_type != NULL
        && strncasecmp(name.data, "content-type", name.len) == 0
        && name.len == sizeof("content-type") - 1) {
        APR_ARRAY_PUSH(values, es_str_t) = es_cstr(last->content_type);
    }
    return values;
}

static void
add_user_attributes(request_rec *last, apr_array_header_t *attributes)
{
    const apr_array_header_t *list = edgespan_dir_conf(last)->attributes;

    for (int i = 0; list != NULL && i < list->nelts; i++) {
        const edgespan_attribute_t *attribute = &APR_ARRAY_IDX(list, i, edgespan_attribute_t);

        APR_ARRAY_PUSH(attributes, es_attribute_t) = (es_attribute_t){
            .key = es_cstr(attribute->key),
            .value = es_cstr(edgespan_evaluate(last, attribute->value)),
            .type = attribute->type,
        };
    }
}

static bool
has_key(const apr_array_header_t *attributes, es_str_t key)
{
    for (int i = 0; i < attributes->nelts; i++) {
        es_str_t other = APR_ARRAY_IDX(attributes, i, es_attribute_t).key;

        if (other.len == key.len && memcmp(other.data, key.data, key.len) == 0) {
            return true;
        }
    }
    return false;
}

/* The first of a key counts. */
static void
add_captures(const request_rec *r, const request_rec *last, const es_redaction_t *redaction,
             apr_array_header_t *attributes)
{
    const apr_array_header_t *list = edgespan_dir_conf(last)->captures;

    for (int i = 0; list != NULL && i < list->nelts; i++) {
        const es_capture_t *capture = &APR_ARRAY_IDX(list, i, es_capture_t);
        apr_array_header_t *values;

        if (has_key(attributes, capture->key)) {
            continue;
        }
        values = capture->response ? response_values(last, capture->name)
                                   : values_of(last->pool, r->headers_in, capture->name);
        if (values->nelts != 0) {
            APR_ARRAY_PUSH(attributes, es_attribute_t) = es_capture_attribute(
                capture, redaction, (es_str_t *) values->elts, (unsigned) values->nelts);
        }
    }
}

void
edgespan_set_attributes(const request_rec *r, request_rec *last, const es_trace_t *trace,
                        es_http_t *http)
{
    const apr_array_header_t *keys = edgespan_dir_conf(last)->baggage_keys;
    apr_array_header_t *attributes = apr_array_make(last->pool, 8, sizeof(es_attribute_t));
    int count;

    add_user_attributes(last, attributes);
    add_captures(r, last, http->redaction, attributes);
    count = attributes->nelts;
    if (keys != NULL && trace->baggage.len != 0) {
        const es_names_t names = {(const es_str_t *) keys->elts, (unsigned) keys->nelts};

        for (int i = 0; i < keys->nelts; i++) {
            APR_ARRAY_PUSH(attributes, es_attribute_t) = (es_attribute_t){0};
        }
        count = (int) es_trace_baggage_attributes(
            trace, &names, (es_attribute_t *) attributes->elts, (unsigned) count);
    }
    http->attributes = (const es_attribute_t *) attributes->elts;
    http->attributes_count = (unsigned) count;
}
