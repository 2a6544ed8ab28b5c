/* See weights_fixture.h. */
#include "weights_fixture.h"

#include <stdio.h>
#include <string.h>

#include "bytes.h"
#include "try.h"

const fixture_tensor FIXTURE_TENSOR[FIXTURE_TENSORS] = {
    {"model.embed_tokens.weight", "token_embd.weight", FIXTURE_VOCAB, 32, 0},
    {"model.norm.weight", "output_norm.weight", 0, 32, 0},
    {"lm_head.weight", "output.weight", FIXTURE_VOCAB, 32, 0},
    {"model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight", 0, 32, 0},
    {"model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight", 32, 32, 2},
    {"model.layers.0.self_attn.k_proj.weight", "blk.0.attn_k.weight", 16, 32, 1},
    {"model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight", 16, 32, 0},
    {"model.layers.0.self_attn.o_proj.weight", "blk.0.attn_output.weight", 32, 32, 0},
    {"model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight", 0, 32, 0},
    {"model.layers.0.mlp.gate_proj.weight", "blk.0.ffn_gate.weight", 64, 32, 0},
    {"model.layers.0.mlp.up_proj.weight", "blk.0.ffn_up.weight", 64, 32, 0},
    {"model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight", 32, 64, 0},
};

const char FIXTURE_CONFIG[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"vocab_size\": 5, "
    "\"hidden_size\": 32, \"intermediate_size\": 64, \"num_hidden_layers\": 1, "
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"max_position_embeddings\": 64, "
    "\"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\", "
    "\"bos_token_id\": 1, \"eos_token_id\": [2, 3]}";

/* A hash into -8..7, times 1/4. */
float fixture_value(int tensor_idx, uint32_t i) {
    const uint32_t mixed = (i + 1) * 2654435761U ^ (uint32_t)(tensor_idx + 1) * 40503U;
    return (float)((int)(mixed >> 13 & 15) - 8) * 0.25F;
}

void fixture_put(fixture_bytes *file, const void *bytes, size_t count) {
    SEAM_ASSERT(count <= sizeof(file->bytes) - file->count);
    memcpy(file->bytes + file->count, bytes, count);
    file->count += count;
}

void fixture_put_u32(fixture_bytes *file, uint32_t value) {
    uint8_t bytes[4];
    seam_put_u32(bytes, value);
    fixture_put(file, bytes, 4);
}

void fixture_put_u64(fixture_bytes *file, uint64_t value) {
    uint8_t bytes[8];
    seam_put_u64(bytes, value);
    fixture_put(file, bytes, 8);
}

void fixture_put_string(fixture_bytes *file, const char *text) {
    fixture_put_u64(file, strlen(text));
    fixture_put(file, text, strlen(text));
}

static uint32_t value_count(const fixture_tensor *t) {
    return (t->rows == 0 ? 1 : t->rows) * t->cols;
}

static void put_u16(fixture_bytes *file, uint16_t value) {
    uint8_t bytes[2];
    seam_put_u16(bytes, value);
    fixture_put(file, bytes, 2);
}

/* F16 of a value that it holds exactly. */
static uint16_t f16(float value) {
    SEAM_ASSERT(seam_fp16_from_f32_up(value) == seam_fp16_from_f32_down(value));
    return seam_fp16_from_f32_up(value);
}

static void put_plain(fixture_bytes *file, const char *dtype, float value) {
    uint8_t bytes[4];
    if (strcmp(dtype, "F32") == 0) {
        seam_put_f32(bytes, value);
        fixture_put(file, bytes, 4);
    } else {
        put_u16(file, strcmp(dtype, "F16") == 0 ? f16(value) : seam_bf16_from_f32(value));
    }
}

void fixture_safetensors(fixture_bytes *ret_file, const char *dtype) {
    char header[4096] = "{\"__metadata__\":{\"format\":\"pt\"}";
    const size_t width = strcmp(dtype, "F32") == 0 ? 4 : 2;
    size_t at = 0;
    for (int i = 0; i < FIXTURE_TENSORS; i++) {
        const fixture_tensor *t = &FIXTURE_TENSOR[i];
        const size_t bytes = value_count(t) * width;
        char shape[32];
        char entry[256];
        (void)snprintf(shape, sizeof(shape), t->rows == 0 ? "%.0u%u" : "%u,%u", t->rows, t->cols);
        (void)snprintf(entry, sizeof(entry),
                       ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                       t->hf, dtype, shape, at, at + bytes);
        strncat(header, entry, sizeof(header) - strlen(header) - 1);
        at += bytes;
    }
    strncat(header, "}", sizeof(header) - strlen(header) - 1);
    ret_file->count = 0;
    fixture_put_u64(ret_file, strlen(header));
    fixture_put(ret_file, header, strlen(header));
    for (int i = 0; i < FIXTURE_TENSORS; i++) {
        for (uint32_t k = 0; k < value_count(&FIXTURE_TENSOR[i]); k++) {
            put_plain(ret_file, dtype, fixture_value(i, k));
        }
    }
}

/* 32 values that start at `first`, as one block; all are in -2..1.75 by steps of 1/4. */
static void put_block(fixture_bytes *file, uint32_t type_id, int tensor_idx, uint32_t first) {
    int q[32]; /* 0..15 */
    for (uint32_t i = 0; i < 32; i++) {
        q[i] = (int)(fixture_value(tensor_idx, first + i) * 4.0F) + 8;
    }
    put_u16(file, f16(0.25F));
    if (type_id == 8) {
        for (int i = 0; i < 32; i++) {
            const int8_t code = (int8_t)(q[i] - 8);
            fixture_put(file, &code, 1);
        }
        return;
    }
    if (type_id == 3) {
        put_u16(file, f16(-2.0F));
    }
    for (int i = 0; i < 16; i++) {
        const uint8_t pair = (uint8_t)(q[i] | q[i + 16] << 4);
        fixture_put(file, &pair, 1);
    }
}

/* Row of the file -> row in Hugging Face order, as llama.cpp's converter lays out q and k. */
static uint32_t hf_row(uint32_t file_row, int heads) {
    const uint32_t in_head = file_row % FIXTURE_HEAD_DIM;
    return heads == 0 ? file_row
                      : file_row - in_head + in_head / 2 + in_head % 2 * (FIXTURE_HEAD_DIM / 2);
}

static void put_data(fixture_bytes *file, int i, uint32_t type_id) {
    const fixture_tensor *t = &FIXTURE_TENSOR[i];
    static const char *const PLAIN[] = {"F32", "F16"};
    for (uint32_t row = 0; row < (t->rows == 0 ? 1 : t->rows); row++) {
        const uint32_t first = hf_row(row, t->permuted_heads) * t->cols;
        for (uint32_t c = 0; c < t->cols; c++) {
            if (type_id == 0 || type_id == 1 || type_id == 30) {
                put_plain(file, type_id == 30 ? "BF16" : PLAIN[type_id],
                          fixture_value(i, first + c));
            } else if (c % 32 == 0) {
                put_block(file, type_id, i, first + c);
            }
        }
    }
    while (file->count % 32 != 0) {
        fixture_put(file, "", 1);
    }
}

static void put_key_u32(fixture_bytes *file, const char *key, uint32_t value) {
    fixture_put_string(file, key);
    fixture_put_u32(file, 4);
    fixture_put_u32(file, value);
}

static void put_key_f32(fixture_bytes *file, const char *key, float value) {
    uint8_t bytes[4];
    fixture_put_string(file, key);
    fixture_put_u32(file, 6);
    seam_put_f32(bytes, value);
    fixture_put(file, bytes, 4);
}

static void put_keys(fixture_bytes *file) {
    fixture_put_string(file, "general.architecture");
    fixture_put_u32(file, 8);
    fixture_put_string(file, "llama");
    put_key_u32(file, "llama.block_count", 1);
    put_key_u32(file, "llama.context_length", 64);
    put_key_u32(file, "llama.embedding_length", FIXTURE_HIDDEN);
    put_key_u32(file, "llama.feed_forward_length", FIXTURE_FFN);
    put_key_u32(file, "llama.attention.head_count", FIXTURE_HEADS);
    put_key_u32(file, "llama.attention.head_count_kv", FIXTURE_KV_HEADS);
    put_key_f32(file, "llama.attention.layer_norm_rms_epsilon", 1e-5F);
    put_key_u32(file, "tokenizer.ggml.bos_token_id", 1);
    put_key_u32(file, "tokenizer.ggml.eos_token_id", 2);
    fixture_put_string(file, "a.list.of.strings"); /* skipped, but walked */
    fixture_put_u32(file, 9);
    fixture_put_u32(file, 8);
    fixture_put_u64(file, 2);
    fixture_put_string(file, "x");
    fixture_put_string(file, "");
}

void fixture_gguf(fixture_bytes *ret_file, uint32_t type_id, size_t *ret_header_bytes) {
    uint64_t offset = 0;
    ret_file->count = 0;
    fixture_put(ret_file, "GGUF", 4);
    fixture_put_u32(ret_file, 3);
    fixture_put_u64(ret_file, FIXTURE_TENSORS);
    fixture_put_u64(ret_file, 11);
    put_keys(ret_file);
    for (int i = 0; i < FIXTURE_TENSORS; i++) {
        const fixture_tensor *t = &FIXTURE_TENSOR[i];
        const uint32_t type = t->rows == 0 ? 0 : type_id;
        static fixture_bytes scratch; /* only to learn the data's bytes */
        fixture_put_string(ret_file, t->gguf);
        fixture_put_u32(ret_file, t->rows == 0 ? 1 : 2);
        fixture_put_u64(ret_file, t->cols);
        if (t->rows != 0) {
            fixture_put_u64(ret_file, t->rows);
        }
        fixture_put_u32(ret_file, type);
        fixture_put_u64(ret_file, offset);
        scratch.count = 0;
        put_data(&scratch, i, type);
        offset += scratch.count;
    }
    while (ret_file->count % 32 != 0) {
        fixture_put(ret_file, "", 1);
    }
    *ret_header_bytes = ret_file->count;
    for (int i = 0; i < FIXTURE_TENSORS; i++) {
        put_data(ret_file, i, FIXTURE_TENSOR[i].rows == 0 ? 0 : type_id);
    }
}
