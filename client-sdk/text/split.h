/* Split patterns: how a text falls into pieces before merging.
 *
 * A pipeline of steps; each cuts every fragment of the step before.  Patterns are those of
 * tokenizer.json (Oniguruma) run by PCRE2: only constructs that mean the same in both are let
 * through, the others are refused. */
#ifndef SEAM_SPLIT_H
#define SEAM_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

#include "seam_status.h"

#define SEAM_SPLIT_STEPS_MAX 8

/* GPT-2's pattern, which ByteLevel of Hugging Face uses. */
extern const char SEAM_SPLIT_GPT2[];

typedef enum seam_split_keep {
    SEAM_SPLIT_BOTH = 0, /* matches and what lies between: "Isolated" */
    SEAM_SPLIT_MATCHES,  /* "Removed", inverted */
    SEAM_SPLIT_GAPS,     /* "Removed" */
} seam_split_keep;

typedef struct seam_split seam_split;

seam_status seam_split_create(seam_split **ret_split, seam_error *err);
void seam_split_destroy(seam_split *gift_split);
/* Adds a step.  SEAM_E_FORMAT (the pattern is malformed), SEAM_E_UNIMPLEMENTED (a construct that
 * is not known to mean the same), SEAM_E_LIMIT (steps), SEAM_E_MEMORY. */
seam_status seam_split_add(seam_split *split, const char *pattern, bool is_literal,
                           seam_split_keep keep, seam_error *err);

/* Called for each piece in order; never for an empty one. */
typedef seam_status (*seam_split_piece)(void *context, const char *piece, size_t bytes);
/* `text` is well-formed UTF-8.  SEAM_E_LIMIT when a pattern needs too many steps, SEAM_E_MEMORY, or
 * what `piece` returns. */
seam_status seam_split_run(const seam_split *split, const char *text, size_t bytes,
                           seam_split_piece piece, void *context, seam_error *err);

#endif
