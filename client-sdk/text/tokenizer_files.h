/* The other forms that a tokenizer is stored in.  Internal to text/. */
#ifndef SEAM_TOKENIZER_FILES_H
#define SEAM_TOKENIZER_FILES_H

#include "seam_status.h"

#define SEAM_TOKENIZER_JSON_MAX (64 << 20)

struct seam_tokenizer;

/* GPT-2's vocab.json and merges.txt: GPT-2's split pattern, "<|endoftext|>" ends a text.
 * SEAM_E_NOT_FOUND, SEAM_E_FORMAT, SEAM_E_LIMIT, SEAM_E_IO, SEAM_E_MEMORY. */
seam_status seam_tokenizer_from_vocab(struct seam_tokenizer **ret_tokenizer, const char *vocab_path,
                                      const char *merges_path, seam_error *err);

#endif
