/* Batches of one call.  Rules kept here are listed in rpc_call.h; `refs` counts what still holds
 * the call: each batch in flight, a running job, and the server's list until receive-close.
 * Read next: rpc_train.c, the method of the Train stream. */
#include "rpc_call.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <string.h>

#include "arena.h"
#include "rpc_details.h"
#include "rpc_server.h"
#include "try.h"

static void pump(seam_call *call);
static void closed(seam_call *call) SEAM_ON_LOOP;

seam_call *seam_call_create(seam_server *server) {
    seam_call *call = seam_mem_zalloc(1, sizeof *call);
    if (call == NULL) {
        return NULL;
    }
    call->server = server;
    call->refs = 1;
    for (int kind = 0; kind < SEAM_TAG_KINDS; kind++) {
        call->tags[kind] = (seam_tag){.call = call, .kind = (seam_tag_kind)kind};
    }
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    call->status_text = grpc_empty_slice();
    call->status_details = grpc_empty_slice();
    return call;
}

void seam_call_unref(seam_call *call) {
    SEAM_ASSERT(call->refs > 0);
    if (--call->refs > 0) {
        return;
    }
    SEAM_ASSERT(call->outbox_count == 0);
    grpc_call_details_destroy(&call->details);
    grpc_metadata_array_destroy(&call->metadata);
    grpc_slice_unref(call->status_text);
    grpc_slice_unref(call->status_details);
    if (call->call != NULL) {
        grpc_call_unref(call->call);
    }
    seam_mem_free(call);
}

/* Start a batch under one of the call's tags; it cannot fail unless our own state is wrong. */
static void batch_start(seam_call *call, seam_tag_kind kind, const grpc_op *ops, size_t count) {
    const grpc_call_error error =
        grpc_call_start_batch(call->call, ops, count, &call->tags[kind], NULL);
    SEAM_ASSERT(error == GRPC_CALL_OK);
    call->refs++;
}

void seam_call_begin(seam_call *call, const seam_method *method) {
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op.data.recv_close_on_server.cancelled = &call->cancelled;
    call->method = method;
    batch_start(call, SEAM_TAG_CLOSE, &op, 1);
}

void seam_call_receive(seam_call *call) {
    if (call->closed || call->finishing) {
        return;
    }
    SEAM_ASSERT(!call->receiving);
    grpc_op op;
    memset(&op, 0, sizeof op);
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &call->received;
    call->receiving = true;
    batch_start(call, SEAM_TAG_RECEIVE, &op, 1);
}

void seam_call_keep(seam_call *call, const grpc_byte_buffer *message) {
    call->kept = message;
}

/* The method has seen the message (NULL is fine). */
static void message_end(seam_call *call, grpc_byte_buffer *message) {
    if (call->held != message && call->kept != message) {
        grpc_byte_buffer_destroy(message);
    }
    call->kept = NULL;
}

void seam_call_event(seam_call *call, seam_tag_kind kind, bool ok) {
    grpc_byte_buffer *message = NULL;
    switch (kind) {
    case SEAM_TAG_RECEIVE:
        call->receiving = false;
        message = call->received;
        call->received = NULL;
        call->started = true;
        if (ok && !call->closed && !call->finishing) {
            if (message != NULL) {
                call->method->on_message(call, message);
            } else if (call->method->on_half_close != NULL) {
                call->method->on_half_close(call);
            }
        }
        message_end(call, message);
        break;
    case SEAM_TAG_SEND:
        call->sending = false;
        grpc_byte_buffer_destroy(call->sent);
        call->sent = NULL;
        pump(call);
        if (!call->closed && !call->finishing && call->method->on_sent != NULL) {
            call->method->on_sent(call);
        }
        break;
    case SEAM_TAG_JOB:
        call->job_running = false;
        seam_job_take(&call->job);
        if (seam_status_is_process_dead(call->job.status)) {
            seam_server_lose(call->server, call->job.status);
        }
        if (call->waking != NULL) {
            seam_call_woken(call);
        } else {
            call->method->on_job(call);
        }
        break;
    case SEAM_TAG_CLOSE:
        closed(call);
        break;
    case SEAM_TAG_ACCEPT:
    case SEAM_TAG_KINDS:
        SEAM_ASSERT(kind == SEAM_TAG_RECEIVE); /* the server's own tags never come here */
    }
    seam_call_unref(call);
}

/* Receive-close: nothing more can be sent; the method lets go, then the server's list does. */
static void closed(seam_call *call) {
    call->closed = true;
    while (call->outbox_count > 0) {
        grpc_byte_buffer_destroy(call->outbox[call->outbox_begin]);
        call->outbox_begin = (call->outbox_begin + 1) % SEAM_CALL_OUTBOX_MAX;
        call->outbox_count--;
    }
    grpc_byte_buffer_destroy(call->held);
    call->held = NULL;
    call->awaited = NULL;
    if (call->method->on_close != NULL) {
        call->method->on_close(call);
    }
    seam_server_forget(call->server, call);
}

/* ---- sending ---- */

/* Start the next send batch if there is something to send: one message, and the status with the
 * last one, so that a unary answer is a single batch. */
static void pump(seam_call *call) {
    if (call->sending || call->closed || call->status_sent ||
        (call->outbox_count == 0 && !call->finishing)) {
        return;
    }
    grpc_op ops[3];
    grpc_metadata details;
    size_t count = 0;
    memset(ops, 0, sizeof ops);
    memset(&details, 0, sizeof details);
    if (!call->initial_sent) {
        ops[count++].op = GRPC_OP_SEND_INITIAL_METADATA;
        call->initial_sent = true;
    }
    if (call->outbox_count > 0) {
        call->sent = call->outbox[call->outbox_begin];
        call->outbox_begin = (call->outbox_begin + 1) % SEAM_CALL_OUTBOX_MAX;
        call->outbox_count--;
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = call->sent;
    }
    if (call->outbox_count == 0 && call->finishing) {
        grpc_op *op = &ops[count++];
        op->op = GRPC_OP_SEND_STATUS_FROM_SERVER;
        op->data.send_status_from_server.status = call->code;
        op->data.send_status_from_server.status_details = &call->status_text;
        if (GRPC_SLICE_LENGTH(call->status_details) > 0) {
            details.key = grpc_slice_from_static_string("grpc-status-details-bin");
            details.value = call->status_details;
            op->data.send_status_from_server.trailing_metadata = &details;
            op->data.send_status_from_server.trailing_metadata_count = 1;
        }
        call->status_sent = true;
    }
    call->sending = true;
    batch_start(call, SEAM_TAG_SEND, ops, count);
}

/* Takes the slice. */
static bool slice_send(seam_call *call, grpc_slice gift_slice) {
    const bool room = call->outbox_count < SEAM_CALL_OUTBOX_MAX;
    if (room && !call->closed && !call->finishing) {
        const uint32_t end = (call->outbox_begin + call->outbox_count) % SEAM_CALL_OUTBOX_MAX;
        call->outbox[end] = grpc_raw_byte_buffer_create(&gift_slice, 1);
        call->outbox_count++;
        pump(call);
    }
    grpc_slice_unref(gift_slice);
    return room;
}

bool seam_call_send(seam_call *call, const uint8_t *bytes, size_t count) {
    return seam_call_send_parts(call, bytes, count, NULL, 0);
}

bool seam_call_send_parts(seam_call *call, const uint8_t *head, size_t head_bytes,
                          const uint8_t *body, size_t body_bytes) {
    if (call->outbox_count == SEAM_CALL_OUTBOX_MAX) {
        return false;
    }
    grpc_slice slice = grpc_slice_malloc(head_bytes + body_bytes);
    if (head_bytes > 0) {
        memcpy(GRPC_SLICE_START_PTR(slice), head, head_bytes);
    }
    if (body_bytes > 0) {
        memcpy(GRPC_SLICE_START_PTR(slice) + head_bytes, body, body_bytes);
    }
    return slice_send(call, slice);
}

bool seam_call_send_message(seam_call *call, const ProtobufCMessage *message) {
    if (call->outbox_count == SEAM_CALL_OUTBOX_MAX) {
        return false;
    }
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
    (void)protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    return slice_send(call, slice);
}

bool seam_call_is_sent(const seam_call *call) {
    return !call->sending && call->outbox_count == 0;
}

void seam_call_finish(seam_call *call) {
    if (!call->finishing) {
        call->finishing = true;
        call->code = GRPC_STATUS_OK;
        pump(call);
    }
}

void seam_call_fail(seam_call *call, seam_status st, const seam_error *err) {
    if (call->finishing) {
        return;
    }
    char text[SEAM_ERROR_TEXT_BYTES];
    uint8_t details[SEAM_DETAILS_BYTES_MAX];
    seam_details_text(text, sizeof text, st, err);
    const size_t count = seam_details_encode(details, st, text);
    call->finishing = true;
    call->code = (grpc_status_code)seam_status_grpc_code(st);
    call->status_text = grpc_slice_from_copied_string(text);
    call->status_details = grpc_slice_from_copied_buffer((const char *)details, count);
    seam_server_count_error(call->server, call, st, text);
    pump(call);
}

void seam_call_reply(seam_call *call, const ProtobufCMessage *message) {
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));
    (void)protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    if (call->finishing || call->closed) {
        grpc_slice_unref(slice);
        return;
    }
    SEAM_ASSERT(call->outbox_count == 0);
    call->outbox[call->outbox_begin] = grpc_raw_byte_buffer_create(&slice, 1);
    call->outbox_count = 1;
    grpc_slice_unref(slice);
    seam_call_finish(call); /* one batch: initial metadata, message, status */
}

/* ---- receiving ---- */

seam_status seam_message_copy(size_t *ret_count, uint8_t *ret, size_t capacity_bytes,
                              grpc_byte_buffer *message) {
    const size_t count = grpc_byte_buffer_length(message);
    if (count > capacity_bytes) {
        return SEAM_E_LIMIT;
    }
    grpc_byte_buffer_reader reader;
    if (grpc_byte_buffer_reader_init(&reader, message) == 0) {
        return SEAM_E_FORMAT;
    }
    size_t used = 0;
    grpc_slice *slice = NULL;
    while (grpc_byte_buffer_reader_peek(&reader, &slice) != 0) {
        SEAM_ASSERT(GRPC_SLICE_LENGTH(*slice) <= count - used);
        memcpy(ret + used, GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice));
        used += GRPC_SLICE_LENGTH(*slice);
    }
    grpc_byte_buffer_reader_destroy(&reader);
    *ret_count = used;
    return SEAM_OK;
}

ProtobufCMessage *seam_message_unpack(const ProtobufCMessageDescriptor *descriptor,
                                      grpc_byte_buffer *message) {
    const size_t capacity_bytes = grpc_byte_buffer_length(message);
    uint8_t *bytes = seam_mem_alloc(capacity_bytes);
    size_t count = 0;
    ProtobufCMessage *ret = NULL;
    if (bytes != NULL && seam_message_copy(&count, bytes, capacity_bytes, message) == SEAM_OK) {
        ret = protobuf_c_message_unpack(descriptor, NULL, count, bytes);
    }
    seam_mem_free(bytes);
    return ret;
}

/* ---- waiting for a busy session ---- */

void seam_call_hold(seam_call *call, grpc_byte_buffer *message, const void *session) {
    SEAM_ASSERT(call->held == NULL);
    call->held = message;
    seam_call_await(call, session);
}

void seam_call_await(seam_call *call, const void *session) {
    call->awaited = session;
    call->turn = seam_server_turn_next(call->server);
}

void seam_call_await_any(seam_call *call, const void *session) {
    seam_call_await(call, session);
    call->awaits_any = true;
}

void seam_call_resume(seam_call *call) {
    grpc_byte_buffer *message = call->held;
    const uint64_t turn = call->turn;
    call->awaited = NULL;
    call->awaits_any = false;
    call->held = NULL;
    if (call->closed || call->finishing) {
        grpc_byte_buffer_destroy(message);
    } else if (message == NULL) {
        call->method->on_idle(call);
    } else {
        call->method->on_message(call, message);
        message_end(call, message); /* unless it waits again, for a parked session */
    }
    call->turn = turn;
}

/* ---- jobs ---- */

/* Engine thread: an empty batch puts the tag on the completion queue, which wakes a loop thread. */
SEAM_ON_GPU static void job_finished(seam_job *job) {
    seam_call *owner = job->user2;
    grpc_call *call = owner->call;
    seam_tag *tag = &owner->tags[SEAM_TAG_JOB];
    seam_job_publish(job); /* `owner` is the loop's from here on, and lives until the tag comes */
    const grpc_call_error error = grpc_call_start_batch(call, NULL, 0, tag, NULL);
    SEAM_ASSERT(error == GRPC_CALL_OK);
}

seam_status seam_call_post(seam_call *call) {
    SEAM_ASSERT(!call->job_running);
    call->job.finished = job_finished;
    call->job.user2 = call;
    const seam_status st = seam_engine_post(seam_server_engine(call->server), &call->job);
    if (st != SEAM_OK) {
        seam_error err = {0};
        (void)seam_error_set(&err, st, "the server's job queue is full");
        seam_call_fail(call, st, &err);
        return st;
    }
    call->job_running = true;
    call->refs++;
    return SEAM_OK;
}
