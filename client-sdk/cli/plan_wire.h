/* Bytes and time of a run's steps before there is one: `seam plan`, and `seam train`, whose report
 * grades them.  client-sdk/core/step_bytes.h makes the bytes of one step.
 *
 * The steps are those of a data set, in the run's order, or steps of full rows: all distinct as far
 * as the vocabulary allows, all labelled, so that no step of such sizes has more.  Figures are
 * means over the run's steps; of a long run the first and SEAM_PLAN_STEPS_MAX - 1 others, evenly
 * spread, stand for all. */
#ifndef SEAM_PLAN_WIRE_H
#define SEAM_PLAN_WIRE_H

#include <jansson.h>

#include "batcher.h"
#include "model_config.h"
#include "step_bytes.h"

#define SEAM_PLAN_STEPS_MAX 256u

/* As seam_way_bytes. */
typedef struct seam_plan_way {
    double bytes, tensors, headers, allocation, control, framing;
} seam_plan_way;

typedef struct seam_plan_wire {
    seam_plan_way sent, received;
    struct {
        double rows, payload_bytes;
    } sites[SEAM_STEP_SITES]; /* seam_plan_site_names */
    double micros, tokens, labelled_tokens, mean_bits, round_trips;
    uint64_t steps;      /* of the run */
    uint32_t step_count; /* that were laid out */
    bool by_data;
    bool is_exact; /* the tensors' bytes are those that will travel */
    bool is_most;  /* no more can */
} seam_plan_wire;
extern const char *const seam_plan_site_names[SEAM_STEP_SITES];
bool seam_plan_site_is_sent(uint32_t site); /* by this end */

/* Steps of full rows: micro-batches of so many sequences of so many rows. */
typedef struct seam_plan_full {
    uint32_t sequence_rows; /* one token less than a row of data has */
    uint32_t sequences;     /* of a step */
    uint32_t rows_max;      /* of a micro-batch, at least sequence_rows */
} seam_plan_full;

typedef struct seam_plan_wire_args {
    const seam_session_options *session;
    const seam_model_config *model;
    bool tls;
    uint64_t steps;
    seam_batcher *batcher; /* or NULL: */
    seam_plan_full full;
} seam_plan_wire_args;

/* SEAM_E_ARG (err names the session's field), SEAM_E_LIMIT, SEAM_E_MEMORY, SEAM_E_UNIMPLEMENTED. */
seam_status seam_plan_wire_make(seam_plan_wire *ret_wire, const seam_plan_wire_args *args,
                                seam_error *err);
json_t *seam_plan_wire_json(const seam_plan_wire *wire);
void seam_plan_wire_print(const seam_plan_wire *wire);

/* Of a step: what the caller says of link and server.  0: not said. */
typedef struct seam_plan_link {
    float mbit, rtt_ms, server_tokens_per_s;
} seam_plan_link;
/* The parts that are known, one after another; what this end computes is in none of them. */
typedef struct seam_plan_time {
    double sent_seconds, received_seconds, rtt_seconds; /* 0 without mbit */
    double server_seconds;                              /* 0 without server_tokens_per_s */
    double seconds;
} seam_plan_time;
seam_plan_time seam_plan_time_make(const seam_plan_wire *wire, const seam_plan_link *link);
/* NULL: nothing was said. */
json_t *seam_plan_time_json(const seam_plan_wire *wire, const seam_plan_link *link);
void seam_plan_time_print(const seam_plan_wire *wire, const seam_plan_link *link);

#endif
