/* The end of a step: the optimizer, then site 1's allocator and what Commit says of it, then the
 * gates between the blocks (layer_gates.c) and of a prefix (kernels/model/prefix_quantizer.c).
 * SPEC 3.1, WIRE.md section 4, point 4.
 * Read next: at the client, core/step.c seam_step_commit. */
#include <math.h>
#include <string.h>

#include "token_gates.h"
#include "trainer_internal.h"
#include "try.h"

bool seam_trainer_has_gates_out(const seam_trainer *t) {
    return seam_codec_plan_has_gates_out(&t->config->codec);
}

seam_status seam_trainer_alloc(const seam_alloc **ret_alloc, seam_site *site, uint64_t step,
                               seam_error *err) {
    const seam_alloc *alloc = NULL;
    const seam_status st = seam_site_alloc_at(&alloc, site, step);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "allocation: the proposal for site %u has no answer",
                              seam_site_config_of(site)->site_id);
    }
    *ret_alloc = alloc != NULL && alloc->widths != NULL ? alloc : NULL;
    return SEAM_OK;
}

static seam_status gates_move(seam_trainer *t, seam_gates *gates) {
    const bool paced = t->config->codec.steps_to_target > 0;
    if (paced && !t->config->codec.gate_signal_exact) {
        const seam_alloc *alloc = NULL;
        SEAM_TRY(seam_trainer_alloc(&alloc, t->site_out, t->at->micro.step, NULL));
        SEAM_ASSERT(alloc != NULL);
        seam_gates_refine(t->db_out, gates, alloc->widths);
    }
    const seam_gates_step_args args = {.db = t->db_out,
                                       .lr = t->budget.bits_lr,
                                       .beta = t->budget.beta,
                                       .bits_loss_active = t->budget.bits_loss_active,
                                       .relative = paced};
    seam_gates_step(gates, &args);
    seam_gates_widths(t->widths, gates, t->budget.width_shift);
    return SEAM_OK;
}

/* False: the client has not yet told this site's total. */
static bool fill_move(seam_trainer *t, seam_waterfill *fill) {
    const seam_waterfill_update_args args = {.squares = t->db_out,
                                             .rows = t->rows_out,
                                             .spans = t->spans_out,
                                             .micros = t->at->micro.micro_count};
    uint8_t low, high;
    seam_waterfill_update(fill, &args);
    seam_site_bounds(&low, &high, t->site_out);
    if (t->budget.bits_total > 0) {
        seam_waterfill_widths(t->widths, fill, t->budget.bits_total, low, high);
    }
    return t->budget.bits_total > 0;
}

/* Site 1's allocator after the step; a proposal if the integer widths have moved. */
static seam_status widths_apply(seam_step_result *result, seam_trainer *t) {
    seam_gates *const gates = seam_site_gates(t->site_out);
    if (t->has_budget_next && t->budget_next.effective_step <= t->at->micro.step) {
        t->budget = t->budget_next;
        t->has_budget_next = false;
    }
    if (gates != NULL) {
        SEAM_TRY(gates_move(t, gates));
    } else if (!fill_move(t, seam_site_waterfill(t->site_out))) {
        return SEAM_OK;
    }
    bool proposed = false;
    const seam_alloc *alloc = NULL;
    SEAM_TRY(seam_site_propose(&alloc, &proposed, t->site_out, t->widths,
                               t->at->micro.step + t->config->alloc_lag_steps));
    result->proposal = proposed ? alloc : NULL;
    return SEAM_OK;
}

/* By token the mean of the step's rows counts, not that of the gates. */
static uint32_t gates_total(const seam_trainer *t, const seam_gates *gates) {
    return t->by_token ? (uint32_t)lrint(seam_token_gates_mean(gates) * t->width_count)
                       : seam_gates_bits_total(gates);
}

/* What Commit says of site 1; afterwards its sums are those of no step. */
static void site_report(seam_step_result *result, seam_trainer *t) {
    const seam_gates *const gates = seam_site_gates(t->site_out);
    if (gates != NULL) {
        result->gate_bits_total = gates_total(t, gates);
        result->gate_pull = seam_gates_pull(t->db_out, t->width_count);
    } else {
        result->gate_bits_total = seam_site_alloc_newest(t->site_out)->bits_total;
        result->cost_sum =
            seam_waterfill_sum(&result->cost_channels, seam_site_waterfill(t->site_out));
    }
    memset(t->db_out, 0, t->width_count * sizeof(float));
    memset(t->counts_out, 0, t->by_token ? t->width_count * sizeof(uint32_t) : 0);
    memset(t->spans_out, 0, t->channels * sizeof(float));
    t->rows_out = 0;
}

/* The optimizer over what both ends have. */
SEAM_ON_GPU static seam_status adapter_apply(seam_step_result *result, seam_trainer *t,
                                             double client_squares, seam_stream *stream) {
    seam_adapter *const adapter = seam_trainer_adapter_used(t);
    const seam_optimizer_config *optimizer = &t->optimizer;
    double squares = 0;
    if (adapter != NULL) {
        SEAM_TRY(seam_adapter_gradient_squares(&squares, adapter, stream));
    }
    const double norm = sqrt(squares + client_squares);
    result->skipped = !isfinite(norm);
    result->grad_norm = result->skipped ? 0 : norm;
    result->clip_factor = result->skipped ? 0 : seam_clip_factor(optimizer, norm);
    if (adapter == NULL) {
        return SEAM_OK;
    }
    return result->skipped ? seam_adapter_clear_gradient(adapter, stream)
                           : seam_adapter_update(&t->state_hash, adapter, stream, optimizer,
                                                 t->at->micro.step, result->clip_factor);
}

/* The gates of a prefix, and what the next step's passes read. */
SEAM_ON_GPU static seam_status prefix_apply(seam_step_result *result, seam_trainer *t,
                                            seam_stream *stream) {
    if (t->prefix == NULL) {
        return SEAM_OK;
    }
    const seam_gate_group *group = seam_prefix_quantizer_group(t->prefix);
    result->prefix = group->reports;
    result->prefix_count = group->count;
    return seam_prefix_quantizer_apply(t->prefix, stream, t->at->micro.step, result->skipped);
}

seam_status seam_trainer_apply(seam_step_result *ret, seam_trainer *t, double client_squares,
                               seam_stream *stream) {
    seam_step_result result = {0};
    if (t->prefix != NULL) { /* of the gradient, which the optimizer clears */
        SEAM_TRY(
            seam_prefix_quantizer_signal(t->prefix, stream, (uint32_t)t->at->micro.labelled_total));
    }
    if (t->exchange.is_on) {
        const seam_status st = seam_exchange_step(&result.grad_norm, &t->state_hash, t, stream);
        result.skipped = st == SEAM_E_NONFINITE;
        SEAM_TRY(result.skipped ? SEAM_OK : st);
    } else {
        SEAM_TRY(adapter_apply(&result, t, client_squares, stream));
    }
    result.state_hash = t->state_hash;
    result.lr = seam_schedule_lr(&t->optimizer, t->at->micro.step);
    if (t->by_token && seam_trainer_has_gates_out(t)) {
        seam_token_gates_weigh(t->weights_out, t->counts_out, t->width_count);
    }
    if (seam_trainer_has_gates_out(t) && !result.skipped) {
        SEAM_TRY(widths_apply(&result, t));
    }
    if (seam_trainer_has_gates_out(t)) {
        site_report(&result, t);
    }
    SEAM_TRY(seam_layers_apply(&result, t, stream));
    SEAM_TRY(prefix_apply(&result, t, stream));
    if (t->keeper != NULL) {
        seam_cache_keeper_mark(t->keeper);
    }
    *ret = result;
    return SEAM_OK;
}
