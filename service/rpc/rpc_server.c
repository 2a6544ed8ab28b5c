/* Accept, dispatch, timers and the orderly end.
 *
 * Known faults of gRPC 1.51.1 that are handled here: message compression is off (a 1 MB gzip bomb
 * inflates to 1 GB before the size check), every path is accepted by one generic request (an
 * unknown method hangs otherwise), a short handshake timeout (silent connections), SO_REUSEPORT is
 * off (two servers would share a port silently), keepalive on both sides' terms.
 * Read next: rpc_methods.c (which function a path has), rpc_call.c (how its messages reach it). */
#include "rpc_server.h"

#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "arena.h"
#include "host.h"
#include "log.h"
#include "rpc_methods.h"
#include "session_delete.h"
#include "try.h"

#define LOOP_THREADS       2
#define TICK_MS            200
#define CANCEL_AFTER_MS    1000 /* from the last status sent to a forced end */
#define METADATA_BYTES_MAX 8192

struct seam_server {
    seam_server_options options;
    grpc_server *server;
    grpc_completion_queue *cq;
    pthread_t threads[LOOP_THREADS];
    uint32_t thread_count;
    char address[300];
    seam_tag shutdown_tag; /* its call is NULL */
    pthread_mutex_t mu;    /* the loop role */
    /* guarded by mu: */
    seam_call *calls;
    uint32_t call_count;
    bool accepting, draining, shutdown_done;
    bool drained; /* sessions end by seam_server_park from here on: no tick */
    seam_status lost;
    uint64_t tick_due_ms;
    uint64_t turn_last; /* of calls that wait for a session */
};

/* The loop role is this mutex. */
SEAM_ROLE_BEGINS(seam_loop_role) static void loop_lock(seam_server *server) {
    (void)pthread_mutex_lock(&server->mu);
}
SEAM_ROLE_ENDS(seam_loop_role) static void loop_unlock(seam_server *server) {
    (void)pthread_mutex_unlock(&server->mu);
}

static void *loop_main(void *user);
static void accept_arm(seam_server *server) SEAM_ON_LOOP;
static seam_status listen_start(seam_server *server, seam_error *err);

/* gRPC's own log: its errors are ours to show, the rest is noise. */
static void grpc_log(gpr_log_func_args *args) {
    char text[256];
    if (args->severity == GPR_LOG_SEVERITY_ERROR) {
        seam_log(SEAM_LOG_WARN, "grpc", "text=\"%s\"",
                 seam_log_text(text, sizeof text, args->message));
    }
}

seam_status seam_server_create(seam_server **ret_server, const seam_server_options *options,
                               seam_error *err) {
    seam_server *server = seam_mem_zalloc(1, sizeof *server);
    if (server == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "server: out of memory");
    }
    server->options = *options;
    (void)pthread_mutex_init(&server->mu, NULL);
    gpr_set_log_function(grpc_log);
    grpc_init();
    server->cq = grpc_completion_queue_create_for_next(NULL);
    seam_status st = listen_start(server, err);
    if (st == SEAM_OK) {
        loop_lock(server);
        accept_arm(server);
        loop_unlock(server);
        while (server->thread_count < LOOP_THREADS && st == SEAM_OK) {
            if (pthread_create(&server->threads[server->thread_count], NULL, loop_main, server) ==
                0) {
                server->thread_count++;
            } else {
                st = seam_error_set(err, SEAM_E_INTERNAL, "server: cannot start a thread");
            }
        }
    }
    if (st != SEAM_OK) {
        if (server->thread_count > 0) {
            seam_server_drain(server);
        }
        seam_server_destroy(server);
        return st;
    }
    *ret_server = server;
    return SEAM_OK;
}

static grpc_arg int_arg(const char *key, int value) {
    grpc_arg arg;
    memset(&arg, 0, sizeof arg);
    arg.type = GRPC_ARG_INTEGER;
    arg.key = (char *)(uintptr_t)key; /* gRPC does not write to it */
    arg.value.integer = value;
    return arg;
}

static seam_status listen_start(seam_server *server, seam_error *err) {
    const seam_server_config *config = server->options.config;
    grpc_arg args[] = {
        int_arg(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1), /* identity only */
        int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)SEAM_MESSAGE_BYTES_MAX),
        int_arg(GRPC_ARG_MAX_METADATA_SIZE, METADATA_BYTES_MAX),
        int_arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, (int)config->streams_max),
        int_arg(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, (int)config->handshake_timeout_ms),
        int_arg(GRPC_ARG_ALLOW_REUSEPORT, 0),
        int_arg(GRPC_ARG_ENABLE_CHANNELZ, 0),
        int_arg(GRPC_ARG_KEEPALIVE_TIME_MS, 20000),
        int_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000),
        int_arg(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        int_arg(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        int_arg(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000),
    };
    const grpc_channel_args channel_args = {.num_args = sizeof args / sizeof args[0], .args = args};
    grpc_server_credentials *credentials = seam_tls_credentials(config, err);
    if (credentials == NULL) {
        return SEAM_E_IO;
    }
    server->server = grpc_server_create(&channel_args, NULL);
    grpc_server_register_completion_queue(server->server, server->cq, NULL);
    const int port = grpc_server_add_http2_port(server->server, config->listen, credentials);
    grpc_server_credentials_release(credentials);
    if (port == 0) {
        return seam_error_set(err, SEAM_E_UNAVAILABLE, "listen: cannot bind %s", config->listen);
    }
    const int host_bytes = (int)(strrchr(config->listen, ':') - config->listen);
    (void)snprintf(server->address, sizeof server->address, "%.*s:%d", host_bytes, config->listen,
                   port);
    grpc_server_start(server->server);
    return SEAM_OK;
}

const char *seam_server_address(const seam_server *server) {
    return server->address;
}

/* ---- loop ---- */

/* A call that never brings its first message holds a place for nothing. */
SEAM_ON_LOOP static void call_expire(seam_call *call, void *user) {
    const uint64_t now_ms = *(const uint64_t *)user;
    const uint64_t limit_ms = call->server->options.config->handshake_timeout_ms;
    if (!call->started && !call->finishing && !call->closed && now_ms - call->begun_ms > limit_ms) {
        seam_error err = {0};
        (void)seam_error_set(&err, SEAM_E_DEADLINE, "no message within %llu ms",
                             (unsigned long long)limit_ms);
        seam_call_fail(call, SEAM_E_DEADLINE, &err);
    }
}

SEAM_ON_LOOP static void session_idle(void *user, seam_session *session) {
    seam_train_session_idle(user, session);
}

SEAM_ON_LOOP static void deletion_ended(void *user, const seam_deletion *deletion) {
    seam_delete_ended(user, deletion);
}

SEAM_ON_LOOP static void tick(seam_server *server) {
    uint64_t now_ms = seam_host_now_ms();
    if (now_ms < server->tick_due_ms || server->drained) {
        return;
    }
    server->tick_due_ms = now_ms + TICK_MS;
    if (!server->accepting && !server->draining) {
        accept_arm(server); /* memory was short */
    }
    seam_sessions_tick(server->options.sessions, now_ms, session_idle, server);
    seam_deletions_tick(seam_sessions_deletions(server->options.sessions), now_ms, deletion_ended,
                        server);
    seam_server_each_call(server, call_expire, &now_ms);
}

static void accept_arm(seam_server *server) {
    seam_call *call = seam_call_create(server);
    server->accepting = call != NULL;
    if (call == NULL) {
        return;
    }
    const grpc_call_error error =
        grpc_server_request_call(server->server, &call->call, &call->details, &call->metadata,
                                 server->cq, server->cq, &call->tags[SEAM_TAG_ACCEPT]);
    SEAM_ASSERT(error == GRPC_CALL_OK);
}

/* The bearer key, the limit on calls and draining, before any byte of the request is read. */
static seam_status admit(const seam_server *server, const seam_call *call, seam_error *err) {
    const void *value = NULL;
    size_t count = 0;
    for (size_t i = 0; i < call->metadata.count; i++) {
        const grpc_metadata *entry = &call->metadata.metadata[i];
        if (grpc_slice_str_cmp(entry->key, "authorization") == 0) {
            value = GRPC_SLICE_START_PTR(entry->value);
            count = GRPC_SLICE_LENGTH(entry->value);
        }
    }
    if (!call->method->open) {
        SEAM_TRY(seam_auth_check(server->options.auth, value, count, err));
        if (server->draining) {
            return seam_error_set(err, SEAM_E_UNAVAILABLE, "the server is stopping");
        }
    }
    if (server->call_count > server->options.config->streams_max) {
        return seam_error_set(err, SEAM_E_LIMIT, "too many calls at once (streams-max)");
    }
    return SEAM_OK;
}

static void unknown_message(seam_call *call, grpc_byte_buffer *message) {
    (void)call;
    (void)message;
}

SEAM_ON_LOOP static void accepted(seam_server *server, seam_call *call, bool ok) {
    static const seam_method unknown = {
        .path = "unknown", .open = true, .on_message = unknown_message};
    if (!ok) { /* the server shuts down */
        seam_call_unref(call);
        return;
    }
    accept_arm(server); /* first: the next caller waits for it */
    call->next = server->calls;
    if (call->next != NULL) {
        call->next->prev = call;
    }
    server->calls = call;
    server->call_count++;
    call->begun_ms = seam_host_now_ms();
    const char *path = (const char *)GRPC_SLICE_START_PTR(call->details.method);
    const size_t path_bytes = GRPC_SLICE_LENGTH(call->details.method);
    const seam_method *method = seam_method_find(path, path_bytes);
    seam_error err = {0};
    seam_call_begin(call, method != NULL ? method : &unknown);
    seam_status st = admit(server, call, &err);
    if (st == SEAM_OK && method == NULL) {
        char text[128];
        char name[128];
        (void)snprintf(name, sizeof name, "%.*s", (int)(path_bytes < 100 ? path_bytes : 100), path);
        st = seam_error_set(&err, SEAM_E_UNIMPLEMENTED, "method \"%s\" does not exist",
                            seam_log_text(text, sizeof text, name));
    }
    if (st != SEAM_OK) {
        seam_call_fail(call, st, &err);
        return;
    }
    seam_call_receive(call);
}

static void *loop_main(void *user) {
    seam_server *server = user;
    for (;;) {
        const gpr_timespec deadline =
            gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(TICK_MS, GPR_TIMESPAN));
        const grpc_event event = grpc_completion_queue_next(server->cq, deadline, NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            return NULL;
        }
        loop_lock(server);
        tick(server);
        if (event.type == GRPC_OP_COMPLETE) {
            const seam_tag *tag = event.tag;
            if (tag->call == NULL) {
                server->shutdown_done = true;
            } else if (tag->kind == SEAM_TAG_ACCEPT) {
                accepted(server, tag->call, event.success != 0);
            } else {
                seam_call_event(tag->call, tag->kind, event.success != 0);
            }
        }
        loop_unlock(server);
    }
}

/* ---- end ---- */

static void sleep_ms(long ms) {
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

/* Wait until `done` holds (checked under the mutex) or the time is over. */
static bool wait_until(seam_server *server, bool (*done)(const seam_server *server),
                       uint64_t timeout_ms) {
    const uint64_t end_ms = seam_host_now_ms() + timeout_ms;
    for (;;) {
        loop_lock(server);
        const bool is_done = done(server);
        loop_unlock(server);
        if (is_done || seam_host_now_ms() >= end_ms) {
            return is_done;
        }
        sleep_ms(10);
    }
}

/* Calls that are not merely open: everything but health. */
static bool is_idle(const seam_server *server) {
    for (const seam_call *call = server->calls; call != NULL; call = call->next) {
        if (!call->method->open || call->job_running) {
            return false;
        }
    }
    return true;
}

static bool is_shut_down(const seam_server *server) {
    return server->shutdown_done;
}

static void call_drain(seam_call *call, void *user) {
    (void)user;
    if (call->method->on_drain != NULL && !call->closed) {
        call->method->on_drain(call);
    }
}

SEAM_ON_LOOP static void call_stop(seam_call *call, void *user) {
    (void)user;
    seam_error err = {0};
    (void)seam_error_set(&err, SEAM_E_UNAVAILABLE, "the server is stopping");
    seam_call_fail(call, SEAM_E_UNAVAILABLE, &err);
}

SEAM_ON_LOOP static void call_lose(seam_call *call, void *user) {
    const seam_status st = *(const seam_status *)user;
    seam_error err = {0};
    (void)seam_error_set(&err, st, "%s; the server restarts", seam_status_text(st));
    if (!call->method->open) {
        seam_call_fail(call, st, &err);
    }
}

void seam_server_lose(seam_server *server, seam_status st) {
    char text[SEAM_ERROR_TEXT_BYTES];
    if (server->lost != SEAM_OK) {
        return;
    }
    const char *fault = seam_backend_fault(seam_engine_backend(server->options.engine));
    seam_log(SEAM_LOG_ERROR, "device_lost", "status=%s sessions=%u text=\"%s\"",
             seam_status_name(st), seam_sessions_count(server->options.sessions),
             seam_log_text(text, sizeof text, fault));
    server->lost = st;
    server->draining = true;
    seam_server_each_call(server, call_lose, &st);
    server->options.lost();
}

seam_status seam_server_lost(seam_server *server) {
    loop_lock(server);
    const seam_status st = server->lost;
    loop_unlock(server);
    return st;
}

void seam_server_drain(seam_server *server) {
    loop_lock(server);
    server->draining = true;
    seam_server_each_call(server, call_drain, NULL);
    loop_unlock(server);
    if (!wait_until(server, is_idle, server->options.config->drain_timeout_ms)) {
        seam_log(SEAM_LOG_WARN, "drain_timeout", "timeout_ms=%u",
                 server->options.config->drain_timeout_ms);
    }
    grpc_server_shutdown_and_notify(server->server, server->cq, &server->shutdown_tag);
    loop_lock(server);
    seam_server_each_call(server, call_stop, NULL);
    loop_unlock(server);
    if (!wait_until(server, is_shut_down, CANCEL_AFTER_MS)) {
        grpc_server_cancel_all_calls(server->server);
        (void)wait_until(server, is_shut_down, UINT32_MAX);
    }
    loop_lock(server);
    server->drained = true;
    loop_unlock(server);
}

void seam_server_park(seam_server *server) {
    loop_lock(server);
    seam_sessions_park_all(server->options.sessions);
    loop_unlock(server);
}

SEAM_WITHOUT_THREADS void seam_server_destroy(seam_server *gift_server) {
    if (gift_server == NULL) {
        return;
    }
    seam_server *server = gift_server;
    if (server->server != NULL && server->thread_count == 0) { /* never served */
        grpc_server_shutdown_and_notify(server->server, server->cq, &server->shutdown_tag);
        grpc_server_cancel_all_calls(server->server);
    }
    grpc_completion_queue_shutdown(server->cq);
    for (uint32_t i = 0; i < server->thread_count; i++) {
        (void)pthread_join(server->threads[i], NULL);
    }
    for (;;) { /* without threads the queue is drained here */
        const grpc_event event =
            grpc_completion_queue_next(server->cq, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            break;
        }
        const seam_tag *tag = event.tag;
        if (tag->call != NULL) {
            seam_call_unref(tag->call);
        }
    }
    grpc_completion_queue_destroy(server->cq);
    if (server->server != NULL) {
        grpc_server_destroy(server->server);
    }
    grpc_shutdown_blocking();
    (void)pthread_mutex_destroy(&server->mu);
    seam_mem_free(server);
}

/* ---- for the methods ---- */

seam_engine *seam_server_engine(const seam_server *server) {
    return server->options.engine;
}

seam_sessions *seam_server_sessions(const seam_server *server) {
    return server->options.sessions;
}

const seam_registry *seam_server_registry(const seam_server *server) {
    return server->options.registry;
}

const seam_server_config *seam_server_config_of(const seam_server *server) {
    return server->options.config;
}

bool seam_server_is_draining(const seam_server *server) {
    return server->draining;
}

uint64_t seam_server_turn_next(seam_server *server) {
    return ++server->turn_last;
}

void seam_server_forget(seam_server *server, seam_call *call) {
    if (call->prev != NULL) {
        call->prev->next = call->next;
    } else {
        server->calls = call->next;
    }
    if (call->next != NULL) {
        call->next->prev = call->prev;
    }
    call->prev = call->next = NULL;
    server->call_count--;
    seam_call_unref(call); /* the list's */
}

void seam_server_count_error(seam_server *server, const seam_call *call, seam_status st,
                             const char *text) {
    (void)server;
    char safe[SEAM_ERROR_TEXT_BYTES];
    const seam_log_level level = seam_status_is_process_dead(st) ? SEAM_LOG_ERROR : SEAM_LOG_INFO;
    seam_log(level, "call_failed", "method=%s status=%s text=\"%s\"", call->method->path,
             seam_status_name(st), seam_log_text(safe, sizeof safe, text));
}

void seam_server_each_call(seam_server *server, void (*visit)(seam_call *call, void *user),
                           void *user) {
    for (seam_call *call = server->calls, *next = NULL; call != NULL; call = next) {
        next = call->next;
        visit(call, user);
    }
}
