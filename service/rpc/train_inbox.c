/* What waits on a Train stream, and the credit of both directions.
 *
 * gRPC's own windows could bound what waits, by not asking for messages.  But the grant that the
 * server's replies wait for may stand behind tensors for which there is no room before a reply has
 * left.  So everything is read, and the client's credit is the bound: of frames.  Control messages
 * need none; a client that sends them without end is refused, and one whose frames are so small
 * that what keeps them weighs more than they.  seam_inbox_bytes_max (credit.h) is in each session's
 * plan. Read next: rpc_train.c, seam_train_pump. */
#include <grpc/byte_buffer_reader.h>

#include "arena.h"
#include "train_stream.h"
#include "try.h"

/* The first byte of a one-field message: its number and the wire type "length-delimited". */
static uint8_t tag_of(grpc_byte_buffer *message) {
    grpc_byte_buffer_reader reader;
    grpc_slice *slice = NULL;
    uint8_t tag = 0;
    if (grpc_byte_buffer_reader_init(&reader, message) == 0) {
        return 0;
    }
    while (tag == 0 && grpc_byte_buffer_reader_peek(&reader, &slice) != 0) {
        tag = GRPC_SLICE_LENGTH(*slice) > 0 ? *GRPC_SLICE_START_PTR(*slice) : 0;
    }
    grpc_byte_buffer_reader_destroy(&reader);
    return tag;
}

#define TAG(field) ((uint8_t)((field) << 3 | 2u))

static seam_status granted(seam_train *train, grpc_byte_buffer *message, seam_error *err) {
    Seam__V1__TrainRequest *request = (Seam__V1__TrainRequest *)seam_message_unpack(
        &seam__v1__train_request__descriptor, message);
    if (request == NULL || request->body_case != SEAM__V1__TRAIN_REQUEST__BODY_CREDIT) {
        if (request != NULL) {
            seam__v1__train_request__free_unpacked(request, NULL);
        }
        return seam_error_set(err, SEAM_E_FORMAT, "TrainRequest: malformed protobuf (field 7)");
    }
    seam_credit_tx_grant(&train->credit_tx, request->credit->limit_bytes);
    seam__v1__train_request__free_unpacked(request, NULL);
    return SEAM_OK;
}

static seam_status inbox_add(seam_train *train, grpc_byte_buffer *gift_message, bool is_frame) {
    seam_train_message *const entry = seam_mem_zalloc(1, sizeof *entry);
    if (entry == NULL) {
        grpc_byte_buffer_destroy(gift_message);
        return SEAM_E_MEMORY;
    }
    *entry = (seam_train_message){.bytes = gift_message, .is_frame = is_frame};
    if (train->inbox == NULL) {
        train->inbox = entry;
    } else {
        train->inbox_last->next = entry;
    }
    train->inbox_last = entry;
    train->inbox_frames += is_frame ? 1 : 0;
    train->inbox_control += is_frame ? 0 : 1;
    train->inbox_control_bytes += is_frame ? 0 : grpc_byte_buffer_length(gift_message);
    return SEAM_OK;
}

/* A frame without payload would take next to no credit, and is none. */
static seam_status frame_check(seam_train *train, size_t message_bytes, seam_error *err) {
    const size_t bytes = seam_message_frame_bytes(message_bytes);
    const uint64_t count_max = seam_inbox_frames_max(train->credit_rx.window);
    if (bytes <= SEAM_FRAME_HEADER_BYTES) {
        return seam_error_set(err, SEAM_E_FORMAT, "frame: %zu bytes are no more than a header",
                              bytes);
    }
    SEAM_TRY(seam_credit_rx_take(&train->credit_rx, bytes, err));
    if (train->inbox_frames >= count_max) {
        return seam_error_set(err, SEAM_E_LIMIT, "message: more than %llu frames wait",
                              (unsigned long long)count_max);
    }
    return SEAM_OK;
}

static seam_status control_check(const seam_train *train, size_t message_bytes, seam_error *err) {
    if (train->inbox_control == SEAM_INBOX_CONTROL_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT, "message: more than %d control messages wait",
                              SEAM_INBOX_CONTROL_MAX);
    }
    if (message_bytes > SEAM_INBOX_CONTROL_BYTES_MAX - train->inbox_control_bytes) {
        return seam_error_set(err, SEAM_E_LIMIT,
                              "message: more than %u bytes of control messages wait",
                              SEAM_INBOX_CONTROL_BYTES_MAX);
    }
    return SEAM_OK;
}

seam_status seam_train_arrives(seam_train *train, grpc_byte_buffer *gift_message, seam_error *err) {
    const uint8_t tag = tag_of(gift_message);
    const bool is_frame = tag == TAG(SEAM_MESSAGE_FRAME_FIELD);
    seam_status st = SEAM_OK;
    if (tag == TAG(SEAM__V1__TRAIN_REQUEST__BODY_CREDIT)) {
        st = granted(train, gift_message, err);
        grpc_byte_buffer_destroy(gift_message);
        return st;
    }
    const size_t message_bytes = grpc_byte_buffer_length(gift_message);
    st = is_frame ? frame_check(train, message_bytes, err)
                  : control_check(train, message_bytes, err);
    if (st != SEAM_OK) {
        grpc_byte_buffer_destroy(gift_message);
        return st;
    }
    return inbox_add(train, gift_message, is_frame);
}

bool seam_train_inbox_next(grpc_byte_buffer **ret_message, seam_train *train) {
    seam_train_message *const first = train->inbox;
    const seam_session *session = train->session;
    if (first == NULL) {
        return false;
    }
    const bool idle = seam_session_is_idle(session);
    const bool room = train->rx_open || seam_session_staging_free(&train->rx_staging_idx, session);
    /* While tensors are at work: only frames, of the stream that they came by. */
    if (!room || (!idle && (!first->is_frame || session->stream != train->call))) {
        return false;
    }
    *ret_message = first->bytes;
    train->inbox = first->next;
    if (first->is_frame) { /* its memory is the staging's from here on */
        train->inbox_frames--;
        seam_credit_rx_consume(&train->credit_rx,
                               seam_message_frame_bytes(grpc_byte_buffer_length(first->bytes)));
    } else {
        train->inbox_control--;
        train->inbox_control_bytes -= grpc_byte_buffer_length(first->bytes);
    }
    seam_mem_free(first);
    return true;
}

void seam_train_inbox_drop(seam_train *train) {
    while (train->inbox != NULL) {
        seam_train_message *const first = train->inbox;
        train->inbox = first->next;
        grpc_byte_buffer_destroy(first->bytes);
        seam_mem_free(first);
    }
    train->inbox_control = train->inbox_frames = 0;
    train->inbox_control_bytes = 0;
}

bool seam_train_may_send(seam_train *train, size_t message_bytes) {
    const size_t bytes = seam_message_frame_bytes(message_bytes);
    if (!seam_credit_tx_fits(&train->credit_tx, bytes)) {
        return false;
    }
    seam_credit_tx_add(&train->credit_tx, bytes);
    return true;
}
