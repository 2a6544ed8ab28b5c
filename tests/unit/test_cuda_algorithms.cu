/* Goal: every committed algorithm sums over k in one piece, is taken by the library and device it
 * is for, and gives a row the same bits at every row count; a row that the library refuses, or that
 * would split the sum, leaves the choice by the rule.
 * Method: the rows are read by cuBLASLt's own getters, which takes no device.  On one, their
 * products are described and checked, those of small matrices run at several counts; and matrices
 * are made with tables of bad rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}

#include <stdio.h>
#include <string.h>
#include <vector>

#include "cuda_device.cuh"

extern "C" {
#include "products.h"
}

#define ROWS_MAX 300u
#define N_SMALL  64u
#define C_SMALL  128u

typedef struct fixture {
    seam_backend *backend; /* NULL: no device with FP8 */
    const seam_ops *ops;
    seam_stream *stream;
} fixture;

static int setup(void **state) {
    static fixture f;
    const seam_backend_options options = {
        .device = "cuda:0", .act = SEAM_BF16, .threads = 0, .fp8 = true};
    seam_error err = {};
    *state = &f;
    if (seam_backend_create(&f.backend, &options, &err) != SEAM_OK) {
        (void)printf("on no device: %s\n", err.text);
        return 0;
    }
    f.ops = seam_backend_ops(f.backend);
    return f.ops->stream_create(&f.stream, f.backend) == SEAM_OK ? 0 : -1;
}

static int teardown(void **state) {
    const fixture *f = (const fixture *)*state;
    if (f->backend != NULL) {
        f->ops->stream_destroy(f->stream);
        seam_backend_destroy(f->backend);
    }
    return 0;
}

static bool same_key(const seam_cuda_algo_row *a, const seam_cuda_algo_row *b) {
    return a->compute == b->compute && a->version == b->version && a->fp8 == b->fp8 &&
           a->N == b->N && a->C == b->C && a->backward == b->backward && a->acc == b->acc;
}

static bool is_of_device(const fixture *f, const seam_cuda_algo_row *row) {
    return row->compute == seam_cuda_backend_compute(f->backend) &&
           row->version == cublasLtGetVersion();
}

static void test_rows__all__sum_in_one_piece(void **state) {
    (void)state;
    size_t count = 0;
    const seam_cuda_algo_row *rows = seam_cuda_algo_rows(&count);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        cublasLtMatmulAlgo_t algo;
        memcpy(&algo, rows[i].algo, sizeof algo);
        assert_true(seam_cuda_algo_plain(&algo));
        assert_true(rows[i].N % 8 == 0 && rows[i].C % 8 == 0);
        for (size_t k = 0; k < i; k++) {
            assert_false(same_key(&rows[i], &rows[k]));
        }
        /* One that would split the sum is seen. */
        const int32_t split = 3;
        assert_true(cublasLtMatmulAlgoConfigSetAttribute(&algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
                                                         &split,
                                                         sizeof split) == CUBLAS_STATUS_SUCCESS);
        assert_false(seam_cuda_algo_plain(&algo));
    }
    (void)printf("%zu rows\n", count);
}

/* The matrix of a row as a product sees it; a row whose width has a pad may be of either. */
static seam_weight weight_of(const fixture *f, const seam_cuda_algo_row *row, float *scale) {
    seam_weight w = {};
    w.backend = f->backend;
    w.N = row->N;
    w.C = row->C;
    w.fp8[0].scale = w.fp8[1].scale = scale;
    return w;
}

static seam_cuda_product product_of(const seam_weight *w, const seam_cuda_algo_row *row, uint32_t T,
                                    const float *x_scale) {
    return {.weight = w,
            .x = NULL,
            .y = NULL,
            .T = T,
            .x_ld = row->backward ? w->N : w->C,
            .y_ld = row->backward ? w->C : w->N,
            .backward = row->backward,
            .acc = row->acc,
            .joined = false,
            .fp8_room = NULL,
            .x_scale = row->fp8 ? x_scale : NULL};
}

/* At the row count that decides (cuda_plan.cu); that it runs at others is the search's to see, and
 * of small matrices the next case's. */
static void test_rows__of_this_device__are_taken(void **state) {
    const fixture *f = (const fixture *)*state;
    alignas(16) float scale = 1.0f;
    size_t count = 0;
    uint32_t checked = 0, refused = 0;
    const seam_cuda_algo_row *rows = seam_cuda_algo_rows(&count);
    if (f->backend == NULL) {
        skip();
    }
    for (size_t i = 0; i < count; i++) {
        const seam_cuda_algo_row *row = &rows[i];
        if (!is_of_device(f, row)) {
            continue;
        }
        const seam_weight w = weight_of(f, row, &scale);
        const seam_cuda_product product = product_of(&w, row, 2048, &scale);
        seam_cuda_described described;
        cublasLtMatmulAlgo_t algo;
        assert_true(seam_cuda_describe(&described, &product));
        if (!seam_cuda_algo_take(&algo, row, seam_cuda_blas(f->backend), &described)) {
            (void)printf("refused: %s %u x %u %s %s\n", row->fp8 ? "E4M3" : "BF16", row->N, row->C,
                         row->backward ? "BACKWARD" : "FORWARD", row->acc ? "ACC" : "ACT");
            refused++;
        }
        checked++;
    }
    (void)printf("%u of %zu rows are for this device and version, %u refused\n", checked, count,
                 refused);
    assert_int_equal(refused, 0);
    if (checked == 0) {
        skip();
    }
}

/* Numbers by formula, in [-1, 1). */
static std::vector<uint16_t> numbers(size_t count, uint32_t seed) {
    std::vector<uint16_t> values(count);
    for (size_t i = 0; i < count; i++) {
        const uint32_t z = ((uint32_t)i + seed) * 2654435761u;
        const float value = (float)(z >> 8) * 0x1p-23f - 1.0f;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        values[i] = (uint16_t)(bits >> 16);
    }
    return values;
}

static seam_weight *weight_make(const fixture *f, uint32_t N, uint32_t C) {
    const std::vector<uint16_t> values = numbers((size_t)N * C, 7);
    std::vector<float> rows(values.size());
    seam_weight *w = NULL;
    for (size_t i = 0; i < rows.size(); i++) {
        const uint32_t bits = (uint32_t)values[i] << 16;
        memcpy(&rows[i], &bits, sizeof bits);
    }
    assert_int_equal(f->ops->weight_create(&w, f->backend, rows.data(), N, C, true, true, 0),
                     SEAM_OK);
    return w;
}

/* y of T rows. */
static std::vector<char> product_run(const fixture *f, const seam_cuda_algo_row *row,
                                     const seam_weight *w, uint32_t T) {
    const uint32_t K = row->backward ? w->N : w->C, cols = row->backward ? w->C : w->N;
    const std::vector<uint16_t> x = numbers((size_t)T * K, 99);
    std::vector<char> y((size_t)T * cols * (row->acc ? sizeof(float) : sizeof(uint16_t)));
    seam_cuda_product product = product_of(w, row, T, NULL);
    void *x_rows = NULL, *y_rows = NULL, *room = NULL;
    assert_int_equal(f->ops->mem_alloc(&x_rows, f->backend, x.size() * 2), SEAM_OK);
    assert_int_equal(f->ops->mem_alloc(&y_rows, f->backend, y.size()), SEAM_OK);
    assert_int_equal(f->ops->copy_in(f->stream, x_rows, x.data(), x.size() * 2), SEAM_OK);
    product.x = x_rows;
    product.y = y_rows;
    if (row->fp8) {
        const size_t room_bytes = seam_cuda_fp8_room_bytes(&product);
        assert_true(room_bytes > 0);
        assert_int_equal(f->ops->mem_alloc(&room, f->backend, room_bytes), SEAM_OK);
        product.fp8_room = room;
    }
    assert_int_equal(seam_cuda_product_run(f->stream, &product, 0.0f), SEAM_OK);
    assert_int_equal(f->ops->copy_out(f->stream, y.data(), y_rows, y.size()), SEAM_OK);
    f->ops->mem_free(f->backend, room);
    f->ops->mem_free(f->backend, y_rows);
    f->ops->mem_free(f->backend, x_rows);
    return y;
}

static const seam_cuda_plan *plan_of(const seam_cuda_algo_row *row, const seam_weight *w) {
    return row->fp8        ? &w->fp8[row->backward].plan[row->acc]
           : row->backward ? &w->backward[row->acc]
                           : &w->forward[row->acc];
}

static void test_rows__of_small_matrices__bits_do_not_depend_on_the_count(void **state) {
    const fixture *f = (const fixture *)*state;
    size_t count = 0;
    uint32_t ran = 0;
    const seam_cuda_algo_row *rows = seam_cuda_algo_rows(&count);
    if (f->backend == NULL) {
        skip();
    }
    for (size_t i = 0; i < count; i++) {
        const seam_cuda_algo_row *row = &rows[i];
        if ((size_t)row->N * row->C > (size_t)1 << 22 || !is_of_device(f, row)) {
            continue;
        }
        seam_weight *w = weight_make(f, row->N, row->C);
        assert_true(plan_of(row, w)->found && plan_of(row, w)->committed);
        const std::vector<char> all = product_run(f, row, w, ROWS_MAX);
        for (uint32_t T : {1u, 77u, 128u, 255u}) {
            const std::vector<char> some = product_run(f, row, w, T);
            assert_memory_equal(all.data(), some.data(), some.size());
        }
        f->ops->weight_destroy(w);
        ran++;
    }
    if (ran == 0) {
        skip();
    }
}

static seam_cuda_algo_row row_of(const fixture *f, const cublasLtMatmulAlgo_t *algo) {
    seam_cuda_algo_row row = {};
    row.compute = seam_cuda_backend_compute(f->backend);
    row.version = (uint32_t)cublasLtGetVersion();
    row.N = N_SMALL;
    row.C = C_SMALL;
    memcpy(row.algo, algo, sizeof row.algo);
    return row;
}

/* A matrix made while `row` is the table; `plan` and the bits of its product are checked. */
static void row_try(const fixture *f, const seam_cuda_algo_row *row, bool committed,
                    const cublasLtMatmulAlgo_t *algo, const std::vector<char> *bits) {
    seam_cuda_algo_use *use = seam_cuda_algo_use_of(f->backend);
    const seam_cuda_algo_row *const rows = use->rows;
    const size_t row_count = use->row_count;
    const uint32_t count = use->committed, asked = use->asked;
    use->rows = row;
    use->row_count = 1;
    seam_weight *w = weight_make(f, N_SMALL, C_SMALL);
    use->rows = rows;
    use->row_count = row_count;
    assert_true(w->forward[0].found && w->forward[0].committed == committed);
    assert_true(w->forward[1].found && !w->forward[1].committed);
    assert_memory_equal(&w->forward[0].algo, algo, sizeof *algo);
    assert_int_equal(use->committed, count + committed);
    assert_int_equal(use->asked, asked + !committed);
    const std::vector<char> found = product_run(f, row, w, 77);
    assert_memory_equal(found.data(), bits->data(), bits->size());
    f->ops->weight_destroy(w);
}

static void test_choose__rows_that_do_not_serve__the_librarys_first(void **state) {
    const fixture *f = (const fixture *)*state;
    if (f->backend == NULL) {
        skip();
    }
    seam_weight *w = weight_make(f, N_SMALL, C_SMALL);
    const cublasLtMatmulAlgo_t first = w->forward[0].algo;
    const seam_cuda_algo_row good = row_of(f, &first);
    const std::vector<char> bits = product_run(f, &good, w, 77);
    f->ops->weight_destroy(w);
    row_try(f, &good, true, &first, &bits);

    cublasLtMatmulAlgo_t other = first;
    const int32_t split = 2;
    assert_true(cublasLtMatmulAlgoConfigSetAttribute(&other, CUBLASLT_ALGO_CONFIG_SPLITK_NUM,
                                                     &split,
                                                     sizeof split) == CUBLAS_STATUS_SUCCESS);
    seam_cuda_algo_row bad = row_of(f, &other);
    row_try(f, &bad, false, &first, &bits); /* splits the sum */
    memset(bad.algo, 0xff, sizeof bad.algo);
    row_try(f, &bad, false, &first, &bits); /* no algorithm at all */
    bad = good;
    bad.compute++;
    row_try(f, &bad, false, &first, &bits); /* of another device */
    bad = good;
    bad.version++;
    row_try(f, &bad, false, &first, &bits); /* of another version */

    char text[SEAM_ERROR_TEXT_BYTES];
    assert_true(seam_backend_products(text, sizeof text, f->backend));
    assert_non_null(strstr(text, "64 x 128"));
    (void)printf("%s\n", text);
}

/* cuBLASLt itself says no: an algorithm of FP8 for a product in bf16. */
static void test_take__refused_by_the_library__false(void **state) {
    const fixture *f = (const fixture *)*state;
    if (f->backend == NULL) {
        skip();
    }
    seam_weight *w = weight_make(f, N_SMALL, C_SMALL);
    assert_true(w->fp8[0].plan[0].found);
    const seam_cuda_algo_row row = row_of(f, &w->fp8[0].plan[0].algo);
    const seam_cuda_product product = product_of(w, &row, 2048, NULL);
    seam_cuda_described described;
    cublasLtMatmulAlgo_t algo = {};
    assert_true(seam_cuda_describe(&described, &product));
    assert_true(seam_cuda_algo_plain(&w->fp8[0].plan[0].algo));
    assert_false(seam_cuda_algo_take(&algo, &row, seam_cuda_blas(f->backend), &described));
    f->ops->weight_destroy(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows__all__sum_in_one_piece),
        cmocka_unit_test(test_rows__of_this_device__are_taken),
        cmocka_unit_test(test_rows__of_small_matrices__bits_do_not_depend_on_the_count),
        cmocka_unit_test(test_take__refused_by_the_library__false),
        cmocka_unit_test(test_choose__rows_that_do_not_serve__the_librarys_first),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
