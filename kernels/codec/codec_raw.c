/* The uncompressed codecs: f32 and bf16 values in row-major order.  WIRE.md 3.1.
 *
 * Both ends refuse what is not finite, and bf16 also what would round to infinity, so that a
 * frame that an encoder makes is never refused by the decoder.  bf16's loops: affine_tile.c. */
#include <math.h>
#include <string.h>

#include "affine_tile.h"
#include "bytes.h"
#include "codec_impl.h"
#include "try.h"

static size_t value_count(const seam_codec_args *args, uint32_t rows) {
    return (size_t)rows * args->channels;
}

static seam_status f32_encode(uint8_t *ret_codes, float *ret_decoded, const seam_codec_args *args,
                              seam_codec_source source, uint32_t rows,
                              const seam_rounding *rounding, void *scratch) {
    (void)rounding;
    (void)scratch;
    SEAM_ASSERT(source.type == SEAM_VALUE_F32);
    const float *x = source.x;
    const size_t count = value_count(args, rows);
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(x[i])) {
            return SEAM_E_NONFINITE;
        }
        seam_put_f32(ret_codes + 4 * i, x[i]);
    }
    if (ret_decoded != NULL && ret_decoded != x) {
        memcpy(ret_decoded, x, count * sizeof *x);
    }
    return SEAM_OK;
}

static seam_status f32_decode(float *ret_x, const seam_codec_args *args, const uint8_t *codes,
                              uint32_t rows, void *scratch) {
    (void)scratch;
    float *x = ret_x;
    const size_t count = value_count(args, rows);
    for (size_t i = 0; i < count; i++) {
        x[i] = seam_get_f32(codes + 4 * i);
        if (!isfinite(x[i])) {
            return SEAM_E_NONFINITE;
        }
    }
    return SEAM_OK;
}

static seam_status bf16_encode(uint8_t *ret_codes, float *ret_decoded, const seam_codec_args *args,
                               seam_codec_source source, uint32_t rows,
                               const seam_rounding *rounding, void *scratch) {
    (void)rounding;
    (void)scratch;
    SEAM_ASSERT(source.type == SEAM_VALUE_F32);
    const bool finite = seam_tile_ops_best()->bf16_encode(ret_codes, ret_decoded, source.x,
                                                          value_count(args, rows));
    return finite ? SEAM_OK : SEAM_E_NONFINITE;
}

static seam_status bf16_decode(float *ret_x, const seam_codec_args *args, const uint8_t *codes,
                               uint32_t rows, void *scratch) {
    (void)scratch;
    const bool finite = seam_tile_ops_best()->bf16_decode(ret_x, codes, value_count(args, rows));
    return finite ? SEAM_OK : SEAM_E_NONFINITE;
}

/* No grid: a step of 0 says so. */
static seam_status raw_steps(float *ret_steps, const seam_codec_args *args) {
    memset(ret_steps, 0, args->channels * sizeof *ret_steps);
    return SEAM_OK;
}

static size_t raw_scratch_bytes(uint32_t channels) {
    (void)channels;
    return 0;
}

const seam_codec_ops seam_codec_f32_ops = {
    .value_bytes = 4,
    .encode = f32_encode,
    .decode = f32_decode,
    .steps = raw_steps,
    .scratch_bytes = raw_scratch_bytes,
};

const seam_codec_ops seam_codec_bf16_ops = {
    .value_bytes = 2,
    .encode = bf16_encode,
    .decode = bf16_decode,
    .steps = raw_steps,
    .scratch_bytes = raw_scratch_bytes,
};
