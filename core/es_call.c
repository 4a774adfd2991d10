#include "es_call.h"

#include "es_clock.h"

#include <stdio.h>
#include <stdlib.h>

/* ----------------------------------------------------------- receiving --- */

/* False: no memory. */
static bool
keep(es_kept_t *kept, const char *data, size_t length)
{
    if (length > kept->room - kept->length) {
        size_t room = 2 * (kept->length + length);
        char *grown = realloc(kept->data, room);

        if (grown == NULL) {
            return false;
        }
        kept->data = grown;
        kept->room = room;
    }
    if (length != 0) {
        memcpy(kept->data + kept->length, data, length);
    }
    kept->length += length;
    return true;
}

/* A line of the headers or trailers. Returning less than its length ends the
 * call. */
static size_t
receive_header(char *data, size_t size, size_t count, void *user)
{
    es_call_t *call = user;
    size_t length = size * count;

    if (es_str_starts(es_str(data, length), ES_STR("HTTP/"))) {
        call->headers.length = 0; /* an interim response is over */
    }
    if (call->headers.length + length > ES_RESPONSE_HEADERS_MAX) {
        call->too_large = true;
        return 0;
    }
    return keep(&call->headers, data, length) ? length : 0;
}

/* What answers without any header: the first frame of HTTP/2 (RFC 9113, 3.4) or
 * an alert of TLS (RFC 8446, 5.1). */
static es_peer_t
recognise(es_str_t bytes)
{
    if (bytes.len >= 4 && bytes.data[0] == 0 && bytes.data[3] == 4) {
        return ES_PEER_HTTP2;
    }
    return es_str_starts(bytes, ES_STR("\x15\x03")) ? ES_PEER_TLS : ES_PEER_UNKNOWN;
}

static size_t
receive(char *data, size_t size, size_t count, void *user)
{
    es_call_t *call = user;
    size_t length = size * count, room = ES_RESPONSE_KEPT - call->body.length;

    if (call->headers.length == 0) {
        call->peer = recognise(es_str(data, length));
        return 0;
    }
    call->received += length;
    if (call->received > ES_RESPONSE_MAX) {
        call->too_large = true;
        return 0;
    }
    return keep(&call->body, data, length < room ? length : room) ? length : 0;
}

/* -------------------------------------------------------------- sending --- */

static bool
add_header(es_call_t *call, const char *line)
{
    struct curl_slist *list = curl_slist_append(call->headers_sent, line);

    if (list != NULL) {
        call->headers_sent = list;
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

static bool
has_tls(const es_request_t *request)
{
    return es_str_starts(es_cstr(request->url), ES_STR("https:"));
}

static void
set_protocols(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075500 /* 7.85.0 */
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

/* libcurl 7.88 fails when it uses an HTTP/2 connection without TLS once more
 * (curl's issue 10634). */
static bool
loses_http2(void)
{
    unsigned version = curl_version_info(CURLVERSION_NOW)->version_num;

    return version >= 0x075800 && version < 0x080000;
}

static void
set_http_version(CURL *easy, const es_request_t *request)
{
    long version = CURL_HTTP_VERSION_1_1;

    if (request->http2 && has_tls(request)) {
        version = CURL_HTTP_VERSION_2TLS; /* negotiated; see peer_of() */
    } else if (request->http2) {
        version = CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE;
    }
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, version);

    if (version == CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE && loses_http2()) {
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    } else if (request->http2) {
        curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L); /* one connection rather than one each */
    }

    /* Not that it were accepted: receive() tells from it who answers. */
    curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 1L);
}

static void
set_options(es_call_t *call)
{
    const es_request_t *request = &call->request;
    CURL *easy = call->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    set_protocols(easy);
    set_http_version(easy, request);
    if (request->unix_socket != NULL) {
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, request->unix_socket);
    }
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body.data);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body.len);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, call->headers_sent);
    curl_easy_setopt(easy, CURLOPT_USERAGENT,
                     "edgespan/" EDGESPAN_VERSION " OTel-OTLP-Exporter-C/" EDGESPAN_VERSION);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) (request->timeout_ns / ES_MS));
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, receive_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");

    /* Signals are the server's; a stuck getaddrinfo() must not hold the stop. */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700 /* 7.87.0 */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
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
#if LIBCURL_VERSION_NUM >= 0x074d00 /* 7.77.0; see es_transport_lacks() */
    set_blob(easy, CURLOPT_CAINFO_BLOB, &tls->trusted_certificate);
#endif
    if (tls->trusted_certificate.size != 0) {
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); /* these and no others */
    }
    set_blob(easy, CURLOPT_SSLCERT_BLOB, &tls->client_certificate);
    set_blob(easy, CURLOPT_SSLKEY_BLOB, &tls->client_certificate_key);

    /* A key that is encrypted fails; nobody is there to be asked for its
     * password. */
    curl_easy_setopt(easy, CURLOPT_KEYPASSWD, "");
}

/* ------------------------------------------------------------ a handle --- */

es_call_t *
es_call_create(void)
{
    es_call_t *call = calloc(1, sizeof(*call));

    if (call != NULL && (call->easy = curl_easy_init()) == NULL) {
        free(call);
        return NULL;
    }
    return call;
}

void
es_call_destroy(es_call_t *call)
{
    curl_easy_cleanup(call->easy);
    free(call->headers.data);
    free(call->body.data);
    free(call);
}

/* From 7.83 on, before 8.1.1, libcurl takes a response that begins with a folded
 * header for more of the last header that the handle had, which is freed (curl's
 * issue 11101). There a handle is good for one request. */
static bool
keeps_last_header(void)
{
    unsigned version = curl_version_info(CURLVERSION_NOW)->version_num;

    return version >= 0x075300 && version < 0x080101;
}

static bool
renew(es_call_t *call)
{
    CURL *fresh = curl_easy_init();

    if (fresh == NULL) {
        return false;
    }
    curl_easy_cleanup(call->easy);
    call->easy = fresh;
    return true;
}

bool
es_call_prepare(es_call_t *call, const es_request_t *request)
{
    if (keeps_last_header() && !renew(call)) {
        return false;
    }
    call->request = *request;
    call->headers.length = 0;
    call->body.length = 0;
    call->received = 0;
    call->peer = ES_PEER_UNKNOWN;
    call->too_large = false;
    call->error[0] = '\0';

    if (!set_headers(call)) {
        return false;
    }
    set_options(call);
    set_tls(call->easy, request->tls);
    return true;
}

void
es_call_reset(es_call_t *call)
{
    curl_easy_reset(call->easy);
    curl_slist_free_all(call->headers_sent);
    call->headers_sent = NULL;
}

/* ------------------------------------------------------------ the outcome --- */

/* curl has the code of a stream's reset nowhere but in its words, of which there
 * were two forms. Without any, the peer ended the stream before the request was
 * sent, which is no error of HTTP/2 but its NO_ERROR: libcurl 7.88 then does not
 * tell what it answered. */
static int
stream_error(const es_call_t *call, CURLcode code)
{
    const char *decimal = strstr(call->error, "(err "), *hex = strstr(call->error, "(error 0x");
    unsigned error;

    if (code != CURLE_HTTP2_STREAM) {
        return -1;
    }
    if ((decimal != NULL && sscanf(decimal, "(err %u", &error) == 1)
        || (hex != NULL && sscanf(hex, "(error 0x%x", &error) == 1)) {
        return (int) error;
    }
    return 0;
}

static es_peer_t
peer_of(const es_call_t *call, CURLcode code)
{
    long version = 0, connects = 0;

    if (call->peer != ES_PEER_UNKNOWN) {
        return call->peer;
    }
    switch (code) {
    case CURLE_OK:
        curl_easy_getinfo(call->easy, CURLINFO_HTTP_VERSION, &version);
        return call->request.http2 && version != CURL_HTTP_VERSION_2_0 ? ES_PEER_HTTP1
                                                                       : ES_PEER_UNKNOWN;
    case CURLE_SSL_CONNECT_ERROR:
        /* OpenSSL's words, and GnuTLS's. */
        return strstr(call->error, "wrong version number") != NULL
                       || strstr(call->error, "unexpected TLS packet") != NULL
                   ? ES_PEER_PLAIN
                   : ES_PEER_UNKNOWN;
    case CURLE_HTTP2:
        if (strstr(call->error, "expected SETTINGS") != NULL) {
            return ES_PEER_HTTP1;
        }
        if (loses_http2()) {
            return ES_PEER_UNKNOWN; /* how it takes a GOAWAY */
        }
        /* fall through */
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
        /* An old connection may have been closed at any time, and says nothing. */
        curl_easy_getinfo(call->easy, CURLINFO_NUM_CONNECTS, &connects);
        return connects == 1 && call->headers.length == 0
                       && strstr(call->error, "nghttp2") == NULL /* of a frame that came */
                       && strstr(call->error, "alert") == NULL   /* TLS says why */
                   ? ES_PEER_SILENT
                   : ES_PEER_UNKNOWN;
    default:
        return ES_PEER_UNKNOWN;
    }
}

es_response_t
es_call_response(const es_call_t *call, CURLcode code)
{
    es_response_t response = {
        .headers = es_str(call->headers.data, call->headers.length),
        .body = es_str(call->body.data, call->body.length),
        .too_large = call->too_large,
        .stream_error = stream_error(call, code),
        .peer = peer_of(call, code),
    };
    curl_off_t retry_after = 0;
    long status = 0;

    if (code == CURLE_OK) {
        curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(call->easy, CURLINFO_RETRY_AFTER, &retry_after);
        if (retry_after < 0) {
            retry_after = 0; /* a date that is over, or a clock that differs */
        } else if (retry_after > (curl_off_t) ES_RETRY_AFTER_MAX) {
            retry_after = (curl_off_t) ES_RETRY_AFTER_MAX;
        }
        response.retry_after_ns = (uint64_t) retry_after * ES_SECOND;
    }
    /* libcurl is content with "HTTP/200", and reads no status out of it or any. */
    if (status >= 100 && status <= 999) {
        response.status = (unsigned) status;
    } else if (code == CURLE_OK || (code == CURLE_WRITE_ERROR && call->headers.length == 0)) {
        response.failure = "what it answers is not HTTP";
    } else {
        response.failure = call->error[0] != '\0' ? call->error : curl_easy_strerror(code);
    }
    return response;
}
