/* What a step's signals and its commit mean for the widths: our own site's allocator moves, the
 * arbiter judges both sites, and new widths are proposed.  step.c has the calls before it.
 *
 * The update of step s uses the budget that was in force for it; what the arbiter decides from its
 * outcome is told before step s + 1. */
#include <math.h>
#include <stdio.h>

#include "core.h"
#include "token_gates.h"
#include "try.h"

static seam_status gates_settle(seam_session *s, const Seam__V1__Commit *commit,
                                const Seam__V1__SiteReport *peer);
static seam_status fill_settle(seam_session *s, const Seam__V1__Commit *commit,
                               const Seam__V1__SiteReport *peer);
static seam_status proposal_pack(seam_session *s, uint32_t owned_idx, const seam_alloc *alloc);

static bool is_waterfill(const seam_session *s) {
    return s->config.codec.allocator == SEAM_ALLOCATOR_WATERFILL;
}

seam_status seam_step_add_spans(seam_session *session, const seam_alloc *alloc) {
    seam_session *const s = session;
    if (seam_site_waterfill(s->site_in) == NULL) {
        return SEAM_OK;
    }
    SEAM_TRY(seam_coder_steps(s->steps, s->sites[s->fwd_in].coder));
    seam_waterfill_add_spans(s->spans, s->steps, alloc->widths, s->channels);
    return SEAM_OK;
}

void seam_step_add_signal(seam_session *session) {
    seam_session *const s = session;
    if (!s->config.codec.gate_signal_exact) { /* the micro-batch may be one behind micro_next */
        for (uint32_t c = 0; c < s->width_count; c++) {
            s->gate_sums[c] += s->gate_signal[c];
        }
        return;
    }
    const seam_micro_state *const micro = &s->micros[s->micro_next];
    const uint32_t rows = micro->rows;
    if (s->by_token) {
        const seam_token_rows of = {seam_micro_row_gates(micro, true), rows, s->channels};
        seam_token_gates_add_exact(s->gate_sums, &of, s->dx, s->x_kept, s->x_decoded,
                                   s->widths_used[0]);
    } else if (is_waterfill(s)) {
        seam_gates_add_squares(s->gate_sums, s->dx, rows, s->channels);
    } else {
        seam_gates_add_exact(s->gate_sums, s->dx, s->x_kept, s->x_decoded, s->widths_used[0], rows,
                             s->channels);
    }
}

void seam_gates_row_name(seam_site_row *row) {
    if (row->direction == SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_LAYER) {
        (void)snprintf(row->name, sizeof row->name, "layer_%u", row->boundary % 1000000u);
    }
    if (row->direction == SEAM__V1__SITE_DIRECTION__SITE_DIRECTION_PREFIX) {
        (void)snprintf(row->name, sizeof row->name, "prefix_%s",
                       row->boundary == 0 ? "keys" : "values");
    }
}

/* What the server says of the gates that it has for itself. */
static seam_status own_gates_take(seam_session *s, const Seam__V1__Commit *commit,
                                  seam_error *err) {
    for (size_t i = 0; i < commit->n_sites; i++) {
        const Seam__V1__SiteReport *const report = commit->sites[i];
        const uint32_t idx =
            report->site <= UINT16_MAX ? seam_site_idx(s, (uint16_t)report->site) : s->site_count;
        seam_site_row *const row = &s->sites[idx < s->site_count ? idx : 0];
        if (idx == s->site_count || row->name[0] == '\0') {
            continue;
        }
        if (report->bits_min < 1 || report->bits_min > report->bits_max ||
            report->bits_max > SEAM_BITS_MAX ||
            report->bits_total < report->bits_min * row->channels ||
            report->bits_total > report->bits_max * row->channels) {
            return seam_error_set(err, SEAM_E_FORMAT, "Commit: no valid report of site %u",
                                  report->site);
        }
        row->mean_bits = (double)report->bits_total / (double)row->channels;
        row->bits_min = (uint8_t)report->bits_min;
        row->bits_max = (uint8_t)report->bits_max;
    }
    return SEAM_OK;
}

seam_status seam_step_settle(seam_session *session, const Seam__V1__Commit *commit,
                             seam_error *err) {
    seam_session *const s = session;
    s->report = (seam_step_report){
        .struct_bytes = sizeof s->report,
        .step = commit->step,
        .state_hash = commit->state_hash,
        .grad_norm = commit->grad_norm,
        .lr = commit->lr,
        .server_seconds = commit->compute_seconds,
        .server_codec_seconds = commit->codec_seconds,
        .skipped = commit->skipped,
        .clip_factor = commit->clip_factor,
    };
    SEAM_TRY(own_gates_take(s, commit, err));
    if (seam_codec_plan_has_gates_modules(&s->config.codec)) {
        const seam_status st = seam_exchange_settle(s, commit->step, commit->skipped);
        SEAM_TRY(st == SEAM_E_MEMORY ? seam_error_set(err, st, "out of memory") : st);
    }
    SEAM_TRY(seam_own_apply(s, err)); /* the gates went by the parameters that the step used */
    if (s->exchange.is_on) {
        return SEAM_OK;
    }
    const bool gates_out = seam_codec_plan_has_gates_out(&s->config.codec);
    if (!gates_out && !seam_codec_plan_has_gates_in(&s->config.codec)) {
        return SEAM_OK;
    }
    const uint16_t site_out = s->sites[s->fwd_out].id;
    const Seam__V1__SiteReport *peer = NULL;
    for (size_t i = 0; i < commit->n_sites; i++) {
        if (commit->sites[i]->site == site_out) {
            peer = commit->sites[i];
        }
    }
    static const Seam__V1__SiteReport none = SEAM__V1__SITE_REPORT__INIT;
    peer = gates_out ? peer : &none; /* one boundary: there is no such site */
    if (peer == NULL || peer->gate_bits_total > SEAM_BITS_MAX * s->width_count ||
        peer->cost_channels > s->channels || !isfinite(peer->cost_sum) ||
        !isfinite(peer->gate_pull)) {
        return seam_error_set(err, SEAM_E_FORMAT, "Commit: no valid report of site %u", site_out);
    }
    const seam_status st =
        is_waterfill(s) ? fill_settle(s, commit, peer) : gates_settle(s, commit, peer);
    s->report.gate_mean_bits = s->arbiter.mean_bits;
    s->report.target_reached = s->arbiter.target_reached;
    return st == SEAM_E_MEMORY ? seam_error_set(err, st, "out of memory") : st;
}

static seam_status gates_settle(seam_session *s, const Seam__V1__Commit *commit,
                                const Seam__V1__SiteReport *peer) {
    seam_gates *const gates = seam_site_gates(s->site_in); /* NULL: site 0 has none */
    const seam_budget *const budget = &s->arbiter.budget;
    const double P = (double)s->width_count;
    seam_arbiter_view view = {.step = commit->step,
                              .skipped = commit->skipped,
                              .mean_out = (double)peer->gate_bits_total / P,
                              .pull_out = peer->gate_pull};
    const bool paced = s->config.codec.steps_to_target > 0;
    if (gates != NULL && paced && !s->config.codec.gate_signal_exact) {
        seam_gates_refine(s->gate_sums, gates, s->widths_used[0]);
    }
    if (gates != NULL && !commit->skipped) {
        const seam_gates_step_args args = {.db = s->gate_sums,
                                           .lr = budget->bits_lr,
                                           .beta = budget->beta_in,
                                           .bits_loss_active = budget->bits_loss_active,
                                           .relative = paced};
        seam_gates_step(gates, &args);
    }
    if (gates != NULL) {
        view.mean_in =
            s->by_token ? seam_token_gates_mean(gates) : (double)seam_gates_bits_total(gates) / P;
        view.pull_in = seam_gates_pull(s->gate_sums, s->width_count);
    }
    seam_arbiter_judge(&s->arbiter, &view);
    if (gates == NULL) {
        return SEAM_OK;
    }
    seam_gates_widths(s->widths, gates, s->arbiter.budget.width_shift);
    return seam_step_propose(s, 0, s->widths, commit->step);
}

static seam_status fill_settle(seam_session *s, const Seam__V1__Commit *commit,
                               const Seam__V1__SiteReport *peer) {
    seam_waterfill *const fill = seam_site_waterfill(s->site_in); /* NULL: site 0 has none */
    seam_waterfill_share in = {.channels = s->channels};
    seam_waterfill_share out = {
        .channels = s->channels, .live = peer->cost_channels, .sum = peer->cost_sum};
    uint64_t rows = 0;
    for (uint32_t m = 0; m < s->micro_count; m++) {
        rows += s->micros[m].rows;
    }
    if (fill != NULL && !commit->skipped) {
        const seam_waterfill_update_args args = {
            .squares = s->gate_sums, .rows = rows, .spans = s->spans, .micros = s->micro_count};
        seam_waterfill_update(fill, &args);
    }
    seam_site_bounds(&out.bits_min, &out.bits_max, s->site_out);
    const bool has_out = seam_codec_plan_has_out(&s->config.codec);
    if (fill == NULL) {
        seam_arbiter_fill(&s->arbiter, commit->step, NULL, &out);
        return SEAM_OK;
    }
    seam_site_bounds(&in.bits_min, &in.bits_max, s->site_in);
    in.sum = seam_waterfill_sum(&in.live, fill);
    seam_arbiter_fill(&s->arbiter, commit->step, &in, has_out ? &out : NULL);
    seam_waterfill_widths(s->widths, fill, s->arbiter.budget.total_in, in.bits_min, in.bits_max);
    return seam_step_propose(s, 0, s->widths, commit->step);
}

seam_status seam_step_propose_again(seam_session *session) {
    for (uint32_t i = 0; i < seam_owned_count(session); i++) {
        const seam_alloc *const alloc = seam_site_unanswered(seam_owned_site(session, i));
        SEAM_TRY(alloc != NULL ? proposal_pack(session, i, alloc) : SEAM_OK);
    }
    return SEAM_OK;
}

void seam_step_count_bytes(seam_session *session) {
    seam_session *const s = session;
    const seam_transport_counts now = s->client->net->counts(s->client->transport);
    s->report.bytes_sent = now.bytes_sent - s->step_start.bytes_sent;
    s->report.bytes_received = now.bytes_received - s->step_start.bytes_received;
    s->report.encode_seconds = s->encode_seconds;
    s->report.decode_seconds = s->decode_seconds;
    s->report.seconds = seam_now_seconds() - s->step_begin_seconds;
    s->report.bits_target = (double)s->arbiter.config.bits_target;
    if (s->drive_begin_seconds > 0.0) { /* the wait for this very commit */
        const double seconds = seam_now_seconds();
        s->link_seconds += seconds - s->drive_begin_seconds;
        s->drive_begin_seconds = seconds;
    }
}

void seam_step_judge_depth(seam_session *session) {
    seam_session *const s = session;
    const double M = (double)s->micro_count;
    const double quickest = seam_client_rtt_seconds(s->client);
    const double rtt = quickest > 0.0 ? quickest : s->rtt_seconds;
    if (!s->config.depth_auto || s->first_seconds <= 0.0 || s->micro_count < 2) {
        return;
    }
    const double seconds = seam_now_seconds() - s->step_begin_seconds;
    const seam_depth_sample sample = {
        .one_pass = seam_codec_plan_is_one_pass(&s->config.codec),
        .rtt_seconds = rtt,
        .first_seconds = s->first_seconds,
        .waited_seconds = s->waited_seconds,
        .others_seconds = s->others_seconds,
        .others_bytes = (double)s->others_bytes,
        .server_seconds = s->report.server_seconds / M,
        .own_seconds = fmax(seconds - s->link_seconds + s->decode_seconds, 0.0) / M,
        .forward_bytes = (double)s->micros[0].sent[0].count,
        .backward_bytes = (double)s->micros[0].sent[1].count,
        .reply_bytes = (double)s->report.bytes_received / M};
    seam_depth_judge(&s->depth, &sample);
}

void seam_step_judge_rate(seam_session *session) {
    seam_session *const s = session;
    const double seconds = seam_now_seconds() - s->step_begin_seconds;
    const double busy = s->report.server_seconds + s->report.decode_seconds;
    const double wire = fmax(s->link_seconds - busy, 0.0);
    double bits = 0.0, values = 0.0;
    for (uint32_t i = 0; i < s->site_count; i++) {
        const seam_site_row *const row = &s->sites[i];
        if (seam_codec_has_gates(row->codec)) {
            bits += (double)row->rows * (double)row->channels * row->mean_bits;
            values += (double)row->rows * (double)row->channels;
        }
    }
    if (!s->config.rate_auto || values == 0.0) {
        return;
    }
    const uint64_t bytes = s->report.bytes_sent + s->report.bytes_received;
    const uint64_t codes = (uint64_t)(bits / 8.0);
    s->rate_sample = (seam_rate_sample){.bytes = bytes,
                                        .fixed_bytes = bytes > codes ? bytes - codes : 0,
                                        .mean_bits = bits / values,
                                        .wire_seconds = wire,
                                        .compute_seconds = fmax(seconds - wire, 0.0),
                                        .rtt_seconds = s->rtt_seconds,
                                        .round_trips = s->micro_count + 1};
    if (seam_rate_judge(&s->rate, &s->rate_sample)) {
        seam_arbiter_retarget(&s->arbiter, s->rate.bits);
    }
    s->report.bits_target = (double)s->arbiter.config.bits_target;
    s->report.link_bits_per_second = 8.0 * s->rate.bytes_per_second;
}

seam_status seam_step_propose(seam_session *session, uint32_t owned_idx, const uint8_t *widths,
                              uint64_t step) {
    const seam_alloc *alloc = NULL;
    bool proposed = false;
    SEAM_TRY(seam_site_propose(&alloc, &proposed, seam_owned_site(session, owned_idx), widths,
                               step + session->config.lag_steps));
    return proposed ? proposal_pack(session, owned_idx, alloc) : SEAM_OK;
}

static seam_status proposal_pack(seam_session *s, uint32_t owned_idx, const seam_alloc *alloc) {
    const seam_site_config *const site = seam_site_config_of(seam_owned_site(s, owned_idx));
    Seam__V1__AllocPropose propose = SEAM__V1__ALLOC_PROPOSE__INIT;
    propose.site = site->site_id;
    propose.version = alloc->version;
    propose.effective_step = alloc->effective_step;
    propose.widths.data = alloc->widths;
    propose.widths.len = site->width_count;
    propose.hash = alloc->hash;
    Seam__V1__TrainRequest request = SEAM__V1__TRAIN_REQUEST__INIT;
    request.body_case = SEAM__V1__TRAIN_REQUEST__BODY_ALLOC_PROPOSE;
    request.alloc_propose = &propose;
    return seam_message_pack(&s->proposals[owned_idx], &request.base);
}
