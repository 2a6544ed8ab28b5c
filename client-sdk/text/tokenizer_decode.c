/* Token ids -> text; see tokenizer.h.
 *
 * A byte-level model joins its tokens' bytes, and what is no UTF-8 in the whole becomes U+FFFD.  A
 * model by characters judges each run of byte tokens by itself: text if it is UTF-8 as a whole,
 * else one U+FFFD a byte; then the space that encoding put before the text goes. */
#include <string.h>

#include "tokenizer_build.h"
#include "try.h"
#include "utf8.h"

typedef struct decoding {
    const seam_tokenizer *tokenizer;
    seam_text raw;   /* what is decided */
    seam_text bytes; /* a run of byte tokens */
    bool is_later;   /* not the first token */
} decoding;

static seam_status bytes_settle(decoding *d) {
    static const char BROKEN[] = "\xef\xbf\xbd";
    if (seam_utf8_check(d->bytes.bytes, d->bytes.count) == d->bytes.count) {
        SEAM_TRY(seam_text_append(&d->raw, d->bytes.bytes, d->bytes.count));
    } else {
        for (size_t i = 0; i < d->bytes.count; i++) {
            SEAM_TRY(seam_text_append_string(&d->raw, BROKEN));
        }
    }
    d->bytes.count = 0;
    return SEAM_OK;
}

/* A token's spelling without the decoder's mark. */
static seam_status unmarked_append(decoding *d, const seam_bpe_token *token) {
    const char *const text = d->tokenizer->bpe.pool.bytes + token->offset;
    const char *const mark = d->tokenizer->decoder.from;
    const size_t mark_bytes = strlen(mark);
    for (size_t at = 0; at < token->bytes;) {
        if (token->bytes - at >= mark_bytes && memcmp(text + at, mark, mark_bytes) == 0) {
            at += mark_bytes;
        } else {
            SEAM_TRY(seam_text_append(&d->raw, text + at, 1));
            at++;
        }
    }
    return SEAM_OK;
}

static seam_status character_token(decoding *d, const seam_bpe_token *token, bool goes_on) {
    const seam_token_decoder *const rule = &d->tokenizer->decoder;
    const char *const shown = d->tokenizer->bpe.pool.bytes + token->shown;
    const bool is_first = !d->is_later && !goes_on;
    d->is_later = true;
    if (token->is_byte && rule->byte_fallback) {
        return seam_text_append(&d->bytes, shown, token->shown_bytes);
    }
    SEAM_TRY(bytes_settle(d));
    return is_first && rule->drops_in_first ? unmarked_append(d, token)
                                            : seam_text_append(&d->raw, shown, token->shown_bytes);
}

static seam_status tokens_join(decoding *d, const uint32_t *ids, size_t count, seam_decode mode,
                               seam_error *err) {
    const seam_bpe *const bpe = &d->tokenizer->bpe;
    const bool goes_on = mode == SEAM_DECODE_PART || mode == SEAM_DECODE_REPLY;
    const bool skips = mode == SEAM_DECODE_SKIP_SPECIAL || mode == SEAM_DECODE_REPLY;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= bpe->token_count || !bpe->tokens[ids[i]].is_present) {
            return seam_error_set(err, SEAM_E_ARG, "id %u has no token", ids[i]);
        }
        const seam_bpe_token *const token = &bpe->tokens[ids[i]];
        if (skips && seam_tokenizer_is_special(d->tokenizer, ids[i])) {
            continue;
        }
        if (bpe->by_character && mode != SEAM_DECODE_RAW) {
            SEAM_TRY(character_token(d, token, goes_on));
        } else {
            SEAM_TRY(seam_text_append(&d->raw, bpe->pool.bytes + token->shown, token->shown_bytes));
        }
    }
    SEAM_TRY(bytes_settle(d));
    for (size_t i = 0;
         !goes_on && mode != SEAM_DECODE_RAW && i < d->tokenizer->decoder.strip_spaces &&
         d->raw.count > 0 && d->raw.bytes[0] == ' ';
         i++) {
        memmove(d->raw.bytes, d->raw.bytes + 1, --d->raw.count);
    }
    return SEAM_OK;
}

seam_status seam_tokenizer_decode(seam_text *text, const seam_tokenizer *tokenizer,
                                  const uint32_t *ids, size_t count, seam_decode mode,
                                  seam_error *err) {
    decoding d = {.tokenizer = tokenizer};
    seam_status st = tokens_join(&d, ids, count, mode, err);
    if (st == SEAM_OK) {
        st = mode == SEAM_DECODE_RAW ? seam_text_append(text, d.raw.bytes, d.raw.count)
                                     : seam_text_append_lossy(text, d.raw.bytes, d.raw.count);
    }
    seam_text_deinit(&d.raw);
    seam_text_deinit(&d.bytes);
    return st == SEAM_E_MEMORY ? seam_error_set(err, st, "no memory to decode a text") : st;
}
