/* Bearer keys are compared as digests with CRYPTO_memcmp, over the whole list. */
#include "auth.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "try.h"

#define LINE_BYTES 512

struct seam_auth {
    bool open; /* no file: everyone may call */
    uint32_t key_count;
    uint8_t digests[SEAM_AUTH_KEYS_MAX][SHA256_DIGEST_LENGTH];
};

static int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* A line's digest; false for a malformed one; *ret_empty for a blank line or comment. */
static bool line_parse(uint8_t *ret_digest, bool *ret_empty, const char *line) {
    line += strspn(line, " \t");
    *ret_empty = strchr("#\r\n", *line) != NULL; /* also the end of the string */
    if (*ret_empty) {
        return true;
    }
    for (size_t i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        const int high = hex_value(line[2 * i]);
        const int low = high >= 0 ? hex_value(line[2 * i + 1]) : -1;
        if (low < 0) {
            return false;
        }
        ret_digest[i] = (uint8_t)(high * 16 + low);
    }
    return strchr(" \t\r\n#", line[2 * SHA256_DIGEST_LENGTH]) != NULL;
}

static seam_status file_read(seam_auth *auth, FILE *file, const char *path, seam_error *err) {
    char line[LINE_BYTES];
    for (uint32_t n = 1; fgets(line, sizeof line, file) != NULL; n++) {
        bool empty = false;
        if (auth->key_count == SEAM_AUTH_KEYS_MAX) {
            return seam_error_set(err, SEAM_E_LIMIT, "token-file %s:%u: more than %u keys", path, n,
                                  SEAM_AUTH_KEYS_MAX);
        }
        if (!line_parse(auth->digests[auth->key_count], &empty, line)) {
            return seam_error_set(err, SEAM_E_FORMAT,
                                  "token-file %s:%u: not a SHA-256 digest in hex", path, n);
        }
        auth->key_count += empty ? 0 : 1;
    }
    if (ferror(file) != 0) { /* as of a folder, which can be opened */
        return seam_error_set(err, SEAM_E_IO, "token-file: cannot read %s: %s", path,
                              strerror(errno));
    }
    if (auth->key_count == 0) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              "token-file: %s has no key, so that nobody could call", path);
    }
    return SEAM_OK;
}

seam_status seam_auth_create(seam_auth **ret_auth, const char *path, seam_error *err) {
    seam_auth *auth = seam_mem_zalloc(1, sizeof *auth);
    if (auth == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "token-file: out of memory");
    }
    auth->open = path[0] == '\0';
    seam_status st = SEAM_OK;
    FILE *file = NULL;
    if (!auth->open) {
        file = fopen(path, "re");
        st = file != NULL ? file_read(auth, file, path, err)
                          : seam_error_set(err, SEAM_E_IO, "token-file: cannot open %s: %s", path,
                                           strerror(errno));
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    if (st != SEAM_OK) {
        seam_auth_destroy(auth);
        return st;
    }
    *ret_auth = auth;
    return SEAM_OK;
}

void seam_auth_destroy(seam_auth *gift_auth) {
    seam_mem_free(gift_auth);
}

seam_status seam_auth_check(const seam_auth *auth, const void *value, size_t count,
                            seam_error *err) {
    static const char prefix[] = "Bearer ";
    const size_t prefix_count = sizeof prefix - 1;
    if (auth->open) {
        return SEAM_OK;
    }
    if (value == NULL || count <= prefix_count || memcmp(value, prefix, prefix_count) != 0) {
        return seam_error_set(err, SEAM_E_UNAUTHENTICATED, "authorization: a bearer key is needed");
    }
    uint8_t digest[SHA256_DIGEST_LENGTH];
    (void)SHA256((const uint8_t *)value + prefix_count, count - prefix_count, digest);
    int found = 0;
    for (uint32_t i = 0; i < auth->key_count; i++) {
        found |= CRYPTO_memcmp(digest, auth->digests[i], sizeof digest) == 0;
    }
    return found ? SEAM_OK
                 : seam_error_set(err, SEAM_E_UNAUTHENTICATED, "authorization: unknown key");
}

seam_status seam_auth_random(uint8_t *ret, size_t count) {
    return RAND_bytes(ret, (int)count) == 1 ? SEAM_OK : SEAM_E_INTERNAL;
}

bool seam_auth_equal(const uint8_t *a, const uint8_t *b, size_t count) {
    return CRYPTO_memcmp(a, b, count) == 0;
}
