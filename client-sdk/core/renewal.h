/* A session that is there for inference alone: nothing is trained in it, so that one made anew from
 * the same options and adapter is the same.  A server that was started again without it (it keeps
 * none, or had not kept this one yet) then costs an evaluation no more than a stream that broke. */
#ifndef SEAM_RENEWAL_H
#define SEAM_RENEWAL_H

#include "seam.h"

typedef struct seam_renewal {
    seam_session_options
        options;         /* that the session was created with; what they point to lives on */
    const char *adapter; /* the directory that was imported, or NULL */
} seam_renewal;

/* renewal: borrowed until the session is closed.  From here an inference whose session the server
 * has not (NOT_FOUND, GONE) makes it anew and goes on. */
void seam_session_renew_by(seam_session *session, const seam_renewal *renewal);
/* The server has the session again, under another id.  SEAM_E_CONFLICT: with another config; and
 * the errors of seam_session_create and seam_session_import. */
seam_status seam_session_renew(seam_session *session, seam_error *err);

#endif
