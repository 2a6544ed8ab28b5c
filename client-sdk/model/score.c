/* The loss of a batch without training: embedding, the server's blocks, head. */
#include "local_model.h"
#include "try.h"

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
    SEAM_TRY(seam_model_embed(model, batch->ids, rows, err));
    const seam_rows_request request = {.sequence_count = batch->sequence_count,
                                       .sequence_rows = batch->sequence_rows,
                                       .labelled_rows = batch->labelled_rows};
    SEAM_TRY(seam_inference_run(inference, model->host_y, model->host_x, &request, err));
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
