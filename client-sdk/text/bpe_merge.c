/* Merging one piece: always the pair of lowest rank, the leftmost of equals.
 *
 * Short pieces (nearly all) keep the ranks of neighbours in an array and scan it; pieces of more
 * than SHORT_MAX symbols use a heap of candidates, so that a megabyte without a split point costs
 * n log n. */
#include "arena.h"
#include "bpe.h"
#include "bpe_lookup.h"
#include "try.h"

enum { SHORT_MAX = 64 };

static const seam_bpe_merge *merge_find(const seam_bpe *bpe, uint32_t left, uint32_t right) {
    const uint64_t key = seam_bpe_merge_key(left, right);
    for (size_t slot = seam_bpe_merge_slot(bpe, key);; slot = (slot + 1) & bpe->merge_mask) {
        const seam_bpe_merge *merge = &bpe->merges[slot];
        if (merge->key == key) {
            return merge;
        }
        if (merge->key == UINT64_MAX) {
            return NULL;
        }
    }
}

/* Bytes of the character at text[0] of well-formed UTF-8. */
static size_t character_bytes(const char *text, size_t bytes) {
    size_t count = 1;
    while (count < bytes && ((uint8_t)text[count] & 0xc0) == 0x80) {
        count++;
    }
    return count;
}

/* Ids of a character's bytes into ret_ids; false when one has none. */
static bool fall_back(uint32_t *ret_ids, const seam_bpe *bpe, const char *text, size_t bytes) {
    for (size_t i = 0; bpe->byte_fallback && i < bytes; i++) {
        ret_ids[i] = bpe->byte_ids[(uint8_t)text[i]];
        if (ret_ids[i] == SEAM_NO_TOKEN) {
            return false;
        }
    }
    return bpe->byte_fallback;
}

/* The first symbols, one a character: its token, else those of its bytes, else `unk`.  An `unk`
 * waits for the next character with a token, as in Hugging Face's code: what falls back between
 * them stands before it. */
static size_t characters_init(uint32_t *ret_ids, const seam_bpe *bpe, const char *piece,
                              size_t bytes) {
    size_t count = 0;
    bool unk_waits = false;
    for (size_t i = 0; i < bytes;) {
        const size_t n = character_bytes(piece + i, bytes - i);
        const uint32_t id = seam_bpe_find(bpe, piece + i, n);
        if (id != SEAM_NO_TOKEN) {
            if (unk_waits) {
                ret_ids[count++] = bpe->unk_id;
                unk_waits = false;
            }
            ret_ids[count++] = id;
        } else if (fall_back(ret_ids + count, bpe, piece + i, n)) {
            count += n;
        } else if (bpe->unk_id != SEAM_NO_TOKEN) {
            if (unk_waits && !bpe->fuse_unk) {
                ret_ids[count++] = bpe->unk_id;
            }
            unk_waits = true;
        }
        i += n;
    }
    if (unk_waits) {
        ret_ids[count++] = bpe->unk_id;
    }
    return count;
}

/* The first symbols: one a byte.  A byte without a token is `unk` or, without one, dropped. */
static size_t symbols_init(uint32_t *ret_ids, const seam_bpe *bpe, const char *piece,
                           size_t bytes) {
    size_t count = 0;
    bool after_unk = false;
    if (bpe->by_character) {
        return characters_init(ret_ids, bpe, piece, bytes);
    }
    for (size_t i = 0; i < bytes; i++) {
        const uint32_t id = bpe->byte_ids[(uint8_t)piece[i]];
        if (id != SEAM_NO_TOKEN) {
            ret_ids[count++] = id;
            after_unk = false;
        } else if (bpe->unk_id != SEAM_NO_TOKEN && !(after_unk && bpe->fuse_unk)) {
            ret_ids[count++] = bpe->unk_id;
            after_unk = true;
        }
    }
    return count;
}

static size_t merge_short(uint32_t *ids, const seam_bpe *bpe, size_t count) {
    const seam_bpe_merge *pairs[SHORT_MAX]; /* of symbol i and i + 1 */
    for (size_t i = 0; i + 1 < count; i++) {
        pairs[i] = merge_find(bpe, ids[i], ids[i + 1]);
    }
    while (count > 1) {
        size_t best = count;
        uint32_t best_rank = UINT32_MAX;
        for (size_t i = 0; i + 1 < count; i++) {
            if (pairs[i] != NULL && pairs[i]->rank < best_rank) {
                best = i;
                best_rank = pairs[i]->rank;
            }
        }
        if (best == count) {
            break;
        }
        ids[best] = pairs[best]->id;
        count--;
        for (size_t i = best + 1; i < count; i++) {
            ids[i] = ids[i + 1];
            pairs[i - 1] = pairs[i];
        }
        if (best > 0) {
            pairs[best - 1] = merge_find(bpe, ids[best - 1], ids[best]);
        }
        if (best + 1 < count) {
            pairs[best] = merge_find(bpe, ids[best], ids[best + 1]);
        }
    }
    return count;
}

/* ---- Long pieces ---- */

typedef struct candidate {
    uint32_t rank, left; /* symbol index */
    uint32_t left_id, right_id, id;
} candidate;

typedef struct symbol {
    uint32_t id;             /* SEAM_NO_TOKEN: merged away */
    uint32_t previous, next; /* UINT32_MAX: none */
} symbol;

typedef struct long_merge {
    const seam_bpe *bpe;
    symbol *symbols;
    candidate *heap;
    size_t heap_count;
} long_merge;

static bool is_before(const candidate *a, const candidate *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void heap_push(long_merge *m, uint32_t left) {
    const uint32_t right = m->symbols[left].next;
    if (right == UINT32_MAX) {
        return;
    }
    const uint32_t left_id = m->symbols[left].id;
    const uint32_t right_id = m->symbols[right].id;
    const seam_bpe_merge *merge = merge_find(m->bpe, left_id, right_id);
    if (merge == NULL) {
        return;
    }
    const candidate c = {merge->rank, left, left_id, right_id, merge->id};
    size_t i = m->heap_count++;
    while (i > 0 && is_before(&c, &m->heap[(i - 1) / 2])) {
        m->heap[i] = m->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    m->heap[i] = c;
}

static candidate heap_pop(long_merge *m) {
    const candidate top = m->heap[0];
    const candidate last = m->heap[--m->heap_count];
    size_t i = 0;
    for (size_t child = 1; child < m->heap_count; child = 2 * i + 1) {
        if (child + 1 < m->heap_count && is_before(&m->heap[child + 1], &m->heap[child])) {
            child++;
        }
        if (!is_before(&m->heap[child], &last)) {
            break;
        }
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = last;
    return top;
}

/* Each merge removes one symbol and adds at most two candidates: 3n is room for all. */
static void merge_run(long_merge *m, size_t count) {
    for (uint32_t i = 0; i + 1 < count; i++) {
        heap_push(m, i);
    }
    while (m->heap_count > 0) {
        const candidate c = heap_pop(m);
        symbol *left = &m->symbols[c.left];
        if (left->id != c.left_id || left->next == UINT32_MAX ||
            m->symbols[left->next].id != c.right_id) {
            continue; /* one side has changed since */
        }
        symbol *right = &m->symbols[left->next];
        left->id = c.id;
        left->next = right->next;
        right->id = SEAM_NO_TOKEN;
        if (left->next != UINT32_MAX) {
            m->symbols[left->next].previous = c.left;
        }
        if (left->previous != UINT32_MAX) {
            heap_push(m, left->previous);
        }
        heap_push(m, c.left);
    }
}

static seam_status merge_long(uint32_t *ids, size_t *count, const seam_bpe *bpe) {
    long_merge m = {.bpe = bpe};
    const size_t n = *count;
    if (n >= UINT32_MAX / 4) {
        return SEAM_E_LIMIT;
    }
    m.symbols = seam_mem_zalloc(n, sizeof(*m.symbols));
    m.heap = seam_mem_zalloc(3 * n, sizeof(*m.heap));
    seam_status st = SEAM_E_MEMORY;
    if (m.symbols != NULL && m.heap != NULL) {
        for (uint32_t i = 0; i < n; i++) {
            m.symbols[i] =
                (symbol){ids[i], i == 0 ? UINT32_MAX : i - 1, i + 1 == n ? UINT32_MAX : i + 1};
        }
        merge_run(&m, n);
        *count = 0;
        for (uint32_t i = 0; i != UINT32_MAX; i = m.symbols[i].next) {
            ids[(*count)++] = m.symbols[i].id;
        }
        st = SEAM_OK;
    }
    seam_mem_free(m.symbols);
    seam_mem_free(m.heap);
    return st;
}

seam_status seam_bpe_encode(seam_ids *ids, const seam_bpe *bpe, const char *piece, size_t bytes) {
    if (bpe->ignore_merges) {
        const uint32_t id = seam_bpe_find(bpe, piece, bytes);
        if (id != SEAM_NO_TOKEN) {
            return seam_ids_append(ids, &id, 1);
        }
    }
    if (bytes <= SHORT_MAX) {
        uint32_t symbols[SHORT_MAX];
        const size_t count = symbols_init(symbols, bpe, piece, bytes);
        return seam_ids_append(ids, symbols, merge_short(symbols, bpe, count));
    }
    size_t scratch_bytes;
    if (!seam_mul_bytes(&scratch_bytes, bytes, sizeof(uint32_t))) {
        return SEAM_E_MEMORY;
    }
    uint32_t *symbols = seam_mem_alloc(scratch_bytes);
    if (symbols == NULL) {
        return SEAM_E_MEMORY;
    }
    size_t count = symbols_init(symbols, bpe, piece, bytes);
    seam_status st = count > 1 ? merge_long(symbols, &count, bpe) : SEAM_OK;
    if (st == SEAM_OK) {
        st = seam_ids_append(ids, symbols, count);
    }
    seam_mem_free(symbols);
    return st;
}
