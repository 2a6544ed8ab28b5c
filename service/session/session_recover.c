/* Sessions of an earlier process, taken up from the state directory: session_table.h.  Each becomes
 * PARKED with the checkpoints that the disk has; none is read before somebody wants it. */
#include <string.h>

#include "host.h"
#include "log.h"
#include "session_delete.h"
#include "session_park.h"
#include "session_table.h"
#include "session_update.h"
#include "try.h"

typedef struct recovery {
    seam_sessions *sessions;
    const seam_registry *registry;
    uint32_t taken, left;
} recovery;

/* Why a row stays as it is. */
static void left_log(recovery *r, const seam_session_row *row, const seam_error *err) {
    char text[SEAM_ERROR_TEXT_BYTES];
    r->left++;
    seam_log(SEAM_LOG_WARN, "session_left", "session=%.40s text=\"%s\"", row->id,
             seam_log_text(text, sizeof text, err->text));
}

static seam_status generations_read(seam_session *session, const seam_state_store *store,
                                    seam_error *err) {
    char folder[1200];
    uint64_t step_counts[SEAM_CHECKPOINTS_MAX];
    uint32_t count = 0;
    SEAM_TRY(seam_state_store_folder(folder, sizeof folder, store, session->id));
    seam_checkpoint_sweep(folder);
    SEAM_TRY(seam_checkpoint_list(step_counts, &count, folder, err));
    for (; count > SEAM_DURABLE_MAX; count--) { /* as a session that is parked without room */
        seam_checkpoint_remove(folder, step_counts[1]);
        memmove(step_counts + 1, step_counts + 2, (count - 2) * sizeof *step_counts);
    }
    seam_sessions_resume(session, step_counts, count, seam_host_now_ms());
    return SEAM_OK;
}

static seam_status row_take(recovery *r, const seam_session_row *row, seam_error *err) {
    seam_session_limits limits = seam_sessions_limits(r->sessions);
    /* What this process does not take is for the attach to say: its adapter can still be had. */
    limits.allow_labels = limits.allow_text = true;
    seam_state_store *store = seam_sessions_options_of(r->sessions)->store;
    seam_session_config config;
    seam_session_updates updates;
    uint64_t made_step_count = 0;
    seam_session *session = NULL;
    Seam__V1__SessionConfig *message =
        seam__v1__session_config__unpack(NULL, row->config_bytes, row->config);
    if (message == NULL) {
        return seam_error_set(err, SEAM_E_FORMAT, "the stored config is malformed");
    }
    seam_status st = seam_session_config_read(&config, message, r->registry, &limits, err);
    if (st == SEAM_OK && config.hash != row->config_hash) {
        st = seam_error_set(err, SEAM_E_FORMAT, "the stored config has another hash");
    }
    if (st == SEAM_OK) {
        st = seam_session_updates_load(&updates, store, row->id, err);
    }
    if (st == SEAM_OK) {
        st = seam_state_store_made(&made_step_count, store, row->id, err);
    }
    if (st == SEAM_OK) {
        st = seam_sessions_adopt(&session, r->sessions, row, &config, message, err);
    }
    if (st != SEAM_OK) {
        seam__v1__session_config__free_unpacked(message, NULL);
        return st;
    }
    session->updates = updates;
    session->made_step_count = made_step_count;
    return generations_read(session, store, err);
}

/* A row that cannot be used ends nothing: the others are. */
static seam_status row_visit(void *user, const seam_session_row *row) {
    recovery *r = user;
    seam_error err = {0};
    const seam_status st = row_take(r, row, &err);
    if (st == SEAM_E_MEMORY || st == SEAM_E_IO) {
        return st;
    }
    if (st == SEAM_OK) {
        r->taken++;
    } else {
        left_log(r, row, &err);
    }
    return SEAM_OK;
}

SEAM_WITHOUT_THREADS seam_status seam_sessions_recover(seam_sessions *sessions,
                                                       const seam_registry *registry,
                                                       seam_error *err) {
    seam_state_store *store = seam_sessions_options_of(sessions)->store;
    recovery r = {.sessions = sessions, .registry = registry};
    if (store == NULL) {
        return SEAM_OK;
    }
    uint32_t swept = 0;
    SEAM_TRY(seam_state_store_visit(store, row_visit, &r, err));
    SEAM_TRY(seam_deletions_load(seam_sessions_deletions(sessions), store, err));
    SEAM_TRY(seam_state_store_sweep(&swept, store, err));
    if (swept > 0) {
        seam_log(SEAM_LOG_INFO, "swept", "folders=%u", swept);
    }
    seam_log(SEAM_LOG_INFO, "recovered", "sessions=%u left=%u", r.taken, r.left);
    return SEAM_OK;
}
