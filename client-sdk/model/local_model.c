/* The model's share on this machine: see local_model.h.  The weights' file is mapped only while the
 * tensors are read, so that the process holds nothing of the server's blocks. */
#include "local_model.h"
#include "blocks.h"

#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "try.h"

static seam_status open_parts(seam_model *model, const seam_model_options *options,
                              seam_error *err);
static seam_status blocks_open(seam_model *model, const seam_weights *weights,
                               const seam_model_options *options, seam_error *err);
static void buffers_free(seam_model *model);

seam_status seam_model_open(seam_model **ret_model, const seam_model_options *options,
                            seam_error *err) {
    if (ret_model == NULL || options == NULL || options->struct_bytes != sizeof *options ||
        options->path == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "ret_model or path is NULL, or no _INIT");
    }
    seam_model *const model = seam_mem_zalloc(1, sizeof *model);
    if (model == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    const seam_status st = open_parts(model, options, err);
    if (st != SEAM_OK) {
        seam_model_close(model);
        return st;
    }
    *ret_model = model;
    return SEAM_OK;
}

static seam_status open_parts(seam_model *model, const seam_model_options *options,
                              seam_error *err) {
    const seam_backend_options backend = {.device =
                                              options->device != NULL ? options->device : "cpu",
                                          .act = options->f32 ? SEAM_F32 : 0,
                                          .threads = options->threads};
    SEAM_TRY(seam_backend_create(&model->backend, &backend, err));
    model->ops = seam_backend_ops(model->backend);
    if (model->ops->acc != SEAM_F32) { /* what travels and what the trainer adds up is f32 */
        return seam_error_set(err, SEAM_E_ARG, "device %s computes in double: for tests only",
                              backend.device);
    }
    const seam_status st = model->ops->stream_create(&model->stream, model->backend);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "%s", seam_status_text(st));
    }
    seam_weights *weights = NULL;
    SEAM_TRY(seam_weights_open(&weights, options->path, err));
    seam_status made = seam_head_create(&model->head, model->backend, weights, err);
    made = made == SEAM_OK ? blocks_open(model, weights, options, err) : made;
    seam_weights_close(weights);
    SEAM_TRY(made);
    model->hidden = seam_head_config(model->head)->hidden;
    model->vocab = seam_head_config(model->head)->vocab_count;
    return SEAM_OK;
}

static seam_status blocks_open(seam_model *model, const seam_weights *weights,
                               const seam_model_options *options, seam_error *err) {
    const uint32_t layers = seam_head_config(model->head)->layers;
    const uint32_t front = options->front_blocks, tail = options->tail_blocks;
    if (front >= layers || tail >= layers - front) {
        return seam_error_set(err, SEAM_E_ARG,
                              "front_blocks %u and tail_blocks %u: of the model's %u blocks the "
                              "server has at least one",
                              front, tail, layers);
    }
    if (front > 0) {
        SEAM_TRY(seam_blocks_create(&model->front, model->backend, weights, 0, front, err));
    }
    return tail > 0 ? seam_blocks_create(&model->tail, model->backend, weights, layers - tail,
                                         layers, err)
                    : SEAM_OK;
}

void seam_model_close(seam_model *gift_model) {
    if (gift_model == NULL) {
        return;
    }
    if (gift_model->backend != NULL) {
        buffers_free(gift_model);
        seam_activations_destroy(gift_model->look_acts[1]);
        seam_activations_destroy(gift_model->look_acts[0]);
        seam_blocks_destroy(gift_model->tail);
        seam_blocks_destroy(gift_model->front);
        seam_head_destroy(gift_model->head);
        if (gift_model->stream != NULL) {
            gift_model->ops->stream_destroy(gift_model->stream);
        }
        seam_backend_destroy(gift_model->backend);
    }
    seam_mem_free(gift_model);
}

const seam_model_config *seam_model_config_of(const seam_model *model) {
    return seam_head_config(model->head);
}

void seam_model_describe(seam_model_facts *ret_facts, const seam_model *model) {
    if (ret_facts == NULL) {
        return;
    }
    if (model == NULL) {
        *ret_facts = (seam_model_facts){0};
        return;
    }
    const seam_model_config *const config = seam_head_config(model->head);
    *ret_facts = (seam_model_facts){
        .vocab = config->vocab_count,
        .hidden = config->hidden,
        .layers = config->layers,
        .context_max = config->context_max,
        .identity = seam_model_config_identity(config),
        .bytes = seam_head_bytes(model->head) +
                 (model->front != NULL ? seam_blocks_bytes(model->front) : 0) +
                 (model->tail != NULL ? seam_blocks_bytes(model->tail) : 0),
        .front_blocks = model->front != NULL ? seam_blocks_layer_count(model->front) : 0,
        .tail_blocks = model->tail != NULL ? seam_blocks_layer_count(model->tail) : 0,
        .bos_id = config->bos_id,
        .eos_id = config->eos_id,
        .lora_targets = seam_lora_targets_of(config),
    };
    memcpy(ret_facts->name, config->name, sizeof ret_facts->name);
    memcpy(ret_facts->architecture, config->architecture, sizeof ret_facts->architecture);
    snprintf(ret_facts->backend, sizeof ret_facts->backend, "%s",
             seam_backend_describe(model->backend));
}

/* ---- buffers ---- */

/* Those of the host, as views; with an empty arena this is the plan. */
static void host_carve(seam_model *model, seam_arena *arena, uint32_t rows, bool bf16) {
    const size_t bytes = (size_t)rows * model->hidden * sizeof(float);
    model->host_x = seam_arena_take(arena, bytes);
    model->host_y = seam_arena_take(arena, bytes);
    model->host_dy = seam_arena_take(arena, bytes);
    model->host_all = seam_arena_take(arena, bytes);
    model->host_x16 = bf16 ? seam_arena_take(arena, bytes / 2) : NULL;
    model->argmax = seam_arena_take(arena, rows * sizeof *model->argmax);
    model->seq_begin = seam_arena_take(arena, ((size_t)rows + 1) * sizeof *model->seq_begin);
    model->positions = seam_arena_take(arena, rows * sizeof *model->positions);
    model->bitmap = seam_arena_take(arena, (size_t)rows / 8 + 1);
}

uint64_t seam_model_rows_bytes(uint32_t hidden, uint32_t rows, bool bf16) {
    seam_model none = {.hidden = hidden};
    seam_arena plan = {0};
    host_carve(&none, &plan, rows, bf16);
    return plan.used_bytes + 3 * (uint64_t)rows * hidden * sizeof(float);
}

static void buffers_free(seam_model *model) {
    seam_arena_deinit(&model->host);
    model->ops->mem_free(model->backend, model->dy);
    model->ops->mem_free(model->backend, model->y);
    model->ops->mem_free(model->backend, model->x);
    model->x = model->y = model->dy = NULL;
    model->rows_capacity = 0;
}

seam_status seam_model_reserve(seam_model *model, uint32_t rows, seam_error *err) {
    if (rows <= model->rows_capacity) {
        return SEAM_OK;
    }
    buffers_free(model);
    size_t bytes = 0;
    const seam_ops *const ops = model->ops;
    const bool bf16 = seam_model_sends_bf16(model);
    seam_arena plan = {0};
    host_carve(model, &plan, rows, bf16);
    const bool sized = seam_mul3_bytes(&bytes, rows, model->hidden, sizeof(float));
    if (!sized || ops->mem_alloc(&model->x, model->backend, bytes) != SEAM_OK ||
        ops->mem_alloc(&model->y, model->backend, bytes) != SEAM_OK ||
        ops->mem_alloc(&model->dy, model->backend, bytes) != SEAM_OK ||
        seam_arena_init(&model->host, plan.used_bytes) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    host_carve(model, &model->host, rows, bf16);
    model->rows_capacity = rows;
    return SEAM_OK;
}

seam_status seam_model_embed(seam_model *model, const uint32_t *ids, uint32_t rows,
                             seam_error *err) {
    const size_t bytes = (size_t)rows * model->hidden * sizeof(float);
    seam_status st = seam_head_embed(model->head, model->stream, model->x, ids, rows);
    if (st == SEAM_OK) {
        st = model->ops->copy_out(model->stream, model->host_x, model->x, bytes);
    }
    if (st == SEAM_OK) {
        st = model->ops->stream_sync(model->stream);
    }
    return st == SEAM_OK ? SEAM_OK : seam_error_set(err, st, "embedding: %s", seam_status_text(st));
}

bool seam_model_sends_bf16(const seam_model *model) {
    return model->front == NULL && seam_head_embeds_bf16(model->head);
}

seam_status seam_model_embed_bf16(seam_model *model, const uint32_t *ids, uint32_t rows,
                                  seam_error *err) {
    const size_t bytes = (size_t)rows * model->hidden * sizeof(uint16_t);
    seam_status st = seam_head_embed_bf16(model->head, model->stream, model->x, ids, rows);
    if (st == SEAM_OK) {
        st = model->ops->copy_out(model->stream, model->host_x16, model->x, bytes);
    }
    if (st == SEAM_OK) {
        st = model->ops->stream_sync(model->stream);
    }
    return st == SEAM_OK ? SEAM_OK : seam_error_set(err, st, "embedding: %s", seam_status_text(st));
}

seam_status seam_model_head(double *ret_loss_sum, seam_model *model, const seam_head_pass *pass,
                            seam_error *err) {
    const size_t bytes = (size_t)pass->rows * model->hidden * sizeof(float);
    const seam_ops *const ops = model->ops;
    seam_status st = ops->copy_in(model->stream, model->y, model->host_y, bytes);
    if (st == SEAM_OK) {
        st = seam_head_loss(ret_loss_sum, pass->gradient ? model->dy : NULL, model->argmax,
                            model->head, model->stream, model->y, pass->targets, pass->rows,
                            pass->grad_scale);
    }
    if (st == SEAM_OK && pass->gradient) {
        st = ops->copy_out(model->stream, model->host_dy, model->dy, bytes);
    }
    if (st == SEAM_OK) {
        st = ops->stream_sync(model->stream);
    }
    return st == SEAM_OK ? SEAM_OK : seam_error_set(err, st, "head: %s", seam_status_text(st));
}

void seam_rows_labelled_pack(float *rows, const seam_token_batch *batch, uint32_t row_count,
                             uint32_t channels) {
    const size_t C = channels;
    size_t to = 0;
    for (size_t row = 0; row < row_count; row++) {
        if (((uint32_t)batch->labelled_rows[row / 8] >> (row % 8) & 1u) != 0) {
            memmove(rows + to * C, rows + row * C, C * sizeof *rows);
            to++;
        }
    }
}

seam_status seam_model_fits(const seam_model *model, const seam_inference *inference,
                            seam_error *err) {
    const uint32_t channels = seam_inference_channels(inference);
    return channels == model->hidden
               ? SEAM_OK
               : seam_error_set(err, SEAM_E_ARG, "the server's model has %u channels, this one %u",
                                channels, model->hidden);
}

seam_status seam_batch_count(uint32_t *ret_rows, uint32_t *ret_labelled,
                             const seam_token_batch *batch, const seam_model *model,
                             seam_error *err) {
    if (batch->targets == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "batch: targets is NULL");
    }
    SEAM_TRY(seam_batch_count_rows(ret_rows, ret_labelled, batch, model, err));
    for (uint32_t i = 0; i < *ret_labelled; i++) {
        if (batch->targets[i] >= model->vocab) {
            return seam_error_set(err, SEAM_E_ARG,
                                  "batch: target %u is not in the vocabulary of %u",
                                  batch->targets[i], model->vocab);
        }
    }
    return SEAM_OK;
}

seam_status seam_batch_count_rows(uint32_t *ret_rows, uint32_t *ret_labelled,
                                  const seam_token_batch *batch, const seam_model *model,
                                  seam_error *err) {
    if (batch->sequence_rows == NULL || batch->ids == NULL || batch->labelled_rows == NULL ||
        batch->sequence_count == 0) {
        return seam_error_set(err, SEAM_E_ARG, "batch: an array is NULL, or no sequence");
    }
    uint64_t rows = 0;
    for (uint32_t i = 0; i < batch->sequence_count; i++) {
        rows += batch->sequence_rows[i];
    }
    if (rows == 0 || rows > SEAM_HEAD_ROWS_MAX) {
        return seam_error_set(err, SEAM_E_ARG, "batch: %llu rows", (unsigned long long)rows);
    }
    uint32_t labelled = 0;
    for (uint32_t t = 0; t < rows; t++) {
        labelled += (uint32_t)batch->labelled_rows[t / 8] >> (t % 8) & 1u;
        if (batch->ids[t] >= model->vocab) {
            return seam_error_set(err, SEAM_E_ARG, "batch: token %u is not in the vocabulary of %u",
                                  batch->ids[t], model->vocab);
        }
    }
    *ret_rows = (uint32_t)rows;
    *ret_labelled = labelled;
    return SEAM_OK;
}
