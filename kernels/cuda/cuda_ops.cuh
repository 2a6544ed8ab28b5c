/* The CUDA backend's objects and the prototypes of its ops.
 *
 * What it is: the op table for one NVIDIA device, act bf16 (or f32), acc f32, qkv = act.  Read
 * cuda_backend.cu for creation, memory and streams, cuda_linear.cu for the products,
 * cuda_repeat.cu for passes that are queued as graphs, cuda_codec.cu for the codec's table,
 * cuda_device.cuh for what all kernels use.
 *
 * Every op queues its kernels on the stream's own queue and returns.  Small arrays that the op
 * table takes from the host (positions, ids, seq_begin) go through the stream's scratch: a copy
 * from pageable memory has left the caller's array when cudaMemcpyAsync returns. */
#ifndef SEAM_CUDA_OPS_CUH
#define SEAM_CUDA_OPS_CUH

#include <atomic>
#include <cublasLt.h>
#include <cuda_runtime.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#define _Noreturn [[noreturn]] /* C11's word, for try.h */
#include "arena.h"
#include "backend.h"
#include "try.h"
#undef _Noreturn
}

/* One fixed algorithm a direction and output type; chosen at creation, so that a row's bits depend
 * neither on the row count nor on a restart. */
typedef struct seam_cuda_plan {
    bool found, committed; /* committed: of cuda_algorithms.inc, else the library's first */
    cublasLtMatmulAlgo_t algo;
} seam_cuda_plan;

/* A frozen matrix in e4m3 with its rows along the sum of one product: (N, C) for forward, its
 * transpose (C, N) for backward. */
typedef struct seam_cuda_fp8 {
    bool wanted;
    void *rows;             /* NULL: none */
    float *scale;           /* of each row */
    seam_cuda_plan plan[2]; /* output act, acc */
} seam_cuda_fp8;

/* A matrix, once, as given: both products read it (cuBLASLt transposes on the way).  In FP8
 * it takes rows along the sum, so that each product has its own copy.
 *
 * With a pad (ops.h, seam_lora_pad) the rows are C + pad long and there are N + pad of them:
 * forward puts LoRA's B behind the rows, backward its A below them, for the product that is queued
 * next. */
struct seam_weight {
    seam_backend *backend; /* borrowed */
    uint32_t N, C, pad;
    void *rows;                             /* (N, C) act, C + pad apart */
    seam_cuda_plan forward[2], backward[2]; /* output act, acc */
    seam_cuda_plan joined[2][2];            /* backward; output: with the pad in the sum */
    seam_cuda_plan gradient;                /* of a weight that is trained */
    seam_cuda_fp8 fp8[2];                   /* forward, backward */
};

/* A CUDA result as a status, and the runtime's own last error cleared.  SEAM_E_MEMORY when memory
 * ran out, else SEAM_E_DEVICE_LOST (a fault is sticky: the process must restart); the first of
 * those is kept with CUDA's text and the line that saw it, for seam_backend_fault. */
#define seam_cuda_status(result) seam_cuda_status_at((result), __FILE__, __LINE__)
seam_status seam_cuda_status_at(cudaError_t result, const char *file, int line);
/* The same for cuBLASLt. */
#define seam_cublas_status(result) seam_cublas_status_at((result), __FILE__, __LINE__)
seam_status seam_cublas_status_at(cublasStatus_t result, const char *file, int line);
#define SEAM_CUDA_TRY(call)  SEAM_TRY(seam_cuda_status(call))
#define SEAM_CUDA_LAUNCHED() seam_cuda_status(cudaGetLastError())

/* Makes the backend's device the thread's current one. */
cudaError_t seam_cuda_device_set(const seam_backend *backend);
/* The queue of a stream; makes its device the thread's current one. */
cudaStream_t seam_cuda_queue(const seam_stream *stream);
/* Multiprocessors of the stream's device, and its compute capability's first number. */
uint32_t seam_cuda_processors(const seam_stream *stream);
uint32_t seam_cuda_major(const seam_stream *stream);
seam_dtype seam_cuda_act(const seam_stream *stream);
cublasLtHandle_t seam_cuda_blas(const seam_backend *backend);
/* The device's compute capability as one number: 90 is 9.0. */
uint32_t seam_cuda_backend_compute(const seam_backend *backend);
/* Workspace of a stream, as seam_cpu_scratch: grows at the first call of a new largest shape,
 * 256-byte aligned, contents undefined, the previous pointer is invalid.  SEAM_E_MEMORY. */
seam_status seam_cuda_scratch(void **ret_ptr, seam_stream *stream, size_t bytes);
/* While a stream records, its ops' kernels become a graph and do not run, its scratch and what it
 * keeps stay where they are (SEAM_E_STATE where they cannot), and `uses` collects what is read of
 * it.  What fails because of the recording is SEAM_E_STATE and no fault of the device's. */
typedef struct seam_cuda_recording {
    bool on;
    uint32_t uses; /* 1 << seam_cuda_use */
} seam_cuda_recording;
seam_cuda_recording *seam_cuda_recording_of(seam_stream *stream);
void seam_cuda_recording_set(seam_stream *stream, bool on); /* by the thread that runs the ops */
/* Where the scratch stands and how large it is. */
void *seam_cuda_scratch_at(const seam_stream *stream, size_t *ret_bytes);
/* Room for `bytes` in a scratch that holds several arrays. */
size_t seam_cuda_round(size_t bytes);

/* Arrays of the host that every layer's ops are given again, kept on the device by the stream while
 * their contents stay the same; cuda_kept.cu.  One a use; valid until the next call with it. */
typedef enum seam_cuda_use {
    SEAM_CUDA_POSITIONS,
    SEAM_CUDA_SLOTS,
    SEAM_CUDA_SLOT_POSITIONS,
    SEAM_CUDA_SPANS_32,
    SEAM_CUDA_SPANS_64,
    SEAM_CUDA_USES
} seam_cuda_use;
typedef struct seam_cuda_kept {
    void *key; /* host: the array as it was given */
    size_t key_bytes, key_room_bytes;
    void *host, *device; /* what was made of it */
    uint32_t count;
    size_t room_bytes;
} seam_cuda_kept;
seam_cuda_kept *seam_cuda_kept_of(seam_stream *stream, seam_cuda_use use);
void seam_cuda_kept_deinit(seam_cuda_kept *kept);

/* (T) numbers of the host's on the device; `use`: POSITIONS, SLOTS or SLOT_POSITIONS. */
seam_status seam_cuda_array(const uint32_t **ret_device, seam_stream *stream, seam_cuda_use use,
                            const uint32_t *host, uint32_t T);

/* Rows [begin, end) of the sequence that a tile of rows is in, and its first row. */
typedef struct seam_cuda_span {
    uint32_t begin, end, row0;
} seam_cuda_span;
typedef struct seam_cuda_spans {
    const seam_cuda_span *at; /* device; tiles with most rows before them in their sequence first */
    uint32_t count;
} seam_cuda_spans;
/* The tiles of `rows` (32, 64) rows that the sequences fall into, none across two. */
seam_status seam_cuda_spans_of(seam_cuda_spans *ret_spans, seam_stream *stream,
                               const uint32_t *seq_begin, uint32_t S, uint32_t rows);
/* How many those are. */
uint32_t seam_cuda_span_count(const uint32_t *seq_begin, uint32_t S, uint32_t rows);

/* Runs `body` with `act` as the stream's type. */
#define SEAM_CUDA_BY_ACT(stream, body)                                                             \
    do {                                                                                           \
        if (seam_cuda_act(stream) == SEAM_BF16) {                                                  \
            typedef __nv_bfloat16 act;                                                             \
            body;                                                                                  \
        } else {                                                                                   \
            typedef float act;                                                                     \
            body;                                                                                  \
        }                                                                                          \
    } while (0)

/* y (M, N) = (y when add) + (addend) + (bias) + the sum of up to four products, in f32, rounded
 * once. cuda_gemm.cu.  Strides are in elements: x(m, k) = x[m * x_m + k * x_k], w(n, k) likewise,
 * for columns n of [n_begin, n_end) of y, w's row 0 being column n_begin. */
typedef struct seam_cuda_part {
    const void *x, *w; /* act */
    size_t x_m, x_k, w_n, w_k;
    uint32_t K, n_begin, n_end;
    float scale;
    seam_dropout dropout; /* of y's values, which get only what counts */
} seam_cuda_part;
#define SEAM_CUDA_PARTS_MAX (SEAM_LORA_PAIRS_MAX + 1)

typedef struct seam_cuda_gemm_args {
    void *y;
    uint32_t y_ld, M, N;
    seam_out y_out;
    const float *bias;   /* (N) or NULL */
    const float *addend; /* (M, N) dense or NULL */
    float *split; /* workspace of seam_cuda_gemm_split_bytes for one part, or NULL: no split */
    uint32_t part_count;
    seam_cuda_part part[SEAM_CUDA_PARTS_MAX];
} seam_cuda_gemm_args;
size_t seam_cuda_gemm_split_bytes(uint32_t M, uint32_t N, uint32_t K);
seam_status seam_cuda_gemm(seam_stream *stream, const seam_cuda_gemm_args *args);

/* dst (T, C) act = x (T, C), zero where it is dropped; cuda_dropout.cu. */
seam_status seam_cuda_kept_copy(seam_stream *stream, void *dst, const void *src, uint32_t src_ld,
                                uint32_t T, uint32_t C, const seam_dropout *dropout);

/* LoRA's thin products on tensor cores, bf16, cuda_thin.cu.  All pointers on 16 bytes; x_ld, K and
 * R are multiples of 8. turns   y (K, R) = x (R, K)^T dots    y (T, R) = x (T, K) w (R, K)^T sums
 * y[k * y_k + r * y_r] (f32) += scale * sum over T of x[t, k] w[t, r], w (T, R) `partial`: of
 * sum_bytes.  Consecutive products of one x and K share its reading. */
#define SEAM_CUDA_THIN_MAX   6u   /* A and B of each pair */
#define SEAM_CUDA_THIN_R_MAX 256u /* SEAM_LORA_RANK_MAX */
typedef struct seam_cuda_thin {
    const void *x, *w;
    void *y;
    size_t x_ld, y_k, y_r;
    uint32_t K, R;
    float scale;
    void *z; /* dots: a second y, times scale, rows z_ld apart; or NULL */
    size_t z_ld;
} seam_cuda_thin;
/* Columns of z that no product writes: zero, but the first `ones` of them 1. */
typedef struct seam_cuda_thin_rest {
    void *z;
    size_t z_ld;
    uint32_t cols, ones;
} seam_cuda_thin_rest;
seam_status seam_cuda_thin_turns(seam_stream *stream, const seam_cuda_thin *products,
                                 uint32_t count);
seam_status seam_cuda_thin_dots(seam_stream *stream, const seam_cuda_thin *products, uint32_t count,
                                uint32_t T, const seam_cuda_thin_rest *rest);
size_t seam_cuda_thin_sum_bytes(const seam_cuda_thin *products, uint32_t count, uint32_t T);
seam_status seam_cuda_thin_sums(seam_stream *stream, const seam_cuda_thin *products, uint32_t count,
                                uint32_t T, float *partial);
/* cuda_shares.cu: seam_cuda_gemm for parts with x_k = w_k = 1 and widths, bounds and ranks that are
 * multiples of 8; no split. */
seam_status seam_cuda_shares(seam_stream *stream, const seam_cuda_gemm_args *args);

/* y (T, N) = beta y + x (T, C) W^T, or, backward, y (T, C) = beta y + x (T, N) W, in cuBLASLt by
 * the weight's algorithm.  cuda_plan.cu. */
typedef struct seam_cuda_product {
    const seam_weight *weight;
    const void *x; /* act */
    void *y;       /* act, or acc */
    uint32_t T, x_ld, y_ld;
    bool backward, acc;
    bool joined;          /* the sum goes on over the pads of x's rows and of the weight */
    void *fp8_room;       /* of seam_cuda_fp8_room_bytes: the product is in FP8; or NULL */
    const float *x_scale; /* x is in FP8 already (ops.h), and so is the product; or NULL */
} seam_cuda_product;
/* Whether there is an algorithm for it and all rows start on 16 bytes. */
bool seam_cuda_product_fits(const seam_cuda_product *product);
seam_status seam_cuda_product_run(seam_stream *stream, const seam_cuda_product *product,
                                  float beta);
/* Algorithms that sum over k in one piece, without workspace, best guess first; returns their
 * count.  x and y are not read. */
#define SEAM_CUDA_ALGORITHMS_MAX 256u
uint32_t seam_cuda_algorithms(cublasLtMatmulAlgo_t *ret_algos, const seam_cuda_product *product,
                              uint32_t algos_max);
/* LoRA's pairs in a weight's pad: forward B^T of every pair and the bias, in three parts whose sum
 * it is, behind the rows; backward A below them.  cuda_join.cu. */
typedef struct seam_cuda_join {
    const seam_weight *weight;
    const seam_lora_pair *lora;
    uint32_t lora_count;
    const float *bias; /* (N) or NULL */
    bool backward;
} seam_cuda_join;
/* Columns of the pad that they take. */
uint32_t seam_cuda_join_cols(const seam_cuda_join *join);
seam_status seam_cuda_join_fill(seam_stream *stream, const seam_cuda_join *join);
/* Fills in the plans of a weight; none found is fine (cuda_gemm.cu serves then). */
void seam_cuda_weight_plan(seam_weight *weight);

/* The plan of an own weight's gradient; cuda_weight_gradient.cu. */
void seam_cuda_gradient_plan(seam_weight *weight);

/* A product as cuBLASLt sees it, and algorithms for it as seam_cuda_algorithms'. */
typedef struct seam_cuda_described {
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t w, x, y;
} seam_cuda_described;
/* false: cuBLASLt refuses.  x and y are not read. */
bool seam_cuda_describe(seam_cuda_described *ret, const seam_cuda_product *product);
uint32_t seam_cuda_described_algorithms(cublasLtMatmulAlgo_t *ret_algos, cublasLtHandle_t blas,
                                        seam_cuda_described *described, uint32_t algos_max);

/* A committed algorithm (cuda_algorithms.cu) and what it is for: compute capability (90: 9.0) and
 * version of cuBLASLt, type, N and C of the weight with its pad in the direction of a joined
 * product's sum, direction and output. */
typedef struct seam_cuda_algo_row {
    uint32_t compute, version;
    bool fp8;
    uint32_t N, C;
    bool backward, acc;
    uint64_t algo[8]; /* cublasLtMatmulAlgo_t, as the library gave it */
} seam_cuda_algo_row;
/* Those of the tree. */
const seam_cuda_algo_row *seam_cuda_algo_rows(size_t *ret_count);
/* No sum over k in more than one piece. */
bool seam_cuda_algo_plain(const cublasLtMatmulAlgo_t *algo);
/* false: the row splits the sum, or cuBLASLt does not take it for this product without workspace.
 */
bool seam_cuda_algo_take(cublasLtMatmulAlgo_t *ret_algo, const seam_cuda_algo_row *row,
                         cublasLtHandle_t blas, seam_cuda_described *described);
/* Fills in a plan: the committed algorithm of the product where there is one that the library
 * takes, else the library's first, else none. */
void seam_cuda_plan_choose(seam_cuda_plan *ret_plan, const seam_cuda_product *product, bool fp8,
                           seam_cuda_described *described);
/* The rows that a backend's matrices are looked up in (those of the tree, unless a test sets
 * others), and which of those made so far had one. */
#define SEAM_CUDA_SHAPES_NAMED 4u
typedef struct seam_cuda_algo_use {
    const seam_cuda_algo_row *rows;
    size_t row_count;
    std::atomic<uint32_t> committed, asked;               /* matrices */
    std::atomic<uint64_t> shapes[SEAM_CUDA_SHAPES_NAMED]; /* N << 32 | C of some that had none */
} seam_cuda_algo_use;
seam_cuda_algo_use *seam_cuda_algo_use_of(const seam_backend *backend);
/* Counts a matrix; any thread. */
void seam_cuda_algo_use_add(const seam_weight *weight);
/* For a log: "compute 90, cuBLASLt 130100: ...". */
void seam_cuda_algo_use_print(char *ret_text, size_t text_bytes, const seam_backend *backend);

/* A product in FP8 with rows of x x_bytes apart; false: cuBLASLt refuses. */
bool seam_cuda_fp8_describe(seam_cuda_described *ret, const seam_cuda_product *product,
                            const float *x_scale, size_t x_bytes);

/* Frozen products in FP8 (ops.h), cuda_linear_fp8.cu.  serves: whether the backend's device and
 * cuBLASLt have them.  create makes a weight's wanted copies from its rows; SEAM_E_MEMORY,
 * SEAM_E_DEVICE_LOST. */
bool seam_cuda_fp8_serves(seam_backend *backend);
seam_status seam_cuda_fp8_create(seam_weight *weight);
void seam_cuda_fp8_destroy(seam_weight *weight);
size_t seam_cuda_fp8_bytes(const seam_weight *weight);
/* 0: the product cannot be in FP8. */
size_t seam_cuda_fp8_room_bytes(const seam_cuda_product *product);
/* Rounds x into the room, unless it is rounded, then the product. */
seam_status seam_cuda_fp8_run(seam_stream *stream, const seam_cuda_product *product, float beta);
/* q (T, K) e4m3, rows q_ld bytes apart, and the scales (T) of x (T, K) bf16, rows on 16 bytes; q
 * may be x when q_ld is 2 x_ld; cuda_fp8_rows.cu. */
#define SEAM_CUDA_FP8_K_MAX 65536u
seam_status seam_cuda_fp8_rows(seam_stream *stream, void *q, size_t q_ld, float *scale,
                               const void *x, size_t x_ld, uint32_t T, uint32_t K);
/* The same with a frozen matrix's scales; cuda_fp8_weight.cu. */
seam_status seam_cuda_fp8_weight_rows(seam_stream *stream, void *q, size_t q_ld, float *scale,
                                      const void *x, size_t x_ld, uint32_t T, uint32_t K);
bool seam_cuda_linear_takes_fp8(const seam_weight *w, bool backward);

/* Attention on tensor cores (bf16), where shapes, alignment and device allow it: by warpgroups, by
 * warps.  delta (T, H) is workspace on the device. */
bool seam_cuda_attention_wgmma_fits(const seam_stream *stream,
                                    const seam_attention_forward_args *args);
seam_status seam_cuda_attention_forward_wgmma(seam_stream *stream,
                                              const seam_attention_forward_args *args);
bool seam_cuda_attention_backward_wgmma_fits(const seam_stream *stream,
                                             const seam_attention_backward_args *args);
seam_status seam_cuda_attention_backward_wgmma(seam_stream *stream,
                                               const seam_attention_backward_args *args,
                                               float *delta);
bool seam_cuda_attention_mma_fits(const seam_stream *stream,
                                  const seam_attention_forward_args *args);
seam_status seam_cuda_attention_forward_mma(seam_stream *stream,
                                            const seam_attention_forward_args *args);
bool seam_cuda_attention_backward_mma_fits(const seam_stream *stream,
                                           const seam_attention_backward_args *args);
seam_status seam_cuda_attention_backward_mma(seam_stream *stream,
                                             const seam_attention_backward_args *args,
                                             const float *delta);

/* The ops, ../include/ops.h. */
seam_status seam_cuda_cast(seam_stream *stream, void *dst, seam_dtype dst_type, const void *src,
                           seam_dtype src_type, size_t count);
seam_status seam_cuda_weight_create(seam_weight **ret_weight, seam_backend *backend,
                                    const float *host_rows, uint32_t N, uint32_t C, bool forward,
                                    bool backward, uint32_t lora_pad);
seam_status seam_cuda_weight_begin(seam_weight **ret_weight, seam_backend *backend, uint32_t N,
                                   uint32_t C, bool forward, bool backward, uint32_t lora_pad);
seam_status seam_cuda_weight_write(seam_stream *stream, seam_weight *weight,
                                   const seam_weight_piece *piece);
seam_status seam_cuda_weight_end(seam_weight *weight, seam_backend *backend);
void seam_cuda_weight_destroy(seam_weight *gift_weight);
size_t seam_cuda_weight_bytes(const seam_weight *weight);
seam_status seam_cuda_weight_own(seam_weight **ret_weight, seam_backend *backend, uint32_t N,
                                 uint32_t C);
size_t seam_cuda_weight_own_bytes(size_t *ret_host_bytes, uint32_t N, uint32_t C, seam_dtype act);
seam_status seam_cuda_weight_set(seam_stream *stream, seam_weight *weight, const void *rows);
seam_status seam_cuda_weight_get(seam_stream *stream, void *rows, const seam_weight *weight);
seam_status seam_cuda_weight_gradient(seam_stream *stream, const seam_weight_gradient_args *args);
seam_status seam_cuda_column_sums(seam_stream *stream, const seam_column_sums_args *args);
seam_status seam_cuda_linear_forward(seam_stream *stream, const seam_linear_forward_args *args);
seam_status seam_cuda_linear_backward(seam_stream *stream, const seam_linear_backward_args *args);
seam_status seam_cuda_rmsnorm_forward(seam_stream *stream, const seam_rmsnorm_forward_args *args);
seam_status seam_cuda_rmsnorm_backward(seam_stream *stream, const seam_rmsnorm_backward_args *args);
seam_status seam_cuda_rope(seam_stream *stream, const seam_rope_args *args);
seam_status seam_cuda_attention_forward(seam_stream *stream,
                                        const seam_attention_forward_args *args);
seam_status seam_cuda_attention_backward(seam_stream *stream,
                                         const seam_attention_backward_args *args);
seam_status seam_cuda_prefix_forward(seam_stream *stream, const seam_prefix_forward_args *args);
seam_status seam_cuda_prefix_backward(seam_stream *stream, const seam_prefix_backward_args *args);
seam_status seam_cuda_cache_store(seam_stream *stream, const seam_cache_store_args *args);
seam_status seam_cuda_attention_cached(seam_stream *stream, const seam_attention_cached_args *args);
seam_status seam_cuda_swiglu_forward(seam_stream *stream, const seam_swiglu_forward_args *args);
seam_status seam_cuda_swiglu_backward(seam_stream *stream, const seam_swiglu_backward_args *args);
seam_status seam_cuda_embedding_forward(seam_stream *stream,
                                        const seam_embedding_forward_args *args);
seam_status seam_cuda_cross_entropy(seam_stream *stream, const seam_cross_entropy_args *args);
seam_status seam_cuda_adamw(seam_stream *stream, const seam_adamw_args *args);
seam_status seam_cuda_sum_squares(seam_stream *stream, double *ret_sum, const void *x,
                                  size_t count);
seam_status seam_cuda_repeat(seam_stream *stream, const seam_repeat_args *args);
void seam_cuda_repeats_destroy(seam_repeats *gift_repeats);
seam_status seam_cuda_hash(seam_stream *stream, uint64_t *ret_hash, const void *x, size_t count);

#endif
