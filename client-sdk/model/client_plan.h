/* Internal to model/ and the CLI: what a model's share on this machine takes, with the trainer of a
 * session, before there is either. */
#ifndef SEAM_CLIENT_PLAN_H
#define SEAM_CLIENT_PLAN_H

#include "blocks.h"
#include "module_link.h"
#include "ops.h"
#include "seam_model.h"

typedef struct seam_client_shape {
    const seam_model_config *model;
    const seam_ops *ops; /* of a backend that is there */
    bool bf16_table;     /* every value of the embedding is one of bf16 */
    uint32_t rows;       /* of the largest micro-batch */
} seam_client_shape;

typedef struct seam_client_memory {
    uint64_t embedding, head; /* head: norm, matrix, the logits of a chunk */
    uint64_t blocks;          /* frozen, front and tail */
    uint64_t adapter, moments, activations;
    uint64_t modules; /* topology adapter_exchange: parameters and gradients, as they travel */
    uint64_t rows;    /* embeddings, gradients and what lies between them */
    uint64_t session, caches, tensors; /* seam_session_memory: fixed, caches, of a step */
    uint64_t record_bytes;             /* of the journal on disk, each step, and kept once */
} seam_client_memory;

/* Of a session of topology adapter_exchange: the pairs of module sites that its table will have;
 * returns their count.  Rank and targets of LoRA are stated. */
uint32_t seam_client_modules(seam_module_pair ret_pairs[SEAM_MODULE_LINK_SITES_MAX],
                             const seam_model_config *model, const seam_session_options *options);
/* options: of the session (of an exchange as above), its rows, sequences and depth among them.
 * SEAM_E_ARG (blocks that the model has not, and what seam_session_memory_plan returns),
 * SEAM_E_LIMIT (not addressable). */
seam_status seam_client_plan(seam_client_memory *ret_memory, const seam_client_shape *shape,
                             const seam_session_options *options, seam_error *err);
uint64_t seam_client_memory_bytes(const seam_client_memory *memory); /* but for the disk's */

#endif
