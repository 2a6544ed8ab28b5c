/* Shapes of published models by name, for `seam plan` without a model folder. */
#ifndef SEAM_PLAN_SHAPES_H
#define SEAM_PLAN_SHAPES_H

#include "model_config.h"

#define SEAM_PLAN_SHAPES "llama3-8b, qwen2.5-7b, qwen2.5-14b, phi3-mini, phi3-medium, smollm2-135m"
/* NULL: none of that name. */
const seam_model_config *seam_plan_shape_find(const char *name);

#endif
