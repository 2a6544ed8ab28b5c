/* The configuration of a session, judged once: what CreateSession accepts and everything after it
 * trusts.  Every refusal names the field, as in "config.lora.rank: 0 is not in 1..256".  What later
 * releases bring is refused with SEAM_E_UNIMPLEMENTED by name, never ignored. */
#ifndef SEAM_SESSION_CONFIG_H
#define SEAM_SESSION_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "blocks.h"
#include "coder.h"
#include "gates.h"
#include "memory_plan.h"
#include "registry.h"
#include "seam/v1/types.pb-c.h"
#include "step_layout.h"
#include "trace.h"

/* Sites of boundaries, which every session has (module sites: WIRE.md 1.1): WIRE.md 1. */
enum {
    SEAM_SITE_FWD_IN = 0,
    SEAM_SITE_FWD_OUT = 1,
    SEAM_SITE_BWD_OUT = 2,
    SEAM_SITE_BWD_IN = 3,
    SEAM_SITE_COUNT = 4,
    /* All-layer mode: the output of block l of the model has site 16 + l.  WIRE.md 4.2. */
    SEAM_SITE_LAYER_FIRST = 16,
};

/* Lanes of the server's timeline (trace.h): a tensor comes, waits for the device, is worked on, and
 * its answer goes. */
enum { SEAM_LANE_RECEIVE, SEAM_LANE_QUEUE, SEAM_LANE_ENGINE, SEAM_LANE_SEND, SEAM_LANE_COUNT };

typedef struct seam_session_config {
    const seam_model *model;
    seam_adapter_config adapter;
    uint32_t front_layers, tail_layers; /* on the client */
    bool server_trains, client_trains;  /* the adapter's part here; a part of it there */
    seam_optimizer_config optimizer;
    seam_codec_plan codec;   /* of both pairs of sites */
    seam_gates_config gates; /* amaq */
    float beta, bits_lr;     /* amaq, until a Budget says otherwise */
    uint32_t alloc_lag_steps;
    float all_layer_bits; /* target of the gates between the blocks; 0: there are none */
    uint32_t all_layer_steps;
    seam_gates_config layer_gates;
    float prefix_bits; /* target of the gates of a prefix; 0: it is used as it is */
    uint32_t prefix_steps;
    seam_gates_config prefix_gates;
    bool labelled_rows_only;
    uint64_t seed;
    seam_layout_limits limits;
    uint32_t pipeline_depth; /* WIRE.md section 4; 0 counts as 1 */
    /* Micro-batches that the client still needs activations for; 0: pipeline_depth.  No part of the
     * hash: a StepBegin may lower it. */
    uint32_t slots_kept;
    bool recompute;        /* of layers in backward, instead of keeping their activations */
    bool fp8;              /* frozen products in FP8 */
    const char *cache_dir; /* where a codec's cache stands; NULL: in memory */
    uint64_t hash;         /* WIRE.md section 6 */
    seam_trace *trace;     /* the server's timeline, or NULL; outlives every session */
} seam_session_config;

typedef struct seam_session_limits {
    uint32_t rows_max;        /* of a micro-batch: --rows-max */
    uint64_t cache_bytes_max; /* of a codec's cache or table: --cache-bytes-max */
    const char *cache_dir;    /* --cache-dir, or NULL; outlives every session */
    bool allow_labels;        /* --allow-labels: topologies that show them */
    bool allow_text;          /* --allow-text */
} seam_session_limits;

/* SEAM_E_ARG, SEAM_E_NOT_FOUND (model), SEAM_E_UNIMPLEMENTED, SEAM_E_LIMIT, SEAM_E_DENIED. */
seam_status seam_session_config_read(seam_session_config *ret_config,
                                     const Seam__V1__SessionConfig *message,
                                     const seam_registry *registry,
                                     const seam_session_limits *limits, seam_error *err);

/* An optimizer by itself; field: its name in errors.  SEAM_E_ARG. */
seam_status seam_optimizer_config_read(seam_optimizer_config *ret_config,
                                       const Seam__V1__OptimizerConfig *message, const char *field,
                                       seam_error *err);
void seam_optimizer_config_write(Seam__V1__OptimizerConfig *ret_message,
                                 const seam_optimizer_config *config);

/* Of a session of an earlier process, which may have been started otherwise.  SEAM_E_DENIED: its
 * topology shows what this server does not take. */
seam_status seam_session_config_check_allowed(const seam_session_config *config,
                                              const seam_session_limits *limits, seam_error *err);

/* The codec of a site: sites 0 and 3 have the one, sites 1 and 2 the other. */
seam_codec_id seam_session_config_codec(const seam_session_config *config, uint16_t site);
/* Widths of an allocation of either forward site. */
uint32_t seam_session_config_width_count(const seam_session_config *config);
/* Bytes of the cache that the coder of a site keeps beside its own memory; 0: none. */
uint64_t seam_session_config_cache_bytes(const seam_session_config *config, uint16_t site);
/* What the coder of a site at this end is made of, but for its storage; points into config. */
seam_coder_config seam_session_config_coder(const seam_session_config *config, uint16_t site);
/* Positions that a text may have: the model's, less those of a prefix. */
uint32_t seam_session_config_context(const seam_session_config *config);
/* The session's blocks, for plans; and a view of them.  SEAM_E_MEMORY. */
seam_memory_blocks seam_session_config_blocks(const seam_session_config *config);
seam_status seam_session_config_view(seam_blocks **ret_view, const seam_session_config *config);
/* Boundaries with gates between the server's blocks. */
uint32_t seam_session_config_layer_sites(const seam_session_config *config);
/* Do passes of training read the prefix quantized? */
bool seam_session_config_has_prefix_gates(const seam_session_config *config);
/* Is site 1's tensor kept beside what its codec makes of it, for the exact gate gradient? */
bool seam_session_config_keeps_out(const seam_session_config *config);
/* A micro-batch is one message and its answer: head and loss are here. */
bool seam_session_config_is_one_pass(const seam_session_config *config);
/* Does the session answer a backward tensor (gate signal or bwd_in)?  WIRE.md section 4. */
bool seam_session_config_backward_reply(const seam_session_config *config);

#endif
