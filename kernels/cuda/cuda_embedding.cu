/* Rows of the embedding table.  A block of 128 threads a row; bytes: twice those of the rows. */
#include "cuda_device.cuh"

#define THREADS 128u

/* ---- kernels ---- */
template <typename word>
static __global__ void embedding_kernel(seam_embedding_forward_args a, const uint32_t *ids) {
    const word *row = (const word *)a.table + (size_t)ids[blockIdx.x] * a.C;
    word *y = (word *)a.y + (size_t)blockIdx.x * a.C;
    for (uint32_t c = threadIdx.x; c < a.C; c += THREADS) {
        y[c] = row[c];
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_embedding_forward(seam_stream *stream,
                                        const seam_embedding_forward_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_embedding_forward_args a = *args;
    void *ids = NULL;
    if (a.T == 0) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_cuda_scratch(&ids, stream, a.T * sizeof(uint32_t)));
    SEAM_CUDA_TRY(
        cudaMemcpyAsync(ids, a.ids, a.T * sizeof(uint32_t), cudaMemcpyHostToDevice, queue));
    if (a.type == SEAM_BF16) {
        embedding_kernel<uint16_t><<<a.T, THREADS, 0, queue>>>(a, (const uint32_t *)ids);
    } else if (a.type == SEAM_F32) {
        embedding_kernel<uint32_t><<<a.T, THREADS, 0, queue>>>(a, (const uint32_t *)ids);
    } else {
        embedding_kernel<uint64_t><<<a.T, THREADS, 0, queue>>>(a, (const uint32_t *)ids);
    }
    return SEAM_CUDA_LAUNCHED();
}
