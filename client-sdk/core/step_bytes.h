/* What the steps of a session will send, before there is one, for plans: `seam plan`, and the
 * report of `seam train`, which grades it.  Not part of libseam's manual.
 *
 * A step's micro-batches are laid out by step.c's own code and their tensors cut by the coders'
 * (kernels/codec/coder.h), so that of a codec without gates, state or entropy coder the payloads
 * are those that will travel, to the byte.  Of the others:
 *
 *   amaq                 the mean is the one that the schedule wants at the step, or that gates
 *                        without one reach by their rate; all channels are worth as much: what they
 *                        are is what a run finds out
 *   rans                 as without, which is the most
 *   aqsgd, dictionary    every sample whole, every row new, which is the most
 *
 * Left out: what opens a stream, Credit (some 20 bytes for each quarter of its window),
 * confirmations of checkpoints, and SiteReports of gates that are the server's own. */
#ifndef SEAM_STEP_BYTES_H
#define SEAM_STEP_BYTES_H

#include "module_link.h"
#include "seam.h"

typedef struct seam_step_planner seam_step_planner;

/* Ids of the boundaries' sites, of which topology adapter_exchange uses none, and of modules',
 * which it alone has: WIRE.md 1 and 1.1. */
#define SEAM_STEP_SITES 10u

/* One direction of a step.  bytes is the sum of the others. */
typedef struct seam_way_bytes {
    uint64_t bytes;
    uint64_t tensors;    /* payloads of activations, gradients, parameters and token ids */
    uint64_t headers;    /* of all frames */
    uint64_t allocation; /* of bits: gate signals, Budget, proposals and their answers */
    uint64_t control;    /* StepBegin, Commit, the loss, the norm */
    uint64_t framing;    /* messages' envelopes, gRPC, HTTP/2, TLS: as the transport counts them */
} seam_way_bytes;

typedef struct seam_step_bytes {
    seam_way_bytes sent, received; /* as seam_step_report's bytes_sent and bytes_received */
    struct {
        uint64_t rows, frames;
        uint64_t payload_bytes; /* as seam_site_state's: of site 3 with the gate signal */
    } sites[SEAM_STEP_SITES];
    double mean_bits;     /* of codecs with gates: of every width; else 0 */
    uint32_t round_trips; /* that the step waits for one after another, at least */
    bool is_exact;        /* the payloads are those that will travel */
    bool is_most;         /* no payload can be larger: all of codecs without gates */
} seam_step_bytes;

typedef struct seam_step_planner_args {
    const seam_session_options *session; /* its strings are borrowed */
    uint32_t channels;                   /* the model's hidden size */
    bool tls;                            /* the server is not reached in plaintext */
    /* Topology adapter_exchange: the pairs of module sites; else not read. */
    const seam_module_pair *modules;
    uint32_t module_count;
} seam_step_planner_args;
/* SEAM_E_ARG (err names the field), SEAM_E_UNIMPLEMENTED, SEAM_E_MEMORY. */
seam_status seam_step_planner_create(seam_step_planner **ret_planner,
                                     const seam_step_planner_args *args, seam_error *err);
void seam_step_planner_destroy(seam_step_planner *gift_planner); /* NULL is fine */
/* Step number `step` of these micro-batches, as seam_step_begin takes them.  SEAM_E_ARG,
 * SEAM_E_LIMIT, SEAM_E_MEMORY. */
seam_status seam_step_planner_step(seam_step_bytes *ret_bytes, seam_step_planner *planner,
                                   uint64_t step, const seam_step_micro *micros,
                                   uint32_t micro_count, seam_error *err);

#endif
