/* Generation: new rows of many sequences against their keys and values so far.
 *
 * A cache has `slot_count` slots of `positions_max` positions.  A slot is begun again by writing
 * position 0: rows see positions up to their own, so what an earlier sequence left behind is
 * never read. */
#include "blocks_internal.h"
#include "try.h"

/* Of a slot; the last two of the call at work. */
enum { IS_LONG = 1, BEGINS = 2, REACHES = 4 };

struct seam_kv_cache {
    const seam_blocks *blocks;
    uint32_t slot_count, positions_max, rows_max;
    size_t layer_bytes;     /* of k, and of v, of one layer */
    uint8_t *memory;        /* k of layer 0, v of layer 0, k of layer 1, ... device */
    seam_activations *acts; /* forward only: one layer's scratch */
    uint8_t *slot_state;    /* (slot_count) of LongRoPE, else NULL */
};

size_t seam_kv_cache_bytes(const seam_blocks *blocks, uint32_t slot_count, uint32_t positions_max) {
    size_t bytes = 0;
    if (!seam_mul3_bytes(&bytes, slot_count, positions_max, blocks->kv_cols) ||
        !seam_mul_bytes(&bytes, bytes, seam_dtype_bytes(blocks->ops->act)) ||
        !seam_mul3_bytes(&bytes, bytes, 2, blocks->layer_count)) {
        return 0;
    }
    return bytes;
}

static bool has_long(const seam_blocks *blocks) {
    return blocks->config.rope.on && blocks->config.rope.long_from != 0;
}

seam_status seam_kv_cache_create(seam_kv_cache **ret_cache, const seam_blocks *blocks,
                                 uint32_t slot_count, uint32_t positions_max, uint32_t rows_max,
                                 seam_error *err) {
    if (slot_count == 0 || positions_max == 0 || rows_max == 0 ||
        positions_max > blocks->config.context_max) {
        return seam_error_set(err, SEAM_E_ARG,
                              "key/value cache of %u slots, %u positions, %u rows: each at least "
                              "1, positions at most the context, %u",
                              slot_count, positions_max, rows_max, blocks->config.context_max);
    }
    const seam_ops *ops = blocks->ops;
    const size_t bytes = seam_kv_cache_bytes(blocks, slot_count, positions_max);
    if (bytes == 0) {
        return seam_error_set(err, SEAM_E_LIMIT, "key/value cache: too large to address");
    }
    seam_kv_cache *cache = seam_mem_zalloc(1, sizeof *cache);
    if (cache == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for a key/value cache");
    }
    cache->blocks = blocks;
    cache->slot_count = slot_count;
    cache->positions_max = positions_max;
    cache->rows_max = rows_max;
    cache->layer_bytes = bytes / 2 / blocks->layer_count;
    void *memory = NULL;
    seam_status st = ops->mem_alloc(&memory, blocks->backend, bytes);
    if (st != SEAM_OK) {
        seam_kv_cache_destroy(cache);
        return seam_error_set(err, st, "key/value cache of %zu bytes: %s", bytes,
                              seam_status_text(st));
    }
    cache->memory = memory;
    if (has_long(blocks)) {
        cache->slot_state = seam_mem_zalloc(slot_count, sizeof *cache->slot_state);
        if (cache->slot_state == NULL) {
            seam_kv_cache_destroy(cache);
            return seam_error_set(err, SEAM_E_MEMORY, "no memory for a key/value cache");
        }
    }
    const seam_activations_options options = {.rows_max = rows_max, .seqs_max = rows_max};
    st = seam_activations_create(&cache->acts, blocks, &options, err);
    if (st != SEAM_OK) {
        seam_kv_cache_destroy(cache);
        return st;
    }
    *ret_cache = cache;
    return SEAM_OK;
}

void seam_kv_cache_destroy(seam_kv_cache *gift_cache) {
    if (gift_cache == NULL) {
        return;
    }
    seam_mem_free(gift_cache->slot_state);
    seam_activations_destroy(gift_cache->acts);
    gift_cache->blocks->ops->mem_free(gift_cache->blocks->backend, gift_cache->memory);
    seam_mem_free(gift_cache);
}

/* Keys and values of the new rows to their places; rows of one call may belong to any slots. */
static seam_status rows_store(const seam_pass *pass, uint8_t *k_cache, uint8_t *v_cache,
                              uint32_t positions_max, const uint32_t *slots,
                              const uint32_t *positions) {
    const seam_blocks *b = pass->blocks;
    const size_t value_bytes = seam_dtype_bytes(b->ops->qkv);
    const uint8_t *k = (const uint8_t *)seam_pass_layer(pass, 0)->qkv + b->q_cols * value_bytes;
    const seam_cache_store_args args = {.k_cache = k_cache,
                                        .v_cache = v_cache,
                                        .k = k,
                                        .v = k + b->kv_cols * value_bytes,
                                        .ld = b->qkv_cols,
                                        .slots = slots,
                                        .positions = positions,
                                        .positions_max = positions_max,
                                        .T = pass->rows,
                                        .cols = b->kv_cols};
    return b->ops->cache_store(pass->stream, &args);
}

/* The prefix's keys and values before those of slots that begin. */
static seam_status prefix_store(const seam_pass *pass, uint32_t layer, uint8_t *k_cache,
                                uint8_t *v_cache, uint32_t positions_max, const uint32_t *slots,
                                const uint32_t *positions) {
    const seam_blocks *b = pass->blocks;
    const seam_ops *ops = b->ops;
    const seam_prefix p = seam_adapter_prefix(pass->adapter, layer, NULL);
    const size_t row_bytes = (size_t)p.ld * seam_dtype_bytes(ops->acc);
    const size_t place_bytes = (size_t)b->kv_cols * seam_dtype_bytes(ops->act);
    for (uint32_t t = 0; p.tokens != 0 && t < pass->rows; t++) {
        if (positions[t] != p.tokens) {
            continue;
        }
        for (uint32_t j = 0; j < p.tokens; j++) {
            const size_t to = ((size_t)slots[t] * positions_max + j) * place_bytes;
            SEAM_TRY(ops->cast(pass->stream, k_cache + to, ops->act,
                               (const uint8_t *)p.k + j * row_bytes, ops->acc, b->kv_cols));
            SEAM_TRY(ops->cast(pass->stream, v_cache + to, ops->act,
                               (const uint8_t *)p.v + j * row_bytes, ops->acc, b->kv_cols));
        }
    }
    return SEAM_OK;
}

static seam_status attention_cached(const seam_pass *pass, seam_kv_cache *cache, uint32_t layer,
                                    const uint32_t *slots, const uint32_t *positions) {
    const seam_blocks *b = pass->blocks;
    const seam_layer_acts *l = seam_pass_layer(pass, layer);
    uint8_t *k_cache = cache->memory + 2 * layer * cache->layer_bytes;
    uint8_t *v_cache = k_cache + cache->layer_bytes;
    SEAM_TRY(prefix_store(pass, layer, k_cache, v_cache, cache->positions_max, slots, positions));
    SEAM_TRY(rows_store(pass, k_cache, v_cache, cache->positions_max, slots, positions));
    const seam_attention_cached_args args = {.o = l->o,
                                             .q = l->qkv,
                                             .k_cache = k_cache,
                                             .v_cache = v_cache,
                                             .q_ld = b->qkv_cols,
                                             .slots = slots,
                                             .positions = positions,
                                             .positions_max = cache->positions_max,
                                             .scale = b->attention_scale,
                                             .window =
                                                 seam_layer_window(b, layer, cache->positions_max),
                                             .T = pass->rows,
                                             .H = b->config.heads,
                                             .G = b->config.kv_heads,
                                             .D = b->config.head_dim};
    return b->ops->attention_cached(pass->stream, &args);
}

bool seam_kv_cache_takes(const seam_kv_cache *cache, uint32_t slot, uint32_t first, uint32_t end) {
    return cache->slot_state == NULL || first == 0 || (cache->slot_state[slot] & IS_LONG) != 0 ||
           end <= cache->blocks->config.rope.long_from;
}

/* The rows of the rotary table, and which slots are long from now on.  Rows of several slots may
 * come in any order, so each slot's state is found first. */
static seam_status turns_fill(seam_kv_cache *cache, uint32_t rows, const uint32_t *slots,
                              const uint32_t *positions, uint32_t prefix_tokens) {
    const seam_model_config *c = &cache->blocks->config;
    uint8_t *state = cache->slot_state;
    for (uint32_t t = 0; t < rows; t++) {
        state[slots[t]] &= IS_LONG;
    }
    for (uint32_t t = 0; t < rows; t++) {
        state[slots[t]] |= (uint8_t)((positions[t] == 0 ? BEGINS : 0) |
                                     (positions[t] >= c->rope.long_from ? REACHES : 0));
    }
    for (uint32_t t = 0; t < rows; t++) {
        if ((state[slots[t]] & (BEGINS | IS_LONG)) == 0 && (state[slots[t]] & REACHES) != 0) {
            return SEAM_E_STATE;
        }
    }
    for (uint32_t t = 0; t < rows; t++) {
        const uint8_t s = state[slots[t]];
        const bool is_long = (s & ((s & BEGINS) != 0 ? REACHES : IS_LONG)) != 0;
        cache->acts->turns[t] = seam_rope_table_row(c, positions[t] + prefix_tokens, is_long);
    }
    for (uint32_t t = 0; t < rows; t++) { /* nothing is refused any more */
        if ((state[slots[t]] & BEGINS) != 0) {
            state[slots[t]] = (state[slots[t]] & REACHES) != 0 ? IS_LONG : 0;
        }
    }
    return SEAM_OK;
}

typedef struct cached {
    seam_pass pass;
    seam_kv_cache *cache;
    const uint32_t *slots, *positions;
} cached;
static seam_status layers_cached(const void *context);

seam_status seam_blocks_forward_cached(const seam_blocks *blocks, seam_adapter *adapter,
                                       seam_kv_cache *cache, seam_stream *stream, void *x,
                                       uint32_t rows, const uint32_t *slots,
                                       const uint32_t *positions) {
    SEAM_ASSERT(cache->blocks == blocks);
    SEAM_ASSERT(adapter == NULL || adapter->blocks == blocks);
    const uint32_t tokens = seam_prefix_tokens(adapter);
    const uint32_t text_max = seam_model_config_positions(&blocks->config, tokens);
    if (rows == 0 || rows > cache->rows_max) {
        return SEAM_E_ARG;
    }
    for (uint32_t t = 0; t < rows; t++) {
        if (slots[t] >= cache->slot_count || cache->positions_max <= tokens ||
            positions[t] >= cache->positions_max - tokens || positions[t] >= text_max) {
            return SEAM_E_ARG;
        }
    }
    if (cache->slot_state != NULL) {
        SEAM_TRY(turns_fill(cache, rows, slots, positions, tokens));
    }
    const uint32_t *after = seam_positions_after(cache->acts->shifted, adapter, positions, rows);
    const seam_pass pass = {.blocks = blocks,
                            .adapter = adapter,
                            .acts = cache->acts,
                            .stream = stream,
                            .x = x,
                            .rows = rows,
                            .turns = cache->slot_state != NULL ? cache->acts->turns : after};
    const cached c = {.pass = pass, .cache = cache, .slots = slots, .positions = after};
    const seam_repeat_pass repeat = {.kind = SEAM_REPEAT_CACHED,
                                     .adapter = adapter,
                                     .stream = stream,
                                     .x = x,
                                     .rows = rows,
                                     .turns = pass.turns,
                                     .slots = slots,
                                     .slot_positions = after,
                                     .run = layers_cached,
                                     .context = &c};
    return seam_blocks_repeat(cache->acts, &repeat);
}

static seam_status layers_cached(const void *context) {
    const cached *c = context;
    for (uint32_t layer = 0; layer < c->pass.blocks->layer_count; layer++) {
        SEAM_TRY(seam_layer_attention_begin(&c->pass, layer));
        SEAM_TRY(attention_cached(&c->pass, c->cache, layer, c->slots, c->positions));
        SEAM_TRY(seam_layer_attention_end(&c->pass, layer));
    }
    return SEAM_OK;
}
