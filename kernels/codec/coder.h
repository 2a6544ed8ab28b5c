/* Tensors to payloads and back: what both ends do between rows of floats and frames.
 *
 * A coder serves one site at one end.  It owns scratch memory, the head of the tensor in work and,
 * later, what a codec keeps from step to step.  It cuts a tensor into chunks whose payloads fit a
 * frame, and knows nothing of frames: callers put headers around payloads (proto/wire/frame.h).
 *
 *   encode: begin(tensor), then chunk() until seam_coder_is_done
 *   decode: begin(tensor), then chunk(payload) for every chunk in row order
 *
 * With plan->entropy a chunk's codes are entropy coded where that makes them smaller: the same
 * values, and never more bytes.
 *
 * Rows may lie in a device's memory instead of the host's: then only payloads come and go.
 *
 * Read codec.h for the arithmetic of one codec, coder_impl.h to add one, coder_device.c for rows on
 * a device.  No I/O; memory is taken at creation only.  One thread at a time. */
#ifndef SEAM_CODER_H
#define SEAM_CODER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec.h"
#include "codec_plan.h"
#include "seam_status.h"
#include "site.h"

#define SEAM_PAYLOAD_BYTES_MAX (1u << 20) /* of one chunk, whatever is in front of its codes */

/* kernels/include */
typedef struct seam_ops seam_ops;
typedef struct seam_backend seam_backend;
typedef struct seam_stream seam_stream;

/* What coders need to work on rows of a device: its memory for codes and widths, and a stream and
 * pinned pieces for the copies.  Coders of one thread may share a space. */
typedef struct seam_coder_space seam_coder_space;

typedef struct seam_coder_config {
    seam_codec_id codec;
    bool encoder, gradient; /* this end sends; a backward site, or requests (phase 3): no cache */
    uint32_t channels, rows_max;
    uint32_t state_rows_max, sequences_max; /* what a codec keeps is of tensors up to these */
    uint8_t *storage; /* codecs with a cache: theirs while the coder lives; not taken by create */
    size_t storage_bytes;
    uint32_t bits_max;           /* widths that may come; codecs with widths */
    const seam_codec_plan *plan; /* options of the codec, copied; NULL: all zero */
    seam_coder_space *space;     /* borrowed; NULL: all rows are the host's */
} seam_coder_config;

typedef struct seam_coder seam_coder;

/* The codec is implemented and the config valid (asserted).  SEAM_E_MEMORY. */
seam_status seam_coder_create(seam_coder **ret_coder, const seam_coder_config *config);
void seam_coder_destroy(seam_coder *gift_coder);
/* Memory that create takes. */
size_t seam_coder_memory_bytes(const seam_coder_config *config);

/* For plans: the largest sum of payloads of a tensor of `rows` rows in the config's codec, and its
 * largest count of
 * chunks. */
size_t seam_coder_bytes_max(const seam_coder_config *config, uint32_t rows);
uint32_t seam_coder_chunks_max(uint32_t rows);
/* Do 32 rows of any codec fit a payload?  SEAM_E_LIMIT. */
seam_status seam_coder_channels_check(uint32_t channels);

/* ---- rows on a device ---- */

/* Has the codec a form for them?  f32, bf16, affine, amaq. */
bool seam_codec_has_device(seam_codec_id id);
/* `backend` has a codec (seam_ops.codec).  codes_bytes: of the largest tensor's payloads.
 * SEAM_E_MEMORY. */
seam_status seam_coder_space_create(seam_coder_space **ret_space, const seam_ops *ops,
                                    seam_backend *backend, uint32_t channels, size_t codes_bytes);
void seam_coder_space_destroy(seam_coder_space *gift_space); /* NULL is fine */
/* Memory that create takes. */
void seam_coder_space_bytes(size_t *ret_device_bytes, size_t *ret_host_bytes, const seam_ops *ops,
                            uint32_t channels, size_t codes_bytes);

/* Where a tensor's rows lie; all pointers but stream are the device's. */
typedef struct seam_coder_place {
    seam_stream *stream;  /* their order: encoding reads them, decoding writes them in it */
    float *x;             /* row i at x + list[i] * C (NULL: i) */
    const uint32_t *list; /* (rows); decoding leaves out rows at UINT32_MAX */
    /* Encoding: rows of x that ranges are taken over, instead of the tensor's range_rows; NULL: all
     * of the tensor. */
    const uint32_t *range_list;
    uint32_t range_count;
    float *decoded; /* (rows, C) as ret_decoded of encode_chunk, affine and amaq; or NULL */
} seam_coder_place;

/* What both ends know of a tensor; pointers are kept to its last chunk. */
typedef struct seam_coder_tensor {
    seam_codec_id codec;     /* the coder's, or f32, bf16 in its place */
    const seam_alloc *alloc; /* codecs with widths */
    uint32_t rows;           /* 1..rows_max */
    seam_sequences sequences;
    const uint8_t *range_rows; /* bitmap of the rows that ranges are taken over; NULL: all */
    const uint32_t *row_gates; /* (rows); amaq_token: the allocation's width that each row has */
    const seam_coder_place *place; /* the rows are a device's: no x, ret_x, ret_decoded; or NULL */
} seam_coder_tensor;

typedef struct seam_coder_chunk {
    uint32_t row_begin, row_count;
    uint32_t payload_bytes;
    uint8_t coding; /* of the codes: 0 as the codec wrote them, 1 rANS (plan->entropy) */
} seam_coder_chunk;

/* For plans: the chunk of a tensor that begins at row_begin, 0 or the end of the one before, as
 * encoding will cut it and fill it, but for an entropy coder, which makes it no larger.  Of a codec
 * whose payload goes by what it has kept (seam_coder_goes_by_state): the most.  The tensor's place
 * is not read.  SEAM_E_LIMIT: as encode_begin. */
seam_status seam_coder_chunk_plan(seam_coder_chunk *ret_chunk, const seam_coder_config *config,
                                  const seam_coder_tensor *tensor, uint32_t row_begin);
/* dictionary, and aqsgd but for gradients. */
bool seam_coder_goes_by_state(const seam_coder_config *config);

typedef struct seam_coder_encode_args {
    seam_coder_tensor tensor;
    const float *x;         /* (rows, C) */
    const uint16_t *x_bf16; /* (rows, C) bf16 in its place, or NULL; affine and amaq */
    seam_rounding rounding; /* of row 0 */
} seam_coder_encode_args;

/* SEAM_E_LIMIT: 32 rows do not fit a payload.  SEAM_E_NONFINITE: as seam_codec_measure. */
seam_status seam_coder_encode_begin(seam_coder *coder, const seam_coder_encode_args *args);
/* The next chunk's payload; capacity of at least SEAM_PAYLOAD_BYTES_MAX or what is left of
 * seam_coder_bytes_max.  ret_decoded: the whole tensor (rows, C), of which the chunk's rows are
 * written as the receiver will see them, or NULL; it may be x.  SEAM_E_NONFINITE. */
seam_status seam_coder_encode_chunk(seam_coder_chunk *ret_chunk, uint8_t *ret_payload,
                                    size_t capacity, float *ret_decoded, seam_coder *coder);
/* All rows of the tensor have gone through. */
bool seam_coder_is_done(const seam_coder *coder);

void seam_coder_decode_begin(seam_coder *coder, const seam_coder_tensor *tensor);
/* Chunks in row order, which the caller's frame layer has checked (asserted).  ret_x: the whole
 * tensor (rows, C), of which the chunk's rows are written.  SEAM_E_FORMAT, SEAM_E_NONFINITE, and
 * what a codec with state adds; *err says why. */
seam_status seam_coder_decode_chunk(float *ret_x, seam_coder *coder, const seam_coder_chunk *chunk,
                                    const uint8_t *payload, seam_error *err);
/* What the tensor changes in the state of its codec counts from now on: when all its chunks went
 * through and nothing after them failed.  Without it the state stays as it was before the tensor's
 * begin.  Nothing for codecs without state. */
void seam_coder_commit(seam_coder *coder);
/* An encoder forgets what it believes that the peer has kept (the peer may have lost it): later
 * tensors stand for themselves until they are committed.  Nothing for codecs without a cache. */
void seam_coder_forget(seam_coder *coder);
/* The cache that it codes against (aqsgd.h); NULL: it has none, as a NULL coder has none. */
typedef struct seam_aqsgd seam_aqsgd;
seam_aqsgd *seam_coder_cache(seam_coder *coder);
/* D_c (C) of the tensor that was encoded or decoded last: seam_codec_steps.  amaq_token: D_t of
 * its rows (rows), which are state_rows_max or fewer. */
seam_status seam_coder_steps(float *ret_steps, const seam_coder *coder);
/* Mean width of the values of that tensor, of a codec with widths. */
double seam_coder_mean_bits(const seam_coder *coder);

#endif
