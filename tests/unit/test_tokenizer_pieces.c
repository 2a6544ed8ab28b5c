/* Goal: ids, decoding and refusals of tokenizers by characters with bytes to fall back on, on a
 * vocabulary small enough to work out by hand.  Equality with Hugging Face on Phi-3's is
 * tests/golden, on random texts and variants tests/oracle/check_tokenizers.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"
#include "text_fixture.h"

#define MARK "\xe2\x96\x81"

/* "<0x00>".. are 0..255. */
enum { UNK = 256, SPACE, A, B, SPACE_A, AB, SPACE_AB, END, USER, LEFT };

static json_t *pieces_json(void) {
    json_t *vocab = json_object();
    static const char *const TOKENS[] = {"<unk>", MARK, "a", "b", MARK "a", "ab", MARK "ab"};
    char name[8];
    for (int byte = 0; byte < 256; byte++) {
        (void)snprintf(name, sizeof name, "<0x%02X>", byte);
        json_object_set_new(vocab, name, json_integer(byte));
    }
    for (int i = 0; i < 7; i++) {
        json_object_set_new(vocab, TOKENS[i], json_integer(UNK + i));
    }
    json_t *const root = json_loads(
        "{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": ["
        " {\"type\": \"Prepend\", \"prepend\": \"" MARK "\"},"
        " {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"" MARK "\"}]},"
        " \"pre_tokenizer\": null,"
        " \"decoder\": {\"type\": \"Sequence\", \"decoders\": ["
        " {\"type\": \"Replace\", \"pattern\": {\"String\": \"" MARK "\"}, \"content\": \" \"},"
        " {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"},"
        " {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}]},"
        " \"added_tokens\": ["
        " {\"id\": 256, \"content\": \"<unk>\", \"special\": true},"
        " {\"id\": 263, \"content\": \"<|end|>\", \"special\": true},"
        " {\"id\": 264, \"content\": \"<|user|>\", \"special\": true, \"rstrip\": true},"
        " {\"id\": 265, \"content\": \"<|left|>\", \"lstrip\": true}],"
        " \"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"fuse_unk\": true,"
        " \"byte_fallback\": true, \"merges\": [\"" MARK " a\", [\"a\", \"b\"], \"" MARK "a b\"]}}",
        0, NULL);
    assert_non_null(root);
    json_object_set_new(json_object_get(root, "model"), "vocab", vocab);
    return root;
}

static void expect_encoded(const seam_tokenizer *t, const seam_encode_args *args,
                           const uint32_t *want, size_t want_count) {
    seam_ids ids = {0};
    seam_error err = {0};
    if (seam_tokenizer_encode_with(&ids, t, args, &err) != SEAM_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(ids.count, want_count);
    assert_memory_equal(ids.ids, want, want_count * sizeof(*want));
    seam_ids_deinit(&ids);
}

#define EXPECT_IDS(t, string, ...)                                                                 \
    do {                                                                                           \
        const uint32_t want[] = {__VA_ARGS__};                                                     \
        const seam_encode_args whole = {.text = (string), .bytes = strlen(string)};                \
        expect_encoded((t), &whole, want, sizeof(want) / sizeof(want[0]));                         \
    } while (0)

static void test_encode__spaces__marks_and_one_before(void **state) {
    (void)state;
    seam_tokenizer *t = text_fixture_from(pieces_json());
    EXPECT_IDS(t, "ab", SPACE_AB);
    EXPECT_IDS(t, " ab", SPACE, SPACE_AB);
    EXPECT_IDS(t, "a b", SPACE_A, SPACE, B);
    EXPECT_IDS(t, "a" MARK "a", SPACE_A, SPACE_A); /* a mark in the text is a space */
    seam_tokenizer_close(t);
}

static void test_encode__character_without_token__its_bytes(void **state) {
    (void)state;
    seam_tokenizer *t = text_fixture_from(pieces_json());
    EXPECT_IDS(t, "\xe4\xbd\xa0", SPACE, 0xe4, 0xbd, 0xa0);
    EXPECT_IDS(t, "\n", SPACE, '\n');
    seam_tokenizer_close(t);
}

/* Without the bytes of a character it is `unk`, which waits for the next character with a token. */
static void test_encode__byte_missing__unk(void **state) {
    (void)state;
    json_t *root = pieces_json();
    json_t *model = json_object_get(root, "model");
    json_object_del(json_object_get(model, "vocab"), "<0xBD>");
    seam_tokenizer *t = text_fixture_from(json_deep_copy(root));
    EXPECT_IDS(t, "\xe4\xbd\xa0\xe4\xbd\xa0", SPACE, UNK);
    EXPECT_IDS(t, "\xe4\xbd\xa0\nb", SPACE, '\n', UNK, B);
    seam_tokenizer_close(t);
    json_object_set_new(model, "fuse_unk", json_false());
    t = text_fixture_from(json_deep_copy(root));
    EXPECT_IDS(t, "\xe4\xbd\xa0\xe4\xbd\xa0", SPACE, UNK, UNK);
    seam_tokenizer_close(t);
    json_object_set_new(model, "byte_fallback", json_false());
    t = text_fixture_from(root);
    EXPECT_IDS(t, "\nb", SPACE, UNK, B);
    seam_tokenizer_close(t);
}

static void test_encode__added_tokens__take_white_space(void **state) {
    (void)state;
    seam_tokenizer *t = text_fixture_from(pieces_json());
    EXPECT_IDS(t,
               "<|user|>\n \xc2\xa0"
               "a<|end|> a",
               USER, SPACE_A, END, SPACE, SPACE_A);
    EXPECT_IDS(t, "a \xe3\x80\x80<|left|>\na", SPACE_A, LEFT, SPACE, '\n', A);
    EXPECT_IDS(t, "<|user|> <|left|>", USER, LEFT); /* taken once */
    EXPECT_IDS(t, "<|user|>  ", USER);
    seam_tokenizer_close(t);
}

static void test_encode__goes_on__nothing_before_it(void **state) {
    (void)state;
    seam_tokenizer *t = text_fixture_from(pieces_json());
    const uint32_t want[] = {A, SPACE_AB};
    const seam_encode_args args = {.text = "a ab", .bytes = 4, .continues = true};
    expect_encoded(t, &args, want, 2);
    const uint32_t later[] = {A, END, SPACE_A}; /* behind an added token a part begins again */
    const seam_encode_args two = {.text = "a<|end|>a", .bytes = 9, .continues = true};
    expect_encoded(t, &two, later, 3);
    seam_tokenizer_close(t);
}

static void test_encode__cuts__no_token_across_and_ends_told(void **state) {
    (void)state;
    seam_tokenizer *t = text_fixture_from(pieces_json());
    /* "ab" cut in the middle, an added token between two cuts, a cut inside an added token, which
     * is then none, and one at the end. */
    static const char TEXT[] = "ab<|end|>a";
    const size_t cuts[] = {1, 2, 9, 10};
    size_t ends[4] = {0};
    const uint32_t want[] = {SPACE_A, B, END, SPACE_A};
    const seam_encode_args args = {
        .text = TEXT, .bytes = 10, .cuts = cuts, .cut_count = 4, .ret_ends = ends};
    expect_encoded(t, &args, want, 4);
    const size_t told[] = {1, 2, 3, 4};
    assert_memory_equal(ends, told, sizeof told);
    const size_t inside[] = {3};
    const seam_encode_args split = {
        .text = "a<|end|>", .bytes = 8, .cuts = inside, .cut_count = 1, .ret_ends = ends};
    seam_ids ids = {0};
    assert_int_equal(seam_tokenizer_encode_with(&ids, t, &split, NULL), SEAM_OK);
    for (size_t i = 0; i < ids.count; i++) {
        assert_int_not_equal(ids.ids[i], END);
    }
    seam_ids_deinit(&ids);
    seam_tokenizer_close(t);
}

static void expect_decoded(const seam_tokenizer *t, const uint32_t *ids, size_t count,
                           seam_decode mode, const char *want) {
    seam_text text = {0};
    assert_int_equal(seam_tokenizer_decode(&text, t, ids, count, mode, NULL), SEAM_OK);
    assert_int_equal(text.count, strlen(want));
    assert_memory_equal(text.bytes, want, text.count);
    seam_text_deinit(&text);
}

static void test_decode__bytes_and_the_space_at_the_head(void **state) {
    (void)state;
    seam_tokenizer *t = text_fixture_from(pieces_json());
    const uint32_t ids[] = {SPACE_A, 0xe4, 0xbd, 0xa0, END, SPACE, B};
    expect_decoded(t, ids, 7, SEAM_DECODE_TEXT, "a\xe4\xbd\xa0<|end|> b");
    expect_decoded(t, ids, 7, SEAM_DECODE_SKIP_SPECIAL, "a\xe4\xbd\xa0 b");
    expect_decoded(t, ids, 7, SEAM_DECODE_PART, " a\xe4\xbd\xa0<|end|> b");
    expect_decoded(t, ids, 7, SEAM_DECODE_REPLY, " a\xe4\xbd\xa0 b");
    expect_decoded(t, ids, 3, SEAM_DECODE_RAW, " a\xe4\xbd");
    /* A run of bytes that is no text as a whole: one mark a byte, also for those that were. */
    const uint32_t broken[] = {'a', 0xe4, 0xbd, B};
    expect_decoded(t, broken, 4, SEAM_DECODE_TEXT,
                   "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                   "b");
    seam_tokenizer_close(t);
}

/* Metaspace instead of normalizers: `scheme` decides before which parts a mark stands. */
static void test_encode__metaspace__schemes(void **state) {
    (void)state;
    static const struct {
        const char *fields;
        uint32_t first, second; /* of "a<|end|>a" */
    } CASES[] = {
        {"\"prepend_scheme\": \"always\", \"split\": false", SPACE_A, SPACE_A},
        {"\"prepend_scheme\": \"first\"", SPACE_A, A},
        {"\"prepend_scheme\": \"never\"", A, A},
        {"\"add_prefix_space\": true", SPACE_A, SPACE_A},
        {"\"add_prefix_space\": false", A, A},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        char text[160];
        (void)snprintf(text, sizeof text,
                       "{\"type\": \"Metaspace\", \"replacement\": \"" MARK "\", %s}",
                       CASES[i].fields);
        json_t *root = pieces_json();
        json_object_set_new(root, "normalizer", json_null());
        json_object_set_new(root, "pre_tokenizer", json_loads(text, 0, NULL));
        json_object_set_new(root, "decoder", json_loads(text, 0, NULL));
        seam_tokenizer *t = text_fixture_from(root);
        EXPECT_IDS(t, "a<|end|>a", CASES[i].first, END, CASES[i].second);
        EXPECT_IDS(t, " a", SPACE_A); /* a mark that is there is enough */
        const uint32_t ids[] = {SPACE_A, SPACE_AB};
        expect_decoded(t, ids, 2, SEAM_DECODE_TEXT, CASES[i].first == A ? " a ab" : "a ab");
        seam_tokenizer_close(t);
    }
}

static void test_from_json__parts_that_are_not_known__named(void **state) {
    (void)state;
    static const struct {
        const char *field, *value, *word;
    } CASES[] = {
        {"normalizer",
         "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \" \"}, \"content\": \"\"}", "Replace"},
        {"normalizer", "{\"type\": \"Lowercase\"}", "Lowercase"},
        {"pre_tokenizer", "{\"type\": \"Metaspace\", \"replacement\": \"_\"}", "U+2581"},
        {"pre_tokenizer",
         "{\"type\": \"Metaspace\", \"replacement\": \"" MARK "\", \"prepend_scheme\": \"often\"}",
         "often"},
        {"decoder", "null", "without a decoder"},
        {"decoder", "{\"type\": \"ByteLevel\"}", "one ByteLevel only"},
        {"decoder",
         "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, "
         "{\"type\": \"ByteFallback\"}]}",
         "ByteFallback"},
        {"decoder", "{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}",
         "Strip"},
        {"decoder",
         "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, {\"type\": "
         "\"Strip\", \"content\": \" \", \"start\": 0, \"stop\": 1}]}",
         "leading spaces"},
        {"added_tokens", "[{\"id\": 263, \"content\": \"x\", \"normalized\": true}]",
         "rewriting normalizer"},
        {"added_tokens", "[{\"id\": 263, \"content\": \"x\", \"single_word\": true}]",
         "single_word"},
    };
    for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
        json_t *root = pieces_json();
        json_object_set_new(root, CASES[i].field,
                            json_loads(CASES[i].value, JSON_DECODE_ANY, NULL));
        char *text = json_dumps(root, 0);
        seam_tokenizer *t = NULL;
        seam_error err = {0};
        assert_int_equal(seam_tokenizer_from_json(&t, text, strlen(text), "file.json", &err),
                         SEAM_E_UNIMPLEMENTED);
        assert_null(t);
        assert_non_null(strstr(err.text, CASES[i].word));
        assert_non_null(strstr(err.text, "file.json"));
        free(text);
        json_decref(root);
    }
}

/* Tokens, rules and scratch each take memory: the first n allocations of opening and of encoding.
 */
static void test_each_allocation_fails_once__memory_error(void **state) {
    (void)state;
    json_t *root = pieces_json();
    char *json = json_dumps(root, 0);
    json_decref(root);
    int failed = 0;
    for (int64_t n = 0; n < 2000; n++) {
        seam_tokenizer *t = NULL;
        seam_mem_fail_after(n);
        const seam_status st = seam_tokenizer_from_json(&t, json, strlen(json), "x", NULL);
        seam_mem_fail_after(-1);
        assert_true(st == SEAM_OK || st == SEAM_E_MEMORY);
        assert_true((st == SEAM_OK) == (t != NULL));
        failed += st != SEAM_OK;
        seam_tokenizer_close(t);
    }
    assert_true(failed > 20);
    free(json);
    seam_tokenizer *t = text_fixture_from(pieces_json());
    failed = 0;
    for (int64_t n = 0; n < 20; n++) {
        seam_ids ids = {0};
        seam_mem_fail_after(n);
        const seam_status st =
            seam_tokenizer_encode(&ids, t, "a b<|end|>ab", 12, SEAM_SPECIAL_PARSE, NULL);
        seam_mem_fail_after(-1);
        assert_true(st == SEAM_OK || st == SEAM_E_MEMORY);
        failed += st != SEAM_OK;
        seam_ids_deinit(&ids);
    }
    assert_in_range(failed, 2, 19);
    seam_tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode__spaces__marks_and_one_before),
        cmocka_unit_test(test_encode__character_without_token__its_bytes),
        cmocka_unit_test(test_encode__byte_missing__unk),
        cmocka_unit_test(test_encode__added_tokens__take_white_space),
        cmocka_unit_test(test_encode__goes_on__nothing_before_it),
        cmocka_unit_test(test_encode__cuts__no_token_across_and_ends_told),
        cmocka_unit_test(test_decode__bytes_and_the_space_at_the_head),
        cmocka_unit_test(test_encode__metaspace__schemes),
        cmocka_unit_test(test_from_json__parts_that_are_not_known__named),
        cmocka_unit_test(test_each_allocation_fails_once__memory_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
