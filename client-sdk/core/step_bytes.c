/* See step_bytes.h.  The messages are those of a step as WIRE.md section 4 orders them, each made
 * or measured by the code that sends it; what only a run knows (hashes, norms, times) is a value
 * that takes as many bytes. Read next: width_plan.c; step.c, which a run has instead. */
#include "step_bytes.h"

#include <string.h>

#include "arena.h"
#include "core.h"
#include "frame.h"
#include "try.h"
#include "walk.h"
#include "width_plan.h"

#define BOUNDARY_SITES 4u /* as seam_session_sketch has them */
_Static_assert(SEAM_STEP_SITES == SEAM_SITE_PREFIX_GRADIENT + 1, "ids of WIRE.md 1 and 1.1");

struct seam_step_planner {
    seam_session *session; /* without a server */
    bool tls;
    seam_width_plan widths;
    seam_step_bytes bytes; /* of the step in work */
};

static seam_status exchange_add(seam_step_planner *p, uint32_t micro, seam_error *err);
static seam_status micro_add(seam_step_planner *p, const seam_micro_state *micro, seam_error *err);
static void allocation_add(seam_step_planner *p, uint64_t step);
static void ends_add(seam_step_planner *p, uint64_t step);
static uint32_t round_trips_of(const seam_session *s);
static bool is_exact(const seam_session *s);

seam_status seam_step_planner_create(seam_step_planner **ret_planner,
                                     const seam_step_planner_args *args, seam_error *err) {
    const seam_sketch_args sketch = {.options = args->session,
                                     .channels = args->channels,
                                     .pairs = args->modules,
                                     .pair_count = args->module_count};
    seam_step_planner *const p = seam_mem_zalloc(1, sizeof *p);
    if (p == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    p->tls = args->tls;
    seam_status st = seam_session_sketch(&p->session, &sketch, err);
    if (st == SEAM_OK && seam_width_plan_init(&p->widths, p->session) != SEAM_OK) {
        st = seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    if (st != SEAM_OK) {
        seam_step_planner_destroy(p);
        return st;
    }
    *ret_planner = p;
    return SEAM_OK;
}

void seam_step_planner_destroy(seam_step_planner *gift_planner) {
    if (gift_planner == NULL) {
        return;
    }
    seam_session_sketch_free(gift_planner->session);
    seam_width_plan_deinit(&gift_planner->widths);
    seam_mem_free(gift_planner);
}

/* What the layout goes by, as it is between two steps of a session. */
static void session_set(seam_session *s, uint64_t step) {
    const seam_client_proto_config proto = {.committed_step_count = step,
                                            .pipeline_depth = s->config.pipeline_depth};
    seam_client_proto_init(&s->proto, &proto);
    seam_depth_init(&s->depth, s->config.pipeline_depth, 0.0);
    if (!seam_codec_plan_has_gates(&s->config.codec)) {
        return;
    }
    /* Paced gates begin with a Budget; what the paper's are told changes twice in a run, which is
     * no part of a step. */
    seam_arbiter_init(&s->arbiter, &s->config.arbiter);
    if (s->config.codec.allocator == SEAM_ALLOCATOR_WATERFILL && step > 0) {
        s->arbiter.changed = true;
        s->arbiter.budget.total_out = s->channels * SEAM_BITS_MAX;
    }
}

seam_status seam_step_planner_step(seam_step_bytes *ret_bytes, seam_step_planner *planner,
                                   uint64_t step, const seam_step_micro *micros,
                                   uint32_t micro_count, seam_error *err) {
    seam_step_planner *const p = planner;
    seam_session *const s = p->session;
    if (micro_count == 0 || micro_count > s->config.micros_max) {
        return seam_error_set(err, SEAM_E_LIMIT, "micro_count: %u is not in 1..%u", micro_count,
                              s->config.micros_max);
    }
    memset(&p->bytes, 0, sizeof p->bytes);
    session_set(s, step);
    SEAM_TRY(seam_step_layout(s, micros, micro_count, err));
    seam_width_plan_make(&p->widths, s, step);
    p->bytes.mean_bits = p->widths.mean_bits;
    for (uint32_t m = 0; m < micro_count; m++) {
        SEAM_TRY(s->exchange.is_on ? exchange_add(p, m, err) : micro_add(p, &s->micros[m], err));
    }
    allocation_add(p, step);
    ends_add(p, step);
    p->bytes.round_trips = round_trips_of(s);
    p->bytes.is_exact = is_exact(s);
    p->bytes.is_most = !seam_codec_plan_has_gates(&s->config.codec);
    *ret_bytes = p->bytes;
    return SEAM_OK;
}

/* ---- Messages ---- */

/* One message; its own bytes beside a frame's count as framing. */
static void message_add(seam_step_planner *p, bool sent, size_t message_bytes, size_t own_bytes) {
    seam_way_bytes *const way = sent ? &p->bytes.sent : &p->bytes.received;
    seam_way_bytes *const back = sent ? &p->bytes.received : &p->bytes.sent;
    seam_transport_counts counts = {0};
    seam_transport_grpc.count_message(&counts, p->tls, message_bytes);
    way->bytes += counts.bytes_sent;
    way->framing += counts.bytes_sent - own_bytes;
    back->bytes += counts.bytes_received;
    back->framing += counts.bytes_received;
}

/* A frame, whose payload the caller counts. */
static void frame_add(seam_step_planner *p, bool sent, size_t payload_bytes) {
    seam_way_bytes *const way = sent ? &p->bytes.sent : &p->bytes.received;
    const size_t frame_bytes = SEAM_FRAME_HEADER_BYTES + payload_bytes;
    way->headers += SEAM_FRAME_HEADER_BYTES;
    message_add(p, sent, seam_message_header_bytes(frame_bytes) + frame_bytes, frame_bytes);
}

static void control_add(seam_step_planner *p, bool sent, size_t message_bytes) {
    seam_way_bytes *const way = sent ? &p->bytes.sent : &p->bytes.received;
    way->control += message_bytes;
    message_add(p, sent, message_bytes, message_bytes);
}

static void allocation_message_add(seam_step_planner *p, bool sent, size_t message_bytes) {
    seam_way_bytes *const way = sent ? &p->bytes.sent : &p->bytes.received;
    way->allocation += message_bytes;
    message_add(p, sent, message_bytes, message_bytes);
}

/* ---- A micro-batch ---- */

typedef struct tensor_args {
    uint32_t site_idx, rows;
    bool sent;
    seam_sequences sequences;
    const uint32_t *row_gates;
} tensor_args;

/* A tensor of site `site`, cut as its coder cuts it. */
static seam_status chunks_add(seam_step_planner *p, uint32_t site, bool sent,
                              const seam_coder_config *coder, const seam_coder_tensor *tensor,
                              seam_error *err) {
    seam_way_bytes *const way = sent ? &p->bytes.sent : &p->bytes.received;
    for (uint32_t row = 0; row < tensor->rows;) {
        seam_coder_chunk chunk;
        const seam_status st = seam_coder_chunk_plan(&chunk, coder, tensor, row);
        if (st != SEAM_OK) {
            return seam_error_set(err, st, "site %u: %s", site, seam_status_text(st));
        }
        frame_add(p, sent, chunk.payload_bytes);
        way->tensors += chunk.payload_bytes;
        p->bytes.sites[site].payload_bytes += chunk.payload_bytes;
        p->bytes.sites[site].frames++;
        row += chunk.row_count;
    }
    p->bytes.sites[site].rows += tensor->rows;
    return SEAM_OK;
}

static seam_status tensor_add(seam_step_planner *p, const tensor_args *args, seam_error *err) {
    const seam_coder_config coder = seam_session_coder_config(p->session, args->site_idx);
    const bool outer = args->site_idx == p->session->fwd_in || args->site_idx == p->session->bwd_in;
    const seam_coder_tensor tensor = {.codec = coder.codec,
                                      .alloc = &p->widths.allocs[outer ? 0 : 1],
                                      .rows = args->rows,
                                      .sequences = args->sequences,
                                      .row_gates = args->row_gates};
    return chunks_add(p, args->site_idx, args->sent, &coder, &tensor, err);
}

/* The loss of a one-pass answer. */
static void loss_add(seam_step_planner *p) {
    const size_t bytes = sizeof(double) + sizeof(uint64_t);
    frame_add(p, false, bytes);
    p->bytes.received.control += bytes;
}

/* What answers the last message of the micro-batch: bwd_in, the gate signal, the loss. */
static seam_status answer_add(seam_step_planner *p, const seam_micro_state *micro,
                              seam_error *err) {
    const seam_session *const s = p->session;
    const seam_codec_plan *const plan = &s->config.codec;
    if (seam_codec_plan_has_input_gradient(plan)) {
        const tensor_args gradient = {.site_idx = s->bwd_in,
                                      .rows = micro->rows,
                                      .sequences = seam_micro_sequences(micro, true),
                                      .row_gates = seam_micro_row_gates(micro, true)};
        SEAM_TRY(tensor_add(p, &gradient, err));
    }
    if (seam_codec_plan_has_signal(plan)) {
        const size_t bytes = s->width_count * sizeof(float);
        frame_add(p, false, bytes);
        p->bytes.received.allocation += bytes;
        p->bytes.sites[s->bwd_in].payload_bytes += bytes;
        p->bytes.sites[s->bwd_in].frames++;
    }
    if (seam_codec_plan_is_one_pass(plan)) {
        loss_add(p);
    }
    return SEAM_OK;
}

static seam_status micro_add(seam_step_planner *p, const seam_micro_state *micro, seam_error *err) {
    const seam_session *const s = p->session;
    const seam_sequences none = {.count = 0}; /* distinct rows are of no sequence */
    const bool all = micro->rows_in == micro->rows;
    const tensor_args in = {.site_idx = s->fwd_in,
                            .rows = micro->rows_in,
                            .sent = true,
                            .sequences = all ? seam_micro_sequences(micro, true) : none,
                            .row_gates = seam_micro_row_gates(micro, true)};
    SEAM_TRY(tensor_add(p, &in, err));
    if (seam_codec_plan_has_out(&s->config.codec)) {
        tensor_args out = {.site_idx = s->fwd_out,
                           .rows = seam_micro_rows_out(s, micro),
                           .sequences = seam_micro_sequences(micro, false),
                           .row_gates = seam_micro_row_gates(micro, false)};
        SEAM_TRY(tensor_add(p, &out, err));
        out.site_idx = s->bwd_out;
        out.sent = true;
        SEAM_TRY(tensor_add(p, &out, err));
    }
    return answer_add(p, micro, err);
}

/* ---- A micro-batch of an exchange ---- */

/* All modules' parameters or gradients, as WIRE.md 4.1 orders them. */
static seam_status modules_add(seam_step_planner *p, bool gradient, seam_error *err) {
    const seam_session *const s = p->session;
    const seam_module_link *const link = &s->exchange.link;
    for (uint32_t i = 0; i < seam_module_link_tensor_count(link); i++) {
        const seam_module_tensor of =
            seam_module_link_tensor(link, gradient, i, seam_session_committed_steps(s));
        const seam_coder_config coder = seam_exchange_coder_config(s, of.pair_idx, gradient);
        const seam_coder_tensor tensor = {
            .codec = of.codec, .alloc = &p->widths.allocs[of.pair_idx], .rows = of.rows};
        SEAM_TRY(chunks_add(p, of.site, !gradient, &coder, &tensor, err));
    }
    return SEAM_OK;
}

/* Parameters in front of the step's first token ids, gradients in front of its last loss. */
static seam_status exchange_add(seam_step_planner *p, uint32_t micro, seam_error *err) {
    const seam_session *const s = p->session;
    const bool brings = seam_session_committed_steps(s) == 0 || s->config.codec.resend_parameters;
    if (micro == 0 && brings) {
        SEAM_TRY(modules_add(p, false, err));
    }
    const size_t tokens_bytes = s->micros[micro].rows * sizeof(uint32_t);
    frame_add(p, true, tokens_bytes);
    p->bytes.sent.tensors += tokens_bytes;
    if (micro + 1 == s->micro_count) {
        SEAM_TRY(modules_add(p, true, err));
    }
    loss_add(p);
    return SEAM_OK;
}

/* ---- Around the micro-batches ---- */

/* Of one site's new version: its owner's message, and the answer to it. */
static void proposal_add(seam_step_planner *p, bool ours, uint32_t alloc_idx, uint64_t step) {
    const seam_session *const s = p->session;
    SEAM_ASSERT(s->config.lag_steps > 0);
    Seam__V1__AllocPropose propose = SEAM__V1__ALLOC_PROPOSE__INIT;
    propose.site = s->exchange.is_on ? s->exchange.link.pairs[alloc_idx].site
                   : ours            ? s->fwd_in
                                     : s->fwd_out;
    propose.version = (uint32_t)(2 + step / s->config.lag_steps);
    propose.effective_step = step + s->config.lag_steps;
    propose.widths.data = p->widths.widths;
    propose.widths.len = p->widths.counts[alloc_idx];
    propose.hash = 1;
    Seam__V1__TrainRequest request = SEAM__V1__TRAIN_REQUEST__INIT;
    request.body_case = SEAM__V1__TRAIN_REQUEST__BODY_ALLOC_PROPOSE;
    request.alloc_propose = &propose; /* a TrainResponse has it under a number of as many bytes */
    allocation_message_add(p, ours, protobuf_c_message_get_packed_size(&request.base));
    Seam__V1__AllocAck ack = SEAM__V1__ALLOC_ACK__INIT;
    ack.site = propose.site;
    ack.version = propose.version;
    request.body_case = SEAM__V1__TRAIN_REQUEST__BODY_ALLOC_ACK;
    request.alloc_ack = &ack;
    allocation_message_add(p, !ours, protobuf_c_message_get_packed_size(&request.base));
}

/* Proposals made after the commit of every lag-th step, and Budget. */
static void allocation_add(seam_step_planner *p, uint64_t step) {
    const seam_session *const s = p->session;
    if (s->budget.count > 0) {
        allocation_message_add(p, true, s->budget.count);
    }
    SEAM_ASSERT(s->config.lag_steps > 0);
    if (step == 0 || (step - 1) % s->config.lag_steps != 0) {
        return;
    }
    if (seam_codec_plan_has_gates_in(&s->config.codec)) {
        proposal_add(p, true, 0, step);
    }
    if (seam_codec_plan_has_gates_out(&s->config.codec)) {
        proposal_add(p, false, 1, step);
    }
    const bool modules = seam_codec_plan_has_gates_modules(&s->config.codec);
    for (uint32_t i = 0; modules && i < s->exchange.link.pair_count; i++) {
        proposal_add(p, true, i, step);
    }
}

/* StepBegin, the client's share of the norm, Commit. */
static void ends_add(seam_step_planner *p, uint64_t step) {
    const seam_session *const s = p->session;
    const bool trains = s->config.training.client_trains;
    control_add(p, true, s->step_begin.count);
    if (trains) {
        frame_add(p, true, sizeof(double));
        p->bytes.sent.control += sizeof(double);
    }
    Seam__V1__SiteReport report = SEAM__V1__SITE_REPORT__INIT;
    report.site = s->fwd_out;
    report.gate_bits_total = s->width_count * SEAM_BITS_MAX;
    if (s->config.codec.allocator == SEAM_ALLOCATOR_WATERFILL) {
        report.cost_sum = 1.0;
        report.cost_channels = s->channels;
    } else {
        report.gate_pull = 1.0;
    }
    Seam__V1__SiteReport *reports[] = {&report};
    Seam__V1__Commit commit = SEAM__V1__COMMIT__INIT;
    commit.step = step;
    commit.state_hash = 1;
    commit.grad_norm = commit.lr = commit.compute_seconds = commit.codec_seconds = 1.0;
    commit.clip_factor = trains ? 1.0f : 0.0f;
    if (seam_codec_plan_has_gates_out(&s->config.codec)) {
        commit.sites = reports;
        commit.n_sites = 1;
    }
    Seam__V1__TrainResponse response = SEAM__V1__TRAIN_RESPONSE__INIT;
    response.body_case = SEAM__V1__TRAIN_RESPONSE__BODY_COMMIT;
    response.commit = &commit;
    control_add(p, false, protobuf_c_message_get_packed_size(&response.base));
}

/* With depth D micro-batches go D at a time.  Each such turn waits for its forward's answer; for
 * its backward's too where that has one, else only the last one's, which is the Commit. */
static uint32_t round_trips_of(const seam_session *s) {
    const seam_codec_plan *const plan = &s->config.codec;
    const uint32_t depth = s->config.pipeline_depth;
    const uint32_t turns = (s->micro_count + depth - 1) / depth;
    if (seam_codec_plan_is_one_pass(plan)) {
        return turns + (s->config.training.client_trains ? 1 : 0);
    }
    const bool answered =
        seam_codec_plan_has_signal(plan) || seam_codec_plan_has_input_gradient(plan);
    return answered ? 2 * turns : turns + 1;
}

static bool is_exact(const seam_session *s) {
    const seam_codec_plan *const plan = &s->config.codec;
    bool exact = !seam_codec_plan_has_gates(plan) && seam_codec_plan_coding_max(plan) == 0;
    for (uint32_t i = 0; i < BOUNDARY_SITES; i++) { /* modules have no codec that does */
        const seam_coder_config coder = seam_session_coder_config(s, i);
        exact = exact && !seam_coder_goes_by_state(&coder);
    }
    return exact;
}
