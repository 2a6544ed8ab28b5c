/* Two growable arrays that text/ returns results in: bytes of text and token ids.
 *
 * A zeroed struct is an empty one; deinit it, or reuse it by setting count = 0. */
#ifndef SEAM_TEXT_BUFFER_H
#define SEAM_TEXT_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

typedef struct seam_text {
    char *bytes; /* zero-terminated once something was appended; may also hold zeros inside */
    size_t count, capacity;
} seam_text;

typedef struct seam_ids {
    uint32_t *ids;
    size_t count, capacity;
} seam_ids;

void seam_text_deinit(seam_text *text);
void seam_ids_deinit(seam_ids *ids);
/* SEAM_E_MEMORY leaves the contents as they were. */
seam_status seam_text_append(seam_text *text, const char *bytes, size_t count);
seam_status seam_text_append_string(seam_text *text, const char *string);
seam_status seam_ids_append(seam_ids *ids, const uint32_t *values, size_t count);

/* Bytes of the white space character (Unicode's White_Space) that well-formed UTF-8 begins with, or
 * ends with; 0: another character, or none. */
size_t seam_space_at(const char *text, size_t bytes);
size_t seam_space_before(const char *text, size_t bytes);
/* Appends with every ill-formed part replaced by U+FFFD (one a maximal prefix, as Unicode and
 * Rust's from_utf8_lossy do).  SEAM_E_MEMORY. */
seam_status seam_text_append_lossy(seam_text *text, const char *bytes, size_t count);

#endif
