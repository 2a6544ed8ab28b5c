/* What the files of the block stack share; no one outside kernels/model includes it.
 *
 * Read blocks_forward.c next: one layer, in the order of the math. */
#ifndef SEAM_BLOCKS_INTERNAL_H
#define SEAM_BLOCKS_INTERNAL_H

#include "arena.h"
#include "blocks.h"
#include "family.h"
#include "rope_table.h"
#include "tensor_source.h"

/* Both norms are views into seam_blocks.norms. */
typedef struct seam_block {
    void *attention_norm, *mlp_norm; /* (C) acc */
    void *qkv_bias;                  /* (H + 2G)*D acc, a view into seam_blocks.biases; or NULL */
    seam_weight *qkv;                /* ((H + 2G)*D, C): rows of q, then k, then v */
    seam_weight *o;                  /* (C, H*D) */
    seam_weight *gate_up;            /* (2F, C): rows of gate, then up */
    seam_weight *down;               /* (C, F) */
} seam_block;

/* A matrix of a layer: tensors one under the other. */
typedef struct seam_block_stack {
    seam_weight **weight; /* its place in a seam_block */
    uint32_t rows, cols, count;
    uint32_t lora_pad; /* weight_begin's */
    struct seam_block_part {
        const char *module; /* "mlp.up_proj" */
        uint32_t rows;
    } parts[3];
} seam_block_stack;
enum { SEAM_STACK_QKV, SEAM_STACK_O, SEAM_STACK_GATE_UP, SEAM_STACK_DOWN, SEAM_BLOCK_STACKS };

struct seam_blocks {
    seam_model_config config;
    const seam_family *family;
    seam_backend *backend;
    const seam_ops *ops;
    uint32_t layer_begin, layer_count;
    uint32_t q_cols, kv_cols, qkv_cols; /* H*D, G*D, their stack */
    uint32_t qkv_pad, gate_up_pad;      /* room for LoRA beside their rows (ops.h); 0: none */
    float attention_scale;              /* 1/sqrt(D) */
    seam_block *layers;
    void *norms;   /* (2 * layer_count, C) acc, device */
    void *biases;  /* (layer_count, qkv_cols) acc, device; or NULL */
    void *cos_sin; /* (seam_rope_table_rows, D) acc, device */
    size_t device_bytes;
    bool is_view; /* all memory but this struct is other blocks' */
};

void seam_block_stacks(seam_block_stack ret_stacks[SEAM_BLOCK_STACKS], const seam_blocks *blocks,
                       seam_block *layer);

/* ---- LoRA targets ---- */
/* Linear products of a block; q, k, v share one and so do gate, up. */
typedef struct seam_lora_shape {
    const char *module; /* "self_attn.q_proj" */
    uint32_t in, out;   /* C and N of the pair */
    uint32_t col_begin; /* in the product's stacked output */
} seam_lora_shape;
seam_lora_shape seam_lora_target_shape(const seam_blocks *blocks, uint32_t target_idx);

/* Sizes and element types of blocks that hold no weights: what plans are made of. */
typedef struct seam_blocks_shape {
    const seam_model_config *config;
    const seam_ops *ops;
    uint32_t layer_begin, layer_end;
} seam_blocks_shape;
void seam_blocks_shape_init(seam_blocks *ret_blocks, const seam_blocks_shape *shape);

/* Products by the targets that they may have. */
enum {
    SEAM_PRODUCT_QKV = SEAM_LORA_Q | SEAM_LORA_K | SEAM_LORA_V | SEAM_LORA_QKV,
    SEAM_PRODUCT_O = SEAM_LORA_O,
    SEAM_PRODUCT_GATE_UP = SEAM_LORA_GATE | SEAM_LORA_UP | SEAM_LORA_GATE_UP,
    SEAM_PRODUCT_DOWN = SEAM_LORA_DOWN,
};
#define SEAM_TARGET_IDX_DOWN 6 /* its bit's place */
static inline bool seam_product_has_lora(uint32_t targets, uint32_t product) {
    return (targets & product) != 0;
}

/* ---- Adapter: one flat buffer a kind, tensors at 64-byte boundaries of the compute copy ---- */
typedef struct seam_adapter_slot {
    size_t begin;               /* element offset in every flat buffer */
    uint32_t layer, target_idx; /* layer counts from blocks->layer_begin */
    uint32_t rows, cols;
    bool is_b;
    const char *module, *part; /* in full: "mlp.up_proj" and "weight" or "bias"; else NULL */
} seam_adapter_slot;

struct seam_adapter {
    const seam_blocks *blocks;
    seam_adapter_config config;
    uint32_t target_count;
    uint8_t target_rank[SEAM_LORA_TARGETS]; /* place among the chosen targets, or 255 */
    uint32_t slot_count;
    seam_adapter_slot *slots;
    size_t count;                /* elements of each flat buffer, gaps (always zero) included */
    size_t decay_count;          /* of them, from the beginning on, with weight decay */
    void *param, *grad, *m, *v;  /* acc */
    void *copy;                  /* act; NULL where act = acc: param is then read directly */
    seam_block *own;             /* in full: (layer_count); vectors are views into param */
    uint8_t *staging;            /* host, one tensor of the largest slot, acc; NULL: acc is f32 */
    uint64_t applied_step_count; /* AdamW's bias correction */
};

/* Places of dropout a layer: ops.h, seam_dropout. */
#define SEAM_LORA_PLACES 16
_Static_assert(SEAM_LORA_TARGETS <= SEAM_LORA_PLACES, "a place a target");

/* A layer's share of an adapter that is a prefix; tokens 0: it is none. */
typedef struct seam_prefix {
    const void *k, *v; /* (tokens, G*D) acc, `ld` apart */
    void *dk, *dv;
    uint32_t tokens, ld;
} seam_prefix;
/* values: in the place of the parameters, or NULL. */
seam_prefix seam_adapter_prefix(const seam_adapter *adapter, uint32_t layer, const void *values);
static inline uint32_t seam_prefix_tokens(const seam_adapter *adapter) {
    return adapter != NULL ? seam_adapter_config_tokens(&adapter->config) : 0;
}

/* ---- Full fine-tuning, adapter_full.c ---- */
/* The weights that a pass goes through: the blocks', or the adapter's own. */
static inline const seam_block *seam_block_of(const seam_blocks *blocks,
                                              const seam_adapter *adapter, uint32_t layer) {
    return adapter != NULL && adapter->own != NULL ? &adapter->own[layer] : &blocks->layers[layer];
}

/* Gradients of a layer that is trained, acc, added to; all NULL for any other adapter. */
typedef struct seam_block_gradients {
    void *stack[SEAM_BLOCK_STACKS];
    void *attention_norm, *mlp_norm, *qkv_bias;
} seam_block_gradients;
seam_block_gradients seam_adapter_block_gradients(const seam_adapter *adapter, uint32_t layer);

/* Elements of a flat buffer; of its largest tensor; slots. */
size_t seam_full_elements(const seam_blocks *blocks);
size_t seam_full_largest(const seam_blocks *blocks);
uint32_t seam_full_slot_count(const seam_blocks *blocks);
/* What the own matrices take beside the flat buffers: of the device, and of the host. */
size_t seam_full_weight_bytes(size_t *ret_host_bytes, const seam_blocks *blocks);
/* Fills slots, count and decay_count; slots has room. */
void seam_full_plan(seam_adapter *adapter);
/* Takes `own`; free takes what is half done. */
seam_status seam_full_take(seam_adapter *adapter);
void seam_full_free(seam_adapter *adapter);
/* Master = the blocks' values. */
seam_status seam_full_start(seam_adapter *adapter, seam_stream *stream);
/* The own matrices of layers [begin, end) = master. */
seam_status seam_full_refresh(seam_adapter *adapter, seam_stream *stream, uint32_t begin,
                              uint32_t end);

/* Elements from the beginning of a tensor of so many to that of the next. */
size_t seam_adapter_stride(size_t count);

/* Elements of a flat buffer, and the bytes on the host beside them. */
size_t seam_adapter_elements(const seam_blocks *blocks, const seam_adapter_config *config);
size_t seam_adapter_host_bytes(const seam_blocks *blocks, const seam_adapter_config *config);

/* Pairs of one product of one layer; returns their count (0 without an adapter).  u[target] are
 * the places of the kept x A^T; draw may be NULL. */
uint32_t seam_adapter_pairs(seam_lora_pair ret_pairs[SEAM_LORA_PAIRS_MAX],
                            const seam_adapter *adapter, uint32_t layer, uint32_t product,
                            void *const u[SEAM_LORA_TARGETS], const seam_draw *draw);

/* ---- Activations: views into one device block ---- */
typedef struct seam_layer_acts {
    void *x_in, *x_mid;              /* (T, C) act: residual stream before each norm */
    void *x_kept;                    /* (T, C) acc: input of a layer that is recomputed, or NULL */
    void *attention_rstd, *mlp_rstd; /* (T) acc */
    /* (T, C) act: normalised, qkv_pad and gate_up_pad between their rows; a layer's own where it
     * is kept. */
    void *attention_h, *mlp_h;
    void *qkv;                  /* (T, qkv_cols) qkv, q and k rotated */
    void *o;                    /* (T, H*D) act */
    void *lse;                  /* (T, H) acc */
    void *gate_up;              /* (T, 2F) act; backward: its gradient, then q|k|v's */
    void *swiglu;               /* (T, F) act; a layer's own where it is kept */
    void *u[SEAM_LORA_TARGETS]; /* (T, R) act */
} seam_layer_acts;

struct seam_activations {
    const seam_blocks *blocks;
    uint32_t rank_max;
    uint32_t targets;
    bool keep;      /* false: forward only, every layer uses layers[0] */
    bool recompute; /* keep: x_kept and u of down are a layer's own, all else is layers[0]'s */
    bool fp8;
    bool full; /* for full fine-tuning: every product's input is read again, none has a u */
    uint32_t rows_max, seqs_max;
    uint32_t forward_rows; /* rows of the last forward; 0: none to go back through */
    uint32_t *turns;       /* (rows_max) rows of the rotary table, where they are not positions */
    void *memory;
    /* (T) acc, with fp8: scales of the rows that the last op before a product rounded (ops.h), of
     * values and of gradients; forward may run again between a gradient and its product. */
    void *x_scale, *d_scale;
    seam_layer_acts *layers;
    uint32_t *shifted; /* (rows_max), host: positions after a prefix */
    void *d_x;         /* (T, C) act: gradient of the residual stream, as products read it */
    void *d_h;         /* (T, C) act */
    void *d_narrow;    /* (T, max(F, H*D)) act */
    seam_repeats *repeats;
    uint32_t repeats_max; /* passes that it keeps */
};

/* Whether a product is in FP8 where the session's are: all but q|k|v forward, whose rounding costs
 * as much of the loss as that of all others together, by way of the attention's logits, and least
 * time (tests/bench/RESULTS.md; fp8_loss.py). */
bool seam_product_in_fp8(const seam_activations *acts, uint32_t product, bool backward);
/* Whether what product `product` of this weight reads is rounded to FP8 by the op before it. */
bool seam_product_reads_fp8(const seam_activations *acts, const seam_adapter *adapter,
                            const seam_weight *w, uint32_t product, bool backward);

/* ---- A pass that may be queued as it was kept (ops.h, repeat) ---- */
typedef enum seam_repeat_kind {
    SEAM_REPEAT_FORWARD,
    SEAM_REPEAT_BACKWARD,
    SEAM_REPEAT_BACKWARD_SKIP, /* without the input's gradient */
    SEAM_REPEAT_CACHED,
} seam_repeat_kind;
typedef struct seam_repeat_pass {
    seam_repeat_kind kind;
    const seam_adapter *adapter; /* or NULL */
    seam_stream *stream;
    const void *x; /* or dx */
    uint32_t rows;
    const uint32_t *turns;                  /* (T) positions as ops are given them */
    const seam_batch *batch;                /* of all kinds but CACHED */
    const uint32_t *slots, *slot_positions; /* (T) of CACHED */
    seam_status (*run)(const void *context);
    const void *context;
} seam_repeat_pass;
seam_status seam_blocks_repeat(seam_activations *acts, const seam_repeat_pass *pass);

/* ---- One layer, split around attention so that the cached path differs only there ---- */
typedef struct seam_pass {
    const seam_blocks *blocks;
    const seam_adapter *adapter; /* or NULL */
    const seam_activations *acts;
    seam_stream *stream;
    void *x; /* (T, C) acc */
    uint32_t rows;
    const uint32_t *turns; /* (T) rows of the rotary table */
    const seam_draw *draw;
    bool again; /* x is x_kept; what the layer adds last is not wanted */
} seam_pass;

/* Positions as the blocks use them: after the adapter's prefix.  `shifted` (rows) may serve. */
const uint32_t *seam_positions_after(uint32_t *shifted, const seam_adapter *adapter,
                                     const uint32_t *positions, uint32_t rows);
static inline const seam_layer_acts *seam_pass_layer(const seam_pass *pass, uint32_t layer) {
    return &pass->acts->layers[pass->acts->keep ? layer : 0];
}
/* x -> acts.qkv: norm, product, rotation. */
seam_status seam_layer_attention_begin(const seam_pass *pass, uint32_t layer);
/* The window of a layer of the blocks, 0 where the rows cannot reach it. */
uint32_t seam_layer_window(const seam_blocks *blocks, uint32_t layer, uint32_t rows_max);
/* acts.qkv -> acts.o inside each sequence of the batch. */
seam_status seam_layer_attention(const seam_pass *pass, uint32_t layer, const seam_batch *batch);
/* acts.o -> x: output projection and the feed-forward half. */
seam_status seam_layer_attention_end(const seam_pass *pass, uint32_t layer);

#endif
