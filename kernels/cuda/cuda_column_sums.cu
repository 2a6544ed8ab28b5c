/* dw (C) f32 += sum_t dy x rstd, or sum_t dy: gradients of norms' gains and of biases.
 *
 * Grid (C / 32, pieces of PIECE rows), a block of 32 x 8 threads sums 32 columns, eight rows at a
 * time; a second kernel adds the pieces in their order.  Reads dy and x once, 4 bytes a value in
 * bf16; bound by memory. */
#include "cuda_device.cuh"

#define COLS  32u
#define LANES 8u
#define PIECE 256u

/* ---- kernels ---- */
/* sums[piece][c] of the rows of the piece. */
template <typename act>
static __global__ void __launch_bounds__(COLS *LANES)
    piece_kernel(seam_column_sums_args a, float *sums) {
    __shared__ float part[LANES][COLS];
    const uint32_t c = blockIdx.x * COLS + threadIdx.x, begin = blockIdx.y * PIECE;
    const uint32_t end = begin + PIECE < a.T ? begin + PIECE : a.T;
    float sum = 0.0f;
    for (uint32_t t = begin + threadIdx.y; t < end && c < a.C; t += LANES) {
        const float dy = to_f32(((const act *)a.dy)[(size_t)t * a.dy_ld + c]);
        const float factor = a.x != NULL ? to_f32(((const act *)a.x)[(size_t)t * a.x_ld + c]) *
                                               ((const float *)a.rstd)[t]
                                         : 1.0f;
        sum += dy * factor;
    }
    part[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && c < a.C) {
        for (uint32_t lane = 1; lane < LANES; lane++) {
            sum += part[lane][threadIdx.x];
        }
        sums[(size_t)blockIdx.y * a.C + c] = sum;
    }
}

static __global__ void join_kernel(float *dw, const float *sums, uint32_t C, uint32_t pieces) {
    const uint32_t c = blockIdx.x * COLS * LANES + threadIdx.x;
    if (c < C) {
        float sum = 0.0f;
        for (uint32_t i = 0; i < pieces; i++) {
            sum += sums[(size_t)i * C + c];
        }
        dw[c] += sum;
    }
}

/* ---- launchers ---- */
seam_status seam_cuda_column_sums(seam_stream *stream, const seam_column_sums_args *args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    const uint32_t C = args->C, pieces = (args->T + PIECE - 1) / PIECE;
    void *sums = NULL;
    if (args->T == 0) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_cuda_scratch(&sums, stream, (size_t)pieces * C * sizeof(float)));
    const dim3 grid((C + COLS - 1) / COLS, pieces), threads(COLS, LANES);
    SEAM_CUDA_BY_ACT(stream,
                     (piece_kernel<act><<<grid, threads, 0, queue>>>(*args, (float *)sums)));
    SEAM_TRY(SEAM_CUDA_LAUNCHED());
    join_kernel<<<(C + COLS * LANES - 1) / (COLS * LANES), COLS * LANES, 0, queue>>>(
        (float *)args->dw, (const float *)sums, C, pieces);
    return SEAM_CUDA_LAUNCHED();
}
