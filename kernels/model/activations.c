/* The memory of one micro-batch: everything that backward needs, and the scratch of a layer.
 *
 * Kept for every layer: the residual stream before both norms (act), both rstd, q|k|v rotated, o,
 * log-sum-exp, gate|up, and x A^T of every adapted projection.  Kept only where LoRA or full
 * fine-tuning reads it again and the backend does not make it again: the normalised inputs and the
 * SwiGLU output; else all layers share one.  Forward only (no adapter's config): all layers share
 * everything.  Recompute: all layers share everything but their input and, where LoRA reads it, x
 * A^T of the down projection, which comes last in a layer.
 *
 * Backward has little of its own: the gradients of gate|up and then of q|k|v stand in the layer's
 * gate|up, which it reads once, and those of a shared buffer's values in that buffer. */
#include "blocks_internal.h"
#include "try.h"

typedef struct plan {
    seam_arena arena;
    size_t rows;
    bool overflow;
} plan;

/* (rows, cols) of `dtype`; NULL while planning. */
static void *take(plan *p, size_t cols, seam_dtype dtype) {
    size_t bytes = 0;
    if (!seam_mul3_bytes(&bytes, p->rows, cols, seam_dtype_bytes(dtype)) || bytes > SIZE_MAX / 4 ||
        p->arena.used_bytes > SIZE_MAX / 4) {
        p->overflow = true;
        return NULL;
    }
    return seam_arena_take(&p->arena, bytes);
}

/* `shared` is NULL for the layer that the others share from. */
static void layer_take(plan *p, seam_layer_acts *l, const seam_activations *acts,
                       const seam_layer_acts *shared) {
    const seam_blocks *b = acts->blocks;
    const seam_model_config *c = &b->config;
    const seam_dtype act = b->ops->act;
    const seam_dtype acc = b->ops->acc;
    const size_t wide = 2 * (size_t)c->intermediate;
    const size_t d_qkv_cols = (size_t)b->qkv_cols + b->qkv_pad;
    const uint32_t kept_targets = b->ops->remake ? 0 : acts->targets;
    const bool own_attention_h =
        shared == NULL || seam_product_has_lora(kept_targets, SEAM_PRODUCT_QKV);
    const bool own_mlp_h =
        shared == NULL || seam_product_has_lora(kept_targets, SEAM_PRODUCT_GATE_UP);
    const bool own_swiglu =
        shared == NULL || seam_product_has_lora(kept_targets, SEAM_PRODUCT_DOWN);
    if (acts->keep) {
        l->x_in = take(p, c->hidden, act);
        l->x_mid = take(p, c->hidden, act);
        l->attention_rstd = take(p, 1, acc);
        l->mlp_rstd = take(p, 1, acc);
    }
    l->attention_h =
        own_attention_h ? take(p, (size_t)c->hidden + b->qkv_pad, act) : shared->attention_h;
    l->qkv = take(p, b->qkv_cols, b->ops->qkv);
    l->o = take(p, b->q_cols, act);
    l->lse = take(p, c->heads, acc);
    l->mlp_h = own_mlp_h ? take(p, (size_t)c->hidden + b->gate_up_pad, act) : shared->mlp_h;
    l->gate_up = take(p, wide > d_qkv_cols ? wide : d_qkv_cols, act);
    l->swiglu = own_swiglu ? take(p, c->intermediate, act) : shared->swiglu;
    for (uint32_t t = 0; t < SEAM_LORA_TARGETS; t++) {
        if ((acts->targets >> t & 1) != 0 && !acts->full) {
            l->u[t] = take(p, acts->rank_max, act);
        }
    }
}

/* A later layer of a recomputing micro-batch stands in the first one's buffers. */
static void layer_share(plan *p, seam_layer_acts *l, const seam_activations *acts,
                        const seam_layer_acts *first) {
    *l = *first;
    if (seam_product_has_lora(acts->targets, SEAM_PRODUCT_DOWN) && !acts->full) {
        l->u[SEAM_TARGET_IDX_DOWN] = take(p, acts->rank_max, acts->blocks->ops->act);
    }
}

static void acts_take(plan *p, seam_activations *acts) {
    const seam_blocks *b = acts->blocks;
    const seam_model_config *c = &b->config;
    const uint32_t layers = acts->keep ? b->layer_count : 1;
    const seam_layer_acts *first = &acts->layers[0];
    for (uint32_t i = 0; i < layers; i++) {
        if (i > 0 && acts->recompute) {
            layer_share(p, &acts->layers[i], acts, first);
        } else {
            layer_take(p, &acts->layers[i], acts, i == 0 ? NULL : first);
        }
        /* What the last layer left stands when backward begins: it is not computed again. */
        const bool again = acts->recompute && i + 1 < layers;
        acts->layers[i].x_kept = again ? take(p, c->hidden, b->ops->acc) : NULL;
    }
    if (acts->fp8) {
        acts->x_scale = take(p, 1, b->ops->acc);
        acts->d_scale = acts->keep ? take(p, 1, b->ops->acc) : NULL;
    }
    if (acts->keep) {
        const bool free_mlp_h = !seam_product_has_lora(acts->targets, SEAM_PRODUCT_GATE_UP);
        const bool free_swiglu = !seam_product_has_lora(acts->targets, SEAM_PRODUCT_DOWN) &&
                                 c->intermediate >= b->q_cols;
        acts->d_x = take(p, c->hidden, b->ops->act);
        acts->d_h = free_mlp_h ? first->mlp_h : take(p, c->hidden, b->ops->act);
        acts->d_narrow =
            free_swiglu
                ? first->swiglu
                : take(p, c->intermediate > b->q_cols ? c->intermediate : b->q_cols, b->ops->act);
    }
}

static void acts_describe(seam_activations *acts, const seam_blocks *blocks,
                          const seam_activations_options *options) {
    const seam_adapter_config *adapter = options->adapter;
    acts->full = adapter != NULL && adapter->kind == SEAM_ADAPTER_FULL;
    const bool is_lora = adapter != NULL && adapter->kind == SEAM_ADAPTER_LORA;
    acts->blocks = blocks;
    acts->keep = adapter != NULL;
    acts->recompute = acts->keep && options->recompute;
    acts->fp8 = options->fp8;
    acts->rank_max = is_lora ? adapter->lora.rank : acts->keep ? 0 : SEAM_LORA_RANK_MAX;
    acts->targets = is_lora                     ? adapter->lora.targets
                    : acts->keep && !acts->full ? 0
                                                : blocks->family->lora_targets;
    acts->rows_max = options->rows_max;
    acts->seqs_max = options->seqs_max;
    SEAM_ASSERT(options->sets <= SEAM_REPEAT_KEPT_MAX);
    acts->repeats_max = SEAM_REPEAT_KEPT_MAX / (options->sets == 0 ? 1 : options->sets);
}

/* 0 when the sizes do not fit in size_t. */
static size_t plan_bytes(seam_activations *acts) {
    plan p = {.rows = acts->rows_max};
    acts_take(&p, acts);
    return p.overflow ? 0 : p.arena.used_bytes;
}

size_t seam_activations_bytes(const seam_blocks *blocks, const seam_activations_options *options) {
    seam_layer_acts layers[SEAM_LAYERS_MAX] = {0};
    seam_activations acts = {.layers = layers};
    acts_describe(&acts, blocks, options);
    return plan_bytes(&acts);
}

static bool has_turns(const seam_blocks *blocks) {
    return blocks->config.rope.on && blocks->config.rope.long_from != 0;
}

size_t seam_activations_host_bytes(const seam_blocks *blocks,
                                   const seam_activations_options *options) {
    return (has_turns(blocks) ? 2 : 1) * (size_t)options->rows_max * sizeof(uint32_t);
}

seam_status seam_activations_create(seam_activations **ret_acts, const seam_blocks *blocks,
                                    const seam_activations_options *options, seam_error *err) {
    if (options->rows_max == 0 || options->seqs_max == 0) {
        return seam_error_set(err, SEAM_E_ARG, "rows and sequences of a micro-batch: at least 1");
    }
    const seam_ops *ops = blocks->ops;
    SEAM_ASSERT(!options->fp8 || ops->fp8);
    seam_activations *acts = seam_mem_zalloc(1, sizeof *acts);
    if (acts == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "no memory for activations");
    }
    acts_describe(acts, blocks, options);
    seam_status st = SEAM_E_MEMORY;
    acts->layers = seam_mem_zalloc(blocks->layer_count, sizeof *acts->layers);
    if (acts->layers == NULL) {
        goto fail;
    }
    acts->shifted = seam_mem_zalloc(options->rows_max, sizeof *acts->shifted);
    if (acts->shifted == NULL) {
        goto fail;
    }
    const size_t bytes = plan_bytes(acts);
    if (bytes == 0) {
        st = SEAM_E_LIMIT;
        goto fail;
    }
    SEAM_TRY_GOTO(ops->mem_alloc(&acts->memory, blocks->backend, bytes), st, fail);
    acts->turns =
        has_turns(blocks) ? seam_mem_zalloc(options->rows_max, sizeof *acts->turns) : NULL;
    if (has_turns(blocks) && acts->turns == NULL) {
        st = SEAM_E_MEMORY;
        goto fail;
    }
    plan p = {.arena = {.base = acts->memory, .capacity_bytes = bytes}, .rows = acts->rows_max};
    acts_take(&p, acts);
    SEAM_ASSERT(p.arena.used_bytes == bytes);
    *ret_acts = acts;
    return SEAM_OK;
fail:
    seam_activations_destroy(acts);
    return seam_error_set(err, st, "activations of %u rows: %s", options->rows_max,
                          seam_status_text(st));
}

bool seam_product_in_fp8(const seam_activations *acts, uint32_t product, bool backward) {
    return acts->fp8 && (backward || product != SEAM_PRODUCT_QKV);
}

bool seam_product_reads_fp8(const seam_activations *acts, const seam_adapter *adapter,
                            const seam_weight *w, uint32_t product, bool backward) {
    const bool adapted =
        adapter != NULL && seam_product_has_lora(adapter->config.lora.targets, product);
    return seam_product_in_fp8(acts, product, backward) && !adapted &&
           acts->blocks->ops->linear_takes_fp8(w, backward);
}

void seam_activations_destroy(seam_activations *gift_acts) {
    if (gift_acts == NULL) {
        return;
    }
    const seam_ops *ops = gift_acts->blocks->ops;
    if (ops->repeats_destroy != NULL) {
        ops->repeats_destroy(gift_acts->repeats);
    }
    ops->mem_free(gift_acts->blocks->backend, gift_acts->memory);
    seam_mem_free(gift_acts->shifted);
    seam_mem_free(gift_acts->turns);
    seam_mem_free(gift_acts->layers);
    seam_mem_free(gift_acts);
}
