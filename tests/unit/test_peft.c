/* Goal: an exported adapter comes back with the same bits, and a bad file changes nothing.
 * Method: export, import into a second adapter, compare state hashes; then every truncation, and
 * files with one thing wrong, each of which must be named.  peft itself loads an export in
 * tests/oracle/check_model.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "bytes.h"
#include "peft.h"
#include "peft_parts.h"
#include "synthetic_model.h"

static const seam_model_config config = {.architecture = "llama",
                                         .vocab_count = 11,
                                         .hidden = 8,
                                         .intermediate = 12,
                                         .layers = 3,
                                         .heads = 2,
                                         .kv_heads = 1,
                                         .head_dim = 4,
                                         .context_max = 16,
                                         .rms_eps = 1e-5f,
                                         .rope_theta = 10000.0,
                                         .tied = true,
                                         .bos_id = -1,
                                         .eos_id = -1};
static const seam_adapter_config lora = {
    .lora = {.rank = 2,
             .alpha = 5.5f,
             .targets = SEAM_LORA_Q | SEAM_LORA_V | SEAM_LORA_DOWN,
             .seed = 3}};

typedef struct fixture {
    seam_backend *backend;
    seam_stream *stream;
    seam_blocks *blocks;
    seam_adapter *adapter; /* every value by formula */
    seam_adapter *other;   /* fresh, with another seed */
    seam_peft_files files; /* export of adapter */
} fixture;

static void fixture_open_with(fixture *f, const seam_adapter_config *own, uint32_t layer_begin,
                              uint32_t layer_end) {
    memset(f, 0, sizeof *f);
    const seam_backend_options options = {.device = "ref", .act = SEAM_F64};
    const seam_tensor_source source = seam_synthetic_source(&config);
    seam_error err = {.status = SEAM_OK};
    seam_test_check(seam_backend_create(&f->backend, &options, &err), "backend", &err);
    seam_test_check(seam_backend_ops(f->backend)->stream_create(&f->stream, f->backend), "stream",
                    NULL);
    seam_test_check(
        seam_blocks_create_from(&f->blocks, f->backend, &source, layer_begin, layer_end, &err),
        "blocks", &err);
    seam_adapter_config other = *own;
    other.lora.seed = other.prefix.seed = 4;
    seam_test_check(seam_adapter_create(&f->adapter, f->blocks, own, &err), "adapter", &err);
    seam_test_check(seam_adapter_create(&f->other, f->blocks, &other, &err), "adapter", &err);
    seam_test_check(seam_synthetic_adapter(f->adapter, f->stream), "adapter", NULL);
    seam_test_check(seam_peft_export(&f->files, f->adapter, f->stream, "some/model", &err),
                    "export", &err);
}

static void fixture_open(fixture *f, uint32_t layer_begin, uint32_t layer_end) {
    fixture_open_with(f, &lora, layer_begin, layer_end);
}

static void fixture_close(fixture *f) {
    seam_peft_files_deinit(&f->files);
    seam_adapter_destroy(f->other);
    seam_adapter_destroy(f->adapter);
    seam_blocks_destroy(f->blocks);
    seam_backend_ops(f->backend)->stream_destroy(f->stream);
    seam_backend_destroy(f->backend);
}

static uint64_t hash_of(const fixture *f, const seam_adapter *adapter) {
    uint64_t hash = 0;
    seam_test_check(seam_adapter_state_hash(&hash, adapter, f->stream), "hash", NULL);
    return hash;
}

static void test_import__own_export__gives_the_same_bits(void **state) {
    (void)state;
    for (uint32_t begin = 0; begin < 2; begin++) {
        fixture f;
        fixture_open(&f, begin, 3);
        seam_error err = {.status = SEAM_OK};
        assert_int_not_equal(hash_of(&f, f.adapter), hash_of(&f, f.other));
        seam_test_check(seam_peft_import(f.other, f.stream, &f.files, &err), "import", &err);
        assert_int_equal(hash_of(&f, f.adapter), hash_of(&f, f.other));
        fixture_close(&f);
    }
}

static const seam_adapter_config prefix = {.kind = SEAM_ADAPTER_PREFIX,
                                           .prefix = {.tokens = 5, .seed = 3}};

static void test_import__own_prefix__gives_the_same_bits(void **state) {
    (void)state;
    fixture f;
    fixture_open_with(&f, &prefix, 0, 3);
    seam_error err = {.status = SEAM_OK};
    seam_adapter_config read = {0};
    seam_test_check(seam_peft_read_config(&read, f.files.config, f.files.config_bytes, &err),
                    "config", &err);
    assert_int_equal(read.prefix.tokens, prefix.prefix.tokens);
    assert_int_equal(read.lora.rank, 0);
    assert_int_not_equal(hash_of(&f, f.adapter), hash_of(&f, f.other));
    seam_test_check(seam_peft_import(f.other, f.stream, &f.files, &err), "import", &err);
    assert_int_equal(hash_of(&f, f.adapter), hash_of(&f, f.other));
    fixture_close(&f);
}

static void test_read_config__own_export__has_rank_alpha_targets(void **state) {
    (void)state;
    fixture f;
    fixture_open(&f, 0, 3);
    seam_adapter_config read = {0};
    seam_error err = {.status = SEAM_OK};
    seam_test_check(seam_peft_read_config(&read, f.files.config, f.files.config_bytes, &err),
                    "config", &err);
    assert_int_equal(read.lora.rank, lora.lora.rank);
    assert_true(read.lora.alpha == lora.lora.alpha);
    assert_int_equal(read.lora.targets, lora.lora.targets);
    fixture_close(&f);
}

/* The import fails with `expected`, the error has `word`, and the adapter is as before. */
static void assert_refused(fixture *f, const seam_peft_files *files, seam_status expected,
                           const char *word) {
    const uint64_t before = hash_of(f, f->other);
    seam_error err = {.status = SEAM_OK};
    const seam_status st = seam_peft_import(f->other, f->stream, files, &err);
    if (st != expected || strstr(err.text, word) == NULL) {
        fail_msg("%s: got %s, \"%s\"", word, seam_status_name(st), err.text);
    }
    assert_int_equal(hash_of(f, f->other), before);
}

static void test_import__every_truncation__is_refused(void **state) {
    (void)state;
    fixture f;
    fixture_open(&f, 0, 3);
    seam_peft_files cut = f.files;
    for (cut.weights_bytes = 0; cut.weights_bytes < f.files.weights_bytes; cut.weights_bytes++) {
        assert_refused(&f, &cut, SEAM_E_FORMAT, SEAM_PEFT_WEIGHTS_NAME);
    }
    cut = f.files;
    for (cut.config_bytes = 0; cut.config_bytes < f.files.config_bytes; cut.config_bytes++) {
        assert_refused(&f, &cut, SEAM_E_FORMAT, SEAM_PEFT_CONFIG_NAME);
    }
    fixture_close(&f);
}

/* Overwrites the first `from` in the weights' header with `to` of the same length. */
static void header_edit(fixture *f, const char *from, const char *to) {
    const size_t bytes = strlen(from);
    assert_int_equal(bytes, strlen(to));
    for (size_t i = 8; i + bytes <= f->files.weights_bytes; i++) {
        if (memcmp(f->files.weights + i, from, bytes) == 0) {
            memcpy(f->files.weights + i, to, bytes);
            return;
        }
    }
    fail_msg("the header has no %s", from);
}

static void test_import__wrong_weights__names_the_tensor(void **state) {
    (void)state;
    static const struct {
        const char *from, *to, *word;
    } edits[] = {
        {"layers.0.self_attn.q_proj", "layers.9.self_attn.q_proj", "layers.0.self_attn.q_proj"},
        {"layers.2.mlp.down_proj.lora_B", "layers.2.mlp.down_proj.lora_C",
         "layers.2.mlp.down_proj.lora_B"},
        {"[2,8]", "[8,2]", "layers.0.self_attn.q_proj.lora_A.weight: shape must be [2, 8]"},
        {"\"F32\"", "\"I32\"", "dtype"},
    };
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        fixture f;
        fixture_open(&f, 0, 3);
        header_edit(&f, edits[i].from, edits[i].to);
        assert_refused(&f, &f.files, SEAM_E_FORMAT, edits[i].word);
        fixture_close(&f);
    }
    fixture f;
    fixture_open(&f, 0, 3);
    seam_put_u32(f.files.weights + f.files.weights_bytes - 4, 0x7fc00000u); /* NaN, last tensor */
    assert_refused(&f, &f.files, SEAM_E_NONFINITE, "layers.2.mlp.down_proj.lora_B");
    fixture_close(&f);
}

static void test_import__wrong_config__names_the_field(void **state) {
    (void)state;
#define REST ",\"lora_alpha\":5.5,\"target_modules\":[\"q_proj\",\"v_proj\",\"down_proj\"]}"
#define HEAD "{\"peft_type\":\"LORA\",\"r\":2"
    static const struct {
        const char *json;
        seam_status st;
        const char *word;
    } configs[] = {
        {"[1]", SEAM_E_FORMAT, "object"},
        {"{\"peft_type\":\"IA3\",\"r\":2" REST, SEAM_E_UNIMPLEMENTED, "peft_type"},
        {"{\"peft_type\":\"LORA\",\"r\":0" REST, SEAM_E_FORMAT, ": r:"},
        {"{\"peft_type\":\"LORA\",\"r\":3" REST, SEAM_E_FORMAT, ": r: is 3"},
        {HEAD ",\"use_dora\":true" REST, SEAM_E_UNIMPLEMENTED, "use_dora"},
        {HEAD ",\"use_rslora\":true" REST, SEAM_E_FORMAT, "use_rslora: is true"},
        {HEAD ",\"rank_pattern\":{\"q_proj\":4}" REST, SEAM_E_UNIMPLEMENTED, "rank_pattern"},
        {HEAD ",\"modules_to_save\":[\"lm_head\"]" REST, SEAM_E_UNIMPLEMENTED, "modules_to_save"},
        {HEAD ",\"bias\":\"all\"" REST, SEAM_E_UNIMPLEMENTED, "bias"},
        {HEAD ",\"lora_alpha\":\"x\",\"target_modules\":[\"q_proj\"]}", SEAM_E_FORMAT,
         "lora_alpha"},
        {HEAD ",\"lora_alpha\":6,\"target_modules\":[\"q_proj\",\"v_proj\",\"down_proj\"]}",
         SEAM_E_FORMAT, "lora_alpha: is 6"},
        {HEAD ",\"lora_alpha\":5.5,\"target_modules\":[\"q_proj\"]}", SEAM_E_FORMAT,
         "target_modules"},
        {HEAD ",\"lora_alpha\":5.5,\"target_modules\":\"all-linear\"}", SEAM_E_FORMAT,
         "target_modules"},
        {HEAD ",\"lora_alpha\":5.5,\"target_modules\":[\"lm_head\"]}", SEAM_E_UNIMPLEMENTED,
         "lm_head"},
    };
    fixture f;
    fixture_open(&f, 0, 3);
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        seam_peft_files files = f.files;
        char text[256];
        (void)snprintf(text, sizeof text, "%s", configs[i].json);
        files.config = (uint8_t *)text;
        files.config_bytes = strlen(text);
        assert_refused(&f, &files, configs[i].st, configs[i].word);
    }
    fixture_close(&f);
}

static void test_import__wrong_prefix_config__names_the_field(void **state) {
    (void)state;
#define PREFIX "{\"peft_type\":\"PREFIX_TUNING\","
    static const struct {
        const char *json;
        seam_status st;
        const char *word;
    } configs[] = {
        {PREFIX "\"num_virtual_tokens\":4}", SEAM_E_FORMAT, "num_virtual_tokens: is 4"},
        {PREFIX "\"num_virtual_tokens\":0}", SEAM_E_FORMAT, "num_virtual_tokens"},
        {PREFIX "\"num_virtual_tokens\":5,\"prefix_projection\":true}", SEAM_E_UNIMPLEMENTED,
         "prefix_projection"},
        {PREFIX "\"num_virtual_tokens\":5,\"num_transformer_submodules\":2}", SEAM_E_UNIMPLEMENTED,
         "num_transformer_submodules"},
        {PREFIX "\"num_virtual_tokens\":5,\"num_layers\":4}", SEAM_E_FORMAT, "num_layers: is 4"},
        {PREFIX "\"num_virtual_tokens\":5,\"token_dim\":8}", SEAM_E_FORMAT, "token_dim: is 8"},
        {PREFIX "\"num_virtual_tokens\":5,\"num_attention_heads\":2}", SEAM_E_FORMAT,
         "num_attention_heads: is 2"},
        {HEAD REST, SEAM_E_FORMAT, "peft_type: is LORA"},
    };
    fixture f;
    fixture_open_with(&f, &prefix, 0, 3);
    for (size_t i = 0; i < sizeof configs / sizeof configs[0]; i++) {
        seam_peft_files files = f.files;
        char text[256];
        (void)snprintf(text, sizeof text, "%s", configs[i].json);
        files.config = (uint8_t *)text;
        files.config_bytes = strlen(text);
        assert_refused(&f, &files, configs[i].st, configs[i].word);
    }
    seam_peft_files cut = f.files;
    for (cut.weights_bytes = 0; cut.weights_bytes < f.files.weights_bytes; cut.weights_bytes += 7) {
        assert_refused(&f, &cut, SEAM_E_FORMAT, SEAM_PEFT_WEIGHTS_NAME);
    }
    fixture_close(&f);
}

static void test_adapter_create__bad_prefix__is_refused(void **state) {
    (void)state;
    fixture f;
    fixture_open(&f, 1, 3);
    seam_adapter *adapter = NULL;
    seam_error err = {.status = SEAM_OK};
    seam_adapter_config bad = prefix;
    bad.prefix.tokens = 16; /* the whole context */
    assert_int_equal(seam_adapter_create(&adapter, f.blocks, &bad, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "prefix.virtual_tokens"));
    fixture_close(&f);
}

static void test_export__memory_ends_anywhere__is_an_error(void **state) {
    (void)state;
    fixture f;
    fixture_open(&f, 0, 3);
    seam_status st = SEAM_E_MEMORY;
    for (int64_t allowed = 0; st == SEAM_E_MEMORY; allowed++) {
        seam_peft_files files = {0};
        seam_error err = {.status = SEAM_OK};
        seam_mem_fail_after(allowed);
        st = seam_peft_export(&files, f.adapter, f.stream, "some/model", &err);
        seam_mem_fail_after(-1);
        assert_true(st == SEAM_OK || (err.text[0] != 0 && files.weights == NULL));
        seam_peft_files_deinit(&files);
    }
    assert_int_equal(st, SEAM_OK);
    fixture_close(&f);
}

static const seam_peft_range first = {0, 1, 3}, rest = {1, 3, 3}, none = {3, 4, 4};

/* Taken apart by layers and put together again: the same adapter; what is missing or twice is
 * named. */
static void test_parts__split_and_join__the_same_adapter(void **state) {
    (void)state;
    fixture f;
    fixture_open(&f, 0, 3);
    seam_error err = {.status = SEAM_OK};
    seam_peft_files parts[2] = {{0}}, joined = {0};
    uint32_t counts[2] = {0}, total = 0;
    seam_test_check(seam_peft_split(&parts[0], &counts[0], &f.files, &first, &err), "split", &err);
    seam_test_check(seam_peft_split(&parts[1], &counts[1], &f.files, &rest, &err), "split", &err);
    seam_test_check(seam_peft_tensor_count(&total, &f.files, &err), "count", &err);
    assert_int_equal(counts[0], 6);
    assert_int_equal(counts[0] + counts[1], total);
    assert_non_null(memmem(parts[1].config, parts[1].config_bytes, "layers_to_transform\": [", 23));
    seam_test_check(seam_peft_join(&joined, &f.files, parts, 2, 3, &err), "join", &err);
    assert_non_null(memmem(joined.config, joined.config_bytes, "layers_to_transform\": null", 26));
    assert_int_not_equal(hash_of(&f, f.adapter), hash_of(&f, f.other));
    seam_test_check(seam_peft_import(f.other, f.stream, &joined, &err), "import", &err);
    assert_int_equal(hash_of(&f, f.adapter), hash_of(&f, f.other));
    seam_peft_files_deinit(&joined);
    const seam_peft_files twice[2] = {parts[0], parts[0]};
    assert_int_equal(seam_peft_join(&joined, &f.files, twice, 2, 3, &err), SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, "is there twice"));
    assert_int_equal(seam_peft_split(&joined, &total, &f.files, &none, &err), SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, "nothing of layers 3 to 3"));
    for (size_t cut = 0; cut < parts[0].weights_bytes; cut += 7) { /* of a peer or a disk */
        const seam_peft_files torn = {.weights = parts[0].weights,
                                      .weights_bytes = cut,
                                      .config = parts[0].config,
                                      .config_bytes = parts[0].config_bytes};
        assert_int_equal(seam_peft_split(&joined, &total, &torn, &first, &err), SEAM_E_FORMAT);
    }
    seam_peft_files_deinit(&parts[1]);
    seam_peft_files_deinit(&parts[0]);
    fixture_close(&f);
}

/* The fresh adapter's files in the place of the others. */
static void export_other(fixture *f) {
    seam_error err = {.status = SEAM_OK};
    seam_peft_files_deinit(&f->files);
    seam_test_check(seam_peft_export(&f->files, f->other, f->stream, "some/model", &err), "export",
                    &err);
}

/* A prefix by its layers: each end's part starts with the values of the whole one, which the parts
 * make again; what does not fit together is named. */
static void test_parts__prefix__columns_of_the_layers(void **state) {
    (void)state;
    const seam_peft_range ranges[2] = {first, rest}, five = {0, 2, 5};
    fixture whole, ends[2];
    seam_error err = {.status = SEAM_OK};
    seam_peft_files parts[2] = {{0}}, joined = {0};
    uint32_t counts[2] = {9, 9};
    fixture_open_with(&whole, &prefix, 0, 3);
    export_other(&whole);
    for (int i = 0; i < 2; i++) {
        fixture *const end = &ends[i];
        fixture_open_with(end, &prefix, ranges[i].begin, ranges[i].end);
        export_other(end);
        seam_test_check(seam_peft_split(&parts[i], &counts[i], &whole.files, &ranges[i], &err),
                        "split", &err);
        assert_int_equal(parts[i].weights_bytes, end->files.weights_bytes);
        assert_memory_equal(parts[i].weights, end->files.weights, parts[i].weights_bytes);
        assert_int_not_equal(hash_of(end, end->adapter), hash_of(end, end->other));
        seam_test_check(seam_peft_import(end->adapter, end->stream, &parts[i], &err), "import",
                        &err);
        assert_int_equal(hash_of(end, end->adapter), hash_of(end, end->other));
    }
    assert_true(counts[0] == 0 && counts[1] == 1);
    seam_test_check(seam_peft_join(&joined, &parts[1], parts, 2, 3, &err), "join", &err);
    assert_int_equal(joined.weights_bytes, whole.files.weights_bytes);
    assert_memory_equal(joined.weights, whole.files.weights, joined.weights_bytes);
    seam_test_check(seam_peft_import(whole.adapter, whole.stream, &joined, &err), "import", &err);
    assert_int_equal(hash_of(&whole, whole.adapter), hash_of(&whole, whole.other));
    seam_peft_files_deinit(&joined);
    assert_int_equal(seam_peft_join(&joined, &parts[0], parts, 1, 3, &err), SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, "the parts have 1, the model has 3"));
    assert_int_equal(seam_peft_split(&joined, counts, &whole.files, &five, &err), SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, "columns are not of 5 layers"));
    for (size_t cut = 0; cut < whole.files.weights_bytes; cut += 7) { /* of a peer or a disk */
        seam_peft_files torn = whole.files;
        torn.weights_bytes = cut;
        assert_int_equal(seam_peft_split(&joined, counts, &torn, &first, &err), SEAM_E_FORMAT);
    }
    for (int i = 0; i < 2; i++) {
        seam_peft_files_deinit(&parts[i]);
        fixture_close(&ends[i]);
    }
    fixture_close(&whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_import__own_export__gives_the_same_bits),
        cmocka_unit_test(test_import__own_prefix__gives_the_same_bits),
        cmocka_unit_test(test_import__wrong_prefix_config__names_the_field),
        cmocka_unit_test(test_adapter_create__bad_prefix__is_refused),
        cmocka_unit_test(test_parts__prefix__columns_of_the_layers),
        cmocka_unit_test(test_read_config__own_export__has_rank_alpha_targets),
        cmocka_unit_test(test_import__every_truncation__is_refused),
        cmocka_unit_test(test_import__wrong_weights__names_the_tensor),
        cmocka_unit_test(test_import__wrong_config__names_the_field),
        cmocka_unit_test(test_export__memory_ends_anywhere__is_an_error),
        cmocka_unit_test(test_parts__split_and_join__the_same_adapter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
