/* What a message of the step in flight is by StepBegin and by the topology: the layout of its
 * micro-batch, and the parts of a message that has several.
 * Read next: proto/wire/step_layout.c, which judges what a peer sent. */
#include "bytes.h"
#include "exchange.h"
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

/* The keyed message that a part belongs to: that of its tokens. */
static seam_step_key key_of(const seam_frame_header *header) {
    const bool tokens = header->kind == SEAM_FRAME_TOKENS;
    return (seam_step_key){.step = header->step,
                           .micro = tokens ? header->micro : 0,
                           .site = tokens ? header->site : SEAM_SITE_FWD_IN,
                           .phase = header->phase};
}

seam_status seam_train_exchange_begin(seam_train *train, const seam_frame_header *header,
                                      seam_error *err) {
    seam_session *session = train->session;
    const struct trainer_exchange *exchange = seam_trainer_exchange(session->trainer);
    const uint64_t digest = train->rx.digest;
    if (!train->rx_open) {
        train->rx_key = key_of(header);
        train->rx_ns = seam_trace_begin(session->config.trace);
        train->rx_part = 0;
        SEAM_TRY(seam_server_proto_peek(&train->rx_verdict, &session->proto, train->epoch,
                                        train->rx_key, err));
        train->rx_part_count = seam_exchange_parts(exchange, &session->config, train->rx_key.step,
                                                   train->rx_key.micro);
    }
    uint32_t rows = header->rows;
    if (train->rx_verdict == SEAM_VERDICT_RUN) {
        seam_micro *micro = seam_trainer_coming(session->trainer);
        SEAM_TRY(seam_train_micro_read(micro, session, train->rx_key.micro, err));
        rows = micro->layout.rows;
    }
    const seam_tensor_expect expect =
        seam_exchange_expect(exchange, train->rx_part, train->rx_part_count, &train->rx_key, rows);
    if (train->rx_part < train->rx_part_count && header->site == expect.site) {
        SEAM_TRY(seam_exchange_alloc_check(exchange, train->rx_part, header, err));
    }
    seam_tensor_rx_init(&train->rx, &expect);
    train->rx.digest = train->rx_open ? digest : train->rx.digest; /* of the whole message */
    train->rx_open = true;
    train->rx_part_due = false;
    return SEAM_OK;
}
