/* Pipeline depth by measurement: how many micro-batches of the next step are to be on their way at
 * once so that what limits a step never waits.
 *
 *   loop        seconds from a micro-batch's forward tensor leaving to its backward tensor gone:
 *               first reply + own work + backward tensor on the wire, and the server's work on
 *               another's backward tensor, which it may find there
 *   bottleneck  the largest of up, down, server and own seconds a micro-batch
 *   depth       loop / bottleneck (Little's law), and one more against noise
 *
 * The first reply of a step meets an empty pipeline, so it is the loop's first part; less the round
 * trip and the server's forward it is also the time that its bytes took, which gives the rate.
 * That is so if it was waited for.  A reply that stood there when the client had sent the others of
 * the pipeline came at some time before: then the rate is that of the others, if it is higher.
 * In one pass the reply is the micro-batch's last word: all of the server's work is before it, and
 * no tensor of ours behind it.
 *
 * The median of the last steps decides; a depth rises at once and falls by one after
 * SEAM_DEPTH_PATIENCE steps in a row.  After SEAM_DEPTH_SETTLED in a row below the most that it may
 * have, the most it had in them is the most from there on: the server reserves memory for that many
 * micro-batches, and others can have the rest.  No bit depends on it (WIRE.md section 4).  Pure:
 * what it decided is in the journal, and a replay takes it from there. */
#ifndef SEAM_DEPTH_H
#define SEAM_DEPTH_H

#include <stdbool.h>
#include <stdint.h>

#define SEAM_DEPTH_STEPS    5
#define SEAM_DEPTH_PATIENCE 4
#define SEAM_DEPTH_FIRST    2 /* before anything is known of a near server */
#define SEAM_DEPTH_SETTLED  32

/* One step, as it went; seconds and bytes of one micro-batch. */
typedef struct seam_depth_sample {
    bool one_pass; /* the loss is at the server */
    double rtt_seconds;
    double first_seconds;  /* forward tensor of the first micro-batch sent to its reply there */
    double waited_seconds; /* of them, at the end: for that reply, with nothing else to do */
    double others_seconds, others_bytes; /* sending the forward tensors in between */
    double server_seconds, own_seconds;
    double forward_bytes, backward_bytes, reply_bytes;
} seam_depth_sample;

typedef struct seam_depth {
    uint32_t max; /* the session's, until it has settled lower */
    uint32_t ahead;
    uint32_t falling;              /* samples in a row that ask for less */
    double asks[SEAM_DEPTH_STEPS]; /* of the last steps, in a ring */
    uint64_t step_count;
    uint32_t below, below_most; /* samples in a row under max, and the largest depth in them */
} seam_depth;

/* rtt_seconds: as far as it is known, 0: not.  A far server's first step has all that there is. */
void seam_depth_init(seam_depth *depth, uint32_t max, double rtt_seconds);
/* Sets depth->ahead for the next step.  A sample that makes no sense says nothing. */
void seam_depth_judge(seam_depth *depth, const seam_depth_sample *sample);

#endif
