/* Codecs tensor, channel, group: a symmetric grid and a scale for the tensor, each channel, or each
 * row and group of channels.  WIRE.md 3.3 has the format; SPEC 3.2 the method, which is that of
 * compressed-tensors:
 *
 *   s = 2*absmax / (2^b - 1)     q = clamp(rint(x / s), -2^(b-1), 2^(b-1) - 1)     x^ = q * s
 *
 * The scales travel as fp16 with one exponent for the tensor, rounded up, and both ends compute
 * with them as decoded.  Codes travel as q + 2^(b-1), in the bit planes of the affine codec: the
 * quantizing pass here leaves integers, which affine_tile.c packs exactly with a step of 1.
 *
 * A scale of 0 (nothing but zeros, or below FLT_MIN) makes q = 0 and x^ = 0. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "affine_tile.h"
#include "bit_planes.h"
#include "bytes.h"
#include "coder_impl.h"
#include "try.h"

#define LANES           SEAM_TILE_LANES
#define HEAD_BYTES      4
#define EXPONENT_MIN    (-178) /* M = 2^-149 at 16 bits */
#define EXPONENT_MAX    110    /* M below 2^124 at 1 bit */
#define MAGNITUDE_LIMIT 0x1p124f
#define FP16_MAX        65504.0

/* ---- shape of the scales ---- */

static bool is_group(const seam_coder *coder) {
    return coder->tensor.codec == SEAM_CODEC_GROUP;
}

/* Scales that stand in the head of the first chunk. */
static uint32_t scales_once(const seam_coder_config *config) {
    return config->codec == SEAM_CODEC_TENSOR    ? 1
           : config->codec == SEAM_CODEC_CHANNEL ? config->channels
                                                 : 0;
}

static uint32_t group_size(const seam_coder_config *config) {
    return seam_codec_group(config->plan != NULL ? config->plan->group : 0, config->channels);
}

/* Scales of each row: codec group. */
static uint32_t scales_a_row(const seam_coder_config *config) {
    return config->codec == SEAM_CODEC_GROUP ? config->channels / group_size(config) : 0;
}

static seam_coder_cost symmetric_cost(const seam_coder_config *config, seam_codec_id codec,
                                      uint64_t bits_total) {
    SEAM_ASSERT(codec == config->codec);
    const uint32_t rows = SEAM_GROUP_ROWS;
    const bool each = codec == SEAM_CODEC_GROUP;
    return (seam_coder_cost){.head_first = HEAD_BYTES + 2 * (size_t)scales_once(config),
                             .head_other = each ? HEAD_BYTES : 0,
                             .group = seam_coder_code_bytes(bits_total, rows) +
                                      2 * (size_t)rows * scales_a_row(config)};
}

static size_t head_bytes(const seam_coder *coder, const seam_coder_chunk *chunk) {
    if (is_group(coder)) {
        return HEAD_BYTES + 2 * (size_t)chunk->row_count * scales_a_row(&coder->config);
    }
    return chunk->row_begin == 0 ? HEAD_BYTES + 2 * (size_t)scales_once(&coder->config) : 0;
}

static size_t payload_bytes(const seam_coder *coder, const seam_coder_chunk *chunk) {
    return head_bytes(coder, chunk) +
           seam_coder_code_bytes(coder->tensor.alloc->bits_total, chunk->row_count);
}

static size_t lanes_padded(uint32_t channels) {
    return ((size_t)channels + LANES - 1) / LANES * LANES;
}

/* Scales of the channels, as they are for one row (while measuring: largest magnitudes), and q of
 * a group of rows; lines padded to whole tiles. */
static size_t symmetric_scratch_bytes(const seam_coder_config *config) {
    return (1 + SEAM_GROUP_ROWS) * lanes_padded(config->channels) * sizeof(float);
}

/* ---- scales ---- */

/* fp16 of 2*absmax/N * 2^-k toward plus infinity, saturated: only rows out of range reach that. */
static uint16_t scale_fp16(float absmax, double levels, int exponent) {
    double scaled = ldexp(2.0 * (double)absmax / levels, -exponent);
    scaled = scaled < FP16_MAX ? scaled : FP16_MAX; /* also for a NaN, which the codes refuse */
    if (scaled == 0.0) {
        return 0;
    }
    scaled = scaled > 0x1p-60 ? scaled : 0x1p-60; /* f32 holds it, and it rounds up alike */
    float single = (float)scaled;
    if ((double)single < scaled) {
        single = nextafterf(single, INFINITY);
    }
    return seam_fp16_from_f32_up(single);
}

/* The scale as both ends use it; 0 where it is below FLT_MIN. */
static seam_status scale_read(float *ret_scale, const uint8_t *bytes, double unit, float half) {
    const uint16_t bits = seam_get_u16(bytes);
    if ((bits & 0x7c00u) == 0x7c00u) {
        return SEAM_E_NONFINITE;
    }
    if ((bits & 0x8000u) != 0) {
        return SEAM_E_FORMAT;
    }
    const float scale = (float)((double)seam_fp16_to_f32(bits) * unit);
    *ret_scale = scale < FLT_MIN ? 0.0f : scale;
    return isfinite(scale * half) ? SEAM_OK : SEAM_E_NONFINITE; /* the outermost code's value */
}

static seam_status head_read(double *ret_unit, const uint8_t *head) {
    const int exponent = (int16_t)seam_get_u16(head);
    if (exponent < EXPONENT_MIN || exponent > EXPONENT_MAX || seam_get_u16(head + 2) != 0) {
        return SEAM_E_FORMAT;
    }
    *ret_unit = ldexp(1.0, exponent);
    return SEAM_OK;
}

/* `channels` f32 scales from the wire's, each for `span` channels. */
static seam_status scales_expand(float *ret, const uint8_t *wire, uint32_t channels, uint32_t span,
                                 double unit, float half) {
    for (uint32_t c = 0; c < channels; c += span, wire += 2) {
        float scale = 0.0f;
        SEAM_TRY(scale_read(&scale, wire, unit, half));
        for (uint32_t i = 0; i < span; i++) {
            ret[c + i] = scale;
        }
    }
    return SEAM_OK;
}

/* ---- measuring ---- */

/* absmax (C) over the rows in range; false where one is not finite. */
static bool absmax_measure(float *ret_absmax, const seam_coder *coder) {
    const uint32_t C = coder->config.channels;
    float poison = 0.0f;
    memset(ret_absmax, 0, C * sizeof *ret_absmax);
    for (uint32_t row = 0; row < coder->tensor.rows; row++) {
        if (!seam_bitmap_has(coder->tensor.range_rows, row)) {
            continue;
        }
        const float *x = coder->encode.x + (size_t)row * C;
        for (uint32_t c = 0; c < C; c++) {
            const float magnitude = fabsf(x[c]);
            ret_absmax[c] = magnitude > ret_absmax[c] ? magnitude : ret_absmax[c];
            poison += x[c] * 0.0f;
        }
    }
    return poison == 0.0f; /* a NaN is not */
}

static float levels_of(const seam_coder *coder) {
    return (float)((1u << coder->widths[0]) - 1);
}

/* k and, but for codec group, the scales into coder->head. */
static seam_status symmetric_encode_begin(seam_coder *coder) {
    const uint32_t C = coder->config.channels;
    const double levels = (double)levels_of(coder);
    float *absmax = coder->scratch, largest = 0.0f;
    if (!absmax_measure(absmax, coder)) {
        return SEAM_E_NONFINITE;
    }
    for (uint32_t c = 0; c < C; c++) {
        largest = absmax[c] > largest ? absmax[c] : largest;
    }
    if (largest >= MAGNITUDE_LIMIT) {
        return SEAM_E_NONFINITE;
    }
    int exponent = 0;
    if (largest > 0.0f) {
        (void)frexp(2.0 * (double)largest / levels, &exponent);
        exponent -= 15;
    }
    seam_put_u16(coder->head, (uint16_t)exponent);
    seam_put_u16(coder->head + 2, 0);
    for (uint32_t i = 0; i < scales_once(&coder->config); i++) {
        const float of = coder->tensor.codec == SEAM_CODEC_TENSOR ? largest : absmax[i];
        seam_put_u16(coder->head + HEAD_BYTES + 2 * (size_t)i, scale_fp16(of, levels, exponent));
    }
    return SEAM_OK;
}

/* Scales of the chunk's rows, behind a head that stands already. */
static void group_scales_put(uint8_t *ret, const seam_coder *coder, const seam_coder_chunk *chunk) {
    const uint32_t C = coder->config.channels, G = group_size(&coder->config);
    const int exponent = (int16_t)seam_get_u16(coder->head);
    const double levels = (double)levels_of(coder);
    const float *x = coder->encode.x + (size_t)chunk->row_begin * C;
    for (size_t group = 0; group < (size_t)chunk->row_count * (C / G); group++, x += G, ret += 2) {
        float absmax = 0.0f;
        for (uint32_t c = 0; c < G; c++) {
            const float magnitude = fabsf(x[c]);
            absmax = magnitude > absmax ? magnitude : absmax;
        }
        seam_put_u16(ret, scale_fp16(absmax, levels, exponent));
    }
}

/* ---- rows ---- */

/* A chunk on its way: rows are quantized or scaled whole, groups of 32 of them are packed. */
typedef struct pass {
    const seam_coder *coder;
    const seam_tile_ops *tile;
    const uint8_t *row_scales; /* codec group: of the chunk's rows; else NULL */
    float *scales;             /* (C): in force for the row at hand */
    float *q;                  /* (32, padded C) */
    size_t q_ld;
    double unit; /* 2^k */
    float half;  /* 2^(b-1) */
} pass;

/* head: k, zero, and the scales of the tensor or of the chunk's rows. */
static seam_status pass_begin(pass *ret, const seam_coder *coder, const uint8_t *head) {
    const uint32_t C = coder->config.channels;
    SEAM_ASSERT(coder->widths[0] >= 1 && coder->widths[0] <= SEAM_BITS_MAX);
    *ret = (pass){
        .coder = coder,
        .tile = seam_tile_ops_best(),
        .scales = coder->scratch,
        .q = (float *)coder->scratch + lanes_padded(C),
        .q_ld = lanes_padded(C),
        .half = (float)(1u << (coder->widths[0] - 1)),
    };
    SEAM_TRY(head_read(&ret->unit, head));
    if (is_group(coder)) {
        ret->row_scales = head + HEAD_BYTES;
        return SEAM_OK;
    }
    const uint32_t span = coder->tensor.codec == SEAM_CODEC_TENSOR ? C : 1;
    return scales_expand(ret->scales, head + HEAD_BYTES, C, span, ret->unit, ret->half);
}

/* The scales of a row of the chunk. */
static seam_status row_scales_load(const pass *p, uint32_t row) {
    if (p->row_scales == NULL) {
        return SEAM_OK;
    }
    const uint32_t C = p->coder->config.channels, G = group_size(&p->coder->config);
    return scales_expand(p->scales, p->row_scales + 2 * (size_t)row * (C / G), C, G, p->unit,
                         p->half);
}

/* x / scale, or x where that is 0, in -half .. half - 1. */
static inline float clamped(float x, float scale, float half) {
    const float top = half - 1.0f, t = x / (scale == 0.0f ? 1.0f : scale);
    const float above = t > -half ? t : -half;
    return above < top ? above : top;
}

/* q as floats.  Adding 1.5*2^23 rounds to nearest even and leaves an integer for |t| up to 2^22;
 * the bounds are integers, so clamping first changes nothing.  The sum of x*0 tells what is not
 * finite. */
static float quantize(float *restrict q, const float *restrict x, const float *restrict scales,
                      float half, uint32_t count) {
    const float magic = 0x1.8p23f;
    float poison = 0.0f;
    for (uint32_t c = 0; c < count; c++) {
        const float t = clamped(x[c], scales[c], half);
        const float whole = (t + magic) - magic;
        q[c] = scales[c] == 0.0f ? 0.0f : whole;
        poison += x[c] * 0.0f;
    }
    return poison;
}

/* The same by draws: floor(v + draw / 2^16), whose sum must not round, in units of 2^-16.  With v
 * in -2^15 .. 2^15 - 1 it stays within int32. */
static float quantize_drawn(float *restrict q, const float *restrict x,
                            const float *restrict scales, const uint16_t *restrict draws,
                            float half, uint32_t count) {
    float poison = 0.0f;
    for (uint32_t c = 0; c < count; c++) {
        const float t = clamped(x[c], scales[c], half);
        const float exact = (t + SEAM_TILE_DRAW_CENTRE) * 0x1p16f;
        int32_t units = (int32_t)exact;
        units -= (float)units > exact; /* floor */
        q[c] = scales[c] == 0.0f ? 0.0f : (float)((units + draws[c]) >> 16);
        poison += x[c] * 0.0f;
    }
    return poison;
}

static float row_quantize(float *ret_q, const pass *p, const seam_rounding *rounding,
                          const float *x, uint32_t row) {
    const uint32_t C = p->coder->config.channels;
    if (!rounding->stochastic) {
        return quantize(ret_q, x, p->scales, p->half, C);
    }
    const uint32_t id =
        rounding->row_ids != NULL ? rounding->row_ids[row] : rounding->row_id_begin + row;
    float poison = 0.0f;
    for (uint32_t c = 0; c < C; c += LANES) {
        _Alignas(64) uint16_t draws[LANES];
        p->tile->draw(draws, c / 8, id, rounding->site | (uint32_t)rounding->micro << 16,
                      (uint32_t)rounding->step, rounding->seed);
        poison += quantize_drawn(ret_q + c, x + c, p->scales + c, draws, p->half,
                                 C - c < LANES ? C - c : LANES);
    }
    return poison;
}

static void scale_row(float *restrict ret, const float *restrict q, const float *restrict scales,
                      uint32_t count) {
    for (uint32_t c = 0; c < count; c++) {
        ret[c] = q[c] * scales[c];
    }
}

/* ---- packing ---- */

/* The grid of the integers: code = q + 2^(b-1), exact. */
typedef struct integer_grid {
    float lo[LANES], one[LANES], levels[LANES];
} integer_grid;

static seam_tile_grid integer_grid_fill(integer_grid *ret, const pass *p) {
    for (uint32_t l = 0; l < LANES; l++) {
        ret->lo[l] = -p->half;
        ret->one[l] = 1.0f;
        ret->levels[l] = 2.0f * p->half - 1.0f;
    }
    return (seam_tile_grid){ret->lo, ret->one, ret->one, ret->levels};
}

static void group_pack(seam_plane_writer *writer, const pass *p, uint32_t rows) {
    _Alignas(64) uint32_t planes[16 * LANES];
    _Alignas(64) float poison[LANES] = {0};
    const uint32_t C = p->coder->config.channels;
    const uint8_t *widths = p->coder->widths;
    integer_grid integers;
    const seam_tile_grid grid = integer_grid_fill(&integers, p);
    const seam_tile_rows shape = {rows, p->q_ld};
    for (uint32_t c = 0; c < C; c += LANES) {
        p->tile->encode(planes, poison, NULL, p->q + c, &shape, &grid, NULL, widths[0] > 8);
        seam_planes_put(writer, planes, widths + c, C - c < LANES ? C - c : LANES, rows);
    }
}

static void group_unpack(seam_plane_reader *reader, const pass *p, uint32_t rows) {
    _Alignas(64) uint32_t planes[16 * LANES];
    const uint32_t C = p->coder->config.channels;
    const uint8_t *widths = p->coder->widths;
    integer_grid integers;
    const seam_tile_grid grid = integer_grid_fill(&integers, p);
    const seam_tile_rows shape = {rows, p->q_ld};
    for (uint32_t c = 0; c < C; c += LANES) {
        seam_planes_get(planes, reader, widths + c, C - c < LANES ? C - c : LANES, rows);
        p->tile->decode(p->q + c, &shape, planes, &grid, widths[0] > 8);
    }
}

/* ---- chunks ---- */

static seam_status symmetric_encode_chunk(seam_coder_chunk *chunk, uint8_t *ret_payload,
                                          float *ret_decoded, seam_coder *coder) {
    const uint32_t C = coder->config.channels;
    const size_t head = head_bytes(coder, chunk);
    const seam_rounding rounding = seam_coder_rounding_at(coder, chunk->row_begin);
    const float *x = coder->encode.x + (size_t)chunk->row_begin * C;
    memcpy(ret_payload, coder->head, is_group(coder) ? HEAD_BYTES : head);
    if (is_group(coder)) {
        group_scales_put(ret_payload + HEAD_BYTES, coder, chunk);
    }
    pass p;
    SEAM_TRY(pass_begin(&p, coder, is_group(coder) ? ret_payload : coder->head));
    seam_plane_writer writer = {.out = ret_payload + head};
    float poison = 0.0f;
    for (uint32_t row = 0; row < chunk->row_count; row += SEAM_GROUP_ROWS) {
        const uint32_t left = chunk->row_count - row;
        const uint32_t rows = left < SEAM_GROUP_ROWS ? left : SEAM_GROUP_ROWS;
        for (uint32_t i = 0; i < rows; i++) {
            const size_t at = (size_t)(row + i) * C;
            float *q = p.q + i * p.q_ld;
            SEAM_TRY(row_scales_load(&p, row + i));
            poison += row_quantize(q, &p, &rounding, x + at, row + i);
            if (ret_decoded != NULL) {
                scale_row(ret_decoded + at, q, p.scales, C);
            }
        }
        group_pack(&writer, &p, rows);
    }
    seam_planes_put_end(&writer);
    chunk->payload_bytes = (uint32_t)payload_bytes(coder, chunk);
    SEAM_ASSERT(writer.out == ret_payload + chunk->payload_bytes);
    return poison == 0.0f ? SEAM_OK : SEAM_E_NONFINITE; /* a NaN is not 0 */
}

static seam_status symmetric_decode_chunk(float *ret_x, seam_coder *coder,
                                          const seam_coder_chunk *chunk, const uint8_t *payload,
                                          seam_error *err) {
    const uint32_t C = coder->config.channels;
    const size_t head = head_bytes(coder, chunk);
    if (chunk->payload_bytes != payload_bytes(coder, chunk)) {
        return seam_error_set(err, SEAM_E_FORMAT, "payload.bytes: %u, %zu follow from the rows",
                              chunk->payload_bytes, payload_bytes(coder, chunk));
    }
    if (!is_group(coder)) {
        memcpy(coder->head, payload, head);
    }
    pass p;
    seam_status st = pass_begin(&p, coder, is_group(coder) ? payload : coder->head);
    seam_plane_reader reader = {.in = payload + head};
    for (uint32_t row = 0; st == SEAM_OK && row < chunk->row_count; row += SEAM_GROUP_ROWS) {
        const uint32_t left = chunk->row_count - row;
        const uint32_t rows = left < SEAM_GROUP_ROWS ? left : SEAM_GROUP_ROWS;
        group_unpack(&reader, &p, rows);
        for (uint32_t i = 0; st == SEAM_OK && i < rows; i++) {
            st = row_scales_load(&p, row + i);
            scale_row(ret_x + (size_t)(row + i) * C, p.q + i * p.q_ld, p.scales, C);
        }
    }
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "payload.scales: %s", seam_status_text(st));
    }
    if (!seam_planes_get_end(&reader)) {
        return seam_error_set(err, SEAM_E_FORMAT,
                              "payload.codes: the bits behind the last one are not zero");
    }
    return SEAM_OK;
}

const seam_coder_ops seam_coder_symmetric_ops = {
    .cost = symmetric_cost,
    .encode_begin = symmetric_encode_begin,
    .head_bytes = head_bytes,
    .payload_bytes = payload_bytes,
    .encode_chunk = symmetric_encode_chunk,
    .decode_chunk = symmetric_decode_chunk,
    .scratch_bytes = symmetric_scratch_bytes,
};
