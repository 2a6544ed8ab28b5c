/* seam_model_query beside seam_model_score, for test_choices.py: the answers add up to the score,
 * rows may be asked more than once and in any order, and what cannot be right is refused.
 *
 *   query_tokens ADDRESS MODEL_DIR MODEL_ID WIDE_MODEL_DIR
 *
 * Exit code 0: all is as it should be; the base model of MODEL_ID answers.  The rows of
 * WIDE_MODEL_DIR have more values than its. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "seam.h"
#include "seam_model.h"

enum { ROWS = 9, LABELLED = 4 };

static const uint32_t sequence_rows[] = {5, 4};
static const uint32_t ids[ROWS] = {10, 20, 30, 40, 50, 11, 21, 31, 41};
static const uint8_t labelled_rows[] = {0x98, 0x01}; /* rows 3, 4, 7, 8 */
static const uint32_t labels[LABELLED] = {3, 4, 7, 8};
static const uint32_t targets[LABELLED] = {50, 60, 41, 51};

static void check(bool holds, const char *what, const seam_error *err) {
    if (!holds) {
        (void)fprintf(stderr, "query_tokens: %s: %s\n", what, err->text);
        exit(1);
    }
}

static void answers_check(seam_model *model, seam_inference *inference,
                          const seam_token_batch *batch) {
    seam_error err = {0};
    seam_score score = {.loss_sum = 0.0};
    seam_token_query queries[2 * LABELLED + 300];
    seam_token_answer answers[2 * LABELLED + 300];
    for (uint32_t i = 0; i < LABELLED; i++) { /* backwards, then forwards */
        queries[i] =
            (seam_token_query){.row = labels[LABELLED - 1 - i], .token = targets[LABELLED - 1 - i]};
        queries[LABELLED + i] = (seam_token_query){.row = labels[i], .token = targets[i]};
    }
    for (uint32_t i = 0; i < 260; i++) { /* the whole vocabulary after one row */
        queries[2 * LABELLED + i] = (seam_token_query){.row = 4, .token = i};
    }
    check(seam_model_score(&score, model, inference, batch, &err) == SEAM_OK, "score", &err);
    seam_token_batch without = *batch;
    without.targets = NULL;
    check(seam_model_query(answers, model, inference, &without, queries, 2 * LABELLED + 260,
                           &err) == SEAM_OK,
          "query", &err);
    double sum = 0.0, mass = 0.0;
    uint32_t likeliest = 0, correct = 0;
    for (uint32_t i = 0; i < LABELLED; i++) {
        const seam_token_answer *const a = &answers[LABELLED + i];
        check(a->log_probability == answers[LABELLED - 1 - i].log_probability, "order", &err);
        sum -= a->log_probability;
        correct += a->is_likeliest;
    }
    for (uint32_t i = 0; i < 260; i++) {
        mass += exp(answers[2 * LABELLED + i].log_probability);
        likeliest += answers[2 * LABELLED + i].is_likeliest;
    }
    check(fabs(sum - score.loss_sum) < 1e-9, "the answers' sum is not the score", &err);
    check(correct == score.correct_tokens, "the likeliest tokens are others", &err);
    check(fabs(mass - 1.0) < 1e-4, "the vocabulary's probabilities do not add up to 1", &err);
    check(likeliest == 1, "not one token is the likeliest", &err);
}

static void refused(seam_model *model, seam_inference *inference, const seam_token_batch *batch,
                    const seam_token_query *queries, uint32_t count, const char *text) {
    seam_token_answer answer;
    seam_error err = {0};
    const seam_status st = seam_model_query(&answer, model, inference, batch, queries, count, &err);
    check(st == SEAM_E_ARG && strstr(err.text, text) != NULL, text, &err);
}

static void bad_arguments_check(seam_model *model, seam_inference *inference,
                                const seam_token_batch *batch) {
    const seam_token_query good = {.row = 3, .token = 1};
    const seam_token_query unlabelled = {.row = 2, .token = 1}, outside = {.row = 9, .token = 1};
    const seam_token_query unknown = {.row = 3, .token = 260};
    refused(model, inference, batch, &unlabelled, 1, "row 2 is not labelled");
    refused(model, inference, batch, &outside, 1, "row 9 is not labelled");
    refused(model, inference, batch, &unknown, 1, "token 260 is not in the vocabulary");
    refused(model, inference, batch, &good, 0, "no query");
    refused(model, inference, batch, NULL, 1, "NULL");
    refused(model, NULL, batch, &good, 1, "NULL");
    refused(NULL, inference, batch, &good, 1, "NULL");
    seam_token_batch bad = *batch;
    bad.ids = NULL;
    refused(model, inference, &bad, &good, 1, "an array is NULL");
}

static void ignore(void *user, uint32_t prompt_idx, const uint32_t *tokens, uint32_t token_count,
                   bool last) {
    (void)user, (void)prompt_idx, (void)tokens, (void)token_count, (void)last;
}

/* A model whose rows are not the session's: no call takes it. */
static void wide_model_check(const char *path, seam_session *session,
                             const seam_token_batch *batch) {
    static const char text[] = "the server's model has 48 channels, this one ";
    const seam_token_query good = {.row = 3, .token = 1};
    const seam_prompt prompt = {.ids = ids, .count = 3};
    seam_model_options model_options = SEAM_MODEL_OPTIONS_INIT;
    seam_inference_options options = SEAM_INFERENCE_OPTIONS_INIT;
    const seam_generation_options generation = SEAM_GENERATION_OPTIONS_INIT;
    seam_model *model = NULL;
    seam_inference *inference = NULL;
    seam_score score = {.loss_sum = 0.0};
    seam_error err = {0};
    model_options.path = path;
    model_options.threads = 1;
    check(seam_model_open(&model, &model_options, &err) == SEAM_OK, "wide model", &err);
    options.base_model = true;
    options.rows_max = 64;
    check(seam_inference_open(&inference, session, &options, &err) == SEAM_OK, "another", &err);
    refused(model, inference, batch, &good, 1, text);
    check(seam_model_score(&score, model, inference, batch, &err) == SEAM_E_ARG &&
              strstr(err.text, text) != NULL,
          "score with a wide model", &err);
    seam_inference_close(inference);
    options.kind = SEAM_INFERENCE_GENERATE;
    options.slot_count = 1;
    options.positions_max = 32;
    check(seam_inference_open(&inference, session, &options, &err) == SEAM_OK, "generator", &err);
    check(seam_model_generate(model, inference, &prompt, 1, &generation, ignore, NULL, &err) ==
                  SEAM_E_ARG &&
              strstr(err.text, text) != NULL,
          "generate with a wide model", &err);
    seam_inference_close(inference);
    seam_model_close(model);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        (void)fprintf(stderr, "usage: query_tokens ADDRESS MODEL_DIR MODEL_ID WIDE_MODEL_DIR\n");
        return 2;
    }
    seam_client *client = NULL;
    seam_model *model = NULL;
    seam_session *session = NULL;
    seam_inference *inference = NULL;
    seam_error err = {0};
    seam_client_options client_options = SEAM_CLIENT_OPTIONS_INIT;
    client_options.address = argv[1];
    client_options.plaintext = true;
    seam_model_options model_options = SEAM_MODEL_OPTIONS_INIT;
    model_options.path = argv[2];
    model_options.threads = 1;
    model_options.f32 = true;
    seam_session_options session_options = SEAM_SESSION_OPTIONS_INIT;
    session_options.model = argv[3];
    session_options.codec = "f32";
    session_options.rows_per_micro_max = 64;
    seam_inference_options options = SEAM_INFERENCE_OPTIONS_INIT;
    options.base_model = true;
    options.rows_max = 64;
    check(seam_client_open(&client, &client_options, &err) == SEAM_OK, "client", &err);
    check(seam_model_open(&model, &model_options, &err) == SEAM_OK, "model", &err);
    check(seam_session_create(&session, client, &session_options, &err) == SEAM_OK, "session",
          &err);
    check(seam_inference_open(&inference, session, &options, &err) == SEAM_OK, "inference", &err);
    const seam_token_batch batch = {.sequence_count = 2,
                                    .sequence_rows = sequence_rows,
                                    .ids = ids,
                                    .labelled_rows = labelled_rows,
                                    .targets = targets};
    bad_arguments_check(model, inference, &batch); /* and the inference goes on */
    answers_check(model, inference, &batch);
    seam_inference_close(inference);
    wide_model_check(argv[4], session, &batch);
    check(seam_session_delete(session, &err) == SEAM_OK, "delete", &err);
    seam_model_close(model);
    seam_client_close(client);
    return 0;
}
