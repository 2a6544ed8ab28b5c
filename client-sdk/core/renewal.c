/* See renewal.h; called by inference.c. */
#include "renewal.h"

#include <string.h>

#include "core.h"
#include "try.h"

void seam_session_renew_by(seam_session *session, const seam_renewal *renewal) {
    session->renewal = renewal;
}

static seam_status same_check(const seam_session *session, const seam_session *fresh,
                              seam_error *err) {
    return fresh->config_hash == session->config_hash &&
                   fresh->model_identity == session->model_identity
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_CONFLICT,
                                "the server has lost the session and makes another one of its "
                                "options: session.config_hash %016llx, not %016llx",
                                (unsigned long long)fresh->config_hash,
                                (unsigned long long)session->config_hash);
}

seam_status seam_session_renew(seam_session *session, seam_error *err) {
    const seam_renewal *const renewal = session->renewal;
    seam_session *fresh = NULL;
    SEAM_TRY(seam_session_create(&fresh, session->client, &renewal->options, err));
    seam_status st = same_check(session, fresh, err);
    if (st == SEAM_OK && renewal->adapter != NULL) {
        st = seam_session_import(fresh, renewal->adapter, NULL, err);
    }
    if (st != SEAM_OK) {
        (void)seam_session_delete(fresh, NULL);
        return st;
    }
    memcpy(session->id, fresh->id, sizeof session->id);
    memcpy(session->secret, fresh->secret, sizeof session->secret);
    seam_session_close(fresh); /* the server's is ours now */
    return SEAM_OK;
}
