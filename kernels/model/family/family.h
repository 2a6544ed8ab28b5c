/* What a family of models states: one `seam_family` each, in family_<name>.c.
 *
 * The decoder block is one for all (blocks_forward.c): pre-norm, RoPE, grouped queries, SwiGLU.  A
 * family says how its files name and stack the tensors of it, whether q, k and v have biases, and
 * which fields of its config mean what.  A new family is one file here and a line in family.c. */
#ifndef SEAM_FAMILY_H
#define SEAM_FAMILY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model_config.h"

/* Sizes of tensors: C, F, V, H*D, G*D, q|k|v's rows, gate|up's rows. */
typedef enum seam_tensor_dim {
    SEAM_DIM_ONE,
    SEAM_DIM_HIDDEN,
    SEAM_DIM_INTERMEDIATE,
    SEAM_DIM_VOCAB,
    SEAM_DIM_Q,
    SEAM_DIM_KV,
    SEAM_DIM_QKV,
    SEAM_DIM_GATE_UP,
} seam_tensor_dim;

typedef struct seam_family_tensor {
    const char *hf, *gguf; /* of a layer: after "model.layers.<n>." and "blk.<n>." */
    seam_tensor_dim rows, cols;
    bool gguf_permuted; /* rows of a head are interleaved there */
} seam_family_tensor;

/* Forms of RoPE in config.json, a bit each. */
enum {
    SEAM_ROPE_LINEAR = 1u << 0,
    SEAM_ROPE_LLAMA3 = 1u << 1,
    SEAM_ROPE_LONGROPE = 1u << 2,
};

struct seam_config_reader; /* config_reader.h */
struct seam_gguf;          /* gguf.h */

typedef struct seam_family {
    const char *name;       /* model_type in config.json, general.architecture in GGUF */
    const char *class_name; /* in config.json's architectures */
    const seam_family_tensor *layer;
    uint32_t layer_count;
    /* Modules whose rows make up q|k|v and gate|up: one where the files have them fused. */
    const char *qkv[3], *gate_up[2];
    bool qkv_bias;
    uint32_t lora_targets; /* SEAM_LORA_... of lora_targets.h: modules of these files */
    uint32_t rope_forms;
    /* Of fields that config.json leaves out, as transformers' config class has them. */
    float rms_eps;
    uint32_t context_max, original_context; /* 0: no such field beside rope's own */
    /* Fields of this family only; sizes and RoPE are read before. */
    seam_status (*read_config)(seam_model_config *config, const struct seam_config_reader *r);
    seam_status (*read_gguf)(seam_model_config *config, const struct seam_gguf *gguf,
                             seam_error *err);
} seam_family;

extern const seam_family seam_family_llama, seam_family_qwen2, seam_family_phi3;

/* NULL: no such family. */
const seam_family *seam_family_find(const char *name);
const seam_family *seam_family_of_class(const char *class_name);
/* "LlamaForCausalLM, ...": for texts. */
#define SEAM_FAMILY_TEXT_BYTES 128
void seam_family_classes(char ret[SEAM_FAMILY_TEXT_BYTES]);

/* Tensors outside the layers, the same in all families. */
extern const seam_family_tensor seam_family_globals[];
extern const size_t seam_family_global_count;
enum { SEAM_GLOBAL_EMBEDDING = 0, SEAM_GLOBAL_NORM = 1, SEAM_GLOBAL_HEAD = 2 };
uint64_t seam_family_dim(const seam_model_config *config, seam_tensor_dim dim);

#endif
