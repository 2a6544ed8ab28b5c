/* What an end of an adapter exchange needs for the modules' tensors: of each site a coder for its
 * parameters and one for its gradients, their allocations, scratch; and the order in which a
 * message has the tensors (WIRE.md 1.1, 4.1).  The same at both ends but for who encodes.
 *
 * No I/O; nothing allocates after create.  One thread at a time. */
#ifndef SEAM_MODULE_LINK_H
#define SEAM_MODULE_LINK_H

#include "codec_plan.h"
#include "module_stack.h"
#include "site.h"

#define SEAM_MODULE_LINK_SITES_MAX 2u

/* A pair of sites, as the site table says it. */
typedef struct seam_module_pair {
    uint16_t site, gradient_site;
    uint64_t rows; /* of all modules */
    uint32_t channels;
} seam_module_pair;

typedef struct seam_module_link {
    uint32_t pair_count;
    seam_module_pair pairs[SEAM_MODULE_LINK_SITES_MAX];
    seam_codec_id codecs[2]; /* here and below: [false] of parameters, [true] of gradients */
    seam_coder *coders[SEAM_MODULE_LINK_SITES_MAX][2];
    seam_site *sites[SEAM_MODULE_LINK_SITES_MAX]; /* of both: the encoder of parameters owns it */
    uint64_t seed;
    float *rows;      /* the largest tensor */
    uint8_t *payload; /* a frame's */
} seam_module_link;

typedef struct seam_module_link_options {
    const seam_module_pair *pairs;
    uint32_t pair_count;
    const seam_codec_plan *plan;    /* borrowed as long as the link lives */
    const seam_gates_config *gates; /* amaq; else not read */
    bool server;                    /* encodes gradients, decodes parameters */
    uint64_t seed;                  /* of stochastic rounding */
} seam_module_link_options;

/* SEAM_E_ARG: rows or channels of a pair, or what plan has for these channels; err names it. */
seam_status seam_module_link_check(const seam_module_link_options *options, seam_error *err);
/* What _create takes, and the largest payloads and count of frames of all parameters or gradients.
 */
size_t seam_module_link_memory_bytes(const seam_module_link_options *options);
size_t seam_module_link_payload_bytes(const seam_module_link_options *options, bool gradient);
uint32_t seam_module_link_frame_count(const seam_module_link_options *options);
/* Of options that were checked: a link that nothing goes through, for plans.  It has the tensors'
 * shapes (seam_module_link_tensor) and takes no memory. */
void seam_module_link_sketch(seam_module_link *ret_link, const seam_module_link_options *options);
/* The coder of a pair's parameters or gradients. */
seam_coder_config seam_module_link_coder_config(const seam_module_link_options *options,
                                                uint32_t pair_idx, bool gradient);
/* Of options that were checked.  SEAM_E_MEMORY. */
seam_status seam_module_link_create(seam_module_link *ret_link,
                                    const seam_module_link_options *options, seam_error *err);
void seam_module_link_destroy(seam_module_link *link); /* of zeros too */

/* The allocation of a pair's parameters or gradients at a step: all zero for a codec without
 * widths; NULL: a proposal that the step waits for has no answer, or the step is of the past. */
const seam_alloc *seam_module_link_alloc(const seam_module_link *link, uint32_t pair_idx,
                                         bool gradient, uint64_t step);

/* Tensors of a message of a step: pair after pair. */
uint32_t seam_module_link_tensor_count(const seam_module_link *link);
typedef struct seam_module_tensor {
    uint32_t pair_idx, tensor_idx; /* tensor_idx is `micro` of its frames */
    uint16_t site;
    uint32_t rows, channels;
    seam_codec_id codec;
    uint64_t step;
} seam_module_tensor;
seam_module_tensor seam_module_link_tensor(const seam_module_link *link, bool gradient,
                                           uint32_t idx, uint64_t step);
/* All tensors of a pair; as seam_module_stack_encode and _decode.  SEAM_E_STATE: the step has no
 * allocation. */
typedef struct seam_module_link_args {
    uint32_t pair_idx;
    bool gradient;
    uint64_t step;
    const seam_module_stack *ret_decoded;
    seam_module_take *take;
    void *user;
} seam_module_link_args;
seam_status seam_module_link_encode(seam_module_bytes *bytes, seam_module_link *link,
                                    const seam_module_stack *stack,
                                    const seam_module_link_args *args);
seam_status seam_module_link_decode(bool *ret_complete, seam_module_link *link,
                                    const seam_module_stack *stack,
                                    const seam_module_tensor *tensor, bool gradient,
                                    const seam_coder_chunk *chunk, const uint8_t *payload,
                                    seam_error *err);

#endif
