/* What a gate learns from, summed over a tensor's rows: ../codec/gates.h, add_squares, add_exact.
 *
 * The sums are f64 in row order, so a channel's additions are one chain.  Grid channels / 32, block
 * 9 warps: eight of them load 64 rows of 32 channels at a time and put the products into shared
 * memory (two tiles of 16 KB), the ninth, a lane a channel, adds those of the tile before.  Bytes:
 * g once (errors: and x and decoded); bound by the chain, rows times the latency of an addition. */
#include "cuda_codec.cuh"

#define LOADERS   8u /* warps */
#define THREADS   ((LOADERS + 1) * 32u)
#define TILE_ROWS 64u
#define LANES     32u
#define LOADS     (TILE_ROWS / LOADERS)

typedef struct gate_args {
    seam_device_rows g;
    const float *x, *decoded; /* NULL: squares */
} gate_args;

/* ---- kernels ---- */

/* A loader's factors of one tile; rows past the end give 0, and the sum of zeros is never -0. */
typedef struct tile_part {
    float g[LOADS], x[LOADS], decoded[LOADS];
} tile_part;

static __device__ inline void part_load(tile_part *ret, const gate_args &a, uint32_t tile,
                                        uint32_t warp, uint32_t c) {
#pragma unroll
    for (uint32_t i = 0; i < LOADS; i++) {
        const uint32_t row = tile * TILE_ROWS + i * LOADERS + warp;
        const bool valid = row < a.g.rows && c < a.g.C;
        const size_t source = valid && a.g.list != NULL ? a.g.list[row] : row;
        const size_t at = (size_t)row * a.g.C + c;
        ret->g[i] = valid ? ((const float *)a.g.x)[source * a.g.C + c] : 0.0f;
        ret->x[i] = valid && a.x != NULL ? a.x[at] : 0.0f;
        ret->decoded[i] = valid && a.x != NULL ? a.decoded[at] : 0.0f;
    }
}

static __global__ void __launch_bounds__(THREADS) gate_kernel(double *ret_sums, gate_args a) {
    __shared__ double tiles[2][TILE_ROWS][LANES];
    const uint32_t lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    const uint32_t c = blockIdx.x * LANES + lane;
    const uint32_t tile_count = (a.g.rows + TILE_ROWS - 1) / TILE_ROWS;
    const bool loader = warp < LOADERS;
    tile_part part;
    double sum = 0.0;
    if (loader) {
        part_load(&part, a, 0, warp, c);
    }
    for (uint32_t tile = 0; tile <= tile_count; tile++) {
        if (loader) {
#pragma unroll
            for (uint32_t i = 0; i < LOADS; i++) {
                const double g = part.g[i], error = __dsub_rn(part.decoded[i], part.x[i]);
                tiles[tile % 2][i * LOADERS + warp][lane] = __dmul_rn(g, a.x != NULL ? error : g);
            }
            part_load(&part, a, tile + 1, warp, c);
        } else if (tile > 0) {
#pragma unroll 16
            for (uint32_t i = 0; i < TILE_ROWS; i++) {
                sum = __dadd_rn(sum, tiles[(tile - 1) % 2][i][lane]);
            }
        }
        __syncthreads();
    }
    if (!loader && c < a.g.C) {
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
