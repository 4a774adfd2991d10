/* The status pages: their two formats, which of them is asked for, and by whom. */

#include "unit_status.h"

#include <arpa/inet.h>
#include <sys/un.h>

/* -------------------------------------------------------------- pages --- */

/* Lines of the tree, in order: "path" or "path value" for what does not change. */
static void
check_lines(const char **text, const char *path, json_t *value)
{
    char below[128];
    const char *key, *end;
    json_t *member;
    size_t i;

    if (json_is_object(value)) {
        json_object_foreach(value, key, member)
        {
            snprintf(below, sizeof(below), "%s%s%s", path, *path != '\0' ? "." : "", key);
            check_lines(text, below, member);
        }
        return;
    }
    if (json_is_array(value)) {
        json_array_foreach(value, i, member)
        {
            snprintf(below, sizeof(below), "%s.%zu", path, i);
            check_lines(text, below, member);
        }
        return;
    }
    *text += **text == '\n';
    end = strchr(*text, '\n');
    assert_non_null(end);
    assert_int_equal(strncmp(*text, path, strlen(path)), 0);
    assert_int_equal((*text)[strlen(path)], ' ');
    if (json_is_integer(value)) {
        assert_int_equal(strtoll(*text + strlen(path), NULL, 10), json_integer_value(value));
    }
    *text = end + 1;
}

static char *
page(const server_t *server, es_status_format_t format)
{
    size_t length;
    char *text = es_status(server->generation, format, &length), *copy;

    assert_non_null(text);
    copy = strndup(text, length);
    free(text);
    return copy;
}

static void
pages(void **state)
{
    void *stats = unit_area(es_stats_area_size());
    server_t server = configure(stats, "http://user:hunter2@127.0.0.1:4318/tr\xe4"
                                       "ces\n?api-key=hunter2");
    es_exporter_stats_t *exporter = &((es_stats_t *) stats)->exporters[0];
    char *json, *text;
    const char *at;
    json_t *root;

    (void) state;
    es_last_error_set(&exporter->last_error, "their words: \"no\"\r\n\x1b[31m \xff and \xc3\xa9");
    es_stats_add(&exporter->sent, 123456789012345);
    es_stats_add(&exporter->dropped[ES_DROP_REJECTED], 7);

    json = page(&server, ES_STATUS_JSON);
    text = page(&server, ES_STATUS_TEXT);
    root = json_loads(json, 0, NULL);
    assert_non_null(root);
    at = text;
    check_lines(&at, "", root);
    assert_int_equal(*at, '\0');

    assert_non_null(strstr(text, "their words: \"no\"   [31m \xef\xbf\xbd and \xc3\xa9\n"));
    assert_non_null(strstr(text, "exporters.0.sent_spans                   123456789012345\n"));
    assert_non_null(strstr(text, "spans.dropped.rejected                   7\n"));
    assert_non_null(strstr(text, "leader.pid                               -\n"));
    assert_null(strstr(text, "hunter2"));
    assert_null(strstr(json, "hunter2"));

    json_decref(root);
    free(json);
    free(text);
    dispose(&server);
    free(stats);
}

/* ----------------------------------------------------------- requests --- */

static void
formats(void **state)
{
    static const struct {
        const char *query, *accept;
        es_status_format_t format;
    } rows[] = {
        {NULL, NULL, ES_STATUS_TEXT},
        {"", "*/*", ES_STATUS_TEXT},
        {"format=json", NULL, ES_STATUS_JSON},
        {"x=1&format=json", "text/plain", ES_STATUS_JSON},
        {"format=text", "application/json", ES_STATUS_TEXT},
        {"format=xml", NULL, ES_STATUS_TEXT},
        {"format=xml", "application/json", ES_STATUS_JSON},
        {"xformat=json", NULL, ES_STATUS_TEXT},
        {"&&", NULL, ES_STATUS_TEXT},
        {NULL, "application/json", ES_STATUS_JSON},
        {NULL, "Application/JSON; charset=utf-8", ES_STATUS_JSON},
        {NULL, "application/json, text/plain, */*", ES_STATUS_JSON},
        {NULL, "text/html,application/xhtml+xml,*/*;q=0.8", ES_STATUS_TEXT},
        {NULL, "application/json;q=0, */*", ES_STATUS_TEXT},
        {NULL, "application/json ; q=0.000", ES_STATUS_TEXT},
        {NULL, "application/json;q=0.5", ES_STATUS_JSON},
        {NULL, "application/jsonx", ES_STATUS_TEXT},
        {NULL, ",;,", ES_STATUS_TEXT},
    };
    es_status_format_t format;
    es_error_t error;

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_str_t query = unit_exact(es_cstr(rows[i].query));
        es_str_t accept = unit_exact(es_cstr(rows[i].accept));

        if (es_status_choose(query, accept) != rows[i].format) {
            fail_msg("row %zu", i);
        }
        unit_free(query);
        unit_free(accept);
    }
    assert_true(es_parse_status_format(ES_STR("json"), &format, &error));
    assert_int_equal(format, ES_STATUS_JSON);
    assert_false(es_parse_status_format(ES_STR("xml"), &format, &error));
    assert_string_equal(error.text, "invalid format \"xml\": it is \"text\" or \"json\"");
}

static void
peers(void **state)
{
    static const struct {
        int family;
        const char *address;
        bool local;
    } rows[] = {
        {AF_INET, "127.0.0.1", true},
        {AF_INET, "127.255.0.9", true},
        {AF_INET, "128.0.0.1", false},
        {AF_INET, "10.0.0.1", false},
        {AF_INET, "0.0.0.0", false},
        {AF_INET6, "::1", true},
        {AF_INET6, "::", false},
        {AF_INET6, "fe80::1", false},
        {AF_INET6, "::ffff:127.0.0.1", true},
        {AF_INET6, "::ffff:10.0.0.1", false},
        {AF_INET6, "::127.0.0.1", false},
    };
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr none = {.sa_family = AF_UNSPEC};

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        struct sockaddr_in in = {.sin_family = AF_INET};
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
        bool v4 = rows[i].family == AF_INET;

        assert_int_equal(inet_pton(rows[i].family, rows[i].address,
                                   v4 ? (void *) &in.sin_addr : (void *) &in6.sin6_addr),
                         1);
        if (es_is_local_peer(v4 ? (struct sockaddr *) &in : (struct sockaddr *) &in6)
            != rows[i].local) {
            fail_msg("%s", rows[i].address);
        }
    }
    assert_true(es_is_local_peer((struct sockaddr *) &un));
    assert_false(es_is_local_peer(&none));

    assert_true(es_is_forwarding_header(ES_STR("x-forwarded-FOR")));
    assert_true(es_is_forwarding_header(ES_STR("forwarded")));
    assert_false(es_is_forwarding_header(ES_STR("X-Forwarded-Fo")));
    assert_false(es_is_forwarding_header(ES_STR("Host")));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages),
        cmocka_unit_test(formats),
        cmocka_unit_test(peers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
