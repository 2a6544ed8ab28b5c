/* Goal: what counts as an exact answer, command lines as the tables say, what is left of a run.
 * Method: tables of cases on the functions of client-sdk/cli that need no server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli_args.h"
#include "evaluate.h"
#include "math_answer.h"
#include "progress.h"

static void test_seam_text_is_exact__table(void **state) {
    (void)state;
    static const struct {
        const char *generated, *completion, *answer;
        bool exact;
    } cases[] = {
        {" red\n", "red", NULL, true},
        {"red", " red ", NULL, true},
        {"Red", "red", NULL, false},
        {"red green", "red", NULL, false},
        {"", " \n", NULL, true},
        {"", "red", NULL, false},
        {"so\n#### 1,234", "x", "1234", true},
        {"#### 1234\nmore", "x", "1,234", true},
        {"#### 7\n#### 8", "x", "8", true}, /* the last one counts */
        {"#### 7\n#### 8", "x", "7", false},
        {"the answer is 72", "x", "72", false},
        {"#### 720", "x", "72", false},
        {"#### ", "x", "72", false},
        {"####", "x", "", false},
        {"so $\\boxed{\\dfrac12}$.", "it is \\boxed{\\frac{1}{2}}", "\\frac{1}{2}", true},
        {"\\boxed{3}, no, \\boxed{4}", "\\boxed{4}", "4", true}, /* the last one counts */
        {"#### 4", "\\boxed{4}", "4", false},
        {"4", "\\boxed{4}", "4", false},
        {"\\boxed{4", "\\boxed{4}", "4", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(
            seam_text_is_exact(cases[i].generated, cases[i].completion, cases[i].answer),
            cases[i].exact);
    }
}

static void test_math_boxed__table(void **state) {
    (void)state;
    static const struct {
        const char *text, *content; /* NULL: none */
    } cases[] = {
        {"a \\boxed{x^{2}} b", "x^{2}"},
        {"\\fbox{7}", "7"},
        {"\\boxed 12$ so", "12"},
        {"\\boxed{}", ""},
        {"\\boxed{{a}{b}}}", "{a}{b}"},
        {"boxed{1}", NULL},
        {"\\boxed", NULL},
        {"\\boxed{{a}", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *content = NULL;
        size_t bytes = 0;
        assert_int_equal(seam_math_boxed(&content, &bytes, cases[i].text),
                         cases[i].content != NULL);
        if (cases[i].content != NULL) {
            assert_int_equal(bytes, strlen(cases[i].content));
            assert_memory_equal(content, cases[i].content, bytes);
        }
    }
}

static void test_math_is_same__table(void **state) {
    (void)state;
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"\\dfrac{1}{2}", "\\tfrac{1}{2}", true},
        {"\\frac12", "\\frac{1}{2}", true},
        {"\\frac1{72}", "\\frac{1}{72}", true},
        {"1/2", "\\frac{1}{2}", true},
        {"0.5", "1/2", true},
        {".5", "\\frac12", true},
        {"-3/4", "\\frac{-3}{4}", true},
        {"x/2", "\\frac{x}{2}", false}, /* of integers only */
        {"1/2/3", "\\frac{1}{2/3}", false},
        {"\\sqrt3", "\\sqrt{3}", true},
        {"2\\sqrt 3", "2\\sqrt{3}", false}, /* as the data set's scorer: \sqrt{ }3 */
        {"x = 5", "5", true},
        {"n=5", "5", true},
        {"f(x)=5", "5", false},
        {"a=b=5", "5", false},
        {"90^\\circ", "90", true},
        {"90^{\\circ}", "90", true},
        {"\\$ 12", "12", true},
        {"12\\%", "12", true},
        {"5\\text{ cm}", "5", true},
        {"\\text{even}", "\\text{even}", true},
        {"\\text{even}", "\\text{odd}", false},
        {"\\left( 1, 2 \\right)", "(1,2)", true},
        {"1\\!000", "1000", true},
        {"\\{.5\\}", "\\{0.5\\}", true},
        {"x+1", "1+x", false},
        {"2", "3", false},
        {"", "", true},
        {"\\frac", "\\frac", true},
        {"\\frac1", "\\frac{1}", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const a = cases[i].a, *const b = cases[i].b;
        assert_int_equal(seam_math_is_same(a, strlen(a), b, strlen(b)), cases[i].same);
        assert_int_equal(seam_math_is_same(b, strlen(b), a, strlen(a)), cases[i].same);
    }
    /* The largest answers of what grows most, and one byte more. */
    char many[SEAM_MATH_ANSWER_BYTES_MAX + 1];
    for (size_t i = 0; i < sizeof many; i++) {
        many[i] = "\\frac12"[i % 7];
    }
    assert_true(seam_math_is_same(many, sizeof many - 1, many, sizeof many - 1));
    assert_true(seam_math_is_same(many, sizeof many, many, sizeof many));
    assert_false(seam_math_is_same(many, sizeof many, many, sizeof many - 1));
    memset(many, '.', sizeof many);
    assert_true(seam_math_is_same(many, sizeof many - 1, many, sizeof many - 1));
}

static void test_seam_function_end__before_what_is_no_part_of_it(void **state) {
    (void)state;
    assert_int_equal(seam_function_end("    return x\n\nprint(f(1))\n"), 13);
    assert_int_equal(seam_function_end("    return x\n"), 13);
    assert_int_equal(seam_function_end("    # a comment\n    if x:\n        pass\n\ndef g():"), 39);
    assert_int_equal(seam_function_end("\n# first\nclass A:"), 0);
    assert_int_equal(seam_function_end(""), 0);
}

static void test_seam_choice_pick__table(void **state) {
    (void)state;
    static const struct {
        double scores[4];
        uint32_t lengths[4], count, picked, picked_norm;
    } cases[] = {
        {{-1.0, -2.0}, {1, 1}, 2, 0, 0},
        {{-2.0, -1.0, -3.0}, {1, 1, 1}, 3, 1, 1},
        {{-2.0, -1.0, -1.0}, {1, 1, 1}, 3, 1, 1}, /* a tie: the first */
        {{-2.0, -2.0, -2.0, -2.0}, {2, 2, 2, 2}, 4, 0, 0},
        {{-3.0, -4.0, -9.0}, {1, 2, 3}, 3, 0, 1}, /* -3, -2, -3 a byte */
        {{-3.0, -6.0, -9.0}, {1, 2, 3}, 3, 0, 0}, /* a tie by length */
        {{-5.0, -0.0}, {5, 1}, 2, 1, 1},
        {{-1e300, -1e299}, {1, 1}, 2, 1, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(seam_choice_pick(cases[i].scores, NULL, cases[i].count), cases[i].picked);
        assert_int_equal(seam_choice_pick(cases[i].scores, cases[i].lengths, cases[i].count),
                         cases[i].picked_norm);
    }
}

static void test_seam_choice_length__table(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint32_t length;
    } cases[] = {{" A", 1}, {"A", 1}, {" yes", 3}, {"  a", 2}, {" ", 1}, {"\xc3\xa9", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(seam_choice_length(cases[i].text, (uint32_t)strlen(cases[i].text)),
                         cases[i].length);
    }
}

typedef struct target {
    bool flag, onoff;
    const char *text;
    uint32_t u32;
    uint64_t u64;
    float f32;
} target;

static const seam_arg_spec specs[] = {
    {"flag", SEAM_ARG_FLAG, offsetof(target, flag), NULL, ""},
    {"onoff", SEAM_ARG_ONOFF, offsetof(target, onoff), "on|off", ""},
    {"text", SEAM_ARG_TEXT, offsetof(target, text), "T", ""},
    {"u32", SEAM_ARG_U32, offsetof(target, u32), "N", ""},
    {"u64", SEAM_ARG_U64, offsetof(target, u64), "N", ""},
    {"f32", SEAM_ARG_F32, offsetof(target, f32), "X", ""},
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

static seam_status parse(target *ret, const char **positional, uint32_t *count, int argc,
                         char **argv, seam_error *err) {
    const seam_arg_table table = {specs, ret};
    return seam_args_parse(count, positional, 1, &table, 1, argc, argv, 0, err);
}

static void test_seam_args_parse__every_kind__is_stored(void **state) {
    (void)state;
    char *argv[] = {"--flag",
                    "--onoff=on",
                    "--text",
                    "a b",
                    "--u32",
                    "4294967295",
                    "--u64=18446744073709551615",
                    "--f32",
                    "-1e-3",
                    "--",
                    "--rest"};
    target t = {.flag = false};
    const char *positional[1] = {NULL};
    uint32_t count = 0;
    seam_error err;
    assert_int_equal(parse(&t, positional, &count, sizeof argv / sizeof *argv, argv, &err),
                     SEAM_OK);
    assert_true(t.flag && t.onoff && t.f32 == -1e-3f);
    assert_string_equal(t.text, "a b");
    assert_true(t.u32 == UINT32_MAX && t.u64 == UINT64_MAX);
    assert_int_equal(count, 1);
    assert_string_equal(positional[0], "--rest");
}

static void test_seam_arg_show__every_kind__is_what_would_be_typed(void **state) {
    (void)state;
    const target t = {.onoff = true, .text = "a b", .u32 = 7, .u64 = UINT64_MAX, .f32 = 1e-4f};
    static const char *const shown[] = {"off",           "on", "a b", "7", "18446744073709551615",
                                        "9.99999975e-05"};
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        char number[SEAM_ARG_TEXT_BYTES];
        assert_string_equal(seam_arg_show(number, &specs[i], &t), shown[i]);
    }
    const target none = {.flag = false};
    char number[SEAM_ARG_TEXT_BYTES];
    assert_null(seam_arg_show(number, &specs[2], &none));
}

static void test_seam_args_parse__bad__names_the_option(void **state) {
    (void)state;
    static char *cases[][2] = {
        {"--u32", "4294967296"}, {"--u32", "-1"},   {"--u32", "1x"},   {"--u32", ""},
        {"--u64", " 1"},         {"--f32", "nan"},  {"--f32", "1e99"}, {"--onoff", "yes"},
        {"--flag=1", "x"},       {"--nosuch", "x"}, {"--fla", "x"},    {"x", "y"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        target t = {.flag = false};
        const char *positional[1] = {NULL};
        uint32_t count = 0;
        seam_error err = {SEAM_OK, ""};
        assert_int_equal(parse(&t, positional, &count, 2, cases[i], &err), SEAM_E_ARG);
        char name[16] = "'y'";
        if (cases[i][0][0] == '-') {
            strncpy(name, cases[i][0], strcspn(cases[i][0], "="));
        }
        assert_non_null(strstr(err.text, name));
    }
    char *lonely[] = {"--text"};
    target t = {.flag = false};
    uint32_t count = 0;
    const char *positional[1] = {NULL};
    seam_error err;
    assert_int_equal(parse(&t, positional, &count, 1, lonely, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "--text"));
}

/* What is left goes by the steps that this process has made, not by those of the run. */
static void test_seam_progress_step_show__run_goes_on__left_by_its_own_steps(void **state) {
    (void)state;
    char text[512] = "";
    FILE *const lines = tmpfile();
    const int kept = dup(STDERR_FILENO);
    assert_non_null(lines);
    assert_true(dup2(fileno(lines), STDERR_FILENO) >= 0);
    seam_progress progress;
    seam_progress_init(&progress, false);
    progress.begin -= 6000.0; /* what its first step took; the next one takes as long */
    seam_progress_step_show(&progress, &(seam_progress_step){.step = 999, .step_count = 1000});
    assert_true(dup2(kept, STDERR_FILENO) >= 0);
    close(kept);
    rewind(lines);
    assert_non_null(fgets(text, sizeof text, lines));
    fclose(lines);
    assert_non_null(strstr(text, "999/1000"));
    assert_non_null(strstr(text, "  100:")); /* minutes, however slow this test is */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seam_text_is_exact__table),
        cmocka_unit_test(test_math_boxed__table),
        cmocka_unit_test(test_math_is_same__table),
        cmocka_unit_test(test_seam_function_end__before_what_is_no_part_of_it),
        cmocka_unit_test(test_seam_choice_pick__table),
        cmocka_unit_test(test_seam_choice_length__table),
        cmocka_unit_test(test_seam_progress_step_show__run_goes_on__left_by_its_own_steps),
        cmocka_unit_test(test_seam_args_parse__every_kind__is_stored),
        cmocka_unit_test(test_seam_arg_show__every_kind__is_what_would_be_typed),
        cmocka_unit_test(test_seam_args_parse__bad__names_the_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
