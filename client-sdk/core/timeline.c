/* The client's timeline: what the phases of its steps took, by the caller's own clock.  One lane: a
 * session is used by one thread at a time, so that its spans nest.
 * What a span is: proto/base/trace.h. */
#include "core.h"
#include "try.h"

#define SPANS_DEFAULT (1u << 16)

seam_status seam_session_trace(seam_session *session, uint32_t spans_max, seam_error *err) {
    if (session == NULL || spans_max > SEAM_TRACE_SPANS_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "session is NULL, or spans_max above %u",
                              SEAM_TRACE_SPANS_MAX);
    }
    if (session->trace != NULL || session->step_open) {
        return seam_error_set(err, SEAM_E_STATE, "a timeline is kept already, or a step is open");
    }
    const uint32_t spans = spans_max != 0 ? spans_max : SPANS_DEFAULT;
    return seam_trace_create(&session->trace, spans) == SEAM_OK
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_MEMORY, "out of memory");
}

uint64_t seam_session_trace_begin(const seam_session *session) {
    return session != NULL ? seam_trace_begin(session->trace) : 0;
}

void seam_session_span_end(const seam_session *session, const char *name, uint32_t micro,
                           uint64_t begin_ns) {
    const seam_span span = {
        .name = name, .begin_ns = begin_ns, .step = session->step_number, .micro = micro};
    seam_trace_end(session->trace, &span);
}

void seam_session_trace_end(seam_session *session, const char *name, uint32_t micro,
                            uint64_t begin_ns) {
    if (session != NULL && name != NULL && session->step_open) {
        seam_session_span_end(session, name, micro, begin_ns);
    }
}

seam_status seam_session_trace_write(seam_session *session, const char *path, seam_error *err) {
    static const char *const lanes[] = {"step"};
    if (session == NULL || path == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session or path is NULL");
    }
    if (session->trace == NULL) {
        return seam_error_set(err, SEAM_E_STATE, "no timeline is kept");
    }
    return seam_trace_write(session->trace, path, "client", lanes, 1, err);
}
