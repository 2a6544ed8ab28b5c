/* A training step, seen from the client.  Of the U-shaped cut:
 *   ids -> embedding -> (wire) -> blocks -> (wire) -> norm, head, loss -> gradient -> (wire)
 * Of VANILLA: ids -> embedding, labels -> (wire) -> blocks, norm, head, loss -> (wire)
 * The gradient is that of the mean over the labelled rows of all the step's micro-batches.
 * Read next: core/step.c, the three calls of seam.h that a step is made of. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "arena.h"
#include "local_model.h"
#include "try.h"

#define MICROS_MAX 64

struct seam_trainer {
    seam_session *session;
    seam_model *model;
    float *all_dy; /* (all_capacity, C): gradient spread over all rows, when those travel */
    size_t all_capacity;
};

typedef struct totals {
    uint32_t rows[MICROS_MAX], labelled[MICROS_MAX];
    uint64_t tokens, labelled_tokens;
} totals;

static seam_status count_batches(totals *ret_totals, seam_trainer *trainer,
                                 const seam_token_batch *micros, uint32_t micro_count,
                                 seam_error *err);
static seam_status micro_begin(seam_trainer *trainer, const seam_token_batch *batch, uint32_t micro,
                               const totals *t, seam_train_report *report, seam_error *err);
static seam_status micro_run(seam_trainer *trainer, const seam_token_batch *batch, uint32_t micro,
                             const totals *t, double *loss_sum, seam_train_report *report,
                             seam_error *err);
static seam_status loss_await(seam_trainer *trainer, uint32_t micro, double *loss_sum,
                              seam_train_report *report, seam_error *err);
static seam_status rows_gather(seam_trainer *trainer, const seam_token_batch *batch, uint32_t rows,
                               seam_error *err);
static void rows_spread(seam_trainer *trainer, const seam_token_batch *batch, uint32_t rows);
static double now_seconds(void);

seam_status seam_trainer_create(seam_trainer **ret_trainer, seam_session *session,
                                seam_model *model, seam_error *err) {
    if (ret_trainer == NULL || session == NULL || model == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "ret_trainer, session or model is NULL");
    }
    if (seam_session_channels(session) != model->hidden) {
        return seam_error_set(err, SEAM_E_ARG, "the server's model has %u channels, this one %u",
                              seam_session_channels(session), model->hidden);
    }
    seam_trainer *const trainer = seam_mem_zalloc(1, sizeof *trainer);
    if (trainer == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    trainer->session = session;
    trainer->model = model;
    *ret_trainer = trainer;
    return SEAM_OK;
}

void seam_trainer_destroy(seam_trainer *gift_trainer) {
    if (gift_trainer != NULL) {
        seam_mem_free(gift_trainer->all_dy);
        seam_mem_free(gift_trainer);
    }
}

seam_status seam_trainer_step(seam_trainer *trainer, const seam_token_batch *micros,
                              uint32_t micro_count, seam_train_report *report, seam_error *err) {
    if (trainer == NULL || micros == NULL || report == NULL ||
        report->struct_bytes != sizeof *report) {
        return seam_error_set(err, SEAM_E_ARG, "an argument is NULL, or report lacks its _INIT");
    }
    const double begin = now_seconds();
    totals t;
    SEAM_TRY(count_batches(&t, trainer, micros, micro_count, err));
    *report = (seam_train_report)SEAM_TRAIN_REPORT_INIT;
    report->tokens = t.tokens;
    report->labelled_tokens = t.labelled_tokens;
    seam_step_micro layouts[MICROS_MAX];
    for (uint32_t m = 0; m < micro_count; m++) {
        layouts[m] = (seam_step_micro){.sequence_count = micros[m].sequence_count,
                                       .sequence_rows = micros[m].sequence_rows,
                                       .labelled_rows = micros[m].labelled_rows,
                                       .sample_ids = micros[m].sample_ids,
                                       .row_keys = micros[m].ids,
                                       .labels = micros[m].targets};
    }
    double loss_sum = 0.0;
    const uint32_t ahead = seam_session_ahead(trainer->session);
    SEAM_TRY(seam_step_begin_ahead(trainer->session, layouts, micro_count, ahead, err));
    const bool one_pass = strcmp(seam_session_topology(trainer->session), "u_shaped") != 0;
    uint32_t begun = 0;
    for (uint32_t m = 0; m < micro_count; m++) {
        for (; begun < micro_count && begun < m + ahead; begun++) {
            SEAM_TRY(micro_begin(trainer, &micros[begun], begun, &t, report, err));
        }
        SEAM_TRY(one_pass ? loss_await(trainer, m, &loss_sum, report, err)
                          : micro_run(trainer, &micros[m], m, &t, &loss_sum, report, err));
    }
    /* Before the commit, for whom the session calls there (seam_session_on_commit). */
    report->loss = loss_sum / (double)t.labelled_tokens;
    SEAM_TRY(seam_step_commit(trainer->session, &report->step, err));
    report->seconds = now_seconds() - begin;
    return SEAM_OK;
}

static seam_status count_batches(totals *ret_totals, seam_trainer *trainer,
                                 const seam_token_batch *micros, uint32_t micro_count,
                                 seam_error *err) {
    if (micro_count == 0 || micro_count > MICROS_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT, "micro_count: %u is not in 1..%d", micro_count,
                              MICROS_MAX);
    }
    *ret_totals = (totals){.tokens = 0};
    uint32_t rows_max = 0;
    for (uint32_t m = 0; m < micro_count; m++) {
        SEAM_TRY(seam_batch_count(&ret_totals->rows[m], &ret_totals->labelled[m], &micros[m],
                                  trainer->model, err));
        ret_totals->tokens += ret_totals->rows[m];
        ret_totals->labelled_tokens += ret_totals->labelled[m];
        rows_max = ret_totals->rows[m] > rows_max ? ret_totals->rows[m] : rows_max;
    }
    if (ret_totals->labelled_tokens == 0) {
        return seam_error_set(err, SEAM_E_ARG, "the step has no labelled row");
    }
    return seam_model_reserve(trainer->model, rows_max, err);
}

/* Its embedded tokens to the server, which may be at an earlier one yet. */
static seam_status micro_begin(seam_trainer *trainer, const seam_token_batch *batch, uint32_t micro,
                               const totals *t, seam_train_report *report, seam_error *err) {
    seam_model *const model = trainer->model;
    const double begin = now_seconds();
    const uint64_t embed_ns = seam_session_trace_begin(trainer->session);
    SEAM_TRY(seam_model_embed(model, batch->ids, t->rows[micro], err));
    report->head_seconds += now_seconds() - begin;
    seam_session_trace_end(trainer->session, "embed", micro, embed_ns);
    return seam_step_forward_begin(trainer->session, micro, model->host_x, err);
}

static seam_status micro_run(seam_trainer *trainer, const seam_token_batch *batch, uint32_t micro,
                             const totals *t, double *loss_sum, seam_train_report *report,
                             seam_error *err) {
    seam_model *const model = trainer->model;
    const uint32_t rows = t->rows[micro];
    const uint32_t labelled = t->labelled[micro];
    SEAM_TRY(seam_step_forward_end(trainer->session, model->host_y, micro, err));
    const bool all_rows = seam_step_rows_out(trainer->session, micro) != labelled;
    if (all_rows) {
        SEAM_TRY(rows_gather(trainer, batch, rows, err));
    }
    const double head_begin = now_seconds();
    const uint64_t head_ns = seam_session_trace_begin(trainer->session);
    double loss = 0.0;
    const seam_head_pass pass = {.targets = batch->targets,
                                 .rows = labelled,
                                 .grad_scale = (float)(1.0 / (double)t->labelled_tokens),
                                 .gradient = true};
    SEAM_TRY(seam_model_head(&loss, model, &pass, err));
    report->head_seconds += now_seconds() - head_begin;
    seam_session_trace_end(trainer->session, "head", micro, head_ns);
    if (!isfinite(loss)) {
        return seam_error_set(err, SEAM_E_NONFINITE, "the loss of micro-batch %u is not finite",
                              micro);
    }
    *loss_sum += loss;
    for (uint32_t i = 0; i < labelled; i++) {
        report->correct_tokens += model->argmax[i] == batch->targets[i];
    }
    if (all_rows) {
        rows_spread(trainer, batch, rows);
    }
    return seam_step_backward(trainer->session, NULL, micro,
                              all_rows ? trainer->all_dy : model->host_dy, err);
}

/* The server's head has the labels: what it says of them. */
static seam_status loss_await(seam_trainer *trainer, uint32_t micro, double *loss_sum,
                              seam_train_report *report, seam_error *err) {
    seam_step_loss loss;
    SEAM_TRY(seam_step_answer(trainer->session, &loss, NULL, micro, err));
    *loss_sum += loss.loss_sum;
    report->correct_tokens += loss.correct_count;
    return SEAM_OK;
}

/* All rows came: the labelled ones move to the front. */
static seam_status rows_gather(seam_trainer *trainer, const seam_token_batch *batch, uint32_t rows,
                               seam_error *err) {
    const size_t C = trainer->model->hidden;
    if (rows > trainer->all_capacity) {
        seam_mem_free(trainer->all_dy);
        trainer->all_capacity = 0;
        trainer->all_dy = seam_mem_zalloc(rows, C * sizeof(float));
        if (trainer->all_dy == NULL) {
            return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
        }
        trainer->all_capacity = rows;
    }
    float *const y = trainer->model->host_y;
    size_t to = 0;
    for (size_t row = 0; row < rows; row++) {
        if (((uint32_t)batch->labelled_rows[row / 8] >> (row % 8) & 1u) != 0) {
            memmove(y + to * C, y + row * C, C * sizeof *y);
            to++;
        }
    }
    return SEAM_OK;
}

static void rows_spread(seam_trainer *trainer, const seam_token_batch *batch, uint32_t rows) {
    const size_t C = trainer->model->hidden;
    const float *from = trainer->model->host_dy;
    memset(trainer->all_dy, 0, rows * C * sizeof *from);
    for (size_t row = 0; row < rows; row++) {
        if (((uint32_t)batch->labelled_rows[row / 8] >> (row % 8) & 1u) != 0) {
            memcpy(trainer->all_dy + row * C, from, C * sizeof *from);
            from += C;
        }
    }
}

static double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}
