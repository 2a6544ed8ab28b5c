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
 * Shared: 108 KiB a block, two blocks a multiprocessor.  Stochastic rounding: one Philox a lane and
 * two rows, of which it gives half to its neighbour; bound by instructions.
 *
 * Of a lane and stage of 8 bf16 rows, 32 values, in SASS for 9.0 (up to 8 bits): 212 instructions
 * to nearest; stochastic 521, and 455 where no width is above 7, 60 of them Philox's products. 6144
 * x 4096, 4 bits, ranges included, us from f32 and bf16 on an H200, when they were 253 and 656 (a
 * Philox a row, 120 products; what lanes hold of stages worked out each time): 58.0, 34.4 to
 * nearest, 65.2, 52.3 stochastic.  Before, in the order of the steps: rows to registers, a walk
 * more for codes above 8 bits, all 20 products of Philox: 65.1, 44.7 and 84.6, 67.8; the ring and
 * 15 products: 60.5, 38.9 and 69.2, 56.3; rows in range not clamped: 60.0, 37.1 to nearest; last,
 * blocks that begin while the bounds are taken.  Rows without a list by their number, not by
 * shuffles: the same.  Stochastic bf16, 44.0 us now: 51.1 with three blocks a multiprocessor (three
 * stages, words a half span at a time, 80 registers, which spill); 41.9 with seven rounds of Philox
 * and 38.5 with three, without all but one product: of the 9.5 us beside nearest those are 5.5.
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
#define DRAW_CENTRE  0x1p-17f /* of the rule: ../codec/affine_tile.h */

/* ---- kernels ---- */

typedef enum encode_use {
    PLAIN,
    WHOLE,   /* the rows are those that ranges were taken over */
    WHOLE7,  /* and no width is above 7 */
    DECODED, /* what the receiver will see is wanted too */
} encode_use;

template <encode_use USE> constexpr bool is_whole = USE == WHOLE || USE == WHOLE7;

/* A lane's four channels. */
typedef struct lane_quad {
    channel_grid grid[4];
    uint32_t draw_base[4]; /* what draws come on top of: draw_of */
    uint32_t c;            /* the first */
} lane_quad;

/* A group of rows, spread over its warp: lane i knows row i; those past the end are the last. */
typedef struct warp_group {
    uint32_t row, count; /* the first row, and how many of its 32 there are; 0: no group */
    uint32_t source;     /* where in x the lane's row lies */
    uint32_t id;         /* what the lane's row draws by */
} warp_group;

template <bool STOCHASTIC>
static __device__ inline warp_group group_at(const seam_device_encode_args &a, uint32_t group) {
    const uint32_t row = group * GROUP_ROWS, lane = threadIdx.x % 32;
    if (row >= a.rows.rows) {
        return {};
    }
    const uint32_t count = min(GROUP_ROWS, a.rows.rows - row), own = row + min(lane, count - 1);
    warp_group ret = {row, count, a.rows.list != NULL ? a.rows.list[own] : own, 0};
    if constexpr (STOCHASTIC) {
        ret.id = a.row_ids != NULL ? a.row_ids[own] : a.row_id_begin + own;
    }
    return ret;
}

/* base + half / 2^16 of a draw's word: half 0 or 1; base: bits of a whole number in 128..255. */
static __device__ inline float draw_of(uint32_t word, uint32_t half, uint32_t base) {
    return __uint_as_float(__byte_perm(word, base, half == 0 ? 0x7610u : 0x7632u));
}

/* q + 2^23 as a float: its low bits are the code.  draw: 128 more than what the rule adds; sums
 * rounded down keep the floor of the exact one.
 *
 * WHOLE7, drawn: draw is 256 - 2^w more, and the sum with it is returned.  Byte 2 of that is q +
 * 2^7 - 2^w, whose low w bits are q's; bit 7 is set for q = 2^w, one too many, which planes_make
 * mends.
 *
 * WHOLE: x is one of the rows that ranges were taken over, so lo <= x <= hi (bounds are rounded
 * outward, and x - lo to nearest keeps order), 0 <= (x - lo) * r <= N * (1 + 2^-22) by the three
 * roundings of D, r and the product: to nearest that is in 0..N without a clamp, for N < 2^16; with
 * a draw below 1 on top it may reach N + 1. */
template <bool STOCHASTIC, encode_use USE>
static __device__ inline float quantize(float x, const channel_grid &grid, float draw) {
    float t = __fmul_rn(__fsub_rn(x, grid.lo), grid.inverse);
    if constexpr (!is_whole<USE>) {
        t = fmaxf(t, 0.0f);
    }
    if constexpr (!is_whole<USE> || (STOCHASTIC && USE != WHOLE7)) {
        t = fminf(t, grid.levels);
    }
    if constexpr (STOCHASTIC) {
        t = __fadd_rd(__fadd_rn(t, DRAW_CENTRE), draw);
        return USE == WHOLE7 ? t : __fadd_rd(t, ROUND_MAGIC - 128.0f);
    }
    return __fadd_rn(t, ROUND_MAGIC);
}

/* Words 2*odd and 2*odd + 1 of the draws of two rows: ret[0] of the lane's own, that is the second
 * in odd lanes, ret[1] of its neighbour's. */
static __device__ inline void draws_exchange(uint32_t (&ret)[2][2], const uint32_t (&own)[4],
                                             bool odd) {
#pragma unroll
    for (uint32_t i = 0; i < 2; i++) {
        ret[0][i] = odd ? own[2 + i] : own[i];
        ret[1][i] = __shfl_xor_sync(0xffffffffu, odd ? own[i] : own[2 + i], 1);
    }
}

/* A lane's codes of a group: byte r / 8 of word r % 8 of a channel is that of row r, until the
 * transpose makes planes of them. */
template <bool WIDE> struct lane_words {
    uint32_t low[4][8];
    uint32_t high[WIDE ? 4 : 1][8];
};

/* The rows of a stage, from row `at` of the group on; FIRST is that row's word.  A draw has the
 * numbers of eight channels, two lanes: of two rows each lane makes the draw of one, and they
 * exchange halves.  Its own comes first, so that odd lanes have each two rows' words the other way
 * round (words_order). */
template <typename T, bool VECTOR, bool STOCHASTIC, bool WIDE, encode_use USE, uint32_t FIRST>
static __device__ inline void
stage_quantize(lane_words<WIDE> *ret, uint32_t *poison, const uint4 *stage, const philox_row *rows,
               const seam_device_encode_args &a, const lane_quad &quads, const warp_group &group,
               const philox_keys &keys, const philox_lane &draw, uint32_t at) {
    const uint32_t odd = STOCHASTIC ? threadIdx.x % 2 : 0;
    uint32_t draws[2][2] = {};
#pragma unroll
    for (uint32_t i = 0; i < stage_rows<T>; i++) {
        const uint32_t place = i ^ odd; /* in the stage */
        quad<T> values;
        values.take((const T *)stage + place * SPAN + threadIdx.x % 32 * LANE_QUAD);
        if (STOCHASTIC && i % 2 == 0) {
            uint32_t own[4];
            philox_end(own, keys, draw, rows[at + i + odd]);
            draws_exchange(draws, own, odd != 0);
        }
        float x[4], codes[4];
        values.get(x);
        if constexpr (!is_whole<USE>) { /* whose ranges say it */
            *poison = values.check(*poison);
        }
#pragma unroll
        for (uint32_t l = 0; l < 4; l++) {
            uint32_t *const low = &ret->low[l][FIRST + i];
            codes[l] = quantize<STOCHASTIC, USE>(
                x[l], quads.grid[l], draw_of(draws[i % 2][l / 2], l % 2, quads.draw_base[l]));
            *low = __byte_perm(*low, __float_as_uint(codes[l]),
                               STOCHASTIC && USE == WHOLE7 ? 0x6321u : 0x4321u);
            if constexpr (WIDE) {
                uint32_t *const high = &ret->high[l][FIRST + i];
                *high = __byte_perm(*high, __float_as_uint(codes[l]), 0x5321u);
            }
        }
        if (USE == DECODED && at + place < group.count) {
#pragma unroll
            for (uint32_t l = 0; l < 4; l++) {
                const channel_grid &grid = quads.grid[l];
                codes[l] = __fadd_rn(grid.lo, __fmul_rn(codes[l] - ROUND_MAGIC, grid.step));
            }
            quad_store<VECTOR>(a.decoded + (size_t)(group.row + at + place) * a.rows.C, codes,
                               quads.c, a.rows.C);
        }
    }
}

/* A group's codes; the first stages of the next group are asked for on the way. */
template <typename T, bool VECTOR, bool STOCHASTIC, bool WIDE, encode_use USE>
static __device__ inline void
group_quantize(lane_words<WIDE> *ret, uint32_t *poison, uint4 *ring, const stage_lane<T> &lane,
               const philox_row *rows, const seam_device_encode_args &a, const lane_quad &quads,
               const warp_group &group, const warp_group &next, const philox_keys &keys,
               const philox_lane &draw) {
    const uint32_t steps = GROUP_ROWS / stage_rows<T>;
#pragma unroll 1
    for (uint32_t step = 0; step < steps;) {
        const auto turn = [&](auto first) {
            const uint32_t ahead = step + STAGES - 1;
            stage_wait();
            stage_load<T, VECTOR>(ring, ahead % STAGES, lane, a.rows,
                                  ahead < steps ? group.count : next.count,
                                  ahead < steps ? group.source : next.source, ahead % steps);
            stage_quantize<T, VECTOR, STOCHASTIC, WIDE, USE, decltype(first)::value>(
                ret, poison, ring + step % STAGES * STAGE_PIECES, rows, a, quads, group, keys, draw,
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
    philox_row draws[CODEC_WARPS][GROUP_ROWS]; /* of a group's rows */
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

/* Words of odd lanes in the order of rows. */
static __device__ inline void words_order(uint32_t (&words)[8], bool odd) {
#pragma unroll
    for (uint32_t i = 0; i < 8; i += 2) {
        const uint32_t first = words[i], second = words[i + 1];
        words[i] = odd ? second : first;
        words[i + 1] = odd ? first : second;
    }
}

/* Codes become planes, without the bits of rows past `count`. */
template <bool STOCHASTIC, encode_use USE>
static __device__ inline void planes_make(uint32_t (&words)[4][8], uint32_t count) {
#pragma unroll
    for (uint32_t l = 0; l < 4; l++) {
        if constexpr (STOCHASTIC) {
            words_order(words[l], threadIdx.x % 2 != 0);
        }
        transpose8(words[l]);
        if constexpr (STOCHASTIC && USE == WHOLE7) { /* N where plane 7 says that N + 1 came out */
#pragma unroll
            for (uint32_t j = 0; j < 7; j++) {
                words[l][j] |= words[l][7];
            }
        }
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
    warp_group group = group_at<STOCHASTIC>(a, number);
    const stage_lane<T> stages = stage_lane_of<T>(run->ring[warp], a.rows);
#pragma unroll
    for (uint32_t step = 0; step < STAGES - 1; step++) {
        stage_load<T, VECTOR>(run->ring[warp], step, stages, a.rows, group.count, group.source,
                              step);
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
        const uint32_t width = span.begin[i + 1] - span.begin[i];
        quads.draw_base[l] = USE == WHOLE7 ? 0x43800000u - (0x10000u << width) : 0x43000000u;
    }
    philox_lane draw = {};
    if constexpr (STOCHASTIC) {
        draw = philox_lane_begin(keys, quads.c / 8, a.site | (uint32_t)a.micro << 16,
                                 (uint32_t)a.step);
    }
    uint32_t poison = 0;
    while (group.count > 0) {
        const warp_group next = group_at<STOCHASTIC>(a, number + gridDim.y * CODEC_WARPS);
        if constexpr (STOCHASTIC) {
            run->draws[warp][lane] =
                philox_row_begin(keys, group.id, a.site | (uint32_t)a.micro << 16);
        }
        lane_words<WIDE> words = {};
        group_quantize<T, VECTOR, STOCHASTIC, WIDE, USE>(&words, &poison, run->ring[warp], stages,
                                                         run->draws[warp], a, quads, group, next,
                                                         keys, draw);
        planes_make<STOCHASTIC, USE>(words.low, group.count);
        if constexpr (WIDE) {
            planes_make<STOCHASTIC, USE>(words.high, group.count);
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
            if constexpr (STOCHASTIC && !WIDE) {
                if (a.work.width_max <= 7) {
                    return encode_launch<T, VECTOR, STOCHASTIC, WIDE, WHOLE7>(stream, a);
                }
            }
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
