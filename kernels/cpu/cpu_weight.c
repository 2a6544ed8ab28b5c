/* Packing of matrices into the panels that tile.h multiplies: frozen ones once at load, those that
 * are trained after every step. */
#include <string.h>

#include "arena.h"
#include "bytes.h"
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

/* Both directions that are wanted, from f32 rows. */
static seam_status pack_both(seam_weight *w, seam_pool *pool, const float *rows) {
    if (w->wants_forward) {
        SEAM_TRY(pack(&w->forward, &w->bytes, pool, pack_forward, rows, w->N, w->C,
                      tile_panels(w->N), tile_panel(w->C)));
    }
    if (w->wants_backward) {
        SEAM_TRY(pack(&w->backward, &w->bytes, pool, pack_backward, rows, w->N, w->C,
                      tile_panels(w->C), tile_panel(w->N)));
    }
    return SEAM_OK;
}

static seam_weight *weight_new(uint32_t N, uint32_t C, bool forward, bool backward) {
    SEAM_ASSERT(N > 0 && C > 0);
    seam_weight *w = seam_mem_zalloc(1, sizeof *w);
    if (w != NULL) {
        *w = (seam_weight){.N = N, .C = C, .wants_forward = forward, .wants_backward = backward};
    }
    return w;
}

static void weight_free(seam_weight *gift_weight) {
    seam_mem_free(gift_weight->rows);
    seam_mem_free(gift_weight->forward);
    seam_mem_free(gift_weight->backward);
    seam_mem_free(gift_weight);
}

seam_status CPU_FN(weight_create)(seam_weight **ret_weight, seam_backend *backend,
                                  const float *host_rows, uint32_t N, uint32_t C, bool forward,
                                  bool backward, uint32_t lora_pad) {
    (void)lora_pad;
    seam_weight *w = weight_new(N, C, forward, backward);
    if (w == NULL) {
        return SEAM_E_MEMORY;
    }
    const seam_status st = pack_both(w, seam_cpu_backend_pool(backend), host_rows);
    if (st != SEAM_OK) {
        weight_free(w);
        return st;
    }
    *ret_weight = w;
    return SEAM_OK;
}

/* ---- trained ---- */

size_t CPU_FN(weight_own_bytes)(size_t *ret_host_bytes, uint32_t N, uint32_t C, seam_dtype dtype) {
    SEAM_ASSERT(dtype == ACT_DTYPE);
    *ret_host_bytes = sizeof(seam_weight);
    return (tile_panels(N) * tile_panel(C) + tile_panels(C) * tile_panel(N)) * sizeof(act);
}

seam_status CPU_FN(weight_own)(seam_weight **ret_weight, seam_backend *backend, uint32_t N,
                               uint32_t C) {
    const size_t forward = tile_panels(N) * tile_panel(C) * sizeof(act);
    const size_t backward = tile_panels(C) * tile_panel(N) * sizeof(act);
    seam_weight *w = weight_new(N, C, true, true);
    if (w == NULL) {
        return SEAM_E_MEMORY;
    }
    seam_status st = backend->ops.mem_alloc(&w->forward, backend, forward);
    if (st == SEAM_OK) {
        st = backend->ops.mem_alloc(&w->backward, backend, backward);
    }
    if (st != SEAM_OK) {
        weight_free(w);
        return st;
    }
    w->bytes = forward + backward;
    *ret_weight = w;
    return SEAM_OK;
}

seam_status CPU_FN(weight_set)(seam_stream *stream, seam_weight *weight, const void *rows) {
    pack_job job = {.packed = weight->forward, .rows = rows, .N = weight->N, .C = weight->C};
    seam_pool_run(seam_cpu_pool(stream), tile_panels(weight->N), pack_forward, &job);
    job.packed = weight->backward;
    seam_pool_run(seam_cpu_pool(stream), tile_panels(weight->C), pack_backward, &job);
    return SEAM_OK;
}

typedef struct unpack_job {
    float *rows;
    const act *packed;
    uint32_t N, C;
} unpack_job;

static void unpack(void *context, uint32_t panel, uint32_t thread_idx) {
    (void)thread_idx;
    const unpack_job *job = context;
    const act *from = job->packed + panel * tile_panel(job->C);
    const uint32_t n0 = panel * TILE_N, n = min_u32(TILE_N, job->N - n0);
    for (uint32_t i = 0; i < n; i++) {
        float *row = job->rows + (size_t)(n0 + i) * job->C;
        for (uint32_t c = 0; c < job->C; c++) {
            vf_store_n(row + c, act_load_n(from + tile_place(c, i), 1), 1);
        }
    }
}

seam_status CPU_FN(weight_get)(seam_stream *stream, void *rows, const seam_weight *weight) {
    SEAM_ASSERT(weight->forward != NULL);
    unpack_job job = {.rows = rows, .packed = weight->forward, .N = weight->N, .C = weight->C};
    seam_pool_run(seam_cpu_pool(stream), tile_panels(weight->N), unpack, &job);
    return SEAM_OK;
}

/* ---- in pieces: f32 rows, packed at the end ---- */

seam_status CPU_FN(weight_begin)(seam_weight **ret_weight, seam_backend *backend, uint32_t N,
                                 uint32_t C, bool forward, bool backward, uint32_t lora_pad) {
    (void)backend;
    (void)lora_pad;
    size_t bytes = 0;
    seam_weight *w = weight_new(N, C, forward, backward);
    if (w == NULL) {
        return SEAM_E_MEMORY;
    }
    w->rows = seam_mul3_bytes(&bytes, N, C, sizeof(float)) ? seam_mem_alloc(bytes) : NULL;
    if (w->rows == NULL) {
        weight_free(w);
        return SEAM_E_MEMORY;
    }
    *ret_weight = w;
    return SEAM_OK;
}

seam_status CPU_FN(weight_write)(seam_stream *stream, seam_weight *weight,
                                 const seam_weight_piece *piece) {
    (void)stream;
    float *rows = weight->rows + piece->first;
    const uint16_t *halves = piece->bytes;
    switch (piece->type) {
    case SEAM_RAW_F32:
        memcpy(rows, piece->bytes, piece->count * sizeof(float));
        break;
    case SEAM_RAW_F16:
        for (size_t i = 0; i < piece->count; i++) {
            rows[i] = seam_fp16_to_f32(halves[i]);
        }
        break;
    case SEAM_RAW_BF16:
        for (size_t i = 0; i < piece->count; i++) {
            const uint32_t bits = (uint32_t)halves[i] << 16;
            memcpy(&rows[i], &bits, sizeof bits);
        }
        break;
    }
    return SEAM_OK;
}

seam_status CPU_FN(weight_end)(seam_weight *weight, seam_backend *backend) {
    SEAM_TRY(pack_both(weight, seam_cpu_backend_pool(backend), weight->rows));
    seam_mem_free(weight->rows);
    weight->rows = NULL;
    return SEAM_OK;
}
