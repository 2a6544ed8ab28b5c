/* Channels and unary calls on gRPC C core 1.51.
 *
 * Settings that this version needs, with reasons: compression is off (a small message must not
 * inflate without bound), keepalive finds a dead peer in 30 s, the bandwidth probe stays on (20 ms
 * of RTT without it cost a factor of 14), one connection a client (local subchannel pool), no
 * hidden retries (bytes are counted and steps are exactly-once above). */
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "grpc_transport.h"
#include "try.h"

#define KEEPALIVE_MS         20000
#define KEEPALIVE_TIMEOUT_MS 10000
#define RECONNECT_MS_MIN     200
#define RECONNECT_MS_MAX     1000
#define CONNECT_MS           10000 /* of one connection, handshake included */
#define CONNECT_WAIT_MS      2000
#define STOP_LOOK_MS         50 /* a unary call's stop is seen this soon */
#define PEM_BYTES_MAX        (1u << 20)

static void library_start(void);
static void log_drop(gpr_log_func_args *args);
static seam_status channel_create(seam_transport *t, const seam_transport_options *options,
                                  seam_error *err);
static seam_status credentials_create(grpc_channel_credentials **ret_credentials,
                                      const seam_transport_options *options, seam_error *err);
static seam_status file_read(char **ret_text, const char *path, seam_error *err);
static void transport_close(seam_transport *gift_transport);

static seam_status transport_open(seam_transport **ret_transport,
                                  const seam_transport_options *options, seam_error *err) {
    if (strlen(options->address) >= SEAM_AUTHORITY_BYTES) {
        return seam_error_set(err, SEAM_E_ARG, "address: longer than %d bytes",
                              SEAM_AUTHORITY_BYTES - 1);
    }
    seam_transport *const t = seam_mem_zalloc(1, sizeof *t);
    if (t == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    library_start();
    seam_status st = SEAM_OK;
    memcpy(t->address, options->address, strlen(options->address) + 1);
    t->tls = !options->plaintext;
    t->unary_timeout_ms = options->unary_timeout_ms;
    t->progress_timeout_ms = options->progress_timeout_ms;
    if (options->token != NULL) {
        const size_t count = strlen(options->token) + sizeof "Bearer ";
        t->token_header = seam_mem_alloc(count);
        if (t->token_header == NULL) {
            st = seam_error_set(err, SEAM_E_MEMORY, "out of memory");
            goto fail;
        }
        snprintf(t->token_header, count, "Bearer %s", options->token);
    }
    SEAM_TRY_GOTO(channel_create(t, options, err), st, fail);
    *ret_transport = t;
    return SEAM_OK;
fail:
    transport_close(t);
    return st;
}

static void transport_close(seam_transport *gift_transport) {
    if (gift_transport == NULL) {
        return;
    }
    if (gift_transport->channel != NULL) {
        grpc_channel_destroy(gift_transport->channel);
    }
    seam_mem_free(gift_transport->token_header);
    seam_mem_free(gift_transport);
    grpc_shutdown();
}

/* A server with TLS closes a connection whose first bytes are none of a handshake, one that asks
 * for certificates closes it without one that it knows, and of what its own TLS library refuses
 * gRPC says as little. */
static void tls_hint(const seam_transport *transport, seam_error *err) {
    const seam_error why = err != NULL ? *err : (seam_error){0};
    const bool closed =
        strstr(why.text, "Socket closed") != NULL || strstr(why.text, "onnection reset") != NULL;
    const char *hint = NULL;
    if (closed && !transport->tls) {
        hint = "this connection is without TLS: a server that has TLS closes it (seam: give --ca, "
               "leave out --insecure)";
    } else if (closed) {
        hint = "a server that asks clients for certificates closes it without one of its CA's "
               "(seam: --cert, --key)";
    } else if (strstr(why.text, "wrong version number") != NULL) {
        hint = "the server answers without TLS (seam: leave out --ca; beyond this machine "
               "--insecure)";
    } else if (transport->tls && strstr(why.text, "empty address list") != NULL) {
        hint = "TLS takes none of these files: broken PEM, or a key of another certificate (seam: "
               "--ca, --cert, --key)";
    }
    if (hint != NULL && !atomic_load(&transport->answered)) {
        (void)seam_error_set(err, why.status, "%.300s; %s", why.text, hint);
    }
}

/* Until the batch is over; a call that is cancelled ends it too. */
static void unary_await(const seam_unary_call *asked, grpc_call *call, grpc_completion_queue *queue,
                        void *tag) {
    bool (*stop)(void *) = asked->stop;
    for (;;) {
        const gpr_timespec until =
            stop != NULL ? seam_deadline_in(STOP_LOOK_MS) : gpr_inf_future(GPR_CLOCK_MONOTONIC);
        if (grpc_completion_queue_pluck(queue, tag, until, NULL).type != GRPC_QUEUE_TIMEOUT) {
            return;
        }
        if (stop != NULL && stop(asked->stop_user)) {
            grpc_call_cancel(call, NULL);
            stop = NULL;
        }
    }
}

static seam_status transport_unary(seam_transport *transport, seam_unary_call *asked,
                                   seam_buffer *ret_response, seam_error *err) {
    const char *const method = asked->method;
    if (grpc_channel_check_connectivity_state(transport->channel, 0) ==
        GRPC_CHANNEL_TRANSIENT_FAILURE) {
        seam_channel_await(transport); /* else the call fails at once, with the failure before it */
    }
    grpc_completion_queue *const queue = grpc_completion_queue_create_for_pluck(NULL);
    const gpr_timespec deadline = seam_deadline_in(transport->unary_timeout_ms);
    grpc_call *const call = seam_call_create(transport, queue, method, deadline);
    grpc_slice slice =
        grpc_slice_from_copied_buffer((const char *)asked->request, asked->request_count);
    grpc_byte_buffer *const message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_byte_buffer *answer = NULL;
    grpc_metadata_array initial;
    grpc_metadata headers[1];
    seam_call_end end;
    grpc_metadata_array_init(&initial);
    seam_call_end_init(&end);

    grpc_op ops[6];
    memset(ops, 0, sizeof ops);
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[0].data.send_initial_metadata.count = seam_call_headers(headers, transport);
    ops[0].data.send_initial_metadata.metadata = headers;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = message;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &initial;
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &answer;
    ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[5].data.recv_status_on_client.trailing_metadata = &end.trailing;
    ops[5].data.recv_status_on_client.status = &end.code;
    ops[5].data.recv_status_on_client.status_details = &end.details;
    ops[5].data.recv_status_on_client.error_string = &end.error_string;
    const grpc_call_error started = grpc_call_start_batch(call, ops, 6, &end, NULL);
    SEAM_ASSERT(started == GRPC_CALL_OK);
    unary_await(asked, call, queue, &end);

    seam_count_call(transport);
    seam_count_sent(transport, asked->request_count);
    asked->retry_after_ms = seam_call_end_retry_after_ms(&end);
    seam_status st = seam_call_end_status(&end, transport->address, method, err);
    if (st == SEAM_OK) {
        atomic_store(&transport->answered, true);
    } else if (st == SEAM_E_UNAVAILABLE) {
        tls_hint(transport, err);
    }
    if (st == SEAM_OK && answer == NULL) {
        st = seam_error_set(err, SEAM_E_FORMAT, "%s: the server sent no answer", method);
    }
    if (st == SEAM_OK) {
        seam_count_received(transport, grpc_byte_buffer_length(answer));
        st = seam_bytes_take(ret_response, answer);
    }
    if (answer != NULL) {
        grpc_byte_buffer_destroy(answer);
    }
    seam_call_end_deinit(&end);
    grpc_metadata_array_destroy(&initial);
    grpc_byte_buffer_destroy(message);
    grpc_slice_unref(slice);
    grpc_call_unref(call);
    grpc_completion_queue_shutdown(queue);
    grpc_completion_queue_destroy(queue);
    return st;
}

static seam_transport_counts transport_counts(const seam_transport *transport) {
    return (seam_transport_counts){
        .bytes_sent = atomic_load(&transport->bytes_sent),
        .bytes_received = atomic_load(&transport->bytes_received),
    };
}

const seam_transport_ops seam_transport_grpc = {
    .open = transport_open,
    .close = transport_close,
    .unary = transport_unary,
    .stream_open = seam_grpc_stream_open,
    .stream_send = seam_grpc_stream_send,
    .stream_end = seam_grpc_stream_end,
    .stream_receive = seam_grpc_stream_receive,
    .stream_retry_after_ms = seam_grpc_stream_retry_after_ms,
    .stream_cancel = seam_grpc_stream_cancel,
    .stream_close = seam_grpc_stream_close,
    .counts = transport_counts,
    .count_message = seam_count_message,
};

/* ---- Shared by unary calls and streams ---- */

size_t seam_call_headers(grpc_metadata ret_metadata[1], const seam_transport *transport) {
    memset(ret_metadata, 0, sizeof *ret_metadata);
    if (transport->token_header == NULL) {
        return 0;
    }
    ret_metadata[0].key = grpc_slice_from_static_string("authorization");
    ret_metadata[0].value = grpc_slice_from_static_string(transport->token_header);
    return 1;
}

grpc_call *seam_call_create(seam_transport *transport, grpc_completion_queue *queue,
                            const char *method, gpr_timespec deadline) {
    char path[128];
    snprintf(path, sizeof path, "/seam.v1.SeamService/%s", method);
    const grpc_slice path_slice = grpc_slice_from_copied_string(path);
    grpc_call *const call = grpc_channel_create_call(
        transport->channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue, path_slice, NULL, deadline, NULL);
    grpc_slice_unref(path_slice);
    SEAM_ASSERT(call != NULL);
    return call;
}

gpr_timespec seam_deadline_in(uint32_t ms) {
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(ms, GPR_TIMESPAN));
}

seam_status seam_bytes_take(seam_buffer *ret_bytes, grpc_byte_buffer *message) {
    grpc_byte_buffer_reader reader;
    if (!grpc_byte_buffer_reader_init(&reader, message)) {
        return SEAM_E_FORMAT;
    }
    ret_bytes->count = 0;
    seam_status st = seam_buffer_reserve(ret_bytes, grpc_byte_buffer_length(message));
    grpc_slice *slice = NULL;
    while (st == SEAM_OK && grpc_byte_buffer_reader_peek(&reader, &slice)) {
        st = seam_buffer_add(ret_bytes, GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice));
    }
    grpc_byte_buffer_reader_destroy(&reader);
    return st;
}

/* ---- Opening ---- */

/* gRPC's threads must not take the application's signals, and its log belongs to nobody here:
 * errors reach the caller as status and text.  GRPC_VERBOSITY brings the log back. */
static void library_start(void) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (getenv("GRPC_VERBOSITY") == NULL) {
        gpr_set_log_function(log_drop);
    }
    grpc_init();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void log_drop(gpr_log_func_args *args) {
    (void)args;
}

static grpc_arg int_arg(const char *key, int value) {
    grpc_arg arg = {.type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key};
    arg.value.integer = value;
    return arg;
}

static seam_status channel_create(seam_transport *t, const seam_transport_options *options,
                                  seam_error *err) {
    grpc_arg args[16];
    size_t count = 0;
    args[count++] = int_arg(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS);
    args[count++] = int_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_TIMEOUT_MS);
    args[count++] = int_arg(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    args[count++] = int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)SEAM_MESSAGE_BYTES_MAX);
    args[count++] = int_arg(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1);
    args[count++] = int_arg(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    args[count++] = int_arg(GRPC_ARG_ENABLE_RETRIES, 0);
    args[count++] = int_arg(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    args[count++] = int_arg(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, RECONNECT_MS_MIN);
    args[count++] = int_arg(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_MS);
    args[count++] = int_arg(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, RECONNECT_MS_MAX);
    if (seam_address_is_loopback(options->address)) {
        args[count++] = int_arg(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    }
    if (options->server_name != NULL) {
        args[count] = int_arg(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, 0);
        args[count].type = GRPC_ARG_STRING;
        args[count++].value.string = (char *)(uintptr_t)options->server_name;
    }
    grpc_channel_credentials *credentials = NULL;
    SEAM_TRY(credentials_create(&credentials, options, err));
    const grpc_channel_args channel_args = {.num_args = count, .args = args};
    t->channel = grpc_channel_create(t->address, credentials, &channel_args);
    grpc_channel_credentials_release(credentials);
    if (t->channel == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "address: '%s' is not host:port", t->address);
    }
    return SEAM_OK;
}

void seam_channel_await(seam_transport *transport) {
    grpc_channel *const channel = transport->channel;
    grpc_connectivity_state state = grpc_channel_check_connectivity_state(channel, 1);
    if (state == GRPC_CHANNEL_READY) {
        return;
    }
    grpc_completion_queue *const queue = grpc_completion_queue_create_for_next(NULL);
    const gpr_timespec deadline = seam_deadline_in(CONNECT_WAIT_MS);
    bool in_time = true;
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE) {
        grpc_channel_reset_connect_backoff(channel);
    }
    while (in_time && state != GRPC_CHANNEL_READY && state != GRPC_CHANNEL_SHUTDOWN) {
        grpc_channel_watch_connectivity_state(channel, state, deadline, queue, transport);
        in_time =
            grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).success !=
            0;
        state = grpc_channel_check_connectivity_state(channel, 1);
    }
    grpc_completion_queue_shutdown(queue);
    while (grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(queue);
}

static seam_status credentials_create(grpc_channel_credentials **ret_credentials,
                                      const seam_transport_options *options, seam_error *err) {
    if (options->plaintext) {
        *ret_credentials = grpc_insecure_credentials_create();
        return SEAM_OK;
    }
    char *ca = NULL, *cert = NULL, *key = NULL;
    seam_status st = SEAM_OK;
    if (options->ca_file != NULL) {
        SEAM_TRY_GOTO(file_read(&ca, options->ca_file, err), st, done);
    }
    if (options->cert_file != NULL) {
        SEAM_TRY_GOTO(file_read(&cert, options->cert_file, err), st, done);
        SEAM_TRY_GOTO(file_read(&key, options->key_file, err), st, done);
    }
    grpc_ssl_pem_key_cert_pair pair = {.private_key = key, .cert_chain = cert};
    *ret_credentials = grpc_ssl_credentials_create(ca, cert != NULL ? &pair : NULL, NULL, NULL);
    if (*ret_credentials == NULL) {
        st = seam_error_set(err, SEAM_E_ARG, "TLS: the certificate or key is not valid PEM");
    }
done:
    seam_mem_free(key);
    seam_mem_free(cert);
    seam_mem_free(ca);
    return st;
}

static seam_status file_read(char **ret_text, const char *path, seam_error *err) {
    FILE *const file = fopen(path, "rb");
    if (file == NULL) {
        return seam_error_set(err, SEAM_E_IO, "%s: cannot be opened", path);
    }
    char *const text = seam_mem_alloc(PEM_BYTES_MAX);
    const size_t count = text == NULL ? 0 : fread(text, 1, PEM_BYTES_MAX - 1, file);
    const bool whole = text != NULL && feof(file) && !ferror(file);
    fclose(file);
    if (!whole || count == 0) {
        seam_mem_free(text);
        return seam_error_set(err, SEAM_E_IO, "%s: cannot be read, or no PEM file", path);
    }
    text[count] = '\0';
    if (strstr(text, "-----BEGIN ") == NULL) {
        seam_mem_free(text);
        return seam_error_set(err, SEAM_E_FORMAT, "%s: no PEM file", path);
    }
    *ret_text = text;
    return SEAM_OK;
}
