/* The codec of a backend whose memory the host cannot read: f32, bf16, affine and amaq on rows that
 * lie there, bit for bit what kernels/codec makes of the same rows on the host.
 *
 * What it is not: frames, chunks, entropy coding, checks of what a peer sent, widths and gates;
 * these stay with kernels/codec, whose coder_device.c drives this table.  A backend whose memory
 * is the host's has none (seam_ops.codec is NULL).  WIRE.md 3.1 and 3.2 are the specification.
 *
 * Every call queues its work on the stream and returns, as the ops of ops.h; all pointers are the
 * device's, but where it says host. */
#ifndef SEAM_DEVICE_CODEC_H
#define SEAM_DEVICE_CODEC_H

#include "ops.h"

typedef struct seam_event seam_event; /* a point in the order of a stream's work */

/* Row i of a tensor (rows, C) lies at x + list[i] * C (NULL: i). */
typedef struct seam_device_rows {
    void *x;
    seam_dtype type;      /* f32, bf16 */
    const uint32_t *list; /* (rows), no row twice */
    uint32_t rows, C;
} seam_device_rows;
#define SEAM_DEVICE_ROW_NONE UINT32_MAX /* in a list of decode: a row that is not written */

/* What one tensor in work needs beside its rows and codes, in one block of work_bytes(C), which is
 * all zero before its first use.  Its head, at head_offset(C), is a status (u32: 0, or 1 after a
 * value that the codec refuses) and the range block (4 + 4*C bytes) behind it; both may be fetched,
 * and a range block be put there. */
typedef struct seam_device_work {
    void *bytes;
    const uint32_t
        *plane_begin; /* (C + 1): sum of the widths of the channels before; not f32, bf16 */
    uint32_t planes;  /* plane_begin[C] */
    uint8_t width_max;
} seam_device_work;

typedef struct seam_device_encode_args {
    seam_device_work work;
    seam_device_rows rows;
    seam_device_rows ranged; /* rows that ranges are taken over; none: all bounds are 0 */
    void *codes;    /* all groups, one after another; 4-byte aligned, filled up to 4 bytes */
    float *decoded; /* (rows, C) dense, or NULL: what the receiver will see */
    bool stochastic;
    uint64_t seed, step;
    uint16_t site, micro;
    const uint32_t *row_ids; /* (rows) as seam_rounding; NULL: row_id_begin + i */
    uint32_t row_id_begin;
} seam_device_encode_args;

/* Rows [row_begin, row_begin + row_count) of a tensor: whole groups of 32, but for its last. */
typedef struct seam_device_decode_args {
    seam_device_work work; /* its range block has been put there and checked */
    seam_device_rows rows; /* of the whole tensor */
    const void *codes;     /* of the whole tensor, as encode's */
    uint32_t row_begin, row_count;
} seam_device_decode_args;

struct seam_device_codec {
    size_t (*work_bytes)(uint32_t channels);
    size_t (*head_offset)(uint32_t channels);

    /* Range block and codes.  Status 0, or 1 where seam_codec_measure or seam_codec_encode give
     * SEAM_E_NONFINITE; the rest is unspecified then. */
    seam_status (*encode)(seam_stream *stream, const seam_device_encode_args *args);
    seam_status (*decode)(seam_stream *stream, const seam_device_decode_args *args);
    /* f32 and bf16: `codes` (rows, C) of code_type, dense.  Status 0, or 1 where a value is not
     * finite or, in bf16, becomes so; values to be decoded have been looked at. */
    seam_status (*raw_encode)(seam_stream *stream, const seam_device_work *work,
                              const seam_device_rows *rows, void *codes, seam_dtype code_type);
    seam_status (*raw_decode)(seam_stream *stream, const seam_device_rows *rows, const void *codes,
                              seam_dtype code_type);
    /* ret (rows, C) dense f32 = the rows.  It may be rows->x itself where a row that the list names
     * is listed at its own place: rows that are equal are spread so. */
    seam_status (*rows_gather)(seam_stream *stream, float *ret, const seam_device_rows *rows);
    /* ret_sums (C): sum over the rows of g^2, or of g * (decoded - x), in f64 in row order, as
     * gates.h sums.  g f32; x, decoded (rows, C) dense. */
    seam_status (*gate_squares)(seam_stream *stream, double *ret_sums, const seam_device_rows *g);
    seam_status (*gate_errors)(seam_stream *stream, double *ret_sums, const seam_device_rows *g,
                               const float *x, const float *decoded);

    /* ---- transfers that run beside the host and other streams ---- */

    /* As ops.h's copy_out, but returns before it is done; `host` is of ops.h's host_alloc. */
    seam_status (*copy_out_begin)(seam_stream *stream, void *host, const void *device,
                                  size_t bytes);
    seam_status (*event_create)(seam_event **ret_event, seam_backend *backend);
    void (*event_destroy)(seam_event *gift_event); /* NULL is fine */
    /* The event is the end of what is queued on the stream by now. */
    seam_status (*event_record)(seam_event *event, seam_stream *stream);
    /* What is queued on the stream from now on begins after the event. */
    seam_status (*event_follow)(seam_stream *stream, seam_event *event);
    seam_status (*event_wait)(seam_event *event); /* the calling thread */
};

#endif
