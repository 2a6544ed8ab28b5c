/* Cross-entropy over the vocabulary and its gradient.  A block of 512 threads a row, two passes:
 * maximum, its lowest index and the sum of exponentials in one (rescaled when the maximum grows),
 * then the gradient.  Bytes a row: V (4 + 4 + act), the second read from cache; bound by memory. */
#include "cuda_device.cuh"

#define THREADS 512u

/* ---- kernels ---- */
typedef struct peak {
    float max, sum; /* sum of exp(x - max) */
    uint32_t idx;
} peak;

static __device__ inline peak peak_join(peak x, peak y) {
    const bool first = x.max > y.max || (x.max == y.max && x.idx < y.idx);
    const peak hi = first ? x : y, lo = first ? y : x;
    const float share = lo.sum == 0.0f ? 0.0f : lo.sum * expf(lo.max - hi.max);
    return {hi.max, hi.sum + share, hi.idx};
}

static __device__ inline peak peak_of_row(const float *logits, uint32_t V) {
    __shared__ peak part[THREADS / 32];
    peak best = {-INFINITY, 0.0f, UINT32_MAX};
    for (uint32_t j = threadIdx.x; j < V; j += THREADS) {
        best = peak_join(best, {logits[j], 1.0f, j});
    }
    for (int step = 16; step > 0; step /= 2) {
        best = peak_join(best, {__shfl_down_sync(0xffffffffu, best.max, step),
                                __shfl_down_sync(0xffffffffu, best.sum, step),
                                __shfl_down_sync(0xffffffffu, best.idx, step)});
    }
    if (threadIdx.x % 32 == 0) {
        part[threadIdx.x / 32] = best;
    }
    __syncthreads();
    best = part[0];
    for (uint32_t i = 1; i < THREADS / 32; i++) {
        best = peak_join(best, part[i]);
    }
    return best;
}

/* Two subtractions: max + log_sum in f32 would lose log_sum beside a large max. */
template <typename act>
static __global__ void loss_kernel(seam_cross_entropy_args a, const uint32_t *targets,
                                   uint32_t *argmax) {
    const uint32_t t = blockIdx.x, target = targets[t];
    const float *logits = (const float *)a.logits + (size_t)t * a.V;
    const peak best = peak_of_row(logits, a.V);
    const float log_sum = logf(best.sum);
    if (threadIdx.x == 0) {
        ((float *)a.loss)[t] = (best.max - logits[target]) + log_sum;
        argmax[t] = best.idx;
    }
    act *d = (act *)a.d_logits + (size_t)t * a.V;
    for (uint32_t j = threadIdx.x; a.d_logits != NULL && j < a.V; j += THREADS) {
        const float p = expf((logits[j] - best.max) - log_sum);
        store_f32(d + j, a.grad_scale * (j == target ? p - 1.0f : p));
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_cross_entropy(seam_stream *stream, const seam_cross_entropy_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_cross_entropy_args a = *args;
    const size_t bytes = a.T * sizeof(uint32_t);
    void *targets = NULL;
    if (a.T == 0) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_cuda_scratch(&targets, stream, 2 * bytes));
    uint32_t *argmax = (uint32_t *)targets + a.T;
    SEAM_CUDA_TRY(cudaMemcpyAsync(targets, a.targets, bytes, cudaMemcpyHostToDevice, queue));
    SEAM_CUDA_BY_ACT(stream, (loss_kernel<act>
                              <<<a.T, THREADS, 0, queue>>>(a, (const uint32_t *)targets, argmax)));
    SEAM_CUDA_TRY(cudaGetLastError());
    if (a.argmax == NULL) {
        return SEAM_OK;
    }
    SEAM_CUDA_TRY(cudaMemcpyAsync(a.argmax, argmax, bytes, cudaMemcpyDeviceToHost, queue));
    return seam_cuda_status(cudaStreamSynchronize(queue)); /* argmax is the host's */
}
