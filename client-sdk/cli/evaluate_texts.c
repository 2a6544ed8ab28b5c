/* Generated texts of rows: exact match, or samples for HumanEval's own evaluator.  See evaluate.h.
 * Read next: model/generate.c; exact_match.c and math_answer.c, what counts as right. */
#include <string.h>

#include "arena.h"
#include "evaluate.h"
#include "file_write.h"
#include "json_text.h"
#include "try.h"
#include "use_session.h"

#define SLOTS_DEFAULT      16u
#define NEW_TOKENS_MARGIN  16u
#define NEW_TOKENS_CEILING 512u

/* Texts being generated: per_row of each row that has a prompt. */
typedef struct texts {
    const seam_tokenizer *tokenizer;
    seam_ids *ids;
    seam_prompt *prompts;
    uint32_t *rows; /* in the data, of each text */
    uint32_t count, per_row;
    seam_status st;
} texts;

static seam_status texts_choose(texts *t, const seam_data *data, seam_error *err);
static seam_status texts_generate(texts *t, const seam_evaluation_args *args, seam_error *err);
static seam_status texts_judge(seam_evaluation *ret, const texts *t,
                               const seam_evaluation_args *args, seam_error *err);
static seam_status samples_write(seam_evaluation *ret, const texts *t,
                                 const seam_evaluation_args *args, seam_error *err);
static void token_visit(void *user, uint32_t prompt_idx, const uint32_t *tokens,
                        uint32_t token_count, bool last);
static seam_status example_add(seam_evaluation *ret, const seam_evaluation_args *args,
                               const seam_sample *sample, const char *generated, bool exact,
                               seam_error *err);

/* Every row must say which task its samples are of, before anything is generated. */
static seam_status tasks_check(const seam_evaluation_args *args, seam_error *err) {
    for (uint32_t i = 0; args->samples_path != NULL && i < seam_data_count(args->data); i++) {
        seam_sample sample;
        seam_data_get(&sample, args->data, i);
        if (sample.task == NULL) {
            return seam_error_set(err, SEAM_E_ARG, "line %llu: no task_id, which samples need",
                                  (unsigned long long)sample.line);
        }
    }
    return SEAM_OK;
}

seam_status seam_evaluate_texts(seam_evaluation *evaluation, const seam_evaluation_args *args,
                                seam_error *err) {
    const uint32_t per_row =
        args->samples_path != NULL && args->samples_per_row > 0 ? args->samples_per_row : 1;
    SEAM_TRY(tasks_check(args, err));
    texts t = {.tokenizer = args->tokenizer, .per_row = per_row};
    seam_status st = texts_choose(&t, args->data, err);
    evaluation->promptless_rows = seam_data_count(args->data) - t.count / per_row;
    if (st == SEAM_OK && t.count > 0) {
        st = texts_generate(&t, args, err);
    }
    if (st == SEAM_OK && t.count > 0) {
        evaluation->sampling = args->sampling;
        st = args->samples_path != NULL ? samples_write(evaluation, &t, args, err)
                                        : texts_judge(evaluation, &t, args, err);
    }
    for (uint32_t i = 0; t.ids != NULL && i < t.count; i++) {
        seam_ids_deinit(&t.ids[i]);
    }
    seam_mem_free(t.rows);
    seam_mem_free(t.prompts);
    seam_mem_free(t.ids);
    return st;
}

/* A model has nothing to go on from where the prompt is empty and the tokenizer puts no token of
 * its own before a text: such rows have a loss, but no generated text. */
static seam_status texts_choose(texts *t, const seam_data *data, seam_error *err) {
    const uint64_t count_max = (uint64_t)seam_data_count(data) * t->per_row;
    if (count_max > UINT32_MAX) {
        return seam_error_set(err, SEAM_E_LIMIT, "%llu texts to generate are too many",
                              (unsigned long long)count_max);
    }
    t->ids = seam_mem_zalloc((size_t)count_max, sizeof *t->ids);
    t->prompts = seam_mem_zalloc((size_t)count_max, sizeof *t->prompts);
    t->rows = seam_mem_zalloc((size_t)count_max, sizeof *t->rows);
    if (t->ids == NULL || t->prompts == NULL || t->rows == NULL) {
        return seam_error_set(err, SEAM_E_MEMORY, "out of memory");
    }
    for (uint32_t row = 0; row < seam_data_count(data); row++) {
        seam_sample sample;
        seam_data_get(&sample, data, row);
        for (uint32_t i = 0; sample.prompt_count > 0 && i < t->per_row; i++) {
            t->prompts[t->count] = (seam_prompt){.ids = sample.ids, .count = sample.prompt_count};
            t->rows[t->count++] = row;
        }
    }
    return SEAM_OK;
}

static seam_status texts_generate(texts *t, const seam_evaluation_args *args, seam_error *err) {
    uint32_t prompt_longest = 0, completion_longest = 0;
    for (uint32_t i = 0; i < t->count; i++) {
        seam_sample sample;
        seam_data_get(&sample, args->data, t->rows[i]);
        const uint32_t completion = sample.token_count - sample.prompt_count;
        prompt_longest =
            sample.prompt_count > prompt_longest ? sample.prompt_count : prompt_longest;
        completion_longest = completion > completion_longest ? completion : completion_longest;
    }
    uint32_t new_max = args->new_tokens_max;
    if (new_max == 0) {
        new_max = completion_longest + NEW_TOKENS_MARGIN;
        new_max = new_max < NEW_TOKENS_CEILING ? new_max : NEW_TOKENS_CEILING;
    }
    seam_inference_options options = SEAM_INFERENCE_OPTIONS_INIT;
    options.kind = SEAM_INFERENCE_GENERATE;
    options.codec = args->codec;
    options.base_model = args->base_model;
    options.slot_count = args->slots != 0 ? args->slots : SLOTS_DEFAULT;
    options.slot_count = options.slot_count < t->count ? options.slot_count : t->count;
    options.positions_max = seam_sampling_positions(prompt_longest, new_max,
                                                    seam_use_positions(args->model, args->session));
    options.rows_max = args->rows_max;
    if (options.rows_max < prompt_longest + options.slot_count) {
        options.rows_max = prompt_longest + options.slot_count;
    }
    uint32_t stop_ids[SEAM_STOP_IDS_MAX];
    seam_generation_options generation;
    seam_sampling_generation(&generation, stop_ids, &args->sampling, args->tokenizer, new_max);
    seam_inference *inference = NULL;
    SEAM_TRY(seam_inference_open(&inference, args->session, &options, err));
    const seam_status st = seam_model_generate(args->model, inference, t->prompts, t->count,
                                               &generation, token_visit, t, err);
    seam_inference_close(inference);
    SEAM_TRY(st);
    return t->st == SEAM_OK ? SEAM_OK : seam_error_set(err, t->st, "out of memory");
}

static void token_visit(void *user, uint32_t prompt_idx, const uint32_t *tokens,
                        uint32_t token_count, bool last) {
    (void)last;
    texts *const t = user;
    for (uint32_t i = 0; t->st == SEAM_OK && i < token_count; i++) {
        size_t bytes = 0;
        if (seam_tokenizer_token(&bytes, t->tokenizer, tokens[i]) != NULL) { /* else: padding */
            t->st = seam_ids_append(&t->ids[prompt_idx], &tokens[i], 1);
        }
    }
}

/* A text into `ret`, zero-terminated. */
static seam_status text_decode(seam_text *ret, const texts *t, uint32_t i, seam_error *err) {
    ret->count = 0;
    SEAM_TRY(seam_tokenizer_decode(ret, t->tokenizer, t->ids[i].ids, t->ids[i].count,
                                   SEAM_DECODE_REPLY, err));
    return seam_text_append(ret, "", 1); /* ends it, also when nothing was generated */
}

static seam_status texts_judge(seam_evaluation *ret, const texts *t,
                               const seam_evaluation_args *args, seam_error *err) {
    seam_text text = {.count = 0};
    seam_status st = SEAM_OK;
    ret->has_exact_match = true;
    ret->examples = args->examples_max > 0 ? json_array() : NULL;
    for (uint32_t i = 0; st == SEAM_OK && i < t->count; i++) {
        seam_sample sample;
        seam_data_get(&sample, args->data, t->rows[i]);
        st = text_decode(&text, t, i, err);
        if (st == SEAM_OK) {
            const bool exact = seam_text_is_exact(text.bytes, sample.completion, sample.answer);
            ret->exact_rows += exact;
            st = seam_evaluation_group_add(ret, sample.group, exact);
            if (st == SEAM_OK && i < args->examples_max) {
                st = example_add(ret, args, &sample, text.bytes, exact, err);
            }
        }
    }
    ret->exact_match = (double)ret->exact_rows / (double)t->count;
    seam_text_deinit(&text);
    return st;
}

static seam_status example_add(seam_evaluation *ret, const seam_evaluation_args *args,
                               const seam_sample *sample, const char *generated, bool exact,
                               seam_error *err) {
    seam_text prompt = {.count = 0};
    SEAM_TRY(seam_tokenizer_decode(&prompt, args->tokenizer, sample->ids, sample->prompt_count,
                                   SEAM_DECODE_SKIP_SPECIAL, err));
    json_array_append_new(ret->examples, json_pack("{s:s%,s:s,s:s,s:b}", "prompt", prompt.bytes,
                                                   prompt.count, "expected", sample->completion,
                                                   "generated", generated, "exact", exact));
    seam_text_deinit(&prompt);
    return SEAM_OK;
}

/* ---- HumanEval ---- */

static seam_status sample_append(seam_text *lines, const seam_sample *sample, const char *text) {
    json_t *const value = json_pack("{s:s, s:s%}", "task_id", sample->task, "completion", text,
                                    seam_function_end(text));
    size_t bytes = 0;
    char *const line = seam_json_text(&bytes, value, JSON_COMPACT);
    seam_status st = line != NULL ? seam_text_append(lines, line, bytes) : SEAM_E_MEMORY;
    st = st == SEAM_OK ? seam_text_append(lines, "\n", 1) : st;
    seam_mem_free(line);
    json_decref(value);
    return st;
}

static seam_status samples_write(seam_evaluation *ret, const texts *t,
                                 const seam_evaluation_args *args, seam_error *err) {
    seam_text lines = {.count = 0}, text = {.count = 0};
    seam_status st = SEAM_OK;
    for (uint32_t i = 0; st == SEAM_OK && i < t->count; i++) {
        seam_sample sample;
        seam_data_get(&sample, args->data, t->rows[i]);
        st = text_decode(&text, t, i, err);
        if (st == SEAM_OK && sample_append(&lines, &sample, text.bytes) != SEAM_OK) {
            st = seam_error_set(err, SEAM_E_MEMORY, "out of memory");
        }
    }
    if (st == SEAM_OK) {
        st = seam_file_write_atomic(args->samples_path, lines.bytes, lines.count, err);
        ret->samples = t->count;
    }
    seam_text_deinit(&text);
    seam_text_deinit(&lines);
    return st;
}
