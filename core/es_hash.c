#include "es_hash.h"

#include "es_config.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

#define KEY_MIN 16
#define KEY_MAX 1024

struct es_hash_key {
    size_t size;
    uint8_t bytes[KEY_MAX];
};

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
        memcpy(config->hash_key->bytes, secret.data, secret.len);
        config->hash_key->size = secret.len;
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
    const es_hash_key_t *key = config->hash_key;
    uint8_t digest[EVP_MAX_MD_SIZE];

    if (key == NULL
        || HMAC(EVP_sha256(), key->bytes, (int) key->size,
                (const uint8_t *) (value.data != NULL ? value.data : ""), value.len, digest, NULL)
               == NULL) {
        return ES_STR_NONE;
    }
    es_hex(out, digest, ES_HASH_SIZE);
    return es_str(out, ES_HASH_TEXT);
}
