/* Inside of the codec folder: what coder.c asks of one codec.
 *
 * A codec is one file with a seam_coder_ops and one row in codec.c's table.  What stands in front
 * of the codes of a chunk (ranges, scales) is its head; codes of codecs with widths are bit planes
 * behind the head, so that a stage after the codec finds them at payload + head. */
#ifndef SEAM_CODER_IMPL_H
#define SEAM_CODER_IMPL_H

#include "coder.h"

/* Worst case of payload bytes: a head a chunk, and every started group of 32 rows. */
typedef struct seam_coder_cost {
    size_t head_first, head_other;
    size_t group;
} seam_coder_cost;

typedef struct seam_coder_ops {
    /* bits_total: the most bits of one row by the widths in force, or channels * bits_max for a
     * plan; 0 without. */
    seam_coder_cost (*cost)(const seam_coder_config *config, seam_codec_id codec,
                            uint64_t bits_total);
    /* The first chunk is due: coder->encode is set.  Measures the tensor into coder->head where
     * the codec does so. */
    seam_status (*encode_begin)(seam_coder *coder);
    /* What stands in front of the codes of this chunk; NULL where codes are no bit planes. */
    size_t (*head_bytes)(const seam_coder *coder, const seam_coder_chunk *chunk);
    /* The payload of a chunk of these rows, which encode_chunk sets; of what goes by a state, the
     * most.  No memory of the coder's is read. */
    size_t (*payload_bytes)(const seam_coder *coder, const seam_coder_chunk *chunk);
    /* ret_decoded (row_count, C) or NULL: here the chunk's first row.  Sets payload_bytes. */
    seam_status (*encode_chunk)(seam_coder_chunk *chunk, uint8_t *ret_payload, float *ret_decoded,
                                seam_coder *coder);
    void (*decode_begin)(seam_coder *coder); /* NULL: nothing to do */
    /* ret_x (row_count, C): here the chunk's first row.  The first chunk brings the head.  An
     * error without text gets the status's own. */
    seam_status (*decode_chunk)(float *ret_x, seam_coder *coder, const seam_coder_chunk *chunk,
                                const uint8_t *payload, seam_error *err);
    void (*commit)(seam_coder *coder); /* NULL: no state */
    void (*forget)(seam_coder *coder); /* NULL: no cache */
    /* NULL: no grid a channel or row */
    seam_status (*steps)(float *ret_steps, const seam_coder *coder);
    size_t (*scratch_bytes)(const seam_coder_config *config);
    /* Of codecs with state, else NULL: coder->state. */
    seam_status (*state_create)(void **ret_state, const seam_coder_config *config);
    void (*state_destroy)(void *gift_state); /* NULL is fine */
    size_t (*state_bytes)(const seam_coder_config *config);
} seam_coder_ops;

/* The stage behind the codec: coder_entropy.c.  All NULL where the session has none. */
typedef struct seam_coder_entropy {
    uint8_t *payload; /* encoder: a stream; decoder: a payload as the codec wrote it */
    size_t payload_bytes_max;
    void *scratch; /* seam_rans_scratch_bytes, 64-byte aligned */
} seam_coder_entropy;

struct seam_coder {
    seam_coder_config config; /* config.plan points to `plan` */
    seam_codec_plan plan;
    uint8_t *head; /* (4 + 4*C): the first chunk's, of the tensor in work */
    void *scratch; /* ops->scratch_bytes, 64-byte aligned */
    void *state;   /* of config.codec, from tensor to tensor */
    seam_coder_entropy entropy;

    /* The tensor in work. */
    const seam_coder_ops *ops;
    seam_coder_tensor tensor;
    const uint8_t *widths;         /* of tensor.alloc, or NULL */
    seam_coder_encode_args encode; /* while encoding */
    uint32_t rows_first, rows_other, row_next;
};

/* Codec of the table, or NULL: codec.c. */
const seam_coder_ops *seam_coder_ops_find(seam_codec_id codec);

extern const seam_coder_ops seam_coder_plain_ops;  /* coder_plain.c: f32, bf16, affine, amaq */
extern const seam_coder_ops seam_coder_device_ops; /* coder_device.c: the same, rows on a device */
extern const seam_coder_ops seam_coder_aqsgd_ops;
extern const seam_coder_ops seam_coder_dictionary_ops;
extern const seam_coder_ops seam_coder_token_ops; /* codec_token.c: amaq_token */
extern const seam_coder_ops
    seam_coder_symmetric_ops; /* codec_symmetric.c: tensor, channel, group */

/* ---- coder_entropy.c ---- */

/* Memory that create takes; 0 where the plan or the codec has no entropy coder. */
size_t seam_coder_entropy_bytes(const seam_coder_config *config);
seam_status seam_coder_entropy_create(seam_coder_entropy *ret, const seam_coder_config *config);
void seam_coder_entropy_destroy(seam_coder_entropy *entropy);
/* Codes the payload that the codec wrote for this chunk, where it shrinks: coding and payload_bytes
 * change.  Nothing for tensors without bit planes. */
void seam_coder_entropy_encode(seam_coder_chunk *chunk, uint8_t *payload, seam_coder *coder);
/* *chunk of coding 1 and *payload become those that the codec reads.  SEAM_E_FORMAT. */
seam_status seam_coder_entropy_decode(seam_coder_chunk *chunk, const uint8_t **payload,
                                      seam_coder *coder, seam_error *err);

/* ---- coder.c ---- */

/* The rounding of the chunk that begins at `row`. */
seam_rounding seam_coder_rounding_at(const seam_coder *coder, uint32_t row);
/* ceil(rows * bits_total / 8) */
size_t seam_coder_code_bytes(uint64_t bits_total, uint32_t rows);

#endif
