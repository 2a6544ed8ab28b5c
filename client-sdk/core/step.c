/* The step calls: layout in, tensors through, commit out.  link.c does the network's part.
 *
 * Each call prepares what the protocol will need (bytes are encoded once and kept) and then drives
 * the link to a goal; what comes back for widths and budgets is settled in settle.c.
 * Read next: tensor_io.c (floats to frames), then link.c. */
#include <string.h>

#include "bytes.h"
#include "core.h"
#include "row_sources.h"
#include "step_layout.h"
#include "token_gates.h"
#include "try.h"

static seam_status micro_take(seam_micro_state *state, const seam_session *s,
                              const seam_step_micro *micro, uint32_t micro_idx, seam_error *err);
static seam_status bitmaps_take(seam_micro_state *state, const seam_session *s,
                                const seam_step_micro *micro);
static seam_status sequences_take(seam_micro_state *state, const seam_session *s,
                                  const seam_step_micro *micro);
static seam_status row_gates_take(seam_micro_state *state, const seam_session *s,
                                  const seam_step_micro *micro);
static void rows_weigh(seam_session *s);
static seam_status step_begin_pack(seam_session *s, const seam_step_micro *micros, seam_error *err);
static seam_status budget_pack(seam_session *s);
static void site_used(seam_session *s, uint32_t site_idx, uint32_t rows, uint64_t payload_bytes,
                      const seam_alloc *alloc);

seam_status seam_step_begin(seam_session *session, const seam_step_micro *micros,
                            uint32_t micro_count, seam_error *err) {
    return seam_step_begin_ahead(session, micros, micro_count, 1, err);
}

seam_status seam_step_begin_ahead(seam_session *session, const seam_step_micro *micros,
                                  uint32_t micro_count, uint32_t ahead, seam_error *err) {
    if (session == NULL || micros == NULL || micro_count == 0) {
        return seam_error_set(err, SEAM_E_ARG, "session or micros is NULL, or micro_count 0");
    }
    seam_session *const s = session;
    SEAM_TRY(seam_session_check(s, err));
    if (s->step_open) {
        return seam_error_set(err, SEAM_E_STATE, "a step is open: commit it first");
    }
    if (s->attached_foreign) {
        return seam_error_set(err, SEAM_E_UNIMPLEMENTED,
                              "training of a session whose gates or cache live in another process");
    }
    SEAM_TRY(seam_session_check_consent(s, err));
    if (seam_session_trains_here(s) && !seam_session_has_own(s)) {
        return seam_error_set(err, SEAM_E_STATE,
                              "the session trains here too: seam_session_own comes first");
    }
    if (ahead == 0 || ahead > seam_session_ahead_max(s)) {
        return seam_error_set(err, SEAM_E_LIMIT,
                              "ahead: %u is not in 1..%u, the session's "
                              "pipeline_depth",
                              ahead, seam_session_ahead_max(s));
    }
    if (micro_count > s->config.micros_max) {
        return seam_error_set(err, SEAM_E_LIMIT, "micro_count: %u, the session allows %u",
                              micro_count, s->config.micros_max);
    }
    const uint64_t step = seam_session_committed_steps(s);
    s->step_number = step;
    s->step_begin_ns = seam_trace_begin(s->trace);
    SEAM_TRY(seam_step_layout(s, micros, micro_count, err));
    const seam_begin_step_args begin = {
        .step = step, .micro_count = micro_count, .ahead = ahead, .now_ms = seam_now_ms()};
    if (seam_client_proto_begin_step(&s->proto, &begin, err) != SEAM_OK) {
        const seam_error *const why = seam_client_proto_error(&s->proto);
        return why->status == SEAM_OK ? seam_error_set(err, SEAM_E_STATE, "no step can begin now")
                                      : seam_error_set(err, why->status, "%s", why->text);
    }
    s->step_open = true;
    s->step_begin_seconds = seam_now_seconds();
    s->link_seconds = 0.0;
    s->first_begin_seconds = s->first_seconds = s->waited_seconds = 0.0;
    s->begin_sent = s->backward_due = s->commit_done = false;
    s->micro_next = s->forward_next = 0;
    s->ahead = ahead;
    s->norm.count = 0;
    s->y = NULL;
    s->y_received = s->dx_received = false;
    s->step_start = s->client->net->counts(s->client->transport);
    s->encode_seconds = s->decode_seconds = 0.0;
    memset(s->gate_sums, 0, s->width_count * sizeof(float));
    memset(s->spans, 0, s->channels * sizeof(float));
    for (uint32_t i = 0; i < s->site_count; i++) {
        s->sites[i].payload_bytes = 0;
        s->sites[i].rows = 0;
        s->sites[i].mean_bits = 0.0;
    }
    const seam_buffer sent = s->answers;
    s->answers = s->answers_next;
    s->answers_next = sent;
    s->answers_next.count = 0;
    SEAM_TRY(seam_link_drive(s, SEAM_GOAL_BEGIN, err));
    seam_session_span_end(s, "begin", SEAM_TRACE_NO_MICRO, s->step_begin_ns);
    return SEAM_OK;
}

uint32_t seam_step_rows_out(const seam_session *session, uint32_t micro) {
    if (session == NULL || !session->step_open || micro >= session->micro_count) {
        return 0;
    }
    return seam_micro_rows_out(session, &session->micros[micro]);
}

uint32_t seam_micro_rows_out(const seam_session *session, const seam_micro_state *micro) {
    return session->config.labelled_rows_only ? micro->out_count : micro->rows;
}

const uint8_t *seam_micro_range_rows(const seam_session *session, const seam_micro_state *micro) {
    return session->config.labelled_rows_only ? NULL : micro->out_bitmap.data;
}

seam_sequences seam_micro_sequences(const seam_micro_state *micro, bool outer) {
    const seam_buffer *const rows = outer ? &micro->sequence_rows : &micro->sequence_rows_out;
    return (seam_sequences){
        .sample_ids = micro->sample_ids.count > 0
                          ? (const uint64_t *)(const void *)micro->sample_ids.data
                          : NULL,
        .rows = (const uint32_t *)(const void *)rows->data,
        .count = (uint32_t)(rows->count / sizeof(uint32_t)),
    };
}

const uint32_t *seam_micro_row_gates(const seam_micro_state *micro, bool outer) {
    const seam_buffer *const gates = outer ? &micro->row_gates : &micro->row_gates_out;
    return gates->count > 0 ? (const uint32_t *)(const void *)gates->data : NULL;
}

/* x (T, C) as site 0's tensor, kept to be sent; for exact gate signals also x and what is decoded,
 * which a watcher sees too. */
static seam_status fwd_in_encode(seam_session *s, seam_micro_state *micro,
                                 const seam_tensor_args *args, const seam_step_rows *x,
                                 seam_error *err) {
    const bool exact = seam_codec_plan_is_exact_in(&s->config.codec);
    float *const decoded = exact ? s->x_decoded : seam_watch_place(s);
    seam_step_rows sent = *x;
    uint64_t payload_bytes = 0;
    const double begin = seam_now_seconds();
    const uint64_t begin_ns = seam_trace_begin(s->trace);
    if (seam_step_rows_in(&sent, s, micro) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    seam_tensor_args tensor = *args;
    tensor.x_bf16 = sent.bf16;
    micro->sent[0].count = 0;
    SEAM_TRY(
        seam_tensor_encode(&micro->sent[0], decoded, &payload_bytes, s, &tensor, sent.f32, err));
    s->encode_seconds += seam_now_seconds() - begin;
    seam_session_span_end(s, "encode", args->micro, begin_ns);
    if (exact) {
        SEAM_ASSERT(x->f32 != NULL); /* seam_step_rows_suit */
        memcpy(s->x_kept, x->f32, (size_t)micro->rows * s->channels * sizeof(float));
    }
    if (decoded != NULL && seam_micro_row_sources(micro) != NULL) {
        seam_row_sources_spread(decoded, seam_micro_row_sources(micro), micro->rows, s->channels);
    }
    seam_watch_show(s, SEAM_WATCH_FWD_IN, args->micro, decoded, micro->rows);
    site_used(s, s->fwd_in, args->rows, payload_bytes, args->alloc);
    return SEAM_OK;
}

seam_status seam_step_forward(seam_session *session, float *ret_y, uint32_t micro, const float *x,
                              seam_error *err) {
    if (session == NULL || ret_y == NULL || x == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session, ret_y or x is NULL");
    }
    SEAM_TRY(seam_step_forward_begin(session, micro, x, err));
    return seam_step_forward_end(session, ret_y, micro, err);
}

static seam_status forward_begin(seam_session *s, uint32_t micro, seam_step_rows x,
                                 seam_error *err) {
    SEAM_TRY(seam_session_check(s, err));
    if (s->exchange.is_on) {
        return seam_error_set(err, SEAM_E_STATE,
                              "topology adapter_exchange: tokens travel, no rows");
    }
    if (!s->step_open || micro != s->forward_next || micro >= s->micro_count ||
        micro >= s->micro_next + s->ahead) {
        return seam_error_set(err, SEAM_E_STATE, "forward of micro-batch %u is not due", micro);
    }
    seam_micro_state *const state = &s->micros[micro];
    const uint64_t step = seam_session_committed_steps(s);
    const uint64_t begin_ns = seam_trace_begin(s->trace);
    if (x.bf16 != NULL && seam_step_rows_suit(&x, s, state) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    SEAM_TRY(seam_link_await_alloc(s, step, err));
    const seam_alloc *alloc = NULL;
    SEAM_TRY(seam_site_alloc_at(&alloc, s->site_in, step));
    const seam_sequences none = {.count = 0}; /* distinct rows are of no sequence */
    const seam_tensor_args args = {
        .site_idx = s->fwd_in,
        .phase = SEAM_PHASE_FORWARD,
        .micro = micro,
        .step = step,
        .codec = s->sites[s->fwd_in].codec,
        .alloc = alloc,
        .rows = state->rows_in,
        .sequences = state->rows_in == state->rows ? seam_micro_sequences(state, true) : none,
        .row_gates = seam_micro_row_gates(state, true),
    };
    SEAM_TRY(fwd_in_encode(s, state, &args, &x, err));
    SEAM_TRY(seam_step_add_spans(s, alloc));
    s->forward_next++;
    const double sending = seam_now_seconds();
    const bool first_due = s->first_begin_seconds > 0.0 && s->first_seconds == 0.0;
    s->waited_seconds = first_due ? 0.0 : s->waited_seconds;
    if (micro == 0) {
        s->first_begin_seconds = sending;
        s->others_seconds = 0.0;
        s->others_bytes = 0;
    }
    SEAM_TRY(seam_link_drive(s, SEAM_GOAL_SENT, err));
    if (micro > 0 && first_due) {
        s->others_seconds += seam_now_seconds() - sending;
        s->others_bytes += state->sent[0].count;
    }
    seam_session_span_end(s, "forward_begin", micro, begin_ns);
    return SEAM_OK;
}

seam_status seam_step_forward_begin(seam_session *session, uint32_t micro, const float *x,
                                    seam_error *err) {
    if (session == NULL || x == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session or x is NULL");
    }
    return forward_begin(session, micro, (seam_step_rows){.f32 = x}, err);
}

seam_status seam_step_forward_begin_bf16(seam_session *session, uint32_t micro, const uint16_t *x,
                                         seam_error *err) {
    if (session == NULL || x == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session or x is NULL");
    }
    return forward_begin(session, micro, (seam_step_rows){.bf16 = x}, err);
}

seam_status seam_step_forward_end(seam_session *session, float *ret_y, uint32_t micro,
                                  seam_error *err) {
    if (session == NULL || ret_y == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session or ret_y is NULL");
    }
    seam_session *const s = session;
    SEAM_TRY(seam_session_check(s, err));
    if (seam_codec_plan_is_one_pass(&s->config.codec)) {
        return seam_error_set(err, SEAM_E_STATE, "topology %s: no rows come back, its loss does",
                              seam_session_topology(s));
    }
    if (!s->step_open || s->backward_due || micro != s->micro_next || micro >= s->forward_next) {
        return seam_error_set(err, SEAM_E_STATE, "forward of micro-batch %u has not begun", micro);
    }
    const uint64_t begin_ns = seam_trace_begin(s->trace);
    s->y = ret_y;
    s->y_received = s->dx_received = false;
    const seam_status st = s->micros[micro].has_come ? seam_receive_stored(s, err)
                                                     : seam_link_drive(s, SEAM_GOAL_FORWARD, err);
    s->y = NULL;
    SEAM_TRY(st);
    seam_watch_show(s, SEAM_WATCH_FWD_OUT, micro, ret_y, seam_step_rows_out(s, micro));
    seam_session_span_end(s, "forward", micro, begin_ns);
    s->backward_due = true;
    return SEAM_OK;
}

seam_status seam_step_backward(seam_session *session, float *ret_dx, uint32_t micro,
                               const float *dy, seam_error *err) {
    if (session == NULL || dy == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "session or dy is NULL");
    }
    seam_session *const s = session;
    SEAM_TRY(seam_session_check(s, err));
    if (!s->step_open || !s->backward_due || micro != s->micro_next) {
        return seam_error_set(err, SEAM_E_STATE, "backward of micro-batch %u is not due", micro);
    }
    if (s->forward_next < s->micro_count && s->forward_next < micro + s->ahead) {
        return seam_error_set(err, SEAM_E_STATE, "forward of micro-batch %u is to begin first",
                              s->forward_next);
    }
    if (ret_dx != NULL && !seam_codec_plan_has_input_gradient(&s->config.codec)) {
        return seam_error_set(err, SEAM_E_STATE,
                              "ret_dx: only where the caller trains front blocks, or with "
                              "gate_signal exact or send_input_gradient");
    }
    seam_micro_state *const state = &s->micros[micro];
    const uint64_t step = seam_session_committed_steps(s);
    const seam_alloc *alloc = NULL;
    SEAM_TRY(seam_site_alloc_at(&alloc, s->site_out, step));
    const bool labelled = s->config.labelled_rows_only;
    const seam_tensor_args args = {
        .site_idx = s->bwd_out,
        .phase = SEAM_PHASE_BACKWARD,
        .micro = micro,
        .step = step,
        .codec = s->sites[s->bwd_out].codec,
        .alloc = alloc,
        .rows = seam_micro_rows_out(s, state),
        .sequences = seam_micro_sequences(state, false),
        .range_rows = seam_micro_range_rows(s, state),
        .row_gates = seam_micro_row_gates(state, false),
        .row_ids = labelled ? (const uint32_t *)(const void *)state->row_ids.data : NULL,
        .stochastic = seam_codec_has_widths(s->config.codec.codec_out),
        .seed = s->config.seed,
    };
    uint64_t payload_bytes = 0;
    state->sent[1].count = 0;
    const double begin = seam_now_seconds();
    const uint64_t begin_ns = seam_trace_begin(s->trace);
    float *const decoded = seam_watch_place(s);
    SEAM_TRY(seam_tensor_encode(&state->sent[1], decoded, &payload_bytes, s, &args, dy, err));
    seam_watch_show(s, SEAM_WATCH_BWD_OUT, micro, decoded, args.rows);
    s->encode_seconds += seam_now_seconds() - begin;
    seam_session_span_end(s, "encode", micro, begin_ns);
    site_used(s, s->bwd_out, args.rows, payload_bytes, alloc);
    SEAM_TRY(seam_link_drive(s, SEAM_GOAL_BACKWARD, err));
    if (ret_dx != NULL) {
        memcpy(ret_dx, s->dx, (size_t)state->rows * s->channels * sizeof *ret_dx);
    }
    seam_session_span_end(s, "backward", micro, begin_ns);
    s->backward_due = false;
    s->micro_next++;
    return SEAM_OK;
}

seam_status seam_step_commit(seam_session *session, seam_step_report *report, seam_error *err) {
    if (session == NULL || (report != NULL && report->struct_bytes != sizeof *report)) {
        return seam_error_set(err, SEAM_E_ARG, "session is NULL or report lacks its _INIT");
    }
    seam_session *const s = session;
    SEAM_TRY(seam_session_check(s, err));
    if (!s->step_open || s->backward_due || s->micro_next != s->micro_count) {
        return seam_error_set(err, SEAM_E_STATE, "not every micro-batch has gone through");
    }
    const uint64_t begin_ns = seam_trace_begin(s->trace);
    s->commit_runs = true;
    seam_status st = seam_own_norm_make(s, err);
    st = st == SEAM_OK ? seam_link_drive(s, SEAM_GOAL_COMMIT, err) : st;
    s->commit_runs = false;
    SEAM_TRY(st);
    s->step_open = false;
    seam_session_span_end(s, "commit", SEAM_TRACE_NO_MICRO, begin_ns);
    seam_session_span_end(s, "step", SEAM_TRACE_NO_MICRO, s->step_begin_ns);
    if (report != NULL) {
        *report = s->report;
    }
    return SEAM_OK;
}

/* ---- Layout ---- */

seam_status seam_step_layout(seam_session *session, const seam_step_micro *micros,
                             uint32_t micro_count, seam_error *err) {
    seam_session *const s = session;
    uint64_t rows_total = 0, distinct_total = 0;
    s->labelled_total = s->out_total = 0;
    for (uint32_t m = 0; m < micro_count; m++) {
        SEAM_TRY(micro_take(&s->micros[m], s, &micros[m], m, err));
        if (seam_micro_row_sources_take(&s->micros[m], s, &micros[m], micro_count) != SEAM_OK) {
            return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
        }
        rows_total += s->micros[m].rows;
        distinct_total += s->micros[m].rows_distinct;
        s->labelled_total += s->micros[m].labelled_count;
        s->out_total += s->micros[m].out_count;
    }
    s->micro_count = micro_count;
    if (s->by_token) {
        rows_weigh(s);
    }
    if (seam_codec_plan_has_gates_modules(&s->config.codec)) {
        const seam_module_link *const link = &s->exchange.link;
        const uint64_t first = link->pairs[0].rows * link->pairs[0].channels;
        seam_arbiter_weigh(&s->arbiter, first, first,
                           link->pairs[1].rows * link->pairs[1].channels);
        return step_begin_pack(s, micros, err);
    }
    const uint64_t channels_in = seam_codec_plan_has_gates_in(&s->config.codec) ? s->channels : 0;
    const uint64_t channels_out = seam_codec_plan_has_out(&s->config.codec) ? s->channels : 0;
    seam_arbiter_weigh(&s->arbiter, distinct_total * channels_in, rows_total * channels_in,
                       s->out_total * channels_out);
    return step_begin_pack(s, micros, err);
}

static seam_status micro_take(seam_micro_state *state, const seam_session *s,
                              const seam_step_micro *micro, uint32_t micro_idx, seam_error *err) {
    if (micro->sequence_count == 0 || micro->sequence_rows == NULL ||
        micro->labelled_rows == NULL || micro->sequence_count > s->config.sequences_max) {
        return seam_error_set(err, SEAM_E_ARG,
                              "micros[%u]: sequence_rows or labelled_rows is NULL, or %u sequences "
                              "(the session allows %u)",
                              micro_idx, micro->sequence_count, s->config.sequences_max);
    }
    if (s->config.sample_ids_needed && micro->sample_ids == NULL) {
        return seam_error_set(err, SEAM_E_ARG,
                              "micros[%u].sample_ids: missing; codec aqsgd needs one a sequence",
                              micro_idx);
    }
    if (seam_codec_plan_is_one_pass(&s->config.codec) && micro->labels == NULL) {
        return seam_error_set(err, SEAM_E_ARG,
                              "micros[%u].labels: missing; topology %s has the loss at the server",
                              micro_idx, seam_session_topology(s));
    }
    if (s->exchange.is_on && micro->ids == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "micros[%u].ids: missing; the server embeds them",
                              micro_idx);
    }
    uint64_t rows = 0;
    for (uint32_t i = 0; i < micro->sequence_count; i++) {
        if (micro->sequence_rows[i] == 0) {
            return seam_error_set(err, SEAM_E_ARG, "micros[%u].sequence_rows[%u]: 0", micro_idx, i);
        }
        rows += micro->sequence_rows[i];
    }
    if (rows > s->config.rows_max) {
        return seam_error_set(err, SEAM_E_LIMIT, "micros[%u]: %llu rows, the session allows %u",
                              micro_idx, (unsigned long long)rows, s->config.rows_max);
    }
    state->rows = (uint32_t)rows;
    state->bitmap.count = state->row_ids.count = state->sent[0].count = state->sent[1].count = 0;
    state->came.count = 0;
    state->is_sent[0] = state->is_sent[1] = state->has_come = false;
    seam_status st = bitmaps_take(state, s, micro);
    st = st == SEAM_OK ? sequences_take(state, s, micro) : st;
    st = st == SEAM_OK && s->by_token ? row_gates_take(state, s, micro) : st;
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "out of memory");
    }
    if (state->labelled_count == 0) {
        return seam_error_set(err, SEAM_E_ARG, "micros[%u]: no labelled row", micro_idx);
    }
    return SEAM_OK;
}

/* Labelled rows, and those of sites 1 and 2. */
static seam_status bitmaps_take(seam_micro_state *state, const seam_session *s,
                                const seam_step_micro *micro) {
    const uint32_t rows = state->rows;
    const size_t bytes = ((size_t)rows + 7) / 8;
    SEAM_TRY(seam_buffer_add(&state->bitmap, micro->labelled_rows, bytes));
    if (rows % 8 != 0) { /* bits beyond the last row travel as zero */
        state->bitmap.data[rows / 8] &= (uint8_t)((1u << (rows % 8)) - 1u);
    }
    state->out_bitmap.count = 0;
    SEAM_TRY(seam_buffer_add(&state->out_bitmap, state->bitmap.data, bytes));
    if (s->config.training.tail_blocks > 0) {
        (void)seam_rows_to_last_labelled(state->out_bitmap.data, micro->sequence_rows,
                                         micro->sequence_count, state->bitmap.data);
    }
    state->labelled_count = state->out_count = 0;
    for (uint32_t t = 0; t < rows; t++) {
        state->labelled_count += seam_bitmap_has(state->bitmap.data, t) ? 1 : 0;
        if (seam_bitmap_has(state->out_bitmap.data, t)) {
            SEAM_TRY(seam_buffer_add(&state->row_ids, &t, sizeof t));
            state->out_count++;
        }
    }
    return SEAM_OK;
}

static seam_status sequences_take(seam_micro_state *state, const seam_session *s,
                                  const seam_step_micro *micro) {
    const size_t bytes = micro->sequence_count * sizeof(uint32_t);
    seam_buffer *const out = &state->sequence_rows_out;
    state->sequence_rows.count = out->count = state->sample_ids.count = 0;
    SEAM_TRY(seam_buffer_add(&state->sequence_rows, micro->sequence_rows, bytes));
    SEAM_TRY(seam_buffer_add(out, micro->sequence_rows, bytes));
    if (s->config.labelled_rows_only) {
        seam_sequence_labelled_counts((uint32_t *)(void *)out->data, micro->sequence_rows,
                                      micro->sequence_count, state->out_bitmap.data);
    }
    if (micro->sample_ids != NULL) {
        SEAM_TRY(seam_buffer_add(&state->sample_ids, micro->sample_ids, 2 * bytes));
    }
    state->ids.count = 0;
    if (s->exchange.is_on) {
        SEAM_TRY(seam_buffer_add(&state->ids, micro->ids, (size_t)state->rows * sizeof(uint32_t)));
    }
    return SEAM_OK;
}

/* Rows of sites 1 and 2 without a label have a gate only where they travel. */
static seam_status row_gates_take(seam_micro_state *state, const seam_session *s,
                                  const seam_step_micro *micro) {
    const size_t bytes = (size_t)state->rows * sizeof(uint32_t);
    SEAM_TRY(seam_buffer_reserve(&state->row_gates, bytes));
    SEAM_TRY(seam_buffer_reserve(&state->row_gates_out, bytes));
    state->row_gates.count = state->row_gates_out.count = bytes;
    seam_token_gates_fill((uint32_t *)(void *)state->row_gates.data, micro->sequence_rows,
                          micro->sequence_count, NULL, s->width_count);
    seam_token_gates_fill(
        (uint32_t *)(void *)state->row_gates_out.data, micro->sequence_rows, micro->sequence_count,
        s->config.labelled_rows_only ? state->out_bitmap.data : NULL, s->width_count);
    return SEAM_OK;
}

/* What each gate of site 0 has of the step's rows. */
static void rows_weigh(seam_session *s) {
    memset(s->gate_counts, 0, s->width_count * sizeof *s->gate_counts);
    for (uint32_t m = 0; m < s->micro_count; m++) {
        const seam_token_rows rows = {seam_micro_row_gates(&s->micros[m], true), s->micros[m].rows,
                                      s->channels};
        seam_token_gates_add_counts(s->gate_counts, &rows, NULL);
    }
    seam_token_gates_weigh(s->gate_weights, s->gate_counts, s->width_count);
}

#define MICROS_STACK 64

static seam_status step_begin_pack(seam_session *s, const seam_step_micro *micros,
                                   seam_error *err) {
    Seam__V1__MicroBatch batches[MICROS_STACK];
    Seam__V1__MicroBatch *pointers[MICROS_STACK];
    if (s->micro_count > MICROS_STACK) {
        return seam_error_set(err, SEAM_E_LIMIT, "micro_count: above %d", MICROS_STACK);
    }
    for (uint32_t m = 0; m < s->micro_count; m++) {
        Seam__V1__MicroBatch *const b = &batches[m];
        seam__v1__micro_batch__init(b);
        b->n_sequence_rows = micros[m].sequence_count;
        b->sequence_rows = (uint32_t *)(uintptr_t)micros[m].sequence_rows;
        b->labelled_rows.data = s->micros[m].bitmap.data;
        b->labelled_rows.len = s->micros[m].bitmap.count;
        if (micros[m].sample_ids != NULL) {
            b->n_sample_ids = micros[m].sequence_count;
            b->sample_ids = (uint64_t *)(uintptr_t)micros[m].sample_ids;
        }
        if (micros[m].positions != NULL) {
            b->n_positions = s->micros[m].rows;
            b->positions = (uint32_t *)(uintptr_t)micros[m].positions;
        }
        b->row_sources = (uint32_t *)(uintptr_t)seam_micro_row_sources(&s->micros[m]);
        b->n_row_sources = b->row_sources != NULL ? s->micros[m].rows : 0;
        if (seam_codec_plan_is_one_pass(&s->config.codec)) {
            b->labels = (uint32_t *)(uintptr_t)micros[m].labels;
            b->n_labels = s->micros[m].labelled_count;
        }
        pointers[m] = b;
    }
    Seam__V1__StepBegin begin = SEAM__V1__STEP_BEGIN__INIT;
    begin.step = seam_session_committed_steps(s);
    begin.labelled_row_count = s->labelled_total;
    begin.n_micros = s->micro_count;
    begin.micros = pointers;
    begin.digest = seam_step_begin_digest(&begin);
    if (s->config.depth_auto) {
        begin.pipeline_depth = s->depth_held = seam_session_ahead_max(s);
    }
    Seam__V1__TrainRequest request = SEAM__V1__TRAIN_REQUEST__INIT;
    request.body_case = SEAM__V1__TRAIN_REQUEST__BODY_STEP_BEGIN;
    request.step_begin = &begin;
    if (seam_message_pack(&s->step_begin, &request.base) != SEAM_OK || budget_pack(s) != SEAM_OK) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    if (s->step_begin.count > SEAM_REQUEST_BYTES_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT, "micros: a layout of %zu bytes, a server takes %u",
                              s->step_begin.count, SEAM_REQUEST_BYTES_MAX);
    }
    return SEAM_OK;
}

static seam_status budget_pack(seam_session *s) {
    s->budget.count = 0;
    if (!seam_codec_plan_has_gates_out(&s->config.codec) || !s->arbiter.changed) {
        return SEAM_OK;
    }
    const seam_budget *const b = &s->arbiter.budget;
    Seam__V1__Budget budget = SEAM__V1__BUDGET__INIT;
    budget.effective_step = seam_session_committed_steps(s);
    budget.bits_loss_active = b->bits_loss_active;
    budget.width_shift = b->width_shift;
    budget.beta = b->beta_out;
    budget.bits_lr = b->bits_lr;
    budget.bits_target = b->bits_target;
    budget.bits_total = b->total_out;
    budget.link_bits_per_second = 8.0 * s->rate.bytes_per_second;
    Seam__V1__TrainRequest request = SEAM__V1__TRAIN_REQUEST__INIT;
    request.body_case = SEAM__V1__TRAIN_REQUEST__BODY_BUDGET;
    request.budget = &budget;
    return seam_message_pack(&s->budget, &request.base);
}

static void site_used(seam_session *s, uint32_t site_idx, uint32_t rows, uint64_t payload_bytes,
                      const seam_alloc *alloc) {
    seam_site_row *const row = &s->sites[site_idx];
    row->payload_bytes += payload_bytes;
    seam_site_row_count(row, rows, alloc->version, alloc->bits_total);
    if (alloc->widths != NULL) {
        memcpy(s->widths_used[site_idx == s->fwd_in ? 0 : 1], alloc->widths, s->width_count);
    }
}
