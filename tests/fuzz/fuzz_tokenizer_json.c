/* A tokenizer.json of any bytes: an error, or a tokenizer that encodes and decodes a text.  A split
 * pattern may give up (SEAM_E_LIMIT), nothing else may go wrong. */
#include "fuzz.h"
#include "tokenizer.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    static const char TEXT[] = "the  cat's 12\n\ncaf\xc3\xa9 e\xcc\x81<|im_end|>\xf0\x9f\xa6\x99";
    seam_tokenizer *tokenizer = NULL;
    seam_error err = {0};
    if (seam_tokenizer_from_json(&tokenizer, data, count, "f", &err) != SEAM_OK) {
        FUZZ_CHECK(err.text[0] != '\0');
        return 0;
    }
    for (int special = SEAM_SPECIAL_PARSE; special <= SEAM_SPECIAL_AS_TEXT; special++) {
        seam_ids ids = {0};
        seam_text text = {0};
        const seam_status st = seam_tokenizer_encode(&ids, tokenizer, TEXT, sizeof TEXT - 1,
                                                     (seam_special)special, &err);
        FUZZ_CHECK(st == SEAM_OK || st == SEAM_E_LIMIT);
        if (st == SEAM_OK) {
            FUZZ_CHECK(seam_tokenizer_decode(&text, tokenizer, ids.ids, ids.count, SEAM_DECODE_TEXT,
                                             &err) == SEAM_OK);
            FUZZ_CHECK(seam_utf8_check(text.bytes, text.count) == text.count);
        }
        seam_ids_deinit(&ids);
        seam_text_deinit(&text);
    }
    seam_tokenizer_close(tokenizer);
    return 0;
}
