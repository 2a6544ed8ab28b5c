/* See lost_steps.h; called by cli/run_folder.c.  Read next: journal.c. */
#include "lost_steps.h"

#include "core.h"
#include "journal.h"
#include "try.h"

seam_status seam_session_lost_steps_check(seam_session *session, const char *folder,
                                          seam_error *err) {
    seam_error why = {0};
    uint64_t made = 0;
    const seam_status st = seam_journal_peek(&made, folder, seam_record_mark(session), &why);
    if (st == SEAM_E_IO || st == SEAM_E_MEMORY) {
        *err = why;
        return st;
    }
    if (st != SEAM_OK) {
        return SEAM_OK;
    }
    /* Asked after the journal, which has no step before the server has it: a run that is under way
     * only adds to this. */
    seam_session_info info;
    SEAM_TRY(seam_session_info_get(&info, session, err));
    return info.committed_step_count >= made
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_ROLLED_BACK,
                                "the run has made %llu steps, and the server's session is at "
                                "step %llu: it lost those after its last checkpoint",
                                (unsigned long long)made,
                                (unsigned long long)info.committed_step_count);
}
