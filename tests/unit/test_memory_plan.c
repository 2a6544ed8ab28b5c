/* Goal: what is planned for a session is what it takes: on the device to the byte, on the host
 * within the sites' small arrays; and recompute keeps what it promises at a real shape.
 * Method: a backend whose mem_alloc counts, and malloc counted by the linker's --wrap; sessions of
 * several ranks, targets, codecs, with and without recompute.  A device's name as the argument runs
 * the same on it: 77 where there is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "backend.h"
#include "device_fake.h"
#include "session_table.h"
#include "trainer_fixture.h"

/* ---- counting ---- */

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void __real_free(void *ptr);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void __wrap_free(void *ptr);

static int64_t host_bytes; /* live, in blocks as malloc rounds them */
static uint64_t device_bytes;
static seam_status (*mem_alloc)(void **ret_ptr, seam_backend *backend, size_t bytes);

static void *counted(void *ptr) {
    host_bytes += (int64_t)malloc_usable_size(ptr);
    return ptr;
}

void *__wrap_malloc(size_t bytes) {
    return counted(__real_malloc(bytes));
}

void *__wrap_calloc(size_t count, size_t bytes) {
    return counted(__real_calloc(count, bytes));
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
    return counted(__real_aligned_alloc(alignment, bytes));
}

void __wrap_free(void *ptr) {
    host_bytes -= (int64_t)malloc_usable_size(ptr);
    __real_free(ptr);
}

/* Memory of the device that is the host's is not the host's share. */
static seam_status mem_alloc_counted(void **ret_ptr, seam_backend *backend, size_t bytes) {
    const int64_t before = host_bytes;
    device_bytes += bytes;
    const seam_status st = mem_alloc(ret_ptr, backend, bytes);
    host_bytes = before;
    return st;
}

/* Pinned memory is the host's share, whoever gives it. */
static seam_status (*host_alloc)(void **ret_ptr, seam_backend *backend, size_t bytes);
static seam_status host_alloc_counted(void **ret_ptr, seam_backend *backend, size_t bytes) {
    const int64_t before = host_bytes;
    const seam_status st = host_alloc(ret_ptr, backend, bytes);
    host_bytes = before + (int64_t)bytes;
    return st;
}

static const char *device = "cpu";

static int device_setup(void **state) {
    fixture *f = test_calloc(1, sizeof *f);
    const seam_tensor_source source = seam_synthetic_source(&model_config);
    /* Room for LoRA where there is any (cuda), beside gate and up too. */
    const seam_backend_options options = {
        .device = device, .threads = 2, .join_rank = 40, .join_mlp_rank = 24};
    assert_true(seam_test_engine_open(&f->engine, &options, &source, &lora, T));
    f->model = (seam_model){
        .id = "tiny", .blocks = f->engine.blocks, .config = seam_blocks_config(f->engine.blocks)};
    mem_alloc = f->engine.backend->ops.mem_alloc;
    f->engine.backend->ops.mem_alloc = mem_alloc_counted;
    host_alloc = f->engine.backend->ops.host_alloc;
    f->engine.backend->ops.host_alloc = host_alloc_counted;
    *state = f;
    return 0;
}

/* ---- plans of real sessions ---- */

SEAM_ON_GPU static void plan_check(fixture *f, const seam_session_config *config) {
    seam_memory_plan plan = {0};
    assert_int_equal(seam_trainer_plan(&plan, config), SEAM_OK);
    device_bytes = 0;
    host_bytes = 0;
    seam_trainer *trainer = trainer_open(f, config);
    const int64_t planned = /* caches are mapped */
        (int64_t)(seam_memory_plan_host_bytes(&plan) - plan.host[SEAM_MEMORY_CACHE]);
    assert_int_equal(plan.host[SEAM_MEMORY_CACHE] > 0, config->codec.codec_out == SEAM_CODEC_AQSGD);
    assert_true(device_bytes == seam_memory_plan_device_bytes(&plan));
    const int64_t sites = 64 * C + (int64_t)1024 * 8; /* widths, gates, rounding of malloc */
    assert_true(host_bytes > planned - 1024 && host_bytes < planned + sites);
    seam_trainer_destroy(trainer);
}

SEAM_ON_GPU static void test_plan__codecs_ranks_targets__is_what_is_taken(void **state) {
    fixture *f = *state;
    static const seam_codec_id codecs[] = {SEAM_CODEC_BF16, SEAM_CODEC_AFFINE, SEAM_CODEC_AMAQ,
                                           SEAM_CODEC_AQSGD};
    static const uint32_t targets[] = {0x5, 0x7f, 0x40};
    for (size_t c = 0; c < sizeof codecs / sizeof *codecs; c++) {
        for (size_t t = 0; t < sizeof targets / sizeof *targets; t++) {
            for (uint32_t rank = 1; rank <= 16; rank += 5) {
                seam_session_config config = config_of(f, codecs[c]);
                config.adapter.lora.rank = rank;
                config.adapter.lora.targets = targets[t];
                config.limits.rows_max = rank == 1 ? 33 : T;
                config.recompute = t == 1;
                config.codec.cache_bytes_max = 1 << 16;
                config.codec.cache_format = 1;
                config.codec.gate_signal_exact = codecs[c] == SEAM_CODEC_AMAQ && rank > 6;
                config.pipeline_depth = 1 + rank / 5 % 3;
                plan_check(f, &config);
                config.all_layer_bits = 4; /* two blocks: a boundary, whose gates are a site's */
                config.all_layer_steps = 9;
                assert_true(seam_gates_preset(&config.layer_gates, 4));
                plan_check(f, &config);
            }
        }
        seam_session_config config = config_of(f, codecs[c]);
        config.adapter =
            (seam_adapter_config){.kind = SEAM_ADAPTER_PREFIX, .prefix = {.tokens = 7}};
        config.codec.cache_bytes_max = 1 << 16;
        config.codec.cache_format = 1;
        plan_check(f, &config);
        config.prefix_bits = 4;
        config.prefix_steps = 9;
        config.codec.gate_signal_exact = codecs[c] == SEAM_CODEC_AMAQ;
        assert_true(seam_gates_preset(&config.prefix_gates, 4));
        plan_check(f, &config);
        config = config_of(f, codecs[c]);
        config.codec.topology = SEAM_TOPOLOGY_VANILLA;
        config.codec.cache_bytes_max = 1 << 16;
        config.codec.cache_format = 1;
        plan_check(f, &config);
        if (codecs[c] != SEAM_CODEC_AQSGD) {
            config.codec.topology = SEAM_TOPOLOGY_ADAPTER_EXCHANGE;
            config.codec.cache_bytes_max = 0;
            plan_check(f, &config);
            config.codec.resend_parameters = true;
            plan_check(f, &config);
        }
        config = config_of(f, codecs[c]);
        config.codec.cache_bytes_max = 1 << 16;
        config.codec.cache_format = 1;
        config.adapter = (seam_adapter_config){.kind = SEAM_ADAPTER_FULL};
        config.recompute = c % 2 == 1;
        config.pipeline_depth = 1 + (uint32_t)c;
        plan_check(f, &config);
    }
}

/* The client needs fewer micro-batches at once: what the plan made again lacks is freed. */
SEAM_ON_GPU static void test_trim__fewer_slots__their_plan_is_left(void **state) {
    fixture *f = *state;
    const bool is_host =
        strncmp(device, "cpu", 3) == 0; /* whose frees are all counted as its own */
    seam_session_config config = config_of(f, SEAM_CODEC_AMAQ);
    config.pipeline_depth = 4;
    seam_memory_plan before = {0};
    assert_int_equal(seam_trainer_plan(&before, &config), SEAM_OK);
    seam_trainer *trainer = trainer_open(f, &config);
    assert_false(seam_trainer_trim(trainer));
    config.slots_kept = 4;
    assert_false(seam_trainer_trim(trainer));
    for (config.slots_kept = 3; config.slots_kept > 0; config.slots_kept--) {
        seam_memory_plan after = {0};
        assert_int_equal(seam_trainer_plan(&after, &config), SEAM_OK);
        const uint64_t on_device =
            seam_memory_plan_device_bytes(&before) - seam_memory_plan_device_bytes(&after);
        const uint64_t on_host =
            seam_memory_plan_host_bytes(&before) - seam_memory_plan_host_bytes(&after);
        assert_true(on_device > 0 && on_host > 0);
        const int64_t expected = (int64_t)(on_host + (is_host ? on_device : 0));
        host_bytes = 0;
        assert_true(seam_trainer_trim(trainer));
        assert_in_range(-host_bytes, expected, expected + 512); /* malloc rounds up */
        assert_false(seam_trainer_trim(trainer));
        before = after;
    }
    device_bytes = 0;
    seam_trainer_destroy(trainer);
    config.slots_kept = 2; /* as a session that wakes */
    trainer = trainer_open(f, &config);
    seam_memory_plan two = {0};
    assert_int_equal(seam_trainer_plan(&two, &config), SEAM_OK);
    assert_true(device_bytes == seam_memory_plan_device_bytes(&two));
    seam_trainer_destroy(trainer);
}

/* The same where rows stay on the device: on a CPU by the table of device_fake.h. */
SEAM_ON_GPU static void test_plan__codec_of_the_device__is_what_is_taken(void **state) {
    fixture *f = *state;
    if (f->engine.backend->ops.codec == NULL) {
        device_fake_put(f->engine.backend, &device_fake);
    }
    test_plan__codecs_ranks_targets__is_what_is_taken(state);
}

/* Scales of rounded rows are planned; the blocks here are too narrow for copies in FP8. */
SEAM_ON_GPU static void test_plan__fp8__is_what_is_taken(void **state) {
    fixture *f = *state;
    f->engine.backend->ops.fp8 = true;
    for (int recompute = 0; recompute < 2; recompute++) {
        seam_session_config config = config_of(f, SEAM_CODEC_AFFINE);
        config.recompute = recompute == 1;
        config.fp8 = true;
        plan_check(f, &config);
    }
}

/* ---- weights ---- */

/* Rows of whole vectors, which FP8 takes. */
static const seam_model_config wide_config = SEAM_TEST_SMALL(64, 96, 3);

/* On the reference without FP8, whose copies are doubles, on a CUDA device with it, and there with
 * room for LoRA on gate and up. */
static void test_plan__weights__are_what_is_taken(void **state) {
    const bool cuda = strncmp(device, "cuda", 4) == 0;
    const bool room = *state != NULL && cuda;
    const seam_backend_options options = {.device = cuda ? device : "ref",
                                          .fp8 = cuda && !room,
                                          .join_rank = room ? 40 : 0,
                                          .join_mlp_rank = room ? 24 : 0};
    const seam_tensor_source source = seam_synthetic_source(&wide_config);
    seam_backend *backend = NULL;
    seam_error err = {0};
    seam_test_engine e;
    if (seam_backend_create(&backend, &options, &err) == SEAM_E_UNIMPLEMENTED) {
        (void)printf("%s\n", err.text);
        skip();
    }
    seam_backend_destroy(backend);
    assert_true(seam_test_engine_open(&e, &options, &source, &lora, 8));
    const seam_memory_blocks blocks = {
        .model = &wide_config, .ops = seam_backend_ops(e.backend), .layer_end = wide_config.layers};
    assert_true(seam_memory_plan_weights(&blocks, 1) == seam_blocks_bytes(e.blocks));
    seam_test_engine_close(&e);
}

/* ---- admission ---- */

SEAM_WITHOUT_THREADS static void test_reserve__no_room__says_needed_and_free(void **state) {
    (void)state;
    seam_error err = {0};
    seam_sessions *sessions = NULL;
    const seam_sessions_options options = {.device = "cuda:7",
                                           .memory_budget_bytes = UINT64_C(5) << 30,
                                           .host_budget_bytes = UINT64_C(64) << 20};
    assert_int_equal(seam_sessions_create(&sessions, &options, &err), SEAM_OK);
    seam_memory_plan plan = {.device = {[SEAM_MEMORY_ACTIVATIONS] = UINT64_C(2969) << 20,
                                        [SEAM_MEMORY_ADAPTER] = UINT64_C(205) << 20,
                                        [SEAM_MEMORY_MOMENTS] = UINT64_C(103) << 20},
                             .host = {[SEAM_MEMORY_CODEC] = UINT64_C(40) << 20}};
    assert_int_equal(seam_sessions_reserve(sessions, &plan, "session", &err), SEAM_OK);
    assert_int_equal(seam_sessions_reserve(sessions, &plan, "session", &err), SEAM_E_LIMIT);
    assert_string_equal(err.text, "session needs 3.2 GiB (activations 2.9, adapter 0.2, moments "
                                  "0.1) on cuda:7, 1.8 GiB is free");
    plan.device[SEAM_MEMORY_ACTIVATIONS] = 0;
    assert_int_equal(seam_sessions_reserve(sessions, &plan, "stream", &err), SEAM_E_LIMIT);
    assert_string_equal(err.text,
                        "stream needs 40.0 MiB (codec 40.0) on the host, 24.0 MiB is free");
    plan.host[SEAM_MEMORY_CODEC] = UINT64_C(65) << 20; /* more than there will ever be */
    assert_int_equal(seam_sessions_reserve(sessions, &plan, "session", &err), SEAM_E_LIMIT);
    assert_string_equal(err.text, "session: session needs 65.0 MiB (codec 65.0) on the host, "
                                  "24.0 MiB is free of 64.0 MiB in all");
    plan.host[SEAM_MEMORY_CODEC] = UINT64_C(40) << 20;
    plan.device[SEAM_MEMORY_ACTIVATIONS] = UINT64_C(2969) << 20;
    seam_sessions_unreserve(sessions, &plan);
    assert_true(seam_sessions_memory_free(sessions) == options.memory_budget_bytes);
    seam_sessions_destroy(sessions);
}

/* ---- a real shape ---- */

static const seam_model_config llama3_8b = {.architecture = "llama",
                                            .vocab_count = 128256,
                                            .hidden = 4096,
                                            .intermediate = 14336,
                                            .layers = 32,
                                            .heads = 32,
                                            .kv_heads = 8,
                                            .head_dim = 128,
                                            .context_max = 8192,
                                            .rms_eps = 1e-5f,
                                            .rope_theta = 500000.0,
                                            .bos_id = -1,
                                            .eos_id = -1};

/* Weights and one session of 16 x 384 rows, as a device with bf16 weights holds them. */
static uint64_t peak_bytes(bool recompute) {
    const seam_ops types = {.act = SEAM_BF16,
                            .acc = SEAM_F32,
                            .qkv = SEAM_BF16,
                            .remake = true,
                            .join_rank = SEAM_JOIN_RANK};
    const seam_memory_blocks blocks = {
        .model = &llama3_8b, .ops = &types, .layer_end = llama3_8b.layers};
    const seam_adapter_config q_v = {
        .lora = {.rank = 16, .alpha = 16, .targets = SEAM_LORA_Q | SEAM_LORA_V}};
    const seam_activations_options options = {
        .adapter = &q_v, .rows_max = 6144, .seqs_max = 16, .recompute = recompute};
    seam_memory_plan plan = {0};
    assert_int_equal(seam_memory_plan_training(&plan, &blocks, &options), SEAM_OK);
    assert_true(plan.device[SEAM_MEMORY_MOMENTS] == UINT64_C(2) * 6815744 * 4);
    return seam_memory_plan_weights(&blocks, 1) + seam_memory_plan_device_bytes(&plan);
}

/* Peak of compiled PyTorch with bf16 adapters on the same text (peers/lora_step_torch.py). */
#define COMPILED_GIB 34.6

static void test_plan__llama3_8b__half_of_compiled_with_recompute(void **state) {
    (void)state;
    const uint64_t kept = peak_bytes(false), again = peak_bytes(true);
    (void)printf("llama3-8b, 6144 rows: %.2f GiB kept, %.2f GiB recomputed\n",
                 (double)kept / 0x1p30, (double)again / 0x1p30);
    assert_true((double)again / 0x1p30 <= 0.5 * COMPILED_GIB);
    assert_true((double)kept / 0x1p30 <= 0.9 * COMPILED_GIB);
}

/* Both orientations of 32 layers' matrices, a byte a value and four a row; the scales of the rows
 * that ops round for products, forward and backward. */
static void test_plan__llama3_8b__fp8_adds_copies_and_scales(void **state) {
    (void)state;
    seam_ops types = {.act = SEAM_BF16, .acc = SEAM_F32, .qkv = SEAM_BF16, .remake = true};
    const seam_adapter_config q_v = {
        .lora = {.rank = 16, .alpha = 16, .targets = SEAM_LORA_Q | SEAM_LORA_V}};
    uint64_t weights[2], session[2];
    for (int fp8 = 0; fp8 < 2; fp8++) {
        types.fp8 = fp8 == 1;
        const seam_memory_blocks blocks = {
            .model = &llama3_8b, .ops = &types, .layer_end = llama3_8b.layers};
        const seam_activations_options options = {
            .adapter = &q_v, .rows_max = 6144, .seqs_max = 16, .fp8 = fp8 == 1};
        seam_memory_plan plan = {0};
        assert_int_equal(seam_memory_plan_training(&plan, &blocks, &options), SEAM_OK);
        weights[fp8] = seam_memory_plan_weights(&blocks, 1);
        session[fp8] = seam_memory_plan_device_bytes(&plan);
    }
    const uint64_t values = 4096 * (UINT64_C(6144) + 4096 + 3 * 14336);
    const uint64_t rows = (6144 + 4096) + (4096 + 4096) + (28672 + 4096) + (4096 + 14336);
    assert_true(weights[1] - weights[0] == 32 * (2 * values + 4 * rows));
    assert_true(session[1] - session[0] == 2 * 6144 * 4);
}

/* Kept passes are the session's, not a micro-batch's: by its layers alone, and none of full ones.
 */
static void test_plan__kept_passes__by_layers_and_none_of_full(void **state) {
    (void)state;
    const seam_ops types = {.act = SEAM_BF16, .acc = SEAM_F32, .qkv = SEAM_BF16};
    const seam_adapter_config full = {.kind = SEAM_ADAPTER_FULL};
    seam_memory_plan plans[2] = {0}, none = {0};
    for (uint32_t i = 0; i < 2; i++) {
        const seam_memory_blocks blocks = {
            .model = &llama3_8b, .ops = &types, .layer_end = 16 + 16 * i};
        seam_memory_plan_repeats(&plans[i], &blocks, &lora);
        seam_memory_plan_repeats(&none, &blocks, &full);
    }
    const uint64_t device_kept = seam_memory_plan_device_bytes(&plans[1]);
    const uint64_t host_kept = seam_memory_plan_host_bytes(&plans[1]);
    assert_true(device_kept == 2 * seam_memory_plan_device_bytes(&plans[0]));
    assert_true(device_kept > UINT64_C(32) << 20 && device_kept < UINT64_C(128) << 20);
    assert_true(host_kept > UINT64_C(16) << 20 && host_kept <= device_kept);
    assert_true(seam_memory_plan_device_bytes(&none) + seam_memory_plan_host_bytes(&none) == 0);
}

int main(int argc, char **argv) {
    seam_backend *backend = NULL;
    seam_error err = {0};
    device = argc > 1 ? argv[1] : device;
    const seam_backend_options options = {.device = device};
    const seam_status st = seam_backend_create(&backend, &options, &err);
    if (st == SEAM_E_UNIMPLEMENTED) {
        (void)printf("skipped: %s\n", err.text);
        return 77;
    }
    seam_test_check(st, device, &err);
    seam_backend_destroy(backend);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plan__codec_of_the_device__is_what_is_taken,
                                        device_setup, teardown),
        cmocka_unit_test_setup_teardown(test_plan__codecs_ranks_targets__is_what_is_taken,
                                        device_setup, teardown),
        cmocka_unit_test_setup_teardown(test_plan__fp8__is_what_is_taken, device_setup, teardown),
        cmocka_unit_test_setup_teardown(test_trim__fewer_slots__their_plan_is_left, device_setup,
                                        teardown),
        cmocka_unit_test(test_plan__weights__are_what_is_taken),
        cmocka_unit_test_prestate(test_plan__weights__are_what_is_taken, &device),
        cmocka_unit_test(test_reserve__no_room__says_needed_and_free),
        cmocka_unit_test(test_plan__llama3_8b__half_of_compiled_with_recompute),
        cmocka_unit_test(test_plan__kept_passes__by_layers_and_none_of_full),
        cmocka_unit_test(test_plan__llama3_8b__fp8_adds_copies_and_scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
