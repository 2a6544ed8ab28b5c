/* One bidirectional stream: blocking sends and receives over a completion queue of its own.
 *
 * A receive is always posted, so that the peer can hand over one message while this side sends:
 * two ends that both wait for window would otherwise stop for ever.  Status is its own batch,
 * because a batch completes only when all its operations do.
 * Read next, at the other end: service/rpc/rpc_server.c. */
#include <grpc/byte_buffer.h>
#include <string.h>

#include "arena.h"
#include "grpc_transport.h"
#include "try.h"

struct seam_stream_call {
    seam_transport *transport;
    grpc_completion_queue *queue;
    grpc_call *call;
    char method[32];
    grpc_metadata_array initial;
    grpc_byte_buffer *message; /* of the posted receive */
    seam_call_end end;
    bool receive_posted;
    bool ended; /* `end` is filled */
    /* Addresses of these are the tags. */
    char tag_start, tag_initial, tag_send, tag_close, tag_receive;
};

static void start(seam_stream_call *call, const grpc_op *op, void *tag);
static bool wait(seam_stream_call *call, void *tag);
static void post_receive(seam_stream_call *call);
static seam_status end_status(seam_stream_call *call, seam_error *err);

seam_status seam_grpc_stream_open(seam_stream_call **ret_call, seam_transport *transport,
                                  const char *method, seam_error *err) {
    seam_stream_call *const call = seam_mem_zalloc(1, sizeof *call);
    if (call == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    seam_channel_await(transport);
    call->transport = transport;
    strncpy(call->method, method, sizeof call->method - 1);
    call->queue = grpc_completion_queue_create_for_pluck(NULL);
    call->call =
        seam_call_create(transport, call->queue, method, gpr_inf_future(GPR_CLOCK_MONOTONIC));
    grpc_metadata_array_init(&call->initial);
    seam_call_end_init(&call->end);
    seam_count_call(transport);

    grpc_metadata headers[1];
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    op.data.recv_status_on_client.trailing_metadata = &call->end.trailing;
    op.data.recv_status_on_client.status = &call->end.code;
    op.data.recv_status_on_client.status_details = &call->end.details;
    op.data.recv_status_on_client.error_string = &call->end.error_string;
    start(call, &op, &call->end);
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_SEND_INITIAL_METADATA;
    op.data.send_initial_metadata.count = seam_call_headers(headers, transport);
    op.data.send_initial_metadata.metadata = headers;
    start(call, &op, &call->tag_start);
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_RECV_INITIAL_METADATA;
    op.data.recv_initial_metadata.recv_initial_metadata = &call->initial;
    start(call, &op, &call->tag_initial);
    post_receive(call);
    if (!wait(call, &call->tag_start)) {
        const seam_status st = end_status(call, err);
        seam_grpc_stream_close(call);
        return st;
    }
    *ret_call = call;
    return SEAM_OK;
}

seam_status seam_grpc_stream_send(seam_stream_call *call, const uint8_t *head, size_t head_count,
                                  const uint8_t *body, size_t body_count, seam_error *err) {
    if (call->ended) {
        return end_status(call, err);
    }
    grpc_slice slices[2] = {
        grpc_slice_from_copied_buffer((const char *)head, head_count),
        grpc_slice_from_copied_buffer((const char *)body, body_count),
    };
    grpc_byte_buffer *const message = grpc_raw_byte_buffer_create(slices, body_count > 0 ? 2 : 1);
    grpc_slice_unref(slices[0]);
    grpc_slice_unref(slices[1]);
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_SEND_MESSAGE;
    op.data.send_message.send_message = message;
    start(call, &op, &call->tag_send);
    const grpc_event event = grpc_completion_queue_pluck(
        call->queue, &call->tag_send, seam_deadline_in(call->transport->progress_timeout_ms), NULL);
    seam_status st = SEAM_OK;
    if (event.type == GRPC_QUEUE_TIMEOUT) {
        grpc_call_cancel(call->call, NULL);
        (void)wait(call, &call->tag_send);
        st = seam_error_set(err, SEAM_E_DEADLINE, "%s: the server %s took nothing for %u ms",
                            call->method, call->transport->address,
                            call->transport->progress_timeout_ms);
    } else if (!event.success) {
        st = end_status(call, err);
    } else {
        seam_count_sent(call->transport, head_count + body_count);
    }
    grpc_byte_buffer_destroy(message);
    return st;
}

seam_status seam_grpc_stream_end(seam_stream_call *call, seam_error *err) {
    if (call->ended) {
        return end_status(call, err);
    }
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    start(call, &op, &call->tag_close);
    return wait(call, &call->tag_close) ? SEAM_OK : end_status(call, err);
}

seam_status seam_grpc_stream_receive(seam_stream_call *call, seam_buffer *ret_bytes,
                                     bool *ret_message, seam_error *err) {
    if (call->ended) {
        SEAM_TRY(end_status(call, err));
        *ret_message = false;
        return SEAM_OK;
    }
    SEAM_ASSERT(call->receive_posted);
    const grpc_event event =
        grpc_completion_queue_pluck(call->queue, &call->tag_receive,
                                    seam_deadline_in(call->transport->progress_timeout_ms), NULL);
    if (event.type == GRPC_QUEUE_TIMEOUT) {
        return seam_error_set(err, SEAM_E_DEADLINE, "%s: nothing from server %s for %u ms",
                              call->method, call->transport->address,
                              call->transport->progress_timeout_ms);
    }
    call->receive_posted = false;
    grpc_byte_buffer *const message = call->message;
    call->message = NULL;
    if (!event.success || message == NULL) {
        SEAM_TRY(end_status(call, err));
        *ret_message = false;
        return SEAM_OK;
    }
    seam_count_received(call->transport, grpc_byte_buffer_length(message));
    const seam_status st = seam_bytes_take(ret_bytes, message);
    grpc_byte_buffer_destroy(message);
    post_receive(call);
    if (st != SEAM_OK) {
        return seam_error_set(err, st, "%s: a message could not be taken: %s", call->method,
                              seam_status_text(st));
    }
    *ret_message = true;
    return SEAM_OK;
}

uint64_t seam_grpc_stream_retry_after_ms(const seam_stream_call *call) {
    return call->ended ? seam_call_end_retry_after_ms(&call->end) : 0;
}

void seam_grpc_stream_cancel(seam_stream_call *call) {
    grpc_call_cancel(call->call, NULL);
}

void seam_grpc_stream_close(seam_stream_call *gift_call) {
    if (gift_call == NULL) {
        return;
    }
    grpc_call_cancel(gift_call->call, NULL); /* no effect on a call that has ended */
    (void)wait(gift_call, &gift_call->tag_initial);
    (void)end_status(gift_call, NULL);
    seam_call_end_deinit(&gift_call->end);
    grpc_metadata_array_destroy(&gift_call->initial);
    grpc_call_unref(gift_call->call);
    grpc_completion_queue_shutdown(gift_call->queue);
    grpc_completion_queue_destroy(gift_call->queue);
    seam_mem_free(gift_call);
}

static void start(seam_stream_call *call, const grpc_op *op, void *tag) {
    const grpc_call_error started = grpc_call_start_batch(call->call, op, 1, tag, NULL);
    SEAM_ASSERT(started == GRPC_CALL_OK);
}

/* Every batch of a call completes: at the latest when the call is cancelled. */
static bool wait(seam_stream_call *call, void *tag) {
    const grpc_event event =
        grpc_completion_queue_pluck(call->queue, tag, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    return event.type == GRPC_OP_COMPLETE && event.success != 0;
}

static void post_receive(seam_stream_call *call) {
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &call->message;
    start(call, &op, &call->tag_receive);
    call->receive_posted = true;
}

/* gRPC gives the status only after every message that came before it has been taken. */
static seam_status end_status(seam_stream_call *call, seam_error *err) {
    while (call->receive_posted) {
        (void)wait(call, &call->tag_receive);
        call->receive_posted = false;
        if (call->message != NULL) {
            grpc_byte_buffer_destroy(call->message);
            call->message = NULL;
            post_receive(call);
        }
    }
    if (!call->ended) {
        (void)wait(call, &call->end);
        call->ended = true;
    }
    return seam_call_end_status(&call->end, call->transport->address, call->method, err);
}
