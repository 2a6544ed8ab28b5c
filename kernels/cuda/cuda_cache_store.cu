/* New keys and values to their places in a cache.  Grid (cols / 256, T), a thread a column of both;
 * bound by its launch: a token's rows are some KB. */
#include "cuda_device.cuh"

#define THREADS 256u

/* ---- kernels ---- */
template <typename act>
static __global__ void store_kernel(seam_cache_store_args a, const uint32_t *slots,
                                    const uint32_t *positions) {
    const uint32_t c = blockIdx.x * THREADS + threadIdx.x, t = blockIdx.y;
    const size_t at = (slots[t] * (size_t)a.positions_max + positions[t]) * a.cols + c;
    const size_t from = (size_t)t * a.ld + c;
    if (c < a.cols) {
        ((act *)a.k_cache)[at] = ((const act *)a.k)[from];
        ((act *)a.v_cache)[at] = ((const act *)a.v)[from];
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_cache_store(seam_stream *stream, const seam_cache_store_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_cache_store_args a = *args;
    const uint32_t *slots = NULL, *positions = NULL;
    if (a.T == 0) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_cuda_array(&slots, stream, SEAM_CUDA_SLOTS, a.slots, a.T));
    SEAM_TRY(seam_cuda_array(&positions, stream, SEAM_CUDA_SLOT_POSITIONS, a.positions, a.T));
    const dim3 grid((a.cols + THREADS - 1) / THREADS, a.T);
    SEAM_CUDA_BY_ACT(stream, (store_kernel<act><<<grid, THREADS, 0, queue>>>(a, slots, positions)));
    return SEAM_CUDA_LAUNCHED();
}
