/* One tensor against the cache; see aqsgd.h.  The cache itself is sample_cache.c, the arithmetic
 * aqsgd_quant.c, the tape of a tensor aqsgd_tape.c.
 *
 * New values wait in `staged` as fp16 until commit, so that nothing in the cache moves before the
 * tensor is whole and every hit of a tensor sees the cache of its begin.  The cursor walks rows and
 * sequences together, over the chunks' borders.
 *
 * An entry is a run of blocks of one stored row each; a quantized entry has its scale block in
 * front, cut over as many blocks as it needs. */
#include "aqsgd.h"

#include <string.h>

#include "aqsgd_impl.h"
#include "arena.h"
#include "bit_string.h"
#include "bytes.h"
#include "codec.h"
#include "try.h"

/* ---- create ---- */

static void scales_carve(seam_scales *scales, seam_arena *arena, size_t channels) {
    scales->scale = seam_arena_take(arena, channels * sizeof(float));
    scales->lowest = seam_arena_take(arena, channels * sizeof(float));
    scales->top = seam_arena_take(arena, channels * sizeof(float));
}

/* Views into an arena, which may be one that only plans. */
static void carve(seam_aqsgd *a, seam_arena *arena) {
    const seam_aqsgd_config *config = &a->config;
    const size_t C = config->channels, S = config->sequences_max;
    a->row_bytes = 2 * C;
    a->block_bytes =
        config->cache_bits == 0 ? a->row_bytes : seam_bit_string_bytes(C, config->cache_bits);
    a->scale_blocks =
        config->cache_bits == 0
            ? 0
            : (uint32_t)((seam_scale_block_bytes(config->channels) + a->block_bytes - 1) /
                         a->block_bytes);
    a->sample_ids = seam_arena_take(arena, S * sizeof *a->sample_ids);
    a->seq_rows = seam_arena_take(arena, S * sizeof *a->seq_rows);
    a->entries = seam_arena_take(arena, S * sizeof *a->entries);
    a->range_rows = seam_arena_take(arena, (config->rows_max + 7) / 8);
    a->staged = seam_arena_take(arena, config->rows_max * a->row_bytes);
    scales_carve(&a->scales, arena, C);
    scales_carve(&a->cached, arena, C);
    a->block = seam_arena_take(arena, seam_scale_block_bytes(config->channels));
    a->m = seam_arena_take(arena, C * sizeof *a->m);
    a->change = seam_arena_take(arena, C * sizeof *a->change);
    a->absmax = seam_arena_take(arena, C * sizeof *a->absmax);
    a->codes = seam_arena_take(arena, C * sizeof *a->codes);
    a->tape = seam_arena_take(arena, seam_aqsgd_tape_bytes_max(a));
}

static seam_status plan(size_t *ret_bytes, size_t *ret_block_bytes,
                        const seam_aqsgd_config *config) {
    SEAM_ASSERT(config->channels >= 1 && config->channels <= SEAM_CHANNELS_MAX);
    SEAM_ASSERT(config->rows_max >= 1 && config->rows_max <= SEAM_ROWS_MAX);
    SEAM_ASSERT(config->sequences_max >= 1 && config->sequences_max <= SEAM_ROWS_MAX);
    SEAM_ASSERT(config->bits >= 1 && config->bits <= SEAM_BITS_MAX);
    SEAM_ASSERT(config->cache_bits <= SEAM_BITS_MAX);
    size_t staged_bytes = 0;
    if (!seam_mul3_bytes(&staged_bytes, config->rows_max, config->channels, 2) ||
        staged_bytes > SIZE_MAX / 4) {
        return SEAM_E_LIMIT;
    }
    seam_aqsgd sketch = {.config = *config};
    seam_arena planning = {0};
    (void)seam_arena_take(&planning, sizeof sketch);
    carve(&sketch, &planning);
    *ret_bytes = planning.used_bytes;
    *ret_block_bytes = sketch.block_bytes;
    return SEAM_OK;
}

seam_status seam_aqsgd_memory_bytes(size_t *ret_bytes, const seam_aqsgd_config *config) {
    size_t bytes = 0, block_bytes = 0;
    SEAM_TRY(plan(&bytes, &block_bytes, config));
    *ret_bytes = bytes + seam_sample_cache_memory_bytes(config->storage_bytes, block_bytes);
    return SEAM_OK;
}

seam_status seam_aqsgd_create(seam_aqsgd **ret_aqsgd, const seam_aqsgd_config *config) {
    size_t bytes = 0, block_bytes = 0;
    SEAM_TRY(plan(&bytes, &block_bytes, config));
    seam_sample_cache *cache = NULL;
    SEAM_TRY(seam_sample_cache_create(&cache, config->storage, config->storage_bytes, block_bytes));
    seam_arena arena = {0};
    const seam_status st = seam_arena_init(&arena, bytes);
    if (st != SEAM_OK) {
        seam_sample_cache_destroy(cache);
        return st;
    }
    seam_aqsgd *a = seam_arena_take(&arena, sizeof *a); /* stands first: destroy frees it */
    a->config = *config;
    a->cache = cache;
    carve(a, &arena);
    *ret_aqsgd = a;
    return SEAM_OK;
}

void seam_aqsgd_destroy(seam_aqsgd *gift_aqsgd) {
    if (gift_aqsgd != NULL) {
        seam_sample_cache_destroy(gift_aqsgd->cache);
        seam_mem_free(gift_aqsgd); /* the base of its arena */
    }
}

void seam_aqsgd_forget(seam_aqsgd *aqsgd) {
    seam_sample_cache_clear(aqsgd->cache);
    aqsgd->open = false;
}

uint32_t seam_aqsgd_whole_count(const seam_aqsgd *aqsgd) {
    return aqsgd->whole_count;
}

uint32_t seam_aqsgd_forgotten_count(const seam_aqsgd *aqsgd) {
    return aqsgd->forgotten_count;
}

uint32_t seam_aqsgd_cached_count(const seam_aqsgd *aqsgd) {
    return seam_sample_cache_entry_count(aqsgd->cache);
}

size_t seam_aqsgd_head_bytes_max(uint32_t sequences, uint32_t channels) {
    return 4 + ((size_t)sequences + 7) / 8 + 4 * (size_t)sequences +
           seam_scale_block_bytes(channels);
}

size_t seam_aqsgd_rows_bytes_max(uint32_t rows, uint32_t channels) {
    return 2 * (size_t)rows * channels;
}

/* ---- rows and cached rows ---- */

static void tensor_begin(seam_aqsgd *a, const seam_sequences *sequences, uint32_t rows,
                         const uint8_t *range_rows) {
    SEAM_ASSERT(rows >= 1 && rows <= a->config.rows_max);
    SEAM_ASSERT(sequences->sample_ids != NULL);
    SEAM_ASSERT(sequences->count >= 1 && sequences->count <= a->config.sequences_max);
    uint64_t total = 0;
    for (uint32_t s = 0; s < sequences->count; s++) {
        a->sample_ids[s] = sequences->sample_ids[s];
        a->seq_rows[s] = sequences->rows[s];
        total += sequences->rows[s];
    }
    SEAM_ASSERT(total == rows);
    const size_t bitmap_bytes = ((size_t)rows + 7) / 8;
    if (range_rows != NULL) {
        memcpy(a->range_rows, range_rows, bitmap_bytes);
    } else {
        memset(a->range_rows, 0xff, bitmap_bytes);
    }
    a->rows = rows;
    a->sequence_count = sequences->count;
    a->whole_count = a->forgotten_count = 0;
    a->tensor_count++;
    a->open = true;
    a->head_done = false;
    a->cursor = (row_cursor){.sequence = SEQUENCE_NONE};
    seam_aqsgd_tape_begin(a);
}

static uint8_t *staged_row(const seam_aqsgd *a, uint32_t row) {
    return a->staged + row * a->row_bytes;
}

/* The entry's scale block into a->cached; *ret_block: its first row. */
static void entry_open(uint32_t *ret_block, seam_aqsgd *a, uint32_t entry) {
    uint32_t block = seam_sample_cache_block_first(a->cache, entry);
    size_t left = a->scale_blocks > 0 ? seam_scale_block_bytes(a->config.channels) : 0;
    for (uint8_t *to = a->block; left > 0; block = seam_sample_cache_block_next(a->cache, block)) {
        const size_t count = left < a->block_bytes ? left : a->block_bytes;
        memcpy(to, seam_sample_cache_bytes(a->cache, block), count);
        to += count;
        left -= count;
    }
    if (a->scale_blocks > 0) {
        const seam_status st =
            seam_scale_block_get(&a->cached, a->block, a->config.channels, a->config.cache_bits);
        SEAM_ASSERT(st == SEAM_OK); /* commit has written it, from fp16 values */
    }
    *ret_block = block;
}

/* The cursor's next row.  true: it is a change, and a->m holds the cached row. */
static bool row_next(seam_aqsgd *a) {
    row_cursor *at = &a->cursor;
    while (at->rows_left == 0) {
        at->sequence = at->sequence == SEQUENCE_NONE ? 0 : at->sequence + 1;
        SEAM_ASSERT(at->sequence < a->sequence_count);
        at->rows_left = a->seq_rows[at->sequence];
        if (at->rows_left > 0 && a->entries[at->sequence] != SEAM_CACHE_NONE) {
            entry_open(&at->block, a, a->entries[at->sequence]);
        }
    }
    at->rows_left--;
    at->row++;
    if (a->entries[at->sequence] == SEAM_CACHE_NONE) {
        return false;
    }
    const uint8_t *stored = seam_sample_cache_bytes(a->cache, at->block);
    at->block = seam_sample_cache_block_next(a->cache, at->block);
    if (a->config.cache_bits == 0) {
        (void)seam_fp16_row_get(a->m, stored, a->config.channels);
    } else {
        seam_bit_reader reader = {.in = stored};
        seam_bits_get(a->codes, &reader, a->config.channels, a->config.cache_bits);
        seam_symmetric_dequantize(a->m, &a->cached, a->codes, a->config.channels,
                                  a->config.cache_bits);
    }
    return true;
}

/* Of the `rows` rows behind the cursor: how many travel whole. */
static uint32_t whole_rows(const seam_aqsgd *a, uint32_t rows) {
    uint32_t whole = 0;
    row_cursor at = a->cursor;
    for (uint32_t left = rows; left > 0;) {
        if (at.rows_left == 0) {
            at.sequence = at.sequence == SEQUENCE_NONE ? 0 : at.sequence + 1;
            at.rows_left = a->seq_rows[at.sequence];
        }
        const uint32_t count = at.rows_left < left ? at.rows_left : left;
        whole += a->entries[at.sequence] == SEAM_CACHE_NONE ? count : 0;
        at.rows_left -= count;
        left -= count;
    }
    return whole;
}

static bool has_changes(const seam_aqsgd *a) {
    for (uint32_t s = 0; s < a->sequence_count; s++) {
        if (a->entries[s] != SEAM_CACHE_NONE) {
            return true;
        }
    }
    return false;
}

/* m + x^ as the model and the cache get it. */
static void change_apply(float *ret, seam_aqsgd *a, uint32_t row) {
    for (uint32_t c = 0; c < a->config.channels; c++) {
        a->change[c] += a->m[c];
    }
    (void)seam_fp16_row_put(staged_row(a, row), a->change, a->config.channels); /* clips */
    if (ret != NULL) {
        (void)seam_fp16_row_get(ret, staged_row(a, row), a->config.channels);
    }
}

/* ---- encode ---- */

/* An entry that this tensor names once, of as many rows; else the sequence travels whole. */
static uint32_t entry_for(seam_aqsgd *a, uint32_t s) {
    const uint32_t entry =
        a->seq_rows[s] > 0 ? seam_sample_cache_find(a->cache, a->sample_ids[s]) : SEAM_CACHE_NONE;
    if (entry == SEAM_CACHE_NONE) {
        return SEAM_CACHE_NONE;
    }
    seam_cache_note *note = seam_sample_cache_note(a->cache, entry);
    const bool repeated = note->mark == a->tensor_count;
    note->mark = a->tensor_count;
    return repeated || note->rows != a->seq_rows[s] ? SEAM_CACHE_NONE : entry;
}

seam_status seam_aqsgd_encode_begin(seam_aqsgd *aqsgd, const seam_sequences *sequences,
                                    const float *x, uint32_t rows, const uint8_t *range_rows) {
    seam_aqsgd *const a = aqsgd;
    const uint32_t C = a->config.channels;
    tensor_begin(a, sequences, rows, range_rows);
    for (uint32_t s = 0; s < a->sequence_count; s++) {
        a->entries[s] = entry_for(a, s);
        a->whole_count += a->seq_rows[s] > 0 && a->entries[s] == SEAM_CACHE_NONE;
    }
    memset(a->absmax, 0, C * sizeof *a->absmax);
    for (uint32_t row = 0; row < rows; row++) {
        const float *values = x + (size_t)row * C;
        if (!seam_fp16_row_put(staged_row(a, row), values, C)) {
            return SEAM_E_NONFINITE;
        }
        if (row_next(a) && seam_bitmap_has(a->range_rows, row)) {
            seam_absmax_add(a->absmax, values, a->m, C);
        }
    }
    a->cursor = (row_cursor){.sequence = SEQUENCE_NONE};
    return SEAM_OK;
}

/* Returns its byte count. */
static size_t head_put(uint8_t *ret, seam_aqsgd *a) {
    seam_put_u32(ret, a->sequence_count);
    uint8_t *const bitmap = ret + 4;
    uint8_t *out = bitmap + (a->sequence_count + 7) / 8;
    memset(bitmap, 0, (size_t)(out - bitmap));
    for (uint32_t s = 0; s < a->sequence_count; s++) {
        if (a->entries[s] != SEAM_CACHE_NONE) {
            seam_put_u32(out, seam_sample_cache_note(a->cache, a->entries[s])->tag);
            out += 4;
        } else if (a->seq_rows[s] > 0) {
            bitmap[s / 8] |= (uint8_t)(1u << s % 8);
        }
    }
    if (has_changes(a)) {
        seam_status st = seam_scale_block_put(out, a->absmax, a->config.channels);
        SEAM_ASSERT(st == SEAM_OK); /* differences of fp16 values */
        st = seam_scale_block_get(&a->scales, out, a->config.channels, a->config.bits);
        SEAM_ASSERT(st == SEAM_OK);
        out += seam_scale_block_bytes(a->config.channels);
    }
    return (size_t)(out - ret);
}

void seam_aqsgd_encode(size_t *ret_payload_bytes, float *ret_decoded, seam_aqsgd *aqsgd,
                       uint8_t *ret_payload, const float *x, uint32_t rows) {
    seam_aqsgd *const a = aqsgd;
    const uint32_t C = a->config.channels;
    SEAM_ASSERT(a->open);
    SEAM_ASSERT(rows >= 1 && rows <= a->rows - a->cursor.row);
    uint8_t *whole = ret_payload + (a->head_done ? 0 : head_put(ret_payload, a));
    a->head_done = true;
    seam_bit_writer writer = {.out = whole + whole_rows(a, rows) * a->row_bytes};
    for (uint32_t i = 0; i < rows; i++) {
        const uint32_t row = a->cursor.row;
        float *const decoded = ret_decoded != NULL ? ret_decoded + (size_t)i * C : NULL;
        if (!row_next(a)) {
            memcpy(whole, staged_row(a, row), a->row_bytes);
            if (decoded != NULL) {
                (void)seam_fp16_row_get(decoded, whole, C);
            }
            whole += a->row_bytes;
            continue;
        }
        seam_symmetric_quantize(a->codes, a->change, &a->scales, x + (size_t)i * C, a->m, C,
                                a->config.bits);
        seam_bits_put(&writer, a->codes, C, a->config.bits);
        change_apply(decoded, a, row);
    }
    seam_bits_put_end(&writer);
    *ret_payload_bytes = (size_t)(writer.out - ret_payload);
    seam_aqsgd_tape_add(a, ret_payload, *ret_payload_bytes, rows);
}

/* ---- decode ---- */

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return seam_error_set(err, SEAM_E_FORMAT, "aqsgd." __VA_ARGS__);                       \
        }                                                                                          \
    } while (0)

void seam_aqsgd_decode_begin(seam_aqsgd *aqsgd, const seam_sequences *sequences, uint32_t rows,
                             const uint8_t *range_rows) {
    tensor_begin(aqsgd, sequences, rows, range_rows);
}

/* A sequence that comes as a change: the entry that it changes. */
static seam_status entry_expect(uint32_t *ret_entry, seam_aqsgd *a, uint32_t s, uint32_t tag,
                                seam_error *err) {
    const unsigned long long id = a->sample_ids[s];
    const uint32_t entry = seam_sample_cache_find(a->cache, a->sample_ids[s]);
    if (entry == SEAM_CACHE_NONE) {
        return seam_error_set(err, SEAM_E_STATE,
                              "aqsgd: sample %llu comes as a change, but is not cached here", id);
    }
    const seam_cache_note *note = seam_sample_cache_note(a->cache, entry);
    CHECK(note->mark != a->tensor_count, "whole: sample %llu is repeated and must travel whole",
          id);
    if (note->rows != a->seq_rows[s]) {
        return seam_error_set(err, SEAM_E_STATE,
                              "aqsgd: sample %llu comes with %u rows, %u are cached here", id,
                              a->seq_rows[s], note->rows);
    }
    if (note->tag != tag) {
        return seam_error_set(err, SEAM_E_STATE,
                              "aqsgd: sample %llu: the sender has cached other values", id);
    }
    *ret_entry = entry;
    return SEAM_OK;
}

static seam_status sequences_read(seam_aqsgd *a, const uint8_t *bitmap, const uint8_t *tags,
                                  seam_error *err) {
    for (uint32_t s = 0; s < a->sequence_count; s++) {
        const bool whole = seam_bitmap_has(bitmap, s);
        CHECK(!whole || a->seq_rows[s] > 0, "whole: sequence %u has no rows", s);
        a->entries[s] = SEAM_CACHE_NONE;
        a->whole_count += whole;
        if (!whole && a->seq_rows[s] > 0) {
            SEAM_TRY(entry_expect(&a->entries[s], a, s, seam_get_u32(tags), err));
            tags += 4;
        }
        const uint32_t entry = seam_sample_cache_find(a->cache, a->sample_ids[s]);
        if (entry != SEAM_CACHE_NONE && a->seq_rows[s] > 0) {
            seam_cache_note *note = seam_sample_cache_note(a->cache, entry);
            a->forgotten_count +=
                whole && note->rows == a->seq_rows[s] && note->mark != a->tensor_count;
            note->mark = a->tensor_count;
        }
    }
    return SEAM_OK;
}

static seam_status head_read(size_t *ret_head_bytes, seam_aqsgd *a, const uint8_t *payload,
                             size_t payload_bytes, seam_error *err) {
    const uint32_t S = a->sequence_count;
    const size_t bitmap_bytes = ((size_t)S + 7) / 8;
    CHECK(payload_bytes >= 4 + bitmap_bytes, "head: %zu bytes of payload", payload_bytes);
    CHECK(seam_get_u32(payload) == S, "sequences: %u, the step has %u", seam_get_u32(payload), S);
    const uint8_t *const bitmap = payload + 4;
    CHECK(S % 8 == 0 || bitmap[bitmap_bytes - 1] >> S % 8 == 0,
          "whole: the bits that fill the last byte are not zero");
    uint32_t change_count = 0;
    for (uint32_t s = 0; s < S; s++) {
        change_count += a->seq_rows[s] > 0 && !seam_bitmap_has(bitmap, s);
    }
    const size_t scale_bytes = change_count > 0 ? seam_scale_block_bytes(a->config.channels) : 0;
    const size_t head_bytes = 4 + bitmap_bytes + 4 * (size_t)change_count + scale_bytes;
    CHECK(payload_bytes >= head_bytes, "head: %zu bytes of payload, %zu follow from it",
          payload_bytes, head_bytes);
    SEAM_TRY(sequences_read(a, bitmap, bitmap + bitmap_bytes, err));
    if (change_count > 0) {
        const seam_status st = seam_scale_block_get(&a->scales, payload + head_bytes - scale_bytes,
                                                    a->config.channels, a->config.bits);
        if (st != SEAM_OK) {
            return seam_error_set(err, st, "aqsgd.scales: %s", seam_status_text(st));
        }
    }
    *ret_head_bytes = head_bytes;
    return SEAM_OK;
}

seam_status seam_aqsgd_decode(float *ret_x, seam_aqsgd *aqsgd, const uint8_t *payload,
                              size_t payload_bytes, uint32_t rows, seam_error *err) {
    seam_aqsgd *const a = aqsgd;
    const uint32_t C = a->config.channels;
    SEAM_ASSERT(a->open);
    SEAM_ASSERT(rows >= 1 && rows <= a->rows - a->cursor.row);
    size_t head_bytes = 0;
    if (!a->head_done) {
        SEAM_TRY(head_read(&head_bytes, a, payload, payload_bytes, err));
        a->head_done = true;
    }
    const uint32_t whole_count = whole_rows(a, rows);
    const size_t expected =
        head_bytes + whole_count * a->row_bytes +
        seam_bit_string_bytes((uint64_t)(rows - whole_count) * C, a->config.bits);
    CHECK(payload_bytes == expected, "payload: %zu bytes, %zu follow from the head", payload_bytes,
          expected);
    const uint8_t *whole = payload + head_bytes;
    seam_bit_reader reader = {.in = whole + whole_count * a->row_bytes};
    for (uint32_t i = 0; i < rows; i++) {
        const uint32_t row = a->cursor.row;
        float *const out = ret_x != NULL ? ret_x + (size_t)i * C : NULL;
        if (!row_next(a)) {
            if (!seam_fp16_row_get(out != NULL ? out : a->m, whole, C)) {
                return seam_error_set(err, SEAM_E_NONFINITE,
                                      "aqsgd.rows: a value of row %u is not finite", row);
            }
            memcpy(staged_row(a, row), whole, a->row_bytes);
            whole += a->row_bytes;
            continue;
        }
        seam_bits_get(a->codes, &reader, C, a->config.bits);
        seam_symmetric_dequantize(a->change, &a->scales, a->codes, C, a->config.bits);
        change_apply(out, a, row);
    }
    CHECK(seam_bits_get_end(&reader), "codes: the bits that fill the last byte are not zero");
    seam_aqsgd_tape_add(a, payload, payload_bytes, rows);
    return SEAM_OK;
}

/* ---- commit ---- */

/* Blocks of an entry being written, one after another, and the checksum of what goes in. */
typedef struct entry_writer {
    seam_sample_cache *cache;
    uint32_t block, tag;
} entry_writer;

static void entry_write(entry_writer *writer, const uint8_t *bytes, size_t count) {
    memcpy(seam_sample_cache_bytes(writer->cache, writer->block), bytes, count);
    writer->tag = seam_crc32c(writer->tag, bytes, count);
    writer->block = seam_sample_cache_block_next(writer->cache, writer->block);
}

/* Scales over the sample's rows in range, then a->cached is the grid of them. */
static void entry_scales_write(entry_writer *writer, seam_aqsgd *a, uint32_t row_begin,
                               uint32_t rows) {
    const uint32_t C = a->config.channels;
    memset(a->absmax, 0, C * sizeof *a->absmax);
    for (uint32_t row = row_begin; row < row_begin + rows; row++) {
        if (seam_bitmap_has(a->range_rows, row)) {
            (void)seam_fp16_row_get(a->m, staged_row(a, row), C);
            seam_absmax_add(a->absmax, a->m, NULL, C);
        }
    }
    seam_status st = seam_scale_block_put(a->block, a->absmax, C);
    SEAM_ASSERT(st == SEAM_OK); /* of fp16 values */
    st = seam_scale_block_get(&a->cached, a->block, C, a->config.cache_bits);
    SEAM_ASSERT(st == SEAM_OK);
    const uint8_t *from = a->block;
    for (size_t left = seam_scale_block_bytes(C); left > 0;) {
        const size_t count = left < a->block_bytes ? left : a->block_bytes;
        entry_write(writer, from, count);
        from += count;
        left -= count;
    }
}

static void entry_row_write(entry_writer *writer, seam_aqsgd *a, uint32_t row) {
    const uint32_t C = a->config.channels, bits = a->config.cache_bits;
    if (bits == 0) {
        entry_write(writer, staged_row(a, row), a->row_bytes);
        return;
    }
    /* The bit string of a row has the size of a block: it is made in place. */
    uint8_t *const to = seam_sample_cache_bytes(writer->cache, writer->block);
    seam_bit_writer out = {.out = to};
    (void)seam_fp16_row_get(a->m, staged_row(a, row), C);
    seam_symmetric_quantize(a->codes, a->change, &a->cached, a->m, NULL, C, bits);
    seam_bits_put(&out, a->codes, C, bits);
    seam_bits_put_end(&out);
    writer->tag = seam_crc32c(writer->tag, to, a->block_bytes);
    writer->block = seam_sample_cache_block_next(writer->cache, writer->block);
}

void seam_aqsgd_commit(seam_aqsgd *aqsgd) {
    seam_aqsgd *const a = aqsgd;
    SEAM_ASSERT(a->open);
    SEAM_ASSERT(a->cursor.row == a->rows);
    a->open = false;
    uint32_t row = 0;
    for (uint32_t s = 0; s < a->sequence_count; s++) {
        const uint32_t rows = a->seq_rows[s];
        const uint32_t entry =
            rows > 0 ? seam_sample_cache_put(a->cache, a->sample_ids[s], a->scale_blocks + rows)
                     : SEAM_CACHE_NONE;
        if (entry != SEAM_CACHE_NONE) {
            entry_writer writer = {.cache = a->cache,
                                   .block = seam_sample_cache_block_first(a->cache, entry)};
            if (a->scale_blocks > 0) {
                entry_scales_write(&writer, a, row, rows);
            }
            for (uint32_t i = 0; i < rows; i++) {
                entry_row_write(&writer, a, row + i);
            }
            *seam_sample_cache_note(a->cache, entry) =
                (seam_cache_note){.rows = rows, .tag = writer.tag};
        }
        row += rows;
    }
    if (a->commit_fn != NULL) {
        a->commit_fn(a->commit_user, a->tape, a->tape_used);
    }
}
