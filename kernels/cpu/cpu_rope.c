/* Rotary embedding: (x_i, x_j) -> (x_i c - x_j s, x_j c + x_i s), j = i + D/2. */
#include "cpu_ops.h"

#define GRAIN 64u

/* is_acc: q and k of forward; their gradients are act. */
CPU_INLINE void rotate_rows(const seam_rope_args *a, const bool is_acc, size_t begin, size_t end) {
    const uint32_t half = a->D / 2;
    const float sign = a->backward ? -1.0f : 1.0f;
    for (size_t t = begin; t < end; t++) {
        const float *cos_row = (const float *)a->cos_sin + (size_t)a->positions[t] * a->D;
        for (uint32_t h = 0; h < a->heads; h++) {
            const size_t at = t * a->ld + (size_t)h * a->D;
            for (uint32_t i = 0; i < half; i += VL) {
                const uint32_t n = min_u32(VL, half - i);
                const vf cosine = any_load(cos_row, i, 1, n);
                const vf sine = any_load(cos_row, half + i, 1, n) * sign;
                const vf low = any_load(a->x, at + i, is_acc, n);
                const vf high = any_load(a->x, at + half + i, is_acc, n);
                any_store(a->x, at + i, is_acc, low * cosine - high * sine, n);
                any_store(a->x, at + half + i, is_acc, high * cosine + low * sine, n);
            }
        }
    }
}

static void rope_rows(const void *context, size_t begin, size_t end) {
    const seam_rope_args *a = context;
    a->backward ? rotate_rows(a, false, begin, end) : rotate_rows(a, true, begin, end);
}

seam_status CPU_FN(rope)(seam_stream *stream, const seam_rope_args *args) {
    SEAM_ASSERT(args->D % 2 == 0);
    seam_cpu_ranges(stream, args->T, GRAIN, rope_rows, args);
    return SEAM_OK;
}
