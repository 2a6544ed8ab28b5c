/* Hashes, paths and the step by which a finished file appears.  See pull_file.h. */
#include "pull_file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "try.h"

#define LOCK_TICK_US 100000

static seam_status digest_of(char ret_hex[SEAM_PULL_HASH_TEXT], FILE *file, EVP_MD_CTX *digest) {
    unsigned char block[65536], value[EVP_MAX_MD_SIZE];
    unsigned value_bytes = 0;
    for (size_t count = sizeof block; count == sizeof block;) {
        count = fread(block, 1, sizeof block, file);
        if (EVP_DigestUpdate(digest, block, count) != 1) {
            return SEAM_E_INTERNAL;
        }
    }
    if (ferror(file) != 0) {
        return SEAM_E_IO;
    }
    if (EVP_DigestFinal_ex(digest, value, &value_bytes) != 1 || value_bytes > 32) {
        return SEAM_E_INTERNAL;
    }
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < value_bytes; i++) {
        ret_hex[2 * i] = digits[value[i] >> 4];
        ret_hex[2 * i + 1] = digits[value[i] & 15];
    }
    ret_hex[2 * value_bytes] = '\0';
    return SEAM_OK;
}

static seam_status hash_file(char ret_hex[SEAM_PULL_HASH_TEXT], const char *path,
                             const EVP_MD *kind, const char *head, size_t head_bytes,
                             seam_error *err) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return seam_error_set(err, SEAM_E_IO, "%s: cannot read: %s", path, strerror(errno));
    }
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    seam_status st = SEAM_E_MEMORY;
    if (digest != NULL && EVP_DigestInit_ex(digest, kind, NULL) == 1 &&
        EVP_DigestUpdate(digest, head, head_bytes) == 1) {
        st = digest_of(ret_hex, file, digest);
    }
    EVP_MD_CTX_free(digest);
    (void)fclose(file);
    return st == SEAM_OK ? st : seam_error_set(err, st, "%s: cannot hash it", path);
}

seam_status seam_pull_hash_sha256(char ret_hex[SEAM_PULL_HASH_TEXT], const char *path,
                                  seam_error *err) {
    return hash_file(ret_hex, path, EVP_sha256(), "", 0, err);
}

seam_status seam_pull_hash_git(char ret_hex[SEAM_PULL_HASH_TEXT], const char *path,
                               seam_error *err) {
    char head[64];
    const int count =
        snprintf(head, sizeof head, "blob %llu", (unsigned long long)seam_pull_file_bytes(path));
    return hash_file(ret_hex, path, EVP_sha1(), head, (size_t)count + 1, err); /* with its zero */
}

seam_status seam_pull_path(char *ret, size_t bytes, seam_error *err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const int count = vsnprintf(ret, bytes, format, args);
    va_end(args);
    if (count < 0 || (size_t)count >= bytes) {
        return seam_error_set(err, SEAM_E_LIMIT, "a path is longer than %zu bytes", bytes - 1);
    }
    return SEAM_OK;
}

seam_status seam_pull_folder_create(const char *path, seam_error *err) {
    char part[SEAM_PULL_PATH_MAX];
    SEAM_TRY(seam_pull_path(part, sizeof part, err, "%s", path));
    for (char *at = part + 1; at[-1] != '\0'; at++) {
        const char held = *at;
        if (held != '/' && held != '\0') {
            continue;
        }
        *at = '\0';
        if (mkdir(part, 0777) != 0 && errno != EEXIST) {
            return seam_error_set(err, SEAM_E_IO, "%s: cannot create: %s", part, strerror(errno));
        }
        *at = held;
    }
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        return seam_error_set(err, SEAM_E_IO, "%s: not a folder", path);
    }
    return SEAM_OK;
}

bool seam_pull_file_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

uint64_t seam_pull_file_bytes(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0;
}

seam_status seam_pull_lock(int *ret_lock, const char *folder, const char *label,
                           const seam_pull_watch *watch, seam_error *err) {
    char path[SEAM_PULL_PATH_MAX];
    SEAM_TRY(seam_pull_path(path, sizeof path, err, "%s/.seam.lock", folder));
    const int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock < 0) {
        return seam_error_set(err, SEAM_E_IO, "%s: cannot create: %s", path, strerror(errno));
    }
    while (flock(lock, LOCK_EX | LOCK_NB) != 0) {
        const bool is_held = errno == EWOULDBLOCK || errno == EINTR;
        const int why = errno;
        const bool goes_on =
            watch == NULL || watch->call == NULL || watch->call(watch->context, label, 0, 0);
        if (!is_held || !goes_on) {
            (void)close(lock);
            return is_held
                       ? seam_error_set(err, SEAM_E_CANCELLED, "%s: stopped", label)
                       : seam_error_set(err, SEAM_E_IO, "%s: cannot lock: %s", path, strerror(why));
        }
        (void)usleep(LOCK_TICK_US);
    }
    *ret_lock = lock;
    return SEAM_OK;
}

void seam_pull_unlock(int lock) {
    (void)close(lock);
}

static bool sync_path(const char *path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    const bool done = fsync(fd) == 0;
    return close(fd) == 0 && done;
}

seam_status seam_pull_file_publish(const char *from, const char *to, seam_error *err) {
    char folder[SEAM_PULL_PATH_MAX];
    SEAM_TRY(seam_pull_path(folder, sizeof folder, err, "%s", to));
    char *slash = strrchr(folder, '/');
    SEAM_ASSERT(slash != NULL);
    *slash = '\0';
    if (!sync_path(from) || rename(from, to) != 0 || !sync_path(folder)) {
        return seam_error_set(err, SEAM_E_IO, "%s: cannot write: %s", to, strerror(errno));
    }
    return SEAM_OK;
}
