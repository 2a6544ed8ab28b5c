/* Codec `dictionary`: rows that repeat travel once.  SPEC 3.3, WIRE.md 3.5.
 *
 * Under a frozen embedding a token always gives the same row, so the rows of site fwd_in come from
 * a finite set.  A row that is new travels as bf16 and enters a table, in order of first
 * appearance; afterwards its index travels.  Lossless relative to codec bf16.  No token ids are
 * needed: a row is known by its bf16 bytes.
 *
 * Both ends keep the same table because it changes by whole tensors only: `begin`, then every
 * chunk in order, then `commit`.  A tensor that fails, or is begun again, leaves the table as it
 * was.  A full table stays as it is; further new rows travel inline and do not enter it.
 *
 * A chunk says how many rows the table has before it.  Fewer than the decoder has means that the
 * encoder went back (it was restarted, or rolled back): the decoder drops the rows beyond, at once
 * and for good.  More means that the decoder has lost rows: SEAM_E_STATE.
 *
 * Pure C, no allocation after create; one thread at a time. */
#ifndef SEAM_DICTIONARY_H
#define SEAM_DICTIONARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_DICTIONARY_ROWS_MAX   (1u << 20) /* of a table */
#define SEAM_DICTIONARY_HEAD_BYTES 12         /* table rows, new rows, inline rows: u32 each */

typedef struct seam_dictionary_config {
    uint32_t channels;
    uint32_t rows_max;       /* of the table, 1..SEAM_DICTIONARY_ROWS_MAX */
    uint32_t chunk_rows_max; /* rows that one encode or decode is given at most */
    bool encoder;            /* can look rows up; a decoder needs no hash table */
} seam_dictionary_config;

typedef struct seam_dictionary seam_dictionary;

/* What create takes, for plans.  SEAM_E_LIMIT: more than a size_t holds. */
seam_status seam_dictionary_memory_bytes(size_t *ret_bytes, const seam_dictionary_config *config);
/* SEAM_E_MEMORY, SEAM_E_LIMIT. */
seam_status seam_dictionary_create(seam_dictionary **ret_dictionary,
                                   const seam_dictionary_config *config);
void seam_dictionary_destroy(seam_dictionary *gift_dictionary);
/* Rows in the table, as committed. */
uint32_t seam_dictionary_row_count(const seam_dictionary *dictionary);

/* Largest payload of a chunk of `rows` rows: every row new. */
size_t seam_dictionary_chunk_bytes_max(uint32_t rows, uint32_t channels);

/* An empty table: the peer may have lost its own. */
void seam_dictionary_clear(seam_dictionary *dictionary);
/* A tensor begins; what an unfinished one has added is forgotten. */
void seam_dictionary_begin(seam_dictionary *dictionary);
/* Payload of the next chunk: x (rows, C) into ret_payload (seam_dictionary_chunk_bytes_max).
 * ret_decoded (rows, C) or NULL: the bf16 values; it may be x itself.
 * SEAM_E_NONFINITE: a value that is not finite, or is not in bf16; the tensor is over then. */
seam_status seam_dictionary_encode(size_t *ret_payload_bytes, float *ret_decoded,
                                   seam_dictionary *dictionary, uint8_t *ret_payload,
                                   const float *x, uint32_t rows);
/* The reverse; every count, index and padding bit is checked.  SEAM_E_FORMAT, SEAM_E_NONFINITE,
 * SEAM_E_STATE (see above); *err says what.  ret_x is unspecified after an error and the tensor is
 * over. */
seam_status seam_dictionary_decode(float *ret_x, seam_dictionary *dictionary,
                                   const uint8_t *payload, size_t payload_bytes, uint32_t rows,
                                   seam_error *err);
/* The tensor was coded to its end: its new rows are in the table from now on. */
void seam_dictionary_commit(seam_dictionary *dictionary);

#endif
