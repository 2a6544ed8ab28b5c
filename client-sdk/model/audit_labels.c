/* Labels out of the rows of fwd_out and bwd_out; see audit.h.  The operator made the one and got
 * the other for it, and has the norm and the head between them. Read next: audit_attack.c. */
#include <string.h>

#include "arena.h"
#include "audit_impl.h"
#include "client_blocks.h"
#include "try.h"

/* v_j = norm * w_j */
static seam_status head_read(float *ret_rows, void *user, uint32_t begin, uint32_t count,
                             seam_error *err) {
    seam_audit *const audit = user;
    const size_t C = audit->model->hidden;
    if (audit->head != NULL) {
        memcpy(ret_rows, audit->head + begin * C, count * C * sizeof *ret_rows);
    } else {
        SEAM_TRY(seam_audit_embedding_read(ret_rows, user, begin, count, err));
    }
    for (size_t i = 0; i < count * C; i++) {
        ret_rows[i] *= audit->norm[i % C];
    }
    return SEAM_OK;
}

/* The final norm and, where it is not the embedding, the head, from the public files. */
static seam_status head_open(seam_audit *audit, seam_error *err) {
    const seam_model_config *const config = seam_head_config(audit->model->head);
    const uint32_t V = audit->model->vocab, C = audit->model->hidden;
    SEAM_TRY(seam_weights_read(audit->norm, audit->weights, "model.norm.weight", 1, C, err));
    if (config->tied) {
        return SEAM_OK;
    }
    audit->head = seam_mem_alloc((size_t)V * C * sizeof *audit->head);
    return audit->head != NULL
               ? seam_weights_read(audit->head, audit->weights, "lm_head.weight", V, C, err)
               : seam_error_set(err, SEAM_E_MEMORY, "out of memory");
}

/* audit->y: of all rows before the client's last blocks -> of labelled rows behind them. */
static seam_status tail_pass(seam_audit *audit, seam_error *err) {
    const size_t C = audit->model->hidden;
    for (uint32_t m = 0; m < audit->micro_count; m++) {
        const uint32_t rows = audit->row_begin[m + 1] - audit->row_begin[m];
        const uint32_t labels = audit->label_begin[m + 1] - audit->label_begin[m];
        float *const y = audit->y + audit->row_begin[m] * C;
        const seam_client_look look = {
            .is_tail = true, .base_model = true, .batch = &audit->micros[m], .rows = rows};
        SEAM_TRY(seam_model_reserve(audit->model, rows, err));
        SEAM_TRY(seam_client_infer(audit->model, y, &look, err));
        seam_rows_labelled_pack(y, &audit->micros[m], rows, audit->model->hidden);
        memmove(audit->y + audit->label_begin[m] * C, y, labels * C * sizeof *y);
    }
    return SEAM_OK;
}

/* audit->dy becomes J^T (w_label - w_0): the gradient that token 0 would have given, less the one
 * that came.  With tail blocks that one is of their input: as if they were not there. */
static seam_status gradients_compare(seam_audit *audit, seam_error *err) {
    seam_model *const model = audit->model;
    const uint32_t L = audit->label_begin[audit->micro_count];
    const size_t values = (size_t)L * model->hidden;
    SEAM_TRY(seam_model_reserve(model, L, err));
    memcpy(model->host_y, audit->y, values * sizeof *audit->y);
    memset(audit->ids, 0, L * sizeof *audit->ids);
    double loss = 0.0;
    const seam_head_pass pass = {
        .targets = audit->ids, .rows = L, .grad_scale = 1.0f, .gradient = true};
    SEAM_TRY(seam_model_head(&loss, model, &pass, err));
    for (size_t i = 0; i < values; i++) {
        audit->dy[i] = model->host_dy[i] - (float)L * audit->dy[i];
    }
    return SEAM_OK;
}

static void labels_count(seam_audit_share *ret_share, const seam_audit *audit) {
    *ret_share = (seam_audit_share){0};
    for (uint32_t i = 0; i < audit->label_begin[audit->micro_count]; i++) {
        seam_audit_share_add(ret_share, audit->guesses + (size_t)i * SEAM_AUDIT_GUESSES,
                             seam_audit_target(audit, i));
    }
}

/* scratch: 2 L (C + 1) + C floats. */
static seam_status gradients_search(seam_audit_report *report, seam_audit *audit, float *scratch,
                                    seam_error *err) {
    const seam_model_config *const config = seam_head_config(audit->model->head);
    const uint32_t L = audit->label_begin[audit->micro_count], C = audit->model->hidden;
    float *const x = scratch, *const across = x + (size_t)L * C;
    float *const weight = across + (size_t)L * C, *const lost = weight + L,
                 *const chosen = lost + L;
    const seam_audit_table table = seam_audit_table_of(audit, head_read);
    SEAM_TRY(head_read(chosen, audit, 0, 1, err));
    const seam_audit_gradients gradients = {.y = audit->y,
                                            .difference = audit->dy,
                                            .chosen = chosen,
                                            .rows = L,
                                            .channels = C,
                                            .rms_eps = config->rms_eps};
    seam_audit_gradient_rows(x, across, weight, lost, &gradients);
    const seam_audit_rows rows = {
        .x = x, .rows = L, .weight = weight, .across = across, .lost = lost};
    SEAM_TRY(seam_audit_search(audit->guesses, audit->backend, &table, &rows, err));
    labels_count(&report->shares[SEAM_AUDIT_LABEL_GRADIENT], audit);
    memset(weight, 0, L * sizeof *weight); /* what is left is the logit, up to the row's factor */
    const seam_audit_rows logits = {.x = across, .rows = L, .weight = weight};
    SEAM_TRY(seam_audit_search(audit->guesses, audit->backend, &table, &logits, err));
    labels_count(&report->shares[SEAM_AUDIT_LABEL_MODEL], audit);
    return SEAM_OK;
}

seam_status seam_audit_labels(seam_audit_report *report, seam_audit *audit, seam_error *err) {
    const uint32_t L = audit->label_begin[audit->micro_count];
    const size_t C = audit->model->hidden;
    SEAM_TRY(head_open(audit, err));
    if (audit->model->tail != NULL) {
        SEAM_TRY(tail_pass(audit, err));
    }
    SEAM_TRY(gradients_compare(audit, err));
    float *const scratch = seam_mem_alloc((2 * L * (C + 1) + C) * sizeof *scratch);
    if (scratch == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    const seam_status st = gradients_search(report, audit, scratch, err);
    seam_mem_free(scratch);
    return st;
}

/* Labels whose token is the next row's: with the inputs they are known, but for a sequence's last.
 */
void seam_audit_labels_by_inputs(seam_audit_report *report, const seam_audit *audit) {
    static const uint32_t none[SEAM_AUDIT_GUESSES] = {UINT32_MAX, UINT32_MAX, UINT32_MAX,
                                                      UINT32_MAX, UINT32_MAX};
    for (uint32_t m = 0; m < audit->micro_count; m++) {
        const seam_token_batch *const b = &audit->micros[m];
        const uint32_t *target = b->targets;
        uint32_t row = 0;
        for (uint32_t s = 0; s < b->sequence_count; s++) {
            const uint32_t end = row + b->sequence_rows[s];
            for (; row < end; row++) {
                const size_t next = (size_t)audit->row_begin[m] + row + 1;
                if (seam_audit_is_labelled(b, row)) {
                    seam_audit_share_add(&report->shares[SEAM_AUDIT_LABEL_INPUTS],
                                         row + 1 < end ? audit->guesses + next * SEAM_AUDIT_GUESSES
                                                       : none,
                                         *target++);
                }
            }
        }
    }
}
