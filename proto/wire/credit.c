/* See credit.h.  With grants from a quarter of the window on, a sender whose every byte has been
 * consumed has three quarters of it or more: a frame always fits in the end. */
#include "credit.h"

#include "try.h"

void seam_credit_tx_open(seam_credit_tx *tx, uint64_t window_bytes) {
    *tx = (seam_credit_tx){.limit = window_bytes, .unlimited = window_bytes == 0};
}

void seam_credit_tx_grant(seam_credit_tx *tx, uint64_t limit_bytes) {
    tx->limit = limit_bytes > tx->limit ? limit_bytes : tx->limit;
}

bool seam_credit_tx_fits(const seam_credit_tx *tx, uint64_t frame_bytes) {
    return tx->unlimited || (tx->sent <= tx->limit && frame_bytes <= tx->limit - tx->sent);
}

void seam_credit_tx_add(seam_credit_tx *tx, uint64_t frame_bytes) {
    SEAM_ASSERT(seam_credit_tx_fits(tx, frame_bytes));
    tx->sent += frame_bytes;
}

void seam_credit_rx_open(seam_credit_rx *rx, uint64_t window_bytes) {
    SEAM_ASSERT(window_bytes >= SEAM_CREDIT_BYTES_MIN);
    SEAM_ASSERT(window_bytes <= SEAM_CREDIT_BYTES_MAX);
    *rx = (seam_credit_rx){.window = window_bytes, .granted = window_bytes};
}

seam_status seam_credit_rx_take(seam_credit_rx *rx, uint64_t frame_bytes, seam_error *err) {
    if (frame_bytes > rx->granted - rx->received) {
        return seam_error_set(err, SEAM_E_OUT_OF_SEQUENCE,
                              "credit: a frame of %llu bytes after %llu, and %llu were granted",
                              (unsigned long long)frame_bytes, (unsigned long long)rx->received,
                              (unsigned long long)rx->granted);
    }
    rx->received += frame_bytes;
    return SEAM_OK;
}

void seam_credit_rx_consume(seam_credit_rx *rx, uint64_t frame_bytes) {
    rx->consumed += frame_bytes;
    SEAM_ASSERT(rx->consumed <= rx->received);
}

bool seam_credit_rx_grant(uint64_t *ret_limit_bytes, seam_credit_rx *rx) {
    const uint64_t limit = rx->consumed + rx->window;
    if (limit - rx->granted < rx->window / 4 || limit == rx->granted) {
        return false;
    }
    rx->granted = limit;
    *ret_limit_bytes = limit;
    return true;
}

#define INBOX_FRAMES      4096u
#define INBOX_FRAME_BYTES 65536u /* one frame more for each of so many bytes of the window */
#define INBOX_ENTRY_BYTES 512u   /* what gRPC and the inbox keep beside a message, at most */

uint64_t seam_inbox_frames_max(uint64_t window_bytes) {
    return INBOX_FRAMES + window_bytes / INBOX_FRAME_BYTES;
}

uint64_t seam_inbox_bytes_max(uint64_t window_bytes) {
    return window_bytes + SEAM_INBOX_CONTROL_BYTES_MAX +
           (seam_inbox_frames_max(window_bytes) + SEAM_INBOX_CONTROL_MAX) * INBOX_ENTRY_BYTES;
}
