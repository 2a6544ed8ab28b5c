/* What the op tests share: one device beside the reference, inputs made from a seed, outputs read
 * back as double, and the comparisons.
 *
 * An input is a pure function of (seed, element index), rounded to bf16, so that every backend
 * and type gets exactly the same numbers, and rows [row0, ..) of a case can be run alone. */
#ifndef SEAM_TEST_HARNESS_H
#define SEAM_TEST_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ops.h"

typedef enum kind { ACT, ACC, HEADS } kind; /* the op table's act, acc, qkv */

#define OUTPUTS_MAX 16
#define BUFFERS_MAX 64

/* Seeds name tensors; 0 is none. */
typedef struct output {
    const char *name;
    double *x;
    size_t rows, cols, ld; /* x is (rows, cols); inputs of the same rows have ld columns */
    uint32_t dy_seed;      /* forward output whose upstream gradient has this seed, or 0 */
    uint32_t grad_seed;    /* gradient of the input with this seed, or 0 */
} output;

/* One run of an op case: device buffers, freed together, and outputs. */
typedef struct run {
    const seam_ops *ops;
    seam_backend *backend;
    seam_stream *stream;
    uint32_t nudge_seed; /* finite differences: the input with this seed gets + nudge * direction */
    double nudge;
    void *buffer[BUFFERS_MAX];
    uint32_t buffer_count;
    output out[OUTPUTS_MAX];
    uint32_t out_count;
} run;

void run_open(run *r, seam_backend *backend);
void run_close(run *r);

/* (rows, cols) values of about `scale` in size from row row0 on. */
void *run_input(run *r, uint32_t seed, kind type, size_t row0, size_t rows, size_t cols,
                double scale);
/* `constant` everywhere (outputs start as NaN: an op must write them). */
void *run_const(run *r, kind type, size_t count, double constant);
/* Reads back the first cols of rows of `ld`. */
void run_output(run *r, const char *name, kind type, const void *device, size_t rows, size_t cols,
                size_t ld, uint32_t dy_seed, uint32_t grad_seed);

double input_value(uint32_t seed, size_t idx, double scale);
double direction_value(uint32_t seed, size_t idx);

/* A case: its op, sizes and expected precision. */
typedef struct op_case {
    const char *name;
    void (*fn)(run *r, const struct op_case *c, uint32_t row0, uint32_t T);
    uint32_t T;               /* rows */
    uint32_t size[8];         /* as the op's file says */
    double scale;             /* size of the inputs */
    double f32_tol, bf16_tol; /* Frobenius error over the reference's norm */
    bool rows_alone;          /* outputs with T rows do not depend on other rows */
    bool no_gradient_check;
} op_case;

/* Outputs y of a product with a LoRA share of 1e-3 beside values near 1, and y without it. */
void linear_small_share(run *r);

extern const op_case linear_cases[], attention_cases[], prefix_cases[], row_cases[];
extern const op_case trained_cases[];
extern const size_t trained_case_count;
extern const size_t linear_case_count, attention_case_count, prefix_case_count, row_case_count;
/* Of backends created with fp8. */
extern const op_case fp8_cases[];
extern const size_t fp8_case_count;
/* fp8_rows.c, for a device that rounds rows before products; returns its failures. */
uint32_t fp8_rows_check(seam_backend *backend);
/* fp8_weight.c; its failures. */
uint32_t fp8_weight_check(seam_backend *backend, seam_backend *ref);

/* Frobenius norm of the difference over that of `want`; infinite when not finite alike. */
double relative_error(const double *got, const double *want, size_t count);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            check_failed(#condition, __FILE__, __LINE__);                                          \
        }                                                                                          \
    } while (0)
_Noreturn void check_failed(const char *condition, const char *file, int line);

#endif
