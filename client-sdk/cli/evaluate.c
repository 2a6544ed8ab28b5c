/* Loss of rows, and what an evaluation says; see evaluate.h.  Generated texts: evaluate_texts.c. */
#include "evaluate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "batcher.h"
#include "cli.h"
#include "progress.h"
#include "try.h"

#define ROWS_DEFAULT 4096u

static seam_status score_rows(seam_evaluation *ret, const seam_evaluation_args *args,
                              seam_error *err);
static seam_status losses_sum(seam_evaluation *ret, const seam_evaluation_args *args,
                              seam_inference *inference, uint32_t rows_max, seam_error *err);

/* Rows of the longest sequence that is sent. */
static uint32_t rows_longest(const seam_data *data) {
    uint32_t tokens = seam_data_tokens_longest(data);
    for (uint32_t i = 0; seam_data_choices_total(data) > 0 && i < seam_data_count(data); i++) {
        seam_sample sample;
        seam_data_get(&sample, data, i);
        for (uint32_t c = 0; c < sample.choice_count; c++) {
            seam_choice choice;
            seam_data_choice(&choice, data, sample.choice_first + c);
            const uint32_t with = sample.prompt_count + choice.token_count;
            tokens = with > tokens ? with : tokens;
        }
    }
    return tokens - 1;
}

/* Rows of a request where none are asked for: no more than the server takes. */
static seam_status rows_max_choose(uint32_t *ret, const seam_evaluation_args *args,
                                   seam_error *err) {
    *ret = args->rows_max;
    if (args->rows_max == 0) {
        seam_server_info info;
        SEAM_TRY(seam_client_server_info(&info, args->client, err));
        const uint32_t longest = rows_longest(args->data);
        const uint32_t wanted = longest > ROWS_DEFAULT ? longest : ROWS_DEFAULT;
        *ret = info.rows_max > 0 && info.rows_max < wanted ? info.rows_max : wanted;
    }
    return SEAM_OK;
}

seam_status seam_evaluate(seam_evaluation *ret_evaluation, const seam_evaluation_args *asked,
                          seam_error *err) {
    const double begin = seam_progress_seconds();
    *ret_evaluation = (seam_evaluation){.rows = seam_data_count(asked->data)};
    seam_evaluation_args args = *asked;
    seam_status st = rows_max_choose(&args.rows_max, asked, err);
    if (st == SEAM_OK) {
        st = score_rows(ret_evaluation, &args, err);
    }
    const bool generates = args.exact_match || args.samples_path != NULL;
    if (st == SEAM_OK && generates && seam_data_format_of(args.data) != SEAM_DATA_TEXT) {
        st = seam_evaluate_texts(ret_evaluation, &args, err);
    }
    ret_evaluation->seconds = seam_progress_seconds() - begin;
    if (st != SEAM_OK) {
        seam_evaluation_deinit(ret_evaluation);
    }
    return st;
}

void seam_evaluation_deinit(seam_evaluation *evaluation) {
    json_decref(evaluation->examples);
    json_decref(evaluation->choice_scores);
    json_decref(evaluation->groups);
    evaluation->examples = evaluation->choice_scores = evaluation->groups = NULL;
}

seam_status seam_evaluation_group_add(seam_evaluation *evaluation, const char *group, bool exact) {
    if (group == NULL) {
        return SEAM_OK;
    }
    if (evaluation->groups == NULL) {
        evaluation->groups = json_object();
    }
    const json_t *const before = json_object_get(evaluation->groups, group);
    const json_int_t rows = json_integer_value(json_object_get(before, "rows")) + 1;
    const json_int_t right = json_integer_value(json_object_get(before, "exact_rows")) + exact;
    json_t *const after = json_pack("{s:I,s:I,s:f}", "rows", rows, "exact_rows", right,
                                    "exact_match", (double)right / (double)rows);
    return json_object_set_new(evaluation->groups, group, after) == 0 ? SEAM_OK : SEAM_E_MEMORY;
}

json_t *seam_evaluation_json(const seam_evaluation *e) {
    json_t *const value = json_pack(
        "{s:f,s:f,s:f,s:I,s:I,s:f,s:s}", "loss", e->loss, "perplexity", e->perplexity,
        "token_accuracy", e->token_accuracy, "rows", (json_int_t)e->rows, "labelled_tokens",
        (json_int_t)e->labelled_tokens, "seconds", e->seconds, "codec", e->codec);
    json_object_set_new(value, "exact_match",
                        e->has_exact_match ? json_real(e->exact_match) : json_null());
    if (e->has_exact_match) {
        json_object_set_new(value, "exact_rows", json_integer(e->exact_rows));
    }
    if (e->promptless_rows > 0) {
        json_object_set_new(value, "promptless_rows", json_integer(e->promptless_rows));
    }
    if (e->samples > 0) {
        json_object_set_new(value, "samples", json_integer(e->samples));
    }
    if (e->sampling.temperature > 0.0f) {
        json_object_set_new(value, "temperature", json_real((double)e->sampling.temperature));
        json_object_set_new(value, "top_p", json_real((double)e->sampling.top_p));
        json_object_set_new(value, "seed", json_integer((json_int_t)e->sampling.seed));
    }
    const bool has_choices = e->choice_rows > 0;
    json_object_set_new(value, "accuracy", has_choices ? json_real(e->accuracy) : json_null());
    json_object_set_new(value, "accuracy_norm",
                        has_choices ? json_real(e->accuracy_norm) : json_null());
    if (has_choices) {
        json_object_set_new(value, "choice_rows", json_integer(e->choice_rows));
    }
    if (e->choice_scores != NULL) {
        json_object_set(value, "choice_scores", e->choice_scores);
    }
    if (e->groups != NULL) {
        json_object_set(value, "groups", e->groups);
    }
    if (e->examples != NULL) {
        json_object_set(value, "examples", e->examples);
    }
    return value;
}

/* ---- Loss ---- */

static seam_status score_rows(seam_evaluation *ret, const seam_evaluation_args *args,
                              seam_error *err) {
    seam_inference_options options = SEAM_INFERENCE_OPTIONS_INIT;
    options.kind = SEAM_INFERENCE_FORWARD;
    options.codec = args->codec;
    options.base_model = args->base_model;
    options.rows_max = args->rows_max;
    seam_inference *inference = NULL;
    SEAM_TRY(seam_inference_open(&inference, args->session, &options, err));
    seam_inference_describe(&options, inference);
    snprintf(ret->codec, sizeof ret->codec, "%s", options.codec);
    const seam_status st = seam_data_choices_total(args->data) > 0
                               ? seam_evaluate_choices(ret, args, inference, args->rows_max, err)
                               : losses_sum(ret, args, inference, args->rows_max, err);
    seam_inference_close(inference);
    SEAM_TRY(st);
    if (!isfinite(ret->loss)) {
        return seam_error_set(err, SEAM_E_NONFINITE, "the loss is not finite");
    }
    ret->perplexity = exp(ret->loss);
    return SEAM_OK;
}

/* Of data without choices. */
static seam_status losses_sum(seam_evaluation *ret, const seam_evaluation_args *args,
                              seam_inference *inference, uint32_t rows_max, seam_error *err) {
    const seam_batcher_options batching = {
        .samples_per_step = seam_data_count(args->data), .rows_max = rows_max, .in_order = true};
    seam_batcher *batcher = NULL;
    SEAM_TRY(seam_cli_data_status(seam_batcher_create(&batcher, args->data, &batching, err), err));
    seam_score score = {.loss_sum = 0.0};
    seam_step_batch step;
    seam_batcher_step(&step, batcher, 0);
    seam_status st = SEAM_OK;
    for (uint32_t m = 0; st == SEAM_OK && m < step.micro_count; m++) {
        const seam_micro *const micro = &step.micros[m];
        const seam_token_batch batch = {.sequence_count = micro->seq_count,
                                        .sequence_rows = micro->seq_rows,
                                        .ids = micro->ids,
                                        .labelled_rows = micro->labelled,
                                        .targets = micro->targets};
        st = seam_model_score(&score, args->model, inference, &batch, err);
    }
    seam_batcher_destroy(batcher);
    SEAM_TRY(st);
    const double n = (double)score.labelled_tokens;
    ret->loss = score.loss_sum / n;
    ret->token_accuracy = (double)score.correct_tokens / n;
    ret->labelled_tokens = score.labelled_tokens;
    return SEAM_OK;
}
