/* BPE tokenizers: by bytes (GPT-2, Llama-3, Qwen2, SmolLM2 and their like) and by characters with
 * bytes to fall back on (SentencePiece's: Phi-3, Llama-2 and theirs).
 *
 * Read from tokenizer.json (Hugging Face), from vocab.json + merges.txt, or from the metadata of a
 * GGUF file (by bytes only); ids equal those of Hugging Face `tokenizers`.  Every component that is
 * not known is refused by name.
 *
 * Terms: an *added token* is matched as a whole before anything else ("<|im_end|>"); a *special*
 * one has a control meaning.  A *piece* is what the split patterns leave; merges stay inside it.
 *
 * Immutable after open: any thread, any number at once. */
#ifndef SEAM_TOKENIZER_H
#define SEAM_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"
#include "text_buffer.h"

#define SEAM_VOCAB_MAX (1U << 20)

typedef struct seam_tokenizer seam_tokenizer;
struct seam_gguf;

/* `path`: a model directory (tokenizer.json, else vocab.json + merges.txt, else one .gguf), a
 * tokenizer.json or a .gguf file.  tokenizer_config.json and config.json beside a tokenizer.json
 * give end and begin tokens and the chat template.
 * SEAM_E_NOT_FOUND, SEAM_E_FORMAT, SEAM_E_LIMIT, SEAM_E_UNIMPLEMENTED, SEAM_E_IO, SEAM_E_MEMORY;
 * all with the file and the component. */
seam_status seam_tokenizer_open(seam_tokenizer **ret_tokenizer, const char *path, seam_error *err);
/* From a parsed GGUF file, which may be closed afterwards. */
seam_status seam_tokenizer_from_gguf(seam_tokenizer **ret_tokenizer, const struct seam_gguf *gguf,
                                     seam_error *err);
/* From the bytes of a tokenizer.json; no end token is known then. */
seam_status seam_tokenizer_from_json(seam_tokenizer **ret_tokenizer, const void *bytes,
                                     size_t count, const char *name, seam_error *err);
void seam_tokenizer_close(seam_tokenizer *gift_tokenizer);

/* -1: none known. */
int64_t seam_tokenizer_bos(const seam_tokenizer *tokenizer);
int64_t seam_tokenizer_eos(const seam_tokenizer *tokenizer);
/* Ids that the tokenizer puts before every text (Llama-3's begin token), *ret_count of them;
 * encode never adds them. */
const uint32_t *seam_tokenizer_prefix(size_t *ret_count, const seam_tokenizer *tokenizer);
/* Jinja text of the model's chat template, or NULL. */
const char *seam_tokenizer_chat_template(const seam_tokenizer *tokenizer);
/* The id of an added token with exactly this text; false if there is none. */
bool seam_tokenizer_find_added(uint32_t *ret_id, const seam_tokenizer *tokenizer, const char *text);
bool seam_tokenizer_is_special(const seam_tokenizer *tokenizer, uint32_t id);
/* Bytes of one token (not zero-terminated; perhaps part of a character); NULL for an id without a
 * token. */
const char *seam_tokenizer_token(size_t *ret_bytes, const seam_tokenizer *tokenizer, uint32_t id);

typedef enum seam_special {
    SEAM_SPECIAL_PARSE = 0, /* special tokens written in the text become their ids, as in HF */
    SEAM_SPECIAL_AS_TEXT,   /* they are encoded as ordinary text */
} seam_special;

/* Appends the ids of `text` (UTF-8, any bytes but ill-formed ones).  SEAM_E_FORMAT (with the byte
 * offset), SEAM_E_LIMIT (a split pattern gave up), SEAM_E_MEMORY; ids are then unspecified. */
seam_status seam_tokenizer_encode(seam_ids *ids, const seam_tokenizer *tokenizer, const char *text,
                                  size_t bytes, seam_special special, seam_error *err);

typedef struct seam_encode_args {
    const char *text;
    size_t bytes;
    seam_special special;
    /* The text goes on one that was encoded before: a tokenizer that puts a space before a text
     * puts none before this one. */
    bool continues;
    /* Offsets that no token goes across, rising, at most `bytes`; each ret_ends[i] becomes
     * ids->count where cuts[i] stands.  The rest of the text is encoded as if there were no cut. */
    const size_t *cuts;
    size_t cut_count;
    size_t *ret_ends;
} seam_encode_args;
/* As seam_tokenizer_encode. */
seam_status seam_tokenizer_encode_with(seam_ids *ids, const seam_tokenizer *tokenizer,
                                       const seam_encode_args *args, seam_error *err);

typedef enum seam_decode {
    SEAM_DECODE_TEXT = 0,     /* well-formed UTF-8: broken characters become U+FFFD */
    SEAM_DECODE_RAW,          /* the tokens' bytes as they are (for streams) */
    SEAM_DECODE_SKIP_SPECIAL, /* as TEXT, without special tokens */
    SEAM_DECODE_PART,         /* as TEXT, of ids that go on others: the space at their head stays */
    SEAM_DECODE_REPLY,        /* as PART, without special tokens */
} seam_decode;

/* Appends the text of ids.  SEAM_E_ARG for an id without a token, SEAM_E_MEMORY. */
seam_status seam_tokenizer_decode(seam_text *text, const seam_tokenizer *tokenizer,
                                  const uint32_t *ids, size_t count, seam_decode mode,
                                  seam_error *err);

#endif
