/* Evaluation of rows of text: loss and perplexity by Forward, exact match by Generate.
 *
 * Exact match: the text generated from a row's prompt up to its end token equals the row's
 * completion (outer white space apart); for a row with `answer`, what follows "####" equals it
 * (thousands commas apart). */
#ifndef SEAM_EVALUATE_H
#define SEAM_EVALUATE_H

#include <jansson.h>

#include "data.h"
#include "seam_model.h"

typedef struct seam_evaluation_args {
    seam_session *session;
    seam_model *model;
    const seam_tokenizer *tokenizer;
    const seam_data *data;
    const char *codec; /* NULL: the session's */
    bool base_model;
    bool exact_match;        /* generate, too */
    uint32_t rows_max;       /* of one request */
    uint32_t slots;          /* generations in flight */
    uint32_t new_tokens_max; /* 0: the longest completion and a little more */
    uint32_t examples_max;   /* rows whose generated text is kept */
} seam_evaluation_args;

typedef struct seam_evaluation {
    double loss, perplexity; /* of the labelled tokens, nats */
    double token_accuracy;
    bool has_exact_match;
    double exact_match; /* share of rows, 0..1 */
    uint32_t rows, exact_rows;
    uint64_t labelled_tokens;
    double seconds;
    char codec[16];
    json_t *examples; /* array of {prompt, expected, generated, exact}, or NULL */
    json_t *groups;   /* <group> -> {rows, exact_rows, exact_match}; NULL: no row names one */
} seam_evaluation;

/* SEAM_E_LIMIT (a row does not fit), SEAM_E_NONFINITE (the loss), and the errors of inference. */
seam_status seam_evaluate(seam_evaluation *ret_evaluation, const seam_evaluation_args *args,
                          seam_error *err);
void seam_evaluation_deinit(seam_evaluation *evaluation);
json_t *seam_evaluation_json(const seam_evaluation *evaluation);
/* Count a row into its group (NULL: none).  SEAM_E_MEMORY. */
seam_status seam_evaluation_group_add(seam_evaluation *evaluation, const char *group, bool exact);
/* Token ids after which a generation is over: the tokenizer's end token and ChatML's. */
uint32_t seam_stop_ids(uint32_t ret_ids[2], const seam_tokenizer *tokenizer);
/* Whether a generated text meets the row's reference. */
bool seam_text_is_exact(const char *generated, const char *completion, const char *answer);

#endif
