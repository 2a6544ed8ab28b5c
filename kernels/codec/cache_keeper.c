/* Caches <-> redo log; see cache_keeper.h. */
#include "cache_keeper.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "aqsgd.h"
#include "arena.h"
#include "sample_cache.h"
#include "try.h"

#define FOLDER_BYTES 4096
#define GROWTH_DUE   2           /* times what the caches hold: a new file */
#define GROWTH_MAX   32          /* nothing is added */
#define SPARE_BYTES  (64u << 10) /* counts as held */

typedef struct kept_cache {
    seam_cache_keeper *keeper;
    uint32_t idx; /* the kind of its records */
    seam_aqsgd *aqsgd;
} kept_cache;

struct seam_cache_keeper {
    char folder[FOLDER_BYTES];
    uint64_t owner;
    kept_cache caches[SEAM_KEPT_CACHES_MAX];
    uint32_t cache_count;
    seam_redo_log log;
    seam_redo_place mark; /* end 0: the log does not have it */
    bool moved;           /* tensors since the mark */
    bool broken;          /* the log lacks some, or a flush has failed */
    bool named;           /* the folder was flushed since the file has begun */
    bool lost;
};

/* Is the log so many times what the caches hold? */
static bool has_grown(const seam_cache_keeper *k, uint64_t times) {
    uint64_t bytes = SPARE_BYTES;
    for (uint32_t i = 0; i < k->cache_count; i++) {
        bytes += seam_aqsgd_cached_bytes(k->caches[i].aqsgd);
    }
    return k->log.place.end >= times * bytes;
}

static void committed(void *user, const uint8_t *tape, size_t tape_bytes) {
    const kept_cache *cache = user;
    seam_cache_keeper *const k = cache->keeper;
    const seam_redo_record record = {.kind = cache->idx, .body = tape, .body_bytes = tape_bytes};
    seam_error err = {0}; /* save says it */
    k->moved = true;
    if (k->log.fd >= 0 && !k->broken) { /* one that nobody saves any more ends somewhere */
        k->broken =
            has_grown(k, GROWTH_MAX) || seam_redo_log_add(&k->log, &record, &err) != SEAM_OK;
    }
}

seam_status seam_cache_keeper_create(seam_cache_keeper **ret_keeper, seam_coder *const *coders,
                                     uint32_t coder_count, const char *folder, uint64_t owner,
                                     seam_error *err) {
    seam_cache_keeper *const k = seam_mem_zalloc(1, sizeof *k);
    if (k == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "caches: out of memory");
    }
    const int chars = snprintf(k->folder, sizeof k->folder, "%s", folder);
    if (chars < 0 || (size_t)chars >= sizeof k->folder) {
        seam_mem_free(k);
        return seam_error_set(err, SEAM_E_LIMIT, "the path %.100s... is too long", folder);
    }
    k->owner = owner;
    k->log.fd = -1;
    for (uint32_t i = 0; i < coder_count; i++) {
        seam_aqsgd *const aqsgd = seam_coder_cache(coders[i]);
        if (aqsgd == NULL) {
            continue;
        }
        SEAM_ASSERT(k->cache_count < SEAM_KEPT_CACHES_MAX);
        kept_cache *const cache = &k->caches[k->cache_count];
        *cache = (kept_cache){.keeper = k, .idx = k->cache_count++, .aqsgd = aqsgd};
        seam_aqsgd_on_commit(aqsgd, committed, cache);
    }
    if (k->cache_count == 0) {
        seam_mem_free(k);
        return SEAM_OK;
    }
    *ret_keeper = k;
    return SEAM_OK;
}

void seam_cache_keeper_destroy(seam_cache_keeper *gift_keeper) {
    if (gift_keeper == NULL) {
        return;
    }
    for (uint32_t i = 0; i < gift_keeper->cache_count; i++) {
        seam_aqsgd_on_commit(gift_keeper->caches[i].aqsgd, NULL, NULL);
    }
    seam_redo_log_close(&gift_keeper->log);
    seam_mem_free(gift_keeper);
}

seam_status seam_cache_keeper_check(const seam_cache_keeper *keeper, seam_error *err) {
    return keeper == NULL || !keeper->lost
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_DATA_LOSS,
                                "the caches of codec aqsgd of the last committed step are lost");
}

/* ---- saving ---- */

void seam_cache_keeper_mark(seam_cache_keeper *keeper) {
    keeper->mark = keeper->broken ? (seam_redo_place){.end = 0} : keeper->log.place;
    keeper->moved = false;
}

static seam_status entries_add(seam_redo_log *log, const kept_cache *cache, seam_error *err) {
    uint32_t entry = SEAM_CACHE_NONE;
    seam_redo_record record = {.kind = cache->idx};
    while (seam_aqsgd_entry_tape(&record.body, &record.body_bytes, cache->aqsgd, &entry)) {
        SEAM_TRY(seam_redo_log_add(log, &record, err));
    }
    return SEAM_OK;
}

/* A new file with all entries in place of the one that is open. */
static seam_status file_begin(seam_cache_keeper *k, uint64_t step, seam_error *err) {
    seam_redo_log log = {.fd = -1};
    seam_status st = seam_redo_log_create(&log, k->folder, step, k->owner, err);
    for (uint32_t i = 0; i < k->cache_count && st == SEAM_OK; i++) {
        st = entries_add(&log, &k->caches[i], err);
    }
    if (st != SEAM_OK) {
        seam_redo_log_discard(&log, k->folder);
        return seam_error_prefix(err, st, "caches of codec aqsgd");
    }
    seam_redo_log_close(&k->log);
    k->log = log;
    k->broken = k->named = false;
    seam_cache_keeper_mark(k);
    return SEAM_OK;
}

seam_status seam_cache_keeper_save(seam_redo_place *ret_place, seam_cache_keeper *keeper,
                                   uint64_t step, seam_error *err) {
    seam_cache_keeper *const k = keeper;
    SEAM_TRY(seam_cache_keeper_check(k, err));
    const bool has_file = k->log.fd >= 0 && !k->broken;
    if (!has_file && k->moved) { /* the entries are those of a step in flight */
        return seam_error_set(err, SEAM_E_IO, "caches of codec aqsgd: a write has failed");
    }
    if (!k->moved && (!has_file || has_grown(k, GROWTH_DUE))) {
        SEAM_TRY(file_begin(k, step, err));
    }
    *ret_place = k->mark;
    return SEAM_OK;
}

seam_status seam_cache_keeper_flush(seam_cache_keeper *keeper, seam_error *err) {
    seam_cache_keeper *const k = keeper;
    const seam_status st = seam_redo_log_flush(k->log.fd, k->named ? NULL : k->folder, err);
    k->broken = k->broken || st != SEAM_OK;
    k->named = st == SEAM_OK;
    return st;
}

int seam_cache_keeper_file(const seam_cache_keeper *keeper) {
    return fcntl(keeper->log.fd, F_DUPFD_CLOEXEC, 0);
}

void seam_cache_keeper_break(seam_cache_keeper *keeper) {
    keeper->broken = true;
}

/* ---- going back ---- */

static seam_status record_visit(void *user, const seam_redo_record *record, seam_error *err) {
    const seam_cache_keeper *k = user;
    seam_status st = SEAM_E_FORMAT;
    if (record->kind < k->cache_count) {
        st =
            seam_aqsgd_replay(k->caches[record->kind].aqsgd, record->body, record->body_bytes, err);
    } else {
        (void)seam_error_set(err, st, "caches: a record of cache %u", record->kind);
    }
    return st == SEAM_OK ? SEAM_OK : SEAM_E_CHECKSUM;
}

seam_status seam_cache_keeper_restore(seam_cache_keeper *keeper, const seam_redo_place *place,
                                      seam_error *err) {
    seam_cache_keeper *const k = keeper;
    const seam_redo_place place_to = *place; /* it may be the mark */
    seam_redo_log log = {.fd = -1};
    k->lost = true;
    for (uint32_t i = 0; i < k->cache_count; i++) {
        seam_aqsgd_forget(k->caches[i].aqsgd);
    }
    seam_status st = seam_redo_log_open(&log, k->folder, &place_to, k->owner, err);
    if (st == SEAM_OK) {
        st = seam_redo_log_replay(&log, &place_to, record_visit, k, err);
    }
    if (st != SEAM_OK) {
        seam_redo_log_close(&log);
        return seam_error_prefix(err, st, "caches of codec aqsgd");
    }
    /* Of a file that a flush has failed on the next save makes a new one. */
    k->broken =
        k->broken && k->log.place.step == log.place.step && k->log.place.number == log.place.number;
    seam_redo_log_close(&k->log);
    k->log = log;
    k->mark = log.place;
    k->named = k->lost = k->moved = false;
    return SEAM_OK;
}

seam_status seam_cache_keeper_rewind(seam_cache_keeper *keeper, seam_error *err) {
    seam_cache_keeper *const k = keeper;
    if (!k->moved || k->lost) {
        return seam_cache_keeper_check(k, err);
    }
    if (k->log.fd < 0 || k->mark.end == 0) {
        k->lost = true;
        return seam_cache_keeper_check(k, err);
    }
    const seam_status st = seam_cache_keeper_restore(k, &k->mark, err);
    return st == SEAM_OK ? SEAM_OK : SEAM_E_DATA_LOSS;
}

void seam_cache_keeper_forget(seam_cache_keeper *keeper, uint64_t step) {
    if (keeper->log.fd >= 0 && keeper->log.place.step <= step) {
        seam_redo_logs_remove(keeper->folder, &keeper->log.place);
    }
}
