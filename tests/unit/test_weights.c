/* Goal: every format of weight file gives the same values under Hugging Face's names, and a
 * truncated, lying or foreign file gives an error that names it, never a crash or other values.
 * Method: one tiny model written by weights_fixture.c in each format; the file cut at every byte
 * and every header bit flipped; config.json and headers spoilt one field at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "arena.h"
#include "bytes.h"
#include "config_json.h"
#include "gguf.h"
#include "gguf_model.h"
#include "safetensors.h"
#include "weights.h"
#include "weights_fixture.h"
#include "whole_file.h"

static char directory[64];

static void write_file(const char *name, const void *bytes, size_t count) {
    seam_test_file_write(bytes, count, "%s/%s", directory, name);
}

static void remove_file(const char *name) {
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    assert_int_equal(unlink(path), 0);
}

static int directory_setup(void **state) {
    (void)state;
    (void)snprintf(directory, sizeof(directory), "/tmp/seam-weights-XXXXXX");
    return mkdtemp(directory) == NULL ? -1 : 0;
}

static int directory_teardown(void **state) {
    (void)state;
    return rmdir(directory);
}

static bool has_values(const seam_weights *w) {
    static float values[64 * 64];
    for (int i = 0; i < FIXTURE_TENSORS; i++) {
        const fixture_tensor *t = &FIXTURE_TENSOR[i];
        const uint32_t rows = t->rows == 0 ? 1 : t->rows;
        if (seam_weights_read(values, w, t->hf, rows, t->cols, NULL) != SEAM_OK) {
            return false;
        }
        for (uint32_t k = 0; k < rows * t->cols; k++) {
            if (values[k] != fixture_value(i, k)) {
                return false;
            }
        }
    }
    return true;
}

static void config_expect(const seam_model_config *c) {
    assert_int_equal(c->vocab_count, FIXTURE_VOCAB);
    assert_int_equal(c->hidden, FIXTURE_HIDDEN);
    assert_int_equal(c->intermediate, FIXTURE_FFN);
    assert_int_equal(c->layers, 1);
    assert_int_equal(c->heads, 2);
    assert_int_equal(c->kv_heads, 1);
    assert_int_equal(c->head_dim, 16);
    assert_int_equal(c->context_max, 64);
    assert_float_equal(c->rms_eps, 1e-5F, 0.0F);
    assert_true(c->rope_theta == 10000.0);
    assert_false(c->tied);
    assert_int_equal(c->bos_id, 1);
    assert_int_equal(c->eos_id, 2);
}

static void test_open__safetensors__values_in_every_dtype(void **state) {
    (void)state;
    static const char *const DTYPES[] = {"F32", "F16", "BF16"};
    static fixture_bytes file;
    write_file("config.json", FIXTURE_CONFIG, strlen(FIXTURE_CONFIG));
    for (int i = 0; i < 3; i++) {
        seam_weights *w = NULL;
        fixture_safetensors(&file, DTYPES[i]);
        write_file("model.safetensors", file.bytes, file.count);
        assert_int_equal(seam_weights_open(&w, directory, NULL), SEAM_OK);
        config_expect(seam_weights_config(w));
        assert_int_equal(seam_weights_config(w)->eos_count, 2);
        assert_true(has_values(w));
        seam_weights_close(w);
    }
    remove_file("model.safetensors");
    remove_file("config.json");
}

static void test_open__gguf__values_in_every_type(void **state) {
    (void)state;
    static const uint32_t TYPES[] = {0, 1, 30, 8, 2, 3};
    static fixture_bytes file;
    for (size_t i = 0; i < sizeof(TYPES) / sizeof(TYPES[0]); i++) {
        seam_weights *w = NULL;
        seam_error err = {0};
        size_t header_bytes;
        fixture_gguf(&file, TYPES[i], &header_bytes);
        write_file("a.gguf", file.bytes, file.count);
        if (seam_weights_open(&w, directory, &err) != SEAM_OK) {
            fail_msg("type %u: %s", TYPES[i], err.text);
        }
        config_expect(seam_weights_config(w));
        assert_true(has_values(w));
        seam_weights_close(w);
    }
    remove_file("a.gguf");
}

/* All names in one shard; then an index that lies. */
static void test_open__sharded__index_is_checked(void **state) {
    (void)state;
    static fixture_bytes file;
    static const struct {
        const char *norm_file, *extra;
        seam_status status;
        const char *word;
    } CASES[] = {
        {"one.safetensors", "", SEAM_OK, NULL},
        {"two.safetensors", "", SEAM_E_NOT_FOUND, "two.safetensors"},
        {"../one.safetensors", "", SEAM_E_FORMAT, "bad file name"},
        {"/one.safetensors", "", SEAM_E_FORMAT, "bad file name"},
        {"one.safetensors", ", \"model.layers.7.x\": \"one.safetensors\"", SEAM_E_FORMAT,
         "model.layers.7.x"},
    };
    fixture_safetensors(&file, "F32");
    write_file("config.json", FIXTURE_CONFIG, strlen(FIXTURE_CONFIG));
    write_file("one.safetensors", file.bytes, file.count);
    for (size_t k = 0; k < sizeof(CASES) / sizeof(CASES[0]); k++) {
        char index[2048] = "{\"weight_map\": {\"model.norm.weight\": \"";
        strncat(index, CASES[k].norm_file, 64);
        strncat(index, "\"", 2);
        for (int i = 0; i < FIXTURE_TENSORS; i++) {
            char entry[128];
            (void)snprintf(entry, sizeof(entry), ", \"%s\": \"one.safetensors\"",
                           FIXTURE_TENSOR[i].hf);
            strncat(index, i == 1 ? "" : entry, sizeof(index) - strlen(index) - 1);
        }
        strncat(index, CASES[k].extra, 64);
        strncat(index, "}}", 3);
        write_file("model.safetensors.index.json", index, strlen(index));
        seam_weights *w = NULL;
        seam_error err = {0};
        assert_int_equal(seam_weights_open(&w, directory, &err), CASES[k].status);
        if (CASES[k].status == SEAM_OK) {
            assert_true(has_values(w));
        } else {
            assert_non_null(strstr(err.text, CASES[k].word));
        }
        seam_weights_close(w);
    }
    remove_file("model.safetensors.index.json");
    remove_file("one.safetensors");
    remove_file("config.json");
}

static void test_open__missing_files__named(void **state) {
    (void)state;
    seam_weights *w = NULL;
    seam_error err = {0};
    assert_int_equal(seam_weights_open(&w, "/nonexistent", &err), SEAM_E_NOT_FOUND);
    assert_int_equal(seam_weights_open(&w, directory, &err), SEAM_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "neither config.json nor a .gguf"));
    write_file("config.json", FIXTURE_CONFIG, strlen(FIXTURE_CONFIG));
    assert_int_equal(seam_weights_open(&w, directory, &err), SEAM_E_NOT_FOUND);
    write_file("model.safetensors", "", 0);
    assert_int_equal(seam_weights_open(&w, directory, &err), SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, "model.safetensors"));
    remove_file("model.safetensors");
    write_file("a.safetensors", "", 0);
    write_file("b.safetensors", "", 0);
    assert_int_equal(seam_weights_open(&w, directory, &err), SEAM_E_ARG);
    remove_file("config.json");
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/a.safetensors", directory);
    assert_int_equal(seam_weights_open(&w, path, &err), SEAM_E_ARG);
    remove_file("a.safetensors");
    remove_file("b.safetensors");
    assert_null(w);
}

static void test_read__absent_tensor_or_other_shape__named(void **state) {
    (void)state;
    static fixture_bytes file;
    float value[32];
    seam_weights *w = NULL;
    seam_error err = {0};
    uint64_t rows = 0;
    uint64_t cols = 0;
    fixture_safetensors(&file, "F32");
    write_file("config.json", FIXTURE_CONFIG, strlen(FIXTURE_CONFIG));
    write_file("model.safetensors", file.bytes, file.count);
    assert_int_equal(seam_weights_open(&w, directory, NULL), SEAM_OK);
    assert_int_equal(seam_weights_shape(&rows, &cols, w, "model.norm.bias", NULL),
                     SEAM_E_NOT_FOUND);
    assert_int_equal(seam_weights_shape(&rows, &cols, w, "model.norm.weight", NULL), SEAM_OK);
    assert_int_equal(rows, 1);
    assert_int_equal(cols, 32);
    assert_int_equal(seam_weights_shape(&rows, &cols, w, "gone", &err), SEAM_E_NOT_FOUND);
    assert_int_equal(seam_weights_read(value, w, "gone", 1, 32, &err), SEAM_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "gone"));
    assert_int_equal(seam_weights_read(value, w, "model.norm.weight", 2, 16, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "(1, 32)"));
    seam_weights_close(w);
    remove_file("model.safetensors");
    remove_file("config.json");
}

/* ---- Damage, in memory: each attempt has its own exact allocation, so that ASan sees a byte read
 * past the end. ---- */

typedef enum outcome { REFUSED, SAME, OTHER } outcome;

static outcome index_outcome(const seam_tensor_index *index) {
    static float values[64 * 64];
    for (int i = 0; i < FIXTURE_TENSORS; i++) {
        const fixture_tensor *t = &FIXTURE_TENSOR[i];
        const seam_tensor_entry *e = seam_tensor_index_find(index, t->hf);
        const uint32_t rows = t->rows == 0 ? 1 : t->rows;
        if (e == NULL || e->rows != rows || e->cols != t->cols || e->type == SEAM_TENSOR_OTHER) {
            continue; /* another name or shape: refused when it is asked for */
        }
        seam_dequantize(values, e->type, e->bytes, rows * t->cols);
        for (uint32_t k = 0; k < rows * t->cols && e->unpermute_head_dim == 0; k++) {
            if (values[k] != fixture_value(i, k)) {
                return OTHER;
            }
        }
    }
    return SAME;
}

static outcome safetensors_outcome(const uint8_t *bytes, size_t count) {
    seam_tensor_index index = {0};
    seam_error err = {0};
    outcome result = REFUSED;
    if (seam_safetensors_parse(&index, bytes, count, "f", &err) == SEAM_OK &&
        seam_tensor_index_finish(&index, &err) == SEAM_OK) {
        result = index_outcome(&index);
    } else {
        assert_true(err.text[0] == 'f' && err.text[1] == ':');
    }
    seam_tensor_index_deinit(&index);
    return result;
}

static outcome gguf_outcome(const uint8_t *bytes, size_t count) {
    seam_tensor_index index = {0};
    seam_model_config config;
    seam_gguf *gguf = NULL;
    outcome result = REFUSED;
    if (seam_gguf_create(&gguf, bytes, count, "f", NULL) == SEAM_OK &&
        seam_gguf_model_read(&config, &index, gguf, NULL) == SEAM_OK &&
        seam_tensor_index_finish(&index, NULL) == SEAM_OK) {
        result = index_outcome(&index);
    }
    seam_tensor_index_deinit(&index);
    seam_gguf_destroy(gguf);
    return result;
}

static void damage_all(const fixture_bytes *file, size_t header_bytes,
                       outcome (*read)(const uint8_t *, size_t)) {
    assert_int_equal(read(file->bytes, file->count), SAME);
    for (size_t count = 0; count < file->count; count += count < header_bytes + 64 ? 1 : 97) {
        uint8_t *cut = seam_mem_alloc(count);
        memcpy(cut, file->bytes, count);
        assert_int_equal(read(cut, count), REFUSED);
        seam_mem_free(cut);
    }
    uint8_t *copy = seam_mem_alloc(file->count);
    memcpy(copy, file->bytes, file->count);
    for (size_t at = 0; at < header_bytes; at++) {
        for (int flip = 0; flip < 9; flip++) {
            copy[at] ^= (uint8_t)(flip == 8 ? 0xff : 1 << flip);
            assert_int_not_equal(read(copy, file->count), OTHER);
            copy[at] = file->bytes[at];
        }
    }
    seam_mem_free(copy);
}

static void test_safetensors__cut_or_flipped__error_or_same_values(void **state) {
    (void)state;
    static fixture_bytes file;
    fixture_safetensors(&file, "F16");
    damage_all(&file, 8 + (size_t)seam_get_u64(file.bytes), safetensors_outcome);
}

static void test_gguf__cut_or_flipped__error_or_same_values(void **state) {
    (void)state;
    static fixture_bytes file;
    size_t header_bytes;
    /* Q8_0: no bit of its number makes a type whose blocks would fill the same place. */
    fixture_gguf(&file, 8, &header_bytes);
    damage_all(&file, header_bytes, gguf_outcome);
}

static void test_gguf_create__each_allocation_fails_once__memory_error(void **state) {
    (void)state;
    static fixture_bytes file;
    size_t header_bytes;
    seam_gguf *gguf = NULL;
    fixture_gguf(&file, 0, &header_bytes);
    for (int64_t n = 0; gguf == NULL; n++) {
        seam_mem_fail_after(n);
        const seam_status st = seam_gguf_create(&gguf, file.bytes, file.count, "f", NULL);
        seam_mem_fail_after(-1);
        assert_true(st == SEAM_OK ? n >= 3 && gguf != NULL : st == SEAM_E_MEMORY);
    }
    seam_gguf_destroy(gguf);
}

static void test_safetensors__lying_headers__refused(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t data_bytes;
        seam_status status;
        const char *word;
    } CASES[] = {
        {"{}", 0, SEAM_OK, NULL},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}  ", 8, SEAM_OK, NULL},
        {"{}", 1, SEAM_E_FORMAT, "end at data byte"},
        {"[]", 0, SEAM_E_FORMAT, "'{'"},
        {"{\"a\":5}", 0, SEAM_E_FORMAT, "not an object"},
        {"{\"\":{}}", 0, SEAM_E_FORMAT, "name"},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, SEAM_E_FORMAT, "dtype"},
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
         SEAM_E_UNIMPLEMENTED, "F31"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, SEAM_E_FORMAT,
         "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, SEAM_E_FORMAT,
         "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, SEAM_E_FORMAT,
         "need"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4294967296],"
         "\"data_offsets\":[0,8]}}",
         8, SEAM_E_FORMAT, "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, SEAM_E_FORMAT,
         "data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, SEAM_E_FORMAT,
         "data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         8, SEAM_E_FORMAT, "overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
         12, SEAM_E_FORMAT, "gap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
         8, SEAM_E_FORMAT, "duplicate"},
        {"{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 0,
         SEAM_E_FORMAT, "nested"},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        static fixture_bytes file;
        static const uint8_t ZEROS[16];
        seam_tensor_index index = {0};
        seam_error err = {0};
        file.count = 0;
        fixture_put_u64(&file, strlen(CASES[i].header));
        fixture_put(&file, CASES[i].header, strlen(CASES[i].header));
        fixture_put(&file, ZEROS, CASES[i].data_bytes);
        assert_int_equal(
            seam_safetensors_parse(&index, file.bytes, file.count, "f.safetensors", &err),
            CASES[i].status);
        if (CASES[i].word != NULL) {
            assert_non_null(strstr(err.text, CASES[i].word));
            assert_non_null(strstr(err.text, "f.safetensors"));
        }
        seam_tensor_index_deinit(&index);
    }
}

/* ---- config.json ---- */

static void test_config_json__fields(void **state) {
    (void)state;
    static const struct {
        const char *field, *value; /* put at the end of a good file */
        seam_status status;
        const char *word;
    } CASES[] = {
        {"head_dim", "16", SEAM_OK, NULL},
        {"head_dim", "null", SEAM_OK, NULL},
        {"torch_dtype", "\"bfloat16\"", SEAM_OK, NULL},
        {"rope_scaling", "null", SEAM_OK, NULL},
        {"rope_scaling", "{\"rope_type\": \"default\"}", SEAM_OK, NULL},
        {"rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": 10000}", SEAM_OK, NULL},
        {"sliding_window", "null", SEAM_OK, NULL},
        {"head_dim", "15", SEAM_E_ARG, "head_dim"},
        {"head_dim", "\"x\"", SEAM_E_FORMAT, "head_dim"},
        {"rope_scaling", "{\"rope_type\": \"llama3\", \"factor\": 8}", SEAM_E_FORMAT,
         "rope_scaling.low_freq_factor"},
        {"rope_scaling", "{\"type\": \"linear\", \"factor\": 2}", SEAM_OK, NULL},
        {"rope_scaling", "{\"type\": \"linear\", \"factor\": -2}", SEAM_E_FORMAT,
         "rope_scaling.factor"},
        {"rope_scaling", "{\"type\": \"linear\", \"factor\": 2, \"beta_fast\": 1}",
         SEAM_E_UNIMPLEMENTED, "rope_scaling.beta_fast"},
        {"rope_scaling", "{\"factor\": 2}", SEAM_E_UNIMPLEMENTED, "rope_scaling"},
        {"rope_parameters", "{\"rope_theta\": 500}", SEAM_E_FORMAT, "rope_parameters"},
        {"rope_parameters", "{\"rope_type\": \"yarn\"}", SEAM_E_UNIMPLEMENTED, "rope_parameters"},
        {"attention_bias", "true", SEAM_E_UNIMPLEMENTED, "attention_bias"},
        {"mlp_bias", "true", SEAM_E_UNIMPLEMENTED, "mlp_bias"},
        {"sliding_window", "4096", SEAM_E_UNIMPLEMENTED, "sliding_window"},
        {"layer_types", "[\"sliding_attention\"]", SEAM_E_UNIMPLEMENTED, "layer_types"},
        {"quantization_config", "{}", SEAM_E_UNIMPLEMENTED, "quantization_config"},
        {"partial_rotary_factor", "0.5", SEAM_E_UNIMPLEMENTED, "partial_rotary_factor"},
        {"pretraining_tp", "2", SEAM_E_UNIMPLEMENTED, "pretraining_tp"},
        {"tie_word_embeddings", "1", SEAM_E_FORMAT, "tie_word_embeddings"},
        {"pad_token_id", "0", SEAM_OK, NULL},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        char text[2048];
        seam_model_config config;
        seam_error err = {0};
        (void)snprintf(text, sizeof(text), "%.*s, \"%s\": %s}", (int)strlen(FIXTURE_CONFIG) - 1,
                       FIXTURE_CONFIG, CASES[i].field, CASES[i].value);
        assert_int_equal(seam_config_json_parse(&config, text, strlen(text), "c.json", &err),
                         CASES[i].status);
        if (CASES[i].status != SEAM_OK) {
            assert_non_null(strstr(err.text, CASES[i].word));
            assert_non_null(strstr(err.text, "c.json"));
        }
    }
}

/* Each occurrence of `from` in the good file becomes `to`. */
static void test_config_json__changed_values(void **state) {
    (void)state;
    static const struct {
        const char *from, *to;
        seam_status status;
        const char *word;
    } CASES[] = {
        {"LlamaForCausalLM", "MistralForCausalLM", SEAM_E_UNIMPLEMENTED, "MistralForCausalLM"},
        {"\"llama\"", "\"qwen2\"", SEAM_E_UNIMPLEMENTED, "model_type"},
        {"\"silu\"", "\"gelu\"", SEAM_E_UNIMPLEMENTED, "hidden_act"},
        {"\"hidden_size\"", "\"gone\"", SEAM_E_FORMAT, "hidden_size"},
        {"\"vocab_size\": 5", "\"vocab_size\": 0", SEAM_E_FORMAT, "vocab_size"},
        {"\"vocab_size\": 5", "\"vocab_size\": 2", SEAM_E_ARG, "eos id 2"},
        {"\"vocab_size\": 5", "\"vocab_size\": 99999999", SEAM_E_ARG, "vocab_size"},
        {"\"num_attention_heads\": 2", "\"num_attention_heads\": 3", SEAM_E_ARG, "head_dim"},
        {"\"num_key_value_heads\": 1", "\"num_key_value_heads\": 4", SEAM_E_ARG,
         "num_key_value_heads"},
        {"\"num_hidden_layers\": 1", "\"num_hidden_layers\": 257", SEAM_E_ARG, "num_hidden_layers"},
        {"1e-05", "0.0", SEAM_E_ARG, "rms_norm_eps"},
        {"1e-05", "\"x\"", SEAM_E_FORMAT, "rms_norm_eps"},
        {"10000.0", "-1", SEAM_E_ARG, "rope_theta"},
        {"[2, 3]", "2", SEAM_OK, NULL},
        {"[2, 3]", "null", SEAM_OK, NULL},
        {"[2, 3]", "[2, \"x\"]", SEAM_E_FORMAT, "eos_token_id"},
        {"[2, 3]", "[1,1,1,1,1,1,1,1,1]", SEAM_E_FORMAT, "eos_token_id"},
        {"\"bos_token_id\": 1", "\"bos_token_id\": 70", SEAM_E_ARG, "bos id"},
        {"{\"arch", "[{\"arch", SEAM_E_FORMAT, "c.json"},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        char text[2048];
        seam_model_config config;
        seam_error err = {0};
        const char *at = strstr(FIXTURE_CONFIG, CASES[i].from);
        assert_non_null(at);
        (void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - FIXTURE_CONFIG), FIXTURE_CONFIG,
                       CASES[i].to, at + strlen(CASES[i].from));
        assert_int_equal(seam_config_json_parse(&config, text, strlen(text), "c.json", &err),
                         CASES[i].status);
        if (CASES[i].status != SEAM_OK) {
            assert_non_null(strstr(err.text, CASES[i].word));
        }
    }
}

static void test_config_identity__depends_on_every_size(void **state) {
    (void)state;
    seam_model_config a = {0};
    assert_int_equal(seam_config_json_parse(&a, FIXTURE_CONFIG, strlen(FIXTURE_CONFIG), "c", NULL),
                     SEAM_OK);
    const uint64_t identity = seam_model_config_identity(&a);
    seam_model_config b = a;
    b.context_max = 1;
    b.tied = true;
    assert_true(seam_model_config_identity(&b) == identity);
    uint32_t *const sizes[] = {&b.vocab_count, &b.hidden,   &b.intermediate, &b.layers,
                               &b.heads,       &b.kv_heads, &b.head_dim};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        *sizes[i] += 1;
        assert_true(seam_model_config_identity(&b) != identity);
        *sizes[i] -= 1;
    }
    b.rms_eps = 1e-6F;
    assert_true(seam_model_config_identity(&b) != identity);
    b.rms_eps = a.rms_eps;
    b.rope_theta = 5e5;
    assert_true(seam_model_config_identity(&b) != identity);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open__safetensors__values_in_every_dtype),
        cmocka_unit_test(test_open__gguf__values_in_every_type),
        cmocka_unit_test(test_open__sharded__index_is_checked),
        cmocka_unit_test(test_open__missing_files__named),
        cmocka_unit_test(test_read__absent_tensor_or_other_shape__named),
        cmocka_unit_test(test_safetensors__cut_or_flipped__error_or_same_values),
        cmocka_unit_test(test_gguf__cut_or_flipped__error_or_same_values),
        cmocka_unit_test(test_gguf_create__each_allocation_fails_once__memory_error),
        cmocka_unit_test(test_safetensors__lying_headers__refused),
        cmocka_unit_test(test_config_json__fields),
        cmocka_unit_test(test_config_json__changed_values),
        cmocka_unit_test(test_config_identity__depends_on_every_size),
    };
    return cmocka_run_group_tests(tests, directory_setup, directory_teardown);
}
