/* OTEL_* variables: where spans go, by them alone and beside directives. */

#include "unit_environment.h"

#include "es_protocol.h"

static bool
speaks(const char *protocol)
{
    return es_protocol_find(es_cstr(protocol)) != NULL;
}

/* ---------------------------------------------------------- endpoints --- */

static void
goes_to(const char *url)
{
    const es_exporter_config_t *e = alone();

    assert_string_equal(e->targets[0].url, url);
    assert_string_equal(e->protocol->name, "http/protobuf");
    unit_is_not_said("warn");
}

static void
endpoint_urls(void **state)
{
    (void) state;

    /* The table of "Endpoint URLs for OTLP/HTTP". */
    given(O "ENDPOINT=http://c:4318", NULL);
    goes_to("http://c:4318/v1/traces");
    unit_is_said("notice: OTEL_EXPORTER_OTLP_ENDPOINT: spans go to http://c:4318/v1/traces as "
                 "http/protobuf");
    given(O "ENDPOINT=http://c:4318/", NULL);
    goes_to("http://c:4318/v1/traces");
    given(O "ENDPOINT=http://c:4318/my/", NULL);
    goes_to("http://c:4318/my/v1/traces");
    given(O "ENDPOINT=http://c:4318/my", NULL);
    goes_to("http://c:4318/my/v1/traces");
    given(O "TRACES_ENDPOINT=http://c:4318", NULL);
    goes_to("http://c:4318/");
    unit_is_said("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: ");
    given(O "TRACES_ENDPOINT=https://c/v1/traces/", NULL);
    goes_to("https://c/v1/traces/");
    given(O "TRACES_ENDPOINT=http://t/x", O "ENDPOINT=http://c:4318", NULL);
    goes_to("http://t/x");
    given(O "TRACES_ENDPOINT= ", O "ENDPOINT=http://c", NULL); /* empty is unset */
    goes_to("http://c/v1/traces");
    given("OTEL_TRACES_EXPORTER=otlp", NULL);
    goes_to("http://localhost:4318/v1/traces");

    /* A port of gRPC's changes nothing: these are OpenTelemetry's rules. */
    given(O "ENDPOINT=http://c:4317", NULL);
    goes_to("http://c:4317/v1/traces");
}

static void
bad_endpoints(void **state)
{
    (void) state;
    given(O "TRACES_ENDPOINT=ftp://s3cret", O "ENDPOINT=http://c:4318", NULL);
    assert_string_equal(alone()->targets[0].url, "http://c:4318/v1/traces");
    unit_is_said(
        "warn: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is ignored: it takes an http:// or https:// "
        "URL");
    unit_is_not_said("s3cret");

    given(O "ENDPOINT=http://h:99999", NULL);
    finish();
    assert_int_equal(config->exporters_count, 0);
    unit_is_said("warn: OTEL_EXPORTER_OTLP_ENDPOINT is ignored");

    /* Only gRPC has a form without a scheme. */
    given(O "ENDPOINT=c:4318", NULL);
    finish();
    assert_int_equal(config->exporters_count, 0);
    unit_is_said(
        "warn: OTEL_EXPORTER_OTLP_ENDPOINT is ignored: for protocol http/protobuf it takes an "
        "http:// or https:// URL");
    unit_is_not_said("has no \"endpoint\"");
}

static void
grpc(void **state)
{
    static const struct {
        const char *endpoint, *insecure, *begins;
    } cases[] = {
        {O "ENDPOINT=http://c:4317", O "INSECURE=false", "http://c:4317/"},
        {O "ENDPOINT=https://c:4317/", O "INSECURE=true", "https://c:4317/"},
        {O "ENDPOINT=c:4317", O "INSECURE=", "https://c:4317/"},
        {O "ENDPOINT=c:4317", O "INSECURE=TRUE", "http://c:4317/"},
        {O "TRACES_ENDPOINT=c:4317", O "TRACES_INSECURE=true", "http://c:4317/"},
        {"OTEL_TRACES_EXPORTER=otlp", O "INSECURE=", "http://localhost:4317/"},
    };

    (void) state;
    if (!speaks("grpc")) {
        given(O "PROTOCOL=grpc", O "ENDPOINT=http://c:4317", NULL);
        assert_string_equal(alone()->protocol->name, "http/protobuf");
        unit_is_said("warn: OTEL_EXPORTER_OTLP_PROTOCOL \"grpc\" is ignored");
        return;
    }
    for (size_t i = 0; i < UNIT_COUNT(cases); i++) {
        given(O "PROTOCOL=grpc", cases[i].endpoint, cases[i].insecure, NULL);
        assert_string_equal(alone()->protocol->name, "grpc");
        assert_memory_equal(config->exporters[0]->targets[0].url, cases[i].begins,
                            strlen(cases[i].begins));
        unit_is_not_said("warn");
    }
    given(O "PROTOCOL=grpc", O "ENDPOINT=http://c:4317/v1/traces", NULL);
    assert_string_equal(alone()->protocol->name, "grpc");
    unit_is_said("warn: the path in OTEL_EXPORTER_OTLP_ENDPOINT is ignored");
}

static void
exporters(void **state)
{
    (void) state;
    given("A=b", NULL);
    finish();
    assert_int_equal(config->exporters_count, 0);
    assert_string_equal(unit_said, "");

    given("OTEL_TRACES_EXPORTER=none", O "ENDPOINT=http://c:4318", NULL);
    finish();
    assert_int_equal(config->exporters_count, 0);

    given("OTEL_TRACES_EXPORTER=Console", NULL);
    assert_string_equal(alone()->targets[0].url, "stdout");
    assert_string_equal(config->exporters[0]->protocol->name, "file");

    given("OTEL_TRACES_EXPORTER=otlp, console", O "ENDPOINT=http://c:4318", NULL);
    finish();
    assert_int_equal(config->exporters_count, 2);
    assert_string_equal(config->exporters[0]->targets[0].url, "http://c:4318/v1/traces");
    assert_string_equal(config->exporters[1]->targets[0].url, "stdout");

    given("OTEL_TRACES_EXPORTER=jaeger", NULL);
    finish();
    assert_int_equal(config->exporters_count, 0);
    unit_is_said("warn: OTEL_TRACES_EXPORTER \"jaeger\" is ignored: it takes \"otlp\", \"zipkin\", "
                 "\"console\" or \"none\"");

    given("OTEL_TRACES_EXPORTER=zipkin", NULL);
    finish();
    if (speaks("zipkin")) {
        assert_string_equal(alone()->targets[0].url, "http://localhost:9411/api/v2/spans");
        given("OTEL_TRACES_EXPORTER=zipkin", "OTEL_EXPORTER_ZIPKIN_ENDPOINT=http://z/a",
              "OTEL_EXPORTER_ZIPKIN_TIMEOUT=77", O "TIMEOUT=88", O "HEADERS=a=b", NULL);
        assert_string_equal(alone()->targets[0].url, "http://z/a");
        assert_int_equal(config->exporters[0]->timeout_ns, 77 * MS);
        assert_int_equal(config->exporters[0]->headers_count, 0);
    } else {
        unit_is_said("warn: OTEL_TRACES_EXPORTER \"zipkin\" is ignored");
    }

    /* A directive comes first. */
    given("OTEL_TRACES_EXPORTER=console", O "ENDPOINT=http://c:4318", NULL);
    block("endpoint=" URL, NULL);
    assert_string_equal(alone()->targets[0].url, URL);
}

/* --------------------------------------------------------- precedence --- */

static void
defaults_of_a_block(void **state)
{
    const es_exporter_config_t *e;

    (void) state;
    given(O "ENDPOINT=http://c:4318", O "TIMEOUT=300", O "COMPRESSION=gzip", O "HEADERS=a=b",
          "OTEL_BSP_SCHEDULE_DELAY=400", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=7",
          "OTEL_BSP_EXPORT_TIMEOUT=200", NULL);

    /* What a block says counts, each option on its own. */
    e = block("endpoint=" URL, "timeout=5s", "compression=off", "interval=1s", "batch_size=9",
              NULL);
    assert_string_equal(e->targets[0].url, URL);
    assert_int_equal(e->timeout_ns, 5000 * MS);
    assert_int_equal(e->interval_ns, 1000 * MS);
    assert_int_equal(e->batch_size, 9);
    assert_false(e->gzip);
    assert_int_equal(e->headers_count, 1);
    unit_is_said("notice: headers or the client certificate of OTEL_EXPORTER_OTLP_... go to " URL);

    /* And what it does not say is the environment's. */
    e = block("endpoint=" URL, NULL);
    assert_int_equal(e->timeout_ns, 200 * MS);
    assert_int_equal(e->interval_ns, 400 * MS);
    assert_int_equal(e->batch_size, 7);
    assert_true(e->gzip);
    e = block("interval=1s", NULL);
    assert_string_equal(e->targets[0].url, "http://c:4318/v1/traces");

    /* Nothing of OTLP's goes to another protocol. */
    e = block("endpoint=file:///x", NULL);
    assert_false(e->gzip);
    assert_int_equal(e->headers_count, 0);
    assert_int_equal(e->interval_ns, 400 * MS);
}

static void
protocol_of_a_block(void **state)
{
    (void) state;
    given(O "PROTOCOL=http/json", NULL);
    assert_string_equal(block("endpoint=http://h/x", NULL)->protocol->name, "http/json");
    assert_string_equal(block("endpoint=h:4318", NULL)->protocol->name, "http/json");
    assert_string_equal(block("endpoint=h:4317", NULL)->targets[0].url, "http://h:4317/v1/traces");
    assert_string_equal(block("endpoint=h:4318", "protocol=http/protobuf", NULL)->protocol->name,
                        "http/protobuf");
    given(O "PROTOCOL=http/json", NULL);
    assert_string_equal(block("endpoint=file:///x", NULL)->protocol->name, "file");

    /* An endpoint with HTTP's port or a path is none of gRPC's. */
    given(O "PROTOCOL=grpc", NULL);
    assert_string_equal(block("endpoint=http://h:4318", NULL)->protocol->name, "http/protobuf");
    assert_string_equal(block("endpoint=http://h/v1/traces", NULL)->protocol->name,
                        "http/protobuf");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(endpoint_urls), TEST(bad_endpoints),       TEST(grpc),
        TEST(exporters),     TEST(defaults_of_a_block), TEST(protocol_of_a_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
