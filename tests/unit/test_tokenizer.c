/* Goal: ids, decoding and refusals of the byte-level BPE tokenizer on a vocabulary small enough to
 * work out by hand.  Equality with Hugging Face on real vocabularies is tests/golden. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "split_pattern.h"
#include "text_fixture.h"
#include "utf8.h"

static void expect_ids(const seam_tokenizer *t, const char *text, seam_special special,
                       const uint32_t *want, size_t want_count) {
    seam_ids ids = {0};
    assert_int_equal(seam_tokenizer_encode(&ids, t, text, strlen(text), special, NULL), SEAM_OK);
    assert_int_equal(ids.count, want_count);
    if (want_count > 0) {
        assert_memory_equal(ids.ids, want, want_count * sizeof(*want));
    }
    seam_ids_deinit(&ids);
}

#define EXPECT_IDS(t, text, special, ...)                                                          \
    do {                                                                                           \
        const uint32_t want[] = {__VA_ARGS__};                                                     \
        expect_ids((t), (text), (special), want, sizeof(want) / sizeof(want[0]));                  \
    } while (0)

static void test_encode__merges__lowest_rank_first(void **state) {
    (void)state;
    seam_tokenizer *t = text_fixture_tokenizer(NULL);
    EXPECT_IDS(t, "the the", SEAM_SPECIAL_PARSE, FIXTURE_THE, FIXTURE_SPACE_THE);
    EXPECT_IDS(t, "aaa", SEAM_SPECIAL_PARSE, FIXTURE_AA, 'a');
    EXPECT_IDS(t, "th e", SEAM_SPECIAL_PARSE, FIXTURE_TH, ' ', 'e'); /* pieces part them */
    expect_ids(t, "", SEAM_SPECIAL_PARSE, NULL, 0);
    seam_tokenizer_close(t);
}

static void test_encode__special_tokens__as_ids_or_as_text(void **state) {
    (void)state;
    seam_tokenizer *t = text_fixture_tokenizer(NULL);
    EXPECT_IDS(t, "a<|im_end|>the", SEAM_SPECIAL_PARSE, 'a', FIXTURE_IM_END, FIXTURE_THE);
    EXPECT_IDS(t, "<|im_end|>", SEAM_SPECIAL_AS_TEXT, '<', '|', 'i', 'm', '_', 'e', 'n', 'd', '|',
               '>');
    seam_tokenizer_close(t);
}

/* A piece longer than the scan's limit takes the heap; both must agree on every length. */
static void test_encode__long_piece__same_as_short(void **state) {
    (void)state;
    seam_tokenizer *t = text_fixture_tokenizer(NULL);
    char text[4097];
    for (size_t count = 1; count < sizeof(text); count = count < 140 ? count + 1 : count * 2) {
        seam_ids ids = {0};
        memset(text, 'a', count);
        assert_int_equal(seam_tokenizer_encode(&ids, t, text, count, SEAM_SPECIAL_PARSE, NULL),
                         SEAM_OK);
        assert_int_equal(ids.count, count / 2 + count % 2);
        for (size_t i = 0; i < ids.count; i++) {
            assert_int_equal(ids.ids[i], i < count / 2 ? FIXTURE_AA : 'a');
        }
        seam_ids_deinit(&ids);
    }
    seam_tokenizer_close(t);
}

static void test_encode__broken_utf8__names_the_byte(void **state) {
    (void)state;
    seam_tokenizer *t = text_fixture_tokenizer(NULL);
    seam_ids ids = {0};
    seam_error err = {0};
    assert_int_equal(seam_tokenizer_encode(&ids, t, "ab\xff", 3, SEAM_SPECIAL_PARSE, &err),
                     SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, "byte 2"));
    seam_ids_deinit(&ids);
    seam_tokenizer_close(t);
}

static void test_decode__modes(void **state) {
    (void)state;
    seam_tokenizer *t = text_fixture_tokenizer(NULL);
    const uint32_t ids[] = {FIXTURE_IM_START, FIXTURE_THE, 0xe4, 0xbd, FIXTURE_SPACE_THE};
    seam_text text = {0};
    assert_int_equal(seam_tokenizer_decode(&text, t, ids, 5, SEAM_DECODE_TEXT, NULL), SEAM_OK);
    assert_string_equal(text.bytes, "<|im_start|>the\xef\xbf\xbd the");
    text.count = 0;
    assert_int_equal(seam_tokenizer_decode(&text, t, ids, 5, SEAM_DECODE_RAW, NULL), SEAM_OK);
    assert_string_equal(text.bytes, "<|im_start|>the\xe4\xbd the");
    text.count = 0;
    assert_int_equal(seam_tokenizer_decode(&text, t, ids, 2, SEAM_DECODE_SKIP_SPECIAL, NULL),
                     SEAM_OK);
    assert_string_equal(text.bytes, "the");
    const uint32_t bad = 100000;
    assert_int_equal(seam_tokenizer_decode(&text, t, &bad, 1, SEAM_DECODE_TEXT, NULL), SEAM_E_ARG);
    seam_text_deinit(&text);
    seam_tokenizer_close(t);
}

/* A pre-tokenizer of this step and ByteLevel. */
#define SEQUENCE(step)                                                                             \
    "{\"type\": \"Sequence\", \"pretokenizers\": [" step ", {\"type\": \"ByteLevel\"}]}"

/* One spoilt tokenizer.json a row: the path of the field, its new value, the word in the error. */
static void test_from_json__unknown_or_broken_parts__are_named(void **state) {
    (void)state;
    static const struct {
        const char *object, *field, *value;
        seam_status status;
        const char *word;
    } CASES[] = {
        {"model", "type", "\"Unigram\"", SEAM_E_UNIMPLEMENTED, "Unigram"},
        {"model", "byte_fallback", "true", SEAM_E_UNIMPLEMENTED, "byte_fallback"},
        {"model", "dropout", "0.1", SEAM_E_UNIMPLEMENTED, "dropout"},
        {"model", "end_of_word_suffix", "\"</w>\"", SEAM_E_UNIMPLEMENTED, "end_of_word_suffix"},
        {"model", "continuing_subword_prefix", "\"##\"", SEAM_E_UNIMPLEMENTED,
         "continuing_subword_prefix"},
        {"model", "merges", "[\"t h\", \"q\"]", SEAM_E_FORMAT, "merges[1]"},
        {"model", "merges", "[\"q z\"]", SEAM_E_FORMAT, "merges[0]"},
        {"model", "merges", "5", SEAM_E_FORMAT, "merges"},
        {"model", "vocab", "{}", SEAM_E_FORMAT, "vocab"},
        {"model", "vocab", "{\"a\": 1, \"b\": 1}", SEAM_E_FORMAT, "id occurs twice"},
        {"model", "vocab", "{\"a\": -1}", SEAM_E_FORMAT, "bad id"},
        {"model", "vocab", "{\"a\": 99999999999}", SEAM_E_FORMAT, "bad id"},
        {"model", "unk_token", "\"nothing\"", SEAM_E_FORMAT, "unk_token"},
        {NULL, "model", "null", SEAM_E_FORMAT, "model"},
        {NULL, "normalizer", "{\"type\": \"Lowercase\"}", SEAM_E_UNIMPLEMENTED, "Lowercase"},
        {NULL, "pre_tokenizer", "{\"type\": \"Metaspace\"}", SEAM_E_UNIMPLEMENTED, "ByteLevel"},
        {NULL, "pre_tokenizer", "null", SEAM_E_UNIMPLEMENTED, "pre_tokenizer"},
        {NULL, "pre_tokenizer", "{\"type\": \"Sequence\"}", SEAM_E_FORMAT, "Sequence"},
        {NULL, "pre_tokenizer", "{\"type\": \"ByteLevel\", \"add_prefix_space\": true}",
         SEAM_E_UNIMPLEMENTED, "add_prefix_space"},
        {NULL, "pre_tokenizer",
         SEQUENCE("{\"type\": \"Split\", \"pattern\": {\"Regex\": \"(\"}, \"behavior\": "
                  "\"Isolated\"}"),
         SEAM_E_FORMAT, "split pattern"},
        {NULL, "pre_tokenizer",
         SEQUENCE("{\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}, \"behavior\": "
                  "\"MergedWithNext\"}"),
         SEAM_E_UNIMPLEMENTED, "MergedWithNext"},
        {NULL, "decoder", "{\"type\": \"WordPiece\"}", SEAM_E_UNIMPLEMENTED, "ByteLevel"},
        {NULL, "post_processor", "{\"type\": \"BertProcessing\"}", SEAM_E_UNIMPLEMENTED,
         "BertProcessing"},
        {NULL, "added_tokens", "[{\"id\": 97, \"content\": \"b\"}]", SEAM_E_FORMAT,
         "another token"},
        {NULL, "added_tokens", "[{\"id\": 300, \"content\": \"x\", \"single_word\": true}]",
         SEAM_E_UNIMPLEMENTED, "single_word"},
        {NULL, "added_tokens", "[{\"id\": 300}]", SEAM_E_FORMAT, "added_tokens"},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        json_t *root = text_fixture_json();
        json_t *object = CASES[i].object == NULL ? root : json_object_get(root, CASES[i].object);
        json_object_set_new(object, CASES[i].field,
                            json_loads(CASES[i].value, JSON_DECODE_ANY, NULL));
        char *text = json_dumps(root, 0);
        seam_tokenizer *t = NULL;
        seam_error err = {0};
        assert_int_equal(seam_tokenizer_from_json(&t, text, strlen(text), "file.json", &err),
                         CASES[i].status);
        assert_null(t);
        assert_non_null(strstr(err.text, CASES[i].word));
        assert_non_null(strstr(err.text, "file.json"));
        free(text);
        json_decref(root);
    }
}

static void test_from_json__each_allocation_fails_once__memory_error(void **state) {
    (void)state;
    json_t *root = text_fixture_json();
    char *text = json_dumps(root, 0);
    json_decref(root);
    /* Without memory for PCRE2's compiler the patterns are interpreted: that is no error. */
    int failed = 0;
    for (int64_t n = 0; n < 1000; n++) {
        seam_tokenizer *t = NULL;
        seam_mem_fail_after(n);
        const seam_status st = seam_tokenizer_from_json(&t, text, strlen(text), "x", NULL);
        seam_mem_fail_after(-1);
        assert_true(st == SEAM_OK || st == SEAM_E_MEMORY);
        assert_true((st == SEAM_OK) == (t != NULL));
        failed += st != SEAM_OK;
        seam_tokenizer_close(t);
    }
    assert_in_range(failed, 260, 900); /* each token alone takes memory; the last n find enough */
    free(text);
}

static void test_encode__normalizer_nfc__composes(void **state) {
    (void)state;
    json_t *root = text_fixture_json();
    json_object_set_new(root, "normalizer", json_pack("{ss}", "type", "NFC"));
    seam_tokenizer *t = text_fixture_from(root);
    EXPECT_IDS(t, "e\xcc\x81", SEAM_SPECIAL_PARSE, 0xc3, 0xa9);
    seam_tokenizer_close(t);
}

static void test_encode__split_steps__cut_in_turn(void **state) {
    (void)state;
    json_t *root = text_fixture_json();
    /* Digits one at a time, then whatever is no space; the rest is dropped. */
    json_object_set_new(root, "pre_tokenizer",
                        json_pack("{sss[{sssb}{sss{ss}sssb}{sssb}]}", "type", "Sequence",
                                  "pretokenizers", "type", "Digits", "individual_digits", 1, "type",
                                  "Split", "pattern", "Regex", "[^\\s]+", "behavior", "Removed",
                                  "invert", 1, "type", "ByteLevel", "use_regex", 0));
    seam_tokenizer *t = text_fixture_from(root);
    EXPECT_IDS(t, "aa1aa the", SEAM_SPECIAL_PARSE, FIXTURE_AA, '1', FIXTURE_AA, FIXTURE_THE);
    seam_tokenizer_close(t);
}

static void test_encode__missing_byte__dropped_or_unk(void **state) {
    (void)state;
    json_t *root = text_fixture_json();
    json_t *model = json_object_get(root, "model");
    json_object_del(json_object_get(model, "vocab"), "z");
    seam_tokenizer *t = text_fixture_from(json_deep_copy(root));
    EXPECT_IDS(t, "azza", SEAM_SPECIAL_PARSE, FIXTURE_AA); /* as Hugging Face does */
    seam_tokenizer_close(t);
    json_object_set_new(model, "unk_token", json_string("<|endoftext|>"));
    t = text_fixture_from(json_deep_copy(root));
    EXPECT_IDS(t, "azza", SEAM_SPECIAL_PARSE, 'a', FIXTURE_END, FIXTURE_END, 'a');
    seam_tokenizer_close(t);
    json_object_set_new(model, "fuse_unk", json_true());
    t = text_fixture_from(root);
    EXPECT_IDS(t, "azza", SEAM_SPECIAL_PARSE, 'a', FIXTURE_END, 'a');
    seam_tokenizer_close(t);
}

static void test_from_json__template__gives_the_prefix(void **state) {
    (void)state;
    json_t *root = text_fixture_json();
    json_object_set_new(root, "post_processor",
                        json_loads("{\"type\": \"TemplateProcessing\", \"single\": ["
                                   "{\"SpecialToken\": {\"id\": \"<|im_start|>\"}},"
                                   "{\"Sequence\": {\"id\": \"A\"}}]}",
                                   0, NULL));
    seam_tokenizer *t = text_fixture_from(root);
    size_t count = 0;
    const uint32_t *prefix = seam_tokenizer_prefix(&count, t);
    assert_int_equal(count, 1);
    assert_int_equal(prefix[0], FIXTURE_IM_START);
    seam_tokenizer_close(t);
}

static void test_split_pattern__foreign_constructs__refused(void **state) {
    (void)state;
    static const char *const REFUSED[] = {"^a",  "a$",   "\\h", "[a[b]]", "[a&&b]", "\\w",
                                          "\\G", "[]a]", "\\",  "\\p",    "[\\S]",  "\\p{L"};
    static const char *const TAKEN[] = {"[^\\s\\p{L}]", "\\S+(?!\\S)", "\\^\\$[\\[\\]]", "\\P{N}"};
    for (size_t i = 0; i < sizeof(REFUSED) / sizeof(REFUSED[0]); i++) {
        seam_text text = {0};
        assert_int_equal(seam_split_pattern_translate(&text, REFUSED[i], NULL),
                         SEAM_E_UNIMPLEMENTED);
        seam_text_deinit(&text);
    }
    for (size_t i = 0; i < sizeof(TAKEN) / sizeof(TAKEN[0]); i++) {
        seam_text text = {0};
        assert_int_equal(seam_split_pattern_translate(&text, TAKEN[i], NULL), SEAM_OK);
        seam_text_deinit(&text);
    }
    seam_text text = {0};
    assert_int_equal(seam_split_pattern_translate(&text, "[a", NULL), SEAM_E_FORMAT);
    seam_text_deinit(&text);
}

static void test_utf8_check__table_3_7(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t count, good;
    } CASES[] = {{"a\xc3\xa9", 3, 3},        {"\xc0\x80", 2, 0},
                 {"\xe0\x9f\xbf", 3, 0},     {"\xed\xa0\x80", 3, 0},
                 {"\xf4\x90\x80\x80", 4, 0}, {"a\xe4\xbd", 3, 1},
                 {"\xf0\x9f\xa6\x99", 4, 4}, {"\x80", 1, 0},
                 {"\xf5\x80\x80\x80", 4, 0}, {"\xed\x9f\xbf\xee\x80\x80", 6, 6},
                 {"\xf4\x8f\xbf\xbf", 4, 4}, {"\xf0\x8f\xbf\xbf", 4, 0},
                 {"\xe2(\xa1", 3, 0}};
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        assert_int_equal(seam_utf8_check(CASES[i].bytes, CASES[i].count), CASES[i].good);
    }
    seam_text text = {0}; /* one mark a maximal prefix */
    assert_int_equal(seam_text_append_lossy(&text,
                                            "\xe4\xbd"
                                            "a\xf0\x9f\xa6"
                                            "\xff"
                                            "b",
                                            8),
                     SEAM_OK);
    assert_string_equal(text.bytes, "\xef\xbf\xbd"
                                    "a\xef\xbf\xbd\xef\xbf\xbd"
                                    "b");
    seam_text_deinit(&text);
}

static void test_open__missing_or_foreign_paths__named(void **state) {
    (void)state;
    seam_tokenizer *t = NULL;
    seam_error err = {0};
    assert_int_equal(seam_tokenizer_open(&t, "/nonexistent/tokenizer.json", &err),
                     SEAM_E_NOT_FOUND);
    const char *path = text_fixture_file("tokenizer.json", "{\"model\"", 8);
    assert_int_equal(seam_tokenizer_open(&t, path, &err), SEAM_E_FORMAT);
    assert_non_null(strstr(err.text, path));
    assert_non_null(
        strstr(err.text, "no .gguf")); /* what else it may be, where it is no tokenizer */
    const char *gguf = text_fixture_file("a.gguf", "GGUX", 4);
    assert_int_equal(seam_tokenizer_open(&t, gguf, &err), SEAM_E_FORMAT);
    assert_null(t);
    text_fixture_cleanup();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode__merges__lowest_rank_first),
        cmocka_unit_test(test_encode__special_tokens__as_ids_or_as_text),
        cmocka_unit_test(test_encode__long_piece__same_as_short),
        cmocka_unit_test(test_encode__broken_utf8__names_the_byte),
        cmocka_unit_test(test_decode__modes),
        cmocka_unit_test(test_from_json__unknown_or_broken_parts__are_named),
        cmocka_unit_test(test_from_json__each_allocation_fails_once__memory_error),
        cmocka_unit_test(test_encode__normalizer_nfc__composes),
        cmocka_unit_test(test_encode__split_steps__cut_in_turn),
        cmocka_unit_test(test_encode__missing_byte__dropped_or_unk),
        cmocka_unit_test(test_from_json__template__gives_the_prefix),
        cmocka_unit_test(test_split_pattern__foreign_constructs__refused),
        cmocka_unit_test(test_utf8_check__table_3_7),
        cmocka_unit_test(test_open__missing_or_foreign_paths__named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
