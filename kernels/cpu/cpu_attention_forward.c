/* Causal attention forward.  A task is one block of queries of one kv head, for all query heads
 * of its group: K and V of a block are prepared once for them.
 *
 *   S^T = K Q^T    m' = max(m, max_key S^T)    P^T = exp(S^T - m')    l = l e^(m-m') + sum_key P^T
 *   O^T = O^T e^(m-m') + V^T P^T               at the end o = O^T / l, lse = m + log l */
#include <float.h>

#include "attention.h"

typedef struct forward_job {
    const seam_attention_forward_args *args;
    uint8_t *scratch;
    size_t slice_bytes; /* of a thread */
} forward_job;

/* Per head of the group. */
typedef struct head_state {
    act *q;           /* panels of Q^T */
    float *ot;        /* (att_rows(D), ATT_BLOCK) */
    float *max, *sum; /* (ATT_BLOCK) */
} head_state;

typedef struct forward_memory {
    act *k, *v, *vt, *work, *p;
    float *st, *transposed;
    act *q;
    float *ot, *max, *sum; /* all heads */
} forward_memory;

static size_t forward_place(forward_memory *m, att_bump b, uint32_t D, uint32_t heads) {
    const uint32_t wide = tile_panels(D) * TILE_N, depth = att_score_depth(D);
    m->k = att_take(&b, ATT_BLOCK * tile_k(depth), sizeof(act));
    m->v = att_take(&b, ATT_BLOCK * tile_k(D), sizeof(act));
    m->vt = att_take(&b, att_rows(D) * ATT_BLOCK, sizeof(act));
    m->work = att_take(&b, ATT_BLOCK * (wide > tile_k(depth) ? wide : tile_k(depth)), sizeof(act));
    m->p = att_take(&b, ATT_PANELS * tile_panel(ATT_BLOCK), sizeof(act));
    m->st = att_take(&b, (ATT_BLOCK + TILE_M) * ATT_BLOCK, sizeof(float));
    m->transposed = att_take(&b, ATT_BLOCK * D, sizeof(float));
    m->q = att_take(&b, heads * ATT_PANELS * tile_panel(depth), sizeof(act));
    m->ot = att_take(&b, heads * (att_rows(D) + TILE_M) * ATT_BLOCK, sizeof(float));
    m->max = att_take(&b, heads * ATT_BLOCK, sizeof(float));
    m->sum = att_take(&b, heads * ATT_BLOCK, sizeof(float));
    return b.used;
}

static head_state head_of(const forward_memory *m, uint32_t D, uint32_t head) {
    return (head_state){
        .q = m->q + head * ATT_PANELS * tile_panel(att_score_depth(D)),
        .ot = m->ot + (size_t)head * (att_rows(D) + TILE_M) * ATT_BLOCK,
        .max = m->max + head * ATT_BLOCK,
        .sum = m->sum + head * ATT_BLOCK,
    };
}

/* One vector of queries: st's column becomes scores, then probabilities in panels at p. */
CPU_INLINE void softmax_column(act *p, float *st, const head_state *head, uint32_t q, uint32_t keys,
                               float scale, const bool masked, att_mask mask, uint32_t D) {
    const vi query = att_lanes(q);
    const vf before = vf_load(head->max + q);
    vf max = before, sum = vf_set(0.0f);
    for (uint32_t key = 0; key < keys; key++) {
        vf s = vf_load(st + (size_t)key * ATT_BLOCK + q) * scale;
        if (masked) {
            s = vf_select(att_seen(query, key, mask), s, vf_set(-INFINITY));
        }
        vf_store(st + (size_t)key * ATT_BLOCK + q, s);
        max = vf_max(max, s);
    }
    for (uint32_t key = 0; key < keys; key += 2) {
        const vf p0 = vf_exp(vf_load(st + (size_t)key * ATT_BLOCK + q) - max);
        const vf p1 = vf_exp(vf_load(st + (size_t)(key + 1) * ATT_BLOCK + q) - max);
        sum += p0;
        sum += p1;
        tile_emit_pair(p, key, q % TILE_N, p0, p1);
    }
    const vf fade = vf_exp(before - max);
    vf_store(head->max + q, max);
    vf_store(head->sum + q, vf_load(head->sum + q) * fade + sum);
    for (uint32_t d = 0; d < D; d++) {
        float *o = head->ot + (size_t)d * ATT_BLOCK + q;
        vf_store(o, vf_load(o) * fade);
    }
}

static void head_block(const forward_memory *m, const head_state *head, const act *k, size_t k_ld,
                       uint32_t n, float scale, att_mask mask, uint32_t D) {
    const uint32_t keys = att_keys(n), depth = att_score_depth(D);
    for (uint32_t p = 0; p < ATT_PANELS; p++) {
        act *probs = m->p + p * tile_panel(ATT_BLOCK);
        tile_product(m->st + p * TILE_N, ATT_BLOCK, 0, keys, TILE_N, k, k_ld, depth,
                     head->q + p * tile_panel(depth));
        for (uint32_t q = p * TILE_N; q < (p + 1) * TILE_N; q += VL) {
            mask.any ? softmax_column(probs, m->st, head, q, keys, scale, true, mask, D)
                     : softmax_column(probs, m->st, head, q, keys, scale, false, mask, D);
        }
        tile_product(head->ot + p * TILE_N, ATT_BLOCK, 1, att_rows(D), TILE_N, m->vt, ATT_BLOCK,
                     keys, probs);
    }
}

static void head_store(const seam_attention_forward_args *a, const forward_memory *m,
                       const head_state *head, uint32_t t0, uint32_t n, uint32_t h) {
    const uint32_t D = a->D;
    for (uint32_t q = 0; q < ATT_BLOCK; q += VL) {
        const vf inverse = 1.0f / vf_load(head->sum + q);
        for (uint32_t d = 0; d < D; d++) {
            float *o = head->ot + (size_t)d * ATT_BLOCK + q;
            vf_store(o, vf_load(o) * inverse);
        }
    }
    act *o = (act *)a->o + ((size_t)t0 * a->H + h) * D;
    att_store_transposed(o, (size_t)a->H * D, m->transposed, head->ot, n, D);
    for (uint32_t i = 0; i < n; i++) {
        ((float *)a->lse)[(size_t)(t0 + i) * a->H + h] = head->max[i] + logf(head->sum[i]);
    }
}

/* Queries [q0, q0 + ATT_BLOCK) of sequence s. */
static void forward_block(const forward_job *job, uint32_t s, uint32_t q0, uint32_t g,
                          uint8_t *slice) {
    const seam_attention_forward_args *a = job->args;
    const uint32_t D = a->D, heads = a->H / a->G, begin = a->seq_begin[s];
    const uint32_t rows = a->seq_begin[s + 1] - begin, n = min_u32(ATT_BLOCK, rows - q0);
    forward_memory m;
    (void)forward_place(&m, (att_bump){.base = slice}, D, heads);
    memset(m.ot, 0, (size_t)heads * (att_rows(D) + TILE_M) * ATT_BLOCK * sizeof(float));
    for (uint32_t i = 0; i < heads * ATT_BLOCK; i++) {
        m.max[i] = -FLT_MAX; /* a block that a row sees nothing of changes nothing */
        m.sum[i] = 0.0f;
    }
    for (uint32_t h = 0; h < heads; h++) {
        const float *q = (const float *)a->q + (size_t)(begin + q0) * a->q_ld + (g * heads + h) * D;
        att_pack_score_queries(head_of(&m, D, h).q, m.work, q, a->q_ld, n, D);
    }
    for (uint32_t k0 = att_first_block(q0, a->window); k0 <= q0; k0 += ATT_BLOCK) {
        const uint32_t count = min_u32(ATT_BLOCK, rows - k0);
        const float *k = (const float *)a->k + (size_t)(begin + k0) * a->k_ld + (size_t)g * D;
        const float *v = (const float *)a->v + (size_t)(begin + k0) * a->v_ld + (size_t)g * D;
        size_t k_ld = 0, v_ld = 0;
        const act *k_rows = att_score_rows(&k_ld, m.k, k, a->k_ld, count, D);
        const act *v_rows = att_rows_of(&v_ld, m.v, v, a->v_ld, count, D);
        att_transpose_block(m.vt, m.work, v_rows, v_ld, count, D);
        for (uint32_t h = 0; h < heads; h++) {
            const head_state head = head_of(&m, D, h);
            head_block(&m, &head, k_rows, k_ld, count, a->scale, att_mask_of(q0, k0, a->window), D);
        }
    }
    for (uint32_t h = 0; h < heads; h++) {
        const head_state head = head_of(&m, D, h);
        head_store(a, &m, &head, begin + q0, n, g * heads + h);
    }
}

static uint32_t blocks_of(const uint32_t *seq_begin, uint32_t s) {
    return (seq_begin[s + 1] - seq_begin[s] + ATT_BLOCK - 1) / ATT_BLOCK;
}

static void forward_task(void *context, uint32_t task_idx, uint32_t thread_idx) {
    const forward_job *job = context;
    const uint32_t G = job->args->G;
    uint32_t s = 0;
    while (task_idx >= blocks_of(job->args->seq_begin, s) * G) {
        task_idx -= blocks_of(job->args->seq_begin, s) * G;
        s++;
    }
    /* The longest first: late blocks see more keys. */
    const uint32_t block = blocks_of(job->args->seq_begin, s) - 1 - task_idx / G;
    tile_begin();
    forward_block(job, s, block * ATT_BLOCK, task_idx % G,
                  job->scratch + thread_idx * job->slice_bytes);
    tile_end();
}

seam_status CPU_FN(attention_forward)(seam_stream *stream,
                                      const seam_attention_forward_args *args) {
    SEAM_ASSERT(args->G > 0 && args->H % args->G == 0);
    SEAM_ASSERT(args->D >= 2 && args->D <= ATT_D_MAX);
    SEAM_ASSERT(args->seq_begin[0] == 0 && args->seq_begin[args->S] == args->T);
    forward_memory m;
    forward_job job = {.args = args};
    job.slice_bytes = forward_place(&m, (att_bump){.base = NULL}, args->D, args->H / args->G);
    void *scratch = NULL;
    SEAM_TRY(seam_cpu_scratch(&scratch, stream,
                              job.slice_bytes * seam_pool_threads(seam_cpu_pool(stream))));
    job.scratch = scratch;
    uint32_t task_count = 0;
    for (uint32_t s = 0; s < args->S; s++) {
        task_count += blocks_of(args->seq_begin, s) * args->G;
    }
    seam_pool_run(seam_cpu_pool(stream), task_count, forward_task, &job);
    return SEAM_OK;
}
