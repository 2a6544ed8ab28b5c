/* Internal to transport/: what its files share.  grpc_channel.c opens channels and makes unary
 * calls, grpc_stream.c streams, grpc_status.c turns ends of calls into errors, grpc_count.c
 * counts bytes.  No other folder of the client includes a gRPC header. */
#ifndef SEAM_GRPC_TRANSPORT_H
#define SEAM_GRPC_TRANSPORT_H

#include <grpc/grpc.h>
#include <stdatomic.h>

#include "transport.h"

#define SEAM_AUTHORITY_BYTES 256

struct seam_transport {
    grpc_channel *channel;
    char address[SEAM_AUTHORITY_BYTES];
    char *token_header; /* "Bearer ..." or NULL */
    bool tls;
    uint32_t unary_timeout_ms, progress_timeout_ms;
    _Atomic uint64_t bytes_sent, bytes_received;
    _Atomic bool connected; /* the connection's own bytes have been counted */
    _Atomic bool answered;  /* a call has had its answer */
};

/* What a finished call left behind; init with grpc_metadata_array_init, deinit frees. */
typedef struct seam_call_end {
    grpc_metadata_array trailing;
    grpc_status_code code;
    grpc_slice details;
    const char *error_string;
} seam_call_end;

void seam_call_end_init(seam_call_end *end);
void seam_call_end_deinit(seam_call_end *end);
/* SEAM_OK, or the error that the server or the network gave, with text. */
seam_status seam_call_end_status(const seam_call_end *end, const char *address, const char *method,
                                 seam_error *err);
/* What its RetryInfo asks for; 0: nothing. */
uint64_t seam_call_end_retry_after_ms(const seam_call_end *end);

/* ErrorInfo.reason and message of google.rpc.Status bytes.  Tolerates any input. */
typedef struct seam_status_details {
    char reason[64];         /* empty: none */
    char message[400];       /* empty: none */
    char field[64];          /* BadRequest's first violation; empty: none */
    uint64_t retry_after_ms; /* RetryInfo; 0: none */
} seam_status_details;
void seam_status_details_read(seam_status_details *ret_details, const uint8_t *bytes, size_t count);

/* "/seam.v1.SeamService/<method>" with the token, as the ops of a call want it.  seam_call_headers
 * returns 0 or 1 metadata. */
size_t seam_call_headers(grpc_metadata ret_metadata[1], const seam_transport *transport);
grpc_call *seam_call_create(seam_transport *transport, grpc_completion_queue *queue,
                            const char *method, gpr_timespec deadline);
gpr_timespec seam_deadline_in(uint32_t ms);
/* Wait a short while for a connection.  gRPC's channel moves only while somebody waits in it, and a
 * call on a channel whose last attempt failed fails at once: without this a client would sleep
 * between attempts of which none is ever finished.  A connection that fails is for the call to
 * tell. */
void seam_channel_await(seam_transport *transport);
/* Copy a received byte buffer; SEAM_E_MEMORY, SEAM_E_FORMAT. */
seam_status seam_bytes_take(seam_buffer *ret_bytes, grpc_byte_buffer *message);

void seam_count_call(seam_transport *transport);
void seam_count_sent(seam_transport *transport, size_t message_bytes);
void seam_count_received(seam_transport *transport, size_t message_bytes);
void seam_count_message(seam_transport_counts *counts, bool tls, size_t message_bytes);

/* Streams: grpc_stream.c. */
seam_status seam_grpc_stream_open(seam_stream_call **ret_call, seam_transport *transport,
                                  const char *method, seam_error *err);
seam_status seam_grpc_stream_send(seam_stream_call *call, const uint8_t *head, size_t head_count,
                                  const uint8_t *body, size_t body_count, seam_error *err);
uint64_t seam_grpc_stream_retry_after_ms(const seam_stream_call *call);
seam_status seam_grpc_stream_end(seam_stream_call *call, seam_error *err);
seam_status seam_grpc_stream_receive(seam_stream_call *call, seam_buffer *ret_bytes,
                                     bool *ret_message, seam_error *err);
void seam_grpc_stream_cancel(seam_stream_call *call);
void seam_grpc_stream_close(seam_stream_call *gift_call);

#endif
