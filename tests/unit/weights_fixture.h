/* One tiny Llama model written in memory as safetensors + config.json and as GGUF. */
#ifndef SEAM_WEIGHTS_FIXTURE_H
#define SEAM_WEIGHTS_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

enum {
    FIXTURE_VOCAB = 5,
    FIXTURE_HIDDEN = 32,
    FIXTURE_FFN = 64,
    FIXTURE_HEADS = 2,
    FIXTURE_KV_HEADS = 1,
    FIXTURE_HEAD_DIM = 16,
    FIXTURE_TENSORS = 12
};

typedef struct fixture_tensor {
    const char *hf, *gguf;
    uint32_t rows, cols; /* a vector has rows = 0 */
    int permuted_heads;  /* heads whose rows llama.cpp interleaves, or 0 */
} fixture_tensor;

extern const fixture_tensor FIXTURE_TENSOR[FIXTURE_TENSORS];
extern const char FIXTURE_CONFIG[];

/* Value i of tensor t in Hugging Face order: a small number that F16 and BF16 hold exactly. */
float fixture_value(int tensor_idx, uint32_t i);

/* A growing file. */
typedef struct fixture_bytes {
    uint8_t bytes[1 << 17];
    size_t count;
} fixture_bytes;

void fixture_put(fixture_bytes *file, const void *bytes, size_t count);
void fixture_put_u32(fixture_bytes *file, uint32_t value);
void fixture_put_u64(fixture_bytes *file, uint64_t value);
void fixture_put_string(fixture_bytes *file, const char *text);

/* dtype "F32", "F16" or "BF16". */
void fixture_safetensors(fixture_bytes *ret_file, const char *dtype);
/* type id 0 (F32), 1 (F16), 30 (BF16), 8 (Q8_0), 2 (Q4_0), 3 (Q4_1) for matrices; vectors are
 * F32.  Quantized values are multiples of a power of two, so that they are exact.
 * *ret_header_bytes: what comes before the tensors' data. */
void fixture_gguf(fixture_bytes *ret_file, uint32_t type_id, size_t *ret_header_bytes);

#endif
