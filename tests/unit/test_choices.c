/* Goal: rows with choices are read as data.h says and refused by file, line and field; the batches
 * of choice_batcher.h ask for every token of every choice once, in a sequence that begins as it
 * must, and share sequences where they can.
 * Method: files of a few rows with a byte tokenizer; the terms are checked against ids joined here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "choice_batcher.h"
#include "text_fixture.h"

static const seam_data_options DEFAULTS = {.eos_id = -1};

static seam_status load_text(seam_data **ret, const char *jsonl, const seam_data_options *options,
                             seam_error *err) {
    seam_tokenizer *t = text_fixture_tokenizer(NULL);
    const char *path = text_fixture_file("rows.jsonl", jsonl, strlen(jsonl));
    const seam_status st = seam_data_load(ret, path, t, options, err);
    text_fixture_cleanup();
    seam_tokenizer_close(t);
    return st;
}

static seam_data *load(const char *jsonl) {
    seam_data *data = NULL;
    seam_error err = {0};
    if (load_text(&data, jsonl, &DEFAULTS, &err) != SEAM_OK) {
        fail_msg("%s", err.text);
    }
    return data;
}

/* ---- Reading ---- */

static void test_load__choices__ids_texts_and_right_one(void **state) {
    (void)state;
    seam_data *data = load(
        "{\"prompt\": \"Q\", \"completion\": \"b\"}\n"
        "{\"prompt\": \"Q\", \"choices\": [\" the\", \"xy\"], \"label\": 1, \"completion\": "
        "\"xy\"}\n"
        "{\"prompt\": \"Q\", \"choices\": [\"a\", \"b\", \"c\"], \"label\": 0, \"completion\": "
        "\"a\"}\n");
    seam_sample s;
    seam_choice c;
    assert_int_equal(seam_data_choices_total(data), 5);
    seam_data_get(&s, data, 0);
    assert_int_equal(s.choice_count, 0);
    seam_data_get(&s, data, 1);
    assert_int_equal(s.choice_count, 2);
    assert_int_equal(s.choice_first, 0);
    assert_int_equal(s.choice_right, 1);
    seam_data_choice(&c, data, 0);
    assert_int_equal(c.token_count, 1);
    assert_int_equal(c.ids[0], FIXTURE_SPACE_THE);
    assert_string_equal(c.text, " the");
    assert_int_equal(c.text_bytes, 4);
    seam_data_choice(&c, data, 1);
    assert_int_equal(c.token_count, 2);
    assert_int_equal(c.ids[0], 'x');
    assert_int_equal(c.ids[1], 'y');
    seam_data_get(&s, data, 2);
    assert_int_equal(s.choice_count, 3);
    assert_int_equal(s.choice_first, 2);
    assert_int_equal(s.choice_right, 0);
    seam_data_choice(&c, data, 4);
    assert_string_equal(c.text, "c");
    seam_data_destroy(data);
}

static void test_load__bad_choices__line_and_field_named(void **state) {
    (void)state;
    static const struct {
        const char *fields, *word;
    } CASES[] = {
        {"\"choices\": [], \"label\": 0", "field choices is no list"},
        {"\"choices\": [\"b\"], \"label\": 0", "field choices is no list"},
        {"\"choices\": null, \"label\": 0", "field choices is no list"},
        {"\"choices\": {\"text\": [\"b\", \"c\"]}, \"label\": 0", "field choices is no list"},
        {"\"choices\": [\"b\",2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,"
         "27], \"label\": 0",
         "of 2 to 26 texts"},
        {"\"choices\": [\"b\", 5], \"label\": 0", "field choices[1] is empty or no string"},
        {"\"choices\": [\"\", \"b\"], \"label\": 1", "field choices[0] is empty or no string"},
        {"\"choices\": [\"b\", \"c\"]", "field label is missing or no integer"},
        {"\"choices\": [\"b\", \"c\"], \"label\": \"0\"", "field label is missing or no integer"},
        {"\"choices\": [\"b\", \"c\"], \"label\": 0.5", "field label is missing or no integer"},
        {"\"choices\": [\"b\", \"c\"], \"label\": 2", "field label is 2; the row has 2 choices"},
        {"\"choices\": [\"b\", \"c\"], \"label\": -1", "field label is -1"},
        {"\"choices\": [\"b\", \"c\"], \"label\": 1", "field completion is not choices[1]"},
        {"\"choices\": [\"b \", \"c\"], \"label\": 0", "field completion is not choices[0]"},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        char rows[512];
        seam_data *data = NULL;
        seam_error err = {0};
        (void)snprintf(rows, sizeof(rows),
                       "{\"prompt\": \"a\", \"completion\": \"b\"}\n"
                       "{\"prompt\": \"a\", \"completion\": \"b\", %s}\n",
                       CASES[i].fields);
        assert_int_equal(load_text(&data, rows, &DEFAULTS, &err), SEAM_E_FORMAT);
        assert_null(data);
        assert_non_null(strstr(err.text, "rows.jsonl:2"));
        if (strstr(err.text, CASES[i].word) == NULL) {
            fail_msg("%s: %s", CASES[i].fields, err.text);
        }
    }
    seam_data *data = NULL;
    seam_error err = {0};
    assert_int_equal(load_text(&data,
                               "{\"prompt\": \"\", \"completion\": \"b\", \"choices\": [\"b\", "
                               "\"c\"], \"label\": 0}",
                               &DEFAULTS, &err),
                     SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, "rows.jsonl:1"));
    assert_non_null(strstr(err.text, "field prompt is empty"));
}

/* The completion may be left out: label says which it is. */
static void test_load__no_completion__is_the_right_choice(void **state) {
    (void)state;
    seam_data *data = load("{\"prompt\": \"Q\", \"choices\": [\" the\", \"xy\"], \"label\": 1}");
    seam_sample s;
    seam_data_get(&s, data, 0);
    assert_string_equal(s.completion, "xy");
    assert_int_equal(s.choice_right, 1);
    assert_int_equal(s.label_count, 3); /* x, y and the end */
    seam_data_destroy(data);
    static const struct {
        const char *row, *text;
    } bad[] = {
        {"{\"prompt\": \"Q\", \"choices\": [\"a\", \"b\"]}", "field label is missing"},
        {"{\"prompt\": \"Q\", \"choices\": [\"a\", \"b\"], \"label\": 2}", "field label is 2"},
        {"{\"prompt\": \"Q\", \"choices\": [\"a\", 5], \"label\": 1}", "field choices[1]"},
        {"{\"prompt\": \"Q\", \"choices\": \"ab\", \"label\": 0}", "field choices is no list"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        seam_error err = {0};
        data = NULL;
        assert_int_equal(load_text(&data, bad[i].row, &DEFAULTS, &err), SEAM_E_FORMAT);
        assert_non_null(strstr(err.text, bad[i].text));
    }
}

/* A choice that does not fit is refused or drops its row: cut choices cannot be compared. */
static void test_load__choice_longer_than_limit__error_or_dropped(void **state) {
    (void)state;
    static const char ROWS[] =
        "{\"prompt\": \"abc\", \"choices\": [\"x\", \"wxyz\"], \"label\": 0, \"completion\": "
        "\"x\"}\n"
        "{\"prompt\": \"abc\", \"choices\": [\"x\", \"wxy\"], \"label\": 0, \"completion\": "
        "\"x\"}\n"
        "{\"prompt\": \"abc\", \"choices\": [\"x\", \"wxy\"], \"label\": 1, \"completion\": "
        "\"wxy\"}\n";
    seam_data_options options = {.eos_id = -1, .tokens_max = 6};
    seam_data *data = NULL;
    seam_error err = {0};
    assert_int_equal(load_text(&data, ROWS, &options, &err), SEAM_E_LIMIT);
    assert_non_null(strstr(err.text, "rows.jsonl:1"));
    assert_non_null(strstr(err.text, "7 tokens"));
    options.truncates = true;
    assert_int_equal(load_text(&data, ROWS, &options, &err), SEAM_OK);
    assert_int_equal(seam_data_count(data), 1); /* the third has 7 with its end token */
    assert_int_equal(seam_data_dropped_count(data), 2);
    assert_int_equal(seam_data_choices_total(data), 2);
    seam_data_destroy(data);
}

static void test_load__each_allocation_fails_once__memory_error(void **state) {
    (void)state;
    char rows[16384] = "";
    for (int i = 0; i < 130; i++) { /* more choices than the first block holds */
        strncat(rows,
                "{\"prompt\": \"abc\", \"choices\": [\"x\", \"y\"], \"label\": 0, "
                "\"completion\": \"x\"}\n",
                sizeof(rows) - strlen(rows) - 1);
    }
    seam_tokenizer *t = text_fixture_tokenizer(NULL);
    const char *path = text_fixture_file("rows.jsonl", rows, strlen(rows));
    for (int64_t n = 0;; n++) {
        seam_data *data = NULL;
        seam_mem_fail_after(n);
        const seam_status st = seam_data_load(&data, path, t, &DEFAULTS, NULL);
        seam_mem_fail_after(-1);
        if (st == SEAM_OK) {
            assert_true(n > 10);
            assert_int_equal(seam_data_choices_total(data), 260);
            seam_data_destroy(data);
            break;
        }
        assert_int_equal(st, SEAM_E_MEMORY);
        assert_null(data);
    }
    text_fixture_cleanup();
    seam_tokenizer_close(t);
}

/* ---- Batches ---- */

/* The term asks for `token` after `before`, which its sequence begins with. */
static void term_check(const seam_choice_batch *b, uint32_t row, const uint32_t *before,
                       uint32_t before_count) {
    uint32_t begin = 0, seq = 0;
    while (begin + b->seq_rows[seq] <= row) {
        begin += b->seq_rows[seq++];
        assert_in_range(seq, 0, b->seq_count - 1);
    }
    assert_int_equal(row - begin + 1, before_count);
    assert_memory_equal(b->ids + begin, before, before_count * sizeof(*before));
    assert_int_equal(b->wanted[row / 8] >> (row % 8) & 1, 1);
}

/* The sample that a choice belongs to. */
static void sample_of(seam_sample *ret, const seam_data *data, uint32_t choice_idx) {
    uint32_t k = 0;
    do {
        assert_in_range(k, 0, seam_data_count(data) - 1);
        seam_data_get(ret, data, k++);
    } while (choice_idx - ret->choice_first >= ret->choice_count);
}

enum { CHOICES = 64, TOKENS = 64 };

/* Every term of every batch, and how many tokens of each choice and labels of each row came. */
static void pass_check(const seam_data *data, uint32_t rows_max, uint32_t batches_want,
                       uint64_t rows_want) {
    seam_choice_batcher *batcher = NULL;
    seam_choice_batch b;
    uint32_t seen[CHOICES] = {0};
    uint64_t labels = 0, rows = 0;
    uint32_t batches = 0;
    assert_int_equal(seam_choice_batcher_create(&batcher, data, rows_max, NULL), SEAM_OK);
    for (seam_choice_batcher_next(&b, batcher); b.rows > 0; seam_choice_batcher_next(&b, batcher)) {
        assert_in_range(b.rows, 1, rows_max);
        assert_in_range(b.term_count, 1, UINT32_MAX);
        uint32_t bits = 0, named = 0;
        uint8_t rows_named[1024] = {0};
        for (uint32_t i = 0; i < b.term_count; i++) {
            const seam_choice_term *t = &b.terms[i];
            labels += t->in_loss;
            assert_true(t->in_loss || t->choice_idx != SEAM_NO_CHOICE);
            rows_named[t->row] = 1;
            if (t->choice_idx == SEAM_NO_CHOICE) {
                continue;
            }
            seam_choice c;
            seam_sample s;
            uint32_t joined[TOKENS];
            seam_data_choice(&c, data, t->choice_idx);
            sample_of(&s, data, t->choice_idx);
            assert_int_equal(t->in_loss, t->choice_idx == s.choice_first + s.choice_right);
            const uint32_t at = seen[t->choice_idx]++;
            assert_in_range(at, 0, c.token_count - 1);
            assert_int_equal(t->token, c.ids[at]);
            memcpy(joined, s.ids, s.prompt_count * sizeof(*joined));
            memcpy(joined + s.prompt_count, c.ids, at * sizeof(*joined));
            term_check(&b, t->row, joined, s.prompt_count + at);
        }
        for (uint32_t t = 0; t < b.rows; t++) {
            named += rows_named[t];
            bits += b.wanted[t / 8] >> (t % 8) & 1;
        }
        assert_int_equal(bits, named);
        if (b.rows % 8 != 0) { /* the bitmap's last bits are zero */
            assert_int_equal(b.wanted[b.rows / 8] >> (b.rows % 8), 0);
        }
        rows += b.rows;
        batches++;
    }
    for (uint32_t i = 0; i < seam_data_choices_total(data); i++) {
        seam_choice c;
        seam_data_choice(&c, data, i);
        assert_int_equal(seen[i], c.token_count);
    }
    assert_int_equal(labels, seam_data_labels_total(data));
    assert_int_equal(batches, batches_want);
    assert_int_equal(rows, rows_want);
    seam_choice_batcher_next(&b, batcher); /* it stays at the end */
    assert_int_equal(b.rows, 0);
    seam_choice_batcher_destroy(batcher);
}

static void test_batcher__choices_of_one_token__one_sequence(void **state) {
    (void)state;
    seam_data *data = load("{\"prompt\": \"abcd\", \"choices\": [\"x\", \"y\", \"z\"], \"label\": "
                           "1, \"completion\": \"y\"}\n"
                           "{\"prompt\": \"abc\", \"choices\": [\"x\", \"y\"], \"label\": 0, "
                           "\"completion\": \"x\"}\n"
                           "{\"prompt\": \"ab\", \"completion\": \"cd\"}\n");
    /* Prompt and completion: as many rows as the loss alone needs. */
    pass_check(data, 100, 1, 5 + 4 + 4);
    pass_check(data, 9, 2, 13);
    pass_check(data, 8, 2, 13);
    pass_check(data, 5, 3, 13);
    seam_data_destroy(data);
}

static void test_batcher__longer_choices__share_beginnings(void **state) {
    (void)state;
    /* Own sequences: "uvx" (serves "uv", "u" and, by its first two, "uvy"), "wq".  "mn" and "mk"
     * go with the completion "mn", since only the last token differs. */
    seam_data *data = load("{\"prompt\": \"P\", \"choices\": [\"u\", \"uv\", \"uvx\", \"mk\", "
                           "\"mn\", \"uvy\", \"wq\"], \"label\": 4, \"completion\": \"mn\"}\n");
    pass_check(data, 100, 1, 3 + 3 + 2);
    pass_check(data, 8, 1, 8);
    pass_check(data, 7, 2, 8); /* a row too large for a batch goes into several */
    pass_check(data, 3, 3, 8);
    seam_data_destroy(data);
    /* The same choice twice; a choice that goes on where the completion ends. */
    data = load("{\"prompt\": \"P\", \"choices\": [\"ab\", \"ab\", \"abcd\", \"kl\", \"kl\"], "
                "\"label\": 1, \"completion\": \"ab\"}\n");
    pass_check(data, 100, 1, 3 + 4 + 2);
    seam_data_destroy(data);
}

static void test_batcher__row_fits_the_next_batch__is_kept_whole(void **state) {
    (void)state;
    seam_data *data = load("{\"prompt\": \"abc\", \"completion\": \"x\"}\n"
                           "{\"prompt\": \"P\", \"choices\": [\"ab\", \"cd\", \"ef\"], \"label\": "
                           "0, \"completion\": \"ab\"}\n");
    pass_check(data, 10, 2, 4 + 3 + 2 + 2);
    pass_check(data, 11, 1, 11);
    seam_data_destroy(data);
}

static void test_batcher_create__bad_input__refused(void **state) {
    (void)state;
    seam_data *data = load("{\"prompt\": \"P\", \"completion\": \"x\"}\n\n"
                           "{\"prompt\": \"P\", \"choices\": [\"a\", \"bcde\"], \"label\": 0, "
                           "\"completion\": \"a\"}\n");
    seam_choice_batcher *b = NULL;
    seam_error err = {0};
    assert_int_equal(seam_choice_batcher_create(&b, data, 0, &err), SEAM_E_ARG);
    assert_int_equal(seam_choice_batcher_create(&b, data, 3, &err), SEAM_E_LIMIT);
    assert_non_null(strstr(
        err.text, "line 3: the row has 5 tokens; a request of --rows-max 3 holds rows of 4"));
    for (int64_t n = 0;; n++) {
        seam_mem_fail_after(n);
        const seam_status st = seam_choice_batcher_create(&b, data, 4, &err);
        seam_mem_fail_after(-1);
        if (st == SEAM_OK) {
            assert_true(n > 3);
            break;
        }
        assert_int_equal(st, SEAM_E_MEMORY);
        assert_null(b);
    }
    seam_choice_batcher_destroy(b);
    seam_choice_batcher_destroy(NULL);
    seam_data_destroy(data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load__choices__ids_texts_and_right_one),
        cmocka_unit_test(test_load__bad_choices__line_and_field_named),
        cmocka_unit_test(test_load__no_completion__is_the_right_choice),
        cmocka_unit_test(test_load__choice_longer_than_limit__error_or_dropped),
        cmocka_unit_test(test_load__each_allocation_fails_once__memory_error),
        cmocka_unit_test(test_batcher__choices_of_one_token__one_sequence),
        cmocka_unit_test(test_batcher__longer_choices__share_beginnings),
        cmocka_unit_test(test_batcher__row_fits_the_next_batch__is_kept_whole),
        cmocka_unit_test(test_batcher_create__bad_input__refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
