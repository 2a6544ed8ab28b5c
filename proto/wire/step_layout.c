/* Counts, bitmap and positions of a peer, checked; see step_layout.h. */
#include "step_layout.h"

#include <stdio.h>

#include "bytes.h"
#include "try.h"

#define REQUEST_SLOTS_MAX 4096u /* sequences of one request; bounds the search for doubles */

static seam_status rows_sum(uint32_t *ret_rows, const uint32_t *sequence_rows, size_t count,
                            const char *prefix, const seam_layout_limits *limits, seam_error *err);
static seam_status bitmap_read(uint32_t *ret_count, uint32_t *ret_rows,
                               const ProtobufCBinaryData *bitmap, uint32_t rows, const char *prefix,
                               seam_error *err);
static seam_status positions_check(const Seam__V1__MicroBatch *micro, uint32_t rows,
                                   const char *prefix, const seam_layout_limits *limits,
                                   seam_error *err);
static seam_status row_sources_read(uint32_t *ret_rows_in, const Seam__V1__MicroBatch *micro,
                                    uint32_t rows, const char *prefix,
                                    const seam_layout_limits *limits, seam_error *err);
static seam_status labels_check(const Seam__V1__MicroBatch *micro, uint32_t labelled_count,
                                const char *prefix, const seam_layout_limits *limits,
                                seam_error *err);

seam_status seam_micro_layout_read(seam_micro_layout *ret_layout, uint32_t *ret_labelled_rows,
                                   const Seam__V1__MicroBatch *micro, uint32_t micro_idx,
                                   const seam_layout_limits *limits, seam_error *err) {
    char prefix[32];
    (void)snprintf(prefix, sizeof prefix, "micros[%u].", micro_idx);
    seam_micro_layout layout = {.sequence_count = (uint32_t)micro->n_sequence_rows,
                                .sequence_rows = micro->sequence_rows,
                                .sample_ids = micro->n_sample_ids > 0 ? micro->sample_ids : NULL,
                                .positions = micro->n_positions > 0 ? micro->positions : NULL,
                                .row_sources =
                                    micro->n_row_sources > 0 ? micro->row_sources : NULL};
    SEAM_TRY(
        rows_sum(&layout.rows, micro->sequence_rows, micro->n_sequence_rows, prefix, limits, err));
    if (micro->n_sample_ids != 0 && micro->n_sample_ids != micro->n_sequence_rows) {
        return seam_error_set(err, SEAM_E_ARG, "%ssample_ids: %zu for %zu sequences", prefix,
                              micro->n_sample_ids, micro->n_sequence_rows);
    }
    if (limits->sample_ids_needed && layout.sample_ids == NULL) {
        return seam_error_set(err, SEAM_E_ARG,
                              "%ssample_ids: missing; the session's codec needs one a sequence",
                              prefix);
    }
    SEAM_TRY(positions_check(micro, layout.rows, prefix, limits, err));
    SEAM_TRY(row_sources_read(&layout.rows_in, micro, layout.rows, prefix, limits, err));
    SEAM_TRY(bitmap_read(&layout.labelled_count, ret_labelled_rows, &micro->labelled_rows,
                         layout.rows, prefix, err));
    if (layout.labelled_count == 0) {
        return seam_error_set(err, SEAM_E_ARG, "%slabelled_rows: no row is labelled", prefix);
    }
    SEAM_TRY(labels_check(micro, layout.labelled_count, prefix, limits, err));
    layout.labels = limits->labels_needed ? micro->labels : NULL;
    *ret_layout = layout;
    return SEAM_OK;
}

seam_status seam_step_begin_check(const Seam__V1__StepBegin *begin,
                                  const seam_layout_limits *limits, seam_error *err) {
    if (begin->n_micros == 0) {
        return seam_error_set(err, SEAM_E_ARG, "micros: a step has at least one");
    }
    if (begin->n_micros > limits->micros_max) {
        return seam_error_set(err, SEAM_E_LIMIT, "micros: %zu, at most %u", begin->n_micros,
                              limits->micros_max);
    }
    uint64_t labelled = 0;
    for (size_t i = 0; i < begin->n_micros; i++) {
        seam_micro_layout layout = {0};
        SEAM_TRY(seam_micro_layout_read(&layout, NULL, begin->micros[i], (uint32_t)i, limits, err));
        labelled += layout.labelled_count;
    }
    if (labelled != begin->labelled_row_count) {
        return seam_error_set(err, SEAM_E_ARG, "labelled_row_count: %llu, the bitmaps have %llu",
                              (unsigned long long)begin->labelled_row_count,
                              (unsigned long long)labelled);
    }
    if (seam_step_begin_digest(begin) != begin->digest) {
        return seam_error_set(err, SEAM_E_CHECKSUM, "digest: not that of the message");
    }
    return SEAM_OK;
}

static uint64_t hash_u32(uint64_t hash, size_t value) {
    uint8_t bytes[4];
    seam_put_u32(bytes, (uint32_t)value);
    return seam_hash64(hash, bytes, sizeof bytes);
}

static uint64_t hash_u64(uint64_t hash, uint64_t value) {
    uint8_t bytes[8];
    seam_put_u64(bytes, value);
    return seam_hash64(hash, bytes, sizeof bytes);
}

uint64_t seam_step_begin_digest(const Seam__V1__StepBegin *begin) {
    uint64_t hash = hash_u64(SEAM_HASH64_INIT, begin->step);
    hash = hash_u64(hash, begin->labelled_row_count);
    hash = hash_u32(hash, begin->n_micros);
    for (size_t i = 0; i < begin->n_micros; i++) {
        const Seam__V1__MicroBatch *micro = begin->micros[i];
        hash = hash_u32(hash, micro->n_sequence_rows);
        for (size_t j = 0; j < micro->n_sequence_rows; j++) {
            hash = hash_u32(hash, micro->sequence_rows[j]);
        }
        hash = hash_u32(hash, micro->labelled_rows.len);
        hash = seam_hash64(hash, micro->labelled_rows.data, micro->labelled_rows.len);
        hash = hash_u32(hash, micro->n_sample_ids);
        for (size_t j = 0; j < micro->n_sample_ids; j++) {
            hash = hash_u64(hash, micro->sample_ids[j]);
        }
        hash = hash_u32(hash, micro->n_positions);
        for (size_t j = 0; j < micro->n_positions; j++) {
            hash = hash_u32(hash, micro->positions[j]);
        }
        hash = hash_u32(hash, micro->n_row_sources);
        for (size_t j = 0; j < micro->n_row_sources; j++) {
            hash = hash_u32(hash, micro->row_sources[j]);
        }
        hash = hash_u32(hash, micro->n_labels);
        for (size_t j = 0; j < micro->n_labels; j++) {
            hash = hash_u32(hash, micro->labels[j]);
        }
    }
    return hash;
}

/* ---- requests ---- */

static seam_status slots_check(const Seam__V1__GenerateRows *rows, uint32_t slot_count,
                               seam_error *err) {
    if (slot_count == 0) {
        return rows->n_slots == 0
                   ? SEAM_OK
                   : seam_error_set(err, SEAM_E_ARG, "slots: Forward has no cache slots");
    }
    if (rows->n_slots != rows->n_sequence_rows) {
        return seam_error_set(err, SEAM_E_ARG, "slots: %zu for %zu sequences", rows->n_slots,
                              rows->n_sequence_rows);
    }
    for (size_t i = 0; i < rows->n_slots; i++) {
        if (rows->slots[i] >= slot_count) {
            return seam_error_set(err, SEAM_E_ARG, "slots[%zu]: %u is not below %u", i,
                                  rows->slots[i], slot_count);
        }
        for (size_t j = 0; j < i; j++) {
            if (rows->slots[j] == rows->slots[i]) {
                return seam_error_set(err, SEAM_E_ARG, "slots[%zu]: slot %u is there twice", i,
                                      rows->slots[i]);
            }
        }
    }
    return SEAM_OK;
}

static seam_status first_positions_check(const Seam__V1__GenerateRows *rows,
                                         const seam_layout_limits *limits, seam_error *err) {
    if (rows->n_first_positions != 0 && rows->n_first_positions != rows->n_sequence_rows) {
        return seam_error_set(err, SEAM_E_ARG, "first_positions: %zu for %zu sequences",
                              rows->n_first_positions, rows->n_sequence_rows);
    }
    for (size_t i = 0; i < rows->n_sequence_rows; i++) {
        const uint64_t first = rows->n_first_positions > 0 ? rows->first_positions[i] : 0;
        if (first + rows->sequence_rows[i] > limits->positions_max) {
            return seam_error_set(
                err, SEAM_E_LIMIT, "first_positions[%zu]: %llu and %u rows exceed %u positions", i,
                (unsigned long long)first, rows->sequence_rows[i], limits->positions_max);
        }
    }
    return SEAM_OK;
}

/* Which rows of the request the answer has. */
static seam_status rows_out_read(uint32_t *ret_count, uint32_t *ret_rows_out,
                                 const Seam__V1__GenerateRows *rows, uint32_t row_count,
                                 seam_error *err) {
    if (rows->rows_out != SEAM__V1__ROWS_OUT__ROWS_OUT_LABELLED && rows->labelled_rows.len != 0) {
        return seam_error_set(err, SEAM_E_ARG, "labelled_rows: only with ROWS_OUT_LABELLED");
    }
    uint32_t count = 0;
    switch (rows->rows_out) {
    case SEAM__V1__ROWS_OUT__ROWS_OUT_LAST: {
        uint32_t end = 0;
        for (size_t i = 0; i < rows->n_sequence_rows; i++) {
            end += rows->sequence_rows[i];
            if (ret_rows_out != NULL) {
                ret_rows_out[i] = end - 1;
            }
        }
        count = (uint32_t)rows->n_sequence_rows;
        break;
    }
    case SEAM__V1__ROWS_OUT__ROWS_OUT_LABELLED:
        SEAM_TRY(bitmap_read(&count, ret_rows_out, &rows->labelled_rows, row_count, "", err));
        break;
    case SEAM__V1__ROWS_OUT__ROWS_OUT_ALL:
        for (; count < row_count; count++) {
            if (ret_rows_out != NULL) {
                ret_rows_out[count] = count;
            }
        }
        break;
    default:
        return seam_error_set(err, SEAM_E_ARG, "rows_out: %d is not a value of RowsOut",
                              (int)rows->rows_out);
    }
    if (count == 0) {
        return seam_error_set(err, SEAM_E_ARG, "labelled_rows: no row is asked for");
    }
    *ret_count = count;
    return SEAM_OK;
}

seam_status seam_request_layout_read(seam_request_layout *ret_layout, uint32_t *ret_rows_out,
                                     const Seam__V1__GenerateRows *rows, uint64_t request_expected,
                                     uint32_t slot_count, const seam_layout_limits *limits,
                                     seam_error *err) {
    if (rows->request != request_expected) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE, "request: %llu, expected %llu",
                              (unsigned long long)rows->request,
                              (unsigned long long)request_expected);
    }
    seam_request_layout layout = {.sequence_count = (uint32_t)rows->n_sequence_rows,
                                  .sequence_rows = rows->sequence_rows,
                                  .first_positions =
                                      rows->n_first_positions > 0 ? rows->first_positions : NULL,
                                  .slots = rows->n_slots > 0 ? rows->slots : NULL};
    SEAM_TRY(rows_sum(&layout.rows, rows->sequence_rows, rows->n_sequence_rows, "", limits, err));
    if (rows->n_sequence_rows > REQUEST_SLOTS_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT, "sequence_rows: %zu sequences, at most %u",
                              rows->n_sequence_rows, REQUEST_SLOTS_MAX);
    }
    SEAM_TRY(slots_check(rows, slot_count, err));
    SEAM_TRY(first_positions_check(rows, limits, err));
    SEAM_TRY(rows_out_read(&layout.rows_out_count, ret_rows_out, rows, layout.rows, err));
    *ret_layout = layout;
    return SEAM_OK;
}

/* ---- parts ---- */

static seam_status rows_sum(uint32_t *ret_rows, const uint32_t *sequence_rows, size_t count,
                            const char *prefix, const seam_layout_limits *limits, seam_error *err) {
    if (count == 0) {
        return seam_error_set(err, SEAM_E_ARG, "%ssequence_rows: empty", prefix);
    }
    if (count > limits->sequences_max) {
        return seam_error_set(err, SEAM_E_LIMIT, "%ssequence_rows: %zu sequences, at most %u",
                              prefix, count, limits->sequences_max);
    }
    uint64_t rows = 0; /* at most 2^32 * 2^32 would need 2^32 entries: no overflow */
    for (size_t i = 0; i < count; i++) {
        if (sequence_rows[i] == 0) {
            return seam_error_set(err, SEAM_E_ARG, "%ssequence_rows[%zu]: 0", prefix, i);
        }
        if (sequence_rows[i] > limits->positions_max) {
            return seam_error_set(err, SEAM_E_LIMIT,
                                  "%ssequence_rows[%zu]: %u rows, a sequence has at most %u",
                                  prefix, i, sequence_rows[i], limits->positions_max);
        }
        rows += sequence_rows[i];
    }
    if (rows > limits->rows_max) {
        return seam_error_set(err, SEAM_E_LIMIT, "%ssequence_rows: %llu rows, at most %u", prefix,
                              (unsigned long long)rows, limits->rows_max);
    }
    *ret_rows = (uint32_t)rows;
    return SEAM_OK;
}

static seam_status bitmap_read(uint32_t *ret_count, uint32_t *ret_rows,
                               const ProtobufCBinaryData *bitmap, uint32_t rows, const char *prefix,
                               seam_error *err) {
    if (bitmap->len != (rows + 7) / 8) {
        return seam_error_set(err, SEAM_E_ARG, "%slabelled_rows: %zu bytes for %u rows", prefix,
                              bitmap->len, rows);
    }
    if (rows % 8 != 0 && bitmap->data[rows / 8] >> (rows % 8) != 0) {
        return seam_error_set(err, SEAM_E_ARG, "%slabelled_rows: a bit beyond row %u is set",
                              prefix, rows);
    }
    uint32_t count = 0;
    for (uint32_t row = 0; row < rows; row++) {
        if (seam_bitmap_has(bitmap->data, row)) {
            if (ret_rows != NULL) {
                ret_rows[count] = row;
            }
            count++;
        }
    }
    *ret_count = count;
    return SEAM_OK;
}

static seam_status positions_check(const Seam__V1__MicroBatch *micro, uint32_t rows,
                                   const char *prefix, const seam_layout_limits *limits,
                                   seam_error *err) {
    if (micro->n_positions == 0) {
        return SEAM_OK;
    }
    if (micro->n_positions != rows) {
        return seam_error_set(err, SEAM_E_ARG, "%spositions: %zu for %u rows", prefix,
                              micro->n_positions, rows);
    }
    for (uint32_t row = 0; row < rows; row++) {
        if (micro->positions[row] >= limits->positions_max) {
            return seam_error_set(err, SEAM_E_LIMIT, "%spositions[%u]: %u is not below %u", prefix,
                                  row, micro->positions[row], limits->positions_max);
        }
    }
    return SEAM_OK;
}

/* In order of first appearance, so that every row of the tensor is some row's source. */
static seam_status row_sources_read(uint32_t *ret_rows_in, const Seam__V1__MicroBatch *micro,
                                    uint32_t rows, const char *prefix,
                                    const seam_layout_limits *limits, seam_error *err) {
    if (micro->n_row_sources == 0) {
        *ret_rows_in = rows;
        return SEAM_OK;
    }
    if (!limits->row_sources_taken) {
        return seam_error_set(err, SEAM_E_ARG, "%srow_sources: not with this codec of fwd_in",
                              prefix);
    }
    if (micro->n_row_sources != rows) {
        return seam_error_set(err, SEAM_E_ARG, "%srow_sources: %zu for %u rows", prefix,
                              micro->n_row_sources, rows);
    }
    uint32_t count = 0;
    for (uint32_t row = 0; row < rows; row++) {
        if (micro->row_sources[row] > count) {
            return seam_error_set(err, SEAM_E_ARG, "%srow_sources[%u]: %u after %u distinct rows",
                                  prefix, row, micro->row_sources[row], count);
        }
        count += micro->row_sources[row] == count ? 1 : 0;
    }
    *ret_rows_in = count;
    return SEAM_OK;
}

/* A session that shows no labels refuses them: whoever sends some does not mean to. */
static seam_status labels_check(const Seam__V1__MicroBatch *micro, uint32_t labelled_count,
                                const char *prefix, const seam_layout_limits *limits,
                                seam_error *err) {
    if (!limits->labels_needed) {
        return micro->n_labels == 0
                   ? SEAM_OK
                   : seam_error_set(err, SEAM_E_ARG, "%slabels: not in this topology", prefix);
    }
    if (micro->n_labels != labelled_count) {
        return seam_error_set(err, SEAM_E_ARG, "%slabels: %zu for %u labelled rows", prefix,
                              micro->n_labels, labelled_count);
    }
    for (uint32_t i = 0; i < labelled_count; i++) {
        if (micro->labels[i] >= limits->vocab_count) {
            return seam_error_set(err, SEAM_E_ARG, "%slabels[%u]: %u is not below %u", prefix, i,
                                  micro->labels[i], limits->vocab_count);
        }
    }
    return SEAM_OK;
}

void seam_sequence_labelled_counts(uint32_t *ret_counts, const uint32_t *sequence_rows,
                                   uint32_t sequence_count, const uint8_t *bitmap) {
    uint32_t row = 0;
    for (uint32_t s = 0; s < sequence_count; s++) {
        ret_counts[s] = 0;
        for (uint32_t i = 0; i < sequence_rows[s]; i++, row++) {
            ret_counts[s] += seam_bitmap_has(bitmap, row) ? 1 : 0;
        }
    }
}

uint32_t seam_rows_to_last_labelled(uint8_t *ret_bitmap, const uint32_t *sequence_rows,
                                    uint32_t sequence_count, const uint8_t *labelled) {
    uint32_t begin = 0, count = 0;
    for (uint32_t s = 0; s < sequence_count; s++) {
        uint32_t end = begin + sequence_rows[s];
        for (uint32_t row = begin; row < end; row++) {
            if (row % 8 == 0) {
                ret_bitmap[row / 8] = 0;
            }
        }
        begin = end;
        while (end > begin - sequence_rows[s] && !seam_bitmap_has(labelled, end - 1)) {
            end--;
        }
        for (uint32_t row = begin - sequence_rows[s]; row < end; row++, count++) {
            ret_bitmap[row / 8] = (uint8_t)(ret_bitmap[row / 8] | 1u << row % 8);
        }
    }
    return count;
}
