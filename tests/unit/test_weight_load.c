/* Goal: a matrix that comes out of a file in pieces is the matrix that its values as f32 would have
 * been packed into, whatever their type, the size of the pieces and the count of threads; bad files
 * and exhausted memory end as errors.
 * Method: files of random values in three types; products of both matrices compared by bits, on the
 * reference, the CPU backend and, where there is one, a CUDA device; whole models by both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "arena.h"
#include "bytes.h"
#include "synthetic_model.h"
#include "weight_load.h"
#include "weights_fixture.h"
#include "whole_file.h"

enum { C = 48, PARTS = 3, T = 5, N = 33 + 16 + 7 };

static const uint32_t part_rows[PARTS] = {33, 16, 7};
static const seam_raw_type part_types[PARTS] = {SEAM_RAW_BF16, SEAM_RAW_F32, SEAM_RAW_F16};

typedef struct backend_case {
    const char *device;
    seam_dtype act;
} backend_case;
static const backend_case backends[] = {{"ref", SEAM_F64},
                                        {"cpu", SEAM_F32},
                                        {"cpu", SEAM_BF16},
                                        {"cuda:0", SEAM_BF16},
                                        {"cuda:0", SEAM_F32}};
#define BACKEND_COUNT (sizeof backends / sizeof *backends)

/* NULL: not on this machine. */
static seam_backend *backend_open(const backend_case *c) {
    seam_backend *backend = NULL;
    seam_error err = {0};
    const seam_backend_options options = {.device = c->device, .act = c->act, .threads = 2};
    const seam_status st = seam_backend_create(&backend, &options, &err);
    if (st != SEAM_OK) { /* no such device, no bf16 */
        const bool cuda = strcmp(c->device, "cuda:0") == 0;
        assert_true(cuda ? st == SEAM_E_UNIMPLEMENTED : c->act == SEAM_BF16);
        (void)printf("not here: %s\n", err.text);
    }
    return backend;
}

/* A value that the part's type holds exactly, and its bytes; the count of them. */
static size_t value_put(uint8_t *ret_bytes, float *ret_value, seam_raw_type type, uint32_t i) {
    const float value = ((float)(seam_synthetic_word("values", i) >> 24) - 128.0f) / 64.0f;
    *ret_value = value; /* 8 bits: all three types have them */
    if (type == SEAM_RAW_F32) {
        seam_put_f32(ret_bytes, value);
        return 4;
    }
    seam_put_u16(ret_bytes, type == SEAM_RAW_BF16 ? seam_bf16_from_f32(value)
                                                  : seam_fp16_from_f32_down(value));
    return 2;
}

/* An open file without a name; ret_values (N, C). */
static FILE *file_make(float *ret_values, seam_load_matrix *ret_matrix) {
    FILE *file = tmpfile();
    assert_non_null(file);
    uint32_t value = 0;
    long offset = 3; /* odd: nothing in a file is aligned */
    assert_int_equal(fwrite("xyz", 1, 3, file), 3);
    for (uint32_t p = 0; p < PARTS; p++) {
        ret_matrix->parts[p] = (seam_load_part){.file = "test.bin",
                                                .fd = fileno(file),
                                                .offset = (uint64_t)offset,
                                                .type = part_types[p],
                                                .rows = part_rows[p]};
        for (uint32_t i = 0; i < part_rows[p] * C; i++) {
            uint8_t bytes[4];
            const size_t count = value_put(bytes, &ret_values[value], part_types[p], value);
            assert_int_equal(fwrite(bytes, 1, count, file), count);
            value++;
        }
        offset = ftell(file);
    }
    assert_int_equal(fflush(file), 0);
    ret_matrix->C = C;
    ret_matrix->part_count = PARTS;
    return file;
}

/* Both products of a matrix, as bytes. */
static void products(uint8_t *ret, seam_backend *backend, const seam_weight *w) {
    const seam_ops *ops = seam_backend_ops(backend);
    const size_t acc = seam_dtype_bytes(ops->acc), act = seam_dtype_bytes(ops->act);
    seam_stream *stream = NULL;
    void *f32 = NULL, *x = NULL, *y = NULL, *dx = NULL;
    float values[T * N];
    seam_synthetic_fill(values, "x", T * (size_t)N, 1.0f);
    seam_test_check(ops->stream_create(&stream, backend), "stream", NULL);
    seam_test_check(ops->mem_alloc(&f32, backend, sizeof values), "memory", NULL);
    seam_test_check(ops->mem_alloc(&x, backend, act * T * N), "memory", NULL);
    seam_test_check(ops->mem_alloc(&y, backend, acc * T * N), "memory", NULL);
    seam_test_check(ops->mem_alloc(&dx, backend, acc * T * C), "memory", NULL);
    seam_test_check(ops->copy_in(stream, f32, values, sizeof values), "copy", NULL);
    seam_test_check(ops->cast(stream, x, ops->act, f32, SEAM_F32, T * (size_t)N), "cast", NULL);
    const seam_linear_forward_args forward = {
        .y = y, .y_ld = N, .y_out = SEAM_OUT_ACC, .x = x, .x_ld = C, .w = w, .T = T};
    const seam_linear_backward_args backward = {
        .dx = dx, .dx_ld = C, .dx_out = SEAM_OUT_ACC, .dy = x, .dy_ld = N, .w = w, .T = T};
    seam_test_check(ops->linear_forward(stream, &forward), "forward", NULL);
    seam_test_check(ops->linear_backward(stream, &backward), "backward", NULL);
    seam_test_check(ops->copy_out(stream, ret, y, acc * T * N), "copy", NULL);
    seam_test_check(ops->copy_out(stream, ret + acc * T * N, dx, acc * T * C), "copy", NULL);
    seam_test_check(ops->stream_sync(stream), "sync", NULL);
    void *const memory[] = {f32, x, y, dx};
    for (size_t i = 0; i < 4; i++) {
        ops->mem_free(backend, memory[i]);
    }
    ops->stream_destroy(stream);
}

static void test_load__types_pieces_threads__bits_of_weight_create(void **state) {
    (void)state;
    static const size_t pieces[] = {4, 52, 1000, 1 << 20, 3000, 0};
    static const size_t slices[] = {0, 3, 1 << 20, 1000, 7, 0};
    static const uint32_t buffers[] = {0, 1, 3, 40, 2, 0};
    static float values[N * C];
    static uint8_t want[2 * sizeof(double) * T * N], got[sizeof want];
    seam_load_matrix matrices[2] = {0};
    FILE *file = file_make(values, &matrices[0]);
    matrices[0].lora_pad = 64;
    matrices[1] = matrices[0];
    for (size_t b = 0; b < BACKEND_COUNT; b++) {
        seam_backend *backend = backend_open(&backends[b]);
        if (backend == NULL) {
            continue;
        }
        const seam_ops *ops = seam_backend_ops(backend);
        seam_weight *plain = NULL;
        seam_test_check(ops->weight_create(&plain, backend, values, N, C, true, true, 64), "weight",
                        NULL);
        products(want, backend, plain);
        for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
            seam_weight *loaded[2] = {NULL, NULL};
            seam_error err = {0};
            const seam_load_options options = {.threads = (uint32_t)(1 + i),
                                               .buffers = buffers[i],
                                               .piece_bytes = pieces[i],
                                               .slice_bytes = slices[i],
                                               .ahead = (uint32_t)i};
            matrices[0].ret_weight = &loaded[0];
            matrices[1].ret_weight = &loaded[1];
            seam_test_check(seam_weight_load(backend, matrices, 2, &options, &err), "load", &err);
            for (size_t m = 0; m < 2; m++) {
                products(got, backend, loaded[m]);
                assert_memory_equal(got, want, sizeof want);
                assert_true(ops->weight_bytes(loaded[m]) == ops->weight_bytes(plain));
                ops->weight_destroy(loaded[m]);
            }
        }
        ops->weight_destroy(plain);
        seam_backend_destroy(backend);
    }
    (void)fclose(file);
}

static void test_load__file_ends_early__names_it(void **state) {
    (void)state;
    static float values[N * C];
    seam_load_matrix matrix = {0};
    FILE *file = file_make(values, &matrix);
    seam_backend *backend = backend_open(&backends[1]);
    assert_int_equal(ftruncate(fileno(file), 3000), 0);
    for (uint32_t threads = 1; threads <= 4; threads++) {
        const seam_load_options options = {.threads = threads, .piece_bytes = 256};
        seam_weight *weight = NULL;
        seam_error err = {0};
        matrix.ret_weight = &weight;
        assert_int_equal(seam_weight_load(backend, &matrix, 1, &options, &err), SEAM_E_IO);
        assert_non_null(strstr(err.text, "test.bin: byte 3"));
        assert_non_null(strstr(err.text, ": the file ends"));
        assert_true(threads > 1 || strstr(err.text, "byte 3000:") != NULL); /* else any of them */
        assert_non_null(weight);                                            /* it had begun */
        seam_backend_ops(backend)->weight_destroy(weight);
    }
    seam_backend_destroy(backend);
    (void)fclose(file);
}

static void test_load__memory_ends_anywhere__is_an_error_and_leaks_nothing(void **state) {
    (void)state;
    static float values[N * C];
    seam_load_matrix matrix = {0};
    FILE *file = file_make(values, &matrix);
    seam_backend *backend = backend_open(&backends[1]);
    seam_status st = SEAM_E_MEMORY;
    for (int64_t allowed = 0; st == SEAM_E_MEMORY; allowed++) {
        seam_weight *weight = NULL;
        seam_error err = {0};
        const seam_load_options options = {.threads = 1, .piece_bytes = 512};
        matrix.ret_weight = &weight;
        seam_mem_fail_after(allowed);
        st = seam_weight_load(backend, &matrix, 1, &options, &err);
        seam_mem_fail_after(-1);
        assert_true(st == SEAM_OK || (st == SEAM_E_MEMORY && err.text[0] != '\0'));
        if (weight != NULL) {
            seam_backend_ops(backend)->weight_destroy(weight);
        }
        assert_true(allowed < 100);
    }
    assert_int_equal(st, SEAM_OK);
    seam_backend_destroy(backend);
    (void)fclose(file);
}

/* ---- whole models ---- */

/* What the blocks make of rows, as bytes. */
static void forward_run(uint8_t *ret, seam_backend *backend, const seam_tensor_source *source) {
    enum { ROWS = 6 };
    static const uint32_t seq_begin[] = {0, ROWS}, positions[] = {0, 1, 2, 3, 4, 5};
    const seam_ops *ops = seam_backend_ops(backend);
    const seam_batch batch = {
        .rows = ROWS, .seq_count = 1, .seq_begin = seq_begin, .positions = positions};
    const seam_activations_options options = {.rows_max = ROWS, .seqs_max = 1};
    const size_t count = (size_t)ROWS * FIXTURE_HIDDEN;
    const size_t bytes = count * seam_dtype_bytes(ops->acc);
    float values[ROWS * FIXTURE_HIDDEN];
    seam_blocks *blocks = NULL;
    seam_activations *acts = NULL;
    seam_stream *stream = NULL;
    void *f32 = NULL, *x = NULL;
    seam_error err = {0};
    seam_synthetic_fill(values, "rows", count, 1.0f);
    seam_test_check(seam_blocks_create_from(&blocks, backend, source, 0, 1, &err), "blocks", &err);
    seam_test_check(seam_activations_create(&acts, blocks, &options, &err), "acts", &err);
    seam_test_check(ops->stream_create(&stream, backend), "stream", NULL);
    seam_test_check(ops->mem_alloc(&f32, backend, sizeof values), "memory", NULL);
    seam_test_check(ops->mem_alloc(&x, backend, bytes), "memory", NULL);
    seam_test_check(ops->copy_in(stream, f32, values, sizeof values), "copy", NULL);
    seam_test_check(ops->cast(stream, x, ops->acc, f32, SEAM_F32, count), "cast", NULL);
    seam_test_check(seam_blocks_forward(blocks, NULL, acts, stream, x, &batch), "forward", NULL);
    seam_test_check(ops->copy_out(stream, ret, x, bytes), "copy", NULL);
    ops->mem_free(backend, x);
    ops->mem_free(backend, f32);
    ops->stream_destroy(stream);
    seam_activations_destroy(acts);
    seam_blocks_destroy(blocks);
}

static void model_check(const char *path, bool all_plain) {
    static uint8_t want[6 * FIXTURE_HIDDEN * sizeof(double)], got[sizeof want];
    seam_weights *weights = NULL;
    seam_error err = {0};
    seam_test_check(seam_weights_open(&weights, path, &err), path, &err);
    seam_tensor_source source = seam_tensor_source_weights(weights);
    seam_tensor_place place;
    assert_int_equal(source.find(&place, weights, "model.layers.0.self_attn.q_proj.weight", 32, 32),
                     all_plain);
    assert_false(source.find(&place, weights, "model.layers.0.self_attn.q_proj.weight", 16, 64));
    assert_false(source.find(&place, weights, "no.such.tensor", 1, 1));
    for (size_t b = 0; b < BACKEND_COUNT; b++) {
        seam_backend *backend = backend_open(&backends[b]);
        if (backend != NULL) {
            seam_tensor_source by_reading = source;
            by_reading.find = NULL;
            forward_run(want, backend, &by_reading);
            forward_run(got, backend, &source);
            assert_memory_equal(got, want, sizeof want);
            seam_backend_destroy(backend);
        }
    }
    seam_weights_close(weights);
}

static void test_blocks__from_files__as_read_through_f32(void **state) {
    (void)state;
    static const char *const dtypes[] = {"F32", "F16", "BF16"};
    static const uint32_t ggufs[] = {1, 2}; /* F16: q and k are permuted; Q4_0: nothing is plain */
    static fixture_bytes file;
    char folder[] = "/tmp/seam-weight-load-XXXXXX", path[64];
    size_t header_bytes = 0;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/model.gguf", folder);
    seam_test_file_write(FIXTURE_CONFIG, strlen(FIXTURE_CONFIG), "%s/config.json", folder);
    for (size_t i = 0; i < 3; i++) {
        fixture_safetensors(&file, dtypes[i]);
        seam_test_file_write(file.bytes, file.count, "%s/model.safetensors", folder);
        model_check(folder, true);
    }
    for (size_t i = 0; i < 2; i++) {
        fixture_gguf(&file, ggufs[i], &header_bytes);
        seam_test_file_write(file.bytes, file.count, "%s", path);
        model_check(path, false);
    }
    static const char *const names[] = {"config.json", "model.safetensors", "model.gguf"};
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(folder), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load__types_pieces_threads__bits_of_weight_create),
        cmocka_unit_test(test_load__file_ends_early__names_it),
        cmocka_unit_test(test_load__memory_ends_anywhere__is_an_error_and_leaks_nothing),
        cmocka_unit_test(test_blocks__from_files__as_read_through_f32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
