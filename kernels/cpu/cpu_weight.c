/* Packing of frozen matrices: the same panels that tile.h multiplies, once at load. */
#include "arena.h"
#include "cpu_ops.h"
#include "tile.h"

#define PIECE_K 256u /* rows of k converted to act at a time */

typedef struct pack_job {
    act *packed;
    const float *rows; /* (N, C) */
    uint32_t N, C;
} pack_job;

static void pack_forward(void *context, uint32_t panel, uint32_t thread_idx) {
    (void)thread_idx;
    const pack_job *job = context;
    const uint32_t n0 = panel * TILE_N, n = min_u32(TILE_N, job->N - n0);
    act piece[TILE_N * PIECE_K];
    act *dst = job->packed + panel * tile_panel(job->C);
    for (uint32_t k0 = 0; k0 < job->C; k0 += PIECE_K) {
        const uint32_t K = min_u32(PIECE_K, job->C - k0);
        for (uint32_t i = 0; i < n; i++) {
            const float *row = job->rows + (size_t)(n0 + i) * job->C + k0;
            for (uint32_t k = 0; k < K; k += VL) {
                const uint32_t count = min_u32(VL, K - k);
                act_store_n(piece + i * PIECE_K + k, any_load(row, k, 1, count), count);
            }
        }
        tile_pack_rows(dst + (size_t)k0 * TILE_N, piece, PIECE_K, 0, n, K);
    }
}

static void pack_backward(void *context, uint32_t panel, uint32_t thread_idx) {
    (void)thread_idx;
    const pack_job *job = context;
    const uint32_t n0 = panel * TILE_N, n = min_u32(TILE_N, job->C - n0);
    act piece[PIECE_K * TILE_N];
    act *dst = job->packed + panel * tile_panel(job->N);
    for (uint32_t k0 = 0; k0 < job->N; k0 += PIECE_K) {
        const uint32_t K = min_u32(PIECE_K, job->N - k0);
        for (uint32_t k = 0; k < K; k++) {
            const float *row = job->rows + (size_t)(k0 + k) * job->C + n0;
            for (uint32_t i = 0; i < n; i += VL) {
                const uint32_t count = min_u32(VL, n - i);
                act_store_n(piece + k * TILE_N + i, any_load(row, i, 1, count), count);
            }
        }
        tile_pack_cols(dst + (size_t)k0 * TILE_N, piece, TILE_N, n, K);
    }
}

/* One direction; adds to *bytes. */
static seam_status pack(void **ret_packed, size_t *bytes, seam_pool *pool, seam_pool_fn fn,
                        const float *rows, uint32_t N, uint32_t C, uint32_t panels, size_t panel) {
    size_t packed_bytes = 0;
    if (!seam_mul3_bytes(&packed_bytes, panels, panel, sizeof(act))) {
        return SEAM_E_MEMORY;
    }
    *ret_packed = seam_mem_alloc_aligned(packed_bytes);
    if (*ret_packed == NULL) {
        return SEAM_E_MEMORY;
    }
    pack_job job = {.packed = *ret_packed, .rows = rows, .N = N, .C = C};
    seam_pool_run(pool, panels, fn, &job);
    *bytes += packed_bytes;
    return SEAM_OK;
}

seam_status CPU_FN(weight_create)(seam_weight **ret_weight, seam_backend *backend,
                                  const float *host_rows, uint32_t N, uint32_t C, bool forward,
                                  bool backward) {
    SEAM_ASSERT(N > 0 && C > 0);
    seam_pool *pool = seam_cpu_backend_pool(backend);
    seam_status st = SEAM_OK;
    seam_weight *w = seam_mem_zalloc(1, sizeof *w);
    if (w == NULL) {
        return SEAM_E_MEMORY;
    }
    w->N = N;
    w->C = C;
    if (forward) {
        SEAM_TRY_GOTO(pack(&w->forward, &w->bytes, pool, pack_forward, host_rows, N, C,
                           tile_panels(N), tile_panel(C)),
                      st, fail);
    }
    if (backward) {
        SEAM_TRY_GOTO(pack(&w->backward, &w->bytes, pool, pack_backward, host_rows, N, C,
                           tile_panels(C), tile_panel(N)),
                      st, fail);
    }
    *ret_weight = w;
    return SEAM_OK;
fail:
    seam_mem_free(w->forward);
    seam_mem_free(w->backward);
    seam_mem_free(w);
    return st;
}
