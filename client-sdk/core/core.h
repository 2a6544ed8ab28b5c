/* Internal to core/: what a client and a session are.  Read seam.h first.
 *
 *   client.c          open, unary calls about the server
 *   repeat.c          calls that are made again: when, and until when
 *   session_options.c options <-> the SessionConfig message, site table
 *   client_session.c  create, attach, close, delete
 *   step.c            the public step calls
 *   step_rows.c       rows of site 0 on their way to the codec
 *   link.c            the loop that drives proto/wire/client_proto: connect, send, receive, retry
 *   receive.c         one message of the Train stream
 *   module_exchange.c modules of topology adapter_exchange
 *   answer.c          answers of topologies whose loss is at the server
 *   tensor_io.c       tensors <-> frames
 *   settle.c          what a commit means for the widths
 *   module_settle.c   the same of modules; which allocations are ours
 *   own_part.c        what the caller trains: its norm, its step, its state
 *   timeline.c        what a step's time went into
 *   watch.c           a step's rows as the server has them, for who wants to see them
 *   arbiter.c         bits: what both sides' allocators are told
 *   rate.c            the target by the link's bandwidth
 *   depth.c           how far ahead the next step may be, by what steps measure
 *   inference.c       Forward and Generate
 *   renewal.c         a session for them alone, made anew at a server that has lost it
 *   adapter_files.c   export and import
 *   session_record.c  what is on record of each step; going back to one
 *   state_walk.c      the state of a record
 *   journal.c         the file of records; record_file.c: one record
 *
 * Invariant: everything sent in the step in flight is kept (session.micros[].sent) until its
 * commit, so that a broken stream is answered by sending the same bytes again. */
#ifndef SEAM_CORE_H
#define SEAM_CORE_H

#include <pthread.h>

#include "arbiter.h"
#include "arena.h"
#include "cache_keeper.h"
#include "client_proto.h"
#include "coder.h"
#include "credit.h"
#include "depth.h"
#include "journal.h"
#include "module_link.h"
#include "module_signal.h"
#include "rate.h"
#include "renewal.h"
#include "seam.h"
#include "seam/v1/service.pb-c.h"
#include "seam/v1/stream.pb-c.h"
#include "seam/v1/types.pb-c.h"
#include "session_memory.h"
#include "site.h"
#include "storage.h"
#include "tensor_rx.h"
#include "trace.h"
#include "transport.h"
#include "watch.h"

#define SEAM_SITE_ROWS_MAX 1024 /* rows of a site table that a client takes */
#define SEAM_ADDRESS_BYTES 256
#define SEAM_OWNED_MAX     SEAM_MODULE_LINK_SITES_MAX        /* allocations that a client owns */
#define SEAM_FORWARD_MAX   (2u + SEAM_MODULE_LINK_SITES_MAX) /* of either end */

struct seam_client {
    const seam_transport_ops *net;
    seam_transport *transport;
    char address[SEAM_ADDRESS_BYTES];
    uint32_t reconnect_timeout_ms;
    uint64_t credit_bytes;
    _Atomic double rtt_seconds; /* the quickest unary call; 0: none has been answered */
    seam_log_fn *log;
    void *log_user;
    seam_stop_fn *stop; /* or NULL */
    void *stop_user;
};

/* One row of the site table, with what the last step sent over it. */
typedef struct seam_site_row {
    uint16_t id, paired_id;
    Seam__V1__SiteDirection direction;
    uint32_t boundary, channels;
    seam_codec_id codec;
    seam_storage storage; /* of the coder's cache */
    seam_coder *coder;    /* NULL: a site that this client does not use */
    uint32_t rows;
    uint64_t rows_all; /* of modules: of their stack */
    /* Of the answer that is coming; they count when it has come. */
    uint64_t coming_bytes;
    uint32_t coming_rows, coming_version, coming_bits;
    uint64_t payload_bytes;
    double mean_bits;
    uint32_t alloc_version;
    char name[16];              /* of a layer, which has no coder */
    uint8_t bits_min, bits_max; /* of a layer */
} seam_site_row;

/* The session's config as the core needs it. */
typedef struct seam_core_config {
    seam_codec_plan codec;
    bool labelled_rows_only;
    bool sample_ids_needed; /* codec aqsgd */
    bool full;              /* the server's blocks are trained themselves */
    bool distinct_rows;     /* equal rows of site 0 travel once, where the caller names them */
    const char *cache_dir;  /* borrowed while the session is created */
    uint64_t seed;
    seam_gates_config gates;
    seam_arbiter_config arbiter;
    bool rate_auto, depth_auto;
    seam_rate_config rate;
    uint32_t lag_steps;
    uint32_t rows_max, sequences_max, micros_max, pipeline_depth;
    seam_training_facts training;
    seam_exchange_training exchange_training;
} seam_core_config;

/* Topology adapter_exchange. */
typedef struct seam_exchange {
    bool is_on;
    seam_module_link link;
    uint32_t rows[SEAM_MODULE_LINK_SITES_MAX][2];            /* of the site table */
    seam_module *modules;                                    /* parameters, then gradients */
    seam_module_stack stacks[SEAM_MODULE_LINK_SITES_MAX][2]; /* likewise */
    seam_module_signal signals[SEAM_MODULE_LINK_SITES_MAX];  /* codec amaq */
    uint8_t *widths_used[SEAM_MODULE_LINK_SITES_MAX];        /* (C) in the last step */
    uint8_t *widths;                                         /* (largest C) of a proposal */
} seam_exchange;

/* One micro-batch of the step in flight. */
typedef struct seam_micro_state {
    uint32_t rows, labelled_count;
    uint32_t out_count;      /* rows of sites 1 and 2, but for all_rows */
    uint32_t rows_distinct;  /* of site 0, as far as the caller's keys tell */
    uint32_t rows_in;        /* of its tensor: these, or all */
    seam_buffer row_sources; /* uint32_t: the row of it that each row is; empty: its own */
    seam_buffer bitmap;      /* labelled rows, LSB first */
    /* Rows of sites 1 and 2: the labelled ones, or with tail blocks those up to each sequence's
     * last labelled one. */
    seam_buffer out_bitmap;
    seam_buffer row_ids;                          /* uint32_t: their indices, rising */
    seam_buffer sequence_rows, sequence_rows_out; /* uint32_t: of each sequence, T and out */
    seam_buffer row_gates, row_gates_out; /* uint32_t: seam_coder_tensor's; codec amaq_token */
    seam_buffer sample_ids;               /* uint64_t, or empty */
    seam_buffer ids;                      /* uint32_t: tokens; adapter_exchange */
    seam_buffer sent[2]; /* frames of fwd_in and bwd_out, one after another; empty: not encoded */
    bool is_sent[2];     /* once, on whatever stream */
    seam_buffer came;    /* frames of fwd_out that came before somebody waited for them */
    bool has_come;       /* all of them; one pass: the answer */
    seam_step_loss loss; /* one pass */
} seam_micro_state;

struct seam_session {
    seam_client *client;
    char id[65];
    uint8_t secret[SEAM_SECRET_BYTES];
    uint64_t config_hash, model_identity;
    seam_core_config config;
    uint32_t channels;
    uint32_t width_count;  /* P: widths of an allocation; C, but of codec amaq_token */
    bool by_token;         /* site 1 has codec amaq_token, site 0 too if it has gates */
    bool attached_foreign; /* taken up by id: widths beyond version 1 are unknown */
    uint32_t consent;      /* Consent: what the caller lets this process show to the server */

    seam_site_row *sites;
    uint32_t site_count;
    uint32_t fwd_in, fwd_out, bwd_out, bwd_in; /* indices into sites */
    seam_site *site_in, *site_out;             /* allocations; site_in is owned */
    seam_exchange exchange;
    seam_arbiter arbiter;
    seam_rate rate;               /* with rate_auto */
    seam_rate_sample rate_sample; /* of the last step: all that its decision went by */
    seam_depth depth;             /* with depth_auto */
    /* What the server still has memory for: the least depth.max that it was told or that a record
     * has, whatever an older record says after a rollback; 0: it was told nothing. */
    uint32_t depth_held;
    double first_begin_seconds; /* the step's first forward tensor left; 0: or its stream broke */
    double first_seconds;       /* from then to its reply; 0: not known */
    double waited_seconds;      /* of them: in receiving, since a forward tensor was sent last */
    double others_seconds;      /* of them: in sending the next forward tensors, */
    uint64_t others_bytes;      /* which are so many bytes */
    double step_begin_seconds;  /* when the step in flight began */
    double link_seconds;        /* of it: spent waiting for the link and the server */
    double drive_begin_seconds; /* when the wait that is under way began; 0: none is */
    double attach_seconds;      /* when Attach was sent; 0: not under way */
    double rtt_seconds;         /* of the last Attach; 0: not known */

    pthread_mutex_t mu;          /* guards the four below against seam_session_cancel */
    seam_stream_call *stream;    /* guarded by mu for writing and for cancel */
    seam_stream_call *inference; /* likewise */
    seam_stream_call *files;     /* likewise: of an export or import */
    bool cancelled;              /* guarded by mu */

    seam_client_proto proto;
    uint64_t lost_since_ms; /* first failure since the server was last heard of; 0: none */
    uint32_t barren_count;  /* attaches in a row that brought nothing */
    seam_buffer inbox;
    seam_credit_tx credit_tx;
    seam_credit_rx credit_rx;

    /* Step in flight. */
    bool step_open;
    uint32_t micro_count, micro_next; /* micro_next: whose forward or backward is due */
    uint32_t ahead, forward_next;     /* forward_next: whose forward begins next */
    bool backward_due;                /* forward of micro_next is done */
    uint64_t labelled_total, out_total;
    seam_micro_state *micros; /* (micros_max) */
    seam_buffer step_begin;   /* packed TrainRequest */
    seam_buffer budget;       /* packed TrainRequest of the step's Budget; empty: none */
    /* Of each allocation that is ours: packed AllocPropose not yet answered; empty: none. */
    seam_buffer proposals[SEAM_OWNED_MAX];
    seam_buffer answers;      /* AllocAck, AllocNack of the step's begin: u32 count, bytes, ... */
    seam_buffer answers_next; /* those that the next step's begin will bring */
    seam_buffer norm;         /* the frame of the own part's share; empty: not made yet */
    bool begin_sent;          /* of this step */
    bool commit_done;
    bool commit_runs; /* seam_step_commit is under way */
    bool net_failed;  /* the last error came from the stream, not from its bytes */
    seam_transport_counts step_start;
    double encode_seconds, decode_seconds; /* of the step so far */
    seam_step_report report;
    seam_trace *trace;                   /* NULL: nobody looks */
    uint64_t step_number, step_begin_ns; /* timeline: of the step in flight */

    /* session_record.c */
    seam_journal *journal;     /* NULL: only the newest state is kept, in `record` */
    seam_cache_keeper *keeper; /* of the coders' caches, beside the journal; NULL: there is none */
    seam_redo_place caches;    /* where its log has those of the newest record */
    seam_buffer record;        /* a state, that after record_step_count steps */
    uint64_t record_step_count;
    seam_own_part own;         /* its functions NULL: there is none */
    size_t own_at, own_bytes;  /* its state in the record; 0 bytes: not there */
    seam_buffer note;          /* the caller's, for the next record */
    seam_commit_fn *commit_fn; /* or NULL */
    void *commit_user;
    seam_watch_fn *watch_fn; /* or NULL */
    void *watch_user;
    seam_buffer watched; /* (rows_max, C) f32: what is shown to it, of a tensor that is sent */
    uint64_t durable_told, durable_before; /* newest checkpoints that the server told of */
    bool confirm_due;                      /* durable_before is to be confirmed */
    bool went_back;                        /* the last Attached said ROLLBACK */

    const seam_renewal *renewal; /* renewal.c; NULL: a session that is lost is lost */

    /* Reception of one tensor. */
    bool rx_active, rx_wanted; /* wanted: decode, not only digest */
    bool rx_stored;            /* nobody waits for it yet: its frames are kept */
    bool rx_signal_due;        /* bwd_in of an answer has come, the gate signal behind it has not */
    uint32_t rx_part, rx_micro; /* one pass: parts of the answer that have come; whose it is */
    uint64_t rx_payload_bytes;
    seam_tensor_rx rx;
    float *y; /* borrowed destination of fwd_out while forward runs, else NULL */
    bool y_received, dx_received;

    /* Memory of a step, taken at creation: session_memory.c. */
    seam_arena memory;
    float *x_kept, *x_decoded;      /* (rows_max, C): only with exact gate signals */
    float *dx;                      /* (rows_max, C): only where bwd_in travels; one pass: D such */
    float *gate_sums, *gate_signal; /* (P) of site 0; waterfill: sums of g^2 */
    seam_buffer key_table;          /* scratch of row_sources.h */
    seam_buffer x_distinct;         /* rows of site 0's tensor, where some repeat */
    seam_buffer x_wide;             /* f32 of rows that came in bf16, for a codec that wants it */
    uint32_t *gate_counts;          /* (P) by token: the step's rows of each gate */
    float *gate_weights;            /* (P) by token: their shares */
    float *steps;                   /* (C) scratch: D_c of site 0 */
    float *spans;                   /* (C) of site 0: sum of hi - lo over the micro-batches */
    uint8_t *widths;                /* (P) of a proposal */
    uint8_t *widths_used[2];        /* (P) of site_in, site_out in the last step */
    uint8_t *frame;                 /* one frame being sealed */
};

/* repeat.c: a call that may be made again, for nothing changes by its repetition. */
typedef struct seam_repeat {
    const char *method;
    seam_session *session; /* whose cancel ends the wait, or NULL */
    bool at_once;          /* the caller can do with less room and does not wait for it */
    uint64_t begin_ms;
    uint32_t failures;
    bool has_hung; /* an attempt has, in connecting */
} seam_repeat;
/* After a call that gave st, and from a server that asked for asked_ms (0: it did not say): SEAM_OK
 * when it is to be made again now.  Waits as an Attach does: never shorter than the server asks,
 * not longer than the user's limit; says so to the log.  Else what the caller is to return, st or
 * SEAM_E_CANCELLED, with its text. */
seam_status seam_repeat_wait(seam_repeat *repeat, const seam_client *client, seam_status st,
                             uint64_t asked_ms, seam_error *err);

/* client.c: one unary call.  Frees nothing of the request; *ret_message is the caller's.  Whatever
 * changes something at the server carries a request_id. */
typedef struct seam_client_request {
    const char *method;
    const ProtobufCMessage *message;
    const ProtobufCMessageDescriptor *answer;
    seam_session *session; /* whose cancel ends it, or NULL */
    bool at_once;          /* seam_repeat's */
} seam_client_request;
seam_status seam_client_ask(ProtobufCMessage **ret_message, seam_client *client,
                            const seam_client_request *request, seam_error *err);
seam_status seam_client_call(ProtobufCMessage **ret_message, seam_client *client,
                             const char *method, const ProtobufCMessage *request,
                             const ProtobufCMessageDescriptor *answer, seam_error *err);
void seam_client_log(const seam_client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* request_id: 32 hex digits from the system's random source. */
void seam_request_id(char ret_id[33]);
uint64_t seam_now_ms(void);
double seam_now_seconds(void); /* monotonic */
uint32_t seam_random_u32(void);
/* GetSession, whose answer has session and config; free it as a message.  SEAM_E_CANCELLED. */
seam_status seam_session_fetch(Seam__V1__GetSessionResponse **ret_response, seam_session *session,
                               seam_error *err);
void seam_session_info_fill(seam_session_info *ret_info, const Seam__V1__Session *session);

/* session_options.c */
typedef struct seam_config_message {
    Seam__V1__SessionConfig config;
    Seam__V1__LoraConfig lora; /* this or prefix, or neither: full */
    Seam__V1__PrefixConfig prefix;
    Seam__V1__OptimizerConfig optimizer;
    Seam__V1__CodecConfig codec;
    Seam__V1__AmaqConfig amaq;
    Seam__V1__AqsgdConfig aqsgd;
    Seam__V1__Limits limits;
    Seam__V1__Projection targets[9];
} seam_config_message;
/* Options to the message (which points into itself and into the options) and the core's share. */
seam_status seam_config_from_options(seam_config_message *ret_message, seam_core_config *ret_core,
                                     const seam_session_options *options, seam_error *err);
/* Of these, topology and consent: topology_options.c. */
seam_status seam_config_topology_fill(seam_config_message *m, const seam_session_options *o,
                                      seam_error *err);
/* Before anything of a step is packed: SEAM_E_DENIED where the session's topology shows more than
 * the caller has allowed in this process. */
seam_status seam_session_check_consent(const seam_session *session, seam_error *err);
/* Of these, lora, prefix or full: adapter_options.c. */
seam_status seam_config_adapter_fill(seam_config_message *m, const seam_session_options *o,
                                     seam_error *err);
seam_status seam_config_blocks_fill(Seam__V1__SessionConfig *config, const seam_session_options *o,
                                    seam_error *err);
/* Of a row of direction LAYER; of others nothing. */
void seam_gates_row_name(seam_site_row *row);
/* The place of a text among names; NULL: if_null.  SEAM_E_ARG. */
seam_status seam_config_pick(int *ret_value, const char *field, const char *text,
                             const char *const *names, int count, int if_null, seam_error *err);
/* How the session splits and trains: adapter_options.c.  limits must be there. */
void seam_config_training_read(seam_training_facts *ret_facts,
                               const Seam__V1__SessionConfig *message);
seam_status seam_config_from_message(seam_core_config *ret_core,
                                     const Seam__V1__SessionConfig *message, seam_error *err);
/* Site table, allocations and the memory of a step. */
seam_status seam_session_plan(seam_session *session, const Seam__V1__Session *message,
                              seam_error *err);
/* session_memory.c: arrays and coders of a session whose sites are known; unplan frees those, and
 * all of a half-built one. */
seam_status seam_session_memory_take(seam_session *session, seam_error *err);
void seam_session_unplan(seam_session *session);
/* session_memory.c, for plans: a session that there is no server for, of these options: its config,
 * the sites of its boundaries, of an exchange its modules' shapes, and what seam_step_layout needs.
 * SEAM_E_ARG (err names the field; topology adapter_exchange without pairs), SEAM_E_UNIMPLEMENTED,
 * SEAM_E_MEMORY. */
seam_status seam_session_sketch(seam_session **ret_session, const seam_sketch_args *args,
                                seam_error *err);
void seam_session_sketch_free(seam_session *gift_session); /* NULL is fine */
/* The coder of a site of a session or a sketch. */
seam_coder_config seam_session_coder_config(const seam_session *session, uint32_t site_idx);
uint32_t seam_site_idx(const seam_session *session, uint16_t site_id); /* site_count: none */

/* link.c */
typedef enum seam_goal {
    SEAM_GOAL_BEGIN,    /* StepBegin has been sent */
    SEAM_GOAL_SENT,     /* the forward tensors begun so far have been sent */
    SEAM_GOAL_FORWARD,  /* the reply of micro_next has come */
    SEAM_GOAL_BACKWARD, /* the backward tensor of micro_next has been sent; with bwd_in: its answer
                           has come */
    SEAM_GOAL_ANSWER,   /* one pass: the answer to micro_next has come */
    SEAM_GOAL_COMMIT,   /* the commit has come */
    SEAM_GOAL_ATTACHED, /* the stream stands and no step is in flight */
} seam_goal;
seam_status seam_link_drive(seam_session *session, seam_goal goal, seam_error *err);
/* Receive until every allocation that is ours has one for `step`. */
seam_status seam_link_await_alloc(seam_session *session, uint64_t step, seam_error *err);
/* Credit goes back to the server, when it is worth a message. */
seam_status seam_link_grant(seam_session *session, seam_error *err);
void seam_link_close(seam_session *session);
/* The stream is of no use any more: the next drive opens another. */
void seam_link_lose(seam_session *session, const char *why);
seam_status seam_session_check_cancel(seam_session *session, seam_error *err);
/* What every call of a step begins with: SEAM_E_CANCELLED; what has stopped the session here,
 * again; SEAM_E_STATE within seam_step_commit, from a function of the caller's. */
seam_status seam_session_check(seam_session *session, seam_error *err);

/* session_record.c */
/* Of the session's journal: what seam_journal_open wants. */
uint64_t seam_record_mark(const seam_session *session);
/* At the commit: counts, rate control, the caller's note, the record.  SEAM_E_IO and what else
 * journal.h has: the step is committed at the server and not here. */
seam_status seam_step_record(seam_session *session, seam_error *err);
/* The state hash on record of that step, put into *ret_place; NULL: none. */
const uint64_t *seam_record_hash(uint64_t *ret_place, const seam_session *session, uint64_t step);
/* The server has told of a durable checkpoint; its confirmation has been sent. */
void seam_record_durable(seam_session *session, uint64_t step_count);
void seam_record_confirmed(seam_session *session);
/* Back to the state after step_count steps, between two steps.  SEAM_E_UNIMPLEMENTED: no journal;
 * SEAM_E_DATA_LOSS, SEAM_E_MEMORY, SEAM_E_IO. */
seam_status seam_record_restore(seam_session *session, uint64_t step_count, seam_error *err);
/* Journal and caches' log are closed; the coders still live. */
void seam_record_close(seam_session *session);

/* state_walk.c.  SEAM_E_FORMAT: not a state of this session, which is of no use then. */
seam_status seam_state_save(seam_buffer *ret_bytes, seam_session *session);
seam_status seam_state_load(seam_session *session, seam_buffer *bytes);
/* Only what was decided by clocks and what follows from it. */
seam_status seam_state_load_decisions(seam_session *session, seam_buffer *bytes);

/* own_part.c */
bool seam_session_has_own(const seam_session *session);
/* It is to have one: no step without. */
bool seam_session_trains_here(const seam_session *session);
/* The most that a step may be begun with. */
uint32_t seam_session_ahead_max(const seam_session *session);
/* The step's last message, where the session has a part: its share of the norm, into session->norm.
 * SEAM_E_MEMORY, what the part returns. */
seam_status seam_own_norm_make(seam_session *session, seam_error *err);
/* The commit is there. */
seam_status seam_own_apply(seam_session *session, seam_error *err);
/* A record's last piece: its state, or nothing. */
seam_status seam_own_save(seam_buffer *bytes, seam_session *session);
seam_status seam_own_load(seam_session *session, const seam_buffer *bytes, size_t at);
/* A step that was made again has given it the state that its record has.  SEAM_E_NONDETERMINISM. */
seam_status seam_own_compare(seam_session *session, const seam_buffer *record, seam_error *err);

/* receive.c: the next message of the Train stream. */
seam_status seam_receive_one(seam_session *session, seam_error *err);
/* The forward reply of micro_next that has come before, into session->y. */
seam_status seam_receive_stored(seam_session *session, seam_error *err);

/* receive.c: a frame of bwd_in or a gate signal that is wanted. */
seam_status seam_receive_chunk(seam_session *session, const seam_frame_header *header,
                               const uint8_t *payload, seam_error *err);

/* answer.c: places for bwd_in, one for each micro-batch that may be ahead (of one pass; else one),
 * and the micro-batch's. */
uint32_t seam_session_dx_count(const seam_session *session);
float *seam_session_dx(const seam_session *session, uint32_t micro);
/* answer.c: the parts of a one-pass answer, as reception_begin, seam_receive_chunk and
 * reception_end of receive.c have them for other frames. */
seam_status seam_answer_begin(seam_session *session, const seam_frame_header *header,
                              seam_error *err);
seam_status seam_answer_take(seam_session *session, const seam_frame_header *header,
                             const uint8_t *payload, seam_error *err);
/* A part's rows and payload, of an answer that may come again. */
void seam_answer_count(seam_site_row *row, const seam_frame_header *header);
seam_status seam_answer_end(seam_session *session, const seam_frame_header *header,
                            seam_error *err);

/* module_exchange.c */
seam_status seam_exchange_plan(seam_session *session, seam_error *err);
void seam_exchange_unplan(seam_session *session);
/* Of a sketch: shapes alone.  SEAM_E_ARG, SEAM_E_UNIMPLEMENTED, as seam_module_link_check. */
seam_status seam_exchange_sketch(seam_session *session, const seam_module_pair *pairs,
                                 uint32_t pair_count, seam_error *err);
/* Of a sketch: what _plan takes but for small arrays. */
uint64_t seam_exchange_memory_bytes(const seam_session *session);
/* The coder of a pair's parameters or gradients, of a session or a sketch. */
seam_coder_config seam_exchange_coder_config(const seam_session *session, uint32_t pair_idx,
                                             bool gradient);
void seam_exchange_training_read(seam_exchange_training *ret,
                                 const Seam__V1__SessionConfig *message);
/* Tensors in front of the loss of an answer: what they are; a frame of one. */
uint32_t seam_exchange_parts(const seam_session *session, uint32_t micro);
seam_tensor_expect seam_exchange_expect(const seam_session *session, uint32_t part);
seam_status seam_exchange_take(seam_session *session, uint32_t part,
                               const seam_frame_header *header, const uint8_t *payload,
                               seam_error *err);

/* tensor_io.c */
typedef struct seam_tensor_args {
    uint32_t site_idx;
    uint8_t phase;
    uint32_t micro;
    uint64_t step;
    seam_codec_id codec;
    seam_coder *coder;       /* NULL: the site's */
    const seam_alloc *alloc; /* of the paired forward site; not read for codecs without widths */
    uint32_t rows;
    seam_sequences sequences;
    const uint8_t *range_rows; /* bitmap or NULL */
    const uint32_t *row_gates; /* as seam_coder_tensor */
    const uint32_t *row_ids;   /* original rows for rounding, or NULL */
    const uint16_t *x_bf16;    /* in the place of x: as seam_coder_encode_args */
    bool stochastic;
    uint64_t seed;
} seam_tensor_args;
/* Frames of x (rows, C) appended to ret_frames; ret_decoded (rows, C) or NULL;
 * *ret_payload_bytes is added to. */
seam_status seam_tensor_encode(seam_buffer *ret_frames, float *ret_decoded,
                               uint64_t *ret_payload_bytes, seam_session *session,
                               const seam_tensor_args *args, const float *x, seam_error *err);
/* The live allocation that a frame header names; NULL for codecs without widths.
 * SEAM_E_STATE, SEAM_E_CONFLICT. */
seam_status seam_tensor_alloc(const seam_alloc **ret_alloc, const seam_site *site,
                              const seam_frame_header *header, seam_error *err);
/* Decode an accepted chunk into ret_x (whole tensor; rows row_begin.. are written).  tensor: as
 * seam_coder_decode_begin, which the first chunk calls. */
seam_status seam_tensor_decode(float *ret_x, seam_coder *coder, const seam_coder_tensor *tensor,
                               const seam_frame_header *header, const uint8_t *payload,
                               seam_error *err);
/* The frame at `offset` of a buffer of frames: its byte count. */
size_t seam_frame_bytes_at(const seam_buffer *frames, size_t offset);
seam_status seam_frame_send(seam_session *session, seam_stream_call *stream, const uint8_t *frame,
                            size_t frame_bytes, seam_error *err);
/* Pack a protobuf message into the buffer (replacing what is there). */
seam_status seam_message_pack(seam_buffer *ret_bytes, const ProtobufCMessage *message);

/* step_rows.c: rows of site 0, in the one type or the other. */
typedef struct seam_step_rows {
    const float *f32;
    const uint16_t *bf16;
} seam_step_rows;
/* The distinct rows of a micro-batch are counted whether they alone travel or all: the sites'
 * weights go by them.  SEAM_E_MEMORY. */
seam_status seam_micro_row_sources_take(seam_micro_state *state, seam_session *s,
                                        const seam_step_micro *micro, uint32_t micro_count);
/* (rows) of a micro-batch, or NULL: all rows travel. */
const uint32_t *seam_micro_row_sources(const seam_micro_state *micro);
/* All rows of a micro-batch become those of site 0's tensor.  SEAM_E_MEMORY. */
seam_status seam_step_rows_in(seam_step_rows *x, seam_session *s, const seam_micro_state *micro);
/* Rows in bf16 become f32 where the codec reads no others, or where x is compared with x^.
 * SEAM_E_MEMORY. */
seam_status seam_step_rows_suit(seam_step_rows *x, seam_session *s, const seam_micro_state *micro);

/* answer.c: a tensor went over the site (its payload bytes are counted already): rows, mean bits.
 */
void seam_site_row_count(seam_site_row *row, uint32_t rows, uint32_t alloc_version,
                         uint32_t alloc_bits_total);
/* step.c: what a step's StepBegin and tensors go by: the micro-batches, the weights of the sites,
 * StepBegin and Budget packed.  SEAM_E_ARG, SEAM_E_LIMIT, SEAM_E_MEMORY. */
seam_status seam_step_layout(seam_session *session, const seam_step_micro *micros,
                             uint32_t micro_count, seam_error *err);
/* step.c: rows of site 1 and 2 of a micro-batch, and what their coders are told of them. */
uint32_t seam_micro_rows_out(const seam_session *session, const seam_micro_state *micro);
const uint8_t *seam_micro_range_rows(const seam_session *session, const seam_micro_state *micro);
/* step.c: its sequences as sites 0 and 3 (outer) or 1 and 2 see them. */
seam_sequences seam_micro_sequences(const seam_micro_state *micro, bool outer);
/* step.c: the gate of each of its rows, as the sites see them; NULL but for codec amaq_token. */
const uint32_t *seam_micro_row_gates(const seam_micro_state *micro, bool outer);
/* timeline.c: a span of the step in flight ends. */
void seam_session_span_end(const seam_session *session, const char *name, uint32_t micro,
                           uint64_t begin_ns);
/* watch.c: where the rows of a tensor that is encoded go as the server will decode them; NULL:
 * nobody looks. */
float *seam_watch_place(seam_session *session);
/* watch.c: to who watches, if somebody does. */
void seam_watch_show(const seam_session *session, seam_watch_site site, uint32_t micro,
                     const float *rows, uint32_t row_count);
/* settle.c: what a step that has been committed means for widths and budgets. */
seam_status seam_step_settle(seam_session *session, const Seam__V1__Commit *commit,
                             seam_error *err);
/* settle.c: after the commit: the step's bytes and times into the report; the target that they
 * allow. */
void seam_step_count_bytes(seam_session *session);
void seam_step_judge_rate(seam_session *session);
void seam_step_judge_depth(seam_session *session);
/* settle.c: proposals without an answer are packed again. */
seam_status seam_step_propose_again(seam_session *session);
/* settle.c: new widths of the allocation `owned_idx`, after the commit of `step`. */
seam_status seam_step_propose(seam_session *session, uint32_t owned_idx, const uint8_t *widths,
                              uint64_t step);
/* module_settle.c: the allocations that are ours: site 0's, or in an exchange the modules'. */
uint32_t seam_owned_count(const seam_session *session);
seam_site *seam_owned_site(const seam_session *session, uint32_t owned_idx);
/* module_settle.c: the forward sites, whoever owns them; `idx` from 0, NULL: there are no more. */
const seam_site *seam_forward_site(const seam_session *session, uint32_t idx);
/* SEAM_OWNED_MAX: none of that forward site. */
uint32_t seam_owned_idx(const seam_session *session, uint32_t site_id);
/* module_settle.c: what seam_step_settle does for modules with gates.  SEAM_E_MEMORY. */
seam_status seam_exchange_settle(seam_session *session, uint64_t step, bool skipped);
/* settle.c: the ranges of the micro-batch of site 0 that was just encoded with `alloc`. */
seam_status seam_step_add_spans(seam_session *session, const seam_alloc *alloc);
/* settle.c: the gates' sums take a gate signal (surrogate) or dx (exact) of the micro-batch. */
void seam_step_add_signal(seam_session *session);

#endif
