/* The adapter, LoRA, a prefix or the blocks in full: flat buffers of all its parameters, their
 * start, and reads and writes.
 *
 * Master parameters, gradients and both moments are one buffer each, so that an optimizer step is
 * one pass; tensors begin at 64-byte boundaries and the gaps hold zeros for ever.
 * Names and shapes: adapter_names.c.  Full fine-tuning: adapter_full.c.  Steps: optimizer.c.
 * Checkpoints: adapter_state.c. */
#include <math.h>
#include <string.h>

#include "blocks_internal.h"
#include "codec.h"
#include "try.h"

/* Elements between two tensors' beginnings are a multiple of this: 64 bytes of bf16. */
#define SLOT_ALIGN 32
#define NO_TARGET  255
/* Third word of the initial values' counter; keeps them apart from the codec's draws. */
#define INIT_STREAM 0x4c6f5241u /* "LoRA" */
#define DRAW_RANGE  65536       /* of dropout's draws */

static seam_status lora_check(const seam_lora_config *config, const seam_model_config *model,
                              seam_error *err);
static seam_status prefix_check(const seam_prefix_config *config, const seam_blocks *blocks,
                                seam_error *err);
static seam_status config_check(const seam_adapter_config *config, const seam_blocks *blocks,
                                seam_error *err);
static seam_status slots_plan(seam_adapter *a);
static seam_status buffers_take(seam_adapter *a);
static seam_status values_start(seam_adapter *a);

seam_status seam_adapter_create(seam_adapter **ret_adapter, const seam_blocks *blocks,
                                const seam_adapter_config *config, seam_error *err) {
    SEAM_TRY(config_check(config, blocks, err));
    seam_adapter *a = seam_mem_zalloc(1, sizeof *a);
    if (a == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for an adapter");
    }
    seam_status st = SEAM_OK;
    a->blocks = blocks;
    a->config.kind = config->kind;
    if (config->kind == SEAM_ADAPTER_PREFIX) {
        a->config.prefix = config->prefix;
    } else if (config->kind == SEAM_ADAPTER_LORA) {
        a->config.lora = config->lora;
    }
    SEAM_TRY_GOTO(slots_plan(a), st, fail);
    SEAM_TRY_GOTO(buffers_take(a), st, fail);
    SEAM_TRY_GOTO(values_start(a), st, fail);
    *ret_adapter = a;
    return SEAM_OK;
fail:
    seam_adapter_destroy(a);
    if (config->kind == SEAM_ADAPTER_FULL) {
        return seam_error_set(err, st, "the session's own blocks: %s", seam_status_text(st));
    }
    const bool is_prefix = config->kind == SEAM_ADAPTER_PREFIX;
    return seam_error_set(err, st, "adapter of %s %u: %s", is_prefix ? "virtual tokens" : "rank",
                          is_prefix ? config->prefix.tokens : config->lora.rank,
                          seam_status_text(st));
}

static seam_status config_check(const seam_adapter_config *config, const seam_blocks *blocks,
                                seam_error *err) {
    switch (config->kind) {
    case SEAM_ADAPTER_LORA:
        return lora_check(&config->lora, &blocks->config, err);
    case SEAM_ADAPTER_PREFIX:
        return prefix_check(&config->prefix, blocks, err);
    case SEAM_ADAPTER_FULL:
        return SEAM_OK;
    }
    return seam_error_set(err, SEAM_E_ARG, "adapter: kind %d is none", (int)config->kind);
}

void seam_adapter_destroy(seam_adapter *gift_adapter) {
    if (gift_adapter == NULL) {
        return;
    }
    const seam_ops *ops = gift_adapter->blocks->ops;
    seam_backend *backend = gift_adapter->blocks->backend;
    seam_full_free(gift_adapter);
    ops->mem_free(backend, gift_adapter->copy);
    ops->mem_free(backend, gift_adapter->v);
    ops->mem_free(backend, gift_adapter->m);
    ops->mem_free(backend, gift_adapter->grad);
    ops->mem_free(backend, gift_adapter->param);
    seam_mem_free(gift_adapter->staging);
    seam_mem_free(gift_adapter->slots);
    seam_mem_free(gift_adapter);
}

const seam_adapter_config *seam_adapter_config_of(const seam_adapter *adapter) {
    return &adapter->config;
}

static void *at(const void *base, size_t element, seam_dtype dtype) {
    return (uint8_t *)(uintptr_t)base + element * seam_dtype_bytes(dtype);
}

/* Dropout of a target's input.  The micro-batch's key: words 0 and 1 of Philox4x32-10 with key =
 * seed and counter = (step, step >> 32, micro, "drop"). */
static seam_dropout dropout_of(const seam_adapter *a, uint32_t layer, uint32_t target,
                               const seam_draw *draw) {
    seam_dropout dropout = {0};
    const seam_lora_config *lora = &a->config.lora;
    if (draw == NULL || lora->dropout <= 0) {
        return dropout;
    }
    const long drawn = lrint((double)lora->dropout * DRAW_RANGE);
    const uint32_t key[2] = {(uint32_t)lora->seed, (uint32_t)(lora->seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)draw->step, (uint32_t)(draw->step >> 32), draw->micro,
                                 SEAM_DROPOUT_STREAM};
    uint32_t words[4];
    seam_philox(words, counter, key);
    dropout.threshold = drawn > 0 ? (uint32_t)drawn : 1;
    dropout.place = (a->blocks->layer_begin + layer) * SEAM_LORA_PLACES + target;
    dropout.key[0] = words[0];
    dropout.key[1] = words[1];
    return dropout;
}

float seam_lora_scale(const seam_lora_config *config) {
    const double rank = config->rank;
    return (float)((double)config->alpha / (config->rslora ? sqrt(rank) : rank));
}

uint32_t seam_adapter_pairs(seam_lora_pair ret_pairs[SEAM_LORA_PAIRS_MAX],
                            const seam_adapter *adapter, uint32_t layer, uint32_t product,
                            void *const u[SEAM_LORA_TARGETS], const seam_draw *draw) {
    if (adapter == NULL) {
        return 0;
    }
    const seam_ops *ops = adapter->blocks->ops;
    const void *values = adapter->copy != NULL ? adapter->copy : adapter->param;
    uint32_t count = 0;
    for (uint32_t t = 0; t < SEAM_LORA_TARGETS; t++) {
        if ((product >> t & 1) == 0 || adapter->target_rank[t] == NO_TARGET) {
            continue;
        }
        const seam_adapter_slot *a =
            &adapter->slots[2 * (layer * adapter->target_count + adapter->target_rank[t])];
        const seam_adapter_slot *b = a + 1;
        const seam_dropout dropout = dropout_of(adapter, layer, t, draw);
        const float kept = (float)(DRAW_RANGE - dropout.threshold) / DRAW_RANGE;
        ret_pairs[count++] = (seam_lora_pair){
            .col_begin = seam_lora_target_shape(adapter->blocks, t).col_begin,
            .N = b->rows,
            .R = adapter->config.lora.rank,
            .scale = seam_lora_scale(&adapter->config.lora) / kept,
            .a = at(values, a->begin, ops->act),
            .b = at(values, b->begin, ops->act),
            .u = u[t],
            .da = at(adapter->grad, a->begin, ops->acc),
            .db = at(adapter->grad, b->begin, ops->acc),
            .dropout = dropout,
        };
    }
    return count;
}

/* Values of a token: a key and a value of each layer. */
static size_t prefix_cols(const seam_blocks *blocks) {
    return (size_t)2 * blocks->layer_count * blocks->kv_cols;
}

seam_prefix seam_adapter_prefix(const seam_adapter *adapter, uint32_t layer, const void *values) {
    if (seam_prefix_tokens(adapter) == 0) {
        return (seam_prefix){.tokens = 0};
    }
    const seam_blocks *b = adapter->blocks;
    const seam_dtype acc = b->ops->acc;
    const size_t k = (size_t)2 * layer * b->kv_cols, v = k + b->kv_cols;
    const void *read = values != NULL ? values : adapter->param;
    return (seam_prefix){.k = at(read, k, acc),
                         .v = at(read, v, acc),
                         .dk = at(adapter->grad, k, acc),
                         .dv = at(adapter->grad, v, acc),
                         .tokens = adapter->config.prefix.tokens,
                         .ld = (uint32_t)prefix_cols(b)};
}

static seam_status slot_read(float *ret, const seam_adapter *adapter, seam_stream *stream,
                             const void *flat, uint32_t tensor_idx) {
    SEAM_ASSERT(tensor_idx < adapter->slot_count);
    const seam_adapter_slot *slot = &adapter->slots[tensor_idx];
    const seam_ops *ops = adapter->blocks->ops;
    const size_t count = (size_t)slot->rows * slot->cols;
    void *host = ops->acc == SEAM_F32 ? (void *)ret : adapter->staging;
    SEAM_TRY(ops->copy_out(stream, host, at(flat, slot->begin, ops->acc),
                           count * seam_dtype_bytes(ops->acc)));
    SEAM_TRY(ops->stream_sync(stream));
    if (ops->acc == SEAM_F32) {
        return SEAM_OK;
    }
    const double *values = (const double *)(const void *)adapter->staging;
    for (size_t i = 0; i < count; i++) {
        ret[i] = (float)values[i];
    }
    return SEAM_OK;
}

seam_status seam_adapter_read(float *ret, const seam_adapter *adapter, seam_stream *stream,
                              uint32_t tensor_idx) {
    return slot_read(ret, adapter, stream, adapter->param, tensor_idx);
}

seam_status seam_adapter_read_gradient(float *ret, const seam_adapter *adapter, seam_stream *stream,
                                       uint32_t tensor_idx) {
    return slot_read(ret, adapter, stream, adapter->grad, tensor_idx);
}

/* One tensor into a flat buffer. */
static seam_status slot_write(const seam_adapter *adapter, seam_stream *stream, void *flat,
                              uint32_t tensor_idx, const float *values) {
    SEAM_ASSERT(tensor_idx < adapter->slot_count);
    const seam_adapter_slot *slot = &adapter->slots[tensor_idx];
    const seam_ops *ops = adapter->blocks->ops;
    const size_t count = (size_t)slot->rows * slot->cols;
    if (ops->acc != SEAM_F32) {
        double *wide = (double *)(void *)adapter->staging;
        for (size_t i = 0; i < count; i++) {
            wide[i] = values[i];
        }
    }
    const void *host = ops->acc == SEAM_F32 ? (const void *)values : adapter->staging;
    return ops->copy_in(stream, at(flat, slot->begin, ops->acc), host,
                        count * seam_dtype_bytes(ops->acc));
}

seam_status seam_adapter_write(seam_adapter *adapter, seam_stream *stream, uint32_t tensor_idx,
                               const float *values) {
    const seam_ops *ops = adapter->blocks->ops;
    const seam_adapter_slot *slot = &adapter->slots[tensor_idx];
    SEAM_TRY(slot_write(adapter, stream, adapter->param, tensor_idx, values));
    if (adapter->copy != NULL) {
        SEAM_TRY(ops->cast(stream, at(adapter->copy, slot->begin, ops->act), ops->act,
                           at(adapter->param, slot->begin, ops->acc), ops->acc,
                           (size_t)slot->rows * slot->cols));
    }
    if (adapter->own != NULL) {
        SEAM_TRY(seam_full_refresh(adapter, stream, slot->layer, slot->layer + 1));
    }
    return ops->stream_sync(stream);
}

seam_status seam_adapter_write_gradient(seam_adapter *adapter, seam_stream *stream,
                                        uint32_t tensor_idx, const float *values) {
    SEAM_TRY(slot_write(adapter, stream, adapter->grad, tensor_idx, values));
    return adapter->blocks->ops->stream_sync(stream);
}

static seam_status lora_check(const seam_lora_config *config, const seam_model_config *model,
                              seam_error *err) {
    if (config->rank < 1 || config->rank > SEAM_LORA_RANK_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "lora.rank %u: must be 1..%u", config->rank,
                              SEAM_LORA_RANK_MAX);
    }
    if (!isfinite(config->alpha) || config->alpha <= 0) {
        return seam_error_set(err, SEAM_E_ARG, "lora.alpha %g: must be above 0",
                              (double)config->alpha);
    }
    if (!(config->dropout >= 0 && config->dropout <= (float)SEAM_LORA_DROPOUT_MAX)) {
        return seam_error_set(err, SEAM_E_ARG, "lora.dropout %g: must be 0..%g",
                              (double)config->dropout, SEAM_LORA_DROPOUT_MAX);
    }
    return seam_lora_targets_check(config->targets, model, "lora.targets", err);
}

static seam_status prefix_check(const seam_prefix_config *config, const seam_blocks *blocks,
                                seam_error *err) {
    const seam_model_config *model = &blocks->config;
    const char *field = NULL;
    const uint32_t room = seam_model_config_prefix_room(&field, model);
    if (config->tokens < 1 || config->tokens > SEAM_PREFIX_MAX || config->tokens >= room) {
        return seam_error_set(err, SEAM_E_ARG,
                              "prefix.virtual_tokens %u: must be 1..%d and below "
                              "the model's %s, %u",
                              config->tokens, SEAM_PREFIX_MAX, field, room);
    }
    return SEAM_OK;
}

size_t seam_adapter_stride(size_t count) {
    return (count + SLOT_ALIGN - 1) / SLOT_ALIGN * SLOT_ALIGN;
}

size_t seam_adapter_elements(const seam_blocks *blocks, const seam_adapter_config *config) {
    const seam_lora_config *lora = &config->lora;
    size_t count = 0;
    if (config->kind == SEAM_ADAPTER_FULL) {
        return seam_full_elements(blocks);
    }
    if (config->kind == SEAM_ADAPTER_PREFIX) {
        return seam_adapter_stride(config->prefix.tokens * prefix_cols(blocks));
    }
    for (uint32_t t = 0; t < SEAM_LORA_TARGETS; t++) {
        if ((lora->targets >> t & 1) != 0) {
            const seam_lora_shape shape = seam_lora_target_shape(blocks, t);
            count += seam_adapter_stride((size_t)lora->rank * shape.in) +
                     seam_adapter_stride((size_t)lora->rank * shape.out);
        }
    }
    return count * blocks->layer_count;
}

/* Elements of the largest tensor. */
static size_t slot_largest(const seam_blocks *blocks, const seam_adapter_config *config) {
    size_t largest = 0;
    if (config->kind == SEAM_ADAPTER_FULL) {
        return seam_full_largest(blocks);
    }
    if (config->kind == SEAM_ADAPTER_PREFIX) {
        return config->prefix.tokens * prefix_cols(blocks);
    }
    for (uint32_t t = 0; t < SEAM_LORA_TARGETS; t++) {
        const seam_lora_shape shape = seam_lora_target_shape(blocks, t);
        const size_t side = shape.in > shape.out ? shape.in : shape.out;
        largest = (config->lora.targets >> t & 1) != 0 && side > largest ? side : largest;
    }
    return largest * config->lora.rank;
}

static size_t slot_count_of(const seam_blocks *blocks, const seam_adapter_config *config) {
    const size_t targets = (size_t)__builtin_popcount(config->lora.targets);
    return config->kind == SEAM_ADAPTER_FULL     ? seam_full_slot_count(blocks)
           : config->kind == SEAM_ADAPTER_PREFIX ? 1
                                                 : 2 * targets * blocks->layer_count;
}

static size_t staging_bytes(const seam_blocks *blocks, const seam_adapter_config *config) {
    const seam_dtype acc = blocks->ops->acc;
    return acc == SEAM_F32 ? 0 : slot_largest(blocks, config) * seam_dtype_bytes(acc);
}

size_t seam_adapter_host_bytes(const seam_blocks *blocks, const seam_adapter_config *config) {
    size_t own = 0;
    if (config->kind == SEAM_ADAPTER_FULL) {
        (void)seam_full_weight_bytes(&own, blocks);
    }
    return sizeof(seam_adapter) + slot_count_of(blocks, config) * sizeof(seam_adapter_slot) +
           staging_bytes(blocks, config) + own;
}

static seam_status slots_plan(seam_adapter *a) {
    uint32_t chosen[SEAM_LORA_TARGETS];
    for (uint32_t t = 0; t < SEAM_LORA_TARGETS; t++) {
        const bool on = (a->config.lora.targets >> t & 1) != 0;
        a->target_rank[t] = on ? (uint8_t)a->target_count : NO_TARGET;
        if (on) {
            chosen[a->target_count++] = t;
        }
    }
    a->slot_count = (uint32_t)slot_count_of(a->blocks, &a->config);
    a->slots = seam_mem_zalloc(a->slot_count, sizeof *a->slots);
    if (a->slots == NULL) {
        return SEAM_E_MEMORY;
    }
    if (a->config.kind == SEAM_ADAPTER_FULL) {
        seam_full_plan(a);
        return SEAM_OK;
    }
    a->count = a->decay_count = seam_adapter_elements(a->blocks, &a->config);
    if (a->config.kind == SEAM_ADAPTER_PREFIX) {
        a->slots[0] = (seam_adapter_slot){.rows = a->config.prefix.tokens,
                                          .cols = (uint32_t)prefix_cols(a->blocks)};
        return SEAM_OK;
    }
    size_t begin = 0;
    for (uint32_t i = 0; i < a->slot_count; i++) {
        const uint32_t t = chosen[i / 2 % a->target_count];
        const seam_lora_shape shape = seam_lora_target_shape(a->blocks, t);
        const bool is_b = i % 2 == 1;
        a->slots[i] = (seam_adapter_slot){.begin = begin,
                                          .layer = i / 2 / a->target_count,
                                          .target_idx = t,
                                          .rows = is_b ? shape.out : a->config.lora.rank,
                                          .cols = is_b ? a->config.lora.rank : shape.in,
                                          .is_b = is_b};
        begin += seam_adapter_stride((size_t)a->slots[i].rows * a->slots[i].cols);
    }
    SEAM_ASSERT(a->count == begin);
    return SEAM_OK;
}

static seam_status buffers_take(seam_adapter *a) {
    const seam_ops *ops = a->blocks->ops;
    seam_backend *backend = a->blocks->backend;
    size_t acc_bytes = 0;
    size_t act_bytes = 0;
    if (!seam_mul_bytes(&acc_bytes, a->count, seam_dtype_bytes(ops->acc)) ||
        !seam_mul_bytes(&act_bytes, a->count, seam_dtype_bytes(ops->act))) {
        return SEAM_E_LIMIT;
    }
    const size_t staging = staging_bytes(a->blocks, &a->config);
    a->staging = staging > 0 ? seam_mem_alloc_aligned(staging) : NULL;
    if (staging > 0 && a->staging == NULL) {
        return SEAM_E_MEMORY;
    }
    SEAM_TRY(ops->mem_alloc(&a->param, backend, acc_bytes));
    SEAM_TRY(ops->mem_alloc(&a->grad, backend, acc_bytes));
    SEAM_TRY(ops->mem_alloc(&a->m, backend, acc_bytes));
    SEAM_TRY(ops->mem_alloc(&a->v, backend, acc_bytes));
    if (a->config.kind == SEAM_ADAPTER_FULL) {
        return seam_full_take(a);
    }
    if (ops->act != ops->acc) {
        SEAM_TRY(ops->mem_alloc(&a->copy, backend, act_bytes));
    }
    return SEAM_OK;
}

/* N(0, 1) by Box and Muller 1958: of words 2k and 2k + 1 of the same Philox, as u_A is made, the
 * radius sqrt(-2 log(1 - u)) and the angle 2 pi u.  Counted over the whole model's tensor, so that
 * the layers of a part start with the same values. */
static void prefix_start(float *ret, const seam_adapter *a, const uint32_t key[2]) {
    const seam_blocks *b = a->blocks;
    const size_t cols = a->slots[0].cols;
    const size_t model_cols = (size_t)2 * b->config.layers * b->kv_cols;
    const size_t first = (size_t)2 * b->layer_begin * b->kv_cols;
    size_t drawn = SIZE_MAX; /* whose words these are */
    uint32_t words[4];
    for (size_t i = 0; i < a->slots[0].rows * cols; i++) {
        const size_t j = i / cols * model_cols + first + i % cols;
        if (j / 4 != drawn) {
            drawn = j / 4;
            seam_philox(words, (uint32_t[4]){(uint32_t)drawn, 0, INIT_STREAM, 0}, key);
        }
        const size_t pair = j % 4 / 2 * 2;
        const double radius = sqrt(-2.0 * log(1.0 - (double)(words[pair] >> 8) * 0x1p-24));
        const double angle =
            2.0 * 3.14159265358979323846 * ((double)(words[pair + 1] >> 8) * 0x1p-24);
        ret[i] = (float)(radius * (j % 2 == 0 ? cos(angle) : sin(angle)));
    }
}

/* A[i] = (2u - 1) / sqrt(C), u = (word >> 8) * 2^-24 of Philox4x32-10 with key = seed and
 * counter = (i / 4, tensor, INIT_STREAM, 0), word i % 4; tensors count from the model's first
 * layer, so a server of some of the layers starts with the same values.  B stays zero. */
static void lora_start(float *ret, const seam_adapter *a, uint32_t slot_idx,
                       const uint32_t key[2]) {
    const seam_adapter_slot *slot = &a->slots[slot_idx];
    const uint32_t tensor =
        slot_idx + 2 * a->target_count * a->blocks->layer_begin; /* of the whole model */
    const size_t count = (size_t)slot->rows * slot->cols;
    const float bound = (float)(1.0 / sqrt(slot->cols));
    for (size_t i = 0; i < count; i += 4) {
        uint32_t words[4];
        seam_philox(words, (uint32_t[4]){(uint32_t)(i / 4), tensor, INIT_STREAM, 0}, key);
        for (size_t j = i; j < count && j < i + 4; j++) {
            ret[j] = (2.0f * ((float)(words[j % 4] >> 8) * 0x1p-24f) - 1.0f) * bound;
        }
    }
}

static seam_status drawn_start(seam_adapter *a, seam_stream *stream) {
    const bool is_prefix = a->config.kind == SEAM_ADAPTER_PREFIX;
    const uint64_t seed = is_prefix ? a->config.prefix.seed : a->config.lora.seed;
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    seam_status st = SEAM_OK;
    float *values = seam_mem_zalloc(slot_largest(a->blocks, &a->config), sizeof *values);
    if (values == NULL) {
        return SEAM_E_MEMORY;
    }
    if (is_prefix) {
        prefix_start(values, a, key);
        st = seam_adapter_write(a, stream, 0, values);
    }
    for (uint32_t s = 0; !is_prefix && s < a->slot_count && st == SEAM_OK; s += 2) {
        lora_start(values, a, s, key);
        st = seam_adapter_write(a, stream, s, values);
    }
    seam_mem_free(values);
    return st;
}

static seam_status values_start(seam_adapter *a) {
    const seam_ops *ops = a->blocks->ops;
    seam_stream *stream = NULL;
    SEAM_TRY(ops->stream_create(&stream, a->blocks->backend));
    const seam_status st =
        a->config.kind == SEAM_ADAPTER_FULL ? seam_full_start(a, stream) : drawn_start(a, stream);
    ops->stream_destroy(stream);
    return st;
}
