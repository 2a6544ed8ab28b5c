/* Goal: `seam bench codecs` reads its command line as its help says, projects step times by its own
 * formula, and its document and Markdown say what the runs' reports say.
 * Method: the parts of client-sdk/cli that need no server, on command lines and reports made here.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bench_markdown.h"
#include "bench_table.h"

#define ARGS_MAX 40

/* Parses the command line that every case needs, and `more`. */
static seam_status parse(seam_bench_options *ret, char **more, int more_count, seam_error *err) {
    static char *argv[ARGS_MAX];
    static char *const needed[] = {"--model", "m", "--data", "d", "--eval-data", "e", "--out", "o"};
    int argc = 0;
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        argv[argc++] = needed[i];
    }
    for (int i = 0; i < more_count; i++) {
        argv[argc++] = more[i];
    }
    *err = (seam_error){0};
    return seam_bench_options_parse(ret, argc, argv, 0, err);
}

static void test_seam_bench_options_parse__nothing_given__all_rows(void **state) {
    (void)state;
    seam_bench_options o;
    seam_error err;
    assert_int_equal(parse(&o, NULL, 0, &err), SEAM_OK);
    assert_int_equal(o.row_count, seam_bench_row_count);
    assert_true(o.bits_count == 2 && o.bits[0] == 4 && o.bits[1] == 3);
    assert_true(o.seed_count == 2 && o.seeds[0] == 1 && o.seeds[1] == 2);
    assert_true(o.link_count == 0 && o.rtt_seconds == 0.0 && o.resumes);
    assert_true(!o.base.exact_match && !o.base.eval_before);
}

static void test_seam_bench_options_parse__lists__in_their_order(void **state) {
    (void)state;
    static char *more[] = {
        "--codecs", "amaq,bf16,amaq-gates",  "--bits=3,16,1", "--seeds", "9223372036854775807,0",
        "--link",   "50mbit,1.5gbit,64kbit", "--rtt",         "20ms"};
    seam_bench_options o;
    seam_error err;
    assert_int_equal(parse(&o, more, sizeof more / sizeof *more, &err), SEAM_OK);
    uint32_t amaq = 0;
    for (uint32_t r = 0; r < seam_bench_row_count; r++) {
        amaq += strncmp(seam_bench_rows[r].label, "amaq-", 5) == 0;
    }
    assert_true(amaq >= 2 && o.row_count == amaq + 1); /* amaq-gates: not a second time */
    assert_string_equal(o.rows[0]->label, "amaq-gates");
    assert_string_equal(o.rows[amaq]->label, "bf16");
    assert_true(o.bits_count == 3 && o.bits[0] == 3 && o.bits[1] == 16 && o.bits[2] == 1);
    assert_true(o.seed_count == 2 && o.seeds[0] == INT64_MAX && o.seeds[1] == 0);
    assert_true(o.link_count == 3 && o.links[0].bits_per_second == 50e6);
    assert_true(o.links[1].bits_per_second == 1.5e9 && o.links[2].bits_per_second == 64e3);
    assert_string_equal(o.links[1].text, "1.5gbit");
    assert_true(o.rtt_seconds == 20.0 * 1e-3);
}

static void test_seam_bench_options_parse__bad__names_option_and_value(void **state) {
    (void)state;
    static char *cases[][3] = {
        {"--codecs", "zip", "'zip'"},
        {"--codecs", "bf16,,affine", "''"},
        {"--codecs", "ama", "'ama'"},
        {"--bits", "0", "'0'"},
        {"--bits", "17", "'17'"},
        {"--bits", "4,x", "'x'"},
        {"--bits", "", "''"},
        {"--bits", "4,4", "twice"},
        {"--seeds", "-1", "'-1'"},
        {"--seeds", "1,2,1", "twice"},
        {"--seeds", "99999999999999999999", "'99999999999999999999'"},
        {"--link", "50", "'50'"},
        {"--link", "50mbitx", "'50mbitx'"},
        {"--link", "50mbit,", "''"},
        {"--link", "0mbit", "'0mbit'"},
        {"--link", "-1mbit", "'-1mbit'"},
        {"--link", "nanmbit", "'nanmbit'"},
        {"--link", "1e999mbit", "'1e999mbit'"},
        {"--link", "100000000000000000000000000000000mbit", "mbit"},
        {"--rtt", "20", "'20'"},
        {"--rtt", "-1ms", "'-1ms'"},
        {"--rtt", "", "''"},
        {"--resume", "maybe", "'maybe'"},
        {"--train-rows", "0", "0"},
        {"--codec", "bf16", "--codecs"},
        {"--target", "3", "--bits"},
        {"--seed", "3", "--seeds"},
        {"--eval-quantized", "off", "both"},
        {"--lr", "-1", "not above 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        seam_bench_options o;
        seam_error err;
        assert_int_equal(parse(&o, cases[i], 2, &err), SEAM_E_ARG);
        assert_non_null(strstr(err.text, cases[i][2]));
        assert_non_null(strstr(err.text, cases[i][0]));
    }
}

/* Waterfill, but gates for who gives an option of theirs; either is at the target after 40 % of the
 * steps, but for gates whose pressure is given. */
static void test_seam_train_options_finish__allocator__by_what_is_given(void **state) {
    (void)state;
    static const struct {
        char *args[4];
        const char *allocator;
        uint64_t steps_to_target;
    } cases[] = {
        {{"--steps", "101"}, "waterfill", 41},
        {{"--steps", "1"}, "waterfill", 1},
        {{"--steps-to-target", "7"}, "waterfill", 7},
        {{"--gate-signal", "exact"}, "gates", 40},
        {{"--gate-signal", "surrogate"}, "waterfill", 40},
        {{"--rate", "auto"}, "waterfill", 0},
        {{"--rate", "off"}, "waterfill", 40},
        {{"--granularity", "feature"}, "waterfill", 40},
        {{"--granularity", "token"}, "gates", 40},
        {{"--allocator", "waterfill"}, "waterfill", 40},
        {{"--allocator", "gates"}, "gates", 40},
        {{"--allocator", "gates", "--steps-to-target", "7"}, "gates", 7},
        {{"--preset", "gsm8k"}, "gates", 0},
        {{"--preset", "boolq", "--allocator", "waterfill"}, "waterfill", 1200},
        {{"--beta", "0.1"}, "gates", 0},
        {{"--bits-lr", "0.1"}, "gates", 0},
        {{"--beta-after", "0.1"}, "gates", 0},
        {{"--bits-lr-after", "0.1"}, "gates", 0},
        {{"--gate-alpha", "2"}, "gates", 40},
        {{"--bits-loss", "l1"}, "gates", 40},
        {{"--clip", "hard", "--steps-to-target", "9"}, "gates", 9},
        {{"--codec", "affine"}, NULL, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *argv[] = {"--model",        "m",
                        "--data",         "d",
                        "--out",          "o",
                        cases[i].args[0], cases[i].args[1],
                        cases[i].args[2], cases[i].args[3]};
        const int argc = cases[i].args[2] != NULL ? 10 : 8;
        seam_train_options o;
        seam_error err;
        assert_int_equal(seam_train_options_parse(&o, argc, argv, 0, &err), SEAM_OK);
        assert_true(o.allocator == cases[i].allocator ||
                    strcmp(o.allocator, cases[i].allocator) == 0);
        assert_int_equal(o.steps_to_target, cases[i].steps_to_target);
    }
}

/* Every row either makes a run or says which option this build lacks: nothing is left out. */
static void test_seam_bench_run_make__every_row__runs_or_says_why(void **state) {
    (void)state;
    static char *more[] = {"--steps", "7", "--bits", "3", "--rank", "2"};
    seam_bench_options o;
    seam_error err;
    assert_int_equal(parse(&o, more, sizeof more / sizeof *more, &err), SEAM_OK);
    for (uint32_t r = 0; r < seam_bench_row_count; r++) {
        const seam_bench_row *const row = &seam_bench_rows[r];
        seam_bench_run run;
        const seam_status st = seam_bench_run_make(&run, &o, row, 3, 5, &err);
        if (st != SEAM_OK) {
            assert_int_equal(st, SEAM_E_UNIMPLEMENTED);
            assert_non_null(strstr(err.text, "no such option"));
            continue;
        }
        assert_non_null(strstr(row->options, run.options.codec));
        assert_true(run.options.seed == 5 && run.options.steps == 7 && run.options.rank == 2);
        assert_true(run.options.delete_session && run.options.delete_cut);
        const bool targets = row->width_option != NULL && strcmp(row->width_option, "target") == 0;
        assert_true(run.options.target == (targets ? 3.0f : 0.0f));
        assert_int_equal(run.options.bits, row->width_option == NULL || targets ? 0 : 3);
        char label[SEAM_BENCH_LABEL_BYTES];
        snprintf(label, sizeof label, "%s%s-s5", row->label,
                 row->width_option != NULL ? "-3bit" : "");
        assert_string_equal(run.label, label);
        assert_int_equal(strncmp(run.options.out, "o/", 2), 0);
        assert_string_equal(run.options.out + 2, label);
    }
}

static void test_seam_bench_project__formula(void **state) {
    (void)state;
    const seam_bench_cost cost = {.client_seconds = 0.25,
                                  .server_seconds = 0.5,
                                  .bytes_sent = 1e6,
                                  .bytes_received = 5e5,
                                  .micros = 3.0};
    double in_turn = 0.0, overlapped = 0.0;
    seam_bench_project(&in_turn, &overlapped, &cost, 8e6, 0.02); /* up 1 s, down 0.5 s */
    assert_true(in_turn > 2.37 - 1e-9 && in_turn < 2.37 + 1e-9);
    assert_true(overlapped == 1.0);
    seam_bench_project(&in_turn, &overlapped, &cost, 8e9, 0.0); /* the server is the bound */
    assert_true(overlapped == 0.5);
    seam_bench_project(&in_turn, &overlapped, &cost, 8e9, 1.0); /* the round trips are */
    assert_true(overlapped == 2.0);
}

/* ---- Reports made here ---- */

static json_t *step(double bits, int bytes, bool skipped) {
    json_t *const sites = json_object();
    static const char *const names[] = {"fwd_in", "fwd_out", "bwd_out", "bwd_in"};
    for (int i = 0; i < 4; i++) {
        json_object_set_new(sites, names[i],
                            json_pack("{s:f,s:i,s:i}", "mean_bits", i == 3 ? 0.0 : bits, "rows",
                                      i == 3 ? 0 : 10, "payload_bytes", bytes / 8));
    }
    return json_pack("{s:i,s:i,s:f,s:f,s:f,s:f,s:f,s:f,s:i,s:i,s:b,s:o}", "bytes_sent", bytes,
                     "bytes_received", bytes / 2, "seconds", 0.5, "head_seconds", 0.1,
                     "encode_seconds", 0.02, "decode_seconds", 0.01, "server_codec_seconds", 0.03,
                     "server_seconds", 0.2, "micros", 2, "tokens", 100, "skipped", skipped, "sites",
                     sites);
}

/* The paper's tables 6 and 7: beta at the hidden size of the model that it was found with. */
static void test_seam_train_options_finish__preset__by_task_and_model(void **state) {
    (void)state;
    static const struct {
        char *preset, *target;
        float beta; /* at 3584 channels; 0: refused */
    } cases[] = {
        {"boolq", "4", 0.2f * 3584 / 4096},
        {"commonsense_qa@llama3-8b", "3", 0.2f * 3584 / 4096},
        {"commonsense_qa@llama3-8b", "4", 0.1f * 3584 / 4096},
        {"commonsense_qa@qwen2.5-7b", "4", 0.2f},
        {"commonsense_qa@qwen2.5-7b", "3", 0.05f},
        {"winogrande@qwen2.5-7b", "4", 0.2f},
        {"winogrande@qwen2.5-7b", "3", 0.05f},
        {"boolq@qwen2.5-7b", "4", 0.2f},
        {"boolq@qwen2.5-7b", "3", 0.05f},
        {"arc_challenge@qwen2.5-7b", "4", 0.2f},
        {"arc_challenge@qwen2.5-7b", "3", 0.02f},
        {"codealpaca@qwen2.5-7b", "3", 0.03f},
        {"boolq@phi", "4", 0.0f},
        {"boolq@", "4", 0.0f},
        {"bool", "4", 0.0f},
        {"@qwen2.5-7b", "4", 0.0f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *argv[] = {"--model", "m",        "--data",        "d",        "--out",
                        "o",       "--preset", cases[i].preset, "--target", cases[i].target};
        seam_train_options o;
        seam_error err = {0};
        const seam_status st =
            seam_train_options_parse(&o, sizeof argv / sizeof *argv, argv, 0, &err);
        if (cases[i].beta == 0.0f) {
            assert_int_equal(st, SEAM_E_ARG);
            assert_non_null(strstr(err.text, "--preset"));
            continue;
        }
        assert_int_equal(st, SEAM_OK);
        seam_train_options_scale(&o, 3584);
        assert_true(fabsf(o.beta / cases[i].beta - 1.0f) < 1e-6f);
        assert_true(o.batch == 16 && o.steps == (o.rank == 64 ? 5000u : 3000u));
    }
}

static json_t *report(const seam_train_options *o, double loss, double loss_through) {
    json_t *const steps = json_array();
    json_array_append_new(steps, step(8.0, 8000, false));
    json_array_append_new(steps, step(4.0, 4000, true));
    return json_pack("{s:o,s:o,s:b,s:{s:s,s:s,s:s},s:{s:i},s:{s:i},s:{s:{s:f,s:n},s:{s:f,s:f}}}",
                     "steps", steps, "options", seam_train_options_typed(o), "complete", 1,
                     "versions", "client", seam_version(), "server", "1", "server_device", "cpu",
                     "data", "train_rows", 8, "config", "batch", 4, "eval", "after", "loss", loss,
                     "exact_match", "after_quantized", "loss", loss_through, "exact_match", 0.25);
}

static double mean_of(const json_t *row, const char *name) {
    const json_t *const figure = json_object_get(json_object_get(row, "figures"), name);
    return json_number_value(json_object_get(figure, "mean"));
}

static bool near(double a, double b) {
    return a - b < 1e-9 && b - a < 1e-9;
}

static void test_seam_bench_row__two_seeds__means_and_spread(void **state) {
    (void)state;
    static char *more[] = {"--codecs", "affine", "--link", "8mbit", "--rtt", "10ms"};
    seam_bench_options o;
    seam_error err;
    assert_int_equal(parse(&o, more, sizeof more / sizeof *more, &err), SEAM_OK);
    json_t *const rows = json_array();
    json_t *const row = seam_bench_row_create(o.rows[0], 4);
    json_array_append_new(rows, row);
    for (int s = 0; s < 2; s++) {
        seam_bench_run run;
        assert_int_equal(seam_bench_run_make(&run, &o, o.rows[0], 4, o.seeds[s], &err), SEAM_OK);
        json_t *const of_run = report(&run.options, 2.0 + s, 2.5 + s);
        assert_true(seam_bench_report_fits(of_run, &run.options));
        assert_int_equal(seam_bench_row_add(row, &run, o.seeds[s], of_run, false, &err), SEAM_OK);
        json_decref(of_run);
        seam_bench_row_settle(row, &o);
        assert_string_equal(json_string_value(json_object_get(row, "status")),
                            s == 0 ? "pending" : "done");
    }
    assert_true(near(mean_of(row, "loss"), 2.5) && near(mean_of(row, "loss_through"), 3.0));
    assert_true(json_is_null(json_object_get(json_object_get(row, "figures"), "exact_match")));
    assert_true(near(mean_of(row, "exact_match_through"), 0.25));
    assert_true(near(mean_of(row, "fwd_in_bits_last"), 4.0));
    assert_true(near(mean_of(row, "fwd_in_bits_run"), 6.0));
    assert_true(near(mean_of(row, "bwd_in_bits_run"), 0.0));
    assert_true(near(mean_of(row, "payload_bytes_run"), 6000.0));
    assert_true(near(mean_of(row, "total_bytes_step"), 9000.0));
    assert_true(near(mean_of(row, "total_bytes_step_tail"), 6000.0));
    assert_true(near(mean_of(row, "tokens_per_second"), 200.0));
    assert_true(near(mean_of(row, "skipped_step_count"), 1.0));
    assert_true(near(mean_of(row, "epochs"), 1.0));
    const json_t *const link = json_array_get(json_object_get(row, "links"), 0);
    assert_true(near(json_number_value(json_object_get(link, "step_seconds")),
                     0.13 + 0.2 + 0.006 + 0.003 + 0.04));
    assert_true(near(json_number_value(json_object_get(link, "step_seconds_overlapped")), 0.2));

    json_t *const document = seam_bench_document(&o, rows, NULL);
    seam_text text = {.count = 0};
    assert_non_null(document);
    assert_int_equal(seam_bench_markdown(&text, document, &err), SEAM_OK);
    assert_non_null(strstr(text.bytes, "| `affine` | 4 | 3.0000 (1.0000) | 2.5000 (1.0000) | "
                                       "25.0 (0.0) | - | 1.0 (0.0) | 4.000 / 6.000 |"));
    assert_null(strstr(text.bytes, "accuracy")); /* no run has one */
    assert_non_null(strstr(text.bytes, "| 8mbit |\n"));
    assert_non_null(strstr(text.bytes, "| `affine` | 4 | 0.3790 / 0.2000 |"));
    assert_non_null(strstr(text.bytes, "Seeds 1, 2;"));
    seam_text_deinit(&text);
    json_decref(document);
    json_decref(rows);
}

static void test_seam_bench_markdown__accuracy__has_columns(void **state) {
    (void)state;
    static char *more[] = {"--codecs", "affine,bf16"};
    seam_bench_options o;
    seam_error err;
    seam_bench_run run;
    seam_text text = {.count = 0};
    assert_int_equal(parse(&o, more, sizeof more / sizeof *more, &err), SEAM_OK);
    json_t *const rows = json_array();
    json_t *const row = seam_bench_row_create(o.rows[0], 4);
    json_t *const pending = seam_bench_row_create(o.rows[1], 0);
    json_array_append_new(rows, row);
    json_array_append_new(rows, pending);
    assert_int_equal(seam_bench_run_make(&run, &o, o.rows[0], 4, o.seeds[0], &err), SEAM_OK);
    json_t *const of_run = report(&run.options, 2.0, 2.5);
    json_t *const eval = json_object_get(of_run, "eval");
    json_object_set_new(json_object_get(eval, "after"), "accuracy", json_real(0.5));
    json_object_set_new(json_object_get(eval, "after"), "accuracy_norm", json_real(0.75));
    json_object_set_new(json_object_get(eval, "after_quantized"), "accuracy", json_real(0.25));
    assert_int_equal(seam_bench_row_add(row, &run, o.seeds[0], of_run, false, &err), SEAM_OK);
    seam_bench_row_settle(row, &o);
    seam_bench_row_settle(pending, &o);
    assert_true(near(mean_of(row, "accuracy"), 0.5));
    assert_true(near(mean_of(row, "accuracy_through"), 0.25));
    assert_true(near(mean_of(row, "accuracy_norm"), 0.75));
    json_t *const document = seam_bench_document(&o, rows, NULL);
    assert_int_equal(seam_bench_markdown(&text, document, &err), SEAM_OK);
    assert_non_null(strstr(text.bytes, "| without it | accuracy %, through | without | exact "));
    assert_non_null(strstr(text.bytes, "| `affine` | 4 | 2.5000 | 2.0000 | 25.0 | 50.0 | 25.0 |"));
    assert_non_null(strstr(text.bytes, "| `bf16` |  | - | - | - | - | - | - | - |"));
    seam_text_deinit(&text);
    json_decref(document);
    json_decref(of_run);
    json_decref(rows);
}

static void test_seam_bench_report_fits__another_run__is_refused(void **state) {
    (void)state;
    static char *more[] = {"--codecs", "affine"};
    seam_bench_options o;
    seam_error err;
    assert_int_equal(parse(&o, more, sizeof more / sizeof *more, &err), SEAM_OK);
    seam_bench_run run, other;
    assert_int_equal(seam_bench_run_make(&run, &o, o.rows[0], 4, 1, &err), SEAM_OK);
    assert_int_equal(seam_bench_run_make(&other, &o, o.rows[0], 3, 1, &err), SEAM_OK);
    json_t *const of_run = report(&run.options, 2.0, 2.0);
    assert_true(seam_bench_report_fits(of_run, &run.options));
    assert_false(seam_bench_report_fits(of_run, &other.options));
    json_object_set_new(of_run, "complete", json_false());
    assert_false(seam_bench_report_fits(of_run, &run.options)); /* cut short */
    json_object_set_new(of_run, "error", json_pack("{s:s}", "status", "NONFINITE"));
    assert_true(seam_bench_report_fits(of_run, &run.options)); /* diverged: would again */
    json_object_set_new(of_run, "error", json_pack("{s:s}", "status", "UNAVAILABLE"));
    assert_false(seam_bench_report_fits(of_run, &run.options));
    json_object_del(of_run, "error");
    json_object_set_new(of_run, "complete", json_true());
    json_object_set_new(json_object_get(of_run, "versions"), "client", json_string("0.0.0"));
    assert_false(seam_bench_report_fits(of_run, &run.options));
    json_decref(of_run);
    json_t *const array = json_array(); /* a file that is no report */
    assert_false(seam_bench_report_fits(array, &run.options));
    json_decref(array);
}

static void test_seam_bench_markdown__refused_row__shows_the_reason(void **state) {
    (void)state;
    static char *more[] = {"--codecs", "aqsgd", "--link", "8mbit"};
    seam_bench_options o;
    seam_error err;
    assert_int_equal(parse(&o, more, sizeof more / sizeof *more, &err), SEAM_OK);
    json_t *const rows = json_array();
    json_t *const row = seam_bench_row_create(o.rows[0], 3);
    json_array_append_new(rows, row);
    seam_bench_row_refuse(row, "no | such\ncodec");
    seam_bench_row_settle(row, &o);
    json_t *const document = seam_bench_document(&o, rows, NULL);
    seam_text text = {.count = 0};
    assert_int_equal(seam_bench_markdown(&text, document, &err), SEAM_OK);
    assert_non_null(strstr(text.bytes, "| `aqsgd` | 3 | - | - | "));
    assert_non_null(strstr(text.bytes, "| 0 unavailable: no / such codec |\n"));
    seam_text_deinit(&text);
    json_decref(document);
    json_decref(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seam_bench_options_parse__nothing_given__all_rows),
        cmocka_unit_test(test_seam_bench_options_parse__lists__in_their_order),
        cmocka_unit_test(test_seam_bench_options_parse__bad__names_option_and_value),
        cmocka_unit_test(test_seam_train_options_finish__allocator__by_what_is_given),
        cmocka_unit_test(test_seam_train_options_finish__preset__by_task_and_model),
        cmocka_unit_test(test_seam_bench_run_make__every_row__runs_or_says_why),
        cmocka_unit_test(test_seam_bench_project__formula),
        cmocka_unit_test(test_seam_bench_row__two_seeds__means_and_spread),
        cmocka_unit_test(test_seam_bench_markdown__accuracy__has_columns),
        cmocka_unit_test(test_seam_bench_report_fits__another_run__is_refused),
        cmocka_unit_test(test_seam_bench_markdown__refused_row__shows_the_reason),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
