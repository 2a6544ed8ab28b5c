/* tokenize_lines TOKENIZER: one JSON string a line on stdin -> its ids, separated by spaces, a line
 * on stdout; with `--decode` the decoded text of those ids as a JSON string instead.  For
 * comparison with Hugging Face `tokenizers`; not a test by itself: see test_tokenizers.py. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"

static bool line_run(const seam_tokenizer *tokenizer, const json_t *value, bool decode) {
    seam_error err = {0};
    seam_ids ids = {0};
    seam_text text = {0};
    bool ok = seam_tokenizer_encode(&ids, tokenizer, json_string_value(value),
                                    json_string_length(value), SEAM_SPECIAL_PARSE, &err) == SEAM_OK;
    if (ok && decode) {
        ok = seam_tokenizer_decode(&text, tokenizer, ids.ids, ids.count, SEAM_DECODE_TEXT, &err) ==
             SEAM_OK;
        json_t *string = json_stringn(text.count == 0 ? "" : text.bytes, text.count);
        ok = ok && string != NULL && json_dumpf(string, stdout, JSON_ENCODE_ANY) == 0;
        json_decref(string);
    } else {
        for (size_t i = 0; ok && i < ids.count; i++) {
            printf(i == 0 ? "%u" : " %u", ids.ids[i]);
        }
    }
    printf("\n");
    if (!ok) {
        fprintf(stderr, "%s\n", err.text);
    }
    seam_ids_deinit(&ids);
    seam_text_deinit(&text);
    return ok;
}

int main(int argc, char **argv) {
    seam_tokenizer *tokenizer = NULL;
    seam_error err = {0};
    const bool decode = argc == 3 && strcmp(argv[2], "--decode") == 0;
    if (argc != 2 && !decode) {
        fprintf(stderr, "usage: %s TOKENIZER [--decode]\n", argv[0]);
        return 2;
    }
    if (seam_tokenizer_open(&tokenizer, argv[1], &err) != SEAM_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    bool ok = true;
    char *line = NULL;
    size_t capacity = 0;
    for (ssize_t bytes; ok && (bytes = getline(&line, &capacity, stdin)) > 0;) {
        json_t *value = json_loadb(line, (size_t)bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        ok = json_is_string(value) && line_run(tokenizer, value, decode);
        json_decref(value);
    }
    free(line);
    seam_tokenizer_close(tokenizer);
    return ok ? 0 : 1;
}
