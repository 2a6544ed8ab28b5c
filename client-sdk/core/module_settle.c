/* What a commit means for the widths of modules (topology adapter_exchange, codec amaq).
 *
 * All module sites are ours, so that no signal, report or budget travels: the signals are formed
 * here (kernels/codec/module_signal.h), the arbiter's two sites are the modules' two (of prefixes
 * one), and both allocators move here.  What travels are proposals, as of other sites: the server
 * takes widths, never what they come from.
 * Read next: settle.c, which does the same where the server has one of the sites. */
#include "core.h"
#include "try.h"

uint32_t seam_owned_count(const seam_session *session) {
    return session->exchange.is_on ? session->exchange.link.pair_count : 1;
}

seam_site *seam_owned_site(const seam_session *session, uint32_t owned_idx) {
    SEAM_ASSERT(owned_idx < seam_owned_count(session));
    return session->exchange.is_on ? session->exchange.link.sites[owned_idx] : session->site_in;
}

const seam_site *seam_forward_site(const seam_session *session, uint32_t idx) {
    if (session->exchange.is_on) {
        return idx < seam_owned_count(session) ? session->exchange.link.sites[idx] : NULL;
    }
    const seam_site *const sites[] = {session->site_in, session->site_out};
    return idx < 2 ? sites[idx] : NULL;
}

uint32_t seam_owned_idx(const seam_session *session, uint32_t site_id) {
    uint32_t i = 0;
    while (i < seam_owned_count(session) &&
           seam_site_config_of(seam_owned_site(session, i))->site_id != site_id) {
        i++;
    }
    return i < seam_owned_count(session) ? i : SEAM_OWNED_MAX;
}

static seam_status gates_settle(seam_session *s, uint64_t step, bool skipped);
static seam_status fill_settle(seam_session *s, uint64_t step, bool skipped);

seam_status seam_exchange_settle(seam_session *session, uint64_t step, bool skipped) {
    seam_session *const s = session;
    seam_exchange *const e = &s->exchange;
    for (uint32_t i = 0; i < e->link.pair_count && !skipped; i++) {
        const seam_module_signal_args args = {.parameters = &e->stacks[i][0],
                                              .gradients = &e->stacks[i][1],
                                              .widths = e->widths_used[i],
                                              .labelled_rows = (uint32_t)s->labelled_total};
        seam_module_signal_take(&e->signals[i], &args);
    }
    const seam_status st = s->config.codec.allocator == SEAM_ALLOCATOR_WATERFILL
                               ? fill_settle(s, step, skipped)
                               : gates_settle(s, step, skipped);
    s->report.gate_mean_bits = s->arbiter.mean_bits;
    s->report.target_reached = s->arbiter.target_reached;
    return st;
}

/* The same update as of a boundary's gates; a skipped step has no gradient. */
static void gates_move(seam_session *s, uint32_t idx, seam_gates *gates) {
    const seam_budget *const budget = &s->arbiter.budget;
    const bool paced = s->config.codec.steps_to_target > 0;
    seam_module_signal *const signal = &s->exchange.signals[idx];
    if (paced && !s->config.codec.gate_signal_exact) {
        seam_gates_refine(signal->db, gates, s->exchange.widths_used[idx]);
    }
    const seam_gates_step_args args = {.db = signal->db,
                                       .lr = budget->bits_lr,
                                       .beta = idx == 0 ? budget->beta_in : budget->beta_out,
                                       .bits_loss_active = budget->bits_loss_active,
                                       .relative = paced};
    seam_gates_step(gates, &args);
}

static seam_status gates_settle(seam_session *s, uint64_t step, bool skipped) {
    seam_exchange *const e = &s->exchange;
    double means[SEAM_MODULE_LINK_SITES_MAX] = {0}, pulls[SEAM_MODULE_LINK_SITES_MAX] = {0};
    for (uint32_t i = 0; i < e->link.pair_count; i++) {
        seam_gates *const gates = seam_site_gates(e->link.sites[i]);
        const uint32_t C = e->link.pairs[i].channels;
        if (!skipped) {
            gates_move(s, i, gates);
            pulls[i] = seam_gates_pull(e->signals[i].db, C);
        }
        means[i] = (double)seam_gates_bits_total(gates) / (double)C;
    }
    const seam_arbiter_view view = {.step = step,
                                    .skipped = skipped,
                                    .mean_in = means[0],
                                    .mean_out = means[1],
                                    .pull_in = pulls[0],
                                    .pull_out = pulls[1]};
    seam_arbiter_judge(&s->arbiter, &view);
    for (uint32_t i = 0; i < e->link.pair_count; i++) {
        seam_gates_widths(e->widths, seam_site_gates(e->link.sites[i]),
                          s->arbiter.budget.width_shift);
        SEAM_TRY(seam_step_propose(s, i, e->widths, step));
    }
    return SEAM_OK;
}

static seam_status fill_settle(seam_session *s, uint64_t step, bool skipped) {
    seam_exchange *const e = &s->exchange;
    seam_waterfill_share shares[SEAM_MODULE_LINK_SITES_MAX] = {{.channels = 0}};
    for (uint32_t i = 0; i < e->link.pair_count; i++) {
        seam_waterfill *const fill = seam_site_waterfill(e->link.sites[i]);
        const seam_waterfill_update_args args = {
            .squares = e->signals[i].squares,
            .rows = e->link.pairs[i].rows,
            .spans = e->signals[i].spans,
            .micros = seam_module_stack_tensor_count(&e->stacks[i][0])};
        if (!skipped) {
            seam_waterfill_update(fill, &args);
        }
        shares[i].channels = e->link.pairs[i].channels;
        seam_site_bounds(&shares[i].bits_min, &shares[i].bits_max, e->link.sites[i]);
        shares[i].sum = seam_waterfill_sum(&shares[i].live, fill);
    }
    const bool two = e->link.pair_count > 1;
    seam_arbiter_fill(&s->arbiter, step, &shares[0], two ? &shares[1] : NULL);
    for (uint32_t i = 0; i < e->link.pair_count; i++) {
        const seam_budget *const budget = &s->arbiter.budget;
        seam_waterfill_widths(e->widths, seam_site_waterfill(e->link.sites[i]),
                              i == 0 ? budget->total_in : budget->total_out, shares[i].bits_min,
                              shares[i].bits_max);
        SEAM_TRY(seam_step_propose(s, i, e->widths, step));
    }
    return SEAM_OK;
}
