/* Rows on their way from memory to a warp: a ring of stages in shared memory, each some rows of the
 * warp's 128 channels, filled while the stages before are worked on.  No registers wait for them.
 */
#ifndef SEAM_CUDA_CODEC_STAGE_CUH
#define SEAM_CUDA_CODEC_STAGE_CUH

#include "cuda_codec.cuh"

#define STAGES       4u   /* all but one of them on their way */
#define STAGE_PIECES 128u /* of 16 bytes */

/* Of a stage: 8 of bf16, 4 of f32. */
template <typename T>
constexpr uint32_t stage_rows = STAGE_PIECES * 16 / (SPAN * (uint32_t)sizeof(T));

/* A lane's part of each stage: pieces `first`, first + 32, .. of the ring's next stage.  What it
 * holds is worked out once: compilers that are short of registers would do it again each time. */
template <typename T> struct stage_lane {
    static const uint32_t values = 16 / sizeof(T),
                          pieces = SPAN / values; /* of a piece, of a row */
    const uint8_t *from; /* channel c of row 0; past C the row's beginning, which is not read */
    uint32_t c, to;      /* to: the first stage's piece, in shared memory */
    uint32_t there;      /* bytes of a piece: 16, or 0 */
};

template <typename T>
static __device__ inline stage_lane<T> stage_lane_of(const uint4 *ring,
                                                     const seam_device_rows &rows) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t c = blockIdx.x * SPAN + lane % stage_lane<T>::pieces * stage_lane<T>::values;
    const bool there = c < rows.C;
    stage_lane<T> ret = {(const uint8_t *)((const T *)rows.x + (there ? c : 0)), c,
                         (uint32_t)__cvta_generic_to_shared(ring + lane), there ? 16u : 0u};
    asm volatile("" : "+l"(ret.from), "+r"(ret.to), "+r"(ret.there));
    return ret;
}

/* 16 bytes, or zeros. */
static __device__ inline void piece_copy(uint32_t to, const void *from, uint32_t there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there)
                 : "memory");
}

/* Asks for rows `step` * stage_rows and on of a group whose lanes' rows lie at `source`, into a
 * stage of the ring; of a group without rows for nothing.  VECTOR: rows are on 16 bytes, and C too.
 * By all lanes. */
template <typename T, bool VECTOR>
static __device__ inline void stage_load(uint4 *ring, uint32_t stage, const stage_lane<T> &lane,
                                         const seam_device_rows &rows, uint32_t count,
                                         uint32_t source, uint32_t step) {
    const uint32_t own = threadIdx.x % 32 / lane.pieces; /* rows past a stage's first */
    if (count > 0) {
#pragma unroll
        for (uint32_t i = 0; i < STAGE_PIECES / 32; i++) {
            const uint32_t row = __shfl_sync(
                0xffffffffu, source, (int)(step * stage_rows<T> + own + i * (32 / lane.pieces)));
            if constexpr (VECTOR) {
                piece_copy(lane.to + (stage * STAGE_PIECES + i * 32) * 16,
                           lane.from + (uint64_t)row * (rows.C * (uint32_t)sizeof(T)), lane.there);
            } else {
                const T *const from = (const T *)rows.x + (size_t)row * rows.C;
                T *const to = (T *)(ring + stage * STAGE_PIECES + i * 32 + threadIdx.x % 32);
                for (uint32_t j = 0; j < lane.values; j++) {
                    to[j] = lane.c + j < rows.C ? from[lane.c + j] : T(0.0f);
                }
            }
        }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* The oldest stage asked for is there, and all lanes are done with the one before. */
static __device__ inline void stage_wait(void) {
    asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
    __syncwarp();
}

#endif
