/* Rows with choices: one pass gives the loss of every row and the likeliest choice of each that has
 * some.  Read next: text/choice_batcher.c, what is sent; exact_match.c, which choice wins. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arena.h"
#include "choice_batcher.h"
#include "cli.h"
#include "evaluate.h"
#include "try.h"

typedef struct pass {
    const seam_evaluation_args *args;
    seam_choice_batcher *batcher;
    seam_inference *inference;
    double *scores; /* of the data set's choices: sums of log probabilities */
    seam_token_query *queries;
    seam_token_answer *answers;
    uint32_t capacity; /* of both */
    double loss_sum;
    uint64_t labelled_tokens, correct_tokens;
} pass;

static seam_status pass_run(pass *p, seam_error *err);
static seam_status batch_run(pass *p, const seam_choice_batch *batch, seam_error *err);
static seam_status rows_judge(seam_evaluation *ret, const pass *p, seam_error *err);

seam_status seam_evaluate_choices(seam_evaluation *evaluation, const seam_evaluation_args *args,
                                  seam_inference *inference, uint32_t rows_max, seam_error *err) {
    pass p = {.args = args, .inference = inference};
    SEAM_TRY(seam_cli_data_status(seam_choice_batcher_create(&p.batcher, args->data, rows_max, err),
                                  err));
    p.scores = seam_mem_zalloc(seam_data_choices_total(args->data), sizeof *p.scores);
    seam_status st =
        p.scores != NULL ? pass_run(&p, err) : seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    if (st == SEAM_OK) {
        evaluation->loss = p.loss_sum / (double)p.labelled_tokens;
        evaluation->labelled_tokens = p.labelled_tokens;
        evaluation->token_accuracy = (double)p.correct_tokens / (double)p.labelled_tokens;
        st = rows_judge(evaluation, &p, err);
    }
    seam_mem_free(p.answers);
    seam_mem_free(p.queries);
    seam_mem_free(p.scores);
    seam_choice_batcher_destroy(p.batcher);
    return st;
}

static seam_status pass_run(pass *p, seam_error *err) {
    seam_choice_batch batch;
    for (seam_choice_batcher_next(&batch, p->batcher); batch.rows > 0;
         seam_choice_batcher_next(&batch, p->batcher)) {
        SEAM_TRY(batch_run(p, &batch, err));
    }
    return SEAM_OK;
}

static seam_status batch_run(pass *p, const seam_choice_batch *batch, seam_error *err) {
    if (batch->term_count > p->capacity) {
        seam_mem_free(p->answers);
        seam_mem_free(p->queries);
        p->capacity = 0;
        p->queries = seam_mem_zalloc(batch->term_count, sizeof *p->queries);
        p->answers = seam_mem_zalloc(batch->term_count, sizeof *p->answers);
        if (p->queries == NULL || p->answers == NULL) {
            return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
        }
        p->capacity = batch->term_count;
    }
    for (uint32_t i = 0; i < batch->term_count; i++) {
        p->queries[i] =
            (seam_token_query){.row = batch->terms[i].row, .token = batch->terms[i].token};
    }
    const seam_token_batch tokens = {.sequence_count = batch->seq_count,
                                     .sequence_rows = batch->seq_rows,
                                     .ids = batch->ids,
                                     .labelled_rows = batch->wanted};
    SEAM_TRY(seam_model_query(p->answers, p->args->model, p->inference, &tokens, p->queries,
                              batch->term_count, err));
    for (uint32_t i = 0; i < batch->term_count; i++) {
        const seam_choice_term *const term = &batch->terms[i];
        if (term->choice_idx != SEAM_NO_CHOICE) {
            p->scores[term->choice_idx] += p->answers[i].log_probability;
        }
        if (term->in_loss) {
            p->loss_sum -= p->answers[i].log_probability;
            p->labelled_tokens++;
            p->correct_tokens += p->answers[i].is_likeliest;
        }
    }
    return SEAM_OK;
}

static json_t *scores_json(const seam_sample *sample, const double *scores, uint32_t picked,
                           uint32_t picked_norm) {
    json_t *const list = json_array();
    for (uint32_t c = 0; c < sample->choice_count; c++) {
        json_array_append_new(list, json_real(scores[c]));
    }
    return json_pack("{s:I,s:i,s:i,s:i,s:o}", "line", (json_int_t)sample->line, "label",
                     (int)sample->choice_right, "picked", (int)picked, "picked_norm",
                     (int)picked_norm, "scores", list);
}

static seam_status rows_judge(seam_evaluation *ret, const pass *p, seam_error *err) {
    const seam_data *const data = p->args->data;
    uint32_t right = 0, right_norm = 0;
    ret->choice_scores = p->args->examples_max > 0 ? json_array() : NULL;
    for (uint32_t i = 0; i < seam_data_count(data); i++) {
        seam_sample sample;
        seam_data_get(&sample, data, i);
        if (sample.choice_count == 0) {
            continue;
        }
        const double *const scores = p->scores + sample.choice_first;
        uint32_t lengths[SEAM_DATA_CHOICES_MAX];
        for (uint32_t c = 0; c < sample.choice_count; c++) {
            seam_choice choice;
            seam_data_choice(&choice, data, sample.choice_first + c);
            lengths[c] = seam_choice_length(choice.text, choice.text_bytes);
            if (!isfinite(scores[c])) {
                return seam_error_set(err, SEAM_E_NONFINITE,
                                      "line %llu: the score of choices[%u] is not finite",
                                      (unsigned long long)sample.line, c);
            }
        }
        const uint32_t picked = seam_choice_pick(scores, NULL, sample.choice_count);
        const uint32_t picked_norm = seam_choice_pick(scores, lengths, sample.choice_count);
        right += picked == sample.choice_right;
        right_norm += picked_norm == sample.choice_right;
        if (ret->choice_rows++ < p->args->examples_max) {
            json_array_append_new(ret->choice_scores,
                                  scores_json(&sample, scores, picked, picked_norm));
        }
    }
    ret->accuracy = (double)right / (double)ret->choice_rows;
    ret->accuracy_norm = (double)right_norm / (double)ret->choice_rows;
    return SEAM_OK;
}
