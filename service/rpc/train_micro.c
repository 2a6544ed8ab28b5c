/* What the StepBegin in force says of a message: which micro-batch it is of, and that one's layout.
 * Read next: proto/wire/step_layout.c, which judges what a peer sent. */
#include "bytes.h"
#include "train_stream.h"
#include "try.h"

bool seam_train_is_norm(const seam_session *session, const seam_step_key *key) {
    return session->config.client_trains && key->phase == SEAM_PHASE_BACKWARD &&
           key->micro == seam_session_step(session)->n_micros;
}

seam_status seam_train_micro_read(seam_micro *micro, const seam_session *session,
                                  uint32_t micro_idx, seam_error *err) {
    const Seam__V1__StepBegin *begin = seam_session_step(session);
    SEAM_ASSERT(micro_idx < begin->n_micros);
    const Seam__V1__MicroBatch *layout = begin->micros[micro_idx];
    micro->step = begin->step;
    micro->labelled_total = begin->labelled_row_count;
    micro->micro = micro_idx;
    micro->micro_count = (uint32_t)begin->n_micros;
    micro->bitmap = layout->labelled_rows.data;
    SEAM_TRY(seam_micro_layout_read(&micro->layout, micro->out_rows, layout, micro_idx,
                                    &session->config.limits, err));
    micro->out_count = micro->layout.labelled_count;
    if (session->config.tail_layers > 0) {
        micro->out_count =
            seam_rows_to_last_labelled(micro->bitmap_memory, micro->layout.sequence_rows,
                                       micro->layout.sequence_count, micro->bitmap);
        micro->bitmap = micro->bitmap_memory;
        for (uint32_t row = 0, next = 0; row < micro->layout.rows; row++) {
            if (seam_bitmap_has(micro->bitmap, row)) {
                micro->out_rows[next++] = row;
            }
        }
    }
    seam_sequence_labelled_counts(micro->sequence_out, micro->layout.sequence_rows,
                                  micro->layout.sequence_count, micro->bitmap);
    return SEAM_OK;
}
