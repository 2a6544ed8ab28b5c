/* See module_signal.h.  A tensor of the stack has its own ranges, so sums go by tensors. */
#include "module_signal.h"

#include <string.h>

#include "arena.h"
#include "gates.h"
#include "try.h"

/* Rows of the largest tensor. */
static size_t rows_most(const seam_module_pair *pair) {
    return pair->rows < SEAM_ROWS_MAX ? (size_t)pair->rows : SEAM_ROWS_MAX;
}

size_t seam_module_signal_bytes(const seam_module_pair *pair, bool exact) {
    const size_t rows = 2 * rows_most(pair) + (exact ? (size_t)pair->rows : 0);
    return (5 + rows) * pair->channels * sizeof(float);
}

seam_status seam_module_signal_create(seam_module_signal *ret_signal, const seam_module_pair *pair,
                                      bool exact) {
    seam_module_signal *const s = ret_signal;
    const size_t C = pair->channels;
    const size_t rows = rows_most(pair);
    SEAM_ASSERT(pair->rows <= UINT32_MAX);
    *s = (seam_module_signal){.channels = pair->channels};
    s->db = seam_mem_zalloc(5 * C, sizeof *s->db);
    s->x = seam_mem_zalloc(2 * rows * C, sizeof *s->x);
    if (exact) {
        s->decoded = seam_mem_zalloc((size_t)pair->rows * C, sizeof *s->decoded);
    }
    if (s->db == NULL || s->x == NULL || (exact && s->decoded == NULL)) {
        seam_module_signal_destroy(s);
        return SEAM_E_MEMORY;
    }
    s->squares = s->db + C;
    s->spans = s->squares + C;
    s->steps = s->spans + C;
    s->sums = s->steps + C;
    s->g = s->x + rows * C;
    s->whole = (seam_module){.name = "decoded",
                             .rows = (uint32_t)pair->rows,
                             .rank = pair->channels,
                             .order = SEAM_MODULE_ROWS,
                             .values = s->decoded};
    s->as_sent = (seam_module_stack){
        .modules = &s->whole, .module_count = 1, .tensor_rows_max = SEAM_ROWS_MAX};
    return SEAM_OK;
}

void seam_module_signal_destroy(seam_module_signal *signal) {
    seam_mem_free(signal->decoded);
    seam_mem_free(signal->x);
    seam_mem_free(signal->db);
    *signal = (seam_module_signal){.channels = 0};
}

/* hi - lo of the rows in s->x are added to spans; steps: what they are at these widths. */
static void ranges_add(seam_module_signal *s, const uint8_t *widths, uint32_t rows) {
    const uint32_t C = s->channels;
    for (uint32_t c = 0; c < C; c++) {
        float low = s->x[c], high = s->x[c];
        for (uint32_t t = 1; t < rows; t++) {
            const float x = s->x[(size_t)t * C + c];
            low = x < low ? x : low;
            high = x > high ? x : high;
        }
        s->spans[c] += high - low;
        s->steps[c] = (high - low) / (float)((1u << widths[c]) - 1u);
    }
}

void seam_module_signal_take(seam_module_signal *signal, const seam_module_signal_args *args) {
    seam_module_signal *const s = signal;
    const uint32_t C = s->channels;
    const uint32_t count = seam_module_stack_tensor_count(args->parameters);
    SEAM_ASSERT(args->parameters->tensor_rows_max == args->gradients->tensor_rows_max);
    memset(s->db, 0, 3 * (size_t)C * sizeof *s->db); /* squares, spans too */
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t rows = seam_module_stack_tensor_rows(args->parameters, i);
        const size_t begin = (size_t)i * args->parameters->tensor_rows_max;
        seam_module_stack_gather(s->x, args->parameters, i);
        seam_module_stack_gather(s->g, args->gradients, i);
        ranges_add(s, args->widths, rows);
        memset(s->sums, 0, C * sizeof *s->sums);
        seam_gates_add_squares(s->sums, s->g, rows, C);
        for (uint32_t c = 0; c < C; c++) {
            s->squares[c] += s->sums[c];
        }
        if (s->decoded != NULL) {
            seam_gates_add_exact(s->db, s->g, s->x, s->decoded + begin * C, args->widths, rows, C);
        } else {
            seam_gates_surrogate(s->db, s->sums, s->steps, args->widths, args->labelled_rows, C);
        }
    }
}
