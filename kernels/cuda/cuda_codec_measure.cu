/* The ranges of a tensor: lo and hi of each channel over its rows, and the largest magnitude.
 *
 * Grid (channels / (32 * V), row blocks), block 8 warps: chunks of 32 rows from the tensor's end to
 * its begin, which the row blocks take in turn; a warp takes every 8th row of a chunk, a lane V
 * neighbouring channels of it (16 bytes; V = 1 where rows are not on 16 bytes), the next chunk's
 * rows on their way; as many row blocks as are resident at once, since each ends with a reduction.
 * The block's bounds go to the work block's keys by atomic maxima, whose order cannot be seen.  A
 * NaN goes through every minimum and maximum.  Bytes: the tensor once; bound by memory.
 *
 * From the end, because encoding begins with the first rows: L2 still holds some of them then (of
 * 6144 x 4096 f32 that is 0.5 to 1.7 us of 61 on an H200, of bf16 nothing).  Eight rows a warp on
 * their way: the same; six blocks a multiprocessor: f32 0.3 us less, bf16 1.2 more. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda_codec.cuh"

#define WARPS          8u
#define THREADS        (WARPS * 32u)
#define BLOCKS_AN_SM   3u
#define ROWS_IN_FLIGHT 4u
#define CHUNK_ROWS     (WARPS * ROWS_IN_FLIGHT)

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

/* A lane's V values of a row as they lie, and bounds of such; bf16 in pairs. */
template <typename T, int V> struct lane_values {
    typedef T word;
    word x[V];
    __device__ void load(const T *p) {
        if constexpr (V * sizeof(T) == 16) {
            const uint4 raw = __ldg((const uint4 *)p);
            memcpy(x, &raw, sizeof raw);
        } else {
            x[0] = p[0];
        }
    }
    static __device__ word low(word a, word b) {
        return nan_min(a, b);
    }
    static __device__ word high(word a, word b) {
        return nan_max(a, b);
    }
    __device__ float get(int i) const {
        return x[i];
    }
    static const int words = V;
};

template <> struct lane_values<__nv_bfloat16, 8> {
    typedef __nv_bfloat162 word;
    word x[4];
    __device__ void load(const __nv_bfloat16 *p) {
        const uint4 raw = __ldg((const uint4 *)p);
        memcpy(x, &raw, sizeof raw);
    }
    static __device__ word low(word a, word b) {
        return __hmin2_nan(a, b);
    }
    static __device__ word high(word a, word b) {
        return __hmax2_nan(a, b);
    }
    __device__ float get(int i) const {
        return i % 2 == 0 ? __low2float(x[i / 2]) : __high2float(x[i / 2]);
    }
    static const int words = 4;
};

template <> struct lane_values<__nv_bfloat16, 1> {
    typedef float word;
    word x[1];
    __device__ void load(const __nv_bfloat16 *p) {
        x[0] = __bfloat162float(p[0]);
    }
    static __device__ word low(word a, word b) {
        return nan_min(a, b);
    }
    static __device__ word high(word a, word b) {
        return nan_max(a, b);
    }
    __device__ float get(int i) const {
        return x[i];
    }
    static const int words = 1;
};

template <typename T, int V> struct lane_bounds { lane_values<T, V> lo, hi; };

/* The rows of chunk `chunk`, counted from the tensor's end, that are the warp's; past its begin row
 * 0 again. */
template <typename T, int V>
static __device__ inline void chunk_load(lane_values<T, V> (&ret)[ROWS_IN_FLIGHT],
                                         const seam_device_rows &rows, uint32_t c, uint32_t chunk) {
#pragma unroll
    for (uint32_t i = 0; i < ROWS_IN_FLIGHT; i++) {
        const uint32_t back = chunk * CHUNK_ROWS + i * WARPS + threadIdx.x / 32 + 1;
        const uint32_t at = rows.rows - min(back, rows.rows);
        const size_t row = rows.list != NULL ? rows.list[at] : at;
        ret[i].load((const T *)rows.x + row * rows.C + c);
    }
}

/* Bounds of every gridDim.y'th chunk. */
template <typename T, int V>
static __device__ inline void chunks_take(lane_bounds<T, V> *ret, const seam_device_rows &rows,
                                          uint32_t c, uint32_t chunks) {
    typedef lane_values<T, V> values;
    values next[ROWS_IN_FLIGHT];
    chunk_load<T, V>(next, rows, c, blockIdx.y);
    ret->lo = ret->hi = next[0];
    for (uint32_t chunk = blockIdx.y; chunk < chunks; chunk += gridDim.y) {
        values own[ROWS_IN_FLIGHT];
#pragma unroll
        for (uint32_t i = 0; i < ROWS_IN_FLIGHT; i++) {
            own[i] = next[i];
        }
        if (chunk + gridDim.y < chunks) {
            chunk_load<T, V>(next, rows, c, chunk + gridDim.y);
        }
#pragma unroll
        for (uint32_t i = 0; i < ROWS_IN_FLIGHT; i++) {
#pragma unroll
            for (int j = 0; j < values::words; j++) {
                ret->lo.x[j] = values::low(ret->lo.x[j], own[i].x[j]);
                ret->hi.x[j] = values::high(ret->hi.x[j], own[i].x[j]);
            }
        }
    }
}

template <typename T, int V>
static __global__ void __launch_bounds__(THREADS, BLOCKS_AN_SM)
    measure_kernel(codec_work work, seam_device_rows rows, uint32_t chunks) {
    __shared__ float lo[WARPS][32 * V], hi[WARPS][32 * V];
    __shared__ uint32_t largest;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, C = rows.C;
    const uint32_t first = blockIdx.x * 32 * V, c = first + lane * V;
    launch_wait(); /* the rows are there */
    launch_next();
    const codec_bounds bounds = codec_bounds_at(work, C, *work.turn);
    if (threadIdx.x == 0) {
        largest = 0;
        if (blockIdx.x == 0 && blockIdx.y == 0) {
            *work.status = 0;
        }
    }
    if (c < C) {
        lane_bounds<T, V> own;
        chunks_take<T, V>(&own, rows, c, chunks);
        for (int i = 0; i < V; i++) {
            lo[warp][lane * V + i] = own.lo.get(i);
            hi[warp][lane * V + i] = own.hi.get(i);
        }
    }
    __syncthreads();
    uint32_t magnitude = 0;
    for (uint32_t i = threadIdx.x; i < 32 * V && first + i < C; i += THREADS) {
        float low = lo[0][i], high = hi[0][i];
        for (uint32_t w = 1; w < WARPS; w++) {
            low = nan_min(low, lo[w][i]);
            high = nan_max(high, hi[w][i]);
        }
        atomicMax(bounds.low + first + i, ~float_key(low));
        atomicMax(bounds.high + first + i, float_key(high));
        magnitude = max(__float_as_uint(low) & 0x7fffffffu, __float_as_uint(high) & 0x7fffffffu);
    }
    magnitude = __reduce_max_sync(0xffffffffu, magnitude);
    if (lane == 0) {
        atomicMax(&largest, magnitude);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        atomicMax(bounds.magnitude, largest);
    }
}

/* ---- launchers ---- */
template <typename T, int V>
static seam_status measure_launch(seam_stream *stream, const codec_work &work,
                                  const seam_device_rows &rows) {
    const uint32_t columns = (rows.C + 32 * V - 1) / (32 * V);
    const uint32_t blocks_max = max(1u, seam_cuda_processors(stream) * BLOCKS_AN_SM / columns);
    const uint32_t chunks = (rows.rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
    const uint32_t rounds = (chunks + blocks_max - 1) / blocks_max;
    const dim3 grid(columns, (chunks + rounds - 1) / rounds);
    return codec_launch(stream, measure_kernel<T, V>, grid, 0, work, rows, chunks);
}

seam_status seam_cuda_codec_measure(seam_stream *stream, const codec_work &work,
                                    const seam_device_rows &rows) {
    const bool vector = (uintptr_t)rows.x % 16 == 0;
    if (rows.rows == 0) { /* the bounds are 0: no row in range */
        return seam_cuda_status(
            cudaMemsetAsync(work.status, 0, sizeof *work.status, seam_cuda_queue(stream)));
    }
    if (rows.type == SEAM_BF16) {
        return vector && rows.C % 8 == 0 ? measure_launch<__nv_bfloat16, 8>(stream, work, rows)
                                         : measure_launch<__nv_bfloat16, 1>(stream, work, rows);
    }
    return vector && rows.C % 4 == 0 ? measure_launch<float, 4>(stream, work, rows)
                                     : measure_launch<float, 1>(stream, work, rows);
}
