/* Which files make up a model, found and mapped; internal to weights.c. */
#ifndef SEAM_WEIGHTS_FILES_H
#define SEAM_WEIGHTS_FILES_H

#include "file_map.h"
#include "gguf.h"
#include "model_config.h"
#include "tensor_index.h"

#define SEAM_SHARDS_MAX 1024

typedef struct seam_weights_files {
    seam_file_map *maps;
    size_t map_count;
    seam_gguf *gguf; /* of a GGUF model, else NULL */
    seam_model_config config;
    seam_tensor_index index; /* finished */
} seam_weights_files;

/* On error *files holds what was opened so far: deinit it. */
seam_status seam_weights_files_init(seam_weights_files *files, const char *path, seam_error *err);
void seam_weights_files_deinit(seam_weights_files *files);

#endif
