/* dw (N, C) += dy^T x: the gradient of a matrix that is trained.
 *
 * dy is turned in stripes of STRIPE of its columns, so that the workspace stays small beside a
 * model's; a task is one panel of columns of x and BLOCK rows of dw, and takes the sum over T in
 * pieces of TILE_K_MAX, each packed once.  Bound by the product: 2 T N C operations. */
#include "cpu_ops.h"
#include "tile.h"

#define STRIPE      4096u
#define BLOCK       512u
#define TURN_ROWS   8u /* rows of dy read side by side: few, as they may share a cache set */
#define TURN_BLOCKS 8u /* of those rows, a task */

typedef struct gradient_job {
    float *dw;         /* (N, C) */
    const act *dy, *x; /* (T, N) of the stripe, (T, C) */
    act *turned;       /* (N, t_ld) */
    size_t dy_ld, x_ld, t_ld;
    uint32_t T, N, C;
} gradient_job;

static void turn_task(void *context, uint32_t task_idx, uint32_t thread_idx) {
    (void)thread_idx;
    const gradient_job *job = context;
    const uint32_t begin = task_idx * TURN_ROWS * TURN_BLOCKS;
    const uint32_t end = min_u32(job->T, begin + TURN_ROWS * TURN_BLOCKS);
    for (uint32_t t0 = begin; t0 < end; t0 += TURN_ROWS) {
        const uint32_t t1 = min_u32(end, t0 + TURN_ROWS);
        for (uint32_t n = 0; n < job->N; n++) {
            for (uint32_t t = t0; t < t1; t++) {
                job->turned[n * job->t_ld + t] = job->dy[t * job->dy_ld + n];
            }
        }
    }
}

static uint32_t blocks_of(const gradient_job *job) {
    return (job->N + BLOCK - 1) / BLOCK;
}

static void gradient_task(void *context, uint32_t task_idx, uint32_t thread_idx) {
    (void)thread_idx;
    const gradient_job *job = context;
    _Alignas(64) float c[(BLOCK + TILE_M) * TILE_N];
    _Alignas(64) act packed[TILE_K_MAX * TILE_N];
    const uint32_t c0 = task_idx / blocks_of(job) * TILE_N, n = min_u32(TILE_N, job->C - c0);
    const uint32_t r0 = task_idx % blocks_of(job) * BLOCK, m = min_u32(BLOCK, job->N - r0);
    memset(c, 0, sizeof c);
    tile_begin();
    for (uint32_t t0 = 0; t0 < job->T; t0 += TILE_K_MAX) {
        const uint32_t K = min_u32(TILE_K_MAX, job->T - t0);
        tile_pack_cols(packed, job->x + t0 * job->x_ld + c0, job->x_ld, n, K);
        tile_product(c, TILE_N, true, m, n, job->turned + r0 * job->t_ld + t0, job->t_ld, K,
                     packed);
    }
    tile_end();
    for (uint32_t r = 0; r < m; r++) {
        float *dw = job->dw + (size_t)(r0 + r) * job->C + c0;
        for (uint32_t i = 0; i < n; i++) {
            dw[i] += c[(size_t)r * TILE_N + i];
        }
    }
}

seam_status CPU_FN(weight_gradient)(seam_stream *stream, const seam_weight_gradient_args *args) {
    const seam_weight_gradient_args *a = args;
    const uint32_t N = a->w->N, C = a->w->C;
    const size_t t_ld = ((size_t)a->T + 95) / 64 * 64 + 32; /* not a multiple of a page */
    seam_pool *pool = seam_cpu_pool(stream);
    void *turned = NULL;
    SEAM_ASSERT(a->T > 0 && a->dy_ld >= N && a->x_ld >= C);
    SEAM_TRY(seam_cpu_scratch(&turned, stream, min_u32(STRIPE, N) * t_ld * sizeof(act)));
    for (uint32_t n0 = 0; n0 < N; n0 += STRIPE) {
        gradient_job job = {.dw = (float *)a->dw + (size_t)n0 * C,
                            .dy = (const act *)a->dy + n0,
                            .x = a->x,
                            .turned = turned,
                            .dy_ld = a->dy_ld,
                            .x_ld = a->x_ld,
                            .t_ld = t_ld,
                            .T = a->T,
                            .N = min_u32(STRIPE, N - n0),
                            .C = C};
        const uint32_t rows = TURN_ROWS * TURN_BLOCKS;
        seam_pool_run(pool, (a->T + rows - 1) / rows, turn_task, &job);
        seam_pool_run(pool, tile_panels(C) * blocks_of(&job), gradient_task, &job);
    }
    return SEAM_OK;
}
