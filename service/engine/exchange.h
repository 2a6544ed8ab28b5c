/* The server's side of ADAPTER_EXCHANGE (WIRE.md 4.1): parameters and token ids in, gradients out.
 *
 * The first message of a step that brings parameters has their tensors in front of its tokens; the
 * answer to the last micro-batch has the gradients' tensors in front of its loss.  Without
 * resend_parameters the server steps the same optimizer on the gradients as they were sent, so that
 * its adapter stays the client's.  That copy and the modules' allocations are in a checkpoint
 * (trainer_state.h); the client goes back to its own record of the step.
 * Read next: kernels/codec/module_link.c, kernels/model/adapter_modules.c. */
#ifndef SEAM_EXCHANGE_H
#define SEAM_EXCHANGE_H

#include "adapter_modules.h"
#include "module_link.h"
#include "session_config.h"
#include "tensor_rx.h"
#include "trainer.h"

typedef struct trainer_exchange {
    bool is_on;
    uint8_t coding_max;
    seam_module_link link;
    seam_adapter_modules modules;
    uint32_t *tokens; /* (T) */
    bool skipped;     /* the step's gradient was not finite */
} trainer_exchange;

/* SEAM_E_ARG: *err names the field of the config. */
seam_status seam_exchange_check(const seam_session_config *config, seam_error *err);
/* Rows of the site table beside the boundaries': pairs, parameters before their gradients. */
uint32_t seam_exchange_pairs(seam_module_pair ret_pairs[SEAM_MODULE_LINK_SITES_MAX],
                             const seam_session_config *config);

/* Bytes and frames of a message and of an answer, beside what one pass has. */
size_t seam_exchange_message_bytes(const seam_session_config *config);
size_t seam_exchange_answer_bytes(const seam_session_config *config);
uint32_t seam_exchange_frame_count(const seam_session_config *config);
void seam_exchange_plan(seam_memory_plan *plan, const seam_session_config *config);
seam_status seam_exchange_create(trainer_exchange *exchange, const seam_session_config *config,
                                 seam_adapter *adapter, seam_error *err);
void seam_exchange_destroy(trainer_exchange *exchange);

/* Tensors in front of the tokens of this message. */
uint32_t seam_exchange_parts(const trainer_exchange *exchange, const seam_session_config *config,
                             uint64_t step, uint32_t micro);
/* What part `part` of the message is, its last one being the tokens; token_rows: of these. */
seam_tensor_expect seam_exchange_expect(const trainer_exchange *exchange, uint32_t part,
                                        uint32_t part_count, const seam_step_key *key,
                                        uint32_t token_rows);
/* The allocation of a forward site of modules; NULL: there is no such site. */
seam_site *seam_exchange_site(const trainer_exchange *exchange, uint32_t site);
/* The frame names the allocation of its site.  SEAM_E_ARG, SEAM_E_STATE. */
seam_status seam_exchange_alloc_check(const trainer_exchange *exchange, uint32_t part,
                                      const seam_frame_header *header, seam_error *err);

#endif
