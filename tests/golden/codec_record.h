/* Records of the codec comparison: read a question, answer it with kernels/codec.
 * tests/oracle/codec_cases.py describes the bytes.  For test programs only. */
#ifndef SEAM_TEST_CODEC_RECORD_H
#define SEAM_TEST_CODEC_RECORD_H

#include <stdint.h>
#include <stdio.h>

#include "codec.h"

typedef struct codec_record {
    seam_codec_args args; /* ranges: the answer's */
    uint32_t rows, labelled_rows;
    seam_rounding rounding;
    uint8_t *widths, *mask; /* mask NULL: all rows */
    uint32_t *row_ids;
    float *x, *g;
} codec_record;

typedef struct codec_answer {
    size_t ranges_bytes, codes_bytes;
    uint8_t *ranges, *codes;
    float *decoded, *exact, *surrogate;
} codec_answer;

/* Both end the program on a short file. */
void codec_record_read(codec_record *ret_record, FILE *file);
void codec_answer_read(codec_answer *ret_answer, const codec_record *record, FILE *file);
/* Measure, encode, decode again (which must give the encoder's values), gate gradients. */
seam_status codec_record_answer(codec_answer *ret_answer, codec_record *record);
void codec_answer_write(const codec_answer *answer, const codec_record *record, FILE *file);
void codec_record_free(codec_record *record);
void codec_answer_free(codec_answer *answer);

/* `count` little-endian words. */
void words_read(void *ret, size_t count, FILE *file);
uint32_t word_read(FILE *file);

#endif
