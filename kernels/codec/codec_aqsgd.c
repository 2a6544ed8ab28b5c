/* The stateless half of codec `aqsgd`: its gradients, which have no cache.  WIRE.md 3.6; the half
 * with a cache is aqsgd.c, the quantizer of both aqsgd_quant.h.
 *
 * AC-SGD quantizes gradients directly, to nearest and without error feedback, so seam_rounding is
 * not looked at.  Every width is the session's `bits` (allocation version 1). */
#include <math.h>
#include <string.h>

#include "aqsgd_quant.h"
#include "bit_string.h"
#include "codec_impl.h"
#include "try.h"

#define MEASURE_CHANNELS 1024u /* channels whose absmax stands on the stack */

static bool row_in_range(const uint8_t *range_rows, uint32_t row) {
    return range_rows == NULL || (range_rows[row / 8] >> (row % 8) & 1) != 0;
}

/* absmax of `count` columns; false where a value is not finite. */
static bool columns_measure(float *ret_absmax, const float *x, uint32_t rows, uint32_t ld,
                            uint32_t count, const uint8_t *range_rows) {
    float poison = 0.0f;
    memset(ret_absmax, 0, count * sizeof *ret_absmax);
    for (uint32_t row = 0; row < rows; row++) {
        if (row_in_range(range_rows, row)) {
            const float *values = x + (size_t)row * ld;
            seam_absmax_add(ret_absmax, values, NULL, count);
            for (uint32_t c = 0; c < count; c++) {
                poison += values[c] * 0.0f;
            }
        }
    }
    return poison == 0.0f; /* a NaN is not */
}

static seam_status aqsgd_measure(uint8_t *ret_ranges, const float *x, uint32_t rows,
                                 uint32_t channels, const uint8_t *range_rows) {
    float absmax[MEASURE_CHANNELS];
    float largest = 0.0f;
    for (uint32_t c = 0; c < channels; c += MEASURE_CHANNELS) {
        const uint32_t count = channels - c < MEASURE_CHANNELS ? channels - c : MEASURE_CHANNELS;
        if (!columns_measure(absmax, x + c, rows, channels, count, range_rows)) {
            return SEAM_E_NONFINITE;
        }
        for (uint32_t i = 0; i < count; i++) {
            largest = absmax[i] > largest ? absmax[i] : largest;
        }
    }
    SEAM_TRY(seam_scale_head_put(ret_ranges, largest));
    for (uint32_t c = 0; c < channels; c += MEASURE_CHANNELS) {
        const uint32_t count = channels - c < MEASURE_CHANNELS ? channels - c : MEASURE_CHANNELS;
        if (channels > MEASURE_CHANNELS) { /* one piece: still there from the first pass */
            (void)columns_measure(absmax, x + c, rows, channels, count, range_rows);
        }
        seam_scales_put(ret_ranges, absmax, c, count);
    }
    return SEAM_OK;
}

/* Grid and codes of a row, in scratch: five arrays of C. */
typedef struct row_arrays {
    seam_scales scales;
    uint32_t *codes;
    float *values;
} row_arrays;

static size_t aqsgd_scratch_bytes(uint32_t channels) {
    return 5 * (size_t)channels * sizeof(float);
}

static uint32_t bits_of(const seam_codec_args *args) {
    return args->widths[0];
}

static seam_status row_arrays_fill(row_arrays *ret, const seam_codec_args *args, void *scratch) {
    float *const floats = scratch;
    const size_t C = args->channels;
    *ret = (row_arrays){.scales = {floats, floats + C, floats + 2 * C},
                        .codes = (uint32_t *)scratch + 3 * C,
                        .values = floats + 4 * C};
    return seam_scale_block_get(&ret->scales, args->ranges, args->channels, bits_of(args));
}

static seam_status aqsgd_encode(uint8_t *ret_codes, float *ret_decoded, const seam_codec_args *args,
                                const float *x, uint32_t rows, const seam_rounding *rounding,
                                void *scratch) {
    (void)rounding;
    const uint32_t C = args->channels;
    row_arrays row = {0};
    float poison = 0.0f;
    SEAM_TRY(row_arrays_fill(&row, args, scratch));
    seam_bit_writer writer = {.out = ret_codes};
    for (uint32_t i = 0; i < rows; i++) {
        const float *values = x + (size_t)i * C;
        for (uint32_t c = 0; c < C; c++) {
            poison += values[c] * 0.0f;
        }
        seam_symmetric_quantize(row.codes, row.values, &row.scales, values, NULL, C, bits_of(args));
        seam_bits_put(&writer, row.codes, C, bits_of(args));
        if (ret_decoded != NULL) {
            memcpy(ret_decoded + (size_t)i * C, row.values, C * sizeof *row.values);
        }
    }
    seam_bits_put_end(&writer);
    return poison == 0.0f ? SEAM_OK : SEAM_E_NONFINITE;
}

static seam_status aqsgd_decode(float *ret_x, const seam_codec_args *args, const uint8_t *codes,
                                uint32_t rows, void *scratch) {
    const uint32_t C = args->channels;
    row_arrays row = {0};
    SEAM_TRY(row_arrays_fill(&row, args, scratch));
    seam_bit_reader reader = {.in = codes};
    for (uint32_t i = 0; i < rows; i++) {
        seam_bits_get(row.codes, &reader, C, bits_of(args));
        seam_symmetric_dequantize(ret_x + (size_t)i * C, &row.scales, row.codes, C, bits_of(args));
    }
    return seam_bits_get_end(&reader) ? SEAM_OK : SEAM_E_FORMAT;
}

/* The step of the grid, s / 2^(b-1); 0 where the scale counts as 0. */
static seam_status aqsgd_steps(float *ret_steps, const seam_codec_args *args) {
    for (uint32_t c = 0; c < args->channels; c++) {
        uint8_t block[6];
        float scale = 0.0f, lowest = 0.0f, top = 0.0f;
        seam_scales scales = {&scale, &lowest, &top};
        memcpy(block, args->ranges, 4);
        memcpy(block + 4, args->ranges + 4 + 2 * (size_t)c, 2);
        SEAM_TRY(seam_scale_block_get(&scales, block, 1, bits_of(args)));
        ret_steps[c] = lowest == 0.0f ? 0.0f : scale / -lowest;
    }
    return SEAM_OK;
}

const seam_codec_ops seam_codec_aqsgd_ops = {
    .has_ranges = true,
    .measure = aqsgd_measure,
    .encode = aqsgd_encode,
    .decode = aqsgd_decode,
    .steps = aqsgd_steps,
    .scratch_bytes = aqsgd_scratch_bytes,
};
