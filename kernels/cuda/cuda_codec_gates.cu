/* What a gate learns from, summed over a tensor's rows: ../codec/gates.h, add_squares, add_exact.
 *
 * The sums are f64 in row order, so a channel's additions are one chain.  Grid channels / 32, block
 * 256: all eight warps load 128 rows of 32 channels at a time and put the products into shared
 * memory (32 KB); the first warp, a lane a channel, adds those of the tile before.  Bytes: g once
 * (errors: and x and decoded); bound by the chain, rows times the latency of an addition. */
#include "cuda_codec.cuh"

#define THREADS   256u
#define TILE_ROWS 64u
#define LANES     32u
#define LOADS     (TILE_ROWS * LANES / THREADS)

typedef struct gate_args {
    seam_device_rows g;
    const float *x, *decoded; /* NULL: squares */
} gate_args;

/* ---- kernels ---- */
static __device__ inline double product(const gate_args &a, uint32_t row, uint32_t c) {
    const size_t source = a.g.list != NULL ? a.g.list[row] : row;
    const double g = ((const float *)a.g.x)[source * a.g.C + c];
    if (a.x == NULL) {
        return __dmul_rn(g, g);
    }
    const size_t at = (size_t)row * a.g.C + c;
    return __dmul_rn(g, __dsub_rn((double)a.decoded[at], (double)a.x[at]));
}

static __global__ void __launch_bounds__(THREADS) gate_kernel(double *ret_sums, gate_args a) {
    __shared__ double tiles[2][TILE_ROWS][LANES];
    const uint32_t lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    const uint32_t c = blockIdx.x * LANES + lane,
                   tile_count = (a.g.rows + TILE_ROWS - 1) / TILE_ROWS;
    double sum = 0.0;
    for (uint32_t tile = 0; tile <= tile_count; tile++) {
        double products[LOADS];
#pragma unroll
        for (uint32_t i = 0; i < LOADS; i++) {
            const uint32_t row = tile * TILE_ROWS + warp + i * (THREADS / LANES);
            products[i] = row < a.g.rows && c < a.g.C ? product(a, row, c) : 0.0;
        }
        if (warp == 0 && tile > 0) { /* a row past the end adds 0: the sum is never -0 */
            for (uint32_t i = 0; i < TILE_ROWS; i++) {
                sum = __dadd_rn(sum, tiles[(tile - 1) % 2][i][lane]);
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < LOADS; i++) {
            tiles[tile % 2][warp + i * (THREADS / LANES)][lane] = products[i];
        }
        __syncthreads();
    }
    if (warp == 0 && c < a.g.C) {
        ret_sums[c] = sum;
    }
}

/* ---- launchers ---- */
static seam_status gate_run(seam_stream *stream, double *ret_sums, const gate_args &args) {
    cudaStream_t queue = seam_cuda_queue(stream);
    SEAM_ASSERT(args.g.type == SEAM_F32);
    gate_kernel<<<(args.g.C + LANES - 1) / LANES, THREADS, 0, queue>>>(ret_sums, args);
    return SEAM_CUDA_LAUNCHED();
}

seam_status seam_cuda_codec_gate_squares(seam_stream *stream, double *ret_sums,
                                         const seam_device_rows *g) {
    return gate_run(stream, ret_sums, {*g, NULL, NULL});
}

seam_status seam_cuda_codec_gate_errors(seam_stream *stream, double *ret_sums,
                                        const seam_device_rows *g, const float *x,
                                        const float *decoded) {
    return gate_run(stream, ret_sums, {*g, x, decoded});
}
