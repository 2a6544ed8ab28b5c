/* Any bytes as a frame, as they are and with a CRC made right.  A frame that opens is what sealing
 * its header gives, and a tensor reception that expects it takes it. */
#include "bytes.h"
#include "frame.h"
#include "fuzz.h"
#include "tensor_rx.h"

static void opened(const uint8_t *frame, size_t count) {
    seam_frame_header header;
    const uint8_t *payload = NULL;
    seam_error err = {0};
    const seam_status st = seam_frame_open(&header, &payload, frame, count, &err);
    FUZZ_CHECK(st == SEAM_OK || st == SEAM_E_FORMAT || st == SEAM_E_CHECKSUM);
    FUZZ_CHECK((st == SEAM_OK) == (err.text[0] == '\0'));
    if (st != SEAM_OK) {
        return;
    }
    FUZZ_CHECK(payload == frame + SEAM_FRAME_HEADER_BYTES);
    FUZZ_CHECK(header.payload_bytes == count - SEAM_FRAME_HEADER_BYTES);
    uint8_t *const again = malloc(count);
    FUZZ_CHECK(again != NULL);
    memcpy(again + SEAM_FRAME_HEADER_BYTES, payload, header.payload_bytes);
    seam_frame_seal(again, &header);
    FUZZ_CHECK(memcmp(again, frame, count) == 0);
    free(again);

    seam_tensor_rx rx;
    bool complete = false;
    const seam_tensor_expect expect = {.kind = header.kind,
                                       .phase = header.phase,
                                       .site = header.site,
                                       .step = header.step,
                                       .micro = header.micro,
                                       .rows = header.rows,
                                       .channels = header.channels,
                                       .codec_mask = 1u << header.codec,
                                       .coding_max = header.coding};
    seam_tensor_rx_init(&rx, &expect);
    const seam_status taken =
        seam_tensor_rx_add(&complete, &rx, &header, seam_frame_crc(frame), NULL);
    FUZZ_CHECK((taken == SEAM_OK) == (header.row_begin == 0));
    FUZZ_CHECK(taken != SEAM_OK || complete == (header.row_count == header.rows));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    static const uint8_t zero[4] = {0};
    opened(data, count);
    if (count >= SEAM_FRAME_HEADER_BYTES) {
        uint8_t *const copy = malloc(count);
        FUZZ_CHECK(copy != NULL);
        memcpy(copy, data, count);
        uint32_t crc = seam_crc32c(0, copy, SEAM_FRAME_HEADER_BYTES - 4);
        crc = seam_crc32c(crc, zero, sizeof zero);
        crc = seam_crc32c(crc, copy + SEAM_FRAME_HEADER_BYTES, count - SEAM_FRAME_HEADER_BYTES);
        seam_put_u32(copy + 60, crc);
        opened(copy, count);
        free(copy);
    }
    return 0;
}
