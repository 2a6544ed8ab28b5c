/* A safetensors file of any bytes, and a config.json of any bytes: an error, or tensors that lie
 * inside the file.  Input beginning with '{' goes to the config reader. */
#include "config_json.h"
#include "fuzz.h"
#include "safetensors.h"

static void index_check(const seam_tensor_index *index, const uint8_t *data, size_t count) {
    for (size_t i = 0; i < index->count; i++) {
        const seam_tensor_entry *e = &index->entries[i];
        uint64_t bytes = 0;
        if (e->type == SEAM_TENSOR_OTHER) {
            continue;
        }
        FUZZ_CHECK(seam_tensor_bytes(&bytes, e->type, e->rows, e->cols));
        FUZZ_CHECK(e->bytes >= data && bytes <= (uint64_t)(data + count - e->bytes));
        float values[64];
        const uint64_t all = e->rows * e->cols;
        seam_dequantize(values, e->type, e->bytes, (size_t)(all < 64 ? all : 64));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t count) {
    seam_error err = {0};
    if (count > 0 && data[0] == '{') {
        seam_model_config config;
        if (seam_config_json_parse(&config, data, count, "f", &err) == SEAM_OK) {
            FUZZ_CHECK(seam_model_config_check(&config, NULL) == SEAM_OK);
        } else {
            FUZZ_CHECK(err.text[0] != '\0');
        }
        return 0;
    }
    seam_tensor_index index = {0};
    const seam_status st = seam_safetensors_parse(&index, data, count, "f", &err);
    if (st == SEAM_OK && seam_tensor_index_finish(&index, &err) == SEAM_OK) {
        index_check(&index, data, count);
    } else {
        FUZZ_CHECK(err.text[0] != '\0');
    }
    seam_tensor_index_deinit(&index);
    return 0;
}
