/* The list of families, and what they share; see family.h. */
#include "family.h"

#include <stdio.h>
#include <string.h>

static const seam_family *const families[] = {&seam_family_llama, &seam_family_qwen2,
                                              &seam_family_phi3};
#define FAMILY_COUNT (sizeof families / sizeof families[0])

const seam_family_tensor seam_family_globals[] = {
    {"model.embed_tokens.weight", "token_embd.weight", SEAM_DIM_VOCAB, SEAM_DIM_HIDDEN, false},
    {"model.norm.weight", "output_norm.weight", SEAM_DIM_ONE, SEAM_DIM_HIDDEN, false},
    {"lm_head.weight", "output.weight", SEAM_DIM_VOCAB, SEAM_DIM_HIDDEN, false},
};
const size_t seam_family_global_count = sizeof seam_family_globals / sizeof seam_family_globals[0];

const seam_family *seam_family_find(const char *name) {
    for (size_t i = 0; i < FAMILY_COUNT; i++) {
        if (strcmp(families[i]->name, name) == 0) {
            return families[i];
        }
    }
    return NULL;
}

const seam_family *seam_family_of_class(const char *class_name) {
    for (size_t i = 0; i < FAMILY_COUNT; i++) {
        if (strcmp(families[i]->class_name, class_name) == 0) {
            return families[i];
        }
    }
    return NULL;
}

void seam_family_classes(char ret[SEAM_FAMILY_TEXT_BYTES]) {
    ret[0] = '\0';
    for (size_t i = 0; i < FAMILY_COUNT; i++) {
        const size_t used = strlen(ret);
        (void)snprintf(ret + used, SEAM_FAMILY_TEXT_BYTES - used, "%s%s", i == 0 ? "" : ", ",
                       families[i]->class_name);
    }
}

uint64_t seam_family_dim(const seam_model_config *config, seam_tensor_dim dim) {
    const uint64_t head_dim = config->head_dim;
    switch (dim) {
    case SEAM_DIM_HIDDEN:
        return config->hidden;
    case SEAM_DIM_INTERMEDIATE:
        return config->intermediate;
    case SEAM_DIM_VOCAB:
        return config->vocab_count;
    case SEAM_DIM_Q:
        return config->heads * head_dim;
    case SEAM_DIM_KV:
        return config->kv_heads * head_dim;
    case SEAM_DIM_QKV:
        return (config->heads + 2 * (uint64_t)config->kv_heads) * head_dim;
    case SEAM_DIM_GATE_UP:
        return 2 * (uint64_t)config->intermediate;
    case SEAM_DIM_ONE:
    default:
        return 1;
    }
}
