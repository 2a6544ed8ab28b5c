/* Goal: a session's micro-batch is what SPEC 3.1 says: the codec between the ends, the gates of
 * site 1, the surrogate signal of site 0, the savings that must not change a bit.
 * Method: a tiny synthetic model; an amaq trainer beside an f32 trainer that is fed the decoded
 * values, so that its outputs are the exact ones; formulas in double.  No network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "synthetic_model.h"
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
static const seam_lora_config lora = {.rank = 3, .alpha = 6, .targets = 0x7f, .seed = 5};
static const uint32_t sequence_rows[] = {40, 1, 29};

typedef struct fixture {
    seam_test_engine engine;
    seam_model model;
    uint8_t bitmap[(T + 7) / 8];
    uint32_t labelled;
} fixture;

static bool is_labelled(uint32_t row) {
    return row % 3 == 1 || row == T - 2;
}

static int setup(void **state) {
    fixture *f = test_calloc(1, sizeof *f);
    const seam_tensor_source source = seam_synthetic_source(&model_config);
    const seam_backend_options options = {.device = "cpu", .act = SEAM_F32, .threads = 2};
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

static int teardown(void **state) {
    fixture *f = *state;
    seam_test_engine_close(&f->engine);
    test_free(f);
    return 0;
}

static seam_session_config config_of(const fixture *f, seam_codec_id codec) {
    seam_session_config config = {
        .model = &f->model,
        .lora = lora,
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

SEAM_ON_GPU static seam_trainer *trainer_open(fixture *f, const seam_session_config *config) {
    seam_trainer *trainer = NULL;
    seam_error err = {0};
    seam_test_check(seam_trainer_create(&trainer, config, f->engine.stream, &err), "trainer", &err);
    return trainer;
}

static void micro_set(const fixture *f, seam_trainer *trainer, uint64_t step, uint32_t micro,
                      uint32_t micro_count) {
    seam_micro *m = seam_trainer_micro(trainer);
    m->step = step;
    m->micro = micro;
    m->micro_count = micro_count;
    m->labelled_total = (uint64_t)f->labelled * micro_count;
    m->layout = (seam_micro_layout){.rows = T,
                                    .sequence_count = 3,
                                    .sequence_rows = sequence_rows,
                                    .labelled_count = f->labelled};
    m->bitmap = f->bitmap;
    seam_sequence_labelled_counts(m->sequence_labelled, sequence_rows, 3, f->bitmap);
    uint32_t count = 0;
    for (uint32_t row = 0; row < T; row++) {
        if (is_labelled(row)) {
            m->labelled_rows[count++] = row;
        }
    }
}

static float *values_new(const char *name, float scale) {
    float *x = test_calloc((size_t)T * C, sizeof *x);
    seam_synthetic_fill(x, name, (size_t)T * C, scale);
    for (uint32_t i = 0; i < T * C; i++) {
        x[i] *= (float)(1 + i % C); /* channels of different ranges */
    }
    return x;
}

/* Chunks of a reply, as a receiver finds them. */
static uint32_t chunks_of(seam_chunk *ret_chunks, seam_frame_header *ret_header,
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

/* A client's tensor: encoded into `reply`, staged, and decoded into ret (rows, C). */
static void stage(float *ret, seam_reply *reply, seam_trainer *trainer,
                  const seam_session_config *config, const seam_tensor_encode_args *args) {
    const seam_coder_config coder = seam_session_config_coder(config, args->header.site);
    seam_tensor_encode_args full = *args;
    seam_staging *in = seam_trainer_staging(trainer);
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

static const seam_alloc *alloc_of(seam_trainer *trainer, uint16_t site, uint64_t step) {
    const seam_alloc *alloc = NULL;
    assert_int_equal(seam_site_alloc_at(&alloc, seam_trainer_site(trainer, site), step), SEAM_OK);
    return alloc->widths != NULL ? alloc : NULL;
}

/* Everything one micro-batch shows: decoded input, decoded output rows, decoded gradient rows,
 * input gradient (exact) or gate signal. */
typedef struct pass {
    float *in, *out, *g, *answer;
    seam_step_result result;
    uint32_t rows_out;
} pass;

static pass pass_new(void) {
    const size_t count = (size_t)T * C;
    return (pass){.in = test_calloc(count, sizeof(float)),
                  .out = test_calloc(count, sizeof(float)),
                  .g = test_calloc(count, sizeof(float)),
                  .answer = test_calloc(count, sizeof(float))};
}

static void pass_free(pass *p) {
    test_free(p->in);
    test_free(p->out);
    test_free(p->g);
    test_free(p->answer);
}

static void reply_decode(float *ret, const seam_reply *reply, const seam_session_config *config,
                         const seam_alloc *alloc) {
    seam_chunk chunks[T / SEAM_GROUP_ROWS + 1];
    seam_frame_header header = {0};
    seam_error err = {0};
    const uint32_t count = chunks_of(chunks, &header, reply);
    if (header.kind == SEAM_FRAME_GATE_SIGNAL) {
        for (uint32_t c = 0; c < C; c++) {
            ret[c] = seam_get_f32(chunks[0].payload + 4 * (size_t)c);
        }
        return;
    }
    const seam_coder_config coder = seam_session_config_coder(config, header.site);
    seam_tensor_decode_args args = {
        .chunks = chunks,
        .chunk_count = count,
        .tensor = {.codec = (seam_codec_id)header.codec, .alloc = alloc}};
    assert_int_equal(seam_coder_create(&args.coder, &coder), SEAM_OK);
    seam_test_check(seam_tensor_decode(ret, &args, &err), "reply", &err);
    seam_coder_destroy(args.coder);
}

/* Rows of sites 1 and 2 out of T rows. */
static void pick(float *ret, const float *rows, bool labelled_only) {
    for (uint32_t row = 0, next = 0; row < T; row++) {
        if (!labelled_only || is_labelled(row)) {
            memcpy(ret + (size_t)next++ * C, rows + (size_t)row * C, C * sizeof(float));
        }
    }
}

SEAM_ON_GPU static void run(pass *p, fixture *f, seam_trainer *trainer,
                            const seam_session_config *config, const float *x, const float *g,
                            uint32_t micro, uint32_t micro_count) {
    seam_arena arena;
    seam_reply reply;
    seam_error err = {0};
    const seam_coder_config largest = {.codec = SEAM_CODEC_F32, .channels = C, .rows_max = T};
    const size_t bytes = seam_tensor_bytes_max(&largest, T) + 1024;
    assert_int_equal(seam_arena_init(&arena, bytes + (1 << 16)), SEAM_OK);
    seam_reply_carve(&reply, &arena, bytes, seam_coder_chunks_max(T));
    micro_set(f, trainer, 0, micro, micro_count);
    const seam_micro *m = seam_trainer_micro(trainer);
    p->rows_out = seam_trainer_rows_out(trainer);
    const seam_tensor_encode_args forward = {.header = {.phase = SEAM_PHASE_FORWARD, .rows = T},
                                             .alloc = alloc_of(trainer, SEAM_SITE_FWD_IN, 0),
                                             .x = x};
    stage(p->in, &reply, trainer, config, &forward);
    seam_test_check(seam_trainer_forward(trainer, f->engine.stream, &err), "forward", &err);
    reply_decode(p->out, seam_trainer_forward_reply(trainer), config,
                 alloc_of(trainer, SEAM_SITE_FWD_OUT, 0));
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
        .rounding = {.stochastic = true,
                     .seed = config->seed,
                     .site = SEAM_SITE_BWD_OUT,
                     .micro = (uint16_t)micro,
                     .row_ids = config->labelled_rows_only ? m->labelled_rows : NULL}};
    stage(p->g, &reply, trainer, config, &backward);
    seam_test_check(seam_trainer_backward(&p->result, trainer, f->engine.stream, &err), "backward",
                    &err);
    if (seam_session_config_backward_reply(config)) {
        reply_decode(p->answer, seam_trainer_backward_reply(trainer), config,
                     alloc_of(trainer, SEAM_SITE_FWD_IN, 0));
    }
    test_free(rows);
    seam_arena_deinit(&arena);
}

static double kappa(uint8_t width) {
    const double levels = ldexp(1, width);
    return levels / (levels - 1);
}

/* Gates of a fresh site after one step with this db. */
static seam_gates gates_after(const seam_session_config *config, const float *db) {
    seam_gates gates;
    assert_int_equal(seam_gates_init(&gates, &config->gates, C), SEAM_OK);
    const seam_gates_step_args args = {
        .db = db, .lr = config->bits_lr, .beta = config->beta, .bits_loss_active = true};
    seam_gates_step(&gates, &args);
    return gates;
}

SEAM_ON_GPU static void test_step__amaq__adapter_gates_and_signal_as_the_formulas(void **state) {
    fixture *f = *state;
    const seam_session_config amaq = config_of(f, SEAM_CODEC_AMAQ);
    seam_session_config exact = config_of(f, SEAM_CODEC_F32);
    exact.codec.gate_signal_exact = true;
    seam_trainer *a = trainer_open(f, &amaq), *b = trainer_open(f, &exact);
    pass pa = pass_new(), pb = pass_new();
    float db[C] = {0};
    for (uint32_t micro = 0; micro < 2; micro++) {
        float *x = values_new(micro == 0 ? "x0" : "x1", 0.5f);
        float *g = values_new(micro == 0 ? "g0" : "g1", 1e-4f);
        run(&pa, f, a, &amaq, x, g, micro, 2);
        float *g_rows = test_calloc((size_t)T * C, sizeof *g_rows);
        for (uint32_t row = 0, next = 0; row < T; row++) { /* decoded rows to their places */
            if (is_labelled(row)) {
                memcpy(g_rows + (size_t)row * C, pa.g + (size_t)next++ * C, C * sizeof(float));
            }
        }
        run(&pb, f, b, &exact, pa.in, g_rows, micro, 2);
        for (uint32_t c = 0; c < C; c++) {
            double sum = 0, squares = 0;
            for (uint32_t i = 0; i < f->labelled; i++) {
                const size_t at = (size_t)i * C + c;
                sum += (double)pa.g[at] * ((double)pa.out[at] - (double)pb.out[at]);
            }
            db[c] += (float)(-log(2) * kappa(8) * sum);
            for (uint32_t row = 0; row < T; row++) {
                squares += pow(pb.answer[(size_t)row * C + c], 2);
            }
            double lo = INFINITY, hi = -INFINITY; /* the grid's ends are decoded values */
            for (uint32_t row = 0; row < T; row++) {
                lo = fmin(lo, pa.in[(size_t)row * C + c]);
                hi = fmax(hi, pa.in[(size_t)row * C + c]);
            }
            const double step = (hi - lo) / 255;
            const double signal = -log(2) / 12 * 2 * f->labelled * kappa(8) * step * step * squares;
            /* Rounded outward, a range's outermost codes may stay unused: D as seen here is up to
             * 2/255 small, its square twice that. */
            assert_true(fabs(pa.answer[c] / signal - 1) < 0.02);
        }
        test_free(g_rows);
        test_free(x);
        test_free(g);
    }
    /* The same decoded values on both sides of the blocks: the same adapter to the bit. */
    assert_true(pa.result.state_hash == pb.result.state_hash);
    assert_true(pa.result.grad_norm > 0 && pa.result.grad_norm == pb.result.grad_norm);
    seam_gates gates = gates_after(&amaq, db);
    uint8_t widths[C];
    seam_gates_widths(widths, &gates, 0);
    assert_int_equal(pa.result.gate_bits_total, seam_gates_bits_total(&gates));
    assert_true(pa.result.gate_pull > 0 && pb.result.gate_pull == 0);
    assert_non_null(pa.result.proposal);
    assert_memory_equal(pa.result.proposal->widths, widths, C);
    assert_int_equal(pa.result.proposal->version, 2);
    assert_int_equal(pa.result.proposal->effective_step, 2);
    assert_true(pb.result.proposal == NULL && pb.result.gate_bits_total == 0);
    seam_gates_deinit(&gates);
    pass_free(&pa);
    pass_free(&pb);
    seam_trainer_destroy(a);
    seam_trainer_destroy(b);
}

/* Waterfill: the signal is sum g^2, the report has site 1's costs, the widths the told total. */
SEAM_ON_GPU static void test_step__waterfill__signal_report_and_total(void **state) {
    fixture *f = *state;
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f);
    float *g_rows = test_calloc((size_t)T * C, sizeof *g_rows);
    seam_session_config fill = config_of(f, SEAM_CODEC_AMAQ), exact = config_of(f, SEAM_CODEC_F32);
    fill.codec.allocator = SEAM_ALLOCATOR_WATERFILL;
    exact.codec.gate_signal_exact = true;
    seam_trainer *a = trainer_open(f, &fill), *b = trainer_open(f, &exact);
    pass pa = pass_new(), pb = pass_new();
    seam_error err = {0};
    const seam_budget budget = {.effective_step = 0, .bits_total = 5 * C + 3};
    assert_int_equal(seam_trainer_set_budget(a, &budget, 0, &err), SEAM_OK);
    run(&pa, f, a, &fill, x, g, 0, 1);
    for (uint32_t row = 0, next = 0; row < T; row++) { /* decoded rows to their places */
        if (is_labelled(row)) {
            memcpy(g_rows + (size_t)row * C, pa.g + (size_t)next++ * C, C * sizeof(float));
        }
    }
    run(&pb, f, b, &exact, pa.in, g_rows, 0, 1);
    double cost = 0;
    for (uint32_t c = 0; c < C; c++) {
        double squares = 0, own = 0, lo = INFINITY, hi = -INFINITY;
        for (uint32_t row = 0; row < T; row++) {
            squares += pow(pb.answer[(size_t)row * C + c], 2);
        }
        for (uint32_t i = 0; i < f->labelled; i++) {
            own += pow(pa.g[(size_t)i * C + c], 2);
            lo = fmin(lo, pa.out[(size_t)i * C + c]);
            hi = fmax(hi, pa.out[(size_t)i * C + c]);
        }
        cost += 0.5 * log2(own / f->labelled) + log2(hi - lo);
        assert_true(fabs(pa.answer[c] / squares - 1) < 1e-5);
    }
    assert_int_equal(pa.result.cost_channels, C);
    assert_true(fabs(pa.result.cost_sum - cost) < 0.02 * C); /* outermost codes may stay unused */
    assert_int_equal(pa.result.gate_bits_total, 5 * C + 3);
    assert_int_equal(pa.result.proposal->bits_total, 5 * C + 3);
    pass_free(&pa);
    pass_free(&pb);
    seam_trainer_destroy(a);
    seam_trainer_destroy(b);
    test_free(g_rows);
    test_free(x);
    test_free(g);
}

/* Codecs a site: bf16 in, amaq out.  Only site 1 has gates, so no signal goes back. */
SEAM_ON_GPU static void test_step__no_gates_at_site_0__site_1_as_with_them(void **state) {
    fixture *f = *state;
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f);
    for (uint32_t i = 0; i < T * C; i++) { /* values that bf16 keeps: the same input to both */
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0xffff0000u;
        memcpy(&x[i], &bits, sizeof bits);
    }
    seam_session_config mixed = config_of(f, SEAM_CODEC_AMAQ);
    mixed.codec.codec_in = SEAM_CODEC_BF16;
    assert_false(seam_session_config_backward_reply(&mixed));
    seam_session_config plain = config_of(f, SEAM_CODEC_AMAQ);
    plain.codec.codec_in = SEAM_CODEC_F32;
    seam_trainer *a = trainer_open(f, &mixed), *b = trainer_open(f, &plain);
    pass p = pass_new(), q = pass_new();
    run(&p, f, a, &mixed, x, g, 0, 1);
    run(&q, f, b, &plain, x, g, 0, 1);
    assert_memory_equal(p.in, x, sizeof(float) * T * C);
    assert_memory_equal(p.out, q.out, sizeof(float) * f->labelled * C);
    assert_true(p.result.state_hash == q.result.state_hash);
    assert_non_null(p.result.proposal);
    assert_memory_equal(p.result.proposal->widths, q.result.proposal->widths, C);
    assert_int_equal(seam_trainer_backward_reply(a)->message_count, 0);
    pass_free(&p);
    pass_free(&q);
    seam_trainer_destroy(a);
    seam_trainer_destroy(b);
    test_free(x);
    test_free(g);
}

SEAM_ON_GPU static void test_labelled_rows_only__on_and_off__same_bits(void **state) {
    fixture *f = *state;
    const seam_codec_id codecs[] = {SEAM_CODEC_F32, SEAM_CODEC_BF16, SEAM_CODEC_AFFINE,
                                    SEAM_CODEC_AMAQ};
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f);
    for (uint32_t row = 0; row < T; row++) {
        if (!is_labelled(row)) {
            memset(g + (size_t)row * C, 0, C * sizeof(float));
        }
    }
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        pass passes[2];
        uint8_t widths[2][C] = {{0}};
        for (int all = 0; all < 2; all++) {
            seam_session_config config = config_of(f, codecs[i]);
            config.labelled_rows_only = all == 0;
            seam_trainer *trainer = trainer_open(f, &config);
            passes[all] = pass_new();
            run(&passes[all], f, trainer, &config, x, g, 0, 1);
            if (passes[all].result.proposal != NULL) {
                memcpy(widths[all], passes[all].result.proposal->widths, C);
            }
            seam_trainer_destroy(trainer);
        }
        assert_int_equal(passes[0].rows_out, f->labelled);
        assert_int_equal(passes[1].rows_out, T);
        assert_true(passes[0].result.state_hash == passes[1].result.state_hash);
        assert_int_equal(passes[0].result.gate_bits_total, passes[1].result.gate_bits_total);
        assert_memory_equal(widths[0], widths[1], C);
        assert_memory_equal(passes[0].answer, passes[1].answer, C * sizeof(float));
        pass_free(&passes[0]);
        pass_free(&passes[1]);
    }
    test_free(x);
    test_free(g);
}

SEAM_ON_GPU static void test_abort_step__half_a_step__leaves_nothing(void **state) {
    fixture *f = *state;
    const seam_session_config config = config_of(f, SEAM_CODEC_AMAQ);
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f), *other = values_new("o", 2e-3f);
    seam_trainer *clean = trainer_open(f, &config), *broken = trainer_open(f, &config);
    pass p = pass_new(), q = pass_new();
    assert_true(seam_trainer_state_hash(clean) == seam_trainer_state_hash(broken));
    run(&p, f, clean, &config, x, g, 0, 1);
    run(&q, f, broken, &config, x, other, 0, 2);
    assert_int_equal(seam_trainer_abort_step(broken, f->engine.stream), SEAM_OK);
    run(&q, f, broken, &config, x, g, 0, 1);
    assert_true(p.result.state_hash == q.result.state_hash);
    assert_memory_equal(p.result.proposal->widths, q.result.proposal->widths, C);
    pass_free(&p);
    pass_free(&q);
    seam_trainer_destroy(clean);
    seam_trainer_destroy(broken);
    test_free(x);
    test_free(g);
    test_free(other);
}

SEAM_ON_GPU static void test_step__gradient_overflows__skipped_and_nothing_moves(void **state) {
    fixture *f = *state;
    const seam_session_config config = config_of(f, SEAM_CODEC_F32);
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e37f);
    seam_trainer *trainer = trainer_open(f, &config);
    const uint64_t before = seam_trainer_state_hash(trainer);
    pass p = pass_new();
    run(&p, f, trainer, &config, x, g, 0, 1);
    assert_true(p.result.skipped);
    assert_true(p.result.state_hash == before);
    pass_free(&p);
    seam_trainer_destroy(trainer);
    test_free(x);
    test_free(g);
}

SEAM_ON_GPU static void test_budget__of_this_step__moves_the_gates(void **state) {
    fixture *f = *state;
    const seam_session_config config = config_of(f, SEAM_CODEC_AMAQ);
    float *x = values_new("x", 0.5f), *g = values_new("g", 1e-4f);
    pass p = pass_new();
    seam_error err = {0};
    seam_trainer *trainer = trainer_open(f, &config);
    const seam_budget late = {.effective_step = 3, .beta = 1, .bits_lr = 1};
    seam_budget now = {.effective_step = 0, .beta = 0, .bits_lr = 0, .width_shift = -3};
    assert_int_equal(seam_trainer_set_budget(trainer, &late, 0, &err), SEAM_OK);
    assert_int_equal(seam_trainer_set_budget(trainer, &now, 0, &err), SEAM_E_STATE);
    seam_trainer_destroy(trainer);
    trainer = trainer_open(f, &config);
    assert_int_equal(seam_trainer_set_budget(trainer, &now, 0, &err), SEAM_OK);
    now.effective_step = 0;
    now.width_shift = 5;
    assert_int_equal(seam_trainer_set_budget(trainer, &now, 1, &err), SEAM_OK); /* over: ignored */
    run(&p, f, trainer, &config, x, g, 0, 1);
    assert_int_equal(p.result.gate_bits_total, 8 * C); /* lr 0: the gates stay */
    for (uint32_t c = 0; c < C; c++) {
        assert_int_equal(p.result.proposal->widths[c], 5); /* 8 - 3 */
    }
    pass_free(&p);
    seam_trainer_destroy(trainer);
    test_free(x);
    test_free(g);
}

SEAM_ON_GPU static void test_create__each_allocation_fails__error_and_no_leak(void **state) {
    fixture *f = *state;
    const seam_session_config config = config_of(f, SEAM_CODEC_AMAQ);
    bool created = false;
    for (int64_t n = 0; !created; n++) {
        seam_trainer *trainer = NULL;
        seam_error err = {0};
        assert_true(n < 1000);
        seam_mem_fail_after(n);
        const seam_status st = seam_trainer_create(&trainer, &config, f->engine.stream, &err);
        seam_mem_fail_after(-1);
        created = st == SEAM_OK;
        assert_true(created || (st == SEAM_E_MEMORY && trainer == NULL));
        seam_trainer_destroy(trainer);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_step__amaq__adapter_gates_and_signal_as_the_formulas,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_step__waterfill__signal_report_and_total, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_step__no_gates_at_site_0__site_1_as_with_them, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_labelled_rows_only__on_and_off__same_bits, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_abort_step__half_a_step__leaves_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_step__gradient_overflows__skipped_and_nothing_moves,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_budget__of_this_step__moves_the_gates, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_create__each_allocation_fails__error_and_no_leak,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
