/* es_config.h: the options of one configuration generation, as the rest of the
 * core reads them. Written by one thread before the fork, read-only after. */

#ifndef ES_CONFIG_H
#define ES_CONFIG_H

#include "es_environment.h"
#include "es_limit.h"
#include "es_span.h"
#include "es_target.h"

#include "es_otlp.pb-c.h"

#include <stdarg.h>

#define ES_QUEUE_SIZE_DEFAULT ((size_t) 32 << 20)
#define ES_SPOOL_MAX_DEFAULT (UINT64_C(64) << 20)
#define ES_EXPORTER_HEADERS_MAX 32

/* What an exporter's options take, whoever gives them. */
#define ES_INTERVAL_MIN (1 * ES_MS)
#define ES_INTERVAL_MAX (3600 * ES_SECOND)
#define ES_TIMEOUT_MIN (10 * ES_MS)
#define ES_TIMEOUT_MAX (600 * ES_SECOND)
#define ES_BATCH_SIZE_MAX 65536

#define ES_ENDPOINTS_MAX 4
#define ES_RESOURCE_ATTRIBUTES_MAX 128
#define ES_DETECTED_MAX 32

typedef struct es_protocol es_protocol_t;
typedef struct es_hash_key es_hash_key_t;

/* One of an exporter's endpoints, in the order in which they are tried. */
typedef struct es_target {
    char *endpoint;    /* as given */
    char *url;         /* to post to; a path for protocol "file" */
    char *unix_socket; /* the path of a socket to connect to, or NULL */
    char *name;        /* the URL without what may be secret, for people */
} es_target_t;

/* PEM texts, read while the configuration is, by whoever may read them. */
typedef struct es_tls {
    bool verify;
    es_buffer_t trusted_certificate; /* empty: the system's */
    es_buffer_t client_certificate;
    es_buffer_t client_certificate_key;
} es_tls_t;

/* Every string is the config's own. */
struct es_exporter_config {
    es_config_t *config;
    es_target_t targets[ES_ENDPOINTS_MAX];
    unsigned targets_count;
    bool verbatim;                          /* the URLs are whole: no path is added */
    char *protocol_name;                    /* as given, NULL: infer */
    const es_protocol_t *protocol;          /* set by es_exporter_finish() */
    char *headers[ES_EXPORTER_HEADERS_MAX]; /* "Name: value" */
    unsigned headers_count;
    es_tls_t tls;
    bool gzip;
    char *spool; /* a directory, or NULL */
    uint64_t spool_max;
    uint64_t interval_ns;
    uint64_t timeout_ns;
    uint64_t shutdown_timeout_ns;
    uint64_t batch_size;
    bool batch_size_given; /* then it is a maximum, too */
    uint64_t queue_size;   /* 0: not given */
    unsigned given;        /* bit n: a directive set option n of the table */

    /* The variable that gave the endpoint, NULL: a directive did. */
    const char *variable;
    bool environment_credentials; /* headers or a client certificate of the environment */
};

typedef struct es_resource {
    char *service_name; /* NULL only for index 0 until es_config_finish() */
    uint8_t *packed;    /* an OTLP Resource message */
    size_t packed_size;
} es_resource_t;

typedef struct es_resource_attribute {
    char *key;
    char *value; /* NULL: the number */
    int64_t number;
} es_resource_attribute_t;

/* Which names attributes have (otel_semconv). */
typedef enum es_semconv {
    ES_SEMCONV_STABLE,
    ES_SEMCONV_OLD,
    ES_SEMCONV_BOTH,
} es_semconv_t;

struct es_config {
    char *product;
    char *version;   /* of the server, NULL: unknown */
    char *identity;  /* likewise */
    char *directory; /* of relative paths; NULL: the process's own */
    es_log_t log;
    es_environment_t variables;
    es_propagation_t propagation; /* of servers that say nothing */
    es_sampling_t sampling;       /* of places that say nothing */
    char *override;               /* the path of otel_override, NULL: there is none */
    es_span_limits_t span_limits;
    es_semconv_t semconv;
    bool semconv_given; /* by the directive */

    es_exporter_config_t *exporters[ES_EXPORTERS_MAX];
    unsigned exporters_count;

    es_resource_t resources[ES_RESOURCES_MAX];
    unsigned resources_count;
    es_resource_attribute_t attributes[ES_RESOURCE_ATTRIBUTES_MAX];
    unsigned attributes_count;
    es_resource_attribute_t detected[ES_DETECTED_MAX]; /* by es_detect(); others win */
    unsigned detected_count;

    es_limit_t limits[ES_LIMITS_MAX];
    unsigned limits_count;
    es_sample_target_t targets[ES_TARGETS_MAX];
    unsigned targets_count;

    es_hash_key_t *hash_key; /* NULL: none */
    bool hashes;             /* an attribute is of the type that needs it */

    /* What the exporters ask of the one queue and the one thread they share:
     * the largest of each. */
    size_t queue_size;
    uint64_t shutdown_timeout_ns;
};

/* One line for a server's log, control characters made harmless: values and a
 * collector's words can hold anything. */
void es_log_write(const es_log_t *log, es_log_level_t level, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

/* Formats one line for the config's log. */
void es_config_log(const es_config_t *config, es_log_level_t level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Destroys the exporter that was added last. */
void es_config_drop_exporter(es_config_t *config);

/* ---- es_config_parse.c */

/* "500ms", "5s", "1m", "2h"; a bare number is seconds. False: not a time. */
bool es_parse_time(es_str_t text, uint64_t *ns) ES_MUST_CHECK;

/* "65536", "64k", "32m", "1g", "1t". */
bool es_parse_size(es_str_t text, uint64_t *bytes) ES_MUST_CHECK;

/* ---- es_config_exporter.c */

/* Was this option set by a directive? */
bool es_exporter_given(const es_exporter_config_t *exporter, const char *name);

/* A field name and its value (RFC 9110, section 5). */
bool es_header_valid(es_str_t name, es_str_t value);

/* ---- es_config_file.c */

/* An absolute path, without slashes at its end; NULL when memory is short. */
char *es_config_path(const es_config_t *config, es_str_t path);

/* A regular file of at most `max` bytes; a NUL is behind its content. */
bool es_file_read(const char *path, size_t max, es_buffer_t *content,
                  es_error_t *error) ES_MUST_CHECK;

typedef enum es_pem {
    ES_PEM_CERTIFICATE,
    ES_PEM_PRIVATE_KEY,
} es_pem_t;

/* Checked by its armour only; an encrypted key is refused. */
bool es_pem_read(const char *path, es_pem_t kind, es_buffer_t *pem,
                 es_error_t *error) ES_MUST_CHECK;

/* ---- es_endpoint.c */

/* "http://host/path", "host:port", "unix:/path": may it be an endpoint of OTLP? */
bool es_endpoint_is_url(es_str_t text);

/* The protocol that an endpoint means by itself. *open: nothing says so but the
 * lack of a path and of a port that has another. */
es_str_t es_endpoint_infer(const es_target_t *target, bool *open);

/* Chooses the protocol of protocol_name and the endpoints, and resolves each. */
bool es_endpoint_resolve(es_exporter_config_t *exporter, es_error_t *error) ES_MUST_CHECK;

/* ---- es_resource.c */

/* Adds what the environment says (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES)
 * where the configuration did not, and packs every resource. */
bool es_resources_finish(es_config_t *config, es_error_t *error) ES_MUST_CHECK;
void es_resources_dispose(es_config_t *config);
void es_detected_dispose(es_config_t *config);

#endif
