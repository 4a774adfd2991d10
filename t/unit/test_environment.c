/* OTEL_* variables: what they mean, and that a bad one costs a warning only. */

#include "unit_environment.h"

#include "es_propagator.h"
#include "es_protocol.h"
#include "es_sampler.h"

#include <unistd.h>

/* ----------------------------------------------------------- exporter --- */

static void
numbers(void **state)
{
    const es_exporter_config_t *e;

    (void) state;
    given(O "ENDPOINT=http://c", O "TIMEOUT=2000", "OTEL_BSP_SCHEDULE_DELAY=1500",
          "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=64", O "COMPRESSION=GZIP", NULL);
    e = alone();
    assert_int_equal(e->timeout_ns, 2000 * MS);
    assert_int_equal(e->interval_ns, 1500 * MS);
    assert_int_equal(e->batch_size, 64);
    assert_true(e->batch_size_given);
    assert_true(e->gzip);
    unit_is_not_said("warn");

    given(O "ENDPOINT=http://c", NULL);
    e = alone();
    assert_int_equal(e->timeout_ns, 10000 * MS);
    assert_int_equal(e->interval_ns, 5000 * MS);
    assert_false(e->batch_size_given);

    given(O "ENDPOINT=http://c", O "TRACES_TIMEOUT=300", O "TIMEOUT=400",
          O "TRACES_COMPRESSION=none", O "COMPRESSION=gzip", NULL);
    assert_int_equal(alone()->timeout_ns, 300 * MS);
    assert_false(config->exporters[0]->gzip);

    /* 0 is no limit: the largest that there is. */
    given(O "ENDPOINT=http://c", O "TIMEOUT=0", NULL);
    assert_int_equal(alone()->timeout_ns, 600000 * MS);
    given(O "ENDPOINT=http://c", O "TIMEOUT=0", "OTEL_BSP_EXPORT_TIMEOUT=700", NULL);
    assert_int_equal(alone()->timeout_ns, 700 * MS);
    given(O "ENDPOINT=http://c", "OTEL_BSP_EXPORT_TIMEOUT=0", NULL);
    assert_int_equal(alone()->timeout_ns, 10000 * MS);
}

static void
bad_values(void **state)
{
    static const char *const bad[][2] = {
        {O "TIMEOUT=-1", "OTEL_EXPORTER_OTLP_TIMEOUT \"-1\" is ignored: it takes milliseconds "
                         "from 10 to 600000"},
        {O "TRACES_TIMEOUT=10s", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT \"10s\" is ignored"},
        {O "TIMEOUT=99999999999999999999", "OTEL_EXPORTER_OTLP_TIMEOUT "},
        {O "PROTOCOL=http", "OTEL_EXPORTER_OTLP_PROTOCOL \"http\" is ignored: it takes \"grpc\", "
                            "\"http/protobuf\" or \"http/json\""},
        {O "COMPRESSION=zstd", "OTEL_EXPORTER_OTLP_COMPRESSION \"zstd\" is ignored: it takes "
                               "\"gzip\" or \"none\""},
        {O "CERTIFICATE=/nonexistent", "OTEL_EXPORTER_OTLP_CERTIFICATE is ignored: /nonexistent "
                                       "cannot be read"},
        {O "CLIENT_KEY=/nonexistent", "OTEL_EXPORTER_OTLP_CLIENT_KEY is ignored: "},
        {O "INSECURE=yes", "OTEL_EXPORTER_OTLP_INSECURE \"yes\" is ignored"},
        {"OTEL_BSP_SCHEDULE_DELAY=0", "OTEL_BSP_SCHEDULE_DELAY \"0\" is ignored: it takes "
                                      "milliseconds from 1 to 3600000"},
        {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE=0", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE \"0\" is ignored"},
        {"OTEL_SDK_DISABLED=1", "OTEL_SDK_DISABLED \"1\" is ignored: it takes \"true\" or "
                                "\"false\""},
        {"OTEL_TRACES_SAMPLER=sometimes", "OTEL_TRACES_SAMPLER is ignored: invalid sampler "
                                          "\"sometimes\": it is \"always_on\", "},
        {"OTEL_TRACES_SAMPLER=jaeger_remote", "OTEL_TRACES_SAMPLER is ignored: sampler "
                                              "\"jaeger_remote\" is not supported: it asks a "
                                              "Jaeger collector: "},
        {"OTEL_TRACES_SAMPLER=parentbased_jaeger_remote", "OTEL_TRACES_SAMPLER is ignored: "},
        {"OTEL_TRACES_SAMPLER=xray", "OTEL_TRACES_SAMPLER is ignored: sampler \"xray\" is not "
                                     "supported: it asks AWS X-Ray: "},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        const es_exporter_config_t *e;
        char words[256];

        given(O "ENDPOINT=http://c", bad[i][0], NULL);
        e = alone();
        assert_int_equal(e->timeout_ns, 10000 * MS);
        assert_int_equal(e->interval_ns, 5000 * MS);
        assert_int_equal(e->batch_size, 512);
        assert_false(e->gzip);
        assert_string_equal(e->protocol->name, "http/protobuf");
        snprintf(words, sizeof(words), "warn: %s", bad[i][1]);
        unit_is_said(words);
        assert_null(strstr(strstr(unit_said, "warn") + 1, "warn")); /* once */
    }
    given(O "ENDPOINT=http://c", "OTEL_BSP_MAX_QUEUE_SIZE=100", "OTEL_CONFIG_FILE=x", NULL);
    alone();
    unit_is_said("notice: OTEL_BSP_MAX_QUEUE_SIZE has no effect: the queue is bounded in bytes");
    unit_is_said("notice: OTEL_CONFIG_FILE has no effect");
}

static void
limits(void **state)
{
    const es_span_limits_t *l;

    (void) state;
    given(O "ENDPOINT=http://c", NULL);
    l = &alone()->config->span_limits;
    assert_memory_equal(l, &es_span_limits, sizeof(*l));

    /* The general one where there is none of its own, whichever is lower. */
    given(O "ENDPOINT=http://c", "OTEL_ATTRIBUTE_COUNT_LIMIT=10",
          "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT=0", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=20",
          "OTEL_SPAN_EVENT_COUNT_LIMIT=3", "OTEL_SPAN_LINK_COUNT_LIMIT=0",
          "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT=7", NULL);
    l = &alone()->config->span_limits;
    assert_int_equal(l->count[ES_STAGE_ATTRIBUTES], 20);
    assert_int_equal(l->count[ES_STAGE_EVENTS], 3);
    assert_int_equal(l->count[ES_STAGE_LINKS], 0);
    assert_int_equal(l->item_attributes[ES_STAGE_EVENTS], 10);
    assert_int_equal(l->item_attributes[ES_STAGE_LINKS], 7);
    assert_int_equal(l->value, 0);

    given(O "ENDPOINT=http://c", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=129",
          "OTEL_SPAN_EVENT_COUNT_LIMIT=-1", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT=5000", NULL);
    l = &alone()->config->span_limits;
    assert_memory_equal(l, &es_span_limits, sizeof(*l));
    unit_is_said(
        "notice: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT \"129\": 128 is the largest that there is");
    unit_is_said(
        "notice: OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT \"5000\": 4096 is the largest that "
        "there is");
    unit_is_said("warn: OTEL_SPAN_EVENT_COUNT_LIMIT \"-1\" is ignored: it takes a number from 0");
}

static void
headers(void **state)
{
    static const char *const bad[] = {"a", "a=%zz", "a b=c", "a=b%0a", "=b", "a=b,c"};
    const es_exporter_config_t *e;

    (void) state;
    given(O "ENDPOINT=http://c",
          O "HEADERS=Authorization=Bearer%20s3cret, x-b = c%2Cd ,,x-empty=,x-eq=a=b", NULL);
    e = alone();
    assert_int_equal(e->headers_count, 4);
    assert_string_equal(e->headers[0], "Authorization: Bearer s3cret");
    assert_string_equal(e->headers[1], "x-b: c,d");
    assert_string_equal(e->headers[2], "x-empty;");
    assert_string_equal(e->headers[3], "x-eq: a=b");
    unit_is_not_said("s3cret");

    given(O "ENDPOINT=http://c", O "TRACES_HEADERS=a=1", O "HEADERS=b=2", NULL);
    assert_int_equal(alone()->headers_count, 1);
    assert_string_equal(config->exporters[0]->headers[0], "a: 1");

    for (size_t i = 0; i < UNIT_COUNT(bad); i++) {
        char variable[64];

        snprintf(variable, sizeof(variable), O "HEADERS=s3=cret,%s", bad[i]);
        given(O "ENDPOINT=http://c", variable, NULL);
        assert_int_equal(alone()->headers_count, 0);
        unit_is_said("warn: OTEL_EXPORTER_OTLP_HEADERS is ignored: it takes name=value pairs");
        unit_is_not_said("cret,");
    }
}

static void
certificates(void **state)
{
    static const char pem[] = "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n";
    char path[] = "/tmp/edgespan-unit-XXXXXX", ca[80], certificate[80], key[80];
    int fd = mkstemp(path);

    (void) state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, pem, sizeof(pem) - 1), sizeof(pem) - 1);
    close(fd);
    snprintf(ca, sizeof(ca), O "CERTIFICATE=%s", path);
    snprintf(certificate, sizeof(certificate), O "CLIENT_CERTIFICATE=%s", path);
    snprintf(key, sizeof(key), O "TRACES_CLIENT_KEY=%s", path);

    given(O "ENDPOINT=https://c", ca, certificate, key, NULL);
    assert_int_equal(alone()->tls.trusted_certificate.size, sizeof(pem) - 1);
    assert_int_equal(config->exporters[0]->tls.client_certificate.size, sizeof(pem) - 1);
    assert_memory_equal(config->exporters[0]->tls.client_certificate_key.data, pem,
                        sizeof(pem) - 1);
    unit_is_not_said("warn");

    given(O "ENDPOINT=https://c", certificate, NULL);
    assert_int_equal(alone()->tls.client_certificate.size, 0);
    unit_is_said(
        "warn: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY are "
        "ignored: one is missing");
    clear(NULL);
    unlink(path);
}

/* ------------------------------------------- sampling and propagation --- */

static void
sampler(void **state)
{
    static const struct {
        const char *sampler, *argument, *name;
        uint64_t threshold;
        bool warned;
    } cases[] = {
        {"=", "_ARG=0.5", "parentbased_always_on", 0, false},
        {"=parentbased_always_on", "_ARG=0.5", "parentbased_always_on", 0, false},
        {"=ParentBased_Always_Off", "_ARG=", "parentbased_always_off", 0, false},
        {"=parentbased_traceidratio", "_ARG=0.25", "parentbased_traceidratio",
         ES_THRESHOLD_NEVER / 4 * 3, false},
        {"=parentbased_traceidratio", "_ARG=", "parentbased_traceidratio", 0, false},
        {"=parentbased_traceidratio", "_ARG=0", "parentbased_traceidratio", ES_THRESHOLD_NEVER,
         false},
        {"=parentbased_traceidratio", "_ARG=25%", "parentbased_traceidratio", 0, true},
        {"=parentbased_traceidratio", "_ARG=2", "parentbased_traceidratio", 0, true},
        {"=always_on", "_ARG=endpoint=x", "always_on", 0, false},
        {"=always_off", "_ARG=", "always_off", 0, false},
        {"=traceidratio", "_ARG=0.5", "traceidratio", ES_THRESHOLD_NEVER / 2, false},
        {"=traceidratio", "_ARG=often", "traceidratio", 0, true},
        {"=xray", "_ARG=0.5", "parentbased_always_on", 0, true},
        {"=parentbased_jaeger_remote", "_ARG=endpoint=x", "parentbased_always_on", 0, true},
    };
    char name[64], argument[64];

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        snprintf(name, sizeof(name), "OTEL_TRACES_SAMPLER%s", cases[i].sampler);
        snprintf(argument, sizeof(argument), "OTEL_TRACES_SAMPLER%s", cases[i].argument);
        given(name, argument, NULL);
        finish();
        unit_assert_str(es_samplers[config->sampling.sampler].name, cases[i].name);
        assert_int_equal(config->sampling.threshold, cases[i].threshold);
        assert_int_equal(strstr(unit_said, "warn: OTEL_TRACES_SAMPLER") != NULL, cases[i].warned);
    }
}

/* The propagators that count, "b3 tracecontext". */
static const char *
propagation_of(const es_propagation_t *propagation)
{
    static char names[128];
    size_t at = 0;

    names[0] = '\0';
    for (unsigned i = 0; i < propagation->count; i++) {
        at += (size_t) snprintf(names + at, sizeof(names) - at, "%s%s", i != 0 ? " " : "",
                                es_propagators[propagation->propagators[i]]->name);
    }
    return names;
}

static void
propagators(void **state)
{
    static const struct {
        const char *variable, *names, *log;
    } rows[] = {
        {"A=", "tracecontext baggage", NULL},
        {"OTEL_PROPAGATORS=", "tracecontext baggage", NULL},
        {"OTEL_PROPAGATORS=tracecontext, baggage", "tracecontext baggage", NULL},
        {"OTEL_PROPAGATORS= b3 ,TraceContext", "b3 tracecontext", NULL},
        {"OTEL_PROPAGATORS=xray,jaeger,b3multi,b3", "xray jaeger b3multi b3", NULL},
        {"OTEL_PROPAGATORS=b3,b3,,b3", "b3", NULL},
        {"OTEL_PROPAGATORS=none", "", NULL},
        {"OTEL_PROPAGATORS=ottrace,b3", "b3",
         "warn: OTEL_PROPAGATORS: unknown propagator \"ottrace\": there are \"tracecontext\", "
         "\"baggage\", \"b3\", \"b3multi\", \"jaeger\", \"xray\", \"none\""},
        {"OTEL_PROPAGATORS=b4", "tracecontext baggage", "unknown propagator \"b4\""},
        {"OTEL_PROPAGATORS=none,b3", "tracecontext baggage",
         "warn: OTEL_PROPAGATORS is ignored: \"none\" stands alone"},

        /* A value writes no line of its own. */
        {"OTEL_PROPAGATORS=b3\nwarn: forged", "tracecontext baggage", "\"b3 warn: forged\""},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        given(rows[i].variable, NULL);
        finish();
        assert_string_equal(propagation_of(&config->propagation), rows[i].names);
        if (rows[i].log != NULL) {
            unit_is_said(rows[i].log);
        } else {
            assert_string_equal(unit_said, "");
        }
    }
}

/* The directive wins, whichever is read first. */
static void
semconv(void **state)
{
    static const struct {
        const char *variable;
        es_semconv_t semconv;
    } rows[] = {
        {"A=", ES_SEMCONV_STABLE},
        {"OTEL_SEMCONV_STABILITY_OPT_IN=http", ES_SEMCONV_STABLE},
        {"OTEL_SEMCONV_STABILITY_OPT_IN=http/dup", ES_SEMCONV_BOTH},
        {"OTEL_SEMCONV_STABILITY_OPT_IN=database/dup, http/dup ,http", ES_SEMCONV_BOTH},
        {"OTEL_SEMCONV_STABILITY_OPT_IN=database/dup,rpc", ES_SEMCONV_STABLE},
    };
    es_error_t error;

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        given(rows[i].variable, NULL);
        finish();
        assert_int_equal(config->semconv, rows[i].semconv);
        assert_string_equal(unit_said, "");
    }
    given("OTEL_SEMCONV_STABILITY_OPT_IN=http/dup", NULL);
    assert_true(es_config_semconv(config, ES_STR("old"), &error));
    finish();
    assert_int_equal(config->semconv, ES_SEMCONV_OLD);
    given("OTEL_SEMCONV_STABILITY_OPT_IN=http/dup", NULL);
    assert_true(es_config_enabled(config));
    assert_true(es_config_semconv(config, ES_STR("stable"), &error));
    finish();
    assert_int_equal(config->semconv, ES_SEMCONV_STABLE);
}

static void
disabled(void **state)
{
    (void) state;
    given("OTEL_SDK_DISABLED=True", NULL);
    assert_false(es_config_enabled(config));
    unit_is_said("notice: OTEL_SDK_DISABLED is true");
    given("OTEL_SDK_DISABLED=false", NULL);
    assert_true(es_config_enabled(config));
    assert_string_equal(unit_said, "");
    given("A=", NULL);
    assert_true(es_config_enabled(config));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(numbers), TEST(bad_values),  TEST(limits),   TEST(headers), TEST(certificates),
        TEST(sampler), TEST(propagators), TEST(disabled), TEST(semconv),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
