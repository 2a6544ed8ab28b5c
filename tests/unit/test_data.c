/* Goal: rows become exactly the ids and labels that data.h promises, bad rows are named by file and
 * line, and batches hold every label once, in an order that seed and step decide. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "arena.h"
#include "batcher.h"
#include "text_fixture.h"
#include "whole_file.h"

#define SMOLLM_TEMPLATE                                                                            \
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"         \
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "             \
    "Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n'"             \
    " + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"

static const seam_data_options DEFAULTS = {.eos_id = -1};

static seam_status load_text(seam_data **ret, const char *jsonl, const char *chat_template,
                             const seam_data_options *options, seam_error *err) {
    seam_tokenizer *t = text_fixture_tokenizer(chat_template);
    const char *path = text_fixture_file("rows.jsonl", jsonl, strlen(jsonl));
    const seam_status st = seam_data_load(ret, path, t, options, err);
    text_fixture_cleanup();
    seam_tokenizer_close(t);
    return st;
}

static seam_data *load(const char *jsonl, const char *chat_template) {
    seam_data *data = NULL;
    seam_error err = {0};
    if (load_text(&data, jsonl, chat_template, &DEFAULTS, &err) != SEAM_OK) {
        fail_msg("%s", err.text);
    }
    return data;
}

/* The sample as text with labels in square brackets. */
static void expect_rendered(const seam_data *data, uint32_t idx, const char *want) {
    seam_tokenizer *t = text_fixture_tokenizer(NULL);
    seam_sample sample;
    seam_text text = {0};
    seam_data_get(&sample, data, idx);
    assert_int_equal(seam_text_render(&text, t, &sample, "[", "]", NULL), SEAM_OK);
    assert_string_equal(text.bytes, want);
    seam_text_deinit(&text);
    seam_tokenizer_close(t);
}

static void test_load__prompt_completion__loss_on_completion_and_end(void **state) {
    (void)state;
    seam_data *data = load("{\"prompt\": \"Q: the\", \"completion\": \" the\", \"answer\": \"7\", "
                           "\"group\": \"hard\"}\n"
                           "\n"
                           "{\"prompt\": \"\", \"completion\": \"ab\", \"label\": 1, "
                           "\"group\": 5}",
                           NULL);
    seam_sample s;
    assert_int_equal(seam_data_count(data), 2);
    assert_int_equal(seam_data_format_of(data), SEAM_DATA_COMPLETION);
    expect_rendered(data, 0, "Q: the[ the<|endoftext|>]");
    expect_rendered(data, 1, "a[b<|endoftext|>]"); /* nothing predicts the first token */
    seam_data_get(&s, data, 0);
    assert_string_equal(s.completion, " the");
    assert_string_equal(s.answer, "7");
    assert_string_equal(s.group, "hard");
    assert_int_equal(s.prompt_count, 3);
    assert_int_equal(s.label_count, 2);
    assert_int_equal(s.line, 1);
    seam_data_get(&s, data, 1);
    assert_null(s.answer);
    assert_null(s.group); /* a number is no group: the field may mean something else there */
    assert_int_equal(s.line, 3);
    seam_data_destroy(data);
}

/* Joined ids, not the ids of the joined text: " the" would else merge over the border. */
static void test_load__border__is_never_merged_over(void **state) {
    (void)state;
    seam_data *data = load("{\"prompt\": \"a\", \"completion\": \"a\"}", NULL);
    seam_sample s;
    seam_data_get(&s, data, 0);
    assert_int_equal(s.token_count, 3);
    assert_int_equal(s.ids[0], 'a');
    assert_int_equal(s.ids[1], 'a');
    seam_data_destroy(data);
}

static void test_load__alpaca_and_text(void **state) {
    (void)state;
    seam_data *data = load("{\"instruction\": \"I\", \"input\": \"X\", \"output\": \"O\"}\n"
                           "{\"instruction\": \"I\", \"input\": \"\", \"output\": \"O\"}\n"
                           "{\"instruction\": \"I\", \"input\": null, \"output\": \"O\"}",
                           NULL);
    assert_int_equal(seam_data_format_of(data), SEAM_DATA_ALPACA);
    expect_rendered(
        data, 0,
        "Below is an instruction that describes a task, paired with an input that provides "
        "further context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nI\n\n### Input:\nX\n\n### Response:\n[O<|endoftext|>]");
    expect_rendered(data, 1,
                    "Below is an instruction that describes a task. Write a response that "
                    "appropriately completes the request.\n\n### Instruction:\nI\n\n"
                    "### Response:\n[O<|endoftext|>]");
    seam_sample without, null;
    seam_data_get(&without, data, 1);
    seam_data_get(&null, data, 2);
    assert_int_equal(null.token_count, without.token_count);
    assert_memory_equal(null.ids, without.ids, null.token_count * sizeof *null.ids);
    seam_data_destroy(data);
    data = load("{\"text\": \"the the\"}", NULL);
    expect_rendered(data, 0, "the[ the<|endoftext|>]");
    seam_data_destroy(data);
}

static void test_load__messages__chatml_with_default_system(void **state) {
    (void)state;
    seam_data *data =
        load("{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": "
             "\"assistant\", \"content\": \"yo\"}, {\"role\": \"user\", \"content\": \"b\"}, "
             "{\"role\": \"assistant\", \"content\": \"c\"}, {\"role\": \"user\", \"content\": "
             "\"cut\"}]}\n"
             "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": "
             "\"assistant\", \"content\": \"c\"}]}",
             SMOLLM_TEMPLATE);
    expect_rendered(data, 0,
                    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by "
                    "Hugging Face<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
                    "<|im_start|>assistant\n[yo<|im_end|>]\n<|im_start|>user\nb<|im_end|>\n"
                    "<|im_start|>assistant\n[c<|im_end|>]");
    expect_rendered(data, 1,
                    "<|im_start|>system\nS<|im_end|>\n<|im_start|>assistant\n[c<|im_end|>]");
    seam_sample s;
    seam_data_get(&s, data, 0);
    assert_string_equal(s.completion, "c");
    assert_int_equal(s.prompt_count, s.token_count - 2);
    seam_data_destroy(data);
}

static void test_load__bad_rows__file_and_line_named(void **state) {
    (void)state;
    static const struct {
        const char *jsonl, *word, *chat;
        seam_status status;
    } CASES[] = {
        {"{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\",}\n", "rows.jsonl:2", NULL,
         SEAM_E_FORMAT},
        {"{\"prompt\": \"a\", \"completion\": \"b\"}\n\n[1]\n", "rows.jsonl:3", NULL,
         SEAM_E_FORMAT},
        {"{\"prompt\": \"a\"}", "completion", NULL, SEAM_E_FORMAT},
        {"{\"prompt\": \"a\", \"completion\": 5}", "completion", NULL, SEAM_E_FORMAT},
        {"{\"prompt\": \"a\", \"completion\": \"b\", \"answer\": 5}", "answer", NULL,
         SEAM_E_FORMAT},
        {"{\"question\": \"a\"}", "none of the fields", NULL, SEAM_E_FORMAT},
        {"{\"instruction\": \"a\"}", "output", NULL, SEAM_E_FORMAT},
        {"{\"text\": \"\\u0000\"}", "rows.jsonl:1", NULL, SEAM_E_FORMAT},
        {"{\"text\": \"\xff\"}", "rows.jsonl:1", NULL, SEAM_E_FORMAT},
        {"", "no rows", NULL, SEAM_E_ARG},
        {"\n \n", "no rows", NULL, SEAM_E_ARG},
        {"{\"messages\": []}", "messages", SMOLLM_TEMPLATE, SEAM_E_FORMAT},
        {"{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", "assistant", SMOLLM_TEMPLATE,
         SEAM_E_FORMAT},
        {"{\"messages\": [{\"role\": \"tool\", \"content\": \"x\"}, {\"role\": \"assistant\", "
         "\"content\": \"x\"}]}",
         "tool", SMOLLM_TEMPLATE, SEAM_E_ARG},
        {"{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\", \"tool_calls\": []}]}",
         "tool_calls", SMOLLM_TEMPLATE, SEAM_E_UNIMPLEMENTED},
        {"{\"messages\": [{\"role\": \"user\"}]}", "content", SMOLLM_TEMPLATE, SEAM_E_FORMAT},
        {"{\"messages\": []}", "no chat template", NULL, SEAM_E_NOT_FOUND},
        {"{\"messages\": []}", "no known family", "[INST] {{ content }} [/INST]",
         SEAM_E_UNIMPLEMENTED},
        {"{\"messages\": []}", "<think>", "<|im_start|><|im_end|><think>", SEAM_E_UNIMPLEMENTED},
        {"{\"messages\": []}", "default system",
         "<|im_start|>system\nYou are somebody else<|im_end|>", SEAM_E_UNIMPLEMENTED},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        seam_data *data = NULL;
        seam_error err = {0};
        assert_int_equal(load_text(&data, CASES[i].jsonl, CASES[i].chat, &DEFAULTS, &err),
                         CASES[i].status);
        assert_null(data);
        assert_non_null(strstr(err.text, CASES[i].word));
        assert_non_null(strstr(err.text, "rows.jsonl"));
    }
}

static void test_load__longer_than_limit__error_or_cut(void **state) {
    (void)state;
    static const char ROWS[] = "{\"prompt\": \"abc\", \"completion\": \"xyz\"}\n"
                               "{\"prompt\": \"abcdefgh\", \"completion\": \"x\"}\n"
                               "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    seam_data_options options = {.eos_id = -1, .tokens_max = 5};
    seam_data *data = NULL;
    seam_error err = {0};
    assert_int_equal(load_text(&data, ROWS, NULL, &options, &err), SEAM_E_LIMIT);
    assert_non_null(strstr(err.text, "rows.jsonl:1"));
    assert_non_null(strstr(err.text, "7 tokens"));
    options.truncates = true;
    assert_int_equal(load_text(&data, ROWS, NULL, &options, &err), SEAM_OK);
    assert_int_equal(seam_data_count(data), 2);
    assert_int_equal(seam_data_truncated_count(data), 2);
    assert_int_equal(seam_data_dropped_count(data), 1); /* the second lost all its labels */
    assert_int_equal(seam_data_tokens_longest(data), 5);
    expect_rendered(data, 0, "abc[xy]");
    seam_data_destroy(data);
    options.tokens_max = 1;
    data = NULL;
    assert_int_equal(load_text(&data, ROWS, NULL, &options, &err), SEAM_E_ARG);
    assert_null(data);
    assert_non_null(strstr(err.text, "lost theirs by truncation; 0 had none"));
    assert_int_equal(load_text(&data, "{\"text\": \"\"}", NULL, &DEFAULTS, &err), SEAM_E_ARG);
    assert_non_null(strstr(err.text, "0 rows lost theirs by truncation; 1 had none"));
}

static void test_load__gzip__same_rows_and_truncation_noticed(void **state) {
    (void)state;
    static const char ROW[] = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    char path[128];
    uint8_t bytes[4096];
    seam_tokenizer *t = text_fixture_tokenizer(NULL);
    (void)snprintf(path, sizeof(path), "%s", text_fixture_file("rows.jsonl.gz", "", 0));
    gzFile out = gzopen(path, "wb");
    for (int i = 0; i < 100; i++) {
        assert_int_equal(gzputs(out, ROW), sizeof(ROW) - 1);
    }
    assert_int_equal(gzclose(out), Z_OK);
    seam_data *data = NULL;
    assert_int_equal(seam_data_load(&data, path, t, &DEFAULTS, NULL), SEAM_OK);
    assert_int_equal(seam_data_count(data), 100);
    assert_int_equal(seam_data_labels_total(data), 200);
    seam_data_destroy(data);

    const size_t count = seam_test_file_read(bytes, sizeof bytes, "%s", path);
    for (size_t cut = 12; cut < count; cut++) {
        seam_error err = {0};
        data = NULL;
        (void)text_fixture_file("rows.jsonl.gz", bytes, cut);
        assert_int_not_equal(seam_data_load(&data, path, t, &DEFAULTS, &err), SEAM_OK);
        assert_null(data);
        assert_non_null(strstr(err.text, "rows.jsonl.gz"));
        text_fixture_forget();
    }
    text_fixture_cleanup();
    seam_tokenizer_close(t);
}

static void test_load__each_allocation_fails_once__memory_error(void **state) {
    (void)state;
    static const char ROWS[] = "{\"prompt\": \"abc\", \"completion\": \"xyz\", \"answer\": \"1\"}\n"
                               "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    seam_tokenizer *t = text_fixture_tokenizer(NULL);
    const char *path = text_fixture_file("rows.jsonl", ROWS, sizeof(ROWS) - 1);
    for (int64_t n = 0;; n++) {
        seam_data *data = NULL;
        seam_mem_fail_after(n);
        const seam_status st = seam_data_load(&data, path, t, &DEFAULTS, NULL);
        seam_mem_fail_after(-1);
        if (st == SEAM_OK) {
            assert_true(n > 5);
            seam_data_destroy(data);
            break;
        }
        assert_int_equal(st, SEAM_E_MEMORY);
        assert_null(data);
    }
    text_fixture_cleanup();
    seam_tokenizer_close(t);
}

/* 11 samples of 2..12 rows: "a".."aaaaaaaaaaa" bytes kept apart by 'b'. */
static seam_data *ladder(void) {
    char rows[4096] = "";
    for (int i = 1; i <= 11; i++) {
        char row[128];
        (void)snprintf(row, sizeof(row), "{\"prompt\": \"%.*s\", \"completion\": \"c\"}\n", i,
                       "dddddddddddd");
        strncat(rows, row, sizeof(rows) - strlen(rows) - 1);
    }
    return load(rows, NULL);
}

static void micro_check(const seam_micro *m, const seam_data *data, uint32_t rows_max) {
    uint32_t labels = 0;
    assert_in_range(m->rows, 1, rows_max);
    assert_int_equal(m->seq_begin[0], 0);
    assert_int_equal(m->seq_begin[m->seq_count], m->rows);
    for (uint32_t i = 0; i < m->seq_count; i++) {
        seam_sample s;
        seam_data_get(&s, data, (uint32_t)m->sample_ids[i]);
        assert_int_equal(m->seq_rows[i], s.token_count - 1);
        assert_int_equal(m->seq_begin[i + 1] - m->seq_begin[i], s.token_count - 1);
        for (uint32_t t = 0; t + 1 < s.token_count; t++) {
            const uint32_t row = m->seq_begin[i] + t;
            const int bit = m->labelled[row / 8] >> (row % 8) & 1;
            assert_int_equal(m->ids[row], s.ids[t]);
            assert_int_equal(m->positions[row], t);
            assert_int_equal(bit, s.in_loss[t + 1]);
            if (bit == 1) {
                assert_int_equal(m->labelled_rows[labels], row);
                assert_int_equal(m->targets[labels], s.ids[t + 1]);
                labels++;
            }
        }
    }
    assert_int_equal(labels, m->labelled_count);
    if (m->rows % 8 != 0) { /* the bitmap's last bits are zero */
        assert_int_equal(m->labelled[m->rows / 8] >> (m->rows % 8), 0);
    }
}

static void test_batcher__shuffled__every_sample_once_an_epoch(void **state) {
    (void)state;
    seam_data *data = ladder();
    const seam_batcher_options options = {.samples_per_step = 4, .rows_max = 20, .seed = 7};
    seam_batcher *b = NULL;
    assert_int_equal(seam_batcher_create(&b, data, &options, NULL), SEAM_OK);
    uint32_t seen[44];
    uint32_t count = 0;
    for (uint64_t step = 0; step < 11; step++) {
        seam_step_batch batch;
        uint64_t rows = 0;
        uint64_t labels = 0;
        seam_batcher_step(&batch, b, step);
        assert_int_equal(batch.epoch, step * 4 / 11);
        assert_in_range(batch.micro_count, 1, seam_batcher_micros_max(b));
        for (uint32_t i = 0; i < batch.micro_count; i++) {
            micro_check(&batch.micros[i], data, 20);
            rows += batch.micros[i].rows;
            labels += batch.micros[i].labelled_count;
            for (uint32_t k = 0; k < batch.micros[i].seq_count; k++) {
                seen[count++] = (uint32_t)batch.micros[i].sample_ids[k];
            }
        }
        assert_int_equal(rows, batch.rows_total);
        assert_int_equal(labels, batch.labelled_total);
    }
    assert_int_equal(count, 44);
    for (uint32_t epoch = 0; epoch < 4; epoch++) {
        uint32_t bits = 0;
        for (uint32_t i = 0; i < 11; i++) {
            bits |= 1U << seen[epoch * 11 + i];
        }
        assert_int_equal(bits, 0x7ff);
    }
    assert_memory_not_equal(seen, seen + 11, 11 * sizeof(seen[0])); /* epochs differ */
    seam_batcher_destroy(b);
    seam_data_destroy(data);
}

static void test_batcher__any_step_at_any_time__same_bytes(void **state) {
    (void)state;
    seam_data *data = ladder();
    seam_batcher_options options = {.samples_per_step = 3, .rows_max = 12, .seed = 9};
    seam_batcher *a = NULL;
    seam_batcher *b = NULL;
    assert_int_equal(seam_batcher_create(&a, data, &options, NULL), SEAM_OK);
    assert_int_equal(seam_batcher_create(&b, data, &options, NULL), SEAM_OK);
    seam_step_batch x;
    seam_step_batch y;
    for (uint64_t step = 0; step < 9; step++) {
        seam_batcher_step(&x, a, step);
    }
    seam_batcher_step(&x, a, 5);
    seam_batcher_step(&y, b, 5);
    assert_int_equal(x.micro_count, y.micro_count);
    for (uint32_t i = 0; i < x.micro_count; i++) {
        assert_int_equal(x.micros[i].rows, y.micros[i].rows);
        assert_memory_equal(x.micros[i].ids, y.micros[i].ids, x.micros[i].rows * sizeof(uint32_t));
        assert_memory_equal(x.micros[i].labelled, y.micros[i].labelled, (x.micros[i].rows + 7) / 8);
    }
    seam_batcher_destroy(a);
    seam_batcher_destroy(b);
    seam_data_destroy(data);
}

static void test_batcher__in_order__one_pass(void **state) {
    (void)state;
    seam_data *data = ladder();
    const seam_batcher_options options = {
        .samples_per_step = 4, .rows_max = 24, .seqs_max = 2, .in_order = true};
    seam_batcher *b = NULL;
    uint64_t next = 0;
    assert_int_equal(seam_batcher_create(&b, data, &options, NULL), SEAM_OK);
    for (uint64_t step = 0; step < 3; step++) {
        seam_step_batch batch;
        seam_batcher_step(&batch, b, step);
        assert_int_equal(batch.sample_count, step == 2 ? 3 : 4);
        for (uint32_t i = 0; i < batch.micro_count; i++) {
            micro_check(&batch.micros[i], data, 24);
            assert_in_range(batch.micros[i].seq_count, 1, 2);
            for (uint32_t k = 0; k < batch.micros[i].seq_count; k++) {
                assert_int_equal(batch.micros[i].sample_ids[k], next);
                next++;
            }
        }
    }
    assert_int_equal(next, 11);
    seam_batcher_destroy(b);
    seam_data_destroy(data);
}

static void test_batcher_create__bad_options__refused(void **state) {
    (void)state;
    seam_data *data = ladder();
    seam_batcher *b = NULL;
    seam_error err = {0};
    const seam_batcher_options small = {.samples_per_step = 1, .rows_max = 11};
    const seam_batcher_options zero = {.rows_max = 100};
    assert_int_equal(seam_batcher_create(&b, data, &small, &err), SEAM_E_LIMIT);
    assert_non_null(strstr(err.text, "line 11"));
    assert_int_equal(seam_batcher_create(&b, data, &zero, &err), SEAM_E_ARG);
    assert_null(b);
    seam_data_destroy(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load__prompt_completion__loss_on_completion_and_end),
        cmocka_unit_test(test_load__border__is_never_merged_over),
        cmocka_unit_test(test_load__alpaca_and_text),
        cmocka_unit_test(test_load__messages__chatml_with_default_system),
        cmocka_unit_test(test_load__bad_rows__file_and_line_named),
        cmocka_unit_test(test_load__longer_than_limit__error_or_cut),
        cmocka_unit_test(test_load__gzip__same_rows_and_truncation_noticed),
        cmocka_unit_test(test_load__each_allocation_fails_once__memory_error),
        cmocka_unit_test(test_batcher__shuffled__every_sample_once_an_epoch),
        cmocka_unit_test(test_batcher__any_step_at_any_time__same_bytes),
        cmocka_unit_test(test_batcher__in_order__one_pass),
        cmocka_unit_test(test_batcher_create__bad_options__refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
