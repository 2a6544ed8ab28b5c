/* A tiny byte-level tokenizer for tests of text/: 256 byte tokens (id = byte), a few merges, and
 * the ChatML tokens, written as tokenizer.json and built in memory. */
#ifndef SEAM_TEXT_FIXTURE_H
#define SEAM_TEXT_FIXTURE_H

#include <jansson.h>

#include "tokenizer.h"

enum {
    FIXTURE_TH = 256,        /* "th" */
    FIXTURE_THE = 257,       /* "the" */
    FIXTURE_SPACE_THE = 258, /* " the" */
    FIXTURE_AA = 259,        /* "aa" */
    FIXTURE_END = 260,       /* <|endoftext|> */
    FIXTURE_IM_START = 261,
    FIXTURE_IM_END = 262,
};

/* The parsed JSON of the tokenizer, for tests that spoil it; json_decref it. */
json_t *text_fixture_json(void);
/* The tokenizer of `json`, which is decref'd; asserts success. */
seam_tokenizer *text_fixture_from(json_t *gift_json);
/* With an end token (FIXTURE_END) and, if not NULL, a chat template. */
seam_tokenizer *text_fixture_tokenizer(const char *chat_template);
/* A new file in a new directory under the temporary directory; returns its path (static). */
const char *text_fixture_file(const char *name, const void *bytes, size_t count);
/* Frees the last path for another file of the same name. */
void text_fixture_forget(void);
void text_fixture_cleanup(void);

#endif
