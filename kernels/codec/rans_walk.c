/* Where the cells of a chunk stand in its packed codes, class by class: see rans_impl.h.
 *
 * A class's cells are taken group by group, its channels in rising order, so that both ends walk
 * the packed codes nearly in order. */
#include <string.h>

#include "rans_impl.h"
#include "try.h"

void seam_rans_plan_init(seam_rans_plan *plan, const seam_rans_tile_ops *tile,
                         const seam_rans_args *args, seam_rans_class *classes, void *arrays) {
    SEAM_ASSERT(args->rows >= 1);
    SEAM_ASSERT(args->channels >= 1);
    SEAM_ASSERT(seam_rans_bytes_max(args) < UINT32_MAX);
    memset(plan, 0, sizeof *plan);
    plan->widths = args->widths;
    plan->channels = args->channels;
    plan->groups = args->rows / SEAM_GROUP_ROWS;
    plan->tail_rows = args->rows % SEAM_GROUP_ROWS;
    plan->channel_at = arrays;
    plan->members = plan->channel_at + args->channels;
    plan->counts = (uint16_t *)(void *)(plan->members + args->channels);
    plan->spans = (seam_rans_span *)(void *)(plan->counts + 16 * (size_t)args->channels);
    plan->class_of = (uint8_t *)(plan->spans + args->channels);
    plan->classes = classes;
    plan->tile = tile;
    for (uint32_t c = 0; c < args->channels; c++) {
        SEAM_ASSERT(args->widths[c] >= 1);
        SEAM_ASSERT(args->widths[c] <= SEAM_BITS_MAX);
        plan->channel_at[c] = plan->group_bytes;
        plan->group_bytes += 4u * args->widths[c];
    }
}

size_t seam_rans_arrays_bytes(uint32_t channels) {
    return (size_t)channels *
           (2 * sizeof(uint32_t) + 16 * sizeof(uint16_t) + sizeof(seam_rans_span) + 1);
}

size_t seam_rans_tail_bytes(const seam_rans_plan *plan) {
    return ((size_t)plan->group_bytes / 4 * plan->tail_rows + 7) / 8;
}

/* Words of a channel's cell that are not modelled. */
static uint32_t stored_planes(const seam_rans_plan *plan, uint32_t channel) {
    const uint32_t kind = plan->classes[plan->class_of[channel]].kind;
    return kind == SEAM_RANS_KIND_ZERO ? 0 : plan->widths[channel] - kind;
}

void seam_rans_members_sort(seam_rans_plan *plan) {
    uint32_t *begin = plan->class_begin;
    memset(begin, 0, sizeof plan->class_begin);
    for (uint32_t c = 0; c < plan->channels; c++) {
        begin[plan->class_of[c] + 1]++;
    }
    for (uint32_t i = 0; i < SEAM_RANS_CLASSES_MAX; i++) {
        begin[i + 1] += begin[i];
    }
    uint32_t filled[SEAM_RANS_CLASSES_MAX] = {0};
    for (uint32_t c = 0; c < plan->channels; c++) {
        const uint32_t k = plan->class_of[c];
        plan->members[begin[k] + filled[k]++] = plan->channel_at[c] + 4 * stored_planes(plan, c);
    }
}

bool seam_rans_kind_is_coded(uint32_t kind) {
    return kind >= 1 && kind <= 8;
}

/* Neighbours that travel alike make one span. */
void seam_rans_spans_find(seam_rans_plan *plan) {
    plan->span_count = 0;
    plan->stored_bytes = 0;
    for (uint32_t c = 0; c < plan->channels; c++) {
        const bool zero = plan->classes[plan->class_of[c]].kind == SEAM_RANS_KIND_ZERO;
        const uint32_t planes = zero ? plan->widths[c] : stored_planes(plan, c);
        seam_rans_span *last = plan->spans + plan->span_count - 1;
        if (planes == 0) {
            continue;
        }
        if (plan->span_count > 0 && last->zero == zero &&
            last->at + last->bytes == plan->channel_at[c]) {
            last->bytes += 4 * planes;
        } else {
            plan->spans[plan->span_count++] =
                (seam_rans_span){plan->channel_at[c], 4 * planes, zero};
        }
        plan->stored_bytes += zero ? 0 : 4 * (size_t)planes * plan->groups;
    }
}

static uint32_t round_up_div(uint32_t a, uint32_t b) {
    return a / b + (a % b != 0 ? 1 : 0);
}

seam_rans_walk seam_rans_walk_of(const seam_rans_plan *plan, uint32_t class_idx) {
    seam_rans_walk walk = {
        .plan = plan,
        .cls = &plan->classes[class_idx],
        .members = plan->members + plan->class_begin[class_idx],
        .member_count = plan->class_begin[class_idx + 1] - plan->class_begin[class_idx],
        .unit = seam_rans_unit_of(plan->classes[class_idx].kind),
    };
    walk.cells = walk.member_count * plan->groups;
    walk.steps = round_up_div(walk.cells, walk.unit.cells);
    return walk;
}

static uint32_t walk_blocks(const seam_rans_walk *walk) {
    return round_up_div(walk->steps, SEAM_RANS_BLOCK_STEPS);
}

uint32_t seam_rans_block_steps(const seam_rans_walk *walk, uint32_t begin) {
    const uint32_t left = walk->steps - begin;
    return left < SEAM_RANS_BLOCK_STEPS ? left : SEAM_RANS_BLOCK_STEPS;
}

uint32_t seam_rans_block_count(const seam_rans_plan *plan) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->class_count; i++) {
        if (seam_rans_kind_is_coded(plan->classes[i].kind)) {
            const seam_rans_walk walk = seam_rans_walk_of(plan, i);
            count += walk_blocks(&walk);
        }
    }
    return count;
}

uint32_t seam_rans_cells_find(uint32_t *ret_at, const seam_rans_walk *walk, uint32_t step,
                              uint32_t steps) {
    const uint32_t first = step * walk->unit.cells;
    const uint32_t count = walk->cells - first < steps * walk->unit.cells
                               ? walk->cells - first
                               : steps * walk->unit.cells;
    uint32_t group_at = first / walk->member_count * walk->plan->group_bytes;
    uint32_t m = first % walk->member_count;
    for (uint32_t left = count; left > 0; m = 0, group_at += walk->plan->group_bytes) {
        const uint32_t rest = walk->member_count - m;
        const size_t run = rest < left ? rest : left;
        const uint32_t *restrict members = walk->members + m;
        uint32_t *restrict at = ret_at + (count - left);
        for (size_t i = 0; i < run; i++) {
            at[i] = group_at + members[i];
        }
        left -= (uint32_t)run;
    }
    return count;
}

uint8_t seam_rans_pad_bits(const seam_rans_walk *walk, uint32_t cells) {
    const uint32_t symbol = seam_rans_pad_symbol(walk->cls);
    uint32_t bits = 0;
    for (uint32_t i = cells; i < walk->unit.cells; i++) {
        bits |= symbol << (i * walk->unit.planes);
    }
    return (uint8_t)bits;
}
