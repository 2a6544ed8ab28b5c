/* What the codec's kernels share: where things lie in a work block, a channel's grid, the bit
 * transpose, where words stand in shared memory.  Arithmetic is that of ../codec/codec_affine.c and
 * affine_tile.c, by intrinsics that no compiler contracts. */
#ifndef SEAM_CUDA_CODEC_CUH
#define SEAM_CUDA_CODEC_CUH

#include "cuda_ops.cuh"

extern "C" {
#include "device_codec.h"
}

#define GROUP_ROWS 32u
#define SPAN       128u /* channels of a warp: four a lane */
#define LANE_QUAD  4u
/* t in [0, 65535] plus 2^23 leaves an integer in the low bits of the float. */
#define ROUND_MAGIC      8388608.0f
#define ROUND_MAGIC_BITS 0x4b000000u
#define EXPONENT_MAX     110 /* of a range block: magnitudes below 2^125 */

extern const seam_device_codec seam_cuda_codec;

/* A work block: keys of lo and hi (C each), the largest magnitude's bits, the status, the range
 * block (1 + C words), the planes of a tail group. */
typedef struct codec_work {
    uint32_t *keys, *magnitude, *status, *ranges, *tail;
} codec_work;

static __host__ __device__ inline codec_work codec_work_at(void *bytes, uint32_t C) {
    uint32_t *const words = (uint32_t *)bytes;
    const size_t c = C;
    return {words, words + 2 * c, words + 2 * c + 1, words + 2 * c + 2, words + 3 * c + 3};
}

/* ---- ranges ---- */

/* Unsigned order of floats; +NaN above all.  lo is kept as ~key, so that 0 is below both. */
static __device__ inline uint32_t float_key(float x) {
    const uint32_t bits = __float_as_uint(x);
    return bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
}
static __device__ inline float key_float(uint32_t key) {
    return __uint_as_float(key ^ ((key >> 31) != 0 ? 0x80000000u : 0xffffffffu));
}

/* k of the range block; *ret_valid false: not finite, or 2^125 and more. */
static __device__ inline int range_exponent(bool *ret_valid, uint32_t magnitude) {
    *ret_valid = true;
    if (magnitude == 0) {
        return 0;
    }
    /* The largest magnitude lies in [2^(e - 1), 2^e); subnormal: by its highest bit. */
    const int e = magnitude >= 0x00800000u ? (int)(magnitude >> 23) - 126
                                           : -149 + (32 - __clz((int)magnitude));
    *ret_valid = magnitude < 0x7f800000u && e - 15 <= EXPONENT_MAX;
    return e - 15;
}

static __device__ inline double power_of_two(int exponent) {
    return __hiloint2double((1023 + exponent) << 20, 0);
}

/* codec_affine.c's bound_fp16; scale = 2^-k. */
static __device__ inline uint32_t bound_fp16(float value, double scale, bool up) {
    double scaled = (double)value * scale;
    if (scaled != 0.0 && fabs(scaled) < 0x1p-60) {
        scaled = copysign(0x1p-60, scaled);
    }
    const float x = (float)scaled;
    const uint32_t bits = __half_as_ushort(up ? __float2half_ru(x) : __float2half_rd(x));
    return bits == 0x8000u ? 0 : bits;
}

/* A channel's lo and hi, one above the other, as measured. */
static __device__ inline uint32_t bounds_of_keys(const codec_work &work, uint32_t c, uint32_t C,
                                                 int exponent) {
    const uint32_t low = work.keys[c], high = work.keys[C + c];
    const double scale = power_of_two(-exponent);
    return high == 0 ? 0 /* no row in range */
                     : bound_fp16(key_float(~low), scale, false) |
                           bound_fp16(key_float(high), scale, true) << 16;
}

/* ---- grids ---- */

/* A channel's quantizer, as affine_tile.h has it. */
typedef struct channel_grid {
    float lo, inverse, step, levels;
} channel_grid;

static __device__ inline float bound_f32(uint32_t bits, double scale) {
    return (float)((double)__half2float(__ushort_as_half((unsigned short)bits)) * scale);
}

static __device__ inline channel_grid grid_of(uint32_t bounds, int exponent, uint32_t width) {
    const double scale = power_of_two(exponent);
    const float lo = bound_f32(bounds & 0xffffu, scale), hi = bound_f32(bounds >> 16, scale);
    const float levels = (float)((1u << width) - 1);
    const float step = __fdiv_rn(__fsub_rn(hi, lo), levels);
    const bool constant = step < 0x1p-126f;
    return {lo, constant ? 0.0f : __fdiv_rn(1.0f, step), constant ? 0.0f : step,
            constant ? 0.0f : levels};
}

/* The grids of a block's SPAN channels, and the words in front of each; those past C have none. */
typedef struct span_grids {
    float lo[SPAN], inverse[SPAN], step[SPAN], levels[SPAN];
    uint32_t begin[SPAN + 1];
} span_grids;

/* By threads 0..SPAN-1, for channel c = first + thread. */
static __device__ inline void span_put(span_grids *ret, uint32_t thread, uint32_t c, uint32_t C,
                                       const uint32_t *plane_begin, uint32_t bounds, int exponent) {
    const uint32_t begin = plane_begin[min(c, C)], end = plane_begin[min(c + 1, C)];
    const channel_grid grid = c < C ? grid_of(bounds, exponent, end - begin) : channel_grid{};
    ret->lo[thread] = grid.lo;
    ret->inverse[thread] = grid.inverse;
    ret->step[thread] = grid.step;
    ret->levels[thread] = grid.levels;
    ret->begin[thread] = begin;
    if (thread == SPAN - 1) {
        ret->begin[SPAN] = end;
    }
}

/* ---- bits ---- */

/* affine_tile.c's transpose of 8x8 bits in each byte: its own inverse. */
static __device__ inline void transpose8(uint32_t (&a)[8]) {
#pragma unroll
    for (int s = 0; s < 3; s++) {
        const int distance = 4 >> s;
        const uint32_t mask = s == 0 ? 0x0f0f0f0fu : s == 1 ? 0x33333333u : 0x55555555u;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if ((i & distance) == 0) {
                const uint32_t t = ((a[i] >> distance) ^ a[i + distance]) & mask;
                a[i + distance] ^= t;
                a[i] ^= t << distance;
            }
        }
    }
}

/* Where word i of a warp's run stands, so that neither lanes that write at a stride of four
 * channels' words nor lanes that read one after another meet in a bank. */
static __device__ inline uint32_t word_at(uint32_t i) {
    return i ^ (i >> 5 & 31u);
}

/* Words of shared memory of a warp. */
static inline uint32_t span_words(uint32_t width_max) {
    return SPAN * width_max;
}

/* ---- rows ---- */

/* Four values of one row, channels c..c+3; those past C are 0. */
template <bool VECTOR>
static __device__ inline void quad_load(float (&x)[4], const float *row, uint32_t c, uint32_t C) {
    if constexpr (VECTOR) {
        const float4 v = c < C ? __ldg((const float4 *)(row + c)) : float4{};
        x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
    } else {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            x[i] = c + i < C ? row[c + i] : 0.0f;
        }
    }
}
template <bool VECTOR>
static __device__ inline void quad_load(float (&x)[4], const __nv_bfloat16 *row, uint32_t c,
                                        uint32_t C) {
    if constexpr (VECTOR) {
        const uint2 v = c < C ? __ldg((const uint2 *)(row + c)) : uint2{};
        x[0] = __uint_as_float(v.x << 16), x[1] = __uint_as_float(v.x & 0xffff0000u);
        x[2] = __uint_as_float(v.y << 16), x[3] = __uint_as_float(v.y & 0xffff0000u);
    } else {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            x[i] = c + i < C ? __bfloat162float(row[c + i]) : 0.0f;
        }
    }
}

template <bool VECTOR>
static __device__ inline void quad_store(float *row, const float (&x)[4], uint32_t c, uint32_t C) {
    if constexpr (VECTOR) {
        if (c < C) {
            *(float4 *)(row + c) = float4{x[0], x[1], x[2], x[3]};
        }
    } else {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            if (c + i < C) {
                row[c + i] = x[i];
            }
        }
    }
}
template <bool VECTOR>
static __device__ inline void quad_store(__nv_bfloat16 *row, const float (&x)[4], uint32_t c,
                                         uint32_t C) {
    if constexpr (VECTOR) {
        if (c < C) {
            alignas(8) const __nv_bfloat162 v[2] = {__floats2bfloat162_rn(x[0], x[1]),
                                                    __floats2bfloat162_rn(x[2], x[3])};
            *(uint2 *)(row + c) = *(const uint2 *)v;
        }
    } else {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            if (c + i < C) {
                row[c + i] = __float2bfloat16_rn(x[i]);
            }
        }
    }
}

/* Whether rows of x take quads in one access. */
static inline bool quads_aligned(const void *x, seam_dtype type, uint32_t C) {
    const size_t quad_bytes = LANE_QUAD * seam_dtype_bytes(type);
    return C % LANE_QUAD == 0 && (uintptr_t)x % quad_bytes == 0;
}

/* ---- launchers, one a file ---- */

seam_status seam_cuda_codec_measure(seam_stream *stream, const seam_device_work *work,
                                    const seam_device_rows *rows);
seam_status seam_cuda_codec_encode(seam_stream *stream, const seam_device_encode_args *args);
seam_status seam_cuda_codec_decode(seam_stream *stream, const seam_device_decode_args *args);
seam_status seam_cuda_codec_raw_encode(seam_stream *stream, const seam_device_work *work,
                                       const seam_device_rows *rows, void *codes,
                                       seam_dtype code_type);
seam_status seam_cuda_codec_raw_decode(seam_stream *stream, const seam_device_rows *rows,
                                       const void *codes, seam_dtype code_type);
seam_status seam_cuda_codec_gate_squares(seam_stream *stream, double *ret_sums,
                                         const seam_device_rows *g);
seam_status seam_cuda_codec_gate_errors(seam_stream *stream, double *ret_sums,
                                        const seam_device_rows *g, const float *x,
                                        const float *decoded);

#endif
