/* Inside of the codec folder: what one codec is, and the table that codec.c looks it up in.
 *
 * A codec that keeps to codec.h's shape (a range block once, codes by widths or values of one size)
 * is one file that defines a `seam_codec_ops` and one line in codec.c; any other one defines a
 * `seam_coder_ops` (coder_impl.h).  Callers outside this folder use codec.h and coder.h only. */
#ifndef SEAM_CODEC_IMPL_H
#define SEAM_CODEC_IMPL_H

#include "codec.h"

/* How the values of a source stand in memory; what is decoded is f32. */
typedef enum seam_value_type {
    SEAM_VALUE_F32,
    SEAM_VALUE_BF16, /* codecs with ranges only */
} seam_value_type;

/* Rows x channels of values. */
typedef struct seam_codec_source {
    const void *x;
    seam_value_type type;
} seam_codec_source;

typedef struct seam_codec_ops {
    bool has_ranges;     /* payload starts with a range block; codes go by widths */
    uint8_t value_bytes; /* of codecs without widths; 0: ceil(sum(widths)*rows/8) */
    seam_status (*measure)(uint8_t *ret_ranges, seam_codec_source source, uint32_t rows,
                           uint32_t channels, const uint8_t *range_rows);
    seam_status (*encode)(uint8_t *ret_codes, float *ret_decoded, const seam_codec_args *args,
                          seam_codec_source source, uint32_t rows, const seam_rounding *rounding,
                          void *scratch);
    /* The byte count of the codes is checked by the caller. */
    seam_status (*decode)(float *ret_x, const seam_codec_args *args, const uint8_t *codes,
                          uint32_t rows, void *scratch);
    seam_status (*steps)(float *ret_steps, const seam_codec_args *args);
    size_t (*scratch_bytes)(uint32_t channels);
} seam_codec_ops;

extern const seam_codec_ops seam_codec_f32_ops;    /* codec_raw.c */
extern const seam_codec_ops seam_codec_bf16_ops;   /* codec_raw.c */
extern const seam_codec_ops seam_codec_affine_ops; /* codec_affine.c; affine and amaq */

#endif
