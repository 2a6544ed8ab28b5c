/* Gradients of an adapter's tensors against central differences of the loss, on the reference in
 * double: what the tests of blocks.h share.  For test programs only. */
#ifndef SEAM_TEST_GRADIENT_CASE_H
#define SEAM_TEST_GRADIENT_CASE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "synthetic_model.h"
#include "try.h"

enum { GRADIENT_PROBES = 4 };

static inline double loss_at(seam_test_engine *e, seam_adapter *adapter, const seam_test_text *text,
                             uint32_t tensor, float *values, size_t i, float value) {
    const float was = values[i];
    values[i] = value;
    seam_test_check(seam_adapter_write(adapter, e->stream, tensor, values), "write", NULL);
    const double loss = seam_test_forward(e, adapter, text);
    values[i] = was;
    seam_test_check(seam_adapter_write(adapter, e->stream, tensor, values), "write", NULL);
    return loss;
}

/* A few values of one tensor, after a backward pass with scale 1.
 *
 * (loss(w + h) - loss(w - h)) / 2h, both of exact floats.  Its truncation error is h^2/6 of the
 * third derivative: about 1e-6 of the gradient's own size here; 2e-5 of the tensor's largest
 * gradient leaves room for it. */
static inline void gradient_case(seam_test_engine *e, seam_adapter *adapter,
                                 const seam_test_text *text, uint32_t tensor) {
    seam_adapter_tensor shape;
    seam_adapter_describe(&shape, adapter, tensor);
    const size_t count = (size_t)shape.rows * shape.cols;
    SEAM_ASSERT(count > 0);
    float *values = test_calloc(2 * count, sizeof *values), *grad = values + count;
    seam_test_check(seam_adapter_read(values, adapter, e->stream, tensor), "read", NULL);
    seam_test_check(seam_adapter_read_gradient(grad, adapter, e->stream, tensor), "read", NULL);
    double largest = 0;
    for (size_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs((double)grad[i]));
    }
    /* A bias of k moves all scores of a query alike: its gradient is zero but for RoPE. */
    assert_true(largest > 1e-6);
    for (uint32_t probe = 0; probe < GRADIENT_PROBES; probe++) {
        const size_t i = seam_synthetic_word(shape.name, probe) % count;
        const float high = values[i] + 0x1p-10f, low = values[i] - 0x1p-10f;
        const double expected = (loss_at(e, adapter, text, tensor, values, i, high) -
                                 loss_at(e, adapter, text, tensor, values, i, low)) /
                                ((double)high - (double)low);
        if (!(fabs((double)grad[i] - expected) <= 2e-5 * largest)) {
            fail_msg("%s[%zu]: gradient %.9g, differences say %.9g", shape.name, i, (double)grad[i],
                     expected);
        }
    }
    test_free(values);
}

#endif
