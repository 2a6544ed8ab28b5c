/* What the codec's kernels share: where things lie in a work block, a channel's grid, the bit
 * transpose, rows by fours.  Arithmetic is that of ../codec/codec_affine.c and affine_tile.c, by
 * intrinsics that no compiler contracts. */
#ifndef SEAM_CUDA_CODEC_CUH
#define SEAM_CUDA_CODEC_CUH

#include "cuda_ops.cuh"

extern "C" {
#include "device_codec.h"
}

#define GROUP_ROWS 32u
#define SPAN       128u /* channels of a warp: four a lane */
#define LANE_QUAD  4u

#define CODEC_WARPS   8u /* of a block that encodes or decodes */
#define CODEC_THREADS (CODEC_WARPS * 32u)

/* t in [0, 65535] plus 2^23 leaves an integer in the low bits of the float. */
#define ROUND_MAGIC      8388608.0f
#define ROUND_MAGIC_BITS 0x4b000000u
#define EXPONENT_MAX     110 /* of a range block: magnitudes below 2^125 */

extern const seam_device_codec seam_cuda_codec;

/* A work block: two sets of bounds (2 * C + 1 words each), whose turn it is, how many blocks of the
 * kernel at work have read them, the status, the range block (1 + C words), the planes of a tail
 * group.  A tensor's bounds are gathered by maxima from 0 on in the set whose turn it is, while the
 * other one is cleared for the next tensor: no clearing stands between two kernels. */
typedef struct codec_work {
    uint32_t *bounds, *turn, *readers, *status, *ranges, *tail;
} codec_work;

static __host__ __device__ inline codec_work codec_work_at(void *bytes, uint32_t C) {
    uint32_t *const words = (uint32_t *)bytes;
    uint32_t *const turn = words + 2 * (2 * (size_t)C + 1);
    return {words, turn, turn + 1, turn + 2, turn + 3, turn + 4 + C};
}

/* A set of bounds: keys of lo and of hi (C each), the largest magnitude's bits. */
typedef struct codec_bounds {
    uint32_t *low, *high, *magnitude;
} codec_bounds;

static __device__ inline codec_bounds codec_bounds_at(const codec_work &work, uint32_t C,
                                                      uint32_t turn) {
    uint32_t *const set = work.bounds + (turn % 2) * (2 * (size_t)C + 1);
    return {set, set + C, set + 2 * (size_t)C};
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
static __device__ inline uint32_t bounds_of_keys(uint32_t low, uint32_t high, int exponent) {
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

/* Both by threads 0..SPAN-1, for channel c = first + thread: the words in front of it, and its grid
 * of `width`. */
static __device__ inline void span_begin_put(span_grids *ret, uint32_t thread, uint32_t c,
                                             uint32_t C, const uint32_t *plane_begin) {
    ret->begin[thread] = plane_begin[min(c, C)];
    if (thread == SPAN - 1) {
        ret->begin[SPAN] = plane_begin[min(c + 1, C)];
    }
}
static __device__ inline void span_grid_put(span_grids *ret, uint32_t thread, uint32_t bounds,
                                            int exponent, uint32_t width) {
    const channel_grid grid = width > 0 ? grid_of(bounds, exponent, width) : channel_grid{};
    ret->lo[thread] = grid.lo;
    ret->inverse[thread] = grid.inverse;
    ret->step[thread] = grid.step;
    ret->levels[thread] = grid.levels;
}

/* ---- bits ---- */

/* Bits of a where the mask has ones, else of b, in one instruction: the compiler makes two. */
static __device__ inline uint32_t bits_select(uint32_t mask, uint32_t a, uint32_t b) {
    uint32_t ret;
    asm("lop3.b32 %0, %1, %2, %3, 0xca;" : "=r"(ret) : "r"(mask), "r"(a), "r"(b));
    return ret;
}

/* affine_tile.c's transpose of 8x8 bits in each byte: its own inverse. */
static __device__ inline void transpose8(uint32_t (&a)[8]) {
#pragma unroll
    for (int s = 0; s < 3; s++) {
        const int distance = 4 >> s;
        const uint32_t mask = s == 0 ? 0x0f0f0f0fu : s == 1 ? 0x33333333u : 0x55555555u;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if ((i & distance) == 0) {
                const uint32_t low = a[i], high = a[i + distance];
                a[i] = bits_select(mask, low, high << distance);
                a[i + distance] = bits_select(mask, low >> distance, high);
            }
        }
    }
}

/* Of a kernel that is launched before the one in front of it has ended: what it left is there. */
static __device__ inline void launch_wait(void) {
#if __CUDA_ARCH__ >= 900
    cudaGridDependencySynchronize();
#endif
}
static __device__ inline void launch_next(void) {
#if __CUDA_ARCH__ >= 900
    cudaTriggerProgrammaticLaunchCompletion();
#endif
}

/* ---- rows ---- */

/* Four values of one row as they lie, channels c..c+3; those past C are 0.  check: not 0 from the
 * first value on that is not finite. */
template <typename T> struct quad;

template <> struct quad<float> {
    float4 v;
    template <bool VECTOR> __device__ void load(const float *row, uint32_t c, uint32_t C) {
        if constexpr (VECTOR) {
            v = c < C ? __ldg((const float4 *)(row + c)) : float4{};
        } else {
            v.x = c < C ? row[c] : 0.0f;
            v.y = c + 1 < C ? row[c + 1] : 0.0f;
            v.z = c + 2 < C ? row[c + 2] : 0.0f;
            v.w = c + 3 < C ? row[c + 3] : 0.0f;
        }
    }
    __device__ void take(const float *p) {
        v = *(const float4 *)p;
    }
    __device__ void get(float (&x)[4]) const {
        x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
    }
    __device__ uint32_t check(uint32_t bits) const { /* 0 * x is NaN; 0 + 0 is never -0 */
        float sum = __fmaf_rn(v.x, 0.0f, __uint_as_float(bits));
        sum = __fmaf_rn(v.y, 0.0f, sum);
        sum = __fmaf_rn(v.z, 0.0f, sum);
        return __float_as_uint(__fmaf_rn(v.w, 0.0f, sum));
    }
};

template <> struct quad<__nv_bfloat16> {
    __nv_bfloat162 v[2];
    template <bool VECTOR> __device__ void load(const __nv_bfloat16 *row, uint32_t c, uint32_t C) {
        if constexpr (VECTOR) {
            const uint2 raw = c < C ? __ldg((const uint2 *)(row + c)) : uint2{};
            memcpy(v, &raw, sizeof raw);
        } else {
            const __nv_bfloat16 zero = __float2bfloat16_rn(0.0f);
            v[0] = {c < C ? row[c] : zero, c + 1 < C ? row[c + 1] : zero};
            v[1] = {c + 2 < C ? row[c + 2] : zero, c + 3 < C ? row[c + 3] : zero};
        }
    }
    __device__ void take(const __nv_bfloat16 *p) {
        const uint2 raw = *(const uint2 *)p;
        memcpy(v, &raw, sizeof raw);
    }
    __device__ void get(float (&x)[4]) const {
        uint2 raw;
        memcpy(&raw, v, sizeof raw);
        x[0] = __uint_as_float(raw.x << 16), x[1] = __uint_as_float(raw.x & 0xffff0000u);
        x[2] = __uint_as_float(raw.y << 16), x[3] = __uint_as_float(raw.y & 0xffff0000u);
    }
    __device__ uint32_t check(uint32_t bits) const {
        const __nv_bfloat162 zero = __floats2bfloat162_rn(0.0f, 0.0f);
        __nv_bfloat162 sum;
        memcpy(&sum, &bits, sizeof sum);
        sum = __hfma2(v[1], zero, __hfma2(v[0], zero, sum));
        memcpy(&bits, &sum, sizeof sum);
        return bits;
    }
};

/* How a grid of (spans, groups of groups) covers `groups` with at most blocks_max blocks at once,
 * all of them with as many groups as they have warps times a whole number. */
static inline dim3 codec_grid(uint32_t C, uint32_t groups, uint32_t blocks_max) {
    const uint32_t spans = (C + SPAN - 1) / SPAN, rows_max = blocks_max / spans;
    const uint32_t warps_max = (rows_max > 0 ? rows_max : 1) * CODEC_WARPS;
    const uint32_t rounds = (groups + warps_max - 1) / warps_max;
    const uint32_t warps = (groups + rounds - 1) / rounds;
    return dim3(spans, (warps + CODEC_WARPS - 1) / CODEC_WARPS);
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

/* A kernel of CODEC_THREADS that calls launch_wait before it reads what the kernel in front of it
 * wrote, and begins while that one still runs. */
template <typename... P, typename... A>
static inline seam_status codec_launch(seam_stream *stream, void (*kernel)(P...), dim3 grid,
                                       size_t shared, const A &...args) {
    cudaLaunchAttribute early = {.id = cudaLaunchAttributeProgrammaticStreamSerialization};
    early.val.programmaticStreamSerializationAllowed = 1;
    const cudaLaunchConfig_t config = {
        .gridDim = grid,
        .blockDim = dim3(CODEC_THREADS),
        .dynamicSmemBytes = shared,
        .stream = seam_cuda_queue(stream),
        .attrs = &early,
        .numAttrs = seam_cuda_major(stream) >= 9 ? 1u : 0u,
    };
    return seam_cuda_status(cudaLaunchKernelEx(&config, kernel, args...));
}

/* Into the bounds whose turn it is. */
seam_status seam_cuda_codec_measure(seam_stream *stream, const codec_work &work,
                                    const seam_device_rows &rows);
seam_status seam_cuda_codec_encode(seam_stream *stream, const seam_device_encode_args *args);
seam_status seam_cuda_codec_decode(seam_stream *stream, const seam_device_decode_args *args);
seam_status seam_cuda_codec_raw_encode(seam_stream *stream, const seam_device_work *work,
                                       const seam_device_rows *rows, void *codes,
                                       seam_dtype code_type);
seam_status seam_cuda_codec_raw_decode(seam_stream *stream, const seam_device_rows *rows,
                                       const void *codes, seam_dtype code_type);
seam_status seam_cuda_codec_rows_gather(seam_stream *stream, float *ret,
                                        const seam_device_rows *rows);
seam_status seam_cuda_codec_gate_squares(seam_stream *stream, double *ret_sums,
                                         const seam_device_rows *g);
seam_status seam_cuda_codec_gate_errors(seam_stream *stream, double *ret_sums,
                                        const seam_device_rows *g, const float *x,
                                        const float *decoded);

#endif
