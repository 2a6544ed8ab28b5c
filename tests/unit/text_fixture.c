/* See text_fixture.h. */
#include "text_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tokenizer_build.h"
#include "whole_file.h"

/* Code point of a byte: its own if it is visible in Latin-1, else the next above those. */
static uint32_t point_of(uint8_t byte) {
    uint32_t hidden = 0;
    for (uint32_t b = 0; b <= byte; b++) {
        const bool visible = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
        if (b == byte && visible) {
            return byte;
        }
        hidden += visible ? 0 : 1;
    }
    return 0xff + hidden;
}

/* Bytes in the alphabet of vocabulary files, as UTF-8. */
static void spell(char *ret, const char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const uint32_t point = point_of((uint8_t)bytes[i]);
        if (point < 0x80) {
            *ret++ = (char)point;
        } else {
            *ret++ = (char)(uint8_t)(0xc0 | point >> 6);
            *ret++ = (char)(uint8_t)(0x80 | (point & 0x3f));
        }
    }
    *ret = '\0';
}

json_t *text_fixture_json(void) {
    static const struct {
        const char *left, *right;
    } MERGES[] = {{"t", "h"}, {"th", "e"}, {" ", "the"}, {"a", "a"}};
    static const char *const ADDED[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    json_t *vocab = json_object();
    json_t *merges = json_array();
    json_t *added = json_array();
    char text[64];
    char right[64];
    for (int byte = 0; byte < 256; byte++) {
        const char c = (char)(uint8_t)byte;
        spell(text, &c, 1);
        json_object_set_new(vocab, text, json_integer(byte));
    }
    for (int i = 0; i < 4; i++) {
        spell(text, MERGES[i].left, strlen(MERGES[i].left));
        spell(right, MERGES[i].right, strlen(MERGES[i].right));
        json_array_append_new(merges, json_sprintf("%s %s", text, right));
        (void)strncat(text, right, sizeof(text) - strlen(text) - 1);
        json_object_set_new(vocab, text, json_integer(256 + i));
    }
    for (int i = 0; i < 3; i++) {
        json_array_append_new(added, json_pack("{sisssbsb}", "id", 260 + i, "content", ADDED[i],
                                               "special", 1, "normalized", 0));
    }
    return json_pack("{sns{ssso so}sos{ss}s{ss}}", "normalizer", "model", "type", "BPE", "vocab",
                     vocab, "merges", merges, "added_tokens", added, "pre_tokenizer", "type",
                     "ByteLevel", "decoder", "type", "ByteLevel");
}

seam_tokenizer *text_fixture_from(json_t *gift_json) {
    seam_tokenizer *tokenizer = NULL;
    seam_error err = {0};
    char *text = json_dumps(gift_json, 0);
    assert_non_null(text);
    json_decref(gift_json);
    if (seam_tokenizer_from_json(&tokenizer, text, strlen(text), "fixture", &err) != SEAM_OK) {
        fail_msg("%s", err.text);
    }
    free(text);
    return tokenizer;
}

seam_tokenizer *text_fixture_tokenizer(const char *chat_template) {
    seam_tokenizer *tokenizer = text_fixture_from(text_fixture_json());
    tokenizer->eos_id = FIXTURE_END;
    if (chat_template != NULL) {
        assert_int_equal(
            seam_tokenizer_set_chat_template(tokenizer, chat_template, strlen(chat_template)),
            SEAM_OK);
    }
    return tokenizer;
}

static char directory[64];
static char paths[8][128];
static size_t path_count;

const char *text_fixture_file(const char *name, const void *bytes, size_t count) {
    if (directory[0] == '\0') {
        (void)snprintf(directory, sizeof(directory), "/tmp/seam-text-XXXXXX");
        assert_non_null(mkdtemp(directory));
    }
    assert_true(path_count < 8);
    char *path = paths[path_count++];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
    seam_test_file_write(bytes, count, "%s", path);
    return path;
}

void text_fixture_forget(void) {
    path_count--;
}

void text_fixture_cleanup(void) {
    while (path_count > 0) {
        (void)unlink(paths[--path_count]);
    }
    if (directory[0] != '\0') {
        (void)rmdir(directory);
        directory[0] = '\0';
    }
}
