/* --preset: the settings of the paper's tasks.  Part of train_options.c. */
#include <string.h>

#include "train_options.h"

/* arXiv 2510.05468, tables 6 (generation; one beta for both models) and 7. */
typedef struct task_preset {
    const char *name;
    const char *model; /* NULL: either */
    float beta_4, beta_3, lr;
    uint32_t steps, tokens_max, rank;
} task_preset;

#define LLAMA "llama3-8b"
#define QWEN  "qwen2.5-7b"
static const task_preset presets[] = {
    {"gsm8k", NULL, 0.02f, 0.02f, 1e-4f, 5000, 1024, 64},
    {"math", NULL, 0.02f, 0.02f, 1e-4f, 5000, 1024, 64},
    {"codealpaca", NULL, 0.03f, 0.03f, 1e-4f, 5000, 1536, 64},
    {"boolq", LLAMA, 0.2f, 0.2f, 5e-5f, 3000, 1024, 16},
    {"arc_challenge", LLAMA, 0.02f, 0.02f, 5e-5f, 3000, 1024, 16},
    {"winogrande", LLAMA, 0.02f, 0.02f, 5e-5f, 3000, 1024, 16},
    {"commonsense_qa", LLAMA, 0.1f, 0.2f, 5e-5f, 3000, 1024, 16},
    {"boolq", QWEN, 0.2f, 0.05f, 5e-5f, 3000, 1024, 16},
    {"arc_challenge", QWEN, 0.2f, 0.02f, 5e-5f, 3000, 1024, 16},
    {"winogrande", QWEN, 0.2f, 0.05f, 5e-5f, 3000, 1024, 16},
    {"commonsense_qa", QWEN, 0.2f, 0.05f, 5e-5f, 3000, 1024, 16},
};
/* Hidden sizes, at which a preset's beta holds. */
#define LLAMA_CHANNELS 4096.0f
#define QWEN_CHANNELS  3584.0f
#define PRESET_BATCH   16u

seam_status seam_train_preset_apply(seam_train_options *options, seam_error *err) {
    seam_train_options *const o = options;
    o->beta_paper = 0.02f;
    o->channels_paper = LLAMA_CHANNELS;
    if (o->preset == NULL) {
        return SEAM_OK;
    }
    const size_t task = strcspn(o->preset, "@");
    const char *const model = o->preset[task] != '\0' ? o->preset + task + 1 : LLAMA;
    const bool qwen = strcmp(model, QWEN) == 0;
    if (!qwen && strcmp(model, LLAMA) != 0) {
        return seam_error_set(err, SEAM_E_ARG,
                              "--preset: '%s': the models of the paper's settings are " LLAMA
                              " and " QWEN,
                              o->preset);
    }
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        const task_preset *const p = &presets[i];
        if (strlen(p->name) == task && strncmp(p->name, o->preset, task) == 0 &&
            (p->model == NULL || strcmp(p->model, model) == 0)) {
            o->beta_paper = o->target == 3.0f ? p->beta_3 : p->beta_4;
            o->channels_paper = qwen ? QWEN_CHANNELS : LLAMA_CHANNELS;
            o->lr = o->lr != 0.0f ? o->lr : p->lr;
            o->steps = o->steps != 0 ? o->steps : p->steps;
            o->tokens_max = o->tokens_max != 0 ? o->tokens_max : p->tokens_max;
            o->rank = o->rank != 0 ? o->rank : p->rank;
            o->batch = o->batch != 0 ? o->batch : PRESET_BATCH;
            return SEAM_OK;
        }
    }
    return seam_error_set(err, SEAM_E_ARG, "--preset: '%s' is no task of the paper", o->preset);
}
