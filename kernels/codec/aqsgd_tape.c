/* Tapes: what changes a cache, as bytes.  A tensor is taped as it travels, 2 bytes a value at a
 * sample's first visit and `bits` afterwards, where the cache itself takes 16 bits a value; it is
 * done again by decoding it, which compares the checksum of every entry that it changes.
 *
 *   tensor  u32 1, rows u32, sequences u32, for each sample id u64 and rows u32; bitmap of the rows
 *           in range; for each chunk rows u32, payload bytes u32, payload
 *   entry   u32 2, rows u32, checksum u32, zero u32, sample id u64; its scale block if it is
 *           quantized, its rows as they are stored
 *
 * Who keeps tapes is cache_keeper.c. */
#include <string.h>

#include "aqsgd_impl.h"
#include "bytes.h"
#include "try.h"

#define KIND_TENSOR     1
#define KIND_ENTRY      2
#define TENSOR_BYTES    12
#define SEQUENCE_BYTES  12
#define CHUNK_BYTES     8
#define ENTRY_BYTES     24
#define CHUNK_BYTES_MAX (CHUNK_BYTES + 1) /* with what fills its last byte of codes */

#define CHECK(condition, what)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return seam_error_set(err, SEAM_E_FORMAT, "aqsgd: a recorded " what);                  \
        }                                                                                          \
    } while (0)

static size_t scale_bytes(const seam_aqsgd *a) {
    return a->scale_blocks > 0 ? seam_scale_block_bytes(a->config.channels) : 0;
}

/* Chunks have a row at least. */
size_t seam_aqsgd_tape_bytes_max(const seam_aqsgd *a) {
    const size_t rows = a->config.rows_max, S = a->config.sequences_max;
    const size_t tensor = TENSOR_BYTES + SEQUENCE_BYTES * S + (rows + 7) / 8 +
                          CHUNK_BYTES_MAX * rows +
                          seam_aqsgd_head_bytes_max((uint32_t)S, a->config.channels) +
                          seam_aqsgd_rows_bytes_max((uint32_t)rows, a->config.channels);
    const size_t entry = ENTRY_BYTES + scale_bytes(a) + rows * a->block_bytes;
    return tensor > entry ? tensor : entry;
}

void seam_aqsgd_on_commit(seam_aqsgd *aqsgd, seam_aqsgd_commit_fn *fn, void *user) {
    aqsgd->commit_fn = fn;
    aqsgd->commit_user = user;
}

size_t seam_aqsgd_cached_bytes(const seam_aqsgd *aqsgd) {
    return seam_sample_cache_used_bytes(aqsgd->cache);
}

/* ---- tensors ---- */

void seam_aqsgd_tape_begin(seam_aqsgd *a) {
    if (a->commit_fn == NULL) {
        return;
    }
    uint8_t *to = a->tape;
    seam_put_u32(to, KIND_TENSOR);
    seam_put_u32(to + 4, a->rows);
    seam_put_u32(to + 8, a->sequence_count);
    to += TENSOR_BYTES;
    for (uint32_t s = 0; s < a->sequence_count; s++) {
        seam_put_u64(to, a->sample_ids[s]);
        seam_put_u32(to + 8, a->seq_rows[s]);
        to += SEQUENCE_BYTES;
    }
    const size_t bitmap_bytes = ((size_t)a->rows + 7) / 8;
    memcpy(to, a->range_rows, bitmap_bytes);
    a->tape_used = (size_t)(to - a->tape) + bitmap_bytes;
}

void seam_aqsgd_tape_add(seam_aqsgd *a, const uint8_t *payload, size_t payload_bytes,
                         uint32_t rows) {
    if (a->commit_fn == NULL) {
        return;
    }
    uint8_t *const to = a->tape + a->tape_used;
    a->tape_used += CHUNK_BYTES + payload_bytes;
    SEAM_ASSERT(a->tape_used <= seam_aqsgd_tape_bytes_max(a));
    seam_put_u32(to, rows);
    seam_put_u32(to + 4, (uint32_t)payload_bytes);
    memcpy(to + CHUNK_BYTES, payload, payload_bytes);
}

static seam_status chunks_replay(seam_aqsgd *a, const uint8_t *at, const uint8_t *end,
                                 seam_error *err) {
    while (at < end) {
        CHECK(end - at >= CHUNK_BYTES, "chunk: cut off");
        const uint32_t rows = seam_get_u32(at), bytes = seam_get_u32(at + 4);
        at += CHUNK_BYTES;
        CHECK(rows >= 1 && rows <= a->rows - a->cursor.row, "chunk: its rows");
        CHECK(bytes <= (size_t)(end - at), "chunk: its bytes");
        SEAM_TRY(seam_aqsgd_decode(NULL, a, at, bytes, rows, err));
        at += bytes;
    }
    CHECK(a->cursor.row == a->rows, "tensor: not all of its rows");
    return SEAM_OK;
}

/* a->sample_ids and seq_rows serve to read into: begin copies them onto themselves. */
static seam_status tensor_replay(seam_aqsgd *a, const uint8_t *tape, size_t count,
                                 seam_error *err) {
    CHECK(count >= TENSOR_BYTES, "tensor: cut off");
    const uint32_t rows = seam_get_u32(tape + 4), S = seam_get_u32(tape + 8);
    CHECK(rows >= 1 && rows <= a->config.rows_max, "tensor: its rows");
    CHECK(S >= 1 && S <= a->config.sequences_max, "tensor: its sequences");
    const size_t bitmap_bytes = ((size_t)rows + 7) / 8;
    const size_t head_bytes = TENSOR_BYTES + SEQUENCE_BYTES * (size_t)S + bitmap_bytes;
    CHECK(count >= head_bytes, "tensor: cut off");
    uint64_t total = 0;
    for (uint32_t s = 0; s < S; s++) {
        const uint8_t *from = tape + TENSOR_BYTES + SEQUENCE_BYTES * (size_t)s;
        a->sample_ids[s] = seam_get_u64(from);
        a->seq_rows[s] = seam_get_u32(from + 8);
        total += a->seq_rows[s];
    }
    CHECK(total == rows, "tensor: rows of its sequences");
    const seam_sequences sequences = {a->sample_ids, a->seq_rows, S};
    seam_aqsgd_decode_begin(a, &sequences, rows, tape + head_bytes - bitmap_bytes);
    SEAM_TRY(chunks_replay(a, tape + head_bytes, tape + count, err));
    seam_aqsgd_commit(a);
    return SEAM_OK;
}

/* ---- entries ---- */

/* Between the entry's blocks and bytes without gaps.  A scale block's last block is not full. */
static void entry_copy(seam_aqsgd *a, uint32_t entry, uint8_t *bytes, size_t count, bool reads) {
    uint32_t block = seam_sample_cache_block_first(a->cache, entry);
    for (size_t scale = scale_bytes(a), left = count; left > 0;) {
        const size_t most = scale > 0 && scale < a->block_bytes ? scale : a->block_bytes;
        const size_t piece = most < left ? most : left;
        uint8_t *const stored = seam_sample_cache_bytes(a->cache, block);
        memcpy(reads ? bytes : stored, reads ? stored : bytes, piece);
        block = seam_sample_cache_block_next(a->cache, block);
        bytes += piece;
        left -= piece;
        scale -= scale < piece ? scale : piece;
    }
}

bool seam_aqsgd_entry_tape(const uint8_t **ret_tape, size_t *ret_tape_bytes, seam_aqsgd *aqsgd,
                           uint32_t *entry) {
    seam_aqsgd *const a = aqsgd;
    const uint32_t at = *entry == SEAM_CACHE_NONE ? seam_sample_cache_oldest(a->cache)
                                                  : seam_sample_cache_newer(a->cache, *entry);
    if (at == SEAM_CACHE_NONE) {
        return false;
    }
    const seam_cache_note *note = seam_sample_cache_note(a->cache, at);
    const size_t bytes = scale_bytes(a) + note->rows * a->block_bytes;
    seam_put_u32(a->tape, KIND_ENTRY);
    seam_put_u32(a->tape + 4, note->rows);
    seam_put_u32(a->tape + 8, note->tag);
    seam_put_u32(a->tape + 12, 0);
    seam_put_u64(a->tape + 16, seam_sample_cache_sample_id(a->cache, at));
    entry_copy(a, at, a->tape + ENTRY_BYTES, bytes, true);
    *entry = at;
    *ret_tape = a->tape;
    *ret_tape_bytes = ENTRY_BYTES + bytes;
    return true;
}

static seam_status entry_replay(seam_aqsgd *a, const uint8_t *tape, size_t count, seam_error *err) {
    CHECK(count >= ENTRY_BYTES, "entry: cut off");
    const uint32_t rows = seam_get_u32(tape + 4), tag = seam_get_u32(tape + 8);
    const uint64_t id = seam_get_u64(tape + 16);
    const size_t bytes = count - ENTRY_BYTES;
    const uint32_t before = seam_sample_cache_entry_count(a->cache);
    CHECK(rows >= 1 && rows <= a->config.rows_max, "entry: its rows");
    CHECK(seam_get_u32(tape + 12) == 0, "entry: its zero field");
    CHECK(bytes == scale_bytes(a) + rows * a->block_bytes, "entry: its bytes");
    CHECK(seam_crc32c(0, tape + ENTRY_BYTES, bytes) == tag, "entry: its checksum");
    CHECK(a->scale_blocks == 0 ||
              seam_scale_block_get(&a->cached, tape + ENTRY_BYTES, a->config.channels,
                                   a->config.cache_bits) == SEAM_OK,
          "entry: its scales");
    const uint32_t entry = seam_sample_cache_put(a->cache, id, a->scale_blocks + rows);
    CHECK(entry != SEAM_CACHE_NONE && seam_sample_cache_entry_count(a->cache) == before + 1,
          "entry: it does not fit beside the others");
    memcpy(a->tape, tape + ENTRY_BYTES, bytes);
    entry_copy(a, entry, a->tape, bytes, false);
    *seam_sample_cache_note(a->cache, entry) = (seam_cache_note){.rows = rows, .tag = tag};
    return SEAM_OK;
}

seam_status seam_aqsgd_replay(seam_aqsgd *aqsgd, const uint8_t *tape, size_t tape_bytes,
                              seam_error *err) {
    seam_aqsgd *const a = aqsgd;
    seam_aqsgd_commit_fn *const commit_fn = a->commit_fn;
    CHECK(tape_bytes >= 4, "change: cut off");
    const uint32_t kind = seam_get_u32(tape);
    CHECK(kind == KIND_TENSOR || kind == KIND_ENTRY, "change: of no known kind");
    a->commit_fn = NULL;
    const seam_status st = kind == KIND_TENSOR ? tensor_replay(a, tape, tape_bytes, err)
                                               : entry_replay(a, tape, tape_bytes, err);
    a->commit_fn = commit_fn;
    return st;
}
