/* RMSNorm and its input gradient.  A block of 256 threads a row, which stays in the threads'
 * registers up to HELD values each; longer rows are read twice, the second time from cache.  Bytes
 * a row: forward C (4 + act, + act with x_act), backward C (x + dy + 4 or 8, + act with dx_act);
 * bound by memory.
 *
 * Rows that a product reads in FP8 stand in shared memory (2 C bytes) between the second pass and
 * their rounding, and C bytes are written in place of 2 C: 0.89 of an H100's copy rate, as in bf16.
 */
#include "cuda_fp8.cuh"

#define THREADS 256u
#define HELD    (2u * VECTOR) /* rows of 4,096 */

/* ---- kernels ---- */
/* 1 / rms of the block's row from the threads' sums, also for whoever asked for it. */
static __device__ inline float rstd_of(const seam_rmsnorm_forward_args &a, float sum) {
    const float rstd = 1.0f / sqrtf(block_sum(sum) / (float)a.C + a.eps);
    if (threadIdx.x == 0 && a.rstd != NULL) {
        ((float *)a.rstd)[blockIdx.x] = rstd;
    }
    return rstd;
}
template <typename input, uint32_t V>
static __device__ inline float row_rstd(const seam_rmsnorm_forward_args &a, const input *x) {
    float sum = 0.0f, xs[V];
    for (uint32_t c = threadIdx.x * V; c < a.C; c += THREADS * V) {
        load(xs, x + c);
        for (uint32_t i = 0; i < V; i++) {
            sum = fmaf(xs[i], xs[i], sum);
        }
    }
    return rstd_of(a, sum);
}

/* V values of y from column c of the row on; keeps x. */
template <typename act, typename input, uint32_t V>
static __device__ inline void row_values(float (&xs)[V], const seam_rmsnorm_forward_args &a,
                                         size_t row, uint32_t c, float rstd) {
    float ws[V];
    load(xs, (const input *)a.x + row + c);
    load(ws, (const float *)a.w + c);
    if (a.x_act != NULL) {
        store((act *)a.x_act + row + c, xs);
    }
    for (uint32_t i = 0; i < V; i++) {
        xs[i] *= rstd * ws[i];
    }
}

/* A row of up to THREADS * HELD, read once; the sum's order is row_rstd's. */
template <typename act, typename input>
static __global__ void __launch_bounds__(THREADS) forward_held_kernel(seam_rmsnorm_forward_args a) {
    const size_t row = (size_t)blockIdx.x * a.C;
    float x[HELD / VECTOR][VECTOR], w[HELD / VECTOR][VECTOR], sum = 0.0f;
#pragma unroll
    for (uint32_t n = 0; n < HELD / VECTOR; n++) {
        const uint32_t c = (n * THREADS + threadIdx.x) * VECTOR;
        if (c < a.C) {
            load(x[n], (const input *)a.x + row + c);
            load(w[n], (const float *)a.w + c);
        }
    }
#pragma unroll
    for (uint32_t n = 0; n < HELD / VECTOR; n++) {
        const uint32_t c = (n * THREADS + threadIdx.x) * VECTOR;
        if (c < a.C) {
            for (uint32_t i = 0; i < VECTOR; i++) {
                sum = fmaf(x[n][i], x[n][i], sum);
            }
            if (a.x_act != NULL) {
                store((act *)a.x_act + row + c, x[n]);
            }
        }
    }
    const float rstd = rstd_of(a, sum);
#pragma unroll
    for (uint32_t n = 0; n < HELD / VECTOR; n++) {
        const uint32_t c = (n * THREADS + threadIdx.x) * VECTOR;
        if (c < a.C) {
            for (uint32_t i = 0; i < VECTOR; i++) {
                x[n][i] *= rstd * w[n][i];
            }
            store((act *)a.y + (size_t)blockIdx.x * a.y_ld + c, x[n]);
        }
    }
}

template <typename act, typename input, uint32_t V>
static __global__ void forward_kernel(seam_rmsnorm_forward_args a) {
    const size_t row = (size_t)blockIdx.x * a.C;
    const float rstd = row_rstd<input, V>(a, (const input *)a.x + row);
    for (uint32_t c = threadIdx.x * V; c < a.C; c += THREADS * V) {
        float y[V];
        row_values<act, input, V>(y, a, row, c, rstd);
        store((act *)a.y + (size_t)blockIdx.x * a.y_ld + c, y);
    }
}

template <typename input>
static __global__ void __launch_bounds__(THREADS) forward_fp8_kernel(seam_rmsnorm_forward_args a) {
    extern __shared__ uint4 rounded[];
    const size_t row = (size_t)blockIdx.x * a.C;
    const float rstd = row_rstd<input, VECTOR>(a, (const input *)a.x + row);
    uint32_t largest = 0;
    for (uint32_t c = threadIdx.x * VECTOR; c < a.C; c += THREADS * VECTOR) {
        float y[VECTOR];
        row_values<__nv_bfloat16, input, VECTOR>(y, a, row, c, rstd);
        rounded[c / VECTOR] = pack_vector(y);
        largest = fp8_largest(largest, rounded[c / VECTOR]);
    }
    fp8_row((__nv_bfloat16 *)a.y + (size_t)blockIdx.x * a.y_ld, (float *)a.y_scale + blockIdx.x,
            rounded, largest, a.C);
}

/* dx = rstd (dy w - x rstd mean(dy w x rstd)); the mean. */
template <typename input, typename grad, uint32_t V>
static __device__ inline float row_mean(const seam_rmsnorm_backward_args &a, size_t row,
                                        float rstd) {
    float sum = 0.0f, xs[V], ws[V], gs[V];
    for (uint32_t c = threadIdx.x * V; c < a.C; c += THREADS * V) {
        load(xs, (const input *)a.x + row + c);
        load(ws, (const float *)a.w + c);
        load(gs, (const grad *)a.dy + row + c);
        for (uint32_t i = 0; i < V; i++) {
            sum = fmaf(gs[i] * ws[i], xs[i] * rstd, sum);
        }
    }
    return block_sum(sum) / (float)a.C;
}

/* to + dx in place of dy w, from x rstd; one bit pattern in every kernel. */
template <uint32_t V>
static __device__ inline void gradient_values(float (&dyw)[V], const float (&xr)[V],
                                              const float (&to)[V], float rstd, float mean) {
    for (uint32_t i = 0; i < V; i++) {
        dyw[i] = fmaf(rstd, fmaf(-xr[i], mean, dyw[i]), to[i]);
    }
}

/* V values of dx from column c of the row on, written. */
template <typename input, typename grad, uint32_t V>
static __device__ inline void row_gradient(float (&gs)[V], const seam_rmsnorm_backward_args &a,
                                           size_t row, uint32_t c, float rstd, float mean) {
    float *dx = (float *)a.dx + row + c;
    float xs[V], ws[V];
    load(xs, (const input *)a.x + row + c);
    load(ws, (const float *)a.w + c);
    load(gs, (const grad *)a.dy + row + c);
    for (uint32_t i = 0; i < V; i++) {
        gs[i] *= ws[i];
        xs[i] *= rstd;
        ws[i] = 0.0f;
    }
    if (a.dx_add) {
        load(ws, dx);
    }
    gradient_values(gs, xs, ws, rstd, mean);
    store(dx, gs);
}

/* As forward_held_kernel; what is added to is on its way during the sum. */
template <typename act, typename input, typename grad>
static __global__ void __launch_bounds__(THREADS)
    backward_held_kernel(seam_rmsnorm_backward_args a) {
    const size_t row = (size_t)blockIdx.x * a.C;
    const float rstd = ((const float *)a.rstd)[blockIdx.x];
    float x[HELD / VECTOR][VECTOR], g[HELD / VECTOR][VECTOR], to[HELD / VECTOR][VECTOR] = {};
    float sum = 0.0f;
#pragma unroll
    for (uint32_t n = 0; n < HELD / VECTOR; n++) {
        const uint32_t c = (n * THREADS + threadIdx.x) * VECTOR;
        if (c < a.C) {
            float w[VECTOR];
            load(x[n], (const input *)a.x + row + c);
            load(g[n], (const grad *)a.dy + row + c);
            load(w, (const float *)a.w + c);
            if (a.dx_add) {
                load(to[n], (const float *)a.dx + row + c);
            }
            for (uint32_t i = 0; i < VECTOR; i++) {
                g[n][i] *= w[i];
                x[n][i] *= rstd;
                sum = fmaf(g[n][i], x[n][i], sum);
            }
        }
    }
    const float mean = block_sum(sum) / (float)a.C;
#pragma unroll
    for (uint32_t n = 0; n < HELD / VECTOR; n++) {
        const uint32_t c = (n * THREADS + threadIdx.x) * VECTOR;
        if (c < a.C) {
            gradient_values(g[n], x[n], to[n], rstd, mean);
            store((float *)a.dx + row + c, g[n]);
            if (a.dx_act != NULL) {
                store((act *)a.dx_act + row + c, g[n]);
            }
        }
    }
}

template <typename act, typename input, typename grad, uint32_t V>
static __global__ void backward_kernel(seam_rmsnorm_backward_args a) {
    const size_t row = (size_t)blockIdx.x * a.C;
    const float rstd = ((const float *)a.rstd)[blockIdx.x];
    const float mean = row_mean<input, grad, V>(a, row, rstd);
    for (uint32_t c = threadIdx.x * V; c < a.C; c += THREADS * V) {
        float gs[V];
        row_gradient<input, grad, V>(gs, a, row, c, rstd, mean);
        if (a.dx_act != NULL) {
            store((act *)a.dx_act + row + c, gs);
        }
    }
}

template <typename input, typename grad>
static __global__ void __launch_bounds__(THREADS)
    backward_fp8_kernel(seam_rmsnorm_backward_args a) {
    extern __shared__ uint4 rounded[];
    const size_t row = (size_t)blockIdx.x * a.C;
    const float rstd = ((const float *)a.rstd)[blockIdx.x];
    const float mean = row_mean<input, grad, VECTOR>(a, row, rstd);
    uint32_t largest = 0;
    for (uint32_t c = threadIdx.x * VECTOR; c < a.C; c += THREADS * VECTOR) {
        float gs[VECTOR];
        row_gradient<input, grad, VECTOR>(gs, a, row, c, rstd, mean);
        rounded[c / VECTOR] = pack_vector(gs);
        largest = fp8_largest(largest, rounded[c / VECTOR]);
    }
    fp8_row((__nv_bfloat16 *)a.dx_act + row, (float *)a.dx_act_scale + blockIdx.x, rounded, largest,
            a.C);
}

/* ---- launchers ---- */
/* Launches a kernel that rounds rows of C to FP8. */
template <typename args>
static seam_status fp8_launch(cudaStream_t queue, void (*kernel)(args), const args &a) {
    const int bytes = (int)(a.C * sizeof(__nv_bfloat16));
    SEAM_CUDA_TRY(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    kernel<<<a.T, THREADS, bytes, queue>>>(a);
    return SEAM_CUDA_LAUNCHED();
}

static bool forward_in_vectors(const seam_rmsnorm_forward_args &a) {
    return a.C % VECTOR == 0 && a.y_ld % VECTOR == 0 && vector_aligned(a.x) &&
           vector_aligned(a.y) && vector_aligned(a.w) && vector_aligned(a.x_act);
}

template <typename act, typename input>
static void forward_launch(cudaStream_t queue, const seam_rmsnorm_forward_args &a) {
    if (forward_in_vectors(a) && a.C <= THREADS * HELD) {
        forward_held_kernel<act, input><<<a.T, THREADS, 0, queue>>>(a);
    } else if (forward_in_vectors(a)) {
        forward_kernel<act, input, VECTOR><<<a.T, THREADS, 0, queue>>>(a);
    } else {
        forward_kernel<act, input, 1><<<a.T, THREADS, 0, queue>>>(a);
    }
}

seam_status seam_cuda_rmsnorm_forward(seam_stream *stream, const seam_rmsnorm_forward_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    seam_rmsnorm_forward_args a = *args;
    a.y_ld = a.y_ld != 0 ? a.y_ld : a.C;
    if (a.T == 0) {
        return SEAM_OK;
    }
    if (a.y_scale != NULL) {
        SEAM_ASSERT(forward_in_vectors(a) && a.C % 16 == 0);
        SEAM_ASSERT(a.C <= SEAM_CUDA_FP8_K_MAX && seam_cuda_act(stream) == SEAM_BF16);
        return a.x_is_act ? fp8_launch(queue, forward_fp8_kernel<__nv_bfloat16>, a)
                          : fp8_launch(queue, forward_fp8_kernel<float>, a);
    }
    if (a.x_is_act) {
        SEAM_CUDA_BY_ACT(stream, (forward_launch<act, act>(queue, a)));
    } else {
        SEAM_CUDA_BY_ACT(stream, (forward_launch<act, float>(queue, a)));
    }
    return SEAM_CUDA_LAUNCHED();
}

static bool backward_in_vectors(const seam_rmsnorm_backward_args &a) {
    return a.C % VECTOR == 0 && vector_aligned(a.x) && vector_aligned(a.dy) &&
           vector_aligned(a.w) && vector_aligned(a.dx) && vector_aligned(a.dx_act);
}

template <typename act, typename input, typename grad>
static seam_status backward_launch(cudaStream_t queue, const seam_rmsnorm_backward_args &a) {
    if (a.dx_act_scale != NULL) {
        SEAM_ASSERT(backward_in_vectors(a) && a.C % 16 == 0 && a.C <= SEAM_CUDA_FP8_K_MAX);
        return fp8_launch(queue, backward_fp8_kernel<input, grad>, a);
    }
    if (backward_in_vectors(a) && a.C <= THREADS * HELD) {
        backward_held_kernel<act, input, grad><<<a.T, THREADS, 0, queue>>>(a);
    } else if (backward_in_vectors(a)) {
        backward_kernel<act, input, grad, VECTOR><<<a.T, THREADS, 0, queue>>>(a);
    } else {
        backward_kernel<act, input, grad, 1><<<a.T, THREADS, 0, queue>>>(a);
    }
    return SEAM_CUDA_LAUNCHED();
}

template <typename act>
static seam_status backward_by_types(cudaStream_t queue, const seam_rmsnorm_backward_args &a) {
    if (a.x_is_act) {
        return a.dy_is_acc ? backward_launch<act, act, float>(queue, a)
                           : backward_launch<act, act, act>(queue, a);
    }
    return a.dy_is_acc ? backward_launch<act, float, float>(queue, a)
                       : backward_launch<act, float, act>(queue, a);
}

seam_status seam_cuda_rmsnorm_backward(seam_stream *stream,
                                       const seam_rmsnorm_backward_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    if (args->T == 0) {
        return SEAM_OK;
    }
    SEAM_ASSERT(args->dx_act_scale == NULL || seam_cuda_act(stream) == SEAM_BF16);
    SEAM_CUDA_BY_ACT(stream, return backward_by_types<act>(queue, *args));
}
