/* RMSNorm and its input gradient.  A block of 256 threads a row; two passes over the row, the
 * second from cache.  Bytes a row: forward C (4 + act, + act with x_act), backward C (x + dy + 4 or
 * 8, + act with dx_act); bound by memory. */
#include "cuda_device.cuh"

#define THREADS 256u

/* ---- kernels ---- */
template <typename act, typename input, uint32_t V>
static __global__ void forward_kernel(seam_rmsnorm_forward_args a) {
    const size_t row = (size_t)blockIdx.x * a.C;
    const input *x = (const input *)a.x + row;
    const float *w = (const float *)a.w;
    act *y = (act *)a.y + row;
    float sum = 0.0f, xs[V], ws[V];
    for (uint32_t c = threadIdx.x * V; c < a.C; c += THREADS * V) {
        load(xs, x + c);
        for (uint32_t i = 0; i < V; i++) {
            sum += xs[i] * xs[i];
        }
    }
    const float rstd = 1.0f / sqrtf(block_sum(sum) / (float)a.C + a.eps);
    if (threadIdx.x == 0 && a.rstd != NULL) {
        ((float *)a.rstd)[blockIdx.x] = rstd;
    }
    for (uint32_t c = threadIdx.x * V; c < a.C; c += THREADS * V) {
        load(xs, x + c);
        load(ws, w + c);
        if (a.x_act != NULL) {
            store((act *)a.x_act + row + c, xs);
        }
        for (uint32_t i = 0; i < V; i++) {
            xs[i] *= rstd * ws[i];
        }
        store(y + c, xs);
    }
}

/* dx = rstd (dy w - x rstd mean(dy w x rstd)) */
template <typename act, typename input, typename grad, uint32_t V>
static __global__ void backward_kernel(seam_rmsnorm_backward_args a) {
    const size_t row = (size_t)blockIdx.x * a.C;
    const input *x = (const input *)a.x + row;
    const float *w = (const float *)a.w;
    const grad *dy = (const grad *)a.dy + row;
    float *dx = (float *)a.dx + row;
    const float rstd = ((const float *)a.rstd)[blockIdx.x];
    float sum = 0.0f, xs[V], ws[V], gs[V];
    for (uint32_t c = threadIdx.x * V; c < a.C; c += THREADS * V) {
        load(xs, x + c);
        load(ws, w + c);
        load(gs, dy + c);
        for (uint32_t i = 0; i < V; i++) {
            sum += gs[i] * ws[i] * (xs[i] * rstd);
        }
    }
    const float mean = block_sum(sum) / (float)a.C;
    for (uint32_t c = threadIdx.x * V; c < a.C; c += THREADS * V) {
        load(xs, x + c);
        load(ws, w + c);
        load(gs, dy + c);
        for (uint32_t i = 0; i < V; i++) {
            gs[i] = rstd * (gs[i] * ws[i] - xs[i] * rstd * mean);
        }
        if (a.dx_add) {
            load(xs, dx + c);
            for (uint32_t i = 0; i < V; i++) {
                gs[i] += xs[i];
            }
        }
        store(dx + c, gs);
        if (a.dx_act != NULL) {
            store((act *)a.dx_act + row + c, gs);
        }
    }
}

/* ---- launchers ---- */
template <typename act, typename input>
static void forward_launch(cudaStream_t queue, const seam_rmsnorm_forward_args &a) {
    if (a.C % VECTOR == 0 && vector_aligned(a.x) && vector_aligned(a.y) && vector_aligned(a.w) &&
        vector_aligned(a.x_act)) {
        forward_kernel<act, input, VECTOR><<<a.T, THREADS, 0, queue>>>(a);
    } else {
        forward_kernel<act, input, 1><<<a.T, THREADS, 0, queue>>>(a);
    }
}

seam_status seam_cuda_rmsnorm_forward(seam_stream *stream, const seam_rmsnorm_forward_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    if (args->T == 0) {
        return SEAM_OK;
    }
    if (args->x_is_act) {
        SEAM_CUDA_BY_ACT(stream, (forward_launch<act, act>(queue, *args)));
    } else {
        SEAM_CUDA_BY_ACT(stream, (forward_launch<act, float>(queue, *args)));
    }
    return SEAM_CUDA_LAUNCHED();
}

template <typename act, typename input, typename grad>
static void backward_launch(cudaStream_t queue, const seam_rmsnorm_backward_args &a) {
    if (a.C % VECTOR == 0 && vector_aligned(a.x) && vector_aligned(a.dy) && vector_aligned(a.w) &&
        vector_aligned(a.dx) && vector_aligned(a.dx_act)) {
        backward_kernel<act, input, grad, VECTOR><<<a.T, THREADS, 0, queue>>>(a);
    } else {
        backward_kernel<act, input, grad, 1><<<a.T, THREADS, 0, queue>>>(a);
    }
}

template <typename act>
static void backward_by_types(cudaStream_t queue, const seam_rmsnorm_backward_args &a) {
    if (a.x_is_act) {
        a.dy_is_acc ? backward_launch<act, act, float>(queue, a)
                    : backward_launch<act, act, act>(queue, a);
    } else {
        a.dy_is_acc ? backward_launch<act, float, float>(queue, a)
                    : backward_launch<act, float, act>(queue, a);
    }
}

seam_status seam_cuda_rmsnorm_backward(seam_stream *stream,
                                       const seam_rmsnorm_backward_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    if (args->T == 0) {
        return SEAM_OK;
    }
    SEAM_CUDA_BY_ACT(stream, backward_by_types<act>(queue, *args));
    return SEAM_CUDA_LAUNCHED();
}
