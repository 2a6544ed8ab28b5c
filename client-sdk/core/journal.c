/* Append, flush, scan, drop: see journal.h.  Read next: record_file.c, one record. */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "bytes.h"
#include "file_write.h"
#include "record_file.h"
#include "try.h"

#define PATH_BYTES      4096
#define FILE_HEAD_BYTES 32
#define VERSION         1
#define DROP_BYTES_MIN  (1u << 20)

static const uint8_t file_magic[8] = {'S', 'E', 'A', 'M', 'J', 'R', 'N', 'L'};

struct seam_journal {
    char folder[PATH_BYTES];
    int lock_fd, fd;
    uint64_t mark, end;             /* of the file */
    uint64_t notes_end, notes_last; /* of journal.notes: behind its last intact record, its step */
    bool broken;                    /* a write or flush has failed */
    seam_buffer places;             /* seam_record_place, rising */
    seam_buffer scratch;
};

static const seam_record_place *places_of(const seam_journal *j) {
    return (const seam_record_place *)(const void *)j->places.data;
}

static size_t place_count(const seam_journal *j) {
    return j->places.count / sizeof(seam_record_place);
}

static const seam_record_place *place_find(const seam_journal *j, uint64_t step_count) {
    const seam_record_place *places = places_of(j);
    const size_t count = place_count(j);
    if (count == 0 || step_count < places[0].step_count ||
        step_count - places[0].step_count >= count) {
        return NULL;
    }
    return &places[step_count - places[0].step_count]; /* without gaps */
}

static seam_status io_error(const seam_journal *j, const char *name, seam_error *err) {
    return seam_error_set(err, SEAM_E_IO, "%.300s/%s: %s", j->folder, name, strerror(errno));
}

static void path_of(char ret[PATH_BYTES + 32], const seam_journal *j, const char *name) {
    (void)snprintf(ret, PATH_BYTES + 32, "%s/%s", j->folder, name);
}

/* A failure of seam_record_file_load and seam_record_file_next, in words. */
static seam_status load_error(const seam_journal *j, const char *name, seam_status st,
                              seam_error *err) {
    return st == SEAM_E_IO ? io_error(j, name, err)
                           : seam_error_set(err, st, "%.300s/%s: %s", j->folder, name,
                                            st == SEAM_E_MEMORY ? "out of memory" : "damaged");
}

/* ---- opening ---- */

static seam_status journal_make(seam_journal **ret, const char *folder, uint64_t mark,
                                seam_error *err) {
    if (strlen(folder) >= PATH_BYTES - 64) {
        return seam_error_set(err, SEAM_E_ARG, "journal: the path is too long");
    }
    seam_journal *j = seam_mem_zalloc(1, sizeof *j);
    if (j == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "journal: out of memory");
    }
    memcpy(j->folder, folder, strlen(folder) + 1);
    j->mark = mark;
    j->fd = j->lock_fd = -1;
    *ret = j;
    return SEAM_OK;
}

static seam_status journal_take(seam_journal **ret, const char *folder, uint64_t mark,
                                seam_error *err) {
    char path[PATH_BYTES + 32];
    seam_journal *j = NULL;
    SEAM_TRY(journal_make(&j, folder, mark, err));
    SEAM_ASSERT(j != NULL);
    path_of(path, j, "journal.lock");
    j->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    seam_status st = SEAM_OK;
    if (j->lock_fd < 0) {
        st = io_error(j, "journal.lock", err);
    } else if (flock(j->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        st = seam_error_set(err, SEAM_E_STATE, "%.300s: another process has this run", folder);
    }
    if (st != SEAM_OK) {
        seam_journal_close(j);
        return st;
    }
    *ret = j;
    return SEAM_OK;
}

static void file_head_put(uint8_t ret[FILE_HEAD_BYTES], uint64_t mark) {
    memset(ret, 0, FILE_HEAD_BYTES);
    memcpy(ret, file_magic, sizeof file_magic);
    seam_put_u32(ret + 8, VERSION);
    seam_put_u64(ret + 16, mark);
    seam_put_u32(ret + 28, seam_crc32c(0, ret, 28));
}

static seam_status create_file(seam_journal *j, seam_error *err) {
    char path[PATH_BYTES + 32];
    uint8_t head[FILE_HEAD_BYTES];
    path_of(path, j, "journal.notes");
    if (unlink(path) != 0 && errno != ENOENT) {
        return io_error(j, "journal.notes", err);
    }
    path_of(path, j, "journal.bin");
    j->fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    file_head_put(head, j->mark);
    if (j->fd < 0 || !seam_file_write_all(j->fd, head, sizeof head) || fsync(j->fd) != 0 ||
        !seam_file_sync_folder(j->folder)) {
        return io_error(j, "journal.bin", err);
    }
    j->end = FILE_HEAD_BYTES;
    return SEAM_OK;
}

seam_status seam_journal_create(seam_journal **ret_journal, const char *folder, uint64_t mark,
                                seam_error *err) {
    seam_journal *j = NULL;
    SEAM_TRY(journal_take(&j, folder, mark, err));
    const seam_status st = create_file(j, err);
    if (st != SEAM_OK) {
        seam_journal_close(j);
        return st;
    }
    *ret_journal = j;
    return SEAM_OK;
}

static seam_status file_head_check(const seam_journal *j, seam_error *err) {
    uint8_t head[FILE_HEAD_BYTES], expected[FILE_HEAD_BYTES];
    const seam_status st = seam_record_file_read(j->fd, head, sizeof head, 0);
    if (st == SEAM_E_IO) {
        return io_error(j, "journal.bin", err);
    }
    if (st != SEAM_OK) {
        return seam_error_set(err, SEAM_E_DATA_LOSS, "%.300s/journal.bin: its head is cut off",
                              j->folder);
    }
    file_head_put(expected, seam_get_u64(head + 16));
    if (memcmp(head, expected, sizeof head) != 0) {
        return seam_error_set(err, SEAM_E_DATA_LOSS,
                              "%.300s/journal.bin: its head is damaged, or of another release",
                              j->folder);
    }
    return seam_get_u64(head + 16) == j->mark
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_ARG, "%.300s/journal.bin: of another session",
                                j->folder);
}

/* The records from the first one on, until one is torn or damaged. */
static seam_status places_load(seam_journal *j, uint64_t end, seam_error *err) {
    seam_record_place p;
    seam_status st = SEAM_OK;
    j->end = FILE_HEAD_BYTES;
    while ((st = seam_record_file_load(&p, &j->scratch, j->fd, j->end, end)) == SEAM_OK) {
        const size_t count = place_count(j);
        if (count > 0 && p.step_count != places_of(j)[count - 1].step_count + 1) {
            break;
        }
        if (seam_buffer_add(&j->places, &p, sizeof p) != SEAM_OK) {
            st = SEAM_E_MEMORY;
            break;
        }
        j->end += seam_record_file_bytes(&p);
    }
    return st == SEAM_OK || st == SEAM_E_DATA_LOSS ? SEAM_OK
                                                   : load_error(j, "journal.bin", st, err);
}

/* Where journal.notes goes on: what is behind its last intact record was torn by a write that did
 * not end, so that journal.bin has those notes still. */
static seam_status notes_find_end(seam_journal *j, seam_error *err) {
    char path[PATH_BYTES + 32];
    struct stat info;
    seam_record_place p;
    uint64_t at = 0;
    path_of(path, j, "journal.notes");
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        return SEAM_OK;
    }
    seam_status st = fd < 0 || fstat(fd, &info) != 0 ? SEAM_E_IO : SEAM_OK;
    while (st == SEAM_OK) {
        st = seam_record_file_next(&p, &j->scratch, fd, &at, (uint64_t)info.st_size);
        if (st == SEAM_OK) {
            j->notes_end = at;
            j->notes_last = p.step_count > j->notes_last ? p.step_count : j->notes_last;
        }
    }
    st = st == SEAM_E_NOT_FOUND ? SEAM_OK : load_error(j, "journal.notes", st, err);
    if (fd >= 0) {
        (void)close(fd);
    }
    return st;
}

/* Opens journal.bin and finds its records; *ret_end: of the file. */
static seam_status scan_file(seam_journal *j, uint64_t *ret_end, int access, seam_error *err) {
    char path[PATH_BYTES + 32];
    struct stat info;
    path_of(path, j, "journal.bin");
    j->fd = open(path, access | O_CLOEXEC);
    if (j->fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        return seam_error_set(err, SEAM_E_NOT_FOUND, "%.300s: there is no journal", j->folder);
    }
    if (j->fd < 0 || fstat(j->fd, &info) != 0) {
        return io_error(j, "journal.bin", err);
    }
    SEAM_TRY(file_head_check(j, err));
    *ret_end = (uint64_t)info.st_size;
    SEAM_TRY(places_load(j, *ret_end, err));
    return place_count(j) > 0
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_DATA_LOSS,
                                "%.300s/journal.bin: its first record is damaged", j->folder);
}

static seam_status open_file(seam_journal *j, uint64_t *ret_cut, seam_error *err) {
    uint64_t end = 0;
    SEAM_TRY(scan_file(j, &end, O_RDWR, err));
    *ret_cut = end - j->end;
    if (ftruncate(j->fd, (off_t)j->end) != 0 || lseek(j->fd, (off_t)j->end, SEEK_SET) < 0) {
        return io_error(j, "journal.bin", err);
    }
    return notes_find_end(j, err);
}

seam_status seam_journal_open(seam_journal **ret_journal, uint64_t *ret_cut, const char *folder,
                              uint64_t mark, seam_error *err) {
    seam_journal *j = NULL;
    SEAM_TRY(journal_take(&j, folder, mark, err));
    const seam_status st = open_file(j, ret_cut, err);
    if (st != SEAM_OK) {
        seam_journal_close(j);
        return st;
    }
    *ret_journal = j;
    return SEAM_OK;
}

seam_status seam_journal_peek(uint64_t *ret_step_count, const char *folder, uint64_t mark,
                              seam_error *err) {
    seam_journal *j = NULL;
    uint64_t end = 0;
    SEAM_TRY(journal_make(&j, folder, mark, err));
    SEAM_ASSERT(j != NULL);
    const seam_status st = scan_file(j, &end, O_RDONLY, err);
    if (st == SEAM_OK) {
        *ret_step_count = seam_journal_newest(j);
    }
    seam_journal_close(j);
    return st;
}

void seam_journal_close(seam_journal *gift_journal) {
    if (gift_journal == NULL) {
        return;
    }
    if (gift_journal->fd >= 0) {
        (void)close(gift_journal->fd);
    }
    if (gift_journal->lock_fd >= 0) {
        (void)close(gift_journal->lock_fd);
    }
    seam_buffer_deinit(&gift_journal->places);
    seam_buffer_deinit(&gift_journal->scratch);
    seam_mem_free(gift_journal);
}

/* ---- adding and reading ---- */

seam_status seam_journal_add(seam_journal *journal, const seam_journal_record *record,
                             seam_error *err) {
    seam_journal *const j = journal;
    SEAM_ASSERT(place_count(j) == 0 || record->step_count == seam_journal_newest(j) + 1);
    if (j->broken) {
        return seam_error_set(err, SEAM_E_IO, "%.300s/journal.bin: a write has failed before",
                              j->folder);
    }
    const seam_status packed = seam_record_file_pack(&j->scratch, record);
    const seam_record_place p = {.step_count = record->step_count,
                                 .state_hash = record->state_hash,
                                 .begin = j->end,
                                 .body_bytes = (uint32_t)record->body_bytes,
                                 .note_bytes = (uint32_t)record->note_bytes};
    if (packed != SEAM_OK || seam_buffer_reserve(&j->places, j->places.count + sizeof p)) {
        return seam_error_set(err, packed != SEAM_OK ? packed : SEAM_E_MEMORY,
                              "journal: a record does not fit");
    }
    if (!seam_file_write_all(j->fd, j->scratch.data, j->scratch.count) || fdatasync(j->fd) != 0) {
        const seam_status st = io_error(j, "journal.bin", err);
        j->broken = true; /* whether the pages are on the disk cannot be known any more */
        if (ftruncate(j->fd, (off_t)j->end) != 0) {
            return st; /* a torn record is cut off when the journal is opened */
        }
        return st;
    }
    j->end += seam_record_file_bytes(&p);
    return seam_buffer_add(&j->places, &p, sizeof p);
}

uint64_t seam_journal_oldest(const seam_journal *journal) {
    SEAM_ASSERT(place_count(journal) > 0);
    return places_of(journal)[0].step_count;
}

uint64_t seam_journal_newest(const seam_journal *journal) {
    SEAM_ASSERT(place_count(journal) > 0);
    return places_of(journal)[place_count(journal) - 1].step_count;
}

bool seam_journal_hash(uint64_t *ret_hash, const seam_journal *journal, uint64_t step_count) {
    const seam_record_place *p = place_find(journal, step_count);
    if (p != NULL) {
        *ret_hash = p->state_hash;
    }
    return p != NULL;
}

seam_status seam_journal_read(seam_buffer *ret_body, const seam_journal *journal,
                              uint64_t step_count, seam_error *err) {
    const seam_record_place *p = place_find(journal, step_count);
    seam_record_place again;
    if (p == NULL) {
        return seam_error_set(err, SEAM_E_DATA_LOSS,
                              "%.300s/journal.bin: does not go back to step %llu", journal->folder,
                              (unsigned long long)step_count);
    }
    const seam_status st =
        seam_record_file_load(&again, ret_body, journal->fd, p->begin, journal->end);
    if (st != SEAM_OK) {
        (void)load_error(journal, "journal.bin", st, err);
        return seam_error_prefix(err, st, "step %llu", (unsigned long long)step_count);
    }
    memmove(ret_body->data, ret_body->data + SEAM_RECORD_HEAD_BYTES, again.body_bytes);
    ret_body->count = again.body_bytes;
    return SEAM_OK;
}

/* ---- dropping ---- */

/* The notes of the first `count` records that are not there yet, behind what is; *ret_last: the
 * step of the last one. */
static seam_status notes_write(uint64_t *ret_last, seam_journal *j, int fd, size_t count,
                               seam_error *err) {
    seam_buffer out = {0};
    seam_status st = SEAM_OK;
    *ret_last = j->notes_last;
    for (size_t i = 0; i < count && st == SEAM_OK; i++) {
        const seam_record_place *p = &places_of(j)[i];
        seam_record_place again;
        if (p->note_bytes == 0 || p->step_count <= j->notes_last) {
            continue;
        }
        st = seam_record_file_load(&again, &j->scratch, j->fd, p->begin, j->end);
        if (st != SEAM_OK) {
            st = load_error(j, "journal.bin", st, err);
            break;
        }
        const seam_journal_record note = {.step_count = p->step_count,
                                          .note = j->scratch.data + SEAM_RECORD_HEAD_BYTES +
                                                  p->body_bytes,
                                          .note_bytes = p->note_bytes};
        st = seam_record_file_pack(&out, &note);
        if (st == SEAM_OK && !seam_file_write_all(fd, out.data, out.count)) {
            st = io_error(j, "journal.notes", err);
        }
        *ret_last = p->step_count;
    }
    seam_buffer_deinit(&out);
    return st;
}

/* The notes of the first `count` records into journal.notes, flushed.  What an earlier call tore is
 * cut off first; a failed flush is no loss, for the notes are in journal.bin until this succeeds.
 */
static seam_status notes_keep(seam_journal *j, size_t count, seam_error *err) {
    char path[PATH_BYTES + 32];
    uint64_t last = 0;
    path_of(path, j, "journal.notes");
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return io_error(j, "journal.notes", err);
    }
    seam_status st =
        ftruncate(fd, (off_t)j->notes_end) == 0 && lseek(fd, (off_t)j->notes_end, SEEK_SET) >= 0
            ? notes_write(&last, j, fd, count, err)
            : io_error(j, "journal.notes", err);
    const off_t end = st == SEAM_OK ? lseek(fd, 0, SEEK_CUR) : 0;
    if (st == SEAM_OK &&
        (end < 0 || fsync(fd) != 0 || (j->notes_end == 0 && !seam_file_sync_folder(j->folder)))) {
        st = io_error(j, "journal.notes", err);
    }
    if (st == SEAM_OK) {
        j->notes_end = (uint64_t)end;
        j->notes_last = last;
    }
    (void)close(fd);
    return st;
}

/* The records from `begin` on in a new file beside; *ret_fd is it, open. */
static seam_status rest_write(int *ret_fd, seam_journal *j, uint64_t begin, const char *path,
                              seam_error *err) {
    uint8_t head[FILE_HEAD_BYTES];
    const size_t count = (size_t)(j->end - begin);
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    file_head_put(head, j->mark);
    if (fd < 0 || seam_buffer_reserve(&j->scratch, count) != SEAM_OK ||
        seam_record_file_read(j->fd, j->scratch.data, count, begin) != SEAM_OK ||
        !seam_file_write_all(fd, head, sizeof head) ||
        !seam_file_write_all(fd, j->scratch.data, count) || fsync(fd) != 0) {
        const seam_status st = io_error(j, "journal.part", err);
        if (fd >= 0) {
            (void)close(fd);
            (void)unlink(path);
        }
        return st;
    }
    *ret_fd = fd;
    return SEAM_OK;
}

seam_status seam_journal_forget(seam_journal *journal, uint64_t step_count, seam_error *err) {
    seam_journal *const j = journal;
    const seam_record_place *first = place_find(j, step_count);
    if (first == NULL || j->broken || first->begin - FILE_HEAD_BYTES < DROP_BYTES_MIN ||
        first->begin - FILE_HEAD_BYTES < j->end - first->begin) {
        return SEAM_OK;
    }
    char path[PATH_BYTES + 32], part[PATH_BYTES + 32];
    const size_t dropped = (size_t)(first - places_of(j));
    const uint64_t shift = first->begin - FILE_HEAD_BYTES;
    int fd = -1;
    path_of(path, j, "journal.bin");
    path_of(part, j, "journal.part");
    SEAM_TRY(notes_keep(j, dropped, err));
    SEAM_TRY(rest_write(&fd, j, first->begin, part, err));
    if (rename(part, path) != 0) {
        const seam_status st = io_error(j, "journal.bin", err);
        (void)close(fd);
        (void)unlink(part);
        return st;
    }
    (void)close(j->fd);
    j->fd = fd;
    j->end -= shift;
    j->places.count -= dropped * sizeof(seam_record_place);
    memmove(j->places.data, j->places.data + dropped * sizeof(seam_record_place), j->places.count);
    seam_record_place *places = (seam_record_place *)(void *)j->places.data;
    for (size_t i = 0; i < place_count(j); i++) {
        places[i].begin -= shift;
    }
    /* Without it an older file may come back after a power cut: it is intact, but has less. */
    j->broken = !seam_file_sync_folder(j->folder);
    return j->broken ? io_error(j, "journal.bin", err) : SEAM_OK;
}

/* ---- notes ---- */

typedef struct note_visit {
    seam_journal_visit_fn *fn;
    void *user;
    uint64_t last;      /* visited; a crash between two files leaves a note in both */
    seam_status result; /* of fn */
} note_visit;

static void note_show(note_visit *visit, const seam_record_place *p, const seam_buffer *record) {
    if (p->note_bytes > 0 && p->step_count > visit->last) {
        visit->last = p->step_count;
        visit->result =
            visit->fn(visit->user, p->step_count,
                      record->data + SEAM_RECORD_HEAD_BYTES + p->body_bytes, p->note_bytes);
    }
}

static seam_status dropped_visit(const seam_journal *j, seam_buffer *scratch, note_visit *visit,
                                 seam_error *err) {
    char path[PATH_BYTES + 32];
    seam_record_place p;
    uint64_t at = 0;
    if (j->notes_end == 0) {
        return SEAM_OK;
    }
    path_of(path, j, "journal.notes");
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    seam_status st = fd >= 0 ? SEAM_OK : SEAM_E_IO;
    while (st == SEAM_OK && visit->result == SEAM_OK) {
        st = seam_record_file_next(&p, scratch, fd, &at, j->notes_end);
        if (st == SEAM_OK) {
            note_show(visit, &p, scratch);
        }
    }
    st =
        st == SEAM_OK || st == SEAM_E_NOT_FOUND ? SEAM_OK : load_error(j, "journal.notes", st, err);
    if (fd >= 0) {
        (void)close(fd);
    }
    return st;
}

seam_status seam_journal_visit(const seam_journal *journal, seam_journal_visit_fn *visit,
                               void *user, seam_error *err) {
    seam_buffer scratch = {0};
    note_visit state = {.fn = visit, .user = user};
    seam_status st = dropped_visit(journal, &scratch, &state, err);
    for (size_t i = 0; i < place_count(journal) && st == SEAM_OK && state.result == SEAM_OK; i++) {
        seam_record_place p;
        st = seam_record_file_load(&p, &scratch, journal->fd, places_of(journal)[i].begin,
                                   journal->end);
        if (st != SEAM_OK) {
            st = load_error(journal, "journal.bin", st, err);
        } else {
            note_show(&state, &p, &scratch);
        }
    }
    seam_buffer_deinit(&scratch);
    return st != SEAM_OK ? st : state.result;
}
