/* Sums of what adapter.c, activations.c and blocks.c take; they own the layouts. */
#include "memory_plan.h"

#include <stdio.h>
#include <string.h>

#include "blocks_internal.h"
#include "try.h"

static const char *const names[SEAM_MEMORY_KINDS] = {
    [SEAM_MEMORY_ACTIVATIONS] = "activations",
    [SEAM_MEMORY_ADAPTER] = "adapter",
    [SEAM_MEMORY_MOMENTS] = "moments",
    [SEAM_MEMORY_CODEC] = "codec",
    [SEAM_MEMORY_CACHE] = "cache",
    [SEAM_MEMORY_KEYS] = "keys and values",
};

const char *seam_memory_kind_name(seam_memory_kind kind) {
    SEAM_ASSERT(kind < SEAM_MEMORY_KINDS);
    return names[kind];
}

static uint64_t sum(const uint64_t bytes[SEAM_MEMORY_KINDS]) {
    uint64_t total = 0;
    for (uint32_t kind = 0; kind < SEAM_MEMORY_KINDS; kind++) {
        total += bytes[kind];
    }
    return total;
}

uint64_t seam_memory_plan_device_bytes(const seam_memory_plan *plan) {
    return sum(plan->device);
}

uint64_t seam_memory_plan_host_bytes(const seam_memory_plan *plan) {
    return sum(plan->host);
}

/* ---- for people ---- */

typedef struct unit {
    double bytes;
    const char *name;
} unit;

static unit unit_of(uint64_t bytes) {
    return bytes >= UINT64_C(1) << 30 ? (unit){0x1p30, "GiB"} : (unit){0x1p20, "MiB"};
}

void seam_memory_bytes_text(char ret[SEAM_MEMORY_TEXT_BYTES], uint64_t bytes) {
    const unit u = unit_of(bytes);
    (void)snprintf(ret, SEAM_MEMORY_TEXT_BYTES, "%.1f %s", (double)bytes / u.bytes, u.name);
}

void seam_memory_text(char ret[SEAM_MEMORY_TEXT_BYTES], const uint64_t bytes[SEAM_MEMORY_KINDS]) {
    const unit u = unit_of(sum(bytes));
    seam_memory_bytes_text(ret, sum(bytes));
    const char *before = " (";
    for (uint32_t kind = 0; kind < SEAM_MEMORY_KINDS; kind++) {
        const double share = (double)bytes[kind] / u.bytes;
        if (share >= 0.05) { /* what would read as 0.0 */
            const size_t used = strlen(ret);
            (void)snprintf(ret + used, SEAM_MEMORY_TEXT_BYTES - used, "%s%s %.1f", before,
                           names[kind], share);
            before = ", ";
        }
    }
    if (before[0] == ',') {
        const size_t used = strlen(ret);
        (void)snprintf(ret + used, SEAM_MEMORY_TEXT_BYTES - used, ")");
    }
}

/* ---- the blocks' share ---- */

static void shape_of(seam_blocks *ret_blocks, const seam_memory_blocks *blocks) {
    const seam_blocks_shape shape = {.config = blocks->model,
                                     .ops = blocks->ops,
                                     .layer_begin = blocks->layer_begin,
                                     .layer_end = blocks->layer_end};
    seam_blocks_shape_init(ret_blocks, &shape);
}

void seam_memory_plan_adapter(seam_memory_plan *plan, const seam_memory_blocks *blocks,
                              const seam_adapter_config *adapter) {
    const seam_ops *ops = blocks->ops;
    const size_t acc_bytes = seam_dtype_bytes(ops->acc);
    seam_blocks shape;
    shape_of(&shape, blocks);
    const size_t elements = seam_adapter_elements(&shape, adapter);
    const bool full = adapter->kind == SEAM_ADAPTER_FULL;
    const size_t copy_bytes = ops->act != ops->acc && !full ? seam_dtype_bytes(ops->act) : 0;
    size_t beside = 0; /* counted by seam_adapter_host_bytes */
    const size_t own = full ? seam_full_weight_bytes(&beside, &shape) : 0;
    plan->device[SEAM_MEMORY_ADAPTER] += elements * (2 * acc_bytes + copy_bytes) + own;
    plan->device[SEAM_MEMORY_MOMENTS] += elements * 2 * acc_bytes;
    plan->host[SEAM_MEMORY_ADAPTER] += seam_adapter_host_bytes(&shape, adapter);
}

seam_status seam_memory_plan_activations(seam_memory_plan *plan, const seam_memory_blocks *blocks,
                                         const seam_activations_options *options) {
    seam_blocks shape;
    shape_of(&shape, blocks);
    const size_t activations = seam_activations_bytes(&shape, options);
    if (activations == 0) {
        return SEAM_E_LIMIT;
    }
    plan->device[SEAM_MEMORY_ACTIVATIONS] += activations;
    plan->host[SEAM_MEMORY_ACTIVATIONS] += sizeof(seam_activations) +
                                           shape.layer_count * sizeof(seam_layer_acts) +
                                           seam_activations_host_bytes(&shape, options);
    return SEAM_OK;
}

seam_status seam_memory_plan_training(seam_memory_plan *plan, const seam_memory_blocks *blocks,
                                      const seam_activations_options *options) {
    SEAM_TRY(seam_memory_plan_activations(plan, blocks, options));
    seam_memory_plan_adapter(plan, blocks, options->adapter);
    plan->device[SEAM_MEMORY_ACTIVATIONS] +=
        (size_t)options->rows_max * blocks->model->hidden * seam_dtype_bytes(blocks->ops->acc);
    return SEAM_OK;
}

/* Launches of a layer in the mean of a forward and a backward pass, no fewer than there are: bare,
 * with the forward again (recompute) 18; a product with LoRA 2 more forward, 7 backward and, again,
 * 2.  CUDA keeps a launch on the device, in 1.0 to 2.4 KiB by cudaMemGetInfo (H200, 13.1;
 * test_repeat, which fails above what is planned), and its arguments on the host, 4 KiB at most. */
#define LAYER_NODES       18u
#define LORA_NODES        6u
#define NODE_DEVICE_BYTES (UINT64_C(4) << 10)
#define NODE_HOST_BYTES   (UINT64_C(4) << 10)

static uint32_t layer_nodes(const seam_adapter_config *adapter) {
    static const uint32_t products[] = {SEAM_PRODUCT_QKV, SEAM_PRODUCT_O, SEAM_PRODUCT_GATE_UP,
                                        SEAM_PRODUCT_DOWN};
    uint32_t nodes = LAYER_NODES;
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        const bool has_lora = adapter->kind == SEAM_ADAPTER_LORA &&
                              seam_product_has_lora(adapter->lora.targets, products[i]);
        nodes += has_lora ? LORA_NODES : 0;
    }
    return adapter->kind == SEAM_ADAPTER_LORA ? nodes : nodes + LORA_NODES; /* a prefix's ops */
}

void seam_memory_plan_repeats(seam_memory_plan *plan, const seam_memory_blocks *blocks,
                              const seam_adapter_config *adapter) {
    if (adapter->kind == SEAM_ADAPTER_FULL) { /* its passes are not kept */
        return;
    }
    const uint64_t layers = blocks->layer_end - blocks->layer_begin;
    const uint64_t nodes = SEAM_REPEAT_KEPT_MAX * layer_nodes(adapter) * layers;
    plan->device[SEAM_MEMORY_ACTIVATIONS] += nodes * NODE_DEVICE_BYTES;
    plan->host[SEAM_MEMORY_ACTIVATIONS] += nodes * NODE_HOST_BYTES;
}

/* A byte a value in each orientation, and a scale a row; of widths that FP8 products take. */
static uint64_t fp8_bytes(const seam_ops *ops, uint64_t N, uint64_t C) {
    return ops->fp8 && N % 16 == 0 && C % 16 == 0 ? 2 * N * C + (N + C) * sizeof(float) : 0;
}

/* A matrix with a pad has none for forward (blocks_internal.h, seam_product_in_fp8). */
static uint64_t fp8_padded_bytes(const seam_ops *ops, uint32_t pad, uint32_t N, uint32_t C) {
    const uint64_t both = fp8_bytes(ops, N, C);
    return pad > 0 && both > 0 ? (uint64_t)N * C + C * sizeof(float) : both;
}

/* Norms and biases of the layers, and the rotary table. */
static uint64_t vectors_bytes(const seam_blocks *shape) {
    const seam_model_config *c = &shape->config;
    const uint64_t biases = shape->family->qkv_bias ? shape->qkv_cols : 0;
    const uint64_t values = shape->layer_count * (2 * (uint64_t)c->hidden + biases) +
                            (uint64_t)seam_rope_table_rows(c) * c->head_dim;
    return values * seam_dtype_bytes(shape->ops->acc);
}

uint64_t seam_memory_plan_weights(const seam_memory_blocks *blocks, uint32_t copies) {
    const seam_model_config *c = blocks->model;
    seam_blocks shape;
    shape_of(&shape, blocks);
    const uint64_t C = c->hidden;
    const uint64_t F = c->intermediate;
    const uint64_t matrices = C * shape.qkv_cols + C * shape.q_cols + 3 * F * C;
    const uint64_t in_fp8 =
        fp8_padded_bytes(blocks->ops, shape.qkv_pad, shape.qkv_cols, c->hidden) +
        fp8_bytes(blocks->ops, C, shape.q_cols) +
        fp8_padded_bytes(blocks->ops, shape.gate_up_pad, 2 * c->intermediate, c->hidden) +
        fp8_bytes(blocks->ops, C, F);
    const uint64_t pads = seam_lora_pad_values(shape.qkv_pad, shape.qkv_cols, c->hidden) +
                          seam_lora_pad_values(shape.gate_up_pad, 2 * c->intermediate, c->hidden);
    return shape.layer_count *
               ((matrices * copies + pads) * seam_dtype_bytes(blocks->ops->act) + in_fp8) +
           vectors_bytes(&shape);
}

uint64_t seam_memory_plan_packed(const seam_memory_blocks *blocks) {
    seam_blocks shape;
    size_t beside = 0;
    shape_of(&shape, blocks);
    return seam_full_weight_bytes(&beside, &shape) + vectors_bytes(&shape);
}
