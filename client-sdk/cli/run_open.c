/* See run_open.h. */
#include "run_open.h"

#include "storage.h"
#include "try.h"

seam_status seam_run_paths_check(const seam_train_options *options, seam_error *err) {
    const seam_train_options *const o = options;
    SEAM_TRY(seam_cli_path_check("model", o->model, err));
    SEAM_TRY(seam_cli_path_check("data", o->data, err));
    SEAM_TRY(seam_cli_path_check("eval-data", o->eval_data, err));
    SEAM_TRY(seam_cli_output_check("trace", o->trace, err));
    if (o->cache_dir == NULL) {
        return SEAM_OK;
    }
    seam_storage probe; /* as the caches' own */
    const seam_status st = seam_storage_open(&probe, o->cache_dir, 1, err);
    if (st != SEAM_OK) {
        return seam_error_prefix(err, st, "--cache-dir");
    }
    seam_storage_close(&probe);
    return SEAM_OK;
}

seam_model_options seam_run_model_options(const seam_train_options *options) {
    const seam_train_options *const o = options;
    seam_model_options model = SEAM_MODEL_OPTIONS_INIT;
    model.path = o->model;
    model.threads = o->threads;
    model.f32 = o->f32;
    model.device = o->device;
    model.front_blocks = o->front_blocks;
    model.tail_blocks = o->tail_blocks;
    return model;
}

seam_status seam_run_session_options(seam_session_options *ret_options,
                                     const seam_train_options *options, const seam_run_rows *rows,
                                     seam_error *err) {
    const seam_train_options *const o = options;
    seam_session_options *const s = ret_options;
    SEAM_TRY(seam_train_session_options(s, o, err));
    if (o->targets_by_model) {
        s->lora_targets = seam_targets_default(rows->facts);
    }
    s->model = rows->server_model;
    s->model_identity = rows->facts->identity;
    seam_run_rows_limit(s, o, seam_data_tokens_longest(rows->data),
                        seam_batcher_micros_max(rows->batcher));
    return SEAM_OK;
}

void seam_run_micros(seam_token_batch ret_micros[SEAM_RUN_MICROS_MAX],
                     const seam_step_batch *batch) {
    for (uint32_t m = 0; m < batch->micro_count; m++) {
        const seam_micro *const micro = &batch->micros[m];
        ret_micros[m] = (seam_token_batch){.sequence_count = micro->seq_count,
                                           .sequence_rows = micro->seq_rows,
                                           .ids = micro->ids,
                                           .labelled_rows = micro->labelled,
                                           .targets = micro->targets,
                                           .sample_ids = micro->sample_ids};
    }
}
