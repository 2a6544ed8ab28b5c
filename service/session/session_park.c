/* See session_park.h. */
#include "session_park.h"

#include <time.h>

#include "log.h"
#include "session_table.h"
#include "try.h"

bool seam_session_is_resident(const seam_session *session) {
    return session->disk.resident;
}

/* ---- waking ---- */

seam_status seam_session_wake_begin(seam_session *session, seam_error *err) {
    seam_session_disk *d = &session->disk;
    SEAM_ASSERT(!d->resident);
    if (seam_server_proto_link(&session->proto) == SEAM_LINK_FROZEN) {
        const seam_status reason = seam_server_proto_frozen(&session->proto);
        return seam_error_set(err, reason, "the session is frozen: %s", seam_status_text(reason));
    }
    SEAM_TRY(seam_sessions_place_check(session->sessions, err));
    seam_sessions_plan_again(session);
    SEAM_TRY(seam_sessions_reserve(session->sessions, &session->memory, "session", err));
    seam_sessions_set_resident(session, true);
    seam_session_restore_list(session, UINT64_MAX);
    d->waking = true;
    return SEAM_OK;
}

seam_status seam_session_wake_run(seam_session *session, seam_stream *stream, seam_error *err) {
    seam_status st = seam_session_build(session, stream, err);
    if (st == SEAM_OK) {
        st = seam_session_restore(session, stream, err);
    }
    if (st != SEAM_OK) {
        seam_session_unbuild(session);
    }
    return st;
}

void seam_session_wake_end(seam_session *session, seam_status st, uint64_t now_ms) {
    seam_session_disk *d = &session->disk;
    d->waking = false;
    if (session->deleted) { /* meanwhile; what was built goes with the last reference */
        return;
    }
    if (st == SEAM_OK) {
        const uint64_t step_count = seam_session_restored_step(session);
        seam_server_proto_restored(&session->proto, step_count, now_ms);
        session->row_count = d->restored_rows;
        seam_session_caches_went_back(session);
        d->taken_ms = d->commit_ms = now_ms;
        seam_log(SEAM_LOG_INFO, "session_recovered", "session=%s step=%llu damaged=%u", session->id,
                 (unsigned long long)step_count, d->skipped_count);
        return;
    }
    seam_sessions_set_resident(session, false);
    if (st == SEAM_E_DATA_LOSS) {
        for (uint32_t i = 0; i < d->generation_count; i++) {
            seam_server_proto_durable_lost(&session->proto, d->generations[i]);
        }
        seam_server_proto_freeze(&session->proto, SEAM_E_DATA_LOSS);
        seam_log(SEAM_LOG_ERROR, "session_lost", "session=%s", session->id);
    }
}

/* ---- parking ---- */

SEAM_ON_GPU static seam_status park_run(seam_job *job, seam_stream *stream) {
    seam_session *session = job->user;
    const seam_session_disk *d = &session->disk;
    if (d->park_writes) {
        SEAM_TRY(seam_session_image_write(session, &d->park_mark, stream, &job->err));
    }
    seam_session_unbuild(session);
    return SEAM_OK;
}

SEAM_ON_GPU static void park_finished(seam_job *job) {
    seam_job_publish(job); /* park_poll looks */
}

/* It has no memory any more, and the disk what it was to have. */
SEAM_ON_LOOP static void parked(seam_session *session, uint64_t now_ms) {
    const seam_session_disk *d = &session->disk;
    uint64_t gone = 0;
    if (d->park_writes) {
        if (seam_server_proto_durable_make_room(&gone, &session->proto)) {
            seam_session_forget_one(session, gone);
        }
        const seam_status st =
            seam_server_proto_durable_add(&session->proto, d->park_mark.step_count);
        SEAM_ASSERT(st == SEAM_OK);
    }
    const seam_status st = seam_server_proto_parked(&session->proto, now_ms);
    SEAM_ASSERT(st == SEAM_OK); /* an attach waits while the session is busy */
    seam_log(SEAM_LOG_INFO, "session_parked", "session=%s link=%s step=%llu", session->id,
             seam_server_link_name(seam_server_proto_link(&session->proto)),
             (unsigned long long)seam_server_proto_committed_count(&session->proto));
}

SEAM_ON_LOOP static bool park_post(seam_session *session, seam_engine *engine) {
    seam_session_disk *d = &session->disk;
    const uint64_t committed = seam_server_proto_committed_count(&session->proto);
    uint64_t newest = 0;
    d->park_writes =
        !d->spoiled && seam_server_proto_link(&session->proto) != SEAM_LINK_FROZEN &&
        (!seam_server_proto_durable_newest(&newest, &session->proto) || newest != committed);
    d->park_mark = (seam_trainer_mark){.step_count = committed, .row_count = session->row_count};
    d->park_job = (seam_job){.run = park_run, .finished = park_finished, .user = session};
    return seam_engine_post(engine, &d->park_job) == SEAM_OK;
}

void seam_session_park(seam_session *session, uint64_t now_ms) {
    SEAM_ASSERT(!session->busy);
    SEAM_ASSERT(!session->disk.writing);
    if (!session->disk.resident) {         /* frozen when it was to be woken */
        session->disk.park_writes = false; /* the last parking's: that checkpoint is lost */
        parked(session, now_ms);
        return;
    }
    seam_engine *engine = seam_sessions_options_of(session->sessions)->engine;
    session->busy = session->disk.parking = park_post(session, engine);
}

void seam_session_unload(seam_session *session) {
    SEAM_ASSERT(session->disk.resident && session->disk.spoiled);
    SEAM_ASSERT(!session->busy && !session->disk.writing);
    seam_engine *engine = seam_sessions_options_of(session->sessions)->engine;
    session->busy = session->disk.parking = park_post(session, engine);
}

void seam_session_park_at_end(seam_session *session) {
    const struct timespec pause = {.tv_nsec = 1000000};
    while (session->disk.writing) { /* the image is the disk queue's */
        (void)nanosleep(&pause, NULL);
        (void)seam_session_disk_poll(session);
    }
    const seam_server_link link = seam_server_proto_link(&session->proto);
    if (session->disk.resident && !session->busy && link != SEAM_LINK_FROZEN) {
        session->disk.parking =
            park_post(session, seam_sessions_options_of(session->sessions)->engine);
    }
}

bool seam_session_park_poll(seam_session *session, uint64_t now_ms) {
    seam_session_disk *d = &session->disk;
    if (!d->parking || !seam_job_is_published(&d->park_job)) {
        return false;
    }
    seam_job_take(&d->park_job);
    d->parking = session->busy = false;
    if (d->park_job.status != SEAM_OK) {
        char text[SEAM_ERROR_TEXT_BYTES];
        seam_log(SEAM_LOG_ERROR, "checkpoint_failed", "session=%s step=%llu text=\"%s\"",
                 session->id, (unsigned long long)d->park_mark.step_count,
                 seam_log_text(text, sizeof text, d->park_job.err.text));
        seam_server_proto_touch(&session->proto, now_ms);
        return true;
    }
    seam_sessions_set_resident(session, false);
    if (d->spoiled) { /* the protocol machine knows */
        d->spoiled = false;
        seam_log(SEAM_LOG_INFO, "session_unloaded", "session=%s", session->id);
    } else if (!session->deleted) {
        parked(session, now_ms);
    }
    return true;
}
