/* Internal to libseam: a step's rows as the server has them, for who wants to see the stream as its
 * operator does (model/audit.h).  Rows are f32, after the codec: of what is sent as the server
 * decodes it, of what comes as the server's encoder knows it too. */
#ifndef SEAM_WATCH_H
#define SEAM_WATCH_H

#include "seam.h"

typedef enum seam_watch_site {
    SEAM_WATCH_FWD_IN = 0,  /* (T, C), also where equal rows travel once */
    SEAM_WATCH_FWD_OUT = 1, /* (rows out, C), u_shaped only, as is the next */
    SEAM_WATCH_BWD_OUT = 2,
} seam_watch_site;

typedef struct seam_watched {
    seam_watch_site site;
    uint32_t micro;
    const float *rows; /* (row_count, C), valid during the call */
    uint32_t row_count;
} seam_watched;
typedef void seam_watch_fn(void *user, const seam_watched *seen);

/* From now on fn is called for each of these tensors, in the caller's thread.  Between two steps,
 * not with adapter_exchange, which sends none.  SEAM_E_MEMORY: a tensor's rows. */
seam_status seam_session_watch(seam_session *session, seam_watch_fn *fn, void *user,
                               seam_error *err);

#endif
