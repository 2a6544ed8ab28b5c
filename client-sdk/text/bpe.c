/* The vocabulary of a BPE model; see bpe.h.  Merging is in bpe_merge.c. */
#include "bpe.h"

#include <string.h>

#include "arena.h"
#include "bpe_lookup.h"
#include "byte_alphabet.h"
#include "bytes.h"
#include "tokenizer.h"
#include "try.h"

void seam_bpe_init(seam_bpe *bpe) {
    *bpe = (seam_bpe){.unk_id = SEAM_NO_TOKEN};
    memset(bpe->byte_ids, 0xff, sizeof(bpe->byte_ids));
}

void seam_bpe_deinit(seam_bpe *bpe) {
    seam_mem_free(bpe->tokens);
    seam_mem_free(bpe->by_text);
    seam_mem_free(bpe->merges);
    seam_text_deinit(&bpe->pool);
    seam_bpe_init(bpe);
}

/* Makes tokens[id] exist, not present. */
static seam_status tokens_reserve(seam_bpe *bpe, uint32_t id) {
    if (id < bpe->token_count) {
        return SEAM_OK;
    }
    if (id >= bpe->token_capacity) {
        size_t capacity = bpe->token_capacity == 0 ? 1024 : bpe->token_capacity;
        while (capacity <= id) {
            capacity *= 2;
        }
        seam_bpe_token *tokens = seam_mem_realloc(bpe->tokens, capacity * sizeof(*tokens));
        if (tokens == NULL) {
            return SEAM_E_MEMORY;
        }
        bpe->tokens = tokens;
        bpe->token_capacity = capacity;
    }
    memset(bpe->tokens + bpe->token_count, 0, (id + 1 - bpe->token_count) * sizeof(*bpe->tokens));
    bpe->token_count = (size_t)id + 1;
    return SEAM_OK;
}

static seam_status token_put(seam_bpe *bpe, uint32_t id, const char *text, size_t bytes,
                             bool is_literal) {
    if (id >= SEAM_VOCAB_MAX || bytes > UINT32_MAX) {
        return SEAM_E_FORMAT;
    }
    SEAM_TRY(tokens_reserve(bpe, id));
    if (bpe->tokens[id].is_present) {
        return SEAM_E_FORMAT;
    }
    const size_t offset = bpe->pool.count;
    SEAM_TRY(seam_text_append(&bpe->pool, text, bytes));
    bpe->tokens[id] = (seam_bpe_token){.offset = offset,
                                       .shown = offset,
                                       .bytes = (uint32_t)bytes,
                                       .shown_bytes = (uint32_t)bytes,
                                       .is_present = true,
                                       .is_literal = is_literal};
    return SEAM_OK;
}

seam_status seam_bpe_add_literal(seam_bpe *bpe, uint32_t id, const char *text, size_t bytes) {
    return token_put(bpe, id, text, bytes, true);
}

/* The byte that "<0x0A>" names, or -1. */
static int named_byte(const char *text, size_t bytes) {
    static const char DIGITS[] = "0123456789ABCDEF";
    if (bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') {
        return -1;
    }
    const char *const high = memchr(DIGITS, text[3], 16);
    const char *const low = memchr(DIGITS, text[4], 16);
    return high == NULL || low == NULL ? -1 : (int)(16 * (high - DIGITS) + (low - DIGITS));
}

seam_status seam_bpe_show_token(seam_bpe *bpe, uint32_t id, const char *text, size_t bytes) {
    SEAM_ASSERT(id < bpe->token_count && bytes <= UINT32_MAX);
    const size_t offset = bpe->pool.count;
    SEAM_TRY(seam_text_append(&bpe->pool, text, bytes));
    bpe->tokens[id].shown = offset;
    bpe->tokens[id].shown_bytes = (uint32_t)bytes;
    return SEAM_OK;
}

static seam_status spelt_put(seam_bpe *bpe, uint32_t id, const char *text, size_t bytes) {
    const int byte = named_byte(text, bytes);
    SEAM_TRY(token_put(bpe, id, text, bytes, false));
    if (byte < 0) {
        return SEAM_OK;
    }
    const char raw = (char)byte;
    bpe->tokens[id].is_byte = true;
    bpe->byte_ids[byte] = id;
    return seam_bpe_show_token(bpe, id, &raw, 1);
}

seam_status seam_bpe_add_token(seam_bpe *bpe, uint32_t id, const char *text, size_t bytes) {
    if (bpe->by_character) {
        return spelt_put(bpe, id, text, bytes);
    }
    char *raw = seam_mem_alloc(bytes);
    size_t raw_bytes = 0;
    if (raw == NULL) {
        return SEAM_E_MEMORY;
    }
    const seam_status st = seam_byte_alphabet_read(raw, &raw_bytes, text, bytes)
                               ? token_put(bpe, id, raw, raw_bytes, false)
                               : token_put(bpe, id, text, bytes, true);
    seam_mem_free(raw);
    return st;
}

static size_t power_above(size_t count) {
    size_t power = 16;
    while (power < 2 * count) {
        power *= 2;
    }
    return power;
}

static size_t text_slot(const seam_bpe *bpe, const char *bytes, size_t count) {
    const uint64_t hash = seam_hash64(SEAM_HASH64_INIT, bytes, count);
    return (size_t)(hash ^ (hash >> 32)) & bpe->by_text_mask;
}

seam_status seam_bpe_finish_tokens(seam_bpe *bpe, size_t merge_count) {
    const size_t text_slots = power_above(bpe->token_count);
    const size_t merge_slots = power_above(merge_count);
    bpe->by_text = seam_mem_zalloc(text_slots, sizeof(*bpe->by_text));
    bpe->merges = seam_mem_zalloc(merge_slots, sizeof(*bpe->merges));
    if (bpe->by_text == NULL || bpe->merges == NULL) {
        return SEAM_E_MEMORY;
    }
    memset(bpe->by_text, 0xff, text_slots * sizeof(*bpe->by_text));
    memset(bpe->merges, 0xff, merge_slots * sizeof(*bpe->merges));
    bpe->by_text_mask = text_slots - 1;
    bpe->merge_mask = merge_slots - 1;
    for (uint32_t id = 0; id < bpe->token_count; id++) {
        const seam_bpe_token *token = &bpe->tokens[id];
        if (!token->is_present || token->is_literal) {
            continue;
        }
        const char *bytes = bpe->pool.bytes + token->offset;
        size_t slot = text_slot(bpe, bytes, token->bytes);
        while (bpe->by_text[slot] != SEAM_NO_TOKEN) {
            slot = (slot + 1) & bpe->by_text_mask;
        }
        bpe->by_text[slot] = id;
        if (token->bytes == 1 && !bpe->by_character) {
            bpe->byte_ids[(uint8_t)bytes[0]] = id;
        }
    }
    return SEAM_OK;
}

uint32_t seam_bpe_find(const seam_bpe *bpe, const char *bytes, size_t count) {
    for (size_t slot = text_slot(bpe, bytes, count);; slot = (slot + 1) & bpe->by_text_mask) {
        const uint32_t id = bpe->by_text[slot];
        if (id == SEAM_NO_TOKEN) {
            return SEAM_NO_TOKEN;
        }
        const seam_bpe_token *token = &bpe->tokens[id];
        if (token->bytes == count && memcmp(bpe->pool.bytes + token->offset, bytes, count) == 0) {
            return id;
        }
    }
}

/* Ids of the two halves and of their union, found through their bytes. */
static seam_status merge_ids(uint32_t ret_ids[3], const seam_bpe *bpe, char *scratch,
                             const char *left, size_t left_bytes, const char *right,
                             size_t right_bytes) {
    size_t a = left_bytes;
    size_t b = right_bytes;
    if (bpe->by_character) {
        memcpy(scratch, left, left_bytes);
        memcpy(scratch + left_bytes, right, right_bytes);
    } else if (!seam_byte_alphabet_read(scratch, &a, left, left_bytes) ||
               !seam_byte_alphabet_read(scratch + a, &b, right, right_bytes)) {
        return SEAM_E_FORMAT;
    }
    ret_ids[0] = seam_bpe_find(bpe, scratch, a);
    ret_ids[1] = seam_bpe_find(bpe, scratch + a, b);
    ret_ids[2] = seam_bpe_find(bpe, scratch, a + b);
    for (int i = 0; i < 3; i++) {
        if (ret_ids[i] == SEAM_NO_TOKEN) {
            return SEAM_E_FORMAT;
        }
    }
    return SEAM_OK;
}

seam_status seam_bpe_add_merge(seam_bpe *bpe, const char *left, size_t left_bytes,
                               const char *right, size_t right_bytes) {
    char *scratch = seam_mem_alloc(left_bytes + right_bytes);
    uint32_t ids[3];
    if (scratch == NULL) {
        return SEAM_E_MEMORY;
    }
    const seam_status st = merge_ids(ids, bpe, scratch, left, left_bytes, right, right_bytes);
    seam_mem_free(scratch);
    SEAM_TRY(st);
    SEAM_ASSERT(bpe->merge_count < bpe->merge_mask);
    const uint64_t key = seam_bpe_merge_key(ids[0], ids[1]);
    size_t slot = seam_bpe_merge_slot(bpe, key);
    while (bpe->merges[slot].key != UINT64_MAX && bpe->merges[slot].key != key) {
        slot = (slot + 1) & bpe->merge_mask;
    }
    /* A pair listed twice has its later rank, as in Hugging Face's map. */
    bpe->merges[slot] = (seam_bpe_merge){key, (uint32_t)bpe->merge_count++, ids[2]};
    return SEAM_OK;
}
