/* Row continuity, agreement of the chunks, digest; see tensor_rx.h. */
#include "tensor_rx.h"

#include "bytes.h"
#include "try.h"

void seam_tensor_rx_init(seam_tensor_rx *rx, const seam_tensor_expect *expect) {
    SEAM_ASSERT(expect->rows >= 1);
    SEAM_ASSERT(expect->channels >= 1);
    *rx = (seam_tensor_rx){.expect = *expect, .digest = SEAM_HASH64_INIT};
}

#define CHECK(field, wanted, st)                                                                   \
    do {                                                                                           \
        if (header->field != (wanted)) {                                                           \
            return seam_error_set(err, st, "frame." #field ": %llu, expected %llu",                \
                                  (unsigned long long)header->field,                               \
                                  (unsigned long long)(wanted));                                   \
        }                                                                                          \
    } while (0)

static seam_status key_check(const seam_tensor_rx *rx, const seam_frame_header *header,
                             seam_error *err) {
    CHECK(kind, rx->expect.kind, SEAM_E_OUT_OF_SEQUENCE);
    CHECK(phase, rx->expect.phase, SEAM_E_OUT_OF_SEQUENCE);
    CHECK(site, rx->expect.site, SEAM_E_OUT_OF_SEQUENCE);
    CHECK(step, rx->expect.step, SEAM_E_OUT_OF_SEQUENCE);
    CHECK(micro, rx->expect.micro, SEAM_E_OUT_OF_SEQUENCE);
    CHECK(row_begin, rx->row_next, SEAM_E_OUT_OF_SEQUENCE);
    return SEAM_OK;
}

seam_status seam_tensor_rx_add(bool *ret_complete, seam_tensor_rx *rx,
                               const seam_frame_header *header, uint32_t crc, seam_error *err) {
    SEAM_ASSERT(rx->row_next < rx->expect.rows);
    SEAM_TRY(key_check(rx, header, err));
    CHECK(rows, rx->expect.rows, SEAM_E_FORMAT);
    CHECK(channels, rx->expect.channels, SEAM_E_FORMAT);
    if (header->codec >= 32 || (rx->expect.codec_mask >> header->codec & 1u) == 0) {
        return seam_error_set(err, SEAM_E_FORMAT, "frame.codec: %u is not the session's",
                              header->codec);
    }
    if (header->coding > rx->expect.coding_max) {
        return seam_error_set(err, SEAM_E_FORMAT, "frame.coding: %u is not the session's",
                              header->coding);
    }
    if (rx->row_next == 0) {
        rx->first = *header;
    } else {
        CHECK(codec, rx->first.codec, SEAM_E_FORMAT);
        CHECK(alloc_version, rx->first.alloc_version, SEAM_E_FORMAT);
        CHECK(alloc_bits_total, rx->first.alloc_bits_total, SEAM_E_FORMAT);
        CHECK(alloc_hash, rx->first.alloc_hash, SEAM_E_FORMAT);
    }
    /* seam_frame_open has checked that the rows lie inside the tensor. */
    rx->row_next += header->row_count;
    rx->digest = seam_frame_digest_add(rx->digest, crc);
    *ret_complete = rx->row_next == rx->expect.rows;
    return SEAM_OK;
}
