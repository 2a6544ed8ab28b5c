/* Goal: every quantized type of a GGUF file has the values that ggml's own package gives, to the
 * bit.  Method: blocks of random bytes, in a file made by tests/oracle/make_gguf_golden.py, each
 * as the tensor of a GGUF file that is made here, so that the type's number counts too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bytes.h"
#include "dequantize.h"
#include "gguf.h"

#define FILE_BYTES_MAX  (1u << 16)
#define VALUES_MAX      1024u
#define TENSOR_BYTES    2048u
#define GOLDEN_TYPES    12u
#define GGUF_DATA_BEGIN 96u

typedef struct golden_type {
    uint32_t id, block_count, block_bytes, block_values;
    const uint8_t *blocks, *values;
} golden_type;

static size_t text_put(uint8_t *at, const char *text) {
    const size_t count = strlen(text);
    seam_put_u64(at, count);
    memcpy(at + 8, text, count);
    return 8 + count;
}

/* A file with one tensor (a row of all values). */
static size_t gguf_make(uint8_t *ret, const golden_type *type) {
    const size_t data_bytes = (size_t)type->block_count * type->block_bytes;
    size_t at = 24;
    memset(ret, 0, GGUF_DATA_BEGIN + TENSOR_BYTES);
    memcpy(ret, "GGUF", 4);
    seam_put_u32(ret + 4, 3);
    seam_put_u64(ret + 8, 1); /* tensors; no metadata */
    at += text_put(ret + at, "t");
    seam_put_u32(ret + at, 1);
    seam_put_u64(ret + at + 4, (uint64_t)type->block_count * type->block_values);
    seam_put_u32(ret + at + 12, type->id);
    seam_put_u64(ret + at + 16, 0); /* where it begins */
    assert_true(at + 24 <= GGUF_DATA_BEGIN);
    at = (at + 24 + 31) / 32 * 32;
    memcpy(ret + at, type->blocks, data_bytes);
    return at + data_bytes;
}

static void type_check(const golden_type *type) {
    static uint8_t file[GGUF_DATA_BEGIN + TENSOR_BYTES];
    static float got[VALUES_MAX];
    const size_t count = (size_t)type->block_count * type->block_values;
    seam_gguf *gguf = NULL;
    seam_error err = {0};
    assert_true(count <= VALUES_MAX && type->block_bytes * type->block_count <= TENSOR_BYTES);
    const size_t bytes = gguf_make(file, type);
    assert_int_equal(seam_gguf_create(&gguf, file, bytes, "f", &err), SEAM_OK);
    const seam_gguf_tensor *tensor = seam_gguf_tensor_at(gguf, 0);
    assert_int_not_equal(tensor->type, SEAM_TENSOR_OTHER);
    assert_int_equal(seam_tensor_block_bytes(tensor->type), type->block_bytes);
    seam_dequantize(got, tensor->type, tensor->bytes, count);
    for (size_t i = 0; i < count; i++) {
        const float want = seam_get_f32(type->values + 4 * i);
        if (seam_f32_bits(got[i]) != seam_f32_bits(want)) {
            fail_msg("type %u, value %zu: %.9g, not %.9g", type->id, i, (double)got[i],
                     (double)want);
        }
    }
    seam_gguf_destroy(gguf);
}

static void test_dequantize__every_quantized_type__values_of_ggml(void **state) {
    static uint8_t bytes[FILE_BYTES_MAX];
    uint32_t types = 0;
    (void)state;
    FILE *file = fopen(SEAM_SOURCE_DIR "/tests/golden/gguf_blocks.bin", "rb");
    assert_non_null(file);
    const size_t count = fread(bytes, 1, sizeof bytes, file);
    assert_int_equal(fclose(file), 0);
    for (size_t at = 0; at < count; types++) {
        golden_type type = {.id = seam_get_u32(bytes + at),
                            .block_count = seam_get_u32(bytes + at + 4),
                            .block_bytes = seam_get_u32(bytes + at + 8),
                            .block_values = seam_get_u32(bytes + at + 12)};
        type.blocks = bytes + at + 16;
        type.values = type.blocks + (size_t)type.block_count * type.block_bytes;
        at += 16 + (size_t)type.block_count * (type.block_bytes + 4u * type.block_values);
        assert_true(at <= count);
        type_check(&type);
    }
    assert_int_equal(types, GOLDEN_TYPES);
}

static void test_dequantize__f16__every_half(void **state) {
    static uint8_t halves[2 << 16];
    static float got[1 << 16];
    (void)state;
    for (uint32_t bits = 0; bits < 1u << 16; bits++) {
        seam_put_u16(halves + 2 * (size_t)bits, (uint16_t)bits);
    }
    seam_dequantize(got, SEAM_TENSOR_F16, halves, 1 << 16);
    for (uint32_t bits = 0; bits < 1u << 16; bits++) {
        assert_int_equal(seam_f32_bits(got[bits]), seam_f32_bits(seam_fp16_to_f32((uint16_t)bits)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dequantize__every_quantized_type__values_of_ggml),
        cmocka_unit_test(test_dequantize__f16__every_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
