/* Vocabulary and merges of a BPE model, and the merging of one piece.
 *
 * A byte-level model (GPT-2) merges bytes; its tokens are kept as the bytes they stand for, never
 * in the GPT-2 alphabet of the files.  A model by characters (SentencePiece) merges characters; its
 * tokens are kept as the file spells them, and beside that as what they show (U+2581 as a space,
 * "<0x0A>" as that byte).
 * Built once (init, add.., finish, merge..), then read-only. */
#ifndef SEAM_BPE_H
#define SEAM_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"
#include "text_buffer.h"

#define SEAM_NO_TOKEN UINT32_MAX

typedef struct seam_bpe_token {
    size_t offset; /* into pool: what vocabulary and merges spell */
    size_t shown;  /* into pool: what it stands for in a text; the same in a byte-level model */
    uint32_t bytes, shown_bytes;
    bool is_present; /* ids may have holes */
    bool is_literal; /* not in the byte alphabet: unreachable by merging */
    bool is_byte;    /* "<0x0A>" of a model by characters */
} seam_bpe_token;

typedef struct seam_bpe_merge {
    uint64_t key; /* left id << 32 | right id; UINT64_MAX: an empty slot */
    uint32_t rank, id;
} seam_bpe_merge;

typedef struct seam_bpe {
    seam_bpe_token *tokens;
    size_t token_count; /* highest id + 1 */
    size_t token_capacity;
    seam_text pool;
    uint32_t *by_text; /* open addressing, SEAM_NO_TOKEN: empty */
    size_t by_text_mask;
    seam_bpe_merge *merges; /* open addressing */
    size_t merge_mask, merge_count;
    uint32_t byte_ids[256]; /* SEAM_NO_TOKEN: the vocabulary lacks this byte */
    uint32_t unk_id;        /* for such bytes; SEAM_NO_TOKEN: they are dropped, as HF does */
    bool by_character;      /* set before the first token */
    bool byte_fallback;     /* by_character: characters without a token become their bytes */
    bool fuse_unk;
    bool ignore_merges; /* a piece that is a token stays whole */
} seam_bpe;

void seam_bpe_init(seam_bpe *bpe);
void seam_bpe_deinit(seam_bpe *bpe);
/* Adds a token as it stands in a vocabulary file (GPT-2 alphabet, or by_character as it is).
 * SEAM_E_FORMAT when the id is taken or over SEAM_VOCAB_MAX, SEAM_E_MEMORY. */
seam_status seam_bpe_add_token(seam_bpe *bpe, uint32_t id, const char *text, size_t bytes);
/* Adds a token that stands for exactly these bytes. */
seam_status seam_bpe_add_literal(seam_bpe *bpe, uint32_t id, const char *text, size_t bytes);
/* Sets what a token shows.  SEAM_E_MEMORY. */
seam_status seam_bpe_show_token(seam_bpe *bpe, uint32_t id, const char *text, size_t bytes);
/* Ends the vocabulary and makes room for merges.  SEAM_E_MEMORY. */
seam_status seam_bpe_finish_tokens(seam_bpe *bpe, size_t merge_count);
/* A merge in rank order; left and right spelt as the tokens are.  SEAM_E_FORMAT when one of them
 * or their union is no token. */
seam_status seam_bpe_add_merge(seam_bpe *bpe, const char *left, size_t left_bytes,
                               const char *right, size_t right_bytes);
/* The token of exactly these bytes, or SEAM_NO_TOKEN.  After finish_tokens. */
uint32_t seam_bpe_find(const seam_bpe *bpe, const char *bytes, size_t count);
/* Appends the ids of one piece.  SEAM_E_MEMORY. */
seam_status seam_bpe_encode(seam_ids *ids, const seam_bpe *bpe, const char *piece, size_t bytes);

#endif
