/* dump_rows TOKENIZER FILE: the samples of a data file, a line each: ids separated by spaces, those
 * in the loss with a '*' behind.  For comparison with Hugging Face; not a test by itself: see
 * test_rows.py. */
#include <stdio.h>

#include "data.h"

int main(int argc, char **argv) {
    seam_tokenizer *tokenizer = NULL;
    seam_data *data = NULL;
    seam_error err = {0};
    const seam_data_options options = {.eos_id = -1};
    if (argc != 3) {
        fprintf(stderr, "usage: %s TOKENIZER FILE\n", argv[0]);
        return 2;
    }
    bool ok = seam_tokenizer_open(&tokenizer, argv[1], &err) == SEAM_OK &&
              seam_data_load(&data, argv[2], tokenizer, &options, &err) == SEAM_OK;
    for (uint32_t i = 0; ok && i < seam_data_count(data); i++) {
        seam_sample sample;
        seam_data_get(&sample, data, i);
        for (uint32_t t = 0; t < sample.token_count; t++) {
            printf("%s%u%s", t == 0 ? "" : " ", sample.ids[t], sample.in_loss[t] == 1 ? "*" : "");
        }
        printf("\n");
    }
    if (!ok) {
        fprintf(stderr, "%s\n", err.text);
    }
    seam_data_destroy(data);
    seam_tokenizer_close(tokenizer);
    return ok ? 0 : 1;
}
