/* A tiny synthetic model, a session of one micro-batch on it and everything that the micro-batch
 * shows: what the tests of trainer.h share.  For test programs only. */
#ifndef SEAM_TEST_TRAINER_FIXTURE_H
#define SEAM_TEST_TRAINER_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "bytes.h"
#include "synthetic_model.h"
#include "token_gates.h"
#include "trainer.h"
#include "walk.h"

enum { T = 70, C = 26 };

static const seam_model_config model_config = {.architecture = "llama",
                                               .vocab_count = 53,
                                               .hidden = C,
                                               .intermediate = 37,
                                               .layers = 2,
                                               .heads = 6,
                                               .kv_heads = 2,
                                               .head_dim = 20,
                                               .context_max = 80,
                                               .rms_eps = 1e-5f,
                                               .rope_theta = 10000.0,
                                               .bos_id = -1,
                                               .eos_id = -1};
static const seam_adapter_config lora = {
    .lora = {.rank = 3, .alpha = 6, .targets = 0x7f, .seed = 5}};
static const uint32_t sequence_rows[] = {40, 1, 29};

typedef struct fixture {
    seam_test_engine engine;
    seam_model model;
    uint8_t bitmap[(T + 7) / 8];
    uint32_t labelled;
    const uint32_t *row_sources; /* (T), or NULL: as seam_micro_layout */
    uint32_t rows_in;
    const uint32_t *odd_rows; /* (3), or NULL: sequence_rows of micro-batches with an odd number */
} fixture;

static inline bool is_labelled(uint32_t row) {
    return row % 3 == 1 || row == T - 2;
}

static inline int fixture_open(void **state, const seam_model_config *config, const char *device) {
    fixture *f = test_calloc(1, sizeof *f);
    const seam_tensor_source source = seam_synthetic_source(config);
    const seam_backend_options options = {.device = device, .act = SEAM_F32, .threads = 2};
    assert_true(seam_test_engine_open(&f->engine, &options, &source, &lora, T));
    f->model = (seam_model){
        .id = "tiny", .blocks = f->engine.blocks, .config = seam_blocks_config(f->engine.blocks)};
    for (uint32_t row = 0; row < T; row++) {
        if (is_labelled(row)) {
            f->bitmap[row / 8] = (uint8_t)(f->bitmap[row / 8] | 1u << row % 8);
            f->labelled++;
        }
    }
    *state = f;
    return 0;
}

static inline int setup(void **state) {
    return fixture_open(state, &model_config, "cpu");
}

static inline int teardown(void **state) {
    fixture *f = *state;
    seam_test_engine_close(&f->engine);
    test_free(f);
    return 0;
}

static inline seam_session_config config_of(const fixture *f, seam_codec_id codec) {
    seam_session_config config = {
        .model = &f->model,
        .adapter = lora,
        .server_trains = true,
        .optimizer = {.lr = 1e-3f,
                      .beta1 = 0.9f,
                      .beta2 = 0.999f,
                      .eps = 1e-8f,
                      .schedule = SEAM_SCHEDULE_CONSTANT},
        .codec = {.codec_in = codec, .codec_out = codec, .bits = 4},
        .beta = 0.02f,
        .bits_lr = 0.7f, /* far enough that one step moves widths */
        .alloc_lag_steps = 2,
        .labelled_rows_only = true,
        .seed = 99,
        .limits = {.rows_max = T, .sequences_max = 3, .micros_max = 2, .positions_max = 80},
    };
    assert_true(seam_gates_preset(&config.gates, 4));
    return config;
}

SEAM_ON_GPU static inline seam_trainer *trainer_open(fixture *f,
                                                     const seam_session_config *config) {
    seam_trainer *trainer = NULL;
    seam_error err = {0};
    seam_test_check(seam_trainer_create(&trainer, config, f->engine.stream, &err), "trainer", &err);
    return trainer;
}

static inline void micro_set(const fixture *f, seam_trainer *trainer, uint64_t step, uint32_t micro,
                             uint32_t micro_count) {
    seam_micro *m = seam_trainer_micro(trainer);
    const uint32_t *sequences = f->odd_rows != NULL && micro % 2 == 1 ? f->odd_rows : sequence_rows;
    m->step = step;
    m->micro = micro;
    m->micro_count = micro_count;
    m->labelled_total = (uint64_t)f->labelled * micro_count;
    m->layout = (seam_micro_layout){.rows = T,
                                    .sequence_count = 3,
                                    .sequence_rows = sequences,
                                    .row_sources = f->row_sources,
                                    .rows_in = f->row_sources != NULL ? f->rows_in : T,
                                    .labelled_count = f->labelled};
    m->bitmap = f->bitmap;
    m->out_count = f->labelled;
    seam_sequence_labelled_counts(m->sequence_out, sequences, 3, f->bitmap);
    uint32_t count = 0;
    for (uint32_t row = 0; row < T; row++) {
        if (is_labelled(row)) {
            m->out_rows[count++] = row;
        }
    }
}

static inline float *values_new(const char *name, float scale) {
    float *x = test_calloc((size_t)T * C, sizeof *x);
    seam_synthetic_fill(x, name, (size_t)T * C, scale);
    for (uint32_t i = 0; i < T * C; i++) {
        x[i] *= (float)(1 + i % C); /* channels of different ranges */
    }
    return x;
}

/* Chunks of a reply, as a receiver finds them. */
static inline uint32_t chunks_of(seam_chunk *ret_chunks, seam_frame_header *ret_header,
                                 const seam_reply *reply) {
    for (uint32_t i = 0; i < reply->message_count; i++) {
        seam_walk walk;
        seam_error err = {0};
        const uint8_t *payload = NULL;
        const struct seam_reply_message *message = &reply->messages[i];
        seam_test_check(
            seam_walk_message(&walk, reply->bytes + message->offset, message->message_bytes, &err),
            "walk", &err);
        assert_int_equal(walk.field, SEAM_MESSAGE_FRAME_FIELD);
        seam_test_check(seam_frame_open(ret_header, &payload, walk.body, walk.body_bytes, &err),
                        "frame", &err);
        ret_chunks[i] = seam_chunk_of(ret_header, payload);
    }
    return reply->message_count;
}

/* By token: the gates of the rows of a site, of all rows or the labelled ones. */
static inline const uint32_t *row_gates_of(const seam_session_config *config, const fixture *f,
                                           uint16_t site) {
    static uint32_t gates[2][T];
    const bool outer = site == SEAM_SITE_FWD_IN || site == SEAM_SITE_BWD_IN;
    const bool all = outer || !config->labelled_rows_only;
    seam_token_gates_fill(gates[all], sequence_rows, 3, all ? NULL : f->bitmap, T);
    return gates[all];
}

/* A client's tensor: encoded into `reply`, staged, and decoded into ret (rows, C). */
static inline void stage(float *ret, seam_reply *reply, seam_trainer *trainer,
                         const seam_session_config *config, const seam_tensor_encode_args *args) {
    const seam_coder_config coder = seam_session_config_coder(config, args->header.site);
    seam_tensor_encode_args full = *args;
    seam_staging *in = seam_trainer_staging(trainer, args->header.site == SEAM_SITE_FWD_IN
                                                         ? 0
                                                         : seam_trainer_staging_count(trainer) - 1);
    seam_frame_header header;
    seam_error err = {0};
    assert_int_equal(seam_coder_create(&full.coder, &coder), SEAM_OK);
    full.decoded = ret;
    full.header.kind = SEAM_FRAME_TENSOR;
    full.header.codec = (uint8_t)seam_session_config_codec(config, full.header.site);
    full.header.channels = C;
    seam_test_check(seam_tensor_encode(reply, &full, &err), "encode", &err);
    seam_coder_destroy(full.coder);
    in->chunk_count = chunks_of(in->chunks, &header, reply);
}

static inline const seam_alloc *alloc_of(seam_trainer *trainer, uint16_t site, uint64_t step) {
    const seam_alloc *alloc = NULL;
    assert_int_equal(seam_site_alloc_at(&alloc, seam_trainer_site(trainer, site), step), SEAM_OK);
    return alloc->widths != NULL ? alloc : NULL;
}

/* Everything one micro-batch shows: decoded input, decoded output rows, decoded gradient rows, gate
 * signal or input gradient. */
typedef struct pass {
    float *in, *out, *g, *answer;
    seam_step_result result;
    uint32_t rows_out;
} pass;

static inline pass pass_new(void) {
    const size_t count = (size_t)T * C;
    return (pass){.in = test_calloc(count, sizeof(float)),
                  .out = test_calloc(count, sizeof(float)),
                  .g = test_calloc(count, sizeof(float)),
                  .answer = test_calloc(count, sizeof(float))};
}

static inline void pass_free(pass *p) {
    test_free(p->in);
    test_free(p->out);
    test_free(p->g);
    test_free(p->answer);
}

static inline void reply_decode(float *ret, const seam_reply *reply,
                                const seam_session_config *config, const fixture *f,
                                const seam_alloc *alloc) {
    seam_chunk chunks[T / SEAM_GROUP_ROWS + 2];
    seam_frame_header header = {0};
    seam_error err = {0};
    const uint32_t count = chunks_of(chunks, &header, reply);
    if (header.kind == SEAM_FRAME_GATE_SIGNAL) {
        for (uint32_t c = 0; c < header.channels; c++) {
            ret[c] = seam_get_f32(chunks[count - 1].payload + 4 * (size_t)c);
        }
        return;
    }
    const seam_coder_config coder = seam_session_config_coder(config, header.site);
    seam_tensor_decode_args args = {.chunks = chunks,
                                    .chunk_count = count,
                                    .tensor = {.codec = (seam_codec_id)header.codec,
                                               .alloc = alloc,
                                               .row_gates = row_gates_of(config, f, header.site)}};
    assert_int_equal(seam_coder_create(&args.coder, &coder), SEAM_OK);
    seam_test_check(seam_tensor_decode(ret, &args, &err), "reply", &err);
    seam_coder_destroy(args.coder);
}

/* Rows of sites 1 and 2 out of T rows. */
static inline void pick(float *ret, const float *rows, bool labelled_only) {
    for (uint32_t row = 0, next = 0; row < T; row++) {
        if (!labelled_only || is_labelled(row)) {
            memcpy(ret + (size_t)next++ * C, rows + (size_t)row * C, C * sizeof(float));
        }
    }
}

/* A reply of room enough for a client's tensor. */
static inline seam_reply client_reply(seam_arena *arena) {
    seam_reply reply;
    const seam_coder_config largest = {.codec = SEAM_CODEC_F32, .channels = C, .rows_max = T};
    const size_t bytes = seam_tensor_bytes_max(&largest, T) + 1024;
    assert_int_equal(seam_arena_init(arena, bytes + (1 << 16)), SEAM_OK);
    seam_reply_carve(&reply, arena, bytes, seam_coder_chunks_max(T));
    return reply;
}

SEAM_ON_GPU static inline void run_forward(pass *p, fixture *f, seam_trainer *trainer,
                                           const seam_session_config *config, const float *x,
                                           uint32_t micro, uint32_t micro_count) {
    seam_arena arena;
    seam_reply reply = client_reply(&arena);
    seam_error err = {0};
    seam_trainer_select(trainer, micro, 0);
    micro_set(f, trainer, 0, micro, micro_count);
    const seam_micro *m = seam_trainer_micro(trainer);
    p->rows_out = seam_trainer_rows_out(trainer, m);
    const seam_tensor_encode_args forward = {
        .header = {.phase = SEAM_PHASE_FORWARD, .rows = m->layout.rows_in},
        .alloc = alloc_of(trainer, SEAM_SITE_FWD_IN, 0),
        .row_gates = row_gates_of(config, f, SEAM_SITE_FWD_IN),
        .x = x};
    stage(p->in, &reply, trainer, config, &forward);
    seam_test_check(seam_trainer_forward(trainer, f->engine.stream, &err), "forward", &err);
    reply_decode(p->out, seam_trainer_forward_reply(trainer, micro), config, f,
                 alloc_of(trainer, SEAM_SITE_FWD_OUT, 0));
    seam_arena_deinit(&arena);
}

SEAM_ON_GPU static inline void run_backward(pass *p, fixture *f, seam_trainer *trainer,
                                            const seam_session_config *config, const float *g,
                                            uint32_t micro) {
    seam_arena arena;
    seam_reply reply = client_reply(&arena);
    seam_error err = {0};
    seam_trainer_select(trainer, micro, seam_trainer_staging_count(trainer) - 1);
    const seam_micro *m = seam_trainer_micro(trainer);
    float *rows = test_calloc((size_t)T * C, sizeof *rows);
    pick(rows, g, config->labelled_rows_only);
    const seam_tensor_encode_args backward = {
        .header = {.phase = SEAM_PHASE_BACKWARD,
                   .site = SEAM_SITE_BWD_OUT,
                   .rows = p->rows_out,
                   .micro = micro},
        .alloc = alloc_of(trainer, SEAM_SITE_FWD_OUT, 0),
        .x = rows,
        .range_rows = config->labelled_rows_only ? NULL : f->bitmap,
        .row_gates = row_gates_of(config, f, SEAM_SITE_BWD_OUT),
        .rounding = {.stochastic = true,
                     .seed = config->seed,
                     .site = SEAM_SITE_BWD_OUT,
                     .micro = (uint16_t)micro,
                     .row_ids = config->labelled_rows_only ? m->out_rows : NULL}};
    stage(p->g, &reply, trainer, config, &backward);
    seam_test_check(seam_trainer_backward(&p->result, trainer, f->engine.stream, &err), "backward",
                    &err);
    if (seam_session_config_backward_reply(config)) {
        reply_decode(p->answer, seam_trainer_backward_reply(trainer, micro), config, f,
                     alloc_of(trainer, SEAM_SITE_FWD_IN, 0));
    }
    test_free(rows);
    seam_arena_deinit(&arena);
}

SEAM_ON_GPU static inline void run(pass *p, fixture *f, seam_trainer *trainer,
                                   const seam_session_config *config, const float *x,
                                   const float *g, uint32_t micro, uint32_t micro_count) {
    run_forward(p, f, trainer, config, x, micro, micro_count);
    run_backward(p, f, trainer, config, g, micro);
}

static inline double kappa(uint8_t width) {
    const double levels = ldexp(1, width);
    return levels / (levels - 1);
}

/* Gates of a fresh site after one step with this db. */
static inline seam_gates gates_after(const seam_session_config *config, const float *db) {
    seam_gates gates;
    assert_int_equal(seam_gates_init(&gates, &config->gates, C), SEAM_OK);
    const seam_gates_step_args args = {
        .db = db, .lr = config->bits_lr, .beta = config->beta, .bits_loss_active = true};
    seam_gates_step(&gates, &args);
    return gates;
}

/* Creation under one failing allocation after the other: SEAM_E_MEMORY and nothing kept, until it
 * succeeds. */
SEAM_ON_GPU static inline void check_create_fails(const fixture *f,
                                                  const seam_session_config *config) {
    bool created = false;
    for (int64_t n = 0; !created; n++) {
        seam_trainer *trainer = NULL;
        seam_error err = {0};
        assert_true(n < 1000);
        seam_mem_fail_after(n);
        const seam_status st = seam_trainer_create(&trainer, config, f->engine.stream, &err);
        seam_mem_fail_after(-1);
        created = st == SEAM_OK;
        assert_true(created || (st == SEAM_E_MEMORY && trainer == NULL));
        seam_trainer_destroy(trainer);
    }
}

#endif
