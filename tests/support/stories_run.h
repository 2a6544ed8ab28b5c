/* Two boundaries of a U-shaped run in one process, without the network: the 260-thousand-parameter
 * model of the shared fixtures, GSM8K text in its 512 tokens, both forward sites and the output
 * gradient through the codec as client and server do it.  What decides the widths is the caller's:
 * tests/e2e/test_gates_follow_loss.c, tests/bench/bench_allocators.c.
 *
 * Any failure aborts: this is a fixture. */
#ifndef SEAM_STORIES_RUN_H
#define SEAM_STORIES_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "blocks.h"
#include "head.h"
#include "ops.h"
#include "weights.h"

enum {
    STORIES_SEQ_ROWS = 96,
    STORIES_SEQS = 6,
    STORIES_ROWS = STORIES_SEQ_ROWS * STORIES_SEQS,
    STORIES_LABELLED = (STORIES_SEQ_ROWS - 1) * STORIES_SEQS,
    STORIES_TEST_BATCHES = 24,
    STORIES_CHANNELS_MAX = 64,
};

typedef struct stories_world { /* what all runs share: the frozen model and the text */
    seam_backend *backend;
    seam_weights *weights;
    seam_blocks *blocks;
    seam_head *head;
    seam_stream *stream;
    const seam_ops *ops;
    uint32_t channels;
    uint16_t *tokens; /* of the text */
    size_t token_count;
} stories_world;

typedef struct stories_site {             /* one forward site */
    uint8_t widths[STORIES_CHANNELS_MAX]; /* in force; all 0: the values pass as they are */
    uint8_t ranges[4 + 4 * STORIES_CHANNELS_MAX];
    float x[STORIES_ROWS * STORIES_CHANNELS_MAX], decoded[STORIES_ROWS * STORIES_CHANNELS_MAX];
    /* Of the last training step: both gate signals, sum_t g^2, hi - lo. */
    float db_exact[STORIES_CHANNELS_MAX], db_surrogate[STORIES_CHANNELS_MAX];
    float squares[STORIES_CHANNELS_MAX], spans[STORIES_CHANNELS_MAX];
} stories_site;

typedef struct stories_run {
    const stories_world *w;
    seam_adapter *adapter;
    seam_activations *acts;
    stories_site in, out;
    bool gradients_coded; /* the output gradient travels with site 1's widths */
    void *scratch;
    uint8_t codes[STORIES_ROWS * STORIES_CHANNELS_MAX * 2];
    uint32_t ids[STORIES_ROWS], targets[STORIES_ROWS], positions[STORIES_ROWS];
    uint32_t seq_begin[STORIES_SEQS + 1];
    float state[STORIES_ROWS * STORIES_CHANNELS_MAX];
    float grad[STORIES_ROWS * STORIES_CHANNELS_MAX];
    float labelled_grad[STORIES_ROWS * STORIES_CHANNELS_MAX];
} stories_run;

/* False where the shared data are missing (the caller exits 77). */
bool stories_data_present(void);
bool stories_world_open(stories_world *ret_world); /* false: stderr says why */
void stories_world_close(stories_world *world);

/* The adapter's seed also picks the training batches.  All widths are 0. */
stories_run *stories_run_create(const stories_world *world, uint64_t seed);
void stories_run_destroy(stories_run *gift_run);
/* Forward, backward, the sites' signals, the adapter's step; the loss of the batch. */
double stories_run_step(stories_run *run, uint64_t seed, uint64_t step);
/* Mean over a fixed set of batches from the text's last quarter. */
double stories_run_test_loss(stories_run *run);

#endif
