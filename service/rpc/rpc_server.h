/* The gRPC server: one completion queue, two loop threads, the list of calls in flight.
 *
 * "Loop role" is holding the server's mutex: a loop thread takes an event off the queue, takes the
 * mutex, lets the call's state machine move (rpc_call.c), and lets go.  Nothing under the mutex
 * computes or waits.  Reading order: this file, rpc_call.h, rpc_methods.c (the table), then the
 * method of interest: rpc_unary.c, rpc_train.c, rpc_generate.c, rpc_adapter.c, rpc_health.c. */
#ifndef SEAM_RPC_SERVER_H
#define SEAM_RPC_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "auth.h"
#include "engine.h"
#include "registry.h"
#include "rpc_call.h"
#include "server_config.h"
#include "session_table.h"

typedef struct seam_server_options {
    const seam_server_config *config; /* all borrowed, must outlive the server */
    const seam_auth *auth;
    const seam_registry *registry;
    seam_engine *engine;
    seam_sessions *sessions;
    void (*lost)(void); /* loop: the process must restart; main ends it.  Called once at most */
} seam_server_options;

/* Binds and serves.  SEAM_E_UNAVAILABLE (address), SEAM_E_IO (certificate files), SEAM_E_MEMORY. */
seam_status seam_server_create(seam_server **ret_server, const seam_server_options *options,
                               seam_error *err);
/* The address served on, with the real port: "127.0.0.1:41234". */
const char *seam_server_address(const seam_server *server);
/* SEAM_OK, or why the process must restart. */
seam_status seam_server_lost(seam_server *server);
/* NOT_SERVING; new work is refused; waits until steps in flight are committed or the drain timeout
 * is over; ends every call with a status.  The loop's clock leaves the sessions alone after it; a
 * job that the timeout did not wait for still ends there.  Called once, by main. */
void seam_server_drain(seam_server *server);
/* After seam_server_drain: checkpoints of all sessions, by the engine before it ends; of one that
 * such a job works for, those that it has. */
void seam_server_park(seam_server *server);
/* After seam_server_drain and after the engine has ended. */
void seam_server_destroy(seam_server *gift_server);

/* ---- for the methods ---- */
seam_engine *seam_server_engine(const seam_server *server);
seam_sessions *seam_server_sessions(const seam_server *server);
const seam_registry *seam_server_registry(const seam_server *server);
const seam_server_config *seam_server_config_of(const seam_server *server);
bool seam_server_is_draining(const seam_server *server) SEAM_ON_LOOP;
/* Larger than every one before. */
uint64_t seam_server_turn_next(seam_server *server) SEAM_ON_LOOP;
/* A call is over. */
void seam_server_forget(seam_server *server, seam_call *call) SEAM_ON_LOOP;
/* A job has failed in a way that no later one can succeed (a sticky device error): says so once,
 * ends every call with UNAVAILABLE and wakes main. */
void seam_server_lose(seam_server *server, seam_status st) SEAM_ON_LOOP;
/* A call ends with an error: one log line. */
void seam_server_count_error(seam_server *server, const seam_call *call, seam_status st,
                             const char *text);
/* Call `visit` for every call in flight. */
void seam_server_each_call(seam_server *server, void (*visit)(seam_call *call, void *user),
                           void *user) SEAM_ON_LOOP;

/* The table of methods; NULL for an unknown path. */
const seam_method *seam_method_find(const char *path, size_t count);

/* Credentials by the configuration, NULL after an error. */
grpc_server_credentials *seam_tls_credentials(const seam_server_config *config, seam_error *err);

#endif
