/* The handlers that rpc_methods.c's table names; one group a file.  All are loop role. */
#ifndef SEAM_RPC_METHODS_H
#define SEAM_RPC_METHODS_H

#include "rpc_call.h"
#include "seam/v1/stream.pb-c.h"
#include "session.h"

/* rpc_unary.c */
void seam_no_request(seam_call *call) SEAM_ON_LOOP; /* the client closed without a message */
void seam_on_get_server_info(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_list_models(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_get_session(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_list_sessions(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_delete_session(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_delete_idle(seam_call *call) SEAM_ON_LOOP;
void seam_on_delete_close(seam_call *call) SEAM_ON_LOOP;
/* A deletion has ended, well or not: the calls that wait for it go on. */
void seam_delete_ended(seam_server *server, const void *deletion) SEAM_ON_LOOP;
void seam_on_create_session(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_create_session_job(seam_call *call) SEAM_ON_LOOP;
void seam_on_create_session_close(seam_call *call) SEAM_ON_LOOP;

/* What this release can do; `codecs` is the message's list and must outlive it. */
void seam_capabilities_init(Seam__V1__Capabilities *ret, Seam__V1__Codec codecs[SEAM_CODEC_LAST]);

/* rpc_train.c */
void seam_on_train(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_train_half_close(seam_call *call) SEAM_ON_LOOP;
void seam_on_train_sent(seam_call *call) SEAM_ON_LOOP;
void seam_on_train_job(seam_call *call) SEAM_ON_LOOP;
void seam_on_train_drain(seam_call *call) SEAM_ON_LOOP;
void seam_on_train_close(seam_call *call) SEAM_ON_LOOP;

/* The session's job has ended: whoever waits for it goes on, a waiting Attach first, then the
 * tensors of its stream, then calls in turn. */
void seam_train_session_idle(seam_server *server, seam_session *session) SEAM_ON_LOOP;

/* rpc_generate.c: Forward and Generate */
void seam_on_generate(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_generate_sent(seam_call *call) SEAM_ON_LOOP;
void seam_on_generate_job(seam_call *call) SEAM_ON_LOOP;
void seam_on_generate_idle(seam_call *call) SEAM_ON_LOOP;
void seam_on_generate_drain(seam_call *call) SEAM_ON_LOOP;
void seam_on_generate_close(seam_call *call) SEAM_ON_LOOP;
/* Those of the session that were let in end with this error, opened or not, and let go of its
 * trainer, but for one whose job runs: that one does when it has run. */
void seam_generates_end(seam_server *server, const seam_session *session, seam_status st,
                        const char *text) SEAM_ON_LOOP;

/* rpc_checkpoint.c */
void seam_on_save_checkpoint(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_save_job(seam_call *call) SEAM_ON_LOOP;
void seam_on_save_idle(seam_call *call) SEAM_ON_LOOP;
void seam_on_save_close(seam_call *call) SEAM_ON_LOOP;

/* rpc_update.c */
void seam_on_update_session(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_update_job(seam_call *call) SEAM_ON_LOOP;
void seam_on_update_idle(seam_call *call) SEAM_ON_LOOP;
void seam_on_update_close(seam_call *call) SEAM_ON_LOOP;

/* rpc_adapter.c */
void seam_on_export(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_export_sent(seam_call *call) SEAM_ON_LOOP;
void seam_on_export_job(seam_call *call) SEAM_ON_LOOP;
void seam_on_export_idle(seam_call *call) SEAM_ON_LOOP;
void seam_on_import(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_import_end(seam_call *call) SEAM_ON_LOOP;
void seam_on_import_job(seam_call *call) SEAM_ON_LOOP;
void seam_on_import_idle(seam_call *call) SEAM_ON_LOOP;
void seam_on_adapter_close(seam_call *call) SEAM_ON_LOOP;

/* rpc_health.c */
void seam_on_health_check(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_health_watch(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_health_drain(seam_call *call) SEAM_ON_LOOP;
void seam_on_health_close(seam_call *call) SEAM_ON_LOOP;

/* rpc_reflection.c */
void seam_on_reflection(seam_call *call, grpc_byte_buffer *message) SEAM_ON_LOOP;
void seam_on_reflection_sent(seam_call *call) SEAM_ON_LOOP;
void seam_on_reflection_drain(seam_call *call) SEAM_ON_LOOP;

#endif
