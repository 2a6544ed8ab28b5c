/* See client_blocks.h.  Read next: kernels/model/blocks_forward.c, as the server does. */
#include "client_blocks.h"

#include <string.h>

#include "arena.h"
#include "try.h"

/* Sequence bounds and positions of the batch, as the blocks want them. */
static seam_batch batch_of(seam_model *model, const seam_client_pass *pass) {
    const seam_token_batch *const b = pass->batch;
    uint32_t row = 0;
    for (uint32_t s = 0; s < b->sequence_count; s++) {
        model->seq_begin[s] = row;
        for (uint32_t i = 0; i < b->sequence_rows[s]; i++, row++) {
            model->positions[row] = i;
        }
    }
    SEAM_ASSERT(row == pass->rows);
    model->seq_begin[b->sequence_count] = row;
    return (seam_batch){.rows = row,
                        .seq_count = b->sequence_count,
                        .seq_begin = model->seq_begin,
                        .positions = model->positions,
                        .draw = pass->draw};
}

static seam_status named(seam_status st, const char *what, seam_error *err) {
    return st == SEAM_OK
               ? SEAM_OK
               : seam_error_set(err, st, "blocks of this end, %s: %s", what, seam_status_text(st));
}

seam_status seam_client_forward(seam_model *model, float *rows, const seam_client_pass *pass,
                                seam_error *err) {
    const seam_ops *const ops = model->ops;
    const size_t bytes = (size_t)pass->rows * model->hidden * sizeof *rows;
    const seam_batch batch = batch_of(model, pass);
    seam_status st = ops->copy_in(model->stream, model->x, rows, bytes);
    if (st == SEAM_OK) {
        st = seam_blocks_forward(pass->blocks, pass->adapter, pass->acts, model->stream, model->x,
                                 &batch);
    }
    if (st == SEAM_OK) {
        st = ops->copy_out(model->stream, rows, model->x, bytes);
    }
    st = st == SEAM_OK ? ops->stream_sync(model->stream) : st;
    return named(st, "forward", err);
}

seam_status seam_client_backward(seam_model *model, float *d_rows, const seam_client_pass *pass,
                                 bool skip_input_gradient, seam_error *err) {
    const seam_ops *const ops = model->ops;
    const size_t bytes = (size_t)pass->rows * model->hidden * sizeof *d_rows;
    const seam_batch batch = batch_of(model, pass);
    seam_status st = ops->copy_in(model->stream, model->x, d_rows, bytes);
    if (st == SEAM_OK) {
        st = seam_blocks_backward(pass->blocks, pass->adapter, pass->acts, model->stream, model->x,
                                  &batch, skip_input_gradient);
    }
    if (st == SEAM_OK && !skip_input_gradient) {
        st = ops->copy_out(model->stream, d_rows, model->x, bytes);
    }
    st = st == SEAM_OK ? ops->stream_sync(model->stream) : st;
    return named(st, "backward", err);
}

/* One layer's memory, in which rows pass through all; as large as the largest batch so far. */
static seam_status acts_reserve(seam_activations **acts, uint32_t *rows_max,
                                const seam_blocks *blocks, uint32_t rows, seam_error *err) {
    if (*acts != NULL && rows <= *rows_max) {
        return SEAM_OK;
    }
    const seam_activations_options options = {.rows_max = rows, .seqs_max = rows};
    seam_activations_destroy(*acts);
    *acts = NULL;
    *rows_max = rows;
    return seam_activations_create(acts, blocks, &options, err);
}

seam_status seam_client_infer(seam_model *model, float *rows, const seam_client_look *look,
                              seam_error *err) {
    const int at = look->is_tail ? 1 : 0;
    const seam_blocks *const blocks = look->is_tail ? model->tail : model->front;
    if (blocks == NULL) {
        return SEAM_OK;
    }
    SEAM_TRY(acts_reserve(&model->look_acts[at], &model->look_rows[at], blocks, look->rows, err));
    seam_adapter *const adapter = look->is_tail ? model->tail_adapter : model->front_adapter;
    const seam_client_pass pass = {.blocks = blocks,
                                   .adapter = look->base_model ? NULL : adapter,
                                   .acts = model->look_acts[at],
                                   .batch = look->batch,
                                   .rows = look->rows};
    return seam_client_forward(model, rows, &pass, err);
}

/* ---- rows of the tail ---- */

/* Rows of the sequence that begins at `begin`, up to its last labelled one. */
static uint32_t rows_to_last(const seam_token_batch *batch, uint32_t sequence, uint32_t begin) {
    uint32_t count = batch->sequence_rows[sequence];
    while (count > 0) {
        const uint32_t row = begin + count - 1;
        if (((uint32_t)batch->labelled_rows[row / 8] >> (row % 8) & 1u) != 0) {
            break;
        }
        count--;
    }
    return count;
}

uint32_t seam_tail_rows(const seam_token_batch *batch) {
    uint32_t begin = 0, total = 0;
    for (uint32_t s = 0; s < batch->sequence_count; s++) {
        total += rows_to_last(batch, s, begin);
        begin += batch->sequence_rows[s];
    }
    return total;
}

void seam_tail_rows_mark(uint8_t *ret_bitmap, const seam_token_batch *batch) {
    uint32_t begin = 0;
    for (uint32_t s = 0; s < batch->sequence_count; s++) {
        const uint32_t count = rows_to_last(batch, s, begin);
        for (uint32_t i = 0; i < batch->sequence_rows[s]; i++) {
            const uint32_t row = begin + i, bit = 1u << row % 8;
            ret_bitmap[row / 8] =
                (uint8_t)(i < count ? ret_bitmap[row / 8] | bit : ret_bitmap[row / 8] & ~bit);
        }
        begin += batch->sequence_rows[s];
    }
    if (begin % 8 != 0) { /* bits beyond the last row travel as zero */
        ret_bitmap[begin / 8] &= (uint8_t)((1u << begin % 8) - 1u);
    }
}

void seam_tail_rows_pick(float *ret_rows, const float *all, const seam_token_batch *batch,
                         uint32_t channels) {
    const size_t C = channels;
    uint32_t begin = 0;
    for (uint32_t s = 0; s < batch->sequence_count; s++) {
        const uint32_t count = rows_to_last(batch, s, begin);
        memcpy(ret_rows, all + begin * C, count * C * sizeof *all);
        ret_rows += count * C;
        begin += batch->sequence_rows[s];
    }
}

void seam_tail_rows_spread(float *ret_all, const float *rows, const seam_token_batch *batch,
                           uint32_t channels) {
    const size_t C = channels;
    uint32_t begin = 0;
    for (uint32_t s = 0; s < batch->sequence_count; s++) {
        const uint32_t count = rows_to_last(batch, s, begin);
        const uint32_t left = batch->sequence_rows[s] - count;
        memcpy(ret_all + begin * C, rows, count * C * sizeof *rows);
        memset(ret_all + (begin + count) * C, 0, left * C * sizeof *rows);
        rows += count * C;
        begin += batch->sequence_rows[s];
    }
}
