/* LoRA in the frozen product itself: with W's rows prolonged by B and x's by u = scale x A^T,
 *
 *   y = [x | u] [W | B]^T        dx = [dy | v] [W ; A],  v = scale dy B
 *
 * one sum in f32, rounded once, so that a bf16 output needs no room in f32 and no second pass.  The
 * pad's other columns are zero on both sides; a bias is three columns of bf16 whose sum it is,
 * times ones.  cuda_thin.cu's dots write u and v, this file B and A: the weight serves all
 * sessions, whose passes are queued one after another on one stream.
 *
 * Llama-3-8B's q|k|v, rank 16: 0.8 MB forward and 0.5 backward, some 3 us of an H100; gate|up, rank
 * 64: 7.3 MB.  Pairs and pads are whole vectors (cuda_linear.cu, pairs_fit): grid of both one
 * thread a vector, 256 a block. */
#include "cuda_device.cuh"

#define THREADS 256u

/* A pair's matrix and its columns of the pad. */
typedef struct join_pair {
    const __nv_bfloat16 *values;
    uint32_t row_begin, row_end, col_begin, col_end;
} join_pair;
typedef struct join_args {
    __nv_bfloat16 *rows; /* of the weight */
    const float *bias;
    uint32_t N, C, pad, pair_count, bias_col;
    join_pair pair[SEAM_LORA_PAIRS_MAX];
} join_args;

/* ---- kernels ---- */
/* Part i of three whose sum is x. */
static __device__ inline __nv_bfloat16 part_of(float x, uint32_t i) {
    __nv_bfloat16 part = __float2bfloat16(x);
    for (; i > 0; i--) {
        x -= __bfloat162float(part);
        part = __float2bfloat16(x);
    }
    return part;
}

static __global__ void fill_b_kernel(const __grid_constant__ join_args a) {
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x, vectors = a.pad / VECTOR;
    const uint32_t n = i / vectors, col = i % vectors * VECTOR;
    if (n >= a.N) {
        return;
    }
    uint4 values = {0, 0, 0, 0};
    for (uint32_t p = 0; p < a.pair_count; p++) {
        const join_pair &own = a.pair[p];
        if (n >= own.row_begin && n < own.row_end && col >= own.col_begin && col < own.col_end) {
            const uint32_t R = own.col_end - own.col_begin;
            values = *(const uint4 *)(own.values + (size_t)(n - own.row_begin) * R + col -
                                      own.col_begin);
        }
    }
    if (a.bias != NULL && col == a.bias_col) {
        __nv_bfloat16 *const parts = (__nv_bfloat16 *)&values;
        for (uint32_t part = 0; part < SEAM_JOIN_BIAS_COLS; part++) {
            parts[part] = part_of(a.bias[n], part);
        }
    }
    *(uint4 *)(a.rows + (size_t)n * (a.C + a.pad) + a.C + col) = values;
}

static __global__ void fill_a_kernel(const __grid_constant__ join_args a) {
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x, vectors = a.C / VECTOR;
    const uint32_t row = i / vectors, c = i % vectors * VECTOR;
    if (row >= a.pad) {
        return;
    }
    uint4 values = {0, 0, 0, 0};
    for (uint32_t p = 0; p < a.pair_count; p++) {
        const join_pair &own = a.pair[p];
        if (row >= own.col_begin && row < own.col_end) {
            values = *(const uint4 *)(own.values + (size_t)(row - own.col_begin) * a.C + c);
        }
    }
    *(uint4 *)(a.rows + (size_t)(a.N + row) * (a.C + a.pad) + c) = values;
}

/* ---- launchers ---- */
uint32_t seam_cuda_join_cols(const seam_cuda_join *join) {
    uint32_t cols = join->bias != NULL ? SEAM_JOIN_BIAS_COLS : 0;
    for (uint32_t i = 0; i < join->lora_count; i++) {
        cols += join->lora[i].R;
    }
    return cols;
}

seam_status seam_cuda_join_fill(seam_stream *stream, const seam_cuda_join *join) {
    const seam_weight *w = join->weight;
    cudaStream_t queue = seam_cuda_queue(stream);
    join_args a = {.rows = (__nv_bfloat16 *)w->rows,
                   .bias = join->bias,
                   .N = w->N,
                   .C = w->C,
                   .pad = w->pad,
                   .pair_count = join->lora_count,
                   .bias_col = 0,
                   .pair = {}};
    SEAM_ASSERT(seam_cuda_join_cols(join) <= w->pad);
    for (uint32_t i = 0; i < join->lora_count; i++) {
        const seam_lora_pair *p = &join->lora[i];
        a.pair[i] = {(const __nv_bfloat16 *)(join->backward ? p->a : p->b), p->col_begin,
                     p->col_begin + p->N, a.bias_col, a.bias_col + p->R};
        a.bias_col += p->R;
    }
    const uint32_t vectors = (join->backward ? w->C : w->N) * w->pad / VECTOR;
    const uint32_t blocks = (vectors + THREADS - 1) / THREADS;
    if (join->backward) {
        fill_a_kernel<<<blocks, THREADS, 0, queue>>>(a);
    } else {
        fill_b_kernel<<<blocks, THREADS, 0, queue>>>(a);
    }
    return SEAM_CUDA_LAUNCHED();
}
