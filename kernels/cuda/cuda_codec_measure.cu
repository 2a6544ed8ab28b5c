/* The ranges of a tensor: lo and hi of each channel over its rows, and the largest magnitude.
 *
 * Grid (channels / (32 * V), rows / 128), block 8 warps: a warp takes every 8th row of 128, a lane
 * V neighbouring channels of it (16 bytes; V = 1 where rows are not on 16 bytes), 8 rows at a time
 * in flight.  The block's bounds go to the work block's keys by atomic maxima, whose order cannot
 * be seen.  A NaN goes through every minimum and maximum.  Bytes: the tensor once; bound by memory.
 *
 * Row blocks run from the last to the first, because encoding begins with the first: L2 still holds
 * some of them then. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda_codec.cuh"

#define WARPS          8u
#define THREADS        (WARPS * 32u)
#define ROWS_A_BLOCK   128u
#define ROWS_IN_FLIGHT 8u

/* ---- kernels ---- */
static __device__ inline float nan_min(float a, float b) {
    float r;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
}
static __device__ inline float nan_max(float a, float b) {
    float r;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
}

/* V values of a row as they lie, and their bounds. */
template <typename T, int V> struct lane_bounds;

template <int V> struct lane_bounds<float, V> {
    float lo[V], hi[V];
    struct value {
        alignas(sizeof(float) * V) float x[V];
    };
    __device__ void first(const value &v) {
        for (int i = 0; i < V; i++) {
            lo[i] = hi[i] = v.x[i];
        }
    }
    __device__ void take(const value &v) {
        for (int i = 0; i < V; i++) {
            lo[i] = nan_min(lo[i], v.x[i]);
            hi[i] = nan_max(hi[i], v.x[i]);
        }
    }
    __device__ float low(int i) const {
        return lo[i];
    }
    __device__ float high(int i) const {
        return hi[i];
    }
};

template <> struct lane_bounds<__nv_bfloat16, 8> {
    __nv_bfloat162 lo[4], hi[4];
    struct value {
        alignas(16) __nv_bfloat162 x[4];
    };
    __device__ void first(const value &v) {
        for (int i = 0; i < 4; i++) {
            lo[i] = hi[i] = v.x[i];
        }
    }
    __device__ void take(const value &v) {
        for (int i = 0; i < 4; i++) {
            lo[i] = __hmin2_nan(lo[i], v.x[i]);
            hi[i] = __hmax2_nan(hi[i], v.x[i]);
        }
    }
    __device__ float low(int i) const {
        return i % 2 == 0 ? __low2float(lo[i / 2]) : __high2float(lo[i / 2]);
    }
    __device__ float high(int i) const {
        return i % 2 == 0 ? __low2float(hi[i / 2]) : __high2float(hi[i / 2]);
    }
};

template <> struct lane_bounds<__nv_bfloat16, 1> {
    float lo, hi;
    struct value {
        __nv_bfloat16 x;
    };
    __device__ void first(const value &v) {
        lo = hi = __bfloat162float(v.x);
    }
    __device__ void take(const value &v) {
        lo = nan_min(lo, __bfloat162float(v.x));
        hi = nan_max(hi, __bfloat162float(v.x));
    }
    __device__ float low(int i) const {
        (void)i;
        return lo;
    }
    __device__ float high(int i) const {
        (void)i;
        return hi;
    }
};

/* Takes in row begin, begin + WARPS, ... below end; a row past the end is the last one again. */
template <typename T, int V>
static __device__ inline void rows_take(lane_bounds<T, V> &bounds, const seam_device_rows &rows,
                                        uint32_t c, uint32_t begin, uint32_t end) {
    typedef typename lane_bounds<T, V>::value value;
    const T *const x = (const T *)rows.x + c;
    bool any = false;
    for (uint32_t row = begin; row < end; row += WARPS * ROWS_IN_FLIGHT) {
        value values[ROWS_IN_FLIGHT];
#pragma unroll
        for (uint32_t i = 0; i < ROWS_IN_FLIGHT; i++) {
            const uint32_t at = min(row + i * WARPS, end - 1);
            const size_t source = rows.list != NULL ? rows.list[at] : at;
            values[i] = *(const value *)(x + source * rows.C);
        }
        if (!any) {
            bounds.first(values[0]);
            any = true;
        }
#pragma unroll
        for (uint32_t i = 0; i < ROWS_IN_FLIGHT; i++) {
            bounds.take(values[i]);
        }
    }
}

template <typename T, int V>
static __global__ void __launch_bounds__(THREADS)
    measure_kernel(codec_work work, seam_device_rows rows) {
    __shared__ float lo[WARPS][32 * V], hi[WARPS][32 * V];
    __shared__ uint32_t largest;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t first = blockIdx.x * 32 * V, c = first + lane * V;
    const uint32_t begin = (gridDim.y - 1 - blockIdx.y) * ROWS_A_BLOCK;
    const uint32_t end = min(begin + ROWS_A_BLOCK, rows.rows);
    const uint32_t warps = min(WARPS, end - begin); /* those that have a row */
    if (threadIdx.x == 0) {
        largest = 0;
    }
    if (warp < warps && c < rows.C) {
        lane_bounds<T, V> bounds;
        rows_take<T, V>(bounds, rows, c, begin + warp, end);
        for (int i = 0; i < V; i++) {
            lo[warp][lane * V + i] = bounds.low(i);
            hi[warp][lane * V + i] = bounds.high(i);
        }
    }
    __syncthreads();
    uint32_t magnitude = 0;
    for (uint32_t i = threadIdx.x; i < 32 * V && first + i < rows.C; i += THREADS) {
        float low = lo[0][i], high = hi[0][i];
        for (uint32_t w = 1; w < warps; w++) {
            low = nan_min(low, lo[w][i]);
            high = nan_max(high, hi[w][i]);
        }
        atomicMax(work.keys + first + i, ~float_key(low));
        atomicMax(work.keys + rows.C + first + i, float_key(high));
        magnitude = max(__float_as_uint(low) & 0x7fffffffu, __float_as_uint(high) & 0x7fffffffu);
    }
    magnitude = __reduce_max_sync(0xffffffffu, magnitude);
    if (lane == 0) {
        atomicMax(&largest, magnitude);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        atomicMax(work.magnitude, largest);
    }
}

/* ---- launchers ---- */
template <typename T, int V>
static void measure_launch(cudaStream_t queue, const codec_work &work,
                           const seam_device_rows &rows) {
    const dim3 grid((rows.C + 32 * V - 1) / (32 * V),
                    (rows.rows + ROWS_A_BLOCK - 1) / ROWS_A_BLOCK);
    measure_kernel<T, V><<<grid, THREADS, 0, queue>>>(work, rows);
}

seam_status seam_cuda_codec_measure(seam_stream *stream, const seam_device_work *work,
                                    const seam_device_rows *rows) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const codec_work at = codec_work_at(work->bytes, rows->C);
    const bool vector = (uintptr_t)rows->x % 16 == 0;
    SEAM_CUDA_TRY(cudaMemsetAsync(at.keys, 0, (2 * (size_t)rows->C + 2) * sizeof(uint32_t), queue));
    if (rows->rows == 0) {
        return SEAM_OK;
    }
    if (rows->type == SEAM_BF16) {
        if (vector && rows->C % 8 == 0) {
            measure_launch<__nv_bfloat16, 8>(queue, at, *rows);
        } else {
            measure_launch<__nv_bfloat16, 1>(queue, at, *rows);
        }
    } else if (vector && rows->C % 4 == 0) {
        measure_launch<float, 4>(queue, at, *rows);
    } else {
        measure_launch<float, 1>(queue, at, *rows);
    }
    return SEAM_CUDA_LAUNCHED();
}
