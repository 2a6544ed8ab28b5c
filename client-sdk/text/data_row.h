/* One row of a data set as ids and mask; internal to data.c. */
#ifndef SEAM_DATA_ROW_H
#define SEAM_DATA_ROW_H

#include <jansson.h>

#include "chat.h"
#include "data.h"

typedef struct seam_data_row_choice {
    const char *text; /* of the parsed JSON */
    size_t text_bytes;
    size_t id_first, id_count; /* in choice_ids */
} seam_data_row_choice;

typedef struct seam_data_row {
    seam_ids ids;
    seam_text mask; /* one byte an id: 1 in the loss */
    size_t prompt_count;
    size_t label_count;
    bool goes_on; /* what is labelled follows a text */
    /* Of the parsed JSON; all but the first may be NULL. */
    const char *completion, *answer, *group, *task;
    size_t completion_bytes, answer_bytes, group_bytes, task_bytes;
    seam_ids choice_ids;
    seam_data_row_choice choices[SEAM_DATA_CHOICES_MAX];
    uint32_t choice_count, choice_right; /* 0 choices: not multiple choice */
} seam_data_row;

typedef struct seam_data_row_reader {
    const seam_tokenizer *tokenizer;
    seam_chat chat; /* for messages */
    uint32_t eos_id;
    seam_error *err; /* texts without file and line, which the caller puts in front */
} seam_data_row_reader;

void seam_data_row_deinit(seam_data_row *row);
/* The format that an object's fields speak for.  SEAM_E_FORMAT when none. */
seam_status seam_data_row_format(seam_data_format *ret_format, const json_t *object,
                                 seam_error *err);
/* Fills `row` (reused) from an object; the row borrows the object's strings.  The last id is in the
 * loss, the first is not; label_count may be 0.  SEAM_E_FORMAT, SEAM_E_ARG, SEAM_E_LIMIT,
 * SEAM_E_MEMORY. */
seam_status seam_data_row_read(seam_data_row *row, const seam_data_row_reader *reader,
                               seam_data_format format, const json_t *object);
/* Tokens of the row or, where that is longer, of its prompt with one of its choices. */
size_t seam_data_row_longest(const seam_data_row *row);
/* Keeps the first tokens_max ids, then again only what the last label needs: nothing, of a row with
 * a choice that does not fit. */
void seam_data_row_truncate(seam_data_row *row, size_t tokens_max);

#endif
