/* AdamW with decoupled decay: param -= lr (m^ / (sqrt(v^) + eps) + decay param).
 * A thread an element, 256 a block, one launch.  Bytes an element: 16 read, 16 written, and the
 * copy; bound by memory. */
#include "cuda_device.cuh"

#define THREADS 256u

/* ---- kernels ---- */
template <typename act>
static __global__ void adamw_kernel(seam_adamw_args a, float fix1, float fix2) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.count) {
        return;
    }
    float *param = (float *)a.param, *grad = (float *)a.grad;
    float *m = (float *)a.m, *v = (float *)a.v;
    const float g = grad[i] * a.grad_scale;
    m[i] = a.beta1 * m[i] + (1.0f - a.beta1) * g;
    v[i] = a.beta2 * v[i] + (1.0f - a.beta2) * g * g;
    const float update = m[i] * fix1 / (sqrtf(v[i] * fix2) + a.eps);
    const float value = param[i] - a.lr * (update + a.weight_decay * param[i]);
    param[i] = value;
    grad[i] = 0.0f;
    if (a.copy != NULL) {
        store_f32((act *)a.copy + i, value);
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_adamw(seam_stream *stream, const seam_adamw_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_adamw_args a = *args;
    const double step = (double)a.step;
    const unsigned blocks = (unsigned)((a.count + THREADS - 1) / THREADS);
    SEAM_ASSERT(a.step >= 1);
    if (a.count == 0) {
        return SEAM_OK;
    }
    const float fix1 = (float)(1.0 / (1.0 - pow((double)a.beta1, step)));
    const float fix2 = (float)(1.0 / (1.0 - pow((double)a.beta2, step)));
    SEAM_CUDA_BY_ACT(stream, (adamw_kernel<act><<<blocks, THREADS, 0, queue>>>(a, fix1, fix2)));
    return SEAM_CUDA_LAUNCHED();
}
