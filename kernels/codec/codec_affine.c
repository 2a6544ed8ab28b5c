/* The affine quantizer with a bit width for each channel: codecs `affine` and `amaq`.
 * WIRE.md 3.2 has the format; SPEC 3.1 the method.
 *
 *   D = (hi - lo)/N,  r = 1/D,  q = clamp(rint((x - lo)*r), 0, N),  x^ = lo + q*D,  N = 2^w - 1
 *
 * This file measures, reads and writes the range block and walks over a tensor in groups of 32
 * rows; a group is the work of affine_tile.h's variants, the bits of a tail group of bit_planes.h.
 *
 * Magnitudes: values in range below 2^125 only, so that hi - lo and 1/D stay finite and normal.
 * Values outside the range block's rows may be anything finite: the clamp bounds their codes. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "affine_tile.h"
#include "bit_planes.h"
#include "bytes.h"
#include "codec_impl.h"
#include "range_bounds.h"
#include "try.h"

#define LANES            SEAM_TILE_LANES
#define MEASURE_CHANNELS 8192u /* channels whose bounds fit on the stack: 128 KB; more: twice */
#define MEASURE_ROWS     128u  /* blocks of rows, in which the tensor is walked backwards */
/* From this many bytes of output on, no cache keeps them for the reader. */
#define STREAMING_BYTES_MIN ((size_t)16 << 20)

static size_t lanes_padded(uint32_t channels) {
    return ((size_t)channels + LANES - 1) / LANES * LANES;
}

static size_t affine_scratch_bytes(uint32_t channels) {
    return 4 * lanes_padded(channels) * sizeof(float);
}

/* ---- range block ---- */

/* Padded apart: where they lie a multiple of 4 KB from each other, a load of one waits for the
 * store of another.  Bounds of bf16 are places in their order until all rows have been taken in. */
typedef struct column_ranges {
    float lo[MEASURE_CHANNELS + 48], hi[MEASURE_CHANNELS + 48], sum[MEASURE_CHANNELS];
    int16_t lo16[MEASURE_CHANNELS + 96], hi16[MEASURE_CHANNELS];
} column_ranges;

/* The columns that are measured together. */
typedef struct column_rows {
    seam_codec_source source; /* from the first of them on */
    uint32_t ld, count;
    const uint8_t *range_rows;
    const seam_tile_ops *tile;
} column_rows;

static size_t value_bytes(seam_value_type type) {
    return type == SEAM_VALUE_BF16 ? 2 : 4;
}

static const void *row_at(const column_rows *columns, uint32_t row) {
    return seam_tile_at(columns->source.x, columns->source.type, (size_t)row * columns->ld);
}

/* Whether the columns' f32 are finite, one by one: their sum may overflow where they are. */
static bool columns_finite(const column_rows *columns, uint32_t rows) {
    for (uint32_t row = 0; row < rows; row++) {
        const float *x = row_at(columns, row);
        for (uint32_t c = 0; seam_bitmap_has(columns->range_rows, row) && c < columns->count; c++) {
            if (!isfinite(x[c])) {
                return false;
            }
        }
    }
    return true;
}

/* Bounds that any value widens. */
static void ranges_begin(column_ranges *ret, uint32_t count) {
    for (uint32_t c = 0; c < count; c++) {
        ret->lo[c] = INFINITY;
        ret->hi[c] = -INFINITY;
        ret->lo16[c] = INT16_MAX;
        ret->hi16[c] = INT16_MIN;
    }
    memset(ret->sum, 0, count * sizeof *ret->sum);
}

static void rows_widen(column_ranges *ret, const column_rows *columns,
                       const seam_tile_sources *rows) {
    if (columns->source.type == SEAM_VALUE_BF16) {
        columns->tile->widen_bf16(ret->lo16, ret->hi16, rows, columns->count);
    } else {
        columns->tile->widen(ret->lo, ret->hi, ret->sum, rows, columns->count);
    }
}

/* Takes in rows begin..end; whether there has been one. */
static bool rows_measure(column_ranges *ret, const column_rows *columns, uint32_t begin,
                         uint32_t end) {
    const size_t row_bytes = (size_t)columns->ld * value_bytes(columns->source.type);
    const uint8_t *x = row_at(columns, begin);
    seam_tile_sources taken = {.count = 0};
    bool any = false;
    for (uint32_t row = begin; row < end; row++, x += row_bytes) {
        if (!seam_bitmap_has(columns->range_rows, row)) {
            continue;
        }
        any = true;
        taken.rows[taken.count++] = x;
        if (taken.count == SEAM_TILE_WIDEN_ROWS) {
            rows_widen(ret, columns, &taken);
            taken.count = 0;
        }
    }
    if (taken.count > 0) {
        rows_widen(ret, columns, &taken);
    }
    return any;
}

/* lo and hi from their places; whether all are finite, and with them what lies between. */
static bool places_end(column_ranges *ret, uint32_t count) {
    const int16_t least = seam_tile_order(0xff80), most = seam_tile_order(0x7f80); /* infinities */
    int16_t lowest = INT16_MAX, highest = INT16_MIN;
    for (uint32_t c = 0; c < count; c++) {
        lowest = ret->lo16[c] < lowest ? ret->lo16[c] : lowest;
        highest = ret->hi16[c] > highest ? ret->hi16[c] : highest;
    }
    for (uint32_t c = 0; c < count; c++) {
        const uint32_t lo = (uint32_t)(uint16_t)seam_tile_order((uint16_t)ret->lo16[c]) << 16;
        const uint32_t hi = (uint32_t)(uint16_t)seam_tile_order((uint16_t)ret->hi16[c]) << 16;
        memcpy(&ret->lo[c], &lo, sizeof lo);
        memcpy(&ret->hi[c], &hi, sizeof hi);
    }
    return lowest > least && highest < most;
}

/* lo, hi of the columns; false where a value is not finite.  No row in range: all zero.  From the
 * last rows to the first, because encoding begins with these: they are then the ones that the
 * caches still hold. */
static bool columns_measure(column_ranges *ret, const column_rows *columns, uint32_t rows) {
    bool any = false;
    ranges_begin(ret, columns->count);
    for (uint32_t end = rows; end > 0;) {
        const uint32_t begin = (end - 1) / MEASURE_ROWS * MEASURE_ROWS;
        any |= rows_measure(ret, columns, begin, end);
        end = begin;
    }
    if (!any) {
        memset(ret, 0, sizeof *ret);
    }
    if (columns->source.type == SEAM_VALUE_BF16) {
        return places_end(ret, columns->count);
    }
    float poison = 0.0f;
    for (uint32_t c = 0; c < columns->count; c++) {
        poison += ret->sum[c] * 0.0f;
    }
    return poison == 0.0f || columns_finite(columns, rows);
}

/* As integers, which stand in the same order: compilers make vectors of that. */
static float magnitude_max(const column_ranges *ranges, uint32_t count) {
    int32_t largest = 0;
    for (uint32_t c = 0; c < count; c++) {
        int32_t lo, hi;
        memcpy(&lo, &ranges->lo[c], sizeof lo);
        memcpy(&hi, &ranges->hi[c], sizeof hi);
        lo &= INT32_MAX;
        hi &= INT32_MAX;
        largest = lo > largest ? lo : largest;
        largest = hi > largest ? hi : largest;
    }
    float ret;
    memcpy(&ret, &largest, sizeof ret);
    return ret;
}

/* The columns from c on whose bounds fit on the stack, of a tensor that is `all` columns. */
static column_rows columns_from(const column_rows *all, uint32_t c) {
    column_rows columns = *all;
    columns.source.x = seam_tile_at(all->source.x, all->source.type, c);
    columns.count = all->count - c < MEASURE_CHANNELS ? all->count - c : MEASURE_CHANNELS;
    return columns;
}

static seam_status affine_measure(uint8_t *ret_ranges, seam_codec_source source, uint32_t rows,
                                  uint32_t channels, const uint8_t *range_rows) {
    const column_rows all = {source, channels, channels, range_rows, seam_tile_ops_best()};
    column_ranges ranges;
    float largest = 0.0f;
    for (uint32_t c = 0; c < channels; c += MEASURE_CHANNELS) {
        const column_rows columns = columns_from(&all, c);
        if (!columns_measure(&ranges, &columns, rows)) {
            return SEAM_E_NONFINITE;
        }
        largest = fmaxf(largest, magnitude_max(&ranges, columns.count));
    }
    int exponent;
    SEAM_TRY(seam_range_head_put(ret_ranges, &exponent, largest));
    for (uint32_t c = 0; c < channels; c += MEASURE_CHANNELS) {
        const column_rows columns = columns_from(&all, c);
        if (channels > MEASURE_CHANNELS) { /* one block: still there from the first pass */
            (void)columns_measure(&ranges, &columns, rows);
        }
        uint8_t *out = ret_ranges + SEAM_RANGE_HEAD_BYTES + SEAM_RANGE_BYTES * (size_t)c;
        seam_range_bounds_put(out, ranges.lo, ranges.hi, columns.count, exponent);
    }
    return SEAM_OK;
}

/* The step D of a channel; 0 when it is constant. */
static inline float range_step(float lo, float hi, float levels) {
    const float step = (hi - lo) / levels;
    return step < FLT_MIN ? 0.0f : step;
}

static float width_levels(uint8_t width) {
    SEAM_ASSERT(width >= 1);
    SEAM_ASSERT(width <= SEAM_BITS_MAX);
    return (float)((1u << width) - 1);
}

static seam_status affine_steps(float *ret_steps, const seam_codec_args *args) {
    double unit = 0.0;
    SEAM_TRY(seam_range_head_get(&unit, args->ranges));
    for (uint32_t c = 0; c < args->channels; c++) {
        float lo = 0.0f, hi = 0.0f;
        const uint8_t *bounds = args->ranges + SEAM_RANGE_HEAD_BYTES + SEAM_RANGE_BYTES * (size_t)c;
        SEAM_TRY(seam_range_bounds_get(&lo, &hi, bounds, 1, unit));
        ret_steps[c] = range_step(lo, hi, width_levels(args->widths[c]));
    }
    return SEAM_OK;
}

/* ---- grids of all channels, in scratch ---- */

typedef struct grid_arrays {
    float *lo, *inverse, *step, *levels;
} grid_arrays;

/* Apart from the reading, so that compilers divide in vectors. */
static void grid_divide(const grid_arrays *grid, uint32_t count) {
    float *restrict lo = grid->lo, *restrict inverse = grid->inverse;
    float *restrict step = grid->step, *restrict levels = grid->levels;
    for (uint32_t c = 0; c < count; c++) {
        step[c] = range_step(lo[c], inverse[c], levels[c]);
        inverse[c] = step[c] == 0.0f ? 0.0f : 1.0f / step[c];
        levels[c] = step[c] == 0.0f ? 0.0f : levels[c];
    }
}

static seam_status grid_fill(grid_arrays *ret, const seam_codec_args *args, void *scratch) {
    SEAM_ASSERT((uintptr_t)scratch % 64 == 0);
    const size_t padded = lanes_padded(args->channels), C = args->channels;
    *ret = (grid_arrays){
        .lo = scratch,
        .inverse = (float *)scratch + padded,
        .step = (float *)scratch + 2 * padded,
        .levels = (float *)scratch + 3 * padded,
    };
    for (size_t i = 0; i < 4; i++) {
        memset((float *)scratch + i * padded + C, 0, (padded - C) * sizeof(float));
    }
    double unit = 0.0;
    SEAM_TRY(seam_range_head_get(&unit, args->ranges));
    float *const hi = ret->inverse; /* until the steps are known */
    SEAM_TRY(seam_range_bounds_get(ret->lo, hi, args->ranges + SEAM_RANGE_HEAD_BYTES,
                                   args->channels, unit));
    for (size_t c = 0; c < C; c++) {
        ret->levels[c] = width_levels(args->widths[c]);
    }
    grid_divide(ret, args->channels);
    return SEAM_OK;
}

/* All channels; row i of the tensor at data + i*channels. */
static seam_tile_group group_of(const grid_arrays *grid, const seam_codec_args *args,
                                seam_value_type type) {
    return (seam_tile_group){
        .channels = args->channels,
        .ld = args->channels,
        .type = type,
        .grid = {grid->lo, grid->inverse, grid->step, grid->levels},
        .widths = args->widths,
    };
}

static size_t group_bytes(const seam_codec_args *args) {
    size_t words = 0;
    for (uint32_t c = 0; c < args->channels; c++) {
        words += args->widths[c];
    }
    return 4 * words;
}

/* ---- tail groups ---- */

static bool tile_is_wide(const seam_tile_group *tile, uint32_t lanes) {
    bool wide = false;
    for (uint32_t l = 0; l < lanes; l++) {
        wide |= tile->widths[l] > 8;
    }
    return wide;
}

/* ---- encode ---- */

/* The rounding of the group that begins at `row` (its first `rows` rows). */
static void draws_fill(seam_tile_draws *ret, const seam_rounding *rounding, uint32_t row,
                       uint32_t rows) {
    *ret = (seam_tile_draws){
        .word2 = rounding->site | (uint32_t)rounding->micro << 16,
        .word3 = (uint32_t)rounding->step,
        .seed = rounding->seed,
    };
    for (uint32_t i = 0; i < rows; i++) {
        ret->row_ids[i] = rounding->row_ids != NULL ? rounding->row_ids[row + i]
                                                    : rounding->row_id_begin + row + i;
    }
}

static bool poison_is_clean(const float *poison) {
    float sum = 0.0f;
    for (uint32_t l = 0; l < LANES; l++) {
        sum += poison[l];
    }
    return sum == 0.0f; /* a NaN is not */
}

/* `rows` rows, fewer than a group. */
static seam_status tail_encode(uint8_t *codes, float *decoded, const void *x, uint32_t rows,
                               const seam_tile_group *group, const seam_tile_draws *draws) {
    const seam_tile_ops *ops = seam_tile_ops_best();
    _Alignas(64) uint32_t planes[16 * LANES];
    _Alignas(64) uint16_t halves[SEAM_GROUP_ROWS * LANES];
    _Alignas(64) float padded[SEAM_GROUP_ROWS * LANES] = {0};
    _Alignas(64) float poison[LANES] = {0};
    const seam_tile_rows tile_rows = {rows, LANES};
    seam_plane_writer writer = {.out = codes};
    for (uint32_t c = 0; c < group->channels; c += LANES) {
        const seam_tile_group tile = seam_tile_group_after(group, c);
        const uint32_t lanes = tile.channels < LANES ? tile.channels : LANES;
        for (uint32_t i = 0; draws != NULL && i < rows; i++) {
            ops->draw(halves + (size_t)i * LANES, c / 8, draws->row_ids[i], draws->word2,
                      draws->word3, draws->seed);
        }
        const void *values = seam_tile_at(x, group->type, c);
        seam_tile_load(padded, values, group->ld, group->type, rows, lanes);
        ops->encode(planes, poison, decoded != NULL ? padded : NULL, padded, &tile_rows, &tile.grid,
                    draws != NULL ? halves : NULL, tile_is_wide(&tile, lanes));
        if (decoded != NULL) {
            seam_tile_store(decoded + c, group->ld, padded, rows, lanes);
        }
        seam_planes_put(&writer, planes, tile.widths, lanes, rows);
    }
    seam_planes_put_end(&writer);
    return poison_is_clean(poison) ? SEAM_OK : SEAM_E_NONFINITE;
}

static seam_status affine_encode(uint8_t *ret_codes, float *ret_decoded,
                                 const seam_codec_args *args, seam_codec_source source,
                                 uint32_t rows, const seam_rounding *rounding, void *scratch) {
    const seam_tile_ops *ops = seam_tile_ops_best();
    const size_t C = args->channels;
    grid_arrays grid;
    SEAM_TRY(grid_fill(&grid, args, scratch));
    const seam_tile_group group = group_of(&grid, args, source.type);
    uint8_t *codes = ret_codes;
    uint8_t *const groups_end = ret_codes + rows / SEAM_GROUP_ROWS * group_bytes(args);
    seam_tile_draws draws;
    const seam_tile_draws *drawn = rounding->stochastic ? &draws : NULL;
    for (uint32_t row = 0; row < rows; row += SEAM_GROUP_ROWS) {
        const uint32_t left = rows - row, count = left < SEAM_GROUP_ROWS ? left : SEAM_GROUP_ROWS;
        const void *x = seam_tile_at(source.x, source.type, row * C);
        float *decoded = ret_decoded != NULL ? ret_decoded + row * C : NULL;
        if (drawn != NULL) {
            draws_fill(&draws, rounding, row, count);
        }
        if (count < SEAM_GROUP_ROWS) {
            return tail_encode(codes, decoded, x, count, &group, drawn);
        }
        codes = ops->encode_group(codes, groups_end, decoded, x, &group, drawn);
        if (codes == NULL) {
            return SEAM_E_NONFINITE;
        }
    }
    SEAM_ASSERT(codes == groups_end);
    return SEAM_OK;
}

/* ---- decode ---- */

static seam_status tail_decode(float *x, const uint8_t *codes, uint32_t rows,
                               const seam_tile_group *group) {
    const seam_tile_ops *ops = seam_tile_ops_best();
    _Alignas(64) uint32_t planes[16 * LANES];
    _Alignas(64) float padded[SEAM_GROUP_ROWS * LANES];
    const seam_tile_rows tile_rows = {rows, LANES};
    seam_plane_reader reader = {.in = codes};
    for (uint32_t c = 0; c < group->channels; c += LANES) {
        const seam_tile_group tile = seam_tile_group_after(group, c);
        const uint32_t lanes = tile.channels < LANES ? tile.channels : LANES;
        seam_planes_get(planes, &reader, tile.widths, lanes, rows);
        ops->decode(padded, &tile_rows, planes, &tile.grid, tile_is_wide(&tile, lanes));
        seam_tile_store(x + c, group->ld, padded, rows, lanes);
    }
    return seam_planes_get_end(&reader) ? SEAM_OK : SEAM_E_FORMAT;
}

static seam_status affine_decode(float *ret_x, const seam_codec_args *args, const uint8_t *codes,
                                 uint32_t rows, void *scratch) {
    const seam_tile_ops *ops = seam_tile_ops_best();
    const size_t C = args->channels;
    grid_arrays grid;
    SEAM_TRY(grid_fill(&grid, args, scratch));
    const seam_tile_group group = group_of(&grid, args, SEAM_VALUE_F32);
    const uint8_t *const groups_end = codes + rows / SEAM_GROUP_ROWS * group_bytes(args);
    const bool streaming = rows * C * sizeof *ret_x >= STREAMING_BYTES_MIN;
    uint32_t row = 0;
    for (; rows - row >= SEAM_GROUP_ROWS; row += SEAM_GROUP_ROWS) {
        codes = ops->decode_group(ret_x + row * C, codes, groups_end, &group, streaming);
    }
    SEAM_ASSERT(codes == groups_end);
    return row < rows ? tail_decode(ret_x + row * C, codes, rows - row, &group) : SEAM_OK;
}

const seam_codec_ops seam_codec_affine_ops = {
    .has_ranges = true,
    .measure = affine_measure,
    .encode = affine_encode,
    .decode = affine_decode,
    .steps = affine_steps,
    .scratch_bytes = affine_scratch_bytes,
};
