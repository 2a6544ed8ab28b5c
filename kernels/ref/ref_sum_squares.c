/* Sum of squares, reference: one running sum. */
#include "ref.h"

seam_status seam_ref_sum_squares(seam_stream *stream, double *ret_sum, const void *x,
                                 size_t count) {
    (void)stream;
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += ((const double *)x)[i] * ((const double *)x)[i];
    }
    *ret_sum = sum;
    return SEAM_OK;
}
