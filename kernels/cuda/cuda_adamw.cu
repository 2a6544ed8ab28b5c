/* AdamW with decoupled decay: param -= lr (m^ / (sqrt(v^) + eps) + decay param).
 * A thread V neighbouring elements, 256 threads a block, one launch.  Bytes an element: 16 read, 16
 * written, and the copy; bound by memory.  No contraction: both ends of an adapter exchange make
 * the same bits of it, whatever they run on (WIRE.md 4.1). */
#include "cuda_device.cuh"

#define THREADS 256u

/* ---- kernels ---- */
/* The first n of V elements are there. */
template <uint32_t V, typename T>
static __device__ inline void load_some(float (&x)[V], const T *p, uint32_t n) {
    if (n == V) {
        load(x, p);
    } else {
        for (uint32_t i = 0; i < V; i++) {
            x[i] = i < n ? to_f32(p[i]) : 0.0f;
        }
    }
}
template <uint32_t V, typename T>
static __device__ inline void store_some(T *p, const float (&x)[V], uint32_t n) {
    if (n == V) {
        store(p, x);
    } else {
        for (uint32_t i = 0; i < V; i++) {
            if (i < n) {
                store_f32(p + i, x[i]);
            }
        }
    }
}

template <typename act, uint32_t V>
static __global__ void adamw_kernel(seam_adamw_args a, float fix1, float fix2) {
    const size_t at = ((size_t)blockIdx.x * THREADS + threadIdx.x) * V;
    if (at >= a.count) {
        return;
    }
    const uint32_t n = a.count - at < V ? (uint32_t)(a.count - at) : V;
    float param[V], grad[V], m[V], v[V];
    load_some(param, (const float *)a.param + at, n);
    load_some(grad, (const float *)a.grad + at, n);
    load_some(m, (const float *)a.m + at, n);
    load_some(v, (const float *)a.v + at, n);
    for (uint32_t i = 0; i < V; i++) {
        const float g = __fmul_rn(grad[i], a.grad_scale);
        m[i] = __fadd_rn(__fmul_rn(a.beta1, m[i]), __fmul_rn(1.0f - a.beta1, g));
        v[i] = __fadd_rn(__fmul_rn(a.beta2, v[i]), __fmul_rn(__fmul_rn(1.0f - a.beta2, g), g));
        const float root = __fsqrt_rn(__fmul_rn(v[i], fix2));
        const float update = __fdiv_rn(__fmul_rn(m[i], fix1), __fadd_rn(root, a.eps));
        const float step = __fadd_rn(update, __fmul_rn(a.weight_decay, param[i]));
        param[i] = __fsub_rn(param[i], __fmul_rn(a.lr, step));
        grad[i] = 0.0f;
    }
    store_some((float *)a.param + at, param, n);
    store_some((float *)a.grad + at, grad, n);
    store_some((float *)a.m + at, m, n);
    store_some((float *)a.v + at, v, n);
    if (a.copy != NULL) {
        store_some((act *)a.copy + at, param, n);
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_adamw(seam_stream *stream, const seam_adamw_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_adamw_args a = *args;
    const double step = (double)a.step;
    const bool vector = vector_aligned(a.param) && vector_aligned(a.m) && vector_aligned(a.v) &&
                        vector_aligned(a.grad) && vector_aligned(a.copy);
    const size_t block = THREADS * (vector ? VECTOR : 1);
    const unsigned blocks = (unsigned)((a.count + block - 1) / block);
    SEAM_ASSERT(a.step >= 1);
    if (a.count == 0) {
        return SEAM_OK;
    }
    const float fix1 = (float)(1.0 / (1.0 - pow((double)a.beta1, step)));
    const float fix2 = (float)(1.0 / (1.0 - pow((double)a.beta2, step)));
    if (vector) {
        SEAM_CUDA_BY_ACT(stream,
                         (adamw_kernel<act, VECTOR><<<blocks, THREADS, 0, queue>>>(a, fix1, fix2)));
    } else {
        SEAM_CUDA_BY_ACT(stream,
                         (adamw_kernel<act, 1><<<blocks, THREADS, 0, queue>>>(a, fix1, fix2)));
    }
    return SEAM_CUDA_LAUNCHED();
}
