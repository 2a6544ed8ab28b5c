/* A model with a LoRA adapter merged into it, or with its trained layers in place of its own
 * (layers_files.h), as files that transformers and vLLM load.
 *
 *   W' = W + scale B A, or the trained one      in f32, rounded once to W's own type (F32, F16,
 * BF16)
 *
 * The base is a Hugging Face folder (config.json, safetensors, whole or sharded); every other
 * tensor's bytes, shapes and types are taken over as they are, and so are the config and the
 * tokenizer's files. */
#ifndef SEAM_MERGE_H
#define SEAM_MERGE_H

#include <stddef.h>
#include <stdint.h>

#include "seam_status.h"

#define SEAM_MERGE_SHARD_BYTES (UINT64_C(4) << 30)

typedef struct seam_merge_args {
    const char *base, *adapter; /* folders */
    const char *out;            /* a folder that is there and holds no .safetensors */
    uint64_t shard_bytes;       /* of tensors, at most, in a file of several; one tensor may exceed
                                   it; 0: SEAM_MERGE_SHARD_BYTES */
} seam_merge_args;

typedef struct seam_merge_report {
    uint32_t tensors, merged, files;
    uint64_t bytes; /* of the tensors */
} seam_merge_report;

/* Nothing of the new model has its name before every file was read back from disk and was found
 * to have what was written; what stood in `out` is left alone on failure.  The adapter must fit: a
 * tensor without its matrix, a missing half, another rank or shape is SEAM_E_FORMAT with its name.
 * SEAM_E_UNIMPLEMENTED (a GGUF base; an adapter or a type that cannot be merged), SEAM_E_NONFINITE
 * (a merged value), SEAM_E_ARG (out), SEAM_E_IO, SEAM_E_MEMORY, and what weights.h and peft.h say.
 */
seam_status seam_merge(seam_merge_report *ret_report, const seam_merge_args *args, seam_error *err);

#endif
