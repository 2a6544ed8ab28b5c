/* Attention of new rows against a cache (generation).  A task is one row and kv head; the keys
 * go by in pieces with a running maximum.  Bound by reading the cache. */
#include "cpu_ops.h"

#define PIECE 256u
#define D_MAX 256u

/* One query head over positions 0..last of k and v. */
static void row_head(act *o, const float *q, const act *k, const act *v, size_t ld, uint32_t last,
                     float scale, uint32_t D) {
    float out[D_MAX + VL] = {0.0f}, score[PIECE + VL];
    float max = -INFINITY, sum = 0.0f;
    for (uint32_t j0 = 0; j0 <= last; j0 += PIECE) {
        const uint32_t n = min_u32(PIECE, last + 1 - j0);
        float new_max = max;
        for (uint32_t j = 0; j < n; j++) {
            vf dot = vf_set(0.0f);
            for (uint32_t d = 0; d < D; d += VL) {
                const uint32_t count = min_u32(VL, D - d);
                dot += any_load(q, d, 1, count) * any_load(k, (j0 + j) * ld + d, 0, count);
            }
            score[j] = vf_sum(dot) * scale;
            new_max = score[j] > new_max ? score[j] : new_max;
        }
        for (uint32_t j = n; j % VL != 0; j++) {
            score[j] = -INFINITY;
        }
        vf piece_sum = vf_set(0.0f);
        for (uint32_t j = 0; j < n; j += VL) {
            const vf p = vf_exp(vf_load(score + j) - new_max);
            vf_store(score + j, p);
            piece_sum += p;
        }
        const float fade = expf(max - new_max);
        sum = sum * fade + vf_sum(piece_sum);
        max = new_max;
        for (uint32_t d = 0; d < D; d += VL) {
            const uint32_t count = min_u32(VL, D - d);
            vf x = vf_load(out + d) * fade;
            for (uint32_t j = 0; j < n; j++) {
                x += any_load(v, (j0 + j) * ld + d, 0, count) * score[j];
            }
            vf_store(out + d, x);
        }
    }
    for (uint32_t d = 0; d < D; d += VL) {
        act_store_n(o + d, vf_load(out + d) * (1.0f / sum), min_u32(VL, D - d));
    }
}

static void cached_rows(const void *context, size_t begin, size_t end) {
    const seam_attention_cached_args *a = context;
    const uint32_t D = a->D, G = a->G, heads = a->H / G;
    for (size_t i = begin; i < end; i++) {
        const size_t t = i / G, g = i % G;
        SEAM_ASSERT(a->positions[t] < a->positions_max);
        const uint32_t first = seam_window_begin(a->window, 0, a->positions[t]);
        const size_t at = (((size_t)a->slots[t] * a->positions_max + first) * G + g) * D;
        for (size_t h = g * heads; h < (g + 1) * heads; h++) {
            row_head((act *)a->o + (t * a->H + h) * D, (const float *)a->q + t * a->q_ld + h * D,
                     (const act *)a->k_cache + at, (const act *)a->v_cache + at, (size_t)G * D,
                     a->positions[t] - first, a->scale, D);
        }
    }
}

seam_status CPU_FN(attention_cached)(seam_stream *stream, const seam_attention_cached_args *args) {
    SEAM_ASSERT(args->G > 0 && args->H % args->G == 0);
    SEAM_ASSERT(args->D >= 2 && args->D <= D_MAX);
    seam_cpu_ranges(stream, (size_t)args->T * args->G, 1, cached_rows, args);
    return SEAM_OK;
}
