/* Hash of a tensor's bits.  BLOCKS blocks of 256 threads, each thread every (BLOCKS * 256)th word;
 * the blocks' sums meet in one integer, in whatever order, which changes no bit of it.  Reads 4
 * bytes an element; bound by memory. */
#include "cuda_device.cuh"

#define THREADS 256u
#define BLOCKS  512u

/* ---- kernels ---- */
static __global__ void hash_kernel(unsigned long long *hash, const uint32_t *words, size_t count) {
    unsigned long long sum = 0;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < count; i += BLOCKS * THREADS) {
        unsigned long long z = (unsigned long long)words[i] | (unsigned long long)i << 32;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ z >> 27) * 0x94d049bb133111ebull;
        sum += z ^ z >> 31;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        atomicAdd(hash, sum);
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_hash(seam_stream *stream, uint64_t *ret_hash, const void *x, size_t count) {
    cudaStream_t queue = seam_cuda_queue(stream);
    void *hash = NULL;
    SEAM_TRY(seam_cuda_scratch(&hash, stream, sizeof *ret_hash));
    SEAM_CUDA_TRY(cudaMemsetAsync(hash, 0, sizeof *ret_hash, queue));
    hash_kernel<<<BLOCKS, THREADS, 0, queue>>>((unsigned long long *)hash, (const uint32_t *)x,
                                               count);
    SEAM_CUDA_TRY(cudaGetLastError());
    SEAM_CUDA_TRY(cudaMemcpyAsync(ret_hash, hash, sizeof *ret_hash, cudaMemcpyDeviceToHost, queue));
    return seam_cuda_status(cudaStreamSynchronize(queue)); /* the hash is the host's */
}
