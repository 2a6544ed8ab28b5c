/* What a tokenizer does to a text, or to a part between added tokens, before it is split: the
 * normalizers of tokenizer.json and its Metaspace pre-tokenizer, which rewrites as they do.
 *
 * Built once (zeroed, add..), then read-only. */
#ifndef SEAM_NORMALIZER_H
#define SEAM_NORMALIZER_H

#include <stdbool.h>
#include <stddef.h>

#include "seam_status.h"
#include "text_buffer.h"

#define SEAM_NORMALIZER_STEPS_MAX 8
#define SEAM_NORMALIZER_TEXT_MAX  15 /* bytes of a step's texts */

/* U+2581, which SentencePiece writes for a space. */
#define SEAM_METASPACE "\xe2\x96\x81"

typedef enum seam_normalizer_kind {
    SEAM_NORMALIZER_NFC = 0,
    SEAM_NORMALIZER_PREPEND, /* `to` before a part that is not empty */
    SEAM_NORMALIZER_REPLACE, /* every `from` by `to` */
} seam_normalizer_kind;

typedef struct seam_normalizer_step {
    seam_normalizer_kind kind;
    char from[SEAM_NORMALIZER_TEXT_MAX + 1], to[SEAM_NORMALIZER_TEXT_MAX + 1];
} seam_normalizer_step;

typedef struct seam_normalizer {
    seam_normalizer_step steps[SEAM_NORMALIZER_STEPS_MAX];
    size_t step_count;
} seam_normalizer;

typedef enum seam_metaspace_prepend {
    SEAM_METASPACE_NEVER = 0,
    SEAM_METASPACE_FIRST,  /* before the part that a text begins with */
    SEAM_METASPACE_ALWAYS, /* before every part */
} seam_metaspace_prepend;

typedef struct seam_metaspace {
    bool is_used;
    bool splits; /* before each mark; else a part stays whole */
    seam_metaspace_prepend prepend;
} seam_metaspace;

/* Adds a step; `from` and `to` may be NULL where the kind does not use them.  SEAM_E_LIMIT (steps,
 * or a text over SEAM_NORMALIZER_TEXT_MAX), SEAM_E_FORMAT (an empty `from`). */
seam_status seam_normalizer_add(seam_normalizer *normalizer, seam_normalizer_kind kind,
                                const char *from, const char *to);
/* Whether a part of ASCII may pass as it is. */
bool seam_normalizer_keeps_ascii(const seam_normalizer *normalizer);
/* Replaces the contents of `ret_text` by the normalized part.  begins: the part is not the rest of
 * one, so that PREPEND applies.  SEAM_E_FORMAT, SEAM_E_MEMORY. */
seam_status seam_normalizer_run(seam_text *ret_text, const seam_normalizer *normalizer,
                                const char *text, size_t bytes, bool begins, seam_error *err);
/* The same by Metaspace; prepends: as its `prepend` says of this part. */
seam_status seam_metaspace_run(seam_text *ret_text, const char *text, size_t bytes, bool prepends);

#endif
