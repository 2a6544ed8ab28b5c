/* Full fine-tuning of the blocks: an adapter that is a copy of all their matrices, norms and
 * biases.
 *
 * The flat buffers (adapter.c) hold the stacked matrices of all layers first, then the vectors, so
 * that weight decay is one range; a stack's tensors stand one under the other, as in its product.
 * Norms and biases are read from the master itself; a matrix has a compute copy, `own`, packed as
 * products want it, that follows the master after every step.
 * Gradients: blocks_backward.c. */
#include "blocks_internal.h"
#include "try.h"

static void *at(const void *base, size_t element, seam_dtype dtype) {
    return (uint8_t *)(uintptr_t)base + element * seam_dtype_bytes(dtype);
}

/* Places in a flat buffer. */
typedef struct layout {
    seam_block_stack stacks[SEAM_BLOCK_STACKS]; /* of no layer's weights */
    size_t stack_begin[SEAM_BLOCK_STACKS];      /* in a layer's share of the matrices */
    size_t matrices, vectors;                   /* of a layer */
    size_t norm;                                /* a norm's stride */
    size_t vectors_begin;                       /* of the first layer */
} layout;

static layout layout_of(const seam_blocks *b) {
    layout l = {.norm = seam_adapter_stride(b->config.hidden)};
    seam_block none = {0};
    seam_block_stacks(l.stacks, b, &none);
    for (uint32_t i = 0; i < SEAM_BLOCK_STACKS; i++) {
        l.stacks[i].weight = NULL;
        l.stack_begin[i] = l.matrices;
        l.matrices += seam_adapter_stride((size_t)l.stacks[i].rows * l.stacks[i].cols);
    }
    l.vectors = 2 * l.norm + (b->family->qkv_bias ? seam_adapter_stride(b->qkv_cols) : 0);
    l.vectors_begin = b->layer_count * l.matrices;
    return l;
}

static size_t stack_begin(const layout *l, uint32_t layer, uint32_t stack) {
    return layer * l->matrices + l->stack_begin[stack];
}

/* Vector 0: the attention's norm, 1: the feed-forward's, 2: the bias of q|k|v. */
static size_t vector_begin(const layout *l, uint32_t layer, uint32_t vector) {
    return l->vectors_begin + layer * l->vectors + vector * l->norm;
}

size_t seam_full_elements(const seam_blocks *blocks) {
    const layout l = layout_of(blocks);
    return blocks->layer_count * (l.matrices + l.vectors);
}

size_t seam_full_largest(const seam_blocks *blocks) {
    const layout l = layout_of(blocks);
    size_t largest = 0;
    for (uint32_t i = 0; i < SEAM_BLOCK_STACKS; i++) {
        for (uint32_t p = 0; p < l.stacks[i].count; p++) {
            const size_t count = (size_t)l.stacks[i].parts[p].rows * l.stacks[i].cols;
            largest = count > largest ? count : largest;
        }
    }
    return largest;
}

uint32_t seam_full_slot_count(const seam_blocks *blocks) {
    const layout l = layout_of(blocks);
    uint32_t count = 2 + (blocks->family->qkv_bias ? l.stacks[SEAM_STACK_QKV].count : 0);
    for (uint32_t i = 0; i < SEAM_BLOCK_STACKS; i++) {
        count += l.stacks[i].count;
    }
    return count * blocks->layer_count;
}

size_t seam_full_weight_bytes(size_t *ret_host_bytes, const seam_blocks *blocks) {
    const layout l = layout_of(blocks);
    const seam_ops *ops = blocks->ops;
    size_t device = 0, host = sizeof(seam_block);
    for (uint32_t i = 0; i < SEAM_BLOCK_STACKS; i++) {
        const seam_block_stack *s = &l.stacks[i];
        size_t beside = 0;
        device += ops->weight_own_bytes(&beside, s->rows, s->cols, ops->act);
        host += beside;
    }
    *ret_host_bytes = host * blocks->layer_count;
    return device * blocks->layer_count;
}

static seam_adapter_slot *stack_slots(seam_adapter_slot *next, const layout *l, uint32_t layer,
                                      uint32_t stack) {
    const seam_block_stack *s = &l->stacks[stack];
    size_t begin = stack_begin(l, layer, stack);
    for (uint32_t p = 0; p < s->count; p++) {
        *next++ = (seam_adapter_slot){.begin = begin,
                                      .layer = layer,
                                      .rows = s->parts[p].rows,
                                      .cols = s->cols,
                                      .module = s->parts[p].module,
                                      .part = "weight"};
        begin += (size_t)s->parts[p].rows * s->cols;
    }
    return next;
}

/* A vector's tensors; of the bias one a part of the stack. */
static seam_adapter_slot *vector_slot(seam_adapter_slot *next, size_t begin, uint32_t layer,
                                      uint32_t cols, const char *module, const char *part) {
    *next = (seam_adapter_slot){
        .begin = begin, .layer = layer, .rows = 1, .cols = cols, .module = module, .part = part};
    return next + 1;
}

void seam_full_plan(seam_adapter *adapter) {
    const seam_blocks *b = adapter->blocks;
    const layout l = layout_of(b);
    const uint32_t C = b->config.hidden;
    const seam_block_stack *qkv = &l.stacks[SEAM_STACK_QKV];
    seam_adapter_slot *next = adapter->slots;
    for (uint32_t i = 0; i < b->layer_count; i++) {
        next = vector_slot(next, vector_begin(&l, i, 0), i, C, "input_layernorm", "weight");
        next = stack_slots(next, &l, i, SEAM_STACK_QKV);
        size_t begin = vector_begin(&l, i, 2);
        for (uint32_t p = 0; b->family->qkv_bias && p < qkv->count; p++) {
            const struct seam_block_part *part = &qkv->parts[p];
            next = vector_slot(next, begin, i, part->rows, part->module, "bias");
            begin += part->rows;
        }
        next = stack_slots(next, &l, i, SEAM_STACK_O);
        next =
            vector_slot(next, vector_begin(&l, i, 1), i, C, "post_attention_layernorm", "weight");
        next = stack_slots(next, &l, i, SEAM_STACK_GATE_UP);
        next = stack_slots(next, &l, i, SEAM_STACK_DOWN);
    }
    SEAM_ASSERT(next == adapter->slots + adapter->slot_count);
    adapter->count = seam_full_elements(b);
    adapter->decay_count = l.vectors_begin;
}

seam_status seam_full_take(seam_adapter *adapter) {
    const seam_blocks *b = adapter->blocks;
    const seam_dtype acc = b->ops->acc;
    const layout l = layout_of(b);
    adapter->own = seam_mem_zalloc(b->layer_count, sizeof *adapter->own);
    if (adapter->own == NULL) {
        return SEAM_E_MEMORY;
    }
    for (uint32_t i = 0; i < b->layer_count; i++) {
        seam_block *own = &adapter->own[i];
        seam_block_stack stacks[SEAM_BLOCK_STACKS];
        seam_block_stacks(stacks, b, own);
        for (uint32_t s = 0; s < SEAM_BLOCK_STACKS; s++) {
            SEAM_TRY(
                b->ops->weight_own(stacks[s].weight, b->backend, stacks[s].rows, stacks[s].cols));
        }
        own->attention_norm = at(adapter->param, vector_begin(&l, i, 0), acc);
        own->mlp_norm = at(adapter->param, vector_begin(&l, i, 1), acc);
        own->qkv_bias =
            b->family->qkv_bias ? at(adapter->param, vector_begin(&l, i, 2), acc) : NULL;
    }
    return SEAM_OK;
}

void seam_full_free(seam_adapter *adapter) {
    for (uint32_t i = 0; adapter->own != NULL && i < adapter->blocks->layer_count; i++) {
        seam_block_stack stacks[SEAM_BLOCK_STACKS];
        seam_block_stacks(stacks, adapter->blocks, &adapter->own[i]);
        for (uint32_t s = 0; s < SEAM_BLOCK_STACKS; s++) {
            if (*stacks[s].weight != NULL) {
                adapter->blocks->ops->weight_destroy(*stacks[s].weight);
            }
        }
    }
    seam_mem_free(adapter->own);
}

/* param[begin..] = a vector of the blocks. */
static seam_status vector_start(seam_adapter *adapter, seam_stream *stream, size_t begin,
                                const void *from, uint32_t count) {
    const seam_ops *ops = adapter->blocks->ops;
    return ops->cast(stream, at(adapter->param, begin, ops->acc), ops->acc, from, ops->acc, count);
}

seam_status seam_full_start(seam_adapter *adapter, seam_stream *stream) {
    const seam_blocks *b = adapter->blocks;
    const layout l = layout_of(b);
    const uint32_t C = b->config.hidden;
    for (uint32_t i = 0; i < b->layer_count; i++) {
        const seam_block *from = &b->layers[i];
        seam_block_stack stacks[SEAM_BLOCK_STACKS];
        seam_block_stacks(stacks, b, &b->layers[i]);
        for (uint32_t s = 0; s < SEAM_BLOCK_STACKS; s++) {
            void *rows = at(adapter->param, stack_begin(&l, i, s), b->ops->acc);
            SEAM_TRY(b->ops->weight_get(stream, rows, *stacks[s].weight));
        }
        SEAM_TRY(vector_start(adapter, stream, vector_begin(&l, i, 0), from->attention_norm, C));
        SEAM_TRY(vector_start(adapter, stream, vector_begin(&l, i, 1), from->mlp_norm, C));
        if (from->qkv_bias != NULL) {
            SEAM_TRY(
                vector_start(adapter, stream, vector_begin(&l, i, 2), from->qkv_bias, b->qkv_cols));
        }
    }
    SEAM_TRY(seam_full_refresh(adapter, stream, 0, b->layer_count));
    return b->ops->stream_sync(stream);
}

seam_status seam_full_refresh(seam_adapter *adapter, seam_stream *stream, uint32_t begin,
                              uint32_t end) {
    const seam_blocks *b = adapter->blocks;
    const layout l = layout_of(b);
    for (uint32_t i = begin; i < end; i++) {
        seam_block_stack stacks[SEAM_BLOCK_STACKS];
        seam_block_stacks(stacks, b, &adapter->own[i]);
        for (uint32_t s = 0; s < SEAM_BLOCK_STACKS; s++) {
            const void *rows = at(adapter->param, stack_begin(&l, i, s), b->ops->acc);
            SEAM_TRY(b->ops->weight_set(stream, *stacks[s].weight, rows));
        }
    }
    return SEAM_OK;
}

seam_block_gradients seam_adapter_block_gradients(const seam_adapter *adapter, uint32_t layer) {
    seam_block_gradients g = {.qkv_bias = NULL};
    if (adapter == NULL || adapter->own == NULL) {
        return g;
    }
    const seam_blocks *b = adapter->blocks;
    const layout l = layout_of(b);
    for (uint32_t s = 0; s < SEAM_BLOCK_STACKS; s++) {
        g.stack[s] = at(adapter->grad, stack_begin(&l, layer, s), b->ops->acc);
    }
    g.attention_norm = at(adapter->grad, vector_begin(&l, layer, 0), b->ops->acc);
    g.mlp_norm = at(adapter->grad, vector_begin(&l, layer, 1), b->ops->acc);
    g.qkv_bias =
        b->family->qkv_bias ? at(adapter->grad, vector_begin(&l, layer, 2), b->ops->acc) : NULL;
    return g;
}
