/* OpenTelemetry's conventions of RPC for gRPC (semantic conventions 1.44.0, "rpc-spans",
 * "grpc"), beside those of HTTP. */

#include "es_http_writer.h"

static const es_http_name_t name_method = ES_NAME("rpc.method");
static const es_http_name_t name_method_original = ES_NAME("rpc.method_original");
static const es_http_name_t name_status_code = ES_NAME("rpc.response.status_code");
static const es_http_name_t name_system = ES_NAME("rpc.system.name");

/* By number. Those that fail a server's span: grpc.md, "gRPC Status". */
static const struct {
    es_str_t name;
    bool fails_server;
} statuses[] = {
    {{"OK", 2}, false},
    {{"CANCELLED", 9}, false},
    {{"UNKNOWN", 7}, true},
    {{"INVALID_ARGUMENT", 16}, false},
    {{"DEADLINE_EXCEEDED", 17}, true},
    {{"NOT_FOUND", 9}, false},
    {{"ALREADY_EXISTS", 14}, false},
    {{"PERMISSION_DENIED", 17}, false},
    {{"RESOURCE_EXHAUSTED", 18}, false},
    {{"FAILED_PRECONDITION", 19}, false},
    {{"ABORTED", 7}, false},
    {{"OUT_OF_RANGE", 12}, false},
    {{"UNIMPLEMENTED", 13}, true},
    {{"INTERNAL", 8}, true},
    {{"UNAVAILABLE", 11}, true},
    {{"DATA_LOSS", 9}, true},
    {{"UNAUTHENTICATED", 15}, false},
};

enum { STATUS_OK = 0, STATUS_UNKNOWN = 2, STATUS_UNIMPLEMENTED = 12 };

/* What is no status means UNKNOWN (gRPC, "Status codes and their use in gRPC"). */
static unsigned
status_of(const es_http_t *http)
{
    uint64_t number;

    return es_parse_uint(http->grpc_status, &number) && number < ES_COUNT(statuses)
               ? (unsigned) number
               : STATUS_UNKNOWN;
}

bool
es_is_grpc(es_str_t content_type)
{
    const es_str_t grpc = ES_STR("application/grpc");

    return content_type.len >= grpc.len && es_str_ieq(es_str(content_type.data, grpc.len), grpc)
           && (content_type.len == grpc.len
               || memchr("+; \t", content_type.data[grpc.len], 4) != NULL);
}

es_str_t
es_http_rpc_error(const es_http_t *http)
{
    unsigned status;

    if (http->grpc_status.len == 0 || http->kind == ES_KIND_INTERNAL) {
        return ES_STR_NONE;
    }
    status = status_of(http);
    if (http->kind == ES_KIND_CLIENT ? status != STATUS_OK : statuses[status].fails_server) {
        return statuses[status].name;
    }
    return ES_STR_NONE;
}

void
es_http_put_rpc(es_http_writer_t *writer, es_str_t path)
{
    const es_http_t *http = writer->http;
    bool answered = http->grpc_status.len != 0;
    es_str_t method = path;

    if (es_str_starts(method, ES_STR("/"))) {
        method = es_str_from(method, 1);
    }
    es_http_put_string(writer, &name_system, ES_STR("grpc"));

    /* A method that the service does not have is anything a client can think of. */
    if (answered && status_of(http) == STATUS_UNIMPLEMENTED) {
        es_http_put_string(writer, &name_method, ES_STR("_OTHER"));
        es_http_put_string(writer, &name_method_original, method);
    } else {
        es_http_put_string(writer, &name_method, method);
    }
    if (answered) {
        es_http_put_string(writer, &name_status_code, statuses[status_of(http)].name);
    }
}
