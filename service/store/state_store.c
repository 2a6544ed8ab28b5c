/* SQLite in its serialized mode, write-ahead log, every commit flushed; see state_store.h. */
#include "state_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "checkpoint.h"
#include "try.h"

#define PATH_BYTES 1100
/* PRAGMA user_version.  Tables that earlier releases lack are no other version, but for updates of
 * an optimizer: a release that knows none of them would train on by another one. */
#define FORMAT_PLAIN   1
#define FORMAT_UPDATES 2
#define ID_CHARS       32
#define TEXT_OF(x)     #x
#define TEXT(x)        TEXT_OF(x)
#define KEPT_TEXT      TEXT(SEAM_DELETIONS_KEPT)

struct seam_state_store {
    char directory[PATH_BYTES];
    int lock_fd;
    sqlite3 *db;
    seam_disk_queue *queue;
    uint64_t start_number;
};

static seam_status db_error(const seam_state_store *store, const char *what, seam_error *err) {
    return seam_error_set(err, SEAM_E_IO, "%.300s/sessions.db: cannot %s: %s", store->directory,
                          what, store->db != NULL ? sqlite3_errmsg(store->db) : "out of memory");
}

static seam_status db_run(const seam_state_store *store, const char *sql, seam_error *err) {
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK
               ? SEAM_OK
               : db_error(store, "write", err);
}

/* The first column of the first row. */
static seam_status db_number(uint64_t *ret, const seam_state_store *store, const char *sql,
                             seam_error *err) {
    sqlite3_stmt *statement = NULL;
    seam_status st = SEAM_OK;
    if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW) {
        st = db_error(store, "read", err);
    } else {
        *ret = (uint64_t)sqlite3_column_int64(statement, 0);
    }
    (void)sqlite3_finalize(statement);
    return st;
}

/* ---- opening ---- */

static seam_status lock_take(seam_state_store *store, seam_error *err) {
    char path[PATH_BYTES + 32];
    (void)snprintf(path, sizeof path, "%s/lock", store->directory);
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (store->lock_fd < 0) {
        return seam_error_set(err, SEAM_E_IO, "state-dir: %.300s: %s", path, strerror(errno));
    }
    return flock(store->lock_fd, LOCK_EX | LOCK_NB) == 0
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_STATE, "state-dir: %.300s belongs to a running server",
                                store->directory);
}

static seam_status db_open(seam_state_store *store, seam_error *err) {
    char path[PATH_BYTES + 32];
    (void)snprintf(path, sizeof path, "%s/sessions.db", store->directory);
    const mode_t mask = umask(0077);
    const int opened = sqlite3_open_v2(
        path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, NULL);
    (void)umask(mask);
    if (opened != SQLITE_OK) {
        return db_error(store, "open", err);
    }
    uint64_t version = 0;
    SEAM_TRY(db_run(store, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;", err));
    SEAM_TRY(db_number(&version, store, "PRAGMA user_version", err));
    if (version > FORMAT_UPDATES) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "%.300s: format %llu is of a later release", path,
                              (unsigned long long)version);
    }
    SEAM_TRY(db_run(store,
                    "BEGIN IMMEDIATE;"
                    "CREATE TABLE IF NOT EXISTS session(number INTEGER PRIMARY KEY AUTOINCREMENT,"
                    " id TEXT NOT NULL UNIQUE, request_id TEXT NOT NULL, secret BLOB NOT NULL,"
                    " config BLOB NOT NULL, config_hash INTEGER NOT NULL);"
                    "CREATE TABLE IF NOT EXISTS optimizer_update(id TEXT NOT NULL,"
                    " effective_step INTEGER NOT NULL, request_id TEXT NOT NULL,"
                    " optimizer BLOB NOT NULL, PRIMARY KEY(id, effective_step));"
                    "CREATE TABLE IF NOT EXISTS made(id TEXT PRIMARY KEY NOT NULL,"
                    " step_count INTEGER NOT NULL);"
                    "CREATE TABLE IF NOT EXISTS deletion(number INTEGER PRIMARY KEY AUTOINCREMENT,"
                    " request_id TEXT NOT NULL, id TEXT NOT NULL);"
                    "CREATE TABLE IF NOT EXISTS start(number INTEGER NOT NULL);"
                    "INSERT INTO start SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM start);"
                    "UPDATE start SET number = number + 1;"
                    "COMMIT;",
                    err));
    if (version < FORMAT_PLAIN) {
        SEAM_TRY(db_run(store, "PRAGMA user_version = " TEXT(FORMAT_PLAIN), err));
    }
    return db_number(&store->start_number, store, "SELECT number FROM start", err);
}

static seam_status folder_make(const char *path, seam_error *err) {
    return mkdir(path, 0700) == 0 || errno == EEXIST
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_IO, "state-dir: %.300s: %s", path, strerror(errno));
}

static seam_status open_all(seam_state_store *store, seam_error *err) {
    char path[PATH_BYTES + 32];
    SEAM_TRY(folder_make(store->directory, err));
    (void)snprintf(path, sizeof path, "%s/sessions", store->directory);
    SEAM_TRY(folder_make(path, err));
    SEAM_TRY(lock_take(store, err));
    SEAM_TRY(db_open(store, err));
    return seam_disk_queue_create(&store->queue, err);
}

seam_status seam_state_store_open(seam_state_store **ret_store, const char *directory,
                                  seam_error *err) {
    if (strlen(directory) >= PATH_BYTES) {
        return seam_error_set(err, SEAM_E_IO, "state-dir: the path is too long");
    }
    seam_state_store *store = seam_mem_zalloc(1, sizeof *store);
    if (store == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "state-dir: out of memory");
    }
    store->lock_fd = -1;
    memcpy(store->directory, directory, strlen(directory) + 1);
    const seam_status st = open_all(store, err);
    if (st != SEAM_OK) {
        seam_state_store_close(store);
        return st;
    }
    *ret_store = store;
    return SEAM_OK;
}

void seam_state_store_close(seam_state_store *gift_store) {
    if (gift_store == NULL) {
        return;
    }
    seam_disk_queue_destroy(gift_store->queue);
    (void)sqlite3_close(gift_store->db);
    if (gift_store->lock_fd >= 0) {
        (void)close(gift_store->lock_fd);
    }
    seam_mem_free(gift_store);
}

uint64_t seam_state_store_epoch(const seam_state_store *store) {
    return store->start_number << 32;
}

seam_disk_queue *seam_state_store_queue(const seam_state_store *store) {
    return store->queue;
}

seam_status seam_state_store_folder(char *ret, size_t capacity, const seam_state_store *store,
                                    const char *id) {
    const int chars = snprintf(ret, capacity, "%s/sessions/%s", store->directory, id);
    return chars > 0 && (size_t)chars < capacity ? SEAM_OK : SEAM_E_LIMIT;
}

/* ---- rows ---- */

seam_status seam_state_store_add(seam_state_store *store, const seam_session_row *row,
                                 seam_error *err) {
    sqlite3_stmt *statement = NULL;
    seam_status st = SEAM_OK;
    const bool bound =
        sqlite3_prepare_v2(store->db,
                           "INSERT INTO session(id, request_id, secret, config, config_hash)"
                           " VALUES(?, ?, ?, ?, ?)",
                           -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_bind_text(statement, 1, row->id, -1, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_bind_text(statement, 2, row->request_id, -1, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_bind_blob(statement, 3, row->secret, (int)row->secret_bytes, SQLITE_STATIC) ==
            SQLITE_OK &&
        sqlite3_bind_blob(statement, 4, row->config, (int)row->config_bytes, SQLITE_STATIC) ==
            SQLITE_OK &&
        sqlite3_bind_int64(statement, 5, (sqlite3_int64)row->config_hash) == SQLITE_OK;
    const int done = bound ? sqlite3_step(statement) : SQLITE_ERROR;
    if (done == SQLITE_CONSTRAINT) {
        st = seam_error_set(err, SEAM_E_EXISTS, "session %s is stored already", row->id);
    } else if (done != SQLITE_DONE) {
        st = db_error(store, "write", err);
    }
    (void)sqlite3_finalize(statement);
    return st;
}

/* A statement with texts for its parameters; second may be NULL. */
static seam_status texts_run(const seam_state_store *store, const char *sql, const char *first,
                             const char *second, seam_error *err) {
    sqlite3_stmt *statement = NULL;
    const bool done = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) == SQLITE_OK &&
                      sqlite3_bind_text(statement, 1, first, -1, SQLITE_STATIC) == SQLITE_OK &&
                      (second == NULL ||
                       sqlite3_bind_text(statement, 2, second, -1, SQLITE_STATIC) == SQLITE_OK) &&
                      sqlite3_step(statement) == SQLITE_DONE;
    const seam_status st = done ? SEAM_OK : db_error(store, "write", err);
    (void)sqlite3_finalize(statement);
    return st;
}

/* One transaction, with the database locked, for other threads write by the same connection. */
typedef seam_status transaction_fn(const seam_state_store *store, const void *what,
                                   seam_error *err);
static seam_status in_transaction(const seam_state_store *store, transaction_fn *run,
                                  const void *what, seam_error *err) {
    sqlite3_mutex_enter(sqlite3_db_mutex(store->db));
    seam_status st = db_run(store, "BEGIN IMMEDIATE", err);
    if (st == SEAM_OK) {
        st = run(store, what, err);
        st = st == SEAM_OK ? db_run(store, "COMMIT", err) : st;
        if (st != SEAM_OK) {
            (void)sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
        }
    }
    sqlite3_mutex_leave(sqlite3_db_mutex(store->db));
    return st;
}

typedef struct removal {
    const char *id, *request_id;
} removal;

static seam_status row_remove(const seam_state_store *store, const void *what, seam_error *err) {
    const removal *r = what;
    const char *const id = r->id, *const request_id = r->request_id;
    SEAM_TRY(texts_run(store, "DELETE FROM session WHERE id = ?", id, NULL, err));
    SEAM_TRY(texts_run(store, "DELETE FROM optimizer_update WHERE id = ?", id, NULL, err));
    SEAM_TRY(texts_run(store, "DELETE FROM made WHERE id = ?", id, NULL, err));
    if (request_id[0] == '\0') {
        return SEAM_OK;
    }
    SEAM_TRY(texts_run(store,
                       "INSERT INTO deletion(request_id, id) SELECT ?1, ?2 WHERE NOT EXISTS"
                       " (SELECT 1 FROM deletion WHERE request_id = ?1 AND id = ?2)",
                       request_id, id, err));
    return db_run(store,
                  "DELETE FROM deletion WHERE number NOT IN"
                  " (SELECT number FROM deletion ORDER BY number DESC LIMIT " KEPT_TEXT ")",
                  err);
}

/* The row first, with what is remembered of it: files without one are nobody's. */
seam_status seam_state_store_remove(seam_state_store *store, const char *id, const char *request_id,
                                    seam_error *err) {
    char folder[PATH_BYTES + 64];
    struct stat info;
    const removal r = {.id = id, .request_id = request_id};
    SEAM_TRY(in_transaction(store, row_remove, &r, err));
    SEAM_TRY(seam_state_store_folder(folder, sizeof folder, store, id));
    seam_checkpoint_remove_all(folder);
    return stat(folder, &info) != 0 && errno == ENOENT
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_IO, "%.300s: files of a deleted session are left",
                                folder);
}

/* 1, 0: has the session a row? */
static seam_status row_count(uint64_t *ret, const seam_state_store *store, const char *id,
                             seam_error *err) {
    char sql[96];
    (void)snprintf(sql, sizeof sql, "SELECT COUNT(*) FROM session WHERE id = '%.32s'", id);
    return db_number(ret, store, sql, err);
}

seam_status seam_state_store_sweep(uint32_t *ret_count, seam_state_store *store, seam_error *err) {
    char path[PATH_BYTES + 64];
    seam_status st = SEAM_OK;
    uint32_t count = 0;
    (void)snprintf(path, sizeof path, "%s/sessions", store->directory);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return seam_error_set(err, SEAM_E_IO, "state-dir: %.300s: %s", path, strerror(errno));
    }
    for (const struct dirent *entry = readdir(dir); entry != NULL && st == SEAM_OK;
         entry = readdir(dir)) {
        uint64_t rows = 1;
        if (strspn(entry->d_name, "0123456789abcdef") != ID_CHARS ||
            entry->d_name[ID_CHARS] != '\0') {
            continue; /* not ours, and safe in a statement if it is */
        }
        st = row_count(&rows, store, entry->d_name, err);
        if (st == SEAM_OK && rows == 0) {
            st = seam_state_store_folder(path, sizeof path, store, entry->d_name);
            seam_checkpoint_remove_all(path);
            count++;
        }
    }
    (void)closedir(dir);
    *ret_count = count;
    return st;
}

static seam_status row_visit(sqlite3_stmt *statement, seam_session_row_fn *visit, void *user) {
    const seam_session_row row = {
        .id = (const char *)sqlite3_column_text(statement, 0),
        .request_id = (const char *)sqlite3_column_text(statement, 1),
        .secret = sqlite3_column_blob(statement, 2),
        .secret_bytes = (size_t)sqlite3_column_bytes(statement, 2),
        .config = sqlite3_column_blob(statement, 3),
        .config_bytes = (size_t)sqlite3_column_bytes(statement, 3),
        .config_hash = (uint64_t)sqlite3_column_int64(statement, 4),
    };
    return visit(user, &row);
}

seam_status seam_state_store_visit(seam_state_store *store, seam_session_row_fn *visit, void *user,
                                   seam_error *err) {
    sqlite3_stmt *statement = NULL;
    seam_status st = SEAM_OK;
    int next = SQLITE_ERROR;
    if (sqlite3_prepare_v2(store->db,
                           "SELECT id, request_id, secret, config, config_hash FROM session"
                           " ORDER BY number",
                           -1, &statement, NULL) == SQLITE_OK) {
        while ((next = sqlite3_step(statement)) == SQLITE_ROW && st == SEAM_OK) {
            st = row_visit(statement, visit, user);
        }
    }
    if (st == SEAM_OK && next != SQLITE_DONE) {
        st = db_error(store, "read", err);
    }
    (void)sqlite3_finalize(statement);
    return st;
}

/* ---- updates of an optimizer ---- */

typedef struct update {
    const seam_update_row *row;
    uint64_t floor;
} update;

static seam_status update_write(const seam_state_store *store, const void *what, seam_error *err) {
    const update *u = what;
    const seam_update_row *row = u->row;
    sqlite3_stmt *cut = NULL, *add = NULL;
    const bool done =
        sqlite3_prepare_v2(store->db,
                           "DELETE FROM optimizer_update"
                           " WHERE id = ? AND (effective_step >= ? OR effective_step < ?)",
                           -1, &cut, NULL) == SQLITE_OK &&
        sqlite3_bind_text(cut, 1, row->id, -1, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_bind_int64(cut, 2, (sqlite3_int64)row->effective_step) == SQLITE_OK &&
        sqlite3_bind_int64(cut, 3, (sqlite3_int64)u->floor) == SQLITE_OK &&
        sqlite3_step(cut) == SQLITE_DONE &&
        sqlite3_prepare_v2(store->db,
                           "INSERT INTO optimizer_update(id, effective_step, request_id, optimizer)"
                           " VALUES(?, ?, ?, ?)",
                           -1, &add, NULL) == SQLITE_OK &&
        sqlite3_bind_text(add, 1, row->id, -1, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_bind_int64(add, 2, (sqlite3_int64)row->effective_step) == SQLITE_OK &&
        sqlite3_bind_text(add, 3, row->request_id, -1, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_bind_blob(add, 4, row->optimizer, (int)row->optimizer_bytes, SQLITE_STATIC) ==
            SQLITE_OK &&
        sqlite3_step(add) == SQLITE_DONE;
    const seam_status st = done ? SEAM_OK : db_error(store, "write", err);
    (void)sqlite3_finalize(cut);
    (void)sqlite3_finalize(add);
    return st == SEAM_OK ? db_run(store, "PRAGMA user_version = " TEXT(FORMAT_UPDATES), err) : st;
}

seam_status seam_state_store_update(seam_state_store *store, const seam_update_row *row,
                                    uint64_t floor, seam_error *err) {
    const update u = {.row = row, .floor = floor};
    return in_transaction(store, update_write, &u, err);
}

seam_status seam_state_store_visit_updates(seam_state_store *store, const char *id,
                                           seam_update_row_fn *visit, void *user, seam_error *err) {
    sqlite3_stmt *statement = NULL;
    seam_status st = SEAM_OK;
    int next = SQLITE_ERROR;
    if (sqlite3_prepare_v2(store->db,
                           "SELECT request_id, effective_step, optimizer FROM optimizer_update"
                           " WHERE id = ? ORDER BY effective_step",
                           -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_bind_text(statement, 1, id, -1, SQLITE_STATIC) == SQLITE_OK) {
        while ((next = sqlite3_step(statement)) == SQLITE_ROW && st == SEAM_OK) {
            const seam_update_row row = {
                .id = id,
                .request_id = (const char *)sqlite3_column_text(statement, 0),
                .effective_step = (uint64_t)sqlite3_column_int64(statement, 1),
                .optimizer = sqlite3_column_blob(statement, 2),
                .optimizer_bytes = (size_t)sqlite3_column_bytes(statement, 2)};
            st = visit(user, &row);
        }
    }
    if (st == SEAM_OK && next != SQLITE_DONE) {
        st = db_error(store, "read", err);
    }
    (void)sqlite3_finalize(statement);
    return st;
}

/* ---- steps that were made ---- */

seam_status seam_state_store_set_made(seam_state_store *store, const char *id, uint64_t step_count,
                                      seam_error *err) {
    const uint64_t count = step_count < INT64_MAX ? step_count : INT64_MAX;
    char text[24];
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)count);
    return texts_run(store,
                     "INSERT OR REPLACE INTO made(id, step_count) VALUES(?, CAST(? AS INTEGER))",
                     id, text, err);
}

seam_status seam_state_store_made(uint64_t *ret_step_count, const seam_state_store *store,
                                  const char *id, seam_error *err) {
    sqlite3_stmt *statement = NULL;
    int next = SQLITE_ERROR;
    if (sqlite3_prepare_v2(store->db, "SELECT step_count FROM made WHERE id = ?", -1, &statement,
                           NULL) == SQLITE_OK &&
        sqlite3_bind_text(statement, 1, id, -1, SQLITE_STATIC) == SQLITE_OK) {
        next = sqlite3_step(statement);
    }
    const bool done = next == SQLITE_ROW || next == SQLITE_DONE;
    const int64_t count = next == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    const seam_status st = done ? SEAM_OK : db_error(store, "read", err);
    (void)sqlite3_finalize(statement);
    if (done) {
        *ret_step_count = count > 0 ? (uint64_t)count : 0;
    }
    return st;
}

seam_status seam_state_store_visit_deletions(seam_state_store *store, seam_deletion_row_fn *visit,
                                             void *user, seam_error *err) {
    sqlite3_stmt *statement = NULL;
    seam_status st = SEAM_OK;
    int next = SQLITE_ERROR;
    if (sqlite3_prepare_v2(store->db, "SELECT request_id, id FROM deletion ORDER BY number", -1,
                           &statement, NULL) == SQLITE_OK) {
        while ((next = sqlite3_step(statement)) == SQLITE_ROW && st == SEAM_OK) {
            st = visit(user, (const char *)sqlite3_column_text(statement, 0),
                       (const char *)sqlite3_column_text(statement, 1));
        }
    }
    if (st == SEAM_OK && next != SQLITE_DONE) {
        st = db_error(store, "read", err);
    }
    (void)sqlite3_finalize(statement);
    return st;
}
