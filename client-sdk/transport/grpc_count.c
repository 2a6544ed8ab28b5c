/* Bytes on the wire, counted where messages enter and leave gRPC.
 *
 * gRPC does not tell what it writes, so framing is modelled from the RFCs and from what version
 * 1.51 sends; tests/e2e compares the sums with the kernel's TCP_INFO.  Per message: 5 bytes of
 * gRPC prefix and 9 of HTTP/2 frame header for each 16 KiB (RFC 9113, section 4.1); TLS 1.3 adds
 * 22 bytes a record (RFC 8446, section 5.2).  The receiver of data answers with flow control and
 * the bandwidth probe. */
#include "grpc_transport.h"

#define FRAME_BYTES_MAX    16384u
#define FRAME_HEADER_BYTES 9u
#define GRPC_PREFIX_BYTES  5u
#define TLS_RECORD_BYTES   22u
/* What a message of ours brings back: the peer's probe, or updates of two windows, measured mean.
 */
#define ANSWER_BYTES 17u
/* Preface, SETTINGS and their acknowledgement; TLS handshake with one certificate each way. */
#define CONNECT_SENT_BYTES     150u
#define CONNECT_RECEIVED_BYTES 110u
#define TLS_HANDSHAKE_BYTES    2500u
/* HEADERS of a call after compression by HPACK; headers and trailers of its answer. */
#define CALL_SENT_BYTES     180u
#define CALL_RECEIVED_BYTES 150u

void seam_count_call(seam_transport *transport) {
    size_t sent = CALL_SENT_BYTES;
    size_t received = CALL_RECEIVED_BYTES;
    if (!atomic_exchange(&transport->connected, true)) {
        const size_t handshake = transport->tls ? TLS_HANDSHAKE_BYTES : 0;
        sent += CONNECT_SENT_BYTES + handshake;
        received += CONNECT_RECEIVED_BYTES + handshake;
    }
    atomic_fetch_add(&transport->bytes_sent, sent);
    atomic_fetch_add(&transport->bytes_received, received);
}

void seam_count_sent(seam_transport *transport, size_t message_bytes) {
    seam_transport_counts counts = {0};
    seam_count_message(&counts, transport->tls, message_bytes);
    atomic_fetch_add(&transport->bytes_sent, counts.bytes_sent);
    atomic_fetch_add(&transport->bytes_received, counts.bytes_received);
}

void seam_count_received(seam_transport *transport, size_t message_bytes) {
    seam_transport_counts counts = {0}; /* of the peer */
    seam_count_message(&counts, transport->tls, message_bytes);
    atomic_fetch_add(&transport->bytes_received, counts.bytes_sent);
    atomic_fetch_add(&transport->bytes_sent, counts.bytes_received);
}

void seam_count_message(seam_transport_counts *counts, bool tls, size_t message_bytes) {
    const size_t prefixed = message_bytes + GRPC_PREFIX_BYTES;
    const size_t frames = (prefixed + FRAME_BYTES_MAX - 1) / FRAME_BYTES_MAX;
    const size_t framed = prefixed + frames * FRAME_HEADER_BYTES;
    const size_t records = (framed + FRAME_BYTES_MAX - 1) / FRAME_BYTES_MAX;
    counts->bytes_sent += framed + (tls ? records * TLS_RECORD_BYTES : 0);
    counts->bytes_received += ANSWER_BYTES;
}
