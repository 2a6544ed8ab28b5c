/* SwiGLU forward and backward, elementwise.  A thread V neighbouring features of a row, 256 threads
 * a block.  Bytes an element: forward 3 act, backward 5 act; bound by memory. */
#include "cuda_device.cuh"

#define THREADS 256u

/* ---- kernels ---- */
template <typename act, uint32_t V>
static __global__ void forward_kernel(seam_swiglu_forward_args a) {
    const size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= (size_t)a.T * a.F) {
        return;
    }
    const act *gate = (const act *)a.gate_up + i / a.F * 2 * a.F + i % a.F;
    float g[V], u[V];
    load(g, gate);
    load(u, gate + a.F);
    for (uint32_t k = 0; k < V; k++) {
        g[k] = g[k] / (1.0f + expf(-g[k])) * u[k];
    }
    store((act *)a.y + i, g);
}

/* d_gate_up may be gate_up itself: a thread reads what it writes. */
template <typename act, uint32_t V>
static __global__ void backward_kernel(seam_swiglu_backward_args a) {
    const size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (i >= (size_t)a.T * a.F) {
        return;
    }
    const size_t at = i / a.F * 2 * a.F + i % a.F;
    const act *gate = (const act *)a.gate_up + at;
    act *d_gate = (act *)a.d_gate_up + at;
    float g[V], u[V], dy[V];
    load(g, gate);
    load(u, gate + a.F);
    load(dy, (const act *)a.dy + i);
    for (uint32_t k = 0; k < V; k++) {
        const float s = 1.0f / (1.0f + expf(-g[k])), x = g[k];
        g[k] = dy[k] * u[k] * s * (1.0f + x * (1.0f - s));
        u[k] = dy[k] * x * s;
    }
    store(d_gate, g);
    store(d_gate + a.F, u);
}

/* ---- launchers ---- */
static unsigned block_count(size_t count) {
    return (unsigned)((count + THREADS - 1) / THREADS);
}

seam_status seam_cuda_swiglu_forward(seam_stream *stream, const seam_swiglu_forward_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_swiglu_forward_args a = *args;
    const size_t count = (size_t)a.T * a.F;
    if (count == 0) {
        return SEAM_OK;
    }
    if (a.F % VECTOR == 0 && vector_aligned(a.y) && vector_aligned(a.gate_up)) {
        const unsigned blocks = block_count(count / VECTOR);
        SEAM_CUDA_BY_ACT(stream, (forward_kernel<act, VECTOR><<<blocks, THREADS, 0, queue>>>(a)));
    } else {
        const unsigned blocks = block_count(count);
        SEAM_CUDA_BY_ACT(stream, (forward_kernel<act, 1><<<blocks, THREADS, 0, queue>>>(a)));
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
    if (a.F % VECTOR == 0 && vector_aligned(a.dy) && vector_aligned(a.gate_up) &&
        vector_aligned(a.d_gate_up)) {
        const unsigned blocks = block_count(count / VECTOR);
        SEAM_CUDA_BY_ACT(stream, (backward_kernel<act, VECTOR><<<blocks, THREADS, 0, queue>>>(a)));
    } else {
        const unsigned blocks = block_count(count);
        SEAM_CUDA_BY_ACT(stream, (backward_kernel<act, 1><<<blocks, THREADS, 0, queue>>>(a)));
    }
    return SEAM_CUDA_LAUNCHED();
}
