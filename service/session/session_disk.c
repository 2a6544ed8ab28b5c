/* See session_disk.h.  The loop owns everything of session->disk but what the comment beside a
 * field says; the image is the engine's while a job of the session runs, then the disk queue's. */
#include "session_disk.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bytes.h"
#include "checkpoint.h"
#include "host.h"
#include "log.h"
#include "session_table.h"
#include "trainer_state.h"
#include "try.h"

#define FOLDER_BYTES  1200
#define RETRY_MS      10000 /* after a write that failed */
#define COST_MIN_MS   5     /* of one checkpoint, whatever was measured */
#define INTERVAL_UNIT 100   /* percent */

static double seconds_now(void) {
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static seam_state_store *store_of(const seam_session *session) {
    return seam_sessions_options_of(session->sessions)->store;
}

bool seam_session_is_kept(const seam_session *session) {
    return store_of(session) != NULL;
}

seam_status seam_session_kept_check(const seam_session *session, seam_error *err) {
    return store_of(session) != NULL
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_STATE,
                                "this server keeps no checkpoints: it was started without "
                                "--state-dir");
}

static seam_status folder_of(char ret[FOLDER_BYTES], const seam_session *session, seam_error *err) {
    return seam_state_store_folder(ret, FOLDER_BYTES, store_of(session), session->id) == SEAM_OK
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_IO, "state-dir: the path is too long");
}

static void device_text(char ret[SEAM_CHECKPOINT_DEVICE_BYTES], const seam_session *session) {
    char text[SEAM_CHECKPOINT_DEVICE_BYTES];
    const seam_backend *backend = seam_blocks_backend(session->config.model->blocks);
    (void)snprintf(ret, SEAM_CHECKPOINT_DEVICE_BYTES, "%s",
                   seam_log_text(text, sizeof text, seam_backend_describe(backend)));
}

/* ---- engine ---- */

seam_status seam_session_keep_caches(seam_session *session, seam_error *err) {
    char folder[FOLDER_BYTES];
    if (!seam_session_is_kept(session)) {
        return SEAM_OK;
    }
    SEAM_TRY(folder_of(folder, session, err));
    const uint64_t owner = seam_hash64(session->config.hash, session->id, strlen(session->id));
    return seam_trainer_keep_caches(session->trainer, folder, owner, err);
}

void seam_session_image_drop(seam_session *session) {
    seam_session_disk *d = &session->disk;
    if (d->has_caches) {
        (void)close(d->caches_file);
        d->has_caches = false;
    }
}

/* The image names a place of their log: its file, for who flushes it. */
static seam_status caches_take(seam_session_disk *d, seam_cache_keeper *keeper, seam_error *err) {
    d->caches_file = seam_cache_keeper_file(keeper);
    d->has_caches = d->caches_file >= 0;
    d->image_caches = seam_redo_place_get(d->image + d->image_bytes - SEAM_REDO_PLACE_BYTES);
    return d->has_caches ? SEAM_OK
                         : seam_error_set(err, SEAM_E_IO, "caches: no more files can be open");
}

SEAM_ON_GPU static seam_status image_fill(seam_session *session, const seam_trainer_mark *mark,
                                          seam_stream *stream, seam_error *err) {
    seam_session_disk *d = &session->disk;
    seam_cache_keeper *keeper = seam_trainer_keeper(session->trainer);
    seam_session_image_drop(session);
    if (d->caches_broken) {
        seam_cache_keeper_break(keeper);
        d->caches_broken = false;
    }
    SEAM_TRY(seam_trainer_state_save(d->image, &d->image_bytes, d->image_capacity_bytes,
                                     session->trainer, mark, stream, err));
    return keeper != NULL ? caches_take(d, keeper, err) : SEAM_OK;
}

seam_status seam_session_image_take(seam_session *session, const seam_trainer_mark *mark,
                                    seam_stream *stream, seam_error *err) {
    seam_session_disk *d = &session->disk;
    const double begin = seconds_now();
    const seam_status st = image_fill(session, mark, stream, err);
    d->take_failed = st != SEAM_OK;
    if (d->take_failed) {
        d->write_status = st;
        d->write_err = *err;
        return st;
    }
    d->image_facts = (seam_checkpoint_facts){
        .step_count = mark->step_count, .state_hash = seam_trainer_state_hash(session->trainer)};
    device_text(d->image_facts.device, session);
    d->take_seconds = seconds_now() - begin;
    return SEAM_OK;
}

/* The log first, that a checkpoint names nothing that may be torn; its folder is the same. */
static seam_status image_to_disk(seam_session_disk *d, const char *folder, seam_error *err) {
    seam_status st = SEAM_OK;
    if (d->has_caches) {
        st = seam_redo_log_flush(d->caches_file, NULL, err);
        (void)close(d->caches_file);
        d->has_caches = false;
        d->caches_broken = st != SEAM_OK;
    }
    return st == SEAM_OK
               ? seam_checkpoint_write(folder, &d->image_facts, d->image, d->image_bytes, err)
               : st;
}

seam_status seam_session_image_write(seam_session *session, const seam_trainer_mark *mark,
                                     seam_stream *stream, seam_error *err) {
    seam_session_disk *d = &session->disk;
    char folder[FOLDER_BYTES];
    SEAM_TRY(folder_of(folder, session, err));
    const seam_status st = seam_session_image_take(session, mark, stream, err);
    d->take_failed = false; /* said here */
    return st == SEAM_OK ? image_to_disk(d, folder, err) : st;
}

SEAM_ON_GPU static seam_status restore_one(seam_session *session, uint64_t step_count,
                                           seam_stream *stream, seam_error *err) {
    char folder[FOLDER_BYTES], device[SEAM_CHECKPOINT_DEVICE_BYTES];
    uint8_t *bytes = NULL;
    size_t count = 0;
    seam_checkpoint_facts facts;
    seam_trainer_mark mark = {0};
    SEAM_TRY(folder_of(folder, session, err));
    SEAM_TRY(seam_checkpoint_read(&bytes, &count, &facts, folder, step_count, err));
    device_text(device, session);
    if (strcmp(device, facts.device) != 0) {
        seam_log(SEAM_LOG_WARN, "checkpoint_of_another_device",
                 "session=%s step=%llu was=\"%s\" text=\"the next bits may differ\"", session->id,
                 (unsigned long long)step_count, facts.device);
    }
    seam_status st = seam_trainer_state_load(session->trainer, &mark, bytes, count, stream, err);
    seam_mem_free(bytes);
    if (st == SEAM_OK && mark.step_count != step_count) {
        st = seam_error_set(err, SEAM_E_FORMAT, "checkpoint: not the state that it names");
    }
    if (st == SEAM_OK) {
        session->disk.restored_rows = mark.row_count;
    }
    return st;
}

/* Does the status speak of that checkpoint alone, so that the one before may be read? */
static bool is_of_one_checkpoint(seam_status st) {
    return st == SEAM_E_CHECKSUM || st == SEAM_E_FORMAT || st == SEAM_E_NONFINITE ||
           st == SEAM_E_DATA_LOSS || st == SEAM_E_IO;
}

void seam_session_restore_list(seam_session *session, uint64_t step_count_max) {
    seam_session_disk *d = &session->disk;
    d->generation_count = seam_server_proto_durable_list(d->generations, &session->proto);
    while (d->generation_count > 0 && d->generations[d->generation_count - 1] > step_count_max) {
        d->generation_count--;
    }
    d->skipped_count = 0;
}

uint64_t seam_session_restored_step(const seam_session *session) {
    const seam_session_disk *d = &session->disk;
    SEAM_ASSERT(d->skipped_count < d->generation_count);
    return d->generations[d->generation_count - 1 - d->skipped_count];
}

seam_status seam_session_restore(seam_session *session, seam_stream *stream, seam_error *err) {
    seam_session_disk *d = &session->disk;
    bool unreadable = false;
    for (d->skipped_count = 0; d->skipped_count < d->generation_count; d->skipped_count++) {
        const uint64_t step_count = seam_session_restored_step(session);
        const seam_status st = restore_one(session, step_count, stream, err);
        if (st == SEAM_OK || !is_of_one_checkpoint(st)) {
            return st;
        }
        char text[SEAM_ERROR_TEXT_BYTES];
        seam_log(SEAM_LOG_ERROR, st == SEAM_E_IO ? "checkpoint_unreadable" : "checkpoint_damaged",
                 "session=%s step=%llu text=\"%s\"", session->id, (unsigned long long)step_count,
                 seam_log_text(text, sizeof text, err->text));
        unreadable = unreadable || st == SEAM_E_IO;
    }
    return unreadable
               ? seam_error_set(err, SEAM_E_IO, "no checkpoint of the session can be read now")
               : seam_error_set(err, SEAM_E_DATA_LOSS,
                                "no checkpoint of the session that the client can go back to is "
                                "intact");
}

seam_status seam_session_store(seam_session *session, seam_stream *stream, seam_error *err) {
    uint8_t packed[SEAM_CONFIG_BYTES_MAX];
    const seam_trainer_mark mark = {0};
    const size_t count = seam__v1__session_config__get_packed_size(session->message);
    if (!seam_session_is_kept(session)) {
        return SEAM_OK;
    }
    if (count > sizeof packed) {
        return seam_error_set(err, SEAM_E_LIMIT, "config: larger than %zu bytes", sizeof packed);
    }
    (void)seam__v1__session_config__pack(session->message, packed);
    const seam_session_row row = {.id = session->id,
                                  .request_id = session->request_id,
                                  .secret = session->secret,
                                  .secret_bytes = sizeof session->secret,
                                  .config = packed,
                                  .config_bytes = count,
                                  .config_hash = session->config.hash};
    SEAM_TRY(seam_session_image_write(session, &mark, stream, err));
    return seam_state_store_add(store_of(session), &row, err);
}

/* ---- cadence ---- */

bool seam_session_image_is_due(const seam_session *session, uint64_t now_ms) {
    const seam_session_disk *d = &session->disk;
    const seam_sessions_options *options = seam_sessions_options_of(session->sessions);
    if (!seam_session_is_kept(session) || d->writing ||
        !seam_server_proto_durable_has_room(&session->proto)) {
        return false;
    }
    if (d->save_call_count > 0 || now_ms < d->retry_ms) {
        return d->save_call_count > 0;
    }
    const uint64_t cost_ms = d->cost_ms > COST_MIN_MS ? d->cost_ms : COST_MIN_MS;
    const uint64_t wait_ms = cost_ms * INTERVAL_UNIT / options->checkpoint_percent;
    const uint64_t since_ms = now_ms - d->taken_ms;
    /* Would another step as long as the last one put more than the limit at risk? */
    const uint64_t risk_ms = since_ms + (now_ms - d->commit_ms);
    return since_ms >= wait_ms || risk_ms >= options->checkpoint_work_ms;
}

/* Disk queue: the image is its own until it says done. */
static void write_run(seam_disk_job *job) {
    seam_session *session = job->user;
    seam_session_disk *d = &session->disk;
    char folder[FOLDER_BYTES];
    const double begin = seconds_now();
    d->write_err = (seam_error){0};
    d->write_status = folder_of(folder, session, &d->write_err);
    if (d->write_status == SEAM_OK) {
        d->write_status = image_to_disk(d, folder, &d->write_err);
    }
    d->write_seconds = seconds_now() - begin;
}

/* What was durable before stays so; nothing else is told. */
SEAM_ON_LOOP static void write_failed(seam_session *session) {
    seam_session_disk *d = &session->disk;
    char text[SEAM_ERROR_TEXT_BYTES];
    d->retry_ms = seam_host_now_ms() + RETRY_MS;
    d->write_error_count++;
    seam_log(SEAM_LOG_ERROR, "checkpoint_failed", "session=%s step=%llu text=\"%s\"", session->id,
             (unsigned long long)d->image_facts.step_count,
             seam_log_text(text, sizeof text, d->write_err.text));
}

void seam_session_image_post(seam_session *session, bool with_image, uint64_t now_ms) {
    seam_session_disk *d = &session->disk;
    d->commit_ms = now_ms;
    if (with_image) {
        seam_session_image_send(session, now_ms);
    } else if (d->take_failed) {
        d->take_failed = false;
        write_failed(session);
    }
}

void seam_session_image_send(seam_session *session, uint64_t now_ms) {
    seam_session_disk *d = &session->disk;
    SEAM_ASSERT(!d->writing);
    d->writing = true;
    d->taken_ms = now_ms;
    d->write_job.run = write_run;
    d->write_job.user = session;
    seam_disk_queue_post(seam_state_store_queue(store_of(session)), &d->write_job);
}

bool seam_session_disk_poll(seam_session *session) {
    seam_session_disk *d = &session->disk;
    if (!d->writing || !seam_disk_job_is_done(&d->write_job)) {
        return false;
    }
    d->writing = false;
    d->cost_ms = (uint64_t)((d->take_seconds + d->write_seconds) * 1e3);
    if (d->write_status != SEAM_OK) {
        write_failed(session);
        return true;
    }
    d->durable_caches = d->image_caches;
    if (!session->deleted) {
        (void)seam_server_proto_durable_add(&session->proto, d->image_facts.step_count);
    }
    return true;
}

uint64_t seam_session_durable(const seam_session *session) {
    uint64_t newest = 0;
    return seam_server_proto_durable_newest(&newest, &session->proto) ? newest : 0;
}

/* ---- deleting, by the disk queue ---- */

typedef struct forget_job {
    seam_disk_job job;
    uint64_t from, below;
    seam_redo_place caches; /* step 0: none of their logs goes */
    char folder[FOLDER_BYTES];
} forget_job;

static void forget_run(seam_disk_job *job) {
    const forget_job *f = job->user;
    uint64_t step_counts[SEAM_CHECKPOINTS_MAX];
    uint32_t count = 0;
    if (seam_checkpoint_list(step_counts, &count, f->folder, NULL) == SEAM_OK) {
        for (uint32_t i = 0; i < count && step_counts[i] < f->below; i++) {
            if (step_counts[i] >= f->from) {
                seam_checkpoint_remove(f->folder, step_counts[i]);
            }
        }
    }
    if (f->caches.step > 0) {
        seam_redo_logs_remove(f->folder, &f->caches);
    }
}

SEAM_ON_LOOP static void forget(seam_session *session, uint64_t from, uint64_t below,
                                seam_redo_place caches) {
    forget_job *f = seam_mem_zalloc(1, sizeof *f);
    if (f == NULL || !seam_session_is_kept(session) ||
        folder_of(f->folder, session, NULL) != SEAM_OK) {
        seam_mem_free(f); /* they stay until the next confirmation, or as long as the session */
        return;
    }
    f->from = from;
    f->below = below;
    f->caches = caches;
    f->job = (seam_disk_job){.run = forget_run, .user = f, .gift_memory = f};
    seam_disk_queue_post(seam_state_store_queue(store_of(session)), &f->job);
}

void seam_session_forget_below(seam_session *session, uint64_t step_count) {
    const seam_redo_place *caches = &session->disk.durable_caches;
    const bool logs_go = caches->step <= step_count; /* no later checkpoint needs one from before */
    forget(session, 0, step_count, logs_go ? *caches : (seam_redo_place){.step = 0});
}

void seam_session_forget_one(seam_session *session, uint64_t step_count) {
    forget(session, step_count, step_count + 1, (seam_redo_place){.step = 0});
}

void seam_session_caches_went_back(seam_session *session) {
    session->disk.durable_caches = session->disk.image_caches = (seam_redo_place){.step = 0};
}
