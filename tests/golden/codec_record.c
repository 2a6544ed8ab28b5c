/* See codec_record.h.  Test machines are little-endian, so arrays are read as they stand. */
#include "codec_record.h"

#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "gates.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the records are read as they stand on little-endian machines"
#endif

#define FLAG_STOCHASTIC 1u
#define FLAG_MASK       2u
#define FLAG_ROW_IDS    4u

static void *take(size_t count, size_t item_bytes) {
    void *ptr = calloc(count + 1, item_bytes);
    if (ptr == NULL) {
        (void)fprintf(stderr, "codec_record: out of memory\n");
        exit(1);
    }
    return ptr;
}

static void bytes_read(void *ret, size_t count, FILE *file) {
    if (fread(ret, 1, count, file) != count) {
        (void)fprintf(stderr, "codec_record: the file ends too early\n");
        exit(1);
    }
}

void words_read(void *ret, size_t count, FILE *file) {
    bytes_read(ret, 4 * count, file);
}

uint32_t word_read(FILE *file) {
    uint32_t word = 0;
    words_read(&word, 1, file);
    return word;
}

void codec_record_read(codec_record *ret_record, FILE *file) {
    uint32_t head[8];
    uint64_t wide[2];
    words_read(head, 8, file);
    bytes_read(wide, sizeof wide, file);
    const uint32_t rows = head[0], channels = head[1], flags = head[3];
    const size_t values = (size_t)rows * channels;
    memset(ret_record, 0, sizeof *ret_record);
    ret_record->rows = rows;
    ret_record->labelled_rows = head[6];
    ret_record->widths = take(channels, 1);
    bytes_read(ret_record->widths, channels, file);
    if ((flags & FLAG_MASK) != 0) {
        ret_record->mask = take(((size_t)rows + 7) / 8, 1);
        bytes_read(ret_record->mask, ((size_t)rows + 7) / 8, file);
    }
    if ((flags & FLAG_ROW_IDS) != 0) {
        ret_record->row_ids = take(rows, 4);
        words_read(ret_record->row_ids, rows, file);
    }
    ret_record->x = take(values, 4);
    ret_record->g = take(values, 4);
    words_read(ret_record->x, values, file);
    words_read(ret_record->g, values, file);
    ret_record->rounding = (seam_rounding){.stochastic = (flags & FLAG_STOCHASTIC) != 0,
                                           .seed = wide[0],
                                           .step = wide[1],
                                           .site = (uint16_t)head[4],
                                           .micro = (uint16_t)head[5],
                                           .row_ids = ret_record->row_ids};
    ret_record->args = (seam_codec_args){
        .id = (seam_codec_id)head[2], .channels = channels, .widths = ret_record->widths};
}

static void answer_alloc(codec_answer *ret, const codec_record *record) {
    const uint32_t channels = record->args.channels;
    ret->ranges_bytes = seam_codec_range_bytes(record->args.id, channels);
    ret->codes_bytes =
        seam_codec_code_bytes(record->args.id, record->widths, record->rows, channels);
    ret->ranges = take(ret->ranges_bytes, 1);
    ret->codes = take(ret->codes_bytes, 1);
    ret->decoded = take((size_t)record->rows * channels, 4);
    ret->exact = take(channels, 4);
    ret->surrogate = take(channels, 4);
}

void codec_answer_read(codec_answer *ret_answer, const codec_record *record, FILE *file) {
    const uint32_t channels = record->args.channels;
    answer_alloc(ret_answer, record);
    bytes_read(ret_answer->ranges, ret_answer->ranges_bytes, file);
    if (word_read(file) != ret_answer->codes_bytes) {
        (void)fprintf(stderr, "codec_record: the code bytes have another count\n");
        exit(1);
    }
    bytes_read(ret_answer->codes, ret_answer->codes_bytes, file);
    words_read(ret_answer->decoded, (size_t)record->rows * channels, file);
    words_read(ret_answer->exact, channels, file);
    words_read(ret_answer->surrogate, channels, file);
}

static seam_status answer_fill(codec_answer *ret, codec_record *record, float *again, float *steps,
                               float *sums, void *scratch) {
    const seam_codec_args *args = &record->args;
    const uint32_t rows = record->rows, channels = args->channels;
    seam_status st =
        seam_codec_measure(ret->ranges, args->id, record->x, rows, channels, record->mask);
    record->args.ranges = ret->ranges;
    if (st == SEAM_OK) {
        st = seam_codec_encode(ret->codes, ret->decoded, args, record->x, rows, &record->rounding,
                               scratch);
    }
    if (st == SEAM_OK) {
        st = seam_codec_decode(again, args, ret->codes, ret->codes_bytes, rows, scratch);
    }
    if (st == SEAM_OK && memcmp(again, ret->decoded, (size_t)rows * channels * 4) != 0) {
        return SEAM_E_NONDETERMINISM;
    }
    if (st == SEAM_OK) {
        st = seam_codec_steps(steps, args);
    }
    if (st != SEAM_OK) {
        return st;
    }
    seam_gates_add_exact(ret->exact, record->g, record->x, ret->decoded, record->widths, rows,
                         channels);
    seam_gates_add_squares(sums, record->g, rows, channels);
    seam_gates_surrogate(ret->surrogate, sums, steps, record->widths, record->labelled_rows,
                         channels);
    return SEAM_OK;
}

seam_status codec_record_answer(codec_answer *ret_answer, codec_record *record) {
    const uint32_t channels = record->args.channels;
    answer_alloc(ret_answer, record);
    float *again = take((size_t)record->rows * channels, 4);
    float *steps = take(channels, 4), *sums = take(channels, 4);
    void *scratch = seam_mem_alloc_aligned(seam_codec_scratch_bytes(channels));
    const seam_status st = scratch == NULL
                               ? SEAM_E_MEMORY
                               : answer_fill(ret_answer, record, again, steps, sums, scratch);
    seam_mem_free(scratch);
    free(again);
    free(steps);
    free(sums);
    return st;
}

void codec_answer_write(const codec_answer *answer, const codec_record *record, FILE *file) {
    const uint32_t channels = record->args.channels, count = (uint32_t)answer->codes_bytes;
    (void)fwrite(answer->ranges, 1, answer->ranges_bytes, file);
    (void)fwrite(&count, 4, 1, file);
    (void)fwrite(answer->codes, 1, answer->codes_bytes, file);
    (void)fwrite(answer->decoded, 4, (size_t)record->rows * channels, file);
    (void)fwrite(answer->exact, 4, channels, file);
    (void)fwrite(answer->surrogate, 4, channels, file);
}

void codec_record_free(codec_record *record) {
    free(record->widths);
    free(record->mask);
    free(record->row_ids);
    free(record->x);
    free(record->g);
}

void codec_answer_free(codec_answer *answer) {
    free(answer->ranges);
    free(answer->codes);
    free(answer->decoded);
    free(answer->exact);
    free(answer->surrogate);
}
