/* Internal to model/: what the operator of a server can read out of a session's own stream.
 *
 * The operator has the base model, the session's config and the rows as its codecs decode them
 * (core/watch.h), and nothing else: an adapter that the client trained in its blocks is not used.
 * How rows are searched for: audit_attack.h.  What `seam audit` prints of it: cli/cmd_audit.c. */
#ifndef SEAM_AUDIT_H
#define SEAM_AUDIT_H

#include "seam_model.h"
#include "watch.h"

typedef enum seam_audit_attack {
    SEAM_AUDIT_INPUT_ROWS,     /* nearest row of the embedding */
    SEAM_AUDIT_INPUT_BLOCKS,   /* of what the client's blocks make of each token alone */
    SEAM_AUDIT_INPUT_CONTEXT,  /* the same, what earlier tokens add taken off as far as guessed */
    SEAM_AUDIT_INPUT_CHANCE,   /* the most frequent tokens, whatever the row */
    SEAM_AUDIT_LABEL_GRADIENT, /* nearest row of the head to the output gradient */
    SEAM_AUDIT_LABEL_INPUTS,   /* a label is the next row's input */
    SEAM_AUDIT_LABEL_MODEL,    /* what the public model predicts, without the gradient */
    SEAM_AUDIT_LABEL_CHANCE,   /* the most frequent labels */
    SEAM_AUDIT_ATTACKS
} seam_audit_attack;

/* Of `count` tokens, so many were the first guess, or among the first SEAM_AUDIT_GUESSES.
 * count 0: the attack does not apply. */
typedef struct seam_audit_share {
    uint64_t count, first, among;
} seam_audit_share;

typedef struct seam_audit_report {
    uint64_t tokens, labels; /* rows of the step, labelled ones */
    seam_audit_share shares[SEAM_AUDIT_ATTACKS];
} seam_audit_report;

typedef struct seam_audit seam_audit;

/* `model` is borrowed until the audit is destroyed; options: those that it was opened with, whose
 * files are read again.  Errors of seam_model_open. */
seam_status seam_audit_create(seam_audit **ret_audit, seam_model *model,
                              const seam_model_options *options, seam_error *err);
void seam_audit_destroy(seam_audit *gift_audit); /* NULL is fine */
/* The step that is looked at has these micro-batches (borrowed until seam_audit_run returns), at
 * most SEAM_AUDIT_MICROS_MAX; seam_audit_see, with the audit as `user`, is what its session is
 * watched with.  A step that nobody saw gives chance alone.  SEAM_E_ARG (the batch), SEAM_E_MEMORY.
 */
#define SEAM_AUDIT_MICROS_MAX 64
seam_status seam_audit_begin(seam_audit *audit, const seam_token_batch *micros,
                             uint32_t micro_count, seam_error *err);
seam_watch_fn seam_audit_see;
/* The attacks, after that step; they need no session any more.  is_stopped (NULL: never) is asked
 * now and then.  SEAM_E_CANCELLED, SEAM_E_MEMORY, SEAM_E_DEVICE_LOST, what reading the files gives.
 */
seam_status seam_audit_run(seam_audit_report *ret_report, seam_audit *audit,
                           bool (*is_stopped)(void), seam_error *err);

#endif
