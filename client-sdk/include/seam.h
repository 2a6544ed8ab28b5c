/* libseam, the thin core: split fine-tuning against a Seam server.  C11 and C++.
 *
 * The caller brings tensors; the library brings the session, the compressor (AMAQ), the protocol
 * and the network.  It needs no compute library.  seam_model.h, on top, holds a model's
 * embedding and head and trains from text.
 *
 * The cut (U-shaped): the caller computes the token embedding, the server the decoder blocks with
 * a trainable LoRA adapter, the caller the final norm, the head and the loss.  One step:
 *
 *     seam_step_begin(layout of the micro-batches)
 *     for each micro-batch m:
 *         seam_step_forward(m, x)        x (T, C): embeddings of T tokens
 *                                        y (rows, C): the blocks' output at the labelled rows
 *         seam_step_backward(m, dy)      dy: gradient of the step's mean loss
 *     seam_step_commit()                 the server has stepped its optimizer
 *
 * Terms.  T: rows, the valid tokens of a micro-batch, sequences one after another, no padding.
 * C: channels (the model's hidden size).  Labelled row t: token t+1 is in the loss.  Site: one
 * direction of one boundary (fwd_in 0, fwd_out 1, bwd_out 2, bwd_in 3).
 * All tensors are float32, row-major, dense.  Bitmaps: bit t of byte t/8, lowest bit first.
 *
 * Errors.  Every function that can fail returns seam_status and, where it has a last parameter
 * `err` (may be NULL), writes the reason for people into it.  Codes -1..-99: the call failed, the
 * session goes on (where it is a call of a step: see there); -100..-199: the session is dead, close
 * it; see seam_status.h.  Common to all calls that use the network and not repeated below:
 * SEAM_E_UNAVAILABLE, SEAM_E_DEADLINE, SEAM_E_CANCELLED, SEAM_E_UNAUTHENTICATED, SEAM_E_DENIED,
 * SEAM_E_MEMORY, SEAM_E_FENCED (another client attached to the session), SEAM_E_GONE.
 * SEAM_E_ARG: an argument that cannot be right; NULL is one, but where it is allowed.  Functions
 * without a status take NULL for whatever they are about: they do nothing, write zeros, return 0,
 * false or NULL.
 *
 * Threads.  A client: any number of threads.  A session or inference: one thread at a time,
 * except seam_session_cancel.  Several sessions may share one client.
 *
 * Structs of options begin with their size, so that later versions can add fields: always start
 * from the _INIT macro.  Zero means the default in every field. */
#ifndef SEAM_H
#define SEAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seam_session_options.h"
#include "seam_status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct seam_client seam_client;
typedef struct seam_session seam_session;
typedef struct seam_inference seam_inference;

/* "0.1.0".  Any thread. */
SEAM_API const char *seam_version(void);
/* One English sentence fragment for a status.  Never NULL.  Any thread. */
SEAM_API const char *seam_describe(seam_status st);

/* ---- Client: a server's address and how to talk to it ---- */

typedef void seam_log_fn(void *user, const char *text);
typedef bool seam_stop_fn(void *user);

typedef struct seam_client_options {
    size_t struct_bytes;
    const char *address;              /* "host:port" */
    bool plaintext;                   /* no TLS: refused unless the address is the loopback ... */
    bool plaintext_forced;            /* ... or this is set */
    const char *ca_file;              /* PEM; NULL: the system's roots */
    const char *cert_file, *key_file; /* PEM; client certificate and its key */
    const char *server_name;          /* name expected in the certificate; NULL: the host */
    const char *token;                /* bearer token; needs TLS unless on loopback or forced */
    uint32_t unary_timeout_ms;        /* default 60,000 */
    uint32_t progress_timeout_ms;     /* stream without any message: default 300,000 */
    uint32_t reconnect_timeout_ms;    /* server away; default 60,000, before any answer <= 25,000 */
    seam_log_fn *log;                 /* reconnects and the like; NULL: silent */
    void *log_user;
    uint64_t credit_bytes; /* tensor bytes that a server may have on their way to a session:
                            * default 16 MiB; no less than the link's rate times its round trip */
    seam_stop_fn *stop;    /* asked while a call waits to be made again: true ends it, CANCELLED */
    void *stop_user;
} seam_client_options;
#define SEAM_CLIENT_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(seam_client_options), NULL, false, false, NULL, NULL, NULL, NULL, NULL, 0, 0, 0,    \
            NULL, NULL, 0, NULL, NULL                                                              \
    }

/* Does not connect: the first call does.  SEAM_E_ARG, SEAM_E_IO (a PEM file). */
SEAM_API seam_status seam_client_open(seam_client **ret_client, const seam_client_options *options,
                                      seam_error *err);
/* Sessions and inferences of the client must be closed before.  NULL is fine. */
SEAM_API void seam_client_close(seam_client *gift_client);

/* Bytes on the wire since the client was opened, all its sessions together: messages with the
 * framing of gRPC, HTTP/2 and TLS.  Any thread. */
SEAM_API void seam_client_bytes(uint64_t *ret_sent, uint64_t *ret_received,
                                const seam_client *client);

/* Seconds that the server is away: of the quickest unary call so far; 0: none was made. */
SEAM_API double seam_client_rtt_seconds(const seam_client *client);

typedef struct seam_server_info {
    char version[64], device[256];
    uint64_t memory_bytes_total, memory_bytes_free;
    uint32_t session_count;
    uint32_t rows_max; /* rows of a micro-batch or inference, at most; 0: the server does not say */
    bool allows_labels, allows_text; /* topologies vanilla, adapter_exchange */
} seam_server_info;
SEAM_API seam_status seam_client_server_info(seam_server_info *ret_info, seam_client *client,
                                             seam_error *err);

typedef struct seam_model_info {
    char id[128], architecture[64];
    uint32_t layers, hidden, heads, kv_heads, vocab, context_max;
    uint64_t identity; /* WIRE.md section 6; pass it to a session to be sure of the model */
    uint64_t weight_bytes;
} seam_model_info;
/* Writes up to `capacity` models; *ret_count: how many the server has. */
SEAM_API seam_status seam_client_models(seam_model_info *ret_models, uint32_t *ret_count,
                                        seam_client *client, uint32_t capacity, seam_error *err);

typedef struct seam_session_info {
    char id[64], name[104];
    char model[128];
    char codec[16];
    char state[16]; /* "ready", "stepping", "detached", ... */
    uint64_t committed_step_count, memory_bytes, tokens;
    uint32_t lora_rank;
} seam_session_info;
/* Calls `visit` once a session that the caller may see. */
typedef void seam_session_visit_fn(void *user, const seam_session_info *info);
SEAM_API seam_status seam_client_sessions(seam_client *client, seam_session_visit_fn *visit,
                                          void *user, seam_error *err);

/* ---- Session ---- */

/* Creates the session on the server.  SEAM_E_ARG (err names the field), SEAM_E_NOT_FOUND (model),
 * SEAM_E_UNIMPLEMENTED, SEAM_E_LIMIT (no room), SEAM_E_CONFLICT (another model_identity). */
SEAM_API seam_status seam_session_create(seam_session **ret_session, seam_client *client,
                                         const seam_session_options *options, seam_error *err);

#define SEAM_SECRET_BYTES 32
/* Keeps a journal of a new session in this folder (which exists; a journal there of another session
 * is replaced): a record a step, flushed before the next one.  With it the session survives this
 * process (seam_session_resume) and a server that comes back at an earlier step.  SEAM_E_STATE: a
 * step has begun, or another process has the folder's journal; SEAM_E_IO. */
SEAM_API seam_status seam_session_journal(seam_session *session, const char *folder,
                                          seam_error *err);
/* Takes up the session whose journal this is, where its last record says.  SEAM_E_NOT_FOUND
 * (journal or session), SEAM_E_DENIED, SEAM_E_STATE (another process has it), SEAM_E_DATA_LOSS
 * (damaged), SEAM_E_UNIMPLEMENTED (aqsgd in a journal of a release that kept no caches). */
SEAM_API seam_status seam_session_resume(seam_session **ret_session, seam_client *client,
                                         const char *session_id, const uint8_t *secret,
                                         const char *folder, seam_error *err);
/* Takes up an existing session: export, inference, delete, and training of a session whose
 * compressor has no state on this side (f32, bf16, affine, or no step yet).
 * secret: SEAM_SECRET_BYTES of them.  SEAM_E_NOT_FOUND, SEAM_E_DENIED, SEAM_E_FORMAT (the config
 * that the server states has another hash). */
SEAM_API seam_status seam_session_attach(seam_session **ret_session, seam_client *client,
                                         const char *session_id, const uint8_t *secret,
                                         seam_error *err);
/* Detaches and frees; the session stays on the server.  Its inference, and a trainer of it, must be
 * closed before; so with delete.  NULL is fine. */
SEAM_API void seam_session_close(seam_session *gift_session);
/* Deletes the session on the server and closes it; freed also after an error. */
SEAM_API seam_status seam_session_delete(seam_session *gift_session, seam_error *err);
/* Deletes a session by id, without attaching. */
SEAM_API seam_status seam_client_delete_session(seam_client *client, const char *session_id,
                                                const uint8_t *secret, seam_error *err);
/* Returns when the last committed step is durable at the server, which saves it now, with its
 * count. SEAM_E_STATE (no --state-dir), SEAM_E_LIMIT. */
SEAM_API seam_status seam_session_save_checkpoint(uint64_t *ret_step_count, seam_session *session,
                                                  seam_error *err);
/* What the server steps its adapter by.  Steps of the schedule count from the session's first. */
typedef struct seam_optimizer {
    size_t struct_bytes; /* sizeof(seam_optimizer) */
    float lr, adam_beta1, adam_beta2, adam_eps, weight_decay, clip_norm;
    const char *schedule; /* static, where it is returned; "constant", "linear", "cosine" */
    uint64_t warmup_steps, total_steps;
} seam_optimizer;
/* What step `step` (from 0) goes by, as the server knows it now.  SEAM_E_ARG. */
SEAM_API seam_status seam_session_optimizer(seam_optimizer *ret_optimizer, seam_session *session,
                                            uint64_t step, seam_error *err);
/* What seam_session_update has said of steps that may still come, or come again after a crash. */
typedef struct seam_optimizer_update {
    uint64_t step; /* the first that goes by it, until the next one's */
    seam_optimizer optimizer;
} seam_optimizer_update;
#define SEAM_OPTIMIZER_UPDATES_MAX 32 /* of a session */
/* By rising steps.  SEAM_E_LIMIT: they are more than `capacity`. */
SEAM_API seam_status seam_session_updates(seam_optimizer_update *ret_updates, uint32_t *ret_count,
                                          seam_session *session, uint32_t capacity,
                                          seam_error *err);
/* From step `step` on the server steps by this one (whole), in the place of what earlier calls said
 * of that step and later ones; 0: from the next step that begins.  Durable when it returns, where
 * the server keeps sessions.  *ret_step (may be NULL): the step.  Also from another process than
 * the one that trains.  SEAM_E_ARG (err names the field; a step that has begun), SEAM_E_STATE (a
 * session whose client trains too, or whose client has not been back since the server started),
 * SEAM_E_LIMIT (SEAM_OPTIMIZER_UPDATES_MAX are kept). */
SEAM_API seam_status seam_session_update(uint64_t *ret_step, seam_session *session, uint64_t step,
                                         const seam_optimizer *optimizer, seam_error *err);
SEAM_API seam_status seam_session_info_get(seam_session_info *ret_info, seam_session *session,
                                           seam_error *err);
/* Borrowed until the session is closed. */
SEAM_API const char *seam_session_id(const seam_session *session);
SEAM_API const uint8_t *seam_session_secret(const seam_session *session);
SEAM_API uint32_t seam_session_channels(const seam_session *session);
/* As in seam_session_options; static.  Of a session that was taken up: what the server says. */
SEAM_API const char *seam_session_topology(const seam_session *session);
/* What may be shown to the server from now on, as seam_session_options.consent.  A session that was
 * taken up begins with "none", whatever was allowed when it was created: a step of a topology that
 * shows more is SEAM_E_DENIED, before anything is sent.  SEAM_E_ARG. */
SEAM_API seam_status seam_session_consent(seam_session *session, const char *consent,
                                          seam_error *err);
SEAM_API uint64_t seam_session_committed_steps(const seam_session *session);
/* Ends the call that runs, and every later one but close and delete, with SEAM_E_CANCELLED; what a
 * seam_session_save_checkpoint or _update asked for, the server may do all the same.  Any thread.
 */
SEAM_API void seam_session_cancel(seam_session *session);

/* ---- Blocks and trainables of the caller ---- */

/* How a session splits and trains, as both ends know it. */
typedef struct seam_training_facts {
    uint32_t front_blocks, tail_blocks;
    bool client_trains, server_trains; /* an adapter in the blocks of this end, of that one */
    uint32_t lora_rank, lora_targets, prefix_tokens; /* SEAM_TARGET_...; 0: no LoRA, no prefix */
    float lora_alpha, lora_dropout;
    bool lora_rslora;
    uint64_t lora_seed, prefix_seed;
    float lr, adam_beta1, adam_beta2, adam_eps, weight_decay, clip_norm;
    const char *schedule; /* static */
    uint64_t warmup_steps, total_steps;
    uint32_t rows_per_micro_max, sequences_per_micro_max;
} seam_training_facts;
SEAM_API void seam_session_training(seam_training_facts *ret_facts, const seam_session *session);

struct seam_step_report;
/* What the caller trains, with client_trains or adapter_exchange.  libseam asks for it in
 * seam_step_commit, in the caller's thread: both ends' gradients are clipped together, so each must
 * be whole by then. */
typedef struct seam_own_part {
    size_t struct_bytes;
    void *user;
    /* Sum of squares of the step's gradient; adapter_exchange: NULL. */
    seam_status (*squares)(double *ret_sum, void *user);
    /* The step is committed: the optimizer, over the gradient times clip_factor (exchange: clipped
     * by grad_norm); skipped: the gradient is dropped.  The report has what the Commit says. */
    seam_status (*apply)(void *user, const struct seam_step_report *report, seam_error *err);
    /* Its state between two steps, always of so many bytes, and back: a step's record has it. */
    size_t state_bytes;
    seam_status (*save)(uint8_t *ret_bytes, void *user);
    seam_status (*load)(void *user, const uint8_t *bytes);
} seam_own_part;
#define SEAM_OWN_PART_INIT                                                                         \
    { sizeof(seam_own_part), NULL, NULL, NULL, 0, NULL, NULL }
/* Before seam_session_journal and the first step of a new session; after seam_session_resume, which
 * gives the part the state of its record back.  `part` is copied; NULL: there is none any more, and
 * no step can begin.  SEAM_E_STATE: the session trains nothing here, has a part already, or its
 * part was another process's and is in no record. */
SEAM_API seam_status seam_session_own(seam_session *session, const seam_own_part *part,
                                      seam_error *err);

/* ---- A step ---- */

typedef struct seam_step_micro {
    uint32_t sequence_count;
    const uint32_t *sequence_rows; /* (sequence_count), each at least 1; their sum is T */
    const uint8_t *labelled_rows;  /* bitmap over T rows; at least one is set */
    const uint32_t *positions;     /* (T) or NULL: from 0 in every sequence */
    const uint64_t *sample_ids;    /* (sequence_count), needed by codec aqsgd; or NULL */
    /* (T) or NULL.  Rows of x with one key (a token) are equal and travel once; keys stay. */
    const uint32_t *row_keys;
    /* Topologies other than u_shaped: the token that each labelled row should predict.  They are
     * sent; with u_shaped nothing reads them. */
    const uint32_t *labels; /* (labelled rows) */
    const uint32_t *ids;    /* adapter_exchange: (T) tokens, sent */
} seam_step_micro;

/* Begins step seam_session_committed_steps(); copies the layout.  A stream that breaks from here
 * to the commit is opened again and the step's messages are sent again, until
 * reconnect_timeout_ms; then SEAM_E_UNAVAILABLE.  That, and whatever else the server or what it
 * sent is the reason of, ends this handle: each later call of a step gives the same error.  Close
 * it and take the session up again (seam_session_resume, seam_session_attach).  What is found here
 * before anything is sent does not: SEAM_E_ARG, SEAM_E_STATE (a step is open), SEAM_E_LIMIT
 * (micros, sequences or rows above the session's, more than 64 micros, a layout above 1 MiB),
 * SEAM_E_NONFINITE, SEAM_E_DENIED (consent), SEAM_E_UNIMPLEMENTED (taken up by id, and the
 * compressor's state is elsewhere). */
SEAM_API seam_status seam_step_begin(seam_session *session, const seam_step_micro *micros,
                                     uint32_t micro_count, seam_error *err);
/* The same with the forward of `ahead` micro-batches on its way at once: begun, in order, before
 * the backward of the first, and then one more after each backward, as far as there are more.  So
 * the server works on one while the caller is at the head of another.  The same updates as one
 * after the other.  SEAM_E_LIMIT: above the session's pipeline_depth. */
SEAM_API seam_status seam_step_begin_ahead(seam_session *session, const seam_step_micro *micros,
                                           uint32_t micro_count, uint32_t ahead, seam_error *err);
/* What the session has. */
SEAM_API uint32_t seam_session_pipeline_depth(const seam_session *session);
/* What to begin the next step with: with pipeline_auto as measured, else pipeline_depth. */
SEAM_API uint32_t seam_session_ahead(const seam_session *session);
/* Rows that forward writes and backward reads: the labelled rows of the micro-batch in order (all T
 * with all_rows); with tail_blocks, whose attention reads earlier rows, those of each sequence up
 * to its last labelled one. */
SEAM_API uint32_t seam_step_rows_out(const seam_session *session, uint32_t micro);
/* Micro-batches are worked in order, forward then backward.  x (T, C), borrowed.
 * ret_y (rows out, C): what the server's blocks gave, as decoded.
 * SEAM_E_NONFINITE (x), SEAM_E_STATE, SEAM_E_FORMAT, SEAM_E_CHECKSUM. */
SEAM_API seam_status seam_step_forward(seam_session *session, float *ret_y, uint32_t micro,
                                       const float *x, seam_error *err);
/* Forward in two parts: x is encoded and sent; the answer is awaited. */
SEAM_API seam_status seam_step_forward_begin(seam_session *session, uint32_t micro, const float *x,
                                             seam_error *err);
/* x (T, C) as bf16, each value the upper half of its f32: rows of a table that stands so need not
 * be widened.  The same bytes travel. */
SEAM_API seam_status seam_step_forward_begin_bf16(seam_session *session, uint32_t micro,
                                                  const uint16_t *x, seam_error *err);
SEAM_API seam_status seam_step_forward_end(seam_session *session, float *ret_y, uint32_t micro,
                                           seam_error *err);
/* dy (rows out, C): gradient of the step's mean loss (over the labelled rows of all its
 * micro-batches); rows without a label must be zero, but with tail_blocks.  ret_dx (T, C): gradient
 * of x, or NULL; only where the caller trains front blocks, or with gate_signal "exact" or
 * send_input_gradient (else SEAM_E_STATE). */
SEAM_API seam_status seam_step_backward(seam_session *session, float *ret_dx, uint32_t micro,
                                        const float *dy, seam_error *err);

/* Topologies other than u_shaped, in the place of forward_end and backward: seam_step_forward_begin
 * sends x (vanilla), and this waits for what the server's head says, micro-batch by micro-batch.
 * ret_dx as above. */
typedef struct seam_step_loss {
    double loss_sum;        /* nats, over the micro-batch's labelled rows */
    uint64_t correct_count; /* labelled rows whose likeliest token is the label */
} seam_step_loss;
SEAM_API seam_status seam_step_answer(seam_session *session, seam_step_loss *ret_loss,
                                      float *ret_dx, uint32_t micro, seam_error *err);

/* ---- Topology adapter_exchange ---- */

/* What the session trains and how, for the optimizer that is the caller's. */
typedef struct seam_exchange_training {
    size_t struct_bytes;
    uint32_t lora_rank, lora_targets; /* prefix_tokens 0 */
    float lora_alpha, lora_dropout;
    bool lora_rslora, resend_parameters;
    uint64_t adapter_seed;
    uint32_t prefix_tokens;
    float lr, adam_beta1, adam_beta2, adam_eps, weight_decay, clip_norm;
    uint32_t schedule; /* 1 constant, 2 linear, 3 cosine */
    uint64_t warmup_steps, total_steps;
} seam_exchange_training;
/* SEAM_E_ARG: NULL, or struct_bytes is not set. */
SEAM_API seam_status seam_session_exchange_training(seam_exchange_training *ret_training,
                                                    const seam_session *session);

/* One module that travels: WIRE.md 1.1 has the sites and the order of their modules. */
typedef struct seam_module_memory {
    uint16_t site; /* of its parameters: 4, 5, 6 */
    uint32_t rows, rank;
    bool by_columns;   /* (rank, rows), as LoRA's A; else (rows, rank) */
    float *parameters; /* read by the begin of a step's first micro-batch; amaq: by its commit */
    float *gradient;   /* written with the answer to the last one */
} seam_module_memory;
/* Borrowed until the session is closed or told others.  SEAM_E_ARG, SEAM_E_STATE. */
SEAM_API seam_status seam_session_modules(seam_session *session, const seam_module_memory *modules,
                                          uint32_t module_count, seam_error *err);
/* Sends a micro-batch's ids, and the parameters where they are due; then seam_step_answer. */
SEAM_API seam_status seam_step_tokens_begin(seam_session *session, uint32_t micro, seam_error *err);

typedef struct seam_step_report {
    size_t struct_bytes;
    uint64_t step;       /* that was committed, from 0 */
    uint64_t state_hash; /* of the adapter after the step */
    double grad_norm;    /* before clipping */
    double lr;
    double server_seconds;
    bool skipped;          /* the gradient was not finite: nothing was applied */
    bool target_reached;   /* the mean of the gates has been at the target, once */
    double gate_mean_bits; /* over both forward sites by the values that they send (labelled rows,
                            * equal rows of site 0 once); 0: codec has no gates */
    uint64_t bytes_sent, bytes_received;   /* on the wire, from begin to commit */
    double encode_seconds, decode_seconds; /* of this side's tensors */
    double server_codec_seconds;           /* both, of the server's tensors; in server_seconds */
    double bits_target;                    /* that the next step's widths follow; 0: no gates */
    double link_bits_per_second;           /* rate_auto: the estimate; 0: none */
    uint32_t ahead;                        /* micro-batches on their way at once */
    double seconds;                        /* from its begin, the wait for the commit included */
    float clip_factor; /* of both ends' gradients, where the caller trains; else 0 */
} seam_step_report;
#define SEAM_STEP_REPORT_INIT                                                                      \
    { sizeof(seam_step_report), 0, 0, 0, 0, 0, false, false, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Waits for the server's commit, steps the gates, negotiates.  report may be NULL. */
SEAM_API seam_status seam_step_commit(seam_session *session, seam_step_report *report,
                                      seam_error *err);

/* Any of the four calls above may return SEAM_E_ROLLED_BACK: the server came back at an earlier
 * step (or has lost what the step needs), and so has this session.  The step is over; go on with
 * seam_step_begin for step seam_session_committed_steps(), with that step's rows.  A step that is
 * made again must give the state hash that it gave before, else SEAM_E_NONDETERMINISM. */

/* Between two steps: attach anew, after another call has failed with SEAM_E_UNAVAILABLE or shown a
 * state that is not the last commit's.  Waits for the server as a step does.
 * SEAM_E_ROLLED_BACK as above; SEAM_E_STATE: a step is open. */
SEAM_API seam_status seam_session_reattach(seam_session *session, seam_error *err);

/* In the thread of seam_step_commit, between commit and record; again for a step made again.  fn
 * may read the session and call seam_session_note; the calls of a step give SEAM_E_STATE, others
 * must not be made. */
typedef void seam_commit_fn(void *user, const seam_step_report *report);
SEAM_API void seam_session_on_commit(seam_session *session, seam_commit_fn *fn, void *user);
/* In seam_commit_fn: bytes that the step's record keeps for the caller (of a step made again: the
 * first ones stay).  SEAM_E_ARG, SEAM_E_MEMORY. */
SEAM_API seam_status seam_session_note(seam_session *session, const void *bytes, size_t count);
/* The notes of all steps so far, in order, but those that damage to the disk has hit; step_count:
 * the step's number and one.  What visit returns other than SEAM_OK ends it. */
typedef seam_status seam_note_visit_fn(void *user, uint64_t step_count, const void *bytes,
                                       size_t count);
SEAM_API seam_status seam_session_notes(const seam_session *session, seam_note_visit_fn *visit,
                                        void *user, seam_error *err);

/* ---- Timeline of steps ---- */

/* From the next step on the newest spans_max phases are kept (0: 65536; a step has some ten a
 * micro-batch, and two for each MiB that travels): step, forward, backward, commit; in them encode,
 * send, wait, decode, record.  SEAM_E_ARG (spans_max above 2^20), SEAM_E_STATE (kept already, or a
 * step is open), SEAM_E_MEMORY. */
SEAM_API seam_status seam_session_trace(seam_session *session, uint32_t spans_max, seam_error *err);
/* The caller's own phase: the time of its begin (0 when nothing is kept), and its end within the
 * open step.  name: static text without quotes. */
SEAM_API uint64_t seam_session_trace_begin(const seam_session *session);
SEAM_API void seam_session_trace_end(seam_session *session, const char *name, uint32_t micro,
                                     uint64_t begin_ns);
/* What is kept, as Chrome trace events (chrome://tracing, Perfetto).  SEAM_E_STATE: nothing is;
 * SEAM_E_IO. */
SEAM_API seam_status seam_session_trace_write(seam_session *session, const char *path,
                                              seam_error *err);

/* ---- Sites ---- */

/* One site, as the last step used it. */
typedef struct seam_site_state {
    uint16_t site;
    const char *name; /* "fwd_in", "fwd_out", "bwd_out", "bwd_in", "lora_a", ...; "layer_<l>" */
    uint32_t channels;
    uint32_t rows;          /* rows sent in the last step */
    uint64_t payload_bytes; /* of the last step: ranges and codes, without headers */
    /* Of the codes: mean width in force; 32, 16 for f32, bf16; payload bits a value for dictionary
     * and aqsgd; 0: not sent. */
    double mean_bits;
    uint32_t width_count; /* channels; granularity token: places; 0: a codec without widths */
    uint32_t alloc_version;
    uint8_t bits_min, bits_max; /* layer_<l>, between blocks l and l + 1: of its widths */
} seam_site_state;
SEAM_API uint32_t seam_session_site_count(const seam_session *session);
/* SEAM_E_ARG: site_idx. */
SEAM_API seam_status seam_session_site(seam_site_state *ret_state, const seam_session *session,
                                       uint32_t site_idx);
/* Integer widths in force at the last step.  ret_widths (width_count).  SEAM_E_STATE: none. */
SEAM_API seam_status seam_session_site_widths(uint8_t *ret_widths, const seam_session *session,
                                              uint32_t site_idx);

/* ---- Inference: forward without training ---- */

typedef enum seam_inference_kind {
    SEAM_INFERENCE_FORWARD = 1, /* whole sequences, no cache: scoring */
    SEAM_INFERENCE_GENERATE = 2 /* key/value cache on the server, token by token */
} seam_inference_kind;

typedef struct seam_inference_options {
    size_t struct_bytes;
    seam_inference_kind kind;
    bool base_model;        /* without the session's adapter */
    const char *codec;      /* of both directions; NULL: the session's.  Below 64 rows bf16. */
    uint32_t slot_count;    /* generate: sequences in flight, 1..256; forward: 0 */
    uint32_t positions_max; /* of a sequence [forward: the context]; seam_model_generate needs it */
    uint32_t rows_max;      /* of one request [4096] */
} seam_inference_options;
#define SEAM_INFERENCE_OPTIONS_INIT                                                                \
    { sizeof(seam_inference_options), SEAM_INFERENCE_FORWARD, false, NULL, 0, 0, 0 }

/* Opened between steps, one at a time for a session; may run at any time then.  SEAM_E_ARG (err
 * names the field), SEAM_E_LIMIT, SEAM_E_STATE (a step or another inference is open, or the
 * server's session is at another step), SEAM_E_UNIMPLEMENTED. */
SEAM_API seam_status seam_inference_open(seam_inference **ret_inference, seam_session *session,
                                         const seam_inference_options *options, seam_error *err);
/* Before its session is closed.  NULL is fine. */
SEAM_API void seam_inference_close(seam_inference *gift_inference);
/* The options in force, defaults filled in but positions_max (codec: borrowed, static). */
SEAM_API void seam_inference_describe(seam_inference_options *ret_options,
                                      const seam_inference *inference);

/* Values in a row of x and ret_y below: the hidden size of the session's model. */
SEAM_API uint32_t seam_inference_channels(const seam_inference *inference);

typedef struct seam_rows_request {
    uint32_t sequence_count;
    const uint32_t *sequence_rows;   /* new rows of each sequence; T is their sum */
    const uint32_t *slots;           /* generate: one a sequence; else NULL */
    const uint32_t *first_positions; /* of each sequence's first new row; NULL: 0 */
    const uint8_t *labelled_rows;    /* rows wanted back (bitmap); NULL: each sequence's last */
} seam_rows_request;
/* x (T, C); ret_y (rows wanted, C).  A lost stream is opened again, generate: SEAM_E_ROLLED_BACK,
 * all slots are empty.  SEAM_E_ARG, SEAM_E_LIMIT, SEAM_E_NONFINITE: found here, nothing was sent.
 * Any other error, an argument that only the server finds among them (slots, positions), ends the
 * inference: SEAM_E_STATE from then on, open another. */
SEAM_API seam_status seam_inference_run(seam_inference *inference, float *ret_y, const float *x,
                                        const seam_rows_request *request, seam_error *err);

/* ---- Adapter ---- */

/* The server's part of the adapter: where the caller trains blocks of its own, theirs is not in it
 * (seam_model.h, seam_trainer_export).
 * Writes adapter_model.safetensors and adapter_config.json, PEFT's files, into `directory` (created
 * if absent), of a session with `full` trained_layers.safetensors and trained_layers.json instead,
 * the layers under the names of the model's own files (`seam merge` makes a whole model): each to a
 * temporary name, read back, then renamed, so that an earlier adapter there survives any failure.
 * *ret_state_hash (may be NULL): as in the step report.  SEAM_E_IO (err names the file). */
SEAM_API seam_status seam_session_export(seam_session *session, const char *directory,
                                         uint64_t *ret_state_hash, seam_error *err);
/* Sets the adapter from such a directory before the first step.  SEAM_E_IO, SEAM_E_FORMAT,
 * SEAM_E_LIMIT (it is larger than the session's), SEAM_E_STATE (after a step),
 * SEAM_E_UNIMPLEMENTED (an older server). */
SEAM_API seam_status seam_session_import(seam_session *session, const char *directory,
                                         uint64_t *ret_state_hash, seam_error *err);
/* The same from memory: the contents of the two files. */
typedef struct seam_adapter_bytes {
    const void *weights, *config;
    size_t weights_bytes, config_bytes;
} seam_adapter_bytes;
SEAM_API seam_status seam_session_import_bytes(seam_session *session,
                                               const seam_adapter_bytes *bytes,
                                               uint64_t *ret_state_hash, seam_error *err);

#ifdef __cplusplus
}
#endif
#endif
