/* Attention to a shared prefix, forward and backward; the formulas stand in ops.h.
 *
 * A prefix has tens of keys, so plain vectors over D do: a task is a row and head.  Backward keeps
 * p and ds of every row, head and key in the scratch, and a second region has a task a key and kv
 * head, which adds over rows and heads in order.  2 T H P D operations forward, 6 backward. */
#include "cpu_ops.h"

#define D_MAX 256u
#define GRAIN 16u

/* score[j] = scale x y_j over the prefix's rows of a kv head. */
CPU_INLINE void prefix_dots(float *score, const void *x, const bool x_is_acc, size_t x_at,
                            const float *y, size_t ld, float scale, uint32_t P, uint32_t D) {
    for (uint32_t j = 0; j < P; j++) {
        vf sum = vf_set(0.0f);
        for (uint32_t d = 0; d < D; d += VL) {
            const uint32_t n = min_u32(VL, D - d);
            sum += any_load(x, x_at + d, x_is_acc, n) * any_load(y, j * ld + d, 1, n);
        }
        score[j] = vf_sum(sum) * scale;
    }
}

/* ---- Forward ---- */
static void forward_rows(const void *context, size_t begin, size_t end) {
    const seam_prefix_forward_args *a = context;
    const uint32_t D = a->D, P = a->P, heads = a->H / a->G;
    float score[SEAM_PREFIX_MAX];
    for (size_t i = begin; i < end; i++) {
        const size_t t = i / a->H, h = i % a->H, g = h / heads;
        const float *k = (const float *)a->k + g * D, *v = (const float *)a->v + g * D;
        float *lse = (float *)a->lse + i, max = *lse;
        prefix_dots(score, a->q, true, t * a->q_ld + h * D, k, a->kv_ld, a->scale, P, D);
        for (uint32_t j = 0; j < P; j++) {
            max = score[j] > max ? score[j] : max;
        }
        float sum = expf(*lse - max);
        for (uint32_t j = 0; j < P; j++) {
            score[j] = expf(score[j] - max);
            sum += score[j];
        }
        const float own = expf(*lse - max) / sum, inverse = 1.0f / sum;
        for (uint32_t d = 0; d < D; d += VL) {
            const uint32_t n = min_u32(VL, D - d);
            vf share = vf_set(0.0f);
            for (uint32_t j = 0; j < P; j++) {
                share += any_load(v, j * a->kv_ld + d, 1, n) * score[j];
            }
            any_store(a->o, i * D + d, 0, any_load(a->o, i * D + d, 0, n) * own + share * inverse,
                      n);
        }
        *lse = max + logf(sum);
    }
}

seam_status CPU_FN(prefix_forward)(seam_stream *stream, const seam_prefix_forward_args *args) {
    SEAM_ASSERT(args->G > 0 && args->H % args->G == 0 && args->D <= D_MAX);
    SEAM_ASSERT(args->P > 0 && args->P <= SEAM_PREFIX_MAX);
    seam_cpu_ranges(stream, (size_t)args->T * args->H, GRAIN, forward_rows, args);
    return SEAM_OK;
}

/* ---- Backward ---- */
typedef struct backward_job {
    const seam_prefix_backward_args *a;
    float *p, *ds; /* (T, H, P) each */
} backward_job;

/* dq += x (D), rotated back: as cpu_rope.c. */
static void query_add(const seam_prefix_backward_args *a, float *x, size_t t, size_t h) {
    const uint32_t half = a->D / 2;
    if (a->cos_sin != NULL) {
        const float *cos_row = (const float *)a->cos_sin + (size_t)a->positions[t] * a->D;
        for (uint32_t i = 0; i < half; i++) {
            const float low = x[i], high = x[half + i];
            x[i] = low * cos_row[i] + high * cos_row[half + i];
            x[half + i] = high * cos_row[i] - low * cos_row[half + i];
        }
    }
    const size_t at = t * a->dq_ld + h * a->D;
    for (uint32_t d = 0; d < a->D; d += VL) {
        const uint32_t n = min_u32(VL, a->D - d);
        any_store(a->dq, at + d, 0, any_load(a->dq, at + d, 0, n) + any_load(x, d, 1, n), n);
    }
}

static void backward_rows(const void *context, size_t begin, size_t end) {
    const backward_job *job = context;
    const seam_prefix_backward_args *a = job->a;
    const uint32_t D = a->D, P = a->P, heads = a->H / a->G;
    float dq[D_MAX + VL];
    for (size_t i = begin; i < end; i++) {
        const size_t t = i / a->H, h = i % a->H, g = h / heads;
        const float *k = (const float *)a->k + g * D, *v = (const float *)a->v + g * D;
        float *p = job->p + i * P, *ds = job->ds + i * P;
        vf delta = vf_set(0.0f);
        for (uint32_t d = 0; d < D; d += VL) {
            const uint32_t n = min_u32(VL, D - d);
            delta += any_load(a->o, i * D + d, 0, n) * any_load(a->d_o, i * D + d, 0, n);
        }
        const float own = vf_sum(delta), lse = ((const float *)a->lse)[i];
        prefix_dots(p, a->q, true, t * a->q_ld + h * D, k, a->kv_ld, a->scale, P, D);
        prefix_dots(ds, a->d_o, false, i * D, v, a->kv_ld, 1.0f, P, D);
        for (uint32_t j = 0; j < P; j++) {
            p[j] = expf(p[j] - lse);
            ds[j] = a->scale * p[j] * (ds[j] - own);
        }
        for (uint32_t d = 0; d < D; d += VL) {
            const uint32_t n = min_u32(VL, D - d);
            vf sum = vf_set(0.0f);
            for (uint32_t j = 0; j < P; j++) {
                sum += any_load(k, j * a->kv_ld + d, 1, n) * ds[j];
            }
            vf_store(dq + d, sum);
        }
        query_add(a, dq, t, h);
    }
}

/* dk and dv of one key and kv head. */
static void backward_keys(const void *context, size_t begin, size_t end) {
    const backward_job *job = context;
    const seam_prefix_backward_args *a = job->a;
    const uint32_t D = a->D, P = a->P, heads = a->H / a->G;
    for (size_t i = begin; i < end; i++) {
        const size_t j = i / a->G, g = i % a->G, at = j * a->kv_ld + g * D;
        float dk[D_MAX + VL] = {0.0f}, dv[D_MAX + VL] = {0.0f};
        for (size_t t = 0; t < a->T; t++) {
            for (size_t h = g * heads; h < (g + 1) * heads; h++) {
                const size_t row = t * a->H + h;
                const float ds = job->ds[row * P + j], p = job->p[row * P + j];
                for (uint32_t d = 0; d < D; d += VL) {
                    const uint32_t n = min_u32(VL, D - d);
                    const vf q = any_load(a->q, t * a->q_ld + h * D + d, 1, n);
                    vf_store(dk + d, vf_load(dk + d) + q * ds);
                    vf_store(dv + d, vf_load(dv + d) + any_load(a->d_o, row * D + d, 0, n) * p);
                }
            }
        }
        for (uint32_t d = 0; d < D; d++) {
            ((float *)a->dk)[at + d] += dk[d];
            ((float *)a->dv)[at + d] += dv[d];
        }
    }
}

seam_status CPU_FN(prefix_backward)(seam_stream *stream, const seam_prefix_backward_args *args) {
    const size_t count = (size_t)args->T * args->H * args->P;
    void *scratch = NULL;
    SEAM_ASSERT(args->G > 0 && args->H % args->G == 0 && args->D <= D_MAX);
    SEAM_ASSERT(args->P > 0 && args->P <= SEAM_PREFIX_MAX);
    SEAM_TRY(seam_cpu_scratch(&scratch, stream, 2 * count * sizeof(float)));
    const backward_job job = {.a = args, .p = scratch, .ds = (float *)scratch + count};
    seam_cpu_ranges(stream, (size_t)args->T * args->H, GRAIN, backward_rows, &job);
    seam_cpu_ranges(stream, (size_t)args->P * args->G, 1, backward_keys, &job);
    return SEAM_OK;
}
