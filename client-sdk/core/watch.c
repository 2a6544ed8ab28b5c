/* See watch.h.  Read next: step.c, which shows the rows. */
#include "bytes.h"
#include "core.h"
#include "try.h"

seam_status seam_session_watch(seam_session *session, seam_watch_fn *fn, void *user,
                               seam_error *err) {
    seam_session *const s = session;
    SEAM_ASSERT(!s->step_open && !s->exchange.is_on);
    const size_t bytes = (size_t)s->config.rows_max * s->channels * sizeof(float);
    if (seam_buffer_reserve(&s->watched, bytes) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    s->watch_fn = fn;
    s->watch_user = user;
    return SEAM_OK;
}

float *seam_watch_place(seam_session *session) {
    return session->watch_fn != NULL ? (float *)(void *)session->watched.data : NULL;
}

void seam_watch_show(const seam_session *session, seam_watch_site site, uint32_t micro,
                     const float *rows, uint32_t row_count) {
    if (session->watch_fn != NULL) {
        const seam_watched seen = {
            .site = site, .micro = micro, .rows = rows, .row_count = row_count};
        session->watch_fn(session->watch_user, &seen);
    }
}
