/* The shape of a decoder, as its files state it.  Unknown architectures and fields that change
 * the math are refused by name, never ignored.
 *
 * What families of models have in common is here; how they differ (names of tensors, fused
 * projections, biases, the forms of their RoPE) is in family/, one file a family. */
#ifndef SEAM_MODEL_CONFIG_H
#define SEAM_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_LAYERS_MAX     256
#define SEAM_NAME_BYTES     128
#define SEAM_EOS_IDS_MAX    8
#define SEAM_HEAD_DIM_MAX   512
#define SEAM_ROPE_PAIRS_MAX (SEAM_HEAD_DIM_MAX / 2)

/* What a model's RoPE has beyond its base: pair i of a head turns by
 * position * theta^(-2i/D) / factor[i], and cosines and sines are times attention_factor.  Linear
 * scaling and Llama-3's are factors too.  All zero: plain RoPE.
 *
 * LongRoPE (Ding et al. 2024, arXiv:2402.13753) has two sets: a sequence that reaches position
 * long_from turns at all its positions by long_factor, any other by factor.  transformers decides
 * so for a whole padded batch by its longest sequence; here each sequence decides for itself, since
 * a row's result must not depend on what else is in the batch: the same for a batch of one. */
typedef struct seam_rope_scaling {
    bool on;            /* false: nothing below counts */
    uint32_t long_from; /* 0: there is one set */
    double attention_factor;
    double factor[SEAM_ROPE_PAIRS_MAX], long_factor[SEAM_ROPE_PAIRS_MAX];
} seam_rope_scaling;

typedef struct seam_model_config {
    char name[SEAM_NAME_BYTES];         /* directory or file name, for people */
    char architecture[SEAM_NAME_BYTES]; /* of a family: "llama", "qwen2", "phi3" */
    uint32_t vocab_count;
    uint32_t hidden;       /* C */
    uint32_t intermediate; /* F */
    uint32_t layers;
    uint32_t heads;    /* H */
    uint32_t kv_heads; /* G */
    uint32_t head_dim; /* D */
    uint32_t context_max;
    float rms_eps;
    double rope_theta;
    seam_rope_scaling rope;
    uint32_t window;        /* sliding window of attention (ops.h); 0: none */
    uint32_t window_layers; /* of the last so many layers; with a window at least one */
    bool tied;              /* LM head = token embedding */
    int64_t bos_id, eos_id; /* -1: none stated; eos_id = eos_ids[0] */
    uint32_t eos_count;     /* every id that ends a generation */
    uint32_t eos_ids[SEAM_EOS_IDS_MAX];
} seam_model_config;

/* Every size in 1..its limit, H % G == 0, D even, ... SEAM_E_ARG with the field's name. */
seam_status seam_model_config_check(const seam_model_config *config, seam_error *err);
/* 64-bit identity that peers compare at attach: WIRE.md, "Model identity". */
uint64_t seam_model_config_identity(const seam_model_config *config);
/* The window of a layer (of the model); 0: none. */
uint32_t seam_model_config_window(const seam_model_config *config, uint32_t layer);
/* The positions that a prefix and the text after it have together: the context, but none from which
 * on a window would hide the prefix or LongRoPE turn by its second set, since passes with a prefix
 * have neither.  ret_field: the config field that says so. */
uint32_t seam_model_config_prefix_room(const char **ret_field, const seam_model_config *config);
/* The positions of a text after a prefix of so many tokens; 0 tokens: no prefix, the context. */
uint32_t seam_model_config_positions(const seam_model_config *config, uint32_t prefix_tokens);

#endif
