/* See step_bytes.h.  The messages are those of a step as WIRE.md section 4 orders them, each made
 * or measured by the code that sends it; what only a run knows (hashes, norms, times) is a value
 * that takes as many bytes. Read next: step.c, which a run has instead. */
#include "step_bytes.h"

#include <math.h>
#include <string.h>

#include "arena.h"
#include "core.h"
#include "frame.h"
#include "try.h"
#include "walk.h"

_Static_assert(SEAM_STEP_SITES == 4, "as seam_session_sketch has them");

struct seam_step_planner {
    seam_session *session; /* without a server */
    bool tls;
    seam_alloc allocs[2];  /* of sites 0 and 3, of 1 and 2, where they have widths */
    uint8_t *widths;       /* (2, P): theirs */
    seam_step_bytes bytes; /* of the step in work */
};

static void allocations_make(seam_step_planner *p, uint64_t step);
static seam_status micro_add(seam_step_planner *p, const seam_micro_state *micro, seam_error *err);
static void allocation_add(seam_step_planner *p, uint64_t step);
static void ends_add(seam_step_planner *p, uint64_t step);
static uint32_t round_trips_of(const seam_session *s);
static bool is_exact(const seam_session *s);

seam_status seam_step_planner_create(seam_step_planner **ret_planner,
                                     const seam_session_options *options, uint32_t channels,
                                     bool tls, seam_error *err) {
    seam_step_planner *const p = seam_mem_zalloc(1, sizeof *p);
    if (p == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    p->tls = tls;
    seam_status st = seam_session_sketch(&p->session, options, channels, err);
    if (st == SEAM_OK) {
        p->widths = seam_mem_zalloc(2, p->session->width_count);
        st = p->widths != NULL ? SEAM_OK : seam_error_set(err, SEAM_E_MEMORY, "out of memory");
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
    seam_mem_free(gift_planner->widths);
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
    allocations_make(p, step);
    for (uint32_t m = 0; m < micro_count; m++) {
        SEAM_TRY(micro_add(p, &s->micros[m], err));
    }
    allocation_add(p, step);
    ends_add(p, step);
    p->bytes.round_trips = round_trips_of(s);
    p->bytes.is_exact = is_exact(s);
    p->bytes.is_most = !seam_codec_plan_has_gates(&s->config.codec);
    *ret_bytes = p->bytes;
    return SEAM_OK;
}

/* ---- Widths ---- */

/* The mean that is in force.  Version 1 has the start's; from then on a version comes every lag
 * steps, of what was wanted when it was proposed. */
static double bits_at(const seam_core_config *config, uint64_t step) {
    const seam_pace_config *const pace = &config->arbiter.pace;
    const uint64_t lag = config->lag_steps;
    SEAM_ASSERT(lag > 0);
    if (!seam_codec_plan_has_gates(&config->codec)) {
        return (double)config->codec.bits;
    }
    if (step < lag) {
        return rint(pace->bits_start);
    }
    const uint64_t since = step / lag * lag;
    const bool waterfill = config->codec.allocator == SEAM_ALLOCATOR_WATERFILL;
    return seam_pace_bits(pace, waterfill ? since + 1 : since + 1 - lag);
}

/* Sums of the widths of sites 0 and 1, as if every channel of either were worth as much: the mean
 * at both, but that waterfill gives site 0 more where its rows repeat. */
static void totals_make(uint32_t ret_totals[2], const seam_session *s, uint64_t step) {
    const seam_codec_plan *const plan = &s->config.codec;
    const double bits = bits_at(&s->config, step);
    ret_totals[0] = ret_totals[1] = (uint32_t)lrint(bits * (double)s->width_count);
    if (plan->allocator != SEAM_ALLOCATOR_WATERFILL || step < s->config.lag_steps ||
        !seam_codec_plan_has_gates_in(plan) || !seam_codec_plan_has_gates_out(plan)) {
        return;
    }
    const seam_arbiter *const arbiter = &s->arbiter;
    seam_waterfill_share shares[2] = {
        {.values = arbiter->values_in, .values_used = arbiter->values_used_in},
        {.values = arbiter->values_out, .values_used = arbiter->values_out}};
    for (int i = 0; i < 2; i++) {
        shares[i].channels = shares[i].live = s->channels;
        shares[i].bits_min = (uint8_t)ceilf(s->config.gates.bits_min);
        shares[i].bits_max = (uint8_t)floorf(s->config.gates.bits_max);
    }
    seam_waterfill_totals(ret_totals, shares, 2, bits);
}

/* Whole widths, spread evenly: positions of a sample (amaq_token) come unequally often. */
static void allocations_make(seam_step_planner *p, uint64_t step) {
    const seam_session *const s = p->session;
    const uint32_t P = s->width_count;
    uint32_t totals[2];
    totals_make(totals, s, step);
    for (uint32_t k = 0; k < 2; k++) {
        uint8_t *const widths = p->widths + (size_t)k * P;
        for (uint64_t i = 0; i < P; i++) {
            widths[i] = (uint8_t)((i + 1) * totals[k] / P - i * totals[k] / P);
        }
        p->allocs[k] = (seam_alloc){.version = 1, .bits_total = totals[k], .widths = widths};
    }
    p->bytes.mean_bits =
        seam_codec_plan_has_gates(&s->config.codec) ? bits_at(&s->config, step) : 0.0;
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

static seam_status tensor_add(seam_step_planner *p, const tensor_args *args, seam_error *err) {
    const seam_coder_config coder = seam_session_coder_config(p->session, args->site_idx);
    const bool outer = args->site_idx == p->session->fwd_in || args->site_idx == p->session->bwd_in;
    const seam_coder_tensor tensor = {.codec = coder.codec,
                                      .alloc = &p->allocs[outer ? 0 : 1],
                                      .rows = args->rows,
                                      .sequences = args->sequences,
                                      .row_gates = args->row_gates};
    seam_way_bytes *const way = args->sent ? &p->bytes.sent : &p->bytes.received;
    for (uint32_t row = 0; row < args->rows;) {
        seam_coder_chunk chunk;
        const seam_status st = seam_coder_chunk_plan(&chunk, &coder, &tensor, row);
        if (st != SEAM_OK) {
            return seam_error_set(err, st, "site %u: %s", args->site_idx, seam_status_text(st));
        }
        frame_add(p, args->sent, chunk.payload_bytes);
        way->tensors += chunk.payload_bytes;
        p->bytes.sites[args->site_idx].payload_bytes += chunk.payload_bytes;
        p->bytes.sites[args->site_idx].frames++;
        row += chunk.row_count;
    }
    p->bytes.sites[args->site_idx].rows += args->rows;
    return SEAM_OK;
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
        const size_t bytes = sizeof(double) + sizeof(uint64_t);
        frame_add(p, false, bytes);
        p->bytes.received.control += bytes;
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

/* ---- Around the micro-batches ---- */

/* Of one site's new version: its owner's message, and the answer to it. */
static void proposal_add(seam_step_planner *p, bool ours, uint64_t step) {
    const seam_session *const s = p->session;
    SEAM_ASSERT(s->config.lag_steps > 0);
    Seam__V1__AllocPropose propose = SEAM__V1__ALLOC_PROPOSE__INIT;
    propose.site = ours ? s->fwd_in : s->fwd_out;
    propose.version = (uint32_t)(2 + step / s->config.lag_steps);
    propose.effective_step = step + s->config.lag_steps;
    propose.widths.data = p->widths;
    propose.widths.len = s->width_count;
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
        proposal_add(p, true, step);
    }
    if (seam_codec_plan_has_gates_out(&s->config.codec)) {
        proposal_add(p, false, step);
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
    for (uint32_t i = 0; i < SEAM_STEP_SITES; i++) {
        const seam_coder_config coder = seam_session_coder_config(s, i);
        exact = exact && !seam_coder_goes_by_state(&coder);
    }
    return exact;
}
