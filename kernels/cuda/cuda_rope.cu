/* Rotary embedding in place: a block of 128 threads a row, a thread V pairs (i, i + D/2) at a time,
 * the same of every so many heads, whose angles it reads once.  Moves the heads' bytes once in and
 * once out, and a row of the table from cache; bound by memory. */
#include "cuda_device.cuh"

#define THREADS 128u

/* ---- kernels ---- */
template <typename act, uint32_t V>
static __global__ void rope_kernel(seam_rope_args a, const uint32_t *positions) {
    const uint32_t half = a.D / 2, chunks = half / V, lanes = min(chunks, THREADS);
    const uint32_t step = THREADS / lanes, first = threadIdx.x / lanes; /* heads at once; own */
    const float *cos_row = (const float *)a.cos_sin + (size_t)positions[blockIdx.x] * a.D;
    act *row = (act *)a.x + (size_t)blockIdx.x * a.ld;
    if (first >= step) {
        return;
    }
    for (uint32_t i = threadIdx.x % lanes * V; i < half; i += lanes * V) {
        float c[V], s[V];
        load(c, cos_row + i);
        load(s, cos_row + half + i);
        for (uint32_t j = 0; j < V; j++) {
            s[j] = a.backward ? -s[j] : s[j];
        }
        for (uint32_t h = first; h < a.heads; h += step) {
            act *x = row + (size_t)h * a.D + i;
            float lo[V], hi[V];
            load(lo, x);
            load(hi, x + half);
            for (uint32_t j = 0; j < V; j++) {
                const float low = lo[j];
                lo[j] = low * c[j] - hi[j] * s[j];
                hi[j] = hi[j] * c[j] + low * s[j];
            }
            store(x, lo);
            store(x + half, hi);
        }
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_rope(seam_stream *stream, const seam_rope_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_rope_args a = *args;
    const bool vector = a.D % (2 * VECTOR) == 0 && a.ld % VECTOR == 0 && vector_aligned(a.x) &&
                        vector_aligned(a.cos_sin);
    const uint32_t *positions = NULL;
    SEAM_ASSERT(a.D % 2 == 0);
    if (a.T == 0) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_cuda_array(&positions, stream, SEAM_CUDA_POSITIONS, a.positions, a.T));
    if (vector) {
        SEAM_CUDA_BY_ACT(stream,
                         (rope_kernel<act, VECTOR><<<a.T, THREADS, 0, queue>>>(a, positions)));
    } else {
        SEAM_CUDA_BY_ACT(stream, (rope_kernel<act, 1><<<a.T, THREADS, 0, queue>>>(a, positions)));
    }
    return SEAM_CUDA_LAUNCHED();
}
