/* Loading a data set; see data.h.  Rows are parsed in data_row.c, stored here in three pools. */
#include "data.h"

#include <jansson.h>
#include <string.h>

#include "arena.h"
#include "chat.h"
#include "data_row.h"
#include "json_read.h"
#include "line_reader.h"
#include "try.h"

#define NO_TEXT SIZE_MAX

typedef struct stored {
    size_t first_id; /* into ids and mask */
    uint32_t token_count, label_count, prompt_count;
    uint64_t line;
    size_t completion, answer, group, task; /* into texts; NO_TEXT: none */
    uint32_t choice_first, choice_count, choice_right;
} stored;

typedef struct stored_choice {
    size_t first_id; /* into choice_ids */
    size_t text;     /* into texts */
    uint32_t token_count, text_bytes;
} stored_choice;

struct seam_data {
    seam_data_format format;
    seam_ids ids;
    seam_text mask;
    seam_text texts;
    stored *samples;
    size_t sample_count, sample_capacity;
    seam_ids choice_ids;
    stored_choice *choices;
    size_t choice_count, choice_capacity;
    uint32_t truncated_count, dropped_count, tokens_longest;
    uint32_t labelless_count; /* of the dropped: they were so before truncation */
    uint64_t labels_total;
};

typedef struct loader {
    seam_data *data;
    const seam_data_options *options;
    seam_data_row_reader rows;
    seam_data_row row; /* scratch */
    seam_line_reader lines;
    seam_error *err;
} loader;

static seam_status load(loader *l, const char *path);

seam_status seam_data_load(seam_data **ret_data, const char *path, const seam_tokenizer *tokenizer,
                           const seam_data_options *options, seam_error *err) {
    const int64_t eos = options->eos_id >= 0 ? options->eos_id : seam_tokenizer_eos(tokenizer);
    size_t eos_bytes;
    if (eos < 0 || seam_tokenizer_token(&eos_bytes, tokenizer, (uint32_t)eos) == NULL) {
        return seam_error_set(err, SEAM_E_ARG, "the tokenizer states no end-of-sequence token");
    }
    loader *l = seam_mem_zalloc(1, sizeof(*l));
    seam_data *data = seam_mem_zalloc(1, sizeof(*data));
    if (l == NULL || data == NULL) {
        seam_mem_free(l);
        seam_mem_free(data);
        return seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", path);
    }
    l->data = data;
    l->options = options;
    l->err = err;
    l->rows = (seam_data_row_reader){.tokenizer = tokenizer, .eos_id = (uint32_t)eos, .err = err};
    const seam_status st = load(l, path);
    seam_data_row_deinit(&l->row);
    seam_mem_free(l);
    if (st != SEAM_OK) {
        seam_data_destroy(data);
        return st;
    }
    *ret_data = data;
    return SEAM_OK;
}

void seam_data_destroy(seam_data *gift_data) {
    if (gift_data != NULL) {
        seam_ids_deinit(&gift_data->ids);
        seam_text_deinit(&gift_data->mask);
        seam_text_deinit(&gift_data->texts);
        seam_ids_deinit(&gift_data->choice_ids);
        seam_mem_free(gift_data->choices);
        seam_mem_free(gift_data->samples);
        seam_mem_free(gift_data);
    }
}

/* ---- Storing ---- */

static seam_status text_store(size_t *ret_offset, seam_data *data, const char *text, size_t bytes) {
    *ret_offset = NO_TEXT;
    if (text != NULL) {
        *ret_offset = data->texts.count;
        SEAM_TRY(seam_text_append(&data->texts, text, bytes));
        SEAM_TRY(seam_text_append(&data->texts, "", 1)); /* its terminator */
    }
    return SEAM_OK;
}

/* Room for `more` items of item_bytes in *items, of which `count` are there. */
static seam_status room_make(void **items, size_t *capacity, size_t count, size_t more,
                             size_t item_bytes) {
    if (count + more <= *capacity) {
        return SEAM_OK;
    }
    const size_t wanted = *capacity == 0 ? 256 : 2 * *capacity; /* more is below 256 */
    void *const moved = seam_mem_realloc(*items, wanted * item_bytes);
    if (moved == NULL) {
        return SEAM_E_MEMORY;
    }
    *items = moved;
    *capacity = wanted;
    return SEAM_OK;
}

static seam_status choices_store(seam_data *data, const seam_data_row *row) {
    void *items = data->choices;
    const seam_status st = room_make(&items, &data->choice_capacity, data->choice_count,
                                     row->choice_count, sizeof(*data->choices));
    data->choices = items;
    SEAM_TRY(st);
    const size_t first_id = data->choice_ids.count;
    SEAM_TRY(seam_ids_append(&data->choice_ids, row->choice_ids.ids, row->choice_ids.count));
    for (uint32_t i = 0; i < row->choice_count; i++) {
        const seam_data_row_choice *const from = &row->choices[i];
        stored_choice *const to = &data->choices[data->choice_count + i];
        *to = (stored_choice){.first_id = first_id + from->id_first,
                              .token_count = (uint32_t)from->id_count,
                              .text_bytes = (uint32_t)from->text_bytes};
        SEAM_TRY(text_store(&to->text, data, from->text, from->text_bytes));
    }
    data->choice_count += row->choice_count;
    return SEAM_OK;
}

static seam_status row_store(seam_data *data, const seam_data_row *row, uint64_t line) {
    void *items = data->samples;
    const seam_status st =
        room_make(&items, &data->sample_capacity, data->sample_count, 1, sizeof(*data->samples));
    data->samples = items;
    SEAM_TRY(st);
    const uint32_t token_count = (uint32_t)row->ids.count;
    stored s = {.first_id = data->ids.count,
                .token_count = token_count,
                .label_count = (uint32_t)row->label_count,
                .prompt_count = (uint32_t)row->prompt_count,
                .line = line,
                .choice_first = (uint32_t)data->choice_count,
                .choice_count = row->choice_count,
                .choice_right = row->choice_right};
    SEAM_TRY(seam_ids_append(&data->ids, row->ids.ids, row->ids.count));
    SEAM_TRY(seam_text_append(&data->mask, row->mask.bytes, row->mask.count));
    SEAM_TRY(text_store(&s.completion, data, row->completion, row->completion_bytes));
    SEAM_TRY(text_store(&s.answer, data, row->answer, row->answer_bytes));
    SEAM_TRY(text_store(&s.group, data, row->group, row->group_bytes));
    SEAM_TRY(text_store(&s.task, data, row->task, row->task_bytes));
    if (row->choice_count > 0) {
        SEAM_TRY(choices_store(data, row));
    }
    data->samples[data->sample_count++] = s;
    data->labels_total += row->label_count;
    data->tokens_longest = token_count > data->tokens_longest ? token_count : data->tokens_longest;
    return SEAM_OK;
}

/* ---- Reading ---- */

static seam_status format_settle(loader *l, const json_t *object) {
    l->data->format = l->options->format;
    if (l->data->format == SEAM_DATA_AUTO) {
        SEAM_TRY(seam_data_row_format(&l->data->format, object, l->err));
    }
    return l->data->format == SEAM_DATA_MESSAGES
               ? seam_chat_detect(&l->rows.chat, l->rows.tokenizer, l->err)
               : SEAM_OK;
}

static seam_status object_read(loader *l, const json_t *object) {
    const uint32_t tokens_max = l->options->tokens_max;
    seam_data_row *row = &l->row;
    if (!json_is_object(object)) {
        return seam_error_set(l->err, SEAM_E_FORMAT, "not a JSON object");
    }
    if (l->data->format == SEAM_DATA_AUTO) {
        SEAM_TRY(format_settle(l, object));
    }
    SEAM_TRY(seam_data_row_read(row, &l->rows, l->data->format, object));
    const size_t longest = seam_data_row_longest(row);
    if (tokens_max > 0 && longest > tokens_max) {
        if (!l->options->truncates) {
            return seam_error_set(l->err, SEAM_E_LIMIT,
                                  "row has %zu tokens, over the limit of %u (--tokens-max, the "
                                  "model's context less a prefix; --truncate cuts such rows)",
                                  longest, tokens_max);
        }
        seam_data_row_truncate(row, tokens_max);
        l->data->truncated_count++;
    }
    if (longest > UINT32_MAX || l->data->sample_count == SEAM_DATA_ROWS_MAX ||
        l->data->choice_count > UINT32_MAX - SEAM_DATA_CHOICES_MAX) {
        return seam_error_set(l->err, SEAM_E_LIMIT, "row is too long, or one row too many");
    }
    if (row->label_count == 0) {
        l->data->dropped_count++;
        l->data->labelless_count += longest <= tokens_max || tokens_max == 0;
        return SEAM_OK;
    }
    return row_store(l->data, row, l->lines.line);
}

static bool is_blank(const seam_text *text) {
    for (size_t i = 0; i < text->count; i++) {
        if (strchr(" \t\r", text->bytes[i]) == NULL || text->bytes[i] == '\0') {
            return false;
        }
    }
    return true;
}

static seam_status line_read(loader *l, const seam_text *line) {
    static const char BOM[] = "\xef\xbb\xbf";
    const size_t skip =
        l->lines.line == 1 && line->count >= 3 && memcmp(line->bytes, BOM, 3) == 0 ? 3 : 0;
    json_t *object = NULL;
    seam_status st = seam_json_parse(&object, line->bytes + skip, line->count - skip,
                                     SEAM_DATA_LINE_BYTES_MAX, "not a JSON line", l->err);
    if (st == SEAM_OK) {
        st = object_read(l, object);
    }
    json_decref(object);
    if (st == SEAM_E_MEMORY) {
        (void)seam_error_set(l->err, st, "out of memory");
    }
    return st == SEAM_OK ? st
                         : seam_error_prefix(l->err, st, "%s:%llu", l->lines.path,
                                             (unsigned long long)l->lines.line);
}

static seam_status lines_read(loader *l) {
    const uint32_t rows_max = l->options->rows_max;
    while (rows_max == 0 || l->data->sample_count < rows_max) {
        bool more = false;
        SEAM_TRY(seam_line_reader_next(&more, &l->lines, SEAM_DATA_LINE_BYTES_MAX, l->err));
        if (!more) {
            break;
        }
        if (!is_blank(&l->lines.buffer)) {
            SEAM_TRY(line_read(l, &l->lines.buffer));
        }
    }
    if (l->data->sample_count == 0 && l->data->dropped_count == 0) {
        return seam_error_set(l->err, SEAM_E_ARG, "%s: no rows", l->lines.path);
    }
    if (l->data->sample_count == 0) {
        return seam_error_set(l->err, SEAM_E_ARG,
                              "%s: no row with a label (%u rows lost theirs by truncation; %u had "
                              "none, as a row of one token)",
                              l->lines.path, l->data->dropped_count - l->data->labelless_count,
                              l->data->labelless_count);
    }
    return SEAM_OK;
}

static seam_status load(loader *l, const char *path) {
    SEAM_TRY(seam_line_reader_open(&l->lines, path, l->err));
    const seam_status st = lines_read(l);
    seam_line_reader_close(&l->lines);
    return st;
}

/* ---- Looking ---- */

uint32_t seam_data_count(const seam_data *data) {
    return (uint32_t)data->sample_count;
}

void seam_data_get(seam_sample *ret_sample, const seam_data *data, uint32_t sample_idx) {
    SEAM_ASSERT(sample_idx < data->sample_count);
    const stored *s = &data->samples[sample_idx];
    *ret_sample = (seam_sample){
        .ids = data->ids.ids + s->first_id,
        .in_loss = (const uint8_t *)data->mask.bytes + s->first_id,
        .token_count = s->token_count,
        .label_count = s->label_count,
        .prompt_count = s->prompt_count,
        .line = s->line,
        .completion = data->texts.bytes + s->completion,
        .answer = s->answer == NO_TEXT ? NULL : data->texts.bytes + s->answer,
        .group = s->group == NO_TEXT ? NULL : data->texts.bytes + s->group,
        .task = s->task == NO_TEXT ? NULL : data->texts.bytes + s->task,
        .choice_count = s->choice_count,
        .choice_first = s->choice_first,
        .choice_right = s->choice_right,
    };
}

void seam_data_choice(seam_choice *ret_choice, const seam_data *data, uint32_t choice_idx) {
    SEAM_ASSERT(choice_idx < data->choice_count);
    const stored_choice *c = &data->choices[choice_idx];
    *ret_choice = (seam_choice){
        .ids = data->choice_ids.ids + c->first_id,
        .token_count = c->token_count,
        .text = data->texts.bytes + c->text,
        .text_bytes = c->text_bytes,
    };
}

seam_data_format seam_data_format_of(const seam_data *data) {
    return data->format;
}

uint32_t seam_data_truncated_count(const seam_data *data) {
    return data->truncated_count;
}

uint32_t seam_data_dropped_count(const seam_data *data) {
    return data->dropped_count;
}

uint32_t seam_data_tokens_longest(const seam_data *data) {
    return data->tokens_longest;
}

uint64_t seam_data_tokens_total(const seam_data *data) {
    return data->ids.count;
}

uint64_t seam_data_labels_total(const seam_data *data) {
    return data->labels_total;
}

uint32_t seam_data_choices_total(const seam_data *data) {
    return (uint32_t)data->choice_count;
}

const char *seam_data_format_name(seam_data_format format) {
    static const char *const NAMES[] = {"auto", "prompt/completion", "Alpaca", "messages", "text"};
    SEAM_ASSERT((size_t)format < sizeof(NAMES) / sizeof(NAMES[0]));
    return NAMES[format];
}

seam_status seam_text_render(seam_text *text, const seam_tokenizer *tokenizer,
                             const seam_sample *sample, const char *open, const char *close,
                             seam_error *err) {
    for (uint32_t begin = 0; begin < sample->token_count;) {
        uint32_t end = begin + 1;
        const bool labelled = sample->in_loss[begin] == 1;
        while (end < sample->token_count && (sample->in_loss[end] == 1) == labelled) {
            end++;
        }
        if (labelled) {
            SEAM_TRY(seam_text_append_string(text, open));
        }
        SEAM_TRY(seam_tokenizer_decode(text, tokenizer, sample->ids + begin, end - begin,
                                       begin == 0 ? SEAM_DECODE_TEXT : SEAM_DECODE_PART, err));
        if (labelled) {
            SEAM_TRY(seam_text_append_string(text, close));
        }
        begin = end;
    }
    return SEAM_OK;
}
