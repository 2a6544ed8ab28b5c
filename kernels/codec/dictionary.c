/* The table of rows and its two coders; see dictionary.h.
 *
 * Rows of the tensor in work stand in the table behind the committed ones, so that a later chunk
 * can name them.  The encoder finds a row by open addressing over the CRC-32C of its bytes and
 * then compares the bytes: the checksum is one instruction for 8 bytes, and whoever makes it
 * collide slows only himself.  Rows leave the table only from its end, in the reverse order of
 * their coming, so a slot can be emptied without a tombstone: no later row was placed past it. */
#include "dictionary.h"

#include <string.h>

#include "arena.h"
#include "bit_string.h"
#include "bytes.h"
#include "codec.h"
#include "try.h"

#define INLINE_MARK UINT32_MAX /* in `indices` while the reserved index is not known yet */

struct seam_dictionary {
    seam_dictionary_config config;
    size_t row_bytes;
    uint8_t *table;    /* (rows_max, C) bf16, little-endian */
    uint32_t *hashes;  /* (rows_max), encoder */
    uint32_t *slots;   /* (slot_mask + 1), encoder: index + 1; 0: empty */
    uint32_t *indices; /* (chunk_rows_max) */
    uint8_t *row;      /* (C) bf16, encoder: the row being looked up */
    uint32_t slot_mask;
    uint32_t committed, count; /* count: with the rows of the tensor in work */
    bool open, chunk_seen;     /* a tensor is in work; its first chunk has come */
};

/* ---- create ---- */

/* A power of two, at most half full. */
static uint32_t slot_count(uint32_t rows_max) {
    uint32_t slots = 4;
    while (slots < 2 * rows_max) {
        slots *= 2;
    }
    return slots;
}

/* Views into an arena, which may be one that only plans. */
static void carve(seam_dictionary *d, seam_arena *arena) {
    const seam_dictionary_config *config = &d->config;
    d->table = seam_arena_take(arena, d->row_bytes * config->rows_max);
    d->indices = seam_arena_take(arena, (size_t)config->chunk_rows_max * sizeof *d->indices);
    if (config->encoder) {
        const uint32_t slots = slot_count(config->rows_max);
        d->slot_mask = slots - 1;
        d->hashes = seam_arena_take(arena, (size_t)config->rows_max * sizeof *d->hashes);
        d->slots = seam_arena_take(arena, (size_t)slots * sizeof *d->slots);
        d->row = seam_arena_take(arena, d->row_bytes);
    }
}

static seam_status plan(size_t *ret_bytes, const seam_dictionary_config *config) {
    SEAM_ASSERT(config->channels >= 1 && config->channels <= SEAM_CHANNELS_MAX);
    SEAM_ASSERT(config->rows_max >= 1 && config->rows_max <= SEAM_DICTIONARY_ROWS_MAX);
    SEAM_ASSERT(config->chunk_rows_max >= 1 && config->chunk_rows_max <= SEAM_ROWS_MAX);
    size_t table_bytes = 0;
    if (!seam_mul3_bytes(&table_bytes, config->rows_max, config->channels, 2) ||
        table_bytes > SIZE_MAX / 4) {
        return SEAM_E_LIMIT;
    }
    seam_dictionary sketch = {.config = *config, .row_bytes = 2 * (size_t)config->channels};
    seam_arena planning = {0};
    (void)seam_arena_take(&planning, sizeof sketch);
    carve(&sketch, &planning);
    *ret_bytes = planning.used_bytes;
    return SEAM_OK;
}

seam_status seam_dictionary_memory_bytes(size_t *ret_bytes, const seam_dictionary_config *config) {
    return plan(ret_bytes, config);
}

seam_status seam_dictionary_create(seam_dictionary **ret_dictionary,
                                   const seam_dictionary_config *config) {
    size_t bytes = 0;
    SEAM_TRY(plan(&bytes, config));
    seam_arena arena = {0};
    SEAM_TRY(seam_arena_init(&arena, bytes));
    seam_dictionary *d = seam_arena_take(&arena, sizeof *d); /* stands first: destroy frees it */
    d->config = *config;
    d->row_bytes = 2 * (size_t)config->channels;
    carve(d, &arena);
    *ret_dictionary = d;
    return SEAM_OK;
}

void seam_dictionary_destroy(seam_dictionary *gift_dictionary) {
    seam_mem_free(gift_dictionary); /* the base of its arena */
}

uint32_t seam_dictionary_row_count(const seam_dictionary *dictionary) {
    return dictionary->committed;
}

/* ---- table ---- */

static uint8_t *table_row(const seam_dictionary *d, uint32_t idx) {
    return d->table + (size_t)idx * d->row_bytes;
}

/* The slot of the row in d->row: of its index, or the empty one where it would go. */
static uint32_t slot_find(const seam_dictionary *d, uint32_t hash) {
    uint32_t slot = hash & d->slot_mask;
    for (; d->slots[slot] != 0; slot = (slot + 1) & d->slot_mask) {
        const uint32_t idx = d->slots[slot] - 1;
        if (d->hashes[idx] == hash && memcmp(table_row(d, idx), d->row, d->row_bytes) == 0) {
            break;
        }
    }
    return slot;
}

static void truncate(seam_dictionary *d, uint32_t count) {
    while (d->count > count) {
        d->count--;
        if (d->config.encoder) {
            uint32_t slot = d->hashes[d->count] & d->slot_mask;
            while (d->slots[slot] != d->count + 1) {
                slot = (slot + 1) & d->slot_mask;
            }
            d->slots[slot] = 0;
        }
    }
}

void seam_dictionary_clear(seam_dictionary *dictionary) {
    truncate(dictionary, 0);
    dictionary->committed = 0;
    dictionary->open = false;
}

void seam_dictionary_begin(seam_dictionary *dictionary) {
    truncate(dictionary, dictionary->committed);
    dictionary->open = true;
    dictionary->chunk_seen = false;
}

void seam_dictionary_commit(seam_dictionary *dictionary) {
    SEAM_ASSERT(dictionary->open);
    dictionary->committed = dictionary->count;
    dictionary->open = false;
}

/* ---- payload ---- */

/* ceil(log2(count + 1)): the indices of `count` rows and the reserved one. */
static uint32_t index_width(uint32_t count) {
    uint32_t width = 1;
    while (count >> width != 0) {
        width++;
    }
    return width;
}

size_t seam_dictionary_chunk_bytes_max(uint32_t rows, uint32_t channels) {
    return SEAM_DICTIONARY_HEAD_BYTES +
           seam_bit_string_bytes(rows, index_width(SEAM_DICTIONARY_ROWS_MAX)) +
           2 * (size_t)rows * channels;
}

/* The index of the row in d->row, which enters the table if it is new and there is room. */
static uint32_t row_index(seam_dictionary *d) {
    const uint32_t hash = seam_crc32c(0, d->row, d->row_bytes);
    const uint32_t slot = slot_find(d, hash);
    if (d->slots[slot] != 0) {
        return d->slots[slot] - 1;
    }
    if (d->count == d->config.rows_max) {
        return INLINE_MARK;
    }
    const uint32_t idx = d->count++;
    memcpy(table_row(d, idx), d->row, d->row_bytes);
    d->hashes[idx] = hash;
    d->slots[slot] = idx + 1;
    return idx;
}

static seam_status row_encode(uint8_t *ret_row, float *ret_decoded, const seam_dictionary *d,
                              const float *x) {
    const seam_codec_args bf16 = {.id = SEAM_CODEC_BF16, .channels = d->config.channels};
    return seam_codec_encode(ret_row, ret_decoded, &bf16, x, 1, &(seam_rounding){0}, NULL);
}

seam_status seam_dictionary_encode(size_t *ret_payload_bytes, float *ret_decoded,
                                   seam_dictionary *dictionary, uint8_t *ret_payload,
                                   const float *x, uint32_t rows) {
    seam_dictionary *const d = dictionary;
    SEAM_ASSERT(d->config.encoder);
    SEAM_ASSERT(d->open);
    SEAM_ASSERT(rows >= 1 && rows <= d->config.chunk_rows_max);
    const size_t C = d->config.channels;
    const uint32_t base = d->count;
    uint32_t inline_count = 0;
    for (uint32_t i = 0; i < rows; i++) {
        SEAM_TRY(row_encode(d->row, NULL, d, x + i * C));
        d->indices[i] = row_index(d);
        inline_count += d->indices[i] == INLINE_MARK;
    }
    const uint32_t width = index_width(d->count);
    const size_t new_bytes = (d->count - base) * d->row_bytes;
    seam_put_u32(ret_payload, base);
    seam_put_u32(ret_payload + 4, d->count - base);
    seam_put_u32(ret_payload + 8, inline_count);
    uint8_t *const rows_new =
        ret_payload + SEAM_DICTIONARY_HEAD_BYTES + seam_bit_string_bytes(rows, width);
    memcpy(rows_new, table_row(d, base), new_bytes);
    uint8_t *rows_inline = rows_new + new_bytes;
    for (uint32_t i = 0; i < rows; i++) {
        float *const decoded = ret_decoded != NULL ? ret_decoded + i * C : NULL;
        if (d->indices[i] == INLINE_MARK) {
            d->indices[i] = d->count;
            SEAM_TRY(row_encode(rows_inline, decoded, d, x + i * C));
            rows_inline += d->row_bytes;
        } else if (decoded != NULL) {
            SEAM_TRY(row_encode(d->row, decoded, d, x + i * C));
        }
    }
    seam_bit_writer writer = {.out = ret_payload + SEAM_DICTIONARY_HEAD_BYTES};
    seam_bits_put(&writer, d->indices, rows, width);
    seam_bits_put_end(&writer);
    SEAM_ASSERT(writer.out == rows_new);
    *ret_payload_bytes = (size_t)(rows_inline - ret_payload);
    return SEAM_OK;
}

typedef struct chunk_head {
    uint32_t base, new_count, inline_count;
    uint32_t total, width; /* rows of the table after the chunk; bits of an index */
    const uint8_t *indices, *rows_new, *rows_inline;
} chunk_head;

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return seam_error_set(err, SEAM_E_FORMAT, "dictionary." __VA_ARGS__);                  \
        }                                                                                          \
    } while (0)

static seam_status head_read(chunk_head *ret, const seam_dictionary *d, const uint8_t *payload,
                             size_t payload_bytes, uint32_t rows, seam_error *err) {
    CHECK(payload_bytes >= SEAM_DICTIONARY_HEAD_BYTES, "head: %zu bytes of payload", payload_bytes);
    chunk_head head = {.base = seam_get_u32(payload),
                       .new_count = seam_get_u32(payload + 4),
                       .inline_count = seam_get_u32(payload + 8)};
    const uint32_t rows_max = d->config.rows_max;
    CHECK(head.base <= rows_max, "table_rows: %u is above %u", head.base, rows_max);
    CHECK(head.new_count <= rows && head.new_count <= rows_max - head.base,
          "new_rows: %u of %u rows, the table has room for %u", head.new_count, rows,
          rows_max - head.base);
    head.total = head.base + head.new_count;
    CHECK(head.inline_count <= rows - head.new_count, "inline_rows: %u of %u rows, %u are new",
          head.inline_count, rows, head.new_count);
    CHECK(head.inline_count == 0 || head.total == rows_max,
          "inline_rows: %u, but the table has room", head.inline_count);
    head.width = index_width(head.total);
    head.indices = payload + SEAM_DICTIONARY_HEAD_BYTES;
    head.rows_new = head.indices + seam_bit_string_bytes(rows, head.width);
    const size_t expected = SEAM_DICTIONARY_HEAD_BYTES + seam_bit_string_bytes(rows, head.width) +
                            ((size_t)head.new_count + head.inline_count) * d->row_bytes;
    CHECK(payload_bytes == expected, "payload: %zu bytes, %zu follow from its head", payload_bytes,
          expected);
    head.rows_inline = head.rows_new + head.new_count * d->row_bytes;
    *ret = head;
    return SEAM_OK;
}

/* Indices: within the table, new rows in order of first appearance and each of them used. */
static seam_status indices_read(const seam_dictionary *d, const chunk_head *head, uint32_t rows,
                                seam_error *err) {
    seam_bit_reader reader = {.in = head->indices};
    seam_bits_get(d->indices, &reader, rows, head->width);
    CHECK(seam_bits_get_end(&reader), "indices: the bits that fill the last byte are not zero");
    uint32_t next = head->base, inline_count = 0;
    for (uint32_t i = 0; i < rows; i++) {
        const uint32_t idx = d->indices[i];
        CHECK(idx <= head->total, "indices: row %u has %u, the table ends at %u", i, idx,
              head->total);
        if (idx == head->total) {
            inline_count++;
        } else if (idx >= next) {
            CHECK(idx == next, "indices: row %u has %u, the next new one is %u", i, idx, next);
            next++;
        }
    }
    CHECK(next == head->total, "indices: %u of %u new rows appear", next - head->base,
          head->new_count);
    CHECK(inline_count == head->inline_count, "indices: %u inline rows, the head says %u",
          inline_count, head->inline_count);
    return SEAM_OK;
}

/* Can the table be what the encoder had before this chunk? */
static seam_status base_check(const seam_dictionary *d, uint32_t base, seam_error *err) {
    if (base > d->count) {
        return seam_error_set(err, SEAM_E_STATE,
                              "dictionary: the sender's table has %u rows, this one %u", base,
                              d->count);
    }
    CHECK(base == d->count || !d->chunk_seen,
          "table_rows: %u in the middle of a tensor, expected %u", base, d->count);
    return SEAM_OK;
}

seam_status seam_dictionary_decode(float *ret_x, seam_dictionary *dictionary,
                                   const uint8_t *payload, size_t payload_bytes, uint32_t rows,
                                   seam_error *err) {
    seam_dictionary *const d = dictionary;
    SEAM_ASSERT(d->open);
    SEAM_ASSERT(rows >= 1 && rows <= d->config.chunk_rows_max);
    const seam_codec_args bf16 = {.id = SEAM_CODEC_BF16, .channels = d->config.channels};
    chunk_head head = {0};
    SEAM_TRY(head_read(&head, d, payload, payload_bytes, rows, err));
    SEAM_TRY(base_check(d, head.base, err));
    SEAM_TRY(indices_read(d, &head, rows, err));
    truncate(d, head.base);
    d->committed = head.base < d->committed ? head.base : d->committed;
    d->chunk_seen = true;
    memcpy(table_row(d, d->count), head.rows_new, head.new_count * d->row_bytes);
    d->count = head.total;
    const uint8_t *rows_inline = head.rows_inline;
    for (uint32_t i = 0; i < rows; i++) {
        const uint8_t *row = table_row(d, d->indices[i]);
        if (d->indices[i] == head.total) {
            row = rows_inline;
            rows_inline += d->row_bytes;
        }
        const seam_status st = seam_codec_decode(ret_x + (size_t)i * d->config.channels, &bf16, row,
                                                 d->row_bytes, 1, NULL);
        if (st != SEAM_OK) {
            return seam_error_set(err, st, "dictionary.rows: a value of row %u is not finite", i);
        }
    }
    return SEAM_OK;
}
