/* From the models' config.json files. */
#include "plan_shapes.h"

#include <string.h>

#define SHAPE(name_, family_, vocab_, hidden_, intermediate_, layers_, heads_, kv_heads_,          \
              head_dim_, context_, theta_)                                                         \
    {                                                                                              \
        .name = name_, .architecture = family_, .vocab_count = (vocab_), .hidden = (hidden_),      \
        .intermediate = (intermediate_), .layers = (layers_), .heads = (heads_),                   \
        .kv_heads = (kv_heads_), .head_dim = (head_dim_), .context_max = (context_),               \
        .rms_eps = 1e-5f, .rope_theta = (theta_), .bos_id = -1, .eos_id = -1                       \
    }

static const seam_model_config shapes[] = {
    SHAPE("llama3-8b", "llama", 128256, 4096, 14336, 32, 32, 8, 128, 8192, 500000.0),
    SHAPE("qwen2.5-7b", "qwen2", 152064, 3584, 18944, 28, 28, 4, 128, 32768, 1000000.0),
    SHAPE("qwen2.5-14b", "qwen2", 152064, 5120, 13824, 48, 40, 8, 128, 32768, 1000000.0),
    SHAPE("phi3-mini", "phi3", 32064, 3072, 8192, 32, 32, 32, 96, 4096, 10000.0),
    SHAPE("phi3-medium", "phi3", 32064, 5120, 17920, 40, 40, 10, 128, 4096, 10000.0),
    SHAPE("smollm2-135m", "llama", 49152, 576, 1536, 30, 9, 3, 64, 8192, 100000.0),
};

const seam_model_config *seam_plan_shape_find(const char *name) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (strcmp(shapes[i].name, name) == 0) {
            return &shapes[i];
        }
    }
    return NULL;
}
