/* What the caller trains, in blocks of its own or all of the adapter (adapter_exchange): the last
 * message of a step (WIRE.md section 4, its share of the gradient's norm; not of an exchange), the
 * step that the commit allows, and its piece of a record.  The parameters themselves are the
 * caller's: seam.h, seam_own_part. */
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "core.h"
#include "try.h"

void seam_session_training(seam_training_facts *ret_facts, const seam_session *session) {
    if (ret_facts != NULL) {
        *ret_facts = session != NULL ? session->config.training : (seam_training_facts){0};
    }
}

bool seam_session_has_own(const seam_session *session) {
    return session->own.apply != NULL;
}

bool seam_session_trains_here(const seam_session *session) {
    return session->config.training.client_trains || session->exchange.is_on;
}

/* Nothing has been trained, and nothing is on record. */
static bool is_new(const seam_session *s) {
    return s->journal == NULL && seam_session_committed_steps(s) == 0;
}

seam_status seam_session_own(seam_session *session, const seam_own_part *part, seam_error *err) {
    if (session != NULL && part == NULL) {
        session->own = (seam_own_part)SEAM_OWN_PART_INIT;
        if (is_new(session)) {
            session->own_bytes = 0; /* a start that the next one need not have */
        }
        return SEAM_OK;
    }
    if (session == NULL || part->struct_bytes != sizeof *part ||
        (part->squares == NULL) != session->exchange.is_on || part->apply == NULL ||
        part->save == NULL || part->load == NULL || part->state_bytes == 0) {
        return seam_error_set(err, SEAM_E_ARG, "an argument is NULL, or part lacks its _INIT");
    }
    seam_session *const s = session;
    if (!seam_session_trains_here(s) || seam_session_has_own(s) || s->step_open) {
        return seam_error_set(err, SEAM_E_STATE,
                              "the session trains nothing here, or has its part already");
    }
    const bool starts = s->own_bytes == 0 && is_new(s);
    if (!starts && s->own_bytes != part->state_bytes) {
        return seam_error_set(err, SEAM_E_STATE,
                              "the adapter's part of this end: its last record has %zu bytes of "
                              "it, %zu are expected",
                              s->own_bytes, part->state_bytes);
    }
    s->own = *part;
    const seam_status st = starts ? seam_state_save(&s->record, s)
                                  : s->own.load(s->own.user, s->record.data + s->own_at);
    if (st != SEAM_OK) {
        s->own = (seam_own_part)SEAM_OWN_PART_INIT;
        return seam_error_set(err, st, "the adapter's part of this end: %s", seam_status_text(st));
    }
    return SEAM_OK;
}

seam_status seam_own_norm_make(seam_session *session, seam_error *err) {
    seam_session *const s = session;
    double sum = 0.0;
    uint8_t frame[SEAM_FRAME_HEADER_BYTES + 8];
    if (s->own.squares == NULL) {
        return SEAM_OK;
    }
    const seam_status st = s->own.squares(&sum, s->own.user);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "the own gradient: %s", seam_status_text(st));
    }
    const seam_frame_header header = {.kind = SEAM_FRAME_GRAD_NORM,
                                      .phase = SEAM_PHASE_BACKWARD,
                                      .codec = SEAM_CODEC_F32,
                                      .site = s->sites[s->bwd_out].id,
                                      .micro = s->micro_count,
                                      .step = seam_session_committed_steps(s),
                                      .rows = 1,
                                      .channels = 1,
                                      .row_count = 1,
                                      .payload_bytes = 8};
    seam_put_f64(frame + SEAM_FRAME_HEADER_BYTES, sum);
    seam_frame_seal(frame, &header);
    s->norm.count = 0;
    return seam_buffer_add(&s->norm, frame, sizeof frame) == SEAM_OK
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_MEMORY, "out of memory");
}

seam_status seam_own_apply(seam_session *session, seam_error *err) {
    seam_session *const s = session;
    const seam_step_report *const report = &s->report;
    if (!seam_session_has_own(s)) {
        return SEAM_OK;
    }
    if (!report->skipped && !s->exchange.is_on &&
        !(report->clip_factor > 0.0f && report->clip_factor <= 1.0f)) {
        return seam_error_set(err, SEAM_E_FORMAT, "Commit: clip_factor is %g, not in 0..1",
                              (double)report->clip_factor);
    }
    const seam_status st = s->own.apply(s->own.user, report, err);
    return st == SEAM_OK ? SEAM_OK : seam_error_prefix(err, st, "the own step");
}

/* ---- records ---- */

seam_status seam_own_save(seam_buffer *bytes, seam_session *session) {
    seam_session *const s = session;
    s->own_at = bytes->count;
    s->own_bytes = 0;
    if (!seam_session_has_own(s)) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_buffer_reserve(bytes, bytes->count + s->own.state_bytes));
    SEAM_TRY(s->own.save(bytes->data + bytes->count, s->own.user));
    bytes->count += s->own.state_bytes;
    s->own_bytes = s->own.state_bytes;
    return SEAM_OK;
}

seam_status seam_own_load(seam_session *session, const seam_buffer *bytes, size_t at) {
    seam_session *const s = session;
    s->own_at = at;
    s->own_bytes = bytes->count - at;
    if (!seam_session_has_own(s)) { /* it may come: seam_session_own */
        return seam_session_trains_here(s) || s->own_bytes == 0 ? SEAM_OK : SEAM_E_FORMAT;
    }
    return s->own_bytes == s->own.state_bytes ? s->own.load(s->own.user, bytes->data + at)
                                              : SEAM_E_FORMAT;
}

seam_status seam_own_compare(seam_session *session, const seam_buffer *record, seam_error *err) {
    seam_session *const s = session;
    const size_t count = s->own.state_bytes;
    seam_buffer now = {0};
    seam_status st = seam_buffer_reserve(&now, count);
    st = st == SEAM_OK ? s->own.save(now.data, s->own.user) : st;
    const bool same = st == SEAM_OK && record->count >= count &&
                      memcmp(record->data + record->count - count, now.data, count) == 0;
    seam_buffer_deinit(&now);
    if (st == SEAM_OK && !same) {
        return seam_error_set(err, SEAM_E_NONDETERMINISM,
                              "replay of step %llu: the own adapter is not what it was",
                              (unsigned long long)s->report.step);
    }
    return st == SEAM_OK ? SEAM_OK : seam_error_set(err, st, "%s", seam_status_text(st));
}
