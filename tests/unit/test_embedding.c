/* Goal: an embedding whose values are all of bf16 stands in half the memory and gives the same
 * rows, as f32 and as they stand; one that has others stays as it is.
 * Method: a synthetic table, cut to bf16 or not, on the CPU in f32; rows beyond a chunk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "bytes.h"
#include "head.h"
#include "ops.h"
#include "synthetic_model.h"

enum { VOCAB = 53, HIDDEN = 26, ROWS = 700 };

static const seam_model_config config = {.architecture = "llama",
                                         .vocab_count = VOCAB,
                                         .hidden = HIDDEN,
                                         .intermediate = 37,
                                         .layers = 1,
                                         .heads = 6,
                                         .kv_heads = 2,
                                         .head_dim = 20,
                                         .context_max = 40,
                                         .rms_eps = 1e-5f,
                                         .rope_theta = 10000.0,
                                         .tied = true,
                                         .bos_id = -1,
                                         .eos_id = -1};

/* The synthetic tensors in bf16; but one value of the embedding is not, if the context says so. */
typedef struct halves {
    seam_tensor_source full;
    bool spoilt;
} halves;

static seam_status halves_read(float *ret, const void *context, const char *name, uint64_t rows,
                               uint64_t cols, seam_error *err) {
    const halves *const h = context;
    const seam_status st = h->full.read(ret, h->full.context, name, rows, cols, err);
    for (uint64_t i = 0; i < rows * cols; i++) {
        ret[i] = seam_bf16_to_f32(seam_bf16_from_f32(ret[i]));
    }
    if (h->spoilt && rows == VOCAB) {
        ret[rows * cols - 1] = 0x1.01p0f + 0x1p-12f;
    }
    return st;
}

typedef struct fixture {
    seam_backend *backend;
    const seam_ops *ops;
    seam_stream *stream;
    seam_head *head;
    float table[VOCAB * HIDDEN];
    uint32_t ids[ROWS];
} fixture;

static void fixture_open(fixture *f, bool spoilt) {
    const seam_backend_options options = {.device = "cpu", .act = SEAM_F32, .threads = 2};
    const halves h = {.full = seam_synthetic_source(&config), .spoilt = spoilt};
    const seam_tensor_source source = {.config = &config, .context = &h, .read = halves_read};
    seam_test_check(seam_backend_create(&f->backend, &options, NULL), "backend", NULL);
    f->ops = seam_backend_ops(f->backend);
    seam_test_check(f->ops->stream_create(&f->stream, f->backend), "stream", NULL);
    seam_test_check(seam_head_create_from(&f->head, f->backend, &source, NULL), "head", NULL);
    assert_int_equal(halves_read(f->table, &h, "model.embed_tokens.weight", VOCAB, HIDDEN, NULL),
                     SEAM_OK);
    for (uint32_t t = 0; t < ROWS; t++) {
        f->ids[t] = t * 31 % VOCAB;
    }
}

static void fixture_close(fixture *f) {
    seam_head_destroy(f->head);
    f->ops->stream_destroy(f->stream);
    seam_backend_destroy(f->backend);
}

static void rows_check(const fixture *f) {
    static float x[ROWS][HIDDEN];
    seam_test_check(seam_head_embed(f->head, f->stream, x, f->ids, ROWS), "embed", NULL);
    seam_test_check(f->ops->stream_sync(f->stream), "sync", NULL);
    for (uint32_t t = 0; t < ROWS; t++) {
        assert_memory_equal(x[t], f->table + (size_t)f->ids[t] * HIDDEN, sizeof x[t]);
    }
}

static void test_embed__every_value_of_bf16__half_the_table_and_the_same_rows(void **state) {
    (void)state;
    static uint16_t x[ROWS][HIDDEN];
    fixture half, full;
    fixture_open(&half, false);
    fixture_open(&full, true);
    assert_true(seam_head_embeds_bf16(half.head));
    assert_false(seam_head_embeds_bf16(full.head));
    assert_int_equal(seam_head_bytes(full.head) - seam_head_bytes(half.head),
                     VOCAB * HIDDEN * sizeof(uint16_t));
    rows_check(&half);
    rows_check(&full);
    seam_test_check(seam_head_embed_bf16(half.head, half.stream, x, half.ids, ROWS), "bf16", NULL);
    seam_test_check(half.ops->stream_sync(half.stream), "sync", NULL);
    for (uint32_t t = 0; t < ROWS; t++) {
        for (uint32_t c = 0; c < HIDDEN; c++) {
            const float wide = seam_bf16_to_f32(x[t][c]);
            assert_memory_equal(&wide, &half.table[half.ids[t] * HIDDEN + c], sizeof wide);
        }
    }
    fixture_close(&full);
    fixture_close(&half);
}

static void test_embed__id_outside_the_vocabulary__is_refused(void **state) {
    (void)state;
    static float x[ROWS][HIDDEN];
    fixture f;
    fixture_open(&f, false);
    f.ids[ROWS - 1] = VOCAB;
    assert_int_equal(seam_head_embed(f.head, f.stream, x, f.ids, ROWS), SEAM_E_ARG);
    assert_int_equal(seam_head_embed_bf16(f.head, f.stream, x, f.ids, ROWS), SEAM_E_ARG);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed__every_value_of_bf16__half_the_table_and_the_same_rows),
        cmocka_unit_test(test_embed__id_outside_the_vocabulary__is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
