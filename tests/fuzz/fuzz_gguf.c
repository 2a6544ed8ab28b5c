/* A GGUF file of any bytes: an error, or a model and a tokenizer that lie inside the file. */
#include "fuzz.h"
#include "gguf_model.h"
#include "tokenizer.h"

static void tokenizer_try(const seam_gguf *gguf) {
    static const char TEXT[] = "the 12 caf\xc3\xa9 <|im_end|>";
    seam_tokenizer *tokenizer = NULL;
    seam_ids ids = {0};
    seam_text text = {0};
    if (seam_tokenizer_from_gguf(&tokenizer, gguf, NULL) == SEAM_OK) {
        FUZZ_CHECK(seam_tokenizer_encode(&ids, tokenizer, TEXT, sizeof TEXT - 1, SEAM_SPECIAL_PARSE,
                                         NULL) == SEAM_OK);
        FUZZ_CHECK(seam_tokenizer_decode(&text, tokenizer, ids.ids, ids.count, SEAM_DECODE_TEXT,
                                         NULL) == SEAM_OK);
    }
    seam_ids_deinit(&ids);
    seam_text_deinit(&text);
    seam_tokenizer_close(tokenizer);
}

static void model_try(const seam_gguf *gguf, const uint8_t *data, size_t count) {
    seam_model_config config;
    seam_tensor_index index = {0};
    if (seam_gguf_model_read(&config, &index, gguf, NULL) == SEAM_OK &&
        seam_tensor_index_finish(&index, NULL) == SEAM_OK) {
        for (size_t i = 0; i < index.count; i++) {
            const seam_tensor_entry *e = &index.entries[i];
            uint64_t bytes = 0;
            if (e->type != SEAM_TENSOR_OTHER) {
                FUZZ_CHECK(seam_tensor_bytes(&bytes, e->type, e->rows, e->cols));
                FUZZ_CHECK(e->bytes >= data && bytes <= (uint64_t)(data + count - e->bytes));
            }
        }
    }
    seam_tensor_index_deinit(&index);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    seam_gguf *gguf = NULL;
    seam_error err = {0};
    if (seam_gguf_create(&gguf, data, count, "f", &err) != SEAM_OK) {
        FUZZ_CHECK(err.text[0] != '\0');
        return 0;
    }
    model_try(gguf, data, count);
    tokenizer_try(gguf);
    seam_gguf_destroy(gguf);
    return 0;
}
