/* Error forwarding and assertions. Internal to the tree, not installed. */
#ifndef SEAM_TRY_H
#define SEAM_TRY_H

#include "seam_status.h"

/* Return the failed status of `call` to the caller. */
#define SEAM_TRY(call)                                                                             \
    do {                                                                                           \
        const seam_status seam_try_status_ = (call);                                               \
        if (seam_try_status_ != SEAM_OK) {                                                         \
            return seam_try_status_;                                                               \
        }                                                                                          \
    } while (0)

/* Store the failed status of `call` in `st` and go to `label` (one label, at the end). */
#define SEAM_TRY_GOTO(call, st, label)                                                             \
    do {                                                                                           \
        (st) = (call);                                                                             \
        if ((st) != SEAM_OK) {                                                                     \
            goto label;                                                                            \
        }                                                                                          \
    } while (0)

/* What our own code guarantees. On in release. Never for bytes from a peer or a disk. */
#define SEAM_ASSERT(condition)                                                                     \
    ((condition) ? (void)0 : seam_assert_failed(#condition, __FILE__, __LINE__))

/* Prints the condition with its place to stderr and aborts. */
_Noreturn void seam_assert_failed(const char *condition, const char *file, int line);

#endif
