/* The op table: everything that a backend computes for Seam.
 *
 * Read this before kernels/model/. A backend (ref/, cpu/, cuda/) fills one `seam_ops` with every
 * slot set (codec and repeat excepted); the model code is written once against it. One op a file,
 * the same file names in each backend folder. Tests: tests/ops, one case table for all backends.
 *
 * Shape letters, in this fixed order:
 *   T  rows: valid tokens of a micro-batch, sequences one after another, no padding
 *   C  input features (hidden size for most ops)      N  output features
 *   H  query heads      G  key/value heads (G divides H)      D  head dimension (even)
 *   F  feed-forward features      V  vocabulary      R  LoRA rank      S  sequences
 * Matrices are row-major; `_ld` is the distance of two rows in elements.
 *
 * Three element types a backend, fixed when it is created:
 *   act  what products read: f32, bf16 (f64 in the reference)
 *   acc  residual stream, gradients of it, parameters, reductions: f32 (f64 in the reference)
 *   qkv  q, k and v from their product through the rotation to attention: act, or acc where act is
 *        too coarse for scores (cpu in bf16; rounding q and k costs the gradient more than the
 *        inputs of all frozen products do)
 * `void` pointers say in their comment which one they are.
 *
 * Rules of all ops:
 *   - deterministic to the bit, for any number of threads, and a row's result never depends on
 *     which other rows are in the call (attention: on other sequences);
 *   - outputs are written with =, except where "adds" is said;
 *   - no allocation, no data-dependent error; shapes are asserted. The only error of an op is
 *     SEAM_E_DEVICE_LOST (and SEAM_E_MEMORY from those that create);
 *   - one stream may be used by one thread at a time. */
#ifndef SEAM_OPS_H
#define SEAM_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

typedef enum seam_dtype { SEAM_F64 = 1, SEAM_F32 = 2, SEAM_BF16 = 3 } seam_dtype;
size_t seam_dtype_bytes(seam_dtype dtype);

typedef struct seam_backend seam_backend; /* device, threads, scratch; one a process and device */
typedef struct seam_stream seam_stream;   /* an order of ops on a backend, with its workspace */
typedef struct seam_weight seam_weight;   /* an (N, C) matrix, packed for both products */
typedef struct seam_device_codec seam_device_codec; /* device_codec.h */

/* Dropout of a LoRA pair's input (Srivastava et al. 2014, JMLR 15): x counts as zero where its draw
 * is below the threshold, forward and back.  The draw of x[t, c] is a 16-bit word that depends on
 * nothing else: of Philox4x32-10 with this key at the counter (c / 8, t, place, "drop"), word
 * c % 8 / 2 of the four, its lower half for an even c.  What is kept is not scaled here: the pair's
 * scale has the factor 65536 / (65536 - threshold). */
typedef struct seam_dropout {
    uint32_t threshold; /* of 65536; 0: no dropout */
    uint32_t place;     /* of the pair in the model */
    uint32_t key[2];    /* of the micro-batch */
} seam_dropout;
#define SEAM_DROPOUT_STREAM 0x64726f70u /* "drop" */

/* One LoRA pair on output columns [col_begin, col_begin + N) of a stacked linear.
 * Hu et al. 2021, arXiv:2106.09685: y += scale * (x A^T) B^T.   a (R, C) act, b (N, R) act:
 * compute copies of the master parameters.   u (T, R) act: x A^T, kept for backward, which may
 * leave something else there.   da (R, C), db (N, R) acc: backward adds to them. */
typedef struct seam_lora_pair {
    uint32_t col_begin, N, R;
    float scale; /* alpha / rank, or / sqrt(rank), times dropout's factor */
    const void *a, *b;
    void *u;
    void *da, *db;
    seam_dropout dropout; /* of x, in u, da and dx */
} seam_lora_pair;
#define SEAM_LORA_PAIRS_MAX 3 /* q, k, v of one stacked product */

typedef enum seam_out {
    SEAM_OUT_ACT,     /* y is act, written */
    SEAM_OUT_ACC,     /* y is acc, written */
    SEAM_OUT_ACC_ADD, /* y is acc, added to (residual stream) */
} seam_out;

#define SEAM_FP8_WEIGHT_SCALES 32
#define SEAM_FP8_LARGEST_MIN   0x1p-100f
/* FP8 of a frozen product, where a backend was created with it (args.fp8 asks).  Both operands in
 * e4m3 (Micikevicius et al. 2022, arXiv:2209.05433), each row along the sum with its own scale, by
 * which the row's largest magnitude is e4m3's (fl: rounded to f32):
 *
 *   m_t = max(2^-100, max_c |x[t, c]|),  s_t = fl(m_t / 448)
 *   q[t, c] = round_half_even(fl(x[t, c] fl(448 / m_t))) in e4m3
 *   y[t, n] = s_t s_n sum_c q[t, c] q_w[n, c], the sum in f32
 *
 * So the largest values of a row, which rows of a language model have far above the others, have
 * the least error; with a power of two as the scale rows lose half as much again (fp8_loss.py).
 * A row of W (n forward, c backward) has time to look for its scale, the one of 32 in [s, 2 s) with
 * the least squared error (as Nagel et al. 2021, arXiv:2106.08295, section 3.1, "MSE"; there for
 * integers, whose scale clips; here no value clips, and a scale moves all of them against the
 * places of e4m3):
 *
 *   f_j = 1 + j / 32,  r_j = fl(fl(448 / m) fl(1 / f_j)),  q_j[c] = e4m3 of fl(w[c] r_j)
 *   E_j = sum_c round(round(2^13 fl(w[c] fl(448 / m))) - 2^13 f_j q_j[c])^2, of integers
 *   s_n = fl(s f_j) of the least E_j, of equal ones the least j
 *
 * The gradient dy is x of the backward product, in e4m3 too: with a scale a row the range of e5m2
 * is not needed (below the normal numbers the error is 2^-17 of the row's largest value), and its
 * two bits of mantissa would double the error.  LoRA and bias are as without; so is a product of
 * widths that are not multiples of 16.  A row with a value that is not finite gives NaN.
 *
 * The op that makes rows for such a product may round them itself, from the bf16 that it would
 * have written, so that the bits are the same: where an args struct's `..._scale` (T) acc is not
 * NULL, the act rows named there are e4m3, each in the first bytes of its act place (`_ld` counts
 * act as ever), and ..._scale is written with s_t, or by a product read.  Only for a product that
 * linear_takes_fp8 and that has no LoRA pairs, which read act. */

/* y (T, N) = x (T, C) W^T (+ bias) (+ LoRA).   bias (N) acc or NULL.
 * With LoRA pairs what stands between the rows of x is the op's to write, where w has a pad
 * (weight_create) and they are x_ld >= C + pad apart; so between those of dy in backward, dy_ld >=
 * N + pad.  Adapted linears of one weight are queued on one stream at a time. */
typedef struct seam_linear_forward_args {
    void *y;
    uint32_t y_ld;
    seam_out y_out;
    const void *x; /* act */
    const void *x_scale;
    uint32_t x_ld;
    const seam_weight *w;
    const void *bias;
    uint32_t T;
    const seam_lora_pair *lora;
    uint32_t lora_count;
    bool fp8;
} seam_linear_forward_args;

/* dx (T, C) = dy (T, N) W (+ the share of LoRA); da += scale * (dy_cols B)^T x; db += scale *
 * dy_cols^T u.
 * dx may be NULL: only the LoRA gradients are wanted.  x is needed only with LoRA. */
typedef struct seam_linear_backward_args {
    void *dx;
    uint32_t dx_ld;
    seam_out dx_out;
    const void *dy; /* act */
    const void *dy_scale;
    uint32_t dy_ld;
    const void *x; /* act */
    uint32_t x_ld;
    const seam_weight *w;
    uint32_t T;
    const seam_lora_pair *lora;
    uint32_t lora_count;
    bool fp8;
} seam_linear_backward_args;

/* Gradient of a matrix that is trained itself: dw (N, C) acc += dy^T x, the sum over T in one fixed
 * order.  dy (T, N), x (T, C) act. */
typedef struct seam_weight_gradient_args {
    void *dw;
    const seam_weight *w; /* whose gradient it is: its shape, its algorithm */
    const void *dy, *x;
    uint32_t dy_ld, x_ld;
    uint32_t T;
} seam_weight_gradient_args;

/* Gradient of a norm's gain, dw (C) acc += sum_t dy[t] * x[t] * rstd[t], and with x NULL of a bias,
 * dw += sum_t dy[t].  dy, x (T, C) act, rows dy_ld and x_ld apart; rstd (T) acc. */
typedef struct seam_column_sums_args {
    void *dw;
    const void *dy, *x, *rstd;
    uint32_t dy_ld, x_ld;
    uint32_t T, C;
} seam_column_sums_args;

/* y = x * rstd * w, rstd = 1/sqrt(mean_c x^2 + eps).  Zhang & Sennrich 2019, arXiv:1910.07467.
 * x (T, C): act when x_is_act, else acc; w (C) acc; y (T, C) act; rstd (T) acc and x_act (T, C)
 * act, which is x, kept for backward (NULL: not wanted).  Rows of y are y_ld apart; 0: C. */
typedef struct seam_rmsnorm_forward_args {
    void *y, *y_scale, *rstd, *x_act;
    const void *x, *w;
    bool x_is_act;
    float eps;
    uint32_t y_ld, T, C;
} seam_rmsnorm_forward_args;

/* dx (T, C) acc: added to when dx_add, else written; dx_act (T, C) act: dx as it then is (NULL: not
 * wanted).  dy (T, C): acc when dy_is_acc, else act.  x (T, C): act when x_is_act, else acc.
 * dw is column_sums'. */
typedef struct seam_rmsnorm_backward_args {
    void *dx, *dx_act, *dx_act_scale;
    bool dx_add, dy_is_acc, x_is_act;
    const void *dy, *x, *w, *rstd;
    uint32_t T, C;
} seam_rmsnorm_backward_args;

/* Rotary embedding in place on `heads` heads of D at x[t*ld + h*D].  Su et al. 2021,
 * arXiv:2104.09864, halves paired as in Hugging Face Llama: (i, i + D/2).
 * cos_sin (positions_max, D) acc: cos of D/2 angles, then sin of them; row = positions[t].
 * backward rotates by the negative angle. */
typedef struct seam_rope_args {
    void *x; /* qkv; act when backward */
    uint32_t ld, heads;
    const void *cos_sin;
    const uint32_t *positions; /* (T) */
    bool backward;
    uint32_t T, D;
} seam_rope_args;

/* Causal softmax attention inside each sequence, grouped queries, without S x S memory.
 * Sequence s has rows [seq_begin[s], seq_begin[s+1]).  o = softmax(scale * q k^T) v.
 * Dao et al. 2022, arXiv:2205.14135 (tiling, log-sum-exp kept for backward).
 * window W > 0: row t of the sequence sees rows t - W + 1 .. t only, itself included (Beltagy et
 * al. 2020, arXiv:2004.05150, the causal half; transformers' sliding_window); 0: all up to itself.
 * q (T, H, D), k, v (T, G, D) qkv; o (T, H, D) act, dense; lse (T, H) acc. */
/* First row that `row` sees of a sequence from `begin` on. */
static inline uint32_t seam_window_begin(uint32_t window, uint32_t begin, uint32_t row) {
    return window != 0 && row - begin >= window ? row - window + 1 : begin;
}

typedef struct seam_attention_forward_args {
    void *o, *lse;
    const void *q, *k, *v;
    uint32_t q_ld, k_ld, v_ld;
    const uint32_t *seq_begin; /* (S + 1) */
    float scale;
    uint32_t window;
    uint32_t S, T, H, G, D;
} seam_attention_forward_args;

/* With cos_sin (as of rope) and positions dq and dk are gradients before the rotation, else (NULL)
 * of q and k as they are here. */
typedef struct seam_attention_backward_args {
    void *dq, *dk, *dv; /* act; leading dimensions as q, k, v's own gradients below */
    uint32_t dq_ld, dk_ld, dv_ld;
    const void *d_o, *o, *q, *k, *v, *lse;
    uint32_t q_ld, k_ld, v_ld;
    const void *cos_sin;
    const uint32_t *positions; /* (T) */
    const uint32_t *seq_begin;
    float scale;
    uint32_t window; /* as in forward */
    uint32_t S, T, H, G, D;
} seam_attention_backward_args;

/* New keys and values to their places in a cache (generation): row t to position positions[t] of
 * slot slots[t].  No two rows have one place.
 * k, v (T, cols) qkv, ld apart; k_cache, v_cache (slot_count, positions_max, cols) act. */
typedef struct seam_cache_store_args {
    void *k_cache, *v_cache;
    const void *k, *v;
    uint32_t ld;
    const uint32_t *slots, *positions; /* (T) each */
    uint32_t positions_max;
    uint32_t T, cols;
} seam_cache_store_args;

/* Attention of new rows against a cache (generation).  Row t belongs to cache slot slots[t] and
 * sees cache positions 0..positions[t] of it, its own key and value included (already stored), the
 * last `window` of those where that is not 0.
 * q qkv; k_cache, v_cache (slot_count, positions_max, G, D) act; o act. */
typedef struct seam_attention_cached_args {
    void *o;
    const void *q, *k_cache, *v_cache;
    uint32_t q_ld;
    const uint32_t *slots, *positions; /* (T) each */
    uint32_t positions_max;
    float scale;
    uint32_t window;
    uint32_t T, H, G, D;
} seam_attention_cached_args;

/* Attention to a prefix that all sequences have before them (Li & Liang 2021, arXiv:2101.00190),
 * added to what attention_forward has left.  With s_j = scale q k_j over its P keys:
 *
 *   lse' = log(exp(lse) + sum_j exp(s_j))     o' = exp(lse - lse') o + sum_j exp(s_j - lse') v_j
 *
 * in place.  attention_backward with o' and lse' is then right for the sequences' own keys, and
 * prefix_backward adds the prefix's share.  q (T, H, D) qkv, as attention_forward read it; k, v (P,
 * G, D) acc, kv_ld apart, not rotated; P at most SEAM_PREFIX_MAX. */
#define SEAM_PREFIX_MAX 256
typedef struct seam_prefix_forward_args {
    void *o, *lse; /* act, acc; as attention_forward's */
    const void *q, *k, *v;
    uint32_t q_ld, kv_ld;
    float scale;
    uint32_t T, P, H, G, D;
} seam_prefix_forward_args;

/* With p_j = exp(s_j - lse), ds_j = scale p_j (d_o v_j - d_o o):  adds sum_j ds_j k_j to dq (act),
 * rotated back where cos_sin is given, ds_j q to dk_j and p_j d_o to dv_j (acc, kv_ld apart). */
typedef struct seam_prefix_backward_args {
    void *dq, *dk, *dv;
    uint32_t dq_ld;
    const void *d_o, *o, *q, *k, *v, *lse;
    uint32_t q_ld, kv_ld;
    const void *cos_sin;
    const uint32_t *positions; /* (T) */
    float scale;
    uint32_t T, P, H, G, D;
} seam_prefix_backward_args;

/* y = silu(gate) * up.  gate_up (T, 2F) act: gate then up.  y (T, F) act.  Shazeer 2020,
 * arXiv:2002.05202. */
typedef struct seam_swiglu_forward_args {
    void *y, *y_scale;
    const void *gate_up;
    uint32_t T, F;
} seam_swiglu_forward_args;

typedef struct seam_swiglu_backward_args {
    void *d_gate_up; /* (T, 2F) act; may be gate_up itself */
    void *d_gate_up_scale;
    const void *dy; /* (T, F) act */
    const void *gate_up;
    uint32_t T, F;
} seam_swiglu_backward_args;

/* y[t] = table[ids[t]]; table (V, C) and y (T, C) of one type, whichever.  ids are checked by the
 * caller. */
typedef struct seam_embedding_forward_args {
    void *y;
    const void *table;
    const uint32_t *ids;
    uint32_t T, C;
    seam_dtype type;
} seam_embedding_forward_args;

/* loss[t] = logsumexp(logits[t]) - logits[t][targets[t]];
 * d_logits = grad_scale * (softmax - onehot); NULL: evaluation; must not overlap logits.
 * argmax (T), lowest index on ties, may be NULL.
 * logits (T, V) acc; d_logits (T, V) act; loss (T) acc. */
typedef struct seam_cross_entropy_args {
    void *loss, *d_logits;
    uint32_t *argmax;
    const void *logits;
    const uint32_t *targets;
    float grad_scale;
    uint32_t T, V;
} seam_cross_entropy_args;

/* AdamW with decoupled decay.  Loshchilov & Hutter 2017, arXiv:1711.05101.
 * grad is read as grad * grad_scale (global-norm clipping), then param -= lr * (...).
 * All (count) acc; copy (count) act or NULL: the compute copy, refreshed in the same pass.
 * grad is zeroed. */
typedef struct seam_adamw_args {
    void *param, *m, *v, *grad, *copy;
    size_t count;
    float lr, beta1, beta2, eps, weight_decay, grad_scale;
    uint64_t step; /* from 1, for bias correction */
} seam_adamw_args;

/* Values as a file has them, little-endian. */
typedef enum seam_raw_type { SEAM_RAW_F32 = 1, SEAM_RAW_F16 = 2, SEAM_RAW_BF16 = 3 } seam_raw_type;
size_t seam_raw_bytes(seam_raw_type type);

/* Values [first, first + count) of a frozen matrix, row after row. */
typedef struct seam_weight_piece {
    const void *bytes; /* host; of host_alloc: copied at full speed; else 4-byte aligned */
    seam_raw_type type;
    size_t first, count;
} seam_weight_piece;

#define SEAM_MEM_ROOM_HOST UINT64_MAX

/* A pass of many ops that its caller makes again and again: a micro-batch through the blocks.  A
 * backend may keep what a pass has queued and queue it in one piece the next time.  Passes of one
 * `repeats` with equal keys give their ops equal arguments, but for what the arrays hold: those
 * are the only memory of the host's that the ops are given, and no op of a pass waits for its
 * results. */
typedef struct seam_repeats seam_repeats;
typedef struct seam_repeat_args {
    seam_repeats **repeats; /* the caller's, NULL at first; what the keys point to outlives it */
    const void *key;        /* (key_bytes), at most SEAM_REPEAT_KEY_BYTES_MAX, no padding unset */
    size_t key_bytes;
    const uint32_t *positions, *seq_begin;  /* (T), (S + 1): of rope and attention */
    const uint32_t *slots, *slot_positions; /* (T) each or NULL: of a cache */
    uint32_t T, C, S;
    uint32_t kept_max; /* passes that are kept, 1..SEAM_REPEAT_KEPT_MAX; the same in every call */
    seam_status (*run)(const void *context); /* queues the pass; may be called twice */
    const void *context;
} seam_repeat_args;
#define SEAM_REPEAT_KEY_BYTES_MAX 128u
#define SEAM_REPEAT_KEPT_MAX      16u /* of a session: forward and backward of eight shapes */

/* Room in a weight (N, C) for `pairs` LoRA pairs of up to `rank`, and for a bias: elements of act
 * behind each row, and rows below; 0 where it is for none (rank 0, widths of no whole vectors). */
#define SEAM_JOIN_RANK      16u /* of a backend whose options name none */
#define SEAM_LORA_PAD_STEP  64u /* rows stay on 128 bytes */
#define SEAM_JOIN_BIAS_COLS 3u  /* bf16 parts whose sum is a bias in f32 */
static inline uint32_t seam_lora_pad(uint32_t rank, uint32_t pairs, bool bias, uint32_t N,
                                     uint32_t C) {
    const uint32_t cols = pairs * rank + (bias ? SEAM_JOIN_BIAS_COLS : 0);
    const bool none = rank == 0 || N % 8 != 0 || C % 8 != 0;
    return none ? 0 : (cols + SEAM_LORA_PAD_STEP - 1) / SEAM_LORA_PAD_STEP * SEAM_LORA_PAD_STEP;
}
static inline size_t seam_lora_pad_values(uint32_t lora_pad, uint32_t N, uint32_t C) {
    return ((size_t)N + lora_pad) * (C + lora_pad) - (size_t)N * C;
}

typedef struct seam_ops {
    const char *name;         /* "ref", "cpu", "cuda" */
    seam_dtype act, acc, qkv; /* as created */
    /* Memory counts for more than time: what a norm or SwiGLU makes is made again where backward
     * of an adapted product reads it, from what is kept anyway. */
    bool remake;
    uint32_t head_rows; /* rows at which a product with the vocabulary runs at its rate */
    bool fp8;           /* as created: linears may ask for it */
    /* Ranks up to which LoRA's share becomes a part of the frozen product, by room beside the rows
     * of both operands (seam_lora_pad): on q|k|v, and on gate|up forward; 0: no use for it. */
    uint32_t join_rank, join_mlp_rank;

    /* Memory of the device.  alloc: zeroed, 64-byte aligned. */
    seam_status (*mem_alloc)(void **ret_ptr, seam_backend *backend, size_t bytes);
    void (*mem_free)(seam_backend *backend, void *gift_ptr); /* NULL is fine */
    /* Bytes that mem_alloc could give now; SEAM_MEM_ROOM_HOST: the device's memory is the host's.
     */
    uint64_t (*mem_room)(seam_backend *backend);
    /* Memory of the host that the device reads and writes at full speed (pinned); not zeroed. */
    seam_status (*host_alloc)(void **ret_ptr, seam_backend *backend, size_t bytes);
    void (*host_free)(seam_backend *backend, void *gift_ptr); /* NULL is fine */
    seam_status (*copy_in)(seam_stream *stream, void *device, const void *host, size_t bytes);
    seam_status (*copy_out)(seam_stream *stream, void *host, const void *device, size_t bytes);
    seam_status (*zero)(seam_stream *stream, void *device, size_t bytes);
    /* dst (count) of dst_type = src (count) of src_type. */
    seam_status (*cast)(seam_stream *stream, void *dst, seam_dtype dst_type, const void *src,
                        seam_dtype src_type, size_t count);

    seam_status (*stream_create)(seam_stream **ret_stream, seam_backend *backend);
    seam_status (*stream_sync)(seam_stream *stream);
    void (*stream_destroy)(seam_stream *gift_stream);

    /* Pack a frozen matrix given in f32 (host, (N, C) row-major).  forward/backward say which
     * products will be asked for, lora_pad how much room for LoRA there will be between their rows
     * (seam_lora_pad's; 0: none). */
    seam_status (*weight_create)(seam_weight **ret_weight, seam_backend *backend,
                                 const float *host_rows, uint32_t N, uint32_t C, bool forward,
                                 bool backward, uint32_t lora_pad);
    /* The same in pieces, as a file has them: begin, every value written once in any order and on
     * any streams, end when those are synced.  write returns when it has queued: the host's bytes
     * are read until the stream is synced.  Matrices may be begun and ended by several threads. The
     * bits are those of weight_create with the values as f32. */
    seam_status (*weight_begin)(seam_weight **ret_weight, seam_backend *backend, uint32_t N,
                                uint32_t C, bool forward, bool backward, uint32_t lora_pad);
    seam_status (*weight_write)(seam_stream *stream, seam_weight *weight,
                                const seam_weight_piece *piece);
    seam_status (*weight_end)(seam_weight *weight, seam_backend *backend);
    void (*weight_destroy)(seam_weight *gift_weight); /* also before end */
    size_t (*weight_bytes)(const seam_weight *weight);

    /* A matrix that is trained: for both products, in act alone, with no values before weight_set.
     * own_bytes: what weight_own takes of the device, and beside it of the host. */
    seam_status (*weight_own)(seam_weight **ret_weight, seam_backend *backend, uint32_t N,
                              uint32_t C);
    size_t (*weight_own_bytes)(size_t *ret_host_bytes, uint32_t N, uint32_t C, seam_dtype act);
    /* All values of an own one = rows (N, C) acc on the device; of any one, as products see them,
     * to rows. */
    seam_status (*weight_set)(seam_stream *stream, seam_weight *weight, const void *rows);
    seam_status (*weight_get)(seam_stream *stream, void *rows, const seam_weight *weight);

    /* Whether linears of w take rows that are rounded to FP8 already. */
    bool (*linear_takes_fp8)(const seam_weight *w, bool backward);
    seam_status (*linear_forward)(seam_stream *stream, const seam_linear_forward_args *args);
    seam_status (*linear_backward)(seam_stream *stream, const seam_linear_backward_args *args);
    seam_status (*weight_gradient)(seam_stream *stream, const seam_weight_gradient_args *args);
    seam_status (*column_sums)(seam_stream *stream, const seam_column_sums_args *args);
    seam_status (*rmsnorm_forward)(seam_stream *stream, const seam_rmsnorm_forward_args *args);
    seam_status (*rmsnorm_backward)(seam_stream *stream, const seam_rmsnorm_backward_args *args);
    seam_status (*rope)(seam_stream *stream, const seam_rope_args *args);
    seam_status (*attention_forward)(seam_stream *stream, const seam_attention_forward_args *args);
    seam_status (*attention_backward)(seam_stream *stream,
                                      const seam_attention_backward_args *args);
    seam_status (*cache_store)(seam_stream *stream, const seam_cache_store_args *args);
    seam_status (*attention_cached)(seam_stream *stream, const seam_attention_cached_args *args);
    seam_status (*prefix_forward)(seam_stream *stream, const seam_prefix_forward_args *args);
    seam_status (*prefix_backward)(seam_stream *stream, const seam_prefix_backward_args *args);
    seam_status (*swiglu_forward)(seam_stream *stream, const seam_swiglu_forward_args *args);
    seam_status (*swiglu_backward)(seam_stream *stream, const seam_swiglu_backward_args *args);
    seam_status (*embedding_forward)(seam_stream *stream, const seam_embedding_forward_args *args);
    seam_status (*cross_entropy)(seam_stream *stream, const seam_cross_entropy_args *args);
    seam_status (*adamw)(seam_stream *stream, const seam_adamw_args *args);
    /* ret (host) = sum of squares of x (count) acc, in double, in a fixed order. */
    seam_status (*sum_squares)(seam_stream *stream, double *ret_sum, const void *x, size_t count);
    /* ret (host) = hash of the bits of x (count) acc: the sum modulo 2^64, over its 32-bit words
     * w_i (f64: low word first), of mix(w_i + 2^32 i), i modulo 2^32 and mix the finalizer of
     * SplitMix64 (Steele, Lea, Flood 2014).  A sum, so that no order of the work shows in it. */
    seam_status (*hash)(seam_stream *stream, uint64_t *ret_hash, const void *x, size_t count);
    /* The slots from here on may be NULL.  repeat: the pass, by its run or as it was kept; NULL:
     * run is called.  repeats_destroy waits for nothing: the pass's stream has been synced. */
    seam_status (*repeat)(seam_stream *stream, const seam_repeat_args *args);
    void (*repeats_destroy)(seam_repeats *gift_repeats); /* NULL is fine */
    /* NULL: memory of the device is the host's, as is its codec. */
    const seam_device_codec *codec;
} seam_ops;

typedef struct seam_backend_options {
    const char *device; /* "cpu", "ref", "cuda:0"; "auto": cuda:0 where there is one, else cpu */
    seam_dtype act;     /* 0: the backend's best (cpu: bf16 with AMX, else f32) */
    uint32_t threads;   /* 0: all cores */
    bool fp8;           /* keep frozen matrices in FP8 too, for linears that ask for it */
    /* The table's; of CUDA in bf16, no other joins.  0: SEAM_JOIN_RANK, and none on gate|up, as
     * with fp8, whose forward product a room would take the place of. */
    uint32_t join_rank, join_mlp_rank;
} seam_backend_options;

/* The one picker.  SEAM_E_ARG for an unknown device or a type that it cannot do (err says),
 * SEAM_E_UNIMPLEMENTED for a device that this build or machine lacks, and for fp8 where the device
 * has none.  "auto" that is the CPU: SEAM_OK, and err says why. */
seam_status seam_backend_create(seam_backend **ret_backend, const seam_backend_options *options,
                                seam_error *err);
void seam_backend_destroy(seam_backend *gift_backend);
const seam_ops *seam_backend_ops(const seam_backend *backend);
/* What runs the products, for reports: "own kernels, amx bf16, 2 threads". */
const char *seam_backend_describe(const seam_backend *backend);
/* What the device said when an op first returned SEAM_E_DEVICE_LOST, with file and line; "" until
 * then.  Any thread. */
const char *seam_backend_fault(const seam_backend *backend);

#endif
