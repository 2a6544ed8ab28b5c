/* The shape of a decoder, as its files state it.  Unknown architectures and fields that change
 * the math are refused by name, never ignored. */
#ifndef SEAM_MODEL_CONFIG_H
#define SEAM_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_LAYERS_MAX  256
#define SEAM_NAME_BYTES  128
#define SEAM_EOS_IDS_MAX 8

typedef struct seam_model_config {
    char name[SEAM_NAME_BYTES];         /* directory or file name, for people */
    char architecture[SEAM_NAME_BYTES]; /* "llama" */
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
    bool tied;              /* LM head = token embedding */
    int64_t bos_id, eos_id; /* -1: none stated; eos_id = eos_ids[0] */
    uint32_t eos_count;     /* every id that ends a generation */
    uint32_t eos_ids[SEAM_EOS_IDS_MAX];
} seam_model_config;

/* Every size in 1..its limit, H % G == 0, D even, ... SEAM_E_ARG with the field's name. */
seam_status seam_model_config_check(const seam_model_config *config, seam_error *err);
/* 64-bit identity that peers compare at attach: WIRE.md, "Model identity". */
uint64_t seam_model_config_identity(const seam_model_config *config);

#endif
