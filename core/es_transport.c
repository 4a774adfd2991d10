#define _GNU_SOURCE /* SOCK_CLOEXEC */

#include "es_transport.h"

#include "es_call.h"
#include "es_clock.h"
#include "es_protocol.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* To one host for all exporters: one that hangs there must not hold up another. */
#define CONNECTIONS_MAX ((long) ES_IN_FLIGHT_MAX * ES_EXPORTERS_MAX)

struct es_transport {
    CURLM *multi;
    es_call_t *calls; /* under way */
    es_call_t *idle;  /* to be used again, with their handles */
    bool resolving;   /* a name look-up began: curl may have made a socket pair */
    uint64_t waited;  /* when the last wait ended */
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

/* --------------------------------------------------------------- calls --- */

static es_call_t *
call_take(es_transport_t *transport)
{
    es_call_t *call = transport->idle;

    if (call == NULL) {
        return es_call_create();
    }
    transport->idle = call->next;
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
    es_call_reset(call);
    call->next = transport->idle;
    transport->idle = call;
}

const char *
es_transport_lacks(bool http2, const es_tls_t *tls)
{
    if (http2 && !(curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_HTTP2)) {
        return "HTTP/2";
    }
#if LIBCURL_VERSION_NUM < 0x074d00
    if (tls->trusted_certificate.size != 0) {
        return "trusted_certificate, which came with its version 7.77";
    }
#else
    (void) tls;
#endif
    return NULL;
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
    curl_multi_setopt(transport->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_MAX);
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
        es_call_destroy(call);
    }
    curl_multi_cleanup(transport->multi);
    free(transport);
}

es_call_t *
es_transport_post(es_transport_t *transport, const es_request_t *request)
{
    es_call_t *call = call_take(transport);

    if (call == NULL) {
        return NULL;
    }
    if (!es_call_prepare(call, request)) {
        call_retire(transport, call);
        return NULL;
    }
    curl_easy_setopt(call->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(call->easy, CURLOPT_RESOLVER_START_FUNCTION, resolve_starts);
    curl_easy_setopt(call->easy, CURLOPT_RESOLVER_START_DATA, transport);
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

/* ----------------------------------------------------------- finishing --- */

static curl_socket_t
socket_of(const es_call_t *call)
{
    curl_socket_t fd = CURL_SOCKET_BAD;

    curl_easy_getinfo(call->easy, CURLINFO_ACTIVESOCKET, &fd);
    return fd;
}

/* A connection of HTTP/2 outlives the calls that time out on it, and would be
 * used again, though nobody may be there any more. The last of them ends it. */
static void
end_connection(es_transport_t *transport, const es_call_t *call)
{
    curl_socket_t fd = socket_of(call);

    for (const es_call_t *other = transport->calls; other != NULL; other = other->next) {
        if (socket_of(other) == fd) {
            return;
        }
    }
    if (fd != CURL_SOCKET_BAD) {
        shutdown(fd, SHUT_RDWR);
    }
}

static void
finish(es_transport_t *transport, es_call_t *call, CURLcode code)
{
    es_response_t response = es_call_response(call, code);

    unlink_call(transport, call);
    if (code == CURLE_OPERATION_TIMEDOUT && call->request.http2) {
        end_connection(transport, call);
    }
    call->request.done(call->request.data, &response);
    call_retire(transport, call);
}

/* True: a call has ended. */
static bool
perform(es_transport_t *transport)
{
    CURLMsg *message;
    int running, left;
    bool ended = false;

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
            ended = true;
        }
    }
    return ended;
}

static bool
has_http2_calls(const es_transport_t *transport)
{
    const es_call_t *call = transport->calls;

    while (call != NULL && !call->request.http2) {
        call = call->next;
    }
    return call != NULL;
}

void
es_transport_wait(es_transport_t *transport, struct pollfd *fds, unsigned count, int timeout_ms)
{
    struct curl_waitfd waits[4];
    unsigned n = count < 4 ? count : 4;

    /* How long there is to wait was asked before this call ended. */
    if (perform(transport)) {
        timeout_ms = 0;
    }

    for (unsigned i = 0; i < n; i++) {
        waits[i] = (struct curl_waitfd){.fd = fds[i].fd, .events = CURL_WAIT_POLLIN};
    }
    curl_multi_poll(transport->multi, waits, n, timeout_ms, NULL);
    for (unsigned i = 0; i < n; i++) {
        fds[i].revents = waits[i].revents;
    }

    /* While the peer's HTTP/2 window is full, libcurl 7.88 asks whether the socket
     * takes more, which it does, and would ask again and again. */
    if (timeout_ms != 0 && has_http2_calls(transport) && es_mono_ns() - transport->waited < ES_MS) {
        poll(fds, n, 1);
    }
    transport->waited = es_mono_ns();

    perform(transport);
}
