/* Evaluation of rows of text: loss, perplexity and, of rows with choices, accuracy by Forward;
 * exact match by Generate.
 *
 * Exact match: the text generated from a row's prompt up to its end token equals the row's
 * completion (outer white space apart).  Of a row with `answer`, the answer alone: where the
 * completion has \boxed{}, as MATH's have, the content of the text's last one, as LaTeX that is
 * written otherwise but means the same (math_answer.h); else what follows "####" (thousands commas
 * apart).
 *
 * Samples: rows of HumanEval (task_id) get as many texts as asked for, each up to the end of its
 * function, in the form that its evaluator reads: {"task_id", "completion"}, a line each.
 *
 * Accuracy: the share of rows with choices whose likeliest choice is the right one.  A choice's
 * score is the sum of the log probabilities of its tokens after the prompt, the end token not
 * among them.  accuracy_norm takes the score divided by the choice's length in bytes; the space at
 * its head, which keeps it apart from the prompt, is not counted.  (EleutherAI's
 * lm-evaluation-harness, acc and acc_norm; it counts characters, we bytes.)  On ties the first. */
#ifndef SEAM_EVALUATE_H
#define SEAM_EVALUATE_H

#include <jansson.h>

#include "data.h"
#include "sampling.h"
#include "seam_model.h"

typedef struct seam_evaluation_args {
    seam_client *client;
    seam_session *session;
    seam_model *model;
    const seam_tokenizer *tokenizer;
    const seam_data *data;
    const char *codec; /* NULL: the session's */
    bool base_model;
    bool exact_match;  /* generate, too */
    uint32_t rows_max; /* of one request; 0: 4096 or the longest row, or what the server takes */
    uint32_t slots;    /* generations in flight */
    uint32_t new_tokens_max;  /* 0: the longest completion and a little more */
    uint32_t examples_max;    /* rows whose generated text, and whose scores, are kept */
    seam_sampling sampling;   /* of generated texts */
    const char *samples_path; /* set: generated texts go there, nothing is matched */
    uint32_t samples_per_row; /* 0: 1 */
} seam_evaluation_args;

typedef struct seam_evaluation {
    double loss, perplexity; /* of the labelled tokens, nats */
    double token_accuracy;
    bool has_exact_match;
    double exact_match;             /* share of rows with a prompt, 0..1 */
    double accuracy, accuracy_norm; /* shares of choice_rows, if there are any */
    uint32_t rows, exact_rows, choice_rows;
    uint32_t promptless_rows; /* that no text was generated for: they have no prompt */
    uint64_t labelled_tokens;
    uint32_t samples;       /* written to samples_path */
    seam_sampling sampling; /* that texts were generated with */
    double seconds;
    char codec[16];
    json_t *examples;      /* array of {prompt, expected, generated, exact}, or NULL */
    json_t *choice_scores; /* array of {line, label, picked, picked_norm, scores}, or NULL */
    json_t *groups;        /* <group> -> {rows, exact_rows, exact_match}; NULL: no row names one */
} seam_evaluation;

/* SEAM_E_ARG (a row does not fit), SEAM_E_NONFINITE (the loss), and the errors of inference. */
seam_status seam_evaluate(seam_evaluation *ret_evaluation, const seam_evaluation_args *asked,
                          seam_error *err);
void seam_evaluation_deinit(seam_evaluation *evaluation);
json_t *seam_evaluation_json(const seam_evaluation *evaluation);
/* Count a row into its group (NULL: none).  SEAM_E_MEMORY. */
seam_status seam_evaluation_group_add(seam_evaluation *evaluation, const char *group, bool exact);
/* Loss, token accuracy and accuracies of data with choices; its args' codec and base_model are the
 * inference's.  SEAM_E_ARG (a row does not fit), SEAM_E_NONFINITE (a score), and the errors of
 * inference. */
seam_status seam_evaluate_choices(seam_evaluation *evaluation, const seam_evaluation_args *args,
                                  seam_inference *inference, uint32_t rows_max, seam_error *err);
/* Exact match, or samples.  SEAM_E_ARG (samples of rows without task_id), SEAM_E_LIMIT, SEAM_E_IO,
 * and the errors of inference. */
seam_status seam_evaluate_texts(seam_evaluation *evaluation, const seam_evaluation_args *args,
                                seam_error *err);
/* Bytes of a sample of HumanEval up to the end of its function. */
size_t seam_function_end(const char *text);
/* The first choice whose score (lengths: score / length) is not below another's. */
uint32_t seam_choice_pick(const double *scores, const uint32_t *lengths, uint32_t count);
/* Bytes of a choice without one space at its head; at least 1. */
uint32_t seam_choice_length(const char *text, uint32_t bytes);
/* Whether a generated text meets the row's reference. */
bool seam_text_is_exact(const char *generated, const char *completion, const char *answer);

#endif
