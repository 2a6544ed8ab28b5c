/* Rows of the four formats; see data.h for what each means. */
#include "data_row.h"

#include <string.h>

#include "arena.h"
#include "try.h"

/* The prompts of Stanford Alpaca. */
static const char ALPACA_HEAD[] =
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n";
static const char ALPACA_HEAD_INPUT[] =
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n### Instruction:\n";

void seam_data_row_deinit(seam_data_row *row) {
    seam_ids_deinit(&row->choice_ids);
    seam_ids_deinit(&row->ids);
    seam_text_deinit(&row->mask);
}

seam_status seam_data_row_format(seam_data_format *ret_format, const json_t *object,
                                 seam_error *err) {
    if (json_object_get(object, "messages") != NULL) {
        *ret_format = SEAM_DATA_MESSAGES;
    } else if (json_object_get(object, "prompt") != NULL) {
        *ret_format = SEAM_DATA_COMPLETION;
    } else if (json_object_get(object, "instruction") != NULL) {
        *ret_format = SEAM_DATA_ALPACA;
    } else if (json_object_get(object, "text") != NULL) {
        *ret_format = SEAM_DATA_TEXT;
    } else {
        return seam_error_set(err, SEAM_E_FORMAT,
                              "none of the fields prompt, instruction, messages, text is there");
    }
    return SEAM_OK;
}

/* A field that must be a string. */
static seam_status string_get(const char **ret, size_t *ret_bytes, const json_t *object,
                              const char *field, seam_error *err) {
    const json_t *value = json_object_get(object, field);
    if (!json_is_string(value)) {
        return seam_error_set(err, SEAM_E_FORMAT, "field %s is missing or no string", field);
    }
    *ret = json_string_value(value);
    *ret_bytes = json_string_length(value);
    return SEAM_OK;
}

static seam_status ids_put(seam_data_row *row, const uint32_t *ids, size_t count, char mark) {
    SEAM_TRY(seam_ids_append(&row->ids, ids, count));
    while (row->mask.count < row->ids.count) {
        SEAM_TRY(seam_text_append(&row->mask, &mark, 1));
    }
    return SEAM_OK;
}

static seam_status text_put(seam_data_row *row, const seam_data_row_reader *reader,
                            const char *text, size_t bytes, char mark) {
    const seam_encode_args args = {
        .text = text, .bytes = bytes, .continues = row->goes_on && mark == 1};
    SEAM_TRY(seam_tokenizer_encode_with(&row->ids, reader->tokenizer, &args, reader->err));
    return ids_put(row, NULL, 0, mark);
}

/* What every format ends with: the completion and the end token. */
static seam_status completion_put(seam_data_row *row, const seam_data_row_reader *reader,
                                  const char *text, size_t bytes) {
    row->prompt_count = row->ids.count;
    row->completion = text;
    row->completion_bytes = bytes;
    SEAM_TRY(text_put(row, reader, text, bytes, 1));
    return ids_put(row, &reader->eos_id, 1, 1);
}

static seam_status choice_read(seam_data_row *row, const seam_data_row_reader *reader, size_t i,
                               const json_t *value) {
    seam_data_row_choice *const c = &row->choices[i];
    if (json_string_length(value) == 0) { /* also 0 when it is no string */
        return seam_error_set(reader->err, SEAM_E_FORMAT,
                              "field choices[%zu] is empty or no string", i);
    }
    c->text = json_string_value(value);
    c->text_bytes = json_string_length(value);
    c->id_first = row->choice_ids.count;
    const seam_encode_args args = {
        .text = c->text, .bytes = c->text_bytes, .continues = row->goes_on};
    SEAM_TRY(seam_tokenizer_encode_with(&row->choice_ids, reader->tokenizer, &args, reader->err));
    c->id_count = row->choice_ids.count - c->id_first;
    return c->id_count > 0
               ? SEAM_OK
               : seam_error_set(reader->err, SEAM_E_FORMAT, "field choices[%zu] has no token", i);
}

/* Choices and label of a row whose prompt and completion are there. */
static seam_status choices_read(seam_data_row *row, const seam_data_row_reader *reader,
                                const json_t *object) {
    const json_t *const choices = json_object_get(object, "choices");
    const json_t *const label = json_object_get(object, "label");
    const size_t count = json_array_size(choices); /* 0 of what is no array */
    if (count < SEAM_DATA_CHOICES_MIN || count > SEAM_DATA_CHOICES_MAX) {
        return seam_error_set(reader->err, SEAM_E_FORMAT,
                              "field choices is no list of %u to %u texts", SEAM_DATA_CHOICES_MIN,
                              SEAM_DATA_CHOICES_MAX);
    }
    if (!json_is_integer(label)) {
        return seam_error_set(reader->err, SEAM_E_FORMAT,
                              "field label is missing or no integer (the row has choices)");
    }
    const json_int_t right = json_integer_value(label);
    if (right < 0 || right >= (json_int_t)count) {
        return seam_error_set(reader->err, SEAM_E_FORMAT,
                              "field label is %lld; the row has %zu choices, counted from 0",
                              (long long)right, count);
    }
    if (row->prompt_count == 0) {
        return seam_error_set(reader->err, SEAM_E_FORMAT,
                              "field prompt is empty: nothing predicts the choices");
    }
    for (size_t i = 0; i < count; i++) {
        SEAM_TRY(choice_read(row, reader, i, json_array_get(choices, i)));
    }
    const seam_data_row_choice *const c = &row->choices[right];
    if (c->text_bytes != row->completion_bytes ||
        memcmp(c->text, row->completion, c->text_bytes) != 0) {
        return seam_error_set(reader->err, SEAM_E_FORMAT,
                              "field completion is not choices[%lld], the one that label names",
                              (long long)right);
    }
    row->choice_count = (uint32_t)count;
    row->choice_right = (uint32_t)right;
    return SEAM_OK;
}

/* The text of choices[label]; "" where that is none, which choices_read then says. */
static void right_choice(const char **ret, size_t *ret_bytes, const json_t *object) {
    const json_t *const label = json_object_get(object, "label");
    const json_int_t right = json_is_integer(label) ? json_integer_value(label) : -1;
    const json_t *const choice =
        right >= 0 ? json_array_get(json_object_get(object, "choices"), (size_t)right) : NULL;
    *ret = json_is_string(choice) ? json_string_value(choice) : "";
    *ret_bytes = json_string_length(choice);
}

static seam_status completion_read(seam_data_row *row, const seam_data_row_reader *reader,
                                   const json_t *object) {
    const char *prompt = NULL;
    const char *completion = NULL;
    size_t prompt_bytes = 0;
    size_t completion_bytes = 0;
    SEAM_TRY(string_get(&prompt, &prompt_bytes, object, "prompt", reader->err));
    const bool stated = json_object_get(object, "completion") != NULL;
    const bool is_task = !stated && json_object_get(object, "canonical_solution") != NULL;
    if (!stated && !is_task && json_object_get(object, "choices") != NULL) {
        right_choice(&completion, &completion_bytes, object);
    } else {
        SEAM_TRY(string_get(&completion, &completion_bytes, object,
                            is_task ? "canonical_solution" : "completion", reader->err));
    }
    if (json_object_get(object, "answer") != NULL) {
        SEAM_TRY(string_get(&row->answer, &row->answer_bytes, object, "answer", reader->err));
    }
    row->goes_on = prompt_bytes > 0;
    SEAM_TRY(text_put(row, reader, prompt, prompt_bytes, 0));
    SEAM_TRY(completion_put(row, reader, completion, completion_bytes));
    return json_object_get(object, "choices") != NULL ? choices_read(row, reader, object) : SEAM_OK;
}

static seam_status alpaca_prompt(seam_text *ret, const json_t *object, seam_error *err) {
    const char *instruction = NULL;
    const char *input = "";
    size_t instruction_bytes = 0;
    size_t input_bytes = 0;
    SEAM_TRY(string_get(&instruction, &instruction_bytes, object, "instruction", err));
    const json_t *const stated = json_object_get(object, "input");
    if (stated != NULL && !json_is_null(stated)) { /* null is common for none */
        SEAM_TRY(string_get(&input, &input_bytes, object, "input", err));
    }
    SEAM_TRY(seam_text_append_string(ret, input_bytes > 0 ? ALPACA_HEAD_INPUT : ALPACA_HEAD));
    SEAM_TRY(seam_text_append(ret, instruction, instruction_bytes));
    if (input_bytes > 0) {
        SEAM_TRY(seam_text_append_string(ret, "\n\n### Input:\n"));
        SEAM_TRY(seam_text_append(ret, input, input_bytes));
    }
    return seam_text_append_string(ret, "\n\n### Response:\n");
}

static seam_status alpaca_read(seam_data_row *row, const seam_data_row_reader *reader,
                               const json_t *object) {
    const char *output = NULL;
    size_t output_bytes = 0;
    seam_text prompt = {0};
    SEAM_TRY(string_get(&output, &output_bytes, object, "output", reader->err));
    seam_status st = alpaca_prompt(&prompt, object, reader->err);
    if (st == SEAM_OK) {
        row->goes_on = true;
        st = text_put(row, reader, prompt.bytes, prompt.count, 0);
    }
    seam_text_deinit(&prompt);
    SEAM_TRY(st);
    return completion_put(row, reader, output, output_bytes);
}

static seam_status messages_encode(seam_data_row *row, const seam_data_row_reader *reader,
                                   const json_t *list, seam_chat_message *messages) {
    const size_t count = json_array_size(list);
    size_t reply = count;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, i);
        size_t role_bytes;
        SEAM_TRY(string_get(&messages[i].role, &role_bytes, item, "role", reader->err));
        SEAM_TRY(string_get(&messages[i].content, &messages[i].content_bytes, item, "content",
                            reader->err));
        if (json_object_get(item, "tool_calls") != NULL) {
            return seam_error_set(reader->err, SEAM_E_UNIMPLEMENTED,
                                  "messages: tool_calls are not supported");
        }
        reply = strcmp(messages[i].role, "assistant") == 0 ? i : reply;
    }
    if (reply == count) {
        return seam_error_set(reader->err, SEAM_E_FORMAT, "messages: none is by the assistant");
    }
    /* What follows the last reply carries no label. */
    SEAM_TRY(seam_chat_encode(&row->ids, &row->mask, &reader->chat, reader->tokenizer, messages,
                              reply + 1, false, reader->err));
    row->completion = messages[reply].content;
    row->completion_bytes = messages[reply].content_bytes;
    return SEAM_OK;
}

static seam_status messages_read(seam_data_row *row, const seam_data_row_reader *reader,
                                 const json_t *object) {
    const json_t *list = json_object_get(object, "messages");
    if (!json_is_array(list) || json_array_size(list) == 0) {
        return seam_error_set(reader->err, SEAM_E_FORMAT, "messages: not a list of messages");
    }
    seam_chat_message *messages = seam_mem_zalloc(json_array_size(list), sizeof(*messages));
    if (messages == NULL) {
        return SEAM_E_MEMORY;
    }
    const seam_status st = messages_encode(row, reader, list, messages);
    seam_mem_free(messages);
    SEAM_TRY(st);
    size_t end = row->mask.count; /* the last reply's first labelled id */
    while (end > 0 && row->mask.bytes[end - 1] == 0) {
        end--;
    }
    while (end > 0 && row->mask.bytes[end - 1] == 1) {
        end--;
    }
    row->prompt_count = end;
    return SEAM_OK;
}

static seam_status text_read(seam_data_row *row, const seam_data_row_reader *reader,
                             const json_t *object) {
    const char *text = NULL;
    size_t bytes = 0;
    SEAM_TRY(string_get(&text, &bytes, object, "text", reader->err));
    return completion_put(row, reader, text, bytes);
}

/* The first token has no row before it that could predict it; rows after the last label are of no
 * use to training. */
static void labels_settle(seam_data_row *row) {
    size_t end = row->ids.count;
    if (end > 0) {
        row->mask.bytes[0] = 0;
    }
    while (end > 0 && row->mask.bytes[end - 1] == 0) {
        end--;
    }
    row->ids.count = row->mask.count = end;
    row->label_count = 0;
    for (size_t i = 0; i < end; i++) {
        row->label_count += row->mask.bytes[i] == 1;
    }
    row->prompt_count = row->prompt_count < end ? row->prompt_count : end;
}

size_t seam_data_row_longest(const seam_data_row *row) {
    size_t longest = row->ids.count;
    for (uint32_t i = 0; i < row->choice_count; i++) {
        const size_t tokens = row->prompt_count + row->choices[i].id_count;
        longest = tokens > longest ? tokens : longest;
    }
    return longest;
}

void seam_data_row_truncate(seam_data_row *row, size_t tokens_max) {
    if (row->choice_count > 0 && seam_data_row_longest(row) > tokens_max) {
        tokens_max = 0;
    }
    if (row->ids.count > tokens_max) {
        row->ids.count = row->mask.count = tokens_max;
        labels_settle(row);
    }
}

seam_status seam_data_row_read(seam_data_row *row, const seam_data_row_reader *reader,
                               seam_data_format format, const json_t *object) {
    static seam_status (*const READ[])(seam_data_row *, const seam_data_row_reader *,
                                       const json_t *) = {
        [SEAM_DATA_COMPLETION] = completion_read,
        [SEAM_DATA_ALPACA] = alpaca_read,
        [SEAM_DATA_MESSAGES] = messages_read,
        [SEAM_DATA_TEXT] = text_read,
    };
    size_t prefix_count;
    const uint32_t *prefix = seam_tokenizer_prefix(&prefix_count, reader->tokenizer);
    row->ids.count = 0;
    row->mask.count = 0;
    row->choice_ids.count = 0;
    row->choice_count = row->choice_right = 0;
    const json_t *const group = json_object_get(object, "group");
    row->completion = row->answer = NULL;
    row->completion_bytes = row->answer_bytes = 0;
    row->group = json_string_value(group); /* NULL when it is absent or no text */
    row->group_bytes = json_string_length(group);
    const json_t *const task = json_object_get(object, "task_id");
    row->task = json_string_value(task);
    row->task_bytes = json_string_length(task);
    row->goes_on = false;
    if (format != SEAM_DATA_MESSAGES) { /* there the template says whether there is a begin token */
        SEAM_TRY(ids_put(row, prefix, prefix_count, 0));
    }
    SEAM_TRY(READ[format](row, reader, object));
    labels_settle(row);
    return SEAM_OK;
}
