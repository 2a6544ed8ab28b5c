/* A micro-batch of a topology whose loss is here: forward, head and loss, backward in one job, and
 * one answer.  WIRE.md 4.1.
 *
 *   VANILLA:  decode site 0 -> blocks -> labelled rows -> norm, head, loss -> their gradient
 *             -> blocks backward -> [site 3][gate signal of site 0] loss
 *
 *   ADAPTER_EXCHANGE:  [parameters] tokens -> embedding -> the same -> after the last micro-batch
 *             [gradients of the adapter] loss: exchange.c
 *
 * Read next: train_step.c, whose parts these are; kernels/model/head.c. */
#include <math.h>
#include <string.h>

#include "bytes.h"
#include "device_codec.h"
#include "trainer_internal.h"
#include "try.h"

#define LOSS_BYTES 16

size_t seam_one_pass_reply_bytes(void) {
    return SEAM_FRAME_HEADER_BYTES * 2 + LOSS_BYTES;
}

static size_t rows_bytes(const seam_trainer *t, uint32_t rows) {
    return (size_t)rows * t->channels * sizeof(float);
}

void seam_one_pass_plan(seam_memory_plan *plan, const seam_trainer *t) {
    if (seam_session_config_is_one_pass(t->config)) {
        plan->device[SEAM_MEMORY_ACTIVATIONS] += 2 * rows_bytes(t, t->config->limits.rows_max);
    }
}

seam_status seam_one_pass_create(seam_trainer *t) {
    if (!seam_session_config_is_one_pass(t->config)) {
        return SEAM_OK;
    }
    SEAM_ASSERT(t->ops->acc == SEAM_F32);
    const size_t bytes = rows_bytes(t, t->config->limits.rows_max);
    SEAM_TRY(t->ops->mem_alloc(&t->y, t->backend, bytes));
    return t->ops->mem_alloc(&t->dy, t->backend, bytes);
}

void seam_one_pass_destroy(seam_trainer *t) {
    t->ops->mem_free(t->backend, t->dy);
    t->ops->mem_free(t->backend, t->y);
}

/* Labelled rows of t->x to t->y, one after another. */
SEAM_ON_GPU static seam_status labelled_gather(seam_trainer *t, seam_stream *stream) {
    const uint32_t count = t->at->micro.layout.labelled_count;
    if (t->device.space != NULL) {
        const seam_device_rows rows = {
            .x = t->x, .type = SEAM_F32, .list = t->at->labelled, .rows = count, .C = t->channels};
        return t->ops->codec->rows_gather(stream, t->y, &rows);
    }
    SEAM_TRY(seam_trainer_from_device(t, stream));
    for (uint32_t i = 0; i < count; i++) {
        memcpy(t->packed + (size_t)i * t->channels,
               t->rows + (size_t)t->at->micro.out_rows[i] * t->channels, rows_bytes(t, 1));
    }
    return t->ops->copy_in(stream, t->y, t->packed, rows_bytes(t, count));
}

/* t->dy to the labelled rows of t->x; the others have no gradient. */
SEAM_ON_GPU static seam_status labelled_scatter(seam_trainer *t, seam_stream *stream) {
    const seam_micro_layout *layout = &t->at->micro.layout;
    const uint32_t count = layout->labelled_count;
    if (t->device.space != NULL) {
        const seam_device_rows rows = {
            .x = t->x, .type = SEAM_F32, .list = t->at->labelled, .rows = count, .C = t->channels};
        SEAM_TRY(t->ops->zero(stream, t->x, rows_bytes(t, layout->rows)));
        return t->ops->codec->raw_decode(stream, &rows, t->dy, SEAM_F32);
    }
    SEAM_TRY(t->ops->copy_out(stream, t->packed, t->dy, rows_bytes(t, count)));
    SEAM_TRY(t->ops->stream_sync(stream));
    memset(t->rows, 0, rows_bytes(t, layout->rows));
    for (uint32_t i = 0; i < count; i++) {
        memcpy(t->rows + (size_t)t->at->micro.out_rows[i] * t->channels,
               t->packed + (size_t)i * t->channels, rows_bytes(t, 1));
    }
    return seam_trainer_to_device(t, stream);
}

/* The blocks' output in t->x becomes its gradient, that of the step's mean loss. */
SEAM_ON_GPU static seam_status loss_make(seam_trainer *t, seam_stream *stream, seam_error *err) {
    const seam_micro *micro = &t->at->micro;
    const uint32_t count = micro->layout.labelled_count;
    SEAM_TRY(labelled_gather(t, stream));
    SEAM_TRY(seam_head_loss(&t->loss_sum, t->dy, t->likeliest, t->config->model->head, stream, t->y,
                            micro->layout.labels, count,
                            (float)(1.0 / (double)micro->labelled_total)));
    if (!isfinite(t->loss_sum)) {
        return seam_error_set(err, SEAM_E_NONFINITE, "the loss of micro-batch %u is not finite",
                              micro->micro);
    }
    t->correct = 0;
    for (uint32_t i = 0; i < count; i++) {
        t->correct += t->likeliest[i] == micro->layout.labels[i] ? 1 : 0;
    }
    return labelled_scatter(t, stream);
}

/* The last part of the answer, whose key is the answer's. */
static void loss_add(seam_trainer *t) {
    const seam_frame_header header = {.kind = SEAM_FRAME_LOSS,
                                      .phase = SEAM_PHASE_FORWARD,
                                      .codec = SEAM_CODEC_F32,
                                      .site = SEAM_SITE_FWD_IN,
                                      .micro = t->at->micro.micro,
                                      .step = t->at->micro.step,
                                      .rows = 1,
                                      .channels = 1,
                                      .row_count = 1};
    uint8_t payload[LOSS_BYTES];
    seam_put_f64(payload, t->loss_sum);
    seam_put_u64(payload + 8, t->correct);
    seam_reply_add_frame(t->answer, &header, payload, sizeof payload);
}

seam_status seam_one_pass_run(seam_trainer *t, seam_stream *stream, seam_error *err) {
    const seam_micro *micro = &t->at->micro;
    SEAM_TRY(t->exchange.is_on ? seam_exchange_input(t, stream, err)
                               : seam_trainer_input(t, stream, err));
    SEAM_TRY(seam_trainer_blocks(t, stream));
    const uint64_t head_ns = seam_trace_begin(t->config->trace);
    SEAM_TRY(loss_make(t, stream, err));
    SEAM_TRY(seam_trainer_phase_end(t, "head", head_ns, stream));
    seam_reply_clear(t->answer);
    SEAM_TRY(seam_trainer_gradient(t, stream, err));
    if (t->exchange.is_on && micro->micro + 1 == micro->micro_count) {
        SEAM_TRY(seam_exchange_gradients(t, stream, err));
    }
    loss_add(t);
    return SEAM_OK;
}
