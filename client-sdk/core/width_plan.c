/* See width_plan.h.  Read next: pace.h (the schedule), settle.c and module_settle.c, which a run
 * has instead. */
#include "width_plan.h"

#include <math.h>

#include "arena.h"
#include "try.h"

seam_status seam_width_plan_init(seam_width_plan *ret_plan, const seam_session *session) {
    const seam_module_link *const link = &session->exchange.link;
    *ret_plan = (seam_width_plan){.counts = {session->width_count, session->width_count}};
    if (session->exchange.is_on) {
        ret_plan->counts[0] = link->pairs[0].channels;
        ret_plan->counts[1] = link->pair_count > 1 ? link->pairs[1].channels : 0;
    }
    ret_plan->widths = seam_mem_zalloc((size_t)ret_plan->counts[0] + ret_plan->counts[1], 1);
    return ret_plan->widths != NULL ? SEAM_OK : SEAM_E_MEMORY;
}

void seam_width_plan_deinit(seam_width_plan *plan) {
    seam_mem_free(plan->widths);
}

/* After so many steps of the allocator.  Gates without a pace (the paper's) go down by what Adam
 * moves each of them in a step, its rate, for the bits loss presses all of them the same way and a
 * step's size does not depend on how hard; at the target that loss rests. */
static double bits_after(const seam_core_config *config, uint64_t steps) {
    const seam_pace_config *const pace = &config->arbiter.pace;
    if (config->codec.allocator == SEAM_ALLOCATOR_WATERFILL || pace->steps_to_target > 0) {
        return seam_pace_bits(pace, steps);
    }
    const double gone = (double)config->arbiter.bits_lr * (double)steps;
    return gone < pace->logit_distance ? seam_gates_bits_after(&config->gates, gone)
                                       : pace->bits_target;
}

/* The mean that is in force.  Version 1 has the start's; from then on a version comes every lag
 * steps, of what was wanted when it was proposed. */
static double bits_at(const seam_core_config *config, uint64_t step) {
    const uint64_t lag = config->lag_steps;
    SEAM_ASSERT(lag > 0);
    if (!seam_codec_plan_has_gates(&config->codec)) {
        return (double)config->codec.bits;
    }
    if (step < lag) {
        return rint(config->arbiter.pace.bits_start);
    }
    const uint64_t since = step / lag * lag;
    const bool waterfill = config->codec.allocator == SEAM_ALLOCATOR_WATERFILL;
    return bits_after(config, waterfill ? since + 1 : since + 1 - lag);
}

/* Do both allocations have widths that waterfill gives? */
static bool is_filled(const seam_width_plan *plan, const seam_session *s) {
    const seam_codec_plan *const codec = &s->config.codec;
    const bool both =
        seam_codec_plan_has_gates_modules(codec)
            ? plan->counts[1] > 0
            : seam_codec_plan_has_gates_in(codec) && seam_codec_plan_has_gates_out(codec);
    return both && codec->allocator == SEAM_ALLOCATOR_WATERFILL;
}

/* Sums of the widths, as if every channel of either allocation were worth as much: the mean at
 * both, but that waterfill gives site 0 more where its rows repeat. */
static void totals_make(uint32_t ret_totals[SEAM_WIDTH_PLAN_ALLOCS], const seam_width_plan *plan,
                        const seam_session *s, uint64_t step) {
    const double bits = bits_at(&s->config, step);
    for (uint32_t k = 0; k < SEAM_WIDTH_PLAN_ALLOCS; k++) {
        ret_totals[k] = (uint32_t)lrint(bits * (double)plan->counts[k]);
    }
    if (step < s->config.lag_steps || !is_filled(plan, s)) {
        return;
    }
    const seam_arbiter *const arbiter = &s->arbiter;
    seam_waterfill_share shares[SEAM_WIDTH_PLAN_ALLOCS] = {
        {.values = arbiter->values_in, .values_used = arbiter->values_used_in},
        {.values = arbiter->values_out, .values_used = arbiter->values_out}};
    for (uint32_t k = 0; k < SEAM_WIDTH_PLAN_ALLOCS; k++) {
        shares[k].channels = shares[k].live = plan->counts[k];
        shares[k].bits_min = (uint8_t)ceilf(s->config.gates.bits_min);
        shares[k].bits_max = (uint8_t)floorf(s->config.gates.bits_max);
    }
    seam_waterfill_totals(ret_totals, shares, SEAM_WIDTH_PLAN_ALLOCS, bits);
}

/* Whole widths, spread evenly: positions of a sample (amaq_token) come unequally often. */
void seam_width_plan_make(seam_width_plan *plan, const seam_session *session, uint64_t step) {
    const seam_session *const s = session;
    uint32_t totals[SEAM_WIDTH_PLAN_ALLOCS];
    uint8_t *widths = plan->widths;
    totals_make(totals, plan, s, step);
    for (uint32_t k = 0; k < SEAM_WIDTH_PLAN_ALLOCS; k++) {
        const uint32_t count = plan->counts[k];
        for (uint64_t i = 0; i < count; i++) {
            widths[i] = (uint8_t)((i + 1) * totals[k] / count - i * totals[k] / count);
        }
        plan->allocs[k] = (seam_alloc){.version = 1, .bits_total = totals[k], .widths = widths};
        widths += count;
    }
    plan->mean_bits = seam_codec_plan_has_gates(&s->config.codec) ? bits_at(&s->config, step) : 0.0;
}
