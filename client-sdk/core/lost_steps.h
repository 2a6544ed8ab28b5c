/* Whether a server has lost steps of a run: its session went back to a checkpoint when it stopped,
 * and the run's journal says how many steps were made.  For what does not train, and so does not
 * make them again. */
#ifndef SEAM_LOST_STEPS_H
#define SEAM_LOST_STEPS_H

#include "seam.h"

/* session: attached; folder: of its run, whose journal another process may have.  Without a journal
 * of this session that can be read nothing is known to be lost.  SEAM_E_ROLLED_BACK: steps are lost
 * (err: how many there were and are); SEAM_E_IO, and the errors of seam_session_info_get. */
seam_status seam_session_lost_steps_check(seam_session *session, const char *folder,
                                          seam_error *err);

#endif
