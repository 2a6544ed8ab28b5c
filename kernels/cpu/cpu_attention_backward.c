/* Causal attention backward.  A task is one sequence and kv head: it owns all of dk and dv there
 * and dq of the group's heads, so no sum crosses threads.  K and V are brought into the forms that
 * products read once a task.
 *
 *   P^T = exp(scale K Q^T - lse)      dP^T = V dO^T      dS^T = scale P^T (dP^T - delta)
 *   dV += P^T dO      dK += dS^T Q      dQ^T += K^T dS^T      delta = sum_d o dO
 *
 * Head by head, block of queries by block, key blocks up to the diagonal: dQ^T of a block stays in
 * cache and dk, dv are summed in f32 for the whole sequence. */
#include "attention.h"

typedef struct backward_job {
    const seam_attention_backward_args *args;
    uint8_t *scratch;
    size_t slice_bytes;
} backward_job;

/* K and V of a block of keys, as the products read them. */
typedef struct key_block {
    const act *scores; /* of the scores' product */
    const act *v;      /* rows */
    act *kt;           /* (att_rows(D), ATT_BLOCK) */
    size_t scores_ld, v_ld;
    uint32_t first, n; /* of the sequence */
} key_block;

typedef struct backward_memory {
    key_block *blocks;
    act *scores, *v, *kt;                     /* of each block, where not read in place */
    float *dk, *dv;                           /* (rows, wide) */
    act *q_rows, *q_cols, *do_rows, *do_cols; /* of one block of queries */
    float *st, *dpt;                          /* (ATT_BLOCK, ATT_BLOCK) */
    act *pt, *dst;                            /* (ATT_BLOCK, ATT_BLOCK) */
    act *ds_panels;
    float *dqt; /* (att_rows(D), ATT_BLOCK) */
    float *transposed;
    act *work, *rows;   /* (ATT_BLOCK, ..) each */
    float *lse, *delta; /* (ATT_BLOCK) */
} backward_memory;

static size_t backward_place(backward_memory *m, att_bump b, uint32_t D, uint32_t rows_max) {
    const size_t blocks = (rows_max + ATT_BLOCK - 1) / ATT_BLOCK;
    const size_t wide = (size_t)tile_panels(D) * TILE_N, square = ATT_BLOCK * ATT_BLOCK;
    const size_t spare = TILE_M * ATT_BLOCK;
    const size_t depth = tile_k(att_score_depth(D));
    m->blocks = att_take(&b, blocks, sizeof(key_block));
    m->scores = att_take(&b, blocks * ATT_BLOCK * depth, sizeof(act));
    m->v = att_take(&b, blocks * ATT_BLOCK * tile_k(D), sizeof(act));
    m->kt = att_take(&b, blocks * att_rows(D) * ATT_BLOCK, sizeof(act));
    m->dk = att_take(&b, (blocks * ATT_BLOCK + TILE_M) * wide, sizeof(float));
    m->dv = att_take(&b, (blocks * ATT_BLOCK + TILE_M) * wide, sizeof(float));
    m->q_rows = att_take(&b, ATT_PANELS * tile_panel(att_score_depth(D)), sizeof(act));
    m->do_rows = att_take(&b, ATT_PANELS * tile_panel(D), sizeof(act));
    m->q_cols = att_take(&b, ATT_BLOCK * wide, sizeof(act));
    m->do_cols = att_take(&b, ATT_BLOCK * wide, sizeof(act));
    m->st = att_take(&b, square + spare, sizeof(float));
    m->dpt = att_take(&b, square + spare, sizeof(float));
    m->pt = att_take(&b, square, sizeof(act));
    m->dst = att_take(&b, square, sizeof(act));
    m->ds_panels = att_take(&b, square, sizeof(act));
    m->dqt = att_take(&b, att_rows(D) * ATT_BLOCK + spare, sizeof(float));
    m->transposed = att_take(&b, ATT_BLOCK * D, sizeof(float));
    m->work = att_take(&b, ATT_BLOCK * (wide > depth ? wide : depth), sizeof(act));
    m->rows = att_take(&b, ATT_BLOCK * tile_k(D), sizeof(act));
    m->lse = att_take(&b, ATT_BLOCK, sizeof(float));
    m->delta = att_take(&b, ATT_BLOCK, sizeof(float));
    return b.used;
}

/* lse and delta of a block; 0 beyond n, where Q and dO are zero rows. */
static void row_terms(const seam_attention_backward_args *a, const backward_memory *m, uint32_t t0,
                      uint32_t n, uint32_t h) {
    for (uint32_t i = 0; i < ATT_BLOCK; i++) {
        m->lse[i] = 0.0f;
        m->delta[i] = 0.0f;
    }
    for (uint32_t i = 0; i < n; i++) {
        const size_t row = (size_t)(t0 + i) * a->H + h;
        vf sum = vf_set(0.0f);
        for (uint32_t d = 0; d < a->D; d += VL) {
            const uint32_t count = min_u32(VL, a->D - d);
            sum += any_load(a->o, row * a->D + d, 0, count) *
                   any_load(a->d_o, row * a->D + d, 0, count);
        }
        m->lse[i] = ((const float *)a->lse)[row];
        m->delta[i] = vf_sum(sum);
    }
}

/* One vector of queries: st and dpt become P^T and dS^T in the forms that are read next. */
CPU_INLINE void softmax_gradient(const backward_memory *m, uint32_t q, uint32_t keys, float scale,
                                 const bool masked, att_mask mask) {
    const vi query = att_lanes(q);
    const vf lse = vf_load(m->lse + q), delta = vf_load(m->delta + q);
    act *panel = m->ds_panels + (q / TILE_N) * tile_panel(ATT_BLOCK);
    for (uint32_t key = 0; key < keys; key += 2) {
        vf ds[2];
        for (uint32_t i = 0; i < 2; i++) {
            const size_t at = (size_t)(key + i) * ATT_BLOCK + q;
            vf p = vf_exp(vf_load(m->st + at) * scale - lse);
            if (masked) {
                p = (vf)((vi)p & att_seen(query, key + i, mask));
            }
            ds[i] = p * (vf_load(m->dpt + at) - delta) * scale;
            act_store(m->pt + at, p);
            act_store(m->dst + at, ds[i]);
        }
        tile_emit_pair(panel, key, q % TILE_N, ds[0], ds[1]);
    }
}

static void block_pair(const backward_memory *m, const key_block *kb, float scale, att_mask mask,
                       uint32_t query_count, uint32_t D) {
    const uint32_t keys = att_keys(kb->n), wide = tile_panels(D) * TILE_N;
    const uint32_t depth = att_score_depth(D);
    for (uint32_t p = 0; p < ATT_PANELS; p++) {
        tile_product(m->st + p * TILE_N, ATT_BLOCK, 0, keys, TILE_N, kb->scores, kb->scores_ld,
                     depth, m->q_rows + p * tile_panel(depth));
        tile_product(m->dpt + p * TILE_N, ATT_BLOCK, 0, keys, TILE_N, kb->v, kb->v_ld, D,
                     m->do_rows + p * tile_panel(D));
    }
    for (uint32_t q = 0; q < ATT_BLOCK; q += VL) {
        mask.any ? softmax_gradient(m, q, keys, scale, true, mask)
                 : softmax_gradient(m, q, keys, scale, false, mask);
    }
    for (uint32_t d = 0, p = 0; d < D; d += TILE_N, p++) {
        const uint32_t n = min_u32(TILE_N, D - d), K = tile_k(query_count);
        const size_t at = (size_t)kb->first * wide + d;
        tile_product(m->dv + at, wide, 1, keys, n, m->pt, ATT_BLOCK, K,
                     m->do_cols + (size_t)p * ATT_BLOCK * TILE_N);
        tile_product(m->dk + at, wide, 1, keys, n, m->dst, ATT_BLOCK, K,
                     m->q_cols + (size_t)p * ATT_BLOCK * TILE_N);
    }
    for (uint32_t p = 0; p < ATT_PANELS; p++) {
        tile_product(m->dqt + p * TILE_N, ATT_BLOCK, 1, att_rows(D), TILE_N, kb->kt, ATT_BLOCK,
                     keys, m->ds_panels + p * tile_panel(ATT_BLOCK));
    }
}

static key_block key_block_of(const seam_attention_backward_args *a, const backward_memory *m,
                              uint32_t begin, uint32_t rows, uint32_t first, uint32_t g) {
    const uint32_t D = a->D;
    key_block kb = {.first = first, .n = min_u32(ATT_BLOCK, rows - first)};
    const float *k = (const float *)a->k + (size_t)(begin + first) * a->k_ld + (size_t)g * D;
    const float *v = (const float *)a->v + (size_t)(begin + first) * a->v_ld + (size_t)g * D;
    act *scores = m->scores + (size_t)first * tile_k(att_score_depth(D));
    kb.scores = att_score_rows(&kb.scores_ld, scores, k, a->k_ld, kb.n, D);
    kb.v = att_rows_of(&kb.v_ld, m->v + (size_t)first * tile_k(D), v, a->v_ld, kb.n, D);
    kb.kt = m->kt + (size_t)first / ATT_BLOCK * att_rows(D) * ATT_BLOCK;
    size_t k_ld = 0;
    const act *k_rows = att_rows_of(&k_ld, m->rows, k, a->k_ld, kb.n, D);
    att_transpose_block(kb.kt, m->work, k_rows, k_ld, kb.n, D);
    return kb;
}

static void query_block(const seam_attention_backward_args *a, const backward_memory *m,
                        uint32_t begin, uint32_t rows, uint32_t q0, uint32_t h) {
    const uint32_t D = a->D, n = min_u32(ATT_BLOCK, rows - q0), t0 = begin + q0;
    const float *q = (const float *)a->q + (size_t)t0 * a->q_ld + (size_t)h * D;
    const act *d_o = (const act *)a->d_o + ((size_t)t0 * a->H + h) * D;
    const size_t o_ld = (size_t)a->H * D;
    row_terms(a, m, t0, n, h);
    att_pack_score_queries(m->q_rows, m->work, q, a->q_ld, n, D);
    att_pack_queries(m->do_rows, d_o, o_ld, n, D);
    size_t q_ld = 0;
    const act *q_act = att_rows_of(&q_ld, m->rows, q, a->q_ld, n, D);
    for (uint32_t d = 0, p = 0; d < D; d += TILE_N, p++) {
        const uint32_t count = min_u32(TILE_N, D - d);
        tile_pack_cols(m->q_cols + (size_t)p * ATT_BLOCK * TILE_N, q_act + d, q_ld, count, n);
        tile_pack_cols(m->do_cols + (size_t)p * ATT_BLOCK * TILE_N, d_o + d, o_ld, count, n);
    }
    memset(m->dqt, 0, (size_t)att_rows(D) * ATT_BLOCK * sizeof(float));
    for (uint32_t k0 = att_first_block(q0, a->window); k0 <= q0; k0 += ATT_BLOCK) {
        block_pair(m, &m->blocks[k0 / ATT_BLOCK], a->scale, att_mask_of(q0, k0, a->window), n, D);
    }
    act *dq = (act *)a->dq + (size_t)t0 * a->dq_ld + (size_t)h * D;
    att_store_transposed(dq, a->dq_ld, m->transposed, m->dqt, n, D);
}

static void store_rows(act *dst, size_t ld, const float *src, size_t src_ld, uint32_t rows,
                       uint32_t D) {
    for (uint32_t t = 0; t < rows; t++) {
        for (uint32_t d = 0; d < D; d += VL) {
            const uint32_t count = min_u32(VL, D - d);
            any_store(dst, t * ld + d, 0, any_load(src, t * src_ld + d, 1, count), count);
        }
    }
}

static void backward_task(void *context, uint32_t task_idx, uint32_t thread_idx) {
    const backward_job *job = context;
    const seam_attention_backward_args *a = job->args;
    const uint32_t s = task_idx / a->G, g = task_idx % a->G, heads = a->H / a->G, D = a->D;
    const uint32_t begin = a->seq_begin[s], rows = a->seq_begin[s + 1] - begin;
    const uint32_t wide = tile_panels(D) * TILE_N;
    const uint32_t rows_padded = (rows + ATT_BLOCK - 1) / ATT_BLOCK * ATT_BLOCK;
    backward_memory m;
    uint8_t *slice = job->scratch + thread_idx * job->slice_bytes;
    (void)backward_place(&m, (att_bump){.base = slice}, D, rows);
    memset(m.dk, 0, (size_t)rows_padded * wide * sizeof(float));
    memset(m.dv, 0, (size_t)rows_padded * wide * sizeof(float));
    for (uint32_t k0 = 0; k0 < rows; k0 += ATT_BLOCK) {
        m.blocks[k0 / ATT_BLOCK] = key_block_of(a, &m, begin, rows, k0, g);
    }
    tile_begin();
    for (uint32_t h = g * heads; h < (g + 1) * heads; h++) {
        for (uint32_t q0 = 0; q0 < rows; q0 += ATT_BLOCK) {
            query_block(a, &m, begin, rows, q0, h);
        }
    }
    tile_end();
    store_rows((act *)a->dk + (size_t)begin * a->dk_ld + (size_t)g * D, a->dk_ld, m.dk, wide, rows,
               D);
    store_rows((act *)a->dv + (size_t)begin * a->dv_ld + (size_t)g * D, a->dv_ld, m.dv, wide, rows,
               D);
}

static seam_status rotate_back(seam_stream *stream, const seam_attention_backward_args *a) {
    seam_rope_args rope = {.x = a->dq,
                           .ld = a->dq_ld,
                           .heads = a->H,
                           .cos_sin = a->cos_sin,
                           .positions = a->positions,
                           .backward = true,
                           .T = a->T,
                           .D = a->D};
    SEAM_TRY(CPU_FN(rope)(stream, &rope));
    rope.x = a->dk;
    rope.ld = a->dk_ld;
    rope.heads = a->G;
    return CPU_FN(rope)(stream, &rope);
}

seam_status CPU_FN(attention_backward)(seam_stream *stream,
                                       const seam_attention_backward_args *args) {
    SEAM_ASSERT(args->G > 0 && args->H % args->G == 0);
    SEAM_ASSERT(args->D >= 2 && args->D <= ATT_D_MAX);
    SEAM_ASSERT(args->seq_begin[0] == 0 && args->seq_begin[args->S] == args->T);
    uint32_t rows_max = 0;
    for (uint32_t s = 0; s < args->S; s++) {
        const uint32_t rows = args->seq_begin[s + 1] - args->seq_begin[s];
        rows_max = rows > rows_max ? rows : rows_max;
    }
    backward_memory m;
    backward_job job = {.args = args};
    job.slice_bytes = backward_place(&m, (att_bump){.base = NULL}, args->D, rows_max);
    void *scratch = NULL;
    SEAM_TRY(seam_cpu_scratch(&scratch, stream,
                              job.slice_bytes * seam_pool_threads(seam_cpu_pool(stream))));
    job.scratch = scratch;
    seam_pool_run(seam_cpu_pool(stream), args->S * args->G, backward_task, &job);
    return args->cos_sin == NULL ? SEAM_OK : rotate_back(stream, args);
}
