/* One micro-batch, forward and backward: SPEC 3.1, WIRE.md sections 3 and 4.
 *
 * The order of everything here is part of the result: sums run in row order, every buffer is
 * written before it is read, and nothing depends on other sessions.  Device memory is only
 * touched through the op table.
 * Read next: tensor_code.c (frames to floats), trainer_device.c (rows that never leave the device),
 * then kernels/model/blocks_forward.c; after the last micro-batch step_apply.c. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "bytes.h"
#include "row_sources.h"
#include "token_gates.h"
#include "trainer_internal.h"
#include "try.h"

static double seconds_now(void) {
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Only where somebody looks, the device is waited for. */
seam_status seam_trainer_phase_end(const seam_trainer *t, const char *name, uint64_t begin_ns,
                                   seam_stream *stream) {
    if (t->config->trace == NULL) {
        return SEAM_OK;
    }
    const seam_span span = {.name = name,
                            .begin_ns = begin_ns,
                            .step = t->at->micro.step,
                            .micro = t->at->micro.micro,
                            .lane = SEAM_LANE_ENGINE};
    SEAM_TRY(t->ops->stream_sync(stream));
    seam_trace_end(t->config->trace, &span);
    return SEAM_OK;
}

static uint64_t phase_begin(const seam_trainer *t) {
    return seam_trace_begin(t->config->trace);
}

/* Site 0's gates step at the client, site 1's in step_apply.c. */
static bool has_gates_in(const seam_trainer *t) {
    return seam_codec_plan_has_gates_in(&t->config->codec);
}

/* The sequences of the micro-batch as a site sees them; distinct rows are of none. */
static seam_sequences sequences_of(const seam_trainer *t, uint16_t site) {
    const bool outer = site == SEAM_SITE_FWD_IN || site == SEAM_SITE_BWD_IN;
    const seam_micro_layout *layout = &t->at->micro.layout;
    if (site == SEAM_SITE_FWD_IN && layout->row_sources != NULL) {
        return (seam_sequences){.count = 0};
    }
    const bool all = outer || !t->config->labelled_rows_only;
    return (seam_sequences){.sample_ids = layout->sample_ids,
                            .rows = all ? layout->sequence_rows : t->at->micro.sequence_out,
                            .count = layout->sequence_count};
}

/* By token: which gate a row has, as a site sees the rows. */
static void row_gates_fill(seam_trainer *t) {
    const seam_micro_layout *layout = &t->at->micro.layout;
    if (!t->by_token) {
        return;
    }
    seam_token_gates_fill(t->at->gates_in, layout->sequence_rows, layout->sequence_count, NULL,
                          t->width_count);
    seam_token_gates_fill(t->at->gates_out, layout->sequence_rows, layout->sequence_count,
                          t->config->labelled_rows_only ? t->at->micro.bitmap : NULL,
                          t->width_count);
}

static const uint32_t *row_gates_of(const seam_trainer *t, uint16_t site) {
    const bool outer = site == SEAM_SITE_FWD_IN || site == SEAM_SITE_BWD_IN;
    return outer ? t->at->gates_in : t->at->gates_out;
}

/* Rows of sites 1 and 2 that ranges are taken over: the labelled ones, which may be all that
 * travel. */
static const uint8_t *range_rows_out(const seam_trainer *t) {
    return t->config->labelled_rows_only ? NULL : t->at->micro.bitmap;
}

/* The tensor that has come for `site`, 0 or 2: into ret, or where the device keeps it. */
static seam_status decode(seam_trainer *t, float *ret, uint16_t site, seam_stream *stream,
                          seam_error *err) {
    const seam_alloc *alloc = NULL;
    const bool on_device = seam_trainer_on_device(t, site);
    const seam_coder_place place = seam_trainer_place(t, site, stream);
    seam_site *const forward = site == SEAM_SITE_FWD_IN ? t->site_in : t->site_out;
    SEAM_TRY(seam_trainer_alloc(&alloc, forward, t->at->micro.step, err));
    const seam_tensor_decode_args args = {
        .coder = t->coders[site],
        .chunks = t->in->chunks,
        .chunk_count = t->in->chunk_count,
        .tensor = {.codec = seam_session_config_codec(t->config, site),
                   .alloc = alloc,
                   .sequences = sequences_of(t, site),
                   .range_rows = site == SEAM_SITE_BWD_OUT ? range_rows_out(t) : NULL,
                   .row_gates = row_gates_of(t, site),
                   .place = on_device ? &place : NULL},
    };
    const double begin = seconds_now();
    SEAM_TRY(seam_tensor_decode(on_device ? NULL : ret, &args, err));
    t->codec_seconds += seconds_now() - begin;
    return SEAM_OK;
}

/* x and decoded of args are the host's; they are left out where the site's rows are the device's.
 */
static seam_status encode(seam_reply *ret, seam_trainer *t, const seam_tensor_encode_args *args,
                          seam_stream *stream, seam_error *err) {
    const uint16_t site = args->header.site;
    const seam_coder_place place = seam_trainer_place(t, site, stream);
    seam_tensor_encode_args own = *args;
    if (seam_trainer_on_device(t, site)) {
        own.x = NULL;
        own.decoded = NULL;
        own.place = &place;
    }
    const double begin = seconds_now();
    SEAM_TRY(seam_tensor_encode(ret, &own, err));
    t->codec_seconds += seconds_now() - begin;
    return SEAM_OK;
}

/* Sequence bounds and positions of the micro-batch, as the blocks want them. */
static seam_batch batch_of(seam_trainer *t) {
    const seam_micro_layout *layout = &t->at->micro.layout;
    uint32_t row = 0;
    for (uint32_t s = 0; s < layout->sequence_count; s++) {
        t->seq_begin[s] = row;
        for (uint32_t i = 0; i < layout->sequence_rows[s]; i++, row++) {
            t->positions[row] = layout->positions != NULL ? layout->positions[row] : i;
        }
    }
    SEAM_ASSERT(row == layout->rows);
    t->seq_begin[layout->sequence_count] = row;
    t->draw = (seam_draw){.step = t->at->micro.step, .micro = t->at->micro.micro};
    return (seam_batch){.rows = row,
                        .seq_count = layout->sequence_count,
                        .seq_begin = t->seq_begin,
                        .positions = t->positions,
                        .draw = &t->draw,
                        .hook = t->layers.count > 0 ? &t->layers.hook : NULL,
                        .prefix =
                            t->prefix != NULL ? seam_prefix_quantizer_values(t->prefix) : NULL};
}

seam_status seam_trainer_to_device(seam_trainer *t, seam_stream *stream) {
    SEAM_ASSERT(t->ops->acc == SEAM_F32);
    const size_t bytes = (size_t)t->at->micro.layout.rows * t->channels * sizeof(float);
    return t->ops->copy_in(stream, t->x, t->rows, bytes);
}

seam_status seam_trainer_from_device(seam_trainer *t, seam_stream *stream) {
    const size_t bytes = (size_t)t->at->micro.layout.rows * t->channels * sizeof(float);
    SEAM_TRY(t->ops->copy_out(stream, t->rows, t->x, bytes));
    return t->ops->stream_sync(stream);
}

/* ---- forward ---- */

/* Rows of site 1: the labelled ones in order, or all. */
static const float *rows_out(seam_trainer *t) {
    const size_t row_bytes = t->channels * sizeof(float);
    if (!t->config->labelled_rows_only) {
        return t->rows;
    }
    for (uint32_t i = 0; i < t->at->micro.out_count; i++) {
        memcpy(t->packed + (size_t)i * t->channels,
               t->rows + (size_t)t->at->micro.out_rows[i] * t->channels, row_bytes);
    }
    return t->packed;
}

/* Rows of site 1, on the host unless the device keeps them; a copy for the exact signal. */
SEAM_ON_GPU static seam_status forward_rows(const float **ret_x, seam_trainer *t,
                                            seam_stream *stream) {
    const bool kept = seam_session_config_keeps_out(t->config);
    *ret_x = NULL;
    if (seam_trainer_on_device(t, SEAM_SITE_FWD_OUT)) {
        return kept ? seam_trainer_device_keep(t, stream) : SEAM_OK;
    }
    SEAM_TRY(seam_trainer_from_device(t, stream));
    *ret_x = rows_out(t);
    if (kept) {
        memcpy(t->at->out_x, *ret_x,
               (size_t)seam_trainer_rows_out(t, &t->at->micro) * t->channels * sizeof(float));
    }
    return SEAM_OK;
}

SEAM_ON_GPU static seam_status forward_encode(seam_trainer *t, seam_stream *stream,
                                              seam_error *err) {
    const seam_alloc *alloc = NULL;
    const float *x = NULL;
    SEAM_TRY(seam_trainer_alloc(&alloc, t->site_out, t->at->micro.step, err));
    SEAM_TRY(forward_rows(&x, t, stream));
    const seam_tensor_encode_args args = {
        .coder = t->coders[SEAM_SITE_FWD_OUT],
        .header = {.kind = SEAM_FRAME_TENSOR,
                   .phase = SEAM_PHASE_FORWARD,
                   .codec = (uint8_t)seam_session_config_codec(t->config, SEAM_SITE_FWD_OUT),
                   .site = SEAM_SITE_FWD_OUT,
                   .micro = t->at->micro.micro,
                   .step = t->at->micro.step,
                   .rows = seam_trainer_rows_out(t, &t->at->micro),
                   .channels = t->channels},
        .alloc = alloc,
        .x = x,
        .sequences = sequences_of(t, SEAM_SITE_FWD_OUT),
        .range_rows = range_rows_out(t),
        .row_gates = row_gates_of(t, SEAM_SITE_FWD_OUT),
        .decoded = seam_session_config_keeps_out(t->config) ? t->at->out_decoded : NULL,
    };
    SEAM_TRY(encode(&t->at->forward_reply, t, &args, stream, err));
    return seam_trainer_has_gates_out(t)
               ? seam_coder_steps(t->at->steps_out, t->coders[SEAM_SITE_FWD_OUT])
               : SEAM_OK;
}

/* Site 0's distinct rows become all rows. */
SEAM_ON_GPU static seam_status sources_spread(seam_trainer *t, seam_stream *stream) {
    const seam_micro_layout *layout = &t->at->micro.layout;
    if (seam_trainer_on_device(t, SEAM_SITE_FWD_IN)) {
        return seam_trainer_device_spread(t, stream);
    }
    seam_row_sources_spread(t->rows, layout->row_sources, layout->rows, t->channels);
    return SEAM_OK;
}

seam_status seam_trainer_input(seam_trainer *t, seam_stream *stream, seam_error *err) {
    const uint64_t decode_ns = phase_begin(t);
    SEAM_TRY(seam_cache_keeper_check(t->keeper, err));
    row_gates_fill(t);
    SEAM_TRY(seam_trainer_device_begin(t, stream));
    SEAM_TRY(decode(t, t->rows, SEAM_SITE_FWD_IN, stream, err));
    if (t->at->micro.layout.row_sources != NULL) {
        SEAM_TRY(sources_spread(t, stream));
    }
    if (has_gates_in(t)) { /* D of site 0 for the surrogate signal */
        SEAM_TRY(seam_coder_steps(t->at->steps_in, t->coders[SEAM_SITE_FWD_IN]));
    }
    if (!seam_trainer_on_device(t, SEAM_SITE_FWD_IN)) {
        SEAM_TRY(seam_trainer_to_device(t, stream));
    }
    return seam_trainer_phase_end(t, "decode", decode_ns, stream);
}

seam_status seam_trainer_blocks(seam_trainer *t, seam_stream *stream) {
    const seam_batch batch = batch_of(t);
    const uint64_t blocks_ns = phase_begin(t);
    SEAM_TRY(seam_blocks_forward(t->blocks, seam_trainer_adapter_used(t), t->acts, stream, t->x,
                                 &batch));
    SEAM_TRY(seam_layers_forward_end(t, stream));
    return seam_trainer_phase_end(t, "blocks", blocks_ns, stream);
}

static void step_clock(seam_trainer *t) {
    if (t->at->micro.micro == 0) {
        t->compute_seconds = t->codec_seconds = 0;
    }
}

seam_status seam_trainer_forward(seam_trainer *trainer, seam_stream *stream, seam_error *err) {
    seam_trainer *t = trainer;
    const double begin = seconds_now();
    const uint64_t forward_ns = phase_begin(t);
    step_clock(t);
    SEAM_TRY(seam_trainer_input(t, stream, err));
    SEAM_TRY(seam_trainer_blocks(t, stream));
    const uint64_t encode_ns = phase_begin(t);
    SEAM_TRY(forward_encode(t, stream, err));
    SEAM_TRY(seam_trainer_phase_end(t, "encode", encode_ns, stream));
    t->compute_seconds += seconds_now() - begin;
    return seam_trainer_phase_end(t, "forward", forward_ns, stream);
}

/* ---- backward ---- */

/* Gradient rows of site 2 to all T rows: one that no loss reads has none, whatever was sent. */
static void scatter(seam_trainer *t) {
    const size_t row_bytes = t->channels * sizeof(float);
    const bool all = !t->config->labelled_rows_only;
    uint32_t next = 0;
    for (uint32_t row = 0; row < t->at->micro.layout.rows; row++) {
        float *to = t->rows + (size_t)row * t->channels;
        if (next < t->at->micro.out_count && t->at->micro.out_rows[next] == row) {
            memcpy(to, t->packed + (size_t)(all ? row : next) * t->channels, row_bytes);
            next++;
        } else {
            memset(to, 0, row_bytes);
        }
    }
}

/* The tensor of site 2 as gradient of all T rows in t->x. */
SEAM_ON_GPU static seam_status gradient_decode(seam_trainer *t, seam_stream *stream,
                                               seam_error *err) {
    if (seam_trainer_on_device(t, SEAM_SITE_BWD_OUT)) {
        const size_t bytes = (size_t)t->at->micro.layout.rows * t->channels * sizeof(float);
        SEAM_TRY(t->ops->zero(stream, t->x, bytes));
        return decode(t, NULL, SEAM_SITE_BWD_OUT, stream, err);
    }
    SEAM_TRY(decode(t, t->packed, SEAM_SITE_BWD_OUT, stream, err));
    scatter(t);
    return seam_trainer_to_device(t, stream);
}

/* gates_add's for gates by token: their gradient, and how many rows each has. */
static void token_gates_add(seam_trainer *t, const seam_alloc *alloc, const float *g) {
    const seam_token_rows rows = {t->at->gates_out, seam_trainer_rows_out(t, &t->at->micro),
                                  t->channels};
    seam_token_gates_add_counts(t->counts_out, &rows, range_rows_out(t));
    if (seam_session_config_keeps_out(t->config)) {
        seam_token_gates_add_exact(t->db_out, &rows, g, t->at->out_x, t->at->out_decoded,
                                   alloc->widths);
    } else {
        seam_token_gates_add_surrogate(t->db_out, &rows, g, t->at->steps_out, alloc->widths,
                                       (uint32_t)t->at->micro.labelled_total);
    }
}

/* Gradient rows of site 2 on the host. */
static const float *gradient_rows(const seam_trainer *t) {
    return t->config->labelled_rows_only ? t->packed : t->rows;
}

/* sum g^2 of site 2, and the exact signal, where the rows are. */
SEAM_ON_GPU static seam_status squares_add(float *ret_sums, seam_trainer *t, seam_stream *stream) {
    if (seam_trainer_on_device(t, SEAM_SITE_BWD_OUT)) {
        return seam_trainer_device_squares(ret_sums, t, true, stream);
    }
    seam_gates_add_squares(ret_sums, gradient_rows(t), seam_trainer_rows_out(t, &t->at->micro),
                           t->channels);
    return SEAM_OK;
}

SEAM_ON_GPU static seam_status exact_add(seam_trainer *t, const seam_alloc *alloc,
                                         seam_stream *stream) {
    if (seam_trainer_on_device(t, SEAM_SITE_BWD_OUT)) {
        return seam_trainer_device_exact(t->db_out, t, alloc->widths, stream);
    }
    seam_gates_add_exact(t->db_out, gradient_rows(t), t->at->out_x, t->at->out_decoded,
                         alloc->widths, seam_trainer_rows_out(t, &t->at->micro), t->channels);
    return SEAM_OK;
}

/* What site 1's allocator goes by, added over the step: gates.h, waterfill.h. */
SEAM_ON_GPU static seam_status gates_add(seam_trainer *t, seam_stream *stream, seam_error *err) {
    const seam_alloc *alloc = NULL;
    SEAM_TRY(seam_trainer_alloc(&alloc, t->site_out, t->at->micro.step, err));
    SEAM_ASSERT(alloc != NULL); /* asked only of a codec with gates */
    if (t->by_token) {
        token_gates_add(t, alloc, gradient_rows(t));
    } else if (seam_site_waterfill(t->site_out) != NULL) {
        SEAM_TRY(squares_add(t->db_out, t, stream));
        t->rows_out += t->at->micro.out_count;
        seam_waterfill_add_spans(t->spans_out, t->at->steps_out, alloc->widths, t->channels);
    } else if (seam_session_config_keeps_out(t->config)) {
        SEAM_TRY(exact_add(t, alloc, stream));
    } else {
        memset(t->sums, 0, t->channels * sizeof(float));
        SEAM_TRY(squares_add(t->sums, t, stream));
        seam_gates_surrogate(t->db_out, t->sums, t->at->steps_out, alloc->widths,
                             (uint32_t)t->at->micro.labelled_total, t->channels);
    }
    return SEAM_OK;
}

/* The input gradient as the tensor of site 3. */
static seam_status gradient_encode(seam_trainer *t, const seam_alloc *alloc, seam_stream *stream,
                                   seam_error *err) {
    const seam_tensor_encode_args args = {
        .coder = t->coders[SEAM_SITE_BWD_IN],
        .header = {.kind = SEAM_FRAME_TENSOR,
                   .phase = SEAM_PHASE_BACKWARD,
                   .codec = (uint8_t)seam_session_config_codec(t->config, SEAM_SITE_BWD_IN),
                   .site = SEAM_SITE_BWD_IN,
                   .micro = t->at->micro.micro,
                   .step = t->at->micro.step,
                   .rows = t->at->micro.layout.rows,
                   .channels = t->channels},
        .alloc = alloc,
        .sequences = sequences_of(t, SEAM_SITE_BWD_IN),
        .row_gates = row_gates_of(t, SEAM_SITE_BWD_IN),
        .x = t->rows,
        .rounding = {.stochastic = seam_codec_has_widths(t->config->codec.codec_in),
                     .seed = t->config->seed,
                     .step = t->at->micro.step,
                     .site = SEAM_SITE_BWD_IN,
                     .micro = (uint16_t)t->at->micro.micro},
    };
    return encode(t->answer, t, &args, stream, err);
}

/* Gate sums of the input gradient are made where it is. */
static bool signal_on_device(const seam_trainer *t) {
    return t->device.space != NULL && !t->by_token;
}

SEAM_ON_GPU static seam_status signal_squares(float *ret_sums, seam_trainer *t,
                                              seam_stream *stream) {
    if (signal_on_device(t)) {
        return seam_trainer_device_squares(ret_sums, t, false, stream);
    }
    seam_gates_add_squares(ret_sums, t->rows, t->at->micro.layout.rows, t->channels);
    return SEAM_OK;
}

/* The input gradient as the gate signal of site 0. */
SEAM_ON_GPU static seam_status signal_encode(seam_trainer *t, const seam_alloc *alloc,
                                             seam_stream *stream) {
    SEAM_ASSERT(alloc != NULL); /* asked only of a codec with gates */
    memset(t->sums, 0, t->width_count * sizeof(float));
    memset(t->signal, 0, t->width_count * sizeof(float));
    if (t->by_token) {
        const seam_token_rows rows = {t->at->gates_in, t->at->micro.layout.rows, t->channels};
        seam_token_gates_add_surrogate(t->signal, &rows, t->rows, t->at->steps_in, alloc->widths,
                                       (uint32_t)t->at->micro.labelled_total);
    } else if (t->config->codec.allocator == SEAM_ALLOCATOR_WATERFILL) {
        SEAM_TRY(signal_squares(t->signal, t, stream));
    } else {
        SEAM_TRY(signal_squares(t->sums, t, stream));
        seam_gates_surrogate(t->signal, t->sums, t->at->steps_in, alloc->widths,
                             (uint32_t)t->at->micro.labelled_total, t->channels);
    }
    uint8_t *payload = (uint8_t *)t->sums; /* no longer needed: the signal in wire order */
    for (uint32_t c = 0; c < t->width_count; c++) {
        seam_put_f32(payload + 4 * (size_t)c, t->signal[c]);
    }
    const seam_frame_header header = {
        .kind = SEAM_FRAME_GATE_SIGNAL,
        .phase = SEAM_PHASE_BACKWARD,
        .codec = (uint8_t)seam_session_config_codec(t->config, SEAM_SITE_FWD_IN),
        .site = SEAM_SITE_FWD_IN,
        .micro = t->at->micro.micro,
        .step = t->at->micro.step,
        .rows = 1,
        .channels = t->width_count,
        .row_count = 1,
        .alloc_version = alloc->version,
        .alloc_bits_total = alloc->bits_total,
        .alloc_hash = alloc->hash};
    seam_reply_add_frame(t->answer, &header, payload, t->width_count * 4);
    return SEAM_OK;
}

SEAM_ON_GPU static seam_status backward_encode(seam_trainer *t, seam_stream *stream,
                                               seam_error *err) {
    const seam_alloc *alloc = NULL;
    const bool gradient = seam_codec_plan_has_input_gradient(&t->config->codec);
    const bool signal = seam_codec_plan_has_signal(&t->config->codec);
    SEAM_TRY(seam_trainer_alloc(&alloc, t->site_in, t->at->micro.step, err));
    if ((gradient && !seam_trainer_on_device(t, SEAM_SITE_BWD_IN)) ||
        (signal && !signal_on_device(t))) {
        SEAM_TRY(seam_trainer_from_device(t, stream));
    }
    seam_reply_clear(t->answer);
    if (gradient) {
        SEAM_TRY(gradient_encode(t, alloc, stream, err));
    }
    return signal ? signal_encode(t, alloc, stream) : SEAM_OK;
}

/* The gradient of the blocks' output in t->x, and what site 1's allocator learns from it. */
SEAM_ON_GPU static seam_status gradient_rows_make(seam_trainer *t, seam_stream *stream,
                                                  seam_error *err) {
    SEAM_TRY(gradient_decode(t, stream, err));
    return seam_trainer_has_gates_out(t) ? gates_add(t, stream, err) : SEAM_OK;
}

seam_status seam_trainer_gradient(seam_trainer *t, seam_stream *stream, seam_error *err) {
    const bool reply = seam_session_config_backward_reply(t->config);
    const seam_batch batch = batch_of(t);
    const uint64_t blocks_ns = phase_begin(t);
    if (reply || t->config->server_trains || t->layers.count > 0) { /* else nobody waits for it */
        SEAM_TRY(seam_blocks_backward(t->blocks, seam_trainer_adapter_used(t), t->acts, stream,
                                      t->x, &batch, !reply));
        SEAM_TRY(seam_layers_backward_end(t, stream));
    }
    SEAM_TRY(seam_trainer_phase_end(t, "blocks", blocks_ns, stream));
    const uint64_t encode_ns = phase_begin(t);
    if (reply) {
        SEAM_TRY(backward_encode(t, stream, err));
    }
    SEAM_TRY(t->ops->stream_sync(stream));
    return seam_trainer_phase_end(t, "encode", encode_ns, stream);
}

/* After the last micro-batch the step is applied, where the client does not train too. */
SEAM_ON_GPU static seam_status micro_end(seam_step_result *ret_result, seam_trainer *t,
                                         double begin, seam_stream *stream) {
    const bool last =
        t->at->micro.micro + 1 == t->at->micro.micro_count && !t->config->client_trains;
    seam_step_result result = {0};
    if (last) {
        const uint64_t apply_ns = phase_begin(t);
        SEAM_TRY(seam_trainer_apply(&result, t, 0, stream));
        SEAM_TRY(seam_trainer_phase_end(t, "optimizer", apply_ns, stream));
    }
    t->compute_seconds += seconds_now() - begin;
    if (last) {
        result.compute_seconds = t->compute_seconds;
        result.codec_seconds = t->codec_seconds;
        *ret_result = result;
    }
    return SEAM_OK;
}

seam_status seam_trainer_norm(seam_step_result *ret_result, seam_trainer *trainer,
                              seam_stream *stream) {
    seam_trainer *t = trainer;
    seam_step_result result = {0};
    const double begin = seconds_now();
    const uint64_t apply_ns = phase_begin(t);
    SEAM_ASSERT(t->in->chunk_count == 1); /* of 8 bytes: seam_frame_open has checked */
    SEAM_TRY(seam_trainer_apply(&result, t, seam_get_f64(t->in->chunks[0].payload), stream));
    SEAM_TRY(seam_trainer_phase_end(t, "optimizer", apply_ns, stream));
    result.compute_seconds = t->compute_seconds + seconds_now() - begin;
    result.codec_seconds = t->codec_seconds;
    *ret_result = result;
    return SEAM_OK;
}

seam_status seam_trainer_backward(seam_step_result *ret_result, seam_trainer *trainer,
                                  seam_stream *stream, seam_error *err) {
    seam_trainer *t = trainer;
    const double begin = seconds_now();
    const uint64_t backward_ns = phase_begin(t);
    SEAM_TRY(gradient_rows_make(t, stream, err));
    SEAM_TRY(seam_trainer_phase_end(t, "decode", backward_ns, stream));
    SEAM_TRY(seam_trainer_gradient(t, stream, err));
    SEAM_TRY(micro_end(ret_result, t, begin, stream));
    return seam_trainer_phase_end(t, "backward", backward_ns, stream);
}

seam_status seam_trainer_pass(seam_step_result *ret_result, seam_trainer *trainer,
                              seam_stream *stream, seam_error *err) {
    seam_trainer *t = trainer;
    const double begin = seconds_now();
    const uint64_t pass_ns = phase_begin(t);
    step_clock(t);
    SEAM_TRY(seam_one_pass_run(t, stream, err));
    SEAM_TRY(micro_end(ret_result, t, begin, stream));
    return seam_trainer_phase_end(t, "pass", pass_ns, stream);
}
