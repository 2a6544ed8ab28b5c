/* See gate_group.h.  Every vector has as many values as any other where it is used, so that each
 * has weight 1 in the bits loss. */
#include "gate_group.h"

#include <math.h>
#include <string.h>

#include "bytes.h"
#include "codec.h"
#include "try.h"

#define PRICE_DEFAULT    0.02 /* where no gate has a gradient: SPEC 3.1 */
#define STATE_HEAD_BYTES 48   /* flags u64, log price, last error, its speed, price, rate: f64 */

void seam_gate_group_carve(seam_gate_group *group, seam_arena *arena, uint32_t count,
                           uint32_t channels) {
    const size_t values = (size_t)count * channels;
    group->count = count;
    group->channels = channels;
    if (count == 0) {
        return;
    }
    group->gates = seam_arena_take(arena, count * sizeof *group->gates);
    group->reports = seam_arena_take(arena, count * sizeof *group->reports);
    group->widths = seam_arena_take(arena, values);
    group->db = seam_arena_take(arena, values * sizeof *group->db);
}

size_t seam_gate_group_bytes(const seam_gate_group *group) {
    return (size_t)group->count * group->channels * 4 * sizeof(float); /* q, m, v, bits */
}

static void widths_put(seam_gate_group *group) {
    for (uint32_t i = 0; i < group->count; i++) {
        seam_gates_widths(group->widths + (size_t)i * group->channels, &group->gates[i], 0.0f);
    }
}

seam_status seam_gate_group_init(seam_gate_group *group, const seam_gate_group_config *config) {
    group->config = *config;
    const seam_pace_config pace = {.bits_start = (double)config->gates.bits_start,
                                   .bits_target = (double)config->bits_target,
                                   .steps_to_target = config->steps_to_target,
                                   .shape = SEAM_PACE_LINEAR,
                                   .logit_distance =
                                       seam_gates_distance(&config->gates, config->bits_target),
                                   .price_default = PRICE_DEFAULT};
    seam_pace_init(&group->pace, &pace);
    for (uint32_t i = 0; i < group->count; i++) {
        SEAM_TRY(seam_gates_init(&group->gates[i], &config->gates, group->channels));
    }
    widths_put(group);
    return SEAM_OK;
}

void seam_gate_group_deinit(seam_gate_group *group) {
    for (uint32_t i = 0; i < group->count && group->gates != NULL; i++) {
        seam_gates_deinit(&group->gates[i]);
    }
}

/* ---- the step's end ---- */

/* What the step used. */
static seam_gate_report report_of(const seam_gate_group *group, uint32_t idx) {
    const uint8_t *widths = group->widths + (size_t)idx * group->channels;
    seam_gate_report report = {.site = group->config.site_first + idx, .bits_min = SEAM_BITS_MAX};
    for (uint32_t c = 0; c < group->channels; c++) {
        report.bits_total += widths[c];
        report.bits_min = widths[c] < report.bits_min ? widths[c] : report.bits_min;
        report.bits_max = widths[c] > report.bits_max ? widths[c] : report.bits_max;
    }
    return report;
}

static void gates_move(seam_gate_group *group, uint64_t step) {
    const seam_pace *pace = &group->pace;
    double pull = 0.0, bits = 0.0;
    for (uint32_t i = 0; i < group->count; i++) {
        const size_t at = (size_t)i * group->channels;
        float *db = group->db + at;
        if (!group->config.exact) {
            seam_gates_refine(db, &group->gates[i], group->widths + at);
        }
        const seam_gates_step_args args = {.db = db,
                                           .lr = (float)pace->bits_lr,
                                           .beta = (float)pace->price,
                                           .bits_loss_active = seam_pace_acts(pace),
                                           .relative = true};
        seam_gates_step(&group->gates[i], &args);
        pull += seam_gates_pull(db, group->channels);
        bits += (double)seam_gates_bits_total(&group->gates[i]);
    }
    const double mean = bits / ((double)group->count * (double)group->channels);
    const double slope = 2.0 * mean; /* of the L2 bits loss */
    seam_pace_judge(&group->pace, step, mean, pull / (slope * (double)group->count));
}

void seam_gate_group_apply(seam_gate_group *group, uint64_t step, bool skipped) {
    if (group->count == 0) {
        return;
    }
    for (uint32_t i = 0; i < group->count; i++) {
        group->reports[i] = report_of(group, i);
    }
    if (!skipped) {
        gates_move(group, step);
        widths_put(group);
    }
    for (uint32_t i = 0; i < group->count; i++) {
        group->reports[i].gate_bits_total = seam_gates_bits_total(&group->gates[i]);
    }
    seam_gate_group_abort(group);
}

void seam_gate_group_abort(seam_gate_group *group) {
    if (group->count > 0) {
        memset(group->db, 0, (size_t)group->count * group->channels * sizeof *group->db);
    }
}

/* ---- state ---- */

size_t seam_gate_group_state_bytes(uint32_t count, uint32_t channels) {
    return count == 0 ? 0 : STATE_HEAD_BYTES + count * seam_gates_state_bytes(channels);
}

void seam_gate_group_save(uint8_t *ret, const seam_gate_group *group) {
    const seam_pace *pace = &group->pace;
    const double values[] = {pace->log_price, pace->error_last, pace->error_speed, pace->price,
                             pace->bits_lr};
    seam_put_u64(ret, (pace->begun ? 1 : 0) | (pace->reached ? 2 : 0));
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        seam_put_f64(ret + 8 + 8 * i, values[i]);
    }
    for (uint32_t i = 0; i < group->count; i++) {
        seam_gates_save(ret + STATE_HEAD_BYTES + i * seam_gates_state_bytes(group->channels),
                        &group->gates[i]);
    }
}

seam_status seam_gate_group_load(seam_gate_group *group, const uint8_t *bytes) {
    seam_pace *pace = &group->pace;
    double *const values[] = {&pace->log_price, &pace->error_last, &pace->error_speed, &pace->price,
                              &pace->bits_lr};
    const uint64_t flags = seam_get_u64(bytes);
    SEAM_TRY(flags <= 3 ? SEAM_OK : SEAM_E_FORMAT);
    pace->begun = (flags & 1) != 0;
    pace->reached = (flags & 2) != 0;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        *values[i] = seam_get_f64(bytes + 8 + 8 * i);
        SEAM_TRY(isfinite(*values[i]) ? SEAM_OK : SEAM_E_NONFINITE);
    }
    const size_t gates_bytes = seam_gates_state_bytes(group->channels);
    for (uint32_t i = 0; i < group->count; i++) {
        SEAM_TRY(seam_gates_load(&group->gates[i], bytes + STATE_HEAD_BYTES + i * gates_bytes,
                                 gates_bytes));
    }
    widths_put(group);
    return SEAM_OK;
}
