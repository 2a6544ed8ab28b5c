/* Ranges and codes of a tensor, as bit planes in the order of the wire.
 *
 * cuda_codec_measure.cu has taken the bounds.  Grid (channels / 128, groups), as many blocks as are
 * resident at once, block 8 warps: a warp takes groups of 32 rows one after another, a lane four
 * neighbouring channels.  Rows come through a ring in shared memory (cuda_codec_stage.cuh).  A code
 * is one byte of a word that holds four rows, eight words a channel, which the transpose of
 * affine_tile.c turns into the planes; codes above 8 bits have eight words more.  The warp's words
 * are one run of the wire: they are put together in shared memory (span_words) and written in
 * order.  Of the first groups' blocks each writes its part of the range block.
 *
 * Blocks begin while the bounds are taken (programmatic launch, compute 9.0 and later): the first
 * rows, the words' places and the turn are there when the bounds are.
 *
 * Bytes: the tensor, and its codes; bound by memory (f32), by that and instructions (bf16).
 * Shared: 106 KiB a block, two blocks a multiprocessor.  Stochastic rounding: one Philox a lane and
 * row, whose four words are those of the lane's four channels; bound by its products.
 *
 * 6144 x 4096, 4 bits, ranges included, us from f32 and bf16 on an H200: 58.0, 34.4 to nearest,
 * 65.2, 52.3 stochastic.  Before, in the order of the steps: rows to registers, a walk
 * more for codes above 8 bits, all 20 products of Philox: 65.1, 44.7 and 84.6, 67.8; the ring and
 * 15 products: 60.5, 38.9 and 69.2, 56.3; rows in range not clamped: 60.0, 37.1 to nearest; last,
 * blocks that begin while the bounds are taken.  Rows without a list by their number, not by
 * shuffles: the same.
 *
 * A tail group's planes go to the work block first; a second kernel makes a string of bits of them:
 * one thread a word, which bits p of plane i at i * rows + p fill. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "cuda_codec.cuh"
#include "cuda_codec_stage.cuh"
#include "cuda_philox.cuh"

#define PACK_THREADS 256u

/* ---- kernels ---- */

typedef enum encode_use {
    PLAIN,
    WHOLE,   /* the rows are those that ranges were taken over */
    DECODED, /* what the receiver will see is wanted too */
} encode_use;

/* A lane's four channels. */
typedef struct lane_quad {
    channel_grid grid[4];
    uint32_t c; /* the first */
} lane_quad;

/* A group of rows, spread over its warp: lane i knows row i; those past the end are the last. */
typedef struct warp_group {
    uint32_t row, count; /* the first row, and how many of its 32 there are; 0: no group */
    uint32_t source;     /* where in x the lane's row lies */
    philox_row draws;    /* of the lane's row */
} warp_group;

template <bool STOCHASTIC>
static __device__ inline warp_group group_at(const seam_device_encode_args &a,
                                             const philox_keys &keys, uint32_t group) {
    const uint32_t row = group * GROUP_ROWS, lane = threadIdx.x % 32;
    if (row >= a.rows.rows) {
        return {};
    }
    const uint32_t count = min(GROUP_ROWS, a.rows.rows - row), own = row + min(lane, count - 1);
    warp_group ret = {row, count, a.rows.list != NULL ? a.rows.list[own] : own, {}};
    if constexpr (STOCHASTIC) {
        const uint32_t id = a.row_ids != NULL ? a.row_ids[own] : a.row_id_begin + own;
        ret.draws = philox_row_begin(keys, id, a.site | (uint32_t)a.micro << 16);
    }
    return ret;
}

/* q + 2^23 as a float: its low bits are the code.
 *
 * WHOLE: x is one of the rows that ranges were taken over, so lo <= x <= hi (bounds are rounded
 * outward, and x - lo to nearest keeps order), 0 <= (x - lo) * r <= N * (1 + 2^-22) by the three
 * roundings of D, r and the product: to nearest that is in 0..N without a clamp, for N < 2^16; with
 * a draw below 1 on top it may reach N + 1. */
template <bool STOCHASTIC, bool WHOLE>
static __device__ inline float quantize(float x, const channel_grid &grid, uint32_t word) {
    float t = __fmul_rn(__fsub_rn(x, grid.lo), grid.inverse);
    if constexpr (STOCHASTIC) { /* the product with 2^-24 is exact: one rounding, of the sum */
        t = __fmaf_rn((float)(word >> 8), 0x1p-24f, t);
    }
    if constexpr (!WHOLE) {
        t = fmaxf(t, 0.0f);
    }
    if constexpr (!WHOLE || STOCHASTIC) {
        t = fminf(t, grid.levels);
    }
    return STOCHASTIC ? __fadd_rd(t, ROUND_MAGIC) : __fadd_rn(t, ROUND_MAGIC);
}

/* A lane's codes of a group: byte r / 8 of word r % 8 of a channel is that of row r, until the
 * transpose makes planes of them. */
template <bool WIDE> struct lane_words {
    uint32_t low[4][8];
    uint32_t high[WIDE ? 4 : 1][8];
};

/* The rows of a stage, from row `at` of the group on; FIRST is that row's word. */
template <typename T, bool VECTOR, bool STOCHASTIC, bool WIDE, encode_use USE, uint32_t FIRST>
static __device__ inline void
stage_quantize(lane_words<WIDE> *ret, uint32_t *poison, const uint4 *stage,
               const seam_device_encode_args &a, const lane_quad &quads, const warp_group &group,
               const philox_keys &keys, const philox_lane &draw, uint32_t at) {
#pragma unroll
    for (uint32_t i = 0; i < stage_rows<T>; i++) {
        quad<T> values;
        values.take((const T *)stage + i * SPAN + threadIdx.x % 32 * LANE_QUAD);
        uint32_t draws[4] = {0, 0, 0, 0};
        if constexpr (STOCHASTIC) {
            const philox_row row = {__shfl_sync(0xffffffffu, group.draws.high, (int)(at + i)),
                                    __shfl_sync(0xffffffffu, group.draws.low, (int)(at + i))};
            philox_end(draws, keys, draw, row);
        }
        float x[4], codes[4];
        values.get(x);
        if constexpr (USE != WHOLE) { /* whose ranges say it */
            *poison = values.check(*poison);
        }
#pragma unroll
        for (uint32_t l = 0; l < 4; l++) {
            uint32_t *const low = &ret->low[l][FIRST + i];
            codes[l] = quantize<STOCHASTIC, USE == WHOLE>(x[l], quads.grid[l], draws[l]);
            *low = __byte_perm(*low, __float_as_uint(codes[l]), 0x4321u);
            if constexpr (WIDE) {
                uint32_t *const high = &ret->high[l][FIRST + i];
                *high = __byte_perm(*high, __float_as_uint(codes[l]), 0x5321u);
            }
        }
        if (USE == DECODED && at + i < group.count) {
#pragma unroll
            for (uint32_t l = 0; l < 4; l++) {
                const channel_grid &grid = quads.grid[l];
                codes[l] = __fadd_rn(grid.lo, __fmul_rn(codes[l] - ROUND_MAGIC, grid.step));
            }
            quad_store<VECTOR>(a.decoded + (size_t)(group.row + at + i) * a.rows.C, codes, quads.c,
                               a.rows.C);
        }
    }
}

/* A group's codes; the first stages of the next group are asked for on the way. */
template <typename T, bool VECTOR, bool STOCHASTIC, bool WIDE, encode_use USE>
static __device__ inline void
group_quantize(lane_words<WIDE> *ret, uint32_t *poison, uint4 *ring,
               const seam_device_encode_args &a, const lane_quad &quads, const warp_group &group,
               const warp_group &next, const philox_keys &keys, const philox_lane &draw) {
    const uint32_t steps = GROUP_ROWS / stage_rows<T>;
#pragma unroll 1
    for (uint32_t step = 0; step < steps;) {
        const auto turn = [&](auto first) {
            const uint32_t ahead = step + STAGES - 1;
            stage_wait();
            stage_load<T, VECTOR>(ring + ahead % STAGES * STAGE_PIECES, a.rows,
                                  ahead < steps ? group.count : next.count,
                                  ahead < steps ? group.source : next.source, ahead % steps);
            stage_quantize<T, VECTOR, STOCHASTIC, WIDE, USE, decltype(first)::value>(
                ret, poison, ring + step % STAGES * STAGE_PIECES, a, quads, group, keys, draw,
                step * stage_rows<T>);
            step++;
        };
        turn(std::integral_constant<uint32_t, 0>());
        if constexpr (stage_rows<T> == 4) {
            turn(std::integral_constant<uint32_t, 4>());
        }
    }
}

/* In shared memory a warp's words stand by channel, so that neither lanes with a channel quad each
 * nor lanes with one word of the wire after another meet in a bank.  `places`, of a block's SPAN
 * channels, says where each word of the wire stands.  Wide ones take turns there, half a span at a
 * time, so that two blocks fit a multiprocessor. */
template <bool WIDE> struct span_words {
    static const uint32_t planes = WIDE ? 16 : 8;
    static const uint32_t turns = WIDE ? 2 : 1;
    static const uint32_t lanes = 32 / turns;
    static const uint32_t stride = planes + 1;              /* odd: of two lanes */
    static const uint32_t lane_stride = lanes * stride + 8; /* of a lane's two channels */
    uint4 ring[CODEC_WARPS][STAGES * STAGE_PIECES];
    uint32_t words[CODEC_WARPS][LANE_QUAD * lane_stride];
    uint16_t places[SPAN * planes];

    static __device__ uint32_t place(uint32_t channel) {
        return channel % LANE_QUAD * lane_stride + channel / LANE_QUAD % lanes * stride;
    }
};

/* By thread `channel` of 0..SPAN-1: its channel's words, of the span's from `at` on. */
template <bool WIDE>
static __device__ inline void places_put(span_words<WIDE> *ret, uint32_t channel, uint32_t at,
                                         uint32_t width) {
    for (uint32_t j = 0; j < width; j++) {
        ret->places[at + j] = (uint16_t)(span_words<WIDE>::place(channel) + j);
    }
}

/* Codes become planes, without the bits of rows past `count`. */
static __device__ inline void planes_make(uint32_t (&words)[4][8], uint32_t count) {
#pragma unroll
    for (uint32_t l = 0; l < 4; l++) {
        transpose8(words[l]);
        if (count < GROUP_ROWS) {
#pragma unroll
            for (uint32_t j = 0; j < 8; j++) {
                words[l][j] &= (1u << count) - 1;
            }
        }
    }
}

/* A group's planes in the order of the wire, whose words of the span begin at `out`. */
template <bool WIDE>
static __device__ inline void words_write(uint32_t *out, span_words<WIDE> *run,
                                          const span_grids *span, const lane_words<WIDE> &words) {
    typedef span_words<WIDE> shape;
    const uint32_t lane = threadIdx.x % 32;
    uint32_t *const own = run->words[threadIdx.x / 32];
#pragma unroll
    for (uint32_t turn = 0; turn < shape::turns; turn++) {
        __syncwarp();
        if (lane / shape::lanes == turn) {
#pragma unroll
            for (uint32_t l = 0; l < 4; l++) {
#pragma unroll
                for (uint32_t j = 0; j < shape::planes; j++) { /* above the width: never read */
                    own[shape::place(4 * lane + l) + j] =
                        j < 8 ? words.low[l][j] : words.high[WIDE ? l : 0][j % 8];
                }
            }
        }
        __syncwarp();
        const uint32_t first = turn * shape::lanes * 4;
        const uint32_t end = span->begin[first + shape::lanes * 4] - span->begin[0];
#pragma unroll 4
        for (uint32_t i = span->begin[first] - span->begin[0] + lane; i < end; i += 32) {
            out[i] = own[run->places[i]];
        }
    }
}

/* The grids of the block's channels from what was measured; those of the first groups write the
 * range block, and clear the bounds of the tensor before. */
static __device__ inline void span_measure(span_grids *ret, const codec_work &work,
                                           const seam_device_encode_args &a, uint32_t turn) {
    const uint32_t c = blockIdx.x * SPAN + threadIdx.x, C = a.rows.C;
    const codec_bounds bounds = codec_bounds_at(work, C, turn);
    const codec_bounds other = codec_bounds_at(work, C, turn + 1);
    const bool writer = blockIdx.y == 0;
    bool valid = true;
    const int exponent = range_exponent(&valid, *bounds.magnitude);
    if (threadIdx.x < SPAN) {
        const uint32_t own = c < C ? bounds_of_keys(bounds.low[c], bounds.high[c], exponent) : 0;
        span_grid_put(ret, threadIdx.x, own, exponent,
                      ret->begin[threadIdx.x + 1] - ret->begin[threadIdx.x]);
        if (writer && c < C) {
            work.ranges[1 + c] = own;
            other.low[c] = 0;
            other.high[c] = 0;
        }
    }
    if (writer && c == 0) {
        work.ranges[0] = (uint32_t)exponent & 0xffffu;
        *other.magnitude = 0;
        if (!valid) {
            atomicOr(work.status, 1u);
        }
    }
}

/* The last block to have read the bounds hands the turn over.  By one thread of a warp that no
 * other waits for. */
static __device__ inline void turn_pass(const codec_work &work) {
    if (threadIdx.x == CODEC_THREADS - 1 &&
        atomicInc(work.readers, gridDim.x * gridDim.y - 1) == gridDim.x * gridDim.y - 1) {
        *work.turn ^= 1;
    }
}

template <typename T, bool VECTOR, bool STOCHASTIC, bool WIDE, encode_use USE>
static __global__ void __launch_bounds__(CODEC_THREADS, 2)
    encode_kernel(const __grid_constant__ seam_device_encode_args a, codec_work work,
                  const __grid_constant__ philox_keys keys) {
    extern __shared__ uint4 shared[];
    __shared__ span_grids span;
    span_words<WIDE> *const run = (span_words<WIDE> *)shared;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t number = blockIdx.y * CODEC_WARPS + warp;
    warp_group group = group_at<STOCHASTIC>(a, keys, number);
#pragma unroll
    for (uint32_t step = 0; step < STAGES - 1; step++) {
        stage_load<T, VECTOR>(run->ring[warp] + step * STAGE_PIECES, a.rows, group.count,
                              group.source, step);
    }
    const uint32_t turn = *work.turn; /* of the tensor before, whose kernels have ended */
    if (threadIdx.x < SPAN) {
        span_begin_put(&span, threadIdx.x, blockIdx.x * SPAN + threadIdx.x, a.rows.C,
                       a.work.plane_begin);
    }
    __syncthreads();
    if (threadIdx.x < SPAN) {
        places_put<WIDE>(run, threadIdx.x, span.begin[threadIdx.x] - span.begin[0],
                         span.begin[threadIdx.x + 1] - span.begin[threadIdx.x]);
    }
    launch_wait();
    span_measure(&span, work, a, turn);
    __syncthreads();
    turn_pass(work);
    lane_quad quads = {.c = blockIdx.x * SPAN + 4 * lane};
#pragma unroll
    for (uint32_t l = 0; l < 4; l++) {
        const uint32_t i = 4 * lane + l;
        quads.grid[l] = {span.lo[i], span.inverse[i], span.step[i], span.levels[i]};
    }
    philox_lane draw = {};
    if constexpr (STOCHASTIC) {
        draw = philox_lane_begin(keys, quads.c / 4, a.site | (uint32_t)a.micro << 16,
                                 (uint32_t)a.step);
    }
    uint32_t poison = 0;
    while (group.count > 0) {
        const warp_group next = group_at<STOCHASTIC>(a, keys, number + gridDim.y * CODEC_WARPS);
        lane_words<WIDE> words = {};
        group_quantize<T, VECTOR, STOCHASTIC, WIDE, USE>(&words, &poison, run->ring[warp], a, quads,
                                                         group, next, keys, draw);
        planes_make(words.low, group.count);
        if constexpr (WIDE) {
            planes_make(words.high, group.count);
        }
        uint32_t *const out = group.count == GROUP_ROWS
                                  ? (uint32_t *)a.codes + (size_t)number * a.work.planes
                                  : work.tail;
        words_write<WIDE>(out + span.begin[0], run, &span, words);
        number += gridDim.y * CODEC_WARPS;
        group = next;
    }
    if (poison != 0) {
        atomicOr(work.status, 1u);
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
template <typename T, bool VECTOR, bool STOCHASTIC, bool WIDE, encode_use USE>
static seam_status encode_launch(seam_stream *stream, const seam_device_encode_args &a) {
    const auto kernel = encode_kernel<T, VECTOR, STOCHASTIC, WIDE, USE>;
    const size_t shared = sizeof(span_words<WIDE>);
    const uint32_t groups = (a.rows.rows + GROUP_ROWS - 1) / GROUP_ROWS;
    int blocks = 0; /* of a processor */
    SEAM_CUDA_TRY(cudaFuncSetAttribute((const void *)kernel,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    SEAM_CUDA_TRY(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, CODEC_THREADS, shared));
    return codec_launch(
        stream, kernel,
        codec_grid(a.rows.C, groups, seam_cuda_processors(stream) * (uint32_t)blocks), shared, a,
        codec_work_at(a.work.bytes, a.rows.C), philox_keys_of(a.seed));
}

template <typename T, bool VECTOR, bool STOCHASTIC, bool WIDE>
static seam_status encode_used(seam_stream *stream, const seam_device_encode_args &a) {
    if (a.decoded != NULL) {
        return encode_launch<T, VECTOR, STOCHASTIC, WIDE, DECODED>(stream, a);
    }
    if constexpr (VECTOR) {
        if (a.ranged.x == a.rows.x && a.ranged.list == a.rows.list &&
            a.ranged.rows == a.rows.rows) {
            return encode_launch<T, VECTOR, STOCHASTIC, WIDE, WHOLE>(stream, a);
        }
    }
    return encode_launch<T, VECTOR, STOCHASTIC, WIDE, PLAIN>(stream, a);
}

template <typename T, bool VECTOR, bool WIDE>
static seam_status encode_rounded(seam_stream *stream, const seam_device_encode_args &a) {
    return a.stochastic ? encode_used<T, VECTOR, true, WIDE>(stream, a)
                        : encode_used<T, VECTOR, false, WIDE>(stream, a);
}

/* Rows that are not on 16 bytes are seldom: one kernel serves them for all widths. */
template <typename T>
static seam_status rows_encode(seam_stream *stream, const seam_device_encode_args &a) {
    const bool vector = (uintptr_t)a.rows.x % 16 == 0 && a.rows.C * sizeof(T) % 16 == 0 &&
                        (a.decoded == NULL || quads_aligned(a.decoded, SEAM_F32, a.rows.C));
    if (!vector) {
        return encode_rounded<T, false, true>(stream, a);
    }
    return a.work.width_max > 8 ? encode_rounded<T, true, true>(stream, a)
                                : encode_rounded<T, true, false>(stream, a);
}

seam_status seam_cuda_codec_encode(seam_stream *stream, const seam_device_encode_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const codec_work work = codec_work_at(args->work.bytes, args->rows.C);
    const uint32_t tail = args->rows.rows % GROUP_ROWS, planes = args->work.planes;
    SEAM_TRY(seam_cuda_codec_measure(stream, work, args->ranged));
    SEAM_TRY(args->rows.type == SEAM_BF16 ? rows_encode<__nv_bfloat16>(stream, *args)
                                          : rows_encode<float>(stream, *args));
    if (tail != 0) {
        const uint32_t words = (uint32_t)(((uint64_t)planes * tail + 31) / 32);
        uint32_t *const codes =
            (uint32_t *)args->codes + (size_t)(args->rows.rows / GROUP_ROWS) * planes;
        tail_kernel<<<(words + PACK_THREADS - 1) / PACK_THREADS, PACK_THREADS, 0, queue>>>(
            codes, work.tail, planes, tail);
    }
    return SEAM_CUDA_LAUNCHED();
}
