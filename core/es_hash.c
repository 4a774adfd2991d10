/* HMAC-SHA256 (RFC 2104) with the state that follows from the key kept, by the functions of
 * OpenSSL that allocate nothing and take no lock: 0.13 us for a short value, where HMAC()
 * takes 1.5 us, most of it for looking up what "HMAC" and "SHA256" are. */

#define OPENSSL_SUPPRESS_DEPRECATED

#include "es_hash.h"

#include "es_config.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>

#define KEY_MIN 16
#define KEY_MAX 1024

struct es_hash_key {
    SHA256_CTX inner, outer; /* behind the padded key */
};

static void
begin(SHA256_CTX *state, const uint8_t key[SHA256_CBLOCK], uint8_t pad)
{
    uint8_t block[SHA256_CBLOCK];

    for (size_t i = 0; i < sizeof(block); i++) {
        block[i] = key[i] ^ pad;
    }
    SHA256_Init(state);
    SHA256_Update(state, block, sizeof(block));
    OPENSSL_cleanse(block, sizeof(block));
}

static void
set_key(es_hash_key_t *hash_key, es_str_t secret)
{
    uint8_t key[SHA256_CBLOCK] = {0};

    if (secret.len > sizeof(key)) {
        SHA256((const uint8_t *) secret.data, secret.len, key);
    } else {
        memcpy(key, secret.data, secret.len);
    }
    begin(&hash_key->inner, key, 0x36);
    begin(&hash_key->outer, key, 0x5c);
    OPENSSL_cleanse(key, sizeof(key));
}

bool
es_config_hash_key(es_config_t *config, es_str_t file, es_error_t *error)
{
    char *path = es_config_path(config, file);
    es_buffer_t content = {NULL, 0};
    es_str_t secret;
    bool ok;

    es_hash_key_dispose(config);
    ok = path != NULL && (config->hash_key = malloc(sizeof(*config->hash_key))) != NULL;
    if (!ok) {
        es_fail(error, "no memory");
    }
    /* One more for each byte of the newline. */
    ok = ok && es_file_read(path, KEY_MAX + 2, &content, error);
    secret = es_str(content.data, content.size);
    secret.len -= secret.len != 0 && secret.data[secret.len - 1] == '\n';
    secret.len -=
        secret.len != 0 && content.size != secret.len && secret.data[secret.len - 1] == '\r';
    if (ok && (secret.len < KEY_MIN || secret.len > KEY_MAX)) {
        ok = es_fail(error,
                     "%.256s holds a key of %zu bytes: it takes %d to %d, as \"openssl rand -hex "
                     "32\" writes them",
                     path, secret.len, KEY_MIN, KEY_MAX);
    }
    if (ok) {
        set_key(config->hash_key, secret);
    } else {
        es_hash_key_dispose(config);
    }
    if (content.data != NULL) {
        OPENSSL_cleanse(content.data, content.size);
    }
    es_buffer_free(&content);
    free(path);
    return ok;
}

void
es_hash_key_dispose(es_config_t *config)
{
    if (config->hash_key != NULL) {
        OPENSSL_cleanse(config->hash_key, sizeof(*config->hash_key));
        free(config->hash_key);
        config->hash_key = NULL;
    }
}

es_str_t
es_hash(const es_config_t *config, es_str_t value, char out[ES_HASH_TEXT])
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256_CTX state;

    if (config->hash_key == NULL) {
        return ES_STR_NONE;
    }
    state = config->hash_key->inner;
    SHA256_Update(&state, value.data, value.len);
    SHA256_Final(digest, &state);
    state = config->hash_key->outer;
    SHA256_Update(&state, digest, sizeof(digest));
    SHA256_Final(digest, &state);
    es_hex(out, digest, ES_HASH_SIZE);
    return es_str(out, ES_HASH_TEXT);
}
