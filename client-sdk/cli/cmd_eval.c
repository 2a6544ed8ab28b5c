/* `seam eval`: loss, perplexity, accuracy and exact match of a run, an adapter or the base model.
 */
#include <stdio.h>
#include <string.h>

#include "evaluate.h"
#include "local_model.h"
#include "progress.h"
#include "report_html.h"
#include "run_data.h"
#include "shared_options.h"
#include "try.h"
#include "use_session.h"

typedef struct eval_options {
    seam_use_options use;
    const char *data;
    uint32_t rows, tokens_max, new_tokens, slots, examples, rows_max;
    bool truncate, exact_match;
    seam_sampling sampling;
    const char *samples_out;
    uint32_t samples;
} eval_options;

#define TEMPERATURE_HUMANEVAL 0.2f

static const seam_arg_spec eval_specs[] = {
    SEAM_OPTION_DATA(eval_options),
    {"rows", SEAM_ARG_COUNT, offsetof(eval_options, rows), "N", "rows to use [all]"},
    SEAM_OPTION_TOKENS_MAX(eval_options),
    SEAM_OPTION_TRUNCATE(eval_options),
    {"rows-max", SEAM_ARG_COUNT, offsetof(eval_options, rows_max), "N",
     "tokens of one request [4096 or the longest row, or what the server takes]"},
    SEAM_OPTION_EXACT_MATCH(eval_options),
    {"new-tokens", SEAM_ARG_COUNT, offsetof(eval_options, new_tokens), "N",
     "longest generated text [longest completion + 16, at most 512]"},
    {"slots", SEAM_ARG_COUNT, offsetof(eval_options, slots), "N", "texts generated at once [16]"},
    {"examples", SEAM_ARG_U32, offsetof(eval_options, examples), "N",
     "generated texts, and scores of choices, to show [0]"},
    {"samples-out", SEAM_ARG_TEXT, offsetof(eval_options, samples_out), "FILE",
     "write generated texts of HumanEval rows for its evaluator, which runs them"},
    {"samples", SEAM_ARG_COUNT, offsetof(eval_options, samples), "N",
     "with --samples-out: texts of each row [1]"},
    SEAM_OPTION_TEMPERATURE(eval_options, "[0; 0.2 with --samples-out]"),
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

static void help(void) {
    printf("usage: seam eval --model PATH --data FILE [--run DIR | --adapter DIR] [options]\n\n");
    printf("Loss and perplexity; exact match of generated texts; of rows with \"choices\" and "
           "\"label\", the\naccuracy: how often the likeliest choice is the right one.\n\n");
    seam_args_help(eval_specs);
    seam_args_help(seam_sampling_specs);
    seam_args_help(seam_use_specs);
    seam_args_help(seam_server_specs);
    seam_args_help(seam_common_specs);
}

static void scores_print(const json_t *choice_scores) {
    size_t i = 0, c = 0;
    json_t *row = NULL, *score = NULL;
    json_array_foreach(choice_scores, i, row) {
        printf("line %lld: picked %lld, right %lld; log probabilities",
               (long long)json_integer_value(json_object_get(row, "line")),
               (long long)json_integer_value(json_object_get(row, "picked")),
               (long long)json_integer_value(json_object_get(row, "label")));
        json_array_foreach(json_object_get(row, "scores"), c, score) {
            printf(" %.3f", json_real_value(score));
        }
        printf("\n");
    }
}

static void result_print(const seam_evaluation *e, const eval_options *o) {
    if (o->use.common.json) {
        json_t *const value = seam_evaluation_json(e);
        seam_cli_print_json(value);
        json_decref(value);
        return;
    }
    size_t i = 0;
    json_t *example = NULL;
    json_array_foreach(e->examples, i, example) {
        printf("%s\n  expected:  %s\n  generated: %s\n",
               json_string_value(json_object_get(example, "prompt")),
               json_string_value(json_object_get(example, "expected")),
               json_string_value(json_object_get(example, "generated")));
    }
    scores_print(e->choice_scores);
    printf("rows %u  tokens in the loss %llu  loss %.4f  perplexity %.3f  tokens right %.1f %%",
           e->rows, (unsigned long long)e->labelled_tokens, e->loss, e->perplexity,
           100.0 * e->token_accuracy);
    if (e->has_exact_match) {
        printf("  exact match %.1f %% (%u)", 100.0 * e->exact_match, e->exact_rows);
    }
    if (e->promptless_rows > 0) {
        printf("  %u rows without a prompt have no generated text", e->promptless_rows);
    }
    if (e->samples > 0) {
        printf("  %u samples in %s", e->samples, o->samples_out);
    }
    if (e->choice_rows > 0) {
        printf("  accuracy %.1f %%, by length %.1f %% (%u rows with choices)", 100.0 * e->accuracy,
               100.0 * e->accuracy_norm, e->choice_rows);
    }
    const char *name = NULL;
    json_t *group = NULL;
    if (json_object_size(e->groups) <= SEAM_REPORT_GROUPS_MAX) {
        json_object_foreach(e->groups, name, group) {
            printf("\n  %s: exact match %.1f %% of %lld rows", name,
                   100.0 * json_number_value(json_object_get(group, "exact_match")),
                   (long long)json_integer_value(json_object_get(group, "rows")));
        }
    }
    printf("\n");
}

static seam_status evaluate(const eval_options *o, const seam_use *use, seam_error *err) {
    seam_training_facts facts;
    seam_session_training(&facts, use->session);
    uint32_t limit = 0;
    SEAM_TRY(
        seam_run_tokens_limit(&limit, seam_model_config_of(use->model), facts.prefix_tokens, err));
    const seam_data_options options = {
        .tokens_max = o->tokens_max != 0 && o->tokens_max < limit ? o->tokens_max : limit,
        .truncates = o->truncate,
        .rows_max = o->rows,
        .eos_id = -1};
    seam_data *data = NULL;
    seam_status st =
        seam_cli_data_status(seam_data_load(&data, o->data, use->tokenizer, &options, err), err);
    if (st != SEAM_OK) {
        return st;
    }
    const seam_evaluation_args args = {.client = use->client,
                                       .session = use->session,
                                       .model = use->model,
                                       .tokenizer = use->tokenizer,
                                       .data = data,
                                       .codec = o->use.codec,
                                       .base_model = use->base_model,
                                       .exact_match = o->exact_match,
                                       .rows_max = o->rows_max,
                                       .slots = o->slots,
                                       .new_tokens_max = o->new_tokens,
                                       .examples_max = o->examples,
                                       .sampling = o->sampling,
                                       .samples_path = o->samples_out,
                                       .samples_per_row = o->samples};
    seam_evaluation evaluation;
    st = seam_evaluate(&evaluation, &args, err);
    if (st == SEAM_OK) {
        result_print(&evaluation, o);
        seam_evaluation_deinit(&evaluation);
    }
    seam_data_destroy(data);
    return st;
}

static seam_status sampling_settle(eval_options *o, seam_error *err) {
    if (o->samples != 0 && o->samples_out == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "--samples needs --samples-out");
    }
    const float usual = o->samples_out != NULL ? TEMPERATURE_HUMANEVAL : 0.0f;
    return seam_sampling_settle(&o->sampling, usual, err);
}

int seam_cmd_eval(int argc, char **argv, int first) {
    eval_options o = {.exact_match = true, .sampling = SEAM_SAMPLING_INIT};
    seam_error err = {0};
    const seam_arg_table tables[] = {{seam_common_specs, &o.use.common},
                                     {seam_server_specs, &o.use.server},
                                     {seam_use_specs, &o.use},
                                     {eval_specs, &o},
                                     {seam_sampling_specs, &o.sampling}};
    uint32_t count = 0;
    const char *positional[1];
    seam_status st = seam_args_parse(&count, positional, 0, tables, 5, argc, argv, first, &err);
    if (st == SEAM_OK && o.use.common.help) {
        help();
        return SEAM_EXIT_OK;
    }
    if (st == SEAM_OK && (o.use.model == NULL || o.data == NULL)) {
        st = seam_error_set(&err, SEAM_E_ARG, "--model and --data are needed");
    }
    if (st == SEAM_OK) {
        st = seam_use_check(&o.use, &err);
    }
    if (st == SEAM_OK) {
        st = sampling_settle(&o, &err);
    }
    if (st != SEAM_OK) {
        return seam_cli_usage(&err, "eval");
    }
    seam_use use = {.tokenizer = NULL};
    st = seam_cli_path_check("data", o.data, &err);
    if (st == SEAM_OK) {
        st = seam_cli_output_check("samples-out", o.samples_out, &err);
    }
    if (st == SEAM_OK) {
        st = seam_use_open(&use, &o.use, &err);
    }
    if (st == SEAM_OK) {
        st = evaluate(&o, &use, &err);
    }
    if (o.rows_max != 0 && strncmp(err.text, "open.rows_max", 13) == 0) {
        st = seam_error_prefix(&err, st, "--rows-max");
    }
    seam_use_close(&use);
    return seam_cli_finish(st, &err, &o.use.common);
}
