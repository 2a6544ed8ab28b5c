/* A training step, seen from the client.  Of the U-shaped cut:
 *   ids -> embedding [-> front blocks] -> (wire) -> blocks -> (wire) [-> tail blocks] -> norm,
 *   head, loss -> gradient [-> back through the tail] -> (wire) [-> back through the front]
 * Of VANILLA: ids -> embedding [-> front blocks], labels -> (wire) -> blocks, norm, head, loss ->
 *   (wire) [-> back through the front]
 * Of ADAPTER_EXCHANGE: ids, labels -> (wire) -> all of it -> gradients of the adapter -> (wire) ->
 *   optimizer (exchange_trainer.c)
 * The gradient is that of the mean over the labelled rows of all the step's micro-batches.
 * Read next: core/step.c, the three calls of seam.h that a step is made of. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "arena.h"
#include "client_blocks.h"
#include "split_trainer.h"
#include "try.h"

#define MICROS_MAX 64

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
static seam_status acts_create(seam_trainer *trainer, seam_error *err);
static seam_status front_begin(seam_trainer *trainer, const seam_token_batch *batch, uint32_t micro,
                               uint32_t rows, seam_error *err);
static seam_status tail_forward(seam_trainer *trainer, const seam_token_batch *batch,
                                uint32_t micro, uint32_t rows, seam_error *err);
static seam_status gradient_send(seam_trainer *trainer, const seam_token_batch *batch,
                                 uint32_t micro, uint32_t rows, bool all_rows, seam_error *err);
static seam_status loss_await(seam_trainer *trainer, const seam_token_batch *batch, uint32_t micro,
                              const totals *t, double *loss_sum, seam_train_report *report,
                              seam_error *err);
static seam_draw draw_of(const seam_trainer *trainer, uint32_t micro);
static seam_client_pass front_pass(const seam_trainer *trainer, const seam_token_batch *batch,
                                   uint32_t micro, uint32_t rows, const seam_draw *draw);
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
    seam_training_facts facts;
    seam_model_facts here;
    seam_session_training(&facts, session);
    seam_model_describe(&here, model);
    if (facts.front_blocks != here.front_blocks || facts.tail_blocks != here.tail_blocks) {
        return seam_error_set(err, SEAM_E_ARG,
                              "the session leaves %u front and %u tail blocks to the client, which "
                              "has %u and %u",
                              facts.front_blocks, facts.tail_blocks, here.front_blocks,
                              here.tail_blocks);
    }
    seam_trainer *const trainer = seam_mem_zalloc(1, sizeof *trainer);
    if (trainer == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    trainer->session = session;
    trainer->model = model;
    trainer->facts = facts;
    seam_status st = acts_create(trainer, err);
    if (st == SEAM_OK && strcmp(seam_session_topology(session), "adapter_exchange") == 0) {
        st = seam_exchange_trainer_create(&trainer->exchange, session,
                                          seam_head_config(model->head), err);
    }
    if (st == SEAM_OK && facts.client_trains) {
        st = seam_own_adapters_init(&trainer->own, model, &facts, err);
    }
    if (st == SEAM_OK && facts.client_trains) {
        const seam_own_part part = seam_own_adapters_part(&trainer->own);
        st = seam_session_own(session, &part, err);
        trainer->is_part = st == SEAM_OK;
    }
    if (st != SEAM_OK) {
        seam_trainer_destroy(trainer);
        return st;
    }
    *ret_trainer = trainer;
    return SEAM_OK;
}

static seam_status acts_create(seam_trainer *trainer, seam_error *err) {
    const seam_model *const model = trainer->model;
    seam_activations_options options;
    seam_adapter_config config;
    if (model->tail != NULL) {
        seam_own_activations(&options, &config, &trainer->facts, true);
        SEAM_TRY(seam_activations_create(&trainer->tail_acts, model->tail, &options, err));
    }
    trainer->front_count =
        seam_own_front_sets(&trainer->facts, seam_session_pipeline_depth(trainer->session));
    seam_own_activations(&options, &config, &trainer->facts, false);
    options.sets = trainer->front_count;
    for (uint32_t i = 0; i < trainer->front_count; i++) {
        SEAM_TRY(seam_activations_create(&trainer->front_acts[i], model->front, &options, err));
    }
    return SEAM_OK;
}

void seam_trainer_destroy(seam_trainer *gift_trainer) {
    if (gift_trainer != NULL) {
        if (gift_trainer->is_part) {
            (void)seam_session_own(gift_trainer->session, NULL, NULL);
        }
        seam_exchange_trainer_destroy(gift_trainer->exchange);
        seam_own_adapters_deinit(&gift_trainer->own);
        for (uint32_t i = 0; i < gift_trainer->front_count; i++) {
            seam_activations_destroy(gift_trainer->front_acts[i]);
        }
        seam_activations_destroy(gift_trainer->tail_acts);
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
        layouts[m] =
            (seam_step_micro){.sequence_count = micros[m].sequence_count,
                              .sequence_rows = micros[m].sequence_rows,
                              .labelled_rows = micros[m].labelled_rows,
                              .sample_ids = micros[m].sample_ids,
                              /* behind blocks equal tokens have rows of their own */
                              .row_keys = trainer->model->front == NULL ? micros[m].ids : NULL,
                              .labels = micros[m].targets,
                              .ids = micros[m].ids};
    }
    const seam_status dropped = seam_own_adapters_drop(&trainer->own); /* of a step given up */
    if (dropped != SEAM_OK) {
        return seam_error_set(err, dropped, "%s", seam_status_text(dropped));
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
        SEAM_TRY(one_pass ? loss_await(trainer, &micros[m], m, &t, &loss_sum, report, err)
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
    if (trainer->exchange != NULL) { /* the server embeds */
        return seam_step_tokens_begin(trainer->session, micro, err);
    }
    const double begin = now_seconds();
    const uint64_t embed_ns = seam_session_trace_begin(trainer->session);
    const bool bf16 = seam_model_sends_bf16(model);
    SEAM_TRY(bf16 ? seam_model_embed_bf16(model, batch->ids, t->rows[micro], err)
                  : seam_model_embed(model, batch->ids, t->rows[micro], err));
    SEAM_TRY(front_begin(trainer, batch, micro, t->rows[micro], err));
    report->head_seconds += now_seconds() - begin;
    seam_session_trace_end(trainer->session, "embed", micro, embed_ns);
    return bf16 ? seam_step_forward_begin_bf16(trainer->session, micro, model->host_x16, err)
                : seam_step_forward_begin(trainer->session, micro, model->host_x, err);
}

static seam_status micro_run(seam_trainer *trainer, const seam_token_batch *batch, uint32_t micro,
                             const totals *t, double *loss_sum, seam_train_report *report,
                             seam_error *err) {
    seam_model *const model = trainer->model;
    const uint32_t rows = t->rows[micro];
    const uint32_t labelled = t->labelled[micro];
    SEAM_TRY(seam_step_forward_end(trainer->session, model->host_y, micro, err));
    const double head_begin = now_seconds();
    const uint64_t head_ns = seam_session_trace_begin(trainer->session);
    const bool has_tail = model->tail != NULL;
    const bool all_rows = seam_step_rows_out(trainer->session, micro) !=
                          (has_tail ? seam_tail_rows(batch) : labelled);
    SEAM_TRY(tail_forward(trainer, batch, micro, rows, err));
    if (all_rows || has_tail) {
        seam_rows_labelled_pack(model->host_y, batch, rows, model->hidden);
    }
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
    if (all_rows || has_tail) {
        rows_spread(trainer, batch, rows);
    }
    return gradient_send(trainer, batch, micro, rows, all_rows, err);
}

/* The server's head has the labels: what it says of them, and back through a front that is
 * trained. */
static seam_status loss_await(seam_trainer *trainer, const seam_token_batch *batch, uint32_t micro,
                              const totals *t, double *loss_sum, seam_train_report *report,
                              seam_error *err) {
    seam_step_loss loss;
    float *const dx = trainer->own.front != NULL ? trainer->model->host_x : NULL;
    SEAM_TRY(seam_step_answer(trainer->session, &loss, dx, micro, err));
    *loss_sum += loss.loss_sum;
    report->correct_tokens += loss.correct_count;
    if (dx == NULL) {
        return SEAM_OK;
    }
    const seam_draw draw = draw_of(trainer, micro);
    const seam_client_pass pass = front_pass(trainer, batch, micro, t->rows[micro], &draw);
    return seam_client_backward(trainer->model, dx, &pass, true, err);
}

/* ---- blocks of this end ---- */

static seam_draw draw_of(const seam_trainer *trainer, uint32_t micro) {
    return (seam_draw){.step = seam_session_committed_steps(trainer->session), .micro = micro};
}

static seam_client_pass front_pass(const seam_trainer *trainer, const seam_token_batch *batch,
                                   uint32_t micro, uint32_t rows, const seam_draw *draw) {
    return (seam_client_pass){.blocks = trainer->model->front,
                              .adapter = trainer->own.front,
                              .acts = trainer->front_acts[micro % trainer->front_count],
                              .batch = batch,
                              .rows = rows,
                              .draw = draw};
}

static seam_client_pass tail_pass(const seam_trainer *trainer, const seam_token_batch *batch,
                                  uint32_t rows, const seam_draw *draw) {
    return (seam_client_pass){.blocks = trainer->model->tail,
                              .adapter = trainer->own.tail,
                              .acts = trainer->tail_acts,
                              .batch = batch,
                              .rows = rows,
                              .draw = draw};
}

/* host_x through the front. */
static seam_status front_begin(seam_trainer *trainer, const seam_token_batch *batch, uint32_t micro,
                               uint32_t rows, seam_error *err) {
    if (trainer->front_count == 0) {
        return SEAM_OK;
    }
    const seam_draw draw = draw_of(trainer, micro);
    const seam_client_pass pass = front_pass(trainer, batch, micro, rows, &draw);
    return seam_client_forward(trainer->model, trainer->model->host_x, &pass, err);
}

/* host_y as it came, through the tail: all T rows, for its attention reads earlier ones; what did
 * not travel has zeros, which nothing reads. */
static seam_status tail_forward(seam_trainer *trainer, const seam_token_batch *batch,
                                uint32_t micro, uint32_t rows, seam_error *err) {
    seam_model *const model = trainer->model;
    if (model->tail == NULL) {
        return SEAM_OK;
    }
    if (seam_step_rows_out(trainer->session, micro) != rows) {
        seam_tail_rows_spread(model->host_all, model->host_y, batch, model->hidden);
        memcpy(model->host_y, model->host_all, (size_t)rows * model->hidden * sizeof(float));
    }
    const seam_draw draw = draw_of(trainer, micro);
    const seam_client_pass pass = tail_pass(trainer, batch, rows, &draw);
    return seam_client_forward(model, model->host_y, &pass, err);
}

/* The gradient of the head's input, in host_dy or spread over all rows: back through the tail, the
 * wire, and the front if that is trained. */
static seam_status gradient_send(seam_trainer *trainer, const seam_token_batch *batch,
                                 uint32_t micro, uint32_t rows, bool all_rows, seam_error *err) {
    seam_model *const model = trainer->model;
    const seam_draw draw = draw_of(trainer, micro);
    const float *dy = all_rows ? model->host_all : model->host_dy;
    if (model->tail != NULL) {
        const seam_client_pass pass = tail_pass(trainer, batch, rows, &draw);
        SEAM_TRY(seam_client_backward(model, model->host_all, &pass, false, err));
        if (!all_rows) {
            seam_tail_rows_pick(model->host_dy, model->host_all, batch, model->hidden);
        }
    }
    if (trainer->own.front == NULL) {
        return seam_step_backward(trainer->session, NULL, micro, dy, err);
    }
    SEAM_TRY(seam_step_backward(trainer->session, model->host_x, micro, dy, err));
    const seam_client_pass pass = front_pass(trainer, batch, micro, rows, &draw);
    return seam_client_backward(model, model->host_x, &pass, true, err);
}

/* ---- rows ---- */

static void rows_spread(seam_trainer *trainer, const seam_token_batch *batch, uint32_t rows) {
    const size_t C = trainer->model->hidden;
    const float *from = trainer->model->host_dy;
    memset(trainer->model->host_all, 0, rows * C * sizeof *from);
    for (size_t row = 0; row < rows; row++) {
        if (((uint32_t)batch->labelled_rows[row / 8] >> (row % 8) & 1u) != 0) {
            memcpy(trainer->model->host_all + row * C, from, C * sizeof *from);
            from += C;
        }
    }
}

static double now_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}
