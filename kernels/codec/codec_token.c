/* Codec amaq_token: the affine quantizer with a range for each row and a width for each position in
 * a sample.  WIRE.md 3.7 has the format; SPEC 3.1 the method ("Q per token").
 *
 *   D = (hi - lo)/N,  r = 1/D,  q = clamp(rint((x - lo)*r), 0, N),  x^ = lo + q*D,  N = 2^w - 1
 *
 * with lo, hi over the channels of the row and w the width of the row's gate (row_gates of the
 * tensor).  A chunk brings its own rows' bounds; one exponent k serves the tensor.  Codes stand as
 * those of codec affine would in the transposed chunk: full groups of 32 channels, in each the w
 * words of every row, then a tail group of C % 32 channels as one bit string.
 *
 * Rows are quantized whole; 8 codes at a time become bytes of bit planes by a transposition of 8x8
 * bits in one 64-bit word. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "affine_tile.h"
#include "bit_planes.h"
#include "bit_string.h"
#include "bytes.h"
#include "coder_impl.h"
#include "range_bounds.h"
#include "try.h"

#define LANES         SEAM_TILE_LANES
#define HEAD_BYTES    SEAM_RANGE_HEAD_BYTES /* then lo, hi of the chunk's rows */
#define GROUP         32u                   /* channels whose codes stand in one word */
#define MEASURE_LANES 16u

/* ---- sizes and scratch ---- */

static seam_coder_cost token_cost(const seam_coder_config *config, seam_codec_id codec,
                                  uint64_t bits_total) {
    SEAM_ASSERT(codec == config->codec);
    return (seam_coder_cost){.head_first = HEAD_BYTES,
                             .head_other = HEAD_BYTES,
                             .group = seam_coder_code_bytes(bits_total, SEAM_GROUP_ROWS) +
                                      4 * (size_t)SEAM_GROUP_ROWS};
}

static size_t lanes_padded(uint32_t channels) {
    return ((size_t)channels + LANES - 1) / LANES * LANES;
}

/* Draws of a row, its codes (both padded), and the steps of the tensor's rows. */
static size_t token_scratch_bytes(const seam_coder_config *config) {
    return lanes_padded(config->channels) * 2 * sizeof(uint16_t) +
           config->state_rows_max * sizeof(float);
}

static uint16_t *draws_of(const seam_coder *coder) {
    return coder->scratch;
}

static uint16_t *codes_of(const seam_coder *coder) {
    return draws_of(coder) + lanes_padded(coder->config.channels);
}

static float *steps_of(const seam_coder *coder) {
    return (float *)(void *)(codes_of(coder) + lanes_padded(coder->config.channels));
}

static uint32_t row_width(const seam_coder *coder, uint32_t row) {
    return coder->widths[coder->tensor.row_gates[row]];
}

/* Sum of the widths of a chunk's rows: bits of one channel. */
static uint64_t chunk_width_total(const seam_coder *coder, const seam_coder_chunk *chunk) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < chunk->row_count; i++) {
        total += row_width(coder, chunk->row_begin + i);
    }
    return total;
}

static size_t chunk_head_bytes(const seam_coder_chunk *chunk) {
    return HEAD_BYTES + 4 * (size_t)chunk->row_count;
}

static size_t payload_bytes(const seam_coder *coder, const seam_coder_chunk *chunk) {
    return chunk_head_bytes(chunk) +
           seam_coder_code_bytes(chunk_width_total(coder, chunk), coder->config.channels);
}

/* ---- ranges ---- */

typedef struct row_range {
    float lo, hi;
} row_range;

/* False where a value is not finite.  Lanes, so that compilers compare in vectors. */
static bool row_measure(row_range *ret, const float *x, uint32_t channels) {
    float lo[MEASURE_LANES], hi[MEASURE_LANES], poison[MEASURE_LANES];
    for (uint32_t l = 0; l < MEASURE_LANES; l++) {
        lo[l] = hi[l] = x[0];
        poison[l] = 0.0f;
    }
    uint32_t c = 0;
    for (; c + MEASURE_LANES <= channels; c += MEASURE_LANES) {
        for (uint32_t l = 0; l < MEASURE_LANES; l++) {
            const float value = x[c + l];
            lo[l] = value < lo[l] ? value : lo[l];
            hi[l] = value > hi[l] ? value : hi[l];
            poison[l] += value * 0.0f;
        }
    }
    for (; c < channels; c++) {
        lo[0] = x[c] < lo[0] ? x[c] : lo[0];
        hi[0] = x[c] > hi[0] ? x[c] : hi[0];
        poison[0] += x[c] * 0.0f;
    }
    for (uint32_t l = 1; l < MEASURE_LANES; l++) {
        lo[0] = lo[l] < lo[0] ? lo[l] : lo[0];
        hi[0] = hi[l] > hi[0] ? hi[l] : hi[0];
        poison[0] += poison[l];
    }
    *ret = (row_range){lo[0], hi[0]};
    return poison[0] == 0.0f; /* a NaN is not */
}

/* k into coder->head: by the largest magnitude of the rows in range. */
static seam_status token_encode_begin(seam_coder *coder) {
    const uint32_t C = coder->config.channels;
    float largest = 0.0f;
    for (uint32_t row = 0; row < coder->tensor.rows; row++) {
        row_range range;
        if (!row_measure(&range, coder->encode.x + (size_t)row * C, C)) {
            return SEAM_E_NONFINITE;
        }
        if (seam_bitmap_has(coder->tensor.range_rows, row)) {
            largest = fmaxf(largest, fmaxf(fabsf(range.lo), fabsf(range.hi)));
        }
    }
    int exponent;
    return seam_range_head_put(coder->head, &exponent, largest);
}

/* The quantizer of a row; a constant one has inverse = step = levels = 0: q = 0, x^ = lo. */
typedef struct row_grid {
    float lo, inverse, step, levels;
} row_grid;

static seam_status grid_read(row_grid *ret, const uint8_t *bounds, double unit, uint32_t width) {
    float lo = 0.0f, hi = 0.0f;
    SEAM_TRY(seam_range_bounds_get(&lo, &hi, bounds, 1, unit));
    SEAM_ASSERT(width >= 1);
    SEAM_ASSERT(width <= SEAM_BITS_MAX);
    const float levels = (float)((1u << width) - 1);
    const float step = (hi - lo) / levels;
    *ret = step < FLT_MIN
               ? (row_grid){.lo = lo}
               : (row_grid){.lo = lo, .inverse = 1.0f / step, .step = step, .levels = levels};
    return SEAM_OK;
}

/* Of a chunk that may come from a peer; the later ones repeat the first's. */
static seam_status head_read(double *ret_unit, const seam_coder *coder, const uint8_t *head) {
    return memcmp(head, coder->head, HEAD_BYTES) == 0 ? seam_range_head_get(ret_unit, head)
                                                      : SEAM_E_FORMAT;
}

/* What seam_coder_steps tells. */
static void step_keep(const seam_coder *coder, uint32_t row, float step) {
    if (row < coder->config.state_rows_max) {
        steps_of(coder)[row] = step;
    }
}

static seam_status token_steps(float *ret_steps, const seam_coder *coder) {
    SEAM_ASSERT(coder->tensor.rows <= coder->config.state_rows_max);
    memcpy(ret_steps, steps_of(coder), coder->tensor.rows * sizeof *ret_steps);
    return SEAM_OK;
}

/* ---- rows ---- */

/* Adding 1.5*2^23 rounds to nearest even and leaves an integer for |t| up to 2^22; the bounds are
 * integers, so clamping first changes nothing.  A NaN, which cannot come, would become 0. */
static void row_quantize(uint16_t *restrict codes, const float *restrict x, const row_grid *grid,
                         uint32_t channels) {
    const float magic = 0x1.8p23f, lo = grid->lo, inverse = grid->inverse, top = grid->levels;
    for (uint32_t c = 0; c < channels; c++) {
        float t = (x[c] - lo) * inverse;
        t = t > 0.0f ? t : 0.0f;
        t = t < top ? t : top;
        const float whole = (t + magic) - magic;
        codes[c] = (uint16_t)(int32_t)whole;
    }
}

static void row_quantize_drawn(uint16_t *restrict codes, const float *restrict x,
                               const uint16_t *restrict draws, const row_grid *grid,
                               uint32_t channels) {
    const float lo = grid->lo, inverse = grid->inverse, top = grid->levels;
    for (uint32_t c = 0; c < channels; c++) {
        float t = (x[c] - lo) * inverse;
        t = t > 0.0f ? t : 0.0f;
        t = t < top ? t : top;
        codes[c] = (uint16_t)seam_tile_round_drawn(t, draws[c]);
    }
}

static void row_dequantize(float *restrict x, const uint16_t *restrict codes, const row_grid *grid,
                           uint32_t channels) {
    const float lo = grid->lo, step = grid->step;
    for (uint32_t c = 0; c < channels; c++) {
        x[c] = lo + (float)codes[c] * step;
    }
}

/* The draws of a row of the tensor, or NULL: to nearest. */
static const uint16_t *row_draws(const seam_coder *coder, uint32_t row) {
    const seam_rounding rounding = seam_coder_rounding_at(coder, row);
    if (!rounding.stochastic) {
        return NULL;
    }
    const seam_tile_ops *tile = seam_tile_ops_best();
    const uint32_t id = rounding.row_ids != NULL ? rounding.row_ids[0] : rounding.row_id_begin;
    uint16_t *const draws = draws_of(coder);
    for (uint32_t c = 0; c < coder->config.channels; c += LANES) {
        tile->draw(draws + c, c / 8, id, rounding.site | (uint32_t)rounding.micro << 16,
                   (uint32_t)rounding.step, rounding.seed);
    }
    return draws;
}

/* ---- bit planes ---- */

/* Bit i of planes[j] is bit j of codes[i]; i < 32. */
static void planes_from(uint32_t *planes, const uint16_t *codes, uint32_t width) {
    memset(planes, 0, SEAM_BITS_MAX * sizeof *planes);
    for (uint32_t half = 0; half < width; half += 8) {
        for (uint32_t i = 0; i < GROUP; i += 8) {
            uint64_t bytes = 0;
            for (uint32_t l = 0; l < 8; l++) {
                bytes |= (uint64_t)(codes[i + l] >> half & 0xffu) << (8 * l);
            }
            bytes = seam_bits_transpose(bytes);
            for (uint32_t j = 0; j < 8; j++) {
                planes[half + j] |= (uint32_t)(bytes >> (8 * j) & 0xffu) << i;
            }
        }
    }
}

static void planes_to(uint16_t *codes, const uint32_t *planes, uint32_t width) {
    memset(codes, 0, GROUP * sizeof *codes);
    for (uint32_t half = 0; half < width; half += 8) {
        for (uint32_t i = 0; i < GROUP; i += 8) {
            uint64_t bytes = 0;
            for (uint32_t j = 0; j < 8 && half + j < width; j++) {
                bytes |= (uint64_t)(planes[half + j] >> i & 0xffu) << (8 * j);
            }
            bytes = seam_bits_transpose(bytes);
            for (uint32_t l = 0; l < 8; l++) {
                codes[i + l] |= (uint16_t)((bytes >> (8 * l) & 0xffu) << half);
            }
        }
    }
}

/* Where a chunk's codes stand: word j of a row in full group g at 4 * (g * width_total + widths of
 * the rows before + j). */
typedef struct code_layout {
    uint64_t width_total;
    uint32_t groups, tail;
    size_t tail_at;
} code_layout;

static code_layout layout_of(uint64_t width_total, uint32_t channels) {
    const uint32_t groups = channels / GROUP;
    return (code_layout){.width_total = width_total,
                         .groups = groups,
                         .tail = channels % GROUP,
                         .tail_at = 4 * (size_t)(groups * width_total)};
}

static void row_put(uint8_t *codes_out, seam_bit_writer *tail, const code_layout *layout,
                    const uint16_t *codes, uint64_t widths_before, uint32_t width) {
    uint32_t planes[SEAM_BITS_MAX];
    for (uint32_t g = 0; g < layout->groups; g++) {
        uint8_t *out = codes_out + 4 * (size_t)(g * layout->width_total + widths_before);
        planes_from(planes, codes + (size_t)g * GROUP, width);
        for (uint32_t j = 0; j < width; j++) {
            seam_put_u32(out + 4 * (size_t)j, planes[j]);
        }
    }
    if (layout->tail > 0) {
        planes_from(planes, codes + (size_t)layout->groups * GROUP, width);
        seam_bits_put(tail, planes, width, layout->tail);
    }
}

static void row_get(uint16_t *ret_codes, seam_bit_reader *tail, const code_layout *layout,
                    const uint8_t *codes_in, uint64_t widths_before, uint32_t width) {
    uint32_t planes[SEAM_BITS_MAX];
    for (uint32_t g = 0; g < layout->groups; g++) {
        const uint8_t *in = codes_in + 4 * (size_t)(g * layout->width_total + widths_before);
        for (uint32_t j = 0; j < width; j++) {
            planes[j] = seam_get_u32(in + 4 * (size_t)j);
        }
        planes_to(ret_codes + (size_t)g * GROUP, planes, width);
    }
    if (layout->tail > 0) {
        seam_bits_get(planes, tail, width, layout->tail);
        planes_to(ret_codes + (size_t)layout->groups * GROUP, planes, width);
    }
}

/* ---- chunks ---- */

static seam_status token_encode_chunk(seam_coder_chunk *chunk, uint8_t *ret_payload,
                                      float *ret_decoded, seam_coder *coder) {
    const uint32_t C = coder->config.channels;
    const size_t head = chunk_head_bytes(chunk);
    const code_layout layout = layout_of(chunk_width_total(coder, chunk), C);
    const int exponent = (int16_t)seam_get_u16(coder->head);
    const double unit = ldexp(1.0, exponent);
    uint16_t *const codes = codes_of(coder);
    seam_bit_writer tail = {.out = ret_payload + head + layout.tail_at};
    uint64_t widths_before = 0;
    memcpy(ret_payload, coder->head, HEAD_BYTES);
    memset(codes, 0, lanes_padded(C) * sizeof *codes);
    for (uint32_t i = 0; i < chunk->row_count; i++) {
        const uint32_t row = chunk->row_begin + i, width = row_width(coder, row);
        const float *x = coder->encode.x + (size_t)row * C;
        uint8_t *const bounds = ret_payload + HEAD_BYTES + 4 * (size_t)i;
        row_range range;
        row_grid grid;
        /* Again: keeping the ranges of all rows from encode_begin would cost what this does. */
        const bool finite = row_measure(&range, x, C);
        SEAM_ASSERT(finite);
        seam_range_bounds_put(bounds, &range.lo, &range.hi, 1, exponent);
        const seam_status st = grid_read(&grid, bounds, unit, width);
        SEAM_ASSERT(st == SEAM_OK); /* our own */
        const uint16_t *draws = row_draws(coder, row);
        if (draws != NULL) {
            row_quantize_drawn(codes, x, draws, &grid, C);
        } else {
            row_quantize(codes, x, &grid, C);
        }
        row_put(ret_payload + head, &tail, &layout, codes, widths_before, width);
        step_keep(coder, row, grid.step);
        widths_before += width;
        if (ret_decoded != NULL) {
            row_dequantize(ret_decoded + (size_t)i * C, codes, &grid, C);
        }
    }
    seam_bits_put_end(&tail);
    chunk->payload_bytes = (uint32_t)payload_bytes(coder, chunk);
    SEAM_ASSERT(tail.out == ret_payload + chunk->payload_bytes);
    return SEAM_OK;
}

static seam_status token_decode_chunk(float *ret_x, seam_coder *coder,
                                      const seam_coder_chunk *chunk, const uint8_t *payload,
                                      seam_error *err) {
    const uint32_t C = coder->config.channels;
    const size_t head = chunk_head_bytes(chunk);
    const code_layout layout = layout_of(chunk_width_total(coder, chunk), C);
    const size_t expected = payload_bytes(coder, chunk);
    if (chunk->payload_bytes != expected) {
        return seam_error_set(err, SEAM_E_FORMAT, "payload.bytes: %u, %zu follow from the rows",
                              chunk->payload_bytes, expected);
    }
    if (chunk->row_begin == 0) {
        memcpy(coder->head, payload, HEAD_BYTES);
    }
    double unit = 0.0;
    seam_status st = head_read(&unit, coder, payload);
    uint16_t *const codes = codes_of(coder);
    seam_bit_reader tail = {.in = payload + head + layout.tail_at};
    uint64_t widths_before = 0;
    for (uint32_t i = 0; st == SEAM_OK && i < chunk->row_count; i++) {
        const uint32_t row = chunk->row_begin + i, width = row_width(coder, row);
        row_grid grid = {0};
        st = grid_read(&grid, payload + HEAD_BYTES + 4 * (size_t)i, unit, width);
        row_get(codes, &tail, &layout, payload + head, widths_before, width);
        row_dequantize(ret_x + (size_t)i * C, codes, &grid, C);
        step_keep(coder, row, grid.step);
        widths_before += width;
    }
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "payload.ranges: %s", seam_status_text(st));
    }
    if (!seam_bits_get_end(&tail)) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              "payload.codes: the bits behind the last code are not zero");
    }
    return SEAM_OK;
}

const seam_coder_ops seam_coder_token_ops = {
    .cost = token_cost,
    .encode_begin = token_encode_begin,
    .payload_bytes = payload_bytes,
    .encode_chunk = token_encode_chunk,
    .decode_chunk = token_decode_chunk,
    .steps = token_steps,
    .scratch_bytes = token_scratch_bytes,
};
