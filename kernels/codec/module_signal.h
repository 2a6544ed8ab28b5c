/* What a step says of the gates of transmitted modules: the signals of gates.h, formed from the
 * modules themselves.  SPEC 3.1.
 *
 * In an adapter exchange the gates are those of the parameters, a gradient has its parameters'
 * widths, and who owns the parameters has the gradient too: so nothing of this travels.  A row is a
 * row of the stack, g the gradient as it came, of the step's mean loss:
 *   exact:      x^ - x of the parameters as they were sent; needs that they are sent
 *   surrogate:  D of the parameters' own range at the widths in force.  N_lab * g^2 is the Fisher
 *               information of a parameter, because rows of the loss have independent g of mean
 *               zero: so the formula is that of activations, with one g a parameter.
 *
 * Of the encoder of parameters only.  No I/O, no allocation after create.  One thread at a time. */
#ifndef SEAM_MODULE_SIGNAL_H
#define SEAM_MODULE_SIGNAL_H

#include "module_link.h"

typedef struct seam_module_signal {
    uint32_t channels;
    float *db;                 /* (C) dL/db_c of the step */
    float *squares;            /* (C) sum over the rows of g^2 */
    float *spans;              /* (C) sum over the tensors of hi - lo */
    float *steps;              /* (C) scratch: D_c of a tensor */
    float *sums;               /* (C) scratch: squares of a tensor */
    float *x, *g;              /* (largest tensor's rows, C) scratch */
    float *decoded;            /* (rows, C): the parameters as they were sent; NULL: not exact */
    seam_module whole;         /* decoded as a module, */
    seam_module_stack as_sent; /* and its stack, for seam_module_link_args.ret_decoded */
} seam_module_signal;

/* What _create takes, for plans. */
size_t seam_module_signal_bytes(const seam_module_pair *pair, bool exact);
/* Of a pair that was checked.  SEAM_E_MEMORY. */
seam_status seam_module_signal_create(seam_module_signal *ret_signal, const seam_module_pair *pair,
                                      bool exact);
void seam_module_signal_destroy(seam_module_signal *signal); /* of zeros too */

typedef struct seam_module_signal_args {
    const seam_module_stack *parameters, *gradients; /* of the pair */
    const uint8_t *widths;                           /* (C) in force at the step */
    uint32_t labelled_rows;                          /* N_lab of the step */
} seam_module_signal_args;
/* db, squares and spans become those of this step. */
void seam_module_signal_take(seam_module_signal *signal, const seam_module_signal_args *args);

#endif
