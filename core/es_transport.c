#define _GNU_SOURCE /* SOCK_CLOEXEC */

#include "es_transport.h"

#include "es_clock.h"
#include "es_str.h"

#include <curl/curl.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 16L

struct es_call {
    es_call_t *next;
    CURL *easy;
    struct curl_slist *headers;
    es_request_t request;
    size_t kept;
    uint64_t received;
    bool too_large;
    char error[CURL_ERROR_SIZE];
    char body[ES_RESPONSE_KEPT];
};

struct es_transport {
    CURLM *multi;
    es_call_t *calls; /* under way */
    es_call_t *idle;  /* to be used again, with their handles */
    bool resolving;   /* a name look-up began: curl may have made a socket pair */
};

/* ------------------------------------------------------- descriptors --- */

static curl_socket_t
open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void) data;
    (void) purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int
resolve_starts(void *resolver, void *reserved, void *data)
{
    es_transport_t *transport = data;

    (void) resolver;
    (void) reserved;
    transport->resolving = true;
    return 0;
}

/* Is this one end of an unnamed socket pair of this process? */
static bool
is_own_pair(int fd)
{
    struct sockaddr_storage name;
    socklen_t length = sizeof(name);
    struct ucred peer;
    socklen_t peer_length = sizeof(peer);

    return getsockname(fd, (struct sockaddr *) &name, &length) == 0 && name.ss_family == AF_UNIX
           && length <= sizeof(sa_family_t)
           && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_length) == 0
           && peer.pid == getpid();
}

/* curl makes its internal socket pairs (wake-up, resolver) without CLOEXEC and
 * without asking, and a CGI child would inherit them. They have no name by which
 * to know them, so all unnamed pairs of this process are taken: no program is
 * started with one of those end on its own number but by dup2(), which clears
 * the flag. */
static void
close_pairs_on_exec(void)
{
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;

    if (directory == NULL) {
        return;
    }
    while ((entry = readdir(directory)) != NULL) {
        int fd = atoi(entry->d_name);
        int flags = fd > 2 ? fcntl(fd, F_GETFD) : -1;

        if (flags >= 0 && !(flags & FD_CLOEXEC) && is_own_pair(fd)) {
            fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
        }
    }
    closedir(directory);
}

/* ------------------------------------------------------------ handles --- */

static size_t
receive(char *data, size_t size, size_t count, void *user)
{
    es_call_t *call = user;
    size_t length = size * count;
    size_t room = sizeof(call->body) - call->kept;
    size_t kept = length < room ? length : room;

    memcpy(call->body + call->kept, data, kept);
    call->kept += kept;
    call->received += length;
    if (call->received > ES_RESPONSE_MAX) {
        call->too_large = true;
        return 0;
    }
    return length;
}

static void
call_free(es_call_t *call)
{
    curl_slist_free_all(call->headers);
    curl_easy_cleanup(call->easy);
    free(call);
}

static es_call_t *
call_new(es_transport_t *transport)
{
    es_call_t *call = transport->idle;

    if (call != NULL) {
        transport->idle = call->next;
        return call;
    }
    if ((call = calloc(1, sizeof(*call))) == NULL) {
        return NULL;
    }
    if ((call->easy = curl_easy_init()) == NULL) {
        free(call);
        return NULL;
    }
    return call;
}

static void
unlink_call(es_transport_t *transport, es_call_t *call)
{
    es_call_t **link = &transport->calls;

    while (*link != call) {
        link = &(*link)->next;
    }
    *link = call->next;
}

static void
call_retire(es_transport_t *transport, es_call_t *call)
{
    curl_multi_remove_handle(transport->multi, call->easy);
    curl_easy_reset(call->easy);
    curl_slist_free_all(call->headers);
    call->headers = NULL;
    call->next = transport->idle;
    transport->idle = call;
}

es_transport_t *
es_transport_create(es_error_t *error)
{
    es_transport_t *transport = calloc(1, sizeof(*transport));

    if (transport == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        es_fail(error, "libcurl cannot be initialised");
        free(transport);
        return NULL;
    }
    if ((transport->multi = curl_multi_init()) == NULL) {
        es_fail(error, "libcurl gives no multi handle");
        free(transport);
        return NULL;
    }
    curl_multi_setopt(transport->multi, CURLMOPT_MAX_HOST_CONNECTIONS, CONNECTIONS_MAX);
    curl_multi_setopt(transport->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_MAX * ES_EXPORTERS_MAX);
    close_pairs_on_exec();
    return transport;
}

void
es_transport_destroy(es_transport_t *transport)
{
    es_call_t *call;

    while ((call = transport->calls) != NULL) {
        transport->calls = call->next;
        call_retire(transport, call);
    }
    while ((call = transport->idle) != NULL) {
        transport->idle = call->next;
        call_free(call);
    }
    curl_multi_cleanup(transport->multi);
    free(transport);
}

/* --------------------------------------------------------------- calls --- */

static bool
add_header(es_call_t *call, const char *line)
{
    struct curl_slist *list = curl_slist_append(call->headers, line);

    if (list != NULL) {
        call->headers = list;
    }
    return list != NULL;
}

static bool
set_headers(es_call_t *call)
{
    const es_request_t *request = &call->request;
    char content_type[128];

    /* "Expect: 100-continue" would cost a round trip, and a second where the
     * collector does not know it. */
    snprintf(content_type, sizeof(content_type), "Content-Type: %s", request->content_type);
    if (!add_header(call, "Expect:") || !add_header(call, content_type)) {
        return false;
    }
    for (unsigned i = 0; i < request->headers_count; i++) {
        if (!add_header(call, request->headers[i])) {
            return false;
        }
    }
    return true;
}

static void
set_options(es_transport_t *transport, es_call_t *call)
{
    const es_request_t *request = &call->request;
    CURL *easy = call->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(
        easy, CURLOPT_HTTP_VERSION,
        request->http2 ? (long) CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE : (long) CURL_HTTP_VERSION_1_1);
    if (request->http2) {
        /* One connection for all, rather than one each. */
        curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
    }
    if (request->unix_socket != NULL) {
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, request->unix_socket);
    }
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body.data);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body.len);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers);
    curl_easy_setopt(easy, CURLOPT_USERAGENT,
                     "edgespan/" EDGESPAN_VERSION " OTel-OTLP-Exporter-C/" EDGESPAN_VERSION);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) (request->timeout_ns / ES_MS));
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");

    /* Signals are the server's; a stuck getaddrinfo() must not hold the stop. */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);

    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_RESOLVER_START_FUNCTION, resolve_starts);
    curl_easy_setopt(easy, CURLOPT_RESOLVER_START_DATA, transport);
}

static void
set_blob(CURL *easy, CURLoption option, const es_buffer_t *pem)
{
    struct curl_blob blob = {pem->data, pem->size, CURL_BLOB_NOCOPY};

    if (pem->size != 0) {
        curl_easy_setopt(easy, option, &blob);
    }
}

static void
set_tls(CURL *easy, const es_tls_t *tls)
{
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, (long) tls->verify);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, tls->verify ? 2L : 0L);
    set_blob(easy, CURLOPT_CAINFO_BLOB, &tls->trusted_certificate);
    set_blob(easy, CURLOPT_SSLCERT_BLOB, &tls->client_certificate);
    set_blob(easy, CURLOPT_SSLKEY_BLOB, &tls->client_certificate_key);
}

es_call_t *
es_transport_post(es_transport_t *transport, const es_request_t *request)
{
    es_call_t *call = call_new(transport);

    if (call == NULL) {
        return NULL;
    }
    call->request = *request;
    call->kept = 0;
    call->received = 0;
    call->too_large = false;
    call->error[0] = '\0';

    if (!set_headers(call)) {
        call_retire(transport, call);
        return NULL;
    }
    set_options(transport, call);
    set_tls(call->easy, request->tls);
    if (curl_multi_add_handle(transport->multi, call->easy) != CURLM_OK) {
        call_retire(transport, call);
        return NULL;
    }
    call->next = transport->calls;
    transport->calls = call;
    return call;
}

void
es_transport_cancel(es_transport_t *transport, es_call_t *call)
{
    unlink_call(transport, call);
    call_retire(transport, call);
}

static void
finish(es_transport_t *transport, es_call_t *call, CURLcode code)
{
    es_response_t response = {
        .body = es_str(call->body, call->kept),
        .too_large = call->too_large,
    };
    long status = 0;
    curl_off_t retry_after = 0;

    unlink_call(transport, call);

    if (code == CURLE_OK) {
        curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(call->easy, CURLINFO_RETRY_AFTER, &retry_after);
        response.status = (unsigned) status;
        response.retry_after_ns = (uint64_t) retry_after * ES_SECOND;
    } else {
        response.failure = call->error[0] != '\0' ? call->error : curl_easy_strerror(code);
    }
    call->request.done(call->request.data, &response);
    call_retire(transport, call);
}

static void
perform(es_transport_t *transport)
{
    CURLMsg *message;
    int running, left;

    transport->resolving = false;
    curl_multi_perform(transport->multi, &running);
    if (transport->resolving) {
        close_pairs_on_exec();
    }

    while ((message = curl_multi_info_read(transport->multi, &left)) != NULL) {
        es_call_t *call;

        if (message->msg == CURLMSG_DONE) {
            CURLcode code = message->data.result; /* the message dies with its handle */

            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &call);
            finish(transport, call, code);
        }
    }
}

void
es_transport_wait(es_transport_t *transport, struct pollfd *fds, unsigned count, int timeout_ms)
{
    struct curl_waitfd waits[4];
    unsigned n = count < 4 ? count : 4;

    perform(transport);

    for (unsigned i = 0; i < n; i++) {
        waits[i] = (struct curl_waitfd){.fd = fds[i].fd, .events = CURL_WAIT_POLLIN};
    }
    curl_multi_poll(transport->multi, waits, n, timeout_ms, NULL);
    for (unsigned i = 0; i < n; i++) {
        fds[i].revents = waits[i].revents;
    }

    perform(transport);
}
