/* Goal: every count of a peer is judged and the error names it.  Method: one good message, then a
 * table of single changes; the digest against a hand-built byte string. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "bytes.h"
#include "step_layout.h"

static const seam_layout_limits limits = {.rows_max = 64,
                                          .sequences_max = 4,
                                          .micros_max = 2,
                                          .positions_max = 32,
                                          .row_sources_taken = true};

/* A StepBegin of one micro-batch: 3 sequences of 5, 1, 4 rows; rows 1, 4 and 9 are labelled. */
typedef struct fixture {
    uint32_t sequence_rows[8];
    uint64_t sample_ids[8];
    uint32_t positions[80], row_sources[80];
    uint8_t bitmap[16];
    Seam__V1__MicroBatch micro;
    Seam__V1__MicroBatch *micros[4];
    Seam__V1__StepBegin begin;
} fixture;

static void fixture_init(fixture *f) {
    *f = (fixture){.sequence_rows = {5, 1, 4},
                   .sample_ids = {100, 101, 1000000000000},
                   .row_sources = {0, 1, 1, 2, 0, 3, 2, 4, 4, 0},
                   .bitmap = {0x12, 0x02},
                   .micro = SEAM__V1__MICRO_BATCH__INIT,
                   .begin = SEAM__V1__STEP_BEGIN__INIT};
    f->micro.n_sequence_rows = 3;
    f->micro.sequence_rows = f->sequence_rows;
    f->micro.n_sample_ids = 3;
    f->micro.sample_ids = f->sample_ids;
    f->micro.positions = f->positions;
    f->micro.row_sources = f->row_sources;
    f->micro.labelled_rows = (ProtobufCBinaryData){.len = 2, .data = f->bitmap};
    for (int i = 0; i < 4; i++) {
        f->micros[i] = &f->micro;
    }
    f->begin.step = 7;
    f->begin.labelled_row_count = 3;
    f->begin.n_micros = 1;
    f->begin.micros = f->micros;
    f->begin.digest = seam_step_begin_digest(&f->begin);
}

static void test_read__good__rows_and_indices(void **state) {
    (void)state;
    fixture f;
    fixture_init(&f);
    seam_micro_layout layout = {0};
    uint32_t labelled[64] = {0};
    assert_int_equal(seam_micro_layout_read(&layout, labelled, &f.micro, 0, &limits, NULL),
                     SEAM_OK);
    assert_int_equal(layout.rows, 10);
    assert_int_equal(layout.sequence_count, 3);
    assert_int_equal(layout.labelled_count, 3);
    assert_int_equal(labelled[0], 1);
    assert_int_equal(labelled[1], 4);
    assert_int_equal(labelled[2], 9);
    assert_null(layout.positions);
    assert_null(layout.row_sources);
    assert_int_equal(layout.rows_in, 10);
    assert_int_equal(seam_step_begin_check(&f.begin, &limits, NULL), SEAM_OK);
}

static void test_digest__good__bytes_of_wire_md(void **state) {
    (void)state;
    fixture f;
    fixture_init(&f);
    uint8_t b[128];
    size_t n = 0;
    seam_put_u64(b + n, 7), n += 8;
    seam_put_u64(b + n, 3), n += 8;
    seam_put_u32(b + n, 1), n += 4;
    seam_put_u32(b + n, 3), n += 4;
    seam_put_u32(b + n, 5), n += 4;
    seam_put_u32(b + n, 1), n += 4;
    seam_put_u32(b + n, 4), n += 4;
    seam_put_u32(b + n, 2), n += 4;
    b[n++] = 0x12;
    b[n++] = 0x02;
    seam_put_u32(b + n, 3), n += 4;
    seam_put_u64(b + n, 100), n += 8;
    seam_put_u64(b + n, 101), n += 8;
    seam_put_u64(b + n, 1000000000000), n += 8;
    seam_put_u32(b + n, 0), n += 4; /* positions, row sources, labels */
    seam_put_u32(b + n, 0), n += 4;
    seam_put_u32(b + n, 0), n += 4;
    assert_true(seam_step_begin_digest(&f.begin) == seam_hash64(SEAM_HASH64_INIT, b, n));
}

static void expect_error(fixture *f, seam_status st, const char *text) {
    seam_error err = {0};
    assert_int_equal(seam_step_begin_check(&f->begin, &limits, &err), st);
    if (strstr(err.text, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, text);
    }
    fixture_init(f);
}

static void test_check__one_change__names_the_field(void **state) {
    (void)state;
    fixture f;
    fixture_init(&f);
    f.begin.n_micros = 0;
    expect_error(&f, SEAM_E_ARG, "micros");
    f.begin.n_micros = 3;
    expect_error(&f, SEAM_E_LIMIT, "micros: 3, at most 2");
    f.begin.labelled_row_count = 4;
    expect_error(&f, SEAM_E_ARG, "labelled_row_count");
    f.begin.digest ^= 1;
    expect_error(&f, SEAM_E_CHECKSUM, "digest");
    f.micro.n_sequence_rows = 0;
    expect_error(&f, SEAM_E_ARG, "micros[0].sequence_rows: empty");
    f.micro.n_sequence_rows = 5;
    expect_error(&f, SEAM_E_LIMIT, "micros[0].sequence_rows: 5 sequences");
    f.sequence_rows[1] = 0;
    expect_error(&f, SEAM_E_ARG, "micros[0].sequence_rows[1]: 0");
    f.sequence_rows[2] = 33;
    expect_error(&f, SEAM_E_LIMIT, "micros[0].sequence_rows[2]: 33");
    f.sequence_rows[0] = f.sequence_rows[1] = f.sequence_rows[2] = 30;
    expect_error(&f, SEAM_E_LIMIT, "90 rows, at most 64");
    f.micro.n_sample_ids = 2;
    expect_error(&f, SEAM_E_ARG, "micros[0].sample_ids");
    f.micro.n_positions = 9;
    expect_error(&f, SEAM_E_ARG, "micros[0].positions: 9 for 10");
    f.micro.n_positions = 10;
    f.positions[3] = 32;
    expect_error(&f, SEAM_E_LIMIT, "micros[0].positions[3]: 32");
    f.micro.n_row_sources = 9;
    expect_error(&f, SEAM_E_ARG, "micros[0].row_sources: 9 for 10");
    f.micro.n_row_sources = 10;
    f.row_sources[0] = 1;
    expect_error(&f, SEAM_E_ARG, "micros[0].row_sources[0]: 1 after 0");
    f.micro.n_row_sources = 10;
    f.row_sources[7] = UINT32_MAX;
    expect_error(&f, SEAM_E_ARG, "micros[0].row_sources[7]: 4294967295 after 4");
    f.micro.labelled_rows.len = 1;
    expect_error(&f, SEAM_E_ARG, "micros[0].labelled_rows: 1 bytes");
    f.bitmap[1] |= 0x04;
    expect_error(&f, SEAM_E_ARG, "beyond row 10");
    f.bitmap[0] = f.bitmap[1] = 0;
    expect_error(&f, SEAM_E_ARG, "no row is labelled");
}

static void test_request__rows_out__indices(void **state) {
    (void)state;
    uint32_t sequence_rows[] = {3, 1, 2};
    uint32_t slots[] = {2, 0, 1};
    uint8_t bitmap[] = {0x21};
    uint32_t out[64] = {0};
    seam_request_layout layout = {0};
    Seam__V1__GenerateRows rows = SEAM__V1__GENERATE_ROWS__INIT;
    rows.request = 4;
    rows.n_sequence_rows = 3;
    rows.sequence_rows = sequence_rows;
    rows.n_slots = 3;
    rows.slots = slots;
    rows.rows_out = SEAM__V1__ROWS_OUT__ROWS_OUT_LAST;
    assert_int_equal(seam_request_layout_read(&layout, out, &rows, 4, 3, &limits, NULL), SEAM_OK);
    assert_int_equal(layout.rows, 6);
    assert_int_equal(layout.rows_out_count, 3);
    assert_int_equal(out[0], 2);
    assert_int_equal(out[1], 3);
    assert_int_equal(out[2], 5);
    rows.rows_out = SEAM__V1__ROWS_OUT__ROWS_OUT_ALL;
    assert_int_equal(seam_request_layout_read(&layout, out, &rows, 4, 3, &limits, NULL), SEAM_OK);
    assert_int_equal(layout.rows_out_count, 6);
    assert_int_equal(out[5], 5);
    rows.rows_out = SEAM__V1__ROWS_OUT__ROWS_OUT_LABELLED;
    rows.labelled_rows = (ProtobufCBinaryData){.len = 1, .data = bitmap};
    assert_int_equal(seam_request_layout_read(&layout, out, &rows, 4, 3, &limits, NULL), SEAM_OK);
    assert_int_equal(layout.rows_out_count, 2);
    assert_int_equal(out[1], 5);
}

static void request_error(Seam__V1__GenerateRows rows, uint32_t slot_count, seam_status st,
                          const char *text) {
    seam_request_layout layout = {0};
    seam_error err = {0};
    assert_int_equal(seam_request_layout_read(&layout, NULL, &rows, 4, slot_count, &limits, &err),
                     st);
    if (strstr(err.text, text) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, text);
    }
}

static void test_request__one_change__names_the_field(void **state) {
    (void)state;
    uint32_t sequence_rows[] = {3, 1, 2};
    uint32_t slots[] = {2, 0, 1};
    uint32_t twice[] = {2, 0, 2};
    uint32_t firsts[] = {0, 31, 31};
    uint8_t bitmap[] = {0};
    Seam__V1__GenerateRows good = SEAM__V1__GENERATE_ROWS__INIT;
    good.request = 4;
    good.n_sequence_rows = 3;
    good.sequence_rows = sequence_rows;
    good.n_slots = 3;
    good.slots = slots;
    good.rows_out = SEAM__V1__ROWS_OUT__ROWS_OUT_LAST;
    Seam__V1__GenerateRows r = good;
    r.request = 3;
    request_error(r, 3, SEAM_E_OUT_OF_SEQUENCE, "request: 3, expected 4");
    request_error(good, 0, SEAM_E_ARG, "slots: Forward");
    request_error(good, 2, SEAM_E_ARG, "slots[0]: 2");
    r = good;
    r.slots = twice;
    request_error(r, 3, SEAM_E_ARG, "slots[2]: slot 2 is there twice");
    r = good;
    r.n_slots = 2;
    request_error(r, 3, SEAM_E_ARG, "slots: 2 for 3");
    r = good;
    r.n_first_positions = 3;
    r.first_positions = firsts;
    request_error(r, 3, SEAM_E_LIMIT, "first_positions[2]: 31 and 2 rows");
    r.n_first_positions = 2;
    request_error(r, 3, SEAM_E_ARG, "first_positions: 2 for 3");
    r = good;
    r.rows_out = SEAM__V1__ROWS_OUT__ROWS_OUT_UNSPECIFIED;
    request_error(r, 3, SEAM_E_ARG, "rows_out");
    r = good;
    r.labelled_rows = (ProtobufCBinaryData){.len = 1, .data = bitmap};
    request_error(r, 3, SEAM_E_ARG, "labelled_rows: only");
    r.rows_out = SEAM__V1__ROWS_OUT__ROWS_OUT_LABELLED;
    request_error(r, 3, SEAM_E_ARG, "labelled_rows: no row");
}

static void test_labelled_counts__sequences__of_each(void **state) {
    (void)state;
    static const uint32_t rows[] = {5, 1, 4};
    static const uint8_t bitmap[] = {0x12, 0xfe}; /* rows 1, 4 and 9; bits beyond row 9 set */
    uint32_t counts[3] = {7, 7, 7};
    seam_sequence_labelled_counts(counts, rows, 3, bitmap);
    assert_int_equal(counts[0], 2);
    assert_int_equal(counts[1], 0);
    assert_int_equal(counts[2], 1);
}

static void test_rows_to_last_labelled__sequences__up_to_each_one_s_last(void **state) {
    (void)state;
    static const uint32_t rows[] = {5, 1, 4, 2};
    static const uint8_t labelled[] = {0x0a, 0x0c}; /* rows 1, 3; none; 10, 11 (of the last) */
    uint8_t bitmap[2] = {0xff, 0xff};
    assert_int_equal(seam_rows_to_last_labelled(bitmap, rows, 4, labelled), 6);
    assert_int_equal(bitmap[0], 0x0f); /* rows 0..3 of the first sequence */
    assert_int_equal(bitmap[1], 0x0c);
}

static void test_micro_layout_read__labels__of_a_topology_that_has_them(void **state) {
    (void)state;
    fixture f;
    fixture_init(&f);
    static uint32_t labels[] = {5, 0, 95};
    seam_layout_limits with = limits;
    seam_micro_layout layout = {0};
    seam_error err = {0};
    with.labels_needed = true;
    with.vocab_count = 96;
    assert_int_equal(seam_micro_layout_read(&layout, NULL, &f.micro, 0, &with, &err), SEAM_E_ARG);
    assert_memory_equal(err.text, "micros[0].labels: 0 for 3", 25);
    f.micro.labels = labels;
    f.micro.n_labels = 3;
    const uint64_t digest = f.begin.digest;
    f.begin.digest = seam_step_begin_digest(&f.begin);
    assert_true(f.begin.digest != digest);
    assert_int_equal(seam_step_begin_check(&f.begin, &with, NULL), SEAM_OK);
    assert_int_equal(seam_micro_layout_read(&layout, NULL, &f.micro, 0, &with, &err), SEAM_OK);
    assert_ptr_equal(layout.labels, labels);
    with.vocab_count = 95;
    assert_int_equal(seam_micro_layout_read(&layout, NULL, &f.micro, 0, &with, &err), SEAM_E_ARG);
    assert_memory_equal(err.text, "micros[0].labels[2]: 95", 23);
    assert_int_equal(seam_micro_layout_read(&layout, NULL, &f.micro, 0, &limits, &err), SEAM_E_ARG);
    assert_memory_equal(err.text, "micros[0].labels: not in this topology", 38);
}

static void test_micro_layout_read__row_sources__rows_of_site_0(void **state) {
    (void)state;
    fixture f;
    fixture_init(&f);
    f.micro.n_row_sources = 10;
    const uint64_t digest = f.begin.digest;
    f.begin.digest = seam_step_begin_digest(&f.begin);
    assert_true(f.begin.digest != digest);
    assert_int_equal(seam_step_begin_check(&f.begin, &limits, NULL), SEAM_OK);
    seam_micro_layout layout = {0};
    seam_error err = {0};
    assert_int_equal(seam_micro_layout_read(&layout, NULL, &f.micro, 0, &limits, &err), SEAM_OK);
    assert_int_equal(layout.rows, 10);
    assert_int_equal(layout.rows_in, 5);
    assert_ptr_equal(layout.row_sources, f.row_sources);
    seam_layout_limits without = limits;
    without.row_sources_taken = false;
    assert_int_equal(seam_micro_layout_read(&layout, NULL, &f.micro, 0, &without, &err),
                     SEAM_E_ARG);
    assert_non_null(strstr(err.text, "micros[0].row_sources: not with this codec"));
}

static void test_micro_layout_read__sample_ids_needed__missing_is_named(void **state) {
    (void)state;
    fixture f;
    fixture_init(&f);
    seam_layout_limits needed = limits;
    needed.sample_ids_needed = true;
    seam_micro_layout layout = {0};
    seam_error err = {0};
    assert_int_equal(seam_micro_layout_read(&layout, NULL, &f.micro, 0, &needed, &err), SEAM_OK);
    assert_int_equal(layout.sample_ids[2], 1000000000000);
    f.micro.n_sample_ids = 0;
    assert_int_equal(seam_micro_layout_read(&layout, NULL, &f.micro, 0, &limits, &err), SEAM_OK);
    assert_int_equal(seam_micro_layout_read(&layout, NULL, &f.micro, 0, &needed, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "micros[0].sample_ids: missing"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read__good__rows_and_indices),
        cmocka_unit_test(test_digest__good__bytes_of_wire_md),
        cmocka_unit_test(test_micro_layout_read__labels__of_a_topology_that_has_them),
        cmocka_unit_test(test_check__one_change__names_the_field),
        cmocka_unit_test(test_labelled_counts__sequences__of_each),
        cmocka_unit_test(test_rows_to_last_labelled__sequences__up_to_each_one_s_last),
        cmocka_unit_test(test_request__rows_out__indices),
        cmocka_unit_test(test_request__one_change__names_the_field),
        cmocka_unit_test(test_micro_layout_read__row_sources__rows_of_site_0),
        cmocka_unit_test(test_micro_layout_read__sample_ids_needed__missing_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
