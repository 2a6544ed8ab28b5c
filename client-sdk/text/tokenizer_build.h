/* What the readers of tokenizer files fill in, and tokenizer.c then uses.  Internal to text/. */
#ifndef SEAM_TOKENIZER_BUILD_H
#define SEAM_TOKENIZER_BUILD_H

#include "bpe.h"
#include "normalizer.h"
#include "split.h"
#include "tokenizer.h"

#define SEAM_ADDED_TOKENS_MAX 65536
#define SEAM_PREFIX_MAX       4

typedef struct seam_added_token {
    char *text; /* on the heap */
    size_t bytes;
    uint32_t id;
    bool is_special;
    bool is_normalized;           /* matched after the normalizer, not before */
    bool takes_left, takes_right; /* white space on that side belongs to it ("lstrip") */
} seam_added_token;

/* How a model by characters becomes text again; a byte-level one joins its bytes. */
typedef struct seam_token_decoder {
    char from[SEAM_NORMALIZER_TEXT_MAX + 1]; /* in every token, by `to`; empty: nothing */
    char to[SEAM_NORMALIZER_TEXT_MAX + 1];
    bool byte_fallback;  /* byte tokens stand for their byte */
    bool drops_in_first; /* Metaspace: `from` is left out of the first token */
    size_t strip_spaces; /* so many at most at the head of a text */
} seam_token_decoder;

struct seam_tokenizer {
    seam_bpe bpe;
    seam_split *split;
    seam_normalizer normalizer;
    seam_metaspace metaspace;
    seam_token_decoder decoder;
    seam_added_token *added;
    size_t added_count, added_capacity;
    /* Of the sorted added tokens, the first whose first byte is >= the index. */
    size_t added_begin[257];
    int64_t bos_id, eos_id;
    uint32_t prefix[SEAM_PREFIX_MAX];
    size_t prefix_count;
    char *chat_template;
};

seam_status seam_tokenizer_alloc(seam_tokenizer **ret_tokenizer, seam_error *err);
/* Adds a token that is matched as a whole; also enters it in the vocabulary if it is not there.
 * SEAM_E_FORMAT (empty, or its id belongs to another token), SEAM_E_LIMIT, SEAM_E_MEMORY. */
seam_status seam_tokenizer_add_added(seam_tokenizer *tokenizer, const seam_added_token *token,
                                     const char *file, seam_error *err);
/* Sorts the added tokens and makes what tokens show; the last call before use.  SEAM_E_MEMORY. */
seam_status seam_tokenizer_finish(seam_tokenizer *tokenizer, seam_error *err);
/* Takes a copy of the template's text. */
seam_status seam_tokenizer_set_chat_template(seam_tokenizer *tokenizer, const char *text,
                                             size_t bytes);

#endif
