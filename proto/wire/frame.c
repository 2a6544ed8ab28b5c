/* Frame headers: writing, and judging what a peer wrote; see frame.h and WIRE.md section 2.
 *
 * One function, header_check, holds every rule about the fields.  Reading returns its error,
 * writing asserts it, so that both ends agree on what a valid frame is. */
#include "frame.h"

#include <stdbool.h>
#include <string.h>

#include "bytes.h"
#include "try.h"

/* Codec numbers of types.proto whose payload size follows from the header alone. */
enum {
    CODEC_F32 = 1,
    CODEC_BF16 = 2,
    CODEC_AFFINE = 3,
    CODEC_AMAQ = 4,
    CODEC_TENSOR = 5,
    CODEC_CHANNEL = 6,
    CODEC_GROUP = 7,
    CODEC_DICTIONARY = 9,
    CODEC_AMAQ_TOKEN = 10,
    CODEC_LAST = CODEC_AMAQ_TOKEN,
};
enum { CODING_PLANES = 0, CODING_RANS = 1 };

#define GROUP_ROWS    32u
#define ROWS_MAX      (1u << 20)
#define CHANNELS_MAX  (1u << 16)
#define BITS_MAX      16u
#define POSITIONS_MAX 1024u /* widths of an allocation of amaq_token */

_Static_assert(SEAM_FRAME_HEADER_BYTES == 64, "the header is 64 bytes");

static const uint8_t magic[4] = {0x53, 0x45, 0x41, 0x4d};

static seam_status header_check(const seam_frame_header *h, seam_error *err);
static bool is_raw(const seam_frame_header *h);
static bool has_widths(const seam_frame_header *h);
static seam_status alloc_check(const seam_frame_header *h, seam_error *err);
static bool has_planes(const seam_frame_header *h);
static uint64_t head_bytes_of(const seam_frame_header *h);
static uint64_t payload_bytes_of(const seam_frame_header *h);
static seam_status coded_check(const seam_frame_header *h, seam_error *err);
static void header_put(uint8_t *ret, const seam_frame_header *h);
static seam_frame_header header_get(const uint8_t *bytes);

static uint32_t frame_crc_compute(const uint8_t *frame, size_t payload_bytes) {
    static const uint8_t zero[4] = {0};
    uint32_t crc = seam_crc32c(0, frame, SEAM_FRAME_HEADER_BYTES - 4);
    crc = seam_crc32c(crc, zero, sizeof zero);
    return seam_crc32c(crc, frame + SEAM_FRAME_HEADER_BYTES, payload_bytes);
}

void seam_frame_seal(uint8_t *frame, const seam_frame_header *header) {
    SEAM_ASSERT(header_check(header, NULL) == SEAM_OK);
    header_put(frame, header);
    seam_put_u32(frame + 60, frame_crc_compute(frame, header->payload_bytes));
}

seam_status seam_frame_open(seam_frame_header *ret_header, const uint8_t **ret_payload,
                            const uint8_t *frame, size_t count, seam_error *err) {
    if (count < SEAM_FRAME_HEADER_BYTES) {
        return seam_error_set(err, SEAM_E_FORMAT, "frame: %zu bytes are less than a header", count);
    }
    if (memcmp(frame, magic, sizeof magic) != 0) {
        return seam_error_set(err, SEAM_E_FORMAT, "frame.magic: not \"SEAM\"");
    }
    if (frame[4] != SEAM_FRAME_VERSION) {
        return seam_error_set(err, SEAM_E_FORMAT, "frame.version: %u, expected 1", frame[4]);
    }
    if (frame[11] != 0) {
        return seam_error_set(err, SEAM_E_FORMAT, "frame.reserved: not zero");
    }
    const seam_frame_header h = header_get(frame);
    SEAM_TRY(header_check(&h, err));
    if (h.payload_bytes != count - SEAM_FRAME_HEADER_BYTES) {
        return seam_error_set(err, SEAM_E_FORMAT, "frame.payload_bytes: %u, but %zu bytes follow",
                              h.payload_bytes, count - SEAM_FRAME_HEADER_BYTES);
    }
    if (seam_frame_crc(frame) != frame_crc_compute(frame, h.payload_bytes)) {
        return seam_error_set(err, SEAM_E_CHECKSUM, "frame.crc32c: the bytes were damaged");
    }
    *ret_header = h;
    *ret_payload = frame + SEAM_FRAME_HEADER_BYTES;
    return SEAM_OK;
}

uint32_t seam_frame_crc(const uint8_t *frame) {
    return seam_get_u32(frame + 60);
}

uint64_t seam_frame_digest_add(uint64_t digest, uint32_t crc) {
    uint8_t bytes[4];
    seam_put_u32(bytes, crc);
    return seam_hash64(digest, bytes, sizeof bytes);
}

/* ---- the rules ---- */

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return seam_error_set(err, SEAM_E_FORMAT, __VA_ARGS__);                                \
        }                                                                                          \
    } while (0)

static seam_status header_check(const seam_frame_header *h, seam_error *err) {
    CHECK(h->kind >= SEAM_FRAME_TENSOR && h->kind <= SEAM_FRAME_TOKENS, "frame.kind: %u is unknown",
          h->kind);
    CHECK(h->phase >= SEAM_PHASE_FORWARD && h->phase <= SEAM_PHASE_GENERATE,
          "frame.phase: %u is unknown", h->phase);
    CHECK(h->codec >= CODEC_F32 && h->codec <= CODEC_LAST, "frame.codec: %u is unknown", h->codec);
    CHECK(h->micro < SEAM_MICROS_MAX, "frame.micro: %u is not below %u", h->micro, SEAM_MICROS_MAX);
    CHECK(h->phase != SEAM_PHASE_GENERATE || h->micro == 0, "frame.micro: %u, phase 3 has only 0",
          h->micro);
    CHECK(h->rows >= 1 && h->rows <= ROWS_MAX, "frame.rows: %u is not in 1..%u", h->rows, ROWS_MAX);
    CHECK(h->channels >= 1 && h->channels <= CHANNELS_MAX, "frame.channels: %u is not in 1..%u",
          h->channels, CHANNELS_MAX);
    CHECK(h->kind == SEAM_FRAME_TENSOR || h->kind == SEAM_FRAME_TOKENS || h->rows == 1,
          "frame.rows: %u, kind %u has only 1", h->rows, h->kind);
    CHECK(!is_raw(h) || h->channels == 1, "frame.channels: %u, kind %u has only 1", h->channels,
          h->kind);
    CHECK(h->kind < SEAM_FRAME_LOSS || h->codec == CODEC_F32, "frame.codec: %u, kind %u has 1",
          h->codec, h->kind);
    CHECK(h->row_begin % GROUP_ROWS == 0, "frame.row_begin: %u is not a multiple of 32",
          h->row_begin);
    CHECK(h->row_begin < h->rows, "frame.row_begin: %u is not below rows %u", h->row_begin,
          h->rows);
    CHECK(h->row_count >= 1 && h->row_count <= h->rows - h->row_begin,
          "frame.row_count: %u is not in 1..%u", h->row_count, h->rows - h->row_begin);
    CHECK(h->row_count % GROUP_ROWS == 0 || h->row_begin + h->row_count == h->rows,
          "frame.row_count: %u is not a multiple of 32 before the last chunk", h->row_count);
    CHECK(h->kind != SEAM_FRAME_RANGE || h->codec != CODEC_AMAQ_TOKEN,
          "frame.kind: 4, codec %u has its ranges in every chunk", h->codec);
    CHECK(h->kind != SEAM_FRAME_TOKENS || h->row_count == h->rows,
          "frame.row_count: %u, kind 6 is one frame of %u", h->row_count, h->rows);
    SEAM_TRY(alloc_check(h, err));
    CHECK(h->coding == CODING_PLANES ||
              (h->coding == CODING_RANS && h->kind == SEAM_FRAME_TENSOR && has_planes(h)),
          "frame.coding: %u is unknown, or not of this kind or codec", h->coding);
    CHECK(h->payload_bytes <= SEAM_CHUNK_BYTES_MAX, "frame.payload_bytes: %u is above %u",
          h->payload_bytes, SEAM_CHUNK_BYTES_MAX);
    CHECK(h->payload_bytes >= 1, "frame.payload_bytes: 0");
    if (h->coding != CODING_PLANES) {
        return coded_check(h, err);
    }
    const uint64_t expected = payload_bytes_of(h);
    CHECK(expected == 0 || h->payload_bytes == expected,
          "frame.payload_bytes: %u, %llu follow from the header", h->payload_bytes,
          (unsigned long long)expected);
    return SEAM_OK;
}

/* Kinds without channels. */
static bool is_raw(const seam_frame_header *h) {
    return h->kind == SEAM_FRAME_GRAD_NORM || h->kind >= SEAM_FRAME_LOSS;
}

static bool has_widths(const seam_frame_header *h) {
    return h->codec != CODEC_F32 && h->codec != CODEC_BF16 && h->codec != CODEC_DICTIONARY;
}

static seam_status alloc_check(const seam_frame_header *h, seam_error *err) {
    if (!has_widths(h)) {
        CHECK(h->alloc_version == 0, "frame.alloc_version: %u, this codec has none",
              h->alloc_version);
        CHECK(h->alloc_bits_total == 0, "frame.alloc_bits_total: %u, this codec has none",
              h->alloc_bits_total);
        CHECK(h->alloc_hash == 0, "frame.alloc_hash: this codec has none");
    } else {
        CHECK(h->alloc_version >= 1, "frame.alloc_version: 0, this codec needs one");
        /* A tensor of amaq_token does not say how many widths there are. */
        const bool counted = h->codec != CODEC_AMAQ_TOKEN || h->kind != SEAM_FRAME_TENSOR;
        const uint32_t least = counted ? h->channels : 1;
        const uint32_t most = BITS_MAX * (counted ? h->channels : POSITIONS_MAX);
        CHECK(h->alloc_bits_total >= least && h->alloc_bits_total <= most,
              "frame.alloc_bits_total: %u is not in 1..16 bits a width", h->alloc_bits_total);
    }
    return SEAM_OK;
}

/* Codes of groups of 32 rows as bit planes, which an entropy coder may follow. */
static bool has_planes(const seam_frame_header *h) {
    return h->codec >= CODEC_AFFINE && h->codec <= CODEC_GROUP;
}

/* Range or scale block in front of the codes; of codec group only its fixed part. */
static uint64_t head_bytes_of(const seam_frame_header *h) {
    const bool first = h->row_begin == 0;
    switch (h->codec) {
    case CODEC_AFFINE:
    case CODEC_AMAQ:
        return first ? 4 + 4 * (uint64_t)h->channels : 0;
    case CODEC_TENSOR:
        return first ? 6 : 0;
    case CODEC_CHANNEL:
        return first ? 4 + 2 * (uint64_t)h->channels : 0;
    case CODEC_GROUP:
        return 4;
    default:
        return 0;
    }
}

static uint64_t planes_bytes_of(const seam_frame_header *h) {
    return ((uint64_t)h->row_count * h->alloc_bits_total + 7) / 8;
}

/* A stream stands in place of the codes and is smaller than they; how many scales there are
 * (codec group) the header does not say. */
static seam_status coded_check(const seam_frame_header *h, seam_error *err) {
    const uint64_t head = head_bytes_of(h);
    const uint64_t plain = head + planes_bytes_of(h);
    CHECK(plain <= SEAM_CHUNK_BYTES_MAX, "frame.row_count: %u rows do not fit a frame",
          h->row_count);
    CHECK(h->payload_bytes > head, "frame.payload_bytes: %u are not above %llu", h->payload_bytes,
          (unsigned long long)head);
    CHECK(h->codec == CODEC_GROUP || h->payload_bytes < plain,
          "frame.payload_bytes: %u are not below %llu", h->payload_bytes,
          (unsigned long long)plain);
    return SEAM_OK;
}

/* Bytes that the payload must have with coding 0; 0 where the header does not determine it. */
static uint64_t payload_bytes_of(const seam_frame_header *h) {
    const uint64_t values = (uint64_t)h->row_count * h->channels;
    switch (h->kind) {
    case SEAM_FRAME_GATE_SIGNAL:
        return 4 * (uint64_t)h->channels;
    case SEAM_FRAME_GRAD_NORM:
        return 8;
    case SEAM_FRAME_RANGE:
        return 4 + 4 * (uint64_t)h->channels;
    case SEAM_FRAME_LOSS:
        return 16;
    case SEAM_FRAME_TOKENS:
        return 4 * (uint64_t)h->rows;
    default:
        break;
    }
    switch (h->codec) {
    case CODEC_F32:
        return 4 * values;
    case CODEC_BF16:
        return 2 * values;
    case CODEC_AFFINE:
    case CODEC_AMAQ:
    case CODEC_TENSOR:
    case CODEC_CHANNEL:
        return head_bytes_of(h) + planes_bytes_of(h);
    default:
        return 0;
    }
}

/* ---- bytes ---- */

static void header_put(uint8_t *ret, const seam_frame_header *h) {
    memcpy(ret, magic, sizeof magic);
    ret[4] = SEAM_FRAME_VERSION;
    ret[5] = h->kind;
    ret[6] = h->phase;
    ret[7] = h->codec;
    seam_put_u16(ret + 8, h->site);
    ret[10] = h->coding;
    ret[11] = 0;
    seam_put_u32(ret + 12, h->micro);
    seam_put_u64(ret + 16, h->step);
    seam_put_u32(ret + 24, h->rows);
    seam_put_u32(ret + 28, h->channels);
    seam_put_u32(ret + 32, h->row_begin);
    seam_put_u32(ret + 36, h->row_count);
    seam_put_u32(ret + 40, h->alloc_version);
    seam_put_u32(ret + 44, h->alloc_bits_total);
    seam_put_u64(ret + 48, h->alloc_hash);
    seam_put_u32(ret + 56, h->payload_bytes);
}

static seam_frame_header header_get(const uint8_t *bytes) {
    return (seam_frame_header){
        .kind = bytes[5],
        .phase = bytes[6],
        .codec = bytes[7],
        .coding = bytes[10],
        .site = seam_get_u16(bytes + 8),
        .micro = seam_get_u32(bytes + 12),
        .step = seam_get_u64(bytes + 16),
        .rows = seam_get_u32(bytes + 24),
        .channels = seam_get_u32(bytes + 28),
        .row_begin = seam_get_u32(bytes + 32),
        .row_count = seam_get_u32(bytes + 36),
        .alloc_version = seam_get_u32(bytes + 40),
        .alloc_bits_total = seam_get_u32(bytes + 44),
        .alloc_hash = seam_get_u64(bytes + 48),
        .payload_bytes = seam_get_u32(bytes + 56),
    };
}
