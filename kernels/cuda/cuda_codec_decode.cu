/* Rows of a tensor from its range block and codes: cuda_codec_encode.cu backwards.
 *
 * Grid (channels / 128, groups / 8), block 8 warps: a warp takes one group of 32 rows.  Its run of
 * words goes to shared memory as the wire has it while the block makes its grids; a lane takes
 * those of its four channels from there, turns planes into codes and writes 16 bytes (f32) of each
 * row.  Bytes: the codes, and the rows; bound by memory.
 *
 * Of eight bf16 rows of a lane, 32 values, in SASS for 9.0: 179 instructions, 222 with codes above
 * 8 bits.  6144 x 4096, 4 bits, us to f32 and bf16 rows on an H200, when they were 233 and 303
 * (each row's address and whether it is wanted worked out anew, selectors moved from uniform
 * registers): 32.2, 19.4 (8 bits: 35.2, 22.9).  With a branch around each plane and each
 * row: 33.9, 23.6; words asked for once the grids are made: 31.1, 19.4 (35.7, 24.6), and of that
 * two blocks a multiprocessor: 32.5, 21.4; four: 31.8, 19.9; no early launch: 33.0, 21.4.  Words
 * put by channel at odd strides through a table of places, and a kernel for each of narrow and
 * wide, on an H100: 51.4, 34.5 for 43.6, 27.9.
 *
 * A tail group's string of bits becomes planes in the work block first, one thread a plane. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda_codec.cuh"

#define UNPACK_THREADS 256u

/* ---- kernels ---- */

/* Where word i of a warp's run stands, so that neither lanes that take their four channels' words
 * nor lanes that take one word after another meet in a bank. */
static __device__ inline uint32_t word_at(uint32_t i) {
    return i ^ (i >> 5 & 31u);
}

/* One word on its way; all of the thread's are there after the wait, and the warp's. */
static __device__ inline void word_copy(uint32_t *to, const uint32_t *from) {
    asm volatile(
        "cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((uint32_t)__cvta_generic_to_shared(to)),
        "l"(from)
        : "memory");
}
static __device__ inline void copies_wait(void) {
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncwarp();
}

/* Codes of one channel of `width` planes, the run's words from `at` on: byte r / 8 of word r % 8 is
 * that of row r.  Eight words are read whatever the width, because a branch for each costs more. */
static __device__ inline void codes_take(uint32_t (&ret)[8], const uint32_t *run, uint32_t at,
                                         uint32_t width) {
    const uint32_t mask = ((1u << min(width, 8u)) - 1) * 0x01010101u;
#pragma unroll
    for (uint32_t j = 0; j < 8; j++) {
        ret[j] = run[word_at(at + j)];
    }
    transpose8(ret);
#pragma unroll
    for (uint32_t j = 0; j < 8; j++) {
        ret[j] &= mask;
    }
}

/* quad_store at channel c of a row that is wanted (not 0), or nothing; by predicate, so that rows
 * need no branches and the next one's arithmetic goes on.  VECTOR: c is below C, or not wanted. */
template <bool VECTOR, typename T>
static __device__ inline void row_store(T *at, const float (&x)[4], uint32_t c, uint32_t C,
                                        uint32_t wanted) {
    if constexpr (!VECTOR) {
        if (wanted != 0) {
            quad_store<VECTOR>(at - c, x, c, C);
        }
    } else if constexpr (sizeof(T) == 2) {
        alignas(8) const __nv_bfloat162 v[2] = {__floats2bfloat162_rn(x[0], x[1]),
                                                __floats2bfloat162_rn(x[2], x[3])};
        const uint2 raw = *(const uint2 *)v;
        asm volatile(
            "{ .reg .pred p; setp.ne.u32 p, %0, 0; @p st.global.v2.b32 [%1], {%2, %3}; }" ::"r"(
                wanted),
            "l"(at), "r"(raw.x), "r"(raw.y)
            : "memory");
    } else {
        asm volatile("{ .reg .pred p; setp.ne.u32 p, %0, 0;"
                     " @p st.global.v4.f32 [%1], {%2, %3, %4, %5}; }" ::"r"(wanted),
                     "l"(at), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3])
                     : "memory");
    }
}

/* The rows of the group in which a lane has words of codes, low bytes and high ones. */
template <typename T, bool VECTOR, bool WIDE>
static __device__ inline void group_decode(const seam_device_decode_args &a, const uint32_t *run,
                                           const span_grids *span, uint32_t source,
                                           uint32_t count) {
    const uint32_t lane = threadIdx.x % 32, c = blockIdx.x * SPAN + 4 * lane;
    uint32_t low[4][8], high[WIDE ? 4 : 1][8];
    float lo[4], step[4];
    /* Bit i: row i is wanted. */
    uint32_t wanted = __ballot_sync(0xffffffffu, lane < count && source != SEAM_DEVICE_ROW_NONE);
    if (VECTOR && c >= a.rows.C) {
        wanted = 0;
    }
#pragma unroll
    for (uint32_t l = 0; l < 4; l++) {
        const uint32_t at = span->begin[4 * lane + l] - span->begin[0];
        const uint32_t width = span->begin[4 * lane + l + 1] - span->begin[4 * lane + l];
        lo[l] = span->lo[4 * lane + l];
        step[l] = span->step[4 * lane + l];
        codes_take(low[l], run, at, width);
        if constexpr (WIDE) {
            codes_take(high[l], run, at + 8, width > 8 ? width - 8 : 0);
        }
    }
    /* Worked out once, not for each row or value.  A selector that the compiler knows to be the
     * whole warp's would stand in a uniform register, and be moved from there for each use. */
    uint8_t *base = (uint8_t *)((T *)a.rows.x + c);
    const uint32_t pitch = a.rows.C * (uint32_t)sizeof(T);
    uint32_t one; /* bits of the lane's mask */
    asm volatile("" : "+l"(base));
    asm volatile("{ .reg .b32 own; mov.u32 own, %%lanemask_eq; popc.b32 %0, own; }" : "=r"(one));
    uint32_t selector = 0x753fu + one, selector_high = 0x323fu + one;
    /* Rolled up: as straight code it does not fit the caches of instructions, and the selectors in
     * registers leave their immediate operand to 2^23. */
#pragma unroll 1
    for (uint32_t byte = 0; byte < 4; byte++, wanted >>= 8, selector++, selector_high += 16) {
#pragma unroll
        for (uint32_t i = 0; i < 8; i++) {
            const uint32_t row = __shfl_sync(0xffffffffu, source, (int)i);
            uint64_t row_bytes;
            asm("mul.wide.u32 %0, %1, %2;" : "=l"(row_bytes) : "r"(row), "r"(pitch));
            float x[4];
#pragma unroll
            for (uint32_t l = 0; l < 4; l++) { /* the code's bytes below those of 2^23 */
                uint32_t bits = __byte_perm(low[l][i], ROUND_MAGIC_BITS, selector);
                if constexpr (WIDE) {
                    bits = __byte_perm(bits, high[l][i], selector_high);
                }
                x[l] = __fadd_rn(lo[l], __fmul_rn(__uint_as_float(bits) - ROUND_MAGIC, step[l]));
            }
            row_store<VECTOR>((T *)(base + row_bytes), x, c, a.rows.C, wanted & 1u << i);
        }
        source = __shfl_sync(0xffffffffu, source, (int)lane + 8); /* the next eight come down */
    }
}

template <typename T, bool VECTOR>
static __global__ void __launch_bounds__(CODEC_THREADS, 3)
    decode_kernel(const __grid_constant__ seam_device_decode_args a, codec_work work,
                  uint32_t run_words) {
    extern __shared__ uint32_t runs[];
    __shared__ span_grids span;
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t c = blockIdx.x * SPAN, C = a.rows.C, end = a.row_begin + a.row_count;
    const uint32_t row = a.row_begin + (blockIdx.y * CODEC_WARPS + warp) * GROUP_ROWS;
    const uint32_t count = row < end ? min(GROUP_ROWS, end - row) : 0;
    uint32_t *const run = runs + warp * run_words;
    uint32_t source = 0;
    launch_wait();
    if (count > 0) {
        const uint32_t own = row + min(lane, count - 1), begin = a.work.plane_begin[c];
        const uint32_t words = a.work.plane_begin[min(c + SPAN, C)] - begin;
        source = a.rows.list != NULL ? a.rows.list[own] : own;
        const uint32_t *const in =
            count == GROUP_ROWS
                ? (const uint32_t *)a.codes + (size_t)(row / GROUP_ROWS) * a.work.planes + begin
                : work.tail + begin;
        for (uint32_t i = lane; i < words; i += 32) {
            word_copy(run + word_at(i), in + i);
        }
    }
    if (threadIdx.x < SPAN) { /* while the words are on their way */
        const uint32_t own = c + threadIdx.x;
        const uint32_t width = own < C ? a.work.plane_begin[own + 1] - a.work.plane_begin[own] : 0;
        span_begin_put(&span, threadIdx.x, own, C, a.work.plane_begin);
        span_grid_put(&span, threadIdx.x, own < C ? work.ranges[1 + own] : 0,
                      (int)(int16_t)(work.ranges[0] & 0xffffu), width);
    }
    __syncthreads();
    if (count == 0) {
        return;
    }
    copies_wait();
    bool wide = false;
#pragma unroll
    for (uint32_t l = 0; l < 4; l++) {
        wide |= span.begin[4 * lane + l + 1] - span.begin[4 * lane + l] > 8;
    }
    if (__any_sync(0xffffffffu, wide)) {
        group_decode<T, VECTOR, true>(a, run, &span, source, count);
    } else {
        group_decode<T, VECTOR, false>(a, run, &span, source, count);
    }
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
template <typename T, bool VECTOR>
static seam_status decode_launch(seam_stream *stream, const seam_device_decode_args &a) {
    const uint32_t words = SPAN * a.work.width_max + 32; /* codes_take reads past the last */
    const size_t shared = CODEC_WARPS * words * sizeof(uint32_t);
    const uint32_t groups = (a.row_count + GROUP_ROWS - 1) / GROUP_ROWS;
    const dim3 grid((a.rows.C + SPAN - 1) / SPAN, (groups + CODEC_WARPS - 1) / CODEC_WARPS);
    const auto kernel = decode_kernel<T, VECTOR>;
    if (shared > 48 * 1024 - sizeof(span_grids)) {
        SEAM_CUDA_TRY(cudaFuncSetAttribute(
            (const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    }
    return codec_launch(stream, kernel, grid, shared, a, codec_work_at(a.work.bytes, a.rows.C),
                        words);
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
        return vector ? decode_launch<__nv_bfloat16, true>(stream, *args)
                      : decode_launch<__nv_bfloat16, false>(stream, *args);
    }
    return vector ? decode_launch<float, true>(stream, *args)
                  : decode_launch<float, false>(stream, *args);
}
