/* The affine quantizer with a bit width for each channel: codecs `affine` and `amaq`.
 * WIRE.md 3.2 has the format; SPEC 3.1 the method.
 *
 *   D = (hi - lo)/N,  r = 1/D,  q = clamp(rint((x - lo)*r), 0, N),  x^ = lo + q*D,  N = 2^w - 1
 *
 * This file walks over a tensor in tiles of 32 rows x 64 channels, reads and writes the range
 * block and places the words of the bit planes; the arithmetic on a tile is affine_tile.c.
 *
 * Magnitudes: values in range below 2^125 only, so that hi - lo and 1/D stay finite and normal.
 * Values outside the range block's rows may be anything finite: the clamp bounds their codes. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "affine_tile.h"
#include "bytes.h"
#include "codec_impl.h"
#include "try.h"

#define LANES            SEAM_TILE_LANES
#define EXPONENT_MIN     (-163) /* the largest magnitude is 2^-149 */
#define EXPONENT_MAX     110    /* the largest magnitude is below 2^125 */
#define RANGE_HEAD_BYTES 4
#define MEASURE_CHANNELS 2048u /* channels whose lo, hi fit on the stack: 24 KB */

static size_t lanes_padded(uint32_t channels) {
    return ((size_t)channels + LANES - 1) / LANES * LANES;
}

static size_t affine_scratch_bytes(uint32_t channels) {
    return 4 * lanes_padded(channels) * sizeof(float);
}

/* ---- range block ---- */

typedef struct column_ranges {
    float lo[MEASURE_CHANNELS], hi[MEASURE_CHANNELS], poison[MEASURE_CHANNELS];
} column_ranges;

static bool row_in_range(const uint8_t *range_rows, uint32_t row) {
    return range_rows == NULL || (range_rows[row / 8] >> (row % 8) & 1) != 0;
}

/* lo, hi of `count` columns; false where a value is not finite. No row in range: all zero. */
static bool columns_measure(column_ranges *ret, const float *x, uint32_t rows, uint32_t ld,
                            uint32_t count, const uint8_t *range_rows) {
    const seam_tile_ops *tile = seam_tile_ops_best();
    bool any = false;
    for (uint32_t row = 0; row < rows; row++) {
        if (!row_in_range(range_rows, row)) {
            continue;
        }
        const float *values = x + (size_t)row * ld;
        if (!any) {
            any = true;
            memcpy(ret->lo, values, count * sizeof *values);
            memcpy(ret->hi, values, count * sizeof *values);
            memset(ret->poison, 0, count * sizeof *values);
        }
        tile->widen(ret->lo, ret->hi, ret->poison, values, count);
    }
    if (!any) {
        memset(ret, 0, sizeof *ret);
    }
    float poison = 0.0f;
    for (uint32_t c = 0; c < count; c++) {
        poison += ret->poison[c];
    }
    return poison == 0.0f; /* a NaN is not */
}

static float magnitude_max(const column_ranges *ranges, uint32_t count) {
    float largest = 0.0f;
    for (uint32_t c = 0; c < count; c++) {
        const float magnitude = fmaxf(fabsf(ranges->lo[c]), fabsf(ranges->hi[c]));
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
}

/* fp16 of the exact value * 2^-k, rounded outward; zero is written as +0. */
static uint16_t bound_fp16(float value, int exponent, bool up) {
    double scaled = ldexp((double)value, -exponent);
    /* Far below fp16's smallest: keep the sign for the rounding where f32 would give zero. */
    if (scaled != 0.0 && fabs(scaled) < 0x1p-60) {
        scaled = copysign(0x1p-60, scaled);
    }
    const uint16_t bits =
        up ? seam_fp16_from_f32_up((float)scaled) : seam_fp16_from_f32_down((float)scaled);
    return bits == 0x8000u ? 0 : bits;
}

static seam_status affine_measure(uint8_t *ret_ranges, const float *x, uint32_t rows,
                                  uint32_t channels, const uint8_t *range_rows) {
    column_ranges ranges;
    float largest = 0.0f;
    for (uint32_t c = 0; c < channels; c += MEASURE_CHANNELS) {
        const uint32_t count = channels - c < MEASURE_CHANNELS ? channels - c : MEASURE_CHANNELS;
        if (!columns_measure(&ranges, x + c, rows, channels, count, range_rows)) {
            return SEAM_E_NONFINITE;
        }
        largest = fmaxf(largest, magnitude_max(&ranges, count));
    }
    int exponent = 0;
    if (largest > 0.0f) {
        (void)frexpf(largest, &exponent); /* largest in [2^(e-1), 2^e) */
        exponent -= 15;
        if (exponent > EXPONENT_MAX) {
            return SEAM_E_NONFINITE;
        }
    }
    seam_put_u16(ret_ranges, (uint16_t)exponent);
    seam_put_u16(ret_ranges + 2, 0);
    for (uint32_t c = 0; c < channels; c += MEASURE_CHANNELS) {
        const uint32_t count = channels - c < MEASURE_CHANNELS ? channels - c : MEASURE_CHANNELS;
        if (channels > MEASURE_CHANNELS) { /* one block: still there from the first pass */
            (void)columns_measure(&ranges, x + c, rows, channels, count, range_rows);
        }
        uint8_t *out = ret_ranges + RANGE_HEAD_BYTES + 4 * (size_t)c;
        for (uint32_t i = 0; i < count; i++) {
            seam_put_u16(out + 4 * i, bound_fp16(ranges.lo[i], exponent, false));
            seam_put_u16(out + 4 * i + 2, bound_fp16(ranges.hi[i], exponent, true));
        }
    }
    return SEAM_OK;
}

/* Exponent of a range block that may come from a peer. */
static seam_status range_head_read(double *ret_scale, const uint8_t *ranges) {
    const int exponent = (int16_t)seam_get_u16(ranges);
    if (exponent < EXPONENT_MIN || exponent > EXPONENT_MAX || seam_get_u16(ranges + 2) != 0) {
        return SEAM_E_FORMAT;
    }
    *ret_scale = ldexp(1.0, exponent);
    return SEAM_OK;
}

/* lo and step D of one channel; D = 0 when it is constant. */
static seam_status range_read(float *ret_lo, float *ret_step, const uint8_t *bounds, double scale,
                              float levels) {
    const uint16_t lo_bits = seam_get_u16(bounds), hi_bits = seam_get_u16(bounds + 2);
    if ((lo_bits & 0x7c00u) == 0x7c00u || (hi_bits & 0x7c00u) == 0x7c00u) {
        return SEAM_E_NONFINITE;
    }
    const float lo = (float)((double)seam_fp16_to_f32(lo_bits) * scale);
    const float hi = (float)((double)seam_fp16_to_f32(hi_bits) * scale);
    if (lo > hi) {
        return SEAM_E_FORMAT;
    }
    const float step = (hi - lo) / levels;
    *ret_lo = lo;
    *ret_step = step < FLT_MIN ? 0.0f : step;
    return SEAM_OK;
}

static float width_levels(uint8_t width) {
    SEAM_ASSERT(width >= 1);
    SEAM_ASSERT(width <= SEAM_BITS_MAX);
    return (float)((1u << width) - 1);
}

static seam_status affine_steps(float *ret_steps, const seam_codec_args *args) {
    double scale = 0.0;
    SEAM_TRY(range_head_read(&scale, args->ranges));
    for (uint32_t c = 0; c < args->channels; c++) {
        float lo = 0.0f;
        SEAM_TRY(range_read(&lo, &ret_steps[c], args->ranges + RANGE_HEAD_BYTES + 4 * (size_t)c,
                            scale, width_levels(args->widths[c])));
    }
    return SEAM_OK;
}

/* ---- grids of all channels, in scratch ---- */

typedef struct grid_arrays {
    float *lo, *inverse, *step, *levels;
} grid_arrays;

static seam_status grid_fill(grid_arrays *ret, const seam_codec_args *args, void *scratch) {
    SEAM_ASSERT((uintptr_t)scratch % 64 == 0);
    const size_t padded = lanes_padded(args->channels);
    memset(scratch, 0, affine_scratch_bytes(args->channels));
    *ret = (grid_arrays){
        .lo = scratch,
        .inverse = (float *)scratch + padded,
        .step = (float *)scratch + 2 * padded,
        .levels = (float *)scratch + 3 * padded,
    };
    double scale = 0.0;
    SEAM_TRY(range_head_read(&scale, args->ranges));
    for (uint32_t c = 0; c < args->channels; c++) {
        const float levels = width_levels(args->widths[c]);
        SEAM_TRY(range_read(&ret->lo[c], &ret->step[c],
                            args->ranges + RANGE_HEAD_BYTES + 4 * (size_t)c, scale, levels));
        const bool constant = ret->step[c] == 0.0f;
        ret->inverse[c] = constant ? 0.0f : 1.0f / ret->step[c];
        ret->levels[c] = constant ? 0.0f : levels;
    }
    return SEAM_OK;
}

static seam_tile_grid grid_at(const grid_arrays *grid, uint32_t channel) {
    return (seam_tile_grid){grid->lo + channel, grid->inverse + channel, grid->step + channel,
                            grid->levels + channel};
}

/* ---- bits ---- */

/* A stream of bits, least significant first. A full group is a stream of whole words. */
typedef struct bit_writer {
    uint8_t *out;
    uint64_t held;
    uint32_t held_bits; /* below 8 between calls */
} bit_writer;

static inline void word_put(uint8_t *out, uint32_t word) {
    out[0] = (uint8_t)word;
    out[1] = (uint8_t)(word >> 8);
    out[2] = (uint8_t)(word >> 16);
    out[3] = (uint8_t)(word >> 24);
}

static inline uint32_t word_get(const uint8_t *in) {
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

static void bits_put(bit_writer *writer, uint32_t bits, uint32_t count) {
    writer->held |= (uint64_t)bits << writer->held_bits;
    writer->held_bits += count;
    while (writer->held_bits >= 8) {
        *writer->out++ = (uint8_t)writer->held;
        writer->held >>= 8;
        writer->held_bits -= 8;
    }
}

static void bits_flush(bit_writer *writer) {
    if (writer->held_bits > 0) {
        *writer->out++ = (uint8_t)writer->held;
        writer->held_bits = 0;
    }
}

typedef struct bit_reader {
    const uint8_t *in;
    uint64_t held;
    uint32_t held_bits;
} bit_reader;

static uint32_t bits_get(bit_reader *reader, uint32_t count) {
    while (reader->held_bits < count) {
        reader->held |= (uint64_t)*reader->in++ << reader->held_bits;
        reader->held_bits += 8;
    }
    const uint32_t bits = (uint32_t)(reader->held & ((UINT64_C(1) << count) - 1));
    reader->held >>= count;
    reader->held_bits -= count;
    return bits;
}

/* ---- encode ---- */

typedef struct tile_place {
    uint32_t channel, lanes; /* lanes <= 64 */
    uint32_t rows;           /* of the group, 1..32 */
    bool wide;               /* a width above 8 */
} tile_place;

static tile_place tile_at(const seam_codec_args *args, uint32_t channel, uint32_t rows) {
    const uint32_t left = args->channels - channel;
    tile_place place = {.channel = channel, .lanes = left < LANES ? left : LANES, .rows = rows};
    for (uint32_t l = 0; l < place.lanes; l++) {
        place.wide |= args->widths[channel + l] > 8;
    }
    return place;
}

static void uniforms_fill(float *ret, const seam_tile_ops *tile, const tile_place *place,
                          const seam_rounding *rounding, uint32_t row_begin) {
    for (uint32_t i = 0; i < place->rows; i++) {
        const uint32_t row = row_begin + i;
        const uint32_t row_id =
            rounding->row_ids != NULL ? rounding->row_ids[row] : rounding->row_id_begin + row;
        tile->uniform(ret + (size_t)i * LANES, place->channel / 4, row_id,
                      rounding->site | (uint32_t)rounding->micro << 16, (uint32_t)rounding->step,
                      rounding->seed);
    }
}

/* Copy a tile of fewer than 64 lanes to or from a padded one. */
static void lanes_copy(float *to, size_t to_ld, const float *from, size_t from_ld,
                       const tile_place *place) {
    for (uint32_t i = 0; i < place->rows; i++) {
        memcpy(to + i * to_ld, from + i * from_ld, place->lanes * sizeof *to);
    }
}

static void planes_write(bit_writer *writer, const uint32_t *planes, const uint8_t *widths,
                         const tile_place *place) {
    for (uint32_t l = 0; l < place->lanes; l++) {
        const uint32_t width = widths[place->channel + l];
        if (place->rows == SEAM_GROUP_ROWS) {
            for (uint32_t j = 0; j < width; j++) {
                word_put(writer->out + 4 * (size_t)j, planes[j * LANES + l]);
            }
            writer->out += 4 * (size_t)width;
            continue;
        }
        for (uint32_t j = 0; j < width; j++) {
            bits_put(writer, planes[j * LANES + l], place->rows);
        }
    }
}

static bool poison_is_clean(const float *poison) {
    float sum = 0.0f;
    for (uint32_t l = 0; l < LANES; l++) {
        sum += poison[l];
    }
    return sum == 0.0f; /* a NaN is not */
}

static seam_status affine_encode(uint8_t *ret_codes, float *ret_decoded,
                                 const seam_codec_args *args, const float *x, uint32_t rows,
                                 const seam_rounding *rounding, void *scratch) {
    const seam_tile_ops *tile = seam_tile_ops_best();
    _Alignas(64) uint32_t planes[16 * LANES];
    _Alignas(64) float uniforms[SEAM_GROUP_ROWS * LANES];
    _Alignas(64) float padded[SEAM_GROUP_ROWS * LANES] = {0};
    _Alignas(64) float poison[LANES] = {0};
    const size_t C = args->channels;
    const bool stochastic = rounding->stochastic;
    grid_arrays grid;
    SEAM_TRY(grid_fill(&grid, args, scratch));
    bit_writer writer = {0};
    writer.out = ret_codes;
    for (uint32_t row = 0; row < rows; row += SEAM_GROUP_ROWS) {
        const uint32_t left = rows - row;
        for (uint32_t c = 0; c < args->channels; c += LANES) {
            const tile_place place =
                tile_at(args, c, left < SEAM_GROUP_ROWS ? left : SEAM_GROUP_ROWS);
            const seam_tile_grid tile_grid = grid_at(&grid, c);
            const float *in = x + row * C + c;
            float *out = ret_decoded != NULL ? ret_decoded + row * C + c : NULL;
            if (stochastic) {
                uniforms_fill(uniforms, tile, &place, rounding, row);
            }
            const float *u = stochastic ? uniforms : NULL;
            if (place.lanes == LANES) {
                tile->encode(planes, poison, out, in, &(seam_tile_rows){place.rows, C}, &tile_grid,
                             u, place.wide);
            } else {
                lanes_copy(padded, LANES, in, C, &place);
                tile->encode(planes, poison, out != NULL ? padded : NULL, padded,
                             &(seam_tile_rows){place.rows, LANES}, &tile_grid, u, place.wide);
                if (out != NULL) {
                    lanes_copy(out, C, padded, LANES, &place);
                }
            }
            planes_write(&writer, planes, args->widths, &place);
        }
    }
    bits_flush(&writer);
    return poison_is_clean(poison) ? SEAM_OK : SEAM_E_NONFINITE;
}

/* ---- decode ---- */

static void planes_read(uint32_t *planes, bit_reader *reader, const uint8_t *widths,
                        const tile_place *place) {
    memset(planes, 0, (place->wide ? 16 : 8) * LANES * sizeof *planes);
    for (uint32_t l = 0; l < place->lanes; l++) {
        const uint32_t width = widths[place->channel + l];
        if (place->rows == SEAM_GROUP_ROWS) {
            for (uint32_t j = 0; j < width; j++) {
                planes[j * LANES + l] = word_get(reader->in + 4 * (size_t)j);
            }
            reader->in += 4 * (size_t)width;
            continue;
        }
        for (uint32_t j = 0; j < width; j++) {
            planes[j * LANES + l] = bits_get(reader, place->rows);
        }
    }
}

static seam_status affine_decode(float *ret_x, const seam_codec_args *args, const uint8_t *codes,
                                 uint32_t rows, void *scratch) {
    const seam_tile_ops *tile = seam_tile_ops_best();
    _Alignas(64) uint32_t planes[16 * LANES];
    _Alignas(64) float padded[SEAM_GROUP_ROWS * LANES];
    const size_t C = args->channels;
    grid_arrays grid;
    SEAM_TRY(grid_fill(&grid, args, scratch));
    bit_reader reader = {.in = codes};
    for (uint32_t row = 0; row < rows; row += SEAM_GROUP_ROWS) {
        const uint32_t left = rows - row;
        for (uint32_t c = 0; c < args->channels; c += LANES) {
            const tile_place place =
                tile_at(args, c, left < SEAM_GROUP_ROWS ? left : SEAM_GROUP_ROWS);
            const seam_tile_grid tile_grid = grid_at(&grid, c);
            float *out = ret_x + row * C + c;
            planes_read(planes, &reader, args->widths, &place);
            if (place.lanes == LANES) {
                tile->decode(out, &(seam_tile_rows){place.rows, C}, planes, &tile_grid, place.wide);
            } else {
                tile->decode(padded, &(seam_tile_rows){place.rows, LANES}, planes, &tile_grid,
                             place.wide);
                lanes_copy(out, C, padded, LANES, &place);
            }
        }
    }
    return reader.held == 0 ? SEAM_OK : SEAM_E_FORMAT; /* the last byte is filled with zeros */
}

const seam_codec_ops seam_codec_affine_ops = {
    .has_ranges = true,
    .measure = affine_measure,
    .encode = affine_encode,
    .decode = affine_decode,
    .steps = affine_steps,
    .scratch_bytes = affine_scratch_bytes,
};
