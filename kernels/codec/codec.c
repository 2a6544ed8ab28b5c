/* The table of codecs and the checks that all of them share; see codec.h.  Read codec_raw.c for
 * the simplest codec and codec_affine.c for the one that matters. */
#include "codec.h"

#include <string.h>

#include "codec_impl.h"
#include "coder_impl.h"
#include "try.h"

typedef struct codec_row {
    seam_codec_id id;
    const char *name;
    bool has_widths;
    const seam_coder_ops *coder; /* NULL: known by name, not implemented */
    const seam_codec_ops *ops;   /* of the codecs that codec.h's own functions serve */
} codec_row;

static const codec_row table[] = {
    {SEAM_CODEC_F32, "f32", false, &seam_coder_plain_ops, &seam_codec_f32_ops},
    {SEAM_CODEC_BF16, "bf16", false, &seam_coder_plain_ops, &seam_codec_bf16_ops},
    {SEAM_CODEC_AFFINE, "affine", true, &seam_coder_plain_ops, &seam_codec_affine_ops},
    {SEAM_CODEC_AMAQ, "amaq", true, &seam_coder_plain_ops, &seam_codec_affine_ops},
    {SEAM_CODEC_TENSOR, "tensor", true, &seam_coder_symmetric_ops, NULL},
    {SEAM_CODEC_CHANNEL, "channel", true, &seam_coder_symmetric_ops, NULL},
    {SEAM_CODEC_GROUP, "group", true, &seam_coder_symmetric_ops, NULL},
    {SEAM_CODEC_AQSGD, "aqsgd", true, &seam_coder_aqsgd_ops, NULL},
    {SEAM_CODEC_DICTIONARY, "dictionary", false, &seam_coder_dictionary_ops, NULL},
    {SEAM_CODEC_AMAQ_TOKEN, "amaq_token", true, &seam_coder_token_ops, NULL},
};
#define ROW_COUNT (sizeof table / sizeof table[0])

static const codec_row *row_find(seam_codec_id id) {
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (table[i].id == id) {
            return &table[i];
        }
    }
    return NULL;
}

static const seam_codec_ops *ops_find(seam_codec_id id) {
    const codec_row *row = row_find(id);
    return row != NULL ? row->ops : NULL;
}

const seam_coder_ops *seam_coder_ops_find(seam_codec_id codec) {
    const codec_row *row = row_find(codec);
    return row != NULL ? row->coder : NULL;
}

bool seam_codec_from_name(seam_codec_id *ret_id, const char *name) {
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (strcmp(table[i].name, name) == 0) {
            *ret_id = table[i].id;
            return true;
        }
    }
    return false;
}

const char *seam_codec_name(seam_codec_id id) {
    const codec_row *row = row_find(id);
    return row != NULL ? row->name : NULL;
}

bool seam_codec_is_implemented(seam_codec_id id) {
    return seam_coder_ops_find(id) != NULL;
}

bool seam_codec_has_ranges(seam_codec_id id) {
    const seam_codec_ops *ops = ops_find(id);
    return ops != NULL && ops->has_ranges;
}

bool seam_codec_has_widths(seam_codec_id id) {
    const codec_row *row = row_find(id);
    return row != NULL && row->has_widths;
}

uint32_t seam_codec_fixed_bits(seam_codec_id id, uint32_t bits) {
    return seam_codec_has_widths(id) && !seam_codec_has_gates(id) ? bits : 0;
}

bool seam_codec_has_planes(seam_codec_id id) {
    const seam_coder_ops *ops = seam_coder_ops_find(id);
    return ops != NULL && ops->head_bytes != NULL && seam_codec_has_widths(id);
}

bool seam_codec_has_gates(seam_codec_id id) {
    return id == SEAM_CODEC_AMAQ || id == SEAM_CODEC_AMAQ_TOKEN;
}

bool seam_codec_has_state(seam_codec_id id) {
    return id == SEAM_CODEC_AQSGD || id == SEAM_CODEC_DICTIONARY;
}

bool seam_codec_has_requests(seam_codec_id id) {
    return id != SEAM_CODEC_DICTIONARY && id != SEAM_CODEC_AMAQ_TOKEN;
}

size_t seam_codec_range_bytes(seam_codec_id id, uint32_t channels) {
    return seam_codec_has_ranges(id) ? 4 + 4 * (size_t)channels : 0;
}

size_t seam_codec_code_bytes(seam_codec_id id, const uint8_t *widths, uint32_t rows,
                             uint32_t channels) {
    const seam_codec_ops *ops = ops_find(id);
    if (ops == NULL) {
        return 0;
    }
    SEAM_ASSERT(rows <= SEAM_ROWS_MAX);
    SEAM_ASSERT(channels <= SEAM_CHANNELS_MAX);
    if (ops->value_bytes != 0) {
        return (size_t)rows * channels * ops->value_bytes;
    }
    uint64_t bits_total = 0; /* at most 2^20: the product below stays under 2^40 */
    for (uint32_t c = 0; c < channels; c++) {
        bits_total += widths[c];
    }
    return (size_t)((bits_total * rows + 7) / 8);
}

size_t seam_codec_scratch_bytes(uint32_t channels) {
    /* The affine codec is the only one that needs any; a session may switch codecs freely. */
    return seam_codec_affine_ops.scratch_bytes(channels);
}

static void shape_assert(uint32_t rows, uint32_t channels) {
    SEAM_ASSERT(rows >= 1);
    SEAM_ASSERT(rows <= SEAM_ROWS_MAX);
    SEAM_ASSERT(channels >= 1);
    SEAM_ASSERT(channels <= SEAM_CHANNELS_MAX);
}

static seam_status source_measure(uint8_t *ret_ranges, seam_codec_id id, seam_codec_source source,
                                  uint32_t rows, uint32_t channels, const uint8_t *range_rows) {
    const seam_codec_ops *ops = ops_find(id);
    if (ops == NULL) {
        return SEAM_E_UNIMPLEMENTED;
    }
    if (!ops->has_ranges) {
        return SEAM_OK;
    }
    shape_assert(rows, channels);
    return ops->measure(ret_ranges, source, rows, channels, range_rows);
}

seam_status seam_codec_measure(uint8_t *ret_ranges, seam_codec_id id, const float *x, uint32_t rows,
                               uint32_t channels, const uint8_t *range_rows) {
    const seam_codec_source source = {x, SEAM_VALUE_F32};
    return source_measure(ret_ranges, id, source, rows, channels, range_rows);
}

seam_status seam_codec_measure_bf16(uint8_t *ret_ranges, seam_codec_id id, const uint16_t *x,
                                    uint32_t rows, uint32_t channels, const uint8_t *range_rows) {
    SEAM_ASSERT(seam_codec_has_ranges(id));
    const seam_codec_source source = {x, SEAM_VALUE_BF16};
    return source_measure(ret_ranges, id, source, rows, channels, range_rows);
}

static seam_status source_encode(uint8_t *ret_codes, float *ret_decoded,
                                 const seam_codec_args *args, seam_codec_source source,
                                 uint32_t rows, const seam_rounding *rounding, void *scratch) {
    const seam_codec_ops *ops = ops_find(args->id);
    if (ops == NULL) {
        return SEAM_E_UNIMPLEMENTED;
    }
    shape_assert(rows, args->channels);
    return ops->encode(ret_codes, ret_decoded, args, source, rows, rounding, scratch);
}

seam_status seam_codec_encode(uint8_t *ret_codes, float *ret_decoded, const seam_codec_args *args,
                              const float *x, uint32_t rows, const seam_rounding *rounding,
                              void *scratch) {
    const seam_codec_source source = {x, SEAM_VALUE_F32};
    return source_encode(ret_codes, ret_decoded, args, source, rows, rounding, scratch);
}

seam_status seam_codec_encode_bf16(uint8_t *ret_codes, float *ret_decoded,
                                   const seam_codec_args *args, const uint16_t *x, uint32_t rows,
                                   const seam_rounding *rounding, void *scratch) {
    SEAM_ASSERT(seam_codec_has_ranges(args->id));
    const seam_codec_source source = {x, SEAM_VALUE_BF16};
    return source_encode(ret_codes, ret_decoded, args, source, rows, rounding, scratch);
}

seam_status seam_codec_decode(float *ret_x, const seam_codec_args *args, const uint8_t *codes,
                              size_t codes_bytes, uint32_t rows, void *scratch) {
    const seam_codec_ops *ops = ops_find(args->id);
    if (ops == NULL) {
        return SEAM_E_UNIMPLEMENTED;
    }
    shape_assert(rows, args->channels);
    if (codes_bytes != seam_codec_code_bytes(args->id, args->widths, rows, args->channels)) {
        return SEAM_E_FORMAT;
    }
    return ops->decode(ret_x, args, codes, rows, scratch);
}

seam_status seam_codec_steps(float *ret_steps, const seam_codec_args *args) {
    const seam_codec_ops *ops = ops_find(args->id);
    if (ops == NULL) {
        return SEAM_E_UNIMPLEMENTED;
    }
    shape_assert(1, args->channels);
    return ops->steps(ret_steps, args);
}
