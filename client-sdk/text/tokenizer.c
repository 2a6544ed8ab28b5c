/* Encoding; see tokenizer.h.  Who fills a tokenizer: tokenizer_json.c, tokenizer_gguf.c,
 * tokenizer_open.c.  The way back: tokenizer_decode.c.
 *
 * A text passes: added tokens that are matched before the normalizer, normalizer, added tokens
 * matched after it, Metaspace, split patterns, merges. */
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "byte_alphabet.h"
#include "tokenizer_build.h"
#include "try.h"
#include "utf8.h"

/* ---- Building ---- */

seam_status seam_tokenizer_alloc(seam_tokenizer **ret_tokenizer, seam_error *err) {
    seam_tokenizer *t = seam_mem_zalloc(1, sizeof(*t));
    if (t == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    seam_bpe_init(&t->bpe);
    t->bos_id = t->eos_id = -1;
    const seam_status st = seam_split_create(&t->split, err);
    if (st != SEAM_OK) {
        seam_tokenizer_close(t);
        return st;
    }
    *ret_tokenizer = t;
    return SEAM_OK;
}

void seam_tokenizer_close(seam_tokenizer *gift_tokenizer) {
    seam_tokenizer *t = gift_tokenizer;
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < t->added_count; i++) {
        seam_mem_free(t->added[i].text);
    }
    seam_mem_free(t->added);
    seam_mem_free(t->chat_template);
    seam_split_destroy(t->split);
    seam_bpe_deinit(&t->bpe);
    seam_mem_free(t);
}

static char *bytes_copy(const char *text, size_t bytes) {
    char *copy = seam_mem_alloc(bytes + 1);
    if (copy != NULL) {
        memcpy(copy, text, bytes);
        copy[bytes] = '\0';
    }
    return copy;
}

/* Whether the vocabulary's entry of this id spells the token, as it is or in the byte alphabet. */
static seam_status is_same_token(bool *ret_same, const seam_bpe *bpe,
                                 const seam_added_token *token) {
    const seam_bpe_token *known = &bpe->tokens[token->id];
    const char *bytes = bpe->pool.bytes + known->offset;
    char *raw = seam_mem_alloc(token->bytes);
    size_t raw_bytes = 0;
    if (raw == NULL) {
        return SEAM_E_MEMORY;
    }
    *ret_same = (known->bytes == token->bytes && memcmp(bytes, token->text, token->bytes) == 0) ||
                (seam_byte_alphabet_read(raw, &raw_bytes, token->text, token->bytes) &&
                 raw_bytes == known->bytes && memcmp(bytes, raw, raw_bytes) == 0);
    seam_mem_free(raw);
    return SEAM_OK;
}

/* Enters an added token in the vocabulary, or finds it there. */
static seam_status added_enter(seam_tokenizer *t, const seam_added_token *token, const char *file,
                               seam_error *err) {
    seam_status st = SEAM_OK;
    bool same = true;
    if (token->id < t->bpe.token_count && t->bpe.tokens[token->id].is_present) {
        st = is_same_token(&same, &t->bpe, token);
        /* Merging must never produce a control token. */
        t->bpe.tokens[token->id].is_literal |= token->is_special;
    } else {
        st = seam_bpe_add_literal(&t->bpe, token->id, token->text, token->bytes);
    }
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "%s: added token %u: out of memory", file, token->id);
    }
    if (!same) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              "%s: added token %.*s has the id of another token, %u", file,
                              (int)(token->bytes < 64 ? token->bytes : 64), token->text, token->id);
    }
    return SEAM_OK;
}

seam_status seam_tokenizer_add_added(seam_tokenizer *tokenizer, const seam_added_token *token,
                                     const char *file, seam_error *err) {
    seam_tokenizer *t = tokenizer;
    if (token->bytes == 0 || token->id >= SEAM_VOCAB_MAX) {
        return seam_error_set(err, SEAM_E_FORMAT, "%s: added token %u is empty or over the limit",
                              file, token->id);
    }
    if (t->added_count == SEAM_ADDED_TOKENS_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT, "%s: more than %d added tokens", file,
                              SEAM_ADDED_TOKENS_MAX);
    }
    SEAM_TRY(added_enter(t, token, file, err));
    if (t->added_count == t->added_capacity) {
        const size_t capacity = t->added_capacity == 0 ? 32 : 2 * t->added_capacity;
        seam_added_token *added = seam_mem_realloc(t->added, capacity * sizeof(*added));
        if (added == NULL) {
            return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", file);
        }
        t->added = added;
        t->added_capacity = capacity;
    }
    seam_added_token copy = *token;
    copy.text = bytes_copy(token->text, token->bytes);
    if (copy.text == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", file);
    }
    t->added[t->added_count++] = copy;
    return SEAM_OK;
}

/* First byte, then longer before shorter: the first hit is the longest. */
static int added_order(const void *a, const void *b) {
    const seam_added_token *x = a;
    const seam_added_token *y = b;
    const uint8_t first_x = (uint8_t)x->text[0];
    const uint8_t first_y = (uint8_t)y->text[0];
    if (first_x != first_y) {
        return first_x < first_y ? -1 : 1;
    }
    if (x->bytes != y->bytes) {
        return x->bytes > y->bytes ? -1 : 1;
    }
    return memcmp(x->text, y->text, x->bytes);
}

/* What a token of a model by characters shows: its spelling by the decoder's rule. */
static seam_status token_show(seam_tokenizer *t, uint32_t id) {
    const seam_token_decoder *d = &t->decoder;
    const seam_bpe_token *token = &t->bpe.tokens[id];
    seam_normalizer rule = {.step_count = 0};
    seam_text spelt = {0};
    seam_text shown = {0};
    if (!token->is_present || (token->is_byte && d->byte_fallback) || d->from[0] == '\0') {
        return SEAM_OK;
    }
    seam_status st = seam_text_append(&spelt, t->bpe.pool.bytes + token->offset, token->bytes);
    if (st == SEAM_OK) {
        st = seam_normalizer_add(&rule, SEAM_NORMALIZER_REPLACE, d->from, d->to);
    }
    if (st == SEAM_OK) {
        st = seam_normalizer_run(&shown, &rule, spelt.bytes, spelt.count, false, NULL);
    }
    if (st == SEAM_OK) {
        st = seam_bpe_show_token(&t->bpe, id, shown.bytes, shown.count);
    }
    seam_text_deinit(&shown);
    seam_text_deinit(&spelt);
    return st;
}

seam_status seam_tokenizer_finish(seam_tokenizer *tokenizer, seam_error *err) {
    seam_tokenizer *t = tokenizer;
    for (uint32_t id = 0; t->bpe.by_character && id < t->bpe.token_count; id++) {
        if (token_show(t, id) != SEAM_OK) {
            return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
        }
    }
    if (t->added_count > 1) {
        qsort(t->added, t->added_count, sizeof(*t->added), added_order);
    }
    size_t i = 0;
    for (size_t first = 0; first <= 256; first++) {
        while (i < t->added_count && (uint8_t)t->added[i].text[0] < first) {
            i++;
        }
        t->added_begin[first] = i;
    }
    return SEAM_OK;
}

seam_status seam_tokenizer_set_chat_template(seam_tokenizer *tokenizer, const char *text,
                                             size_t bytes) {
    char *copy = bytes_copy(text, bytes);
    if (copy == NULL) {
        return SEAM_E_MEMORY;
    }
    seam_mem_free(tokenizer->chat_template);
    tokenizer->chat_template = copy;
    return SEAM_OK;
}

/* ---- Looking ---- */

int64_t seam_tokenizer_bos(const seam_tokenizer *tokenizer) {
    return tokenizer->bos_id;
}

int64_t seam_tokenizer_eos(const seam_tokenizer *tokenizer) {
    return tokenizer->eos_id;
}

const uint32_t *seam_tokenizer_prefix(size_t *ret_count, const seam_tokenizer *tokenizer) {
    *ret_count = tokenizer->prefix_count;
    return tokenizer->prefix;
}

const char *seam_tokenizer_chat_template(const seam_tokenizer *tokenizer) {
    return tokenizer->chat_template;
}

bool seam_tokenizer_find_added(uint32_t *ret_id, const seam_tokenizer *tokenizer,
                               const char *text) {
    const size_t bytes = strlen(text);
    for (size_t i = 0; i < tokenizer->added_count; i++) {
        const seam_added_token *token = &tokenizer->added[i];
        if (token->bytes == bytes && memcmp(token->text, text, bytes) == 0) {
            *ret_id = token->id;
            return true;
        }
    }
    return false;
}

static const seam_added_token *added_by_id(const seam_tokenizer *t, uint32_t id) {
    for (size_t i = 0; i < t->added_count; i++) {
        if (t->added[i].id == id) {
            return &t->added[i];
        }
    }
    return NULL;
}

bool seam_tokenizer_is_special(const seam_tokenizer *tokenizer, uint32_t id) {
    const seam_added_token *token = added_by_id(tokenizer, id);
    return token != NULL && token->is_special;
}

const char *seam_tokenizer_token(size_t *ret_bytes, const seam_tokenizer *tokenizer, uint32_t id) {
    const seam_bpe *bpe = &tokenizer->bpe;
    if (id >= bpe->token_count || !bpe->tokens[id].is_present) {
        return NULL;
    }
    *ret_bytes = bpe->tokens[id].shown_bytes;
    return bpe->pool.bytes + bpe->tokens[id].shown;
}

/* ---- Encoding ---- */

typedef struct encoder {
    const seam_tokenizer *tokenizer;
    const seam_encode_args *args;
    seam_ids *ids;
    size_t cut_next;           /* of args->cuts: the first that is not passed */
    seam_text normal, rewrite; /* scratch */
    seam_error *err;
} encoder;

/* Where a part stands between added tokens. */
typedef struct part_place {
    bool begins;   /* what is put before a part is put before this one */
    bool is_first; /* of the text */
} part_place;

static seam_status no_memory(encoder *e) {
    return seam_error_set(e->err, SEAM_E_MEMORY, "no memory to encode a text");
}

static seam_status piece_encode(void *context, const char *piece, size_t bytes) {
    encoder *e = context;
    const seam_status st = seam_bpe_encode(e->ids, &e->tokenizer->bpe, piece, bytes);
    return st == SEAM_OK ? st : seam_error_set(e->err, st, "no memory to encode a text");
}

/* Cuts at or before this offset of the text are passed: ids so far are of what stands before. */
static void cuts_pass(encoder *e, size_t offset) {
    while (e->cut_next < e->args->cut_count && e->args->cuts[e->cut_next] <= offset) {
        e->args->ret_ends[e->cut_next++] = e->ids->count;
    }
}

/* The first cut behind `at`, or `bytes`. */
static size_t cut_after(const encoder *e, size_t at, size_t bytes) {
    size_t i = e->cut_next;
    while (i < e->args->cut_count && e->args->cuts[i] <= at) {
        i++;
    }
    return i < e->args->cut_count && e->args->cuts[i] < bytes ? e->args->cuts[i] : bytes;
}

/* The longest added token of this class that `text` begins with, or NULL. */
static const seam_added_token *added_at(const encoder *e, const char *text, size_t bytes,
                                        bool is_normalized) {
    const seam_tokenizer *t = e->tokenizer;
    const uint8_t first = (uint8_t)text[0];
    for (size_t i = t->added_begin[first]; i < t->added_begin[first + 1]; i++) {
        const seam_added_token *token = &t->added[i];
        if (token->is_normalized == is_normalized && token->bytes <= bytes &&
            !(token->is_special && e->args->special == SEAM_SPECIAL_AS_TEXT) &&
            memcmp(token->text, text, token->bytes) == 0) {
            return token;
        }
    }
    return NULL;
}

/* Between added tokens, after the normalizer: Metaspace, split patterns, merges. */
static seam_status split_encode(encoder *e, const char *text, size_t bytes, part_place place) {
    static const char MARK[] = SEAM_METASPACE;
    const seam_metaspace *m = &e->tokenizer->metaspace;
    if (bytes == 0) {
        return SEAM_OK;
    }
    if (!m->is_used) {
        return seam_split_run(e->tokenizer->split, text, bytes, piece_encode, e, e->err);
    }
    const bool prepends =
        m->prepend == SEAM_METASPACE_ALWAYS
            ? place.begins
            : m->prepend == SEAM_METASPACE_FIRST && place.begins && place.is_first;
    if (seam_metaspace_run(&e->rewrite, text, bytes, prepends) != SEAM_OK) {
        return no_memory(e);
    }
    const char *const all = e->rewrite.bytes;
    size_t begin = 0;
    for (size_t at = 1; m->splits && at + sizeof MARK - 1 <= e->rewrite.count; at++) {
        if (memcmp(all + at, MARK, sizeof MARK - 1) == 0) {
            SEAM_TRY(piece_encode(e, all + begin, at - begin));
            begin = at;
        }
    }
    return piece_encode(e, all + begin, e->rewrite.count - begin);
}

/* A part between added tokens that are matched before the normalizer: those matched after it. */
static seam_status normalized_encode(encoder *e, const char *text, size_t bytes, part_place place) {
    size_t gap = 0;
    for (size_t at = 0; at < bytes;) {
        const seam_added_token *token = added_at(e, text + at, bytes - at, true);
        if (token == NULL) {
            at++;
            continue;
        }
        SEAM_TRY(split_encode(e, text + gap, at - gap, place));
        if (seam_ids_append(e->ids, &token->id, 1) != SEAM_OK) {
            return no_memory(e);
        }
        at += token->bytes;
        gap = at;
        place = (part_place){.begins = true};
    }
    return split_encode(e, text + gap, bytes - gap, place);
}

static bool is_ascii(const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (((uint8_t)text[i] & 0x80) != 0) {
            return false;
        }
    }
    return true;
}

static seam_status part_encode(encoder *e, const char *text, size_t bytes, part_place place) {
    const seam_normalizer *normalizer = &e->tokenizer->normalizer;
    if (normalizer->step_count == 0 ||
        (seam_normalizer_keeps_ascii(normalizer) && is_ascii(text, bytes))) {
        return normalized_encode(e, text, bytes, place);
    }
    const seam_status st =
        seam_normalizer_run(&e->normal, normalizer, text, bytes, place.begins, e->err);
    if (st != SEAM_OK) {
        return st == SEAM_E_MEMORY ? no_memory(e) : st;
    }
    return normalized_encode(e, e->normal.bytes, e->normal.count, place);
}

/* What lies between added tokens, cut where the caller wants it: [begin, end) of the text. */
static seam_status gap_encode(encoder *e, size_t begin, size_t end) {
    for (size_t at = begin; at < end;) {
        const size_t stop = cut_after(e, at, end);
        const bool is_first = at == 0 && !e->args->continues;
        const part_place place = {.begins = at == begin && (begin > 0 || is_first),
                                  .is_first = is_first};
        cuts_pass(e, at);
        SEAM_TRY(part_encode(e, e->args->text + at, stop - at, place));
        at = stop;
    }
    return SEAM_OK;
}

/* Bytes of white space that `text` begins with, or (backwards) that it ends with. */
static size_t space_bytes(const char *text, size_t bytes, bool backwards) {
    size_t count = 0;
    while (count < bytes) {
        const size_t n = backwards ? seam_space_before(text, bytes - count)
                                   : seam_space_at(text + count, bytes - count);
        if (n == 0) {
            break;
        }
        count += n;
    }
    return count;
}

static seam_status text_encode(encoder *e) {
    const char *const text = e->args->text;
    const size_t bytes = e->args->bytes;
    size_t gap = 0;
    for (size_t at = 0; at < bytes;) {
        const seam_added_token *token = added_at(e, text + at, cut_after(e, at, bytes) - at, false);
        if (token == NULL) {
            at++;
            continue;
        }
        /* A match inside white space that the token before has taken still counts. */
        const size_t end = at > gap ? at : gap;
        const size_t left = token->takes_left ? space_bytes(text + gap, end - gap, true) : 0;
        SEAM_TRY(gap_encode(e, gap, end - left));
        cuts_pass(e, at);
        if (seam_ids_append(e->ids, &token->id, 1) != SEAM_OK) {
            return no_memory(e);
        }
        at += token->bytes;
        gap = at + (token->takes_right ? space_bytes(text + at, bytes - at, false) : 0);
    }
    SEAM_TRY(gap_encode(e, gap, bytes));
    cuts_pass(e, bytes);
    return SEAM_OK;
}

seam_status seam_tokenizer_encode_with(seam_ids *ids, const seam_tokenizer *tokenizer,
                                       const seam_encode_args *args, seam_error *err) {
    const size_t good = seam_utf8_check(args->text, args->bytes);
    if (good < args->bytes) {
        return seam_error_set(err, SEAM_E_FORMAT, "a text is not UTF-8 at byte %zu", good);
    }
    encoder e = {.tokenizer = tokenizer, .args = args, .ids = ids, .err = err};
    const seam_status st = text_encode(&e);
    seam_text_deinit(&e.normal);
    seam_text_deinit(&e.rewrite);
    return st;
}

seam_status seam_tokenizer_encode(seam_ids *ids, const seam_tokenizer *tokenizer, const char *text,
                                  size_t bytes, seam_special special, seam_error *err) {
    const seam_encode_args args = {.text = text, .bytes = bytes, .special = special};
    return seam_tokenizer_encode_with(ids, tokenizer, &args, err);
}
