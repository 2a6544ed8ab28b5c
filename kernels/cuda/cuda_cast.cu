/* Casts between f64, f32 and bf16.  Grid: a thread an element, or VECTOR neighbours where f64 is
 * not among the types and both sides lie on 16 bytes; 256 a block.  Moves each element once in and
 * once out; bound by memory. */
#include "cuda_device.cuh"

#define THREADS 256u

/* ---- kernels ---- */
static __device__ inline double to_f64(double x) {
    return x;
}
static __device__ inline double to_f64(float x) {
    return (double)x;
}
static __device__ inline double to_f64(__nv_bfloat16 x) {
    return (double)__bfloat162float(x);
}
static __device__ inline void store_f64(double *p, double x) {
    *p = x;
}
static __device__ inline void store_f64(float *p, double x) {
    *p = (float)x;
}
static __device__ inline void store_f64(__nv_bfloat16 *p, double x) {
    *p = __float2bfloat16_rn((float)x);
}

template <typename D, typename S>
static __global__ void cast_kernel(D *dst, const S *src, size_t count) {
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count) {
        if constexpr (sizeof(D) <= 4 && sizeof(S) <= 4) {
            store_f32(dst + i, to_f32(src[i]));
        } else {
            store_f64(dst + i, to_f64(src[i]));
        }
    }
}

/* The count is a multiple of VECTOR. */
template <typename D, typename S>
static __global__ void cast_vector_kernel(D *dst, const S *src, size_t count) {
    const size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * VECTOR;
    float x[VECTOR];
    if (i < count) {
        load(x, src + i);
        store(dst + i, x);
    }
}

/* ---- launchers ---- */
template <typename D, typename S>
static void cast_launch(cudaStream_t queue, D *dst, const S *src, size_t count) {
    if constexpr (sizeof(D) <= 4 && sizeof(S) <= 4) {
        if (count % VECTOR == 0 && vector_aligned(dst) && vector_aligned(src)) {
            const size_t block = THREADS * VECTOR;
            cast_vector_kernel<<<(unsigned)((count + block - 1) / block), THREADS, 0, queue>>>(
                dst, src, count);
            return;
        }
    }
    cast_kernel<<<(unsigned)((count + THREADS - 1) / THREADS), THREADS, 0, queue>>>(dst, src,
                                                                                    count);
}

template <typename D>
static void cast_from(cudaStream_t queue, D *dst, const void *src, seam_dtype src_type,
                      size_t count) {
    switch (src_type) {
    case SEAM_F64:
        cast_launch(queue, dst, (const double *)src, count);
        break;
    case SEAM_F32:
        cast_launch(queue, dst, (const float *)src, count);
        break;
    case SEAM_BF16:
        cast_launch(queue, dst, (const __nv_bfloat16 *)src, count);
        break;
    }
}

seam_status seam_cuda_cast(seam_stream *stream, void *dst, seam_dtype dst_type, const void *src,
                           seam_dtype src_type, size_t count) {
    cudaStream_t queue = seam_cuda_queue(stream);
    if (count == 0) {
        return SEAM_OK;
    }
    if (dst_type == src_type) {
        return seam_cuda_status(cudaMemcpyAsync(dst, src, count * seam_dtype_bytes(dst_type),
                                                cudaMemcpyDeviceToDevice, queue));
    }
    switch (dst_type) {
    case SEAM_F64:
        cast_from(queue, (double *)dst, src, src_type, count);
        break;
    case SEAM_F32:
        cast_from(queue, (float *)dst, src, src_type, count);
        break;
    case SEAM_BF16:
        cast_from(queue, (__nv_bfloat16 *)dst, src, src_type, count);
        break;
    }
    return SEAM_CUDA_LAUNCHED();
}
