/* What is found out about the process, its host, container and pod; in what order
 * attributes win. Detection looks at a tree of files that the tests make. */

#define _GNU_SOURCE /* nftw */

#include "unit_directory.h"

#include "es_detect.h"

#include <fcntl.h>
#include <sys/utsname.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OTHER "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
#define POD "0e0e0e0e-1111-2222-3333-444444444444"
#define MACHINE "00112233445566778899aabbccddeeff"

static char *root;
static es_config_t *config;
static es_error_t error;

static void
file_of(const char *path, const void *content, size_t size)
{
    char full[256];
    int fd;

    snprintf(full, sizeof(full), "%s%s", root, path);
    for (char *slash = strchr(full + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, size), size);
    close(fd);
}

static void
file(const char *path, const char *content)
{
    file_of(path, content, strlen(content));
}

static const char *const variables[] = {
    "KUBERNETES_SERVICE_HOST", "POD_NAME",  "K8S_POD_NAME",   "POD_UID",
    "POD_NAMESPACE",           "NODE_NAME", "CONTAINER_NAME", "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_SERVICE_NAME",
};

static int
begin(void **state)
{
    const es_server_t server = {"1.2.3", "/etc/nginx /etc/nginx/nginx.conf"};

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(variables); i++) {
        unsetenv(variables[i]);
    }
    root = unit_directory();
    unit_said[0] = '\0';
    config = es_config_create("nginx", &unit_log);
    assert_non_null(config);
    assert_true(es_config_server(config, &server, &error));
    return 0;
}

static int
end(void **state)
{
    (void) state;
    es_config_destroy(config);
    unit_directory_remove(root);
    return 0;
}

static const es_resource_attribute_t *
find(const char *key)
{
    const es_resource_attribute_t *found = NULL;

    for (unsigned i = 0; i < config->detected_count; i++) {
        if (strcmp(config->detected[i].key, key) == 0) {
            assert_null(found); /* each key once */
            found = &config->detected[i];
        }
    }
    return found;
}

static void
is(const char *key, const char *value)
{
    const es_resource_attribute_t *found = find(key);

    if (value == NULL) {
        if (found != NULL) {
            fail_msg("%s is \"%s\"", key, found->value);
        }
        return;
    }
    if (found == NULL) {
        fail_msg("no %s", key);
        return;
    }
    assert_string_equal(found->value, value);
}

/* ----------------------------------------------------------------- host --- */

static void
host(void **state)
{
    struct utsname uts;
    char path[256], passwd[256];
    uid_t uid = geteuid();

    (void) state;
    uname(&uts);
    file("/etc/machine-id", MACHINE "\n");
    file("/etc/os-release", "# a comment\nNAME=Some\nPRETTY_NAME=\"Some Linux 3 (x)\"\n"
                            "VERSION_ID=3.0\n"
                            "VERSION_ID='3.1'\nVERSION_CODENAME=x\n");
    snprintf(passwd, sizeof(passwd), "a:x:%u1:0::/:/bin/sh\nbroken\nowner:x:%u:0:o:/:/bin/sh\n",
             uid + 1, uid);
    file("/etc/passwd", passwd);
    file("/proc/self/x", "");
    snprintf(path, sizeof(path), "%s/proc/self/exe", root);
    assert_int_equal(symlink("/usr/sbin/some server", path), 0);

    es_detect(config, root);
    is("host.id", MACHINE);
    is("host.name", uts.nodename);
    is("os.type", "linux");
    is("os.description", "Some Linux 3 (x)");
    is("os.version", "3.1");
    is("process.owner", "owner");
    is("process.executable.path", "/usr/sbin/some server");
    is("process.executable.name", "some server");
    is("webengine.name", "nginx");
    is("webengine.version", "1.2.3");
    assert_int_equal(find("process.pid")->number, getpid());
    assert_null(find("process.pid")->value);
    is("container.id", NULL);
    is("k8s.pod.name", NULL);

    /* Again, as by a reload: nothing doubles. */
    es_detect(config, root);
    is("host.id", MACHINE);
}

static void
nothing_there(void **state)
{
    (void) state;
    es_detect(config, root);
    is("host.id", NULL);
    is("os.description", NULL);
    is("os.type", "linux");
    is("process.owner", NULL);
    is("process.executable.path", NULL);
    assert_non_null(find("service.instance.id"));
}

static void
garbage(void **state)
{
    unit_random_t random = unit_random_init();
    static const char *const paths[] = {
        "/etc/machine-id",   "/etc/os-release",      "/etc/passwd",      "/proc/self/cgroup",
        "/etc/podinfo/name", "/proc/self/mountinfo", "/etc/podinfo/uid",
    };
    static char bytes[100000];

    (void) state;
    setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1", 1);
    for (int round = 0; round < 30; round++) {
        for (size_t i = 0; i < UNIT_COUNT(paths); i++) {
            unit_random_bytes(&random, bytes, sizeof(bytes));
            file_of(paths[i], bytes, unit_random_below(&random, sizeof(bytes)));
        }
        es_detect(config, root);
        is("host.id", NULL);
        is("container.id", NULL);
    }

    /* No value that is no text, and none without bounds. */
    memset(bytes, 'x', 300);
    bytes[300] = '\0';
    file("/etc/podinfo/name", bytes);
    file("/etc/podinfo/namespace", "a\x01"
                                   "b\n");
    file("/etc/podinfo/uid", "\xff\n");
    file("/etc/machine-id", "0011223344\n");
    file("/etc/os-release", "PRETTY_NAME=\"\nVERSION_ID=\n=\nPRETTY_NAME\n");
    file("/proc/self/cgroup", "0::/docker/0123\n" ID "\n1:\n");
    es_detect(config, root);
    is("k8s.pod.name", NULL);
    is("k8s.namespace.name", NULL);
    is("k8s.pod.uid", NULL);
    is("host.id", NULL);
    is("os.version", NULL);
    is("container.id", ID); /* a line of nothing else is its last component */

    /* A FIFO or a directory in the place of a file. */
    snprintf(bytes, sizeof(bytes), "%s/etc/machine-id", root);
    assert_int_equal(unlink(bytes), 0);
    assert_int_equal(mkfifo(bytes, 0600), 0);
    es_detect(config, root);
    is("host.id", NULL);
}

/* ----------------------------------------------------------- containers --- */

static void
containers(void **state)
{
    static const char *const cgroups[] = {
        "12:pids:/docker/" ID "\n11:cpu:/docker/" ID "\n",
        "2:cpu:/\n1:name=systemd:/kubepods/besteffort/pod" POD "/" ID "\n",
        "0::/system.slice/docker-" ID ".scope\n",
        "1:x:/kubepods.slice/kubepods-pod1.slice/cri-containerd-" ID ".scope\n",
        "1:x:/kubepods.slice/crio-" ID ".scope/container\n",
        "1:x:/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:" ID "\n",
        "0::/machine.slice/libpod-" ID ".scope",
    };
    static const char *const none[] = {
        "0::/\n",
        "",
        "0::/user.slice/session-1.scope\n",
        "0::/docker/" ID "0\n",
        "0::/docker/0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef\n",
    };

    (void) state;
    file("/etc/machine-id", MACHINE "\n");
    for (size_t i = 0; i < UNIT_COUNT(cgroups); i++) {
        file("/proc/self/cgroup", cgroups[i]);
        es_detect(config, root);
        is("container.id", ID);
        is("host.id", NULL);
    }
    for (size_t i = 0; i < UNIT_COUNT(none); i++) {
        file("/proc/self/cgroup", none[i]);
        es_detect(config, root);
        is("container.id", NULL);
    }

    /* cgroup v2 with a namespace of its own. */
    file("/proc/self/cgroup", "0::/\n");
    file("/proc/self/mountinfo",
         "601 600 0:50 / / rw - overlay overlay rw,lowerdir=/var/lib/docker/containers/" OTHER
         "/x\n"
         "620 601 8:1 /var/lib/docker/containers/" ID "/resolv.conf /etc/resolv.conf rw - ext4 x\n"
         "621 601 8:1 /var/lib/docker/containers/" ID "/hostname /etc/hostname rw - ext4 x\n");
    es_detect(config, root);
    is("container.id", ID);
    file("/proc/self/mountinfo", "1 2 0:1 /containers/storage/overlay-containers/" ID
                                 "/userdata/hosts /etc/hosts rw - x\n");
    es_detect(config, root);
    is("container.id", ID);

    /* containerd's sandbox is the pod's. */
    file("/proc/self/mountinfo",
         "1 2 8:1 /var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/" ID
         "/hostname /etc/hostname rw - x\n");
    es_detect(config, root);
    is("container.id", NULL);
}

static void
kubernetes(void **state)
{
    char path[256];

    (void) state;
    file("/proc/self/mountinfo",
         "1 2 8:1 /var/lib/kubelet/pods/" POD "/etc-hosts /etc/hosts rw - ext4 x\n"
         "1 2 8:1 /var/lib/kubelet/pods/" POD "/containers/gateway/1a2b3c4d /dev/log rw - x\n");
    file("/etc/podinfo/name", "edge-5d9f\n");
    file("/etc/podinfo/namespace", "shop");

    /* Without a sign of Kubernetes these are somebody's files. */
    es_detect(config, root);
    is("k8s.pod.name", NULL);
    is("k8s.pod.uid", NULL);

    file("/var/run/secrets/kubernetes.io/serviceaccount/namespace", "other");
    es_detect(config, root);
    is("k8s.pod.name", "edge-5d9f");
    is("k8s.pod.uid", POD);
    is("k8s.namespace.name", "shop");
    is("k8s.container.name", "gateway");
    is("k8s.node.name", NULL);
    is("service.instance.id", "7f4e714a-03a8-5574-836d-bca5c8a96a72");

    setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1", 1);
    setenv("POD_NAME", "from-env", 1);
    setenv("POD_NAMESPACE", "ns-env", 1);
    setenv("NODE_NAME", "node-7", 1);
    setenv("POD_UID", "uid-env", 1);
    setenv("CONTAINER_NAME", "c-env", 1);
    es_detect(config, root);
    is("k8s.pod.name", "from-env");
    is("k8s.namespace.name", "ns-env");
    is("k8s.node.name", "node-7");
    is("k8s.pod.uid", "uid-env");
    is("k8s.container.name", "c-env");
    setenv("K8S_POD_NAME", "first", 1);
    es_detect(config, root);
    is("k8s.pod.name", "first");

    setenv("POD_NAMESPACE", "", 1); /* empty is unset */
    snprintf(path, sizeof(path), "%s/etc/podinfo/namespace", root);
    assert_int_equal(unlink(path), 0);
    es_detect(config, root);
    is("k8s.namespace.name", "other");
}

static void
instance(void **state)
{
    const es_server_t other = {"1.2.4", "/etc/nginx /etc/nginx/other.conf"};
    const es_server_t newer = {"1.2.4", "/etc/nginx /etc/nginx/nginx.conf"};
    char first[64], second[64];

    (void) state;
    file("/etc/machine-id", MACHINE "\n");
    es_detect(config, root);
    snprintf(first, sizeof(first), "%s", find("service.instance.id")->value);
    assert_int_equal(strlen(first), 36);
    assert_int_equal(first[14], '5');
    assert_non_null(strchr("89ab", first[19]));

    /* The same after a restart and an upgrade, another for another server. */
    assert_true(es_config_server(config, &newer, &error));
    es_detect(config, root);
    is("service.instance.id", first);
    assert_true(es_config_server(config, &other, &error));
    es_detect(config, root);
    snprintf(second, sizeof(second), "%s", find("service.instance.id")->value);
    assert_string_not_equal(first, second);

    /* Another host, another container on it. */
    file("/etc/machine-id", "ff112233445566778899aabbccddeeff\n");
    assert_true(es_config_server(config, &newer, &error));
    es_detect(config, root);
    assert_string_not_equal(first, find("service.instance.id")->value);
    file("/proc/self/cgroup", "0::/docker/" ID "\n");
    es_detect(config, root);
    snprintf(first, sizeof(first), "%s", find("service.instance.id")->value);
    file("/proc/self/cgroup", "0::/docker/" OTHER "\n");
    es_detect(config, root);
    assert_string_not_equal(first, find("service.instance.id")->value);
}

/* ------------------------------------------------------------- resource --- */

/* A value of the packed resource; "" if there is none, "?" if there are two. */
static const char *
packed(const char *key)
{
    static char value[512];
    EsOtlp__Resource *resource = es_otlp__resource__unpack(NULL, config->resources[0].packed_size,
                                                           config->resources[0].packed);

    assert_non_null(resource);
    value[0] = '\0';
    for (size_t i = 0; i < resource->n_attributes; i++) {
        const EsOtlp__KeyValue *pair = resource->attributes[i];

        if (strcmp(pair->key, key) == 0) {
            if (pair->value->value_case == ES_OTLP__ANY_VALUE__VALUE_INT_VALUE) {
                snprintf(value, sizeof(value), "int %lld", (long long) pair->value->int_value);
            } else {
                snprintf(value, sizeof(value), "%s",
                         value[0] != '\0' ? "?" : pair->value->string_value);
            }
        }
    }
    es_otlp__resource__free_unpacked(resource, NULL);
    return value;
}

static void
who_wins(void **state)
{
    char pid[32];

    (void) state;
    setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=env,os.type=env,a%2Cb=c%3Dd,service.name=s", 1);
    assert_true(es_config_resource_attribute(config, ES_STR("os.type"), ES_STR("mine"), &error));
    assert_true(es_config_resource_attribute(config, ES_STR("os.version"), ES_STR(""), &error));
    assert_true(
        es_config_resource_attribute(config, ES_STR("telemetry.distro.name"), ES_STR("d"), &error));
    assert_true(es_config_finish(config, 1, &error));
    assert_string_equal(packed("service.name"), "s");
    assert_string_equal(packed("host.name"), "env");
    assert_string_equal(packed("os.type"), "mine");
    assert_string_equal(packed("os.version"), "");
    assert_string_equal(packed("a,b"), "c=d");
    assert_string_equal(packed("telemetry.distro.name"), "d");
    assert_string_equal(packed("telemetry.sdk.name"), "edgespan");
    assert_string_equal(packed("webengine.version"), "1.2.3");

    snprintf(pid, sizeof(pid), "int %d", (int) getpid());
    assert_string_equal(packed("process.pid"), pid);
    assert_true(es_config_pid(config, 4711, &error));
    assert_string_equal(packed("process.pid"), "int 4711");
    assert_string_equal(packed("host.name"), "env");

    /* It goes with every batch. */
    printf("# resource: %zu bytes\n", config->resources[0].packed_size);
    assert_true(config->resources[0].packed_size < 1024);
}

static void
many_attributes(void **state)
{
    static char text[8192];

    (void) state;
    for (int i = 0; i < 200; i++) {
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "k%d=v,", i);
    }
    setenv("OTEL_RESOURCE_ATTRIBUTES", text, 1);
    assert_true(es_config_finish(config, 1, &error));
    assert_non_null(strstr(unit_said,
                           "OTEL_RESOURCE_ATTRIBUTES is cut short: more than 128 resource "
                           "attributes"));
    assert_string_equal(packed("k127"), "v");
    assert_string_equal(packed("webengine.name"), "nginx");
}

/* What the directive takes, and no more. */
static void
long_name(void **state)
{
    char name[257];

    (void) state;
    memset(name, 'n', sizeof(name));
    name[256] = '\0';
    setenv("OTEL_SERVICE_NAME", name, 1);
    assert_true(es_config_finish(config, 1, &error));
    assert_string_equal(packed("service.name"), "unknown_service:nginx");
    assert_non_null(strstr(unit_said, "OTEL_SERVICE_NAME is ignored: a service name has 1 to 255"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(host),       TEST(nothing_there),   TEST(garbage),
        TEST(containers), TEST(kubernetes),      TEST(instance),
        TEST(who_wins),   TEST(many_attributes), TEST(long_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
