/* Training and test steps over both sites: see stories_run.h. */
#include "stories_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "arena.h"
#include "bytes.h"
#include "codec.h"
#include "gates.h"
#include "try.h"

enum {
    VOCABULARY = 512,
    FIRST_TEXT_TOKEN = 259,
    TOKEN_BYTES_MAX = 32,
    TEXT_BYTES = 600000,
    PATH_BYTES = 1024,
};

/* Sequence rows from the text: test batches come from its last quarter, training from the rest. */
static void batch_fill(stories_run *r, uint64_t seed, uint64_t index, bool test) {
    const size_t train_count = r->w->token_count / 4 * 3;
    for (uint32_t s = 0; s < STORIES_SEQS; s++) {
        const uint32_t counter[4] = {(uint32_t)index, s, test ? 1u : 0u, 0};
        const uint32_t key[2] = {(uint32_t)seed, 7};
        uint32_t random[4];
        seam_philox(random, counter, key);
        const size_t span =
            (test ? r->w->token_count - train_count : train_count) - STORIES_SEQ_ROWS - 1;
        const size_t begin = (test ? train_count : 0) + random[0] % span;
        for (uint32_t t = 0; t < STORIES_SEQ_ROWS; t++) {
            r->ids[s * STORIES_SEQ_ROWS + t] = r->w->tokens[begin + t];
            r->positions[s * STORIES_SEQ_ROWS + t] = t;
            if (t > 0) {
                r->targets[s * (STORIES_SEQ_ROWS - 1) + t - 1] = r->w->tokens[begin + t];
            }
        }
        r->seq_begin[s + 1] = (s + 1) * STORIES_SEQ_ROWS;
    }
}

/* Over the wire and back: x is encoded with the widths in force and replaced by what arrives. */
static void site_pass(stories_run *r, stories_site *s, float *x, uint32_t rows) {
    const uint32_t C = r->w->channels;
    memcpy(s->x, x, (size_t)rows * C * sizeof *x);
    if (s->widths[0] == 0) {
        return;
    }
    const seam_codec_args args = {
        .id = SEAM_CODEC_AMAQ, .channels = C, .widths = s->widths, .ranges = s->ranges};
    SEAM_ASSERT(seam_codec_measure(s->ranges, args.id, x, rows, C, NULL) == SEAM_OK);
    const seam_rounding nearest = {.stochastic = false};
    SEAM_ASSERT(seam_codec_encode(r->codes, s->decoded, &args, x, rows, &nearest, r->scratch) ==
                SEAM_OK);
    memcpy(x, s->decoded, (size_t)rows * C * sizeof *x);
}

/* Labelled rows (all but the last of each sequence) of the full tensor, and back. */
static void rows_gather(float *dst, const float *src, uint32_t C) {
    for (uint32_t s = 0; s < STORIES_SEQS; s++) {
        memcpy(dst + (size_t)s * (STORIES_SEQ_ROWS - 1) * C, src + (size_t)s * STORIES_SEQ_ROWS * C,
               (size_t)(STORIES_SEQ_ROWS - 1) * C * sizeof *dst);
    }
}

static void rows_scatter(float *dst, const float *src, uint32_t C) {
    memset(dst, 0, (size_t)STORIES_ROWS * C * sizeof *dst);
    for (uint32_t s = 0; s < STORIES_SEQS; s++) {
        memcpy(dst + (size_t)s * STORIES_SEQ_ROWS * C, src + (size_t)s * (STORIES_SEQ_ROWS - 1) * C,
               (size_t)(STORIES_SEQ_ROWS - 1) * C * sizeof *dst);
    }
}

/* Mean loss of the batch in r; gradients of the labelled rows when `train`. */
static double forward(stories_run *r, bool train) {
    const stories_world *w = r->w;
    const seam_batch batch = {.rows = STORIES_ROWS,
                              .seq_count = STORIES_SEQS,
                              .seq_begin = r->seq_begin,
                              .positions = r->positions};
    SEAM_ASSERT(seam_head_embed(w->head, w->stream, r->state, r->ids, STORIES_ROWS) == SEAM_OK);
    site_pass(r, &r->in, r->state, STORIES_ROWS);
    SEAM_ASSERT(seam_blocks_forward(w->blocks, r->adapter, r->acts, w->stream, r->state, &batch) ==
                SEAM_OK);
    static float labelled[STORIES_ROWS * STORIES_CHANNELS_MAX];
    rows_gather(labelled, r->state, w->channels);
    site_pass(r, &r->out, labelled, STORIES_LABELLED);
    double loss_sum = 0;
    SEAM_ASSERT(seam_head_loss(&loss_sum, train ? r->labelled_grad : NULL, NULL, w->head, w->stream,
                               labelled, r->targets, STORIES_LABELLED,
                               1.0f / STORIES_LABELLED) == SEAM_OK);
    return loss_sum / STORIES_LABELLED;
}

static void signals_take(stories_site *s, const stories_run *r, const float *g, uint32_t rows) {
    const uint32_t C = r->w->channels;
    memset(s->db_exact, 0, sizeof s->db_exact);
    memset(s->db_surrogate, 0, sizeof s->db_surrogate);
    memset(s->squares, 0, sizeof s->squares);
    if (s->widths[0] == 0) {
        return;
    }
    float steps[STORIES_CHANNELS_MAX];
    const seam_codec_args args = {
        .id = SEAM_CODEC_AMAQ, .channels = C, .widths = s->widths, .ranges = s->ranges};
    SEAM_ASSERT(seam_codec_steps(steps, &args) == SEAM_OK);
    seam_gates_add_exact(s->db_exact, g, s->x, s->decoded, s->widths, rows, C);
    seam_gates_add_squares(s->squares, g, rows, C);
    seam_gates_surrogate(s->db_surrogate, s->squares, steps, s->widths, STORIES_LABELLED, C);
    for (uint32_t c = 0; c < C; c++) {
        s->spans[c] = steps[c] * (float)((1u << s->widths[c]) - 1u);
    }
}

/* What the server gets of the output gradient: coded with site 1's widths, own ranges. */
static void gradient_pass(stories_run *r, uint64_t seed, uint64_t step) {
    uint8_t ranges[4 + 4 * STORIES_CHANNELS_MAX];
    if (!r->gradients_coded || r->out.widths[0] == 0) {
        return;
    }
    const seam_codec_args args = {.id = SEAM_CODEC_AMAQ,
                                  .channels = r->w->channels,
                                  .widths = r->out.widths,
                                  .ranges = ranges};
    const seam_rounding rounding = {.stochastic = true, .seed = seed, .step = step, .site = 2};
    SEAM_ASSERT(seam_codec_measure(ranges, args.id, r->labelled_grad, STORIES_LABELLED,
                                   args.channels, NULL) == SEAM_OK);
    SEAM_ASSERT(seam_codec_encode(r->codes, r->labelled_grad, &args, r->labelled_grad,
                                  STORIES_LABELLED, &rounding, r->scratch) == SEAM_OK);
}

double stories_run_step(stories_run *run, uint64_t seed, uint64_t step) {
    stories_run *r = run;
    const stories_world *w = r->w;
    batch_fill(r, seed, step, false);
    const double loss = forward(r, true);
    gradient_pass(r, seed, step);
    signals_take(&r->out, r, r->labelled_grad, STORIES_LABELLED);
    rows_scatter(r->grad, r->labelled_grad, w->channels);
    const seam_batch batch = {.rows = STORIES_ROWS,
                              .seq_count = STORIES_SEQS,
                              .seq_begin = r->seq_begin,
                              .positions = r->positions};
    SEAM_ASSERT(seam_blocks_backward(w->blocks, r->adapter, r->acts, w->stream, r->grad, &batch,
                                     false) == SEAM_OK);
    signals_take(&r->in, r, r->grad, STORIES_ROWS);
    const seam_optimizer_config optimizer = {.lr = 1e-3f,
                                             .beta1 = 0.9f,
                                             .beta2 = 0.999f,
                                             .eps = 1e-8f,
                                             .clip_norm = 1.0f,
                                             .schedule = SEAM_SCHEDULE_CONSTANT,
                                             .total_steps = 1};
    double norm;
    uint64_t hash;
    SEAM_ASSERT(seam_adapter_step(&norm, &hash, r->adapter, w->stream, &optimizer, step) ==
                SEAM_OK);
    return loss;
}

double stories_run_test_loss(stories_run *run) {
    double sum = 0;
    for (uint64_t i = 0; i < STORIES_TEST_BATCHES; i++) {
        batch_fill(run, 1, i, true); /* one test set for all runs */
        sum += forward(run, false);
    }
    return sum / STORIES_TEST_BATCHES;
}

stories_run *stories_run_create(const stories_world *world, uint64_t seed) {
    stories_run *r = seam_mem_zalloc(1, sizeof *r);
    SEAM_ASSERT(r != NULL);
    SEAM_ASSERT(world->channels <= STORIES_CHANNELS_MAX);
    r->w = world;
    const seam_adapter_config lora = {
        .lora = {.rank = 8, .alpha = 16.0f, .targets = SEAM_LORA_Q | SEAM_LORA_V, .seed = seed}};
    SEAM_ASSERT(seam_adapter_create(&r->adapter, world->blocks, &lora, NULL) == SEAM_OK);
    const seam_activations_options options = {
        .adapter = &lora, .rows_max = STORIES_ROWS, .seqs_max = STORIES_SEQS};
    SEAM_ASSERT(seam_activations_create(&r->acts, world->blocks, &options, NULL) == SEAM_OK);
    r->scratch = seam_mem_alloc_aligned(seam_codec_scratch_bytes(world->channels));
    SEAM_ASSERT(r->scratch != NULL);
    return r;
}

void stories_run_destroy(stories_run *gift_run) {
    seam_mem_free(gift_run->scratch);
    seam_activations_destroy(gift_run->acts);
    seam_adapter_destroy(gift_run->adapter);
    seam_mem_free(gift_run);
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

static bool tokens_read(stories_world *w, const char *text_path, const char *vocabulary_path) {
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

bool stories_data_present(void) {
    char path[PATH_BYTES];
    shared_path(path, "data/gsm8k/train.jsonl.gz");
    return access(path, R_OK) == 0;
}

bool stories_world_open(stories_world *ret_world) {
    stories_world w = {0};
    char text[PATH_BYTES], words[PATH_BYTES];
    shared_path(text, "data/gsm8k/train.jsonl.gz");
    shared_path(words, "fixtures/stories260k/tok512.bin");
    if (!tokens_read(&w, text, words)) {
        (void)fprintf(stderr, "%s or %s: not readable\n", text, words);
        return false;
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
        return false;
    }
    w.ops = seam_backend_ops(w.backend);
    w.channels = seam_weights_config(w.weights)->hidden;
    *ret_world = w;
    return w.ops->stream_create(&ret_world->stream, w.backend) == SEAM_OK;
}

void stories_world_close(stories_world *world) {
    world->ops->stream_destroy(world->stream);
    seam_head_destroy(world->head);
    seam_blocks_destroy(world->blocks);
    seam_weights_close(world->weights);
    seam_backend_destroy(world->backend);
    seam_mem_free(world->tokens);
}
