/* A session's steps on record: what happens between a commit and the next step, and how a session
 * goes back to an earlier one.  The file is journal.c's, the bytes of a record state_walk.c's.
 *
 * Without a folder the newest state is kept in memory, which is enough to go back to it; with one
 * (seam_session_journal) every state is kept from the last confirmed checkpoint on, and the session
 * can be taken up by another process (seam_session_resume).  Caches of codec aqsgd have a log
 * beside the journal (kernels/codec/cache_keeper.h), flushed before the record that names its
 * place. */
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "core.h"
#include "try.h"

uint64_t seam_record_mark(const seam_session *session) {
    return seam_hash64(session->config_hash, session->id, strlen(session->id));
}

static seam_status own_replayed(seam_session *s, uint64_t step_count, seam_error *err) {
    SEAM_TRY(seam_journal_read(&s->record, s->journal, step_count, err));
    s->record_step_count = step_count;
    return seam_own_compare(s, &s->record, err);
}

/* Caches of this step are on the disk, and s->caches says where. */
static seam_status caches_add(seam_session *s, uint64_t step_count, seam_error *err) {
    if (s->keeper == NULL) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_cache_keeper_save(&s->caches, s->keeper, step_count, err));
    return seam_cache_keeper_flush(s->keeper, err);
}

/* The caller's last word on the step, then the record, flushed. */
static seam_status record_add(seam_session *s, uint64_t step_count, uint64_t state_hash,
                              seam_error *err) {
    uint64_t known = 0;
    if (s->keeper != NULL) {
        seam_cache_keeper_mark(s->keeper);
    }
    if (s->journal != NULL && seam_journal_hash(&known, s->journal, step_count)) {
        /* A replay: it is there, and the server's hash was compared. */
        return seam_session_has_own(s) ? own_replayed(s, step_count, err) : SEAM_OK;
    }
    SEAM_TRY(caches_add(s, step_count, err));
    if (seam_state_save(&s->record, s) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    s->record_step_count = step_count;
    if (s->journal == NULL) {
        return SEAM_OK;
    }
    const seam_journal_record record = {.step_count = step_count,
                                        .state_hash = state_hash,
                                        .body = s->record.data,
                                        .body_bytes = s->record.count,
                                        .note = s->note.data,
                                        .note_bytes = s->note.count};
    return seam_journal_add(s->journal, &record, err);
}

/* Rate and depth go by clocks: a replay takes what was decided then. */
static seam_status decisions_replay(bool *ret_replayed, seam_session *s, uint64_t step_count,
                                    seam_error *err) {
    uint64_t hash = 0;
    *ret_replayed = s->journal != NULL && seam_journal_hash(&hash, s->journal, step_count);
    if (!*ret_replayed || !(s->config.rate_auto || s->config.depth_auto)) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_journal_read(&s->record, s->journal, step_count, err));
    s->record_step_count = step_count;
    return seam_state_load_decisions(s, &s->record) == SEAM_OK
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_DATA_LOSS, "journal: step %llu is no state",
                                (unsigned long long)step_count);
}

seam_status seam_step_record(seam_session *session, seam_error *err) {
    seam_session *const s = session;
    const uint64_t step_count = seam_session_committed_steps(s) + 1;
    bool replayed = false;
    seam_step_count_bytes(s);
    SEAM_TRY(decisions_replay(&replayed, s, step_count, err));
    s->report.ahead = s->ahead;
    if (!replayed) {
        seam_step_judge_rate(s);
        seam_step_judge_depth(s);
    }
    s->note.count = 0;
    if (s->commit_fn != NULL) {
        s->commit_fn(s->commit_user, &s->report);
    }
    return record_add(s, step_count, s->report.state_hash, err);
}

const uint64_t *seam_record_hash(uint64_t *ret_place, const seam_session *session, uint64_t step) {
    const seam_session *const s = session;
    return s->journal != NULL && seam_journal_hash(ret_place, s->journal, step + 1) ? ret_place
                                                                                    : NULL;
}

void seam_record_durable(seam_session *session, uint64_t step_count) {
    seam_session *const s = session;
    if (step_count <= s->durable_told) {
        return;
    }
    /* The one before is confirmed, so that the server keeps two. */
    s->durable_before = s->durable_told;
    s->durable_told = step_count;
    s->confirm_due = s->durable_before > 0;
}

void seam_record_confirmed(seam_session *session) {
    seam_session *const s = session;
    seam_error err = {0};
    s->confirm_due = false;
    if (s->journal != NULL && seam_journal_forget(s->journal, s->durable_before, &err) != SEAM_OK) {
        seam_client_log(s->client, "old records of the journal stay: %s", err.text);
    }
    if (s->keeper != NULL) {
        seam_cache_keeper_forget(s->keeper, s->durable_before);
    }
}

/* ---- going back ---- */

/* Those of the record that was loaded.  Tables of codec dictionary begin empty. */
static seam_status caches_restore(seam_session *s, uint64_t step_count, seam_error *err) {
    seam_coder_forget(s->sites[s->fwd_in].coder);
    if (s->keeper != NULL && s->caches.end > 0) {
        seam_error why = {0};
        const seam_status st = seam_cache_keeper_restore(s->keeper, &s->caches, &why);
        return st == SEAM_OK ? SEAM_OK
                             : seam_error_set(err, st == SEAM_E_CHECKSUM ? SEAM_E_DATA_LOSS : st,
                                              "journal: step %llu: %s",
                                              (unsigned long long)step_count, why.text);
    }
    if (s->config.sample_ids_needed && step_count > 0) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "back to step %llu: the caches of codec aqsgd of that step were not "
                              "kept",
                              (unsigned long long)step_count);
    }
    seam_coder_forget(s->sites[s->fwd_out].coder);
    return SEAM_OK;
}

seam_status seam_record_restore(seam_session *session, uint64_t step_count, seam_error *err) {
    seam_session *const s = session;
    const uint64_t told = s->durable_told, before = s->durable_before;
    if (s->record_step_count != step_count || s->record.count == 0) {
        if (s->journal == NULL) {
            return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                                  "the server went back to step %llu, and this session keeps no "
                                  "journal",
                                  (unsigned long long)step_count);
        }
        SEAM_TRY(seam_journal_read(&s->record, s->journal, step_count, err));
        s->record_step_count = step_count;
    }
    if (seam_state_load(s, &s->record) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_DATA_LOSS, "journal: step %llu is no state",
                              (unsigned long long)step_count);
    }
    /* What the server has told since is still true, up to where it went back. */
    s->durable_told = told > s->durable_told && told <= step_count ? told : s->durable_told;
    s->durable_before =
        before > s->durable_before && before < s->durable_told ? before : s->durable_before;
    for (uint32_t i = 0; i < SEAM_OWNED_MAX; i++) {
        s->proposals[i].count = 0;
    }
    s->answers.count = 0;
    if (seam_step_propose_again(s) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    SEAM_TRY(caches_restore(s, step_count, err));
    s->step_open = s->begin_sent = s->backward_due = s->commit_done = false;
    s->rx_active = s->rx_signal_due = false;
    s->y = NULL;
    return SEAM_OK;
}

void seam_record_close(seam_session *session) {
    seam_journal_close(session->journal);
    seam_cache_keeper_destroy(session->keeper);
    seam_buffer_deinit(&session->note);
    seam_buffer_deinit(&session->record);
}

/* ---- the public part ---- */

static seam_status keeper_make(seam_session *s, const char *folder, seam_error *err) {
    seam_coder *const coders[] = {s->sites[s->fwd_in].coder, s->sites[s->fwd_out].coder};
    return seam_cache_keeper_create(&s->keeper, coders, 2, folder, seam_record_mark(s), err);
}

seam_status seam_session_journal(seam_session *session, const char *folder, seam_error *err) {
    if (session == NULL || folder == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session or folder is NULL");
    }
    seam_session *const s = session;
    if (s->journal != NULL || seam_session_committed_steps(s) > 0 || s->step_open) {
        return seam_error_set(err, SEAM_E_STATE, "a journal begins before the first step");
    }
    if (seam_session_trains_here(s) && !seam_session_has_own(s)) {
        return seam_error_set(err, SEAM_E_STATE, "a journal begins after seam_session_own");
    }
    SEAM_TRY(seam_journal_create(&s->journal, folder, seam_record_mark(s), err));
    seam_redo_logs_remove(folder, NULL); /* of a journal that was there */
    SEAM_TRY(keeper_make(s, folder, err));
    s->note.count = 0;
    return record_add(s, 0, 0, err);
}

seam_status seam_session_resume(seam_session **ret_session, seam_client *client,
                                const char *session_id, const uint8_t *secret, const char *folder,
                                seam_error *err) {
    if (ret_session == NULL || folder == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "ret_session or folder is NULL");
    }
    seam_session *s = NULL;
    uint64_t cut = 0;
    SEAM_TRY(seam_session_attach(&s, client, session_id, secret, err));
    seam_status st = seam_journal_open(&s->journal, &cut, folder, seam_record_mark(s), err);
    const uint64_t newest = st == SEAM_OK ? seam_journal_newest(s->journal) : 0;
    if (st == SEAM_OK) {
        st = keeper_make(s, folder, err);
    }
    if (st == SEAM_OK) {
        seam_client_proto_config proto = s->proto.config;
        proto.committed_step_count = newest;
        proto.now_ms = seam_now_ms();
        seam_client_proto_init(&s->proto, &proto);
        s->record.count = 0; /* a new session's state */
        st = seam_record_restore(s, newest, err);
    }
    if (st != SEAM_OK) {
        seam_session_close(s);
        return st;
    }
    if (cut > 0) {
        seam_client_log(client, "journal: %llu bytes behind step %llu were torn, and are gone",
                        (unsigned long long)cut, (unsigned long long)newest);
    }
    s->attached_foreign = false;
    *ret_session = s;
    return SEAM_OK;
}

seam_status seam_session_note(seam_session *session, const void *bytes, size_t count) {
    if (session == NULL || (bytes == NULL && count > 0)) {
        return SEAM_E_ARG;
    }
    session->note.count = 0;
    return seam_buffer_add(&session->note, bytes, count);
}

void seam_session_on_commit(seam_session *session, seam_commit_fn *fn, void *user) {
    if (session != NULL) {
        session->commit_fn = fn;
        session->commit_user = user;
    }
}

seam_status seam_session_notes(const seam_session *session, seam_note_visit_fn *visit, void *user,
                               seam_error *err) {
    if (session == NULL || visit == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session or visit is NULL");
    }
    return session->journal != NULL ? seam_journal_visit(session->journal, visit, user, err)
                                    : SEAM_OK;
}

seam_status seam_session_reattach(seam_session *session, seam_error *err) {
    if (session == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session is NULL");
    }
    SEAM_TRY(seam_session_check(session, err));
    if (session->step_open) {
        return seam_error_set(err, SEAM_E_STATE, "a step is open");
    }
    seam_link_lose(session, "the caller attaches again");
    return seam_link_drive(session, SEAM_GOAL_ATTACHED, err);
}
