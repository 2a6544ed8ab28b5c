/* What the session core asks of a network: unary calls and message streams, blocking, with bytes
 * counted.  The one implementation today is transport/grpc_*.c; a lighter one can take its place
 * without a change above this line.
 *
 * Messages are opaque bytes here.  A transport is used by any number of threads; a stream by one
 * thread, except seam_transport_ops.stream_cancel, which any thread may call. */
#ifndef SEAM_TRANSPORT_H
#define SEAM_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

/* Larger than any message of the protocol: a 1 MiB chunk with its header and envelope. */
#define SEAM_MESSAGE_BYTES_MAX (2u << 20)

typedef struct seam_transport seam_transport;
typedef struct seam_stream_call seam_stream_call;

typedef struct seam_transport_options {
    const char *address; /* host:port */
    bool plaintext;
    const char *ca_file, *cert_file, *key_file; /* PEM; NULL: system roots, no certificate */
    const char *server_name;                    /* expected in the certificate; NULL: the host */
    const char *token;                          /* bearer token, NULL: none */
    uint32_t unary_timeout_ms;
    uint32_t progress_timeout_ms; /* a stream that brings nothing for this long has failed */
} seam_transport_options;

/* Bytes that grow: a received message.  Zeroed at first; freed by seam_buffer_deinit. */
typedef struct seam_buffer {
    uint8_t *data;
    size_t count, capacity_bytes;
} seam_buffer;

seam_status seam_buffer_reserve(seam_buffer *buffer, size_t capacity_bytes);
/* Appends, growing as needed. SEAM_E_MEMORY. */
seam_status seam_buffer_add(seam_buffer *buffer, const void *bytes, size_t count);
void seam_buffer_deinit(seam_buffer *buffer);

typedef struct seam_unary_call {
    const char *method; /* "GetServerInfo" */
    const uint8_t *request;
    size_t request_count;
    uint64_t retry_after_ms; /* written: how long the server wants to be left alone (RetryInfo) */
    /* Or NULL.  Asked by the caller's thread while it waits: true ends it, SEAM_E_CANCELLED. */
    bool (*stop)(void *user);
    void *stop_user;
} seam_unary_call;

/* Bytes on the wire, as TCP would count them: messages, their gRPC and HTTP/2 framing, headers,
 * acknowledgements of flow control, TLS records. */
typedef struct seam_transport_counts {
    uint64_t bytes_sent, bytes_received;
} seam_transport_counts;

/* Errors of all calls: what the server said (SEAM_E_* by its ErrorInfo, else by its gRPC code),
 * SEAM_E_UNAVAILABLE when the peer cannot be reached or has gone, SEAM_E_DEADLINE,
 * SEAM_E_CANCELLED, SEAM_E_LIMIT, SEAM_E_MEMORY; always with text. */
typedef struct seam_transport_ops {
    /* Does not connect yet.  SEAM_E_ARG, SEAM_E_IO (a PEM file). */
    seam_status (*open)(seam_transport **ret_transport, const seam_transport_options *options,
                        seam_error *err);
    void (*close)(seam_transport *gift_transport);
    /* One request, one response.  After a connection that failed, a short wait for another comes
     * first.  Beside an error call->retry_after_ms is what the server asks for. */
    seam_status (*unary)(seam_transport *transport, seam_unary_call *call,
                         seam_buffer *ret_response, seam_error *err);
    seam_status (*stream_open)(seam_stream_call **ret_call, seam_transport *transport,
                               const char *method, seam_error *err);
    /* The parts are one message; they are copied before the call returns. */
    seam_status (*stream_send)(seam_stream_call *call, const uint8_t *head, size_t head_count,
                               const uint8_t *body, size_t body_count, seam_error *err);
    /* No more messages from this side. */
    seam_status (*stream_end)(seam_stream_call *call, seam_error *err);
    /* *ret_message false: the server ended the stream with OK. */
    seam_status (*stream_receive)(seam_stream_call *call, seam_buffer *ret_bytes, bool *ret_message,
                                  seam_error *err);
    /* After an error of the stream: how long the server wants to be left alone (RetryInfo); 0: it
     * did not say. */
    uint64_t (*stream_retry_after_ms)(const seam_stream_call *call);
    void (*stream_cancel)(seam_stream_call *call);
    void (*stream_close)(seam_stream_call *gift_call);
    seam_transport_counts (*counts)(const seam_transport *transport);
    /* For plans: adds what one message of a stream costs the end that sends it. */
    void (*count_message)(seam_transport_counts *counts, bool tls, size_t message_bytes);
} seam_transport_ops;

extern const seam_transport_ops seam_transport_grpc;

/* True for localhost, 127.0.0.0/8, ::1 and unix sockets: where plaintext needs no forcing. */
bool seam_address_is_loopback(const char *address);

#endif
