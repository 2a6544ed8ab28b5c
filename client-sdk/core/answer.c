/* Answers of topologies whose loss is at the server: WIRE.md 4.1.
 *
 * An answer is up to three parts, the frames of one after those of the other; its key is that of
 * the last one, the loss, its digest that of all.  An answer needs no buffer of the caller: it is
 * taken when it comes, its bwd_in into one of as many places as may be ahead.
 * Read next: receive.c, which gives the frames; step.c, the other calls. */
#include <math.h>
#include <string.h>

#include "bytes.h"
#include "core.h"
#include "try.h"

typedef enum answer_part { PART_MODULE, PART_GRADIENT, PART_SIGNAL, PART_LOSS } answer_part;

seam_status seam_step_answer(seam_session *session, seam_step_loss *ret_loss, float *ret_dx,
                             uint32_t micro, seam_error *err) {
    if (session == NULL || ret_loss == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session or ret_loss is NULL");
    }
    seam_session *const s = session;
    SEAM_TRY(seam_session_check(s, err));
    if (!seam_codec_plan_is_one_pass(&s->config.codec)) {
        return seam_error_set(err, SEAM_E_STATE, "topology u_shaped has its loss here");
    }
    if (!s->step_open || micro != s->micro_next || micro >= s->forward_next) {
        return seam_error_set(err, SEAM_E_STATE, "forward of micro-batch %u has not begun", micro);
    }
    if (ret_dx != NULL && !seam_codec_plan_has_input_gradient(&s->config.codec)) {
        return seam_error_set(err, SEAM_E_STATE,
                              "ret_dx: only where the caller trains front blocks, or with "
                              "gate_signal exact or send_input_gradient");
    }
    const uint64_t begin_ns = seam_trace_begin(s->trace);
    SEAM_TRY(seam_link_drive(s, SEAM_GOAL_ANSWER, err));
    seam_session_span_end(s, "answer", micro, begin_ns);
    if (ret_dx != NULL) {
        memcpy(ret_dx, seam_session_dx(s, micro),
               (size_t)s->micros[micro].rows * s->channels * sizeof *ret_dx);
    }
    *ret_loss = s->micros[micro].loss;
    s->micro_next++;
    return SEAM_OK;
}

uint32_t seam_session_dx_count(const seam_session *session) {
    return seam_codec_plan_is_one_pass(&session->config.codec) ? session->config.pipeline_depth : 1;
}

float *seam_session_dx(const seam_session *session, uint32_t micro) {
    const size_t place = micro % seam_session_dx_count(session);
    return session->dx + place * session->config.rows_max * session->channels;
}

/* What comes after so many parts of the answer to a micro-batch. */
static answer_part part_at(const seam_session *s, uint32_t micro, uint32_t idx) {
    const uint32_t modules = seam_exchange_parts(s, micro);
    if (idx < modules) {
        return PART_MODULE;
    }
    idx -= modules;
    answer_part parts[3];
    uint32_t count = 0;
    if (seam_codec_plan_has_input_gradient(&s->config.codec)) {
        parts[count++] = PART_GRADIENT;
    }
    if (seam_codec_plan_has_signal(&s->config.codec)) {
        parts[count++] = PART_SIGNAL;
    }
    parts[count++] = PART_LOSS;
    SEAM_ASSERT(idx < count); /* the loss ends an answer */
    return parts[idx];
}

static void counts_drop(seam_session *s);

/* Of the answer that is coming. */
static seam_step_key answer_key(const seam_session *s) {
    return (seam_step_key){.step = seam_session_committed_steps(s),
                           .micro = s->rx_micro,
                           .site = s->sites[s->fwd_in].id,
                           .phase = SEAM_PHASE_FORWARD};
}

static seam_tensor_expect expect_of(const seam_session *s, answer_part part) {
    if (part == PART_MODULE) {
        return seam_exchange_expect(s, s->rx_part);
    }
    const bool tensor = part == PART_GRADIENT;
    const uint32_t site = tensor ? s->bwd_in : s->fwd_in;
    const seam_codec_id codec = part == PART_LOSS ? SEAM_CODEC_F32 : s->sites[site].codec;
    return (seam_tensor_expect){
        .kind = tensor                ? SEAM_FRAME_TENSOR
                : part == PART_SIGNAL ? SEAM_FRAME_GATE_SIGNAL
                                      : SEAM_FRAME_LOSS,
        .phase = part == PART_LOSS ? SEAM_PHASE_FORWARD : SEAM_PHASE_BACKWARD,
        .site = s->sites[site].id,
        .step = seam_session_committed_steps(s),
        .micro = s->rx_micro,
        .rows = tensor ? s->micros[s->rx_micro].rows : 1,
        .channels = tensor                ? s->channels
                    : part == PART_SIGNAL ? s->width_count
                                          : 1,
        .codec_mask = 1u << codec,
        .coding_max = seam_codec_plan_coding_max(&s->config.codec),
    };
}

seam_status seam_answer_begin(seam_session *session, const seam_frame_header *header,
                              seam_error *err) {
    seam_session *const s = session;
    const uint64_t step = seam_session_committed_steps(s);
    const bool module = s->exchange.is_on && header->kind == SEAM_FRAME_TENSOR;
    if (s->rx_part == 0) { /* whose first part is a module's is the last one's */
        counts_drop(s);
        s->rx_micro = module && s->micro_count > 0 ? s->micro_count - 1 : header->micro;
    }
    if (!s->step_open || header->step != step || s->rx_micro >= s->micro_count) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE,
                              "a frame of step %llu, micro-batch %u is not awaited",
                              (unsigned long long)header->step, header->micro);
    }
    const uint64_t digest = s->rx.digest;
    const seam_tensor_expect expect = expect_of(s, part_at(s, s->rx_micro, s->rx_part));
    seam_tensor_rx_init(&s->rx, &expect);
    s->rx.digest = s->rx_part > 0 ? digest : s->rx.digest; /* of the whole answer */
    s->rx_active = true;
    s->rx_stored = false;
    s->rx_payload_bytes = 0;
    s->rx_wanted = seam_client_proto_awaits(&s->proto, answer_key(s));
    return SEAM_OK;
}

static seam_status loss_take(seam_micro_state *micro, const uint8_t *payload, seam_error *err) {
    const seam_step_loss loss = {.loss_sum = seam_get_f64(payload),
                                 .correct_count = seam_get_u64(payload + 8)};
    if (!isfinite(loss.loss_sum) || loss.correct_count > micro->labelled_count) {
        return seam_error_set(err, SEAM_E_FORMAT, "loss: %g of %u rows, of which %llu are right",
                              loss.loss_sum, micro->labelled_count,
                              (unsigned long long)loss.correct_count);
    }
    micro->loss = loss;
    return SEAM_OK;
}

seam_status seam_answer_take(seam_session *session, const seam_frame_header *header,
                             const uint8_t *payload, seam_error *err) {
    if (session->exchange.is_on && header->kind == SEAM_FRAME_TENSOR) {
        return seam_exchange_take(session, session->rx_part, header, payload, err);
    }
    if (header->kind != SEAM_FRAME_LOSS) {
        seam_answer_count(&session->sites[session->bwd_in], header);
    }
    return header->kind == SEAM_FRAME_LOSS
               ? loss_take(&session->micros[header->micro], payload, err)
               : seam_receive_chunk(session, header, payload, err);
}

void seam_answer_count(seam_site_row *row, const seam_frame_header *header) {
    row->coming_bytes += header->payload_bytes;
    if (header->row_begin == 0 && header->kind == SEAM_FRAME_TENSOR) {
        row->coming_rows += header->rows;
        row->coming_version = header->alloc_version;
        row->coming_bits = header->alloc_bits_total;
    }
}

/* The answer has come, for the first time. */
static void counts_take(seam_session *s) {
    for (uint32_t i = 0; i < s->site_count; i++) {
        seam_site_row *const row = &s->sites[i];
        row->payload_bytes += row->coming_bytes;
        if (row->coming_rows > 0) {
            seam_site_row_count(row, row->coming_rows, row->coming_version, row->coming_bits);
        }
    }
}

static void counts_drop(seam_session *s) {
    for (uint32_t i = 0; i < s->site_count; i++) {
        s->sites[i].coming_bytes = 0;
        s->sites[i].coming_rows = 0;
    }
}

/* A part that is no loss has come. */
static void part_end(seam_session *s, const seam_frame_header *header) {
    s->rx_part++;
    if (s->rx_wanted && !s->exchange.is_on && header->kind == SEAM_FRAME_TENSOR) {
        seam_coder_commit(s->sites[s->bwd_in].coder);
    }
}

seam_status seam_answer_end(seam_session *session, const seam_frame_header *header,
                            seam_error *err) {
    seam_session *const s = session;
    bool is_new = false;
    s->rx_active = false;
    if (header->kind != SEAM_FRAME_LOSS) {
        part_end(s, header);
        return SEAM_OK;
    }
    s->rx_part = 0;
    SEAM_TRY(seam_client_proto_reply(&is_new, &s->proto, answer_key(s), s->rx.digest, seam_now_ms(),
                                     err));
    if (!is_new || !s->rx_wanted) {
        return SEAM_OK;
    }
    s->lost_since_ms = 0;
    s->barren_count = 0;
    if (header->micro == 0 && s->first_begin_seconds > 0.0) {
        s->first_seconds = seam_now_seconds() - s->first_begin_seconds;
    }
    counts_take(s);
    s->micros[header->micro].has_come = true;
    if (seam_codec_plan_has_gates_in(&s->config.codec)) {
        seam_step_add_signal(s);
    }
    return SEAM_OK;
}

/* A codec with state has no width that says what a value costs: its payload does. */
void seam_site_row_count(seam_site_row *row, uint32_t rows, uint32_t alloc_version,
                         uint32_t alloc_bits_total) {
    row->rows += rows;
    row->alloc_version = alloc_version;
    if (seam_codec_has_state(row->codec)) {
        row->mean_bits =
            8.0 * (double)row->payload_bytes / ((double)row->rows * (double)row->channels);
    } else if (row->codec == SEAM_CODEC_AMAQ_TOKEN) { /* a tensor has its own mean */
        const double before = row->mean_bits * (double)(row->rows - rows);
        row->mean_bits =
            (before + seam_coder_mean_bits(row->coder) * (double)rows) / (double)row->rows;
    } else if (seam_codec_has_widths(row->codec)) {
        row->mean_bits = (double)alloc_bits_total / (double)row->channels;
    } else {
        row->mean_bits = row->codec == SEAM_CODEC_F32 ? 32.0 : 16.0;
    }
}
