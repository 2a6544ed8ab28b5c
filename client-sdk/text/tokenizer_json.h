/* What the two readers of a tokenizer.json share.  Internal to text/: tokenizer_json.c reads the
 * model and the added tokens, tokenizer_parts.c normalizer, pre-tokenizer, decoder and
 * post-processor. */
#ifndef SEAM_TOKENIZER_JSON_H
#define SEAM_TOKENIZER_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "tokenizer_build.h"

typedef struct seam_tokenizer_json_reader {
    seam_tokenizer *tokenizer;
    const char *file;
    seam_error *err;
} seam_tokenizer_json_reader;

/* SEAM_E_UNIMPLEMENTED; what NULL: a component without a type. */
seam_status seam_tokenizer_json_refuse(const seam_tokenizer_json_reader *r, const char *part,
                                       const char *what);
/* SEAM_E_FORMAT. */
seam_status seam_tokenizer_json_malformed(const seam_tokenizer_json_reader *r, const char *part,
                                          const char *why);
bool seam_json_is_type(const json_t *object, const char *type);
/* Normalizer, pre-tokenizer and decoder: whether the model is by characters comes out of them.
 * SEAM_E_UNIMPLEMENTED, SEAM_E_FORMAT, SEAM_E_LIMIT, SEAM_E_MEMORY. */
seam_status seam_tokenizer_parts_read(const seam_tokenizer_json_reader *r, const json_t *root);
/* The post-processor; after the added tokens. */
seam_status seam_tokenizer_prefix_read(const seam_tokenizer_json_reader *r, const json_t *root);

#endif
