/* Rotary embedding in place: a block of 128 threads a row, a thread a pair (i, i + D/2).
 * Moves the heads' bytes once in and once out; bound by memory. */
#include "cuda_device.cuh"

#define THREADS 128u

/* ---- kernels ---- */
template <typename act>
static __global__ void rope_kernel(seam_rope_args a, const uint32_t *positions) {
    const uint32_t half = a.D / 2;
    const float *cos_row = (const float *)a.cos_sin + (size_t)positions[blockIdx.x] * a.D;
    act *row = (act *)a.x + (size_t)blockIdx.x * a.ld;
    for (uint32_t k = threadIdx.x; k < a.heads * half; k += THREADS) {
        const uint32_t i = k % half;
        act *x = row + (size_t)(k / half) * a.D + i;
        const float c = cos_row[i], s = a.backward ? -cos_row[half + i] : cos_row[half + i];
        const float lo = to_f32(x[0]), hi = to_f32(x[half]);
        store_f32(x, lo * c - hi * s);
        store_f32(x + half, hi * c + lo * s);
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_rope(seam_stream *stream, const seam_rope_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_rope_args a = *args;
    void *positions = NULL;
    SEAM_ASSERT(a.D % 2 == 0);
    if (a.T == 0) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_cuda_scratch(&positions, stream, a.T * sizeof(uint32_t)));
    SEAM_CUDA_TRY(cudaMemcpyAsync(positions, a.positions, a.T * sizeof(uint32_t),
                                  cudaMemcpyHostToDevice, queue));
    SEAM_CUDA_BY_ACT(
        stream, (rope_kernel<act><<<a.T, THREADS, 0, queue>>>(a, (const uint32_t *)positions)));
    return SEAM_CUDA_LAUNCHED();
}
