/* Goal: AMAQ's gates follow the loss, not only beta (SPEC 3.1).  Method: the two boundaries of a
 * U-shaped run, in one process and without the network: the 260-thousand-parameter model of the
 * shared fixtures, GSM8K text in its 512 tokens, AMAQ from 6 to 3 bits with the exact signal at the
 * output and the surrogate at the input, as server and client do it.  Afterwards the learned
 * widths are permuted among the channels of each site: same bytes on the wire, and the test loss
 * must rise by more than the noise of the whole procedure over seeds.
 *
 * Reading order: train_step (a micro-batch through both sites), train, test_loss, the case. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "arena.h"
#include "blocks.h"
#include "bytes.h"
#include "codec.h"
#include "gates.h"
#include "head.h"
#include "ops.h"
#include "weights.h"

enum {
    SEQ_ROWS = 96,
    SEQS = 6,
    ROWS = SEQ_ROWS * SEQS,
    LABELLED = (SEQ_ROWS - 1) * SEQS,
    STEPS = 600,
    TEST_BATCHES = 24,
    SEEDS = 3,
    PERMUTATIONS = 5,
    CHANNELS_MAX = 64,
    VOCABULARY = 512,
    FIRST_TEXT_TOKEN = 259,
    TOKEN_BYTES_MAX = 32,
    TEXT_BYTES = 600000,
    PATH_BYTES = 1024,
    SKIPPED = 77,
};

static const float target_bits = 3.0f;

typedef struct world { /* what all runs share: the frozen model and the text */
    seam_backend *backend;
    seam_weights *weights;
    seam_blocks *blocks;
    seam_head *head;
    seam_stream *stream;
    const seam_ops *ops;
    uint32_t channels;
    uint16_t *tokens; /* of the text */
    size_t token_count;
} world;

typedef struct site { /* one forward site: gates at its owner, widths in force */
    seam_gates gates;
    uint8_t widths[CHANNELS_MAX];
    uint8_t ranges[4 + 4 * CHANNELS_MAX];
    float x[ROWS * CHANNELS_MAX], decoded[ROWS * CHANNELS_MAX];
} site;

typedef struct run {
    const world *w;
    seam_adapter *adapter;
    seam_activations *acts;
    site in, out;
    void *scratch;
    uint8_t codes[ROWS * CHANNELS_MAX * 2];
    uint32_t ids[ROWS], targets[ROWS], positions[ROWS], seq_begin[SEQS + 1];
    float state[ROWS * CHANNELS_MAX], grad[ROWS * CHANNELS_MAX], labelled_grad[ROWS * CHANNELS_MAX];
} run;

/* Sequence rows from the text: test batches come from its last quarter, training from the rest. */
static void batch_fill(run *r, uint64_t seed, uint64_t index, bool test) {
    const size_t train_count = r->w->token_count / 4 * 3;
    for (uint32_t s = 0; s < SEQS; s++) {
        const uint32_t counter[4] = {(uint32_t)index, s, test ? 1u : 0u, 0};
        const uint32_t key[2] = {(uint32_t)seed, 7};
        uint32_t random[4];
        seam_philox(random, counter, key);
        const size_t span = (test ? r->w->token_count - train_count : train_count) - SEQ_ROWS - 1;
        const size_t begin = (test ? train_count : 0) + random[0] % span;
        for (uint32_t t = 0; t < SEQ_ROWS; t++) {
            r->ids[s * SEQ_ROWS + t] = r->w->tokens[begin + t];
            r->positions[s * SEQ_ROWS + t] = t;
            if (t > 0) {
                r->targets[s * (SEQ_ROWS - 1) + t - 1] = r->w->tokens[begin + t];
            }
        }
        r->seq_begin[s + 1] = (s + 1) * SEQ_ROWS;
    }
}

/* Over the wire and back: x is encoded with the widths in force and replaced by what arrives. */
static void site_pass(run *r, site *s, float *x, uint32_t rows) {
    const uint32_t C = r->w->channels;
    memcpy(s->x, x, (size_t)rows * C * sizeof *x);
    const seam_codec_args args = {
        .id = SEAM_CODEC_AMAQ, .channels = C, .widths = s->widths, .ranges = s->ranges};
    assert_int_equal(seam_codec_measure(s->ranges, args.id, x, rows, C, NULL), SEAM_OK);
    const seam_rounding nearest = {.stochastic = false};
    assert_int_equal(seam_codec_encode(r->codes, s->decoded, &args, x, rows, &nearest, r->scratch),
                     SEAM_OK);
    memcpy(x, s->decoded, (size_t)rows * C * sizeof *x);
}

/* Labelled rows (all but the last of each sequence) of the full tensor, and back. */
static void rows_gather(float *dst, const float *src, uint32_t C) {
    for (uint32_t s = 0; s < SEQS; s++) {
        memcpy(dst + (size_t)s * (SEQ_ROWS - 1) * C, src + (size_t)s * SEQ_ROWS * C,
               (size_t)(SEQ_ROWS - 1) * C * sizeof *dst);
    }
}

static void rows_scatter(float *dst, const float *src, uint32_t C) {
    memset(dst, 0, (size_t)ROWS * C * sizeof *dst);
    for (uint32_t s = 0; s < SEQS; s++) {
        memcpy(dst + (size_t)s * SEQ_ROWS * C, src + (size_t)s * (SEQ_ROWS - 1) * C,
               (size_t)(SEQ_ROWS - 1) * C * sizeof *dst);
    }
}

/* Mean loss of the batch in r; gradients of the labelled rows when `train`. */
static double forward(run *r, bool train) {
    const world *w = r->w;
    const seam_batch batch = {
        .rows = ROWS, .seq_count = SEQS, .seq_begin = r->seq_begin, .positions = r->positions};
    assert_int_equal(seam_head_embed(w->head, w->stream, r->state, r->ids, ROWS), SEAM_OK);
    site_pass(r, &r->in, r->state, ROWS);
    assert_int_equal(
        seam_blocks_forward(w->blocks, r->adapter, r->acts, w->stream, r->state, &batch), SEAM_OK);
    static float labelled[ROWS * CHANNELS_MAX];
    rows_gather(labelled, r->state, w->channels);
    site_pass(r, &r->out, labelled, LABELLED);
    double loss_sum = 0;
    assert_int_equal(seam_head_loss(&loss_sum, train ? r->labelled_grad : NULL, NULL, w->head,
                                    w->stream, labelled, r->targets, LABELLED, 1.0f / LABELLED),
                     SEAM_OK);
    return loss_sum / LABELLED;
}

static void gates_update(site *s, const float *db, bool active) {
    const seam_gates_step_args args = {
        .db = db, .lr = 0.02f, .beta = 0.02f, .bits_loss_active = active};
    seam_gates_step(&s->gates, &args);
    seam_gates_widths(s->widths, &s->gates, 0.0f);
}

static void train_step(run *r, uint64_t seed, uint64_t step) {
    const world *w = r->w;
    const uint32_t C = w->channels;
    batch_fill(r, seed, step, false);
    (void)forward(r, true);

    float db_out[CHANNELS_MAX] = {0}, db_in[CHANNELS_MAX] = {0}, sums[CHANNELS_MAX] = {0};
    float steps[CHANNELS_MAX];
    seam_gates_add_exact(db_out, r->labelled_grad, r->out.x, r->out.decoded, r->out.widths,
                         LABELLED, C);
    rows_scatter(r->grad, r->labelled_grad, C);
    const seam_batch batch = {
        .rows = ROWS, .seq_count = SEQS, .seq_begin = r->seq_begin, .positions = r->positions};
    assert_int_equal(
        seam_blocks_backward(w->blocks, r->adapter, r->acts, w->stream, r->grad, &batch, false),
        SEAM_OK);
    const seam_codec_args args = {
        .id = SEAM_CODEC_AMAQ, .channels = C, .widths = r->in.widths, .ranges = r->in.ranges};
    assert_int_equal(seam_codec_steps(steps, &args), SEAM_OK);
    seam_gates_add_squares(sums, r->grad, ROWS, C);
    seam_gates_surrogate(db_in, sums, steps, r->in.widths, LABELLED, C);

    const seam_optimizer_config optimizer = {.lr = 1e-3f,
                                             .beta1 = 0.9f,
                                             .beta2 = 0.999f,
                                             .eps = 1e-8f,
                                             .clip_norm = 1.0f,
                                             .schedule = SEAM_SCHEDULE_CONSTANT,
                                             .total_steps = STEPS};
    double norm;
    uint64_t hash;
    assert_int_equal(seam_adapter_step(&norm, &hash, r->adapter, w->stream, &optimizer, step),
                     SEAM_OK);
    const double total = seam_gates_bits_total(&r->in.gates) + seam_gates_bits_total(&r->out.gates);
    const bool active = total / (2.0 * C) > (double)target_bits; /* soft clipping */
    gates_update(&r->in, db_in, active);
    gates_update(&r->out, db_out, active);
}

static double test_loss(run *r) {
    double sum = 0;
    for (uint64_t i = 0; i < TEST_BATCHES; i++) {
        batch_fill(r, 1, i, true); /* one test set for all runs */
        sum += forward(r, false);
    }
    return sum / TEST_BATCHES;
}

static run *run_create(const world *w, uint64_t seed) {
    run *r = seam_mem_zalloc(1, sizeof *r);
    assert_non_null(r);
    r->w = w;
    const seam_lora_config lora = {
        .rank = 8, .alpha = 16.0f, .targets = SEAM_LORA_Q | SEAM_LORA_V, .seed = seed};
    seam_gates_config gates;
    assert_true(seam_gates_preset(&gates, target_bits));
    assert_int_equal(seam_adapter_create(&r->adapter, w->blocks, &lora, NULL), SEAM_OK);
    assert_int_equal(seam_activations_create(&r->acts, w->blocks, &lora, ROWS, SEQS, NULL),
                     SEAM_OK);
    assert_int_equal(seam_gates_init(&r->in.gates, &gates, w->channels), SEAM_OK);
    assert_int_equal(seam_gates_init(&r->out.gates, &gates, w->channels), SEAM_OK);
    seam_gates_widths(r->in.widths, &r->in.gates, 0.0f);
    seam_gates_widths(r->out.widths, &r->out.gates, 0.0f);
    r->scratch = seam_mem_alloc_aligned(seam_codec_scratch_bytes(w->channels));
    assert_non_null(r->scratch);
    return r;
}

static void run_destroy(run *r) {
    seam_mem_free(r->scratch);
    seam_gates_deinit(&r->in.gates);
    seam_gates_deinit(&r->out.gates);
    seam_activations_destroy(r->acts);
    seam_adapter_destroy(r->adapter);
    seam_mem_free(r);
}

/* Fisher-Yates with Philox; the total, and so the bytes on the wire, stay the same. */
static void permute(uint8_t *widths, uint32_t count, uint32_t seed, uint32_t stream) {
    for (uint32_t i = count - 1; i > 0; i--) {
        const uint32_t counter[4] = {i, stream, 0, 0};
        const uint32_t key[2] = {seed, 99};
        uint32_t random[4];
        seam_philox(random, counter, key);
        const uint32_t j = random[0] % (i + 1);
        const uint8_t kept = widths[i];
        widths[i] = widths[j];
        widths[j] = kept;
    }
}

static void test_gates__widths_permuted__test_loss_rises(void **state) {
    const world *w = *state;
    const uint32_t C = w->channels;
    double learned[SEEDS], rise_min = INFINITY, rise_sum = 0, mean = 0, spread = 0;
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        run *r = run_create(w, seed);
        for (uint64_t step = 0; step < STEPS; step++) {
            train_step(r, seed, step);
        }
        const double bits =
            (seam_gates_bits_total(&r->in.gates) + seam_gates_bits_total(&r->out.gates)) /
            (2.0 * C);
        assert_true(fabs(bits - (double)target_bits) <= 0.1);
        learned[seed] = test_loss(r);
        uint8_t in[CHANNELS_MAX], out[CHANNELS_MAX];
        memcpy(in, r->in.widths, C);
        memcpy(out, r->out.widths, C);
        double permuted = 0;
        for (uint32_t p = 0; p < PERMUTATIONS; p++) {
            memcpy(r->in.widths, in, C);
            memcpy(r->out.widths, out, C);
            permute(r->in.widths, C, p, 0);
            permute(r->out.widths, C, p, 1);
            permuted += test_loss(r) / PERMUTATIONS;
        }
        const double rise = permuted - learned[seed];
        rise_min = fmin(rise_min, rise);
        rise_sum += rise;
        mean += learned[seed] / SEEDS;
        print_message("seed %u: mean bits %.3f, test loss learned %.4f, permuted %.4f\n", seed,
                      bits, learned[seed], permuted);
        run_destroy(r);
    }
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        spread += (learned[seed] - mean) * (learned[seed] - mean) / (SEEDS - 1);
    }
    print_message("rise by permuting %.4f (least %.4f), seed noise (one sigma) %.4f\n",
                  rise_sum / SEEDS, rise_min, sqrt(spread));
    assert_true(rise_min > 0.0);                        /* in every seed */
    assert_true(rise_sum / SEEDS > 2.0 * sqrt(spread)); /* and beyond two sigma */
}

/* ---- Set-up ---- */

typedef struct vocabulary { /* tok512.bin; shared/fixtures/README.md has its layout */
    uint8_t bytes[VOCABULARY][TOKEN_BYTES_MAX];
    uint32_t counts[VOCABULARY];
} vocabulary;

static bool vocabulary_read(vocabulary *ret, const char *path) {
    FILE *file = fopen(path, "rb");
    uint8_t head[8];
    bool ok = file != NULL && fread(head, 1, 4, file) == 4;
    for (uint32_t i = 0; ok && i < VOCABULARY; i++) {
        ok = fread(head, 1, 8, file) == 8; /* score, count */
        ret->counts[i] = seam_get_u32(head + 4);
        ok = ok && ret->counts[i] <= TOKEN_BYTES_MAX &&
             fread(ret->bytes[i], 1, ret->counts[i], file) == ret->counts[i];
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return ok;
}

/* Longest match; a byte that begins no token becomes its byte token (3 is byte 0). */
static uint16_t token_at(const vocabulary *v, const uint8_t *text, size_t left,
                         uint32_t *ret_count) {
    uint16_t best = (uint16_t)(3 + text[0]);
    *ret_count = 0;
    for (uint32_t i = FIRST_TEXT_TOKEN; i < VOCABULARY; i++) {
        if (v->counts[i] > *ret_count && v->counts[i] <= left &&
            memcmp(v->bytes[i], text, v->counts[i]) == 0) {
            best = (uint16_t)i;
            *ret_count = v->counts[i];
        }
    }
    if (*ret_count == 0) {
        *ret_count = 1;
    }
    return best;
}

static bool tokens_read(world *w, const char *text_path, const char *vocabulary_path) {
    vocabulary *v = seam_mem_alloc(sizeof *v);
    uint8_t *text = seam_mem_alloc(TEXT_BYTES);
    w->tokens = seam_mem_zalloc(TEXT_BYTES, sizeof *w->tokens);
    gzFile file = gzopen(text_path, "rb");
    const bool ok = v != NULL && text != NULL && w->tokens != NULL && file != NULL &&
                    gzread(file, text, TEXT_BYTES) == TEXT_BYTES &&
                    vocabulary_read(v, vocabulary_path);
    for (size_t at = 0; ok && at < TEXT_BYTES;) {
        uint32_t count;
        w->tokens[w->token_count++] = token_at(v, text + at, TEXT_BYTES - at, &count);
        at += count;
    }
    if (file != NULL) {
        (void)gzclose(file);
    }
    seam_mem_free(text);
    seam_mem_free(v);
    return ok;
}

static void shared_path(char ret_path[PATH_BYTES], const char *name) {
    const char *shared = getenv("SEAM_SHARED_DIR");
    (void)snprintf(ret_path, PATH_BYTES, "%s/%s",
                   shared != NULL ? shared : SEAM_SOURCE_DIR "/../shared", name);
}

static int world_setup(void **state) {
    static world w;
    char text[PATH_BYTES], words[PATH_BYTES];
    shared_path(text, "data/gsm8k/train.jsonl.gz");
    shared_path(words, "fixtures/stories260k/tok512.bin");
    if (!tokens_read(&w, text, words)) {
        return -1;
    }
    seam_error err = {0};
    const seam_backend_options options = {.device = "cpu", .act = SEAM_F32, .threads = 1};
    const char *model = SEAM_BINARY_DIR "/models/stories260k";
    if (seam_backend_create(&w.backend, &options, &err) != SEAM_OK ||
        seam_weights_open(&w.weights, model, &err) != SEAM_OK ||
        seam_blocks_create(&w.blocks, w.backend, w.weights, 0,
                           seam_weights_config(w.weights)->layers, &err) != SEAM_OK ||
        seam_head_create(&w.head, w.backend, w.weights, &err) != SEAM_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    w.ops = seam_backend_ops(w.backend);
    w.channels = seam_weights_config(w.weights)->hidden;
    *state = &w;
    return w.ops->stream_create(&w.stream, w.backend) == SEAM_OK ? 0 : -1;
}

static int world_teardown(void **state) {
    world *w = *state;
    w->ops->stream_destroy(w->stream);
    seam_head_destroy(w->head);
    seam_blocks_destroy(w->blocks);
    seam_weights_close(w->weights);
    seam_backend_destroy(w->backend);
    seam_mem_free(w->tokens);
    return 0;
}

int main(void) {
    char path[PATH_BYTES];
    shared_path(path, "data/gsm8k/train.jsonl.gz");
    if (access(path, R_OK) != 0) {
        (void)printf("skipped: no shared data at %s\n", path);
        return SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gates__widths_permuted__test_loss_rises),
    };
    return cmocka_run_group_tests(tests, world_setup, world_teardown);
}
