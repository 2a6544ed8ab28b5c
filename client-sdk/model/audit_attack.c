/* See audit_attack.h.  Products run through the op table, in f32; what is left is sorting.
 * Read next: audit.c, which has the rows and the tables. */
#include "audit_attack.h"

#include <float.h>
#include <math.h>

#include "arena.h"
#include "try.h"

#define SCORES_MAX (1u << 22) /* values of a product, as far as a table's piece can be smaller */

/* One search: the rows on the device, and a piece of the table at a time. */
typedef struct search {
    seam_backend *backend;
    const seam_ops *ops;
    seam_stream *stream;
    const seam_audit_rows *rows;
    uint32_t channels, piece_max;
    void *x, *across, *y;      /* device: (T, C), (T, C) or NULL, (T, piece_max) */
    float *piece, *norms;      /* (piece_max, C), (piece_max): ||v||^2 */
    float *scores, *crossings; /* (T, piece_max); crossings: across . v, or NULL */
    float *best;               /* (T, GUESSES), falling */
} search;

static seam_status search_open(search *s, const seam_audit_table *table, seam_error *err);
static void search_close(search *s);
static seam_status piece_score(search *s, uint32_t count);
static void piece_rank(uint32_t *guesses, const search *s, uint32_t begin, uint32_t count);

seam_status seam_audit_search(uint32_t *ret_guesses, seam_backend *backend,
                              const seam_audit_table *table, const seam_audit_rows *rows,
                              seam_error *err) {
    search s = {.backend = backend, .ops = seam_backend_ops(backend), .rows = rows};
    SEAM_ASSERT(s.ops->act == SEAM_F32 && s.ops->acc == SEAM_F32);
    for (size_t i = 0; i < (size_t)rows->rows * SEAM_AUDIT_GUESSES; i++) {
        ret_guesses[i] = UINT32_MAX;
    }
    seam_status st = search_open(&s, table, err);
    for (uint32_t begin = 0; st == SEAM_OK && begin < table->count; begin += s.piece_max) {
        const uint32_t left = table->count - begin;
        const uint32_t count = left < s.piece_max ? left : s.piece_max;
        st = table->is_stopped != NULL && table->is_stopped()
                 ? seam_error_set(err, SEAM_E_CANCELLED, "interrupted")
                 : table->read(s.piece, table->user, begin, count, err);
        if (st == SEAM_OK) {
            st = piece_score(&s, count);
            st = st == SEAM_OK
                     ? SEAM_OK
                     : seam_error_set(err, st, "search in a table: %s", seam_status_text(st));
        }
        if (st == SEAM_OK) {
            piece_rank(ret_guesses, &s, begin, count);
        }
    }
    search_close(&s);
    return st;
}

static seam_status search_take(search *s) {
    const size_t T = s->rows->rows, C = s->channels, rows_bytes = T * C * sizeof(float);
    const size_t scores_bytes = T * s->piece_max * sizeof(float);
    const bool crosses = s->rows->across != NULL;
    SEAM_TRY(s->ops->stream_create(&s->stream, s->backend));
    SEAM_TRY(s->ops->mem_alloc(&s->x, s->backend, rows_bytes));
    SEAM_TRY(s->ops->mem_alloc(&s->y, s->backend, scores_bytes));
    SEAM_TRY(s->ops->copy_in(s->stream, s->x, s->rows->x, rows_bytes));
    if (crosses) {
        SEAM_TRY(s->ops->mem_alloc(&s->across, s->backend, rows_bytes));
        SEAM_TRY(s->ops->copy_in(s->stream, s->across, s->rows->across, rows_bytes));
    }
    s->piece = seam_mem_alloc(s->piece_max * C * sizeof(float));
    s->norms = seam_mem_alloc(s->piece_max * sizeof(float));
    s->scores = seam_mem_alloc(scores_bytes);
    s->crossings = crosses ? seam_mem_alloc(scores_bytes) : NULL;
    s->best = seam_mem_alloc(T * SEAM_AUDIT_GUESSES * sizeof(float));
    const bool taken = s->piece != NULL && s->norms != NULL && s->scores != NULL &&
                       s->best != NULL && (s->crossings != NULL || !crosses);
    return taken ? SEAM_OK : SEAM_E_MEMORY;
}

static seam_status search_open(search *s, const seam_audit_table *table, seam_error *err) {
    const uint32_t fitting = SCORES_MAX / s->rows->rows + 1;
    s->channels = table->channels;
    s->piece_max = fitting < SEAM_AUDIT_PIECE_ROWS ? fitting : SEAM_AUDIT_PIECE_ROWS;
    const seam_status st = search_take(s);
    return st == SEAM_OK ? SEAM_OK
                         : seam_error_set(err, st, "search in a table: %s", seam_status_text(st));
}

static void search_close(search *s) {
    seam_mem_free(s->best);
    seam_mem_free(s->crossings);
    seam_mem_free(s->scores);
    seam_mem_free(s->norms);
    seam_mem_free(s->piece);
    s->ops->mem_free(s->backend, s->across);
    s->ops->mem_free(s->backend, s->y);
    s->ops->mem_free(s->backend, s->x);
    if (s->stream != NULL) {
        s->ops->stream_destroy(s->stream);
    }
}

/* ret (T, count) = rows of the device times the piece. */
static seam_status product(float *ret, search *s, const void *rows, const seam_weight *piece,
                           uint32_t count) {
    const uint32_t T = s->rows->rows;
    const seam_linear_forward_args args = {.y = s->y,
                                           .y_ld = count,
                                           .y_out = SEAM_OUT_ACC,
                                           .x = rows,
                                           .x_ld = s->channels,
                                           .w = piece,
                                           .T = T};
    SEAM_TRY(s->ops->linear_forward(s->stream, &args));
    SEAM_TRY(s->ops->copy_out(s->stream, ret, s->y, (size_t)T * count * sizeof *ret));
    return s->ops->stream_sync(s->stream);
}

static seam_status piece_score(search *s, uint32_t count) {
    for (uint32_t j = 0; j < count; j++) {
        const float *const v = s->piece + (size_t)j * s->channels;
        double sum = 0.0;
        for (uint32_t c = 0; c < s->channels; c++) {
            sum += (double)v[c] * (double)v[c];
        }
        s->norms[j] = (float)sum;
    }
    seam_weight *weight = NULL;
    SEAM_TRY(
        s->ops->weight_create(&weight, s->backend, s->piece, count, s->channels, true, false, 0));
    seam_status st = product(s->scores, s, s->x, weight, count);
    if (st == SEAM_OK && s->across != NULL) {
        st = product(s->crossings, s, s->across, weight, count);
    }
    s->ops->weight_destroy(weight);
    return st;
}

/* What row t thinks of row j of the piece; -FLT_MAX: nothing. */
static float preference(const search *s, uint32_t t, uint32_t j, uint32_t count) {
    const size_t at = (size_t)t * count + j;
    const float score = s->scores[at], norm = s->norms[j];
    if (s->rows->cosine) {
        return norm > 0.0f ? score / sqrtf(norm) : -FLT_MAX;
    }
    const float weight = s->rows->weight != NULL ? s->rows->weight[t] : 1.0f;
    const float crossing = s->across != NULL ? s->crossings[at] : 0.0f;
    const float lost = s->across != NULL ? s->rows->lost[t] * crossing * crossing : 0.0f;
    return score - 0.5f * weight * (norm - lost);
}

static void piece_rank(uint32_t *guesses, const search *s, uint32_t begin, uint32_t count) {
    for (uint32_t t = 0; t < s->rows->rows; t++) {
        uint32_t *const ids = guesses + (size_t)t * SEAM_AUDIT_GUESSES;
        float *const best = s->best + (size_t)t * SEAM_AUDIT_GUESSES;
        for (uint32_t j = 0; j < count; j++) {
            const float value = preference(s, t, j, count);
            uint32_t k = SEAM_AUDIT_GUESSES;
            while (k > 0 && value > -FLT_MAX && (ids[k - 1] == UINT32_MAX || value > best[k - 1])) {
                if (k < SEAM_AUDIT_GUESSES) {
                    ids[k] = ids[k - 1];
                    best[k] = best[k - 1];
                }
                k--;
            }
            if (k < SEAM_AUDIT_GUESSES) {
                ids[k] = begin + j;
                best[k] = value;
            }
        }
    }
}

/* ---- gradients ---- */

static double dot(const float *a, const float *b, uint32_t count) {
    double sum = 0.0;
    for (uint32_t c = 0; c < count; c++) {
        sum += (double)a[c] * (double)b[c];
    }
    return sum;
}

/* With r = difference + J^T w_chosen and m = ||u||^2, which eps leaves a little below 1:
 *   r . J^T w = rstd (r - u (u . r)) . v        ||J^T w||^2 = rstd^2 (||v||^2 - (2 - m) (u . v)^2)
 */
void seam_audit_gradient_rows(float *ret_x, float *ret_across, float *ret_weight, float *ret_lost,
                              const seam_audit_gradients *gradients) {
    const seam_audit_gradients *const g = gradients;
    const uint32_t C = g->channels;
    for (uint32_t t = 0; t < g->rows; t++) {
        const float *const y = g->y + (size_t)t * C, *const d = g->difference + (size_t)t * C;
        float *const x = ret_x + (size_t)t * C, *const u = ret_across + (size_t)t * C;
        const double mean = dot(y, y, C) / (double)C;
        const double rstd = 1.0 / sqrt(mean + (double)g->rms_eps);
        const double scale = rstd / sqrt((double)C);
        for (uint32_t c = 0; c < C; c++) {
            u[c] = (float)(scale * (double)y[c]);
        }
        const double chosen = dot(u, g->chosen, C);
        for (uint32_t c = 0; c < C; c++) {
            x[c] = (float)((double)d[c] +
                           rstd * ((double)g->chosen[c] - (double)u[c] * chosen)); /* r */
        }
        const double along = dot(u, x, C);
        for (uint32_t c = 0; c < C; c++) {
            x[c] = (float)(rstd * ((double)x[c] - (double)u[c] * along));
        }
        ret_weight[t] = (float)(rstd * rstd);
        ret_lost[t] = (float)(2.0 - mean * rstd * rstd);
    }
}
