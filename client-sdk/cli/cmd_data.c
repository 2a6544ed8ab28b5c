/* `seam data show`: the rows as training sees them, labelled parts marked, before anything runs. */
#include <stdio.h>

#include "cli.h"
#include "data.h"
#include "shared_options.h"
#include "try.h"

#define ROWS_DEFAULT 3u

typedef struct data_options {
    seam_common_options common;
    const char *model, *data;
    uint32_t rows, tokens_max;
    bool truncate;
} data_options;

static const seam_arg_spec data_specs[] = {
    {"model", SEAM_ARG_TEXT, offsetof(data_options, model), "PATH",
     "model folder or .gguf file (its tokenizer is used)"},
    SEAM_OPTION_DATA(data_options),
    {"rows", SEAM_ARG_COUNT, offsetof(data_options, rows), "N", "rows to show [3]"},
    {"tokens-max", SEAM_ARG_COUNT, offsetof(data_options, tokens_max), "N",
     "longest row in tokens [no limit]"},
    SEAM_OPTION_TRUNCATE(data_options),
    {NULL, SEAM_ARG_FLAG, 0, NULL, NULL},
};

/* The texts of a row's choices. */
static json_t *choices_json(const seam_data *data, const seam_sample *sample) {
    json_t *const list = json_array();
    for (uint32_t c = 0; c < sample->choice_count; c++) {
        seam_choice choice;
        seam_data_choice(&choice, data, sample->choice_first + c);
        json_array_append_new(list, json_stringn(choice.text, choice.text_bytes));
    }
    return list;
}

static void row_print(const seam_data *data, const seam_sample *sample, const seam_text *text) {
    printf("line %llu: %u tokens, %u in the loss\n%.*s\n", (unsigned long long)sample->line,
           sample->token_count, sample->label_count, (int)text->count, text->bytes);
    for (uint32_t c = 0; c < sample->choice_count; c++) {
        seam_choice choice;
        seam_data_choice(&choice, data, sample->choice_first + c);
        printf("  choice %u%s: \"%.*s\"\n", c, c == sample->choice_right ? " (right)" : "",
               (int)choice.text_bytes, choice.text);
    }
    printf("\n");
}

static seam_status show(const data_options *o, const seam_data *data,
                        const seam_tokenizer *tokenizer, seam_error *err) {
    json_t *const rows = json_array();
    const uint32_t wanted = o->rows != 0 ? o->rows : ROWS_DEFAULT;
    seam_text text = {.count = 0};
    seam_status st = SEAM_OK;
    for (uint32_t i = 0; st == SEAM_OK && i < wanted && i < seam_data_count(data); i++) {
        seam_sample sample;
        seam_data_get(&sample, data, i);
        text.count = 0;
        st = seam_text_render(&text, tokenizer, &sample, "[[", "]]", err);
        if (st == SEAM_OK && o->common.json) {
            json_t *const row = json_pack("{s:I,s:i,s:i,s:s%}", "line", (json_int_t)sample.line,
                                          "tokens", (int)sample.token_count, "labels",
                                          (int)sample.label_count, "text", text.bytes, text.count);
            if (sample.choice_count > 0) {
                json_object_set_new(row, "choices", choices_json(data, &sample));
                json_object_set_new(row, "label", json_integer(sample.choice_right));
            }
            json_array_append_new(rows, row);
        } else if (st == SEAM_OK) {
            row_print(data, &sample, &text);
        }
    }
    seam_text_deinit(&text);
    const char *const format = seam_data_format_name(seam_data_format_of(data));
    if (st == SEAM_OK && o->common.json) {
        json_t *const value = json_pack("{s:s,s:i,s:i,s:I,s:I,s:i,s:i,s:O}", "format", format,
                                        "row_count", (int)seam_data_count(data), "tokens_longest",
                                        (int)seam_data_tokens_longest(data), "tokens_total",
                                        (json_int_t)seam_data_tokens_total(data), "labels_total",
                                        (json_int_t)seam_data_labels_total(data), "truncated",
                                        (int)seam_data_truncated_count(data), "dropped",
                                        (int)seam_data_dropped_count(data), "rows", rows);
        seam_cli_print_json(value);
        json_decref(value);
    } else if (st == SEAM_OK) {
        printf("%s: %u rows (%s), %llu tokens, %llu in the loss ([[marked]]), longest row %u; "
               "%u truncated, %u dropped\n",
               o->data, seam_data_count(data), format,
               (unsigned long long)seam_data_tokens_total(data),
               (unsigned long long)seam_data_labels_total(data), seam_data_tokens_longest(data),
               seam_data_truncated_count(data), seam_data_dropped_count(data));
    }
    json_decref(rows);
    return st;
}

int seam_cmd_data_show(int argc, char **argv, int first) {
    data_options o = {.model = NULL};
    seam_error err = {0};
    const seam_arg_table tables[] = {{seam_common_specs, &o.common}, {data_specs, &o}};
    uint32_t count = 0;
    const char *positional[1];
    seam_status st = seam_args_parse(&count, positional, 1, tables, 2, argc, argv, first, &err);
    if (st == SEAM_OK && o.common.help) {
        printf("usage: seam data show --model PATH --data FILE\n\n"
               "Shows rows as training sees them, labelled parts marked.\n\n");
        seam_args_help(data_specs);
        seam_args_help(seam_common_specs);
        return SEAM_EXIT_OK;
    }
    o.data = count == 1 ? positional[0] : o.data;
    if (st == SEAM_OK && (o.model == NULL || o.data == NULL)) {
        st = seam_error_set(&err, SEAM_E_ARG, "--model and --data are needed");
    }
    if (st != SEAM_OK) {
        return seam_cli_usage(&err, "data show");
    }
    seam_tokenizer *tokenizer = NULL;
    seam_data *data = NULL;
    const seam_data_options options = {
        .tokens_max = o.tokens_max, .truncates = o.truncate, .eos_id = -1};
    st = seam_cli_path_check("model", o.model, &err);
    if (st == SEAM_OK) {
        st = seam_cli_path_check("data", o.data, &err);
    }
    if (st == SEAM_OK) {
        st = seam_tokenizer_open(&tokenizer, o.model, &err);
    }
    if (st == SEAM_OK) {
        st = seam_data_load(&data, o.data, tokenizer, &options, &err);
        st = seam_cli_data_status(st, &err);
    }
    if (st == SEAM_OK) {
        st = show(&o, data, tokenizer, &err);
    }
    seam_data_destroy(data);
    seam_tokenizer_close(tokenizer);
    return seam_cli_finish(st, &err, &o.common);
}
