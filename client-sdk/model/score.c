/* Without training: embedding, the server's blocks, head; the loss of a batch, or the probability
 * of any tokens after its rows. */
#include <string.h>

#include "client_blocks.h"
#include "try.h"

static seam_status queries_check(const seam_token_batch *batch, uint32_t rows,
                                 const seam_model *model, const seam_token_query *queries,
                                 uint32_t query_count, seam_error *err);
static seam_status answers_make(seam_token_answer *ret_answers, seam_model *model,
                                const seam_token_batch *batch, const seam_token_query *queries,
                                uint32_t query_count);

/* model->host_y (labelled rows, C) = the blocks' output. */
static seam_status batch_forward(seam_model *model, seam_inference *inference,
                                 const seam_token_batch *batch, uint32_t rows, seam_error *err) {
    seam_inference_options options;
    seam_inference_describe(&options, inference);
    seam_client_look look = {.base_model = options.base_model, .batch = batch, .rows = rows};
    seam_rows_request request = {.sequence_count = batch->sequence_count,
                                 .sequence_rows = batch->sequence_rows,
                                 .labelled_rows = batch->labelled_rows};
    SEAM_TRY(seam_model_fits(model, inference, err));
    SEAM_TRY(seam_model_embed(model, batch->ids, rows, err));
    SEAM_TRY(seam_client_infer(model, model->host_x, &look, err));
    if (model->tail == NULL) {
        return seam_inference_run(inference, model->host_y, model->host_x, &request, err);
    }
    seam_tail_rows_mark(model->bitmap, batch);
    request.labelled_rows = model->bitmap;
    SEAM_TRY(seam_inference_run(inference, model->host_all, model->host_x, &request, err));
    seam_tail_rows_spread(model->host_y, model->host_all, batch, model->hidden);
    look.is_tail = true;
    SEAM_TRY(seam_client_infer(model, model->host_y, &look, err));
    seam_rows_labelled_pack(model->host_y, batch, rows, model->hidden);
    return SEAM_OK;
}

seam_status seam_model_score(seam_score *score, seam_model *model, seam_inference *inference,
                             const seam_token_batch *batch, seam_error *err) {
    if (score == NULL || model == NULL || inference == NULL || batch == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "an argument is NULL");
    }
    uint32_t rows = 0, labelled = 0;
    SEAM_TRY(seam_batch_count(&rows, &labelled, batch, model, err));
    if (labelled == 0) {
        return seam_error_set(err, SEAM_E_ARG, "batch: no labelled row");
    }
    SEAM_TRY(seam_model_reserve(model, rows, err));
    SEAM_TRY(batch_forward(model, inference, batch, rows, err));
    double loss = 0.0;
    const seam_head_pass pass = {.targets = batch->targets, .rows = labelled, .grad_scale = 1.0f};
    SEAM_TRY(seam_model_head(&loss, model, &pass, err));
    score->loss_sum += loss;
    score->labelled_tokens += labelled;
    for (uint32_t i = 0; i < labelled; i++) {
        score->correct_tokens += model->argmax[i] == batch->targets[i];
    }
    return SEAM_OK;
}

seam_status seam_model_query(seam_token_answer *ret_answers, seam_model *model,
                             seam_inference *inference, const seam_token_batch *batch,
                             const seam_token_query *queries, uint32_t query_count,
                             seam_error *err) {
    if (ret_answers == NULL || model == NULL || inference == NULL || batch == NULL ||
        queries == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "an argument is NULL");
    }
    uint32_t rows = 0, labelled = 0;
    SEAM_TRY(seam_batch_count_rows(&rows, &labelled, batch, model, err));
    SEAM_TRY(queries_check(batch, rows, model, queries, query_count, err));
    const uint32_t reserved = rows > SEAM_HEAD_CHUNK_ROWS ? rows : SEAM_HEAD_CHUNK_ROWS;
    SEAM_TRY(seam_model_reserve(model, reserved, err));
    SEAM_TRY(batch_forward(model, inference, batch, rows, err));
    const seam_status st = answers_make(ret_answers, model, batch, queries, query_count);
    return st == SEAM_OK ? SEAM_OK : seam_error_set(err, st, "head: %s", seam_status_text(st));
}

static seam_status queries_check(const seam_token_batch *batch, uint32_t rows,
                                 const seam_model *model, const seam_token_query *queries,
                                 uint32_t query_count, seam_error *err) {
    if (query_count == 0) {
        return seam_error_set(err, SEAM_E_ARG, "no query");
    }
    for (uint32_t i = 0; i < query_count; i++) {
        const uint32_t row = queries[i].row;
        if (row >= rows || (batch->labelled_rows[row / 8] >> (row % 8) & 1) == 0) {
            return seam_error_set(err, SEAM_E_ARG, "query %u: row %u is not labelled", i, row);
        }
        if (queries[i].token >= model->vocab) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "query %u: token %u is not in the vocabulary of %u", i,
                                  queries[i].token, model->vocab);
        }
    }
    return SEAM_OK;
}

/* Labelled rows before this one. */
static uint32_t labelled_before(const uint8_t *bitmap, uint32_t row) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < row / 8; i++) {
        count += (uint32_t)__builtin_popcount(bitmap[i]);
    }
    return count + (uint32_t)__builtin_popcount(bitmap[row / 8] & ((1u << row % 8) - 1u));
}

/* A row is copied for each of its queries: the head's product is small beside the blocks'. */
static seam_status answers_make(seam_token_answer *ret_answers, seam_model *model,
                                const seam_token_batch *batch, const seam_token_query *queries,
                                uint32_t query_count) {
    const size_t C = model->hidden;
    uint32_t tokens[SEAM_HEAD_CHUNK_ROWS], likeliest[SEAM_HEAD_CHUNK_ROWS];
    double losses[SEAM_HEAD_CHUNK_ROWS];
    for (uint32_t begin = 0; begin < query_count; begin += SEAM_HEAD_CHUNK_ROWS) {
        const uint32_t left = query_count - begin;
        const uint32_t n = left < SEAM_HEAD_CHUNK_ROWS ? left : SEAM_HEAD_CHUNK_ROWS;
        for (uint32_t i = 0; i < n; i++) {
            const seam_token_query *const q = &queries[begin + i];
            const size_t from = labelled_before(batch->labelled_rows, q->row);
            memcpy(model->host_dy + i * C, model->host_y + from * C, C * sizeof(float));
            tokens[i] = q->token;
        }
        SEAM_TRY(
            model->ops->copy_in(model->stream, model->y, model->host_dy, n * C * sizeof(float)));
        SEAM_TRY(seam_head_row_losses(losses, likeliest, model->head, model->stream, model->y,
                                      tokens, n));
        for (uint32_t i = 0; i < n; i++) {
            ret_answers[begin + i] = (seam_token_answer){.log_probability = -losses[i],
                                                         .is_likeliest = likeliest[i] == tokens[i]};
        }
    }
    return SEAM_OK;
}
