/* Reception of one tensor: checks that its frames follow each other and keeps their digest.  It
 * does not decode (kernels/codec does) and keeps no bytes.
 *
 * Init with what the receiver expects, then give it every opened frame; when it accepts one, decode
 * rows [row_begin, row_begin + row_count) of it.  Any thread, no allocation. */
#ifndef SEAM_TENSOR_RX_H
#define SEAM_TENSOR_RX_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "seam_status.h"

typedef struct seam_tensor_expect {
    uint8_t kind, phase;
    uint16_t site;
    uint64_t step;
    uint32_t micro;
    uint32_t rows, channels;
    uint32_t codec_mask; /* bit (1 << codec) of each codec that may come */
    uint8_t coding_max;  /* largest coding that may come */
} seam_tensor_expect;

typedef struct seam_tensor_rx {
    seam_tensor_expect expect;
    seam_frame_header first; /* all chunks agree with it */
    uint32_t row_next;       /* 0: nothing has come yet */
    uint64_t digest;
} seam_tensor_rx;

void seam_tensor_rx_init(seam_tensor_rx *rx, const seam_tensor_expect *expect);
/* Judge the next frame.  SEAM_OK: it is taken; *ret_complete says whether it was the last.
 * SEAM_E_OUT_OF_SEQUENCE: another key or row than expected; SEAM_E_FORMAT: a header field that
 * differs from the expectation or from the first chunk (err names it). After an error the
 * reception is over. */
seam_status seam_tensor_rx_add(bool *ret_complete, seam_tensor_rx *rx,
                               const seam_frame_header *header, uint32_t crc, seam_error *err);

#endif
