/* Goal: what is typed is what runs: `seam train` takes a value as it was given or refuses it by its
 * option's name, and says which values are in force.
 * Method: tables of command lines on the parser, which needs neither model nor server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "field_option.h"
#include "train_options.h"

#define ARGS_MAX 24

/* The words of `line` behind those that every run needs. */
static seam_status parse(seam_train_options *ret, char *line, seam_error *err) {
    char *argv[ARGS_MAX] = {"--model", "m", "--data", "d", "--out", "o"};
    int argc = 6;
    char *rest = line;
    for (char *word = strtok_r(line, " ", &rest); word != NULL && argc < ARGS_MAX;
         word = strtok_r(NULL, " ", &rest)) {
        argv[argc++] = word;
    }
    *err = (seam_error){0};
    return seam_train_options_parse(ret, argc, argv, 0, err);
}

typedef struct refused_case {
    const char *line, *text;
} refused_case;

static void refused_check(const refused_case *cases, size_t count) {
    for (size_t i = 0; i < count; i++) {
        seam_train_options o;
        seam_error err;
        char line[128];
        assert_true(strlen(cases[i].line) < sizeof line);
        memcpy(line, cases[i].line, strlen(cases[i].line) + 1);
        if (parse(&o, line, &err) != SEAM_E_ARG) {
            fail_msg("'%s' is taken", cases[i].line);
        }
        if (strstr(err.text, cases[i].text) == NULL) {
            fail_msg("'%s': \"%s\" does not say \"%s\"", cases[i].line, err.text, cases[i].text);
        }
    }
}

static void test_seam_train_options_parse__refused(void **state) {
    (void)state;
    static const refused_case cases[] = {
        /* 0 is no word for the default. */
        {"--lr 0", "--lr: 0 is not above 0"},
        {"--lr -1", "--lr: -1 is not above 0"},
        {"--lr nan", "--lr: 'nan' is not a number"},
        {"--lr 1e400", "--lr: 1e400 is too large"},
        {"--lr 1e-45", "--lr: 1e-45 is too near to 0"},
        {"--steps 0", "--steps: '0' is not a whole number from 1"},
        {"--batch 0", "--batch: '0'"},
        {"--rank 0", "--rank: '0'"},
        {"--alpha 0", "--alpha: 0 is not above 0"},
        {"--rows-max 0", "--rows-max: '0'"},
        {"--save-every 0", "--save-every: '0'"},
        {"--train-rows 0", "--train-rows: '0'"},
        {"--eval-rows 0", "--eval-rows: '0'"},
        {"--beta 0", "--beta: 0 is not above 0"},
        {"--bits-lr 0", "--bits-lr: 0 is not above 0"},
        {"--adam-beta1 0", "--adam-beta1: 0"},
        {"--weight-decay -0.1", "--weight-decay: -0.1 is below 0"},
        {"--clip-norm -1", "--clip-norm: -1 is below 0"},
        {"--reconnect 0", "--reconnect: '0'"},
        {"--steps 4294967296", "--steps: '4294967296'"},
        {"--tokens-max 1", "--tokens-max: a row of 1 token"},
        /* Options of another codec. */
        {"--bits 3", "--bits: with --codec amaq it has no use"},
        {"--bits 17", "amaq's mean width is --target"},
        {"--allocator waterfill --beta 1", "--beta: with --allocator waterfill it has no use"},
        {"--clip hard --allocator waterfill", "--clip: with --allocator waterfill it has no use"},
        {"--group 64", "--group: with --codec amaq it has no use (of group)"},
        {"--codec affine --target 3", "this one's width is --bits"},
        {"--codec bf16 --target 3", "--target: with --codec bf16"},
        {"--codec bf16 --bits 3", "--bits: with --codec bf16"},
        {"--codec channel --group 8", "--group: with --codec channel"},
        {"--codec affine --allocator gates", "--allocator: with --codec affine"},
        {"--codec group --cache-bits 3", "--cache-bits: with --codec group"},
        {"--codec aqsgd --cache-bits 3", "--cache-bits: has no use without --cache-format"},
        {"--dictionary-rows 9", "--dictionary-rows: has no use without --dictionary on"},
        {"--rtt-ms 3", "--rtt-ms: has no use without --mbit"},
        {"--eval-rows 3", "--eval-rows: has no use without --eval-data"},
        {"--eval-slots 3", "--eval-slots: has no use without --eval-data"},
        {"--eval-new-tokens 3", "--eval-new-tokens: has no use without --eval-data"},
        {"--rate-bits-min 3", "--rate-bits-min: has no use without --rate auto"},
        {"--rate off --rate-bits-max 3", "--rate-bits-max: has no use without --rate auto"},
        {"--step-seconds 3", "--step-seconds: has no use without --rate auto"},
        {"--all-layer-steps 9", "--all-layer-steps: has no use without --all-layer-bits"},
        {"--topology adapter_exchange --consent text --target 3", "this one's width is --bits"},
        /* Ranges, in the options' names. */
        {"--target 9", "--target: 9 has no preset (4 and 3 have one): give --bits-min"},
        {"--bits-min 2", "--bits-min, --bits-max and --bits-start go together"},
        {"--target 9 --bits-min 1 --bits-max 16 --bits-start 8", "--target: 9 is not between"},
        {"--pipeline-depth 9", "--pipeline-depth: '9' is not 1 to 8 or auto"},
        {"--pipeline-depth 0", "--pipeline-depth: '0'"},
        {"--pipeline-depth deep", "--pipeline-depth: 'deep'"},
    };
    refused_check(cases, sizeof cases / sizeof *cases);
}

static void test_seam_train_options_parse__what_every_server_refuses__named(void **state) {
    (void)state;
    static const refused_case cases[] = {
        {"--rank 257", "--rank: 257 is not in 1..256"},
        {"--alpha 2e6", "--alpha: 2e+06 is not in 1e-06..1e+06"},
        {"--dropout 0.96", "--dropout: 0.96 is not in 0..0.95"},
        {"--prefix-tokens 257", "--prefix-tokens: 257 is not in 1..256"},
        {"--lr 101", "--lr: 101 is not in 0..100"},
        {"--adam-beta1 1", "--adam-beta1: 1 is not in 0..0.999999"},
        {"--adam-beta2 2", "--adam-beta2: 2 is not in"},
        {"--adam-eps 2", "--adam-eps: 2 is not in 1e-30..1"},
        {"--adam-eps 1e-40", "--adam-eps: "},
        {"--weight-decay 101", "--weight-decay: 101 is not in 0..100"},
        {"--clip-norm 1e31", "--clip-norm: 1e+31 is not in 0..1e+30"},
        {"--beta 2e6", "--beta: 2e+06 is not in 0..1e+06"},
        {"--beta-after 2e6", "--beta-after: 2e+06"},
        {"--bits-lr 200", "--bits-lr: 200 is not in 0..100"},
        {"--bits-lr-after 200", "--bits-lr-after: 200"},
        {"--alloc-lag 5000", "--alloc-lag: 5000 is not in 2..1000"},
        {"--alloc-lag 1", "--alloc-lag: 1 is not in 2..1000"},
        {"--all-layer-bits 4 --all-layer-steps 2000000000", "--all-layer-steps: 2e+09 is not in"},
        {"--schedule linear --warmup 9 --steps 9",
         "--warmup: 9 steps leave --schedule linear none"},
        {"--codec affine --bits 17", "--bits: 17 is not in 1..16"},
        {"--codec aqsgd --cache-format quantized --cache-bits 17", "--cache-bits: 17 is not in 1"},
        {"--dictionary on --dictionary-rows 1048577", "--dictionary-rows: 1048577 is not in 1"},
        {"--bits-min 0.5 --bits-max 16 --bits-start 8",
         "--bits-min, --bits-max, --bits-start: bits_"},
        {"--bits-min 1 --bits-max 17 --bits-start 8", "bits_max 17: outside 1..16"},
        {"--bits-min 8 --bits-max 4 --bits-start 6", "--bits-min, --bits-max, --bits-start: "},
        {"--gate-alpha 2000", "--gate-alpha: alpha 2000"},
        {"--codec aqsgd --cache-bytes 18446744073709551615",
         "--cache-bytes: 18446744073709551615 is"},
        {"--rate auto --step-seconds 1e9", "--step-seconds: 1e+09 is more than 86400"},
    };
    refused_check(cases, sizeof cases / sizeof *cases);
}

static void test_seam_train_options_typed__values_in_force(void **state) {
    (void)state;
    static const struct {
        const char *line, *option, *value; /* value NULL: nothing is said of it */
    } cases[] = {
        {"", "adam-beta1", "0.899999976"},
        {"", "adam-beta2", "0.999000013"},
        {"", "adam-eps", "9.99999994e-09"},
        {"", "train-rows", NULL},
        {"", "tokens-max", NULL},
        {"", "prefix-tokens", NULL},
        {"", "bits", NULL},
        {"", "target", "4"},
        {"", "bits-lr", "0.00999999978"},
        {"", "weight-decay", "0"},
        {"", "warmup", "0"},
        {"", "clip-norm", "1"},
        {"", "rank", "16"},
        {"--prefix-tokens 3", "rank", NULL},
        {"--train-rows 9", "train-rows", "9"},
        {"--clip-norm 0", "clip-norm", "0"},
        {"--codec affine", "bits", "4"},
        {"--codec affine --bits 3", "bits", "3"},
        {"--codec affine", "target", NULL},
        {"--codec affine", "bits-lr", NULL},
        {"--codec affine --all-layer-bits 4 --steps-to-target 9", "steps-to-target", "9"},
        {"--target 5 --bits-min 1 --bits-max 16 --bits-start 8", "target", "5"},
        {"--pipeline-depth 8", "pipeline-depth", "8"},
        /* The largest that a server takes. */
        {"--alloc-lag 1000 --bits-lr 100 --beta 1e6", "alloc-lag", "1000"},
        {"--rank 256 --alpha 1e6 --dropout 0.95", "rank", "256"},
        {"--schedule linear --warmup 8 --steps 9", "warmup", "8"},
        {"--warmup 9 --steps 9", "warmup", "9"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        seam_train_options o;
        seam_error err;
        char line[128];
        memcpy(line, cases[i].line, strlen(cases[i].line) + 1);
        if (parse(&o, line, &err) != SEAM_OK) {
            fail_msg("'%s': %s", cases[i].line, err.text);
        }
        json_t *const typed = seam_train_options_typed(&o);
        const char *const value = json_string_value(json_object_get(typed, cases[i].option));
        const char *const expected = cases[i].value;
        if ((value == NULL) != (expected == NULL) || (value && strcmp(value, expected) != 0)) {
            fail_msg("'%s': %s is %s, expected %s", cases[i].line, cases[i].option,
                     value ? value : "not there", expected ? expected : "none");
        }
        json_decref(typed);
    }
}

static void test_seam_field_option__texts(void **state) {
    (void)state;
    static const struct {
        const char *text, *option;
    } cases[] = {
        {"config.codec.group: 7 does not divide 48 channels", "group"},
        {"config.limits.rows_per_micro_max: 16384 is not in 1..8192", "rows-max"},
        {"affine-4bit-s1: config.fp8: this server keeps none", "fp8"},
        {"step 0: evaluation (before): codec: 'zip' is unknown", "codec"},
        {"schedule: 'x' is unknown", "schedule"},
        {"a: b: c: codec: too far", NULL},
        {"--codec: 'zip' is unknown", NULL},
        {"codecs: unknown", NULL},
        {"config.codec", NULL},
        {"no field", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const option = seam_field_option(cases[i].text);
        if ((option == NULL) != (cases[i].option == NULL) ||
            (option != NULL && strcmp(option, cases[i].option) != 0)) {
            fail_msg("'%s': %s", cases[i].text, option != NULL ? option : "none");
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seam_train_options_parse__refused),
        cmocka_unit_test(test_seam_train_options_parse__what_every_server_refuses__named),
        cmocka_unit_test(test_seam_field_option__texts),
        cmocka_unit_test(test_seam_train_options_typed__values_in_force),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
