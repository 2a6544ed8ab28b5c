/* The codec part of a session's config, judged once by the same code at both ends.
 *
 * Client and server each fill a seam_codec_plan from the CodecConfig message (types.proto; this
 * folder knows no protobuf) and have it checked here, so that what one end refuses the other
 * refuses alike and a codec of a later release is switched on in one place.  The gates' own
 * numbers are gates.h's. */
#ifndef SEAM_CODEC_PLAN_H
#define SEAM_CODEC_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "codec.h"
#include "seam_status.h"

#define SEAM_POSITIONS_MAX 1024u /* gates of granularity token */

/* Numbers of types.proto. */
typedef enum seam_topology {
    SEAM_TOPOLOGY_U_SHAPED = 1,
    SEAM_TOPOLOGY_VANILLA = 2,          /* the server has head and loss: sites 0 and 3 alone */
    SEAM_TOPOLOGY_ADAPTER_EXCHANGE = 3, /* it has everything: module sites alone */
} seam_topology;
typedef enum seam_entropy { SEAM_ENTROPY_NONE = 1, SEAM_ENTROPY_RANS = 2 } seam_entropy;
typedef enum seam_allocator {
    SEAM_ALLOCATOR_GATES = 1,
    SEAM_ALLOCATOR_WATERFILL = 2
} seam_allocator;
typedef enum seam_granularity {
    SEAM_GRANULARITY_FEATURE = 1,
    SEAM_GRANULARITY_TOKEN = 2
} seam_granularity;
typedef enum seam_cache_format { SEAM_CACHE_FP16 = 1, SEAM_CACHE_QUANTIZED = 2 } seam_cache_format;

typedef struct seam_codec_plan {
    uint32_t topology; /* seam_topology; 0 counts as U-shaped */
    bool resend_parameters;
    /* Of sites 0 and 3; of sites 1 and 2.  As the config names them: seam_codec_plan_codec. */
    seam_codec_id codec_in, codec_out;
    uint32_t bits;            /* codecs with widths but no gates */
    uint32_t group;           /* group; 0: the default */
    uint32_t entropy;         /* seam_entropy; 0 counts as none */
    bool send_input_gradient; /* bwd_in travels also where no gate needs it */
    bool front;               /* site 0 has the output of blocks, not rows of an embedding */
    bool front_trained;       /* the client trains before the cut: it needs bwd_in */
    uint32_t tail_layers;     /* of the client */
    /* What the server's own gates fall to, between its blocks and of a prefix; 0: it has none. */
    float all_layer_bits, prefix_bits;
    /* dictionary */
    uint32_t dictionary_rows_max;
    /* aqsgd */
    uint64_t cache_bytes_max;
    uint32_t cache_format; /* seam_cache_format */
    uint32_t cache_bits;   /* quantized */
    /* amaq */
    uint32_t allocator;       /* seam_allocator; 0 counts as gates */
    uint32_t granularity;     /* seam_granularity; 0 counts as feature */
    uint64_t steps_to_target; /* 0: none */
    bool gate_signal_exact;
} seam_codec_plan;

/* channels 0: not known yet, the group is not judged.  SEAM_E_ARG, SEAM_E_UNIMPLEMENTED: *err
 * begins with the field's name in SessionConfig ("config.codec.bits: ..."). */
seam_status seam_codec_plan_check(const seam_codec_plan *plan, uint32_t channels, seam_error *err);

/* May the session's micro-batches be so many at once on their way?  SEAM_E_ARG: not where each
 * gradient is waited for. */
seam_status seam_codec_plan_check_depth(const seam_codec_plan *plan, uint32_t pipeline_depth,
                                        seam_error *err);

/* The codec of the frames of sites 0 and 3 (outer) or 1 and 2: amaq with granularity token is
 * amaq_token; of ADAPTER_EXCHANGE, where they serve requests only, f32 or bf16. */
seam_codec_id seam_codec_plan_codec(const seam_codec_plan *plan, bool outer);

/* Widths of an allocation: one a channel; with granularity token one a position in the sample, the
 * last one for all later rows too. */
uint32_t seam_codec_plan_width_count(const seam_codec_plan *plan, uint32_t channels,
                                     uint32_t rows_max);

/* Which boundaries the topology has: sites 0 and 3 (in); sites 1 and 2 (out). */
bool seam_codec_plan_has_in(const seam_codec_plan *plan);
bool seam_codec_plan_has_out(const seam_codec_plan *plan);
/* Do the sites exist, with gates? */
bool seam_codec_plan_has_gates_in(const seam_codec_plan *plan);
bool seam_codec_plan_has_gates_out(const seam_codec_plan *plan);
/* Have the module sites? */
bool seam_codec_plan_has_gates_modules(const seam_codec_plan *plan);
/* Has any of them? */
bool seam_codec_plan_has_gates(const seam_codec_plan *plan);
/* Are rows of site 0 kept for their exact gate signal? */
bool seam_codec_plan_is_exact_in(const seam_codec_plan *plan);
/* A micro-batch is one message and its answer: the server has the loss. */
bool seam_codec_plan_is_one_pass(const seam_codec_plan *plan);
/* The codec of the frames of a module site. */
seam_codec_id seam_codec_plan_module_codec(const seam_codec_plan *plan, bool gradient);

/* What answers a backward tensor: the tensor of site 3, then the gate signal of site 0; either may
 * be missing.  WIRE.md 4. */
bool seam_codec_plan_has_input_gradient(const seam_codec_plan *plan);
bool seam_codec_plan_has_signal(const seam_codec_plan *plan);

/* May rows of site 0 that are equal travel once?  Not where they go by samples, nor with
 * dictionary, which does better, nor behind blocks, which make them differ.  WIRE.md 4. */
bool seam_codec_plan_takes_row_sources(const seam_codec_plan *plan);

/* Largest `coding` of a frame that the session may send: WIRE.md 2. */
uint8_t seam_codec_plan_coding_max(const seam_codec_plan *plan);

/* Channels a group of codec group: `group`, or for 0 the largest divisor of C up to 128.
 * 0: `group` does not divide C. */
uint32_t seam_codec_group(uint32_t group, uint32_t channels);

#endif
