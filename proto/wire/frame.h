/* Frames: the byte format of everything keyed that crosses the wire.  WIRE.md is the normative
 * text; this is its C form.  A frame is one protobuf `bytes` field, always the last of its
 * message.
 *
 *   off size  field            off size  field
 *     0    4  magic "SEAM"      24    4  rows of the whole tensor
 *     4    1  version = 1       28    4  channels
 *     5    1  kind              32    4  row_begin (multiple of 32)
 *     6    1  phase             36    4  row_count of this chunk
 *     7    1  codec             40    4  alloc_version (0: codec has none)
 *     8    2  site              44    4  alloc_bits_total
 *    10    1  coding            48    8  alloc_hash
 *    11    1  reserved, zero
 *    12    4  micro             56    4  payload_bytes
 *    16    8  step              60    4  crc32c of header (this field zero) and payload
 *    64  ...  payload                                                                        */
#ifndef SEAM_FRAME_H
#define SEAM_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_FRAME_HEADER_BYTES 64
#define SEAM_FRAME_VERSION      1
#define SEAM_CHUNK_BYTES_MAX    (1u << 20) /* payload of one frame */
/* A message to a server: a chunk and its wrapping, or a StepBegin. */
#define SEAM_REQUEST_BYTES_MAX (SEAM_CHUNK_BYTES_MAX + 64u * 1024u)
#define SEAM_MICROS_MAX        4096u

typedef enum seam_frame_kind {
    SEAM_FRAME_TENSOR = 1,
    SEAM_FRAME_GATE_SIGNAL = 2, /* payload: C x f32, dL/db of the site */
    SEAM_FRAME_GRAD_NORM = 3,   /* payload: f64, sum of squares */
    SEAM_FRAME_RANGE = 4,       /* payload: a range block */
    SEAM_FRAME_LOSS = 5,   /* payload: f64 sum of losses, u64 likeliest tokens that are right */
    SEAM_FRAME_TOKENS = 6, /* payload: rows x u32, token ids */
} seam_frame_kind;

typedef enum seam_phase {
    SEAM_PHASE_FORWARD = 1,
    SEAM_PHASE_BACKWARD = 2,
    SEAM_PHASE_GENERATE = 3, /* step = request number within the stream */
} seam_phase;

typedef struct seam_frame_header {
    uint8_t kind, phase, codec;
    uint8_t coding; /* of a tensor's codes: 0 bit planes, 1 rANS */
    uint16_t site;
    uint32_t micro;
    uint64_t step;
    uint32_t rows, channels, row_begin, row_count;
    uint32_t alloc_version, alloc_bits_total;
    uint64_t alloc_hash;
    uint32_t payload_bytes;
} seam_frame_header;

/* Write header and CRC in front of a payload that already stands at
 * frame + SEAM_FRAME_HEADER_BYTES.  Header fields are asserted. */
void seam_frame_seal(uint8_t *frame, const seam_frame_header *header);
/* Check and read a frame of `count` bytes; *ret_payload points into it.
 * SEAM_E_FORMAT (err names the field), SEAM_E_CHECKSUM. */
seam_status seam_frame_open(seam_frame_header *ret_header, const uint8_t **ret_payload,
                            const uint8_t *frame, size_t count, seam_error *err);
/* The CRC field of a sealed frame: input of tensor digests. */
uint32_t seam_frame_crc(const uint8_t *frame);
/* Digest of a keyed message: FNV-1a over the CRC fields (u32 LE) of its frames in order. */
uint64_t seam_frame_digest_add(uint64_t digest, uint32_t crc);

#endif
