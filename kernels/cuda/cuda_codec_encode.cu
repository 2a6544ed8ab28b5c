/* Codes of a tensor whose ranges have been measured, as bit planes in the order of the wire.
 *
 * Grid (channels / 128, groups / 8), block 8 warps: a warp takes one group of 32 rows, a lane four
 * neighbouring channels of it.  A code is one byte of a word that holds four rows, eight words a
 * channel, which the transpose of affine_tile.c turns into the planes; codes above 8 bits are a
 * second walk over the rows, by warps that have such a channel.  The warp's words are one run of
 * the wire: they are put together in shared memory (128 * width_max words a warp) and written in
 * order.  Of the first group the warps also write the range block.
 *
 * Bytes: the tensor, and its codes; bound by memory.  Stochastic rounding: one Philox a lane and
 * row, whose four words are those of the lane's four channels.
 *
 * A tail group's planes go to the work block first; a second kernel makes a string of bits of them:
 * one thread a word, which bits p of plane i at i * rows + p fill. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda_codec.cuh"

#define WARPS        8u
#define THREADS      (WARPS * 32u)
#define PACK_THREADS 256u

/* ---- kernels ---- */

/* ../codec/philox.c. */
static __device__ inline void philox(uint32_t (&ret)[4], const uint32_t (&counter)[4],
                                     uint64_t seed) {
    uint32_t x0 = counter[0], x1 = counter[1], x2 = counter[2], x3 = counter[3];
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xd2511f53u * x0, p1 = (uint64_t)0xcd9e8d57u * x2;
        const uint32_t y0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
        const uint32_t y2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x1 = (uint32_t)p1;
        x3 = (uint32_t)p0;
        x0 = y0;
        x2 = y2;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    ret[0] = x0, ret[1] = x1, ret[2] = x2, ret[3] = x3;
}

/* A lane's four channels, and its warp's group. */
typedef struct lane_quad {
    channel_grid grid[4];
    uint32_t c;          /* the first channel */
    uint32_t row, count; /* the group's first row, and how many of its 32 there are */
    uint32_t source;     /* where in x row `row + lane` lies */
    uint32_t row_id;     /* its id */
} lane_quad;

/* q + 2^23 as a float: its low bits are the code. */
template <bool STOCHASTIC>
static __device__ inline float quantize(float x, const channel_grid &grid, uint32_t word) {
    float t = __fmul_rn(__fsub_rn(x, grid.lo), grid.inverse);
    if constexpr (STOCHASTIC) { /* the product with 2^-24 is exact: one rounding, of the sum */
        t = __fmaf_rn((float)(word >> 8), 0x1p-24f, t);
        return __fadd_rd(fminf(fmaxf(t, 0.0f), grid.levels), ROUND_MAGIC);
    }
    return __fadd_rn(fminf(fmaxf(t, 0.0f), grid.levels), ROUND_MAGIC);
}

/* Rows 8 * part .. + 7 of the group: a byte of each code (`select` says which) is put on top of the
 * channel's word of its row, behind those of the parts before. */
template <typename T, bool VECTOR, bool STOCHASTIC>
static __device__ inline void part_quantize(uint32_t (&words)[4][8], float *poison,
                                            const seam_device_encode_args &a, const lane_quad &quad,
                                            uint32_t part, uint32_t select, bool last) {
    float x[8][4];
#pragma unroll
    for (uint32_t k = 0; k < 8; k++) {
        const uint32_t i = min(8 * part + k, quad.count - 1);
        const size_t source = __shfl_sync(0xffffffffu, quad.source, (int)i);
        quad_load<VECTOR>(x[k], (const T *)a.rows.x + source * a.rows.C, quad.c, a.rows.C);
    }
#pragma unroll
    for (uint32_t k = 0; k < 8; k++) {
        uint32_t draws[4] = {0, 0, 0, 0};
        if constexpr (STOCHASTIC) {
            const uint32_t row_id = __shfl_sync(0xffffffffu, quad.row_id, (int)(8 * part + k));
            const uint32_t counter[4] = {quad.c / 4, row_id, a.site | (uint32_t)a.micro << 16,
                                         (uint32_t)a.step};
            philox(draws, counter, a.seed);
        }
        float decoded[4];
#pragma unroll
        for (uint32_t l = 0; l < 4; l++) {
            const float code = quantize<STOCHASTIC>(x[k][l], quad.grid[l], draws[l]);
            words[l][k] = __byte_perm(words[l][k], __float_as_uint(code), select);
            *poison = __fmaf_rn(x[k][l], 0.0f, *poison);
            decoded[l] =
                __fadd_rn(quad.grid[l].lo, __fmul_rn(code - ROUND_MAGIC, quad.grid[l].step));
        }
        if (a.decoded != NULL && last && 8 * part + k < quad.count) {
            quad_store<VECTOR>(a.decoded + (size_t)(quad.row + 8 * part + k) * a.rows.C, decoded,
                               quad.c, a.rows.C);
        }
    }
}

/* The planes of the lane's channels to its warp's run of words. */
template <typename T, bool VECTOR, bool STOCHASTIC>
static __device__ inline void group_encode(uint32_t *run, uint32_t *status, const span_grids *span,
                                           const seam_device_encode_args &a, const lane_quad &quad,
                                           bool wide) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t valid = quad.count == GROUP_ROWS ? 0xffffffffu : (1u << quad.count) - 1;
    float poison = 0.0f;
    for (uint32_t high = 0; high <= (wide ? 8u : 0u); high += 8) {
        uint32_t words[4][8] = {};
        const uint32_t select = high == 0 ? 0x4321u : 0x5321u; /* the code's byte above the rest */
#pragma unroll 1
        for (uint32_t part = 0; part < 4; part++) {
            part_quantize<T, VECTOR, STOCHASTIC>(words, &poison, a, quad, part, select,
                                                 !wide || high != 0);
        }
#pragma unroll
        for (uint32_t l = 0; l < 4; l++) {
            const uint32_t at = span->begin[4 * lane + l], end = span->begin[4 * lane + l + 1];
            transpose8(words[l]);
#pragma unroll
            for (uint32_t j = 0; j < 8; j++) {
                if (at + high + j < end) {
                    run[word_at(at - span->begin[0] + high + j)] = words[l][j] & valid;
                }
            }
        }
    }
    if (!(poison == 0.0f)) {
        atomicOr(status, 1u);
    }
}

/* The grids of the block's channels from what was measured; the first group's blocks write the
 * range block. */
static __device__ inline void span_measure(span_grids *ret, const codec_work &work,
                                           const seam_device_encode_args &a) {
    const uint32_t c = blockIdx.x * SPAN + threadIdx.x, C = a.rows.C;
    bool valid = true;
    const int exponent = range_exponent(&valid, *work.magnitude);
    if (threadIdx.x < SPAN) {
        const uint32_t bounds = c < C ? bounds_of_keys(work, c, C, exponent) : 0;
        span_put(ret, threadIdx.x, c, C, a.work.plane_begin, bounds, exponent);
        if (blockIdx.y == 0 && c < C) {
            work.ranges[1 + c] = bounds;
        }
    }
    if (blockIdx.y == 0 && c == 0) {
        work.ranges[0] = (uint32_t)exponent & 0xffffu;
        if (!valid) {
            atomicOr(work.status, 1u);
        }
    }
}

template <typename T, bool VECTOR, bool STOCHASTIC>
static __global__ void __launch_bounds__(THREADS, 2)
    encode_kernel(const __grid_constant__ seam_device_encode_args a, codec_work work,
                  uint32_t run_words) {
    extern __shared__ uint32_t runs[];
    __shared__ span_grids span;
    span_measure(&span, work, a);
    __syncthreads();
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t group = blockIdx.y * WARPS + warp, row = group * GROUP_ROWS;
    if (row >= a.rows.rows) {
        return;
    }
    lane_quad quad = {
        .c = blockIdx.x * SPAN + 4 * lane, .row = row, .count = min(GROUP_ROWS, a.rows.rows - row)};
    const uint32_t own = row + min(lane, quad.count - 1);
    quad.source = a.rows.list != NULL ? a.rows.list[own] : own;
    quad.row_id = a.row_ids != NULL ? a.row_ids[own] : a.row_id_begin + own;
    bool wide = false;
#pragma unroll
    for (uint32_t l = 0; l < 4; l++) {
        const uint32_t i = 4 * lane + l;
        quad.grid[l] = {span.lo[i], span.inverse[i], span.step[i], span.levels[i]};
        wide |= span.begin[i + 1] - span.begin[i] > 8;
    }
    uint32_t *const run = runs + warp * run_words;
    group_encode<T, VECTOR, STOCHASTIC>(run, work.status, &span, a, quad,
                                        __any_sync(0xffffffffu, wide));
    __syncwarp();
    const uint32_t begin = span.begin[0], count = span.begin[SPAN] - begin;
    uint32_t *const out = quad.count == GROUP_ROWS
                              ? (uint32_t *)a.codes + (size_t)group * a.work.planes + begin
                              : work.tail + begin;
    for (uint32_t i = lane; i < count; i += 32) {
        out[i] = run[word_at(i)];
    }
}

/* The bits of a tail group of `rows` rows. */
static __global__ void tail_kernel(uint32_t *codes, const uint32_t *planes, uint32_t plane_count,
                                   uint32_t rows) {
    const uint64_t bits = (uint64_t)plane_count * rows;
    const uint64_t begin = ((uint64_t)blockIdx.x * PACK_THREADS + threadIdx.x) * 32;
    if (begin >= bits) {
        return;
    }
    uint32_t plane = (uint32_t)(begin / rows), filled = rows - (uint32_t)(begin % rows);
    uint32_t word = planes[plane++] >> (rows - filled);
    for (; filled < 32 && plane < plane_count; filled += rows) {
        word |= planes[plane++] << filled;
    }
    codes[begin / 32] = word;
}

/* ---- launchers ---- */
template <typename T, bool VECTOR, bool STOCHASTIC>
static seam_status encode_launch(cudaStream_t queue, const seam_device_encode_args &a) {
    const uint32_t words = span_words(a.work.width_max);
    const size_t shared = WARPS * words * sizeof(uint32_t);
    const uint32_t groups = (a.rows.rows + GROUP_ROWS - 1) / GROUP_ROWS;
    const dim3 grid((a.rows.C + SPAN - 1) / SPAN, (groups + WARPS - 1) / WARPS);
    const auto kernel = encode_kernel<T, VECTOR, STOCHASTIC>;
    if (shared > 48 * 1024 - sizeof(span_grids)) {
        SEAM_CUDA_TRY(cudaFuncSetAttribute(
            (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    }
    kernel<<<grid, THREADS, shared, queue>>>(a, codec_work_at(a.work.bytes, a.rows.C), words);
    return SEAM_CUDA_LAUNCHED();
}

template <typename T, bool VECTOR>
static seam_status encode_rounded(cudaStream_t queue, const seam_device_encode_args &a) {
    return a.stochastic ? encode_launch<T, VECTOR, true>(queue, a)
                        : encode_launch<T, VECTOR, false>(queue, a);
}

seam_status seam_cuda_codec_encode(seam_stream *stream, const seam_device_encode_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const seam_device_rows *rows = &args->rows;
    const bool vector = quads_aligned(rows->x, rows->type, rows->C) &&
                        (args->decoded == NULL || quads_aligned(args->decoded, SEAM_F32, rows->C));
    if (rows->type == SEAM_BF16) {
        SEAM_TRY(vector ? (encode_rounded<__nv_bfloat16, true>(queue, *args))
                        : (encode_rounded<__nv_bfloat16, false>(queue, *args)));
    } else {
        SEAM_TRY(vector ? (encode_rounded<float, true>(queue, *args))
                        : (encode_rounded<float, false>(queue, *args)));
    }
    const uint32_t tail = rows->rows % GROUP_ROWS, planes = args->work.planes;
    if (tail != 0) {
        const uint32_t words = (uint32_t)(((uint64_t)planes * tail + 31) / 32);
        uint32_t *const codes =
            (uint32_t *)args->codes + (size_t)(rows->rows / GROUP_ROWS) * planes;
        tail_kernel<<<(words + PACK_THREADS - 1) / PACK_THREADS, PACK_THREADS, 0, queue>>>(
            codes, codec_work_at(args->work.bytes, rows->C).tail, planes, tail);
    }
    return SEAM_CUDA_LAUNCHED();
}
