/* A copy of a product's input for a LoRA pair with dropout: zero where x is dropped.
 *
 * Grid (T, C / 2048), 256 threads, a thread eight channels: one draw of Philox.  Bytes: x in and
 * out once; bound by them. */
#include "cuda_device.cuh"
#include "cuda_philox.cuh"

#define THREADS 256u

/* ---- kernels ---- */
template <typename act>
static __global__ void kept_kernel(act *dst, const act *src, size_t src_ld, uint32_t C,
                                   const seam_dropout dropout) {
    const uint32_t eighth = blockIdx.y * THREADS + threadIdx.x, row = blockIdx.x;
    const uint32_t kept = dropout_kept(dropout, row, eighth);
    for (uint32_t j = 0; j < 8 && 8 * eighth + j < C; j++) {
        const uint32_t c = 8 * eighth + j;
        const float x = to_f32(src[row * src_ld + c]);
        store_f32(dst + (size_t)row * C + c, (kept >> j & 1) != 0 ? x : 0.0f);
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_kept_copy(seam_stream *stream, void *dst, const void *src, uint32_t src_ld,
                                uint32_t T, uint32_t C, const seam_dropout *dropout) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const dim3 grid(T, (C + 8 * THREADS - 1) / (8 * THREADS));
    SEAM_CUDA_BY_ACT(stream, (kept_kernel<act><<<grid, THREADS, 0, queue>>>(
                                 (act *)dst, (const act *)src, src_ld, C, *dropout)));
    return SEAM_CUDA_LAUNCHED();
}
