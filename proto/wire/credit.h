/* Credit: how many bytes of frames one side of a Train stream may have sent.  WIRE.md section 4.
 *
 * Both directions have their own: the receiver grants, the sender waits until a whole frame fits.
 * A grant is no difference but a place in the stream: all bytes that may have been sent since it
 * was attached.  So a grant that comes twice or late changes nothing, one that is lost with its
 * stream is not missed (the next stream begins anew, at both ends), and a later one makes up for
 * any before it.
 *
 * No I/O, no clock, no allocation; any thread, the caller serializes.  Who sends: grants go out
 * when a quarter of the window has been consumed; whoever waits for credit must go on receiving,
 * and no message may keep a grant behind it from being read.  tests/sim drives both ends. */
#ifndef SEAM_CREDIT_H
#define SEAM_CREDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "seam_status.h"

#define SEAM_CREDIT_BYTES_MIN     (2u * (SEAM_FRAME_HEADER_BYTES + SEAM_CHUNK_BYTES_MAX))
#define SEAM_CREDIT_BYTES_DEFAULT (16u << 20)
#define SEAM_CREDIT_BYTES_MAX     (1u << 30)

/* Of what this side sends.  Zeroed: nothing may be sent. */
typedef struct seam_credit_tx {
    uint64_t sent, limit; /* since the stream was attached */
    bool unlimited;       /* the peer does not count */
} seam_credit_tx;

/* The peer's first word at the attach: its window; 0: it does not count. */
void seam_credit_tx_open(seam_credit_tx *tx, uint64_t window_bytes);
/* The peer's grant; one that is no more than an earlier one is a repetition. */
void seam_credit_tx_grant(seam_credit_tx *tx, uint64_t limit_bytes);
bool seam_credit_tx_fits(const seam_credit_tx *tx, uint64_t frame_bytes);
/* A frame goes out; that it fits is asserted. */
void seam_credit_tx_add(seam_credit_tx *tx, uint64_t frame_bytes);

/* Of what comes.  Zeroed: nothing may come. */
typedef struct seam_credit_rx {
    uint64_t window; /* bytes that may be on their way or wait to be consumed */
    uint64_t received, consumed, granted;
} seam_credit_rx;

/* At the attach; the window, at least SEAM_CREDIT_BYTES_MIN, is what the peer is told there. */
void seam_credit_rx_open(seam_credit_rx *rx, uint64_t window_bytes);
/* A frame has come.  SEAM_E_OUT_OF_SEQUENCE (`credit`): more than was granted. */
seam_status seam_credit_rx_take(seam_credit_rx *rx, uint64_t frame_bytes, seam_error *err);
/* Its memory is free again, or is no longer the network's. */
void seam_credit_rx_consume(seam_credit_rx *rx, uint64_t frame_bytes);
/* True: tell the peer the new limit; it counts as told. */
bool seam_credit_rx_grant(uint64_t *ret_limit_bytes, seam_credit_rx *rx);

/* What may wait on one stream of a server that reads all that comes.  A client has a handful of
 * control messages in flight at a step's begin, one of them a large StepBegin. */
#define SEAM_INBOX_CONTROL_MAX       64u
#define SEAM_INBOX_CONTROL_BYTES_MAX (2u * SEAM_REQUEST_BYTES_MAX)
/* Frames, however small. */
uint64_t seam_inbox_frames_max(uint64_t window_bytes);
/* Memory of all of it at most: in each session's plan. */
uint64_t seam_inbox_bytes_max(uint64_t window_bytes);

#endif
