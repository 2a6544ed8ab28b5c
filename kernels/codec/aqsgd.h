/* Codec `aqsgd`, forward tensors: each sample's rows travel whole at its first visit and as a
 * quantized change afterwards.  SPEC 3.2, WIRE.md 3.6; arXiv 2206.01299, DS3Lab/AC-SGD.
 *
 *   first visit     the model sees m = fp16(x); the cache keeps m
 *   later           the model sees m' = fp16(m + x^), x^ = Q(x - m); the cache keeps m'
 *
 * Q is aqsgd_quant.h's, its scales taken over the changed rows of the tensor.  Both ends keep the
 * same cache (sample_cache.h), of fp16 rows or of rows quantized by Q with scales of the sample's
 * own; then the m of the next visit is what the cache gives back.  A sum beyond fp16 becomes its
 * largest finite value; an x beyond it is refused.  (Gradients have no cache: coder_aqsgd.c.)
 *
 * The frame says which sequences travel whole, and for each other one the CRC-32C of what the
 * sender has cached, so that two caches that have come apart are an error, never a silent
 * difference.  A sequence travels whole when its sample is not cached, is cached with another
 * count of rows, or stands in this tensor already (an entry changes once a tensor, at its end; the
 * last sequence of a repeated sample is what stays).
 *
 * The cache changes by whole tensors: `begin`, every chunk in order, `commit`.  A tensor that fails
 * or is begun again leaves it as it was.  Pure C, no allocation after create; one thread. */
#ifndef SEAM_AQSGD_H
#define SEAM_AQSGD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec.h"
#include "seam_status.h"

typedef struct seam_aqsgd_config {
    uint32_t channels;
    uint32_t rows_max, sequences_max; /* of a tensor */
    uint32_t bits;                    /* of the change, 1..16 */
    uint32_t cache_bits;              /* of a cached value, 1..16; 0: fp16 */
    uint8_t *storage;                 /* of the cache; borrowed, contents do not matter */
    size_t storage_bytes;
} seam_aqsgd_config;

typedef struct seam_aqsgd seam_aqsgd;

/* What create takes beside the storage, for plans (config->storage may be NULL).
 * SEAM_E_LIMIT: more than a size_t holds. */
seam_status seam_aqsgd_memory_bytes(size_t *ret_bytes, const seam_aqsgd_config *config);
/* SEAM_E_MEMORY, SEAM_E_LIMIT. */
seam_status seam_aqsgd_create(seam_aqsgd **ret_aqsgd, const seam_aqsgd_config *config);
void seam_aqsgd_destroy(seam_aqsgd *gift_aqsgd);

/* Largest payload of a chunk: what stands before the rows of the first one; the rows. */
size_t seam_aqsgd_head_bytes_max(uint32_t sequences, uint32_t channels);
size_t seam_aqsgd_rows_bytes_max(uint32_t rows, uint32_t channels);

/* A tensor x (rows, C) begins.  Sample ids are told and the sequences' rows
 * add up to `rows` (asserted).
 * range_rows: bitmap of the rows that scales are taken over; NULL: all.
 * SEAM_E_NONFINITE: a value that is not finite, or not in fp16. */
seam_status seam_aqsgd_encode_begin(seam_aqsgd *aqsgd, const seam_sequences *sequences,
                                    const float *x, uint32_t rows, const uint8_t *range_rows);
/* Payload of its next chunk, x being that chunk's rows.  ret_decoded (rows, C) or NULL: what the
 * receiver will see; it may be x itself. */
void seam_aqsgd_encode(size_t *ret_payload_bytes, float *ret_decoded, seam_aqsgd *aqsgd,
                       uint8_t *ret_payload, const float *x, uint32_t rows);

/* The reverse; ret_x NULL: only the cache is wanted.  SEAM_E_FORMAT, SEAM_E_NONFINITE;
 * SEAM_E_STATE: a sample that comes as a change is not cached here, or not as the sender has it;
 * *err names it.  After an error ret_x is unspecified and the tensor is over. */
void seam_aqsgd_decode_begin(seam_aqsgd *aqsgd, const seam_sequences *sequences, uint32_t rows,
                             const uint8_t *range_rows);
seam_status seam_aqsgd_decode(float *ret_x, seam_aqsgd *aqsgd, const uint8_t *payload,
                              size_t payload_bytes, uint32_t rows, seam_error *err);

/* All rows were coded: the cache takes them. */
void seam_aqsgd_commit(seam_aqsgd *aqsgd);

/* An encoder forgets its cache: every sample travels whole again, which any decoder takes. */
void seam_aqsgd_forget(seam_aqsgd *aqsgd);

/* ---- the cache on a disk ---- */

/* What a commit did to the cache, as bytes that do it again anywhere (aqsgd_tape.c); valid during
 * the call.  An encoder's and a decoder's are the same. */
typedef void seam_aqsgd_commit_fn(void *user, const uint8_t *tape, size_t tape_bytes);
/* fn NULL: nobody is told. */
void seam_aqsgd_on_commit(seam_aqsgd *aqsgd, seam_aqsgd_commit_fn *fn, void *user);
/* Every entry likewise, from the least recently used on: a cache without any becomes the same by
 * them.  *entry: SEAM_CACHE_NONE first, then what the last call left; false: there was no other.
 * No tensor is in work. */
bool seam_aqsgd_entry_tape(const uint8_t **ret_tape, size_t *ret_tape_bytes, seam_aqsgd *aqsgd,
                           uint32_t *entry);
/* Does a tape again; nobody is told.  SEAM_E_FORMAT, and as decode: it is none of this cache as it
 * is now; what was done of it is unspecified. */
seam_status seam_aqsgd_replay(seam_aqsgd *aqsgd, const uint8_t *tape, size_t tape_bytes,
                              seam_error *err);
/* Bytes that the entries take. */
size_t seam_aqsgd_cached_bytes(const seam_aqsgd *aqsgd);

/* Sequences of the tensor in work that travel whole, and samples in the cache. */
uint32_t seam_aqsgd_whole_count(const seam_aqsgd *aqsgd);
/* Of a tensor that is decoded those that a sender with our cache would not have sent whole: it has
 * lost its own. */
uint32_t seam_aqsgd_forgotten_count(const seam_aqsgd *aqsgd);
uint32_t seam_aqsgd_cached_count(const seam_aqsgd *aqsgd);

#endif
