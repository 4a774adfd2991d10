/* The page of a trace in a backend: otel_trace_url. */

#include "unit.h"

static es_error_t why;

static void *
allocate(void *pool, size_t size)
{
    return pool != NULL ? malloc(size) : NULL;
}

static es_trace_t
sampled(void)
{
    es_trace_t trace = {.pool = {allocate, &why}, .decided = true};

    memset(trace.span.trace_id, 0x5a, ES_TRACE_ID_LEN);
    memset(trace.span.span_id, 0xc3, ES_SPAN_ID_LEN);
    trace.span.flags = ES_FLAG_SAMPLED;
    return trace;
}

#define TRACE_ID "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"
#define SPAN_ID "c3c3c3c3c3c3c3c3"

static void
urls(void **state)
{
    static const struct {
        const char *pattern, *url;
    } vectors[] = {
        {"https://jaeger.example/trace/{trace_id}", "https://jaeger.example/trace/" TRACE_ID},
        {"HTTP://h/{trace_id}?span={span_id}&again={trace_id}#end",
         "HTTP://h/" TRACE_ID "?span=" SPAN_ID "&again=" TRACE_ID "#end"},
        {"/traces/{trace_id}", "/traces/" TRACE_ID},
        {"https://g/explore?left=%7B%22query%22:%22{trace_id}%22%7D",
         "https://g/explore?left=%7B%22query%22:%22" TRACE_ID "%22%7D"},
    };
    es_trace_t trace = sampled();

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(vectors); i++) {
        es_str_t pattern = unit_exact(es_cstr(vectors[i].pattern)), url;

        if (!es_check_trace_url(pattern, &why)) {
            fail_msg("%s", why.text);
        }
        url = es_trace_url(&trace, pattern);
        unit_assert_str(url, vectors[i].url);
        unit_free(url);
        unit_free(pattern);
    }
}

/* Nothing to see: no URL. */
static void
none(void **state)
{
    es_trace_t trace = sampled();

    (void) state;
    trace.pool.pool = NULL;
    assert_int_equal(es_trace_url(&trace, ES_STR("/{trace_id}")).len, 0);
    trace = sampled();
    trace.span.flags = 0;
    assert_int_equal(es_trace_url(&trace, ES_STR("/{trace_id}")).len, 0);
    trace = sampled();
    trace.decided = false;
    assert_int_equal(es_trace_url(&trace, ES_STR("/{trace_id}")).len, 0);
}

static void
refused(void **state)
{
    static const struct {
        const char *pattern, *error;
    } vectors[] = {
        {"https://h/", "invalid trace URL \"https://h/\": \"{trace_id}\" is to be in it"},
        {"https://h/{span_id}", "\"{trace_id}\" is to be in it"},
        {"https://h/{traceId}",
         "unknown \"{traceId}\" in a trace URL: there are \"{trace_id}\" and \"{span_id}\"; any "
         "other brace is written as \"%7B\" or \"%7D\""},
        {"https://h/{trace_id", "its character 11 is to be percent-encoded, as \"%7B\""},
        {"https://h/{trace_id}}", "its character 21 is to be percent-encoded, as \"%7D\""},
        {"https://h/?q=\"{trace_id}\"", "its character 14 is to be percent-encoded, as \"%22\""},
        {"https://h/ {trace_id}", "as \"%20\""},
        {"https://h/\xc3\xa4{trace_id}", "as \"%C3\""},
        {"", "invalid trace URL \"\": it begins with \"https://\", \"http://\" or"},
        {"{trace_id}", "it begins with"},
        {"javascript:alert({trace_id})", "it begins with"},
        {"https:/h/{trace_id}", "it begins with"},
        {"https:///{trace_id}", "it begins with"},
        {"https://", "it begins with"},
        {"jaeger.example/{trace_id}", "it begins with"},
    };
    static char much[2050];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(vectors); i++) {
        es_str_t pattern = unit_exact(es_cstr(vectors[i].pattern));

        if (es_check_trace_url(pattern, &why)) {
            fail_msg("\"%s\" is taken", vectors[i].pattern);
        }
        if (strstr(why.text, vectors[i].error) == NULL) {
            fail_msg("\"%s\" is not in \"%s\"", vectors[i].error, why.text);
        }
        unit_free(pattern);
    }
    memset(much, 'a', sizeof(much) - 1);
    memcpy(much, "/{trace_id}", 11);
    assert_false(es_check_trace_url(es_cstr(much), &why));
    assert_string_equal(why.text, "a trace URL of 2049 bytes: at most 2048 are possible");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls),
        cmocka_unit_test(none),
        cmocka_unit_test(refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
