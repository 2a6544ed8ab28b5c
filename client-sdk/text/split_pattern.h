/* From the regular expressions of tokenizer.json (Oniguruma, Ruby syntax) to PCRE2's. */
#ifndef SEAM_SPLIT_PATTERN_H
#define SEAM_SPLIT_PATTERN_H

#include "seam_status.h"
#include "text_buffer.h"

/* Appends the PCRE2 form (for UTF and UCP).  SEAM_E_UNIMPLEMENTED for a construct that is not
 * known to mean the same in both, SEAM_E_FORMAT for a broken one, SEAM_E_MEMORY. */
seam_status seam_split_pattern_translate(seam_text *ret_pattern, const char *pattern,
                                         seam_error *err);

#endif
