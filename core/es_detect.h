/* es_detect.h: what can be found out about the process, the host, the container
 * and the pod, as attributes of the resource (OpenTelemetry semantic conventions,
 * "Resource").
 *
 * It runs in the parent while the configuration is read, asks no network and
 * executes nothing: files under `root` ("" but in tests), all reads bounded, the
 * environment and uname(). What is missing or is no plain text is left out. */

#ifndef ES_DETECT_H
#define ES_DETECT_H

#include "es_config.h"

/* Fills config->detected anew. */
void es_detect(es_config_t *config, const char *root);

/* ---- between the files of the detection */

#define ES_DETECT_VALUE_MAX 255

/* One attribute, of several with one key the last; a value that is empty, too long
 * or no plain text is left out. */
void es_detected(es_config_t *config, const char *key, es_str_t value);

/* The beginning of a file, NUL-terminated; "" if it cannot be read. */
#define ES_DETECT_FILE_MAX 65536
es_str_t es_detect_read(const char *root, const char *path, char buffer[ES_DETECT_FILE_MAX]);

/* Takes the next line off `text`. */
bool es_detect_line(es_str_t *text, es_str_t *line);

/* "" or what makes a container or a pod unique. */
typedef struct es_place {
    char container[65];
    char pod[37];
    char name[64]; /* of the container within its pod */
} es_place_t;

/* ---- es_detect_container.c */
void es_detect_container(es_config_t *config, const char *root, es_place_t *place);

#endif
