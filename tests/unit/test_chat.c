/* Goal: conversations render as the templates of the known families do, and no other template
 * passes for one of them.  The expected texts are written out here; equality with the templates run
 * by Jinja is tests/oracle/check_chat.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "chat.h"
#include "text_fixture.h"
#include "tokenizer_build.h"

/* The parts by which a family is known; what else a template holds does not matter. */
#define LLAMA3                                                                                     \
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "      \
    "message['content'] | trim + '<|eot_id|>' %}"
#define LLAMA3_BOS "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
#define LLAMA31                                                                                    \
    "{{- bos_token }} {%- set date_string = \"26 Jul 2024\" %}"                                    \
    "{{- \"Cutting Knowledge Date: December 2023\\n\" }}"                                          \
    "{{- \"Today Date: \" + date_string + \"\\n\\n\" }}" LLAMA3
#define PHI3_ROLE(name, more)                                                                      \
    "{% if message['role'] == '" name "'" more " %}{{'<|" name                                     \
    "|>\\n' + message['content'] + '<|end|>\\n'}}"
#define PHI3 PHI3_ROLE("system", "") PHI3_ROLE("user", "") PHI3_ROLE("assistant", "")
#define PHI35                                                                                      \
    PHI3_ROLE("system", " and message['content']") PHI3_ROLE("user", "") PHI3_ROLE("assistant", "")
/* As Phi-3-medium's file has it, with line breaks in its literals. */
#define PHI3_TURNS                                                                                 \
    "{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '\n' + "      \
    "message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}"                             \
    "{% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '\n'}}"         \
    "{% endif %}{% endfor %}"
#define CHATML "{{ bos_token }}{{'<|im_start|>' + message['role'] + '<|im_end|>'}}"

static seam_tokenizer *tokenizer_make(const char *template_text) {
    static const char *const MORE[] = {"<|start_header_id|>",
                                       "<|end_header_id|>",
                                       "<|eot_id|>",
                                       "<|system|>",
                                       "<|user|>",
                                       "<|assistant|>",
                                       "<|end|>"};
    json_t *root = text_fixture_json();
    for (int i = 0; i < 7; i++) {
        json_array_append_new(
            json_object_get(root, "added_tokens"),
            json_pack("{sisssb}", "id", 263 + i, "content", MORE[i], "special", 1));
    }
    seam_tokenizer *t = text_fixture_from(root);
    t->bos_id = FIXTURE_END;
    assert_int_equal(seam_tokenizer_set_chat_template(t, template_text, strlen(template_text)),
                     SEAM_OK);
    return t;
}

static const seam_chat_message TALK[] = {
    {"system", " S\n", 3},
    {"user", "\xe3\x80\x80hi \x1c", 7},
    {"assistant", " yo ", 4},
};

/* The rendered text, replies in brackets; the first `skip` messages are left out. */
static void expect_rendered(const char *template_text, size_t skip, bool opens, const char *want) {
    seam_tokenizer *t = tokenizer_make(template_text);
    seam_chat chat;
    seam_error err = {0};
    seam_ids ids = {0};
    seam_text marks = {0}, text = {0};
    if (seam_chat_detect(&chat, t, &err) != SEAM_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(seam_chat_encode(&ids, &marks, &chat, t, TALK + skip, 3 - skip, opens, &err),
                     SEAM_OK);
    assert_int_equal(ids.count, marks.count);
    for (size_t i = 0; i < ids.count; i++) {
        if (marks.bytes[i] == 1 && (i == 0 || marks.bytes[i - 1] == 0)) {
            assert_int_equal(seam_text_append(&text, "[", 1), SEAM_OK);
        }
        assert_int_equal(seam_tokenizer_decode(&text, t, &ids.ids[i], 1, SEAM_DECODE_RAW, NULL),
                         SEAM_OK);
        if (marks.bytes[i] == 1 && (i + 1 == ids.count || marks.bytes[i + 1] == 0)) {
            assert_int_equal(seam_text_append(&text, "]", 1), SEAM_OK);
        }
    }
    assert_string_equal(text.bytes, want);
    seam_text_deinit(&text);
    seam_text_deinit(&marks);
    seam_ids_deinit(&ids);
    seam_tokenizer_close(t);
}

#define HEADER(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define DATES        "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

static void test_encode__llama3__trimmed_after_one_begin_token(void **state) {
    (void)state;
    expect_rendered(LLAMA3 LLAMA3_BOS, 0, false,
                    "<|endoftext|>" HEADER("system") "S<|eot_id|>" HEADER(
                        "user") "hi<|eot_id|>" HEADER("assistant") "[yo<|eot_id|>]");
    expect_rendered(LLAMA3 LLAMA3_BOS, 2, true,
                    "<|endoftext|>" HEADER("assistant") "[yo<|eot_id|>]" HEADER("assistant"));
}

static void test_encode__llama31__always_a_system_message(void **state) {
    (void)state;
    expect_rendered(LLAMA31, 0, false,
                    "<|endoftext|>" HEADER("system") DATES "S<|eot_id|>" HEADER(
                        "user") "hi<|eot_id|>" HEADER("assistant") "[yo<|eot_id|>]");
    expect_rendered(LLAMA31, 1, false,
                    "<|endoftext|>" HEADER("system") DATES "<|eot_id|>" HEADER(
                        "user") "hi<|eot_id|>" HEADER("assistant") "[yo<|eot_id|>]");
}

static void test_encode__phi3__as_written(void **state) {
    (void)state;
    expect_rendered(PHI3, 0, true,
                    "<|system|>\n S\n<|end|>\n<|user|>\n\xe3\x80\x80hi \x1c<|end|>\n"
                    "<|assistant|>\n[ yo <|end|>]\n<|assistant|>\n");
}

static void test_detect__line_breaks_in_literals__the_same_template(void **state) {
    (void)state;
    expect_rendered(
        "{% set content = '<|start_header_id|>' + message['role'] + "
        "\"<|end_header_id|>\n\n\" + message['content'] | trim + '<|eot_id|>' %}" LLAMA3_BOS,
        2, false, "<|endoftext|>" HEADER("assistant") "[yo<|eot_id|>]");
    expect_rendered("{{ '\\'}}' }}\n{% if message['role'] == 'system' %}\n"
                    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
                    "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
                    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}",
                    2, false, "<|assistant|>\n[ yo <|end|>]\n");
}

static void test_encode__phi3_medium__a_question_opens_its_reply(void **state) {
    (void)state;
    expect_rendered(PHI3_TURNS, 1, false,
                    "<|user|>\n\xe3\x80\x80hi \x1c<|end|>\n<|assistant|>\n[ yo <|end|>]\n");
    expect_rendered("{{ bos_token }}" PHI3_TURNS, 1, false,
                    "<|endoftext|><|user|>\n\xe3\x80\x80hi \x1c<|end|>\n"
                    "<|assistant|>\n[ yo <|end|>]\n");
}

static void test_encode__phi3_medium__out_of_turn__named(void **state) {
    (void)state;
    static const struct {
        size_t first, count;
        bool opens;
        const char *word;
    } CASES[] = {{0, 3, false, "messages[0].role: is \"system\""},
                 {2, 1, false, "messages[0].role: is \"assistant\""},
                 {1, 1, false, "the last must be the assistant's"},
                 {1, 2, true, "the last must be the user's"}};
    seam_tokenizer *t = tokenizer_make(PHI3_TURNS);
    seam_chat chat;
    assert_int_equal(seam_chat_detect(&chat, t, NULL), SEAM_OK);
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        seam_ids ids = {0};
        seam_error err = {0};
        assert_int_equal(seam_chat_encode(&ids, NULL, &chat, t, TALK + CASES[i].first,
                                          CASES[i].count, CASES[i].opens, &err),
                         SEAM_E_ARG);
        assert_non_null(strstr(err.text, CASES[i].word));
        seam_ids_deinit(&ids);
    }
    seam_tokenizer_close(t);
}

static void test_encode__phi3__empty_system_message(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t ids; /* "<|system|>\n<|end|>\n" has four */
    } CASES[] = {{PHI3, 4}, {PHI35, 0}};
    const seam_chat_message empty = {"system", "", 0};
    for (size_t i = 0; i < 2; i++) {
        seam_tokenizer *t = tokenizer_make(CASES[i].text);
        seam_chat chat;
        seam_ids ids = {0};
        assert_int_equal(seam_chat_detect(&chat, t, NULL), SEAM_OK);
        assert_int_equal(seam_chat_encode(&ids, NULL, &chat, t, &empty, 1, false, NULL), SEAM_OK);
        assert_int_equal(ids.count, CASES[i].ids);
        seam_ids_deinit(&ids);
        seam_tokenizer_close(t);
    }
}

static void test_encode__chatml__begin_token_where_the_template_has_one(void **state) {
    (void)state;
    expect_rendered(CHATML, 2, false, "<|endoftext|><|im_start|>assistant\n[ yo <|im_end|>]\n");
}

static void test_detect__templates_that_are_not_known__named(void **state) {
    (void)state;
    static const struct {
        const char *text, *word;
    } CASES[] = {
        {"[INST] {{ content }} [/INST]", "[INST] {{ content }} [/INST]"},
        {LLAMA3, "like Llama-3's"}, /* without the begin token */
        {LLAMA31 "strftime_now", "strftime_now"},
        {"'<|start_header_id|>'", "like Llama-3's"},
        {PHI3 "{{ bos_token }}", "like Phi-3's"},
        {PHI3_TURNS "{{ eos_token }}", "like Phi-3's"},
        {PHI3_ROLE("user", "") PHI3_ROLE("assistant", ""), "like Phi-3's"}, /* no system message */
        {"<|im_start|><|im_sep|><|im_end|>", "no known family"},
        {"<|im_start|><|im_end|>{{ bos_token }}", "bos_token"},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        seam_tokenizer *t = tokenizer_make(CASES[i].text);
        seam_chat chat;
        seam_error err = {0};
        assert_int_equal(seam_chat_detect(&chat, t, &err), SEAM_E_UNIMPLEMENTED);
        assert_non_null(strstr(err.text, CASES[i].word));
        seam_tokenizer_close(t);
    }
}

static void test_detect__tokens_missing__named(void **state) {
    (void)state;
    seam_chat chat;
    seam_error err = {0};
    seam_tokenizer *t = text_fixture_tokenizer(PHI3);
    assert_int_equal(seam_chat_detect(&chat, t, &err), SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, "<|system|>"));
    seam_tokenizer_close(t);
    t = tokenizer_make(LLAMA31);
    t->bos_id = -1;
    assert_int_equal(seam_chat_detect(&chat, t, &err), SEAM_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "bos_token"));
    seam_tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode__llama3__trimmed_after_one_begin_token),
        cmocka_unit_test(test_encode__llama31__always_a_system_message),
        cmocka_unit_test(test_encode__phi3__as_written),
        cmocka_unit_test(test_detect__line_breaks_in_literals__the_same_template),
        cmocka_unit_test(test_encode__phi3_medium__a_question_opens_its_reply),
        cmocka_unit_test(test_encode__phi3_medium__out_of_turn__named),
        cmocka_unit_test(test_encode__phi3__empty_system_message),
        cmocka_unit_test(test_encode__chatml__begin_token_where_the_template_has_one),
        cmocka_unit_test(test_detect__templates_that_are_not_known__named),
        cmocka_unit_test(test_detect__tokens_missing__named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
