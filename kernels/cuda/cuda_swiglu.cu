/* SwiGLU forward and backward, elementwise.  A thread V neighbouring features of a row, 256 threads
 * a block, a row in whole blocks.  Bytes an element: forward 3 act, backward 5 act; bound by
 * memory, and on a card at its power limit by instructions too: in bf16 the sigmoid is two
 * approximations of about an ulp of f32 each, far below bf16's rounding.
 *
 * Rows that a product reads in FP8 are made by a block a row, through shared memory (2 F and 4 F
 * bytes) until their largest value is known.  Bytes an element: 5 forward, 8 backward; 0.97 and
 * 0.93 of an H100's copy rate. */
#include "cuda_fp8.cuh"

#define THREADS 256u

/* ---- kernels ---- */
/* 1 / (1 + e^-x), for values that become act. */
template <typename act> static __device__ inline float sigmoid(float x) {
    if constexpr (sizeof(act) == sizeof(__nv_bfloat16)) {
        return reciprocal_flushed(1.0f + exp2_flushed(-LOG2_E * x));
    } else {
        return 1.0f / (1.0f + expf(-x));
    }
}

/* y in place of g. */
template <typename act, uint32_t V>
static __device__ inline void forward_values(float (&g)[V], const float (&u)[V]) {
    for (uint32_t k = 0; k < V; k++) {
        g[k] = g[k] * sigmoid<act>(g[k]) * u[k];
    }
}

/* Gradients in place of g and u; one bit pattern in every kernel. */
template <typename act, uint32_t V>
static __device__ inline void backward_values(float (&g)[V], float (&u)[V], const float (&dy)[V]) {
    for (uint32_t k = 0; k < V; k++) {
        const float x = g[k], s = sigmoid<act>(x), ds = dy[k] * s;
        g[k] = ds * u[k] * fmaf(x, 1.0f - s, 1.0f);
        u[k] = ds * x;
    }
}

/* Where a thread's values stand: row and feature of a grid whose rows are `across` blocks each. */
typedef struct place {
    size_t row;
    uint32_t f;
} place;
template <uint32_t V> static __device__ inline place place_of(uint32_t across) {
    const uint32_t row = blockIdx.x / across;
    return {row, ((blockIdx.x - row * across) * THREADS + threadIdx.x) * V};
}

template <typename act, uint32_t V>
static __global__ void forward_kernel(seam_swiglu_forward_args a, uint32_t across) {
    const place at = place_of<V>(across);
    if (at.f >= a.F) {
        return;
    }
    const act *gate = (const act *)a.gate_up + at.row * 2 * a.F + at.f;
    float g[V], u[V];
    load(g, gate);
    load(u, gate + a.F);
    forward_values<act>(g, u);
    store((act *)a.y + at.row * a.F + at.f, g);
}

/* d_gate_up may be gate_up itself: a thread reads what it writes. */
template <typename act, uint32_t V>
static __global__ void backward_kernel(seam_swiglu_backward_args a, uint32_t across) {
    const place at = place_of<V>(across);
    if (at.f >= a.F) {
        return;
    }
    const size_t begin = at.row * 2 * a.F + at.f;
    const act *gate = (const act *)a.gate_up + begin;
    act *d_gate = (act *)a.d_gate_up + begin;
    float g[V], u[V], dy[V];
    load(g, gate);
    load(u, gate + a.F);
    load(dy, (const act *)a.dy + at.row * a.F + at.f);
    backward_values<act>(g, u, dy);
    store(d_gate, g);
    store(d_gate + a.F, u);
}

/* Grid: a block a row. */
static __global__ void __launch_bounds__(THREADS) forward_fp8_kernel(seam_swiglu_forward_args a) {
    extern __shared__ uint4 rounded[];
    const __nv_bfloat16 *gate = (const __nv_bfloat16 *)a.gate_up + (size_t)blockIdx.x * 2 * a.F;
    uint32_t largest = 0;
    for (uint32_t f = threadIdx.x * VECTOR; f < a.F; f += THREADS * VECTOR) {
        float g[VECTOR], u[VECTOR];
        load(g, gate + f);
        load(u, gate + a.F + f);
        forward_values<__nv_bfloat16>(g, u);
        const uint4 y = pack_vector(g);
        rounded[f / VECTOR] = y;
        largest = fp8_largest(largest, y);
    }
    fp8_row((__nv_bfloat16 *)a.y + (size_t)blockIdx.x * a.F, (float *)a.y_scale + blockIdx.x,
            rounded, largest, a.F);
}

/* Grid: a block a row.  d_gate_up may be gate_up: a row is written when all of it was read. */
static __global__ void __launch_bounds__(THREADS) backward_fp8_kernel(seam_swiglu_backward_args a) {
    extern __shared__ uint4 rounded[];
    const size_t row = (size_t)blockIdx.x * 2 * a.F;
    const __nv_bfloat16 *gate = (const __nv_bfloat16 *)a.gate_up + row;
    const __nv_bfloat16 *dy = (const __nv_bfloat16 *)a.dy + (size_t)blockIdx.x * a.F;
    uint32_t largest = 0;
    for (uint32_t f = threadIdx.x * VECTOR; f < a.F; f += THREADS * VECTOR) {
        float g[VECTOR], u[VECTOR], d[VECTOR];
        load(g, gate + f);
        load(u, gate + a.F + f);
        load(d, dy + f);
        backward_values<__nv_bfloat16>(g, u, d);
        const uint4 d_gate = pack_vector(g), d_up = pack_vector(u);
        rounded[f / VECTOR] = d_gate;
        rounded[(a.F + f) / VECTOR] = d_up;
        largest = fp8_largest(fp8_largest(largest, d_gate), d_up);
    }
    fp8_row((__nv_bfloat16 *)a.d_gate_up + row, (float *)a.d_gate_up_scale + blockIdx.x, rounded,
            largest, 2 * a.F);
}

/* ---- launchers ---- */
/* Launches a kernel that rounds rows of K to FP8. */
template <typename args>
static seam_status fp8_launch(seam_stream *stream, void (*kernel)(args), const args &a,
                              uint32_t K) {
    const int bytes = (int)(K * sizeof(__nv_bfloat16));
    SEAM_ASSERT(K % 16 == 0 && K <= SEAM_CUDA_FP8_K_MAX && seam_cuda_act(stream) == SEAM_BF16);
    SEAM_CUDA_TRY(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    kernel<<<a.T, THREADS, bytes, seam_cuda_queue(stream)>>>(a);
    return SEAM_CUDA_LAUNCHED();
}

/* Blocks of a row of so many threads. */
static uint32_t blocks_across(uint32_t threads) {
    return (threads + THREADS - 1) / THREADS;
}

seam_status seam_cuda_swiglu_forward(seam_stream *stream, const seam_swiglu_forward_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_swiglu_forward_args a = *args;
    const size_t count = (size_t)a.T * a.F;
    if (count == 0) {
        return SEAM_OK;
    }
    const bool vectors = a.F % VECTOR == 0 && vector_aligned(a.y) && vector_aligned(a.gate_up);
    if (a.y_scale != NULL) {
        SEAM_ASSERT(vectors);
        return fp8_launch(stream, forward_fp8_kernel, a, a.F);
    }
    const uint32_t across = blocks_across(vectors ? a.F / VECTOR : a.F), blocks = a.T * across;
    if (vectors) {
        SEAM_CUDA_BY_ACT(stream,
                         (forward_kernel<act, VECTOR><<<blocks, THREADS, 0, queue>>>(a, across)));
    } else {
        SEAM_CUDA_BY_ACT(stream,
                         (forward_kernel<act, 1><<<blocks, THREADS, 0, queue>>>(a, across)));
    }
    return SEAM_CUDA_LAUNCHED();
}

seam_status seam_cuda_swiglu_backward(seam_stream *stream, const seam_swiglu_backward_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_swiglu_backward_args a = *args;
    const size_t count = (size_t)a.T * a.F;
    if (count == 0) {
        return SEAM_OK;
    }
    const bool vectors = a.F % VECTOR == 0 && vector_aligned(a.dy) && vector_aligned(a.gate_up) &&
                         vector_aligned(a.d_gate_up);
    if (a.d_gate_up_scale != NULL) {
        SEAM_ASSERT(vectors);
        return fp8_launch(stream, backward_fp8_kernel, a, 2 * a.F);
    }
    const uint32_t across = blocks_across(vectors ? a.F / VECTOR : a.F), blocks = a.T * across;
    if (vectors) {
        SEAM_CUDA_BY_ACT(stream,
                         (backward_kernel<act, VECTOR><<<blocks, THREADS, 0, queue>>>(a, across)));
    } else {
        SEAM_CUDA_BY_ACT(stream,
                         (backward_kernel<act, 1><<<blocks, THREADS, 0, queue>>>(a, across)));
    }
    return SEAM_CUDA_LAUNCHED();
}
