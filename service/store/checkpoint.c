/* Generations of a session's checkpoints; see checkpoint.h. */
#include "checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "bytes.h"
#include "file_write.h"
#include "try.h"

#define PATH_BYTES         1200
#define MANIFEST_BYTES_MAX 1024
#define SHA256_BYTES       32
#define STEP_DIGITS        20

#define DATA_SUFFIX     ".safetensors"
#define MANIFEST_SUFFIX ".manifest"
#define MANIFEST_FIRST  "seam-checkpoint 1\n"

/* What a manifest says of the file beside it. */
typedef struct manifest {
    seam_checkpoint_facts facts;
    uint64_t bytes;
    uint8_t sha256[SHA256_BYTES];
} manifest;

static seam_status path_make(char ret[PATH_BYTES], const char *folder, uint64_t step_count,
                             const char *suffix, seam_error *err) {
    const int chars = snprintf(ret, PATH_BYTES, "%s/%020" PRIu64 "%s", folder, step_count, suffix);
    return chars > 0 && chars < PATH_BYTES
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_LIMIT, "the path %.100s... is too long", folder);
}

static seam_status sha256(uint8_t ret[SHA256_BYTES], const uint8_t *bytes, size_t count) {
    unsigned digest_bytes = 0;
    return EVP_Digest(bytes, count, ret, &digest_bytes, EVP_sha256(), NULL) == 1 &&
                   digest_bytes == SHA256_BYTES
               ? SEAM_OK
               : SEAM_E_MEMORY;
}

/* ---- the manifest's text ---- */

static size_t manifest_print(char ret[MANIFEST_BYTES_MAX], const manifest *m) {
    char hex[2 * SHA256_BYTES + 1];
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", m->sha256[i]);
    }
    const int body =
        snprintf(ret, MANIFEST_BYTES_MAX,
                 MANIFEST_FIRST "steps %" PRIu64 "\nstate_hash %016" PRIx64 "\nbytes %" PRIu64
                                "\nsha256 %s\ndevice %.159s\n",
                 m->facts.step_count, m->facts.state_hash, m->bytes, hex, m->facts.device);
    SEAM_ASSERT(body > 0);
    SEAM_ASSERT(body < MANIFEST_BYTES_MAX - 32);
    const int tail = snprintf(ret + body, MANIFEST_BYTES_MAX - (size_t)body,
                              "crc32c %08" PRIx32 "\n", seam_crc32c(0, ret, (size_t)body));
    return (size_t)body + (size_t)tail;
}

/* Accepts only what manifest_print makes of the fields, so that no flipped byte goes unseen. */
static bool manifest_parse(manifest *ret, const char *text, size_t count) {
    char hex[2 * SHA256_BYTES + 1] = "", again[MANIFEST_BYTES_MAX];
    manifest m = {.bytes = 0};
    if (count == 0 || count >= MANIFEST_BYTES_MAX || memchr(text, '\0', count) != NULL) {
        return false;
    }
    char line[MANIFEST_BYTES_MAX];
    memcpy(line, text, count);
    line[count] = '\0';
    if (sscanf(line,
               MANIFEST_FIRST "steps %" SCNu64 " state_hash %" SCNx64 " bytes %" SCNu64
                              " sha256 %64s device %159[^\n]",
               &m.facts.step_count, &m.facts.state_hash, &m.bytes, hex, m.facts.device) < 4) {
        return false;
    }
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        unsigned byte = 0;
        if (sscanf(hex + 2 * i, "%2x", &byte) != 1) {
            return false;
        }
        m.sha256[i] = (uint8_t)byte;
    }
    const size_t again_bytes = manifest_print(again, &m);
    if (again_bytes != count || memcmp(again, text, count) != 0) {
        return false;
    }
    *ret = m;
    return true;
}

/* ---- writing ---- */

seam_status seam_checkpoint_write(const char *folder, const seam_checkpoint_facts *facts,
                                  const uint8_t *bytes, size_t count, seam_error *err) {
    char path[PATH_BYTES], text[MANIFEST_BYTES_MAX];
    manifest m = {.facts = *facts, .bytes = count};
    SEAM_TRY(path_make(path, folder, facts->step_count, DATA_SUFFIX, err));
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
        return seam_error_set(err, SEAM_E_IO, "%.300s: %s", folder, strerror(errno));
    }
    if (sha256(m.sha256, bytes, count) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "checkpoint: out of memory");
    }
    SEAM_TRY(seam_file_write_atomic(path, bytes, count, err));
    SEAM_TRY(path_make(path, folder, facts->step_count, MANIFEST_SUFFIX, err));
    const seam_status st = seam_file_write_atomic(path, text, manifest_print(text, &m), err);
    if (st != SEAM_OK && access(path, F_OK) != 0) { /* there was no such generation before */
        seam_checkpoint_remove(folder, facts->step_count);
    }
    return st;
}

/* ---- reading ---- */

/* What errno of a file that could not be read means: a passing lack, or that it is unreadable. */
static seam_status read_status(int number) {
    switch (number) {
    case ENOENT:
        return SEAM_E_CHECKSUM;
    case EMFILE:
    case ENFILE:
        return SEAM_E_LIMIT;
    case ENOMEM:
        return SEAM_E_MEMORY;
    default:
        return SEAM_E_IO;
    }
}

/* SEAM_E_CHECKSUM: there is none, it has more than bytes_max, or it was cut meanwhile. */
static seam_status file_read(uint8_t **ret_bytes, size_t *ret_count, const char *path,
                             uint64_t bytes_max, seam_error *err) {
    FILE *file = fopen(path, "rbe");
    struct stat info;
    if (file == NULL) {
        return seam_error_set(err, read_status(errno), "%.300s: %s", path, strerror(errno));
    }
    uint8_t *bytes = NULL;
    seam_status st = SEAM_OK;
    if (fstat(fileno(file), &info) != 0) {
        st = seam_error_set(err, read_status(errno), "%.300s: %s", path, strerror(errno));
    } else if (info.st_size < 0 || (uint64_t)info.st_size > bytes_max) {
        st = seam_error_set(err, SEAM_E_CHECKSUM, "%.300s: %lld bytes are too many", path,
                            (long long)info.st_size);
    } else if ((bytes = seam_mem_alloc((size_t)info.st_size + 1)) == NULL) {
        st = seam_error_set(err, SEAM_E_MEMORY, "checkpoint: out of memory");
    } else if (fread(bytes, 1, (size_t)info.st_size, file) != (size_t)info.st_size) {
        st = ferror(file) != 0
                 ? seam_error_set(err, read_status(errno), "%.300s: %s", path, strerror(errno))
                 : seam_error_set(err, SEAM_E_CHECKSUM, "%.300s: was cut", path);
    }
    (void)fclose(file);
    if (st != SEAM_OK) {
        seam_mem_free(bytes);
        return st;
    }
    *ret_bytes = bytes;
    *ret_count = (size_t)info.st_size;
    return SEAM_OK;
}

static seam_status manifest_read(manifest *ret, const char *folder, uint64_t step_count,
                                 seam_error *err) {
    char path[PATH_BYTES];
    uint8_t *bytes = NULL;
    size_t count = 0;
    SEAM_TRY(path_make(path, folder, step_count, MANIFEST_SUFFIX, err));
    SEAM_TRY(file_read(&bytes, &count, path, MANIFEST_BYTES_MAX, err));
    const bool good =
        manifest_parse(ret, (const char *)bytes, count) && ret->facts.step_count == step_count;
    seam_mem_free(bytes);
    return good ? SEAM_OK : seam_error_set(err, SEAM_E_CHECKSUM, "%.300s: damaged", path);
}

seam_status seam_checkpoint_read(uint8_t **ret_bytes, size_t *ret_count,
                                 seam_checkpoint_facts *ret_facts, const char *folder,
                                 uint64_t step_count, seam_error *err) {
    char path[PATH_BYTES];
    manifest m;
    uint8_t *bytes = NULL;
    uint8_t digest[SHA256_BYTES];
    size_t count = 0;
    SEAM_TRY(manifest_read(&m, folder, step_count, err));
    SEAM_TRY(path_make(path, folder, step_count, DATA_SUFFIX, err));
    SEAM_TRY(file_read(&bytes, &count, path, m.bytes, err));
    seam_status st = sha256(digest, bytes, count);
    if (st == SEAM_OK && (count != m.bytes || memcmp(digest, m.sha256, sizeof digest) != 0)) {
        st = seam_error_set(err, SEAM_E_CHECKSUM, "%.300s: not what its manifest says", path);
    }
    if (st != SEAM_OK) {
        seam_mem_free(bytes);
        return st;
    }
    *ret_bytes = bytes;
    *ret_count = count;
    *ret_facts = m.facts;
    return SEAM_OK;
}

static bool name_parse(uint64_t *ret_step_count, const char *name) {
    char *end = NULL;
    if (strspn(name, "0123456789") != STEP_DIGITS) {
        return false;
    }
    *ret_step_count = strtoull(name, &end, 10);
    return strcmp(end, MANIFEST_SUFFIX) == 0;
}

seam_status seam_checkpoint_list(uint64_t ret_step_counts[SEAM_CHECKPOINTS_MAX],
                                 uint32_t *ret_count, const char *folder, seam_error *err) {
    uint32_t count = 0;
    DIR *dir = opendir(folder);
    if (dir == NULL && errno != ENOENT) {
        return seam_error_set(err, SEAM_E_IO, "%.300s: %s", folder, strerror(errno));
    }
    for (const struct dirent *entry = dir != NULL ? readdir(dir) : NULL; entry != NULL;
         entry = readdir(dir)) {
        uint64_t step_count = 0;
        if (!name_parse(&step_count, entry->d_name) ||
            (count == SEAM_CHECKPOINTS_MAX && step_count < ret_step_counts[0])) {
            continue;
        }
        if (count == SEAM_CHECKPOINTS_MAX) { /* the oldest makes room */
            count--;
            memmove(ret_step_counts, ret_step_counts + 1, count * sizeof *ret_step_counts);
        }
        uint32_t at = count;
        for (; at > 0 && ret_step_counts[at - 1] > step_count; at--) {
            ret_step_counts[at] = ret_step_counts[at - 1];
        }
        ret_step_counts[at] = step_count;
        count++;
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    *ret_count = count;
    return SEAM_OK;
}

/* ---- removing ---- */

/* The manifest first: nothing may name a file that has gone. */
void seam_checkpoint_remove(const char *folder, uint64_t step_count) {
    char path[PATH_BYTES];
    if (path_make(path, folder, step_count, MANIFEST_SUFFIX, NULL) == SEAM_OK) {
        (void)unlink(path);
    }
    if (path_make(path, folder, step_count, DATA_SUFFIX, NULL) == SEAM_OK) {
        (void)unlink(path);
    }
}

static bool ends_with(const char *name, const char *suffix) {
    const size_t chars = strlen(name), tail = strlen(suffix);
    return chars >= tail && strcmp(name + chars - tail, suffix) == 0;
}

void seam_checkpoint_sweep(const char *folder) {
    DIR *dir = opendir(folder);
    for (const struct dirent *entry = dir != NULL ? readdir(dir) : NULL; entry != NULL;
         entry = readdir(dir)) {
        const char *name = entry->d_name;
        char path[PATH_BYTES];
        if (strspn(name, "0123456789") != STEP_DIGITS) {
            continue;
        }
        bool left = ends_with(name, ".tmp");
        if (strcmp(name + STEP_DIGITS, DATA_SUFFIX) == 0 &&
            path_make(path, folder, strtoull(name, NULL, 10), MANIFEST_SUFFIX, NULL) == SEAM_OK) {
            left = access(path, F_OK) != 0 && errno == ENOENT;
        }
        if (left) {
            (void)unlinkat(dirfd(dir), name, 0);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

void seam_checkpoint_remove_all(const char *folder) {
    DIR *dir = opendir(folder);
    for (const struct dirent *entry = dir != NULL ? readdir(dir) : NULL; entry != NULL;
         entry = readdir(dir)) {
        if (strspn(entry->d_name, "0123456789") == STEP_DIGITS) {
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    (void)rmdir(folder);
}
