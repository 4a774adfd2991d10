/* The container and the pod that the process is in. */

#include "es_detect.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define ID_LEN 64
#define UID_LEN 36

static bool
is_container_id(es_str_t s)
{
    uint8_t bytes[ID_LEN / 2];

    return s.len == ID_LEN && es_unhex(bytes, s.data, sizeof(bytes));
}

/* 8-4-4-4-12 hex digits; the uid of a static pod is 32 digits without dashes and
 * means nothing to others. */
static bool
is_pod_uid(es_str_t s)
{
    if (s.len != UID_LEN) {
        return false;
    }
    for (size_t i = 0; i < UID_LEN; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        char c = s.data[i];

        if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
    }
    return true;
}

static void
keep(char *out, es_str_t value)
{
    memcpy(out, value.data, value.len);
    out[value.len] = '\0';
}

/* Takes the last component off a path. */
static bool
last_component(es_str_t *path, es_str_t *component)
{
    size_t slash = path->len;

    if (path->len == 0) {
        return false;
    }
    while (slash != 0 && path->data[slash - 1] != '/') {
        slash--;
    }
    *component = es_str_from(*path, slash);
    path->len = slash != 0 ? slash - 1 : 0;
    return true;
}

/* /proc/self/cgroup, "0::/docker/<id>", ".../cri-containerd-<id>.scope",
 * "...:cri-containerd:<id>": cgroup v1, and v2 without a namespace of its own. */
static void
read_cgroup(es_str_t text, es_place_t *place)
{
    es_str_t line, component;

    while (place->container[0] == '\0' && es_detect_line(&text, &line)) {
        while (last_component(&line, &component)) {
            if (component.len > 6
                && es_str_eq(es_str_from(component, component.len - 6), ES_STR(".scope"))) {
                component.len -= 6;
            }
            if (component.len > ID_LEN
                && (component.data[component.len - ID_LEN - 1] == '-'
                    || component.data[component.len - ID_LEN - 1] == ':')) {
                component = es_str_from(component, component.len - ID_LEN);
            }
            if (is_container_id(component)) {
                keep(place->container, component);
                break;
            }
        }
    }
}

/* The first component of `path` behind a directory whose name ends in `end`, if
 * `fits`. */
static bool
component_behind(es_str_t path, es_str_t end, bool (*fits)(es_str_t), es_str_t *found,
                 es_str_t *rest)
{
    es_str_t previous = ES_STR_NONE;

    while (path.len != 0) {
        es_str_t component = es_str_take(&path, '/');

        if (previous.len >= end.len && es_str_eq(es_str_from(previous, previous.len - end.len), end)
            && fits(component)) {
            *found = component;
            *rest = path;
            return true;
        }
        previous = component;
    }
    return false;
}

/* /proc/self/mountinfo (proc(5)): the fourth field is what was mounted. Docker and
 * Podman mount files out of ".../containers/<id>/"; the kubelet out of
 * "/kubelet/pods/<uid>/etc-hosts" and ".../<uid>/containers/<name>/<hash>".
 * containerd's ".../sandboxes/<id>/" is the pod's, not the container's. */
static void
read_mounts(es_str_t text, es_place_t *place, bool kubernetes)
{
    es_str_t line, found, rest;

    while (es_detect_line(&text, &line)) {
        for (int i = 0; i < 3; i++) {
            es_str_take(&line, ' ');
        }
        line.len = es_str_find(line, ' ');

        if (place->container[0] == '\0'
            && component_behind(line, ES_STR("containers"), is_container_id, &found, &rest)) {
            keep(place->container, found);
        }
        if (!kubernetes || !component_behind(line, ES_STR("pods"), is_pod_uid, &found, &rest)) {
            continue;
        }
        if (place->pod[0] == '\0') {
            keep(place->pod, found);
        }
        if (place->name[0] == '\0' && es_str_starts(rest, ES_STR("containers/"))) {
            rest = es_str_from(rest, sizeof("containers/") - 1);
            rest.len = es_str_find(rest, '/');
            if (rest.len < sizeof(place->name)) {
                keep(place->name, rest);
            }
        }
    }
}

/* ----------------------------------------------------------- Kubernetes --- */

/* The names that examples of the downward API use, and its files. */
typedef struct es_pod_attribute {
    const char *key, *variables[3], *files[2];
    size_t offset, size; /* in es_place_t: kept there, or known from there */
} es_pod_attribute_t;

#define AT(field) offsetof(es_place_t, field), sizeof(((es_place_t *) NULL)->field)

static const es_pod_attribute_t pod_attributes[] = {
    {"k8s.pod.name", {"K8S_POD_NAME", "POD_NAME"}, {"/etc/podinfo/name"}, 0, 0},
    {"k8s.pod.uid", {"K8S_POD_UID", "POD_UID"}, {"/etc/podinfo/uid"}, AT(pod)},
    {"k8s.namespace.name",
     {"K8S_NAMESPACE_NAME", "K8S_POD_NAMESPACE", "POD_NAMESPACE"},
     {"/etc/podinfo/namespace", "/var/run/secrets/kubernetes.io/serviceaccount/namespace"},
     0,
     0},
    {"k8s.node.name", {"K8S_NODE_NAME", "NODE_NAME"}, {NULL}, 0, 0},
    {"k8s.container.name", {"K8S_CONTAINER_NAME", "CONTAINER_NAME"}, {NULL}, AT(name)},
};

static es_str_t
find_value(const char *root, const es_pod_attribute_t *attribute, char *buffer)
{
    es_str_t value = ES_STR_NONE, text;

    for (size_t j = 0; j < 3 && value.len == 0 && attribute->variables[j] != NULL; j++) {
        value = es_environment_get(attribute->variables[j]);
    }
    for (size_t j = 0; j < 2 && value.len == 0 && attribute->files[j] != NULL; j++) {
        text = es_detect_read(root, attribute->files[j], buffer);
        es_detect_line(&text, &value);
    }
    return value;
}

static bool
in_kubernetes(const char *root)
{
    char path[512];
    struct stat status;

    snprintf(path, sizeof(path), "%s/var/run/secrets/kubernetes.io", root);
    return getenv("KUBERNETES_SERVICE_HOST") != NULL || stat(path, &status) == 0;
}

void
es_detect_container(es_config_t *config, const char *root, es_place_t *place)
{
    char *buffer = malloc(ES_DETECT_FILE_MAX);
    bool kubernetes = in_kubernetes(root);

    if (buffer == NULL) {
        return;
    }
    read_cgroup(es_detect_read(root, "/proc/self/cgroup", buffer), place);
    read_mounts(es_detect_read(root, "/proc/self/mountinfo", buffer), place, kubernetes);
    es_detected(config, "container.id", es_cstr(place->container));

    for (size_t i = 0; kubernetes && i < sizeof(pod_attributes) / sizeof(pod_attributes[0]); i++) {
        const es_pod_attribute_t *attribute = &pod_attributes[i];
        es_str_t value = find_value(root, attribute, buffer);

        if (value.len == 0 && attribute->size != 0) {
            value = es_cstr((char *) place + attribute->offset);
        } else if (value.len < attribute->size) {
            keep((char *) place + attribute->offset, value);
        }
        es_detected(config, attribute->key, value);
    }
    free(buffer);
}
