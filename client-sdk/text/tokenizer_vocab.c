/* GPT-2's own files: vocab.json (token -> id) and merges.txt (a version comment, then one pair a
 * line). */
#include <jansson.h>
#include <string.h>

#include "file_map.h"
#include "json_read.h"
#include "tokenizer_build.h"
#include "tokenizer_files.h"
#include "try.h"

static const char END_TOKEN[] = "<|endoftext|>";

static seam_status vocab_read(seam_tokenizer *t, json_t *vocab, const char *path, seam_error *err) {
    const char *text;
    json_t *id;
    json_object_foreach(vocab, text, id) {
        seam_status st = SEAM_E_FORMAT;
        if (json_is_integer(id) && json_integer_value(id) >= 0 &&
            json_integer_value(id) < SEAM_VOCAB_MAX) {
            st = seam_bpe_add_token(&t->bpe, (uint32_t)json_integer_value(id), text, strlen(text));
        }
        if (st != SEAM_OK) {
            return seam_error_set(err, st, "%s: %.64s: bad or repeated id", path, text);
        }
    }
    const json_t *end = json_object_get(vocab, END_TOKEN);
    if (end == NULL) {
        return SEAM_OK;
    }
    t->eos_id = t->bos_id = json_integer_value(end);
    char end_text[sizeof(END_TOKEN)];
    memcpy(end_text, END_TOKEN, sizeof(END_TOKEN));
    const seam_added_token token = {.text = end_text,
                                    .bytes = sizeof(END_TOKEN) - 1,
                                    .id = (uint32_t)json_integer_value(end),
                                    .is_special = true};
    return seam_tokenizer_add_added(t, &token, path, err);
}

static size_t lines_count(const seam_file_map *map) {
    size_t lines = 1;
    for (size_t i = 0; i < map->count; i++) {
        lines += map->bytes[i] == '\n';
    }
    return lines;
}

static seam_status merge_line(seam_tokenizer *t, const char *line, size_t bytes, size_t line_number,
                              const char *path, seam_error *err) {
    static const char VERSION[] = "#version";
    if (bytes > 0 && line[bytes - 1] == '\r') {
        bytes--;
    }
    if (bytes == 0 || (line_number == 1 && bytes >= sizeof(VERSION) - 1 &&
                       memcmp(line, VERSION, sizeof(VERSION) - 1) == 0)) {
        return SEAM_OK;
    }
    const char *space = memchr(line, ' ', bytes);
    seam_status st = SEAM_E_FORMAT;
    if (space != NULL) {
        const size_t left = (size_t)(space - line);
        st = seam_bpe_add_merge(&t->bpe, line, left, space + 1, bytes - left - 1);
    }
    return st == SEAM_OK ? st
                         : seam_error_set(err, st, "%s:%zu: not two tokens and their union", path,
                                          line_number);
}

static seam_status merges_read(seam_tokenizer *t, const char *path, seam_error *err) {
    seam_file_map map;
    SEAM_TRY(seam_file_map_open(&map, path, err));
    const size_t lines = lines_count(&map);
    seam_status st = SEAM_OK;
    if (lines > SEAM_VOCAB_MAX) {
        st = seam_error_set(err, SEAM_E_LIMIT, "%s: too many lines", path);
    } else if (seam_bpe_finish_tokens(&t->bpe, lines) != SEAM_OK) {
        st = seam_error_set(err, SEAM_E_MEMORY, "%s: out of memory", path);
    }
    const char *at = (const char *)map.bytes;
    size_t left = map.count;
    for (size_t number = 1; st == SEAM_OK && left > 0; number++) {
        const char *end = memchr(at, '\n', left);
        const size_t bytes = end == NULL ? left : (size_t)(end - at);
        st = merge_line(t, at, bytes, number, path, err);
        const size_t step = end == NULL ? left : bytes + 1;
        at += step;
        left -= step;
    }
    seam_file_map_close(&map);
    return st;
}

seam_status seam_tokenizer_from_vocab(struct seam_tokenizer **ret_tokenizer, const char *vocab_path,
                                      const char *merges_path, seam_error *err) {
    json_t *vocab = NULL;
    seam_tokenizer *t = NULL;
    seam_status st = SEAM_OK;
    SEAM_TRY(seam_json_read_file(&vocab, vocab_path, SEAM_TOKENIZER_JSON_MAX, err));
    SEAM_TRY_GOTO(seam_tokenizer_alloc(&t, err), st, fail);
    SEAM_TRY_GOTO(vocab_read(t, vocab, vocab_path, err), st, fail);
    SEAM_TRY_GOTO(merges_read(t, merges_path, err), st, fail);
    SEAM_TRY_GOTO(seam_split_add(t->split, SEAM_SPLIT_GPT2, false, SEAM_SPLIT_BOTH, err), st, fail);
    SEAM_TRY_GOTO(seam_tokenizer_finish(t, err), st, fail);
    json_decref(vocab);
    *ret_tokenizer = t;
    return SEAM_OK;
fail:
    json_decref(vocab);
    seam_tokenizer_close(t);
    return st;
}
