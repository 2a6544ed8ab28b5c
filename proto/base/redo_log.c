/* Append, flush, read again: see redo_log.h. */
#include "redo_log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "bytes.h"
#include "file_write.h"
#include "try.h"

#define PATH_BYTES   4200
#define HEAD_BYTES   32
#define RECORD_BYTES 16 /* in front of a body */
#define VERSION      1
#define RECORD_MAGIC UINT32_C(0x314c5253) /* "SRL1" */
#define NUMBERS_MAX  10000
#define SUFFIX       ".caches"

static const uint8_t file_magic[8] = {'S', 'E', 'A', 'M', 'R', 'E', 'D', 'O'};

void seam_redo_place_put(uint8_t ret[SEAM_REDO_PLACE_BYTES], const seam_redo_place *place) {
    seam_put_u64(ret, place->step);
    seam_put_u64(ret + 8, place->number);
    seam_put_u64(ret + 16, place->end);
    seam_put_u64(ret + 24, place->chain);
}

seam_redo_place seam_redo_place_get(const uint8_t bytes[SEAM_REDO_PLACE_BYTES]) {
    return (seam_redo_place){.step = seam_get_u64(bytes),
                             .number = seam_get_u64(bytes + 8),
                             .end = seam_get_u64(bytes + 16),
                             .chain = seam_get_u64(bytes + 24)};
}

/* ---- files ---- */

static seam_status path_make(char ret[PATH_BYTES], const char *folder, uint64_t step,
                             uint64_t number, seam_error *err) {
    const int chars =
        snprintf(ret, PATH_BYTES, "%s/%020" PRIu64 ".%04" PRIu64 SUFFIX, folder, step, number);
    return chars > 0 && chars < PATH_BYTES
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_LIMIT, "the path %.100s... is too long", folder);
}

static seam_status io_error(const char *what, seam_error *err) {
    char reason[128] = "";
    return seam_error_set(err, SEAM_E_IO, "%.300s: %s", what,
                          strerror_r(errno, reason, sizeof reason));
}

/* false: an error, or the file ends before (errno 0). */
static bool read_all(int fd, uint8_t *ret, size_t count) {
    while (count > 0) {
        errno = 0;
        const ssize_t n = read(fd, ret, count);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        ret += n;
        count -= (size_t)n;
    }
    return true;
}

static void head_put(uint8_t ret[HEAD_BYTES], uint64_t step, uint64_t mark) {
    memset(ret, 0, HEAD_BYTES);
    memcpy(ret, file_magic, sizeof file_magic);
    seam_put_u32(ret + 8, VERSION);
    seam_put_u64(ret + 16, mark);
    seam_put_u64(ret + 24, step);
}

/* The place behind the head. */
static seam_redo_place place_first(uint64_t step, uint64_t number, const uint8_t head[HEAD_BYTES]) {
    return (seam_redo_place){.step = step,
                             .number = number,
                             .end = HEAD_BYTES,
                             .chain = seam_hash64(SEAM_HASH64_INIT, head, HEAD_BYTES)};
}

/* Under a number that no file has: one of the same step may be what a checkpoint names. */
static seam_status file_make(int *ret_fd, uint64_t *ret_number, char path[PATH_BYTES],
                             const char *folder, uint64_t step, seam_error *err) {
    int fd = -1;
    uint64_t number = 0;
    for (; number < NUMBERS_MAX && fd < 0; number++) {
        SEAM_TRY(path_make(path, folder, step, number, err));
        fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno != EEXIST) {
            break;
        }
    }
    if (fd < 0) {
        return io_error(path, err);
    }
    *ret_fd = fd;
    *ret_number = number - 1;
    return SEAM_OK;
}

seam_status seam_redo_log_create(seam_redo_log *ret_log, const char *folder, uint64_t step,
                                 uint64_t mark, seam_error *err) {
    char path[PATH_BYTES];
    uint8_t head[HEAD_BYTES];
    int fd = -1;
    uint64_t number = 0;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
        return io_error(folder, err);
    }
    SEAM_TRY(file_make(&fd, &number, path, folder, step, err));
    head_put(head, step, mark);
    if (!seam_file_write_all(fd, head, sizeof head)) {
        const seam_status st = io_error(path, err);
        (void)close(fd);
        (void)unlink(path);
        return st;
    }
    *ret_log = (seam_redo_log){.fd = fd, .place = place_first(step, number, head)};
    return SEAM_OK;
}

seam_status seam_redo_log_open(seam_redo_log *ret_log, const char *folder,
                               const seam_redo_place *place, uint64_t mark, seam_error *err) {
    char path[PATH_BYTES];
    uint8_t head[HEAD_BYTES], expected[HEAD_BYTES];
    SEAM_TRY(path_make(path, folder, place->step, place->number, err));
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? seam_error_set(err, SEAM_E_CHECKSUM, "%.300s: is not there", path)
                               : io_error(path, err);
    }
    head_put(expected, place->step, mark);
    if (!read_all(fd, head, sizeof head) || memcmp(head, expected, sizeof head) != 0) {
        (void)close(fd);
        return seam_error_set(err, SEAM_E_CHECKSUM,
                              "%.300s: its head is damaged, or of another session", path);
    }
    *ret_log = (seam_redo_log){.fd = fd, .place = place_first(place->step, place->number, head)};
    return SEAM_OK;
}

void seam_redo_log_close(seam_redo_log *log) {
    if (log->fd >= 0) {
        (void)close(log->fd);
    }
    *log = (seam_redo_log){.fd = -1};
}

void seam_redo_log_discard(seam_redo_log *log, const char *folder) {
    char path[PATH_BYTES];
    if (log->fd >= 0 &&
        path_make(path, folder, log->place.step, log->place.number, NULL) == SEAM_OK) {
        (void)unlink(path);
    }
    seam_redo_log_close(log);
}

/* ---- records ---- */

static uint32_t record_crc(const uint8_t head[RECORD_BYTES], const uint8_t *body, size_t count) {
    return seam_crc32c(seam_crc32c(0, head + 8, 4), body, count);
}

/* The head of a record stands for its body: it has the checksum. */
static void place_pass(seam_redo_log *log, const uint8_t head[RECORD_BYTES]) {
    uint64_t *const chain = &log->chains[seam_get_u32(head + 8)];
    const uint64_t before = *chain;
    *chain = seam_hash64(before, head, RECORD_BYTES);
    log->place.end += RECORD_BYTES + (uint64_t)seam_get_u32(head + 4);
    log->place.chain += *chain - before;
}

seam_status seam_redo_log_add(seam_redo_log *log, const seam_redo_record *record, seam_error *err) {
    uint8_t head[RECORD_BYTES];
    SEAM_ASSERT(log->fd >= 0);
    SEAM_ASSERT(record->kind < SEAM_REDO_KINDS);
    if (record->body_bytes > SEAM_REDO_RECORD_BYTES_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT, "caches: a record does not fit");
    }
    seam_put_u32(head, RECORD_MAGIC);
    seam_put_u32(head + 4, (uint32_t)record->body_bytes);
    seam_put_u32(head + 8, record->kind);
    seam_put_u32(head + 12, record_crc(head, record->body, record->body_bytes));
    if (!seam_file_write_all(log->fd, head, sizeof head) ||
        !seam_file_write_all(log->fd, record->body, record->body_bytes)) {
        return io_error("caches", err);
    }
    place_pass(log, head);
    return SEAM_OK;
}

/* What a replay reads into; grows to its largest record. */
typedef struct room {
    uint8_t *bytes;
    size_t capacity;
} room;

static seam_status room_reserve(room *r, size_t count, seam_error *err) {
    if (count <= r->capacity) {
        return SEAM_OK;
    }
    seam_mem_free(r->bytes);
    *r = (room){.bytes = seam_mem_alloc(count)};
    if (r->bytes == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "caches: out of memory");
    }
    r->capacity = count;
    return SEAM_OK;
}

static seam_status cut_error(const seam_redo_place *at, seam_error *err) {
    return errno != 0 ? io_error("caches", err)
                      : seam_error_set(err, SEAM_E_CHECKSUM,
                                       "caches of step %llu: cut off behind %llu bytes",
                                       (unsigned long long)at->step, (unsigned long long)at->end);
}

static seam_status record_read(seam_redo_record *ret, uint8_t head[RECORD_BYTES], room *r,
                               const seam_redo_log *log, uint64_t end, seam_error *err) {
    const seam_redo_place *at = &log->place;
    if (end - at->end < RECORD_BYTES) {
        errno = 0;
        return cut_error(at, err);
    }
    if (!read_all(log->fd, head, RECORD_BYTES)) {
        return cut_error(at, err);
    }
    const size_t count = seam_get_u32(head + 4);
    const bool is_record =
        seam_get_u32(head) == RECORD_MAGIC && count <= SEAM_REDO_RECORD_BYTES_MAX &&
        seam_get_u32(head + 8) < SEAM_REDO_KINDS && count <= end - at->end - RECORD_BYTES;
    if (is_record) {
        SEAM_TRY(room_reserve(r, count, err));
        if (!read_all(log->fd, r->bytes, count)) {
            return cut_error(at, err);
        }
    }
    if (!is_record || record_crc(head, r->bytes, count) != seam_get_u32(head + 12)) {
        return seam_error_set(err, SEAM_E_CHECKSUM,
                              "caches of step %llu: damaged behind %llu bytes",
                              (unsigned long long)at->step, (unsigned long long)at->end);
    }
    *ret =
        (seam_redo_record){.kind = seam_get_u32(head + 8), .body = r->bytes, .body_bytes = count};
    return SEAM_OK;
}

seam_status seam_redo_log_replay(seam_redo_log *log, const seam_redo_place *to,
                                 seam_redo_visit_fn *visit, void *user, seam_error *err) {
    uint8_t head[HEAD_BYTES];
    room r = {.bytes = NULL};
    seam_status st = SEAM_OK;
    SEAM_ASSERT(log->place.step == to->step && log->place.number == to->number);
    if (lseek(log->fd, 0, SEEK_SET) < 0 || !read_all(log->fd, head, sizeof head)) {
        return io_error("caches", err);
    }
    *log = (seam_redo_log){.fd = log->fd, .place = place_first(to->step, to->number, head)};
    while (st == SEAM_OK && log->place.end < to->end) {
        uint8_t record_head[RECORD_BYTES];
        seam_redo_record record;
        st = record_read(&record, record_head, &r, log, to->end, err);
        if (st == SEAM_OK) {
            place_pass(log, record_head);
            st = visit(user, &record, err);
        }
    }
    seam_mem_free(r.bytes);
    if (st == SEAM_OK && (log->place.end != to->end || log->place.chain != to->chain)) {
        st = seam_error_set(err, SEAM_E_CHECKSUM,
                            "caches of step %llu: not those that were recorded",
                            (unsigned long long)to->step);
    }
    return st;
}

/* ---- the disk ---- */

seam_status seam_redo_log_flush(int fd, const char *folder, seam_error *err) {
    if (fdatasync(fd) != 0) {
        return io_error("caches", err);
    }
    if (folder == NULL) {
        return SEAM_OK;
    }
    const int folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0) {
        return io_error(folder, err);
    }
    const bool ok = fsync(folder_fd) == 0 || errno == EINVAL; /* some file systems have none */
    const seam_status st = ok ? SEAM_OK : io_error(folder, err);
    (void)close(folder_fd);
    return st;
}

static bool name_parse(uint64_t *ret_step, uint64_t *ret_number, const char *name) {
    char *end = NULL;
    if (strspn(name, "0123456789") != 20) {
        return false;
    }
    *ret_step = strtoull(name, &end, 10);
    if (*end != '.') {
        return false;
    }
    *ret_number = strtoull(end + 1, &end, 10);
    return strcmp(end, SUFFIX) == 0;
}

void seam_redo_logs_remove(const char *folder, const seam_redo_place *place) {
    DIR *dir = opendir(folder);
    for (const struct dirent *entry = dir != NULL ? readdir(dir) : NULL; entry != NULL;
         entry = readdir(dir)) {
        uint64_t step = 0, number = 0;
        if (!name_parse(&step, &number, entry->d_name)) {
            continue;
        }
        if (place == NULL || step < place->step ||
            (step == place->step && number < place->number)) {
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}
