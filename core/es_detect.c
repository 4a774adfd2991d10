#include "es_detect.h"

#include "es_utf8.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

/* --------------------------------------------------------------- common --- */

static bool
is_plain_text(es_str_t value)
{
    for (size_t i = 0; i < value.len; i++) {
        if ((unsigned char) value.data[i] < 0x20 || value.data[i] == 0x7f) {
            return false;
        }
    }
    return es_utf8_measure(value, value.len).size == value.len;
}

/* The attribute of that key, which may be there already. */
static es_resource_attribute_t *
add(es_config_t *config, const char *key)
{
    es_resource_attribute_t *end = &config->detected[config->detected_count];

    for (es_resource_attribute_t *at = config->detected; at < end; at++) {
        if (strcmp(at->key, key) == 0) {
            return at;
        }
    }
    if (config->detected_count == ES_DETECTED_MAX
        || (end->key = es_str_dup(es_cstr(key))) == NULL) {
        return NULL;
    }
    config->detected_count++;
    return end;
}

void
es_detected(es_config_t *config, const char *key, es_str_t value)
{
    es_resource_attribute_t *attribute;
    char *copy;

    value = es_str_trim(value);
    if (value.len == 0 || value.len > ES_DETECT_VALUE_MAX || !is_plain_text(value)
        || (copy = es_str_dup(value)) == NULL) {
        return;
    }
    if ((attribute = add(config, key)) == NULL) {
        free(copy);
        return;
    }
    free(attribute->value);
    attribute->value = copy;
}

es_str_t
es_detect_read(const char *root, const char *path, char buffer[ES_DETECT_FILE_MAX])
{
    char full[512];
    struct stat status;
    size_t size = 0;
    ssize_t n;
    int fd;

    buffer[0] = '\0';
    if ((size_t) snprintf(full, sizeof(full), "%s%s", root, path) >= sizeof(full)
        || (fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0) {
        return ES_STR_NONE;
    }
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
        while (size < ES_DETECT_FILE_MAX - 1
               && (n = read(fd, buffer + size, ES_DETECT_FILE_MAX - 1 - size)) > 0) {
            size += (size_t) n;
        }
    }
    close(fd);
    buffer[size] = '\0';
    return es_str(buffer, size);
}

bool
es_detect_line(es_str_t *text, es_str_t *line)
{
    if (text->len == 0) {
        return false;
    }
    *line = es_str_take(text, '\n');
    return true;
}

/* ----------------------------------------------------------------- host --- */

static const char *
architecture(const char *machine)
{
    static const char *const names[][2] = {
        {"x86_64", "amd64"}, {"aarch64", "arm64"}, {"armv6l", "arm32"}, {"armv7l", "arm32"},
        {"armv8l", "arm32"}, {"i386", "x86"},      {"i486", "x86"},     {"i586", "x86"},
        {"i686", "x86"},     {"ppc64le", "ppc64"}, {"ppc", "ppc32"},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(machine, names[i][0]) == 0) {
            return names[i][1];
        }
    }
    return machine;
}

/* machine-id(5): 32 lowercase hex digits. */
static bool
read_machine_id(const char *root, char id[33], char *buffer)
{
    static const char *const paths[] = {"/etc/machine-id", "/var/lib/dbus/machine-id"};
    uint8_t bytes[16];

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        es_str_t text = es_detect_read(root, paths[i], buffer), line;

        if (es_detect_line(&text, &line) && line.len == 32 && es_unhex(bytes, line.data, 16)) {
            memcpy(id, line.data, 32);
            id[32] = '\0';
            return true;
        }
    }
    id[0] = '\0';
    return false;
}

/* os-release(5): NAME=value, possibly in quotes; escapes are rare enough. */
static void
detect_os(es_config_t *config, const char *root, char *buffer)
{
    es_str_t text = es_detect_read(root, "/etc/os-release", buffer), line;

    if (text.len == 0) {
        text = es_detect_read(root, "/usr/lib/os-release", buffer);
    }
    es_detected(config, "os.type", ES_STR("linux"));
    while (es_detect_line(&text, &line)) {
        size_t equals = es_str_find(line, '=');
        es_str_t name = es_str(line.data, equals), value = es_str_from(line, equals);

        if (value.len != 0) {
            value = es_str_trim(es_str_from(value, 1));
        }
        if (value.len >= 2 && (value.data[0] == '"' || value.data[0] == '\'')
            && value.data[value.len - 1] == value.data[0]) {
            value = es_str(value.data + 1, value.len - 2);
        }
        if (es_str_eq(name, ES_STR("PRETTY_NAME"))) {
            es_detected(config, "os.description", value);
        } else if (es_str_eq(name, ES_STR("VERSION_ID"))) {
            es_detected(config, "os.version", value);
        }
    }
}

/* -------------------------------------------------------------- process --- */

/* From the file alone: the name service may ask a network. */
static void
detect_owner(es_config_t *config, const char *root, char *buffer)
{
    es_str_t text = es_detect_read(root, "/etc/passwd", buffer), line;

    while (es_detect_line(&text, &line)) {
        es_str_t name = es_str_take(&line, ':');
        uint64_t uid;

        es_str_take(&line, ':'); /* the password */
        if (es_parse_uint(es_str_take(&line, ':'), &uid) && uid == geteuid()) {
            es_detected(config, "process.owner", name);
            return;
        }
    }
}

static void
detect_process(es_config_t *config, const char *root, char *buffer)
{
    char path[ES_DETECT_VALUE_MAX + 2], link[512];
    es_resource_attribute_t *attribute = add(config, "process.pid");
    ssize_t len;

    if (attribute != NULL) {
        attribute->number = getpid();
    }
    snprintf(link, sizeof(link), "%s/proc/self/exe", root);
    len = readlink(link, path, sizeof(path) - 1);
    if (len > 0) {
        path[len] = '\0';
        es_detected(config, "process.executable.path", es_cstr(path));
        es_detected(config, "process.executable.name", es_cstr(strrchr(path, '/') + 1));
    }
    detect_owner(config, root, buffer);
}

/* ------------------------------------------------------------- instance --- */

/* A name-based UUID (RFC 9562, version 5) in the namespace that OpenTelemetry
 * gave service.instance.id: the same after a reload and a restart, another for
 * every server of a host and every host. */
static void
detect_instance(es_config_t *config, const es_place_t *place, const char *machine, const char *host)
{
    static const uint8_t space[16] = {0x4d, 0x63, 0x00, 0x9a, 0x8d, 0x0f, 0x11, 0xee,
                                      0xaa, 0xd7, 0x4c, 0x79, 0x6e, 0xd8, 0xe3, 0x20};
    char name[4096], hex[32], uuid[36];
    const char *where[2] = {"", ""};
    uint8_t digest[EVP_MAX_MD_SIZE];
    int len;

    memcpy(name, space, sizeof(space));
    if (place->pod[0] != '\0') {
        where[0] = place->pod;
        where[1] = place->name;
    } else if (place->container[0] != '\0') {
        where[0] = place->container;
    } else {
        /* Clones of a machine have its id and another name. */
        where[0] = machine;
        where[1] = host;
    }
    len = snprintf(name + sizeof(space), sizeof(name) - sizeof(space), "%s\n%s\n%s\n%s", where[0],
                   where[1], config->product, config->identity != NULL ? config->identity : "");
    if (len < 0 || (size_t) len >= sizeof(name) - sizeof(space)
        || EVP_Digest(name, sizeof(space) + (size_t) len, digest, NULL, EVP_sha1(), NULL) != 1) {
        return;
    }
    digest[6] = (uint8_t) ((digest[6] & 0x0f) | 0x50);
    digest[8] = (uint8_t) ((digest[8] & 0x3f) | 0x80);
    es_hex(hex, digest, 16);
    snprintf(uuid, sizeof(uuid), "%.8s-%.4s-%.4s-%.4s-", hex, hex + 8, hex + 12, hex + 16);
    memcpy(uuid + 24, hex + 20, 12);
    es_detected(config, "service.instance.id", es_str(uuid, sizeof(uuid)));
}

/* ------------------------------------------------------------------ all --- */

void
es_detect(es_config_t *config, const char *root)
{
    char *buffer = malloc(ES_DETECT_FILE_MAX), machine[33];
    es_place_t place = {"", "", ""};
    struct utsname uts;

    es_detected_dispose(config);
    if (buffer == NULL || uname(&uts) != 0) {
        free(buffer);
        return;
    }
    es_detect_container(config, root, &place);
    read_machine_id(root, machine, buffer);
    detect_instance(config, &place, machine, uts.nodename);

    es_detected(config, "webengine.name", es_cstr(config->product));
    es_detected(config, "webengine.version", es_cstr(config->version));
    es_detected(config, "host.name", es_cstr(uts.nodename));
    es_detected(config, "host.arch", es_cstr(architecture(uts.machine)));

    /* In a container it is the image's, if anybody's. */
    if (place.container[0] == '\0' && place.pod[0] == '\0') {
        es_detected(config, "host.id", es_cstr(machine));
    }
    detect_os(config, root, buffer);
    detect_process(config, root, buffer);
    free(buffer);
}
