/* Frozen decoder blocks, their adapter (LoRA, a prefix, or the blocks themselves), and one
 * micro-batch through them.
 *
 * This is the whole server-side math of a step; service/engine calls it, tests/ops checks it
 * against the double reference and tests/golden against transformers + peft.
 *
 *   x = x + o_proj(attention(rope(qkv(rmsnorm(x)))))      x = x + down(swiglu(gate_up(rmsnorm(x))))
 *
 * Memory: frozen weights once a process; adapter (master, gradient, two moments, compute copy) and
 * activations (everything backward needs, for rows_max rows) once a session, all taken when
 * they are created.  No call below create allocates. */
#ifndef SEAM_BLOCKS_H
#define SEAM_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "lora_targets.h"
#include "model_config.h"
#include "ops.h"
#include "weights.h"

#define SEAM_LORA_RANK_MAX 256

typedef struct seam_lora_config {
    uint32_t rank;    /* 1..SEAM_LORA_RANK_MAX */
    float alpha;      /* scale = alpha / rank; alpha / sqrt(rank) with rslora */
    uint32_t targets; /* SEAM_LORA_... that the model has, at least one */
    uint64_t seed;    /* of A's initial values (B starts at zero) and of dropout */
    bool rslora;      /* Kalajdzievski 2023, arXiv:2312.03732 */
    /* Share of the adapted inputs that a training pass drops, 0..SEAM_LORA_DROPOUT_MAX, in steps of
     * 2^-16; each projection draws its own (ops.h, seam_dropout). */
    float dropout;
} seam_lora_config;
#define SEAM_LORA_DROPOUT_MAX 0.95

/* Li & Liang 2021, arXiv:2101.00190: so many virtual tokens before every sequence, in each layer a
 * key, which is not rotated, and a value; the sequence's positions start after them. */
typedef struct seam_prefix_config {
    uint32_t tokens; /* 1..SEAM_PREFIX_MAX */
    uint64_t seed;   /* of the initial values */
} seam_prefix_config;

typedef enum seam_adapter_kind {
    SEAM_ADAPTER_LORA = 0,
    SEAM_ADAPTER_PREFIX = 1,
    /* Full fine-tuning: every matrix, norm and bias of the blocks, in copies of the adapter's own
     * that start with the values of the blocks; those are never written. */
    SEAM_ADAPTER_FULL = 2,
} seam_adapter_kind;

/* What a session trains.  Only the kind's own part is read. */
typedef struct seam_adapter_config {
    seam_adapter_kind kind;
    seam_lora_config lora;
    seam_prefix_config prefix;
} seam_adapter_config;
/* Virtual tokens before every sequence; 0 where there is no prefix. */
static inline uint32_t seam_adapter_config_tokens(const seam_adapter_config *config) {
    return config->kind == SEAM_ADAPTER_PREFIX ? config->prefix.tokens : 0;
}

/* What B A is multiplied by. */
float seam_lora_scale(const seam_lora_config *config);

/* SEAM_LORA_... of the model.  targets_check: SEAM_E_ARG when `targets` is not some of them; the
 * text begins with "<field>: " and names both. */
uint32_t seam_lora_targets_of(const seam_model_config *config);
seam_status seam_lora_targets_check(uint32_t targets, const seam_model_config *config,
                                    const char *field, seam_error *err);

/* ---- Frozen weights ---- */
typedef struct seam_blocks seam_blocks;

/* Layers [layer_begin, layer_end) of the model, packed on the backend.  Both borrowed. */
seam_status seam_blocks_create(seam_blocks **ret_blocks, seam_backend *backend,
                               const seam_weights *weights, uint32_t layer_begin,
                               uint32_t layer_end, seam_error *err);
/* Some of those layers, whose weights stay the blocks': these must outlive the view. SEAM_E_MEMORY;
 * the range is asserted. */
seam_status seam_blocks_view_create(seam_blocks **ret_view, const seam_blocks *blocks,
                                    uint32_t layer_begin, uint32_t layer_end);
void seam_blocks_destroy(seam_blocks *gift_blocks);
const seam_model_config *seam_blocks_config(const seam_blocks *blocks);
seam_backend *seam_blocks_backend(const seam_blocks *blocks);
size_t seam_blocks_bytes(const seam_blocks *blocks);
uint32_t seam_blocks_layer_count(const seam_blocks *blocks);

/* ---- Adapter ---- */
typedef struct seam_adapter seam_adapter;

/* A ~ U(-1/sqrt(C), 1/sqrt(C)) (PEFT's kaiming_uniform with a = sqrt 5) from Philox4x32-10 keyed
 * by the seed and the parameter's index; B = 0.  A prefix ~ N(0, 1), as PEFT's.  Full: the blocks'
 * values as their products see them (act).  Some of the model's layers start with the values that
 * they have where all are there.
 * SEAM_E_UNIMPLEMENTED: a prefix of a model that it is not made for here, named. */
seam_status seam_adapter_create(seam_adapter **ret_adapter, const seam_blocks *blocks,
                                const seam_adapter_config *config, seam_error *err);
void seam_adapter_destroy(seam_adapter *gift_adapter);
const seam_adapter_config *seam_adapter_config_of(const seam_adapter *adapter);
/* Parameter tensors in one fixed order: layer, then target bit, then A before B; of a prefix one,
 * (tokens, 2 * layers * G * D): of each token the key, then the value of each layer; in full those
 * of the model's files, a layer's in the order of the math. */
uint32_t seam_adapter_tensor_count(const seam_adapter *adapter);
typedef struct seam_adapter_tensor {
    /* PEFT's key: base_model.model.model.layers.0....lora_A.weight; in full the model's own. */
    char name[SEAM_NAME_BYTES];
    uint32_t rows, cols;
    bool is_vector; /* one row; its shape in files is (cols) */
} seam_adapter_tensor;
void seam_adapter_describe(seam_adapter_tensor *ret_tensor, const seam_adapter *adapter,
                           uint32_t tensor_idx);
/* Values (or accumulated gradients) of one tensor, f32 on the host. */
seam_status seam_adapter_read(float *ret, const seam_adapter *adapter, seam_stream *stream,
                              uint32_t tensor_idx);
seam_status seam_adapter_read_gradient(float *ret, const seam_adapter *adapter, seam_stream *stream,
                                       uint32_t tensor_idx);
/* Set one tensor and its compute copy (import; tests). */
seam_status seam_adapter_write(seam_adapter *adapter, seam_stream *stream, uint32_t tensor_idx,
                               const float *values);
/* Set one tensor of the accumulated gradient (adapter exchange). */
seam_status seam_adapter_write_gradient(seam_adapter *adapter, seam_stream *stream,
                                        uint32_t tensor_idx, const float *values);
/* Everything the next bit depends on (master, moments, step), for checkpoints: bytes in, out. */
size_t seam_adapter_state_bytes(const seam_adapter *adapter);
seam_status seam_adapter_save_state(uint8_t *ret, const seam_adapter *adapter, seam_stream *stream);
seam_status seam_adapter_load_state(seam_adapter *adapter, seam_stream *stream,
                                    const uint8_t *bytes, size_t count);
/* Of the master parameters' bits, in tensor order (ops.h, hash): what seam_adapter_step returns. */
seam_status seam_adapter_state_hash(uint64_t *ret_hash, const seam_adapter *adapter,
                                    seam_stream *stream);
/* Drop what backward passes have accumulated: the step is given up. */
seam_status seam_adapter_clear_gradient(seam_adapter *adapter, seam_stream *stream);

/* ---- Optimizer ---- */
typedef enum seam_schedule {
    SEAM_SCHEDULE_CONSTANT = 1,
    SEAM_SCHEDULE_LINEAR = 2,
    SEAM_SCHEDULE_COSINE = 3,
} seam_schedule;

typedef struct seam_optimizer_config {
    float lr, beta1, beta2, eps, weight_decay;
    float clip_norm; /* global norm; 0: no clipping */
    seam_schedule schedule;
    uint64_t warmup_steps, total_steps;
} seam_optimizer_config;

/* Learning rate of step s (from 0): linear warm-up (s+1)/warmup, then the schedule to zero at
 * total_steps, as transformers' get_{constant,linear,cosine}_schedule_with_warmup but counted so
 * that the first step has a rate above zero.  Pure. */
double seam_schedule_lr(const seam_optimizer_config *config, uint64_t step);

/* One AdamW step over the whole adapter from its accumulated gradients, which are then zero.  In
 * full, norms and biases do not decay (as in transformers' Trainer).
 * *ret_norm: global norm before clipping.  *ret_state_hash: op hash over the master parameters
 * after the step.  A norm that is not finite: nothing is changed but the
 * gradients (zeroed), SEAM_E_NONFINITE. */
seam_status seam_adapter_step(double *ret_norm, uint64_t *ret_state_hash, seam_adapter *adapter,
                              seam_stream *stream, const seam_optimizer_config *config,
                              uint64_t step);
/* Its parts, where the gradient is clipped together with that of other adapters: the sum of squares
 * of this one's, the factor that brings a norm to clip_norm (1: it is within), and the step. */
seam_status seam_adapter_gradient_squares(double *ret_sum, const seam_adapter *adapter,
                                          seam_stream *stream);
float seam_clip_factor(const seam_optimizer_config *config, double norm);
seam_status seam_adapter_update(uint64_t *ret_state_hash, seam_adapter *adapter,
                                seam_stream *stream, const seam_optimizer_config *config,
                                uint64_t step, float clip_factor);

/* ---- One micro-batch ---- */
/* Which one of a run it is: what dropout draws by, beside the adapter's seed, the projection, the
 * row in the micro-batch and the channel. */
typedef struct seam_draw {
    uint64_t step;
    uint32_t micro;
} seam_draw;

/* What takes part in a pass at every boundary between two layers: `layer` counts from the blocks'
 * first one and is never the last.  Both run in the order of the stream. */
typedef struct seam_layer_hook {
    void *context;
    /* x (T, C) acc, device: what the layer left and the next one reads; may be changed. */
    seam_status (*forward)(void *context, uint32_t layer, seam_stream *stream, void *x);
    /* dx (T, C) acc, device: gradient of x as forward left it; layers in falling order. */
    seam_status (*backward)(void *context, uint32_t layer, seam_stream *stream, const void *dx);
} seam_layer_hook;

typedef struct seam_batch {
    uint32_t rows;               /* T, 1..rows_max */
    uint32_t seq_count;          /* S */
    const uint32_t *seq_begin;   /* (S + 1), 0 first, rows last, strictly rising */
    const uint32_t *positions;   /* (T), from 0; below seam_model_config_positions */
    const seam_draw *draw;       /* training; NULL: nothing is dropped */
    const seam_layer_hook *hook; /* training; or NULL */
    /* Training with an adapter that is a prefix: what stands on the device in the place of its
     * parameters, laid out as they are; gradients are added to the adapter's as ever.  Or NULL. */
    const void *prefix;
} seam_batch;

typedef struct seam_activations_options {
    /* NULL: forward only, with any adapter, in the memory of one layer; else for forward and
     * backward with adapters of this kind, for LoRA of this rank and these targets (or fewer). */
    const seam_adapter_config *adapter;
    uint32_t rows_max, seqs_max;
    /* Backward runs each layer's forward again, so that of every layer but the one at work only its
     * input is kept: about a fifth of the memory for a third more work, and the same bits. */
    bool recompute;
    bool fp8; /* frozen products in FP8; of a backend that was created with it */
    /* Activations of one session, which share what it may keep of its passes (ops.h, repeat); at
     * most SEAM_REPEAT_KEPT_MAX, 0: 1. */
    uint32_t sets;
} seam_activations_options;

typedef struct seam_activations seam_activations;
/* SEAM_E_ARG (no rows or sequences), SEAM_E_MEMORY, SEAM_E_LIMIT (not addressable). */
seam_status seam_activations_create(seam_activations **ret_acts, const seam_blocks *blocks,
                                    const seam_activations_options *options, seam_error *err);
void seam_activations_destroy(seam_activations *gift_acts);
/* On the device; 0: the sizes are not addressable. */
size_t seam_activations_bytes(const seam_blocks *blocks, const seam_activations_options *options);
/* On the host, of what grows with the rows. */
size_t seam_activations_host_bytes(const seam_blocks *blocks,
                                   const seam_activations_options *options);

/* x (T, C) acc, on the device, in place.  adapter may be NULL (the base model).  SEAM_E_ARG for a
 * batch that breaks a rule above. */
seam_status seam_blocks_forward(const seam_blocks *blocks, seam_adapter *adapter,
                                seam_activations *acts, seam_stream *stream, void *x,
                                const seam_batch *batch);
/* dx (T, C) acc, in place: gradient of the output in, of the input out (skip_input_gradient:
 * what stands there afterwards is unspecified).  Gradients are added to the adapter's.  Must
 * follow the forward of the same batch. */
seam_status seam_blocks_backward(const seam_blocks *blocks, seam_adapter *adapter,
                                 seam_activations *acts, seam_stream *stream, void *dx,
                                 const seam_batch *batch, bool skip_input_gradient);

/* ---- Generation ---- */
typedef struct seam_kv_cache seam_kv_cache;
seam_status seam_kv_cache_create(seam_kv_cache **ret_cache, const seam_blocks *blocks,
                                 uint32_t slot_count, uint32_t positions_max, uint32_t rows_max,
                                 seam_error *err);
void seam_kv_cache_destroy(seam_kv_cache *gift_cache);
/* Whether rows from `first` to `end` - 1 of a slot can come next, as far as LongRoPE goes. */
bool seam_kv_cache_takes(const seam_kv_cache *cache, uint32_t slot, uint32_t first, uint32_t end);
/* Keys and values on the device, without the scratch of a layer; 0: not addressable. */
size_t seam_kv_cache_bytes(const seam_blocks *blocks, uint32_t slot_count, uint32_t positions_max);
/* x (T, C) acc in place; row t is position positions[t] of slot slots[t]; rows of one slot come in
 * rising positions and earlier positions are already in the cache.  A prefix takes its tokens of
 * the cache's positions before those, and is put there when a slot begins at 0.  SEAM_E_ARG for a
 * slot, a position or a count of rows beyond the cache's.
 *
 * LongRoPE (model_config.h): a slot takes the long factors when the call that writes its position 0
 * also reaches rope.long_from.  One that began with fewer rows cannot go on beyond: its keys have
 * the short factors, so that the whole sequence must come again, in one call from position 0
 * (transformers drops its cache there).  Until then SEAM_E_STATE, and nothing has changed. */
seam_status seam_blocks_forward_cached(const seam_blocks *blocks, seam_adapter *adapter,
                                       seam_kv_cache *cache, seam_stream *stream, void *x,
                                       uint32_t rows, const uint32_t *slots,
                                       const uint32_t *positions);

#endif
