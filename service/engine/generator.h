/* The Forward and Generate streams' share of the engine: rows in, through the blocks, rows out.
 *
 * Forward runs whole sequences and keeps nothing; Generate keeps keys and values of `slot_count`
 * sequences, so that each request brings only their new rows.  Memory of its own, planned and taken
 * when the stream opens; the session's adapter and sites are shared with its trainer, so only one
 * job of a session runs at a time.  WIRE.md section 5. */
#ifndef SEAM_GENERATOR_H
#define SEAM_GENERATOR_H

#include "engine.h"
#include "session_config.h"
#include "step_layout.h"
#include "trainer.h"

#define SEAM_SLOTS_MAX          256
#define SEAM_QUANTIZED_ROWS_MIN 64 /* smaller requests and answers travel as bf16 or f32 */

typedef struct seam_generator_options {
    bool cached;         /* Generate */
    bool base_model;     /* without the adapter */
    uint32_t slot_count; /* cached only */
    uint32_t positions_max, rows_max;
} seam_generator_options;

/* One request, filled by the loop between two jobs. */
typedef struct seam_generator_request {
    seam_request_layout layout;
    uint64_t number;
    uint32_t *rows_out;      /* (rows_max), layout.rows_out_count used */
    seam_frame_header first; /* of the request's tensor */
    seam_codec_id codec_out;
} seam_generator_request;

typedef struct seam_generator seam_generator;

/* SEAM_E_ARG, SEAM_E_LIMIT; err names the field of GenerateOpen. */
seam_status seam_generator_options_check(const seam_generator_options *options,
                                         const seam_session_config *config, uint32_t rows_max,
                                         seam_error *err);
/* Adds what a stream of these options takes.  SEAM_E_LIMIT: not addressable. */
seam_status seam_generator_plan(seam_memory_plan *plan, const seam_session_config *config,
                                const seam_generator_options *options);
/* trainer and its config are borrowed and must outlive the generator. */
seam_status seam_generator_create(seam_generator **ret_generator, const seam_session_config *config,
                                  seam_trainer *trainer, const seam_generator_options *options,
                                  seam_error *err) SEAM_ON_GPU;
void seam_generator_destroy(seam_generator *gift_generator);

seam_staging *seam_generator_staging(seam_generator *generator);
seam_generator_request *seam_generator_request_of(seam_generator *generator);
seam_reply *seam_generator_reply(seam_generator *generator);
/* Are the sequences' first positions where their slots end (or before)?  SEAM_E_ARG. */
seam_status seam_generator_slots_check(const seam_generator *generator,
                                       const seam_request_layout *layout, seam_error *err);

/* The request's tensor is staged: compute and encode the answer. */
seam_status seam_generator_run(seam_generator *generator, seam_stream *stream,
                               seam_error *err) SEAM_ON_GPU;

#endif
