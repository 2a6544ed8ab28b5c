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

/* 16 bytes, or zeros. */
static __device__ inline void piece_copy(uint4 *to, const void *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(to)),
                 "l"(from), "r"(there ? 16 : 0)
                 : "memory");
}

/* Asks for rows `step` * stage_rows and on of a group whose lanes' rows lie at `source`; of a group
 * without rows for nothing.  VECTOR: rows are on 16 bytes, and C too.  By all lanes. */
template <typename T, bool VECTOR>
static __device__ inline void stage_load(uint4 *to, const seam_device_rows &rows, uint32_t count,
                                         uint32_t source, uint32_t step) {
    const uint32_t values = 16 / sizeof(T), pieces = SPAN / values; /* of a piece, of a row */
    if (count > 0) {
#pragma unroll
        for (uint32_t i = 0; i < STAGE_PIECES / 32; i++) {
            const uint32_t at = i * 32 + threadIdx.x % 32;
            const uint32_t c = blockIdx.x * SPAN + at % pieces * values;
            const size_t row =
                __shfl_sync(0xffffffffu, source, (int)(step * stage_rows<T> + at / pieces));
            const T *const from = (const T *)rows.x + row * rows.C;
            if constexpr (VECTOR) {
                piece_copy(to + at, c < rows.C ? from + c : from, c < rows.C);
            } else {
                for (uint32_t j = 0; j < values; j++) {
                    ((T *)(to + at))[j] = c + j < rows.C ? from[c + j] : T(0.0f);
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
