/* A data file of any bytes (plain or gzip): an error that has text, or samples whose parts agree,
 * and batches, of training and of choices, that hold each of them. */
#include <sys/mman.h>
#include <unistd.h>

#include "batcher.h"
#include "choice_batcher.h"
#include "fuzz.h"
#include "tokenizer_build.h"

static const char TOKENIZER[] =
    "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"\\u010a\": 3}, "
    "\"merges\": [\"a b\"], \"unk_token\": \"b\"}, \"added_tokens\": ["
    "{\"id\": 4, \"content\": \"<|im_start|>\", \"special\": true},"
    "{\"id\": 5, \"content\": \"<|im_end|>\", \"special\": true}],"
    "\"pre_tokenizer\": {\"type\": \"ByteLevel\"}, \"decoder\": {\"type\": \"ByteLevel\"}}";
enum { TOKENS_MAX = 64 };
static const char CHATML[] = "<|im_start|><|im_end|>";

/* Every label and every token of a choice comes once; rows_max: of the longest sequence. */
static void choices_check(const seam_data *data, uint32_t rows_max) {
    uint64_t labels = 0, tokens = 0, wanted = 0;
    for (uint32_t i = 0; i < seam_data_choices_total(data); i++) {
        seam_choice choice;
        seam_data_choice(&choice, data, i);
        FUZZ_CHECK(choice.token_count > 0 && choice.text_bytes > 0);
        wanted += choice.token_count;
    }
    seam_choice_batcher *batcher = NULL;
    seam_choice_batch batch;
    FUZZ_CHECK(seam_choice_batcher_create(&batcher, data, rows_max, NULL) == SEAM_OK);
    for (seam_choice_batcher_next(&batch, batcher); batch.rows > 0;
         seam_choice_batcher_next(&batch, batcher)) {
        FUZZ_CHECK(batch.rows <= rows_max && batch.term_count > 0);
        for (uint32_t i = 0; i < batch.term_count; i++) {
            FUZZ_CHECK(batch.terms[i].row < batch.rows);
            labels += batch.terms[i].in_loss;
            tokens += batch.terms[i].choice_idx != SEAM_NO_CHOICE;
        }
    }
    FUZZ_CHECK(labels == seam_data_labels_total(data) && tokens == wanted);
    seam_choice_batcher_destroy(batcher);
}

static void data_check(const seam_data *data) {
    const seam_batcher_options options = {
        .samples_per_step = 3, .rows_max = seam_data_tokens_longest(data), .seed = 1};
    seam_batcher *batcher = NULL;
    seam_step_batch batch;
    for (uint32_t i = 0; i < seam_data_count(data); i++) {
        seam_sample sample;
        uint32_t labels = 0;
        seam_data_get(&sample, data, i);
        for (uint32_t t = 0; t < sample.token_count; t++) {
            labels += sample.in_loss[t];
        }
        FUZZ_CHECK(labels == sample.label_count && labels > 0 && sample.in_loss[0] == 0);
        FUZZ_CHECK(sample.in_loss[sample.token_count - 1] == 1);
        FUZZ_CHECK(sample.prompt_count <= sample.token_count && sample.completion != NULL);
        FUZZ_CHECK(sample.choice_count == 0 || sample.choice_right < sample.choice_count);
    }
    choices_check(data, TOKENS_MAX);
    FUZZ_CHECK(seam_batcher_create(&batcher, data, &options, NULL) == SEAM_OK);
    seam_batcher_step(&batch, batcher, 1);
    FUZZ_CHECK(batch.sample_count == 3 && batch.labelled_total >= 3);
    seam_batcher_destroy(batcher);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    static seam_tokenizer *tokenizer;
    if (tokenizer == NULL) { /* once a process */
        FUZZ_CHECK(seam_tokenizer_from_json(&tokenizer, TOKENIZER, sizeof TOKENIZER - 1, "f",
                                            NULL) == SEAM_OK);
        FUZZ_CHECK(seam_tokenizer_set_chat_template(tokenizer, CHATML, sizeof CHATML - 1) ==
                   SEAM_OK);
    }
    const int fd = memfd_create("rows", 0);
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    FUZZ_CHECK(fd >= 0 && write(fd, data, count) == (ssize_t)count);
    const seam_data_options options = {
        .tokens_max = TOKENS_MAX, .truncates = (count & 1) != 0, .eos_id = 5};
    seam_data *rows = NULL;
    seam_error err = {0};
    if (seam_data_load(&rows, path, tokenizer, &options, &err) == SEAM_OK) {
        data_check(rows);
    } else {
        FUZZ_CHECK(err.text[0] != '\0');
    }
    seam_data_destroy(rows);
    (void)close(fd);
    return 0;
}
