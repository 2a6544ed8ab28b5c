/* Ranges and codes of a tensor, as bit planes in the order of the wire.
 *
 * cuda_codec_measure.cu has taken the bounds.  Grid (channels / 128, groups), as many blocks as are
 * resident at once, block 8 warps: a warp takes groups of 32 rows one after another, a lane four
 * neighbouring channels.  A code is one byte of a word that holds four rows, eight words a channel,
 * which the transpose of affine_tile.c turns into the planes; codes above 8 bits are a second walk
 * over the rows, by warps that have such a channel.  The warp's words are one run of the wire: they
 * are put together in shared memory (span_words) and written in order.  Of the first groups'
 * blocks each writes its part of the range block.
 *
 * Four rows (eight of bf16) are always on their way from memory while as many are quantized; the
 * first ones of a block are asked for before it waits for the bounds (programmatic launch,
 * compute 9.0 and later).
 *
 * Bytes: the tensor, and its codes; bound by memory.  Stochastic rounding: one Philox a lane and
 * row, whose four words are those of the lane's four channels; bound by its products.
 *
 * 6144 x 4096, 4 bits, to nearest, ranges included, us from f32 and bf16 on an H100: 82.3, 56.4.
 * One group a warp, eight rows loaded together: 84.1, 58.5.  Three blocks a multiprocessor (80
 * registers, spills): 110.4, 60.2; blocks of 4 warps: 115.9, 61.6; rows asked into L2 a group
 * ahead: 95.3, 58.7; no early launch: 84.7, 58.3.  Of these the ranges take 37.2, 21.7.  All with
 * four rows of bf16 on their way; with eight, on an H200, 46.7 from bf16 for some 50.
 *
 * A tail group's planes go to the work block first; a second kernel makes a string of bits of them:
 * one thread a word, which bits p of plane i at i * rows + p fill. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda_codec.cuh"
#include "cuda_philox.cuh"

#define PACK_THREADS 256u

/* Rows that are loaded together: 64 bytes a lane, fewer where registers are wanted elsewhere. */
template <typename T, bool VECTOR, bool STOCHASTIC>
constexpr uint32_t step_rows = sizeof(T) == 2 && VECTOR && !STOCHASTIC ? 8 : 4;

/* ---- kernels ---- */

/* A lane's four channels. */
typedef struct lane_quad {
    channel_grid grid[4];
    uint32_t c; /* the first */
} lane_quad;

/* A group of rows, spread over its warp: lane i knows row i; those past the end are the last. */
typedef struct warp_group {
    uint32_t row, count;     /* the first row, and how many of its 32 there are; 0: no group */
    uint32_t source, row_id; /* where in x the lane's row lies, and its id */
} warp_group;

static __device__ inline warp_group group_at(const seam_device_encode_args &a, uint32_t group) {
    const uint32_t row = group * GROUP_ROWS, lane = threadIdx.x % 32;
    if (row >= a.rows.rows) {
        return {}; /* a load of its rows reads row 0 */
    }
    const uint32_t count = min(GROUP_ROWS, a.rows.rows - row), own = row + min(lane, count - 1);
    return {row, count, a.rows.list != NULL ? a.rows.list[own] : own,
            a.row_ids != NULL ? a.row_ids[own] : a.row_id_begin + own};
}

/* Rows step_rows * step and on of a group whose lanes' rows lie at `source`. */
template <typename T, bool VECTOR, uint32_t ROWS>
static __device__ inline void step_load(quad<T> (&ret)[ROWS], const seam_device_encode_args &a,
                                        uint32_t source, uint32_t c, uint32_t step) {
#pragma unroll
    for (uint32_t i = 0; i < ROWS; i++) {
        const size_t row = __shfl_sync(0xffffffffu, source, (int)(step * ROWS + i));
        ret[i].template load<VECTOR>((const T *)a.rows.x + row * a.rows.C, c, a.rows.C);
    }
}

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

/* What a step does with its codes. */
typedef struct step_target {
    uint32_t select; /* which byte of a code goes on top of its channel's word */
    bool decode;     /* to a.decoded, if that is wanted */
} step_target;

/* The rows that step_load has loaded; HALF: 0 or 1; of four rows, the words 0..3
 * or 4..7 of each channel. */
template <typename T, bool VECTOR, bool STOCHASTIC, uint32_t HALF, uint32_t ROWS>
static __device__ inline void
step_quantize(uint32_t (&words)[4][8], uint32_t *poison, const quad<T> (&rows)[ROWS],
              const seam_device_encode_args &a, const lane_quad &quads, const warp_group &group,
              uint32_t step, const step_target &target) {
#pragma unroll
    for (uint32_t i = 0; i < ROWS; i++) {
        const uint32_t at = step * ROWS + i;
        uint32_t draws[4] = {0, 0, 0, 0};
        if constexpr (STOCHASTIC) {
            const uint32_t counter[4] = {quads.c / 4,
                                         __shfl_sync(0xffffffffu, group.row_id, (int)at),
                                         a.site | (uint32_t)a.micro << 16, (uint32_t)a.step};
            philox(draws, counter, a.seed);
        }
        float x[4], codes[4];
        rows[i].get(x);
        *poison = rows[i].check(*poison);
#pragma unroll
        for (uint32_t l = 0; l < 4; l++) {
            uint32_t *const word = &words[l][(HALF * ROWS + i) % 8];
            codes[l] = quantize<STOCHASTIC>(x[l], quads.grid[l], draws[l]);
            *word = __byte_perm(*word, __float_as_uint(codes[l]), target.select);
        }
        if (target.decode && at < group.count) {
            for (uint32_t l = 0; l < 4; l++) {
                const channel_grid &grid = quads.grid[l];
                codes[l] = __fadd_rn(grid.lo, __fmul_rn(codes[l] - ROUND_MAGIC, grid.step));
            }
            quad_store<VECTOR>(a.decoded + (size_t)(group.row + at) * a.rows.C, codes, quads.c,
                               a.rows.C);
        }
    }
}

/* In shared memory a warp's words stand by channel, so that neither lanes with a channel quad each
 * nor lanes with one word of the wire after another meet in a bank.  `places`, of a block's SPAN
 * channels, says where each word of the wire stands. */
template <bool WIDE> struct span_words {
    static const uint32_t planes = WIDE ? 16 : 8;
    static const uint32_t stride = planes + 1;           /* odd: of two lanes */
    static const uint32_t lane_stride = 32 * stride + 8; /* of a lane's two channels */
    uint16_t places[SPAN * planes];
    uint32_t words[CODEC_WARPS][LANE_QUAD * lane_stride];

    static __device__ uint32_t place(uint32_t channel) {
        return channel % LANE_QUAD * lane_stride + channel / LANE_QUAD * stride;
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

/* One walk over a group: bytes `high` / 8 of its codes become planes `high` and on in the warp's
 * words.  `first` holds the rows of step 0, and those of the next walk afterwards. */
template <typename T, bool VECTOR, bool STOCHASTIC, bool WIDE>
static __device__ inline void group_walk(uint32_t *ret_words, uint32_t *poison,
                                         quad<T> (&first)[step_rows<T, VECTOR, STOCHASTIC>],
                                         const seam_device_encode_args &a, const lane_quad &quads,
                                         const warp_group &group, uint32_t next_source,
                                         uint32_t high, bool last) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t valid = group.count == GROUP_ROWS ? 0xffffffffu : (1u << group.count) - 1;
    const step_target target = {high == 0 ? 0x4321u : 0x5321u, a.decoded != NULL && last};
    const uint32_t steps = GROUP_ROWS / step_rows<T, VECTOR, STOCHASTIC>;
    uint32_t words[4][8] = {};
#pragma unroll 1
    for (uint32_t step = 0; step < steps; step += 2) {
        quad<T> second[step_rows<T, VECTOR, STOCHASTIC>];
        step_load<T, VECTOR>(second, a, group.source, quads.c, step + 1);
        step_quantize<T, VECTOR, STOCHASTIC, 0>(words, poison, first, a, quads, group, step,
                                                target);
        const bool more = step + 2 < steps;
        step_load<T, VECTOR>(first, a, more ? group.source : next_source, quads.c,
                             more ? step + 2 : 0);
        step_quantize<T, VECTOR, STOCHASTIC, 1>(words, poison, second, a, quads, group, step + 1,
                                                target);
    }
#pragma unroll
    for (uint32_t l = 0; l < 4; l++) {
        transpose8(words[l]);
#pragma unroll
        for (uint32_t j = 0; j < 8; j++) { /* those above the width are never read */
            ret_words[span_words<WIDE>::place(4 * lane + l) + high + j] = words[l][j] & valid;
        }
    }
}

/* The grids of the block's channels from what was measured; those of the first groups write the
 * range block, and clear the bounds of the tensor before. */
static __device__ inline void span_measure(span_grids *ret, const codec_work &work,
                                           const seam_device_encode_args &a) {
    const uint32_t c = blockIdx.x * SPAN + threadIdx.x, C = a.rows.C, turn = *work.turn;
    const codec_bounds bounds = codec_bounds_at(work, C, turn);
    const codec_bounds other = codec_bounds_at(work, C, turn + 1);
    const bool writer = blockIdx.y == 0;
    bool valid = true;
    const int exponent = range_exponent(&valid, *bounds.magnitude);
    if (threadIdx.x < SPAN) {
        const uint32_t own = c < C ? bounds_of_keys(bounds.low[c], bounds.high[c], exponent) : 0;
        span_put(ret, threadIdx.x, c, C, a.work.plane_begin, own, exponent);
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

/* The last block to have read the bounds hands the turn over. */
static __device__ inline void turn_pass(const codec_work &work) {
    if (threadIdx.x == 0 &&
        atomicInc(work.readers, gridDim.x * gridDim.y - 1) == gridDim.x * gridDim.y - 1) {
        *work.turn ^= 1;
    }
}

/* The warp's words in the order of the wire. */
template <bool WIDE>
static __device__ inline void words_write(uint32_t *out, const uint32_t *words,
                                          const uint16_t *places, uint32_t count) {
#pragma unroll 4
    for (uint32_t i = threadIdx.x % 32; i < count; i += 32) {
        out[i] = words[places[i]];
    }
}

template <typename T, bool VECTOR, bool STOCHASTIC, bool WIDE>
static __global__ void __launch_bounds__(CODEC_THREADS, 2)
    encode_kernel(const __grid_constant__ seam_device_encode_args a, codec_work work) {
    extern __shared__ uint4 shared[];
    __shared__ span_grids span;
    span_words<WIDE> *const run = (span_words<WIDE> *)shared;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t number = blockIdx.y * CODEC_WARPS + warp;
    lane_quad quads = {.c = blockIdx.x * SPAN + 4 * lane};
    warp_group group = group_at(a, number);
    quad<T> first[step_rows<T, VECTOR, STOCHASTIC>];
    step_load<T, VECTOR>(first, a, group.source, quads.c, 0);
    launch_wait();
    span_measure(&span, work, a);
    __syncthreads();
    turn_pass(work);
    const uint32_t begin = span.begin[0], count = span.begin[SPAN] - begin;
    if (threadIdx.x < SPAN) {
        places_put<WIDE>(run, threadIdx.x, span.begin[threadIdx.x] - begin,
                         span.begin[threadIdx.x + 1] - span.begin[threadIdx.x]);
    }
    __syncthreads();
    bool wide = false;
#pragma unroll
    for (uint32_t l = 0; l < 4; l++) {
        const uint32_t i = 4 * lane + l;
        quads.grid[l] = {span.lo[i], span.inverse[i], span.step[i], span.levels[i]};
        wide |= WIDE && span.begin[i + 1] - span.begin[i] > 8;
    }
    wide = WIDE && __any_sync(0xffffffffu, wide);
    uint32_t poison = 0;
    while (group.count > 0) {
        uint32_t *const words = run->words[warp];
        const warp_group next = group_at(a, number + gridDim.y * CODEC_WARPS);
        __syncwarp();
        group_walk<T, VECTOR, STOCHASTIC, WIDE>(words, &poison, first, a, quads, group,
                                                wide ? group.source : next.source, 0, !wide);
        if (wide) {
            group_walk<T, VECTOR, STOCHASTIC, WIDE>(words, &poison, first, a, quads, group,
                                                    next.source, 8, true);
        }
        __syncwarp();
        uint32_t *const out = group.count == GROUP_ROWS
                                  ? (uint32_t *)a.codes + (size_t)number * a.work.planes
                                  : work.tail;
        words_write<WIDE>(out + begin, words, run->places, count);
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
template <typename T, bool VECTOR, bool STOCHASTIC, bool WIDE>
static seam_status encode_launch(seam_stream *stream, const seam_device_encode_args &a) {
    const auto kernel = encode_kernel<T, VECTOR, STOCHASTIC, WIDE>;
    const size_t shared = sizeof(span_words<WIDE>);
    const uint32_t groups = (a.rows.rows + GROUP_ROWS - 1) / GROUP_ROWS;
    int blocks = 0; /* of a processor */
    SEAM_CUDA_TRY(cudaFuncSetAttribute((const void *)kernel,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    SEAM_CUDA_TRY(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, CODEC_THREADS, shared));
    cudaLaunchAttribute early = {.id = cudaLaunchAttributeProgrammaticStreamSerialization};
    early.val.programmaticStreamSerializationAllowed = 1;
    const cudaLaunchConfig_t config = {
        .gridDim = codec_grid(a.rows.C, groups, seam_cuda_processors(stream) * (uint32_t)blocks),
        .blockDim = dim3(CODEC_THREADS),
        .dynamicSmemBytes = shared,
        .stream = seam_cuda_queue(stream),
        .attrs = &early,
        .numAttrs = seam_cuda_major(stream) >= 9 ? 1u : 0u,
    };
    return seam_cuda_status(
        cudaLaunchKernelEx(&config, kernel, a, codec_work_at(a.work.bytes, a.rows.C)));
}

template <typename T, bool VECTOR, bool WIDE>
static seam_status encode_rounded(seam_stream *stream, const seam_device_encode_args &a) {
    return a.stochastic ? encode_launch<T, VECTOR, true, WIDE>(stream, a)
                        : encode_launch<T, VECTOR, false, WIDE>(stream, a);
}

/* Rows that are not on quads are seldom: one kernel serves them for all widths. */
template <typename T>
static seam_status rows_encode(seam_stream *stream, const seam_device_encode_args &a) {
    const bool vector = quads_aligned(a.rows.x, a.rows.type, a.rows.C) &&
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
    SEAM_TRY(seam_cuda_codec_measure(queue, work, args->ranged, seam_cuda_processors(stream)));
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
