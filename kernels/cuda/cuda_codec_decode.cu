/* Rows of a tensor from its range block and codes: cuda_codec_encode.cu backwards.
 *
 * Grid (channels / 128, groups / 8), block 8 warps: a warp takes one group of 32 rows.  It reads
 * its run of words in order into shared memory, a lane takes those of its four channels from there,
 * turns planes into codes and writes 16 bytes (f32) of each row.  Bytes: the codes, and the rows;
 * bound by memory.
 *
 * A tail group's string of bits becomes planes in the work block first, one thread a plane. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda_codec.cuh"

#define UNPACK_THREADS 256u

/* ---- kernels ---- */

/* The planes `high` and on of the lane's channels as bytes of codes; those above a width are 0. */
template <bool WIDE>
static __device__ inline void codes_take(uint32_t (&ret)[4][8], const uint32_t *words,
                                         const span_grids *span, uint32_t high) {
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (uint32_t l = 0; l < 4; l++) {
        const uint32_t channel = 4 * lane + l, place = span_words<WIDE>::place(channel) + high;
        const uint32_t width = span->begin[channel + 1] - span->begin[channel];
#pragma unroll
        for (uint32_t j = 0; j < 8; j++) {
            ret[l][j] = high + j < width ? words[place + j] : 0;
        }
        transpose8(ret[l]);
    }
}

/* The rows of the group whose words lie there; `source` is that of row `lane`. */
template <typename T, bool VECTOR, bool WIDE>
static __device__ inline void group_decode(const seam_device_decode_args &a, const uint32_t *words,
                                           const span_grids *span, uint32_t source,
                                           uint32_t count) {
    const uint32_t lane = threadIdx.x % 32, c = blockIdx.x * SPAN + 4 * lane;
    uint32_t low[4][8], high[4][8];
    float lo[4], step[4];
    codes_take<WIDE>(low, words, span, 0);
    if constexpr (WIDE) {
        codes_take<WIDE>(high, words, span, 8);
    }
#pragma unroll
    for (uint32_t l = 0; l < 4; l++) {
        lo[l] = span->lo[4 * lane + l];
        step[l] = span->step[4 * lane + l];
    }
#pragma unroll
    for (uint32_t i = 0; i < GROUP_ROWS; i++) {
        const uint32_t row = __shfl_sync(0xffffffffu, source, (int)i);
        float x[4];
#pragma unroll
        for (uint32_t l = 0; l < 4; l++) {
            /* Byte i / 8 below the bytes of 2^23. */
            uint32_t bits = __byte_perm(low[l][i % 8], ROUND_MAGIC_BITS, 0x7540u | i / 8);
            if constexpr (WIDE) {
                bits = __byte_perm(bits, high[l][i % 8], 0x3200u | (4 + i / 8) << 4);
            }
            x[l] = __fadd_rn(lo[l], __fmul_rn(__uint_as_float(bits) - ROUND_MAGIC, step[l]));
        }
        if (i < count && row != SEAM_DEVICE_ROW_NONE) {
            quad_store<VECTOR>((T *)a.rows.x + (size_t)row * a.rows.C, x, c, a.rows.C);
        }
    }
}

template <typename T, bool VECTOR, bool WIDE>
static __global__ void __launch_bounds__(CODEC_THREADS, WIDE ? 2 : 3)
    decode_kernel(const __grid_constant__ seam_device_decode_args a, codec_work work) {
    extern __shared__ uint4 shared[];
    __shared__ span_grids span;
    span_words<WIDE> *const run = (span_words<WIDE> *)shared;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, C = a.rows.C;
    if (threadIdx.x < SPAN) {
        const uint32_t c = blockIdx.x * SPAN + threadIdx.x;
        span_put(&span, threadIdx.x, c, C, a.work.plane_begin, c < C ? work.ranges[1 + c] : 0,
                 (int)(int16_t)(work.ranges[0] & 0xffffu));
    }
    __syncthreads();
    const uint32_t begin = span.begin[0], words = span.begin[SPAN] - begin;
    if (threadIdx.x < SPAN) {
        places_put<WIDE>(run, threadIdx.x, span.begin[threadIdx.x] - begin,
                         span.begin[threadIdx.x + 1] - span.begin[threadIdx.x]);
    }
    __syncthreads();
    const uint32_t end = a.row_begin + a.row_count;
    const uint32_t row = a.row_begin + (blockIdx.y * CODEC_WARPS + warp) * GROUP_ROWS;
    if (row >= end) {
        return;
    }
    const uint32_t count = min(GROUP_ROWS, end - row), own = row + min(lane, count - 1);
    const uint32_t source = a.rows.list != NULL ? a.rows.list[own] : own;
    const uint32_t *const in =
        count == GROUP_ROWS
            ? (const uint32_t *)a.codes + (size_t)(row / GROUP_ROWS) * a.work.planes + begin
            : work.tail + begin;
#pragma unroll 8
    for (uint32_t i = lane; i < words; i += 32) {
        run->words[warp][run->places[i]] = __ldg(in + i);
    }
    __syncwarp();
    group_decode<T, VECTOR, WIDE>(a, run->words[warp], &span, source, count);
}

/* The planes of a tail group of `rows` rows. */
static __global__ void tail_kernel(uint32_t *planes, const uint32_t *codes, uint32_t plane_count,
                                   uint32_t rows) {
    const uint32_t plane = blockIdx.x * UNPACK_THREADS + threadIdx.x;
    if (plane >= plane_count) {
        return;
    }
    const uint64_t begin = (uint64_t)plane * rows, last = begin + rows - 1;
    const uint32_t word = codes[begin / 32], next = codes[last / 32];
    planes[plane] = __funnelshift_r(word, next, (uint32_t)(begin % 32)) & ((1u << rows) - 1);
}

/* ---- launchers ---- */
template <typename T, bool VECTOR, bool WIDE>
static seam_status decode_launch(cudaStream_t queue, const seam_device_decode_args &a) {
    const auto kernel = decode_kernel<T, VECTOR, WIDE>;
    const size_t shared = sizeof(span_words<WIDE>);
    const uint32_t groups = (a.row_count + GROUP_ROWS - 1) / GROUP_ROWS;
    const dim3 grid((a.rows.C + SPAN - 1) / SPAN, (groups + CODEC_WARPS - 1) / CODEC_WARPS);
    SEAM_CUDA_TRY(cudaFuncSetAttribute((const void *)kernel,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    kernel<<<grid, CODEC_THREADS, shared, queue>>>(a, codec_work_at(a.work.bytes, a.rows.C));
    return SEAM_CUDA_LAUNCHED();
}

template <typename T, bool VECTOR>
static seam_status decode_planes(cudaStream_t queue, const seam_device_decode_args &a) {
    return a.work.width_max > 8 ? decode_launch<T, VECTOR, true>(queue, a)
                                : decode_launch<T, VECTOR, false>(queue, a);
}

seam_status seam_cuda_codec_decode(seam_stream *stream, const seam_device_decode_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const uint32_t tail = args->row_count % GROUP_ROWS, planes = args->work.planes;
    SEAM_ASSERT(args->row_begin % GROUP_ROWS == 0);
    if (tail != 0) {
        const size_t groups = (args->row_begin + args->row_count) / GROUP_ROWS;
        tail_kernel<<<(planes + UNPACK_THREADS - 1) / UNPACK_THREADS, UNPACK_THREADS, 0, queue>>>(
            codec_work_at(args->work.bytes, args->rows.C).tail,
            (const uint32_t *)args->codes + groups * planes, planes, tail);
        SEAM_CUDA_TRY(cudaGetLastError());
    }
    const bool vector = quads_aligned(args->rows.x, args->rows.type, args->rows.C);
    if (args->rows.type == SEAM_BF16) {
        return vector ? decode_planes<__nv_bfloat16, true>(queue, *args)
                      : decode_planes<__nv_bfloat16, false>(queue, *args);
    }
    return vector ? decode_planes<float, true>(queue, *args)
                  : decode_planes<float, false>(queue, *args);
}
