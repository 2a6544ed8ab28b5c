/* What merge.c plans and merge_write.c writes. */
#ifndef SEAM_MERGE_INTERNAL_H
#define SEAM_MERGE_INTERNAL_H

#include <jansson.h>

#include "blocks.h"
#include "merge.h"
#include "tensor_index.h"
#include "weights_files.h"

/* A tensor of the base, in the order of its files. */
typedef struct seam_merge_item {
    const seam_tensor_entry *base;
    const json_t *shape;            /* of the base's header */
    const seam_tensor_entry *a, *b; /* of a LoRA adapter, or NULL */
    const seam_tensor_entry *whole; /* of trained layers, or NULL; without all: bytes as they are */
    uint64_t bytes, hash;           /* hash: FNV-1a of what was written */
    uint32_t shard;
} seam_merge_item;

typedef struct seam_merge_job {
    const seam_merge_args *args;
    seam_weights_files base;
    json_t *headers[SEAM_SHARDS_MAX]; /* of the base's files */
    seam_file_map adapter_map;
    seam_tensor_index adapter;
    seam_lora_config lora;
    bool layers; /* the adapter is trained layers: layers_files.h */
    const char *weights_name;
    seam_merge_item *items;
    size_t item_count;
    uint32_t shard_count;
    uint64_t bytes;
} seam_merge_job;

/* Writes all shards beside their final names, reads them back, and then names them. */
seam_status seam_merge_write(seam_merge_job *job, seam_error *err);

#endif
