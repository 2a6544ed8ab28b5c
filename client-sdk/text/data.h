/* Data sets: JSONL or gzipped JSONL -> token ids with a label mask.
 *
 * A row is one of
 *   prompt/completion   {"prompt", "completion"[, "answer"]}     ids(prompt) ids(completion) EOS
 *   Alpaca              {"instruction", ["input",] "output"}     the same, by the Alpaca prompt
 *   messages            {"messages": [{"role", "content"}, ..]}  by the model's chat template
 *   text                {"text"}                                 ids(text) EOS
 * A row of HumanEval, {"task_id", "prompt", "canonical_solution"}, is a prompt and its completion.
 * A text field "group" names a part of the rows that evaluation scores apart.  A prompt/completion
 * row may be multiple choice: "choices", 2..26 texts, and "label", the index of the right one,
 * which is the completion (and may stand for it).  Each choice is encoded by itself and joined to
 * the prompt, as the completion is.  Ids stand after the tokenizer's own prefix (a begin token,
 * where the model has one), but for messages, where the template decides.  Prompt and completion
 * are encoded separately and joined, so that the mask is exact and equals what generation sees;
 * nothing is trimmed or put between them. In the loss: completion and EOS; of messages the
 * assistants' contents and the token that ends each; of text everything but its first token.  What
 * follows the last label is cut. */
#ifndef SEAM_DATA_H
#define SEAM_DATA_H

#include "tokenizer.h"

#define SEAM_DATA_LINE_BYTES_MAX (16U << 20)
#define SEAM_DATA_ROWS_MAX       (1U << 28)
#define SEAM_DATA_CHOICES_MIN    2U
#define SEAM_DATA_CHOICES_MAX    26U

typedef enum seam_data_format {
    SEAM_DATA_AUTO = 0, /* by the fields of the first row */
    SEAM_DATA_COMPLETION,
    SEAM_DATA_ALPACA,
    SEAM_DATA_MESSAGES,
    SEAM_DATA_TEXT,
} seam_data_format;

typedef struct seam_data_options {
    seam_data_format format;
    uint32_t tokens_max; /* longest sample in tokens; 0: no limit */
    bool truncates;      /* cut longer samples at the end instead of refusing them */
    uint32_t rows_max;   /* stop after this many rows; 0: all */
    int64_t eos_id;      /* -1: the tokenizer's */
} seam_data_options;

typedef struct seam_sample {
    const uint32_t *ids;
    const uint8_t *in_loss; /* one byte a token; the first token is never in the loss */
    uint32_t token_count;
    uint32_t label_count;   /* at least 1 */
    uint32_t prompt_count;  /* tokens before the (last) completion */
    uint64_t line;          /* in its file, from 1 */
    const char *completion; /* zero-terminated text of the (last) completion */
    const char *answer;     /* reference for exact match, or NULL */
    const char *group;      /* scored apart, or NULL */
    const char *task;       /* task_id, or NULL */
    uint32_t choice_count;  /* 0: the row is not multiple choice */
    uint32_t choice_first;  /* its choices are numbers choice_first.. of the data set's */
    uint32_t choice_right;  /* which of them, from 0, is the completion */
} seam_sample;

typedef struct seam_choice {
    const uint32_t *ids; /* without prompt and end token */
    uint32_t token_count;
    const char *text; /* zero-terminated */
    uint32_t text_bytes;
} seam_choice;

typedef struct seam_data seam_data;

/* Reads the whole file.  Every error names file and line: SEAM_E_FORMAT (not JSON, a field
 * missing or wrong, not UTF-8), SEAM_E_LIMIT (a row longer than tokens_max, or over the caps
 * above), SEAM_E_ARG (a role; no end token known; no row or no label in the whole file),
 * SEAM_E_UNIMPLEMENTED (chat template), SEAM_E_NOT_FOUND, SEAM_E_IO, SEAM_E_MEMORY.
 * Rows that truncation leaves without a label are dropped and counted; so are rows with a choice
 * that would be cut. */
seam_status seam_data_load(seam_data **ret_data, const char *path, const seam_tokenizer *tokenizer,
                           const seam_data_options *options, seam_error *err);
void seam_data_destroy(seam_data *gift_data);

uint32_t seam_data_count(const seam_data *data);
void seam_data_get(seam_sample *ret_sample, const seam_data *data, uint32_t sample_idx);
/* choice_idx: below seam_data_choices_total. */
void seam_data_choice(seam_choice *ret_choice, const seam_data *data, uint32_t choice_idx);
seam_data_format seam_data_format_of(const seam_data *data);
uint32_t seam_data_truncated_count(const seam_data *data);
uint32_t seam_data_dropped_count(const seam_data *data);
/* Most tokens in one sample; sums over all samples. */
uint32_t seam_data_tokens_longest(const seam_data *data);
uint64_t seam_data_tokens_total(const seam_data *data);
uint64_t seam_data_labels_total(const seam_data *data);
/* Choices of all rows; 0: none is multiple choice. */
uint32_t seam_data_choices_total(const seam_data *data);

/* "prompt/completion", "Alpaca", ... for people. */
const char *seam_data_format_name(seam_data_format format);

/* Appends the sample as text, `open` and `close` around each labelled part, so that template and
 * mask can be shown before training.  SEAM_E_MEMORY. */
seam_status seam_text_render(seam_text *text, const seam_tokenizer *tokenizer,
                             const seam_sample *sample, const char *open, const char *close,
                             seam_error *err);

#endif
